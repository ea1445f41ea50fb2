"""Posterior predictive checks by stratum and period: plotted values, marks of misfits, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError


@pytest.fixture
def table() -> pd.DataFrame:
    """Two strata, all years and two of them; one misfit."""
    rows = [
        ("variance", "a", np.nan, 50.0, 40.0, 30.0, 52.0, False),
        ("variance", "a", 2017.0, 90.0, 45.0, 20.0, 60.0, True),
        ("variance", "a", 2016.0, 36.0, 36.0, 20.0, 55.0, False),
        ("variance", "b", np.nan, 10.0, 20.0, 9.0, 30.0, False),
        ("variance", "b", 2016.0, 20.0, 20.0, 9.0, 30.0, False),
        ("extreme", "a", np.nan, 0.01, 0.004, 0.0, 0.02, False),
        ("icc", "a", np.nan, 0.5, 0.1, -0.1, 0.3, True),
        ("icc", "b", np.nan, 0.2, 0.1, -0.1, 0.3, False),
    ]
    names = ["statistic", "stratum", "period", "observed", "replicated", "low", "high", "misfit"]
    return pd.DataFrame(rows, columns=names).assign(level=0.9)


def marks(ax, label: str) -> np.ndarray:
    lines = [line for line in ax.get_lines() if line.get_label() == label]
    return np.vstack([line.get_xydata() for line in lines]) if lines else np.empty((0, 2))


def test_variances_are_multiples_of_their_replicated_mean(table) -> None:
    fig = figures.predictive_check(table)
    one, two = fig.axes[:2]
    # all periods first, then the years in order, though the table has another
    assert marks(one, "Observed")[:, 1].tolist() == [1.25, 1.0]
    assert marks(one, "Observed, misfit")[:, 1].tolist() == [2.0]
    assert marks(two, "Observed")[:, 1].tolist() == [0.5, 1.0]
    assert [t.get_text() for t in one.get_xticklabels()] == ["All", "2016", "2017"]
    bars = one.collections[0].get_segments()
    drawn = np.array([b[:, 1] for b in bars])
    assert drawn == pytest.approx(np.array([(0.75, 1.3), (20 / 36, 55 / 36), (20 / 45, 60 / 45)]))
    data = fig.vbceval_data
    assert data["observed_value"].tolist() == [50.0, 36.0, 90.0, 10.0, 20.0]
    assert data["misfit"].sum() == 1
    assert (data["level"] == 0.9).all()


def test_misfits_have_marks_of_another_shape_and_are_counted(table) -> None:
    fig = figures.predictive_check(table)
    shapes = {line.get_label(): line.get_marker() for line in fig.axes[0].get_lines()}
    assert shapes["Observed"] != shapes["Observed, misfit"]
    names = [t.get_text() for t in fig.legends[0].get_texts()]
    assert names == ["Made by the model", "Its mean", "Observed", "Observed, misfit"]
    assert "1 of 5 places" in fig.vbceval_note
    assert "90% intervals" in fig.vbceval_note
    assert "Misfits: 1, in single periods" in fig.vbceval_alt
    quiet = figures.predictive_check(table[table["stratum"] == "b"])
    assert "Observed, misfit" not in [t.get_text() for t in quiet.legends[0].get_texts()]
    assert quiet.vbceval_alt.endswith("No misfit.")


def test_shares_are_percent_and_correlations_have_a_line_for_each_stratum(table) -> None:
    shares = figures.predictive_check(table, statistic="extreme")
    assert marks(shares.axes[0], "Observed")[:, 0].tolist() == [1.0]
    fig = figures.predictive_check(table, statistic="icc", labels={"a": "Aged"})
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Aged", "B"]
    assert marks(ax, "Observed, misfit").tolist() == [[0.5, 0.0]]
    assert marks(ax, "Observed").tolist() == [[0.2, -1.0]]
    assert "Misfits over all periods: aged 0.50 (replicated 0.10)" in fig.vbceval_alt


def test_the_values_are_saved_beside_the_picture(table, tmp_path) -> None:
    figures.save(figures.predictive_check(table), tmp_path / "check.png")
    saved = pd.read_csv(tmp_path / "check.csv")
    assert saved["observed"].tolist() == [1.25, 1.0, 2.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"statistic": "lag_one"}, "it has no `lag_one`"),
        ({}, {"statistic": "mean"}, "`statistic` is 'mean'"),
        ({}, {"level": 0.5}, "asked for"),
        ({"period": np.nan}, {}, "occurs twice"),
        ({"observed": np.nan}, {}, "values are missing"),
        ({"replicated": 0.0}, {}, "not positive"),
    ],
)
def test_a_table_that_cannot_be_drawn_is_refused(table, change, options, said) -> None:
    with pytest.raises(DataError, match=said):
        figures.predictive_check(table.assign(**change), **options)
    with pytest.raises(DataError, match="no column `low`"):
        figures.predictive_check(table.drop(columns="low"))
    with pytest.raises(DataError, match="does not say their level"):
        figures.predictive_check(table.drop(columns="level"))
