"""Capitation with corridors: the organization bears gains and losses in bands."""

from __future__ import annotations

import numpy as np

from vbceval.programs.bands import by_bands
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Settle organizations of one year.

    Raises
    ------
    DataError
        If more spending is carved out than there is.
    """
    book = Worksheet(len(inputs.organizations))
    spent, carved = inputs.number("expenditure"), inputs.number("carved_out", absent=0.0)
    refuse(
        terms,
        inputs,
        (
            carved > spent,
            "have more `carved_out` than `expenditure`.",
            "It is the part of `expenditure` that the payer bears.",
        ),
    )
    paid = book.add(
        "capitation",
        inputs.number("capitation_pmpm") * inputs.number("member_months"),
        "Capitation times member months.",
    )
    spent = book.add("counted", spent - carved, "Spending less what is carved out.")
    gross = book.add("gross", paid - spent, "Capitation less spending.")
    gains = by_bands(terms, "gain_bands", np.maximum(gross, 0.0), paid)
    losses = by_bands(terms, "loss_bands", np.minimum(gross, 0.0), paid)
    kept = book.add(
        "settlement",
        gains + losses,
        "Gain or loss of the organization after corridors.",
        final=True,
    )
    book.add("corridor_transfer", kept - gross, "Paid by the payer because of corridors.")
    return book
