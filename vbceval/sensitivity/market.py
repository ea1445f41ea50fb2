"""What an effect on all residents, or on some against exposed ones, says of those attributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, stack
from vbceval.inference.fieller import Shape, fieller
from vbceval.sensitivity.given import require_estimates
from vbceval.sensitivity.smooth import (
    keys_of,
    places,
    require_influence,
    require_same_units,
    require_shares,
    smooth,
    values_and_rows,
)


def implied_on_attributed(
    itt: Estimates, *, share: float | Sequence[float] | Estimates, level: float = 0.95
) -> Estimates:
    """
    Divide the effect on all residents of a market by the share of them who are attributed.

    If the program moves nobody but attributed people, the effect on all residents is their share
    times the effect on them. The quotient is the effect that they must then have. Set it beside the
    effect found among them: if it is larger in size, others were moved in the same direction.

    Parameters
    ----------
    itt : Estimates
        Intention to treat: effects in a panel in which all residents count, by market.
    share : float, sequence or Estimates
        Attributed share of person-years in the program: fixed numbers, or estimates with influence
        on the same clusters (`attributed_share`).
    level : float, default 0.95
        Content of the sets of Fieller.

    Returns
    -------
    Estimates
        Estimand prefixed by ``implied_``, in the unit of the outcome per attributed person-year,
        with errors by the delta method, and the set of Fieller (``fieller_low``, ``fieller_high``,
        ``fieller_set``, ``fieller_level``), which holds also where the share is small and noisy. A
        set "outside" is all values below the first end or above the second, "line" is every value.

    Raises
    ------
    DesignError
        If a share is not between 0 and 1 or of other cohorts, periods or event times than its row,
        or `level` is no probability.
    EstimationError
        If influence is missing where the share is estimated.

    Notes
    -----
    With a column that holds the share, ``IV(dose=...)`` estimates intention to treat, share and
    quotient from one panel; this function serves other estimators and shares from other data. Where
    the share also changes in comparison markets, only `IV` takes that into account.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> itt = vbc.Estimates(frame=pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"],
    ...     "estimate": [-25.0]}), psi=np.array([[8.0], [-6.0], [-2.0]]),
    ...     clusters=pd.Index(["A", "B", "C"]))
    >>> vbc.sensitivity.implied_on_attributed(itt, share=0.25).tidy()[
    ...     ["estimate", "std_error"]].round(1).values.tolist()
    [[-100.0, 40.8]]
    """
    require_estimates(itt, "itt")
    _require_level(level)
    k = len(itt)
    s, estimated = values_and_rows(share, k, "share")
    require_shares(s, "share")
    value, gradient, joint = itt.estimate / s, np.diag(1 / s), itt
    own = np.zeros((k, 0))
    if estimated is not None:
        require_influence(itt, "itt")
        require_influence(estimated, "share")
        joint = stack([itt, estimated])
        own = places(estimated, itt, "share")
        gradient = np.concatenate([gradient, -(value / s)[:, None] * own], axis=1)
    columns = {
        "estimand": "implied_" + itt.frame["estimand"].astype(str).to_numpy(),
        **keys_of(itt), "stratum": itt.frame["stratum"].to_numpy(), "share": s,
    }  # fmt: skip
    said = {
        "sensitivity": "implied_on_attributed",
        "shares": "fixed" if estimated is None else "estimated",
    }
    out = smooth(joint, value, gradient, columns, said)
    pick = np.block([[np.eye(k), np.zeros((k, own.shape[1]))], [np.zeros((k, k)), own]])
    vcov = pick @ joint.vcov() @ pick.T
    limit = _limit(out.frame["df"].to_numpy(dtype=float), level)
    sets = [
        fieller(float(itt.estimate[i]), float(s[i]), vcov[np.ix_([i, k + i], [i, k + i])], limit[i])
        for i in range(k)
    ]
    return out.with_frame(
        out.frame.assign(
            fieller_low=[x.low for x in sets], fieller_high=[x.high for x in sets],
            fieller_set=[x.shape for x in sets], fieller_level=level,
        )
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Contamination:
    """
    An effect corrected for comparison people who are exposed themselves.

    Parameters
    ----------
    estimates : Estimates, m rows
        Corrected effects, one for each exposed share of the comparison (column ``exposure``), with
        ``bias``: the effect as estimated less the corrected one.
    original : Estimates
        The effect as estimated, and the effect on exposed comparison people where it is estimated.
    effect : float or None
        Effect on an exposed person of the comparison; None where it is that on the treated.
    """

    estimates: Estimates
    original: Estimates
    effect: float | None

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """Return corrected effects with their intervals."""
        return self.estimates.tidy(level)

    def break_even(self, target: float, *, level: float = 0.95) -> pd.DataFrame:
        """
        Return the exposed share of the comparison at which the effect would be a given one.

        Parameters
        ----------
        target : float
            Effect asked for, in the unit of the outcome: what pays for the program, or zero.
        level : float, default 0.95
            Content of the intervals of corrected effects.

        Returns
        -------
        DataFrame
            One row: ``target``; ``exposure``, at which the corrected effect is the target, missing
            where no share from 0 to 1 does it; ``low`` and ``high``, the shares from 0 to 1 between
            which the interval of the corrected effect holds the target, and ``set``: "interval",
            "none" (no share does), "line" (every share), or, where the effect on the comparison is
            poorly known, "outside" (those up to ``low`` and from ``high``).

        Notes
        -----
        With the effect on the comparison that of the treated, the corrected effect is
        ``b / (1 - e)``: it never changes sign, so a target of zero has no break-even.
        """
        _require_level(level)
        b, vcov = self.original.estimate, self.original.vcov()
        limit = float(_limit(self.original.frame["df"].to_numpy(dtype=float), level).max())
        if self.effect is None:
            # b / target = 1 - e
            one = fieller(float(b[0]), target, np.diag([vcov[0, 0], 0.0]), limit)
            ends, point = sorted([1 - one.low, 1 - one.high]), _ratio(b[0], target, 1.0, -1.0)
        else:
            # (target - b) / effect = e, and the effect is row 1 where it is estimated
            both = np.diag([vcov[0, 0], 0.0])
            if len(b) > 1:
                both = vcov * np.array([[1.0, -1.0], [-1.0, 1.0]])
            one = fieller(target - float(b[0]), self.effect, both, limit)
            ends, point = [one.low, one.high], _ratio(target - b[0], self.effect, 0.0, 1.0)
        low, high, shape = _among_shares(ends[0], ends[1], one.shape)
        return pd.DataFrame(
            [{"target": target, "exposure": point, "low": low, "high": high, "set": shape}]
        )


def contaminated_comparison(
    est: Estimates,
    *,
    exposure: float | Sequence[float] | Estimates = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
    effect: float | Estimates | None = None,
) -> Contamination:
    """
    Correct an effect for comparison people who are exposed to the program themselves.

    Comparison patients see providers in the program, or providers who also treat its patients. With
    a share e of them exposed, a difference-in-differences b estimates the effect less e times the
    effect on an exposed comparison person.

    Parameters
    ----------
    est : Estimates
        One row: the effect against the contaminated comparison.
    exposure : float, sequence or Estimates
        Exposed share of the comparison's person-years, from 0 to below 1: stated values, each a row
        of the result, or one estimate with influence.
    effect : float or Estimates, optional
        Effect on an exposed comparison person: stated, or estimated (as the row "non_attributed" of
        `spillover`). Default: the same as on the treated.

    Returns
    -------
    Contamination
        With ``tidy()`` and ``break_even(target)``.

    Raises
    ------
    DesignError
        If there are several rows, a share is not in [0, 1), or an estimated effect is in another
        unit of measure.
    EstimationError
        If influence is missing where more than the effect is estimated.

    Notes
    -----
    The corrected effect is ``b / (1 - e)`` by default, and ``b + e * effect`` with an effect that is
    given. Errors are by the delta method, jointly with what is estimated. With stated shares the
    first is only a change of scale: test and sign stay.

    References
    ----------
    .. [1] Bloom, H. S. (1984). Accounting for no-shows in experimental evaluation designs.
       *Evaluation Review* 8(2), 225-246.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> est = vbc.Estimates(frame=pd.DataFrame({"estimand": ["att_simple"], "outcome": ["spend"],
    ...     "estimate": [-90.0]}), covariance=np.array([[900.0]]))
    >>> line = vbc.sensitivity.contaminated_comparison(est, exposure=[0.0, 0.1, 0.4])
    >>> line.tidy()[["exposure", "estimate", "std_error"]].round(1).values.tolist()
    [[0.0, -90.0, 30.0], [0.1, -100.0, 33.3], [0.4, -150.0, 50.0]]
    >>> line.break_even(-120.0).round(2).values.tolist()
    [[-120.0, 0.25, 0.0, 0.74, 'interval']]
    """
    require_estimates(est)
    if len(est) != 1:
        raise DesignError(
            f"`est` has {len(est)} rows, and a comparison is contaminated for one effect at a time. "
            "Aggregate, or select a row with `where`."
        )
    e = _exposures(exposure)
    delta, given = (None, None) if effect is None else values_and_rows(_single(effect), 1, "effect")
    if given is not None:
        require_same_units(est, given, ("est", "effect"))
    estimated = [
        (part, name)
        for part, name in ((given, "effect"), (exposure, "exposure"))
        if isinstance(part, Estimates)
    ]
    for part, name in [(est, "est"), *estimated] if estimated else []:
        require_influence(part, name)
    joint = stack([est, *(part for part, _ in estimated)]) if estimated else est
    b = float(est.estimate[0])
    value = b / (1 - e) if delta is None else b + e * delta[0]
    slopes = {
        "est": 1 / (1 - e) if delta is None else np.ones(len(e)),
        "effect": e,
        "exposure": b / (1 - e) ** 2 if delta is None else np.full(len(e), delta[0]),
    }
    gradient = np.column_stack([slopes[name] for name in ("est", *(n for _, n in estimated))])
    columns = {
        **{key: np.repeat(column, len(e)) for key, column in keys_of(est).items()},
        "estimand": "corrected_" + str(est.frame["estimand"].iloc[0]),
        "stratum": est.frame["stratum"].iloc[0], "exposure": e, "bias": b - value,
    }  # fmt: skip
    said = {
        "sensitivity": "contaminated_comparison",
        "exposure": "estimated" if isinstance(exposure, Estimates) else "fixed",
        "effect": "as on the treated" if delta is None else "given",
    }
    return Contamination(
        estimates=smooth(joint, value, gradient, columns, said),
        original=est if given is None else joint.where([0, 1]),
        effect=None if delta is None else float(delta[0]),
    )


def _exposures(exposure: float | Sequence[float] | Estimates) -> FloatArray:
    """Return exposed shares, shape (m,)."""
    estimated = isinstance(exposure, Estimates)
    e = np.atleast_1d(
        exposure.estimate if isinstance(exposure, Estimates) else np.array(exposure, dtype=float)
    )
    bad = e[~((e >= 0) & (e < 1))]
    if len(bad):
        raise DesignError(
            f"`exposure` is {bad[0]:g}; it is a share of the comparison, from 0 to below 1."
        )
    if e.ndim != 1 or not len(e) or (estimated and len(e) != 1):
        raise DesignError(
            "`exposure` is a share, a list of shares, or estimates of one row: select one with "
            "`where`."
        )
    return np.asarray(e)


def _single(effect: float | Estimates) -> float | Estimates:
    if isinstance(effect, Estimates) and len(effect) != 1:
        raise DesignError(f"`effect` has {len(effect)} rows; select one with `where`.")
    return effect


def _among_shares(low: float, high: float, shape: Shape) -> tuple[float, float, str]:
    """Return the part of a set of Fieller that is from 0 to 1: ends, and what it is."""
    pieces = {
        "interval": [(low, high)], "outside": [(-np.inf, low), (high, np.inf)],
        "line": [(-np.inf, np.inf)],
    }.get(shape, [])  # fmt: skip
    inside = [(max(a, 0.0), min(b, 1.0)) for a, b in pieces if a <= 1 and b >= 0]
    if not inside:
        return np.nan, np.nan, "none"
    if len(inside) > 1:
        return low, high, "outside"
    if shape != "interval" and inside[0] == (0.0, 1.0):
        return 0.0, 1.0, "line"
    return *inside[0], "interval"


def _ratio(top: float, bottom: float, start: float, sign: float) -> float:
    """Return a share from 0 to 1, missing where there is none."""
    value = start + sign * top / bottom if bottom != 0 else np.nan
    return float(value) if 0 <= value <= 1 else np.nan


def _limit(df: FloatArray, level: float) -> FloatArray:
    """Return how large a squared t statistic may be, shape of `df`; normal where that is infinite."""
    normal = special.ndtri((1 + level) / 2) ** 2
    finite = np.where(np.isfinite(df), df, 1.0)
    return np.where(np.isfinite(df), special.stdtrit(finite, (1 + level) / 2) ** 2, normal)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise DesignError(f"`level` is {level}: give a probability between 0 and 1.")
