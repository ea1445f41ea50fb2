"""Effects of a randomised or partly mandatory assignment, and of the dose it causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import listed, missing_columns
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.assignment.reduced import Form, Reduced, reduce
from vbceval.did.assignment.rows import LATE, described, form_rows, row_of
from vbceval.did.assignment.structural import Method, structural
from vbceval.did.assignment.weak import anderson_rubin, effective_f
from vbceval.did.covariances import Law, Vcov, read_law
from vbceval.did.dropped import dropped_covariates, said_of_dropped
from vbceval.did.inputs import design_meta
from vbceval.did.least_squares import Groups
from vbceval.did.sampled import gather
from vbceval.did.sandwich import Errors, joint_errors
from vbceval.did.strata import samples_by_stratum
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel


@dataclass(frozen=True, kw_only=True)
class IV:
    """
    Estimate effects of assignment (intention to treat), and of the dose that assignment causes.

    Cohorts are the first period of a randomised or mandated assignment, and the instrument is 1 for
    assigned units from then on, whatever they do. Three kinds of rows are estimated together, with
    one influence: "itt", the effect of assignment on the outcome; "first_stage", that on the dose;
    "late", the effect of a unit of dose on units that assignment moves. The last assumes that
    assignment changes the outcome through the dose only, and moves it in one direction.

    Exactness: ``moments`` (instruments are functions of cohort and period); LIML with several
    instruments needs rows.

    Parameters
    ----------
    dose : str
        Column of what assignment is meant to change: participation (0/1), share of episodes, or
        periods in the program. It has no default, and `fit` asks for it.
    method : {"2sls", "liml"}
        They differ with several instruments only.
    form : {"did", "cross_section"}
        "did": effects of units and periods, and changes since before assignment are compared.
        "cross_section": periods from the first assignment on, no unit effects; assigned and not
        assigned are compared within blocks, which is valid under randomisation.
    blocks : sequence of str
        Columns of strata of the randomisation: each has period effects of its own. Of a panel any
        column; of moments their strata.
    effect : {"common", "event_time"}
        One effect over all periods since assignment, or one for each.
    instruments : {"assigned", "by_event_time"}
        For a common effect: the indicator of assignment, or one for each period since assignment,
        combined by `method` to predict the dose best.
    level : float, default 0.95
        Confidence of Anderson-Rubin sets.

    Notes
    -----
    Rows "late" carry ``first_stage_f``, the effective F of Montiel Olea and Pflueger, with
    ``first_stage_critical``, and the Anderson-Rubin set (``ar_low``, ``ar_high``, ``ar_set``), which
    is valid whatever the strength. Where F is below its critical value the row's ``note`` says so.

    References
    ----------
    .. [1] Imbens, G. W. and Angrist, J. D. (1994). Identification and estimation of local average
       treatment effects. *Econometrica* 62(2), 467-475.
    .. [2] Finkelstein, A., Ji, Y., Mahoney, N. and Skinner, J. (2018). Mandatory Medicare bundled
       payment program for lower extremity joint replacement and discharge to institutional
       postacute care. *JAMA* 320(9), 892-900.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "market": np.repeat(list("ABCDEF"), 2), "year": [2015, 2016] * 6,
    ...     "assigned": np.repeat([2016.0, 2016.0, 2016.0, np.nan, np.nan, np.nan], 2),
    ...     "share": [0, 0.5, 0, 0.8, 0, 0.5, 0, 0, 0, 0.1, 0, 0],
    ...     "spend": [20, 18, 30, 28, 25, 24, 20, 21, 30, 30, 25, 26]})
    >>> panel = vbc.Panel.from_frame(frame, unit="market", period="year", cohort="assigned")
    >>> est = vbc.did.IV(dose="share").fit(panel, vbc.Design(outcome="spend"))
    >>> est.tidy()[["estimand", "estimate"]].round(3).to_dict("records")  # doctest: +NORMALIZE_WHITESPACE
    [{'estimand': 'itt', 'estimate': -2.333}, {'estimand': 'first_stage', 'estimate': 0.567},
     {'estimand': 'late', 'estimate': -4.118}]
    """

    dose: str = ""
    method: Method = "2sls"
    form: Form = "did"
    blocks: Sequence[str] = ()
    effect: Literal["common", "event_time"] = "common"
    instruments: Literal["assigned", "by_event_time"] = "assigned"
    level: float = 0.95

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[str, ...]] = {
            "method": ("2sls", "liml"), "form": ("did", "cross_section"),
            "effect": ("common", "event_time"), "instruments": ("assigned", "by_event_time"),
        }  # fmt: skip
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise DesignError(
                    f"`{name}` is {getattr(self, name)!r}; use {' or '.join(map(repr, values))}."
                )
        if isinstance(self.blocks, str):
            raise DesignError(f"`blocks` is the text '{self.blocks}'; give a list of names.")
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.effect == "event_time" and self.instruments == "by_event_time":
            raise DesignError(
                "effect='event_time' has an instrument for each effect already; leave "
                "`instruments` out."
            )
        if not 0 < self.level < 1:
            raise DesignError(f"`level` is {self.level}: give a probability between 0 and 1.")

    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Vcov = "CR1",
        ssc: SSC | None = None,
    ) -> Estimates:
        """
        Fit reduced form and first stage on the same rows, and their structural ratio.

        Parameters
        ----------
        data : Panel or Moments
            With strata, all together and within each stratum, jointly. Moments hold the dose among
            their outcomes. Clusters should be what was assigned.
        design : Design
            Outcome, covariates (as columns), anticipation (periods left out), window, balance
            weights. ``fixed_effects`` replaces the effects of `form`.
        vcov : str, tuple or Multiplier
            "CR1" (default), "CR0", "CR2", "CR3", "bootstrap", "HC1", ``("two_way", key, key)``; with
            several instruments for a common effect "CR1", "CR0" and "bootstrap".
        ssc : SSC, optional
            Small-sample factor. Default for "CR1" and two-way: `SSC.fixest`. `linearmodels` has none
            by default (`SSC.none`), and `SSC.statsmodels` where it is told ``debiased=True``.

        Returns
        -------
        Estimates
            Rows "itt" in the unit of the outcome, "first_stage" in that of the dose, "late" in that
            of the outcome per unit of dose.

        Raises
        ------
        DataError
            If a column is absent.
        DesignError
            If assignment cannot be told from the effects, or an option does not apply.
        EstimationError
            If assignment does not move the dose, or the covariance is not defined.
        """
        law = read_law(vcov, ssc)
        if not self.dose:
            raise DesignError(
                "IV needs the column that assignment is meant to change: IV(dose='participates'). "
                "For the effect of assignment alone use `TWFE` or `GroupTime`."
            )
        if law.wild is not None or law.kind == "iid":
            raise EstimationError(
                f"IV has no '{law.name}' covariance: outcome and dose need a joint one. Use 'CR1' "
                "or 'CR2', and for the effect of assignment alone `TWFE` with vcov='wild'."
            )
        if self.instruments != "assigned" and (law.kind not in ("CR0", "CR1")):
            raise EstimationError(
                f"vcov='{law.kind}' is for one instrument an effect: with several the residual is "
                "not that of one regression. Use 'CR1', or instruments='assigned'."
            )
        if design.base_period == "universal":
            raise DesignError(
                "IV has no base period: every period before assignment counts. Leave `base_period` "
                "at its default."
            )
        moments, kept = self._moments(data, design)
        found, labels = gather(moments, design, [design.outcome, self.dose])
        if len(found) > 1:
            raise EstimationError(
                f"`{design.outcome}` and `{self.dose}` are seen in different cells, so that their "
                "effects are of different units. Leave out rows without one of them."
            )
        parts = [
            reduce(
                sample,
                design,
                form=self.form,
                blocks=tuple(self.blocks),
                by_event_time=self.effect == "event_time" or self.instruments == "by_event_time",
            )
            for sample in samples_by_stratum(found[0][0], kept)
        ]
        pieces = [p for part in parts for p in (part.outcome, part.dose)]
        errors = joint_errors(pieces, law, len(labels))
        return self._assemble(parts, errors, law, moments, design, labels)

    def _moments(self, data: Panel | Moments, design: Design) -> tuple[Moments, tuple[str, ...]]:
        """Moments with outcome and dose, blocks in their key; and the strata that split results."""
        names = [design.outcome, self.dose]
        if isinstance(data, Moments):
            absent = [b for b in self.blocks if b not in data.strata]
            if absent:
                raise DataError(
                    f"the moments have no stratum {listed(absent)} to use as `blocks` (they have "
                    f"{listed(data.strata) or 'none'}). Take them again with it in `strata`."
                )
            return data, tuple(s for s in data.strata if s not in self.blocks)
        absent = missing_columns(data.frame, [*names, *self.blocks])
        if absent:
            raise DataError(f"the panel has no column {listed(absent)}.")
        seen = data.frame[names].notna().all(axis=1)
        if not seen.any():
            raise DataError(
                f"no row has both `{design.outcome}` and `{self.dose}`, so nothing can be "
                "estimated. Check both columns."
            )
        panel = replace(data, frame=data.frame[seen].reset_index(drop=True))
        strata = tuple(s for s in data.strata if s not in self.blocks)
        moments = Moments.from_panel(
            panel, outcomes=names, covariates=design.covariates, strata=[*strata, *self.blocks]
        )
        return moments, strata

    def _assemble(
        self,
        parts: Sequence[Reduced],
        errors: Errors,
        law: Law,
        moments: Moments,
        design: Design,
        labels: pd.Index,
    ) -> Estimates:
        records: list[dict[str, Any]] = []
        maps: list[FloatArray] = []
        own: dict[int, FloatArray] = {}
        size, start = len(errors.df), 0
        for part in parts:
            q = len(part.rows)
            here = np.eye(size)[start : start + 2 * q]
            vcov = _vcov(errors)[start : start + 2 * q, start : start + 2 * q]
            df = errors.df[start : start + 2 * q]
            records += [{**r, "df": d} for r, d in zip(form_rows(part), df, strict=True)]
            maps += list(here)
            rows, mapped, psi = self._late(part, vcov, here, float(df.min()), len(labels))
            if psi is not None:
                root = (self._factor(part, law, len(labels))) ** 0.5
                own[len(records)] = np.stack([psi, psi * root])
            records += rows
            maps += mapped
            start += 2 * q
        every = np.array(maps)
        used = np.any([p.outcome.clusters(len(labels)) for p in parts], axis=0)
        frame = pd.DataFrame([described(r, design, self.dose, moments) for r in records])
        shared: dict[str, Any] = {
            "frame": frame, "cluster_name": moments.cluster_name,
            "meta": self._meta(parts, errors, law, moments, design, int(used.sum()), frame),
        }  # fmt: skip
        if errors.psi is None or errors.psi_vcov is None:
            return Estimates(covariance=every @ _vcov(errors) @ every.T, **shared)
        both = [errors.psi[used] @ every.T, errors.psi_vcov[used] @ every.T]
        for column, values in own.items():
            for target, value in zip(both, values, strict=True):
                target[:, column] = value[used]
        return Estimates(
            psi=both[0], psi_vcov=both[1], clusters=labels[used], multiplier=law.multiplier,
            **shared,
        )  # fmt: skip

    def _factor(self, part: Reduced, law: Law, n_clusters: int) -> float:
        """Small-sample factor of the structural equation, which has one slope for all instruments."""
        fit, more = part.fit, len(part.instruments) - 1
        return law.ssc.factor(
            n_clusters=int(part.outcome.clusters(n_clusters).sum()), n_rows=fit.n_rows,
            n_params=fit.n_parameters(law.ssc.K) - more,
        )  # fmt: skip

    def _late(
        self, part: Reduced, vcov: FloatArray, here: FloatArray, df: float, n_clusters: int
    ) -> tuple[list[dict[str, Any]], list[FloatArray], FloatArray | None]:
        """Rows of effects of the dose, as maps of reduced forms or with an influence of their own."""
        q = len(part.rows)
        reduced, first = part.outcome.estimate, part.dose.estimate
        groups = Groups(part.fit.cells.block.cluster, n_clusters)
        rows: list[dict[str, Any]] = []
        if q > 1 and self.effect == "common":
            made = structural(part.fit, part.instruments, self.method, groups)
            strength = effective_f(first, part.cross, vcov[q:, q:])
            robust = anderson_rubin(reduced, first, vcov, level=self.level, df=df)
            key = {"event_time": np.nan, "kappa": made.kappa}
            rows.append(row_of(part, LATE, key, made.effect, strength, robust) | {"df": df})
            return rows, [np.zeros(here.shape[1])], made.psi
        maps = []
        for j, row in enumerate(part.rows):
            pair = np.ix_([j, q + j], [j, q + j])
            if abs(first[j]) <= 1e-12 * max(1.0, np.abs(part.fit.cells.y[:, 1]).max()):
                raise EstimationError(
                    f"assignment does not move `{self.dose}` at all, so there is no effect of the "
                    "dose to estimate. Check the dose, or report the effect of assignment (TWFE)."
                )
            effect = float(reduced[j] / first[j])
            strength = effective_f(first[[j]], np.eye(1), vcov[q:, q:][[[j]], [[j]]])
            robust = anderson_rubin(reduced[[j]], first[[j]], vcov[pair], level=self.level, df=df)
            rows.append(row_of(part, LATE, row, effect, strength, robust) | {"df": df})
            maps.append((here[j] - effect * here[q + j]) / first[j])
        return rows, maps, None

    def _meta(
        self,
        parts: Sequence[Reduced],
        errors: Errors,
        law: Law,
        moments: Moments,
        design: Design,
        n_clusters: int,
        frame: pd.DataFrame,
    ) -> dict[str, Any]:
        dropped = dropped_covariates(p.fit for p in parts)
        said = {*errors.warnings, *said_of_dropped(dropped), *(n for n in frame["note"] if n)}
        return {
            "estimator": "IV", "options": asdict(self), "design": design_meta(design),
            "vcov": law.name, "ssc": law.ssc.name,
            "exactness": "moments" if moments.xx is not None else "unit pass",
            "n_clusters": n_clusters, "cluster": moments.cluster_name,
            "first_period": min(float(p.outcome.equation.sample.period.min()) for p in parts),
            # with several instruments the score of two-stage least squares is not the derivative
            **({} if self.instruments == "assigned" else {"influence": "structural scores"}),
            "language": "effect", "versions": versions("numpy", "scipy", "pandas"),
            "dropped": dropped, "warnings": sorted(said),
            **errors.meta,
        }  # fmt: skip


def _vcov(errors: Errors) -> FloatArray:
    if errors.psi_vcov is not None:
        return np.asarray(errors.psi_vcov.T @ errors.psi_vcov)
    return np.asarray(errors.covariance)
