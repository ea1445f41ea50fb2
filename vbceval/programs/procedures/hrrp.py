"""Hospital Readmissions Reduction Program: excess ratios weighted by payments, up to a cap."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vbceval.core.errors import DataError
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms

DECIMALS_OF_FACTOR = 4  # the rule states this rounding: factors are published and applied so


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle hospitals of one fiscal year.

    A condition counts where its ratio is known and discharges suffice. A hospital without any is
    not assessed and loses nothing.

    Raises
    ------
    DataError
        If a condition that counts has no payment share or, from 2019, no median of the peer group,
        or a hospital has no neutrality modifier.

    References
    ----------
    .. [1] 42 CFR 412.152-412.154.
    """
    book = Worksheet(len(inputs.organizations))
    names = [str(row[0]) for row in terms.table("conditions")]
    counted = {name: _counted(terms, inputs, name) for name in names}
    own = terms.number("neutrality", absent=np.nan)
    modifier = np.where(np.isnan(own), inputs.number("neutrality_modifier"), own)
    medians = {name: _median(terms, inputs, name) for name in names}
    shares = {name: inputs.number(f"payment_share_{name}") for name in names}
    year = terms.performance_year
    refuse(
        terms,
        inputs,
        *(
            (
                counted[n] & np.isnan(shares[n]),
                f"have a ratio and no `payment_share_{n}`.",
                "Fill it in.",
            )
            for n in names
        ),
        *(
            (
                counted[n] & np.isnan(medians[n]),
                f"have a ratio and no `median_{n}`, which {year} compares it with.",
                "Fill in the median of the hospital's peer group.",
            )
            for n in names
        ),
        (np.isnan(modifier), "have no `neutrality_modifier`.", f"Fill in that of {year}."),
    )
    total: FloatArray = np.zeros((len(inputs.organizations), 1))
    for name in names:
        excess = np.maximum(inputs.number(f"err_{name}") - medians[name], 0.0)
        part = np.where(counted[name], shares[name] * excess, 0.0)
        part = book.add(
            f"excess_{name}",
            part,
            "Payment share times the ratio above its comparison.",
            unit="rate",
        )
        total = total + part
    return _reduced(terms, inputs, book, total * modifier)


def _reduced(terms: Terms, inputs: Inputs, book: Worksheet, penalty: FloatArray) -> Worksheet:
    penalty = book.add(
        "penalty_before_cap", penalty, "Sum over conditions times the modifier.", unit="rate"
    )
    penalty = book.add(
        "penalty", np.minimum(penalty, terms.number("cap")), "At most the cap.", unit="rate"
    )
    factor = book.add(
        "adjustment_factor",
        np.round(1 - penalty, DECIMALS_OF_FACTOR),
        "1 less the penalty, to four decimals, as published and applied.",
        unit="number",
    )
    base = book.add("base_payments", inputs.number("base_payments"), "Base operating DRG payments.")
    book.add("settlement", base * (factor - 1), "Change of payments.", final=True)
    return book


def _counted(terms: Terms, inputs: Inputs, name: str) -> BoolArray:
    enough = inputs.number(f"discharges_{name}", absent=np.inf) >= terms.number("least_discharges")
    return np.asarray(enough & ~np.isnan(inputs.number(f"err_{name}")))


def _median(terms: Terms, inputs: Inputs, name: str) -> FloatArray:
    fixed = terms.number("compared_with", absent=np.nan)
    return np.asarray(np.where(np.isnan(fixed), inputs.number(f"median_{name}"), fixed))


def peer_groups(dual_share: ArrayLike, *, n_groups: int = 5) -> IntArray:
    """
    Return groups of equal size by the share of dual-eligible stays, 1 the lowest.

    Parameters
    ----------
    dual_share : array_like, shape (hospitals,)
        Stays of people with full Medicaid benefits as a share of all Medicare stays, of every
        hospital in the program; equal shares are in one group.
    n_groups : int, default 5
        Number of groups.

    Raises
    ------
    DataError
        If a share is missing or not between 0 and 1.

    Examples
    --------
    >>> peer_groups([0.3, 0.1, 0.2, 0.5, 0.4]).tolist()
    [3, 1, 2, 5, 4]
    """
    share = np.asarray(dual_share, dtype=float)
    wrong = int((~((share >= 0) & (share <= 1))).sum())
    if wrong:
        raise DataError(
            f"the share of stays is missing or not between 0 and 1 for {wrong} of {len(share)} "
            "hospitals, so their peer group is not known. Correct it, or leave them out."
        )
    below = np.searchsorted(np.sort(share), share, side="left")
    return np.asarray(below * n_groups // len(share) + 1)


def peer_medians(ratio: ArrayLike, group: ArrayLike) -> FloatArray:
    """
    Return for each hospital the median ratio of its peer group.

    Parameters
    ----------
    ratio : array_like, shape (hospitals,)
        Excess readmission ratios of one condition; missing where a hospital has none.
    group : array_like, shape (hospitals,)
        Groups, as from `peer_groups`.

    Returns
    -------
    ndarray, shape (hospitals,)
        Missing in groups without any ratio.
    """
    ratios = pd.Series(np.asarray(ratio, dtype=float))
    return ratios.groupby(np.asarray(group)).transform("median").to_numpy()
