"""
Extensions of the hierarchical model on public files, as the page shows them.

Entry of organizations into the Shared Savings Program: spending and risk scores of aged people
without Medicaid, in the cells of `EntryPanel`. Inpatient payments of Medicare's synthetic claims
(DE-SynPUF), whose laws and trends mean nothing: an arbitrary half of the states stands in the place
of a program, and the truth is zero, or what was planted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, JointDiD, Limits, TwoPartDiD, two_part_columns
from vbceval.bayes.averages import PERCENT
from vbceval.data import read_mssp
from vbceval.panel import EntryPanel

YEARS = [2014, 2015, 2016, 2017, 2018, 2020]
KEYS = ["aco_id", "performance_year", "enrollment_type", "reference"]
SPENDING = vbc.Design(outcome="spend", unit_of_measure="USD per person-year", window=(-2, 1))
# a person's spending varies 2.17 times as much as its mean (Wallis et al. 2021, as in mssp-entry)
PERSON_CV = 2.17


def entry(folder: Path, years: list[int]) -> pd.DataFrame:
    """Cells of aged people without Medicaid, with the risk score of the same cell."""
    results = read_mssp(folder / "data" / "mssp", years=years)
    frame = EntryPanel(hcc_limit=1.5).build(results).frame
    frame = frame[frame["enrollment_type"] == "aged_non_dual"]
    scores = results.spending[[*KEYS, "hcc_score"]]
    return frame.merge(scores, on=KEYS, validate="one_to_one")


def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="aco_file", period="calendar_year", cohort="cohort", cluster="aco_id",
        weight="by3_person_years", people=False,
    )  # fmt: skip


def mean_before(frame: pd.DataFrame, name: str) -> float:
    before = frame[frame["calendar_year"] < frame["cohort"]]
    return float(np.average(before[name], weights=before["by3_person_years"]))


def overall(est: vbc.Estimates) -> vbc.Estimates:
    return est.where(estimand="att_overall", unit_of_measure=PERCENT)


def test_spending_and_risk_scores_of_organizations_that_enter(shared_dir: Path) -> None:
    # four files and every fifth organization: the whole program is on the page
    one = entry(shared_dir, YEARS[2:])
    one = one[one["aco_id"].isin(np.sort(one["aco_id"].unique())[::5])]
    sd = {
        "spend": PERSON_CV * mean_before(one, "spend"),
        "hcc_score": mean_before(one, "hcc_score"),
    }
    model = JointDiD(person_sd=sd, person_sd_uncertainty=0.5, nodes=128, draws=100, alternatives=())
    risk = vbc.Design(outcome="hcc_score", unit_of_measure="risk score", window=(-2, 1))
    est = model.fit(panel(one), [SPENDING, risk], limits=Limits(ess=25.0))
    rows = overall(est).tidy().set_index("outcome")
    assert list(rows.index) == ["spend", "hcc_score"]
    # a risk score is of last year's diagnoses and varies far less than spending
    assert rows.loc["hcc_score", "std_error"] < rows.loc["spend", "std_error"] < 1.5
    assert rows["estimate"].abs().max() < 4.0
    # who is sicker costs more, in shocks as between persons: the sign is known before the fit
    posterior = est.to_arviz()["posterior"]
    for name in ("shock_correlation", "person_correlation"):
        assert float((posterior[name][..., 0, 1] > 0).mean()) > 0.75, name
    # averages of both outcomes are drawn together
    assert np.corrcoef(overall(est).draws().T)[0, 1] > 0.2


def claims(folder: Path) -> pd.DataFrame:
    """Rows of persons with hospital insurance and no managed care all year; halves of the states."""
    path = folder / "data" / "claims" / "desynpuf_beneficiary_year_4x10000.csv.gz"
    insured, managed = "BENE_HI_CVRAGE_TOT_MONS", "BENE_HMO_CVRAGE_TOT_MONS"
    frame = pd.read_csv(path, usecols=["year", "SP_STATE_CODE", insured, managed, "MEDREIMB_IP"])
    frame = frame[(frame[insured] == 12) & (frame[managed] == 0)]
    odd = frame["SP_STATE_CODE"] % 2 == 1
    # reversals leave a few yearly sums below zero
    spend = frame["MEDREIMB_IP"].clip(lower=0.0)
    return frame.assign(spend=spend, entry=np.where(odd, 2010.0, np.nan)).reset_index(names="row")


def test_zeros_of_synthetic_claims_and_an_arbitrary_half_of_the_states(shared_dir: Path) -> None:
    frame = claims(shared_dir)
    assert 0.8 < (frame["spend"] == 0).mean() < 0.9
    # one stay in ten is taken away after entry, and a tenth of the others' payments
    rng = np.random.default_rng(20210101)
    kept = np.where(frame["year"] >= frame["entry"], 0.9 * (rng.random(len(frame)) < 0.9), 1.0)
    frame = frame.assign(spend=kept * frame["spend"])
    rows = frame.assign(**two_part_columns(frame, "spend"))
    data = vbc.Panel.from_frame(
        rows, unit="row", period="year", cohort="entry", cluster="SP_STATE_CODE",
        kind="repeated_cross_section",
    )  # fmt: skip
    # the default prior, of 3 percent, draws effects as large as these to half their size
    model = TwoPartDiD(any="any", positive="log_if_any", any_prior="flat", amount_prior="flat",
                       shocks="iid", organization_effects=False, draws=250, alternatives=())  # fmt: skip
    est = model.fit(data, vbc.Design(outcome="spend"), limits=Limits(ess=100.0))
    found = overall(est).tidy().set_index("part")
    for part, truth in {"total": -19.0, "any": -10.0, "if_any": -10.0}.items():
        row = found.loc[part]
        assert row["conf_low"] < truth < row["conf_high"], part
        assert row["std_error"] < 8.0
    assert found.loc["total", "conf_high"] < 0.0


@pytest.mark.slow
@pytest.mark.parametrize("law", ["student", "horseshoe"])
def test_heavier_laws_of_organizations_that_enter(shared_dir: Path, sim_size, law: str) -> None:
    if sim_size(2, 1) == 1:
        pytest.skip("a sampler's run takes minutes; set VBCEVAL_SIM=full")
    one = entry(shared_dir, YEARS)
    mix = ("hcc", "share_esrd", "share_disabled", "share_aged_dual")
    design = vbc.Design(outcome="spend", covariates=mix, window=(-2, 1))
    common = {"person_sd": PERSON_CV * mean_before(one, "spend"), "person_sd_uncertainty": 0.5,
              "alternatives": ()}  # fmt: skip
    normal = HierarchicalDiD(**common).fit(panel(one), design)
    options = {"tails": "student"} if law == "student" else {"pooling": "horseshoe"}
    heavy = HierarchicalDiD(
        **common, **options, engine="nuts", draws=200, tune=250, chains=2, target_accept=0.9
    ).fit(panel(one), design, limits=Limits(r_hat=1.1, ess=50.0, divergences=0.05))
    error = [overall(x).tidy()["std_error"].item() for x in (normal, heavy)]
    checks = [x.meta["posterior_predictive"]["extreme"]["p_value"] for x in (normal, heavy)]
    if law == "student":
        # more extreme cells than normal shocks make, and as many as Student t does
        assert checks[0] < 0.05 < checks[1] < 0.95
        assert error[1] < error[0]
        assert float(heavy.to_arviz()["posterior"]["degrees"].mean()) < 5.0
    else:
        apart = overall(heavy).estimate[0] - overall(normal).estimate[0]
        assert abs(apart) < 0.5 * error[0]
