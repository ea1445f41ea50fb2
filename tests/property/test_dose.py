"""Dose curves against regressions written out, GroupTime, and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "cluster": "cluster", "weight": "w"}


def with_dose(frame: pd.DataFrame, seed: int, levels: int | None = None) -> pd.DataFrame:
    """Add a dose of each unit that enters, and an effect that bends in it."""
    rng = np.random.default_rng(seed)
    units = frame["unit"].unique()
    drawn = rng.uniform(0.2, 2.0, len(units))
    if levels is not None:
        drawn = 0.5 * (1 + np.arange(len(units)) // 6 % levels)
    dose = frame["unit"].map(dict(zip(units, drawn, strict=True)))
    dose = np.where(frame["cohort"].notna(), dose, 0.0)
    after = frame["period"] >= frame["cohort"]
    return frame.assign(share=dose, y=frame["y"] + after * (dose**2 - 0.5 * dose))


def fit(frame: pd.DataFrame, design: dict | None = None, *, vcov: str = "CR0", **options):
    panel = vbc.Panel.from_frame(frame, **KEYS)
    return vbc.did.Dose(dose="share", **options).fit(
        panel, vbc.Design(outcome="y", **(design or {})), vcov=vcov
    )


def written_out(frame: pd.DataFrame, degree: int, grid: list[float], x: list[str]) -> dict:
    """Level and slope of each cohort and period: a polynomial by least squares on rows."""
    out = {}
    frame = frame.assign(cohort=frame["cohort"].fillna(np.inf)).set_index("unit")
    periods = sorted(frame["period"].unique())
    for g in sorted(set(frame["cohort"]) - {np.inf}):
        for t in [p for p in periods if p >= g]:
            base, now = frame[frame["period"] == g - 1], frame[frame["period"] == t]
            both = base.join(now["y"].rename("y_now"), how="inner")
            both["dy"] = both["y_now"] - both["y"]
            on, off = both[both["cohort"] == g], both[both["cohort"] > t]

            def least_squares(data, columns):
                root = np.sqrt(data["w"].to_numpy())
                return np.linalg.lstsq(
                    columns * root[:, None], data["target"].to_numpy() * root, rcond=None
                )[0]

            z = np.column_stack([np.ones(len(off)), off[x]])
            beta = least_squares(off.assign(target=off["dy"]), z)
            target = on["dy"] - np.column_stack([np.ones(len(on)), on[x]]) @ beta
            powers = np.vander(on["share"], degree + 1, increasing=True)
            theta = np.polynomial.Polynomial(least_squares(on.assign(target=target), powers))
            out[g, t] = {
                "level": theta(np.array(grid)), "slope": theta.deriv()(np.array(grid)),
                "mean level": np.average(theta(on["share"]), weights=on["w"]),
                "mean slope": np.average(theta.deriv()(on["share"]), weights=on["w"]),
            }  # fmt: skip
    return out


@pytest.mark.parametrize("x", [[], ["x"]])
@pytest.mark.parametrize("estimand", ["level", "slope"])
@pytest.mark.parametrize("average", ["cohort", "simple"])
def test_curve_and_mean_by_definition(make_frame, x, estimand, average) -> None:
    frame = with_dose(make_frame(61, units=150, missing=0.05, cohorts=(2.0, 3.0, np.nan)), 61)
    grid = [0.4, 1.0, 1.7]
    cells = written_out(frame, 2, grid, x)
    first = frame.sort_values("period").drop_duplicates("unit")
    size = first.groupby("cohort")["w"].sum()
    weight = {}
    for g, t in cells:
        periods = sum(1 for h, _ in cells if h == g)
        weight[g, t] = size[g] / (periods if average == "cohort" else 1)
    total = sum(weight.values())
    expected = sum(weight[c] / total * np.append(v[estimand], v[f"mean {estimand}"])
                   for c, v in cells.items())  # fmt: skip
    found = fit(frame, {"covariates": x}, degree=2, grid=grid, estimand=estimand, average=average)
    np.testing.assert_allclose(found.estimate, expected, atol=1e-9)
    assert found.frame["dose"].tolist()[:3] == grid


@pytest.mark.parametrize(
    "options",
    [
        {"degree": 2}, {"degree": 3, "knots": 2}, {"degree": 1, "knots": [0.9]},
        {"degree": 2, "average": "simple"}, {"basis": "bins"}, {"basis": "discrete"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("estimand", ["level", "slope"])
@pytest.mark.parametrize("x", [[], ["x"]])
def test_influence_is_the_derivative(make_frame, weight_derivative, options, estimand, x) -> None:
    if options.get("basis") == "bins" and estimand == "slope":
        return
    frame = make_frame(62, units=120, per_cluster=2, cohorts=(2.0, 3.0, np.nan))
    frame = with_dose(frame, 62, 3 if options.get("basis") == "discrete" else None)
    grid = None if options.get("basis") in ("bins", "discrete") else [0.5, 1.5]

    def estimate(data: pd.DataFrame) -> vbc.Estimates:
        return fit(data, {"covariates": x}, estimand=estimand, grid=grid, **options)

    found = estimate(frame)
    for label in found.clusters[:2]:
        slope = weight_derivative(estimate, frame, label)
        np.testing.assert_allclose(found.influence().loc[label], slope, atol=2e-8)


@pytest.mark.parametrize("base", ["varying", "universal"])
@pytest.mark.parametrize("comparison", ["not_yet_treated", "never_treated"])
def test_mean_level_is_the_group_time_effect(make_frame, base, comparison) -> None:
    """A curve with a constant averages to the mean change, so the doses do not matter."""
    frame = with_dose(make_frame(63, units=150), 63)
    design = {"base_period": base, "comparison": comparison, "covariates": ["x"]}
    found = fit(frame, design, aggregation="group_time", degree=2)
    panel = vbc.Panel.from_frame(frame, **KEYS)
    direct = vbc.did.GroupTime(method="reg").fit(
        panel, vbc.Design(outcome="y", **design), vcov="CR0"
    )
    direct = direct.where((direct.frame["period"] != direct.frame["base"]).to_numpy())
    np.testing.assert_array_equal(found.frame["period"], direct.frame["period"])
    np.testing.assert_allclose(found.estimate, direct.estimate, atol=1e-10)
    np.testing.assert_allclose(found.influence(), direct.influence(), atol=1e-11)
    for kind in ("simple", "cohort"):
        one, two = found.aggregate(kind), direct.aggregate(kind)
        np.testing.assert_allclose(one.estimate, two.estimate, atol=1e-10)
        np.testing.assert_allclose(one.std_error, two.std_error, rtol=1e-8)


def test_units_not_seen_after_entry_are_left_out(make_frame) -> None:
    frame = with_dose(make_frame(63, units=150), 63)
    lost = frame["unit"].isin(frame["unit"].unique()[:9]) & (frame["period"] >= frame["cohort"])
    unseen = frame[lost]["unit"].unique()
    assert len(unseen) == 6
    options = {"aggregation": "group_time", "degree": 2}
    design = {"comparison": "never_treated"}
    found = fit(frame[~lost], design, **options)
    alone = fit(frame[~frame["unit"].isin(unseen)], design, **options)
    np.testing.assert_allclose(found.estimate, alone.estimate, atol=1e-12)


def test_overall_is_the_average_over_cohorts(make_frame) -> None:
    frame = with_dose(make_frame(64, units=150), 64)
    for estimand in ("level", "slope"):
        curve = fit(frame, estimand=estimand, degree=2)
        pairs = fit(frame, estimand=estimand, degree=2, aggregation="group_time")
        average = pairs.aggregate("cohort").overall()
        np.testing.assert_allclose(curve.estimate[-1], average.estimate, atol=1e-12)
        np.testing.assert_allclose(curve.std_error[-1], average.std_error, rtol=1e-10)
        study = pairs.aggregate("event_time")
        assert study.frame["event_time"].min() < 0


def test_slope_is_the_derivative_of_the_level(make_frame) -> None:
    frame = with_dose(make_frame(65, units=180), 65)
    h, grid = 1e-5, np.array([0.5, 1.0, 1.6])
    options = {"degree": 3, "knots": [0.8, 1.3]}
    up, down = (fit(frame, grid=grid + s * h, **options).estimate[:-1] for s in (1, -1))
    slope = fit(frame, grid=grid, estimand="slope", **options)
    np.testing.assert_allclose(slope.estimate[:-1], (up - down) / (2 * h), rtol=1e-6)


def test_distinct_doses_are_subgroups(make_frame) -> None:
    """Saturated: each dose is GroupTime among its units, and slopes are steps between them."""
    frame = with_dose(make_frame(66, units=180, cohorts=(3.0, np.nan)), 66, levels=3)
    level = fit(frame, basis="discrete")
    doses = level.frame["dose"].dropna().to_numpy()
    assert doses.tolist() == [0.5, 1.0, 1.5]
    for dose, estimate, se in zip(doses, level.estimate, level.std_error, strict=False):
        part = frame[frame["cohort"].isna() | (frame["share"] == dose)]
        direct = vbc.did.GroupTime(method="reg").fit(
            vbc.Panel.from_frame(part, **KEYS), vbc.Design(outcome="y"), vcov="CR0"
        )
        average = direct.aggregate("cohort").overall()
        assert estimate == pytest.approx(average.estimate.item(), abs=1e-10)
        assert se == pytest.approx(average.std_error.item(), rel=1e-9)
    slope = fit(frame, basis="discrete", estimand="slope")
    steps = np.diff(level.estimate[:3], prepend=0.0) / np.diff(doses, prepend=0.0)
    np.testing.assert_allclose(slope.estimate[:3], steps, atol=1e-10)
    joint = level.vcov()[:3, :3]
    lower = (np.eye(3) - np.eye(3, k=-1)) / 0.5
    np.testing.assert_allclose(slope.vcov()[:3, :3], lower @ joint @ lower.T, rtol=1e-7, atol=1e-12)


def test_what_must_not_matter(make_frame) -> None:
    frame = with_dose(make_frame(67, units=150, missing=0.05), 67)
    one = fit(frame, degree=2, knots=1)
    bump = np.array([0.0, 5.0, -3.0, 2.0, 7.0])[frame["period"]]
    level = dict(zip(frame["unit"].unique(), range(999), strict=False))
    moved = frame.assign(
        y=-2.0 * (frame["y"] + bump + frame["unit"].map(level)), share=10.0 * frame["share"]
    )
    found = fit(moved.sample(frac=1.0, random_state=1), degree=2, knots=1)
    np.testing.assert_allclose(found.estimate, -2.0 * one.estimate, atol=1e-7)
    np.testing.assert_allclose(found.std_error, 2.0 * one.std_error, rtol=1e-6)
    slopes = [
        fit(f, degree=2, estimand="slope", grid=[0.7 * k]).estimate
        for f, k in ((frame, 1.0), (moved, 10.0))
    ]
    np.testing.assert_allclose(slopes[1], -0.2 * slopes[0], rtol=1e-6)
    # doses written in periods before entry, or for units that never enter, are not read
    noise = frame.assign(share=frame["share"].where(frame["period"] >= frame["cohort"], 77.0))
    np.testing.assert_allclose(fit(noise, degree=2, knots=1).estimate, one.estimate)


def test_the_criterion_finds_the_knot_it_needs() -> None:
    rng = np.random.default_rng(8)
    n = 900
    dose = np.where(np.arange(n) % 3 == 0, 0.0, rng.uniform(0.1, 2.0, n))
    kink = np.maximum(dose - 1.05, 0.0)
    frame = pd.DataFrame({
        "unit": np.repeat(np.arange(n), 2), "cluster": np.repeat(np.arange(n), 2), "w": 1.0,
        "period": np.tile([0, 1], n), "cohort": np.repeat(np.where(dose > 0, 1.0, np.nan), 2),
        "share": np.repeat(dose, 2),
    })  # fmt: skip
    frame["y"] = np.ravel([[0.0, 8.0 * k] for k in kink]) + 0.1 * rng.standard_normal(2 * n)
    chosen = fit(frame, degree=1, knots="bic").meta["knots"]["all"]
    assert 1 <= len(chosen) <= 5
    straight = frame.assign(y=frame["share"] * frame["period"] + 0.1 * rng.standard_normal(2 * n))
    assert fit(straight, degree=1, knots="bic").meta["knots"]["all"] == []
