"""Shocks by stratum, Student t shocks and horseshoe: what follows from draws, options, planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray
from scipy import special, stats

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Limits, Priors, engines
from vbceval.bayes.averages import PERCENT
from vbceval.bayes.cells import from_moments
from vbceval.bayes.coefficients import structure
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.heavy import SLAB, horseshoe_draws, subgroup_coefficients
from vbceval.core.errors import DesignError

DESIGN = vbc.Design(outcome="spend")
LOOSE = Limits(r_hat=1.2, ess=50.0)


def rows(*, strata: int = 2, n: int = 16, wild: float = 1.0, seed: int = 4) -> pd.DataFrame:
    """Organizations whose second stratum has larger shocks; the first two are wilder."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        entry = 2016.0 + i // 2 % 2 if i % 2 else np.nan
        for s in range(strata):
            for t in range(2013, 2018):
                shock = (1 + 4 * s) * (wild if i < 2 else 1.0) * rng.normal()
                spend = 10_000 * (1 + (shock - 2.0 * (t >= entry)) / 100)
                out.append((f"A{i}", f"s{s}", t, entry, 60_000.0 + i, spend))
    return pd.DataFrame(out, columns=["aco", "s", "year", "entry", "people", "spend"])


def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="aco", period="year", cohort="entry", weight="people",
        strata=["s"] if len(frame["s"].unique()) > 1 else [],
    )  # fmt: skip


def test_shocks_of_each_stratum_have_the_size_that_was_planted() -> None:
    data = panel(rows(n=24))
    model = HierarchicalDiD(
        person_sd=10_000.0, shock_scale="stratum", shocks="iid", alternatives=(), nodes=256
    )
    est = model.fit(data, DESIGN)
    posterior = est.to_arviz()["posterior"]
    assert posterior["stratum_shock"].dims == ("chain", "draw", "stratum")
    total = np.hypot(posterior["stratum_shock"], posterior["common_shock"].values[..., None])
    low, high = np.quantile(total.values.reshape(-1, 2), [0.005, 0.995], axis=0)
    assert np.all((low < [1.0, 5.0]) & (high > [1.0, 5.0]))
    assert np.all(high - low < [1.0, 4.0])
    rows_of = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    assert abs(rows_of.estimate[0] + 2.0) < 4 * rows_of.draws().std()
    assert np.isfinite(est.to_arviz()["log_likelihood"]["cells"].values).all()
    own = model.organizations(est, data, DESIGN, size=400)
    assert len(own) == 12
    # equal variances cannot say this
    seen = est.meta["posterior_predictive"]
    for name in ("variance[s=s0]", "variance[s=s1]"):
        assert 0.02 < seen[name]["p_value"] < 0.98


def drawn(model: Any, *, draws: int, chains: int, **_: object) -> xarray.DataTree:
    """Values in the place of a sampler's: named, shaped and scattered like its draws."""
    rng, shape, out = np.random.default_rng(21), (chains, draws), {}
    for v in model.free_RVs:
        size = tuple(int(n) for n in v.shape.eval())
        if v.name in ("coordinates", "shock_coordinate"):
            values = rng.standard_normal((*shape, *size))
        elif v.name in ("rho_share", "overlap"):
            values = rng.uniform(0.4, 0.6, (*shape, *size))
        else:
            values = rng.uniform(0.5, 2.0, (*shape, *size))
        dims = [f"{v.name}_{k}" for k in range(len(size))]
        out[v.name] = (("chain", "draw", *dims), values)
    coords = {"chain": np.arange(chains), "draw": np.arange(draws)}
    return xarray.DataTree.from_dict({"posterior": xarray.Dataset(out, coords=coords)})


@pytest.fixture(scope="module")
def heavy():
    """Everything heavier at once, and draws that no sampler made."""
    frame = rows()
    model = HierarchicalDiD(
        person_sd=10_000.0, shock_scale="stratum", tails="student", pooling="horseshoe",
        engine="nuts", draws=100, chains=2, alternatives=("flat",),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "sample", drawn)
        est = model.fit(panel(frame), DESIGN, limits=LOOSE)
    return model, frame, est


def test_likelihood_of_an_organization_has_the_scale_of_its_shocks_integrated_out(heavy) -> None:
    """By quadrature over w of dense normal densities of contrasts, at one draw."""
    _, frame, est = heavy
    tree = est.to_arviz()
    at = tree["posterior"].to_dataset().isel(chain=1, draw=7)
    s, t = (pd.factorize(frame[k], sort=True)[0] for k in ("s", "year"))
    base = np.array([100.0 / est.meta["baseline"][f"s={k}"] for k in ("s0", "s1")])[s]
    event = (frame["year"] - frame["entry"]).to_numpy()
    names = {str(x): k for k, x in enumerate(at["effect_cell"].values)}
    effect = np.array(
        [
            at["effect"].values[names[f"{g:g}, {e:g}, s=s{k}"]] if e >= 0 else 0.0
            for g, e, k in zip(frame["entry"], event, s, strict=True)
        ]
    )
    r = base * frame["spend"].to_numpy() - at["period_effect"].values[s, t] - effect
    noise = (base * 10_000.0) ** 2 / frame["people"].to_numpy()
    for i in (1, 5, 10):
        own = (frame["aco"] == f"A{i}").to_numpy()
        basis = np.eye(2)[s[own]]
        free = np.linalg.svd(basis)[0][:, 2:].T
        d = (event[own] >= 0).astype(float)
        corr = float(at["rho"]) ** np.abs(t[own][:, None] - t[own])
        level = float(at["common_shock"]) ** 2 + np.diag(at["stratum_shock"].values ** 2)
        shock = level[s[own][:, None], s[own]] * corr
        fixed = np.diag(noise[own]) + float(at["organization_sd"]) ** 2 * np.outer(d, d)
        law, degrees = free @ r[own], float(at["degrees"])
        # the trapezoid rule on a fine grid of w, dense in each point
        w = np.exp(np.arange(-10.0, 4.0, 0.05))
        v = free @ (fixed + shock / w[:, None, None]) @ free.T
        log = stats.gamma(degrees / 2, scale=2 / degrees).logpdf(w) + np.log(w) + np.log(0.05)
        log -= 0.5 * np.linalg.slogdet(2 * np.pi * v)[1]
        log -= 0.5 * np.einsum("i,wij,j->w", law, np.linalg.inv(v), law)
        expected = special.logsumexp(log)
        # the blocks of the intercepts: half the log of their number of cells
        expected -= np.log(basis.sum(axis=0)).sum() / 2
        found = tree["log_likelihood"]["cells"].sel(cluster=f"A{i}").values[1, 7]
        assert found == pytest.approx(expected, abs=1e-6)


def test_heavy_posterior_is_named_and_its_priors_are_said(heavy) -> None:
    model, frame, est = heavy
    posterior = est.to_arviz()["posterior"]
    assert posterior["shock_scale"].dims == ("chain", "draw", "cluster")
    assert list(posterior["cluster"].values) == sorted(f"A{i}" for i in range(16))
    assert posterior["local_scale"].shape[:2] == (2, 100)
    assert (posterior["degrees"].values > 2).all()
    assert "Gamma(2, rate 0.1)" in est.meta["prior"]["degrees"]
    assert "slab of 3%" in est.meta["prior"]["local"]
    # no other prior is reported as if the exact engine could take this model
    other = est.meta["prior_sensitivity"][-1]
    assert other["prior"] == "flat"
    assert other["method"].startswith("failed")
    own = model.organizations(est, panel(frame), DESIGN, size=200)
    assert len(own) == 8


def test_horseshoe_prior_is_half_cauchy_up_to_its_slab() -> None:
    moments = vbc.Moments.from_panel(panel(rows()), outcomes=["spend"])
    parts = structure(from_moments(moments, DESIGN, person_sd=10_000.0))
    own = subgroup_coefficients(parts)
    assert {parts.names[parts.part[k]] for k in own} == {"cohort", "stratum", "interaction"}
    rng, shape = np.random.default_rng(5), (4_000, len(parts.part))
    local = horseshoe_draws(parts, np.full(shape, 1e-3), rng)
    assert np.all(np.delete(local, own, axis=1) == 1.0)
    for share in (0.1, 0.5, 0.9):
        # where the part is small the slab is far away
        error = 4 * np.sqrt(share * (1 - share) / len(local))
        below = (local[:, own] < stats.halfcauchy.ppf(share)).mean(axis=0)
        assert np.abs(below - share).max() < error
    wide = np.full(shape, 5.0)
    assert (wide * horseshoe_draws(parts, wide, rng))[:, own].max() <= SLAB
    effects = prior_effects(parts, Priors(), rng, 2_000, horseshoe=True)
    assert effects.std(axis=0).max() < np.sqrt(3.0**2 + 3 * SLAB**2 + 3.0)


def test_options_that_would_change_nothing_are_refused() -> None:
    with pytest.raises(DesignError, match=r"tails='student' has no closed form.*engine='nuts'"):
        HierarchicalDiD(tails="student")
    with pytest.raises(DesignError, match="pooling='horseshoe' has no closed form"):
        HierarchicalDiD(pooling="horseshoe")
    with pytest.raises(DesignError, match="shocks='none' leaves them out"):
        HierarchicalDiD(shock_scale="stratum", shocks="none")
    with pytest.raises(DesignError, match="belongs to family='gaussian'"):
        HierarchicalDiD(tails="student", family="poisson", engine="nuts")
    with pytest.raises(DesignError, match="`tails` is 'cauchy'; use 'normal' or 'student'"):
        HierarchicalDiD(tails="cauchy")
    one = panel(rows(strata=1))
    with pytest.raises(DesignError, match="needs strata, and the cells have one"):
        HierarchicalDiD(person_sd=10_000.0, shock_scale="stratum").fit(one, DESIGN)
    frame = rows(strata=1).assign(entry=lambda f: f["entry"].where(f["entry"].isna(), 2016.0))
    with pytest.raises(DesignError, match="several cohorts or strata"):
        HierarchicalDiD(person_sd=10_000.0, pooling="horseshoe", engine="nuts").fit(
            panel(frame), DESIGN
        )
