"""Effects by regression trees: exact posteriors of small forests, planted effects, refusals."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.bayes import EffectTrees, Limits
from vbceval.bayes.trees.covariates import read_table
from vbceval.bayes.trees.forest import Forest, Shape
from vbceval.bayes.trees.gibbs import Scales, measured, sample_chain, slice_step
from vbceval.bayes.trees.sensitivity import reweighted
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.estimates import Estimates

LOOSE = Limits(r_hat=9.0, ess=1.0)


def need_stochtree() -> None:
    pytest.importorskip(
        "stochtree", reason="stochtree is not installed: pip install 'vbceval[trees]'"
    )


def shared_errors(n: int, rng: np.random.Generator) -> np.ndarray:
    """A covariance of unequal errors with a common part and another factor."""
    factor = rng.normal(0, 0.3, n)
    return np.diag(rng.uniform(0.3, 0.9, n) ** 2) + 0.1 + np.outer(factor, factor)


# ------------------------------------------------------------------ pieces


def test_covariance_is_split_into_two_covariances() -> None:
    rng = np.random.default_rng(1)
    v = shared_errors(12, rng)
    at = measured(np.zeros(12), v)
    assert np.allclose(np.diag(at.own) + at.shared.T @ at.shared, v, atol=1e-12)
    assert (at.own > 0).all()
    assert np.allclose(
        at.solve(np.arange(12.0), 0.7), np.linalg.solve(v + 0.7 * np.eye(12), np.arange(12.0))
    )
    # of a diagonal covariance nearly all is own
    assert measured(np.zeros(3), np.diag([1.0, 4.0, 9.0])).own == pytest.approx([0.99, 3.96, 8.91])
    drawn = np.array([at.errors(rng) for _ in range(20_000)])
    assert np.abs(np.cov(drawn.T) - v).max() < 0.03


def test_slices_have_the_density_they_are_given() -> None:
    rng, now, values = np.random.default_rng(2), 0.0, []
    law = stats.gamma(2.5)
    for _ in range(6000):
        now = slice_step(lambda z: float(2.5 * z - np.exp(z)), now, rng)
        values.append(np.exp(now))
    assert stats.kstest(values[::3], law.cdf).pvalue > 1e-3


def test_estimates_that_are_combinations_are_refused() -> None:
    half = np.random.default_rng(3).normal(size=(4, 6))
    with pytest.raises(DesignError, match="combinations of others"):
        measured(np.zeros(6), half.T @ half)


# ------------------------------------------------------------------ the posterior, exactly


def exact_two_trees(
    y: np.ndarray, v: np.ndarray, x: np.ndarray, scales: Scales
) -> dict[str, float]:
    """
    Posterior of two trees that can split once, on a binary covariate: structures are enumerated,
    standard deviations put on a grid, all else is normal.
    """
    n, split = len(y), 0.95
    # leaves that cannot be split count as not split
    odds = split * (1 - split / 4) ** 2 / (1 - split)
    both, one = (x[:, None] == x[None, :]).astype(float), np.ones((n, n))
    grid = 0.1 * (np.arange(75) + 0.5)
    covariate_sd, own_sd = (g.ravel()[:, None, None] for g in np.meshgrid(grid, grid))
    prior = (
        -0.5 * (covariate_sd / scales.covariate_sd) ** 2
        - 0.5 * (own_sd / scales.organization_sd) ** 2
    )
    last = int(np.argmax(x))
    total = []
    for splits, weight in ((0, 1.0), (1, 2 * odds), (2, odds**2)):
        k = scales.mean_sd**2 * one + covariate_sd**2 / 2 * (splits * both + (2 - splits) * one)
        w = k + own_sd**2 * np.eye(n) + v
        inverse = np.linalg.inv(w)
        pull = inverse @ (y - scales.mean)
        log = prior.ravel() + np.log(weight)
        log = log - 0.5 * (np.linalg.slogdet(w)[1] + pull @ (y - scales.mean))
        expected = scales.mean + np.einsum("gij,gj->gi", k, pull)
        effect = expected[:, 0] + own_sd.ravel() ** 2 * pull[:, 0]
        row = k[:, last]
        square = (
            k[:, last, last] - np.einsum("gi,gij,gj->g", row, inverse, row) + expected[:, last] ** 2
        )
        counts = np.full(len(log), float(splits))
        total.append(np.array([log, expected[:, 0], expected[:, last], effect, own_sd.ravel(),
                               covariate_sd.ravel(), counts, square]))  # fmt: skip
    table = np.hstack(total)
    share = np.exp(table[0] - table[0].max())
    means = table[1:] @ share / share.sum()
    names = ("at_zero", "at_one", "effect", "own_sd", "covariate_sd", "splits", "square")
    found = dict(zip(names, means.tolist(), strict=True))
    return found | {"sd_at_one": float(np.sqrt(found["square"] - found["at_one"] ** 2))}


def test_posterior_of_a_small_forest_is_that_of_enumeration() -> None:
    need_stochtree()
    rng = np.random.default_rng(4)
    x = np.array([0.0, 0, 0, 1, 1, 1, 0, 1])
    v = shared_errors(8, rng)
    y = np.array([0.2, -0.4, 0.5, -2.2, -1.1, -1.9, 0.1, -0.6])
    scales = Scales(0.5, 1.5, 2.0, 1.0)
    expected = exact_two_trees(y, v, x, scales)
    forest = Forest(x[:, None], np.ones(1), Shape(2, 0.95, 2.0, 1), 11)
    found = sample_chain(
        measured(y, v), forest, 2, scales, forest.places(np.array([[0.0], [1.0]])), lambda f: f,
        draws=5_000, tune=300, thin=1, rng=rng,
    )  # fmt: skip
    drawn = {
        "at_zero": found.elsewhere[:, 0], "at_one": found.expected[:, 3], "effect": found.effect[:, 0],
        "own_sd": found.organization_sd, "covariate_sd": found.covariate_sd,
        "splits": found.splits[:, 0],
    }  # fmt: skip
    import arviz

    assert np.allclose(found.elsewhere[:, 1], found.expected[:, 3])
    for name, values in drawn.items():
        error = values.std() / np.sqrt(float(arviz.ess(values[None, :])))
        assert abs(values.mean() - expected[name]) < 4 * error, (
            name,
            values.mean(),
            expected[name],
        )
    assert drawn["at_one"].std() == pytest.approx(expected["sd_at_one"], rel=0.06)
    # the same draws, reweighted to half the scale of one prior, have the posterior under that one
    other = exact_two_trees(y, v, x, scales._replace(covariate_sd=1.0))
    again = reweighted(found, scales, "covariate_sd", 0.5)
    assert again.trusted
    assert abs(other["covariate_sd"] - expected["covariate_sd"]) > 0.3
    for name in ("at_one", "covariate_sd"):
        values = drawn[name]
        error = values.std() / np.sqrt(float(arviz.ess(values[None, :])) / 2)
        assert abs(again.weight @ values - other[name]) < 4 * error, name


# ------------------------------------------------------------------ the estimator


def table_of(n: int, seed: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "cluster": [f"A{i}" for i in range(n)], "size": np.exp(rng.normal(9, 1, n)).round(),
            "dual": rng.random(n), "rural": rng.random(n) < 0.4,
            "region": np.array(["N", "S", "W"])[rng.integers(0, 3, n)],
        }
    )  # fmt: skip


def estimates_of(table: pd.DataFrame, truth: np.ndarray, seed: int = 7) -> Estimates:
    rng = np.random.default_rng(seed)
    v = shared_errors(len(table), rng)
    frame = pd.DataFrame(
        {"estimand": "effect_organization", "outcome": "spend", "cluster": table["cluster"],
         "unit_of_measure": "percent of baseline",
         "estimate": truth + rng.multivariate_normal(np.zeros(len(table)), v)}
    )  # fmt: skip
    return Estimates(frame=frame, covariance=v)


@pytest.fixture(scope="module")
def fitted() -> SimpleNamespace:
    need_stochtree()
    table = table_of(90)
    truth = np.where(table["dual"] > 0.5, -3.0, 0.0)
    model = EffectTrees(trees=30, draws=300, tune=400, chains=2, thin=2)
    profiles = pd.DataFrame(
        {"size": 8_000.0, "dual": [0.2, 0.8], "rural": False, "region": "N"}, index=["few", "many"]
    )
    est = estimates_of(table, truth)
    # rows of another organization, and another order, change nothing
    given = pd.concat([table, table.iloc[:1].assign(cluster="Z")]).sample(frac=1.0, random_state=1)
    out = model.fit(
        est, given.assign(high=given["dual"] > 0.5), columns=["size", "dual", "rural", "region"],
        groups=["high"], profiles=profiles, partial=["dual", "region"], limits=LOOSE,
    )  # fmt: skip
    return SimpleNamespace(est=out, table=table, truth=truth, given=est, model=model)


def test_a_planted_step_is_found_where_it_is(fitted) -> None:
    est = fitted.est
    few, many = est.where(estimand="effect_profile").estimate
    assert few - many == pytest.approx(3.0, abs=1.0)
    groups = est.where(estimand="effect_group")
    gap = groups.contrast({"gap": {0: 1.0, 1: -1.0}})
    truth = (
        fitted.truth[fitted.table["dual"] <= 0.5].mean()
        - fitted.truth[fitted.table["dual"] > 0.5].mean()
    )
    assert groups.frame["stratum"].tolist() == ["high=False", "high=True"]
    assert gap.estimate[0] == pytest.approx(truth, abs=4 * gap.std_error[0])
    assert gap.probability(below=0.0).iloc[0] < 0.01
    share = est.where(estimand="split_share")
    assert share.frame["covariate"].iloc[int(np.argmax(share.estimate))] == "dual"
    assert share.draws().sum(axis=1) == pytest.approx(1.0)
    shape = est.where(estimand="partial_dependence")
    dual = shape.frame[shape.frame["covariate"] == "dual"]
    assert dual["estimate"].iloc[0] - dual["estimate"].iloc[-1] > 1.5
    region = shape.frame[shape.frame["covariate"] == "region"]
    assert region["value"].tolist() == ["N", "S", "W"]
    assert np.ptp(region["estimate"]) < 0.8
    assert est.where(estimand="explained_share").estimate[0] > 0.6


def test_effects_of_organizations_are_nearer_to_the_truth_than_their_estimates(fitted) -> None:
    own = fitted.est.where(estimand="effect_organization")
    assert own.frame["cluster"].tolist() == fitted.table["cluster"].tolist()
    assert own.frame["observed"].to_numpy() == pytest.approx(fitted.given.estimate)
    error = np.square(own.estimate - fitted.truth).mean()
    assert error < 0.7 * np.square(fitted.given.estimate - fitted.truth).mean()
    overall = fitted.est.where(estimand="att_overall")
    assert overall.draws()[:, 0] == pytest.approx(own.draws().mean(axis=1))
    assert fitted.est.meta["posterior_predictive"]["squared_length"]["p_value"] > 0.01


def test_other_priors_are_reported_beside_the_fit(fitted) -> None:
    lines = pd.DataFrame(fitted.est.meta["prior_sensitivity"])
    assert len(lines) == 6 * 4
    assert lines["prior"].unique().tolist()[2:4] == [
        "covariate_sd times 0.5",
        "covariate_sd times 2",
    ]
    overall = lines[lines["estimand"] == "att_overall"]
    sd = fitted.est.where(estimand="att_overall").std_error[0]
    assert (
        overall["estimate"].dropna() - fitted.est.where(estimand="att_overall").estimate[0]
    ).abs().max() < sd
    trusted = lines["method"] == "draws reweighted"
    assert trusted.any()
    assert (lines["estimate"].notna() == trusted).all()


@pytest.mark.filterwarnings("ignore")
def test_the_tree_has_what_arviz_reads(fitted) -> None:
    import arviz

    tree = fitted.est.to_arviz()
    draws = tree["posterior"]
    assert np.isfinite(float(arviz.loo(tree).elpd))
    assert arviz.psense_summary(tree, var_names=["level"])["likelihood"].gt(0).all()
    arviz.plot_ppc_dist(tree)
    plt.close("all")
    v = fitted.given.vcov()
    rest = fitted.given.estimate - draws["expected"].values
    again = tree["posterior_predictive"]["estimate"].values - draws["expected"].values
    sd2 = float((draws["organization_sd"] ** 2).mean())
    assert np.cov(again.reshape(-1, len(v)).T) == pytest.approx(v + sd2 * np.eye(len(v)), abs=0.8)
    assert np.trace(np.cov(again.reshape(-1, len(v)).T)) == pytest.approx(
        np.trace(v) + sd2 * len(v), rel=0.05
    )
    # given the sum of both kinds of errors the independent kind is normal: mean and variance by hand
    own = measured(fitted.given.estimate, v).own
    total = own + draws["organization_sd"].values[..., None] ** 2
    left = -2.0 * tree["log_likelihood"]["estimate"].values - np.log(2.0 * np.pi * total)
    expected = np.empty_like(left)
    for s in np.ndindex(left.shape[:2]):
        d = total[s]
        inverse = np.linalg.inv(v + float(draws["organization_sd"].values[s]) ** 2 * np.eye(len(v)))
        expected[s] = d * (inverse @ rest[s]) ** 2 + 1.0 - d * np.diag(inverse)
    assert left.mean() == pytest.approx(expected.mean(), rel=0.03)
    far = left.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))
    assert np.abs(far).max() < 0.5


def test_nothing_planted_is_not_called_a_difference() -> None:
    need_stochtree()
    table = table_of(60, seed=8)
    est = EffectTrees(trees=20, draws=150, tune=200, chains=2, thin=2).fit(
        estimates_of(table, np.full(60, -1.0), seed=9), table, columns=["size", "dual"],
        groups=["rural"], limits=LOOSE,
    )  # fmt: skip
    gap = est.where(estimand="effect_group").contrast({"gap": {0: 1.0, 1: -1.0}})
    assert 0.02 < gap.probability(below=0.0).iloc[0] < 0.98
    assert est.where(estimand="explained_sd").estimate[0] < 0.6


def test_equal_seeds_give_equal_draws_and_scale_of_a_covariate_does_not_matter() -> None:
    need_stochtree()
    table = table_of(30)
    est = estimates_of(table, np.zeros(30))
    model = EffectTrees(trees=5, draws=20, tune=20, chains=2)
    one = model.fit(est, table, columns=["size"], limits=LOOSE)
    logged = table.assign(size=np.log(table["size"]))
    two = model.fit(est, logged, columns=["size"], limits=LOOSE)
    assert np.array_equal(one.draws(), two.draws())
    other = EffectTrees(trees=5, draws=20, tune=20, chains=2, seed=3)
    assert not np.array_equal(
        one.draws(), other.fit(est, table, columns=["size"], limits=LOOSE).draws()
    )


def test_draws_that_do_not_agree_are_refused() -> None:
    need_stochtree()
    table = table_of(40)
    with pytest.raises(EstimationError, match="cannot be trusted"):
        EffectTrees(draws=20, tune=5).fit(
            estimates_of(table, np.zeros(40)), table, columns=["size"]
        )


def test_covariates_are_equally_likely_whatever_their_number_of_levels() -> None:
    table = table_of(30)
    found = read_table(
        table, table["cluster"].tolist(), cluster="cluster",
        covariates=["size", "rural", "region"], weight="size", also=[],
    )  # fmt: skip
    assert np.bincount(found.owner, found.chance) == pytest.approx([1 / 3] * 3)
    columns = found.columns(found.frame)
    assert columns.shape == (30, 5)
    assert columns[:, 0] == pytest.approx(table["size"].rank(method="dense") - 1)
    assert columns[:, 2:].sum(axis=1) == pytest.approx(1.0)
    assert found.weight == pytest.approx(table["size"] / table["size"].sum())


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"size": None}, {}, "is missing for 30 of 30"),
        ({"size": 1.0}, {}, "the same for all"),
        ({"size": [f"{i}" for i in range(30)]}, {}, "text with 30 levels"),
        ({"cluster": "A0"}, {}, "organizations have several rows"),
        ({"cluster": [f"B{i}" for i in range(30)]}, {}, "30 of 30 organizations have no row"),
        ({}, {"columns": ["size", "income"]}, "no column `income`"),
        ({}, {"columns": ["cluster"]}, "a group of its own"),
        ({}, {"groups": ["size"]}, "makes no groups"),
        ({"weight": -1.0}, {"weight": "weight"}, "not a positive number"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(change, options, said) -> None:
    table = table_of(30)
    est = estimates_of(table, np.zeros(30))
    with pytest.raises(DataError, match=said):
        EffectTrees().fit(est, table.assign(**change), **{"columns": ["size"], **options})


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"size": [1.0]}, "Trees cannot extrapolate"),
        ({"region": ["E"]}, "levels that no organization has"),
        ({"size": [np.nan]}, "is missing in 1 rows"),
    ],
)
def test_a_profile_outside_the_data_is_refused(profile, said) -> None:
    table = table_of(30)
    given = pd.DataFrame({"size": [8_000.0], "region": ["N"], **profile})
    with pytest.raises(DataError, match=said):
        EffectTrees().fit(
            estimates_of(table, np.zeros(30)), table, columns=["size", "region"], profiles=given
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unit_of_measure": "USD"}, "priors in percent of baseline"),
        ({"cluster": "A0"}, "several rows"),
        ({"outcome": [f"o{i % 2}" for i in range(30)]}, "differ in `outcome`"),
    ],
)
def test_estimates_that_cannot_be_used_are_refused(change, said) -> None:
    table = table_of(30)
    est = estimates_of(table, np.zeros(30))
    with pytest.raises(DesignError, match=said):
        EffectTrees().fit(est.with_frame(est.frame.assign(**change)), table, columns=["size"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trees": 0}, "`trees` is 0"), ({"split": 1.0}, "`split` is 1.0"),
        ({"covariate_sd": 300.0}, "percent of baseline, not dollars"),
        ({"mean": -500.0}, "percent of baseline, not dollars"), ({"chains": 1}, "`chains` 1"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused(options, said) -> None:
    with pytest.raises(DesignError, match=said):
        EffectTrees(**options)


def test_few_organizations_and_stray_names_are_refused() -> None:
    table = table_of(12)
    with pytest.raises(DesignError, match="at least 10"):
        EffectTrees().fit(estimates_of(table[:8], np.zeros(8)), table, columns=["size"])
    est = estimates_of(table, np.zeros(12))
    with pytest.raises(DesignError, match="leaves of 10"):
        EffectTrees(smallest_leaf=10).fit(est, table, columns=["size"])
    with pytest.raises(DesignError, match="not among `columns`"):
        EffectTrees().fit(est, table, columns=["size"], partial=["dual"])


def test_without_stochtree_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "stochtree", None)
    table = table_of(20)
    with pytest.raises(EstimationError, match=r"vbceval\[trees\]"):
        EffectTrees().fit(estimates_of(table, np.zeros(20)), table, columns=["size"])
