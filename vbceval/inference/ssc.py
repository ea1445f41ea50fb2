"""Small-sample factors of cluster-robust covariances, each by the name of who uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vbceval.core.errors import DesignError, EstimationError


@dataclass(frozen=True, kw_only=True)
class SSC:
    """
    Small-sample factor that multiplies the plain sandwich (CR0).

    The factor is ``G/(G-1)`` if `G`, times ``(N-1)/(N-K)`` unless ``K="none"``.

    Parameters
    ----------
    G : bool, default True
        Multiply by clusters / (clusters - 1).
    K : {"none", "levels", "nested", "full"}, default "none"
        Which parameters count in ``(N-1)/(N-K)``: none (the term is left out); slopes and all levels
        of effects that are not nested in the cluster; the same without levels that other effects
        span; or every column with absorbed levels.
    name : str
        How the choice is named in results.

    Notes
    -----
    `none` is what R `did` prints (division by n, no factor). `cluster` is the default of
    influence-only estimators. `fixest` is the default of regressions; `stata` is `xtreg`/`reghdfe`
    (absorbed nested effects not counted); `statsmodels` counts every column. The first two differ
    where effects span each other, as regions by period beside units of regions do: fixest counts
    levels, without looking whether another effect spans them.
    """

    G: bool = True
    K: Literal["none", "levels", "nested", "full"] = "none"
    name: str = "custom"

    def __post_init__(self) -> None:
        if self.K not in ("none", "levels", "nested", "full"):
            raise DesignError(f"`K` is {self.K!r}; use 'none', 'levels', 'nested' or 'full'.")

    @classmethod
    def none(cls) -> SSC:
        """No factor, normal quantiles: R `did`, CR0."""
        return cls(G=False, K="none", name="none")

    @classmethod
    def cluster(cls) -> SSC:
        """``G/(G-1)`` only: clubSandwich CR1; the default of influence-only estimators."""
        return cls(G=True, K="none", name="G")

    @classmethod
    def fixest(cls) -> SSC:
        """R fixest: effects nested in the cluster are not counted in K; all levels of others are."""
        return cls(G=True, K="levels", name="fixest")

    @classmethod
    def stata(cls) -> SSC:
        """Stata `xtreg, fe` and `reghdfe`: absorbed effects nested in the cluster not counted."""
        return cls(G=True, K="nested", name="stata")

    @classmethod
    def statsmodels(cls) -> SSC:
        """Statsmodels: every column of the design counts in K."""
        return cls(G=True, K="full", name="statsmodels")

    def factor(
        self, *, n_clusters: int, n_rows: int | None = None, n_params: int | None = None
    ) -> float:
        """
        Return the factor for a sample.

        Parameters
        ----------
        n_clusters : int
            Number of clusters G.
        n_rows, n_params : int, optional
            N and K, needed unless ``K="none"``; `n_params` counted by the rule of `K`.

        Raises
        ------
        EstimationError
            With fewer than two clusters, or when N - K is not positive or not defined.
        """
        if n_clusters < 2:
            raise EstimationError(
                f"{n_clusters} cluster cannot support a cluster-robust covariance: variation "
                "between clusters is what it measures. Cluster on a finer unit, or use "
                "randomization inference."
            )
        value = n_clusters / (n_clusters - 1) if self.G else 1.0
        if self.K == "none":
            return value
        if n_rows is None or n_params is None:
            raise EstimationError(
                f"small-sample factor '{self.name}' needs (N-1)/(N-K), and this estimator is not "
                "one regression with K parameters. Use SSC.cluster() (the default) or SSC.none()."
            )
        if n_rows <= n_params:
            raise EstimationError(
                f"{n_rows:,} rows and {n_params:,} parameters leave no degrees of freedom for "
                f"small-sample factor '{self.name}'. Drop covariates or effects."
            )
        return value * (n_rows - 1) / (n_rows - n_params)

    def df(self, n_clusters: int) -> float:
        """Return degrees of freedom of t intervals: G - 1, or infinity (normal) without factor."""
        return float(n_clusters - 1) if self.G else float(np.inf)
