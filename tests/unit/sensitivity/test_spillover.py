"""Spillover, market-level effects and contaminated comparisons: against fits by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.sensitivity import (
    attributed_share,
    contaminated_comparison,
    implied_on_attributed,
    spillover,
)

SPEND = vbc.Design(outcome="spend", unit_of_measure="USD per person-year")
MARKETS, YEARS = 12, np.arange(2012, 2017)


def residents(*, share: float | None = None, seed: int = 0) -> pd.DataFrame:
    """Rows of markets by year, attributed or not; one share everywhere, or one a market and year."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [(m, t, a) for m in range(MARKETS) for t in YEARS for a in ("yes", "no")],
        columns=["market", "year", "attributed"],
    )
    rows["entry"] = rows["market"].map(lambda m: 2015.0 if m < 5 else np.nan)
    size = rng.uniform(500, 2000, MARKETS)[rows["market"]]
    part = (
        np.full(len(rows), share) if share else np.repeat(rng.uniform(0.2, 0.5, len(rows) // 2), 2)
    )
    own = rows["attributed"] == "yes"
    rows["people"] = size * np.where(own, part, 1 - part)
    rows["spend"] = rng.normal(0, 50, len(rows)) + 30.0 * rows["market"]
    rows["spend"] -= np.where(own, 100.0, 40.0) * (rows["year"] >= rows["entry"])
    return rows


def panel(rows: pd.DataFrame, **options: Any) -> vbc.Panel:
    given: dict[str, Any] = {"strata": ["attributed"], "weight": "people", **options}
    return vbc.Panel.from_frame(rows, unit="market", period="year", cohort="entry", **given)


def two(est: vbc.Estimates) -> tuple[vbc.Estimates, vbc.Estimates]:
    return est.where(stratum="attributed=yes"), est.where(stratum="attributed=no")


def by_hand(rows: pd.DataFrame, weight: np.ndarray) -> float:
    """Weighted least squares on dummies of market and year, and treatment."""
    dummies = pd.get_dummies(rows[["market", "year"]].astype(str), dtype=float).to_numpy()
    on = (rows["year"] >= rows["entry"]).to_numpy(dtype=float)
    x = np.column_stack([on, dummies]) * np.sqrt(weight)[:, None]
    return float(np.linalg.lstsq(x, rows["spend"] * np.sqrt(weight), rcond=None)[0][0])


def test_with_one_share_everywhere_the_total_is_the_effect_on_all_residents() -> None:
    data = panel(residents(share=0.3))
    est = vbc.did.TWFE().fit(data, SPEND, vcov="CR0")
    shares = attributed_share(
        data, SPEND, by="attributed", level="yes", ssc=vbc.inference.SSC.none()
    )
    assert shares.estimate[0] == pytest.approx(0.3)
    everyone = est.where(stratum=None)
    for given in (0.3, shares):
        total = spillover(*two(est), shares=given).where(population="all")
        assert total.estimate == pytest.approx(everyone.estimate, rel=1e-10)
        gap = total.influence() - everyone.influence()
        assert np.abs(gap.to_numpy()).max() < 1e-8
        assert total.tidy()["conf_low"][0] == pytest.approx(everyone.tidy()["conf_low"][0])


def test_estimated_shares_carry_their_error() -> None:
    rows = residents(seed=1)
    data = panel(rows)
    est = vbc.did.TWFE().fit(data, SPEND, vcov="CR0")
    shares = attributed_share(
        data, SPEND, by="attributed", level="yes", ssc=vbc.inference.SSC.none()
    )
    found = spillover(*two(est), shares=shares)
    own = (rows["attributed"] == "yes").to_numpy()
    on = (rows["year"] >= rows["entry"]).to_numpy()

    def total(factor: np.ndarray) -> float:
        w = rows["people"].to_numpy() * factor[rows["market"]]
        s = w[own & on].sum() / w[on].sum()
        return s * by_hand(rows[own], w[own]) + (1 - s) * by_hand(rows[~own], w[~own])

    one = np.ones(MARKETS)
    row = found.where(population="all")
    assert row.estimate[0] == pytest.approx(total(one), rel=1e-9)
    slope = [(total(one + h) - total(one - h)) / 2e-5 for h in 1e-5 * np.eye(MARKETS)]
    np.testing.assert_allclose(row.influence()[0].sort_index(), slope, atol=1e-5)
    fixed = spillover(*two(est), shares=shares.estimate[0]).where(population="all")
    assert fixed.estimate == pytest.approx(row.estimate)
    assert abs(fixed.std_error[0] / row.std_error[0] - 1) > 1e-4
    assert found.meta["shares"] == "estimated"


def test_rows_keep_what_they_were_and_differ_as_a_contrast() -> None:
    est = vbc.did.EventStudy().fit(panel(residents(seed=2)), SPEND)
    yes, no = two(est)
    found = spillover(yes, no, shares=np.linspace(0.2, 0.4, len(yes)))
    table = found.tidy().set_index("population")
    np.testing.assert_array_equal(table.loc["attributed", "estimate"], yes.estimate)
    np.testing.assert_allclose(table.loc["non_attributed", "std_error"], no.std_error, rtol=1e-12)
    both = vbc.stack([yes, no]).contrast(np.hstack([np.eye(len(yes)), -np.eye(len(yes))]))
    gap = table.loc["attributed - non_attributed"]
    np.testing.assert_allclose(gap["std_error"], both.std_error, rtol=1e-10)
    np.testing.assert_array_equal(gap["event_time"], yes.frame["event_time"])
    assert (table.loc["all", "share"].to_numpy() == np.linspace(0.2, 0.4, len(yes))).all()
    assert table.loc["all", "estimand"].iloc[0] == "total_" + yes.frame["estimand"].iloc[0]


def test_order_and_scale_change_nothing_else() -> None:
    data = panel(residents(seed=2))
    yes, no = two(vbc.did.TWFE().fit(data, SPEND))
    share = attributed_share(data, SPEND, by="attributed", level="yes")
    found = spillover(yes, no, shares=share)
    moved = [
        vbc.Estimates(
            frame=e.frame, psi=e.psi[::-1], psi_vcov=e.psi_vcov[::-1], clusters=e.clusters[::-1],
            cluster_name=e.cluster_name,
        )
        for e in (yes, share)
    ]  # fmt: skip
    again = spillover(moved[0], no, shares=moved[1])
    np.testing.assert_allclose(again.vcov(), found.vcov(), rtol=1e-10)
    dollars = [e.scale(12.0, unit_of_measure="USD") for e in (yes, no)]
    scaled = spillover(*dollars, shares=share)
    np.testing.assert_allclose(scaled.estimate, 12 * found.estimate)
    np.testing.assert_allclose(scaled.vcov(), 144 * found.vcov())


def test_shares_follow_the_rows_they_are_for() -> None:
    rows = residents(seed=3)
    rows.loc[rows["market"] < 2, "entry"] = 2014.0
    est = vbc.did.GroupTime().fit(panel(rows), SPEND).where(stratum="attributed=yes")
    found = attributed_share(panel(rows), SPEND, by="attributed", level="yes", of=est)
    for row, value in zip(est.frame.itertuples(), found.estimate, strict=True):
        part = rows[(rows["entry"] == row.cohort) & (rows["year"] == row.period)]
        hand = part.loc[part["attributed"] == "yes", "people"].sum() / part["people"].sum()
        assert value == pytest.approx(hand)
    by_period = vbc.did.GroupTime().fit(panel(rows), SPEND).aggregate("period")
    last = by_period.where(stratum="attributed=yes", period=2014.0)
    part = rows[(rows["entry"] == 2014.0) & (rows["year"] == 2014)]  # others have not entered
    hand = part.loc[part["attributed"] == "yes", "people"].sum() / part["people"].sum()
    found = attributed_share(panel(rows), SPEND, by="attributed", level="yes", of=last)
    assert found.estimate[0] == pytest.approx(hand)
    leads = est.where(event_time=-1.0)
    assert len(attributed_share(panel(rows), SPEND, by="attributed", level="yes", of=leads)) == 2


def test_the_implied_effect_is_that_of_instrumental_variables() -> None:
    rng = np.random.default_rng(4)
    rows = residents(seed=4).query("attributed == 'yes'").copy()
    on = rows["year"] >= rows["entry"]
    rows["share"] = on * rng.uniform(0.05, 0.6, len(rows)) + 0.02 * rng.uniform(size=len(rows))
    iv = vbc.did.IV(dose="share").fit(panel(rows, strata=[]), SPEND)
    found = implied_on_attributed(
        iv.where(estimand="itt"), share=iv.where(estimand="first_stage")
    ).tidy().iloc[0]  # fmt: skip
    late = iv.where(estimand="late").tidy().iloc[0]
    for name in ("estimate", "std_error", "conf_low", "df"):
        assert found[name] == pytest.approx(late[name], rel=1e-9)
    assert found["fieller_low"] == pytest.approx(late["ar_low"], rel=1e-9)
    assert found["fieller_high"] == pytest.approx(late["ar_high"], rel=1e-9)
    assert found["fieller_set"] == late["ar_set"]


def test_a_fixed_share_only_rescales() -> None:
    est, _ = two(vbc.did.EventStudy().fit(panel(residents(seed=5)), SPEND))
    found = implied_on_attributed(est, share=0.25).tidy()
    scaled = est.scale(4.0, unit_of_measure="USD per person-year").tidy()
    np.testing.assert_allclose(found["conf_low"], scaled["conf_low"])
    live = scaled["std_error"].notna()
    np.testing.assert_allclose(found["fieller_low"][live], scaled["conf_low"][live])
    np.testing.assert_allclose(found["fieller_high"][live], scaled["conf_high"][live])


def test_contamination_is_undone_where_it_is_known() -> None:
    rows = residents(seed=6).query("attributed == 'yes'").copy()
    exposed = rows["entry"].isna() & (rows["year"] >= 2015)
    pure = by_hand(rows, np.ones(len(rows)))
    rows["spend"] -= 0.3 * 80.0 * exposed  # three in ten comparison people, each -80
    est = vbc.did.TWFE().fit(panel(rows, strata=[], weight=None), SPEND)
    found = contaminated_comparison(est, exposure=[0.0, 0.3], effect=-80.0).tidy()
    assert found["estimate"][0] == est.estimate[0]
    assert found["estimate"][1] == pytest.approx(pure)
    assert found["bias"][1] == pytest.approx(24.0)
    assert found["std_error"][1] == pytest.approx(est.std_error[0])


@pytest.mark.parametrize("how", ["as treated", "stated", "estimated"])
def test_break_even_is_where_the_line_and_its_interval_cross(how: str) -> None:
    est = vbc.did.TWFE().fit(panel(residents(seed=7)), SPEND)
    yes, no = two(est)
    effect = {"as treated": None, "stated": -60.0, "estimated": no}[how]
    e, target = np.linspace(0, 0.999, 300), yes.estimate[0] - 15.0
    line = contaminated_comparison(yes, exposure=e, effect=effect)
    even = line.break_even(target, level=0.9).iloc[0]
    gap = np.abs(line.estimates.estimate - target)
    assert even["exposure"] == pytest.approx(e[gap.argmin()], abs=5e-3)
    inside = gap <= stats.t.ppf(0.95, 11) * line.estimates.std_error
    assert even["set"] == "interval"
    assert (even["low"], even["high"]) == pytest.approx(
        (e[inside].min(), e[inside].max()), abs=5e-3
    )
    # an effect of the other sign is never reached by scaling
    never = contaminated_comparison(yes, exposure=0.1).break_even(abs(yes.estimate[0]) * 50)
    assert np.isnan(never["exposure"][0])
    assert never["set"][0] == "none"


def test_estimated_exposure_adds_its_error() -> None:
    est = vbc.did.TWFE().fit(panel(residents(seed=8)), SPEND)
    yes, _ = two(est)
    share = attributed_share(panel(residents(seed=8)), SPEND, by="attributed", level="yes")
    e, b = share.estimate[0], yes.estimate[0]
    joint = vbc.stack([yes, share]).vcov()
    slope = np.array([1 / (1 - e), b / (1 - e) ** 2])
    found = contaminated_comparison(yes, exposure=share).estimates
    assert found.std_error[0] == pytest.approx(np.sqrt(slope @ joint @ slope))


def test_what_cannot_be_combined_is_said() -> None:
    rows = residents(seed=9)
    est = vbc.did.TWFE().fit(panel(rows), SPEND)
    yes, no = two(est)
    with pytest.raises(DesignError, match="strictly between 0 and 1"):
        spillover(yes, no, shares=1.2)
    with pytest.raises(DesignError, match="`shares` has 3 values, but there are 1 rows"):
        spillover(yes, no, shares=[0.1, 0.2, 0.3])
    path = vbc.did.EventStudy().fit(panel(rows), SPEND).where(stratum="attributed=no")
    with pytest.raises(DesignError, match="Aggregate both in the same way"):
        spillover(yes, path, shares=0.3)
    with pytest.raises(DesignError, match="different units"):
        spillover(yes, no.scale(0.1, unit_of_measure="percent"), shares=0.3)
    alone = vbc.Estimates(frame=yes.frame, covariance=yes.vcov())
    with pytest.raises(EstimationError, match="`non_attributed` carries no influence"):
        spillover(yes, alone, shares=0.3)
    with pytest.raises(DesignError, match="one effect at a time"):
        contaminated_comparison(path)
    with pytest.raises(DesignError, match="from 0 to below 1"):
        contaminated_comparison(yes, exposure=[0.1, 1.0])
    with pytest.raises(DataError, match="no stratum"):
        attributed_share(panel(rows), SPEND, by="dual", level="yes")
    with pytest.raises(DataError, match="`level` is 'maybe'"):
        attributed_share(panel(rows), SPEND, by="attributed", level="maybe")
    with pytest.raises(DesignError, match="fewer than two clusters"):
        attributed_share(panel(rows.query("market in [0, 8]")), SPEND, by="attributed", level="yes")


def typed(value: list[float], **keys: object) -> vbc.Estimates:
    """Two rows on three clusters."""
    psi = np.array([[3.0, 1.0], [-1.0, 2.0], [-2.0, -3.0]])[:, : len(value)]
    frame = pd.DataFrame({"estimand": "att", "outcome": "spend", "estimate": value, **keys})
    return vbc.Estimates(frame=frame, psi=psi, clusters=pd.Index(["A", "B", "C"]))


def test_rows_are_never_combined_with_those_of_others() -> None:
    one, other = (typed(v, event_time=[0.0, 1.0]) for v in ([-9.0, -5.0], [-4.0, -2.0]))
    turned = typed([0.3, 0.6], event_time=[1.0, 0.0])
    with pytest.raises(DesignError, match="`shares` is not in the order"):
        spillover(one, other, shares=turned)
    with pytest.raises(DesignError, match="its event_time differs"):
        implied_on_attributed(one, share=turned)
    shares = typed([0.3, 0.6])  # without keys: in the order of the rows
    found = spillover(one, other, shares=shares).where(population="all")
    np.testing.assert_allclose(found.estimate, [-5.5, -3.8])
    psi = shares.psi * [-5.0, -3.0] + one.psi * [0.3, 0.6] + other.psi * [0.7, 0.4]
    np.testing.assert_allclose(found.psi, psi)
    # one stratum each may differ; with several, each belongs to its own
    strata = [typed([-9.0, -5.0], stratum=s) for s in (["dual=yes", None], [np.nan, "dual=yes"])]
    with pytest.raises(DesignError, match="do not have the same"):
        spillover(*strata, shares=0.3)
    same = typed([-9.0, -5.0], stratum=["dual=yes", np.nan])
    assert spillover(strata[0], same, shares=0.3).frame["stratum"].tolist()[4] == "dual=yes"
    units = [typed([-9.0, -5.0], unit_of_measure=["USD", u]) for u in ("USD", "percent")]
    with pytest.raises(DesignError, match="different units"):
        spillover(*units, shares=0.3)
    with pytest.raises(DesignError, match="`est` and `effect` are in different units"):
        contaminated_comparison(units[0].where([0]), effect=units[1].where([1]))


@pytest.mark.parametrize(
    ("target", "effect", "spread", "shape"),
    [
        (-9.0, 0.5, 3.0, "line"), (-30.0, 0.5, 3.0, "none"), (-18.0, -1.0, 6.0, "interval"),
        (-18.0, 3.0, 6.0, "interval"), (-9.4, 8.0, 0.01, "interval"), (-9.4, 0.1, 0.01, "interval"),
    ],
)  # fmt: skip
def test_break_even_is_the_part_of_the_set_among_shares(target, effect, spread, shape) -> None:
    """Against intervals at a grid of shares, also where the effect may be zero."""
    frame = pd.DataFrame({"estimand": ["att"], "outcome": "spend", "estimate": [-9.0]})
    labels = pd.Index(["A", "B", "C"])
    est = vbc.Estimates(frame=frame, psi=np.array([[0.4], [-0.4], [0]]), clusters=labels)
    other = vbc.Estimates(
        frame=frame.assign(estimate=effect), psi=spread * np.array([[0.5], [0.5], [-1.0]]),
        clusters=labels,
    )  # fmt: skip
    grid = np.linspace(0, 1 - 1e-9, 101)
    line = contaminated_comparison(est, exposure=grid, effect=other)
    gap = np.abs(line.estimates.estimate - target)
    inside = grid[gap <= stats.norm.ppf(0.975) * line.estimates.std_error]
    even = line.break_even(target).iloc[0]
    assert even["set"] == shape
    if shape == "none":
        assert not len(inside)
        assert np.isnan(even["low"])
    else:
        ends = (inside.min(), inside.max())
        assert (even["low"], even["high"]) == pytest.approx(ends, abs=0.011)


def test_estimated_weights_of_the_treated_are_refused_in_a_share() -> None:
    rows = residents(seed=10)
    rows["hcc"] = np.random.default_rng(1).normal(size=MARKETS)[rows["market"]]
    data = panel(rows)

    def share(weights: vbc.balance.BalanceWeights) -> vbc.Estimates:
        design = vbc.Design(outcome="spend", balance_weights=weights)
        return attributed_share(data, design, by="attributed", level="yes")

    weights = vbc.balance.overlap(data, ["hcc"])
    with pytest.raises(EstimationError, match="weights of treated clusters are estimated"):
        share(weights)
    assert 0 < share(weights.fixed()).estimate[0] < 1
    # entropy weights leave the treated as they are
    plain = attributed_share(data, SPEND, by="attributed", level="yes")
    balanced = share(vbc.balance.entropy(data, ["hcc"]))
    np.testing.assert_allclose(balanced.psi, plain.psi)


def test_shares_of_few_people_are_not_shown() -> None:
    rows = pd.DataFrame({
        "person": np.arange(80), "aco": np.arange(80) % 4, "year": 2016 + np.arange(80) // 40,
        "attributed": np.where(np.arange(80) % 10 == 0, "yes", "no"), "spend": 1.0,
    })  # fmt: skip
    rows["entry"] = np.where(rows["aco"] < 2, 2017.0, np.nan)
    data = vbc.Panel.from_frame(
        rows, unit="person", period="year", cohort="entry", cluster="aco",
        strata=["attributed"], kind="repeated_cross_section",
    )  # fmt: skip
    with pytest.raises(DataError, match="fewer than 11 people"):
        attributed_share(data, SPEND, by="attributed", level="yes")
