"""What holds for every program other than MSSP, on the tables of its worked examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval.programs import Program, get

SPENDING = {
    "cjr": "actual",
    "team": "actual",
    "bpci": "actual",
    "bpci_advanced": "actual",
    "reach": "expenditure",
    "lead": "expenditure",
    "ngaco": "expenditure",
    "pioneer": "expenditure",
    "medical_home": "expenditure",
    "capitation": "expenditure",
}
# what grows with an organization; prices per person and factors do not
SIZE = {
    **dict.fromkeys(SPENDING, ("usd",)),
    "medical_home": ("member_months", "benchmark", "expenditure"),
    "capitation": ("member_months", "expenditure"),
    "mips": ("usd",),
    "advanced_apm": ("usd",),
    "hvbp": ("usd",),
    "hrrp": ("usd",),
    "hacrp": ("usd",),
    "cpc_plus": ("people", "usd"),
    "pcf": ("people",),
    "medicaid_withhold": ("usd",),
    "hcc": ("people",),
}
LIMITS = {
    "cjr": ("gain_limit", "loss_limit"),
    "team": ("gain_limit", "loss_limit"),
    "bpci_advanced": ("gain_limit", "loss_limit"),
    "bpci": ("limit", "limit"),
    "ngaco": ("limit", "limit"),
    "pioneer": ("limit", "limit"),
}
QUALITY = ("cjr", "team", "bpci_advanced", "reach", "lead", "pioneer")


def first_example(name: str) -> tuple[Program, pd.DataFrame, int]:
    program = get(name)
    example = program.examples[0]
    return program, example.frame(), example.performance_year


def over_spending(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Payments, shape (organizations, steps), while spending rises in equal steps."""
    program, frame, year = first_example(name)
    column = frame[SPENDING[name]].to_numpy(float)[:, None]
    rising = column * np.linspace(0.4, 1.8, 1_401)
    settled = program.settle(frame, performance_year=year, draws={SPENDING[name]: rising})
    return rising, settled.payment


@pytest.mark.parametrize("name", SPENDING)
def test_more_spending_never_raises_a_payment(name: str) -> None:
    rising, paid = over_spending(name)
    assert np.diff(paid, axis=1).max() <= 1e-9 * rising.max()
    assert paid[:, 0].min() > paid[:, -1].max()


@pytest.mark.parametrize("name", [name for name in SPENDING if name != "pioneer"])
def test_without_a_minimum_rate_payments_are_continuous_in_spending(name: str) -> None:
    # a dollar more of spending never costs more than a dollar; only a minimum rate makes a jump
    rising, paid = over_spending(name)
    step = np.diff(rising, axis=1)
    assert (np.abs(np.diff(paid, axis=1)) <= step * (1 + 1e-9)).all()


def test_a_minimum_rate_makes_a_jump() -> None:
    rising, paid = over_spending("pioneer")
    assert (np.abs(np.diff(paid, axis=1)) > np.diff(rising, axis=1)).any()


@pytest.mark.parametrize("name", LIMITS)
def test_limits_bind_and_are_never_passed(name: str) -> None:
    program, frame, year = first_example(name)
    column = frame[SPENDING[name]].to_numpy(float)[:, None]
    draws = column * np.array([[0.4, 0.7, 1.0, 2.0, 9.0]])
    settled = program.settle(frame, performance_year=year, draws={SPENDING[name]: draws})
    gain, loss = (np.broadcast_to(
        np.asarray(settled[line], float).reshape(len(frame), -1), draws.shape
    ) for line in LIMITS[name])  # fmt: skip
    assert (settled.payment <= gain * (1 + 1e-12)).all()
    assert (settled.payment >= -loss * (1 + 1e-12)).all()
    if name != "ngaco":  # where the cap comes before the organization's share
        assert settled.payment[:, 0] == pytest.approx(gain[:, 0])


@pytest.mark.parametrize("name", SIZE)
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_payments_grow_in_proportion_to_size(name: str, factor: float) -> None:
    program, frame, year = first_example(name)
    grown = frame.copy()
    for column in frame:
        declared = program.inputs.get(column)
        if declared is not None and (declared.kind in SIZE[name] or column in SIZE[name]):
            grown[column] = frame[column] * factor
    once = program.settle(frame, performance_year=year).payment
    assert program.settle(grown, performance_year=year).payment == pytest.approx(once * factor)


@pytest.mark.parametrize("name", QUALITY)
def test_better_quality_never_lowers_a_payment(name: str) -> None:
    program, frame, year = first_example(name)
    if name == "lead":
        # beyond losses of half the benchmark the bands themselves grow with the score
        frame = frame.assign(expenditure=frame["expenditure"].clip(upper=130e6))
    highest = min(program.inputs["quality_score"].high, 100.0)
    highest = 1.0 if program.inputs["quality_score"].kind == "rate" else highest
    scores = np.tile(np.linspace(0.0, highest, 41), (len(frame), 1))
    paid = program.settle(frame, performance_year=year, draws={"quality_score": scores}).payment
    assert np.diff(paid, axis=1).min() >= -1e-9 * np.abs(paid).max()


@pytest.mark.parametrize("name", SIZE)
def test_organizations_are_settled_alike_in_any_order(name: str) -> None:
    program, frame, year = first_example(name)
    twice = pd.concat([frame, frame], ignore_index=True)
    twice[program.organization] = [f"o{i}" for i in range(len(twice))]
    once = program.settle(twice, performance_year=year).payment
    turned = program.settle(twice.iloc[::-1], performance_year=year).payment
    assert turned[::-1] == pytest.approx(once)
    assert once[: len(frame)] == pytest.approx(once[len(frame) :])
