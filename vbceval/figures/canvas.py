"""The only file that imports matplotlib: figures, axes, marks and bytes that reproduce."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vbceval.core.typing import FloatArray
from vbceval.figures.numbers import number
from vbceval.figures.style import FAINT, INK, MUTED, RULE, Style, get_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure

MM = 1 / 25.4

_METADATA: dict[str, dict[str, None]] = {
    # the library writes its version and the clock into files unless told not to
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}
FORMATS = tuple(_METADATA)


@contextlib.contextmanager
def drawing(style: Style) -> Iterator[None]:
    """Draw under the style's settings and no others, whatever the user's configuration."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": [style.font],
                "font.size": style.font_size,
                "axes.titlesize": style.font_size,
                "axes.labelsize": style.font_size,
                "axes.linewidth": 0.6,
                "axes.edgecolor": INK,
                "axes.labelcolor": INK,
                "text.color": INK,
                "xtick.color": INK,
                "ytick.color": INK,
                "legend.fontsize": style.small,
                "legend.frameon": False,
                # a dollar sign is money here, never the beginning of a formula
                "text.parse_math": False,
                "hatch.linewidth": 0.5,
                "svg.hashsalt": "vbceval",
                "svg.fonttype": "path",
                "pdf.fonttype": 42,
                "path.simplify": False,
            }
        )
        yield


def new_figure(width_mm: float, height_mm: float, *, constrained: bool = True) -> Figure:
    """Return an empty figure of a size on paper, unknown to any global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    fig = Figure(
        figsize=(width_mm * MM, height_mm * MM),
        layout=ConstrainedLayoutEngine(h_pad=0.03, w_pad=0.03) if constrained else None,
        facecolor="white",
    )
    FigureCanvasAgg(fig)
    return fig


def finish(fig: Figure) -> Figure:
    """Lay the figure out once, so that what depends on the settings is fixed under them."""
    fig.draw_without_rendering()
    return fig


def tidy_axes(ax: Axes, style: Style, *, left: bool = True) -> None:
    """Keep the axes that carry a scale, and small ticks outside."""
    for side in ("top", "right", *(() if left else ("left",))):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=style.small, width=0.6, length=3, color=INK, labelcolor=INK)
    if not left:
        ax.tick_params(axis="y", length=0)


def number_axis(
    ax: Axes, which: Literal["x", "y"], style: Style, *, prefix: str = "", most: int = 8
) -> None:
    """Write tick labels in the style's locale, with as many digits as the ticks need."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis = ax.xaxis if which == "x" else ax.yaxis

    def label(value: float, _: int | None = None) -> str:
        ticks = np.asarray(axis.get_majorticklocs(), dtype=float)
        digits = _digits(ticks)
        return number(value, style, digits=digits, prefix=prefix)

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(label))


def _digits(ticks: FloatArray) -> int:
    """Digits after the point that tell every tick exactly."""
    size = np.max(np.abs(ticks), initial=0.0)
    for digits in range(13):
        if np.allclose(ticks, np.round(ticks, digits), rtol=0, atol=1e-9 * size):
            return digits
    return 13


def integer_ticks(ax: Axes, values: Sequence[float], *, most: int = 14) -> None:
    """Put x ticks at the given whole values, every second or third where there are many."""
    step = -(-len(values) // most)
    # keep zero, the start, among the labelled ticks
    first = next((i for i, v in enumerate(values) if v == 0), 0) % step
    kept = [v for i, v in enumerate(values) if i % step == first]
    ax.set_xticks(kept, [f"{v:g}".replace("-", "\u2212") for v in kept])


def zero_line(ax: Axes, *, vertical: bool = False) -> None:
    """Draw the line of no effect."""
    line = ax.axvline if vertical else ax.axhline
    line(0, color=RULE, linewidth=0.8, zorder=1, label="_zero")


def start_line(ax: Axes, x: float) -> None:
    """Draw the vertical dashed line where treatment starts."""
    ax.axvline(x, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="_start")


def caption_row(ax: Axes, style: Style) -> None:
    """Make axes into a strip of text under a plot: no frame, no scale of its own."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(axis="x", bottom=False, labelbottom=False)
    ax.tick_params(axis="y", length=0, labelsize=style.small, labelcolor=INK, pad=2)
    ax.patch.set_visible(False)


def legend_above(ax: Axes, style: Style, *, width_mm: float, lines: bool = True) -> None:
    """Put the legend above the axes, in as many columns as fit the width."""
    handles, names = ax.get_legend_handles_labels()
    fig = ax.get_figure(root=True)
    if not names or fig is None:
        return
    widest = max(text_width(fig, name, style.small) for name in names)
    handle = 2.6 if lines else 1.0
    # handle, its gap and the gap between columns, in the units of the legend: font sizes
    entry = widest + (handle + 0.8 + 1.4) * style.small / 72 / MM
    ax.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=max(1, min(len(names), int(width_mm / entry))),
        borderaxespad=0.2,
        handlelength=handle,
        columnspacing=1.4,
        borderpad=0.2,
    )


def text_width(fig: Figure, text: str, size: float, *, weight: str = "normal") -> float:
    """Return the width of a text on paper, in millimetres."""
    artist = fig.text(0, 0, text, fontsize=size, fontweight=weight)
    renderer = fig.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
    width = artist.get_window_extent(renderer).width / fig.dpi / MM
    artist.remove()
    return float(width)


def wrapped(fig: Figure, text: str, size: float, width_mm: float) -> str:
    """Break a text into even lines no wider than `width_mm`; breaks it already has stay."""
    space = text_width(fig, "a a", size) - text_width(fig, "aa", size)
    out = []
    for paragraph in text.split("\n"):
        words = paragraph.split(" ")
        widths = [text_width(fig, word, size) for word in words]
        lines = _filled(words, widths, space, width_mm)
        # the narrowest width with as few lines leaves no single word on a line of its own
        for share in np.linspace(0.95, 0.5, 10):
            narrower = _filled(words, widths, space, share * width_mm)
            if len(narrower) > len(lines):
                break
            lines = narrower
        out += lines
    return "\n".join(out)


def _filled(
    words: Sequence[str], widths: Sequence[float], space: float, width_mm: float
) -> list[str]:
    lines: list[str] = []
    used = np.inf
    for word, width in zip(words, widths, strict=True):
        if lines and used + space + width <= width_mm:
            lines[-1] += f" {word}"
            used += space + width
        else:
            lines.append(word)
            used = width
    return lines


def axis_label(
    ax: Axes, which: Literal["x", "y"], text: str, style: Style, *, length_mm: float
) -> None:
    """Label an axis that is about `length_mm` long, on as many lines as that needs."""
    fig = ax.get_figure(root=True)
    if fig is None:
        return
    label = wrapped(fig, text, style.font_size, length_mm)
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(label)


def page_transform(fig: Figure, ax: Axes) -> Any:
    """Return the transform whose x is a share of the page and whose y is a value of the axes."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(fig.transFigure, ax.transData)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points of the axes."""
    ax.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": INK,
            "linewidth": 0.7,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def box(
    ax: Axes,
    corner: tuple[float, float],
    width: float,
    height: float,
    text: str,
    size: float,
    colour: str,
) -> None:
    """Draw a box with text in it, from its upper left corner, on axes in millimetres."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle(corner, width, height, facecolor=colour, edgecolor=INK, linewidth=0.7))
    ax.text(
        corner[0] + width / 2,
        corner[1] + height / 2,
        text,
        fontsize=size,
        ha="center",
        va="center",
        linespacing=1.25,
    )


def write_image(fig: Figure, path: Path, kind: str, *, dpi: int) -> None:
    """Write the figure with no clock, no version and fixed identifiers in the file."""
    # the style was fixed when the figure was laid out; what is left concerns the file
    with drawing(get_style()):
        fig.savefig(path, format=kind, dpi=dpi, metadata=dict(_METADATA[kind]), facecolor="white")


def version() -> str:
    """Return the version of the drawing library: the bytes of a picture depend on it."""
    import matplotlib

    return str(matplotlib.__version__)


__all__ = [
    "FAINT",
    "FORMATS",
    "INK",
    "MM",
    "MUTED",
    "RULE",
    "arrow",
    "axis_label",
    "box",
    "caption_row",
    "drawing",
    "finish",
    "integer_ticks",
    "legend_above",
    "new_figure",
    "number_axis",
    "page_transform",
    "start_line",
    "text_width",
    "tidy_axes",
    "version",
    "wrapped",
    "write_image",
    "zero_line",
]
