"""
Dose curves against what R contdid printed, two Python packages, and statsmodels.

R: README of `contdid` 0.1.0 (bcallaway11/contdid, commit f94e010) and its earlier web page of 0.0.001
(docs/index.html, commit 145933c). Both simulate 5,000 units over 4 periods; the draws of R are
rebuilt here. Python: `diff-diff` 3.13.0 (`ContinuousDiD`) and `contdid` 0.1.0, run on `study(99, 400,
0.5, 1.0)`; numbers in full as they printed them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import vbceval as vbc

from .r_random import RRandom

GRID = (0.25, 0.5, 0.75)


def study(seed: int, n: int, linear: float = 0.0, quadratic: float = 0.0) -> pd.DataFrame:
    """
    Rebuild what `simulate_contdid_data` draws, and more columns after that.

    Four periods; cohorts 2, 3, 4 and never, equally likely; effects in a dose that is uniform.
    """
    draw = RRandom(seed)
    # R assigns the four equal probabilities in this order
    cohort = np.array([2, 3, 4, 0])[(4 * draw.runif(n)).astype(int)]
    dose = draw.runif(n)
    level = cohort + draw.rnorm(n)
    times = np.arange(1, 5)
    without = np.column_stack([t + level + draw.rnorm(n) for t in times])
    effect = linear * dose + quadratic * dose**2
    with_ = np.column_stack([effect + t + level + draw.rnorm(n) for t in times])
    on = (cohort[:, None] <= times) & (cohort[:, None] > 0)
    x, w, group = draw.rnorm(n), 0.5 + draw.runif(n), draw.sample(60, n)
    units = pd.DataFrame({
        "id": np.arange(n), "cohort": np.where(cohort > 0, cohort, np.nan), "dose": dose, "x": x,
        "w": w, "group": group, "step": np.where(cohort > 0, np.ceil(3 * dose) / 2, 0.0),
    })  # fmt: skip
    out = units.loc[units.index.repeat(4)].reset_index(drop=True)
    out["period"], out["y"] = np.tile(times, n), np.where(on, with_, without).ravel()
    return out.assign(yx=out["y"] + 0.4 * out["x"] * out["period"])


def fit(frame: pd.DataFrame, design: dict | None = None, panel: dict | None = None, **options):
    made = vbc.Panel.from_frame(frame, unit="id", period="period", cohort="cohort", **(panel or {}))
    estimator = vbc.did.Dose(**{"dose": "dose", "weights_random": False} | options)
    return estimator.fit(made, vbc.Design(**{"outcome": "y"} | (design or {})), vcov="CR0")


@pytest.fixture(scope="module")
def printed() -> pd.DataFrame:
    return study(1234, 5000)


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return study(99, 400, 0.5, 1.0)


def test_simulated_data_are_those_of_r(printed) -> None:
    assert printed["cohort"][[0, 4]].tolist() == [2, 4]
    assert printed["dose"][0] == pytest.approx(0.08593221, abs=5e-9)
    first = [0.3579583, 5.2354694, 3.2717079, 4.3988042, 5.9743351, 5.8463051]
    np.testing.assert_allclose(printed["y"][:6], first, atol=5e-8)


def test_overall_effects_printed_by_r(printed) -> None:
    """Cubic with a knot at the median of treated doses."""
    level = fit(printed, knots=1, grid=[0.5])
    assert level.estimate[-1] == pytest.approx(-0.0265, abs=5e-5)
    # 100 bootstrap draws: their error is some ten percent
    assert level.std_error[-1] == pytest.approx(0.0301, rel=0.2)
    slope = fit(printed, knots=1, estimand="slope", grid=[0.5])
    assert slope.estimate[-1] == pytest.approx(0.1341, abs=5e-5)


def test_event_study_of_slopes_printed_by_r(printed) -> None:
    est = fit(printed, knots=1, estimand="slope", aggregation="group_time")
    study_ = est.aggregate("event_time")
    np.testing.assert_allclose(
        study_.estimate[:5], [-0.0701, -0.2212, 0.1592, 0.0551, -0.5405], atol=5e-5
    )


def test_knots_of_the_first_version_of_r() -> None:
    """Contdid 0.0.001 took the median over all units with a dose, also those never treated."""
    frame = study(123, 5000)
    knots = [float(frame.drop_duplicates("id")["dose"].median())]
    assert fit(frame, knots=knots, grid=[0.5]).estimate[-1] == pytest.approx(0.0820, abs=5e-5)
    slope = fit(frame, knots=knots, estimand="slope", grid=[0.5])
    assert slope.estimate[-1] == pytest.approx(0.2279, abs=5e-5)
    pairs = fit(frame, knots=knots, estimand="slope", aggregation="group_time")
    np.testing.assert_allclose(
        pairs.aggregate("event_time").estimate[:5],
        [-0.6753, 0.1956, 0.2690, 0.2985, -0.0018], atol=5e-5,
    )  # fmt: skip


def test_event_study_of_levels_printed_by_r_takes_the_dose_for_an_indicator(printed) -> None:
    """
    R hands the dose to a doubly robust estimator for 0/1 treatment, which weighs units by it.

    Treated units with dose d count d in the treated mean, and p (1 - d) / (1 - p) in the comparison,
    with p the mean dose. This reproduces what R printed; ours is the plain mean of ATT(d).
    """
    units = printed.drop_duplicates("id")
    y = printed["y"].to_numpy().reshape(-1, 4)
    cohort, dose = units["cohort"].fillna(np.inf).to_numpy(), units["dose"].to_numpy()
    rows = []
    for g in (2, 3, 4):
        for t in (2, 3, 4):
            keep = (cohort == g) | (cohort > t)
            change = (y[:, t - 1] - y[:, min(g, t) - 2])[keep]
            d = (dose * (cohort == g))[keep]
            change -= change[d == 0].mean()
            share = d.mean()
            other = share * (1 - d) / (1 - share)
            by_dose = d @ change / d.sum() - other @ change / other.sum()
            rows.append((t - g, (cohort == g).sum(), by_dose, change[d > 0].mean()))
    table = pd.DataFrame(rows, columns=["e", "n", "by_dose", "plain"])
    means = table.groupby("e").apply(
        lambda f: pd.Series({k: np.average(f[k], weights=f["n"]) for k in ("by_dose", "plain")})
    )
    np.testing.assert_allclose(
        means["by_dose"], [-0.0222, 0.0116, -0.0039, -0.0160, -0.0839], atol=5e-5
    )
    ours = fit(printed, knots=1, aggregation="group_time").aggregate("event_time")
    np.testing.assert_allclose(ours.estimate[:5], means["plain"], atol=1e-12)


def test_errors_of_slopes_printed_by_r_lack_the_share_of_treated(printed) -> None:
    """
    R takes the influence on a mean over treated units for one over treated and comparison units.

    Its errors are those of each cohort and period times (treated) / (treated and comparison): for
    the last event time, one cohort and period, half of ours. No error below that of a straight line
    (sqrt(2 / n) over the spread of the dose) is possible there.
    """
    est = fit(printed, knots=1, estimand="slope", aggregation="group_time")
    f = est.frame
    share = (f["n_treated"] / (f["n_treated"] + f["n_comparison"])).to_numpy()
    sizes = f.groupby("event_time")["n_treated"].transform("sum")
    rows = []
    for e in (-2, -1, 0, 1, 2):
        at = (f["event_time"] == e).to_numpy()
        weight = np.where(at, f["n_treated"] / sizes * share, 0.0)
        rows.append(np.linalg.norm(est.influence().to_numpy() @ weight))
    np.testing.assert_allclose(rows, [0.0808, 0.0892, 0.0586, 0.0828, 0.1154], rtol=0.15)
    last = f.loc[f["event_time"] == 2, "n_treated"].item()
    straight = np.sqrt(2 / last) / np.sqrt(1 / 12)
    assert 0.1154 < straight < est.std_error[(f["event_time"] == 2).to_numpy()].item()


# diff-diff 3.13.0: levels, their errors, slopes, their errors at 0.25, 0.5, 0.75; then means
DIFF_DIFF = {
    ("not_yet_treated", 1, 0): (
        [0.268662750914913, 0.663275110908249, 1.057887470901586],
        [0.116505226097987, 0.102298174954400, 0.117927857126277],
        [1.578449439973346, 1.578449439973346, 1.578449439973346],
        [0.228921191619065, 0.228921191619065, 0.228921191619065],
        [0.6404494151935061, 0.10633838294273952, 1.5784494399733462],
    ),
    ("not_yet_treated", 3, 0): (
        [0.455755781509993, 0.696374297549558, 0.878925512787835],
        [0.134949054798105, 0.129444855802954, 0.149320066042444],
        [2.145115896169946, 0.313085847351131, 1.680577489759637],
        [0.539182233142313, 0.583790282124424, 0.522705835828929],
        [0.6404494151935061, 0.10633838294273952, 2.556217672304692],
    ),
    ("never_treated", 3, 1): (
        [0.349893582265521, 0.837574674200187, 0.804221637154579],
        [0.144768069704520, 0.153347684027113, 0.153392113047935],
        [3.219267743095657, 0.072612619543469, 0.940736760879256],
        [0.890284268372427, 0.613227644601063, 0.648598322984256],
        [0.6334036629241369, 0.10219185690592526, 2.5018901816021586],
    ),
}


@pytest.mark.parametrize("case", DIFF_DIFF, ids=str)
def test_curves_of_diff_diff(small, case) -> None:
    comparison, degree, knots = case
    levels, level_errors, slopes, slope_errors, means = DIFF_DIFF[case]
    options = {"degree": degree, "knots": knots, "grid": GRID}
    level = fit(small, {"comparison": comparison}, **options)
    slope = fit(small, {"comparison": comparison}, estimand="slope", **options)
    np.testing.assert_allclose(level.estimate, [*levels, means[0]], rtol=1e-12)
    np.testing.assert_allclose(level.std_error, [*level_errors, means[1]], rtol=1e-12)
    np.testing.assert_allclose(slope.estimate, [*slopes, means[2]], rtol=1e-12)
    np.testing.assert_allclose(slope.std_error[:3], slope_errors, rtol=1e-12)


def test_error_of_the_mean_slope_counts_the_doses(small) -> None:
    """Diff-diff takes the doses of the treated as fixed: 0.4871 in place of 0.4978."""
    est = fit(small, estimand="slope", grid=GRID)
    psi = est.influence().to_numpy()[:, -1]
    units = small.drop_duplicates("id")
    y = small["y"].to_numpy().reshape(-1, 4)
    moves = np.zeros(len(units))
    treated = units["cohort"].notna().sum()
    for g in (2, 3, 4):
        own = (units["cohort"] == g).to_numpy()
        dose = units["dose"].to_numpy()[own]
        for t in range(g, 5):
            change = (y[:, t - 1] - y[:, g - 2])[own]
            slope = np.polynomial.Polynomial.fit(dose, change, 3).deriv()(dose)
            # share of the cohort over its periods; each unit one of the cohort
            moves[own] += (slope - slope.mean()) / treated / (5 - g)
    assert np.linalg.norm(psi) == pytest.approx(0.4978154162272, rel=1e-12)
    assert np.linalg.norm(psi - moves) == pytest.approx(0.4871282292493844, rel=1e-10)


def test_covariates_of_diff_diff(small) -> None:
    """Outcome regression among comparison units: covariates="x", estimation_method="reg"."""
    design = {"outcome": "yx", "covariates": ["x"]}
    level = fit(small, design, grid=GRID)
    slope = fit(small, design, grid=GRID, estimand="slope")
    for est, values, errors in (
        (level, [0.473065135388736, 0.700278703058337, 0.874300600998082, 0.6481392835256603],
         [0.135769373859885, 0.129157180133564, 0.149153649459362, 0.10638585011647775]),
        (slope, [2.129296245837748, 0.245441613368875, 1.703762887998901, 2.5845644980873663],
         [0.539870211264113, 0.586868264517964, 0.523829160224609]),
    ):  # fmt: skip
        np.testing.assert_allclose(est.estimate, values, rtol=1e-11)
        np.testing.assert_allclose(est.std_error[: len(errors)], errors, rtol=1e-11)


def test_distinct_doses_of_diff_diff(small) -> None:
    """A level for each dose, steps from the next lower one: treatment_type="discrete"."""
    level = fit(small, dose="step", basis="discrete")
    slope = fit(small, dose="step", basis="discrete", estimand="slope")
    for est, values, errors in (
        (level, [0.121329381327253, 0.780770432092933, 1.098342132966097, 0.6404494151935061],
         [0.141148780886421, 0.140730563661981, 0.141017421741362, 0.10633838294273952]),
        (slope, [0.242658762654505, 1.318882101531361, 0.635143401746327, 0.6678515953902506],
         [0.282297561772843, 0.336674259375582, 0.336075475410420]),
    ):  # fmt: skip
        np.testing.assert_allclose(est.estimate, values, rtol=1e-12)
        np.testing.assert_allclose(est.std_error[: len(errors)], errors, rtol=1e-12)


def test_weights_of_diff_diff_count_twice_in_its_errors(small) -> None:
    """Estimates with weights agree; its survey errors multiply weighted scores by weights again."""
    est = fit(small, panel={"weight": "w"}, grid=GRID)
    np.testing.assert_allclose(
        est.estimate,
        [0.488296123491819, 0.745099399955554, 0.921578391799788, 0.6776424784203127], rtol=1e-12,
    )  # fmt: skip
    w = small.drop_duplicates("id")["w"].to_numpy()
    scores = est.influence().to_numpy() * (w / w.mean())[:, None]
    twice = np.linalg.norm(scores - scores.mean(axis=0), axis=0)
    said = [0.18057333129, 0.169903999623017, 0.186547890611878, 0.13457469278085518]
    np.testing.assert_allclose(twice * np.sqrt(400 / 399), said, rtol=1e-9)


@pytest.mark.parametrize("comparison", ["not_yet_treated", "never_treated"])
def test_curve_of_python_contdid(small, comparison) -> None:
    """Cohorts and periods by share; contdid 0.1.0 of the Python index, target_parameter="level"."""
    values, errors = {
        "not_yet_treated": (
            [0.48918832941869306, 0.6910865693595236, 0.8425933553745123],
            [0.1356488112804759, 0.1270348024310433, 0.13785680934221559],
        ),
        "never_treated": (
            [0.482971393222854, 0.6848696331636845, 0.8363764191786733],
            [0.1391786102312407, 0.13107172184195545, 0.14095164542858155],
        ),
    }[comparison]
    est = fit(small, {"comparison": comparison}, grid=GRID, average="simple")
    np.testing.assert_allclose(est.estimate[:3], values, rtol=1e-12)
    np.testing.assert_allclose(est.std_error[:3], errors, rtol=1e-12)


@pytest.mark.parametrize("cluster", ["id", "group"])
def test_weights_and_clusters_by_statsmodels(small, cluster) -> None:
    """One cohort and two periods are one weighted regression of changes, with clustered errors."""
    frame = small[(small["cohort"].isna() | (small["cohort"] == 3)) & small["period"].isin([2, 3])]
    units = frame[frame["period"] == 2].set_index("id")
    change = frame[frame["period"] == 3].set_index("id")["y"] - units["y"]
    on, d = units["cohort"].notna().to_numpy(float), units["dose"].to_numpy()
    x = np.column_stack([1 - on, *(on * d**k for k in range(4))])
    codes = units.index if cluster == "id" else units[cluster]
    made = sm.WLS(change, x, weights=units["w"]).fit(
        cov_type="cluster", cov_kwds={"groups": np.asarray(codes), "use_correction": False}
    )
    for estimand, row in (
        ("level", lambda v: [-1, 1, v, v**2, v**3]), ("slope", lambda v: [0, 0, 1, 2 * v, 3 * v**2])
    ):  # fmt: skip
        est = fit(frame, panel={"weight": "w", "cluster": cluster}, grid=GRID, estimand=estimand)
        test = made.t_test(np.array([row(v) for v in GRID]))
        np.testing.assert_allclose(est.estimate[:3], test.effect, rtol=1e-9)
        np.testing.assert_allclose(est.std_error[:3], test.sd, rtol=1e-9)
