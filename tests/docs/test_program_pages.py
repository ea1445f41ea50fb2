"""The reference page of every program is what its rules say, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vbceval.programs import get, names
from vbceval.programs.reference import page

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "programs"
BLOCK = re.compile(r"^```py\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", names())
def test_the_page_is_current(name: str) -> None:
    path = PAGES / f"{name}.md"
    remedy = f"vbceval program show {name} > docs/reference/programs/{name}.md"
    assert path.is_file(), remedy
    assert path.read_text(encoding="utf-8") == page(get(name)), remedy


def test_there_is_no_page_without_a_program() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} <= {*names()}


@pytest.mark.parametrize("name", names())
def test_the_example_of_the_page_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((PAGES / f"{name}.md").read_text(encoding="utf-8"))
    assert len(blocks) == 1
    exec(compile(blocks[0], name, "exec"), {})
    assert "performance year" in capsys.readouterr().out
