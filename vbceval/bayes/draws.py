"""From coordinates of the sampler to quantities with a name, and what follows from each draw."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Reference, Structure, place, split, structure
from vbceval.bayes.equations import arrange
from vbceval.bayes.heavy import heavy_values, horseshoe_draws, mixed_likelihood
from vbceval.bayes.hyper import SHOCKS, natural_values, scales_at
from vbceval.bayes.likelihood import Scales, cell_terms, noise, residuals, weights_of_coefficients
from vbceval.bayes.priors import Priors
from vbceval.core.typing import FloatArray, IntArray

DIMS = ("chain", "draw")

_AT_ONCE = 20_000_000
"""Residuals of draws that a thread holds at once, so that memory is bounded."""


def natural(tree: Any, cells: Cells, parts: Structure, priors: Priors, around: Reference) -> Any:
    """
    Return the tree with its posterior in quantities that can be read.

    Parameters
    ----------
    tree : DataTree
        What `vbceval.bayes.sample.sample` returned for `vbceval.bayes.model.build`.
    cells, parts, priors, around
        What the model was built from.

    Returns
    -------
    DataTree
        ``posterior`` holds, in percent of baseline: ``effect`` (one for each cohort x event time x
        stratum), ``effect_at_entry`` (their common level), ``period_effect`` (S, T), ``slope``
        (p, T) where there are covariates; standard deviations ``common_shock``, ``stratum_shock``,
        ``organization_sd``, those of the parts of the effect (``cohort_sd``, ...),
        ``person_sd`` where it is estimated, or ``person_factor`` by which the stated one is
        multiplied; and ``rho``, ``overlap``. What the model does not have
        is absent.
    """
    found = tree["posterior"].to_dataset()
    values = {name: found[name].values for name in found.data_vars}
    for name in SHOCKS:
        if f"{name}_change" in values:
            share = values.get("rho_share", np.full((), 0.5))
            change = values[f"{name}_change"]
            # (chain, draw), or with strata behind
            share = share.reshape(share.shape + (1,) * (change.ndim - 2)) if share.ndim else share
            values[name] = change / np.sqrt(1.0 - (2.0 * share - 1.0))
    values |= heavy_values(values, parts)
    coordinates = values["coordinates"]
    v = np.empty_like(coordinates)
    for at in np.ndindex(*coordinates.shape[:2]):
        scale, prior = _weights(values, at, cells, parts, priors)
        v[at] = place(around, coordinates[at], scale, prior).v
    tree["posterior"] = dataset(values, v, cells, parts, priors).assign_attrs(found.attrs)
    return tree


def dataset(
    values: Mapping[str, FloatArray], v: FloatArray, cells: Cells, parts: Structure, priors: Priors
) -> Any:
    """
    Return draws as a data set with names.

    Parameters
    ----------
    values : mapping of array, each (chains, draws, ...)
        Variance parameters by the names of their laws (see `vbceval.bayes.hyper.Law`).
    v : array, shape (chains, draws, Q)
        Standardised coefficients.
    cells, parts, priors
        The model.

    Returns
    -------
    Dataset
        As `natural` says.
    """
    import xarray

    out: dict[str, Any] = {}
    for name, found in natural_values(values, parts).items():
        of = {"shock_scale": "cluster", "local_scale": "coefficient"}.get(name, "stratum")
        out[name] = ((*DIMS, of) if found.ndim > 2 else DIMS, found)
    entry, effect, period, slope = _means(values, v, cells, parts, priors)
    out["effect_at_entry"] = (DIMS, entry)
    out["effect"] = ((*DIMS, "effect_cell"), effect)
    out["period_effect"] = ((*DIMS, "stratum", "period"), period)
    if cells.covariates:
        out["slope"] = ((*DIMS, "covariate", "period"), slope)
    coords: dict[str, Any] = {name: np.arange(n) for name, n in zip(DIMS, v.shape, strict=False)}
    coords |= {
        name: values
        for name, values in cells.coords.items()
        if any(name in used for used, _ in out.values())
    }
    return xarray.Dataset(out, coords=coords)


def _means(
    values: Mapping[str, FloatArray], v: FloatArray, cells: Cells, parts: Structure, priors: Priors
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the level of effects, effects, period effects and slopes of each draw."""
    shape = v.shape[:2]
    t, own = len(cells.periods), len(parts.part)
    entry, effect = np.empty(shape), np.empty((*shape, len(cells.effects)))
    period, slope = np.empty((*shape, cells.n_strata, t)), np.empty((*shape, cells.x.shape[1], t))
    for at in np.ndindex(*shape):
        scale, _ = _weights(values, at, cells, parts, priors)
        mean = split(parts, v[at], scale[-own:], cells.n_strata, cells.x.shape[1])
        entry[at] = parts.centre + scale[-own] * v[at][-own]
        effect[at], period[at], slope[at] = mean.effect, mean.period, mean.slope
    return entry, effect, period, slope


def _weights(
    values: Mapping[str, FloatArray], at: tuple[int, ...], cells: Cells, parts: Structure,
    priors: Priors,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return what `vbceval.bayes.likelihood.weights_of_coefficients` does, at one draw."""
    sds = values["part_sd"][at] if "part_sd" in values else np.zeros(0)
    local = values["local_scale"][at] if "local_scale" in values else 1.0
    return weights_of_coefficients(cells, parts, priors, sds, local)


def flatten(tree: Any, name: str) -> FloatArray:
    """Return draws of one variable with chains joined, shape (N, ...)."""
    values = np.asarray(tree["posterior"][name].values, dtype=float)
    return values.reshape(-1, *values.shape[2:])


class Parameters:
    """
    The posterior's parameters, draw by draw, chains joined.

    Parameters
    ----------
    cells : Cells
        The cells of the fit.
    tree : DataTree
        With the posterior that `natural` made.
    """

    def __init__(self, cells: Cells, tree: Any) -> None:
        self.cells = cells
        self._at = {str(name): flatten(tree, str(name)) for name in tree["posterior"].data_vars}

    def __len__(self) -> int:
        return len(self._at["effect"])

    def effect(self, draw: int) -> FloatArray:
        """Return treatment effects, percent of baseline, shape (J,)."""
        return np.asarray(self._at["effect"][draw])

    def residual(self, draw: int) -> FloatArray:
        """Return the cells minus their mean, shape (K,)."""
        slope = self._at["slope"][draw] if "slope" in self._at else np.zeros((0, 0))
        return residuals(
            self.cells, self._at["period_effect"][draw], slope, self._at["effect"][draw]
        )

    def scales(self, draw: int) -> Scales:
        """Return variances, autocorrelation and shares; 0 for what the model does not have."""
        return scales_at({name: values[draw] for name, values in self._at.items()}, self.cells)

    def degrees(self, draw: int) -> float | None:
        """Return the degrees of freedom of shocks; None where they are normal."""
        return float(self._at["degrees"][draw]) if "degrees" in self._at else None


def cluster_terms(
    parameters: Parameters, chosen: IntArray, *, likelihood: bool = True
) -> tuple[FloatArray, FloatArray]:
    """
    Return what each cluster contributes at some draws, exactly.

    Parameters
    ----------
    parameters : Parameters
        Draws, with their cells.
    chosen : array of int, shape (N,)
        Which draws.
    likelihood : bool, default True
        False leaves out log likelihoods where they cost much: of Student t shocks.

    Returns
    -------
    array, shape (N, C)
        Log likelihood of each cluster's cells; missing where left out. Of Student t shocks, with their scale in the cluster
        integrated out.
    array, shape (N, C, 2)
        Mean and standard deviation of each cluster's own effect, given its cells and the draw.
    """
    cells = parameters.cells
    if len(chosen) and parameters.degrees(int(chosen[0])) is not None:
        return _student_terms(parameters, chosen, likelihood)
    equations = arrange(cells, structure(cells))
    found_likelihood = np.empty((len(chosen), len(cells.clusters)))
    own = np.empty((len(chosen), len(cells.clusters), 2))
    alike: dict[tuple[float, ...], list[int]] = {}
    for position, draw in enumerate(chosen):
        scales = parameters.scales(int(draw))
        key = (*scales.four, *scales.ratio, float(scales.overlap), *scales.person)
        alike.setdefault(key, []).append(position)

    def some(places: list[int]) -> None:
        # draws of one node have the same variances, and so the same factors
        residual = np.array([parameters.residual(int(chosen[i])) for i in places])
        scales = parameters.scales(int(chosen[places[0]]))
        found = equations.clusters(residual, *noise(scales), scales.four, scales.ratio)
        found_likelihood[places], own[places] = found

    step = max(1, _AT_ONCE // len(cells.y))
    parts = [p[i : i + step] for p in alike.values() for i in range(0, len(p), step)]
    # machine code that lets other threads run: the draws share the cores
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(some, parts))
    return found_likelihood, own


def _student_terms(
    parameters: Parameters, chosen: IntArray, wanted: bool
) -> tuple[FloatArray, FloatArray]:
    """Do the work of `cluster_terms` where every organization has a scale of its own."""
    cells = parameters.cells
    likelihood = np.full((len(chosen), len(cells.clusters)), np.nan)
    own = np.empty((len(chosen), len(cells.clusters), 2))

    def one(place: int) -> None:
        draw = int(chosen[place])
        residual, scales = parameters.residual(draw), parameters.scales(draw)
        own[place] = cell_terms(cells, residual, scales)[5]

        def at(stretch: float) -> FloatArray:
            return cell_terms(cells, residual, scales._replace(stretch=np.array(stretch)))[0]

        degrees = parameters.degrees(draw)
        if wanted and degrees is not None:
            likelihood[place] = mixed_likelihood(at, degrees)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(len(chosen))))
    return likelihood, own


def prior_effects(
    parts: Structure, priors: Priors, rng: np.random.Generator, size: int, *,
    horseshoe: bool = False,
) -> FloatArray:  # fmt: skip
    """Return draws of the treatment effects from their prior, percent of baseline, (size, J)."""
    sds = np.abs(rng.normal(0.0, priors.spread, (size, len(parts.names))))
    sds[:, 0] = priors.effect
    steps = rng.standard_normal((size, len(parts.part)))
    own = sds[:, parts.part]
    if horseshoe:
        own = own * horseshoe_draws(parts, own, rng)
    return np.asarray(parts.centre + (own * steps) @ parts.loading.T)
