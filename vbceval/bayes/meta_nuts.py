"""The meta-analysis in PyMC: scales are sampled, normal deviations are integrated out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.meta_data import ErrorLaw, Studies
from vbceval.bayes.meta_posterior import HEAVY_LEVELS, Posterior, draw_locations
from vbceval.bayes.sample import Progress, sample
from vbceval.core.typing import BoolArray, FloatArray, IntArray


class Priors(NamedTuple):
    """Scales of the priors in percent points; `nu` None means normal deviations."""

    mean_sd: float
    sd_scale: float
    nu: float | None
    rho: float


class _Blocks(NamedTuple):
    """
    Rows that depend on each other beyond their type mean, in B blocks padded to size m.

    row : (B, m), the row in each place (any row where nothing is); seen : (B, m);
    both : (B, m, m), pairs of places that hold rows.
    """

    row: IntArray
    seen: BoolArray
    both: BoolArray

    def same(self, index: IntArray) -> FloatArray:
        """Return 1 for pairs of places whose rows have equal `index`, shape (B, m, m)."""
        value = index[self.row]
        return np.asarray((value[:, :, None] == value[:, None, :]) & self.both, dtype=float)


def _blocks(studies: Studies, rho: float) -> _Blocks:
    from scipy.sparse.csgraph import connected_components

    linked = np.eye(len(studies), dtype=bool)
    for level in (*studies.random_levels, *(("sample",) if rho > 0 else ())):
        linked |= studies.same(level)
    count, label = connected_components(linked, directed=False)
    size = int(np.bincount(label).max())
    row, seen = np.zeros((count, size), dtype=np.int64), np.zeros((count, size), dtype=bool)
    for b in range(count):
        inside = np.flatnonzero(label == b)
        row[b, : len(inside)], seen[b, : len(inside)] = inside, True
    return _Blocks(row=row, seen=seen, both=seen[:, :, None] & seen[:, None, :])


def build(studies: Studies, priors: Priors) -> Any:
    """
    Return the PyMC model.

    Given the mixing variable of each report's t distribution, deviations of programs, reports and
    effects are normal; they are integrated out exactly, in blocks of rows that share any of them.
    Only scales, mixing variables, the means and unprinted standard errors are sampled, so there is
    no funnel for the sampler to fall into.
    """
    import pymc as pm
    import pytensor.tensor as pt

    blocks = _blocks(studies, priors.rho)
    places = np.eye(blocks.row.shape[1])
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, priors.mean_sd)
        centre = mean * np.ones(len(studies))
        if "type" in studies.levels:
            type_sd = pm.HalfNormal("type_sd", priors.sd_scale)
            type_unit = pm.Normal("type_unit", 0.0, 1.0, shape=len(studies.labels["type"]))
            centre = centre + type_sd * type_unit[studies.index["type"]]
        error = _error(pm, pt, studies)[blocks.row]
        shared = np.zeros(blocks.both.shape)
        if priors.rho > 0:
            shared = priors.rho * blocks.same(studies.index["sample"]) * (1 - places)
        # a unit variance where a block is padded leaves the determinant as it is
        total = error[:, :, None] * error[:, None, :] * (places * blocks.both + shared)
        total = total + places * ~blocks.both
        scale = pt.ones(len(studies))
        if priors.nu is not None:
            alpha, beta = priors.nu / 2, (priors.nu - 2) / 2
            size = len(studies.labels["report"])
            mixing = pm.InverseGamma("report_scale", alpha=alpha, beta=beta, shape=size)
            scale = mixing[studies.index["report"]]
        for level in studies.random_levels:
            sd = pm.HalfNormal(f"{level}_sd", priors.sd_scale)
            variance = sd**2 * (scale if level in HEAVY_LEVELS else pt.ones(len(studies)))
            total = total + variance[blocks.row][:, :, None] * blocks.same(studies.index[level])
        residual = (studies.estimate - centre)[blocks.row] * blocks.seen
        root = pt.linalg.cholesky(total)
        z = pt.linalg.solve_triangular(root, residual[:, :, None], lower=True, b_ndim=2)
        half_log_det = pt.log((root * places).sum(axis=-1)).sum()
        pm.Potential("log_likelihood", -0.5 * (z**2).sum() - half_log_det)
    return model


def _error(pm: Any, pt: Any, studies: Studies) -> Any:
    law = studies.error_law
    if law is None:
        return pt.as_tensor_variable(studies.std_error)
    share = pm.Uniform("error_share", 0.0, 1.0, shape=len(law.rows))
    low, high = _normal_edges(law)
    probability = low + share * (high - low)
    normal = np.sqrt(2.0) * pt.erfinv(2 * probability - 1)
    drawn = pt.exp(law.log_mean + law.log_sd * normal)
    known = pt.as_tensor_variable(np.nan_to_num(studies.std_error))
    return pt.set_subtensor(known[law.rows], drawn)


def _normal_edges(law: ErrorLaw) -> tuple[FloatArray, FloatArray]:
    with np.errstate(divide="ignore"):
        low = (np.log(law.low) - law.log_mean) / law.log_sd
        high = (np.log(law.high) - law.log_mean) / law.log_sd
    return special.ndtr(low), special.ndtr(high)


def nuts_posterior(
    studies: Studies,
    priors: Priors,
    *,
    options: dict[str, Any],
    rng: np.random.Generator,
    progress: Progress | None,
) -> Posterior:
    """
    Sample the model and draw what was integrated out from its exact conditional law.

    Parameters
    ----------
    studies : Studies
        n effects.
    priors : Priors
        Scales of the priors.
    options : dict
        draws, tune, chains, seed, target_accept, for `vbceval.bayes.sample.sample`.
    rng : Generator
        Source of the draws that follow sampling.
    progress : callable, optional
        As in `vbceval.bayes.sample.sample`.
    """
    tree = sample(build(studies, priors), **options, progress=progress)
    drawn = {
        str(k): np.asarray(v.values).reshape(-1, *v.shape[2:])
        for k, v in tree["posterior"].to_dataset().data_vars.items()
    }
    size = len(drawn["mean"])
    mixing = drawn.get("report_scale", np.ones((size, len(studies.labels["report"]))))
    return draw_locations(
        studies,
        {level: drawn[f"{level}_sd"] for level in studies.levels},
        mixing,
        _drawn_error(studies, drawn, size),
        mean_sd=priors.mean_sd,
        rho=priors.rho,
        rng=rng,
        chains=options["chains"],
        sample_stats=tree["sample_stats"].to_dataset(),
    )


def _drawn_error(studies: Studies, drawn: dict[str, FloatArray], size: int) -> FloatArray:
    error = np.repeat(studies.std_error[None, :], size, axis=0)
    law = studies.error_law
    if law is not None:
        low, high = _normal_edges(law)
        normal = special.ndtri(low + drawn["error_share"] * (high - low))
        error[:, law.rows] = np.exp(law.log_mean + law.log_sd * normal)
    return error
