"""Numbers as publications print them: true minus signs, thousands, P values, intervals."""

from __future__ import annotations

import math

import numpy as np

from vbceval.figures.style import Style

MINUS = "\u2212"
MISSING = "\u2013"
SUPPRESSED = "suppressed"


def number(value: float, style: Style, *, digits: int = 0, prefix: str = "") -> str:
    """
    Write a number with a true minus sign and the style's thousands mark.

    Parameters
    ----------
    value : float
        Missing values become an en dash.
    style : Style
        Gives the thousands mark and the smallest number that gets one.
    digits : int, default 0
        Digits after the point.
    prefix : str
        Currency sign, set between the minus sign and the digits.

    Examples
    --------
    >>> from vbceval.figures.style import get_style
    >>> number(-1603.4, get_style("jama"), prefix="$")
    '−$1603'
    >>> number(26215, get_style("nejm"))
    '26,215'
    """
    if value is None or not math.isfinite(float(value)):
        return MISSING
    text = f"{abs(float(value)):.{digits}f}"
    negative = value < 0 and float(text) != 0
    whole, _, fraction = text.partition(".")
    if float(text) >= style.thousands_from:
        whole = f"{int(whole):,}".replace(",", style.thousands)
    body = f"{whole}.{fraction}" if fraction else whole
    return f"{MINUS if negative else ''}{prefix}{body}"


def interval(low: float, high: float, style: Style, *, digits: int = 0, prefix: str = "") -> str:
    """Write an interval with the word "to": a dash would be read as a minus sign."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = [number(x, style, digits=digits, prefix=prefix) for x in (low, high)]
    return " to ".join(ends)


def interval_name(level: float, kind: str = "confidence") -> str:
    """
    Name an interval.

    Examples
    --------
    >>> interval_name(0.9), interval_name(0.95, "credible")
    ('90% CI', '95% CrI')
    """
    names = {"credible": "CrI", "mixed": "CI or CrI"}
    return f"{level * 100:g}% {names.get(kind, 'CI')}"


def p_value(p: float, style: Style) -> str:
    """
    Write a P value without its letter.

    Two digits from .01, three below, "<.001" at the end; a digit is added where rounding would
    carry a value below .05 up to .05 (AMA Manual of Style, section on significant digits).

    Examples
    --------
    >>> from vbceval.figures.style import get_style
    >>> [p_value(p, get_style("jama")) for p in (0.2, 0.0496, 0.004, 0.0002, 0.999)]
    ['.20', '.0496', '.004', '<.001', '>.99']
    """
    if not math.isfinite(p):
        return MISSING
    sign, size = ("<", 0.001) if p < 0.001 else (">", 0.99) if p > 0.99 else ("", p)
    digits = 2 if size >= 0.01 else 3
    while p < 0.05 <= round(size, digits):
        digits += 1
    text = f"{size:.{digits}f}"
    return sign + (text if style.p_leading_zero else text.lstrip("0"))


def p_statement(p: float, style: Style) -> str:
    """Write a P value as a statement, for example "P = .02" or "P < .001"."""
    text = p_value(p, style)
    if text[0] in "<>":
        return f"{style.p_symbol} {text[0]} {text[1:]}"
    return f"{style.p_symbol} = {text}"


def stars(p: float, style: Style) -> str:
    """Return the star mark of a P value, empty where the style has none or P is missing."""
    return next((mark for most, mark in style.stars if p < most), "")


def star_rule(style: Style) -> str:
    """State the meaning of the stars, most common mark first; empty where there are none."""
    rule = sorted(style.stars, key=lambda x: -x[0])
    return ", ".join(f"{mark} {style.p_symbol} < {most:g}" for most, mark in rule)


def digits_for(sizes: object) -> int:
    """
    Return the digits after the point that fit errors of these sizes.

    The median standard error keeps one significant digit, two when it begins with 1 or 2.

    Examples
    --------
    >>> [digits_for(se) for se in (57.0, 3.0, 0.6, 0.02)]
    [0, 0, 1, 3]
    """
    values = np.abs(np.atleast_1d(np.asarray(sizes, dtype=float)))
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 0
    return int(np.clip(math.ceil(-math.log10(float(np.median(values)) / 3.0)), 0, 12))
