"""Spending with a mass at zero: has a person any, and how much if any, on cells."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.averages import PERCENT, averages
from vbceval.bayes.cells import Cells, from_moments
from vbceval.bayes.checks import Limits
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.model import Shocks
from vbceval.bayes.priors import PriorName, Priors
from vbceval.bayes.two_part_priors import Both, part_lines, total_lines
from vbceval.bayes.two_part_tree import drawn, joint_tree, named_draws
from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.estimates.columns import OVERALL
from vbceval.moments import Moments
from vbceval.panel import Panel

Amount = Literal["lognormal", "mean"]
PARTS = ("total", "extensive", "intensive", "any", "if_any")
"""What is reported: the last two are the effects on the parts themselves, in percent."""

_ROUNDING = 1e-6
_OTHER_NODES, _OTHER_DRAWS = (128, 256), 250
"""Points of the integration of each part, and draws of each chain, under other priors."""
_LEVEL = 5.0
"""Mean of logarithms in each stratum after a shift."""


class Changes(NamedTuple):
    """
    Draws of the change that each effect makes, percent of baseline; N draws, J effects.

    Parameters
    ----------
    any : array, shape (N, J)
        Of the share with any spending.
    if_any : array, shape (N, J)
        Of mean spending of those with any.
    """

    any: FloatArray
    if_any: FloatArray

    @property
    def parts(self) -> dict[str, FloatArray]:
        """
        Return the change of mean spending and its parts, by the names of `PARTS`.

        Extensive and intensive are the means over both orders in which one part can change first.

        Examples
        --------
        >>> found = Changes(np.array([[10.0]]), np.array([[-20.0]])).parts
        >>> [round(float(found[k][0, 0]), 6) for k in ("total", "extensive", "intensive")]
        [-12.0, 9.0, -21.0]
        """
        a, b = self.any / 100.0, self.if_any / 100.0
        extensive, intensive = a * (1.0 + b / 2.0), b * (1.0 + a / 2.0)
        return {
            "total": 100.0 * (extensive + intensive), "extensive": 100.0 * extensive,
            "intensive": 100.0 * intensive, "any": self.any, "if_any": self.if_any,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TwoPartDiD:
    """
    Two-part hierarchical model: do more or fewer persons have any spending, and how much if any?

    Counts of persons with any spending are binomial (`HierarchicalDiD` with ``family="binomial"``),
    spending of those with any has the Gaussian model on its logs, or on its cell means. Given the
    parameters the two are independent in the data and in the prior, so the posterior of both is
    the product of the two, and mean spending follows from each draw. An organization's shocks and
    own effects are therefore unrelated between the parts.

    Exactness: ``moments``. Engines: nested Laplace for the first part, the exact one for the other.

    Parameters
    ----------
    any : str
        Column that is 1 in rows with spending and 0 in others.
    positive : str
        Column that is missing in rows without spending, and in others the logarithm of spending
        (``amount="lognormal"``) or spending itself (``"mean"``).
    amount : {"lognormal", "mean"}
        Law of spending if any. Log-normal: effects multiply, and the variance of logs is that of
        untreated persons. "mean": cell means are normal, which large cells are whatever the law
        of persons, such as gamma; effects are in percent of the mean if any.
    any_prior : {"default", "skeptical", "flat"} or RatePriors
        Priors of the first part, log odds.
    amount_prior : {"default", "skeptical", "flat"} or Priors
        Priors of the second, percent (log points times 100).
    alternatives : tuple of {"default", "skeptical", "flat"}
        Priors of both parts under which the overall effect on spending
        (``meta["prior_sensitivity"]``) and on each part is reported beside the fit; both are
        integrated again, with fewer nodes. () reports none.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks in both.
    organization_effects : bool, default True
        Let effects differ between organizations.
    draws, chains : int, default 1000 and 4
        ``draws * chains`` draws.
    seed : int, default 20210101
        Seed.

    References
    ----------
    .. [1] Belotti, F., Deb, P., Manning, W. G. and Norton, E. C. (2015). twopm: Two-part models.
       *Stata Journal* 15(1), 3-20.

    Examples
    --------
    >>> TwoPartDiD(any="has_spending", positive="log_spending").amount
    'lognormal'
    """

    any: str
    positive: str
    amount: Amount = "lognormal"
    any_prior: PriorName | RatePriors = "default"
    amount_prior: PriorName | Priors = "default"
    alternatives: tuple[PriorName, ...] = ("default", "skeptical", "flat")
    shocks: Shocks = "ar1"
    organization_effects: bool = True
    draws: int = 1000
    chains: int = 4
    seed: int = 20210101

    def __post_init__(self) -> None:
        if self.amount not in ("lognormal", "mean"):
            raise DesignError(f"`amount` is '{self.amount}'; use 'lognormal' or 'mean'.")
        # the models of both parts check what they are given
        for other in (None, *self.alternatives):
            self._models(other)

    def _models(self, other: PriorName | None = None) -> tuple[HierarchicalDiD, HierarchicalDiD]:
        """Return the models of both parts; with another prior, of fewer nodes and draws."""
        shared: dict[str, Any] = {
            "shocks": self.shocks, "organization_effects": self.organization_effects,
            "chains": self.chains, "alternatives": (),
            "draws": self.draws if other is None else min(self.draws, _OTHER_DRAWS),
        }  # fmt: skip
        nodes = (None, None) if other is None else _OTHER_NODES
        return (
            HierarchicalDiD(
                family="binomial", prior=other or self.any_prior, seed=self.seed, nodes=nodes[0],
                **shared,
            ),
            # draws of the parts are independent: not from one stream
            HierarchicalDiD(
                prior=other or self.amount_prior, seed=self.seed + 1, nodes=nodes[1], **shared
            ),
        )  # fmt: skip

    def fit(
        self, data: Panel | Moments, design: Design, *, limits: Limits | None = None
    ) -> Estimates:
        """
        Compute the posterior.

        Parameters
        ----------
        data : Panel or Moments
            Rows are persons or person-years, without weights; a panel's are added up within
            cluster, period and stratum. Holds the outcome of the design and both columns.
        design : Design
            Its outcome is spending, zeros included, in dollars.
        limits : Limits, optional
            Of both parts, as in `HierarchicalDiD.fit`.

        Returns
        -------
        Estimates
            Rows of `HierarchicalDiD.fit` for each ``part``: "total", its "extensive" and
            "intensive" part, which add up to it, each in the unit of spending and in percent of
            the mean before entry; and "any" and "if_any", effects on the share with any spending
            and on the mean of those, in percent. All are averaged over cohorts, event times and
            strata with the weights of spending. ``meta["parts"]`` says everything of both fits.
            The DataTree has ``posterior`` with the change of every cohort, event time and stratum,
            and the other groups of `HierarchicalDiD.fit`: likelihoods of an organization are
            added over the parts; log priors and cells, "any" and "if_any", are by part.

        Raises
        ------
        DataError
            If the columns do not fit spending.
        DesignError
            If a part has no effect where spending has, or the design cannot be answered.
        EstimationError
            If a posterior cannot be trusted.
        """
        names = (design.outcome, self.any, self.positive)
        spending, some, positive = (_moments(data, name, design) for name in names)
        self._check(spending, some, positive, design)
        cells = from_moments(spending, design, person_sd=1.0)
        run = functools.partial(self._both, some, positive, cells, design)
        fitted = f"{_name(self.any_prior)}, {_name(self.amount_prior)}"
        if _name(self.any_prior) == _name(self.amount_prior):
            fitted = _name(self.any_prior)
        found: dict[str, Both | str] = {}
        found[fitted], changes, before = run(self._models(), limits)
        for other in self.alternatives:
            if other == fitted:
                continue
            try:
                found[other] = run(self._models(other), Limits(ess=0.0))[0]
            except EstimationError as error:
                found[other] = f"failed: {error}"
        return self._result(design, cells, changes, before, found, spending.cluster_name)

    def _both(
        self, some: Moments, positive: Moments, cells: Cells, design: Design,
        models: tuple[HierarchicalDiD, HierarchicalDiD], limits: Limits | None,
    ) -> tuple[Both, Changes, Changes]:  # fmt: skip
        """Fit both parts; return them, the changes they make, and those that the prior makes."""
        one = models[0].fit(
            some, replace(design, outcome=self.any, unit_of_measure=None), limits=limits
        )
        two = self._amounts(models[1], positive, design, limits)
        changes = Changes(_matched(one, "rate_effect", cells, self.any), self._change(two, cells))
        before = Changes(
            drawn(one, "rate_effect", cells, "prior"),
            self._percent(drawn(two, "effect", cells, "prior")),
        )
        both = Both(one, two, changes.parts["total"], before.parts["total"])
        return both, changes, before

    def _amounts(
        self, model: HierarchicalDiD, positive: Moments, design: Design, limits: Limits | None
    ) -> Estimates:
        design = replace(design, outcome=self.positive)
        if self.amount == "mean":
            return model.fit(positive, design, limits=limits)
        # percent of a baseline of 1 is a hundredth of a log. Intercepts are free, so the level of the
        # logs is arbitrary: one at which no treated group looks ten times off that baseline
        j = positive.column(self.positive)
        level = np.zeros(len(positive))
        keys = list(positive.strata)
        groups = positive.cells.groupby(keys).indices.values() if keys else [np.arange(len(level))]
        for i in groups:
            known = i[positive.w[i] > 0]
            level[i] = np.average(positive.y_mean[known, j], weights=positive.w[known]) - _LEVEL
        means = positive.y_mean.copy()
        means[:, j] -= level
        design = replace(design, unit_of_measure="log points")
        return model.fit(replace(positive, y_mean=means), design, baseline=1.0, limits=limits)

    def _change(self, posterior: Estimates, cells: Cells) -> FloatArray:
        return self._percent(_matched(posterior, "effect", cells, self.positive))

    def _percent(self, effect: FloatArray) -> FloatArray:
        """Return the change of mean spending if any, percent, from effects of the second part."""
        return 100.0 * np.expm1(effect / 100.0) if self.amount == "lognormal" else effect

    def _check(self, spending: Moments, some: Moments, positive: Moments, design: Design) -> None:
        problems = Problems("the columns of the two parts", DataError)
        spent = _total(spending, design.outcome)
        share, level = _mean(some, self.any), _mean(positive, self.positive)
        if not np.allclose(spending.w, spending.n, rtol=_ROUNDING):
            problems.add(
                "rows have weights, and the first part counts persons: a weighted person would "
                "count as several. Leave `weight` out, or use `HierarchicalDiD` on spending."
            )
        if not np.isclose(some.w.sum(), spending.w.sum(), rtol=_ROUNDING):
            problems.add(
                f"`{self.any}` is known in other rows than `{design.outcome}`. It is 0 or 1 where "
                "spending is known, and missing elsewhere."
            )
        if not np.isclose(positive.w.sum(), _total(some, self.any), rtol=_ROUNDING):
            problems.add(
                f"`{self.positive}` is known in other rows than those where `{self.any}` is 1. "
                "Make it missing where there is no spending, and nowhere else."
            )
        if not 0.0 < share < 1.0:
            problems.add(
                f"`{self.any}` is {share:g} in every row, so there is one part only. Use "
                "`HierarchicalDiD` on spending."
            )
        elif self.amount == "mean" and not np.isclose(
            _total(positive, self.positive), spent, rtol=_ROUNDING
        ):
            problems.add(
                f"`{self.positive}` does not add up to `{design.outcome}`. With amount='mean' it "
                "is spending itself; with logarithms use amount='lognormal'."
            )
        elif self.amount == "lognormal" and level > np.log(spent / positive.w.sum()) + _ROUNDING:
            problems.add(
                f"the mean of `{self.positive}` is above the logarithm of mean spending, which no "
                "mean of logarithms is. Pass natural logarithms, or use amount='mean'."
            )
        elif positive.yy is not None and not _varies(positive, self.positive):
            problems.add(
                f"`{self.positive}` is the same for all persons with spending in a cell, so the "
                "spread of amounts is unknown. Pass spending of persons, not means or fees; for a "
                "fee that all pay the first part is all there is: HierarchicalDiD(family='binomial')."
            )
        problems.raise_if_any()

    def _result(
        self, design: Design, cells: Cells, changes: Changes, before: Changes,
        found: dict[str, Both | str], cluster_name: str,
    ) -> Estimates:  # fmt: skip
        frame, weights = averages(cells, design)
        frames, draws, prior = [], [], []
        one, two = next(x for x in found.values() if not isinstance(x, str))[:2]
        overall = (frame["estimand"] == OVERALL).to_numpy()
        for part, change in changes.parts.items():
            rows = np.ones(len(frame), dtype=bool)
            if part in PARTS[3:]:
                rows = (frame["unit_of_measure"] == PERCENT).to_numpy()
            frames.append(frame[rows].assign(part=part))
            draws.append(change @ weights[rows].T)
            prior.append(before.parts[part] @ weights[rows].T)
        samples = np.hstack(draws)
        out = pd.concat(frames, ignore_index=True).assign(estimate=samples.mean(axis=0))
        shape = (self.chains, self.draws)
        groups = {
            "posterior": named_draws(changes.parts, samples, cells, shape),
            "prior": named_draws(before.parts, np.hstack(prior), cells, (1, len(before.any))),
        }
        return Estimates(
            frame=out, samples=samples, interval="credible", cluster_name=cluster_name,
            tree=joint_tree(groups, any=one.to_arviz(), if_any=two.to_arviz()),
            meta={
                **self._meta(design, cells, one, two, found),
                "prior_sensitivity": total_lines(
                    frame[overall].assign(part="total"), weights[overall], found
                ),
            },
        )  # fmt: skip

    def _meta(
        self, design: Design, cells: Cells, one: Estimates, two: Estimates,
        found: dict[str, Both | str],
    ) -> dict[str, Any]:  # fmt: skip
        seen = {
            part: {**est.meta, "prior_sensitivity": part_lines(part, found)}
            for part, est in (("any", one), ("if_any", two))
        }
        return {
            "estimator": "TwoPartDiD",
            "options": asdict(self),
            "design": {**two.meta["design"], "outcome": design.outcome},
            "prior": {part: meta["prior"] for part, meta in seen.items()},
            "convergence": {part: meta["convergence"] for part, meta in seen.items()},
            "baseline": dict(zip(map(str, cells.strata), cells.baseline.tolist(), strict=True)),
            "parts": seen,
            "n_clusters": len(cells.clusters),
            "seed": self.seed,
            "exactness": "moments",
            "versions": two.meta["versions"],
            "warnings": [f"{part}: {x}" for part, meta in seen.items() for x in meta["warnings"]],
        }


def _name(prior: PriorName | RatePriors | Priors) -> str:
    return prior if isinstance(prior, str) else "custom"


def _moments(data: Panel | Moments, outcome: str, design: Design) -> Moments:
    """Return moments of one column; rows of a panel are added up within clusters."""
    if isinstance(data, Moments):
        return data.of(outcome)
    return Moments.from_panel(
        data, outcomes=[outcome], covariates=list(design.covariates), by="cluster"
    )


def _total(moments: Moments, name: str) -> float:
    return float(np.nansum(moments.w * moments.y_mean[:, moments.column(name)]))


def _varies(moments: Moments, name: str) -> bool:
    j = moments.column(name)
    inside = 0.0 if moments.yy is None else float(np.nansum(moments.yy[:, j]))
    size = float(np.nansum(moments.w * np.square(moments.y_mean[:, j])))
    return inside > 1e-10 * size


def _mean(moments: Moments, name: str) -> float:
    return _total(moments, name) / float(moments.w.sum())


def _matched(posterior: Estimates, name: str, cells: Cells, column: str) -> FloatArray:
    """Return draws of a variable by effect, (N, J), in the order of the effects of spending."""
    tree = posterior.to_arviz()
    have = {str(x): k for k, x in enumerate(tree["posterior"]["effect_cell"].values)}
    wanted = cells.coords["effect_cell"]
    lost = [x for x in wanted if x not in have]
    if lost:
        raise DesignError(
            f"`{column}` has no effect for {len(lost)} of {len(wanted)} combinations of cohort, "
            f"event time and stratum that spending has ({listed(lost)}): nobody there has a value "
            "before and after entry. Merge strata, or end `window` earlier."
        )
    return drawn(posterior, name, cells, "posterior")


def two_part_columns(frame: pd.DataFrame, spending: str) -> Mapping[str, FloatArray]:
    """
    Return the columns that a two-part model reads, from spending of each row.

    Parameters
    ----------
    frame : DataFrame
        Rows.
    spending : str
        Column of spending, 0 or more.

    Returns
    -------
    mapping
        ``any``, ``log_if_any`` and ``if_any``; pass it on as ``frame.assign(**...)``.

    Raises
    ------
    DataError
        If spending is negative somewhere.

    Examples
    --------
    >>> found = two_part_columns(pd.DataFrame({"cost": [0.0, 100.0]}), "cost")
    >>> found["any"].tolist(), found["if_any"].tolist()
    ([0.0, 1.0], [nan, 100.0])
    """
    values = frame[spending].to_numpy(dtype=float)
    if (values < 0).any():
        raise DataError(
            f"`{spending}` is negative in some rows, and logarithms need positive values. Correct "
            "reversals, or set them to 0."
        )
    some = np.where(np.isnan(values), np.nan, (values > 0).astype(float))
    amount = np.where(values > 0, values, np.nan)
    return {"any": some, "log_if_any": np.log(amount), "if_any": amount}
