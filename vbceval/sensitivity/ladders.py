"""One effect under one more choice at a time, and what the program does to the risk score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, stack
from vbceval.sensitivity.compare import KEYS, require_same_keys
from vbceval.sensitivity.given import require_estimates
from vbceval.sensitivity.smooth import (
    require_influence,
    require_same_rows,
    smooth,
    values_and_rows,
)

AFTER_ENTRY = "adjusted for what the program may change: a part of the effect may be taken out"
"""``note`` of rungs with covariates observed after entry."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ladder:
    """
    The same effect on rungs that differ by one choice, with the intervals of the differences.

    Parameters
    ----------
    estimates : Estimates
        Rows of each rung (column ``rung``; ``against`` missing), then of each rung less the first
        (``against`` = "first") and less the one before ("previous"). All are joint.
    """

    estimates: Estimates

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """
        Return one row for each rung and effect, differences beside it.

        Returns
        -------
        DataFrame
            ``rung``, keys, ``estimate, std_error, conf_low, conf_high, p_value``; the same with the
            prefixes ``from_first_`` and ``from_previous_``, missing for the first rung; ``note``.
        """
        table = self.estimates.tidy(level)
        keys = ["rung", *KEYS]
        own = table[table["against"].isna()]
        out = own[[*keys, "unit_of_measure", *_SHOWN, "n_clusters", "note"]].reset_index(drop=True)
        n = len(own) - len(own) // own["rung"].nunique()
        for against in ("first", "previous"):
            part = table.loc[table["against"] == against, list(_SHOWN)].reset_index(drop=True)
            part.index = out.index[-n:]
            out = out.join(part.add_prefix(f"from_{against}_"))
        return out


_SHOWN = ("estimate", "std_error", "conf_low", "conf_high", "p_value")


def ladder(rungs: Mapping[str, Estimates], *, after_entry: Sequence[str] = ()) -> Ladder:
    """
    Compare each rung of a ladder of adjustments with the first and with the one before.

    For risk adjustment the rungs are: none, demographics, a prospective score frozen at baseline, a
    concurrent score, score growth capped as the program's rule has it. For selection: all entrants,
    those who stay, those balanced on years. Differences have intervals of their own, because rungs
    share their organizations.

    Parameters
    ----------
    rungs : mapping of str to Estimates
        In order, at least two, each with the same rows and influence on the same clusters.
    after_entry : sequence of str
        Rungs whose covariates are observed after entry (a concurrent score). If the program changes
        how diagnoses are coded, they take part of the effect out; their ``note`` says so.

    Returns
    -------
    Ladder

    Raises
    ------
    DesignError
        If there are fewer than two rungs, rows or units differ, or a name is not known.
    EstimationError
        If influence is missing or on other clusters.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> frame = pd.DataFrame({
    ...     "aco": np.repeat(list("ABCDEF"), 3), "year": [2014, 2015, 2016] * 6,
    ...     "entry": np.repeat([2016.0, 2016.0, 2016.0, np.nan, np.nan, np.nan], 3),
    ...     "score": [1.0, 1.0, 1.2, 1.1, 1.0, 1.3, 0.9, 1, 1.1, 1, 1.1, 1, 1.2, 1.1, 1.1, 1, 1, 1],
    ...     "spend": [10.0, 13, 8, 11, 10, 10, 12, 12, 4, 10, 9, 11, 9, 9, 10, 11, 12, 12]})
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> rungs = {name: vbc.did.TWFE().fit(panel, vbc.Design(outcome="spend", covariates=x))
    ...          for name, x in {"none": [], "concurrent score": ["score"]}.items()}
    >>> vbc.sensitivity.ladder(rungs, after_entry=["concurrent score"]).tidy()[
    ...     ["rung", "estimate", "from_first_estimate"]].round(2).values.tolist()
    [['none', -5.0, nan], ['concurrent score', -7.23, -2.23]]
    """
    names = list(rungs)
    if len(names) < 2:
        raise DesignError(f"a ladder needs at least two rungs, and there are {len(names)}.")
    unknown = [name for name in after_entry if name not in rungs]
    if isinstance(after_entry, str) or unknown:
        raise DesignError(
            f"`after_entry` lists names of rungs: {listed(unknown)} is none of {listed(names)}."
        )
    require_same_keys(rungs, names[0])
    k = len(rungs[names[0]])
    joint = stack(list(rungs.values()), labels=names)
    parts = [_described(joint, joint, names, None, after_entry)]
    for against in ("first", "previous"):
        gap = np.zeros((len(names) - 1, len(names)))
        gap[:, 1:] = np.eye(len(names) - 1)
        gap[np.arange(len(gap)), 0 if against == "first" else np.arange(len(gap))] -= 1
        weights = np.asarray(np.kron(gap, np.eye(k)), dtype=float)
        parts.append(_described(joint.contrast(weights), joint, names[1:], against, after_entry))
    return Ladder(
        estimates=replace(stack(parts), meta={**joint.meta, "sensitivity": "ladder"}),
    )


def _described(
    out: Estimates,
    joint: Estimates,
    names: Sequence[str],
    against: str | None,
    after_entry: Sequence[str],
) -> Estimates:
    """Return rungs, or their differences, with what their rows are about."""
    k = len(out) // len(names)
    source = joint.frame.iloc[-len(out) :]
    prefix = "" if against is None else f"from_{against}_"
    notes = np.repeat([AFTER_ENTRY if name in after_entry else "" for name in names], k)
    own = source["note"].fillna("") if "note" in source else [""] * len(notes)
    frame = out.frame.drop(columns=["run"], errors="ignore").assign(
        **{key: source[key].to_numpy() for key in KEYS[1:]},
        estimand=prefix + source["estimand"].astype(str).to_numpy(),
        unit_of_measure=source["unit_of_measure"].to_numpy(),
        rung=np.repeat(list(names), k),
        against=against,
        note=["; ".join(filter(None, pair)) for pair in zip(own, notes, strict=True)],
    )
    return out.with_frame(frame)


def coding_intensity(
    score: Estimates,
    *,
    dollars_per_point: float | Estimates,
    unit_of_measure: str,
    spending: Estimates | None = None,
) -> Estimates:
    """
    Convert the effect of a program on the risk score into dollars.

    Payers that adjust for risk pay more for a higher score, whatever care costs. An effect on the
    score is not an effect on health: people do not become sicker because their doctors join.

    Parameters
    ----------
    score : Estimates
        Effects on the risk score, fitted with the score as the outcome.
    dollars_per_point : float or Estimates
        What a payer adds for a score higher by 1: a rule (fixed), or an estimate with influence,
        such as the coefficient of the score in a regression of spending.
    unit_of_measure : str
        Of the converted effect, for example "USD per person-year".
    spending : Estimates, optional
        Effects on spending, the same rows. Adds rows of what the payer pays in the end.

    Returns
    -------
    Estimates
        The rows of `score`; estimand prefixed by ``coding_``, in dollars; and with `spending` its
        rows and their sum with the coding effect, prefixed by ``with_coding_``.

    Raises
    ------
    DesignError
        If rows differ, spending is in another unit than asked for, or there are several prices.
    EstimationError
        If influence is missing where more than the score is estimated.

    Notes
    -----
    With the coefficient of the score in the adjusted two-way regression as the price, the coding
    effect is exactly what that adjustment takes out of the unadjusted effect (the omitted-variable
    formula), with the same error: a rung of a `ladder` read in another way.

    References
    ----------
    .. [1] Geruso, M. and Layton, T. (2020). Upcoding: evidence from Medicare on squishy risk
       adjustment. *Journal of Political Economy* 128(3), 984-1026.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> score = vbc.Estimates(frame=pd.DataFrame({"estimand": ["att_simple"], "outcome": ["score"],
    ...     "estimate": [0.02]}), covariance=np.array([[0.0001]]))
    >>> found = vbc.sensitivity.coding_intensity(score, dollars_per_point=10_000.0,
    ...     unit_of_measure="USD per person-year")
    >>> found.tidy()[["estimand", "estimate", "std_error"]].values.tolist()
    [['att_simple', 0.02, 0.01], ['coding_att_simple', 200.0, 100.0]]
    """
    require_estimates(score, "score")
    k = len(score)
    price, estimated = values_and_rows(dollars_per_point, k, "dollars_per_point")
    if estimated is not None and len(estimated) != 1:
        raise DesignError(
            f"`dollars_per_point` has {len(estimated)} rows; select one with `where`."
        )
    if spending is not None:
        require_same_rows(score, spending, ("score", "spending"), but=("outcome",))
        units = set(spending.frame["unit_of_measure"].dropna()) - {unit_of_measure}
        if units:
            raise DesignError(
                f"`spending` is in {listed(sorted(units))}, and `unit_of_measure` is "
                f"'{unit_of_measure}', so they cannot be added. Convert with `scale`, or give the "
                "price in the unit of spending."
            )
    given = {"score": score, "spending": spending, "dollars_per_point": estimated}
    parts = {name: part for name, part in given.items() if part is not None}
    for name, part in parts.items() if len(parts) > 1 else ():
        require_influence(part, name)
    one, none = np.ones(k), np.zeros(k)
    blocks = [
        _Converted("", score, None, score.estimate, (one, none, none)),
        _Converted("coding_", score, unit_of_measure, price * score.estimate,
                   (price, none, score.estimate)),
    ]  # fmt: skip
    if spending is not None:
        blocks += [
            _Converted("", spending, None, spending.estimate, (none, one, none)),
            _Converted("with_coding_", spending, unit_of_measure,
                       spending.estimate + price * score.estimate, (price, one, score.estimate)),
        ]  # fmt: skip
    described = pd.concat([b.columns() for b in blocks], ignore_index=True).to_dict("series")
    gradient = np.concatenate([b.gradient(list(given), parts) for b in blocks])
    return smooth(
        stack(list(parts.values())) if len(parts) > 1 else score,
        np.concatenate([b.value for b in blocks]), gradient, {str(name): column for name, column in described.items()},
        {"sensitivity": "coding_intensity",
         "dollars_per_point": "fixed" if estimated is None else "estimated"},
    )  # fmt: skip


class _Converted(NamedTuple):
    """Rows of one kind: what they are about, values, and derivatives by score, spending, price."""

    prefix: str
    about: Estimates
    unit: str | None
    value: FloatArray
    slopes: tuple[FloatArray, FloatArray, FloatArray]

    def columns(self) -> pd.DataFrame:
        frame = self.about.frame
        out = frame[list(KEYS)].assign(unit_of_measure=frame["unit_of_measure"])
        out["estimand"] = self.prefix + out["estimand"].astype(str)
        return out if self.unit is None else out.assign(unit_of_measure=self.unit)

    def gradient(self, names: Sequence[str], parts: Mapping[str, Estimates]) -> FloatArray:
        # the price is one number for all rows
        return np.hstack([
            slope[:, None] if name == "dollars_per_point" else np.diag(slope)
            for name, slope in zip(names, self.slopes, strict=True) if name in parts
        ])  # fmt: skip
