"""Paths of the treated and their synthetic comparison: values, words, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError
from vbceval.estimates import Estimates

UNIT = "USD per person-year, nominal"
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def paths() -> pd.DataFrame:
    period = np.arange(2010.0, 2018.0)
    treated = 9800 + 120 * (period - 2010)
    gap = np.where(period < 2015, 12 * np.cos(period), -60 - 20 * (period - 2015))
    return pd.DataFrame({
        "stratum": None, "cohort": 2015.0, "period": period, "event_time": period - 2015,
        "treated": treated, "synthetic": treated - gap, "gap": gap,
    })  # fmt: skip


@pytest.fixture
def effects(paths: pd.DataFrame) -> Estimates:
    frame = paths[["cohort", "period", "event_time"]].assign(
        estimand="att_group_time", outcome="spending", unit_of_measure=UNIT, estimate=paths["gap"]
    )
    meta = {"estimator": "SyntheticDiD", "options": {"method": "sdid"}, "vcov": "placebo"}
    return Estimates(frame=frame, covariance=np.diag(np.full(8, 30.0**2)), meta=meta)


def test_values_note_and_alternative_text(paths, effects) -> None:
    fig = figures.synthetic_paths(paths, effects, period_label="Year")
    record = figures.record(fig)
    assert record.kind == "synthetic_paths"
    np.testing.assert_allclose(record.data["treated"] - record.data["synthetic"], paths["gap"])
    np.testing.assert_allclose(record.data["conf_low"], effects.tidy()["conf_low"])
    top, bottom = fig.axes
    lines = {line.get_label(): line for line in top.lines}
    np.testing.assert_array_equal(lines["Treated"].get_ydata(), paths["treated"])
    np.testing.assert_array_equal(lines["Synthetic"].get_ydata(), paths["synthetic"])
    gap = next(line for line in bottom.lines if line.get_label() == "_gap")
    np.testing.assert_allclose(gap.get_ydata(), paths["gap"])
    assert UNIT in " ".join(top.get_ylabel().split())
    assert "negative = lower spending" in " ".join(bottom.get_ylabel().split())
    for words in ("Estimator: SyntheticDiD", "Standard errors: placebo", "95% CI", "entry (2015)"):
        assert words in record.note
    assert "Mean gap from entry on: −$80" in record.alt
    for text in (record.note, record.alt):
        assert text.endswith(".")


@pytest.mark.parametrize("style", ["jama", "economics", "cms_report"])
def test_every_style_draws(paths, effects, style) -> None:
    assert figures.record(figures.synthetic_paths(paths, effects, style=style)).style == style


def test_effects_of_other_cohorts_are_left_out(paths, effects) -> None:
    other = effects.frame.assign(cohort=2016.0, estimate=5.0)
    both = pd.concat([effects.frame, other], ignore_index=True)
    fig = figures.synthetic_paths(paths, Estimates(frame=both, covariance=np.eye(16)))
    assert len(figures.record(fig).data) == 8


def test_refusals(paths, effects) -> None:
    with pytest.raises(DataError, match="8 of 8 effects differ"):
        figures.synthetic_paths(paths.assign(synthetic=paths["synthetic"] + 50), effects)
    two = pd.concat([paths, paths.assign(cohort=2016.0)])
    with pytest.raises(DataError, match="`cohort` has 2 values"):
        figures.synthetic_paths(two, effects)
    with pytest.raises(DataError, match="no column `synthetic`"):
        figures.synthetic_paths(paths.drop(columns="synthetic"), effects)
    with pytest.raises(DataError, match="of another cohort"):
        figures.synthetic_paths(paths.assign(cohort=2012.0), effects)
