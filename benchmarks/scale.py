"""
What moments of a large table cost, against the engine's own sums and against a regression on rows.

    python benchmarks/scale.py --rows 1000000 10000000 --folder /tmp/panels
    python benchmarks/scale.py --rows 100000000 --folder /tmp/panels --skip peer spark

Each step runs in a process of its own. Read the ratios: times depend on the machine, and steps of one
run share it. The peer is pyfixest; give the interpreter that has it with `--peer-python`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Cost, measure, measure_command, measure_in_turn
from panel_sql import COVARIATES, OUTCOMES, STRATUM, write_panel

MEMORY = "600MB"
KEYS = ("provider_id", "quarter", STRATUM)
OPTIONS: dict[str, Any] = {
    "cluster": "provider_id", "period": "quarter", "cohort": "cohort", "strata": [STRATUM],
    "outcomes": list(OUTCOMES), "covariates": list(COVARIATES), "weight": "months",
    "digits": {"spend": 2, "hcc": 3},
}  # fmt: skip


# ------------------------------------------------------------------------------- what is measured


def _query(text: str, memory: str) -> int:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"SET temp_directory = '{tempfile.gettempdir()}/scale-spill'")
        return connection.sql(text).to_arrow_table().num_rows


def bare(files: str, memory: str) -> dict[str, Any]:
    """Scan and group by: DuckDB's own sums of the columns."""
    sums = ", ".join(f"sum({name})" for name in ("months", *COVARIATES, *OUTCOMES))
    cells = _query(
        f"SELECT {', '.join(KEYS)}, count(*), {sums} FROM read_parquet('{files}') GROUP BY ALL",
        memory,
    )
    return {"cells": cells}


def same_sums(files: str, memory: str, *, exact: bool) -> dict[str, Any]:
    """DuckDB computing the list of sums that moments need: whole numbers, or plain doubles."""

    def fixed(name: str) -> str:
        digits = OPTIONS["digits"].get(name)
        if not exact:
            return f"CAST({name} AS DOUBLE)"
        if digits is None:
            return f"CAST({name} AS BIGINT)"
        return f"CAST(floor({name} * {10**digits} + 0.5) AS BIGINT)"

    x, y = COVARIATES, OUTCOMES
    terms = [("months",), ("months", "months"), *[("months", v) for v in (*x, *y)]]
    terms += [("months", *p) for p in itertools.combinations_with_replacement(x, 2)]
    terms += [("months", *p) for p in itertools.product(x, y)]
    terms += [("months", v, v) for v in y]
    inner = ", ".join(f"{fixed(v)} AS {v}" for v in ("months", *x, *y))
    sums = ", ".join(f"sum({' * '.join(t)})" for t in terms)
    keys = ", ".join(KEYS)
    cells = _query(
        f"SELECT {keys}, count(*), {sums} FROM (SELECT {keys}, {inner} FROM "
        f"read_parquet('{files}')) GROUP BY ALL",
        memory,
    )
    return {"cells": cells, "sums": len(terms) + 1}


def moments(files: str, engine: str, memory: str, out: str, **changed: Any) -> dict[str, Any]:
    """Take the moments and write their file."""
    import vbceval as vbc

    options = {"memory_limit": memory} if engine == "duckdb" else {}
    with vbc.connect(engine, **options) as found:
        made = vbc.Moments.from_table(files, engine=found, **(OPTIONS | changed))
    made.save(out)
    return {"cells": len(made)}


def configure(files: str, engine: str, memory: str, out: Path) -> Path:
    """Write the file that `vbceval moments build` reads, and return its path."""
    columns = {k: v for k, v in OPTIONS.items() if k != "digits"} | {"unit": "bene_id"}
    limit = f'memory_limit = "{memory}"' if engine == "duckdb" else ""
    lines = [
        f'source = "{files}"', f'output = "{out}"', "[engine]", f'name = "{engine}"', limit,
        "[columns]", *(f"{k} = {json.dumps(v)}" for k, v in columns.items()),
        "[digits]", *(f"{k} = {v}" for k, v in OPTIONS["digits"].items()),
    ]  # fmt: skip
    path = out.with_suffix(".toml")
    path.write_text("\n".join(lines))
    return path


def commands(files: str, engine: str, memory: str, out: Path, base: Cost, runs: int) -> None:
    """Measure `vbceval moments build`, `inspect` and `share` (which no longer reads an engine)."""
    config = configure(files, engine, memory, out)
    shared = out.with_suffix(".shared.parquet")
    steps = [("build", str(config), "--force"), ("inspect", str(out))]
    if engine == "duckdb":
        steps.append(("share", str(out), "--out", str(shared), "--force"))
    for words in steps:
        cost = measure_command("moments", *words, runs=runs)
        report(f"vbceval moments {words[0]}, {engine}", cost, base)
        for line in cost.said.get("lines", [f"failed: {cost.said.get('failed')}"]):
            print(f"      {line}")


def _fits() -> list[tuple[str, Callable[[Any, Any], Any]]]:
    import vbceval as vbc

    did = vbc.did
    several: dict[str, Any] = {"outcomes": list(OUTCOMES)}
    return [
        ("event study, CR1", lambda m, d: did.EventStudy().fit(m, d, vcov="CR1", **several)),
        ("event study, CR2", lambda m, d: did.EventStudy().fit(m, d, vcov="CR2", **several)),
        ("ETWFE, CR1", lambda m, d: did.ETWFE().fit(m, d, vcov="CR1", **several)),
        ("TWFE, wild bootstrap", lambda m, d: did.TWFE().fit(m, d, vcov="wild", **several)),
        ("group-time, regression", lambda m, d: did.GroupTime(method="reg").fit(m, d, **several)),
    ]  # fmt: skip


def estimates(file: str) -> dict[str, Any]:
    """Every estimator, for all outcomes and strata, from the moments file."""
    import vbceval as vbc

    found = vbc.Moments.load(file)
    design = vbc.Design(outcome=OUTCOMES[0], covariates=list(COVARIATES))
    took = {}
    for name, fit in _fits():
        start = time.process_time()
        fit(found, design)
        took[name] = time.process_time() - start
    return {"cpu": took}


def posterior(file: str) -> dict[str, Any]:
    """Integrate the posterior of the hierarchical model, one outcome, cells of a year."""
    import vbceval as vbc

    found = vbc.Moments.load(file).coarsen(periods=lambda q: (q + 3) // 4)
    design = vbc.Design(outcome=OUTCOMES[0])
    start = time.process_time()
    vbc.bayes.HierarchicalDiD().fit(found, design)
    return {"cpu": {"posterior": time.process_time() - start}}


def one_event_study(files: str, memory: str) -> dict[str, Any]:
    """Take the moments of spending alone and fit the event study that the peer fits."""
    import vbceval as vbc

    options: dict[str, Any] = OPTIONS | {"outcomes": ["spend"], "strata": []}
    with vbc.connect("duckdb", memory_limit=memory) as engine:
        found = vbc.Moments.from_table(files, engine=engine, **options)
    est = vbc.did.EventStudy().fit(
        found, vbc.Design(outcome="spend", covariates=list(COVARIATES)), vcov="CR1"
    )
    row = est.where(event_time=4).tidy().iloc[0]
    return {"estimate": row["estimate"], "std_error": row["std_error"]}


def person_effects(files: str, memory: str, limit: str) -> dict[str, Any]:
    """Fit effects of persons and quarters, errors by provider, then by person."""
    import vbceval as vbc

    def treated(cells: Any) -> Any:
        return (cells["quarter"] >= 20) & (cells["home_id"] % 2 == 0)

    with vbc.connect("duckdb", memory_limit=limit) as engine:
        sums = vbc.passes.within(
            files, engine, unit="bene_id", cluster="home_id", period="quarter",
            outcomes=["spend"], weight="months", memory=memory,
        )  # fmt: skip
        fit = sums.fit("spend", [vbc.passes.Term(name="treated", value=treated)])
        by_person = vbc.passes.by_unit(fit, files, engine, memory=memory)
    return {"estimate": float(fit.coefficients[0]), "by_person": float(by_person.std_error[0])}


def peer(files: str) -> dict[str, Any]:
    """pyfixest: the event study of spending on rows, provider and quarter effects."""
    import duckdb
    import pyfixest

    # it took more than 24 GB for 10 million rows
    columns = ", ".join(("provider_id", "quarter", "spend", *COVARIATES))
    # of weights of one byte it takes square roots in half precision, which moves the fifth digit
    frame = duckdb.sql(
        f"SELECT {columns}, CAST(months AS DOUBLE) AS months, CASE WHEN cohort IS NULL THEN -1 ELSE quarter - cohort END AS e "
        f"FROM read_parquet('{files}')"
    ).df()
    fit = pyfixest.feols(
        f"spend ~ i(e, ref=-1) + {' + '.join(COVARIATES)} | provider_id + quarter",
        data=frame, weights="months", vcov={"CRV1": "provider_id"},
        copy_data=False, store_data=False, lean=True,
    )  # fmt: skip
    table = fit.tidy()
    row = table[table.index.str.fullmatch(r"e::4(\.0)?")].iloc[0]
    return {"estimate": row["Estimate"], "std_error": row["Std. Error"]}


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "bare": bare, "exact sums": lambda f, m: same_sums(f, m, exact=True),
    "double sums": lambda f, m: same_sums(f, m, exact=False), "moments": moments,
    "moments with people": lambda *a: moments(*a, unit="bene_id"),
    "estimates": estimates, "posterior": posterior, "one event study": one_event_study,
    "person effects": person_effects, "peer": peer,
}  # fmt: skip


# ------------------------------------------------------------------------------------ the run


def report(name: str, cost: Cost, base: Cost, ratio: float | None = None) -> None:
    """Print a line: times, memory, and the ratio to the base or one of the same round."""
    if "failed" in cost.said:
        print(f"  {name:34s} failed with status {cost.said['failed']}", flush=True)
        return
    found = cost.cpu / base.cpu if ratio is None else ratio
    print(
        f"  {name:34s} cpu {cost.cpu:8.1f} s  wall {cost.wall:8.1f} s  peak {cost.peak:7.0f} MB"
        f"  {found:6.2f} x",
        flush=True,
    )


def compare(rows: int, folder: Path, skip: set[str], peer_python: str, runs: int) -> None:
    """Measure every step on a panel of `rows` rows."""
    place = folder / f"{rows}"
    made = write_panel(place, rows, files=max(4, rows // 2_000_000))
    files, out = str(place / "*.parquet"), str(place.with_suffix(".moments.parquet"))
    print(f"{made:,} rows, memory limit {MEMORY}; ratios are of processor seconds", flush=True)

    def step(*words: str, python: str = sys.executable) -> Cost:
        return measure(Path(__file__), "--step", *words, python=python, runs=runs)

    words = {
        "DuckDB, the same sums, no limit": ("exact sums", files, "8GB"),
        "moments": ("moments", files, "duckdb", MEMORY, out),
        "moments, people counted": ("moments with people", files, "duckdb", MEMORY, out),
    }
    steps = [("--step", *found) for found in words.values()]
    costs, ratios = measure_in_turn(Path(__file__), steps, runs=runs)
    exact, ours, _ = costs
    for name, cost, ratio in zip(words, costs, ratios, strict=True):
        report(name, cost, exact, ratio)
    if "limit" not in skip:
        report("DuckDB, the same sums", step("exact sums", files, MEMORY), exact)
    report("DuckDB, the sums as doubles", step("double sums", files, "8GB"), exact)
    report("DuckDB, bare group-by", step("bare", files, MEMORY), exact)
    if "commands" not in skip:
        commands(files, "duckdb", MEMORY, place.with_suffix(".cli.parquet"), exact, runs)
    if "estimates" not in skip:
        both = [("--step", *words["moments"]), ("--step", "estimates", out)]
        (taken, fits), (_, ratio) = measure_in_turn(Path(__file__), both, runs=runs)
        report("all estimators, to moments in turn", fits, taken, ratio)
        for name, took in fits.said.get("cpu", {}).items():
            print(f"    {name:32s} cpu {took:8.1f} s  {took / taken.cpu:6.2f} x moments")
    if "posterior" not in skip:
        report("posterior, one outcome", step("posterior", out), ours)
    if "passes" not in skip:
        wide = step("person effects", files, "1GB", MEMORY)
        report("effects and errors by person", wide, ours)
        narrow = step("person effects", files, "200MB", "200MB")
        report("the same in a fifth of the memory", narrow, ours)
        apart = max(abs(wide.said[k] / narrow.said[k] - 1) for k in wide.said)
        print(f"    their numbers differ by {apart:.0e} of their size")
    if "peer" not in skip:
        one = step("one event study", files, MEMORY)
        rival = step("peer", files, python=peer_python)
        report("event study through moments", one, one)
        report("event study, pyfixest on rows", rival, one)
        print(f"    memory ratio {rival.peak / one.peak:.1f}; {one.said} and {rival.said}")
    if "spark" not in skip:
        report("moments in Spark, local", step("moments", files, "spark", MEMORY, out), ours)
        if "commands" not in skip:
            commands(files, "spark", MEMORY, place.with_suffix(".cli.spark.parquet"), exact, runs)


def main() -> None:
    """Run a step, or all of them at each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/panels"))
    parser.add_argument(
        "--skip",
        nargs="*",
        default=[],
        choices=["limit", "commands", "estimates", "posterior", "passes", "peer", "spark"],
    )
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        print(json.dumps(STEPS[asked.step[0]](*asked.step[1:])))
        return
    for rows in asked.rows:
        compare(rows, asked.folder, set(asked.skip), asked.peer_python, asked.runs)


if __name__ == "__main__":
    main()
