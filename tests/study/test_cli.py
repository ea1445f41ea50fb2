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

from vbceval.data import DataFiles
from vbceval.study import cli

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
    # a second input of the same files is not listed twice
    configuration = study_folder / "study.toml"
    second = '[inputs.again]\nfiles = ["cells.csv"]\n\n[outputs]'
    configuration.write_text(configuration.read_text().replace("[outputs]", second))
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


# ------------------------------------------------------------------------------------- data


class Called:
    """Stands for `vbceval.data.get`; remembers how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: dict[str, object] = {}

    def __call__(self, name: str, **options: object) -> DataFiles:
        self.options = options
        files = {"2014": self.folder / "a.csv", "2015": self.folder / "b.csv"}
        return DataFiles(name, files, {"2016": "`2016` has no known address."})


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return int(ended.value.code or 0)


def test_data_get_hands_over_its_options_and_says_where_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    get = Called(tmp_path)
    monkeypatch.setattr(cli, "get", get)
    words = ["--cache", str(tmp_path), "--years", "2014-2016,2020", "--force"]
    assert call("data", "get", "mssp", *words) == 0
    assert get.options["years"] == [2014, 2015, 2016, 2020]
    assert get.options["cache"] == tmp_path
    assert (get.options["source"], get.options["force"]) == (None, True)
    said = capsys.readouterr()
    assert said.out == f"2 files of 'mssp' in {tmp_path}. Give it to a study as `--data`.\n"
    assert said.err == "not at hand: `2016` has no known address.\n"


def test_data_get_interrupted_keeps_what_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "get", interrupted)
    assert call("data", "get", "mssp") == 130
    assert capsys.readouterr().err.startswith("Interrupted. Finished files are kept")


@pytest.mark.parametrize("years", ["soon", "2014-", "2014;2015", ""])
def test_data_get_refuses_what_is_not_years(years: str) -> None:
    assert call("data", "get", "mssp", "--years", years) == 2


def test_data_errors_are_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "get", "mspp", "--from", str(tmp_path)) == 1
    assert "there is no data set `mspp`" in capsys.readouterr().err
    assert call("data", "check", str(tmp_path / "absent")) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")


def test_data_list_names_page_and_years(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "list") == 0
    out = capsys.readouterr().out
    assert "mssp\n  title: Medicare Shared Savings Program" in out
    assert "holds: 2013 to 2024, 14 files" in out


def test_data_check_reads_the_published_files(
    shared_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "check", str(shared_dir / "data" / "mssp" / "mssp_puf_py2014.csv.gz")) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "mssp_puf_py2014.csv.gz: performance year 2014, 333 ACOs, passes\n535 cells"
    )
