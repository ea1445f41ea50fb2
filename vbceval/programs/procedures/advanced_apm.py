"""Advanced Alternative Payment Models: who qualifies, the bonus, and the higher update."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import BoolArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle practices of one performance year.

    The gain by the conversion factor is what payments of a qualifying participant exceed those of
    others, both with all updates so far.

    Raises
    ------
    DataError
        If a practice has neither share.
    """
    book = Worksheet(len(inputs.organizations))
    refuse(
        terms,
        inputs,
        (
            ~inputs.known("payment_share") & ~inputs.known("patient_share"),
            "have neither `payment_share` nor `patient_share`, so whether they qualify is not known.",
            "Fill in one.",
        ),
    )
    qualifies = _reaches(terms, inputs, "")
    book.add("qualifies", qualifies, "Reaches a threshold.", unit="flag")
    book.add(
        "qualifies_in_part",
        _reaches(terms, inputs, "partial_") & ~qualifies,
        "Reaches a lower threshold: no bonus, and MIPS may be left.",
        unit="flag",
    )
    allowed = book.add("allowed", inputs.number("allowed"), "Payments for professional services.")
    bonus = book.add(
        "bonus",
        np.where(qualifies, terms.number("bonus") * allowed, 0.0),
        "Bonus of qualifying participants.",
    )
    ratio = (1 + terms.number("qualifying_update", absent=0.0)) / (
        1 + terms.number("other_update", absent=0.0)
    )
    gain = book.add(
        "conversion_factor_gain",
        ratio ** terms.number("updates", absent=0.0) - 1,
        "Conversion factor of qualifying participants over that of others, less 1.",
        unit="rate",
    )
    updates = book.add(
        "update_gain",
        np.where(qualifies, gain * allowed, 0.0),
        "Payments gained by it in the year.",
    )
    book.add("settlement", bonus + updates, "Paid to the practice.", final=True)
    return book


def _reaches(terms: Terms, inputs: Inputs, level: str) -> BoolArray:
    # a missing share reaches nothing
    paid = inputs.number("payment_share") >= terms.number(f"{level}payment_threshold")
    seen = inputs.number("patient_share") >= terms.number(f"{level}patient_threshold")
    return np.asarray(paid | seen)
