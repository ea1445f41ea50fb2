"""Tables for reading: numbers in the style's locale, as HTML, Markdown, LaTeX or text cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import missing_columns
from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import BoolArray
from vbceval.estimates import Estimates, columns
from vbceval.figures import disclosure, notes
from vbceval.figures.numbers import (
    MISSING,
    SUPPRESSED,
    digits_for,
    interval,
    interval_name,
    number,
    p_value,
    stars,
)
from vbceval.figures.sources import NUMBERS, Source, errors, read
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import Labels, currency, display, is_money, sign_convention

Kind = Literal["text", "number", "money", "percent", "p", "year"]

_YEARS = ("cohort", "period", "event_time", "year", "performance_year")


@dataclass(frozen=True, kw_only=True)
class Column:
    """
    How one column is printed.

    Parameters
    ----------
    label : str, optional
        Header; default is the name with underscores opened.
    kind : {"text", "number", "money", "percent", "p", "year"}, optional
        "percent" multiplies by 100; "year" is a whole number without a thousands mark. Default
        follows the values and the name.
    digits : int, optional
        Digits after the point; default fits the values.
    """

    label: str | None = None
    kind: Kind | None = None
    digits: int | None = None


def format_table(
    table: pd.DataFrame,
    *,
    columns: Mapping[str, Column | str] | None = None,
    style: str | Style = "jama",
    labels: Labels | None = None,
    values: Sequence[str] = (),
    people: Sequence[str] = (),
    total: Sequence[bool] | BoolArray | None = None,
    within: str | None = None,
) -> pd.DataFrame:
    """
    Return a table of strings, ready to print.

    Parameters
    ----------
    table : DataFrame
        Numbers as numbers; it is not changed. Counts of 1-10 people are printed as "suppressed".
    columns : mapping, optional
        Columns to print, in order, each with a `Column` or a header; default is every column.
    style : str or Style, default "jama"
        Gives the number locale and the P rule.
    labels : mapping, optional
        Words for names and for text values.
    values : sequence of str
        Columns calculated from the people of a row; they are suppressed with a count of the row.
    people : sequence of str
        Columns that count people and are not known by name.
    total : sequence of bool, optional
        Rows that are totals of the others, so that a single small count does not follow from them:
        the next smallest is suppressed as well. All False where the total is printed elsewhere.
    within : str, optional
        Column whose values group the rows that add up to a total.

    Returns
    -------
    DataFrame
        Strings; missing numbers are an en dash.

    Raises
    ------
    DataError
        If `columns` names a column that the table does not have, or `total` has another length.

    Examples
    --------
    >>> raw = pd.DataFrame({"group": ["A", "B"], "n_people": [26215, 7], "effect": [-1603.2, 8.0]})
    >>> format_table(raw, style="nejm").to_dict("list")
    {'group': ['A', 'B'], 'n people': ['26,215', 'suppressed'], 'effect': ['−1,603', '8']}
    """
    look = get_style(style)
    if total is not None and len(total) != len(table):
        raise DataError(f"`total` has {len(total)} entries for {len(table)} rows; give one a row.")
    chosen = dict(columns or {str(c): Column() for c in table.columns})
    absent = missing_columns(table, list(chosen))
    if absent:
        raise DataError(
            f"`columns` names {', '.join(f'`{c}`' for c in absent)}, which the table does not have."
        )
    marked = None if total is None else np.asarray(total, dtype=bool)
    checked = disclosure.check(table, values=values, people=people, total=marked, within=within)
    before = table.reset_index(drop=True)
    return _printed(checked, before, chosen, values, look, labels)


def _printed(
    checked: disclosure.Checked,
    before: pd.DataFrame,
    columns: Mapping[str, Column | str],
    values: Sequence[str],
    style: Style,
    labels: Labels | None,
) -> pd.DataFrame:
    """Return the columns as strings; what the disclosure check took out says so."""
    out: dict[str, list[str]] = {}
    for name, given in columns.items():
        column = given if isinstance(given, Column) else Column(label=given)
        cells = _cells(checked.frame[name], name, column, style, labels)
        if name in checked.columns or name in values:
            lost = checked.frame[name].isna() & before[name].notna()
            cells = [SUPPRESSED if gone else c for c, gone in zip(cells, lost, strict=True)]
        out[column.label or display(name, labels)] = cells
    return pd.DataFrame(out)


def _cells(
    values: pd.Series, name: str, column: Column, style: Style, labels: Labels | None
) -> list[str]:
    kind = column.kind or _kind(values, name)
    if kind == "text":
        return ["" if _gone(v) else display(v, labels) if labels else str(v) for v in values]
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    if kind == "p":
        return [p_value(v, style) for v in numbers]
    if kind == "year":
        return [MISSING if np.isnan(v) else f"{v:.0f}".replace("-", "\u2212") for v in numbers]
    if kind == "percent":
        numbers = 100.0 * numbers
    digits = column.digits
    if digits is None:
        digits = 1 if kind == "percent" else _digits(numbers)
    prefix, suffix = "$" if kind == "money" else "", "%" if kind == "percent" else ""
    return [
        MISSING if np.isnan(v) else number(v, style, digits=digits, prefix=prefix) + suffix
        for v in numbers
    ]


def _kind(values: pd.Series, name: str) -> Kind:
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        return "text"
    if name in _YEARS:
        return "year"
    return "p" if name.startswith("p_value") or name == "p_joint" else "number"


def _digits(values: np.ndarray) -> int:
    """Whole numbers print whole; others keep about three significant digits of a typical one."""
    finite = values[np.isfinite(values)]
    if not len(finite) or np.all(finite == np.round(finite)):
        return 0
    return digits_for(np.abs(finite) / 20.0)


def _gone(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def estimates_table(
    source: Estimates | pd.DataFrame,
    *,
    style: str | Style = "jama",
    level: float | None = None,
    keys: Sequence[str] | None = None,
    more: Mapping[str, Column | str] | None = None,
    labels: Labels | None = None,
    people: Sequence[str] = (),
) -> pd.DataFrame:
    """
    Return estimates as a printed table: keys, estimate with interval, P or stars.

    A style with stars prints the estimate with its stars and the standard error in parentheses;
    others print the interval and P. Posteriors have no P. The note (unit, sign, level, star rule,
    what was fitted) is in ``attrs["note"]``.

    Parameters
    ----------
    source : Estimates or DataFrame
        Rows; a table needs ``estimate``, and ``level`` if it has intervals.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    keys : sequence of str, optional
        Key columns printed; default is those that differ between rows.
    more : mapping, optional
        Further columns printed after the estimate, with their `Column` or header. Means and shares
        of a row whose count of people is suppressed are suppressed too.
    labels : mapping, optional
        Words for names of outcomes, strata and runs.
    people : sequence of str
        Columns that count people and are not known by name.

    Returns
    -------
    DataFrame
        Strings.

    Raises
    ------
    DataError, DesignError
        If columns are missing, or a key is not there.
    """
    look = get_style(style)
    rows = read(source, look, level=level, what="the table of estimates")
    frame = rows.frame
    used = list(keys) if keys is not None else _keys(frame)
    absent = missing_columns(frame, used)
    if absent:
        raise DesignError(f"the estimates have no key {', '.join(f'`{k}`' for k in absent)}.")
    absent = missing_columns(frame, list(more or {}))
    if absent:
        raise DataError(
            f"`more` names {', '.join(f'`{c}`' for c in absent)}, which the estimates do not have."
        )
    derived = disclosure.calculated(frame, list(more or {}), people=people)
    whole, variable = _strata(frame)
    checked = disclosure.check(
        frame.assign(_variable=variable),
        values=[*NUMBERS, "probability", *derived],
        people=people,
        total=whole if whole.any() else None,
        within="_variable",
    )
    frame = checked.frame
    named = frame.copy()
    for key in {"stratum", "run", "estimand", "outcome"} & set(used):
        # an unused key beside used ones is the whole: all strata together
        named[key] = ["All" if _gone(v) else display(v, labels) for v in frame[key]]
    shown = format_table(named, columns={k: Column() for k in used}, style=look, labels=labels)
    word = "Effect" if look.language == "effect" else "Differential change"
    header, cells = _estimates(frame, rows, look, word)
    shown[header] = cells
    if not look.stars and rows.interval == "confidence" and frame["p_value"].notna().any():
        shown[f"{look.p_symbol} value"] = [p_value(p, look) for p in frame["p_value"]]
    if more:
        rest = _printed(checked, rows.frame, more, derived, look, labels)
        shown = pd.concat([shown, rest], axis=1)
    shown.attrs["note"] = _note(frame, rows, look, labels, checked.n_suppressed)
    return shown


def _strata(frame: pd.DataFrame) -> tuple[BoolArray, list[str]]:
    """Return which rows are all strata together, and the stratifying variable of each row."""
    if "stratum" not in frame:
        return np.zeros(len(frame), dtype=bool), [""] * len(frame)
    gone = np.array([_gone(v) for v in frame["stratum"]], dtype=bool)
    whole = gone if (~gone).any() else np.zeros(len(frame), dtype=bool)
    return whole, ["" if _gone(v) else str(v).partition("=")[0] for v in frame["stratum"]]


def _keys(frame: pd.DataFrame) -> list[str]:
    named = ["label", "run", *columns.KEYS]
    return [k for k in named if k in frame and len(frame[k].unique()) > 1] or ["estimand"]


def _estimates(frame: pd.DataFrame, rows: Source, style: Style, word: str) -> tuple[str, list[str]]:
    units = frame["unit_of_measure"] if "unit_of_measure" in frame else pd.Series("", frame.index)
    one = len(units.unique()) == 1
    digits = pd.Series(0, index=frame.index)
    for unit in units.unique():
        part = (units == unit) if isinstance(unit, str) else units.isna()
        digits[part] = digits_for(errors(frame[part]))
    starred = bool(style.stars) and rows.interval == "confidence"
    cells = []
    for (_, row), unit, fine in zip(frame.iterrows(), units, digits, strict=True):
        if row["suppressed"] and pd.isna(row["estimate"]):
            cells.append(SUPPRESSED)
            continue
        sign, places = currency(str(unit)), int(fine)
        point = number(row["estimate"], style, digits=places, prefix=sign)
        if starred:
            error = number(row["std_error"], style, digits=places, prefix=sign)
            tail = f" ({error})" if row["std_error"] > 0 else ""
            cells.append(f"{point}{stars(row['p_value'], style)}{tail}")
        else:
            low, high = float(row["conf_low"]), float(row["conf_high"])
            ends = interval(low, high, style, digits=places, prefix=sign)
            cells.append(f"{point} ({ends})" if ends else point)
    inside = "SE" if starred else ""
    if not inside and rows.level is not None:
        inside = interval_name(rows.level, rows.interval)
    first = units.iloc[0]
    unit = f", {first}" if one and isinstance(first, str) and first else ""
    return f"{word}{f' ({inside})' if inside else ''}{unit}", cells


def _note(
    frame: pd.DataFrame, rows: Source, style: Style, labels: Labels | None, n_suppressed: int
) -> str:
    outcome = str(frame["outcome"].iloc[0]) if "outcome" in frame else ""
    unit = str(frame["unit_of_measure"].iloc[0]) if "unit_of_measure" in frame else ""
    signs = []
    if ("outcome" in frame and len(frame["outcome"].unique()) == 1) or is_money(unit):
        signs = [notes.sign_sentence(sign_convention(outcome, unit, labels))]
    starred = style.stars and rows.interval == "confidence"
    return notes.join(
        [
            *signs,
            "Standard errors in parentheses" if starred else "",
            notes.stars_sentence(style) if starred else "",
            *notes.fit_sentences(rows, style),
            disclosure.sentence(n_suppressed),
        ]
    )
