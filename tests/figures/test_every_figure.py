"""What holds for every figure: record, units, true minus signs, nothing clipped or overlapping."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from vbceval import figures
from vbceval.estimates import Estimates
from vbceval.figures.style import STYLES

NAMES = (
    "event_study", "event_study_strata", "trend", "forest", "forest_posterior", "forest_synthesis",
    "gross_to_net", "caterpillar", "caterpillar_many", "threshold_curve", "threshold_strata",
    "posterior_density", "cohort_sizes", "sample_flow", "love", "propensity_overlap",
    "specification_curve", "decomposition", "leave_one_out", "cumulative_savings",
    "viability_curve", "half_eye", "predictive_check", "predictive_check_strata",
)  # fmt: skip
pytestmark = pytest.mark.filterwarnings("error")


def printed(fig: Figure) -> list[Text]:
    """Texts that are drawn: not empty, and no tick label outside the limits of its axis."""
    hidden = set()
    for ax in fig.axes:
        for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            low, high = min(limits), max(limits)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high or not axis.get_visible() or not ax.axison:
                    hidden |= {tick.label1, tick.label2}
            hidden |= {axis.label, axis.offsetText} if not ax.axison else set()
    found = [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [t for t in found if t not in hidden]


def boxes(fig: Figure) -> list[tuple[str, np.ndarray]]:
    renderer = fig.canvas.get_renderer()
    return [(t.get_text(), t.get_window_extent(renderer).extents) for t in printed(fig)]


def outside(fig: Figure, slack: float = 1.0) -> list[str]:
    """Texts that reach beyond the page by more than `slack` pixels."""
    wide, tall = fig.bbox.width, fig.bbox.height
    return [
        text
        for text, (x0, y0, x1, y1) in boxes(fig)
        if x0 < -slack or y0 < -slack or x1 > wide + slack or y1 > tall + slack
    ]


def overlapping(fig: Figure, slack: float = 1.5) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than `slack` pixels in both directions."""
    placed = boxes(fig)
    return [
        (a, b)
        for i, (a, p) in enumerate(placed)
        for b, q in placed[i + 1 :]
        if min(p[2], q[2]) - max(p[0], q[0]) > slack and min(p[3], q[3]) - max(p[1], q[1]) > slack
    ]


# the narrowest page, the largest text and the default; the others have sizes between
@pytest.mark.parametrize("style", ["jama", "economics", "cms_report"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_clipped_or_overlaps(name: str, style: str, every_figure) -> None:
    keep = {"level": 0.95} if name in ("forest_synthesis", "caterpillar") else {}
    fig = every_figure[name](style=style, **keep)
    assert outside(fig) == []
    assert overlapping(fig) == []


@pytest.mark.parametrize("style", list(STYLES))
def test_every_style_draws(style: str, every_figure) -> None:
    fig = every_figure["forest"](style=style)
    assert outside(fig) == []
    assert figures.record(fig).style == style


@pytest.fixture(scope="module")
def drawn(every_figure) -> dict[str, Figure]:
    """Every figure once, in the default style."""
    return {name: every_figure[name]() for name in NAMES}


def test_the_examples_cover_the_room(every_figure, drawn) -> None:
    assert set(every_figure) == set(NAMES)
    kinds = {figures.record(fig).kind for fig in drawn.values()}
    assert kinds == {
        "event_study", "trend", "forest", "gross_to_net", "caterpillar", "threshold_curve",
        "posterior_density", "cohort_sizes", "sample_flow", "love", "propensity_overlap",
        "specification_curve", "decomposition", "leave_one_out", "cumulative_savings",
        "viability_curve", "half_eye", "predictive_check",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_carries_data_note_and_alternative_text(name: str, drawn) -> None:
    fig = drawn[name]
    record = figures.record(fig)
    assert isinstance(record.data, pd.DataFrame)
    assert len(record.data) > 0
    assert fig.vbceval_data is record.data
    assert fig.vbceval_note == record.note
    assert fig.vbceval_alt == record.alt
    for text in (record.note, record.alt):
        assert text.endswith(".")
        assert "\n" not in text
        assert "nan" not in text.lower().split()


@pytest.mark.parametrize("name", NAMES)
def test_minus_signs_are_true_ones_and_numbers_never_formulas(name: str, drawn) -> None:
    fig = drawn[name]
    record = figures.record(fig)
    texts = [t.get_text() for t in printed(fig)]
    assert [t for t in [*texts, record.note, record.alt] if re.search(r"(?<!\w)-[\d$.]", t)] == []
    assert not any(t.get_parse_math() for t in printed(fig))


@pytest.mark.parametrize(
    ("name", "unit", "sign"),
    [
        ("event_study", "USD per person-year, nominal", "negative = lower spending"),
        ("forest", "USD per person-year, nominal", "negative = lower spending"),
        ("forest_synthesis", "percent of baseline mean", "negative = lower spending"),
        ("threshold_curve", "percent of baseline", "negative = lower spending"),
        ("posterior_density", "percent of baseline", "negative = lower spending"),
        ("gross_to_net", "USD millions, nominal", "positive = savings"),
        ("cumulative_savings", "USD millions, nominal", "positive = savings"),
        ("caterpillar", "fraction of benchmark", "positive = savings"),
        ("specification_curve", "USD per person-year, nominal", "negative = lower spending"),
        ("decomposition", "USD per person-year, nominal", "negative = lower spending"),
        ("leave_one_out", "USD per person-year, nominal", "negative = lower spending"),
    ],
)
def test_an_axis_names_unit_and_sign(name: str, unit: str, sign: str, drawn) -> None:
    fig = drawn[name]
    labels = [
        " ".join(label.split()) for ax in fig.axes for label in (ax.get_xlabel(), ax.get_ylabel())
    ]
    assert any(unit in label and sign in label for label in labels), labels


def test_a_missing_unit_is_said_to_be_missing(by_event_time) -> None:
    est = by_event_time()
    fig = figures.event_study(est.with_frame(est.frame.assign(unit_of_measure=None)))
    assert "unit not stated" in " ".join(fig.axes[0].get_ylabel().split())


def test_a_very_long_outcome_still_fits(by_event_time) -> None:
    est = by_event_time()
    name = "total Medicare Parts A and B spending including care-management fees"
    fig = figures.event_study(est.with_frame(est.frame.assign(outcome=name)))
    assert outside(fig) == []
    assert overlapping(fig) == []


def test_the_overlap_check_finds_a_planted_overlap() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig = Figure(figsize=(2, 2))
    FigureCanvasAgg(fig)
    fig.text(0.1, 0.5, "first text")
    fig.text(0.12, 0.5, "second text")
    fig.text(0.9, 0.1, "leaves the page")
    assert overlapping(fig) == [("first text", "second text")]
    assert outside(fig) == ["leaves the page"]


@pytest.mark.parametrize(
    ("language", "word"), [("effect", "Effect on spending"), ("association", "Differential change")]
)
def test_language_is_a_switch_of_the_style(by_event_time, language: str, word: str) -> None:
    style = figures.get_style("jama", language=language)
    fig = figures.event_study(by_event_time(), style=style)
    assert fig.axes[0].get_ylabel().startswith(word)


def test_the_note_comes_from_the_fit(by_event_time) -> None:
    note = figures.event_study(by_event_time()).vbceval_note
    for words in (
        "Estimator: GroupTime (method dr)",
        "Comparison: organizations not yet in the program",
        "Adjusted for hcc",
        "CR1, clustered by aco (60 clusters)",
        "Negative = lower spending",
    ):
        assert words in note


def test_the_axis_of_time_has_the_name_given(by_event_time) -> None:
    assert figures.event_study(by_event_time()).axes[0].get_xlabel() == "Periods since entry"
    named = figures.event_study(by_event_time(), labels={"event_time": "Quarters since entry"})
    assert named.axes[0].get_xlabel() == "Quarters since entry"


def test_each_prior_of_a_model_is_said(posterior) -> None:
    several = replace(
        posterior, meta={**posterior.meta, "prior": {"effect": "N(0, 5)", "rho": "U"}}
    )
    assert "Prior: effect N(0, 5); rho U." in figures.forest(several).vbceval_note


def test_convergence_of_a_posterior_is_in_the_note(posterior) -> None:
    note = figures.forest(posterior).vbceval_note
    said = "largest R-hat 1.002, smallest bulk effective sample size 1812, divergences 0."
    assert f"2000 posterior draws, {said}" in note
    assert "Prior: effects N(0, 5^2)." in note
    assert "95% CrI" in note


def test_warnings_of_the_fit_reach_the_note(by_event_time) -> None:
    from dataclasses import replace

    est = by_event_time()
    loud = replace(est, meta={**est.meta, "warnings": ["few clusters"]})
    assert "The fit warned: few clusters." in figures.event_study(loud).vbceval_note


@pytest.mark.parametrize(("style", "level"), [("jama", 0.95), ("cms_report", 0.90)])
def test_the_level_is_that_of_the_style_and_is_printed(by_event_time, style, level) -> None:
    est = by_event_time()
    fig = figures.event_study(est, style=style)
    np.testing.assert_allclose(
        fig.vbceval_data["conf_low"].dropna(), est.tidy(level)["conf_low"].dropna()
    )
    assert f"{100 * level:g}% CI" in fig.vbceval_note


def test_inputs_are_not_changed(strata: Estimates, gap: Estimates, means, effect) -> None:
    before = strata.frame.copy(), means.copy()
    figures.forest(strata, gap=gap)
    figures.trend(means, effect, start=2014)
    pd.testing.assert_frame_equal(strata.frame, before[0])
    pd.testing.assert_frame_equal(means, before[1])
