"""Every count of people, rows or events that the sums of a cell hold or give away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vbceval.core.errors import DataError
from vbceval.moments.forms import Cellwise, Form, Steps, total
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums, people_column

REPEATED = "rows less people"
"""Rows beyond the first of a person."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Spread:
    """
    Steps of a column from one end, their squares, and rows: what bounds how many are not at it.

    Parameters
    ----------
    steps, squares, rows : Form
        Sums over rows of the steps k of each, of k squared, and of 1.
    most : float
        Largest number of steps of a row; infinite where it is not known.
    """

    steps: Form
    squares: Form
    rows: Form
    most: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Enumeration:
    """
    What is counted in a table of sums.

    Parameters
    ----------
    forms : tuple of Form
        Counts that are sums of columns.
    spreads : tuple of Spread
        Columns with several values, of which sums and squares bound how many rows have one.
    """

    forms: tuple[Form, ...]
    spreads: tuple[Spread, ...]


def enumerate_counts(
    sums: Sums,
    *,
    minimum: int,
    largest_weight: float | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> Enumeration:
    """
    Return every count of people or rows that sums hold or that can be had from them.

    These are: people and rows of a cell, of each outcome with gaps, and of the rows that lack it;
    rows beyond the first of a person; exposure; rows with each value of a column that has two
    values, or three in equal steps; steps of any other column from its least and its largest value
    (of visits: visits), and pairs of them in a row (who has two visits or more); all of these for products of two columns; rows with none of several 0/1
    columns that exclude each other; and of two outcomes, one of which is the larger in every cell,
    the difference (deaths that were not in hospital).

    A column whose values are 0, 25 and 75 has steps of 25. Where rows are weighted, a weighted sum
    is at most the count times the largest weight.

    Parameters
    ----------
    sums : Sums
        The table.
    minimum : int
        Smallest number of people that may be known.
    largest_weight : float, optional
        Largest weight of a row.
    ranges : mapping of str to sequence of float, optional
        Smallest and largest value of columns. Without them a column is taken to begin at 0.

    Raises
    ------
    DataError
        If rows are weighted and no largest weight is known.
    """
    schema = sums.schema
    if schema.weight is not None and largest_weight is None:
        raise DataError(
            "rows are weighted, so the sums hold no count of ones or of events. Pass "
            f"`largest_weight`, the largest `{schema.weight}` of a row: a sum is at most the count "
            "times it."
        )
    known = {} if ranges is None else {k: (float(v[0]), float(v[1])) for k, v in ranges.items()}
    parts = [
        _Block(sums=sums, block=block, minimum=minimum, ranges=known,
               scale=1.0 if schema.weight is None else float(largest_weight or 1.0))
        for block in schema.blocks
    ]  # fmt: skip
    forms: dict[str, Form] = {}
    everyone: dict[str, Form] = {}
    spreads: list[Spread] = []
    if schema.separate == schema.outcomes:
        everyone["rows"] = forms["rows"] = Form(
            name="rows", terms={schema.rows: 1}, limit=minimum, listed=True
        )
    for part in parts:
        alone = schema.alone(part.block)
        where = "" if alone is None else f" where {alone}"
        found = {form.name: form for form in part.forms()}
        forms |= {f"{k}{where}": replace(f, name=f"{k}{where}") for k, f in found.items()}
        spreads += part.spreads()
        if alone is None:
            everyone = found
            continue
        for name, form in found.items():
            if name in everyone and alone not in form.uses:
                lacking = f"{name} without {alone}"
                # who lacks an outcome is printed as rows and people, and not as events
                printed = everyone[name].listed
                forms[lacking] = replace(everyone[name].less(form, lacking), printed=printed)
    return Enumeration(forms=tuple(forms.values()), spreads=tuple(spreads))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Block:
    """Counts of one group of outcomes."""

    sums: Sums
    block: tuple[str, ...]
    minimum: int
    scale: float
    ranges: Mapping[str, tuple[float, float]]

    @property
    def schema(self) -> Schema:
        return self.sums.schema

    def _cellwise(self, *, weighted: bool) -> Cellwise:
        return Cellwise(sums=self.sums, block=self.block, weighted=weighted, ranges=self.ranges)

    def forms(self) -> Iterator[Form]:
        yield from self._rows()
        weight, exposure = self.schema.weight, self.schema.exposure
        plain = self._cellwise(weighted=False)
        if weight is not None and (steps := plain.steps(weight)) is not None:
            yield from _single(plain, steps, self.minimum)
        if exposure is not None and exposure != weight:
            yield from self._exposure(plain, exposure)
        elif exposure is not None:
            yield self._sum_of_exposure(plain, exposure)
        yield from self._columns()

    def _rows(self) -> Iterator[Form]:
        schema = self.schema
        # a cell that keeps second moments of p + m columns has at least as many rows, and two more
        fewest = max(self.minimum, len(schema.covariates) + len(self.block) + 2)
        name = schema.name(self.block)
        rows = Form(name="rows", terms={name: 1}, limit=fewest, listed=True)
        yield rows
        if schema.unit is not None:
            column = people_column(schema.alone(self.block))
            yield Form(name="people", terms={column: 1}, limit=self.minimum, distinct=True,
                       listed=True)  # fmt: skip
            # at most as many people have several rows
            yield Form(name=REPEATED, terms={name: 1, column: -1}, limit=self.minimum)

    def _sum_of_exposure(self, plain: Cellwise, name: str) -> Form:
        digits = self.schema.digits[name]
        form = plain.form(f"exposure ({name})", (name, 0, 1), unit=10.0 ** (digits or 0),
                          limit=self.minimum)  # fmt: skip
        return replace(form, whole=digits == 0, listed=True)

    def _exposure(self, plain: Cellwise, name: str) -> Iterator[Form]:
        """Exposure, and how far it is from the largest: its squares are not summed."""
        yield self._sum_of_exposure(plain, name)
        steps = plain.line(name)
        if steps is not None:
            for label, part in steps.ends[1:]:
                yield plain.form(label, part, unit=steps.step, limit=self.minimum)

    def _columns(self) -> Iterator[Form]:
        cells, limit = self._cellwise(weighted=True), self.minimum * self.scale
        held = {x: cells.steps(x) for x in (*self.schema.covariates, *self.block)}
        columns = [steps for steps in held.values() if steps is not None]
        for steps in columns:
            yield from _single(cells, steps, limit)
        # rows that are not at the far end are most of them
        near = {x.name: x.ends if x.labels else [cells.near(x)] for x in columns}
        pairs = [
            (a, b) for a, b in itertools.combinations(columns, 2)
            if a.name in self.schema.covariates
        ]  # fmt: skip
        for a, b in pairs:
            for (one, x), (two, y) in itertools.product(near[a.name], near[b.name]):
                form = cells.form(f"{one}, {two}", x, y, unit=a.step * b.step, limit=limit)
                yield replace(form, printed=len(a.labels) == len(b.labels) == 2)
        ones = [x for x in columns if len(x.labels) == 2]
        yield from _none_of(cells, ones, pairs, limit)
        yield from _differences(cells, [x for x in columns if x.name in self.block], limit)

    def spreads(self) -> Iterator[Spread]:
        """Columns with several values, where sums are not weighted."""
        cells = self._cellwise(weighted=False)
        if self.schema.weight is None:
            names: tuple[str, ...] = (*self.schema.covariates, *self.block)
        else:
            names = (self.schema.weight,)
        rows = cells.form("rows", limit=self.minimum)
        for name in names:
            found = cells.steps(name)
            if found is None or found.labels:
                continue
            span = float("inf") if found.high is None else (found.high - found.low) / found.step
            for label, part in found.ends:
                yield Spread(
                    steps=cells.form(label, part, unit=found.step, limit=self.minimum),
                    squares=cells.form(label, part, part, unit=found.step**2, limit=self.minimum),
                    rows=rows, most=span,
                )  # fmt: skip


def _single(cells: Cellwise, steps: Steps, limit: float) -> Iterator[Form]:
    """Counts of one column by itself."""
    for label, factors, unit in steps.between:
        yield replace(cells.form(label, *factors, unit=unit, limit=limit), listed=True)
    for label, part in steps.ends:
        form = cells.form(label, part, unit=steps.step, limit=limit)
        yield replace(form, listed=len(steps.labels) == 2)
        if not steps.labels:
            # k (k - 1) / 2: at least one for each row with two steps or more
            name, constant, slope = part
            less = (name, constant - steps.step, slope)
            form = cells.form(f"second {label}", part, less, unit=2 * steps.step**2, limit=limit)
            yield replace(form, printed=False)


def _none_of(
    cells: Cellwise, ones: Sequence[Steps], pairs: Sequence[tuple[Steps, Steps]], limit: float
) -> Iterator[Form]:
    """Rows with none of several columns of two values that exclude each other: the level left out."""
    apart: dict[str, set[str]] = {x.name: set() for x in ones}
    by_name = {x.name: x for x in ones}
    for a, b in pairs:
        if a.name in apart and b.name in apart:
            both = cells.form("", a.ends[0][1], b.ends[0][1], limit=limit)
            if not both.of(cells.sums).any():
                apart[a.name].add(b.name)
                apart[b.name].add(a.name)
    groups = [g for g in _cliques(apart, set(), set(apart), set()) if len(g) > 2]
    # the products of outcomes are not summed: all together, where they can exclude each other
    rest = [x.name for x in ones if x.name in cells.block]
    if len(rest) > 1:
        groups.append(set(rest))
    every = cells.form("", limit=limit)
    for group in groups:
        names = [x.name for x in ones if x.name in group]
        form = every
        for name in names:
            x = by_name[name]
            form = form.less(cells.form("", x.ends[0][1], unit=x.step, limit=limit), "")
        if (form.of(cells.sums) >= 0).all():
            yield replace(form, name=f"none of {', '.join(by_name[x].ends[0][0] for x in names)}")


def _cliques(
    edges: Mapping[str, set[str]], chosen: set[str], open_: set[str], done: set[str]
) -> Iterator[set[str]]:
    """Yield the largest sets whose members are all joined (Bron and Kerbosch 1973)."""
    if not open_ and not done:
        yield chosen
    for node in sorted(open_):
        yield from _cliques(edges, chosen | {node}, open_ & edges[node], done & edges[node])
        open_, done = open_ - {node}, done | {node}


def _differences(cells: Cellwise, outcomes: Sequence[Steps], limit: float) -> Iterator[Form]:
    """Of two outcomes that begin at 0, one of which is never larger: what the other has besides."""
    from_zero = [
        (x, cells.form("", x.ends[0][1], unit=x.step, limit=limit)) for x in outcomes if x.low == 0
    ]
    for (a, one), (b, two) in itertools.permutations(from_zero, 2):
        form = one.less(two, f"{a.ends[0][0]} less {b.ends[0][0]}")
        if (total(cells.sums, form.terms).high >= 0).all():
            yield form
