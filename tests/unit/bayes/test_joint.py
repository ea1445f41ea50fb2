"""Several outcomes in one model: against dense algebra on rows, against one outcome, and planted."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, JointDiD, Priors
from vbceval.bayes.averages import PERCENT, averages
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.equations import arrange
from vbceval.bayes.hyper import split_point
from vbceval.bayes.joint import dense
from vbceval.bayes.joint.correlated import Joint, from_partials
from vbceval.bayes.joint.posterior import marginal
from vbceval.bayes.joint.stacked import stack_cells
from vbceval.bayes.likelihood import Scales, noise
from vbceval.core.errors import DesignError, EstimationError

SD = {"spend": 20_000.0, "visits": 50.0, "score": 30.0}
PRIORS = Priors(period=5.0, covariate=4.0)


def rows(*, strata: int = 2, units: int = 1, n: int = 6, seed: int = 3) -> pd.DataFrame:
    """Organizations with a missing year, a missing outcome and sizes of their own."""
    rng = np.random.default_rng(seed)
    out = []
    for i, u, s in product(range(n), range(units), range(strata)):
        entry = 2015.0 + i % 2 if i % 3 else np.nan
        for t in (2013, 2014, 2015, 2016):
            if (i, t) == (2, 2014):
                continue
            size = 3_000.0 + 400 * i + 50 * s + 7 * (t - 2013) + 20 * u
            e = rng.normal(0, 2, 3) + 1.5 * rng.normal() - 2.0 * (t >= entry)
            values = np.array([9_000.0 + 3_000 * s, 40.0, 70.0 + s]) * (1 + e / 100)
            if (i, t) == (4, 2016):
                values[1] = np.nan
            out.append((f"A{i}", f"{i}-{u}", f"s{s}", t, entry, size, 0.3 * i * i + u, *values))
    names = ["aco", "unit", "s", "year", "entry", "size", "x", "spend", "visits", "score"]
    return pd.DataFrame(out, columns=names)


def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="entry", cluster="aco", weight="size",
        strata=["s"] if len(frame["s"].unique()) > 1 else [],
    )  # fmt: skip


def model(frame: pd.DataFrame, outcomes: tuple[str, ...], covariates: tuple[str, ...] = ()):
    """The density behind a fit, with the spread of persons of the last outcome off by a factor."""
    single, weights = [], []
    for name in outcomes:
        design = vbc.Design(outcome=name, covariates=covariates)
        moments = vbc.Moments.from_panel(panel(frame), outcomes=[name], covariates=covariates)
        single.append(from_moments(moments, design, person_sd=SD[name]))
        weights.append(averages(single[-1], design).weights)
    stacked = stack_cells(single, outcomes)
    joint = Joint(
        stacked=stacked, shocks="ar1", organizations=True, person_log_sd=0.3,
        stated=np.ones(stacked.cells.n_strata, dtype=bool), person_correlation=None,
        concentration=2.0,
    )  # fmt: skip
    return marginal(joint, PRIORS, linalg.block_diag(*weights))


def written(frame: pd.DataFrame, outcomes: tuple[str, ...], at: dict, found) -> tuple[float, float]:
    """
    Log density of contrasts free of intercepts, and the mean of the first outcome's effect.

    From rows and the page alone: nothing of the package's layout, patterns or coefficients.
    """
    long = frame.melt(
        ["aco", "unit", "s", "year", "entry", "size", "x"], list(outcomes), "outcome", "y"
    ).dropna(subset="y")
    long = long.reset_index(drop=True)
    long["o"] = long["outcome"].map({name: k for k, name in enumerate(outcomes)})
    treated = (long["year"] >= long["entry"]).to_numpy(dtype=float)
    base = {}
    for (o, s), part in long[long["entry"].notna()].groupby(["o", "s"]):
        before = part[part["year"] < part["entry"]]
        last = before[before["year"] == before.groupby("unit")["year"].transform("max")]
        base[o, s] = np.average(last["y"], weights=last["size"])
    scale = np.array([base[key] for key in zip(long["o"], long["s"], strict=True)])
    y = 100 * long["y"].to_numpy() / scale

    def same(*names: str) -> np.ndarray:
        return np.all([long[n].to_numpy()[:, None] == long[n].to_numpy() for n in names], axis=0)

    o, year = long["o"].to_numpy(), long["year"].to_numpy(dtype=float)
    pair = o[:, None], o
    zero_sum = same("year") - 1 / long["year"].nunique()
    # each outcome standardises its covariate by the rows it has
    x = long.groupby("o")["x"].transform(lambda v: (v - v.mean()) / v.std(ddof=0)).to_numpy()
    fixed = same("o", "s") * zero_sum * PRIORS.period**2
    if found.cells.covariates:
        fixed = fixed + same("o") * np.outer(x, x) * zero_sum * PRIORS.covariate**2
    event = year - long["entry"].to_numpy()
    both, sd = np.outer(treated, treated), at["part_sd"]
    names = [n.split(": ") for n in found.parts.names[1:]]
    part = np.zeros((len(outcomes), 5))
    part[:, 0] = PRIORS.effect
    order = ["entry", "cohort", "event_time", "stratum", "interaction"]
    for (outcome, name), value in zip(names, sd, strict=True):
        part[outcomes.index(outcome), order.index(name)] = value
    var = np.square(part)[o]
    # no name of a cohort or event time is missing where both cells are treated
    walk = np.minimum(event[:, None], event)
    effect = var[:, [0]] + var[:, [1]] * same("entry") + var[:, [2]] * np.nan_to_num(walk)
    effect += var[:, [3]] * same("s")
    effect += var[:, [4]] * (same("entry", "s") & (event[:, None] == event))
    effect = effect * both * same("o")
    v = fixed + effect
    gap = np.abs(year[:, None] - year)
    rho = 2 * at["rho_share"] - 1
    corr = {
        kind: from_partials(
            [2 * at[f"{kind}_correlation_{k}"] - 1 for k in range(len(outcomes) - 1)]
        )
        for kind in ("shock", "organization", "person")
    }
    level = np.outer(at["common_shock"], at["common_shock"])[pair]
    if "stratum_shock" in at:
        level = level + np.outer(at["stratum_shock"], at["stratum_shock"])[pair] * same("s")
    v += same("aco") * corr["shock"][pair] * level * rho**gap
    own = np.outer(at["organization_sd"], at["organization_sd"])[pair]
    v += same("aco") * corr["organization"][pair] * own * both
    strata = list(found.cells.coords["stratum"])
    label = [
        name if len(frame["s"].unique()) == 1 else f"{name}, s={s}"
        for name, s in zip(long["outcome"], long["s"], strict=True)
    ]
    factor = at["person_factor"][[strata.index(x) for x in label]]
    person = 100 * np.array([SD[n] for n in long["outcome"]]) / scale * factor
    noise_var = person**2 / long["size"].to_numpy()
    spread = noise_var.copy()
    for _, i in long.groupby(["aco", "o", "s", "year"]).indices.items():
        spread[i] = noise_var[i].mean()
    share = at.get("overlap", 0.0)
    alike = (1 - share) * same("unit") * np.sqrt(np.outer(noise_var, noise_var))
    alike = alike + share * np.sqrt(np.outer(spread, spread))
    v += same("aco", "s", "year") * corr["person"][pair] * alike
    blocks = long.groupby(["unit", "s", "o"]).ngroup().to_numpy()
    basis = np.eye(blocks.max() + 1)[blocks]
    free = np.linalg.svd(basis)[0][:, basis.shape[1] :].T
    w, r = free @ v @ free.T, free @ y
    weight = (treated * (o == 0)) * long["size"].to_numpy()
    # percent of the cells' baseline: cells weighted by dollars
    dollars = weight * scale
    cover = dollars / dollars.sum() @ effect @ free.T
    fit = np.linalg.solve(w, r)
    return -0.5 * (np.linalg.slogdet(w)[1] + r @ fit), float(cover @ fit)


@pytest.mark.parametrize(
    ("outcomes", "options", "covariates"),
    [
        (("spend", "visits"), {"strata": 2}, ("x",)),
        (("spend", "visits", "score"), {"strata": 1, "units": 2}, ()),
    ],
    ids=["two outcomes, strata, a covariate", "three outcomes, restated"],
)
def test_density_is_that_of_the_written_model(outcomes, options, covariates) -> None:
    frame = rows(**options)
    found = model(frame, outcomes, covariates)
    points = np.random.default_rng(0).normal(0, 0.7, (3, len(found.names)))
    logs, ours = [], found(points)
    for z, at in zip(points, ours, strict=True):
        values = split_point(found.laws, z)
        log, mean = written(frame, outcomes, values, found)
        assert at.mean[1] == pytest.approx(mean, abs=1e-8)
        logs.append(log - 0.5 * z @ z)
    expected = np.diff(logs)
    assert np.diff([x.log_density for x in ours]) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("units", [1, 2], ids=["plain", "restated"])
def test_without_correlation_the_likelihood_is_that_of_each_outcome(units) -> None:
    """By the elimination of the other model: another algorithm for the same cells."""
    found = model(rows(units=units), ("spend", "score"))
    joint = found.joint
    values = split_point(found.laws, np.random.default_rng(1).normal(0, 0.5, len(found.names)))
    for kind in ("shock", "organization", "person"):
        values[f"{kind}_correlation_0"] = np.array([0.5])
    natural = joint.natural(values)
    terms = found.dense.at(found.cells.y, joint.covariances(natural))
    expected = 0.0
    for o, cells in enumerate(joint.stacked.single):
        one = Scales(
            np.zeros(0), natural["stratum_shock"][o] ** 2, natural["common_shock"][o] ** 2,
            natural["organization_sd"][o] ** 2, natural["rho"], natural.get("overlap", 0.0),
            natural["person_scale"][joint.stacked.outcome == o],
        )  # fmt: skip
        own = arrange(cells, structure(cells)).at(cells.y, *noise(one), one.four)
        expected += own.log_likelihood
    assert terms.log_likelihood == pytest.approx(expected, abs=1e-8)
    by_cluster = found.dense.clusters(found.cells.y[None], joint.covariances(natural))
    assert by_cluster.sum() == pytest.approx(expected, abs=1e-8)


def test_partial_correlations_make_the_law_of_matrices() -> None:
    """LKJ(2) in three dimensions: each correlation has the law Beta(2.5, 2.5) on (-1, 1)."""
    found = model(rows(strata=1), ("spend", "visits", "score"))
    z = np.random.default_rng(2).standard_normal((4000, len(found.names)))
    drawn = found.joint.natural(split_point(found.laws, z), (4000,))["shock_correlation"]
    assert np.linalg.eigvalsh(drawn).min() > 0
    for i, j in ((0, 1), (0, 2), (1, 2)):
        fit = stats.kstest((drawn[:, i, j] + 1) / 2, stats.beta(2.5, 2.5).cdf)
        assert fit.pvalue > 1e-3, (i, j)


@pytest.fixture(scope="module")
def planted() -> SimpleNamespace:
    """Thirty large organizations whose shocks to spending and visits have correlation -0.8."""
    rng = np.random.default_rng(5)
    out = []
    for i in range(30):
        entry = 2016.0 if i % 2 else np.nan
        shock = rng.multivariate_normal([0, 0], [[2.0, -1.6], [-1.6, 2.0]], 4)
        for t in range(2014, 2018):
            e = shock[t - 2014] - np.array([4.0, 0.0]) * (t >= entry)
            values = np.array([10_000.0, 40.0]) * (1 + e / 100)
            out.append((f"A{i}", t, entry, 90_000.0 + i, *values))
    frame = pd.DataFrame(out, columns=["aco", "year", "entry", "size", "spend", "visits"])
    data = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")
    designs = [vbc.Design(outcome=name) for name in ("spend", "visits")]
    options = {"person_sd": {k: SD[k] for k in ("spend", "visits")}, "organization_effects": False}
    model = JointDiD(**options, nodes=256)
    est = model.fit(data, designs)
    return SimpleNamespace(est=est, model=model, data=data, designs=designs, frame=frame)


def test_planted_effects_and_correlation_are_found(planted) -> None:
    est = planted.est
    overall = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    assert list(overall.frame["outcome"]) == ["spend", "visits"]
    sd = overall.draws().std(axis=0)
    assert np.all(np.abs(overall.estimate - [-4.0, 0.0]) < 3 * sd)
    assert np.all(sd < 0.8)
    # errors of the two effects are as correlated as what makes them
    assert np.corrcoef(overall.draws().T)[0, 1] < -0.5
    shock = est.to_arviz()["posterior"]["shock_correlation"].values[..., 0, 1]
    assert np.quantile(shock, 0.01) < -0.8 < np.quantile(shock, 0.99)
    assert abs(shock.mean() + 0.8) < 0.15
    spend, visits = overall.draws().T
    together = ((spend < -2) & (visits < 1)).mean()
    apart = (spend < -2).mean() * (visits < 1).mean()
    assert together < apart
    row = overall.contrast({"difference": {0: 1.0, 1: -1.0}})
    # negatively correlated: the difference is less certain than if they were independent
    assert row.draws().std() > 1.15 * np.hypot(*sd)


def test_one_outcome_of_two_is_close_to_the_model_of_one(planted) -> None:
    one = HierarchicalDiD(
        person_sd=SD["spend"], organization_effects=False, alternatives=(), nodes=256
    )
    alone = one.fit(planted.data, planted.designs[0])
    both = planted.est.where(outcome="spend")
    error = alone.draws().std(axis=0)
    assert np.all(np.abs(both.estimate - alone.estimate) < 0.35 * error)
    assert np.allclose(both.draws().std(axis=0), error, rtol=0.25)


def test_result_says_what_was_assumed_and_seen(planted) -> None:
    est = planted.est
    meta = est.meta
    assert meta["prior"]["visits"]["effect"] == (
        "Normal(0, 1.2 units of the outcome = 3% of baseline)"
    )
    assert meta["prior"]["correlations"]["shocks"] == "LKJ(2)"
    assert set(meta["posterior_predictive"]) == {"spend", "visits"}
    assert meta["prior_predictive"]["visits"]["covers_zero_and_5_percent"]
    assert meta["integration"]["k_hat"] < 0.7
    copy = pickle.loads(pickle.dumps(est))
    tree = copy.to_arviz()
    assert tree["log_likelihood"]["cells"].shape == (4, 1000, 30)
    assert np.isfinite(tree["log_likelihood"]["cells"].values).all()
    sensitive = vbc.bayes.power_scaling(est)
    assert len(sensitive) == len(est)
    assert sensitive["likelihood"].gt(0).all()


def test_other_priors_are_reported_for_each_outcome(planted) -> None:
    lines = pd.DataFrame(planted.est.meta["prior_sensitivity"])
    lines = lines[lines["unit_of_measure"] == PERCENT].set_index(["outcome", "prior"])
    assert set(lines.index.get_level_values("prior")) == {"default", "skeptical", "flat"}
    methods = lines.loc["spend", "method"]
    assert methods["default"] == "as fitted"
    assert methods["flat"] in ("draws reweighted", "integrated again")
    for name in ("skeptical", "flat"):
        model = replace(planted.model, prior=name, alternatives=(), seed=1)
        again = model.fit(planted.data, planted.designs)
        overall = again.where(estimand="att_overall", unit_of_measure=PERCENT)
        sd = overall.draws().std(axis=0)
        said = lines.xs(name, level="prior").loc[["spend", "visits"]]
        assert np.all(np.abs(said["estimate"] - overall.estimate) < 0.15 * sd), name
        assert said["std_error"].to_numpy() == pytest.approx(sd, rel=0.15), name
    words = vbc.bayes.headline(planted.est)
    assert words.startswith("spend: att_overall, default prior Normal(0, 3)")
    assert "visits prior" in words.splitlines()[-1]


def test_bad_input_is_named(planted) -> None:
    fit = JointDiD(person_sd={"spend": 1.0, "costs": 2.0}).fit
    with pytest.raises(DesignError, match="`person_sd` names `costs`, which no design"):
        fit(planted.data, planted.designs)
    with pytest.raises(DesignError, match="at least two different ones"):
        JointDiD().fit(planted.data, planted.designs[:1] * 2)
    with pytest.raises(DesignError, match="`designs` is one design"):
        JointDiD().fit(planted.data, planted.designs[0])
    with pytest.raises(DesignError, match="evidence on one outcome"):
        JointDiD(prior=Priors(effect_mean=-1.0))
    with pytest.raises(EstimationError, match="'narrow'"):
        JointDiD(alternatives=("narrow",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_MEMORY", 1e3)
        with pytest.raises(EstimationError, match="up to 8 cells each"):
            JointDiD(person_sd={k: SD[k] for k in ("spend", "visits")}).fit(
                planted.data, planted.designs
            )
    with pytest.raises(DesignError, match="mapping of outcome"):
        JointDiD(person_sd=3.0)
    with pytest.raises(DesignError, match="`concentration` is 0"):
        JointDiD(concentration=0.0)
    pair = ("spend", "visits")
    for wrong, why in (
        (1.2, "no correlation matrix"), ({pair: 1.1}, "no correlation matrix"),
        ({pair: 0.3, ("spend", "score"): 0.1}, r"`person_correlation` names .*score"),
        ({pair: 0.3, pair[::-1]: 0.2}, "in both orders"),
    ):  # fmt: skip
        with pytest.raises(DesignError, match=why):
            JointDiD(
                person_sd={k: SD[k] for k in ("spend", "visits")}, person_correlation=wrong
            ).fit(planted.data, planted.designs)
    with pytest.raises(EstimationError, match="State `person_sd`"):
        JointDiD(person_sd={"spend": SD["spend"]}).fit(planted.data, planted.designs)
