"""Robust sets and power against the printed results of R HonestDiD, its Stata port, pretrends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.sensitivity import from_numbers, honest, pretrend_power


def expected(shared: Path, case: str) -> tuple[dict[str, dict], float]:
    spec = json.loads((shared / "golden" / "expected" / f"{case}.json").read_text())
    return {row["term"]: row for row in spec["expected"]}, next(iter(spec["tolerance"].values()))


@pytest.fixture(scope="module")
def ehec(shared_dir: Path) -> vbc.Estimates:
    frame = pd.read_csv(shared_dir / "golden" / "data" / "ehec_data.csv")
    frame = frame[(frame["year"] < 2016) & (frame["yexp2"] != 2015)]
    frame = frame.assign(g=frame["yexp2"].where(frame["yexp2"] == 2014))
    panel = vbc.Panel.from_frame(frame, unit="stfips", period="year", cohort="g")
    return vbc.did.EventStudy().fit(panel, vbc.Design(outcome="dins"))


def published(shared: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    table = pd.read_csv(shared / "golden" / "data" / f"{name}.csv")
    return table.iloc[:, 1].to_numpy(float), table.iloc[:, 2:].to_numpy(float)


@pytest.mark.parametrize(
    ("restriction", "name", "sizes"),
    [("relative_magnitudes", "DeltaRM Mbar", (0.5, 1, 1.5, 2)),
     ("smoothness", "DeltaSD M", (0, 0.01, 0.02, 0.03, 0.04, 0.05))],
)  # fmt: skip
def test_medicaid_expansion(ehec, shared_dir, restriction, name, sizes) -> None:
    rows, tolerance = expected(shared_dir, "honestdid_ehec_2014")
    table = honest(ehec, restriction=restriction, m=sizes).table.iloc[1:]
    for row in table.itertuples():
        wanted = rows[f"{name}={row.m:g}"]
        assert row.conf_low == pytest.approx(wanted["lower"], abs=tolerance)
        assert row.conf_high == pytest.approx(wanted["upper"], abs=tolerance)
    assert len(table) == len(sizes)


def test_medicaid_expansion_average(ehec) -> None:
    """Printed to three digits by the Stata port, README of mcaceresb/stata-honestdid 0.5.3."""
    table = honest(ehec, target="average", m=[0, 0.5, 1, 1.5, 2], breakdown=False).table
    printed = [(0.040, 0.075), (0.041, 0.075), (0.033, 0.080), (0.020, 0.090), (0.006, 0.103),
               (-0.008, 0.117)]  # fmt: skip
    np.testing.assert_allclose(table[["conf_low", "conf_high"]], printed, atol=1.1e-3)


# R HonestDiD 0.2.6 on the estimates of Benzarti and Carloni, as printed in the consistency tests of
# mcaceresb/stata-honestdid; one step of its grid is .00076
VAT = {
    "relative_magnitudes": [(0, 0.159, 0.233), (0.222222, 0.143, 0.248), (0.444444, 0.123, 0.266),
                            (0.888889, 0.0786, 0.308), (1.333333, 0.0315, 0.352)],
    "FLCI": [(0, 0.131, 0.216), (0.1, 0.119, 0.419), (0.2, 0.0194, 0.519), (0.3, -0.0806, 0.619)],
    "C-F": [(0, 0.206, 0.234), (0.1, 0.120, 0.418), (0.2, 0.0195, 0.518), (0.3, -0.0801, 0.618)],
    "C-LF": [(0, 0.210, 0.328), (0.1, 0.119, 0.419), (0.2, 0.0191, 0.519), (0.3, -0.0809, 0.618)],
    "conditional": [(0, 0.210, 0.328), (0.1, 0.120, 0.418), (0.2, 0.0203, 0.518),
                    (0.3, -0.0796, 0.618)],
}  # fmt: skip


@pytest.mark.parametrize("case", list(VAT))
def test_value_added_tax(case: str, shared_dir: Path) -> None:
    beta, v = published(shared_dir, "honestdid_BC_eventstudy")
    relative = case == "relative_magnitudes"
    table = honest(
        from_numbers(beta, v, pre=4), m=[row[0] for row in VAT[case]], grid="honestdid",
        breakdown=False, restriction="relative_magnitudes" if relative else "smoothness",
        method=None if relative else case,
    ).table.iloc[1:]  # fmt: skip
    np.testing.assert_allclose(table["conf_low"], [r[1] for r in VAT[case]], atol=1.3e-3)
    np.testing.assert_allclose(table["conf_high"], [r[2] for r in VAT[case]], atol=1.3e-3)


def test_value_added_tax_on_a_grid(shared_dir: Path) -> None:
    """The third effect with 100 points on [-1, 1], the same to the digits printed."""
    beta, v = published(shared_dir, "honestdid_BC_eventstudy")
    printed = {2: [(0.192, 0.253), (0.0707, 0.354), (-0.0505, 0.495)],
               0: [(0.172, 0.232), (0.131, 0.253), (0.0707, 0.313)]}  # fmt: skip
    out = honest(from_numbers(beta, v, pre=4), m=[0, 0.5, 1], grid=(-1, 1, 100), breakdown=False)
    np.testing.assert_allclose(out.table[["conf_low", "conf_high"]][1:], printed[0], atol=5e-4)
    third = honest(
        from_numbers(beta, v, pre=4), m=[0, 0.5, 1], grid=(-1, 1, 100), breakdown=False,
        target=np.eye(4)[2],
    )  # fmt: skip
    wanted = [(0.212, 0.273), (0.0707, 0.414), (-0.0909, 0.576)]
    np.testing.assert_allclose(third.table[["conf_low", "conf_high"]][1:], wanted, atol=5e-4)


def test_duty_to_bargain_laws(shared_dir: Path) -> None:
    """Lovenheim and Willen, 23 effects: FLCI after 15 years and its hybrid, from the same log."""
    beta, v = published(shared_dir, "honestdid_LW_eventstudy")
    est = from_numbers(beta, v, pre=9)
    sizes = [0, 0.005, 0.01, 0.02, 0.03, 0.04]
    out = honest(est, restriction="smoothness", target=np.eye(23)[16], m=sizes, breakdown=False)
    wanted = [(3.91, 8.37), (2.124, 8.178), (-0.083, 8.194), (-4.942, 7.514), (-10.555, 5.558),
              (-14.104, 5.390)]  # fmt: skip
    np.testing.assert_allclose(out.table[["conf_low", "conf_high"]][1:], wanted, atol=6e-3)
    hybrid = honest(
        est, restriction="smoothness", target=np.eye(23)[16], m=[0, 0.01, 0.03], method="C-F",
        grid="honestdid", breakdown=False,
    )  # fmt: skip
    wanted = [(2.95, 3.23), (-0.389, 0.198), (-7.90, 0.0285)]
    np.testing.assert_allclose(hybrid.table[["conf_low", "conf_high"]][1:], wanted, atol=0.025)


def test_power_of_a_pretest(shared_dir: Path) -> None:
    rows, tolerance = expected(shared_dir, "pretrends_hewang")
    table = pd.read_csv(shared_dir / "golden" / "data" / "hewang_eventstudy.csv")
    est = from_numbers(
        table["beta"].to_numpy(), table.filter(like="X").to_numpy(float),
        event_time=table["t"].to_numpy(), reference=-1,
    )  # fmt: skip
    linear = pretrend_power(est, power=[0.5], critical=1.96)
    found = {
        "slope for 50% power": linear.slope, "power": linear.power,
        "Bayes factor": linear.bayes_factor, "likelihood ratio": linear.likelihood_ratio,
    }  # fmt: skip
    for row in linear.table[~linear.table["reference"]].itertuples():
        found[f"mean after pretest [{row.event_time:.0f}]"] = row.expected_if_passed
    curved = pretrend_power(est, trend=lambda e: 0.024 * (e + 1) ** 2, power=(), critical=1.96)
    found |= {
        "quadratic power": curved.power, "quadratic Bayes factor": curved.bayes_factor,
        "quadratic likelihood ratio": curved.likelihood_ratio,
    }  # fmt: skip
    assert set(found) == set(rows)
    for term, value in found.items():
        assert value == pytest.approx(rows[term]["estimate"], abs=tolerance), term
