"""
Columns are numbers, whatever type holds them.

A byte overflows when it is squared, an unsigned one has no -1, and numpy takes the square root of a
byte in half precision: with weights of one byte an estimate can differ in its fifth digit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

NUMBERS = ("period", "y", "x", "z", "w", "cohort")
TYPES = {
    "signed": {**dict.fromkeys(NUMBERS, "int8"), "unit": "int16", "cohort": "Int8"},
    "unsigned": {**dict.fromkeys(NUMBERS, "uint8"), "unit": "uint16", "cohort": "UInt8"},
    "nullable": {**dict.fromkeys(NUMBERS, "UInt8"), "unit": "UInt16", "z": "boolean"},
    "Arrow": {**dict.fromkeys(NUMBERS, "uint8[pyarrow]"), "z": "bool[pyarrow]"},
    "single": dict.fromkeys(NUMBERS, "float32"),
    "half": dict.fromkeys(NUMBERS, "float16"),
}
DESIGN = vbc.Design(outcome="y", covariates=["x", "z"])
ESTIMATORS = {
    "CR2": lambda p: vbc.did.EventStudy().fit(p, DESIGN, vcov="CR2"),
    "interactions": lambda p: vbc.did.ETWFE().fit(p, DESIGN),
    "group-time": lambda p: vbc.did.GroupTime(method="dr").fit(p, DESIGN),
    "imputation": lambda p: vbc.did.Imputation(covariate_effect="trend").fit(p, DESIGN),
    "Poisson": lambda p: vbc.did.GLMDiD(family="poisson").fit(p, DESIGN),
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Whole numbers near the ends of a byte: weights and covariates whose products need more."""
    rng = np.random.default_rng(4)
    unit, period = np.divmod(np.arange(160 * 8), 8)
    cohort = np.select([unit % 4 == 0, unit % 4 == 1], [4.0, 6.0], np.nan)
    y = rng.poisson(4.0, len(unit)) + 20 * (period + 1 >= cohort)
    return pd.DataFrame(
        {
            "unit": unit, "period": period + 1, "cohort": cohort, "y": y,
            "x": rng.integers(90, 127, 160)[unit], "z": rng.integers(0, 2, 160)[unit],
            "w": rng.integers(1, 127, 160)[unit],
        }
    )  # fmt: skip


def _numbers(est: vbc.Estimates) -> np.ndarray:
    return est.tidy().select_dtypes("number").to_numpy(dtype=float)


def _panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="unit", period="period", cohort="cohort", weight="w", people=False
    )


@pytest.mark.parametrize("fit", ESTIMATORS.values(), ids=ESTIMATORS.keys())
def test_rows(fit, frame) -> None:
    expected = _numbers(fit(_panel(frame.astype(dict.fromkeys(NUMBERS, float)))))
    for name, types in TYPES.items():
        found = _numbers(fit(_panel(frame.astype(types))))
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9, err_msg=name)


def test_moments(frame) -> None:
    """The engine adds up what a column holds; the same sums, so the same bits."""
    with vbc.connect("duckdb") as engine:

        def numbers(held: pd.DataFrame) -> np.ndarray:
            found = vbc.Moments.from_table(
                held, engine=engine, cluster="unit", period="period", cohort="cohort", weight="w",
                outcomes=["y"], covariates=["x", "z"],
            )  # fmt: skip
            return _numbers(vbc.did.TWFE().fit(found, DESIGN))

        expected = numbers(frame.astype(dict.fromkeys(NUMBERS, float)))
        for name, types in TYPES.items():
            np.testing.assert_array_equal(numbers(frame.astype(types)), expected, err_msg=name)
