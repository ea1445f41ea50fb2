"""The hierarchical model: its posterior by least squares where exact, and planted effects."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits, Priors, power_scaling, prior_sensitivity
from vbceval.bayes.averages import PERCENT
from vbceval.bayes.priors import in_dollars
from vbceval.core.errors import DataError, DesignError, EstimationError

SD = {"dual": 30_000.0, "not dual": 18_000.0}
BASE = {"dual": 16_000.0, "not dual": 9_000.0}
DESIGN = vbc.Design(outcome="spend", unit_of_measure="USD per person-year (nominal)")
N = 40
LOOSE = Limits(r_hat=5.0, ess=1.0, divergences=1.0, bfmi=0.0)


def files(effect: float, *, seed: int, n: int = 60, spread: float = 0.5) -> pd.DataFrame:
    """Files of organizations: base years and one year, restated in the file of the year after.

    Shocks of 1.2 percent to an organization's year, noise that files share in part, effects that
    differ between organizations by `spread` percent.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        entry = 2016 + i % 3 if i % 5 < 3 else np.nan
        first = int(entry) if i % 5 < 3 else 2019 + i % 2
        people = 4000 * np.exp(rng.normal(0, 0.6))
        shock = np.cumsum(rng.normal(0, 1.2, 9)) * 0.5 + rng.normal(0, 0.8, 9)
        own = effect + rng.normal(0, spread)
        for s, share in (("dual", 0.2), ("not dual", 0.8)):
            size = people * share
            level = BASE[s] * np.exp(rng.normal(0, 0.08))
            noise = SD[s] / np.sqrt(size)
            joint = rng.normal(0, noise * np.sqrt(0.6), 9)
            for k in range(2 if i % 5 < 3 else 1):
                restated = np.exp(rng.normal(0, 0.02))
                for t in [*range(first - 3, first), first + k]:
                    treated = t >= entry
                    if t > 2019 or (not treated and t >= first):
                        continue
                    j = t - 2012
                    percent = 2.0 * j + shock[j] + own * treated
                    spend = level * restated * (1 + percent / 100)
                    spend += joint[j] + rng.normal(0, noise * np.sqrt(0.4))
                    rows.append((f"A{i}", f"A{i}-{k}", s, t, entry, spend, size))
    names = ["aco", "file", "type", "year", "entry", "spend", "size"]
    return pd.DataFrame(rows, columns=names)


def panel_of(frame: pd.DataFrame, **options) -> vbc.Panel:
    columns = {"unit": "file", "period": "year", "cohort": "entry", "cluster": "aco"}
    return vbc.Panel.from_frame(
        frame, **{**columns, "strata": ["type"], "weight": "size", **options}
    )


# ------------------------------------------------------------------ an exact case


def simple(*, seed: int = 1, n: int = 40) -> vbc.Panel:
    """One stratum, one cohort, no shocks: a linear model with known variances."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        size, level = float(np.exp(rng.normal(9, 0.5))), 10_000 * np.exp(rng.normal(0, 0.05))
        entry = 2018.0 if i % 2 else np.nan
        for t in range(2015, 2019):
            mean = level * (1 + 0.02 * (t - 2015)) * (0.99 if t >= entry else 1.0)
            rows.append((i, t, entry, mean + rng.normal(0, 20_000 / np.sqrt(size)), size))
    frame = pd.DataFrame(rows, columns=["aco", "year", "entry", "spend", "size"])
    return vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")


def least_squares(data: vbc.Panel, prior_sd: float) -> tuple[float, float]:
    """Posterior mean and sd of the effect in percent: weighted least squares, normal prior."""
    frame = data.frame
    w = frame["size"].to_numpy()
    before = frame[(frame["year"] == 2017) & frame["entry"].notna()]
    base = np.average(before["spend"], weights=before["size"])
    y = 100 * frame["spend"].to_numpy() / base
    d = (frame["year"] >= frame["entry"]).to_numpy(dtype=float)
    x = np.column_stack(
        [d, pd.get_dummies(frame["year"]).to_numpy(dtype=float)[:, 1:],
         pd.get_dummies(frame["aco"]).to_numpy(dtype=float)]
    )  # fmt: skip
    weight = w / (100 * 20_000 / base) ** 2
    precision = (x * weight[:, None]).T @ x
    precision[0, 0] += 1 / prior_sd**2
    inverse = np.linalg.inv(precision)
    return float((inverse @ (x.T @ (weight * y)))[0]), float(np.sqrt(inverse[0, 0]))


@pytest.fixture(scope="module")
def exact() -> SimpleNamespace:
    model = HierarchicalDiD(
        person_sd=20_000.0, alternatives=(), shocks="none", organization_effects=False, engine="nuts",
        draws=400, tune=200, chains=2, seed=2,
    )  # fmt: skip
    data = simple()
    return SimpleNamespace(model=model, data=data, est=model.fit(data, DESIGN))


def test_posterior_is_least_squares_where_that_is_exact(exact) -> None:
    est = exact.est
    overall = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    mean, sd = least_squares(exact.data, prior_sd=3.0)
    ess = est.meta["convergence"]["ess_bulk"]
    # four Monte Carlo standard errors, of the mean and of the standard deviation
    assert overall.estimate[0] == pytest.approx(mean, abs=4 * sd / np.sqrt(ess))
    assert overall.tidy()["std_error"].item() == pytest.approx(sd, rel=4 / np.sqrt(2 * ess))
    dollars = est.where(estimand="att_overall", unit_of_measure=DESIGN.unit_of_measure)
    base = dollars.frame["baseline"].item()
    assert dollars.estimate[0] == pytest.approx(overall.estimate[0] / 100 * base)


def test_equal_seeds_give_equal_draws(exact) -> None:
    short = replace(exact.model, draws=40, tune=40)
    first, again = (short.fit(exact.data, DESIGN, limits=LOOSE) for _ in range(2))
    assert np.array_equal(again.draws(), first.draws())
    assert not np.array_equal(first.draws(), exact.est.draws()[:80])


def test_order_of_rows_does_not_matter(exact) -> None:
    frame = exact.data.frame.sample(frac=1, random_state=3)
    data = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")
    cells = exact.model._cells(data, DESIGN, None)[0]
    first = exact.model._cells(exact.data, DESIGN, None)[0]
    assert np.array_equal(cells.y, first.y)


# ------------------------------------------------------------------ planted effects


def fit(effect: float, seed: int, *, draws: int, n: int = N) -> SimpleNamespace:
    data = panel_of(files(effect, seed=seed, n=n))
    model = HierarchicalDiD(
        person_sd=SD, alternatives=(), engine="nuts", draws=draws, tune=200, chains=2, seed=seed
    )
    return SimpleNamespace(model=model, data=data, est=model.fit(data, DESIGN))


@pytest.fixture(scope="module")
def fitted() -> SimpleNamespace:
    return fit(-2.0, 5, draws=500)


def test_planted_effect_is_recovered(fitted) -> None:
    row = fitted.est.where(estimand="att_overall", unit_of_measure=PERCENT)
    table = row.tidy(0.95)
    assert table["conf_low"].item() < -2.0 < table["conf_high"].item()
    assert row.probability(below=0.0).item() > 0.95
    assert table["interval"].item() == "credible"
    assert np.isnan(table["p_value"].item())


def test_both_engines_have_one_posterior(fitted) -> None:
    """The exact engine against the sampler, restated years and noise in common included."""
    sampled = fitted.est
    exact = HierarchicalDiD(person_sd=SD, alternatives=(), seed=5).fit(fitted.data, DESIGN)
    assert exact.frame.drop(columns="estimate").equals(sampled.frame.drop(columns="estimate"))
    sd, seen = sampled.draws().std(axis=0), sampled.meta["convergence"]
    error = sd / np.sqrt(min(seen["ess_bulk"], seen["ess_tail"]))
    assert (np.abs(exact.estimate - sampled.estimate) < 4 * error).all()
    assert exact.draws().std(axis=0) == pytest.approx(sd, rel=0.15)
    ours, theirs = exact.to_arviz()["posterior"], sampled.to_arviz()["posterior"]
    assert set(ours.data_vars) == set(theirs.data_vars)
    for name in ("rho", "common_shock", "stratum_shock", "organization_sd", "overlap"):
        gap = float(ours[name].mean() - theirs[name].mean())
        assert abs(gap) < 5 * float(theirs[name].std()) / np.sqrt(200), name


def test_planted_zero_is_not_called_savings() -> None:
    data = panel_of(files(0.0, seed=5, n=60))
    est = HierarchicalDiD(person_sd=SD, alternatives=(), seed=5).fit(data, DESIGN)
    row = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    assert 0.025 < row.probability(below=0.0).item() < 0.975
    assert row.probability(below=-2.0).item() < 0.05


def test_rows_are_averages_of_one_set_of_draws(fitted) -> None:
    est = fitted.est
    percent = est.where(unit_of_measure=PERCENT)
    assert set(percent.frame["estimand"]) == {
        "att_overall", "att_event_time", "att_cohort", "att_stratum"
    }  # fmt: skip
    assert percent.frame["event_time"].dropna().tolist() == [0.0, 1.0]
    assert percent.frame["cohort"].dropna().tolist() == [2016.0, 2017.0, 2018.0]
    dollars = est.where(unit_of_measure=DESIGN.unit_of_measure, estimand="att_stratum")
    weights = dollars.frame["exposure"].to_numpy()
    overall = est.where(unit_of_measure=DESIGN.unit_of_measure, estimand="att_overall")
    assert overall.draws()[:, 0] == pytest.approx(dollars.draws() @ weights / weights.sum())
    gap = dollars.contrast({"gap": {"stratum == 'type=dual'": 1, "stratum == 'type=not dual'": -1}})
    assert gap.draws()[:, 0] == pytest.approx(dollars.draws()[:, 0] - dollars.draws()[:, 1])
    # strata are pooled in percent, so the dearer stratum changes by more dollars
    assert gap.estimate[0] < 0


def test_result_says_how_it_was_made(fitted) -> None:
    meta = fitted.est.meta
    assert meta["convergence"]["r_hat"] <= 1.01
    assert meta["convergence"]["ess_tail"] >= 400
    assert meta["baseline"].keys() == {"type=dual", "type=not dual"}
    assert "USD per person-year (nominal) = 3% of baseline" in meta["prior"]["effect"]
    assert meta["prior_predictive"]["covers_zero_and_5_percent"]
    assert meta["n_clusters"] == N


def test_tree_has_the_groups_that_checks_read(fitted) -> None:
    tree = fitted.est.to_arviz()
    for group in ("sample_stats", "log_likelihood", "log_prior", "prior", "posterior_predictive"):
        assert group in tree.children
    assert tree["log_likelihood"]["cells"].shape == (2, 500, N)
    assert {"effect", "common_shock", "stratum_shock", "rho", "overlap", "organization_sd"} <= set(
        tree["posterior"].data_vars
    )
    # planted: noise that files share is 0.6 of it
    assert float(tree["posterior"]["overlap"].mean()) == pytest.approx(0.6, abs=0.15)


def test_replicated_data_look_like_the_observed(fitted) -> None:
    for name, found in fitted.est.meta["posterior_predictive"].items():
        assert 0.005 < found["p_value"] < 0.995, name


def test_organizations_are_shrunken_towards_the_pool(fitted) -> None:
    own = fitted.model.organizations(fitted.est, fitted.data, DESIGN, size=400)
    frame = own.frame
    # three of five organizations enter
    assert len(frame) == 24
    assert own.draws().shape == (400, 24)
    assert frame["shrinkage"].between(0, 1).all()
    assert frame["estimate"].std() < frame["raw"].std()
    overall = fitted.est.where(estimand="att_overall", unit_of_measure=PERCENT).estimate[0]
    assert frame["estimate"].mean() == pytest.approx(overall, abs=0.5)


def test_organizations_of_other_data_are_refused(fitted) -> None:
    fewer = panel_of(files(-2.0, seed=5, n=50))
    with pytest.raises(EstimationError, match="fitted to other cells"):
        fitted.model.organizations(fitted.est, fewer, DESIGN)
    # other outcomes of the same organizations, and an exact copy of the cells under another model
    moved = fitted.data.frame.assign(spend=lambda t: t["spend"] * (1 + 0.01 * (t["year"] > 2015)))
    with pytest.raises(EstimationError, match="fitted to other cells"):
        fitted.model.organizations(fitted.est, panel_of(moved), DESIGN)
    other = replace(fitted.model, shocks="iid")
    with pytest.raises(EstimationError, match="fitted with other options"):
        other.organizations(fitted.est, fitted.data, DESIGN)
    with pytest.raises(DesignError, match="at least 8 draws"):
        fitted.model.organizations(fitted.est, fitted.data, DESIGN, size=4)
    with pytest.raises(DesignError, match="without organization effects"):
        replace(fitted.model, organization_effects=False).organizations(
            fitted.est, fitted.data, DESIGN
        )


def test_power_scaling_has_a_row_for_each_average(fitted) -> None:
    table = power_scaling(fitted.est)
    assert len(table) == len(fitted.est)
    assert np.isfinite(table[["prior", "likelihood"]].to_numpy(dtype=float)).all()
    overall = table.iloc[0]
    # 40 organizations say more about the effect than a prior sd of 3 percent
    assert overall["likelihood"] > overall["prior"]
    # rows in another order would be labelled as if they had kept it
    turned = fitted.est.where(list(range(len(fitted.est)))[::-1])
    with pytest.raises(EstimationError, match="a selection or a combination"):
        power_scaling(turned)


def test_prior_sensitivity_refits(exact) -> None:
    small = replace(exact.model, engine="exact", draws=60, tune=None)
    tight = Priors(effect=0.05)
    table = prior_sensitivity(small, exact.data, DESIGN, priors=("flat", tight), limits=LOOSE)
    assert table["prior"].tolist() == ["flat", "custom"]
    assert table["prior_sd_percent"].tolist() == [20.0, 0.05]
    # a prior that is nearly a point at zero wins over the data
    assert abs(table["estimate"][1]) < 0.1 < abs(table["estimate"][0])
    assert table["probability_below_0"][0] > table["probability_below_-2"][0]


def test_names_of_priors_are_checked_before_the_first_fit(exact) -> None:
    # no data: a fit would fail in another way
    with pytest.raises(EstimationError, match="'strong'"):
        prior_sensitivity(exact.model, None, DESIGN, priors=("flat", "strong"))


def test_spread_of_persons_is_learned_from_sizes() -> None:
    """Stated at twice the truth: the factor is one half, as noise falls with the number of persons."""
    rng = np.random.default_rng(8)
    rows = []
    for i in range(60):
        size, level = float(np.exp(rng.normal(7.5, 1.2))), 10_000 * np.exp(rng.normal(0, 0.05))
        entry = 2018.0 if i % 2 else np.nan
        for t in range(2015, 2019):
            mean = level + 200 * (t - 2015) - 200 * (t >= entry) + rng.normal(0, 40)
            rows.append((i, t, entry, mean + rng.normal(0, 20_000 / np.sqrt(size)), size))
    frame = pd.DataFrame(rows, columns=["aco", "year", "entry", "spend", "size"])
    data = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")
    model = HierarchicalDiD(
        person_sd=40_000.0, person_sd_uncertainty=0.5, organization_effects=False, shocks="iid",
        seed=4,
    )  # fmt: skip
    est = model.fit(data, DESIGN)
    factor = est.to_arviz()["posterior"]["person_factor"]
    # 60 x 3 free cells: a relative error of about 1 / sqrt(2 x 180)
    assert float(factor.mean()) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(360))
    assert float(factor.std()) < 0.05


# ------------------------------------------------------------------ what is refused


def test_spread_of_persons_must_be_stated() -> None:
    with pytest.raises(EstimationError, match=r"State `person_sd`.*show half and double"):
        HierarchicalDiD().fit(panel_of(files(0.0, seed=1)), DESIGN)
    with pytest.raises(EstimationError, match=r"`person_sd` has no value for `type=dual`"):
        HierarchicalDiD(person_sd={"not dual": 1.0}).fit(panel_of(files(0.0, seed=1)), DESIGN)
    with pytest.raises(EstimationError, match="must be positive"):
        HierarchicalDiD(person_sd=0.0).fit(panel_of(files(0.0, seed=1)), DESIGN)


def test_draws_that_have_not_converged_are_refused(exact) -> None:
    with pytest.raises(EstimationError, match="cannot be trusted"):
        replace(exact.model, draws=40, tune=20).fit(exact.data, DESIGN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"comparison": "never_treated"}, "every untreated cell"),
        ({"fixed_effects": ("aco",)}, "regression estimators"),
        ({"balance_weights": {"A1": 1.0}}, "no place for `balance_weights`"),
        ({"window": (5, 9)}, "no cell at or after entry"),
    ],
)
def test_designs_that_the_model_cannot_keep(change, says) -> None:
    with pytest.raises(DesignError, match=says):
        HierarchicalDiD(person_sd=SD).fit(panel_of(files(0.0, seed=1)), replace(DESIGN, **change))


def test_every_treated_year_needs_an_untreated_organization() -> None:
    frame = files(0.0, seed=1)
    frame = frame[~((frame["year"] >= 2018) & frame["entry"].isna() & (frame["type"] == "dual"))]
    frame = frame[~((frame["year"] == 2018) & (frame["entry"] > 2018))]
    with pytest.raises(DesignError, match=r"period 2018 of type=dual"):
        HierarchicalDiD(person_sd=SD).fit(panel_of(frame), DESIGN)


def test_two_clusters_are_too_few() -> None:
    frame = files(0.0, seed=1)
    frame = frame[frame["aco"].isin(["A0", "A4"])]
    with pytest.raises(DesignError, match=r"2 organizations cannot tell"):
        HierarchicalDiD(person_sd=SD).fit(panel_of(frame), DESIGN)


def test_constant_covariate() -> None:
    frame = files(0.0, seed=1).assign(x=1.0)
    with pytest.raises(DataError, match="do not vary"):
        HierarchicalDiD(person_sd=SD).fit(panel_of(frame), replace(DESIGN, covariates=["x"]))


def test_options_are_checked() -> None:
    with pytest.raises(DesignError, match="'ar2'"):
        HierarchicalDiD(shocks="ar2")
    with pytest.raises(DesignError, match="standard deviation of a logarithm"):
        HierarchicalDiD(person_sd=1.0, person_sd_uncertainty=-1.0)
    with pytest.raises(DesignError, match="none is stated"):
        HierarchicalDiD(person_sd_uncertainty=0.5)
    with pytest.raises(EstimationError, match="'strong'"):
        HierarchicalDiD(prior="strong")
    with pytest.raises(EstimationError, match=r"'effect': -1"):
        Priors(effect=-1.0)


def test_cells_left_out_are_counted() -> None:
    frame = files(0.0, seed=1).assign(last=np.nan)
    frame.loc[frame["aco"] == "A0", "last"] = 2016
    frame.loc[3, "spend"] = np.nan
    panel = panel_of(frame, exit="last")
    # where units may be people, one cell is not counted
    assert np.isnan(
        HierarchicalDiD(person_sd=SD)._cells(panel, DESIGN, None)[0].dropped["no outcome or weight"]
    )
    named = replace(panel, people=False)
    cells = HierarchicalDiD(person_sd=SD)._cells(named, DESIGN, None)[0]
    assert cells.dropped["no outcome or weight"] == 1
    assert cells.dropped["after exit"] == 2
    # the file with the year after exit has no treated cell left, but still base years
    assert len(cells.y) == len(frame) - 3


def test_prior_is_printed_in_dollars() -> None:
    said = in_dollars(Priors(), 12_000.0, "USD per person-year")
    assert said["effect"] == "Normal(0, 360 USD per person-year = 3% of baseline)"
    assert said["shock"].startswith("HalfNormal(600 USD")
