"""Spans of printed numbers: ends worked out by hand."""

from __future__ import annotations

import math

import pytest

from vbceval.evidence.rounding import Span, half_unit


@pytest.mark.parametrize(
    ("text", "half"),
    [
        ("-3.97", 0.005),
        ("17956", 0.5),
        ("0", 0.5),
        ("0.0", 0.05),
        ("50000", 0.5),
        ("131000000", 500_000.0),
        ("-49768478", 0.5),
        ("2100000000", 50_000_000.0),
    ],
)
def test_half_a_unit_of_the_last_printed_digit(text: str, half: float) -> None:
    assert half_unit(text) == pytest.approx(half, rel=1e-12)


def test_arithmetic_keeps_every_possible_value() -> None:
    a, b = Span(-2.0, 3.0), Span(4.0, 5.0)
    assert a + b == Span(2.0, 8.0)
    assert a - b == Span(-7.0, -1.0)
    assert a * b == Span(-10.0, 15.0)
    assert a * -2.0 == Span(-6.0, 4.0)
    assert a / b == Span(-0.5, 0.75)
    assert abs(a) == Span(0.0, 3.0)
    assert abs(Span(-3.0, -2.0)) == Span(2.0, 3.0)


def test_division_by_a_span_that_holds_zero_knows_nothing() -> None:
    assert Span(1.0, 2.0) / Span(-1.0, 1.0) == Span(-math.inf, math.inf)


def test_gap_and_overlap() -> None:
    assert Span(0.0, 1.0).gap(Span(3.0, 4.0)) == 2.0
    assert Span(3.0, 4.0).gap(Span(0.0, 1.0)) == 2.0
    assert Span(0.0, 1.0).overlaps(Span(1.0, 2.0))
    assert not Span(0.0, 1.0).overlaps(Span(1.001, 2.0))


def test_the_log_of_a_value_that_is_not_positive_is_not_finite() -> None:
    assert Span(0.0, 1.0).log() == Span(-math.inf, 0.0)
