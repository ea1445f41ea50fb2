"""What a shared file is made of: labels of merged cells, their sums, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.moments.counted import REPEATED
from vbceval.moments.merging import Cells, Merge
from vbceval.moments.schema import histogram_column
from vbceval.moments.sums import Sums, _collapse, people_column

MOST_LEVELS = 6
"""A merged level names its parts up to this many."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Labels:
    """
    Labels of published keys.

    Parameters
    ----------
    clusters : array of object, shape (C,)
        Label under which each organization is published.
    periods : array, shape (T,)
        Of each period.
    merged : tuple of str or None
        Label of all levels of a stratum column together; None where none is merged.
    """

    clusters: np.ndarray
    periods: np.ndarray
    merged: tuple[str | None, ...]
    strata: tuple[str, ...]

    def record(self, cells: Cells, merge: Merge) -> dict[str, Any]:
        """Return what each label of a merged key stands for."""
        clusters = {}
        for owner in merge.owners():
            members = merge.members(int(owner))
            if len(members) > 1:
                clusters[str(self.clusters[owner])] = [str(x) for x in cells.clusters[members]]
        old = np.asarray(cells.periods, dtype=float)
        bins = [[float(new), old[self.periods == new].tolist()] for new in np.unique(self.periods)]
        return {
            "clusters": clusters,
            "clusters_left_out": int(merge.deleted[merge.owner].sum()),
            "clusters_with_merged_strata": int((merge.depth[merge.owners()] > 0).sum()),
            "periods": [[new, held] for new, held in bins if held != [new]],
            "strata": {
                name: {label: [str(x) for x in levels]}
                for name, label, levels in zip(self.strata, self.merged, cells.levels, strict=True)
                if label is not None
            },
        }


def labels_of(cells: Cells, merge: Merge, sums: Sums, periods: pd.Series | None) -> Labels:
    """Name what is merged; keys that are not merged keep their labels."""
    owners = merge.owners()
    n_strata = len(cells.levels)
    deepest = int(merge.depth[owners].max(initial=0))
    merged = tuple(
        _merged_level(levels) if j >= n_strata - deepest and len(levels) > 1 else None
        for j, levels in enumerate(cells.levels)
    )
    names = np.asarray(cells.clusters, dtype=object)
    several = [o for o in owners if len(merge.members(int(o))) > 1]
    if several:
        names = names.astype(str).astype(object)
    taken, used = set(names), dict[str, int]()
    labels = names[merge.owner].copy()
    for owner in several:
        entry = sums.clusters.loc[cells.clusters[owner]]
        cohort = "never treated" if pd.isna(entry["cohort"]) else f"cohort {entry['cohort']:g}"
        stem = cohort if pd.isna(entry["exit"]) else f"{cohort}, exit {entry['exit']:g}"
        label = ""
        while not label or label in taken:
            used[stem] = used.get(stem, 0) + 1
            label = f"{stem}, merged {used[stem]}"
        taken.add(label)
        labels[merge.owner == owner] = label
    plain = np.asarray(cells.periods, dtype=float)
    return Labels(
        clusters=labels, periods=plain if periods is None else periods.to_numpy(dtype=float),
        merged=merged, strata=sums.schema.strata,
    )  # fmt: skip


def _merged_level(levels: pd.Index) -> str:
    texts = [str(x) for x in levels]
    label = " or ".join(texts) if len(texts) <= MOST_LEVELS else f"any of {len(texts)} levels"
    while label in texts:
        label += " (merged)"
    return label


def merged_sums(
    sums: Sums, cells: Cells, merge: Merge, labels: Labels, without: Sequence[str] = ()
) -> Sums:
    """
    Add up the cells that are published together; whole numbers stay whole numbers.

    Histograms are left out, since the audit does not look at bins, and so are largest amounts,
    which are those of a person, and the squares of the outcomes in `without`. With `REPEATED` in
    it, people are rows.
    """
    import pyarrow as pa

    squares = tuple(y for y in sums.schema.outcomes if y in without)
    schema = replace(sums.schema, histograms={}, dominance=False, without_squares=squares)
    kept = {term.name for block in schema.blocks for term in schema.terms(block)}
    gone = [histogram_column(y) for y in sums.schema.histograms]
    gone += [t.name for b in schema.blocks for t in sums.schema.terms(b) if t.name not in kept]
    table = sums.table.drop_columns(gone)
    for block in schema.blocks if REPEATED in without else ():
        place = table.column_names.index(people_column(schema.alone(block)))
        people = table.schema.field(place)
        table = table.set_column(place, people, table.column(schema.name(block)).cast(people.type))
    owner = merge.owner[cells.cluster]
    new: dict[str, Any] = {}
    if (np.bincount(merge.owner) > 1).any():
        new[schema.cluster] = labels.clusters[cells.cluster]
    if (labels.periods != cells.periods).any():
        new[schema.period] = labels.periods[cells.period]
    for j, (name, label) in enumerate(zip(schema.strata, labels.merged, strict=True)):
        if label is not None:
            texts = np.array([*map(str, cells.levels[j]), label], dtype=object)
            deep = merge.depth[owner] >= len(labels.merged) - j
            new[name] = texts[np.where(deep, len(texts) - 1, cells.strata[:, j])]
    for name, values in new.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    table = table.filter(pa.array(~merge.deleted[owner]))
    owners = merge.owners()
    clusters = sums.clusters.loc[cells.clusters[owners]]
    clusters.index = pd.Index(labels.clusters[owners], name=sums.clusters.index.name)
    merged_periods = schema.period in new
    return Sums(
        # the largest count of people among merged cells would tell one of them from the others
        table=_collapse(table, schema.keys, add_people=True),
        schema=replace(schema, once_a_period=schema.once_a_period and not merged_periods),
        clusters=clusters.sort_index(),
    )


def shared_meta(meta: Mapping[str, Any], sums: Sums, minimum: int) -> dict[str, Any]:
    """
    Return what may leave of where moments came from.

    Hashes of the files, the engine, digits and pivots stay. Paths, sizes, largest values and the
    number of rows read do not: rows read less rows published would be a number of people. Nor does
    the query, in which sums are put together by how large values are. ``rows`` are those published.
    """
    kept = ("engine", "digits", "pivots", "separate")
    out = {k: meta[k] for k in kept if k in meta}
    left_out = meta.get("rows_left_out")
    # none at all is not told from few, or what is not told would be few
    out["rows_left_out"] = None if left_out is None or left_out < minimum else left_out
    parts = meta.get("parts", [{"source": meta.get("source", {})}])
    files = [f for part in parts for f in part["source"].get("files", [])]
    out["source"] = {
        "origin": parts[0]["source"].get("origin"),
        "label": "the source of a shared copy",
        "files": [{"footer_sha256": f["footer_sha256"]} for f in files],
    }
    out["counts"] = "people, added up over merged cells"
    out["rows"] = sum(int(x) for x in sums.table.column(sums.schema.rows).to_pylist())
    return out
