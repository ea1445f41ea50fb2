"""Nonlinear difference-in-differences against regressions with dummies, written a second time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize

import vbceval as vbc
from vbceval.did import GLMDiD
from vbceval.inference import SSC

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort"}
FAMILIES = {
    "poisson": sm.families.Poisson(),
    "logit": sm.families.Binomial(),
    "probit": sm.families.Binomial(sm.families.links.Probit()),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
    "tweedie": sm.families.Tweedie(sm.families.links.Log(), var_power=1.4),
    "gaussian": sm.families.Gaussian(),
}


def outcome(family: str, rng: np.random.Generator, eta: np.ndarray) -> np.ndarray:
    if family in ("logit", "probit"):
        return (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)
    if family == "gaussian":
        return eta + rng.standard_normal(len(eta))
    if family == "gamma":
        return np.exp(eta) * rng.gamma(2.0, 0.5, len(eta))
    counts = rng.poisson(np.exp(eta) * rng.gamma(3.0, 1 / 3, len(eta)))
    return counts if family == "poisson" else counts * rng.gamma(2.0, 0.5, len(eta))


@pytest.fixture
def draw() -> Callable[..., pd.DataFrame]:
    def made(family: str = "poisson", seed: int = 3, units: int = 120) -> pd.DataFrame:
        rng = np.random.default_rng([seed, units])
        u, t = np.repeat(np.arange(units), 5), np.tile(np.arange(2011, 2016), units)
        cohort = np.array([2013.0, 2014.0, np.nan, np.nan])[u % 4]
        x = rng.standard_normal(units)[u]
        eta = 0.4 * x + 0.1 * (t - 2011) - 0.3 * (t >= cohort) + 0.2 * rng.standard_normal(units)[u]
        frame = pd.DataFrame({
            "unit": u, "cluster": u // 12 * 4 + u % 4, "period": t, "cohort": cohort, "x": x,
            "w": rng.uniform(0.5, 2, units)[u], "y": outcome(family, rng, eta + 0.5),
            "months": rng.uniform(0.5, 3, len(u)),
        })  # fmt: skip
        return frame

    return made


class Dummies:
    """A regression with a column for every dummy; effects by prediction, errors by differences."""

    def __init__(self, d: pd.DataFrame, family: str, *, x: bool = False, units: bool = False):
        self.d, self.family = d, FAMILIES[family]
        g = d["cohort"].fillna(0)
        owner = d["unit"] if units else g
        parts = [pd.get_dummies(owner), pd.get_dummies(d["period"]).iloc[:, 1:]]
        base = np.column_stack([p.to_numpy(float) for p in parts])
        on = (d["period"] >= d["cohort"]).to_numpy()
        pairs = sorted(set(zip(g[on], d["period"][on], strict=True)))
        self.cells = [((g == a) & (d["period"] == b)).to_numpy() for a, b in pairs]
        effects = np.column_stack([c.astype(float) for c in self.cells])
        if x:
            v = d["x"].to_numpy()
            slopes = [pd.get_dummies(g), pd.get_dummies(d["period"]).iloc[:, 1:]]
            base = np.column_stack([base, *[s.to_numpy(float) * v[:, None] for s in slopes]])
            effects = np.column_stack([effects, effects * v[:, None]])
        self.columns = np.column_stack([base, effects])
        self.without = np.column_stack([base, 0 * effects])
        self.w = d["w"].to_numpy() if "w" in d else np.ones(len(d))

    def fit(self, clusters: str = "unit") -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and their covariance by cluster, without a factor."""
        model = sm.GLM(self.d["y"], self.columns, family=self.family, var_weights=self.w)
        beta = model.fit(tol=1e-14, tol_criterion="params", maxiter=200).params.to_numpy()
        eta = self.columns @ beta
        mu, slope = self.family.fitted(eta), 1 / self.family.link.deriv(self.family.fitted(eta))
        weight = self.w * slope / self.family.variance(mu)
        bread = np.linalg.inv((self.columns * (weight * slope)[:, None]).T @ self.columns)
        residual = weight * (self.d["y"].to_numpy() - mu)
        rows = pd.DataFrame(self.columns * residual[:, None])
        scores = rows.groupby(self.d[clusters].to_numpy()).sum().to_numpy()
        return beta, bread @ scores.T @ scores @ bread

    def effects(self, beta: np.ndarray) -> np.ndarray:
        gap = self.family.fitted(self.columns @ beta) - self.family.fitted(self.without @ beta)
        return np.array([np.average(gap[c], weights=self.w[c]) for c in self.cells])

    def errors(self, beta: np.ndarray, vcov: np.ndarray) -> np.ndarray:
        h = 1e-6
        steps = np.eye(len(beta)) * h
        j = [(self.effects(beta + s) - self.effects(beta - s)) / (2 * h) for s in steps]
        return np.sqrt(np.diag(np.array(j).T @ vcov @ np.array(j)))


def panel(d: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(d, **KEYS, weight="w" if "w" in d else None, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("x", [False, True], ids=["plain", "covariate"])
def test_dummies(draw, family, x) -> None:
    d = draw(family)
    power = 1.4 if family == "tweedie" else None
    design = vbc.Design(outcome="y", covariates=["x"] if x else [])
    est = GLMDiD(family=family, power=power).fit(panel(d), design, vcov="CR0")
    by_hand = Dummies(d, family, x=x)
    beta, vcov = by_hand.fit()
    np.testing.assert_allclose(est.estimate, by_hand.effects(beta), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(est.std_error, by_hand.errors(beta, vcov), rtol=1e-6)


@pytest.mark.parametrize("family", ["poisson", "logit"])
def test_a_covariate_that_is_at_its_mean(draw, family) -> None:
    """Cells in which it is zero when centred have values in the same columns as others."""
    d = draw(family).drop(columns="w").assign(x=lambda f: f["unit"] // 4 % 3.0)
    est = GLMDiD(family=family).fit(panel(d), vbc.Design(outcome="y", covariates=["x"]), vcov="CR0")
    by_hand = Dummies(d, family, x=True)
    beta, vcov = by_hand.fit()
    np.testing.assert_allclose(est.estimate, by_hand.effects(beta), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(est.std_error, by_hand.errors(beta, vcov), rtol=1e-6)


def test_effects_of_units(draw) -> None:
    """Poisson with a dummy for each unit; the error counts that of unit levels through averaging."""
    d = draw("poisson", units=60)
    d = d[d.groupby("unit")["y"].transform("sum") > 0]
    design = vbc.Design(outcome="y", fixed_effects=("unit", "period"))
    est = GLMDiD(family="poisson").fit(panel(d), design, vcov="CR0")
    by_hand = Dummies(d, "poisson", units=True)
    beta, _ = by_hand.fit()
    np.testing.assert_allclose(est.estimate, by_hand.effects(beta), rtol=1e-8)
    link = GLMDiD(family="poisson", scale="link").fit(panel(d), design, vcov="CR0")
    shifts = beta[-len(by_hand.cells) :]
    np.testing.assert_allclose(link.estimate, shifts, rtol=1e-8)
    _, vcov = by_hand.fit()
    expected = np.sqrt(np.diag(vcov))[-len(by_hand.cells) :]
    np.testing.assert_allclose(link.std_error, expected, rtol=1e-8)


@pytest.mark.parametrize("family", ["poisson", "logit", "gaussian"])
def test_pooled_equals_imputation(draw, family) -> None:
    """With a canonical link, fitting untreated rows and predicting gives the same effects."""
    d = draw(family)
    est = GLMDiD(family=family).fit(panel(d), vbc.Design(outcome="y"))
    g = d["cohort"].fillna(0)
    parts = [pd.get_dummies(g), pd.get_dummies(d["period"]).iloc[:, 1:]]
    z = np.column_stack([p.to_numpy(float) for p in parts])
    off = ~(d["period"] >= d["cohort"]).to_numpy()
    fitted = sm.GLM(d["y"][off], z[off], FAMILIES[family], var_weights=d["w"][off]).fit(
        tol=1e-14, tol_criterion="params", maxiter=200
    )
    gap = d["y"] - fitted.predict(z)
    for row in est.frame.itertuples():
        inside = ((g == row.cohort) & (d["period"] == row.period)).to_numpy()
        expected = np.average(gap[inside], weights=d["w"][inside])
        assert row.estimate == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("family", "power"), [("gamma", 2.0), ("tweedie", 1.7)])
def test_heavy_tails(draw, family, power) -> None:
    """Spending of which a few rows are most: there is one maximum, and steps end at it."""
    d = draw("gaussian", seed=5, units=60)
    rng = np.random.default_rng(6)
    d["y"] = rng.gamma(0.12, 1 / 0.12, len(d)) + (1e-6 if family == "gamma" else 0.0)
    if family == "tweedie":
        d.loc[rng.random(len(d)) < 0.3, "y"] = 0.0
    design = vbc.Design(outcome="y", covariates=["x"])
    option = {"power": power} if family == "tweedie" else {}
    est = GLMDiD(family=family, **option).fit(panel(d), design)
    made = Dummies(d, "poisson", x=True)  # its columns; the mean is of the same form
    y, w, z = d["y"].to_numpy(), made.w / made.w.sum(), made.columns

    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        eta = z @ beta
        spread = eta if power == 2 else np.exp((2 - power) * eta) / (2 - power)
        value = w @ (y * np.exp((1 - power) * eta) / (power - 1) + spread)
        return value, -z.T @ (w * (y - np.exp(eta)) * np.exp((1 - power) * eta))

    def curved(beta: np.ndarray) -> np.ndarray:
        eta = z @ beta
        by = (power - 1) * y * np.exp((1 - power) * eta) + (2 - power) * np.exp((2 - power) * eta)
        return z.T @ ((w * by)[:, None] * z)

    found = minimize(
        loss, np.zeros(z.shape[1]), jac=True, hess=curved, method="trust-exact",
        options={"gtol": 1e-10},
    )  # fmt: skip
    np.testing.assert_allclose(est.estimate, made.effects(found.x), rtol=1e-6)


def test_gaussian_is_the_linear_regression(draw) -> None:
    d = draw("gaussian")
    design = vbc.Design(outcome="y", covariates=["x"], fixed_effects=("cohort", "period"))
    for vcov in ("CR0", "CR1", "CR2"):
        a = GLMDiD(family="gaussian").fit(panel(d), design, vcov=vcov)
        b = vbc.did.ETWFE().fit(panel(d), design, vcov=vcov)
        # the average over treated rows is at their covariates, to which the other is centred
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-9)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-8)
        np.testing.assert_allclose(a.frame["df"], b.frame["df"], rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "scale", "units"),
    [
        ("poisson", "response", False), ("poisson", "percent", False), ("poisson", "link", True),
        ("poisson", "response", True), ("poisson", "percent", True), ("logit", "response", False),
        ("logit", "link", False),
    ],
)  # fmt: skip
def test_influence_is_the_derivative_by_weight(draw, family, scale, units) -> None:
    """Every step moves when a cluster's weight does: coefficients, averages and shares."""
    d = draw(family, units=48)
    design = vbc.Design(
        outcome="y", covariates=["x"], fixed_effects=("unit", "period") if units else None
    )
    estimator = GLMDiD(family=family, scale=scale, weights_random=True)

    def fit(frame: pd.DataFrame) -> vbc.Estimates:
        return estimator.fit(panel(frame, cluster="cluster"), design, vcov="CR0")

    est, kinds = fit(d), ("event_time", "cohort")
    together = [est, *[est.aggregate(k) for k in kinds]]
    h = 1e-5
    for label in (est.clusters[0], est.clusters[-1]):
        inside = d["cluster"] == label
        at = []
        for step in (h, -h):
            moved = fit(d.assign(w=d["w"] * np.where(inside, 1 + step, 1.0)))
            at.append([moved.estimate, *[moved.aggregate(k).estimate for k in kinds]])
        for part, up, down in zip(together, *at, strict=True):
            psi = part.influence().loc[label].to_numpy()
            limit = 2e-7 * np.abs(part.influence().to_numpy()).max()
            np.testing.assert_allclose(psi, (up - down) / (2 * h), atol=limit)
    np.testing.assert_allclose(est.influence().sum(), 0, atol=1e-9)


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("scale", ["response", "percent"])
def test_influence_of_the_mean_over_event_times(draw, scale, units) -> None:
    """Weights move the average at each event time, whose part in the mean over them is fixed."""
    d = draw("poisson", units=48)
    d = d[d.groupby("unit")["y"].transform("sum") > 0]
    design = vbc.Design(outcome="y", fixed_effects=("unit", "period") if units else None)
    estimator = GLMDiD(effect="event_time", scale=scale, weights_random=True)

    def fit(frame: pd.DataFrame) -> vbc.Estimates:
        return estimator.fit(panel(frame, cluster="cluster"), design, vcov="CR0")

    est, h = fit(d), 1e-5
    inside = d["cluster"] == est.clusters[0]
    up, down = (fit(d.assign(w=d["w"] * np.where(inside, 1 + s, 1.0))).estimate for s in (h, -h))
    psi = est.influence().iloc[0].to_numpy()
    np.testing.assert_allclose(psi, (up - down) / (2 * h), atol=2e-7 * np.abs(est.psi).max())


def test_percent_averages_are_total_over_total(draw) -> None:
    d = draw("poisson")
    design = vbc.Design(outcome="y", covariates=["x"])
    fits = {s: GLMDiD(scale=s).fit(panel(d), design) for s in ("response", "percent")}
    by_hand = Dummies(d, "poisson", x=True)
    beta, _ = by_hand.fit()
    on = np.any(by_hand.cells, axis=0)
    with_ = by_hand.family.fitted(by_hand.columns @ beta)[on]
    without = by_hand.family.fitted(by_hand.without @ beta)[on]
    w = by_hand.w[on]
    expected = 100 * (w @ with_ / (w @ without) - 1)
    found = {s: e.aggregate("simple").estimate.item() for s, e in fits.items()}
    assert found["percent"] == pytest.approx(expected, rel=1e-8)
    assert found["response"] == pytest.approx(w @ (with_ - without) / w.sum(), rel=1e-8)


def test_offset_is_an_exposure(draw) -> None:
    d = draw("poisson")
    d["total"] = d["y"] * d["months"]
    design = vbc.Design(outcome="total")
    est = GLMDiD(offset=True, scale="link").fit(panel(d, exposure="months"), design, vcov="CR0")
    by_hand = Dummies(d, "poisson")
    model = sm.GLM(
        d["total"], by_hand.columns, sm.families.Poisson(), var_weights=by_hand.w,
        offset=np.log(d["months"]),
    )  # fmt: skip
    fitted = model.fit(
        cov_type="cluster", cov_kwds={"groups": d["unit"], "use_correction": False},
        tol=1e-13, tol_criterion="params",
    )  # fmt: skip
    k = len(by_hand.cells)
    np.testing.assert_allclose(est.estimate, fitted.params[-k:], rtol=1e-8)
    np.testing.assert_allclose(est.std_error, fitted.bse[-k:], rtol=1e-7)
    sums = vbc.Moments.from_panel(
        panel(d.assign(w=1.0), exposure="months"), outcomes=["total"], by="cluster"
    )
    rows = GLMDiD(offset=True).fit(panel(d.assign(w=1.0), exposure="months"), design)
    cells = GLMDiD(offset=True).fit(sums, design)
    np.testing.assert_allclose(cells.estimate, rows.estimate, rtol=1e-9)


def test_moments_equal_rows(draw) -> None:
    """Covariates that are constant within a cell leave nothing out of the sums."""
    d = draw("poisson").assign(unit=lambda f: f.index, hcc=lambda f: f["cluster"] % 7 / 7.0)
    for family in ("poisson", "logit"):
        d["y"] = d["y"] if family == "poisson" else (d["y"] > 1).astype(float)
        whole = panel(d, cluster="cluster", kind="repeated_cross_section")
        sums = vbc.Moments.from_panel(whole, outcomes=["y"], covariates=["hcc"], by="cluster")
        assert sums.xx is not None
        design = vbc.Design(outcome="y", covariates=["hcc"])
        a, b = (GLMDiD(family=family).fit(x, design, vcov="CR2") for x in (whole, sums))
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-9)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-8)
        np.testing.assert_allclose(a.frame["df"], b.frame["df"], rtol=1e-6)
        varying = vbc.Moments.from_panel(whole, outcomes=["y"], covariates=["x"], by="cluster")
        with pytest.raises(vbc.EstimationError, match="`x` vary within cells"):
            GLMDiD(family=family).fit(varying, vbc.Design(outcome="y", covariates=["x"]))


def test_invariances(draw) -> None:
    d = draw("poisson")
    design = vbc.Design(outcome="y", covariates=["x"])
    est = GLMDiD().fit(panel(d), design)
    names = d.assign(unit=d["unit"].map(lambda i: f"u{(i * 37) % 120:03d}"))
    other = GLMDiD().fit(panel(names.sample(frac=1.0, random_state=1)), design)
    np.testing.assert_allclose(other.estimate, est.estimate, rtol=1e-9)
    np.testing.assert_allclose(other.std_error, est.std_error, rtol=1e-8)
    scaled = GLMDiD().fit(panel(d.assign(y=d["y"] * 1000.0, w=d["w"] * 7)), design)
    np.testing.assert_allclose(scaled.estimate, 1000 * est.estimate, rtol=1e-8)
    np.testing.assert_allclose(scaled.std_error, 1000 * est.std_error, rtol=1e-7)
    half = pd.concat([d.assign(w=d["w"] / 2), d.assign(w=d["w"] / 2, unit=d["unit"] + 1000)])
    split = vbc.Panel.from_frame(
        half.assign(cluster=half["unit"] % 1000), **KEYS, weight="w", cluster="cluster"
    )
    halves = GLMDiD().fit(split, design, vcov="CR0")
    np.testing.assert_allclose(halves.estimate, est.estimate, rtol=1e-9)
    np.testing.assert_allclose(
        halves.std_error, GLMDiD().fit(panel(d), design, vcov="CR0").std_error, rtol=1e-8
    )


def test_leads_strata_and_small_sample_factor(draw) -> None:
    d = draw("poisson").assign(dual=lambda f: np.where(f["unit"] % 8 < 4, "yes", "no"))
    leads = GLMDiD(scale="link").fit(panel(d), vbc.Design(outcome="y", comparison="never_treated"))
    assert (leads.frame["event_time"] < 0).any()
    base = leads.where("event_time == -1")
    assert (base.estimate == 0).all()
    est = GLMDiD().fit(panel(d, strata=["dual"]), vbc.Design(outcome="y"))
    design = vbc.Design(outcome="y", fixed_effects=("cohort", "period", "dual"))
    together = GLMDiD().fit(panel(d, strata=["dual"]), design)
    np.testing.assert_allclose(est.estimate, together.estimate, rtol=1e-9)
    alone = GLMDiD().fit(panel(d[d["dual"] == "yes"]), vbc.Design(outcome="y"))
    part = est.where(stratum="dual=yes")
    np.testing.assert_allclose(part.estimate, alone.estimate, rtol=1e-9)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-8)
    zero = GLMDiD().fit(panel(d), vbc.Design(outcome="y"), vcov="CR0")
    one = GLMDiD().fit(panel(d), vbc.Design(outcome="y"), ssc=SSC.cluster())
    np.testing.assert_allclose(one.vcov(), zero.vcov() * 120 / 119, rtol=1e-12)


def test_event_study_in_the_index(draw) -> None:
    """With one cohort and a dummy for each period but the last before entry, means are exact."""
    d = draw("poisson")
    d = d[d["cohort"].isna() | (d["cohort"] == 2013)]
    design = vbc.Design(outcome="y")
    est = GLMDiD(effect="event_time").fit(panel(d), design, vcov="CR0")
    mean = d.groupby([d["cohort"].notna(), "period"]).apply(
        lambda f: np.average(f["y"], weights=f["w"])
    )
    on, off = mean[True], mean[False]
    expected = on - off * on[2012] / off[2012]
    events = est.where("estimand == 'att_event_time'")
    np.testing.assert_allclose(events.estimate, expected, atol=1e-9)
    overall = est.where(estimand="att_overall")
    assert overall.estimate.item() == pytest.approx(expected.loc[2013:].mean(), rel=1e-9)
    link = GLMDiD(effect="event_time", scale="link").fit(panel(d), design)
    np.testing.assert_allclose(
        link.where("estimand == 'att_event_time'").estimate,
        np.log(on / off * off[2012] / on[2012]), atol=1e-9,
    )  # fmt: skip


def test_units_without_events_are_left_out_and_counted(draw) -> None:
    d = draw("poisson")
    d.loc[d["unit"].isin([3, 7, 8]), "y"] = 0
    design = vbc.Design(outcome="y", fixed_effects=("unit", "period"))
    est = GLMDiD(scale="link").fit(panel(d), design)
    without = GLMDiD(scale="link").fit(panel(d[~d["unit"].isin([3, 7, 8])]), design)
    np.testing.assert_allclose(est.estimate, without.estimate, rtol=1e-9)
    np.testing.assert_allclose(est.std_error, without.std_error, rtol=1e-8)
    assert est.meta["units_without_events"] >= 3


def test_separation_by_several_covariates_is_not_called_collinear() -> None:
    """Weights of separated rows vanish, so that columns cannot be told apart in a late step."""
    rng = np.random.default_rng(48)
    n = int(rng.integers(10, 50))
    x = rng.standard_normal((n, 3))[np.repeat(np.arange(n), 4)]
    d = pd.DataFrame({
        "unit": np.repeat(np.arange(n), 4), "period": np.tile(np.arange(4), n),
        "cohort": np.where(np.arange(n) % 2, 2.0, np.nan)[np.repeat(np.arange(n), 4)],
        "y": (x @ [1.0, 2.0, -1.0] > 0).astype(float), "a": x[:, 0], "b": x[:, 1], "c": x[:, 2],
    })  # fmt: skip
    with pytest.raises(vbc.EstimationError, match="separation"):
        GLMDiD(family="probit").fit(panel(d), vbc.Design(outcome="y", covariates=["a", "b", "c"]))


def test_refusals(draw) -> None:
    d = draw("poisson")
    design = vbc.Design(outcome="y")
    with pytest.raises(vbc.DesignError, match="`family` is 'negbin'"):
        GLMDiD(family="negbin")
    with pytest.raises(vbc.DesignError, match="`power` is None"):
        GLMDiD(family="tweedie")
    with pytest.raises(vbc.DesignError, match="`offset` is for family 'poisson'"):
        GLMDiD(family="logit", offset=True)
    with pytest.raises(vbc.DataError, match="0 or more"):
        GLMDiD().fit(panel(d.assign(y=d["y"] - 3)), design)
    with pytest.raises(vbc.DataError, match="TwoPart"):
        GLMDiD(family="gamma").fit(panel(d), design)
    with pytest.raises(vbc.DataError, match="from 0 to 1"):
        GLMDiD(family="logit").fit(panel(d), design)
    with pytest.raises(vbc.DataError, match="same in every row"):
        GLMDiD().fit(panel(d.assign(y=1.0)), design)
    with pytest.raises(vbc.DataError, match="have none"):
        GLMDiD(offset=True).fit(panel(d), design)
    with pytest.raises(vbc.EstimationError, match="no 'iid' covariance"):
        GLMDiD().fit(panel(d), design, vcov="iid")
    with pytest.raises(vbc.EstimationError, match="bias a logit"):
        GLMDiD(family="logit").fit(
            panel(d.assign(y=d["y"] > 1)), vbc.Design(outcome="y", fixed_effects=("unit", "period"))
        )
    zero = d.assign(y=d["y"].where(~((d["cohort"] == 2013) & (d["period"] == 2014)), 0))
    with pytest.raises(vbc.DesignError, match="cohort 2013 at period 2014` has no event"):
        GLMDiD().fit(panel(zero), design)
    sure = d.assign(y=((d["x"] > 0) | (d["unit"] % 9 == 0) & (d["x"] > 5)).astype(float))
    with pytest.raises(vbc.EstimationError, match="separation"):
        GLMDiD(family="logit").fit(panel(sure), vbc.Design(outcome="y", covariates=["x"]))
    none = d.assign(y=d["y"].where(d["period"] < 2014, 0))
    with pytest.raises(vbc.DesignError, match=r"`period 2014`, .* have no event"):
        GLMDiD().fit(panel(none), design)
    with pytest.raises(vbc.DesignError, match="1 cluster"):
        GLMDiD().fit(panel(d.assign(all=1), cluster="all"), design)
    with pytest.raises(vbc.DesignError):
        GLMDiD().fit(panel(d[d["period"] == 2013]), design)


def test_estimated_balance_weights_are_counted(draw) -> None:
    """Errors move when the error of the weights is carried, estimates do not."""
    d = draw("poisson").drop(columns="w")
    whole = panel(d)
    weights = vbc.balance.entropy(whole, ["x"])
    for estimator in (GLMDiD(), vbc.did.ChangesInChanges(quantiles=[0.5], most_outside=1.0)):
        fits = [
            estimator.fit(whole, vbc.Design(outcome="y", balance_weights=w))
            for w in (weights, weights.fixed())
        ]
        np.testing.assert_array_equal(fits[0].estimate, fits[1].estimate)
        assert not np.allclose(fits[0].std_error, fits[1].std_error, rtol=1e-6)
        assert np.abs(fits[0].std_error / fits[1].std_error - 1).max() < 0.5
