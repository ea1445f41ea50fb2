"""What readers find out about cells of the source from the file, reports and earlier files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.disclosure import unproven
from vbceval.moments.merging import Cells, Merge, join
from vbceval.moments.protected import Counts
from vbceval.moments.reports import Totals
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums


@dataclass(frozen=True, eq=False, kw_only=True)
class Earlier:
    """
    A file that was shared before: which cells of the source each of its cells holds.

    Parameters
    ----------
    links : sparse array, shape (r, K)
        A row for each of its cells.
    names : frozenset of str
        Counts that it holds.
    owner : int array, shape (C,)
        Organizations published together in it have the same number.
    """

    links: Any
    names: frozenset[str]
    owner: IntArray


def earlier_file(
    sums: Sums, meta: Mapping[str, Any], counts: Counts, cells: Cells, schema: Schema,
    total: Counts,
) -> Earlier:  # fmt: skip
    """
    Place the cells of an earlier file among those of the source.

    Parameters
    ----------
    sums, meta, total
        The earlier moments, where they came from, and their counts.
    counts, cells, schema
        Of the source.

    Raises
    ------
    DataError
        If its cells are not sums of cells of the source.
    """
    share = meta.get("share", {})
    finer = [s for s in sums.schema.strata if s not in schema.strata]
    if finer:
        raise DataError(
            f"an earlier file has the stratum {listed(finer)}, which these moments do not have, so "
            "the difference of the two cannot be checked. Take moments with it, share those with "
            "`published=`, and coarsen the result."
        )
    keys = sums.table.select(list(sums.schema.keys)).to_pandas()
    parts = {"row": np.arange(len(keys)), "cluster": _members(
        keys[sums.schema.cluster], share.get("clusters", {}), cells.clusters)}  # fmt: skip
    parts["period"] = _members(
        keys[sums.schema.period], dict(share.get("periods", [])), cells.periods
    )
    for j, name in enumerate(schema.strata):
        if name in sums.schema.strata:
            labels = share.get("strata", {}).get(name, {})
            parts[f"s{j}"] = _members(keys[name], labels, cells.levels[j])
    wide = pd.DataFrame(parts)
    for name in list(parts)[1:]:
        wide = wide.explode(name)
    wide = wide.dropna().astype(np.int64)
    mine = pd.DataFrame({"cell": np.arange(len(cells.cluster)), "cluster": cells.cluster,
                         "period": cells.period})  # fmt: skip
    for j in range(len(schema.strata)):
        mine[f"s{j}"] = cells.strata[:, j]
    pairs = wide.merge(mine, on=list(parts)[1:])
    links = sparse.csr_array(
        (np.ones(len(pairs)), (pairs["row"], pairs["cell"])), shape=(len(keys), len(mine))
    )
    names = [x for x in total.names if x in counts.names]
    added = links @ counts.values[:, [counts.names.index(x) for x in names]]
    theirs = total.values[:, [total.names.index(x) for x in names]]
    same = (np.abs(added - theirs) <= 1e-6 * np.maximum(1.0, np.abs(theirs))).all(axis=0)
    distinct = np.array([total.distinct[total.names.index(x)] for x in names])
    if not names or not (same | distinct).all():
        raise DataError(
            "an earlier file is not of the same rows: its cells do not hold the sums of these "
            "moments over the same keys, so the difference of the two cannot be checked. Take both "
            "from the same table, with the same covariates, weight and labels."
        )
    owner = np.arange(len(cells.clusters))
    for labels in share.get("clusters", {}).values():
        places = cells.clusters.astype(str).get_indexer(pd.Index([str(x) for x in labels]))
        known = places[places >= 0]
        owner[known] = known.min(initial=len(owner))
    return Earlier(
        links=links, names=frozenset(x for x, ok in zip(names, same, strict=True) if ok),
        owner=owner,
    )  # fmt: skip


def _members(labels: pd.Series, merged: Mapping[Any, Any], known: pd.Index) -> list[IntArray]:
    """Return for each label the positions of what it stands for."""
    place = {str(x): i for i, x in enumerate(known)}
    stands = {str(k): [place[str(x)] for x in v if str(x) in place] for k, v in merged.items()}
    found = {}
    for label in labels.unique():
        alone = [place[str(label)]] if str(label) in place else []
        found[label] = np.array(stands.get(str(label), alone), dtype=np.int64)
    return [found[x] for x in labels]


@dataclass(frozen=True, eq=False, kw_only=True)
class Attack:
    """
    Everything a reader knows besides the file.

    Parameters
    ----------
    cells : Cells
        Cells of the source.
    counts : Counts
        What is protected in them.
    totals : Totals
        Totals that reports print.
    earlier : tuple of Earlier
        Files shared before.
    """

    cells: Cells
    counts: Counts
    totals: Totals
    earlier: tuple[Earlier, ...]

    def exposed(self, merge: Merge, only: Sequence[int] | None = None) -> dict[int, IntArray]:
        """Return, for each count (or some), the cells of the source that may not be safe."""
        file, reports, entries = self._known(merge)
        found: dict[int, IntArray] = {}
        small = self.counts.small
        seen: set[tuple[float, bool, frozenset[int], bytes]] = set()
        for q in range(len(self.counts.names)) if only is None else only:
            name = self.counts.names[q]
            values, limit = self.counts.values[:, q], float(self.counts.limits[q])
            protected = np.flatnonzero(small[:, q])
            if not len(protected):
                continue
            before = [e.links for e in self.earlier if name in e.names]
            in_reports = bool(self.counts.printed[q])
            key = (limit, in_reports, frozenset(map(id, before)), values.tobytes())
            if key in seen:  # rows and people are often the same
                continue
            seen.add(key)
            printed = self._printed(q)[entries]
            links = sparse.vstack([file, reports[printed], *before], format="csr")
            bad = unproven(
                links, _rounded(links @ values, bool(self.counts.whole[q])), protected=protected,
                limit=limit, whole=bool(self.counts.whole[q]), table=values,
            )  # fmt: skip
            if bad.any():
                found[q] = protected[bad]
        return found

    def _printed(self, q: int) -> BoolArray:
        # the same in all rounds
        if q not in self._found:
            self._found[q] = self.totals.printed(self.counts, q)
        return self._found[q]

    @cached_property
    def _found(self) -> dict[int, BoolArray]:
        return {}

    def _known(self, merge: Merge) -> tuple[Any, Any, IntArray]:
        """Return the published cells, and the totals that say more than they do, with their places."""
        size = len(self.cells.cluster)
        kept = np.flatnonzero(~merge.deleted[merge.owner[self.cells.cluster]])
        _, place = np.unique(merge.codes(self.cells, kept), return_inverse=True)
        n = int(place.max(initial=-1)) + 1
        file = sparse.csr_array((np.ones(len(kept)), (place, kept)), shape=(n, size))
        deleted = np.setdiff1d(np.arange(size), kept)
        new = [_says_more(codes, kept, place, n, deleted) for codes in self.totals.codes]
        entries = np.flatnonzero(np.concatenate([np.zeros(0, dtype=bool), *new]))
        return file, self.totals.links[entries], entries


def _says_more(
    codes: IntArray, kept: IntArray, place: IntArray, n: int, deleted: IntArray
) -> BoolArray:
    """Entries of a margin that are not sums of published cells."""
    low, high = np.full(n, codes.max(initial=0)), np.zeros(n, dtype=np.int64)
    np.minimum.at(low, place, codes[kept])
    np.maximum.at(high, place, codes[kept])
    new = np.zeros(int(codes.max(initial=0)) + 1, dtype=bool)
    new[codes[kept[(low < high)[place]]]] = True
    new[codes[deleted]] = True
    return new


def _rounded(values: FloatArray, whole: bool) -> FloatArray:
    return np.rint(values) if whole else values


def extend(attack: Attack, merge: Merge, exposed: Mapping[int, IntArray], few: int) -> bool:
    """
    Merge more, so that what is exposed is hidden among others; return whether anything was done.

    First the strata of the organizations themselves, then those of up to `few` others that have
    most of what is short where the exposed cells are, then organizations with each other; an
    organization that has no other of its cohort is left out. Changes `merge`.
    """
    cells = attack.cells
    at = np.unique(np.concatenate(list(exposed.values())))
    owners = np.unique(merge.owner[cells.cluster[at]])
    n_strata = cells.strata.shape[1]
    shallow = owners[(merge.depth[owners] < n_strata) & ~merge.deleted[owners]]
    if len(shallow):
        merge.depth[shallow] += 1
        return True
    partners = _partners(attack, merge, exposed, owners)
    if len(partners):
        merge.depth[partners[:few]] = n_strata
        return True
    return _join_or_delete(attack, merge, owners[~merge.deleted[owners]][:few])


def _partners(
    attack: Attack, merge: Merge, exposed: Mapping[int, IntArray], owners: IntArray
) -> IntArray:
    """Organizations not merged so far, by how much they hide for the rows they hold."""
    cells, counts = attack.cells, attack.counts
    n_strata = cells.strata.shape[1]
    others = merge.owners()
    others = others[(merge.depth[others] < n_strata) & ~np.isin(others, owners)]
    if not len(others) or not n_strata:
        return np.zeros(0, dtype=np.int64)
    c = len(cells.clusters)
    worth = np.zeros(c)
    for q, rows in exposed.items():
        for codes in attack.totals.codes:
            hit = np.isin(codes, codes[rows])
            part = np.minimum(counts.values[hit, q], counts.limits[q])
            worth += np.bincount(merge.owner[cells.cluster[hit]], weights=part, minlength=c)
    price = np.bincount(merge.owner[cells.cluster], weights=counts.values[:, 0], minlength=c)
    score = worth[others] / np.sqrt(np.maximum(price[others], 1.0))
    order = np.argsort(-score, kind="stable")
    return np.asarray(others[order][score[order] > 0], dtype=np.int64)


def _join_or_delete(attack: Attack, merge: Merge, owners: IntArray) -> bool:
    cells = attack.cells
    size = np.bincount(
        merge.owner[cells.cluster], weights=attack.counts.values[:, 0],
        minlength=len(cells.clusters),
    )  # fmt: skip
    changed = False
    for owner in owners:
        if merge.owner[owner] != owner:
            continue
        others = merge.owners()
        others = others[(cells.cohort[others] == cells.cohort[owner]) & (others != owner)]
        changed = True
        if not len(others):
            merge.deleted[owner] = True
            continue
        join(merge, [int(owner), int(others[np.argmin(size[others])])], cells.strata.shape[1])
    return changed
