"""Whether a source is the one a run began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vbceval.core.disclosure import suppress_small
from vbceval.core.errors import DataError
from vbceval.core.version import __version__
from vbceval.engine import Relation


def is_known(relation: Relation, vintage: str | None) -> bool:
    """Return whether another state of the source would be noticed, so that a run may be resumed."""
    files = relation.source.files
    seen = bool(files) and all(f.footer_sha256 is not None for f in files)
    return seen or vintage is not None


def identity_of(
    name: str,
    relation: Relation,
    parameters: Mapping[str, Any],
    *,
    vintage: str | None,
    resumable: bool,
) -> dict[str, Any]:
    """
    Return what must not change between a run and its resumption.

    Parameters
    ----------
    name : str
        The pass.
    relation : Relation
        The table.
    parameters : mapping
        Options that decide its result.
    vintage : str or None
        The caller's name of this state of the table, where its files cannot be seen.
    resumable : bool
        Whether a folder will outlive the run.

    Raises
    ------
    DataError
        If nothing tells one state of the source from another, and the run is to be resumable.
    """
    files = relation.source.files
    if resumable and not is_known(relation, vintage):
        raise DataError(
            f"`work` cannot be used with {relation.source.label}: nothing tells whether it is the "
            "same when a run is resumed, and two states of a table must never be mixed. Give "
            "Parquet files, name the state of the table in `vintage` (such as '2024-06'), or leave "
            "out `work`."
        )
    return {
        "pass": name,
        "version": __version__,
        "source": {
            "columns": {name: c.engine_type for name, c in relation.columns.items()},
            "vintage": vintage,
            "derived": relation.source.derived,
            "files": {f.path: [f.size, f.modified, f.footer_sha256] for f in files},
        },
        "parameters": dict(parameters),
    }


def shown(count: int) -> int | None:
    """Return a count of people's rows as it may be shown: one of 1-10 is missing."""
    safe = float(suppress_small([count])[0])
    return None if np.isnan(safe) else int(safe)
