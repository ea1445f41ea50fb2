"""The lock on a file: one process at a time, and what happens where there are no locks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vbceval.core import files, locks
from vbceval.core.errors import DataError
from vbceval.core.files import only_writer
from vbceval.passes import work

HOLD = """
import sys
from pathlib import Path
from vbceval.core.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_of_one_process_and_goes_with_it(tmp_path) -> None:
    path = tmp_path / "out.parquet"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(DataError, match="is being written by another process"),
            only_writer(path),
        ):
            raise AssertionError("two writers")
        other.kill()
    left = tmp_path / f".{path.name}.abcdefgh.parquet"
    left.write_text("half of a file")
    with only_writer(path):
        assert not left.exists()
    assert not list(tmp_path.iterdir())


def without_locks(handle: int) -> bool:
    return False


def test_where_there_are_no_locks_files_of_others_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files, "take_lock", without_locks)
    path = tmp_path / "out.parquet"
    other = tmp_path / f".{path.name}.abcdefgh.parquet"
    other.write_text("perhaps another process still writes this")
    with only_writer(path), only_writer(path):
        path.write_text("made")
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_where_there_are_no_locks_a_folder_says_who_has_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(work, "take_lock", without_locks)
    with (
        work._held(tmp_path),
        pytest.raises(DataError, match=f"{os.getpid()}"),
        work._held(tmp_path),
    ):
        raise AssertionError("two runs in one folder")
    with work._held(tmp_path):
        pass


def test_a_disk_without_locks_is_told_from_a_held_lock(tmp_path, monkeypatch) -> None:
    def refused(handle: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with (tmp_path / "x").open("w") as stream:
        assert not locks.take_lock(stream.fileno())
