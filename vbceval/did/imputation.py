"""Imputation of untreated outcomes (Borusyak, Jaravel and Spiess 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import IntArray
from vbceval.design import Design
from vbceval.did.imputed import Imputed, impute
from vbceval.did.inputs import as_moments, cluster_labels, small_sample, strata_of, vcov_name
from vbceval.did.leads import fit_leads
from vbceval.did.strata import naming
from vbceval.did.untreated import Cells, UntreatedFit
from vbceval.did.untreated_cells import arrange, samples
from vbceval.did.untreated_effects import (
    UntreatedEffects,
    framed,
    people_are_clusters,
    refuse_base,
)
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates
from vbceval.inference import SSC, Multiplier
from vbceval.moments import Moments
from vbceval.panel import Panel


@dataclass(frozen=True, kw_only=True)
class Imputation(UntreatedEffects):
    """
    Group-time effects from outcomes imputed by entity and period effects.

    Effects of units and periods (and covariates) are fitted on untreated cells only; an effect is
    the treated outcome minus the fitted one, averaged by cohort and period. Not a comparison of
    two periods: every untreated period of a unit counts, which is efficient when shocks are not
    persistent and asks parallel trends of all of them. A panel may be unbalanced.

    Exactness: ``moments``. Units are followed as entities; cells that are not followed have the
    effect of their cluster.

    Parameters
    ----------
    covariate_effect : {"level", "trend"}
        How covariates of the design enter: "level", x'b with the covariates of each cell;
        "trend", a coefficient for each period, with followed units keeping the covariates of
        their first period.
    leave_one_out : bool, default False
        In standard errors, compare each treated cluster with the average of the others of its
        cohort and period; recommended for few treated clusters.
    drop_unimputable : bool, default False
        Leave out treated cells whose untreated outcome the fit does not imply (units always
        treated, periods in which all are treated) and record them in ``meta["unimputable"]``;
        otherwise they are an error.

    Notes
    -----
    The influence reported is v times residual, whose squares add up to the conservative variance
    of Borusyak, Jaravel and Spiess, equation 8, with the average effect of treated units taken by
    cohort and period; it is not the derivative by cluster weights. Averages of rows with fixed
    weights have that variance exactly, so `Estimates.aggregate` takes shares as fixed here.
    ``base_period`` of a design has no meaning here, and "universal" is refused.

    References
    ----------
    .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs: robust
       and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCD"), 3), "year": [2014, 2015, 2016] * 4,
    ...     "entry": np.repeat([2016.0, 2016.0, np.nan, np.nan], 3),
    ...     "spend": [10, 11, 10, 20, 21, 21, 30, 31, 32, 40, 41, 42]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> est = vbc.did.Imputation().fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["cohort", "period", "estimate"]].to_dict("records")
    [{'cohort': 2016.0, 'period': 2016.0, 'estimate': -1.5}]
    """

    leave_one_out: bool = False

    influence: ClassVar[str] = "v times residual (conservative)"

    def _average(self, fit: UntreatedFit, cells: Cells, target: IntArray, m: int) -> Imputed:
        return impute(fit, cells, target, m, leave_one_out=self.leave_one_out)

    def _problems(self, rows: list[dict[str, Any]]) -> Problems | None:
        alone = [r for r in rows if r["note"]]
        if not (self.leave_one_out and alone):
            return None
        problems = Problems("leave_one_out=True", EstimationError)
        for r in alone:
            within = f"stratum `{r['stratum']}`, " if r["stratum"] is not None else ""
            problems.add(
                f"{within}cohort {r['cohort']:g} at period {r['period']:g} has one treated "
                "cluster, and no other to compare it with."
            )
        problems.add("Use leave_one_out=False, or leave these cohorts or periods out.")
        return problems

    @with_weight_step
    def pretrend(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        leads: int = 3,
        vcov: str | Multiplier = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Estimate leads on untreated cells only, for a test of parallel trends before entry.

        A regression of its own, separate from the effects: entity and time effects, covariates,
        and a dummy for each of the last `leads` periods before entry (minus anticipation) of
        cohorts that enter. All earlier periods, and cells of the never treated, are the reference.
        Call ``.wald()`` on the result for the joint test; use `vbceval.stack` with the effects
        for anything that needs both.

        Parameters
        ----------
        data : Panel or Moments
            As in `fit`; with strata, leads for all together and within each stratum.
        design : Design
            As in `fit`; every untreated cell is used, so ``comparison="never_treated"`` is
            refused, and ``window`` does not restrict leads.
        leads : int, default 3
            Number of leads.
        vcov : {"CR1", "CR0", "bootstrap"} or Multiplier
            As in `fit`.
        ssc : SSC, optional
            As in `fit`; factors with (N-1)/(N-K) apply as well, N counting rows of untreated
            cells.

        Returns
        -------
        Estimates
            One row a lead, ``estimand`` "pretrend_lead", event times in increasing order, in the
            unit of the outcome. Its influence is the derivative by cluster weights.

        Raises
        ------
        DesignError
            If a lead has no cell, or an option of the design does not apply.
        EstimationError
            If no earlier period is left as reference, or covariates are absorbed or collinear.

        References
        ----------
        .. [1] Borusyak, K., Jaravel, X. and Spiess, J. (2024). Revisiting event-study designs:
           robust and efficient estimation. *Review of Economic Studies* 91(6), 3253-3285, on
           testing parallel trends.
        """
        factor, multiplier = small_sample("Imputation", vcov, ssc)
        refuse_base(design, "Imputation")
        if leads < 1:
            raise DesignError(f"`leads` is {leads}: give the number of periods tested, 1 or more.")
        if design.comparison == "never_treated":
            raise DesignError(
                "the pre-trend regression uses every untreated cell, also of cohorts that enter "
                "later. Give it a design with comparison='not_yet_treated'."
            )
        moments = as_moments(data, design)
        labels = cluster_labels(moments)
        whole, complete = arrange(moments, design, labels)
        events = np.arange(-leads, 0) - design.anticipation
        last = float(whole.block.period[complete].max()) + design.anticipation
        fits = []
        for stratum, rows in strata_of(moments):
            with naming(stratum):
                sample = next(samples(whole.take(rows[complete[rows]]), design))
                fits.append(
                    fit_leads(
                        sample, events, covariate_effect=self.covariate_effect, design=design,
                        stratum=stratum, last=last, people=moments.people, n_clusters=len(labels),
                    )
                )  # fmt: skip
        used = np.any([x.clusters for x in fits], axis=0)
        rows_out, roots, dfs = [], [], []
        for x in fits:
            own = int(x.clusters.sum())
            parameters = x.n_full if factor.K == "full" else x.n_nested
            scale = factor.factor(n_clusters=own, n_rows=x.n_rows, n_params=parameters)
            rows_out += x.rows
            roots += [np.sqrt(scale)] * leads
            dfs += [factor.df(own)] * leads
        psi = np.concatenate([x.psi for x in fits], axis=1)[used]
        frame = framed(rows_out, dfs, moments)
        if any(x.few for x in fits):
            # leads hold different cohorts, so their counts would tell one that is few
            hidden = ["n_units", "n_treated"]
            frame[hidden + ["n_clusters"] * people_are_clusters(moments)] = np.nan
        name = vcov_name(factor, multiplier)
        return Estimates(
            frame=frame, psi=psi, psi_vcov=psi * roots, clusters=labels[used],
            cluster_name=moments.cluster_name, multiplier=multiplier,
            meta={**self._meta(moments, design, name, factor, int(used.sum())), "leads": leads},
        )  # fmt: skip
