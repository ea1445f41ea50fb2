"""Other priors beside a fit, a prior that is not centred at zero, and checks place by place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD, Priors, headline, predictive_table
from vbceval.bayes.alternatives import mixture_quantile
from vbceval.bayes.averages import PERCENT
from vbceval.core.errors import EstimationError

DESIGN = vbc.Design(outcome="spend", unit_of_measure="USD per person-year")
SD = 20_000.0
PLAIN = HierarchicalDiD(person_sd=SD, shocks="none", organization_effects=False, nodes=64)


def panel(*, shock: float = 0.0, n: int = 40, seed: int = 1) -> vbc.Panel:
    """Two strata, one cohort, four years; shocks of `shock` percent that strata have in common."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        size, entry = float(np.exp(rng.normal(9, 0.3))), (2018.0 if i % 2 else np.nan)
        together = shock * rng.standard_normal(4)
        for s in ("a", "b"):
            level = 10_000 * np.exp(rng.normal(0, 0.05))
            for t in range(2015, 2019):
                mean = level * (1 + 0.01 * together[t - 2015]) * (0.99 if t >= entry else 1.0)
                rows.append((i, s, t, entry, mean + rng.normal(0, SD / np.sqrt(size)), size))
    names = ["aco", "stratum", "year", "entry", "spend", "size"]
    return vbc.Panel.from_frame(
        pd.DataFrame(rows, columns=names), unit="aco", period="year", cohort="entry",
        weight="size", strata=["stratum"],
    )  # fmt: skip


def overall(est) -> tuple[float, float]:
    row = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    return float(row.estimate[0]), float(row.std_error[0])


@pytest.fixture(scope="module")
def data() -> vbc.Panel:
    return panel()


def test_a_prior_mean_moves_the_posterior_as_precisions_say(data) -> None:
    """Two strata whose effects are the same a priori: a normal mean given a normal estimate."""
    fits = {
        m: replace(
            PLAIN, alternatives=(), prior=Priors(effect=0.5, effect_mean=m, spread=1e-3)
        ).fit(data, DESIGN)
        for m in (-2.0, 0.0)
    }
    (shifted, _), (centred, sd) = overall(fits[-2.0]), overall(fits[0.0])
    # the prior's share of the precision
    assert centred - shifted == pytest.approx(2.0 * (sd / 0.5) ** 2, rel=0.1)
    said = fits[-2.0].meta["prior"]["effect"]
    assert said.startswith("Normal(-197.5 USD per person-year = -2% of baseline, ")
    entry = fits[-2.0].to_arviz()["prior"]["effect"].values
    assert entry.mean() == pytest.approx(-2.0, abs=0.05)
    # the replicated residuals do not know of the shift
    assert fits[-2.0].meta["posterior_predictive"]["lag_one"]["p_value"] > 0.01


def test_every_fit_says_what_other_priors_give(data) -> None:
    est = PLAIN.fit(data, DESIGN)
    lines = pd.DataFrame(est.meta["prior_sensitivity"])
    percent = lines[lines["unit_of_measure"] == PERCENT].set_index("prior")
    assert percent.index.tolist() == ["default", "skeptical", "flat"]
    assert percent.loc["default", ["estimate", "std_error"]].tolist() == (
        pytest.approx(overall(est), rel=0.02)
    )
    for name in ("skeptical", "flat"):
        again = replace(PLAIN, prior=name, alternatives=()).fit(data, DESIGN)
        mean, sd = overall(again)
        assert percent.loc[name, "estimate"] == pytest.approx(mean, abs=0.15 * sd), name
        assert percent.loc[name, "std_error"] == pytest.approx(sd, rel=0.15), name
    words = headline(est).splitlines()
    assert len(words) == 4
    assert words[-1].startswith("Power scaling: prior ")


def test_mixture_quantiles_invert_the_mixture() -> None:
    rng = np.random.default_rng(3)
    w, m, s = rng.dirichlet(np.ones(7)), rng.normal(size=(7, 2)), rng.uniform(0.2, 2.0, (7, 2))
    drawn = rng.choice(7, 200_000, p=w)
    draws = m[drawn] + s[drawn] * rng.standard_normal((200_000, 2))
    assert mixture_quantile(w, m, s, 0.1) == pytest.approx(
        np.quantile(draws, 0.1, axis=0), abs=0.02
    )


def test_shocks_that_the_model_leaves_out_are_seen_place_by_place() -> None:
    """Common shocks of half the noise: strata move together, which the model does not expect."""
    fine = predictive_table(PLAIN.fit(panel(n=60, seed=4), DESIGN))
    est = PLAIN.fit(panel(shock=2.0, n=60, seed=4), DESIGN)
    table = predictive_table(est)
    columns = ["statistic", "stratum", "period"]
    assert len(table[columns].drop_duplicates()) == len(table) == 2 * 4 + 2 * 2 * 4
    icc = table[table["statistic"] == "icc"]
    assert icc["misfit"].all()
    assert (icc["observed"] > icc["high"]).all()
    assert fine["misfit"].mean() < 0.1
    # cells of a stratum are those of its periods together
    variance = table[table["statistic"] == "variance"]
    whole = variance[variance["period"].isna()].set_index("stratum")["observed"]
    each = variance[variance["period"].notna()].groupby("stratum")["observed"].mean()
    assert each.to_numpy() == pytest.approx(whole[each.index].to_numpy())
    with pytest.raises(EstimationError, match="only a posterior has an ArviZ tree"):
        predictive_table(vbc.did.TWFE().fit(panel(n=12), DESIGN))
