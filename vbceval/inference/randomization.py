"""Options of randomization inference; `vbceval.did.randomization_test` draws the assignments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from vbceval.core.errors import DesignError


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """
    A test by drawing assignments again.

    Parameters
    ----------
    blocks : mapping or Series of cluster label to block, or str, optional
        Strata within which assignment was drawn (matched sets, strata of markets); a name is a
        column of the panel. Default: all clusters could have changed places.
    draws : int, default 999
        Assignments drawn; all of them when there are no more.
    statistic : {"t", "estimate"}
        "t" divides by the cluster-robust error, and is valid in large samples also when only the
        average effect is zero; "estimate" tests that no cluster has any effect, exactly.
    level : float, default 0.95
        Content of the interval, which inverts the test under one constant effect.
    seed : int, default 20210101
        Seed of the draws.

    References
    ----------
    .. [1] Wu, J. and Ding, P. (2021). Randomization tests for weak null hypotheses in randomized
       experiments. *JASA* 116(536), 1898-1913.
    .. [2] MacKinnon, J. G. and Webb, M. D. (2020). Randomization inference for
       difference-in-differences with few treated clusters. *Journal of Econometrics* 218(2),
       435-450.
    """

    blocks: Mapping[Any, Any] | pd.Series | str | None = None
    draws: int = 999
    statistic: Literal["t", "estimate"] = "t"
    level: float = 0.95
    seed: int = 20210101

    def __post_init__(self) -> None:
        if self.draws < 19 or self.statistic not in ("t", "estimate") or not 0 < self.level < 1:
            raise DesignError(
                "a randomization test needs at least 19 `draws`, `statistic` 't' or 'estimate', and "
                f"a `level` between 0 and 1; they are {self.draws}, {self.statistic!r} and "
                f"{self.level}."
            )

    def too_few(self, assignments: int) -> bool:
        """Whether no p-value can be as small as 1 - level, the observed assignment counted."""
        # 1 - 0.9 is a little below 0.1
        return 1 / assignments > 1 - self.level + 1e-12
