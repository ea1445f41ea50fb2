"""Exact engine: coefficients integrated out in closed form, a few variance parameters by nodes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Placed, Structure, place, solve_root
from vbceval.bayes.equations import Equations, Terms, arrange
from vbceval.bayes.hyper import Law, natural_values, scales_at, split_point
from vbceval.bayes.likelihood import noise, spread_within, weights_of_coefficients
from vbceval.bayes.priors import Priors
from vbceval.bayes.quadrature import Integration, Nodes, Start, climb, integrate
from vbceval.bayes.weights import resampled
from vbceval.core.rng import generator
from vbceval.core.typing import BoolArray, FloatArray, IntArray

NODES = 1024
"""Points of the integration by default."""

_MEMORY = 1.5e9
"""Bytes of normal equations kept, so that a node need not be evaluated again to draw from it."""
_SAMPLE = 64
"""Patterns of a first search for the mode."""


class Conditional(NamedTuple):
    """
    What is known at a value of the variance parameters.

    Parameters
    ----------
    log_density : float
        Log density of the coordinates and the cells; of the prior, without its constant.
    mean, sd : array, shape (k,)
        Posterior law of the averages given the variances: normal.
    """

    log_density: float
    mean: FloatArray
    sd: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Marginal:
    """
    Density of the variance parameters with everything else integrated out.

    Parameters
    ----------
    cells, parts, priors : Cells, Structure, Priors
        The model.
    equations : Equations
        The cells, arranged.
    laws : tuple of Law
        Priors of the variance parameters.
    averages : array, shape (k, J)
        Averages of effects that are reported.
    """

    cells: Cells
    parts: Structure
    priors: Priors
    equations: Equations
    laws: tuple[Law, ...]
    averages: FloatArray
    _kept: OrderedDict[bytes, Terms] = field(init=False, default_factory=OrderedDict, repr=False)

    @property
    def names(self) -> list[str]:
        """Name of each coordinate."""
        return [name for law in self.laws for name in law.names]

    @property
    def costly(self) -> BoolArray:
        """All but the spreads of parts of the effect, on which normal equations do not depend."""
        return np.array([law.name != "part_sd" for law in self.laws for _ in law.names], dtype=bool)

    def __call__(self, points: FloatArray) -> list[Conditional]:
        """Evaluate the density at points, shape (N, d), and the law of the averages there."""
        values = split_point(self.laws, points)
        return [
            self._at(float(z @ z), {name: v[i] for name, v in values.items()})
            for i, z in enumerate(points)
        ]

    def placed(self, values: dict[str, FloatArray]) -> tuple[Placed, FloatArray, Terms]:
        """
        Return the law of the coefficients given variance parameters by the names of their laws.

        With it come their prior precision and the equations.

        Raises
        ------
        LinAlgError
            If variances are beyond floating point.
        """
        terms = self._terms(values)
        sds = values.get("part_sd", np.zeros(0))
        scale, prior = weights_of_coefficients(self.cells, self.parts, self.priors, sds)
        return place(terms.around, np.zeros(len(scale)), scale, prior), prior, terms

    def _at(self, square: float, values: dict[str, FloatArray]) -> Conditional:
        nothing = Conditional(-np.inf, np.zeros(len(self.averages)), np.zeros(len(self.averages)))
        try:
            at, prior, terms = self.placed(values)
        except np.linalg.LinAlgError:
            return nothing
        value = terms.log_likelihood - 0.5 * (square - at.shift @ at.shift)
        value += at.log_jacobian + 0.5 * np.log(prior).sum()
        if not np.isfinite(value):
            return nothing
        own = len(self.parts.part)
        pull = np.zeros((len(prior), len(self.averages)))
        pull[-own:] = (self.averages @ self.parts.loading * at.scale[-own:]).T
        away = solve_root(at.root, pull)
        sd = np.sqrt(np.square(away).sum(axis=0))
        mean = at.v @ pull + self.parts.centre * self.averages.sum(axis=1)
        return Conditional(float(value), mean, sd)

    def _terms(self, values: dict[str, FloatArray]) -> Terms:
        """Return the normal equations, from memory where the costly parameters were met before."""
        key = np.hstack([[0.0], *[v for k, v in values.items() if k != "part_sd"]]).tobytes()
        if key in self._kept:
            return self._kept[key]
        self._kept[key] = terms = self._form(values)
        if len(self._kept) * terms.around.gram.nbytes > _MEMORY:
            self._kept.popitem(last=False)
        return terms

    def _form(self, values: dict[str, FloatArray]) -> Terms:
        scales = scales_at(natural_values(values, self.parts), self.cells)
        y = self.cells.y - self.parts.centre * (self.cells.effect_of_cell >= 0)
        terms = self.equations.at(y, *noise(scales), scales.four, scales.ratio)
        within = spread_within(self.cells, scales.person**2)
        return terms._replace(log_likelihood=terms.log_likelihood + within)


def integrate_cells(
    cells: Cells, parts: Structure, priors: Priors, laws: tuple[Law, ...], averages: FloatArray,
    *, nodes: int, seed: int,
) -> tuple[Marginal, Nodes, Integration]:  # fmt: skip
    """
    Integrate the variance parameters of a model.

    Parameters
    ----------
    cells, parts, priors, laws, averages
        As in `Marginal`.
    nodes : int
        Points of the first pass, a power of two.
    seed : int
        Seed.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    model = Marginal(
        cells=cells, parts=parts, priors=priors, equations=arrange(cells, parts), laws=laws,
        averages=averages,
    )  # fmt: skip
    d, n = len(model.names), len(model.equations.patterns.n_periods)
    start = Start(np.zeros(d), np.eye(d))
    if d and n >= 2 * _SAMPLE:
        # most of the way to the mode on a sample of organizations
        step = n // _SAMPLE
        start = climb(replace(model, equations=arrange(cells, parts, every=step)), start)
        start = Start(start.point, start.spread / step)
    return model, *integrated(model, start, nodes=nodes, seed=seed)


def integrated(
    model: Marginal, start: Start, *, nodes: int, seed: int
) -> tuple[Nodes, Integration]:
    """
    Integrate a density whose normal equations several nodes may share.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    each = 1 if model.costly.all() else _shared(model.equations)
    return integrate(model, start, families=nodes // each, each=each, seed=seed)


def _shared(equations: Equations) -> int:
    """Return how many nodes share normal equations: 1, 2 or 4, the more the dearer these are."""
    at, places = equations.patterns, max(len(group.x) for group in equations.groups)
    forming = len(at.n_periods) * places**2 * at.gap.shape[1]
    return int(2 ** np.clip(np.log2(forming / equations.n_coefficients**3), 0, 2).astype(int))


class Drawn(NamedTuple):
    """
    Draws from the posterior, in random order.

    Parameters
    ----------
    node : array of int, shape (N,)
        Node of each draw.
    values : dict of array, each (N, ...)
        Variance parameters, by the names of their laws.
    v : array, shape (N, Q)
        Standardised coefficients.
    """

    node: IntArray
    values: dict[str, FloatArray]
    v: FloatArray


def draw(marginal: Marginal, nodes: Nodes, *, size: int, seed: int) -> Drawn:
    """
    Draw parameters from the mixture over nodes.

    Nodes are drawn systematically, so that each occurs as often as its weight says, up to one; the
    coefficients given a node in pairs that are each other's reflection about their mean. Means of
    draws are therefore closer to those of the posterior than those of as many independent draws.

    Parameters
    ----------
    marginal : Marginal
        The density.
    nodes : Nodes
        Its nodes.
    size : int
        Number of draws.
    seed : int
        Seed.
    """
    rng = generator(seed, "draws")
    picked = resampled(nodes.weights, size, rng)
    values = split_point(marginal.laws, nodes.points[picked])
    v = np.empty((size, marginal.equations.n_coefficients))
    for i in np.unique(picked):
        here = np.flatnonzero(picked == i)
        at = marginal.placed({name: x[here[0]] for name, x in values.items()})[0]
        half = rng.standard_normal((len(at.v), (len(here) + 1) // 2))
        both = np.hstack([half, -half])[:, : len(here)]
        away = solve_root(at.root, both, transposed=True)
        v[here] = at.v + away.T
    return Drawn(picked, values, v)


def effective_sizes(nodes: Nodes, *, draws: int) -> tuple[FloatArray, FloatArray]:
    """
    Return how many independent draws the mean and the tails of each average are worth.

    Two errors add up: that of the weights of the nodes, as if families were independent, and that
    of a finite number of draws.

    Parameters
    ----------
    nodes : Nodes
        Nodes at which averages are known.
    draws : int
        Number of draws.

    Returns
    -------
    bulk, tail : array, shape (k,)
        For the mean; for the worse of the 5 and 95 percent quantiles.
    """
    means, sds = np.array([x.mean for x in nodes.found]), np.array([x.sd for x in nodes.found])
    mean = nodes.weights @ means
    total = nodes.weights @ (sds**2 + np.square(means - mean))
    sizes = [total / np.maximum(nodes.standard_error(means) ** 2, 1e-300)]
    for z in special.ndtri([0.05, 0.95]):
        below = special.ndtr((mean + z * np.sqrt(total) - means) / np.maximum(sds, 1e-300))
        p = nodes.weights @ below
        sizes.append(p * (1 - p) / np.maximum(nodes.standard_error(below) ** 2, 1e-300))
    bulk, low, high = (1.0 / (1.0 / np.maximum(n, 1e-300) + 1.0 / draws) for n in sizes)
    return bulk, np.minimum(low, high)
