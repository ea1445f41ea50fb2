"""Two-part models against two regressions with dummies and numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import vbceval as vbc
from vbceval.did import GLMDiD, TwoPart

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort", "weight": "w"}
DESIGN = vbc.Design(outcome="y", covariates=["x"])
LEVELS = {
    "gamma": sm.families.Gamma(sm.families.links.Log()),
    "poisson": sm.families.Poisson(),
    "gaussian": sm.families.Gaussian(),
    "lognormal": sm.families.Gaussian(),
}
CHANCES = {
    "logit": sm.families.Binomial(),
    "probit": sm.families.Binomial(sm.families.links.Probit()),
}


@pytest.fixture
def draw() -> Callable[..., pd.DataFrame]:
    def made(seed: int = 5, units: int = 160) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        u, t = np.repeat(np.arange(units), 5), np.tile(np.arange(2011, 2016), units)
        cohort = np.array([2013.0, 2014.0, np.nan, np.nan])[u % 4]
        x, on = rng.standard_normal(units)[u], t >= cohort
        some = rng.random(len(u)) < 1 / (1 + np.exp(-(0.6 + 0.4 * x - 0.5 * on)))
        level = np.exp(4 + 0.2 * x + 0.05 * (t - 2011) - 0.2 * on) * rng.gamma(2, 0.5, len(u))
        return pd.DataFrame({
            "unit": u, "cluster": u // 8 * 4 + u % 4, "period": t, "cohort": cohort, "x": x,
            "w": rng.uniform(0.5, 2, units)[u], "y": np.where(some, level, 0.0),
        })  # fmt: skip

    return made


def panel(d: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(d, **KEYS, **options)


class ByHand:
    """Both parts with a column for every dummy, effects as functions of all parameters."""

    def __init__(self, d: pd.DataFrame, participation: str, intensity: str) -> None:
        self.d, self.w = d.reset_index(drop=True), d["w"].to_numpy()
        self.chance, self.level = CHANCES[participation], LEVELS[intensity]
        self.logs = intensity == "lognormal"
        g, v = self.d["cohort"].fillna(0), self.d["x"].to_numpy()[:, None]
        parts = [pd.get_dummies(g), pd.get_dummies(self.d["period"]).iloc[:, 1:]]
        base = np.column_stack([p.to_numpy(float) for p in parts])
        on = (self.d["period"] >= self.d["cohort"]).to_numpy()
        pairs = sorted(set(zip(g[on], self.d["period"][on], strict=True)))
        self.cells = [((g == a) & (self.d["period"] == b)).to_numpy() for a, b in pairs]
        effects = np.column_stack([c.astype(float) for c in self.cells])
        base, effects = (np.column_stack([z, z * v]) for z in (base, effects))
        self.z = np.column_stack([base, effects])
        self.off = np.column_stack([base, 0 * effects])
        self.some = (self.d["y"] > 0).to_numpy()

    def _fit(self, y, rows, family):
        made = sm.GLM(y, self.z[rows], family, var_weights=self.w[rows]).fit(
            tol=1e-14, tol_criterion="params", maxiter=300
        )
        beta = np.asarray(made.params)
        mu = family.fitted(self.z[rows] @ beta)
        slope = 1 / family.link.deriv(mu)
        weight = self.w[rows] * slope / family.variance(mu)
        bread = np.linalg.inv((self.z[rows] * (weight * slope)[:, None]).T @ self.z[rows])
        scores = np.zeros((len(self.d), self.z.shape[1]))
        scores[rows] = self.z[rows] * (weight * (y - mu))[:, None]
        return beta, scores @ bread

    def fit(self) -> tuple[np.ndarray, np.ndarray]:
        """All parameters, and the influence of each row on them."""
        y = self.d["y"].to_numpy()
        every, some = np.ones(len(y), dtype=bool), self.some
        a, psi_a = self._fit(some.astype(float), every, self.chance)
        level = np.log(y[some]) if self.logs else y[some]
        b, psi_b = self._fit(level, some, self.level)
        theta, psi = np.r_[a, b], np.column_stack([psi_a, psi_b])
        if self.logs:
            w = self.w * some
            ratio = np.zeros(len(y))
            ratio[some] = np.exp(level - self.z[some] @ b)
            factor = w @ ratio / w.sum()
            by_b = -(w * ratio) @ self.z / w.sum()
            psi = np.column_stack([psi, w * (ratio - factor) / w.sum() + psi_b @ by_b])
            theta = np.r_[theta, factor]
        return theta, psi

    def effects(self, theta: np.ndarray) -> np.ndarray:
        k = self.z.shape[1]
        p1, p0 = (self.chance.fitted(z @ theta[:k]) for z in (self.z, self.off))
        if self.logs:
            m1, m0 = (theta[-1] * np.exp(z @ theta[k : 2 * k]) for z in (self.z, self.off))
        else:
            m1, m0 = (self.level.fitted(z @ theta[k:]) for z in (self.z, self.off))
        values = [
            p1 * m1 - p0 * m0, (p1 - p0) * (m1 + m0) / 2, (m1 - m0) * (p1 + p0) / 2, p1 - p0, m1 - m0
        ]  # fmt: skip
        return np.array([np.average(v[c], weights=self.w[c]) for v in values for c in self.cells])

    def errors(self, theta: np.ndarray, psi: np.ndarray, clusters: str) -> np.ndarray:
        steps = np.diag(1e-6 * np.maximum(np.abs(theta), 1e-2))
        slopes = [
            (self.effects(theta + s) - self.effects(theta - s)) / (2 * s.sum()) for s in steps
        ]
        sums = pd.DataFrame(psi).groupby(self.d[clusters].to_numpy()).sum().to_numpy()
        return np.linalg.norm(sums @ np.array(slopes), axis=0)


@pytest.mark.parametrize("participation", CHANCES)
@pytest.mark.parametrize("intensity", LEVELS)
def test_two_regressions(draw, participation, intensity) -> None:
    d = draw()
    estimator = TwoPart(participation=participation, intensity=intensity)
    est = estimator.fit(panel(d, cluster="cluster"), DESIGN, vcov="CR0")
    by_hand = ByHand(d, participation, intensity)
    theta, psi = by_hand.fit()
    np.testing.assert_allclose(est.estimate, by_hand.effects(theta), rtol=1e-6)
    np.testing.assert_allclose(est.std_error, by_hand.errors(theta, psi, "cluster"), rtol=1e-5)


@pytest.mark.parametrize("intensity", ["poisson", "gaussian", "lognormal"])
def test_influence_is_the_derivative_by_weight(draw, intensity) -> None:
    """With a logit and these parts every score is the derivative of a likelihood or a square."""
    d = draw(units=64)
    estimator = TwoPart(intensity=intensity, weights_random=True)

    def fit(frame: pd.DataFrame) -> vbc.Estimates:
        return estimator.fit(panel(frame, cluster="cluster"), DESIGN, vcov="CR0")

    est, h = fit(d), 1e-5
    for label in (est.clusters[0], est.clusters[-1]):
        inside = d["cluster"] == label
        at = []
        for step in (h, -h):
            moved = fit(d.assign(w=d["w"] * np.where(inside, 1 + step, 1.0)))
            at.append((moved.estimate, moved.aggregate("cohort").estimate))
        for i, part in enumerate((est, est.aggregate("cohort"))):
            slope = (at[0][i] - at[1][i]) / (2 * h)
            scale = np.abs(part.influence().to_numpy()).max()
            np.testing.assert_allclose(part.influence().loc[label], slope, atol=2e-7 * scale)


def test_parts_add_up_also_in_averages(draw) -> None:
    est = TwoPart().fit(panel(draw()), DESIGN)
    for part in (est, est.aggregate("event_time"), est.aggregate("simple")):
        by = {name: part.where(outcome=name).estimate for name in part.frame["outcome"].unique()}
        total = by["y, extensive part"] + by["y, intensive part"]
        np.testing.assert_allclose(by["y"], total, rtol=1e-10)
    assert est.frame["part"].drop_duplicates().tolist() == [
        "total", "extensive", "intensive", "any", "if_any"
    ]  # fmt: skip
    gap = est.aggregate("simple").contrast({"rest": {0: 1.0, 1: -1.0, 2: -1.0}})
    assert np.isnan(gap.std_error.item()) or gap.std_error.item() < 1e-9


def test_without_zeros_in_trends_it_is_one_part(draw) -> None:
    """When the share with any is the same in treated and comparison rows, totals agree closely."""
    d = draw(units=400).drop(columns="x")
    design = vbc.Design(outcome="y")
    two = TwoPart(intensity="poisson").fit(panel(d), design).aggregate("simple").estimate[0]
    one = GLMDiD(family="poisson").fit(panel(d), design).aggregate("simple")
    assert two == pytest.approx(one.estimate.item(), abs=one.std_error.item())


def test_moments_equal_rows(draw) -> None:
    d = draw().assign(
        some=lambda f: (f["y"] > 0).astype(float), hcc=lambda f: f["cluster"] % 5, w=1.0,
        unit=lambda f: f.index,
    )  # fmt: skip
    rows = panel(d, cluster="cluster", kind="repeated_cross_section")
    sums = vbc.Moments.from_panel(rows, outcomes=["y", "some"], covariates=["hcc"], by="cluster")
    design = vbc.Design(outcome="y", covariates=["hcc"])
    for intensity in ("gamma", "poisson"):
        a = TwoPart(intensity=intensity).fit(rows, design)
        b = TwoPart(intensity=intensity, any="some").fit(sums, design)
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-8)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-7)
    with pytest.raises(vbc.EstimationError, match="logarithm of each row"):
        TwoPart(intensity="lognormal", any="some").fit(sums, design)
    with pytest.raises(vbc.DataError, match="do not say in how many rows"):
        TwoPart().fit(sums, design)


def test_invariances_and_strata(draw) -> None:
    d = draw().assign(dual=lambda f: f["unit"] % 8 // 4)
    est = TwoPart().fit(panel(d), DESIGN)
    other = TwoPart().fit(panel(d.assign(y=1000 * d["y"]).sample(frac=1, random_state=1)), DESIGN)
    scale = np.where(est.frame["part"] == "any", 1.0, 1000.0)
    np.testing.assert_allclose(other.estimate, scale * est.estimate, rtol=1e-8)
    np.testing.assert_allclose(other.std_error, scale * est.std_error, rtol=1e-7)
    both = TwoPart().fit(panel(d, strata=["dual"]), DESIGN)
    alone = TwoPart().fit(panel(d[d["dual"] == 1]), DESIGN)
    part = both.where(stratum="dual=1")
    np.testing.assert_allclose(part.estimate, alone.estimate, rtol=1e-8)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-7)


def test_covariates_that_others_span_are_said(draw) -> None:
    d = draw().assign(twice=lambda f: 2 * f["x"])
    est = TwoPart().fit(panel(d), vbc.Design(outcome="y", covariates=["x", "twice"]))
    assert est.meta["dropped"]
    assert all("twice" in name for name in est.meta["dropped"])
    assert "was dropped" in est.meta["warnings"][0]


def test_refusals(draw) -> None:
    d = draw()
    with pytest.raises(vbc.DesignError, match="`intensity` is 'inverse'"):
        TwoPart(intensity="inverse")
    with pytest.raises(vbc.DesignError, match="`participation` is 'linear'"):
        TwoPart(participation="linear")
    with pytest.raises(vbc.DataError, match="negative in some rows"):
        TwoPart().fit(panel(d.assign(y=d["y"] - 1)), DESIGN)
    with pytest.raises(vbc.DataError, match="no outcome column"):
        TwoPart().fit(panel(d.drop(columns="y")), DESIGN)
    with pytest.raises(vbc.DesignError, match="Leave it out"):
        TwoPart(any="some").fit(panel(d), DESIGN)
    with pytest.raises(vbc.DesignError, match="effects of their own"):
        TwoPart().fit(panel(d), vbc.Design(outcome="y", fixed_effects=("unit", "period")))
    with pytest.raises(vbc.DataError, match=r"`y` is above 0 in every row, .* Use GLMDiD"):
        TwoPart().fit(panel(d.assign(y=d["y"] + 1)), vbc.Design(outcome="y"))
    with pytest.raises(vbc.DataError, match="`y` is 0 in every row"):
        TwoPart().fit(panel(d.assign(y=0.0)), vbc.Design(outcome="y"))
    with pytest.raises(vbc.DesignError, match="no base period"):
        TwoPart().fit(panel(d), vbc.Design(outcome="y", base_period="universal"))
    other = panel(d.assign(some=(d["y"] > d["y"].quantile(0.8)).astype(float)))
    sums = vbc.Moments.from_panel(other, outcomes=["y", "some"])
    with pytest.raises(vbc.DataError, match="not of one outcome"):
        TwoPart(any="some").fit(sums, vbc.Design(outcome="y"))
    cell = (d["cohort"] == 2013) & (d["period"] == 2015)
    with pytest.raises(vbc.DesignError, match="cohort 2013 at period 2015"):
        TwoPart().fit(panel(d.assign(y=d["y"].where(~cell, 0.0))), vbc.Design(outcome="y"))
    with pytest.raises(vbc.EstimationError, match="no 'CR2' covariance"):
        TwoPart().fit(panel(d), DESIGN, vcov="CR2")
