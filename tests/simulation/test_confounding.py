"""Trends confounded by a covariate: who is right when which model is right."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vbceval as vbc
from vbceval.simulate import diagnose, process

pytestmark = pytest.mark.slow

# one cohort, little noise: what is left is the bias of a wrong model
QUIET = replace(
    process("D7"), organizations=800, periods=(2013, 2014, 2015), entry={2015: 0.4}, tilt=0.01,
    pull=0.8, shock_sd=0.005, log_sd_people=0.0, median_people=50_000.0,
)  # fmt: skip
RIGHT = {
    # (what trends depend on, what entry depends on): methods that are unbiased
    ("x", "x"): {"reg", "ipw", "dr", "dr_imp"},
    ("x", "h"): {"reg", "dr", "dr_imp"},
    ("h", "x"): {"ipw", "dr", "dr_imp"},
    ("h", "h"): set(),
}


@pytest.mark.parametrize(("trend", "entry"), RIGHT)
def test_bias_where_the_working_model_is_wrong(trend, entry, sim_size) -> None:
    case = replace(QUIET, name=f"{trend} {entry}", trend_on=trend, entry_on=entry)
    design = vbc.Design(outcome="spend", comparison="never_treated", covariates=["x"])
    fits = {
        method: lambda panel, m=method: (
            vbc.did.GroupTime(method=m).fit(panel, design).aggregate("simple")
        )
        for method in ("reg", "ipw", "dr", "dr_imp")
    }
    table = diagnose(case, fits, replications=sim_size(100, 30), seed=7).table
    z = (table["bias"] / table["bias_mc_se"]).abs()
    z.index = table["estimator"]
    unbiased = set(z.index[z < 4])
    assert unbiased == RIGHT[trend, entry], z.to_dict()
