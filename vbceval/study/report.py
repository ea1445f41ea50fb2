"""`report.html`: one file that shows a run to a reader, with nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import StudyError
from vbceval.figures.numbers import MINUS, number, p_value
from vbceval.figures.style import get_style
from vbceval.figures.wording import display
from vbceval.study.context import StudyContext
from vbceval.study.exhibits import FigureExhibit, Section, TableExhibit, TextExhibit

STYLE = get_style("cms_report")
MOST_ROWS = 40
"""Rows of a table that the report shows; the file has them all."""

CALENDAR = re.compile(r"cohort|period|event_time|year|.*_year|base_period")
SCALE = 1.4
PAGE_POINTS = 480.0
"""Width given to a picture that states none, in points."""
EXTERNAL = re.compile(
    r"""\s(?:src|href|srcset|poster|data)\s*=\s*["']?(?!data:|\#)[^"'\s>]+"""
    r"""|url\((?!['"]?(?:data:|\#))[^)]*\)|@import"""
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One shown cell."""

    text: str
    number: bool
    head: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """One piece of the report, ready for the template."""

    kind: str
    anchor: str = ""
    number: int = 0
    title: str = ""
    html: str = ""
    note: str = ""
    image: str = ""
    width: int = 0
    alt: str = ""
    file: str = ""
    same: str = ""
    columns: Sequence[Cell] = ()
    rows: Sequence[Sequence[Cell]] = ()
    n_rows: int = 0


def write_report(path: Path, ctx: StudyContext, manifest: Mapping[str, Any]) -> None:
    """
    Write the report of a run.

    Parameters
    ----------
    path : Path
        File to write.
    ctx : StudyContext
        The finished run; exhibits are shown in the order in which they were made.
    manifest : mapping
        Its manifest, shown at the end. The hash of the report itself cannot be in it.

    Raises
    ------
    StudyError
        If the report would load or link to anything outside itself.
    """
    import jinja2

    protocol = (ctx.study.folder / "protocol.md").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("vbceval.study").joinpath("templates", "report.html.j2")
    html = environment.from_string(template.read_text(encoding="utf-8")).render(
        study=ctx.study,
        manifest=manifest,
        outputs=[{"file": name, **facts} for name, facts in manifest["outputs"].items()],
        fast=ctx.fast,
        headlines=[markdown(text, inline=True) for text in ctx.headlines],
        checks=[(check, check_value(check.value)) for check in ctx.checks],
        summary=markdown(protocol_summary(protocol), shift=1),
        protocol=markdown(protocol, shift=2),
        blocks=list(blocks(ctx)),
    )
    loaded = external_references(html)
    if loaded:
        raise StudyError(
            f"the report of study '{ctx.study.id}' would refer to {len(loaded)} things outside "
            f"itself, first {loaded[0]!r}. Put the content into the text, or name it as text."
        )
    path.write_text(html, encoding="utf-8", newline="\n")


def external_references(html: str) -> list[str]:
    """Return the attributes and style rules of a page that load or link to something else."""
    # only what is inside a tag or a style sheet counts; prose may say href="..."
    parts = re.findall(r"<style.*?</style>|<[^>]*>", html, flags=re.DOTALL)
    return [found for part in parts for found in EXTERNAL.findall(part)]


# ------------------------------------------------------------------------------------ prose


def markdown(text: str, *, shift: int = 0, inline: bool = False) -> str:
    """
    Return the HTML of Markdown text.

    Raw HTML is shown, not obeyed. A link becomes its text with the address in brackets and an
    image its alternative text, so that the page refers to nothing outside itself.

    Parameters
    ----------
    text : str
        CommonMark with tables.
    shift : int
        Levels by which headings move down.
    inline : bool
        Leave out the paragraph around one line.
    """
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parseInline(text) if inline else parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + shift)}"
        children: list[Token] = []
        addresses: list[str] = []
        for child in token.children or ():
            if child.type == "link_open":
                addresses.append(str(child.attrGet("href")))
            elif child.type == "link_close":
                address = addresses.pop()
                said = children[-1].content if children else ""
                if address != said:
                    children.append(Token("text", "", 0, content=f" ({address})"))
            elif child.type == "image":
                children.append(Token("text", "", 0, content=child.content))
            else:
                children.append(child)
        token.children = children if token.children is not None else None
    return str(parser.renderer.render(tokens, parser.options, {}))


def protocol_summary(protocol: str) -> str:
    """
    Return what the protocol says before its second section: status, date and question.

    The title is left out; the report has it already.
    """
    sections = re.split(r"(?m)^(?=## )", protocol)
    kept = "".join(sections[:2])
    return re.sub(r"(?m)\A\s*# .*$", "", kept).strip()


# ---------------------------------------------------------------------------------- exhibits


def blocks(ctx: StudyContext) -> Iterator[Block]:
    """Yield the pieces of the report in order; tables and figures are numbered."""
    n_tables = n_figures = 0
    for i, exhibit in enumerate(ctx.exhibits, 1):
        if isinstance(exhibit, Section):
            yield Block(kind="section", anchor=f"section-{i}", title=exhibit.title)
        elif isinstance(exhibit, TextExhibit):
            as_html = exhibit.format == "html"
            html = exhibit.text if as_html else markdown(exhibit.text, shift=2)
            yield Block(kind="text", html=html)
        elif isinstance(exhibit, FigureExhibit):
            n_figures += 1
            yield Block(
                kind="figure",
                number=n_figures,
                title=exhibit.title,
                image=data_uri(exhibit.image),
                width=shown_width(exhibit.image),
                alt=exhibit.alt,
                note=markdown(exhibit.note),
                file=f"figures/{exhibit.name}.csv",
            )
        else:
            n_tables += 1
            yield table_block(exhibit, n_tables)


def data_uri(image: Path) -> str:
    """Return an SVG image as a data URI."""
    content = base64.b64encode(image.read_bytes()).decode("ascii")
    return f"data:image/svg+xml;base64,{content}"


def shown_width(image: Path) -> int:
    """Return the width on the page of an SVG, in CSS pixels: larger than on paper, for screens."""
    found = re.search(r'<svg[^>]*\swidth="([\d.]+)pt"', image.read_text(encoding="utf-8"))
    points = float(found.group(1)) if found else PAGE_POINTS
    return round(points * SCALE * 96 / 72)


def table_block(exhibit: TableExhibit, order: int) -> Block:
    """
    Return the shown part of a table: rounded, long tables cut, empty columns left out.

    A text that all rows share is said once, below the table.

    Rounding is for the eye only; the file that `Block.file` names has full precision.
    """
    frame = exhibit.frame
    filled = [c for c in frame.columns if len(frame) == 0 or bool(frame[c].notna().any())]
    same = [c for c in filled if c not in exhibit.keys and _says_one_thing(frame[c])]
    shown = [c for c in filled if c not in same]
    head = next((c for c in shown if c in exhibit.keys), None)
    cells = []
    columns = []
    for name in shown:
        column = frame[name]
        numeric = _is_number(column)
        columns.append(Cell(text=display(name), number=numeric))
        write = formatter(column, exhibit.formats.get(str(name)))
        cells.append(
            [
                Cell(text=write(value), number=numeric, head=name == head)
                for value in column.iloc[:MOST_ROWS]
            ]
        )
    return Block(
        kind="table",
        number=order,
        title=exhibit.title,
        note=markdown(exhibit.note),
        same="; ".join(f"{display(c)} {frame[c].iloc[0]}" for c in same),
        columns=columns,
        rows=list(zip(*cells, strict=True)),
        n_rows=len(frame),
        file=f"tables/{exhibit.name}.csv",
    )


def check_value(value: float) -> str:
    """
    Write the value of a check with three significant digits, or whole.

    Examples
    --------
    >>> [check_value(x) for x in (0.00377, 2.845, 23916.4, 2e-9, float("nan"))]
    ['0.00377', '2.85', '23,916', '2e-09', 'not shown']
    """
    if np.isnan(value):
        return "not shown"
    if np.isinf(value) or 0 < abs(value) < 1e-4:
        return f"{value:.3g}"
    return _rounded(value, digits=None)


def _says_one_thing(column: pd.Series) -> bool:
    """Return whether a text column has the same text in all of several rows."""
    if len(column) < 2 or _is_number(column) or column.isna().any():
        return False
    return bool((column == column.iloc[0]).all())


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def formatter(column: pd.Series, spec: str | None = None) -> Callable[[Any], str]:
    """
    Return the function that writes a column's cells for the report.

    Years and other calendar columns are written plainly, whole numbers with thousands marks, P
    values as publications print them, other numbers with as many decimals as the small ones of
    the column need for two significant digits; `spec` overrides. A missing cell is empty.

    Examples
    --------
    >>> [formatter(pd.Series([-1234.56, 22.0]))(x) for x in (-1234.56, 22.0)]
    ['−1,235', '22']
    >>> formatter(pd.Series([2014.0, None], name="cohort"))(2014.0)
    '2014'
    """
    form = _form(column, spec)
    return lambda value: "" if pd.isna(value) else form(value)


def _form(column: pd.Series, spec: str | None) -> Callable[[Any], str]:
    name = str(column.name)
    if spec is not None:
        return partial(_as_specified, spec=spec)
    if not _is_number(column):
        return _as_text
    if name == "p_value":
        return partial(p_value, style=STYLE)
    values = np.abs(np.asarray(column.dropna(), dtype=float))
    whole = bool(np.all(values == np.round(values)))
    if whole and CALENDAR.fullmatch(name):
        return partial(_as_specified, spec=".0f")
    return partial(_rounded, digits=_column_digits(values, whole=whole))


def _as_text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value)


def _as_specified(value: Any, *, spec: str) -> str:
    if not isinstance(value, int | float | np.number):
        return _as_text(value)
    return format(value, spec).replace("-", MINUS)


def _rounded(value: float, *, digits: int | None) -> str:
    return number(value, STYLE, digits=_digits(abs(value)) if digits is None else digits)


def _column_digits(values: np.ndarray, *, whole: bool) -> int | None:
    """Return one number of decimals for a column, or None where its sizes differ too much."""
    live = values[np.isfinite(values) & (values > 0)]
    if whole or not len(live):
        return 0
    low = float(np.quantile(live, 0.1, method="lower"))
    high = float(np.quantile(live, 0.9, method="higher"))
    return None if high > 10_000 * low else _digits(low, significant=2)


def _digits(size: float, *, significant: int = 3) -> int:
    """Return the decimals that show a number of significant digits, six at most."""
    if not np.isfinite(size) or size == 0:
        return 0
    return int(np.clip(significant - 1 - np.floor(np.log10(size)), 0, 6))
