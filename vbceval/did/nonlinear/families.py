"""Distributions and links: mean, slope and working weight as functions of the index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import special

from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray

Name = Literal["gaussian", "poisson", "gamma", "tweedie", "logit", "probit"]
_EXPONENTIAL = {"poisson": 1.0, "gamma": 2.0}
_ROOT_2PI = np.sqrt(2 * np.pi)


@dataclass(frozen=True, kw_only=True)
class Family:
    """
    A quasi-likelihood: a mean function of the index, and a variance function of the mean.

    Parameters
    ----------
    name : {"gaussian", "poisson", "gamma", "tweedie", "logit", "probit"}
        "gaussian" has the identity as link; "poisson", "gamma" and "tweedie" the logarithm, with
        variance mean^1, mean^2 and mean^power; "logit" and "probit" are for shares.
    power : float, optional
        For "tweedie": strictly between 1 and 2.

    Raises
    ------
    DesignError
        If the name is not known, or `power` does not go with it.
    """

    name: Name
    power: float | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise DesignError(
                f"`family` is {self.name!r}; it can be {', '.join(map(repr, get_args(Name)))}."
            )
        if self.name == "tweedie":
            if self.power is None or not 1 < self.power < 2:
                raise DesignError(
                    f"family 'tweedie' has variance mean^power, and `power` is {self.power}: give "
                    "a number between 1 and 2 (1 is 'poisson', 2 is 'gamma')."
                )
        elif self.power is not None:
            raise DesignError(f"`power` is an option of family 'tweedie', not of {self.name!r}.")

    @property
    def exponential(self) -> bool:
        """Whether the link is the logarithm, so that effects are ratios."""
        return self.name in ("poisson", "gamma", "tweedie")

    @property
    def share(self) -> bool:
        """Whether means lie between 0 and 1."""
        return self.name in ("logit", "probit")

    @property
    def _power(self) -> float:
        """Power of the mean in the variance of the families with the logarithm as link."""
        power = _EXPONENTIAL.get(self.name, self.power)
        return 0.0 if power is None else power

    def mean(self, eta: FloatArray) -> FloatArray:
        """Return the mean at an index."""
        if self.exponential:
            return np.exp(eta)
        if self.name == "logit":
            return np.asarray(special.expit(eta))
        return np.asarray(special.ndtr(eta)) if self.name == "probit" else eta

    def slope(self, eta: FloatArray) -> FloatArray:
        """Return the derivative of the mean by the index."""
        if self.exponential:
            return np.exp(eta)
        if self.name == "logit":
            return np.asarray(special.expit(eta) * special.expit(-eta))
        return np.exp(-eta * eta / 2) / _ROOT_2PI if self.name == "probit" else np.ones_like(eta)

    def variance(self, eta: FloatArray) -> FloatArray:
        """Return the variance function at an index."""
        if self.exponential:
            return np.exp(self._power * eta)
        if self.name == "logit":
            return self.slope(eta)
        if self.name == "probit":
            return np.asarray(special.ndtr(eta) * special.ndtr(-eta))
        return np.ones_like(eta)

    @property
    def heavy(self) -> bool:
        """Whether the logarithm is not the canonical link, so that curvature depends on outcomes."""
        return self.name in ("gamma", "tweedie")

    def curvature(self, eta: FloatArray, y: FloatArray) -> FloatArray:
        """Return minus the second derivative of the quasi-likelihood by the index, above 0 (`heavy`)."""
        power = self._power
        return np.exp((1 - power) * eta) * ((power - 1) * y + (2 - power) * np.exp(eta))

    def loss(self, eta: FloatArray, y: FloatArray) -> FloatArray:
        """Return minus the quasi-likelihood, up to a constant (`heavy`)."""
        power = self._power
        spread = eta if power == 2 else np.exp((2 - power) * eta) / (2 - power)
        return y * np.exp((1 - power) * eta) / (power - 1) + spread

    def start(self, y: FloatArray, w: FloatArray) -> FloatArray:
        """Return an index from which to begin: that of means halfway to the overall mean."""
        centre = float(np.average(y, weights=w))
        half = (y + centre) / 2
        if self.exponential:
            return np.log(half)
        if self.name == "logit":
            return np.asarray(special.logit((y + 0.5) / 2))
        return np.asarray(special.ndtri((y + 0.5) / 2)) if self.name == "probit" else y.copy()

    def check(self, name: str, y: FloatArray) -> None:
        """
        Raise DataError when an outcome cannot have the family.

        Parameters
        ----------
        name : str
            Name of the outcome.
        y : array, shape (K,)
            Its values or means of cells.
        """
        wrong, remedy = False, ""
        if self.share:
            wrong = bool(((y < 0) | (y > 1)).any())
            remedy = "lie from 0 to 1: give an indicator or a share"
        elif self.name == "gamma":
            wrong = bool((y <= 0).any())
            remedy = (
                "be above 0. For spending with zeros use family='poisson' on dollars (the mean is "
                "all it assumes), or TwoPart"
            )
        elif self.exponential:
            wrong = bool((y < 0).any())
            remedy = "be 0 or more"
        if wrong:
            raise DataError(f"`{name}` does not fit family '{self.name}': it must {remedy}.")
        if not (y != y[0]).any():
            raise DataError(f"`{name}` is the same in every row, so there is nothing to explain.")
