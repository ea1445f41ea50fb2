"""Regressions with an effect for every cohort and period: Wooldridge, Sun and Abraham."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.design import Design, GroupTimePair, group_time_pairs
from vbceval.did.equation import Equation, cluster_sums, plain_covariates, treated_shares
from vbceval.did.least_squares import Fit
from vbceval.did.regression import LeastSquares
from vbceval.did.regressors import Term, joint_codes
from vbceval.did.sampled import Sample
from vbceval.estimates.columns import GROUP_TIME


class Saturated(NamedTuple):
    """Cells, the pairs that have a dummy or are a base, and which cell is in which pair."""

    sample: Sample
    pairs: list[GroupTimePair]
    codes: IntArray
    meta: dict[str, Any]


class CohortMeans(NamedTuple):
    """
    Influence through the cohort means about which interactions are centred.

    Parameters
    ----------
    psi : array, shape (q, G, d)
        Influence on the mean of each covariate, in the cohort of each of d dummies.
    rows : int array, shape (d,)
        Row of each dummy; -1 is not reported.
    """

    psi: FloatArray
    rows: IntArray

    def influence(self, fit: Fit, outcome: int, contrast: FloatArray) -> FloatArray:
        """Return influence, shape (G, r): an effect moves with the mean by its slope."""
        out = np.zeros((self.psi.shape[1], contrast.shape[1]))
        q, _, d = self.psi.shape
        slope = fit.beta[fit.z.where("covariate"), outcome].reshape(q, d)
        live = self.rows >= 0
        out[:, self.rows[live]] = np.einsum("qgd,qd->gd", self.psi, slope)[:, live]
        return out


def saturate(sample: Sample, design: Design, *, leads: bool) -> Saturated:
    """Find the pairs of a sample; cohorts without a period before entry are left out."""
    cohorts = np.unique(sample.cohort[np.isfinite(sample.cohort)])
    whole = replace(design, base_period="universal", comparison="never_treated", window=None)
    pairs, dropped = group_time_pairs(sample.periods, cohorts, whole)
    sample = sample.take(~np.isin(sample.cohort, dropped))
    if not leads:
        pairs = [p for p in pairs if p.period >= p.cohort - design.anticipation]
    code, first = joint_codes([sample.keys["cohort"], sample.keys["period"]])
    observed = set(zip(sample.cohort[first], sample.period[first], strict=True))
    pairs = [p for p in pairs if (p.cohort, p.period) in observed]
    place = {(p.cohort, p.period): i for i, p in enumerate(pairs)}
    of_key = [place.get((sample.cohort[i], sample.period[i]), -1) for i in first]
    return Saturated(
        sample, pairs, np.array(of_key, dtype=np.int64)[code],
        {"dropped_cohorts": sorted(float(g) for g in dropped)},
    )  # fmt: skip


def _reported(made: Saturated, design: Design) -> tuple[list[int], FloatArray, IntArray]:
    """Pairs that are rows, their combinations of dummies, and the row of each cell."""
    window = design.window
    shown = [
        i for i, p in enumerate(made.pairs)
        if window is None or window[0] <= p.event_time <= window[1]
    ]  # fmt: skip
    if not any(made.pairs[i].event_time >= 0 for i in shown):
        raise DesignError(
            "no effect at or after entry is left to estimate: widen `window`, or check the coding "
            "of cohorts."
        )
    dummies = [i for i, p in enumerate(made.pairs) if not p.is_reference]
    contrast = (np.array(shown)[:, None] == np.array(dummies)).astype(float)
    place = np.full(len(made.pairs) + 1, -1, dtype=np.int64)
    place[shown] = np.arange(len(shown))
    return shown, contrast, place[made.codes]


def dummy_codes(made: Saturated) -> tuple[IntArray, tuple[str, ...]]:
    """Column of each cell among the pairs that have a dummy, and what columns are called."""
    kept = [i for i, p in enumerate(made.pairs) if not p.is_reference]
    place = np.full(len(made.pairs) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    names = tuple(
        f"effect of cohort {made.pairs[i].cohort:g} at period {made.pairs[i].period:g}"
        for i in kept
    )
    return place[made.codes], names


def _row_of_dummies(made: Saturated, shown: list[int]) -> IntArray:
    """Row of each dummy, -1 when it is not reported."""
    row_of = {i: row for row, i in enumerate(shown)}
    kept = [i for i, p in enumerate(made.pairs) if not p.is_reference]
    return np.array([row_of.get(i, -1) for i in kept], dtype=np.int64)


def saturated_equation(
    made: Saturated,
    design: Design,
    terms: tuple[Term, ...],
    means: CohortMeans | None,
    *,
    n_clusters: int,
    weights_random: bool,
) -> Equation:
    """Return the regression on saturated dummies, with the rows that the window keeps."""
    shown, contrast, support = _reported(made, design)
    rows: list[dict[str, Any]] = []
    for i in shown:
        p = made.pairs[i]
        rows.append({
            "estimand": GROUP_TIME, "cohort": p.cohort, "period": p.period,
            "event_time": p.event_time, "base": p.base,
        })  # fmt: skip
    if means is not None:
        means = means._replace(rows=_row_of_dummies(made, shown))
    return Equation(
        made.sample, ("owner", "period"), terms, rows, contrast, support,
        shares=treated_shares(
            made.sample, support, (n_clusters, len(rows)), random=weights_random
        ),
        estimated=means, meta=made.meta,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ETWFE(LeastSquares):
    """
    Estimate group-time effects by the saturated regression of Wooldridge.

    Unit and period effects, and an effect for every cohort and treated period, from one regression:
    every untreated cell is comparison, so it is efficient when shocks do not persist. On a balanced
    panel without covariates it equals `Imputation`. Covariates get a slope for each cohort and for
    each period, and interact with every effect, centred at the mean of the cohort.

    With ``comparison="never_treated"`` leads are estimated as well, which makes it the outcome
    regression of Callaway and Sant'Anna with a universal base.

    Exactness: ``moments``; units, clusters and `exit` as in `TWFE`.

    Parameters
    ----------
    weights_random : bool, default False
        Add the sampling error of cohort shares (in averages) and of the cohort means of covariates.
        R `etwfe` takes both as fixed.

    Notes
    -----
    The default effects are those of units (clusters where units are not followed); R `etwfe`
    defaults to cohorts: ``fixed_effects=("cohort", "period")``. They agree on balanced panels with
    constant weights and differ otherwise. Cohorts that are treated in every period are left out
    (``meta["dropped_cohorts"]``).

    References
    ----------
    .. [1] Wooldridge, J. M. (2025). Two-way fixed effects, the two-way Mundlak regression, and
       difference-in-differences estimators. *Empirical Economics* 69, 2545-2587. Section 5.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.ETWFE().fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["cohort", "period", "estimate"]].round(6).to_dict("records")
    [{'cohort': 2016.0, 'period': 2016.0, 'estimate': -1.5}]
    """

    weights_random: bool = False

    def _refusal(self, design: Design) -> str | None:
        if design.base_period == "universal" and design.comparison == "not_yet_treated":
            return (
                "ETWFE has no base period with comparison='not_yet_treated': every untreated "
                "period counts. Leave `base_period` at its default, or compare with the never "
                "treated."
            )
        return None

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the saturated regression."""
        made = saturate(sample, design, leads=design.comparison == "never_treated")
        sample = made.sample
        codes, names = dummy_codes(made)
        terms, psi = [], []
        for s, name in enumerate(sample.cells.block.names):
            of_cohort, x, centre = _about_cohorts(sample, s)
            terms += _slopes(sample, s, name)
            terms.append(Term(codes, tuple(f"{n} x {name}" for n in names), "covariate", s, centre))
            psi.append(_mean_influence(sample, x - centre, of_cohort, codes, n_clusters))
        terms.append(Term(codes, names, "treatment"))
        means = None
        if psi and self.weights_random:
            means = CohortMeans(np.stack(psi), np.zeros(0, dtype=np.int64))
        return saturated_equation(
            made, design, tuple(terms), means, n_clusters=n_clusters,
            weights_random=self.weights_random,
        )  # fmt: skip


def _about_cohorts(sample: Sample, s: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Cohort of each cell, covariate s, and its mean in the cohort."""
    codes = joint_codes([sample.keys["cohort"]])[0]
    x = sample.cells.block.x[:, s]
    return codes, x, sample.mean(x, codes)


def _mean_influence(
    sample: Sample, deviation: FloatArray, of_cohort: IntArray, codes: IntArray, n_clusters: int
) -> FloatArray:
    """Influence of clusters on the mean of the cohort of each dummy, shape (G, dummies)."""
    w = sample.cells.block.w
    size = int(of_cohort.max()) + 1
    sums = cluster_sums(sample, w * deviation, of_cohort, (n_clusters, size))
    of_dummy = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    of_dummy[codes[codes >= 0]] = of_cohort[codes >= 0]
    return (sums / np.bincount(of_cohort, weights=w))[:, of_dummy]


def _slopes(sample: Sample, s: int, name: str) -> list[Term]:
    """A slope for each cohort, and for each period but the first: trends and levels depend on x."""
    block = sample.cells.block
    centre = np.full(len(block.w), np.average(block.x[:, s], weights=block.w))
    cohort, period = (joint_codes([sample.keys[k]])[0] for k in ("cohort", "period"))
    return [
        Term(cohort, tuple(f"{name} x cohort {i}" for i in range(cohort.max() + 1)), "effect",
             s, centre),
        Term(period - 1, tuple(f"{name} x period {i}" for i in range(1, period.max() + 1)),
             "effect", s, centre),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SunAbraham(LeastSquares):
    """
    Estimate group-time effects by the interaction-weighted event study of Sun and Abraham.

    Dummies of every cohort and event time but the last before entry, with unit and period effects
    and covariates as columns. The comparison is always the never treated; where all are treated it
    is the last cohort, in the periods before it enters. On a balanced panel without covariates it
    equals `GroupTime` with never-treated comparison and universal base.

    ``aggregate("event_time")`` averages cohorts by their weight at that event time and
    ``aggregate("simple")`` all effects after entry, as R `fixest` does.

    Exactness: ``moments``; units, clusters and `exit` as in `TWFE`.

    Parameters
    ----------
    weights_random : bool, default False
        Add the sampling error of cohort shares in averages (their equation 30); R takes them as
        fixed.

    Notes
    -----
    Base periods are the last one observed before entry minus anticipation: rows with estimate 0.
    Cohorts that are treated in every period are left out (``meta["dropped_cohorts"]``).

    References
    ----------
    .. [1] Sun, L. and Abraham, S. (2021). Estimating dynamic treatment effects in event studies
       with heterogeneous treatment effects. *Journal of Econometrics* 225(2), 175-199. Section 4.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.SunAbraham().fit(panel, vbc.Design(outcome="spend"))
    >>> est.where(period=2016).tidy()["estimate"].round(6).tolist()
    [-1.5]
    """

    weights_random: bool = False

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression with dummies of cohort and event time."""
        sample, meta = _with_reference_cohort(sample, design)
        made = saturate(sample, design, leads=True)
        codes, names = dummy_codes(made)
        terms = (*plain_covariates(made.sample), Term(codes, names, "treatment"))
        made = made._replace(meta={**made.meta, **meta})
        return saturated_equation(
            made, design, terms, None, n_clusters=n_clusters, weights_random=self.weights_random
        )


def _with_reference_cohort(sample: Sample, design: Design) -> tuple[Sample, dict[str, Any]]:
    """Where none is never treated, the last cohort before its entry is the comparison."""
    if np.isnan(sample.cohort).any():
        return sample, {}
    last = float(sample.cohort.max())
    kept = sample.take(sample.period < last - design.anticipation)
    if not len(kept.units) or not (kept.cohort < last).any():
        raise DesignError(
            f"no unit is never treated, and cohort {last:g}, the last, leaves no earlier period in "
            "which others are treated. Add units that have not entered."
        )
    block = kept.cells.block
    cohort = np.where(block.cohort == last, np.nan, block.cohort)
    kept = kept._replace(cells=kept.cells._replace(block=block._replace(cohort=cohort)))
    return kept, {"reference_cohort": last, "last_period": float(kept.period.max())}
