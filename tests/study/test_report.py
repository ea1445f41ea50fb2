"""The report is one readable file that loads and links to nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from vbceval.core.errors import StudyError
from vbceval.study import run_study
from vbceval.study.exhibits import TableExhibit
from vbceval.study.report import (
    MOST_ROWS,
    external_references,
    formatter,
    markdown,
    protocol_summary,
    table_block,
)

Edit = Callable[[Path, str, str], None]


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def html(study_folder: Path, data: Path) -> str:
    return run_study("made-up", data=data).report.read_text(encoding="utf-8")


def test_nothing_is_loaded_from_or_linked_to_elsewhere(html: str) -> None:
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert not page.all("script")
    assert not page.all("link")
    assert "https://example.org/rule" in "".join(page.text), "an address stays readable as text"


def test_links_within_the_page_lead_somewhere(html: str) -> None:
    page = Page(html)
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {a["href"] for a in page.all("a")} <= {f"#{t}" for t in targets if t}


def test_it_can_be_read_without_seeing_it(html: str) -> None:
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    assert "".join(page.text).count("A made-up program") == 2, "title and heading"
    assert [image["alt"] for image in page.all("img")] == ["A line of mean spending by year."]
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4", "h5"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), "no level is skipped"


def test_the_picture_is_in_the_page(html: str, study_folder: Path) -> None:
    (image,) = Page(html).all("img")
    kind, content = str(image["src"]).split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    written = study_folder.parents[1] / "output" / "made-up" / "figures" / "means.svg"
    assert base64.b64decode(content) == written.read_bytes()


def test_exhibits_stand_in_the_order_of_the_calls(html: str) -> None:
    places = [
        html.index(text)
        for text in (
            "Spending fell by <strong>$9</strong>",
            "Did entry lower <em>spending</em>",
            "at least 11",
            ">Sample</h2>",
            "Table 1.</span> Sample",
            ">Effect</h2>",
            "<em>treated minus untreated</em>",
            "Figure 1.</span> Mean spending",
            "Table 2.</span> Overall effect",
            "A <em>note</em>.",
            ">Provenance</h2>",
            "vbceval study run made-up --data",
            "few cells",
            "tables/att_overall.csv</th>",
        )
    ]
    assert places == sorted(places)


def test_a_text_that_loads_something_is_refused(study_folder: Path, data: Path, edit: Edit) -> None:
    edit(
        study_folder / "run.py",
        '"Effects are *treated minus untreated*."',
        '\'<img src="https://example.org/a.png" alt="">\', format="html"',
    )
    with pytest.raises(StudyError, match="refer to 1 things outside itself"):
        run_study("made-up", data=data)


@pytest.mark.parametrize(
    ("html", "n"),
    [
        ('<img src="https://a.org/x.png">', 1),
        ("<a href=page.html>", 1),
        ('<link rel="stylesheet" href="//a.org/x.css">', 1),
        ("<style>@import 'x.css'; p { background: url(x.png) }</style>", 2),
        ('<p style="background: url(http://a.org)">', 1),
        ('<img src="data:image/png;base64,AAAA"><a href="#x">', 0),
        ('<p>write src="x" in it, url(x)</p>', 0),
    ],
)
def test_references_are_found(html: str, n: int) -> None:
    assert len(external_references(html)) == n


def test_markdown_keeps_text_and_drops_what_could_load() -> None:
    text = (
        "# T\n\n[a rule](https://a.org) ![a chart](x.png) <script>x</script>\n\n|a|b|\n|-|-|\n|1|2|"
    )
    html = markdown(text, shift=1)
    assert "<h2>T</h2>" in html
    assert "a rule (https://a.org) a chart &lt;script&gt;" in html
    assert "<td>2</td>" in html
    assert external_references(html) == []
    assert markdown("fell by **9**", inline=True) == "fell by <strong>9</strong>"
    assert markdown("<https://a.org>", inline=True) == "https://a.org"


def test_the_summary_ends_before_the_second_section() -> None:
    assert protocol_summary("# T\n\nFrozen.\n\n## Q\n\nWhat?\n\n## D\n\nHow.") == (
        "Frozen.\n\n## Q\n\nWhat?"
    )


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("cohort", [2014.0, None], ["2014", ""]),
        ("event_time", [-1, 0], ["−1", "0"]),
        ("acos", [1234567, 5], ["1,234,567", "5"]),
        ("estimate", [-1234.56, 88.8], ["−1,235", "89"]),
        ("estimate", [-0.0123, 0.0456], ["−0.012", "0.046"]),
        ("mixed", [-123456.7, 0.0123], ["−123,457", "0.0123"]),
        ("p_value", [0.00001, 0.034], ["<0.001", "0.03"]),
        ("rewarded", [True, False], ["yes", "no"]),
        ("stratum", ["dual=yes", None], ["dual=yes", ""]),
    ],
)
def test_cells_are_rounded_for_the_eye(name: str, values: list[object], shown: list[str]) -> None:
    column = pd.Series(values, name=name)
    assert [formatter(column)(value) for value in column] == shown


def test_a_format_can_be_given() -> None:
    column = pd.Series([-0.01234])
    assert formatter(column, ".1%")(-0.01234) == "−1.2%"
    mixed = pd.Series([-0.01234, "not estimated"], dtype=object)
    assert [formatter(mixed, ".3f")(v) for v in mixed] == ["−0.012", "not estimated"]


def test_a_long_table_is_cut_and_says_so() -> None:
    frame = pd.DataFrame({"k": range(200), "empty": None, "unit": "USD", "v": 1.5})
    block = table_block(TableExhibit(name="t", title="T", frame=frame, keys=("k",)), 1)
    assert (len(block.rows), block.n_rows) == (MOST_ROWS, 200)
    assert [c.text for c in block.columns] == ["k", "v"]
    assert block.same == "unit USD"
