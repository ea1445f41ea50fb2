"""Moments files: Parquet with the schema, the source and the query in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path
from vbceval.core.version import __version__
from vbceval.moments.schema import Schema
from vbceval.moments.sums import Sums

_KEY = b"vbceval.moments"


def write(path: Path, sums: Sums, meta: Mapping[str, Any]) -> None:
    """Write sums and where they came from; the file appears when it is complete."""
    import pyarrow.parquet as pq

    clusters = sums.clusters.reset_index()
    stored = {
        "schema": sums.schema.to_dict(),
        "meta": dict(meta),
        "written_by": f"vbceval {__version__}",
        "clusters": {
            "cluster": clusters.iloc[:, 0].tolist(),
            "cohort": [None if pd.isna(x) else x for x in clusters["cohort"]],
            "exit": [None if pd.isna(x) else x for x in clusters["exit"]],
        },
    }
    text = json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()
    table = sums.table.replace_schema_metadata({_KEY: text})
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read(path: Path) -> tuple[Sums, dict[str, Any]]:
    """
    Return what `write` wrote.

    Raises
    ------
    DataError
        If the file does not exist, is no moments file, or is of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"there is no moments file `{path}`. Check the path.")
    try:
        table = pq.read_table(path, partitioning=None)
    except pa.ArrowInvalid:
        raise DataError(f"`{path}` is not a complete Parquet file. Write it again.") from None
    text = (table.schema.metadata or {}).get(_KEY)
    if text is None:
        raise DataError(
            f"`{path}` is Parquet without moments: it was not written by Moments.save. Take the "
            "moments of a table with Moments.from_table."
        )
    stored = json.loads(text)
    schema = Schema.from_dict(stored["schema"])
    parts = stored["clusters"]
    clusters = pd.DataFrame(
        {name: pd.array(parts[name], dtype="Float64").to_numpy(float, na_value=float("nan"))
         for name in ("cohort", "exit")},
        index=pd.Index(parts["cluster"], name=schema.cluster),
    )  # fmt: skip
    return Sums(
        table=table.replace_schema_metadata(None), schema=schema, clusters=clusters
    ), stored["meta"]
