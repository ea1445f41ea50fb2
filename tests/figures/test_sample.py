"""Cohort sizes and sample flow: counts drawn, small ones merged or absent."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError
from vbceval.panel import Panel


def texts(fig) -> str:
    return " | ".join(t.get_text() for ax in fig.axes for t in ax.texts)


def test_bars_equal_the_counts(cohorts: pd.DataFrame) -> None:
    fig = figures.cohort_sizes(cohorts)
    heights = [[p.get_height() for p in ax.patches] for ax in fig.axes]
    np.testing.assert_allclose(heights[0], cohorts["n_organizations"])
    np.testing.assert_allclose(heights[1], cohorts["person_years"] / 1000)
    assert fig.axes[1].get_ylabel() == "Person years, thousands"
    assert fig.axes[0].patches[-1].get_hatch()
    assert not fig.axes[0].patches[0].get_hatch()


def test_a_small_cohort_is_absent_with_its_complement(cohorts: pd.DataFrame) -> None:
    small = cohorts.assign(person_years=[1.9e6, 7.0, 1.2e6, 7.1e5, 9.1e5])
    fig = figures.cohort_sizes(small)
    assert len(fig.axes[1].patches) == 3
    data = fig.vbceval_data.set_index("cohort")
    assert np.isnan(data.loc[2013, "person_years"])
    # alone, it would be the total less the others
    assert np.isnan(data.loc[2015, "person_years"])
    assert data.loc[2013, "n_organizations"] == 106
    assert texts(fig).count("suppressed") == 2
    assert "1 to 10 people" in fig.vbceval_note


def test_small_numbers_of_organizations_are_shown(cohorts: pd.DataFrame) -> None:
    fig = figures.cohort_sizes(cohorts[["cohort"]].assign(n_organizations=[3, 4, 5, 6, 7]))
    assert [p.get_height() for p in fig.axes[0].patches] == [3, 4, 5, 6, 7]


def test_cohort_table_is_checked(cohorts: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="repeat a cohort"):
        figures.cohort_sizes(pd.concat([cohorts, cohorts.iloc[:1]]))
    with pytest.raises(DataError, match="no column `n_organizations`"):
        figures.cohort_sizes(cohorts.drop(columns="n_organizations"))
    with pytest.raises(DataError, match="`people` names `n_ab`"):
        figures.cohort_sizes(cohorts, people=("n_ab",))


def test_flow_prints_what_is_left_and_taken_out(flow: pd.DataFrame) -> None:
    fig = figures.sample_flow(flow, counts={"acos": "ACOs", "rows": "ACO-years"})
    shown = texts(fig)
    for words in ("548 ACOs, 8712 ACO-years", "Excluded: 7 ACOs, 112 ACO-years", "301 ACOs"):
        assert words in shown
    data = fig.vbceval_data
    np.testing.assert_array_equal(data["excluded_acos"][1:3], [7, 89])
    assert data["arm"].tolist()[-2:] == ["treated", "comparison"]


def test_a_step_that_takes_out_few_people_is_merged() -> None:
    steps = pd.DataFrame(
        {"step": ["All", "Valid", "Alive", "Enrolled", "Sample"],
         "n_stays": [9000, 8000, 7996, 7000, 6993]}
    )  # fmt: skip
    fig = figures.sample_flow(steps)
    data = fig.vbceval_data
    assert data["step"].tolist() == ["All", "Valid", "Alive; Enrolled; Sample"]
    assert data["n_stays"].tolist() == [9000, 8000, 6993]
    removed = data["excluded_n_stays"].dropna()
    assert (removed > 10).all()
    assert "2 steps were merged" in fig.vbceval_note
    for hidden in ("7996", "7000", "Excluded: 4", "Excluded: 7 "):
        assert hidden not in texts(fig)


def test_a_first_step_that_takes_out_few_people_is_merged() -> None:
    steps = pd.DataFrame({"step": ["All", "Valid"], "n_people": [500, 495]})
    data = figures.sample_flow(steps).vbceval_data
    assert data["step"].tolist() == ["All; Valid"]
    assert data["n_people"].tolist() == [495]


def test_one_small_arm_hides_both() -> None:
    steps = pd.DataFrame(
        {"step": ["Sample", "Treated", "Comparison"], "n_people": [900, 6, 894],
         "arm": [None, "treated", "comparison"]}
    )  # fmt: skip
    fig = figures.sample_flow(steps)
    assert fig.vbceval_data["n_people"].isna().tolist() == [False, True, True]
    assert "894" not in texts(fig)


def test_organizations_are_not_merged() -> None:
    steps = pd.DataFrame({"step": ["All", "Linked"], "acos": [548, 541]})
    assert len(figures.sample_flow(steps).vbceval_data) == 2
    assert len(figures.sample_flow(steps, people=("acos",)).vbceval_data) == 1


def test_the_attrition_of_a_panel_can_be_drawn() -> None:
    rows = [(f"A{i}", t, 100.0 * i, 2014.0 if i < 3 else np.nan) for i in range(6) for t in (1, 2)]
    frame = pd.DataFrame(rows, columns=["aco", "year", "spend", "entry"]).assign(
        year=lambda d: 2012 + d["year"]
    )
    panel = Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    data = figures.sample_flow(panel.attrition).vbceval_data
    assert data["step"].tolist() == [str(s) for s in panel.attrition["step"]]


def test_flow_table_is_checked(flow: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="rises at step 'b'"):
        figures.sample_flow(pd.DataFrame({"step": ["a", "b"], "acos": [1, 2]}))
    with pytest.raises(DataError, match="no numeric column"):
        figures.sample_flow(flow[["step"]])
    with pytest.raises(DataError, match="`arm` has control"):
        figures.sample_flow(flow.assign(arm=[None, None, None, "control", None]))
