"""Imputation on a panel typed in, against arithmetic written out; and what it refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

KEYS = {"unit": "aco", "period": "year", "cohort": "entry"}


def fit(data: pd.DataFrame, *, panel: dict | None = None, ssc: SSC | None = None, **design):
    options = design.pop("options", {})
    made = vbc.Panel.from_frame(data, **KEYS, **(panel or {}))
    return vbc.did.Imputation(**options).fit(made, vbc.Design(outcome="spend", **design), ssc=ssc)


def pretrend(data: pd.DataFrame, leads: int = 1, ssc: SSC | None = None, **design):
    made = vbc.Panel.from_frame(data, **KEYS)
    estimator = vbc.did.Imputation()
    return estimator.pretrend(made, vbc.Design(outcome="spend", **design), leads=leads, ssc=ssc)


def test_one_cohort_by_hand(typed) -> None:
    """
    Cohort 2015 against never treated: effect = change from the mean of 2013 and 2014.

    Borusyak, Jaravel and Spiess (2024), balanced, equal weights: changes of A, B, C to 2015 are
    0, -1.5 and .5, of F, G, H, I 4, 3, 4.5 and 2; the variance is that of a difference in means
    with divisor n, because each weight v is the same over units.
    """
    data = typed[typed["entry"] != 2016]
    est = fit(data, ssc=SSC.none()).where(period=2015)
    treated, never = np.array([0.0, -1.5, 0.5]), np.array([4.0, 3.0, 4.5, 2.0])
    assert est.estimate.item() == pytest.approx(treated.mean() - never.mean(), abs=1e-12)
    variance = treated.var() / 3 + never.var() / 4
    assert est.std_error.item() == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_two_cohorts_by_least_squares(typed) -> None:
    untreated = typed[~(typed["year"] >= typed["entry"])]
    design = pd.get_dummies(untreated[["aco", "year"]].astype(str), dtype=float)
    beta = np.linalg.lstsq(design.to_numpy(), untreated["spend"].to_numpy(), rcond=None)[0]
    effect = pd.Series(beta, index=design.columns)
    treated = typed[typed["year"] >= typed["entry"]]
    tau = treated["spend"] - [
        effect[f"aco_{aco}"] + effect[f"year_{year}"]
        for aco, year in zip(treated["aco"], treated["year"], strict=True)
    ]
    expected = tau.groupby([treated["entry"], treated["year"]]).mean()
    est = fit(typed)
    assert est.frame[["cohort", "period"]].values.tolist() == [
        [2015, 2015], [2015, 2016], [2016, 2016],
    ]  # fmt: skip
    np.testing.assert_allclose(est.estimate, expected, atol=1e-11)
    assert est.aggregate("simple").estimate.item() == pytest.approx(tau.mean(), abs=1e-11)
    assert est.frame["n_treated"].tolist() == [3, 3, 2]
    assert est.frame["n_comparison"].tolist() == [6, 4, 4]


def test_shares_are_treated_weight(typed) -> None:
    est = fit(typed, panel={"weight": "pyears"})
    assert est.shares.value.tolist() == [60.0, 60.0, 20.0]
    assert est.shares.psi is None


def test_anticipation_gives_effects_before_entry(typed) -> None:
    est = fit(typed, anticipation=1)
    assert est.frame["event_time"].tolist() == [-1, 0, 1, -1, 0]
    data = typed.assign(entry=typed["entry"] - 1)
    np.testing.assert_allclose(est.estimate, fit(data).estimate, atol=1e-12)
    used = est.aggregate("simple").frame
    assert used["n_treated"].item() == 5


def test_window_leaves_the_fit_alone(typed) -> None:
    whole, first = fit(typed), fit(typed, window=(0, 0))
    assert first.frame["event_time"].unique().tolist() == [0]
    np.testing.assert_allclose(first.estimate, whole.where(event_time=0).estimate, atol=1e-13)
    np.testing.assert_allclose(first.psi, whole.where(event_time=0).psi, atol=1e-13)


def test_leave_one_out_by_hand(typed) -> None:
    """With equal weights, comparing with the other two multiplies a residual by 3/2."""
    data = typed[typed["entry"] != 2016]
    plain = fit(data, ssc=SSC.none()).where(period=2015)
    left = fit(data, ssc=SSC.none(), options={"leave_one_out": True}).where(period=2015)
    a, b = plain.influence()[0], left.influence()[0]
    np.testing.assert_allclose(b[list("ABC")], 1.5 * a[list("ABC")], rtol=1e-12)
    np.testing.assert_allclose(b[list("FGHI")], a[list("FGHI")], rtol=1e-12)


def test_leave_one_out_needs_another_treated_cluster(typed) -> None:
    data = typed[~typed["aco"].isin(["A", "B"])]
    with pytest.raises(vbc.EstimationError) as caught:
        fit(data, options={"leave_one_out": True})
    message = str(caught.value)
    assert "cohort 2015 at period 2015 has one treated cluster" in message
    assert "cohort 2015 at period 2016 has one treated cluster" in message
    assert "cohort 2016" not in message
    notes = fit(data).frame.set_index(["cohort", "period"])["note"]
    assert "one treated cluster" in notes[2015, 2015]


def test_units_always_treated_and_periods_all_treated(typed) -> None:
    """C is treated throughout; without never treated, 2016 has no untreated unit."""
    data = typed[typed["entry"].notna()]
    data = data.assign(entry=data["entry"].where(data["aco"] != "C", 2012.0))
    with pytest.raises(vbc.DesignError) as caught:
        fit(data)
    message = str(caught.value)
    assert "6 cohort-periods cannot be imputed" in message
    history = "cohort 2012 at period 2013, 2014, 2015 (at most 1 units): the unit has no untreated"
    assert history in message
    assert "cohort 2012 at period 2016 (at most 1 units): no untreated unit" in message
    assert "cohort 2015 at period 2016 (at most 2 units): no untreated unit" in message
    assert "cohort 2016 at period 2016 (at most 2 units): no untreated unit" in message
    assert "drop_unimputable=True" in message
    est = fit(data, options={"drop_unimputable": True})
    assert est.frame[["cohort", "period"]].values.tolist() == [[2015, 2015]]
    lost = pd.DataFrame(est.meta["unimputable"])
    assert lost.groupby("cohort")["units"].sum().to_dict() == {
        2012.0: 4.0,
        2015.0: 2.0,
        2016.0: 2.0,
    }
    assert "C" not in est.clusters


def test_counts_of_people_are_not_said(typed) -> None:
    data = typed.assign(market=typed["aco"], aco=typed["aco"].str.lower())
    data = data.assign(entry=data["entry"].where(data["aco"] != "c", 2012.0))
    with pytest.raises(vbc.DesignError, match=r"\(fewer than 11 units\)"):
        fit(data, panel={"cluster": "market"})
    est = fit(data, panel={"cluster": "market"}, options={"drop_unimputable": True})
    assert np.isnan([r["units"] for r in est.meta["unimputable"]]).all()
    assert est.frame["n_treated"].isna().all()
    assert est.frame["n_clusters"].notna().all()


def test_units_that_no_period_links(typed) -> None:
    """A's untreated period is seen by nobody who is seen later."""
    a = typed[(typed["aco"] == "A") & typed["year"].isin([2013, 2015])]
    rest = typed[(typed["aco"] != "A") & (typed["year"] > 2013)]
    with pytest.raises(vbc.DesignError, match=r"cohort 2015 at period 2015 .* share no unit"):
        fit(pd.concat([a, rest]))


def test_nobody_treated_or_untreated(typed) -> None:
    with pytest.raises(vbc.DesignError, match=r"no cell is treated \(periods 2013 to 2016"):
        fit(typed.assign(entry=2020.0))
    with pytest.raises(vbc.DesignError, match="no cell is untreated"):
        fit(typed.assign(entry=2013.0))
    with pytest.raises(vbc.DesignError, match="no unit is never treated"):
        fit(typed[typed["entry"].notna()], comparison="never_treated")


def test_strata_are_named_in_errors(typed) -> None:
    data = pd.concat([typed.assign(dual="yes"), typed[typed["entry"].isna()].assign(dual="no")])
    with pytest.raises(
        vbc.DesignError, match=r"stratum 'dual=no': no cell is treated .* leave its rows"
    ):
        fit(data, panel={"strata": ["dual"]})


def test_constant_covariates_need_a_trend(typed) -> None:
    with pytest.raises(vbc.EstimationError) as caught:
        fit(typed, covariates=["hcc"])
    message = str(caught.value)
    assert "`hcc` does not vary within units" in message
    assert "covariate_effect='trend'" in message
    est = fit(typed, covariates=["hcc"], options={"covariate_effect": "trend"})
    untreated = typed[~(typed["year"] >= typed["entry"])]
    design = pd.get_dummies(untreated[["aco", "year"]].astype(str), dtype=float)
    for year in (2014, 2015, 2016):
        design[f"hcc_{year}"] = untreated["hcc"] * (untreated["year"] == year)
    beta = np.linalg.lstsq(design.to_numpy(), untreated["spend"].to_numpy(), rcond=None)[0]
    effect = pd.Series(beta, index=design.columns)
    d = typed[(typed["entry"] == 2016) & (typed["year"] == 2016)]
    fitted = [effect[f"aco_{a}"] + effect["year_2016"] + h * effect["hcc_2016"]
              for a, h in zip(d["aco"], d["hcc"], strict=True)]  # fmt: skip
    expected = (d["spend"] - fitted).mean()
    assert est.where(cohort=2016).estimate.item() == pytest.approx(expected, abs=1e-9)


def test_collinear_covariates_are_named(typed) -> None:
    rng = np.random.default_rng(2)
    data = typed.assign(x=rng.standard_normal(len(typed)))
    data["z"] = 2 * data["x"] + 0.1 * (data["year"] - 2013)
    with pytest.raises(vbc.EstimationError, match=r"`z` is collinear with .*`x`"):
        fit(data, covariates=["x", "z"])


def test_options_and_designs_that_do_not_apply(typed) -> None:
    with pytest.raises(vbc.DesignError, match="`covariate_effect` is 'trends'"):
        vbc.did.Imputation(covariate_effect="trends")
    with pytest.raises(vbc.DesignError, match="no base period"):
        fit(typed, base_period="universal")
    with pytest.raises(vbc.DesignError, match=r"one of `aco` and one of `year`"):
        fit(typed, fixed_effects=("state", "year"))
    with pytest.raises(vbc.EstimationError, match="Imputation has no 'CR2'"):
        vbc.did.Imputation().fit(
            vbc.Panel.from_frame(typed, **KEYS), vbc.Design(outcome="spend"), vcov="CR2"
        )


def test_lead_by_hand(typed) -> None:
    """One cohort, one lead: the change of 2013-14 over that of the never treated."""
    data = typed[typed["entry"] != 2016]
    est = pretrend(data, ssc=SSC.none())
    treated, never = np.array([2.0, 3.0, 1.0]), np.array([2.0, 4.0, 1.0, 2.0])
    # 2015 and 2016 of the never treated are fitted by their own period effects
    assert est.estimate.item() == pytest.approx(treated.mean() - never.mean(), abs=1e-12)
    assert est.frame["estimand"].item() == "pretrend_lead"
    assert est.frame["event_time"].item() == -1
    variance = treated.var() / 3 + never.var() / 4
    assert est.std_error.item() == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_factors_of_a_regression_apply_to_leads(typed) -> None:
    """28 untreated cells, 9 ACOs, 4 years, one lead: K = 5 nested, 13 full."""
    plain = pretrend(typed, ssc=SSC.none()).std_error.item()
    n, g = 28, 9
    assert (~(typed["year"] >= typed["entry"])).sum() == n
    for ssc, k in ((SSC.fixest(), 5), (SSC.statsmodels(), 13)):
        scaled = pretrend(typed, ssc=ssc).std_error.item()
        assert scaled == pytest.approx(plain * np.sqrt(g / (g - 1) * (n - 1) / (n - k)), rel=1e-12)


def test_leads_that_cannot_be_tested(typed) -> None:
    with pytest.raises(vbc.DesignError, match="no untreated cell has event time -4"):
        pretrend(typed, leads=4)
    with pytest.raises(vbc.EstimationError, match=r"event time -1.*fewer `leads`"):
        pretrend(typed, leads=3)
    with pytest.raises(vbc.DesignError, match="`leads` is 0"):
        pretrend(typed, leads=0)
    with pytest.raises(vbc.DesignError, match="not_yet_treated"):
        pretrend(typed, comparison="never_treated")


def test_leads_and_effects_have_a_joint_covariance(typed) -> None:
    joint = vbc.stack([fit(typed).aggregate("simple"), pretrend(typed)])
    covariance = joint.vcov()[0, 1]
    assert covariance != 0
    shift = joint.contrast({"effect minus lead": {0: 1.0, 1: -1.0}})
    v = joint.vcov()
    assert shift.vcov().item() == pytest.approx(v[0, 0] + v[1, 1] - 2 * covariance, rel=1e-12)
