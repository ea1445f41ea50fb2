"""What TEAM and BPCI Advanced do alike once a reconciliation amount stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.typing import FloatArray
from vbceval.programs.episode_steps import quality_adjusted
from vbceval.programs.inputs import Inputs
from vbceval.programs.settlement import Worksheet
from vbceval.programs.steps import limited
from vbceval.programs.terms import Terms


def reconcile(
    terms: Terms,
    inputs: Inputs,
    book: Worksheet,
    *,
    amount: FloatArray,
    target: FloatArray,
    owes: ArrayLike = True,
) -> None:
    """
    Add the lines from a reconciliation amount to the settlement.

    Quality comes before the limits, so a limit can make up for a low score.

    Parameters
    ----------
    terms : Terms
        Rules with ``quality_gain quality_loss stop_gain stop_loss``.
    inputs : Inputs
        Table with ``quality_score``, and ``post_episode_excess`` if there is any.
    book : Worksheet
        Where the lines go.
    amount, target : ndarray, shape (organizations, draws)
        Reconciliation amount and target amount, dollars.
    owes : array_like of bool
        Who repays anything; of others, excess spending after episodes takes the payment at most.
    """
    score = book.add(
        "quality_score", inputs.number("quality_score"), "Composite quality score.", unit="number"
    )
    share, adjusted = quality_adjusted(
        amount, score, gain=terms.number("quality_gain"), loss=terms.number("quality_loss")
    )
    book.add("quality_share", share, "Share that quality takes off.", unit="rate")
    adjusted = book.add("quality_adjusted", adjusted, "What remains after it.")
    gain = book.add(
        "gain_limit", terms.number("stop_gain") * target, "Stop-gain times the target amount."
    )
    loss = book.add(
        "loss_limit", terms.number("stop_loss") * target, "Stop-loss times the target amount."
    )
    kept = book.add(
        "limited", limited(adjusted, gain=gain, loss=loss), "Kept between the two limits."
    )
    later = book.add(
        "post_episode_excess",
        inputs.number("post_episode_excess", absent=0.0),
        "Excess spending after episodes; no limit applies.",
    )
    due = kept - later
    # adding zero turns the minus zero of an unlimited side into zero
    due = np.where(owes, due, np.maximum(due, 0.0)) + 0.0
    book.add("settlement", due, "Paid, or owed where negative.", final=True)
