"""Posterior of a meta-analysis of several outcomes: standard deviations and correlations by nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import linalg

from vbceval.bayes.exact import Conditional
from vbceval.bayes.hyper import Law, split_point
from vbceval.bayes.joint.correlated import from_partials
from vbceval.bayes.meta_outcomes.data import Rows
from vbceval.bayes.quadrature import Nodes
from vbceval.bayes.weights import resampled
from vbceval.core.typing import BoolArray, FloatArray, IntArray

_CHUNK = 2_000_000
_JITTER = 1e-12


class Natural(NamedTuple):
    """
    Standard deviations and correlations, N of them.

    Parameters
    ----------
    sd : mapping of level to array, shape (N, J)
        Of each outcome.
    correlation : array, shape (N, J, J)
        Between outcomes, the same at every level.
    """

    sd: Mapping[str, FloatArray]
    correlation: FloatArray

    def between(self, level: str) -> FloatArray:
        """Return the covariance of the outcomes at a level, shape (N, J, J)."""
        sd = self.sd[level]
        return np.asarray(sd[:, :, None] * sd[:, None, :] * self.correlation)

    def take(self, some: IntArray) -> Natural:
        """Return some of them."""
        return Natural({x: v[some] for x, v in self.sd.items()}, self.correlation[some])


@dataclass(frozen=True, eq=False, kw_only=True)
class Density:
    """
    Density of standard deviations and correlations, everything normal integrated out.

    Parameters
    ----------
    rows : Rows
        Effects, n of them on J outcomes.
    mean_sd, sd_scale, concentration : float
        Priors, in scales of the outcomes.
    """

    rows: Rows
    mean_sd: float
    sd_scale: float
    concentration: float

    @property
    def laws(self) -> tuple[Law, ...]:
        """Priors of the coordinates."""
        names = self.rows.outcomes
        out = [Law(level, "half_normal", (self.sd_scale,), names) for level in self.rows.levels]
        for k in range(len(names) - 1):
            own = self.concentration + (len(names) - 2 - k) / 2.0
            labels = tuple(f"{names[k]}, {other}" for other in names[k + 1 :])
            out.append(Law(f"correlation_{k}", "beta", (own, own), labels))
        return tuple(out)

    @property
    def names(self) -> list[str]:
        """Name of each coordinate."""
        return [name for law in self.laws for name in law.names]

    @property
    def costly(self) -> BoolArray:
        """All alike."""
        return np.ones(len(self.names), dtype=bool)

    def natural(self, points: FloatArray) -> Natural:
        """Return parameters at points, shape (N, d)."""
        values = split_point(self.laws, points)
        partials = [
            2.0 * values[f"correlation_{k}"] - 1.0 for k in range(len(self.rows.outcomes) - 1)
        ]
        return Natural({x: values[x] for x in self.rows.levels}, from_partials(partials))

    def covariance(self, at: Natural) -> FloatArray:
        """Return the covariance of the effects, means integrated out, shape (N, n, n)."""
        rows = self.rows
        alike = (rows.outcome[:, None] == rows.outcome[None, :]).astype(float)
        return self._sum(self.mean_sd**2 * alike, at, rows.levels)

    def within(self, at: Natural) -> FloatArray:
        """Return the covariance of the effects given means of types, shape (N, n, n)."""
        return self._sum(0.0, at, tuple(x for x in self.rows.levels if x != "type"))

    def _sum(self, first: FloatArray | float, at: Natural, levels: tuple[str, ...]) -> FloatArray:
        """Return the sum of a covariance, of errors and of the deviations of some levels."""
        rows = self.rows
        pair = np.ix_(rows.outcome, rows.outcome)
        total = rows.errors + first + np.zeros((len(at.correlation), 1, 1))
        for level in levels:
            total += at.between(level)[:, pair[0], pair[1]] * rows.same(level)
        return np.asarray(total)

    def targets(self, at: Natural) -> tuple[FloatArray, FloatArray]:
        """
        Return covariances of means and type means with the effects, and their variances a priori.

        Returns
        -------
        array, shape (N, J + P J, n)
            Means of the outcomes, then those of each of P types.
        array, shape (N, J + P J)
        """
        rows, n = self.rows, len(at.correlation)
        outcomes, types = len(rows.outcomes), len(rows.labels["type"])
        alike = np.arange(outcomes)[:, None] == rows.outcome[None, :]
        mean = np.broadcast_to(self.mean_sd**2 * alike, (n, outcomes, len(rows)))
        found, variance = [mean], [np.full((n, outcomes), self.mean_sd**2)]
        for kind in range(types):
            own, spread = np.array(mean), np.full((n, outcomes), self.mean_sd**2)
            if "type" in rows.levels:
                between = at.between("type")
                own += between[:, :, rows.outcome] * (rows.index["type"] == kind)
                spread += np.diagonal(between, axis1=1, axis2=2)
            found.append(own)
            variance.append(spread)
        return np.concatenate(found, axis=1), np.concatenate(variance, axis=1)

    def __call__(self, points: FloatArray) -> list[Conditional]:
        """Evaluate the density at points, and the law of means and type means there."""
        step = max(1, _CHUNK // len(self.rows) ** 2)
        out: list[Conditional] = []
        for start in range(0, len(points), step):
            out += self._some(points[start : start + step])
        return out

    def _some(self, points: FloatArray) -> list[Conditional]:
        at = self.natural(points)
        root = np.linalg.cholesky(self.covariance(at))
        across, prior = self.targets(at)
        y = np.broadcast_to(self.rows.estimate[:, None], (len(points), len(self.rows), 1))
        white = np.linalg.solve(root, np.concatenate([y, across.swapaxes(1, 2)], axis=2))
        logs = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
        value = -logs - 0.5 * np.square(white[:, :, 0]).sum(axis=1)
        value -= 0.5 * np.square(points).sum(axis=1)
        means = np.einsum("gnk,gn->gk", white[:, :, 1:], white[:, :, 0])
        left = np.maximum(prior - np.square(white[:, :, 1:]).sum(axis=1), 0.0)
        return [
            Conditional(float(v), m, s) for v, m, s in zip(value, means, np.sqrt(left), strict=True)
        ]


class Drawn(NamedTuple):
    """
    Draws, S of them, in scales of the outcomes.

    Parameters
    ----------
    mean : array, shape (S, J)
        Mean over types.
    type_mean, predictive : array, shape (S, P, J)
        Mean of each type; true effects of a new program in a new report, jointly over outcomes.
    effect : array, shape (S, n)
        True effect of each row.
    at : Natural
        Standard deviations and correlations.
    node : array of int, shape (S,)
        Node of each draw.
    """

    mean: FloatArray
    type_mean: FloatArray
    predictive: FloatArray
    effect: FloatArray
    at: Natural
    node: IntArray


def draw(density: Density, nodes: Nodes, *, size: int, rng: np.random.Generator) -> Drawn:
    """
    Draw from the mixture over nodes.

    A draw from the prior of means, deviations and errors is moved by what the effects say about it
    (Matheron's rule), so given a node draws are exact and independent.

    Parameters
    ----------
    density, nodes : Density, Nodes
        The density, integrated.
    size : int
        Draws.
    rng : Generator
        Source.
    """
    rows = density.rows
    picked = resampled(nodes.weights, size, rng)
    at = density.natural(nodes.points[picked])
    outcomes, types = len(rows.outcomes), len(rows.labels["type"])
    mean, type_mean, effect, error = from_prior(density, at, rng)
    away = rows.estimate - effect - error
    for i in np.unique(picked):
        here = np.flatnonzero(picked == i)
        one = Natural({k: v[here[:1]] for k, v in at.sd.items()}, at.correlation[here[:1]])
        total, across = density.covariance(one)[0], density.targets(one)[0][0]
        pull = linalg.cho_solve(linalg.cho_factor(total, lower=True), away[here].T)
        moved = (across @ pull).T
        mean[here] += moved[:, :outcomes]
        type_mean[here] += moved[:, outcomes:].reshape(-1, types, outcomes)
        effect[here] += ((total - rows.errors) @ pull).T
    new = np.zeros((size, types, outcomes))
    for level in rows.levels:
        if level != "type":
            # one program of each type; over types draws are never read together
            new += deviations(at, level, types, rng)
    return Drawn(mean, type_mean, type_mean + new, effect, at, picked)


class FromPrior(NamedTuple):
    """
    What standard deviations and correlations say before effects are seen; S draws, in scales.

    Parameters
    ----------
    mean : array, shape (S, J)
        Mean over types.
    type_mean : array, shape (S, P, J)
        Mean of each type.
    effect, error : array, shape (S, n)
        True effect of each row, and the sampling error of its estimate.
    """

    mean: FloatArray
    type_mean: FloatArray
    effect: FloatArray
    error: FloatArray


def from_prior(density: Density, at: Natural, rng: np.random.Generator) -> FromPrior:
    """Draw means, effects and errors given standard deviations and correlations, one for each."""
    rows, size = density.rows, len(at.correlation)
    outcomes, types = len(rows.outcomes), len(rows.labels["type"])
    mean = density.mean_sd * rng.standard_normal((size, outcomes))
    groups = {x: deviations(at, x, len(rows.labels[x]), rng) for x in rows.levels}
    type_mean = mean[:, None, :] + groups.get("type", np.zeros((size, types, outcomes)))
    effect = type_mean[:, rows.index["type"], rows.outcome]
    for level in rows.levels[1 if "type" in rows.levels else 0 :]:
        effect = effect + groups[level][:, rows.index[level], rows.outcome]
    error = rng.standard_normal((size, len(rows))) @ linalg.cholesky(rows.errors)
    return FromPrior(mean, type_mean, effect, error)


def deviations(at: Natural, level: str, groups: int, rng: np.random.Generator) -> FloatArray:
    """Draw deviations of groups, shape (S, groups, J)."""
    outcomes = at.correlation.shape[1]
    root = np.linalg.cholesky(at.correlation + _JITTER * np.eye(outcomes))
    steps = rng.standard_normal((len(root), groups, outcomes))
    return np.asarray(np.einsum("sgk,sjk->sgj", steps, root) * at.sd[level][:, None, :])
