"""Printed tables as HTML, Markdown and LaTeX."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vbceval.figures.numbers import MISSING, SUPPRESSED
from vbceval.figures.style import Style
from vbceval.figures.tables import format_table

_NUMBER = re.compile(
    "[\u2212<>.$0-9][\u2212<>.,$%*()0-9\u2009 ]*(?: to [\u2212<>.,$%*()0-9\u2009 ]*)?"
)


def table_html(
    table: pd.DataFrame,
    *,
    caption: str = "",
    note: str | None = None,
    style: str | Style = "jama",
    **options: Any,
) -> str:
    """
    Return a table as HTML, with caption and note, numbers aligned at the right.

    Parameters
    ----------
    table : DataFrame
        A printed table (of `format_table`, `estimates_table`), or numbers, which are formatted.
    caption : str
        Text above.
    note : str, optional
        Text below; default is the note that `estimates_table` generated.
    style : str or Style, default "jama"
        Publication style.
    **options
        Options of `format_table`, for numbers.

    Returns
    -------
    str
    """
    shown = _printed(table, style, options)
    right = _right_aligned(shown)
    parts = ['<table class="vbceval">']
    if caption:
        parts.append(f"<caption>{html.escape(caption)}</caption>")
    head = "".join(
        f'<th scope="col"{_align(r)}>{html.escape(str(c))}</th>'
        for c, r in zip(shown.columns, right, strict=True)
    )
    parts.append(f"<thead><tr>{head}</tr></thead>")
    body = [
        "".join(
            f"<td{_align(r)}>{html.escape(str(v))}</td>" for v, r in zip(row, right, strict=True)
        )
        for row in shown.itertuples(index=False)
    ]
    parts.append("<tbody>" + "\n".join(f"<tr>{row}</tr>" for row in body) + "</tbody>")
    text = table.attrs.get("note", "") if note is None else note
    if text:
        parts.append(
            f'<tfoot><tr><td colspan="{len(shown.columns)}">{html.escape(text)}</td></tr></tfoot>'
        )
    return "\n".join([*parts, "</table>"]) + "\n"


def _align(right: bool) -> str:
    return ' style="text-align:right"' if right else ""


def table_markdown(
    table: pd.DataFrame, *, note: str | None = None, style: str | Style = "jama", **options: Any
) -> str:
    """
    Return a table as Markdown, with its note below; arguments as in `table_html`.

    Examples
    --------
    >>> print(table_markdown(pd.DataFrame({"year": [2014], "savings": [-49.8]})))
    | year | savings |
    |---:|---:|
    | 2014 | −49.8 |
    <BLANKLINE>
    """
    shown = _printed(table, style, options)
    rule = [":---" if not r else "---:" for r in _right_aligned(shown)]
    lines = [_line(shown.columns), f"|{'|'.join(rule)}|"]
    lines += [_line(row) for row in shown.itertuples(index=False)]
    text = table.attrs.get("note", "") if note is None else note
    return "\n".join([*lines, *(["", text] if text else [])]) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


_LATEX = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "\u2212": r"\ensuremath{-}",
        "\u2009": r"\,",
        "\u2013": "--",
        "<": r"\ensuremath{<}",
        ">": r"\ensuremath{>}",
    }
)


def table_latex(
    table: pd.DataFrame,
    *,
    caption: str = "",
    note: str | None = None,
    style: str | Style = "economics",
    **options: Any,
) -> str:
    r"""
    Return a table as LaTeX with booktabs rules; arguments as in `table_html`.

    Returns
    -------
    str
        A ``table`` environment; the document needs ``\usepackage{booktabs}``.
    """
    shown = _printed(table, style, options)
    align = "".join("r" if r else "l" for r in _right_aligned(shown))
    lines = [r"\begin{table}", r"\centering"]
    if caption:
        lines.append(rf"\caption{{{_escaped(caption)}}}")
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines.append(" & ".join(map(_escaped, shown.columns)) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(map(_escaped, row)) + r" \\" for row in shown.itertuples(index=False)]
    lines += [r"\bottomrule", r"\end{tabular}"]
    text = table.attrs.get("note", "") if note is None else note
    if text:
        lines += [r"\par\smallskip", rf"\footnotesize {_escaped(text)}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _escaped(value: object) -> str:
    return str(value).translate(_LATEX)


def _printed(table: pd.DataFrame, style: str | Style, options: Mapping[str, Any]) -> pd.DataFrame:
    texts = all(not pd.api.types.is_numeric_dtype(table[c]) for c in table.columns)
    if texts and not options:
        return table
    return format_table(table, style=style, **options)


def _right_aligned(shown: pd.DataFrame) -> list[bool]:
    """Columns of numbers: every cell that says something is made of digits, signs and currency."""
    out = []
    for name in shown.columns:
        cells = [str(v) for v in shown[name] if str(v) not in ("", MISSING, SUPPRESSED)]
        out.append(bool(cells) and all(_NUMBER.fullmatch(c) for c in cells))
    return out
