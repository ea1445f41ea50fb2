"""Draws of a meta-analysis, and the normal law behind them given scales and standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from vbceval.bayes.groups import add_data
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_density import LEVELS, design, pulls
from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray

HEAVY_LEVELS = ("report", "effect")
"""Levels whose deviations share their report's mixing variable: jointly t within a report."""

_LOG2_NODES, _LOG2_MOST_NODES = 13, 17
_FEWEST_NODES = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """
    Posterior draws, all arrays with S draws first; percent points.

    Parameters
    ----------
    mean : array, shape (S,)
        Mean over program types.
    type_mean : array, shape (S, K)
        Mean of each program type.
    sd : mapping of level to array, shape (S,)
        Standard deviation of each active level.
    mixing : array, shape (S, reports)
        Variance of a report's deviations, and of those of its effects, relative to ``sd**2``: the
        mixing variable of its t distribution, whose mean is 1; 1 throughout for normal deviations.
    deviation : mapping of level to array, shape (S, groups)
        Deviation of each group of the active levels below the type.
    std_error : array, shape (S, n)
        Standard errors, drawn where they are known only within bounds.
    chains : int
        Number of chains; draws of a chain follow each other.
    sample_stats : object or None
        What the sampler reports.
    """

    mean: FloatArray
    type_mean: FloatArray
    sd: Mapping[str, FloatArray]
    mixing: FloatArray
    deviation: Mapping[str, FloatArray]
    std_error: FloatArray
    chains: int
    sample_stats: Any = None

    def true_effect(self, studies: Studies) -> FloatArray:
        """Return the true effect of each row, shape (S, n)."""
        total = self.type_mean[:, studies.index["type"]].copy()
        for level, values in self.deviation.items():
            total += values[:, studies.index[level]]
        return total

    @property
    def reported(self) -> list[str]:
        """Names, in the tree, of what is reported and so must have converged."""
        return [
            *("mean_effect", "type_mean", "true_effect"),
            *[f"{level}_sd" for level in self.sd],
            *[f"{level}_deviation" for level in self.deviation],
        ]

    def tree(self, studies: Studies) -> Any:
        """Return an ArviZ DataTree with the draws, the data and the sampler's statistics."""
        import xarray

        def split(values: FloatArray) -> FloatArray:
            return values.reshape(self.chains, -1, *values.shape[1:])

        dims = ("chain", "draw")
        variables: dict[str, Any] = {
            "mean_effect": (dims, split(self.mean)),
            "type_mean": ((*dims, "program_type"), split(self.type_mean)),
            "true_effect": ((*dims, "row"), split(self.true_effect(studies))),
            "std_error": ((*dims, "row"), split(self.std_error)),
        }
        variables |= {f"{k}_sd": (dims, split(v)) for k, v in self.sd.items()}
        for level in self.deviation:
            variables[f"{level}_deviation"] = ((*dims, level), split(self.deviation[level]))
        variables["report_mixing"] = ((*dims, "report"), split(self.mixing))
        coords = {"program_type": list(map(str, studies.labels["type"]))}
        coords |= {x: list(map(str, studies.labels[x])) for x in self.deviation}
        groups = {"posterior": xarray.Dataset(variables, coords=coords)}
        if self.sample_stats is not None:
            groups["sample_stats"] = self.sample_stats
        tree = xarray.DataTree.from_dict(groups)
        add_data(tree, studies.observed(), "estimate")
        return tree

    @classmethod
    def from_tree(cls, tree: Any, studies: Studies) -> Posterior:
        """Return the draws that `tree` holds."""
        posterior = tree["posterior"].to_dataset()

        def flat(name: str) -> FloatArray:
            values = np.asarray(posterior[name].values)
            return values.reshape(-1, *values.shape[2:])

        return cls(
            mean=flat("mean_effect"),
            type_mean=flat("type_mean"),
            sd={x: flat(f"{x}_sd") for x in studies.levels},
            mixing=flat("report_mixing"),
            deviation={x: flat(f"{x}_deviation") for x in studies.random_levels},
            std_error=flat("std_error"),
            chains=int(posterior.sizes["chain"]),
        )

    def take(self, rows: IntArray) -> Posterior:
        """Return some draws, as one chain."""
        return Posterior(
            mean=self.mean[rows],
            type_mean=self.type_mean[rows],
            sd={k: v[rows] for k, v in self.sd.items()},
            mixing=self.mixing[rows],
            deviation={k: v[rows] for k, v in self.deviation.items()},
            std_error=self.std_error[rows],
            chains=1,
        )


def covariance(
    studies: Studies,
    sd: Mapping[str, FloatArray],
    mixing: FloatArray,
    std_error: FloatArray,
    *,
    mean_sd: float,
    rho: float,
) -> FloatArray:
    """
    Return the covariance of the estimates with every location integrated out.

    Parameters
    ----------
    studies : Studies
        n effects.
    sd : mapping of level to array, shape (S,)
        As in `Posterior`.
    mixing : array, shape (S, reports)
        As in `Posterior`.
    std_error : array, shape (S, n)
        Standard errors.
    mean_sd : float
        Prior standard deviation of the mean over types, around 0.
    rho : float
        Correlation of the sampling errors of two rows of one sample.

    Returns
    -------
    array, shape (S, n, n)
    """
    n = len(studies)
    total = np.full((len(std_error), n, n), float(mean_sd) ** 2)
    if "type" in sd:
        total += sd["type"][:, None, None] ** 2 * studies.same("type")
    for level in studies.random_levels:
        variance = sd[level][:, None] ** 2 * _relative(studies, level, mixing)
        total += variance[:, :, None] * studies.same(level)
    total += np.einsum("si,ij->sij", std_error**2, np.eye(n))
    if rho > 0:
        shared = studies.same("sample") & ~np.eye(n, dtype=bool)
        total += rho * std_error[:, :, None] * std_error[:, None, :] * shared
    return total


def target_covariance(studies: Studies, sd: Mapping[str, FloatArray], mean_sd: float) -> FloatArray:
    """Return the prior covariance of (mean, type means) with the estimates, shape (S, 1 + K, n)."""
    size, types = len(next(iter(sd.values()))), len(studies.labels["type"])
    total = np.full((size, 1 + types, len(studies)), float(mean_sd) ** 2)
    if "type" in sd:
        own = np.arange(types)[:, None] == studies.index["type"][None, :]
        total[:, 1:] += sd["type"][:, None, None] ** 2 * own
    return total


def exact_posterior(
    studies: Studies,
    *,
    sd_scale: float,
    mean_sd: float,
    rho: float,
    draws: int,
    rng: np.random.Generator,
) -> Posterior:
    """
    Draw from the posterior with normal deviations, integrating the standard deviations numerically.

    The standard deviations are put on 8,192 quasi-random points of their prior (in one dimension an
    even grid of its quantiles), on twice as many while too few carry the posterior, and weighted by
    the exact likelihood; given a point everything is normal. No Markov chain is involved, so this
    checks one.

    Parameters
    ----------
    studies : Studies
        Without standard errors known only within bounds.
    sd_scale, mean_sd, rho : float
        As in `MetaAnalysis`.
    draws : int
        Number of independent draws.
    rng : Generator
        Source of the draws.

    Raises
    ------
    EstimationError
        If too few points carry the weight for the answer to be accurate.
    """
    sd, weight = _nodes(studies, sd_scale=sd_scale, mean_sd=mean_sd, rho=rho, rng=rng)
    chosen = rng.choice(len(weight), size=draws, p=weight)
    picked = {level: values[chosen] for level, values in sd.items()}
    error = np.broadcast_to(studies.std_error, (draws, len(studies)))
    ones = _no_mixing(studies, draws)
    return draw_locations(studies, picked, ones, error, mean_sd=mean_sd, rho=rho, rng=rng)


def _nodes(
    studies: Studies, *, sd_scale: float, mean_sd: float, rho: float, rng: np.random.Generator
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return points of the standard deviations, by level, and their posterior probabilities."""
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(studies.levels), scramble=True, rng=rng)
    nodes, log_weight = np.empty((0, len(studies.levels))), np.empty(0)
    while True:
        # the sequence is even at powers of two
        uniform = sobol.random(len(nodes) or 1 << _LOG2_NODES)
        more = sd_scale * np.sqrt(2) * special.erfinv(np.clip(uniform, 1e-12, 1 - 1e-12))
        # as many at a time as there are at first, whose memory is bounded
        for part in np.split(more, len(more) >> _LOG2_NODES):
            at = {level: part[:, i] for i, level in enumerate(studies.levels)}
            found = log_marginal(studies, at, mean_sd=mean_sd, rho=rho)
            log_weight = np.append(log_weight, found)
        nodes = np.vstack([nodes, more])
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        effective = float(1 / np.sum(weight**2))
        if effective >= _FEWEST_NODES:
            return {level: nodes[:, i] for i, level in enumerate(studies.levels)}, weight
        if len(nodes) >= 1 << _LOG2_MOST_NODES:
            raise EstimationError(
                f"only {effective:.0f} of {len(weight):,} integration points carry the posterior "
                f"(limit {_FEWEST_NODES}): the data are too far from the priors. Check that "
                "estimates and standard errors are in percent points, or use engine='nuts'."
            )


def _relative(studies: Studies, level: str, mixing: FloatArray) -> FloatArray:
    """Return each row's variance at a level relative to its ``sd**2``, shape (S, n)."""
    if level in HEAVY_LEVELS:
        return mixing[:, studies.index["report"]]
    return np.ones((len(mixing), len(studies)))


def _group_relative(studies: Studies, level: str, mixing: FloatArray) -> FloatArray:
    """Return the same for each group of a level, shape (S, groups)."""
    first = np.unique(studies.index[level], return_index=True)[1]
    return _relative(studies, level, mixing)[:, first]


def _no_mixing(studies: Studies, size: int) -> FloatArray:
    return np.ones((size, len(studies.labels["report"])))


def _stacked(sd: Mapping[str, FloatArray], size: int) -> FloatArray:
    """Return standard deviations of `LEVELS`, shape (S, 4); 0 where a level is not active."""
    return np.stack([sd.get(x, np.zeros(size)) for x in LEVELS], axis=1)


def log_marginal(
    studies: Studies, sd: Mapping[str, FloatArray], *, mean_sd: float, rho: float
) -> FloatArray:
    """Return the log density of the estimates given standard deviations, shape (H,)."""
    size = len(next(iter(sd.values())))
    return pulls(
        design(studies, mean_sd=mean_sd, rho=rho),
        _stacked(sd, size),
        _no_mixing(studies, size),
        np.tile(studies.std_error, (size, 1)),
        np.tile(studies.estimate, (size, 1)),
    )[1]


def draw_locations(
    studies: Studies,
    sd: Mapping[str, FloatArray],
    mixing: FloatArray,
    std_error: FloatArray,
    *,
    mean_sd: float,
    rho: float,
    rng: np.random.Generator,
    chains: int = 1,
    sample_stats: Any = None,
) -> Posterior:
    """
    Draw means and deviations given scales and standard errors, one draw for each of S sets.

    A draw from the prior is moved by what the data say about it (Matheron's rule), so given the
    scales the draws are exact and independent.
    """
    size, types = len(std_error), len(studies.labels["type"])
    mean = mean_sd * rng.standard_normal(size)
    own = sd["type"] if "type" in sd else np.zeros(size)
    type_mean = mean[:, None] + own[:, None] * rng.standard_normal((size, types))
    variance = {
        x: sd[x][:, None] ** 2 * _group_relative(studies, x, mixing) for x in studies.random_levels
    }
    deviation = {x: np.sqrt(v) * rng.standard_normal(v.shape) for x, v in variance.items()}
    simulated = std_error * correlated(studies, size, rho, rng)
    simulated += type_mean[:, studies.index["type"]]
    for level, values in deviation.items():
        simulated += values[:, studies.index[level]]
    at = design(studies, mean_sd=mean_sd, rho=rho)
    residual = studies.estimate - simulated
    pull, _ = pulls(at, _stacked(sd, size), mixing, np.ascontiguousarray(std_error), residual)
    shift = np.einsum("skn,sn->sk", target_covariance(studies, sd, mean_sd), pull)
    mean += shift[:, 0]
    type_mean += shift[:, 1:]
    for level, values in deviation.items():
        values += variance[level] * (pull @ membership(studies, level))
    return Posterior(
        mean=mean,
        type_mean=type_mean,
        sd=dict(sd),
        mixing=mixing,
        deviation=deviation,
        std_error=np.array(std_error),
        chains=chains,
        sample_stats=sample_stats,
    )


def membership(studies: Studies, level: str) -> FloatArray:
    """Return which group each row is in, shape (n, groups)."""
    groups = np.arange(len(studies.labels[level]))
    return np.asarray(studies.index[level][:, None] == groups, dtype=float)


def correlated(studies: Studies, size: int, rho: float, rng: np.random.Generator) -> FloatArray:
    """Return standard normal errors, shape (size, n), correlated `rho` within a sample."""
    alone = rng.standard_normal((size, len(studies)))
    if rho == 0:
        return alone
    common = rng.standard_normal((size, len(studies.labels["sample"])))
    return np.asarray(np.sqrt(rho) * common[:, studies.index["sample"]] + np.sqrt(1 - rho) * alone)


def prior_errors(studies: Studies, size: int, rng: np.random.Generator) -> FloatArray:
    """Draw standard errors known only within bounds from their prior, shape (size, n)."""
    error = np.tile(studies.std_error, (size, 1))
    law = studies.error_law
    if law is not None:
        # by the probability below each bound; the density of the model has the same law
        with np.errstate(divide="ignore"):
            low, high = (
                special.ndtr((np.log(x) - law.log_mean) / law.log_sd) for x in (law.low, law.high)
            )
        z = special.ndtri(rng.uniform(low, high, (size, len(law.rows))))
        error[:, law.rows] = np.exp(law.log_mean + law.log_sd * z)
    return np.asarray(error)


def new_deviations(
    studies: Studies, posterior: Posterior, nu: float | None, rng: np.random.Generator
) -> FloatArray:
    """
    Draw deviations of new programs, reports and effects in the places of the old, shape (S, n).

    Parameters
    ----------
    studies, posterior : Studies, Posterior
        The levels, and S draws of their standard deviations.
    nu : float or None
        Degrees of freedom of the deviations of a report; None: normal.
    rng : Generator
        Source of the draws.
    """
    size = len(posterior.mean)
    mixing = _no_mixing(studies, size)
    if nu is not None:
        mixing = (nu - 2) / rng.chisquare(nu, mixing.shape)
    total = np.zeros((size, len(studies)))
    for level in studies.random_levels:
        spread = posterior.sd[level][:, None] * np.sqrt(_group_relative(studies, level, mixing))
        total += (spread * rng.standard_normal(spread.shape))[:, studies.index[level]]
    return total


def new_program(
    studies: Studies, posterior: Posterior, nu: float | None, rng: np.random.Generator
) -> FloatArray:
    """
    Draw how far one new program's effect, in a new report, is from its type mean, shape (S,).

    Parameters
    ----------
    studies, posterior, nu, rng
        As in `new_deviations`.
    """
    size = len(posterior.mean)
    mixing = np.ones(size) if nu is None else (nu - 2) / rng.chisquare(nu, size)
    variance = np.zeros(size)
    for level in studies.random_levels:
        variance += posterior.sd[level] ** 2 * (mixing if level in HEAVY_LEVELS else 1.0)
    return np.asarray(np.sqrt(variance) * rng.standard_normal(size))
