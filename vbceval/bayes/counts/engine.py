"""Nested Laplace: coefficients and random effects approximated, variances integrated by nodes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.counts.field import Field, Spread, arrange
from vbceval.bayes.counts.laplace import Approximation, At, approximate, first_guess
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.hyper import Law, laws, natural_values, scales_at, split_point
from vbceval.bayes.likelihood import weights_of_coefficients
from vbceval.bayes.quadrature import Integration, Nodes, Start, climb, integrate
from vbceval.core.errors import EstimationError
from vbceval.core.typing import BoolArray, FloatArray

_AT_ONCE = 2_000_000
"""Numbers in the covariances of points that are worked on at once: few enough for fast memory."""
_SAMPLE = 64
"""Organizations of a first search for the mode."""
LARGEST_SHIFT = 0.5
"""Largest correction of a reported average or a variance parameter, in its posterior sds."""


class Found(NamedTuple):
    """
    What is known at a value of the variance parameters.

    Parameters
    ----------
    log_density : float
        Log density of the coordinates and the counts, up to a constant.
    mean, sd : array, shape (k,)
        Law of the averages of effects on the scale of the model: normal.
    shift : array, shape (k,)
        What was added to their modes.
    correction : float
        Part of `log_density` beyond Laplace's approximation.
    """

    log_density: float
    mean: FloatArray
    sd: FloatArray
    shift: FloatArray
    correction: float


def count_laws(found: Field, priors: RatePriors, active: BoolArray) -> tuple[Law, ...]:
    """
    Return the priors of everything that is not a coefficient of the mean or a random effect.

    Parameters
    ----------
    found : Field
        Counts.
    priors : RatePriors
        Prior scales.
    active : array of bool, shape (4,)
        See `vbceval.bayes.model.active_scales`.
    """
    shared = laws(found.data.cells, found.parts, priors.coefficients, active, person_log_sd=0.0)
    # cells of one organization, stratum and period in several units are counts of their own
    out = [law for law in shared if law.name != "overlap"]
    out.append(Law("intercept_sd", "half_normal", (priors.intercept,)))
    if found.several:
        out.append(Law("unit_sd", "half_normal", (priors.intercept,)))
    if found.data.family == "negative_binomial":
        out.append(Law("dispersion", "half_normal", (priors.dispersion,)))
    return tuple(out)


@dataclass(frozen=True, eq=False, kw_only=True)
class CountMarginal:
    """
    Density of the variance parameters, the latent field approximated.

    Parameters
    ----------
    grid : Field
        Counts, arranged.
    priors : RatePriors
        Prior scales.
    laws : tuple of Law
        Priors of the variance parameters.
    active : array of bool, shape (4,)
        See `vbceval.bayes.model.active_scales`.
    averages : array, shape (k, J)
        Averages of effects on the scale of the model.
    """

    grid: Field
    priors: RatePriors
    laws: tuple[Law, ...]
    active: BoolArray
    averages: FloatArray
    _warm: list[tuple[float, list[FloatArray]]] = field(
        init=False, default_factory=list, repr=False
    )

    @property
    def names(self) -> list[str]:
        """Name of each coordinate; of shocks and dispersion, `confounded`, the first is their size."""
        out = [name for law in self.laws for name in law.names]
        if self.confounded:
            (shock, dispersion), name = self.confounded, out[self.confounded[0]]
            out[shock] = f"size of {name} and dispersion"
            out[dispersion] = f"share of dispersion beside {name}"
        return out

    @functools.cached_property
    def confounded(self) -> tuple[int, int] | None:
        """Places of the shocks that are one a cell and of the dispersion, where both are there."""
        names = [name for law in self.laws for name in law.names]
        if "dispersion" not in names:
            return None
        shock = next((x for x in ("stratum_shock", "common_shock") if x in names), None)
        return None if shock is None else (names.index(shock), names.index("dispersion"))

    def split(self, points: FloatArray) -> dict[str, FloatArray]:
        """Return variance parameters by the names of their laws at points, shape (P, d)."""
        if self.confounded:
            points = from_polar(points, *self.confounded)
        return split_point(self.laws, points)

    @property
    def costly(self) -> BoolArray:
        """All coordinates: the curvature of the likelihood depends on each."""
        return np.ones(len(self.names), dtype=bool)

    @property
    def at_once(self) -> int:
        """How many points are worked on at once."""
        q = self.grid.n_coefficients
        size = sum(int(b.y.size) * int(b.y.shape[1]) for b in self.grid.blocks)
        return max(1, _AT_ONCE // (size + q * q))

    def __call__(self, points: FloatArray) -> Sequence[Found]:
        """Evaluate the density at points, shape (N, d), and the law of the averages there."""
        out: list[Found] = []
        for begin in range(0, len(points), self.at_once):
            out += self._some(points[begin : begin + self.at_once])
        return out

    def values(self, points: FloatArray) -> At:
        """Return variances and prior precisions at points, shape (P, d)."""
        return self.at(self.split(points), len(points))

    def at(self, values: Mapping[str, FloatArray], p: int) -> At:
        """Return variances and prior precisions at P values, by the names of their laws."""
        cells, parts = self.grid.data.cells, self.grid.parts

        def value(name: str) -> FloatArray:
            return np.asarray(values.get(name, np.zeros(p)))

        scales = scales_at(natural_values(values, parts), cells)
        common, specific, lasting, rho = (
            np.broadcast_to(np.asarray(s, dtype=float), p)
            for s in (scales.common, scales.specific, scales.lasting, scales.rho)
        )
        spread = Spread(
            value("intercept_sd") ** 2, value("unit_sd") ** 2, common, specific, lasting, rho,
            value("dispersion"),
        )  # fmt: skip
        sds = np.hstack(
            [np.full((p, 1), self.priors.effect), values.get("part_sd", np.zeros((p, 0)))]
        )
        scale, prior = self._weights
        scale = np.tile(scale, (p, 1))
        scale[:, -len(parts.part) :] = sds[:, parts.part]
        return At(scale, np.tile(prior, (p, 1)), spread)

    @functools.cached_property
    def _weights(self) -> tuple[FloatArray, FloatArray]:
        """What multiplies coefficients, those of effects left out, and their prior precision."""
        cells, parts = self.grid.data.cells, self.grid.parts
        none = np.zeros(len(parts.names) - 1)
        scale, prior = weights_of_coefficients(cells, parts, self.priors.coefficients, none)
        first = np.full(self.grid.n_fixed, 1.0 / self.priors.covariate**2)
        first[: len(self.grid.levels)] = 1.0 / self.priors.level**2
        return np.append(np.ones(len(first)), scale), np.append(first, prior)

    @functools.cached_property
    def prior_sd(self) -> FloatArray:
        """Prior standard deviation of each coefficient."""
        return np.asarray(1.0 / np.sqrt(self._weights[1]))

    def approximated(self, points: FloatArray) -> Approximation:
        """Return the law of the latent field at points, shape (P, d), P at most `at_once`."""
        p = len(points)
        guess = first_guess(self.grid, p)
        if self._warm:
            guess = [np.broadcast_to(eta, (p, *eta.shape)) for eta in self._warm[0][1]]
        return approximate(self.grid, self.values(points), guess)

    def _some(self, points: FloatArray) -> list[Found]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            at = self.approximated(points)
        log_density = at.log_density - 0.5 * np.square(points).sum(axis=1)
        log_density = np.where(np.isfinite(log_density), log_density, -np.inf)
        best = int(log_density.argmax())
        if not self._warm or log_density[best] > self._warm[0][0]:
            # modes are near each other: the best one met so far is a good start for all
            kept = (float(log_density[best]), [eta[best] for eta in at.state.eta])
            self._warm[:] = [kept]
        own = len(self.grid.parts.part)
        scale = self.values(points).scale[:, -own:]
        pull = self.averages @ self.grid.parts.loading * scale[:, None, :]
        mode = (pull @ at.state.v[:, -own:, None])[..., 0]
        shift = (pull @ at.shift[:, -own:, None])[..., 0]
        away = np.linalg.solve(at.root, _padded(pull, at.root.shape[1]))
        sd = np.sqrt(np.square(away).sum(axis=1))
        return [
            Found(
                float(log_density[i]), mode[i] + shift[i], sd[i], shift[i], float(at.correction[i])
            )
            for i in range(len(points))
        ]


def from_polar(points: FloatArray, first: int, second: int) -> FloatArray:
    """
    Return points whose coordinates `first` and `second` were size and share of a pair.

    A shock of its own for each cell and a dispersion both say how much cells vary beyond chance,
    so counts settle little but their common size: in their own coordinates the posterior is a bent
    ridge, of which nodes about the mode reach one end. Two standard half-normal numbers are a size
    of law chi(2) and an independent, uniform angle, so these have standard normal coordinates too.
    """
    size = np.sqrt(-2.0 * special.log_ndtr(-points[..., first]))
    angle = 0.5 * np.pi * special.ndtr(points[..., second])
    # from the other end where it is the nearer one, so that neither share is lost to rounding
    rest = 0.5 * np.pi * special.ndtr(-points[..., second])
    out = points.copy()
    for place, share in ((first, np.sin(rest)), (second, np.sin(angle))):
        folded = size * share / np.sqrt(2.0)
        low, high = special.erf(folded), special.erfc(folded)
        out[..., place] = np.where(low < 0.5, special.ndtri(low), -special.ndtri(high))
    return out


def _padded(pull: FloatArray, q: int) -> FloatArray:
    """Return averages as columns over all coefficients, shape (P, q, k)."""
    out = np.zeros((len(pull), q, pull.shape[1]))
    out[:, q - pull.shape[2] :] = pull.transpose(0, 2, 1)
    return out


def integrate_counts(model: CountMarginal, *, nodes: int, seed: int) -> tuple[Nodes, Integration]:
    """
    Integrate the variance parameters of a model of counts.

    Parameters
    ----------
    model : CountMarginal
        Their density.
    nodes : int
        Points of the first pass, a power of two.
    seed : int
        Seed.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    d = len(model.names)
    start = Start(np.zeros(d), np.eye(d))
    every = len(model.grid.data.cells.clusters) // _SAMPLE
    if d and every >= 2:
        # most of the way to the mode on a sample of organizations
        some = arrange(model.grid.data, model.grid.parts, every=every)
        start = climb(replace(model, grid=some), start)
        start = Start(start.point, start.spread / every)
    return integrate(model, start, families=nodes, each=1, seed=seed)


class LaplaceError(NamedTuple):
    """
    How far the next order moved what is reported, in posterior standard deviations.

    Parameters
    ----------
    mean_shift : float
        Largest mean minus mode of an average, given variances.
    weight_shift : float
        Largest change of the mean of an average by the terms of next order in the density of
        variances.
    variance_shift : float
        The same of the coordinate of a variance parameter.
    worst : str
        What moved most.
    """

    mean_shift: float
    weight_shift: float
    variance_shift: float
    worst: str


def laplace_error(nodes: Nodes, averages: Sequence[str], parameters: Sequence[str]) -> LaplaceError:
    """
    Return the size of corrections; what they leave is of yet higher order.

    Parameters
    ----------
    nodes : Nodes
        Nodes of the variance parameters.
    averages, parameters : sequence of str
        Names of the averages and of the coordinates.
    """
    weights = nodes.weights
    means, sds, shifts = (
        np.array([getattr(x, name) for x in nodes.found]) for name in ("mean", "sd", "shift")
    )
    mean = weights @ means
    total = np.sqrt(np.maximum(weights @ (sds**2 + np.square(means - mean)), 1e-300))
    correction = np.array([x.correction for x in nodes.found])
    seen = weights > 0
    plain = np.zeros(len(weights))
    plain[seen] = weights[seen] * np.exp(correction[seen].min() - correction[seen])
    plain /= plain.sum()
    centre = weights @ nodes.points
    spread = np.sqrt(np.maximum(weights @ np.square(nodes.points - centre), 1e-300))
    moved = (
        np.abs(weights @ shifts) / total,
        np.abs(plain @ means - mean) / total,
        np.abs(plain @ nodes.points - centre) / spread,
    )
    names = [*averages, *averages, *parameters]
    worst = names[int(np.concatenate(moved).argmax())]
    first, second, third = (float(x.max(initial=0.0)) for x in moved)
    return LaplaceError(first, second, third, worst)


def require_small(found: LaplaceError) -> None:
    """
    Refuse a posterior that the approximation does not reach.

    Parameters
    ----------
    found : LaplaceError
        What `laplace_error` returned.

    Raises
    ------
    EstimationError
        If a correction is above half a posterior standard deviation.
    """
    largest = max(found.mean_shift, found.weight_shift, found.variance_shift)
    if not largest <= LARGEST_SHIFT:
        raise EstimationError(
            f"Laplace's approximation cannot be trusted: the terms of the next order move "
            f"`{found.worst}` by {largest:.2f} posterior standard deviations (limit "
            f"{LARGEST_SHIFT:g}). Events are too few for it. Remedy: use engine='nuts', or coarser "
            "periods or strata."
        )
