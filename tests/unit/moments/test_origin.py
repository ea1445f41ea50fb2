"""Moments that are added: what is known of their columns, and what a shared copy says of itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError


def rows(n: int = 6000, small: int = 0) -> pd.DataFrame:
    """Ten providers in four quarters, some of which can be small."""
    rng = np.random.default_rng(1)
    size = np.where(np.arange(10) < small, 0.1, 1.0)
    provider = rng.choice(10, n, p=size / size.sum())
    return pd.DataFrame({
        "person": np.arange(n), "provider": np.array([f"P{i}" for i in range(10)])[provider],
        "quarter": rng.integers(1, 5, n), "entry": np.where(provider % 2 == 0, 3.0, np.nan),
        "dual": np.where(rng.random(n) < 0.4, "yes", "no"),
        "spend": np.round(np.exp(rng.normal(7, 1, n)), 2), "died": (rng.random(n) < 0.4) * 1,
    })  # fmt: skip


def taken(frame: pd.DataFrame, **options: object) -> vbc.Moments:
    given = {
        "unit": "person", "cluster": "provider", "period": "quarter", "cohort": "entry",
        "strata": ["dual"], "outcomes": ["spend"], **options,
    }  # fmt: skip
    with vbc.connect("duckdb", threads=1) as engine:
        return vbc.Moments.from_table(frame, engine=engine, **given)


def drops(frame: pd.DataFrame, **options: object) -> list[vbc.Moments]:
    early = frame["quarter"] <= 2
    return [taken(frame[x], **options) for x in (early, ~early)]


def test_ranges_are_those_of_all_drops() -> None:
    """The largest weight of the second drop decides how many deaths a weighted sum can hide."""
    frame = rows().assign(months=lambda f: np.where(f["quarter"] <= 2, 1, 12))
    one, two = drops(frame, outcomes=["died"], weight="months")
    both = one + two
    assert both.meta["ranges"]["months"] == [1, 12]
    assert (two + one).meta["ranges"] == both.meta["ranges"]
    copy = both.shareable(margins=[])
    ones = copy.w * copy.y_mean[:, 0]
    assert ones.min() >= 11 * 12 - 1e-6


def test_rows_left_out_add_up() -> None:
    frame = rows().assign(hcc=lambda f: np.where(f.index % 50 == 0, np.nan, 1.5 + f.index % 3))
    one, two = drops(frame, covariates=["hcc"])
    assert (one + two).meta["rows_left_out"] == int(frame["hcc"].isna().sum())
    few = frame.assign(hcc=lambda f: f["hcc"].where(f["quarter"] > 2, 1.5))
    few.loc[few.index[few["quarter"] == 1][:3], "hcc"] = np.nan
    one, two = drops(few, covariates=["hcc"])
    assert one.meta["rows_left_out"] is None
    assert (one + two).meta["rows_left_out"] is None


def test_fewer_rows_than_the_minimum_left_out_are_not_told() -> None:
    frame = rows().assign(hcc=1.5)
    frame.loc[:14, "hcc"] = np.nan
    frame.loc[15:3000, "hcc"] = 2.5
    full = taken(frame, covariates=["hcc"])
    assert full.meta["rows_left_out"] == 15
    assert full.shareable().meta["rows_left_out"] == 15
    assert full.shareable(minimum=20).meta["rows_left_out"] is None


def test_two_copies_keep_both_reports(tmp_path) -> None:
    frame = rows(12_000)
    one, two = (m.shareable(margins=[]) for m in drops(frame))
    both = one + two
    report = both.meta["share"]
    assert [part["audit"] for part in report["parts"]] == [
        x.meta["share"]["audit"] for x in (one, two)
    ]
    assert len((both + one).meta["share"]["parts"]) == 3
    # and the sum can be what was shared before
    both.save(tmp_path / "both.parquet")
    again = taken(frame).shareable(margins=[], published=[tmp_path / "both.parquet"])
    assert again.meta["share"]["files_shared_before"] == 1
    design = vbc.Design(outcome="spend")
    fit = [vbc.did.GroupTime(method="reg").fit(m, design).estimate for m in (both, taken(frame))]
    np.testing.assert_allclose(fit[0], fit[1], rtol=1e-9)


def test_a_copy_and_its_source_are_not_mixed() -> None:
    """The sum would say that it may leave."""
    one, two = drops(rows(3000, small=4))
    copy = one.shareable(margins=[])
    for pair in ((copy, two), (two, copy)):
        with pytest.raises(DataError, match="one of these moments is a shared copy"):
            pair[0] + pair[1]


def test_copies_that_merge_other_organizations_are_not_added() -> None:
    frame = rows(3000, small=4)
    late = frame["quarter"] > 2
    # P1 is small in the first drop only
    more = frame[late].assign(provider="P1", entry=np.nan, person=-1 - frame.index[late])
    one, two = (m.shareable(margins=[]) for m in drops(pd.concat([frame, more])))
    assert one.meta["share"]["clusters"] != two.meta["share"]["clusters"]
    with pytest.raises(DataError, match="organizations are merged in another way"):
        one + two


def test_copies_that_merge_other_strata_are_not_added() -> None:
    frame = rows(8000)
    rare = (frame["provider"] == "P1") & (frame["quarter"] <= 2) & (frame["dual"] == "yes")
    one, two = (m.shareable(margins=[]) for m in drops(frame[~rare | (frame.index % 30 == 0)]))
    with pytest.raises(DataError, match="`dual` is merged in one and not in the other for 1 org"):
        one + two
    both = one.coarsen(drop=["dual"]) + two.coarsen(drop=["dual"])
    assert both.n.sum() == one.n.sum() + two.n.sum()


def test_labels_of_merged_organizations_are_text() -> None:
    frame = rows(3000, small=4).assign(provider=lambda f: f["provider"].str[1:].astype(int))
    first = taken(frame[frame["quarter"] <= 2]).shareable(margins=[])
    plain = taken(frame[(frame["quarter"] > 2) & (frame["provider"] > 3)]).shareable(margins=[])
    with pytest.raises(DataError, match="`provider` is of another type"):
        first + plain


def test_the_report_does_not_tell_which_cells_are_empty() -> None:
    """Two providers that differ in whether a merged cell is empty have one report."""
    frame = rows(4000)
    chosen = (frame["provider"] == "P1") & (frame["dual"] == "yes")
    none = frame[~chosen | (frame["quarter"] == 1)]
    few = frame[~chosen | (frame["quarter"] == 1) | (frame.groupby("quarter").cumcount() < 40)]
    keep = chosen & (frame["quarter"] == 1)
    reports = []
    for part in (none, few):
        # four people in the first quarter, so that the strata of P1 are merged in both
        part = part.drop(index=frame.index[keep][4:])
        reports.append(taken(part).shareable(margins=[]).meta["share"])
    assert reports[0]["cells"] == reports[1]["cells"]
    assert "source" not in reports[0]["cells"]
    assert reports[0]["clusters_with_merged_strata"] == 1


def test_description_shows_no_unit() -> None:
    """Units of moments of rows may be people: a print reaches logs."""
    rows = pd.DataFrame(
        {"person": ["p-1044", "p-2081", "p-7"] * 2, "year": [2014] * 3 + [2015] * 3, "age": 70.5}
    ).assign(entry=np.nan, spend=np.arange(6.0) + 0.125)
    panel = vbc.Panel.from_frame(rows, unit="person", period="year", cohort="entry")
    made = vbc.Moments.from_panel(panel, outcomes=["spend"], covariates=["age"])
    assert repr(made) == (
        "Moments(6 cells by `person`, `year`; outcomes `spend`, covariates `age`; "
        "clusters `person`)"
    )
    few = vbc.Panel.from_frame(rows, unit="person", period="year", cohort="entry", people=True)
    shown = repr(vbc.Moments.from_panel(few, outcomes=["spend"]))
    assert shown.startswith("Moments(fewer than 11 cells by")
