"""How effects depend on organizations' covariates: a sum of trees behind estimated effects."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.checks import Limits, require_converged
from vbceval.bayes.draws import DIMS
from vbceval.bayes.groups import Once
from vbceval.bayes.trees.covariates import Table, groups_of, read_profiles, read_table
from vbceval.bayes.trees.forest import Forest, Shape
from vbceval.bayes.trees.gibbs import Chain, Scales, joined, measured, sample_chain
from vbceval.bayes.trees.groups import complete, posterior_tree
from vbceval.bayes.trees.sensitivity import prior_lines
from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.core.version import versions
from vbceval.estimates import Estimates

_FEWEST = 10
_WIDEST = 100.0


class _Places(NamedTuple):
    """Where trees are read: rows of covariates, and means over them, one a row of the result."""

    frame: pd.DataFrame
    average: FloatArray
    rows: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class EffectTrees:
    """
    Let effects of organizations depend on their covariates by Bayesian additive regression trees.

    Estimates of organizations' effects are normal about the true effects with their whole
    covariance; the true effect of an organization is a level, plus a sum of trees at its
    covariates, plus a normal deviation of its own. What the trees find is an association among
    treated organizations: who gained more, not what would happen if a covariate were changed.

    Not for estimates that were shrunken already: use `vbceval.bayes.organization_estimates`, or
    estimates of separate organizations with their covariance.

    Parameters
    ----------
    trees : int, default 50
        Number of trees.
    split, depth : float, default 0.95 and 2
        A node at depth d is split with prior probability ``split * (1 + d) ** -depth``.
    smallest_leaf : int, default 5
        Fewest organizations in a leaf.
    mean, mean_sd : float, default 0 and 3
        Normal prior of the level, in the unit of the estimates (percent of baseline).
    covariate_sd : float, default 2
        Scale of the half-normal prior of the standard deviation of the sum of trees.
    organization_sd : float, default 2
        Scale of the half-normal prior of the standard deviation of organizations' own deviations.
    draws, tune, chains : int, default 1000, 1000 and 4
        Kept draws and warm-up steps of each chain.
    thin : int, default 4
        Steps between kept draws: trees change slowly.
    seed : int, default 20210101
        Seed.

    References
    ----------
    .. [1] Chipman, H. A., George, E. I. and McCulloch, R. E. (2010). BART: Bayesian additive
       regression trees. *Annals of Applied Statistics* 4(1), 266-298. Sections 2 and 3.
    .. [2] Hahn, P. R., Murray, J. S. and Carvalho, C. M. (2020). Bayesian regression tree models
       for causal inference. *Bayesian Analysis* 15(3), 965-1056. Section 5.

    Examples
    --------
    >>> EffectTrees(covariate_sd=1.0).trees
    50
    """

    trees: int = 50
    split: float = 0.95
    depth: float = 2.0
    smallest_leaf: int = 5
    mean: float = 0.0
    mean_sd: float = 3.0
    covariate_sd: float = 2.0
    organization_sd: float = 2.0
    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    thin: int = 4
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the model", DesignError)
        for name in ("trees", "smallest_leaf", "tune", "thin"):
            if getattr(self, name) < 1:
                problems.add(f"`{name}` is {getattr(self, name)}; it is 1 or more.")
        if not (0 < self.split < 1 and self.depth >= 0):
            problems.add(
                f"`split` is {self.split} and `depth` {self.depth}; the first lies between 0 and 1, "
                "the second is 0 or more."
            )
        for name in ("mean_sd", "covariate_sd", "organization_sd"):
            if not 0 < getattr(self, name) <= _WIDEST:
                problems.add(
                    f"`{name}` is {getattr(self, name)}; it is positive, and at most {_WIDEST:g}: "
                    "priors are in percent of baseline, not dollars."
                )
        if not abs(self.mean) <= _WIDEST:
            problems.add(f"`mean` is {self.mean}; priors are in percent of baseline, not dollars.")
        if self.draws < 4 or self.chains < 2:
            problems.add(
                f"`draws` is {self.draws} and `chains` {self.chains}; at least 4 and 2, or convergence "
                "cannot be judged."
            )
        problems.raise_if_any()

    def fit(
        self, estimates: Estimates, covariates: pd.DataFrame, *, columns: Sequence[str],
        cluster: str = "cluster", weight: str | None = None, groups: Sequence[str] = (),
        profiles: pd.DataFrame | None = None, partial: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> Estimates:  # fmt: skip
        """
        Draw from the posterior.

        Parameters
        ----------
        estimates : Estimates, n rows
            One effect for each organization, labelled in column ``cluster``, in percent, with
            their joint covariance.
        covariates : DataFrame
            One row an organization: values from before entry.
        columns : sequence of str
            Columns that trees may split: numbers, true and false, or text of few levels.
        cluster : str, default "cluster"
            Column of `covariates` with the organizations' labels.
        weight : str, optional
            Column of weights of organizations in averages. Default: all alike.
        groups : sequence of str
            Columns by whose values organizations are averaged.
        profiles : DataFrame, optional
            Values of all covariates at which the expected effect is wanted; its index names them.
        partial : sequence of str
            Covariates whose partial dependence is wanted: the expected effect, averaged over
            organizations with this one covariate set to each of a few values.
        limits : Limits, optional
            Limits of averages; default R-hat 1.01, effective sample size 400. Spreads must reach
            half of the latter and twice the distance of R-hat from 1; single organizations and
            shares of splits a quarter and four times.

        Returns
        -------
        Estimates
            With draws. By ``estimand``: ``att_overall``, mean true effect; ``effect_group``, the
            same by group, ``stratum`` "column=value"; ``effect_profile`` (column ``profile``) and
            ``partial_dependence`` (columns ``covariate``, ``value``), level and trees only;
            ``explained_sd``, standard deviation over organizations of what trees say;
            ``organization_sd``; ``explained_share`` of variance; ``split_share``, the share of a
            covariate among splits; ``effect_organization`` (column ``cluster``), the true effect of
            each organization, with ``observed`` and ``observed_se``. In ``meta``: priors, what twice
            and half of each scale would give (``prior_sensitivity``), convergence, and whether
            residuals are as large as replicated ones (``posterior_predictive``). The DataTree has
            the groups of `vbceval.bayes.trees.groups.complete`.

        Raises
        ------
        DesignError
            If estimates or options do not fit.
        DataError
            If the table of covariates cannot be used.
        EstimationError
            If the draws cannot be trusted, or stochtree is not installed.
        """
        y, covariance, unit = self._estimates(estimates)
        unknown = [name for name in partial if name not in columns]
        if unknown:
            raise DesignError(f"`partial` names {listed(unknown)}, not among `columns`.")
        table = read_table(
            covariates, estimates.frame["cluster"].tolist(), cluster=cluster, covariates=columns,
            weight=weight, also=groups,
        )  # fmt: skip
        if len(y) < 2 * self.smallest_leaf:
            raise DesignError(
                f"{len(y)} organizations cannot be split into leaves of {self.smallest_leaf}. Lower "
                "`smallest_leaf`, or describe them without trees."
            )
        places = _places(table, profiles, partial)
        draws = joined([self._chain(y, covariance, table, places, k) for k in range(self.chains)])
        tree = posterior_tree(draws, [str(c) for c in table.frame.iloc[:, 0]])
        means = np.array([table.weight, *groups_of(table, groups).values()])
        frame, samples = _rows(draws, table, places, means, tuple(groups_of(table, groups)), unit)
        seen = _judge(frame, samples, self.chains, limits)
        frame["estimate"] = samples.mean(axis=0)
        frame["outcome"] = estimates.frame["outcome"].iloc[0]
        own = (frame["estimand"] == "effect_organization").to_numpy()
        frame.loc[own, "observed"] = y
        frame.loc[own, "observed_se"] = np.sqrt(np.diag(covariance))
        return Estimates(
            frame=frame, samples=samples, interval="credible", cluster_name=estimates.cluster_name,
            tree=Once(
                functools.partial(
                    complete, tree, draws, measured(y, covariance), self._scales, self.seed
                )
            ),
            meta={
                **self._meta(draws, table, estimates, seen, unit),
                "prior_sensitivity": prior_lines(draws, self._scales, frame, samples),
            },
        )  # fmt: skip

    def _estimates(self, estimates: Estimates) -> tuple[FloatArray, FloatArray, str]:
        problems = Problems("the estimates", DesignError)
        frame = estimates.frame
        if "cluster" not in frame or frame["cluster"].isna().any():
            problems.add("rows have no label in column `cluster`. Use one row an organization.")
        elif frame["cluster"].duplicated().any():
            problems.add("organizations have several rows. Select one effect of each with `where`.")
        for key in ("outcome", "unit_of_measure"):
            if len(frame[key].unique()) > 1:
                problems.add(f"rows differ in `{key}`. Select one with `where`.")
        units = frame["unit_of_measure"].astype("string").fillna("")
        if not units.str.startswith("percent").all():
            problems.add(
                f"effects are in {listed(units.unique())}, and priors in percent of baseline. Use "
                "`scale` with 100 over the mean before entry."
            )
        if estimates.samples is not None and "shrinkage" in frame:
            problems.add(
                "they are shrunken already (`HierarchicalDiD.organizations`), and would be shrunken "
                "twice. Use `organization_estimates`."
            )
        if len(frame) < _FEWEST:
            problems.add(f"there are {len(frame)}; trees need at least {_FEWEST} organizations.")
        problems.raise_if_any()
        covariance = estimates.vcov()
        if not (np.isfinite(covariance).all() and (np.diag(covariance) > 0).all()):
            raise DesignError("some estimates have no standard error. Leave them out with `where`.")
        return estimates.estimate, covariance, str(units.iloc[0])

    def _chain(
        self, y: FloatArray, covariance: FloatArray, table: Table, places: _Places, number: int
    ) -> Chain:
        rng = generator(self.seed, "effect trees", number)
        shape = Shape(self.trees, self.split, self.depth, self.smallest_leaf)
        x = table.columns(table.frame)
        forest = Forest(x, table.chance, shape, int(rng.integers(2**31 - 1)))
        elsewhere = forest.places(table.columns(places.frame)) if len(places.frame) else None
        return sample_chain(
            measured(y, covariance), forest, self.trees, self._scales, elsewhere,
            lambda values: places.average @ values, draws=self.draws, tune=self.tune,
            thin=self.thin, rng=rng,
        )  # fmt: skip

    @property
    def _scales(self) -> Scales:
        return Scales(self.mean, self.mean_sd, self.covariate_sd, self.organization_sd)

    def _meta(
        self, draws: Chain, table: Table, estimates: Estimates, seen: dict[str, Any], unit: str
    ) -> dict[str, Any]:
        observed, replicated = (draws.discrepancy[..., i].ravel() for i in range(2))
        return {
            "estimator": "EffectTrees",
            "options": asdict(self),
            "of": {k: estimates.meta[k] for k in ("estimator", "options", "design") if k in estimates.meta},
            "columns": table.names,
            "prior": {
                "level": f"Normal({self.mean:g}, {self.mean_sd:g}) {unit}",
                "covariate_sd": f"HalfNormal({self.covariate_sd:g}) {unit}",
                "organization_sd": f"HalfNormal({self.organization_sd:g}) {unit}",
                "trees": f"{self.trees}; a node at depth d is split with probability "
                f"{self.split:g} (1 + d)^-{self.depth:g}",
            },
            "posterior_predictive": {
                "squared_length": {
                    "observed": float(observed.mean()), "replicated": float(replicated.mean()),
                    "p_value": float((replicated >= observed).mean()),
                }
            },
            "convergence": seen,
            "n_clusters": len(table.frame),
            "seed": self.seed,
            "versions": versions("stochtree", "numpy"),
        }  # fmt: skip


def _places(table: Table, profiles: pd.DataFrame | None, partial: Sequence[str]) -> _Places:
    """Return where trees are read beside the organizations themselves."""
    frames, averages, rows = [], [], []
    if profiles is not None:
        frames.append(read_profiles(profiles, table)[table.names])
        averages.append(np.eye(len(profiles)))
        rows += [{"estimand": "effect_profile", "profile": str(name)} for name in profiles.index]
    for name in partial:
        covariate = next(c for c in table.covariates if c.name == name)
        for value in covariate.grid():
            frames.append(table.frame[table.names].assign(**{name: value}))
            averages.append(table.weight[None, :])
            rows.append({"estimand": "partial_dependence", "covariate": name, "value": value})
    total = np.zeros((len(rows), sum(len(f) for f in frames)))
    row = column = 0
    for average in averages:
        height, width = average.shape
        total[row : row + height, column : column + width] = average
        row, column = row + height, column + width
    frame = pd.concat(frames, ignore_index=True) if frames else table.frame[table.names].iloc[:0]
    return _Places(frame, total, pd.DataFrame(rows))


def _rows(
    draws: Chain, table: Table, places: _Places, means: FloatArray, strata: tuple[str, ...],
    unit: str,
) -> tuple[pd.DataFrame, FloatArray]:  # fmt: skip
    """Return the rows of the result and draws of each, (chains * S, k), chains joined."""
    n = len(table.frame)
    explained = np.sqrt((draws.expected - draws.expected @ means[0][:, None]) ** 2 @ means[0])
    share = explained**2 / (explained**2 + draws.organization_sd**2)
    owners = np.eye(len(table.covariates))[table.owner]
    splits = draws.splits @ owners
    splits = splits / np.maximum(splits.sum(axis=-1, keepdims=True), 1.0)
    parts: list[tuple[pd.DataFrame, FloatArray]] = [
        (_named("att_overall", 1), draws.effect @ means[:1].T),
        (_named("effect_group", len(strata)).assign(stratum=list(strata)), draws.effect @ means[1:].T),
        (places.rows, draws.elsewhere),
        (_named("explained_sd", 1), explained[..., None]),
        (_named("organization_sd", 1), draws.organization_sd[..., None]),
        (_named("explained_share", 1), share[..., None]),
        (_named("split_share", splits.shape[-1]).assign(covariate=table.names), splits),
        (_named("effect_organization", n).assign(cluster=table.frame.iloc[:, 0].tolist()), draws.effect),
    ]  # fmt: skip
    frame = pd.concat([f for f, _ in parts if len(f)], ignore_index=True)
    shares = frame["estimand"].isin(["explained_share", "split_share"])
    frame["unit_of_measure"] = np.where(shares, "share", unit)
    if "stratum" not in frame:
        frame["stratum"] = None
    frame["n_clusters"] = float(n)
    for stratum, weights in zip(strata, means[1:], strict=True):
        frame.loc[frame["stratum"] == stratum, "n_clusters"] = float((weights > 0).sum())
    frame.loc[frame["estimand"] == "effect_organization", "n_clusters"] = 1.0
    samples = np.concatenate([v for _, v in parts], axis=-1)
    return frame, samples.reshape(-1, samples.shape[-1])


def _named(estimand: str, size: int) -> pd.DataFrame:
    return pd.DataFrame({"estimand": [estimand] * size})


def _judge(
    frame: pd.DataFrame, samples: FloatArray, chains: int, limits: Limits | None
) -> dict[str, Any]:
    """Judge averages, less strictly spreads, and least single organizations and splits."""
    import xarray

    limits = Limits() if limits is None else limits
    values = samples.reshape(chains, -1, samples.shape[1])
    # the share of the only covariate among splits is a constant
    moves = values.std(axis=(0, 1)) > 0
    kinds = {"effect_organization": "single", "split_share": "single"} | dict.fromkeys(
        ("explained_sd", "organization_sd", "explained_share"), "spread"
    )
    kind = frame["estimand"].map(lambda x: kinds.get(x, "average")).to_numpy()
    seen = {}
    for name, less in (("average", 1), ("spread", 2), ("single", 4)):
        rows = (kind == name) & moves
        given = Limits(r_hat=1 + less * (limits.r_hat - 1), ess=limits.ess / less)
        labels = (
            frame.loc[rows, ["estimand", "stratum"]]
            .astype("string")
            .fillna("")
            .agg(" ".join, axis=1)
        )
        dataset = xarray.Dataset(
            {name: ((*DIMS, "row"), values[..., rows])}, coords={"row": labels.str.strip().tolist()}
        )
        tree = xarray.DataTree.from_dict({"posterior": dataset})
        seen[name] = asdict(require_converged(tree, None, given))
    return seen
