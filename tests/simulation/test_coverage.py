"""
Bias, coverage and size of effects on organization panels with known truth.

Regime: 300 organizations weighted by person-years (sizes vary threefold), 60 in each of three
cohorts, G/(G-1) and t with G - 1 degrees of freedom; imputation with leave-one-out errors. Limits
are 4 Monte Carlo standard errors of the number that is tested.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.simulate import OrganizationPanel, diagnose, process

pytestmark = pytest.mark.slow
SEED = 20261


def estimators(design: vbc.Design) -> dict:
    fits = {
        "reg": vbc.did.GroupTime(method="reg"),
        "dr": vbc.did.GroupTime(method="dr"),
        "imputation": vbc.did.Imputation(covariate_effect="trend", leave_one_out=True),
    }
    if not design.covariates:
        # without covariates every method of GroupTime is the same
        del fits["dr"]
    return {
        name: lambda panel, fit=fit: fit.fit(panel, design).aggregate("event_time")
        for name, fit in fits.items()
    }


def large(name: str) -> OrganizationPanel:
    return replace(process(name), organizations=300)


def check(table: pd.DataFrame) -> None:
    """Unbiased, and intervals cover, within 4 Monte Carlo standard errors, for every estimand."""
    worst = (table["bias"] / table["bias_mc_se"]).abs()
    assert worst.max() < 4, table.loc[worst.idxmax()].to_dict()
    short = (0.95 - table["coverage"]) / table["coverage_mc_se"]
    assert short.max() < 4, table.loc[short.idxmax()].to_dict()
    assert (table["share_failed"] == 0).all()


@pytest.mark.parametrize("name", ["D0", "D1", "D2", "D7"])
def test_effects_are_unbiased_and_covered(name, sim_size) -> None:
    confounded = name == "D7"
    design = vbc.Design(
        outcome="spend",
        covariates=["x"] if confounded else [],
        comparison="never_treated" if confounded else "not_yet_treated",
    )
    out = diagnose(large(name), estimators(design), replications=sim_size(500, 25), seed=SEED)
    after = out.table[~(out.table["event_time"] < 0)]
    check(after)
    overall = after[after["estimand"] == "att_overall"]
    # standard errors on average, relative to the spread of estimates
    assert (overall["se_bias"].abs() < 4 * overall["se_bias_mc_se"]).all()


@pytest.mark.parametrize("name", ["D1", "D7"])
def test_no_effect_is_rejected_at_its_level(name, sim_size) -> None:
    null = replace(large(name).null(), name=f"{name} null")
    design = vbc.Design(
        outcome="spend", covariates=["x"] if name == "D7" else [],
        comparison="never_treated" if name == "D7" else "not_yet_treated",
    )  # fmt: skip
    out = diagnose(null, estimators(design), replications=sim_size(500, 25), seed=SEED)
    overall = out.table[out.table["estimand"] == "att_overall"]
    assert (overall["truth"] == 0).all()
    limit = 0.05 + 4 * np.sqrt(0.05 * 0.95 / overall["replications"])
    assert (overall["rejection"] < limit).all(), overall[["estimator", "rejection"]]


def test_leads_are_rejected_at_their_level(sim_size) -> None:
    """Joint tests of no effect before entry, where there is none."""
    design = vbc.Design(outcome="spend")
    d1, r = large("D1"), sim_size(500, 25)
    rejected = {"GroupTime": 0, "Imputation": 0}
    for i in range(r):
        panel = d1.panel(vbc.core.rng.generator(SEED, "leads", i))
        direct = vbc.did.GroupTime(method="reg").fit(panel, design)
        rejected["GroupTime"] += direct.wald("event_time < 0").p_value < 0.05
        leads = vbc.did.Imputation().pretrend(panel, design, leads=2)
        rejected["Imputation"] += leads.wald().p_value < 0.05
    for name, count in rejected.items():
        assert count / r < 0.05 + 4 * np.sqrt(0.05 * 0.95 / r), (name, count, r)


def test_strata_are_unbiased_and_covered(sim_size) -> None:
    """The smallest stratum is in 90 of 300 organizations."""
    design = vbc.Design(outcome="spend")
    fits = {
        "reg": lambda p: vbc.did.GroupTime(method="reg").fit(p, design).aggregate("simple"),
        "imputation": lambda p: (
            vbc.did.Imputation(leave_one_out=True).fit(p, design).aggregate("simple")
        ),
    }
    out = diagnose(large("D8"), fits, replications=sim_size(500, 25), seed=SEED)
    assert set(out.table["stratum"].dropna()) == {f"stratum={s}" for s in "abcd"}
    check(out.table)


CROSS_SECTIONS = OrganizationPanel(
    name="cross-sections", organizations=80, periods=(2013, 2014, 2015, 2016),
    entry={2015: 0.5}, effect=-0.03, organization_sd=0.05, shock_sd=0.015, shock_rho=0.5,
    median_people=150, least_people=50,
)  # fmt: skip


def test_people_not_followed(sim_size) -> None:
    """Rows of people, summed to moments of organizations; the mix of sizes is part of the error."""

    def fit(panel: vbc.Panel) -> vbc.Estimates:
        moments = vbc.Moments.from_panel(panel, outcomes=["spend"], by="cluster")
        design = vbc.Design(outcome="spend")
        return vbc.did.GroupTime(method="reg").fit(moments, design).aggregate("simple")

    class Rows:
        name = CROSS_SECTIONS.name
        truth = CROSS_SECTIONS.truth

        def panel(self, rng: np.random.Generator) -> vbc.Panel:
            return CROSS_SECTIONS.panel(rng, kind="repeated_cross_section")

    out = diagnose(Rows(), {"reg": fit}, replications=sim_size(300, 30), seed=SEED)
    check(out.table)
