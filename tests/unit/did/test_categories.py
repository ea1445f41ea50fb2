"""Categorical covariates some of whose categories a comparison or a stratum does not have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import EstimationError
from vbceval.did import GroupTime, odds
from vbceval.did.solve import standardise

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort"}
RC = "repeated_cross_section"


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    u, t = np.repeat(np.arange(160), 3), np.tile(np.arange(3), 160)
    cohort = np.array([2.0, np.nan, np.nan, np.nan])[u % 4]
    region = np.array(list("abcd"))[rng.integers(0, 4, 160)]
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": cohort, "x": rng.standard_normal(160)[u],
        "region": region[u], "size": np.array(["s", "m", "l"])[rng.integers(0, 3, len(u))],
        "y": rng.standard_normal(len(u)) + t * (region[u] == "b") - 2.0 * (t >= cohort),
    })  # fmt: skip


def fit(estimator, data: pd.DataFrame, covariates=("x", "region"), **panel) -> vbc.Estimates:
    made = vbc.Panel.from_frame(data, **KEYS, **panel)
    return estimator.fit(made, vbc.Design(outcome="y", covariates=covariates), vcov="CR0")


def without_treated(frame: pd.DataFrame, region: str) -> pd.DataFrame:
    other = "b" if region != "b" else "c"
    inside = frame["cohort"].notna() & (frame["region"] == region)
    return frame.assign(region=frame["region"].mask(inside, other))


@pytest.mark.parametrize("region", ["a", "c", "d"])
@pytest.mark.parametrize(
    ("method", "kind"),
    [("ipw", "panel"), ("dr", "panel"), ("dr_imp", "panel"), ("ipw", RC), ("dr_imp", RC)],
)
def test_a_category_without_treated_units(frame, method, kind, region) -> None:
    """
    Its comparison units have odds zero, whether it is the reference ("a") or has a column.

    Propensity weights then compare as if these units were absent; the regression of "dr" does use
    them for the slope of x.
    """
    data = without_treated(frame, region)
    estimator = vbc.did.GroupTime(method=method)
    if kind == RC:
        data = data.assign(unit=range(len(data)))
    est = fit(estimator, data, kind=kind)
    names = dict(zip("abcd", "dcba", strict=True))
    recoded = fit(estimator, data.assign(region=data["region"].map(names)), kind=kind)
    np.testing.assert_allclose(recoded.estimate, est.estimate, atol=1e-12)
    np.testing.assert_allclose(recoded.psi, est.psi, atol=1e-12)
    absent = fit(estimator, data[data["region"] != region], kind=kind)
    same = np.abs(absent.estimate - est.estimate) < 1e-11
    assert same.all() == (method != "dr")
    if method != "dr":
        np.testing.assert_allclose(absent.std_error, est.std_error, rtol=1e-9)
        outside = est.influence().loc[data.loc[data["region"] == region, "unit"].unique()]
        assert (outside == 0).all().all()


@pytest.mark.parametrize("region", ["a", "d"])
def test_treated_units_in_a_category_of_their_own(frame, region) -> None:
    alone = frame["cohort"].isna() & (frame["region"] == region)
    data = frame.assign(region=frame["region"].mask(alone, "b"))
    name = "region" if region == "a" else r"region\[d\]"
    for method in ("ipw", "dr", "dr_imp"):
        with pytest.raises(vbc.EstimationError, match=f"do not overlap.*`{name}` that no"):
            fit(vbc.did.GroupTime(method=method), data)
    with pytest.raises(vbc.EstimationError, match=r"`region\[d\]` (does not vary|is collinear)"):
        fit(vbc.did.GroupTime(method="reg"), data)


def test_all_treated_units_at_one_value_nobody_else_has(frame) -> None:
    data = frame.assign(x=np.where(frame["cohort"].notna(), 9.0, frame["x"]))
    with pytest.raises(vbc.EstimationError, match="values of `x` that no comparison unit has"):
        fit(vbc.did.GroupTime(method="ipw"), data)


@pytest.mark.parametrize(
    ("estimator", "covariate"),
    [
        *((vbc.did.GroupTime(method=m), "region") for m in ("reg", "ipw", "dr", "dr_imp")),
        (vbc.did.Imputation(), "size"),
        (vbc.did.Imputation(covariate_effect="trend"), "region"),
    ],
    ids=["reg", "ipw", "dr", "dr_imp", "imputation", "imputation, trend"],
)
@pytest.mark.parametrize("lost", ["first", "last"])
def test_a_stratum_without_some_category(frame, estimator, covariate, lost) -> None:
    """It is estimated as it would be alone, whichever category it lacks."""
    levels = sorted(frame[covariate].unique())
    gone, kept = (levels[0], levels[1]) if lost == "first" else (levels[-1], levels[0])
    rural = frame["unit"] % 8 < 4
    data = frame.assign(rural=np.where(rural, "yes", "no"))
    data[covariate] = data[covariate].mask(rural & (data[covariate] == gone), kept)
    est = fit(estimator, data, [covariate], strata=["rural"])
    alone = fit(estimator, data[rural], [covariate])
    part = est.where(stratum="rural=yes")
    np.testing.assert_allclose(part.estimate, alone.estimate, atol=1e-12)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-10)


def test_leads_of_a_category_that_only_treated_cells_have(frame) -> None:
    after = frame["period"] >= frame["cohort"]
    data = frame.assign(size=frame["size"].mask(~after & (frame["size"] == "s"), "m"))
    made = vbc.Panel.from_frame(data, **KEYS)
    design = vbc.Design(outcome="y", covariates=["size"])
    est = vbc.did.Imputation().pretrend(made, design, leads=1)
    merged = vbc.Panel.from_frame(data.assign(size=data["size"].replace("s", "m")), **KEYS)
    np.testing.assert_allclose(
        est.estimate, vbc.did.Imputation().pretrend(merged, design, leads=1).estimate, atol=1e-12
    )


def test_a_logit_that_has_not_converged_is_no_result(monkeypatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    d = rng.random(200) < 1 / (1 + np.exp(-x))
    z = standardise(x[:, None], np.ones(200), ("x",))
    assert np.isfinite(odds.fit_logit(z, d, np.ones(200)).odds).all()
    monkeypatch.setattr(odds, "_STEPS", 2)
    with pytest.raises(EstimationError, match="did not converge"):
        odds.fit_logit(z, d, np.ones(200))


@pytest.mark.parametrize(
    ("method", "trim"), [("ipw", None), ("ipw", 0.5), ("dr", 0.5), ("dr_imp", 0.5)]
)
def test_comparison_rows_of_one_period_without_counterpart(method, trim) -> None:
    """Their weighted mean is of nothing; it was a missing effect without a word."""
    rng = np.random.default_rng(1)
    u, t = np.repeat(np.arange(200), 2), np.tile([2014, 2015], 200)
    region = np.where(u < 40, "east", "west")
    data = pd.DataFrame({
        "unit": u, "period": t, "cohort": np.where((u < 30) | (u > 194), 2015.0, np.nan),
        "region": region, "y": rng.standard_normal(400),
    })  # fmt: skip
    if trim is None:
        # nobody treated in the west
        data = data[(data["region"] == "east") | data["cohort"].isna()]
    # comparison rows of one period are all in the region of few, or of no treated
    gone = data["cohort"].isna() & (data["region"] == ("east" if trim is None else "west"))
    data = data[~(gone & (t[data.index] == 2015))]
    panel = vbc.Panel.from_frame(data, **KEYS, kind="repeated_cross_section", people=False)
    design = vbc.Design(outcome="y", comparison="never_treated", covariates=["region"])
    said = "no comparison row of the later"
    with pytest.raises(EstimationError, match=said):
        GroupTime(method=method, trim=trim).fit(panel, design)
