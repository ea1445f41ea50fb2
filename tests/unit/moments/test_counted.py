"""Counts that sums give away: found in the rows of what was published, not in the sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.moments.counted import enumerate_counts
from vbceval.moments.few import Few, Spread
from vbceval.moments.forms import Form
from vbceval.moments.share import shareable

OPTIONS = {
    "unit": "person", "cluster": "provider", "period": "quarter", "cohort": "entry",
    "strata": ["dual"], "outcomes": ["spend"],
}  # fmt: skip
KEYS = ["provider", "quarter", "dual"]


def rows(n: int = 12_000, seed: int = 0) -> pd.DataFrame:
    """People seen once, with columns of which some value is rare."""
    rng = np.random.default_rng(seed)
    provider = rng.integers(0, 8, n)
    race = rng.choice(4, n, p=[0.5, 0.3, 0.17, 0.03])
    died = (rng.random(n) < 0.3).astype(int)
    frame = pd.DataFrame({
        "person": np.arange(n), "provider": np.array([f"P{i}" for i in range(8)])[provider],
        "quarter": rng.integers(1, 4, n), "entry": np.where(provider % 2 == 0, 2.0, np.nan),
        "dual": np.where(rng.random(n) < 0.3, "yes", "no"),
        "spend": np.round(np.exp(rng.normal(7, 1, n)), 2),
        "visits": rng.poisson(0.05, n), "sex": np.where(rng.random(n) < 0.03, 2, 1),
        "percent": np.where(rng.random(n) < 0.03, 100, 0),
        "level": rng.choice([1, 2, 3], n, p=[0.94, 0.03, 0.03]),
        "copay": 20.0 * (rng.random(n) < 0.05) * rng.integers(1, 3, n),
        "months": np.where(rng.random(n) < 0.03, 6, 12),
        "short": np.where(rng.random(n) < 0.03, 11, 12), "old": (rng.random(n) < 0.4).astype(int),
        "died": died, "in_hospital": died * (rng.random(n) < 0.95),
    })  # fmt: skip
    return frame.assign(**{f"race{k}": (race == k).astype(int) for k in range(3)})


def taken(frame: pd.DataFrame, **options: object) -> vbc.Moments:
    with vbc.connect("duckdb", threads=1) as engine:
        return vbc.Moments.from_table(frame, engine=engine, **{**OPTIONS, **options})


def as_published(frame: pd.DataFrame, copy: vbc.Moments) -> pd.DataFrame:
    """Rows under the labels of the copy."""
    report = copy.meta["share"]
    label = {x: name for name, held in report["clusters"].items() for x in held}
    merged = next(iter(report["strata"].get("dual", {})), None)
    held = set(copy.cells[["unit", "period", "dual"]].itertuples(index=False, name=None))
    out = frame.assign(provider=frame["provider"].replace(label))
    out = out[out["provider"].isin(copy.units.index)]
    out["dual"] = [
        d if (p, float(q), d) in held else merged
        for p, q, d in zip(out["provider"], out["quarter"], out["dual"], strict=True)
    ]
    assert len(out.groupby(KEYS)) == len(copy)
    return out


def small_cells(frame: pd.DataFrame, count: pd.Series) -> int:
    total = frame.assign(count=count).groupby(KEYS)["count"].sum()
    return int(((total > 0.5) & (total < 10.5)).sum())


LEAKS: dict[str, tuple[dict[str, object], Callable[[pd.DataFrame], pd.Series]]] = {
    "events": ({"outcomes": ["visits"]}, lambda f: f["visits"]),
    "who has events": ({"outcomes": ["visits"]}, lambda f: f["visits"] > 0),
    "codes 1 and 2": ({"covariates": ["sex"]}, lambda f: f["sex"] == 2),
    "codes 0 and 100": ({"outcomes": ["percent"]}, lambda f: f["percent"] > 0),
    "three codes": ({"covariates": ["level"]}, lambda f: f["level"] == 2),
    "payments of 20 dollars": ({"outcomes": ["copay"]}, lambda f: f["copay"] / 20),
    "0/1 summed as doubles": (
        {"outcomes": ["percent"], "digits": {"percent": None}}, lambda f: f["percent"] > 0,
    ),
    "weights": ({"weight": "months"}, lambda f: f["months"] == 6),
    "what is short of full exposure": ({"exposure": "short"}, lambda f: f["short"] == 11),
    "the level without a column": (
        {"covariates": ["race0", "race1", "race2"]},
        lambda f: f["race0"] + f["race1"] + f["race2"] == 0,
    ),
    "deaths elsewhere": (
        {"outcomes": ["died", "in_hospital"]}, lambda f: f["died"] - f["in_hospital"],
    ),
    "events of a group": (
        {"outcomes": ["visits"], "covariates": ["old"]}, lambda f: f["visits"] * f["old"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAKS)
def test_no_small_count_is_left_in_the_sums(case: str) -> None:
    options, count = LEAKS[case]
    frame = rows()
    assert small_cells(frame, count(frame)) > 0
    copy = shareable(taken(frame, **options))
    found = as_published(frame, copy)
    assert len(found) > 0.5 * len(frame)
    assert small_cells(found, count(found)) == 0


def test_rows_beyond_the_first_of_a_person_are_counted() -> None:
    frame = rows()
    full = taken(pd.concat([frame, frame.sample(300, random_state=1)]))
    more = full.n - full.n_units
    assert ((more > 0) & (more < 11)).any()
    copy = shareable(full)
    more = copy.n - copy.n_units
    assert not ((more > 0) & (more < 11)).any()


def test_people_are_rows_where_few_have_several() -> None:
    """Three people have two rows in all: rows less people would say so whatever is merged."""
    frame = rows()
    full = taken(pd.concat([frame, frame.head(3)]))
    assert (full.n - full.n_units).sum() == 3
    copy = shareable(full)
    np.testing.assert_array_equal(copy.n, copy.n_units)
    assert any(x.startswith("numbers of different") for x in copy.meta["share"]["not_in_the_copy"])


def test_squares_that_tell_of_few_stay_behind(tmp_path) -> None:
    """Three people have two visits: no merging hides that, so the squares do not leave."""
    frame = rows().assign(visits=lambda f: np.where(f.index < 3, 2, f["old"]))
    full = taken(frame, outcomes=["visits", "spend"])
    copy = shareable(full)
    assert "sum(visits * visits)" not in copy.sums.table.column_names
    assert np.isnan(copy.yy[:, 0]).all()
    assert np.isfinite(copy.yy[:, 1]).all()
    assert any("squares of `visits`" in x for x in copy.meta["share"]["not_in_the_copy"])
    copy.save(tmp_path / "copy.parquet")
    again = vbc.Moments.load(tmp_path / "copy.parquet")
    design = vbc.Design(outcome="visits")
    reg = vbc.did.GroupTime(method="reg")
    pooled = [reg.fit(m.coarsen(drop=["dual"]), design).aggregate("simple") for m in (full, again)]
    np.testing.assert_allclose(pooled[0].estimate, pooled[1].estimate, rtol=1e-9)
    asked = shareable(full, without_squares=["spend", "visits"])
    assert np.isnan(asked.yy).all()
    with pytest.raises(DataError, match="`without_squares` names `hcc`"):
        shareable(full, without_squares=["hcc"])


def test_a_count_that_is_small_in_all_rows_is_an_error() -> None:
    frame = rows().assign(rare=lambda f: (f.index < 4).astype(int))
    with pytest.raises(DataError, match=r"all rows together .*`rare=1`"):
        shareable(taken(frame, outcomes=["spend", "rare"]))


def test_names_hold_codes_and_no_amounts() -> None:
    """Two values, of which one is a person's amount."""
    frame = rows().assign(paid=lambda f: np.where(f.index % 3 == 0, 448_332.26, 0.0))
    full = taken(frame, outcomes=["paid", "percent"])
    names = [f.name for f in enumerate_counts(
        full.sums, minimum=11, ranges=full.meta["ranges"]).forms]  # fmt: skip
    assert {"paid=largest", "paid=least", "percent=100", "percent=0"} <= set(names)
    copy = shareable(full)
    assert "448" not in str(copy.meta["share"])
    assert "ranges" not in copy.meta


def test_without_ranges_columns_begin_at_zero() -> None:
    """Moments whose ranges are not known: 0/1 columns and events are found by their sums."""
    full = taken(rows(), outcomes=["visits", "died", "spend"])
    plain = enumerate_counts(full.sums, minimum=11)
    by = {form.name: form.of(full.sums) for form in plain.forms}
    direct = rows().groupby(KEYS)[["visits", "died"]].sum()
    np.testing.assert_array_equal(by["events (visits)"], direct["visits"])
    np.testing.assert_array_equal(by["died=1"], direct["died"])
    bare = replace(full, meta={k: v for k, v in full.meta.items() if k != "ranges"})
    copy = shareable(bare)
    assert small_cells(as_published(rows(), copy), as_published(rows(), copy)["visits"]) == 0


NO_FORM = Form(name="", terms={}, limit=0)


def few(values: list[int], most: float, limit: int, *, inner: bool = False) -> bool:
    k = np.array(values, dtype=float)
    spread = Spread(
        steps=NO_FORM, squares=NO_FORM, weights=NO_FORM, rows=NO_FORM, most=most, inner=inner
    )
    sums = np.array([k.sum(), (k**2).sum(), len(k), len(k)]).reshape(4, 1, 1)
    cell = Few(sums=sums, spreads=(spread,), limit=limit)
    return bool(cell.exposed(np.zeros(1, dtype=np.int64), slice(None), 1)[0])


def tables(n: int, total: int, squares: int, most: int) -> set[int]:
    """How many of n whole numbers can be above 0, of all that have a sum and a sum of squares."""
    found: set[int] = set()

    def fill(left: int, s: int, q: int, top: int, positive: int) -> None:
        if s == 0 and q == 0:
            found.add(positive)
        elif left and s > 0 and q >= s:
            for k in range(1, min(top, s) + 1):
                fill(left - 1, s - k, q - k * k, k, positive + 1)

    fill(n, total, squares, most, 0)
    return found


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 4), min_size=5, max_size=9), limit=st.integers(2, 4))
def test_few_rows_behind_many_events_are_never_missed_where_the_bound_says_so(
    values: list[int], limit: int
) -> None:
    """Against all tables: what is called exposed is known to be few."""
    k = np.array(values)
    possible = tables(len(k), int(k.sum()), int((k**2).sum()), 4)
    assert int((k > 0).sum()) in possible
    zeros = {len(k) - x for x in possible}
    known = (min(possible) > 0 and max(possible) < limit) or (min(zeros) > 0 and max(zeros) < limit)
    if few(values, 4.0, limit):
        assert known


def test_one_person_with_all_visits_is_seen() -> None:
    assert few([12, *[0] * 199], np.inf, 11)
    assert not few([1] * 12 + [0] * 188, np.inf, 11)
    assert few([*[10] * 3, *[0] * 197], 10, 11)
    # all but three have a visit, some have two
    assert few([0] * 3 + [2] * 4 + [1] * 93, np.inf, 11)


@pytest.mark.parametrize("weight", [None, "months"])
def test_counts_are_those_of_the_rows(weight: str | None) -> None:
    """Every name that says what it counts, against the rows."""
    frame = rows(4000)
    frame["visits"] = np.random.default_rng(2).poisson(1, len(frame))
    frame["gap"] = frame["visits"].where(frame["race1"] == 0).astype(float)
    full = taken(
        frame, outcomes=["visits", "died", "gap"], covariates=["old", "level"], weight=weight
    )
    largest = None if weight is None else 12.0
    forms = enumerate_counts(
        full.sums, minimum=11, largest_weight=largest, ranges=full.meta["ranges"]
    ).forms
    by = {form.name: form for form in forms}
    w = frame["months"] if weight else 1
    has = frame["gap"].notna()
    rights = {
        "rows": 1 + 0 * frame["old"], "people": 1 + 0 * frame["old"], "rows where gap": has,
        "rows without gap": ~has, "old=1": w * frame["old"], "level=2": w * (frame["level"] == 2),
        "level=3": w * (frame["level"] == 3), "events (visits)": w * frame["visits"],
        "old=1, died=0": w * frame["old"] * (1 - frame["died"]),
        "old=1, events (visits)": w * frame["old"] * frame["visits"],
        "old=1 without gap": w * frame["old"] * ~has,
        "events (gap) where gap": w * frame["gap"].fillna(0),
        "second events (visits)": w * frame["visits"] * (frame["visits"] - 1) / 2,
    }  # fmt: skip
    for name, value in rights.items():
        direct = (1.0 * value).groupby([frame[k] for k in KEYS]).sum().to_numpy()
        np.testing.assert_array_equal(by[name].of(full.sums), direct, err_msg=name)
        assert by[name].limit == (
            11 * 12 if weight and "rows" not in name and name != "people" else 11
        )
    if weight:
        direct = (frame["months"] == 6).groupby([frame[k] for k in KEYS]).sum()
        np.testing.assert_array_equal(by["months=least"].of(full.sums), direct)
