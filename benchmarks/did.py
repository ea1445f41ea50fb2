"""
What difference-in-differences estimators cost, beside other packages in Python.

    python benchmarks/did.py --folder /tmp/did --peer-python PYTHON_WITH_PEERS

The peers are diff-diff, csdid, moderndid, pyfixest and wildboottest, in an environment of their own.
Each step runs in a process of its own, reads its table and fits; `fit` is the processor time of the
fit alone, and ratios are of it. A peer that takes longer than `--limit` is stopped, and said so.
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
from panel_sql import write_panel
from scale import MEMORY

SCALE = Path(__file__).with_name("scale.py")
PERIODS, COHORTS = 20, tuple(range(6, 14))
COVARIATES = ["x1", "x2", "x3", "x4"]
SHOWN = (8, 10)
"""Cohort and period of the effect that is compared."""


# -------------------------------------------------------------------------------------- tables


def group_time_table(path: Path, units: int, outcomes: int) -> None:
    """Write units with baseline covariates on which entry and trends depend."""
    if path.exists():
        return
    rng = np.random.default_rng([2026, units])
    x = rng.standard_normal((units, 4)).astype(np.float64)
    score = 0.4 * x[:, 0] + 0.2 * x[:, 1] + rng.gumbel(size=units)
    cohort = np.where(score < np.median(score), 0, rng.choice(COHORTS, units))
    own = rng.standard_normal(units)
    t = np.arange(1, PERIODS + 1)
    columns: dict[str, Any] = {
        "id": np.repeat(np.arange(units), PERIODS), "t": np.tile(t, units),
        "g": np.repeat(cohort, PERIODS),
        **{name: np.repeat(x[:, j], PERIODS) for j, name in enumerate(COVARIATES)},
    }  # fmt: skip
    treated = (cohort[:, None] > 0) & (t >= cohort[:, None])
    trend = 0.1 * t * (1 + x[:, :1])
    for k in range(outcomes):
        noise = rng.standard_normal((units, PERIODS))
        columns[f"spend{k}"] = (own[:, None] + trend + (1.0 + 0.1 * k) * treated + noise).ravel()
    pd.DataFrame(columns).to_parquet(path, index=False)


def few_clusters_table(path: Path, clusters: int, rows: int) -> None:
    """Write people in a few clusters, a quarter of them treated in the second half."""
    if path.exists():
        return
    rng = np.random.default_rng([2026, clusters])
    c = np.repeat(np.arange(clusters), rows // clusters)
    t = rng.integers(1, 11, len(c))
    shock = rng.standard_normal((clusters, 11))
    y = shock[c, t] + 0.2 * ((c % 4 == 0) & (t >= 6)) + rng.standard_normal(len(c))
    frame = pd.DataFrame({"id": np.arange(len(c)), "c": c, "t": t, "y": y,
                          "g": np.where(c % 4 == 0, 6, 0)})  # fmt: skip
    frame.to_parquet(path, index=False)


def _timed(fit: Callable[[], tuple[float, float]]) -> dict[str, Any]:
    start = time.process_time()
    estimate, error = fit()
    return {"fit": time.process_time() - start, "estimate": estimate, "std_error": error}


# ------------------------------------------------------------------------- doubly robust effects


def ours(path: str, outcomes: str = "1", law: str = "CR1") -> dict[str, Any]:
    """Fit group-time effects of one or several outcomes, with simultaneous bands."""
    import vbceval as vbc
    from vbceval.did import GroupTime

    names = [f"spend{k}" for k in range(int(outcomes))]
    frame = pd.read_parquet(path, columns=["id", "t", "g", *COVARIATES, *names])
    design = vbc.Design(outcome="spend0", covariates=COVARIATES, comparison="never_treated")

    def fit() -> tuple[float, float]:
        panel = vbc.Panel.from_frame(frame, unit="id", period="t", cohort="g", never=0)
        est = GroupTime(method="dr").fit(panel, design, vcov=law, outcomes=names)
        if law == "bootstrap":
            est.bands()
        row = est.where(cohort=SHOWN[0], period=SHOWN[1], outcome="spend0").tidy().iloc[0]
        return float(row["estimate"]), float(row["std_error"])

    return _timed(fit)


def diff_diff(path: str) -> dict[str, Any]:
    """diff-diff: the same effects."""
    from diff_diff import CallawaySantAnna

    frame = pd.read_parquet(path, columns=["id", "t", "g", *COVARIATES, "spend0"])

    def fit() -> tuple[float, float]:
        model = CallawaySantAnna(estimation_method="dr")
        found = model.fit(frame, outcome="spend0", unit="id", time="t", first_treat="g",
                          covariates=COVARIATES)  # fmt: skip
        one = found.group_time_effects[SHOWN]
        return float(one["effect"]), float(one["se"])

    return _timed(fit)


def csdid(path: str) -> dict[str, Any]:
    """csdid: the same effects, analytic errors."""
    from csdid.att_gt import ATTgt

    frame = pd.read_parquet(path, columns=["id", "t", "g", *COVARIATES, "spend0"])

    def fit() -> tuple[float, float]:
        model = ATTgt(
            yname="spend0", tname="t", idname="id", gname="g", data=frame,
            control_group=["nevertreated"], xformla="spend0~" + "+".join(COVARIATES),
        )  # fmt: skip
        found = model.fit(est_method="dr", bstrap=False).results
        return _one(found["group"], found["year"], found["att"], found["se"])

    return _timed(fit)


def moderndid(path: str) -> dict[str, Any]:
    """moderndid: the same effects, analytic errors."""
    from moderndid import att_gt

    frame = pd.read_parquet(path, columns=["id", "t", "g", *COVARIATES, "spend0"])

    def fit() -> tuple[float, float]:
        found = att_gt(
            frame, yname="spend0", tname="t", idname="id", gname="g", boot=False, cband=False,
            xformla="~" + "+".join(COVARIATES), est_method="dr",
        )  # fmt: skip
        return _one(found.groups, found.times, found.att_gt, found.se_gt)

    return _timed(fit)


def _one(groups: Any, times: Any, estimates: Any, errors: Any) -> tuple[float, float]:
    here = (np.asarray(groups) == SHOWN[0]) & (np.asarray(times) == SHOWN[1])
    return float(np.asarray(estimates)[here][0]), float(np.asarray(errors)[here][0])


# -------------------------------------------------------------------------------- wild bootstrap


def our_wild(path: str) -> dict[str, Any]:
    """Two-way fixed effects with 9,999 wild draws."""
    import vbceval as vbc
    from vbceval.did import TWFE

    frame = pd.read_parquet(path)

    def fit() -> tuple[float, float]:
        cells = frame.assign(n=1.0).groupby(["c", "t", "g"], as_index=False).agg(
            y=("y", "mean"), n=("n", "sum"))  # fmt: skip
        panel = vbc.Panel.from_frame(cells, unit="c", period="t", cohort="g", weight="n", never=0)
        law = vbc.inference.Wild(draws=9999)
        est = TWFE().fit(panel, vbc.Design(outcome="y"), vcov=law)
        return float(est.estimate[0]), float(est.frame["wild_p_value"].iloc[0])

    return _timed(fit)


def wildboottest(path: str) -> dict[str, Any]:
    """wildboottest: the same coefficient and draws, on rows."""
    import statsmodels.api as sm
    from wildboottest.wildboottest import wildboottest as run

    frame = pd.read_parquet(path)
    columns = {"d": (frame["g"] > 0) & (frame["t"] >= frame["g"])}
    effects = pd.get_dummies(frame[["c", "t"]].astype("category"), drop_first=True)
    x = sm.add_constant(pd.concat([pd.DataFrame(columns), effects], axis=1).astype(float))

    def fit() -> tuple[float, float]:
        model = sm.OLS(frame["y"], x)
        found = run(model, B=9999, cluster=frame["c"], param="d", seed=1, show=False)
        return float(model.fit().params["d"]), float(found["p-value"].iloc[0])

    return _timed(fit)


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "vbceval": ours, "diff-diff": diff_diff, "csdid": csdid, "moderndid": moderndid,
    "vbceval wild": our_wild, "wildboottest": wildboottest,
}  # fmt: skip


# ------------------------------------------------------------------------------------ the run


def report(name: str, cost: Cost, base: Cost) -> None:
    """Print a line: processor time of the fit and memory, and their ratios to the base."""
    if "fit" not in cost.said:
        print(f"  {name:38s} no result: {cost.said}, peak {cost.peak:.0f} MB", flush=True)
        return
    fit = cost.said["fit"]
    print(
        f"  {name:38s} fit {fit:8.2f} s {fit / base.said['fit']:8.2f} x   peak {cost.peak:7.0f} MB"
        f" {cost.peak / base.peak:6.2f} x   {cost.said['estimate']:.6f} ({cost.said['std_error']:.6f})",
        flush=True,
    )


def group_time(folder: Path, units: int, asked: argparse.Namespace) -> None:
    """Doubly robust effects of one outcome, beside the peers."""
    path = folder / f"group_time_{units}.parquet"
    group_time_table(path, units, 1)
    print(f"doubly robust, {units:,} units x {PERIODS} periods x {len(COHORTS)} cohorts")
    base = _step("vbceval", str(path), runs=asked.runs)
    report("vbceval", base, base)
    with_draws = _step("vbceval", str(path), "1", "bootstrap", runs=asked.runs)
    report("vbceval, 1,000 multiplier draws", with_draws, base)
    for name in ("diff-diff", "csdid", "moderndid"):
        report(name, _step(name, str(path), python=asked.peer_python, limit=asked.limit), base)


def many_outcomes(folder: Path, asked: argparse.Namespace) -> None:
    """Thirty outcomes against one."""
    path = folder / "outcomes.parquet"
    group_time_table(path, 20_000, 30)
    print("doubly robust, 20,000 units, one outcome and thirty")
    base = _step("vbceval", str(path), runs=asked.runs)
    report("one outcome", base, base)
    report("thirty outcomes", _step("vbceval", str(path), "30", runs=asked.runs), base)


def wild(folder: Path, asked: argparse.Namespace) -> None:
    """A wild bootstrap with few clusters."""
    path = folder / "clusters.parquet"
    few_clusters_table(path, 50, 50_000)
    print("two-way fixed effects, 50 clusters, 50,000 rows, 9,999 wild draws (p-value in brackets)")
    base = _step("vbceval wild", str(path), runs=asked.runs)
    report("vbceval", base, base)
    report("wildboottest", _step("wildboottest", str(path), python=asked.peer_python,
                                 limit=asked.limit), base)  # fmt: skip


def event_study(folder: Path, asked: argparse.Namespace) -> None:
    """Event study of 2 million rows, with the pass that takes moments; times are of the processes."""
    place = folder / "panel"
    rows = write_panel(place, 2_000_000, files=4)
    files = str(place / "*.parquet")
    print(f"event study, {rows:,} rows, 2,000 providers, 4 covariates; whole processes")
    ours = measure(SCALE, "--step", "one event study", files, MEMORY)
    peer = measure(SCALE, "--step", "peer", files, python=asked.peer_python, limit=asked.limit)
    cpu, peak = peer.cpu / ours.cpu, peer.peak / ours.peak
    print(f"  pyfixest / vbceval: processor time {cpu:.2f}, memory {peak:.2f}")
    print(f"  {ours.said} and {peer.said}")


def _step(
    *words: str, python: str = sys.executable, runs: int = 1, limit: float | None = None
) -> Cost:
    return measure(Path(__file__), "--step", *words, python=python, runs=runs, limit=limit)


def main() -> None:
    """Run a step, or all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/panels"))
    parser.add_argument("--units", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--skip", nargs="*", default=[],
                        choices=["group-time", "outcomes", "wild", "event-study"])  # fmt: skip
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for a peer")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(STEPS[asked.step[0]](*asked.step[1:])))
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    if "wild" not in asked.skip:
        wild(asked.folder, asked)
    if "outcomes" not in asked.skip:
        many_outcomes(asked.folder, asked)
    if "event-study" not in asked.skip:
        event_study(asked.folder, asked)
    if "group-time" not in asked.skip:
        for units in asked.units:
            group_time(asked.folder, units, asked)


if __name__ == "__main__":
    main()
