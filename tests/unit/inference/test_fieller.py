"""Sets of a ratio against a search over its values."""

from __future__ import annotations

import numpy as np
import pytest

from vbceval.inference.fieller import fieller

LIMIT = 3.84


@pytest.mark.parametrize(
    ("numerator", "denominator", "shape"),
    [(-3.0, 2.0, "interval"), (3.0, 0.3, "outside"), (0.2, 0.3, "line")],
)
def test_the_set_is_what_the_test_does_not_reject(numerator, denominator, shape) -> None:
    vcov = np.array([[0.3, 0.05], [0.05, 0.1]])
    found = fieller(numerator, denominator, vcov, LIMIT)
    assert found.shape == shape
    ratio = np.linspace(-60, 60, 240_001)
    gap = (numerator - ratio * denominator) ** 2
    kept = gap <= LIMIT * (vcov[0, 0] - 2 * ratio * vcov[0, 1] + ratio**2 * vcov[1, 1])
    if shape == "line":
        assert kept.all()
        return
    inside = (ratio >= found.low) & (ratio <= found.high)
    expected = inside if shape == "interval" else ~inside
    assert (kept != expected).sum() <= 2


def test_a_denominator_known_to_be_zero() -> None:
    vcov = np.diag([1.0, 0.0])
    assert fieller(3.0, 0.0, vcov, LIMIT).shape == "empty"
    assert fieller(1.0, 0.0, vcov, LIMIT).shape == "line"


@pytest.mark.parametrize("covariance", [0.5, -0.5])
def test_a_denominator_exactly_at_the_limit_leaves_one_end(covariance: float) -> None:
    vcov, limit = np.array([[1.0, covariance], [covariance, 1.0]]), 4.0
    found = fieller(3.0, 2.0, vcov, limit)
    end = found.high if np.isfinite(found.high) else found.low
    gap = (3.0 - 2.0 * end) ** 2 - limit * (1 - 2 * end * covariance + end**2)
    assert gap == pytest.approx(0.0, abs=1e-12)
    for ratio in (end - 1, end + 1):
        held = (3.0 - 2.0 * ratio) ** 2 <= limit * (1 - 2 * ratio * covariance + ratio**2)
        assert held == (found.low <= ratio <= found.high)


@pytest.mark.parametrize("beyond", [1e-9, -1e-9])
def test_the_near_end_keeps_its_digits_where_the_other_is_far_out(beyond: float) -> None:
    """Of a denominator close to the limit; the end was wrong in its seventh digit, or zero."""
    vcov, limit = np.array([[1.0, 0.5], [0.5, 1.0]]), 4.0
    found = fieller(3.0, 2.0 * (1 + beyond), vcov, limit)
    ends = np.array([found.low, found.high])
    near = float(ends[np.argmin(np.abs(ends))])
    # at the limit itself: 9 - 12 L + 4 L^2 = 4 (1 - L + L^2), so L = 5 / 8
    assert near == pytest.approx(0.625, abs=1e-8)
    slope = -12 + 4  # how fast the test falls there
    step = -(4 * beyond * (2 * 0.625**2) - 12 * beyond * 0.625) / slope
    assert near == pytest.approx(0.625 + step, abs=1e-15)
    assert fieller(0.0, 3.0, np.zeros((2, 2)), limit)[:2] == (0.0, 0.0)
