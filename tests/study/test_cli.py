"""The command line: exit codes, messages without tracebacks, and ends that leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

Edit = Callable[[Path, str, str], None]
Command = Callable[..., subprocess.CompletedProcess[str]]
Words = Callable[..., list[str]]

WAIT = '    import time; open("here", "w").close(); time.sleep(60)\n    ctx.section("Effect")'


def output_of(study_folder: Path) -> list[str]:
    folder = study_folder.parents[1] / "output"
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def start_and_wait(words: Words, study_folder: Path, data: Path) -> subprocess.Popen[str]:
    """Start a run that stops in the middle, with a table written, and wait until it is there."""
    cwd = study_folder.parents[1]
    process = subprocess.Popen(
        words("study", "run", "made-up", "--data", data),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (cwd / "here").exists():
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_run_accept_verify(command: Command, study_folder: Path, data: Path) -> None:
    done = command("study", "run", "made-up", "--data", data)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"Study 'made-up' finished in [\d.]+ seconds, 1 warning\. Report: .*report\.html\n",
        done.stdout,
    )
    assert "read ...\nread: " in done.stderr
    assert "warning: few cells" in done.stderr
    assert command("study", "accept", "made-up").returncode == 0
    done = command("study", "verify", "made-up", "--data", data)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Study 'made-up' reproduces: all 2 tables and the 1 input agree")
    (data / "cells.csv").write_text((data / "cells.csv").read_text().replace("9.44", "9.45"))
    done = command("study", "verify", "made-up", "--data", data)
    assert done.returncode == 1
    assert "\nError: study 'made-up' does not reproduce: " in done.stderr
    assert "row outcome=total_spend: estimate -9.425, expected -9.42 +/-" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_package_exits_1_without_a_traceback(
    command: Command, study_folder: Path
) -> None:
    done = command("study", "run", "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: there is no study 'nope'. Studies found: `made-up`")
    assert "Traceback" not in done.stderr


def test_an_unexpected_error_keeps_its_traceback_and_writes_nothing(
    command: Command, study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "run.py", '    ctx.section("Effect")', "    1 / 0")
    done = command("study", "run", "made-up", "--data", data)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert output_of(study_folder) == []


@pytest.mark.parametrize("given", [("study", "run"), ("study", "fly"), ("study", "list", "--all")])
def test_wrong_use_exits_2(command: Command, given: tuple[str, ...]) -> None:
    done = command(*given)
    assert done.returncode == 2
    assert "Usage: vbceval" in done.stderr


def test_version(command: Command) -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"vbceval {metadata.version('vbceval')}\n")


def test_list(command: Command, study_folder: Path) -> None:
    (study_folder.parent / "broken").mkdir()
    (study_folder.parent / "broken" / "study.toml").write_text("id = ")
    done = command("study", "list")
    assert done.returncode == 0
    assert (
        "made-up\n  title: A made-up program\n  inputs: cells.csv\n"
        "  status: no numbers of record yet\n"
    ) in done.stdout
    assert "broken\n  status: cannot be used. broken/study.toml is not valid TOML" in done.stdout


def test_new(command: Command, tmp_path: Path) -> None:
    assert command("study", "new", "first-try").returncode == 0
    done = command("study", "run", "first-try", "--fast", "--out", "there")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there" / "report.html").is_file()


def test_ctrl_c_says_one_line_and_leaves_nothing(
    words: Words, study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "run.py", '    ctx.section("Effect")', WAIT)
    process = start_and_wait(words, study_folder, data)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("Interrupted, nothing written.\n")
    assert "Traceback" not in errors
    assert output_of(study_folder) == []


def test_a_killed_run_leaves_no_output_and_the_next_one_starts_clean(
    words: Words, command: Command, study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "run.py", '    ctx.section("Effect")', WAIT)
    process = start_and_wait(words, study_folder, data)
    process.kill()
    process.communicate(timeout=60)
    (left,) = output_of(study_folder)
    assert left.startswith(".made-up.running-"), "what is there is hidden and not the output"
    edit(study_folder / "run.py", WAIT, '    ctx.section("Effect")')
    done = command("study", "run", "made-up", "--data", data)
    assert done.returncode == 0, done.stderr
    assert output_of(study_folder) == ["made-up"]


def test_a_run_that_is_going_is_left_alone(
    words: Words, command: Command, study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "run.py", '    ctx.section("Effect")', WAIT)
    process = start_and_wait(words, study_folder, data)
    try:
        edit(study_folder / "run.py", WAIT, '    ctx.section("Effect")')
        done = command("study", "run", "made-up", "--data", data)
        assert done.returncode == 0, done.stderr
        hidden, shown = output_of(study_folder)
        assert hidden.startswith(".made-up.running-")
        assert shown == "made-up"
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_run_killed_while_it_swaps_gives_the_earlier_output_back(
    command: Command, study_folder: Path, data: Path
) -> None:
    assert command("study", "run", "made-up", "--data", data).returncode == 0
    output = study_folder.parents[1] / "output"
    # as a kill between the two renames of `--force` leaves it
    dead = output / ".made-up.running-dead"
    dead.mkdir()
    (dead / "lock").touch()
    os.rename(output / "made-up", dead / "previous")  # noqa: PTH104 - two folders, not a path's own
    done = command("study", "run", "made-up", "--data", data)
    assert done.returncode == 1
    assert "is not empty" in done.stderr
    assert json.loads((output / "made-up" / "manifest.json").read_text())["made_by"] == "vbceval"
