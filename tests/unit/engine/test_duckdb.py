"""The DuckDB engine: queries, streams, files written whole, faults, and hostile names."""

from __future__ import annotations

import os
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb as driver
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

import vbceval as vbc
from vbceval import DataError, EstimationError
from vbceval.engine import QueryCancelled, connect, sql

from .conftest import NASTY

SLOW = (
    exp.select("SUM(a.x * b.x) AS s").from_("range(1000000) AS a(x)")
    .join("range(1000000) AS b(x)", join_type="cross")
)  # fmt: skip


def every(relation) -> exp.Select:
    return sql.select(exp.Star(), of=relation.name)


def numbers(engine, n: int, name: str = "x"):
    return engine.register(pa.table({name: list(range(n))}))


def test_it_is_reached_from_the_package(duck) -> None:
    assert vbc.connect is connect
    assert (duck.name, duck.dialect) == ("duckdb", "duckdb")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory_limit": "4 giga"}, "'4GB'"),
        ({"memory_limit": "0GB"}, "'4GB'"),
        ({"memory_limit": 4}, "'4GB'"),
        ({"threads": 0}, "whole number from 1"),
        ({"threads": 1.5}, "whole number from 1"),
        ({"threads": True}, "whole number from 1"),
        ({"path": "absent.duckdb"}, "no database file"),
        ({"session": None}, "`session` cannot be used"),
        ({"memory_limit": "x", "threads": 0}, "2 problems"),
    ],
)
def test_options_are_checked(options, said) -> None:
    with pytest.raises(DataError, match=said):
        connect("duckdb", **options)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(DataError, match="`duckdb`, `spark`"):
        connect("sqlite")


def test_settings_reach_the_engine() -> None:
    with connect("duckdb", memory_limit="512 MiB", threads=2) as engine:
        named = ("memory_limit", "threads", "TimeZone", "python_enable_replacements")
        asked = [exp.Anonymous(this="current_setting", expressions=[exp.Literal.string(n)]).as_(n)
                 for n in named]  # fmt: skip
        (found,) = engine.run(exp.select(*asked)).to_pylist()
    assert found["memory_limit"] == "512.0 MiB"
    assert found["threads"] == 2
    assert found["TimeZone"] == "UTC"
    assert found["python_enable_replacements"] is False


def test_a_python_variable_is_never_a_table(duck) -> None:
    hidden = pa.table({"x": [1]})
    assert hidden.num_rows == 1
    with pytest.raises(DataError, match="does not exist"):
        duck.run(exp.select("x").from_("hidden"))


def test_tables_of_a_database_are_read_and_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    with driver.connect(str(path)) as made:
        made.execute('CREATE TABLE "Claims 1" AS SELECT 7 AS paid; CREATE SCHEMA s')
        made.execute("CREATE TABLE s.other AS SELECT 8 AS paid")
        made.execute('CREATE VIEW v AS SELECT paid + 1 AS paid FROM "Claims 1"')
    before = path.read_bytes()
    with connect("duckdb", path=path) as engine:
        for name, paid in (('"Claims 1"', 7), ("v", 8), ("s.other", 8)):
            relation = engine.register(name)
            assert relation.source.origin == "table"
            assert engine.run(every(relation)).to_pylist() == [{"paid": paid}]
        with pytest.raises(DataError, match=r"Did you mean `s\.other`"):
            engine.register("s.othr")
        for injected in ("v; DROP TABLE v", "(SELECT 1)", "read_text('x')"):
            with pytest.raises(DataError, match=r"no table|not the name"):
                engine.register(injected)
        engine.create(engine.temporary(), every(relation))
    assert path.read_bytes() == before


def test_a_table_name_without_a_database_is_refused(duck) -> None:
    with pytest.raises(DataError, match="no file, folder or table `claims`"):
        duck.register("claims")


def test_streams_are_bounded_and_leave_the_engine_free(duck) -> None:
    relation = numbers(duck, 5000)
    batches = duck.stream(every(relation), rows=1000)
    first = next(batches)
    assert first.num_rows <= 1000
    # another query while the stream is open
    assert (
        duck.run(sql.select(sql.count_distinct("x").as_("n"), of=relation.name))["n"][0].as_py()
        == 5000
    )
    rest = list(batches)
    assert all(batch.num_rows <= 1000 for batch in rest)
    seen = [v for b in (first, *rest) for v in b["x"].to_pylist()]
    assert sorted(seen) == list(range(5000))
    early = duck.stream(every(relation), rows=10)
    next(early)
    early.close()
    assert not duck._active
    with pytest.raises(DataError, match="at least one row"):
        next(duck.stream(every(relation), rows=0))


def test_what_is_created_can_be_dropped_and_nothing_else(duck) -> None:
    relation = numbers(duck, 10)
    name = duck.temporary("cells")
    assert name.startswith("vbc_cells_")
    assert name != duck.temporary("cells")
    made = duck.create(
        name, sql.select(sql.named(sql.sum_exact(sql.column("x")), "s"), of=relation.name)
    )
    assert duck.run(every(made)).to_pylist() == [{"s": 45}]
    duck.drop(name)
    duck.drop(name)
    with pytest.raises(DataError, match="does not exist"):
        duck.run(every(made))
    duck.drop(relation.name)
    for call in (lambda: duck.drop("mine"), lambda: duck.create("mine", every(made))):
        with pytest.raises(DataError, match="not a temporary name"):
            call()
    with pytest.raises(DataError, match="cannot begin"):
        duck.temporary('x"; DROP')


def test_parquet_is_written_whole(duck, tmp_path: Path) -> None:
    relation = numbers(duck, 100)
    target = tmp_path / "out" / "x.parquet"
    duck.write_parquet(every(relation), target)
    assert duck.register(target).columns.keys() == {"x"}
    before = target.read_bytes()
    failing = sql.select(exp.cast(exp.Literal.string("John"), "INT").as_("x"), of=relation.name)
    with pytest.raises(DataError):
        duck.write_parquet(failing, target)
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir()] == ["x.parquet"]


def test_folders_are_written_whole_and_never_mixed(duck, tmp_path: Path) -> None:
    relation = duck.register(pa.table({"x": [1, 2, 3], NASTY[0]: ["a b", "c/d", "a b"]}))
    target = tmp_path / "parts"
    duck.write_parquet(every(relation), target, partition_by=[NASTY[0]])
    back = duck.run(every(duck.register(target))).to_pylist()
    assert sorted((r["x"], r[NASTY[0]]) for r in back) == [(1, "a b"), (2, "c/d"), (3, "a b")]
    for columns in ([NASTY[0]], []):
        with pytest.raises(DataError, match="exists already"):
            duck.write_parquet(every(relation), target, partition_by=columns)
    with pytest.raises(DataError, match="no column `y`"):
        duck.write_parquet(every(relation), tmp_path / "other", partition_by=["y"])
    assert [p.name for p in tmp_path.iterdir()] == ["parts"]


def test_a_cancelled_write_leaves_nothing(duck, tmp_path: Path) -> None:
    threading.Timer(0.3, duck.cancel).start()
    with pytest.raises(QueryCancelled):
        duck.write_parquet(SLOW, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_write_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sqlglot import exp\nfrom vbceval.engine import connect\n"
        "query = exp.select('x').from_('range(100000000000) AS t(x)')\n"
        "engine = connect('duckdb', threads=1)\nprint('ready', flush=True)\n"
        "engine.write_parquet(query, sys.argv[1])\n"
    )
    target = tmp_path / "x.parquet"
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        waited = time.monotonic() + 20
        while not any(p.stat().st_size for p in tmp_path.iterdir()) and time.monotonic() < waited:
            time.sleep(0.05)
        run.kill()
    assert any(p.stat().st_size for p in tmp_path.iterdir()), "killed before it wrote"
    assert not target.exists()
    assert all(p.name.startswith(".") for p in tmp_path.iterdir()), "read as a part of the folder"


def test_cancel_from_a_thread_and_control_c(duck) -> None:
    threading.Timer(0.3, duck.cancel).start()
    begun = time.monotonic()
    with pytest.raises(QueryCancelled, match="Run it again"):
        duck.run(SLOW)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        duck.run(SLOW)
    assert time.monotonic() - begun < 10
    assert duck.run(exp.select("1 AS x")).to_pylist() == [{"x": 1}]


def test_a_query_from_another_thread_can_be_cancelled(duck) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            duck.run(SLOW)
        except QueryCancelled as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    duck.cancel()
    thread.join(10)
    assert len(caught) == 1


def test_memory_and_disk_that_run_out_say_what_to_do(tmp_path: Path) -> None:
    words = exp.select("list(md5(x::VARCHAR)) AS l").from_("range(3000000) AS t(x)")
    with connect("duckdb", memory_limit="50MB", threads=1) as engine:
        with pytest.raises(EstimationError, match=r"out of memory.*`memory_limit`"):
            engine.run(words)
        if Path("/dev/full").exists():
            with pytest.raises(EstimationError, match="disk is full"):
                engine._attend(
                    lambda: engine._connection.execute(
                        "COPY (SELECT 1) TO '/dev/full' (FORMAT parquet)"
                    )
                )


def test_closing_removes_the_private_folder_and_ends_the_engine() -> None:
    engine = connect("duckdb")
    private = Path(engine._private.name)
    assert private.is_dir()
    engine.close()
    engine.close()
    assert not private.exists()
    with pytest.raises(DataError, match="closed"):
        engine.run(exp.select("1"))


def test_a_given_temporary_folder_is_kept(tmp_path: Path) -> None:
    with connect("duckdb", temp_directory=tmp_path):
        pass
    assert tmp_path.is_dir()


def test_what_a_killed_process_spilled_goes_with_the_next(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import pathlib\nfrom vbceval.engine import connect\nengine = connect('duckdb')\n"
        "(pathlib.Path(engine._private.name) / 'rows').write_text('of people')\n"
        "print('ready', flush=True)\nimport time\ntime.sleep(60)\n"
    )
    command, env = [sys.executable, "-c", code], {**os.environ, "TMPDIR": str(tmp_path)}
    (tmp_path / "vbceval-spill-other").mkdir()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        with connect("duckdb"), connect("duckdb"):
            assert len(list(tmp_path.glob("*/rows"))) == 1, "its process lives"
            assert len(list(tmp_path.iterdir())) == 4
        run.kill()
    assert len(list(tmp_path.glob("*/rows"))) == 1
    with connect("duckdb") as engine:
        assert list(tmp_path.glob("*/rows")) == []
        assert engine.memory is not None
    assert [p.name for p in tmp_path.iterdir()] == ["vbceval-spill-other"], "without a lock"


def roundtrip(engine, names: list[str]) -> None:
    """Register, query, create and describe a table whose columns have hostile names."""
    table = pa.table({name: [position, position + 100] for position, name in enumerate(names)})
    relation = engine.register(table)
    assert list(relation.columns) == names
    sums = [sql.named(sql.sum_exact(sql.column(name)), name) for name in names]
    made = engine.create(engine.temporary(), sql.select(*sums, of=relation.name))
    assert list(made.columns) == names
    assert engine.run(every(made)).to_pylist() == [
        {name: 2 * position + 100 for position, name in enumerate(names)}
    ]


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("\"'`;.-/*\\\n\r\t ()[]{}$%?=,:|&<>~!@#^"),
        st.sampled_from(string.ascii_letters + "éßİ☃\U0001f600"),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(HOSTILE, min_size=1, max_size=4, unique_by=str.lower))
def test_any_name_is_only_a_name(duck, names: list[str]) -> None:
    roundtrip(duck, names)


def test_nasty_names_and_keywords(duck, tmp_path: Path) -> None:
    roundtrip(duck, list(NASTY))
    relation = duck.register(pa.table({name: [1] for name in NASTY}))
    duck.write_parquet(every(relation), tmp_path / "n.parquet")
    assert list(duck.register(tmp_path / "n.parquet").columns) == list(NASTY)
