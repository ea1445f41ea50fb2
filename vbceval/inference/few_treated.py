"""Inference with few treated clusters, from the residuals of many untreated ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray

FEWEST = 20
"""Untreated clusters needed: with fewer, no test of one treated cluster rejects at 5%."""
_BLOCK_VALUES = 1 << 22


@dataclass(frozen=True, kw_only=True)
class FewTreated:
    """
    Errors of an effect by what untreated clusters would have shown in place of treated ones.

    The noise of an effect on few clusters is that of these clusters, and a regression fits it away:
    cluster-robust errors are far too small. Untreated clusters, of which there are many, show what
    such noise looks like.

    Parameters
    ----------
    method : {"ferman-pinto", "conley-taber"}
        "ferman-pinto" rescales the noise of an untreated cluster to the size of the treated one,
        for a variance ``a + b / size``, and adds the noise of the comparison mean; "conley-taber"
        takes clusters as equally noisy and the comparison mean as known.
    size : {"weight", "rows"}, optional
        For "ferman-pinto", what is behind a cluster's mean in a period: analysis weight (default;
        without balance weights), or number of rows.
    tails : {"symmetric", "equal"}
        Whether p-values and intervals go by the size of the error, the observed one counted among
        the draws (valid also where draws are few), or by equal tails, as in the first paper.
    draws : int, default 9999
        Draws. Where there are no more combinations of untreated clusters for "conley-taber", all
        of them are taken.
    seed : int, default 20210101
        Seed of the draws.

    Raises
    ------
    DesignError
        If an option is not known, or `size` is given for "conley-taber".

    References
    ----------
    .. [1] Conley, T. G. and Taber, C. R. (2011). Inference with "difference in differences" with a
       small number of policy changes. *Review of Economics and Statistics* 93(1), 113-125.
       Section III.
    .. [2] Ferman, B. and Pinto, C. (2019). Inference in differences-in-differences with few treated
       groups and heteroskedasticity. *Review of Economics and Statistics* 101(3), 452-467.
       Section III; variance in weighted data as in its appendix.
    """

    method: Literal["ferman-pinto", "conley-taber"] = "ferman-pinto"
    size: Literal["weight", "rows"] | None = None
    tails: Literal["symmetric", "equal"] = "symmetric"
    draws: int = 9999
    seed: int = 20210101

    def __post_init__(self) -> None:
        if (
            self.method not in ("ferman-pinto", "conley-taber")
            or self.size not in (None, "weight", "rows")
            or self.tails not in ("symmetric", "equal")
            or self.draws < 99
        ):
            raise DesignError(
                "inference with few treated clusters needs `method` 'ferman-pinto' or "
                "'conley-taber', `size` 'weight' or 'rows', `tails` 'symmetric' or 'equal', and at "
                f"least 99 `draws`; they are {self.method!r}, {self.size!r}, {self.tails!r} and "
                f"{self.draws}."
            )
        if self.size is not None and self.method == "conley-taber":
            raise DesignError(
                "`size` is for method='ferman-pinto'; 'conley-taber' takes clusters as equally "
                "noisy, whatever their size. Leave it out."
            )

    def stand_ins(self, n_treated: int, n_untreated: int) -> StandIns:
        """Draw which untreated cluster stands in for each treated one."""
        rng = generator(self.seed, "few treated", self.method)
        corrected = self.method == "ferman-pinto"
        every = math.log(n_untreated) * n_treated <= math.log(self.draws)
        if every and not corrected:
            grid = np.indices((n_untreated,) * n_treated).reshape(n_treated, -1)
            return StandIns(grid.T, None, True)
        picks = rng.integers(0, n_untreated, (self.draws, n_treated))
        return StandIns(picks, rng if corrected else None, False)


def few_treated_options(vcov: object) -> FewTreated | None:
    """Return the options that a `vcov` asks for; None where it is another one."""
    if isinstance(vcov, FewTreated):
        return vcov
    if vcov == "ferman-pinto":
        return FewTreated()
    return FewTreated(method="conley-taber") if vcov == "conley-taber" else None


class StandIns(NamedTuple):
    """
    Untreated clusters in place of treated ones.

    Parameters
    ----------
    picks : int array, shape (S, J)
        Untreated cluster for each treated one, in each draw.
    rng : Generator or None
        Draws the signs of the comparison's own noise; None leaves that noise out.
    enumerated : bool
        Whether these are all combinations.
    """

    picks: IntArray
    rng: np.random.Generator | None
    enumerated: bool


class Noise(NamedTuple):
    """
    What draws of the errors of one outcome of one regression are made of.

    Parameters
    ----------
    weight : array, shape (J, T, r)
        Weight of each treated cluster's mean in each period (or period and stratum) in each of r
        effects.
    residual : array, shape (C, T)
        Mean residuals of untreated clusters, known wherever `weight` is not zero.
    treated_size, size : array, shape (J, T), (C, T)
        What is behind the means of treated and untreated clusters.
    own : array, shape (C', r)
        Influence of all untreated clusters on the effects.
    """

    weight: FloatArray
    residual: FloatArray
    treated_size: FloatArray
    size: FloatArray
    own: FloatArray

    def place(self, j: int, *, corrected: bool) -> FloatArray:
        """Return the noise of untreated clusters in the place of a treated one, shape (C, r)."""
        used = (self.weight[j] != 0).any(axis=1)
        path = self.weight[j][used]
        noise = self.residual[:, used] @ path
        if not corrected:
            return np.asarray(noise)
        # what one row of variance 1 in each mean would add, for untreated clusters and this one
        behind = (1 / self.size[:, used]) @ path**2
        target = (1 / self.treated_size[j, used]) @ path**2
        factors = [rescaled(noise[:, i], behind[:, i], target[i]) for i in range(noise.shape[1])]
        return np.asarray(noise * np.column_stack(factors))


def rescaled(noise: FloatArray, behind: FloatArray, target: float) -> FloatArray:
    """
    Return by what noise is multiplied to have the variance of a cluster of another size.

    Parameters
    ----------
    noise : array, shape (C,)
        With variance ``a + b * behind``, a and b not negative, fitted to its squares.
    behind : array, shape (C,)
        One over size, for the weights of the periods.
    target : float
        The same for the cluster that noise stands in for.

    Returns
    -------
    array, shape (C,)
    """
    if not noise.any() or np.ptp(behind) <= 1e-9 * behind.max():
        # untreated clusters of one size do not tell how noise falls with size
        return np.ones(len(noise))
    from scipy.optimize import nnls

    unit = behind.mean()
    (common, own), _ = nnls(np.column_stack([np.ones(len(noise)), behind / unit]), noise**2)
    return np.asarray(np.sqrt((common + own * target / unit) / (common + own * behind / unit)))


def error_draws(parts: Sequence[Noise], stand_ins: StandIns) -> list[FloatArray]:
    """
    Draw errors of effects, jointly for outcomes and regressions on the same clusters.

    Parameters
    ----------
    parts : sequence of Noise
        With the same J treated and C (and C') untreated clusters.
    stand_ins : StandIns
        S draws.

    Returns
    -------
    list of arrays, shape (S, r)
        Cost O(S (J + C') r) a part.
    """
    picks, rng, _ = stand_ins
    corrected = rng is not None
    out = []
    for part in parts:
        total = np.zeros((len(picks), part.weight.shape[2]))
        for j in range(picks.shape[1]):
            total += part.place(j, corrected=corrected)[picks[:, j]]
        out.append(total)
    if rng is not None:
        n = len(parts[0].own)
        for rows in np.array_split(np.arange(len(picks)), len(picks) * n // _BLOCK_VALUES + 1):
            signs = 1.0 - 2.0 * rng.integers(0, 2, (len(rows), n))
            for total, part in zip(out, parts, strict=True):
                total[rows] += signs @ part.own
    return out
