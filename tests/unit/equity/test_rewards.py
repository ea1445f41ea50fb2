"""Payments by stratum of organizations."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval import programs

MSSP = programs.get("mssp")
N = 40


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    names = [f"A{i}" for i in range(N)]
    return pd.DataFrame(
        {"aco_id": names, "track": "ENHANCED", "n_ab": rng.integers(6_000, 60_000, N),
         "benchmark": 200e6, "expenditure": rng.normal(197e6, 9e6, N), "qual_score": 0.9,
         "met_qps": True, "min_sav_perc": 0.02}
    )  # fmt: skip


def labels(table: pd.DataFrame) -> dict[str, str]:
    return {x: ("yes", "no", "no")[i % 3] for i, x in enumerate(table["aco_id"])}


def sizes(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["aco_id"], 0.97 * table["n_ab"], strict=True))


def found(table: pd.DataFrame, **options) -> vbc.Estimates:
    settled = MSSP.settle(table, performance_year=2024, **options)
    return vbc.equity.rewards(
        settled, labels(table), by="safety_net", exposure=sizes(table), ssc=vbc.inference.SSC.none()
    )


def by_hand(table: pd.DataFrame, weight: np.ndarray) -> np.ndarray:
    pay = MSSP.settle(table, performance_year=2024).payment
    size = np.array(list(sizes(table).values()))
    inside = np.array(list(labels(table).values()))
    out = []
    for name in ("yes", "no"):
        w = weight * (inside == name)
        out += [w @ pay / (w @ size), w @ (pay > 0) / w.sum(), w @ (pay < 0) / w.sum()]
    return np.array(out)


def test_amounts_and_influence_by_hand(table) -> None:
    est = found(table)
    assert est.estimate == pytest.approx(by_hand(table, np.ones(N)), rel=1e-14)
    step = 1e-5
    slopes = [
        (by_hand(table, np.ones(N) + step * e) - by_hand(table, np.ones(N) - step * e)) / (2 * step)
        for e in np.eye(N)
    ]
    assert est.influence().to_numpy() == pytest.approx(np.array(slopes), abs=1e-6)
    assert {0.0, 1.0}.isdisjoint(est.where(estimand="share_paid").estimate)


def test_gap_between_strata_is_joint(table) -> None:
    gap = vbc.equity.gaps(found(table), by="safety_net", reference="no")
    hand = by_hand(table, np.ones(N))
    assert gap.estimate == pytest.approx(hand[:3] - hand[3:], rel=1e-12)
    both = found(table).where(estimand="payment_per_unit").std_error
    assert gap.std_error[0] == pytest.approx(np.hypot(*both))  # no organization in both


def test_draws_stay_draws_and_a_constant_is_itself(table) -> None:
    base = table["expenditure"].to_numpy()[:, None]
    same = found(table, draws={"expenditure": np.repeat(base, 5, axis=1)})
    assert same.estimate == pytest.approx(found(table).estimate, rel=1e-13)
    spread = found(
        table, draws={"expenditure": base + np.random.default_rng(1).normal(0, 5e6, (N, 200))}
    )
    assert spread.draws().shape == (200, 6)
    assert (spread.std_error > 0).all()


def test_all_that_is_missing_is_said_at_once(table) -> None:
    settled = MSSP.settle(table, performance_year=2024)
    strata, size = labels(table), sizes(table)
    strata["A1"], size["A2"] = "alone", 0.0
    del strata["A3"], size["A4"]
    with pytest.raises(vbc.DataError) as caught:
        vbc.equity.rewards(settled, strata, by="safety_net", exposure=size)
    for words in ("no stratum: `A3`", "no exposure: `A4`", "1 exposures are not", "`alone`"):
        assert words in str(caught.value)


def test_only_lines_of_dollars_and_named_strata(table) -> None:
    settled = MSSP.settle(table, performance_year=2024)
    with pytest.raises(vbc.DesignError, match="`sharing_rate`, which is no amount of dollars"):
        vbc.equity.rewards(
            settled, labels(table), by="x", exposure=sizes(table), line="sharing_rate"
        )
    strata, size = labels(table), sizes(table)
    strata["A1"], size["A2"], size["A3"] = np.nan, "many", np.nan
    with pytest.raises(vbc.DataError) as caught:
        vbc.equity.rewards(settled, strata, by="x", exposure=size)
    for words in ("no stratum: `A1`", "no exposure: `A3`", "1 exposures are not positive"):
        assert words in str(caught.value)


def test_unit_and_covariance_are_named(table) -> None:
    est = found(table)
    assert est.frame["unit_of_measure"].iloc[0] == "USD per unit of exposure (positive = paid)"
    assert est.meta["vcov"] == "CR0"
    settled = MSSP.settle(table, performance_year=2024)
    given = {"by": "safety_net", "exposure": sizes(table)}
    adjusted = vbc.equity.rewards(settled, labels(table), **given)
    assert adjusted.meta["vcov"] == "CR1"
    n = est.frame["n_clusters"].to_numpy()
    assert adjusted.std_error == pytest.approx(est.std_error * np.sqrt(n / (n - 1)))


def test_effect_of_a_rule_by_stratum_is_joint(table) -> None:
    half = MSSP.with_values(sharing_rate=0.375).settle(table, performance_year=2024)
    full = MSSP.settle(table, performance_year=2024)
    given = {"by": "safety_net", "exposure": sizes(table)}
    est = vbc.equity.rewards(half, labels(table), against=full, **given)
    assert est.frame["estimand"].tolist()[:3] == [
        "difference_payment_per_unit", "difference_share_paid", "difference_share_owing",
    ]  # fmt: skip
    runs = [vbc.equity.rewards(x, labels(table), **given) for x in (half, full)]
    both = vbc.stack(runs, labels=["half", "full"])
    hand = both.contrast(np.hstack([np.eye(6), -np.eye(6)]))
    assert est.estimate == pytest.approx(hand.estimate, rel=1e-12)
    assert est.vcov() == pytest.approx(hand.vcov(), rel=1e-9, abs=1e-12)
    assert (est.where(estimand="difference_payment_per_unit").estimate < 0).all()
    base = {"expenditure": np.repeat(table["expenditure"].to_numpy()[:, None], 4, axis=1)}
    drawn = MSSP.with_values(sharing_rate=0.375).settle(table, performance_year=2024, draws=base)
    same = vbc.equity.rewards(drawn, labels(table), against=full, **given)
    assert same.draws() == pytest.approx(np.tile(est.estimate, (4, 1)))
    other = MSSP.settle(table.iloc[::-1], performance_year=2024)
    with pytest.raises(vbc.DesignError, match="in another order"):
        vbc.equity.rewards(half, labels(table), against=other, **given)
