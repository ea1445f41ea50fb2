"""Parameters drawn from the prior of a model of counts, and counts drawn given them."""

from __future__ import annotations

import numpy as np

from vbceval.bayes.counts.draws import Latent, random_effects
from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.families import draw_counts
from vbceval.bayes.predictive import thinned
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_DRAWS = 200


def events_from_prior(
    model: CountMarginal, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, Latent]:
    """
    Draw parameters from the prior of a model, and counts given them in the same cells.

    Parameters
    ----------
    model : CountMarginal
        Its events are not read.
    rng : Generator
        Source.

    Returns
    -------
    array, shape (K,)
        Counts.
    array, shape (1, d)
        Coordinates of the variance parameters.
    Latent
        The field, one draw.
    """
    grid, own = model.grid, len(model.grid.parts.part)
    point = rng.standard_normal((1, len(model.names)))
    at = model.values(point)
    v = rng.standard_normal(at.prior.shape) / np.sqrt(at.prior)
    events = np.empty(len(grid.data.events))
    untreated, deviations = [], []
    for block in grid.blocks:
        random, theta = random_effects(block, grid.steps, at.spread, 1, rng)
        scaled = at.scale[0] * v[0]
        fixed = block.centre + (block.x[:, :, :-own] @ scaled[:-own])[block.group]
        effect = (block.x[:, :, -own:] @ scaled[-own:])[block.group]
        untreated.append((fixed + random[0])[None])
        deviations.append(theta)
        eta = fixed + random[0] + effect + theta[0][:, None] * block.treated[block.group]
        there = block.cell >= 0
        y = draw_counts(
            grid.data.family, eta[there], block.size[there], float(at.spread.dispersion[0]), rng
        )
        events[block.cell[there]] = y
    return events, point, Latent(v, untreated, deviations)


def prior_events(model: CountMarginal, *, seed: int) -> FloatArray:
    """Return counts drawn from the prior, shape (D, K)."""
    rng = generator(seed, "prior cells")
    drawn = thinned(_DRAWS, len(model.grid.data.events))
    return np.array([events_from_prior(model, rng)[0] for _ in drawn])
