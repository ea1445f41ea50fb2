"""Meta-analysis: hand-checkable cases, classic data, and answers found another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vbceval.bayes import MetaAnalysis, headline
from vbceval.bayes.meta_checks import (
    borrowing,
    leave_one_out,
    posterior_predictive,
    prior_sensitivity,
)
from vbceval.bayes.meta_data import Columns, read_studies
from vbceval.bayes.meta_density import design, log_density
from vbceval.bayes.meta_posterior import covariance, log_marginal, target_covariance
from vbceval.bayes.meta_priors import meta_lines
from vbceval.bayes.random_effects import paule_mandel, reml
from vbceval.core.errors import DataError, DesignError, EstimationError

# Log risk ratios and variances of 13 trials of BCG vaccine: Colditz et al., JAMA 271 (1994)
# 698-702, as printed to four decimals in Viechtbauer, J Stat Softw 36(3) (2010), section 3.1.
BCG_Y = [-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694,
         -1.3713, -0.3394, 0.4459, -0.0173]  # fmt: skip
BCG_V = [0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730,
         0.0124, 0.5325, 0.0714]  # fmt: skip
# Coaching effects in eight schools: Rubin, J Educ Stat 6 (1981) 377-401, table 1.
SCHOOLS_Y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
SCHOOLS_SE = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def _table(y, se, report=None, program=None, kind=None, **more) -> pd.DataFrame:
    n = len(y)
    return pd.DataFrame(
        {
            "estimate": y,
            "std_error": se,
            "report": [f"r{i}" for i in range(n)] if report is None else report,
            "program": [f"p{i}" for i in range(n)] if program is None else program,
            "program_type": ["aco"] * n if kind is None else kind,
            **more,
        }
    )


@pytest.fixture
def nested() -> pd.DataFrame:
    """Two types, a program with two reports, reports with two rows."""
    return _table(
        [-1.4, -2.6, 0.1, -0.9, -1.2, -2.0, -5.6, -1.7],
        [0.6, 0.7, 0.5, 0.5, 0.4, 1.0, 1.7, 0.6],
        report=["a", "a", "b", "b", "c", "d", "e", "f"],
        program=["A", "A", "A", "A", "C", "D", "E", "F"],
        kind=["aco"] * 5 + ["bundle"] * 3,
    )


# ---------------------------------------------------------------- closed forms


def test_reml_reproduces_the_published_fit_of_the_bcg_trials() -> None:
    # metafor 1.9 to 4.x, rma(yi, vi): estimate -0.7145, se 0.1798, tau^2 0.3132, Q(12) 152.2330;
    # test="knha" gives se 0.1808. The inputs here are rounded to four decimals.
    fit = reml(np.array(BCG_Y), np.sqrt(BCG_V))
    assert fit.mean == pytest.approx(-0.7145, abs=1e-4)
    assert fit.std_error == pytest.approx(0.1798, abs=1e-4)
    assert fit.std_error_hk == pytest.approx(0.1808, abs=1e-4)
    assert fit.tau2 == pytest.approx(0.3132, abs=1e-4)
    assert fit.q == pytest.approx(152.233, rel=5e-3)
    assert paule_mandel(np.array(BCG_Y), np.sqrt(BCG_V)).tau2 == pytest.approx(0.3181, abs=2e-4)


def test_reml_of_the_eight_schools_is_complete_pooling() -> None:
    # Gelman et al., Bayesian Data Analysis, section 5.5: pooled estimate 7.7, standard error 4.1
    fit = reml(np.array(SCHOOLS_Y), np.array(SCHOOLS_SE))
    assert fit.tau2 == 0
    assert (round(fit.mean, 1), round(fit.std_error, 1)) == (7.7, 4.1)


def test_reml_of_two_equal_studies_by_hand() -> None:
    fit = reml(np.array([-4.0, 0.0]), np.array([1.0, 1.0]))
    # the sample variance 8 is 1 + tau2; the mean has variance 8 / 2
    assert fit.tau2 == pytest.approx(7, abs=1e-12)
    assert fit.std_error == pytest.approx(2, abs=1e-12)
    assert fit.std_error_hk == pytest.approx(2, abs=1e-12)
    low, high = fit.interval(0.95)
    assert (high - low) / 2 == pytest.approx(2 * stats.t(1).ppf(0.975))
    low, high = fit.prediction_interval(0.95)
    assert (high - low) / 2 == pytest.approx(np.sqrt(11) * stats.t(1).ppf(0.975))


def test_reml_is_where_the_restricted_likelihood_is_largest() -> None:
    y, v = np.array(BCG_Y), np.array(BCG_V)

    def minus(tau2: float) -> float:
        w = 1 / (v + tau2)
        mean = w @ y / w.sum()
        return -0.5 * (np.log(w).sum() - np.log(w.sum()) - w @ (y - mean) ** 2)

    tau2 = reml(y, np.sqrt(v)).tau2
    assert all(minus(tau2) <= minus(tau2 + d) for d in (-0.01, -1e-4, 1e-4, 0.01, 1.0))


def test_reml_refuses_what_it_cannot_use() -> None:
    with pytest.raises(EstimationError, match="1 of them unusable"):
        reml(np.array([1.0, 2.0]), np.array([1.0, 0.0]))


def test_two_studies_with_known_spread_by_hand() -> None:
    # y = (-4, 0), standard errors 1, between-report variance 3, mean ~ N(0, 3^2):
    # precision of the mean 2/4 + 1/9 = 11/18, so its mean is (18/11)(-4/4) = -18/11
    studies = read_studies(_table([-4.0, 0.0], [1.0, 1.0]), Columns(), [], program_effects=True)
    sd = {"report": np.array([np.sqrt(3.0)])}
    ones = np.ones((1, 2))
    total = covariance(studies, sd, ones, np.ones((1, 2)), mean_sd=3.0, rho=0.0)[0]
    assert total == pytest.approx(np.array([[13.0, 9.0], [9.0, 13.0]]))
    across = target_covariance(studies, sd, 3.0)[0, 0]
    assert across @ np.linalg.solve(total, [-4.0, 0.0]) == pytest.approx(-18 / 11)
    assert 9 - across @ np.linalg.solve(total, across) == pytest.approx(18 / 11)
    # determinant 13^2 - 9^2 = 88; quadratic form 16 * 13 / 88
    expected = -0.5 * (2 * np.log(2 * np.pi) + np.log(88) + 16 * 13 / 88)
    assert log_marginal(studies, sd, mean_sd=3.0, rho=0.0)[0] == pytest.approx(expected)


# ---------------------------------------------------------------- the exact engine


def test_grid_agrees_with_quadrature_on_the_eight_schools() -> None:
    y, se = np.array(SCHOOLS_Y), np.array(SCHOOLS_SE)
    est = MetaAnalysis(engine="grid", robust=False, mean_sd=20, sd_scale=10, draws=5000).fit(
        _table(y, se)
    )
    tau = np.linspace(0.005, 70, 14000)
    precision = (1 / (se**2 + tau[:, None] ** 2)).sum(axis=1) + 1 / 20**2
    mean = (y / (se**2 + tau[:, None] ** 2)).sum(axis=1) / precision
    log_p = -0.5 * (tau / 10) ** 2 - 0.5 * np.log(precision) + 0.5 * mean**2 * precision
    log_p -= 0.5 * (np.log(se**2 + tau[:, None] ** 2) + y**2 / (se**2 + tau[:, None] ** 2)).sum(1)
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    school = (y * tau[:, None] ** 2 + se**2 * mean[:, None]) / (tau[:, None] ** 2 + se**2)
    rows = est.frame["estimand"]
    sd = np.sqrt(w @ (1 / precision + mean**2) - (w @ mean) ** 2)
    step = 4 / np.sqrt(20_000)
    got = est.tidy()
    assert got.loc[rows == "mean_effect", "estimate"].item() == pytest.approx(
        w @ mean, abs=step * sd
    )
    assert got.loc[rows == "mean_effect", "std_error"].item() == pytest.approx(sd, rel=0.03)
    assert got.loc[rows == "between_report_sd", "estimate"].item() == pytest.approx(
        w @ tau, abs=step * 6
    )
    shrunk = got.loc[rows == "study_effect", "estimate"].to_numpy()
    assert shrunk == pytest.approx(w @ school, abs=step * 9)


def test_grid_reproduces_the_textbook_posterior_of_the_eight_schools() -> None:
    # Gelman et al., Bayesian Data Analysis, 3rd ed., table 5.3: posterior medians under flat
    # priors, from 200 draws and printed in whole points; nearly flat priors here.
    table = _table(SCHOOLS_Y, SCHOOLS_SE)
    est = MetaAnalysis(engine="grid", robust=False, mean_sd=100, sd_scale=100).fit(table)
    medians = np.median(est.where(estimand="study_effect").draws(), axis=0)
    assert medians == pytest.approx([10, 8, 7, 8, 5, 6, 10, 8], abs=1.5)


def _by_prior_draws(table, levels, corr, size, seed, nu=None, bounded=None):
    """Posterior mean and sd of (mean, type means) by weighting draws from the prior: slow, plain."""
    rng = np.random.default_rng(seed)
    y = table["estimate"].to_numpy()
    types = list(dict.fromkeys(table["program_type"]))
    kind = np.array([types.index(k) for k in table["program_type"]])
    error = np.tile(table["std_error"].to_numpy(), (size, 1))
    if bounded is not None:
        row, high, log_mean, log_sd = bounded
        top = stats.norm.cdf((np.log(high) - log_mean) / log_sd)
        error[:, row] = np.exp(log_mean + log_sd * stats.norm.ppf(rng.random(size) * top))
    total = error[:, :, None] * error[:, None, :] * corr + 9.0
    type_var = np.abs(rng.standard_normal(size)) ** 2
    total += type_var[:, None, None] * (kind[:, None] == kind)
    reports, report = np.unique(table["report"], return_inverse=True)
    mixing = np.ones((size, len(reports)))
    if nu is not None:
        mixing = (nu - 2) / rng.chisquare(nu, mixing.shape)
    for name in levels:
        index = (
            np.arange(len(y))
            if name == "effect"
            else np.unique(table[name], return_inverse=True)[1]
        )
        variance = np.repeat(np.abs(rng.standard_normal(size))[:, None] ** 2, len(y), axis=1)
        if name != "program":
            variance *= mixing[:, report]
        total += variance[:, :, None] * (index[:, None] == index)
    inverse = np.linalg.inv(total)
    log_w = 0.5 * (np.linalg.slogdet(inverse)[1] - np.einsum("i,sij,j->s", y, inverse, y))
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    means, sds = [], []
    for k in [-1, *range(len(types))]:
        across = 9.0 + type_var[:, None] * (kind == k)
        prior = 9.0 + (type_var if k >= 0 else 0.0)
        centre = np.einsum("si,sij,j->s", across, inverse, y)
        spread = prior - np.einsum("si,sij,sj->s", across, inverse, across)
        means.append(w @ centre)
        sds.append(np.sqrt(w @ (spread + centre**2) - means[-1] ** 2))
    return np.array(means), np.array(sds), 1 / np.sum(w**2)


def test_grid_with_every_level_and_shared_samples_agrees_with_weighted_prior_draws(nested) -> None:
    nested["sample"] = ["s", "s", None, None, None, "u", None, "u"]
    est = MetaAnalysis(engine="grid", robust=False, rho=0.6, draws=5000).fit(
        nested, sample="sample"
    )
    assert est.meta["levels"] == ["type", "program", "report", "effect"]
    corr = np.eye(8)
    corr[0, 1] = corr[1, 0] = corr[5, 7] = corr[7, 5] = 0.6
    means, sds, effective = _by_prior_draws(
        nested, ["program", "report", "effect"], corr, 60_000, 1
    )
    got = est.where(estimand=["mean_effect", "type_mean"]).tidy()
    error = 4 * sds * np.sqrt(1 / effective + 1 / 20_000)
    assert np.all(np.abs(got["estimate"] - means) < error)
    assert got["std_error"].to_numpy() == pytest.approx(sds, rel=0.05)


# ---------------------------------------------------------------- the sampled model


@pytest.fixture
def bounded(nested):
    """The nested table with shared samples and one standard error known by its bound."""
    nested["std_error"] = nested["std_error"].where(nested.index != 6)
    nested["high"], nested["sample"] = 2.0, ["s", "s", "s", None, None, "u", None, "u"]
    columns = Columns(std_error_high="high", sample="sample")
    return nested, read_studies(nested, columns, [], program_effects=True)


POINT = (np.array([0.7, 1.1, 0.4, 0.9]), np.array([0.5, 2.0, 1.0, 0.3, 1.7, 0.8]), np.array([0.3]))


def test_sampled_density_is_the_dense_normal_density(bounded) -> None:
    table, studies = bounded
    spread, mixing, _ = POINT
    logs = np.log(table["std_error"].dropna())
    log_sd = max(logs.std(), 0.3)
    top = stats.norm.cdf((np.log(2.0) - logs.mean()) / log_sd)
    se = table["std_error"].to_numpy().copy()
    se[6] = np.exp(logs.mean() + log_sd * stats.norm.ppf(0.3 * top))
    sample = np.array([0, 0, 0, 1, 2, 3, 4, 3])
    total = 9.0 + np.outer(se, se) * np.where(np.eye(8), 1.0, 0.6 * (sample[:, None] == sample))
    for level, sd in zip(("type", "program", "report", "effect"), spread, strict=True):
        index = studies.index[level]
        variance = np.full(8, sd**2)
        if level in ("report", "effect"):
            variance *= mixing[studies.index["report"]]
        total += variance * (index[:, None] == index)
    at = design(studies, mean_sd=3.0, rho=0.6)
    expected = stats.multivariate_normal(np.zeros(8), total).logpdf(table["estimate"])
    assert log_density(at, *POINT)[0] == pytest.approx(expected, rel=1e-12)


def test_derivatives_of_the_sampled_density(bounded) -> None:
    at = design(bounded[1], mean_sd=3.0, rho=0.6)
    slopes = log_density(at, *POINT)[1:]
    for k, part in enumerate(POINT):
        for i in range(len(part)):
            values = []
            for h in (1e-6, -1e-6):
                moved = [x.copy() for x in POINT]
                moved[k][i] += h
                values.append(log_density(at, *moved)[0])
            assert slopes[k][i] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


@pytest.fixture(scope="module")
def robust():
    """One sampled fit: an outlier, two rows of one report, a standard error known by its bound."""
    table = _table(
        [-1.4, -2.6, -0.9, -0.4, -9.0, -1.2],
        [0.6, 0.7, 0.5, 0.8, np.nan, 0.4],
        report=["a", "a", "b", "c", "d", "e"],
        program=["A", "A", "A", "C", "D", "E"],
        kind=["aco", "aco", "aco", "aco", "other", "other"],
        high=[np.nan, np.nan, np.nan, np.nan, 3.0, np.nan],
    )
    model = MetaAnalysis()
    return model, table, model.fit(table, std_error_high="high")


def test_sampler_agrees_with_weighted_prior_draws(robust) -> None:
    _, table, est = robust
    logs = np.log(table["std_error"].dropna())
    means, sds, effective = _by_prior_draws(
        table,
        ["program", "report", "effect"],
        np.eye(6),
        400_000,
        2,
        nu=4.0,
        bounded=(4, 3.0, logs.mean(), max(logs.std(), 0.3)),
    )
    assert effective > 500
    got = est.where(estimand=["mean_effect", "type_mean"]).tidy()
    error = 4 * sds * np.sqrt(1 / effective + 1 / est.meta["convergence"]["ess_bulk"])
    assert np.all(np.abs(got["estimate"] - means) < error)
    assert got["std_error"].to_numpy() == pytest.approx(sds, rel=0.15)


def test_sampled_result_says_what_was_done(robust) -> None:
    _, table, est = robust
    assert est.meta["n_bounded_errors"] == 1
    assert est.meta["convergence"]["divergences"] <= 3
    assert "t with 4 degrees of freedom" in est.meta["prior"]
    frame = est.where(estimand="study_effect").frame
    assert frame["observed"].tolist() == table["estimate"].tolist()
    assert frame["report"].tolist() == table["report"].tolist()
    # drawn below its bound of 3, known ones untouched
    assert 0 < frame["observed_se"].iloc[4] < 3
    assert frame["observed_se"].iloc[0] == pytest.approx(0.6)
    assert est.to_arviz()["posterior"].sizes["chain"] == 4
    assert est.interval == "credible"
    assert est.tidy()["p_value"].isna().all()


def test_outlier_moves_the_robust_mean_less(robust) -> None:
    _, table, est = robust
    normal = MetaAnalysis(robust=False, engine="grid").fit(
        table.assign(std_error=table["std_error"].fillna(1.0))
    )
    aco = {"estimand": "type_mean", "stratum": "program_type=aco"}
    with_outlier = [float(x.where(aco).estimate[0]) for x in (est, normal)]
    assert with_outlier[0] > with_outlier[1]


# ---------------------------------------------------------------- what is reported


def test_rows_and_their_meaning(nested) -> None:
    est = MetaAnalysis(engine="grid", robust=False).fit(nested, keep=["report"])
    names = est.frame["estimand"].value_counts().to_dict()
    assert names == {
        "mean_effect": 1, "mean_of_reports": 1, "type_mean": 2, "predictive": 2,
        "between_type_sd": 1, "between_program_sd": 1, "between_report_sd": 1,
        "within_report_sd": 1, "study_effect": 8,
    }  # fmt: skip
    assert set(est.frame["unit_of_measure"]) == {"percent"}
    means, new = (est.where(estimand=x) for x in ("type_mean", "predictive"))
    assert np.all(new.tidy()["std_error"].to_numpy() > means.tidy()["std_error"].to_numpy())
    # three reports on ACOs, three on bundles
    by_reports = est.where(estimand="mean_of_reports").draws()[:, 0]
    assert by_reports == pytest.approx(means.draws().mean(axis=1))
    assert means.frame["n_clusters"].tolist() == [3, 3]
    probability = means.probability(below=0.0)
    assert probability.between(0.5, 1).all()
    assert est.probability(below=-2.0).le(est.probability(below=0.0)).all()


def test_predictive_variance_adds_every_level(nested) -> None:
    est = MetaAnalysis(engine="grid", robust=False, draws=20_000).fit(nested)
    spread = est.where(estimand=["between_program_sd", "between_report_sd", "within_report_sd"])
    expected = (spread.draws() ** 2).sum(axis=1).mean()
    added = (
        est.where(estimand="predictive").draws() - est.where(estimand="type_mean").draws()
    ).var(axis=0)
    assert added == pytest.approx([expected, expected], rel=0.1)


def test_rows_of_one_report_are_not_independent_studies() -> None:
    y, se = [-2.0, -2.2, -1.8, -2.1, -1.9, -2.0], [0.3] * 6
    model = MetaAnalysis(engine="grid", robust=False)
    apart = model.fit(_table(y, se))
    together = model.fit(_table(y, se, report=["a"] * 6, program=["A"] * 6))
    sds = [x.where(estimand="mean_effect").tidy()["std_error"].item() for x in (apart, together)]
    assert sds[1] > 2 * sds[0]
    assert together.meta["levels"] == ["report", "effect"]


def test_order_of_rows_does_not_matter(nested) -> None:
    model = MetaAnalysis(engine="grid", robust=False)
    a, b = model.fit(nested), model.fit(nested.iloc[::-1])
    keys = ["mean_effect", "mean_of_reports", "between_report_sd"]
    x, y = (e.where(estimand=keys).tidy() for e in (a, b))
    assert np.all(np.abs(x["estimate"] - y["estimate"]) < 4 * x["std_error"] * np.sqrt(2 / 6000))


def test_levels_that_cannot_be_told_apart_are_left_out(nested) -> None:
    single = MetaAnalysis(engine="grid", robust=False).fit(_table(BCG_Y, np.sqrt(BCG_V)))
    assert single.meta["levels"] == ["report"]
    without = MetaAnalysis(engine="grid", robust=False, program_effects=False).fit(nested)
    assert "program" not in without.meta["levels"]


def test_bounded_errors_follow_the_printed_ones() -> None:
    table = _table(
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [0.5, 1.0, 2.0, np.nan, np.nan],
        low=[np.nan, np.nan, np.nan, np.nan, 1.5],
        high=[np.nan, np.nan, np.nan, 0.8, np.nan],
    )
    columns = Columns(std_error_low="low", std_error_high="high")
    law = read_studies(table, columns, [], program_effects=True).error_law
    assert law is not None
    assert law.rows.tolist() == [3, 4]
    assert law.low.tolist() == [0.0, 1.5]
    assert law.high.tolist() == [0.8, np.inf]
    assert law.log_mean == pytest.approx(0.0)
    assert law.log_sd == pytest.approx(np.log(2))


# ---------------------------------------------------------------- what the result hangs on


def test_leaving_a_program_out_equals_fitting_without_it(nested) -> None:
    model = MetaAnalysis(engine="grid", robust=False, draws=5000)
    table = leave_one_out(model, nested, model.fit(nested))
    assert set(table["left_out"]) == {"A", "C", "D", "E", "F"}
    assert table.loc[table["left_out"] == "A", "n_effects"].eq(4).all()
    assert table["method"].eq("reweighted").all()
    for program in ("C", "E"):
        again = model.fit(nested[nested["program"] != program]).tidy()
        got = table[(table["left_out"] == program) & (table["estimand"] == "type_mean")]
        for row in got.itertuples():
            same = (again["estimand"] == "type_mean") & (again["stratum"] == row.stratum)
            other = again[same].iloc[0]
            # 1,000 weighted draws, at least 500 effective
            assert abs(row.estimate - other["estimate"]) < 4 / np.sqrt(500) * other["std_error"]
            assert row.std_error == pytest.approx(other["std_error"], rel=0.15)


def test_dominant_program_is_fitted_again() -> None:
    y = [-1.0, -1.1, -0.9, -1.0, -14.0]
    table = _table(y, [0.1, 0.1, 0.1, 0.1, 0.1])
    model = MetaAnalysis(engine="grid", robust=False, sd_scale=3)
    out = leave_one_out(model, table, model.fit(table))
    last = out[(out["left_out"] == "p4") & (out["estimand"] == "mean_effect")].iloc[0]
    assert last["method"] == "refitted"
    assert last["pareto_k"] > 0.7
    assert last["estimate"] == pytest.approx(-1.0, abs=0.2)
    assert last["shift"] > 1


def test_other_priors_equal_fitting_with_them(nested) -> None:
    model = MetaAnalysis(engine="grid", robust=False, draws=5000)
    table = prior_sensitivity(model, nested, model.fit(nested))
    assert table["prior"].nunique() == 6
    own = table[table["prior"] == "as fitted"]
    assert own["shift"].abs().max() == pytest.approx(0, abs=1e-12)
    got = table[(table["prior"] == "spread prior halved") & (table["estimand"] == "type_mean")]
    again = MetaAnalysis(engine="grid", robust=False, draws=5000, sd_scale=0.5).fit(nested)
    other = again.where(estimand="type_mean").tidy()
    assert got["sd_scale"].eq(0.5).all()
    gap = np.abs(got["estimate"].to_numpy() - other["estimate"].to_numpy())
    assert np.all(gap < 0.1 * other["std_error"].to_numpy())
    assert got["std_error"].to_numpy() == pytest.approx(other["std_error"].to_numpy(), rel=0.05)
    with pytest.raises(DesignError, match="nu"):
        prior_sensitivity(model, nested, model.fit(nested), alternatives={"x": {"nu": 5.0}})


def test_without_spread_types_are_weighted_by_precision() -> None:
    # spreads near zero: one common mean, precisions 4 and 4 of aco, 1 of bundle, 1/9 of the prior
    table = _table([-1.0, -2.0, -4.0], [0.5, 0.5, 1.0], kind=["aco", "aco", "bundle"])
    model = MetaAnalysis(engine="grid", robust=False, sd_scale=1e-6, draws=100)
    out = borrowing(model, table, model.fit(table)).set_index("stratum")
    precision = {"program_type=aco": [8, 1, 1 / 9], "program_type=bundle": [1, 8, 1 / 9]}
    for stratum, parts in precision.items():
        assert out.loc[stratum].tolist() == pytest.approx(np.divide(parts, 9 + 1 / 9))


def test_weights_of_own_and_other_effects_give_the_mean(nested) -> None:
    # every effect of a type is the same number, so the mean of a type is the weighted sum of two
    table = nested.assign(estimate=np.where(nested["program_type"] == "aco", -1.0, -3.0))
    model = MetaAnalysis(engine="grid", robust=False, draws=5000)
    est = model.fit(table)
    out = borrowing(model, table, est)
    means = est.where(estimand="type_mean")
    assert out["stratum"].tolist() == means.frame["stratum"].tolist()
    expected = [-out["own"][0] - 3 * out["others"][0], -3 * out["own"][1] - out["others"][1]]
    sd = means.tidy()["std_error"].to_numpy()
    assert np.all(np.abs(means.estimate - expected) < 4 * sd / np.sqrt(20_000))
    assert out[["own", "others", "prior"]].sum(axis=1).to_numpy() == pytest.approx([1, 1])
    assert out[["own", "others", "prior"]].gt(0).all(axis=None)


def test_predictive_check_sees_an_outlier_that_normal_deviations_miss() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(-1, 0.5, 30)
    calm = _table(y, np.full(30, 0.4))
    wild = calm.assign(estimate=np.where(calm.index == 0, -12.0, y))
    model = MetaAnalysis(engine="grid", robust=False)
    tails = {}
    for name, table in (("calm", calm), ("wild", wild)):
        check = posterior_predictive(model, table, model.fit(table)).set_index("statistic")
        tails[name] = check["tail"]
        observed = check.loc["lowest effect, percent", "observed"]
        assert observed == pytest.approx(table["estimate"].min())
    assert tails["calm"].between(0.02, 0.98).all()
    assert tails["wild"]["lowest effect, percent"] > 0.98
    assert tails["wild"]["largest distance from type mean, standard errors"] < 0.05


def test_checks_refuse_what_does_not_belong_together(nested) -> None:
    model = MetaAnalysis(engine="grid", robust=False)
    est = model.fit(nested)
    with pytest.raises(DesignError, match="not from this model"):
        posterior_predictive(
            MetaAnalysis(engine="grid", robust=False, rho=0.0, seed=1), nested, est
        )
    with pytest.raises(DesignError, match="8 effects"):
        leave_one_out(model, nested.iloc[1:], est)
    for column, value in (("std_error", 9.0), ("report", "a"), ("program_type", "bundle")):
        changed = nested.copy()
        changed.loc[4, column] = value
        with pytest.raises(DesignError, match="or different ones"):
            borrowing(model, changed, est)
    two = nested[nested["program"].isin(["A", "C"])]
    of_two = model.fit(two)
    with pytest.raises(DesignError, match="fewer than three"):
        leave_one_out(model, two, of_two)


# ---------------------------------------------------------------- bad input


def test_all_failures_of_a_table_come_together() -> None:
    table = _table([1.0, np.nan, 250.0, 2.0], [0.5, 0.5, -1.0, np.nan])
    with pytest.raises(DataError) as caught:
        MetaAnalysis(engine="grid", robust=False).fit(table)
    message = str(caught.value)
    for part in (
        "4 problems",
        "missing in 1 rows",
        "beyond 100 percent",
        "not positive",
        "no bound",
    ):
        assert part in message


def test_text_and_missing_keys_are_named() -> None:
    table = _table(["-1.0", "n.s.", "2"], [0.5, 0.5, 0.5], report=["a", None, "c"])
    with pytest.raises(
        DataError, match=r"text in 1 rows \(rows `1`\)(?s:.)*`report` is missing in 1"
    ):
        MetaAnalysis().fit(table)
    with pytest.raises(DataError, match="no column `program_type`"):
        MetaAnalysis().fit(table.drop(columns="program_type"))


def test_columns_of_the_result_are_not_kept_from_the_table(nested) -> None:
    with pytest.raises(DataError, match=r"`keep` names `observed`"):
        MetaAnalysis(engine="grid", robust=False).fit(
            nested.assign(observed=1.0), keep=["observed"]
        )


def test_bounds_need_printed_errors_and_an_order() -> None:
    table = _table([1.0, 2.0, 3.0], [0.5, np.nan, np.nan], low=[0, 2.0, 0.5], high=[1, 1.0, 2.0])
    with pytest.raises(DataError, match=r"wrong order in 1 rows(?s:.)*only 1 rows have"):
        MetaAnalysis().fit(table, std_error_low="low", std_error_high="high")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"engine": "grid"}, "robust=False"),
        ({"engine": "gibbs"}, "engine"),
        ({"nu": 2.0}, "nu"),
        ({"rho": 1.0}, "rho"),
        ({"sd_scale": 0.0}, "sd_scale"),
        ({"mean_sd": 3000.0}, "percent points, not dollars"),
        ({"draws": 0}, "at least 4 and 2"),
        ({"engine": "grid", "robust": False, "tune": 50}, "`tune` would change nothing"),
        ({"robust": False, "nu": 6.0}, "`nu` would change nothing"),
    ],
)
def test_options_are_checked(options, word) -> None:
    with pytest.raises(DesignError, match=word):
        MetaAnalysis(**options)


def test_options_must_fit_the_table(nested) -> None:
    with pytest.raises(DesignError, match="needed together"):
        MetaAnalysis(engine="grid", robust=False, rho=0.5).fit(nested)
    with pytest.raises(DesignError, match="needed together"):
        MetaAnalysis(engine="grid", robust=False).fit(nested, sample="report")
    bounded = nested.assign(std_error=nested["std_error"].where(nested.index > 0), high=2.0)
    with pytest.raises(DesignError, match="known only within bounds"):
        MetaAnalysis(engine="grid", robust=False).fit(bounded, std_error_high="high")
    with pytest.raises(DesignError, match="at least two"):
        MetaAnalysis(engine="grid", robust=False).fit(nested.iloc[:1])
    with pytest.raises(DesignError, match="reports no progress"):
        MetaAnalysis(engine="grid", robust=False).fit(nested, progress=print)


def test_every_fit_has_a_skeptical_and_a_flat_prior_beside_it(nested) -> None:
    model = MetaAnalysis(engine="grid", robust=False, draws=2500)
    est = model.fit(nested)
    lines = (
        pd.DataFrame(est.meta["prior_sensitivity"])
        .set_index(["prior", "estimand", "stratum"])
        .sort_index()
    )
    assert set(lines.index.get_level_values("prior")) == {"default", "skeptical", "flat"}
    assert lines.loc["flat", "prior_sd_percent"].eq(20.0).all()
    keys = ["estimand", "stratum"]
    for name, mean_sd in (("default", 3.0), ("skeptical", 1.5), ("flat", 20.0)):
        again = replace(model, mean_sd=mean_sd, seed=2).fit(nested)
        shown = again.where(estimand=["mean_effect", "type_mean", "predictive"])
        table = shown.frame[keys].assign(mean=shown.estimate, sd=shown.draws().std(axis=0))
        said = lines.loc[name].reset_index().merge(table, on=keys)
        assert len(said) == 5
        assert (said["estimate"] - said["mean"]).abs().lt(0.06 * said["sd"]).all(), name
        assert said["std_error"].to_numpy() == pytest.approx(said["sd"], rel=0.08), name
    words = headline(est)
    assert "predictive of program_type=aco, flat prior Normal(0, 20)" in words


def test_draws_that_say_too_little_of_another_prior_are_said_and_not_shown(nested) -> None:
    frame = MetaAnalysis(engine="grid", robust=False, draws=50).fit(nested).frame
    draws = np.tile(np.random.default_rng(1).normal(40.0, 1.0, 1000)[:, None], (1, len(frame)))
    lines = meta_lines(frame, draws, draws[:, 0], mean_sd=3.0, usual=True)
    found = {x["prior"]: x for x in lines}
    assert found["default"]["estimate"] == pytest.approx(40.0, abs=0.2)
    assert found["flat"]["method"].startswith("failed: ")
    assert "mean_sd=20" in found["flat"]["method"]
    assert np.isnan(found["flat"]["estimate"])
    # an engine that can, integrates again
    again = meta_lines(
        frame, draws, draws[:, 0], mean_sd=3.0, usual=True, again=lambda sd: draws + sd
    )
    flat = next(x for x in again if x["prior"] == "flat")
    assert flat["method"] == "integrated again"
    assert flat["estimate"] == pytest.approx(60.0, abs=0.2)


def test_likelihoods_of_programs_are_dense_normal_densities(nested) -> None:
    """Programs D and F share a sample whose errors are correlated: they are one part."""
    nested["sample"] = ["s", "s", None, None, None, "u", None, "u"]
    model = MetaAnalysis(engine="grid", robust=False, rho=0.6, draws=50)
    est = model.fit(nested, sample="sample")
    tree = est.to_arviz()
    found = tree["log_likelihood"]["estimate"]
    same = {x: nested[x].to_numpy()[:, None] == nested[x].to_numpy() for x in ("program", "report")}
    corr = np.eye(8)
    corr[0, 1] = corr[1, 0] = corr[5, 7] = corr[7, 5] = 0.6
    error = nested["std_error"].to_numpy()
    kinds = list(tree["posterior"]["program_type"].values)
    kind = [kinds.index(k) for k in nested["program_type"]]
    for s in ({"chain": 0, "draw": 0}, {"chain": 3, "draw": 49}):
        at = tree["posterior"].to_dataset().isel(s)
        total = np.outer(error, error) * corr + float(at["effect_sd"]) ** 2 * np.eye(8)
        for level, alike in same.items():
            total = total + float(at[f"{level}_sd"]) ** 2 * alike
        mean = at["type_mean"].values[kind]
        whole = stats.multivariate_normal.logpdf(nested["estimate"], mean, total)
        assert float(found.isel(s).sum()) == pytest.approx(whole, abs=1e-8)
    assert list(found["part"].values) == ["A", "C", "D, F", "E"]


def test_data_far_from_the_priors_are_refused() -> None:
    table = _table([-95.0, 95.0, 90.0, -90.0], [0.01] * 4)
    with pytest.raises(EstimationError, match="too far from the priors"):
        MetaAnalysis(engine="grid", robust=False).fit(table)


def test_input_is_not_changed(nested) -> None:
    before = nested.copy(deep=True)
    MetaAnalysis(engine="grid", robust=False).fit(nested)
    pd.testing.assert_frame_equal(nested, before)


def test_a_grid_that_few_points_carry_is_made_finer() -> None:
    """Of 8,192 points fewer than 200 carry this; against a product of midpoints of the prior."""
    frame = pd.DataFrame(
        {
            "report": range(8), "program": np.repeat(range(4), 2),
            "program_type": np.repeat([0, 1], 4),
            "estimate": [-1.0, -3.0, 2.0, 0.5, -2.5, 1.5, 3.0, 0.2], "std_error": 0.02,
        }
    )  # fmt: skip
    options = {"robust": False, "engine": "grid", "mean_sd": 3.0}
    est = MetaAnalysis(**options, sd_scale=0.5, draws=20_000).fit(frame)
    middle = (np.arange(32) + 0.5) / 32
    sd = stats.halfnorm(scale=0.5).ppf(middle)
    # the spread of reports is far out in its prior: midpoints of values, weighted by the prior
    report = np.linspace(0.8, 3.5, 120)
    type_sd, program_sd, report_sd = (x.ravel() for x in np.meshgrid(sd, sd, report))
    program, kind = (
        np.equal.outer(*2 * [frame[x].to_numpy()]) for x in ("program", "program_type")
    )
    y, eye = frame["estimate"].to_numpy(), np.eye(8)
    logs = np.empty(len(report_sd))
    for some in np.array_split(np.arange(len(logs)), 40):
        a, b, c = (np.square(x[some])[:, None, None] for x in (type_sd, program_sd, report_sd))
        total = 9.0 + a * kind + b * program + (c + 0.02**2) * eye
        root = np.linalg.cholesky(total)
        white = np.linalg.solve(root, np.broadcast_to(y[:, None], (len(some), 8, 1)))
        logs[some] = -0.5 * np.square(white).sum(axis=(1, 2))
        logs[some] -= np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    logs += stats.halfnorm(scale=0.5).logpdf(report_sd)
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    found = est.where(estimand="between_report_sd").draws()[:, 0]
    expected = weight @ report_sd
    spread = np.sqrt(weight @ np.square(report_sd - expected))
    # some 235 points carry the posterior
    assert abs(found.mean() - expected) < 4 * spread / np.sqrt(200)
    with pytest.raises(EstimationError, match="of 131,072 integration points carry"):
        MetaAnalysis(**options, sd_scale=0.3).fit(frame)
