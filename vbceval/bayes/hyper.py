"""Standard deviations and other parameters that are not coefficients: their priors, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.cells import Cells
from vbceval.bayes.coefficients import Structure
from vbceval.bayes.elimination import COMMON, LASTING, RHO, SPECIFIC
from vbceval.bayes.likelihood import Scales
from vbceval.bayes.priors import Priors
from vbceval.core.typing import BoolArray, FloatArray

SHOCKS = ("common_shock", "stratum_shock")
"""Standard deviations of shocks."""

BY_STRATUM, STUDENT, HORSESHOE = 4, 5, 6
"""Places in `active`: shocks of a stratum have a variance of its own, are Student t, parts horseshoe."""


class Law(NamedTuple):
    """
    Prior of one parameter, or of several that are independent and alike.

    Parameters
    ----------
    name : str
        ``part_sd`` (of the parts of the effect after the first), ``rho_share`` ((rho + 1) / 2),
        ``common_shock``, ``stratum_shock``, ``organization_sd``, ``overlap``, ``person_sd`` or
        ``person_factor``.
    family : {"half_normal", "beta", "log_normal"}
        Law.
    values : tuple of float
        Scale; both exponents; sd of the log.
    labels : tuple of str, optional
        What each of several is of; None for a single one.
    dims : str, optional
        Their dimension.
    """

    name: str
    family: Literal["half_normal", "beta", "log_normal"]
    values: tuple[float, ...]
    labels: tuple[str, ...] | None = None
    dims: str | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def names(self) -> list[str]:
        """Name of each, as results call it."""
        if self.name == "part_sd" and self.labels is not None:
            return [f"{part}_sd" for part in self.labels]
        name = "rho" if self.name == "rho_share" else self.name
        return [name] if self.labels is None else [f"{name}[{label}]" for label in self.labels]

    def quantile(self, z: FloatArray) -> FloatArray:
        """
        Return the value whose probability under the prior is that of z under the standard normal.

        Examples
        --------
        >>> Law("overlap", "beta", (1.0, 1.0)).quantile(np.array([0.0])).tolist()
        [0.5]
        """
        # each tail by the function that is exact there
        tail, upper = special.ndtr(-np.abs(z)), z > 0
        if self.family == "half_normal":
            unit = np.where(upper, special.erfcinv(tail), special.erfinv(tail))
            return np.asarray(self.values[0] * np.sqrt(2.0) * unit)
        if self.family == "beta":
            a, b = self.values
            low, high = special.betaincinv(a, b, tail), 1.0 - special.betaincinv(b, a, tail)
            return np.asarray(np.where(upper, high, low))
        return np.asarray(np.exp(self.values[0] * z))


def laws(
    cells: Cells, parts: Structure, priors: Priors, active: BoolArray, *, person_log_sd: float
) -> tuple[Law, ...]:
    """
    Return the priors of everything that is not a coefficient of the mean.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    parts : Structure
        Coefficients of the mean.
    priors : Priors
        Prior scales, percent of baseline.
    active : array of bool, shape (7,)
        See `vbceval.bayes.model.active_scales`. What only the sampler takes (Student t shocks,
        horseshoe) is not among the laws.
    person_log_sd : float
        Standard deviation of the log of a factor on the stated spread of persons; 0 for none.
    """
    strata = tuple(cells.coords["stratum"])
    out = []
    if len(parts.names) > 1:
        out.append(Law("part_sd", "half_normal", (priors.spread,), parts.names[1:], "part"))
    if active[RHO]:
        out.append(Law("rho_share", "beta", (2.0, 2.0)))
    for place, name in zip((COMMON, SPECIFIC), SHOCKS, strict=True):
        if active[place] and place == SPECIFIC and active[BY_STRATUM]:
            out.append(Law(name, "half_normal", (priors.shock,), strata, "stratum"))
        elif active[place]:
            out.append(Law(name, "half_normal", (priors.shock,)))
    if active[LASTING]:
        out.append(Law("organization_sd", "half_normal", (priors.organization,)))
    if cells.restated:
        out.append(Law("overlap", "beta", (1.0, 1.0)))
    if cells.within is not None:
        out.append(Law("person_sd", "half_normal", (priors.person,), strata, "stratum"))
    elif person_log_sd > 0:
        out.append(Law("person_factor", "log_normal", (person_log_sd,), strata, "stratum"))
    return tuple(out)


def split_point(found: tuple[Law, ...], z: FloatArray) -> dict[str, FloatArray]:
    """
    Return parameters by name at points whose coordinates are standard normal a priori.

    Parameters
    ----------
    found : tuple of Law
        Priors.
    z : array, shape (..., d)
        Coordinates, in their order.
    """
    out, start = {}, 0
    for law in found:
        values = law.quantile(z[..., start : start + law.size])
        out[law.name] = values[..., 0] if law.labels is None else values
        start += law.size
    return out


def natural_values(values: Mapping[str, Any], parts: Structure) -> dict[str, Any]:
    """Return parameters by the names of results: ``rho``, ``cohort_sd`` and so on."""
    out: dict[str, Any] = {}
    if "rho_share" in values:
        out["rho"] = 2.0 * values["rho_share"] - 1.0
    for name in (
        *SHOCKS, "organization_sd", "overlap", "person_sd", "person_factor", "degrees",
        "shock_scale", "local_scale",
    ):  # fmt: skip
        if name in values:
            out[name] = values[name]
    for j, name in enumerate(parts.names[1:]):
        out[f"{name}_sd"] = values["part_sd"][..., j]
    return out


def scales_at(values: Mapping[str, Any], cells: Cells) -> Scales:
    """
    Return what the likelihood of cells takes; 0 for what the model does not have.

    Parameters
    ----------
    values : mapping
        Parameters by the names of results, as `natural_values` makes them.
    cells : Cells
        The cells of the fit.

    Returns
    -------
    Scales
        Without the parts of the effect, which belong to coefficients.
    """

    def value(name: str) -> FloatArray:
        return np.asarray(values[name]) if name in values else np.zeros(())

    person = np.ones(cells.n_strata)
    for name in ("person_sd", "person_factor"):
        if name in values:
            person = np.asarray(values[name])
    return Scales(
        parts=np.zeros(0), specific=value("stratum_shock") ** 2,
        common=value("common_shock") ** 2, lasting=value("organization_sd") ** 2,
        rho=value("rho"), overlap=value("overlap"), person=person,
        stretch=value("shock_scale") ** 2 if "shock_scale" in values else np.ones(()),
    )  # fmt: skip
