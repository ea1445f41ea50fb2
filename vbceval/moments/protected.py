"""Counts of people in every cell, and rules that a cell may break by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.moments.counted import REPEATED, Enumeration, enumerate_counts
from vbceval.moments.few import Few, Spread
from vbceval.moments.forms import Form
from vbceval.moments.schema import Kind, Schema
from vbceval.moments.sums import Sums


@dataclass(frozen=True, eq=False, kw_only=True)
class Amounts:
    """
    How much of each amount one row can have, in every cell of the source.

    Parameters
    ----------
    total : array, shape (K, m)
        Sum of each amount; of its sizes, whatever their sign, where the pass took them.
    square : array, shape (K, m)
        Square of the largest size of a row where the pass took it; else what this does not pass,
        the sum of squares times the largest weight.
    exact : bool
        Whether the pass took sizes.
    """

    total: FloatArray
    square: FloatArray
    exact: bool

    def merged(self, place: IntArray, size: int) -> Amounts:
        """Return them of merged cells, of which `place` is the number, shape (K,)."""
        square = np.zeros((size, self.square.shape[1]))
        (np.maximum if self.exact else np.add).at(square, place, self.square)
        return replace(self, total=_added(self.total, place, size), square=square)

    def dominated(
        self, share: float, place: IntArray, rows: IntArray | slice, size: int
    ) -> BoolArray:
        """
        Return where one row has, or may have, more than a share of an amount.

        Parameters
        ----------
        share : float
            The largest share allowed.
        place : int array
            Merged cell of each of `rows`.
        rows : int array or slice
            Cells of the source.
        size : int
            Number of merged cells.
        """
        out = np.zeros(size, dtype=bool)
        merge = np.maximum if self.exact else np.add
        for total, square in zip(self.total[rows].T, self.square[rows].T, strict=True):
            most = np.zeros(size)
            merge.at(most, place, square)
            whole = np.abs(np.bincount(place, weights=total, minlength=size))
            out |= np.sqrt(most) > share * whole
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class Counts:
    """
    Counts in every cell of the source.

    Parameters
    ----------
    names : tuple of str
        What is counted, as ``rows`` or ``rows where dual=1``.
    values : array, shape (K, q)
        The counts; weighted where the moments are.
    limits : array, shape (q,)
        Smallest value other than 0 that may be published.
    distinct : array of bool, shape (q,)
        Counts of different people: a person may be in two cells, so those of merged cells are known
        from below only.
    whole : array of bool, shape (q,)
        Whether they are whole numbers.
    printed : array of bool, shape (q,)
        Whether reports print totals of them.
    few : Few
        For the rule of few rows behind many events.
    amounts : Amounts or None
        For the rule of dominance, where it is wanted.
    """

    names: tuple[str, ...]
    values: FloatArray
    limits: FloatArray
    distinct: BoolArray
    whole: BoolArray
    printed: BoolArray
    few: Few
    amounts: Amounts | None

    @property
    def small(self) -> BoolArray:
        """Where a count may not be known, shape (K, q)."""
        return is_between(self.values, self.whole, self.limits)

    def merged(self, place: IntArray, size: int, *, disjoint: bool) -> Counts:
        """
        Return the counts of merged cells.

        Parameters
        ----------
        place : int array, shape (K,)
            Number of the merged cell.
        size : int
            How many there are.
        disjoint : bool
            Whether people of merged cells add up; the largest part counts otherwise.
        """
        values = _added(self.values, place, size)
        for j in np.flatnonzero(self.distinct & (not disjoint)):
            values[:, j] = 0.0
            np.maximum.at(values[:, j], place, self.values[:, j])
        return replace(
            self, values=values, few=self.few.merged(place, size),
            amounts=None if self.amounts is None else self.amounts.merged(place, size),
        )  # fmt: skip


def _added(values: FloatArray, place: IntArray, size: int) -> FloatArray:
    sums = [np.bincount(place, weights=column, minlength=size) for column in values.T]
    return np.column_stack(sums) if sums else np.zeros((size, 0))


def is_between(values: FloatArray, whole: BoolArray, limits: FloatArray) -> BoolArray:
    """Return whether counts are above 0 and below their limits."""
    # sums of doubles that cancel leave a little more than zero
    nothing = np.where(whole, 0.5, 1e-6)
    return np.asarray((values > nothing) & (values < limits - 1e-9), dtype=bool)


def protected_counts(
    sums: Sums,
    *,
    minimum: int,
    largest_weight: float | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    without: Sequence[str] = (),
    amounts: bool = False,
) -> tuple[Counts, Enumeration]:
    """
    Return the counts of `enumerate_counts` in a table, and how they are calculated.

    Those that are small in no cell are left out, but for the usual ones: no sum of them is small.
    So are those that are known through numbers which do not leave.

    Parameters
    ----------
    sums, minimum, largest_weight, ranges
        As there.
    without : sequence of str
        Outcomes whose sums of squares do not leave; `REPEATED` where people do not.
    amounts : bool
        Whether the rule of dominance is wanted.

    Raises
    ------
    DataError
        If rows are weighted and no largest weight is known.
    """
    every = enumerate_counts(sums, minimum=minimum, largest_weight=largest_weight, ranges=ranges)
    stay = squares_of(sums.schema, without)
    values: dict[Form, FloatArray] = {}
    for form in every.forms:
        limits, whole = np.array(form.limit), np.array(form.whole)
        if form.name.startswith(REPEATED) and REPEATED in without:
            continue
        if stay.isdisjoint(form.terms):
            value = form.of(sums)
            if form.listed or is_between(value, whole, limits).any():
                values[form] = value
    spreads = tuple(x for x in every.spreads if stay.isdisjoint(x.squares.terms))
    found = Enumeration(forms=tuple(values), spreads=spreads)
    held = _amounts(sums, found, float(largest_weight or 1.0)) if amounts else None
    return _counts(sums, values, spreads, minimum, held), found


def squares_of(schema: Schema, outcomes: Sequence[str]) -> frozenset[str]:
    """Return the columns with the sums of squares of outcomes."""
    w = () if schema.weight is None else (schema.weight,)
    return frozenset(
        schema.name(block, *w, y, y) for block in schema.blocks for y in block if y in outcomes
    )


def counted(sums: Sums, enumeration: Enumeration, *, minimum: int) -> Counts:
    """Return the counts of another table, such as an earlier file, that it has the columns of."""
    held = set(sums.table.column_names)
    values = {f: f.of(sums) for f in enumeration.forms if held.issuperset(f.terms)}
    spreads = [s for s in enumeration.spreads if held.issuperset(s.squares.terms)]
    return _counts(sums, values, spreads, minimum, None)


def _counts(
    sums: Sums, values: Mapping[Form, FloatArray], spreads: Sequence[Spread], minimum: int,
    amounts: Amounts | None,
) -> Counts:  # fmt: skip
    return Counts(
        names=tuple(form.name for form in values),
        values=np.column_stack(list(values.values())) if values else np.zeros((len(sums), 0)),
        limits=np.array([form.limit for form in values]),
        distinct=np.array([form.distinct for form in values], dtype=bool),
        whole=np.array([form.whole for form in values], dtype=bool),
        printed=np.array([form.printed for form in values], dtype=bool),
        few=Few.of(spreads, sums, minimum),
        amounts=amounts,
    )


def _amounts(sums: Sums, enumeration: Enumeration, largest_weight: float) -> Amounts:
    """How large one row can be in the outcomes that are amounts."""
    exact = sums.schema.dominance
    two = {x for form in enumeration.forms if form.listed for x in form.uses}
    two.discard(sums.schema.exposure or "")
    found = np.zeros((2, len(sums), 0))
    for block in sums.schema.blocks:
        for y in block:
            if y not in two:
                # (w y)^2 of one row is at most the largest weight times the sum of w y^2
                pair = _sizes(sums, block, y) if exact else _unshifted(sums, block, y)
                pair[1] = pair[1] ** 2 if exact else np.maximum(largest_weight * pair[1], 0.0)
                found = np.concatenate([found, pair[:, :, None]], axis=2)
    return Amounts(total=found[0], square=found[1], exact=exact)


def _sizes(sums: Sums, block: tuple[str, ...], name: str) -> FloatArray:
    """Sum of sizes and largest size of a weighted amount, shape (2, K), in its unit."""
    schema = sums.schema
    factors = (name,) if schema.weight is None else (schema.weight, name)
    kinds: tuple[Kind, ...] = ("sizes", "largest")
    found = [_number(sums, schema.name(block, *factors, kind=kind)) for kind in kinds]
    return np.stack(found) / sums.unit(*factors)


def _unshifted(sums: Sums, block: tuple[str, ...], name: str) -> FloatArray:
    """Weighted sum and sum of squares of a column, shape (2, K), in its unit and about zero."""
    schema = sums.schema
    w = () if schema.weight is None else (schema.weight,)
    unit = 10.0 ** sum(schema.digits[f] or 0 for f in w)
    size = 10.0 ** (schema.digits[name] or 0)
    all_ = _number(sums, schema.name(block, *w)) / unit
    first = _number(sums, schema.name(block, *w, name)) / (unit * size)
    second = _number(sums, schema.name(block, *w, name, name)) / (unit * size**2)
    pivot = schema.pivots.get(name, 0.0)
    return np.stack([first + pivot * all_, second + 2 * pivot * first + pivot**2 * all_])


def _number(sums: Sums, name: str) -> FloatArray:
    return sums._number(name).high
