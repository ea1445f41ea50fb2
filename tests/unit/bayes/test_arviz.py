"""ArviZ reads the tree of every model as it is; replicated outcomes have the law of the model."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.bayes import (
    HierarchicalDiD,
    JointDiD,
    JointMetaAnalysis,
    Limits,
    MetaAnalysis,
    TwoPartDiD,
    two_part_columns,
)

DESIGN = vbc.Design(outcome="spend", unit_of_measure="USD")
VISITS = vbc.Design(outcome="visits", unit_of_measure="visits")
LOOSE = Limits(ess=50.0)
SIZES = {"nodes": 64, "draws": 100, "alternatives": ()}


def rows(n: int = 12) -> pd.DataFrame:
    rng, out = np.random.default_rng(1), []
    for i in range(n):
        entry, shock = (2018.0 if i % 2 else np.nan), rng.normal(0, [200.0, 1.0], (4, 2))
        for s in ("dual", "other"):
            for j, t in enumerate(range(2015, 2019)):
                spend = 10_000 + 100 * j - 300 * (t >= entry) + shock[j, 0] + rng.normal(0, 150)
                visits = 40 + shock[j, 1] + shock[j, 0] / 200 + rng.normal(0, 0.6)
                out.append((f"A{i}", s, t, entry, spend, visits, 10_000.0, rng.binomial(400, 0.2)))
    names = ["aco", "type", "year", "entry", "spend", "visits", "people", "events"]
    return pd.DataFrame(out, columns=names).assign(trials=400)


@pytest.fixture(scope="module")
def fits() -> SimpleNamespace:
    frame = rows()
    keys = {"unit": "aco", "period": "year", "cohort": "entry"}
    means = vbc.Panel.from_frame(frame, **keys, strata=["type"], weight="people")
    one = vbc.Panel.from_frame(frame[frame["type"] == "dual"], **keys, weight="people")
    counts = vbc.Panel.from_frame(frame, **keys, strata=["type"], exposure="trials")
    return SimpleNamespace(
        gaussian=HierarchicalDiD(person_sd=15_000.0, **SIZES).fit(means, DESIGN, limits=LOOSE),
        binomial=HierarchicalDiD(family="binomial", **SIZES).fit(
            counts, vbc.Design(outcome="events"), limits=LOOSE
        ),
        joint=JointDiD(
            person_sd={"spend": 15_000.0, "visits": 60.0}, person_correlation=0.0, nodes=256,
            draws=100, alternatives=(),
        ).fit(one, [DESIGN, VISITS], limits=LOOSE),
        two_part=two_part(),
        meta=MetaAnalysis(robust=False, engine="grid", draws=250).fit(
            EFFECTS[EFFECTS["outcome"] == "spending"]
        ),
        joint_meta=JointMetaAnalysis(within=0.4, nodes=256, draws=1000).fit(EFFECTS),
    )  # fmt: skip


EFFECTS = pd.DataFrame(
    {
        "report": ["a", "a", "b", "b", "c", "c", "d", "e"],
        "program": ["A", "A", "B", "B", "C", "C", "D", "D"],
        "program_type": ["aco"] * 4 + ["bundle"] * 4,
        "outcome": ["spending", "readmissions"] * 3 + ["spending"] * 2,
        "unit_of_measure": "percent",
        "estimate": [-1.4, -0.4, -0.2, 0.1, -2.0, -0.5, -1.7, -2.9],
        "std_error": [0.6, 0.7, 0.5, 0.9, 1.0, 0.8, 0.6, 0.8],
    }
)


def two_part() -> vbc.Estimates:
    rng, out = np.random.default_rng(2), []
    for i in range(8):
        entry, level = (2017.0 if i % 2 else np.nan), rng.normal(0, 0.1)
        for t in (2015, 2016, 2017):
            some = rng.random(120) < 0.7
            spend = some * np.exp(8 + level + rng.normal(0, 0.7, 120))
            out.append(pd.DataFrame({"aco": i, "year": t, "entry": entry, "spend": spend}))
    frame = pd.concat(out, ignore_index=True).reset_index(names="person")
    data = vbc.Panel.from_frame(
        frame.assign(**two_part_columns(frame, "spend")), unit="person", period="year",
        cohort="entry", cluster="aco", kind="repeated_cross_section",
    )  # fmt: skip
    model = TwoPartDiD(
        any="any",
        positive="log_if_any",
        draws=100,
        alternatives=(),
        shocks="iid",
        organization_effects=False,
    )
    return model.fit(data, DESIGN, limits=LOOSE)


REPLICATED = {"plot_ppc_dist", "plot_ppc_pit"}
DRAWN = {"plot_rank", "plot_dist", "plot_forest", "plot_prior_posterior"}
PLOTS = {
    "gaussian": REPLICATED | DRAWN,
    "binomial": {"plot_ppc_dist"},  # replicated counts
    "joint": {"plot_ppc_pit", "plot_prior_posterior"},
    "two_part": REPLICATED | {"plot_prior_posterior"},  # two observed variables
    "meta": {"plot_ppc_dist", "plot_forest"},
    "joint_meta": {"plot_ppc_pit", "plot_rank", "plot_prior_posterior"},
}
"""What is drawn of each: every way on the full tree, and where groups differ from it on others."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["gaussian", "binomial", "joint", "two_part", "meta", "joint_meta"]
)
def test_arviz_reads_every_tree_as_it_is(fits, name: str) -> None:
    import arviz

    tree = getattr(fits, name).to_arviz()
    assert {"posterior", "log_likelihood", "log_prior", "prior", "posterior_predictive",
            "observed_data"} <= set(tree.children)  # fmt: skip
    assert set(tree["observed_data"].data_vars) == set(tree["posterior_predictive"].data_vars)
    assert np.isfinite(float(arviz.loo(tree).elpd))
    names = {"two_part": "total", "meta": "mean_effect", "joint_meta": "mean_effect"}
    main = names.get(name, "effect_at_entry")
    found = arviz.psense_summary(tree, var_names=[main])
    assert found["prior"].gt(0).all()
    assert found["likelihood"].gt(0).all()
    for plot in sorted(PLOTS[name] & REPLICATED):
        getattr(arviz, plot)(tree)
    for plot in sorted(PLOTS[name] & DRAWN):
        getattr(arviz, plot)(tree, var_names=[main if name in names else "effect"])
    plt.close("all")


def test_likelihoods_of_programs_with_several_outcomes_are_dense_normal(fits) -> None:
    tree = fits.joint_meta.to_arviz()
    found = tree["log_likelihood"]["estimate"]
    assert list(found["part"].values) == ["A", "B", "C", "D"]
    rows, n = EFFECTS, len(EFFECTS)
    code = np.array([0, 1] * 3 + [0, 0])
    for s in ({"chain": 0, "draw": 3}, {"chain": 2, "draw": 200}):
        at = tree["posterior"].to_dataset().isel(s)
        total, mean = np.zeros((n, n)), np.zeros(n)
        for i in range(n):
            kind = {"program_type": rows["program_type"][i]}
            mean[i] = at["type_mean"].sel(kind).values[code[i]]
            for j in range(n):
                alike = rows["report"][i] == rows["report"][j]
                within = 1.0 if i == j else 0.4 * alike
                total[i, j] = within * rows["std_error"][i] * rows["std_error"][j]
                between = float(at["between_correlation"].values[code[i], code[j]])
                for level, name in (("report", "report"), ("program", "program")):
                    sd = at[f"between_{level}_sd"].values
                    same = rows[name][i] == rows[name][j]
                    total[i, j] += same * sd[code[i]] * sd[code[j]] * between
        whole = stats.multivariate_normal.logpdf(rows["estimate"], mean, total)
        assert float(found.isel(s).sum()) == pytest.approx(whole, abs=1e-7)


def changes(dataset, cells, first: int, last: int) -> np.ndarray:
    """Change between two periods of every organization and stratum, chains joined."""
    found = dataset["y"].values.reshape(-1, dataset.sizes.get("cell"))
    key = cells["cluster"].values * 100 + cells["stratum"].values
    period = cells["period"].values
    at = [
        [np.flatnonzero((key == k) & (period == t))[0] for k in np.unique(key)]
        for t in (first, last)
    ]
    return found[:, at[1]] - found[:, at[0]]


def test_replicated_means_have_the_variance_of_the_model(fits) -> None:
    tree = fits.gaussian.to_arviz()
    cells, posterior = tree["constant_data"], tree["posterior"]
    # before entry: shocks and noise alone, about period effects of the same draw
    found = changes(tree["posterior_predictive"], cells, 0, 2)
    chosen = np.unique(np.linspace(0, 399, len(found)).astype(int))
    flat = {k: v.values.reshape(400, *v.shape[2:])[chosen] for k, v in posterior.data_vars.items()}
    period = flat["period_effect"][..., 2] - flat["period_effect"][..., 0]
    stratum = np.tile([0, 1], 12)
    away = found - period[:, stratum]
    shocks = 2 * (flat["common_shock"] ** 2 + flat["stratum_shock"] ** 2) * (1 - flat["rho"] ** 2)
    noise = 2 * np.mean(1 / cells["precision"].values)
    assert (away**2).mean() == pytest.approx(shocks.mean() + noise, rel=0.15)
    # what intercepts are free for stays as it was
    both = [tree["observed_data"]["y"].values[None], tree["posterior_predictive"]["y"].values[0]]
    block = cells["cluster"].values * 2 + cells["stratum"].values
    means = [np.array([x[:, block == b].mean(axis=1) for b in np.unique(block)]) for x in both]
    assert means[1] == pytest.approx(np.broadcast_to(means[0], means[1].shape), rel=1e-10)


def test_replicated_outcomes_are_correlated_as_the_model_says(fits) -> None:
    tree = fits.joint.to_arviz()
    cells, posterior = tree["constant_data"], tree["posterior"]
    found = changes(tree["posterior_predictive"], cells, 0, 2).reshape(-1, 12, 2)
    chosen = np.unique(np.linspace(0, 399, len(found)).astype(int))
    flat = {k: v.values.reshape(400, *v.shape[2:])[chosen] for k, v in posterior.data_vars.items()}
    period = flat["period_effect"][..., 2] - flat["period_effect"][..., 0]
    away = found - period[:, None]
    product = flat["common_shock"].prod(axis=1) * flat["shock_correlation"][:, 0, 1]
    expected = (2 * product * (1 - flat["rho"] ** 2)).mean()
    assert expected > 1.0
    assert away.prod(axis=2).mean() == pytest.approx(expected, rel=0.25)


def test_replicated_counts_are_counts_about_the_observed(fits) -> None:
    tree = fits.binomial.to_arviz()
    again = tree["posterior_predictive"]["events"].values[0]
    observed = tree["observed_data"]["events"].values
    assert (again == np.round(again)).all()
    assert again.min() >= 0
    assert again.max() <= 400
    assert again.mean() == pytest.approx(observed.mean(), rel=0.02)
    # draws differ by chance at least as binomial numbers do
    assert again.var(axis=0).mean() > 0.9 * 400 * 0.2 * 0.8


def test_checks_of_counts_by_place_are_pearson_residuals(fits) -> None:
    table = vbc.bayes.predictive_table(fits.binomial)
    assert set(table["statistic"]) == {"variance", "extreme", "lag_one", "icc"}
    whole = table[(table["statistic"] == "variance") & table["period"].isna()]
    by_stratum = fits.binomial.meta["posterior_predictive"]
    for row in whole.itertuples():
        found = by_stratum[f"dispersion[{row.stratum}]"]
        assert row.observed == pytest.approx(found["observed"], rel=1e-10)
        assert row.replicated == pytest.approx(found["replicated"], rel=1e-10)
    # binomial counts about fitted rates: replicated ones vary as their mean says
    each = table[(table["statistic"] == "variance") & table["period"].notna()]
    assert len(each) == 8
    assert each["replicated"].between(0.7, 1.3).all()
    assert not table["misfit"].any()
    vbc.figures.predictive_check(table)
    plt.close("all")
