"""The audit: bounds known by hand, tables found by trying all, and leaks that must be caught."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from vbceval.core.errors import DataError
from vbceval.disclosure import attacker_bounds, audit, unproven

TWO_BY_TWO = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])


def margins(rows: int, columns: int) -> np.ndarray:
    """Row and column sums of a table, cells in rows."""
    places = np.arange(rows * columns).reshape(rows, columns)
    sets = [*places, *places.T]
    links = np.zeros((rows + columns, rows * columns))
    for j, cells in enumerate(sets):
        links[j, cells] = 1
    return links


def as_sums(links: np.ndarray, totals: np.ndarray) -> list[tuple[list[int], int]]:
    return [(np.flatnonzero(row).tolist(), int(t)) for row, t in zip(links, totals, strict=True)]


def test_bounds_of_a_two_way_table_are_those_of_frechet() -> None:
    """From max(0, r + c - N) to min(r, c)."""
    r, c = np.array([30, 50]), np.array([20, 60])
    low, high = attacker_bounds(TWO_BY_TWO, np.concatenate([r, c]))
    np.testing.assert_allclose(low, np.maximum(0, r[:, None] + c - 80).ravel())
    np.testing.assert_allclose(high, np.minimum(r[:, None], c).ravel())


def test_a_count_in_no_total_is_not_bounded() -> None:
    low, high = attacker_bounds(np.array([[1, 1, 0]]), np.array([30.0]))
    assert low.tolist() == [0, 0, 0]
    assert high.tolist() == [30, 30, np.inf]


def test_only_asked_bounds_are_returned() -> None:
    low, high = attacker_bounds(TWO_BY_TWO, np.array([30, 50, 20, 60]), cells=np.array([3, 0]))
    assert (low.tolist(), high.tolist()) == ([30, 0], [50, 20])


def test_a_count_shown_by_subtraction_is_found() -> None:
    """100 in all, 71 and 25 shown: the third is 4."""
    links = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1]])
    totals = np.array([100, 71, 25])
    low, high = attacker_bounds(links, totals)
    assert low[0] == high[0] == 4
    assert unproven(links, totals, protected=np.array([0]), limit=11).tolist() == [True]
    assert unproven(links[:2], totals[:2], protected=np.array([0]), limit=11).tolist() == [False]


def test_many_counts_in_the_same_totals_are_one_unknown() -> None:
    """A hundred thousand counts in two totals take no linear program of their size."""
    links = np.zeros((2, 100_000))
    links[0, :60_000] = links[1, 60_000:] = 1
    table = np.r_[np.full(60_000, 5.0), 3.0, np.zeros(39_999)]
    bad = unproven(links, links @ table, protected=np.flatnonzero(table), limit=11)
    assert not bad[:60_000].any()
    assert bad[60_000]


def test_two_hidden_counts_that_hold_fewer_than_eleven_together_are_not_safe() -> None:
    links = np.array([[1, 1, 1], [0, 0, 1]])
    found = unproven(links, np.array([109, 100]), protected=np.array([0, 1]), limit=11)
    assert found.tolist() == [True, True]


def test_a_leak_through_two_tables_is_found() -> None:
    """Each total alone protects; their difference is the small count."""
    links = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]])
    truth = np.array([5, 20, 30])
    assert not unproven(links[:2], links[:2] @ truth, protected=np.array([0]), limit=11).any()
    assert unproven(links[:3], links[:3] @ truth, protected=np.array([0]), limit=11).all()


def test_whole_numbers_know_more_than_linear_programs() -> None:
    """x + y = 1, y + z = 1, x + z = 1 + 2u: halves fit where no whole numbers do."""
    links = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, -2]])
    totals = np.array([1, 1, 1])
    low, high = attacker_bounds(links, totals)
    assert low[3] < high[3] == 0.5
    # u = 0 would need x + z = 1 with x = z
    assert unproven(links, totals, protected=np.array([3]), limit=0.4).tolist() == [True]
    half = unproven(links, totals, protected=np.array([3]), limit=0.4, whole=False)
    assert half.tolist() == [False]


def test_person_years_are_no_whole_numbers() -> None:
    links, totals = np.array([[1.0, 1.0]]), np.array([30.5])
    assert not unproven(links, totals, protected=np.array([0]), limit=11, whole=False).any()
    assert unproven(links, np.array([10.5]), protected=np.array([0]), limit=11, whole=False).all()


def test_a_table_that_misses_a_large_total_by_a_person_does_not_fit() -> None:
    part = audit._Part(
        cells=np.arange(2), links=sparse.csr_array(np.ones((1, 2))), totals=np.array([1e8]),
        whole=False,
    )  # fmt: skip
    assert audit._checked(part, np.array([5e7, 5e7 + 0.0005])) is not None
    assert audit._checked(part, np.array([5e7, 5e7 + 1.0])) is None


@pytest.mark.parametrize(
    ("links", "totals"),
    [
        ([[1, 1], [1, 0]], [5, 7]),
        ([[1, 0], [1, 0]], [5, 6]),
        ([[1, 1], [1, 1]], [5, 6]),
        ([[1, 1], [1, 0], [0, 1]], [5, 2, 2]),
    ],
)
def test_numbers_that_contradict_each_other(links, totals) -> None:
    with pytest.raises(DataError, match="contradict each other"):
        unproven(np.array(links), np.array(totals), protected=np.array([0, 1]), limit=11)


@settings(max_examples=25, deadline=None)
@given(
    table=st.lists(st.integers(0, 12), min_size=9, max_size=9),
    shown=st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_the_audit_agrees_with_trying_all_tables(some_table, table, shown) -> None:
    truth = np.array(table)
    links = np.concatenate([margins(3, 3), np.eye(9)[np.array(shown)]])
    totals = links @ truth
    small = np.flatnonzero((truth > 0) & (truth < 11))
    sums = as_sums(links, totals)
    expected = [
        not (some_table(sums, 9, int(i), 0, 0) and some_table(sums, 9, int(i), 11, 999))
        for i in small
    ]
    assert unproven(links, totals, protected=small, limit=11).tolist() == expected
    near = unproven(links, totals, protected=small, limit=11, table=truth.astype(float))
    assert near.tolist() == expected


@settings(max_examples=25, deadline=None)
@given(table=st.lists(st.integers(0, 9), min_size=6, max_size=6), extra=st.sets(st.integers(0, 5)))
def test_bounds_of_two_way_tables_are_whole_and_exact(some_table, table, extra) -> None:
    truth = np.array(table)
    links = np.concatenate([margins(2, 3), np.eye(6)[sorted(extra)]])
    totals = links @ truth
    low, high = attacker_bounds(links, totals)
    sums = as_sums(links, totals)
    for i in range(6):
        fits = [v for v in range(31) if some_table(sums, 6, i, v, v)]
        assert (low[i], high[i]) == (pytest.approx(min(fits)), pytest.approx(max(fits)))


def test_tables_near_the_truth_give_the_same_answer_in_a_large_system() -> None:
    """The short cut through neighbouring tables, against linear programs alone."""
    rng = np.random.default_rng(2)
    truth = rng.poisson(rng.gamma(1, 12, (60, 1)) * [0.6, 0.3, 0.1]).astype(float).ravel()
    links = margins(60, 3)
    totals = links @ truth
    small = np.flatnonzero((truth > 0) & (truth < 11))
    slow = unproven(links, totals, protected=small, limit=11)
    quick = unproven(links, totals, protected=small, limit=11, table=truth)
    assert slow.tolist() == quick.tolist()
    assert 0 < slow.sum() < len(small)
