"""Set-up chooses an interpreter by running it: failing shims and old versions are passed over."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell, `sh`")

INTERPRETER = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"

FAILING_SHIM = 'echo "shim: python: command not found" >&2; exit 127'
OLDER = 'echo "is Python 3.11" >&2; exit 1'
# Runs like the real one, and cannot make environments: what a split system package looks like.
NO_VENV = (
    f'case "$1" in -m) exit 1 ;; -c) printf "%s\\n" "$0" ;; *) exec "{INTERPRETER}" "$@" ;; esac'
)


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def find(repo_root: Path, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the finder where only the programs in `tmp_path/bin` and basic tools are on PATH."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "mktemp", "rm", "sed", "head", "sort", "cat"):
        there = tools / name
        if not there.exists():
            there.symlink_to(shutil.which(name) or name)
    environment = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{tools}",
        "HOME": str(tmp_path / "home"),
        **more,
    }
    return subprocess.run(
        ["sh", str(repo_root / "tools" / "find_python.sh")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def link(path: Path) -> Path:
    """Put the interpreter that runs the tests at `path`, as a script: links confuse venv."""
    return program(path, f'exec "{INTERPRETER}" "$@"')


def test_failing_shims_and_older_versions_are_passed_over(repo_root: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.13", FAILING_SHIM)
    program(tmp_path / "bin" / "python3.12", FAILING_SHIM)
    program(tmp_path / "bin" / "python3", OLDER)
    program(tmp_path / "pyenv/versions/3.11.7/bin/python", OLDER)
    link(tmp_path / "home/.pyenv/versions/3.12.9/bin/python")
    done = find(repo_root, tmp_path, PYENV_ROOT=str(tmp_path / "pyenv"))
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).samefile(INTERPRETER)


def test_a_python_that_cannot_make_environments_is_passed_over(
    repo_root: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "python3.13", NO_VENV)
    link(tmp_path / "bin" / "python3")
    done = find(repo_root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).samefile(INTERPRETER)


def test_where_none_works_it_says_what_was_tried_and_what_to_install(
    repo_root: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "python3.13", FAILING_SHIM)
    program(tmp_path / "bin" / "python3.12", NO_VENV)
    program(tmp_path / "bin" / "python3", OLDER)
    done = find(repo_root, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "python3.13: shim: python: command not found" in done.stderr
    assert "python3.12: cannot make a virtual environment with pip" in done.stderr
    assert "python3: is Python 3.11" in done.stderr
    assert "apt install python3.12" in done.stderr


def test_a_named_interpreter_is_the_only_candidate(repo_root: Path, tmp_path: Path) -> None:
    link(tmp_path / "bin" / "python3")
    named = program(tmp_path / "old" / "python", OLDER)
    done = find(repo_root, tmp_path, PYTHON=str(named))
    assert done.returncode == 1
    assert f"PYTHON={named} cannot be used" in done.stderr


def test_the_version_is_proved_by_running(repo_root: Path, tmp_path: Path) -> None:
    # The proof itself, on the running interpreter made to look older.
    script = f'exec "{INTERPRETER}" -c "import sys; sys.version_info = (3, 11, 7); exec(sys.argv[2])" "$@"'
    program(tmp_path / "bin" / "python3.13", script)
    done = find(repo_root, tmp_path)
    assert done.returncode == 1
    assert "python3.13: is Python 3.11" in done.stderr
