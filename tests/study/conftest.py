"""A made-up study in a temporary folder: one input, two tables, one figure, one limit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STUDY = """\
id = "made-up"
title = "A made-up program"
question = "Did entry lower spending?"
seed = 20240101

[inputs.cells]
files = ["cells.csv"]

[outputs]
tables = ["att_overall", "sample_flow"]
figures = ["means"]

[sizes.full]
draws = 400
[sizes.fast]
draws = 40

[limits.smallest_cell]
min = 11
why = "Fewer people may not be shown."

[settings]
level = 0.95
"""

RUN = """\
import numpy as np
import pandas as pd


def draw(table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(table["year"], table["spending"])
    return figure


def run(ctx):
    with ctx.stage("read"):
        cells = pd.read_csv(ctx.inputs["cells"][0])
    ctx.check("smallest_cell", cells["people"].min(), people=True)
    noise = ctx.rng("bootstrap").normal(size=ctx.size["draws"])
    means = cells.groupby("outcome", as_index=False)["effect"].mean()
    ctx.section("Sample")
    ctx.table(
        "sample_flow", cells[["outcome", "year", "people"]], title="Sample", keys=["outcome", "year"]
    )
    ctx.section("Effect")
    ctx.text("reading", "Effects are *treated minus untreated*.")
    ctx.figure(
        "means", draw(cells), title="Mean spending", data=cells[["year", "spending"]],
        alt="A line of mean spending by year.",
    )
    ctx.table(
        "att_overall",
        pd.DataFrame(
            {
                "outcome": means["outcome"],
                "estimate": means["effect"],
                "std_error": noise.std() / np.sqrt(len(noise)),
                "unit_of_measure": "USD",
            }
        ),
        title="Overall effect",
        note="A *note*.",
        keys=["outcome"],
    )
    ctx.headline("Spending fell by **$9**.")
    ctx.meta({"estimator": "Mean", "options": {"path": str(ctx.data)}, "warnings": ["few cells"]})
"""

CELLS = """\
outcome,year,people,spending,effect
total_spend,2014,1200,9100.5,-9.4
total_spend,2015,1300,9000.25,-9.44
inpatient,2014,1200,4000,1.5
inpatient,2015,1300,4100,0.5
"""

PROTOCOL = """\
# Protocol of a made-up program

Frozen 2024-01-01. See [the rule](https://example.org/rule).

## Question

Did entry lower *spending*?

## Design

Before and after.

## Amendments

None.
"""


@pytest.fixture
def study_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the made-up study; the current folder is beside `studies/`."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "studies" / "made-up"
    folder.mkdir(parents=True)
    for name, text in (("study.toml", STUDY), ("run.py", RUN), ("protocol.md", PROTOCOL)):
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def edit() -> Callable[[Path, str, str], None]:
    """Replace a text that a file holds once."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
        path.write_text(text.replace(old, new))

    return replace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder of its input."""
    folder = tmp_path / "some data"
    folder.mkdir()
    (folder / "cells.csv").write_text(CELLS)
    return folder


@pytest.fixture
def words() -> Callable[..., list[str]]:
    """Return the words that start the command line with this interpreter."""
    return lambda *given: [sys.executable, "-m", "vbceval.study.cli", *map(str, given)]


@pytest.fixture
def command(
    tmp_path: Path, words: Callable[..., list[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in its own process, in the folder beside `studies/`."""

    def run(*given: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words(*given), cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run
