"""GroupTime against R did and DRDID: every case, to the digits it prints."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC, Multiplier

MPDTA = {"outcome": "lemp", "unit": "countyreal", "period": "year", "cohort": "first.treat"}
SIM = {"outcome": "Y", "unit": "id", "period": "period", "cohort": "G"}
EHEC = {"outcome": "dins", "unit": "stfips", "period": "year", "cohort": "yexp2"}

NEVER = {"comparison": "never_treated"}
CASES: dict[str, dict] = {
    "did_r_mpdta_nev_dr": {"data": MPDTA, "design": NEVER},
    "did_r_sim_nev_dr": {"data": SIM, "design": {**NEVER, "covariates": ["X"]}},
    "did_r_fixweights_none": {
        "data": {**MPDTA, "weight": "wt"}, "design": {**NEVER}, "options": {"method": "reg"},
    },
    "did_r_mpdta_weighted": {
        "data": {**MPDTA, "weight": "wt"}, "design": NEVER, "options": {"method": "reg"},
    },
    "did_r_mpdta_clustered": {
        "data": {**MPDTA, "cluster": "clust"}, "design": NEVER, "options": {"method": "reg"},
    },
    "did_r_mpdta_rc": {
        "data": {**MPDTA, "unit": "row", "kind": "repeated_cross_section"},
        "design": NEVER, "options": {"method": "reg"},
    },
    "did_r_tp8dyn_nevertreated_reg": {
        "data": SIM, "design": {**NEVER, "covariates": ["X"]}, "options": {"method": "reg"},
    },
    "r_did_ehec_notyettreated_weighted": {
        "data": {**EHEC, "weight": "W"}, "design": {"comparison": "not_yet_treated"},
    },
    "r_did_mpdta_unbalanced_dropped": {
        "data": MPDTA, "design": {**NEVER, "covariates": ["lpop"]},
        "options": {"unbalanced": "balance"},
    },
    "did_vignette_mpdta_printed": {"data": MPDTA, "design": NEVER},
    **{
        f"r_did_mpdta_lpop_{comparison.replace('_', '')}_{method}_{base}_a0": {
            "data": MPDTA,
            "design": {"comparison": comparison, "covariates": ["lpop"], "base_period": base},
            "options": {"method": method},
        }
        for comparison, method, base in (
            ("never_treated", "dr", "universal"), ("never_treated", "dr", "varying"),
            ("never_treated", "ipw", "varying"), ("never_treated", "reg", "varying"),
            ("not_yet_treated", "dr", "varying"),
        )
    },
}  # fmt: skip


def load(shared_dir: Path, case: str) -> tuple[dict, pd.DataFrame]:
    spec = json.loads((shared_dir / "golden" / "expected" / f"{case}.json").read_text())
    frame = pd.read_csv(shared_dir / "golden" / "data" / spec["data"])
    return spec, frame.assign(row=range(len(frame)))


def fit(frame: pd.DataFrame, case: dict, **options: object) -> vbc.Estimates:
    data = dict(case["data"])
    design = vbc.Design(outcome=data.pop("outcome"), **case["design"])
    panel = vbc.Panel.from_frame(frame, never=0, **data)
    options = {"ssc": SSC.none(), **options}
    return vbc.did.GroupTime(**case.get("options", {})).fit(panel, design, **options)


def found(est: vbc.Estimates) -> dict[str, tuple[float, float]]:
    """Every number that R prints, under the name the reference files give it."""
    out = {}
    for row in est.tidy().itertuples():
        out[f"att({row.cohort:.0f},{row.period:.0f})"] = (row.estimate, row.std_error)
    names = {"event_time": "dynamic", "cohort": "group", "period": "calendar"}
    for kind, name in {"simple": "simple", **names}.items():
        for row in est.aggregate(kind).tidy().itertuples():
            key = "overall" if row.estimand in ("att_overall", "att_simple") else None
            label = f"[{getattr(row, kind):.0f}]" if key is None else ".overall"
            out[f"aggte.{name}{label}"] = (row.estimate, row.std_error)
    return out


@pytest.mark.parametrize("case", sorted(CASES))
def test_agrees_with_r(shared_dir: Path, case: str) -> None:
    spec, frame = load(shared_dir, case)
    est = fit(frame, CASES[case])
    got = found(est)
    if case == "did_vignette_mpdta_printed":
        for row in est.aggregate("event_time", balance=1).tidy().itertuples():
            overall = row.estimand == "att_overall"
            label = ".overall" if overall else f"[{row.event_time:.0f}]"
            got[f"balance_e=1{label}"] = (row.estimate, row.std_error)
    # where the reference has full digits, its own looser tolerance is not used
    printed = case == "did_vignette_mpdta_printed"
    limit = spec["tolerance"]["estimate_abs"] if printed else 1e-8
    checked = 0
    for row in spec["expected"]:
        if row["term"].startswith("pretest"):
            continue
        estimate, error = got[row["term"]]
        assert estimate == pytest.approx(row["estimate"], abs=limit), row["term"]
        if row["se"] is None:
            assert np.isnan(error), row["term"]
        elif "se_rel" in spec["tolerance"]:
            assert error == pytest.approx(row["se"], rel=spec["tolerance"]["se_rel"]), row["term"]
        else:
            assert error == pytest.approx(row["se"], abs=1e-8), row["term"]
        checked += 1
    assert checked >= 12


@pytest.mark.parametrize("case", ["did_r_mpdta_nev_dr", "did_r_sim_nev_dr"])
def test_joint_pretest(shared_dir: Path, case: str) -> None:
    spec, frame = load(shared_dir, case)
    test = fit(frame, CASES[case]).wald("event_time < 0")
    expected = {row["term"]: row["estimate"] for row in spec["expected"]}
    assert test.statistic == pytest.approx(expected["pretest.wald"], abs=1e-7)
    assert test.p_value == pytest.approx(expected["pretest.p"], abs=1e-5)


def test_simultaneous_band(shared_dir: Path) -> None:
    """R's band from 25,000 multiplier draws, within its simulation error (tolerance .04)."""
    spec, frame = load(shared_dir, "r_did_mpdta_lpop_band")
    case = CASES["r_did_mpdta_lpop_nevertreated_dr_varying_a0"]
    est = fit(frame, case, vcov=Multiplier(draws=25_000))
    dynamic = est.aggregate("event_time")
    expected = {row["term"]: row for row in spec["expected"]}
    for name, table in (("att_gt", est.tidy()), ("dynamic", dynamic.tidy())):
        rows = table[table["estimand"] != "att_overall"]
        critical = (rows["band_high"] - rows["estimate"]) / rows["std_error"]
        assert np.ptp(critical) < 1e-9
        assert critical.iloc[0] == pytest.approx(expected[f"{name}.crit95"]["estimate"], abs=0.04)
    compared = 0
    for row in dynamic.tidy().itertuples():
        if row.estimand == "att_overall":
            continue
        r = expected[f"dynamic[{row.event_time:.0f}]"]
        assert row.estimate == pytest.approx(r["estimate"], abs=1e-8)
        assert row.std_error == pytest.approx(r["se"], rel=0.03)
        compared += 1
    assert compared == 7


RC_METHODS = {
    "drdid_rc.imp": "dr_imp", "drdid_rc.trad": "dr", "outcome regression rc": "reg",
    "ipw rc hajek": "ipw",
}  # fmt: skip


@pytest.mark.parametrize("term", sorted(RC_METHODS))
def test_repeated_cross_sections(shared_dir: Path, term: str) -> None:
    spec, frame = load(shared_dir, "r_drdid_sim_rc")
    frame["cohort"] = np.where(frame["d"] == 1, 1.0, np.nan)
    panel = vbc.Panel.from_frame(
        frame, unit="row", period="post", cohort="cohort", kind="repeated_cross_section"
    )
    design = vbc.Design(outcome="y", covariates=["x1", "x2", "x3", "x4"], **NEVER)
    estimator = vbc.did.GroupTime(method=RC_METHODS[term], drdid_compat=True)
    table = estimator.fit(panel, design, ssc=SSC.none()).tidy()
    expected = next(row for row in spec["expected"] if row["term"] == term)
    assert table["estimate"].item() == pytest.approx(expected["estimate"], abs=1e-5)
    assert table["std_error"].item() == pytest.approx(expected["se"], abs=1e-5)


def test_every_case_is_covered(shared_dir: Path) -> None:
    stems = [p.stem for p in (shared_dir / "golden" / "expected").glob("*.json")]
    ours = {s for s in stems if re.match(r"did_r_|r_did_|r_drdid_|did_vignette", s)}
    assert ours - set(CASES) <= {"r_did_mpdta_lpop_band", "r_drdid_sim_rc"}
