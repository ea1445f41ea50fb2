"""Meta-analysis of several outcomes: published fits, dense covariances, integration on a grid."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, optimize, stats

from vbceval.bayes import JointMetaAnalysis, MetaAnalysis, within_sensitivity
from vbceval.bayes.meta_outcomes.data import Columns, read_rows
from vbceval.bayes.meta_outcomes.density import Density, Natural
from vbceval.core.errors import DataError, DesignError

COLUMNS = Columns(
    "estimate", "std_error", "outcome", "unit_of_measure", "report", "program", "program_type", None
)

# Surgical minus non-surgical improvement (mm) in probing depth and attachment level, variances and
# covariance, of five trials: Berkey et al., Statistics in Medicine 17 (1998) 2537-2550.
BERKEY = [
    (0.47, -0.32, 0.0075, 0.0030, 0.0077), (0.20, -0.60, 0.0057, 0.0009, 0.0008),
    (0.40, -0.12, 0.0021, 0.0007, 0.0014), (0.26, -0.31, 0.0029, 0.0009, 0.0015),
    (0.56, -0.39, 0.0148, 0.0072, 0.0304),
]  # fmt: skip


def berkey() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, known = [], []
    for i, (pd_, al, v_pd, cov, v_al) in enumerate(BERKEY):
        rows += [(f"t{i}", "PD", pd_, np.sqrt(v_pd)), (f"t{i}", "AL", al, np.sqrt(v_al))]
        known.append((f"t{i}", "PD", "AL", cov / np.sqrt(v_pd * v_al)))
    frame = pd.DataFrame(rows, columns=["report", "outcome", "estimate", "std_error"])
    frame = frame.assign(program=frame["report"], program_type="surgery", unit_of_measure="mm")
    return frame, pd.DataFrame(known, columns=["sample", "outcome", "other", "correlation"])


def published(seed: int = 1, reports: int = 6) -> pd.DataFrame:
    """Two types, a program with two reports, reports with two samples or one outcome."""
    rng, rows = np.random.default_rng(seed), []
    for r in range(reports):
        for cohort in range(2 if r == 1 else 1):
            for outcome, unit, size in (
                ("spending", "percent", 1.0), ("readmissions", "points", 0.3), ("deaths", "points", 0.2)
            ):  # fmt: skip
                if outcome == "deaths" and r % 2:
                    continue
                rows.append((f"r{r}", "A" if r < 2 else f"P{r}", "aco" if r < 4 else "bundle",
                             f"c{cohort}", outcome, unit, size * rng.normal(-1, 1), size * rng.uniform(0.3, 0.9)))  # fmt: skip
    names = ["report", "program", "program_type", "cohort", "outcome", "unit_of_measure", "estimate",
             "std_error"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


# ------------------------------------------------------------------ published trials


def restricted(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log sds and arctanh correlation of the restricted maximum, means, errors; least squares."""
    y, x = cells[:, :2].ravel(), np.tile(np.eye(2), (len(cells), 1))

    def pieces(z: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        sd, rho = np.exp(z[:2]), np.tanh(z[2])
        between = np.outer(sd, sd) * np.array([[1.0, rho], [rho, 1.0]])
        blocks = [between + np.array([[v, c], [c, w]]) for v, c, w in cells[:, 2:]]
        inverse = np.linalg.inv(linalg.block_diag(*blocks))
        cov = np.linalg.inv(x.T @ inverse @ x)
        mean = cov @ x.T @ inverse @ y
        rest = (y - x @ mean) @ inverse @ (y - x @ mean)
        logs = -np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(cov)[1]
        return float(0.5 * (logs + rest)), mean, np.sqrt(np.diag(cov))

    found = optimize.minimize(lambda z: pieces(z)[0], [-2.0, -2.0, 0.5], method="Nelder-Mead",
                              options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}).x  # fmt: skip
    return found, *pieces(found)[1:]


def test_with_a_wide_prior_the_density_is_the_restricted_likelihood() -> None:
    """On the trials of Berkey et al., beside generalised least squares written here."""
    frame, known = berkey()
    rows = read_rows(frame, COLUMNS, scale={}, within=0.0, known=known)
    density = Density(rows=rows, mean_sd=30.0, sd_scale=1.0, concentration=2.0)

    def at(z: np.ndarray) -> Natural:
        rho = np.tanh(z[2])
        return Natural({"report": np.exp(z[None, :2])}, np.array([[[1.0, rho], [rho, 1.0]]]))

    def loss(z: np.ndarray) -> float:
        return -stats.multivariate_normal(np.zeros(10), density.covariance(at(z))[0]).logpdf(
            rows.estimate
        )

    best = optimize.minimize(loss, [-2.0, -2.0, 0.5], method="Nelder-Mead",
                             options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 2000}).x  # fmt: skip
    expected, mean, error = restricted(np.array(BERKEY))
    assert best == pytest.approx(expected, abs=1e-4)
    total = density.covariance(at(best))[0]
    across, prior = (x[0] for x in density.targets(at(best)))
    gain = np.linalg.solve(total, across.T).T
    assert (gain @ rows.estimate)[:2] == pytest.approx(mean, abs=1e-5)
    errors = np.sqrt(prior - np.einsum("ij,ij->i", gain, across))[:2]
    assert errors == pytest.approx(error, abs=1e-5)


# ------------------------------------------------------------------ the model as its page writes it


def test_covariance_is_that_of_the_written_model() -> None:
    """Sums over levels, written row by row; correlations of errors within samples alone."""
    frame = published()
    within = {
        ("spending", "readmissions"): 0.5,
        ("spending", "deaths"): -0.2,
        ("readmissions", "deaths"): 0.1,
    }
    rows = read_rows(
        frame, COLUMNS._replace(sample="cohort"), scale={"readmissions": 0.3, "deaths": 0.2},
        within=within, known=None,
    )  # fmt: skip
    assert rows.levels == ("type", "program", "report", "sample")
    density = Density(rows=rows, mean_sd=3.0, sd_scale=1.0, concentration=2.0)
    rng = np.random.default_rng(3)
    sd = {x: rng.uniform(0.2, 1.5, 3) for x in rows.levels}
    r = np.array([[1, 0.3, -0.4], [0.3, 1, 0.2], [-0.4, 0.2, 1.0]])
    found = density.covariance(Natural({k: v[None] for k, v in sd.items()}, r[None]))[0]
    size = {"spending": 1.0, "readmissions": 0.3, "deaths": 0.2}
    order = list(size)
    table = frame.to_dict("records")
    for i, a in enumerate(table):
        for j, b in enumerate(table):
            p, q = order.index(a["outcome"]), order.index(b["outcome"])
            expected = 9.0 * (p == q)
            together = {
                "type": a["program_type"] == b["program_type"], "program": a["program"] == b["program"],
                "report": a["report"] == b["report"],
                "sample": (a["report"], a["cohort"]) == (b["report"], b["cohort"]),
            }  # fmt: skip
            for level, same in together.items():
                expected += same * sd[level][p] * sd[level][q] * r[p, q]
            if together["sample"]:
                pair = (order[p], order[q])
                rho = 1.0 if p == q else within.get(pair, within.get(pair[::-1]))
                expected += (
                    rho * a["std_error"] / size[a["outcome"]] * b["std_error"] / size[b["outcome"]]
                )
            assert found[i, j] == pytest.approx(expected, abs=1e-12)
    assert rows.estimate == pytest.approx(frame["estimate"] / frame["outcome"].map(size))


@pytest.fixture(scope="module")
def pair() -> SimpleNamespace:
    """Two outcomes of five reports, one of which prints one of them; and a grid."""
    frame = pd.DataFrame(
        {
            "report": list("aabbccdde"), "outcome": ["spending", "visits"] * 4 + ["spending"],
            "estimate": [-1.5, -2.0, 0.4, 0.2, -2.2, -1.0, -0.1, 0.6, -3.0],
            "std_error": [0.6, 0.5, 0.5, 0.7, 0.9, 0.6, 0.4, 0.5, 0.7],
        }
    ).assign(program=lambda d: d["report"], program_type="aco", unit_of_measure="percent")  # fmt: skip
    model = JointMetaAnalysis(within=0.5)
    y, s = frame["estimate"].to_numpy(), frame["std_error"].to_numpy()
    code = (frame["outcome"] == "visits").to_numpy().astype(int)
    same = (frame["report"].to_numpy()[:, None] == frame["report"].to_numpy()).astype(float)
    alike = code[:, None] == code
    errors = np.outer(s, s) * same * np.where(alike, 1.0, 0.5)
    step = 0.12
    axis, rhos = step * (np.arange(36) + 0.5), np.linspace(-0.975, 0.975, 40)
    one, two, rho = (g.ravel() for g in np.meshgrid(axis, axis, rhos))
    sd = np.stack([one, two])[code].T
    shared = sd[:, :, None] * sd[:, None, :] * same * np.where(alike, 1.0, rho[:, None, None])
    prior = -0.5 * one**2 - 0.5 * two**2 + np.log1p(-(rho**2))
    total = errors + 9.0 * alike + shared
    inverse = np.linalg.inv(total)
    log = prior - 0.5 * (np.linalg.slogdet(total)[1] + np.einsum("i,gij,j->g", y, inverse, y))
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    means, variances = [], []
    for j in range(2):
        pull = 9.0 * (code == j)
        means.append(inverse @ pull @ y)
        variances.append(9.0 - np.einsum("i,gij,j->g", pull, inverse, pull))
    mean = np.array(means) @ weight
    spread = np.sqrt((np.array(variances) + np.square(np.array(means) - mean[:, None])) @ weight)
    return SimpleNamespace(
        frame=frame, model=model, est=model.fit(frame), mean=mean, sd=spread,
        rho=float(rho @ weight), one=float(one @ weight), two=float(two @ weight),
    )  # fmt: skip


def test_posterior_is_that_of_a_grid(pair) -> None:
    found = pair.est.where(estimand="mean_effect")
    assert found.estimate == pytest.approx(pair.mean, abs=0.03)
    assert found.std_error == pytest.approx(pair.sd, rel=0.06)
    assert pair.est.where(estimand="between_report_sd").estimate == pytest.approx(
        [pair.one, pair.two], rel=0.05
    )
    assert pair.est.where(estimand="between_correlation").estimate[0] == pytest.approx(
        pair.rho, abs=0.04
    )
    assert pair.est.meta["convergence"]["ess_bulk"] > 400


def test_an_outcome_that_is_not_printed_is_learned_of_from_the_other(pair) -> None:
    """Report e printed spending alone, far below the others: its truth is drawn to them."""
    effects = pair.est.where(estimand="study_effect")
    last = effects.frame.iloc[-1]
    assert last["report"] == "e"
    assert last["observed"] == -3.0
    assert last["observed_se"] == pytest.approx(0.7)
    assert -3.0 < last["estimate"] < pair.mean[0]
    visits = pair.frame[pair.frame["outcome"] == "visits"]
    alone = MetaAnalysis(robust=False, engine="grid").fit(visits)
    # a low effect on spending, and outcomes that go together, make visits lower than they look alone
    assert pair.rho > 0.1
    assert pair.mean[1] < alone.where(estimand="mean_effect").estimate[0]


def test_predictions_of_two_outcomes_are_joint(pair) -> None:
    new = pair.est.where(estimand="predictive")
    assert (new.std_error > pair.est.where(estimand="mean_effect").std_error).all()
    assert np.corrcoef(new.draws().T)[0, 1] > 0.1
    tree = pair.est.to_arviz()["posterior"]
    assert tree["mean_effect"].mean(("chain", "draw")).values == pytest.approx(
        pair.est.where(estimand="mean_effect").estimate
    )


def test_without_correlations_an_outcome_is_as_it_is_alone() -> None:
    """A tight prior of zero correlation, and none of errors: two separate meta-analyses."""
    frame = published(2).query("outcome != 'deaths' and cohort == 'c0'").assign(program_type="aco")
    model = JointMetaAnalysis(
        within=0.0, concentration=2000.0, scale={"readmissions": 0.3}, draws=8000
    )
    est = model.fit(frame)
    for name, scale in (("spending", 1.0), ("readmissions", 0.3)):
        own = frame[frame["outcome"] == name]
        own = own.assign(estimate=own["estimate"] / scale, std_error=own["std_error"] / scale)
        alone = MetaAnalysis(robust=False, engine="grid").fit(own).where(estimand="mean_effect")
        found = est.where(estimand="mean_effect", outcome=name)
        assert found.estimate[0] / scale == pytest.approx(alone.estimate[0], abs=0.04)
        assert found.std_error[0] / scale == pytest.approx(alone.std_error[0], rel=0.05)
        assert found.frame["unit_of_measure"].iloc[0] == ("percent" if scale == 1 else "points")


def test_another_unit_of_an_outcome_changes_its_unit_alone() -> None:
    frame = published()
    other = frame.copy()
    inside = other["outcome"] == "readmissions"
    other.loc[inside, ["estimate", "std_error"]] *= 10.0
    options = {"within": 0.3, "nodes": 128, "draws": 800}
    one = JointMetaAnalysis(scale={"readmissions": 0.3, "deaths": 0.2}, **options)
    two = JointMetaAnalysis(scale={"readmissions": 3.0, "deaths": 0.2}, **options)
    a = one.fit(frame, sample="cohort").where(estimand="mean_effect")
    b = two.fit(other, sample="cohort").where(estimand="mean_effect")
    assert b.estimate == pytest.approx(a.estimate * [1, 10, 1], rel=1e-6)


def test_sensitivity_to_the_assumed_correlation_is_by_refits(pair) -> None:
    small = JointMetaAnalysis(within=0.5, nodes=128, draws=800)
    table = within_sensitivity(small, pair.frame, values=(0.0, 0.5))
    means = table[(table["estimand"] == "mean_effect") & (table["outcome"] == "spending")]
    assert means["within"].tolist() == [0.0, 0.5]
    again = small.fit(pair.frame).where(estimand="mean_effect", outcome="spending")
    assert means["estimate"].iloc[1] == again.estimate[0]
    rho = table.loc[table["estimand"] == "between_correlation", "estimate"].to_numpy()
    # what errors do not explain, true effects must
    assert rho[0] > rho[1]


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        ({"std_error": np.nan}, {}, DataError, "known only within bounds"),
        ({"estimate": 500.0}, {}, DataError, "times the `scale`"),
        ({"report": None}, {}, DataError, "`report` is missing"),
        ({"outcome": "spending"}, {}, DataError, "repeat an outcome"),
        ({"unit_of_measure": [f"u{i}" for i in range(9)]}, {}, DataError, "several units"),
        ({"report": list("abcdefghi")}, {}, DesignError, "no report has two outcomes"),
        ({"outcome": "spending", "report": list("abcdefghi")}, {}, DesignError, "one outcome"),
        ({}, {"scale": {"cost": 1.0}}, DataError, "`scale` names `cost`"),
        ({}, {"within": 1.0}, DesignError, "between -1 and 1"),
        ({}, {"within": {("spending", "deaths"): 0.5}}, DesignError, "for each pair"),
        ({}, {"within": {("spending", "visits"): 0.5, ("a", "b"): 0.1}}, DesignError, "no pairs"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(pair, change, options, error, said) -> None:
    with pytest.raises(error, match=said):
        JointMetaAnalysis(**{"within": 0.5, **options}).fit(pair.frame.assign(**change))


def test_correlations_that_no_variables_have_are_refused() -> None:
    within = {("spending", "readmissions"): 0.9, ("spending", "deaths"): 0.9,
              ("readmissions", "deaths"): -0.9}  # fmt: skip
    with pytest.raises(DesignError, match="not positive definite"):
        JointMetaAnalysis(within=within).fit(published(), sample="cohort")
    known = pd.DataFrame(
        {"sample": ["x"], "outcome": ["spending"], "other": ["deaths"], "correlation": [0.1]}
    )
    with pytest.raises(DesignError, match="has not one row of each"):
        JointMetaAnalysis(within=0.1).fit(published(), sample="cohort", known=known)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"mean_sd": 0.0}, "`mean_sd`"), ({"sd_scale": 300.0}, "not dollars"), ({"nodes": 100}, "power of two"), ({"draws": 10}, "multiple of 4")],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused(options, said) -> None:
    with pytest.raises(DesignError, match=said):
        JointMetaAnalysis(within=0.5, **options)
