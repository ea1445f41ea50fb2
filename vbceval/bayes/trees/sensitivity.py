"""What other scales of the priors would make of a fit with trees, by weights on its draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.trees.gibbs import Chain, Scales
from vbceval.bayes.weights import LARGEST_K, smoothed, summary
from vbceval.core.typing import FloatArray

MULTIPLES = (0.5, 2.0)
"""By which each scale is multiplied."""

_SHOWN = ("att_overall", "effect_group", "explained_share")
_FEWEST = 200.0
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Reweighted:
    """
    Draws under another scale of one prior.

    Parameters
    ----------
    weight : array, shape (S,)
        Adding up to one.
    pareto_k : float
        Shape of the tail of the weights.
    """

    weight: FloatArray
    pareto_k: float

    @property
    def trusted(self) -> bool:
        """Whether tail and effective number of draws allow to read them."""
        return self.pareto_k <= LARGEST_K and 1.0 / np.square(self.weight).sum() >= _FEWEST


def reweighted(draws: Chain, scales: Scales, name: str, multiple: float) -> Reweighted:
    """
    Weigh draws by the ratio of a prior with another scale to the one that was fitted.

    Parameters
    ----------
    draws : Chain
        Draws of any number of chains.
    scales : Scales
        Fitted priors.
    name : {"mean_sd", "covariate_sd", "organization_sd"}
        Which scale: the level's, or a half-normal one.
    multiple : float
        By which it is multiplied.
    """
    values = {
        "mean_sd": draws.level - scales.mean, "covariate_sd": draws.covariate_sd,
        "organization_sd": draws.organization_sd,
    }[name].ravel()  # fmt: skip
    square = np.square(values / getattr(scales, name))
    # normal and half-normal: what does not depend on the value is the same for all draws
    weight, shape = smoothed(-0.5 * square * (multiple**-2 - 1.0))
    return Reweighted(weight=weight, pareto_k=shape)


def prior_lines(
    draws: Chain, scales: Scales, frame: pd.DataFrame, samples: FloatArray
) -> list[dict[str, Any]]:
    """
    Return the main rows of a result under other scales of each prior.

    Parameters
    ----------
    draws, scales : Chain, Scales
        The fit.
    frame : DataFrame, k rows
        Its rows.
    samples : array, shape (S, k)
        Their draws.

    Returns
    -------
    list of dict
        ``prior`` (which scale, times what), keys of the row, mean, interval, ``pareto_k`` and
        ``method``; without numbers where weights cannot be trusted.
    """
    rows = np.flatnonzero(frame["estimand"].isin(_SHOWN))
    keys = frame.iloc[rows][["estimand", "stratum", "unit_of_measure"]].to_dict("records")
    records: list[dict[str, Any]] = []
    for name in ("mean_sd", "covariate_sd", "organization_sd"):
        for multiple in MULTIPLES:
            found = reweighted(draws, scales, name, multiple)
            table = summary(samples[:, rows], found.weight, _LEVEL).drop(columns="below_zero")
            method = "draws reweighted" if found.trusted else "not from these draws: fit again"
            if not found.trusted:
                table = table * np.nan
            for key, row in zip(keys, table.to_dict("records"), strict=True):
                own = {str(k): v for k, v in {**key, **row}.items()}
                records.append(
                    {"prior": f"{name} times {multiple:g}", **own, "level": _LEVEL,
                     "pareto_k": found.pareto_k, "method": method}
                )  # fmt: skip
    return records
