"""Marks of the forest plot: a table whose middle column is a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.typing import FloatArray
from vbceval.figures import canvas
from vbceval.figures.numbers import SUPPRESSED, digits_for, interval, number, p_value
from vbceval.figures.sources import errors
from vbceval.figures.style import INK, MUTED, PALETTE, Style

if TYPE_CHECKING:
    from vbceval.figures.canvas import Axes, Figure

_LABEL_MM = 52.0
_PLOT_MM = 52.0
_GAP_MM = 3.5
_LARGEST = 7.0
_SMALLEST = 3.2


@dataclass(frozen=True, kw_only=True)
class Look:
    """
    Words and limits of one forest plot.

    Parameters
    ----------
    style : Style
        Publication style.
    axis_label, prefix : str
        Label of the horizontal axis; currency sign before numbers.
    estimate_header, p_header : str
        Headers of the two columns of text at the right; an empty one leaves its column out.
    columns : mapping
        Columns of numbers at the left: name in the data to header.
    xlim : (float, float), optional
        Limits of the axis; intervals beyond are cut with an arrow.
    """

    style: Style
    axis_label: str
    prefix: str
    estimate_header: str
    p_header: str
    columns: Mapping[str, str]
    xlim: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One printed line: a heading, or a row of the data."""

    label: str
    row: int | None
    left: tuple[str, ...] = ()
    text: str = ""
    p: str = ""


def draw(data: pd.DataFrame, look: Look) -> Figure:
    """Draw the prepared rows, in their order."""
    style = look.style
    probe = canvas.new_figure(style.page_mm, 50.0, constrained=False)
    lines = _lines(data, look)
    widths = _widths(probe, lines, look)
    pitch = style.font_size * 0.62
    heights = [pitch * (1 + 0.78 * line.label.count("\n")) for line in lines]
    top, bottom = pitch * (1.5 + 0.4 * look.estimate_header.count("\n")), 17.0
    page = sum(widths) + _GAP_MM * (len(widths) + 1)
    fig = canvas.new_figure(page, top + sum(heights) + bottom, constrained=False)
    tall = top + sum(heights) + bottom
    starts = np.cumsum([0.0, *widths[:-1]]) + _GAP_MM * np.arange(1, len(widths) + 1)
    plot = 1 + len(look.columns)
    ax = fig.add_axes(
        (starts[plot] / page, bottom / tall, widths[plot] / page, sum(heights) / tall)
    )
    centres = np.cumsum(heights) - np.array(heights) / 2
    ax.set_ylim(sum(heights), 0.0)
    _text(fig, ax, lines, centres, starts, widths, look)
    _marks(ax, data, lines, centres, look)
    canvas.tidy_axes(ax, style, left=False)
    ax.set_yticks([])
    low, high = ax.get_xlim()
    digits = digits_for((high - low) / 20)
    ends = [number(v, style, digits=digits, prefix=look.prefix) for v in (low, high)]
    wide = max(13.0, *(canvas.text_width(fig, end, style.small) + 3.0 for end in ends))
    most = max(1 if wide > 13.0 else 3, int(widths[plot] / wide))
    canvas.number_axis(ax, "x", style, prefix=look.prefix, most=most)
    canvas.axis_label(ax, "x", look.axis_label, style, length_mm=widths[plot] + 36.0)
    return canvas.finish(fig)


def _lines(data: pd.DataFrame, look: Look) -> list[_Line]:
    style = look.style
    digits = digits_for(errors(data))
    posterior = has_probability(data)
    out: list[_Line] = []
    heading = ""
    for i, (_, row) in enumerate(data.iterrows()):
        if row["heading"] != heading:
            heading = row["heading"]
            if heading:
                p = row["p_joint"]
                shown = p_value(p, style) if pd.notna(p) and not posterior else ""
                out.append(_Line(label=heading, row=None, p=shown))
        left = tuple(_cell(row[c], style) for c in look.columns)
        out.append(
            _Line(
                label=str(row["label"]),
                row=i,
                left=left,
                text=_estimate(row, look, digits),
                p=_right(row, style, posterior=posterior),
            )
        )
    return out


def has_probability(data: pd.DataFrame) -> bool:
    """Return whether the last column holds posterior probabilities, and so no P values."""
    return "probability" in data and bool(data["probability"].notna().any())


def _cell(value: Any, style: Style) -> str:
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    return number(float(value), style, digits=0 if float(value).is_integer() else 1)


def _estimate(row: pd.Series, look: Look, digits: int) -> str:
    if row["suppressed"] and pd.isna(row["estimate"]):
        return SUPPRESSED
    if pd.isna(row["estimate"]) and pd.isna(row["conf_low"]):
        return ""
    style, prefix = look.style, look.prefix
    ends = interval(row["conf_low"], row["conf_high"], style, digits=digits, prefix=prefix)
    if row["kind"] == "predictive":
        return f"({ends})"
    point = number(row["estimate"], style, digits=digits, prefix=prefix)
    return f"{point} ({ends})" if ends else point


def _right(row: pd.Series, style: Style, *, posterior: bool) -> str:
    if posterior:
        # a P value has no place under the header of a probability
        if pd.isna(row["probability"]):
            return ""
        share = float(row["probability"])
        if share > 0.99 or share < 0.01:
            return (">" if share > 0.5 else "<") + ("0.99" if share > 0.5 else "0.01")
        return f"{share:.2f}"
    # the P of the only gap is the joint one, printed beside the heading
    said = row["kind"] == "gap" and abs(row["p_value"] - row["p_joint"]) < 1e-12
    if row["kind"] in ("overall", "gap", "pooled") and pd.notna(row["p_value"]) and not said:
        return p_value(float(row["p_value"]), style)
    return ""


def _widths(fig: Figure, lines: list[_Line], look: Look) -> list[float]:
    """Width of each column in millimetres: label, counts, plot, estimate, P."""
    size = look.style.font_size
    small = look.style.small

    def widest(texts: list[str], points: float, weight: str = "normal") -> float:
        parts = [p for t in texts for p in t.split("\n")]
        return max((canvas.text_width(fig, p, points, weight=weight) for p in parts), default=0.0)

    for i, line in enumerate(lines):
        lines[i] = _Line(
            label=canvas.wrapped(fig, line.label, size, _LABEL_MM),
            row=line.row, left=line.left, text=line.text, p=line.p,
        )  # fmt: skip
    headings = [line.label for line in lines if line.row is None]
    labels = [line.label for line in lines if line.row is not None]
    out = [max(widest(labels, size) + 2.5, widest(headings, size, "bold"))]
    for j, header in enumerate(look.columns.values()):
        out.append(
            max(
                widest([header], small, "bold"),
                widest([line.left[j] for line in lines if line.left], size),
            )
        )
    rest = [
        max(widest([header], small, "bold"), widest([getattr(line, what) for line in lines], size))
        for header, what in ((look.estimate_header, "text"), (look.p_header, "p"))
        if header
    ]
    taken = sum(out) + sum(rest) + _GAP_MM * (len(out) + len(rest) + 2)
    return [*out, max(_PLOT_MM, look.style.page_mm - taken), *rest]


def _text(
    fig: Figure,
    ax: Axes,
    lines: list[_Line],
    centres: FloatArray,
    starts: FloatArray,
    widths: list[float],
    look: Look,
) -> None:
    page = sum(widths) + _GAP_MM * (len(widths) + 1)
    where = canvas.page_transform(fig, ax)
    size, small = look.style.font_size, look.style.small
    k = len(look.columns)
    ends = (starts + np.array(widths)) / page
    begins = starts / page

    def put(x: float, y: float, text: str, ha: str = "left", **more: Any) -> None:
        options = {"fontsize": size, "va": "center_baseline", **more}
        ax.text(x, y, text, transform=where, ha=ha, clip_on=False, **options)

    head = -0.9 * look.style.font_size * 0.62
    bold: dict[str, Any] = {"fontsize": small, "fontweight": "bold", "linespacing": 1.05}
    for j, header in enumerate(look.columns.values(), start=1):
        put(ends[j], head, header, "right", **bold)
    put(begins[k + 2], head, look.estimate_header, **bold)
    if look.p_header:
        put(ends[k + 3], head, look.p_header, "right", **bold)
    for line, y in zip(lines, centres, strict=True):
        if line.row is None:
            put(begins[0], y, line.label, fontweight="bold")
        else:
            put(begins[0] + 2.5 / page, y, line.label)
        for j, cell in enumerate(line.left, start=1):
            put(ends[j], y, cell, "right")
        muted = {"color": MUTED, "fontstyle": "italic"} if line.text == SUPPRESSED else {}
        put(begins[k + 2], y, line.text, **muted)
        if look.p_header:
            put(ends[k + 3], y, line.p, "right")


def _marks(
    ax: Axes, data: pd.DataFrame, lines: list[_Line], centres: FloatArray, look: Look
) -> None:
    low, high = look.xlim or limits(data)
    ax.set_xlim(low, high)
    canvas.zero_line(ax, vertical=True)
    overall = data.loc[data["kind"] == "overall", "estimate"].dropna()
    if len(overall) == 1:
        ax.axvline(float(overall.iloc[0]), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)),
                   zorder=1, label="_overall")  # fmt: skip
    sizes = _sizes(data)
    for line, y in zip(lines, centres, strict=True):
        if line.row is not None:
            row = data.iloc[line.row]
            _bar(ax, row, y, (low, high))
            _point(ax, row, y, sizes[line.row], (low, high))


def limits(data: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold every interval, unless a few are so wide that nothing else can be read."""
    ends = data[["conf_low", "conf_high", "estimate"]].to_numpy(dtype=float)
    centre = data["estimate"].fillna((data["conf_low"] + data["conf_high"]) / 2)
    halves = (ends[:, 1] - ends[:, 0]) / 2
    halves = halves[np.isfinite(halves)]
    half = float(np.median(halves)) if len(halves) else 0.0
    main = data["kind"].isin(["overall", "pooled", "predictive", "gap"])
    kept = np.r_[0.0, centre - 1.5 * half, centre + 1.5 * half, ends[main.to_numpy()].ravel()]
    whole = np.r_[0.0, ends.ravel()]
    low, high = np.nanmin(whole), np.nanmax(whole)
    if high - low > 2.5 * (np.nanmax(kept) - np.nanmin(kept)):
        low, high = max(low, np.nanmin(kept)), min(high, np.nanmax(kept))
    margin = 0.04 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _sizes(data: pd.DataFrame) -> FloatArray:
    """Side of each mark in points; the area of a square is proportional to precision."""
    size = errors(data).to_numpy(dtype=float)
    drawn = (data["kind"] == "estimate").to_numpy() & np.isfinite(size) & (size > 0)
    sizes = np.full(len(data), 5.0)
    if drawn.any():
        share = np.min(size[drawn]) / size[drawn]
        sizes[drawn] = np.maximum(_SMALLEST, _LARGEST * share)
    return sizes


def _bar(ax: Axes, row: pd.Series, y: float, limits: tuple[float, float]) -> None:
    low, high = float(row["conf_low"]), float(row["conf_high"])
    if not (np.isfinite(low) and np.isfinite(high)) or row["kind"] == "pooled":
        return
    colour, width, line = _LOOKS[row["kind"]]
    shown = max(low, limits[0]), min(high, limits[1])
    ax.hlines(y, *shown, color=colour, linewidth=width, linestyle=line, zorder=2,
              label=f"_{row['kind']}")  # fmt: skip
    if "inner_low" in row and np.isfinite(float(row["inner_low"])):
        inner = max(float(row["inner_low"]), limits[0]), min(float(row["inner_high"]), limits[1])
        ax.hlines(y, *inner, color=colour, linewidth=2.2, zorder=2, label="_inner")
    for end, edge, mark in ((low, limits[0], "<"), (high, limits[1], ">")):
        beyond = end < edge if mark == "<" else end > edge
        if beyond:
            ax.plot(edge, y, marker=mark, markersize=4, color=colour, clip_on=False, zorder=3,
                    label="_arrow")  # fmt: skip
        elif row["kind"] == "predictive":
            ax.plot(end, y, marker="|", markersize=6, color=colour, zorder=3, label="_end")


_LOOKS: Mapping[str, tuple[str, float, Any]] = {
    "estimate": (PALETTE[0], 1.1, "-"),
    "overall": (PALETTE[0], 1.4, "-"),
    "gap": (PALETTE[1], 1.4, "-"),
    "pooled": (PALETTE[1], 1.4, "-"),
    "predictive": (PALETTE[2], 1.6, (0, (3, 1.4))),
}


def _point(ax: Axes, row: pd.Series, y: float, size: float, limits: tuple[float, float]) -> None:
    x, kind = float(row["estimate"]), row["kind"]
    if not np.isfinite(x) or not limits[0] <= x <= limits[1]:
        return
    colour = _LOOKS[kind][0]
    name = f"_{kind}_point"
    if kind == "pooled":
        low, high = float(row["conf_low"]), float(row["conf_high"])
        tall = 0.27 * 5.0
        ax.fill([low, x, high, x], [y, y - tall, y, y + tall], facecolor=colour, edgecolor=INK,
                linewidth=0.5, zorder=3, label=name)  # fmt: skip
        return
    looks: dict[str, dict[str, Any]] = {
        "estimate": {"marker": "s", "markersize": size, "markerfacecolor": colour},
        "overall": {"marker": "D", "markersize": 5.5, "markerfacecolor": colour},
        "gap": {"marker": "o", "markersize": 5.5, "markerfacecolor": "white"},
        "predictive": {"marker": "D", "markersize": 4.5, "markerfacecolor": "white"},
    }
    if kind == "estimate":
        # a thin white edge keeps the mark apart from its own bar
        colour, edge = "white", 0.5
    else:
        edge = 1.1
    ax.plot(x, y, linestyle="none", markeredgecolor=colour, markeredgewidth=edge, zorder=3,
            label=name, **looks[kind])  # fmt: skip
