"""What chance alone does to savings rates, and how many rewards it explains."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates


@dataclass(frozen=True, kw_only=True)
class SavingsNoise:
    """
    Sampling error of a savings rate (benchmark - spending) / benchmark, from its size alone.

    Per-capita spending of a year with n person-years has the relative variance
    ``person_cv**2 * ((1 - icc) / n + icc)``. The benchmark is a weighted mean of earlier years of
    the same organization, with the same relative variance a year; any two years correlate by `rho`
    (through the people they share) and `rho_cluster` (through what lasts in the organization).
    There are no defaults for the size of the error: it is an assumption to be cited and varied.

    Parameters
    ----------
    person_cv : float
        Standard deviation of one person's annual spending, as a multiple of the mean.
    icc : float, default 0
        Share of the person-level variance that all people of an organization have in common in a
        year. A published share that includes lasting differences between organizations needs a
        high `rho_cluster`, because what lasts is in the benchmark too and cancels.
    benchmark_weights : tuple of float, default ()
        Weights of the benchmark years, which sum to 1. Empty: the benchmark is taken as known.
    rho : float, default 0
        Correlation of person-level error between two years.
    rho_cluster : float, default 0
        Correlation of the organization's common part between two years.
    trend_sd : float, default 0
        Standard deviation of the error of the benchmark's trend factor, as a fraction.

    Raises
    ------
    DataError
        If a value is out of range, or the weights do not sum to 1.

    References
    ----------
    .. [1] DeLia, D., Hoover, D. and Cantor, J. C. (2012). Statistical uncertainty in the Medicare
       Shared Savings Program. *Medicare & Medicaid Research Review* 2(4), E1-E16.

    Examples
    --------
    >>> SavingsNoise(person_cv=2.0).sd([10_000, 40_000]).tolist()
    [0.02, 0.01]
    """

    person_cv: float
    icc: float = 0.0
    benchmark_weights: tuple[float, ...] = ()
    rho: float = 0.0
    rho_cluster: float = 0.0
    trend_sd: float = 0.0

    def __post_init__(self) -> None:
        problems = Problems("the noise of savings rates")
        if not self.person_cv > 0:
            problems.add(f"`person_cv` is {self.person_cv}; it is a positive multiple of the mean.")
        for name in ("icc", "rho", "rho_cluster"):
            if not 0 <= getattr(self, name) <= 1:
                problems.add(f"`{name}` is {getattr(self, name)}; it lies between 0 and 1.")
        if not self.trend_sd >= 0:
            problems.add(f"`trend_sd` is {self.trend_sd}; it is a fraction, 0 or more.")
        weights = np.asarray(self.benchmark_weights, dtype=float)
        if weights.size and (np.any(weights < 0) or abs(weights.sum() - 1) > 1e-9):
            problems.add(
                f"`benchmark_weights` are {self.benchmark_weights}; they are 0 or more and sum to 1."
            )
        problems.raise_if_any()

    def variances(self, person_years: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """
        Return the parts of the error variance that are new each year and shared between years.

        Parameters
        ----------
        person_years : array_like, shape (n,)
            Size of each organization-year.

        Returns
        -------
        own, shared : array, shape (n,)
            Variances of the savings rate where true savings are zero, as fractions squared. Two
            performance years that are held against one benchmark have `shared` in common.
        """
        n = _sizes(person_years)
        weights = np.asarray(self.benchmark_weights, dtype=float)
        own, shared = np.full(n.shape, self.trend_sd**2), np.zeros(n.shape)
        parts = (
            (self.person_cv**2 * (1 - self.icc) / n, self.rho),
            (np.full(n.shape, self.person_cv**2 * self.icc), self.rho_cluster),
        )
        for variance, rho in parts:
            own += (1 - rho) * variance
            # with a benchmark from the same organization, what all years share cancels
            shared += ((1 - rho) * float(weights @ weights) if weights.size else rho) * variance
        return own, shared

    def sd(self, person_years: ArrayLike, *, true_saving: ArrayLike = 0.0) -> FloatArray:
        """
        Return the standard deviation of observed savings rates, as a fraction of the benchmark.

        Parameters
        ----------
        person_years : array_like, shape (n,)
            Size of each organization-year.
        true_saving : array_like, default 0
            True savings as a fraction of the benchmark, below 1; saving makes spending, and so its
            error, smaller in proportion.

        Raises
        ------
        DataError
            If a size is not positive, or a true saving is missing or not below 1.
        """
        saving = np.asarray(true_saving, dtype=float)
        if not np.all(saving < 1):
            raise DataError(
                f"{int(np.sum(~(saving < 1)))} values of `true_saving` are missing, or 1 or more: "
                "it is a fraction of the benchmark. Divide percents by 100."
            )
        own, shared = self.variances(person_years)
        return np.asarray((1 - saving) * np.sqrt(own + shared))

    def draws(
        self,
        person_years: ArrayLike,
        size: int,
        rng: np.random.Generator,
        *,
        true_saving: ArrayLike = 0.0,
    ) -> FloatArray:
        """
        Draw observed savings rates, shape (size, n), for rules that are not a simple threshold.

        Pass them to a program's settlement for the law of payments when true savings are
        `true_saving`. Organization-years are drawn as independent.
        """
        sd = self.sd(person_years, true_saving=true_saving)
        centre = np.broadcast_to(np.asarray(true_saving, dtype=float), sd.shape)
        return np.asarray(centre + sd * rng.standard_normal((size, *sd.shape)))


def _sizes(person_years: ArrayLike) -> FloatArray:
    n = np.asarray(person_years, dtype=float)
    bad = int(np.sum(~np.isfinite(n) | ~(n > 0)))
    if bad:
        raise DataError(
            f"{bad} of {n.size} organization-years have no positive `person_years`, so their "
            "sampling error is unknown. Leave them out, or fill in their size."
        )
    return n


@dataclass(frozen=True, kw_only=True)
class Luck:
    """
    Chances of each organization, all arrays of one shape.

    Parameters
    ----------
    sd : array
        Standard deviation of the observed savings rate, fraction of the benchmark.
    reward : array
        Probability that the observed rate reaches the minimum savings rate.
    penalty : array
        Probability that the observed rate reaches the minimum loss rate; 0 where there is none.
    """

    sd: FloatArray
    reward: FloatArray
    penalty: FloatArray


def paid_by_luck(
    person_years: ArrayLike,
    *,
    noise: SavingsNoise,
    msr: ArrayLike,
    mlr: ArrayLike = np.nan,
    true_saving: ArrayLike = 0.0,
) -> Luck:
    """
    Return the probabilities of reward and penalty at a given true savings rate.

    With ``true_saving=0`` these are the probabilities of an undeserved reward and an undeserved
    penalty. Observed rates are taken as normal; only the savings rate counts, not quality.

    Parameters
    ----------
    person_years : array_like
        Size of each organization-year. All arrays broadcast together.
    noise : SavingsNoise
        Sampling error by size.
    msr, mlr : array_like
        Minimum savings and loss rates, positive fractions of the benchmark; `mlr` missing where
        the organization owes nothing (one-sided).
    true_saving : array_like, default 0
        True savings, fraction of the benchmark (negative = losses).

    Returns
    -------
    Luck

    Raises
    ------
    DataError
        If a size is not positive, or a rate is not a fraction.

    References
    ----------
    .. [1] DeLia, D., Hoover, D. and Cantor, J. C. (2012). Statistical uncertainty in the Medicare
       Shared Savings Program. *Medicare & Medicaid Research Review* 2(4), E1-E16.

    Examples
    --------
    A threshold of one standard deviation is passed by luck with probability .159.

    >>> luck = paid_by_luck([10_000], noise=SavingsNoise(person_cv=2.0), msr=0.02)
    >>> luck.reward.round(3).tolist(), luck.penalty.tolist()
    ([0.159], [0.0])
    """
    save, reach, owe = np.broadcast_arrays(
        np.asarray(true_saving, dtype=float),
        np.asarray(msr, dtype=float),
        np.asarray(mlr, dtype=float),
    )
    wrong = [int(np.sum(~((reach >= 0) & (reach < 1)))), int(np.sum((owe < 0) | (owe >= 1)))]
    if any(wrong):
        raise DataError(
            f"`msr` and `mlr` are fractions of the benchmark, at least 0 and below 1 ({wrong[0]} "
            f"and {wrong[1]} values are not): a loss rate is given without a minus sign, and "
            "percents are divided by 100."
        )
    sd = noise.sd(person_years, true_saving=save)
    reward = special.ndtr((save - reach) / sd)
    penalty = np.where(np.isnan(owe), 0.0, special.ndtr((-np.nan_to_num(owe) - save) / sd))
    return Luck(sd=sd, reward=np.broadcast_to(reward, sd.shape), penalty=penalty)


def share_rewarded_by_chance(
    estimates: Estimates,
    *,
    msr: str = "msr",
    rewarded: str = "rewarded",
    by: str | None = "period",
    level: float = 0.95,
) -> pd.DataFrame:
    """
    Compare the number of rewarded organization-years with what chance alone would reward.

    Two different questions are answered side by side. *Expected by chance*: if nobody saved
    anything, how many would pass their own minimum savings rate, given their size? *False rewards*:
    of those who were in fact rewarded, how many saved nothing, given the spread of all
    organizations (the posterior of `Reliability`)?

    Parameters
    ----------
    estimates : Estimates
        Result of `Reliability.fit`, with the columns `msr` and `rewarded` kept by ``keep=``.
    msr : str
        Column of minimum savings rates, fractions.
    rewarded : str
        Column of booleans: a shared-savings payment was made.
    by : str, optional
        Column to group by, in addition to the row for all; None for that row alone.
    level : float, default 0.95
        Probability of the intervals.

    Returns
    -------
    DataFrame
        One row a group, and first all together (group missing): ``n`` organization-years with an
        `msr`, ``rewarded``, ``rewarded_share``; ``expected_by_chance`` with ``chance_low``,
        ``chance_high`` (the count's own spread, organization-years independent) and
        ``chance_share`` = expected / rewarded; ``false_rewards`` = sum of P(true rate <= 0) over
        the rewarded, with its posterior interval ``false_low``, ``false_high``, and
        ``false_share`` = false_rewards / rewarded. Shares of none are missing.

    Raises
    ------
    DataError
        If a column is missing, or `rewarded` is not known where there is an `msr`.
    """
    rows = estimates.where(estimand="savings_rate")
    frame = rows.frame
    absent = missing_columns(frame, [msr, rewarded, "sampling_sd", *([by] if by else [])])
    if absent:
        raise DataError(
            f"the estimates have no column {listed(absent)}. Name the columns of the table in "
            "`keep=` of `Reliability.fit`."
        )
    reach = pd.to_numeric(frame[msr]).to_numpy(dtype=float)
    keep = np.isfinite(reach)
    unclear = int((~frame.loc[keep, rewarded].isin([True, False])).sum())
    if unclear:
        raise DataError(
            f"`{rewarded}` is missing, or neither true nor false, in {unclear} rows with a "
            f"`{msr}`, so it is unknown whether they were paid. Fill it, for example with "
            "payment > 0, or leave these rows out."
        )
    paid = frame[rewarded].isin([True]).to_numpy(dtype=bool)
    chance = special.ndtr(-reach / frame["sampling_sd"].to_numpy(dtype=float))
    no_saving = rows.draws() <= 0
    groups: dict[Hashable, np.ndarray] = {np.nan: np.flatnonzero(keep)}
    if by is not None:
        for value, index in frame[keep].groupby(by, sort=True).groups.items():
            groups[value] = np.asarray(index)
    out = []
    for value, at in groups.items():
        counts = _chance_counts(chance[at], paid[at], no_saving[:, at], level)
        out.append({**({by: value} if by else {}), **counts})
    return pd.DataFrame(out)


def _chance_counts(
    chance: FloatArray, paid: np.ndarray, no_saving: np.ndarray, level: float
) -> dict[str, float]:
    tails = [(1 - level) / 2, (1 + level) / 2]
    expected, number = float(chance.sum()), int(paid.sum())
    low, high = np.searchsorted(np.cumsum(_count_law(chance)), tails)
    false = no_saving[:, paid].sum(axis=1)
    edges = np.quantile(false, tails)
    return {
        "n": len(chance),
        "rewarded": number,
        "rewarded_share": number / len(chance) if len(chance) else np.nan,
        "expected_by_chance": expected,
        "chance_low": float(low),
        "chance_high": float(high),
        "chance_share": expected / number if number else np.nan,
        "false_rewards": float(false.mean()),
        "false_low": float(edges[0]),
        "false_high": float(edges[1]),
        "false_share": float(false.mean()) / number if number else np.nan,
    }


def _count_law(chance: FloatArray) -> FloatArray:
    """Law of the number of successes in independent trials, by adding one trial at a time."""
    law = np.zeros(len(chance) + 1)
    law[0] = 1.0
    for p in chance:
        law[1:] = law[1:] * (1 - p) + law[:-1] * p
        law[0] *= 1 - p
    return law
