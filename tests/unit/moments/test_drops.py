"""Monthly drops of data: appended in any order they are one pass over all; one that comes twice is said."""

from __future__ import annotations

import functools
import operator
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments import moments

OPTIONS = {
    "cluster": "org", "period": "month", "cohort": "entry", "strata": ["dual"], "unit": "person",
    "outcomes": ["spend", "visits", "stays"], "covariates": ["hcc"], "weight": "weight",
    "exposure": "days", "histograms": ["spend"], "dominance": True,
}  # fmt: skip
MONTHS = range(1, 7)


def rows(people: int = 400) -> pd.DataFrame:
    """A stratum is absent in a month, an organization comes late, gaps are in some months only."""
    rng = np.random.default_rng(4)
    person, month = np.repeat(np.arange(people), 6), np.tile(np.arange(1, 7), people)
    org = person % 10
    n = len(person)
    frame = pd.DataFrame({
        "person": person, "org": np.char.add("O", org.astype(str)), "month": month,
        "entry": np.where(org < 3, 3.0, np.where(org < 6, 5.0, np.nan)),
        "dual": np.where(person % 7 == 0, "yes", "no"), "weight": rng.integers(1, 4, n),
        "days": rng.integers(1, 31, n), "hcc": np.round(rng.gamma(2, 0.5, n), 4),
        "spend": np.round(rng.gamma(1, 500, n), 2), "visits": rng.poisson(2, n).astype(float),
        "stays": rng.poisson(0.2, n).astype(float),
    })  # fmt: skip
    frame.loc[frame["month"].isin([2, 5]) & (rng.random(n) < 0.1), "visits"] = np.nan
    frame.loc[(month == 4) & (rng.random(n) < 0.1), "stays"] = np.nan
    # scores and visits of one month have fewer digits than those of the others
    frame.loc[month == 3, "hcc"] = np.round(frame["hcc"])
    frame.loc[month == 1, "visits"] += 0.25
    gone = (rng.random(n) < 0.15) | ((org == 9) & (month < 4)) | ((month == 2) & (person % 7 == 0))
    return frame[~gone].reset_index(drop=True)


@pytest.fixture(scope="module")
def engine():
    with vbc.connect("duckdb", threads=1) as found:
        yield found


@pytest.fixture(scope="module")
def whole(engine) -> vbc.Moments:
    return vbc.Moments.from_table(rows(), engine=engine, **OPTIONS)


@pytest.fixture(scope="module")
def drops(engine) -> dict[int, vbc.Moments]:
    frame = rows()
    return {
        m: vbc.Moments.from_table(frame[frame["month"] == m], engine=engine, **OPTIONS)
        for m in MONTHS
    }


def assert_same_bits(a: vbc.Moments, b: vbc.Moments) -> None:
    assert a.sums is not None
    assert b.sums is not None
    assert a.sums.schema == b.sums.schema
    assert a.sums.table.column_names == b.sums.table.column_names
    assert a.sums.table.equals(b.sums.table)
    assert a.sums.clusters.equals(b.sums.clusters)


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1), (3, 1, 6, 2, 5, 4)])
def test_drops_in_any_order_are_one_pass(whole, drops, tmp_path: Path, order) -> None:
    schemas = [drop.sums.schema for drop in drops.values()]
    assert len({s.separate for s in schemas}) > 2
    assert len({s.digits["hcc"] for s in schemas}) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = drops[order[0]]
        for month in order[1:]:
            total.save(tmp_path / "so_far.parquet")
            total = vbc.Moments.load(tmp_path / "so_far.parquet") + drops[month]
    assert_same_bits(total, whole)
    assert total.meta["separate"] == whole.meta["separate"]
    assert total.meta["digits"] == whole.meta["digits"]
    assert total.meta["ranges"] == whole.meta["ranges"]
    for y in OPTIONS["outcomes"]:
        assert np.array_equal(total.of(y).y_mean, whole.of(y).y_mean)
        assert np.array_equal(total.of(y).n_units, whole.of(y).n_units)


def test_coarser_cells_and_appended_drops_may_come_in_either_order(whole, drops) -> None:
    quarters = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2}
    for how in ({"drop": ["dual"]}, {"periods": quarters}):
        parts = [drop.coarsen(**how) for drop in drops.values()]
        assert_same_bits(functools.reduce(operator.add, parts), whole.coarsen(**how))


def test_a_drop_with_a_gap_counts_who_has_the_outcome(engine) -> None:
    frame = rows()
    frame = frame[frame["month"].isin([1, 2])]
    parts = [
        vbc.Moments.from_table(frame[frame["month"] == m], engine=engine, **OPTIONS) for m in (1, 2)
    ]
    found = (parts[0] + parts[1]).of("visits")
    have = frame.dropna(subset="visits").groupby(["org", "month", "dual"])
    assert list(found.n) == list(have.size())
    assert list(found.n_units) == list(have["person"].nunique())
    np.testing.assert_allclose(
        found.y_mean[:, 0] * found.w, have.apply(lambda x: (x["weight"] * x["visits"]).sum()),
        rtol=1e-12,
    )  # fmt: skip


def test_sums_beyond_64_bits_grow_by_digits_too(engine) -> None:
    frame = rows().assign(spend=lambda x: np.round(x["spend"]) * 1e9)
    frame.loc[frame["month"] == 2, "spend"] += 0.25
    options = {**OPTIONS, "histograms": (), "outcomes": ["spend"], "dominance": False}
    frame = frame[frame["month"] <= 2]
    parts = [
        vbc.Moments.from_table(frame[frame["month"] == m], engine=engine, **options) for m in (1, 2)
    ]
    assert [part.sums.schema.digits["spend"] for part in parts] == [0, 2]
    whole = vbc.Moments.from_table(frame, engine=engine, **options)
    assert_same_bits(parts[0] + parts[1], whole)


def test_what_two_drops_cannot_have_is_an_error(drops, engine) -> None:
    frame = rows()
    late = frame[frame["month"] == 3]
    other = late.assign(entry=late["entry"].where(late["org"] != "O1", 4.0))
    with pytest.raises(DataError, match="1 clusters have another `cohort`"):
        drops[2] + vbc.Moments.from_table(other, engine=engine, **OPTIONS)
    # edges of a histogram depend on the digits, so they are not made alike afterwards
    whole = late.assign(spend=np.round(late["spend"]))
    with pytest.raises(DataError, match="takes from the first") as error:
        drops[2] + vbc.Moments.from_table(whole, engine=engine, **OPTIONS)
    assert "`histograms` of `spend` have other edges" in str(error.value)


def test_a_month_that_comes_twice_is_said(drops, engine, tmp_path: Path) -> None:
    total = drops[1] + drops[2]
    with pytest.warns(UserWarning, match=r"cells .* hold the same sums,.* count twice"):
        twice = total + drops[2]
    assert "count twice" in twice.meta["warnings"][0]
    twice.save(tmp_path / "m.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        more = vbc.Moments.load(tmp_path / "m.parquet") + drops[3]
    assert more.meta["warnings"] == twice.meta["warnings"]
    # delivered again with a few corrections
    frame = rows()
    again = frame[frame["month"] == 2].copy()
    again.loc[again.index[:2], "spend"] += 1
    with pytest.warns(UserWarning, match="count twice"):
        total + vbc.Moments.from_table(again, engine=engine, **OPTIONS)


def test_a_file_that_comes_twice_is_said(engine, tmp_path: Path) -> None:
    frame = rows()
    for m in (1, 2):
        frame[frame["month"] == m].to_parquet(tmp_path / f"m{m}.parquet")
    one, both = (
        vbc.Moments.from_table(tmp_path / name, engine=engine, **OPTIONS)
        for name in ("m1.parquet", "")
    )
    with pytest.warns(UserWarning, match=r"1 file\(s\) are in both .*`m1.parquet`"):
        one + both


def test_other_rows_of_the_same_cells_are_no_copies(whole, engine) -> None:
    frame = rows()
    halves = [
        vbc.Moments.from_table(frame[frame["person"] % 2 == k], engine=engine, **OPTIONS)
        for k in (0, 1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = halves[0] + halves[1]
        # rows of one amount are equal in every half, and say nothing
        plain = frame.assign(spend=7.0, hcc=1.0, weight=1, days=30)
        keys = {**OPTIONS, "outcomes": ["spend"], "histograms": ()}
        same = [plain[plain["person"] // 10 % 2 == k].drop_duplicates(["org", "month", "dual"])
                for k in (0, 1)]  # fmt: skip
        parts = [vbc.Moments.from_table(x, engine=engine, **keys) for x in same]
        assert (parts[0] + parts[1]).n.sum() == sum(map(len, same))
    columns = [c for c in whole.sums.table.column_names if not c.startswith("people")]
    assert total.sums.table.select(columns).equals(whole.sums.table.select(columns))


@pytest.mark.parametrize("what", ["other", "gone", "cut"])
def test_a_file_that_changes_between_scans_is_an_error(
    engine, tmp_path: Path, monkeypatch, what
) -> None:
    path, other = tmp_path / "m.parquet", tmp_path / "other"
    frame = rows()
    frame.to_parquet(path)
    frame.assign(spend=frame["spend"] * 2).to_parquet(other)
    seen, run = [], engine.run

    def change(query):
        seen.append(query)
        if len(seen) == 3:
            # a new file under the name: the engine reads it, or goes on with the one that it opened
            other.replace(path)
        return run(query)

    monkeypatch.setattr(engine, "run", change)
    saved = moments.sum_table

    def then(*arguments, **options):
        found = saved(*arguments, **options)
        if what == "gone":
            path.unlink()
        if what == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        return found

    monkeypatch.setattr(moments, "sum_table", then)
    with pytest.raises(DataError, match=r"1 files of the source changed .*`m.parquet`"):
        vbc.Moments.from_table(path, engine=engine, **OPTIONS)
