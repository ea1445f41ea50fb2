"""Love plot and overlap of propensities: marks are the numbers of the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError, DesignError


def test_marks_are_the_absolute_differences(balance_weights) -> None:
    fig = figures.love(balance_weights)
    table = balance_weights.balance()
    table = table.iloc[np.argsort(table["smd_before"].abs(), kind="stable")]
    lines = {line.get_label(): line for line in fig.axes[0].lines}
    np.testing.assert_allclose(lines["Before weighting"].get_xdata(), table["smd_before"].abs())
    np.testing.assert_allclose(lines["After weighting"].get_xdata(), table["smd_after"].abs())
    words = [t.get_text().replace("\n", " ") for t in fig.axes[0].get_yticklabels()]
    assert words == [x.replace("_", " ") for x in table["feature"]]
    # hollow and filled are told apart without colour
    assert lines["Before weighting"].get_markerfacecolor() == "white"
    limits = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_label() == "_limit"]
    assert limits == [0.1, 0.25]
    assert "between organizations" in fig.vbceval_note
    assert fig.vbceval_record.provenance["method"] == "propensity, att"


def test_a_table_is_drawn_and_gaps_in_it_are_said() -> None:
    table = pd.DataFrame({
        "feature": ["a", "b", "c"], "smd_before": [-0.4, np.nan, 0.2],
        "smd_after": [0.01, np.nan, -0.05],
    })  # fmt: skip
    fig = figures.love(table, labels={"a": "HCC score"}, limits=(0.1,))
    assert fig.axes[0].get_yticklabels()[-1].get_text() == "HCC score"
    assert "1 features are not drawn" in fig.vbceval_note
    assert "0.40 (HCC score)" in fig.vbceval_alt.replace("\u2212", "-").replace(" .4", " 0.4")
    with pytest.raises(DataError, match="smd_after"):
        figures.love(table.drop(columns="smd_after"))
    with pytest.raises(DesignError, match="belongs to weights"):
        figures.love(table, sd="people")


def test_bars_count_each_side(balance_weights) -> None:
    fig = figures.propensity_overlap(balance_weights, bins=10)
    table = balance_weights.propensities(10)
    heights = np.array([p.get_height() for p in fig.axes[0].patches])
    np.testing.assert_array_equal(heights[:10], table["n_treated"])
    np.testing.assert_array_equal(heights[10:], -table["n_comparison"])
    assert fig.axes[0].patches[10].get_hatch()
    assert not any(t.get_text().startswith(("-", "\u2212")) for t in fig.axes[0].get_yticklabels())
    assert "effective number" in fig.vbceval_note
