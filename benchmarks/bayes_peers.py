"""
Intervals and seconds of general Bayesian packages on cell means, beside the hierarchical model.

    python benchmarks/bayes_peers.py --folder peers --replications 20 \
        --bambi-python PYTHON_WITH_BAMBI --causalpy-python PYTHON_WITH_CAUSALPY

Cells of 40 organizations, 2 strata and 6 years, a planted effect of -2 percent, shocks to organizations
and a known spread of persons (`hierarchical_panel`). Every model gets the same cells in percent of
baseline. Peers run in environments of their own; "brms-style" are the models that brms writes for a
mean with a known standard error, written in PyMC. Each fit runs in a process of its own; `fit` is its
processor time, data read and code loaded. Read ratios: times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import Cost, measure

SIZE = (40, 2, 6)
TRUTH = -2.0
_FORMULA = "0 + place + treated + (1|organization) + (1|block)"


# --------------------------------------------------------------------------------------- cells


def write_cells(path: Path, seed: int) -> None:
    """Write the cells of one replication, in percent of baseline, with what peers need."""
    from hierarchical_panel import OUTCOME, PERSON_SD, hierarchical_panel

    frame = hierarchical_panel(*SIZE, seed=seed).frame.copy()
    treated = (frame["period"] >= frame["entry"]).to_numpy()
    before = frame[frame["entry"].notna() & ~treated]
    weighted = (before[OUTCOME] * before["people"]).groupby(before["stratum"]).sum()
    baseline = frame["stratum"].map(weighted / before.groupby("stratum")["people"].sum())
    cells = pd.DataFrame(
        {
            "organization": "o" + frame["organization"].astype(str),
            "block": "b" + frame["organization"].astype(str) + "_" + frame["stratum"].astype(str),
            "place": "p" + frame["stratum"].astype(str) + "_" + frame["period"].astype(str),
            "treated": treated.astype(float), "people": frame["people"],
            "y": 100 * frame[OUTCOME] / baseline,
            "se": 100 * PERSON_SD / baseline / np.sqrt(frame["people"]),
        }
    )  # fmt: skip
    cells.to_csv(path, index=False)


# -------------------------------------------------------------------------------------- models


def ours(seed: str) -> dict[str, Any]:
    """The hierarchical model, exact engine."""
    from hierarchical_panel import OUTCOME, PERSON_SD, hierarchical_panel

    import vbceval as vbc
    from vbceval.bayes.averages import PERCENT

    panel = hierarchical_panel(*SIZE, seed=int(seed))
    model = vbc.bayes.HierarchicalDiD(person_sd=PERSON_SD, alternatives=())
    design = vbc.Design(outcome=OUTCOME)
    # machine code is compiled once a machine and kept: not part of a fit
    loose = vbc.bayes.Limits(r_hat=5.0, ess=1.0, divergences=1.0, bfmi=0.0)
    model.fit(hierarchical_panel(12, 2, 4), design, limits=loose)
    start = time.process_time()
    est = model.fit(panel, design)
    took = time.process_time() - start
    draws = est.where(estimand="att_overall", unit_of_measure=PERCENT).draws()[:, 0]
    return _said(draws, took, ess=min(est.meta["convergence"][x] for x in ("ess_bulk", "ess_tail")))


def bambi_cells(path: str) -> dict[str, Any]:
    """bambi: a cell is an observation; random intercepts."""
    return _bambi(path, f"y ~ {_FORMULA}")


def bambi_weights(path: str) -> dict[str, Any]:
    """bambi: the log likelihood of a cell times its people, as brms' weights() also does."""
    return _bambi(path, f"weighted(y, people) ~ {_FORMULA}")


def _bambi(path: str, formula: str) -> dict[str, Any]:
    import bambi

    # centred: with this many persons in a cell the other form takes many times as long
    model = bambi.Model(formula, pd.read_csv(path), noncentered=False)
    start = time.process_time()
    tree = model.fit(
        draws=DRAWS, tune=DRAWS, chains=CHAINS, random_seed=1, progressbar=False,
        inference_method="nutpie",
    )  # fmt: skip
    return _sampled(tree, "treated", time.process_time() - start)


def known_error(path: str) -> dict[str, Any]:
    """brms-style `y | se(se)`: known errors and random intercepts, nothing else."""
    return _written(path, residual=False)


def known_error_residual(path: str) -> dict[str, Any]:
    """brms-style `y | se(se, sigma = TRUE)`: the same with a residual of every cell."""
    return _written(path, residual=True)


def _written(path: str, *, residual: bool) -> dict[str, Any]:
    import nutpie
    import pymc as pm

    cells = pd.read_csv(path)
    codes = {c: pd.factorize(cells[c]) for c in ("organization", "block", "place")}
    at = {c: code for c, (code, _) in codes.items()}
    n = {c: len(labels) for c, (_, labels) in codes.items()}
    start = time.process_time()
    with pm.Model() as model:
        level = pm.Normal("level", 100.0, 50.0, shape=n["place"])
        treated = pm.Normal("treated", 0.0, 20.0)
        mean = level[at["place"]] + treated * cells["treated"].to_numpy()
        for name in ("organization", "block"):
            sd = pm.HalfNormal(f"{name}_sd", 20.0)
            mean = mean + pm.Normal(name, 0.0, sd, shape=n[name])[at[name]]
        error = cells["se"].to_numpy()
        if residual:
            error = pm.math.sqrt(error**2 + pm.HalfNormal("sigma", 20.0) ** 2)
        pm.Normal("y", mean, error, observed=cells["y"].to_numpy())
    tree = nutpie.sample(
        nutpie.compile_pymc_model(model), draws=DRAWS, tune=DRAWS, chains=CHAINS, seed=1,
        progress_bar=False,
    )  # fmt: skip
    return _sampled(tree, "treated", time.process_time() - start)


def causalpy_panel(path: str) -> dict[str, Any]:
    """CausalPy: panel regression, organization x stratum and stratum x year effects, unweighted."""
    import causalpy as cp

    # priors beside the data are those of the package: beta Normal(0, 50), sigma HalfNormal(1)
    model = cp.pymc_models.LinearRegression(
        sample_kwargs={
            "draws": DRAWS, "tune": DRAWS, "chains": CHAINS, "random_seed": 1, "progressbar": False,
            "cores": 1,
        }
    )  # fmt: skip
    start = time.process_time()
    found = cp.PanelRegression(
        pd.read_csv(path), formula="y ~ 0 + treated", unit_fe_variable="block",
        time_fe_variable="place", fe_method="demeaned", model=model,
    )  # fmt: skip
    took = time.process_time() - start
    beta = found.model.idata["posterior"]["beta"]
    return _said(np.asarray(beta.values, dtype=float).ravel(), took)


def weights_limit(path: str) -> dict[str, Any]:
    """What `weights(people)` tends to with wide priors: least squares, a cell as so many equal people."""
    cells = pd.read_csv(path)
    x = pd.get_dummies(cells[["block", "place"]]).to_numpy(dtype=float)
    x = np.column_stack([cells["treated"], x])
    w, y = cells["people"].to_numpy(), cells["y"].to_numpy()
    start = time.process_time()
    bread = np.linalg.pinv((x * w[:, None]).T @ x)
    beta = bread @ (x * w[:, None]).T @ y
    variance = float(w @ (y - x @ beta) ** 2 / w.sum())
    sd = np.sqrt(variance * bread[0, 0])
    return {
        "fit": time.process_time() - start, "mean": float(beta[0]), "sd": float(sd),
        "low": float(beta[0] - 1.96 * sd), "high": float(beta[0] + 1.96 * sd), "ess": np.inf,
    }  # fmt: skip


DRAWS, CHAINS = 300, 2
STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "vbceval": ours,
    "brms-style, se(s, sigma = TRUE)": known_error_residual,
    "brms-style, se(s)": known_error,
    "bambi, cells": bambi_cells,
    "bambi, weights": bambi_weights,
    "the same, least squares limit": weights_limit,
    "CausalPy, panel regression": causalpy_panel,
}


def _sampled(tree: Any, name: str, took: float) -> dict[str, Any]:
    import arviz

    values = tree["posterior"][name]
    ess = float(np.min(np.asarray(arviz.ess(np.asarray(values.values, dtype=float).squeeze()))))
    return _said(np.asarray(values.values, dtype=float).ravel(), took, ess=ess)


def _said(draws: Any, took: float, ess: float = np.nan) -> dict[str, Any]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "fit": took, "mean": float(np.mean(draws)), "sd": float(np.std(draws)), "low": float(low),
        "high": float(high), "ess": float(ess),
    }  # fmt: skip


# ------------------------------------------------------------------------------------- running


def compared(asked: argparse.Namespace) -> pd.DataFrame:
    """Fit every model on every replication, one row each; what a stopped run found is read."""
    pythons = {
        "bambi": asked.bambi_python,
        "brms": asked.bambi_python,
        "Causa": asked.causalpy_python,
    }
    rows = []
    for seed in range(asked.replications):
        path = asked.folder / f"cells_{seed}.csv"
        write_cells(path, seed)
        for name in asked.models:
            kept = asked.folder / f"fit_{seed}_{list(STEPS).index(name)}.json"
            if kept.exists():
                rows.append(json.loads(kept.read_text()))
                continue
            word = str(seed) if name == "vbceval" else str(path)
            python = next((p for key, p in pythons.items() if name.startswith(key)), sys.executable)
            cost: Cost = measure(
                Path(__file__), "--step", name, word, python=python, limit=asked.limit
            )
            rows.append({"model": name, "seed": seed, **cost.said})
            partial = kept.with_suffix(".partial")
            partial.write_text(json.dumps(rows[-1]))
            partial.replace(kept)
            print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def report(found: pd.DataFrame) -> str:
    """Return the table: error, reported spread, coverage and time of each model."""
    base = found.loc[found["model"] == "vbceval", "fit"].median()
    lines = [
        "| model | replications | mean | rmse | reported sd | sd / rmse | 95% intervals that cover | fit, ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in found.groupby("model", sort=False):
        done = part.dropna(subset=["mean"]) if "mean" in part else part.iloc[:0]
        if done.empty:
            lines.append(f"| {name} | 0 | failed or stopped | | | | | |")
            continue
        rmse = float(np.sqrt(np.mean((done["mean"] - TRUTH) ** 2)))
        covers = int(((done["low"] <= TRUTH) & (done["high"] >= TRUTH)).sum())
        sd = float(done["sd"].mean())
        lines.append(
            f"| {name} | {len(done)} | {done['mean'].mean():.2f} | {rmse:.2f} | {sd:.2f} "
            f"| {sd / rmse:.2f} | {covers} of {len(done)} | {done['fit'].median() / base:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run a step, or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/panels"))
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--bambi-python", default=sys.executable)
    parser.add_argument("--causalpy-python", default=sys.executable)
    parser.add_argument("--limit", type=float, default=90.0, help="seconds for one fit")
    parser.add_argument("--models", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(STEPS[asked.step[0]](asked.step[1])))
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    print(report(compared(asked)))


if __name__ == "__main__":
    main()
