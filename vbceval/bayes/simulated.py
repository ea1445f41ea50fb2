"""Parameters drawn from the prior of a model of cell means, and cells drawn given them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vbceval.bayes.cells import Cells, Within, codes
from vbceval.bayes.coefficients import split
from vbceval.bayes.engines import Model
from vbceval.bayes.heavy import draw_heavy
from vbceval.bayes.hyper import HORSESHOE, STUDENT, laws, natural_values, scales_at, split_point
from vbceval.bayes.likelihood import residuals, weights_of_coefficients
from vbceval.bayes.predictive import centred, restated, simulate, thinned
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_DRAWS = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """
    Parameters drawn from the prior, and cells drawn given them.

    Parameters
    ----------
    cells : Cells
        Simulated outcomes in the places of the cells that were given; intercepts are zero.
    values : dict of array
        Variance parameters by the names of their laws; of heavier laws `heavy.heavy_values`.
    v : array, shape (Q,)
        Standardised coefficients.
    """

    cells: Cells
    values: dict[str, FloatArray]
    v: FloatArray


def from_prior(model: Model, rng: np.random.Generator) -> Truth:
    """Draw parameters from the prior of a model, and outcomes given them in the same cells."""
    cells, parts, priors, active, person_log_sd, _ = model
    found = laws(cells, parts, priors, active, person_log_sd=person_log_sd)
    values = split_point(found, rng.standard_normal(sum(law.size for law in found)))
    part_sd = values.get("part_sd", np.zeros(0))
    values |= draw_heavy(
        parts, part_sd, len(cells.clusters), rng, student=bool(active[STUDENT]),
        horseshoe=bool(active[HORSESHOE]),
    )  # fmt: skip
    local = values.get("local_scale", 1.0)
    scale, prior = weights_of_coefficients(cells, parts, priors, part_sd, local)
    v = rng.standard_normal(len(prior)) / np.sqrt(prior)
    mean = split(parts, v, scale[-len(parts.part) :], cells.n_strata, cells.x.shape[1])
    scales = scales_at(natural_values(values, parts), cells)
    expected = cells.y - residuals(cells, mean.period, mean.slope, mean.effect)
    within = cells.within
    if within is not None:
        within = Within(within.dof, scales.person**2 * rng.chisquare(within.dof))
    y = expected + simulate(cells, restated(cells), scales, rng)
    return Truth(cells=replace(cells, y=y, within=within), values=values, v=v)


def prior_cells(model: Model, *, seed: int) -> FloatArray:
    """
    Return cells drawn from the prior, percent of baseline, shape (D, K).

    Intercepts have no proper prior: the mean of a unit and stratum is that of the observed cells,
    as in `vbceval.bayes.predictive.replicated`.

    Parameters
    ----------
    model : Model
        With the observed cells.
    seed : int
        Seed.
    """
    cells, rng = model.cells, generator(seed, "prior cells")
    block = codes(cells.unit, cells.stratum)
    return np.array(
        [
            cells.y + centred(cells, block, from_prior(model, rng).cells.y - cells.y)
            for _ in thinned(_DRAWS, len(cells.y))
        ]
    )
