"""Two-part models of spending: whether there is any, and how much if there is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.dropped import dropped_covariates, said_of_dropped
from vbceval.did.equation import cluster_sums
from vbceval.did.inputs import (
    ONE_CLUSTER,
    design_meta,
    shown,
    small_sample,
    vcov_name,
    without_small_strata,
)
from vbceval.did.least_squares import Groups
from vbceval.did.nonlinear.averages import shares_of
from vbceval.did.nonlinear.cells import constant_within
from vbceval.did.nonlinear.families import Family
from vbceval.did.nonlinear.hurdle import PARTS, Intensity, fit_hurdle, hurdle_effects
from vbceval.did.sampled import Sample, gather
from vbceval.did.saturated import ETWFE
from vbceval.did.strata import naming, samples_by_stratum
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.inference import SSC, Multiplier
from vbceval.moments import Moments
from vbceval.panel import Panel

_SAID = {
    "total": "{}", "extensive": "{}, extensive part", "intensive": "{}, intensive part",
    "any": "any {}", "if_any": "{} if any",
}  # fmt: skip


class _Part(NamedTuple):
    """
    Effects of one stratum: rows, influence (G, k), treated weight (G, k), clusters (G,), covariates
    that were left out.
    """

    rows: list[dict[str, Any]]
    psi: FloatArray
    mass: FloatArray
    clusters: np.ndarray
    first_period: float
    dropped: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class TwoPart:
    """
    Estimate effects on spending as effects on having any, and on how much there is if any.

    Two regressions of the form of `GLMDiD`, with the same columns: the probability p of spending
    above 0 in all rows, and its mean m in the rows above 0. The effect is the mean of p m with
    treatment minus that without, over treated rows, in dollars. It is split in two parts that add
    up to it: extensive, (p1 - p0) times the average of m1 and m0; intensive, (m1 - m0) times the
    average of p1 and p0 (the Shapley value: the mean over both orders in which one can change
    first).

    Use it where both parts are of interest, or their trends differ. For the total alone,
    ``GLMDiD(family="poisson")`` assumes less: parallel trends of one mean. The intensive part is no
    effect on any fixed group of people, because treatment changes who has any spending.

    Exactness: ``rows``; ``moments`` where covariates do not vary within cells and a column says who
    has any (`any`), not with "lognormal".

    Parameters
    ----------
    participation : {"logit", "probit"}
        Regression of having any.
    intensity : {"gamma", "poisson", "gaussian", "lognormal"}
        Regression of how much: logarithm as link with variance mean^2 or mean, identity, or least
        squares of logs times Duan's smearing factor, one for all rows. "lognormal" assumes that
        errors in logs have one distribution; the others assume the mean only.
    any : str, optional
        For moments: outcome that is 1 in rows above 0. Of a panel it is made.
    weights_random : bool, default False
        Count the sampling of the treated rows that are averaged, as in `GLMDiD`.

    Notes
    -----
    Rows of a cohort and period have outcomes ``"<outcome>"`` (total), ``"<outcome>, extensive
    part"``, ``"<outcome>, intensive part"``, ``"any <outcome>"`` (probability) and ``"<outcome> if
    any"`` (mean of m1 - m0 over all treated rows), with the name of the part in column ``part``.

    References
    ----------
    .. [1] Belotti, F., Deb, P., Manning, W. G. and Norton, E. C. (2015). twopm: Two-part models.
       *Stata Journal* 15(1), 3-20.
    .. [2] Duan, N. (1983). Smearing estimate: a nonparametric retransformation method. *Journal of
       the American Statistical Association* 78(383), 605-610.
    .. [3] Wooldridge, J. M. (2023). Simple approaches to nonlinear difference-in-differences with
       panel data. *The Econometrics Journal* 26(3), C31-C66.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> rng = np.random.default_rng(1)
    >>> frame = pd.DataFrame({"id": np.repeat(np.arange(600), 2), "year": [2015, 2016] * 600})
    >>> frame["entry"] = np.where(frame["id"] < 300, 2016.0, np.nan)
    >>> frame["spend"] = np.where(rng.random(1200) < 0.6, rng.gamma(2, 50, 1200), 0.0)
    >>> panel = vbc.Panel.from_frame(frame, unit="id", period="year", cohort="entry")
    >>> est = vbc.did.TwoPart().fit(panel, vbc.Design(outcome="spend"))
    >>> total, extensive, intensive, *_ = est.estimate
    >>> bool(np.isclose(total, extensive + intensive))
    True
    """

    participation: Literal["logit", "probit"] = "logit"
    intensity: Intensity = "gamma"
    any: str | None = None
    weights_random: bool = False

    def __post_init__(self) -> None:
        if self.participation not in ("logit", "probit"):
            raise DesignError(
                f"`participation` is {self.participation!r}; use 'logit' or 'probit'."
            )
        if self.intensity not in get_args(Intensity):
            raise DesignError(
                f"`intensity` is {self.intensity!r}; use {', '.join(map(repr, get_args(Intensity)))}."
            )

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
        Fit both regressions and average effects by cohort and period.

        Parameters
        ----------
        data : Panel or Moments
            With strata, all together (with an effect of each stratum in both indices) and within
            each stratum, jointly.
        design : Design
            As in `GLMDiD`; effects of units are refused.
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            Covariance from the influence by cluster, through both regressions.
        ssc : SSC, optional
            Small-sample factor. Default `SSC.cluster`, G/(G-1), for "CR1"; `SSC.none` for "CR0".

        Returns
        -------
        Estimates
            Totals of every cohort and period, then each part.

        Raises
        ------
        DataError
            If the outcome is negative, zero in no row or in all, or moments do not say who has any.
        DesignError
            If an effect cannot be estimated in one of the regressions, or the design has a base
            period that would not count.
        EstimationError
            If covariates vary within cells, or a regression does not converge.
        """
        factor, multiplier = small_sample("TwoPart", vcov, ssc)
        if design.base_period == "universal" and design.comparison == "not_yet_treated":
            raise DesignError(
                "TwoPart has no base period: every untreated period counts. Leave `base_period` at "
                "its default, or compare with the never treated."
            )
        moments, any_name = self._moments(data, design)
        found, labels = gather(moments, design, [design.outcome, any_name])
        whole = constant_within(found[0][0], design)
        parts = [
            self._part(sample, design, moments, len(labels))
            for sample in samples_by_stratum(whole, moments.strata)
        ]
        sizes = [int(p.clusters.sum()) for p in parts]
        rows = [r for p, n in zip(parts, sizes, strict=True) for r in self._rows(p, factor, n)]
        frame = pd.DataFrame(rows)
        # totals of every stratum, then each part
        order = frame["part"].map(PARTS.index).argsort(kind="stable").to_numpy()
        frame = frame.iloc[order]
        used = np.any([p.clusters for p in parts], axis=0)
        psi = np.concatenate([p.psi for p in parts], axis=1)[used][:, order]
        mass = np.concatenate([p.mass for p in parts], axis=1)[used][:, order]
        root = np.repeat(
            [factor.factor(n_clusters=max(n, 2)) ** 0.5 for n in sizes],
            [len(p.rows) for p in parts],
        )[order]
        dropped = {name: others for p in parts for name, others in p.dropped.items()}
        if moments.people:
            own = moments.unit_name == moments.cluster_name
            frame = without_small_strata(frame, clusters=own)
        meta = {
            "estimator": "TwoPart", "options": asdict(self), "design": design_meta(design),
            "vcov": vcov_name(factor, multiplier), "ssc": factor.name,
            "exactness": "moments" if whole.sums else "rows",
            "n_clusters": int(used.sum()), "cluster": moments.cluster_name,
            "first_period": min(p.first_period for p in parts),
            **({} if self.weights_random else {"influence": "averaged rows taken as fixed"}),
            "language": "effect", "versions": versions("numpy", "scipy", "pandas"),
            "dropped": dropped,
            "warnings": sorted({*said_of_dropped(dropped), *(n for n in frame["note"] if n)}),
        }  # fmt: skip
        return Estimates(
            frame=frame, psi=psi,
            psi_vcov=psi * root, clusters=labels[used], cluster_name=moments.cluster_name,
            shares=Shares(
                value=mass.sum(axis=0), psi=mass if self.weights_random else None, vcov_scale=root
            ),
            multiplier=multiplier, meta=meta,
        )  # fmt: skip

    def _moments(self, data: Panel | Moments, design: Design) -> tuple[Moments, str]:
        """Moments with the outcome and the share above 0, and the name of the latter."""
        if isinstance(data, Panel):
            if self.any is not None:
                raise DesignError("`any` is for moments; of a panel it is made. Leave it out.")
            name = f"any {design.outcome}"
            if missing_columns(data.frame, [design.outcome]):
                raise DataError(f"the panel has no outcome column `{design.outcome}`.")
            y = pd.to_numeric(data.frame[design.outcome], errors="coerce")
            made = data.frame.assign(**{name: (y > 0).astype(float).where(y.notna())})
            panel = replace(data, frame=made)
            return Moments.from_panel(
                panel, outcomes=[design.outcome, name], covariates=design.covariates
            ), name
        if self.any is None:
            raise DataError(
                f"moments do not say in how many rows `{design.outcome}` is above 0. Take them with "
                "a column that is 1 in such rows among `outcomes`, and name it in `any`."
            )
        if design.outcome in data.blocks or self.any in data.blocks:
            raise DataError(
                f"{listed([design.outcome, self.any])} are missing in some rows, so that their "
                "moments are of different rows. Take them again without these rows."
            )
        if self.intensity == "lognormal" and bool((data.n > 1).any()):
            raise EstimationError(
                "intensity='lognormal' needs the logarithm of each row, and these cells are sums of "
                "rows. Use 'gamma', or fit the rows as a Panel."
            )
        return data, self.any

    def _part(self, sample: Sample, design: Design, moments: Moments, n_clusters: int) -> _Part:
        with naming(sample.stratum):
            equation = ETWFE().equation(sample, design, n_clusters)
            sample = equation.sample
            effects = design.fixed_effects or ("cohort", *sample.owner[1:], "period")
            groups = Groups(sample.cells.block.cluster, n_clusters)
            made = fit_hurdle(
                equation, design.outcome, Family(name=self.participation), self.intensity, groups,
                tuple(effects),
            )  # fmt: skip
        share = shares_of(equation.support, sample.cells.block.w, len(equation.rows))
        found = hurdle_effects(made, share, groups, random=self.weights_random)
        shape = (n_clusters, len(equation.rows))
        mass = cluster_sums(sample, sample.cells.block.w, equation.support, shape)
        units = int(sample.count_units(np.zeros(len(sample.units), dtype=np.int64), 1)[0])
        treated = sample.count_units(equation.support, len(equation.rows))
        own = moments.people and moments.unit_name == moments.cluster_name
        clusters = np.bincount(groups.codes, minlength=n_clusters) > 0
        rows = []
        for name in PARTS:
            unit = "probability" if name == "any" else design.unit_of_measure
            for j, key in enumerate(equation.rows):
                here = np.unique(groups.codes[equation.support == j])
                rows.append({
                    **key, "outcome": _SAID[name].format(design.outcome), "part": name,
                    "unit_of_measure": unit, "stratum": sample.stratum,
                    "estimate": float(found[name].value[j]),
                    "n_units": shown(units, moments.people),
                    "n_treated": shown(int(treated[j]), moments.people),
                    "n_comparison": shown(units - int(treated[j]), moments.people),
                    "n_clusters": shown(int(clusters.sum()), own),
                    "note": ONE_CLUSTER if len(here) == 1 else "",
                })  # fmt: skip
        psi = np.concatenate([found[name].psi for name in PARTS], axis=1)
        return _Part(
            rows, psi, np.tile(mass, len(PARTS)), clusters, float(sample.period.min()),
            dropped_covariates([made.any.fit, made.level.fit]),
        )  # fmt: skip

    def _rows(self, part: _Part, factor: SSC, n_clusters: int) -> list[dict[str, Any]]:
        return [{**r, "df": factor.df(n_clusters)} for r in part.rows]
