"""One path from cells to estimates for every estimator that is one regression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import is_small
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.covariances import Law, Vcov, Working, read_law
from vbceval.did.dropped import dropped_covariates, said_of_dropped
from vbceval.did.equation import Equation
from vbceval.did.inputs import ONE_CLUSTER, design_meta, shown, without_small_strata
from vbceval.did.least_squares import Fit, least_squares
from vbceval.did.randomization import with_randomization
from vbceval.did.regressors import joint_codes, regressors
from vbceval.did.sampled import (
    Sample,
    gather,
    with_effects,
    without_singletons,
)
from vbceval.did.sandwich import Errors, Piece, joint_errors
from vbceval.did.strata import naming, samples_by_stratum
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates, Shares
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel

COEFFICIENT = "coefficient"
"""``estimand`` of rows that are coefficients of covariates."""


@dataclass(frozen=True, kw_only=True)
class Regression(ABC):
    """
    What the estimators of the regression family share.

    Parameters
    ----------
    covariate_rows : bool, default False
        Report coefficients of covariates as well: rows with estimand "coefficient" and the name in
        column ``term``.
    """

    covariate_rows: bool = False

    @abstractmethod
    def equation(self, sample: Sample, design: Design, n_clusters: int) -> Equation:
        """Return the regression of a sample."""

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
        """Fit the regression; see the estimators."""
        return self._estimates(data, design, read_law(vcov, ssc), outcomes)

    def _estimates(
        self,
        data: Panel | Moments,
        design: Design,
        law: Law,
        outcomes: Sequence[str] | None,
    ) -> Estimates:
        refusal = self._refusal(design)
        if refusal is not None:
            raise DesignError(refusal)
        names = [design.outcome] if outcomes is None else list(dict.fromkeys(outcomes))
        keys = [k for effect in design.fixed_effects or () for k in effect.split(":")]
        samples, labels = gather(data, design, names, [*keys, *law.keys])
        pieces = []
        for whole, moments in samples:
            for sample in self._parts(whole):
                pieces += [(p, moments) for p in self._pieces(sample, design, len(labels))]
        order = sorted(range(len(pieces)), key=lambda i: names.index(_outcome(pieces[i][0])))
        chosen = [pieces[i][0] for i in order]
        moments = pieces[0][1]
        errors = joint_errors(chosen, law, len(labels))
        return self._assemble(chosen, errors, law, moments, design, labels)

    def _refusal(self, design: Design) -> str | None:
        """Say which option of a design would have no effect here; None when all have."""
        return None

    def _parts(self, whole: Sample) -> Iterator[Sample]:
        """Yield all together, then each stratum."""
        yield from samples_by_stratum(whole, whole.owner[1:])

    def _pieces(self, sample: Sample, design: Design, n_clusters: int) -> list[Piece]:
        with naming(sample.stratum):
            equation = self._kept(self.equation(sample, design, n_clusters), design, n_clusters)
            fit, contrast = self._fitted(equation, design)
        return [Piece(equation, fit, j, contrast) for j in range(len(sample.outcomes))]

    def _kept(self, equation: Equation, design: Design, n_clusters: int) -> Equation:
        """Return the equation without the rows that the estimator leaves out of any regression."""
        return equation

    def _fitted(self, equation: Equation, design: Design) -> tuple[Fit, FloatArray]:
        sample, dummies = with_effects(equation.sample, _effects(equation, design))
        z = regressors(sample.cells.block, [*dummies, *equation.terms])
        fit = least_squares(sample.cells, z)
        treatments = z.where("treatment")
        reported = treatments[(equation.contrast != 0).any(axis=0)]
        lost, tied = _lost(fit, set(treatments.tolist()), set(reported.tolist()))
        if lost:
            raise self._unidentified([z.names[j] for j in lost], [z.names[j] for j in tied], sample)
        covariates = z.where("covariate")
        extra = covariates if self.covariate_rows else covariates[:0]
        contrast = np.zeros((len(z.names), len(equation.rows) + len(extra)))
        contrast[treatments, : len(equation.rows)] = equation.contrast.T
        for i, j in enumerate(extra):
            contrast[j, len(equation.rows) + i] = float(fit.kept[j])
        return fit, contrast

    def _unidentified(self, lost: list[str], tied: list[str], sample: Sample) -> DesignError:
        beside = f", given {listed(tied)}" if tied else ""
        return DesignError(
            f"{listed(lost)} cannot be estimated{beside}: fixed effects, covariates and the other "
            "effects span it, because no comparison is observed then. Leave out these periods or "
            "cohorts, use fewer effects, or add units that have not entered."
        )

    def _assemble(
        self,
        pieces: Sequence[Piece],
        errors: Errors,
        law: Law,
        moments: Moments,
        design: Design,
        labels: pd.Index,
    ) -> Estimates:
        # outcomes of one regression have the same counts
        counts = {id(e): _count(e) for e in {id(p.equation): p.equation for p in pieces}.values()}
        records = [
            r for p in pieces
            for r in _records(p, counts[id(p.equation)], moments, design, len(labels))
        ]  # fmt: skip
        frame = pd.DataFrame(records)
        if not law.by_cluster:
            # these errors do not come from variation between clusters
            frame["note"] = ""
        frame["df"] = errors.df
        for name, values in errors.columns.items():
            frame[name] = values
        if moments.people:
            frame = _without_small(frame, moments.unit_name == moments.cluster_name)
        used = np.any([p.clusters(len(labels)) for p in pieces], axis=0)
        shared: dict[str, Any] = {
            "frame": frame, "cluster_name": moments.cluster_name,
            "shares": _shares(pieces, errors, used),
            "meta": self._meta(
                pieces, errors, law, moments, design, int(used.sum()), frame["note"]
            ),
        }  # fmt: skip
        if errors.draws is not None and law.few is not None:
            samples = frame["estimate"].to_numpy(dtype=float) - errors.draws
            return Estimates(samples=samples, tails=law.few.tails, **shared)
        if errors.psi is None or errors.psi_vcov is None:
            return Estimates(covariance=errors.covariance, **shared)
        # influence of many rows is large: it is copied only where clusters are left out
        kept = slice(None) if used.all() else used
        return Estimates(
            psi=errors.psi[kept], psi_vcov=errors.psi_vcov[kept], clusters=labels[used],
            multiplier=law.multiplier, degrees=errors.degrees, **shared,
        )  # fmt: skip

    def _meta(
        self,
        pieces: Sequence[Piece],
        errors: Errors,
        law: Law,
        moments: Moments,
        design: Design,
        n_clusters: int,
        notes: pd.Series,
    ) -> dict[str, Any]:
        dropped = dropped_covariates({id(p.fit): p.fit for p in pieces}.values())
        said = said_of_dropped(dropped)
        meta = {
            "estimator": type(self).__name__,
            "options": asdict(self),
            "design": design_meta(design),
            "vcov": law.name,
            "ssc": law.ssc.name,
            "exactness": "moments" if moments.xx is not None else "unit pass",
            "n_clusters": n_clusters,
            "cluster": moments.cluster_name,
            "first_period": min(float(p.equation.sample.period.min()) for p in pieces),
            "dropped": dropped,
            "language": "effect",
            "versions": versions("numpy", "scipy", "pandas"),
            "warnings": sorted({*said, *errors.warnings, *(str(n) for n in notes.dropna() if n)}),
        }
        said_by = dict(pieces[0].equation.meta)
        if "singleton_rows" in said_by:
            said_by["singleton_rows"] = shown(said_by["singleton_rows"], moments.people)
        return {**meta, **errors.meta, **said_by, **self._diagnostics(pieces)}

    def _diagnostics(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return what an estimator adds to meta after the fit."""
        return {}


@dataclass(frozen=True, kw_only=True)
class LeastSquares(Regression):
    """
    What the linear estimators of the family share.

    Parameters
    ----------
    singletons : {"keep", "drop"}
        What happens to rows that are alone in a level of a fixed effect, which change no
        coefficient. "keep" counts them in N and their clusters in G, as R `fixest` does by default;
        "drop" leaves them out, again until none is alone, as Stata `reghdfe` does.
        ``meta["singleton_rows"]`` says how many were left out.
    """

    singletons: Literal["keep", "drop"] = "keep"

    def __post_init__(self) -> None:
        if self.singletons not in ("keep", "drop"):
            raise DesignError(f"`singletons` is {self.singletons!r}; use 'keep' or 'drop'.")

    @with_randomization
    @with_weight_step
    def fit(
        self,
        data: Panel | Moments,
        design: Design,
        *,
        vcov: Vcov = "CR1",
        ssc: SSC | None = None,
        outcomes: Sequence[str] | None = None,
        working: Working = "inverse_weight",
    ) -> Estimates:
        """
        Fit the regression by weighted least squares.

        Parameters
        ----------
        data : Panel or Moments
            With strata, all together and within each stratum, jointly.
        design : Design
            Outcome, anticipation, covariates (as columns of the regression), window, balance
            weights. ``fixed_effects`` replaces the effects of the estimator: keys (``"unit"``,
            ``"cluster"``, ``"cohort"``, ``"period"``, strata, names of the source, or columns of
            the panel) and products such as ``"period:region"``.
        vcov : str, tuple, Multiplier, Wild, Randomization or FewTreated
            "CR1" (default), "CR0"; "CR2", "CR3" with Satterthwaite degrees of freedom, which cost
            O(G a^2 (a + m)) for a columns in a cluster and m rows, whatever the number of outcomes
            (2,000 clusters: a second at 80 columns, half a minute at 300); "wild", or a
            `vbceval.inference.wild.Wild` with its options: CR1 errors beside columns
            ``wild_p_value``, ``wild_low``, ``wild_high``; "bootstrap"; "iid"; "HC1";
            ``("two_way", key, key)``; "randomization" or a `vbceval.inference.Randomization`: CR1
            errors beside columns of `vbceval.did.randomization_test`; "ferman-pinto",
            "conley-taber" or a `vbceval.inference.FewTreated`, where few clusters are treated:
            draws of errors from residuals of untreated clusters.
        ssc : SSC, optional
            Small-sample factor. Default for "CR1", "wild" and two-way: `SSC.fixest`.
        outcomes : sequence of str, optional
            Outcomes estimated together, in place of that of the design; those seen in the same
            cells share one factorisation.
        working : {"inverse_weight", "identity"}
            Variance of errors in the working model of "CR2": 1/weight, exact from moments; or equal
            for all, which R clubSandwich takes for a weighted ``lm`` and which needs rows.

        Returns
        -------
        Estimates
            In the unit of the outcome, outcomes in order, then strata. With "iid", "HC1" and
            two-way there is a covariance and no influence; with few treated clusters there are
            draws and no influence.

        Raises
        ------
        DesignError
            If an effect cannot be told from others or from fixed effects, or an option does not
            apply.
        EstimationError
            If the covariance is not defined for these data.
        """
        return self._estimates(data, design, read_law(vcov, ssc, working, linear=True), outcomes)

    def _kept(self, equation: Equation, design: Design, n_clusters: int) -> Equation:
        """Return the equation without singletons, where they are to be dropped."""
        if self.singletons == "keep":
            return equation
        if equation.estimated is not None:
            raise EstimationError(
                "singletons='drop' takes means and shares as fixed: they are counted before rows "
                "are left out. Use weights_random=False with it."
            )
        left = without_singletons(equation.sample, _effects(equation, design))
        if not len(left):
            raise DesignError(
                "every row is alone in a level of a fixed effect, so singletons='drop' leaves none. "
                "Use coarser effects."
            )
        dropped = len(equation.support) - len(left)
        made = equation.take(left, n_clusters)
        return made._replace(meta={**equation.meta, "singleton_rows": dropped})


def _effects(equation: Equation, design: Design) -> tuple[str, ...]:
    """Return the fixed effects in force."""
    return equation.effects if design.fixed_effects is None else tuple(design.fixed_effects)


def _lost(fit: Fit, treatments: set[int], reported: set[int]) -> tuple[list[int], list[int]]:
    """Treatments that others span, where a reported one is among them, and the spanning ones."""
    lost: list[int] = []
    tied: set[int] = set()
    for j in sorted(treatments):
        if fit.kept[j]:
            continue
        others = {int(i) for i in np.flatnonzero(np.abs(fit.dependent[j]) > 1e-6)} & treatments
        if ({j} | others) & reported:
            lost.append(j)
            tied |= others
    return lost, sorted(tied - set(lost))


def _outcome(piece: Piece) -> str:
    return piece.equation.sample.outcomes[piece.outcome]


class _Counts(NamedTuple):
    """Units of the regression; units and clusters treated in each row, and if few of one cohort."""

    units: int
    treated: IntArray
    clusters: IntArray
    small: BoolArray


def _count(equation: Equation) -> _Counts:
    sample, support = equation.sample, equation.support
    cluster = sample.cells.block.cluster
    n_rows = len(equation.rows)
    units = int(sample.count_units(np.zeros(len(sample.units), dtype=np.int64), 1)[0])
    treated = sample.count_units(support, n_rows)
    live = support >= 0
    _, first = joint_codes([support[live], cluster[live]])
    clusters = np.bincount(support[live][first], minlength=n_rows)
    for position, parts in equation.pooled.items():
        inside = np.isin(support, parts)
        treated[position] = sample.count_units(np.where(inside, 0, -1), 1)[0]
        clusters[position] = len(np.unique(cluster[inside]))
    return _Counts(units, treated, clusters, _pools_small(equation))


def _pools_small(equation: Equation) -> BoolArray:
    """Whether the treated of a row hold a cohort of 1-10 units that those of other rows do not."""
    support, cohort = equation.support, equation.sample.keys["cohort"]
    size = int(cohort.max()) + 1
    held = np.zeros((max(len(equation.rows), int(support.max()) + 1), size), dtype=bool)
    held[support[support >= 0], cohort[support >= 0]] = True
    for position, parts in equation.pooled.items():
        held[position] = held[list(parts)].any(axis=0)
    held = held[: len(equation.rows)]
    few = is_small(equation.sample.count_units(cohort, size)) & ~held.all(axis=0)
    return np.asarray(held[:, few].any(axis=1) & (held.sum(axis=1) > 1), dtype=bool)


def _records(
    piece: Piece, counts: _Counts, moments: Moments, design: Design, n_clusters: int
) -> list[dict[str, Any]]:
    equation, sample = piece.equation, piece.equation.sample
    n_rows, units, treated = len(equation.rows), counts.units, counts.treated
    own = moments.people and moments.unit_name == moments.cluster_name
    clusters = shown(int(piece.clusters(n_clusters).sum()), own)
    extra = piece.contrast.shape[1] - n_rows
    names = [piece.fit.z.names[j] for j in piece.fit.z.where("covariate")][:extra]
    keys: list[dict[str, Any]] = [*equation.rows]
    keys += [{"estimand": COEFFICIENT, "term": name} for name in names]
    out = []
    for i, (row, value) in enumerate(zip(keys, piece.estimate, strict=True)):
        record = {
            "estimand": row["estimand"], "outcome": _outcome(piece),
            "unit_of_measure": design.unit_of_measure, "cohort": np.nan, "period": np.nan,
            "event_time": np.nan, "stratum": sample.stratum, **row, "estimate": float(value),
            "n_units": shown(units, moments.people), "n_clusters": clusters,
        }  # fmt: skip
        if i < n_rows:
            # from row to row a small cohort would be told by differences
            told = moments.people and counts.small[i]
            for name, side in (("n_treated", treated[i]), ("n_comparison", units - treated[i])):
                record[name] = np.nan if told else shown(int(side), moments.people)
            record["note"] = (
                ONE_CLUSTER if counts.clusters[i] == 1 and equation.contrast[i].any() else ""
            )
        elif not piece.contrast[:, i].any():
            record["estimate"] = np.nan
        out.append(record)
    return out


def _without_small(frame: pd.DataFrame, clusters: bool) -> pd.DataFrame:
    """Blank counts from which a suppressed one could be found, also across event times."""
    marked = frame.assign(
        cohort=frame["cohort"].fillna(np.inf),
        period=frame["period"].fillna(frame["event_time"]).fillna(np.inf),
    )
    out = frame.copy()
    names = ["n_units", "n_treated", "n_comparison", *(["n_clusters"] if clusters else [])]
    out[names] = without_small_strata(marked, clusters=clusters)[names]
    return out


def _shares(pieces: Sequence[Piece], errors: Errors, used: np.ndarray) -> Shares | None:
    found = [p.equation.shares for p in pieces]
    known = [s for s in found if s is not None]
    if len(known) < len(found) or any(p.contrast.shape[1] > len(p.equation.rows) for p in pieces):
        return None
    value = np.concatenate([s.value for s in known])
    psis = [s.psi for s in known if s.psi is not None]
    if len(psis) < len(known) or errors.psi is None:
        return Shares(value=value)
    return Shares(value=value, psi=np.concatenate(psis, axis=1)[used], vcov_scale=None)
