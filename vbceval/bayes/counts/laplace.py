"""
Laplace's approximation of counts: modes by Newton steps, corrected to the next order.

At given variances the latent field is coefficients v and, in each cluster, random effects g with
covariance K. Both are found by Newton steps; a step solves, cluster by cluster, for g given v, with
M = W^1/2 (I + W^1/2 K W^1/2)^-1 W^1/2 and W the curvature of the likelihood, so that K may be
singular and cells without weight drop out; what is left is a system of the size of v. Many points
of the variances are worked on at once: arrays have the point as their first axis, P long.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.bayes.counts.curvature import compiled
from vbceval.bayes.counts.families import Slopes, log_likelihood, slopes
from vbceval.bayes.counts.field import Block, Field, Spread, covariance
from vbceval.core.typing import BoolArray, FloatArray

STEPS, HALVINGS = 60, 25
"""Most Newton steps, and most halvings of one."""
TOLERANCE = 1e-5
"""Largest last step of a linear predictor; the one after it would be about its square."""
_NO_WEIGHT = 1e-200
"""Weights of the likelihood below which its derivatives are zero."""
_CHUNK = 200_000
"""Numbers in the covariances of clusters that are worked on at once: few enough for fast memory."""
MOST = 30.0
"""Linear predictors beyond which no rate lies: a step that goes there is cut short."""


class At(NamedTuple):
    """
    Values of everything that is not in the latent field, at P points.

    Parameters
    ----------
    scale, prior : array, shape (P, Q)
        What multiplies each coefficient, and its prior precision.
    spread : Spread
        Variances of random effects.
    """

    scale: FloatArray
    prior: FloatArray
    spread: Spread

    def one(self, i: int) -> At:
        """Return one of the points."""
        at = slice(i, i + 1)
        return At(self.scale[at], self.prior[at], Spread(*[s[at] for s in self.spread]))


class State(NamedTuple):
    """
    A place in the latent field; lists have one array a block.

    Parameters
    ----------
    v : array, shape (P, Q)
        Coefficients.
    alpha : list of array, each (P, C, n)
        K^-1 g.
    eta : list of array, each (P, C, n)
        Linear predictors.
    value : array, shape (P,)
        Log density of counts and latent field, without constants of the prior.
    """

    v: FloatArray
    alpha: list[FloatArray]
    eta: list[FloatArray]
    value: FloatArray


class Factor(NamedTuple):
    """
    The curvature of one block at a state.

    Parameters
    ----------
    m : array, shape (P, C, n, n)
        M.
    gram : array, shape (P, G, n, n)
        Its sum over the clusters of each group.
    slopes : Slopes
        Derivatives, each (P, C, n).
    target : array, shape (P, C, n)
        M times the working outcome.
    logdet : array, shape (P, C)
        Log det (I + W^1/2 K W^1/2).
    """

    m: FloatArray
    gram: FloatArray
    slopes: Slopes
    target: FloatArray
    logdet: FloatArray

    def one(self, i: int) -> Factor:
        """Return one of the points."""
        at = slice(i, i + 1)
        derivatives = Slopes(*[d[at] for d in self.slopes])
        return Factor(self.m[at], self.gram[at], derivatives, self.target[at], self.logdet[at])


class Curvature(NamedTuple):
    """
    What a Newton step solves.

    Parameters
    ----------
    factors : list of Factor
        By block.
    precision : array, shape (P, Q, Q)
        Posterior precision of coefficients, random effects eliminated.
    target : array, shape (P, Q)
        X'M times the working outcome, at unit scale.
    """

    factors: list[Factor]
    precision: FloatArray
    target: FloatArray


class Approximation(NamedTuple):
    """
    The latent field given variances, as a normal law whose mean is corrected.

    Parameters
    ----------
    state : State
        Its mode.
    log_density : array, shape (P,)
        Log probability of the counts, up to a constant of them alone; minus infinity where Newton
        steps did not reach the mode.
    correction : array, shape (P,)
        What of it is beyond Laplace's approximation.
    root : array, shape (P, Q, Q)
        Lower root of the posterior precision of coefficients.
    shift : array, shape (P, Q)
        Mean minus mode of coefficients.
    factors : list of Factor
        Curvature at the mode.
    gamma : list of array, each (P, C, n)
        Mean minus mode of random effects is K gamma.
    """

    state: State
    log_density: FloatArray
    correction: FloatArray
    root: FloatArray
    shift: FloatArray
    factors: list[Factor]
    gamma: list[FloatArray]

    def one(self, i: int) -> Approximation:
        """Return one of the points."""
        at = slice(i, i + 1)
        state, factors = self.state, [f.one(i) for f in self.factors]
        mode = State(
            state.v[at], [a[at] for a in state.alpha], [a[at] for a in state.eta], state.value[at]
        )
        return Approximation(
            mode, self.log_density[at], self.correction[at], self.root[at], self.shift[at],
            factors, [g[at] for g in self.gamma],
        )  # fmt: skip


def first_guess(field: Field, n_points: int) -> list[FloatArray]:
    """Return linear predictors from which to start: those of rates drawn a little to baseline."""
    out = []
    family = field.data.family
    for block in field.blocks:
        base = np.exp(block.centre)
        if family == "binomial":
            base = base / (1.0 + base)
        # one more event, in as many trials as baseline says it takes
        raw = (block.y + 1.0) / (block.size + 1.0 / base)
        eta = np.log(raw) - (np.log1p(-raw) if family == "binomial" else 0.0)
        out.append(np.broadcast_to(eta, (n_points, *eta.shape)))
    return out


def approximate(field: Field, at: At, guess: list[FloatArray]) -> Approximation:
    """
    Return the law of the latent field given variances, at P points.

    Parameters
    ----------
    field : Field
        Counts.
    at : At
        Points.
    guess : list of array, each (P, C, n)
        Linear predictors from which to start.

    References
    ----------
    .. [1] Rue, H., Martino, S. and Chopin, N. (2009). Approximate Bayesian inference for latent
       Gaussian models by using integrated nested Laplace approximations. *Journal of the Royal
       Statistical Society B* 71(2), 319-392.
    .. [2] Shun, Z. and McCullagh, P. (1995). Laplace approximation of high dimensional integrals.
       *Journal of the Royal Statistical Society B* 57(4), 749-760. (The terms of the next order.)
    """
    kernels = [
        np.ascontiguousarray(covariance(block, field.steps, at.spread)) for block in field.blocks
    ]
    state, settled = _mode(field, at, kernels, guess)
    found = _corrected(field, at, kernels, state)
    return found._replace(log_density=np.where(settled, found.log_density, -np.inf))


def _mode(
    field: Field, at: At, kernels: list[FloatArray], guess: list[FloatArray]
) -> tuple[State, BoolArray]:
    """Return the mode, and at which points Newton steps reached it."""
    p, q = at.scale.shape
    # at the prior mean, where the density is finite, so that a wild first step is cut short
    state = _state(field, at, kernels, np.zeros((p, q)), [np.zeros(eta.shape) for eta in guess])
    state = _uphill(field, at, kernels, state, _step(field, at, kernels, guess))
    for _ in range(STEPS):
        ahead = _step(field, at, kernels, state.eta)
        steps = zip(ahead.eta, state.eta, strict=True)
        # full steps: one that is halved to nothing has reached no mode
        moved = np.max([np.abs(a - b).max(axis=(1, 2)) for a, b in steps], axis=0)
        state = _uphill(field, at, kernels, state, ahead)
        settled = moved <= TOLERANCE
        if settled.all():
            break
    return state, np.asarray(settled)


def factor(
    field: Field, block: Block, kernel: FloatArray, at: At, eta: FloatArray, mean: FloatArray
) -> Factor:
    """Return the curvature of a block at linear predictors whose known part is `mean`."""
    found = slopes(field.data.family, eta, block.y, block.size, at.spread.dispersion[:, None, None])
    p, c, n = eta.shape
    m, gram = np.empty((p, c, n, n)), np.zeros(kernel.shape)
    target, logdet = np.empty((p, c, n)), np.zeros((p, c))
    compiled().eliminate(
        kernel, block.group, found.weight, found.score, eta - mean, m, gram, target, logdet
    )
    return Factor(m, gram, found, target, logdet)


def _step(field: Field, at: At, kernels: list[FloatArray], eta: list[FloatArray]) -> State:
    """Return the state after a full Newton step."""
    found = _curvature(field, at, kernels, eta)
    v = np.linalg.solve(found.precision, (at.scale * found.target)[..., None])[..., 0]
    mean = [mean_of(block, at, v) for block in field.blocks]
    alpha = [f.target - times(f.m, x) for f, x in zip(found.factors, mean, strict=True)]
    return _state(field, at, kernels, v, alpha)


def _curvature(field: Field, at: At, kernels: list[FloatArray], eta: list[FloatArray]) -> Curvature:
    p, q = at.scale.shape
    precision, target = np.zeros((p, q, q)), np.zeros((p, q))
    factors = []
    for block, kernel, values in zip(field.blocks, kernels, eta, strict=True):
        found = factor(field, block, kernel, at, values, block.centre)
        factors.append(found)
        precision += (block.x.transpose(0, 2, 1) @ (found.gram @ block.x)).sum(axis=1)
        target += _pulled(block, found.target)
    precision *= at.scale[:, :, None] * at.scale[:, None, :]
    precision[:, np.arange(q), np.arange(q)] += at.prior
    return Curvature(factors, precision, target)


def _pulled(block: Block, values: FloatArray) -> FloatArray:
    """Return X' values summed over clusters, shape (P, Q), of an array (P, C, n)."""
    return np.asarray(np.tensordot(block.by_group(values), block.x, axes=2))


def mean_of(block: Block, at: At, v: FloatArray) -> FloatArray:
    """Return X v in the places of each cluster, shape (P, C, n)."""
    by_group = block.x @ (at.scale * v)[:, None, :, None]
    return np.asarray(by_group[..., 0][:, block.group])


def of_group(block: Block, kernel: FloatArray, vector: FloatArray) -> FloatArray:
    """Return products of the matrix of each cluster's group, (P, G, n, n), with vectors (P, C, n)."""
    if 4 * len(block.start) > len(block.group):
        return times(kernel[:, block.group], vector)
    ends = [*block.start[1:], len(block.group)]
    return np.concatenate([
        vector[:, begin:end] @ kernel[:, g].transpose(0, 2, 1)
        for g, (begin, end) in enumerate(zip(block.start, ends, strict=True))
    ], axis=1)  # fmt: skip


def times(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    """Return products of matrices (..., n, n) with vectors (..., n)."""
    return np.asarray((matrix @ vector[..., None])[..., 0])


def _state(
    field: Field, at: At, kernels: list[FloatArray], v: FloatArray, alpha: list[FloatArray]
) -> State:
    """Return linear predictors and the log density at coefficients and alpha."""
    value = -0.5 * (at.prior * v**2).sum(axis=1)
    eta = []
    dispersion = at.spread.dispersion[:, None, None]
    for block, kernel, a in zip(field.blocks, kernels, alpha, strict=True):
        g = of_group(block, kernel, a)
        # infinite or overflowing steps have density zero, and are cut short
        reached = block.centre + mean_of(block, at, v) + g
        inside = np.clip(reached, -MOST, MOST)
        found = log_likelihood(field.data.family, inside, block.y, block.size, dispersion)
        out = ((np.abs(reached) > MOST) & (block.size > 0)).any(axis=(1, 2))
        value = value + np.where(out, -np.inf, found.sum(axis=(1, 2)))
        value = value - 0.5 * (a * g).sum(axis=(1, 2))
        eta.append(reached)
    return State(v, alpha, eta, value)


def _uphill(field: Field, at: At, kernels: list[FloatArray], old: State, new: State) -> State:
    """Halve steps that lead down, point by point; the field is concave, so that some length leads up."""
    for _ in range(HALVINGS):
        down = ~(new.value >= old.value - 1e-10 * (1.0 + np.abs(old.value)))
        if not down.any():
            break
        share = np.where(down, 0.5, 1.0)[:, None]
        v = old.v + share * (new.v - old.v)
        alpha = [a + share[..., None] * (b - a) for a, b in zip(old.alpha, new.alpha, strict=True)]
        new = _state(field, at, kernels, v, alpha)
    return new


def _corrected(field: Field, at: At, kernels: list[FloatArray], state: State) -> Approximation:
    """Return determinant, mean and log density at the mode, with the terms of the next order."""
    factors, precision, _ = _curvature(field, at, kernels, state.eta)
    root = np.linalg.cholesky(precision)
    inverse = np.linalg.inv(root)
    logdet = 2.0 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    logdet = logdet - np.log(at.prior).sum(axis=1)
    logdet = logdet + sum(f.logdet.sum(axis=1) for f in factors)
    bends, cubes, followed = [], [], []
    target = np.zeros_like(state.v)
    for block, f in zip(field.blocks, factors, strict=True):
        variance, cubic = _covariance(block, f, at, inverse)
        bends.append(0.5 * f.slopes.third * variance)
        cubes.append(cubic / 12.0 + (0.125 * f.slopes.fourth * variance**2).sum(axis=2))
        # what is left of a pull once random effects gave way to it, (I - M K) bend
        followed.append(times(f.m, over(bends[-1], f.slopes.weight)))
        target += _pulled(block, followed[-1])
    shift = times(inverse.transpose(0, 2, 1), times(inverse, at.scale * target))
    correction = np.zeros(len(logdet))
    gamma = []
    for block, f, bend, cube, kept in zip(
        field.blocks, factors, bends, cubes, followed, strict=True
    ):
        gamma.append(kept - times(f.m, mean_of(block, at, shift)))
        # the mean moves by X shift + K gamma = W^-1 (bend - gamma)
        change = over(bend - gamma[-1], f.slopes.weight)
        correction += (cube + (0.5 * bend * change).sum(axis=2)).sum(axis=1)
    log_density = state.value - 0.5 * logdet + correction
    return Approximation(state, log_density, correction, root, shift, factors, gamma)


def over(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Return values divided by weights of the likelihood; 0 where there is none."""
    return np.divide(values, weight, out=np.zeros_like(values), where=weight > _NO_WEIGHT)


def _covariance(
    block: Block, f: Factor, at: At, inverse: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    Return variances of linear predictors and sums of their cubed covariances.

    The posterior covariance in a cluster is W^-1 - W^-1 (M - M X V X'M) W^-1, V being that of
    coefficients; sums are over pairs of places, times both third derivatives. Pairs of two clusters,
    which have a covariance through coefficients alone, are left out. Places without weight have no
    derivatives, and get zero.
    """
    away = (block.x * at.scale[:, None, None, :]) @ inverse.transpose(0, 2, 1)[:, None]
    of_mean = away @ away.transpose(0, 1, 3, 2)
    p, c, n = f.target.shape
    variance, cubic = np.empty((p, c, n)), np.empty((p, c))
    step = max(1, _CHUNK // (p * n * n))
    for begin in range(0, c, step):
        some = slice(begin, begin + step)
        m = f.m[:, some]
        left = m - m @ (of_mean[:, block.group[some]] @ m)
        compiled().next_order(begin, f.slopes.weight, f.slopes.third, left, variance, cubic)
    return variance, cubic
