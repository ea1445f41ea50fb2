"""What `studies/mssp-entry/README.md` says are the numbers of record, to the last printed digit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

STUDY = Path(__file__).resolve().parents[2] / "studies" / "mssp-entry"


@pytest.fixture(scope="module")
def said() -> str:
    return " ".join((STUDY / "README.md").read_text(encoding="utf-8").split())


def record(name: str, query: str) -> pd.DataFrame:
    table = pd.read_csv(STUDY / "expected" / f"{name}.csv").query(query, engine="python")
    assert len(table), f"{name} has no row where {query}"
    return table


def one(name: str, query: str) -> pd.Series:
    table = record(name, query)
    assert len(table) == 1
    return table.iloc[0]


def test_the_effect_and_its_range(said: str) -> None:
    query = "estimator == 'outcome regression' and estimand == 'att_simple' and stratum.isna()"
    row = one("effects", query)
    fall, low, high = (f"{-row[c]:.0f}" for c in ("estimate", "conf_high", "conf_low"))
    assert row["conf_high"] < 0
    assert f"entry lowered spending by ${fall} per person-year (95% CI {low} to {high})" in said
    assert f", {-row['percent']:.1f}% of the mean before entry" in said
    others = -record("sensitivity", "estimand == 'att_simple' and run != 'primary'")["estimate"]
    ends = f"${others.min():.0f} to ${others.max():.0f}"
    assert f"over the other specifications the estimate is {ends}." in said


def test_the_posterior(said: str) -> None:
    query = "estimand == 'att_overall' and unit_of_measure == 'percent of baseline'"
    row = one("bayes_effects", query)
    fall, low, high = (f"{-row[c]:.1f}" for c in ("estimate", "conf_high", "conf_low"))
    assert f"it is {fall}% (95% credible interval {low} to {high})" in said
    chance = one("bayes_probabilities", "estimand == 'att_overall' and threshold == -1")
    assert f"fell by more than 1% is {100 * chance['probability']:.0f}%." in said


def test_the_money(said: str) -> None:
    gross, net = (
        one("impact_savings", f"estimand == 'impact_savings_{kind}' and period.isna()")
        for kind in ("gross", "net")
    )
    columns = ("estimate", "conf_low", "conf_high")
    a, low, high = (f"{gross[c] / 1e6:,.0f}" for c in columns)
    assert f"Impact savings were ${a} million ({low} to {high})" in said
    assert f"payments to ACOs ${net['payments'] / 1e6:,.0f} million: net" in said
    a, low, high = (f"{net[c] / 1e6:,.0f}" for c in columns)
    assert f"net ${a} million ({low} to {high})" in said


def test_the_picture_is_that_of_the_run_of_record() -> None:
    outputs = json.loads((STUDY / "manifest.json").read_text(encoding="utf-8"))["outputs"]
    drawn = (STUDY / "event_study.svg").read_bytes()
    assert hashlib.sha256(drawn).hexdigest() == outputs["figures/event_study.svg"]["sha256"]
