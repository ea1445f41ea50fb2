"""Steps of a settlement: worked numbers, shapes, and what happens at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from vbceval.programs import get
from vbceval.programs.steps import corridor, gate, interpolated, limited, sequestered

PROFESSIONAL = [(0.05, 0.5), (0.10, 0.35), (0.15, 0.15), (np.inf, 0.05)]


@pytest.mark.parametrize(
    ("people", "percent"),
    [
        (499, 12.20), (500, 12.20), (2000, 6.849075), (4200, 4.33967), (5000, 3.9), (5500, 3.74985),
        (5999, 3.6), (7500, 3.2999), (10000, 3.0), (12000, 2.879976), (17500, 2.59998),
        (35000, 2.349995), (55000, 2.09999), (59999, 2.0), (60000, 2.0), (900_000, 2.0),
    ],
)  # fmt: skip
def test_minimum_savings_rates_are_those_of_the_published_table(
    people: int, percent: float
) -> None:
    rows = get("mssp").terms(2018, ["TRACK_1"]).table("minimum_rate_table")
    # the published examples have up to six decimals
    assert 100 * interpolated(people, rows) == pytest.approx(percent, abs=5.1e-6)


def test_a_missing_count_has_no_rate() -> None:
    assert np.isnan(interpolated([np.nan], [(1, np.inf, 0.1, 0.1)])).all()


def test_a_corridor_shares_each_band_and_keeps_the_sign() -> None:
    amounts = np.array([[12e6], [-12e6], [0.0], [5e6]])
    got = corridor(amounts, np.full((4, 1), 100e6), PROFESSIONAL)
    assert got.ravel().tolist() == pytest.approx([4.55e6, -4.55e6, 0.0, 2.5e6])


def test_a_corridor_is_continuous_at_the_ends_of_its_bands() -> None:
    for end, _ in PROFESSIONAL[:-1]:
        around = end * 100 + np.array([-1e-9, 0.0, 1e-9])
        assert np.ptp(corridor(around, 100.0, PROFESSIONAL)) < 1e-8


def test_the_gate_is_met_at_its_rate_and_never_by_nothing() -> None:
    gross = np.array([2.0, 1.99, -2.0, -1.99, 0.0])
    assert gate(gross, 100.0, savings=0.02, losses=0.02).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert gate(gross, 100.0, savings=0.0, losses=np.inf).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_limits_and_sequestration_touch_their_own_side() -> None:
    amounts = np.array([30.0, 10.0, -30.0])
    assert limited(amounts, gain=20.0, loss=5.0).tolist() == [20.0, 10.0, -5.0]
    assert limited(amounts).tolist() == amounts.tolist()
    assert sequestered(amounts, 0.02).tolist() == [29.4, 9.8, -30.0]


def test_organizations_and_draws_broadcast() -> None:
    draws = np.linspace(-20, 20, 12).reshape(3, 4)
    assert corridor(draws, np.full((3, 1), 100.0), PROFESSIONAL).shape == (3, 4)
    assert gate(draws, np.full((3, 1), 100.0), savings=0.1, losses=0.1).shape == (3, 4)
