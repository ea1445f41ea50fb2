"""Simulation-based calibration: does an engine find what was drawn from its own prior?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vbceval.bayes.cells import Cells
from vbceval.bayes.draws import Parameters, cluster_terms, dataset
from vbceval.bayes.engines import Model
from vbceval.bayes.exact import draw, integrate_cells
from vbceval.bayes.heavy import subgroup_coefficients
from vbceval.bayes.hyper import laws
from vbceval.bayes.sample import one_thread
from vbceval.bayes.simulated import Truth, from_prior
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_LIKELIHOOD_DRAWS = 99
_SOME = 3
"""Of many scales that are alike, by organization or coefficient, how many are judged."""


def places_of_truth(model: Model, *, nodes: int, draws: int, seed: int) -> dict[str, float]:
    """
    Simulate once from the prior, and say where the truth lies in the posterior.

    Parameters
    ----------
    model : Model
        Its outcomes are replaced.
    nodes, draws : int
        Of the exact engine.
    seed : int
        Seed of simulation, integration and draws.

    Returns
    -------
    dict
        Place of the truth among posterior draws (`place_of_truth`): of reported averages
        (``average[0]``, ...), the effect at entry, variance parameters, and ``log_likelihood`` of
        all cells, which depends on the data. Over replications each is uniform, if the engine is
        right.

    Raises
    ------
    EstimationError
        If the integral cannot be trusted.
    """
    truth = from_prior(model, generator(seed, "calibration"))
    cells, parts, priors, active, person_log_sd, weights = model._replace(cells=truth.cells)
    found = laws(cells, parts, priors, active, person_log_sd=person_log_sd)
    # matrices this small take ten times as long where threads wait for each other
    with one_thread():
        marginal, points, _ = integrate_cells(
            cells, parts, priors, found, weights, nodes=nodes, seed=seed
        )
        drawn = draw(marginal, points, size=draws, seed=seed)
        values = {k: x[None] for k, x in drawn.values.items()}
        posterior = dataset(values, drawn.v[None], truth.cells, parts, priors)
        ours, true = quantities(model, posterior, truth.cells), true_quantities(model, truth)
    return {name: place_of_truth(x, true[name]) for name, x in ours.items()}


def place_of_truth(draws: FloatArray, truth: float) -> float:
    """
    Return the place of a number among draws, from 0 to 1.

    Of N draws k are smaller; the place is the middle of the k-th of N + 1 equal stretches, which is
    on no edge of a histogram whose number of bins divides N + 1.

    Examples
    --------
    >>> place_of_truth(np.arange(9.0), 4.5)
    0.55
    """
    return float(((draws < truth).sum() + 0.5) / (len(draws) + 1))


def true_quantities(model: Model, truth: Truth) -> dict[str, float]:
    """Return what `quantities` does of the truth alone."""
    values = {k: np.asarray(v)[None, None] for k, v in truth.values.items()}
    posterior = dataset(values, truth.v[None, None], truth.cells, model.parts, model.priors)
    return {k: float(x[0]) for k, x in quantities(model, posterior, truth.cells).items()}


def quantities(model: Model, posterior: Any, cells: Cells) -> dict[str, FloatArray]:
    """
    Return scalar quantities of each draw, chains joined.

    Parameters
    ----------
    model : Model
        Its averages and parts of the effect.
    posterior : Dataset
        As `vbceval.bayes.draws.dataset` makes it.
    cells : Cells
        Of the log likelihood.
    """
    import xarray

    size = posterior["effect_at_entry"].size
    posterior = posterior.drop_vars("average", errors="ignore")
    flat = {str(k): x.values.reshape(size, -1) for k, x in posterior.data_vars.items()}
    averages = flat["effect"] @ model.averages.T
    out = {f"average[{k}]": column for k, column in enumerate(averages.T)}
    for name, found in flat.items():
        which = range(found.shape[1])
        if name == "shock_scale":
            which = range(_SOME)
        elif name == "local_scale":
            # of the others it is 1
            which = subgroup_coefficients(model.parts)[:_SOME].tolist()
        if name not in ("effect", "period_effect", "slope"):
            for k in which:
                out[f"{name}[{k}]" if found.shape[1] > 1 else name] = found[:, k]
    parameters = Parameters(cells, xarray.DataTree.from_dict({"posterior": posterior}))
    likelihood, _ = cluster_terms(parameters, np.arange(min(len(parameters), _LIKELIHOOD_DRAWS)))
    out["log_likelihood"] = likelihood.sum(axis=1)
    return out


def uniformity(places: Sequence[Mapping[str, float]], *, bins: int = 20) -> pd.DataFrame:
    """
    Judge whether places of the truth are uniform.

    Parameters
    ----------
    places : sequence of mapping
        What `places_of_truth` returned, one a replication.
    bins : int, default 20
        Bins of equal width.

    Returns
    -------
    DataFrame
        One row a quantity: ``quantity``, ``replications``, ``mean`` (1/2), ``z`` (its distance in
        standard errors), ``chi_square`` with ``p_value``, ``largest_gap`` of the empirical
        distribution function, and counts by bin, ``bin_0`` and so on.

    References
    ----------
    .. [1] Talts, S., Betancourt, M., Simpson, D., Vehtari, A. and Gelman, A. (2018). Validating
       Bayesian inference algorithms with simulation-based calibration. arXiv:1804.06788.
    .. [2] Modrak, M. et al. (2025). Simulation-based calibration checking for Bayesian computation:
       the choice of test quantities shapes sensitivity. *Bayesian Analysis* 20(2), 461-488.
    """
    frame = pd.DataFrame(list(places))
    rows = []
    for name in frame:
        u = frame[name].dropna().to_numpy()
        counts = np.histogram(u, bins=bins, range=(0.0, 1.0))[0]
        test = stats.chisquare(counts)
        rows.append(
            {
                "quantity": name, "replications": len(u), "mean": u.mean(),
                "z": (u.mean() - 0.5) * np.sqrt(12.0 * len(u)), "chi_square": test.statistic,
                "p_value": test.pvalue, "largest_gap": stats.kstest(u, "uniform").statistic,
                **{f"bin_{k}": int(n) for k, n in enumerate(counts)},
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
