"""Histograms of cells: the bins of the rows, exact however cells are made, and quantiles from them."""

from __future__ import annotations

import json
import math

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments import passes
from vbceval.moments.histograms import edges_of, limits
from vbceval.moments.quantiles import quantiles

KEYS = ["provider", "quarter", "dual"]
OPTIONS = {
    "cluster": "provider", "period": "quarter", "cohort": "entry", "strata": ["dual"],
    "outcomes": ["spend", "visits"], "weight": "months", "unit": "person",
    "histograms": ["spend", "visits"], "digits": {"spend": 2},
}  # fmt: skip


def rows(n: int = 4000, seed: int = 1) -> pd.DataFrame:
    """Spending with zeros, repayments and values at the edges of bins."""
    rng = np.random.default_rng(seed)
    provider = rng.integers(0, 6, n)
    cents = np.round(100 * np.exp(rng.normal(6, 2, n))).astype(np.int64)
    edges = np.array(edges_of("spend", None, 2))
    cents[: len(edges)], cents[400 : 400 + len(edges)] = edges, edges - 1
    cents[800:1100] = 0
    cents[1100:1150] *= -1
    return pd.DataFrame(
        {
            "person": rng.integers(0, n // 2, n),
            "provider": np.array(list("ABCDEF"))[provider],
            "quarter": rng.integers(1, 5, n),
            "entry": np.where(provider < 3, 3.0, np.nan),
            "dual": np.where(rng.random(n) < 0.3, "yes", "no"),
            "spend": cents / 100,
            "visits": np.where(rng.random(n) < 0.01, 300, rng.poisson(3, n)),
            "months": rng.integers(1, 4, n),
        }
    )


@pytest.fixture(scope="module")
def engine():
    with vbc.connect("duckdb", threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def whole(engine) -> vbc.Moments:
    return taken(rows(), engine, dominance=True)


def taken(frame: pd.DataFrame, engine: vbc.Engine, **options: object) -> vbc.Moments:
    return vbc.Moments.from_table(frame, engine=engine, **{**OPTIONS, **options})


def counted(frame: pd.DataFrame, name: str, edges: list[float]) -> pd.DataFrame:
    """The histogram as pandas counts it."""
    keys = [frame[k] for k in KEYS] + [
        pd.Series(np.searchsorted(edges, frame[name], side="right"), index=frame.index, name="bin")
    ]
    wy = frame["months"] * frame[name]
    table = pd.DataFrame({"n": 1, "w": frame["months"], "wy": wy}).groupby(keys).sum()
    return table.assign(mean=table["wy"] / table["w"]).drop(columns="wy").reset_index()


@pytest.mark.parametrize(("name", "digits"), [("spend", 2), ("visits", 0)])
def test_bins_are_those_of_the_rows(whole, name, digits) -> None:
    found = whole.histogram(name)
    edges = [x / 10**digits for x in edges_of(name, None, digits)]
    expected = counted(rows(), name, edges)
    same = ["provider", "quarter", "dual", "bin", "n", "w"]
    pd.testing.assert_frame_equal(found[same], expected[same], check_dtype=False)
    np.testing.assert_allclose(found["mean"], expected["mean"], rtol=1e-13)
    assert ((found["mean"] >= found["low"]) & (found["mean"] <= found["high"])).all()


def test_doubles_are_compared_as_doubles(engine) -> None:
    """Neither a pivot nor a logarithm moves a value across an edge."""
    edges = np.array(edges_of("spend", None, None))
    frame = rows()
    values = np.r_[edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)]
    frame["spend"] = np.r_[values, 1e3 + np.pi * np.arange(len(frame) - len(values))]
    found = taken(frame, engine, digits={"spend": None})
    assert found.meta["pivots"]["spend"] > 100
    expected = counted(frame, "spend", list(edges))
    same = ["provider", "quarter", "dual", "bin", "n"]
    pd.testing.assert_frame_equal(found.histogram("spend")[same], expected[same], check_dtype=False)
    zeros = found.histogram("spend").query("bin == 1")
    assert (zeros["low"] == 0).all()
    assert (zeros["high"] == 0).all()


def test_usual_edges_are_the_same_for_every_drop_and_close() -> None:
    cents = np.array(edges_of("spend", None, 2)) / 100
    assert cents[0] == 0
    assert cents[-1] == 1e7
    from_a_dollar = cents[cents >= 1]
    assert from_a_dollar[0] == 1
    # 2 ** (1 / 16), and a cent for rounding
    widths = from_a_dollar[1:] - from_a_dollar[:-1]
    assert (widths <= from_a_dollar[:-1] * (2 ** (1 / 16) - 1) + 0.0101).all()
    low, high = limits(edges_of("visits", None, 0), 0)
    assert (low[1:257] == high[1:257]).all()
    assert list(low[1:4]) == [0, 1, 2]


def test_bins_add_up_to_the_moments(whole) -> None:
    for name in ("spend", "visits"):
        bins = whole.histogram(name)
        total = bins.assign(wy=bins["w"] * bins["mean"]).groupby(KEYS)[["n", "w", "wy"]].sum()
        assert list(total["n"]) == list(whole.n)
        assert list(total["w"]) == list(whole.w)
        mean = whole.y_mean[:, whole.column(name)]
        np.testing.assert_allclose(total["wy"] / total["w"], mean, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("by", [None, ["quarter"], ["dual", "provider"], []])
def test_the_quantile_of_the_rows_is_in_the_bracket(whole, by) -> None:
    frame = rows()
    q = [0.0, 0.013, 0.11, 0.283, 0.5, 0.717, 0.9, 0.991, 1.0]
    got = whole.quantile("spend", q, by=by)
    names = KEYS if by is None else by
    groups = frame.groupby(names) if names else [((), frame)]
    assert len(got) == len(q) * (frame[names].drop_duplicates().shape[0] if names else 1)
    for key, group in groups:
        mine = got
        for name, value in zip(names, key, strict=True):
            mine = mine[mine[name] == value]
        assert list(mine["q"]) == q
        rows_say = np.quantile(group["spend"], q, weights=group["months"], method="inverted_cdf")
        assert (mine["low"] <= rows_say).all()
        assert (rows_say <= mine["high"]).all()
        assert mine["value"].between(mine["low"], mine["high"]).all()
        assert mine["value"].is_monotonic_increasing
        closed = (mine["low"] >= 1) & (mine["low"] < 1e7)
        assert (mine["high"] <= 1.05 * mine["low"])[closed].all()


@given(
    values=st.lists(st.integers(-300, 3000), min_size=1, max_size=40),
    q=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_any_rows_and_probability(values: list[int], q: float) -> None:
    edges = (0, 1, 100, 150, 1000)
    value = np.sort(np.array(values))
    bin_ = np.searchsorted(edges, value, side="right")
    low, high = limits(edges, 0)
    at, n = np.unique(bin_, return_counts=True)
    mean = np.array([value[bin_ == k].mean() for k in at])
    a, b, middle = quantiles(np.zeros(len(at), dtype=int), n * 1.0, mean, low[at], high[at], q)
    rows_say = np.quantile(value, q, method="inverted_cdf")
    assert a[0] <= rows_say <= b[0]
    assert a[0] <= middle[0] <= b[0]


def test_interpolation_keeps_the_mean(engine) -> None:
    frame = rows().assign(spend=lambda x: x["spend"].clip(0, 1e6))
    found = taken(frame, engine)
    grid = (np.arange(2_000) + 0.5) / 2_000
    mean = found.quantile("spend", grid, by=[])["value"].mean()
    truth = np.average(frame["spend"], weights=frame["months"])
    # a step of the grid holds 1/2,000 of the rows, at most 1e6 apart
    assert mean == pytest.approx(truth, rel=1e-3)
    without = found.histogram("spend")
    middle = np.average((without["low"] + without["high"]) / 2, weights=without["w"])
    assert abs(mean - truth) < abs(middle - truth) / 5


def test_parts_coarser_cells_and_ranges_give_the_bits_of_one_pass(
    whole, engine, monkeypatch
) -> None:
    frame = rows()
    late = frame["quarter"] > 2
    parts = [taken(frame[x], engine, dominance=True) for x in (~late, late)]
    # people of the drops are added where nobody is in both
    kept = [c for c in whole.sums.table.column_names if c != "people"]
    assert "histogram(spend)" in kept
    assert (parts[1] + parts[0]).sums.table.select(kept).equals(whole.sums.table.select(kept))
    half = frame.assign(quarter=(frame["quarter"] + 1) // 2)
    direct = taken(half, engine, strata=[], dominance=True).sums.table.select(
        [c for c in kept if c != "dual"]
    )
    coarse = whole.coarsen(drop=["dual"], periods=lambda t: float((t + 1) // 2))
    assert coarse.sums.table.select(direct.column_names).equals(direct)
    asked = []
    run = engine.run

    def counted_run(query, run=run, asked=asked):
        asked.append(query)
        return run(query)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "_MEMORY", 300_000)
        patch.setattr(engine, "run", counted_run)
        ranges = taken(frame, engine, dominance=True)
    # the scan, clusters, people twice, and one query each of sums and of two histograms
    assert len(asked) > 7
    assert ranges.sums.table.equals(whole.sums.table)


def test_a_file_is_one_table_that_other_tools_read(whole, tmp_path) -> None:
    path = tmp_path / "a.parquet"
    whole.save(path)
    second = vbc.Moments.load(path)
    assert second.sums.table.equals(whole.sums.table)
    assert second.sums.schema == whole.sums.schema
    pd.testing.assert_frame_equal(second.histogram("spend"), whole.histogram("spend"))
    assert list((whole + second).histogram("spend")["n"]) == list(2 * whole.histogram("spend")["n"])
    bins = duckdb.sql(
        f"""SELECT provider, sum(b.n) AS n FROM (
            SELECT provider, unnest("histogram(spend)") AS b FROM '{path}')
            GROUP BY provider ORDER BY provider"""
    ).fetchall()
    assert bins == [(k, int(n)) for k, n in rows().groupby("provider").size().items()]


def test_a_file_of_the_first_format_is_read(engine, tmp_path) -> None:
    found = taken(rows(), engine, histograms=())
    path = tmp_path / "old.parquet"
    found.save(path)
    table = pq.read_table(path)
    stored = json.loads(table.schema.metadata[b"vbceval.moments"])
    assert stored["schema"].pop("histograms") == {}
    assert stored["schema"].pop("dominance") is False
    for version, says in ((1, None), (99, "has format 99; .* reads formats 1 to 3")):
        stored["schema"]["format"] = version
        changed = table.replace_schema_metadata({b"vbceval.moments": json.dumps(stored).encode()})
        pq.write_table(changed, path)
        if says is None:
            assert vbc.Moments.load(path).sums.schema == found.sums.schema
        else:
            with pytest.raises(DataError, match=says):
                vbc.Moments.load(path)


def test_rows_without_the_outcome_are_in_no_bin(engine) -> None:
    frame = rows().astype({"visits": float})
    frame.loc[frame.index % 5 == 0, "visits"] = np.nan
    frame["hcc"] = np.where(frame.index % 7 == 0, np.nan, 1.5)
    found = taken(frame, engine, covariates=["hcc"])
    alone = found.of("visits")
    assert list(found.histogram("visits").groupby(KEYS)["n"].sum()) == list(alone.n)
    assert list(found.histogram("spend").groupby(KEYS)["n"].sum()) == list(found.n)


@pytest.mark.parametrize("change", ["category", "bool", "whole numbers"])
def test_keys_of_any_type(whole, engine, change) -> None:
    frame = rows()
    yes = frame["dual"] == "yes"
    frame["dual"] = {
        "category": frame["dual"].astype("category"), "bool": yes, "whole numbers": yes.astype(int)
    }[change]  # fmt: skip
    found = taken(frame, engine, dominance=True)
    name = "histogram(spend)"
    assert found.sums.table.column(name).equals(whole.sums.table.column(name))
    assert found.coarsen(drop=["dual"]).sums.table.equals(whole.coarsen(drop=["dual"]).sums.table)


def test_own_edges(whole, engine) -> None:
    found = taken(
        rows(), engine, dominance=True, histograms={"visits": [0, 2.5, 300], "spend": None}
    )
    assert found.sums.schema.histograms["visits"] == (0, 3, 300)
    bins = found.histogram("visits")
    ends = bins[["bin", "low", "high"]].drop_duplicates().sort_values("bin").to_numpy()
    assert ends.tolist() == [[1, 0, 2], [2, 3, 299], [3, 300, math.inf]]
    with pytest.raises(DataError, match="`histograms` of `visits` have other edges"):
        _ = found + whole


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"histograms": "spend"}, "give a list"),
        ({"histograms": ["cost"]}, "cost.* not among `outcomes`"),
        ({"histograms": {"visits": [0.1, 0.2]}}, "a value between any two"),
        ({"histograms": {"spend": [5, 1]}}, "edges must increase"),
        ({"histograms": {"spend": []}}, "at least one"),
        ({"histograms": {"spend": [0, float("inf")]}}, "finite"),
        ({"histograms": {"spend": [0, "x"]}}, "finite"),
        ({"histograms": {"spend": [0, 1e17]}}, "more than 18 digits"),
    ],
)
def test_histograms_that_cannot_be_made(engine, change, says) -> None:
    with pytest.raises(DataError, match=says):
        taken(rows(), engine, **change)


def test_keys_named_as_columns_of_a_histogram(engine) -> None:
    with pytest.raises(DataError, match="`bin` is a key"):
        taken(rows().rename(columns={"dual": "bin"}), engine, strata=["bin"])


def test_what_a_histogram_cannot_say(engine) -> None:
    found = taken(rows(), engine, histograms=["visits"])
    with pytest.raises(DataError, match=r"no histogram of `spend` \(histograms: `visits`\)"):
        found.quantile("spend", 0.5)
    for q in (1.5, -0.1, float("nan"), [0.5, 2]):
        with pytest.raises(DataError, match="is a probability"):
            found.quantile("visits", q)
    for by in ("dual", ["entry"]):
        with pytest.raises(DataError, match="`by`"):
            found.quantile("visits", 0.5, by=by)


@pytest.mark.parametrize("digits", [2, None])
def test_largest_amounts_are_those_of_the_rows(engine, digits) -> None:
    frame = rows()
    found = taken(frame, engine, dominance=True, digits={"spend": digits}, histograms=()).sums
    sizes = (frame["months"] * frame["spend"]).abs().groupby([frame[k] for k in KEYS])
    unit = found.unit("months", "spend")
    for kind, expected in (("largest", sizes.max()), ("sizes", sizes.sum())):
        name = found.schema.name(("spend", "visits"), "months", "spend", kind=kind)
        values = found.table.column(name).to_numpy().astype(float) / unit
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    merged = found.coarsen(drop=["dual"]).table.column("largest(|months * spend|)").to_numpy()
    np.testing.assert_allclose(
        merged.astype(float) / unit, sizes.max().groupby(level=[0, 1]).max(), rtol=1e-12
    )


def test_dominance_is_asked_for_in_both_or_none(whole, engine) -> None:
    with pytest.raises(DataError, match="`dominance` is True and False"):
        _ = whole + taken(rows(), engine)
