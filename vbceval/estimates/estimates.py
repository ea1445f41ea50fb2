"""`Estimates`: a tidy frame that carries what is needed for the joint law of anything in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import Array, FloatArray, IntArray
from vbceval.estimates import algebra, columns, tables
from vbceval.estimates.selection import Rows, positions
from vbceval.estimates.shapes import misfits
from vbceval.estimates.shares import Shares
from vbceval.estimates.statements import posterior_draws, statements
from vbceval.inference import Multiplier, WaldTest, sup_t
from vbceval.inference.satterthwaite import Satterthwaite


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimates:
    """
    Estimates and the joint law of their errors.

    Closed under linear operations: aggregating, contrasting and scaling return `Estimates` with
    covariance, influence and draws carried through, so the covariance between strata, outcomes,
    periods and estimators is always joint. Exactly one of `psi`, `samples`, `covariance` is given.

    Parameters
    ----------
    frame : DataFrame, k rows
        Keys (see `vbceval.estimates.columns`), ``estimate``, and optionally ``df``, ``n_units``,
        ``n_clusters`` and further describing columns. Estimates are in ``unit_of_measure``.
    psi : array, shape (G, k), optional
        Influence: the derivative of each estimate with respect to each cluster's weight, so that
        without a small-sample factor the covariance is ``psi.T @ psi``.
    psi_vcov : array, shape (G, k), optional
        What the covariance is built from, ``psi_vcov.T @ psi_vcov``: `psi` with the small-sample
        adjustment of the chosen covariance. Default: `psi`.
    clusters : Index, length G
        Labels of the rows of `psi`; results are aligned by label, never by position.
    cluster_name : str
        Name of the cluster variable.
    samples : array, shape (S, k), optional
        Posterior (or bootstrap) draws.
    covariance : array, shape (k, k), optional
        Joint covariance where nothing else is known, as for a published event study.
    shares : Shares, optional
        Weights by which `aggregate` averages rows.
    multiplier : Multiplier, optional
        Take standard errors and bands from this bootstrap of `psi_vcov`.
    degrees : Satterthwaite, optional
        The regressions rows come from, where ``df`` and joint tests of combinations follow them.
    interval : {"confidence", "credible"}
        What the intervals are.
    tails : {"equal", "symmetric"}
        How intervals and p-values read `samples`: by equal tails; or by the size of their distance
        to the estimate, the observed one counted among the draws, which holds for few draws as well.
    meta : mapping
        Estimator and options, design, counts, versions, seed, warnings.
    tree : object, optional
        ArviZ DataTree of a posterior, returned by `to_arviz`; or a function that makes it.

    Raises
    ------
    EstimationError
        If shapes disagree or the error law is given twice or not at all.
    """

    frame: pd.DataFrame
    psi: FloatArray | None = None
    psi_vcov: FloatArray | None = None
    clusters: pd.Index | None = None
    cluster_name: str = "cluster"
    samples: FloatArray | None = None
    covariance: FloatArray | None = None
    shares: Shares | None = None
    multiplier: Multiplier | None = None
    degrees: Satterthwaite | None = None
    interval: Literal["confidence", "credible"] = "confidence"
    tails: Literal["equal", "symmetric"] = "equal"
    meta: Mapping[str, Any] = field(default_factory=dict)
    tree: Any = None

    def __post_init__(self) -> None:
        frame = self.frame.reset_index(drop=True)
        for key in (*columns.KEYS, *columns.COUNTS):
            if key not in frame:
                frame[key] = None if key in ("unit_of_measure", "stratum") else np.nan
        if "df" not in frame:
            frame["df"] = np.inf
        object.__setattr__(self, "frame", frame)
        laws = [x is not None for x in (self.psi, self.samples, self.covariance)]
        if sum(laws) != 1:
            said = (
                "exactly one of `psi`, `samples` and `covariance`, so that there is one joint law"
            )
            raise EstimationError(f"Estimates need {said}; {sum(laws)} were given.")
        wrong = misfits(self)
        if wrong:
            raise EstimationError("Estimates do not fit together: " + "; ".join(wrong) + ".")
        if self.psi is not None and self.psi_vcov is None:
            object.__setattr__(self, "psi_vcov", self.psi)

    def __len__(self) -> int:
        return len(self.frame)

    __repr__ = tables.described

    # ---------------------------------------------------------------- what is known

    @property
    def estimate(self) -> FloatArray:
        """Point estimates, shape (k,); posterior means where draws exist."""
        return np.asarray(self.frame["estimate"], dtype=float)

    def influence(self) -> pd.DataFrame:
        """
        Return the influence matrix, one row a cluster (labelled), one column an estimate.

        Raises
        ------
        EstimationError
            If the estimates carry draws or only a covariance.
        """
        if self.psi is None:
            raise EstimationError(
                "these estimates carry no influence matrix (they hold "
                f"{'draws' if self.samples is not None else 'a covariance'}). Use vcov() or draws()."
            )
        index = pd.Index(np.asarray(self.clusters), name=self.cluster_name)
        return pd.DataFrame(self.psi, index=index, columns=self.frame.index)

    def draws(self) -> FloatArray:
        """
        Return posterior or bootstrap draws, shape (S, k).

        Raises
        ------
        EstimationError
            If the estimates carry no draws.
        """
        if self.samples is None:
            raise EstimationError(
                "these estimates carry no draws: they come from an influence matrix or a "
                "covariance. Use `simulate_draws` for draws from their joint normal law."
            )
        return self.samples

    def simulate_draws(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Return draws, shape (size, k): resampled where draws exist, else joint normal."""
        if self.samples is not None:
            return self.samples[rng.integers(0, len(self.samples), size)]
        return algebra.normal_draws(self.estimate, self.vcov(), size, rng)

    def vcov(self) -> FloatArray:
        """Return the joint covariance of the estimates, shape (k, k)."""
        if self.psi_vcov is not None:
            return np.asarray(self.psi_vcov.T @ self.psi_vcov)
        if self.samples is not None:
            return np.atleast_2d(np.cov(self.samples, rowvar=False))
        return np.asarray(self.covariance)

    @cached_property
    def std_error(self) -> FloatArray:
        """Standard errors or posterior standard deviations, shape (k,); missing where zero."""
        if self.multiplier is not None and self.psi_vcov is not None:
            sd = self.multiplier.std_error(self._bootstrap)
        elif self.psi_vcov is not None:
            sd = np.sqrt(algebra.sums_of_squares(self.psi_vcov))
        elif self.samples is not None:
            sd = self.samples.std(axis=0, ddof=1)
        else:
            sd = np.sqrt(np.clip(np.diag(np.asarray(self.covariance)), 0.0, None))
        return np.where(sd > 0, sd, np.nan)

    @cached_property
    def _maxima(self) -> dict[tuple[int, ...], FloatArray]:
        return {}

    @cached_property
    def _bootstrap(self) -> FloatArray:
        if self.multiplier is None or self.psi_vcov is None:
            raise EstimationError("these estimates have no multiplier bootstrap.")
        return self.multiplier.draw(self.psi_vcov)

    def largest_t(self, rows: IntArray) -> FloatArray:
        """Return sorted draws of the largest |t| over some rows; kept, so any level reads them."""
        key = tuple(int(i) for i in rows)
        if key not in self._maxima:
            if self.samples is not None:
                z = (self.samples[:, rows] - self.estimate[rows]) / self.std_error[rows]
                self._maxima[key] = np.sort(np.abs(z).max(axis=1))
            elif self.multiplier is not None:
                z = self._bootstrap[:, rows] / self.std_error[rows]
                self._maxima[key] = np.sort(np.abs(z).max(axis=1))
            else:
                df = float(np.min(self.frame["df"].to_numpy(dtype=float)[rows]))
                seed = int(self.meta.get("seed", 20210101))
                self._maxima[key] = sup_t(self.vcov()[np.ix_(rows, rows)], df=df, seed=seed)
        return self._maxima[key]

    # ---------------------------------------------------------------- tables

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """
        Return the estimates as a table, intervals at `level`.

        ``conf_*`` hold row by row; ``band_*`` hold simultaneously over the rows shown that share
        an ``estimand``. For posteriors they are equal-tailed quantiles, ``estimate`` is the mean,
        ``std_error`` the standard deviation and ``p_value`` is missing; for bootstrap draws it is
        twice the share beyond zero. A reference period has estimate 0 and missing errors.

        Parameters
        ----------
        level : float, default 0.95
            Probability content, strictly between 0 and 1.

        Returns
        -------
        DataFrame, k rows
            Keys, then values, in the order of `vbceval.estimates.columns`, then describing
            columns.
        """
        return tables.tidy(self, level)

    def bands(self, level: float = 0.95) -> pd.DataFrame:
        """Return the keys, estimate and simultaneous band of each row (see `tidy`)."""
        out = self.tidy(level)
        return out[[*columns.KEYS, "estimate", "band_low", "band_high"]]

    def probability(self, *, below: float) -> pd.Series:
        """Return the posterior probability (share of draws) that each quantity is below a threshold.

        Raises
        ------
        EstimationError
            If intervals are not credible (see `vbceval.estimates.statements.posterior_draws`).
        """
        draws = posterior_draws(self)
        return pd.Series((draws < below).mean(axis=0), index=self.frame.index)

    def statements(
        self, *, thresholds: Sequence[float] = (0.0,), rope: tuple[float, float] | None = None
    ) -> pd.DataFrame:
        """Return probabilities and losses; see `vbceval.estimates.statements.statements`."""
        return statements(self, thresholds=thresholds, rope=rope)

    # ---------------------------------------------------------------- selection and algebra

    def where(self, rows: Rows | None = None, **keys: Any) -> Estimates:
        """
        Return some rows, by a query string, a mask, positions, or ``column=value`` pairs.

        Raises
        ------
        DesignError
            If no row is selected.
        """
        return self._take(positions(self.frame, rows, keys))

    def _take(self, rows: IntArray) -> Estimates:
        shares = None if self.shares is None else self.shares.take(rows)
        degrees = None if self.degrees is None else self.degrees.take(rows)
        return self._linear(
            self.frame.iloc[rows], lambda x: x[..., rows], shares=shares, degrees=degrees
        )

    def _linear(
        self, frame: pd.DataFrame, apply: Callable[[Array], Array], **changes: Any
    ) -> Estimates:
        """Rebuild with `apply` mapping the last axis of influence and draws to new rows."""
        covariance = None
        if self.covariance is not None:
            half = apply(self.covariance)
            covariance = apply(half.T).T
        out = replace(
            self,
            frame=frame,
            psi=None if self.psi is None else apply(self.psi),
            psi_vcov=None if self.psi_vcov is None else apply(self.psi_vcov),
            samples=None if self.samples is None else apply(self.samples),
            covariance=covariance,
            **{"shares": None, "degrees": None, **changes},
        )
        if "_bootstrap" in self.__dict__:
            # draws are linear in the influence, and need not be made again
            out.__dict__["_bootstrap"] = apply(self._bootstrap)
        return out

    def by(self, stratum: str) -> Estimates:
        """
        Return the rows of one stratifying variable, as ``stratum`` values ``"variable=level"``.

        Raises
        ------
        DesignError
            If the estimates have no such strata.
        """
        names = self.frame["stratum"].astype("string")
        mask = np.asarray(names.str.startswith(f"{stratum}=").fillna(False), dtype=bool)
        if not mask.any():
            found = sorted({str(s).split("=")[0] for s in names.dropna()})
            raise DesignError(
                f"the estimates have no stratum `{stratum}` (they have {found or 'none'}). Name it "
                "in `strata=` of the panel or the moments before estimating."
            )
        return self.where(mask)

    def contrast(self, weights: FloatArray | Mapping[str, Mapping[Any, float]]) -> Estimates:
        """
        Return linear combinations of rows, with their joint law.

        Parameters
        ----------
        weights : array, shape (m, k) or (k,), or dict
            Coefficients. A dict maps the name of each new row to ``{row: coefficient}``, where a
            row is a position or a query string that selects exactly one row.

        Returns
        -------
        Estimates, m rows
            ``estimand`` is the name; keys that all used rows share are kept. Degrees of freedom
            are those of the combination where its rows are one outcome of one regression with
            bias-reduced errors (CR2, CR3), otherwise the smallest of the rows used (conservative).
        """
        names, matrix = algebra.contrast_matrix(self.frame, weights)
        used = (matrix != 0).any(axis=0)  # 0 times missing is missing, so others are left out
        algebra.require_present(self.frame, np.flatnonzero(used))
        frame = algebra.contrast_frame(self.frame, matrix, names, self.estimate)
        degrees = None if self.degrees is None else self.degrees.combined(matrix)
        if degrees is not None:
            frame["df"] = degrees.df(frame["df"].to_numpy(dtype=float))
        out = self._linear(
            frame, lambda x: np.asarray(np.where(used, x, 0.0) @ matrix.T), degrees=degrees
        )
        if out.psi_vcov is None or out.psi is None:
            return out
        same = algebra.rounding_only(matrix, self.std_error, out.psi_vcov)
        psi, psi_vcov = np.where(same, 0.0, out.psi), np.where(same, 0.0, out.psi_vcov)
        return replace(out, psi=psi, psi_vcov=psi_vcov)

    def scale(self, factor: float | FloatArray, *, unit_of_measure: str) -> Estimates:
        """Return the rows multiplied by known constants, in a new unit of measure."""
        factors = algebra.factors_of(factor, len(self))
        frame = algebra.scaled_frame(self.frame, factors).assign(unit_of_measure=unit_of_measure)
        degrees = None if self.degrees is None else self.degrees.scaled(factors)
        return self._linear(frame, lambda x: x * factors, shares=self.shares, degrees=degrees)

    def with_frame(self, frame: pd.DataFrame) -> Estimates:
        """Return the same estimates with other describing columns; the joint law is kept.

        Raises
        ------
        EstimationError
            If the frame has other estimates: they would not match their errors.
        """
        given = frame["estimate"].to_numpy(dtype=float)
        if not np.array_equal(given, self.estimate, equal_nan=True):
            raise EstimationError("`with_frame` may not change estimates; use `shifted`.")
        return replace(self, frame=frame)

    def shifted(self, frame: pd.DataFrame, constants: FloatArray) -> Estimates:
        """Return estimates plus amounts, known (k,) or joint with the draws (S, k), in a new frame."""
        fixed = algebra.centre(constants, self.samples)
        return replace(
            self,
            frame=algebra.without_tests(frame).assign(estimate=self.estimate + fixed),
            samples=None if self.samples is None else self.samples + constants,
        )

    def wald(self, rows: Rows | None = None, *, allow_rank_deficient: bool = False) -> WaldTest:
        """
        Test jointly that the selected rows are zero; rows without variance are left out.

        Rows of one regression with bias-reduced errors (CR2, CR3) are tested by the approximate
        Hotelling law (HTZ). Otherwise the statistic over its rank is compared with F(rank, smallest
        df) where ``df`` is finite, and the statistic with the chi-square law where it is not. With
        symmetric `tails` the statistic is compared with those of the draws.
        """
        from vbceval.estimates.joint import joint_test

        part = self if rows is None else self.where(rows)
        return joint_test(part, allow_rank_deficient=allow_rank_deficient)

    def aggregate(
        self,
        kind: Literal["simple", "event_time", "cohort", "period"],
        *,
        balance: int | None = None,
        window: tuple[int, int] | None = None,
        weights_random: bool = True,
    ) -> Estimates:
        """
        Average group-time effects.

        Within each outcome and stratum: "simple" averages every effect at or after entry by the
        cohort shares; "event_time" averages cohorts at each e = t - g; "cohort" averages each
        cohort over its treated periods; "period" averages treated cohorts in each period. The
        last three add one row ``att_overall``: the plain mean over event times e >= 0 or over
        periods, and the share-weighted mean over cohorts. Estimates that are averages already
        (`TWFE`, `EventStudy`, `Efficient`) return their rows of that kind.

        Parameters
        ----------
        kind : {"simple", "event_time", "cohort", "period"}
            Which average.
        balance : int, optional
            For "event_time": keep cohorts observed at least this many periods after entry, and
            event times up to it, so that the mix of cohorts does not change after entry.
        window : (int, int), optional
            First and last event time used, both included.
        weights_random : bool, default True
            Add the sampling error of the cohort shares to the influence.

        Returns
        -------
        Estimates

        Raises
        ------
        DesignError
            If the estimates are not group-time effects, or no effect is left to average.

        References
        ----------
        .. [1] Callaway, B. and Sant'Anna, P. H. C. (2021). Difference-in-differences with
           multiple time periods. *Journal of Econometrics* 225(2), 200-230. Section 3.
        """
        from vbceval.estimates.aggregate import aggregate

        return aggregate(self, kind, balance=balance, window=window, weights_random=weights_random)

    def overall(self) -> Estimates:
        """Return the overall row(s) of an aggregate."""
        return self.where(estimand=[columns.OVERALL, columns.SIMPLE])

    def to_arviz(self) -> Any:
        """Return the ArviZ DataTree of a posterior."""
        if self.tree is None:
            raise EstimationError("only a posterior has an ArviZ tree; these estimates have none.")
        return self.tree() if callable(self.tree) else self.tree

    def plot(self, **options: Any) -> Any:
        """Draw the estimates with the figure that suits them; see `vbceval.figures`."""
        return algebra.plotter(self, **options)
