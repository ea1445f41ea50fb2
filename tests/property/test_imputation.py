"""Imputation against its definition: dense least squares and the weights v, written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "cluster": "cluster", "weight": "w"}
RC = "repeated_cross_section"


def dummies(values: pd.Series) -> np.ndarray:
    return (values.to_numpy()[:, None] == np.unique(values)).astype(float)


def by_definition(
    frame: pd.DataFrame,
    x: np.ndarray,
    a: int = 0,
    *,
    leave_one_out: bool = False,
    entity: str = "unit",
) -> pd.DataFrame:
    """
    Effects and psi by cluster for each cohort and period, from v = [q, -W0 X0 (X0'W0X0)^+ X1'q].

    Rows are cohort-periods; columns ``estimate`` and one a cluster.
    """
    treated = (frame["period"] >= frame["cohort"] - a).to_numpy()
    design = np.column_stack([dummies(frame[entity]), dummies(frame["period"]), x])
    w, y = frame["w"].to_numpy(), frame["y"].to_numpy()
    x0, w0 = design[~treated], w[~treated]
    inverse = np.linalg.pinv((x0 * w0[:, None]).T @ x0, rcond=1e-11)
    effect = y - design @ (inverse @ (x0.T @ (w0 * y[~treated])))
    out = {}
    for (g, t), cell in frame[treated].groupby(["cohort", "period"]):
        rows = frame.index.get_indexer(cell.index)
        v = np.zeros(len(frame))
        v[rows] = w[rows] / w[rows].sum()
        v[~treated] = -w0 * (x0 @ (inverse @ (design[rows].T @ v[rows])))
        parts = pd.DataFrame({
            "cluster": frame["cluster"], "v": np.where(treated, v, 0.0),
            "vt": np.where(treated, v * effect, 0.0), "rest": np.where(treated, 0.0, v * effect),
        }).groupby("cluster").sum()  # fmt: skip
        typical = (parts["v"] * parts["vt"]).sum() / (parts["v"] ** 2).sum()
        own = parts["vt"] - parts["v"] * typical
        if leave_one_out:
            own /= 1 - parts["v"] ** 2 / (parts["v"] ** 2).sum()
        out[g, t] = {"estimate": v @ y, **(own + parts["rest"])}
    return pd.DataFrame(out).T


def trend_columns(frame: pd.DataFrame) -> np.ndarray:
    first = frame.sort_values("period").drop_duplicates("unit").set_index("unit")["x"]
    x = frame["unit"].map(first).to_numpy()
    return (x[:, None] * dummies(frame["period"]))[:, 1:]


CASES: dict[str, dict] = {
    "balanced": {},
    "unbalanced": {"draw": {"missing": 0.15}},
    "clusters above the unit": {"draw": {"missing": 0.1, "per_cluster": 3, "units": 60}},
    "covariates": {
        "draw": {"missing": 0.1, "time_varying": True}, "x": ["x", "z"],
    },
    "trends": {"draw": {"missing": 0.1, "time_varying": True}, "x": "trend"},
    "anticipation": {"draw": {"cohorts": (3.0, 4.0, np.nan)}, "a": 1},
    "leave one out": {
        "draw": {"missing": 0.1, "per_cluster": 2, "units": 60}, "leave_one_out": True,
    },
    "cross-sections": {
        "draw": {"units": 90, "per_cluster": 5, "time_varying": True}, "x": ["x"],
        "kind": RC, "entity": "cluster",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_effects_and_influence_follow_the_definition(name, make_frame) -> None:
    case = CASES[name]
    frame = make_frame(11, **case.get("draw", {}))
    x, a = case.get("x", []), case.get("a", 0)
    trend = x == "trend"
    columns = trend_columns(frame) if trend else frame[list(x)].to_numpy()
    expected = by_definition(
        frame, columns, a, leave_one_out=case.get("leave_one_out", False),
        entity=case.get("entity", "unit"),
    )  # fmt: skip
    panel = vbc.Panel.from_frame(frame, **KEYS, kind=case.get("kind", "panel"))
    design = vbc.Design(outcome="y", covariates=["x"] if trend else x, anticipation=a)
    est = vbc.did.Imputation(
        covariate_effect="trend" if trend else "level",
        leave_one_out=case.get("leave_one_out", False),
    ).fit(panel, design, vcov="CR0")
    keys = list(zip(est.frame["cohort"], est.frame["period"], strict=True))
    assert keys == list(expected.index)
    np.testing.assert_allclose(est.estimate, expected["estimate"], atol=1e-10)
    psi = est.influence().T.to_numpy()
    np.testing.assert_allclose(psi, expected[list(est.clusters)], atol=1e-11)
    np.testing.assert_allclose(est.vcov(), psi @ psi.T, atol=1e-14)


@pytest.mark.parametrize("kind", ["simple", "event_time", "cohort", "period"])
def test_averages_have_the_variance_of_their_own_weights(kind, make_frame) -> None:
    """Equation 8 for the average's own v, with treated effects averaged by cohort and period."""
    frame = make_frame(12, missing=0.15, per_cluster=2, units=60)
    est = vbc.did.Imputation().fit(
        vbc.Panel.from_frame(frame, **KEYS), vbc.Design(outcome="y"), vcov="CR0"
    )
    cells = by_definition(frame, np.zeros((len(frame), 0)))
    treated = frame["period"] >= frame["cohort"]
    mass = frame[treated].groupby(["cohort", "period"])["w"].sum()
    average = est.aggregate(kind)
    for row, se in zip(average.frame.itertuples(), np.sqrt(np.diag(average.vcov())), strict=True):
        weight = averaging(kind, row, mass)
        assert weight @ cells["estimate"] == pytest.approx(row.estimate, abs=1e-10)
        psi = weight @ cells[list(est.clusters)].to_numpy()
        assert np.sqrt(psi @ psi) == pytest.approx(se, rel=1e-9)


def averaging(kind: str, row, mass: pd.Series) -> np.ndarray:
    """Fixed weights of each cohort-period in an average."""
    g, t = (mass.index.get_level_values(i).to_numpy() for i in (0, 1))
    key = {"event_time": t - g, "cohort": g, "period": t}.get(kind)
    if kind == "simple":
        return (mass / mass.sum()).to_numpy()
    values = [getattr(row, kind)] if np.isfinite(getattr(row, kind)) else np.unique(key)
    out, total = np.zeros(len(mass)), 0.0
    for value in values:
        inside = key == value
        one = np.where(inside, 1.0 if kind == "cohort" else mass, 0.0)
        size = mass.to_numpy()[inside].mean() if kind == "cohort" else 1.0
        out, total = out + size * one / one.sum(), total + size
    return out / total


def test_influence_is_the_derivative_where_clusters_weigh_the_same(
    make_frame, weight_derivative
) -> None:
    """With equal treated weights the average over clusters is the effect itself."""
    frame = make_frame(13, missing=0.12, time_varying=True).assign(w=1.0)

    def fit(data: pd.DataFrame) -> vbc.Estimates:
        panel = vbc.Panel.from_frame(data, **KEYS)
        return vbc.did.Imputation().fit(panel, vbc.Design(outcome="y", covariates=["x"]))

    est = fit(frame)
    assert np.abs(est.psi.sum(axis=0)).max() < 1e-12
    size = np.abs(est.psi).max(axis=0)
    for label in ("c00", "c01", "c02"):
        gap = weight_derivative(fit, frame, label) - est.influence().loc[label].to_numpy()
        assert (np.abs(gap) / size).max() < 1e-7


@pytest.mark.parametrize("strata", [(), ("site",)])
def test_influence_of_leads_is_the_derivative(make_frame, weight_derivative, strata) -> None:
    frame = make_frame(
        14, missing=0.1, per_cluster=2, units=60, time_varying=True, cohorts=(3.0, 4.0, np.nan)
    )

    def fit(data: pd.DataFrame) -> vbc.Estimates:
        panel = vbc.Panel.from_frame(data, **KEYS, strata=strata)
        design = vbc.Design(outcome="y", covariates=["x"])
        return vbc.did.Imputation().pretrend(panel, design, leads=2)

    est = fit(frame)
    assert np.abs(est.psi.sum(axis=0)).max() < 1e-12
    size = np.abs(est.psi).max(axis=0)
    for label in ("c00", "c01", "c02"):
        gap = weight_derivative(fit, frame, label) - est.influence().loc[label].to_numpy()
        assert (np.abs(gap) / size).max() < 1e-7


def test_balanced_imputation_is_saturated_least_squares(make_frame) -> None:
    """One regression on unit, period and cohort-by-period dummies (Wooldridge 2021)."""
    frame = make_frame(15).assign(w=1.0)
    treated = frame["period"] >= frame["cohort"]
    cells = pd.Series(list(zip(frame["cohort"], frame["period"], strict=True)))[treated]
    saturated = np.zeros((len(frame), cells.nunique()))
    for j, cell in enumerate(sorted(set(cells))):
        saturated[cells.index[cells == cell], j] = 1.0
    design = np.column_stack([dummies(frame["unit"]), dummies(frame["period"])[:, 1:], saturated])
    beta = np.linalg.lstsq(design, frame["y"].to_numpy(), rcond=None)[0]
    est = vbc.did.Imputation().fit(vbc.Panel.from_frame(frame, **KEYS), vbc.Design(outcome="y"))
    np.testing.assert_allclose(est.estimate, beta[-saturated.shape[1] :], atol=1e-12)


def test_never_treated_imputation_is_group_time_minus_its_leads(make_frame) -> None:
    """
    On a balanced panel, averaging over every base period takes the average lead off.

    Imputation(g, t) = ATT(g, t) - mean over b < g of ATT(g, b), universal base, in estimate and
    influence.
    """
    frame = make_frame(16).assign(w=1.0)
    panel = vbc.Panel.from_frame(frame, **KEYS)
    base = vbc.Design(outcome="y", comparison="never_treated", base_period="universal")
    direct = vbc.did.GroupTime(method="reg").fit(panel, base)
    design = vbc.Design(outcome="y", comparison="never_treated")
    imputed = vbc.did.Imputation().fit(panel, design)
    contrasts = {}
    for i, row in enumerate(imputed.frame.itertuples()):
        own = direct.frame[direct.frame["cohort"] == row.cohort]
        before = own.index[own["period"] < row.cohort]
        target = own.index[own["period"] == row.period][0]
        contrasts[str(i)] = {int(target): 1.0} | {int(b): -1 / len(before) for b in before}
    difference = direct.contrast(contrasts)
    np.testing.assert_allclose(imputed.estimate, difference.estimate, atol=1e-13)
    np.testing.assert_allclose(
        imputed.influence().sort_index(), difference.influence().sort_index(), atol=1e-13
    )


def test_one_untreated_period_is_the_two_period_comparison(make_frame) -> None:
    """Cohorts entering in the second period have one base: GroupTime and imputation agree."""
    frame = make_frame(17, cohorts=(1.0, np.nan))
    panel = vbc.Panel.from_frame(frame, **KEYS)
    design = vbc.Design(outcome="y", comparison="never_treated")
    a = vbc.did.Imputation().fit(panel, design)
    b = vbc.did.GroupTime(method="reg").fit(panel, design)
    np.testing.assert_allclose(a.estimate, b.estimate, atol=1e-12)


@pytest.mark.parametrize("effect", ["unit", "cluster"])
def test_strata_with_their_own_periods_add_up(make_frame, effect) -> None:
    frame = make_frame(18, units=72, per_cluster=2, missing=0.1)
    panel = vbc.Panel.from_frame(frame, **KEYS, strata=["site"])
    design = vbc.Design(outcome="y", fixed_effects=(effect, "period:site"))
    est = vbc.did.Imputation().fit(panel, design)
    keys = ["cohort", "period"]
    share = pd.Series(est.shares.value, index=est.frame.index)
    parts = est.frame.dropna(subset="stratum").assign(share=share)
    total = (parts["estimate"] * parts["share"]).groupby([parts[k] for k in keys]).sum()
    weight = parts.groupby(keys)["share"].sum()
    whole = est.frame[est.frame["stratum"].isna()].set_index(keys)["estimate"]
    pd.testing.assert_series_equal(whole, total / weight, check_names=False, rtol=1e-10)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_moments_by_cluster_are_as_good_as_rows(make_frame, leave_one_out) -> None:
    frame = make_frame(19, units=120, per_cluster=10, time_varying=True)
    panel = vbc.Panel.from_frame(frame, **KEYS, kind=RC, strata=["site"])
    design = vbc.Design(outcome="y", covariates=["x", "z"])
    moments = vbc.Moments.from_panel(panel, outcomes=["y"], covariates=["x", "z"], by="cluster")
    estimator = vbc.did.Imputation(leave_one_out=leave_one_out)
    for fit in (estimator.fit, lambda d, z: estimator.pretrend(d, z, leads=1)):
        rows, cells = fit(panel, design), fit(moments, design)
        np.testing.assert_allclose(cells.estimate, rows.estimate, rtol=1e-10)
        a, b = (e.influence().sort_index() for e in (cells, rows))
        np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(rows.psi).max())
        assert cells.frame["df"].tolist() == rows.frame["df"].tolist()


def test_unconnected_parts_are_each_compared_within(make_frame) -> None:
    """Two regions that share no unit or period give what each gives alone."""
    a = make_frame(20, cohorts=(2.0, np.nan))
    b = make_frame(21, cohorts=(2.0, np.nan))
    b = b.assign(
        unit="b" + b["unit"], cluster="b" + b["cluster"], period=b["period"] + 100,
        cohort=b["cohort"] + 100,
    )  # fmt: skip
    design = vbc.Design(outcome="y")
    fits = [
        vbc.did.Imputation().fit(vbc.Panel.from_frame(frame, **KEYS), design)
        for frame in (a, b, pd.concat([a, b], ignore_index=True))
    ]
    np.testing.assert_allclose(
        fits[2].estimate, np.concatenate([f.estimate for f in fits[:2]]), atol=1e-12
    )
