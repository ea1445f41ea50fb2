"""The study of published effects: its record, its draws, and what happens when a fact moves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval.bayes import MetaAnalysis
from vbceval.bayes.weighted import WeightedMeta
from vbceval.core.errors import DesignError, EstimationError, StudyError
from vbceval.evidence import read_facts, spending_effects
from vbceval.study import Run, accept, read_study, run_study, verify
from vbceval.study.compare import compare_tables
from vbceval.study.exhibits import read_cells
from vbceval.study.pooled import monte_carlo
from vbceval.study.pooled.effects import widened
from vbceval.study.pooled.model import fitted
from vbceval.study.tolerances import read_tolerances

STUDY = Path(__file__).resolve().parents[2] / "studies" / "published-effects"
EXACT = ("consistency", "consistency_failures", "attrition", "analysis_set", "baselines",
         "screening", "net_evaluation", "net_benchmark", "payments")  # fmt: skip
DRAWN = ("posterior", "borrowing", "probabilities", "net_savings", "net_savings_curve")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / STUDY.name
    shutil.copytree(STUDY, folder)
    return folder


@pytest.fixture(scope="module")
def run(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_study(copy, out=tmp_path_factory.mktemp("out") / "run", fast=True)


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_csv(run.folder / "tables" / f"{name}.csv", keep_default_na=False,
                       na_values=[""])  # fmt: skip


# ---------------------------------------------------------------- the study as a whole


def test_the_fast_run_agrees_with_the_numbers_of_record(run: Run) -> None:
    names = (*EXACT, *DRAWN)
    expected = {n: read_cells(STUDY / "expected" / f"{n}.csv") for n in names}
    found = {n: read_cells(run.folder / "tables" / f"{n}.csv") for n in names}
    every = {p.stem: read_cells(p) for p in (STUDY / "expected").glob("*.csv")}
    tolerances = read_tolerances(STUDY / "expected" / "tolerances.toml", every)
    keys = {n: run.manifest["tables"][n]["keys"] for n in names}
    differences = compare_tables(found, expected, tolerances=tolerances, keys=keys)
    # a quarter of the draws has twice the Monte Carlo error: that column alone is another
    assert [str(d) for d in differences if ": mcse_" not in str(d)] == []


def test_a_changed_fact_makes_verify_fail(copy: Path, run: Run) -> None:
    accept(copy, run.folder)
    facts = pd.read_csv(copy / "facts.csv", dtype=str, keep_default_na=False)
    row = facts["fact"] == "mcwilliams-2016-jama-02"
    assert facts.loc[row, "estimate"].item() == "-264"
    facts.loc[row, "estimate"] = "-254"
    facts.to_csv(copy / "facts.csv", index=False)
    with pytest.raises(StudyError) as caught:
        verify(copy, fast=True)
    message = str(caught.value)
    assert "facts.csv changed." in message
    assert "analysis_set.csv, row fact=mcwilliams-2016-jama-02: percent_effect -2.46" in message
    assert "expected -2.56667" in message


def test_every_gate_stops_the_run(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / STUDY.name
    shutil.copytree(STUDY, folder)
    settings = (folder / "study.toml").read_text()
    strict = settings.replace("min = 1000", "min = 1000000")
    assert strict != settings
    (folder / "study.toml").write_text(strict)
    with pytest.raises(StudyError, match=r"check `effective_draws` is .* at least 1e\+06"):
        run_study(folder, out=tmp_path / "out", fast=True)
    assert not (tmp_path / "out").exists()


def test_effects_and_benchmarks_are_never_mixed(run: Run) -> None:
    facts = read_facts(STUDY / "facts.csv").set_index("fact")
    analysed = facts.loc[table(run, "analysis_set")["fact"]]
    assert set(analysed["quantity"]) == {"effect"}
    of_net = [set(facts.loc[table(run, f"net_{x}")["net_fact"], "evaluator"])
              for x in ("evaluation", "benchmark")]  # fmt: skip
    assert not of_net[0] & of_net[1]
    relations = [set(table(run, f"net_{x}")["relation"]) for x in ("evaluation", "benchmark")]
    assert not relations[0] & relations[1]


def test_one_number_a_type_averages_programs_and_then_years(run: Run) -> None:
    net, paid = table(run, "net_savings"), table(run, "payments")
    curve = table(run, "net_savings_curve")
    for kind, part in net.groupby("program_type"):
        own = part[part["program"] != "all known"]
        together = part.loc[part["program"] == "all known", "probability"].item()
        assert together == pytest.approx(own["probability"].mean(), abs=1e-12)
        for program, probability in zip(own["program"], own["probability"], strict=True):
            years = paid.loc[paid["program"] == program, "payments_percent"]
            on_curve = np.interp(years, curve["payments_percent"], curve[kind]).mean()
            assert probability == pytest.approx(on_curve, abs=0.01)
    assert set(net["program_type"]) == {"aco", "bundle", "primary_care"}


def test_probability_of_net_savings_falls_with_payments_from_that_of_gross(run: Run) -> None:
    curve, chances = table(run, "net_savings_curve"), table(run, "probabilities")
    new = chances[chances["estimand"] == "predictive"].set_index("program_type")
    for kind in new.index:
        assert curve[kind].iloc[0] == pytest.approx(new.loc[kind, "below_0"], abs=1e-12)
        assert curve.loc[curve["payments_percent"] == 2.0, kind].item() == pytest.approx(
            new.loc[kind, "below_2"], abs=1e-12
        )
        assert np.all(np.diff(curve[kind]) <= 0)


def test_plotted_values_are_those_of_the_tables(run: Run) -> None:
    drawn = pd.read_csv(run.folder / "figures" / "net_savings.csv")
    curve = table(run, "net_savings_curve")
    for kind in ("aco", "bundle"):
        line = drawn[(drawn["mark"] == "curve") & (drawn["program_type"] == kind)]
        assert line["probability"].to_numpy() == pytest.approx(curve[kind].to_numpy())
    dots = drawn.loc[drawn["mark"] == "payment", "payments_percent"]
    assert sorted(dots) == pytest.approx(sorted(table(run, "payments")["payments_percent"]))
    forest = pd.read_csv(run.folder / "figures" / "forest.csv")
    effects = table(run, "analysis_set")
    printed = forest[forest["kind"] == "estimate"]
    assert sorted(printed["estimate"]) == pytest.approx(sorted(effects["percent_effect"]))
    posterior = table(run, "posterior")
    means = posterior[posterior["estimand"] == "type_mean"]
    pooled = forest[(forest["kind"] == "pooled") & (forest["heading"] != "All types")]
    assert pooled["estimate"].to_numpy() == pytest.approx(means["estimate"].to_numpy())
    assert pooled["conf_low"].to_numpy() == pytest.approx(means["conf_low"].to_numpy())


def test_key_results_are_computed_and_honest_about_two_reports(run: Run) -> None:
    report = run.report.read_text(encoding="utf-8")
    chances = table(run, "probabilities").set_index(["estimand", "program_type"])
    share = round(100 * chances.loc[("predictive", "aco"), "below_0"])
    assert f"probability {share}% that it is below 0" in report
    assert "No type has more than 2 reports" in report
    weights = table(run, "borrowing").set_index("program_type")
    assert weights.sum(axis=1).to_numpy() == pytest.approx(1)
    said = ", ".join(f"{100 * weights.loc['aco', x]:.0f}%" for x in ("own", "others"))
    assert f"in the mean of accountable care organizations {said} and" in report
    failures = len(table(run, "consistency_failures"))
    assert failures == table(run, "consistency")["failures"].sum() > 0
    assert f"{failures} fail beyond rounding" in report


def test_warnings_and_inputs_of_the_run(run: Run) -> None:
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["warnings"] == []
    assert {Path(x["file"]).name for x in manifest["inputs"]} == {"facts.csv", "relations.csv"}


# ---------------------------------------------------------------- the sensitivity list


def test_each_analysis_set_changes_one_thing() -> None:
    facts = read_facts(STUDY / "facts.csv")
    effects = spending_effects(facts)
    sets = widened(facts, effects, ["BCBSMA AQC"])
    headline = set(effects["fact"])
    changed = {name: set(part["fact"]) ^ headline for name, part in sets.items()}
    assert changed["last_year"] == {"mcwilliams-2016-jama-01", "mcwilliams-2016-jama-11"}
    assert changed["intervals_only"] == {"song-2019-01", "mcwilliams-2015-01"}
    assert changed["no_coarse"] == {"cpc-two-year-2016-01"}
    assert changed["medicare"] == {"song-2019-01"}
    assert changed["institutional"] == {"bpci-model-3-2020-01", "barnett-2019-01"}
    assert len(changed["no_borrowed"]) == 5
    assert headline < set(sets["all_reports"]["fact"])
    added = sets["sizes_only"][~sets["sizes_only"]["fact"].isin(headline)]
    assert len(added) == 13
    assert added["se_percent"].eq(effects["se_percent"].max()).all()
    # a standard error within bounds keeps its bounds
    kept = sets["sizes_only"].set_index("fact").loc["song-2019-01"]
    assert np.isnan(kept["se_percent"])


# ---------------------------------------------------------------- the weighted draws


def three_reports() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "estimate": [-1.0, -1.6, -9.0, 0.2],
            "std_error": [0.5, 0.7, np.nan, 0.6],
            "high": [np.nan, np.nan, 3.0, np.nan],
            "report": ["a", "b", "c", "d"], "program": ["A", "B", "C", "D"],
            "program_type": "aco",
        }
    )  # fmt: skip


def by_prior_draws(size: int) -> tuple[float, float, float]:
    """Mean and deviation of the pooled mean, and their error, by weighting draws of the prior."""
    from scipy import stats

    rng = np.random.default_rng(1)
    y = three_reports()["estimate"].to_numpy()
    logs = np.log([0.5, 0.7, 0.6])
    centre, spread = logs.mean(), max(logs.std(ddof=1), 0.3)
    top = stats.norm.cdf((np.log(3.0) - centre) / spread)
    error = np.tile([0.5, 0.7, np.nan, 0.6], (size, 1))
    error[:, 2] = np.exp(centre + spread * stats.norm.ppf(rng.random(size) * top))
    mixing = 1 / rng.gamma(2.0, size=(size, 4))
    variance = error**2 + np.square(rng.standard_normal(size))[:, None] * mixing
    # given the variances, mean ~ N(0, 3^2) and y are normal
    precision = (1 / variance).sum(axis=1) + 1 / 9
    mean = (y / variance).sum(axis=1) / precision
    log_w = 0.5 * (mean**2 * precision - (y**2 / variance).sum(axis=1) - np.log(precision))
    log_w -= 0.5 * np.log(variance).sum(axis=1)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    centre = float(w @ mean)
    sd = float(np.sqrt(w @ (1 / precision + mean**2) - centre**2))
    return centre, sd, float(sd * np.sqrt(np.sum(w**2)))


def test_weighted_draws_agree_with_plain_weighting_of_the_prior() -> None:
    model = WeightedMeta(chains=16, proposals=4096, draws=500)
    est = model.fit(three_reports(), std_error_high="high").where(estimand="type_mean")
    mean, sd, error = by_prior_draws(1_000_000)
    own = float(monte_carlo.error(est.draws(), monte_carlo.mean, 16)[0])
    assert abs(est.estimate[0] - mean) < 4 * np.hypot(own, error)
    assert est.draws().std() == pytest.approx(sd, rel=0.03)


def test_weighted_draws_agree_with_the_exact_engine_where_there_is_one() -> None:
    effects = spending_effects(read_facts(STUDY / "facts.csv"))
    known = effects[effects["se_percent"].notna()]
    options = {"program_effects": False, "robust": False, "mean_sd": 3.0}
    ours = fitted(WeightedMeta(chains=16, proposals=2048, draws=500, **options), known)
    exact = fitted(MetaAnalysis(engine="grid", draws=4000, **options), known)
    error = np.hypot(
        monte_carlo.error(ours.draws(), monte_carlo.mean, 16),
        monte_carlo.error(exact.draws(), monte_carlo.mean, 16),
    )
    assert np.all(np.abs(ours.estimate - exact.estimate) < 5 * error)
    assert ours.draws().std(axis=0) == pytest.approx(exact.draws().std(axis=0), rel=0.08)


def test_the_sampler_agrees_on_the_headline() -> None:
    if os.environ.get("VBCEVAL_SIM") != "full":
        pytest.skip("PyMC compiles and samples for half a minute: VBCEVAL_SIM=full runs this")
    effects = spending_effects(read_facts(STUDY / "facts.csv"))
    ours = fitted(WeightedMeta(chains=16, program_effects=False), effects)
    sampled = fitted(MetaAnalysis(program_effects=False, draws=3000), effects)
    ess = sampled.meta["convergence"]["ess_bulk"]
    error = np.hypot(
        monte_carlo.error(ours.draws(), monte_carlo.mean, 16),
        sampled.draws().std(axis=0) / np.sqrt(ess),
    )
    assert np.all(np.abs(ours.estimate - sampled.estimate) < 5 * error)


def test_equal_seeds_give_equal_draws_and_others_do_not() -> None:
    small = {"chains": 4, "proposals": 1024, "draws": 100}
    first, again, other = (
        WeightedMeta(**small, seed=seed).fit(three_reports(), std_error_high="high").draws()
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_uneven_weights_are_refused() -> None:
    table = three_reports().assign(estimate=[-60.0, 55.0, -50.0, 70.0], std_error=0.01)
    model = WeightedMeta(chains=4, proposals=512, draws=50)
    with pytest.raises(EstimationError, match=r"too uneven.*Raise `proposals`"):
        model.fit(table)


def test_options_are_checked_as_those_of_the_model() -> None:
    with pytest.raises(DesignError, match="nu"):
        WeightedMeta(nu=1.5)


def test_monte_carlo_error_of_dependent_draws_counts_the_dependence() -> None:
    rng = np.random.default_rng(3)
    chains, length, repeats = 50, 400, 20
    shared = rng.standard_normal((chains, length // repeats, 1))
    dependent = np.repeat(shared, repeats, axis=1).reshape(-1, 1)
    error = monte_carlo.error(dependent, monte_carlo.mean, chains)[0]
    assert error == pytest.approx(1 / np.sqrt(chains * length / repeats), rel=0.3)
    assert monte_carlo.error(dependent, monte_carlo.quantile(0.5), chains)[0] > error


def test_the_study_declares_what_its_protocol_names() -> None:
    protocol = (STUDY / "protocol.md").read_text(encoding="utf-8")
    runs = set(read_cells(STUDY / "expected" / "sensitivity_all.csv")["run"])
    named = {r for r in runs if not r.startswith("leave_out_")} - {"headline"}
    for name in named:
        assert f"`{name}`" in protocol
    assert len(runs - named) == 1 + 7
    limits = read_study(STUDY).limits
    assert {"pareto_k", "effective_draws", "exact_error"} == set(limits)


def test_the_readme_says_the_numbers_of_record() -> None:
    said = " ".join((STUDY / "README.md").read_text(encoding="utf-8").split()).replace("−", "-")
    read = {n: pd.read_csv(STUDY / "expected" / f"{n}.csv", keep_default_na=False)
            for n in ("posterior", "probabilities", "net_savings", "analysis_set", "borrowing",
                      "sensitivity_all")}  # fmt: skip
    means = read["posterior"][read["posterior"]["estimand"] == "type_mean"]
    for row in means[means["program_type"].isin(["aco", "bundle"])].itertuples():
        ends = f"{float(row.conf_low):.1f} to {float(row.conf_high):.1f})"
        assert f"{float(row.estimate):.1f}%" in said
        assert ends in said
    new = read["probabilities"].query("estimand == 'predictive'").set_index("program_type")
    net = read["net_savings"].query("program == 'all known'").set_index("program_type")
    for share in (new["below_0"], net["probability"]):
        assert f"{100 * share['aco']:.0f}% and {100 * share['bundle']:.0f}%" in said
    own = read["borrowing"].set_index("program_type")["own"]
    assert f"{100 * own['aco']:.0f}% of the weight" in said
    assert f"{100 * own['bundle']:.0f}% in that of bundled" in said
    normal = read["sensitivity_all"].query("run == 'normal' and estimand == 'type_mean'")
    means = normal.set_index("program_type")["estimate"].astype(float)
    assert f"draws them to {means['aco']:.1f}% and {means['bundle']:.1f}%" in said
    effects = read["analysis_set"]["percent_effect"].astype(float)
    assert f"an effect of {effects.min():.1f}%" in said
    assert len(effects) == 10


def test_the_picture_in_the_readme_is_that_of_the_run_of_record() -> None:
    outputs = json.loads((STUDY / "manifest.json").read_text())["outputs"]
    drawn = (STUDY / "forest.svg").read_bytes()
    assert hashlib.sha256(drawn).hexdigest() == outputs["figures/forest.svg"]["sha256"]
