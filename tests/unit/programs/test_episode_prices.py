"""Benchmarks from episodes, recomputed by hand."""

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.programs import get
from vbceval.programs.episode_prices import (
    bpci_advanced_benchmarks,
    cap_spending,
    cjr_benchmarks,
    team_benchmarks,
)


def episodes(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "hospital": rng.choice(["A", "B", "C"], n, p=[0.6, 0.38, 0.02]),
            "region": "5",
            "cell": rng.choice(["469", "470"], n),
            "spending": rng.gamma(4.0, 6_000.0, n),
        }
    )


def test_cap_at_two_standard_deviations() -> None:
    spending = pd.Series([10.0] * 9 + [110.0])
    group = pd.Series(["x"] * 10)
    kept = cap_spending(spending, [group], standard_deviations=2.0)
    assert kept.iloc[-1] == pytest.approx(20.0 + 2 * spending.std())
    assert cap_spending(pd.Series([5.0]), [pd.Series(["x"])], standard_deviations=2.0)[0] == 5.0


def test_cjr_blend_by_hand_and_few_episodes_get_the_regional_price() -> None:
    old, new = episodes(1), episodes(2, 200)
    table = cjr_benchmarks(get("cjr"), old, new, performance_year=2017).set_index("hospital")
    cap = {}
    for cell in ("469", "470"):
        x = old.loc[old["cell"] == cell, "spending"]
        cap[cell] = x.mean() + 2 * x.std()
    x = np.minimum(old["spending"], old["cell"].map(cap))
    regional = {c: x[old["cell"] == c].mean() for c in cap}
    own = {c: x[(old["cell"] == c) & (old["hospital"] == "A")].mean() for c in cap}
    mine = new[new["hospital"] == "A"]
    assert table.loc["A", "regional_benchmark"] == pytest.approx(mine["cell"].map(regional).sum())
    assert table.loc["A", "hospital_benchmark"] == pytest.approx(mine["cell"].map(own).sum())
    assert (old["hospital"] == "C").sum() < 20
    assert table.loc["C", "hospital_benchmark"] == pytest.approx(
        table.loc["C", "regional_benchmark"]
    )
    settled = get("cjr").settle(
        table.reset_index().assign(hospital_type="STANDARD", quality_score=10.0),
        performance_year=2017,
    )
    assert len(settled) == 3


def test_cjr_regional_price_follows_the_market_from_2022() -> None:
    old, new = episodes(1), episodes(2)
    scaled = new.assign(spending=new["spending"] * 1.1)
    once = cjr_benchmarks(get("cjr"), old, new, performance_year=2023)
    more = cjr_benchmarks(get("cjr"), old, scaled, performance_year=2023)
    want = once["regional_benchmark"].to_numpy()
    assert more["regional_benchmark"].to_numpy() == pytest.approx(want * 1.1)
    risky = cjr_benchmarks(get("cjr"), old, new.assign(risk_factor=1.2), performance_year=2023)
    assert risky["regional_benchmark"].to_numpy() == pytest.approx(want * 1.2)


def test_team_weighs_three_years_and_sorts_by_category() -> None:
    old = pd.DataFrame(
        {
            "region": "5", "cell": ["470"] * 3 + ["330"] * 3, "year": [2022, 2023, 2024] * 2,
            "spending": [100.0, 200.0, 300.0, 1_000.0, 1_000.0, 1_000.0],
        }
    )  # fmt: skip
    new = pd.DataFrame(
        {
            "hospital": ["A", "A", "B"], "region": "5", "cell": ["470", "330", "470"],
            "category": ["lejr", "major_bowel", "lejr"], "spending": [90.0, 900.0, 90.0],
            "risk_factor": [1.0, 1.5, 2.0],
        }
    )  # fmt: skip
    table = team_benchmarks(get("team"), old, new, performance_year=2026).set_index("hospital")
    price = 0.17 * 100 + 0.33 * 200 + 0.5 * 300
    assert table.loc["A", "benchmark_lejr"] == pytest.approx(price)
    assert table.loc["A", "benchmark_major_bowel"] == pytest.approx(1_000.0)
    settled = get("team").settle(
        table.reset_index().assign(track="TRACK_3", quality_score=50.0), performance_year=2026
    )
    # the sum of the targets of the episodes, though categories differ in discount and risk
    assert settled["target"][0] == pytest.approx(0.98 * price + 0.985 * 1_500)
    assert table.loc["B", "risk_factor"] == pytest.approx(2.0)
    assert table.loc["A", "actual"] == pytest.approx(990.0)
    with pytest.raises(DataError, match="2 problems"):
        team_benchmarks(
            get("team"), old[old["year"] > 2022], new.assign(category="hip"), performance_year=2026
        )


def test_bpci_advanced_price_is_a_product() -> None:
    rng = np.random.default_rng(3)
    new = pd.DataFrame(
        {
            "episode_initiator": np.repeat(["g", "h"], 100), "category": "sepsis",
            "kind": "medical", "spending": rng.gamma(3.0, 9_000.0, 200),
            "standard_baseline": 25_000.0, "case_mix": 1.1, "peer_trend": 0.98,
            "offset": np.repeat([0.95, np.nan], 100),
        }
    )  # fmt: skip
    table = bpci_advanced_benchmarks(get("bpci_advanced"), new, performance_year=2022)
    want = 100 * 25_000.0 * 1.1 * 0.98
    assert table["benchmark_medical"].tolist() == pytest.approx([0.95 * want, want])
    assert table["benchmark_surgical"].tolist() == [0.0, 0.0]
    low, high = new["spending"].quantile([0.01, 0.99])
    assert table["actual"].sum() == pytest.approx(new["spending"].clip(low, high).sum())
    with pytest.raises(DataError, match="`offset` hold text, infinite values, or values"):
        bpci_advanced_benchmarks(get("bpci_advanced"), new.assign(offset=0), performance_year=2022)
    with pytest.raises(DataError, match="are no kinds"):
        bpci_advanced_benchmarks(get("bpci_advanced"), new.assign(kind="x"), performance_year=2022)


def test_everything_wrong_with_episodes_is_said() -> None:
    old, new = episodes(1), episodes(2)
    with pytest.raises(DataError, match="2 problems"):
        cjr_benchmarks(
            get("cjr"), old.drop(columns="cell"), new.assign(spending=-1.0), performance_year=2019
        )
    with pytest.raises(DataError, match="1 price cells of regions"):
        cjr_benchmarks(get("cjr"), old[old["cell"] == "469"], new, performance_year=2019)
    for risk, told in [(np.nan, "missing values"), (0.0, "not above 0"), (np.inf, "not above 0")]:
        with pytest.raises(DataError, match=f"`risk_factor` of the performance hold.*{told}"):
            cjr_benchmarks(get("cjr"), old, new.assign(risk_factor=risk), performance_year=2023)
    with pytest.raises(DataError, match="prices of 2019 are not adjusted for risk"):
        cjr_benchmarks(get("cjr"), old, new.assign(risk_factor=1.2), performance_year=2019)
    with pytest.raises(DataError, match=r"`spending` of the performance hold.*infinite"):
        cjr_benchmarks(get("cjr"), old, new.assign(spending=np.inf), performance_year=2019)
