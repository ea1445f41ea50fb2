"""Triple differences: the effect in one stratum less that in another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.design import Design
from vbceval.did.equation import Equation, plain_covariates, without_partly_treated
from vbceval.did.regression import LeastSquares
from vbceval.did.regressors import Term
from vbceval.did.sampled import Sample
from vbceval.did.saturated import dummy_codes, saturate, saturated_equation
from vbceval.estimates.columns import SIMPLE


@dataclass(frozen=True, kw_only=True)
class TripleDifference(LeastSquares):
    """
    Regress the outcome on treatment within one stratum, given the treatment of both.

    Effects of units within strata, of periods by stratum, and of cohorts by period: what moves both
    strata of a cohort alike (a market, a coding change) is taken out. The estimand is the effect in
    the stratum `level` less that in the other; it is the effect on `level` if the other stratum is
    not affected.

    Exactness: ``moments``; units, clusters and `exit` as in `TWFE`.

    Parameters
    ----------
    by : str
        A stratum of the panel with two levels.
    level : str, optional
        The level whose effect is estimated, as text. Default: the last in sorted order ("yes", 1).
    effect : {"group_time", "static"}
        An effect for every cohort and period, which `aggregate` averages by treated weight; or one
        coefficient, which mixes them when entry is staggered; as in `TWFE` it leaves out cells in
        the periods of anticipation and treated cells outside `window`.

    Notes
    -----
    With ``comparison="never_treated"`` leads are estimated as well. Covariates enter as columns
    with one slope. With several cohorts and ``comparison="not_yet_treated"`` they are refused:
    pooling cohorts that are not yet treated is then biased (Ortiz-Villavicencio and Sant'Anna). Where
    covariates explain trends, combine three comparisons by `GroupTime` (the card has the code).

    References
    ----------
    .. [1] Olden, A. and Møen, J. (2022). The triple difference estimator. *Econometrics Journal*
       25(3), 531-553.
    .. [2] Ortiz-Villavicencio, M. and Sant'Anna, P. H. C. (2025). Better understanding triple
       differences estimators. arXiv 2505.09942. Sections 3-4.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 4), "year": [2014, 2015] * 8,
    ...     "dual": ["no", "no", "yes", "yes"] * 4,
    ...     "entry": np.repeat([2015.0, 2015.0, np.nan, np.nan], 4),
    ...     "spend": [1, 2, 5, 4, 2, 3, 6, 6, 1, 2, 7, 8, 3, 5, 8, 10]})
    >>> panel = vbc.Panel.from_frame(
    ...     frame, unit="aco", period="year", cohort="entry", strata=["dual"])
    >>> est = vbc.did.TripleDifference(by="dual").fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()["estimate"].round(6).tolist()
    [-1.5]
    """

    by: str
    level: str | None = None
    effect: Literal["group_time", "static"] = "group_time"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.effect not in ("group_time", "static"):
            raise DesignError(f"`effect` is {self.effect!r}; use 'group_time' or 'static'.")

    def _parts(self, whole: Sample) -> Iterator[Sample]:
        """Yield all together and every stratum of the other variables."""
        if self.by not in whole.owner[1:]:
            raise DesignError(
                f"`by` is '{self.by}', which is no stratum of these data "
                f"({listed(whole.owner[1:]) or 'they have none'}). Name it in `strata=` of the "
                "panel or the moments."
            )
        for sample in super()._parts(whole):
            if sample.stratum is None or not sample.stratum.startswith(f"{self.by}="):
                yield sample

    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression on treatment within the stratum."""
        cohorts = np.unique(sample.cohort[np.isfinite(sample.cohort)])
        pooled = design.comparison == "not_yet_treated" and len(cohorts) > 1
        if pooled and design.covariates:
            raise DesignError(
                "triple differences with covariates and several cohorts cannot pool cohorts that "
                "are not yet treated: their covariates differ. Use comparison='never_treated'."
            )
        effects = ("owner", f"period:{self.by}", "cohort:period")
        if self.effect == "static":
            sample = without_partly_treated(sample, design)
            inside, level = self._inside(sample)
            on = inside & (sample.event_time >= 0)
            if not on.any():
                raise DesignError(
                    f"no treated cell has {self.by} {level}: check `cohort`, `window` and `level`."
                )
            codes = np.where(on, 0, -1).astype(np.int64)
            name = f"treatment of {self.by} {level}"
            rows: list[dict[str, Any]] = [{"estimand": SIMPLE}]
            terms = (*plain_covariates(sample), Term(codes, (name,), "treatment"))
            return Equation(sample, effects, terms, rows, np.eye(1), codes, meta={"level": level})
        made = saturate(sample, design, leads=design.comparison == "never_treated")
        inside, level = self._inside(made.sample)
        made = made._replace(
            codes=np.where(inside, made.codes, -1), meta={**made.meta, "level": level}
        )
        codes, names = dummy_codes(made)
        terms = (*plain_covariates(made.sample), Term(codes, names, "treatment"))
        equation = saturated_equation(
            made, design, terms, None, n_clusters=n_clusters, weights_random=False
        )
        return equation._replace(effects=effects)

    def _inside(self, sample: Sample) -> tuple[np.ndarray, str]:
        """Which cells are in the level, and its name."""
        codes = sample.keys[self.by]
        names = [text[len(self.by) + 1 :] for text in sample.levels[self.by]]
        found = [names[i] for i in np.unique(codes)]
        if merged := [x for x in found if f"{self.by} {x}" in sample.made]:
            raise DesignError(
                f"`{self.by}` has levels that were merged in this shared copy ({listed(merged)}), and a "
                "triple difference would not know on which side they are. Fit it on the moments inside "
                "the enclave, or use `equity.gaps` on effects by stratum, which are of organizations "
                "that kept their levels."
            )
        if len(found) != 2:
            raise DesignError(
                f"`{self.by}` has {len(found)} levels here, but a triple difference compares two. "
                "Keep two of them, or use `equity.gaps` on effects by stratum."
            )
        level = max(found) if self.level is None else str(self.level)
        if level not in found:
            raise DesignError(f"`level` is '{level}', but `{self.by}` has {listed(found)}.")
        return codes == names.index(level), level
