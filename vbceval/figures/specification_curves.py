"""The specification curve: one effect under many choices, and which choices each made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.figures import canvas, disclosure, notes
from vbceval.figures.numbers import MINUS, digits_for, interval, interval_name, number, p_statement
from vbceval.figures.records import FigureRecord, attach
from vbceval.figures.sources import INTERVAL, Source, read
from vbceval.figures.specification_curve_marks import Value, draw
from vbceval.figures.style import Style, get_style
from vbceval.figures.wording import (
    Labels,
    capital,
    currency,
    display,
    effect_label,
    one_line,
    one_of,
    sign_convention,
)

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure
    from vbceval.sensitivity import SpecificationCurve

_CHOICE = "choice_"


def specification_curve(
    curve: SpecificationCurve,
    *,
    main: str | None = None,
    style: str | Style = "jama",
    level: float | None = None,
    labels: Labels | None = None,
) -> Figure:
    """
    Draw sorted estimates above the choices behind each.

    Bars hold specification by specification; the shaded band holds jointly over all of them. Below,
    one column a specification and one row a value of a choice: a dot where it was chosen. A choice
    that is the same in all specifications has no row, a missing value no dot.

    Parameters
    ----------
    curve : SpecificationCurve
        From `vbceval.sensitivity.specification_curve`.
    main : str, optional
        Name of the specification to mark, such as the one of the protocol.
    style : str or Style, default "jama"
        Publication style.
    level : float, optional
        Interval probability; default is that of the style.
    labels : mapping, optional
        Words for the outcome, for choices and for their values.

    Returns
    -------
    Figure
        A matplotlib figure with its record attached (see `vbceval.figures.record`). Counts of each
        specification are not written: their differences would show how many were left out.

    Raises
    ------
    DesignError
        If `main` is not a specification, or values of choices do not fit on a page.
    """
    look = get_style(style)
    rows = read(curve.estimates, look, level=level, what="the specification curve")
    names = rows.frame["run"].astype(str).tolist()
    if main is not None and main not in names:
        raise DesignError(f"there is no specification '{main}' to mark; there are {listed(names)}.")
    choices = disclosure.check(curve.choices)
    data = _data(rows, choices.frame[list(curve.choices.columns)], main)
    grid = _grid(data, labels)
    outcome = one_of(data, "outcome", what="a specification curve")
    unit = one_of(data, "unit_of_measure", what="a specification curve")
    label = effect_label(outcome, unit, look, labels)
    with canvas.drawing(look):
        fig = draw(data, grid, look, label, currency(unit))
    used = look.level if rows.level is None else rows.level
    tests = curve.tests(used).set_index("statement")
    note = notes.join([
        notes.sign_sentence(sign_convention(outcome, unit, labels)),
        f"Bars: {interval_name(used, rows.interval)}, pointwise; shaded: simultaneous over all "
        f"{number(len(data), look)} specifications",
        "Dots: what each specification chose" if grid else "",
        f"Diamond: {display(main, labels)}" if main is not None else "",
        *_tests(tests, data, used, look, currency(unit)),
        *notes.fit_sentences(rows, look),
        disclosure.sentence(choices.n_suppressed),
    ])  # fmt: skip
    return attach(
        fig,
        FigureRecord(
            kind="specification_curve", data=data, note=note,
            alt=_alt(data, tests, used, look, one_line(label), currency(unit)), style=look.name,
            level=rows.level, provenance=notes.provenance(rows.meta),
        ),
    )  # fmt: skip


def _data(rows: Source, choices: pd.DataFrame, main: str | None) -> pd.DataFrame:
    frame = rows.frame
    out = pd.DataFrame({"rank": np.arange(1, len(frame) + 1), "run": frame["run"].astype(str)})
    out["main"] = out["run"] == main
    for name in choices.columns:
        # a choice may have the name of a column of estimates
        out[f"{_CHOICE}{name}"] = _plain(choices[name])
    kept = ["outcome", "unit_of_measure", "estimate", "std_error", *INTERVAL, "band_low",
            "band_high", "p_value"]  # fmt: skip
    median = float(frame["estimate"].median())
    return pd.concat([out, frame[kept]], axis=1).assign(
        median=median, level=rows.level, interval=rows.interval
    )


def _plain(choice: pd.Series) -> pd.Series:
    """Return a choice with lists, such as one of covariates, as words."""
    if choice.dtype != object:
        return choice
    return choice.map(
        lambda v: (", ".join(map(str, v)) or "none") if isinstance(v, (list, tuple)) else v
    )


def _grid(data: pd.DataFrame, labels: Labels | None) -> list[Value]:
    """Return a row for each value of a choice, below a row for the choice."""
    out: list[Value] = []
    for column in [c for c in data.columns if c.startswith(_CHOICE)]:
        values = _values(data[column])
        if len(values) < 2:
            continue
        name = capital(display(column.removeprefix(_CHOICE), labels))
        out.append(Value(label=name, ranks=None))
        for value in values:
            chosen = (data[column] == value).to_numpy(dtype=bool, na_value=False)
            ranks = data.loc[chosen, "rank"].to_numpy(dtype=float)
            out.append(Value(label=_text(value, labels), ranks=ranks))
    return out


def _values(choice: pd.Series) -> list[Any]:
    """Categories in their order, names of specifications along the curve, all else sorted."""
    known = choice.dropna()
    found = list(known.unique())
    if isinstance(choice.dtype, pd.CategoricalDtype):
        return [c for c in choice.cat.categories if c in found]
    if len(found) == len(choice):
        return found
    return sorted(
        found, key=lambda v: (isinstance(v, str), v if _is_number(v) else 0.0, str(v).casefold())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.bool_, np.number))


def _text(value: Any, labels: Labels | None) -> str:
    if isinstance(value, (bool, np.bool_)):
        return capital(display("yes" if value else "no", labels))
    if _is_number(value):
        return display(f"{value:g}", labels).replace("-", MINUS)
    return capital(display(value, labels))


def _side(data: pd.DataFrame) -> int:
    """Count the single intervals that exclude zero on the side of the median."""
    below = float(data["median"].iloc[0]) < 0
    return int((data["conf_high"] < 0).sum() if below else (data["conf_low"] > 0).sum())


def _value(tests: pd.DataFrame, statement: str, column: str = "value") -> float:
    return float(tests[column].astype(float).loc[statement])


def _median(
    tests: pd.DataFrame, data: pd.DataFrame, level: float, style: Style, prefix: str
) -> str:
    digits = digits_for(data["std_error"])
    low, high = (_value(tests, "median effect", c) for c in INTERVAL)
    ends = interval(low, high, style, digits=digits, prefix=prefix)
    point = number(_value(tests, "median effect"), style, digits=digits, prefix=prefix)
    return f"{point} ({interval_name(level)} {ends})"


def _tests(
    tests: pd.DataFrame, data: pd.DataFrame, level: float, style: Style, prefix: str
) -> list[str]:
    p = {name: p_statement(_value(tests, str(name), "p_value"), style) for name in tests.index}
    largest = number(_value(tests, "any effect"), style, digits=1)
    return [
        f"Dashed line: median estimate, {_median(tests, data, level, style, prefix)}, "
        f"{p['median effect']}",
        f"Largest |t| of all specifications: {largest}, {p['any effect']}",
        f"Intervals that exclude zero on the side of the median: {_side(data)} of "
        f"{number(len(data), style)}, {p['significant, same sign']}",
        "P values are from the joint law of all estimates (Simonsohn, Simmons and Nelson 2020)",
    ]


def _alt(
    data: pd.DataFrame, tests: pd.DataFrame, level: float, style: Style, label: str, prefix: str
) -> str:
    digits = digits_for(data["std_error"])
    ends = [number(data["estimate"].iloc[i], style, digits=digits, prefix=prefix) for i in (0, -1)]
    clear = int(((data["conf_low"] > 0) | (data["conf_high"] < 0)).sum())
    joint = int(((data["band_low"] > 0) | (data["band_high"] < 0)).sum())
    return (
        f"Specification curve of {number(len(data), style)} specifications. {label}. Estimates run "
        f"from {ends[0]} to {ends[1]}; median {_median(tests, data, level, style, prefix)}. {clear} "
        f"intervals ({interval_name(level)}) exclude zero one by one, {joint} jointly."
    )
