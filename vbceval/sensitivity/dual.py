"""Corners of the dual of the moment-inequality program: listed once, or found by linear programs."""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple, Protocol

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray
from vbceval.sensitivity.restrictions import Polyhedron

MOST_SUBSETS = 200_000
"""Subsets of hyperplanes that are tried for corners; beyond, linear programs are solved."""

_BLOCK = 4096
_TINY = 1e-9
_DEPENDENT = 1e-13


class Moments(NamedTuple):
    """
    Moments that are not positive if theta is the effect: a (beta - theta * unit) - d.

    Parameters
    ----------
    a : array, shape (R, K)
        Rows of the polyhedron that are tested.
    d : array, shape (R,)
        Their bounds.
    slope : array, shape (R,)
        Change of the moments for a unit of theta, up to nuisance directions.
    nuisance : array, shape (R, q)
        Directions in which effects after the reference move the moments at fixed theta.
    sd : array, shape (R,)
        Standard deviations of the moments.
    paired : int
        See `Polyhedron`.
    """

    a: FloatArray
    d: FloatArray
    slope: FloatArray
    nuisance: FloatArray
    sd: FloatArray
    paired: int


class Dual(Protocol):
    """Maximise g'q over the corners g of {g >= 0, sd'g = 1, nuisance'g = 0}."""

    listed: FloatArray | None

    def maximise(self, q: FloatArray) -> FloatArray:
        """Return the corner, shape (R,), that maximises g'q for one q of shape (R,)."""


def moments(polyhedron: Polyhedron, vcov: FloatArray, n_pre: int, target: FloatArray) -> Moments:
    """
    Set up the moments of one polyhedron.

    With two or more periods after the reference, rows that bind periods before it only are left
    out: they say nothing about the effect, and would make every set larger (or empty).
    """
    a, d = polyhedron.a, polyhedron.d
    after = a[:, n_pre:]
    if len(target) > 1:
        kept = np.abs(after).max(axis=1) > 0
        a, d, after = a[kept], d[kept], after[kept]
    # directions in which effects move without moving theta = target'tau
    _, _, basis = np.linalg.svd(target[None, :])
    sd = np.sqrt(np.einsum("rk,kl,rl->r", a, vcov, a))
    return Moments(
        a, d, after @ target / (target @ target), after @ basis[1:].T, sd, polyhedron.paired
    )


def dual(m: Moments, n_pre: int, target: FloatArray) -> Dual:
    """Return the corners as a list where they can be listed, else by linear programs."""
    n = len(target)
    if n == 1:
        return Listed(np.diag(1.0 / m.sd))
    extra = len(m.a) - 2 * m.paired
    if math.comb(m.paired + extra, extra) > MOST_SUBSETS:
        return Programs(m)
    return Listed(_corners(m, n_pre, target))


class Listed:
    """Corners in a table, shape (V, R)."""

    def __init__(self, corners: FloatArray) -> None:
        self.listed: FloatArray | None = corners
        self._corners = corners

    def maximise(self, q: FloatArray) -> FloatArray:
        """Return the best corner."""
        return np.asarray(self._corners[int((self._corners @ q).argmax())])


class Programs:
    """Corners that are too many to be listed."""

    def __init__(self, m: Moments) -> None:
        self.listed: FloatArray | None = None
        self._sd = m.sd
        # shares g * sd have no unit, so that tolerances of the solver mean the same in any
        free = (m.nuisance / m.sd[:, None]).T
        self._equal = np.vstack([np.ones(len(m.sd)), free / np.abs(free).max(axis=1)[:, None]])
        self._right = np.eye(len(self._equal))[0]

    def maximise(self, q: FloatArray) -> FloatArray:
        """Return the best corner, by the dual simplex method."""
        from scipy.optimize import linprog

        solved = linprog(-q / self._sd, A_eq=self._equal, b_eq=self._right, method="highs-ds")
        if solved.status != 0:
            raise EstimationError(
                f"a linear program of the test was not solved ({solved.message}). Leave out "
                "distant event times with `window`, so that corners can be listed."
            )
        return np.asarray(np.asarray(solved.x, dtype=float) / self._sd)


def _corners(m: Moments, n_pre: int, target: FloatArray) -> FloatArray:
    """
    List the corners, shape (V, R).

    Their directions depend on the periods after the reference only, so that polyhedra of one
    restriction, and its sizes, share them.
    """
    # adding zero makes minus zero zero, and equal matrices equal bytes
    after = np.ascontiguousarray(m.a[:, n_pre:]) + 0.0
    shares = _directions(after.tobytes(), target.tobytes(), m.paired, len(target)) * m.sd
    return np.asarray(shares / shares.sum(axis=1, keepdims=True) / m.sd)


@functools.lru_cache(maxsize=4)
def _directions(after: bytes, target: bytes, paired: int, n_post: int) -> FloatArray:
    """
    Return directions of the corners, shape (V, R), from rows of (R, n_post) and weights (n_post,).

    Rows are D, its mirror image -D and others B, where D is invertible in the effects. Of weights
    (g+, g-, b) only u = g+ - g- matters to the equalities: D'u + B'b = c * target for some c, so
    that u is linear in (c, b). The corners are the pairs g+ = g- of one row with its image, and
    the rays of the arrangement of the planes u_j = 0 and b_i = 0 over (c, b) with b >= 0.
    """
    rows, weights = np.frombuffer(after).reshape(-1, n_post), np.frombuffer(target)
    d, extra = rows[:paired], rows[2 * paired :]
    # u as a function of (c, b), shape (n, 1 + r)
    unit = weights / np.linalg.norm(weights)
    u = np.linalg.solve(d.T, np.column_stack([unit, -extra.T]))
    rays = _rays(u)
    size = rays @ u.T
    size[np.abs(size) < _TINY] = 0.0
    listed = np.hstack([np.clip(size, 0, None), np.clip(-size, 0, None), rays[:, 1:]])
    listed = listed[listed.any(axis=1)]
    pairs = np.hstack([np.eye(paired), np.eye(paired), np.zeros((paired, len(extra)))])
    listed = np.vstack([pairs, listed / listed.sum(axis=1, keepdims=True)])
    # the same ray comes from several subsets of planes
    return np.asarray(np.unique(np.round(listed, 12), axis=0))


def _rays(u: FloatArray) -> FloatArray:
    """
    Return rays (c, b), b >= 0, shape (V, 1 + r), of the arrangement of u (c, b) = 0 and b = 0.

    Where k of the b are free the others are zero, and k planes of u meet in a ray.
    """
    n, r = len(u), u.shape[1] - 1
    # a ray is known up to its length, which an equation in a direction of no meaning fixes
    length = np.random.default_rng(0).normal(size=1 + r)
    found = []
    for k in range(min(n, r) + 1):
        pairs = itertools.product(
            itertools.combinations(range(1, 1 + r), k), itertools.combinations(range(n), k)
        )
        while block := list(itertools.islice(pairs, _BLOCK)):
            free, planes = (
                np.array(x, dtype=int).reshape(len(block), k) for x in zip(*block, strict=True)
            )
            columns = np.hstack([np.zeros((len(block), 1), dtype=int), free])
            system = np.concatenate(
                [length[columns][:, None, :], u[planes[:, :, None], columns[:, None, :]]], axis=1
            )
            size = np.linalg.norm(system, axis=2).prod(axis=1)
            meets = np.abs(np.linalg.det(system)) > _DEPENDENT * size
            ray = np.zeros((int(meets.sum()), 1 + r))
            solved = np.linalg.solve(system[meets], np.eye(1 + k)[:, :1])[:, :, 0]
            np.put_along_axis(ray, columns[meets], solved, axis=1)
            ray /= np.abs(ray).max(axis=1, keepdims=True)
            for side in (ray, -ray):
                found.append(side[(side[:, 1:] >= -_TINY).all(axis=1)])
    rays = np.vstack(found)
    rays[:, 1:] = np.clip(rays[:, 1:], 0.0, None)
    return rays
