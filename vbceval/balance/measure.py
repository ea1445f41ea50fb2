"""From a panel or moments to features of organizations before entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.balance.features import Base, Features, Level, SampleOptions
from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.moments import Moments
from vbceval.panel import Panel


class _Column(NamedTuple):
    """One feature by label: mean, variance inside, shape (G,)."""

    name: str
    mean: FloatArray
    within: FloatArray


def features(
    data: Panel | Moments,
    covariates: Sequence[str] = (),
    *,
    by_period: Sequence[str] = (),
    baseline: tuple[float, float] | None = None,
    anticipation: int = 0,
    cohorts: Sequence[float] | None = None,
    level: Level = "cluster",
    base: Base | Mapping[Any, float] | pd.Series = "weight",
) -> Features:
    """
    Measure features of organizations in periods before any of them enters.

    Nothing seen at or after entry can be used: periods are cut off before the first entry, for all.

    Parameters
    ----------
    data : Panel or Moments
        A panel's columns, or covariates and outcomes of moments.
    covariates : sequence of str
        Columns whose weighted mean over the baseline is a feature. A category becomes a share for
        each level but the first. Outcomes of the baseline may be named.
    by_period : sequence of str
        Columns with a feature for each baseline period, ``"spend 2013"``: trends, not only levels.
    baseline : (float, float), optional
        First and last period measured. Default: every period before the first entry minus
        `anticipation`.
    anticipation : int, default 0
        Periods before entry in which organizations may already respond.
    cohorts : sequence of float, optional
        Entry cohorts that are to be matched. Default: all. Others get weight 0.
    level : {"cluster", "unit"}
        What a weight belongs to: the clusters of the data, or units inside coarser clusters
        (counties entering, errors by state).
    base : {"weight", "one", "exposure"} or mapping
        Base weights q: analysis weight in an average baseline period (rows without weight count
        one), ones, exposure, or a number for each label. With "weight" the means that are balanced
        are those that a weighted regression sees.

    Returns
    -------
    Features

    Raises
    ------
    DesignError
        Listing everything: a baseline that reaches entry, no treated or comparison organization,
        features that are missing or constant, cohorts that differ within a cluster.
    """
    for name, value in (("covariates", covariates), ("by_period", by_period)):
        if isinstance(value, str):
            raise DesignError(f"`{name}` is the text '{value}'; give a list, ['{value}'].")
    if anticipation < 0 or int(anticipation) != anticipation:
        raise DesignError(f"`anticipation` is {anticipation}; give 0 or a positive whole number.")
    asked = list(dict.fromkeys([*covariates, *by_period]))
    if not asked:
        raise DesignError("no feature is named. Give `covariates`, `by_period` or both.")
    moments = data
    if isinstance(data, Panel):
        moments = Moments.from_panel(data, outcomes=(), covariates=asked)
    assert isinstance(moments, Moments)  # a panel has become moments
    labels, cohort, clusters = _labels(moments, level)
    last = float(moments.cells["period"].max()) + anticipation
    cohort = np.where(cohort > last, np.nan, cohort)
    included = np.isnan(cohort)
    included |= np.isfinite(cohort) if cohorts is None else np.isin(cohort, list(cohorts))
    _need_both(cohort, included, cohorts)
    first = float(cohort[included & np.isfinite(cohort)].min()) - anticipation
    periods = _periods(moments, baseline, first, anticipation)
    columns = _columns(moments, covariates, by_period, labels, level, periods)
    made = Features(
        labels=labels, clusters=clusters, cohort=cohort, included=included,
        base=_base(moments, base, labels, level, periods),
        z=np.column_stack([c.mean for c in columns]),
        within=np.column_stack([c.within for c in columns]), names=tuple(c.name for c in columns),
        baseline=(float(periods[0]), float(periods[-1])), anticipation=anticipation, level=level,
        label_name=moments.cluster_name if level == "cluster" else moments.unit_name,
        people=_are_people(moments, level),
    )  # fmt: skip
    _check(made)
    return made


def _are_people(moments: Moments, level: Level) -> bool:
    return moments.people and (level == "unit" or moments.unit_name == moments.cluster_name)


def _label(moments: Moments, level: Level) -> pd.Series:
    return moments.attribute("cluster") if level == "cluster" else moments.cells["unit"]


def _labels(moments: Moments, level: Level) -> tuple[pd.Index, FloatArray, pd.Index]:
    """Labels in order, with the cohort and the inference cluster of each."""
    if level not in ("cluster", "unit"):
        raise DesignError(f"`level` is '{level}'; use 'cluster' or 'unit'.")
    frame = pd.DataFrame({
        "label": _label(moments, level), "cohort": moments.attribute("cohort"),
        "cluster": moments.attribute("cluster"),
    }).drop_duplicates()  # fmt: skip
    mixed = frame["label"].duplicated(keep=False)
    if mixed.any():
        count = frame.loc[mixed, "label"].nunique()
        raise DesignError(
            f"{count:,} clusters (`{moments.cluster_name}`) hold units of several cohorts, so they "
            "are not what is assigned to treatment. Weight units with level='unit'."
        )
    frame = frame.sort_values("label", kind="stable")
    return (
        pd.Index(frame["label"]),
        frame["cohort"].to_numpy(dtype=float, na_value=np.nan),
        pd.Index(frame["cluster"]),
    )


def _need_both(cohort: FloatArray, included: BoolArray, cohorts: Sequence[float] | None) -> None:
    found = np.unique(cohort[np.isfinite(cohort)])
    known = ", ".join(f"{g:g}" for g in found) or "none"
    unknown = [f"{g:g}" for g in cohorts or () if g not in found]
    if unknown:
        raise DesignError(
            f"`cohorts` names {listed(unknown)}, in which no organization enters (cohorts in the "
            f"data: {known})."
        )
    if not (included & np.isfinite(cohort)).any():
        raise DesignError(
            "no organization enters by the end of the data, so there is nothing to match to. Check "
            "the coding of cohorts (missing = never), or add later periods."
        )
    if not np.isnan(cohort).any():
        raise DesignError(
            "every organization enters by the end of the data, so nobody is left to be weighted. "
            "End the data earlier, before the last cohort enters."
        )


def _periods(
    moments: Moments, baseline: tuple[float, float] | None, first: float, anticipation: int
) -> FloatArray:
    """Baseline periods, increasing; all before the first entry minus anticipation."""
    periods = np.unique(moments.cells["period"].to_numpy(dtype=float))
    before = f"{first:g}{' (first entry minus `anticipation`)' if anticipation else ''}"
    if baseline is None:
        chosen = periods[periods < first]
        if len(chosen) == 0:
            raise DesignError(
                f"no period lies before the first entry, {before}, so features could only be "
                "measured under treatment. Add earlier periods, or name the `cohorts` that enter "
                "later; the others get weight 0."
            )
        return chosen
    low, high = baseline
    if high >= first:
        raise DesignError(
            f"`baseline` {low:g} to {high:g} reaches the first entry, {before}: features that the "
            f"program may have changed would bias the comparison. End it before {first:g}."
        )
    chosen = periods[(periods >= low) & (periods <= high)]
    if len(chosen) == 0:
        raise DesignError(f"the data have no period in `baseline` {low:g} to {high:g}.")
    return chosen


def _columns(
    moments: Moments,
    covariates: Sequence[str],
    by_period: Sequence[str],
    labels: pd.Index,
    level: Level,
    periods: FloatArray,
) -> list[_Column]:
    out: dict[str, _Column] = {}
    for name in covariates:
        for made in moments.factors.get(name, (name,)):
            out[made] = _measure(moments, made, made, labels, level, periods)
    for name in by_period:
        for made in moments.factors.get(name, (name,)):
            for t in periods:
                title = f"{made} {t:g}"
                out[title] = _measure(moments, made, title, labels, level, np.array([t]))
    return list(out.values())


def _measure(
    moments: Moments, name: str, title: str, labels: pd.Index, level: Level, periods: FloatArray
) -> _Column:
    """Weighted mean of a column over periods, and the variance of rows around it."""
    if name in moments.covariates:
        j, source = moments.covariates.index(name), moments
        value = source.x_mean[:, j]
        inside = None if source.xx is None else source.xx[:, j, j]
    else:
        source = moments.of(name)
        j = source.column(name)
        value = source.y_mean[:, j]
        inside = None if source.yy is None else source.yy[:, j]
    time = source.cells["period"].to_numpy(dtype=float)
    live = np.isin(time, periods) & np.isfinite(value)
    code = labels.get_indexer(pd.Index(_label(source, level)))[live]
    w, y = source.w[live], value[live]

    def add(values: FloatArray) -> FloatArray:
        return np.bincount(code, weights=values, minlength=len(labels))

    total = add(w)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = add(w * y) / total
        # one row a period is the organization itself, which has no spread of people
        alone = source.n[live].sum() == len(np.unique(np.column_stack([code, time[live]]), axis=0))
        if alone:
            return _Column(title, mean, np.zeros(len(labels)))
        spread = add(w * (y - mean[code]) ** 2 + (0.0 if inside is None else inside[live]))
        return _Column(title, mean, spread / total)


def _base(
    moments: Moments,
    base: Base | Mapping[Any, float] | pd.Series,
    labels: pd.Index,
    level: Level,
    periods: FloatArray,
) -> FloatArray:
    """Base weight of each label; an average over the baseline periods in which it is seen."""
    if isinstance(base, str):
        if base not in ("weight", "one", "exposure"):
            raise DesignError(f"`base` is '{base}'; use 'weight', 'one', 'exposure' or a mapping.")
        if base == "one":
            return np.ones(len(labels))
        amount = moments.w if base == "weight" else moments.exposure
        if amount is None:
            raise DesignError("base='exposure', but the data have no exposure. Name it in them.")
        live = np.isin(moments.cells["period"].to_numpy(dtype=float), periods)
        table = pd.DataFrame({
            "label": _label(moments, level)[live], "period": moments.cells["period"][live],
            "amount": amount[live],
        })  # fmt: skip
        by_time = table.groupby(["label", "period"])["amount"].sum()
        found = by_time.groupby("label").mean().reindex(labels)
    else:
        found = pd.Series(dict(base), dtype=float).reindex(labels)
    out = found.to_numpy(dtype=float)
    bad = int((~(out > 0) | ~np.isfinite(out)).sum())
    if bad:
        people = _are_people(moments, level)
        said = say_people(bad, "people") if people else f"{bad:,} of {len(labels):,} organizations"
        raise DesignError(
            f"{said} have no positive base weight in the baseline. Leave them out of the "
            "data, or give `base` a number for each."
        )
    return out


def _check(made: Features) -> None:
    problems = Problems("the features", DesignError)
    rows = made.included
    for name, column in zip(made.names, made.z.T, strict=True):
        lost = int(np.isnan(column[rows]).sum())
        if lost:
            problems.add(
                f"`{name}` has no value before entry for {made.count(lost)} of "
                f"{made.count(int(rows.sum()), noun=True)}. Leave these out of the data, choose another "
                "`baseline`, or fill the values in and add a column that says so."
            )
    problems.raise_if_any()
    kept, lost_names = made.independent(rows)
    if len(kept) == 0:
        raise DesignError(
            f"{listed(lost_names)} do not vary between organizations, so there is nothing to "
            "balance. Name other features."
        )


def as_features(
    data: Panel | Moments | Features, covariates: Sequence[str], sample: SampleOptions
) -> Features:
    """
    Return features, measured now or given.

    Raises
    ------
    DesignError
        If features are given together with options that would measure them.
    """
    if not isinstance(data, Features):
        return features(data, covariates, **sample)
    given = [*(["covariates"] if covariates else []), *sample]
    if given:
        raise DesignError(
            f"{listed(given)} choose what is measured, but `Features` were given, which is "
            "measured already. Name them in `vbceval.balance.features`."
        )
    return data
