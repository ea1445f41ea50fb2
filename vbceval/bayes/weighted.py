"""The meta-analysis by importance sampling: seconds instead of a compiled Markov chain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from scipy import special

from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_posterior import (
    HEAVY_LEVELS,
    Posterior,
    covariance,
    draw_locations,
    membership,
)
from vbceval.bayes.sample import Progress
from vbceval.bayes.weights import FEWEST_EFFECTIVE, LARGEST_K, resampled, smoothed
from vbceval.core.errors import EstimationError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

# Shares and shapes of the proposals. They change how many draws the weights are worth, not what the
# draws converge to.
_LOCATED = 0.5
_SMALLEST_VARIANCE = 0.2
_WIDE, _WIDE_SHARE = 3.0, 0.5
_BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class WeightedMeta(MetaAnalysis):
    """
    `MetaAnalysis` whose draws are weighted draws of its scales, and exact given the scales.

    Locations are integrated out, so only standard deviations, mixing variables of the reports and
    unprinted standard errors remain. Standard deviations are proposed from their priors, the
    others from mixtures of their priors with laws that reach where an outlier may need them. The
    proposals are weighted by the exact likelihood, the weights Pareto-smoothed, and draws taken in
    proportion. Each chain is an independent run of all of this, so the spread of chain means is
    the Monte Carlo error. Equal seeds give equal numbers on every machine, but for draws that
    floating point moves from one proposal to its neighbour.

    Parameters
    ----------
    engine : {"weighted"}
        Fixed.
    proposals : int, default 8192
        Proposals of each chain. `draws` of them are kept, with repetition; `tune` and
        `target_accept` belong to the other engine.

    Raises
    ------
    EstimationError
        From `fit`, if the weights are too uneven to be trusted.

    References
    ----------
    .. [1] Vehtari, A., Simpson, D., Gelman, A., Yao, Y. and Gabry, J. (2024). Pareto smoothed
       importance sampling. *Journal of Machine Learning Research* 25(72), 1-58.
    """

    engine: Literal["weighted"] = "weighted"
    proposals: int = 8192

    def __post_init__(self) -> None:
        options = {f.name: getattr(self, f.name) for f in fields(MetaAnalysis)}
        MetaAnalysis(**{**options, "engine": "nuts"})

    def posterior(self, studies: Studies, progress: Progress | None = None) -> Posterior:
        """Draw from the posterior of checked studies."""
        chains, logs = [], []
        for chain in range(self.chains):
            rng = generator(self.seed, "meta", "weighted", chain)
            draws, log_weight = self._chain(studies, rng)
            chains.append(draws)
            logs.append(log_weight)
            if progress is not None:
                progress(chain + 1, self.chains, 0)
        k = smoothed(np.concatenate(logs))[1]
        effective = [float(p.sample_stats) for p in chains]
        if k > LARGEST_K or sum(effective) < FEWEST_EFFECTIVE:
            raise EstimationError(
                f"the weights of {self.proposals * self.chains:,} proposals are too uneven: Pareto "
                f"shape {k:.2f} (limit {LARGEST_K}), worth {sum(effective):.0f} draws (limit "
                f"{FEWEST_EFFECTIVE}). Raise `proposals`; if that does not help, the data are too "
                "far from the priors: check that estimates and standard errors are in percent "
                "points."
            )
        return _joined(chains, {"pareto_k": k, "effective": ("chain", effective)})

    def _chain(self, studies: Studies, rng: np.random.Generator) -> tuple[Posterior, FloatArray]:
        """Return the draws of one chain, with what they are worth, and all log weights."""
        sd = {
            x: self.sd_scale * np.abs(rng.standard_normal(self.proposals)) for x in studies.levels
        }
        error, log_weight = proposed_errors(studies, self.proposals, rng)
        mixing, log_ratio = proposed_mixing(studies, sd, error, self.deviation_df, rng)
        log_weight += log_ratio + self._log_likelihood(studies, sd, mixing, error)
        weight = smoothed(log_weight)[0]
        rows = resampled(weight, self.draws, rng)
        draws = draw_locations(
            studies, {x: values[rows] for x, values in sd.items()}, mixing[rows], error[rows],
            mean_sd=self.mean_sd, rho=self.rho, rng=rng,
            sample_stats=float(1 / np.sum(weight**2)),
        )  # fmt: skip
        return draws, log_weight

    def _log_likelihood(
        self, studies: Studies, sd: dict[str, FloatArray], mixing: FloatArray, error: FloatArray
    ) -> FloatArray:
        """Return log p(estimates | scales) of each proposal, up to a constant."""
        out = np.empty(len(error))
        for start in range(0, len(error), _BLOCK):
            at = slice(start, start + _BLOCK)
            total = covariance(
                studies, {x: v[at] for x, v in sd.items()}, mixing[at], error[at],
                mean_sd=self.mean_sd, rho=self.rho,
            )  # fmt: skip
            root = np.linalg.cholesky(total)
            y = np.broadcast_to(studies.estimate[:, None], (len(total), len(studies), 1))
            z = np.linalg.solve(root, y)[:, :, 0]
            out[at] = -0.5 * (z**2).sum(axis=1) - np.log(np.einsum("sii->si", root)).sum(axis=1)
        return out


def proposed_errors(
    studies: Studies, size: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """
    Propose standard errors that are known within bounds; return all and log(prior / proposal).

    Half of the proposals come from their law, half from the same law with a wider spread: an
    outlier may be explained by a standard error near its bound, which the law rarely gives.

    Parameters
    ----------
    studies : Studies
        n effects.
    size : int
        Number of proposals S.
    rng : Generator
        Source of the draws.

    Returns
    -------
    error : array, shape (S, n)
    log_ratio : array, shape (S,)
    """
    error, law = np.repeat(studies.std_error[None, :], size, axis=0), studies.error_law
    if law is None:
        return error, np.zeros(size)
    with np.errstate(divide="ignore"):
        low, high = ((np.log(x) - law.log_mean) / law.log_sd for x in (law.low, law.high))
    spread = np.where(rng.random((size, len(low))) < _WIDE_SHARE, _WIDE, 1.0)
    ends = special.ndtr(low / spread), special.ndtr(high / spread)
    z = spread * special.ndtri(ends[0] + rng.random(spread.shape) * (ends[1] - ends[0]))
    error[:, law.rows] = np.exp(law.log_mean + law.log_sd * z)
    mass = special.ndtr(high) - special.ndtr(low)
    wide_mass = special.ndtr(high / _WIDE) - special.ndtr(low / _WIDE)
    ratio = np.exp(0.5 * z**2 * (1 - _WIDE**-2)) * mass / (_WIDE * wide_mass)
    return error, -np.log1p(_WIDE_SHARE * (ratio - 1)).sum(axis=1)


def proposed_mixing(
    studies: Studies,
    sd: dict[str, FloatArray],
    error: FloatArray,
    nu: float | None,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """
    Propose the mixing variable of each report; return it and the log of prior over proposal.

    The prior is inverse gamma (nu/2, (nu-2)/2). Half of the proposals come from its conditional law
    given one deviation as large as the report's distance from the median estimate, beyond its
    standard error.

    Parameters
    ----------
    studies : Studies
        n effects of R reports.
    sd : mapping of level to array, shape (S,)
        Proposed standard deviations.
    error : array, shape (S, n)
        Standard errors.
    nu : float or None
        Degrees of freedom; None: normal deviations, all mixing variables 1.
    rng : Generator
        Source of the draws.

    Returns
    -------
    mixing : array, shape (S, R)
    log_ratio : array, shape (S,)
    """
    shape = (len(error), len(studies.labels["report"]))
    if nu is None:
        return np.ones(shape), np.zeros(len(error))
    alpha, beta = nu / 2, (nu - 2) / 2
    beyond = np.maximum((studies.estimate - np.median(studies.estimate)) ** 2 - error**2, 0)
    inside = membership(studies, "report")
    far = np.max(beyond[:, :, None] * inside, axis=1)
    variance = np.zeros(len(error)) + _SMALLEST_VARIANCE
    for level in HEAVY_LEVELS:
        variance += sd[level] ** 2 if level in sd else 0.0
    located = alpha + 0.5, beta + 0.5 * far / variance[:, None]
    chosen = rng.random(shape) < _LOCATED
    mixing = np.where(chosen, located[1], beta)
    mixing /= rng.standard_gamma(np.where(chosen, located[0], alpha))
    prior = _log_inverse_gamma(mixing, alpha, beta)
    proposal = np.logaddexp(
        np.log(_LOCATED) + _log_inverse_gamma(mixing, *located), np.log1p(-_LOCATED) + prior
    )
    return mixing, np.asarray((prior - proposal).sum(axis=1))


def _log_inverse_gamma(x: FloatArray, shape: float, scale: FloatArray | float) -> FloatArray:
    density = shape * np.log(scale) - special.gammaln(shape) - (shape + 1) * np.log(x) - scale / x
    return np.asarray(density)


def _joined(chains: list[Posterior], stats: dict[str, Any]) -> Posterior:
    """Return the draws of all chains, one after the other."""
    import xarray

    def by_level(name: str) -> dict[str, FloatArray]:
        levels: dict[str, FloatArray] = getattr(chains[0], name)
        return {x: np.concatenate([getattr(p, name)[x] for p in chains]) for x in levels}

    return Posterior(
        mean=np.concatenate([p.mean for p in chains]),
        type_mean=np.concatenate([p.type_mean for p in chains]),
        sd=by_level("sd"),
        mixing=np.concatenate([p.mixing for p in chains]),
        deviation=by_level("deviation"),
        std_error=np.concatenate([p.std_error for p in chains]),
        chains=len(chains),
        sample_stats=xarray.Dataset(stats),
    )
