"""Few treated clusters: against the formulas of the papers on rows, and what must not matter."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DesignError, EstimationError
from vbceval.inference import SSC, FewTreated
from vbceval.inference.few_treated import rescaled

SPEND = vbc.Design(outcome="spend")
METHODS: tuple[Literal["conley-taber", "ferman-pinto"], ...] = ("conley-taber", "ferman-pinto")


def frame(seed: int, treated: int, *, untreated: int = 24, periods: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = treated + untreated
    rows = pd.DataFrame({
        "aco": np.repeat(np.arange(n), periods), "year": np.tile(np.arange(periods), n),
        "entry": np.repeat(np.where(np.arange(n) < treated, 3.0, np.nan), periods),
    })  # fmt: skip
    rows["people"] = rng.uniform(0.2, 4.0, n)[rows["aco"]]
    rows["spend"] = rng.normal(size=len(rows)) / np.sqrt(rows["people"]) + rows["aco"]
    return rows


def panel(rows: pd.DataFrame, **options: Any) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", **options)


def dummies(rows: pd.DataFrame) -> np.ndarray:
    """Treatment, unit and period dummies of rows."""
    return np.column_stack([
        (rows["year"] >= rows["entry"]).to_numpy(dtype=float),
        pd.get_dummies(rows["aco"]).to_numpy(dtype=float),
        pd.get_dummies(rows["year"]).to_numpy(dtype=float)[:, 1:],
    ])  # fmt: skip


@pytest.mark.parametrize("treated", [1, 2])
def test_conley_taber_is_the_formula_of_the_paper(treated: int) -> None:
    rows = frame(1, treated)
    x, y = dummies(rows), rows["spend"].to_numpy()
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = (y - x @ beta).reshape(-1, 5)
    d = np.array([0, 0, 0, 1, 1]) - 0.4
    errors = np.array([
        sum(d @ residual[c] for c in chosen) / (treated * d @ d)
        for chosen in product(range(treated, len(residual)), repeat=treated)
    ])  # fmt: skip
    both = {
        tails: vbc.did.TWFE().fit(
            panel(rows), SPEND, vcov=FewTreated(method="conley-taber", tails=tails)
        )
        for tails in ("equal", "symmetric")
    }
    est = both["symmetric"]
    assert est.meta["few_treated"]["enumerated"]
    np.testing.assert_allclose(
        np.sort(est.estimate[0] - est.draws()[:, 0]), np.sort(errors), atol=1e-12
    )
    row = est.tidy().iloc[0]
    assert row["estimate"] == pytest.approx(beta[0])
    reached = (np.abs(errors) >= abs(beta[0])).sum()
    assert row["p_value"] == pytest.approx((1 + reached) / (1 + len(errors)))
    joint = est.wald()
    assert joint.method == "draws"
    assert joint.p_value == pytest.approx(row["p_value"])
    half = np.sort(np.abs(errors))[int(np.ceil(0.95 * (len(errors) + 1))) - 1]
    assert row["conf_high"] == row["band_high"] == pytest.approx(beta[0] + half)
    ends = beta[0] - np.quantile(errors, [0.975, 0.025])
    equal = both["equal"].tidy()[["conf_low", "conf_high"]].to_numpy()[0]
    np.testing.assert_allclose(equal, ends, atol=1e-12)


def test_ferman_pinto_is_the_formula_of_the_paper() -> None:
    rows = frame(12, 2, untreated=60)
    root = np.sqrt(rows["people"].to_numpy())
    x = dummies(rows) * root[:, None]
    # what multiplies each outcome in the coefficient: the regression solved for every unit vector
    v = (np.linalg.pinv(x)[0] * root).reshape(-1, 5)
    y = rows["spend"].to_numpy()
    fitted = dummies(rows) @ (np.linalg.pinv(x) @ (root * y))
    residual, people = (y - fitted).reshape(-1, 5), rows["people"].to_numpy()[::5]
    variance = 0.0
    for j in (0, 1):
        w, z = residual[2:] @ v[j], (v[j] @ v[j]) / people[2:]
        both = np.linalg.lstsq(np.column_stack([np.ones(60), z]), w**2, rcond=None)[0]
        alone = [((w**2).mean(), 0.0), (0.0, (z @ w**2) / (z @ z))]
        cost = [((w**2 - a - b * z) ** 2).sum() for a, b in alone]
        a, b = both if (both >= 0).all() else alone[int(np.argmin(cost))]
        assert b > 0
        scaled = w * np.sqrt((a + b * (v[j] @ v[j]) / people[j]) / (a + b * z))
        variance += scaled.var()
    own = (residual[2:] * v[2:]).sum(axis=1)
    law = FewTreated(draws=20_000)
    est = vbc.did.TWFE().fit(panel(rows, weight="people"), SPEND, vcov=law)
    assert est.estimate[0] == pytest.approx(v.ravel() @ y)
    # the standard deviation of 20,000 draws has a standard error of half a percent
    assert est.std_error[0] == pytest.approx(np.sqrt(variance + own @ own), rel=0.02)
    plain = vbc.did.TWFE().fit(
        panel(rows, weight="people"), SPEND, vcov=FewTreated(draws=20_000, size="rows")
    )
    assert abs(plain.std_error[0] / est.std_error[0] - 1) > 0.02  # one row each: no correction


def test_noise_is_rescaled_by_its_variance() -> None:
    behind = np.linspace(0.1, 2.0, 30)
    noise = np.sqrt(0.5 + 3.0 * behind) * np.where(np.arange(30) % 2, 1, -1)
    expected = np.sqrt((0.5 + 3.0 * 1.4) / (0.5 + 3.0 * behind))
    np.testing.assert_allclose(rescaled(noise, behind, 1.4), expected, rtol=1e-10)
    # clusters of one size cannot tell, and no noise is no noise
    assert (rescaled(noise, np.full(30, 0.3), 1.4) == 1).all()
    assert (rescaled(0 * noise, behind, 1.4) == 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_matter(method: Literal["conley-taber", "ferman-pinto"]) -> None:
    rows = frame(3, 3).assign(entry=lambda t: t["entry"].where(t["aco"] != 1, 2.0))
    fit = vbc.did.SunAbraham()
    law = FewTreated(method=method, draws=500)
    first = fit.fit(panel(rows, weight="people"), SPEND, vcov=law)
    moved = rows.sample(frac=1, random_state=1)
    moved = moved.assign(spend=2 * (moved["spend"] + 7 * moved["year"] - 3 * moved["aco"]))
    second = fit.fit(panel(moved, weight="people"), SPEND, vcov=law)
    np.testing.assert_allclose(second.draws(), 2 * first.draws(), atol=1e-9)
    half = [
        rows.assign(people=rows["people"] / 2, spend=rows["spend"] + side) for side in (-0.5, 0.5)
    ]
    keys = {"unit": "aco", "period": "year", "cohort": "entry", "weight": "people"}
    split = vbc.Panel.from_frame(pd.concat(half), **keys, kind="repeated_cross_section")
    people = vbc.Moments.from_panel(split, outcomes=["spend"], by="cluster")
    assert len(people) == len(rows)
    for data in (split, people):
        same = fit.fit(data, SPEND, vcov=law)
        np.testing.assert_allclose(same.draws(), first.draws(), atol=1e-9)
    assert same.meta["few_treated"] == first.meta["few_treated"]


def test_draws_are_joint_over_rows_outcomes_and_strata() -> None:
    rows = pd.concat([frame(4, 2).assign(dual=d) for d in ("no", "yes")])
    rows["spend"] += np.random.default_rng(5).normal(size=len(rows))
    rows["double"] = 2 * rows["spend"]
    data = panel(rows, strata=["dual"])
    law = FewTreated(draws=400)
    est = vbc.did.EventStudy().fit(data, SPEND, vcov=law, outcomes=["spend", "double"])
    one, two = (est.where(outcome=y) for y in ("spend", "double"))
    np.testing.assert_allclose(two.draws(), 2 * one.draws(), atol=1e-12)
    overall = one.where(estimand="att_overall")
    parts = [overall.by("dual").draws()[:, i] for i in (0, 1)]
    gap = overall.by("dual").contrast([[1.0, -1.0]])
    np.testing.assert_allclose(gap.draws()[:, 0], parts[0] - parts[1])
    # equal strata: all together is their mean, also draw by draw
    np.testing.assert_allclose(overall.where(stratum=None).draws()[:, 0], np.mean(parts, axis=0))
    table = one.where(stratum=None, estimand="att_event_time").tidy()
    live = table["std_error"].notna()
    assert (table["band_low"] <= table["conf_low"])[live].all()
    assert table.loc[~live, "p_value"].isna().all()
    static = vbc.did.TripleDifference(by="dual", effect="static").fit(data, SPEND, vcov=law)
    assert np.isfinite(static.tidy()["p_value"]).all()


def test_group_time_effects_average_draw_by_draw() -> None:
    rows = frame(6, 1)
    law = FewTreated(draws=300)
    simple = vbc.did.SunAbraham().fit(panel(rows), SPEND, vcov=law).aggregate("simple")
    study = vbc.did.EventStudy().fit(panel(rows), SPEND, vcov=law).where(estimand="att_overall")
    np.testing.assert_allclose(simple.draws(), study.draws(), atol=1e-12)
    pd.testing.assert_series_equal(
        simple.tidy()["p_value"], study.tidy()["p_value"], check_index=False
    )


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_holds_what_is_not_rejected(level: float) -> None:
    rows = frame(7, 1, untreated=39)
    on = (rows["year"] >= rows["entry"]).to_numpy()

    def tested(effect: float) -> pd.Series:
        table = rows.assign(spend=rows["spend"] - effect * on)
        return vbc.did.TWFE().fit(panel(table), SPEND, vcov="conley-taber").tidy(level).iloc[0]

    row = tested(0.0)
    for end, outward in (("conf_low", -1), ("conf_high", 1)):
        assert tested(row[end] + outward * 1e-6)["p_value"] <= 1 - level + 1e-12
        assert tested(row[end] - outward * 1e-6)["p_value"] > 1 - level
    # 39 clusters cannot say what happens one time in a hundred
    wide = vbc.did.TWFE().fit(panel(rows), SPEND, vcov="conley-taber").tidy(0.99).iloc[0]
    assert (wide["conf_low"], wide["conf_high"]) == (-np.inf, np.inf)


def test_stacks_and_gaps() -> None:
    """A cluster that is not seen where a treated one counts does not stand in for it."""
    rows = frame(8, 2, untreated=25)
    rows["entry"] = rows["entry"].where(rows["aco"] != 1, 2.0)
    gap = rows[~((rows["aco"] == 9) & (rows["year"] == 3))]
    est = vbc.did.Stacked().fit(panel(gap), vbc.Design(outcome="spend", window=(-2, 1)),
                                vcov="ferman-pinto")  # fmt: skip
    assert est.meta["few_treated"]["untreated_clusters"] == 24
    assert np.isfinite(est.where(estimand="att_overall").tidy()["conf_low"]).all()


def test_refusals() -> None:
    data = panel(frame(9, 2, untreated=19))
    with pytest.raises(EstimationError, match=r"19 are seen .* at least 20"):
        vbc.did.TWFE().fit(data, SPEND, vcov="conley-taber")
    data = panel(frame(9, 2))
    for one in (vbc.did.GroupTime(), vbc.did.Imputation(), vbc.did.GLMDiD(), vbc.did.Efficient()):
        with pytest.raises(EstimationError, match="Use TWFE or EventStudy"):
            one.fit(data, SPEND, vcov="ferman-pinto")
    with pytest.raises(EstimationError, match="small-sample factor"):
        vbc.did.TWFE().fit(data, SPEND, vcov="ferman-pinto", ssc=SSC.fixest())
    with pytest.raises(EstimationError, match="weights_random=False"):
        vbc.did.Stacked(weights_random=True).fit(data, SPEND, vcov="conley-taber")
    est = vbc.did.TWFE().fit(data, SPEND, vcov="ferman-pinto")
    with pytest.raises(EstimationError, match="influence"):
        vbc.stack([est, est])
    with pytest.raises(DesignError, match="at least 99"):
        FewTreated(draws=5)
    with pytest.raises(DesignError, match="whatever their size"):
        FewTreated(method="conley-taber", size="rows")
