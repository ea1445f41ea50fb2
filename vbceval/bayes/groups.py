"""Groups of the tree that checks of a posterior read, whatever engine drew it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.draws import DIMS, Parameters, cluster_terms
from vbceval.bayes.predictive import Discrepancy, check
from vbceval.bayes.priors import Priors, log_density
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_CHECKED_DRAWS = 200


class Once:
    """
    What is computed when it is first asked for; a cached function could not be pickled.

    Parameters
    ----------
    make : callable
        Of nothing.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._found = make, None

    def __call__(self) -> Any:
        """Return what was made."""
        if self._found is None:
            self._found = self._make()
        return self._found


def observed(cells: Cells) -> Any:
    """Return the cells as the model read them: percent of baseline, and their places."""
    import xarray

    columns = {
        "y": cells.y, "precision": cells.layout.precision, "exposure": cells.exposure,
        "cluster": cells.cluster, "effect": cells.effect_of_cell, "stratum": cells.stratum,
        "period": cells.period,
    }  # fmt: skip
    found: dict[str, Any] = {name: (("cell",), values) for name, values in columns.items()}
    found["x"] = (("cell", "covariate"), cells.x)
    return xarray.Dataset(found)


def posterior_check(cells: Cells, tree: Any, *, seed: int) -> Discrepancy:
    """Compare residuals with replicated ones at up to 200 draws, evenly spaced."""
    parameters = Parameters(cells, tree)
    chosen = np.linspace(0, len(parameters) - 1, min(_CHECKED_DRAWS, len(parameters)))
    return check(parameters, chosen.astype(np.int64), generator(seed, "predictive"))


def by_name(found: Discrepancy) -> dict[str, dict[str, float]]:
    """Return the posterior predictive check as a table: observed, replicated, p-value."""
    return {
        name: {"observed": float(o), "replicated": float(r), "p_value": float(p)}
        for name, o, r, p in zip(
            found.names, found.observed.mean(axis=0), found.replicated.mean(axis=0),
            found.p_value, strict=True,
        )
    }  # fmt: skip


def add_groups(
    tree: Any, cells: Cells, priors: Priors, parts: Sequence[str], *, found: Discrepancy,
    prior: FloatArray, averages: FloatArray,
) -> Any:  # fmt: skip
    """
    Add ``log_likelihood`` by cluster, ``log_prior``, ``prior`` and ``posterior_predictive``.

    The likelihood is that of cell means given coefficients and variances, intercepts, shocks and
    organizations' own effects integrated out; variation within cells, which speaks of `person_sd`
    alone, is no part of it. The prior is that of the effect at entry and the spreads of its parts.

    Parameters
    ----------
    tree : DataTree
        With ``posterior``; it is changed and returned.
    cells, priors : Cells, Priors
        The model.
    parts : sequence of str
        Parts of the effect that have a standard deviation.
    found : Discrepancy
        What `posterior_check` returned.
    prior : array, shape (N, J)
        Effects drawn from the prior.
    averages : array, shape (N, k)
        Their averages.
    """
    import xarray

    posterior = tree["posterior"].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    coords = {name: posterior[name].values for name in DIMS}
    parameters = Parameters(cells, tree)
    likelihood, _ = cluster_terms(parameters, np.arange(len(parameters)))
    tree["log_likelihood"] = xarray.Dataset(
        {"cells": ((*DIMS, "cluster"), likelihood.reshape(*shape, -1))},
        coords={**coords, "cluster": [str(c) for c in cells.clusters]},
    )
    entry = posterior["effect_at_entry"].values
    spreads = [posterior[f"{name}_sd"].values for name in parts]
    tree["log_prior"] = xarray.Dataset(
        {"effect": (DIMS, log_density(priors, entry, spreads))}, coords=coords
    )
    tree["prior"] = xarray.Dataset(
        {
            "effect": ((*DIMS, "effect_cell"), prior[None]),
            "average": ((*DIMS, "row"), averages[None]),
        },
        coords={"effect_cell": cells.coords["effect_cell"]},
    )
    tree["posterior_predictive"] = xarray.Dataset(
        {
            "replicated": ((*DIMS, "statistic"), found.replicated[None]),
            "observed": ((*DIMS, "statistic"), found.observed[None]),
        },
        coords={"statistic": list(found.names)},
    )
    return tree
