"""Style presets: sizes, number locale, P and star rules, wording, and a palette safe in grey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from vbceval.core.errors import DesignError

Language = Literal["effect", "association"]

PALETTE = ("#0b2545", "#8f3a0e", "#2a78b5", "#c8841a")
"""Line and mark colours: distinct for colour-blind readers, and at least 10 L* apart in grey."""

MARKERS = ("o", "s", "^", "D")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
HATCHES = ("", "////", "....", "xxxx")

INK = "#1a1a1a"
MUTED = "#5f6368"
RULE = "#8a8f98"
FAINT = "#b3b8bf"


@dataclass(frozen=True, kw_only=True)
class Style:
    """
    How exhibits look and read for one kind of publication.

    Parameters
    ----------
    name : str
        Name of the preset.
    column_mm, page_mm : float
        Width of a one-column and of a full-width figure, in millimetres.
    font_size : float
        Size of text in points; tick labels and small print are 1 point smaller.
    level : float, default 0.95
        Interval probability used when a figure is given none.
    thousands : str
        Mark between groups of three digits.
    thousands_from : float
        Smallest absolute value that is grouped.
    p_symbol : str
        Letter of the P value.
    p_leading_zero : bool
        Whether ``0.02`` keeps its zero.
    stars : tuple of (float, str)
        Largest P value of each star mark, in increasing order; empty where P is printed.
    language : {"effect", "association"}
        Word for a difference-in-differences estimate in labels and notes.
    font : str
        Font family; the default ships with the drawing library, so every glyph is there.
    """

    name: str
    column_mm: float = 86.0
    page_mm: float = 178.0
    font_size: float = 8.0
    level: float = 0.95
    thousands: str = ","
    thousands_from: float = 1000.0
    p_symbol: str = "P"
    p_leading_zero: bool = True
    stars: tuple[tuple[float, str], ...] = ()
    language: Language = "effect"
    font: str = "DejaVu Sans"

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise DesignError(f"`level` is {self.level}: give a probability between 0 and 1.")
        if self.language not in ("effect", "association"):
            raise DesignError(f"`language` is '{self.language}': use 'effect' or 'association'.")

    @property
    def small(self) -> float:
        """Size of tick labels and small print, in points."""
        return self.font_size - 1.0


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        # thin space from 10 000; "association" unless assignment was randomised
        "jama": Style(
            name="jama",
            thousands="\u2009",
            thousands_from=10_000.0,
            p_leading_zero=False,
            language="association",
        ),
        "nejm": Style(name="nejm", column_mm=84.0, page_mm=174.0, language="association"),
        "health_affairs": Style(
            name="health_affairs",
            column_mm=89.0,
            p_symbol="p",
            stars=((0.001, "****"), (0.01, "***"), (0.05, "**"), (0.1, "*")),
            language="association",
        ),
        "economics": Style(
            name="economics",
            page_mm=165.0,
            p_symbol="p",
            stars=((0.01, "***"), (0.05, "**"), (0.1, "*")),
        ),
        # evaluation contractors' reports to CMS print 90% intervals
        "cms_report": Style(
            name="cms_report", column_mm=110.0, page_mm=165.0, font_size=9.0, level=0.90
        ),
    }
)


def get_style(style: str | Style = "jama", **changes: Any) -> Style:
    """
    Return a style preset by name, with fields changed.

    Parameters
    ----------
    style : str or Style
        "jama", "nejm", "health_affairs", "economics", "cms_report", or a style.
    **changes
        Fields of `Style` to replace.

    Raises
    ------
    DesignError
        If there is no preset or field of that name.

    Examples
    --------
    >>> get_style("cms_report").level
    0.9
    >>> get_style("jama", language="effect").language
    'effect'
    """
    if not isinstance(style, Style):
        if style not in STYLES:
            raise DesignError(f"there is no style '{style}'; the presets are {', '.join(STYLES)}.")
        style = STYLES[style]
    unknown = [name for name in changes if name not in Style.__dataclass_fields__]
    if unknown:
        raise DesignError(
            f"a style has no {', '.join(f'`{n}`' for n in unknown)}; its fields are "
            f"{', '.join(f'`{n}`' for n in Style.__dataclass_fields__)}."
        )
    return replace(style, **changes)


def lightness(colour: str) -> float:
    """
    Return CIE L* of a colour "#rrggbb", 0 (black) to 100: what is left of it in greyscale.

    Examples
    --------
    >>> round(lightness("#ffffff"))
    100
    """
    y = luminance(colour)
    return 116.0 * y ** (1 / 3) - 16.0 if y > 216 / 24389 else y * 24389 / 27


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour "#rrggbb", 0 to 1 (WCAG 2, sRGB)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def series_look(number: int, *, what: str) -> tuple[str, str, Any]:
    """
    Return colour, marker and line of the series at position `number`.

    Raises
    ------
    DesignError
        If there are more series than can be told apart in grey.
    """
    if number >= len(PALETTE):
        raise DesignError(
            f"{what} has more than {len(PALETTE)} series, which cannot be told apart in one plot "
            "printed in grey. Select some with `where`, or draw one figure for each."
        )
    return PALETTE[number], MARKERS[number], LINES[number]
