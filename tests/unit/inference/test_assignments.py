"""Lists of assignments against permutations, and of long blocks."""

from __future__ import annotations

from itertools import islice, permutations

import numpy as np

from vbceval.inference.assignments import all_orders, number_of_orders


def test_every_assignment_is_listed_once() -> None:
    codes, block = np.array([2, 0, 1, 0, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    hand = {
        (*first, *second) for first in permutations([2, 0, 1, 0]) for second in permutations([0, 1])
    }
    orders = list(all_orders(codes, block))
    found = [tuple(codes[order].tolist()) for order in orders]
    assert set(found) == hand
    assert len(found) == len(hand) == number_of_orders(codes, block)
    for order in orders:
        # positions of a block change places within it
        assert sorted(order[:4]) == [0, 1, 2, 3]
        assert sorted(order[4:]) == [4, 5]


def test_a_long_block_with_one_treated_cluster_is_listed() -> None:
    codes = np.zeros(1500, dtype=np.int64)
    codes[7] = 1
    block = np.zeros(1500, dtype=np.int64)
    treated = [int(np.flatnonzero(codes[o])[0]) for o in islice(all_orders(codes, block), 50)]
    assert number_of_orders(codes, block) == 1500
    assert treated == list(range(1499, 1449, -1))
