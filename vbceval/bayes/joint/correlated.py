"""Priors of variances and correlations of several outcomes, and the covariances they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vbceval.bayes.equations import Terms
from vbceval.bayes.exact import Marginal
from vbceval.bayes.hyper import Law
from vbceval.bayes.joint.dense import Covariances, DenseEquations
from vbceval.bayes.joint.stacked import Stacked
from vbceval.bayes.likelihood import spread_within
from vbceval.bayes.model import Shocks
from vbceval.bayes.priors import Priors
from vbceval.core.typing import BoolArray, FloatArray

KINDS = SHOCK, ORGANIZATION, PERSON = "shock", "organization", "person"
"""What outcomes may be correlated in."""

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "rho": (), "overlap": (), "common_shock": ("outcome",), "stratum_shock": ("outcome",),
    "organization_sd": ("outcome",), "person_scale": ("stratum",),
    **{f"{kind}_correlation": ("outcome", "other") for kind in KINDS},
}  # fmt: skip
"""Parameters by the names of results, and what they have one of."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Joint:
    """
    The model of several outcomes, as its density reads it.

    Parameters
    ----------
    stacked : Stacked
        Cells and coefficients.
    shocks : {"ar1", "iid", "none"}
        Law of organizations' shocks over periods.
    organizations : bool
        Whether effects differ between organizations.
    person_log_sd : float
        Standard deviation of the log of a factor on the stated spread of persons; 0 for none.
    stated : array of bool, shape (S,)
        Strata whose spread of persons was stated.
    person_correlation : array, shape (O, O), optional
        Correlation of the outcomes of one person-year; None where it has a prior.
    concentration : float
        Exponent of the law of correlations (LKJ).
    """

    stacked: Stacked
    shocks: Shocks
    organizations: bool
    person_log_sd: float
    stated: BoolArray
    person_correlation: FloatArray | None
    concentration: float

    def laws(self, priors: Priors) -> tuple[Law, ...]:
        """Return the priors of everything that is not a coefficient of the mean."""
        cells, names = self.stacked.cells, self.stacked.outcomes
        strata = cells.coords["stratum"]
        out = []
        if len(self.stacked.parts.names) > 1:
            parts = self.stacked.parts.names[1:]
            out.append(Law("part_sd", "half_normal", (priors.spread,), parts, "part"))
        if self.shocks != "none":
            if self.shocks == "ar1":
                out.append(Law("rho_share", "beta", (2.0, 2.0)))
            out.append(Law("common_shock", "half_normal", (priors.shock,), names, "outcome"))
            if self.stacked.group.max() > 0:
                out.append(Law("stratum_shock", "half_normal", (priors.shock,), names, "outcome"))
            out += self._correlations(SHOCK)
        if self.organizations:
            scale = (priors.organization,)
            out.append(Law("organization_sd", "half_normal", scale, names, "outcome"))
            out += self._correlations(ORGANIZATION)
        if self.person_correlation is None:
            out += self._correlations(PERSON)
        if cells.restated:
            out.append(Law("overlap", "beta", (1.0, 1.0)))
        free = tuple(n for n, known in zip(strata, self.stated, strict=True) if not known)
        if free:
            out.append(Law("person_sd", "half_normal", (priors.person,), free, "stratum"))
        known = tuple(n for n, known in zip(strata, self.stated, strict=True) if known)
        if known and self.person_log_sd > 0:
            scale = (self.person_log_sd,)
            out.append(Law("person_factor", "log_normal", scale, known, "stratum"))
        return tuple(out)

    def _correlations(self, kind: str) -> list[Law]:
        """Return the laws of the partial correlations that make a matrix of law LKJ."""
        names, out = self.stacked.outcomes, []
        for k in range(len(names) - 1):
            own = self.concentration + (len(names) - 2 - k) / 2.0
            labels = tuple(f"{names[k]}, {other}" for other in names[k + 1 :])
            out.append(Law(f"{kind}_correlation_{k}", "beta", (own, own), labels))
        return out

    def natural(
        self, values: Mapping[str, FloatArray], shape: tuple[int, ...] = ()
    ) -> dict[str, FloatArray]:
        """
        Return parameters by the names of results, with the dimensions of `DIMENSIONS`.

        Parameters
        ----------
        values : mapping
            Parameters by the names of their laws, each (*shape, size).
        shape : tuple of int
            Shape of draws; none for one value.
        """
        n = len(self.stacked.outcomes)
        out = {k: np.asarray(values[k]) for k in DIMENSIONS if k in values}
        if "rho_share" in values:
            out["rho"] = 2.0 * values["rho_share"] - 1.0
        for kind in KINDS:
            partials = [f"{kind}_correlation_{k}" for k in range(n - 1)]
            if partials[0] in values:
                found = from_partials([2.0 * values[name] - 1.0 for name in partials])
                out[f"{kind}_correlation"] = found
        if self.person_correlation is not None:
            known = np.broadcast_to(self.person_correlation, (*shape, n, n))
            out["person_correlation"] = known
        person = np.ones((*shape, len(self.stated)))
        if "person_sd" in values:
            person[..., ~self.stated] = values["person_sd"]
        if "person_factor" in values:
            person[..., self.stated] = values["person_factor"]
        out["person_scale"] = person
        return out

    def covariances(self, natural: Mapping[str, FloatArray]) -> Covariances:
        """
        Return what the likelihood takes.

        Parameters
        ----------
        natural : mapping
            One value of the parameters, as `natural` returns it.
        """
        stacked = self.stacked
        pair = np.ix_(stacked.outcome, stacked.outcome)
        shocks = lasting = np.zeros((len(stacked.group), len(stacked.group)))

        def products(name: str) -> FloatArray:
            return np.outer(natural[name], natural[name])[pair]

        if "common_shock" in natural:
            shocks = products("common_shock")
            if "stratum_shock" in natural:
                shocks += products("stratum_shock") * (stacked.group[:, None] == stacked.group)
            shocks = shocks * natural["shock_correlation"][pair]
        if "organization_sd" in natural:
            lasting = products("organization_sd") * natural["organization_correlation"][pair]
        sd = natural["person_scale"]
        return Covariances(
            shocks, lasting, natural["person_correlation"][pair] * np.outer(sd, sd),
            float(natural.get("rho", np.zeros(()))), float(natural.get("overlap", np.zeros(()))),
        )  # fmt: skip


def from_partials(partials: list[FloatArray]) -> FloatArray:
    """
    Return the correlation matrix of partial correlations, shape (..., d, d).

    Parameters
    ----------
    partials : list of array
        The k-th, shape (..., d - 1 - k): correlations of variable k with those after it, given those
        before it. Independent Beta laws of them make the LKJ law of the matrix.

    References
    ----------
    .. [1] Lewandowski, D., Kurowicka, D. and Joe, H. (2009). Generating random correlation matrices
       based on vines and extended onion method. *Journal of Multivariate Analysis* 100(9),
       1989-2001. Section 2.

    Examples
    --------
    >>> from_partials([np.array([0.5, 0.0]), np.array([0.0])]).tolist()
    [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    d = len(partials) + 1
    root = np.zeros((*partials[0].shape[:-1], d, d))
    left = np.ones((*partials[0].shape[:-1], d))
    for k in range(d - 1):
        root[..., k, k] = np.sqrt(left[..., k])
        root[..., k + 1 :, k] = partials[k] * np.sqrt(left[..., k + 1 :])
        # as a product: a difference can be below zero by rounding where a partial is 1
        left[..., k + 1 :] *= 1.0 - np.square(partials[k])
    root[..., -1, -1] = np.sqrt(left[..., -1])
    out = root @ np.swapaxes(root, -1, -2)
    out[..., np.arange(d), np.arange(d)] = 1.0
    return np.asarray(out)


@dataclass(frozen=True, eq=False, kw_only=True)
class JointMarginal(Marginal):
    """
    Density of variances and correlations with everything else integrated out.

    Parameters
    ----------
    cells, parts, priors, laws, averages
        As in `vbceval.bayes.exact.Marginal`, of all outcomes.
    equations : Equations
        Groups and patterns; what is solved are `dense`.
    joint : Joint
        The model.
    dense : DenseEquations
        The cells, arranged.
    """

    joint: Joint
    dense: DenseEquations

    def _form(self, values: dict[str, FloatArray]) -> Terms:
        natural = self.joint.natural(values)
        terms = self.dense.at(self.cells.y, self.joint.covariances(natural))
        if self.cells.within is None:
            return terms
        within = spread_within(self.cells, natural["person_scale"] ** 2)
        return terms._replace(log_likelihood=terms.log_likelihood + within)


def stated_correlation(
    given: float | Mapping[tuple[str, str], float], outcomes: tuple[str, ...]
) -> FloatArray:
    """Return stated correlations of persons' outcomes as a matrix, unchecked, shape (O, O)."""
    out = np.eye(len(outcomes))
    for i, j in combinations(range(len(outcomes)), 2):
        if isinstance(given, Mapping):
            pair = outcomes[i], outcomes[j]
            value = given.get(pair, given.get((pair[1], pair[0]), np.nan))
        else:
            value = given
        out[i, j] = out[j, i] = value
    return out
