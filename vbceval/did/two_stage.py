"""Two-stage difference-in-differences (Gardner 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.imputed import Imputed, sums_by_cluster
from vbceval.did.inputs import without_rounding
from vbceval.did.untreated import Cells, UntreatedFit
from vbceval.did.untreated_cells import Sample
from vbceval.did.untreated_effects import UntreatedEffects


@dataclass(frozen=True, kw_only=True)
class TwoStage(UntreatedEffects):
    """
    Group-time effects from two stages: residualise on untreated cells, then average residuals.

    The first stage fits entity and time effects (and covariates) on untreated cells; the second
    regresses what is left of every outcome on dummies of cohort and period. Effects are those of
    `Imputation`; errors are not: here they are the joint GMM errors of both stages, the derivative
    by cluster weights, which is not conservative. ``aggregate("simple")`` is the static effect and
    ``aggregate("event_time")`` the event study of the paper, with the same errors.

    Exactness: ``moments``. Units are followed as entities; cells that are not followed have the
    effect of their cluster.

    Parameters
    ----------
    covariate_effect : {"level", "trend"}
        How covariates of the design enter the first stage: "level", x'b with the covariates of
        each cell; "trend", a coefficient for each period, with followed units keeping the
        covariates of their first period.
    drop_unimputable : bool, default False
        Leave out treated cells whose untreated outcome the fit does not imply (units always
        treated, periods in which all are treated) and record them in ``meta["unimputable"]``;
        otherwise they are an error. R `did2s` drops them silently.
    leads : bool, default True
        Report rows before entry as well: mean residuals of the first stage. They are part of the
        sample that the first stage is fitted on, so they are pulled towards zero; test trends
        with `Imputation.pretrend`.

    References
    ----------
    .. [1] Gardner, J. (2021). Two-stage differences in differences. Working paper,
       arXiv:2207.05943. Section 3 and appendix on standard errors.
    .. [2] Newey, W. K. and McFadden, D. (1994). Large sample estimation and hypothesis testing.
       *Handbook of Econometrics* 4, 2111-2245. Theorem 6.1.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.TwoStage().fit(panel, vbc.Design(outcome="spend"))
    >>> est.aggregate("simple").tidy()[["estimate", "std_error"]].round(4).to_dict("records")
    [{'estimate': -1.5, 'std_error': 0.4082}]
    """

    leads: bool = True

    influence: ClassVar[str] = "derivative by cluster weights (GMM of both stages)"

    def _wanted(self, sample: Sample, design: Design) -> BoolArray:
        if not self.leads:
            return sample.treated
        block = sample.arranged.block
        e = block.period - block.cohort
        # a cohort that enters after the data end is never treated in them
        last = block.period.max() + design.anticipation
        before = sample.untreated & (block.cohort <= last)
        if design.window is not None:
            before &= (e >= design.window[0]) & (e <= design.window[1])
        return np.asarray(sample.treated | before)

    def _average(self, fit: UntreatedFit, cells: Cells, target: IntArray, m: int) -> Imputed:
        return second_stage(fit, cells, target, m)


def second_stage(fit: UntreatedFit, cells: Cells, target: IntArray, m: int) -> Imputed:
    """
    Regress outcomes minus fitted ones on dummies of targets, with the error of both stages.

    The moment of the second stage is ``s2 = X2'W(r - X2 b)`` and that of the first
    ``s10 = X10'W r`` on untreated cells; a cluster's influence is
    ``(X2'W X2)^-1 [s2 - X2'W X1 (X10'W X10)^-1 s10]``.

    Parameters
    ----------
    fit : UntreatedFit
        First stage.
    cells : Cells
        K cells covered by the fit.
    target : int array, shape (K,)
        Target of each cell, 0 to m - 1, each with at least one cell.
    m : int
        Number of targets.

    References
    ----------
    .. [1] Gardner, J. (2021). Two-stage differences in differences. Working paper,
       arXiv:2207.05943. Appendix on standard errors.
    """
    masses = sums_by_cluster(fit, cells, target, m, cells.w)
    weight = masses.sum(axis=0)
    q = cells.w / weight[target]
    residual = cells.y - fit.predict(cells)
    estimate = np.bincount(target, weights=q * residual, minlength=m)
    own: FloatArray = sums_by_cluster(fit, cells, target, m, q * (residual - estimate[target]))
    psi = own - fit.score @ (fit.inverse @ fit.direction(cells, q, target, m))
    psi = without_rounding(psi, float(np.abs(cells.y).max()))
    return Imputed(estimate, weight, psi, (masses > 0).sum(axis=0), masses)
