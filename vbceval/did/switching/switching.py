"""Effects of treatments that are entered, left or changed by degrees."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.disclosure import is_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.disclosed import tells_small, without_small_counts
from vbceval.did.inputs import (
    cluster_labels,
    design_meta,
    shown,
    small_sample,
    strata_of,
    vcov_name,
    without_rounding,
)
from vbceval.did.strata import naming
from vbceval.did.switching.contrasts import Rules, fit_slopes
from vbceval.did.switching.horizons import NAMES, Plan, Row, estimate_rows
from vbceval.did.switching.paths import Paths, read_paths
from vbceval.did.switching.tables import Treated, read_treated, table_of
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates
from vbceval.estimates.columns import EVENT_TIME, OVERALL
from vbceval.inference import SSC, Multiplier, sum_by_cluster
from vbceval.moments import Moments
from vbceval.panel import Panel


class _Part(NamedTuple):
    """Rows of one stratum, the clusters (N,) of its groups, and whether some start so are few."""

    stratum: str | None
    rows: list[Row]
    cluster: np.ndarray
    groups: int
    changing: int
    few: bool
    unidentified: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Switching:
    """
    Effects of a treatment change, where treatment can start, stop or change by degrees.

    A group that changes treatment is compared with groups that had the same treatment at the start
    and have not changed yet. The effect at a horizon is that of the whole path since the first
    change, against the status quo of never changing; with entry only and no exit it is that of
    `GroupTime` by event time. Falls (exits) count with their sign turned, and are reported apart.

    Exactness: rows of a followed panel, or moments of clusters in which treatment does not vary
    within a cell (covariates enter as means).

    Parameters
    ----------
    dose : str, optional
        Column of the treatment, any numbers, one for each group and period. Default: 1 from the
        cohort's period to the `exit` of the panel, else 0.
    effects, placebos : int, optional
        At most so many horizons after and before the change; as many as there are by default
        (placebos: no more than effects). Placebos use the switchers and comparisons of the
        effect over as many periods.
    normalised : bool, default False
        Divide each effect by the treatment change summed since the first change: a weighted
        average of effects of current and lagged treatments, per unit.
    same_switchers : bool, default False
        Only groups that have all `effects`, so that horizons are comparable.
    same_placebo_switchers : bool, default False
        Besides, in placebos only groups that have all of them.
    switchers : {"both", "in", "out"}
        Whose changes: all, rises, or falls.
    linear_trends : bool, default False
        Allow each group a linear trend: outcomes are differenced, and effects added up. Needs two
        periods before the change; there is no total effect.
    trends : str, optional
        Column of sets of groups (constant in a group) that are compared within only.
    cohorts : {"start", "path"}
        Within which groups the variance is taken: same status quo, period and size of first
        change; or, for effects, the same path up to the horizon where two groups share it (R
        ``less_conservative_se``).

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2024). Difference-in-differences estimators
       of intertemporal treatment effects. *Review of Economics and Statistics*, forthcoming.
    .. [2] de Chaisemartin, C. and D'Haultfœuille, X. (2020). Two-way fixed effects estimators with
       heterogeneous treatment effects. *American Economic Review* 110(9), 2964-2996.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2015.0, 2016.0, np.nan, np.nan], 3),
    ...     "exit": np.repeat([2015.0, np.nan, np.nan, np.nan], 3),
    ...     "spend": [10, 7, 9, 20, 21, 19, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", exit="exit")
    >>> est = vbc.did.Switching(effects=2, placebos=1).fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["estimand", "event_time", "estimate"]].values.tolist()
    [['att_event_time', -2.0, 0.0], ['att_event_time', 0.0, -3.5], ['att_event_time', 1.0, -3.0], ['att_overall', nan, -5.0]]
    """

    dose: str | None = None
    effects: int | None = None
    placebos: int | None = None
    normalised: bool = False
    same_switchers: bool = False
    same_placebo_switchers: bool = False
    switchers: Literal["both", "in", "out"] = "both"
    linear_trends: bool = False
    trends: str | None = None
    cohorts: Literal["start", "path"] = "start"

    def __post_init__(self) -> None:
        problems = Problems("the options of Switching", DesignError)
        if self.effects is not None and self.effects < 1:
            problems.add(f"`effects` is {self.effects}; use 1 or more.")
        if self.placebos is not None and self.placebos < 0:
            problems.add(f"`placebos` is {self.placebos}; use 0 or more.")
        if self.switchers not in ("both", "in", "out"):
            problems.add(f"`switchers` is {self.switchers!r}; use 'both', 'in' or 'out'.")
        if self.cohorts not in ("start", "path"):
            problems.add(f"`cohorts` is {self.cohorts!r}; use 'start' or 'path'.")
        if self.same_placebo_switchers and not self.same_switchers:
            problems.add("`same_placebo_switchers` needs same_switchers=True.")
        if self.linear_trends and self.same_switchers:
            problems.add(
                "linear_trends=True adds up effects of the same switchers already; leave out "
                "`same_switchers`."
            )
        problems.raise_if_any()

    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: str | Multiplier = "recentred",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate effects by horizon, placebos, and the total effect per unit of treatment.

        Parameters
        ----------
        data : Panel or Moments
            Groups are the units of a followed panel, else clusters, whose rows are averaged. With
            strata, all together and within each stratum, jointly.
        design : Design
            Outcome, covariates (their changes are adjusted for, by status quo), comparison
            ("never_treated": groups that never change), window in event times (in place of
            `effects` and `placebos`), balance weights.
        vcov : {"recentred", "CR0", "CR1", "bootstrap"} or Multiplier
            "recentred" (default): the authors' variance, outcome changes around cohort means with
            root n / (n - 1), normal quantiles; conservative where effects differ within a cohort.
            The others use the derivative by cluster weights.
        ssc : SSC, optional
            Small-sample factor of "CR1" and "bootstrap".

        Returns
        -------
        Estimates
            ``att_event_time`` with ``event_time`` 0, 1, ... since the first change, and -2, -3, ...
            for placebos (-1 is the base, without a row); ``att_overall``, the total effect per
            unit of treatment; the same with endings ``_in`` and ``_out`` where both occur.
            Columns ``horizon``, ``treatment_change`` (mean, by which effects are or can be
            divided), ``n_treated`` (switchers) and ``n_comparison``.

        Raises
        ------
        DesignError
            If nobody changes treatment while others with the same start wait, there is one
            cluster, treatment is missing or varies within a group and period, or an option does
            not apply.
        """
        if vcov == "recentred":
            if ssc is not None and ssc != SSC.none():
                raise EstimationError(
                    f"vcov='recentred' has its own factor in each cohort, but ssc is '{ssc.name}'. "
                    "Leave it out, or use vcov='CR1'."
                )
            factor, multiplier = SSC.none(), None
        else:
            factor, multiplier = small_sample("Switching", vcov, ssc)
        plan = self._plan(design)
        treated = read_treated(data, design, dose=self.dose, trends=self.trends)
        moments = treated.source.moments
        labels = cluster_labels(moments)
        parts = [
            self._fit_part(treated, rows, stratum, labels, plan, design)
            for stratum, rows in strata_of(moments)
        ]
        used = np.zeros(len(labels), dtype=bool)
        psi, own = [], []
        for part in parts:
            used[part.cluster] = True
            for row in part.rows:
                psi.append(sum_by_cluster(row.psi, part.cluster, len(labels)))
                own.append(sum_by_cluster(row.recentred, part.cluster, len(labels)))
        frame = pd.DataFrame([
            _record(row, part, moments, design) for part in parts for row in part.rows
        ])  # fmt: skip
        if moments.people:
            # both directions are the sum of each
            frame = without_small_counts(
                frame, ["estimand", "horizon"], parts=["horizon"],
                told=[part.few for part in parts for _ in part.rows],
                clusters=moments.unit_name == moments.cluster_name,
            )  # fmt: skip
        size = np.abs(frame["estimate"].to_numpy(dtype=float))
        derivative, recentred = (
            without_rounding(np.column_stack(found)[used], size) for found in (psi, own)
        )
        psi_vcov = recentred
        if vcov != "recentred":
            sizes = [len(np.unique(part.cluster)) for part in parts for _ in part.rows]
            psi_vcov = derivative * np.sqrt([factor.factor(n_clusters=size) for size in sizes])
            frame["df"] = [factor.df(size) for size in sizes]
        name = "recentred" if vcov == "recentred" else vcov_name(factor, multiplier)
        return Estimates(
            frame=frame, psi=derivative, psi_vcov=psi_vcov, clusters=labels[used],
            cluster_name=moments.cluster_name, multiplier=multiplier,
            meta=self._meta(parts, moments, design, name, factor, int(used.sum())),
        )  # fmt: skip

    def _plan(self, design: Design) -> Plan:
        problems = Problems("the design", DesignError)
        if design.base_period == "universal":
            problems.add(
                "every effect of Switching has the period before the change as base; leave "
                "`base_period` at its default."
            )
        if design.anticipation:
            problems.add(
                "Switching takes no `anticipation`: date the change earlier in the treatment "
                "column instead."
            )
        if design.fixed_effects is not None:
            problems.add("Switching takes no `fixed_effects`; see `trends` and `linear_trends`.")
        effects, placebos = self.effects, self.placebos
        if design.window is not None:
            if effects is not None or placebos is not None:
                problems.add("give `window`, or `effects` and `placebos`, not both.")
            if design.window[1] < 0:
                problems.add(f"`window` {design.window} holds no event time from 0 on.")
            effects, placebos = design.window[1] + 1, max(-design.window[0] - 1, 0)
        problems.raise_if_any()
        signs = {"both": (1, -1), "in": (1,), "out": (-1,)}[self.switchers]
        return Plan(
            effects=effects, placebos=placebos, directions=signs,
            same_switchers=self.same_switchers,
            same_placebo_switchers=self.same_placebo_switchers, normalised=self.normalised,
            differences=self.linear_trends,
        )  # fmt: skip

    def _fit_part(
        self,
        treated: Treated,
        rows: np.ndarray,
        stratum: str | None,
        labels: pd.Index,
        plan: Plan,
        design: Design,
    ) -> _Part:
        with naming(stratum):
            table = table_of(treated, rows, labels)
            paths = read_paths(table, differences=self.linear_trends)
            moments = treated.source.moments
            coarse = moments.kind == "panel" and moments.unit_name != moments.cluster_name
            rules = Rules(design.comparison == "never_treated", self.cohorts, coarse)
            slopes = fit_slopes(paths, rules) if table.x.shape[2] else None
            found = estimate_rows(paths, plan, rules, slopes)
            if not any(row.horizon is None or row.horizon > 0 for row in found):
                raise DesignError(
                    f"no group changes treatment ({self.switchers}) while one with the same start "
                    "has not, so there is no effect to estimate. Use other `switchers`, or "
                    "comparison='not_yet_treated'."
                )
        return _Part(
            stratum, found, paths.table.cluster, len(paths.first),
            int((paths.sign != 0).sum()),
            _people(moments) and _tells_few(paths, found),
            () if slopes is None else slopes.unidentified,
        )  # fmt: skip

    def _meta(
        self,
        parts: list[_Part],
        moments: Moments,
        design: Design,
        vcov: str,
        ssc: SSC,
        n_clusters: int,
    ) -> dict[str, Any]:
        said = []
        # of all and of each stratum they would tell one that is few
        few = any(part.few for part in parts) or (
            moments.people and bool(is_small([p.groups - p.changing for p in parts]).any())
        )
        for part in parts:
            within = "" if part.stratum is None else f"{part.stratum}: "
            if part.unidentified:
                levels = ", ".join(f"{d:g}" for d in part.unidentified)
                said.append(
                    f"{within}covariates are collinear among groups that start with treatment "
                    f"{levels}: their least-norm slopes are used."
                )
            if any(row.direction == "out" for row in part.rows):
                said.append(f"{within}leaving a treatment is a choice: read effects of falls so.")
        return {
            "estimator": "Switching", "options": asdict(self), "design": design_meta(design),
            "vcov": vcov, "ssc": ssc.name,
            "exactness": "moments" if moments.xx is not None else "unit pass",
            "n_clusters": n_clusters, "cluster": moments.cluster_name,
            "groups": {p.stratum or "all": shown(p.groups, moments.people) for p in parts},
            "changing": {
                p.stratum or "all": np.nan if few else shown(p.changing, moments.people)
                for p in parts
            },
            "language": "effect", "versions": versions("numpy", "scipy", "pandas"),
            "warnings": said,
        }  # fmt: skip


def _tells_few(paths: Paths, rows: list[Row]) -> bool:
    """Whether counts of horizons would tell a cohort of 1-10 groups, in some of them only."""
    keys = np.column_stack([paths.start, paths.first])
    code = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    sizes = np.bincount(code)
    for direction in {row.direction for row in rows}:
        same = [row for row in rows if row.direction == direction]
        for counted in (
            [row.switchers for row in same],
            [row.used & ~row.switchers for row in same],
        ):
            held = np.array([np.bincount(code[who], minlength=len(sizes)) > 0 for who in counted])
            if tells_small(sizes, held):
                return True
    return False


def _people(moments: Moments) -> bool:
    """Whether groups may be people: followed units, or clusters that are."""
    whole = moments.kind == "panel" or moments.unit_name == moments.cluster_name
    return moments.people and whole


def _record(row: Row, part: _Part, moments: Moments, design: Design) -> dict[str, Any]:
    """Return keys, estimate and counts of one row."""
    suffix = f"_{row.direction}" if row.direction in NAMES.values() else ""
    if all(r.direction == row.direction for r in part.rows):
        # one direction only was asked for, so it needs no name of its own
        suffix = ""
    event_time = np.nan
    if row.horizon is not None:
        event_time = float(row.horizon - 1)
    treated, used = int(row.switchers.sum()), int(row.used.sum())
    counts = {"n_units": used, "n_treated": treated, "n_comparison": used - treated}
    clusters = len(np.unique(part.cluster[row.used]))
    own = moments.people and moments.unit_name == moments.cluster_name
    return {
        "estimand": (OVERALL if row.horizon is None else EVENT_TIME) + suffix,
        "outcome": design.outcome, "unit_of_measure": design.unit_of_measure,
        "event_time": event_time, "stratum": part.stratum, "estimate": row.estimate,
        **{name: shown(count, moments.people) for name, count in counts.items()},
        "n_clusters": shown(clusters, own), "horizon": row.horizon,
        "treatment_change": row.treatment, "switchers": row.direction,
    }  # fmt: skip
