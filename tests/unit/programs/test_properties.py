"""Properties that hold for every program, variant and year: spending, scale, limits, bad tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.core.typing import FloatArray
from vbceval.programs import Program, Settlement, get, names

SPENDING = {"actual", "expenditure"}
GATED = {"mssp", "pioneer", "medical_home"}
"""Programs that share nothing below a minimum rate, so that the payment jumps there."""

PER_HEAD = {"cpc_plus": ("people",), "pcf": ("people",)}
"""Programs whose fees are dollars a person: their payments grow with people, not with prices."""

MORE: dict[str, dict[str, Any]] = {
    "mssp": {"min_sav_perc": 0.02, "start_date": 2012, "rev_exp_cat": "low", "n_ab": 20_000,
             "current_start_date": 2024, "participant_revenue": 20e6, "qual_score": 0.8,
             "benchmark": 138e6, "expenditure": 133e6, "met_qps": True},
    "cjr": {"hospital_benchmark": 1.25e6},
    "ngaco": {"discount": 0.02},
    "hcc": {"payment_score": 1.1},
    "cpc_plus": {"beneficiaries_complex": 0},
    "hacrp": {"total_score": 0.5, "threshold": 0.24},
}  # fmt: skip
"""Columns that some variants or years of a program need beside those of its example."""


def rows(program: Program, year: int) -> pd.DataFrame:
    """Return one row for every variant of the year, all alike, from the first example."""
    frame = program.examples[0].frame().head(1).assign(**MORE.get(program.name, {}))
    if program.name == "ngaco" and year >= 2019:
        frame = frame.drop(columns="discount")
    open_ones = program.open_in(year)
    frame = pd.concat([frame] * len(open_ones), ignore_index=True)
    if program.variant_column is not None:
        frame[program.variant_column] = open_ones
    frame[program.organization] = [f"O{i}" for i in range(len(frame))]
    return frame


def years(program: Program) -> list[int]:
    """Return the first and last year, and those in which a value changes."""
    starts = {min(d.years) for p in program.parameters.values() for d in p.values}
    return sorted({*starts, min(program.years), max(program.years)} & program.years)


CASES = [(name, year) for name in names() for year in years(get(name))]
SPENDERS = [(n, y) for n, y in CASES if SPENDING & set(get(n).inputs)]


def spent(program: Program, year: int) -> tuple[str, FloatArray, Settlement]:
    """Settle every variant at 601 amounts of spending, from half the benchmark to half more."""
    frame = rows(program, year)
    column = next(iter(SPENDING & set(program.inputs)))
    grid = frame[[column]].to_numpy(float) * np.linspace(0.5, 1.5, 601)
    return column, grid, program.settle(frame, performance_year=year, draws={column: grid})


@pytest.mark.parametrize(("name", "year"), SPENDERS)
def test_more_spending_never_raises_a_payment_and_only_a_gate_jumps(name: str, year: int) -> None:
    _, grid, settled = spent(get(name), year)
    change = np.diff(settled.payment.reshape(len(settled), -1), axis=1)
    step = np.diff(grid, axis=1)
    assert (change <= 1e-6 * step).all()
    jumps = (-change > step * (1 + 1e-9)).sum(axis=1)
    # a gate on savings, one on losses, and the lower rate below the first
    assert (jumps <= (3 if name in GATED else 0)).all()


@pytest.mark.parametrize(("name", "year"), CASES)
def test_a_payment_grows_in_proportion(name: str, year: int) -> None:
    program = get(name)
    frame = rows(program, year)
    once = program.settle(frame, performance_year=year)
    kinds = PER_HEAD.get(name, ("usd",))
    scaled = [c for c in frame if c in program.inputs and program.inputs[c].kind in kinds]
    frame[scaled] = frame[scaled].astype(float) * 3.0
    thrice = program.settle(frame, performance_year=year)
    np.testing.assert_allclose(thrice.payment, 3.0 * once.payment, rtol=1e-9, atol=1e-6)
    assert np.abs(once.payment).sum() > 0 or name in {
        "hrrp",
        "hacrp",
        "hvbp",
        "mips",
        "advanced_apm",
    }


@pytest.mark.parametrize(
    ("name", "year"), [(n, y) for n, y in SPENDERS if {"stop_gain", "gain_cap"} & {*get(n).parameters}]
)  # fmt: skip
def test_limits_bind_at_the_ends_and_are_never_passed(name: str, year: int) -> None:
    program = get(name)
    frame = rows(program, year)
    column = next(iter(SPENDING & set(program.inputs)))
    grid = frame[[column]].to_numpy(float) * np.array([1e-3, 0.5, 1.0, 2.0, 50.0])
    settled = program.settle(frame, performance_year=year, draws={column: grid})
    payment = settled.payment
    for line, sign in (("gain_limit", 1), ("loss_limit", -1)):
        limit = np.broadcast_to(settled[line].reshape(len(frame), -1), payment.shape)
        assert (sign * payment <= limit + 1e-6).all()
        end = 0 if sign > 0 else -1
        # that of a one-sided track is 0
        np.testing.assert_allclose(sign * payment[:, end], limit[:, end], rtol=1e-5)


@pytest.mark.parametrize("name", names())
def test_a_table_that_lacks_a_needed_number_is_refused(name: str) -> None:
    program = get(name)
    example = program.examples[0]
    frame = example.frame()
    needed = [i for i in program.inputs.values() if i.required and i.name in frame]
    assert needed
    for entry in needed:
        for broken, said in (
            (frame.drop(columns=entry.name), f"columns are missing: `{entry.name}`"),
            (frame.assign(**{entry.name: np.nan}), f"no `{entry.name}`"),
            (frame.assign(**{entry.name: "many"}), f"text in `{entry.name}`"),
            (frame.assign(**{entry.name: np.inf}), f"`{entry.name}`"),
        ):
            with pytest.raises(DataError, match=said):
                program.settle(broken, performance_year=example.performance_year)


@pytest.mark.parametrize("name", names())
def test_numbers_out_of_bounds_variants_and_years_are_refused(name: str) -> None:
    program = get(name)
    example = program.examples[0]
    frame, year = example.frame(), example.performance_year
    for entry in program.inputs.values():
        if entry.name in frame and entry.kind == "people":
            with pytest.raises(DataError, match=f"`{entry.name}`"):
                program.settle(frame.assign(**{entry.name: -5.0}), performance_year=year)
        if entry.name in frame and entry.above is not None:
            with pytest.raises(DataError, match=f"`{entry.name}`"):
                program.settle(frame.assign(**{entry.name: entry.above}), performance_year=year)
    if program.variant_column is not None:
        with pytest.raises(DataError, match="none of the program's"):
            program.settle(frame.assign(**{program.variant_column: "X"}), performance_year=year)
    with pytest.raises(DesignError, match="has no performance year 1999"):
        program.settle(frame, performance_year=1999)
