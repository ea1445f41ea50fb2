"""Gross to net, caterpillar, posterior exhibits: plotted values and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.estimates import Estimates


def drawn_bars(ax) -> list[tuple[float, float]]:
    """Bottom and top of each bar, in dollars (drawn in millions), from the left."""
    rows = sorted((p.get_x(), p.get_y(), p.get_y() + p.get_height()) for p in ax.patches)
    return [(1e6 * min(a, b), 1e6 * max(a, b)) for _, a, b in rows]


def test_bars_hang_from_what_is_left(ledger: pd.DataFrame) -> None:
    fig = figures.gross_to_net(ledger)
    np.testing.assert_allclose(
        drawn_bars(fig.axes[0]),
        [(0, 612.4e6), (-168.4e6, 612.4e6), (-168.4e6, -146.3e6), (-146.3e6, 0)],
    )
    np.testing.assert_allclose(
        drawn_bars(fig.axes[1]), [(0, 1094.5e6), (313.7e6, 1094.5e6), (0, 313.7e6)]
    )


def test_whiskers_stand_on_gross_and_net_only(ledger: pd.DataFrame) -> None:
    fig = figures.gross_to_net(ledger)
    spans = [
        [c.get_segments()[0][:, 1] * 1e6 for c in ax.collections if c.get_label() == "_whisker"]
        for ax in fig.axes
    ]
    np.testing.assert_allclose(spans[0], [[101e6, 1123e6], [-657.7e6, 364.3e6]])
    assert spans[1] == []
    assert "Payments are treated as fixed" in fig.vbceval_note


def test_the_two_measures_never_share_a_panel(ledger: pd.DataFrame) -> None:
    fig = figures.gross_to_net(ledger)
    titles = [ax.get_title().split("\n")[0] for ax in fig.axes]
    assert titles == ["Impact savings", "Benchmark savings"]
    assert "must not be added or compared" in fig.vbceval_note
    shown = fig.vbceval_data.groupby("measure", sort=False).size()
    assert [len(ax.patches) for ax in fig.axes] == shown.tolist()


def test_printed_amounts_are_those_of_the_table(ledger: pd.DataFrame) -> None:
    fig = figures.gross_to_net(ledger)
    assert [t.get_text() for t in fig.axes[0].texts] == [
        "$612", "\u2212$781", "$22", "\u2212$146",
    ]  # fmt: skip


def test_a_ledger_that_does_not_add_up_is_refused(ledger: pd.DataFrame) -> None:
    wrong = ledger.copy()
    wrong.loc[[3, 6], "amount"] += 1e6
    with pytest.raises(DataError, match="2 problems") as error:
        figures.gross_to_net(wrong)
    assert "gross less payments is -146,300,000.00, but net is -145,300,000.00" in str(error.value)
    with pytest.raises(DataError, match="needs one of each"):
        figures.gross_to_net(ledger[ledger["kind"] != "net"])
    with pytest.raises(DataError, match="`measure` has evaluation"):
        figures.gross_to_net(ledger.replace("impact", "evaluation"))
    with pytest.raises(DataError, match="does not say their level"):
        figures.gross_to_net(ledger.drop(columns="level"))


def test_caterpillar_sorts_and_plots_both_values(rates: pd.DataFrame) -> None:
    fig = figures.caterpillar(rates)
    ax = fig.axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    ranked = rates.sort_values("estimate")
    np.testing.assert_array_equal(lines["Shrunken"].get_ydata(), ranked["estimate"])
    np.testing.assert_array_equal(lines["Observed, not shrunken"].get_ydata(), ranked["raw"])
    np.testing.assert_array_equal(fig.vbceval_data["rank"], np.arange(1, 31))
    spans = next(c for c in ax.collections if c.get_label() == "_interval").get_segments()
    np.testing.assert_allclose([s[:, 1] for s in spans], ranked[["conf_low", "conf_high"]])


def test_caterpillar_colours_by_stratum_with_different_marks(rates: pd.DataFrame) -> None:
    fig = figures.caterpillar(rates, colour="stratum")
    lines = {line.get_label(): line for line in fig.axes[0].get_lines()}
    high, low = lines["Revenue: high"], lines["Revenue: low"]
    assert len(low.get_xdata()) == 10
    assert len(high.get_xdata()) == 20
    assert high.get_marker() != low.get_marker()


def test_many_ranks_get_a_strip_for_each_stratum(rates: pd.DataFrame) -> None:
    long = rates.loc[np.arange(150) % 30].reset_index(drop=True)
    fig = figures.caterpillar(long, colour="stratum")
    below = fig.axes[1]
    assert [t.get_text() for t in below.get_yticklabels()] == ["Revenue: high", "Revenue: low"]
    assert [len(c.get_segments()) for c in below.collections] == [100, 50]


def test_caterpillar_of_small_organizations_has_gaps(rates: pd.DataFrame) -> None:
    counts = np.where(np.arange(30) == 3, 6, 900)
    fig = figures.caterpillar(rates.assign(n_beneficiaries=counts))
    row = fig.vbceval_data[fig.vbceval_data["label"] == "A3"].iloc[0]
    assert row["suppressed"]
    assert row[["estimate", "raw", "conf_low", "n_beneficiaries"]].isna().all()
    marks = next(x for x in fig.axes[0].get_lines() if x.get_label() == "Shrunken")
    assert np.isfinite(marks.get_ydata()).sum() == 29


def test_caterpillar_refuses_what_it_cannot_sort(rates: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="no column `observed`"):
        figures.caterpillar(rates, raw="observed")
    mixed = rates.assign(estimand=["savings_rate", "period_mean"] * 15)
    with pytest.raises(DesignError, match="different quantities"):
        figures.caterpillar(mixed)


def test_threshold_curve_is_the_share_of_draws_below(posterior: Estimates) -> None:
    one = posterior.where([0])
    fig = figures.threshold_curve(one, [-2.0, -1.0, 0.0, 0.5], marks=(-1.0,))
    data = fig.vbceval_data.set_index("threshold")["probability"]
    for threshold in (-2.0, -1.0, 0.0, 0.5):
        assert data[threshold] == one.probability(below=threshold).iloc[0]
    curve = next(x for x in fig.axes[0].get_lines() if x.get_label() == "_probability")
    np.testing.assert_array_equal(curve.get_ydata(), data.to_numpy())
    assert f"{100 * data[-1.0]:.0f}%" in [t.get_text() for t in fig.axes[0].texts]


def test_the_curve_rises_and_ends_at_one(posterior: Estimates) -> None:
    data = figures.threshold_curve(posterior.where([0])).vbceval_data
    assert (np.diff(data["probability"]) >= 0).all()
    assert data["probability"].iloc[-1] > 0.99
    assert 0.0 in data["threshold"].to_numpy()


def test_density_prints_the_share_of_draws_and_shades_below(posterior: Estimates) -> None:
    one = posterior.where([0])
    fig = figures.posterior_density(one, threshold=-1.0)
    share = one.probability(below=-1.0).iloc[0]
    assert fig.vbceval_data["probability_below"].unique().tolist() == [share]
    assert f"{100 * share:.0f}% probability below \u22121" in fig.axes[0].get_title(loc="left")
    shade = next(c for c in fig.axes[0].collections if c.get_label() == "_below")
    assert shade.get_paths()[0].vertices[:, 0].max() == pytest.approx(-1.0)
    area = np.trapezoid(fig.vbceval_data["density"], fig.vbceval_data["value"])
    assert area == pytest.approx(1.0, abs=0.01)


def test_draws_can_be_plain_arrays() -> None:
    draws = np.random.default_rng(1).normal(-1.0, 1.0, 500)
    fig = figures.threshold_curve(
        {"ACOs": draws, "Bundles": draws + 1}, outcome="spending", unit="percent"
    )
    assert fig.vbceval_data["series"].unique().tolist() == ["ACOs", "Bundles"]
    with pytest.raises(EstimationError, match="one-dimensional"):
        figures.threshold_curve(np.zeros((3, 2)))
    with pytest.raises(EstimationError, match="all equal"):
        figures.posterior_density(np.zeros(10))


@pytest.mark.parametrize("figure", [figures.threshold_curve, figures.posterior_density])
def test_a_confidence_procedure_gives_no_probability(figure, strata, posterior) -> None:
    with pytest.raises(EstimationError, match="not a posterior"):
        figure(strata)
    bootstrap = Estimates(frame=posterior.frame, samples=posterior.draws())
    with pytest.raises(EstimationError, match="not a posterior"):
        figure(bootstrap)
    twice = posterior.where([0, 0])
    with pytest.raises(DesignError, match="same name"):
        figure(twice)
    with pytest.raises(DesignError, match="`unit` would be ignored"):
        figure(posterior.where([0]), unit="USD")


def test_half_eye_shows_mean_and_two_intervals_of_the_draws() -> None:
    draws = {"Evidence": np.linspace(-2, 0, 4001), "Flat": np.linspace(-3, 1, 4001)}
    fig = figures.half_eye(draws, threshold=-0.5, outcome="spending", unit="percent of baseline")
    rows = fig.vbceval_data.drop_duplicates("series").set_index("series")
    columns = ["estimate", "conf_low", "inner_low", "inner_high", "conf_high", "probability_below"]
    assert rows.loc["Evidence", columns].tolist() == pytest.approx(
        [-1, -1.95, -1.66, -0.34, -0.05, 0.75], abs=1e-3
    )
    ax = fig.axes[0]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_label() == "_mean"]
    assert means == pytest.approx([-1, -1])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Evidence", "Flat"]
    assert "Evidence: 75% probability below" in fig.vbceval_alt
    with pytest.raises(DesignError, match="smaller first"):
        figures.half_eye(draws, levels=(0.95, 0.5))
    with pytest.raises(DesignError, match="13 posteriors"):
        figures.half_eye({str(k): draws["Flat"] for k in range(13)})


def test_half_eye_draws_the_prior_of_each_quantity() -> None:
    rng = np.random.default_rng(1)
    draws = {"Aged": rng.normal(-1, 0.5, 4000)}
    fig = figures.half_eye(draws, prior={"Aged": rng.normal(0, 3, 4000)}, outcome="spending")
    data = fig.vbceval_data
    widest = data.loc[data["prior_density"].idxmax(), "value"]
    assert data["prior_density"].max() == pytest.approx(1 / (3 * np.sqrt(2 * np.pi)), rel=0.05)
    assert widest == pytest.approx(0, abs=0.8)
    assert "broken lines: prior densities" in fig.vbceval_note
    lines = [line.get_linestyle() for line in fig.axes[0].lines if line.get_label() == "_prior"]
    assert lines == ["--"]
    with pytest.raises(EstimationError, match="has no draws of: Aged"):
        figures.half_eye(draws, prior={"Other": draws["Aged"]})
    with pytest.raises(EstimationError, match="source has none"):
        figures.half_eye(draws, prior=True)
