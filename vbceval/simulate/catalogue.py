"""Named processes, each turning on one difficulty."""

from __future__ import annotations

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.simulate.panels import OrganizationPanel, Stratum

_DIFFICULTIES = (
    OrganizationPanel(name="D0"),
    OrganizationPanel(name="D1", organization_sd=0.055, shock_sd=0.015, shock_rho=0.5),
    OrganizationPanel(
        name="D2", organization_sd=0.055, shock_sd=0.015, shock_rho=0.5,
        effect=-0.01, growth=-0.005, cohort_effect={2014: 1.2, 2017: 0.5},
    ),
    OrganizationPanel(
        name="D7", organization_sd=0.055, shock_sd=0.015, shock_rho=0.5, tilt=0.005, pull=0.5,
    ),
    OrganizationPanel(
        name="D8", organization_sd=0.055, shock_sd=0.015, shock_rho=0.5,
        strata={
            "a": Stratum(share=0.60, spending=0.85, effect=1.0),
            "b": Stratum(share=0.25, spending=1.0, effect=0.5),
            "c": Stratum(share=0.10, spending=1.5, effect=2.0),
            "d": Stratum(share=0.05, spending=3.0, effect=0.0, presence=0.3),
        },
    ),
)  # fmt: skip
_BY_NAME = {process.name: process for process in _DIFFICULTIES}


def process(name: str) -> OrganizationPanel:
    """
    Return a named data-generating process; change it with `dataclasses.replace`.

    Parameters
    ----------
    name : {"D0", "D1", "D2", "D7", "D8"}
        D0: people only, one effect. D1: also organization levels and autocorrelated
        organization-year shocks. D2: as D1, effects grow with time in the program and differ by
        cohort. D7: as D1, trends and entry depend on an observed covariate ``x``. D8: as D1, four
        strata with different effects, the smallest in 30 percent of organizations.

    Returns
    -------
    OrganizationPanel

    Raises
    ------
    DesignError
        If the name is not known.

    Examples
    --------
    >>> from vbceval.core.rng import generator
    >>> d2 = process("D2")
    >>> round(d2.truth().overall, 2)
    -174.23
    >>> d2.panel(generator(1, "example")).n_units
    200
    """
    if name not in _BY_NAME:
        raise DesignError(f"no process is called '{name}': there are {listed(_BY_NAME)}.")
    return _BY_NAME[name]
