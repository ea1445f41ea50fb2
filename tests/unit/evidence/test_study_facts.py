"""The facts of the embedded study: complete, coded by the column guide, and reported honestly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.evidence import (
    attrition,
    check_facts,
    net_effects,
    screen,
    spending_effects,
)
from vbceval.evidence.facts import NUMBERS, PRINTED_COLUMNS


@pytest.fixture(scope="module")
def findings(study_facts: pd.DataFrame, study_relations: pd.DataFrame) -> pd.DataFrame:
    return check_facts(study_facts, study_relations)


def test_every_row_of_the_collection_is_there(study_folder: Path, shared_dir: Path) -> None:
    ours = pd.read_csv(study_folder / "facts.csv", dtype=str, keep_default_na=False)
    path = shared_dir / "reference" / "published_estimates.csv"
    theirs = pd.read_csv(path, dtype=str, keep_default_na=False)
    ours = ours[[*PRINTED_COLUMNS]]
    for column in PRINTED_COLUMNS:
        if column in NUMBERS:
            ours[column] = pd.to_numeric(ours[column])
            theirs[column] = pd.to_numeric(theirs[column])
        else:
            theirs[column] = theirs[column].str.strip()
    pd.testing.assert_frame_equal(ours, theirs[[*PRINTED_COLUMNS]])


def test_coding_follows_the_column_guide(study_facts: pd.DataFrame) -> None:
    benchmark = study_facts["evaluator"].str.contains("benchmark-based")
    coded = study_facts.loc[benchmark, "quantity"]
    assert set(coded) == {"benchmark", "payment"}
    assert set(study_facts.loc[study_facts["unit"].str.contains("benchmark"), "quantity"]) == {
        "benchmark"
    }
    level = study_facts["outcome"].str.contains("level, not effect")
    assert (study_facts["quantity"].eq("level") == level).all()
    overall = study_facts["stratum"].eq("overall")
    assert study_facts.loc[overall, "population"].eq("overall").all()
    net = study_facts["quantity"].eq("net")
    assert study_facts.loc[net, "outcome_family"].eq("net_savings").all()


def test_a_report_is_one_team_and_one_program(study_facts: pd.DataFrame) -> None:
    prefix = study_facts["fact"].str.replace(r"-\d\d$", "", regex=True)
    assert (prefix == study_facts["report"]).all()
    types = study_facts.groupby("report")["program_type"].nunique()
    assert types.max() == 1


def test_the_analysis_set_holds_gross_effects_on_total_spending(
    study_facts: pd.DataFrame,
) -> None:
    effects = spending_effects(study_facts)
    facts = study_facts.set_index("fact").loc[effects["fact"]]
    assert facts["quantity"].eq("effect").all()
    assert facts["scope"].eq("total").all()
    assert facts["population"].isin(["overall", "cohort"]).all()
    assert {"aco", "bundle", "primary_care", "other"} == set(effects["program_type"])
    known = effects["se_source"].isin(["interval", "p_value"])
    assert (effects.loc[known, "se_percent"] > 0).all()
    bounded = effects[~known]
    assert bounded["se_source"].eq("p_bound").all()
    assert bounded["se_percent"].isna().all()
    inside = effects["se_percent"].between(effects["se_percent_low"], effects["se_percent_high"])
    assert inside[known].all()
    # rows of one report share its key: the model must let them depend on each other
    assert effects["report"].duplicated().any()


def test_two_sizes_by_hand(study_facts: pd.DataFrame) -> None:
    effects = spending_effects(study_facts).set_index("fact")
    oncology = effects.loc["brooks-2023-01"]
    assert oncology["percent_effect"] == pytest.approx(-100 * 499 / 29120)
    se = 100 * (771 - 227) / (2 * stats.norm.ppf(0.95)) / 29120
    assert oncology["se_percent"] == pytest.approx(se)
    shared_savings = effects.loc["mcwilliams-2016-jama-02"]
    # -144 dollars were printed as -1.4 % for the same cohort a year before
    assert shared_savings["percent_effect"] == pytest.approx(-264 * 1.4 / 144)


def test_attrition_accounts_for_every_fact(study_facts: pd.DataFrame) -> None:
    decisions = screen(study_facts)
    table = attrition(decisions)
    assert table["rows_left"].iloc[0] == len(study_facts)
    assert table["rows_left"].iloc[-1] == decisions["kept"].sum()
    assert table["rows_left_out"].sum() + decisions["kept"].sum() == len(study_facts)


def test_known_contradictions_in_print_are_reported(findings: pd.DataFrame) -> None:
    failed = findings[~findings["passed"]]
    kinds = failed.groupby("rows")["check"].agg(set)
    # P = .36 beside 0.2 (-68.7 to 69.1); P = .02 beside a hazard ratio of 0.93 (0.90 to 0.96)
    assert "interval_p" in kinds["bpci-snf-2020-02"]
    assert "interval_p" in kinds["blue-2023-09"]
    # 1515 or 1151 practices; 86 or 92 ACOs
    assert failed["note"].str.startswith("cpcplus-track-2-practices").any()
    assert failed["note"].str.startswith("mssp-2014-acos-earning").any()
    destinations = failed[failed["note"].str.startswith("cjr-destinations")].iloc[0]
    assert destinations["expected"] - destinations["found"] == pytest.approx(0.6)


def test_parts_that_do_agree_pass(findings: pd.DataFrame) -> None:
    note = findings["note"]
    row = findings[note.str.startswith("bpci-model-3-institutional:")].iloc[0]
    assert (row["expected"], row["found"], row["passed"]) == (-1009.0, -1008.0, True)
    assert findings.loc[findings["check"] == "net", "passed"].all()


def test_a_comparison_passes_exactly_when_it_is_within_its_slack(findings: pd.DataFrame) -> None:
    off = (findings["found"] - findings["expected"]).abs()
    within = off <= findings["slack"] * (1 + 1e-9) + 1e-12
    assert (within == findings["passed"]).all()
    assert findings[["expected", "found", "slack"]].notna().all(axis=None)


def test_one_changed_cell_is_found(
    study_facts: pd.DataFrame, study_relations: pd.DataFrame, findings: pd.DataFrame
) -> None:
    changed = study_facts.copy()
    changed.loc[changed["fact"] == "bpci-model-3-2020-08", "estimate"] = 171.0
    after = check_facts(changed, study_relations)
    # the total of its parts, the middle of its interval
    new = set(after.loc[~after["passed"], ["check", "rows"]].itertuples(index=False, name=None))
    old = set(
        findings.loc[~findings["passed"], ["check", "rows"]].itertuples(index=False, name=None)
    )
    found = {check for check, _ in new - old}
    assert found == {"components", "interval_symmetric"}


def test_net_figures_add_up_and_keep_benchmarks_apart(
    study_facts: pd.DataFrame, study_relations: pd.DataFrame
) -> None:
    net = net_effects(study_facts, study_relations).set_index("relation")
    total = net["gross_effect"] + net["payments"]
    implied = net["payments_source"] == "implied"
    np.testing.assert_allclose(total[implied], net.loc[implied, "net_effect"])
    assert set(net["counterfactual"]) == {"evaluation", "benchmark"}
    assert net.filter(like="mssp-", axis=0)["counterfactual"].eq("benchmark").all()
    assert net.drop(net.filter(like="mssp-", axis=0).index)["counterfactual"].eq("evaluation").all()
    assert net.at["cjr-2016-net", "payments"] == 687
    relative = net["percent_source"] != "none"
    assert (net["denominator"].ne("") == relative).all()
    assert (net["payments_percent"].dropna() >= 0).all()
