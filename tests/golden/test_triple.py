"""
Triple differences against what R triplediff printed, R lm with two packages of errors, and Python.

R `triplediff` 0.1.1: its README (marcelortizv/triplediff, index.md, commit 1203049, and README.md,
commit 0152aed), with data rebuilt from the draws of R. R 4.2.2 `lm` with a dummy for every effect,
`sandwich` 3.0.2 (`vcovCL`) and `clubSandwich` 0.5.8 (`coef_test`, CR2), `moderndid` 0.2.0 (`ddd`)
and `diff-diff` 3.13.0 (`StaggeredTripleDifference`) were run on `staggered(1234, 500)`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

from .r_random import RRandom

COVARIATES = ["cov1", "cov2", "cov3", "cov4"]


def _covariates(draw: RRandom, n: int) -> np.ndarray:
    x1, x2, x3, x4 = (draw.rnorm(n) for _ in range(4))
    return np.column_stack([
        (np.exp(x1 / 2) - np.exp(0.125)) / np.sqrt((np.exp(0.25) - 1) * np.exp(0.25)),
        x2 / (1 + np.exp(x1)) / 0.54164,
        ((x1 * x3 / 25 + 0.6) ** 3 - 0.21887) / 0.04453,
        ((x1 + x4 + 20) ** 2 - 402) / 56.63891,
    ])  # fmt: skip


def _long(y: np.ndarray, z: np.ndarray, state, eligible, group) -> pd.DataFrame:
    n, periods = y.shape
    units = pd.DataFrame(z, columns=COVARIATES).assign(
        id=np.arange(n), state=state, eligible=eligible, group=group, w=0.5 + np.arange(n) % 7 / 4
    )
    out = units.loc[units.index.repeat(periods)].reset_index(drop=True)
    return out.assign(time=np.tile(np.arange(1, periods + 1), n), y=y.ravel())


def staggered(seed: int, n: int) -> pd.DataFrame:
    """Rebuild `gen_dgp_mult_periods(n, 1)`: cohorts 2, 3 and 0 (never), effects 10, 20 and 25."""
    draw = RRandom(seed)
    z = _covariates(draw, n)
    slopes = [[-1, 0.5, -0.25, -0.1], [-0.5, 1, -0.1, -0.25], [-0.25, 0.1, -1, -0.1]]
    a, b, c = (z @ np.array(slopes).T).T
    odds = np.exp(0.4 * np.column_stack([1.25 + a, 0.5 - a, 2 + b, 1.25 - b, -0.5 + c]))
    p = odds / (1 + odds.sum(axis=1, keepdims=True))
    p = np.column_stack([p, 1 - p.sum(axis=1)])
    # R draws from probabilities in decreasing order
    order = np.argsort(-p, axis=1)
    upto = np.cumsum(np.take_along_axis(p, order, axis=1), axis=1)[:, :5]
    kind = order[np.arange(n), (draw.runif(n)[:, None] > upto).sum(axis=1)]
    eligible, state = (kind % 2 == 0).astype(int), np.array([2, 2, 3, 3, 0, 0])[kind]
    trend = 210 + z @ np.array([27.4, 13.7, 13.7, 13.7])
    level = (state + eligible) * trend + draw.rnorm(n)
    y = [trend * (1 + eligible) + level]
    y += [y[0] + k * (level / 10 + trend) for k in (1, 2)]
    y[0] = y[0] + draw.rnorm(n)
    for t in (2, 3):
        never, two, three = (y[t - 1] + draw.rnorm(n) for _ in range(3))
        effects = [two + 10 * (t - 1), three + 25] if t == 3 else [two + 10, never]
        on = [(state == g) & (eligible == 1) for g in (2, 3)]
        y[t - 1] = np.select(on, effects, never)
    return _long(np.column_stack(y), z, state, eligible, draw.sample(50, n))


def two_periods(seed: int, n: int) -> pd.DataFrame:
    """Rebuild `gen_dgp_2periods(n, 1)`, whose effect is zero; entry in period 2."""
    draw = RRandom(seed)
    z = _covariates(draw, n)
    slopes = [[-1, 0.5, -0.25, -0.1], [-0.5, 2, 0.5, -0.2], [3, -1.5, 0.75, -0.3]]
    odds = np.exp(z @ np.array(slopes).T * [0.2, 0.2, 0.05])
    upto = np.cumsum(odds / (1 + odds.sum(axis=1, keepdims=True)), axis=1)
    kind = (draw.runif(n)[:, None] > upto).sum(axis=1)
    state, eligible = kind // 2, kind % 2
    high = 210 + z @ np.array([27.4, 13.7, 13.7, 13.7])
    trend = np.where(state == 1, high, 210 + z @ np.array([6.85, 3.43, 3.43, 3.43]))
    level = eligible * trend + draw.rnorm(n)
    before = trend + level + draw.rnorm(n)
    without, with_ = (2 * trend + level + draw.rnorm(n) for _ in range(2))
    after = np.where(state * eligible == 1, with_, without)
    return _long(np.column_stack([before, after]), z, 2 * state, eligible, draw.sample(50, n))


def panel(frame: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame.assign(entry=frame["state"].where(frame["state"] > 0)), unit="id", period="time",
        cohort="entry", strata=["eligible"], **options,
    )  # fmt: skip


def fit(frame: pd.DataFrame, vcov: str = "CR0", ssc: SSC | None = None, **options) -> vbc.Estimates:
    design = vbc.Design(outcome="y", comparison=options.pop("comparison", "not_yet_treated"))
    effect = options.pop("effect", "group_time")
    estimator = vbc.did.TripleDifference(by="eligible", effect=effect)
    return estimator.fit(panel(frame, **options), design, vcov=vcov, ssc=ssc)


def adjusted(frame: pd.DataFrame, g: int, method: str = "dr", *, never: int = 0, **options):
    """
    Return effects of cohort g given covariates: three comparisons of its eligible units.

    With those of the cohort that are not eligible, with eligible ones of another, and less that with
    those of another that are not eligible: all at the covariates of the eligible units.
    """
    design = vbc.Design(outcome="y", covariates=COVARIATES, base_period="universal")
    mine = (frame["state"] == g) & (frame["eligible"] == 1)
    parts = []
    for state, eligible in ((g, 0), (never, 1), (never, 0)):
        rows = frame[mine | ((frame["state"] == state) & (frame["eligible"] == eligible))]
        made = vbc.Panel.from_frame(
            rows.assign(entry=np.where(mine[rows.index], float(g), np.nan)), unit="id",
            period="time", cohort="entry", **options,
        )  # fmt: skip
        parts.append(vbc.did.GroupTime(method=method).fit(made, design, vcov="CR0"))
    n = len(parts[0].frame)
    times = parts[0].frame["period"]
    return vbc.stack(parts, labels=["own", "eligible", "neither"]).contrast(
        {f"{g} in {t:g}": {i: 1.0, n + i: 1.0, 2 * n + i: -1.0} for i, t in enumerate(times)}
    )


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return staggered(1234, 500)


def test_simulated_data_are_those_of_r(frame) -> None:
    first = [1371.1923, 1690.9157, 2034.5661, 934.0812, 1189.5495, 1444.1072]
    np.testing.assert_allclose(frame["y"][:6], first, atol=5e-5)
    assert frame["group"][[0, 3]].tolist() == [27, 45]
    units = frame.drop_duplicates("id")
    assert units["state"].value_counts().to_dict() == {3: 198, 2: 195, 0: 107}
    two = two_periods(1234, 500)
    np.testing.assert_allclose(two["y"][:4], [216.3097, 430.9374, 186.5831, 375.9393], atol=5e-5)
    sizes = two.drop_duplicates("id").groupby(["state", "eligible"]).size()
    assert sizes.tolist() == [120, 116, 133, 131]


def test_effects_given_covariates_printed_by_triplediff(frame) -> None:
    """`est_method = "dr"`, never treated; errors without a factor."""
    est = adjusted(frame, 2)
    np.testing.assert_allclose(est.estimate, [0, 10.4901, 20.5986], atol=5e-5)
    np.testing.assert_allclose(est.std_error[1:], [0.3613, 0.3868], atol=5e-5)
    est = adjusted(frame, 3)
    np.testing.assert_allclose(est.estimate, [-0.4593, 0, 24.5983], atol=5e-5)
    np.testing.assert_allclose(est.std_error[[0, 2]], [0.3660, 0.3333], atol=5e-5)


@pytest.mark.parametrize(("n", "effect", "error"), [(500, 0.0439, 0.2626), (5000, -0.0780, 0.0828)])
def test_two_periods_printed_by_triplediff(n, effect, error) -> None:
    """In two periods R divides by n - 1: the factor of clusters, on units."""
    est = adjusted(two_periods(1234, n), 2)
    assert est.estimate[1] == pytest.approx(effect, abs=5e-5)
    assert est.std_error[1] * np.sqrt(n / (n - 1)) == pytest.approx(error, abs=5e-5)


def test_cohorts_not_yet_treated_printed_by_triplediff(frame) -> None:
    """
    The two comparisons of cohort 2 in period 2, combined with the least variance (GMM).

    R takes the covariance of influence with divisor n - 1, as in two periods.
    """
    both = vbc.stack([adjusted(frame, 2), adjusted(frame, 2, never=3)], labels=["never", "later"])
    pair = [1, len(both.frame) // 2 + 1]
    values, inverse = both.estimate[pair], np.linalg.inv(both.vcov()[np.ix_(pair, pair)])
    assert values @ inverse.sum(axis=0) / inverse.sum() == pytest.approx(10.1894, abs=5e-5)
    error = inverse.sum() ** -0.5 * np.sqrt(500 / 499)
    assert error == pytest.approx(0.2759, abs=5e-5)
    # moderndid prints all digits
    assert error == pytest.approx(0.2759406904214339, rel=1e-7)


def test_event_time_printed_by_triplediff_weighs_by_whole_cohorts(frame) -> None:
    """R weighs cohorts by all their units, ours by treated ones, of which the effect is."""
    both = vbc.stack([adjusted(frame, 2), adjusted(frame, 3)], labels=["2", "3"])
    rows = [1, 5]
    psi = both.influence().sort_index().to_numpy()[:, rows]
    units = frame.drop_duplicates("id")
    inside = np.column_stack([units["state"] == g for g in (2, 3)]).astype(float)
    share = inside.sum(axis=0) / inside.sum()
    value = both.estimate[rows] @ share
    moves = inside @ (both.estimate[rows] - value) / inside.sum()
    assert value == pytest.approx(17.5980, abs=5e-5)
    assert np.linalg.norm(psi @ share + moves) == pytest.approx(0.4095, abs=5e-5)
    plain = fit(frame, comparison="never_treated")
    at = plain.frame["event_time"] == 0
    treated = units[units["eligible"] == 1].groupby("state").size()[[2, 3]].to_numpy()
    ours = plain.aggregate("event_time").frame.set_index("event_time")["estimate"][0.0]
    assert ours == pytest.approx(np.average(plain.estimate[at], weights=treated), rel=1e-12)
    assert treated.tolist() != [195, 198]


def test_regression_within_strata_is_not_the_triple_difference(frame) -> None:
    """Adjusting each stratum at its own covariates and subtracting misses the effect of 10."""
    options = {"covariates": COVARIATES, "comparison": "never_treated"}
    large = staggered(1234, 5000)
    est = vbc.did.GroupTime(method="dr").fit(panel(large), vbc.Design(outcome="y", **options))
    rows = est.frame[(est.frame["cohort"] == 2) & (est.frame["period"] == 2)]
    by = rows.set_index("stratum")["estimate"]
    assert by["eligible=1"] - by["eligible=0"] < 6
    assert adjusted(large, 2).estimate[1] == pytest.approx(10, abs=0.4)


def test_never_treated_of_two_python_packages(frame) -> None:
    """moderndid and diff-diff, without covariates: equal to 1e-12 of each other."""
    est = fit(frame, comparison="never_treated")
    live = est.frame["period"] != est.frame["cohort"] - 1
    np.testing.assert_allclose(
        est.estimate[live],
        [-27.56162172456397, -55.236757755906666, 12.007868576280487, 12.23609728972103], rtol=1e-11,
    )  # fmt: skip
    np.testing.assert_allclose(
        est.std_error[live],
        [12.47978640979371, 24.940162294421757, 12.657904470622647, 12.64085065693942], rtol=1e-11,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["dr", "reg"])
def test_covariates_of_moderndid(frame, method) -> None:
    values, errors = {
        "dr": ([10.490079100882738, 20.598630871779875, -0.4593462942902136, 24.598257143603533],
               [0.3613219966299581, 0.3868052377749143, 0.3660106283120206, 0.3332924793225945]),
        "reg": ([10.373911233720591, 20.44664935194018, -0.4900427344089024, 24.73804727159542],
                [0.3689821294404506, 0.3586216697190134, 0.3727794385224656, 0.3671872044456983]),
    }[method]  # fmt: skip
    both = vbc.stack([adjusted(frame, g, method) for g in (2, 3)], labels=["2", "3"])
    rows = [1, 2, 3, 5]
    np.testing.assert_allclose(both.estimate[rows], values, rtol=1e-7)
    np.testing.assert_allclose(both.std_error[rows], errors, rtol=1e-7)


LM = {
    # weights, cluster: estimates of (2,2), (2,3), (3,1), (3,3), then errors of vcovCL(type="HC0")
    (None, "id"): (
        [-27.56162172456397, -55.236757755906666, 12.007868576280487, 12.23609728972103],
        [12.47978640979522, 24.94016229442193, 12.65790447062359, 12.64085065693871],
    ),
    (None, "group"): (
        [-27.56162172456397, -55.236757755906666, 12.007868576280487, 12.23609728972103],
        [11.79599974140036, 23.50688750322691, 10.86921331201316, 10.77720324483005],
    ),
    ("w", "id"): (
        [-24.842076083202841, -49.599988905714845, 14.702044928585581, 9.520181545091448],
        [13.80784040042681, 27.62159640776599, 14.44699395004668, 14.46453560854184],
    ),
    ("w", "group"): (
        [-24.842076083202841, -49.599988905714845, 14.702044928585581, 9.520181545091448],
        [13.66463841089489, 27.30970150624293, 12.18487135541333, 12.10734024088223],
    ),
}


@pytest.mark.parametrize("case", LM, ids=str)
def test_weights_and_clusters_of_r(frame, case) -> None:
    """R lm with dummies of units, period by stratum, cohort by period; vcovCL(cadjust=FALSE)."""
    weight, cluster = case
    est = fit(frame, comparison="never_treated", weight=weight, cluster=cluster)
    live = est.frame["period"] != est.frame["cohort"] - 1
    np.testing.assert_allclose(est.estimate[live], LM[case][0], rtol=1e-11)
    np.testing.assert_allclose(est.std_error[live], LM[case][1], rtol=1e-11)


@pytest.mark.parametrize(
    ("cluster", "ssc", "error", "errors"),
    [
        ("id", SSC.none(), 8.825860453764307,
         [10.36962795276413, 22.90275802024383, 18.96539350875316]),
        ("group", SSC.none(), 7.619772274935607,
         [10.32760986749227, 21.98526795600580, 16.20726176718978]),
        ("id", SSC.statsmodels(), 10.86565158731397, None),
        ("group", SSC.statsmodels(), 9.466576384623179, None),
    ],
)  # fmt: skip
def test_staggered_regression_of_r(frame, cluster, ssc, error, errors) -> None:
    """All untreated rows as comparison; `vcovCL(type="HC1")` counts every column, as statsmodels."""
    static = fit(frame, "CR1", ssc, cluster=cluster, effect="static")
    assert static.estimate.item() == pytest.approx(-3.615471710233115, rel=1e-11)
    assert static.std_error.item() == pytest.approx(error, rel=1e-11)
    if errors is not None:
        est = fit(frame, "CR1", ssc, cluster=cluster)
        np.testing.assert_allclose(
            est.estimate, [-19.869304148788395, -51.390598968042553, 6.232163001569844], rtol=1e-11
        )
        np.testing.assert_allclose(est.std_error, errors, rtol=1e-11)


def test_bias_reduced_errors_of_clubsandwich(frame) -> None:
    est = fit(frame, "CR2", cluster="group")
    np.testing.assert_allclose(
        est.std_error, [10.490471816403, 22.395255948532, 16.519723283885], rtol=1e-11
    )
    np.testing.assert_allclose(
        est.frame["df"], [43.912887158215, 41.578408651714, 39.603163277655], rtol=1e-11
    )


@pytest.mark.parametrize(
    ("cluster", "groups", "printed"),
    [
        ("id", 500, [10.435857629094292, 23.049035514449894, 19.086523455037746]),
        ("group", 50, [10.488588084163185, 22.327956110972213, 16.459886983533604]),
    ],
)
def test_factor_of_the_default_and_of_fixest(frame, cluster, groups, printed) -> None:
    """
    Pyfixest 0.60.0 counts all levels of cohort by period and stratum by period, as the default does.

    ``feols("y ~ d22 + d23 + d33 | id + cohort^time + eligible^time", vcov={"CRV1": cluster})``: its
    K is 17. `SSC.stata` counts 12: three effects, one for the units, and the eight columns that units
    leave.
    """
    plain = fit(frame, cluster=cluster).std_error
    factor = groups / (groups - 1) * (1500 - 1)
    # effects are eliminated by iteration there
    np.testing.assert_allclose(printed, plain * np.sqrt(factor / (1500 - 17)), rtol=5e-8)
    for ssc, count in ((None, 17), (SSC.stata(), 12)):
        ours = fit(frame, "CR1", cluster=cluster, ssc=ssc).std_error
        np.testing.assert_allclose(ours, plain * np.sqrt(factor / (1500 - count)), rtol=1e-11)


def test_comparison_is_within_each_later_cohort() -> None:
    """
    Trends of cohorts and shares of eligible units differ, and the effect is still exact.

    Pooling cohorts that are not yet treated into one comparison would mix their trends.
    """
    rows = []
    for g, shares in ((2, (3, 1)), (3, (1, 4)), (0, (2, 5))):
        for eligible, count in enumerate(shares):
            for i in range(count):
                for t in (1, 2, 3):
                    effect = 7.0 * eligible * (0 < g <= t)
                    y = 5 * i + g * t**2 + 3 * eligible * t + effect
                    rows.append((f"{g}{eligible}{i}", g, eligible, t, y))
    data = pd.DataFrame(rows, columns=["id", "state", "eligible", "time", "y"])
    np.testing.assert_allclose(fit(data).estimate, 7.0, atol=1e-10)
