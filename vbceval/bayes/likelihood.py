"""Log density of cells and coefficients given the standard deviations, with its derivative."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import (
    Reference,
    Structure,
    place,
    pull_back,
    split,
)
from vbceval.bayes.marginal import compiled
from vbceval.bayes.priors import Priors
from vbceval.core.typing import FloatArray


class Scales(NamedTuple):
    """
    Everything that is not a coefficient of the mean, on its natural scale.

    Parameters
    ----------
    parts : array, shape (P,)
        Standard deviations of the parts of the effect after the first (see `PARTS`).
    specific : array, shape () or (S,)
        Variance of stratum x period shocks, percent of baseline squared, or one for each stratum.
    common, lasting, rho : array, shape ()
        Variances of period shocks and of organizations' own effects, and the autocorrelation of
        shocks.
    overlap : array, shape ()
        Share of noise that cells of one organization, stratum and period have in common.
    person : array, shape (S,)
        Standard deviation of one person-year in percent of baseline; 1 where it is in the weights.
    stretch : array, shape () or (C,), default 1
        By which the variances of an organization's shocks are multiplied.
    local : array, shape () or (q,), default 1
        By which the standard deviation of each coefficient of effects is multiplied.
    """

    parts: Any
    specific: Any
    common: Any
    lasting: Any
    rho: Any
    overlap: Any
    person: Any
    stretch: Any = np.ones(())
    local: Any = np.ones(())

    @property
    def four(self) -> FloatArray:
        """(specific, common, lasting, rho) as the marginal likelihood takes them; see `ratio`."""
        specific = 1.0 if np.ndim(self.specific) else self.specific
        return np.array([specific, self.common, self.lasting, self.rho], dtype=float)

    @property
    def ratio(self) -> FloatArray:
        """By which the variance of each stratum's shocks is multiplied, shape (S,)."""
        return np.asarray(self.specific if np.ndim(self.specific) else np.ones(len(self.person)))

    def multipliers(self, n_clusters: int) -> FloatArray:
        """Return `ratio` and `stretch` as the marginal likelihood takes them, shape (C, 1 + S)."""
        stretch = np.broadcast_to(self.stretch, n_clusters)
        return np.outer(stretch, np.append(1.0, self.ratio))


def residuals(
    cells: Cells, period: FloatArray, slope: FloatArray, effect: FloatArray
) -> FloatArray:
    """
    Return the cells minus their mean, up to the intercept of their block, shape (K,).

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    period, slope, effect : array, shapes (S, T), (p, T), (J,)
        As in `vbceval.bayes.coefficients.Coefficients`.
    """
    expected = period[cells.stratum, cells.period] + np.append(effect, 0.0)[cells.effect_of_cell]
    if cells.x.shape[1]:
        expected = expected + np.einsum("kp,pk->k", cells.x, slope[:, cells.period])
    return np.asarray(cells.y - expected)


def cell_terms(cells: Cells, residual: FloatArray, scales: Scales) -> tuple[FloatArray, ...]:
    """Return what `vbceval.bayes.marginal.compiled` returns, at these residuals and scales."""
    phi, shared = noise(scales)
    stretch = scales.multipliers(len(cells.clusters))
    return tuple(compiled()(residual, phi, shared, scales.four, stretch, cells.layout))


def noise(scales: Scales) -> tuple[FloatArray, FloatArray]:
    """Return (phi, shared), both shape (S,), as the marginal likelihood takes them."""
    variance = scales.person**2
    return 1.0 / ((1.0 - scales.overlap) * variance), scales.overlap * variance


def spread_within(cells: Cells, variance: FloatArray) -> float:
    """Return the log likelihood of the variation between persons within cells, at their variance."""
    if cells.within is None:
        return 0.0
    dof, squares = cells.within
    return -0.5 * float((dof * np.log(variance) + squares / variance).sum())


def joint(
    cells: Cells, parts: Structure, priors: Priors, v: FloatArray, scales: Scales
) -> tuple[float, FloatArray, Scales]:
    """
    Return log p(cells, coefficients | standard deviations) and its derivatives.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        How coefficients make the mean.
    priors : Priors
        Prior scales.
    v : array, shape (Q,)
        Standardised coefficients (see `split`).
    scales : Scales
        Everything else.

    Returns
    -------
    float
        Up to a constant that depends on the data only through their number.
    array, shape (Q,)
        Derivative by `v`.
    Scales
        Derivatives by each of `scales`.
    """
    base = np.concatenate([[priors.effect], scales.parts])[parts.part]
    sds = base * scales.local
    mean = split(parts, v, sds, cells.n_strata, cells.x.shape[1])
    residual = residuals(cells, mean.period, mean.slope, mean.effect)
    found = cell_terms(cells, residual, scales)
    _, score, d_phi, d_shared, d_four, _, d_multiplier = found
    trend, slope, steps = mean.steps
    d_trend, d_slope, d_effect = _by_coefficient(cells, parts, score, len(mean.effect))
    pull = parts.loading.T @ d_effect
    d_v = np.concatenate(
        [
            (d_trend - trend / priors.period**2).ravel(),
            (d_slope - slope / priors.covariate**2).ravel(),
            sds * pull - steps,
        ]
    )
    value = float(found[0].sum()) - 0.5 * float(
        (trend**2).sum() / priors.period**2 + (slope**2).sum() / priors.covariate**2
        + (steps**2).sum()
    )  # fmt: skip
    variance = scales.person**2
    d_variance = -d_phi / ((1.0 - scales.overlap) * variance**2) + d_shared * scales.overlap
    if cells.within is not None:
        dof, squares = cells.within
        value += spread_within(cells, variance)
        d_variance = d_variance - 0.5 * (dof / variance - squares / variance**2)
    by_cluster = d_multiplier @ np.append(1.0, scales.ratio)
    stretch = np.broadcast_to(scales.stretch, len(by_cluster))
    by_sd = steps * pull
    by_part = np.bincount(parts.part, by_sd * scales.local, minlength=len(scales.parts) + 1)
    by_local = by_sd * base
    slopes = Scales(
        parts=by_part[1:],
        specific=stretch @ d_multiplier[:, 1:] if np.ndim(scales.specific) else d_four[0],
        common=d_four[1], lasting=d_four[2], rho=d_four[3],
        overlap=(d_phi / ((1.0 - scales.overlap) ** 2 * variance) + d_shared * variance).sum(),
        person=2.0 * scales.person * d_variance,
        stretch=by_cluster if np.ndim(scales.stretch) else by_cluster.sum(),
        local=by_local if np.ndim(scales.local) else by_local.sum(),
    )  # fmt: skip
    return value, d_v, slopes


def _by_coefficient(
    cells: Cells, parts: Structure, score: FloatArray, n_effects: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Turn derivatives by eta into derivatives by trend and slope coefficients and by effects."""
    t = len(cells.periods)
    by_period = np.bincount(cells.stratum * t + cells.period, score, minlength=cells.n_strata * t)
    d_slope = np.empty((cells.x.shape[1], t))
    for j, column in enumerate(cells.x.T):
        d_slope[j] = np.bincount(cells.period, score * column, minlength=t)
    # untreated cells have code -1, so that code + 1 puts them first
    d_effect = np.bincount(cells.effect_of_cell + 1, score, minlength=n_effects + 1)[1:]
    d_trend = by_period.reshape(cells.n_strata, t) @ parts.zero_sum
    return d_trend, d_slope @ parts.zero_sum, d_effect


def weights_of_coefficients(
    cells: Cells, parts: Structure, priors: Priors, part_sds: FloatArray,
    local: FloatArray | float = 1.0,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return what multiplies each coefficient, and its prior precision, both shape (Q,)."""
    width = len(cells.periods) - 1
    n_trend, n_slope = cells.n_strata * width, cells.x.shape[1] * width
    sds = np.concatenate([[priors.effect], part_sds])[parts.part] * local
    scale = np.concatenate([np.ones(n_trend + n_slope), sds])
    prior = np.ones(len(scale))
    prior[:n_trend] = 1.0 / priors.period**2
    prior[n_trend : n_trend + n_slope] = 1.0 / priors.covariate**2
    return scale, prior


def density(
    cells: Cells, parts: Structure, priors: Priors, around: Reference, coordinates: FloatArray,
    scales: Scales,
) -> tuple[float, FloatArray, Scales]:  # fmt: skip
    """
    Return `joint` as a density of coordinates (see `place`), and its derivatives.

    Parameters are those of `joint`, with coordinates, shape (Q,), in the place of coefficients.
    """
    scale, prior = weights_of_coefficients(cells, parts, priors, scales.parts, scales.local)
    try:
        at = place(around, coordinates, scale, prior)
    except np.linalg.LinAlgError:
        # standard deviations beyond floating point: the sampler takes the step back
        nowhere = Scales(*[np.zeros(np.shape(x)) for x in scales])
        return -np.inf, np.zeros(len(coordinates)), nowhere
    value, by_v, slopes = joint(cells, parts, priors, at.v, scales)
    by_z, by_scale = pull_back(around, at, by_v)
    own = by_scale[len(scale) - len(parts.part) :]
    base = np.concatenate([[priors.effect], scales.parts])[parts.part]
    by_part = np.bincount(parts.part, own * scales.local, minlength=len(parts.names))
    by_local = own * base if np.ndim(scales.local) else (own * base).sum()
    slopes = slopes._replace(parts=slopes.parts + by_part[1:], local=slopes.local + by_local)
    return value + at.log_jacobian, by_z, slopes


@functools.cache
def operation() -> Any:
    """
    Return the class of a PyTensor operation that computes `density`.

    Its only argument is a function of (coordinates, *scales) that returns what `density` does. The
    data stay behind that function, out of the graph: compiled into it, they and the likelihood would
    be optimised anew for every model, which takes minutes.
    """
    import warnings

    import pytensor.tensor as pt
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
    from pytensor.link.numba.dispatch import basic as numba_dispatch

    class Joint(Op):
        """Log density, then its derivatives by coordinates and scales."""

        def __init__(self, function: Any) -> None:
            self.function = function

        def make_node(self, *inputs: Any) -> Any:
            # a constant 0.0 is of low precision by default, and so would its derivative be
            inputs = tuple(pt.cast(pt.as_tensor_variable(x), "float64") for x in inputs)
            slopes = [x.type() for x in inputs]
            return Apply(self, list(inputs), [pt.scalar(dtype="float64"), *slopes])

        def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
            value, by_coordinate, by_scale = self.function(*inputs)
            results = (value, by_coordinate, *by_scale)
            for store, result in zip(output_storage, results, strict=True):
                store[0] = np.asarray(result, dtype=float)

        def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
            return [cotangents[0] * x for x in outputs[1:]]

        def connection_pattern(self, node: Any) -> list[list[bool]]:
            # only the first output is ever differentiated
            return [[j == 0 for j in range(len(node.outputs))] for _ in node.inputs]

    fallback: Any = numba_dispatch.generate_fallback_impl

    @numba_dispatch.numba_funcify.register(Joint)
    def _(op: Any, node: Any, **_: Any) -> Any:
        # it says that the operation runs through the interpreter, which is meant
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return fallback(op, node)

    return Joint
