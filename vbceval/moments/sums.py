"""Exact sums by cell: add, select, coarsen, and turn into centred moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.moments import whole, wide
from vbceval.moments.histograms import added, is_histogram, positions
from vbceval.moments.schema import LARGEST, Schema

if TYPE_CHECKING:
    import pyarrow as pa

PEOPLE = "people"
"""Column with the distinct people of a cell."""

# cells that are centred at once: arithmetic in pairs of doubles makes many arrays of this length
_BLOCK = 16_384


@dataclass(frozen=True, eq=False, kw_only=True)
class Sums:
    """
    Sums of products over the rows of every cell.

    Sums of columns with declared digits are whole numbers, so adding them in any order gives the
    same bits.

    Parameters
    ----------
    table : pyarrow.Table, K rows
        Keys, ``people`` where a unit was named, the columns of `Schema.terms`, and of each histogram
        a column of lists (`vbceval.moments.histograms`), sorted by keys.
    schema : Schema
        What the columns are.
    clusters : DataFrame
        Indexed by cluster: ``cohort`` (missing = never treated), ``exit``.
    """

    table: pa.Table
    schema: Schema
    clusters: pd.DataFrame

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __add__(self, other: Sums) -> Sums:
        """
        Return the sums over the rows of both.

        Raises
        ------
        DataError
            If the tables do not hold the same sums, or a cluster has two cohorts.
        """
        problems = Problems("these moments together")
        for difference in self.schema.differences(other.schema):
            problems.add(f"{difference}. Take both with the same columns and options.")
        problems.raise_if_any()
        kinds = [self.table.schema.field(k).type for k in self.schema.keys]
        mixed = [
            key for key, kind in zip(self.schema.keys, kinds, strict=True)
            if other.table.schema.field(key).type != kind
        ]  # fmt: skip
        if mixed:
            problems.add(
                f"{listed(mixed)} is of another type in one than in the other (labels of merged "
                "organizations and strata are text). Convert it in the source."
            )
        problems.raise_if_any()
        both = self.clusters.index.intersection(other.clusters.index)
        mine, theirs = self.clusters.loc[both], other.clusters.loc[both]
        for name in ("cohort", "exit"):
            same = (mine[name] == theirs[name]) | (mine[name].isna() & theirs[name].isna())
            if not same.all():
                problems.add(
                    f"{int((~same).sum()):,} clusters have another `{name}` in one than in the "
                    "other, and a cluster enters once. Correct the source."
                )
        problems.raise_if_any()
        new = other.clusters.loc[other.clusters.index.difference(self.clusters.index)]
        clusters = pd.concat([self.clusters, new]).sort_index()
        table = _collapse(whole.stacked([self.table, other.table]), self.schema.keys)
        apart = not self._periods() & other._periods()
        once = self.schema.once_a_period and other.schema.once_a_period and apart
        schema = replace(self.schema, once_a_period=once)
        return replace(self, table=table, clusters=clusters, schema=schema)

    def coarsen(
        self,
        *,
        drop: Sequence[str] = (),
        periods: Mapping[Any, Any] | Callable[[Any], Any] | None = None,
    ) -> Sums:
        """
        Return sums over coarser cells.

        Distinct people of merged strata are added where no person has two rows in a period. Else,
        and over periods, they cannot be: the same person may be in two of the merged cells. What
        is kept then is the largest of their counts, of which the true number is never less.

        Parameters
        ----------
        drop : sequence of str
            Strata to add up over.
        periods : mapping or callable, optional
            New period of each period.

        Raises
        ------
        DataError
            If `drop` names no stratum, or a period has no new one.
        """
        import pyarrow as pa

        absent = [s for s in drop if s not in self.schema.strata]
        if absent:
            raise DataError(
                f"{listed(absent)} is no stratum; the moments have "
                f"{listed(self.schema.strata) or 'none'}."
            )
        schema = replace(self.schema, strata=tuple(s for s in self.schema.strata if s not in drop))
        table = self.table
        if drop:
            fewer = table.drop_columns(list(drop))
            table = _collapse(fewer, schema.keys, add_people=schema.once_a_period)
        if periods is not None:
            old = table.column(schema.period).to_pandas()
            new = old.map(periods)
            if new.isna().any():
                lost = sorted(old[new.isna()].unique())
                raise DataError(f"period {listed(lost)} has no new period. Name all of them.")
            strange = [x for x in new.unique() if not _is_finite(x)]
            if strange:
                raise DataError(
                    f"new periods {listed(map(repr, strange))} are no finite numbers, and cohorts are on the scale "
                    "of periods. Give numbers, such as years."
                )
            place = table.column_names.index(schema.period)
            table = _collapse(
                table.set_column(place, schema.period, pa.array(new, type=pa.float64())),
                schema.keys,
            )
            # a person has a row in each of the merged periods
            schema = replace(schema, once_a_period=False)
        return replace(self, table=table, schema=schema)

    def _periods(self) -> set[float]:
        return set(self.table.column(self.schema.period).unique().to_pylist())

    def arrays(self, block: tuple[str, ...]) -> dict[str, Any]:
        """
        Return the moments of one group of outcomes, centred at the means of each cell.

        Cells without a row of the group are left out.

        Returns
        -------
        dict
            ``rows`` (mask of the cells kept), and fields of `Moments`: n, w, w2, x_mean, y_mean, xx,
            xy, yy, exposure.
        """
        size = int(np.count_nonzero(self._number(self.schema.name(block)).high > 0))
        out: dict[str, Any] = {}
        end = 0
        for start in range(0, max(len(self), 1), _BLOCK):
            made = replace(self, table=self.table.slice(start, _BLOCK))._centred(block)
            rows = made.pop("rows")
            out.setdefault("rows", np.empty(len(self), dtype=bool))[start : start + _BLOCK] = rows
            begin, end = end, end + int(np.count_nonzero(rows))
            for name, value in made.items():
                if value is None:
                    out[name] = None
                    continue
                # written where they stay: these arrays are the largest there are
                whole = out.setdefault(name, np.empty((size, *value.shape[1:]), dtype=value.dtype))
                whole[begin:end] = value
        return out

    def _centred(self, block: tuple[str, ...]) -> dict[str, Any]:
        """Return `arrays` of a table that is small enough for the processor's memory."""
        schema = self.schema
        n = self._number(schema.name(block)).high
        rows = n > 0
        w_name = () if schema.weight is None else (schema.weight,)
        w = self._sum(block, w_name, rows)
        names = [*schema.covariates, *block]
        first = {v: self._sum(block, (*w_name, v), rows) for v in names}
        mean = {v: wide.divide(first[v], w) for v in names}

        def centred(a: str, b: str) -> FloatArray:
            cross = self._sum(block, (*w_name, a, b), rows)
            return wide.subtract(cross, wide.multiply(mean[a], first[b])).high

        x, p = schema.covariates, len(schema.covariates)
        xx, xy = np.empty((int(rows.sum()), p, p)), np.empty((int(rows.sum()), p, len(block)))
        for i, a in enumerate(x):
            for j in range(i + 1):
                xx[:, i, j] = xx[:, j, i] = centred(a, x[j]) / self.unit(a, x[j])
            for j, b in enumerate(block):
                xy[:, i, j] = centred(a, b) / self.unit(a, b)
        # rounding of doubles can leave a spread of nothing a little below zero
        yy = [
            np.full(len(xx), np.nan) if y in schema.without_squares
            else np.maximum(centred(y, y), 0.0) / self.unit(y, y)
            for y in block
        ]  # fmt: skip
        means = {v: mean[v].high / self.unit(v) + schema.pivots.get(v, 0.0) for v in names}
        size = self.unit(*w_name)
        for array in (xx, xy):
            array /= size
        return {
            "rows": rows,
            "n": n[rows].astype(np.int64),
            "w": w.high / size,
            "w2": w.high if not w_name else self._sum(block, w_name * 2, rows).high / size**2,
            "x_mean": np.column_stack([means[v] for v in x]) if p else np.empty((len(xx), 0)),
            "y_mean": np.column_stack([means[v] for v in block]),
            "xx": xx,
            "xy": xy,
            "yy": np.column_stack(yy) / size,
            "exposure": None
            if schema.exposure is None
            else self._sum(block, (schema.exposure,), rows).high / self.unit(schema.exposure),
        }

    def unit(self, *factors: str) -> float:
        """Return what a sum is divided by to be in the units of its columns."""
        return float(10 ** sum(self.schema.digits[f] or 0 for f in factors))

    def _sum(self, block: tuple[str, ...], factors: tuple[str, ...], rows: BoolArray) -> wide.Wide:
        found = self._number(self.schema.name(block, *factors))
        return wide.Wide(found.high[rows], found.low[rows])

    def is_whole(self, name: str) -> bool:
        """Return whether a column holds sums of whole numbers."""
        import pyarrow as pa

        kind = self.table.schema.field(name).type
        return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind))

    def _number(self, name: str) -> wide.Wide:
        return wide.from_column(self.table.column(name))


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and bool(np.isfinite(float(value)))


def people_column(alone: str | None) -> str:
    """Return the column with the people behind the rows that have an outcome, or all rows."""
    return PEOPLE if alone is None else f"{PEOPLE} where {alone}"


def _collapse(table: pa.Table, keys: Sequence[str], *, add_people: bool = False) -> pa.Table:
    """
    Add up rows with equal keys.

    Of largest amounts the largest is kept, and of people the largest count unless they can be added.
    """
    import pyarrow as pa

    lists = [c for c in table.column_names if is_histogram(c)]
    numbers = [c for c in table.column_names if c not in (*keys, *lists)]

    def kind(name: str) -> str:
        people = name.split(" where ")[0] == PEOPLE
        return "max" if name.startswith(LARGEST) or (people and not add_people) else "sum"

    how = [(c, kind(c)) for c in numbers]
    table = whole.to_be_added(table, [c for c, step in how if step == "sum"])
    out = table.group_by(list(keys), use_threads=False).aggregate(how)
    out = out.rename_columns({f"{c}_{step}": c for c, step in how})
    out = out.sort_by([(k, "ascending") for k in keys])
    if lists:
        place = positions(table, out, keys)
        for name in lists:
            out = out.append_column(name, added(table.column(name), place, len(out)))
    out = out.select(table.column_names)
    for at, field in enumerate(table.schema):
        # Arrow adds counts of any width in 64 bits, and decimals in theirs
        if field.name in keys or pa.types.is_integer(field.type):
            out = out.set_column(at, field.name, out.column(at).cast(field.type))
    return whole.narrow(out)
