"""A small table of facts to change cell by cell, and the tables of the embedded study."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from vbceval.evidence import read_facts, read_relations
from vbceval.evidence.facts import CODED_COLUMNS, PRINTED_COLUMNS
from vbceval.evidence.relations import RELATION_COLUMNS

Row = dict[str, str]

PLAIN: Row = {
    "fact": "smith-2020-01",
    "report": "smith-2020",
    "program": "Program",
    "program_type": "aco",
    "evaluator": "Smith et al.",
    "period": "2016-2018",
    "outcome": "Total Medicare spending",
    "outcome_family": "spending",
    "unit": "USD per beneficiary per year",
    "source": "Smith et al., Journal 1(1)",
    "source_year": "2020",
    "quantity": "effect",
    "scope": "total",
    "population": "overall",
}


def _write(path: Path, columns: list[str], rows: list[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def facts_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a facts file; each argument is one row, given as what differs from a plain one."""

    def write(*changes: Row) -> Path:
        rows = [
            {**PLAIN, "fact": f"smith-2020-{i:02d}", "stratum": f"sample {i}", **change}
            for i, change in enumerate(changes, 1)
        ]
        for row in rows:
            if row.get("percent_effect") or row.get("baseline_mean"):
                row.setdefault("denominator", "treated_baseline_mean")
        columns = [*CODED_COLUMNS, *PRINTED_COLUMNS]
        return _write(tmp_path / "facts.csv", columns, rows)

    return write


@pytest.fixture
def some_facts(facts_file: Callable[..., Path]) -> Callable[..., pd.DataFrame]:
    """Make a table of facts; each argument is what differs from a plain row."""
    return lambda *changes: read_facts(facts_file(*changes))


@pytest.fixture
def relations_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a relations file; each argument is one member."""

    def write(*members: Row) -> Path:
        rows = [{"field": "estimate", "term": str(i), **m} for i, m in enumerate(members, 1)]
        return _write(tmp_path / "relations.csv", [*RELATION_COLUMNS], rows)

    return write


@pytest.fixture
def some_relations(relations_file: Callable[..., Path]) -> Callable[..., pd.DataFrame]:
    """Make a table of relations; each argument is one member."""
    return lambda *members: read_relations(relations_file(*members))


@pytest.fixture(scope="session")
def study_folder(repo_root: Path) -> Path:
    """Folder of the embedded study."""
    return repo_root / "studies" / "published-effects"


@pytest.fixture(scope="session")
def study_facts(study_folder: Path) -> pd.DataFrame:
    """Facts of the embedded study."""
    return read_facts(study_folder / "facts.csv")


@pytest.fixture(scope="session")
def study_relations(study_folder: Path) -> pd.DataFrame:
    """Relations of the embedded study."""
    return read_relations(study_folder / "relations.csv")
