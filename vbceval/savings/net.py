"""Net savings: what is left to the payer, to providers or to beneficiaries after every payment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import optimize

from vbceval.core.checks import listed
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.savings.impact import GROSS, NET, SIGN
from vbceval.savings.ledger import PARTIES, Ledger, Party, interval

# The share of gross savings that a party has where nothing else is said.
_SHARES: Mapping[Party, float] = {"payer": 1.0, "providers": 0.0, "beneficiaries": 0.0}

_LOOKS = 9  # values of a parameter at which it is checked that payments only rise or only fall


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
        Payments to providers less repayments, in the dollars of the savings; one number for each
        row. A ledger says what each party pays and gets; rows by period or stratum use the lines of
        that period or stratum.
    party : {"payer", "providers", "beneficiaries"}, default "payer"
        Whose net savings. Numbers without a ledger are known for the payer only.
    share : float, optional
        Part of gross savings that falls to the party: 1 for the payer and 0 for others by default.
        Where the outcome is the allowed amount, beneficiaries have the share of it that they pay
        (deductibles and coinsurance), and the payer the rest. For providers it is minus the margin
        that they lose on services not furnished; with 0 only transfers count. From 0 to 1; for
        providers from -1 to 1.

    Returns
    -------
    Estimates
        Rows of `gross_savings`; column ``payments`` holds what was subtracted (mean of draws),
        ``party`` the party.

    Raises
    ------
    DesignError
        If the estimates are not totals of gross impact savings, money is of different years or price
        indexes, or the numbers or the share do not match.
    DataError
        If a row needs the period or stratum of a line that states none, or no line is of the
        stratum of a row or of any of the periods.
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
        added = -_numbers(payments, len(gross_savings))
    part = _SHARES[party] if share is None else float(share)
    if not (-1 if party == "providers" else 0) <= part <= 1:
        raise DesignError(
            f"`share` is {part:g}; it is the part of gross savings that falls to {party}, a fraction "
            f"from {-1 if party == 'providers' else 0} to 1. Divide percents by 100."
        )
    unit = [str(x) for x in gross_savings.frame["unit_of_measure"]]
    own = gross_savings if part == 1 else gross_savings.scale(part, unit_of_measure=unit[0])
    if part == 0:
        own = _nothing(gross_savings)
    fixed = added if added.ndim == 1 else added.mean(axis=0)
    frame = own.frame.assign(estimand=NET, payments=0.0 - fixed, party=party)
    return own.shifted(frame, added)


def _numbers(payments: float | Sequence[float], size: int) -> FloatArray:
    amounts = np.asarray(payments, dtype=float)
    amounts = amounts[None] if amounts.ndim == 0 and size == 1 else amounts
    if amounts.shape != (size,):
        raise DesignError(
            f"`payments` needs one number for each of the {size} rows of savings, and has shape "
            f"{amounts.shape}: the payments of all years are not those of each. Give one a row, a "
            "`Ledger` (which also takes draws), or select the total with `where`."
        )
    if not np.isfinite(amounts).all():
        raise DesignError("`payments` holds missing or infinite values; give dollars.")
    return amounts


def _nothing(savings: Estimates) -> Estimates:
    """Keep the rows of savings that a party has no share of: zero without error."""
    frame = savings.frame.assign(estimate=0.0)
    size = len(savings)
    if savings.samples is not None:
        return replace(savings, frame=frame, samples=np.zeros_like(savings.samples))
    return Estimates(frame=frame, covariance=np.zeros((size, size)), meta=savings.meta)


def _added(frame: pd.DataFrame, ledger: Ledger, party: Party) -> FloatArray:
    """Return what the ledger adds to a party in each row, shape (k,) or (draws, k)."""
    _check_money(frame, ledger)
    other = [key for key in ("cohort", "event_time") if frame[key].notna().any()]
    if other:
        raise DesignError(
            f"payments are not known by `{other[0]}`; leave these rows out of `gross` (`by=`)."
        )
    asked = set(frame["period"].dropna().astype(float))
    stated = {float(line.period) for line in ledger if line.period is not None}
    if asked and stated and not asked & stated:
        raise DataError(
            f"savings are of periods {listed(f'{x:g}' for x in sorted(asked))} and the lines of the "
            f"ledger of {listed(f'{x:g}' for x in sorted(stated))}. State the same years in both."
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


def _check_money(frame: pd.DataFrame, ledger: Ledger) -> None:
    money = set(frame["dollars"])
    if money != {ledger.unit}:
        raise DesignError(
            f"savings are in {', '.join(sorted(money))} and the ledger in {ledger.unit}. Pass the "
            "same `RealDollars` to `gross` and to `Ledger.real`."
        )
    index = {str(x) for x in frame["price_index"].dropna()}
    if index and ledger.price_index and index != {ledger.price_index}:
        raise DesignError(
            f"savings were converted by {listed(sorted(index))} and the ledger by "
            f"`{ledger.price_index}`. Pass the same `RealDollars` to `gross` and to `Ledger.real`."
        )


def chance_positive(savings: Estimates) -> pd.Series:
    """
    Return the posterior probability that savings are above 0, one number a row.

    Exactly 0 is not above 0: providers whose payment is 0 in a draw gain nothing in it.

    Parameters
    ----------
    savings : Estimates
        Savings with posterior draws, for example the result of `net`.

    Raises
    ------
    EstimationError
        If the estimates are no posterior.

    Examples
    --------
    >>> frame = pd.DataFrame({"estimand": [NET], "estimate": [1.0]})
    >>> draws = np.array([[-1.0], [0.0], [2.0], [3.0]])
    >>> chance_positive(Estimates(frame=frame, samples=draws, interval="credible")).item()
    0.5
    """
    return 1 - savings.probability(below=float(np.nextafter(0.0, 1.0)))


def return_on_investment(net_savings: Estimates) -> Estimates:
    """
    Return net savings per dollar that the payer paid, net of what was repaid.

    0 is break-even: a dollar came back for each dollar paid.

    Parameters
    ----------
    net_savings : Estimates
        Result of `net` for the payer, or of `cumulative` of it.

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
    known = {NET, f"{NET}_cumulative"}
    if not set(frame["estimand"]) <= known or set(frame["party"]) != {"payer"}:
        raise DesignError("a return is on what the payer paid: pass the result of `net`.")
    paid = frame["payments"].to_numpy(dtype=float)
    if not (paid > 0).all():
        raise DesignError(
            f"in {int((paid <= 0).sum())} rows the payer paid nothing, net of repayments, so there "
            "is no return on it. Leave these rows out with `where`."
        )
    out = net_savings.scale(1 / paid, unit_of_measure=f"net savings per dollar paid {SIGN}")
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
    payments lie within the interval of gross savings. Where payments jump over the savings, as they
    do at a minimum savings rate, the value is that of the jump.

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
        If savings have several rows, the range is empty, or payments do not reach the estimate
        within it.
    DataError
        If payments are missing, do not change over the range, or rise and fall.

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
    ends = _ends(payments, low, high)
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


def _ends(payments: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Return payments at both ends of a range over which they only rise or only fall."""
    if not low < high:
        raise DesignError(f"`between` is ({low:g}, {high:g}); give the lower end first.")
    seen = np.array([float(payments(x)) for x in np.linspace(low, high, _LOOKS)])
    if not np.isfinite(seen).all():
        raise DataError("`payments` gives missing or infinite amounts within the range.")
    if seen[0] == seen[-1]:
        raise DataError(
            f"payments are {seen[0]:,.0f} dollars at both ends of the range, so no value of the "
            "parameter is better than another. Widen `between`."
        )
    steps = np.diff(seen) * np.sign(seen[-1] - seen[0])
    if (steps < -1e-9 * np.abs(seen).max()).any():
        raise DataError(
            "payments rise and fall over the range, so several values of the parameter may break "
            "even. Narrow `between` to a part in which they only rise or only fall."
        )
    return float(seen[0]), float(seen[-1])


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
        Lines in between; those that do not touch the payer, or are not of the period or stratum of
        the rows, are left out.
    level : float, default 0.95
        Probability content of intervals.

    Returns
    -------
    DataFrame
        ``measure``, ``kind``, ``component``, ``amount``, ``conf_low``, ``conf_high``: the table that
        `vbceval.figures.gross_to_net` draws. A payment is positive and is subtracted; its interval
        is that of its draws, and missing where it is known.

    Raises
    ------
    DesignError
        If gross less payments is not net: the rows are of different periods, or the payer has not
        all of the gross savings.
    """
    ends = [
        (kind, est.tidy(level).iloc[0])
        for kind, est in (("gross", gross_savings), ("net", net_savings))
        if len(est) == 1
    ]
    if len(ends) < 2:
        raise DesignError("a statement is about one row of savings; select it with `where`.")
    net_row = ends[1][1]
    lines = ledger.lines_of(
        "payer",
        period=None if pd.isna(net_row["period"]) else float(net_row["period"]),
        stratum=None if pd.isna(net_row["stratum"]) else str(net_row["stratum"]),
    )
    paid: dict[str, FloatArray] = {}
    for line in lines:
        amount = -line.adds("payer") * np.asarray(line.amount, dtype=float)
        paid[line.name] = paid[line.name] + amount if line.name in paid else amount
    left = float(ends[0][1]["estimate"] - sum(amount.mean() for amount in paid.values()))
    if abs(left - float(net_row["estimate"])) > 1e-6 * max(1.0, abs(left)):
        raise DesignError(
            f"gross savings less all lines is {left:,.0f} dollars and net savings are "
            f"{net_row['estimate']:,.0f}: the lines of the ledger are not those of the rows, or the "
            "payer has a share of gross savings only."
        )
    rows: list[dict[str, object]] = [
        {"kind": kind, "component": kind.capitalize(), "amount": row["estimate"],
         "conf_low": row["conf_low"], "conf_high": row["conf_high"]}
        for kind, row in ends
    ]  # fmt: skip
    rows[1:1] = [
        {"kind": "payment", "component": name, "amount": float(amount.mean()),
         **dict(zip(("conf_low", "conf_high"), interval(amount, level), strict=True))}
        for name, amount in paid.items()
    ]  # fmt: skip
    return pd.DataFrame([{"measure": "impact", **row} for row in rows])
