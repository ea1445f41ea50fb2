"""The exact engine: against dense algebra, a fine grid, and itself under other labels and units."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits, Priors, draws
from vbceval.bayes.averages import PERCENT, averages
from vbceval.bayes.calibration import place_of_truth, uniformity
from vbceval.bayes.cells import Cells, from_moments
from vbceval.bayes.coefficients import _normal_equations, structure
from vbceval.bayes.draws import Parameters, cluster_terms
from vbceval.bayes.equations import arrange
from vbceval.bayes.exact import Marginal, draw, effective_sizes, integrate_cells
from vbceval.bayes.hyper import laws, natural_values, scales_at, split_point
from vbceval.bayes.likelihood import Scales, cell_terms, noise
from vbceval.bayes.model import active_scales
from vbceval.bayes.predictive import Discrepancy
from vbceval.bayes.quadrature import Start, integrate
from vbceval.core.errors import DesignError, EstimationError

DESIGN = vbc.Design(outcome="spend", unit_of_measure="USD")


def rows(n: int = 9, *, units: int = 1, strata: int = 2, seed: int = 0) -> pd.DataFrame:
    """Organizations with gaps in their years, and restated files where there are two units."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        entry = 2016.0 + i % 2 if i % 3 else np.nan
        own = rng.normal(0, 1.0)
        for u in range(units):
            for s in range(strata):
                level = (9_000 + 4_000 * s) * (1 + 0.05 * rng.normal())
                for t in range(2013, 2018):
                    if (i, t) in ((2, 2014), (5, 2015)):
                        continue
                    percent = 2 * (t - 2013) + rng.normal(0, 1.5) + (own - 2) * (t >= entry)
                    spend = level * (1 + percent / 100)
                    size = 3_000.0 + 100 * i + 10 * t % 7
                    out.append((f"A{i}", f"{i}-{u}", f"s{s}", t, entry, spend, size, 0.2 * i + u))
    names = ["aco", "unit", "s", "year", "entry", "spend", "size", "x"]
    return pd.DataFrame(out, columns=names)


def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="entry", cluster="aco", strata=["s"],
        weight="size",
    )  # fmt: skip


def marginal(
    cells: Cells, *, shocks: str = "ar1", organizations: bool = True, log_sd: float = 0.0
) -> Marginal:
    parts, priors = structure(cells), Priors(period=5.0)
    active = active_scales(cells, shocks=shocks, organizations=organizations)
    return Marginal(
        cells=cells, parts=parts, priors=priors, equations=arrange(cells, parts),
        laws=laws(cells, parts, priors, active, person_log_sd=log_sd),
        averages=averages(cells, DESIGN).weights,
    )  # fmt: skip


def cells_of(frame: pd.DataFrame, covariates: tuple[str, ...] = ()) -> Cells:
    moments = vbc.Moments.from_panel(panel(frame), outcomes=["spend"], covariates=list(covariates))
    design = replace(DESIGN, covariates=covariates)
    return from_moments(moments, design, person_sd=30_000.0)


# ------------------------------------------------------------------ elimination

SCALES = [
    (0.8, 1.7, 0.9, 0.4), (0.0, 1.7, 0.9, -0.4), (0.8, 0.0, 0.9, 0.4), (0.8, 1.7, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("units", "covariates"), [(1, ()), (2, ("x",))], ids=["plain", "restated, with a covariate"]
)
def test_normal_equations_are_those_of_the_likelihood_column_by_column(units, covariates) -> None:
    """The likelihood that NUTS samples, applied to every regressor; itself equal to dense algebra."""
    cells = cells_of(rows(units=units), covariates)
    found = marginal(cells)
    sd, overlap = np.array([1.0, 1.3]), 0.4 * cells.restated
    for scales in SCALES:
        four = np.array(scales)
        phi, shared = 1.0 / ((1.0 - overlap) * sd**2), overlap * sd**2
        terms = found.equations.at(cells.y, phi, shared, four)
        x = _columns_of(cells, found)
        expected = _normal_equations(cells, x, four, overlap, sd)
        assert terms.around.gram == pytest.approx(expected.gram, abs=1e-12)
        assert terms.around.target == pytest.approx(expected.target, rel=1e-9, abs=1e-11)
        one = Scales(np.zeros(0), *four, overlap, sd)
        theirs = cell_terms(cells, cells.y, one)
        assert terms.log_likelihood == pytest.approx(theirs[0].sum(), abs=1e-8)
        ours = found.equations.clusters(np.array([cells.y, 2 * cells.y]), phi, shared, four)
        assert ours[0][0] == pytest.approx(theirs[0], abs=1e-8)
        assert ours[1][1] == pytest.approx(cell_terms(cells, 2 * cells.y, one)[5], abs=1e-10)
        # shocks of each stratum with a variance of their own
        one = one._replace(specific=np.array([0.3, 2.1]))
        terms = found.equations.at(cells.y, phi, shared, one.four, one.ratio)
        theirs = cell_terms(cells, cells.y, one)
        assert terms.log_likelihood == pytest.approx(theirs[0].sum(), abs=1e-8)
        assert terms.around.target == pytest.approx(x.T @ theirs[1], rel=1e-9, abs=1e-11)
        by_cluster = found.equations.clusters(cells.y[None], phi, shared, one.four, one.ratio)
        assert by_cluster[0][0] == pytest.approx(theirs[0], abs=1e-8)


def _columns_of(cells: Cells, found: Marginal) -> np.ndarray:
    from vbceval.bayes.coefficients import _columns

    return _columns(cells, found.parts)


def test_organizations_of_one_pattern_share_a_factor() -> None:
    """Equal sizes, years and cohorts: one pattern each, and the same equations as without sharing."""
    frame = rows().assign(size=4_000.0)
    cells = cells_of(frame)
    found = marginal(cells)
    assert len(found.equations.patterns.n_periods) < cells.cluster.max() + 1
    apart = cells_of(frame.assign(size=lambda t: t["size"] + 1e-6 * t["x"]))
    assert len(marginal(apart).equations.patterns.n_periods) == cells.cluster.max() + 1
    z = np.full((1, len(found.names)), 0.3)
    assert found(z)[0].log_density == pytest.approx(marginal(apart)(z)[0].log_density, abs=1e-5)


def dense_log_density(found: Marginal, z: np.ndarray) -> float:
    """Log density of cells free of intercepts, coefficients integrated out, times the prior of z."""
    cells = found.cells
    values = split_point(found.laws, z)
    scales = scales_at(natural_values(values, found.parts), cells)
    t = np.asarray(cells.periods)[cells.period]
    same = cells.cluster[:, None] == cells.cluster
    alike = same & (cells.stratum[:, None] == cells.stratum)
    corr = scales.rho ** np.abs(t[:, None] - t)
    d, w = cells.layout.treated, cells.layout.precision
    sd = scales.person[cells.stratum]
    v = same * (scales.common * corr + scales.lasting * np.outer(d, d))
    v = v + alike * scales.specific * corr
    spread = pd.Series(1 / w).groupby([cells.cluster, cells.stratum, t]).transform("mean")
    together = alike & (t[:, None] == t)
    v = v + together * (scales.overlap * spread.to_numpy() * sd**2)[:, None]
    v = v + np.diag((1 - scales.overlap) * sd**2 / w)
    x = _columns_of(cells, found)
    own = len(found.parts.part)
    sds = np.concatenate([[found.priors.effect], values.get("part_sd", [])])[found.parts.part]
    n_trend = cells.n_strata * (len(cells.periods) - 1)
    prior = np.concatenate([
        np.full(n_trend, found.priors.period**2),
        np.full(x.shape[1] - n_trend - own, found.priors.covariate**2), sds**2,
    ])  # fmt: skip
    v = v + (x * prior) @ x.T
    blocks = pd.factorize(pd.Series(list(zip(cells.unit, cells.stratum, strict=True))))[0]
    basis = np.eye(blocks.max() + 1)[blocks]
    inverse = np.linalg.inv(v)
    inner = basis.T @ inverse @ basis
    p = inverse - inverse @ basis @ np.linalg.solve(inner, basis.T @ inverse)
    logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(inner)[1]
    dof = len(cells.y) - basis.shape[1]
    return float(-0.5 * (dof * np.log(2 * np.pi) + logs + cells.y @ p @ cells.y + z @ z))


@pytest.mark.parametrize(
    ("units", "covariates", "options"),
    [(1, (), {}), (1, (), {"shocks": "iid", "log_sd": 0.5}), (2, ("x",), {"shocks": "ar1"}),
     (1, ("x",), {"shocks": "none", "organizations": False})],
)  # fmt: skip
def test_density_of_variances_is_the_dense_normal_one(units, covariates, options) -> None:
    found = marginal(cells_of(rows(units=units), covariates), **options)
    rng = np.random.default_rng(1)
    for z in rng.normal(size=(3, len(found.names))):
        assert found(z[None])[0].log_density == pytest.approx(dense_log_density(found, z), abs=1e-8)


# ------------------------------------------------------------------ integration


def test_posterior_is_that_of_a_fine_grid() -> None:
    """Two variance parameters, one stratum: 45 x 45 points, each as checked above."""
    frame = rows(strata=1)
    frame = frame[(frame["year"] < frame["entry"].fillna(9999) + 1)]
    frame["entry"] = frame["entry"].where(frame["entry"] == 2016)
    frame = frame[(frame["year"] <= 2016)]
    found = marginal(cells_of(frame), shocks="iid")
    assert found.names == ["common_shock", "organization_sd"]
    ticks = np.linspace(-4.5, 4.5, 45)
    grid = np.array([(a, b) for a in ticks for b in ticks])
    at = found(grid)
    logs = np.array([x.log_density for x in at])
    assert logs[1000] == pytest.approx(dense_log_density(found, grid[1000]), abs=1e-8)
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    mean = weight @ np.array([x.mean for x in at])
    sd = np.sqrt(weight @ np.array([x.sd**2 + (x.mean - mean) ** 2 for x in at]))
    _, nodes, seen = integrate_cells(
        found.cells, found.parts, found.priors, found.laws, found.averages, nodes=256, seed=3
    )
    ours = nodes.weights @ np.array([x.mean for x in nodes.found])
    error = nodes.standard_error(np.array([x.mean for x in nodes.found]))
    assert (np.abs(ours - mean) < 4 * error + 1e-6 * sd).all()
    assert (error < 0.05 * sd).all()
    spread = np.sqrt(
        nodes.weights @ np.array([x.sd**2 + (x.mean - ours) ** 2 for x in nodes.found])
    )
    assert spread == pytest.approx(sd, rel=0.03)
    assert nodes.weights @ nodes.points == pytest.approx(weight @ grid, abs=0.08)
    assert seen.k_hat < 0.7
    # draws: within four standard errors of independent ones, and of the means much nearer
    drawn = draw(found, nodes, size=4000, seed=1)
    own = len(found.parts.part)
    effect = found.priors.effect * drawn.v[:, -own:] @ found.parts.loading.T @ found.averages.T
    assert np.abs(effect.mean(axis=0) - ours) == pytest.approx(0, abs=2 * sd.max() / np.sqrt(4000))
    assert effect.std(axis=0) == pytest.approx(spread, rel=4 / np.sqrt(4000))
    bulk, tail = effective_sizes(nodes, draws=4000)
    assert min(bulk.min(), tail.min()) > 400


class Point(NamedTuple):
    log_density: float


class Law:
    """A density of named coordinates; counts how often costly ones change."""

    def __init__(self, function, names=("a", "b"), costly=(True, False)) -> None:
        self.function, self.names, self.costly = function, list(names), np.array(costly)

    def __call__(self, points):
        return [Point(float(self.function(z))) for z in points]


START = Start(np.zeros(2), np.eye(2))


@pytest.mark.parametrize("costly", [(True, False), (True, True), (False, False)])
def test_a_normal_law_is_integrated_at_once(costly) -> None:
    """Mean (1, -.5) and correlation .6, whatever is shared between nodes."""
    precision = np.linalg.inv([[0.25, 0.15], [0.15, 0.25]])
    centre = np.array([1.0, -0.5])
    law = Law(lambda z: -0.5 * (z - centre) @ precision @ (z - centre), costly=costly)
    nodes, seen = integrate(law, START, families=128, each=8, seed=1)
    assert seen.passes == 1
    assert seen.k_hat < 0.5
    error = nodes.standard_error(nodes.points)
    assert np.abs(nodes.weights @ nodes.points - centre) == pytest.approx(0, abs=4 * error.max())
    assert list(seen.mode.values()) == pytest.approx(centre, abs=0.01)
    assert len(np.unique(nodes.points[:, 0])) == (128 if costly == (True, False) else 1024 // (8 if costly[1] else 1))  # fmt: skip


def test_a_law_far_wider_than_its_mode_says_takes_more_passes() -> None:
    """A narrow peak on a wide normal law: curvature at the mode says little about the rest."""
    law = Law(lambda z: np.logaddexp(-0.5 * z @ z, -5.0 - 200.0 * z @ z))
    sharp = Law(lambda z: np.logaddexp(-0.5 * z @ z, 2.0 - 200.0 * z @ z))
    assert integrate(law, START, families=64, each=8, seed=1)[1].passes == 1
    nodes, seen = integrate(sharp, START, families=64, each=8, seed=1)
    assert seen.passes > 1
    # shares of the two parts: 1 and e^2 / 400
    share = np.exp(2) / 400
    expected = (1 + share / 400) / (1 + share)
    assert nodes.weights @ nodes.points[:, 0] ** 2 == pytest.approx(expected, rel=0.2)


def test_what_cannot_be_integrated_is_an_error_that_names_the_parameter() -> None:
    # tails of one coordinate far heavier than those of any proposal
    law = Law(
        lambda z: -0.5 * z[0] ** 2 - 0.05 * np.log1p(99 * z[1] ** 2), ("rho", "organization_sd")
    )
    with pytest.raises(EstimationError, match=r"4 passes: Pareto k-hat.*`organization_sd`"):
        integrate(law, START, families=64, each=8, seed=1)
    with pytest.raises(EstimationError, match=r"mode of `organization_sd`.*widen the prior"):
        integrate(Law(lambda z: z[1] - z[0] ** 2, names=("rho", "organization_sd")), START,
                  families=64, each=8, seed=1)  # fmt: skip
    with pytest.raises(EstimationError, match="not finite"):
        integrate(Law(lambda z: -np.inf), START, families=64, each=8, seed=1)


# ------------------------------------------------------------------ the estimator


@pytest.fixture(scope="module")
def fitted() -> SimpleNamespace:
    model = HierarchicalDiD(person_sd=30_000.0, alternatives=(), draws=250, nodes=512)
    frame = rows(12)
    return SimpleNamespace(model=model, frame=frame, est=model.fit(panel(frame), DESIGN))


def test_order_labels_and_units_do_not_matter(fitted) -> None:
    def shown(frame: pd.DataFrame, sd: float = 30_000.0) -> vbc.Estimates:
        return replace(fitted.model, person_sd=sd).fit(panel(frame), DESIGN)

    est = fitted.est
    shuffled = shown(fitted.frame.sample(frac=1.0, random_state=1))
    assert shuffled.estimate == pytest.approx(est.estimate, rel=1e-8)
    named = fitted.frame.assign(
        aco=fitted.frame["aco"].map(lambda c: f"Z{99 - int(c[1:])}"),
        unit="U" + fitted.frame["unit"],
    )
    assert shown(named).estimate == pytest.approx(est.estimate, rel=1e-5)
    dearer = shown(fitted.frame.assign(spend=2.0 * fitted.frame["spend"]), 60_000.0)
    dollars = (est.frame["unit_of_measure"] == "USD").to_numpy()
    factor = np.where(dollars, 2.0, 1.0)
    assert dearer.estimate == pytest.approx(factor * est.estimate, rel=1e-6)
    assert dearer.draws() == pytest.approx(factor * est.draws(), rel=1e-4, abs=1e-3)


def test_result_has_the_form_of_a_sampled_one(fitted) -> None:
    tree = fitted.est.to_arviz()
    for group in ("sample_stats", "log_likelihood", "log_prior", "prior", "posterior_predictive"):
        assert group in tree.children
    assert tree["log_likelihood"]["cells"].shape == (4, 250, 12)
    assert fitted.est.draws().shape == (1000, len(fitted.est))
    assert fitted.est.meta["integration"]["k_hat"] < 0.7
    assert fitted.est.meta["convergence"]["ess_bulk"] > 400
    own = fitted.model.organizations(fitted.est, panel(fitted.frame), DESIGN, size=200)
    assert len(own) == 8
    assert own.frame["shrinkage"].between(0, 1).all()
    assert fitted.est.where(estimand="att_overall", unit_of_measure=PERCENT).estimate[0] < 0


def test_log_likelihood_of_draws_is_that_of_the_sampled_density(fitted) -> None:
    from vbceval.bayes.draws import Parameters

    cells = fitted.model._cells(panel(fitted.frame), DESIGN, None)[0]
    tree = fitted.est.to_arviz()
    parameters = Parameters(cells, tree)
    found = tree["log_likelihood"]["cells"].values.reshape(1000, -1)
    for i in (0, 400, 999):
        scales = parameters.scales(i)
        assert noise(scales)[0] == pytest.approx(np.ones(2))
        theirs = cell_terms(cells, parameters.residual(i), scales)[0]
        assert found[i] == pytest.approx(theirs, abs=1e-9)


def test_too_few_draws_and_wrong_scales_are_refused(fitted) -> None:
    with pytest.raises(EstimationError, match="raise `draws`"):
        replace(fitted.model, draws=50).fit(panel(fitted.frame), DESIGN)
    assert len(
        replace(fitted.model, draws=50).fit(panel(fitted.frame), DESIGN, limits=Limits(ess=50)).draws()
    ) == 200  # fmt: skip
    sure = replace(fitted.model, person_sd=300_000_000.0, person_sd_uncertainty=0.5)
    with pytest.raises(EstimationError, match=r"mode of `person_factor\[s=s0\]`"):
        sure.fit(panel(fitted.frame), DESIGN)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"person_sd": 30_000_000.0}, "`person_sd` is too large"),
     ({"person_sd": 30.0, "shocks": "none", "organization_effects": False}, "use shocks='ar1'")],
)  # fmt: skip
def test_noise_of_another_scale_than_residuals_is_refused(fitted, options, wrong) -> None:
    """No parameter can say so: the prior comes back, or an interval that is far too narrow."""
    with pytest.raises(EstimationError, match=rf"s=s0 .*{wrong}"):
        replace(fitted.model, **options).fit(panel(fitted.frame), DESIGN)


def test_a_stratum_of_single_cells_says_nothing_of_scale() -> None:
    """Each unit seen once: intercepts leave rounding of both, in any ratio."""
    names, one = ("variance[a]", "variance[b]"), np.ones((1, 2))
    Discrepancy(names, one * [1e-28, 1.0], one * [1e-31, 1.0]).require_scale()
    with pytest.raises(EstimationError, match=r"by stratum: b 10 \("):
        Discrepancy(names, one * [0.0, 10.0], one * [0.0, 1.0]).require_scale()


def test_equal_outcomes_within_cells_say_nothing_of_noise(fitted) -> None:
    """Several rows a cell, all alike: a spread of zero would make every cell exact."""
    twice = fitted.frame.loc[np.repeat(fitted.frame.index, 3)].assign(
        person=np.arange(3 * len(fitted.frame))
    )
    people = vbc.Panel.from_frame(
        twice, unit="person", period="year", cohort="entry", cluster="aco", strata=["s"],
        kind="repeated_cross_section",
    )  # fmt: skip
    moments = vbc.Moments.from_panel(people, outcomes=["spend"], by="cluster")
    with pytest.raises(EstimationError, match="no variation between persons"):
        replace(fitted.model, person_sd=None).fit(moments, DESIGN)


def test_scales_in_dollars_are_refused(fitted) -> None:
    with pytest.raises(EstimationError, match=r"not dollars.*'effect': 300"):
        Priors(effect=300.0)
    with pytest.raises(DesignError, match="more than ten times apart"):
        fitted.model.fit(panel(fitted.frame), DESIGN, baseline=900.0)


def test_places_of_truth_are_on_no_edge_of_a_histogram() -> None:
    """Every place among 99 draws once: five in each of twenty bins, exactly."""
    places = [{"a": place_of_truth(np.arange(99.0), k - 0.5)} for k in range(100)]
    row = uniformity(places, bins=20).iloc[0]
    assert row[[f"bin_{k}" for k in range(20)]].tolist() == [5] * 20
    assert row["mean"] == pytest.approx(0.5)


def test_options_of_the_other_engine_are_refused(fitted) -> None:
    with pytest.raises(DesignError, match="'laplace'"):
        HierarchicalDiD(engine="laplace")
    with pytest.raises(DesignError, match="`tune`, `target_accept` belongs to the other"):
        HierarchicalDiD(tune=100, target_accept=0.9)
    with pytest.raises(DesignError, match="`nodes` belongs to the other"):
        HierarchicalDiD(engine="nuts", nodes=512)
    with pytest.raises(DesignError, match="power of two"):
        HierarchicalDiD(nodes=500)
    with pytest.raises(DesignError, match="at least 4"):
        HierarchicalDiD(draws=2)
    with pytest.raises(DesignError, match="compare chains"):
        HierarchicalDiD(chains=1)
    with pytest.raises(DesignError, match="reports no progress"):
        fitted.model.fit(panel(fitted.frame), DESIGN, progress=print)


def test_likelihoods_of_few_draws_at_once_are_those_of_many(monkeypatch) -> None:
    data = panel(rows())
    model = HierarchicalDiD(
        person_sd=30_000.0, alternatives=(), nodes=128, draws=50, chains=2, shocks="iid"
    )
    tree = model.fit(data, DESIGN, limits=Limits(ess=1.0)).to_arviz()
    parameters = Parameters(cells_of(rows()), tree)
    many = cluster_terms(parameters, np.arange(100))
    monkeypatch.setattr(draws, "_AT_ONCE", 1)
    for one, other in zip(many, cluster_terms(parameters, np.arange(100)), strict=True):
        assert np.array_equal(one, other)
