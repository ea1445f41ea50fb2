"""Split the cells of a regression by the strata that results are shown for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vbceval.core.errors import DesignError, EstimationError
from vbceval.did.sampled import Sample


@contextmanager
def naming(stratum: str | None) -> Iterator[None]:
    """Name the stratum in an error that is raised within, and say how to do without it."""
    try:
        yield
    except (DesignError, EstimationError) as error:
        if stratum is None:
            raise
        raise type(error)(
            f"stratum '{stratum}': {error} If only this stratum lacks what is needed, leave its rows "
            "out or merge it with another level."
        ) from error


def samples_by_stratum(whole: Sample, names: Sequence[str]) -> Iterator[Sample]:
    """
    Yield all cells together, then those of each level of each stratum.

    Levels that a shared copy made by merging ("no or yes") are no strata of their own.

    Parameters
    ----------
    whole : Sample
        Cells.
    names : sequence of str
        Strata, keys of the sample.
    """
    yield whole
    for name in names:
        for i, text in sorted(enumerate(whole.levels[name]), key=lambda pair: pair[1]):
            if text in whole.made:
                continue
            rows = whole.keys[name] == i
            if rows.any():
                stratum = f"{name}={text[len(name) + 1 :]}"
                yield whole.take(rows)._replace(stratum=stratum).within_data()
