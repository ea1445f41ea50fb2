"""GroupTime on a panel typed in, against arithmetic written out; no file is needed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did import crossed_pairs, pairs
from vbceval.inference import SSC

KEYS = {"unit": "aco", "period": "year", "cohort": "entry"}


def fit(data: pd.DataFrame, *, panel: dict | None = None, ssc: SSC | None = None, **design):
    options = design.pop("options", {})
    made = vbc.Panel.from_frame(data, **KEYS, **(panel or {}))
    return vbc.did.GroupTime(**options).fit(made, vbc.Design(outcome="spend", **design), ssc=ssc)


def change(data: pd.DataFrame, start: int, end: int) -> pd.DataFrame:
    """One row an ACO: change in spending, entry, risk score, person-years."""
    a, b = (data[data["year"] == y].set_index("aco") for y in (start, end))
    return a.assign(dy=b["spend"] - a["spend"])


def test_difference_of_mean_changes(typed) -> None:
    """
    ATT(2015, 2015), never treated: changes 2014-15 are A -1, B -3, C 0 and F 3, G 1, H 4, I 1.

    So -4/3 - 9/4 = -43/12, and its variance (Callaway and Sant'Anna 2021, influence function with
    divisor n) is the sum of squared deviations over the squared counts.
    """
    table = fit(typed, comparison="never_treated", ssc=SSC.none()).tidy()
    row = table[(table["cohort"] == 2015) & (table["period"] == 2015)]
    assert row["estimate"].item() == pytest.approx(-43 / 12, abs=1e-12)
    treated = (np.array([-1, -3, 0]) + 4 / 3) ** 2
    never = (np.array([3, 1, 4, 1]) - 9 / 4) ** 2
    variance = treated.sum() / 9 + never.sum() / 16
    assert row["std_error"].item() == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert row[["n_treated", "n_comparison", "n_units"]].iloc[0].tolist() == [3, 4, 7]


def test_not_yet_treated_units_join_the_comparison(typed) -> None:
    """D (+2) and E (+1) have not entered in 2015: the comparison mean is (9 + 3)/6."""
    table = fit(typed).tidy().set_index(["cohort", "period"])
    assert table.loc[(2015, 2015), "estimate"] == pytest.approx(-4 / 3 - 2)
    assert table.loc[(2015, 2015), "n_comparison"] == 6
    assert table.loc[(2015, 2016), "n_comparison"] == 4


def test_small_sample_factor_and_degrees_of_freedom(typed) -> None:
    plain, default = fit(typed, ssc=SSC.none()), fit(typed)
    np.testing.assert_allclose(default.std_error, plain.std_error * np.sqrt(9 / 8), rtol=1e-14)
    assert default.frame["df"].unique().tolist() == [8.0]
    assert np.isinf(plain.frame["df"]).all()
    np.testing.assert_array_equal(default.psi, plain.psi)


def test_weighted_regression_adjustment(typed) -> None:
    """ATT(2016, 2016) = weighted treated mean of dy - x'b, b from never treated (weights)."""
    est = fit(
        typed, comparison="never_treated", covariates=["hcc"], panel={"weight": "pyears"},
        ssc=SSC.none(), options={"method": "reg"},
    )  # fmt: skip
    rows = change(typed, 2015, 2016)
    d, c = rows[rows["entry"] == 2016], rows[rows["entry"].isna()]
    x = np.column_stack([np.ones(4), c["hcc"]])
    w = c["pyears"].to_numpy()
    gram = (x * w[:, None]).T @ x
    b = np.linalg.solve(gram, (x * w[:, None]).T @ c["dy"])
    share = (d["pyears"] / d["pyears"].sum()).to_numpy()
    xd = np.column_stack([np.ones(2), d["hcc"]])
    att = share @ (d["dy"] - xd @ b)
    psi_d = share * (d["dy"] - xd @ b - att)
    psi_c = -(w * (c["dy"] - x @ b)) * (x @ np.linalg.solve(gram, share @ xd))
    table = est.tidy().set_index(["cohort", "period"])
    assert table.loc[(2016, 2016), "estimate"] == pytest.approx(att, abs=1e-11)
    se = np.sqrt((psi_d**2).sum() + (psi_c**2).sum())
    assert table.loc[(2016, 2016), "std_error"] == pytest.approx(se, rel=1e-10)


def test_averages_over_cohorts_of_three_and_two(typed) -> None:
    est = fit(typed, comparison="never_treated")
    att = est.frame.set_index(["cohort", "period"])["estimate"]
    early, late = [att[2015, 2015], att[2015, 2016]], att[2016, 2016]
    assert est.aggregate("simple").estimate.item() == pytest.approx((3 * sum(early) + 2 * late) / 8)
    event = est.aggregate("event_time").frame.set_index("event_time")["estimate"]
    assert event[0] == pytest.approx((3 * early[0] + 2 * late) / 5)
    assert event[1] == pytest.approx(early[1])
    overall = est.aggregate("cohort").overall().estimate.item()
    assert overall == pytest.approx((3 * np.mean(early) + 2 * late) / 5)


def test_universal_base_shows_its_reference(typed) -> None:
    table = fit(typed, base_period="universal").tidy().set_index(["cohort", "period"])
    reference = table.loc[(2016, 2015)]
    assert reference["estimate"] == 0
    assert np.isnan(reference["std_error"])
    lead = change(typed, 2013, 2015)
    mean = lead.groupby(lead["entry"].fillna(0))["dy"].mean()
    assert table.loc[(2016, 2013), "estimate"] == pytest.approx(mean[0] - mean[2016])


def test_pairs_use_units_seen_in_both_periods(typed) -> None:
    data = typed[~((typed["aco"] == "H") & (typed["year"] == 2015))]
    table = fit(data, comparison="never_treated").tidy().set_index(["cohort", "period"])
    assert table.loc[(2015, 2015), "estimate"] == pytest.approx(-4 / 3 - 5 / 3)
    assert table.loc[(2015, 2015), "n_comparison"] == 3
    assert table.loc[(2015, 2016), "n_comparison"] == 4
    balanced = fit(data, comparison="never_treated", options={"unbalanced": "balance"})
    assert balanced.frame["n_comparison"].unique().tolist() == [3.0]


def test_cohorts_without_base_are_left_out_and_recorded(typed) -> None:
    data = typed.assign(entry=typed["entry"].where(typed["aco"] != "C", 2013.0))
    est = fit(data, comparison="never_treated")
    assert est.meta["dropped_cohorts"] == [2013.0]
    assert 2013.0 not in est.frame["cohort"].tolist()
    assert "C" not in est.clusters


def test_comparisons_that_do_not_exist_are_all_named(typed) -> None:
    data = typed[typed["entry"].notna()]
    with pytest.raises(vbc.DesignError) as caught:
        fit(data)
    message = str(caught.value)
    assert "3 of 6 group-time effects" in message
    assert "cohort 2015 at period 2016: no comparison unit" in message
    assert "cohort 2016 at period 2015: no comparison unit" in message
    assert "cohort 2016 at period 2016: no comparison unit" in message
    assert "`window`" in message
    est = fit(data, options={"on_failure": "skip"})
    missing = est.frame[est.frame["estimate"].isna()]
    assert missing["period"].tolist() == [2016, 2015, 2016]
    assert missing["note"].str.contains("no comparison unit").all()


def test_one_treated_cluster_is_noted(typed) -> None:
    data = typed[~typed["aco"].isin(["A", "B"])]
    table = fit(data).tidy()
    notes = table.set_index(["cohort", "period"])["note"]
    assert "one treated cluster" in notes[2015, 2015]
    assert pd.isna(notes[2016, 2016])


def test_no_overlap_names_the_covariate(typed) -> None:
    data = typed.assign(hcc=np.where(typed["entry"] == 2015, 2.0 + typed["hcc"], typed["hcc"]))
    with pytest.raises(vbc.EstimationError, match=r"do not overlap .*`hcc`"):
        fit(data, covariates=["hcc"])


def test_too_many_covariates(typed) -> None:
    data = typed.assign(**{f"x{i}": np.cos(typed["hcc"] * 9 * (i + 1)) for i in range(4)})
    with pytest.raises(vbc.EstimationError, match="too few for 5 regression coefficients"):
        fit(data, covariates=[f"x{i}" for i in range(4)], comparison="never_treated",
            options={"method": "reg"})  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [({"method": "ols"}, "`method`"), ({"unbalanced": "drop"}, "`unbalanced`"),
     ({"trim": 2.0}, "`trim`"), ({"cell_share": "x"}, "`cell_share`"),
     ({"on_failure": "x"}, "`on_failure`"), ({"covariate_period": "x"}, "`covariate_period`")],
)  # fmt: skip
def test_options_are_checked_when_named(options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        vbc.did.GroupTime(**options)


def test_outcomes_come_in_the_order_asked_for(typed) -> None:
    panel = vbc.Panel.from_frame(typed.assign(cents=100 * typed["spend"]), **KEYS)
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    est = vbc.did.GroupTime().fit(panel, design, outcomes=["cents", "spend", "cents"])
    n = len(est) // 2
    assert est.frame["outcome"].tolist() == ["cents"] * n + ["spend"] * n
    np.testing.assert_allclose(est.estimate[:n], 100 * est.estimate[n:], rtol=1e-12)
    # the joint law knows that one is the other, so their difference has no error
    difference = np.hstack([np.eye(n), -100 * np.eye(n)])
    np.testing.assert_allclose(difference @ est.vcov() @ difference.T, 0, atol=1e-10)
    default = vbc.did.GroupTime().fit(panel, design)
    assert default.frame["outcome"].unique().tolist() == ["spend"]


@pytest.mark.parametrize("kind", ["panel", "repeated_cross_section"])
def test_outcomes_of_the_same_cells_share_what_is_not_of_the_outcome(
    typed, kind, monkeypatch
) -> None:
    data = typed.assign(a=np.sqrt(typed["spend"]), b=np.log(typed["spend"]))
    data["gap"] = data["spend"].mask((data["aco"] == "G") & (data["year"] == 2013))
    panel = vbc.Panel.from_frame(data, **KEYS, kind=kind)
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    calls = []
    room, shared = (
        (pairs, {"standardise", "_count"})
        if kind == "panel"
        else (crossed_pairs, {"invert", "noted"})
    )
    for name in shared:
        real = getattr(room, name)

        def counted(*args, real=real, name=name, **options):
            calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(room, name, counted)

    def calls_of(*outcomes: str) -> list[str]:
        calls.clear()
        vbc.did.GroupTime(method="reg").fit(panel, design, outcomes=outcomes)
        return list(calls)

    one = calls_of("spend")
    assert set(one) == shared
    assert calls_of("spend", "a", "b") == one
    assert sorted(calls_of("spend", "a", "b", "gap")) == sorted(one + calls_of("gap"))


def test_no_outcome_and_an_outcome_never_seen(typed) -> None:
    data = typed.assign(none=typed["spend"].where(typed["aco"] == "A"))
    panel = vbc.Panel.from_frame(data.assign(hcc=data["hcc"].mask(data["aco"] == "A")), **KEYS)
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    with pytest.raises(vbc.DesignError, match="`outcomes` is empty"):
        vbc.did.GroupTime().fit(panel, design, outcomes=[])
    with pytest.raises(vbc.DesignError, match="no row has the outcome `none`, every covariate"):
        vbc.did.GroupTime().fit(panel, design, outcomes=["spend", "none"])


def test_failures_name_the_outcomes_of_their_cells(typed) -> None:
    never = typed["entry"].isna()
    data = typed.assign(early=typed["spend"].mask(never & (typed["year"] == 2016)))
    panel = vbc.Panel.from_frame(data, **KEYS)
    design = vbc.Design(outcome="spend", comparison="never_treated")
    with pytest.raises(vbc.DesignError) as caught:
        vbc.did.GroupTime().fit(panel, design, outcomes=["spend", "early"])
    lines = str(caught.value).splitlines()[1:-1]
    assert [line.strip().split(":")[0] for line in lines] == [
        "`early`, cohort 2015 at period 2016", "`early`, cohort 2016 at period 2016",
    ]  # fmt: skip
    est = vbc.did.GroupTime(on_failure="skip").fit(panel, design, outcomes=["spend", "early"])
    missing = est.frame[est.frame["estimate"].isna()]
    assert missing["outcome"].tolist() == ["early"] * 2
    assert missing["period"].tolist() == [2016] * 2


def test_covariances_that_do_not_exist(typed) -> None:
    panel = vbc.Panel.from_frame(typed, **KEYS)
    design = vbc.Design(outcome="spend")
    with pytest.raises(vbc.EstimationError, match="no 'CR2'"):
        vbc.did.GroupTime().fit(panel, design, vcov="CR2")
    with pytest.raises(vbc.EstimationError, match="'CR0' has no small-sample factor"):
        vbc.did.GroupTime().fit(panel, design, vcov="CR0", ssc=SSC.cluster())
    with pytest.raises(vbc.EstimationError, match="not one regression"):
        vbc.did.GroupTime().fit(panel, design, ssc=SSC.fixest())
    with pytest.raises(vbc.DesignError, match="`fixed_effects`"):
        vbc.did.GroupTime().fit(panel, vbc.Design(outcome="spend", fixed_effects=("aco", "year")))


def test_each_row_its_own_weight_leaves_no_base_for_covariates(typed) -> None:
    with pytest.raises(vbc.DesignError, match="no meaning with fix_weights='varying'"):
        fit(typed, options={"fix_weights": "varying", "covariate_period": "base"})


def test_a_stratum_that_cannot_be_compared_is_named_or_left_missing(typed) -> None:
    data = typed.assign(rural=np.where(typed["aco"] == "A", "yes", "no"))
    with pytest.raises(vbc.DesignError, match="stratum `rural=yes`, cohort 2015 at period 2014"):
        fit(data, panel={"strata": ["rural"]})
    est = fit(data, panel={"strata": ["rural"]}, options={"on_failure": "skip"})
    rural = est.frame["stratum"] == "rural=yes"
    assert est.frame.loc[rural, "estimate"].isna().all()
    assert est.frame.loc[rural, "note"].str.contains("no comparison unit").all()
    assert est.frame.loc[~rural, "estimate"].notna().all()


def test_a_stratum_within_one_cluster_has_no_error(typed) -> None:
    """A (2015) and F (never) share a cluster, and no one else is in the stratum."""
    inside = typed["aco"].isin(["A", "F"])
    data = typed.assign(rural=np.where(inside, "yes", "no"), market=typed["aco"].mask(inside, "m"))
    panel = {"strata": ["rural"], "cluster": "market"}
    with pytest.raises(vbc.EstimationError, match=r"`rural=yes`.* all in one cluster \(`market`\)"):
        fit(data, panel=panel)
    est = fit(data, panel=panel, options={"on_failure": "skip"})
    rural = est.frame["stratum"] == "rural=yes"
    assert est.frame.loc[rural, "estimate"].isna().all()
    assert np.isfinite(est.std_error[~rural]).all()


def test_strata_without_a_treated_unit_are_recorded(typed) -> None:
    data = typed.assign(rural=np.where(typed["aco"] == "F", "yes", "no"))
    est = fit(data, panel={"strata": ["rural"]}, options={"on_failure": "skip"})
    assert est.meta["strata_without_effects"] == ["rural=yes"]
    assert set(est.frame["stratum"].dropna()) == {"rural=no"}


def test_influence_found_pair_by_pair_is_that_found_together(typed, monkeypatch) -> None:
    panel = vbc.Panel.from_frame(
        typed.assign(a=np.sqrt(typed["spend"])), **KEYS, kind="repeated_cross_section"
    )
    design = vbc.Design(outcome="spend", covariates=["hcc"])

    def influence() -> np.ndarray:
        est = vbc.did.GroupTime(method="reg").fit(panel, design, outcomes=["spend", "a"])
        return np.asarray(est.psi)

    together = influence()
    assert np.abs(together).max() > 0
    monkeypatch.setattr(crossed_pairs, "_HELD", 1)
    np.testing.assert_allclose(influence(), together, rtol=1e-12, atol=1e-12)
