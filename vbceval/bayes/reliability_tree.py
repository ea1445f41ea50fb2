"""The ArviZ tree of shrunken rates: likelihood by organization, priors, and rates drawn from both laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vbceval.bayes.draws import DIMS
from vbceval.bayes.shrinkage import Blocks
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray

_PRIOR_DRAWS = 1000
# numbers of a covariance that are held at once
_NUMBERS = 4_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class RatesTree:
    """
    Makes the tree of a `Reliability` when it is called.

    Parameters
    ----------
    blocks : Blocks
        Rates of m organizations in T periods.
    organization, slot : int array, shape (n,)
        Places of the rows in them.
    organizations, periods : sequence
        What the places are of.
    rate : array, shape (S, m, T)
        Draws of true rates.
    period_mean : array, shape (S, T)
        Draws of period means.
    sd : array, shape (S, 2)
        Draws of the standard deviations of organizations and years; the first 0 where not told apart.
    both : bool
        Whether they are told apart.
    sd_scale, mean_sd : float
        Scales of the priors.
    seed : int
        Of drawn rates.
    """

    blocks: Blocks
    organization: IntArray
    slot: IntArray
    organizations: Sequence[Any]
    periods: Sequence[Any]
    rate: FloatArray
    period_mean: FloatArray
    sd: FloatArray
    both: bool
    sd_scale: float
    mean_sd: float
    seed: int

    def __call__(self) -> Any:
        """
        Return the tree.

        ``log_likelihood`` is that of all rates of an organization, given period means and standard
        deviations: to leave one out is to leave an organization out. ``posterior_predictive`` and
        ``prior_predictive`` are observed rates of new organizations in the places of the old.
        """
        import xarray

        rng = generator(self.seed, "reliability", "tree")
        names = [str(x) for x in self.organizations]
        labels = {"period": list(self.periods)}
        rows = ((*DIMS, "row"), self._at_rows(self.rate)[None])
        mean, sd = self._from_prior(rng)
        groups = {
            "posterior": ({"savings_rate": rows, **self._named(self.period_mean, self.sd)}, labels),
            "log_likelihood": (
                {"savings_rate": ((*DIMS, "cluster"), self._by_organization()[None])},
                {"cluster": names},
            ),
            "log_prior": ({"rates": (DIMS, self._log_prior()[None])}, {}),
            "posterior_predictive": (self._rates(self.period_mean, self.sd, rng), {}),
            "prior": (self._named(mean, sd), labels),
            "prior_predictive": (self._rates(mean, sd, rng), {}),
            "observed_data": (
                {"savings_rate": (("row",), self.blocks.rate[self.organization, self.slot])},
                {},
            ),
        }
        return xarray.DataTree.from_dict(
            {
                group: xarray.Dataset(found, coords=coords)
                for group, (found, coords) in groups.items()
            }
        )

    def _at_rows(self, values: FloatArray) -> FloatArray:
        return np.asarray(values[:, self.organization, self.slot])

    def _named(self, mean: FloatArray, sd: FloatArray) -> dict[str, tuple[Any, FloatArray]]:
        found: dict[str, tuple[Any, FloatArray]] = {
            "period_mean": ((*DIMS, "period"), mean[None]),
            "signal_sd": (DIMS, np.sqrt(np.square(sd).sum(axis=1))[None]),
        }
        if self.both:
            found |= {"organization_sd": (DIMS, sd[None, :, 0]), "year_sd": (DIMS, sd[None, :, 1])}
        return found

    def _from_prior(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw period means and standard deviations."""
        mean = self.mean_sd * rng.standard_normal((_PRIOR_DRAWS, len(self.periods)))
        sd = self.sd_scale * np.abs(rng.standard_normal((_PRIOR_DRAWS, 2)))
        return mean, sd * [float(self.both), 1.0]

    def _log_prior(self) -> FloatArray:
        """Return the log density of each draw of period means and standard deviations."""
        sd = self.sd[:, 0 if self.both else 1 :]
        half = (
            -0.5 * np.square(sd / self.sd_scale) + 0.5 * np.log(2 / np.pi) - np.log(self.sd_scale)
        )
        mean = -0.5 * np.square(self.period_mean / self.mean_sd)
        mean = mean - 0.5 * np.log(2 * np.pi) - np.log(self.mean_sd)
        return np.asarray(half.sum(axis=1) + mean.sum(axis=1))

    def _by_organization(self) -> FloatArray:
        """Return log likelihoods of organizations at every draw, shape (S, m)."""
        seen = self.blocks.seen.astype(float)
        m, t = seen.shape
        pair, each = seen[:, :, None] * seen[:, None, :], seen[:, :, None] * np.eye(t)
        # a unit diagonal where nothing is seen adds nothing to a log determinant
        fixed = self.blocks.noise + np.eye(t) - each
        out = np.empty((len(self.sd), m))
        step = max(1, _NUMBERS // (m * t * t))
        for start in range(0, len(out), step):
            some = slice(start, start + step)
            organization, year = np.square(self.sd[some]).T[:, :, None, None, None]
            root = np.linalg.cholesky(fixed + organization * pair + year * each)
            away = (self.blocks.rate - self.period_mean[some, None]) * seen
            white = np.linalg.solve(root, away[..., None])[..., 0]
            logs = np.log(np.diagonal(root, axis1=2, axis2=3)).sum(axis=2)
            out[some] = -logs - 0.5 * np.square(white).sum(axis=2)
        return np.asarray(out - 0.5 * np.log(2 * np.pi) * seen.sum(axis=1))

    def _rates(
        self, mean: FloatArray, sd: FloatArray, rng: np.random.Generator
    ) -> dict[str, tuple[Any, FloatArray]]:
        """Draw observed rates of new organizations, at each row."""
        m, t = self.blocks.seen.shape
        hidden = np.eye(t) * ~self.blocks.seen[:, None, :]
        root = np.linalg.cholesky(self.blocks.noise + hidden)
        out = np.empty((len(mean), len(self.slot)))
        step = max(1, _NUMBERS // (m * t))
        for start in range(0, len(mean), step):
            some = slice(start, start + step)
            size = len(mean[some])
            signal = sd[some, 0, None, None] * rng.standard_normal((size, m, 1))
            signal = signal + sd[some, 1, None, None] * rng.standard_normal((size, m, t))
            noise = np.einsum("mts,hms->hmt", root, rng.standard_normal((size, m, t)))
            out[some] = self._at_rows(mean[some, None] + signal + noise)
        return {"savings_rate": ((*DIMS, "row"), out[None])}
