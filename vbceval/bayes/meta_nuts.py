"""The meta-analysis in PyMC: scales are sampled, normal deviations are integrated out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.meta_data import ErrorLaw, Studies
from vbceval.bayes.meta_posterior import Posterior, draw_locations, membership
from vbceval.bayes.sample import Progress, sample
from vbceval.core.typing import FloatArray


class Priors(NamedTuple):
    """Scales of the priors in percent points; `nu` None means normal deviations."""

    mean_sd: float
    sd_scale: float
    nu: float | None
    rho: float


def build(studies: Studies, priors: Priors) -> Any:
    """
    Return the PyMC model.

    Given the mixing variable of each report's t distribution every deviation is normal, and so are
    the means: all of them are integrated out exactly. Only standard deviations, mixing variables
    and unprinted standard errors are sampled, so there is no funnel for the sampler to fall into.

    The covariance of the estimates is V + UU'. V is diagonal plus one constant a report, with an
    explicit inverse; U has a column for the mean, each type, each program and each sample.
    """
    import pymc as pm
    import pytensor.tensor as pt

    rows = membership(studies, "report")
    n = len(studies)
    with pm.Model() as model:
        sd = {x: pm.HalfNormal(f"{x}_sd", priors.sd_scale) for x in studies.levels}
        mixing = pt.ones(rows.shape[1])
        if priors.nu is not None:
            alpha, beta = priors.nu / 2, (priors.nu - 2) / 2
            mixing = pm.InverseGamma("report_mixing", alpha=alpha, beta=beta, shape=rows.shape[1])
        error = _error(pm, pt, studies)
        columns = [priors.mean_sd * pt.ones((n, 1))]
        columns += [sd[x] * membership(studies, x) for x in ("type", "program") if x in sd]
        own = error**2
        if priors.rho > 0:
            samples = _shared_samples(studies)
            columns.append(np.sqrt(priors.rho) * error[:, None] * samples)
            own = own * (1 - priors.rho * samples.sum(axis=1))
        if "effect" in sd:
            own = own + sd["effect"] ** 2 * mixing[studies.index["report"]]
        border = pt.concatenate(columns, axis=1)
        pm.Potential(
            "log_likelihood",
            _log_density(pt, studies.estimate, rows, own, sd["report"] ** 2 * mixing, border),
        )
    return model


def _log_density(
    pt: Any, y: FloatArray, rows: FloatArray, own: Any, report_var: Any, border: Any
) -> Any:
    """Return log N(y; 0, diag(own) + rows diag(report_var) rows' + border border')."""
    weight = (1 / own) @ rows
    inflation = 1 + report_var * weight
    damped = report_var / inflation
    pulled = (y / own) @ rows
    crossed = rows.T @ (border / own[:, None])
    gram = border.T @ (border / own[:, None]) - crossed.T @ (damped[:, None] * crossed)
    score = border.T @ (y / own) - crossed.T @ (damped * pulled)
    root = pt.linalg.cholesky(pt.eye(gram.shape[0]) + gram)
    explained = pt.linalg.solve_triangular(root, score, lower=True)
    log_det = pt.log(own).sum() + pt.log(inflation).sum() + 2 * pt.log(pt.diag(root)).sum()
    quadratic = (y**2 / own).sum() - (damped * pulled**2).sum() - (explained**2).sum()
    return -0.5 * (log_det + quadratic + len(y) * np.log(2 * np.pi))


def _shared_samples(studies: Studies) -> FloatArray:
    """Return which rows are in each sample of two or more, shape (n, samples)."""
    rows = membership(studies, "sample")
    return rows[:, rows.sum(axis=0) > 1]


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
    size = len(drawn["report_sd"])
    mixing = drawn.get("report_mixing", np.ones((size, len(studies.labels["report"]))))
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
