"""
What the exact engine of the hierarchical model costs, and how near it is to a long sampler run.

    python benchmarks/bayes.py
    python benchmarks/bayes.py --parts growth --sizes 400x4x24 1000x8x40
    python benchmarks/bayes.py --parts rows --rows 100000 100000000

Each step runs in a process of its own; `fit` is the processor time of the fit alone, compiled code
ready. Read the ratios: times depend on the machine, and steps of one run share it. Growth is by
organizations, strata and periods, one at a time, and by rows of persons behind the same cells.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hierarchical_panel import OUTCOME, PERSON_SD, hierarchical_panel
from measure import Cost, measure

PARTS = ("agreement", "ratio", "growth", "rows")
SMALL = "60x2x6"
GROWTH = ("100x2x8", "200x2x8", "400x2x8", "800x2x8", "200x4x8", "200x8x8", "200x2x16", "200x2x32")


def _fit(
    size: str, options: dict[str, Any], limits: dict[str, float], spreads: bool
) -> dict[str, Any]:
    """
    Fit once on a panel of a size such as 400x4x24, code compiled before.

    Spreads are of the tree, which computes the likelihood of every draw: only where they are compared.
    """
    import vbceval as vbc

    organizations, strata, periods = map(int, size.split("x"))
    design = vbc.Design(outcome=OUTCOME)
    model = vbc.bayes.HierarchicalDiD(person_sd=PERSON_SD, alternatives=(), **options)
    loose = vbc.bayes.Limits(r_hat=5.0, ess=1.0, divergences=1.0, bfmi=0.0)
    if options["engine"] == "exact":
        model.fit(hierarchical_panel(12, 2, 4), design, limits=loose)
    panel = hierarchical_panel(organizations, strata, periods)
    start = time.process_time()
    est = model.fit(panel, design, limits=vbc.bayes.Limits(**limits) if limits else loose)
    took = time.process_time() - start
    seen = est.meta["convergence"]
    found = {}
    if spreads:
        tree = est.to_arviz()["posterior"]
        found = {
            name: np.asarray(tree[name].values).ravel() for name in tree.data_vars
            if tree[name].ndim == 2
        }  # fmt: skip
    return {
        "fit": took, "ess": min(seen["ess_bulk"], seen["ess_tail"]),
        "mean": est.estimate.tolist(), "sd": est.draws().std(axis=0).tolist(),
        "spread_mean": {k: float(v.mean()) for k, v in found.items()},
        "spread_sd": {k: float(v.std()) for k, v in found.items()},
        **est.meta.get("integration", {}),
    }  # fmt: skip


def exact(size: str, shocks: str = "ar1", log_sd: str = "0", spreads: str = "") -> dict[str, Any]:
    """The exact engine."""
    options = {"engine": "exact", "shocks": shocks, "person_sd_uncertainty": float(log_sd)}
    return _fit(size, options, {"ess": 400}, bool(spreads))


def nuts(
    size: str, draws: str, tune: str, shocks: str = "ar1", log_sd: str = "0", spreads: str = ""
) -> dict[str, Any]:
    """The sampler, four chains; its limits are not applied, its effective size is printed."""
    options = {
        "engine": "nuts", "shocks": shocks, "person_sd_uncertainty": float(log_sd),
        "draws": int(draws), "tune": int(tune),
    }  # fmt: skip
    return _fit(size, options, {}, bool(spreads))


_PERSONS = """
COPY (
    SELECT
        organization, stratum, period,
        CASE WHEN organization % 2 = 1 THEN 4.0 + organization // 2 % 3 END AS entry,
        round(10000 * (1 + 0.3 * stratum) * (1 + 0.02 * sin(organization * 7 + period * 3))
            * (1 - 0.02 * (organization % 2 = 1 AND period >= 4 + organization // 2 % 3)::INT)
            + 15000 * sqrt(-2 * ln(hash(i * 2) / 18446744073709551616.0 + 1e-12))
            * cos(6.283185307179586 * (hash(i * 2 + 1) / 18446744073709551616.0)), 2) AS spend
    FROM (
        SELECT
            i, CAST(i % 200 AS INTEGER) AS organization, CAST(i // 200 % 2 AS INTEGER) AS stratum,
            CAST(i // 400 % 8 AS INTEGER) AS period
        FROM range({rows}) t(i)
    )
) TO '{path}' (FORMAT parquet)
"""


def persons(rows: str) -> dict[str, Any]:
    """The exact engine, on moments of rows of persons: 200 organizations, 2 strata, 8 periods."""
    import duckdb

    import vbceval as vbc

    model = vbc.bayes.HierarchicalDiD(person_sd=PERSON_SD, alternatives=())
    model.fit(hierarchical_panel(12, 2, 4), vbc.Design(outcome=OUTCOME))
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/persons.parquet"
        duckdb.execute(_PERSONS.format(rows=int(rows), path=path))
        with vbc.connect("duckdb", memory_limit="600MB") as engine:
            start = time.process_time()
            found = vbc.Moments.from_table(
                path, engine=engine, cluster="organization", period="period", cohort="entry",
                strata=["stratum"], outcomes=[OUTCOME], digits={OUTCOME: 2},
            )  # fmt: skip
            passed = time.process_time() - start
    start = time.process_time()
    est = model.fit(found, vbc.Design(outcome=OUTCOME))
    took = time.process_time() - start
    seen = est.meta["convergence"]
    return {
        "fit": took, "pass": passed, "cells": len(found),
        "ess": min(seen["ess_bulk"], seen["ess_tail"]), **est.meta["integration"],
    }  # fmt: skip


STEPS: dict[str, Callable[..., dict[str, Any]]] = {"exact": exact, "nuts": nuts, "persons": persons}


def _step(*words: str, runs: int = 1, limit: float | None = None) -> Cost:
    return measure(Path(__file__), "--step", *words, runs=runs, limit=limit)


def agreement(asked: argparse.Namespace) -> None:
    """Posterior means and standard deviations against a long run, in posterior sds."""
    print(f"agreement with a long run of the sampler, {asked.small}")
    for shocks, log_sd in (("ar1", "0"), ("iid", "0.5"), ("none", "0")):
        ours = _step("exact", asked.small, shocks, log_sd, "spreads")
        words = ("nuts", asked.small, asked.draws, asked.tune, shocks, log_sd, "spreads")
        theirs = _step(*words, limit=asked.limit)
        if "mean" not in theirs.said or "mean" not in ours.said:
            print(f"  shocks {shocks}: no result: {ours.said}, {theirs.said}")
            continue
        a, b = ours.said, theirs.said
        sd = np.array(b["sd"])
        gap = np.abs(np.array(a["mean"]) - np.array(b["mean"])) / sd
        wide = np.abs(np.array(a["sd"]) / sd - 1)
        spread = [
            abs(a["spread_mean"][k] - b["spread_mean"][k]) / b["spread_sd"][k]
            for k in b["spread_mean"]
        ]  # fmt: skip
        print(
            f"  shocks {shocks}, person_sd_uncertainty {log_sd}: largest error of a mean "
            f"{gap.max():.3f} sd, of an sd {100 * wide.max():.1f}%, of the mean of a variance "
            f"parameter {max(spread):.3f} sd; Monte Carlo error of the run {1 / b['ess'] ** 0.5:.3f} "
            f"sd (effective size {b['ess']:.0f}); processor time {b['fit'] / a['fit']:.0f} x"
        )  # fmt: skip


def ratio(asked: argparse.Namespace) -> None:
    """Processor time of both engines on the same cells."""
    ours = _step("exact", asked.size, runs=asked.runs)
    theirs = _step("nuts", asked.size, asked.draws, asked.tune, limit=asked.limit)
    print(f"processor time, {asked.size}, four chains of {asked.tune} + {asked.draws} draws")
    print(f"  exact {_described(ours)}")
    if "fit" not in theirs.said:
        used = theirs.cpu / ours.said["fit"]
        print(f"  nuts  no result: {theirs.said}; it had used {used:.0f} x that processor time")
        return
    print(f"  nuts  {_described(theirs)}: {theirs.said['fit'] / ours.said['fit']:.0f} x")


def growth(asked: argparse.Namespace) -> None:
    """How cost grows."""
    print("growth of the exact engine's cost (organizations x strata x periods)")
    base: Cost | None = None
    for size in asked.sizes:
        cost = _step("exact", size, runs=asked.runs, limit=asked.limit)
        base = cost if base is None else base
        times = f" {cost.said['fit'] / base.said['fit']:6.2f} x" if "fit" in cost.said else ""
        print(f"  {size:12s} {_described(cost)}{times}", flush=True)


def behind(asked: argparse.Namespace) -> None:
    """What rows behind the same cells cost."""
    print("rows of persons behind 3,200 cells (200 organizations x 2 strata x 8 periods)")
    base: Cost | None = None
    for rows in asked.rows:
        cost = _step("persons", rows, runs=asked.runs, limit=asked.limit)
        base = cost if base is None else base
        if "fit" not in cost.said:
            print(f"  {rows:>12s} rows: {_described(cost)}", flush=True)
            continue
        fit, passed = (cost.said[k] / base.said[k] for k in ("fit", "pass"))
        print(
            f"  {rows:>12s} rows, {cost.said['cells']} cells: {_described(cost)}; "
            f"fit {fit:.2f} x, pass {passed:.2f} x",
            flush=True,
        )


def _described(cost: Cost) -> str:
    said = cost.said
    if "fit" not in said:
        return f"no result: {said}, peak {cost.peak:.0f} MB"
    more = f", k-hat {said['k_hat']:.2f}, {said['passes']} passes" if "k_hat" in said else ""
    return f"fit {said['fit']:8.2f} s, peak {cost.peak:6.0f} MB, effective size {said['ess']:.0f}{more}"


def main() -> None:
    """Run a step, or the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", default="400x4x24", help="cells of the ratio")
    parser.add_argument("--small", default=SMALL, help="cells of the agreement")
    parser.add_argument("--sizes", nargs="+", default=list(GROWTH), help="cells of the growth")
    parser.add_argument("--rows", nargs="+", default=["100000", "1000000", "100000000"])
    parser.add_argument("--draws", default="1000", help="of each chain of the sampler")
    parser.add_argument("--tune", default="500")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds for a step")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(STEPS[asked.step[0]](*asked.step[1:])))
        return
    for part in asked.parts:
        parts = {"agreement": agreement, "ratio": ratio, "growth": growth, "rows": behind}
        parts[part](asked)


if __name__ == "__main__":
    main()
