"""Counts with exposure as rates: the same quasi-likelihood, without an offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.moments import Moments
from vbceval.panel import Panel


def as_rates(data: Panel | Moments, design: Design, outcomes: Sequence[str]) -> Moments:
    """
    Return moments of totals over exposure, weighted by exposure.

    The Poisson score of a total y with offset log E is w (y - E exp(index)) = w E (y/E - exp(index)):
    that of the rate with weight w E. Cells of zero exposure and zero total leave.

    Parameters
    ----------
    data : Panel or Moments
        With exposure.
    design : Design
        For its covariates.
    outcomes : sequence of str
        Counts or totals.

    Raises
    ------
    DataError
        If there is no exposure, a total without exposure, or cells are sums of weighted rows: then
        the weighted sum of exposure is not known.
    """
    if isinstance(data, Panel):
        data = Moments.from_panel(data, outcomes=outcomes, covariates=design.covariates)
    blocks = {name: _rates(block, [name]) for name, block in data.blocks.items()}
    return replace(_rates(data, [o for o in outcomes if o not in blocks]), blocks=blocks)


def _rates(moments: Moments, outcomes: Sequence[str]) -> Moments:
    if moments.exposure is None:
        raise DataError(
            "`offset=True` divides by exposure, but the data have none. Name it in `exposure=` of "
            "the panel or the moments."
        )
    single = bool((moments.n == 1).all())
    if not single and not np.array_equal(moments.w, moments.n.astype(float)):
        raise DataError(
            "`offset=True` needs the weighted sum of exposure in each cell, and these moments hold "
            "the plain one beside weighted outcomes. Take them again with weight times exposure as "
            "`weight` and the rate as outcome."
        )
    exposure = moments.exposure
    weight = moments.w * exposure if single else exposure
    js = [moments.column(name) for name in outcomes]
    total: FloatArray = moments.y_mean[:, js] * (1.0 if single else moments.w[:, None])
    lost = ((exposure <= 0)[:, None] & (np.nan_to_num(total) != 0)).any(axis=0)
    if lost.any():
        names = [n for n, x in zip(outcomes, lost, strict=True) if x]
        raise DataError(
            f"{listed(names)} is not zero in cells whose exposure is zero, so the rate is infinite "
            "there. Correct the exposure or leave these cells out."
        )
    y = moments.y_mean.copy()
    y[:, js] = total / np.where(exposure > 0, exposure, np.nan)[:, None]
    # second moments are those of the totals, and no nonlinear fit reads them
    return replace(moments, y_mean=y, w=weight, xy=None, yy=None)
