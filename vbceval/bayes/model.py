"""The hierarchical difference-in-differences model in PyMC; nothing is sampled here."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.bayes.cells import Cells
from vbceval.bayes.layout import Layout
from vbceval.bayes.marginal import compiled
from vbceval.bayes.priors import Priors

Shocks = Literal["ar1", "iid", "none"]


def build(cells: Cells, priors: Priors, *, shocks: Shocks, organizations: bool) -> Any:
    """
    Return the model of cell means in percent of baseline.

    Unit x stratum intercepts (flat), organization x period shocks, organizations' own effects and
    noise are integrated out exactly by `vbceval.bayes.marginal`; what remains to be sampled are
    period effects, the parts of the treatment effect and the standard deviations.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    priors : Priors
        Prior scales, percent of baseline.
    shocks : {"ar1", "iid", "none"}
        Law of organization x period shocks over periods.
    organizations : bool
        Whether organizations have effects of their own.

    Returns
    -------
    pymc.Model
        With ``effect`` (percent of baseline, one for each cohort x event time x stratum).
    """
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model(coords=cells.coords) as model:
        mean = _period_effects(cells, priors)
        if cells.effect_of_cell.max() >= 0:
            effect = _effects(cells, priors)
            mean = mean + pt.concatenate([effect, pt.zeros(1)])[cells.effect_of_cell]
        scales = _variances(cells, priors, shocks, organizations)
        overlap = pm.Beta("overlap", 1.0, 1.0) if cells.restated else pt.constant(0.0)
        if cells.within is None:
            variance = pt.ones(cells.n_strata)
        else:
            sd = pm.HalfNormal("person_sd", priors.person, dims="stratum")
            variance = pt.sqr(sd)
            within = 0.5 * (cells.within.dof * pt.log(variance) + cells.within.squares / variance)
            pm.Potential("within_cells", -within.sum())
        marginal = _operation()(
            pt.constant(cells.y) - mean,
            1.0 / ((1.0 - overlap) * variance),
            overlap * variance,
            scales,
            *[pt.constant(np.ascontiguousarray(a)) for a in cells.layout],
        )
        pm.Potential("between_cells", marginal[0])
    return model


def _period_effects(cells: Cells, priors: Priors) -> Any:
    """Return the untreated mean of each cell, up to its block's intercept."""
    import pymc as pm

    scale = pm.HalfNormal("period_scale", priors.period)
    # the level of a stratum is part of the flat intercepts, so only deviations are identified
    period = pm.ZeroSumNormal("period_effect", scale, dims=("stratum", "period"), n_zerosum_axes=1)
    mean = period[cells.stratum, cells.period]
    if cells.x.shape[1]:
        slope = pm.ZeroSumNormal(
            "slope", priors.covariate, dims=("covariate", "period"), n_zerosum_axes=1
        )
        mean = mean + (cells.x * slope[:, cells.period].T).sum(axis=1)
    return mean


def _effects(cells: Cells, priors: Priors) -> Any:
    """Return the effect of each cohort x event time x stratum, percent of baseline."""
    import pymc as pm
    import pytensor.tensor as pt

    table = cells.effects
    total = pm.Normal("effect_at_entry", 0.0, priors.effect) * np.ones(len(table))

    sizes = []
    for name in ("cohort", "event_time", "stratum"):
        codes, levels = pd.factorize(table[f"{name}_code"], sort=True)
        sizes.append(len(levels))
        if len(levels) < 2:
            continue
        scale = pm.HalfNormal(f"{name}_scale", priors.spread)
        if name == "event_time":
            # a random walk, sd per period, that starts at zero: the first level is at entry
            step = pm.Normal(f"{name}_step", 0.0, 1.0, shape=len(levels) - 1)
            walk = pt.cumsum(
                step * np.sqrt(np.diff(table.groupby("event_time_code")["event_time"].first()))
            )
            values = pt.concatenate([pt.zeros(1), walk])
        else:
            values = pm.Normal(f"{name}_step", 0.0, 1.0, shape=len(levels))
        total = total + scale * values[codes]
    if len(table) > max(sizes):
        scale = pm.HalfNormal("interaction_scale", priors.spread)
        total = total + scale * pm.Normal("interaction_step", 0.0, 1.0, shape=len(table))
    return pm.Deterministic("effect", total, dims="effect_cell")


def _variances(cells: Cells, priors: Priors, shocks: Shocks, organizations: bool) -> Any:
    """Return (specific, common, lasting, rho): three variances and the autocorrelation."""
    import pymc as pm
    import pytensor.tensor as pt

    zero = pt.constant(0.0)
    common = specific = lasting = rho = zero
    if shocks != "none":
        common = pt.sqr(pm.HalfNormal("common_shock", priors.shock))
        if cells.n_strata > 1:
            specific = pt.sqr(pm.HalfNormal("stratum_shock", priors.shock))
    if shocks == "ar1":
        rho = pm.Deterministic("rho", 2.0 * pm.Beta("rho_share", 2.0, 2.0) - 1.0)
    if organizations:
        lasting = pt.sqr(pm.HalfNormal("organization_sd", priors.organization))
    return pt.stack([specific, common, lasting, rho])


@functools.cache
def _operation() -> Any:
    """Return the likelihood as an operation with its derivative, for PyTensor and Numba."""
    import pytensor.tensor as pt
    from pytensor.gradient import DisconnectedType
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
    from pytensor.link.numba.dispatch import basic as numba_dispatch

    likelihood = compiled()

    class CellLikelihood(Op):
        """Sum of log likelihoods, then its derivatives by eta, phi, shared and scales."""

        __props__ = ()

        def make_node(self, *inputs: Any) -> Any:
            inputs = tuple(pt.as_tensor_variable(x) for x in inputs)
            vectors = [pt.vector(dtype="float64") for _ in range(4)]
            return Apply(self, list(inputs), [pt.scalar(dtype="float64"), *vectors])

        def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
            found = likelihood(*inputs[:4], Layout(*inputs[4:]))
            output_storage[0][0] = np.asarray(found[0].sum())
            for place, value in zip(output_storage[1:], found[1:5], strict=True):
                place[0] = value

        def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
            g = cotangents[0]
            slopes = [-g * outputs[1], g * outputs[2], g * outputs[3], g * outputs[4]]
            return [*slopes, *[DisconnectedType()() for _ in inputs[4:]]]

        def connection_pattern(self, node: Any) -> list[list[bool]]:
            # only the first output is ever differentiated, by the four parameters
            return [[i < 4 and j == 0 for j in range(5)] for i in range(len(node.inputs))]

    @numba_dispatch.numba_funcify.register(CellLikelihood)
    def _(op: Any, **_: Any) -> Any:
        @numba_dispatch.numba_njit
        def run(residual, phi, shared, scales, *layout):  # type: ignore[no-untyped-def]  # compiled
            found = likelihood(residual, phi, shared, scales, Layout(*layout))
            return np.asarray(found[0].sum()), found[1], found[2], found[3], found[4]

        return run

    return CellLikelihood()
