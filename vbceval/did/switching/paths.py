"""Treatment paths of groups: status quo, first change, direction; nothing is estimated here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray, IntArray


class Table(NamedTuple):
    """
    Groups by period.

    Parameters
    ----------
    y, w, dose : arrays, shape (N, T)
        Outcome, weight and treatment; `y` is missing where it is not seen (its weight is 0), and
        `dose` where the group is not.
    x : array, shape (N, T, p)
        Covariates.
    cluster : int array, shape (N,)
        Cluster codes.
    trend : int array, shape (N,)
        Codes of sets of groups that are compared with each other only.
    label : int array, shape (N,)
        Row of the group in the table it was taken from.
    """

    y: FloatArray
    w: FloatArray
    dose: FloatArray
    x: FloatArray
    cluster: IntArray
    trend: IntArray
    label: IntArray

    def take(self, rows: BoolArray) -> Table:
        """Return some groups."""
        return Table(
            self.y[rows], self.w[rows], self.dose[rows], self.x[rows], self.cluster[rows],
            self.trend[rows], self.label[rows],
        )  # fmt: skip


class Paths(NamedTuple):
    """
    Groups with the same start that change treatment at different times.

    Parameters
    ----------
    table : Table
        N groups over T periods, from the first to the last with a comparison.
    baseline : array, shape (N,)
        Treatment of the status quo.
    start : int array, shape (N,)
        Code of what is compared: same status quo and same `trend`.
    first : int array, shape (N,)
        Position of the first period with another treatment; T where it never changes.
    reach : int array, shape (N,)
        Position after the last period in which a group with this start has not changed.
    sign : int array, shape (N,)
        1 where treatment rises, -1 where it falls, 0 where it does not change.
    change : array, shape (N, T)
        Treatment minus status quo; where a group is not seen after its change, the change there.
    groups : int
        Groups with a treatment and an outcome before any was left out.
    """

    table: Table
    baseline: FloatArray
    start: IntArray
    first: IntArray
    reach: IntArray
    sign: IntArray
    change: FloatArray
    groups: int

    def horizons(self, sign: int) -> int:
        """Return the number of effects that groups of a direction allow at most."""
        own = self.sign == sign
        return int(max(np.max((self.reach - self.first)[own], initial=0), 0))

    def placebos(self, sign: int) -> int:
        """Return the number of placebos that groups of a direction allow at most."""
        own = (self.sign == sign) & (self.first >= 2)
        # a placebo mirrors an effect over as many periods, and needs the periods before it
        return int(max(np.max(np.minimum(self.reach - self.first, self.first - 1)[own],
                              initial=0), 0))  # fmt: skip


def read_paths(table: Table, *, differences: bool) -> Paths:
    """
    Find status quo and first change of each group, and who can be used.

    A group is followed from the first period its treatment is known. Left out are: periods in
    which a group has been both above and below its status quo; groups whose status quo nobody
    shares who changes at another time; periods after all groups of a status quo have changed.
    A group that is not seen in the period before its first change may have changed earlier: it is
    a comparison until it was last seen.

    Parameters
    ----------
    table : Table
        N groups.
    differences : bool
        Whether outcomes are to be differenced (linear trends of groups), which needs a second
        period before the change.

    Raises
    ------
    DesignError
        If nobody changes treatment while others with the same start have not.

    References
    ----------
    .. [1] de Chaisemartin, C. and D'Haultfœuille, X. (2024). Difference-in-differences estimators
       of intertemporal treatment effects. *Review of Economics and Statistics*, forthcoming.
       Sections 2 and 3; design restrictions 1 and 2.
    """
    known = np.isfinite(table.dose)
    table, known = table.take(known.any(axis=1)), known[known.any(axis=1)]
    n, t = table.dose.shape
    rows, at = np.arange(n), np.arange(t)
    baseline = table.dose[rows, known.argmax(axis=1)]
    gap = np.where(known, table.dose - baseline[:, None], 0.0)
    up, down = (np.logical_or.accumulate(side, axis=1) for side in (gap > 0, gap < 0))
    known &= ~(up & down)
    changed = (np.where(known, gap, 0.0) != 0) | ((up | down) & known)
    last = t - 1 - known[:, ::-1].argmax(axis=1)
    first = np.where(changed.any(axis=1), changed.argmax(axis=1), t)
    before = np.array([np.max(np.flatnonzero(known[i, :f]), initial=-1)
                       for i, f in enumerate(first)])  # fmt: skip
    unsure = (first < t) & (before < first - 1)
    first = np.where(unsure, t, first)
    until = np.where(first == t, np.where(unsure, before, last) + 1, first)
    seen = known & np.isfinite(table.y) & (table.w > 0)
    seen &= ~((first == t)[:, None] & (at >= until[:, None]))
    start = np.unique(np.column_stack([baseline, table.trend]), axis=0, return_inverse=True)[1]
    start = start.ravel().astype(np.int64)
    keep = _varied(first, start)
    if differences:
        keep &= first != 1
    if not (keep & (first < t)).any():
        raise DesignError(
            f"no effect can be estimated: of {n:,} groups, {int((first < t).sum()):,} change "
            "treatment, and none of them while others with the same treatment at the start have "
            "not changed. Check the treatment column; if its values at the start are all "
            "different, round them to few levels."
        )
    table = table._replace(
        y=np.where(seen, table.y, np.nan), w=np.where(seen, table.w, 0.0),
        dose=np.where(known, table.dose, np.nan),
    )  # fmt: skip
    return _trimmed(
        table.take(keep), baseline[keep], start[keep], first[keep], until[keep],
        (known & ~changed)[keep], groups=int(seen.any(axis=1).sum()), differences=differences,
    )  # fmt: skip


def _varied(first: IntArray, start: IntArray) -> BoolArray:
    """Return groups whose start is shared by a group that changes at another time."""
    low, high = np.full(start.max() + 1, np.iinfo(np.int64).max), np.full(start.max() + 1, -1)
    np.minimum.at(low, start, first)
    np.maximum.at(high, start, first)
    return np.asarray((high > low)[start])


def _trimmed(
    table: Table,
    baseline: FloatArray,
    start: IntArray,
    first: IntArray,
    until: IntArray,
    waiting: BoolArray,
    *,
    groups: int,
    differences: bool,
) -> Paths:
    """Leave out periods without a comparison, and fill treatments after the change."""
    n, t = table.dose.shape
    compared = np.zeros((start.max() + 1, t), dtype=bool)
    np.logical_or.at(compared, start, waiting)
    usable = compared[start]
    end = int(np.flatnonzero(usable.any(axis=0)).max()) + 1
    first, until = np.minimum(first, end), np.minimum(until, end)
    reach = np.zeros(start.max() + 1, dtype=np.int64)
    np.maximum.at(reach, start, until)
    table = table._replace(
        y=np.where(usable, table.y, np.nan)[:, :end], w=np.where(usable, table.w, 0.0)[:, :end],
        dose=table.dose[:, :end], x=table.x[:, :end],
    )  # fmt: skip
    at = np.arange(end)
    own = np.where(first < end, table.dose[np.arange(n), np.minimum(first, end - 1)], baseline)
    assumed = np.where(at >= first[:, None], own[:, None], baseline[:, None])
    change = np.where(np.isfinite(table.dose), table.dose, assumed) - baseline[:, None]
    after = (at >= first[:, None]) & (at < reach[start][:, None])
    total = np.where(after, change, 0.0).sum(axis=1)
    if differences:
        y, x = np.diff(table.y, axis=1, prepend=np.nan), np.empty_like(table.x)
        x[:, 0], x[:, 1:] = np.nan, np.diff(table.x, axis=1)
        table = table._replace(y=y, x=x, w=np.where(np.isfinite(y), table.w, 0.0))
    sign = np.where(first < end, np.sign(total), 0).astype(np.int64)
    return Paths(table, baseline, start, first, reach[start], sign, change, groups)
