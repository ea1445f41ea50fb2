"""Every Python block in the documentation runs, and every link inside it leads somewhere."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vbceval.study.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)")


def with_python() -> list[Path]:
    return [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", with_python(), ids=lambda p: p.name)
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run in order, as one script, in a folder that holds the studies."""
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    code = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    script = tmp_path / "page.py"
    script.write_text(code, encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        target
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_there_are_pages_with_code() -> None:
    assert len(with_python()) >= 5


SHELL = re.compile(r"^[ ]*```sh\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)
STUDY_PAGES = sorted((ROOT / "studies").glob("*/README.md"))


def commands(pages: list[Path]) -> list[tuple[str, list[str]]]:
    """Every `vbceval ...` line of the shell blocks, as its page and its words after the command."""
    found = []
    for page in pages:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and Path(words[0]).name == "vbceval":
                    found.append((page.name, words[1:]))
    return found


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, and run nothing."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands"), f"{words} is no command"
    command.make_context(command.name, list(words))


def test_every_command_on_a_page_is_one_of_the_program() -> None:
    found = commands([*PAGES, *STUDY_PAGES])
    assert len(found) >= 15
    for page, words in found:
        try:
            parse(words)
        except Exception as error:
            pytest.fail(f"{page}: vbceval {shlex.join(words)}: {error}")
        if words[0] == "study" and words[1] in ("run", "verify", "accept"):
            known = {path.parent.name for path in STUDY_PAGES} | {"my-program-entry"}
            assert words[2] in known, page


@pytest.mark.parametrize(
    "words",
    [["study", "run", "x", "--seed", "3"], ["study", "go", "x"], ["study", "run"], ["study"]],
)
def test_a_planted_wrong_command_is_found(words: list[str]) -> None:
    # wrong use is an exception of the command line's own, or an assertion above
    with pytest.raises((Exception, AssertionError)) as caught:
        parse(words)
    assert type(caught.value).__name__ in ("NoSuchOption", "MissingParameter", "AssertionError")


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs" / "README.md"
    linked = {
        (contents.parent / target).resolve()
        for target in LINK.findall(contents.read_text(encoding="utf-8"))
        if "://" not in target
    }
    pages = {p for p in PAGES if "docs" in p.relative_to(ROOT).parts} - {contents}
    # decision records are linked by their folder
    missing = [p.name for p in sorted(pages) if not {p, p.parent} & linked]
    assert missing == []


def test_the_readme_shows_the_rooms_in_their_order() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = text.split("```text\nvbceval/\n")[1].split("studies/")[0].splitlines()
    column = tree[0].index("errors")
    shown = [tuple(line[:column].split()) for line in tree if line[:column].strip()]
    order = ROOT / "tests" / "architecture" / "test_room_order.py"
    assert shown == list(runpy.run_path(str(order))["STEPS"])
