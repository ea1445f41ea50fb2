"""`BalanceWeights`: one weight an organization, how it was made, and how it moves with the sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.balance.features import Features
from vbceval.balance.tables import Denominator, Sd, balance_table, effective_size
from vbceval.core.checks import listed
from vbceval.core.disclosure import is_small, say_people, suppress_small
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.panel import Panel

FEW = 0.30
"""Effective number of comparison organizations, as a share of all, below which a flag is set."""
LARGE = 0.05
"""Share of the comparison weight of one organization above which a flag is set."""
_OF_SIDE = {
    "treated": ["treated_without_match", "ess_treated"],
    "comparison": ["ess_comparison", "ess_comparison_sized", "ess_share", "largest_share"],
}
"""What of a summary tells how many of a side have weight."""


class Step(NamedTuple):
    """
    Estimation of the weights, which an effect that uses them inherits.

    Parameters
    ----------
    log_slope : array, shape (G, r)
        Derivative of each log weight with respect to r parameters.
    psi : array, shape (G, r)
        Influence of each organization on the parameters: their derivative with respect to its
        weight in the sample.
    """

    log_slope: FloatArray
    psi: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BalanceWeights(Mapping[Any, float]):
    """
    Balance weights of organizations, for ``Design(balance_weights=...)``.

    A mapping from label to weight; the weight multiplies the analysis weight of every row of the
    organization. Made by the functions of `vbceval.balance`.

    Parameters
    ----------
    method : str
        How they were made.
    features : Features
        What was balanced.
    weight : array, shape (G,)
        Non-negative weights, in the order of ``features.labels``.
    step : Step, optional
        Estimation of the weights; None takes them as fixed.
    propensity : array, shape (G,), optional
        Probability of entry.
    sets : int array, shape (G,), optional
        Match set of each organization, -1 = none.
    meta : mapping
        Options, columns left out, warnings.

    Raises
    ------
    DesignError
        If a weight is negative or not finite, or a side has no weight.
    """

    method: str
    features: Features
    weight: FloatArray
    step: Step | None = None
    propensity: FloatArray | None = None
    sets: IntArray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bad = int((~np.isfinite(self.weight) | (self.weight < 0)).sum())
        if bad:
            raise DesignError(
                f"{self.method} gives {self.features.count(bad, noun=True)} a negative or "
                "non-finite weight, which no estimator here accepts. Use a method whose weights "
                "are positive (distance='raking' or 'bounded'), or fewer features."
            )
        for side in (self.features.treated, self.features.comparison):
            if not (self.weight[side] > 0).any():
                raise DesignError(f"{self.method} leaves one side without weight.")

    def __getitem__(self, label: Any) -> float:
        """Return the weight of a label."""
        return self._table[label]

    def __iter__(self) -> Iterator[Any]:
        """Yield labels."""
        return iter(self._table)

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.weight)

    @cached_property
    def _table(self) -> dict[Any, float]:
        return dict(zip(self.features.labels, self.weight.tolist(), strict=True))

    def __repr__(self) -> str:
        """Describe the weights without a label or a value of an organization."""
        f = self.features
        return (
            f"BalanceWeights({self.method}, {f.count(int(f.treated.sum()))} treated and "
            f"{f.count(int(f.comparison.sum()))} comparison by `{f.label_name}`, "
            f"{len(f.names)} features from {f.baseline[0]:g} to {f.baseline[1]:g}, "
            f"{'estimated' if self.step is not None else 'fixed'})"
        )

    def to_series(self) -> pd.Series:
        """Return the weights by label."""
        index = pd.Index(self.features.labels, name=self.features.label_name)
        return pd.Series(self.weight, index=index, name="balance_weight")

    def fixed(self) -> BalanceWeights:
        """Return the same weights, taken as known: nothing is added to errors of effects."""
        return replace(self, step=None)

    def balance(
        self, *, sd: Sd = "organization", denominator: Denominator = "pooled"
    ) -> pd.DataFrame:
        """
        Compare features of both sides before and after weighting.

        Parameters
        ----------
        sd : {"organization", "people"}
            Standard deviation between organizations, or of the rows behind them (within plus
            between), where data are people or moments of them. They differ by the square root of
            the intraclass correlation, so a flag on one is not a flag on the other.
        denominator : {"pooled", "treated", "comparison"}
            Whose: the root of the mean variance of both sides, or one side's.

        Returns
        -------
        DataFrame
            One row a feature; see `vbceval.balance.tables.balance_table`.
        """
        return balance_table(self.features, self.weight, sd=sd, denominator=denominator)

    def summary(self) -> pd.Series:
        """
        Return what the weights do to the sample.

        Returns
        -------
        Series
            ``n_treated``, ``n_comparison`` (organizations; people of 1-10 missing),
            ``treated_without_match``, ``ess_treated`` and ``ess_comparison`` (effective numbers of
            organizations, (sum w)^2 / sum w^2), ``ess_comparison_sized`` (w times base weight),
            ``ess_share`` (of comparison organizations), ``largest_share`` (of comparison weight).
            Where 1-10 people of a side have weight, or have none, what follows from their number
            is missing.
        """
        told = self._summary
        if not self.features.people:
            return told
        f = self.features
        told = told.copy()
        for side, rows in (("treated", f.treated), ("comparison", f.comparison)):
            used = int((self.weight[rows] > 0).sum())
            if is_small([used, int(rows.sum()) - used]).any():
                told[_OF_SIDE[side]] = np.nan
        for key in ("n_treated", "n_comparison", "treated_without_match"):
            told[key] = suppress_small(told[key])
        return told

    @cached_property
    def _summary(self) -> pd.Series:
        """What the weights do, with all counts."""
        f, w = self.features, self.weight
        sized = w * f.base
        comparison = w[f.comparison]
        return pd.Series({
            "n_treated": float(f.treated.sum()), "n_comparison": float(f.comparison.sum()),
            "treated_without_match": float((w[f.treated] == 0).sum()),
            "ess_treated": effective_size(w[f.treated]),
            "ess_comparison": effective_size(comparison),
            "ess_comparison_sized": effective_size(sized[f.comparison]),
            "ess_share": effective_size(comparison) / len(comparison),
            "largest_share": float(sized[f.comparison].max() / sized[f.comparison].sum()),
        })  # fmt: skip

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of effects with these weights should know."""
        found, told = self._summary, self.summary()

        def share(key: str, otherwise: str) -> str:
            return otherwise if np.isnan(told[key]) else f"{told[key]:.0%}"

        out = [str(x) for x in self.meta.get("warnings", ())]
        if found["ess_share"] < FEW:
            out.append(
                f"balance weights leave {share('ess_share', 'few')} of the comparison organizations "
                f"in effect (less than {FEW:.0%})."
            )
        if found["largest_share"] > LARGE:
            out.append(
                "balance weights give one comparison organization "
                f"{share('largest_share', 'much')} of the comparison weight (more than {LARGE:.0%})."
            )
        table = self.balance()
        failed = table.loc[table["flag"] == "fail", "feature"]
        if len(failed):
            out.append(
                f"balance weights leave {listed(failed)} more than 0.25 standard deviations apart."
            )
        return tuple(dict.fromkeys(out))

    def propensities(self, bins: int = 20) -> pd.DataFrame:
        """
        Count organizations by probability of entry, for a picture of overlap.

        Parameters
        ----------
        bins : int, default 20
            Intervals between 0 and 1.

        Returns
        -------
        DataFrame
            ``low``, ``high``, ``n_treated``, ``n_comparison``; counts of 1-10 people are missing.

        Raises
        ------
        DesignError
            If the method has no propensity.
        """
        if self.propensity is None:
            raise DesignError(f"{self.method} has no propensity. Use `propensity` or `match`.")
        edges = np.linspace(0, 1, bins + 1)
        out = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
        for name in ("treated", "comparison"):
            p = self.propensity[getattr(self.features, name)]
            found = np.histogram(p, edges)[0].astype(float)
            out[f"n_{name}"] = suppress_small(found) if self.features.people else found
        return out

    def require_before(self, anticipation: int) -> None:
        """
        Check that features end before the periods in which a design allows a response.

        Raises
        ------
        DesignError
            If they do not.
        """
        f = self.features
        if f.baseline[1] >= f.first_entry - anticipation:
            raise DesignError(
                f"the balance weights use features up to {f.baseline[1]:g}, but with "
                f"anticipation={anticipation} organizations may respond from "
                f"{f.first_entry - anticipation:g} on. Make the weights with the same "
                "`anticipation`."
            )

    def describe(self) -> dict[str, Any]:
        """Return the record of a result that uses these weights: plain values, no label."""
        f = self.features
        return {
            "method": self.method, "features": f.names, "baseline": f.baseline, "level": f.level,
            "weights_random": self.step is not None,
            **{str(k): float(v) for k, v in self.summary().items()}, **self.meta,
            "warnings": self.warnings,
        }  # fmt: skip

    def apply(self, panel: Panel, *, by_set: bool = False) -> Panel:
        """
        Return a panel of the weighted rows, in place of ``balance_weights`` of a design.

        For weights that are fixed, and errors by match set: organizations matched without
        replacement are drawn together, so they belong in one cluster (Abadie and Spiess 2022).

        Parameters
        ----------
        panel : Panel
            The data the weights were made from.
        by_set : bool, default False
            Cluster errors by match set.

        Returns
        -------
        Panel
            Rows with positive weight; column ``balance_weight`` is its weight (times that of the
            panel), ``match_set`` its cluster with `by_set`. Attrition has a row more.

        Raises
        ------
        DesignError
            If the weights are estimated (a panel cannot carry that), or there are no sets.
        DataError
            If labels of the panel have no weight, or the column names are taken.
        """
        if self.step is not None:
            raise DesignError(
                "these weights are estimated, and a panel cannot carry their error. Give them to "
                "Design(balance_weights=...), or use `fixed()`."
            )
        if by_set and self.sets is None:
            raise DesignError(f"{self.method} makes no match sets; use by_set=False.")
        taken = [c for c in ("balance_weight", "match_set") if c in panel.frame]
        if taken:
            raise DataError(f"the panel already has {listed(taken)}; rename it.")
        label = panel.cluster if self.features.level == "cluster" else panel.unit
        place = self.features.labels.get_indexer(pd.Index(panel.frame[label]))
        if (place < 0).any():
            raise DataError(
                f"{_rows(int((place < 0).sum()), panel)} of the panel have a `{label}` without a "
                "balance weight. Make the weights from these data."
            )
        w = self.weight[place]
        if panel.weight is not None:
            w = w * panel.frame[panel.weight].to_numpy(dtype=float)
        frame = panel.frame.assign(balance_weight=w)
        if by_set and self.sets is not None:
            frame["match_set"] = self.sets[place]
        frame = frame[w > 0].reset_index(drop=True)
        left = {
            "step": f"{self.method}, positive balance weight", "rows": len(frame),
            "units": frame[panel.unit].nunique(), "clusters": frame[panel.cluster].nunique(),
        }  # fmt: skip
        return replace(
            panel, frame=frame, weight="balance_weight",
            cluster="match_set" if by_set else panel.cluster,
            attrition=pd.concat([panel.attrition, pd.DataFrame([left])], ignore_index=True),
        )  # fmt: skip


def _rows(number: int, panel: Panel) -> str:
    return say_people(number, "rows") if panel.people else f"{number:,} rows"
