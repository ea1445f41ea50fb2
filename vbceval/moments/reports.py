"""Totals that reports print, which readers of a file know besides it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.disclosure import complement, unproven
from vbceval.moments.merging import Cells
from vbceval.moments.protected import Counts, is_between
from vbceval.moments.schema import Schema

COHORT = "cohort"
"""What margins call the cohort (and exit) of an organization."""


def default_margins(schema: Schema) -> tuple[tuple[str, ...], ...]:
    """Return the totals that reports print by period: all, by each stratum, all strata, and cohort."""
    single = [(schema.period,), *((schema.period, s) for s in schema.strata)]
    crossed = [(schema.period, *schema.strata)]
    return tuple(dict.fromkeys([*single, *crossed, (COHORT, schema.period)]))


def checked_margins(
    margins: Sequence[Sequence[str]], schema: Schema
) -> tuple[tuple[str, ...], ...]:
    """Return margins as tuples of key columns; refuse unknown ones."""
    if isinstance(margins, str) or any(isinstance(m, str) for m in margins):
        raise DataError(
            f"`margins` is a list of lists of keys, such as [['{schema.period}']]; {margins!r} was "
            "given."
        )
    strange = [k for m in margins for k in m if k not in (*schema.keys, COHORT)]
    if strange:
        raise DataError(
            f"`margins` name {listed(strange)}; keys are {listed((*schema.keys, COHORT))}."
        )
    return tuple(dict.fromkeys(tuple(m) for m in margins))


def margin_codes(margins: Sequence[Sequence[str]], cells: Cells, schema: Schema) -> list[IntArray]:
    """Return for each margin the number of its entry to which each cell of the source belongs."""
    keys = {schema.cluster: cells.cluster, schema.period: cells.period}
    keys |= {s: cells.strata[:, j] for j, s in enumerate(schema.strata)}
    keys[COHORT] = cells.cohort[cells.cluster]
    found = []
    for margin in margins:
        code = np.zeros(len(cells.cluster), dtype=np.int64)
        for k in margin:
            code = np.unique(code * (int(keys[k].max()) + 1) + keys[k], return_inverse=True)[1]
        found.append(code)
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Totals:
    """
    Totals of cells of the source by some keys.

    Parameters
    ----------
    codes : list of int array, shape (K,)
        For each margin, the number of its entry to which a cell belongs.
    size : int
        Number K of cells.
    complementary : bool
        Whether reports leave out totals that would give small ones away by subtraction, as they
        must. Otherwise only small ones are left out.
    """

    codes: list[IntArray]
    size: int
    complementary: bool

    @cached_property
    def links(self) -> Any:
        """Which cells add up to each entry, one margin after the other, shape (E, K)."""
        return self._links(np.arange(self.size), self.size)

    @cached_property
    def _kinds(self) -> tuple[IntArray, Any]:
        """Number of the set of entries of each cell, and which sets add up to each entry."""
        kind = np.zeros(self.size, dtype=np.int64)
        for code in self.codes:
            kind = np.unique(kind * (int(code.max(initial=0)) + 1) + code, return_inverse=True)[1]
        one = np.unique(kind, return_index=True)[1]
        return kind, self._links(one, len(one))

    def _links(self, cells: IntArray, size: int) -> Any:
        parts = [sparse.csr_array((0, size))]
        for code in self.codes:
            shape = (int(code.max(initial=-1)) + 1, size)
            where = (code[cells], np.arange(size))
            parts.append(sparse.csr_array((np.ones(size), where), shape=shape))
        return sparse.vstack(parts, format="csr")

    def printed(self, counts: Counts, q: int) -> BoolArray:
        """Return which entries reports print of a count, shape (E,)."""
        if not self.codes or not counts.printed[q]:
            return np.zeros(self.links.shape[0], dtype=bool)
        kind, links = self._kinds
        limit, whole = float(counts.limits[q]), bool(counts.whole[q])
        values = np.bincount(kind, weights=counts.values[:, q])
        totals = links @ values
        small = is_between(values, counts.whole[q], counts.limits[q])
        shown = ~is_between(totals, counts.whole[q], counts.limits[q])
        if not self.complementary or not small.any():
            return np.asarray(shown)
        for entries, kinds in _given_away(links, totals, values, shown, small, limit, whole):
            shown[entries] &= _kept(
                links[entries][:, kinds], totals[entries], values[kinds], shown[entries],
                small[kinds], limit,
            )  # fmt: skip
        # what hides a count among numbers that are not whole need not hide it among whole ones
        for entries, _ in _given_away(links, totals, values, shown, small, limit, whole):
            shown[entries] = False
        return np.asarray(shown)


def _given_away(
    links: Any, totals: FloatArray, values: FloatArray, shown: BoolArray, small: BoolArray,
    limit: float, whole: bool,
) -> Iterator[tuple[IntArray, IntArray]]:  # fmt: skip
    """Yield the connected entries and kinds where the totals alone tell something small."""
    protected = np.flatnonzero(small)
    exact = np.rint(totals) if whole else totals
    bad = unproven(
        links[shown], exact[shown], protected=protected, limit=limit, whole=whole, table=values
    )
    if not bad.any():
        return
    graph = sparse.block_array([[None, links], [links.T, None]], format="csr")
    label = sparse.csgraph.connected_components(graph, directed=False)[1]
    of_entries, of_kinds = label[: len(totals)], label[len(totals) :]
    for part in np.unique(of_kinds[protected[bad]]):
        yield np.flatnonzero(of_entries == part), np.flatnonzero(of_kinds == part)


def _kept(
    links: Any, totals: FloatArray, values: FloatArray, shown: BoolArray, small: BoolArray,
    limit: float,
) -> BoolArray:  # fmt: skip
    """Which entries can be printed, as far as numbers that need not be whole tell."""
    known = np.concatenate([np.zeros(len(values), dtype=bool), np.ones(len(totals), dtype=bool)])
    every = np.concatenate([values, totals])
    try:
        # a stratum before the total of all: the file tells that total in any case
        pattern = complement(
            every,
            sparse.hstack([links, -sparse.eye_array(len(totals))]),
            primary=np.concatenate([small, ~shown]), hidden=~known, minimum=limit,
            cost=every**2, most_exact=0,
        )  # fmt: skip
    except DataError:
        return np.zeros(len(totals), dtype=bool)
    return np.asarray(~pattern.suppressed[known])
