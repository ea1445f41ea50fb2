"""Runs that are killed, doubled, starved or fed another source: they resume or say why not."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbceval.core.errors import DataError, EstimationError
from vbceval.core.files import only_writer
from vbceval.engine import QueryCancelled
from vbceval.engine.failures import DISK
from vbceval.moments import inspection
from vbceval.passes import baseline, by_unit, glm, winsorise, within, work

from .conftest import TERMS, panel

COLUMNS = {
    "unit": "person", "cluster": "provider", "period": "q", "outcomes": ["spend"],
    "covariates": ["hcc"], "attributes": ["entry"],
}  # fmt: skip

# A run that is killed by the system while it writes its fourth bucket.
KILLED = """
import os, signal, sys
import numpy as np
import vbceval as vbc
from vbceval.passes import baseline, within

saved, write = [], np.savez
def savez(path, **arrays):
    if len(saved) == 3:
        path.write_bytes(b"half a bucket")
        os.kill(os.getpid(), signal.SIGKILL)
    saved.append(path)
    write(path, **arrays)
np.savez = savez
source, work, what = sys.argv[1:]
with vbc.connect("duckdb", threads=1) as engine:
    if what == "within":
        within(source, engine, unit="person", cluster="provider", period="q", outcomes=["spend"],
               covariates=["hcc"], attributes=["entry"], work=work, buckets=6)
    else:
        baseline(source, engine, unit="person", period="q", covariates=["hcc"], to=work, buckets=6)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "panel.parquet"
    pq.write_table(pa.Table.from_pandas(panel(), preserve_index=False), path)
    return path


def kill(source: Path, folder: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(folder), what], timeout=120, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def count_saves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    saved: list[str] = []
    write = work.WorkFolder.save

    def save(self: work.WorkFolder, step: str, arrays: dict[str, np.ndarray]) -> None:
        saved.append(step)
        write(self, step, arrays)

    monkeypatch.setattr(work.WorkFolder, "save", save)
    return saved


def test_a_killed_run_goes_on_at_the_last_finished_bucket(
    duck, source, tmp_path, monkeypatch
) -> None:
    folder = tmp_path / "work"
    kill(source, folder, "within")
    assert [p.name for p in folder.glob("bucket-*.npz")] == ["bucket-00002.npz"], "all so far"
    assert len(list(folder.glob(".bucket-*"))) == 1, "what it was writing when it was killed"
    assert json.loads((folder / "lock").read_text())["host"] == socket.gethostname()
    saved = count_saves(monkeypatch)
    found = within(source, duck, **COLUMNS, work=folder)
    assert saved == [f"bucket-{b:05d}" for b in (3, 4, 5)]
    assert list(folder.glob(".bucket-*")) == []
    assert (folder / "lock").read_text() == ""
    whole = within(source, duck, **COLUMNS, buckets=6)
    for name in ("gram", "cross", "raw", "rows", "units", "alone"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    saved.clear()
    again = within(source, duck, **COLUMNS, work=folder)
    assert saved == []
    assert np.array_equal(again.gram, whole.gram)


def test_a_killed_run_of_parts_has_every_row_once(duck, source, tmp_path, monkeypatch) -> None:
    to = tmp_path / "based"
    kill(source, to, "baseline")
    assert not to.exists()
    saved = count_saves(monkeypatch)
    done = baseline(source, duck, unit="person", period="q", covariates=["hcc"], to=to)
    assert saved == [f"bucket-{b:05d}" for b in (3, 4, 5)]
    rows = pq.read_table(done.path).to_pandas()
    keys = ["person", "q"]
    frame = panel()
    assert rows[keys].sort_values(keys).to_numpy().tolist() == (
        frame[keys].sort_values(keys).to_numpy().tolist()
    )
    assert not to.with_name("based.run").exists()


def test_a_killed_newton_goes_on_after_its_last_step(duck, source, tmp_path, monkeypatch) -> None:
    options = {
        "outcome": "visits", "family": "poisson", "terms": TERMS, "cluster": "provider",
        "period": "q", "covariates": ["hcc"], "attributes": ["entry"],
    }  # fmt: skip
    whole = glm(source, duck, **options)
    write = work.WorkFolder.save

    def stop(self: work.WorkFolder, step: str, arrays: dict[str, np.ndarray]) -> None:
        if step == "pass-00003":
            raise KeyboardInterrupt
        write(self, step, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(work.WorkFolder, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            glm(source, duck, **options, work=tmp_path / "w")
    saved = count_saves(monkeypatch)
    found = glm(source, duck, **options, work=tmp_path / "w")
    assert saved[0] == "pass-00003"
    np.testing.assert_allclose(found.coefficients, whole.coefficients, rtol=1e-12)


def test_a_full_disk_is_said_and_what_is_finished_is_kept(
    duck, source, tmp_path, monkeypatch
) -> None:
    write = np.savez
    with monkeypatch.context() as patch:

        def savez(path: Path, **arrays: np.ndarray) -> None:
            if path.name.startswith(".bucket-00002"):
                path.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, **arrays)

        patch.setattr(np, "savez", savez)
        with pytest.raises(EstimationError, match=r"is full.*2 finished steps are kept"):
            within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=4)
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == [
        "bucket-00001.npz", "lock", "run.json",
    ]  # fmt: skip
    found = within(source, duck, **COLUMNS, work=tmp_path / "w")
    assert np.array_equal(found.gram, within(source, duck, **COLUMNS, buckets=4).gram)


def test_ctrl_c_leaves_a_clean_folder(duck, source, tmp_path, monkeypatch) -> None:
    calls: list[int] = []
    run = duck.run

    def interrupted(query):
        # Ctrl-C in the second bucket: what looks at the table comes before the folder
        calls.extend([1] * (tmp_path / "w").exists())
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return run(query)

    monkeypatch.setattr(duck, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=4)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == [
        "bucket-00000.npz", "lock", "run.json",
    ]  # fmt: skip
    assert (tmp_path / "w" / "lock").read_text() == ""
    assert within(source, duck, **COLUMNS, work=tmp_path / "w").meta["buckets"] == 4


def test_two_runs_into_one_folder_are_refused(duck, source, tmp_path) -> None:
    folder = tmp_path / "w"
    program = (
        "import sys, time; from vbceval.passes.work import open_folder\n"
        "with open_folder(sys.argv[1], {}): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(DataError, match=f"in use by process {holder.pid} on"):
                within(source, duck, **COLUMNS, work=folder)
        finally:
            holder.kill()
    # its lock is left behind, and it is dead: only the run itself is another
    with pytest.raises(DataError, match="is another: it differs in"):
        within(source, duck, **COLUMNS, work=folder)


def test_a_lock_of_another_machine_is_respected(duck, source, tmp_path) -> None:
    folder = tmp_path / "w"
    within(source, duck, **COLUMNS, work=folder)
    (folder / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "then"}))
    with pytest.raises(DataError, match=r"process 1 on elsewhere .*remove `.*lock`"):
        within(source, duck, **COLUMNS, work=folder)
    (folder / "lock").unlink()
    within(source, duck, **COLUMNS, work=folder)


def test_a_source_that_changed_between_runs_is_refused(duck, source, tmp_path) -> None:
    folder = tmp_path / "w"
    within(source, duck, **COLUMNS, work=folder, buckets=3)
    frame = panel()
    frame.loc[0, "spend"] += 1
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), source)
    with pytest.raises(DataError, match=r"the source changed .*`panel.parquet`"):
        within(source, duck, **COLUMNS, work=folder)
    within(source, duck, **COLUMNS, work=tmp_path / "other")


def test_a_source_that_changes_while_it_is_read_is_refused(
    duck, source, tmp_path, monkeypatch
) -> None:
    run, calls = duck.run, []

    def change(query):
        calls.extend([1] * (tmp_path / "w").exists())
        if len(calls) == 2:
            os.utime(source, (1, 1))
        return run(query)

    monkeypatch.setattr(duck, "run", change)
    with pytest.raises(DataError, match="changed while they were read"):
        within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=4)
    assert len(list((tmp_path / "w").glob("bucket-*.npz"))) == 1


def test_another_run_in_a_folder_is_refused(duck, source, tmp_path) -> None:
    folder = tmp_path / "w"
    sums = within(source, duck, **COLUMNS, work=folder, buckets=3)
    with pytest.raises(DataError, match=r"differs in `parameters: weight`, `source: columns`"):
        within(source, duck, **COLUMNS, weight="months", work=folder)
    with pytest.raises(DataError, match="is another: it differs in"):
        by_unit(sums.fit("spend", TERMS), source, duck, work=folder)
    with pytest.raises(DataError, match="began with 3 buckets, and `buckets` is 4 now"):
        within(source, duck, **COLUMNS, work=folder, buckets=4)


def test_buckets_about_other_pivots_are_not_added(duck, source, tmp_path, monkeypatch) -> None:
    within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=3)
    near = inspection._near
    monkeypatch.setattr(inspection, "_near", lambda mean, span: near(mean, span) + 1.0)
    with pytest.raises(DataError, match="differs in `parameters: pivots`"):
        within(source, duck, **COLUMNS, work=tmp_path / "w")


def test_a_folder_with_other_files_is_left_alone(duck, source, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(
        DataError, match=r"holds files and is not the folder of a run \(`notes.txt`"
    ):
        within(source, duck, **COLUMNS, work=tmp_path / "mine")
    with pytest.raises(DataError, match="is a file"):
        within(source, duck, **COLUMNS, work=source)


def test_a_damaged_bucket_is_named(duck, source, tmp_path) -> None:
    folder = tmp_path / "w"
    whole = within(source, duck, **COLUMNS, work=folder, buckets=3)
    damaged = folder / "bucket-00002.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"bucket-00002.npz` is damaged"):
        within(source, duck, **COLUMNS, work=folder)
    damaged.unlink()
    assert np.array_equal(within(source, duck, **COLUMNS, work=folder).gram, whole.gram)


def test_a_table_whose_state_cannot_be_seen_needs_a_name(duck, tmp_path) -> None:
    frame = panel(50)
    with pytest.raises(DataError, match="name the state of the table in `vintage`"):
        within(frame, duck, **COLUMNS, work=tmp_path / "w")
    within(frame, duck, **COLUMNS, work=tmp_path / "w", vintage="2024-06")
    with pytest.raises(DataError, match="`source: vintage`"):
        within(frame, duck, **COLUMNS, work=tmp_path / "w", vintage="2024-07")


def test_a_file_with_another_schema_is_named_before_anything_is_read(duck, tmp_path) -> None:
    for name, frame in (("a", panel(50)), ("b", panel(50, 1).astype({"spend": "float32"}))):
        pq.write_table(pa.Table.from_pandas(frame), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="column `spend` differs between files"):
        within(str(tmp_path / "*.parquet"), duck, **COLUMNS)


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond a size: what a full quota does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_said_wherever_it_fills(duck, source, tmp_path) -> None:
    """The system itself refuses the write, in every place where a pass writes."""
    place = {"unit": "person", "period": "q", "covariates": ["hcc"], "to": tmp_path / "b"}
    cap = {"columns": ["spend"], "upper": 0.9, "to": tmp_path / "c.parquet"}
    runs = [
        (4096, lambda: within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=2)),
        (10, lambda: within(source, duck, **COLUMNS, work=tmp_path / "v", buckets=2)),
        (4096, lambda: baseline(source, duck, **place, buckets=2)),
        (4096, lambda: winsorise(source, duck, **cap)),
        (10, lambda: winsorise(source, duck, **cap)),
    ]
    for size, run in runs:
        with pytest.raises(EstimationError, match=r"the disk .*is full"), small_files(size):
            run()
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"panel.parquet", "w", "v", "b.run"}, "nothing under a final name"
    found = within(source, duck, **COLUMNS, work=tmp_path / "w")
    assert np.array_equal(found.gram, within(source, duck, **COLUMNS, buckets=2).gram)
    assert pq.read_table(baseline(source, duck, **place).path).num_rows == len(panel())
    assert pq.read_table(winsorise(source, duck, **cap).path).num_rows == len(panel())


def test_half_a_part_of_a_killed_run_is_not_moved_with_the_others(duck, source, tmp_path) -> None:
    to = tmp_path / "based"
    kill(source, to, "baseline")
    parts = to.with_name("based.run") / "parts"
    (parts / ".part-00003.parquet.k2j3.parquet").write_bytes(b"half")
    (parts / ".part-00003.x1").mkdir()
    # a whole file by another name, which would count its rows twice
    (parts / "tmp_.part-00002.parquet").write_bytes((parts / "part-00002.parquet").read_bytes())
    done = baseline(source, duck, unit="person", period="q", covariates=["hcc"], to=to)
    assert sorted(p.name for p in done.path.iterdir()) == [
        f"part-{b:05d}.parquet" for b in range(6)
    ]


def test_a_derived_table_of_two_states_of_the_source_is_not_left(
    duck, source, tmp_path, monkeypatch
) -> None:
    to, write = tmp_path / "capped.parquet", duck.write_parquet

    def slow(query: object, path: Path) -> None:
        write(query, path)
        os.utime(source, (1, 1))

    monkeypatch.setattr(duck, "write_parquet", slow)
    with pytest.raises(DataError, match="changed while they were read"):
        winsorise(source, duck, columns=["spend"], upper=0.9, to=to)
    assert list(tmp_path.iterdir()) == [source]


def test_two_runs_do_not_derive_one_table(duck, source, tmp_path) -> None:
    to = tmp_path / "table"
    with only_writer(to):
        with pytest.raises(DataError, match="is being written by another process"):
            winsorise(source, duck, columns=["spend"], upper=0.9, to=to)
        with pytest.raises(DataError, match="is being written by another process"):
            baseline(source, duck, unit="person", period="q", covariates=["hcc"], to=to)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["panel.parquet", "table.run"]


def test_parts_on_another_disk_than_their_place_are_refused(duck, source, tmp_path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    with (
        tempfile.TemporaryDirectory(dir=other) as folder,
        pytest.raises(DataError, match="is on another disk than `to`"),
    ):
        baseline(
            source, duck, unit="person", period="q", covariates=["hcc"], to=tmp_path / "b",
            work=f"{folder}/w",
        )  # fmt: skip
    assert not (tmp_path / "b").exists()


def test_a_part_that_could_not_be_written_is_written_again(
    duck, source, tmp_path, monkeypatch
) -> None:
    write = duck.write_parquet

    def full(query, path, partition_by=()):
        if path.name == "part-00002.parquet":
            raise EstimationError(DISK)
        write(query, path, partition_by)

    options = {"unit": "person", "period": "q", "covariates": ["hcc"], "to": tmp_path / "b"}
    monkeypatch.setattr(duck, "write_parquet", full)
    with pytest.raises(EstimationError, match=r"the disk is full.* 2 finished steps are kept"):
        baseline(source, duck, **options, buckets=4)
    monkeypatch.undo()
    saved = count_saves(monkeypatch)
    done = baseline(source, duck, **options)
    assert saved == ["bucket-00002", "bucket-00003"]
    assert pq.read_table(done.path).num_rows == len(panel())
    assert done.meta["units"] == panel()["person"].nunique()


def test_a_cancelled_run_says_what_is_kept(duck, source, tmp_path, monkeypatch) -> None:
    # the function has the name of its module
    module = importlib.import_module("vbceval.passes.within")
    calls: list[int] = []
    compute = module._sums

    def cancelled(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise QueryCancelled("cancelled")
        return compute(*arguments)

    monkeypatch.setattr(module, "_sums", cancelled)
    with pytest.raises(QueryCancelled, match="2 finished steps are kept"):
        within(source, duck, **COLUMNS, work=tmp_path / "w", buckets=4)
    calls.clear()
    with pytest.raises(QueryCancelled, match="Give a folder in `work`"):
        within(source, duck, **COLUMNS, buckets=4)


def test_progress_is_shown_on_a_terminal_only(duck, source, monkeypatch, capsys) -> None:
    within(source, duck, **COLUMNS, buckets=3)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    within(source, duck, **COLUMNS, buckets=3)
    shown = capsys.readouterr().err
    assert "unit effects" in shown
    assert "3/3" in shown


def test_messages_hold_no_person(duck, source, tmp_path) -> None:
    frame = panel(30)
    frame = pd.concat([frame, frame.head(2)])
    with pytest.raises(DataError) as raised:
        within(frame, duck, **COLUMNS)
    assert str(frame["person"].iloc[0]) not in str(raised.value)
    within(source, duck, **COLUMNS, work=tmp_path / "w")
    kept = (tmp_path / "w" / "run.json").read_text()
    assert "1000" not in kept.replace(str(tmp_path), "")
