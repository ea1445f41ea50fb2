"""Medicare Advantage payment: raw scores normalised, less coding differences, blended."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.programs.conditions import refuse
from vbceval.programs.inputs import Inputs
from vbceval.programs.program import Program
from vbceval.programs.settlement import Worksheet
from vbceval.programs.terms import Terms


def settle(terms: Terms, inputs: Inputs) -> Worksheet:
    """
    Return payments to plans of one payment year.

    Raises
    ------
    DataError
        If a plan lacks the score of a model that has a weight, or before 2022 a payment score.
    """
    book = Worksheet(len(inputs.organizations))
    given = inputs.number("payment_score")
    tables = terms.tables("blend", may_be_absent=True)
    blended: FloatArray = np.full(given.shape, np.nan)
    if tables:
        weights = dict(
            zip(terms.parameters["blend"].columns, map(float, tables[0][1][0]), strict=True)
        )
        blended = np.zeros(given.shape)
        for model, weight in weights.items():
            if weight > 0:
                score = _scores(terms, inputs.number(f"raw_{model}"), model)
                score = book.add(
                    f"score_{model}", score, "Normalised, less coding differences.", unit="number"
                )
                blended = blended + weight * score
    score = np.where(np.isnan(given), blended, given)
    refuse(
        terms,
        inputs,
        (
            np.isnan(score),
            f"have no raw score that {terms.performance_year} uses, and no `payment_score`.",
            "Fill in one or the other.",
        ),
    )
    score = book.add("payment_score", score, "Given, or blended over the models.", unit="number")
    months = inputs.number("member_months")
    rate = book.add(
        "base_rate", inputs.number("base_rate"), "Per member and month at a score of 1."
    )
    book.add("settlement", rate * score * months, "Paid to the plan.", final=True)
    return book


def payment_scores(
    program: Program, raw: ArrayLike, *, model: str, performance_year: int
) -> FloatArray:
    """
    Return payment scores of one model: normalised, less coding differences, rounded at each step.

    Parameters
    ----------
    program : Program
        ``get("hcc")``, or the program with other values.
    raw : array_like
        Raw scores.
    model : str
        ``v22``, ``v24`` or ``v28``.
    performance_year : int
        Payment year.

    Raises
    ------
    DesignError
        If there is no such model, or the year has no factor of it.

    Examples
    --------
    >>> from vbceval.programs import get
    >>> payment_scores(get("hcc"), [1.25], model="v28", performance_year=2024).tolist()
    [1.159]
    """
    models = program.parameters["blend"].columns
    if model not in models:
        raise DesignError(f"there is no model `{model}`. Use {listed(models)}.")
    terms = program.terms(performance_year, list(program.variants))
    return _scores(terms, np.asarray(raw, dtype=float), model)


def _scores(terms: Terms, raw: FloatArray, model: str) -> FloatArray:
    # the factors are the same for every plan, so the first stands for all
    digits = int(terms.number("decimals")[0, 0])
    normalised = _half_up(raw / terms.number(f"normalisation_{model}")[0, 0], digits)
    return _half_up(normalised * (1 - terms.number("coding_adjustment")[0, 0]), digits)


def _half_up(value: FloatArray, digits: int) -> FloatArray:
    # a hair is added so that a half reached through a product still rounds up
    scale = 10.0**digits
    return np.asarray(np.floor(value * scale + 0.5 + 1e-9) / scale)
