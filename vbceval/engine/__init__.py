"""Where tables live: one small interface over DuckDB and Spark, and the SQL both understand."""

from vbceval.engine.base import Engine
from vbceval.engine.connect import connect
from vbceval.engine.failures import QueryCancelled
from vbceval.engine.files import check_unchanged
from vbceval.engine.relation import Column, Kind, Relation, Source, SourceFile

__all__ = [
    "Column",
    "Engine",
    "Kind",
    "QueryCancelled",
    "Relation",
    "Source",
    "SourceFile",
    "check_unchanged",
    "connect",
]
