"""How estimates of each kind become coefficients relative to one period."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.sensitivity import from_numbers
from vbceval.sensitivity.event_path import event_path

DESIGN = vbc.Design(outcome="y", comparison="never_treated")
UNIVERSAL = vbc.Design(outcome="y", comparison="never_treated", base_period="universal")


def panel(cohorts: tuple[float, ...], seed: int = 1, units: int = 60) -> vbc.Panel:
    rng = generator(seed, "event path")
    c, t = np.repeat(np.arange(units), 8), np.tile(np.arange(2010, 2018), units)
    g = np.array([*cohorts, np.nan])[c % (len(cohorts) + 1)]
    y = (
        rng.normal(size=units)[c]
        + 0.2 * (t - 2010) * (np.nan_to_num(g) > 0)
        + rng.normal(size=len(c))
    )
    frame = pd.DataFrame({"c": c, "t": t, "g": g, "y": y + 2.0 * (t >= np.nan_to_num(g, nan=9e9))})
    return vbc.Panel.from_frame(frame, unit="c", period="t", cohort="g")


ONE, TWO = panel((2014.0,)), panel((2013.0, 2015.0))


def same(a, b, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(a.event_time, b.event_time)
    np.testing.assert_allclose(a.estimate, b.estimate, atol=atol)
    assert (a.n_pre, a.reference) == (b.n_pre, b.reference)


def test_one_cohort_is_the_same_by_every_estimator() -> None:
    study = event_path(vbc.did.EventStudy().fit(ONE, vbc.Design(outcome="y")))
    assert (study.n_pre, study.n_post, study.reference) == (3, 4, -1)
    for est in (
        vbc.did.GroupTime(method="reg").fit(ONE, UNIVERSAL),
        vbc.did.SunAbraham().fit(ONE, vbc.Design(outcome="y")),
        vbc.did.ETWFE().fit(ONE, DESIGN),
        vbc.did.EventStudy(reference=-3).fit(ONE, vbc.Design(outcome="y")),
    ):
        same(event_path(est), study)
    rebased = event_path(vbc.did.EventStudy(reference=-3).fit(ONE, vbc.Design(outcome="y")))
    np.testing.assert_allclose(rebased.vcov, study.vcov, rtol=1e-6, atol=1e-12)
    assert "relative to event time -1" in rebased.notes[0]


def test_imputation_with_leads_in_its_anticipation() -> None:
    """Leads and effects have one base, the earlier periods, which drops out of differences."""
    design = vbc.Design(outcome="y", anticipation=3)
    est = vbc.did.Imputation().fit(ONE, design)
    path = event_path(est, anticipation=0)
    study = event_path(vbc.did.EventStudy().fit(ONE, vbc.Design(outcome="y")))
    kept = study.event_time >= -3
    np.testing.assert_allclose(path.event_time, study.event_time[kept])
    np.testing.assert_allclose(path.estimate, study.estimate[kept], atol=1e-9)
    with pytest.raises(vbc.DesignError, match="no period before entry"):
        event_path(est)


def test_separate_leads_are_refused() -> None:
    leads = vbc.did.Imputation().pretrend(ONE, vbc.Design(outcome="y"), leads=2)
    effects = vbc.did.Imputation().fit(ONE, vbc.Design(outcome="y")).aggregate("event_time")
    with pytest.raises(vbc.DesignError, match="relative to other periods than the effects"):
        event_path(vbc.stack([leads, effects]))


def test_leads_of_a_varying_base_add_up() -> None:
    for data in (ONE, TWO):
        varying = vbc.did.GroupTime(method="reg").fit(data, DESIGN)
        universal = vbc.did.GroupTime(method="reg").fit(data, UNIVERSAL)
        with pytest.raises(vbc.DesignError, match="Refit with base_period='universal'"):
            event_path(varying)
        added, direct = event_path(varying, varying="cumulate"), event_path(universal)
        same(added, direct)
        np.testing.assert_allclose(added.vcov, direct.vcov, rtol=1e-8, atol=1e-12)
        assert "added up within cohorts" in added.notes[0]
    with pytest.raises(vbc.DesignError, match="within cohorts only"):
        event_path(varying.aggregate("event_time"), varying="cumulate")


def test_anticipation_moves_the_reference() -> None:
    design = vbc.Design(outcome="y", comparison="never_treated", base_period="universal",
                        anticipation=1)  # fmt: skip
    path = event_path(vbc.did.GroupTime(method="reg").fit(TWO, design).aggregate("event_time"))
    assert path.reference == -2
    assert path.event_time[path.n_pre] == -1
    out = vbc.sensitivity.honest(
        vbc.did.GroupTime(method="reg").fit(TWO, design), m=[1], breakdown=False
    )
    assert out.target == "effect at event time 0"


def test_order_and_labels_do_not_matter() -> None:
    est = vbc.did.GroupTime(method="reg").fit(TWO, UNIVERSAL).aggregate("event_time")
    rows = generator(1, "order").permutation(len(est))
    same(event_path(est.where(rows)), event_path(est))
    again = vbc.did.GroupTime(method="reg").fit(
        vbc.Panel.from_frame(
            TWO.frame.assign(c=1000 - TWO.frame["c"]).sample(frac=1, random_state=1)[
                ["c", "t", "g", "y"]
            ],
            unit="c", period="t", cohort="g",
        ),
        UNIVERSAL,
    )  # fmt: skip
    same(event_path(again), event_path(est))


def test_from_numbers() -> None:
    v = np.diag([1.0, 4.0, 9.0])
    by_count = from_numbers([1.0, 2.0, 3.0], v, pre=2)
    by_year = from_numbers([3.0, 1.0, 2.0], np.diag([9.0, 1.0, 4.0]),
                           event_time=[2009, 2006, 2007], reference=2008)  # fmt: skip
    same(event_path(by_count), event_path(by_year))
    np.testing.assert_allclose(event_path(by_count).vcov, event_path(by_year).vcov)
    assert event_path(by_count).event_time.tolist() == [-3, -2, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either `pre`"),
        ({"pre": 1, "post": 3}, "do not add up"),
        ({"event_time": [-2, -1, 0]}, "leave the reference"),
        ({"event_time": [-2, -2, 0]}, "each coefficient once"),
    ],
)
def test_from_numbers_refuses(options: dict, said: str) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        from_numbers([1.0, 2.0, 3.0], np.eye(3), **options)
    with pytest.raises(vbc.DesignError, match=r"`vcov` \(2, 2\)"):
        from_numbers([1.0, 2.0, 3.0], np.eye(2), pre=2)


def test_coefficients_without_a_value_say_nothing_of_trends() -> None:
    """They made every set empty, as if trends violated the restriction, and the breakdown infinite."""
    for bad in (np.nan, np.inf):
        with pytest.raises(vbc.DesignError, match="missing or infinite"):
            from_numbers([bad, 1.0, 2.0], np.eye(3), pre=2)
        frame = table([-3.0, -2.0, 0.0], [bad, 1.0, 2.0])
        with pytest.raises(vbc.EstimationError, match="event times -3 have no value"):
            vbc.sensitivity.honest(frame)


def table(times: list[float], estimates: list[float] | None = None) -> vbc.Estimates:
    k = len(times)
    frame = pd.DataFrame({
        "estimand": "att_event_time", "outcome": "y", "event_time": times,
        "estimate": np.arange(1.0, k + 1) if estimates is None else estimates,
    })  # fmt: skip
    return vbc.Estimates(frame=frame, covariance=np.eye(k))


def test_a_table_without_its_reference() -> None:
    path = event_path(table([-4, -3, -2, 0, 1]))
    assert (path.n_pre, path.reference) == (3, -1)
    with pytest.raises(vbc.DesignError, match="no coefficient is the reference"):
        event_path(table([-3, -2, -1, 0, 1]))


@pytest.mark.parametrize(
    ("est", "error", "said"),
    [
        (table([0, 1, 2]), vbc.DesignError, "no period before entry"),
        (table([-4, -3, -2]), vbc.DesignError, "no effect at or after"),
        (table([-5, -4, -2, 0, 1]), vbc.DesignError, "have gaps"),
        (table([-2, -2, 0]), vbc.DesignError, "share an event time"),
    ],
)
def test_paths_that_cannot_be_read(est: vbc.Estimates, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        event_path(est)


def test_several_outcomes_and_too_few_clusters() -> None:
    frame = table([-3, -2, 0, -3, -2, 0]).frame.assign(run=["a"] * 3 + ["b"] * 3)
    two = vbc.Estimates(frame=frame, covariance=np.eye(6))
    with pytest.raises(vbc.DesignError, match="several values of run"):
        event_path(two)
    frame = table([-4, -3, -2, 0, 1]).frame
    few = vbc.Estimates(
        frame=frame, psi=generator(1, "few").normal(size=(4, 5)), clusters=pd.RangeIndex(4)
    )
    with pytest.raises(vbc.EstimationError, match="rank 4"):
        event_path(few)
