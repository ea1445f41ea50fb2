"""Laws that nodes of a few parameters come from: heavy tails, two sides of own widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg, special, stats

from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray

_DF = 7.0


class Student(NamedTuple):
    """
    Student t law with `_DF` degrees of freedom and centre zero, its two sides of own widths.

    Parameters
    ----------
    root : array, shape (d, d)
        Lower root of the scale matrix; its columns are the axes.
    below, above : array, shape (d,)
        Widths of the two sides of each axis, 1 that of the root.
    """

    root: FloatArray
    below: FloatArray
    above: FloatArray

    def away(self, u: FloatArray) -> FloatArray:
        """Return the points of the law that belong to points u of the unit cube, one more wide."""
        radius = np.sqrt(_DF / stats.chi2(_DF).ppf(u[:, -1]))
        both = self.below + self.above
        share = u[:, :-1] * both
        # the density is one bump without a step: a side has mass as it has width
        left = share < self.below
        within = np.where(left, share / self.below, (both - share) / self.above) / 2.0
        along = special.ndtri(within) * np.where(left, self.below, -self.above)
        return np.asarray((along @ self.root.T) * radius[:, None])

    def log_density(self, away: FloatArray) -> FloatArray:
        """Return the log density of rows, up to a constant that depends on their length alone."""
        d = len(self.root)
        solved = linalg.solve_triangular(self.root, away.T, lower=True).T
        solved /= np.where(solved < 0.0, self.below, self.above)
        tail = np.log1p(np.square(solved).sum(axis=1) / _DF)
        volume = np.log(np.diag(self.root) * (self.below + self.above) / 2.0).sum()
        return np.asarray(-0.5 * (_DF + d) * tail - volume)


class Proposal:
    """
    Law of costly coordinates, and of the others given them; both Student t.

    Parameters
    ----------
    centre, spread : array, shapes (d,), (d, d)
        Mean and covariance to be covered.
    wider : float
        By how much the law is wider than that.
    costly : array of bool, shape (d,)
        Which coordinates are costly.
    """

    def __init__(
        self, centre: FloatArray, spread: FloatArray, wider: float, costly: BoolArray
    ) -> None:
        self.centre, self.costly = centre, costly
        outer = spread[np.ix_(costly, costly)]
        self.slope = np.linalg.solve(outer, spread[np.ix_(costly, ~costly)])
        inner = spread[np.ix_(~costly, ~costly)] - spread[np.ix_(~costly, costly)] @ self.slope
        self.outer, self.inner = (
            Student(wider * np.linalg.cholesky(x), np.ones(len(x)), np.ones(len(x)))
            for x in (outer, inner)
        )

    @property
    def axes(self) -> FloatArray:
        """One axis a row, first those of the costly coordinates: what a step along it changes."""
        own = int(self.costly.sum())
        out = np.zeros((len(self.centre), len(self.centre)))
        out[:own, self.costly] = self.outer.root.T
        out[:own, ~self.costly] = self.outer.root.T @ self.slope
        out[own:, ~self.costly] = self.inner.root.T
        return out

    def split(self, below: FloatArray, above: FloatArray) -> None:
        """Give the two sides of each axis widths of their own, each shape (d,)."""
        own = int(self.costly.sum())
        self.outer = self.outer._replace(below=below[:own], above=above[:own])
        self.inner = self.inner._replace(below=below[own:], above=above[own:])

    def points(self, families: int, each: int, seed: int, name: str) -> FloatArray:
        """Return scrambled Sobol points pushed through the law; a family's one after another."""
        first, d = len(self.outer.root) + 1, len(self.centre)
        out = np.empty((families, each, d))
        for k in range(each):
            # every round has directions of its own for the inner coordinates, so that with the
            # outer ones of the first round they are one even sequence
            sobol = stats.qmc.Sobol(d + 2, rng=generator(seed, "nodes", name, k))
            u = np.clip(sobol.random(families), 1e-12, 1.0 - 1e-12)
            if k == 0:
                outer = self.outer.away(u[:, :first])
            out[:, k, self.costly] = outer
            out[:, k, ~self.costly] = self.inner.away(u[:, first:]) + outer @ self.slope
        return out.reshape(-1, d) + self.centre

    def log_density(self, points: FloatArray) -> FloatArray:
        """Return the log density, up to a constant."""
        away = points - self.centre
        outer, inner = away[:, self.costly], away[:, ~self.costly]
        return self.outer.log_density(outer) + self.inner.log_density(inner - outer @ self.slope)


class Several:
    """
    Laws in equal parts, for a density that no single one is near.

    Parameters
    ----------
    laws : sequence of Proposal
        Each has as many points.
    """

    def __init__(self, laws: Sequence[Proposal]) -> None:
        self.laws = laws

    def points(self, families: int, each: int, seed: int, name: str) -> FloatArray:
        """Return points of all laws; a family's one after another."""
        n = families // len(self.laws)
        parts = [law.points(n, each, seed, f"{name} {i}") for i, law in enumerate(self.laws)]
        return np.vstack(parts)

    def log_density(self, points: FloatArray) -> FloatArray:
        """Return the log density, up to the constant of `Proposal.log_density`."""
        parts = [law.log_density(points) for law in self.laws]
        return np.asarray(special.logsumexp(parts, axis=0) - np.log(len(self.laws)))
