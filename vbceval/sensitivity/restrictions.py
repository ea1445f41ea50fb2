"""What differences in trends are allowed: unions of polyhedra {delta : A delta <= d}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray

Bound = Literal["relative_magnitudes", "smoothness", "relative_smoothness"]
Sign = Literal["positive", "negative"]
Direction = Literal["increasing", "decreasing"]

_SHORT = {"relative_magnitudes": "RM", "smoothness": "SD", "relative_smoothness": "SDRM"}
_SIGN = {"positive": "PB", "negative": "NB", None: ""}
_DIRECTION = {"increasing": "I", "decreasing": "D", None: ""}


class Polyhedron(NamedTuple):
    """
    Differences in trends with A delta <= d; the reference period is left out of delta.

    Parameters
    ----------
    a : array, shape (R, K)
        Coefficients.
    d : array, shape (R,)
        Bounds, in the unit of the outcome.
    paired : int
        The first ``2 * paired`` rows that bind effects after the reference are rows and their
        mirror images, D delta and -D delta, with D square in the periods after the reference.
    """

    a: FloatArray
    d: FloatArray
    paired: int


@dataclass(frozen=True, kw_only=True)
class Restriction:
    """
    A set of differences in trends, up to its size M.

    Parameters
    ----------
    bound : {"relative_magnitudes", "smoothness", "relative_smoothness"}
        What M bounds: changes between periods relative to the largest one before entry; changes of
        slope; changes of slope relative to the largest one before entry.
    bias : {"positive", "negative"}, optional
        Sign of the difference in trends after the reference.
    monotone : {"increasing", "decreasing"}, optional
        Direction of the difference in trends in all periods.
    """

    bound: Bound
    bias: Sign | None = None
    monotone: Direction | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("restriction", self.bound, tuple(_SHORT)),
            ("bias", self.bias, tuple(_SIGN)),
            ("monotone", self.monotone, tuple(_DIRECTION)),
        ):
            if value not in known:
                shown = ", ".join(repr(x) for x in known)
                raise DesignError(f"`{name}` is {value!r}; use one of {shown}.")

    @property
    def label(self) -> str:
        """Name in the paper: DeltaRM, DeltaSD, DeltaSDRM, with PB, NB, I or D added."""
        return f"Delta{_SHORT[self.bound]}{_SIGN[self.bias]}{_DIRECTION[self.monotone]}"

    @property
    def shaped(self) -> bool:
        """Whether a sign or a direction is imposed."""
        return self.bias is not None or self.monotone is not None

    @property
    def relative(self) -> bool:
        """Whether M is a multiple of what is seen before entry."""
        return self.bound != "smoothness"

    @property
    def order(self) -> int:
        """Which differences are bounded: 1, changes; 2, changes of slope."""
        return 1 if self.bound == "relative_magnitudes" else 2

    def require(self, n_pre: int) -> None:
        """
        Check that there are enough coefficients before the reference.

        Raises
        ------
        DesignError
            If M has nothing to be relative to.
        """
        if self.relative and n_pre < self.order:
            what = "change" if self.order == 1 else "change of slope"
            raise DesignError(
                f"{self.label} bounds trends by the largest {what} before entry, which needs "
                f"{self.order} coefficients before the reference period; there are {n_pre}. Add "
                "earlier periods, or use restriction='smoothness'."
            )

    def polyhedra(self, m: float, n_pre: int, n_post: int) -> list[Polyhedron]:
        """
        Return the polyhedra whose union is the set of size `m`.

        A relative bound is a maximum over periods before entry of an absolute value: one
        polyhedron for each of them and each sign.
        """
        rows = differences(n_pre, n_post, self.order)
        shape, shape_d = self._shape(n_pre, n_post)
        if not self.relative:
            a = np.vstack([rows, -rows, shape])
            d = np.concatenate([np.full(2 * len(rows), m), shape_d])
            return [Polyhedron(a, d, n_post)]
        before = len(rows) - n_post
        scale = np.append(np.ones(before), np.full(n_post, m))[:, None]
        out = []
        for largest in np.vstack([rows[:before], -rows[:before]]):
            a = np.vstack([rows - scale * largest, -rows - scale * largest, shape])
            # the row that compares the largest difference with itself says nothing
            a = a[np.abs(a).max(axis=1) > 0]
            out.append(Polyhedron(a, np.zeros(len(a)), n_post))
        return out

    def _shape(self, n_pre: int, n_post: int) -> tuple[FloatArray, FloatArray]:
        rows = [np.zeros((0, n_pre + n_post))]
        if self.bias is not None:
            after = np.eye(n_pre + n_post)[n_pre:]
            rows.append(after if self.bias == "negative" else -after)
        if self.monotone is not None:
            change = differences(n_pre, n_post, 1)
            rows.append(change if self.monotone == "decreasing" else -change)
        shape = np.vstack(rows)
        return shape, np.zeros(len(shape))


def differences(n_pre: int, n_post: int, order: int) -> FloatArray:
    """
    Return the matrix of first or second differences in time, without the reference's column.

    Returns
    -------
    array, shape (n_pre + n_post + 1 - order, n_pre + n_post)
        In order of time; the last `n_post` rows bind a period after the reference.
    """
    full = np.diff(np.eye(n_pre + n_post + 1), n=order, axis=0)
    return np.asarray(np.delete(full, n_pre, axis=1))
