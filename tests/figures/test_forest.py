"""Forest: marks equal the rows, gaps and joint tests use the joint covariance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError, DesignError
from vbceval.estimates import Estimates


def marks(fig, kind: str) -> list[float]:
    """Horizontal positions of the marks of one kind, from the top."""
    found = [
        (line.get_ydata()[0], line.get_xdata()[0], line)
        for line in fig.axes[0].get_lines()
        if line.get_label() == f"_{kind}_point"
    ]
    return [x for _, x, _ in sorted(found, key=lambda f: f[0])]


def bars(fig, kind: str) -> list[tuple[float, float]]:
    """Ends of the interval lines of one kind, from the top."""
    found = [c.get_segments()[0] for c in fig.axes[0].collections if c.get_label() == f"_{kind}"]
    return [(s[0, 0], s[1, 0]) for s in sorted(found, key=lambda s: s[0, 1])]


def texts(fig) -> list[str]:
    return [t.get_text() for t in fig.axes[0].texts]


def test_marks_and_intervals_equal_the_rows(strata: Estimates) -> None:
    fig = figures.forest(strata)
    tidy = strata.tidy(0.95)
    parts = tidy[tidy["stratum"].notna()]
    np.testing.assert_array_equal(marks(fig, "estimate"), parts["estimate"])
    np.testing.assert_array_equal(marks(fig, "overall"), [-88.0])
    np.testing.assert_allclose(bars(fig, "estimate"), parts[["conf_low", "conf_high"]])
    np.testing.assert_array_equal(fig.vbceval_data["estimate"], tidy["estimate"])
    assert fig.vbceval_data["heading"].tolist() == ["", *["Enrollment"] * 3, *["Dual"] * 2]


def test_area_is_proportional_to_precision(strata: Estimates) -> None:
    fig = figures.forest(strata.by("dual"))
    sizes = [
        line.get_markersize()
        for line in fig.axes[0].get_lines()
        if line.get_label() == "_estimate_point"
    ]
    se = strata.by("dual").tidy()["std_error"].to_numpy()
    assert (sizes[0] / sizes[1]) ** 2 == pytest.approx((se[1] / se[0]) ** 2)


def test_p_beside_a_heading_is_the_joint_test(strata: Estimates) -> None:
    fig = figures.forest(strata)
    data = fig.vbceval_data.drop_duplicates("heading").set_index("heading")["p_joint"]
    by_hand = strata.contrast(
        np.array([[0, -1, 1, 0, 0, 0], [0, -1, 0, 1, 0, 0]], dtype=float)
    ).wald()
    assert data["Enrollment"] == pytest.approx(by_hand.p_value)
    two = strata.contrast({"d": {4: 1.0, 5: -1.0}}).tidy()
    assert data["Dual"] == pytest.approx(two["p_value"].iloc[0], abs=1e-12)
    assert np.isnan(data[""])
    jama = figures.get_style("jama")
    assert figures.p_value(by_hand.p_value, jama) in texts(fig)


def test_the_joint_test_needs_the_covariance_between_strata(strata: Estimates) -> None:
    """Dropping the covariance gives another P, so the figure does use it."""
    alone = Estimates(frame=strata.frame, covariance=np.diag(np.diag(strata.vcov())))
    joint = figures.forest(strata).vbceval_data["p_joint"].iloc[-1]
    naive = figures.forest(alone).vbceval_data["p_joint"].iloc[-1]
    assert abs(joint - naive) > 0.005


def test_the_gap_row_stands_under_its_strata(strata: Estimates, gap: Estimates) -> None:
    fig = figures.forest(strata, gap=gap)
    tidy = gap.tidy(0.95).iloc[0]
    assert marks(fig, "gap") == [tidy["estimate"]]
    np.testing.assert_allclose(bars(fig, "gap"), [(tidy["conf_low"], tidy["conf_high"])])
    data = fig.vbceval_data
    assert data["kind"].tolist()[-1] == "gap"
    assert data["heading"].tolist()[-1] == "Dual"
    assert data["label"].tolist()[-1] == "Yes less no"
    assert data["p_joint"].iloc[-1] == pytest.approx(tidy["p_value"], abs=1e-12)
    assert data["p_value"].iloc[-1] == tidy["p_value"]
    said = figures.p_value(tidy["p_value"], figures.get_style("jama"))
    assert texts(fig).count(said) == 1
    assert "Hollow circles: differences between strata" in fig.vbceval_note


def test_a_gap_without_a_heading_is_refused(strata: Estimates, gap: Estimates) -> None:
    lost = gap.with_frame(gap.frame.assign(stratum="rural=yes - no"))
    with pytest.raises(DesignError, match="belongs to none of the headings Enrollment, Dual"):
        figures.forest(strata, gap=lost)


def test_a_gap_in_another_unit_is_refused(strata: Estimates, gap: Estimates) -> None:
    with pytest.raises(DesignError, match="one axis carries one unit"):
        figures.forest(strata, gap=gap.scale(1.0, unit_of_measure="percent"))


def test_posteriors_show_probabilities_and_no_p(posterior: Estimates) -> None:
    fig = figures.forest(posterior)
    expected = posterior.probability(below=0.0)
    np.testing.assert_array_equal(fig.vbceval_data["probability"], expected)
    assert "Pr(< 0)" in texts(fig)
    assert f"{expected.iloc[1]:.2f}" in texts(fig)
    assert fig.vbceval_data["p_joint"].isna().all()


def test_synthesis_rows_are_drawn_distinctly(synthesis: pd.DataFrame) -> None:
    fig = figures.forest(synthesis)
    ax = fig.axes[0]
    predictive = [c for c in ax.collections if c.get_label() == "_predictive"]
    estimates = [c for c in ax.collections if c.get_label() == "_estimate"]
    assert len(predictive) == 2
    assert predictive[0].get_linestyle() != estimates[0].get_linestyle()
    diamonds = [p for p in ax.patches if p.get_label() == "_pooled_point"]
    assert len(diamonds) == 2
    for diamond in diamonds:
        assert diamond.get_xy()[:, 0].min() == -1.8
        assert diamond.get_xy()[:, 0].max() == -0.6
    assert "(\u22123.5 to 1.0)" in texts(fig)
    note = fig.vbceval_note
    assert "95% CI (confidence) for estimates" in note
    assert "95% CrI (credible) for pooled means and predictive intervals" in note


def test_very_wide_intervals_are_cut_with_an_arrow_and_the_note_says_so(strata) -> None:
    fig = figures.forest(strata, xlim=(-300.0, 100.0))
    arrows = [x for x in fig.axes[0].get_lines() if x.get_label() == "_arrow"]
    cut = strata.tidy()
    expected = int((cut["conf_low"] < -300).sum() + (cut["conf_high"] > 100).sum())
    assert len(arrows) == expected > 0
    assert "Arrows" in fig.vbceval_note
    assert "Arrows" not in figures.forest(strata, xlim=(-2000.0, 1000.0)).vbceval_note


def test_two_levels_can_be_drawn_together(strata: Estimates) -> None:
    fig = figures.forest(strata, inner_level=0.5)
    inner = strata.tidy(0.5)
    np.testing.assert_allclose(
        sorted(bars(fig, "inner")), sorted(inner[["conf_low", "conf_high"]].to_numpy().tolist())
    )
    assert "Thick inner bars: 50% CI" in fig.vbceval_note
    with pytest.raises(DesignError, match="inner_level"):
        figures.forest(strata, inner_level=0.99)


def test_a_small_stratum_is_suppressed_with_what_would_reveal_it(strata, gap) -> None:
    counts = [6000.0, 800.0, 3000.0, 2200.0, 8.0, 5992.0]
    small = strata.with_frame(strata.frame.assign(n_people=counts, person_years=np.nan))
    fig = figures.forest(small, gap=gap, columns={"n_people": "People"})
    data = fig.vbceval_data.set_index("label")
    # the stratum itself: no mark, no estimate, no count
    assert data.loc["Yes", ["estimate", "conf_low", "n_people"]].isna().all()
    # its partner's count is the total less it; the gap would give its estimate away
    assert np.isnan(data.loc["No", "n_people"])
    assert data.loc["No", "estimate"] == -70.0
    assert data.loc["Yes less no", ["estimate", "conf_low"]].isna().all()
    assert data.loc[["Yes", "No"], "p_joint"].isna().all()
    assert data.loc["Esrd", "n_people"] == 800.0
    assert marks(fig, "gap") == []
    assert len(marks(fig, "estimate")) == 4
    shown = texts(fig)
    assert "suppressed" in shown
    assert not {"8", "5992"} & set(shown)


def test_other_keys_become_labels(strata: Estimates) -> None:
    one = strata.where([1, 2, 3])
    cohorts = one.with_frame(
        one.frame.assign(stratum=None, cohort=[2012.0, 2013.0, np.nan],
                         estimand=["att_cohort", "att_cohort", "att_overall"])
    )  # fmt: skip
    data = figures.forest(cohorts).vbceval_data
    assert data["label"].tolist() == ["2012", "2013", "Overall"]
    assert data["heading"].tolist() == ["Entry cohort", "Entry cohort", ""]
    assert data["kind"].tolist() == ["estimate", "estimate", "overall"]


def test_different_quantities_are_not_tested_for_equality(strata: Estimates) -> None:
    two = strata.by("dual")
    outcomes = two.with_frame(two.frame.assign(outcome=["inpatient", "outpatient"]))
    assert figures.forest(outcomes).vbceval_data["p_joint"].isna().all()
    assert figures.forest(two).vbceval_data["p_joint"].notna().all()


def test_rows_that_share_a_stratum_are_told_apart_by_their_estimand(strata: Estimates) -> None:
    two = strata.where([4, 4])
    two = two.with_frame(two.frame.assign(estimand=["type_mean", "predictive"]))
    labels = figures.forest(two).vbceval_data["label"].tolist()
    assert labels == ["Yes, type mean", "Yes, predictive"]


def test_estimates_can_bring_their_own_labels_and_kinds(posterior: Estimates) -> None:
    two = posterior.where([4, 4])
    named = two.frame.assign(
        heading="Bundled payments", label=["Mean", "New program"], kind=["pooled", "predictive"]
    )
    fig = figures.forest(two.with_frame(named))
    assert fig.vbceval_data["kind"].tolist() == ["pooled", "predictive"]
    assert fig.vbceval_data["probability"].tolist() == [posterior.probability(below=0.0)[4]] * 2


def test_what_cannot_be_drawn_is_refused(strata: Estimates, synthesis: pd.DataFrame) -> None:
    units = strata.with_frame(strata.frame.assign(unit_of_measure=["USD", "percent"] * 3))
    with pytest.raises(DesignError, match="2 values of `unit_of_measure`"):
        figures.forest(units)
    with pytest.raises(DataError, match="`columns` names `n_acos`"):
        figures.forest(strata, columns={"n_acos": "ACOs"})
    with pytest.raises(DataError, match="`kind` summary"):
        figures.forest(synthesis.assign(kind="summary"))
    with pytest.raises(DataError, match="no rows"):
        figures.forest(synthesis.iloc[:0])
    with pytest.raises(DataError, match="several levels"):
        figures.forest(synthesis.assign(level=[0.9] * 5 + [0.95] * 8))
