"""One scan that decides whether a table can be summed exactly, and says everything that is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.engine import Engine, Relation, sql
from vbceval.moments import expressions as ex

if TYPE_CHECKING:
    from sqlglot import exp

TRIED = (0, 2, 4, 6)
"""Digits tried on columns of doubles, and of wide decimals, whose digits are not declared."""

# what doubles have beyond a digit and arithmetic explains, in units of that digit
_NOISE = 1e-6
# and beside the range of the column: as exact as the moments are said to be
_AGREE = 1e-10
# three factors of up to this size can be multiplied and added up
_EXPONENT = 90
_LARGEST = 10.0**_EXPONENT

_NUMBERS = ("integer", "decimal", "float", "boolean")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """
    What the scan found of one column that is summed.

    Parameters
    ----------
    digits : int or None
        Decimal digits to keep; None sums doubles.
    missing : int
        Rows without a value.
    low, high : float
        Smallest and largest value.
    pivot : float
        A value near the mean, 0 where digits are kept.
    """

    digits: int | None
    missing: int
    low: float
    high: float
    pivot: float

    @property
    def largest(self) -> float:
        """Largest size of a value."""
        return max(abs(self.low), abs(self.high))

    @property
    def scaled(self) -> float:
        """Size that no value passes once it is a whole number; at least 1."""
        return max(self.largest * 10.0 ** (self.digits or 0) + 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """
    What the scan found of a table.

    Parameters
    ----------
    rows : int
        Rows.
    columns : mapping of str to Facts
        Of every column that is summed.
    periods : tuple of float
        First and last period.
    levels : mapping of str to int
        About how many values each key within a cluster has.
    """

    rows: int
    columns: Mapping[str, Facts]
    periods: tuple[float, float]
    levels: Mapping[str, int]


def inspect(
    engine: Engine,
    relation: Relation,
    *,
    keys: tuple[str, ...],
    period: str,
    numbers: tuple[str, ...],
    weights: tuple[str, ...],
    digits: Mapping[str, int | None],
    pivots: Mapping[str, float],
    within: tuple[str, ...] = (),
    problems: Problems | None = None,
) -> Inspection:
    """
    Scan a table once: its rows, keys, and every column that is summed.

    Parameters
    ----------
    engine : Engine
        Where the table is.
    relation : Relation
        The table.
    keys : tuple of str
        Columns that may not be missing.
    period : str
        The one of them that must be a number.
    numbers : tuple of str
        Columns that are summed.
    weights : tuple of str
        Those of them that may be neither missing nor negative.
    digits, pivots : mapping
        What the caller declares; see `Moments.from_table`.
    within : tuple of str, optional
        Those of the keys whose numbers of values are wanted.
    problems : Problems, optional
        What is wrong with the table as far as it is known, to be said together.

    Raises
    ------
    DataError
        One error with every problem of the table.
    """
    problems = Problems(relation.source.title) if problems is None else problems
    known = len(problems.found)
    _check_asked(problems, relation, period, numbers, digits, pivots)
    if len(problems.found) > known:
        problems.raise_if_any()
    tried = {name: _tried(relation, name, digits) for name in numbers}
    parts = _scan(relation, keys, within, period, tried)
    found = engine.run(sql.select(*parts, of=relation.name)).to_pylist()[0]
    found |= _lost(engine, relation, tried, found)
    rows = int(found["rows"])
    if rows == 0:
        raise DataError(f"{relation.source.title} has no rows. Check the source.")
    for i, name in enumerate(keys):
        if found[f"k{i}"]:
            problems.add(
                f"`{name}` is missing in {say_people(found[f'k{i}'], 'rows')}, which belong to no "
                "cell. Fill the values or leave these rows out."
            )
    if found["p_infinite"] and period not in numbers:
        problems.add(
            f"`{period}` is infinite in {say_people(found['p_infinite'], 'rows')}, which are in no "
            "period. Correct it, or leave these rows out."
        )
    facts = {}
    for j, name in enumerate(numbers):
        facts[name] = _judge(problems, name, j, found, rows, tried[name], digits)
        low = found[f"l{j}"]
        if name in weights and facts[name].missing:
            problems.add(
                f"`{name}` is missing in {say_people(facts[name].missing, 'rows')}, and a row "
                "without it counts for nothing known. Fill it, or leave these rows out."
            )
        if name in weights and low is not None and float(low) < 0:
            problems.add(f"`{name}` is negative in some rows; it must be 0 or more. Correct it.")
    problems.raise_if_any()
    facts |= _with_pivots(engine, relation, facts, weights, pivots)
    return Inspection(
        rows=rows, columns=facts, periods=(float(found["p_low"]), float(found["p_high"])),
        levels={name: int(found[f"u{i}"]) for i, name in enumerate(within)},
    )  # fmt: skip


def _check_asked(
    problems: Problems, relation: Relation, period: str, numbers: tuple[str, ...],
    digits: Mapping[str, object], pivots: Mapping[str, float],
) -> None:  # fmt: skip
    """Say which columns are no numbers, and what is declared wrongly, before a row is read."""
    for name in dict.fromkeys((*numbers, period)):
        kind = relation.column(name)
        if kind.kind in _NUMBERS:
            continue
        wanted = (
            "so it cannot be summed. Convert it when the table is made (categories: one 0/1 column "
            "a level)."
        )
        if name == period:
            wanted = (
                "and periods are numbers, such as years, or quarters counted from the first one "
                "(entry is on the same scale). Convert it when the table is made."
            )
        problems.add(f"`{name}` holds {kind.engine_type}, not numbers, {wanted}")
    for name, declared in digits.items():
        if declared is None:
            continue
        if isinstance(declared, bool) or not isinstance(declared, Integral):
            problems.add(
                f"`digits` of `{name}` is {declared!r}. Give a whole number, such as 2 for cents, or None."
            )
        elif not 0 <= int(declared) <= sql.LARGEST_SCALE:
            problems.add(
                f"`digits` of `{name}` is {declared}, and up to {sql.LARGEST_SCALE} after the point can be "
                f"kept. Give those that its values have, such as digits={{'{name}': 2}} for cents, "
                f"digits={{'{name}': None}} to sum doubles, or cast it to fewer digits in the source."
            )
    strange = [n for n in (*digits, *pivots) if n not in numbers]
    if strange:
        problems.add(f"`digits` or `pivots` name {listed(strange)}, which is not summed.")


def _scan(
    relation: Relation,
    keys: tuple[str, ...],
    within: tuple[str, ...],
    period: str,
    tried: Mapping[str, tuple[int, ...]],
) -> list[exp.Expression]:
    """What is counted of every key and every column that is summed."""
    time = ex.value(period, relation.column(period))
    parts: list[exp.Expression] = [
        sql.named(ex.count_rows(), "rows"),
        sql.named(ex.smallest(time), "p_low"),
        sql.named(ex.largest(time), "p_high"),
        sql.named(sql.count_if(ex.is_infinite(period, relation.column(period))), "p_infinite"),
    ]
    for i, name in enumerate(keys):
        parts.append(sql.named(sql.count_if(ex.is_missing(name, relation.column(name))), f"k{i}"))
    parts += [sql.named(ex.about_how_many(name), f"u{i}") for i, name in enumerate(within)]
    for j, name in enumerate(tried):
        column = relation.column(name)
        parts += [
            sql.named(sql.count_if(ex.is_missing(name, column)), f"m{j}"),
            sql.named(sql.count_if(ex.is_infinite(name, column)), f"i{j}"),
            sql.named(ex.smallest(ex.value(name, column)), f"l{j}"),
            sql.named(ex.largest(ex.value(name, column)), f"h{j}"),
        ]
        for d in tried[name]:
            over = sql.overflows(name, column, scale=d)
            parts.append(sql.named(sql.count_if(over), f"o{j}_{d}"))
            if column.kind == "float":
                gap = sql.beyond_digits(name, column, scale=d)
                parts.append(sql.named(ex.largest(gap), f"g{j}_{d}"))
            else:
                lost = sql.loses_digits(name, column, scale=d)
                parts.append(sql.named(sql.count_if(lost), f"d{j}_{d}"))
    return parts


def _lost(
    engine: Engine, relation: Relation, tried: Mapping[str, tuple[int, ...]],
    found: Mapping[str, Any],
) -> dict[str, int]:  # fmt: skip
    """Count the rows of doubles that have more digits than declared, where there are such rows."""
    parts = [
        sql.named(sql.count_if(sql.loses_digits(name, relation.column(name), scale=d)), f"d{j}_{d}")
        for j, (name, digits) in enumerate(tried.items())
        for d in (digits if len(digits) == 1 else ())
        if (found.get(f"g{j}_{d}") or 0.0) > _NOISE
    ]
    return engine.run(sql.select(*parts, of=relation.name)).to_pylist()[0] if parts else {}


def _tried(relation: Relation, name: str, digits: Mapping[str, int | None]) -> tuple[int, ...]:
    if name in digits:
        declared = digits[name]
        return () if declared is None else (declared,)
    column = relation.column(name)
    if column.kind == "float":
        return TRIED
    scale, whole = column.scale or 0, (column.precision or 0) - (column.scale or 0)
    if column.kind != "decimal" or whole + scale <= sql.MOST_DIGITS:
        return (scale,)
    # wide types, such as the DECIMAL(38,18) of Spark, have room for more than is in them
    first = (scale,) if scale <= sql.LARGEST_SCALE else ()
    return (*first, *(d for d in (*TRIED, sql.LARGEST_SCALE) if d < scale))


def _judge(
    problems: Problems, name: str, j: int, found: Mapping[str, Any], rows: int,
    tried: tuple[int, ...], digits: Mapping[str, int | None],
) -> Facts:  # fmt: skip
    missing = int(found[f"m{j}"])
    if found[f"i{j}"]:
        problems.add(
            f"`{name}` is infinite in {say_people(found[f'i{j}'], 'rows')}. Correct it, or make "
            "it missing."
        )
    if missing == rows:
        problems.add(f"`{name}` is missing in every row. Leave it out.")
    low, high = (float(found[f"{side}{j}"] or 0.0) for side in "lh")
    fitting = [d for d in tried if _fits(found, j, d, high - low)]
    if fitting:
        return Facts(digits=fitting[0], missing=missing, low=low, high=high, pivot=0.0)
    if name in digits and digits[name] is not None:
        problems.add(_declared(name, j, found, tried[0]))
    largest = max(abs(low), abs(high))
    if largest > _LARGEST or 0 < high - low < 1 / _LARGEST:
        problems.add(
            f"`{name}` has values whose squares doubles do not hold (up to 1e{_EXPONENT}, and no "
            f"closer than 1e-{_EXPONENT}), so sums would not be numbers. Correct it, or change its unit."
        )
    return Facts(digits=None, missing=missing, low=low, high=high, pivot=0.0)


def _with_pivots(
    engine: Engine, relation: Relation, facts: Mapping[str, Facts], weights: tuple[str, ...],
    pivots: Mapping[str, float],
) -> dict[str, Facts]:  # fmt: skip
    """Return the columns summed as doubles with their pivots; their means take another scan."""
    # a weight less a constant is no weight
    doubles = [n for n, fact in facts.items() if fact.digits is None and n not in weights]
    wanted = [name for name in doubles if name not in pivots]
    means: dict[str, float] = {}
    if wanted:
        parts = [
            sql.named(ex.mean(ex.value(name, relation.column(name))), f"a{j}")
            for j, name in enumerate(wanted)
        ]
        found = engine.run(sql.select(*parts, of=relation.name)).to_pylist()[0]
        means = {name: float(found[f"a{j}"] or 0.0) for j, name in enumerate(wanted)}
    return {
        name: replace(
            facts[name],
            pivot=pivots[name] if name in pivots
            else _near(means[name], facts[name].high - facts[name].low),
        )
        for name in doubles
    }  # fmt: skip


def _fits(found: Mapping[str, Any], j: int, d: int, span: float) -> bool:
    """Whether a column is whole numbers of a digit: what it has beyond is rounding, and stays it."""
    if found[f"o{j}_{d}"] or found.get(f"d{j}_{d}"):
        return False
    gap = max(float(found.get(f"g{j}_{d}") or 0.0), 0.0)
    # a rate of 1e-7 is near a whole number of anything, and would be summed as nothing
    return gap <= min(_NOISE, _AGREE * span * 10.0**d)


def _declared(name: str, j: int, found: Mapping[str, Any], d: int) -> str:
    """Say why a column cannot be summed with the digits declared."""
    lost, over = int(found.get(f"d{j}_{d}", 0)), int(found[f"o{j}_{d}"])
    said = [
        f"{what} in {say_people(count, 'rows')}"
        for count, what in ((lost, "has more digits"), (over, "is too large to keep them"))
        if count
    ]
    what = " and ".join(said) or "has more digits, which are not small beside its range"
    return (
        f"`{name}` is declared with {d} digits after the point and {what}, so sums would not be "
        f"exact. Declare other digits, round it in the source, or give digits={{'{name}': None}} to "
        "sum doubles."
    )


def _near(mean: float, span: float) -> float:
    """
    Return a number near a mean, with few digits, so that later drops of data have the same.

    Three digits, or more where values are close to each other: sums of squares about a pivot lose
    as many digits as its distance from the mean is large beside the spread.
    """
    if mean == 0 or not math.isfinite(mean):
        return 0.0
    three = 2 - math.floor(math.log10(abs(mean)))
    tenth = 1 - math.floor(math.log10(span)) if span > 0 else three
    return round(mean, min(max(three, tenth), 300))
