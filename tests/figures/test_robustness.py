"""Curves, decompositions and leave-one-out: plotted values are the result's, nothing is clipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from vbceval import did, figures, sensitivity
from vbceval.core.errors import DesignError
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.panel import Panel

from .test_every_figure import outside, overlapping, printed

pytestmark = pytest.mark.filterwarnings("error")
STYLES = ("jama", "economics", "cms_report")


def lines(fig: Figure, label: str, panel: int = 0) -> list[np.ndarray]:
    return [x.get_xydata() for x in fig.axes[panel].lines if x.get_label() == label]


def bars(fig: Figure, label: str) -> np.ndarray:
    """Position, lower and upper end of vertical lines, in order of position."""
    found = [
        (seg[0, 0], *sorted(seg[:, 1]))
        for c in fig.axes[0].collections
        if isinstance(c, LineCollection) and c.get_label() == label
        for seg in c.get_segments()
    ]
    return np.array(sorted(found))


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in printed(fig)]


def many(size: int, **choices: object) -> sensitivity.SpecificationCurve:
    rng = np.random.default_rng(3)
    psi = (2 * rng.normal(size=(50, 1)) + rng.normal(size=(50, size))) * 2
    parts = {
        f"s{j}": Estimates(
            frame=pd.DataFrame([{"estimand": "att_simple", "estimate": rng.normal(-60, 20)}]),
            psi=psi[:, [j]], clusters=pd.RangeIndex(50),
        )
        for j in range(size)
    }  # fmt: skip
    table = pd.DataFrame(choices, index=list(parts)) if choices else None
    return sensitivity.specification_curve(parts, choices=table)


# ------------------------------------------------------------------- specification curve


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_curve_is_the_tidy_table(specifications, level: float) -> None:
    fig = figures.specification_curve(specifications, level=level)
    table = specifications.tidy(level)
    points = next(
        x for x in fig.axes[0].lines if str(x.get_label()) == f"Estimate, {100 * level:g}% CI"
    )
    np.testing.assert_allclose(points.get_ydata(), table["estimate"])
    drawn = bars(fig, "_interval")
    np.testing.assert_allclose(drawn[:, 1:], table[["conf_low", "conf_high"]])
    band = next(c for c in fig.axes[0].collections if str(c.get_label()).startswith("Joint"))
    corners = band.get_paths()[0].vertices
    for rank, row in enumerate(table.itertuples(), start=1):
        column = corners[(corners[:, 0] > rank - 0.6) & (corners[:, 0] < rank + 0.6), 1]
        for end in (row.band_low, row.band_high):
            assert np.abs(column - end).min() < 1e-9
    data = figures.record(fig).data
    assert data["run"].tolist() == table["run"].tolist()
    np.testing.assert_allclose(data["band_high"], table["band_high"])
    assert not data["main"].any()
    # counts of specifications differ by those left out
    assert not [c for c in data.columns if c.startswith("n_")]


def test_dots_are_the_choices(specifications) -> None:
    fig = figures.specification_curve(specifications, main="s3")
    below = fig.axes[1]
    names = [t.get_text() for t in below.get_yticklabels()]
    bold = [t.get_text() for t in below.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["Comparison", "Adjustment", "Without 2020"]
    assert names[-3:] == ["Without 2020", "No", "Yes"]
    place = dict(zip(names, below.get_yticks(), strict=True))
    dots = [xy for xy in lines(fig, "_chosen", 1) if len(xy)]
    found = {(x, y) for xy in dots for x, y in xy}
    for rank, row in enumerate(specifications.tidy().itertuples(), start=1):
        assert ((rank, place["Yes"]) in found) == row.without_2020
        assert ((rank, place["Never treated"]) in found) == (row.comparison == "never treated")
        # a missing value of a choice has no dot
        assert ((rank, place["Risk score"]) in found) == (row.adjustment == "risk score")
    assert len(found) == 12 + 8 + 12
    rank = specifications.tidy()["run"].tolist().index("s3") + 1
    assert [xy[0, 0] for xy in lines(fig, "Main")] == [rank]
    assert figures.record(fig).data.set_index("run")["main"].loc["s3"]
    with pytest.raises(DesignError, match="no specification 's77' to mark"):
        figures.specification_curve(specifications, main="s77")


def test_the_note_has_the_tests_of_the_curve(specifications) -> None:
    note = figures.record(figures.specification_curve(specifications)).note
    tests = specifications.tests().set_index("statement")
    row = tests.loc["median effect"]
    assert f"−${-row['value']:.0f} (95% CI −${-row['conf_low']:.0f} to " in note
    clear = round(12 * tests.loc["significant, same sign", "value"])
    assert f"on the side of the median: {clear} of 12" in note
    assert "simultaneous over all 12 specifications" in note


def test_choices_of_many_kinds_and_lengths() -> None:
    rng = np.random.default_rng(0)
    curve = many(
        70,
        estimate=rng.permutation(np.resize(["a", "b"], 70)),  # the name of a column of results
        trim=rng.permutation(np.resize([0.1, -0.5], 70)),
        order=pd.Categorical(np.resize(["later", "earlier"], 70), ["later", "earlier"]),
        covariates=[("hcc", "rural") if j % 2 else () for j in range(70)],
        same="everywhere",
    )
    fig = figures.specification_curve(curve)
    names = [t.get_text() for t in fig.axes[1].get_yticklabels()]
    assert names == ["Estimate", "A", "B", "Trim", "−0.5", "0.1", "Order", "Later", "Earlier",
                     "Covariates", "Hcc, rural", "None"]  # fmt: skip
    assert outside(fig) == []
    assert overlapping(fig) == []
    chosen = [
        c for c in fig.axes[1].collections if c.get_label() == "_chosen" and len(c.get_segments())
    ]
    assert [len(c.get_segments()) for c in chosen] == [35] * 8
    data = figures.record(fig).data
    assert pd.api.types.is_float_dtype(data["estimate"])
    assert set(data["choice_estimate"]) == {"a", "b"}
    with pytest.raises(DesignError, match="71 rows of choices do not fit"):
        figures.specification_curve(many(70))


def test_a_curve_without_named_choices_and_one_without_differences() -> None:
    fig = figures.specification_curve(many(3))
    names = [t.get_text() for t in fig.axes[1].get_yticklabels()]
    assert names == ["Specification", *(n.upper() for n in many(3).tidy()["run"])]
    alone = figures.specification_curve(many(3, sample=["all"] * 3))
    assert len(alone.axes) == 1
    assert "what each specification chose" not in figures.record(alone).note
    for drawn in (fig, alone):
        assert outside(drawn) == []
        assert overlapping(drawn) == []


# ------------------------------------------------------------------- decomposition


def test_marks_are_comparisons_and_lines_their_means(parts) -> None:
    fig = figures.decomposition(parts)
    drawn = np.vstack(lines(fig, "_comparison"))
    table = parts.comparisons
    np.testing.assert_allclose(drawn, table[["weight", "estimate"]])
    means = [xy[0, 1] for xy in lines(fig, "_mean")]
    np.testing.assert_allclose(means, parts.summary()["estimate"])
    marks = [x for x in fig.axes[0].lines if x.get_label() == "_comparison"]
    assert len({x.get_marker() for x in marks}) == len({to_hex(x.get_color()) for x in marks}) == 4
    solid = [x for x in fig.axes[0].lines if str(x.get_label()).startswith("Coefficient ")]
    assert solid[0].get_ydata()[0] == parts.estimate
    record = figures.record(fig)
    assert record.data["weight"].sum() == pytest.approx(1.0)
    assert (record.data["weight"] * record.data["estimate"]).sum() == pytest.approx(parts.estimate)
    assert set(record.data["comparison_cohort"]) == {
        "never treated", "always treated", "2013", "2015"
    }  # fmt: skip
    used = parts.summary().set_index("comparison")["weight"]
    share = used["treated_vs_always"] + used["later_vs_earlier"]
    assert f"treated already; their weight is {share:.2f}" in record.note
    # without the design nothing is known of the unit
    assert "unit not stated" in " ".join(fig.axes[0].get_ylabel().split())
    assert record.level is None


def test_kinds_without_weight_are_said_and_not_drawn() -> None:
    table = pd.DataFrame(
        {"comparison": ["between", "within"], "cohort": np.nan, "comparison_cohort": np.nan,
         "weight": [0.9996, 0.0004], "estimate": [-80.0, 1333.0], "n_units": 30}
    )  # fmt: skip
    small = sensitivity.Decomposition(comparisons=table, estimate=-79.4)
    fig = figures.decomposition(small, design=Design(outcome="spending", covariates=["hcc"]))
    assert len(lines(fig, "_comparison")) == 1
    assert fig.axes[0].get_ylim()[1] < 100
    record = figures.record(fig)
    assert "Not drawn, of weight below 0.005: within cohorts." in record.note
    assert "Adjusted for hcc" in record.note
    # the decomposition makes its own comparisons, whatever the design names
    assert "Comparison: " not in record.note
    assert len(record.data) == 2
    none = sensitivity.Decomposition(
        comparisons=table.assign(weight=[1.0, 0.0], estimate=[-80.0, 0.0]), estimate=-80.0
    )
    assert np.isnan(figures.record(figures.decomposition(none)).data["estimate"].iloc[1])


# ------------------------------------------------------------------- leave one out


def along_the_page(runs: sensitivity.LeaveOneOut, times: int = 2) -> sensitivity.LeaveOneOut:
    """Repeat the runs under other names: more groups than have a row each."""
    more = [
        runs.estimates.assign(left_out=runs.estimates["left_out"] + suffix)
        for suffix in ["", *"bcdefghi"][:times]
    ]
    return replace(runs, estimates=pd.concat(more, ignore_index=True))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("times", [1, 2])
def test_runs_are_sorted_beside_the_whole(left_out, style: str, times: int) -> None:
    runs = along_the_page(left_out, times)
    fig = figures.leave_one_out(runs, style=style)
    data = figures.record(fig).data
    axis = 0 if times == 1 else 1  # few groups have a row each
    assert data["estimate"].is_monotonic_increasing
    table = runs.estimates.set_index("left_out")
    np.testing.assert_allclose(data["estimate"], table["estimate"].loc[data["left_out"]])
    np.testing.assert_allclose(lines(fig, "Without one")[0][:, axis], data["estimate"])
    level = figures.get_style(style).level
    full = runs.full.tidy(level).iloc[0]
    np.testing.assert_allclose(lines(fig, "Estimate with all")[0][:, axis], full["estimate"])
    band = next(p for p in fig.axes[0].patches if "with all" in str(p.get_label()))
    assert band.get_label() == f"{100 * level:g}% CI with all"
    corners = band.get_path().transformed(band.get_patch_transform()).vertices
    assert sorted(set(corners[:, axis])) == pytest.approx([full["conf_low"], full["conf_high"]])
    own = table["conf_low"].loc[data["left_out"]].to_numpy()
    if level == 0.95:  # that of the runs
        np.testing.assert_allclose(data["conf_low"], own)
    else:
        assert (data["conf_low"].to_numpy() > own).all()
    # counts less those of the whole are sizes of groups
    assert not [c for c in data.columns if c.startswith("n_")]


def test_the_most_influential_are_named(left_out) -> None:
    runs = along_the_page(left_out)
    fig = figures.leave_one_out(runs, labelled=3)
    most = runs.tidy()["left_out"].head(3).tolist()
    names = set(runs.estimates["left_out"])
    assert {t for t in texts(fig) if t in names} == set(most)
    assert f"without {most[0]}" in figures.record(fig).note
    assert {t for t in texts(figures.leave_one_out(runs, labelled=0)) if t in names} == set()
    with pytest.raises(DesignError, match="between 0 and 8"):
        figures.leave_one_out(runs, labelled=9)


def test_few_groups_are_all_named_with_their_intervals(left_out) -> None:
    fig = figures.leave_one_out(left_out, labelled=3)
    ticks = fig.axes[0].get_yticklabels()
    data = figures.record(fig).data
    assert [t.get_text() for t in ticks] == data["left_out"].tolist()
    bold = {t.get_text() for t in ticks if t.get_fontweight() == "bold"}
    assert bold == set(left_out.tidy()["left_out"].head(3))
    found = next(c for c in fig.axes[0].collections if c.get_label() == "_interval")
    ends = np.array([seg[:, 0] for seg in found.get_segments()])
    np.testing.assert_allclose(ends, data[["conf_low", "conf_high"]])
    assert "Bold: the 3 that change the estimate most." in figures.record(fig).note


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("times", [1, 2])
def test_many_and_long_names_fit(left_out, times: int, style: str) -> None:
    runs = along_the_page(left_out, times)
    names = {n: f"A rather long name of organization {n}" for n in runs.estimates["left_out"]}
    fig = figures.leave_one_out(runs, labelled=8, labels=names, style=style)
    assert outside(fig) == []
    assert overlapping(fig) == []


@pytest.mark.parametrize("style", STYLES)
def test_two_and_three_groups_fit(staggered: Panel, style: str) -> None:
    spending = Design(outcome="spending", unit_of_measure="USD per person-year")
    runs = sensitivity.leave_one_out(did.TWFE().fit, staggered, spending, by="cohort")
    for kept in (runs, replace(runs, estimates=runs.estimates.head(2))):
        fig = figures.leave_one_out(kept, style=style)
        assert outside(fig) == []
        assert overlapping(fig) == []


def test_one_estimate_of_several_is_chosen(staggered: Panel) -> None:
    spending = Design(outcome="spending", unit_of_measure="USD per person-year")

    def both(panel: Panel, design: Design) -> Estimates:
        return did.GroupTime().fit(panel, design).aggregate("event_time").where(event_time=[0, 1])

    runs = sensitivity.leave_one_out(both, staggered, spending, by="cohort")
    with pytest.raises(DesignError, match="each run has 2 estimates"):
        figures.leave_one_out(runs)
    with pytest.raises(DesignError, match="`row` is 2"):
        figures.leave_one_out(runs, row=2)
    data = figures.record(figures.leave_one_out(runs, row=1)).data
    own = runs.estimates[runs.estimates["event_time"] == 1]
    assert sorted(own["estimate"]) == data["estimate"].tolist()
    assert data["full_estimate"].iloc[0] == runs.full.estimate[1]


def test_runs_that_failed_are_counted(left_out) -> None:
    failed = pd.DataFrame({"left_out": ["A98", "A99"], "reason": "no comparison"})
    note = figures.record(figures.leave_one_out(replace(left_out, failed=failed))).note
    assert "Not drawn: 2 runs that cannot be estimated without one aco." in note
