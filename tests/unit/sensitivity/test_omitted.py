"""Omitted variables: published numbers, regressions with the confounder, and a search."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.sensitivity import omitted_variable, robustness_value


def published(r: float = 0.0, t: float = 0.0) -> vbc.Estimates:
    """Darfur example of R sensemakr; a covariate by its correlation with treatment, and its t."""
    se, df = 0.02325654, 783.0
    frame = pd.DataFrame({
        "estimand": ["harm", "coefficient"], "outcome": "peace", "term": [None, "female"],
        "estimate": [0.09731582, t], "df": df,
    })  # fmt: skip
    return vbc.Estimates(frame=frame, covariance=np.array([[se**2, -r * se], [-r * se, 1.0]]))


def test_darfur_robustness_values() -> None:
    row = omitted_variable(published()).tidy().iloc[0]
    assert row["partial_r2"] == pytest.approx(0.02187, abs=5e-6)
    assert row["robustness_value"] == pytest.approx(0.13878, abs=5e-6)
    assert row["robustness_value_level"] == pytest.approx(0.07626, abs=5e-6)


def test_darfur_bounds_by_a_benchmark() -> None:
    """The covariate's two partial R2 are found from two printed numbers; the others follow."""

    def bounds(x: np.ndarray) -> pd.DataFrame:
        return omitted_variable(published(*np.exp(x)), benchmarks=["female"]).benchmarks

    start = np.log([0.1, 9.7])
    x = optimize.fsolve(
        lambda x: [bounds(x)["t"][0] - 3.4389, bounds(x)["r2_outcome"][2] - 0.3741], start
    )
    found = bounds(x)
    printed = {
        "r2_treatment": [0.0092, 0.0183, 0.0275], "r2_outcome": [0.1246, 0.2493, 0.3741],
        "estimate": [0.0752, 0.0529, 0.0304], "std_error": [0.0219, 0.0204, 0.0187],
        "conf_low": [0.0323, 0.0130, -0.0063], "conf_high": [0.1182, 0.0929, 0.0670],
    }  # fmt: skip
    for name, values in printed.items():
        np.testing.assert_allclose(found[name], values, atol=6e-5)
    np.testing.assert_allclose(found["t"], [3.4389, 2.6002, 1.6281], atol=6e-4)


def least_squares(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    left, df = y - x @ beta, len(y) - x.shape[1]
    vcov = left @ left / df * np.linalg.inv(x.T @ x)
    return beta, np.sqrt(np.diag(vcov)), left, df


def test_adjusted_is_the_regression_with_the_confounder() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(60), rng.normal(size=60)])
    z = rng.normal(size=60)
    d = x @ [1.0, 0.5] + 0.6 * z + rng.normal(size=60)
    y = 1.0 * d + 0.9 * z + rng.normal(size=60)
    beta, se, _, df = least_squares(y, np.column_stack([d, x]))
    long, long_se, _, _ = least_squares(y, np.column_stack([d, x, z]))

    def explained(of: np.ndarray, by: np.ndarray, rest: np.ndarray) -> float:
        a, b = (least_squares(v, rest)[2] for v in (of, by))
        return float((a @ b) ** 2 / (a @ a * (b @ b)))

    frame = pd.DataFrame(
        {"estimand": ["d"], "outcome": ["y"], "estimate": beta[:1], "df": [float(df)]}
    )
    est = vbc.Estimates(frame=frame, covariance=np.array([[se[0] ** 2]]))
    found = omitted_variable(est).adjusted(
        r2_treatment=explained(d, z, x), r2_outcome=explained(y, z, np.column_stack([d, x]))
    )
    assert found["estimate"][0] == pytest.approx(long[0], rel=1e-10)
    assert found["std_error"][0] == pytest.approx(long_se[0], rel=1e-10)
    assert found["df"][0] == df - 1


def test_a_benchmark_comes_from_the_fit_itself() -> None:
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"aco": np.repeat(np.arange(14), 4), "year": np.tile(np.arange(4), 14)})
    rows["entry"] = np.where(rows["aco"] < 6, 2.0, np.nan)
    d = (rows["year"] >= rows["entry"]).to_numpy(dtype=float)
    rows["hcc"], rows["age"] = rng.normal(size=56) + 0.5 * d, rng.normal(size=56)
    rows["spend"] = 0.2 * rows["hcc"] - 2 * d + rng.normal(size=56)
    data = vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry")
    est = vbc.did.TWFE(covariate_rows=True).fit(
        data, vbc.Design(outcome="spend", covariates=["hcc", "age"]), vcov="iid"
    )
    found = omitted_variable(est, benchmarks=["hcc"], k=[1.0]).benchmarks.iloc[0]
    effects = pd.get_dummies(rows[["aco", "year"]].astype(str), dtype=float).drop(columns="year_0")
    base = np.column_stack([rows["age"], effects])
    rest = np.column_stack([rows["hcc"], base])
    _, _, left, df = least_squares(rows["spend"].to_numpy(), np.column_stack([d, rest]))
    without_hcc = least_squares(rows["spend"].to_numpy(), np.column_stack([d, base]))[2]
    outcome = 1 - left @ left / (without_hcc @ without_hcc)
    with_hcc, without = (least_squares(d, z)[2] for z in (rest, base))
    treatment = 1 - with_hcc @ with_hcc / (without @ without)
    assert est.frame["df"][0] == df
    assert found["r2_treatment"] == pytest.approx(treatment / (1 - treatment))
    shared = treatment**2 / (1 - treatment) ** 2
    hand = (1 + np.sqrt(shared)) ** 2 / (1 - shared) * outcome / (1 - outcome)
    assert found["r2_outcome"] == pytest.approx(hand)
    with pytest.raises(DesignError, match="`dual` is no covariate"):
        omitted_variable(est, benchmarks=["dual"])
    with pytest.raises(DesignError, match="would explain all of treatment"):
        omitted_variable(est, benchmarks=["hcc"], k=[1e6])
    with pytest.raises(DesignError, match="errors are 'CR1'"):
        omitted_variable(vbc.did.TWFE().fit(data, vbc.Design(outcome="spend")))


@pytest.mark.parametrize(
    ("t", "df", "q"), [(4.2, 783, 1.0), (2.5, 30, 0.5), (9.0, 6, 1.0), (1, 9, 1), (1.5, 2, 1)]
)
def test_the_robustness_value_is_the_weakest_confounder_that_does_it(t, df, q) -> None:
    """Search over strengths in treatment and outcome up to a share; the third case has few rows."""
    critical = stats.t.ppf(0.975, df - 1)

    def moved(share: float, *, level: bool) -> float:
        y = np.linspace(0, share, 4001)
        bias = np.sqrt(df * y * share / (1 - share))
        error = np.sqrt((1 - y) / (1 - share) * df / (df - 1)) * level
        return float((bias + critical * error).max() - q * t)

    for level in (None, 0.95):
        found = float(robustness_value(np.array([t]), np.array([df]), q=q, level=level)[0])
        if moved(0.0, level=level is not None) > 0:
            assert found == 0
            continue
        hand = optimize.brentq(lambda s, on=level: moved(s, level=on is not None), 0, 1 - 1e-9)
        assert found == pytest.approx(hand, abs=2e-4)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DesignError, match="a probability"):
        omitted_variable(published(), level=1.2)
    t, df = np.array([2.0]), np.array([20.0])
    for wrong in ({"q": -1.0}, {"q": np.nan}, {"level": 95}):
        with pytest.raises(DesignError, match="a number above zero, a probability"):
            robustness_value(t, df, **wrong)
    with pytest.raises(DesignError, match="`df` holds"):
        robustness_value(t, np.ones(1), level=0.95)
    with pytest.raises(DesignError, match="shares, the first below 1"):
        omitted_variable(published()).adjusted(r2_treatment=1.0, r2_outcome=0.5)
    without = vbc.Estimates(
        frame=pd.DataFrame({"estimand": ["a"], "outcome": ["y"], "estimate": [1.0]}),
        covariance=np.eye(1),
    )
    with pytest.raises(DesignError, match="Give column `df`"):
        omitted_variable(without)
