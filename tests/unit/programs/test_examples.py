"""The worked examples of every program come to their numbers, line by line."""

from __future__ import annotations

import numpy as np
import pytest

from vbceval.programs import get, names
from vbceval.programs.program import Example

EXAMPLES = [(name, i) for name in names() for i in range(len(get(name).examples))]


def example(name: str, i: int) -> Example:
    return get(name).examples[i]


@pytest.mark.parametrize(("name", "i"), EXAMPLES, ids=lambda value: str(value))
def test_an_example_comes_to_its_numbers(name: str, i: int) -> None:
    entry = example(name, i)
    settled = get(name).settle(entry.frame(), performance_year=entry.performance_year)
    for line, wanted in entry.gives.items():
        got = np.asarray(settled[line], dtype=float)
        np.testing.assert_allclose(got, np.atleast_1d(wanted), rtol=1e-9, atol=1e-9, err_msg=line)


def test_every_program_has_an_example() -> None:
    assert [name for name in names() if not get(name).examples] == []


@pytest.mark.parametrize("name", sorted({name for name, _ in EXAMPLES}))
def test_draws_that_are_all_alike_give_the_same(name: str) -> None:
    entry = example(name, 0)
    program, frame = get(name), entry.frame()
    numbers = [
        column
        for column in frame
        if column in program.inputs and program.inputs[column].kind in ("usd", "rate", "people")
    ]
    draws = {column: np.repeat(frame[[column]].to_numpy(float), 3, axis=1) for column in numbers}
    once = program.settle(frame, performance_year=entry.performance_year)
    drawn = program.settle(frame, performance_year=entry.performance_year, draws=draws)
    for line in entry.gives:
        alike = np.asarray(drawn[line], dtype=float).reshape(len(frame), -1)
        want = np.asarray(once[line], dtype=float)[:, None]
        np.testing.assert_allclose(alike, np.broadcast_to(want, alike.shape), rtol=1e-12)
