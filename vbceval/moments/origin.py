"""Where moments come from: what is kept of it when moments are added."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DataError
from vbceval.moments.drops import in_both
from vbceval.moments.sums import Sums

if TYPE_CHECKING:
    from vbceval.moments.moments import Moments


def described(moments: Moments) -> str:
    """Describe moments without a key or a sum of a cell: units may be people."""
    size = len(moments.cells)
    cells = say_people(size, "cells") if moments.people else f"{size:,} cells"
    by = listed([moments.unit_name, moments.period_name, *moments.strata])
    beside = f", covariates {listed(moments.covariates)}" if moments.covariates else ""
    return (
        f"Moments({cells} by {by}; outcomes {listed(moments.outcomes)}{beside}; "
        f"clusters `{moments.cluster_name}`)"
    )


def joined_meta(
    one: tuple[Sums, Mapping[str, Any]], two: tuple[Sums, Mapping[str, Any]]
) -> dict[str, Any]:
    """
    Return where the sum of two moments comes from.

    Ranges of columns are those of all rows. Parts keep their sources; shared copies their reports.

    Raises
    ------
    DataError
        If one is a shared copy and the other is not, or the copies merge organizations or strata
        in different ways.

    Warns
    -----
    UserWarning
        If rows of one seem to be in the other; also in ``warnings``.
    """
    first, second = one[1], two[1]
    out = {k: v for k, v in first.items() if k not in ("share", "ranges")}
    if "separate" in out:
        out |= {"separate": list(one[0].schema.separate), "digits": dict(one[0].schema.digits)}
    out["parts"] = [*_parts(first), *_parts(second)]
    out["rows"] = sum(part["rows"] for part in out["parts"])
    gone = [meta.get("rows_left_out") for meta in (first, second)]
    out["rows_left_out"] = None if None in gone else sum(gone)
    ranges = [meta.get("ranges", {}) for meta in (first, second)]
    out["ranges"] = {
        name: [min(ranges[0][name][0], ranges[1][name][0]),
               max(ranges[0][name][1], ranges[1][name][1])]
        for name in ranges[0] if name in ranges[1]
    }  # fmt: skip
    shared = ["share" in meta for meta in (first, second)]
    if shared[0] != shared[1]:
        raise DataError(
            "one of these moments is a shared copy and the other is not, so the sum would hold cells "
            "of few people under the report of the copy. Add the moments first and share the sum, "
            "with the copy in `published`."
        )
    said = in_both(one, two, [_parts(first), _parts(second)])
    for sentence in said:
        # who adds moments is two calls up
        warnings.warn(sentence, UserWarning, stacklevel=3)
    before = [w for meta in (first, second) for w in meta.get("warnings", ())]
    if before or said:
        out["warnings"] = list(dict.fromkeys([*before, *said]))
    if all(shared):
        out["share"] = _joined_share(one, two)
    return out


def _parts(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "parts" in meta:
        return list(meta["parts"])
    return [{k: meta[k] for k in ("source", "engine", "rows")}]


def _joined_share(
    one: tuple[Sums, Mapping[str, Any]], two: tuple[Sums, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return both reports, and together what labels stand for."""
    reports = [meta["share"] for _, meta in (one, two)]
    problems = Problems("these shared copies together")
    placed = [
        _published_as(sums, report) for (sums, _), report in zip((one, two), reports, strict=True)
    ]
    both = placed[0].keys() & placed[1].keys()
    apart = [x for x in both if placed[0][x] != placed[1][x]]
    labels = [report["clusters"] for report in reports]
    other = [
        x for x in labels[0].keys() & labels[1].keys() if set(labels[0][x]) != set(labels[1][x])
    ]
    if apart or other:
        problems.add(
            f"{max(len(apart), len(other)):,} organizations are merged in another way in one than in "
            f"the other ({listed(sorted({*apart, *other}), most=3)}), so one label would stand for "
            "other organizations in some periods than in others. Add the moments before they are "
            "shared, and share the sum with `published=`."
        )
    for name in one[0].schema.strata:
        deep = [
            _merged_in(sums, report, name)
            for (sums, _), report in zip((one, two), reports, strict=True)
        ]
        held = one[0].clusters.index.intersection(two[0].clusters.index).astype(str)
        mixed = (deep[0] ^ deep[1]) & set(held)
        if mixed:
            problems.add(
                f"`{name}` is merged in one and not in the other for {len(mixed):,} organizations, so "
                "a stratum would hold other organizations in some periods than in others. Drop it "
                f"from both with coarsen(drop=['{name}']), or add the moments before they are shared."
            )
    problems.raise_if_any()
    return {
        "minimum": min(report["minimum"] for report in reports),
        "clusters": labels[0] | labels[1],
        "periods": [*reports[0]["periods"], *reports[1]["periods"]],
        "strata": _joined_strata([report["strata"] for report in reports]),
        "parts": [part for report in reports for part in report.get("parts", [report])],
    }


def _published_as(sums: Sums, report: Mapping[str, Any]) -> dict[str, str]:
    """Return the label under which each organization is published."""
    labels = {str(x): str(x) for x in sums.clusters.index if str(x) not in report["clusters"]}
    return labels | {str(x): label for label, held in report["clusters"].items() for x in held}


def _merged_in(sums: Sums, report: Mapping[str, Any], stratum: str) -> set[str]:
    """Return the labels of organizations whose levels of a stratum are merged."""
    made = report["strata"].get(stratum, {})
    keys = sums.table.select([sums.schema.cluster, stratum]).to_pandas()
    return set(
        keys.loc[np.isin(keys[stratum].astype(str), list(made)), sums.schema.cluster].astype(str)
    )


def _joined_strata(found: list[Mapping[str, Mapping[str, list[str]]]]) -> dict[str, Any]:
    out: dict[str, dict[str, list[str]]] = {}
    for report in found:
        for name, made in report.items():
            for label, levels in made.items():
                known = out.setdefault(name, {}).get(label, [])
                out[name][label] = [*known, *(x for x in levels if x not in known)]
    return out
