"""Parameters of a model of several outcomes drawn from the prior, and cells drawn given them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vbceval.bayes.cells import Within, codes
from vbceval.bayes.coefficients import split
from vbceval.bayes.hyper import split_point
from vbceval.bayes.joint.correlated import ORGANIZATION, Joint
from vbceval.bayes.joint.dense import DenseEquations, arrange_dense
from vbceval.bayes.likelihood import residuals, weights_of_coefficients
from vbceval.bayes.predictive import centred, thinned
from vbceval.bayes.priors import Priors
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

_DRAWS = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """
    Parameters drawn from the prior, and cells drawn given them.

    Parameters
    ----------
    joint : Joint
        The model, with simulated outcomes in the places of the cells that were given; intercepts
        are zero.
    values : dict of array
        Variances and correlations by the names of their laws.
    v : array, shape (Q,)
        Standardised coefficients.
    own : array, shape (C, O)
        What is lasting in each organization's effect on each outcome, percent of baseline; zero
        where the model has none.
    """

    joint: Joint
    values: dict[str, FloatArray]
    v: FloatArray
    own: FloatArray


def from_prior(
    joint: Joint, priors: Priors, dense: DenseEquations, rng: np.random.Generator
) -> Truth:
    """
    Draw parameters from the prior of a model, and all outcomes given them in the same cells.

    Parameters
    ----------
    joint, priors : Joint, Priors
        The model; its outcomes are not read.
    dense : DenseEquations
        Its cells, arranged.
    rng : Generator
        Source.
    """
    stacked = joint.stacked
    cells, parts = stacked.cells, stacked.parts
    found = joint.laws(priors)
    values = split_point(found, rng.standard_normal(sum(law.size for law in found)))
    part_sd = values.get("part_sd", np.zeros(0))
    scale, prior = weights_of_coefficients(cells, parts, priors, part_sd)
    v = rng.standard_normal(len(prior)) / np.sqrt(prior)
    mean = split(parts, v, scale[-len(parts.part) :], cells.n_strata, cells.x.shape[1])
    natural = joint.natural(values)
    law = joint.covariances(natural)
    size = len(cells.clusters), len(stacked.outcomes)
    own = np.zeros(size)
    if joint.organizations:
        # drawn apart from the rest, so that there is a truth to compare with
        root = np.linalg.cholesky(natural[f"{ORGANIZATION}_correlation"])
        own = natural["organization_sd"] * (rng.standard_normal(size) @ root.T)
        law = law._replace(lasting=np.zeros_like(law.lasting))
    expected = cells.y - residuals(cells, mean.period, mean.slope, mean.effect)
    lasting = own[cells.cluster, stacked.outcome[cells.stratum]] * cells.layout.treated
    within = cells.within
    if within is not None:
        # degrees of freedom are zero where the spread of persons was stated
        square = 2.0 * rng.standard_gamma(within.dof / 2.0)
        within = Within(within.dof, natural["person_scale"] ** 2 * square)
    new = replace(cells, y=expected + lasting + dense.simulate(law, rng), within=within)
    return Truth(
        joint=replace(joint, stacked=stacked._replace(cells=new)), values=values, v=v, own=own
    )


def prior_cells(joint: Joint, priors: Priors, *, seed: int) -> FloatArray:
    """
    Return cells of all outcomes drawn from the prior, percent of baseline, shape (D, K).

    As `vbceval.bayes.simulated.prior_cells` does of one outcome: the mean of a unit and stratum is
    that of the observed cells.

    Parameters
    ----------
    joint, priors : Joint, Priors
        The model, with the observed cells.
    seed : int
        Seed.
    """
    cells, rng = joint.stacked.cells, generator(seed, "prior cells")
    dense = arrange_dense(cells, joint.stacked.parts, joint.stacked.group)
    block = codes(cells.unit, cells.stratum)
    out = []
    for _ in thinned(_DRAWS, len(cells.y)):
        new = from_prior(joint, priors, dense, rng).joint.stacked.cells.y
        out.append(cells.y + centred(cells, block, new - cells.y))
    return np.array(out)
