"""Functions of the dose: splines, distinct values, bins; arrays in, arrays out."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray

Kind = Literal["spline", "discrete", "bins"]
SAME = 1e-12
"""Share of a dose within which doses differ by rounding."""


class Basis(NamedTuple):
    """
    J functions of a positive dose that add up to one.

    Parameters
    ----------
    kind : {"spline", "discrete", "bins"}
        B-splines; an indicator of each distinct dose; an indicator of each interval.
    points : array
        Knots of the spline with its ends repeated; distinct doses; lower ends of intervals and the
        largest dose.
    degree : int
        Degree of the spline, else 0.
    """

    kind: Kind
    points: FloatArray
    degree: int

    @property
    def size(self) -> int:
        """Number J of functions."""
        if self.kind == "spline":
            return len(self.points) - self.degree - 1
        return len(self.points) - (self.kind == "bins")

    @property
    def knots(self) -> FloatArray:
        """Inner knots of a spline."""
        return self.points[self.degree + 1 : len(self.points) - self.degree - 1]

    @property
    def width(self) -> float:
        """Range of doses, or the smallest step between distinct ones, from none on."""
        if self.kind == "discrete":
            return float(np.diff(self.points, prepend=0.0).min())
        return float(self.points[-1] - self.points[0])

    def nearest(self, dose: FloatArray) -> FloatArray:
        """Return doses, those that are a point of the basis but for rounding as that point."""
        point = self.points[np.abs(self.points[:, None] - dose).argmin(axis=0)]
        return np.where(np.abs(point - dose) <= SAME * np.abs(point), point, dose)

    def values(self, dose: FloatArray) -> FloatArray:
        """
        Return the functions at doses, shape (n, J).

        Raises
        ------
        DesignError
            If a dose is outside the range, or none of the distinct doses.
        """
        if self.kind == "spline":
            self._require(dose)
            from scipy.interpolate import BSpline  # slow to import

            return np.asarray(BSpline.design_matrix(dose, self.points, self.degree).toarray())
        out = np.zeros((len(dose), self.size))
        out[np.arange(len(dose)), self._place(dose)] = 1.0
        return out

    def slopes(self, dose: FloatArray) -> FloatArray:
        """
        Return derivatives of the functions at doses, shape (n, J).

        For distinct doses it is the difference to the next lower dose, or to no treatment, over
        the difference of doses.

        Raises
        ------
        DesignError
            As `values`; bins have no derivative.
        """
        if self.kind == "spline":
            self._require(dose)
            from scipy.interpolate import BSpline  # slow to import

            spline = BSpline(self.points, np.eye(self.size), self.degree)
            return np.asarray(spline.derivative()(dose))
        if self.kind == "bins":
            raise DesignError("bins have no slope: use basis='spline' or basis='discrete'.")
        place, out = self._place(dose), np.zeros((len(dose), self.size))
        rows = np.arange(len(dose))
        step = self.points[place] - np.where(place > 0, self.points[place - 1], 0.0)
        out[rows, place] = 1 / step
        lower = place > 0
        out[rows[lower], place[lower] - 1] = -1 / step[lower]
        return out

    def uses(self, rows: FloatArray) -> IntArray:
        """Return positions of the functions that some rows of values or slopes involve."""
        return np.flatnonzero(np.abs(rows).max(axis=0) > 0)

    def _require(self, dose: FloatArray) -> None:
        low, high = self.points[0], self.points[-1]
        if ((dose < low) | (dose > high)).any():
            raise DesignError(
                f"doses from {dose.min():g} to {dose.max():g} are asked for, but treated units have "
                f"{low:g} to {high:g}. Choose `grid` inside this range."
            )

    def _place(self, dose: FloatArray) -> IntArray:
        if self.kind == "bins":
            self._require(dose)
            inner = self.points[1:-1]
            return np.searchsorted(inner, dose, side="right").astype(np.int64)
        place = np.minimum(np.searchsorted(self.points, dose), len(self.points) - 1)
        if (self.points[place] != dose).any():
            raise DesignError(
                f"{int((self.points[place] != dose).sum())} of the doses asked for are no dose of a "
                "treated unit. With basis='discrete' choose `grid` among them."
            )
        return np.asarray(place, dtype=np.int64)


def make_basis(
    dose: FloatArray, kind: Kind, *, degree: int, knots: int | FloatArray, bins: int
) -> Basis:
    """
    Choose functions for the doses of treated units.

    Parameters
    ----------
    dose : array, shape (n,)
        Positive doses, one a unit.
    kind : {"spline", "discrete", "bins"}
        Which functions.
    degree : int
        Degree of splines.
    knots : int or array
        Number of inner knots, at quantiles of the dose; or the knots.
    bins : int
        Number of intervals, with an equal share of units each.

    Raises
    ------
    DesignError
        If doses are too few or alike for the functions.
    """
    levels = np.unique(dose)
    if kind == "discrete":
        if len(levels) > max(len(dose) / 2, 1):
            raise DesignError(
                f"{len(levels):,} distinct doses among {len(dose):,} treated units leave few units "
                "for each. Use basis='spline' or basis='bins', or round the dose."
            )
        return Basis("discrete", levels, 0)
    if kind == "bins":
        points = np.unique(np.quantile(dose, np.linspace(0, 1, bins + 1)))
        if len(points) < bins + 1:
            raise DesignError(
                f"the dose has too few distinct values for {bins} bins of equal size. Use fewer "
                "`bins`, or basis='discrete'."
            )
        return Basis("bins", points, 0)
    if isinstance(knots, int):
        inner = np.quantile(dose, np.linspace(0, 1, knots + 2))[1:-1]
    else:
        inner = np.sort(knots)
    low, high = levels[0], levels[-1]
    if len(np.unique(inner)) < len(inner):
        raise DesignError(
            f"knots {', '.join(f'{k:g}' for k in inner)} are not all different: many units share a dose, or "
            "a knot is named twice. Use fewer `knots`, or basis='discrete'."
        )
    if len(levels) < degree + 1 + len(inner):
        raise DesignError(
            f"{len(levels)} distinct doses cannot carry a spline of degree {degree} with "
            f"{len(inner)} knots. Use a lower `degree`, fewer `knots`, or basis='discrete'."
        )
    if len(inner) and (inner[0] <= low or inner[-1] >= high):
        raise DesignError(
            f"knots must lie inside the doses of treated units, {low:g} to {high:g}. Use fewer "
            "`knots`, or give them."
        )
    points = np.concatenate([np.full(degree + 1, low), inner, np.full(degree + 1, high)])
    return Basis("spline", points, degree)
