"""Net savings: what is left to the payer, to providers or to beneficiaries after every payment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import optimize

from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.savings.impact import GROSS
from vbceval.savings.ledger import PARTIES, Ledger, Party

NET = "impact_savings_net"

# The share of gross savings that a party has where nothing else is said.
_SHARES: Mapping[Party, float] = {"payer": 1.0, "providers": 0.0, "beneficiaries": 0.0}


def net(
    gross_savings: Estimates,
    payments: float | Sequence[float] | Ledger,
    *,
    party: Party = "payer",
    share: float | None = None,
) -> Estimates:
    """
    Take from gross impact savings what was paid, for one of the parties.

    ``net = share x gross + what the ledger adds to the party``. Known payments have no sampling
    error, so they shift the interval; payments that are draws (the settlement of posterior draws)
    are subtracted draw by draw.

    Parameters
    ----------
    gross_savings : Estimates
        Result of `gross`.
    payments : float, sequence of float or Ledger
        Payments to providers less repayments, in the dollars of the savings; one number, or one for
        each row. A ledger says what each party pays and gets; rows by period or stratum use the
        lines of that period or stratum.
    party : {"payer", "providers", "beneficiaries"}, default "payer"
        Whose net savings. Numbers without a ledger are known for the payer only.
    share : float, optional
        Part of gross savings that falls to the party: 1 for the payer and 0 for others by default.
        Where the outcome is the allowed amount, beneficiaries have the share of it that they pay
        (deductibles and coinsurance), and the payer the rest. For providers it is minus the margin
        that they lose on services not furnished; with 0 only transfers count.

    Returns
    -------
    Estimates
        Rows of `gross_savings`; column ``payments`` holds what was subtracted (mean of draws),
        ``party`` the party.

    Raises
    ------
    DesignError
        If the estimates are not gross impact savings, money is of different years, or the numbers
        do not match.
    DataError
        If a row needs the period or stratum of a line that states none.
    EstimationError
        If payments are draws and the savings carry none, or another number.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimand": ["att_overall"], "estimate": [-743.0]})
    >>> est = Estimates(frame=frame, covariance=np.array([[1e4]]))
    >>> from vbceval.savings import gross
    >>> net(gross(est, 10_000), 9.0e6 - 1.0e6).estimate.tolist()
    [-570000.0]
    """
    if set(gross_savings.frame["estimand"]) != {GROSS}:
        raise DesignError("`net` subtracts payments from gross impact savings; call `gross` first.")
    if party not in PARTIES:
        raise DesignError(f"`party` is {party!r}; use one of {', '.join(PARTIES)}.")
    if isinstance(payments, Ledger):
        added = _added(gross_savings.frame, payments, party)
    else:
        if party != "payer":
            raise DesignError(
                f"numbers say what the payer paid and not what {party} have: give a `Ledger`."
            )
        added = -np.broadcast_to(np.asarray(payments, dtype=float), (len(gross_savings),))
        if not np.isfinite(added).all():
            raise DesignError("`payments` holds missing or infinite values; give dollars.")
    part = _SHARES[party] if share is None else share
    unit = [str(x) for x in gross_savings.frame["unit_of_measure"]]
    own = gross_savings if part == 1 else gross_savings.scale(part, unit_of_measure=unit[0])
    if part == 0:
        own = _nothing(gross_savings)
    fixed = added if added.ndim == 1 else added.mean(axis=0)
    frame = own.frame.assign(estimand=NET, payments=0.0 - fixed, party=party)
    return own.shifted(frame, added)


def _nothing(savings: Estimates) -> Estimates:
    """Keep the rows of savings that a party has no share of: zero without error."""
    frame = savings.frame.assign(estimate=0.0)
    size = len(savings)
    if savings.samples is not None:
        return replace(savings, frame=frame, samples=np.zeros_like(savings.samples))
    return Estimates(frame=frame, covariance=np.zeros((size, size)), meta=savings.meta)


def _added(frame: pd.DataFrame, ledger: Ledger, party: Party) -> FloatArray:
    """Return what the ledger adds to a party in each row, shape (k,) or (draws, k)."""
    money = set(frame["dollars"])
    if money != {ledger.unit}:
        raise DesignError(
            f"savings are in {', '.join(sorted(money))} and the ledger in {ledger.unit}. Pass the "
            "same `RealDollars` to `gross` and to `Ledger.real`."
        )
    other = [key for key in ("cohort", "event_time") if frame[key].notna().any()]
    if other:
        raise DesignError(
            f"payments are not known by `{other[0]}`; leave these rows out of `gross` (`by=`)."
        )
    keys = zip(frame["period"], frame["stratum"], strict=True)
    totals = [
        ledger.total(
            party,
            period=None if pd.isna(period) else float(period),
            stratum=None if pd.isna(stratum) else str(stratum),
        )
        for period, stratum in keys
    ]
    return np.stack(np.broadcast_arrays(*totals), axis=-1)


def return_on_investment(net_savings: Estimates) -> Estimates:
    """
    Return net savings per dollar that the payer paid, net of what was repaid.

    0 is break-even: a dollar came back for each dollar paid.

    Parameters
    ----------
    net_savings : Estimates
        Result of `net` for the payer, with known payments.

    Raises
    ------
    DesignError
        If the estimates are not net savings of the payer, or nothing was paid in a row.

    Notes
    -----
    With payments that are draws, the mean payment divides: the ratio of means, with the spread of
    net savings.
    """
    frame = net_savings.frame
    if set(frame["estimand"]) != {NET} or set(frame.get("party", ["payer"])) != {"payer"}:
        raise DesignError("a return is on what the payer paid: pass the result of `net`.")
    paid = frame["payments"].to_numpy(dtype=float)
    if not (paid > 0).all():
        raise DesignError(
            f"in {int((paid <= 0).sum())} rows the payer paid nothing, net of repayments, so there "
            "is no return on it. Leave these rows out with `where`."
        )
    out = net_savings.scale(1 / paid, unit_of_measure="dollars per dollar paid")
    return out.with_frame(out.frame.assign(estimand="return_on_investment"))


def breakeven(
    gross_savings: Estimates,
    payments: Callable[[float], float],
    *,
    between: tuple[float, float],
    level: float = 0.95,
) -> pd.DataFrame:
    """
    Find the program parameter at which payments equal gross savings.

    For example the discount of a bundled payment: `payments` settles the program again under
    another discount, holding behaviour fixed. The interval is the set of parameters at which
    payments lie within the interval of gross savings.

    Parameters
    ----------
    gross_savings : Estimates
        Result of `gross`; one row.
    payments : callable
        Net payments of the payer (dollars) at a value of the parameter; monotone.
    between : (float, float)
        Range of the parameter.
    level : float, default 0.95
        Probability content of the interval of gross savings.

    Returns
    -------
    DataFrame, one row
        ``estimate``, ``conf_low``, ``conf_high``: parameter values; infinite where the end lies
        beyond the range.

    Raises
    ------
    DesignError
        If savings have several rows, or payments do not reach the estimate within the range.
    DataError
        If payments do not change over the range.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimand": ["att_overall"], "estimate": [-500.0]})
    >>> est = Estimates(frame=frame, covariance=np.array([[100.0**2]]))
    >>> from vbceval.savings import gross
    >>> saved = gross(est, 1_000)
    >>> breakeven(saved, lambda d: 1_000 * 25_000 * (0.05 - d), between=(0.0, 0.05)).round(4)
       estimate  conf_low  conf_high
    0      0.03    0.0222     0.0378
    """
    if len(gross_savings) != 1 or gross_savings.frame["estimand"].item() != GROSS:
        raise DesignError("`breakeven` takes one row of gross impact savings; use `where`.")
    row = gross_savings.tidy(level).iloc[0]
    low, high = between
    ends = float(payments(low)), float(payments(high))
    if ends[0] == ends[1]:
        raise DataError(
            f"payments are {ends[0]:,.0f} dollars at both ends of the range, so no value of the "
            "parameter is better than another. Widen `between`."
        )
    rising = ends[1] > ends[0]

    def root(savings: float) -> float:
        if savings < min(ends):
            return -np.inf if rising else np.inf
        if savings > max(ends):
            return np.inf if rising else -np.inf
        return float(optimize.brentq(lambda x: payments(x) - savings, low, high, xtol=1e-12))

    at = root(row["estimate"])
    if not np.isfinite(at):
        raise DesignError(
            f"gross savings are {row['estimate']:,.0f} dollars and payments lie between "
            f"{min(ends):,.0f} and {max(ends):,.0f} over the range, so the program does not break "
            "even in it. Widen `between`."
        )
    sides = sorted((root(row["conf_low"]), root(row["conf_high"])))
    return pd.DataFrame({"estimate": [at], "conf_low": sides[:1], "conf_high": sides[1:]})


def statement(
    gross_savings: Estimates, net_savings: Estimates, ledger: Ledger, *, level: float = 0.95
) -> pd.DataFrame:
    """
    Set out the way from gross to net savings of the payer, line by line.

    Parameters
    ----------
    gross_savings, net_savings : Estimates
        Results of `gross` and `net`, one row each, of the same ledger.
    ledger : Ledger
        Lines in between; those that do not touch the payer are left out.
    level : float, default 0.95
        Probability content of intervals.

    Returns
    -------
    DataFrame
        ``measure``, ``kind``, ``component``, ``amount``, ``conf_low``, ``conf_high``: the table that
        `vbceval.figures.gross_to_net` draws. A payment is positive and is subtracted.

    Raises
    ------
    DesignError
        If gross less payments is not net: the rows are of different periods, or the payer has not
        all of the gross savings.
    """
    ends = [
        (kind, est.tidy(level)) for kind, est in (("gross", gross_savings), ("net", net_savings))
    ]
    if any(len(table) != 1 for _, table in ends):
        raise DesignError("a statement is about one row of savings; select it with `where`.")
    lines = ledger.tidy()
    lines = lines[lines["payer"] != 0]
    left = float(ends[0][1]["estimate"].item()) + float(lines["payer"].sum())
    if abs(left - float(ends[1][1]["estimate"].item())) > 1e-6 * max(1.0, abs(left)):
        raise DesignError(
            f"gross savings less all lines is {left:,.0f} dollars and net savings are "
            f"{ends[1][1]['estimate'].item():,.0f}: the lines of the ledger are not those of the rows, "
            "or the payer has a share of gross savings only."
        )
    rows: list[dict[str, object]] = [
        {"measure": "impact", "kind": kind, "component": kind.capitalize(),
         "amount": table["estimate"].item(), "conf_low": table["conf_low"].item(),
         "conf_high": table["conf_high"].item()}
        for kind, table in ends
    ]  # fmt: skip
    paid = lines.groupby("line", sort=False)["payer"].sum()
    rows[1:1] = [
        {"measure": "impact", "kind": "payment", "component": name, "amount": -amount,
         "conf_low": np.nan, "conf_high": np.nan}
        for name, amount in paid.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)
