"""Clusters of a regression grouped by the columns in which they are worked with."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray

_FRAME_COST = 1e7
"""What starting a frame takes, in multiplications."""
_MOST_VALUES = 1 << 25
"""Sums over pairs of clusters without an order of columns may take as many numbers."""


class Pattern(NamedTuple):
    """
    Clusters that have values in the same columns.

    Parameters
    ----------
    columns : int array, shape (a,)
        The columns, increasing.
    clusters : int array, shape (b,)
        Their positions among G clusters.
    """

    columns: IntArray
    clusters: IntArray


class Products(Protocol):
    """What `bias_reduced` asks of a regression."""

    def patterns(self) -> list[Pattern]:
        """Return all clusters, by the columns in which they have values."""
        ...

    def alike(self, pattern: Pattern) -> IntArray:
        """Return for each column of a pattern which of them it equals in all of its clusters."""
        ...

    def cross(self, clusters: IntArray, columns: IntArray) -> FloatArray:
        """Return X_c'WX_c, shape (b, a, a), effects nested in clusters taken out."""
        ...


def frames_of(products: Products, inverse: FloatArray, m: int) -> tuple[list[Pattern], bool]:
    """
    Return clusters by the columns they are worked with, and whether in order of elimination.

    Parameters
    ----------
    products : Products
        Cross-products of clusters.
    inverse : array, shape (p, p)
        Inverse of their sum.
    m : int
        Combinations of coefficients.

    Returns
    -------
    list of Pattern, bool
        Whichever is less work: clusters with those that have their columns and more, of which equal
        ones count once; or, where columns have an order in which clusters reach few of them,
        clusters by paths in it.
    """
    patterns = products.patterns()
    joined, apart = _joined(patterns, products, m)
    ordered = _ordered(patterns, len(inverse))
    path = sum(_work(len(x.clusters), len(x.columns), m) + _FRAME_COST for x in ordered)
    apart += m * len(inverse) ** 3 / 4
    large = m * len(inverse) ** 2 > _MOST_VALUES
    return (ordered, True) if large or path < apart else (joined, False)


class _Head(NamedTuple):
    """A pattern, which of its columns are equal, how many are not, and clusters that join it."""

    pattern: Pattern
    same: IntArray
    size: int
    inside: BoolArray
    members: list[IntArray]

    def has(self, used: BoolArray) -> bool:
        """Whether columns in use are all here, and equal ones used together."""
        if (used & ~self.inside).any():
            return False
        both = np.bincount(self.same, used[self.pattern.columns])
        return bool((both % np.maximum(np.bincount(self.same), 1) == 0).all())


def _joined(patterns: list[Pattern], products: Products, m: int) -> tuple[list[Pattern], float]:
    """Add clusters to others with their columns and more, and say how much work is left."""
    heads: list[_Head] = []
    p = 1 + max(int(columns.max()) for columns, _ in patterns)
    for pattern in sorted(patterns, key=lambda x: -len(x.columns)):
        used = np.zeros(p, dtype=bool)
        used[pattern.columns] = True
        n, a = len(pattern.clusters), len(pattern.columns)
        near = [h for h in heads if _work(n, h.size, m) <= _work(n, a // 2, m) + _FRAME_COST]
        head = min((h for h in near if h.has(used)), key=lambda h: h.size, default=None)
        if head is None:
            same = products.alike(pattern)
            size = len(np.unique(same))
            heads.append(_Head(pattern, same, size, used, [pattern.clusters]))
        else:
            head.members.append(pattern.clusters)
    made = [Pattern(h.pattern.columns, np.sort(np.concatenate(h.members))) for h in heads]
    work = [_work(len(x.clusters), h.size, m) for x, h in zip(made, heads, strict=True)]
    return made, sum(work) + _FRAME_COST * len(made)


def _ordered(patterns: list[Pattern], p: int) -> list[Pattern]:
    """Return clusters by paths of columns in order of elimination, those used by few first."""
    uses = np.zeros(p, dtype=np.int64)
    for columns, clusters in patterns:
        uses[columns] += len(clusters)
    order = np.argsort(uses, kind="stable")
    rank = np.argsort(order)
    first = np.array([rank[columns].min() for columns, _ in patterns], dtype=np.int64)
    paths = _paths(patterns, rank, first)
    heads: dict[int, list[IntArray]] = {}
    sizes = paths.sum(axis=1)
    # the longest path first, so that shorter ones that it contains can join it
    for i in np.lexsort((first, -sizes[first])):
        at = int(first[i])
        near = [h for h in heads if paths[h, at] and sizes[h] <= 1.2 * sizes[at] + 8]
        heads.setdefault(min(near, key=lambda h: int(sizes[h]), default=at), []).append(
            patterns[i].clusters
        )
    return [
        Pattern(order[np.flatnonzero(paths[h])], np.sort(np.concatenate(members)))
        for h, members in heads.items()
    ]


def _work(clusters: int, columns: int, m: int) -> float:
    """Multiplications for clusters of one frame."""
    return float(clusters * columns**2 * (columns + m))


def _paths(patterns: list[Pattern], rank: IntArray, first: IntArray) -> BoolArray:
    """Return which columns are on the path from each to the root of the elimination tree."""
    p = len(rank)
    linked = np.zeros((p, p), dtype=bool)
    for (columns, _), at in zip(patterns, first, strict=True):
        # eliminating the first column of a cluster links all others
        linked[at, rank[columns]] = True
    parent = np.full(p, -1, dtype=np.int64)
    for j in range(p):
        later = np.flatnonzero(linked[j, j + 1 :])
        if len(later):
            parent[j] = j + 1 + later[0]
            linked[parent[j]] |= linked[j]
    paths = np.eye(p, dtype=bool)
    for j in range(p - 1, -1, -1):
        if parent[j] >= 0:
            paths[j] |= paths[parent[j]]
    return paths
