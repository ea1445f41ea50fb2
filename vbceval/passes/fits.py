"""The result of a regression that a pass gives, and what is needed to read its rows again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates

# digits left of a solution are about 16 less those of the condition number
_LARGEST_CONDITION = 1e12


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe:
    """
    What gives the scores of a regression, row by row.

    A regression of any origin can be described: the score of a row is
    ``weight * residual * (design of its cell) @ (1, covariates)``, where the residual is that of
    ``offset of its cell + (design of its cell) @ (1, covariates) @ coefficients``.

    Parameters
    ----------
    outcome : str
    covariates : tuple of str, q names
    unit : str or None
        People.
    cluster, period : str
    strata : tuple of str
        Further keys of a cell.
    weight, exposure : str or None
    cells : DataFrame
        Columns cluster, period, strata: the cells of the sample. Rows elsewhere are left out.
    design : array, shape (cells, p, 1 + q)
        Regressors of a cell, for (1, covariates) in their own units. Where cluster effects were
        absorbed, partialled regressors (less their cluster's mean, in the constant's column).
    offset : array, shape (cells,)
        Part of the prediction that is no coefficient: absorbed effects.
    coefficients : array, shape (p,)
    bread : array, shape (p, p)
        Inverse of the sum of weighted products of the (partialled) regressors.
    within : bool
        Residuals are less their unit's mean: unit effects.
    absorbed : int
        Levels of effects that are no coefficients and not nested in the unit; small-sample factors
        count them.
    family : str
        "gaussian", "logit", "poisson" or "gamma".
    """

    outcome: str
    covariates: tuple[str, ...] = ()
    unit: str | None
    cluster: str
    period: str
    strata: tuple[str, ...] = ()
    weight: str | None = None
    exposure: str | None = None
    cells: pd.DataFrame
    design: FloatArray
    offset: FloatArray
    coefficients: FloatArray
    bread: FloatArray
    within: bool = False
    absorbed: int = 0
    family: str = "gaussian"


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """
    Coefficients with their joint law.

    Parameters
    ----------
    names : tuple of str, p names
    coefficients : array, shape (p,)
        In units of the outcome per unit of the regressor, or on the scale of the link.
    covariance : array, shape (p, p)
        With its small-sample factor.
    psi : array, shape (G, p), or None
        Influence of every cluster, without factor; None where errors are clustered by unit: people
        are never stored.
    clusters : Index, length G, or None
        Labels of the rows of `psi`.
    df : float
        Degrees of freedom of t intervals.
    recipe : Recipe
        What `by_unit` reads.
    meta : mapping
        Counts, options, source.
    """

    names: tuple[str, ...]
    coefficients: FloatArray
    covariance: FloatArray
    psi: FloatArray | None
    clusters: pd.Index | None
    df: float
    recipe: Recipe
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def std_error(self) -> FloatArray:
        """Standard errors, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    def estimates(
        self, names: Sequence[str] | None = None, *, unit_of_measure: str | None = None
    ) -> Estimates:
        """
        Return coefficients as `Estimates`, ready for contrasts, bands, `stack` and figures.

        Parameters
        ----------
        names : sequence of str, optional
            Coefficients to keep. Default: all.
        unit_of_measure : str, optional
            Unit of the outcome.

        Raises
        ------
        DesignError
            If a name is no coefficient.
        """
        chosen = list(self.names if names is None else names)
        absent = [n for n in chosen if n not in self.names]
        if absent:
            raise DesignError(
                f"{listed(absent)} is no coefficient; there are {listed(self.names)}."
            )
        rows = [self.names.index(n) for n in chosen]
        frame = pd.DataFrame(
            {
                "estimand": chosen,
                "outcome": self.recipe.outcome,
                "unit_of_measure": unit_of_measure,
                "estimate": self.coefficients[rows],
                "df": self.df,
            }
        )
        if self.psi is None or self.clusters is None:
            law: dict[str, Any] = {"covariance": self.covariance[np.ix_(rows, rows)]}
        else:
            factor = np.sqrt(float(self.meta["ssc_factor"]))
            law = {
                "psi": self.psi[:, rows], "psi_vcov": self.psi[:, rows] * factor,
                "clusters": self.clusters, "cluster_name": self.recipe.cluster,
            }  # fmt: skip
        return Estimates(frame=frame, meta=dict(self.meta), **law)


def inverse(gram: FloatArray, raw: FloatArray, names: Sequence[str], *, why: str) -> FloatArray:
    """
    Invert a matrix of products of regressors.

    Parameters
    ----------
    gram : array, shape (p, p)
        After effects were taken out.
    raw : array, shape (p,)
        Its diagonal before: a regressor of which rounding alone is left is empty.
    names : sequence of str
        Names of the regressors, for the message.
    why : str
        What a singular matrix means here, and what to do.

    Raises
    ------
    EstimationError
        If regressors are linear combinations of others, as far as doubles can tell.
    """
    size = np.sqrt(np.clip(np.diag(gram), 0.0, None))
    empty = ~(np.diag(gram) > 1e-12 * raw)
    bad = [n for n, is_empty in zip(names, empty, strict=True) if is_empty]
    if not bad:
        scaled = gram / np.outer(size, size)
        values, vectors = np.linalg.eigh(scaled)
        if values[0] * _LARGEST_CONDITION > values[-1]:
            return np.asarray((vectors / values) @ vectors.T / np.outer(size, size))
        part = np.abs(vectors[:, 0])
        bad = [n for n, share in zip(names, part, strict=True) if share > 0.1 * part.max()]
    raise EstimationError(f"the coefficients of {listed(bad)} are not identified: {why}")
