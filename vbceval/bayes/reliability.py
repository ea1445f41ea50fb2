"""How much of an organization's savings rate is signal: exact hierarchical shrinkage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.groups import Once
from vbceval.bayes.luck import SavingsNoise
from vbceval.bayes.reliability_tree import RatesTree
from vbceval.bayes.shrinkage import Blocks, Grid, draw, integrate
from vbceval.core.checks import Problems, listed, missing_columns, text_rows
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray, IntArray
from vbceval.estimates import Estimates
from vbceval.estimates.columns import VALUES

UNIT = "fraction of benchmark"

_OWN = (
    "estimand", "outcome", "unit_of_measure", "period", "cluster", *VALUES, "observed",
    "sampling_sd", "reliability", "n_periods",
)  # fmt: skip
"""Columns of the result, which `keep` may not overwrite."""


class _Columns(NamedTuple):
    rate: str
    cluster: str
    period: str
    std_error: str | None
    person_years: str | None
    shared_benchmark: str | None

    @property
    def numbers(self) -> list[str]:
        return [c for c in (self.rate, self.std_error, self.person_years) if c is not None]


class _Placed(NamedTuple):
    """Blocks, the place of each row in them, and the sampling standard deviation of each row."""

    blocks: Blocks
    organization: IntArray
    slot: IntArray
    sampling_sd: FloatArray
    periods: pd.Index
    organizations: pd.Index


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """
    Shrink organizations' savings rates towards the mean of their period.

    The observed rate of organization i in period t is ``m_t + a_i + u_it + e_it``: a period mean,
    what lasts in the organization, N(0, organization_sd^2), what is real but only of that year,
    N(0, year_sd^2), and sampling error of known size. The true rate is the sum without e. Given the
    two standard deviations everything is normal; they are integrated over on a grid, so no sampler
    runs and nothing has to converge.

    It is not an effect of the program: the rate is a comparison with an administrative benchmark.

    Parameters
    ----------
    noise : SavingsNoise, optional
        Sampling error by size; needed unless `fit` is given the error of each row.
    organization_effect : bool, default True
        Let rates of one organization resemble each other over periods. It has no say where every
        organization has one period: the two standard deviations cannot be told apart there, and
        only their root sum of squares, ``signal_sd``, is reported.
    sd_scale : float, default 0.05
        Scale of the half-normal priors of both standard deviations, fraction of the benchmark.
    mean_sd : float, default 0.10
        Standard deviation of the normal prior of each period mean, around 0.
    draws : int, default 2000
        Posterior draws kept.
    seed : int, default 20210101
        Seed of the draws.

    References
    ----------
    .. [1] Adams, J. L. (2009). *The Reliability of Provider Profiling: A Tutorial*. RAND TR-653.
    .. [2] Gelman, A. et al. (2013). *Bayesian Data Analysis*, 3rd ed. Section 5.4.

    Examples
    --------
    >>> rates = pd.DataFrame({"cluster": ["A", "B", "C"], "period": 2018, "sd": [0.01, 0.01, 0.05],
    ...                       "savings_rate": [0.06, 0.00, -0.03]})
    >>> est = Reliability(draws=500).fit(rates, std_error="sd")
    >>> est.where(estimand="savings_rate").frame["reliability"].round(1).tolist()
    [0.9, 0.9, 0.4]
    """

    noise: SavingsNoise | None = None
    organization_effect: bool = True
    sd_scale: float = 0.05
    mean_sd: float = 0.10
    draws: int = 2000
    seed: int = 20210101

    def __post_init__(self) -> None:
        if not (self.sd_scale > 0 and self.mean_sd > 0 and self.draws >= 2):
            raise DesignError(
                "`sd_scale` and `mean_sd` must be positive and `draws` at least 2; they are "
                f"{self.sd_scale}, {self.mean_sd} and {self.draws}."
            )

    def fit(
        self,
        data: pd.DataFrame,
        *,
        rate: str = "savings_rate",
        cluster: str = "cluster",
        period: str = "period",
        std_error: str | None = None,
        person_years: str | None = None,
        shared_benchmark: str | None = None,
        keep: Sequence[str] = (),
    ) -> Estimates:
        """
        Return the posterior of every true savings rate.

        Parameters
        ----------
        data : DataFrame, n rows
            One row an organization-period.
        rate : str
            Column of observed rates, fractions of the benchmark (positive = savings).
        cluster, period : str
            Columns of the organization and the period.
        std_error : str, optional
            Column of sampling standard deviations, fractions, instead of `noise`.
        person_years : str, optional
            Column of sizes, needed with `noise`.
        shared_benchmark : str, optional
            Column naming the benchmark of a row, for example the start of its agreement period:
            rows of one organization with the same value share the benchmark's error. Without it
            errors are independent over periods, and an unlucky benchmark looks like a lasting
            difference.
        keep : sequence of str
            Further columns of `data` to carry along, under names that the result does not use.

        Returns
        -------
        Estimates
            With draws; estimates are exact posterior means, fractions of the benchmark. Estimand
            ``savings_rate``: one row an organization-period, in the order of `data`, with columns
            ``cluster``, ``observed``, ``sampling_sd``, ``reliability`` (real share of the variance
            of observed rates of this row's size) and `keep`; ``organization_mean``: mean true rate
            over an organization's periods, with its observed mean, where any has several;
            ``period_mean``; ``signal_sd``, and ``organization_sd``, ``year_sd`` where they can be
            told apart. The DataTree has ``posterior``, ``log_likelihood`` by organization,
            ``log_prior``, ``prior``, ``observed_data``, and ``posterior_predictive`` and
            ``prior_predictive`` rates of new organizations.

        Raises
        ------
        DataError
            If columns are missing or hold text, an organization-period appears twice, or a number
            is missing or out of range.
        DesignError
            If the sampling error is given twice or not at all, or there are fewer than three rows.
        """
        columns = _Columns(rate, cluster, period, std_error, person_years, shared_benchmark)
        self._check_source(columns)
        table = _checked(data, columns, list(dict.fromkeys(keep)))
        placed = self._place(table, columns)
        several = bool((placed.blocks.seen.sum(axis=1) > 1).any())
        both = self.organization_effect and several
        grid = integrate(
            placed.blocks, sd_scale=self.sd_scale, mean_sd=self.mean_sd, organization_effect=both
        )
        rng = generator(self.seed, "reliability")
        drawn = draw(placed.blocks, grid, self.draws, rng, mean_sd=self.mean_sd)
        parts = [_rates(table, columns, placed, grid, drawn[0], keep)]
        if several:
            parts.append(_organizations(columns, placed, grid, drawn[0]))
        parts += [_period_means(placed, grid, drawn[1]), _spreads(grid, drawn[2], both)]
        frame = pd.concat([f for f, _ in parts], ignore_index=True)
        frame["n_clusters"] = len(placed.organizations)
        return Estimates(
            frame=frame.assign(outcome=rate, unit_of_measure=UNIT),
            samples=np.concatenate([s for _, s in parts], axis=1),
            cluster_name=cluster,
            interval="credible",
            tree=Once(
                RatesTree(
                    blocks=placed.blocks,
                    organization=placed.organization,
                    slot=placed.slot,
                    organizations=list(placed.organizations),
                    periods=list(placed.periods),
                    rate=drawn[0],
                    period_mean=drawn[1],
                    sd=drawn[2],
                    both=both,
                    sd_scale=self.sd_scale,
                    mean_sd=self.mean_sd,
                    seed=self.seed,
                )
            ),
            meta=self._meta(placed, both),
        )

    def _check_source(self, columns: _Columns) -> None:
        by_size = self.noise is not None and columns.person_years is not None
        if (columns.std_error is not None) == by_size:
            raise DesignError(
                "the sampling error of the rates must come from one place: pass `std_error=` (a "
                "column of `data`), or give `Reliability(noise=...)` and `person_years=`. "
                f"{'Both' if by_size else 'Neither'} was given."
            )
        if columns.shared_benchmark is not None and not by_size:
            raise DesignError(
                "`shared_benchmark` divides the sampling error into the benchmark's part and the "
                "rest, which only `Reliability(noise=...)` can do. Pass `noise` and "
                "`person_years`, or leave `shared_benchmark` out."
            )

    def _place(self, table: pd.DataFrame, columns: _Columns) -> _Placed:
        organization, organizations = pd.factorize(table[columns.cluster])
        slot, periods = pd.factorize(table[columns.period], sort=True)
        if columns.std_error is not None:
            own = table[columns.std_error].to_numpy(dtype=float) ** 2
            shared = np.zeros(len(own))
        else:
            assert self.noise is not None  # checked at the door
            own, shared = self.noise.variances(table[columns.person_years])
        shape = (len(organizations), len(periods))
        rate, seen, root = np.zeros(shape), np.zeros(shape, dtype=bool), np.zeros(shape)
        rate[organization, slot], seen[organization, slot] = table[columns.rate], True
        noise = np.zeros((*shape, shape[1]))
        noise[organization, slot, slot] = own + shared
        if columns.shared_benchmark is not None:
            label = np.full(shape, -1)
            label[organization, slot] = pd.factorize(table[columns.shared_benchmark])[0]
            root[organization, slot] = np.sqrt(shared)
            same = (label[:, :, None] == label[:, None, :]) & ~np.eye(shape[1], dtype=bool)
            noise += root[:, :, None] * root[:, None, :] * same
        return _Placed(
            blocks=Blocks(rate=rate, seen=seen, noise=noise),
            organization=np.asarray(organization),
            slot=np.asarray(slot),
            sampling_sd=np.sqrt(own + shared),
            periods=pd.Index(periods),
            organizations=pd.Index(organizations),
        )

    def _meta(self, placed: _Placed, both: bool) -> dict[str, Any]:
        options = asdict(replace(self, noise=None))
        options["noise"] = None if self.noise is None else asdict(self.noise)
        return {
            "estimator": "Reliability",
            "options": options,
            "exactness": "exact: normal given two standard deviations, which are on a grid",
            "prior": (
                f"standard deviations half-normal({self.sd_scale:g}), period means "
                f"N(0, {self.mean_sd:g}^2), fractions of the benchmark"
            ),
            "levels": ["organization", "year"] if both else ["organization-year"],
            "n_organizations": len(placed.organizations),
            "n_periods": len(placed.periods),
            "n_rows": int(placed.blocks.seen.sum()),
            "seed": self.seed,
        }


def _checked(data: pd.DataFrame, columns: _Columns, keep: list[str]) -> pd.DataFrame:
    problems = Problems("the table of savings rates")
    named = [c for c in columns if c is not None]
    absent = missing_columns(data, [*named, *keep])
    if absent:
        problems.add(f"it has no column {listed(absent)}. It has {listed(data.columns)}.")
        problems.raise_if_any()
    taken = [c for c in keep if c in _OWN and c not in (columns.cluster, columns.period)]
    if taken:
        problems.add(
            f"`keep` names {listed(taken)}, which the result has of its own. Rename them in `data`."
        )
    for name in columns.numbers:
        column = data[name]
        text = len(text_rows(column))
        values = pd.to_numeric(column, errors="coerce")
        lost = int((~np.isfinite(values.to_numpy(dtype=float))).sum()) - text
        if text or lost:
            problems.add(
                f"`{name}` has {text} text and {lost} missing values in {len(data)} rows. Fill "
                "them, or leave these organization-periods out and say so in the attrition table."
            )
        elif name != columns.rate and bool((values <= 0).any()):
            problems.add(f"`{name}` is 0 or negative in {int((values <= 0).sum())} rows.")
        elif name == columns.rate and bool((values.abs() > 1).any()):
            problems.add(
                f"`{name}` is outside -1 to 1 in {int((values.abs() > 1).sum())} rows: rates are "
                "fractions of the benchmark. Divide percents by 100."
            )
    for name in named:
        if name not in columns.numbers and data[name].isna().any():
            problems.add(f"`{name}` is missing in {int(data[name].isna().sum())} rows. Fill it.")
    twice = int(data.duplicated([columns.cluster, columns.period]).sum())
    if twice:
        problems.add(
            f"{twice} rows repeat a pair of `{columns.cluster}` and `{columns.period}`, so one "
            "rate would count more than once. Keep one row a pair."
        )
    problems.raise_if_any()
    if len(data) < 3:
        raise DesignError(
            f"{len(data)} rates cannot show how much organizations differ: at least 3 are needed."
        )
    table = data[list(dict.fromkeys([*named, *keep]))].reset_index(drop=True)
    return table.assign(**{c: pd.to_numeric(table[c]).astype(float) for c in columns.numbers})


def _rates(
    table: pd.DataFrame,
    columns: _Columns,
    placed: _Placed,
    grid: Grid,
    draws: FloatArray,
    keep: Sequence[str],
) -> tuple[pd.DataFrame, FloatArray]:
    at = (placed.organization, placed.slot)
    signal = (grid.sd**2).sum(axis=1)
    noise = placed.sampling_sd**2
    frame = pd.DataFrame(
        {
            "estimand": "savings_rate",
            "period": table[columns.period],
            "cluster": table[columns.cluster],
            "estimate": grid.mean[at],
            "observed": table[columns.rate],
            "sampling_sd": placed.sampling_sd,
            "reliability": grid.weight @ (signal[:, None] / (signal[:, None] + noise)),
        }
    )
    read = (columns.rate, columns.cluster, columns.period)
    return frame.assign(**{x: table[x] for x in keep if x not in read}), draws[:, at[0], at[1]]


def _organizations(
    columns: _Columns, placed: _Placed, grid: Grid, draws: FloatArray
) -> tuple[pd.DataFrame, FloatArray]:
    seen = placed.blocks.seen
    share = seen / seen.sum(axis=1, keepdims=True)
    frame = pd.DataFrame(
        {
            "estimand": "organization_mean",
            "cluster": placed.organizations,
            "estimate": np.sum(share * grid.mean, axis=1),
            "observed": np.sum(share * placed.blocks.rate, axis=1),
            "sampling_sd": np.sqrt(np.einsum("mt,mts,ms->m", share, placed.blocks.noise, share)),
            "n_periods": seen.sum(axis=1),
        }
    )
    return frame, np.einsum("hmt,mt->hm", draws, share)


def _period_means(
    placed: _Placed, grid: Grid, draws: FloatArray
) -> tuple[pd.DataFrame, FloatArray]:
    frame = pd.DataFrame(
        {"estimand": "period_mean", "period": placed.periods, "estimate": grid.period_mean}
    )
    return frame, draws


def _spreads(grid: Grid, draws: FloatArray, both: bool) -> tuple[pd.DataFrame, FloatArray]:
    def columns(sd: FloatArray) -> FloatArray:
        total = np.sqrt((sd**2).sum(axis=1, keepdims=True))
        return np.concatenate([total, sd], axis=1) if both else total

    names = ["signal_sd", "organization_sd", "year_sd"] if both else ["signal_sd"]
    estimate = grid.weight @ columns(grid.sd)
    return pd.DataFrame({"estimand": names, "estimate": estimate}), columns(draws)
