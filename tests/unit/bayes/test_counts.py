"""
Models of counts against dense algebra, an importance sample, and themselves under other labels.

The twin is written from the equations of `docs/explanation/hierarchical-counts.md` alone: every
coefficient and random effect is a column of one matrix, and nothing is eliminated.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special, stats

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, RatePriors
from vbceval.bayes.cells import moments_of
from vbceval.bayes.counts import engine, laplace
from vbceval.bayes.counts.cells import from_counts
from vbceval.bayes.counts.draws import conditional
from vbceval.bayes.counts.engine import (
    Found,
    from_polar,
    integrate_counts,
    laplace_error,
    require_small,
)
from vbceval.bayes.counts.families import (
    COUNTS,
    constant,
    log_likelihood,
    rising_slope,
    slopes,
)
from vbceval.bayes.counts.field import arrange
from vbceval.bayes.counts.fit import marginal_of
from vbceval.bayes.counts.sampled import Sampled
from vbceval.bayes.hyper import split_point
from vbceval.bayes.model import active_scales
from vbceval.bayes.quadrature import Nodes
from vbceval.core.errors import DataError, DesignError, EstimationError

DESIGN = vbc.Design(outcome="y", covariates=("x",))
PRIORS = RatePriors(level=1.5, period=0.7, covariate=0.4)


def table() -> pd.DataFrame:
    """Organizations of unequal size, two strata, a gap in time, a missing cell, one with two units."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(5):
        for unit in range(1 + (i == 2)):
            for s in "ab":
                for t in (2013, 2014, 2016):
                    if (i, s, t) == (1, "b", 2014):
                        continue
                    n = 12 + 9 * i + unit
                    entry = 2016.0 if i % 2 else np.nan
                    eta = -1.0 + 0.3 * (s == "b") + 0.2 * rng.normal() - 0.2 * (t >= entry)
                    y = rng.binomial(n, special.expit(eta))
                    rows.append((f"A{i}{unit}", f"A{i}", s, t, entry, y, n, 0.5 * i * (i % 3)))
    names = ["unit", "aco", "s", "t", "entry", "y", "n", "x"]
    return pd.DataFrame(rows, columns=names)


def panel(frame: pd.DataFrame, **more: object) -> vbc.Panel:
    options: dict = {
        "unit": "unit", "cluster": "aco", "period": "t", "cohort": "entry", "strata": ["s"],
        "exposure": "n", **more,
    }  # fmt: skip
    return vbc.Panel.from_frame(frame, **options)


def density(frame: pd.DataFrame, family: str, design: vbc.Design = DESIGN, **options: object):
    data = from_counts(moments_of(panel(frame), design), design, family)
    active = active_scales(
        data.cells, shocks=options.get("shocks", "ar1"), organizations=options.get("own", True)
    )
    return marginal_of(data, design, PRIORS, active)[0]


class Twin:
    """The model of the page with one column for everything."""

    def __init__(self, frame: pd.DataFrame, family: str, values: dict) -> None:
        self.family, self.values = family, values
        self.y, self.n = frame["y"].to_numpy(float), frame["n"].to_numpy(float)
        t = frame["t"].to_numpy(float)
        s, org, unit = (pd.factorize(frame[k], sort=True)[0] for k in ("s", "aco", "unit"))
        treated = (t >= frame["entry"]).to_numpy(float)
        first = frame.groupby(["unit", "s"])["x"].transform("first")
        x = ((first - first.mean()) / first.std(ddof=0)).to_numpy()
        before = frame["entry"].notna() & (frame["t"] == 2014)
        # the last untreated period of a block: 2014, and 2013 where that cell is missing
        before |= (frame["aco"] == "A1") & (frame["s"] == "b") & (frame["t"] == 2013)
        counts = frame[before].groupby("s")[["y", "n"]].sum()
        rate = (counts["y"] / counts["n"]).to_numpy()
        link = special.logit if family == "binomial" else np.log
        columns, variances = [], []

        def add(column: np.ndarray, sd: float) -> None:
            columns.append(np.asarray(column, dtype=float))
            variances.append(sd**2)

        def zero_sum(weight: np.ndarray, sd: float) -> None:
            # sums of independent normals minus their mean: covariance sd^2 (I - 1/3)
            for year in (2013, 2014, 2016):
                add(weight * ((t == year) - 1 / 3), sd)

        ever = frame["entry"].notna().to_numpy()
        for k in (0, 1):
            for group in (False, True):
                add((s == k) & (ever == group), PRIORS.level)
        add(x, PRIORS.covariate)
        for k in (0, 1):
            zero_sum((s == k).astype(float), PRIORS.period)
        zero_sum(x, PRIORS.covariate)
        add(treated, PRIORS.effect)
        self.effect, self.own = [len(columns) - 1], []
        for k in (0, 1):
            add(treated * (s == k), values["part_sd"][0])
            self.effect.append(len(columns) - 1)
        for o in range(org.max() + 1):
            add(org == o, values["intercept_sd"])
            add((org == o) * treated, values.get("organization_sd", 0.0))
            self.own.append(len(columns) - 1)
        for u in range(unit.max() + 1):
            for k in (0, 1):
                add((unit == u) & (s == k), values["unit_sd"])
        size = len(columns)
        self.a = np.column_stack(columns)
        cov = np.diag(variances)
        years = np.array([2013.0, 2014.0, 2016.0])
        rho = 2 * values["rho_share"] - 1 if "rho_share" in values else 0.0
        r = np.power(rho, np.abs(years[:, None] - years))
        shocks = [(org == o) for o in range(org.max() + 1)]
        kinds = [(z, values.get("common_shock", 0.0)) for z in shocks]
        kinds += [(z & (s == k), values.get("stratum_shock", 0.0)) for z in shocks for k in (0, 1)]
        self.a = np.hstack([self.a, *[z[:, None] * (t[:, None] == years) for z, _ in kinds]])
        self.cov = np.zeros((self.a.shape[1],) * 2)
        self.cov[:size, :size] = cov
        for j, (_, sd) in enumerate(kinds):
            place = slice(size + 3 * j, size + 3 * j + 3)
            self.cov[place, place] = sd**2 * r
        self.centre, self.same = link(rate)[s], org[:, None] == org
        self.dispersion = np.asarray(values.get("dispersion", 0.0))

    def log_density(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Log probability of the counts, mean and covariance of the field w = root z."""
        # zero variances leave: w = root z with z standard normal
        value, vectors = np.linalg.eigh(self.cov)
        root = vectors[:, value > 1e-14] * np.sqrt(value[value > 1e-14])
        a = self.a @ root

        def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
            eta = self.centre + a @ z
            found = log_likelihood(self.family, eta, self.y, self.n, self.dispersion).sum()
            score = slopes(self.family, eta, self.y, self.n, self.dispersion).score
            return 0.5 * z @ z - found, z - a.T @ score

        z = optimize.minimize(loss, np.zeros(a.shape[1]), jac=True, method="L-BFGS-B").x
        for _ in range(20):
            d = slopes(self.family, self.centre + a @ z, self.y, self.n, self.dispersion)
            hessian = np.eye(len(z)) + (a.T * d.weight) @ a
            z = z - np.linalg.solve(hessian, loss(z)[1])
        d = slopes(self.family, self.centre + a @ z, self.y, self.n, self.dispersion)
        sigma = np.linalg.inv(np.eye(len(z)) + (a.T * d.weight) @ a)
        v = a @ sigma @ a.T
        pull = 0.5 * d.third * np.diag(v)
        more = (d.fourth * np.diag(v) ** 2).sum() / 8 + 0.5 * pull @ v @ pull
        more += d.third @ (self.same * v**3) @ d.third / 12
        log_density = -loss(z)[0] + 0.5 * np.linalg.slogdet(sigma)[1] + more
        mean = z + sigma @ a.T @ pull
        return float(log_density), root @ mean, root @ sigma @ root.T


@pytest.mark.parametrize("family", COUNTS)
def test_the_density_is_that_of_dense_algebra_and_so_are_means(family) -> None:
    frame = table()
    found = density(frame, family)
    points = np.random.default_rng(0).normal(size=(4, len(found.names)))
    for point, ours in zip(points, found(points), strict=True):
        values = found.split(point)
        twin = Twin(frame, family, values)
        expected, mean, cov = twin.log_density()
        assert ours.log_density == pytest.approx(expected - 0.5 * point @ point, abs=1e-8)
        # overall effect: level and the strata's parts, by exposure of treated cells
        share = frame[frame["t"] >= frame["entry"]].groupby("s")["n"].sum().to_numpy()
        weights = np.array([1.0, *(share / share.sum())])
        effect = np.array(twin.effect)
        assert ours.mean[0] == pytest.approx(weights @ mean[effect], abs=1e-8)
        sd = np.sqrt(weights @ cov[np.ix_(effect, effect)] @ weights)
        assert ours.sd[0] == pytest.approx(sd, abs=1e-8)


def test_draws_of_the_field_have_its_mean_and_covariance() -> None:
    frame = table()
    found = density(frame, "binomial")
    point = np.full((1, len(found.names)), 0.3)
    at = found.values(point)
    twin = Twin(frame, "binomial", {k: v[0] for k, v in found.split(point).items()})
    _, mean, cov = twin.log_density()
    drawn = conditional(found.grid, at, found.approximated(point), 20_000, np.random.default_rng(1))
    cells = found.grid.data.cells
    eta = np.empty((20_000, len(cells.y)))
    for block, values in zip(found.grid.blocks, drawn.untreated, strict=True):
        there = block.cell >= 0
        eta[:, block.cell[there]] = values[:, there]
    # the order of cells: organization, unit, stratum, year
    place = pd.MultiIndex.from_arrays(
        [cells.units[cells.unit], cells.stratum, np.array(cells.periods)[cells.period]]
    )
    order = place.get_indexer(
        pd.MultiIndex.from_arrays([frame["unit"], pd.factorize(frame["s"])[0], frame["t"]])
    )
    a = twin.a.copy()
    a[:, [*twin.effect, *twin.own]] = 0.0
    expected, spread = twin.centre + a @ mean, a @ cov @ a.T
    # draws come in reflected pairs, so that means have no error
    np.testing.assert_allclose(eta.mean(axis=0)[order], expected, atol=1e-8)
    sd = np.sqrt(np.diag(spread))
    error = (np.cov(eta[:, order].T) - spread) / np.outer(sd, sd)
    assert np.abs(error).max() < 5 * np.sqrt(2 / 10_000)


def small(family: str = "binomial", *, seed: int = 5, effect: float = -0.2) -> pd.DataFrame:
    """Eight organizations, three years, one stratum, few trials."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(8):
        entry = 2016.0 + i // 2 % 2 if i % 2 else np.nan
        size, level = int(np.exp(rng.normal(3.2, 0.4))), rng.normal(0, 0.3)
        for t in (2015, 2016, 2017):
            eta = -1.5 + level + rng.normal(0, 0.15) + effect * (t >= entry)
            y = rng.binomial(size, special.expit(eta)) if family == "binomial" else (
                rng.poisson(size * np.exp(eta)))  # fmt: skip
            rows.append((f"A{i}", t, entry, y, size))
    return pd.DataFrame(rows, columns=["aco", "t", "entry", "y", "n"])


PLAIN = vbc.Design(outcome="y", unit_of_measure="visits per member-year")


def small_panel(frame: pd.DataFrame, **more: object) -> vbc.Panel:
    options: dict = {"unit": "aco", "period": "t", "cohort": "entry", "exposure": "n", **more}
    return vbc.Panel.from_frame(frame, **options)


def model(family: str = "binomial", **options: object) -> HierarchicalDiD:
    # a few draws: point estimates on the scale of the model do not depend on their number
    settled: dict = {"nodes": 128, "draws": 250, "alternatives": (), **options}
    return HierarchicalDiD(family=family, **settled)


def test_organizations_in_parts_and_by_group_have_the_same_density(monkeypatch) -> None:
    frame = pd.concat([small(seed=k).assign(k=k) for k in range(3)])
    frame["aco"] += frame["k"].astype(str)
    found = marginal_of(
        from_counts(moments_of(small_panel(frame), PLAIN), PLAIN, "binomial"), PLAIN, PRIORS,
        np.array([False, True, True, True]),
    )[0]  # fmt: skip
    points = np.random.default_rng(1).normal(size=(3, len(found.names)))
    assert [len(block.start) for block in found.grid.blocks] == [3]
    whole = found(points)
    monkeypatch.setattr(laplace, "_CHUNK", 3 * 9 * 5)
    monkeypatch.setattr(
        laplace, "of_group", lambda block, kernel, a: laplace.times(kernel[:, block.group], a)
    )
    for one, other in zip(whole, found(points), strict=True):
        assert one.log_density == pytest.approx(other.log_density, abs=1e-10)
        np.testing.assert_allclose(one.shift, other.shift, atol=1e-12)


def test_a_first_search_on_some_organizations_does_not_change_the_posterior(monkeypatch) -> None:
    frame = pd.concat([small(seed=k).assign(k=k) for k in range(3)])
    frame["aco"] += frame["k"].astype(str)
    data = from_counts(moments_of(small_panel(frame), PLAIN), PLAIN, "poisson")
    found = marginal_of(data, PLAIN, PRIORS, np.array([False, True, False, False]))[0]
    seen: list[int] = []
    evaluate = type(found).__call__

    def watched(self, points):
        seen.append(sum(len(block.cluster) for block in self.grid.blocks))
        return evaluate(self, points)

    monkeypatch.setattr(type(found), "__call__", watched)
    means, sds = [], []
    for sample in (64, 6):
        monkeypatch.setattr(engine, "_SAMPLE", sample)
        nodes, _ = integrate_counts(found, nodes=256, seed=1)
        at = np.array([x.mean for x in nodes.found])
        means.append(nodes.weights @ at)
        sds.append(np.sqrt(nodes.weights @ (np.square(at - means[-1])
                           + np.square([x.sd for x in nodes.found]))))  # fmt: skip
        assert set(seen) == ({24} if sample == 64 else {6, 24})
    assert np.abs((means[1] - means[0]) / sds[0]).max() < 0.03
    np.testing.assert_allclose(sds[1], sds[0], rtol=0.03)
    some = arrange(data, found.grid.parts, every=4)
    kept = np.sort(np.concatenate([block.cluster for block in some.blocks]))
    entry = frame.drop_duplicates("aco").sort_values("aco")["entry"].to_numpy()[kept]
    # of each cohort in proportion
    assert pd.Series(entry).value_counts(dropna=False).tolist() == [3, 2, 1]


@pytest.fixture(scope="module")
def fitted():
    return model(shocks="iid", organization_effects=False, draws=1000).fit(
        small_panel(small()), PLAIN
    )


def test_the_posterior_is_that_of_an_importance_sample(fitted) -> None:
    """Random effects by Gauss-Hermite rules, everything else by weighted draws of a t law."""
    data = from_counts(moments_of(small_panel(small()), PLAIN), PLAIN, "binomial")
    active = active_scales(data.cells, shocks="iid", organizations=False)
    found, rows = marginal_of(data, PLAIN, RatePriors(), active)
    block, size, d = found.grid.blocks[0], 4000, len(found.names)
    posterior = fitted.to_arviz()["posterior"]
    # a t law about a rough fit: coefficients as the engine drew them, variances as the prior has them
    v = np.hstack(
        [posterior["level"].values.reshape(4000, -1) - data.centre[0],
         posterior["period_effect"].values.reshape(4000, -1) @ found.grid.parts.zero_sum]
    )  # fmt: skip
    rng = np.random.default_rng(2)
    q, own = found.grid.n_coefficients, len(found.grid.parts.part)
    centre = np.concatenate([np.zeros(d), v.mean(axis=0), np.zeros(own)])
    spread = np.eye(d + q)
    spread[d : d + q - own, d : d + q - own] = 1.2 * np.cov(v.T)
    root = np.linalg.cholesky(spread)
    heavy = np.sqrt(7 / rng.chisquare(7, size))
    unit = rng.standard_normal((size, d + q)) * heavy[:, None]
    point = centre + unit @ root.T
    z, free = point[:, :d], point[:, d:]
    values = found.split(z)
    at = found.at(values, size)
    log_weight = -0.5 * (z**2).sum(1) - 0.5 * (at.prior * free**2).sum(1)
    log_weight += 0.5 * (7 + d + q) * np.log1p((unit**2).sum(1) / 7)
    nodes, masses = np.polynomial.hermite_e.hermegauss(12)
    masses = np.log(masses / np.sqrt(2 * np.pi))
    for c in range(8):
        mean = block.centre + (at.scale * free) @ block.x[block.group[c]].T
        total = masses
        for k in range(3):
            eta = mean[:, k, None, None] + values["common_shock"][:, None, None] * nodes
            eta = eta + values["intercept_sd"][:, None, None] * nodes[:, None]
            terms = log_likelihood("binomial", eta, block.y[c, k], block.size[c, k], np.zeros(()))
            total = total + special.logsumexp(terms + masses, axis=2)
        log_weight += special.logsumexp(total, axis=1)
    weight = special.softmax(log_weight)
    ess = 1 / (weight**2).sum()
    assert ess > 200
    effects = (at.scale * free)[:, -own:] @ found.grid.parts.loading.T @ rows.logs[2::3].T
    mean = weight @ effects
    sd = np.sqrt(weight @ (effects - mean) ** 2)
    logs = (fitted.frame["unit_of_measure"] == "log odds").to_numpy()
    ours = fitted.frame.loc[logs, "estimate"].to_numpy()
    assert np.abs(ours - mean).max() < 4 * sd.max() / np.sqrt(ess)
    np.testing.assert_allclose(fitted.draws()[:, logs].std(axis=0), sd, rtol=4 / np.sqrt(2 * ess))


def test_rates_are_differences_of_rates_and_units_agree(fitted) -> None:
    table = fitted.tidy()
    overall = table[table["estimand"] == "att_overall"].set_index("unit_of_measure")
    points = overall.loc["percentage points", "estimate"]
    base = overall.loc["percentage points", "baseline"]
    assert overall.loc["percent of baseline", "estimate"] == pytest.approx(points / base)
    # a small change of log odds moves the rate by p (1 - p)
    slope = overall.loc["log odds", "estimate"] * base * (1 - base) * 100
    assert points == pytest.approx(slope, abs=0.25 * fitted.draws()[:, 0].std())
    assert fitted.meta["prior"]["effect"].startswith("Normal(0, 0.1 log odds = ")
    # three rows an average: overall, three event times or two, two cohorts
    assert set(table["unit_of_measure"]) == {"percentage points", "percent of baseline", "log odds"}


def test_the_tree_has_what_checks_read(fitted) -> None:
    import arviz

    tree = fitted.to_arviz()
    assert {"posterior", "log_likelihood", "log_prior", "prior", "posterior_predictive",
            "observed_data"} <= set(tree.children)  # fmt: skip
    np.testing.assert_allclose(
        tree["posterior"]["average"].values.reshape(4000, -1), fitted.draws(), rtol=1e-12
    )
    assert tree["log_likelihood"]["cells"].sizes["cluster"] == 8
    assert np.isfinite(float(arviz.loo(tree, var_name="cells").elpd))
    scaled = vbc.bayes.power_scaling(fitted)
    assert scaled["prior"].gt(scaled["likelihood"]).any()  # few data: the prior speaks


def linear(posterior) -> np.ndarray:
    """Linear predictors of an organization that enters in 2016, its own effects left out."""
    cohort = list(posterior["stratum_cohort"].values).index("all, 2016")
    effect = dict.fromkeys((2015, 2016, 2017), 0.0)
    for cell, value in zip(
        posterior["effect_cell"].values, posterior["effect"].values, strict=True
    ):
        g, e, _ = (part.strip() for part in str(cell).split(","))
        if g == "2016":
            effect[2016 + int(e)] = float(value)
    eta = float(posterior["level"][cohort]) + posterior["period_effect"].values[0]
    return eta + np.array([effect[t] for t in (2015, 2016, 2017)])


def test_the_likelihood_of_a_cluster_is_that_of_a_quadrature_rule(fitted) -> None:
    posterior = fitted.to_arviz()["posterior"].isel(chain=0, draw=0)
    frame = small()[lambda x: x["aco"] == "A1"]
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    masses = masses / np.sqrt(2 * np.pi)
    total = np.ones(60)
    for row, mean in zip(frame.itertuples(), linear(posterior), strict=True):
        eta = mean + float(posterior["intercept_sd"]) * nodes[:, None]
        p = special.expit(eta + float(posterior["common_shock"]) * nodes)
        mass = special.comb(row.n, row.y) * p**row.y * (1 - p) ** (row.n - row.y)
        total = total * (mass @ masses)
    found = fitted.to_arviz()["log_likelihood"]["cells"].isel(chain=0, draw=0).sel(cluster="A1")
    assert float(found) == pytest.approx(np.log(total @ masses), abs=0.01)


def test_rows_units_and_ways_to_give_counts_do_not_matter(fitted) -> None:
    frame = small()
    same = model(shocks="iid", organization_effects=False, draws=1000)
    mixed = frame.sample(frac=1.0, random_state=0)
    rate = mixed.assign(y=mixed["y"] / mixed["n"])
    people = frame.loc[frame.index.repeat(frame["n"])].reset_index(drop=True)
    rank = people.groupby(["aco", "t"]).cumcount()
    people = people.assign(y=(rank < people["y"]).astype(float), person=np.arange(len(people)))
    rows = vbc.Panel.from_frame(
        people, unit="person", cluster="aco", period="t", cohort="entry",
        kind="repeated_cross_section",
    )  # fmt: skip
    given = (
        small_panel(rate, exposure=None, weight="n"),
        vbc.Moments.from_panel(rows, outcomes=["y"], by="cluster"),
    )
    for data in given:
        again = same.fit(data, PLAIN)
        np.testing.assert_array_equal(again.frame["estimate"], fitted.frame["estimate"])


def test_exposure_in_another_unit_changes_rates_alone() -> None:
    frame = small("poisson")
    options = {"shocks": "none", "organization_effects": False, "nodes": 64}
    years = model("poisson", **options).fit(small_panel(frame), PLAIN)
    months = model("poisson", **options).fit(small_panel(frame.assign(n=12.0 * frame["n"])), PLAIN)
    units = years.frame["unit_of_measure"]
    assert set(units) == {"visits per member-year", "percent of baseline", "log rate"}
    factor = np.where(units == "visits per member-year", 12.0, 1.0)
    np.testing.assert_allclose(
        months.frame["estimate"] * factor, years.frame["estimate"], rtol=1e-6
    )


def test_likelihoods_are_those_of_scipy() -> None:
    y, size = np.array([0.0, 3.0, 40.0]), np.array([1.0, 5.0, 100.0])
    eta = np.array([-1.0, 0.2, -0.7])
    mean = size * np.exp(eta)
    for spread in (0.1, 0.5):
        shape, none = spread**-2, np.asarray(spread)
        expected = {
            "binomial": stats.binom.logpmf(y, size, special.expit(eta)),
            "poisson": stats.poisson.logpmf(y, mean),
            "negative_binomial": stats.nbinom.logpmf(y, shape, shape / (shape + mean)),
        }
        for family in COUNTS:
            ours = log_likelihood(family, eta, y, size, none) + constant(family, y, size)
            np.testing.assert_allclose(ours, expected[family], rtol=1e-10)


def test_a_negative_binomial_without_dispersion_is_poisson() -> None:
    y, size = np.array([0.0, 3.0, 40.0]), np.array([1.0, 5.0, 100.0])
    eta, none = np.array([-1.0, 0.2, -0.7]), np.array(1e-5)
    for ours, expected in zip(
        (log_likelihood("negative_binomial", eta, y, size, none),
         *slopes("negative_binomial", eta, y, size, none)),
        (log_likelihood("poisson", eta, y, size, none), *slopes("poisson", eta, y, size, none)),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_the_slope_by_the_shape_does_not_cancel() -> None:
    y = np.array([0.0, 3.0, 40.0])
    for shape in (0.5, 19.0, 21.0):
        direct = special.digamma(y + shape) - special.digamma(shape) - y / shape
        np.testing.assert_allclose(rising_slope(y, np.asarray(shape)), direct, atol=1e-13)
    # leading term for a large shape: 1e-13 is lost in digamma functions of 23
    np.testing.assert_allclose(
        rising_slope(y, np.asarray(1e10)), -0.5 * y * (y - 1.0) / 1e20, rtol=1e-3, atol=1e-25
    )


@pytest.mark.parametrize("family", COUNTS)
def test_derivatives_are_those_of_the_likelihood(family) -> None:
    y, size = np.array([0.0, 3.0, 40.0]), np.array([1.0, 5.0, 100.0])
    eta, spread, step = np.array([-1.0, 0.2, -0.7]), np.array(0.3), 1e-5

    def functions(at: np.ndarray) -> list[np.ndarray]:
        d = slopes(family, at, y, size, spread)
        value = log_likelihood(family, at, y, size, spread)
        return [value, d.score, -d.weight, d.third, d.fourth]

    ahead, back, here = functions(eta + step), functions(eta - step), functions(eta)
    for k in range(4):
        np.testing.assert_allclose((ahead[k] - back[k]) / (2 * step), here[k + 1], rtol=1e-5)


def test_effects_in_organizations() -> None:
    frame = small(effect=-0.4)
    est = (hierarchy := model(shocks="none")).fit(small_panel(frame), PLAIN)
    own = hierarchy.organizations(est, small_panel(frame), PLAIN, size=400)
    assert own.frame["cluster"].tolist() == ["A1", "A3", "A5", "A7"]
    assert set(own.frame["unit_of_measure"]) == {"log odds"}
    with pytest.raises(EstimationError, match="other cells"):
        hierarchy.organizations(est, small_panel(small(seed=6)), PLAIN)
    tree = est.to_arviz()
    whole = tree["posterior"].to_dataset()
    # law of A1's deviation given everything else, by a rule for it and for the intercept
    place = whole["organization_sd"].argmax(["chain", "draw"])
    at = whole.isel(place)
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    weights = np.log(np.outer(masses, masses))
    for row, mean in zip(frame[frame["aco"] == "A1"].itertuples(), linear(at), strict=True):
        eta = mean + float(at["intercept_sd"]) * nodes[:, None]
        eta = eta + float(at["organization_sd"]) * nodes * (row.t >= 2016)
        weights = weights + stats.binom.logpmf(row.y, row.n, special.expit(eta))
    z = special.softmax(weights).sum(axis=0)
    mean, var = z @ nodes, z @ nodes**2 - (z @ nodes) ** 2
    one = at.sel(organization="A1")
    signal, raw = float(one["organization_signal"]), float(one["organization_raw"])
    assert signal == pytest.approx(1 - var, abs=0.02)
    assert signal * raw / float(at["organization_sd"]) == pytest.approx(mean, abs=0.05)
    # shares of a prior variance, and logs that a few dozen trials can show
    left = 1 - whole["organization_signal"].mean(["chain", "draw"])
    np.testing.assert_allclose(own.frame["shrinkage"], left, rtol=1e-12)
    assert left.min() > 0.8
    assert left.max() < 1
    assert own.frame["raw"].abs().max() < 3
    apart = whole["organization_effect"] + 5.0 * (whole["chain"] == 0)
    tree["posterior"] = whole.assign(organization_effect=apart)
    with pytest.raises(EstimationError, match="R-hat"):
        hierarchy.organizations(est, small_panel(frame), PLAIN)


def test_what_is_no_count_is_refused() -> None:
    frame = small()
    good = model()
    with pytest.raises(DataError, match="more events than trials"):
        good.fit(small_panel(frame.assign(y=frame["n"] + 1)), PLAIN)
    with pytest.raises(DataError, match="negative"):
        good.fit(small_panel(frame.assign(y=-1)), PLAIN)
    with pytest.raises(DataError, match="not a whole number"):
        good.fit(small_panel(frame.assign(y=frame["y"] + 0.4)), PLAIN)
    with pytest.raises(DataError, match="trials that are not whole"):
        good.fit(small_panel(frame.assign(n=frame["n"] + 0.5)), PLAIN)
    with pytest.raises(DataError, match="no trials or exposure"):
        good.fit(small_panel(frame.assign(y=1, n=np.where(frame.index == 0, 0, frame["n"]))), PLAIN)
    with pytest.raises(DataError, match="weights beside an exposure"):
        good.fit(small_panel(frame.assign(w=2.0), weight="w"), PLAIN)
    with pytest.raises(DataError, match="whole number in every row, and so a count"):
        model("poisson").fit(small_panel(frame, exposure=None, weight="n"), PLAIN)
    both = frame.assign(w=frame["n"].astype(float))
    with pytest.raises(DataError, match="whole number in every row, and so a count"):
        model("poisson").fit(small_panel(both, weight="w"), PLAIN)
    one = frame.assign(n=np.where(frame.index == 0, 1, frame["n"]))
    with pytest.raises(DataError, match="whole number in every row, and so a count"):
        model("poisson").fit(small_panel(one, exposure=None, weight="n"), PLAIN)
    large = frame.assign(y=900_000 + frame["y"], n=4_000_000)
    with pytest.raises(DataError, match="24 cells of 24 have a sum that is not a whole number"):
        good.fit(small_panel(large.assign(y=large["y"] + 0.4)), PLAIN)
    with pytest.raises(DataError, match="more events than trials"):
        good.fit(small_panel(large.assign(y=large["n"] + 1)), PLAIN)
    # units may be people, and few of them are not counted
    below = frame.assign(y=np.where(frame.index < 2, -1, frame["y"]), person=frame["aco"])
    below["aco"] = below["aco"].map({f"A{i}": i % 4 for i in range(8)})
    with pytest.raises(DataError, match="fewer than 11 cells of 24 are negative"):
        good.fit(small_panel(below, unit="person", cluster="aco"), PLAIN)
    with pytest.raises(DesignError, match="baseline mean is not positive"):
        good.fit(small_panel(frame.assign(y=0)), PLAIN)
    with pytest.raises(DesignError, match="at least 3"):
        good.fit(small_panel(frame[frame["aco"].isin(["A0"])].assign(entry=2016.0)), PLAIN)
    with pytest.raises(DesignError, match="no effect to estimate"):
        good.fit(small_panel(frame.assign(entry=np.nan)), PLAIN)


def test_organizations_of_too_many_units_are_refused_before_memory_runs_out() -> None:
    i, t = (x.ravel() for x in np.indices((12_000, 2)))
    entry = np.where(i % 3 == 1, 1.0, np.nan)
    frame = pd.DataFrame({"person": i, "aco": i % 3, "t": t, "entry": entry, "y": i % 2, "n": 1})
    people = small_panel(frame, unit="person", cluster="aco")
    with pytest.raises(DesignError, match=r"3 organizations have up to 8,000 units .*by='cluster'"):
        from_counts(moments_of(people, PLAIN), PLAIN, "binomial")


def test_a_mode_that_is_not_reached_has_no_density(monkeypatch) -> None:
    found = density(table(), "poisson")
    point = np.zeros((1, len(found.names)))
    assert np.isfinite(found(point)[0].log_density)
    found._warm.clear()
    monkeypatch.setattr("vbceval.bayes.counts.laplace.STEPS", 1)
    assert found(point)[0].log_density == -np.inf


def test_a_cell_without_trials_is_left_out_and_one_without_events_is_not() -> None:
    frame = small()
    none = frame.assign(y=np.where(frame.index < 2, 0, frame["y"]))
    empty = frame.assign(
        y=np.where(frame.index == 1, 0, frame["y"]), n=np.where(frame.index == 1, 0, frame["n"])
    )
    cells = [
        from_counts(moments_of(small_panel(data), PLAIN), PLAIN, "binomial").cells
        for data in (none, empty)
    ]
    assert [len(c.y) for c in cells] == [24, 23]
    assert cells[1].dropped["no outcome or weight"] == 1


def test_options_of_other_families_are_refused() -> None:
    with pytest.raises(DesignError, match="`family` is 'gamma'"):
        HierarchicalDiD(family="gamma")
    with pytest.raises(DesignError, match="use 'laplace' or 'nuts'"):
        HierarchicalDiD(family="poisson", engine="exact")
    with pytest.raises(DesignError, match="`person_sd` belongs to family='gaussian'"):
        HierarchicalDiD(family="poisson", person_sd=3.0)
    with pytest.raises(EstimationError, match="Use `RatePriors`"):
        HierarchicalDiD(family="poisson", prior=vbc.bayes.Priors())
    with pytest.raises(EstimationError, match="log odds or log rates, not percent"):
        RatePriors(effect=10.0)


def test_counts_that_vary_more_than_the_model_says_are_refused() -> None:
    rng = np.random.default_rng(0)
    frame = small().assign(n=4000)
    rates = special.expit(-1.5 + rng.normal(0, 0.4, len(frame)))
    wild = frame.assign(y=rng.binomial(4000, rates))
    with pytest.raises(EstimationError, match="Use shocks='ar1'"):
        model(shocks="none", organization_effects=False, nodes=64).fit(small_panel(wild), PLAIN)


def test_a_large_correction_is_refused_and_named() -> None:
    """Two nodes between which the terms of the next order decide."""
    nothing = np.zeros(1)
    found = [
        Found(0.0, np.array([m]), np.array([0.1]), nothing, c) for m, c in ((0.0, 0.0), (1.0, 3.0))
    ]
    points, family = np.array([[0.0], [1.0]]), np.arange(2)
    nodes = Nodes(points, family, np.array([0.5, 0.5]), found)
    error = laplace_error(nodes, ["att_overall"], ["intercept_sd"])
    # without the terms the second node weighs exp(-3) of the first
    share = np.exp(-3) / (1 + np.exp(-3))
    assert error.variance_shift == pytest.approx((0.5 - share) / 0.5)
    assert error.weight_shift == pytest.approx((0.5 - share) / np.sqrt(0.1**2 + 0.5**2))
    with pytest.raises(EstimationError, match=r"`intercept_sd` by 0\.91 .*engine='nuts'"):
        require_small(error)
    require_small(error._replace(weight_shift=0.1, variance_shift=0.1))


def test_derivatives_of_the_sampled_density() -> None:
    """What the sampler reads of gradients, against differences, every kind of parameter included."""
    found = density(table(), "negative_binomial")
    field, rng = Sampled(marginal=found), np.random.default_rng(0)
    drawn = split_point(found.laws, rng.normal(size=(1, len(found.names))))
    values = {name: np.asarray(x[0]) for name, x in drawn.items()}
    point, step = 0.3 * rng.normal(size=field.size), 1e-6
    _, by_point, by_value = field.density(point, values)
    for k in rng.choice(field.size, 25, replace=False):
        away = step * np.eye(field.size)[k]
        change = field.density(point + away, values)[0] - field.density(point - away, values)[0]
        assert by_point[k] == pytest.approx(change / (2 * step), abs=1e-5)
    for name, x in values.items():
        both = [field.density(point, {**values, name: x + d})[0] for d in (step, -step)]
        assert by_value[name].sum() == pytest.approx((both[0] - both[1]) / (2 * step), rel=1e-5)


def test_the_overall_effect_is_printed_under_other_priors() -> None:
    options = {"shocks": "none", "organization_effects": False, "nodes": 64}
    est = model(**options, alternatives=("flat",)).fit(small_panel(small()), PLAIN)
    lines = pd.DataFrame(est.meta["prior_sensitivity"])
    logs = lines[lines["unit_of_measure"] == "log odds"].set_index("prior")
    # of the rate before entry, which a small change of log odds moves by p (1 - p)
    base = next(iter(est.meta["baseline"].values()))
    change = special.expit(special.logit(base) + np.array([1e-6, -1e-6])) @ [1, -1] / 2e-6 / base
    assert logs.loc["default", "prior_sd_percent"] == pytest.approx(10 * change)
    assert logs.loc["flat", "prior_sd_percent"] == pytest.approx(50 * change)
    assert logs.loc["default", "std_error"] < logs.loc["flat", "std_error"]


def test_size_and_share_of_two_spreads_are_standard_normal_like_the_spreads() -> None:
    """The map keeps the standard normal law: at every point density times volume is the same."""
    rng = np.random.default_rng(2)
    for z in rng.normal(0, 1.2, (12, 3)):
        step = 1e-5 * np.eye(3)
        slope = (from_polar(z + step, 0, 2) - from_polar(z - step, 0, 2)) / 2e-5
        ours = from_polar(z[None], 0, 2)[0]
        volume = np.log(abs(np.linalg.det(slope)))
        assert volume - 0.5 * ours @ ours == pytest.approx(-0.5 * z @ z, abs=1e-7)
        assert ours[1] == z[1]
        # along a share both spreads grow, and along a size the share stays
        h = special.ndtri(0.5 + special.ndtr(ours) / 2)
        assert np.hypot(h[0], h[2]) == pytest.approx(np.sqrt(-2 * special.log_ndtr(-z[0])))
        assert np.arctan2(h[2], h[0]) == pytest.approx(np.pi / 2 * special.ndtr(z[2]))
    far = from_polar(np.array([[0.5, 0.0, -9.0], [0.5, 0.0, 9.0], [9.0, 0.0, 0.0]]), 0, 2)
    assert np.isfinite(far).all()
    assert far[0, [0, 2]] == pytest.approx(far[1, [2, 0]])
