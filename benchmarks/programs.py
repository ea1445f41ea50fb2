"""
What settling costs: every program, 500 organizations and 4,000 draws.

    python benchmarks/programs.py

The first worked example of a program is repeated for all organizations, and its amount that is drawn
varies by 2 %. Ratios are to one pass of exp over the same array; medians of processor seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

import vbceval as vbc
from vbceval.programs import Program

DRAWN = ("expenditure", "actual", "spending", "cost", "medical_cost")


def seconds(call: Callable[[], object], runs: int) -> float:
    """Return the median processor time of a call."""
    took = []
    for _ in range(runs):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return statistics.median(took)


def repeated(program: Program, n: int) -> tuple[pd.DataFrame, int, str | None]:
    """Return a table of n organizations, its year, and the column to draw."""
    example = program.examples[0]
    frame = pd.concat([example.frame().iloc[[0]]] * n, ignore_index=True)
    frame[program.organization] = [f"A{i}" for i in range(n)]
    numbers = [
        c for c in frame.columns if program.inputs.get(c) and program.inputs[c].kind == "usd"
    ]
    drawn = next((c for c in DRAWN if c in numbers), numbers[0] if numbers else None)
    return frame, example.performance_year, drawn


def main() -> None:
    """Print a line a program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--organizations", type=int, default=500)
    parser.add_argument("--draws", type=int, default=4_000)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    shape = (asked.organizations, asked.draws)
    noise = np.random.default_rng(1).normal(1.0, 0.02, shape)
    unit = seconds(lambda: np.exp(noise), asked.runs)
    print(f"{shape[0]:,} organizations x {shape[1]:,} draws; one pass of exp: {unit:.3f} s")
    for name in vbc.programs.names():
        program = vbc.programs.get(name)
        frame, year, drawn = repeated(program, shape[0])
        if drawn is None:
            print(f"  {name:20s} no amount in dollars to draw")
            continue
        draws = {drawn: frame[[drawn]].to_numpy(dtype=float) * noise}

        def settle(
            program: Program = program, frame: pd.DataFrame = frame, year: int = year,
            draws: dict[str, np.ndarray] = draws,
        ) -> object:  # fmt: skip
            return program.settle(frame, performance_year=year, draws=draws)

        took = seconds(settle, asked.runs)
        print(f"  {name:20s} {drawn:24s} {took:6.2f} s  {took / unit:6.1f} x", flush=True)


if __name__ == "__main__":
    main()
