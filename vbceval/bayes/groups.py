"""Groups of the tree that checks of a posterior read, whatever engine drew it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.bayes.checks import Convergence
from vbceval.bayes.draws import DIMS, Parameters, cluster_terms
from vbceval.bayes.predictive import Discrepancy, Places, check, replicated
from vbceval.bayes.priors import Priors, log_density
from vbceval.core.errors import EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.estimates import Estimates

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


def add_data(tree: Any, seen: Any, outcome: str) -> None:
    """
    Add what was observed: the outcome, and beside it what the model takes as given.

    Parameters
    ----------
    tree : DataTree
        It is changed.
    seen : Dataset
        Of `observed`.
    outcome : str
        What ``observed_data`` holds; the rest is ``constant_data``. ArviZ pairs every variable of
        the first with replicated ones.
    """
    tree["observed_data"] = seen[[outcome]]
    tree["constant_data"] = seen.drop_vars(outcome)


def same_data(tree: Any, seen: Any) -> bool:
    """Return whether a tree holds the cells that `observed` returned."""
    kept = tree["observed_data"].to_dataset().merge(tree["constant_data"].to_dataset())
    return bool(kept.equals(seen))


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
    prior: FloatArray, averages: FloatArray, before: Callable[[], FloatArray], seed: int,
) -> Any:  # fmt: skip
    """
    Add ``log_likelihood`` by cluster, ``log_prior``, ``prior``, predictive cells, checks.

    ``posterior_predictive`` has the cells of `vbceval.bayes.predictive.replicated`, in percent of
    baseline, ``prior_predictive`` those of `vbceval.bayes.simulated.prior_cells`;
    ``predictive_checks`` has statistics of residuals, observed and replicated.

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
    before : callable
        Makes cells drawn from the prior.
    seed : int
        Of the replicated cells.
    """
    parameters = Parameters(cells, tree)
    likelihood, _ = cluster_terms(parameters, np.arange(len(parameters)))
    return attach_groups(
        tree, cells, priors, parts, likelihood=likelihood, found=found, prior=prior,
        averages=averages, again={"y": replicated(parameters, generator(seed, "replicated"))},
        before={"y": before()},
    )  # fmt: skip


def attach_groups(
    tree: Any, cells: Cells, priors: Priors, parts: Sequence[str], *, likelihood: FloatArray,
    found: Discrepancy, prior: FloatArray, averages: FloatArray, again: Mapping[str, FloatArray],
    before: Mapping[str, FloatArray],
) -> Any:  # fmt: skip
    """
    Add what `add_groups` adds, given the log likelihood of each draw and cluster, shape (N, C).

    ``again`` and ``before`` hold the outcome replicated, and drawn from the prior, by its name in
    ``observed_data``, shape (D, K) each. Other parameters are those of `add_groups`.
    """
    import xarray

    posterior = tree["posterior"].to_dataset()
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    coords = {name: posterior[name].values for name in DIMS}
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
    for group, drawn in (("posterior_predictive", again), ("prior_predictive", before)):
        tree[group] = xarray.Dataset(
            {name: ((*DIMS, "cell"), values[None]) for name, values in drawn.items()}
        )
    tree["predictive_checks"] = xarray.Dataset(
        {
            "replicated": ((*DIMS, "statistic"), found.replicated[None]),
            "observed": ((*DIMS, "statistic"), found.observed[None]),
        },
        coords={"statistic": list(found.names)},
    )
    if found.places is not None:
        tree["predictive_checks"] = by_place(tree["predictive_checks"].to_dataset(), found.places)
    return tree


def by_place(dataset: Any, places: Places) -> Any:
    """Return a data set with statistics by stratum and period (see `predictive_table`)."""
    at = {
        "place_statistic": list(places.statistic), "place_stratum": list(places.stratum),
        "place_period": places.period, "place_cells": places.n_cells,
    }  # fmt: skip
    return dataset.assign(
        replicated_by_place=((*DIMS, "place"), places.replicated[None]),
        observed_by_place=((*DIMS, "place"), places.observed[None]),
    ).assign_coords({name: ("place", values) for name, values in at.items()})


def predictive_table(estimates: Estimates, *, level: float = 0.9) -> pd.DataFrame:
    """
    Say, stratum by stratum and period by period, whether the model makes data like the observed.

    Parameters
    ----------
    estimates : Estimates
        Result of `HierarchicalDiD.fit`, or rows of it.
    level : float, default 0.9
        Level of the interval of replicated values.

    Returns
    -------
    DataFrame
        ``statistic``, ``stratum``, ``period`` (missing: all periods), ``n_cells``; ``observed`` and
        ``replicated`` (means over draws), ``low`` and ``high`` of the replicated; ``p_value``,
        probability of a larger replicated value and half that of an equal one; ``misfit``, whether that is below .01 or
        above .99; ``level``. Statistics are those of `vbceval.bayes.predictive.Places`: ``variance``,
        ``extreme``, ``lag_one``, ``icc``; of counts, of Pearson residuals about fitted rates, shocks
        included. With P rows about 2 percent are misfits by chance.

    Raises
    ------
    EstimationError
        If the estimates have no such record.
    """
    tree = estimates.to_arviz()
    found = tree["predictive_checks"].to_dataset() if "predictive_checks" in tree else {}
    if "observed_by_place" not in found:
        raise EstimationError(
            "these estimates carry no check by stratum and period. Pass the result of "
            "`HierarchicalDiD.fit`; of several outcomes read `meta['posterior_predictive']`."
        )
    observed, replicated = (
        found[f"{name}_by_place"].values[0] for name in ("observed", "replicated")
    )
    known = np.isfinite(observed).all(axis=0) & np.isfinite(replicated).all(axis=0)
    observed, replicated = observed[:, known], replicated[:, known]
    low, high = np.quantile(replicated, [(1 - level) / 2, (1 + level) / 2], axis=0)
    # half of what is equal: shares of extreme cells are often both zero
    p_value = ((replicated > observed) + 0.5 * (replicated == observed)).mean(axis=0)
    return pd.DataFrame(
        {
            "statistic": found["place_statistic"].values[known],
            "stratum": found["place_stratum"].values[known],
            "period": found["place_period"].values[known],
            "n_cells": found["place_cells"].values[known],
            "observed": observed.mean(axis=0), "replicated": replicated.mean(axis=0),
            "low": low, "high": high, "p_value": p_value,
            "misfit": (p_value < 0.01) | (p_value > 0.99), "level": level,
        }
    )  # fmt: skip


def prior_predictive(overall: FloatArray) -> dict[str, float | bool]:
    """Say what the prior alone implies about the overall effect, percent of baseline."""
    low, high = np.quantile(overall, [0.025, 0.975])
    size = np.abs(overall)
    return {
        "low_95": float(low),
        "high_95": float(high),
        "median_size": float(np.median(size)),
        "size_90": float(np.quantile(size, 0.9)),
        # an evaluation's prior should not rule out zero, nor effects as large as any program's
        "covers_zero_and_5_percent": bool(low < -5.0 and high > 5.0),
    }


def meta_of(
    cells: Cells, design: Design, seen: Convergence, *, seed: int, sampled: bool
) -> dict[str, Any]:
    """
    Return what the ``meta`` of every hierarchical model says of data, design and convergence.

    Parameters
    ----------
    cells, design : Cells, Design
        What was fitted.
    seen : Convergence
        What was checked.
    seed : int
        Seed.
    sampled : bool
        Whether a sampler was used.
    """
    return {
        "estimator": "HierarchicalDiD",
        "design": {
            "outcome": design.outcome, "covariates": list(design.covariates),
            "anticipation": design.anticipation, "window": design.window,
            "comparison": "every untreated cell",
        },
        "convergence": asdict(seen),
        "baseline": dict(zip(map(str, cells.strata), cells.baseline.tolist(), strict=True)),
        "n_clusters": len(cells.clusters),
        "n_cells": len(cells.y),
        "dropped_cells": dict(cells.dropped),
        "seed": seed,
        "exactness": "moments",
        "versions": versions(*(["pymc"] if sampled else []), "arviz", "numpy"),
        "warnings": list(seen.notes),
    }  # fmt: skip


def mean_baseline(cells: Cells) -> float:
    """Return the baseline over all strata, weighted by exposure."""
    weights = np.bincount(cells.stratum, cells.exposure)
    return float(np.average(cells.baseline, weights=weights))
