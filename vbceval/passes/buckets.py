"""Rows split by a hash of the unit: the same split in every engine, on every run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vbceval.core.errors import DataError, EstimationError
from vbceval.core.progress import counting
from vbceval.core.typing import Array
from vbceval.engine import Column, Engine, QueryCancelled, Relation, check_unchanged, sql
from vbceval.passes.work import WorkFolder, open_folder

if TYPE_CHECKING:
    from sqlglot import exp

Arrays = dict[str, Array]

MOST_BUCKETS = 4096
PARTS = "parts"
"""Folder of Parquet parts inside the folder of a run."""

_MEMORY = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MEMORY |= {f"{k[0]}iB": 1 << (10 * i) for i, k in enumerate(_MEMORY, 1)}

# Lehmer's generator: the modulus is a Mersenne prime, and the product stays below 2**62
_PRIME, _FACTOR = 2**31 - 1, 1_583_458_089


def in_bucket(unit: Column, bucket: int, buckets: int) -> exp.Expression:
    """
    Return whether the unit of a row belongs to a bucket.

    Whole numbers go through one step of a Lehmer generator, text through MD5; both are integers or
    text of 32 signs in every engine, so a unit has one bucket everywhere. Each bucket is a range of
    the hash.

    Parameters
    ----------
    unit : Column
        The unit's column: whole numbers or text.
    bucket, buckets : int
        Which of how many.

    Raises
    ------
    DataError
        If the column holds neither whole numbers nor text.
    """
    from sqlglot import exp

    check_unit(unit)
    if buckets == 1:
        return exp.true()
    name = sql.column(unit.name)
    if unit.kind == "integer":
        prime = exp.Literal.number(_PRIME)
        rest = exp.cast(exp.Mod(this=name, expression=prime), "BIGINT")
        mixed = exp.Mul(this=exp.Abs(this=rest), expression=exp.Literal.number(_FACTOR))
        place: exp.Expression = exp.Mod(this=exp.Paren(this=mixed), expression=prime.copy())
        low, high = (-(-_PRIME * b // buckets) for b in (bucket, bucket + 1))
        bounds: tuple[exp.Expression, exp.Expression] = (
            exp.Literal.number(low), exp.Literal.number(high),
        )  # fmt: skip
    else:
        place = exp.MD5(this=exp.cast(name, "TEXT"))
        low, high = (-(-(2**32) * b // buckets) for b in (bucket, bucket + 1))
        # `g` sorts after every sign of a hash
        above = "g" if bucket + 1 == buckets else f"{high:08x}"
        bounds = exp.Literal.string(f"{low:08x}"), exp.Literal.string(above)
    return exp.And(
        this=exp.GTE(this=exp.Paren(this=place), expression=bounds[0]),
        expression=exp.LT(this=exp.Paren(this=place.copy()), expression=bounds[1]),
    )


def check_unit(unit: Column) -> None:
    """Raise DataError unless a column can name units: whole numbers or text."""
    if unit.kind not in ("integer", "text"):
        raise DataError(
            f"`{unit.name}` holds {unit.engine_type}; units are split by a hash, which needs whole "
            "numbers or text. Cast it when the table is made: to BIGINT where its values are whole "
            "numbers, else to VARCHAR."
        )


def bytes_of(memory: str) -> int:
    """
    Return a size such as ``"1GB"`` or ``"512MiB"`` in bytes.

    Raises
    ------
    DataError
        If it is no size.
    """
    units = {name.lower(): size for name, size in _MEMORY.items()}
    text = memory.strip().lower() if isinstance(memory, str) else ""
    number, unit = text.rstrip("kmgtib").strip(), text.lstrip("0123456789. ")
    try:
        size = float(number) * units[unit]
    except (ValueError, KeyError):
        size = 0.0
    if not 1 <= size < math.inf:
        raise DataError(f"`memory` is {memory!r}. Give a size with its unit, such as '1GB'.")
    return int(size)


def choose_buckets(
    *, rows: int, bytes_a_row: int, memory: str, fixed: int = 0, buckets: int | None = None
) -> int:
    """
    Return how many buckets let one fit the memory given.

    Parameters
    ----------
    rows : int
        Rows of the table.
    bytes_a_row : int
        Memory that a row takes while its bucket is worked on.
    memory : str
        Memory for a bucket and for what is fixed.
    fixed : int, default 0
        Memory that does not depend on the buckets, in bytes.
    buckets : int, optional
        Take this many.

    Raises
    ------
    DataError
        If what is fixed alone does not fit, or `buckets` is out of range.
    """
    if buckets is not None:
        whole = isinstance(buckets, int) and not isinstance(buckets, bool)
        if not whole or not 1 <= buckets <= MOST_BUCKETS:
            raise DataError(
                f"`buckets` is {buckets!r}. Give a whole number from 1 to {MOST_BUCKETS:,}."
            )
        return buckets
    room = bytes_of(memory) - fixed
    wanted = math.inf if room <= 0 else math.ceil(rows * bytes_a_row / room)
    if wanted > MOST_BUCKETS:
        raise DataError(
            f"`memory={memory!r}` is too little: {fixed / 1e6:,.0f} MB are needed whatever the "
            f"number of buckets, and {rows:,} rows take {rows * bytes_a_row / 1e6:,.0f} MB in at "
            f"most {MOST_BUCKETS:,} parts. Give more memory, or fewer covariates or periods."
        )
    return max(1, int(wanted))


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """
    A table in buckets, with the folder that keeps what is finished.

    Parameters
    ----------
    engine : Engine
        Where the table is.
    relation : Relation
        The table.
    unit : str
        Column whose hash decides the bucket.
    count : int
        Number of buckets.
    folder : WorkFolder
        Where results are kept.
    title : str
        What is shown while it runs.
    """

    engine: Engine
    relation: Relation
    unit: str
    count: int
    folder: WorkFolder
    title: str

    def condition(self, bucket: int) -> exp.Expression:
        """Return whether a row belongs to a bucket."""
        return in_bucket(self.relation.column(self.unit), bucket, self.count)

    def total(self, compute: Callable[[exp.Expression], Arrays]) -> Arrays:
        """
        Return the arrays of all buckets, added up in order; those finished before are not computed.

        The folder holds the sums so far, one file whatever the number of buckets.

        Parameters
        ----------
        compute : callable
            Takes the condition of a bucket and returns named arrays, the same for every bucket.

        Raises
        ------
        DataError
            If a file of the source changes meanwhile.
        EstimationError
            If the disk is full.
        """
        steps = [f"bucket-{bucket:05d}" for bucket in range(self.count)]
        done, total = self.folder.last(steps)
        # a run that was killed may not have come to it
        self.folder.forget(steps[: max(done - 1, 0)])
        with counting(self.title, self.count) as advance:
            for _ in range(done):
                advance()
            for bucket in range(done, self.count):
                found = self._attend(partial(compute, self.condition(bucket)))
                check_unchanged(self.relation)
                if total:
                    for name, value in found.items():
                        np.add(total[name], value, out=total[name])
                else:
                    total = found
                self.folder.save(steps[bucket], total)
                self.folder.forget(steps[max(bucket - 1, 0) : bucket])
                advance()
        return total

    def parts(
        self, compute: Callable[[exp.Expression], exp.Expression], *,
        count: Callable[[exp.Expression], Mapping[str, int]],
    ) -> Iterator[tuple[Path, Mapping[str, int]]]:  # fmt: skip
        """
        Yield a Parquet part of every bucket, with what was counted of it.

        Parameters
        ----------
        compute : callable
            Takes the condition of a bucket and returns the query of its rows.
        count : callable
            Takes the condition of a bucket, checks its rows, and returns numbers.
        """
        # Spark writes a folder, whose name must not look like a file's
        suffix = ".parquet" if self.engine.dialect == "duckdb" else ""
        place = self.folder.path / PARTS
        paths = [place / f"part-{bucket:05d}{suffix}" for bucket in range(self.count)]
        # whatever else a killed run was writing would be moved with the parts that are whole
        for left in set(place.glob("*")) - set(paths):
            self.folder.discard(left)
        with counting(self.title, self.count) as advance:
            for bucket, path in enumerate(paths):
                step = f"bucket-{bucket:05d}"
                found = self.folder.load(step)
                if found is None:
                    condition = self.condition(bucket)
                    numbers = self._attend(partial(count, condition))
                    self.folder.discard(path)
                    self._attend(partial(self.engine.write_parquet, compute(condition), path))
                    check_unchanged(self.relation)
                    found = {name: np.array(value) for name, value in numbers.items()}
                    # written last: a part without it is of a run that was killed, and made again
                    self.folder.save(step, found)
                self.folder.require(path)
                advance()
                yield path, {name: int(value) for name, value in found.items()}

    def _attend[T](self, work: Callable[[], T]) -> T:
        try:
            return work()
        except QueryCancelled:
            raise QueryCancelled(f"{self.title} was cancelled. {self.folder.say_kept()}") from None
        except EstimationError as error:
            failed = f"{error} {self.folder.say_kept()}"
        raise EstimationError(failed)


@dataclass(frozen=True, kw_only=True)
class Size:
    """
    What decides the number of buckets; see `choose_buckets`.

    Parameters
    ----------
    rows, bytes_a_row, fixed : int
    memory : str
    buckets : int or None
    """

    rows: int
    bytes_a_row: int
    memory: str
    fixed: int = 0
    buckets: int | None = None


@contextlib.contextmanager
def bucketed(
    engine: Engine, relation: Relation, *, unit: str, title: str, size: Size,
    identity: Mapping[str, Any], work: str | Path | None, beside: Path | None = None,
) -> Iterator[Buckets]:  # fmt: skip
    """
    Hold the folder of a run and split its table; see `open_folder` and `choose_buckets`.

    A run that is resumed keeps its number of buckets.
    """
    with open_folder(work, identity, beside=beside) as folder:
        count = folder.note("buckets", size.buckets, lambda: choose_buckets(**vars(size)))
        yield Buckets(
            engine=engine, relation=relation, unit=unit, count=count, folder=folder, title=title
        )
