"""Switching against loops over groups, against GroupTime, and under changes that must not matter."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort"}


def draw(seed: int, *, units: int = 90, periods: int = 7, drop: float = 0.0) -> pd.DataFrame:
    """Draw treatments that rise, fall and return, from a start of 0, 1 or 2."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(units):
        start = float(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))
        dose = np.full(periods, start)
        if rng.random() < 0.7:
            f = rng.integers(1, periods)
            dose[f:] = rng.choice([x for x in (0.0, 1.0, 2.0, 3.0) if x != start])
            if rng.random() < 0.4:
                dose[rng.integers(f, periods) :] = start
        x = np.cumsum(rng.standard_normal(periods))
        y = (
            rng.standard_normal() + 0.3 * np.arange(periods) + 0.4 * x + dose
            + 0.2 * np.cumsum(dose - start) + rng.standard_normal(periods)
        )  # fmt: skip
        w = np.exp(0.3 * rng.standard_normal(periods))
        for t in range(periods):
            if rng.random() >= drop or t == 0:
                rows.append((f"u{i:03d}", f"c{i // 2:02d}", t, dose[t], y[t], x[t], w[t], i % 2))
    columns = ["unit", "cluster", "period", "dose", "y", "x", "w", "half"]
    return pd.DataFrame(rows, columns=columns).assign(cohort=np.nan)


def fit(frame: pd.DataFrame, design: dict | None = None, *, vcov: str = "recentred",
        cluster: str | None = None, weight: str | None = "w", dose: str | None = "dose",
        **options):  # fmt: skip
    panel = vbc.Panel.from_frame(frame, **KEYS, cluster=cluster, weight=weight)
    return vbc.did.Switching(dose=dose, **options).fit(
        panel, vbc.Design(outcome="y", **(design or {})), vcov=vcov
    )


def read(frame: pd.DataFrame) -> dict:
    """Groups as the paper names them: D, F, S and outcomes by period."""
    out = {}
    for unit, rows in frame.groupby("unit"):
        rows = rows.set_index("period")
        d, start = rows["dose"], rows["dose"].iloc[0]
        both = ((d > start).cummax()) & ((d < start).cummax())
        rows, d = rows[~both], d[~both]
        change = d[d != start]
        first = change.index[0] if len(change) else 10_000
        out[unit] = {
            "start": start, "first": first, "y": rows["y"].to_dict(), "w": rows["w"].to_dict(),
            "dose": d.to_dict(), "sign": np.sign(change.sum() - start * len(change))
            if len(change) else 0.0,
        }  # fmt: skip
    return out


def effect_of(groups: dict, unit: str, horizon: int, *, placebo: bool) -> float | None:
    """One switcher's outcome change minus the weighted mean of its comparison."""
    own = groups[unit]
    t = own["first"] - 1 + horizon
    late, early = (t - 2 * horizon, t - horizon) if placebo else (t, t - horizon)

    def change(g: dict) -> float | None:
        needed = (late, early, t, t - horizon)
        return g["y"][late] - g["y"][early] if all(p in g["y"] for p in needed) else None

    if change(own) is None:
        return None
    rest = [
        (g["w"][t], change(g)) for g in groups.values()
        if g["start"] == own["start"] and g["first"] > t and change(g) is not None
    ]  # fmt: skip
    if not rest:
        return None
    weights, changes = np.array(rest).T
    return own["sign"] * (change(own) - weights @ changes / weights.sum())


@pytest.mark.parametrize("seed", [1, 2])
def test_effects_placebos_and_total_by_loops(seed) -> None:
    frame = draw(seed)
    groups = read(frame)
    found = fit(frame, effects=4, placebos=2)
    table = found.frame[found.frame["switchers"] == "both"].set_index("horizon")
    numerator = denominator = 0.0
    for horizon in (-2, -1, 1, 2, 3, 4):
        effects, weights, doses = [], [], []
        for unit, own in groups.items():
            if own["first"] == 10_000:
                continue
            value = effect_of(groups, unit, abs(horizon), placebo=horizon < 0)
            if value is None:
                continue
            t = own["first"] - 1 + abs(horizon)
            effects.append(value)
            weights.append(own["w"][t])
            doses.append(own["sign"] * (own["dose"][t] - own["start"]))
        row = table.loc[horizon]
        assert row["estimate"] == pytest.approx(np.average(effects, weights=weights), abs=1e-10)
        assert row["n_treated"] == len(effects)
        if horizon > 0:
            numerator += np.dot(effects, weights)
            denominator += np.dot(doses, weights)
    assert found.overall().estimate.item() == pytest.approx(numerator / denominator, abs=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"normalised": True}, {"same_switchers": True}, {"linear_trends": True},
        {"trends": "half"}, {"switchers": "out"},
        {"design": {"covariates": ["x"]}}, {"design": {"comparison": "never_treated"}},
    ],
    ids=str,
)  # fmt: skip
def test_influence_is_the_derivative_by_weights(options) -> None:
    """Also of normalised effects, slopes of covariates and the total."""
    frame = draw(3, units=80)
    options = {"effects": 2, "placebos": 1, **options}

    def estimate(data: pd.DataFrame) -> vbc.Estimates:
        return fit(data, vcov="CR0", cluster="cluster", **options)

    found = estimate(frame)
    labels = sorted(frame["cluster"].unique())
    checked = 0
    for label in labels[:: len(labels) // 6]:
        inside = frame["cluster"] == label
        up, down = (
            estimate(frame.assign(w=frame["w"] * np.where(inside, 1 + h, 1.0)))
            for h in (1e-5, -1e-5)
        )
        slope = (up.estimate - down.estimate) / 2e-5
        own = found.influence()
        psi = own.loc[label].to_numpy() if label in own.index else np.zeros(len(found))
        np.testing.assert_allclose(psi, slope, atol=2e-8)
        checked += 1
    assert checked >= 6
    np.testing.assert_allclose(found.influence().sum(), 0.0, atol=1e-9)


def path_of(group: dict, size: int) -> tuple:
    """Start, first change, and so many treatments from it on."""
    first, dose = group["first"], group["dose"]
    return (group["start"], first, *(dose.get(first + k, dose[first]) for k in range(size)))


def depths(groups: dict, horizon: int, cohorts: str) -> dict[str, int]:
    """How many treatments since the first change tell a group's cohort apart."""
    changing = {u: g for u, g in groups.items() if g["first"] < 10_000}
    if cohorts == "start":
        return dict.fromkeys(changing, 1)
    shared = {n: Counter(path_of(g, n) for g in changing.values()) for n in (1, horizon)}
    return {
        u: next((n for n in (horizon, 1) if shared[n][path_of(g, n)] > 1), 0)
        for u, g in changing.items()
    }


def cohort_variance(frame: pd.DataFrame, horizon: int, cohorts: str) -> float:
    """The authors' variance of one effect by loops: deviations from cohort means, n / (n - 1)."""
    groups = read(frame)
    depth = depths(groups, horizon, cohorts)
    units = list(groups)
    parts: dict[str, float] = dict.fromkeys(units, 0.0)
    total = {1.0: 0.0, -1.0: 0.0}
    switchers, waiting = [], {}
    for unit, own in groups.items():
        if own["first"] == 10_000 or effect_of(groups, unit, horizon, placebo=False) is None:
            continue
        t = own["first"] - 1 + horizon
        total[own["sign"]] += own["w"][t]
        switchers.append(unit)
    everything = sum(total.values())
    for sign in (1.0, -1.0):
        mine = [u for u in switchers if groups[u]["sign"] == sign]
        cells = {(groups[u]["start"], groups[u]["first"] - 1 + horizon) for u in mine}
        for start, t in cells:

            def change(u, t=t):
                return groups[u]["y"][t] - groups[u]["y"][t - horizon]

            rest = [
                u for u in units
                if groups[u]["start"] == start and groups[u]["first"] > t
                and t in groups[u]["y"] and t - horizon in groups[u]["y"]
            ]  # fmt: skip
            here = [
                u for u in mine
                if groups[u]["start"] == start and groups[u]["first"] - 1 + horizon == t
            ]  # fmt: skip
            mass = sum(groups[u]["w"][t] for u in here)
            waiting = sum(groups[u]["w"][t] for u in rest)
            for u in rest + here:
                pool, share = rest, -mass / waiting
                if u in here:
                    own, share = path_of(groups[u], depth[u]), 1.0
                    pool = [v for v in here if path_of(groups[v], depth[u]) == own]
                pool = pool if len(pool) >= 2 else rest + here
                w = np.array([groups[v]["w"][t] for v in pool])
                gap = change(u) - w @ [change(v) for v in pool] / w.sum()
                factor = np.sqrt(len(pool) / (len(pool) - 1))
                parts[u] += sign * share * groups[u]["w"][t] / everything * factor * gap
    return float(np.sqrt(sum(v**2 for v in parts.values())))


def test_the_authors_variance_by_loops() -> None:
    """Paths tell cohorts of effects apart, not of placebos: there R takes those of the start."""
    frame = draw(4, units=110)
    errors = {}
    for cohorts in ("start", "path"):
        found = fit(frame, effects=3, placebos=2, cohorts=cohorts)
        table = found.where(switchers="both", estimand="att_event_time")
        errors[cohorts] = dict(zip(table.frame["horizon"], table.std_error, strict=True))
        for horizon in (1, 2, 3):
            wanted = cohort_variance(frame, horizon, cohorts)
            assert errors[cohorts][horizon] == pytest.approx(wanted, rel=1e-9)
    for horizon in (-2, -1):
        assert errors["path"][horizon] == errors["start"][horizon]
    assert errors["path"][3] != pytest.approx(errors["start"][3], rel=1e-3)


def test_without_exit_it_is_group_time_by_event_time(make_frame) -> None:
    frame = make_frame(51, units=60, periods=6, cohorts=(2.0, 3.0, 4.0, np.nan))
    panel = vbc.Panel.from_frame(frame, **KEYS, cluster="cluster", weight="w")
    for comparison in ("not_yet_treated", "never_treated"):
        design = vbc.Design(outcome="y", comparison=comparison)
        found = vbc.did.Switching().fit(panel, design, vcov="CR0")
        direct = vbc.did.GroupTime(method="reg").fit(panel, design, vcov="CR0")
        average = direct.aggregate("event_time").where("event_time >= 0")
        part = found.where("event_time >= 0")
        np.testing.assert_allclose(part.estimate, average.estimate, atol=1e-11)
        np.testing.assert_allclose(part.influence(), average.influence(), atol=1e-12)


def test_placebos_are_long_differences_of_the_same_comparison(make_frame) -> None:
    """One cohort: the universal base of GroupTime, mirrored."""
    frame = make_frame(52, units=40, periods=7, cohorts=(4.0, np.nan))
    panel = vbc.Panel.from_frame(frame, **KEYS, weight="w")
    found = vbc.did.Switching().fit(panel, vbc.Design(outcome="y"))
    direct = vbc.did.GroupTime(method="reg").fit(
        panel, vbc.Design(outcome="y", base_period="universal")
    )
    both = found.frame.merge(direct.frame, on="event_time", suffixes=("", "_direct"))
    both = both[both["event_time"] != -1]
    assert len(both) == 6
    np.testing.assert_allclose(both["estimate"], both["estimate_direct"], atol=1e-11)


def test_exit_of_the_panel_is_the_treatment_column(make_frame) -> None:
    frame = make_frame(53, units=60, periods=7, cohorts=(2.0, 3.0, np.nan))
    frame["exit"] = np.where(frame["unit"].str[-1].isin(list("02468")), frame["cohort"] + 1, np.nan)
    on = (frame["period"] >= frame["cohort"]) & ~(frame["period"] > frame["exit"])
    frame["dose"] = on.astype(float)
    panel = vbc.Panel.from_frame(frame, **KEYS, exit="exit", weight="w")
    design = vbc.Design(outcome="y")
    by_exit = vbc.did.Switching().fit(panel, design)
    by_dose = vbc.did.Switching(dose="dose").fit(panel, design)
    np.testing.assert_allclose(by_exit.estimate, by_dose.estimate)
    np.testing.assert_allclose(by_exit.std_error, by_dose.std_error)
    moments = vbc.Moments.from_panel(panel, outcomes=["y"])
    again = vbc.did.Switching().fit(moments, design)
    np.testing.assert_allclose(again.estimate, by_exit.estimate, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"normalised": True}, {"design": {"covariates": ["x"]}}],
                         ids=str)  # fmt: skip
def test_what_must_not_matter(options) -> None:
    frame = draw(5, drop=0.05)
    one = fit(frame, effects=3, placebos=1, **options)
    bump = np.array([0.0, 5.0, -3.0, 2.0, 7.0, 1.0, 4.0])[frame["period"]]
    level = dict(zip(frame["unit"].unique(), range(999), strict=False))
    shifted = frame.assign(y=-2.0 * (frame["y"] + bump + frame["unit"].map(level)))
    moved = fit(shifted.sample(frac=1.0, random_state=1), effects=3, placebos=1, **options)
    np.testing.assert_allclose(moved.estimate, -2.0 * one.estimate, atol=1e-8)
    np.testing.assert_allclose(moved.std_error, 2.0 * one.std_error, rtol=1e-7)
    turned = fit(frame.assign(dose=10.0 - frame["dose"]), effects=3, placebos=1, **options)
    names = {"in": "out", "out": "in", "both": "both"}
    keys = ["horizon", "switchers"]
    a = one.frame.assign(switchers=one.frame["switchers"].map(names)).set_index(keys)["estimate"]
    b = turned.frame.set_index(keys)["estimate"]
    # every rise is a fall of the mirrored treatment, so the signs of effects turn
    np.testing.assert_allclose(b.loc[a.index].to_numpy(), -a.to_numpy(), atol=1e-9)


def test_rows_of_a_cluster_are_averaged() -> None:
    """Cross-sections: the group is the cluster, and its rows are means by weight."""
    frame = draw(6).drop(columns="cluster")
    rng = np.random.default_rng(0)
    rows = frame.loc[frame.index.repeat(3)].reset_index(drop=True)
    shift = np.tile([-1.0, 0.5, 0.5], len(frame)) * np.repeat(rng.standard_normal(len(frame)), 3)
    rows = rows.assign(y=rows["y"] + shift, person=np.arange(len(rows)))
    panel = vbc.Panel.from_frame(
        rows, unit="person", cluster="unit", period="period", cohort="cohort", weight="w",
        kind="repeated_cross_section",
    )  # fmt: skip
    found = vbc.did.Switching(dose="dose", effects=3).fit(panel, vbc.Design(outcome="y"))
    one = fit(frame, effects=3)
    np.testing.assert_allclose(found.estimate, one.estimate, atol=1e-10)
    np.testing.assert_allclose(found.std_error, one.std_error, rtol=1e-9)
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=["dose"], by="cluster")
    again = vbc.did.Switching(dose="dose", effects=3).fit(moments, vbc.Design(outcome="y"))
    np.testing.assert_allclose(again.estimate, found.estimate, atol=1e-10)
    np.testing.assert_allclose(again.std_error, found.std_error, rtol=1e-9)


def test_linear_trends_of_groups_cancel() -> None:
    frame = draw(7, units=120)
    slope = dict(
        zip(frame["unit"].unique(), np.random.default_rng(3).normal(size=999), strict=False)
    )
    bent = frame.assign(y=frame["y"] + frame["unit"].map(slope) * frame["period"])
    plain, moved = (fit(f, effects=2, placebos=1, linear_trends=True) for f in (frame, bent))
    np.testing.assert_allclose(moved.estimate, plain.estimate, atol=1e-9)
    assert not np.allclose(fit(bent, effects=2).estimate, fit(frame, effects=2).estimate)
    assert plain.frame["horizon"].notna().all()


def test_directions_average_to_both() -> None:
    found = fit(draw(8), effects=2)
    for horizon in (1.0, 2.0):
        rows = found.where(horizon=horizon)
        part = rows.frame.set_index("switchers")
        each = [fit(draw(8), effects=2, switchers=s).where(horizon=horizon) for s in ("in", "out")]
        np.testing.assert_allclose(
            part.loc[["in", "out"], "estimate"], [e.estimate.item() for e in each], atol=1e-11
        )
        low, high = sorted(part.loc[["in", "out"], "estimate"])
        assert low <= part.loc["both", "estimate"] <= high
