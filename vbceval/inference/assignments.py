"""Assignments that could have been drawn: which there are, how many, and draws of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError
from vbceval.core.typing import IntArray


def block_codes(
    blocks: Mapping[Any, Any] | pd.Series | str | None,
    labels: pd.Index,
    frame: pd.DataFrame | None,
    cluster: str,
) -> IntArray:
    """
    Return the block of each cluster as a code, shape (G,).

    Parameters
    ----------
    blocks : mapping or Series of cluster label to block, str, or None
        A name is a column of `frame`; None is one block.
    labels : Index, length G
        Clusters.
    frame : DataFrame or None
        Rows, where there are some.
    cluster : str
        Column of the cluster in `frame`.

    Raises
    ------
    DesignError
        If a column is absent or changes within clusters, or a cluster has no block.
    """
    if blocks is None:
        return np.zeros(len(labels), dtype=np.int64)
    if isinstance(blocks, str):
        if frame is None or blocks not in frame:
            raise DesignError(
                f"`blocks` names the column `{blocks}`, which these data do not have. Give a "
                "mapping of cluster to block."
            )
        pairs = frame[[cluster, blocks]].drop_duplicates()
        if pairs[cluster].duplicated().any():
            raise DesignError(f"`{blocks}` changes within clusters, so it is no block of them.")
        blocks = pairs.set_index(cluster)[blocks]
    table = dict(blocks)
    found = pd.Series([table.get(label) for label in labels])
    lost = int(found.isna().sum())
    if lost:
        raise DesignError(f"{lost:,} of {len(labels):,} clusters have no block.")
    return pd.factorize(found)[0].astype(np.int64)


def number_of_orders(codes: IntArray, block: IntArray) -> int:
    """
    Return how many different assignments keep what each block was given.

    Parameters
    ----------
    codes : int array, shape (G,)
        What each cluster was given.
    block : int array, shape (G,)
        Its block.

    Examples
    --------
    >>> import numpy as np
    >>> number_of_orders(np.array([1, 0, 0, 1, 0]), np.array([0, 0, 0, 1, 1]))
    6
    """
    total = 1
    for b in np.unique(block):
        counts = np.bincount(codes[block == b])
        total *= math.factorial(int(counts.sum())) // math.prod(
            math.factorial(int(c)) for c in counts
        )
    return total


def drawn_orders(block: IntArray, draws: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield positions from which each cluster takes its assignment, shape (G,), by draws."""
    places = [np.flatnonzero(block == b) for b in np.unique(block)]
    for _ in range(draws):
        order = np.arange(len(block))
        for place in places:
            order[place] = rng.permutation(place)
        yield order


def all_orders(codes: IntArray, block: IntArray) -> Iterator[IntArray]:
    """Yield one order for every different assignment, shape (G,)."""
    places = [np.flatnonzero(block == b) for b in np.unique(block)]

    def fill(order: IntArray, rest: list[IntArray]) -> Iterator[IntArray]:
        if not rest:
            yield order.copy()
            return
        place = rest[0]
        for source in _different(place, codes):
            order[place] = source
            yield from fill(order, rest[1:])

    yield from fill(np.arange(len(block)), places)


def _different(place: IntArray, codes: IntArray) -> Iterator[IntArray]:
    """Yield orders of some positions that differ in their codes, in the order of the codes."""
    sources = {code: place[codes[place] == code] for code in np.unique(codes[place]).tolist()}
    now = np.sort(codes[place])
    while True:
        order = np.empty_like(place)
        for code, source in sources.items():
            order[now == code] = source
        yield order
        # the next arrangement: raise the last code that is below its neighbour, sort what follows
        rises = np.flatnonzero(now[:-1] < now[1:])
        if not len(rises):
            return
        last = rises[-1]
        larger = last + 1 + np.flatnonzero(now[last + 1 :] > now[last])[-1]
        now[[last, larger]] = now[[larger, last]]
        now[last + 1 :] = now[last + 1 :][::-1].copy()
