"""Awkward inputs: huge and tiny values, crowded axes, tables without errors, small counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval import equity, figures
from vbceval.core.errors import DesignError
from vbceval.estimates import Estimates

from .test_every_figure import boxes, outside, overlapping, printed

pytestmark = pytest.mark.filterwarnings("error")


def made(size: float, names: list[str | None], **columns: object) -> Estimates:
    """Effects with standard errors of `size`, one row a stratum."""
    rng = np.random.default_rng(11)
    k = len(names)
    frame = pd.DataFrame(
        {
            "estimand": "att_simple",
            "outcome": "spending",
            "unit_of_measure": "USD per person-year",
            "stratum": names,
            "estimate": rng.normal(0.0, 2.0 * size, k),
            **columns,
        }
    )
    psi = rng.normal(0.0, size / np.sqrt(50), (50, k))
    return Estimates(frame=frame, psi=psi, clusters=pd.RangeIndex(50), cluster_name="aco")


def by_time(times: np.ndarray, **columns: object) -> pd.DataFrame:
    values = np.linspace(-20.0, 30.0, len(times))
    return pd.DataFrame(
        {
            "event_time": times,
            "estimate": values,
            "conf_low": values - 10.0,
            "conf_high": values + 10.0,
            "level": 0.95,
            "unit_of_measure": "USD per person-year",
            **columns,
        }
    )


# ------------------------------------------------------------------- printed numbers


def test_an_interval_without_a_standard_error_keeps_its_digits() -> None:
    table = pd.DataFrame(
        {"label": ["A", "B"], "estimate": [-0.71, 0.33], "conf_low": [-1.2, 0.1],
         "conf_high": [-0.2, 0.56], "level": 0.95}
    )  # fmt: skip
    shown = figures.estimates_table(table)
    assert shown.iloc[:, 1].tolist() == ["−0.71 (−1.20 to −0.20)", "0.33 (0.10 to 0.56)"]
    # a table that names no unit has no dangling comma in its header
    assert shown.columns[1] == "Differential change (95% CI)"


@pytest.mark.parametrize("scale", [1e-7, 1e-3])
def test_a_trend_of_small_rates_prints_its_estimate_and_its_means(scale: float) -> None:
    mean = scale * np.array([310.0, 320.0, 300.0, 330.0])
    table = pd.DataFrame(
        {"period": [1, 2] * 2, "arm": ["treated"] * 2 + ["comparison"] * 2,
         "mean": [mean[0], mean[0] - 9 * scale, mean[2], mean[2]]}
    )  # fmt: skip
    effect = pd.DataFrame(
        {"estimate": [-9 * scale], "conf_low": [-15 * scale], "conf_high": [-3 * scale],
         "level": 0.95, "outcome": "mortality", "unit_of_measure": "share"}
    )  # fmt: skip
    fig = figures.trend(table, effect, start=2, baseline_mean=mean[0])
    digits = round(-np.log10(scale))
    assert f"DiD = −{9 * scale:.{digits}f}" in fig.vbceval_alt
    assert f"−{15 * scale:.{digits}f} to −{3 * scale:.{digits}f}" in fig.vbceval_alt
    assert " 0.00 " not in fig.vbceval_alt
    assert f"mean of {mean[0]:.{digits}f}." in fig.vbceval_note


@pytest.mark.parametrize("threshold", [-0.005, 0.125, -1.0, -2.5e8])
def test_a_threshold_is_printed_as_it_is(threshold: float) -> None:
    draws = np.random.default_rng(2).normal(threshold, abs(threshold), 400)
    options = {"outcome": "spending", "unit": "USD", "style": "nejm"}
    shown = f"{'−' if threshold < 0 else ''}${abs(threshold):,}".removesuffix(".0")
    density = figures.posterior_density(draws, threshold=threshold, **options)
    assert density.axes[0].get_title(loc="left").endswith(f"probability below {shown}")
    curve = figures.threshold_curve(draws, marks=(threshold,), **options)
    for fig in (density, curve):
        assert f"probability below {shown}." in fig.vbceval_alt


@pytest.mark.parametrize("size", [3e-10, 3e10])
def test_tiny_and_huge_effects_are_legible(size: float) -> None:
    est = made(size, ["dual=yes", "dual=no"])
    fig = figures.forest(est)
    assert overlapping(fig) == []
    assert outside(fig) == []
    ticks = [t.get_text() for t in fig.axes[0].get_xticklabels()]
    assert len(set(ticks)) == len(ticks)
    # whatever the size, an estimate is not printed as zero
    texts = [t.get_text() for t in printed(fig) if " to " in t.get_text()]
    assert len(texts) == 2
    assert all(any(d in text.partition(" (")[0] for d in "123456789") for text in texts)


# ------------------------------------------------------------------------- event study


def test_the_overall_row_of_a_table_is_not_an_event_time() -> None:
    table = by_time(np.array([-2.0, -1.0, 0.0, 1.0, np.nan]))
    fig = figures.event_study(table)
    assert fig.vbceval_data["event_time"].tolist() == [-2.0, -1.0, 0.0, 1.0]
    assert "periods since entry −2 to 1." in fig.vbceval_alt
    with pytest.raises(DesignError, match="no row with an `event_time`"):
        figures.event_study(table.iloc[-1:])


def test_counts_of_many_event_times_do_not_run_into_each_other() -> None:
    fig = figures.event_study(by_time(np.arange(-20.0, 20.0), n_treated=1203))
    assert overlapping(fig) == []
    assert len(fig.vbceval_data) == 40
    assert fig.vbceval_data["n"].eq(1203).all()


def test_long_names_of_series_leave_the_plot_its_width() -> None:
    times = np.arange(-3.0, 3.0)
    short = pd.concat([by_time(times, stratum=s, n_treated=50) for s in "ab"])
    long = short.replace("a", "enrolled because of age, without any Medicaid benefit, for a year")
    widths = [figures.event_study(t).axes[0].get_position().width for t in (short, long)]
    assert widths[1] > 0.75 * widths[0]
    fig = figures.event_study(long)
    assert overlapping(fig) == []
    assert outside(fig) == []


def test_the_share_of_intervals_counts_only_intervals() -> None:
    table = by_time(np.array([-1.0, 0.0, 1.0, 2.0]))
    table.loc[3, ["conf_low", "conf_high"]] = np.nan
    assert "of 2 intervals (95% CI) after entry" in figures.event_study(table).vbceval_alt


# ------------------------------------------------------------------------------ forest


def test_p_of_a_heading_is_of_all_its_strata_also_with_one_gap() -> None:
    three = made(30.0, ["dual=no", "dual=part", "dual=full"])
    one = equity.gaps(three.where([0, 1]), by="dual", reference="no")
    data = figures.forest(three, gap=one).vbceval_data.set_index("label")
    expected = equity.equality(three, by="dual").p_value
    np.testing.assert_allclose(data.loc[["No", "Part", "Full"], "p_joint"], expected, rtol=1e-10)
    np.testing.assert_allclose(data.loc["Part less no", "p_joint"], one.tidy()["p_value"][0])
    assert abs(data.loc["Part less no", "p_joint"] - expected) > 1e-6


def test_no_p_value_stands_under_the_header_of_a_probability() -> None:
    table = pd.DataFrame(
        {"heading": "All", "label": ["a", "b"], "kind": ["overall", "pooled"],
         "estimate": [-1.0, -2.0], "conf_low": [-2.0, -3.0], "conf_high": [0.0, -1.0],
         "level": 0.95, "p_value": [0.037, np.nan], "probability": [np.nan, 0.96],
         "p_joint": 0.024, "unit_of_measure": "percent"}
    )  # fmt: skip
    fig = figures.forest(table)
    texts = [t.get_text() for t in printed(fig)]
    assert "Pr(< 0)" in texts
    assert "0.96" in texts
    assert not {".04", ".037", ".02", ".024"} & set(texts)
    assert "joint test" not in fig.vbceval_note


def test_a_printed_mean_of_a_suppressed_row_is_suppressed(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"label": ["a", "b"], "estimate": [1.0, 2.0], "n_people": [7, 400], "member_months": [81, 4711],
         "share_dual": [0.43, 0.51], "n_acos": [3, 5], "unit_of_measure": "percent"}
    )  # fmt: skip
    columns = {c: c for c in ("n_people", "member_months", "share_dual", "n_acos")}
    fig = figures.forest(table, columns=columns)
    data = pd.read_csv(figures.save(fig, tmp_path / "f")["csv"])
    assert data.loc[0, ["estimate", "n_people", "member_months", "share_dual"]].isna().all()
    assert data["n_acos"].tolist() == [3, 5]
    assert data.loc[1, "share_dual"] == 0.51
    texts = {t.get_text() for t in printed(fig)}
    assert not {"7", "81", "0.4"} & texts
    assert {"400", "4711", "0.5", "3", "5"} <= texts


# ------------------------------------------------------------------------------- tables


def test_a_small_count_does_not_follow_from_the_total() -> None:
    est = made(1.0, ["dual=a", "dual=b", "dual=c", None], n_people=[5, 40, 60, 105],
               age=[71.0, 72.0, 73.0, 74.0])  # fmt: skip
    shown = figures.estimates_table(est, more={"n_people": "People", "age": "Age"})
    assert shown["People"].tolist() == ["suppressed", "suppressed", "60", "105"]
    assert shown["Age"].tolist() == ["suppressed", "72", "73", "74"]
    raw = est.frame[["stratum", "n_people"]]
    plain = figures.format_table(raw, total=[False, False, False, True])
    assert plain["n people"].tolist() == ["suppressed", "suppressed", "60", "105"]


def test_people_in_neither_arm_do_not_follow_from_the_flow() -> None:
    table = pd.DataFrame(
        {"step": ["All", "Kept", "T", "C"], "n_people": [900, 500, 300, 195],
         "arm": [None, None, "treated", "comparison"]}
    )  # fmt: skip
    data = figures.sample_flow(table).vbceval_data
    assert data["n_people"].iloc[:2].tolist() == [900, 500]
    assert data["n_people"].iloc[2:].isna().all()
    whole = table.assign(n_people=[900, 500, 300, 200])
    assert figures.sample_flow(whole).vbceval_data["n_people"].notna().all()


# ------------------------------------------------------------------- money and ranks


def ledger(scale: float, shift: float = 0.0) -> pd.DataFrame:
    rows = [("gross", 6.13, 2.0, 10.0), ("payment", 4.02, np.nan, np.nan),
            ("net", 2.11, -2.02 + shift, 5.98 + shift)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["kind", "amount", "conf_low", "conf_high"])
    frame[["amount", "conf_low", "conf_high"]] *= scale
    return frame.assign(measure="impact", component=frame["kind"], level=0.95)


def test_the_axis_says_millions_also_where_the_unit_is_in_other_words() -> None:
    fig = figures.gross_to_net(ledger(1e7), unit="2018 dollars")
    assert "2018 dollars, millions" in " ".join(fig.axes[0].get_ylabel().split())
    assert "$61.3" in [t.get_text() for t in printed(fig)]


def test_small_amounts_keep_three_digits() -> None:
    texts = [t.get_text() for t in printed(figures.gross_to_net(ledger(1.0)))]
    assert {"$6.13", "−$4.02", "$2.11"} <= set(texts)


def test_the_note_says_shifted_only_of_a_shifted_interval() -> None:
    said = "the net interval is the gross interval shifted"
    assert said in figures.gross_to_net(ledger(1e6)).vbceval_note
    assert said not in figures.gross_to_net(ledger(1e6, shift=1.0)).vbceval_note


def test_a_reference_line_is_on_the_page_in_the_data_and_in_the_note(rates) -> None:
    fig = figures.caterpillar(
        rates, reference=0.9, reference_label="Minimum rate", organizations="ACOs"
    )
    low, high = fig.axes[0].get_ylim()
    assert low < 0.9 < high
    assert fig.vbceval_data["reference"].eq(0.9).all()
    assert "Dashed line: minimum rate." in fig.vbceval_note
    assert "30 ACOs." in fig.vbceval_alt


def test_a_reliability_goes_with_its_count(rates) -> None:
    counts = np.r_[6, np.full(29, 800)]
    fig = figures.caterpillar(rates.assign(reliability=0.37, n_people=counts))
    row = fig.vbceval_data[fig.vbceval_data["suppressed"]]
    assert len(row) == 1
    assert row[["reliability", "raw", "estimate", "n_people"]].isna().all(axis=None)


def test_numbers_of_many_cohorts_do_not_overlap() -> None:
    table = pd.DataFrame({"cohort": np.arange(1980.0, 2020.0), "n_organizations": 11000})
    fig = figures.cohort_sizes(table)
    assert overlapping(fig) == []
    assert sum(text.replace("\u2009", "") == "11000" for text, _ in boxes(fig)) == 40


# ------------------------------------------------------------------------------- trend


def trend_table() -> pd.DataFrame:
    rows = [("treated", 1, 110.0), ("treated", 2, 112.0), ("comparison", 1, 100.0),
            ("comparison", 2, 105.0)]  # fmt: skip
    return pd.DataFrame(rows, columns=["arm", "period", "mean"])


def test_intervals_of_means_say_their_level_when_the_effect_has_none() -> None:
    table = trend_table().assign(
        conf_low=lambda d: d["mean"] - 2, conf_high=lambda d: d["mean"] + 2
    )
    effect = pd.DataFrame({"estimate": [-3.0], "unit_of_measure": "percent"})
    fig = figures.trend(table.assign(level=0.90), effect, start=2)
    assert "Bars: 90% CI, pointwise." in fig.vbceval_note
    assert fig.vbceval_data["level"].eq(0.90).all()


def test_a_comparison_with_no_mean_left_is_said_to_be_missing() -> None:
    table = pd.concat(
        [
            trend_table().assign(n_people=[500, 500, 7, 8]),
            pd.DataFrame({"arm": "counterfactual", "period": [2], "mean": [115.0]}),
        ]
    )
    effect = pd.DataFrame({"estimate": [-3.0], "unit_of_measure": "percent"})
    fig = figures.trend(table, effect, start=2)
    assert "Comparison: suppressed or missing." in fig.vbceval_alt


# -------------------------------------------------------------------------------- save


def test_a_figure_in_a_style_of_ones_own_can_be_saved(strata, tmp_path: Path) -> None:
    fig = figures.forest(strata, style=figures.Style(name="my journal"))
    paths = figures.save(fig, tmp_path / "forest", formats=("svg",))
    assert '"style": "my journal"' in paths["json"].read_text()
