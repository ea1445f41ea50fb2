"""The reference of the command line and the how-to say what the program does."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vbceval.study import StudyContext, read_study
from vbceval.study.cli import app


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that does something, with the words that call it."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield words, command
    for name, found in inner.items():
        yield from commands(found, (*words, name))


@pytest.fixture
def sections(repo_root: Path) -> dict[str, str]:
    """Text of each section of the reference, by the words of its command."""
    text = (repo_root / "docs" / "reference" / "cli.md").read_text()
    parts = re.split(r"(?m)^## ", text)[1:]
    return {" ".join(re.findall(r"^[a-z ]+", part)[0].split()): part for part in parts}


def test_every_command_and_option_is_documented(sections: dict[str, str]) -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert {" ".join(words) for words in found} == set(sections)
    for words, command in found.items():
        text = sections[" ".join(words)]
        options = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        assert options == set(re.findall(r"(?m)^\| `(--[a-z-]+)", text)), words


def test_the_configuration_of_the_how_to_is_valid(repo_root: Path, tmp_path: Path) -> None:
    text = (repo_root / "docs" / "how-to" / "write-a-study.md").read_text()
    configuration, tolerances = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    folder = tmp_path / "my-program-entry"
    folder.mkdir()
    (folder / "study.toml").write_text(configuration)
    (folder / "protocol.md").touch()
    (folder / "run.py").touch()
    assert read_study(folder).tables == ("sample_flow", "effects")
    assert set(tomllib.loads(tolerances)) == {"default", "effects"}


def test_the_how_to_names_what_a_context_has(repo_root: Path, tmp_path: Path) -> None:
    text = (repo_root / "docs" / "how-to" / "write-a-study.md").read_text()
    table = text.split("| `ctx.` | does |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z]+)", "\n".join(re.findall(r"(?m)^\| (.*?) \|", table))))
    hidden = {"study", "require_complete", "stop_if_interrupted", "size_name"}
    methods = {name for name in vars(StudyContext) if not name.startswith("_")} - hidden
    attributes = {"data", "inputs", "fast", "size", "settings", "seed"}
    assert named == methods | attributes
