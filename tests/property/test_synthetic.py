"""The synthetic family on random panels: written a second time, invariances, identities, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

import vbceval as vbc
from vbceval.did import GroupTime, Imputation, InteractiveFE, SyntheticControl, SyntheticDiD
from vbceval.did.synthetic.loadings import left_out_errors
from vbceval.did.synthetic.simplex import solve_simplex
from vbceval.did.synthetic.weights import (
    Problem,
    default_penalty,
    fit_weights,
    time_hessian,
    unit_hessian,
)

DESIGN = vbc.Design(outcome="y")
ESTIMATORS = {
    "sdid": SyntheticDiD(),
    "sc": SyntheticDiD(method="sc"),
    "did": SyntheticDiD(method="did"),
    "control": SyntheticControl(augmented=False),
    "augmented": SyntheticControl(),
    "pooled": SyntheticControl(augmented=False, pooling=0.5),
    "gsc": InteractiveFE(n_factors=1),
    "em": InteractiveFE(method="em", n_factors=1),
    "completion": InteractiveFE(method="matrix_completion", shrink=2.0),
}
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


def draw(seed: int = 1, *, donors: int = 14, treated: tuple[int, ...] = (3, 2)) -> pd.DataFrame:
    """One factor, two cohorts (entry 7 and 9 of 12 periods), effect 1, covariate x."""
    rng = np.random.default_rng(seed)
    n, periods = donors + sum(treated), 12
    cohort = np.concatenate([np.full(donors, np.nan), np.repeat([7.0, 9.0], treated)])
    level, slope = rng.normal(size=n), 1 + 0.5 * rng.normal(size=n)
    factor = np.cumsum(rng.normal(size=periods))
    t, x = np.arange(1, periods + 1), rng.normal(size=(n, periods))
    y = level[:, None] + slope[:, None] * factor + 0.3 * rng.normal(size=(n, periods)) + 0.5 * x
    y += 1.0 * (t >= cohort[:, None])
    return pd.DataFrame({
        "unit": np.repeat([f"u{i:02d}" for i in range(n)], periods), "t": np.tile(t, n),
        "cohort": np.repeat(cohort, periods), "y": y.ravel(), "x": x.ravel(),
        "w": np.repeat(np.exp(0.3 * rng.normal(size=n)), periods),
    })  # fmt: skip


def panel(frame: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(frame, unit="unit", period="t", cohort="cohort", **options)


def fit(estimator, frame: pd.DataFrame, design: vbc.Design = DESIGN, vcov="none", **options):
    return estimator.fit(panel(frame, **options), design, vcov=vcov)


def on_simplex(rows: np.ndarray, target: np.ndarray, ridge: float, intercept: bool) -> np.ndarray:
    """Weights by a general solver, the intercept a variable like the others."""
    n = rows.shape[1]

    def loss(v: np.ndarray) -> float:
        return float(np.sum((rows @ v[:n] + v[n] - target) ** 2) + ridge * np.sum(v[:n] ** 2))

    def slope(v: np.ndarray) -> np.ndarray:
        left = rows @ v[:n] + v[n] - target
        return 2 * np.append(rows.T @ left + ridge * v[:n], left.sum() if intercept else 0.0)

    bounds = [(0, 1)] * n + [(None, None) if intercept else (0, 0)]
    found = optimize.minimize(
        loss, np.append(np.full(n, 1 / n), 0.0), jac=slope, bounds=bounds, method="SLSQP",
        constraints={"type": "eq", "fun": lambda v: v[:n].sum() - 1,
                     "jac": lambda v: np.append(np.ones(n), 0.0)},
        options={"maxiter": 5000, "ftol": 1e-15},
    )  # fmt: skip
    return np.asarray(found.x[:n])


def by_hand(y0: np.ndarray, y1: np.ndarray, n_pre: int, n_treated: int) -> float:
    """Synthetic difference-in-differences of one cohort, from the paper's formulas."""
    noise = np.std(np.diff(y0[:, :n_pre], axis=1), ddof=1)
    zeta = (n_treated * (len(y1) - n_pre)) ** 0.25 * noise
    unit = on_simplex(y0[:, :n_pre].T, y1[:n_pre], n_pre * zeta**2, True)
    time = on_simplex(
        y0[:, :n_pre], y0[:, n_pre:].mean(axis=1), len(y0) * (1e-6 * noise) ** 2, True
    )
    gap = y1 - unit @ y0
    return float(gap[n_pre:].mean() - time @ gap[:n_pre])


def test_sdid_written_a_second_time() -> None:
    frame = draw(3)
    wide = frame.pivot_table(index="unit", columns="t", values="y")
    cohort = frame.groupby("unit")["cohort"].first()
    y0 = wide[cohort.isna()].to_numpy()
    found = fit(SyntheticDiD(), frame).aggregate("cohort")
    for g, n_treated in ((7.0, 3), (9.0, 2)):
        effect = by_hand(y0, wide[cohort == g].to_numpy().mean(axis=0), int(g) - 1, n_treated)
        row = found.where(estimand="att_cohort", cohort=g)
        assert row.estimate.item() == pytest.approx(effect, abs=2e-4)
    # Stata sdid: cohorts weighted by treated organization-periods
    weights = np.array([3 * 6, 2 * 4])
    parts = found.where(estimand="att_cohort").estimate
    whole = fit(SyntheticDiD(), frame).aggregate("simple").estimate.item()
    assert whole == pytest.approx(parts @ weights / weights.sum(), abs=1e-12)


def test_control_written_a_second_time() -> None:
    frame = draw(5, treated=(1, 0))
    wide = frame.pivot_table(index="unit", columns="t", values="y")
    treated = frame.groupby("unit")["cohort"].first().notna()
    y0, y1 = wide[~treated].to_numpy(), wide[treated].to_numpy()[0]
    weights = on_simplex(y0[:, :6].T, y1[:6], 0.0, False)
    found = fit(SyntheticControl(augmented=False), frame).estimate
    np.testing.assert_allclose(found, y1 - weights @ y0, atol=2e-3)


@every
def test_row_order_names_and_added_effects(estimator) -> None:
    frame = draw(2)
    base = fit(estimator, frame).estimate
    shuffled = frame.sample(frac=1, random_state=0)
    np.testing.assert_allclose(fit(estimator, shuffled).estimate, base, atol=1e-9)
    renamed = frame.assign(unit=frame["unit"].str.replace("u", "z"))
    np.testing.assert_allclose(fit(estimator, renamed).estimate, base, atol=1e-9)
    # period effects change the noise level in which the penalty of "sdid" is measured
    common = 0.0 if estimator is ESTIMATORS["sdid"] else 0.7 * frame["t"] ** 1.5
    shifted = frame.assign(y=frame["y"] + 5 + common)
    np.testing.assert_allclose(fit(estimator, shifted).estimate, base, atol=1e-5)
    scaled = fit(estimator_scaled(estimator), frame.assign(y=frame["y"] * 1000)).estimate
    np.testing.assert_allclose(scaled / 1000, base, atol=1e-6)


def estimator_scaled(estimator):
    """Shrinkage is in the unit of the outcome."""
    if isinstance(estimator, InteractiveFE) and estimator.shrink is not None:
        return InteractiveFE(method="matrix_completion", shrink=1000 * estimator.shrink)
    return estimator


@pytest.mark.parametrize("name", ["sdid", "did", "gsc", "em"])
def test_effects_of_organizations_change_nothing(name) -> None:
    frame = draw(4)
    moved = frame.assign(y=frame["y"] + 3 * frame["unit"].str[1:].astype(float))
    estimator = ESTIMATORS[name]
    np.testing.assert_allclose(
        fit(estimator, moved).estimate, fit(estimator, frame).estimate, atol=1e-5
    )


@every
def test_an_added_effect_moves_the_estimate_by_itself(estimator) -> None:
    frame = draw(6)
    more = frame.assign(y=frame["y"] + 2.5 * (frame["t"] >= frame["cohort"]))
    gain = fit(estimator, more).estimate - fit(estimator, frame).estimate
    after = fit(estimator, frame).frame["event_time"].to_numpy() >= 0
    np.testing.assert_allclose(gain, 2.5 * after, atol=1e-7)


def test_uniform_weights_are_difference_in_differences() -> None:
    frame = draw(7, treated=(4, 0))
    means = frame.assign(d=frame["cohort"].notna(), post=frame["t"] >= 7)
    cell = means.groupby(["d", "post"])["y"].mean()
    two = (cell[True, True] - cell[True, False]) - (cell[False, True] - cell[False, False])
    assert fit(SyntheticDiD(method="did"), frame).aggregate("simple").estimate.item() == (
        pytest.approx(two, abs=1e-12)
    )
    strong = fit(SyntheticDiD(zeta_unit=1e6, zeta_time=1e6), frame).aggregate("simple")
    assert strong.estimate.item() == pytest.approx(two, abs=1e-6)


def test_no_factor_is_imputation() -> None:
    frame = draw(8)
    em = fit(InteractiveFE(method="em", n_factors=0), frame)
    after = em.where("event_time >= 0")
    imputed = Imputation().fit(panel(frame), DESIGN)
    np.testing.assert_allclose(after.estimate, imputed.estimate, atol=1e-6)
    gsc = fit(InteractiveFE(n_factors=0), frame).where("event_time >= 0")
    alone = Imputation().fit(panel(frame), vbc.Design(outcome="y", comparison="never_treated"))
    direct = GroupTime(method="reg").fit(panel(frame), vbc.Design(outcome="y")).frame
    assert len(gsc) == len(alone.estimate) < len(direct)
    np.testing.assert_allclose(gsc.estimate, alone.estimate, atol=1e-9)


def test_unbalanced_em_is_imputation_too() -> None:
    frame = draw(9).sample(frac=0.9, random_state=1)
    em = fit(InteractiveFE(method="em", n_factors=0), frame).aggregate("simple")
    imputed = Imputation().fit(panel(frame), DESIGN).aggregate("simple")
    assert em.estimate.item() == pytest.approx(imputed.estimate.item(), abs=1e-6)


def test_jackknife_leaves_out_and_rescales() -> None:
    frame = draw(10)
    est = fit(SyntheticDiD(), frame, vcov="jackknife")
    weights = SyntheticDiD().weights(panel(frame), DESIGN)
    wide = frame.pivot_table(index="unit", columns="t", values="y")
    cohort = frame.groupby("unit")["cohort"].first()
    left = []
    for gone in wide.index:
        row = []
        for g in (7.0, 9.0):
            own = weights[weights["cohort"] == g].set_index("name")["weight"]
            unit = own[[n for n in own.index if isinstance(n, str) and n != gone]]
            time = own[[n for n in own.index if not isinstance(n, str)]]
            stays = (cohort == g) & (cohort.index != gone)
            path = wide[stays].mean() - (unit / unit.sum()) @ wide.loc[unit.index]
            row.append((path - time @ path[time.index.astype(int)]).to_numpy())
        left.append(np.concatenate(row))
    left = np.array(left)
    n = len(left)
    variance = (n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(est.std_error**2, variance, rtol=1e-8)
    assert list(est.clusters) == list(wide.index)
    both = vbc.stack([est, GroupTime(method="reg").fit(panel(frame), DESIGN)])
    assert np.isfinite(both.vcov()).all()


def test_placebo_puts_every_donor_in_the_place_of_the_treated() -> None:
    frame = draw(11, treated=(1, 0), donors=8)
    est = fit(SyntheticDiD(), frame, vcov="placebo").aggregate("simple")
    effects = []
    for donor in frame.loc[frame["cohort"].isna(), "unit"].unique():
        rest = frame[frame["cohort"].isna()].copy()
        rest.loc[rest["unit"] == donor, "cohort"] = 7.0
        # the penalty stays that of the estimate
        noise = [np.std(np.diff(part[part["t"] < 7].pivot_table(index="unit", columns="t", values="y")),
                        ddof=1)
                 for part in (frame[frame["cohort"].isna()], rest[rest["unit"] != donor])]  # fmt: skip
        scale = noise[0] / noise[1]
        again = SyntheticDiD(zeta_unit=6**0.25 * scale, zeta_time=1e-6 * scale)
        effects.append(fit(again, rest).aggregate("simple").estimate.item())
    assert est.std_error.item() == pytest.approx(np.std(effects), rel=1e-6)


@pytest.mark.parametrize("estimator", [SyntheticDiD(replications=30),
                                       SyntheticControl(replications=30),
                                       InteractiveFE(n_factors=1, replications=30)])  # fmt: skip
def test_resampling_is_repeatable_and_keeps_the_estimate(estimator) -> None:
    frame = draw(12)
    kinds = ["placebo", "bootstrap"]
    if isinstance(estimator, InteractiveFE):
        kinds = ["parametric", "bootstrap", "jackknife"]
    base = fit(estimator, frame).estimate
    for kind in kinds:
        one, two = (fit(estimator, frame, vcov=kind) for _ in range(2))
        np.testing.assert_array_equal(one.estimate, base)
        np.testing.assert_array_equal(one.vcov(), two.vcov())
        se = one.aggregate("simple").std_error.item()
        assert 0.02 < se < 0.5
    with pytest.raises(vbc.EstimationError, match="without influence"):
        vbc.stack([fit(estimator, frame, vcov="bootstrap")] * 2)


def test_weight_zero_removes_and_weights_average_the_treated() -> None:
    frame = draw(13)
    gone = {u: 0.0 if u in ("u00", "u15") else 1.0 for u in frame["unit"].unique()}
    design = vbc.Design(outcome="y", balance_weights=gone)
    kept = frame[~frame["unit"].isin(["u00", "u15"])]
    for estimator in ESTIMATORS.values():
        np.testing.assert_allclose(
            fit(estimator, frame, design).estimate, fit(estimator, kept).estimate, atol=1e-8
        )
    table = SyntheticControl(augmented=False).paths(panel(frame, weight="w"), DESIGN)
    inside = frame[(frame["cohort"] == 7.0) & (frame["t"] == 3)]
    mean = np.average(inside["y"], weights=inside["w"])
    row = table[(table["cohort"] == 7.0) & (table["period"] == 3)]
    assert row["treated"].item() == pytest.approx(mean)


@pytest.mark.parametrize("comparison", ["never_treated", "not_yet_treated"])
def test_projected_covariates_are_taken_out(comparison) -> None:
    frame = draw(14, donors=30)
    design = vbc.Design(outcome="y", covariates=["x"], comparison=comparison)
    shifted = frame.assign(y=frame["y"] + 4.0 * frame["x"])
    estimator = SyntheticDiD(covariates="projected")
    base, moved = (fit(estimator, f, design).estimate for f in (frame, shifted))
    np.testing.assert_allclose(moved, base, atol=1e-8)


def test_optimized_covariates_minimise_both_objectives() -> None:
    """No other coefficient, with its own weights, does better near the solution."""
    rng = np.random.default_rng(2)
    n, periods, n_pre = 25, 14, 9
    x0, x1 = rng.normal(size=(n, periods, 2)), rng.normal(size=(periods, 2))
    y0 = rng.normal(size=(n, periods)).cumsum(axis=1) + x0 @ [1.0, -0.5]
    y1 = y0[:5].mean(axis=0) + (x1 - x0[:5].mean(axis=0)) @ [1.0, -0.5]
    post = np.arange(periods) >= n_pre
    problem = Problem(y0, y1, x0, x1, np.ones(n), n_pre, post)
    penalty = default_penalty(1.0, 1, periods - n_pre, "sdid")

    def objective(beta: np.ndarray) -> float:
        free = problem.adjusted(beta)
        unit = solve_simplex(unit_hessian(free, penalty, "sdid")).objective / n_pre
        return unit + solve_simplex(time_hessian(free, penalty)).objective / n

    found = fit_weights(problem, penalty, "sdid", "exact")
    best = objective(found.beta)
    for step in rng.normal(size=(30, 2)):
        assert objective(found.beta + 0.05 * step) >= best
    assert best < objective(np.zeros(2))


def test_strata_and_moments_of_clusters() -> None:
    frame = draw(15)
    double = pd.concat(
        [frame.assign(dual="no"), frame.assign(dual="yes", y=frame["y"] + frame["x"])]
    )
    est = fit(SyntheticDiD(replications=50), double, strata=["dual"], vcov="bootstrap")
    assert set(est.frame["stratum"].dropna()) == {"dual=no", "dual=yes"}
    alone = fit(SyntheticDiD(), frame)
    np.testing.assert_allclose(est.where(stratum="dual=no").estimate, alone.estimate, atol=1e-10)
    simple = est.aggregate("simple")
    gap = simple.contrast({"gap": {"stratum == 'dual=yes'": 1, "stratum == 'dual=no'": -1}})
    assert gap.std_error.item() < np.hypot(*simple.std_error[1:])
    people = pd.concat([frame.assign(person=i, y=frame["y"] + e) for i, e in ((1, 0.5), (2, -0.5))])
    people["person"] = people["person"].astype(str) + people["unit"]
    rows = vbc.Panel.from_frame(people, unit="person", period="t", cohort="cohort", cluster="unit")
    with pytest.raises(vbc.EstimationError, match="by='cluster'"):
        SyntheticDiD().fit(rows, DESIGN)
    means = vbc.Moments.from_panel(rows, outcomes=["y"], by="cluster")
    again = SyntheticDiD().fit(means, DESIGN, vcov="none")
    np.testing.assert_allclose(again.estimate, alone.estimate, atol=1e-9)


def test_windows_and_anticipation() -> None:
    frame = draw(16)
    short = fit(SyntheticDiD(), frame, vbc.Design(outcome="y", window=(-2, 1)))
    assert sorted(short.frame["event_time"].unique()) == [-2, -1, 0, 1]
    until = frame[(frame["t"] <= frame["cohort"].fillna(7) + 1)]
    first = fit(SyntheticDiD(), until[until["t"] <= 8].query("cohort != 9")).where("cohort == 7")
    # the cohort that enters in 9 is a donor of cohort 7 until 8
    both = fit(SyntheticDiD(), frame[frame["t"] <= 8].assign(
        cohort=frame["cohort"].where(frame["cohort"] != 9)))  # fmt: skip
    later = short.where("cohort == 7")
    np.testing.assert_allclose(later.estimate, both.where("event_time >= -2").estimate, atol=1e-10)
    assert not np.allclose(later.estimate, first.where("event_time >= -2").estimate)
    for estimator in ESTIMATORS.values():
        ahead = fit(estimator, frame, vbc.Design(outcome="y", anticipation=1)).frame
        touched = frame.assign(y=frame["y"] + 9.0 * (frame["t"] == frame["cohort"] - 1))
        moved = fit(estimator, touched, vbc.Design(outcome="y", anticipation=1)).frame
        gain = (moved["estimate"] - ahead["estimate"]).to_numpy()
        np.testing.assert_allclose(gain, 9.0 * (ahead["event_time"] == -1), atol=1e-7)


@every
def test_refusals(estimator) -> None:
    frame = draw(17)
    with pytest.raises(vbc.DesignError, match="one period"):
        fit(estimator, frame[frame["t"] == 3])
    with pytest.raises(vbc.DesignError, match="1 cluster"):
        fit(estimator, frame.assign(all=1), cluster="all", people=False)
    with pytest.raises(vbc.DesignError, match="has no donor"):
        fit(estimator, frame[frame["cohort"].notna()])
    with pytest.raises(vbc.DesignError, match="coding of never treated"):
        fit(estimator, frame.assign(cohort=np.nan))
    with pytest.raises(vbc.DesignError, match="no base period"):
        fit(estimator, frame, vbc.Design(outcome="y", base_period="universal"))
    with pytest.raises(vbc.EstimationError, match="no 'CR1' covariance"):
        fit(estimator, frame, vcov="CR1")
    with pytest.raises(vbc.EstimationError, match="no small-sample factor"):
        estimator.fit(panel(frame), DESIGN, ssc=vbc.inference.SSC.cluster())
    gap = frame.drop(index=[5, 40])
    if isinstance(estimator, InteractiveFE):
        assert np.isfinite(fit(estimator, gap).estimate).all()
    else:
        with pytest.raises(vbc.DesignError, match="2 organization-periods are missing"):
            fit(estimator, gap)
    before = fit(estimator, frame).frame
    assert before[["n_units", "n_clusters", "n_treated", "n_comparison"]].notna().all().all()


def test_refusals_of_errors() -> None:
    few = draw(18, donors=4)
    with pytest.raises(vbc.EstimationError, match="needs more donors"):
        fit(SyntheticDiD(), few, vcov="placebo")
    one = draw(18, treated=(1, 0))
    for estimator in (SyntheticDiD(), InteractiveFE(n_factors=0)):
        with pytest.raises(vbc.EstimationError, match="one treated cluster"):
            fit(estimator, one, vcov="jackknife")
    clustered = draw(18).assign(state=lambda d: d["unit"].str[1:].astype(int) // 2)
    with pytest.raises(vbc.EstimationError, match="exchanges organizations"):
        fit(SyntheticDiD(), clustered, cluster="state", people=False, vcov="placebo")
    both = clustered.assign(z=2 * clustered["x"])
    with pytest.raises(vbc.EstimationError, match="collinear"):
        fit(InteractiveFE(n_factors=0), both, vbc.Design(outcome="y", covariates=["x", "z"]))
    with pytest.raises(vbc.DesignError, match="not a period before entry"):
        fit(SyntheticControl(lags=(1.0, 8.0)), one)
    with pytest.raises(vbc.EstimationError, match="every period must be matched on"):
        SyntheticControl(lags=(1.0, 3.0)).conformal(panel(one), DESIGN)
    with pytest.raises(vbc.DesignError, match="not_yet_treated"):
        fit(InteractiveFE(method="em"), few, vbc.Design(outcome="y", comparison="never_treated"))
    for method, rank in (("em", {"n_factors": 0}), ("matrix_completion", {"shrink": 1.0})):
        with pytest.raises(vbc.EstimationError, match="method='gsc' alone"):
            fit(InteractiveFE(method=method, **rank), few, vcov="parametric")
    lonely = few[few["unit"].isin(["u00", "u04"])]
    with pytest.raises(vbc.EstimationError, match="has one donor"):
        SyntheticControl(augmented=False).permutation(panel(lonely), DESIGN)
    with pytest.raises(vbc.EstimationError, match="there is one"):
        SyntheticControl(augmented=False).jackknife_plus(panel(one[one["t"] > 5]), DESIGN)
    with pytest.raises(vbc.EstimationError, match="there is none: 1 donors, 2 periods"):
        fit(SyntheticDiD(), lonely[lonely["t"] > 4])
    with pytest.raises(vbc.DesignError, match="`z` is the same for all 14 donors"):
        fit(SyntheticControl(), one.assign(z=1.0), vbc.Design(outcome="y", covariates=["z"]))
    for bad in ({"method": "x"}, {"replications": 1}, {"zeta_unit": -1.0}):
        with pytest.raises(vbc.DesignError):
            SyntheticDiD(**bad)


def test_chosen_predictors_and_permutation() -> None:
    frame = draw(19, treated=(1, 0))
    design = vbc.Design(outcome="y", covariates=["x"])
    nested = SyntheticControl(augmented=False, lags=(2.0, 4.0, 6.0), importance="nested")
    equal = SyntheticControl(augmented=False, lags=(2.0, 4.0, 6.0))

    def before(estimator) -> float:
        table = estimator.paths(panel(frame), design)
        return float((table.loc[table["event_time"] < 0, "gap"] ** 2).mean())

    assert before(nested) <= before(equal) + 1e-12
    table = SyntheticControl(augmented=False).permutation(panel(frame), DESIGN)
    ratio = table["post_rmspe"] / table["pre_rmspe"]
    assert table["p_value"].iloc[0] == (ratio >= ratio.iloc[0]).mean()
    assert len(table) == 15
    with pytest.raises(vbc.EstimationError, match="treated organizations"):
        SyntheticControl().permutation(panel(draw(19)), DESIGN)


def test_fits_without_any_gap_are_no_evidence() -> None:
    """Nothing after over nothing before is not a small ratio."""
    frame = draw(20, treated=(1, 0)).assign(y=1.0)
    table = SyntheticControl(augmented=False).permutation(panel(frame), DESIGN)
    assert table["p_value"].iloc[0] == 1.0
    assert (
        SyntheticControl(augmented=False).balance(panel(frame), DESIGN)["improvement"].isna().all()
    )


def test_a_factor_that_one_period_decides_is_not_chosen() -> None:
    """Its loading is not known without that period; the error is infinite, not missing."""
    columns = np.column_stack([[0.0, 0.0, 3.0, 0.0], np.ones(4)])
    left = np.random.default_rng(1).normal(size=(2, 4))
    errors = left_out_errors(left, np.ones((2, 4), dtype=bool), columns).reshape(2, 4)
    assert np.isinf(errors[:, 2]).all()
    assert np.isfinite(np.delete(errors, 2, axis=1)).all()


@pytest.mark.parametrize("vcov", ["jackknife", "bootstrap"])
def test_a_period_with_one_treated_organization_has_no_error_and_says_so(vcov) -> None:
    frame = draw(21, treated=(3, 0))
    alone = frame[~(frame["unit"].isin(["u14", "u15"]) & (frame["t"] == 12))]
    est = fit(InteractiveFE(method="em", n_factors=0, replications=20), alone, vcov=vcov)
    assert np.isnan(est.std_error).tolist() == [False] * 11 + [True]
    assert "1 of 12 effects have no error" in est.meta["warnings"][0]
    others = fit(InteractiveFE(n_factors=0), frame, vcov="jackknife").meta["warnings"]
    assert not [w for w in others if "have no error" in w]
