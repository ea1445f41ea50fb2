"""The restricted wild cluster bootstrap from cluster scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
_BLOCK_VALUES = 1 << 20
"""Cluster weights held as doubles at a time: they stay in the processor's cache."""


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


def wild_tests(
    scores: Sequence[FloatArray],
    parts: Iterable[FloatArray],
    inverse: FloatArray,
    contrast: FloatArray,
    estimate: FloatArray,
    multipliers: Array,
    *,
    level: float,
) -> list[list[WildResult]]:
    """
    Test c'b = 0 by cluster weights on restricted scores, exactly as refitting every draw.

    Parameters
    ----------
    scores : sequence of arrays, shape (G, p)
        X_c'W e_c of the unrestricted fit, effects nested in clusters taken out, for each of o
        outcomes.
    parts : iterable of arrays, shape (G, p)
        S_c M c, the cluster's cross-product times the direction, of each of r combinations.
    inverse : array, shape (p, p)
        M.
    contrast : array, shape (p, r)
        Columns c.
    estimate : array, shape (o, r)
        c'b.
    multipliers : array, shape (B, G)
        Cluster weights.
    level : float
        Content of the interval.

    Returns
    -------
    list of list of WildResult
        For each combination, of each outcome. Cost O(B G p (o + r (2 + o))) in matrix products;
        an interval adds O(B) an evaluation.
    """
    step = max(_BLOCK_VALUES // max(multipliers.shape[1], 1), 1)
    blocks = range(0, len(multipliers), step)
    held = np.empty((min(step, len(multipliers)), multipliers.shape[1]))

    def times(right: FloatArray) -> FloatArray:
        """Weights, which are by far the largest array, times columns: (columns, B)."""
        out = np.empty((right.shape[1], len(multipliers)))
        for i in blocks:
            signs = multipliers[i : i + step]
            held[: len(signs)] = signs
            out[:, i : i + step] = right.T @ held[: len(signs)].T
        return out

    def squares(right: FloatArray) -> FloatArray:
        """Squared weights times columns."""
        if multipliers.dtype == np.int8:
            return right.sum(axis=0)[:, None]
        return np.concatenate([right.T @ multipliers[i : i + step].T ** 2 for i in blocks], axis=1)

    p = len(inverse)
    totals = times(np.column_stack(scores))
    z = [totals[i * p : (i + 1) * p] for i in range(len(scores))]
    out = []
    for r, part in enumerate(parts):
        m = inverse @ contrast[:, r]
        h, gram = part @ inverse, inverse @ (part.T @ part) @ inverse
        a = np.column_stack([part @ m, *(s @ m for s in scores)])
        # everything is linear in delta, by how much the null moves the coefficient
        made = times(np.column_stack([part, *(x[:, None] * h for x in a.T), a]))
        z1, n = made[:p], made[-len(a.T) :]
        cross = [made[(i + 1) * p : (i + 2) * p] for i in range(len(a.T))]
        own = squares(np.column_stack([a * a, a[:, :1] * a[:, 1:]]))
        d11 = own[0] + _dot(gram @ z1 - 2 * cross[0], z1)
        found = []
        for i, (z0, value) in enumerate(zip(z, estimate[:, r], strict=True), 1):
            turned = gram @ z0
            d01 = own[len(z) + i] + _dot(turned - cross[i], z1) - _dot(cross[0], z0)
            turned -= 2 * cross[i]
            drawn = _Drawn(n[i], n[0], own[i] + _dot(turned, z0), d01, d11)
            observed = float(np.sqrt(a[:, i] @ a[:, i]))
            found.append(_inverted(drawn, value, observed, float(contrast[:, r] @ m), level))
        out.append(found)
    return out


class _Drawn(NamedTuple):
    """Numerators and squared denominators of t*, by powers of delta, each of shape (B,)."""

    n0: FloatArray
    n1: FloatArray
    d00: FloatArray
    d01: FloatArray
    d11: FloatArray


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("pb,pb->b", a, b))


def _inverted(
    drawn: _Drawn, estimate: float, observed: float, size: float, level: float
) -> WildResult:
    """Return the test of zero, and the interval of values that are not rejected."""
    n0, n1, d00, d01, d11 = drawn

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
        bound(p_value, estimate, -observed, alpha), bound(p_value, estimate, observed, alpha),
        len(np.unique(np.round(draws[np.isfinite(draws)], 9))),
    )  # fmt: skip


def bound(p_value: Callable[[float], float], estimate: float, step: float, alpha: float) -> float:
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
