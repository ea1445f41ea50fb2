"""The density of counts and latent field that the sampler moves in, with its derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vbceval.bayes.counts.draws import Latent
from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.families import log_likelihood, rising_slope, slopes
from vbceval.bayes.counts.field import Block
from vbceval.core.typing import FloatArray


class Effects(NamedTuple):
    """
    Coordinates of the random effects of one block, C clusters.

    Parameters
    ----------
    intercept : array, shape (C,)
        Intercepts of organizations as they are: data know them well.
    unit : array, shape (C, B)
        Those of their units and strata, in units of their standard deviation: data that leave it open
        whether they differ at all would close a chain in near zero.
    common, specific : array, shapes (C, T), (C, S, T)
        Innovations of shocks, standard normal a priori.
    own : array, shape (C,)
        Organizations' deviations, in units of their standard deviation.
    """

    intercept: FloatArray
    unit: FloatArray
    common: FloatArray
    specific: FloatArray
    own: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Sampled:
    """
    What the sampler moves in: coefficients in prior standard deviations, then `Effects` by block.

    Parameters
    ----------
    marginal : CountMarginal
        The model.
    """

    marginal: CountMarginal

    @property
    def size(self) -> int:
        """Number of coordinates."""
        grid = self.marginal.grid
        return grid.n_coefficients + sum(
            sum(int(np.prod(shape)) for shape in self._shapes(block)) for block in grid.blocks
        )

    def _shapes(self, block: Block) -> list[tuple[int, ...]]:
        names = {law.name for law in self.marginal.laws}
        c, t = len(block.cluster), len(self.marginal.grid.steps)
        s = int(block.places.stratum.max()) + 1
        shapes = (
            ("intercept_sd", (c,)), ("unit_sd", (c, int(block.places.block.max()) + 1)),
            ("common_shock", (c, t)), ("stratum_shock", (c, s, t)), ("organization_sd", (c,)),
        )  # fmt: skip
        return [shape if name in names else (0,) for name, shape in shapes]

    def split(self, point: FloatArray) -> tuple[FloatArray, list[Effects]]:
        """Return coefficients in prior standard deviations, and random effects by block."""
        start = self.marginal.grid.n_coefficients
        free, out = point[:start], []
        for block in self.marginal.grid.blocks:
            found = []
            for shape in self._shapes(block):
                stop = start + int(np.prod(shape))
                found.append(point[start:stop].reshape(shape))
                start = stop
            out.append(Effects(*found))
        return free, out

    def latent(self, point: FloatArray, values: Mapping[str, FloatArray]) -> Latent:
        """Return the latent field of one draw, at variances by the names of their laws."""
        free, effects = self.split(point)
        grid = self.marginal.grid
        v, own = free * self.marginal.prior_sd, len(grid.parts.part)
        untreated, deviations = [], []
        for block, e in zip(grid.blocks, effects, strict=True):
            random, deviation, _ = self._random(block, e, values)
            fixed = block.x[:, :, :-own] @ v[:-own]
            untreated.append((block.centre + fixed[block.group] + random)[None])
            deviations.append(deviation[None])
        return Latent(v[None], untreated, deviations)

    def _scale(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Return what multiplies each coefficient."""
        parts, own = self.marginal.grid.parts, values.get("part_sd", np.zeros(0))
        out = np.ones(len(self.marginal.prior_sd))
        out[-len(parts.part) :] = np.append(self.marginal.priors.effect, own)[parts.part]
        return out

    def _random(
        self, block: Block, e: Effects, values: Mapping[str, FloatArray]
    ) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray]]:
        """Return random effects (C, n), own deviations (C,), and shocks of unit variance."""
        at, c = block.places, len(block.cluster)
        out = np.repeat(e.intercept[:, None], len(at.period), axis=1)
        if e.unit.size:
            out = out + values["unit_sd"] * e.unit[:, at.block]
        r, q = self._steps(values)
        common, specific = _autocorrelated(e.common, r, q), _autocorrelated(e.specific, r, q)
        if common.size:
            out = out + values["common_shock"] * common[:, at.period]
        if specific.size:
            out = out + values["stratum_shock"] * specific[:, at.stratum, at.period]
        own = values["organization_sd"] * e.own if e.own.size else np.zeros(c)
        return out, own, (common, specific)

    def _steps(self, values: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """Return the autocorrelation over each step, and the share of the innovation."""
        gaps = np.diff(self.marginal.grid.steps)
        rho = 2.0 * float(values["rho_share"]) - 1.0 if "rho_share" in values else 0.0
        r = np.power(rho, gaps)
        return r, np.sqrt(1.0 - r**2)

    def density(
        self, point: FloatArray, values: Mapping[str, FloatArray]
    ) -> tuple[float, FloatArray, dict[str, FloatArray]]:
        """
        Return the log density of counts and latent field given variances, and its derivatives.

        Parameters
        ----------
        point : array
            Coordinates.
        values : mapping of array
            Variance parameters, by the names of their laws.

        Returns
        -------
        float
            Up to a constant.
        array
            Derivative by coordinates.
        dict of array
            Derivatives by variance parameters.
        """
        grid = self.marginal.grid
        free, effects = self.split(point)
        scale, n = self._scale(values), len(grid.parts.part)
        v = free * self.marginal.prior_sd
        total, pull = -0.5 * float(free @ free), np.zeros(len(v))
        by_value = {name: np.zeros_like(x) for name, x in values.items()}
        by_effects = []
        dispersion = np.asarray(values.get("dispersion", 0.0))
        for block, e in zip(grid.blocks, effects, strict=True):
            random, own, shocks = self._random(block, e, values)
            mean = (block.x @ (scale * v))[block.group]
            treated = block.treated[block.group]
            eta = block.centre + mean + random + own[:, None] * treated
            family = grid.data.family
            total += float(log_likelihood(family, eta, block.y, block.size, dispersion).sum())
            score = slopes(family, eta, block.y, block.size, dispersion).score
            pull += np.tensordot(block.by_group(score[None])[0], block.x, axes=2)
            if family == "negative_binomial":
                by_value["dispersion"] += _by_dispersion(block, eta, dispersion)
            value, found = self._by_effects(block, e, values, score, shocks, by_value)
            total += value
            by_effects += found
        if "part_sd" in by_value:
            by_value["part_sd"] += np.bincount(
                grid.parts.part, pull[-n:] * v[-n:], minlength=len(grid.parts.names)
            )[1:]
        by_free = scale * pull * self.marginal.prior_sd - free
        return total, np.concatenate([by_free, *by_effects]), by_value

    def _by_effects(
        self, block: Block, e: Effects, values: Mapping[str, FloatArray], score: FloatArray,
        shocks: tuple[FloatArray, FloatArray], by_value: dict[str, FloatArray],
    ) -> tuple[float, list[FloatArray]]:  # fmt: skip
        """Return the log prior of random effects, and derivatives by them; add those by variances."""
        at, c, total, out = block.places, len(block.cluster), 0.0, []
        # places are units, then strata, then periods
        s, t = int(at.stratum.max()) + 1, int(at.period.max()) + 1
        grid = score.reshape(c, -1, s, t)
        sd = float(values["intercept_sd"])
        total -= 0.5 * float(np.square(e.intercept / sd).sum()) + c * np.log(sd)
        by_value["intercept_sd"] += float(np.square(e.intercept).sum()) / sd**3 - c / sd
        out.append(score.sum(axis=1) - e.intercept / sd**2)
        if e.unit.size:
            by_unit = grid.sum(axis=3).reshape(c, -1)
            by_value["unit_sd"] += float((by_unit * e.unit).sum())
            total -= 0.5 * float(np.square(e.unit).sum())
            out.append((float(values["unit_sd"]) * by_unit - e.unit).ravel())
        for name, z, x, pull in (
            ("common_shock", e.common, shocks[0], grid.sum(axis=(1, 2))),
            ("stratum_shock", e.specific, shocks[1], grid.sum(axis=1)),
        ):
            by_shock = np.zeros_like(x)
            if x.size:
                by_value[name] += float((pull * x).sum())
                by_shock, by_rho = self._back(float(values[name]) * pull, x, z, values)
                by_value.update({k: by_value[k] + v for k, v in by_rho.items()})
                total -= 0.5 * float(np.square(z).sum())
            out.append((by_shock - z).ravel())
        by_own = (score * block.treated[block.group]).sum(axis=1) if e.own.size else e.own
        if e.own.size:
            by_value["organization_sd"] += float(by_own @ e.own)
            total -= 0.5 * float(e.own @ e.own)
            by_own = float(values["organization_sd"]) * by_own
        out.append(by_own - e.own)
        return total, out

    def _back(
        self, by_shock: FloatArray, x: FloatArray, z: FloatArray, values: Mapping[str, FloatArray]
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Return derivatives by innovations and by the share behind the autocorrelation."""
        r, q = self._steps(values)
        by_z, by_r = by_shock.copy(), np.zeros(len(r))
        g = by_shock.copy()
        for t in range(len(r), 0, -1):
            by_z[..., t] = q[t - 1] * g[..., t]
            away = x[..., t - 1] - r[t - 1] / q[t - 1] * z[..., t]
            by_r[t - 1] = float((g[..., t] * away).sum())
            g[..., t - 1] += r[t - 1] * g[..., t]
        by_z[..., 0] = g[..., 0]
        if "rho_share" not in values:
            return by_z, {}
        gaps, rho = np.diff(self.marginal.grid.steps), 2.0 * float(values["rho_share"]) - 1.0
        return by_z, {"rho_share": np.asarray(2.0 * (by_r * gaps * np.power(rho, gaps - 1)).sum())}


def _autocorrelated(z: FloatArray, r: FloatArray, q: FloatArray) -> FloatArray:
    """Return shocks of unit variance from their innovations, along the last axis."""
    out = z.copy()
    for t in range(1, z.shape[-1]):
        out[..., t] = r[t - 1] * out[..., t - 1] + q[t - 1] * z[..., t]
    return out


def _by_dispersion(block: Block, eta: FloatArray, dispersion: FloatArray) -> float:
    """Return the derivative of the log likelihood of negative binomial counts by the dispersion."""
    shape = 1.0 / np.square(dispersion)
    mean = block.size * np.exp(eta)
    by_shape = rising_slope(block.y, shape) - np.log1p(mean / shape)
    by_shape = by_shape + (block.y + shape) * mean / (shape * (shape + mean))
    return float(by_shape.sum() * -2.0 / dispersion**3)
