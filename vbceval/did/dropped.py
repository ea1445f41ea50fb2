"""Covariates that a regression leaves out because other columns span them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vbceval.core.checks import listed
from vbceval.did.least_squares import Fit


def dropped_covariates(fits: Iterable[Fit]) -> dict[str, list[str]]:
    """Return the covariates that some fit leaves out, and which columns span each with effects."""
    return {
        fit.z.names[j]: sorted(
            fit.z.names[i] for i in np.flatnonzero(np.abs(fit.dependent[int(j)]) > 1e-6)
        )
        for fit in fits
        for j in fit.z.where("covariate")
        if not fit.kept[j]
    }


def said_of_dropped(dropped: dict[str, list[str]]) -> list[str]:
    """Return one warning a covariate."""
    return [
        f"covariate `{name}` was dropped: it is spanned by the fixed effects"
        f"{' and ' + listed(others) if others else ''}."
        for name, others in dropped.items()
    ]
