"""Logit, Poisson and gamma regression: what a pass sums, as SQL and as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.engine import sql
from vbceval.passes.conditions import number

if TYPE_CHECKING:
    from sqlglot import exp

Family = Literal["logit", "poisson", "gamma"]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """
    What a row gives at a linear predictor, before the weight.

    Parameters
    ----------
    step : Expression
        Weight of x x' in a Newton step.
    score : Expression
        Weight of x in the score.
    gain : Expression
        Its part of the log likelihood, without what does not depend on coefficients.
    """

    step: exp.Expression
    score: exp.Expression
    gain: exp.Expression


def check_family(family: str) -> None:
    """Raise DesignError when a family is not known."""
    if family not in get_args(Family):
        raise DesignError(f"`family` is {family!r}; it can be 'logit', 'poisson' or 'gamma'.")


def check_outcome(family: str, name: str, low: float, high: float) -> None:
    """
    Raise DataError when an outcome cannot have the family.

    Parameters
    ----------
    family, name : str
    low, high : float
        Its smallest and largest value.
    """
    wrong = {
        "logit": (low < 0 or high > 1, "must lie from 0 to 1: give an indicator or a share"),
        "poisson": (low < 0, "must be 0 or more: correct it"),
        "gamma": (
            low <= 0,
            "must be above 0. For spending with zeros use family='poisson' on dollars, or two "
            "parts: a logit of any spending, and gamma on a table of the rows that have some",
        ),
    }
    bad, remedy = wrong[family]
    if bad:
        raise DataError(f"`{name}` does not fit family '{family}': it {remedy}.")
    if high <= low and family != "gamma":
        raise DataError(f"`{name}` is the same in every row, so there is nothing to explain.")


def begin(family: str, mean: float) -> tuple[exp.Expression, exp.Expression]:
    """
    Return the working weight and the working response of a row before there are coefficients.

    Means start halfway between the outcome and its mean, as in McCullagh and Nelder (1989, section
    2.5): no constant needs to be among the regressors.
    """
    from sqlglot import exp

    y = sql.column("y")
    centre = 0.5 if family == "logit" else mean
    mu = _binary(exp.Div, _binary(exp.Add, y, number(centre)), number(2.0))
    if family == "logit":
        rest = _binary(exp.Sub, number(1.0), mu)
        weight = _binary(exp.Mul, mu, rest)
        eta: exp.Expression = exp.Ln(this=_binary(exp.Div, mu, rest))
    else:
        weight = mu if family == "poisson" else number(1.0)
        eta = exp.Ln(this=mu)
    slope = weight if family == "logit" else mu
    response = _binary(exp.Add, eta, _binary(exp.Div, _binary(exp.Sub, y, mu), slope))
    return weight.copy(), response


def pieces(family: str) -> Pieces:
    """Return the sums of a Newton step at the column ``eta``, for the column ``y``."""
    from sqlglot import exp

    y, eta = sql.column("y"), sql.column("eta")
    if family == "poisson":
        mu: exp.Expression = exp.Exp(this=eta)
        gain = _binary(exp.Sub, _binary(exp.Mul, y, eta), mu)
        return Pieces(step=mu, score=_binary(exp.Sub, y, mu), gain=gain)
    if family == "gamma":
        ratio = _binary(exp.Mul, y, exp.Exp(this=_minus(eta)))
        score = _binary(exp.Sub, ratio, number(1.0))
        gain = _binary(exp.Sub, _minus(ratio), eta)
        return Pieces(step=ratio, score=score, gain=gain)
    one = number(1.0)
    share = _binary(exp.Div, one, _binary(exp.Add, one, exp.Exp(this=_minus(eta))))
    size = exp.Abs(this=eta.copy())
    # ln(1 + exp(eta)) without overflow
    positive = _binary(exp.Div, _binary(exp.Add, eta, size), number(2.0))
    rest = exp.Ln(this=_binary(exp.Add, one, exp.Exp(this=_minus(size))))
    gain = _binary(exp.Sub, _binary(exp.Mul, y, eta), _binary(exp.Add, positive, rest))
    step = _binary(exp.Mul, share, _binary(exp.Sub, one, share))
    return Pieces(step=step, score=_binary(exp.Sub, y, share), gain=gain)


def residual(family: str, y: FloatArray, eta: FloatArray) -> FloatArray:
    """
    Return the weight of x in the score of each row.

    Parameters
    ----------
    family : str
        "gaussian", "logit", "poisson" or "gamma".
    y, eta : array, shape (n,)
        Outcome, and linear predictor with its offset.
    """
    if family == "gaussian":
        return np.asarray(y - eta)
    if family == "logit":
        return np.asarray(y - 1.0 / (1.0 + np.exp(-eta)))
    if family == "poisson":
        return np.asarray(y - np.exp(eta))
    return np.asarray(y * np.exp(-eta) - 1.0)


def _binary(kind: type[exp.Binary], left: exp.Expression, right: exp.Expression) -> exp.Expression:
    from sqlglot import exp

    return exp.Paren(this=kind(this=left.copy(), expression=right.copy()))


def _minus(value: exp.Expression) -> exp.Expression:
    from sqlglot import exp

    return exp.Neg(this=exp.Paren(this=value.copy()))
