"""Cells that a nonlinear mean can be fitted on."""

from __future__ import annotations

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.design import Design
from vbceval.did.sampled import Sample


def only(sample: Sample, j: int) -> Sample:
    """Return the cells with one outcome, by position."""
    c = sample.cells
    cells = c._replace(
        y=c.y[:, [j]], xy=None if c.xy is None else c.xy[:, :, [j]],
        yy=None if c.yy is None else c.yy[:, [j]],
    )  # fmt: skip
    return sample._replace(cells=cells, outcomes=(sample.outcomes[j],))


def constant_within(sample: Sample, design: Design) -> Sample:
    """
    Return the cells without second moments of covariates, which are zero.

    Raises
    ------
    EstimationError
        If covariates vary within cells.
    """
    cells, block = sample.cells, sample.cells.block
    if block.xx is not None and len(design.covariates):
        spread = np.einsum("kpp->kp", block.xx) / np.maximum(block.w, 1e-300)[:, None]
        size = np.average(block.x**2, weights=block.w, axis=0)
        varying = (spread > 1e-12 * size).any(axis=0)
        if varying.any():
            names = [n for n, v in zip(block.names, varying, strict=True) if v]
            raise EstimationError(
                f"covariates {', '.join(f'`{n}`' for n in names)} vary within cells, and a "
                "nonlinear mean of a cell is not the mean at its average covariate. Fit a Panel of "
                "rows, put categories into `strata`, or stream the rows with `vbceval.passes.glm`."
            )
    plain = block._replace(xx=None, xy=None)
    return sample._replace(cells=cells._replace(block=plain, xy=None, yy=None))
