"""Meta-analysis of several outcomes jointly, with correlations within and between reports."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.draws import DIMS
from vbceval.bayes.exact import effective_sizes
from vbceval.bayes.groups import Once, add_data
from vbceval.bayes.meta_outcomes.data import Columns, Rows, read_rows
from vbceval.bayes.meta_outcomes.density import Density, Drawn, Natural, deviations, draw
from vbceval.bayes.meta_priors import meta_lines
from vbceval.bayes.meta_tree import (
    PRIOR_DRAWS,
    add_meta_groups,
    linked_parts,
    log_likelihoods,
    log_mean_and_spreads,
    named_parts,
)
from vbceval.bayes.quadrature import Start, integrate
from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.estimates import Estimates

_CHAINS = 4
_FEWEST = 400.0
_WIDEST = 100.0
"""Prior scales beyond which a unit was mistaken."""

SD_ROWS = {
    "type": "between_type_sd", "program": "between_program_sd", "report": "between_report_sd",
    "sample": "within_report_sd",
}  # fmt: skip
"""Estimand of the standard deviations of each level."""

Within = float | Mapping[tuple[str, str], float]


@dataclass(frozen=True, kw_only=True)
class JointMetaAnalysis:
    """
    Pool effects on several outcomes, such as spending, readmissions and mortality, jointly.

    Outcomes of one report come from the same people, so their sampling errors are correlated
    (stated), and true effects may be (estimated). Outcomes that a report does not print are learned
    of from those that it does, and statements about two outcomes are right. Deviations are normal.

    Parameters
    ----------
    within : float or mapping of pairs of outcomes to float
        Correlation of the sampling errors of two outcomes of one sample. Reports hardly ever print
        it: state it, and vary it with `within_sensitivity`. Values known for single reports go to
        `fit`.
    scale : mapping of outcome to float
        What the priors are multiples of, in the unit of the outcome. 1, the default, is for percent
        of baseline; a rate in percentage points needs what one percent of spending is comparable to.
    mean_sd : float, default 3
        Prior standard deviation of the mean effect on an outcome, around 0, in scales.
    sd_scale : float, default 1
        Scale of the half-normal prior of every standard deviation, in scales.
    concentration : float, default 2
        Exponent of the law (LKJ) of the correlation of true effects, the same at every level.
    nodes : int, default 1024
        Points of the integration, a power of two; another pass, where one is needed, has twice as many.
    draws : int, default 4000
        Draws, a multiple of four.
    seed : int, default 20210101
        Seed.

    References
    ----------
    .. [1] Riley, R. D. (2009). Multivariate meta-analysis: the effect of ignoring within-study
       correlation. *Journal of the Royal Statistical Society A* 172(4), 789-811.
    .. [2] Jackson, D., Riley, R. and White, I. R. (2011). Multivariate meta-analysis: potential and
       promise. *Statistics in Medicine* 30(20), 2481-2498.

    Examples
    --------
    >>> effects = pd.DataFrame({
    ...     "report": ["a", "a", "b", "b", "c"], "program": ["A", "A", "B", "B", "C"],
    ...     "program_type": "aco", "outcome": ["spending", "readmissions"] * 2 + ["spending"],
    ...     "unit_of_measure": "percent", "estimate": [-1.4, -2.0, -0.3, 0.4, -2.0],
    ...     "std_error": [0.6, 1.0, 0.5, 0.9, 0.8]})
    >>> est = JointMetaAnalysis(within=0.4, nodes=256).fit(effects)
    >>> est.where(estimand="mean_effect").frame[["outcome", "n_clusters"]].values.tolist()
    [['spending', 3.0], ['readmissions', 2.0]]
    """

    within: Within
    scale: Mapping[str, float] = field(default_factory=dict)
    mean_sd: float = 3.0
    sd_scale: float = 1.0
    concentration: float = 2.0
    nodes: int = 1024
    draws: int = 4000
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the model", DesignError)
        for name in ("mean_sd", "sd_scale", "concentration"):
            if not 0 < getattr(self, name) < np.inf:
                problems.add(f"`{name}` is {getattr(self, name)}; it is a positive number.")
        for name in ("mean_sd", "sd_scale"):
            if getattr(self, name) > _WIDEST:
                problems.add(
                    f"`{name}` is {getattr(self, name)}; it is in multiples of `scale` (1 for "
                    f"percent of baseline), not dollars: at most {_WIDEST:g}."
                )
        if self.nodes < 64 or self.nodes & (self.nodes - 1):
            problems.add(f"`nodes` is {self.nodes}; use a power of two from 64 on.")
        if self.draws < 4 * _CHAINS or self.draws % _CHAINS:
            problems.add(f"`draws` is {self.draws}; use a multiple of {_CHAINS}, such as 4000.")
        problems.raise_if_any()

    def fit(
        self, data: pd.DataFrame, *, estimate: str = "estimate", std_error: str = "std_error",
        outcome: str = "outcome", unit_of_measure: str = "unit_of_measure", report: str = "report",
        program: str = "program", program_type: str = "program_type", sample: str | None = None,
        known: pd.DataFrame | None = None,
    ) -> Estimates:  # fmt: skip
        """
        Return the posterior of means, spreads, correlations, predictions and shrunken effects.

        Parameters
        ----------
        data : DataFrame, n rows
            One row an effect on one outcome.
        estimate, std_error : str
            Columns of effects, treated minus untreated, and standard errors, in the unit of the
            outcome.
        outcome, unit_of_measure : str
            Columns of the outcome and its unit, one for each outcome.
        report, program, program_type : str
            Columns of the report that prints the effect, the program and its type.
        sample : str, optional
            Column that tells samples of people within a report apart (cohorts, settings); an outcome
            occurs once in each. Default: a report is one sample.
        known : DataFrame, optional
            Correlations of sampling errors that are known, with columns ``sample`` (a label of
            `sample`, or of `report`), ``outcome``, ``other``, ``correlation``.

        Returns
        -------
        Estimates
            With joint draws, each row in the unit of its outcome. By ``estimand``:
            ``mean_effect`` (over types, each counting once), ``type_mean`` and ``predictive`` (true
            effect of a new program in a new report; draws of the outcomes of one type are joint) for
            each stratum ``program_type=...``, ``between_type_sd``, ``between_program_sd``,
            ``between_report_sd``, ``within_report_sd`` where the level is in the model,
            ``between_correlation`` with the second outcome in column ``other``, and
            ``study_effect`` for each row of `data`, with ``observed``, ``observed_se`` and its
            labels. The DataTree, and ``meta["prior_sensitivity"]``, are as those of
            `MetaAnalysis.fit`.

        Raises
        ------
        DataError
            If the table cannot be used; all failures together.
        DesignError
            If correlations are impossible, or the table does not need this model.
        EstimationError
            If the integral or the draws cannot be trusted.
        """
        columns = Columns(
            estimate, std_error, outcome, unit_of_measure, report, program, program_type, sample
        )
        rows = read_rows(data, columns, scale=self.scale, within=self.within, known=known)
        density = Density(
            rows=rows, mean_sd=self.mean_sd, sd_scale=self.sd_scale,
            concentration=self.concentration,
        )  # fmt: skip
        size = len(density.names)
        try:
            nodes, integration = integrate(
                density, Start(np.zeros(size), np.eye(size)), families=self.nodes, each=1,
                seed=self.seed,
            )  # fmt: skip
        except EstimationError as error:
            raise EstimationError(
                "standard deviations and correlations cannot be integrated. Check that estimates and "
                "standard errors are in the unit of `scale`; raise `nodes`, or `sd_scale` where effects "
                f"differ more than the prior expects. What was seen: {error}"
            ) from error
        bulk, tail = (float(x.min()) for x in effective_sizes(nodes, draws=self.draws))
        if min(bulk, tail) < _FEWEST:
            raise EstimationError(
                f"means are worth {min(bulk, tail):.0f} independent draws, fewer than {_FEWEST:g}. Raise "
                "`draws` and `nodes`."
            )
        drawn = draw(density, nodes, size=self.draws, rng=generator(self.seed, "meta outcomes"))
        frame, samples = _table(rows, drawn, columns)
        convergence = {"ess_bulk": bulk, "ess_tail": tail}
        scale = dict(zip(rows.outcomes, rows.scale, strict=True))
        lines = meta_lines(
            frame, samples, drawn.mean, mean_sd=self.mean_sd,
            usual=(self.mean_sd, self.sd_scale) == (3.0, 1.0),
            unit_scale=frame["outcome"].map(scale).to_numpy(dtype=float),
        )  # fmt: skip
        return Estimates(
            frame=frame, samples=samples, interval="credible", cluster_name=report,
            tree=Once(functools.partial(_complete, _tree(rows, drawn), density, drawn, self.seed)),
            meta={
                "estimator": "JointMetaAnalysis", "options": asdict(self),
                "columns": columns._asdict(), "prior": self._priors(rows), "levels": list(rows.levels),
                "n_effects": len(rows), "n_reports": len(rows.labels["report"]),
                "within": "stated" if known is None else f"{len(known)} known, others stated",
                "integration": asdict(integration), "convergence": convergence,
                "prior_sensitivity": lines, "seed": self.seed, "versions": versions("numpy", "scipy"),
            },
        )  # fmt: skip

    def _priors(self, rows: Rows) -> dict[str, str]:
        out = {}
        for name, unit, scale in zip(rows.outcomes, rows.units, rows.scale, strict=True):
            out[name] = (
                f"mean Normal(0, {self.mean_sd * scale:g} {unit}); standard deviations "
                f"half-Normal({self.sd_scale * scale:g} {unit})"
            )
        out["correlation of true effects"] = f"LKJ({self.concentration:g}), the same at every level"
        return out


def within_sensitivity(
    model: JointMetaAnalysis, data: pd.DataFrame, *,
    values: Sequence[float] = (0.0, 0.25, 0.5, 0.75), level: float = 0.95, **columns: Any,
) -> pd.DataFrame:  # fmt: skip
    """
    Say what the assumed correlation of sampling errors does, by refits.

    Parameters
    ----------
    model : JointMetaAnalysis
        The model; its `within` is replaced.
    data : DataFrame
        As in `JointMetaAnalysis.fit`.
    values : sequence of float
        Correlations, one for all pairs.
    level : float, default 0.95
        Level of intervals.
    **columns
        Further arguments of `JointMetaAnalysis.fit`; correlations that are `known` stay.

    Returns
    -------
    DataFrame
        ``within``, ``estimand`` (means, means of types, predictions, correlation of true effects),
        ``outcome``, ``other``, ``stratum``, ``estimate``, ``std_error``, ``conf_low``, ``conf_high``.
    """
    found = []
    for value in values:
        est = replace(model, within=value).fit(data, **columns)
        est = est.where(estimand=["mean_effect", "type_mean", "predictive", "between_correlation"])
        shown = est.tidy(level)[
            ["estimand", "outcome", "stratum", "estimate", "std_error", "conf_low", "conf_high"]
        ]
        found.append(shown.assign(within=float(value), other=est.frame["other"].to_numpy()))
    out = pd.concat(found, ignore_index=True)
    first = ["within", "estimand", "outcome", "other", "stratum"]
    return out[[*first, *[c for c in out if c not in first]]]


def _table(rows: Rows, drawn: Drawn, columns: Columns) -> tuple[pd.DataFrame, FloatArray]:
    """Return rows of the result and their draws, each in the unit of its outcome."""
    parts: list[tuple[dict[str, Any], FloatArray]] = []
    kinds = [f"program_type={x}" for x in rows.labels["type"]]
    for j, name in enumerate(rows.outcomes):
        scale, own = rows.scale[j], {"outcome": name, "unit_of_measure": rows.units[j]}
        inside = rows.outcome == j
        seen = _seen(rows, inside)
        parts.append(({"estimand": "mean_effect", **own, **seen}, scale * drawn.mean[:, j]))
        for estimand, values in (("type_mean", drawn.type_mean), ("predictive", drawn.predictive)):
            for k, kind in enumerate(kinds):
                about = _seen(rows, inside & (rows.index["type"] == k))
                key = {"estimand": estimand, "stratum": kind, **own, **about}
                parts.append((key, scale * values[:, k, j]))
        for level in rows.levels:
            key = {"estimand": SD_ROWS[level], **own, **seen}
            parts.append((key, scale * drawn.at.sd[level][:, j]))
    for i, j in combinations(range(len(rows.outcomes)), 2):
        both = _seen(rows, np.isin(rows.outcome, [i, j]))
        key = {"estimand": "between_correlation", "outcome": rows.outcomes[i],
               "other": rows.outcomes[j], "unit_of_measure": "correlation", **both}  # fmt: skip
        parts.append((key, drawn.at.correlation[:, i, j]))
    names = {
        columns.report: "report",
        columns.program: "program",
        columns.program_type: "program_type",
    }
    described = rows.frame.rename(columns=names)
    for i in range(len(rows)):
        j = int(rows.outcome[i])
        scale = float(rows.scale[j])
        key = {"estimand": "study_effect", "outcome": rows.outcomes[j], "unit_of_measure": rows.units[j],
               "observed": scale * rows.estimate[i], "n_units": 1.0, "n_clusters": 1.0,
               "observed_se": scale * np.sqrt(rows.errors[i, i]), **{str(k): v for k, v in described.iloc[i].items()}}  # fmt: skip
        parts.append((key, scale * drawn.effect[:, i]))
    samples = np.column_stack([values for _, values in parts])
    frame = pd.DataFrame([key for key, _ in parts]).assign(estimate=samples.mean(axis=0))
    if "stratum" not in frame:
        frame["stratum"] = None
    return frame, samples


def _seen(rows: Rows, inside: Any) -> dict[str, float]:
    """Return numbers of effects and of reports behind a row."""
    return {
        "n_units": float(inside.sum()),
        "n_clusters": float(len(np.unique(rows.index["report"][inside]))),
    }


def _tree(rows: Rows, drawn: Drawn) -> Any:
    import xarray

    def split(values: FloatArray) -> FloatArray:
        return values.reshape(_CHAINS, -1, *values.shape[1:])

    scaled = {
        "mean_effect": ((*DIMS, "outcome"), split(drawn.mean * rows.scale)),
        "type_mean": ((*DIMS, "program_type", "outcome"), split(drawn.type_mean * rows.scale)),
        "true_effect": ((*DIMS, "row"), split(drawn.effect * rows.scale[rows.outcome])),
        "between_correlation": ((*DIMS, "outcome", "other"), split(drawn.at.correlation)),
        **{SD_ROWS[x]: ((*DIMS, "outcome"), split(drawn.at.sd[x] * rows.scale)) for x in rows.levels},
    }  # fmt: skip
    coords = {
        "outcome": list(rows.outcomes), "other": list(rows.outcomes),
        "program_type": [str(x) for x in rows.labels["type"]],
    }  # fmt: skip
    scale = rows.scale[rows.outcome]
    observed = {
        "estimate": (("row",), rows.estimate * scale),
        "covariance": (("row", "column"), rows.errors * np.outer(scale, scale)),
    }
    tree = xarray.DataTree.from_dict({"posterior": xarray.Dataset(scaled, coords=coords)})
    add_data(tree, xarray.Dataset(observed), "estimate")
    return tree


def _complete(tree: Any, density: Density, drawn: Drawn, seed: int) -> Any:
    """Add the groups of `vbceval.bayes.meta_tree.add_meta_groups`, of several outcomes."""
    rows, rng = density.rows, generator(seed, "meta outcomes", "tree")
    linked = rows.same("program") | rows.same("report") | (rows.errors != 0)
    part = linked_parts(linked)
    scale = rows.scale[rows.outcome]
    centre = drawn.type_mean[:, rows.index["type"], rows.outcome]
    again = _printed(density, drawn.type_mean, drawn.at, rng)
    # a likelihood of effects in their units, not in scales of the outcomes
    units = np.bincount(part, np.log(scale))
    prior, before = _prior(density, rng, generator(seed, "meta outcomes", "prior estimates"))
    names = [str(rows.labels["program"][k]) for k in rows.index["program"]]
    return add_meta_groups(
        tree,
        likelihood=log_likelihoods(
            rows.estimate - centre, lambda some: density.within(drawn.at.take(some)), part
        ) - units,
        parts=named_parts(part, names),
        log_prior=log_mean_and_spreads(
            drawn.mean, list(drawn.at.sd.values()), mean_sd=density.mean_sd,
            sd_scale=density.sd_scale,
        ),
        replicated=again * scale,
        prior=prior,
        before=before * scale,
    )  # fmt: skip


def _prior(
    density: Density, rng: np.random.Generator, apart: np.random.Generator
) -> tuple[dict[str, tuple[tuple[str, ...], FloatArray]], FloatArray]:
    """
    Return draws from the prior in units of the outcomes, by names of the tree, and effects.

    The effects, shape (P, n) and in scales, are as reports would print them at these draws; they are
    drawn from `apart`.
    """
    rows = density.rows
    at = density.natural(rng.standard_normal((PRIOR_DRAWS, len(density.names))))
    mean = density.mean_sd * rng.standard_normal((PRIOR_DRAWS, len(rows.outcomes)))
    types = len(rows.labels["type"])
    own = np.zeros((PRIOR_DRAWS, types, len(rows.outcomes)))
    if "type" in rows.levels:
        own = deviations(at, "type", types, rng)
    type_mean = mean[:, None] + own
    named = {
        "mean_effect": (("outcome",), mean * rows.scale),
        "type_mean": (("program_type", "outcome"), type_mean * rows.scale),
        "between_correlation": (("outcome", "other"), at.correlation),
        **{SD_ROWS[x]: (("outcome",), at.sd[x] * rows.scale) for x in rows.levels},
    }
    return named, _printed(density, type_mean, at, apart)


def _printed(
    density: Density, type_mean: FloatArray, at: Natural, rng: np.random.Generator
) -> FloatArray:
    """Draw effects as reports would print them, of new programs in the places of the old, (S, n)."""
    rows = density.rows
    out = type_mean[:, rows.index["type"], rows.outcome]
    out = out + rng.standard_normal((len(out), len(rows))) @ np.linalg.cholesky(rows.errors).T
    for level in rows.levels:
        if level != "type":
            new = deviations(at, level, len(rows.labels[level]), rng)
            out = out + new[:, rows.index[level], rows.outcome]
    return np.asarray(out)
