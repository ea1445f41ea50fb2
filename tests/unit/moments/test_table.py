"""Moments taken inside an engine: those of the rows, exact in any order, added and stored."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments import passes

OPTIONS = {
    "cluster": "provider", "period": "quarter", "cohort": "entry", "strata": ["dual"],
    "outcomes": ["spend", "visits"], "covariates": ["hcc", "age"], "weight": "months",
    "unit": "person",
}  # fmt: skip


def rows(n: int = 3000, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    provider = rng.integers(0, 20, n)
    return pd.DataFrame(
        {
            "person": rng.integers(0, n // 2, n),
            "provider": np.array([f"P{i:02d}" for i in range(20)])[provider],
            "quarter": rng.integers(1, 7, n),
            "entry": np.where(provider % 3 == 0, 4.0, np.where(provider % 3 == 1, 5.0, np.nan)),
            "dual": np.where(rng.random(n) < 0.3, "yes", "no"),
            "spend": np.round(np.exp(rng.normal(7, 1.5, n)), 2),
            "visits": rng.poisson(3, n),
            "hcc": np.round(rng.gamma(2, 0.5, n), 4),
            "age": rng.integers(65, 95, n),
            "months": rng.integers(1, 4, n),
        }
    )


@pytest.fixture
def engine():
    with vbc.connect("duckdb", threads=1) as found:
        yield found


def in_memory(frame: pd.DataFrame, outcomes: list[str]) -> vbc.Moments:
    panel = vbc.Panel.from_frame(
        frame, unit="person", period="quarter", cohort="entry", cluster="provider",
        strata=["dual"], weight="months", kind="repeated_cross_section",
    )  # fmt: skip
    return vbc.Moments.from_panel(panel, outcomes=outcomes, covariates=["hcc", "age"], by="cluster")


def assert_same(a: vbc.Moments, b: vbc.Moments, rtol: float) -> None:
    pd.testing.assert_frame_equal(
        a.cells.astype({"period": float}), b.cells.astype({"period": float}), check_dtype=False
    )
    for name in ("n", "n_units", "w", "w2", "x_mean", "y_mean", "xx", "xy", "yy"):
        one, two = getattr(a, name), getattr(b, name)
        scale = np.abs(two).max()
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * scale, err_msg=name)


def arrays_of(m: vbc.Moments) -> list[bytes]:
    names = ("n", "n_units", "w", "w2", "x_mean", "y_mean", "xx", "xy", "yy")
    return [np.ascontiguousarray(getattr(m, name)).tobytes() for name in names]


def test_moments_of_a_table_are_those_of_its_rows(engine) -> None:
    frame = rows()
    table = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    memory = in_memory(frame, ["spend", "visits"])
    assert_same(table, memory, 1e-11)
    assert table.meta["digits"] == {"months": 0, "hcc": 4, "age": 0, "spend": 2, "visits": 0}
    assert table.attribute("cohort").dropna().isin([4.0, 5.0]).all()


def test_order_of_rows_and_threads_do_not_change_a_bit(engine) -> None:
    frame = rows()
    first = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    shuffled = frame.sample(frac=1, random_state=2)
    with vbc.connect("duckdb", threads=4) as other:
        second = vbc.Moments.from_table(shuffled, engine=other, **OPTIONS)
    assert arrays_of(first) == arrays_of(second)
    assert first.sums.table.equals(second.sums.table)


def test_doubles_about_a_pivot(engine) -> None:
    frame = rows()
    frame["spend"] = np.random.default_rng(3).normal(1e6, 10, len(frame))
    frame["hcc"] = frame["hcc"] + np.pi
    table = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    assert table.meta["digits"]["spend"] is None
    assert_same(table, in_memory(frame, ["spend", "visits"]), 1e-9)


def test_doubles_far_from_zero_agree_to_ten_digits(engine) -> None:
    """Three digits of a mean of 1,234,567 are 4,567 away from it: eight digits of a variance of 1."""
    from fractions import Fraction

    frame = rows()
    frame["spend"] = np.random.default_rng(3).normal(1234567, 1, len(frame))
    options = {**OPTIONS, "outcomes": ["spend"], "covariates": [], "strata": []}
    table = vbc.Moments.from_table(frame, engine=engine, **options)
    by_cell = frame.groupby(["provider", "quarter"])
    for (_, part), found in zip(by_cell, table.yy[:, 0], strict=True):
        w = [int(x) for x in part["months"]]
        y = [Fraction(float(x)) for x in part["spend"]]
        mean = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
        exact = sum(a * (b - mean) ** 2 for a, b in zip(w, y, strict=True))
        assert found == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize(
    "values",
    [
        lambda u: u * 1e-7,  # rates a person and day: as near to 0 as rounding is
        lambda u: 1 + u * 1e-7,
        lambda u: np.where(u < 0.5, 25.0, 25 + u * 1e-9),
    ],
)
def test_small_numbers_are_not_taken_for_rounding(engine, values) -> None:
    frame = rows()
    frame["spend"] = values(np.random.default_rng(3).random(len(frame)))
    options = {**OPTIONS, "outcomes": ["spend"], "covariates": [], "strata": []}
    table = vbc.Moments.from_table(frame, engine=engine, **options)
    assert table.meta["digits"]["spend"] is None
    panel = vbc.Panel.from_frame(
        frame, unit="person", period="quarter", cohort="entry", cluster="provider", weight="months",
        kind="repeated_cross_section",
    )  # fmt: skip
    memory = vbc.Moments.from_panel(panel, outcomes=["spend"], by="cluster")
    np.testing.assert_allclose(table.y_mean, memory.y_mean, rtol=1e-10)
    np.testing.assert_allclose(table.yy, memory.yy, rtol=1e-6)
    with pytest.raises(DataError, match="not small beside its range"):
        vbc.Moments.from_table(frame, engine=engine, digits={"spend": 0}, **options)


def test_rounding_of_arithmetic_is_no_digit(engine) -> None:
    frame = rows()
    exact = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    frame["spend"] = (frame["spend"] + 0.1) + 0.2 - 0.3
    again = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    assert again.meta["digits"]["spend"] == 2
    assert arrays_of(again) == arrays_of(exact)


def test_numbers_that_doubles_cannot_square_are_an_error(engine) -> None:
    for unit in (1e300, 1e-120):
        frame = rows()
        frame["spend"] = np.random.default_rng(3).random(len(frame)) * unit
        with pytest.raises(DataError, match="`spend` has values whose squares"):
            vbc.Moments.from_table(frame, engine=engine, **OPTIONS)


def test_estimates_from_a_table_are_those_of_its_rows(engine) -> None:
    frame = rows(6000)
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    reg = vbc.did.GroupTime(method="reg")
    table = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    one = reg.fit(table, design)
    two = reg.fit(in_memory(frame, ["spend"]), design)
    np.testing.assert_allclose(one.estimate, two.estimate, rtol=1e-9)
    np.testing.assert_allclose(one.psi, two.psi, rtol=1e-8, atol=1e-8)


def test_an_outcome_with_gaps_has_moments_of_its_own(engine) -> None:
    frame = rows()
    gaps = np.random.default_rng(4).random(len(frame)) < 0.2
    frame["spend"] = frame["spend"].mask(gaps)
    table = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    assert table.outcomes == ("visits",)
    assert table.of("visits") is table
    alone = table.of("spend")
    assert alone.outcomes == ("spend",)
    assert_same(alone, in_memory(frame[~gaps], ["spend"]), 1e-11)
    assert_same(table, in_memory(frame, ["visits"]), 1e-11)


def test_drops_of_data_add_up_exactly(engine) -> None:
    frame = rows()
    late = frame["quarter"] > 4
    options = {**OPTIONS, "digits": {"spend": 2, "hcc": 4}}
    whole = vbc.Moments.from_table(frame, engine=engine, **options)
    parts = [vbc.Moments.from_table(frame[x], engine=engine, **options) for x in (~late, late)]
    assert arrays_of(parts[0] + parts[1]) == arrays_of(whole)
    assert arrays_of(parts[1] + parts[0]) == arrays_of(whole)
    assert [part["rows"] for part in (parts[0] + parts[1]).meta["parts"]] == [
        int((~late).sum()), int(late.sum()),
    ]  # fmt: skip


def test_coarser_cells_are_those_of_a_coarser_pass(engine) -> None:
    frame = rows()
    fine = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    coarse = fine.coarsen(drop=["dual"], periods=lambda q: float((q + 1) // 2))
    direct = vbc.Moments.from_table(
        frame.assign(quarter=(frame["quarter"] + 1) // 2), engine=engine,
        **{**OPTIONS, "strata": []},
    )  # fmt: skip
    kept = [c for c in direct.sums.table.column_names if not c.startswith("people")]
    assert coarse.sums.table.select(kept).equals(direct.sums.table.select(kept))
    # distinct people are known from below
    assert (coarse.n_units <= direct.n_units).all()
    with pytest.raises(DataError, match="`income` is no stratum"):
        fine.coarsen(drop=["income"])


def test_saved_moments_come_back(engine, tmp_path) -> None:
    first = vbc.Moments.from_table(rows(), engine=engine, **OPTIONS)
    path = tmp_path / "panel.moments.parquet"
    first.save(path)
    second = vbc.Moments.load(path)
    assert arrays_of(first) == arrays_of(second)
    pd.testing.assert_frame_equal(first.units, second.units)
    assert second.meta["query"].startswith("SELECT")
    stored = pq.read_table(path)
    assert stored.schema.field("sum(months * spend * spend)").type == pa.int64()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_is_no_moments_file(tmp_path, engine) -> None:
    with pytest.raises(DataError, match="there is no moments file"):
        vbc.Moments.load(tmp_path / "absent.parquet")
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"a": [1]}), plain)
    with pytest.raises(DataError, match="without moments"):
        vbc.Moments.load(plain)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(plain.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a complete Parquet file"):
        vbc.Moments.load(cut)
    with pytest.raises(DataError, match="hold no sums"):
        in_memory(rows(), ["spend"]).save(tmp_path / "x.parquet")


def test_everything_wrong_with_a_table_is_said_together(engine) -> None:
    frame = rows()
    frame.loc[3, "provider"] = None
    frame["months"] = frame["months"].astype(float)
    frame.loc[:20, "months"] = -1.0
    frame.loc[30:60, "hcc"] = np.inf
    frame.loc[frame.index[-1], "entry"] = 99.0
    with pytest.raises(DataError) as error:
        vbc.Moments.from_table(frame, engine=engine, digits={"spend": 0}, **OPTIONS)
    text = str(error.value)
    assert "5 problems" in text
    assert "`entry` changes within 1 of" in text
    assert "`provider` is missing in fewer than 11 rows" in text
    assert "`months` is negative" in text
    assert "`hcc` is infinite in 31 rows" in text
    assert "`spend` is declared with 0 digits after the point and has more digits" in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"outcomes": ["dual"]}, "not numbers"),
        ({"outcomes": ["cost"]}, "`cost`"),
        ({"outcomes": "spend"}, "give a list"),
        ({"outcomes": []}, "is empty"),
        ({"digits": {"entry": 2}}, "which is not summed"),
        ({"digits": {"spend": 2.0}}, "whole number"),
        ({"digits": {"spend": True}}, "whole number"),
        ({"period": "dual", "strata": []}, "periods are numbers"),
        ({"cluster": "person"}, "`entry` changes within"),
        ({"cohort": "dual"}, "cohort is a number"),
    ],
)
def test_what_cannot_be_summed(engine, change, says) -> None:
    with pytest.raises(DataError, match=says):
        vbc.Moments.from_table(rows(), engine=engine, **{**OPTIONS, **change})


def test_zero_is_no_cohort(engine) -> None:
    frame = rows().fillna({"entry": 0.0})
    with pytest.raises(DataError, match="Pass never=0"):
        vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    table = vbc.Moments.from_table(frame, engine=engine, never=0, **OPTIONS)
    assert table.attribute("cohort").isna().any()


def test_infinity_is_no_cohort(engine) -> None:
    frame = rows().fillna({"entry": np.inf})
    with pytest.raises(DataError, match=r"infinite in \d+ clusters.*never=float"):
        vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    table = vbc.Moments.from_table(frame, engine=engine, never=np.inf, **OPTIONS)
    assert arrays_of(table) == arrays_of(vbc.Moments.from_table(rows(), engine=engine, **OPTIONS))


def test_sums_beyond_64_bits(engine) -> None:
    """Squares of large amounts pass 2**63; the sums are still whole numbers."""
    frame = rows(400).assign(spend=lambda f: f["spend"].round(0) * 1e6 + 0.01)
    options = {**OPTIONS, "strata": []}
    table = vbc.Moments.from_table(frame, engine=engine, **options)
    cents = [int(Decimal(str(x)) * 100) for x in frame["spend"]]
    exact = sum(int(w) * c * c for w, c in zip(frame["months"], cents, strict=True))
    column = table.sums.table.column("sum(months * spend * spend)").to_pylist()
    assert sum(int(x) for x in column) == exact > 2**63


def test_ranges_of_clusters_give_the_bits_of_one_query(engine, monkeypatch) -> None:
    frame = rows()
    frame["number"] = frame["provider"].str[1:].astype(int) - 10
    for cluster in ("provider", "number"):
        options = OPTIONS | {"cluster": cluster}
        whole = vbc.Moments.from_table(frame, engine=engine, **options)
        asked = []
        run = engine.run

        def counted(query, run=run, asked=asked):
            found = run(query)
            asked.append(found.num_rows)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(passes, "_MEMORY", 150_000)
            patch.setattr(engine, "run", counted)
            parts = vbc.Moments.from_table(frame, engine=engine, **options)
        assert sum(0 < count < len(whole) for count in asked) > 3
        assert parts.sums.table.equals(whole.sums.table)


@pytest.mark.parametrize("amount", [2.0**53 / 4000, 2.0**49 / 100])
def test_large_sums_are_exact_on_both_sides_of_what_doubles_hold(engine, amount) -> None:
    frame = rows()
    rng = np.random.default_rng(2)
    cents = rng.integers(int(amount * 90), int(amount * 99), len(frame))
    frame["spend"] = cents / 100
    frame["months"] = 1
    found = vbc.Moments.from_table(frame, engine=engine, digits={"spend": 2}, **OPTIONS)
    keys = ["provider", "quarter", "dual"]
    expected = pd.Series(cents.astype(object)).groupby([frame[k] for k in keys]).sum()
    total = found.sums.table.column("sum(months * spend)").to_pylist()
    assert [int(x) for x in total] == list(expected)


def test_people_are_rows_where_nobody_has_two_in_a_period(engine) -> None:
    frame = rows()
    twice = vbc.Moments.from_table(frame, engine=engine, **OPTIONS)
    assert not twice.sums.schema.once_a_period
    assert (twice.n_units < twice.n).any()
    once = frame.drop_duplicates(["person", "quarter"])
    found = vbc.Moments.from_table(once, engine=engine, **OPTIONS)
    assert found.sums.schema.once_a_period
    assert (found.n_units == found.n).all()
    # so people of merged strata add up, and those of merged periods do not
    merged = found.coarsen(drop=["dual"])
    counted = once.groupby(["provider", "quarter"])["person"].nunique()
    assert list(merged.n_units) == list(counted)
    longer = found.coarsen(periods=lambda q: (q + 1) // 2)
    assert not longer.sums.schema.once_a_period
    assert longer.n_units.max() == found.n_units.max()


def test_a_fact_of_each_drop_holds_for_both_only_where_their_periods_differ(engine) -> None:
    once = rows().drop_duplicates(["person", "quarter"])
    early, late = once[once["quarter"] <= 3], once[once["quarter"] > 3]
    first, second = (vbc.Moments.from_table(x, engine=engine, **OPTIONS) for x in (early, late))
    assert (first + second).sums.schema.once_a_period
    with pytest.warns(UserWarning, match="count twice"):
        assert not (first + first).sums.schema.once_a_period
    fewer = vbc.Moments.from_table(rows()[lambda x: x["quarter"] > 3], engine=engine, **OPTIONS)
    assert not (first + fewer).sums.schema.once_a_period


def test_weights_and_exposure_of_doubles_have_no_pivot(engine) -> None:
    frame = rows().assign(months=lambda x: np.exp(np.sin(x["months"] + x.index / 7)))
    frame["years"] = frame["months"] / 7
    found = vbc.Moments.from_table(
        frame, engine=engine, exposure="years", digits={"years": None}, **OPTIONS
    )
    assert found.meta["digits"]["months"] is None
    assert_same(found, in_memory(frame, ["spend", "visits"]), 1e-10)
    by_cell = frame.groupby(["provider", "quarter", "dual"])["years"].sum()
    np.testing.assert_allclose(found.exposure, by_cell, rtol=1e-12)
