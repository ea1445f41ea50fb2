"""
Integration over a few parameters: mode, heavy-tailed proposal, quasi-random points, gates.

The coordinates are standard normal a priori, so the density is that of a prior of unit scale times
a likelihood. Points come from a Student t law about the mode; weights are smoothed and judged by
the shape of their tail. Where that is not good enough, a second pass is centred on the mean and
covariance that the first found. A third and a fourth have a law about each of several groups of
the points found, for densities that bend: two standard deviations of which the data know the sum of
squares have two arms. The proposals count as one mixture. What still fails is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import linalg, special
from scipy.cluster.vq import kmeans2

from vbceval.bayes.proposals import Proposal, Several
from vbceval.bayes.weights import resampled, smoothed
from vbceval.core.errors import EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray, IntArray

_PASSES = ("first", "second", "third", "fourth")
_WIDER = 1.2
"""How much wider than what was found a proposal is."""
_ARMS, _PICKED = 8, 1024
"""Groups of points from the third pass on, a power of two, and points that are grouped."""
_REACH = (1.5, 3.0)
"""Steps from the mode, in the standard deviations of its curvature, at which sides are measured."""
_WIDEST = 3.0
"""Largest width of a side, in the same unit."""
_STEP = 1e-4
_EDGE, _FAR = 8.0, 6.0
"""Coordinates searched for a mode, and beyond which a mode counts as at the boundary."""


class Evaluated(Protocol):
    """What is known at a point; anything that has its log density."""

    @property
    def log_density(self) -> float:
        """Log density of the coordinates, up to a constant."""


class Density(Protocol):
    """A density of few coordinates."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each coordinate, for messages."""

    @property
    def costly(self) -> BoolArray:
        """Which coordinates cost much to change; points that share them come one after another."""

    def __call__(self, points: FloatArray) -> Sequence[Evaluated]:
        """Return what is known at points, shape (N, d)."""


class Start(NamedTuple):
    """
    Where to search for a mode.

    Parameters
    ----------
    point : array, shape (d,)
        First point.
    spread : array, shape (d, d)
        Guess of the posterior covariance.
    """

    point: FloatArray
    spread: FloatArray


class Nodes(NamedTuple):
    """
    Points and weights that stand for a posterior; N points, d coordinates.

    Parameters
    ----------
    points : array, shape (N, d)
        Coordinates.
    family : array of int, shape (N,)
        Points of one family have the same costly coordinates.
    weights : array, shape (N,)
        Smoothed importance weights, adding up to one.
    found : list
        What is known at each point.
    """

    points: FloatArray
    family: IntArray
    weights: FloatArray
    found: list[Any]

    def standard_error(self, values: FloatArray) -> FloatArray:
        """Return the error of weighted means of values, shape (N, k), families independent."""
        away = self.weights[:, None] * (values - self.weights @ values)
        sums = np.zeros((int(self.family.max()) + 1, values.shape[1]))
        np.add.at(sums, self.family, away)
        return np.asarray(np.sqrt(np.square(sums).sum(axis=0)))

    @property
    def ess(self) -> float:
        """Effective number of families."""
        return float(1.0 / np.square(np.bincount(self.family, self.weights)).sum())


@dataclass(frozen=True, kw_only=True)
class Integration:
    """
    How the integral over variance parameters was done, when it was good enough.

    Parameters
    ----------
    k_hat : float
        Shape of the tail of the weights; up to .7 they can be trusted (Vehtari et al. 2024). Minus
        infinity where all weights are equal.
    node_ess : float
        Effective number of families of nodes.
    nodes, passes : int
        Points, and passes: more than 1 if the first was not good enough.
    mode : dict
        Coordinate of each variance parameter at the mode, in prior standard deviations.
    """

    k_hat: float
    node_ess: float
    nodes: int
    passes: int
    mode: dict[str, float]


def integrate(
    density: Density, start: Start, *, families: int, each: int, seed: int,
    k_hat: float = 0.7, least_ess: float = 50.0,
) -> tuple[Nodes, Integration]:  # fmt: skip
    """
    Integrate a density of a few coordinates, each standard normal a priori.

    Parameters
    ----------
    density : Density
        The density.
    start : Start
        Where to begin.
    families : int
        Distinct values of the costly coordinates in the first pass, a power of two; a later pass
        has twice as many.
    each : int
        Points that share them, a power of two.
    seed : int
        Seed of the scrambling.
    k_hat, least_ess : float
        Gates: largest tail shape of the weights, smallest effective number of families.

    Returns
    -------
    Nodes
    Integration

    Raises
    ------
    EstimationError
        If the mode is at a boundary, or the gates are still closed after the fourth pass.

    References
    ----------
    .. [1] Vehtari, A., Simpson, D., Gelman, A., Yao, Y. and Gabry, J. (2024). Pareto smoothed
       importance sampling. *Journal of Machine Learning Research* 25(72), 1-58.
    .. [2] Geweke, J. (1989). Bayesian inference in econometric models using Monte Carlo integration.
       *Econometrica* 57(6), 1317-1339. Section 4 (a law of two sides; here without its step).
    .. [3] Veach, E. and Guibas, L. (1995). Optimally combining sampling techniques for Monte Carlo
       rendering. *SIGGRAPH*, 419-428. (The passes as one mixture.)
    .. [4] West, M. (1993). Approximating posterior distributions by mixtures. *Journal of the Royal
       Statistical Society B* 55(2), 409-422. (Laws about groups of weighted points.)
    """
    costly, d = density.costly, len(density.names)
    if d == 0:
        point = np.zeros((1, 0))
        only = Nodes(point, np.zeros(1, dtype=np.int64), np.ones(1), list(density(point)))
        return only, Integration(k_hat=-np.inf, node_ess=np.inf, nodes=1, passes=1, mode={})
    if costly.all():
        each = 1
    if not costly.any():
        # nothing is shared that is worth sharing
        families, each, costly = families * each, 1, ~costly
    mode, curved = _mode(density, start)
    spread = curved
    about_mode = Proposal(mode, curved, _WIDER, costly)
    about_mode.split(*_sides(density, about_mode))
    proposals: list[Proposal | Several] = [about_mode]
    sizes: list[int] = []
    points, family = np.empty((0, d)), np.empty(0, dtype=np.int64)
    found: list[Any] = []
    for name in _PASSES:
        n = families if name == "first" else 2 * families
        sizes.append(n)
        more = proposals[-1].points(n, each, seed, name)
        own = np.repeat(np.arange(n), each) + (family[-1] + 1 if len(family) else 0)
        points, family = np.vstack([points, more]), np.append(family, own)
        found += density(more)
        weights, shape = _weigh(points, found, proposals, sizes)
        nodes = Nodes(points, family, weights, found)
        if shape <= k_hat and nodes.ess >= least_ess:
            break
        centre, spread = _moments(nodes, spread)
        if name == "first":
            proposals.append(Proposal(centre, spread, _WIDER, costly))
        else:
            proposals.append(_arms(nodes, spread, costly, seed))
    else:
        # where the heaviest point lies, in standard deviations at the mode
        away = np.abs(points[int(weights.argmax())] - mode) / np.sqrt(np.diag(curved))
        where = density.names[int(away.argmax())]
        raise EstimationError(_failure(where, nodes, shape, k_hat, least_ess))
    named = dict(zip(density.names, mode.tolist(), strict=True))
    return nodes, Integration(
        k_hat=shape, node_ess=nodes.ess, nodes=len(points), passes=len(sizes), mode=named
    )


def _sides(density: Density, around: Proposal) -> tuple[FloatArray, FloatArray]:
    """
    Return how wide the density is on both sides of its mode, along the axes of a proposal.

    The posterior of a small standard deviation is as wide as its prior towards zero, and falls off
    quickly on the other side: a law that is as wide as the curvature at the mode would leave few
    points for what is near zero.
    """
    d = len(around.centre)
    steps = [sign * c for sign in (-1.0, 1.0) for c in _REACH]
    points = np.vstack([around.centre, *[around.centre + c * around.axes for c in steps]])
    found = _losses(density, points)
    drop = np.maximum(found[1:].reshape(2, len(_REACH), d) - found[0], 1e-12)
    width = np.array(_REACH)[:, None] / np.sqrt(2.0 * drop)
    below, above = np.clip(width.max(axis=1), 1.0, _WIDEST)
    return below, above


def _moments(nodes: Nodes, before: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and covariance of the nodes; few effective ones lean on the covariance before."""
    mean = nodes.weights @ nodes.points
    away = nodes.points - mean
    d, ess = len(mean), nodes.ess
    return mean, (ess * (away.T * nodes.weights) @ away + d * before) / (ess + d)


def _arms(nodes: Nodes, spread: FloatArray, costly: BoolArray, seed: int) -> Several:
    """Return a law about each of several groups of nodes, far from each other in `spread`."""
    rng = generator(seed, "arms")
    picked = nodes.points[resampled(nodes.weights, _PICKED, rng)]
    root = np.linalg.cholesky(spread)
    _, of = kmeans2(
        linalg.solve_triangular(root, picked.T, lower=True).T, _ARMS, minit="++", rng=rng
    )
    share = min(nodes.ess / _PICKED, 1.0)
    laws = []
    for k in range(_ARMS):
        # a group can lose all of its points to others
        own = picked[of == k] if (of == k).any() else picked
        away = own - own.mean(axis=0)
        # few effective points lean on the whole
        n, d = share * len(own), own.shape[1]
        around = (share * away.T @ away + d * spread) / (n + d)
        laws.append(Proposal(own.mean(axis=0), around, _WIDER, costly))
    return Several(laws)


def climb(density: Density, start: Start) -> Start:
    """
    Search a mode by quasi-Newton steps, and return it with a guess of the covariance there.

    Parameters
    ----------
    density : Density
        The density; gradients are differences, one step a coordinate.
    start : Start
        Where to begin.
    """
    z, inverse = start

    def slope(at: FloatArray, value: float) -> FloatArray:
        return (_losses(density, at + _STEP * np.eye(len(at))) - value) / _STEP

    value = float(_losses(density, z[None])[0])
    if not np.isfinite(value):
        return start
    down = slope(z, value)
    for _ in range(100):
        step = -inverse @ down
        step /= max(1.0, float(np.abs(step).max()))
        gain = -float(down @ step)
        # a hundredth of a posterior standard deviation is near enough
        if not gain > 1e-4 * len(z):
            break
        size = 1.0
        for _ in range(12):
            ahead = np.clip(z + size * step, -_EDGE, _EDGE)
            reached = float(_losses(density, ahead[None])[0])
            if reached <= value - 1e-4 * size * gain:
                break
            size *= 0.3
        else:
            break
        turned = slope(ahead, reached)
        inverse = _secant(inverse, ahead - z, turned - down)
        z, value, down = ahead, reached, turned
    return Start(z, inverse)


def _losses(density: Density, points: FloatArray) -> FloatArray:
    """Return minus log densities."""
    return -np.array([x.log_density for x in density(points)])


def _secant(inverse: FloatArray, step: FloatArray, change: FloatArray) -> FloatArray:
    """Return the inverse Hessian after a step of Broyden, Fletcher, Goldfarb and Shanno."""
    curvature = float(step @ change)
    if not curvature > 1e-10:
        return inverse
    away = np.eye(len(step)) - np.outer(step, change) / curvature
    return np.asarray(away @ inverse @ away.T + np.outer(step, step) / curvature)


def _mode(density: Density, start: Start) -> tuple[FloatArray, FloatArray]:
    """Return the mode and the inverse of the negative Hessian there."""
    z, guess = climb(density, start)
    if not np.isfinite(_losses(density, z[None])[0]):
        raise EstimationError(
            "the posterior of the variances is not finite: the cell means are not on the scale of "
            "`baseline`. Check outcomes and `person_sd` for a wrong unit."
        )
    far = [f"`{n}`" for n, value in zip(density.names, z, strict=True) if abs(value) > _FAR]
    if far:
        raise EstimationError(
            f"the mode of {', '.join(far)} is more than {_FAR:g} standard deviations out in its "
            "prior, so prior and data are of different scales and the posterior would be a "
            "compromise between them. Check units of the outcome and of `person_sd`, or widen the "
            "prior (`Priors`)."
        )
    d = len(z)
    step = 0.2 * np.sqrt(np.clip(np.diag(guess), 1e-8, 1.0))
    eye = np.diag(step)
    pairs = [(i, j) for i in range(d) for j in range(i)]
    ends = [z, *(z + eye), *(z - eye), *[z + eye[i] + eye[j] for i, j in pairs]]
    found = _losses(density, np.array(ends))
    ahead, back, both = found[1 : d + 1], found[d + 1 : 2 * d + 1], found[2 * d + 1 :]
    curvature = np.diag((ahead + back - 2.0 * found[0]) / step**2)
    for (i, j), value in zip(pairs, both, strict=True):
        # one-sided in both coordinates, less what each does alone
        mixed = (value - ahead[i] - ahead[j] + found[0]) / (step[i] * step[j])
        curvature[i, j] = curvature[j, i] = mixed
    roots, vectors = np.linalg.eigh(curvature)
    # a posterior is seldom wider than its prior; where the surface is flat, trust the prior
    return z, np.asarray((vectors / np.maximum(roots, 0.5)) @ vectors.T)


def _weigh(
    points: FloatArray,
    found: Sequence[Evaluated],
    proposals: Sequence[Proposal | Several],
    sizes: Sequence[int],
) -> tuple[FloatArray, float]:
    """Return smoothed weights, and the shape of their tail before that."""
    share = np.log(np.array(sizes) / sum(sizes))
    mixture = special.logsumexp(
        [s + p.log_density(points) for s, p in zip(share, proposals, strict=True)], axis=0
    )
    ratio = np.array([x.log_density for x in found]) - mixture
    if np.ptp(ratio) < 1e-9:
        return np.full(len(ratio), 1.0 / len(ratio)), -np.inf
    # weights that underflow are zero, and the smoothing takes no infinities
    return smoothed(np.maximum(ratio, ratio.max() - 700.0))


def _failure(where: str, nodes: Nodes, shape: float, k_hat: float, least_ess: float) -> str:
    """Say which gate is closed, where the weight lies, and what to do."""
    return (
        f"the integral over variance parameters cannot be trusted after {len(_PASSES)} passes: "
        f"Pareto k-hat {shape:.2f} (limit {k_hat:g}), {nodes.ess:.0f} effective families of nodes "
        f"(at least {least_ess:g}). The heaviest node lies far out in `{where}`. Remedy: raise "
        "`nodes`, tighten the prior of that parameter, or use engine='nuts' where the model has it."
    )
