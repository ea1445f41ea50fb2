"""Figures on trends: plotted values are the result's, labels carry units, nothing is clipped."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from vbceval import figures
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.sensitivity import equivalence, from_numbers, honest, pretrend_power

from .test_every_figure import outside, overlapping

pytestmark = pytest.mark.filterwarnings("error")
UNIT = "USD per person-year, nominal"
STYLES = ("jama", "economics", "cms_report")


def estimates(effect: float = -90.0):
    rng = generator(8, "figures on trends")
    root = rng.normal(size=(7, 14)) + 0.7 * rng.normal(size=(7, 1))
    beta = np.append(10 * rng.normal(size=4), effect + 10 * rng.normal(size=3))
    return from_numbers(
        beta, 400 * root @ root.T / 14, pre=4, outcome="spending", unit_of_measure=UNIT
    )


def sizes() -> dict[str, object]:
    est = estimates()
    return {
        "relative": honest(est),
        "smooth": honest(est, restriction="smoothness", m=[0, 12.5, 25, 37.5]),
        "one": honest(est, m=[1]),
        "signed": honest(est, restriction="smoothness", m=[0, 20], bias="negative"),
    }


RESULTS = sizes()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", list(RESULTS))
def test_sets_are_drawn_whole(name: str, style: str) -> None:
    fig = figures.honest(RESULTS[name], style=style)
    assert outside(fig) == []
    assert overlapping(fig) == []


def drawn(fig: Figure, label: str) -> list[np.ndarray]:
    return [
        path.vertices for c in fig.axes[0].collections if c.get_label() == label
        for path in c.get_paths()
    ]  # fmt: skip


def test_plotted_sets_are_the_result() -> None:
    result = RESULTS["relative"]
    fig = figures.honest(result)
    lines = drawn(fig, "_set")
    table = result.tidy()
    assert len(lines) == len(table)
    for line, row in zip(lines, table.itertuples(), strict=True):
        assert sorted(line[:, 1]) == pytest.approx([row.conf_low, row.conf_high])
        assert np.isnan(row.m) or line[0, 0] == row.m
    record = figures.record(fig)
    assert record.data["m"].tolist()[1:] == table["m"].tolist()[1:]
    assert UNIT in fig.axes[0].get_ylabel().replace("\n", " ")
    assert "DeltaRM" in record.note
    assert "Negative = lower spending" in record.note
    assert "Rambachan and Roth 2023" in record.note
    starts = [x for x in fig.axes[0].lines if x.get_label() == "_start"]
    assert starts[0].get_xdata()[0] == pytest.approx(result.breakdown)
    assert any("Breakdown" in t.get_text() for t in fig.axes[0].texts)


def test_empty_and_open_sets() -> None:
    bent = from_numbers([0.0, 90.0, -90.0, 90.0, 0.0, 0.0], np.eye(6), pre=4, outcome="spending",
                        unit_of_measure=UNIT)  # fmt: skip
    result = honest(bent, restriction="smoothness", method="C-F", m=[1.0, 400.0], breakdown=False)
    table = result.tidy()
    fig = figures.honest(result)
    crosses = [x for x in fig.axes[0].lines if x.get_label() == "_empty"]
    assert len(crosses) == int(table["conf_low"].isna().sum())
    assert len(drawn(fig, "_set")) == len(table) - len(crosses)
    none = honest(bent, restriction="smoothness", method="C-LF", m=[1.0], breakdown=False)
    if none.tidy()["conf_low"][1:].isna().all():
        with pytest.raises(DesignError, match="no set has an end"):
            figures.honest(none)


@pytest.mark.parametrize("style", STYLES)
def test_a_trend_beside_the_estimates(style: str) -> None:
    result = pretrend_power(estimates(), power=[0.5])
    fig = figures.pretrend_power(result, style=style)
    assert outside(fig) == []
    assert overlapping(fig) == []
    lines = {x.get_label(): x.get_ydata() for x in fig.axes[0].lines}
    table = result.tidy()
    np.testing.assert_allclose(lines["Hypothesised trend"], table["trend"])
    np.testing.assert_allclose(lines["Expected if the test passes"], table["expected_if_passed"])
    note = figures.record(fig).note
    assert "with probability 0.50" in note
    assert "Roth 2022" in note


@pytest.mark.parametrize("style", STYLES)
def test_leads_inside_a_margin(style: str) -> None:
    result = equivalence(estimates(), margin=90.0, baseline=9000.0)
    fig = figures.equivalence(result, style=style)
    assert outside(fig) == []
    assert overlapping(fig) == []
    data = figures.record(fig).data
    worst = float(result.tidy()["smallest_margin"][0])
    assert max(data["conf_high"].max(), -data["conf_low"].min()) == pytest.approx(worst)
    assert data["margin"].unique().tolist() == [90.0]
    note = figures.record(fig).note
    assert "of the baseline mean" in note
    assert "Test against the margin: " in note
    smallest = figures.record(figures.equivalence(equivalence(estimates()), style=style))
    assert smallest.data["margin"].iloc[0] == pytest.approx(worst)
