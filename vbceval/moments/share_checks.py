"""What is refused before anything is merged: moments without people, labels that are people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import SMALLEST_SHOWN
from vbceval.core.errors import DataError
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums, people_column

if TYPE_CHECKING:
    from vbceval.moments.moments import Moments


def checked_moments(moments: Moments, minimum: int, dominance: float | None) -> Sums:
    """
    Return the sums of moments that can be shared.

    Raises
    ------
    DataError
        If they hold no sums or no count of people, are a copy already, or name people.
    """
    if moments.sums is None:
        raise DataError(
            "these moments were taken from a panel in memory and hold no sums, so merged cells "
            "would not be exact. Take them with Moments.from_table (any frame can be its source)."
        )
    if moments.sums.schema.unit is None:
        raise DataError(
            "these moments do not count people: `unit` was not given, and the threshold is a number "
            "of different people. Take them again with unit= (it is counted, never stored)."
        )
    if "share" in moments.meta:
        raise DataError(
            "these moments are a shared copy already. Share a coarser copy of the source instead, "
            "with this one in `published`."
        )
    if minimum < SMALLEST_SHOWN:
        raise DataError(
            f"`minimum` is {minimum}, and counts of 1 to {SMALLEST_SHOWN - 1} people are in nothing that "
            f"leaves (CMS cell size suppression policy). Give {SMALLEST_SHOWN} or more."
        )
    if dominance is not None and not 0 < dominance < 1:
        raise DataError(f"`dominance` is {dominance}; it is a share between 0 and 1, such as 0.5.")
    _check_labels(moments.sums)
    return moments.sums


def _check_labels(sums: Sums) -> None:
    """Refuse columns that name people: their labels, or sums of them, would be in the file."""
    schema, keys = sums.schema, sums.table.select(list(sums.schema.keys)).to_pandas()
    used = (*schema.keys, *schema.outcomes, *schema.covariates, schema.weight, schema.exposure)
    named = [schema.unit] if schema.unit in used else []
    blocks = [people_column(schema.alone(block)) for block in schema.blocks]
    people = np.max([sums.table.column(x).to_numpy() for x in dict.fromkeys(blocks)], axis=0)
    for name in (schema.cluster, *schema.strata):
        # in a period: a person is in many periods
        here = pd.Series(people).groupby([keys[name], keys[schema.period]]).sum()
        most = here.groupby(level=0).max()
        if len(most) >= SMALLEST_SHOWN and (most <= 1).mean() > 0.5:
            named.append(name)
    if named:
        raise DataError(
            f"{listed(dict.fromkeys(named))} names people, or most of its labels stand for one "
            "person each. Labels are in the file and in its report, so people would be in them. "
            "Take moments by organizations, and strata with few levels."
        )


def checked_outcomes(names: Sequence[str], schema: Schema) -> tuple[str, ...]:
    """
    Return outcomes whose squares stay behind.

    Raises
    ------
    DataError
        If one is no outcome.
    """
    strange = [y for y in names if y not in schema.outcomes]
    if isinstance(names, str) or strange:
        raise DataError(
            f"`without_squares` names {listed(strange or [names])}; give a list of outcomes "
            f"({listed(schema.outcomes)})."
        )
    return tuple(names)
