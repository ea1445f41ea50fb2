"""From coordinates of the sampler to quantities with a name, and what follows from each draw."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Reference, Structure, place, split
from vbceval.bayes.likelihood import Scales, cell_terms, residuals, weights_of_coefficients
from vbceval.bayes.priors import Priors
from vbceval.core.typing import FloatArray, IntArray

DIMS = ("chain", "draw")


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
    import xarray

    found = tree["posterior"].to_dataset()
    out: dict[str, Any] = {}
    rho = np.zeros(())
    if "rho_share" in found:
        rho = 2.0 * found["rho_share"].values - 1.0
        out["rho"] = (DIMS, rho)
    for name in ("common_shock", "stratum_shock"):
        if f"{name}_change" in found:
            out[name] = (DIMS, found[f"{name}_change"].values / np.sqrt(1.0 - rho))
    for name in ("organization_sd", "overlap"):
        if name in found:
            out[name] = (DIMS, found[name].values)
    for name in ("person_sd", "person_factor"):
        if name in found:
            out[name] = ((*DIMS, "stratum"), found[name].values)
    for j, name in enumerate(parts.names[1:]):
        out[f"{name}_sd"] = (DIMS, found["part_sd"].values[..., j])
    entry, effect, period, slope = _means(found, cells, parts, priors, around)
    out["effect_at_entry"] = (DIMS, entry)
    out["effect"] = ((*DIMS, "effect_cell"), effect)
    out["period_effect"] = ((*DIMS, "stratum", "period"), period)
    if cells.covariates:
        out["slope"] = ((*DIMS, "covariate", "period"), slope)
    coords = {name: found[name].values for name in DIMS} | {
        name: values
        for name, values in cells.coords.items()
        if any(name in used for used, _ in out.values())
    }
    tree["posterior"] = xarray.Dataset(out, coords=coords, attrs=found.attrs)
    return tree


def _means(
    found: Any, cells: Cells, parts: Structure, priors: Priors, around: Reference
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the level of effects, effects, period effects and slopes of each draw."""
    coordinates = found["coordinates"].values
    shape = coordinates.shape[:2]
    sds = found["part_sd"].values if "part_sd" in found else np.ones((*shape, 0))
    t, own = len(cells.periods), len(parts.part)
    entry, effect = np.empty(shape), np.empty((*shape, len(cells.effects)))
    period, slope = np.empty((*shape, cells.n_strata, t)), np.empty((*shape, cells.x.shape[1], t))
    for at in np.ndindex(*shape):
        scale, prior = weights_of_coefficients(cells, parts, priors, sds[at])
        v = place(around, coordinates[at], scale, prior).v
        mean = split(parts, v, scale[-own:], cells.n_strata, cells.x.shape[1])
        entry[at] = scale[-own] * v[-own]
        effect[at], period[at], slope[at] = mean.effect, mean.period, mean.slope
    return entry, effect, period, slope


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

        def value(name: str) -> FloatArray:
            return np.asarray(self._at[name][draw]) if name in self._at else np.zeros(())

        person = np.ones(self.cells.n_strata)
        for name in ("person_sd", "person_factor"):
            if name in self._at:
                person = self._at[name][draw]
        return Scales(
            parts=np.zeros(0), specific=value("stratum_shock") ** 2,
            common=value("common_shock") ** 2, lasting=value("organization_sd") ** 2,
            rho=value("rho"), overlap=value("overlap"), person=person,
        )  # fmt: skip


def cluster_terms(parameters: Parameters, chosen: IntArray) -> tuple[FloatArray, FloatArray]:
    """
    Return what each cluster contributes at some draws, exactly.

    Parameters
    ----------
    parameters : Parameters
        Draws, with their cells.
    chosen : array of int, shape (N,)
        Which draws.

    Returns
    -------
    array, shape (N, C)
        Log likelihood of each cluster's cells.
    array, shape (N, C, 2)
        Mean and standard deviation of each cluster's own effect, given its cells and the draw.
    """
    cells = parameters.cells
    likelihood = np.empty((len(chosen), len(cells.clusters)))
    own = np.empty((len(chosen), len(cells.clusters), 2))

    def one(place: int) -> None:
        draw = int(chosen[place])
        found = cell_terms(cells, parameters.residual(draw), parameters.scales(draw))
        likelihood[place], own[place] = found[0], found[5]

    # machine code that lets other threads run: the draws share the cores
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(len(chosen))))
    return likelihood, own


def prior_effects(
    parts: Structure, priors: Priors, rng: np.random.Generator, size: int
) -> FloatArray:
    """Return draws of the treatment effects from their prior, percent of baseline, (size, J)."""
    sds = np.abs(rng.normal(0.0, priors.spread, (size, len(parts.names))))
    sds[:, 0] = priors.effect
    steps = rng.standard_normal((size, len(parts.part)))
    return np.asarray((sds[:, parts.part] * steps) @ parts.loading.T)
