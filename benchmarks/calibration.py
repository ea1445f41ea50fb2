"""
Simulation-based calibration of the Bayesian models: those that integrate, and those that sample.

    python benchmarks/calibration.py --folder calibration --page docs/reference/calibration.md
    python benchmarks/calibration.py --cases student horseshoe --replications 100

Parameters are drawn from the prior and outcomes given them, in the places of a small data set; the truth must then lie
evenly in its posterior. Each replication is written down when it is done, so a run that was stopped goes on where it
was. A table of counts by quantity and a figure are written beside them, and the number of replications is printed. With
a page its table is written again, between the two marks, and the figures into a folder beside it. The models are in
`calibration_models.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from calibration_models import CASES

from vbceval.bayes.calibration import uniformity
from vbceval.core.errors import EstimationError

MANY, BINS, FEW_BINS = 400, 20, 10
MARKS = ("<!-- table begins -->", "<!-- table ends -->")


def replicate(case: str, seed: int) -> dict[str, Any]:
    """Run one replication; a closed gate is recorded, not hidden."""
    start = time.process_time()
    out: dict[str, Any] = {"seed": seed, "places": {}, "refused": None, "divergences": None}
    try:
        out |= CASES[case].place(seed)._asdict()
    except EstimationError as error:
        out["refused"] = str(error)
    return {**out, "cpu": time.process_time() - start}


def stem(case: str) -> str:
    """Return the name of a case's files."""
    return case.replace(" ", "_")


def run(case: str, replications: int, folder: Path, workers: int) -> list[dict[str, Any]]:
    """Return all replications of a case; those done before are read."""
    path = folder / f"{stem(case)}.jsonl"
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
    figure, axes = plt.subplots(
        lines, columns, figsize=(10, 1.7 * lines), squeeze=False, layout="constrained"
    )
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
    figure.savefig(path, dpi=90)
    plt.close(figure)


def judged(case: str, rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the counts and the figure of a case, print what they say, and return it as a line."""
    kept = [row["places"] for row in rows if row["refused"] is None]
    table = uniformity(kept, bins=BINS if len(kept) >= MANY else FEW_BINS)
    path = folder / stem(case)
    table.to_csv(path.with_suffix(".csv"), index=False)
    draw_ranks(table, path.with_suffix(".png"))
    low, far = table["p_value"].idxmin(), table["z"].abs().idxmax()
    # runs that integrate have none, and say nothing of them
    diverged = [row["divergences"] for row in rows if row.get("divergences") is not None]
    line = {
        "case": case, "replications": len(kept), "refused": len(rows) - len(kept),
        "with divergences": sum(n > 0 for n in diverged) if diverged else "–",
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
        name = f"{stem(line['case'])}.png"
        shutil.copy(folder / name, figures / name)
        cells = " | ".join(str(line[head]) for head in heads)
        text.append(f"| {cells} | [figure]({figures.name}/{name}) |")
    path.write_text(f"{before}{MARKS[0]}\n" + "\n".join(text) + f"\n{MARKS[1]}{after}")


def main() -> None:
    """Run, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--replications", type=int, help="default: by case, 100 to 500")
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/calibration"))
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for case in asked.cases:
        wanted = asked.replications or CASES[case].replications
        rows = run(case, wanted, asked.folder, asked.workers)
        lines.append(judged(case, rows, asked.folder))
    if asked.page is not None:
        write_page(asked.page, lines, asked.folder)


if __name__ == "__main__":
    main()
