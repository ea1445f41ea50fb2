"""Printed tables: locale, P rule, stars, suppression, markup."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from vbceval import figures
from vbceval.core.errors import DataError, DesignError


class Cells(HTMLParser):
    """Collect the rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.rows and data.strip():
            self.rows[-1].append(data)


def test_estimates_print_interval_and_p(strata) -> None:
    table = figures.estimates_table(strata, style="nejm")
    assert list(table.columns) == [
        "stratum", "Differential change (95% CI), USD per person-year, nominal", "P value",
    ]  # fmt: skip
    assert table["stratum"].tolist()[:2] == ["All", "enrollment: esrd"]
    first = table.iloc[0].tolist()
    assert first[1:] == ["\u2212$88 (\u2212$168 to \u2212$8)", "0.03"]
    assert "Negative = lower spending." in table.attrs["note"]


def test_styles_with_stars_print_standard_errors_and_their_rule(strata) -> None:
    table = figures.estimates_table(strata, style="economics")
    cells = table.iloc[:, 1].tolist()
    assert cells[0] == "\u2212$88** ($41)"
    assert cells[1] == "\u2212$410 ($310)"
    assert "Stars: * p < 0.1, ** p < 0.05, *** p < 0.01." in table.attrs["note"]


def test_posteriors_have_no_p(posterior) -> None:
    table = figures.estimates_table(posterior, style="economics")
    assert list(table.columns)[1].startswith("Effect (95% CrI)")
    assert not any("*" in c for c in table.iloc[:, 1])


def test_small_counts_are_not_printed(strata) -> None:
    small = strata.with_frame(strata.frame.assign(n_people=[900, 8, 300, 400, 500, 600]))
    table = figures.estimates_table(small, more={"n_people": "People"})
    assert table["People"].tolist()[1] == "suppressed"
    assert table.iloc[1, 1] == "suppressed"
    assert "1 to 10 people" in table.attrs["note"]
    plain = figures.format_table(
        pd.DataFrame({"n_people": [0, 7, 11], "mean": [1.0, 2.0, 3.0]}), values=("mean",)
    )
    assert plain["n people"].tolist() == ["0", "suppressed", "11"]
    assert plain["mean"].tolist() == ["1", "suppressed", "3"]


def test_kinds_of_columns() -> None:
    raw = pd.DataFrame(
        {"year": [2014, 2015], "rate": [0.0123, -0.5], "paid": [1234567.0, -2.0],
         "p_value": [0.0002, 0.2], "met": [True, False], "x": [np.nan, 0.5]}
    )  # fmt: skip
    table = figures.format_table(
        raw,
        columns={
            "year": "Year",
            "rate": figures.Column(label="Rate", kind="percent"),
            "paid": figures.Column(label="Paid", kind="money", digits=0),
            "p_value": "P",
            "met": "Met",
            "x": figures.Column(),
        },
    )
    assert table.iloc[0].tolist() == [
        "2014",
        "1.2%",
        "$1\u2009234\u2009567",
        "<.001",
        "True",
        "\u2013",
    ]
    assert table.iloc[1].tolist()[1:4] == ["\u221250.0%", "\u2212$2", ".20"]


def test_html_is_escaped_and_aligned() -> None:
    raw = pd.DataFrame({"a<b": ["x & y"], "n": [-3]})
    text = figures.table_html(raw, caption="Table <1>", note="N & M")
    parser = Cells()
    parser.feed(text)
    assert parser.rows == [["a<b", "n"], ["x & y", "\u22123"], ["N & M"]]
    assert "<caption>Table &lt;1&gt;</caption>" in text
    assert text.count("text-align:right") == 2


def test_the_generated_note_is_printed_below(strata) -> None:
    table = figures.estimates_table(strata)
    assert "Estimator: GroupTime" in figures.table_html(table)
    assert "Estimator: GroupTime" in figures.table_markdown(table)
    assert "Estimator: GroupTime" in figures.table_latex(table)
    assert "Estimator" not in figures.table_html(table, note="")


def test_latex_is_escaped() -> None:
    text = figures.table_latex(pd.DataFrame({"a_b": ["50% & $1"], "n": [-3.0]}), caption="x_y")
    assert r"50\% \& \$1 & \ensuremath{-}3 \\" in text
    assert r"\caption{x\_y}" in text
    assert r"\begin{tabular}{lr}" in text


def test_markdown_pipes_are_escaped() -> None:
    text = figures.table_markdown(pd.DataFrame({"a": ["x|y"]}))
    assert "x\\|y" in text


def test_missing_columns_are_named(strata) -> None:
    with pytest.raises(DataError, match="`n_acos`"):
        figures.format_table(strata.frame, columns={"n_acos": "ACOs"})
    with pytest.raises(DesignError, match="`model`"):
        figures.estimates_table(strata, keys=["model"])
