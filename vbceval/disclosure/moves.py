"""Tables next to a given one with the same totals: four counts change, and nothing published does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from vbceval.core.typing import FloatArray, IntArray

_SEED = 20210101
_MOST = 24


def nearby(
    links: Any, table: FloatArray, protected: IntArray, wanted: FloatArray
) -> tuple[Any, IntArray]:
    """
    Propose changes that bring protected counts to wanted values and leave all totals as they are.

    A count p changes by d. Another count of the same (smallest) total changes by -d, and in another
    such total, two counts that belong to the same other totals as these change by -d and d. Where
    two counts belong to the same totals altogether, they suffice; where one neighbour has too
    little to give, several give together. Proposals are to be checked.

    Parameters
    ----------
    links : sparse array, shape (r, k)
        Which counts add up to each total.
    table : array, shape (k,)
        Counts that fit the totals.
    protected : array of int, shape (q,)
        Counts to change, each in some total.
    wanted : array, shape (q,)
        Value of each after the change.

    Returns
    -------
    changes : sparse array, shape (k, m)
        One column a proposal.
    which : array of int, shape (m,)
        Position in `protected` of each.
    """
    columns = sparse.csc_array(links)
    size = np.diff(columns.indptr)
    cells = np.flatnonzero(size > 0)
    if not len(cells) or not len(protected):
        return sparse.csc_array((len(table), 0)), np.zeros(0, dtype=np.int64)
    home, kind = _places(columns, cells, len(table))
    frame = pd.DataFrame(
        {"cell": cells, "home": home[cells], "kind": kind[cells], "x": table[cells]}
    )
    most = frame.sort_values("x", ascending=False, kind="stable").groupby("home").head(_MOST)
    asked = pd.DataFrame(
        {"which": np.arange(len(protected)), "p": protected, "home": home[protected],
         "kind": kind[protected], "need": wanted - table[protected]}
    )  # fmt: skip
    asked = asked[(size[protected] > 0) & (asked["need"] != 0)]
    near = asked.merge(most, on="home", suffixes=("", "_near"))
    near = near[near["cell"] != near["p"]].rename(columns={"cell": "near", "x": "x_near"})
    near = near[near["x_near"].gt(0) | near["need"].lt(0)]
    # the largest neighbours give until there is enough; one of them takes all
    given = near.groupby("which")["x_near"].cumsum() - near["x_near"]
    near["by"] = np.where(
        near["need"] > 0, np.minimum(near["need"] - given, near["x_near"]), near["need"]
    )
    rising = near["need"] > 0
    near = near[np.where(rising, near["by"] > 0, ~near["which"].duplicated())]
    same = near["kind"] == near["kind_near"]
    crossed = _crossed(near[~same], most.drop_duplicates(["home", "kind"]))
    parts = [(near[same], ["p", "near"], [1, -1]),
             (crossed, ["p", "near", "far", "corner"], [1, -1, -1, 1])]  # fmt: skip
    which = np.unique(near["which"].to_numpy())
    changes = sum(
        (_matrix(part, names, signs, which, len(table)) for part, names, signs in parts),
        sparse.csc_array((len(table), len(which))),
    )
    return sparse.csc_array(changes), which.astype(np.int64)


def _places(columns: Any, cells: IntArray, k: int) -> tuple[IntArray, IntArray]:
    """Return the smallest total of each count, and a number for the set of its other totals."""
    rows, counts = columns.indices, np.bincount(columns.indices, minlength=columns.shape[0])
    cell = np.repeat(np.arange(k), np.diff(columns.indptr))
    order = np.lexsort((rows, counts[rows], cell))
    starts = columns.indptr[:-1][cells]
    home = np.full(k, -1, dtype=np.int64)
    home[cells] = rows[order][starts]
    tags = np.random.default_rng(_SEED).integers(1, 2**62, columns.shape[0])
    with np.errstate(over="ignore"):
        all_ = np.zeros(k, dtype=np.int64)
        all_[cells] = np.add.reduceat(tags[rows], starts)
        kind = np.where(home >= 0, all_ - tags[home], 0)
    return home, kind


def _crossed(other: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    """Find for each pair the two counts of another total that take up the change."""
    left = first[first["kind"].isin(np.union1d(other["kind"], other["kind_near"]))]
    both = left.merge(left, on="home", suffixes=("", "_b"))
    both = both[both["kind"] != both["kind_b"]]
    keys = ["kind", "kind_b"]
    # far has the kind of p and gives when p rises; corner has the kind of near, and gives when it falls
    most = [both.sort_values(x, ascending=False).groupby(keys).head(2) for x in ("x", "x_b")]
    best = pd.concat(most).drop_duplicates(["cell", "cell_b"])
    best = best.rename(
        columns={"kind_b": "kind_near", "cell": "far", "cell_b": "corner", "x": "x_far",
                 "x_b": "x_corner", "home": "home_far"}
    )  # fmt: skip
    found = other.merge(best, on=["kind", "kind_near"])
    enough = (found["x_far"] >= found["need"]) & (found["x_corner"] >= -found["need"])
    found = found[enough & (found["home_far"] != found["home"])]
    return found.drop_duplicates(["which", "near"])


def _matrix(part: pd.DataFrame, names: list[str], signs: list[int], which: IntArray, k: int) -> Any:
    """Return changes as columns, one a protected count."""
    column = np.searchsorted(which, part["which"].to_numpy())
    by = part["by"].to_numpy(dtype=float)
    entries = [sparse.csc_array((k, len(which)))]
    for name, sign in zip(names, signs, strict=True):
        place = part[name].to_numpy(dtype=np.int64)
        entries.append(sparse.csc_array((sign * by, (place, column)), shape=(k, len(which))))
    return sum(entries[1:], entries[0])
