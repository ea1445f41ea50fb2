"""Difference-in-differences of a nonlinear mean, by quasi-likelihood (Wooldridge 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.covariances import Law, Vcov, read_law
from vbceval.did.equation import Equation, cluster_sums
from vbceval.did.event_study import EventStudy
from vbceval.did.inputs import shown
from vbceval.did.least_squares import Fit, Groups
from vbceval.did.nonlinear.averages import (
    Average,
    Index,
    Scale,
    average_effects,
    mixing,
    shares_of,
)
from vbceval.did.nonlinear.cells import constant_within, only
from vbceval.did.nonlinear.families import Family, Name
from vbceval.did.nonlinear.rates import as_rates
from vbceval.did.nonlinear.scoring import score
from vbceval.did.regression import Regression
from vbceval.did.sampled import Sample, with_effects
from vbceval.did.sandwich import Errors, Piece
from vbceval.did.saturated import ETWFE
from vbceval.did.strata import naming
from vbceval.did.twfe import TWFE
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

_SOURCES: Mapping[str, Regression] = {
    "saturated": ETWFE(), "common": TWFE(), "event_time": EventStudy()
}  # fmt: skip
"""Linear regressions with the columns of the index."""
_UNITS = {"link": "difference of the index", "percent": "percent of the mean without treatment"}


class Averaging(NamedTuple):
    """Influence of clusters through the rows that are averaged, shape (G, r)."""

    psi: FloatArray

    def influence(self, fit: Fit, outcome: int, contrast: FloatArray) -> FloatArray:
        """Return it; rows that are coefficients have none."""
        out = np.zeros((len(self.psi), contrast.shape[1]))
        out[:, : self.psi.shape[1]] = self.psi
        return out


class Averaged(Piece):
    """
    One outcome whose reported values are averages, not combinations of coefficients.

    Attributes
    ----------
    value : array, shape (r,)
        Reported values.
    shares : Shares or None
        By which group-time effects are averaged; influence has a row for every cluster.
    lost_units : int
        Units left out because they have no event.
    """

    value: FloatArray
    shares: Shares | None
    lost_units: int

    @property
    def estimate(self) -> FloatArray:
        """Reported values, shape (r,)."""
        return self.value


@dataclass(frozen=True, kw_only=True)
class GLMDiD(Regression):
    """
    Estimate group-time effects of counts, shares and spending, with parallel trends in the index.

    The mean without treatment is h(cohort effect + period effect + covariates), and every cohort
    and treated period has a shift of its own in the index. With h the exponential, untreated means
    of all cohorts grow by the same percent; with the logistic function, by the same log odds. The
    effect is the mean with treatment minus the mean without it, averaged over treated rows.

    Only the mean is assumed: quasi-likelihood is consistent whatever the variance, and errors are
    by cluster. For spending with zeros use ``family="poisson"`` on dollars. An outcome is never
    transformed: effects on log(y + 1) depend on the unit of y (Chen and Roth 2024).

    Exactness: ``moments`` where covariates do not vary within cells; otherwise rows.

    Parameters
    ----------
    family : {"poisson", "logit", "gamma", "tweedie", "probit", "gaussian"}
        Mean and variance. "poisson", "gamma" and "tweedie" have the logarithm as link, "gaussian"
        the identity. On "poisson", "logit" and "gaussian" (canonical links) effects equal those of
        imputation from untreated rows.
    power : float, optional
        Variance is mean^power in "tweedie".
    scale : {"response", "link", "percent"}
        Unit of results. "response": that of the outcome. "link": mean shift of the index, with the
        logarithm log points, of which exp(x) - 1 is a percent change. "percent": 100 times the
        effect over the mean without treatment; averages of such rows are total effect over total
        mean without treatment.
    effect : {"saturated", "common", "event_time"}
        A shift for each cohort and period; one for all treated rows, which is `TWFE` in the index;
        or one for each period since entry and before it, which is `EventStudy` in the index. The
        last two compare treated cells with each other, as those do.
    offset : bool, default False
        For "poisson": the outcome is a count or total, and the exposure of the panel its
        denominator. The logarithm of exposure enters the index with coefficient 1, and effects are
        per unit of exposure.
    weights_random : bool, default False
        Count the sampling of the treated rows that are averaged. R `etwfe` takes them as fixed.
        With effects of units on the scale "response" it is always counted: fitted levels of units
        have no error of their own otherwise.
    covariate_rows : bool, default False
        As in `TWFE`: coefficients of covariates as further rows.

    Notes
    -----
    Effects of cohorts are the default; ``fixed_effects=("unit", "period")`` of the design gives
    units their own, for "poisson" only, as R `fepois` does: units whose outcome is 0 in all rows
    are left out (``meta["units_without_events"]``). With other families estimated unit effects bias
    the rest when there are few periods.

    Covariates get a slope for each cohort and period and interact with every effect, as in `ETWFE`;
    with the other choices of `effect` they enter once.

    References
    ----------
    .. [1] Wooldridge, J. M. (2023). Simple approaches to nonlinear difference-in-differences with
       panel data. *The Econometrics Journal* 26(3), C31-C66. Sections 3 to 5.
    .. [2] Chen, J. and Roth, J. (2024). Logs with zeros? Some problems and solutions. *Quarterly
       Journal of Economics* 139(2), 891-936.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 2), "year": [2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 2),
    ...     "visits": [10, 12, 30, 36, 20, 30, 20, 30]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> design = vbc.Design(outcome="visits")
    >>> [vbc.did.GLMDiD(family="poisson", scale=s).fit(panel, design).estimate.round(4).item()
    ...  for s in ("response", "percent", "link")]
    [-6.0, -20.0, -0.2231]
    """

    family: Name = "poisson"
    power: float | None = None
    scale: Scale = "response"
    effect: Literal["saturated", "common", "event_time"] = "saturated"
    offset: bool = False
    weights_random: bool = False

    def __post_init__(self) -> None:
        made = Family(name=self.family, power=self.power)
        if self.scale not in ("response", "link", "percent"):
            raise DesignError(f"`scale` is {self.scale!r}; use 'response', 'link' or 'percent'.")
        if self.effect not in _SOURCES:
            raise DesignError(f"`effect` is {self.effect!r}; use {', '.join(map(repr, _SOURCES))}.")
        if self.offset and made.name != "poisson":
            raise DesignError(
                f"`offset` is for family 'poisson', not {made.name!r}. Give the rate or share as "
                "outcome, and its denominator as weight of the panel."
            )

    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Vcov = "CR1",
        ssc: SSC | None = None,
        outcomes: Sequence[str] | None = None,
    ) -> Estimates:
        """
        Fit the regression by quasi-likelihood and average effects.

        Parameters
        ----------
        data : Panel or Moments
            With strata, all together (with an effect of each stratum in the index, unless the
            design names its effects) and within each stratum, jointly.
        design : Design
            As in `ETWFE`. With ``comparison="never_treated"`` leads are estimated as well.
        vcov : str, tuple or Multiplier
            "CR1" (default), "CR0"; "CR2" and "CR3" of the last weighted regression, with
            Satterthwaite degrees of freedom; "bootstrap"; "HC1"; ``("two_way", key, key)``.
        ssc : SSC, optional
            Small-sample factor. Default for "CR1" and two-way: `SSC.fixest`.
        outcomes : sequence of str, optional
            Outcomes estimated together, in place of that of the design.

        Returns
        -------
        Estimates
            In the unit of `scale`. With "HC1" and two-way there is a covariance and no influence.

        Raises
        ------
        DataError
            If an outcome cannot have the family, or exposure is missing.
        DesignError
            If an effect cannot be estimated, or is infinite because there are no events.
        EstimationError
            If covariates vary within cells, the fit does not converge, or the covariance is not
            defined.
        """
        law = read_law(vcov, ssc)
        if law.kind == "iid" or law.wild is not None:
            raise EstimationError(
                f"GLMDiD has no '{law.name}' covariance: its variance function is not trusted, and "
                "scores are not linear in coefficients. Use 'CR1', 'CR2' or 'bootstrap'."
            )
        if self.offset:
            names = [design.outcome] if outcomes is None else list(outcomes)
            data = as_rates(data, design, names)
        return super().fit(data, design, vcov=vcov, ssc=ssc, outcomes=outcomes)

    def _refusal(self, design: Design) -> str | None:
        if design.base_period == "universal" and not (
            self.effect == "event_time"
            or (self.effect == "saturated" and design.comparison == "never_treated")
        ):
            return (
                "GLMDiD has no base period: every untreated period counts. Leave `base_period` at "
                "its default, or compare with the never treated."
            )
        return None

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the columns of the index, with cohort effects unless the design names others."""
        made = _SOURCES[self.effect].equation(sample, design, n_clusters)
        return made._replace(effects=("cohort", *made.sample.owner[1:], "period"))

    def _pieces(self, sample: Sample, design: Design, n_clusters: int) -> list[Piece]:
        with naming(sample.stratum):
            return [
                self._piece(only(sample, j), design, n_clusters)
                for j in range(len(sample.outcomes))
            ]

    def _piece(self, sample: Sample, design: Design, n_clusters: int) -> Averaged:
        sample, lost = self._with_events(constant_within(sample, design), design)
        equation = self.equation(sample, design, n_clusters)
        first, contrast = self._fitted(equation, design)
        family = Family(name=self.family, power=self.power)
        sample = equation.sample
        # least squares keeps its outcome about the eliminated effects
        cells = first.cells._replace(y=sample.cells.y)
        scored = score(cells, first, family, sample.outcomes[0])
        fit = scored.fit
        moved = fit.z.where("treatment")
        if self.effect == "saturated":
            # covariates of this role are interactions with the effects
            moved = np.concatenate([fit.z.where("covariate"), moved])
        n_rows = len(equation.rows)
        share = shares_of(equation.support, sample.cells.block.w, n_rows)
        mixed = mixing(n_rows, equation.pooled)
        index = Index.of(fit.z.mean, fit.beta[:, 0], scored.eta, moved)
        made, without = average_effects(fit, index, family, share, mixed, self.scale)
        value = np.concatenate([made.value, contrast[:, n_rows:].T @ fit.beta[:, 0]])
        contrast = np.concatenate([made.gradient, contrast[:, n_rows:]], axis=1)
        random = self.weights_random or (
            first.cells.absorbed is not None and self.scale == "response"
        )
        if random:
            codes = sample.cells.block.cluster
            psi = Groups(codes, n_clusters).sums(np.ones(len(codes))) @ made.direct
            equation = equation._replace(estimated=Averaging(np.asarray(psi.toarray())))
        out = Averaged(equation, fit, 0, contrast)
        out.value, out.lost_units = value, lost
        out.shares = self._shares(out, index, without, n_clusters)
        return out

    def _with_events(self, sample: Sample, design: Design) -> tuple[Sample, int]:
        """Leave out units with effects of their own and no event; refuse where effects are biased."""
        if design.fixed_effects is None:
            return sample, 0
        made, _ = with_effects(sample, design.fixed_effects)
        codes = made.cells.absorbed
        if codes is None:
            return sample, 0
        if self.family not in ("poisson", "gaussian"):
            raise EstimationError(
                f"`fixed_effects` gives units effects of their own, which bias a {self.family} "
                "regression when periods are few. Use effects of cohorts (the default) with "
                "covariates of units, or family='poisson'."
            )
        if self.family == "gaussian":
            return sample, 0
        block = sample.cells.block
        events = np.bincount(codes, weights=block.w * sample.cells.y[:, 0])
        empty = events[codes] <= 0
        return sample.take(~empty), len(np.unique(codes[empty]))

    def _shares(
        self, piece: Averaged, index: Index, without: Average, n_clusters: int
    ) -> Shares | None:
        """Treated weight; on the scale "percent", total mean without treatment."""
        equation, fit = piece.equation, piece.fit
        rows = len(equation.rows)
        if equation.shares is None or len(piece.value) > rows:
            return None
        sample, w = equation.sample, equation.sample.cells.block.w
        mass = cluster_sums(sample, w, equation.support, (n_clusters, rows))
        value, psi = mass.sum(axis=0), mass if self.weights_random else None
        if self.scale == "percent":
            scores = fit.scores(Groups(sample.cells.block.cluster, n_clusters))[0]
            psi = np.asarray(scores @ (fit.inverse @ without.gradient)) * value
            if self.weights_random:
                level = w * Family(name=self.family, power=self.power).mean(index.without)
                psi = psi + cluster_sums(sample, level, equation.support, mass.shape)
            value = value * without.value
        return Shares(value=value, psi=psi)

    def _assemble(
        self,
        pieces: Sequence[Piece],
        errors: Errors,
        law: Law,
        moments: Moments,
        design: Design,
        labels: pd.Index,
    ) -> Estimates:
        est = super()._assemble(pieces, errors, law, moments, design, labels)
        averaged = [p for p in pieces if isinstance(p, Averaged)]
        est = replace(est, shares=_joined(averaged, law, labels, est.clusters))
        units = sum(p.lost_units for p in averaged)
        meta = {**est.meta, "scale": self.scale}
        if not self.weights_random:
            meta["influence"] = "averaged rows taken as fixed"
        if units:
            meta["units_without_events"] = shown(units, moments.people)
        if self.scale == "response":
            return replace(est, meta=meta)
        unit = est.frame["unit_of_measure"].where(est.frame["estimand"] == "coefficient")
        return replace(
            est, meta=meta, frame=est.frame.assign(unit_of_measure=unit.fillna(_UNITS[self.scale]))
        )


def _joined(
    pieces: Sequence[Averaged], law: Law, labels: pd.Index, used: pd.Index | None
) -> Shares | None:
    """Shares of all pieces, with the small-sample factor of each."""
    found = [p.shares for p in pieces if p.shares is not None]
    if len(found) < len(pieces):
        return None
    value = np.concatenate([s.value for s in found])
    psis = [s.psi for s in found if s.psi is not None]
    if used is None or not psis:
        return Shares(value=value)
    n = len(labels)
    roots = [p.factor(law, int(p.clusters(n).sum())) ** 0.5 for p in pieces]
    return Shares(
        value=value, psi=np.concatenate(psis, axis=1)[labels.get_indexer(used)],
        vcov_scale=np.repeat(roots, [len(s.value) for s in found]),
    )  # fmt: skip
