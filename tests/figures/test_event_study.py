"""Event study: what is plotted is the frame, and the reference is a bare point at zero."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates, Shares, stack


def points(ax, label: str) -> dict[float, float]:
    """Plotted marks with a label, x to y."""
    found = [line for line in ax.get_lines() if line.get_label() == label]
    xy = np.concatenate([line.get_xydata() for line in found]) if found else np.zeros((0, 2))
    return {float(x): float(y) for x, y in xy}


def segments(ax, label: str) -> dict[float, tuple[float, float]]:
    """Plotted vertical bars with a label, x to (low, high)."""
    out = {}
    for collection in ax.collections:
        if collection.get_label() == label:
            for (x, low), (_, high) in collection.get_segments():
                out[float(x)] = (float(low), float(high))
    return out


def test_plotted_values_equal_the_tidy_frame(by_event_time) -> None:
    est = by_event_time()
    tidy = est.tidy(0.95).set_index("event_time")
    fig = figures.event_study(est)
    ax = fig.axes[0]
    marks = points(ax, "_estimates")
    assert set(marks) == set(tidy.index) - {-1.0}
    for e, y in marks.items():
        assert y == tidy.loc[e, "estimate"]
    for name, label in (("conf", "_interval"), ("band", "_band")):
        drawn = segments(ax, label)
        assert set(drawn) == set(tidy.index) - {-1.0}
        for e, ends in drawn.items():
            np.testing.assert_allclose(ends, tidy.loc[e, [f"{name}_low", f"{name}_high"]])
    data = fig.vbceval_data.set_index("event_time")
    np.testing.assert_array_equal(data["estimate"], tidy["estimate"])


def test_the_reference_is_a_hollow_point_at_zero_without_interval(by_event_time) -> None:
    fig = figures.event_study(by_event_time())
    ax = fig.axes[0]
    assert points(ax, "_reference") == {-1.0: 0.0}
    assert -1.0 not in segments(ax, "_interval")
    assert -1.0 not in segments(ax, "_band")
    hollow = next(line for line in ax.get_lines() if line.get_label() == "_reference")
    assert hollow.get_markerfacecolor() == "white"
    row = fig.vbceval_data.query("event_time == -1").iloc[0]
    assert row["reference"]
    assert row[["std_error", "conf_low", "band_low"]].isna().all()
    assert "Reference period: \u22121" in fig.vbceval_note


def test_an_estimate_of_zero_with_an_interval_is_not_a_reference(by_event_time) -> None:
    table = by_event_time().tidy(0.95)
    table.loc[table["event_time"] == 0, "estimate"] = 0.0
    data = figures.event_study(table, level=0.95).vbceval_data
    assert data.loc[data["reference"], "event_time"].tolist() == [-1.0]


def test_varying_base_has_no_reference_and_says_so(by_event_time) -> None:
    from dataclasses import replace

    est = by_event_time()
    est = replace(
        est.where(est.frame["event_time"].to_numpy() != -1),
        meta={**est.meta, "design": {"base_period": "varying"}},
    )
    fig = figures.event_study(est)
    assert not fig.vbceval_data["reference"].any()
    assert "No reference period is drawn" in fig.vbceval_note


def test_lines_mark_zero_and_the_start(by_event_time) -> None:
    ax = figures.event_study(by_event_time()).axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(np.asarray(lines["_zero"].get_ydata())) == {0.0}
    assert set(np.asarray(lines["_start"].get_xdata())) == {-0.5}
    assert lines["_start"].get_linestyle() == "--"


def test_the_strip_shows_who_contributes(by_event_time) -> None:
    fig = figures.event_study(by_event_time(), count_label="Treated ACOs")
    below = fig.axes[1]
    shown = {t.get_position()[0]: t.get_text() for t in below.texts if t.get_text().isdigit()}
    assert shown == {float(e): str(301 - 20 * max(e, 0)) for e in range(-4, 4)}
    assert "Treated ACOs" in [t.get_text() for t in below.texts]


def test_without_counts_there_is_no_strip(by_event_time) -> None:
    est = by_event_time()
    bare = est.with_frame(est.frame.assign(n_treated=np.nan, n_clusters=np.nan, n_units=np.nan))
    assert len(figures.event_study(bare).axes) == 1


def test_bands_can_be_left_out_and_the_note_says_pointwise(by_event_time) -> None:
    fig = figures.event_study(by_event_time(), bands=False)
    assert segments(fig.axes[0], "_band") == {}
    assert "simultaneous" not in fig.vbceval_note
    assert "Bars: 95% CI, pointwise" in fig.vbceval_note
    assert "simultaneous over all event times" in figures.event_study(by_event_time()).vbceval_note


def test_the_pretrend_test_is_the_joint_one(by_event_time) -> None:
    est = by_event_time()
    test = est.wald("event_time < 0")
    assert test.restrictions == 3
    said = figures.p_statement(test.p_value, figures.get_style("jama"))
    note = figures.event_study(est).vbceval_note
    assert f"Test that the 3 effects before entry are zero: {said}." in note


def test_a_window_drops_event_times(by_event_time) -> None:
    fig = figures.event_study(by_event_time(), window=(-2, 1))
    assert fig.vbceval_data["event_time"].tolist() == [-2.0, -1.0, 0.0, 1.0]
    with pytest.raises(DesignError, match="window"):
        figures.event_study(by_event_time(), window=(7, 9))


def test_strata_are_drawn_beside_each_other(by_event_time) -> None:
    both = stack([by_event_time("dual=yes", 1), by_event_time("dual=no", 2)])
    fig = figures.event_study(both, labels={"dual": "dual status", "yes": "dual", "no": "not"})
    names = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    assert names == ["Dual status: dual", "Dual status: not"]
    places = [sorted(points(fig.axes[0], name)) for name in names]
    assert not set(places[0]) & set(places[1])
    assert fig.vbceval_note.count("before entry are zero") == 2


def test_small_counts_leave_a_gap(by_event_time) -> None:
    est = by_event_time()
    counts = np.where(est.frame["event_time"] == 2, 7.0, 400.0)
    fig = figures.event_study(est.with_frame(est.frame.assign(n_people=counts)), count="n_people")
    ax = fig.axes[0]
    finite = {x for x, y in points(ax, "_estimates").items() if np.isfinite(y)}
    assert 2.0 not in finite
    assert 2.0 not in segments(ax, "_interval")
    assert 3.0 in finite
    texts = [t.get_text() for t in fig.axes[1].texts]
    assert "7" not in texts
    row = fig.vbceval_data.query("event_time == 2").iloc[0]
    assert row["suppressed"]
    assert row[["estimate", "conf_low", "band_high", "n_people", "n"]].isna().all()
    assert "suppressed" in fig.vbceval_note


def test_counts_of_organizations_are_shown_however_small(by_event_time) -> None:
    est = by_event_time()
    fig = figures.event_study(est.with_frame(est.frame.assign(n_treated=3.0)))
    assert "3" in [t.get_text() for t in fig.axes[1].texts]
    assert not fig.vbceval_data["suppressed"].any()


def test_group_time_effects_are_averaged_by_event_time() -> None:
    rng = np.random.default_rng(0)
    cells = [(g, t) for g in (2014.0, 2015.0) for t in (2012.0, 2013.0, 2014.0, 2015.0)]
    frame = pd.DataFrame(cells, columns=["cohort", "period"])
    frame["event_time"] = frame["period"] - frame["cohort"]
    frame = frame.assign(estimand="att_group_time", outcome="spending", unit_of_measure="USD",
                         estimate=rng.normal(size=len(frame)))  # fmt: skip
    est = Estimates(
        frame=frame,
        psi=rng.normal(size=(30, len(frame))),
        clusters=pd.RangeIndex(30),
        shares=Shares(value=np.ones(len(frame))),
    )
    data = figures.event_study(est).vbceval_data
    expected = frame.groupby("event_time")["estimate"].mean()
    np.testing.assert_allclose(data.set_index("event_time")["estimate"], expected)


def test_tables_must_say_their_level(by_event_time) -> None:
    table = by_event_time().tidy(0.95)
    with pytest.raises(DataError, match="does not say their level"):
        figures.event_study(table)
    with pytest.raises(DataError, match=r"says 0\.95, but `level=0\.9`"):
        figures.event_study(table.assign(level=0.95), level=0.9)
    assert "95% CI" in figures.event_study(table.assign(level=0.95)).vbceval_note


def test_what_cannot_be_drawn_is_refused(by_event_time, strata) -> None:
    est = by_event_time()
    with pytest.raises(DesignError, match="no `event_time`"):
        figures.event_study(strata)
    with pytest.raises(DataError, match="no column `event_time`"):
        figures.event_study(pd.DataFrame({"estimate": [1.0]}))
    outcomes = est.with_frame(est.frame.assign(outcome=["a", "b"] * 4))
    with pytest.raises(DesignError, match="2 values of `outcome`"):
        figures.event_study(outcomes)
    with pytest.raises(DesignError, match="share series and event time"):
        figures.event_study(est.where(np.r_[np.arange(8), 3]))
    with pytest.raises(DataError, match="no column `n_acos`"):
        figures.event_study(est, count="n_acos")
