"""Moments files: Parquet with the schema, the source and the query in its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path, say_full
from vbceval.core.version import __version__
from vbceval.moments.schema import Schema, histogram_column
from vbceval.moments.sums import Sums, people_column
from vbceval.moments.whole import narrow

_KEY, _HASH = b"vbceval.moments", b"vbceval.moments.sha256"


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
    table = sums.table.replace_schema_metadata({_KEY: text, _HASH: _hash(text)})
    with say_full(path), atomic_path(path) as partial:
        # sums hardly repeat, so a dictionary of them is made in vain
        keys = list(sums.schema.keys)
        pq.write_table(
            table, partial, compression="zstd", use_dictionary=keys, write_page_checksum=True
        )


def read(path: Path) -> tuple[Sums, dict[str, Any]]:
    """
    Return what `write` wrote.

    Raises
    ------
    DataError
        If the file does not exist, is no moments file, is of another format, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"there is no moments file `{path}`. Check the path.")
    try:
        table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except PermissionError:
        raise DataError(f"`{path}` may not be read. Ask for permission.") from None
    except (pa.ArrowException, OSError):
        raise DataError(f"`{path}` is not a complete Parquet file. Write it again.") from None
    found = table.schema.metadata or {}
    text = found.get(_KEY)
    if text is None:
        raise DataError(
            f"`{path}` is Parquet without moments: it was not written by Moments.save. Take the "
            "moments of a table with Moments.from_table."
        )
    damaged = DataError(
        f"`{path}` is damaged: what it says of its columns does not fit them. Write it again."
    )
    if found.get(_HASH, _hash(text)) != _hash(text):
        raise damaged
    try:
        stored = json.loads(text)
        schema = Schema.from_dict(stored["schema"])
        sums = Sums(
            # earlier formats kept every sum of whole numbers as a decimal
            table=narrow(table.replace_schema_metadata(None)),
            schema=schema,
            clusters=_clusters(stored["clusters"], schema),
        )
        meta = dict(stored["meta"])
        fits = _fits(sums)
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, pa.ArrowException):
        raise damaged from None
    if not fits:
        raise damaged
    return sums, meta


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _clusters(stored: Mapping[str, list[Any]], schema: Schema) -> pd.DataFrame:
    return pd.DataFrame(
        {name: pd.array(stored[name], dtype="Float64").to_numpy(float, na_value=float("nan"))
         for name in ("cohort", "exit")},
        index=pd.Index(stored["cluster"], name=schema.cluster),
    )  # fmt: skip


def _fits(sums: Sums) -> bool:
    """Whether the table has the columns of its schema, numbers in each, and each cell once."""
    import pyarrow as pa

    schema, table = sums.schema, sums.table
    named: dict[str, None] = dict.fromkeys(schema.keys)
    numbers = list(schema.sum_columns)
    if schema.unit is not None:
        numbers += [people_column(schema.alone(block)) for block in schema.blocks]
    named |= dict.fromkeys([*numbers, *map(histogram_column, schema.histograms)])
    if set(table.column_names) != set(named) or any(c.null_count for c in table.columns):
        return False
    others = [x for x in (schema.weight, schema.exposure) if x is not None]
    summed = {*schema.outcomes, *schema.covariates, *others}
    if summed - set(schema.digits) or {x for x in summed if schema.digits[x] is None} - set(
        schema.pivots
    ):
        return False
    kinds = [table.schema.field(name).type for name in (*numbers, schema.period)]
    if not all(pa.types.is_decimal(k) or pa.types.is_primitive(k) for k in kinds):
        return False
    keys = table.select(list(schema.keys)).to_pandas()
    return bool(
        not keys.duplicated().any()
        and sums.clusters.index.is_unique
        and keys[schema.cluster].isin(sums.clusters.index).all()
    )
