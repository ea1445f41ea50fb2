"""
Simulation-based calibration of the engines of the hierarchical model that integrate: exact, Laplace.

    python benchmarks/calibration.py --replications 500 --folder calibration \
        --page docs/reference/calibration.md

Parameters are drawn from the prior and outcomes given them, in the cells of a small panel with
restated years or without, or of small counts; the truth must then lie evenly in its posterior. Each replication is
written down when it is done, so a run that was stopped goes on where it was. A table of counts by
quantity and a figure are written beside them, and the number of replications is printed. With a page
its table is written again, between the two marks, and the figures into a folder beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from hierarchical_panel import OUTCOME, count_panel, hierarchical_panel

import vbceval as vbc
from vbceval.bayes.averages import averages
from vbceval.bayes.calibration import places_of_truth, uniformity
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.counts.calibration import places_of_truth as count_places
from vbceval.bayes.counts.cells import from_counts
from vbceval.bayes.counts.engine import CountMarginal
from vbceval.bayes.counts.families import COUNTS, Counts
from vbceval.bayes.counts.fit import marginal_of
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.counts.rows import Rows
from vbceval.bayes.engines import Model
from vbceval.bayes.model import active_scales
from vbceval.bayes.priors import Priors
from vbceval.core.errors import EstimationError

MEANS = ("plain", "uncertain spread of persons", "rows of people")
CASES = (*MEANS, *COUNTS)
NODES, DRAWS, BINS = 512, 999, 20
MARKS = ("<!-- table begins -->", "<!-- table ends -->")
COUNT_NODES, COUNT_DRAWS = 256, 199
# narrower than the defaults, under which many a rate is near 0 or 1: no program looks like that
COUNT_PRIORS = RatePriors(level=0.5, period=0.3)


@cache
def model(case: str) -> Model:
    """Return a model whose cells have 24 organizations, two strata and six periods."""
    panel = hierarchical_panel(24, 2, 6, seed=1, people=4 if case == "rows of people" else 0)
    design = vbc.Design(outcome=OUTCOME)
    moments = vbc.Moments.from_panel(
        panel, outcomes=[OUTCOME], by="cluster" if case == "rows of people" else "row"
    )
    stated = None if case == "rows of people" else 15_000.0
    cells = from_moments(moments, design, person_sd=stated)
    return Model(
        cells, structure(cells), Priors(), active_scales(cells, shocks="ar1", organizations=True),
        0.5 if case == "uncertain spread of persons" else 0.0, averages(cells, design).weights,
    )  # fmt: skip


@cache
def count_model(family: Counts) -> tuple[CountMarginal, Rows]:
    """Return a model of counts of 16 organizations, two strata and four periods, 60 trials a cell."""
    design = vbc.Design(outcome="events")
    moments = vbc.Moments.from_panel(count_panel(16, 2, 4, seed=1), outcomes=["events"])
    data = from_counts(moments, design, family)
    active = active_scales(data.cells, shocks="ar1", organizations=True)
    return marginal_of(data, design, COUNT_PRIORS, active)


def places(case: str, seed: int) -> dict[str, float]:
    """Return the places of one truth."""
    if case in MEANS:
        return places_of_truth(model(case), nodes=NODES, draws=DRAWS, seed=seed)
    return count_places(*count_model(case), nodes=COUNT_NODES, draws=COUNT_DRAWS, seed=seed)


def replicate(case: str, seed: int) -> dict[str, Any]:
    """Run one replication; a closed gate is recorded, not hidden."""
    start = time.process_time()
    try:
        found, refused = places(case, seed), None
    except EstimationError as error:
        found, refused = {}, str(error)
    took = time.process_time() - start
    return {"seed": seed, "places": found, "refused": refused, "cpu": took}


def run(case: str, replications: int, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Return all replications of a case; those done before are read."""
    path = folder / f"{case.replace(' ', '_')}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {row["seed"]: row for row in map(json.loads, lines)}
    left = [seed for seed in range(replications) if seed not in done]
    with path.open("a") as file, ProcessPoolExecutor(workers) as pool:
        for row in pool.map(replicate, [case] * len(left), left):
            done[row["seed"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [done[seed] for seed in range(replications)]


def draw_ranks(table: pd.DataFrame, path: Path) -> None:
    """Draw a histogram of each quantity, with the band that 95 percent of bins fall in."""
    bins = [name for name in table if name.startswith("bin_")]
    columns = 4
    lines = -(-len(table) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(10, 1.7 * lines), squeeze=False)
    for axis in axes.ravel()[len(table) :]:
        axis.set_visible(False)
    for axis, (_, row) in zip(axes.ravel(), table.iterrows(), strict=False):
        expected = row["replications"] / len(bins)
        half = 1.96 * np.sqrt(expected * (1 - 1 / len(bins)))
        axis.axhspan(expected - half, expected + half, color="0.88")
        axis.stairs(row[bins].astype(float), color="0.4", fill=True)
        axis.set_title(str(row["quantity"]), fontsize=8)
        axis.set_xticks([0, len(bins)], ["0", "1"], fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
    figure.suptitle("Share of posterior draws below the truth; grey: 95% of bins", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def judged(case: str, rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the counts and the figure of a case, print what they say, and return it as a line."""
    kept = [row["places"] for row in rows if row["refused"] is None]
    table = uniformity(kept, bins=BINS)
    stem = folder / case.replace(" ", "_")
    table.to_csv(stem.with_suffix(".csv"), index=False)
    draw_ranks(table, stem.with_suffix(".png"))
    low, far = table["p_value"].idxmin(), table["z"].abs().idxmax()
    line = {
        "case": case, "replications": len(kept), "refused": len(rows) - len(kept),
        "quantities": len(table), "smallest p": f"{table['p_value'][low]:.4f} ({table['quantity'][low]})",
        "largest z of a mean": f"{abs(table['z'][far]):.2f} ({table['quantity'][far]})",
        "seconds of processor each": f"{np.median([row['cpu'] for row in rows]):.2f}",
    }  # fmt: skip
    print(", ".join(f"{k}: {v}" for k, v in line.items()), flush=True)
    return line


def write_page(path: Path, lines: list[dict[str, Any]], folder: Path) -> None:
    """Write the table of a page again, and copy the figures beside it."""
    before, rest = path.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    heads = list(lines[0])
    text = [f"| {' | '.join(heads)} | ranks |", f"|{'---|' * (len(heads) + 1)}"]
    figures = path.with_suffix("")
    figures.mkdir(exist_ok=True)
    for line in lines:
        name = f"{line['case'].replace(' ', '_')}.png"
        shutil.copy(folder / name, figures / name)
        cells = " | ".join(str(line[head]) for head in heads)
        text.append(f"| {cells} | [figure]({figures.name}/{name}) |")
    path.write_text(f"{before}{MARKS[0]}\n" + "\n".join(text) + f"\n{MARKS[1]}{after}")


def main() -> None:
    """Run, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/calibration"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in asked.cases:
        rows = run(case, asked.replications, asked.folder, asked.workers)
        lines.append(judged(case, rows, asked.folder))
    if asked.page is not None:
        write_page(asked.page, lines, asked.folder)


if __name__ == "__main__":
    main()
