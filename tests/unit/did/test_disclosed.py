"""What shown counts tell of groups that are not shown, by subtraction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

COUNTS = ["n_units", "n_treated", "n_comparison", "n_clusters"]
ESTIMATORS = {
    "GroupTime": vbc.did.GroupTime(),
    "cross-section formulas": vbc.did.GroupTime(unbalanced="rc"),
    "Imputation": vbc.did.Imputation(),
    "TwoStage": vbc.did.TwoStage(),
    "Switching": vbc.did.Switching(effects=4),
    "EventStudy": vbc.did.EventStudy(),
    "ETWFE": vbc.did.ETWFE(),
    "SunAbraham": vbc.did.SunAbraham(),
    "Stacked": vbc.did.Stacked(),
    "Dose": vbc.did.Dose(dose="dose", basis="bins", bins=2, aggregation="group_time"),
    "ChangesInChanges": vbc.did.ChangesInChanges(quantiles=(), most_outside=1.0),
}


def draw(few: int, *, also: int = 0, cluster: int = 1) -> pd.DataFrame:
    """Draw people who enter in 2013, 2014 (`few` of stratum p, `also` of q), 2015, or never."""
    sizes = {2013.0: (20, 40), 2014.0: (few, also), 2015.0: (60, 80), np.nan: (120, 140)}
    people = [
        (g, s) for g, n in sizes.items() for s, k in zip("pq", n, strict=True) for _ in range(k)
    ]
    u = np.repeat(np.arange(len(people)), 6)
    frame = pd.DataFrame(people, columns=["cohort", "s"]).iloc[u].reset_index(drop=True)
    frame["unit"], frame["period"] = u, np.tile(np.arange(2011.0, 2017.0), len(people))
    frame["org"] = u // cluster
    frame["dose"] = 1.0 + u % 7
    return frame.assign(y=np.random.default_rng(5).standard_normal(len(u)))


def told(table: pd.DataFrame, columns: list[str]) -> set[float]:
    """Return what single counts and differences of two counts tell, below 11."""
    shown = table[columns].to_numpy(dtype=float).ravel()
    shown = np.unique(np.append(shown[np.isfinite(shown)], 0.0))
    gaps = np.abs(shown[:, None] - shown).ravel()
    return set(gaps[(gaps > 0) & (gaps < 11)])


def fit(name: str, frame: pd.DataFrame, **panel: object) -> vbc.Estimates:
    keys = {"unit": "unit", "period": "period", "cohort": "cohort", "people": True}
    return ESTIMATORS[name].fit(
        vbc.Panel.from_frame(frame, **{**keys, **panel}), vbc.Design(outcome="y")
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_small_cohort_is_not_told_by_differences(name: str) -> None:
    """It is a comparison in some periods and not in others."""
    found = fit(name, draw(5))
    assert not told(found.frame, COUNTS)
    if name not in ("Switching", "Dose"):
        averages = found.aggregate("event_time").frame
        assert not told(averages, [c for c in COUNTS if c in averages])
    # organizations may be counted
    of_orgs = fit(name, draw(6, cluster=2), cluster="org").frame
    assert not told(of_orgs, COUNTS[:3])
    assert of_orgs["n_clusters"].notna().all()
    assert fit(name, draw(40)).frame[COUNTS].notna().all().all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_small_cohort_of_one_stratum_is_not_told_by_the_others(name: str) -> None:
    table = fit(name, draw(5, also=100), strata=["s"]).frame
    assert not told(table, COUNTS)
    inside = table[table["stratum"].notna()]
    whole = table[table["stratum"].isna()]
    # every row of a stack holds every cohort, so that none is told
    assert inside[["n_units", "n_comparison"]].isna().all().all() or name == "Stacked"
    assert whole[COUNTS].notna().all().all()


def test_a_small_cohort_is_not_told_by_its_leads() -> None:
    design, keys = vbc.Design(outcome="y"), {"unit": "unit", "period": "period", "cohort": "cohort"}
    leads = [
        vbc.did.Imputation().pretrend(
            vbc.Panel.from_frame(draw(n), **keys, people=True), design, leads=2
        ).frame
        for n in (5, 40)
    ]  # fmt: skip
    names = ["n_units", "n_treated", "n_clusters"]
    assert not told(leads[0], names)
    assert leads[1][names].notna().all().all()


def test_changing_groups_do_not_tell_those_that_never_change() -> None:
    """`meta` counts all groups and those that change."""
    frame = draw(40)
    never = np.flatnonzero(frame["cohort"].isna())
    found = fit("Switching", frame.drop(never[5 * 6 :]))
    assert not told(found.frame, COUNTS)
    assert np.isnan(found.meta["changing"]["all"])
