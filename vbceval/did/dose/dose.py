"""Effects by the amount of treatment (Callaway, Goodman-Bacon and Sant'Anna 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.core.version import versions
from vbceval.design import Design, group_time_pairs
from vbceval.did.blocks import Block, complete, follow, usable_cohorts
from vbceval.did.disclosed import without_small_counts
from vbceval.did.dose.basis import Basis, make_basis
from vbceval.did.dose.curves import Curve, fit_curve
from vbceval.did.dose.options import checked, unread
from vbceval.did.dose.parts import Part, counts, group_time, joined, refuse_failed, unit_doses
from vbceval.did.extra_columns import with_columns
from vbceval.did.inputs import (
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
    without_rounding,
)
from vbceval.did.solve import ComparisonFailure
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates
from vbceval.estimates.columns import OVERALL
from vbceval.inference import SSC, Multiplier, sum_by_cluster
from vbceval.moments import Moments
from vbceval.panel import Panel

DOSE = "att_dose"
"""``estimand`` of rows of a dose curve (with estimand='slope': "acrt_dose")."""
MOST_KNOTS = 5
"""Most inner knots that `knots="bic"` tries."""
_FEW = 30


@dataclass(frozen=True, kw_only=True)
class Dose:
    """
    Effects of a dose that stays the same from entry on, as a curve and averaged.

    The change of outcomes of treated units is fitted as a function of their dose, cohort by cohort
    and period by period, and the change of comparison units is taken off. The level, ATT(d|d), is
    the effect of dose d on those who have it, under parallel trends. The slope, ACRT(d), is the
    effect of a little more dose only under *strong* parallel trends: units with different doses
    would have responded alike to the same dose. Without it the slope also holds selection into
    doses.

    Exactness: the rows of a followed panel (``unit pass``).

    Parameters
    ----------
    dose : str
        Column of the dose: positive and constant in treated periods of a unit that enters. Values
        of other rows are not read, so units that are not seen after entry are left out.
    estimand : {"level", "slope"}
        Which curve.
    aggregation : {"dose", "group_time"}
        "dose": the curve at `grid`, averaged over cohorts and treated periods, and its mean over
        the doses of the treated (``att_overall``: ATT^o, or ACRT^o). "group_time": that mean for
        each cohort and period, also before entry (placebos); `Estimates.aggregate` averages it by
        event time.
    average : {"cohort", "simple"}
        For "dose": each cohort over its periods, then cohorts by their share (R `contdid`); or
        every cohort and period by the cohort's share.
    basis : {"spline", "discrete", "bins"}
        B-spline (a polynomial without knots); one level for each distinct dose; one level for
        each of `bins` intervals with equal numbers of units.
    degree : int, default 3
        Degree of the spline.
    knots : int, sequence of float, or "bic", default 0
        Inner knots: how many, at quantiles of the dose; where; or as many, up to 5, as the Bayes
        information criterion of treated periods chooses, which the errors do not account for.
    bins : int, default 3
        Number of intervals.
    grid : sequence of float, optional
        Doses at which the curve is reported. Default: percentiles 10, 15, ..., 95 of the treated
        units, the distinct doses, or the mean dose in each interval.
    weights_random : bool, default True
        For "dose", add the sampling error of cohort shares; R takes them as fixed.

    References
    ----------
    .. [1] Callaway, B., Goodman-Bacon, A. and Sant'Anna, P. H. C. (2024).
       Difference-in-differences with a continuous treatment. Working paper, arXiv:2107.02637.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> share = np.array([0, 0, 0, 1, 2, 3, 4, 5])
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(np.arange(8), 2), "year": np.tile([2014, 2015], 8),
    ...     "entry": np.repeat(np.where(share > 0, 2015.0, np.nan), 2), "share": np.repeat(share, 2),
    ...     "spend": np.ravel([[10 * i, 10 * i + 1 - 2 * d] for i, d in enumerate(share)])})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.Dose(dose="share", degree=1, grid=[2, 4]).fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["estimand", "dose", "estimate"]].round(6).values.tolist()
    [['att_dose', 2.0, -4.0], ['att_dose', 4.0, -8.0], ['att_overall', nan, -6.0]]
    """

    dose: str
    estimand: Literal["level", "slope"] = "level"
    aggregation: Literal["dose", "group_time"] = "dose"
    average: Literal["cohort", "simple"] = "cohort"
    basis: Literal["spline", "discrete", "bins"] = "spline"
    degree: int = 3
    knots: int | Sequence[float] | Literal["bic"] = 0
    bins: int = 3
    grid: Sequence[float] | None = None
    weights_random: bool = True

    def __post_init__(self) -> None:
        for name, value in checked(asdict(self)).items():
            object.__setattr__(self, name, value)

    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate the dose curve, or its mean by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            Followed units; moments of rows need the dose among their covariates. With strata, all
            together and within each stratum, jointly.
        design : Design
            Outcome, comparison, base period, anticipation, window, covariates (outcome regression
            among comparison units), balance weights.
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            Cluster-robust covariance from the influence; or errors and bands from the multiplier
            bootstrap, as R `contdid`.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster` for "CR1".

        Returns
        -------
        Estimates
            Column ``dose`` for rows of a curve, in increasing order, with simultaneous bands over
            them; slopes are in the unit of the outcome per unit of dose. ``meta`` holds the
            assumption, knots, and cohort-periods left out.

        Raises
        ------
        DesignError
            If the dose is missing, not positive or changes in treated periods, doses are too few
            for the basis, or nothing can be compared or covariates are collinear in a cohort and
            period.
        EstimationError
            If units are not followed.
        """
        factor, multiplier = small_sample("Dose", vcov, ssc)
        if design.fixed_effects is not None:
            raise DesignError("Dose compares changes and takes no `fixed_effects`. Leave them out.")
        source = with_columns(data, design, [self.dose])
        moments, dose = source.moments, source.values[self.dose]
        if moments.kind != "panel" or moments.xx is not None:
            raise EstimationError(
                "Dose follows units from their base period on, and these data are sums of rows or "
                "not followed. Give the rows as a Panel, or first average them to one row a unit "
                "and period."
            )
        labels = cluster_labels(moments)
        whole = source.block(labels)
        live = complete(whole)
        parts = [
            self._fit_part(
                whole.take(rows[live[rows]]), dose[rows[live[rows]]], moments, design, stratum,
                len(labels),
            )
            for stratum, rows in strata_of(moments)
        ]  # fmt: skip
        used = np.any([part.clusters for part in parts], axis=0)
        results = [
            self._curve(part, moments, design, labels, used)
            if self.aggregation == "dose"
            else self._pairs(part, moments, design, labels, used)
            for part in parts
        ]
        sizes = np.repeat([int(p.clusters.sum()) for p in parts], [len(r.frame) for r in results])
        root = np.sqrt([factor.factor(n_clusters=max(int(size), 2)) for size in sizes])
        frame = pd.concat([r.frame for r in results], ignore_index=True)
        frame["df"] = [factor.df(int(size)) for size in sizes]
        if moments.people:
            keys = ["cohort", "period"] if self.aggregation == "group_time" else ["dose"]
            own = moments.unit_name == moments.cluster_name
            frame = without_small_counts(frame, keys, clusters=own)
        psi = np.concatenate(
            [
                without_rounding(r.influence().to_numpy(), p.size)
                for r, p in zip(results, parts, strict=True)
            ],
            axis=1,
        )
        known = [r.shares for r in results if r.shares is not None]
        shares = joined(known, root) if self.aggregation == "group_time" else None
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * root, clusters=labels[used],
            cluster_name=moments.cluster_name, shares=shares, multiplier=multiplier,
            meta=self._meta(parts, moments, design, vcov_name(factor, multiplier), factor, int(used.sum())),
        )  # fmt: skip

    def _fit_part(
        self,
        block: Block,
        dose: FloatArray,
        moments: Moments,
        design: Design,
        stratum: str | None,
        n_clusters: int,
    ) -> Part:
        within = "" if stratum is None else f"stratum `{stratum}`: "
        periods = np.unique(block.period)
        cohorts = np.unique(block.cohort[np.isfinite(block.cohort)])
        try:
            pairs, dropped = group_time_pairs(periods, cohorts, design)
        except DesignError as error:
            raise DesignError(f"{within}{error}") from error
        keep = ~np.isin(block.cohort, dropped)
        dose, block = dose[keep], usable_cohorts(block, dropped)
        index = follow(block, periods)
        last = float(periods[-1]) + design.anticipation
        of_unit, treated = unit_doses(block, index, dose, last, moments.people, self.dose, within)
        pairs = [pair for pair in pairs if not pair.is_reference]
        if self.aggregation == "dose":
            pairs = [pair for pair in pairs if pair.event_time >= 0]
        if not pairs:
            raise DesignError(
                f"{within}no period at or after entry lies in `window` {design.window}, so there is no "
                "curve. Widen it, or use aggregation='group_time' for periods before entry."
            )

        def curves(basis: Basis) -> tuple[list[Curve], list[str]]:
            found, failed = [], []
            for pair in pairs:
                try:
                    curve = fit_curve(block, index, periods, pair, of_unit, basis, last, n_clusters)
                except ComparisonFailure as error:
                    failed.append(f"cohort {pair.cohort:g} at period {pair.period:g}: {error}")
                    continue
                if curve is not None:
                    found.append(curve)
            return found, failed

        basis, (found, failed) = self._chosen(of_unit[treated], curves)
        refuse_failed(found, failed, len(pairs), within)
        first = index.first
        masses = {
            float(g): sum_by_cluster(
                block.w[first] * (block.cohort[first] == g), block.cluster[first], n_clusters
            )
            for g in np.unique([c.pair.cohort for c in found])
        }
        # a cluster that moves a cohort's share is in the sample, even if no change of it is used
        clusters = np.any([*(c.clusters for c in found), *(m > 0 for m in masses.values())], axis=0)
        grid = self._grid(of_unit[treated], basis)
        # slopes are in the unit of the outcome over that of the dose
        size = float(np.abs(block.y).max())
        size /= 1.0 if self.estimand == "level" else basis.width
        return Part(stratum, found, masses, basis, grid, clusters, size)

    def _chosen(
        self, dose: FloatArray, curves: Callable[[Basis], tuple[list[Curve], list[str]]]
    ) -> tuple[Basis, tuple[list[Curve], list[str]]]:
        """Return the functions of the dose and the curves, knots by criterion where asked."""

        def basis(knots: int | FloatArray) -> Basis:
            return make_basis(dose, self.basis, degree=self.degree, knots=knots, bins=self.bins)

        if self.basis != "spline" or self.knots != "bic":
            knots = self.knots if isinstance(self.knots, int) else np.array(self.knots, dtype=float)
            chosen = basis(0 if self.basis != "spline" else knots)
            return chosen, curves(chosen)
        best: tuple[float, Basis, tuple[list[Curve], list[str]]] | None = None
        for count in range(MOST_KNOTS + 1):
            try:
                candidate = basis(count)
            except DesignError:
                break
            found = curves(candidate)
            if found[1]:
                break
            criterion = sum(
                len(c.dose) * np.log(c.rss + 1e-300) + candidate.size * np.log(len(c.dose))
                for c in found[0] if c.pair.event_time >= 0
            )  # fmt: skip
            if best is None or criterion < best[0]:
                best = (float(criterion), candidate, found)
        if best is None:
            chosen = basis(0)
            return chosen, curves(chosen)
        return best[1], best[2]

    def _grid(self, dose: FloatArray, basis: Basis) -> FloatArray:
        if self.grid is not None:
            return np.sort(np.array(self.grid))
        if basis.kind == "discrete":
            return basis.points
        if basis.kind == "bins":
            place = basis.values(dose)
            return np.asarray(place.T @ dose / place.sum(axis=0))
        return np.unique(np.percentile(dose, np.arange(10, 100, 5)))

    def _curve(
        self, part: Part, moments: Moments, design: Design, labels: pd.Index, used: BoolArray
    ) -> Estimates:
        """Average each point of the curve, and the mean of the curve, over cohorts and periods."""
        name = DOSE if self.estimand == "level" else "acrt_dose"
        rows = self._rows(part.basis, part.basis.nearest(part.grid))
        means = self._means(part)
        results = []
        for dose, row in zip(part.grid, rows, strict=True):
            curves = [c for c in part.curves if c.supports(row)]
            values = [c.at(row) for c in curves]
            results.append(self._averaged(part, curves, values, labels, used, name, float(dose)))
        results.append(
            self._averaged(part, part.curves, means, labels, used, self._overall, np.nan)
        )
        frame = pd.concat([r.frame for r in results], ignore_index=True)
        psi = np.concatenate([r.influence().to_numpy() for r in results], axis=1)
        frame = frame.assign(
            outcome=design.outcome, unit_of_measure=design.unit_of_measure, stratum=part.stratum,
            **counts(part, moments),
        )  # fmt: skip
        return Estimates(
            frame=frame, psi=psi, clusters=labels[used], cluster_name=moments.cluster_name
        )

    @property
    def _overall(self) -> str:
        return OVERALL if self.estimand == "level" else "acrt_overall"

    def _rows(self, basis: Basis, dose: FloatArray) -> FloatArray:
        return basis.values(dose) if self.estimand == "level" else basis.slopes(dose)

    def _means(self, part: Part) -> list[tuple[float, FloatArray]]:
        """Return the mean of each curve over its treated units, with its influence."""
        rows = [self._rows(part.basis, c.dose) for c in part.curves]
        lost = {
            c.pair.cohort
            for c, own in zip(part.curves, rows, strict=True)
            if not c.supports(np.abs(own).max(axis=0))
        }
        if lost:
            raise DesignError(
                f"cohort {listed(f'{g:g}' for g in sorted(lost))} lacks doses below those it has, "
                "so the slope between them is not seen in it. Use basis='spline', or leave these "
                "cohorts out."
            )
        return [c.average(own) for c, own in zip(part.curves, rows, strict=True)]

    def _averaged(
        self,
        part: Part,
        curves: list[Curve],
        values: list[tuple[float, FloatArray]],
        labels: pd.Index,
        used: BoolArray,
        name: str,
        dose: float,
    ) -> Estimates:
        each = group_time(curves, values, part.masses, labels, used)
        average = each.aggregate(self.average, weights_random=self.weights_random).overall()
        frame = average.frame[["estimate"]].assign(estimand=name, dose=dose)
        return average.with_frame(frame)

    def _pairs(
        self, part: Part, moments: Moments, design: Design, labels: pd.Index, used: BoolArray
    ) -> Estimates:
        """Return the mean of the curve over treated units, by cohort and period."""
        values = self._means(part)
        each = group_time(part.curves, values, part.masses, labels, used)
        n_treated = [shown(len(c.dose), moments.people) for c in part.curves]
        n_comparison = [shown(c.n_comparison, moments.people) for c in part.curves]
        frame = each.frame.assign(
            outcome=design.outcome, unit_of_measure=design.unit_of_measure, stratum=part.stratum,
            n_treated=n_treated, n_comparison=n_comparison,
            n_units=np.add(n_treated, n_comparison),
            n_clusters=[int(c.clusters.sum()) for c in part.curves],
        )  # fmt: skip
        return each.with_frame(frame)

    def _meta(
        self,
        parts: list[Part],
        moments: Moments,
        design: Design,
        vcov: str,
        ssc: SSC,
        n_clusters: int,
    ) -> dict[str, Any]:
        said = unread(asdict(self))
        for part in parts:
            within = "" if part.stratum is None else f"{part.stratum}: "
            fewest = min(len(np.unique(c.own)) for c in part.curves)
            if fewest < _FEW and part.basis.kind == "spline":
                said.append(
                    f"{within}a cohort has fewer than {_FEW} treated clusters, few for a curve; "
                    "compare with basis='bins'."
                )
            low = max(c.dose.min() for c in part.curves)
            high = min(c.dose.max() for c in part.curves)
            curve = self.aggregation == "dose" and part.basis.kind == "spline"
            if curve and ((part.grid < low) | (part.grid > high)).any():
                said.append(
                    f"{within}some doses of `grid` lie outside the doses of a cohort, whose curve "
                    "is extrapolated there."
                )
        assumption = "parallel trends"
        if self.estimand == "slope":
            assumption = "strong parallel trends: the same response to a dose whatever dose was got"
        return {
            "estimator": "Dose", "options": asdict(self), "design": design_meta(design),
            "vcov": vcov, "ssc": ssc.name, "exactness": "unit pass", "n_clusters": n_clusters,
            "cluster": moments.cluster_name, "language": "effect", "assumption": assumption,
            "knots": {p.stratum or "all": [float(k) for k in p.basis.knots] for p in parts
                      if p.basis.kind == "spline"},
            "versions": versions("numpy", "scipy", "pandas"), "warnings": said,
        }  # fmt: skip
