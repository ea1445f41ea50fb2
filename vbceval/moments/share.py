"""The copy of moments that may leave: no count of 1-10 people in it, and none derivable from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, IntArray
from vbceval.moments.attack import (
    Attack,
    Earlier,
    checked_margins,
    default_margins,
    earlier_file,
    extend,
    margin_codes,
)
from vbceval.moments.merging import Cells, Merge, Rules, join, repair
from vbceval.moments.protected import Counts, protected_counts
from vbceval.moments.shared_file import labels_of, merged_sums, shared_meta
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
    events: Sequence[str] = (),
    dominance: float | None = None,
    largest_weight: float | None = None,
) -> Moments:
    """
    Return a copy of moments that may leave, with a report of what was merged in its ``meta``.

    Every count of people and of rows in it is 0 or at least `minimum`: of a cell, of an outcome with
    gaps and of the rows that lack it, of the ones and the zeros of a 0/1 column and of two of them
    together, of exposure. A cell has at least two rows more than it has columns, so that it cannot
    be solved for its rows. Cells that break a rule are merged in this order:

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
        stratum, by all strata and by cohort. Totals of an organization are taken to be printed as
        in the file, merged where it is merged; name them here if others are. Empty: none.
    published : sequence of Moments or paths
        Files of the same rows that were shared before.
    periods : mapping or callable, optional
        New period of each period, used in all organizations if cells are too small after step 1.
        A new period may not hold periods before and after an entry or exit.
    disjoint : bool, optional
        Whether a person is in one organization and one stratum in a period, so that the people of
        merged cells add up. Otherwise the largest part counts, of which the true number is never
        less. Default: whether the pass found one row for a person and period.
    events : sequence of str
        Columns with numbers of events (admissions); their sums are protected as people are.
    dominance : float, optional
        Merge cells in which one row has more than this share of an amount. Moments taken with
        ``dominance=True`` say what share it has; else it may be merged that would not need to be,
        because sum and sum of squares only bound it. Default: not checked.
    largest_weight : float, optional
        Largest weight of a row, where rows are weighted; default: what the pass found.

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
    sums = _checked(moments, minimum, dominance)
    schema = sums.schema
    if largest_weight is None and schema.weight is not None:
        largest_weight = moments.meta.get("largest", {}).get(schema.weight)
    counts = protected_counts(
        sums, minimum=minimum, largest_weight=largest_weight, events=events,
        amounts=dominance is not None,
    )  # fmt: skip
    cells = Cells.of(sums)
    known = default_margins(schema) if margins is None else checked_margins(margins, schema)
    before = _before(published, counts, cells, sums, minimum, largest_weight, events)
    apart = schema.once_a_period if disjoint is None else disjoint
    rules = Rules(counts=counts, disjoint=apart, dominance=dominance)
    start = _as_before(cells, before)
    _, alone = rules.failing(cells, start)
    new_periods, bins = _bins(cells, sums, periods)
    merge, steps = repair(cells, rules, start, bins)
    attack = Attack(
        cells=cells, counts=counts, margins=margin_codes(known, cells, schema), earlier=before
    )
    merge, added = _audited(attack, merge)
    labels = labels_of(cells, merge, sums, new_periods if "periods" in steps else None)
    out = merged_sums(sums, cells, merge, labels)
    report = {
        "minimum": minimum,
        "rules": _said(counts, dominance),
        "not_checked": _not_checked(sums, dominance, counts),
        "not_in_the_copy": _not_in_the_copy(sums),
        "known_from_elsewhere": [list(m) for m in known],
        "files_shared_before": len(before),
        "people_disjoint": apart,
        "steps": steps + (["complementary"] if added else []),
        "rounds_of_complementary_merging": added,
        "merged_because_of": _reasons(counts, alone),
        **_touched(cells, counts, merge),
        **labels.record(cells, merge),
        "audit": _verdict(counts, minimum),
    }
    _check_finished(sums, out, report, counts, cells, merge, minimum, largest_weight, events)
    meta = {**shared_meta(moments.meta, out), "share": report}
    return moments._from_sums(out, meta)


def _checked(moments: Moments, minimum: int, dominance: float | None) -> Sums:
    if moments.sums is None:
        raise DataError(
            "these moments were taken from a panel in memory and hold no sums, so merged cells "
            "would not be exact. Take them with Moments.from_table (any frame can be its source)."
        )
    if moments.sums.schema.unit is None:
        raise DataError(
            "these moments do not count people: `unit` was not given, and the threshold is a number "
            "of different people. Take them again with unit= (it is counted, never stored)."
        )
    if "share" in moments.meta:
        raise DataError(
            "these moments are a shared copy already. Share a coarser copy of the source instead, "
            "with this one in `published`."
        )
    if minimum < 2:
        raise DataError(
            f"`minimum` is {minimum}; below 2 it protects nothing. The usual one is 11."
        )
    if dominance is not None and not 0 < dominance < 1:
        raise DataError(f"`dominance` is {dominance}; it is a share between 0 and 1, such as 0.5.")
    return moments.sums


def _before(
    published: Sequence[Moments | str | Path], counts: Counts, cells: Cells, sums: Sums,
    minimum: int, largest_weight: float | None, events: Sequence[str],
) -> tuple[Earlier, ...]:  # fmt: skip
    from vbceval.moments.moments import Moments

    found = []
    for item in published:
        file = item if isinstance(item, Moments) else Moments.load(item)
        if file.sums is None:
            raise DataError(
                "`published` holds moments without sums; pass the file that was shared."
            )
        mine = [
            x for x in events if x in (*file.sums.schema.outcomes, *file.sums.schema.covariates)
        ]
        total = protected_counts(
            file.sums, minimum=minimum, largest_weight=largest_weight, events=mine
        )
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


def _audited(attack: Attack, merge: Merge) -> tuple[Merge, int]:
    """Merge more until nothing is exposed; return how many rounds that took."""
    out, few = merge.copy(), 1
    only: list[int] | None = None
    for round_ in range(MOST_ROUNDS):
        exposed = attack.exposed(out, only)
        if not exposed and only is not None:
            exposed = attack.exposed(out)
        if not exposed and not len(out.owners()):
            raise DataError(
                "no organization has cells that may leave, even with all strata merged. Leave out "
                "0/1 columns with few ones, give `periods`, or take moments by larger organizations."
            )
        if not exposed:
            return out, round_
        if not extend(attack, out, exposed, few):
            break
        few, only = few * 2, list(exposed)
    names = [attack.counts.names[q] for q in exposed]
    raise DataError(
        f"the audit fails: counts below the limit ({listed(names)}) can be narrowed down from the "
        "file together with the totals that readers know, and merging more does not help. Those "
        "totals may give them away by themselves. Declare in `margins` only totals that are "
        "printed, leave out a stratum or a 0/1 column, or give `periods`."
    )


def _check_finished(
    sums: Sums, out: Sums, report: Mapping[str, Any], counts: Counts, cells: Cells, merge: Merge,
    minimum: int, largest_weight: float | None, events: Sequence[str],
) -> None:  # fmt: skip
    """Read the finished table as a reader would: its counts, and which cells its labels stand for."""
    total = protected_counts(out, minimum=minimum, largest_weight=largest_weight, events=events)
    nothing = np.where(total.whole, 0.5, 1e-6)
    small = (total.values > nothing) & (total.values < total.limits - 1e-9)
    placed = earlier_file(out, {"share": report}, counts, cells, sums.schema, total)
    row, cell = placed.links.nonzero()
    kept = ~merge.deleted[merge.owner[cells.cluster]]
    pairs = np.unique(np.column_stack([row, merge.codes(cells, cell)]), axis=0)
    if (
        small.any()
        or len(pairs) != len(out)
        or not np.array_equal(np.sort(cell), kept.nonzero()[0])
    ):
        raise DataError(
            "the finished file is not what was audited, so it is not returned. This is an error of "
            "vbceval; report it."
        )


def _said(counts: Counts, dominance: float | None) -> list[str]:
    found = [
        f"{name}: 0 or at least {limit:g}"
        for name, limit in zip(counts.names, counts.limits, strict=True)
    ]
    if dominance is not None:
        exact = counts.amounts is not None and counts.amounts.exact
        known = "" if exact else ", as far as sums and sums of squares show it"
        found.append(f"amounts: no row with more than {dominance:.0%} of a cell{known}")
    return found


def _not_checked(sums: Sums, dominance: float | None, counts: Counts) -> list[str]:
    found = []
    if dominance is None:
        found.append(
            "dominance: one row may have most of an amount of a cell; `dominance=` checks it"
        )
    rows, people = (counts.names.index(x) if x in counts.names else -1 for x in ("rows", "people"))
    if people < 0 or not np.array_equal(counts.values[:, rows], counts.values[:, people]):
        found.append(
            "a person can have several rows: ones and zeros of 0/1 columns are counts of rows, "
            "shares of an amount are those of rows, and rows less people are not looked at"
        )
    three = [x for x in sums.schema.covariates if sums.schema.digits[x] == 0]
    if three:
        found.append(
            f"covariates with a few known values other than 0 and 1 (candidates: {listed(three)}): "
            "their sums may be solved for how many have each"
        )
    return found


def _not_in_the_copy(sums: Sums) -> list[str]:
    """Say what the source holds and the copy does not."""
    found = []
    if sums.schema.histograms:
        found.append(
            f"histograms of {listed(tuple(sums.schema.histograms))}: the audit does not look at "
            "bins, so quantiles need the source"
        )
    if sums.schema.dominance:
        found.append("largest amounts of rows: each is that of a person")
    return found


def _reasons(counts: Counts, fails: BoolArray) -> list[str]:
    """Name what was too small in some cell, most often first; how often would say where."""
    names = np.array([*counts.names, "dominance"])
    found = fails.sum(axis=0)
    order = np.argsort(-found, kind="stable")
    return [str(x) for x in names[order][found[order] > 0]]


def _touched(cells: Cells, counts: Counts, merge: Merge) -> dict[str, Any]:
    """How many cells were merged, and how much of what is published is in merged cells."""
    owner = merge.owner[cells.cluster]
    gone = merge.deleted[owner]
    codes = merge.codes(cells)
    _, place, size = np.unique(codes, return_inverse=True, return_counts=True)
    merged = (size[place] > 1) & ~gone
    rows = counts.values[:, 0]
    exposure = [
        j for j, x in enumerate(counts.names) if x.startswith("exposure") and "where" not in x
    ]
    shares = {"rows": rows, **({"exposure": counts.values[:, exposure[0]]} if exposure else {})}
    # in steps of 5 %, and from above: a share of rows left out, times all, is a number of people
    most = float(np.ceil(20 * rows[gone].sum() / rows.sum()) / 20)
    coarse = gone.any() and rows.sum() / 20 < counts.limits[0]
    return {
        "cells": {
            "source": len(codes),
            "published": len(np.unique(codes[~gone])),
            "merged_over_strata": int((merged & (merge.depth[owner] > 0)).sum()),
            "merged_over_periods": int((merged & (np.bincount(merge.bin)[
                merge.bin[cells.period]] > 1)).sum()),
            "merged_over_clusters": int((merged & (np.bincount(merge.owner)[owner] > 1)).sum()),
            "left_out": int(gone.sum()),
        },
        "share_in_merged_cells": {
            k: round(float(x[merged].sum() / x[~gone].sum()), 4) for k, x in shares.items()
        },
        "share_of_rows_left_out_at_most": None if coarse else most,
    }  # fmt: skip


def _verdict(counts: Counts, minimum: int) -> str:
    return (
        f"for each of {len(counts.names)} counts: every one below its limit ({minimum}, or more "
        "where rows are weighted) could be 0 and could be at the limit or above, given the file, "
        "the totals known from elsewhere and the files shared before"
    )
