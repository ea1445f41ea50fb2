"""Columns beside outcome and covariates that an estimator reads: a dose, a set of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.design import Design
from vbceval.did.blocks import Block, make_block
from vbceval.moments import Moments
from vbceval.panel import Panel


class Source(NamedTuple):
    """
    Moments with further columns.

    Parameters
    ----------
    moments : Moments
        K cells.
    design : Design
        The design, the columns among its covariates.
    values : mapping of str to array, shape (K,)
        The columns, by name.
    positions : mapping of str to int
        Where they are among the covariates of the moments.
    """

    moments: Moments
    design: Design
    values: dict[str, FloatArray]
    positions: dict[str, int]

    def block(self, clusters: pd.Index) -> Block:
        """Return all cells with outcome and covariates, without the further columns."""
        block = make_block(self.moments, self.design, clusters)
        kept = np.array(
            [j for j, name in enumerate(block.names) if name not in self.values], dtype=np.int64
        )
        return block._replace(
            x=np.ascontiguousarray(block.x[:, kept]),
            xx=None if block.xx is None else block.xx[:, kept[:, None], kept],
            xy=None if block.xy is None else block.xy[:, kept],
            names=tuple(block.names[j] for j in kept),
            factors=tuple(block.factors[j] for j in kept),
        )


def with_columns(
    data: Panel | Moments,
    design: Design,
    numbers: Sequence[str] = (),
    *,
    codes: Sequence[str] = (),
) -> Source:
    """
    Read further columns beside those of a design.

    Parameters
    ----------
    data : Panel or Moments
        Where they are columns of the panel, or covariates of the moments.
    design : Design
        Outcome and covariates.
    numbers : sequence of str
        Columns of numbers; what is no number is missing.
    codes : sequence of str
        Columns of labels, read as codes 0, 1, ... (-1 is missing).

    Raises
    ------
    DesignError
        If a column does not exist, or is a covariate as well.
    """
    names = (*numbers, *codes)
    twice = [name for name in names if name in design.covariates]
    if twice:
        raise DesignError(
            f"{listed(twice)} is a covariate of the design as well: leave it out there."
        )
    wanted = replace(design, covariates=(*design.covariates, *names))
    if isinstance(data, Panel):
        lost = [name for name in names if name not in data.frame]
        if lost:
            raise DesignError(
                f"the panel has no column {listed(lost)}. It has "
                f"{listed(data.frame.columns, most=20)}."
            )
        frame = data.frame.assign(
            **{n: pd.to_numeric(data.frame[n], errors="coerce").astype(float) for n in numbers},
            **{n: pd.factorize(data.frame[n])[0].astype(float) for n in codes},
        )
        moments = Moments.from_panel(
            replace(data, frame=frame), outcomes=[design.outcome], covariates=wanted.covariates
        )
    else:
        moments = data.of(design.outcome)
    columns = {
        moments.covariates[i]: int(i) for i in moments.covariate_positions(wanted.covariates)
    }
    positions = {name: columns[name] for name in names}
    values = {name: moments.x_mean[:, i] for name, i in positions.items()}
    return Source(moments, wanted, values, positions)
