"""Every folder in `studies/` is a study: complete, short, with no number of its own in `run.py`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vbceval.study import read_study
from vbceval.study.exhibits import read_cells
from vbceval.study.staging import read_manifest
from vbceval.study.tolerances import read_tolerances

LINES_BELOW = 60
FREE_NUMBERS = (0, 1)
STUDIES = Path(__file__).resolve().parents[2] / "studies"
FOLDERS = sorted(path for path in STUDIES.iterdir() if path.is_dir() and path.name[0] not in "._")


def own_numbers(source: str) -> list[str]:
    """Return the numbers that a script states itself; 0 and 1 count and point."""
    found = []
    for node in ast.walk(ast.parse(source)):
        number = isinstance(node, ast.Constant) and isinstance(node.value, int | float | complex)
        if number and not isinstance(node.value, bool) and node.value not in FREE_NUMBERS:
            found.append(f"line {node.lineno}: {node.value}")
    return found


def test_there_are_studies() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_study_folder_is_complete(folder: Path) -> None:
    study = read_study(folder)
    present = {path.name for path in folder.iterdir()}
    assert {"README.md", "expected", "manifest.json"} <= present
    expected = {path.stem: read_cells(path) for path in study.expected().glob("*.csv")}
    assert set(expected) == set(study.tables)
    read_tolerances(study.expected() / "tolerances.toml", expected)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_record_is_of_the_study_as_it_is(folder: Path) -> None:
    study = read_study(folder)
    manifest = read_manifest(study.record())
    assert manifest is not None
    now = study.file_hashes()
    recorded = manifest["study"]["files"]
    assert {n: recorded[n] for n in ("study.toml", "run.py")} == {
        n: now[n] for n in ("study.toml", "run.py")
    }, "accept a new run"
    assert manifest["seed"] == study.seed


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_protocol_is_frozen_with_a_date(folder: Path) -> None:
    protocol = (folder / "protocol.md").read_text(encoding="utf-8")
    assert re.search(r"(?i)frozen[^\n]{0,40}\d{4}-\d{2}-\d{2}", protocol)
    assert re.search(r"(?m)^## Amendments", protocol)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_run_py_is_short_and_states_no_number(folder: Path) -> None:
    source = (folder / "run.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < LINES_BELOW
    assert own_numbers(source) == []


@pytest.mark.parametrize(
    ("source", "n"),
    [("x = 0.95", 1), ("f(draws=2000, first=1)", 1), ("x[0], x[-1], True", 0), ("x = -2", 1)],
)
def test_a_planted_number_is_found(source: str, n: int) -> None:
    assert len(own_numbers(source)) == n
