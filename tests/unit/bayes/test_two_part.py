"""Two parts: whether there is any spending, and how much if any; composed, planted, refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import Limits, TwoPartDiD, headline, two_part_columns
from vbceval.bayes.averages import PERCENT
from vbceval.bayes.cells import from_moments
from vbceval.bayes.two_part import Changes
from vbceval.core.errors import DataError, DesignError

DESIGN = vbc.Design(outcome="spend", unit_of_measure="USD per person-year")


def persons(seed: int = 7, n: int = 10) -> pd.DataFrame:
    """Organizations of 300 persons a year; 14 percent fewer odds of any, 20 percent less if any."""
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        entry = 2016.0 if i % 2 else np.nan
        level = 0.1 * rng.normal(size=2)
        for year in (2014, 2015, 2016):
            on, size = year >= entry, 300 + 5 * i
            some = rng.random(size) < 1 / (1 + np.exp(-(0.8 + level[0] - 0.15 * on)))
            log = 8.0 + level[1] + np.log(0.8) * on + 0.6 * rng.normal(size=size)
            spend = some * np.exp(log)
            out.append(pd.DataFrame({"aco": f"A{i}", "year": year, "entry": entry, "spend": spend}))
    frame = pd.concat(out, ignore_index=True)
    return frame.assign(person=np.arange(len(frame)), **two_part_columns(frame, "spend"))


def panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="person", period="year", cohort="entry", cluster="aco",
        kind="repeated_cross_section",
    )  # fmt: skip


def test_parts_are_those_of_the_means_they_come_from() -> None:
    rng = np.random.default_rng(0)
    p0, m0 = 0.7, 900.0
    p1, m1 = rng.uniform(0.4, 0.9, (50, 3)), rng.uniform(500, 1500, (50, 3))
    found = Changes(100 * (p1 / p0 - 1), 100 * (m1 / m0 - 1)).parts
    percent = 100 / (p0 * m0)
    assert found["total"] == pytest.approx(percent * (p1 * m1 - p0 * m0), rel=1e-10)
    # Shapley: the mean over both orders
    assert found["extensive"] == pytest.approx(percent * (p1 - p0) * (m1 + m0) / 2, rel=1e-10)
    assert found["intensive"] == pytest.approx(percent * (m1 - m0) * (p1 + p0) / 2, rel=1e-10)


@pytest.fixture(scope="module")
def fitted():
    frame = persons()
    model = TwoPartDiD(
        any="any", positive="log_if_any", amount_prior="flat", any_prior="flat", shocks="iid",
        organization_effects=False, draws=200, chains=2, alternatives=("default",),
    )  # fmt: skip
    return frame, model.fit(panel(frame), DESIGN, limits=Limits(ess=100.0))


def test_planted_parts_are_found_and_add_up(fitted) -> None:
    frame, est = fitted
    overall = est.where(estimand="att_overall", unit_of_measure=PERCENT)
    by_part = dict(zip(overall.frame["part"], overall.draws().T, strict=True))
    assert set(by_part) == {"total", "extensive", "intensive", "any", "if_any"}
    assert by_part["total"] == pytest.approx(by_part["extensive"] + by_part["intensive"])
    p0, p1 = (1 / (1 + np.exp(-x)) for x in (0.8, 0.65))
    truth = {"any": 100 * (p1 / p0 - 1), "if_any": -20.0, "total": 100 * (0.8 * p1 / p0 - 1)}
    for part, value in truth.items():
        sd = by_part[part].std()
        assert abs(by_part[part].mean() - value) < 4 * sd, part
        assert sd < 4.0
    dollars = est.where(estimand="att_overall", part="total").frame
    before = frame[frame["entry"].notna() & (frame["year"] == 2015)]["spend"].mean()
    assert dollars["baseline"].iloc[0] == pytest.approx(before)
    assert dollars["estimate"].iloc[0] == pytest.approx(
        before / 100 * dollars["estimate"].iloc[1], rel=1e-9
    )


def test_each_part_is_said_in_full(fitted) -> None:
    _, est = fitted
    assert "log odds" in str(est.meta["prior"]["any"]["effect"])
    assert est.meta["prior"]["if_any"]["effect"].startswith("Normal(0, 0.2 log points")
    assert est.meta["parts"]["if_any"]["integration"]["k_hat"] < 0.7
    lines = est.meta["parts"]["any"]["prior_sensitivity"]
    assert {"flat", "default"} == {line["prior"] for line in lines}
    tree = est.to_arviz()["posterior"]
    assert tree["total"].shape == (2, 200, 1)


def test_spending_as_a_whole_is_reported_under_other_priors(fitted) -> None:
    _, est = fitted
    lines = [
        x for x in est.meta["prior_sensitivity"] if x["unit_of_measure"] == "percent of baseline"
    ]
    assert [x["prior"] for x in lines] == ["flat", "default"]
    flat, default = lines
    own = est.where(estimand="att_overall", part="total", unit_of_measure=PERCENT)
    assert flat["estimate"] == pytest.approx(own.estimate[0])
    assert (flat["method"], default["method"]) == ("as fitted", "integrated again")
    # the narrower prior, whose effect is drawn beside the posterior, draws towards zero
    assert default["prior_sd_percent"] < 0.3 * flat["prior_sd_percent"]
    assert flat["estimate"] < default["estimate"] < 0.0
    assert default["std_error"] < flat["std_error"]
    words = headline(est)
    assert "flat prior of mean" in words
    assert "integrated again" in words


def test_likelihood_of_an_organization_is_that_of_both_parts(fitted) -> None:
    frame, est = fitted
    tree = est.to_arviz()
    parts = TwoPartDiD(
        any="any", positive="log_if_any", amount_prior="flat", any_prior="flat", shocks="iid",
        organization_effects=False, draws=200, chains=2, alternatives=(),
    )._models()  # fmt: skip
    data = vbc.Moments.from_panel(panel(frame), outcomes=["any"], by="cluster")
    one = parts[0].fit(data, vbc.Design(outcome="any"), limits=Limits(ess=100.0)).to_arviz()
    rest = tree["log_likelihood"]["cells"] - one["log_likelihood"]["cells"]
    # what is left is the law of means of logs: of n_c cells, with an intercept projected out
    positive = frame[frame["any"] == 1].groupby(["aco", "year"])["log_if_any"]
    size = 10_000 * positive.var().mean() / positive.size().groupby("aco").mean()
    expected = -2 * 0.5 * np.log(2 * np.pi * size)
    assert rest.mean(("chain", "draw")).values == pytest.approx(expected.to_numpy(), abs=3.0)


def test_columns_that_do_not_fit_are_named() -> None:
    frame = persons(n=6)
    data = panel(frame)
    with pytest.raises(DataError, match="is known in other rows than those where `any` is 1"):
        TwoPartDiD(any="any", positive="spend").fit(data, DESIGN)
    with pytest.raises(DataError, match="does not add up to `spend`"):
        TwoPartDiD(any="any", positive="log_if_any", amount="mean").fit(data, DESIGN)
    with pytest.raises(DataError, match="no mean of logarithms is"):
        TwoPartDiD(any="any", positive="if_any").fit(data, DESIGN)
    with pytest.raises(DataError, match="one part only"):
        TwoPartDiD(any="one", positive="if_any", amount="mean").fit(
            panel(frame[frame["any"] == 1].assign(one=1.0)), DESIGN
        )
    lost = (frame["spend"] == 0) & (frame["person"] % 2 == 0)
    some = panel(frame.assign(some=frame["any"].mask(lost)))
    with pytest.raises(DataError, match="`some` is known in other rows than `spend`"):
        TwoPartDiD(any="some", positive="log_if_any").fit(some, DESIGN)
    same = frame.assign(spend=100.0 * frame["any"], log_if_any=np.log(100.0 / frame["any"]))
    with pytest.raises(DataError, match="the same for all persons with spending"):
        TwoPartDiD(any="any", positive="log_if_any").fit(
            panel(same.replace({"log_if_any": {np.inf: np.nan}})), DESIGN
        )
    weighted = replace(data, frame=frame.assign(w=2.0), weight="w")
    with pytest.raises(DataError, match="a weighted person would count as several"):
        TwoPartDiD(any="any", positive="log_if_any").fit(weighted, DESIGN)
    with pytest.raises(DesignError, match="`amount` is 'gamma'"):
        TwoPartDiD(any="any", positive="if_any", amount="gamma")
    with pytest.raises(DataError, match="`spend` is negative"):
        two_part_columns(pd.DataFrame({"spend": [-1.0, 2.0]}), "spend")


def test_treated_with_other_levels_of_spending_have_a_baseline() -> None:
    """A seventh of the others' spending is no baseline in another unit."""
    frame = persons(n=6)
    low = frame["spend"] / np.where(frame["entry"].notna(), 7.0, 1.0)
    frame = frame.assign(spend=low, **two_part_columns(frame.assign(spend=low), "spend"))
    seen = {}

    def fit(positive: vbc.Moments, design: vbc.Design, *, baseline: float, limits: object) -> None:
        seen["cells"] = from_moments(positive, design, baseline=baseline)

    model = TwoPartDiD(any="any", positive="log_if_any")
    positive = vbc.Moments.from_panel(panel(frame), outcomes=["log_if_any"], by="cluster")
    model._amounts(SimpleNamespace(fit=fit), positive, DESIGN, None)
    assert seen["cells"].baseline.tolist() == [1.0]
    # percent of that baseline are hundredths of a logarithm
    log = frame.groupby(["aco", "year"])["log_if_any"].mean()
    y = pd.Series(seen["cells"].y).sort_values().to_numpy()
    assert np.diff(y) == pytest.approx(100 * np.diff(np.sort(log.to_numpy())))
