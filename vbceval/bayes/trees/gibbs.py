"""Posterior of a sum of trees behind estimates whose errors are correlated, by Gibbs sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.trees.forest import Forest
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray

_SINGULAR = 1e-8
_MARGIN = 0.99
_LEAST_SD = 1e-6
_STEPS = 100


class Measured(NamedTuple):
    """
    Estimates y ~ Normal(truth, V) of n organizations, V = diag(own) + shared'shared.

    Parameters
    ----------
    y : array, shape (n,)
        Estimates.
    own : array, shape (n,)
        Variance that an estimate shares with no other: as large a multiple of its variance given
        all others as leaves the rest a covariance.
    shared : array, shape (n, n)
        A root of the rest.
    values, vectors : array, shapes (n,), (n, n)
        Eigenvalues and eigenvectors of V.
    """

    y: FloatArray
    own: FloatArray
    shared: FloatArray
    values: FloatArray
    vectors: FloatArray

    def solve(self, right: FloatArray, variance: float) -> FloatArray:
        """Return (V + variance I)^-1 times `right`."""
        return np.asarray(self.vectors @ ((self.vectors.T @ right) / (self.values + variance)))

    def errors(self, rng: np.random.Generator) -> FloatArray:
        """Draw errors, shape (n,), from Normal(0, V)."""
        n = len(self.y)
        alone = np.sqrt(self.own) * rng.standard_normal(n)
        return np.asarray(alone + rng.standard_normal(n) @ self.shared)


def measured(y: FloatArray, covariance: FloatArray) -> Measured:
    """
    Split the covariance of estimates.

    Raises
    ------
    DesignError
        If some estimates are combinations of others.
    """
    sd = np.sqrt(np.diag(covariance))
    smallest = float(np.linalg.eigvalsh(covariance / np.outer(sd, sd))[0])
    if smallest < _SINGULAR:
        raise DesignError(
            f"some of the {len(y)} estimates are combinations of others (the smallest eigenvalue of "
            f"their correlation matrix is {smallest:.1g}), so their errors do not tell organizations "
            "apart. Pass one row an organization, from more clusters than rows."
        )
    # the larger this part, the faster trees move; of a diagonal plus a few factors it is nearly all
    given = 1.0 / np.diag(np.linalg.inv(covariance))
    root = np.sqrt(given)
    own = _MARGIN * float(np.linalg.eigvalsh(covariance / np.outer(root, root))[0]) * given
    values, vectors = np.linalg.eigh(covariance)
    left, right = np.linalg.eigh(covariance - np.diag(own))
    shared = np.sqrt(np.maximum(left, 0.0))[:, None] * right.T
    return Measured(y, own, shared, np.maximum(values, 0.0), vectors)


class Scales(NamedTuple):
    """Priors: mean and standard deviation of the level; half-normal scales of the other two."""

    mean: float
    mean_sd: float
    covariate_sd: float
    organization_sd: float


class Chain(NamedTuple):
    """
    Kept draws of one chain, S of them.

    Parameters
    ----------
    level, covariate_sd, organization_sd : array, shape (S,)
        Level; prior standard deviation of the sum of trees; that of organizations about it.
    expected, effect : array, shape (S, n)
        Level plus trees at the covariates of each organization; its true effect.
    elsewhere : array, shape (S, m)
        Level plus trees at other places, averaged as asked.
    splits : array, shape (S, q)
        Splits at each column.
    discrepancy : array, shape (S, 2)
        Squared length of the whitened residuals of the estimates, observed and replicated.
    """

    level: FloatArray
    covariate_sd: FloatArray
    organization_sd: FloatArray
    expected: FloatArray
    effect: FloatArray
    elsewhere: FloatArray
    splits: FloatArray
    discrepancy: FloatArray


def sample_chain(
    at: Measured, forest: Forest, n_trees: int, scales: Scales, places: Any,
    averaged: Callable[[FloatArray], FloatArray], *, draws: int, tune: int, thin: int,
    rng: np.random.Generator,
) -> Chain:  # fmt: skip
    """
    Draw from the posterior of level, trees, standard deviations and effects.

    A step: organization_sd and level, with errors and organizations' own deviations integrated
    out; the errors that estimates share; each tree, given what these leave, with independent errors
    of variance own + organization_sd^2; covariate_sd given the leaves, and once more given the leaves
    in multiples of it, which matters where trees say little [1]_. Effects are drawn at the end.

    Parameters
    ----------
    at : Measured
        Estimates.
    forest : Forest
        Trees, at zero.
    n_trees : int
        Their number.
    scales : Scales
        Priors.
    places : object or None
        Where else the trees are read, from `Forest.places`.
    averaged : callable
        From trees there, shape (m,), to what is kept of them.
    draws, tune, thin : int
        Kept and warm-up steps; a draw is kept every `thin` steps.
    rng : Generator
        Source of all but the trees.

    References
    ----------
    .. [1] Yu, Y. and Meng, X.-L. (2011). To center or not to center: that is not the question. *Journal
       of Computational and Graphical Statistics* 20(3), 531-570.
    """
    n = len(at.y)
    kept: list[tuple[Any, ...]] = []
    level, organization_sd = float(at.y.mean()), scales.organization_sd / 2
    covariate_sd = scales.covariate_sd / 2
    for step in range(tune + draws * thin):
        organization_sd = _spread(at, at.y - level - forest.fitted, organization_sd, scales, rng)
        level = _level(at, at.y - forest.fitted, organization_sd, scales, rng)
        variance = organization_sd**2
        rest = at.y - level - forest.fitted
        shared = draw_shared(at, rest, variance, rng)
        swept = forest.sweep(at.y - level - shared, at.own + variance, covariate_sd**2 / n_trees)
        covariate_sd = _leaf_sd(swept.leaves, n_trees * swept.squares, covariate_sd, scales, rng)
        wanted = _rescaled(at, at.y - level, forest.fitted, covariate_sd, variance, scales, rng)
        forest.rescale(wanted / covariate_sd)
        covariate_sd = wanted
        if step < tune or (step - tune) % thin:
            continue
        expected = level + forest.fitted
        own = organization_sd * rng.standard_normal(n)
        away = at.y - expected
        moved = at.solve(away - own - at.errors(rng), variance)
        elsewhere = np.zeros(0) if places is None else level + averaged(forest.predict(places))
        again = at.errors(rng) + organization_sd * rng.standard_normal(n)
        sizes = [float(v @ at.solve(v, variance)) for v in (away, again)]
        kept.append(
            (level, covariate_sd, organization_sd, expected, expected + own + variance * moved,
             elsewhere, forest.splits(), sizes)
        )  # fmt: skip
    return Chain(*(np.array(values) for values in zip(*kept, strict=True)))


def draw_shared(
    at: Measured, rest: FloatArray, variance: float, rng: np.random.Generator
) -> FloatArray:
    """Draw the errors that estimates share, given the sum of all that is not expected."""
    n = len(rest)
    alone = np.sqrt(at.own + variance) * rng.standard_normal(n)
    shared = rng.standard_normal(n) @ at.shared
    # a draw from the prior of both parts, moved by what their sum is known to be
    pull = at.solve(rest - alone - shared, variance)
    return np.asarray(shared + at.shared.T @ (at.shared @ pull))


def _spread(
    at: Measured, rest: FloatArray, now: float, scales: Scales, rng: np.random.Generator
) -> float:
    squares = (at.vectors.T @ rest) ** 2

    def density(log_sd: float) -> float:
        sd = np.exp(log_sd)
        total = at.values + sd**2
        likelihood = -0.5 * float((np.log(total) + squares / total).sum())
        return float(likelihood - 0.5 * (sd / scales.organization_sd) ** 2 + log_sd)

    return float(np.exp(slice_step(density, np.log(now), rng)))


def _level(
    at: Measured, rest: FloatArray, organization_sd: float, scales: Scales,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    weights = at.solve(np.ones(len(rest)), organization_sd**2)
    precision = weights.sum() + 1.0 / scales.mean_sd**2
    centre = (weights @ rest + scales.mean / scales.mean_sd**2) / precision
    return float(centre + rng.standard_normal() / np.sqrt(precision))


def _leaf_sd(
    leaves: int, squares: float, now: float, scales: Scales, rng: np.random.Generator
) -> float:
    def density(log_sd: float) -> float:
        sd = np.exp(log_sd)
        likelihood = -leaves * log_sd - 0.5 * squares / sd**2
        return float(likelihood - 0.5 * (sd / scales.covariate_sd) ** 2 + log_sd)

    return float(np.exp(slice_step(density, np.log(now), rng)))


def _rescaled(
    at: Measured, rest: FloatArray, fitted: FloatArray, now: float, variance: float, scales: Scales,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    total = at.values + variance
    whole, trees = at.vectors.T @ rest, (at.vectors.T @ fitted) / now
    slope, curve = float((whole * trees / total).sum()), float((trees**2 / total).sum())

    def density(log_sd: float) -> float:
        sd = np.exp(log_sd)
        likelihood = slope * sd - 0.5 * curve * sd**2
        return float(likelihood - 0.5 * (sd / scales.covariate_sd) ** 2 + log_sd)

    return float(np.exp(slice_step(density, np.log(now), rng)))


def slice_step(
    density: Callable[[float], float], now: float, rng: np.random.Generator, width: float = 1.0
) -> float:
    """
    Return the next value of a Markov chain that leaves a density of one variable invariant.

    Parameters
    ----------
    density : callable
        Log density, up to a constant.
    now : float
        The value before.
    rng : Generator
        Source.
    width : float, default 1
        First guess of the width of a slice; the law does not depend on it.

    References
    ----------
    .. [1] Neal, R. M. (2003). Slice sampling. *Annals of Statistics* 31(3), 705-767. Figures 3, 5.
    """
    floor = np.log(_LEAST_SD)
    height = density(now) + np.log1p(-rng.random())
    low = now - width * rng.random()
    high = low + width
    for _ in range(_STEPS):
        if low < floor or density(low) < height:
            break
        low -= width
    for _ in range(_STEPS):
        if density(high) < height:
            break
        high += width
    low = max(low, floor)
    while True:
        new = low + (high - low) * rng.random()
        if density(new) >= height or high - low < 1e-12:
            return float(new)
        low, high = (new, high) if new < now else (low, new)


def joined(chains: Sequence[Chain]) -> Chain:
    """Return the draws of all chains, shape (chains, S, ...)."""
    return Chain(*(np.stack(values) for values in zip(*chains, strict=True)))
