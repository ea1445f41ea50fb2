"""
Simulation-based calibration of the engines of the hierarchical model that integrate: exact, Laplace.

    python benchmarks/calibration.py --replications 500 --folder calibration

Parameters are drawn from the prior and outcomes given them, in the cells of a small panel with
restated years or without, or of small counts; the truth must then lie evenly in its posterior. Each replication is
written down when it is done, so a run that was stopped goes on where it was. A table of counts by
quantity and a figure are written beside them, and the number of replications is printed.
"""

from __future__ import annotations

import argparse
import json
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
    # letters as letters and no date: small files, the same for the same counts
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ranks"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Run, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/calibration"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for case in asked.cases:
        rows = run(case, asked.replications, asked.folder, asked.workers)
        kept = [row["places"] for row in rows if row["refused"] is None]
        table = uniformity(kept, bins=BINS)
        stem = asked.folder / case.replace(" ", "_")
        table.to_csv(stem.with_suffix(".csv"), index=False)
        draw_ranks(table, stem.with_suffix(".svg"))
        cpu = np.array([row["cpu"] for row in rows])
        print(
            f"{case}: {len(kept)} of {len(rows)} replications, {len(rows) - len(kept)} refused "
            f"by a gate; {np.median(cpu):.2f} s of processor each; {len(table)} quantities, "
            f"smallest p-value of uniformity {table['p_value'].min():.4f} "
            f"({table['quantity'][table['p_value'].idxmin()]}), largest |z| of a mean "
            f"{table['z'].abs().max():.2f}"
        )


if __name__ == "__main__":
    main()
