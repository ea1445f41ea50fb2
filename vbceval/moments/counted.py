"""Every count of people, rows or events that the sums of a cell hold or give away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vbceval.core.errors import DataError
from vbceval.moments.few import Spread, Weights
from vbceval.moments.forms import Cellwise, Form, Steps, total
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums, people_column

_MOST_UNITS = 10**6
"""Of the smallest unit in the largest weight: with more, any number is nearly a whole number of it."""

REPEATED = "rows less people"
"""Rows beyond the first of a person."""


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
    all_spreads: dict[tuple[str, int], Spread] = {}
    spreads: list[Spread] = []
    gaps: dict[str, dict[str, Form]] = {}
    if schema.separate == schema.outcomes:
        everyone["rows"] = forms["rows"] = Form(
            name="rows", terms={schema.rows: 1}, limit=minimum, listed=True
        )
    for part in parts:
        alone = schema.alone(part.block)
        where = "" if alone is None else f" where {alone}"
        found = {form.name: form for form in part.forms()}
        forms |= {f"{k}{where}": replace(f, name=f"{k}{where}") for k, f in found.items()}
        held = part.spreads()
        spreads += held.values()
        if alone is None:
            everyone, all_spreads = found, held
            continue
        gaps[alone] = {k: f for k, f in found.items() if alone not in f.uses}
        for name, form in gaps[alone].items():
            if name in everyone:
                lacking = f"{name} without {alone}"
                # who lacks an outcome is printed as rows and people, and not as events
                printed = everyone[name].listed
                forms[lacking] = replace(everyone[name].less(form, lacking), printed=printed)
        spreads += [all_spreads[k].less(x) for k, x in held.items()
                    if k in all_spreads and k[0] != alone]  # fmt: skip
    forms |= {form.name: form for form in _nested(sums, gaps)}
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

    def spreads(self) -> dict[tuple[str, int], Spread]:
        """Columns of which sums, squares and rows tell how few rows have some of it, by name and end."""
        weight, names = self.schema.weight, (*self.schema.covariates, *self.block)
        plain = self._cellwise(weighted=False)
        wanted = [(plain, name, Weights()) for name in (names if weight is None else (weight,))]
        if weight is not None:
            known, cells = self._weights(plain, weight), self._cellwise(weighted=True)
            wanted += [(cells, name, known) for name in names]
        return {(name, k): spread for cells, name, known in wanted
                for k, spread in enumerate(self._spread(cells, name, known))}  # fmt: skip

    def _weights(self, plain: Cellwise, weight: str) -> Weights:
        digits, zero = self.schema.digits[weight], plain.zero(weight)
        # months that are written as years are twelfths of the largest
        unit = plain.part(weight, zero, zero + self.scale) if digits is None else 10.0**-digits
        least = self.ranges[weight][0] if weight in self.ranges else 0.0
        if unit is not None and self.scale > _MOST_UNITS * unit:
            unit = None
        return Weights(
            least=max(least, 10.0**-digits if digits is not None else unit or 0.0),
            largest=self.scale,
            unit=unit or 0.0,
        )

    def _spread(self, cells: Cellwise, name: str, weight: Weights) -> Iterator[Spread]:
        found = cells.steps(name) or cells.amount(name)
        if found is None or (found.labels and found.sure):
            return
        rows = self._cellwise(weighted=False).form("rows", limit=self.minimum)
        span = float("inf") if found.high is None else (found.high - found.low) / found.step
        zero = cells.zero(name)
        parts = [(part, found.step, span, False) for _, part in found.ends]
        if found.low < zero and (found.high is None or found.high > zero):
            step = 1.0 if self.schema.digits[name] is not None else found.step
            parts += [((name, -s * zero, s), step, float("inf"), True) for s in (1, -1)]
        for k, (part, step, most, signed) in enumerate(parts):
            forms = {
                "steps": cells.form(name, part, unit=step, limit=self.minimum),
                "squares": cells.form(name, part, part, unit=step**2, limit=self.minimum),
            }
            if not found.whole:
                forms = {k: replace(form, whole=False) for k, form in forms.items()}
            yield Spread(
                **forms, weights=cells.form("weights", limit=self.minimum), rows=rows, most=most,
                whole=found.whole, signed=signed, inner=k == 0, weight=weight,
            )  # fmt: skip


def _nested(sums: Sums, gaps: Mapping[str, Mapping[str, Form]]) -> Iterator[Form]:
    """Of two outcomes with gaps, one of which never has fewer rows: those that the other lacks."""
    for one, two in itertools.permutations(gaps, 2):
        more = gaps[one]["rows"].less(gaps[two]["rows"], "").of(sums)
        if not more.any() or (more < 0).any():
            continue
        for name, form in gaps[one].items():
            if name in gaps[two]:
                lacking = form.less(gaps[two][name], f"{name} where {one} without {two}")
                if (lacking.of(sums) >= 0).all():
                    yield replace(lacking, printed=form.listed)


def _single(cells: Cellwise, steps: Steps, limit: float) -> Iterator[Form]:
    """Counts of one column by itself."""
    for label, factors, unit in steps.between:
        yield replace(cells.form(label, *factors, unit=unit, limit=limit), listed=True)
    for label, part in steps.ends:
        form = cells.form(label, part, unit=steps.step, limit=limit)
        yield replace(form, listed=len(steps.labels) == 2)
        if not (steps.labels and steps.sure):
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
