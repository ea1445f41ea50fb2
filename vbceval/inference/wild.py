"""The restricted wild cluster bootstrap from cluster scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import Array, FloatArray

_WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])
_TIE = 1e-12
_FARTHEST = 20.0
"""Standard errors beyond which an interval counts as unbounded."""
_BLOCK_VALUES = 1 << 23


@dataclass(frozen=True, kw_only=True)
class Wild:
    """
    A wild cluster bootstrap with the null imposed (WCR).

    Parameters
    ----------
    draws : int, default 9999
        Number of draws B. When there are no more sign patterns than draws, all of them are
        enumerated, and p-values have no simulation error.
    weights : {"rademacher", "webb"}, optional
        Law of the cluster weights. Default: Webb's six points below 12 clusters unless sign
        patterns can be enumerated, else Rademacher.
    seed : int, default 20210101
        Seed of the weights.
    level : float, default 0.95
        Content of the interval that inverts the test.

    References
    ----------
    .. [1] Roodman, D., MacKinnon, J. G., Nielsen, M. Ø. and Webb, M. D. (2019). Fast and wild:
       bootstrap inference in Stata using boottest. *Stata Journal* 19(1), 4-60. Section 5.
    """

    draws: int = 9999
    weights: Literal["rademacher", "webb"] | None = None
    seed: int = 20210101
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.draws < 99 or self.weights not in (None, "rademacher", "webb"):
            raise DesignError(
                "a wild bootstrap needs at least 99 `draws` and `weights` 'rademacher' or 'webb'; "
                f"they are {self.draws} and {self.weights!r}."
            )
        if not 0 < self.level < 1:
            raise DesignError(f"`level` is {self.level}: give a probability between 0 and 1.")

    def multipliers(self, n_clusters: int) -> tuple[Array, str]:
        """
        Return cluster weights, shape (B, G), and how they were made; signs as small integers.

        Enumerated patterns leave out those that differ by the sign of all weights, which give the
        same |t|; the first pattern is the sample itself.
        """
        few = n_clusters - 1 < 62 and 2 ** (n_clusters - 1) <= self.draws
        if self.weights != "webb" and few:
            patterns = np.arange(2 ** (n_clusters - 1))
            bits = (patterns[:, None] >> np.arange(n_clusters - 1)) & 1
            signs = np.column_stack([np.zeros(len(bits), dtype=np.int64), bits])
            return (1 - 2 * signs).astype(np.int8), "all sign patterns"
        law = self.weights or ("webb" if n_clusters < 12 else "rademacher")
        rng = generator(self.seed, "wild", law)
        if law == "webb":
            return np.take(_WEBB, rng.integers(0, 6, (self.draws, n_clusters))), "webb"
        signs = rng.integers(0, 2, (self.draws, n_clusters), dtype=np.int8)
        return np.asarray(1 - 2 * signs, dtype=np.int8), "rademacher"


class WildResult(NamedTuple):
    """
    A test that one combination of coefficients is zero, and its inversion.

    Parameters
    ----------
    t : float
        Observed statistic, without small-sample factor.
    p_value : float
        Share of |t*| at least as large.
    low, high : float
        Interval; infinite where the test never rejects.
    distinct : int
        Number of different |t*|.
    """

    t: float
    p_value: float
    low: float
    high: float
    distinct: int


def wild_test(
    scores: FloatArray,
    part: FloatArray,
    inverse: FloatArray,
    contrast: FloatArray,
    estimate: float,
    multipliers: Array,
    *,
    level: float,
) -> WildResult:
    """
    Test c'b = 0 by cluster weights on restricted scores, exactly as refitting every draw.

    Parameters
    ----------
    scores : array, shape (G, p)
        X_c'W e_c of the unrestricted fit, effects nested in clusters taken out.
    part : array, shape (G, p)
        S_c M c, the cluster's cross-product times the direction of the combination.
    inverse : array, shape (p, p)
        M.
    contrast : array, shape (p,)
        c.
    estimate : float
        c'b.
    multipliers : array, shape (B, G)
        Cluster weights.
    level : float
        Content of the interval.

    Returns
    -------
    WildResult
        Cost O(B G p): a few matrix products; the interval adds O(B) an evaluation.
    """
    m = inverse @ contrast
    size = float(contrast @ m)
    h = part @ inverse
    a0, a1 = scores @ m, part @ m
    gram = h.T @ h

    # one product with the weights, which are by far the largest array
    stacked = np.column_stack([scores, part, a0[:, None] * h, a1[:, None] * h, a0, a1])
    ends = np.cumsum([scores.shape[1], part.shape[1], h.shape[1], h.shape[1], 1])
    squared = np.column_stack([a0 * a0, a1 * a1, a0 * a1])
    signs = multipliers.dtype == np.int8

    def pieces(v: FloatArray) -> tuple[FloatArray, ...]:
        # everything is linear in delta, by how much the null moves the coefficient
        z0, z1, cross0, cross1, n0, n1 = np.split(v @ stacked, ends, axis=1)
        own = squared.sum(axis=0) if signs else ((v * v) @ squared).T
        d00 = own[0] - 2 * (cross0 * z0).sum(1) + ((z0 @ gram) * z0).sum(1)
        d11 = own[1] - 2 * (cross1 * z1).sum(1) + ((z1 @ gram) * z1).sum(1)
        d01 = own[2] - (cross0 * z1).sum(1) - (cross1 * z0).sum(1) + ((z0 @ gram) * z1).sum(1)
        return n0[:, 0], n1[:, 0], d00, d01, d11

    step = max(_BLOCK_VALUES // max(multipliers.shape[1], 1), 1)
    blocks = [
        pieces(multipliers[i : i + step].astype(float)) for i in range(0, len(multipliers), step)
    ]
    n0, n1, d00, d01, d11 = (np.concatenate(x) for x in zip(*blocks, strict=True))
    observed = float(np.sqrt(a0 @ a0))

    def tested(null: float) -> tuple[float, FloatArray]:
        delta = (estimate - null) / size
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(n0 + delta * n1) / np.sqrt(
                np.clip(d00 + 2 * delta * d01 + delta**2 * d11, 0.0, None)
            )
        return abs(estimate - null) / observed, np.nan_to_num(t, nan=0.0, posinf=np.inf)

    def p_value(null: float) -> float:
        t, draws = tested(null)
        return float(np.mean(draws >= t * (1 - _TIE) - _TIE))

    _, draws = tested(0.0)
    alpha = 1 - level
    return WildResult(
        estimate / observed, p_value(0.0),
        _bound(p_value, estimate, -observed, alpha), _bound(p_value, estimate, observed, alpha),
        len(np.unique(np.round(draws[np.isfinite(draws)], 9))),
    )  # fmt: skip


def _bound(p_value: Callable[[float], float], estimate: float, step: float, alpha: float) -> float:
    """Return where the p-value falls to alpha, going from the estimate by standard errors."""
    outer = 6.0
    while p_value(estimate + outer * step) > alpha:
        outer += 2.0
        if outer > _FARTHEST:
            return float(np.inf if step > 0 else -np.inf)
    inner = 0.0
    while outer - inner > 1e-5:
        middle = (inner + outer) / 2
        if p_value(estimate + middle * step) > alpha:
            inner = middle
        else:
            outer = middle
    return estimate + (inner + outer) / 2 * step
