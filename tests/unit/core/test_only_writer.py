"""A file has one writer, and what a killed one left goes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path, only_writer, say_full

WRITER = """
import sys, time
from pathlib import Path
from vbceval.core.files import atomic_path, only_writer
with only_writer(Path(sys.argv[1])), atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "writing\n"
        with (
            pytest.raises(DataError, match="is being written by another process"),
            only_writer(path),
        ):
            pass
        with only_writer(tmp_path / "b.parquet"):
            pass
        run.kill()
    assert len([p for p in tmp_path.iterdir() if p.read_text() == "half"]) == 1
    (tmp_path / ".a.parquet.notes").write_text("not ours")
    with only_writer(path), atomic_path(path) as temporary:
        temporary.write_text("whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.parquet.notes", "a.parquet"]
    assert path.read_text() == "whole"


def test_the_place_is_free_again_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt), only_writer(path):
        raise KeyboardInterrupt
    with only_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_place_that_may_not_be_written_is_said(tmp_path: Path, number: int) -> None:
    with pytest.raises(DataError, match="may not be written"), say_full(tmp_path / "a"):
        raise OSError(number, "no")
    with pytest.raises(DataError, match="is a folder"), atomic_path(tmp_path):
        pass
