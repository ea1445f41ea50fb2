"""From moments to the cells of the hierarchical model: percent of baseline, sorted, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.layout import Layout, arrange
from vbceval.bayes.support import (
    require_comparison,
    require_known,
    require_treated,
    require_variation,
)
from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.moments import Moments
from vbceval.panel import Panel

PersonSd = float | Mapping[str, float]

_ROUNDING = 1e-10
"""Variance between persons, percent of baseline squared, that is rounding of equal outcomes."""


class Within(NamedTuple):
    """Variation between persons inside cells: degrees of freedom and sums of squares, (S,)."""

    dof: FloatArray
    squares: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Cells:
    """
    What the model reads, in the order of its layout; K cells, S strata, J effects.

    Parameters
    ----------
    y : array, shape (K,)
        Outcome in percent of its stratum's baseline mean.
    stratum, period, cluster, unit : array of int, shape (K,)
        Codes into `strata`, `periods`, `clusters`, and of units.
    effect_of_cell : array of int, shape (K,)
        Row of `effects`; -1 in untreated cells.
    x : array, shape (K, p)
        Baseline covariates of the cell's block, mean 0 and standard deviation 1.
    exposure : array, shape (K,)
        Person-years by which effects are averaged.
    effects : DataFrame, J rows
        ``cohort``, ``event_time`` and codes ``stratum_code``, ``cohort_code``, ``event_time_code``.
    baseline : array, shape (S,)
        Mean outcome of the treated before entry, in the unit of the outcome.
    units : Index
        Labels behind `unit`.
    within : Within, optional
        In percent of baseline squared; None where `person_sd` was stated.
    restated : bool
        Whether a cluster has a cell in more than one unit (as when files are restated).
    layout : Layout
        What the likelihood reads.
    dropped : mapping
        Cells left out, by reason; missing where they may tell of 1-10 people.
    """

    y: FloatArray
    stratum: IntArray
    period: IntArray
    cluster: IntArray
    unit: IntArray
    effect_of_cell: IntArray
    x: FloatArray
    exposure: FloatArray
    effects: pd.DataFrame
    baseline: FloatArray
    within: Within | None
    restated: bool
    layout: Layout
    strata: tuple[str | None, ...]
    periods: tuple[float, ...]
    clusters: pd.Index
    units: pd.Index
    covariates: tuple[str, ...] = ()
    dropped: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_strata(self) -> int:
        """Number of strata, S."""
        return len(self.strata)

    @property
    def after_entry(self) -> BoolArray:
        """Whether a cell is treated and not before entry (anticipation), shape (K,)."""
        late = np.append(self.effects["event_time"].to_numpy(dtype=float) >= 0, False)
        return np.asarray(late[self.effect_of_cell])

    @property
    def coords(self) -> dict[str, Any]:
        """Names of the model's dimensions."""
        names = ["all" if s is None else s for s in self.strata]
        cells = [
            f"{g:g}, {e:g}, {names[s]}"
            for g, e, s in self.effects[["cohort", "event_time", "stratum_code"]].itertuples(
                index=False
            )
        ]
        return {
            "stratum": names,
            "period": list(self.periods),
            "covariate": list(self.covariates),
            "cluster": [str(c) for c in self.clusters],
            "effect_cell": cells,
        }


def moments_of(data: Panel | Moments, design: Design) -> Moments:
    """Return the moments that hold the outcome of a design, with its covariates."""
    if isinstance(data, Moments):
        return data.of(design.outcome)
    return Moments.from_panel(data, outcomes=[design.outcome], covariates=list(design.covariates))


def from_moments(
    moments: Moments,
    design: Design,
    *,
    person_sd: PersonSd | None = None,
    baseline: Mapping[str, float] | float | None = None,
    rates: bool = False,
) -> Cells:
    """
    Choose, check and scale the cells of a design.

    Every untreated cell serves as comparison, those of the treated before entry included. Left out,
    and counted: cells without outcome or weight, after exit, treated outside `window`, and units
    without an untreated cell in a stratum.

    Parameters
    ----------
    moments : Moments
        Cells by unit, period and stratum. Persons behind a cell are its analysis weight, or, with
        `person_sd`, its exposure where rows are not weighted.
    design : Design
        Outcome, anticipation, window and covariates are read.
    person_sd : float or mapping of stratum to float, optional
        Standard deviation of one person-year around the cell mean, in the unit of the outcome. By
        default estimated from the variation within cells.
    baseline : float or mapping of stratum to float, optional
        Mean by which a stratum is scaled. Default: the treated in their last untreated period.
    rates : bool, default False
        Whether the outcome is a rate of counts, which may be equal by chance.

    Returns
    -------
    Cells

    Raises
    ------
    DesignError
        If the design asks for what the model does not do, or cells cannot answer it.
    EstimationError
        If `person_sd` is needed and not given.
    DataError
        If a covariate is missing or constant.
    """
    _check_design(design)
    for name, value in (("person_sd", person_sd), ("baseline", baseline)):
        require_known(value, _stratum_labels(moments)[1], name)
    table, x, labels, dropped = _table(moments, design, stated=person_sd is not None)
    require_comparison(table, labels)
    if not rates:
        require_variation(table, labels, design.outcome)
    codes = {name: _codes(table[name]) for name in ("cluster", "unit", "period")}
    stratum = table["stratum"].to_numpy()
    base = _baseline(table, labels, baseline)
    percent = 100.0 / base[stratum]
    within, sd = _noise(table, moments, labels, base, person_sd)
    steps = calendar_steps(codes["period"][1])
    effects, effect_of_cell = _effects(table)
    layout, order = arrange(
        cluster=codes["cluster"][0],
        stratum=stratum,
        unit=codes["unit"][0],
        period=steps[codes["period"][0]],
        precision=table["persons"].to_numpy() / (sd[stratum] ** 2),
        treated=(effect_of_cell >= 0).astype(float),
    )
    several = table.groupby(["cluster", "stratum", "period"])["unit"].nunique()
    return Cells(
        y=(table["y"].to_numpy() * percent)[order],
        stratum=stratum[order],
        period=codes["period"][0][order],
        cluster=codes["cluster"][0][order],
        unit=codes["unit"][0][order],
        effect_of_cell=effect_of_cell[order],
        x=x[order],
        exposure=table["exposure"].to_numpy()[order],
        effects=effects,
        baseline=base,
        within=within,
        restated=bool((several > 1).any()),
        layout=layout,
        strata=labels,
        periods=tuple(float(t) for t in codes["period"][1]),
        clusters=pd.Index(codes["cluster"][1]),
        units=pd.Index(codes["unit"][1]),
        covariates=tuple(moments.covariates[i] for i in moments.covariate_positions(design.covariates)),
        dropped=dropped,
    )  # fmt: skip


def codes(*keys: IntArray) -> IntArray:
    """Number the combinations of keys that occur, shape (n,)."""
    return np.unique(np.column_stack(keys), axis=0, return_inverse=True)[1].ravel()


def calendar_steps(periods: Sequence[float]) -> FloatArray:
    """Return periods on the scale of the autocorrelation: themselves if whole, else their rank."""
    steps = np.asarray(periods, dtype=float)
    if np.allclose(steps, np.round(steps)):
        return np.asarray(steps - steps[0])
    return np.arange(len(steps), dtype=float)


def _check_design(design: Design) -> None:
    problems = Problems("the design", DesignError)
    if design.comparison != "not_yet_treated":
        problems.add(
            "the hierarchical model compares with every untreated cell, those of later entrants "
            "included, so comparison='never_treated' cannot be kept. Use 'not_yet_treated'."
        )
    if design.fixed_effects is not None:
        problems.add("`fixed_effects` belong to regression estimators. Leave them out.")
    if design.balance_weights is not None:
        problems.add(
            "a likelihood has no place for `balance_weights`. Leave out the organizations that do "
            "not compare, or use a group-time estimator."
        )
    problems.raise_if_any()


def _codes(column: pd.Series) -> tuple[IntArray, Any]:
    codes, labels = pd.factorize(column, sort=True)
    return codes.astype(np.int64), labels


def _stratum_labels(moments: Moments) -> tuple[IntArray, tuple[str | None, ...]]:
    if not moments.strata:
        return np.zeros(len(moments), dtype=np.int64), (None,)
    parts = [name + "=" + moments.cells[name].astype(str) for name in moments.strata]
    text = parts[0]
    for part in parts[1:]:
        text = text + ", " + part
    codes, labels = _codes(text)
    return codes, tuple(labels)


def _table(
    moments: Moments, design: Design, *, stated: bool
) -> tuple[pd.DataFrame, FloatArray, tuple[str | None, ...], dict[str, float]]:
    """Return the usable cells, standardised covariates, stratum labels and drop counts."""
    stratum, labels = _stratum_labels(moments)
    persons = moments.w
    # variation within cells is that of rows, each of its weight: person-years are no unit of it
    if stated and moments.exposure is not None and bool(np.all(moments.w == moments.n)):
        persons = moments.exposure
    j = moments.column(design.outcome)
    table = pd.DataFrame(
        {
            "cluster": moments.attribute("cluster"), "unit": moments.cells["unit"],
            "stratum": stratum, "period": moments.cells["period"].astype(float),
            "cohort": moments.attribute("cohort").astype(float),
            "exit": moments.attribute("exit").astype(float), "y": moments.y_mean[:, j],
            "persons": persons, "rows": moments.n.astype(float),
            "exposure": persons if moments.exposure is None else moments.exposure,
            "squares": np.nan if moments.yy is None else moments.yy[:, j],
        }
    )  # fmt: skip
    table["event_time"] = table["period"] - table["cohort"]
    table["treated"] = table["event_time"] >= -design.anticipation
    x = moments.x_mean[:, moments.covariate_positions(design.covariates)]
    dropped: dict[str, float] = {}

    def keep(mask: Any, why: str) -> None:
        nonlocal table, x
        count = int((~mask).sum())
        # where units are people a cell is one person in a period
        dropped[why] = float(suppress_small(count)) if moments.people else count
        table, x = table[mask].reset_index(drop=True), x[np.asarray(mask)]

    keep(table["y"].notna() & (table["persons"] > 0), "no outcome or weight")
    keep(~(table["period"] > table["exit"]), "after exit")
    if design.window is not None:
        low, high = design.window
        inside = table["event_time"].between(low, high)
        keep(inside | ~table["treated"], "treated outside the window")
    untreated = (~table["treated"]).groupby([table["unit"], table["stratum"]]).transform("any")
    keep(untreated, "no untreated period of the unit")
    require_treated(table, dropped)
    present = np.unique(table["stratum"])
    table["stratum"] = np.searchsorted(present, table["stratum"])
    return table, _covariates(table, x, design), tuple(labels[i] for i in present), dropped


def _covariates(table: pd.DataFrame, x: FloatArray, design: Design) -> FloatArray:
    """Return each block's earliest value of every covariate, standardised."""
    if x.shape[1] == 0:
        return x
    problems = Problems("the covariates")
    ordered = table.assign(position=np.arange(len(table))).sort_values("period", kind="stable")
    first = ordered.groupby(["unit", "stratum"])["position"].transform("first")
    values = x[first.sort_index().to_numpy()]
    lost = np.isnan(values).any(axis=0)
    constant = ~lost & (values.std(axis=0) == 0)
    if lost.any():
        problems.add(
            f"{int(lost.sum())} of {listed(design.covariates)} have missing values. Fill them."
        )
    if constant.any():
        problems.add(
            f"{int(constant.sum())} of {listed(design.covariates)} do not vary between units, so "
            "trends cannot depend on them. Leave them out."
        )
    problems.raise_if_any()
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


def _lookup(value: Any, labels: tuple[str | None, ...], name: str) -> FloatArray:
    """Return one number a stratum from a number or a mapping keyed by label or by level."""
    if not isinstance(value, Mapping):
        return np.full(len(labels), float(value))
    found = []
    for label in labels:
        level = None if label is None else label.split("=", 1)[-1]
        found.append(value.get(label, value.get(level, np.nan)))
    numbers = np.array(found, dtype=float)
    absent = [label for label, x in zip(labels, numbers, strict=True) if np.isnan(x)]
    if absent:
        raise EstimationError(f"`{name}` has no value for {listed(absent)}. Add it.")
    return numbers


def _baseline(table: pd.DataFrame, labels: tuple[str | None, ...], given: Any) -> FloatArray:
    enters = table["treated"].groupby([table["unit"], table["stratum"]]).transform("any")
    before = table[enters & ~table["treated"]]
    last = before.groupby(["unit", "stratum"])["period"].transform("max")
    used = before[before["period"] == last]
    sums = (used["y"] * used["persons"]).groupby(used["stratum"]).sum()
    seen = np.asarray(sums / used.groupby("stratum")["persons"].sum(), dtype=float)
    out = seen if given is None else _lookup(given, labels, "baseline")
    if not (out > 0).all():
        where = [labels[s] for s in np.flatnonzero(~(out > 0)) if labels[s] is not None]
        raise DesignError(
            f"the baseline mean is not positive{' in ' + listed(where) if where else ''}, so "
            "effects cannot be pooled in percent of it. Use an outcome that is positive on "
            "average, or give `baseline`."
        )
    if ((seen > 0) & ((out > 10.0 * seen) | (seen > 10.0 * out))).any():
        raise DesignError(
            f"`baseline` is {listed([f'{x:.4g}' for x in out])}, and means before entry are "
            f"{listed([f'{x:.4g}' for x in seen])}: more than ten times apart, so priors in "
            "percent of `baseline` would mean something else. State it in the outcome's unit."
        )
    return out


def _noise(
    table: pd.DataFrame, moments: Moments, labels: tuple[str | None, ...], base: FloatArray,
    person_sd: PersonSd | None,
) -> tuple[Within | None, FloatArray]:  # fmt: skip
    """Return the variation within cells and the person sd in percent (1 where it is estimated)."""
    if person_sd is not None:
        sd = _lookup(person_sd, labels, "person_sd")
        if not (sd > 0).all():
            raise EstimationError("`person_sd` must be positive, in the unit of the outcome.")
        return None, 100.0 * sd / base
    dof = np.bincount(table["stratum"], table["rows"] - 1, minlength=len(labels))
    squares = table["squares"].to_numpy() * (100.0 / base[table["stratum"]]) ** 2
    squares = np.bincount(table["stratum"], squares)
    # not above rounding: missing in a cell, or no two persons of the stratum differ
    if moments.yy is None or (dof <= 0).any() or not (squares > _ROUNDING * dof).all():
        raise EstimationError(
            "the cells hold no variation between persons, so the sampling variance of a cell mean "
            "is unknown, and it cannot be told from shocks to the organization. State `person_sd`, "
            "the standard deviation of one person-year in the unit of the outcome (by stratum "
            "where they differ), and show half and double."
        )
    return Within(dof, squares), np.ones(len(labels))


def _effects(table: pd.DataFrame) -> tuple[pd.DataFrame, IntArray]:
    """Return the distinct cohort x event time x stratum of treated cells, and each cell's row."""
    keys = ["cohort", "event_time", "stratum"]
    treated = table.loc[table["treated"], keys]
    code = np.full(len(table), -1, dtype=np.int64)
    groups = treated.groupby(keys, sort=True)
    code[np.flatnonzero(table["treated"])] = groups.ngroup().to_numpy()
    effects = groups.size().reset_index()[keys].rename(columns={"stratum": "stratum_code"})
    effects["cohort_code"] = pd.factorize(effects["cohort"], sort=True)[0]
    effects["event_time_code"] = pd.factorize(effects["event_time"], sort=True)[0]
    return effects, code
