"""What is committed holds no machine's paths, no left-over notes, and stays small."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

# Written with one-letter classes, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?:^|[^a-z.])/(?:[w]ork|[r]oot|[f]arm)/")
LEFT_OVER = re.compile(r"\b(?:[T]ODO|[F]IXME)\b")
LARGEST = 1 << 20


@pytest.fixture(scope="module")
def committed(repo_root: Path) -> dict[str, bytes]:
    """Files that git tracks or would add, by path."""
    if shutil.which("git") is None or not (repo_root / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repo_root, capture_output=True, check=True).stdout
    paths = [name for name in listed.decode().split("\0") if name]
    return {name: (repo_root / name).read_bytes() for name in paths if (repo_root / name).is_file()}


def lines_with(pattern: re.Pattern[str], files: Mapping[str, bytes]) -> list[str]:
    """Return `path:line` of every line of a text file in which the pattern occurs."""
    return [
        f"{name}:{number}"
        for name, content in files.items()
        if b"\0" not in content
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_path_of_a_machine(committed: dict[str, bytes]) -> None:
    assert lines_with(MACHINE_PATH, committed) == []


def test_no_left_over_notes(committed: dict[str, bytes]) -> None:
    assert lines_with(LEFT_OVER, committed) == []


def test_no_large_file(committed: dict[str, bytes]) -> None:
    assert [name for name, content in committed.items() if len(content) > LARGEST] == []


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (MACHINE_PATH, "open('/" + "work/data')", True),
        (MACHINE_PATH, "/" + "root/.cache", True),
        (MACHINE_PATH, "see docs/" + "work/notes", False),
        (LEFT_OVER, "# TO" + "DO later", True),
        (LEFT_OVER, "photodos", False),
    ],
)
def test_the_patterns_find_what_they_should(
    pattern: re.Pattern[str], line: str, found: bool
) -> None:
    assert lines_with(pattern, {"a.py": f"x = 1\n{line}\n".encode()}) == (
        ["a.py:2"] if found else []
    )
