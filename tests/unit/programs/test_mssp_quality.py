"""Quality of the Shared Savings Program from measures: points, domains, standards, adjustment."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.programs import get
from vbceval.programs.mssp_quality import mssp_quality


def measures(*rows: tuple[Any, ...], columns: str) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns.split())
    if "measure" not in frame:
        frame["measure"] = [f"m{i}" for i in range(len(frame))]
    return frame


def acos(*rows: dict[str, Any]) -> pd.DataFrame:
    flags = {"reported": True, "electronic": False, "first_year": False}
    given = {name: flags[name] for name in flags if any(name in row for row in rows)}
    return pd.DataFrame([{"aco_id": f"A{i}", **given, **row} for i, row in enumerate(rows)])


def test_domains_average_points_with_improvement_up_to_their_limit() -> None:
    table = measures(
        ("A0", "d1", 95.0, 1, 0.0), ("A0", "d1", 62.0, 2, 3.0), ("A0", "d2", 29.0, 1, 9.0),
        ("A0", "d2", 30.0, 1, 0.0), ("A0", "d2", None, 1, 0.0),
        columns="aco_id domain percentile weight improvement",
    )  # fmt: skip
    found = mssp_quality(table, acos({}), performance_year=2018).acos
    first = min((2.0 + 2 * 1.55 + 3.0) / 6.0, 1.0)  # 8.1 of 6 points
    second = min((0.0 + 1.1 + 4.0) / 4.0, 1.0)
    assert found["qual_score"].tolist() == [(first + second) / 2]
    alone = table.assign(improvement=0.0)
    found = mssp_quality(alone, acos({}), performance_year=2018)
    assert found.acos["qual_score"].tolist() == pytest.approx([(5.1 / 6 + 1.1 / 4) / 2])
    assert {u.parameter for u in found.used if u.status == "unconfirmed"} >= {"quality_points"}


def test_a_domain_without_points_fails_and_reporting_earns_all() -> None:
    table = measures(
        ("A0", "d1", 95.0, False), ("A0", "d2", 12.0, False), ("A1", "d1", 95.0, False),
        ("A1", "d2", 12.0, True), ("A2", "d1", 95.0, False),
        columns="aco_id domain percentile reporting_only",
    )  # fmt: skip
    found = mssp_quality(table, acos({}, {}, {"reported": False}), performance_year=2017).acos
    assert found["met_qps"].tolist() == [False, True, False]
    assert found["qual_score"].tolist() == [0.5, 1.0, 1.0]


def app(*points: float, aco: str = "A0", percentile: float = 50.0) -> pd.DataFrame:
    rows = [(aco, p, percentile, i == 0, "top") for i, p in enumerate(points)]
    return measures(*rows, columns="aco_id points percentile outcome third")


def test_the_standard_is_met_by_score_by_reporting_or_in_a_first_year() -> None:
    table = pd.concat([app(7.0, 7.0, aco=f"A{i}", percentile=40.0) for i in range(4)])
    who = acos({}, {"electronic": True}, {"first_year": True}, {"reported": False})
    found = mssp_quality(table, who, performance_year=2026).acos
    assert found["qual_score"].tolist() == [0.7] * 4
    assert found["met_qps"].tolist() == [False, True, True, False]
    assert found["met_alternative"].tolist() == [True, False, False, False]
    lower = mssp_quality(table, who, performance_year=2026, threshold=0.7).acos
    assert lower["met_qps"].tolist() == [True, True, True, False]
    earlier = mssp_quality(table, who, performance_year=2021, threshold=0.9).acos
    assert not earlier["met_alternative"].any()


def test_a_score_at_the_threshold_meets_it() -> None:
    # 5.1 points of 30, but for the last bits of the sum
    table = app(1.0, 1.0, 3.1, percentile=5.0)
    found = mssp_quality(table, acos({}), performance_year=2025, threshold=0.17).acos
    assert found["qual_score"][0] < 0.17
    assert found["met_qps"][0]


def test_one_outcome_measure_counts_once() -> None:
    who = acos({"electronic": True})
    alone = app(5.0).assign(percentile=60.0)
    assert not mssp_quality(alone, who, performance_year=2025, threshold=0.9).acos["met_qps"][0]
    second = app(5.0, 5.0).assign(percentile=[60.0, 12.0], outcome=True)
    assert mssp_quality(second, who, performance_year=2025, threshold=0.9).acos["met_qps"][0]
    process = app(5.0, 5.0).assign(percentile=[12.0, 39.0])
    assert not mssp_quality(process, who, performance_year=2025, threshold=0.9).acos["met_qps"][0]


@pytest.mark.parametrize(
    ("share", "year", "electronic", "points"),
    [(0.30, 2024, True, 3.0), (0.19, 2024, True, 0.0), (1.0, 2024, True, 10.0),
     (0.30, 2024, False, 0.0), (0.30, 2026, True, 0.0)],
)  # fmt: skip
def test_the_adjustment_for_underserved_patients(
    share: float, year: int, electronic: bool, points: float
) -> None:
    table = app(6.0, 6.0, 6.0, 6.0).assign(third=["top", "top", "middle", "bottom"])
    who = acos({"underserved": share, "electronic": electronic})
    found = mssp_quality(table, who, performance_year=year, threshold=0.9).acos
    assert found["bonus"][0] == pytest.approx(points / 100)
    assert found["qual_score"][0] == pytest.approx(0.6 + points / 100)


def test_scores_feed_a_settlement() -> None:
    table = pd.concat([app(6.5, 6.5), app(9.0, 9.0, aco="A1")])
    scored = mssp_quality(table, acos({}, {}), performance_year=2026).acos
    row = {"track": "BASIC_E", "n_ab": 20_000, "benchmark": 100e6, "expenditure": 95e6,
           "min_sav_perc": 0.01}  # fmt: skip
    settled = get("mssp").settle(scored.assign(**row), performance_year=2026)
    assert settled["sharing_rate"] == pytest.approx([0.325, 0.5])


def test_what_is_wrong_is_said_together() -> None:
    table = pd.concat([app(12.0), app(5.0), app(5.0).assign(aco_id="A7")])
    with pytest.raises(DataError) as caught:
        mssp_quality(table, acos({}, {}), performance_year=2026)
    for part in ("has a measure twice", "1 ACOs have no measures: `A1`", "lacks: `A7`", "`points`"):
        assert part in str(caught.value)
    who = acos({"electronic": "no", "underserved": "few"})
    with pytest.raises(DataError) as caught:
        mssp_quality(app(5.0), who, performance_year=2026)
    assert "`electronic` holds other values than true and false" in str(caught.value)
    assert "1 values of `underserved` are not numbers between 0 and 1" in str(caught.value)
    with pytest.raises(DataError, match="missing: `domain`"):
        mssp_quality(app(5.0), acos({}), performance_year=2016)
    lost = app(5.0, 5.0).assign(domain=["d1", None])
    with pytest.raises(DataError, match="1 rows of measures have no `domain`"):
        mssp_quality(lost, acos({}), performance_year=2016)
    with pytest.raises(DataError, match="`reported` holds other values than true and false, or"):
        mssp_quality(app(5.0), acos({"reported": None}), performance_year=2026)
    with pytest.raises(DesignError, match="no score that meets the standard of 2025"):
        mssp_quality(app(5.0), acos({}), performance_year=2025)
    with pytest.raises(DesignError, match="`mssp` has no performance year 2040"):
        mssp_quality(app(5.0), acos({}), performance_year=2040)
    by_domain = app(5.0).assign(domain="d1")
    with pytest.raises(DesignError, match="`threshold` has no meaning in 2018"):
        mssp_quality(by_domain, acos({}), performance_year=2018, threshold=0.7)
    with pytest.raises(DesignError, match="`threshold` is 73"):
        mssp_quality(app(5.0), acos({}), performance_year=2025, threshold=73.0)
