"""Which counts of people a moments table holds, or gives away: one column each, a row a cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.moments.schema import Kind, Schema
from vbceval.moments.sums import Sums, people_column

Getter = Callable[..., FloatArray]


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
    amounts : Amounts or None
        For the rule of dominance, where it is wanted.
    """

    names: tuple[str, ...]
    values: FloatArray
    limits: FloatArray
    distinct: BoolArray
    whole: BoolArray
    amounts: Amounts | None


def protected_counts(
    sums: Sums,
    *,
    minimum: int,
    largest_weight: float | None = None,
    events: Sequence[str] = (),
    amounts: bool = False,
) -> Counts:
    """
    Return every count of people or rows that the sums hold or that can be had from them.

    These are: people and rows of a cell, of each outcome with gaps, and of the rows that lack it;
    rows with a one and with a zero in a 0/1 column, and the four combinations of two such columns
    whose product is summed; exposure; events.

    A column is 0/1 where its values and their squares have the same sum in every cell. Where rows
    are weighted, its sum is at most the number of ones times the largest weight.

    Raises
    ------
    DataError
        If rows are weighted, there are 0/1 columns or `events`, and no largest weight is known.
    """
    schema = sums.schema
    strange = [name for name in events if name not in (*schema.outcomes, *schema.covariates)]
    if strange:
        raise DataError(f"`events` names {listed(strange)}, which is not summed.")
    found: dict[str, tuple[FloatArray, float, bool]] = {}
    parts = {block: _of_block(sums, block, minimum, events) for block in schema.blocks}
    weighted = schema.weight is not None
    if weighted and any(len(p.scaled) for p in parts.values()) and largest_weight is None:
        raise DataError(
            "rows are weighted and there are 0/1 columns, so the sums hold no count of their ones. "
            f"Pass `largest_weight`, the largest `{schema.weight}` of a row: the sum is at most the "
            "count times it."
        )
    scale = float(largest_weight or 1.0) if weighted else 1.0
    everyone = _everyone(sums, minimum, parts)
    found.update(everyone)
    for block, part in parts.items():
        alone = schema.alone(block)
        where = "" if alone is None else f" where {alone}"
        here = part.limited(minimum, scale)
        found.update({f"{name}{where}": x for name, x in here.items()})
        if alone is None:
            continue
        lacking = f" without {alone}"
        shared = {**everyone, **_shared(parts, schema, minimum, scale)}
        for name, (values, limit, whole) in here.items():
            if name in shared and name not in block:
                found[f"{name}{lacking}"] = (shared[name][0] - values, limit, whole)
    names = tuple(found)
    return Counts(
        names=names,
        values=np.column_stack([found[x][0] for x in names]),
        limits=np.array([found[x][1] for x in names]),
        distinct=np.array([x.startswith("people") for x in names]),
        whole=np.array([found[x][2] for x in names]),
        amounts=_amounts(sums, parts, float(largest_weight or 1.0)) if amounts else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Counts of one group of outcomes: plain ones, weighted ones, and which columns are 0/1."""

    plain: Mapping[str, tuple[FloatArray, float, bool]]
    scaled: Mapping[str, FloatArray]
    whole: bool
    binary: tuple[str, ...]

    def limited(self, minimum: int, scale: float) -> dict[str, tuple[FloatArray, float, bool]]:
        limit = minimum * scale
        return {**self.plain, **{k: (x, limit, self.whole) for k, x in self.scaled.items()}}


def _shared(
    parts: Mapping[tuple[str, ...], _Block], schema: Schema, minimum: int, scale: float
) -> dict[str, tuple[FloatArray, float, bool]]:
    for block, part in parts.items():
        if block[0] not in schema.separate:
            return part.limited(minimum, scale)
    return {}


def _everyone(
    sums: Sums, minimum: int, parts: Mapping[tuple[str, ...], _Block]
) -> dict[str, tuple[FloatArray, float, bool]]:
    """Rows of all, where every outcome has gaps."""
    if any(block[0] not in sums.schema.separate for block in parts):
        return {}
    return {"rows": (_number(sums, sums.schema.rows), float(minimum), True)}


def _of_block(sums: Sums, block: tuple[str, ...], minimum: int, events: Sequence[str]) -> _Block:
    schema = sums.schema
    alone = schema.alone(block)
    w = () if schema.weight is None else (schema.weight,)

    def total(*factors: str) -> FloatArray:
        unit = 10.0 ** sum(schema.digits[f] or 0 for f in (*w, *factors))
        return _number(sums, schema.name(block, *w, *factors)) / unit

    # a cell that keeps second moments of p + m columns has at least as many rows, and two more
    fewest = max(minimum, len(schema.covariates) + len(block) + 2)
    rows = _number(sums, schema.name(block))
    plain: dict[str, tuple[FloatArray, float, bool]] = {"rows": (rows, float(fewest), True)}
    people = people_column(alone)
    if schema.unit is not None:
        plain["people"] = (_number(sums, people), float(minimum), True)
    if schema.exposure is not None:
        digits = schema.digits[schema.exposure]
        name = schema.name(block, schema.exposure)
        values = _number(sums, name) / 10.0 ** (digits or 0)
        values = values + schema.pivots.get(schema.exposure, 0.0) * rows
        plain[f"exposure ({schema.exposure})"] = (values, float(minimum), digits == 0)
    binary = tuple(x for x in (*schema.covariates, *block) if _is_binary(sums, block, x))
    every = total() if w else rows
    scaled: dict[str, FloatArray] = {}
    ones = {x: total(x) for x in binary}
    for x in binary:
        scaled[f"{x}=1"], scaled[f"{x}=0"] = ones[x], every - ones[x]
    for i, a in enumerate(binary):
        for b in binary[i + 1 :]:
            if a in block:
                continue  # products of two outcomes are not summed
            both = total(a, b)
            scaled[f"{a}=1, {b}=1"] = both
            scaled[f"{a}=1, {b}=0"] = ones[a] - both
            scaled[f"{a}=0, {b}=1"] = ones[b] - both
            scaled[f"{a}=0, {b}=0"] = every - ones[a] - ones[b] + both
    for x in events:
        if x in (*schema.covariates, *block) and x not in binary:
            scaled[f"events ({x})"] = _unshifted(sums, block, x)[0]
    whole = all(schema.digits[f] == 0 for f in w)
    return _Block(plain=plain, scaled=scaled, whole=whole, binary=binary)


def _is_binary(sums: Sums, block: tuple[str, ...], name: str) -> bool:
    """Whether all values are 0 or 1: only these are their own squares."""
    schema = sums.schema
    digits = schema.digits[name]
    if digits is None:
        return False
    w = () if schema.weight is None else (schema.weight,)
    once = sums._number(schema.name(block, *w, name))
    twice = sums._number(schema.name(block, *w, name, name))
    factor = 10.0**digits
    same = np.abs(twice.high - factor * once.high) <= 1e-15 * np.abs(twice.high)
    return bool(same.all())


def _amounts(sums: Sums, parts: Mapping[tuple[str, ...], _Block], largest_weight: float) -> Amounts:
    """How large one row can be in the outcomes that are amounts."""
    exact = sums.schema.dominance
    found = np.zeros((2, len(sums), 0))
    for block, part in parts.items():
        for y in block:
            if y not in part.binary:
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
