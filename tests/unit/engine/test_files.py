"""Parquet files are found, compared and described before an engine reads them."""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from vbceval import DataError
from vbceval.engine import sql
from vbceval.engine.files import describe, open_files


def rows(engine, relation) -> list[dict]:
    return engine.run(sql.select(exp.Star(), of=relation.name)).to_pylist()


def test_a_file_a_folder_a_pattern_and_a_list_are_one_table(duck, write, tmp_path) -> None:
    first, second = write("p/a.parquet", x=[1]), write("p/deep/b.parquet", x=[2])
    write("p/_temporary/c.parquet", x=[9])
    write("p/.hidden.parquet", x=[9])
    for source in (tmp_path / "p", str(tmp_path / "p/**/[ab].parquet"), [first, str(second)]):
        relation = duck.register(source)
        assert sorted(r["x"] for r in rows(duck, relation)) == [1, 2]
        assert [f.path for f in relation.source.files] == [str(first), str(second)]
    assert rows(duck, duck.register(first)) == [{"x": 1}]


@pytest.mark.parametrize(
    "name", ["b.PARQUET", "b.parq", "b", "b.parquet.tmp", "b.csv", "deep/b.CSV.gz"]
)
def test_a_part_that_would_not_be_read_from_a_folder_is_named(duck, write, tmp_path, name) -> None:
    write("p/a.parquet", x=[1])
    (tmp_path / "p" / "README.md").write_text("notes")
    (tmp_path / "p" / "a.json").write_text("{}")
    part = tmp_path / "p" / name
    part.parent.mkdir(exist_ok=True)
    write("made.parquet", x=[2]).rename(part)
    with pytest.raises(DataError, match=r"would not be read and their rows be missing") as caught:
        duck.register(tmp_path / "p")
    assert part.name in str(caught.value)
    assert "README" not in str(caught.value)
    assert rows(duck, duck.register(f"{tmp_path}/p/**/*.parquet")) == [{"x": 1}]


def test_a_file_named_twice_is_read_once(duck, write, tmp_path, monkeypatch) -> None:
    first = write("p/a.parquet", x=[1])
    (tmp_path / "link").symlink_to(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    for source in ([first, tmp_path / "p"], ["p/a.parquet", first], [first, "link/a.parquet"]):
        assert rows(duck, duck.register(source)) == [{"x": 1}]


def test_copies_of_a_file_are_refused(duck, write, tmp_path) -> None:
    first = write("p/a.parquet", x=[1, 2])
    (tmp_path / "p" / "a (1).parquet").write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=r"2 files are copies .* would count twice"):
        duck.register(tmp_path / "p")
    # of no rows, below other keys, or with one footer and other rows, they are no copies
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), tmp_path / "none1.parquet")
    pq.write_table(pa.table({"x": pa.array([], pa.int64())}), tmp_path / "none2.parquet")
    assert rows(duck, duck.register(f"{tmp_path}/none*.parquet")) == []
    write("h/k=1/a.parquet", x=[1])
    write("h/k=2/a.parquet", x=[1])
    assert len(rows(duck, duck.register(tmp_path / "h"))) == 2
    for x in (1, 2):
        plain = {"write_statistics": False, "compression": "none", "use_dictionary": False}
        pq.write_table(pa.table({"x": [x]}), tmp_path / f"s{x}.parquet", **plain)
    one, two = (describe(tmp_path / f"s{x}.parquet") for x in (1, 2))
    assert one.footer_sha256 == two.footer_sha256
    assert len(rows(duck, duck.register(f"{tmp_path}/s*.parquet"))) == 2


def test_footer_hash_follows_content_not_time(write) -> None:
    first = describe(write("a.parquet", x=[1, 2]))
    again = describe(write("b.parquet", x=[1, 2]))
    other = describe(write("c.parquet", x=[1, 3]))
    assert first.footer_sha256 == again.footer_sha256 != other.footer_sha256
    assert first.size == Path(first.path).stat().st_size
    assert first.modified is not None
    assert first.modified.endswith("+00:00")


def test_files_that_disagree_are_all_named_with_both_types(duck, write, tmp_path) -> None:
    write("p/a.parquet", spend=[1.5], n=[1], only_a=[1])
    write("p/b.parquet", spend=[1], n=[1])
    write("p/c.parquet", spend=["1"], n=[1])
    with pytest.raises(DataError) as caught:
        duck.register(tmp_path / "p")
    said = str(caught.value)
    for part in ("2 problems", "`spend`", "`double`", "`int64`", "`string`", "`only_a`", "absent",
                 "a.parquet", "b.parquet", "c.parquet"):  # fmt: skip
        assert part in said
    # a column that is not kept may differ
    assert [r["n"] for r in rows(duck, duck.register(tmp_path / "p", columns=["n"]))] == [1, 1, 1]


def test_ways_of_holding_a_text_in_memory_are_one_type(duck, write, tmp_path) -> None:
    write("p/a.parquet", s=pa.array(["u"], pa.large_string()))
    write("p/b.parquet", s=pa.array(["v"]).dictionary_encode())
    relation = duck.register(tmp_path / "p")
    assert relation.columns["s"].kind == "text"
    assert sorted(r["s"] for r in rows(duck, relation)) == ["u", "v"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.parquet", "no file or folder"),
        ("none/*.parquet", "nothing matches the pattern"),
        ("empty", "no file ends in `.parquet`"),
        ("text.csv", "not Parquet"),
        ("cut.parquet", "not Parquet, or only part"),
        ([], "it is empty"),
    ],
)
def test_what_cannot_be_read_is_said(duck, write, tmp_path, source, said) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_text("a,b\n1,2\n")
    whole = write("whole.parquet", x=list(range(100))).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=said):
        duck.register(tmp_path / source if isinstance(source, str) else source)


def test_folders_named_key_value_become_columns(duck, write, tmp_path) -> None:
    write("p/year=2021/arm=01/a.parquet", x=[1])
    write("p/year=2022/arm=1/a.parquet", x=[2])
    relation = duck.register(tmp_path / "p")
    assert [(c.name, c.kind) for c in relation.columns.values()] == [
        ("x", "integer"), ("year", "integer"), ("arm", "text"),
    ]  # fmt: skip
    found = sorted(rows(duck, relation), key=lambda r: r["x"])
    assert found == [{"x": 1, "year": 2021, "arm": "01"}, {"x": 2, "year": 2022, "arm": "1"}]
    write("z/arm=-0/a.parquet", x=[1])
    write("z/arm=0/a.parquet", x=[2])
    zeros = sorted(r["arm"] for r in rows(duck, duck.register(tmp_path / "z")))
    assert zeros == ["-0", "0"]


def test_folder_keys_that_differ_or_repeat_a_column_are_refused(duck, write, tmp_path) -> None:
    write("p/year=2021/a.parquet", x=[1])
    write("p/b.parquet", x=[2])
    with pytest.raises(DataError, match="folders named key=value differ"):
        duck.register(tmp_path / "p")
    write("q/x=1/a.parquet", x=[1])
    with pytest.raises(DataError, match="both a column of the files and the name of a folder"):
        duck.register(tmp_path / "q")


def test_a_file_name_that_reads_as_a_pattern_is_refused(write, tmp_path) -> None:
    write("a[1].parquet", x=[1])
    with pytest.raises(DataError, match="Rename them"):
        open_files(tmp_path, None)


def test_missing_columns_name_the_closest(duck, write) -> None:
    path = write("a.parquet", spend_total=[1], age=[2])
    with pytest.raises(DataError, match=r"no column `spend_totl`. Did you mean `spend_total`\?"):
        duck.register(path, columns=["spend_totl"])
    relation = duck.register(path)
    with pytest.raises(DataError, match="Did you mean `age`"):
        relation.column("Age")


@pytest.mark.parametrize("columns", [None, ["A"]])
def test_names_equal_up_to_case_are_refused(duck, write, columns) -> None:
    # DuckDB would read `a` where `A` is asked for
    path = write("a.parquet", a=[1], A=[2])
    with pytest.raises(DataError, match="upper and lower case"):
        duck.register(path, columns=columns)
    with pytest.raises(DataError, match="upper and lower case"):
        duck.register(pd.DataFrame({"a": [1], "A": [2]}), columns=columns)


def test_tables_in_memory(duck) -> None:
    frame = pd.DataFrame({"f": [1.5, None], "c": pd.Categorical(["u", "v"]), "s": ["p", None]})
    relation = duck.register(frame, columns=["s", "f", "c"])
    assert [c.kind for c in relation.columns.values()] == ["text", "float", "text"]
    assert rows(duck, relation) == [
        {"s": "p", "f": 1.5, "c": "u"}, {"s": None, "f": None, "c": "v"},
    ]  # fmt: skip
    unsigned = pa.table({"u": pa.array([2**64 - 1], pa.uint64())})
    assert rows(duck, duck.register(unsigned))[0]["u"] == 2**64 - 1
    odd = {
        "h": pa.array([0.5, None], pa.float16()),
        "d": pa.array([1200, None], pa.decimal128(5, -2)),
    }
    assert rows(duck, duck.register(pa.table(odd))) == [
        {"h": 0.5, "d": 1200},
        {"h": None, "d": None},
    ]
    with pytest.raises(DataError, match="mix values"):
        duck.register(pd.DataFrame({"x": [1, "John"]}))
    wide = pa.table({"x": pa.array([1], pa.decimal256(50, 2))})
    with pytest.raises(DataError, match="`x` holds decimals of more than 38 digits"):
        duck.register(wide)
    with pytest.raises(DataError, match="not text: `7`"):
        duck.register(pd.DataFrame({7: [1]}))
    with pytest.raises(DataError, match="empty or hold a NUL"):
        duck.register(pa.table({"": [1], "b\0": [2]}))
    with pytest.raises(DataError, match="a dict cannot be registered"):
        duck.register({"x": [1]})
    with pytest.raises(DataError, match=r"holds a `DataFrame`.*add them"):
        duck.register([frame, frame])
    indexed = frame.set_index(["s", frame.index])
    with pytest.raises(DataError, match=r"`s` is in the index.*reset_index"):
        duck.register(indexed, columns=["s", "f"])


def test_a_file_with_integers_of_128_bits_is_parquet(duck, write) -> None:
    """Arrow's own description of the column, beside Parquet's, says how many bits it has."""
    path = write("a.parquet", x=[1])
    raw = path.read_bytes()
    described = re.findall(rb"[A-Za-z0-9+/]{100,}=*", raw)[0]
    bits = base64.b64decode(described)
    assert bits.count(b"\x40\0\0\0") == 1
    wide = base64.b64encode(bits.replace(b"\x40\0\0\0", b"\x80\0\0\0"))
    path.write_bytes(raw.replace(described, wide))
    with pytest.raises(DataError, match=r"Parquet with a column .* more than 64 bits .*Cast it"):
        duck.register(path)


def test_what_pandas_holds_and_engines_do_not_is_said(duck) -> None:
    frame = pd.DataFrame({
        "c": [1j, 2j], "big": pd.Series([2**64, 1], dtype=object), "end": [Decimal("Infinity"), None],
        "mixed": [1, "a"], "cut": pd.cut(pd.Series([1, 2]), 2), "x": [1, 2],
        "s": pd.arrays.SparseArray([0, 1]), "u": pd.Series([1, 2], dtype="uint64"),
    })  # fmt: skip
    with pytest.raises(DataError) as caught:
        duck.register(frame)
    said = str(caught.value)
    for part in ("`mixed` mix values", "`c (complex128)`", "`big (object)`", "`end (object)`"):
        assert part in said
    with pytest.raises(DataError, match=r"`cut .*is of a type that no engine reads"):
        duck.register(frame[["cut"]])
    # what is not kept may be of any kind
    relation = duck.register(frame, columns=["x", "s", "u"])
    assert {c.engine_type for c in relation.columns.values()} == {"BIGINT"}
    assert rows(duck, relation) == [{"x": 1, "s": 0, "u": 1}, {"x": 2, "s": 1, "u": 2}]


class Lent:
    """A table of another library: it gives itself as Arrow, as polars does."""

    def __init__(self, held: pa.Table | pa.ChunkedArray) -> None:
        self.held = held

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.held.__arrow_c_stream__(requested_schema)


def test_tables_of_other_libraries_are_read_through_arrow(duck) -> None:
    text = pa.array(["u", None], pa.string_view())
    kinds = pa.array(["p", "q"]).dictionary_encode()
    table = pa.table({"s": text, "k": kinds, "n": pa.array([1, 2], pa.uint8())})
    relation = duck.register(Lent(table), columns=["n", "s", "k"])
    assert [c.kind for c in relation.columns.values()] == ["integer", "text", "text"]
    assert rows(duck, relation) == [{"n": 1, "s": "u", "k": "p"}, {"n": 2, "s": None, "k": "q"}]
    with pytest.raises(
        DataError, match=r"the Lent cannot be read as an Arrow table .*Give a table"
    ):
        duck.register(Lent(pa.chunked_array([[1]])))
