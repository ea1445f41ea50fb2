"""`Design`: the comparison that defines the estimand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.balance import BalanceWeights
from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.typing import BasePeriod, Comparison


@dataclass(frozen=True, kw_only=True)
class Design:
    """
    A comparison: outcome, comparison group, base period, covariates.

    Parameters
    ----------
    outcome : str
        Column whose treated-minus-untreated change is estimated.
    comparison : {"not_yet_treated", "never_treated"}
        Which untreated units serve as comparison.
    base_period : {"varying", "universal"}
        For periods before entry: the period just before ("varying"), or one base for all periods
        ("universal", entry - anticipation - 1). Effects after entry use the latter in both.
    anticipation : int, default 0
        Whole periods before entry in which units may already respond.
    covariates : sequence of str
        Baseline columns on which trends are allowed to depend.
    fixed_effects : tuple of str, optional
        For regression estimators: effects other than their default.
    window : (int, int), optional
        First and last event time estimated, both included.
    balance_weights : BalanceWeights, Series or mapping, optional
        Weight of each cluster, by label; multiplies the analysis weight. Those of
        `vbceval.balance` may be by unit, and carry their estimation into errors of effects.
        Clusters without one are an error, so that none is lost silently.
    unit_of_measure : str, optional
        Unit of the outcome, printed on every exhibit, for example "USD per person-year".

    Raises
    ------
    DesignError
        Listing every value that is not understood; or if balance weights use features of periods
        in which `anticipation` allows a response.
    """

    outcome: str
    comparison: Comparison = "not_yet_treated"
    base_period: BasePeriod = "varying"
    anticipation: int = 0
    covariates: Sequence[str] = ()
    fixed_effects: tuple[str, ...] | None = None
    window: tuple[int, int] | None = None
    balance_weights: Mapping[Any, float] | pd.Series | None = None
    unit_of_measure: str | None = None

    def __post_init__(self) -> None:
        problems = Problems("the design", DesignError)
        if self.comparison not in ("not_yet_treated", "never_treated"):
            problems.add(
                f"`comparison` is '{self.comparison}'; use 'not_yet_treated' or 'never_treated'."
            )
        if self.base_period not in ("varying", "universal"):
            problems.add(f"`base_period` is '{self.base_period}'; use 'varying' or 'universal'.")
        if self.anticipation < 0 or int(self.anticipation) != self.anticipation:
            problems.add(
                f"`anticipation` is {self.anticipation}; it counts whole periods before entry, so "
                "it is 0 or a positive integer."
            )
        for name in ("covariates", "fixed_effects"):
            value = getattr(self, name)
            if isinstance(value, str):
                problems.add(f"`{name}` is the text '{value}'; give a list of names.")
        if self.window is not None and self.window[0] > self.window[1]:
            problems.add(f"`window` {self.window} ends before it begins.")
        problems.raise_if_any()
        object.__setattr__(self, "covariates", tuple(self.covariates))
        if isinstance(self.balance_weights, BalanceWeights):
            self.balance_weights.require_before(self.anticipation)
        elif self.balance_weights is not None:
            object.__setattr__(self, "balance_weights", _weights(self.balance_weights))

    def weights_for(self, clusters: pd.Series, units: pd.Series | None = None) -> np.ndarray:
        """
        Return the balance weight of each row, by its cluster label; ones without weights.

        Parameters
        ----------
        clusters : Series
            Cluster of each row.
        units : Series, optional
            Unit of each row, for weights by unit.

        Raises
        ------
        DesignError
            If clusters have no weight.
        """
        if self.balance_weights is None:
            return np.ones(len(clusters))
        labels, what = clusters, "clusters"
        if isinstance(self.balance_weights, BalanceWeights) and units is not None:
            by_unit = self.balance_weights.features.level == "unit"
            labels, what = (units, "units") if by_unit else (clusters, "clusters")
        weights = labels.map(dict(self.balance_weights)).to_numpy(dtype=float, na_value=np.nan)
        lost = labels[np.isnan(weights)].nunique()
        if lost:
            raise DesignError(
                f"{lost:,} of {labels.nunique():,} {what} have no balance weight, so they "
                "would leave the comparison unseen. Give weight 0 to those meant to leave."
            )
        return weights


def _weights(weights: Mapping[Any, float] | pd.Series) -> dict[Any, float]:
    table = {key: float(value) for key, value in dict(weights).items()}
    bad = sum(1 for v in table.values() if not np.isfinite(v) or v < 0)
    if bad or not any(v > 0 for v in table.values()):
        raise DesignError(
            f"`balance_weights` has {bad} negative or non-finite values"
            f"{'' if bad else ' and none above zero'}. Weights must be non-negative numbers."
        )
    return table
