"""
The exact engine against the model as its page writes it: dense covariances on a grid of variances.

Nothing of the package's layout or coefficients is used in the expected values: contrasts free of
intercepts, their normal density, and the priors of the page, on natural scales.
"""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Priors
from vbceval.bayes.averages import PERCENT, averages
from vbceval.bayes.coefficients import structure
from vbceval.bayes.equations import arrange
from vbceval.bayes.exact import Marginal
from vbceval.bayes.hyper import laws, split_point
from vbceval.bayes.model import active_scales

PERSON_SD = 20_000.0
NODES = 2048


def cells() -> pd.DataFrame:
    """Six organizations of unequal size, a missing year of all and one of a single organization."""
    rng = np.random.default_rng(7)
    rows = []
    for i in range(6):
        entry = 2016.0 if i % 2 else np.nan
        for t in (2013, 2014, 2016):
            if (i, t) != (2, 2014):
                spend = 9_000 + 500 * i + 150 * (t - 2013) - 400 * (t >= entry)
                spend += 250 * rng.normal()
                rows.append((f"A{i}", t, entry, spend, 4_000.0 + 700 * i, 0.5 * i * i))
    return pd.DataFrame(rows, columns=["aco", "year", "entry", "spend", "size", "x"])


@pytest.fixture(scope="module")
def fitted() -> SimpleNamespace:
    """The estimator's answer, and the pieces of the written model."""
    frame = cells()
    panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", weight="size")
    model = HierarchicalDiD(person_sd=PERSON_SD, nodes=NODES)
    est = model.fit(panel, vbc.Design(outcome="spend", covariates=("x",)))
    before = frame[frame["entry"].notna() & (frame["year"] == 2014)]
    percent = 100.0 / np.average(before["spend"], weights=before["size"])
    year, org = frame["year"].to_numpy(dtype=float), pd.factorize(frame["aco"])[0]
    x = ((frame["x"] - frame["x"].mean()) / frame["x"].std(ddof=0)).to_numpy()
    return SimpleNamespace(
        est=est, org=org, x=x, year=year, y=(percent * frame["spend"]).to_numpy(),
        d=(frame["year"] >= frame["entry"]).to_numpy(dtype=float), same=org[:, None] == org,
        gap=np.abs(year[:, None] - year), noise=(percent * PERSON_SD) ** 2 / frame["size"].to_numpy(),
    )  # fmt: skip


def free_of_intercepts(org: np.ndarray) -> np.ndarray:
    """Orthonormal contrasts within organizations."""
    basis = np.eye(org.max() + 1)[org]
    return np.linalg.svd(basis)[0][:, basis.shape[1] :].T


def test_posterior_is_that_of_the_written_model_on_a_grid(fitted) -> None:
    d, x, org = fitted.d, fitted.x, fitted.org
    # sums over three periods are zero: covariance sd^2 (I - 1/3) of period effects and of slopes
    alike = (fitted.gap == 0) - 1 / 3
    fixed = 100**2 * alike + 20**2 * np.outer(x, x) * alike + 3**2 * np.outer(d, d)
    fixed = fixed + np.diag(fitted.noise)
    contrasts = free_of_intercepts(org)
    y, with_effect = contrasts @ fitted.y, contrasts @ (3**2 * d)
    axes = np.linspace(-0.97, 0.97, 21), np.arange(0.2, 16.0, 0.4), np.arange(0.2, 9.0, 0.4)
    logs, mean, var = [], [], []
    grid = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    for part in np.array_split(grid, 20, axis=1):
        rho, common, own = part[:, :, None, None]
        v = fixed + common**2 * fitted.same * rho**fitted.gap
        v = v + own**2 * fitted.same * np.outer(d, d)
        w = contrasts @ v @ contrasts.T
        inverse = np.linalg.inv(w)
        fit = np.einsum("i,nij,j->n", y, inverse, y)
        prior = np.log1p(-(rho**2)) - common**2 / 50 - own**2 / 8
        logs.append(prior.ravel() - 0.5 * (np.linalg.slogdet(w)[1] + fit))
        mean.append(np.einsum("i,nij,j->n", with_effect, inverse, y))
        var.append(3**2 - np.einsum("i,nij,j->n", with_effect, inverse, with_effect))
    means, log = np.concatenate(mean), np.concatenate(logs)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    expected = weight @ means
    sd = np.sqrt(weight @ (np.concatenate(var) + np.square(means - expected)))
    row = fitted.est.where(estimand="att_overall", unit_of_measure=PERCENT)
    assert row.estimate[0] == pytest.approx(expected, abs=0.01 * sd)
    assert row.draws().mean() == pytest.approx(expected, abs=4 * sd / np.sqrt(4000))
    assert row.draws().std() == pytest.approx(sd, rel=0.06)
    posterior = fitted.est.to_arviz()["posterior"]
    for name, values in zip(("rho", "common_shock", "organization_sd"), grid, strict=True):
        centre = weight @ values
        spread = np.sqrt(weight @ np.square(values - centre))
        found = posterior[name].values
        assert found.mean() == pytest.approx(centre, abs=0.05 * spread), name
        assert found.std() == pytest.approx(spread, rel=0.06), name


def test_as_many_nodes_are_taken_as_asked_for(fitted) -> None:
    """No spread of parts of the effect here: nothing is shared between nodes."""
    seen = fitted.est.meta["integration"]
    assert seen["nodes"] == NODES * (1, 3, 5)[seen["passes"] - 1]


def test_log_likelihood_of_an_organization_is_that_of_its_contrasts(fitted) -> None:
    """Up to a constant: half the log of its number of cells, as an intercept is no contrast."""
    tree = fitted.est.to_arviz()
    found = tree["log_likelihood"]["cells"].values[1]
    at = tree["posterior"].to_dataset().isel(chain=1)
    place = np.searchsorted(at["period"].values, fitted.year)
    for i in (0, 7):
        now = at.isel(draw=i)
        mean = now["period_effect"].values[0, place] + fitted.d * now["effect"].values[0]
        residual = fitted.y - mean - fitted.x * now["slope"].values[0, place]
        v = float(now["common_shock"]) ** 2 * float(now["rho"]) ** fitted.gap
        v = v + float(now["organization_sd"]) ** 2 * np.outer(fitted.d, fitted.d)
        v = v + np.diag(fitted.noise)
        for c in range(6):
            own = fitted.org == c
            contrasts = free_of_intercepts(np.zeros(own.sum(), dtype=int))
            w, r = contrasts @ v[np.ix_(own, own)] @ contrasts.T, contrasts @ residual[own]
            log = -0.5 * (np.linalg.slogdet(2 * np.pi * w)[1] + r @ np.linalg.solve(w, r))
            assert found[i, c] == pytest.approx(log - 0.5 * np.log(own.sum()), abs=1e-8)


def test_log_prior_is_that_of_the_effect_at_entry(fitted) -> None:
    tree = fitted.est.to_arviz()
    entry = tree["posterior"]["effect_at_entry"].values
    expected = -0.5 * np.square(entry / 3) - np.log(3 * np.sqrt(2 * np.pi))
    assert tree["log_prior"]["effect"].values == pytest.approx(expected)


def test_estimates_can_be_sent_to_another_process(fitted) -> None:
    again = pickle.loads(pickle.dumps(fitted.est))
    assert again.to_arviz()["log_likelihood"].equals(fitted.est.to_arviz()["log_likelihood"])


# ------------------------------------------------------------------ every part of the model


def restated() -> pd.DataFrame:
    """Two cohorts, two strata, files that restate years of some organizations, cells missing."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(7):
        entry = (np.nan, 2015.0, 2016.0)[i % 3]
        for u in range(2 if i < 4 else 1):
            for s, level in (("a", 9_000), ("b", 14_000)):
                for t in range(2013, 2017):
                    spend = level * (1 + 0.02 * (t - 2013) - 0.03 * (t >= entry))
                    spend += 0.02 * level * rng.normal()
                    if t in (2013, 2016) or rng.random() > 0.15:
                        size = 3_000.0 + 300 * i + 200 * u + 17 * t % 5
                        rows.append((f"A{i}", f"{i}-{u}", s, float(t), entry, spend, size))
    return pd.DataFrame(rows, columns=["aco", "unit", "s", "year", "entry", "spend", "size"])


def test_density_with_every_part_is_that_of_the_written_model() -> None:
    """Up to a constant, at any variances; the overall effect's mean and sd there, exactly."""
    frame, sds, design = restated(), {"a": 18_000.0, "b": 30_000.0}, vbc.Design(outcome="spend")
    panel = vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="entry", cluster="aco", strata=["s"],
        weight="size",
    )  # fmt: skip
    cells = HierarchicalDiD(person_sd=sds)._cells(panel, design, None)[0]
    parts, active = structure(cells), active_scales(cells, shocks="ar1", organizations=True)
    found = Marginal(
        cells=cells, parts=parts, priors=Priors(), equations=arrange(cells, parts),
        laws=laws(cells, parts, Priors(), active, person_log_sd=0.4),
        averages=averages(cells, design).weights,
    )  # fmt: skip

    def same(column: pd.Series) -> np.ndarray:
        codes = pd.factorize(column)[0]
        return (codes[:, None] == codes).astype(float)

    treated = (frame["year"] >= frame["entry"]).to_numpy()
    before = frame[frame["entry"].notna() & ~treated]
    before = before[before["year"] == before.groupby(["unit", "s"])["year"].transform("max")]
    totals = before.assign(spend=before["spend"] * before["size"]).groupby("s")[["spend", "size"]]
    base = frame["s"].map((lambda t: t["spend"] / t["size"])(totals.sum())).to_numpy()
    org, stratum, year = same(frame["aco"]), same(frame["s"]), same(frame["year"])
    gap = np.abs(np.subtract.outer(frame["year"].to_numpy(), frame["year"].to_numpy()))
    both, since = np.outer(treated, treated), (frame["year"] - frame["entry"]).where(treated, 0.0)
    cohort = both * same(frame["entry"])
    pooled = (cohort, both * np.minimum.outer(since.to_numpy(), since.to_numpy()), both * stratum,
              cohort * year * stratum)  # fmt: skip
    noise = (100 * frame["s"].map(sds) / base) ** 2 / frame["size"]
    spread = noise.groupby([frame["aco"], frame["s"], frame["year"]]).transform("mean").to_numpy()
    contrasts = free_of_intercepts(pd.factorize(frame["unit"] + frame["s"])[0])
    y = contrasts @ (100 * frame["spend"].to_numpy() / base)
    share = frame["size"].to_numpy() * base * treated
    share = share / share.sum()
    constants = []
    for z in np.random.default_rng(0).normal(size=(4, len(found.names))):
        at = split_point(found.laws, z)
        rho = 2 * at["rho_share"] - 1
        factor = frame["s"].map(dict(zip("ab", at["person_factor"], strict=True)))
        effect = 3**2 * both + sum(sd**2 * c for sd, c in zip(at["part_sd"], pooled, strict=True))
        shocks = at["common_shock"] ** 2 + at["stratum_shock"] ** 2 * stratum
        v = 100**2 * stratum * (year - 1 / 4) + effect + org * rho**gap * shocks
        v = v + at["organization_sd"] ** 2 * org * both
        v = v + np.diag((1 - at["overlap"]) * noise * factor**2)
        v = v + at["overlap"] * org * stratum * year * (spread * factor**2).to_numpy()[:, None]
        root = np.linalg.cholesky(contrasts @ v @ contrasts.T)
        fit, pull = np.linalg.solve(root, np.column_stack([y, contrasts @ effect @ share])).T
        ours = found(z[None])[0]
        log = -np.log(np.diag(root)).sum() - 0.5 * fit @ fit - 0.5 * z @ z
        constants.append(ours.log_density - log)
        # the second row is the overall effect in percent
        assert ours.mean[1] == pytest.approx(pull @ fit, abs=1e-9)
        assert ours.sd[1] == pytest.approx(np.sqrt(share @ effect @ share - pull @ pull), abs=1e-9)
    assert constants == pytest.approx([constants[0]] * 4, abs=1e-7)
