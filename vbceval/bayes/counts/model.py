"""The model of counts in PyMC, sampled: the check on the approximation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from vbceval.bayes.checks import Limits
from vbceval.bayes.counts.draws import Reporter
from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.fit import CHECKED_DRAWS, CountPosterior, tree_of
from vbceval.bayes.counts.rows import Rows
from vbceval.bayes.counts.sampled import Sampled
from vbceval.bayes.draws import flatten
from vbceval.bayes.engines import converged
from vbceval.bayes.likelihood import operation
from vbceval.bayes.sample import Progress, one_thread, sample
from vbceval.core.typing import FloatArray


def by_nuts(
    marginal: CountMarginal, reported: Rows, *, draws: int, tune: int, chains: int,
    target_accept: float, seed: int, limits: Limits | None, progress: Progress | None,
) -> CountPosterior:  # fmt: skip
    """
    Sample everything with the no-U-turn sampler.

    Raises
    ------
    EstimationError
        If the draws cannot be trusted.
    """
    field = Sampled(marginal=marginal)
    with one_thread():
        frame = place(field)
        found = sample(
            build(field, frame), draws=draws, tune=tune, chains=chains, seed=seed,
            target_accept=target_accept, progress=progress,
        )  # fmt: skip
    values = {law.name: flatten(found, law.name) for law in marginal.laws}
    points = frame.centre + flatten(found, "coordinates") @ frame.root.T
    size = len(points)
    checked = np.linspace(0, size - 1, min(CHECKED_DRAWS, size)).astype(np.int64)
    reporter = Reporter(marginal.grid, size, checked, seed)
    for i, point in enumerate(points):
        one = {name: x[i] for name, x in values.items()}
        at = marginal.at({name: x[i : i + 1] for name, x in values.items()}, 1)
        reporter.add(np.array([i]), field.latent(point, one), at)
    kept = reporter.result()
    tree = tree_of(marginal, values, kept, reported, shape=(chains, draws))
    tree["sample_stats"] = found["sample_stats"].copy()
    averages = flatten(tree, "average")
    seen = converged(tree, limits)
    return CountPosterior(reported, tree, averages, averages.mean(axis=0), values, kept, seen, {})


class Frame(NamedTuple):
    """
    Coordinates in which the latent field is about standard normal at middling variances.

    Parameters
    ----------
    centre, root : array, shapes (n,), (n, n)
        A point is ``centre + root @ coordinates``. The posterior does not depend on the choice.
    """

    centre: FloatArray
    root: FloatArray


def place(field: Sampled) -> Frame:
    """
    Return coordinates about the mode of the latent field where variances are their prior medians.

    Parameters
    ----------
    field : Sampled
        The density.
    """
    laws = field.marginal.laws
    middle = {law.name: law.quantile(np.zeros(law.size)) for law in laws}
    values = {law.name: middle[law.name] if law.labels else middle[law.name][0] for law in laws}

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        with np.errstate(all="ignore"):
            value, slope, _ = field.density(point, values)
        return -value, -slope

    found = optimize.minimize(
        loss, np.zeros(field.size), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
    )
    centre, steps = np.asarray(found.x), 1e-4 * np.eye(field.size)
    curvature = np.array([(loss(centre + e)[1] - loss(centre - e)[1]) / 2e-4 for e in steps])
    upper = np.linalg.cholesky(0.5 * (curvature + curvature.T)).T
    return Frame(centre, np.linalg.inv(upper))


def build(field: Sampled, frame: Frame) -> Any:
    """
    Return the model.

    Parameters
    ----------
    field : Sampled
        Density of counts and latent field.
    frame : Frame
        Coordinates of the field.

    Returns
    -------
    pymc.Model
        With the variance parameters by the names of their laws, and ``coordinates``.
    """
    import pymc as pm

    names = [law.name for law in field.marginal.laws]

    def function(coordinates: FloatArray, *values: FloatArray) -> Any:
        point = frame.centre + frame.root @ coordinates
        with np.errstate(all="ignore"):
            value, by_point, found = field.density(point, dict(zip(names, values, strict=True)))
        return value, frame.root.T @ by_point, [found[name] for name in names]

    with pm.Model() as model:
        variables = []
        for law in field.marginal.laws:
            if law.family == "beta":
                variables.append(pm.Beta(law.name, *law.values))
            else:
                shape = None if law.labels is None else law.size
                variables.append(pm.HalfNormal(law.name, law.values[0], shape=shape))
        # the normal prior of the field is part of the density
        coordinates = pm.Flat("coordinates", shape=field.size)
        pm.Potential("counts", operation()(function)(coordinates, *variables)[0])
    return model
