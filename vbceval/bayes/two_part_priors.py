"""A two-part model under other priors: what is reported of spending as a whole, and of each part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.weights import summary
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates

LEVEL = 0.95
_KEYS = ("estimand", "outcome", "unit_of_measure", "stratum", "part")


class Both(NamedTuple):
    """
    Both parts under one prior.

    Parameters
    ----------
    any, if_any : Estimates
        Posteriors of the parts.
    total : array, shape (N, J)
        Draws of the change of mean spending, percent.
    prior : array, shape (M, J)
        The same, drawn from the prior.
    """

    any: Estimates
    if_any: Estimates
    total: FloatArray
    prior: FloatArray


def total_lines(
    frame: pd.DataFrame, weights: FloatArray, found: Mapping[str, Both | str]
) -> list[dict[str, Any]]:
    """
    Return the overall effect on spending under each prior, one record a prior and unit.

    Parameters
    ----------
    frame : DataFrame, r rows
        Overall effect of the total, in each unit.
    weights : array, shape (r, J)
        Which average each row is.
    found : mapping
        Posterior by name of the prior, the fitted one first; or why there is none.

    Returns
    -------
    list of dict
        Keys as in `vbceval.bayes.alternatives.prior_lines`; prior mean and standard deviation are
        those of the overall effect, not normal, in percent of baseline (``prior_law``).
    """
    out = []
    first = next(iter(found))
    percent = weights[np.flatnonzero(frame["unit_of_measure"].str.startswith("percent"))[0]]
    for i, key in enumerate(frame.reindex(columns=list(_KEYS)).to_dict("records")):
        for name, both in found.items():
            values = dict.fromkeys(
                ("estimate", "std_error", "conf_low", "conf_high", "probability_below_0"), np.nan
            )
            mean, sd, method = np.nan, np.nan, both
            if not isinstance(both, str):
                draws = (both.total @ weights[i])[:, None]
                table = summary(draws, np.full(len(draws), 1.0 / len(draws)), LEVEL)
                table = table.rename(columns={"below_zero": "probability_below_0"})
                values = {str(k): float(v) for k, v in table.iloc[0].items()}
                before = both.prior @ percent
                mean, sd = float(before.mean()), float(before.std())
                method = "as fitted" if name == first else "integrated again"
            out.append(
                {
                    **{str(k): v for k, v in key.items()}, "prior": name,
                    "prior_mean_percent": mean, "prior_sd_percent": sd,
                    "prior_law": f"of mean {mean:.2g} and standard deviation {sd:.2g}",
                    **values, "level": LEVEL, "method": method, "pareto_k": np.nan,
                }
            )  # fmt: skip
    return out


def part_lines(part: str, found: Mapping[str, Both | str]) -> list[dict[str, Any]]:
    """
    Return the lines of one part, "any" or "if_any": its own under the fitted prior, then others.

    ``found`` is that of `total_lines`.
    """
    fits = [getattr(x, part) for x in found.values() if not isinstance(x, str)]
    out = list(fits[0].meta["prior_sensitivity"])
    for est in fits[1:]:
        out += [{**x, "method": "integrated again"} for x in est.meta["prior_sensitivity"]]
    return out
