"""Conversions against scipy's distributions and against arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vbceval.core.errors import DataError
from vbceval.evidence import convert


@pytest.mark.parametrize("level", [0.80, 0.90, 0.95, 0.99])
def test_an_interval_gives_back_its_standard_error(level: float) -> None:
    low, high = stats.norm.interval(level, loc=-453, scale=232.66)
    assert convert.se_from_interval(low, high, level) == pytest.approx(232.66, rel=1e-12)


def test_a_student_interval_gives_back_its_standard_error() -> None:
    low, high = stats.t.interval(0.95, df=12, loc=1.0, scale=0.4)
    assert convert.se_from_interval(low, high, 0.95, df=12) == pytest.approx(0.4, rel=1e-10)


def test_one_interval_at_two_levels_differs_by_the_critical_values() -> None:
    ninety, ninety_five = convert.se_from_interval([-771, -771], [-227, -227], [0.90, 0.95])
    # 544 / (2 x 1.6449) and 544 / (2 x 1.9600)
    assert ninety == pytest.approx(165.36, abs=0.005)
    assert ninety_five == pytest.approx(138.78, abs=0.005)
    assert ninety / ninety_five == pytest.approx(stats.norm.ppf(0.975) / stats.norm.ppf(0.95))


@pytest.mark.parametrize("level", [95.0, 1.0, 0.0])
def test_a_level_in_percent_is_refused(level: float) -> None:
    with pytest.raises(DataError, match="fraction between 0 and 1"):
        convert.se_from_interval(-1, 1, level)


def test_z_and_p_are_inverses_of_each_other() -> None:
    z = np.array([0.0, 0.5, 1.959964, 3.3, 6.0])
    p = convert.p_from_z(-z)
    np.testing.assert_allclose(p, 2 * stats.norm.sf(z), rtol=1e-12)
    np.testing.assert_allclose(convert.z_from_p(p), z, atol=1e-9)


def test_a_p_value_gives_back_the_standard_error() -> None:
    se, estimate = 10.83, np.array([-29.2, 29.2])
    p = 2 * stats.norm.sf(29.2 / se)
    np.testing.assert_allclose(convert.se_from_p(estimate, p), se, rtol=1e-10)


def test_no_standard_error_follows_from_zero_or_from_p_of_one() -> None:
    assert np.isnan(convert.se_from_p([0.0, -3.0], [0.5, 1.0])).all()


def test_a_bound_on_p_bounds_the_standard_error_on_one_side() -> None:
    low, high = convert.se_bounds_from_p([-11.7, -11.7], [0.001, 0.001], [True, False])
    edge = 11.7 / stats.norm.ppf(0.9995)
    np.testing.assert_allclose(low, [0, edge])
    np.testing.assert_allclose(high, [edge, np.inf])


def test_the_shape_of_an_interval() -> None:
    cases = [
        ("linear", -453, -909, 3),
        ("asymmetric", 455, 137, 722),  # middle 429.5, off by 8.7 % of the half-width
        ("log", 2.0, 1.0, 4.0),  # middle of the logarithms
        ("linear", 1.00, 0.90, 1.10),
        ("none", np.nan, 0, 1),
        ("none", 0, np.nan, np.nan),
    ]
    names, estimate, low, high = zip(*cases, strict=True)
    assert convert.interval_shape(estimate, low, high).tolist() == list(names)


def test_exactly_five_percent_off_the_middle_is_still_central() -> None:
    shapes = convert.interval_shape([-5.0, -5.01], [-100, -100], [100, 100])
    assert shapes.tolist() == ["linear", "asymmetric"]


def test_rounding_can_explain_an_asymmetry() -> None:
    # 0.1 (-0.1 to 0.2) may have been 0.05 (-0.1 to 0.2)
    assert convert.interval_shape(0.1, -0.1, 0.2) == "asymmetric"
    assert convert.interval_shape(0.1, -0.1, 0.2, rounding=0.05) == "linear"


def test_dollars_percent_and_baseline_form_a_triangle() -> None:
    assert convert.percent_of_baseline(-499, 29120) == pytest.approx(-1.7136, abs=5e-5)
    assert convert.implied_baseline(-144, -1.4) == pytest.approx(10285.71, abs=0.005)
    assert np.isnan(convert.percent_of_baseline(-499, 0))
    assert np.isnan(convert.implied_baseline(-144, 0))


@pytest.mark.parametrize(
    ("unit", "per", "in_a_year"),
    [
        ("USD PBPM", "person", 12),
        ("USD PBPM (positive = cost)", "person", 12),
        ("USD per month", "person", 12),
        ("USD per beneficiary per quarter", "person", 4),
        ("USD per beneficiary per year", "person", 1),
        ("USD per person-year vs benchmark (positive = savings)", "person", 1),
        ("USD per capita (positive = savings)", "person", 1),
        ("USD per episode", "episode", 1),
        ("USD total cumulative", "total", 1),
        ("USD per visit", "other", 1),
        ("percentage points", "other", 1),
    ],
)
def test_what_a_unit_is_per(unit: str, per: str, in_a_year: float) -> None:
    assert convert.unit_basis(unit) == (per, in_a_year)


@pytest.mark.parametrize(
    ("unit", "sign"),
    [
        ("USD per episode", 1),
        ("USD per episode (positive = cost)", 1),
        ("USD total (positive = paid to participants)", 1),
        ("USD total (positive = savings)", -1),
        ("USD total vs benchmark (negative = over benchmark)", -1),
    ],
)
def test_the_sign_is_in_the_unit(unit: str, sign: int) -> None:
    assert convert.effect_sign(unit) == sign
