"""Palette in grey, number locale, P values."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from vbceval import figures
from vbceval.core.errors import DesignError
from vbceval.estimates import stack
from vbceval.figures.numbers import digits_for, stars
from vbceval.figures.style import (
    LINES,
    MARKERS,
    PALETTE,
    STYLES,
    Style,
    get_style,
    lightness,
    luminance,
)

APART = 10.0
"""Smallest difference of CIE L* at which neighbouring greys are told apart in print."""


def test_series_differ_in_grey_by_the_stated_minimum() -> None:
    assert min(abs(lightness(a) - lightness(b)) for a, b in combinations(PALETTE, 2)) >= APART


def test_every_colour_stands_out_from_the_page() -> None:
    # WCAG 2.1, 1.4.11: contrast of graphical objects at least 3 to 1
    assert min(1.05 / (luminance(c) + 0.05) for c in PALETTE) >= 3.0


def test_lightness_agrees_with_known_values() -> None:
    assert lightness("#ffffff") == pytest.approx(100.0)
    assert lightness("#000000") == pytest.approx(0.0)
    assert lightness("#777777") == pytest.approx(50.0, abs=0.3)


def test_series_differ_in_mark_and_line_as_well_as_colour() -> None:
    assert len(set(MARKERS)) == len(MARKERS) == len(PALETTE)
    assert len({str(x) for x in LINES}) == len(LINES) == len(PALETTE)


def test_drawn_series_differ_in_grey_and_in_mark(by_event_time) -> None:
    some = [by_event_time(f"enrollment={name}", i) for i, name in enumerate("abcd")]
    ax = figures.event_study(stack(some)).axes[0]
    drawn = [line for line in ax.get_lines() if line.get_label().startswith("Enrollment")]
    assert len(drawn) == 4
    faces = [lightness(to_hex(line.get_markerfacecolor())) for line in drawn]
    assert min(abs(a - b) for a, b in combinations(faces, 2)) >= APART
    assert len({line.get_marker() for line in drawn}) == 4


def test_trend_lines_differ_in_grey_and_in_line(means, effect) -> None:
    ax = figures.trend(means, effect, start=2014).axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    drawn = [lines[name] for name in ("Treated", "Comparison", "Counterfactual")]
    shades = [lightness(to_hex(line.get_color())) for line in drawn]
    assert min(abs(a - b) for a, b in combinations(shades, 2)) >= APART
    assert len({(line.get_linestyle(), line.get_marker()) for line in drawn}) == 3


def test_a_fifth_series_is_refused(by_event_time) -> None:
    some = [by_event_time(f"enrollment={name}", i) for i, name in enumerate("abcde")]
    with pytest.raises(DesignError, match="more than 4 series"):
        figures.event_study(stack(some))


@pytest.mark.parametrize(
    ("style", "value", "printed"),
    [
        ("jama", -1603.0, "\u22121603"),
        ("jama", 10000.0, "10\u2009000"),
        ("jama", 9999.6, "10\u2009000"),
        ("nejm", -1603.0, "\u22121,603"),
        ("health_affairs", 1234567.0, "1,234,567"),
        ("nejm", -0.3, "0"),
        ("nejm", float("nan"), "\u2013"),
    ],
)
def test_numbers_follow_the_style(style: str, value: float, printed: str) -> None:
    assert figures.number(value, get_style(style)) == printed


def test_intervals_say_to_and_money_keeps_its_sign_in_front() -> None:
    said = figures.interval(-1603.0, -414.0, get_style("jama"), prefix="$")
    assert said == "\u2212$1603 to \u2212$414"
    assert figures.interval(float("nan"), 1.0, get_style("jama")) == ""


@pytest.mark.parametrize(
    ("p", "jama", "nejm"),
    [
        (0.02, "P = .02", "P = 0.02"),
        (0.0004, "P < .001", "P < 0.001"),
        (0.0049, "P = .005", "P = 0.005"),
        # rounding may not carry a value over .05
        (0.0496, "P = .0496", "P = 0.0496"),
        (0.051, "P = .05", "P = 0.05"),
        (0.995, "P > .99", "P > 0.99"),
        (0.01, "P = .01", "P = 0.01"),
    ],
)
def test_p_values(p: float, jama: str, nejm: str) -> None:
    assert figures.p_statement(p, get_style("jama")) == jama
    assert figures.p_statement(p, get_style("nejm")) == nejm


@pytest.mark.parametrize(
    ("style", "p", "mark"),
    [
        ("economics", 0.009, "***"),
        ("economics", 0.01, "**"),
        ("economics", 0.2, ""),
        ("health_affairs", 0.0001, "****"),
        ("health_affairs", 0.009, "***"),
        ("jama", 0.0001, ""),
    ],
)
def test_stars_follow_the_style(style: str, p: float, mark: str) -> None:
    assert stars(p, get_style(style)) == mark


def test_star_rules_are_ordered() -> None:
    for style in STYLES.values():
        limits = [most for most, _ in style.stars]
        assert limits == sorted(limits)


def test_digits_fit_the_errors() -> None:
    assert digits_for([57.0, 80.0]) == 0
    assert digits_for([2.0]) == 1
    assert digits_for([0.6]) == 1
    assert digits_for(np.array([np.nan, 0.02])) == 3
    assert digits_for([]) == 0


def test_unknown_styles_and_fields_are_named() -> None:
    with pytest.raises(DesignError, match="no style 'lancet'"):
        get_style("lancet")
    with pytest.raises(DesignError, match="`colour`"):
        get_style("jama", colour="red")
    with pytest.raises(DesignError, match="level"):
        Style(name="x", level=95)
    with pytest.raises(DesignError, match="language"):
        get_style("jama", language="impact")
