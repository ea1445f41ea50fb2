"""The copy of moments that may leave: no count of 1-10 people in it, and none derivable from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, IntArray
from vbceval.moments.attack import Attack, Earlier, earlier_file, extend
from vbceval.moments.counted import REPEATED, Enumeration
from vbceval.moments.forms import Form
from vbceval.moments.merging import Cells, Merge, Rules, join, repair
from vbceval.moments.protected import (
    Counts,
    counted,
    is_between,
    protected_counts,
    squares_of,
)
from vbceval.moments.reports import Totals, checked_margins, default_margins, margin_codes
from vbceval.moments.schema import Schema
from vbceval.moments.share_checks import checked_moments, checked_outcomes
from vbceval.moments.share_report import (
    not_checked,
    not_in_the_copy,
    open_differences,
    reasons,
    rules_said,
    touched,
    verdict,
)
from vbceval.moments.shared_file import Labels, labels_of, merged_sums, shared_meta
from vbceval.moments.sums import Sums

if TYPE_CHECKING:
    from vbceval.moments.moments import Moments

MOST_ROUNDS = 40
"""Rounds of merging more after an audit that failed."""


def shareable(
    moments: Moments,
    *,
    minimum: int = SMALLEST_SHOWN,
    margins: Sequence[Sequence[str]] | None = None,
    published: Sequence[Moments | str | Path] = (),
    periods: Mapping[Any, Any] | Callable[[Any], Any] | None = None,
    disjoint: bool | None = None,
    dominance: float | None = None,
    largest_weight: float | None = None,
    without_squares: Sequence[str] = (),
) -> Moments:
    """
    Return a copy of moments that may leave, with a report of what was merged in its ``meta``.

    Every count of people, rows and events in it is 0 or at least `minimum`: of a cell, of an outcome
    with gaps and of the rows that lack it, of each value of a column with two or three values, of
    events (visits), of two of these together, of exposure; `enumerate_counts` says which. A cell has
    at least two rows more than it has columns, so that it cannot be solved for its rows, and its sums
    and squares do not show that fewer than `minimum` rows have all the events. Cells that break a
    rule are merged in this order:

    1. strata of an organization, from the last column on, in all of its periods;
    2. periods, where `periods` is given, in all organizations;
    3. organizations of one cohort and exit that are too small, with each other, under a label such
       as ``"cohort 2015, merged 1"``;
    4. an organization that has no other of its cohort is left out.

    Then an audit looks for what readers could find out by subtraction from the file, from totals
    that reports print and from files shared before. For every count below `minimum` it must find
    whole numbers that fit all of these in which the count is 0, and others in which it is `minimum`
    or more. Where it does not, more is merged; where that does not help, nothing is returned.

    Sums are added up, never rounded or changed, so merged cells are exact. Histograms and largest
    amounts of rows are left out.

    Parameters
    ----------
    moments : Moments
        From `Moments.from_table` with ``unit``.
    minimum : int
        Smallest number of people that may be known.
    margins : sequence of sequences of str, optional
        Totals that readers know from elsewhere, each a list of key columns (``"cohort"`` for the
        cohort and exit). Entries below `minimum` are not known. Default: for each period, by each
        stratum, by all strata and by cohort, without those that would give small ones away by
        subtraction, as reports must leave them out. Totals of an organization are taken to be
        printed as in the file, merged where it is merged; name them here if others are. Empty: none.
    published : sequence of Moments or paths
        Files of the same rows that were shared before.
    periods : mapping or callable, optional
        New period of each period, used in all organizations if cells are too small after step 1.
        A new period may not hold periods before and after an entry or exit.
    disjoint : bool, optional
        Whether a person is in one organization and one stratum in a period, so that the people of
        merged cells add up. Otherwise the largest part counts, of which the true number is never
        less. Default: whether the pass found one row for a person and period.
    dominance : float, optional
        Merge cells in which one row has more than this share of an amount. Moments taken with
        ``dominance=True`` say what share it has; else it may be merged that would not need to be,
        because sum and sum of squares only bound it. Default: not checked.
    largest_weight : float, optional
        Largest weight of a row, where rows are weighted; default: what the pass found.
    without_squares : sequence of str
        Outcomes whose sums of squares stay behind. With the sum, squares tell how many have two
        events or more, who are few, so that cells have to be merged. Effects and errors by cluster
        do without squares. Left out in any case where that number is small in the whole file.

    Returns
    -------
    Moments
        People of merged cells are added up; where a person is in two parts, both count. The report
        is ``meta["share"]``.

    Raises
    ------
    DataError
        If the moments hold no sums or no count of people, an option does not fit, or the audit
        fails.

    Notes
    -----
    Section 1.6 of the methods, and CMS cell size suppression policy. Estimates move a little: the
    numbers of record are those of the shared file. See `export_shift`.
    """
    sums = checked_moments(moments, minimum, dominance)
    schema = sums.schema
    ranges = moments.meta.get("ranges", {})
    if largest_weight is None and schema.weight in ranges:
        largest_weight = ranges[schema.weight][1]
    options: dict[str, Any] = {
        "minimum": minimum, "largest_weight": largest_weight, "ranges": ranges,
        "amounts": dominance is not None,
    }  # fmt: skip
    cells = Cells.of(sums)
    known = default_margins(schema) if margins is None else checked_margins(margins, schema)
    codes = margin_codes(known, cells, schema)
    totals = Totals(codes=codes, size=len(sums), complementary=margins is None)
    apart = schema.once_a_period if disjoint is None else disjoint
    new_periods, bins = _bins(cells, sums, periods)
    stay = checked_outcomes(without_squares, schema)

    def copied(stay: tuple[str, ...]) -> _Copy:
        counts, enumeration, stay = _without_rare(sums, stay, options)
        before = _before(published, counts, enumeration, cells, sums, minimum)
        rules = Rules(counts=counts, disjoint=apart, dominance=dominance)
        start = _as_before(cells, before)
        _, alone = rules.failing(cells, start)
        merge, steps = repair(cells, rules, start, bins)
        attack = Attack(cells=cells, counts=counts, totals=totals, earlier=before)
        merge, added = _audited(attack, merge, reasons(counts, alone))
        if added:
            steps.append("complementary")
        return _Copy(counts, enumeration, stay, merge, steps, added, alone, len(before))

    done = _with_fewest_left_out(copied, stay, sums, options)
    counts, merge = done.counts, done.merge
    labels = labels_of(cells, merge, sums, new_periods if "periods" in done.steps else None)
    out = merged_sums(sums, cells, merge, labels, done.stay)
    report = {
        "minimum": minimum,
        "known_from_elsewhere": [list(m) for m in known],
        "people_disjoint": apart,
        **_report(
            done, cells, sums, labels, dominance, minimum, complementary=totals.complementary
        ),
        "audit": verdict(counts, minimum),
    }
    report["not_checked"] += open_differences(out, minimum, known)
    _check_finished(sums, out, report, counts, done.enumeration, cells, merge, minimum)
    meta = {**shared_meta(moments.meta, out, minimum), "share": report}
    return moments._from_sums(out, meta)


class _Copy(NamedTuple):
    """Which cells are published together, and what that protects."""

    counts: Counts
    enumeration: Enumeration
    stay: tuple[str, ...]
    merge: Merge
    steps: list[str]
    rounds: int
    alone: BoolArray
    before: int


def _report(
    done: _Copy,
    cells: Cells,
    sums: Sums,
    labels: Labels,
    dominance: float | None,
    minimum: int,
    *,
    complementary: bool,
) -> dict[str, Any]:
    return {
        "rules": rules_said(done.counts, dominance, minimum),
        "not_checked": not_checked(
            sums,
            dominance,
            done.counts,
            complementary=complementary,
            longer="periods" in done.steps,
        ),
        "not_in_the_copy": not_in_the_copy(sums, done.stay),
        "files_shared_before": done.before,
        "steps": done.steps,
        "rounds_of_complementary_merging": done.rounds,
        "merged_because_of": reasons(done.counts, done.alone),
        **touched(cells, done.counts, done.merge, labels),
        **labels.record(cells, done.merge),
    }


def _with_fewest_left_out(
    copied: Callable[[tuple[str, ...]], _Copy], stay: tuple[str, ...], sums: Sums,
    options: Mapping[str, Any],
) -> _Copy:  # fmt: skip
    """
    Leave squares and people out rather than organizations: coarsening before deletion.

    First the squares that tell a count, then those of amounts, which tell of few rows behind them.
    """
    enumeration = protected_counts(sums, without=stay, **options)[1]
    told = _dispensable(sums.schema, enumeration.forms)
    amounts = _dispensable(sums.schema, [x.squares for x in enumeration.spreads])
    best: _Copy | None = None
    errors: list[DataError] = []
    for more in dict.fromkeys([(), tuple(told), tuple(dict.fromkeys([*told, *amounts]))]):
        try:
            found = copied((*stay, *more))
        except DataError as failed:
            errors.append(failed)
            continue
        if best is None or found.merge.deleted.sum() < best.merge.deleted.sum():
            best = found
        if not best.merge.deleted.any():
            break
    if best is None:
        raise errors[0]
    return best


def _dispensable(schema: Schema, forms: Sequence[Form]) -> list[str]:
    """Return outcomes whose squares tell one of the counts, and whether people tell one."""
    told = {name for form in forms for name in form.terms}
    found = [y for y in schema.outcomes if squares_of(schema, [y]) & told]
    return [*found, *([REPEATED] if any(f.name.startswith(REPEATED) for f in forms) else [])]


def _without_rare(
    sums: Sums, given: Sequence[str], options: Mapping[str, Any]
) -> tuple[Counts, Enumeration, tuple[str, ...]]:
    """
    Count what is protected, without squares and people that no merging would make safe.

    Raises
    ------
    DataError
        If a count is small in all rows together.
    """
    stay = tuple(given)
    while True:
        counts, enumeration = protected_counts(sums, without=stay, **options)
        whole = counts.values.sum(axis=0)
        rare = is_between(whole, counts.whole, counts.limits) & ~counts.distinct
        forms = [form for form, small in zip(enumeration.forms, rare, strict=True) if small]
        more = _dispensable(sums.schema, forms)
        if not more:
            break
        stay = (*stay, *more)
    if forms:
        raise DataError(
            f"in all rows together there are fewer than the limit of {listed(f.name for f in forms)}, "
            "so no merging makes a file that does not tell how many. Leave the column out, make it "
            "coarser (visits of two or more as two), take it with others that are as rare, or make "
            "two outcomes with gaps missing in the same rows."
        )
    return counts, enumeration, stay


def _before(
    published: Sequence[Moments | str | Path], counts: Counts, enumeration: Enumeration,
    cells: Cells, sums: Sums, minimum: int,
) -> tuple[Earlier, ...]:  # fmt: skip
    from vbceval.moments.moments import Moments

    found = []
    for item in published:
        file = item if isinstance(item, Moments) else Moments.load(item)
        if file.sums is None:
            raise DataError(
                "`published` holds moments without sums; pass the file that was shared."
            )
        total = counted(file.sums, enumeration, minimum=minimum)
        found.append(earlier_file(file.sums, file.meta, counts, cells, sums.schema, total))
    return tuple(found)


def _as_before(cells: Cells, before: Sequence[Earlier]) -> Merge:
    """Merge and leave out the organizations that earlier files do: else they are differences."""
    merge = Merge.nothing(cells)
    for file in before:
        held = np.asarray(file.links.sum(axis=0)).ravel() > 0
        here = np.isin(cells.period, cells.period[held])
        merge.deleted[np.setdiff1d(cells.cluster[here], cells.cluster[held])] = True
        for owner in np.unique(file.owner):
            together = np.unique(merge.owner[file.owner == owner])
            if len(together) > 1:
                join(merge, together.tolist(), 0)
    return merge


def _bins(
    cells: Cells, sums: Sums, periods: Mapping[Any, Any] | Callable[[Any], Any] | None
) -> tuple[pd.Series | None, IntArray | None]:
    """Return the new label of each period, and the first period with the same label."""
    if periods is None:
        return None, None
    new = pd.Series(cells.periods, index=cells.periods).map(periods)
    if new.isna().any():
        raise DataError(f"period {listed(new.index[new.isna()])} has no new period. Name all.")
    dates = sums.clusters[["cohort", "exit"]].drop_duplicates().to_numpy(dtype=float)
    old, label = np.asarray(new.index, dtype=float), new.to_numpy(dtype=float)
    for entry, last in dates:
        end = np.inf if np.isnan(last) else last
        mixed = [t for t, u in zip(old, label, strict=True)
                 if (entry <= t <= end) != (entry <= u <= end)]  # fmt: skip
        if mixed:
            raise DataError(
                f"`periods` puts {listed(mixed)} into a period on the other side of entry or exit "
                f"of the organizations that enter at {entry:g}, so treated and untreated rows "
                "would be mixed. Merge only periods with the same treatment."
            )
    codes = pd.factorize(new)[0]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) > codes.max() + 1:
        raise DataError("`periods` merges periods that are not adjacent. Merge neighbours.")
    return new, starts[codes].astype(np.int64)


def _audited(attack: Attack, merge: Merge, why: Sequence[str]) -> tuple[Merge, int]:
    """Merge more until nothing is exposed; return how many rounds that took."""
    out, few = merge.copy(), 1
    only: list[int] | None = None
    for round_ in range(MOST_ROUNDS):
        exposed = attack.exposed(out, only)
        if not exposed and only is not None:
            exposed = attack.exposed(out)
        if not exposed and not len(out.owners()):
            raise DataError(
                "no organization has cells that may leave, even with all strata merged. Too small, "
                f"most often first: {listed(why)}. Leave these columns out, give `periods`, or take "
                "moments by larger organizations."
            )
        if not exposed:
            return out, round_
        if not extend(attack, out, exposed, few):
            break
        few, only = few * 2, list(exposed)
    names = [attack.counts.names[q] for q in exposed]
    cohort = attack.cells.cohort
    alone = int((np.bincount(cohort)[cohort[out.owner]] == 1)[out.deleted[out.owner]].sum())
    said = "" if not alone else (
        f" {alone:,} of the organizations that are too small have a cohort and exit of their own, so "
        "they are merged with none, and totals less what is published are theirs: leave them out of "
        "the source."
    )  # fmt: skip
    raise DataError(
        f"the audit fails: counts below the limit ({listed(names)}) can be narrowed down from the "
        "file together with the totals that readers know, and merging more does not help. Those "
        "totals may give them away by themselves. Declare in `margins` only totals that are "
        f"printed, leave out a stratum or a 0/1 column, or give `periods`.{said}"
    )


def _check_finished(
    sums: Sums, out: Sums, report: Mapping[str, Any], counts: Counts, enumeration: Enumeration,
    cells: Cells, merge: Merge, minimum: int,
) -> None:  # fmt: skip
    """Read the finished table as a reader would: its counts, and which cells its labels stand for."""
    total = counted(out, enumeration, minimum=minimum)
    every = np.arange(len(out))
    small = total.small.any() or total.few.exposed(every, every, len(out)).any()
    placed = earlier_file(out, {"share": report}, counts, cells, sums.schema, total)
    row, cell = placed.links.nonzero()
    kept = ~merge.deleted[merge.owner[cells.cluster]]
    pairs = np.unique(np.column_stack([row, merge.codes(cells, cell)]), axis=0)
    if (
        small
        or len(total.names) < len(counts.names)
        or len(pairs) != len(out)
        or not np.array_equal(np.sort(cell), kept.nonzero()[0])
    ):
        raise DataError(
            "the finished file is not what was audited, so it is not returned. This is an error of "
            "vbceval; report it."
        )
