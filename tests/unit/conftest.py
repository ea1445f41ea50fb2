"""What tests of several rooms use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


def _some_table(
    sums: Sequence[tuple[Sequence[int], int]], size: int, cell: int, low: int, high: int
) -> bool:
    """Whether whole numbers of 0 or more fit all sums with one of them from `low` to `high`."""
    of_cell: list[list[int]] = [[] for _ in range(size)]
    for j, (cells, _) in enumerate(sums):
        for i in cells:
            of_cell[i].append(j)
    order = [cell, *[i for i in range(size) if i != cell]]
    rest = [total for _, total in sums]
    open_ = [len(cells) for cells, _ in sums]

    def fill(position: int) -> bool:
        if position == size:
            return True
        i = order[position]
        mine = of_cell[i]
        if not mine:
            return fill(position + 1)
        most = min(rest[j] for j in mine)
        least = max([rest[j] for j in mine if open_[j] == 1], default=0)
        if i == cell:
            least, most = max(least, low), min(most, high)
        for value in range(least, most + 1):
            for j in mine:
                rest[j] -= value
                open_[j] -= 1
            done = all(rest[j] == 0 for j in mine if open_[j] == 0) and fill(position + 1)
            for j in mine:
                rest[j] += value
                open_[j] += 1
            if done:
                return True
        return False

    return fill(0)


@pytest.fixture(scope="session")
def some_table() -> Callable[..., bool]:
    """Search for a table by trying all whole numbers; shares nothing with the package."""
    return _some_table
