"""The same moments, bit for bit, from both engines; and names that break pasted SQL."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vbceval as vbc
from vbceval import Moments
from vbceval.core.errors import DataError
from vbceval.moments import passes
from vbceval.moments.histograms import edges_of
from vbceval.passes import quantiles

from .conftest import NASTY
from .footers import deprecate_bounds

OPTIONS = {
    "cluster": "provider", "period": "quarter", "cohort": "entry", "strata": ["dual"],
    "outcomes": ["spend", "visits"], "covariates": ["hcc"], "weight": "months", "unit": "person",
}  # fmt: skip


def rows(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    provider = rng.integers(0, 6, n)
    return pd.DataFrame(
        {
            "person": rng.integers(0, n // 2, n),
            "provider": np.array(list("ABCDEF"))[provider],
            "quarter": rng.integers(1, 5, n),
            "entry": np.where(provider < 3, 3.0, np.nan),
            "dual": np.where(rng.random(n) < 0.3, "yes", "no"),
            "spend": np.round(np.exp(rng.normal(7, 1.5, n)), 2),
            "visits": np.where(rng.random(n) < 0.2, np.nan, rng.poisson(3, n)),
            "hcc": np.round(rng.gamma(2, 0.5, n), 4),
            "months": rng.integers(1, 4, n),
        }
    )


@pytest.mark.parametrize("digits", [{}, {"spend": 2}, {"spend": None, "hcc": None}])
@pytest.mark.parametrize("which", ["duck", "spark"])
def test_nan_in_parquet_is_missing(which, digits, tmp_path, request) -> None:
    """Bounds that are written beside a column leave NaN out, and must not be taken for its values."""
    engine = request.getfixturevalue(which)
    frame = rows(600).assign(entry=lambda f: np.where(f["provider"] < "D", 3.0, np.nan))
    frame.loc[::9, "spend"], frame.loc[1::11, "hcc"] = np.nan, np.nan
    options = {**OPTIONS, "digits": digits, "histograms": ["spend"]}
    found = {}
    for name, keep in (("nan", False), ("null", True)):
        columns = {c: pa.array(frame[c].to_numpy(), from_pandas=keep) for c in frame}
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        found[name] = Moments.from_table(path, engine=engine, **options)
    missing = [pq.read_table(tmp_path / f"{x}.parquet")["spend"].null_count for x in found]
    assert missing == [0, frame["spend"].isna().sum()]
    assert found["nan"].sums.table.equals(found["null"].sums.table)
    assert found["nan"].meta["rows_left_out"] == found["null"].meta["rows_left_out"] > 0
    assert found["nan"].sums.clusters["cohort"].isna().tolist() == [False] * 3 + [True] * 3
    spend = frame.loc[frame["hcc"].notna() & frame["spend"].notna()]
    own = found["nan"].of("spend")
    assert np.average(own.y_mean[:, 0], weights=own.w) == pytest.approx(
        np.average(spend["spend"], weights=spend["months"]), rel=1e-12
    )


def test_bounds_of_old_files_are_not_believed(duck, tmp_path, monkeypatch) -> None:
    """Old writers ordered text as signed bytes, where every sign beyond ASCII comes before `a`."""
    names = np.array(["a", "zz", "\u00e9", "\u00ff"])
    frame = rows(600).sort_values("provider", ignore_index=True)
    frame["provider"] = names[np.arange(600) // 150]
    frame["entry"] = np.where(frame["provider"] == "zz", 3.0, np.nan)
    frame["months"] = frame["months"].map(lambda m: Decimal(int(m) - 1).scaleb(-1))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    place = table.column_names.index("months")
    months = pa.array(frame["months"], pa.decimal128(25, 1))
    table = table.set_column(place, "months", months)
    path, size = tmp_path / "old.parquet", 200
    pq.write_table(table, path, row_group_size=size, use_dictionary=False)

    def signed(block: int, name: str) -> tuple[bytes, bytes] | None:
        values = frame[name].iloc[block * size : (block + 1) * size]
        if name != "provider":
            return None
        found = sorted({x.encode() for x in values}, key=lambda x: [v - (v > 127) * 256 for v in x])
        return found[0], found[-1]

    deprecate_bounds(path, signed)
    assert pq.read_table(path).equals(table)
    options = {**OPTIONS, "unit": None}
    want = Moments.from_table(table, engine=duck, **options)
    monkeypatch.setattr(passes, "_MEMORY", 2000)
    found = Moments.from_table(path, engine=duck, **options)
    assert found.sums.table.equals(want.sums.table)
    by = {"column": "spend", "q": 0.5, "by": ["provider"], "digits": {"spend": 2}}
    pd.testing.assert_frame_equal(quantiles(path, duck, **by), quantiles(table, duck, **by))


@pytest.mark.parametrize(
    ("which", "key"), [("duck", "dual"), ("duck", "quarter"), ("spark", "dual")]
)
def test_a_zero_with_a_sign_is_zero(which, key, request) -> None:
    """Engines group 0.0 with -0.0 under either, and Arrow holds them for two keys."""
    engine = request.getfixturevalue(which)
    plain = rows(900)
    plain[key] = np.random.default_rng(1).integers(0, 2, 900).astype(float)
    plain["entry"] = np.where(plain["provider"] < "D", 1.0, np.nan)
    signed = plain.copy()
    signed[key] = np.where((signed[key] == 0) & (signed.index % 3 > 0), -0.0, signed[key])
    drop = signed.assign(**{key: np.where(plain[key] == 0, -0.0, plain[key])})
    want, found, other = (
        Moments.from_table(f, engine=engine, histograms=["spend"], **OPTIONS)
        for f in (plain, signed, drop.iloc[:600])
    )
    assert found.sums.table.equals(want.sums.table)
    assert found.histogram("spend")["n"].sum() == 900
    assert len(found + other) == len(want)


@pytest.mark.parametrize("which", ["duck", "spark"])
def test_a_cohort_without_a_value_is_nobody_who_enters(which, tmp_path, request) -> None:
    """Where every value is missing, a column of pandas or Parquet has no type."""
    engine = request.getfixturevalue(which)
    frame = rows(300).assign(entry=None)
    path = tmp_path / "none.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    assert pq.read_schema(path).field("entry").type == pa.null()
    keys = {**OPTIONS, "outcomes": ["spend"], "covariates": [], "unit": None}
    for source in (frame, path):
        found = Moments.from_table(source, engine=engine, **keys)
        assert found.units["cohort"].isna().all()
    with pytest.raises(DataError, match="`spend` is missing in every row"):
        Moments.from_table(frame.assign(spend=None), engine=engine, **keys)


@pytest.mark.parametrize("which", ["duck", "spark"])
def test_wide_decimals_have_the_digits_of_their_values(which, request) -> None:
    """Spark's own DECIMAL(38,18) has more digits than can be summed; cents in it are cents."""
    engine = request.getfixturevalue(which)
    frame = rows(600)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    cents = [Decimal(f"{x:.2f}") for x in frame["spend"]]
    place = table.column_names.index("spend")

    def held(values: list[Decimal], kind: pa.DataType) -> pa.Table:
        return table.set_column(place, "spend", pa.array(values, kind))

    keys = {**OPTIONS, "outcomes": ["spend"], "covariates": [], "unit": None}
    want = Moments.from_table(held(cents, pa.decimal128(12, 2)), engine=engine, **keys)
    found = Moments.from_table(held(cents, pa.decimal128(38, 18)), engine=engine, **keys)
    assert found.meta["digits"]["spend"] == 2
    assert found.sums.table.equals(want.sums.table)
    # of so many digits that none fit, doubles are summed, as of doubles
    third = [(x / 3).quantize(Decimal("1e-18")) for x in cents]
    odd = Moments.from_table(held(third, pa.decimal128(38, 18)), engine=engine, **keys)
    assert odd.meta["digits"]["spend"] is None
    np.testing.assert_allclose(odd.y_mean[:, 0] * 3, want.y_mean[:, 0], rtol=1e-12)
    with pytest.raises(DataError, match=r"up to 12 .* digits=\{'spend': 2\} for cents.* cast it"):
        Moments.from_table(held(cents, pa.decimal128(38, 18)), engine=engine,
                           **{**keys, "digits": {"spend": 18}})  # fmt: skip


@pytest.mark.parametrize("which", ["duck", "spark"])
def test_periods_of_decimals_are_the_doubles_of_their_digits(which, request) -> None:
    engine = request.getfixturevalue(which)
    frame = rows(600)
    frame["quarter"] = [Decimal(q) / 10 + 2016 for q in frame["quarter"]]
    frame["entry"] = [Decimal("2016.1") if p < "D" else None for p in frame["provider"]]
    found = Moments.from_table(frame, engine=engine, **OPTIONS)
    assert sorted(found.cells["period"].unique()) == [2016.1, 2016.2, 2016.3, 2016.4]
    assert found.units["cohort"].dropna().unique().tolist() == [2016.1]


def test_periods_that_doubles_do_not_hold_and_strata_without_order_are_named(duck) -> None:
    frame = rows(600)
    late = frame.assign(quarter=frame["quarter"] + 2**53)
    with pytest.raises(DataError, match=r"`quarter` has whole numbers beyond 2\^53"):
        Moments.from_table(late, engine=duck, **OPTIONS)
    for value, kind in (([1], r"BIGINT\[\]"), ({"a": 1}, "STRUCT"), (pd.Timedelta(1), "INTERVAL")):
        with pytest.raises(DataError, match=f"`dual` holds {kind}.*named by one value"):
            Moments.from_table(frame.assign(dual=[value] * 600), engine=duck, **OPTIONS)
        with pytest.raises(DataError, match=f"`dual` holds {kind}.*named by one value"):
            quantiles(frame.assign(dual=[value] * 600), duck, column="spend", q=0.5, by=["dual"])


@pytest.mark.parametrize(
    ("role", "name", "which"),
    [
        ("quarter", "V0", "duck"), ("person", "v1", "duck"), ("provider", "rows", "duck"),
        ("dual", "word 0", "duck"), ("quarter", "V0", "spark"),
    ],
)  # fmt: skip
def test_columns_named_as_queries_name_theirs_are_themselves(role, name, which, request) -> None:
    """R calls columns V1, V2, and SQL does not tell V1 from v1."""
    engine = request.getfixturevalue(which)
    frame = rows(600)
    want = Moments.from_table(frame, engine=engine, histograms=["spend"], **OPTIONS)
    options = {k: name if v == role else v for k, v in OPTIONS.items()}
    options["strata"] = [name if role == "dual" else "dual"]
    renamed = frame.rename(columns={role: name})
    found = Moments.from_table(renamed, engine=engine, histograms=["spend"], **options)
    for y in ("spend", "visits"):
        np.testing.assert_array_equal(found.of(y).yy, want.of(y).yy)
    assert found.n_units.tolist() == want.n_units.tolist()
    with pytest.raises(DataError, match="`VBC 0` begins with `vbc `"):
        Moments.from_table(frame.rename(columns={"dual": "VBC 0"}), engine=engine,
                           **{**OPTIONS, "strata": ["VBC 0"]})  # fmt: skip


def test_collations_of_a_table_are_not_taken_over_without_a_word(duck, tmp_path) -> None:
    """A column with COLLATE NOCASE makes one group of `a` and `A`; Arrow and files make two."""
    frame = rows(600)
    path = tmp_path / "claims.db"
    with duckdb.connect(path) as database:
        database.register("frame", frame)
        database.execute("CREATE TABLE t AS SELECT * FROM frame")
        for name in ("provider", "dual"):
            database.execute(f"ALTER TABLE t ALTER {name} TYPE VARCHAR COLLATE NOCASE")
        database.execute("CREATE VIEW same AS SELECT * FROM t")
        database.execute("CREATE VIEW apart AS SELECT * REPLACE (lower(dual) AS dual, "
                         "if(quarter = 1, lower(provider), provider) AS provider) FROM t")  # fmt: skip
    want = Moments.from_table(frame, engine=duck, **OPTIONS)
    with vbc.connect("duckdb", path=path, threads=1) as engine:
        for name in ("t", "same"):
            found = Moments.from_table(name, engine=engine, **OPTIONS)
            assert found.sums.table.equals(want.sums.table)
        with pytest.raises(DataError, match=r"^`provider` of `apart` has a collation"):
            Moments.from_table("apart", engine=engine, **OPTIONS)


def test_any_value_of_a_key_is_only_a_value(duck, spark, tmp_path, monkeypatch) -> None:
    values = [*NASTY, "", " ", "NaN", "null", "e\u0301", "\u00e9", "\u200b", "a\x00b", "x" * 300]
    i, n = np.arange(40 * len(values)), len(values)
    frame = pd.DataFrame({
        "person": [f"{values[k % n]}|{k // (2 * n)}" for k in i],
        "provider": [values[k % n] for k in i], "quarter": 1 + i // n % 2,
        "entry": np.where(i % n % 2 == 0, 2.0, np.nan),
        "dual": [values[(7 * k + 3) % n] for k in i], "spend": np.round(1 + np.sin(i), 2),
    })  # fmt: skip
    folder = tmp_path / 'o\'clock "x" %20 ünï; -- k'
    folder.mkdir()
    frame.to_parquet(folder / "a b.parquet")
    keys = {**OPTIONS, "outcomes": ["spend"], "covariates": [], "weight": None}
    found = Moments.from_table(folder, engine=duck, **keys)
    want = frame.groupby(["provider", "quarter", "dual"])["spend"].agg(["size", "mean"])
    cells = pd.MultiIndex.from_frame(found.cells)
    assert list(pd.Series(found.n, cells).reindex(want.index)) == list(want["size"])
    mean = pd.Series(found.y_mean[:, 0], cells).reindex(want.index)
    np.testing.assert_allclose(mean, want["mean"], rtol=1e-12)
    other = Moments.from_table(folder, engine=spark, **keys)
    assert other.sums.table.equals(found.sums.table)
    # clusters are taken in ranges between such values
    monkeypatch.setattr(passes, "_MEMORY", 50_000)
    ranges = Moments.from_table(folder, engine=duck, **keys)
    assert ranges.sums.table.equals(found.sums.table)


def test_spark_gives_the_bits_of_duckdb(duck, spark) -> None:
    frame = rows()
    one = Moments.from_table(frame, engine=duck, **OPTIONS)
    two = Moments.from_table(frame, engine=spark, **OPTIONS)
    assert one.sums.schema == two.sums.schema
    assert one.sums.table.equals(two.sums.table)
    pd.testing.assert_frame_equal(one.units, two.units)


def test_spark_gives_the_histograms_and_largest_amounts_of_duckdb(duck, spark) -> None:
    """Values at every edge and next to it: a bin is decided by comparing, not by a logarithm."""
    frame = rows()
    edges = {d: np.array(edges_of("spend", None, d), dtype=float) for d in (2, None)}
    frame["spend"] = np.resize(np.r_[edges[2], edges[2] - 1], len(frame)) / 100
    frame["ratio"] = np.resize(
        np.r_[edges[None], np.nextafter(edges[None], -np.inf), -0.0], len(frame)
    )
    options = OPTIONS | {
        "outcomes": ["spend", "visits", "ratio"], "histograms": ["spend", "visits", "ratio"],
        "dominance": True, "digits": {"ratio": None},
    }  # fmt: skip
    one = Moments.from_table(frame, engine=duck, **options)
    two = Moments.from_table(frame, engine=spark, **options)
    assert one.sums.schema == two.sums.schema
    # sums of doubles depend on the order of rows; everything else is the same bits
    exact = [c for c in one.sums.table.column_names if "ratio" not in c]
    assert {"histogram(spend)", "largest(|months * visits|) where visits"} < set(exact)
    assert one.sums.table.select(exact).equals(two.sums.table.select(exact))
    bins = [
        m.histogram("ratio")[["provider", "quarter", "dual", "bin", "n", "w"]] for m in (one, two)
    ]
    pd.testing.assert_frame_equal(*bins)
    assert bins[0]["bin"].nunique() == len(edges[None]) + 1


def test_products_of_three_large_factors_are_the_same_bits(duck, spark) -> None:
    """A weighted amount of 20 digits, times the amount: more than a BIGINT, less than 38 digits."""
    frame = rows(40).assign(spend=9.9e11 + np.arange(40) / 4, months=np.arange(40) * 25_000)
    one = Moments.from_table(frame, engine=duck, **OPTIONS)
    two = Moments.from_table(frame, engine=spark, **OPTIONS)
    assert one.sums.table.equals(two.sums.table)
    total = sum(int(x) for x in one.sums.table.column("sum(months * spend * spend)").to_pylist())
    cents = [round(100 * x) for x in frame["spend"]]
    assert total == sum(w * y * y for w, y in zip(frame["months"].tolist(), cents, strict=True))


@pytest.mark.parametrize("name", NASTY)
def test_any_name_can_be_summed(name, duck) -> None:
    frame = rows(60)
    plain = Moments.from_table(frame, engine=duck, **OPTIONS)
    new = {old: f"{name}{i}" for i, old in enumerate(("spend", "dual", "provider", "months"))}
    changed = {
        k: [new.get(x, x) for x in v] if isinstance(v, list) else new.get(v, v)
        for k, v in OPTIONS.items()
    }
    histograms = {new["spend"]: [0, 1000]}
    found = Moments.from_table(
        frame.rename(columns=new), engine=duck, histograms=histograms, dominance=True, **changed
    )
    assert np.array_equal(found.of(new["spend"]).yy, plain.of("spend").yy)
    assert found.coarsen(drop=[new["dual"]]).histogram(new["spend"])["n"].sum() == 60


def test_a_column_has_one_role(duck) -> None:
    for change in ({"covariates": ["spend"]}, {"strata": ["provider"]}, {"outcomes": ["hcc"]}):
        with pytest.raises(DataError, match="stands twice"):
            Moments.from_table(rows(60), engine=duck, **{**OPTIONS, **change})
    frame = rows(60).rename(columns={"dual": "people"})
    with pytest.raises(DataError, match="is what a column of sums is called"):
        Moments.from_table(frame, engine=duck, **{**OPTIONS, "strata": ["people"]})
