"""Which rows share a label, found in one scan where they stand together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.typing import BoolArray, FloatArray, IntArray


class Groups(NamedTuple):
    """
    Rows that share a label.

    Parameters
    ----------
    code : int array, shape (n,)
        Group of each row, in order of first appearance.
    first : int array, shape (groups,)
        First row of each group.
    """

    code: IntArray
    first: IntArray

    @classmethod
    def of(cls, labels: pd.Series) -> Groups:
        """Group rows by labels, none of which is missing; cost O(n)."""
        starts = _starts(labels)
        code, _ = pd.factorize(labels.iloc[starts])
        # the first run of each label, whose rows may come in several
        _, run = np.unique(code, return_index=True)
        lengths = np.diff(np.append(starts, len(labels)))
        return cls(np.repeat(code.astype(np.int64), lengths), starts[run])

    def __len__(self) -> int:
        return len(self.first)

    def changing(self, values: pd.Series) -> BoolArray:
        """Return which groups hold several values; missing is a value."""
        own = values.to_numpy()
        if own.dtype.kind not in "iuf":
            own = pd.factorize(values)[0]
        other = own[self.first][self.code]
        differs = own != other
        if own.dtype.kind == "f":
            differs &= ~(np.isnan(own) & np.isnan(other))
        mask = np.zeros(len(self.first), dtype=bool)
        mask[self.code[differs]] = True
        return mask


def in_order(labels: pd.Index) -> pd.Index:
    """
    Return labels in their own order, so that what is drawn by label does not depend on that of rows.

    Labels of several types, which have no common order, are sorted within each type.
    """
    try:
        found: pd.Index = labels.sort_values()
    except TypeError:
        found = pd.Index(sorted(labels, key=lambda x: (type(x).__name__, x)), dtype=object)
    return found


def distinct(values: FloatArray) -> FloatArray:
    """Return different values, increasing, missing ones left out; cost O(n), without sorting rows."""
    found = np.sort(pd.unique(values))
    return np.asarray(found[~np.isnan(found)])


def _starts(labels: pd.Series) -> IntArray:
    """Return where labels change, for numbers; for others every row."""
    values = labels.to_numpy() if labels.dtype.kind in "iuf" else np.arange(len(labels))
    return np.flatnonzero(np.r_[True, values[1:] != values[:-1]][: len(values)])
