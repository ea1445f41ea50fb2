"""The report of a shared copy: its rules, what was merged, and what nobody checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.typing import BoolArray
from vbceval.moments.counted import REPEATED
from vbceval.moments.merging import Cells, Merge
from vbceval.moments.protected import Counts
from vbceval.moments.shared_file import Labels
from vbceval.moments.sums import Sums


def rules_said(counts: Counts, dominance: float | None, minimum: int) -> list[str]:
    """
    Return a line for each rule.

    The largest weight is one person's, so limits that it is a factor of are not written as numbers.
    """
    found = []
    for name, limit in zip(counts.names, counts.limits, strict=True):
        plain = limit == minimum or name.split(" where ")[0].split(" without ")[0] == "rows"
        least = f"{limit:g}" if plain else f"{minimum} times the largest weight"
        found.append(f"{name}: 0 or at least {least}")
    if dominance is not None:
        exact = counts.amounts is not None and counts.amounts.exact
        known = "" if exact else ", as far as sums and sums of squares show it"
        found.append(f"amounts: no row with more than {dominance:.0%} of a cell{known}")
    return found


def not_checked(
    sums: Sums, dominance: float | None, counts: Counts, *, complementary: bool, longer: bool
) -> list[str]:
    """
    Return what the rules and the audit do not look at, for these moments.

    Where periods were merged (`longer`), a person has a row in each of them.
    """
    found = []
    if complementary:
        found.append(
            "reports are taken to leave out small totals and those that give them away by "
            "subtraction; `margins=` takes all others as printed"
        )
    if dominance is None:
        found.append(
            "dominance: one row may have most of an amount of a cell; `dominance=` checks it"
        )
    blocks = ["", *(f" where {y}" for y in sums.schema.separate)]
    pairs = [(f"rows{x}", f"people{x}") for x in blocks if f"people{x}" in counts.names]
    values = dict(zip(counts.names, counts.values.T, strict=True))
    once = bool(pairs) and all(np.array_equal(values[a], values[b]) for a, b in pairs)
    if longer or not once:
        found.append(
            "a person can have several rows: ones and zeros of 0/1 columns are counts of rows, and "
            "shares of an amount are those of rows"
        )
    schema = sums.schema
    told = {name.split("=")[0] for name in counts.names if "=" in name}
    several = [x for x in (*schema.covariates, *schema.outcomes)
               if schema.digits[x] == 0 and x not in told]  # fmt: skip
    if several:
        found.append(
            f"columns with four or more values ({listed(several)}): sums and squares bound how many "
            "rows have each value; its least, its largest and those next to the mean are looked at"
        )
    if any(x.weight.unit <= 0 for x in counts.few.spreads):
        found.append(
            f"one row behind an amount: `{schema.weight}` can be any number, so squares tell of few "
            "rows only as far as its smallest value bounds them"
        )
    return found


def open_differences(out: Sums, minimum: int, known: Sequence[Sequence[str]]) -> list[str]:
    """Return what differences of totals and periods may tell: totals are none, or people only leave."""
    schema, found = out.schema, []
    if not known:
        found.append(
            "totals that reports print: `margins` names none, so what is merged or left out may be "
            "had from them by subtraction"
        )
    others = [k for k in schema.keys if k != schema.period]
    frame = out.table.select([*schema.keys, schema.rows]).to_pandas()
    frame = frame.sort_values([*others, schema.period])
    change = frame.groupby(others, sort=False)[schema.rows].diff().dropna()
    less, more = bool((change <= 0).all()), bool((change >= 0).all())
    if (less or more) and change.abs().between(1, minimum - 1).any():
        found.append(
            f"differences of periods: rows never {'increase' if less else 'decrease'} from one period "
            "to the next, as in a cohort that people only leave or only join, and then the difference "
            "is how many. Longer `periods`, larger organizations or rows of people who come and go "
            "hide it"
        )
    return found


def not_in_the_copy(sums: Sums, stay: Sequence[str]) -> list[str]:
    """Return what the source holds and the copy does not."""
    found = []
    if sums.schema.histograms:
        found.append(
            f"histograms of {listed(tuple(sums.schema.histograms))}: the audit does not look at "
            "bins, so quantiles need the source"
        )
    if sums.schema.dominance:
        found.append("largest amounts of rows: each is that of a person")
    squares = [y for y in stay if y != REPEATED]
    if squares:
        found.append(
            f"sums of squares of {listed(squares)}: they would tell how few have several events, "
            "and only errors that are not by cluster need them"
        )
    if REPEATED in stay:
        found.append(
            "numbers of different people: they would tell how few have several rows; what the copy "
            "calls people are rows"
        )
    return found


def reasons(counts: Counts, fails: BoolArray) -> list[str]:
    """Return names of what was too small in some cell, most often first; how often would say where."""
    names = np.array([*counts.names, "few rows behind a sum and its squares", "dominance"])
    found = fails.sum(axis=0)
    order = np.argsort(-found, kind="stable")
    return [str(x) for x in names[order][found[order] > 0]]


def touched(cells: Cells, counts: Counts, merge: Merge, labels: Labels) -> dict[str, Any]:
    """
    Return how many published cells are merged, and how much of what is published is in them.

    Only what the labels of the file show: how many cells of the source are in a merged one would
    tell which of them are empty.
    """
    owner = merge.owner[cells.cluster]
    gone = merge.deleted[owner]
    deep = np.array([label is not None for label in labels.merged])[::-1].cumsum()
    merged = {
        "strata": np.concatenate([[0], deep])[merge.depth[owner]] > 0,
        "periods": np.bincount(merge.bin)[merge.bin[cells.period]] > 1,
        "clusters": np.bincount(merge.owner)[owner] > 1,
    }
    some = np.logical_or.reduce(list(merged.values())) & ~gone
    codes = merge.codes(cells)
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
            "published": len(np.unique(codes[~gone])),
            **{f"merged_over_{k}": len(np.unique(codes[x & ~gone])) for k, x in merged.items()},
        },
        "share_in_merged_cells": {
            k: round(float(x[some].sum() / x[~gone].sum()), 4) for k, x in shares.items()
        },
        "share_of_rows_left_out_at_most": None if coarse else most,
    }


def verdict(counts: Counts, minimum: int) -> str:
    """Return what the audit has shown."""
    return (
        f"for each of {len(counts.names)} counts: every one below its limit ({minimum}, or more "
        "where rows are weighted) could be 0 and could be at the limit or above, given the file, "
        "the totals known from elsewhere and the files shared before"
    )
