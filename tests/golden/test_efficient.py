"""Efficient averages under random timing against R staggered, to all digits it gives."""

import json
from pathlib import Path

import pandas as pd
import pytest

import vbceval as vbc

VERSIONS = {
    "efficient": ({}, "not_yet_treated"),
    "cs": ({"beta": 1}, "not_yet_treated"),
    "sa": ({"beta": 1}, "never_treated"),
}
AVERAGES = {"simple": "simple", "cohort": "cohort", "calendar": "period"}


@pytest.mark.parametrize("version", VERSIONS)
def test_averages(version: str, shared_dir: Path) -> None:
    spec = json.loads((shared_dir / "golden/expected/r_staggered_ehec.json").read_text())
    expected = {row["term"]: row for row in spec["expected"]}
    frame = pd.read_csv(shared_dir / "golden/data" / spec["data"])
    panel = vbc.Panel.from_frame(frame, unit="stfips", period="year", cohort="yexp2")
    options, comparison = VERSIONS[version]
    found = vbc.did.Efficient(singletons="drop", **options).fit(
        panel, vbc.Design(outcome="dins", comparison=comparison)
    )
    assert found.meta["left_out"]["all"]["singletons"] == [2017.0]
    for name, average in AVERAGES.items():
        row = found.where(average=average).overall()
        wanted = expected[f"{version} {name}"]
        assert row.estimate.item() == pytest.approx(wanted["estimate"], abs=1e-10)
        assert row.std_error.item() == pytest.approx(wanted["se"], abs=1e-10)
