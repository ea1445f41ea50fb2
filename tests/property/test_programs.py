"""Properties of settlements: monotone in spending, homogeneous in scale, kept within limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbceval.core.typing import FloatArray
from vbceval.programs import get
from vbceval.programs.steps import corridor

YEARS = {2018: ("TRACK_1", "TRACK_1_PLUS", "TRACK_2", "TRACK_3")} | dict.fromkeys(
    (2020, 2022, 2024), ("BASIC_A", "BASIC_B", "BASIC_C", "BASIC_D", "BASIC_E", "ENHANCED")
)
GRID = np.linspace(0.6, 1.4, 161)


def table(year: int, quality: float, people: int, chosen: float) -> pd.DataFrame:
    tracks = YEARS[year]
    return pd.DataFrame(
        {
            "aco_id": [f"A{i}" for i in range(len(tracks))], "track": tracks, "n_ab": people,
            "benchmark": 1e8, "expenditure": 1e8, "qual_score": quality, "met_qps": quality > 0.6,
            "met_alternative": quality > 0.3, "min_sav_perc": chosen, "rev_exp_cat": "low",
            "current_start_date": year, "participant_revenue": 4e7,
        }
    )  # fmt: skip


def payments(frame: pd.DataFrame, year: int, scale: float = 1.0) -> FloatArray:
    money = frame.assign(
        benchmark=frame["benchmark"] * scale,
        participant_revenue=frame["participant_revenue"] * scale,
    )
    spent = np.broadcast_to(1e8 * scale * GRID, (len(frame), len(GRID)))
    return get("mssp").settle(money, performance_year=year, draws={"expenditure": spent}).payment


cases = given(
    year=st.sampled_from(sorted(YEARS)),
    quality=st.floats(0.0, 1.0),
    people=st.integers(100, 90_000),
    chosen=st.sampled_from([0.0, 0.005, 0.01, 0.015, 0.02, 0.0271]),
)


@settings(max_examples=25)
@cases
def test_more_spending_never_raises_a_payment(
    year: int, quality: float, people: int, chosen: float
) -> None:
    assert (np.diff(payments(table(year, quality, people, chosen), year), axis=1) <= 1e-6).all()


@settings(max_examples=25)
@cases
def test_payments_grow_with_the_scale_of_money(
    year: int, quality: float, people: int, chosen: float
) -> None:
    frame = table(year, quality, people, chosen)
    # a power of two, so that savings at the edge of the minimum rate stay there
    np.testing.assert_allclose(payments(frame, year, 4.0), 4 * payments(frame, year), rtol=1e-9)


@settings(max_examples=25)
@cases
def test_payments_stay_within_their_limits(
    year: int, quality: float, people: int, chosen: float
) -> None:
    frame, program = table(year, quality, people, chosen), get("mssp")
    paid = payments(frame, year)
    cap = np.array([program.value("gain_cap", track, year).value for track in frame["track"]])
    spent = np.full((len(frame), 1), 1.0)
    most = program.settle(frame, performance_year=year, draws={"expenditure": spent})
    assert (paid.max(axis=1) <= cap * 1e8 * (1 + 1e-12)).all()
    assert (paid.min(axis=1) >= -most["loss_limit"] * (1 + 1e-12)).all()


@settings(max_examples=50)
@given(
    ends=st.lists(st.floats(0.01, 0.9), min_size=1, max_size=4, unique=True),
    shares=st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5),
    amount=st.floats(-2.0, 2.0),
)
def test_a_corridor_is_odd_monotone_and_nowhere_steeper_than_its_shares(
    ends: list[float], shares: list[float], amount: float
) -> None:
    bands = list(zip([*sorted(ends), np.inf], shares, strict=False))
    here, there = corridor([amount, amount + 1e-3], 1.0, bands)
    assert -1e-12 <= there - here <= 1e-3 * max(shares) + 1e-12
    assert float(corridor(-amount, 1.0, bands)) == pytest.approx(-float(here))
