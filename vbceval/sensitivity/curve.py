"""A specification curve: one effect under many defensible choices, with their joint law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, stack
from vbceval.sensitivity.given import require_estimates

_DRAWS = 20_000


@dataclass(frozen=True, eq=False, kw_only=True)
class SpecificationCurve:
    """
    The same effect under several specifications, sorted, with joint inference.

    Parameters
    ----------
    estimates : Estimates, J rows
        Column ``run`` names the specification; smallest estimate first.
    choices : DataFrame
        One row a specification, in the same order, one column a choice.
    seed : int
        Seed of the draws behind the tests of the curve.
    """

    estimates: Estimates
    choices: pd.DataFrame
    seed: int = 20210101

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """Return choices beside estimates; bands hold jointly over all specifications."""
        return pd.concat([self.choices.reset_index(drop=True), self.estimates.tidy(level)], axis=1)

    @cached_property
    def _under_null(self) -> FloatArray:
        """Draws of all estimates were every effect zero, shape (S, J)."""
        est = self.estimates
        rng = generator(self.seed, "specification curve")
        return est.simulate_draws(_DRAWS, rng) - est.estimate

    def tests(self, level: float = 0.95) -> pd.DataFrame:
        """
        Test the curve as a whole.

        Parameters
        ----------
        level : float, default 0.95
            Content of the interval of the median, and of the single intervals that are counted.

        Returns
        -------
        DataFrame
            Columns ``statement, value, conf_low, conf_high, p_value``:

            - ``any effect``: the largest |t|; its p-value by the joint law.
            - ``median effect``: with an interval from the joint law.
            - ``significant, same sign``: share of specifications whose own interval excludes zero
              on the side of the median; its p-value is the chance of a share as large, on either
              side, were every effect zero.

        References
        ----------
        .. [1] Simonsohn, U., Simmons, J. P. and Nelson, L. D. (2020). Specification curve analysis.
           *Nature Human Behaviour* 4, 1208-1214. Their permutations are replaced by draws from the
           joint law of the estimates.
        """
        est, noise = self.estimates, self._under_null
        table = est.tidy(level)
        se = est.std_error
        t = est.estimate / se
        everyone = np.arange(len(est))
        largest = float(np.abs(t).max())
        median = float(np.median(est.estimate))
        medians = np.median(noise, axis=1)
        low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
        half = ((table["conf_high"] - table["conf_low"]) / 2).to_numpy(dtype=float)
        side = np.sign(median)
        found = float(np.mean((side * est.estimate) > half))
        shares = np.maximum((noise > half).mean(axis=1), (noise < -half).mean(axis=1))
        rows = [
            ("any effect", largest, np.nan, np.nan,
             float(np.mean(est.largest_t(everyone) >= largest))),
            ("median effect", median, median - high, median - low,
             (1 + np.sum(np.abs(medians) >= abs(median))) / (1 + len(medians))),
            ("significant, same sign", found, np.nan, np.nan,
             (1 + np.sum(shares >= found - 1e-12)) / (1 + len(shares))),
        ]  # fmt: skip
        return pd.DataFrame(
            rows, columns=["statement", "value", "conf_low", "conf_high", "p_value"]
        )

    def difference(self, one: str, other: str) -> Estimates:
        """
        Return one specification less another, with the interval of the difference.

        Raises
        ------
        DesignError
            If a name is not known.
        """
        names = self.estimates.frame["run"].tolist()
        unknown = [n for n in (one, other) if n not in names]
        if unknown:
            raise DesignError(
                f"there is no specification {listed(unknown)}; there are {listed(names)}."
            )
        weights = {f"{one} - {other}": {names.index(one): 1.0, names.index(other): -1.0}}
        return self.estimates.contrast(weights)

    def choice_effects(self, level: float = 0.95) -> pd.DataFrame:
        """
        Return how much each choice moves the estimate, other choices averaged.

        Returns
        -------
        DataFrame
            One row a choice and value: ``choice``, ``value``, ``n_specifications``, ``estimate``
            (mean over specifications with the value, less the mean over the others), ``std_error``,
            ``conf_low``, ``conf_high``, ``p_value``.
        """
        rows = []
        for choice in self.choices.columns:
            values = self.choices[choice].astype(str).to_numpy()
            for value in dict.fromkeys(values):
                own = values == value
                if own.all():
                    continue
                weights = own / own.sum() - ~own / (~own).sum()
                row = self.estimates.contrast(weights).tidy(level).iloc[0]
                rows.append({
                    "choice": choice, "value": value, "n_specifications": int(own.sum()),
                    **{k: row[k] for k in _REPORTED},
                })  # fmt: skip
        columns = ["choice", "value", "n_specifications", *_REPORTED]
        return pd.DataFrame(rows, columns=columns)


_REPORTED = ("estimate", "std_error", "conf_low", "conf_high", "p_value")


def specification_curve(
    specifications: Mapping[str, Estimates],
    *,
    choices: pd.DataFrame | Mapping[str, Mapping[str, object]] | None = None,
    seed: int = 20210101,
) -> SpecificationCurve:
    """
    Stack specifications of one effect, with the covariance between them.

    Specifications on the same organizations are highly correlated, so a curve of separate
    intervals says little about whether a choice matters. Here every difference has its interval.

    Parameters
    ----------
    specifications : mapping of str to Estimates
        Each of one row (aggregate first), with influence on the same cluster variable, the same
        estimand and unit of measure.
    choices : DataFrame or mapping, optional
        Choices of each specification, by its name: index (or first keys) are names. Default: one
        choice, the name.
    seed : int
        Seed of draws.

    Returns
    -------
    SpecificationCurve

    Raises
    ------
    DesignError
        If a specification has several rows, estimands or units differ (they would be different
        questions, not specifications of one), or choices do not cover the names.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCDEF"), 3), "year": [2014, 2015, 2016] * 6,
    ...     "entry": np.repeat([2016.0, 2016.0, 2016.0, np.nan, np.nan, np.nan], 3),
    ...     "spend": [10.0, 13, 8, 11, 10, 10, 12, 12, 4, 10, 9, 11, 9, 9, 10, 11, 12, 12]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> design = vbc.Design(outcome="spend")
    >>> curve = vbc.sensitivity.specification_curve({
    ...     "two-way": vbc.did.TWFE().fit(panel, design),
    ...     "last year as base": vbc.did.GroupTime().fit(panel, design).aggregate("simple")})
    >>> curve.difference("two-way", "last year as base").tidy()["estimate"].round(3).tolist()
    [0.333]
    """
    if len(specifications) < 2:
        raise DesignError("a curve needs at least two specifications.")
    for name, made in specifications.items():
        require_estimates(made, name)
    several = [n for n, e in specifications.items() if len(e) != 1]
    if several:
        raise DesignError(
            f"{listed(several)} have more rows than one; aggregate, or select a row with `where`."
        )
    parts = list(specifications.values())
    for column, what in (("estimand", "estimands"), ("unit_of_measure", "units of measure")):
        values = {str(e.frame[column].iloc[0]) for e in parts}
        if len(values) > 1:
            raise DesignError(
                f"specifications have different {what} ({listed(sorted(values))}), so they answer "
                "different questions. Make one curve for each."
            )
    joint = stack(parts, labels=list(specifications))
    order = np.argsort(joint.estimate, kind="stable")
    table = _choices(choices, list(specifications))
    return SpecificationCurve(
        estimates=joint.where(order), choices=table.iloc[order].reset_index(drop=True), seed=seed
    )


def _choices(
    choices: pd.DataFrame | Mapping[str, Mapping[str, object]] | None, names: list[str]
) -> pd.DataFrame:
    if choices is None:
        return pd.DataFrame({"specification": names})
    table = (
        choices
        if isinstance(choices, pd.DataFrame)
        else pd.DataFrame.from_dict({k: dict(v) for k, v in choices.items()}, orient="index")
    )
    lost = [n for n in names if n not in table.index]
    unused = [str(n) for n in table.index if n not in names]
    if lost or unused or table.index.has_duplicates:
        raise DesignError(
            f"`choices` must have one row for each specification: {listed(lost) or 'none'} missing, "
            f"{listed(unused) or 'none'} not among the specifications."
        )
    return table.loc[names]
