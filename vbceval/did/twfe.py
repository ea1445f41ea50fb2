"""Two-way fixed effects: one coefficient of treatment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.design import Design
from vbceval.did.equation import (
    Equation,
    plain_covariates,
    refuse_never_treated,
    without_partly_treated,
)
from vbceval.did.regression import LeastSquares
from vbceval.did.regressors import Term, joint_codes
from vbceval.did.sampled import Sample
from vbceval.did.sandwich import Piece
from vbceval.estimates.columns import SIMPLE


@dataclass(frozen=True, kw_only=True)
class TWFE(LeastSquares):
    """
    Regress the outcome on treatment, unit and period effects, and covariates.

    Not an average treatment effect in general: with staggered entry it weighs effects of cohorts
    and periods, some negatively, because treated cells serve as comparison of later ones.
    ``meta["weights"]`` says how much weight is negative. With one cohort and effects that do not
    change it is the effect on the treated.

    Exactness: ``moments``. Units of a panel are followed and have an effect of their own (within
    their stratum); cells that are not followed have the effect of their cluster. Treatment stays on
    after entry: an `exit` of the panel is not used (intention to treat).

    Notes
    -----
    Cells in the periods of anticipation are left out, as are treated cells outside `window`.
    ``comparison="never_treated"`` is refused where cohorts differ, since treated cells of other
    cohorts are part of the comparison here.

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2020). Two-way fixed effects estimators with
       heterogeneous treatment effects. *American Economic Review* 110(9), 2964-2996. Theorem 1.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.TWFE().fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["estimate", "df"]].round(6).to_dict("records")
    [{'estimate': -1.5, 'df': 3.0}]
    """

    def _refusal(self, design: Design) -> str | None:
        if design.base_period == "universal":
            return (
                "TWFE has no base period: every untreated period counts. Leave `base_period` at "
                "its default, or use EventStudy."
            )
        return None

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression on treatment."""
        refuse_never_treated(sample, design, "TWFE", "GroupTime, ETWFE or SunAbraham")
        sample = without_partly_treated(sample, design)
        treated = np.where(sample.event_time >= 0, 0, -1).astype(np.int64)
        if not (treated == 0).any():
            raise DesignError("no cell is treated: check `cohort`, `window` and the periods.")
        terms = (*plain_covariates(sample), Term(treated, ("treatment",), "treatment"))
        return Equation(
            sample, ("owner", "period"), terms, [{"estimand": SIMPLE}], np.eye(1), treated,
        )  # fmt: skip

    def _diagnostics(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Weights of cohort-period effects in the coefficient, for each stratum."""
        found = {}
        for piece in {id(p.fit): p for p in pieces}.values():  # outcomes of a fit have the same
            fit, sample = piece.fit, piece.equation.sample
            j = fit.z.where("treatment")[0]
            v = fit.cells.block.w * fit.project(fit.inverse[:, [j]])[: len(sample.units), 0]
            on = piece.equation.support == 0
            codes, _ = joint_codes([sample.keys[k][on] for k in ("cohort", "period")])
            weight = np.bincount(codes, weights=v[on])
            found[sample.stratum or "all"] = {
                "cohort_periods": len(weight),
                "negative": int((weight < 0).sum()),
                "negative_weight": float(abs(weight[weight < 0].sum())),
            }
        return {"weights": found}
