"""Two-way fixed effects: one coefficient of treatment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.design import Design
from vbceval.did.covariances import Law
from vbceval.did.equation import (
    Equation,
    plain_covariates,
    refuse_never_treated,
    without_partly_treated,
)
from vbceval.did.regression import COEFFICIENT, LeastSquares
from vbceval.did.regressors import Term, joint_codes
from vbceval.did.sampled import Sample
from vbceval.did.sandwich import Piece
from vbceval.estimates import Estimates
from vbceval.estimates.columns import SIMPLE
from vbceval.moments import Moments
from vbceval.panel import Panel


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

    Parameters
    ----------
    dose : str, optional
        Column of the treatment in each row, in place of entry by cohort: part of a year, share of
        patients, a law that is also repealed. Its row is a "coefficient", in the unit of the
        outcome for a unit of the dose, with the column's name in ``term``. `cohort` is not read
        then. It is a weighted average of slopes only if effects are the same for every dose, and
        weights can be negative as above.

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

    dose: str | None = None

    def _estimates(
        self,
        data: Panel | Moments,
        design: Design,
        law: Law,
        outcomes: Sequence[str] | None,
    ) -> Estimates:
        if self.dose is None:
            return super()._estimates(data, design, law, outcomes)
        if law.few is not None:
            raise DesignError(
                "errors of few treated clusters take treatment from cohorts, and `dose` does not. "
                "Use vcov='CR2' or 'wild'."
            )
        if self.dose in (design.outcome, *(outcomes or ()), *design.covariates):
            raise DesignError(
                f"`{self.dose}` is the dose, and an outcome or a covariate as well. Name it once."
            )
        # columns of covariates are what cells have moments of
        beside = replace(design, covariates=[*design.covariates, self.dose])
        return super()._estimates(data, beside, law, outcomes)

    def _refusal(self, design: Design) -> str | None:
        asked = {
            "anticipation": design.anticipation != 0, "window": design.window is not None,
            "comparison": design.comparison == "never_treated",
        }  # fmt: skip
        if self.dose is not None and any(asked.values()):
            return (
                f"{listed([k for k, v in asked.items() if v])} of the design counts from entry, and "
                f"`dose` replaces entry. Leave it out, and date changes in `{self.dose}`."
            )
        if design.base_period == "universal":
            return (
                "TWFE has no base period: every untreated period counts. Leave `base_period` at "
                "its default, or use EventStudy."
            )
        return None

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression on treatment."""
        if self.dose is not None:
            return self._on_dose(sample)
        refuse_never_treated(sample, design, "TWFE", "GroupTime, ETWFE or SunAbraham")
        sample = without_partly_treated(sample, design)
        treated = np.where(sample.event_time >= 0, 0, -1).astype(np.int64)
        if not (treated == 0).any():
            raise DesignError("no cell is treated: check `cohort`, `window` and the periods.")
        terms = (*plain_covariates(sample), Term(treated, ("treatment",), "treatment"))
        return Equation(
            sample, ("owner", "period"), terms, [{"estimand": SIMPLE}], np.eye(1), treated,
        )  # fmt: skip

    def _unidentified(self, lost: list[str], tied: list[str], sample: Sample) -> DesignError:
        if self.dose is None:
            return super()._unidentified(lost, tied, sample)
        return DesignError(
            f"`{self.dose}` has no coefficient: given the fixed effects and the covariates nothing of "
            "it varies. Use fewer effects or covariates, or a column that changes within units."
        )

    def _on_dose(self, sample: Sample) -> Equation:
        """Return the regression on the last covariate as treatment."""
        *terms, last = plain_covariates(sample)
        if last.names != (self.dose,):
            raise DesignError(f"`{self.dose}` is a category. A dose is a number: give one column.")
        x = sample.cells.block.x[:, last.variable]
        support = np.where(x != 0, 0, -1).astype(np.int64)
        return Equation(
            sample, ("owner", "period"), (*terms, last._replace(role="treatment")),
            [{"estimand": COEFFICIENT, "term": self.dose}], np.eye(1), support,
        )  # fmt: skip

    def _diagnostics(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Weights of effects of cohorts (or clusters) and periods, for each stratum."""
        found = {}
        for piece in {id(p.fit): p for p in pieces}.values():  # outcomes of a fit have the same
            fit, sample = piece.fit, piece.equation.sample
            j = fit.z.where("treatment")[0]
            block = fit.cells.block
            v = block.w * fit.project(fit.inverse[:, [j]])[:, 0]
            if self.dose is not None:
                if block.xx is not None:
                    continue  # weights inside cells are not known
                v = v * block.x[:, -1]
            on = piece.equation.support == 0
            of = "cohort" if self.dose is None else "cluster"
            codes, _ = joint_codes([sample.keys[k][on] for k in (of, "period")])
            weight = np.bincount(codes, weights=v[on])
            found[sample.stratum or "all"] = {
                f"{of}_periods": len(weight),
                "negative": int((weight < 0).sum()),
                "negative_weight": float(abs(weight[weight < 0].sum())),
            }
        return {"weights": found}
