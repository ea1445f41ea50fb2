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
    kernel : array, shape (P, G, n, n)
        K of each group.
    m : array, shape (P, C, n, n)
        M.
    slopes : Slopes
        Derivatives, each (P, C, n).
    target : array, shape (P, C, n)
        M times the working outcome.
    logdet : array, shape (P, C)
        Log det (I + W^1/2 K W^1/2).
    """

    kernel: FloatArray
    m: FloatArray
    slopes: Slopes
    target: FloatArray
    logdet: FloatArray

    def one(self, i: int) -> Factor:
        """Return one of the points."""
        at = slice(i, i + 1)
        derivatives = Slopes(*[d[at] for d in self.slopes])
        return Factor(self.kernel[at], self.m[at], derivatives, self.target[at], self.logdet[at])


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
    m, target, logdet = np.empty((p, c, n, n)), np.empty((p, c, n)), np.zeros((p, c))
    compiled()(kernel, block.group, found.weight, found.score, eta - mean, m, target, logdet)
    return Factor(kernel, m, found, target, logdet)


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
        gram = block.by_group(found.m)
        precision += (block.x.transpose(0, 2, 1) @ (gram @ block.x)).sum(axis=1)
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
        g = times(kernel[:, block.group], a)
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
    bends, covariances = [], []
    target = np.zeros_like(state.v)
    for block, f in zip(field.blocks, factors, strict=True):
        cov = _covariance(block, f, at, inverse)
        bend = 0.5 * f.slopes.third * np.diagonal(cov, axis1=-2, axis2=-1)
        target += _pulled(block, _followed(block, f, bend))
        bends.append(bend)
        covariances.append(cov)
    shift = times(inverse.transpose(0, 2, 1), times(inverse, at.scale * target))
    correction = np.zeros(len(logdet))
    gamma = []
    for block, f, bend, cov in zip(field.blocks, factors, bends, covariances, strict=True):
        mean = mean_of(block, at, shift)
        gamma.append(_followed(block, f, bend) - times(f.m, mean))
        change = mean + times(f.kernel[:, block.group], gamma[-1])
        variance, third = np.diagonal(cov, axis1=-2, axis2=-1), f.slopes.third
        terms = 0.125 * f.slopes.fourth * variance**2 + 0.5 * bend * change
        # pairs of one cluster: those of two have a covariance through coefficients alone
        terms += third * times(cov * cov * cov, third) / 12.0
        correction += terms.sum(axis=(1, 2))
    log_density = state.value - 0.5 * logdet + correction
    return Approximation(state, log_density, correction, root, shift, factors, gamma)


def _covariance(block: Block, f: Factor, at: At, inverse: FloatArray) -> FloatArray:
    """Return the posterior covariance of linear predictors in each cluster, (P, C, n, n)."""
    kernel = f.kernel[:, block.group]
    away = (block.x * at.scale[:, None, None, :]) @ inverse.transpose(0, 2, 1)[:, None]
    of_mean = (away @ away.transpose(0, 1, 3, 2))[:, block.group]
    # what a change of the mean does to linear predictors once random effects have followed
    left = -kernel @ f.m
    n = left.shape[-1]
    left[..., np.arange(n), np.arange(n)] += 1.0
    return np.asarray(left @ (kernel + of_mean @ left.transpose(0, 1, 3, 2)))


def _followed(block: Block, f: Factor, score: FloatArray) -> FloatArray:
    """Return a pull on linear predictors after random effects gave way to it: (I - M K) score."""
    return np.asarray(score - times(f.m, times(f.kernel[:, block.group], score)))
