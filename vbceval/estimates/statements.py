"""What evaluators say of a posterior: probabilities and expected losses, with their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray
from vbceval.estimates.columns import KEYS

if TYPE_CHECKING:
    from vbceval.estimates.estimates import Estimates


def posterior_draws(estimates: Estimates) -> FloatArray:
    """
    Return the draws of a posterior, shape (S, k).

    Raises
    ------
    EstimationError
        If intervals are not credible: neither a p-value nor a share of bootstrap draws is the
        probability of a hypothesis.
    """
    if estimates.interval != "credible":
        raise EstimationError(
            "these estimates are no posterior, so they give no probability of a hypothesis. "
            "Read the interval or the p-value of `tidy`, fit a model of `vbceval.bayes`, or combine "
            "them with a prior (`vbceval.bayes.given_evidence`)."
        )
    return estimates.draws()


def statements(
    estimates: Estimates,
    *,
    thresholds: Sequence[float] = (0.0,),
    rope: tuple[float, float] | None = None,
    ess: float | None = None,
) -> pd.DataFrame:
    """
    Return probabilities and expected losses of each row, with Monte Carlo standard errors.

    Parameters
    ----------
    estimates : Estimates, k rows
        A posterior.
    thresholds : sequence of float, default (0,)
        Effects, in the unit of each row: 0 and -1 ask for any fall, and for a fall by more than 1. A
        program that costs 1 percent of spending breaks even at -1.
    rope : (float, float), optional
        Effects so near zero that they make no difference in practice.
    ess : float, optional
        Effective number of draws. Default: the smallest of the fit, where it says, else the number of
        draws.

    Returns
    -------
    DataFrame
        Keys of the row; ``statement``; ``threshold``, or the upper end of `rope`; ``value`` and its
        Monte Carlo standard error ``mcse``. Statements are

        - ``below``: probability that the effect is below the threshold;
        - ``loss_if_kept``: mean of max(0, effect - threshold), what is lost on average by acting as
          if the effect were below the threshold; in the unit of the row;
        - ``loss_if_dropped``: mean of max(0, threshold - effect), by acting as if it were not;
        - ``direction``: probability of the more probable sign;
        - ``in_rope``: probability that the effect is inside `rope`.

    Raises
    ------
    EstimationError
        If the estimates are no posterior.
    DesignError
        If rows have several units, `rope` is in the wrong order, or `ess` is not positive.

    References
    ----------
    .. [1] Makowski, D., Ben-Shachar, M. S., Chen, S. H. A. and Luedecke, D. (2019). Indices of effect
       existence and significance in the Bayesian framework. *Frontiers in Psychology* 10, 2767.
    .. [2] Claxton, K. (1999). The irrelevance of inference: a decision-making approach to the
       stochastic evaluation of health care technologies. *Journal of Health Economics* 18(3),
       341-364.
    """
    draws = posterior_draws(estimates)
    size = effective_draws(estimates) if ess is None else float(ess)
    if not size > 0:
        raise DesignError(f"`ess` is {size:g}; it is a number of draws, above 0.")
    _require_one_unit(estimates, thresholds, rope)
    found: list[tuple[str, float, FloatArray, FloatArray]] = []
    for t in map(float, thresholds):
        found.append(("below", t, *share(draws < t, size)))
        for name, loss in (("kept", draws - t), ("dropped", t - draws)):
            found.append((f"loss_if_{name}", t, *_mean(np.maximum(loss, 0.0), size)))
    lower = (draws < 0).mean(axis=0) >= (draws > 0).mean(axis=0)
    found.append(("direction", 0.0, *share(np.where(lower, draws < 0, draws > 0), size)))
    if rope is not None:
        low, high = rope
        if not low < high:
            raise DesignError(f"`rope` is ({low:g}, {high:g}); give its lower end, then its upper.")
        found.append(("in_rope", high, *share((draws > low) & (draws < high), size)))
    keys = estimates.frame[[*KEYS]]
    rows = [
        keys.assign(statement=name, threshold=at, value=value, mcse=error)
        for name, at, value, error in found
    ]
    return pd.concat(rows, ignore_index=True)


def _require_one_unit(
    estimates: Estimates, thresholds: Sequence[float], rope: tuple[float, float] | None
) -> None:
    units = estimates.frame["unit_of_measure"].map(str).unique()
    if len(units) > 1 and (rope is not None or any(t != 0 for t in thresholds)):
        raise DesignError(
            f"rows are in {len(units)} units ({', '.join(units)}), and a threshold other than 0 means "
            "something else in each. Select one unit with `where(unit_of_measure=...)`."
        )


def effective_draws(estimates: Estimates) -> float:
    """Return the smallest effective number of draws that a posterior says it has, at most their number."""
    seen: dict[str, Any] = dict(estimates.meta.get("convergence") or {})
    # of a model of several parts it is by part
    parts = [x for x in seen.values() if isinstance(x, Mapping)] or [seen]
    sizes = [float(part[x]) for part in parts for x in ("ess_bulk", "ess_tail") if x in part]
    # draws in reflected pairs may be worth more than their number; probabilities are not
    return min([float(len(estimates.draws())), *[s for s in sizes if np.isfinite(s)]])


def share(inside: Any, size: float) -> tuple[FloatArray, FloatArray]:
    """Return the share of draws inside something, along the first axis, and its Monte Carlo error."""
    found = np.asarray(inside, dtype=float).mean(axis=0)
    # as if one more draw lay on either side: no probability is known without error
    near = (found * size + 1.0) / (size + 2.0)
    return found, np.sqrt(near * (1.0 - near) / size)


def _mean(values: FloatArray, size: float) -> tuple[FloatArray, FloatArray]:
    return values.mean(axis=0), values.std(axis=0) / np.sqrt(size)
