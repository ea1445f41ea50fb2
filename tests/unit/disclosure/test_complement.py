"""Which cells are suppressed: by hand, at least cost, and safe against trying all tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbceval.core.errors import DataError
from vbceval.disclosure import complement


def with_totals(inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells, row totals, column totals and the total of all; and what adds up to what."""
    r, c = inner.shape
    full = np.zeros((r + 1, c + 1))
    full[:r, :c] = inner
    full[:r, c], full[r, :c], full[r, c] = inner.sum(1), inner.sum(0), inner.sum()
    places = np.arange(full.size).reshape(full.shape)
    links = np.zeros((r + c + 2, full.size))
    for i in range(r + 1):
        links[i, places[i, :c]], links[i, places[i, c]] = 1, -1
    for j in range(c + 1):
        links[r + 1 + j, places[:r, j]], links[r + 1 + j, places[r, j]] = 1, -1
    return full.ravel(), links


def small(values: np.ndarray) -> np.ndarray:
    return (values > 0) & (values < 11)


def is_safe(
    some_table: Callable[..., bool],
    values: np.ndarray,
    suppressed: np.ndarray,
    inner: tuple[int, int],
) -> bool:
    """Every small inner cell may be 0 and may be 11, given what is shown; by trying all."""
    r, c = inner
    places = np.arange((r + 1) * (c + 1)).reshape(r + 1, c + 1)
    inner_of = {int(p): i for i, p in enumerate(places[:r, :c].ravel())}
    sums = []
    for i, j in itertools.product(range(r + 1), range(c + 1)):
        p = int(places[i, j])
        if not suppressed[p]:
            cells = places[: r if i == r else None, : c if j == c else None]
            cells = cells[i : i + 1] if i < r else cells
            cells = cells[:, j : j + 1] if j < c else cells
            sums.append(([inner_of[int(q)] for q in cells.ravel()], int(values[p])))
    return all(
        some_table(sums, r * c, i, 0, 0) and some_table(sums, r * c, i, 11, 999)
        for p, i in inner_of.items()
        if 0 < values[p] < 11
    )


def test_the_next_smallest_part_goes_with_a_small_one() -> None:
    parts = np.array([4.0, 25.0, 71.0, 100.0])
    found = complement(parts, [[1, 1, 1, -1]], primary=small(parts), shown=parts == 100)
    assert found.suppressed.tolist() == [True, True, False, False]
    assert found.method == "exact"


def test_a_small_count_without_a_total_needs_no_other() -> None:
    parts = np.array([4.0, 25.0])
    found = complement(parts, np.zeros((0, 2)), primary=small(parts))
    assert found.suppressed.tolist() == [True, False]


def test_nothing_small_nothing_suppressed() -> None:
    parts = np.array([40.0, 25.0, 65.0])
    found = complement(parts, [[1, 1, -1]], primary=small(parts))
    assert (found.method, found.suppressed.any()) == ("none", False)


def test_zeros_are_shown_unless_asked(some_table) -> None:
    """With its margins shown, this table can only be protected by hiding zeros."""
    values, links = with_totals(np.array([[0, 4, 12], [12, 12, 0]]))
    margin = np.ones(12, dtype=bool)
    margin[np.arange(12).reshape(3, 4)[:2, :3]] = False
    options = {"primary": small(values), "shown": margin}
    with pytest.raises(DataError, match="no pattern of suppression"):
        complement(values, links, **options)
    found = complement(values, links, **options, suppress_zero=True)
    assert found.suppressed[values == 0].any()
    assert is_safe(some_table, values, found.suppressed, (2, 3))


def test_what_cannot_be_protected_is_an_error() -> None:
    parts = np.array([4.0, 25.0, 29.0])
    shown = np.array([False, True, True])
    for most_exact in (0, 1000):
        with pytest.raises(DataError, match=r"\(1 cells to protect\)"):
            complement(
                parts, [[1, 1, -1]], primary=small(parts), shown=shown, most_exact=most_exact
            )


def test_counts_that_do_not_add_up_are_an_error() -> None:
    with pytest.raises(DataError, match="do not add up"):
        complement([4.0, 25.0, 30.0], [[1, 1, -1]], primary=np.array([True, False, False]))


def test_tied_cells_go_together() -> None:
    parts = np.array([4.0, 25.0, 26.0, 55.0])
    tied = np.array([0, 1, 1, 2])
    found = complement(parts, [[1, 1, 1, -1]], primary=small(parts), tied=tied, shown=parts == 55)
    assert found.suppressed.tolist() == [True, True, True, False]


@pytest.mark.parametrize("seed", range(4))
def test_no_safe_pattern_costs_less(some_table, seed) -> None:
    """All patterns of a 2 x 3 table with shown margins, against the integer program."""
    rng = np.random.default_rng(seed)
    inner = rng.integers(12, 40, (2, 3))
    inner[0, 0] = rng.integers(1, 11)
    values, links = with_totals(inner)
    places = np.arange(12).reshape(3, 4)
    margin = np.ones(12, dtype=bool)
    margin[places[:2, :3]] = False
    found = complement(values, links, primary=small(values), shown=margin)
    best = np.inf
    for pattern in itertools.product([False, True], repeat=5):
        trial = np.zeros(12, dtype=bool)
        trial[places[:2, :3].ravel()] = [True, *pattern]
        if is_safe(some_table, values, trial, (2, 3)):
            best = min(best, float(np.log1p(values[trial]).sum()))
    assert np.log1p(values[found.suppressed]).sum() == pytest.approx(best, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    inner=st.lists(st.integers(0, 25), min_size=9, max_size=9),
    exact=st.booleans(),
)
def test_no_table_that_fits_pins_a_suppressed_cell(some_table, inner, exact) -> None:
    values, links = with_totals(np.array(inner).reshape(3, 3))
    try:
        found = complement(values, links, primary=small(values), most_exact=10**6 if exact else 0)
    except DataError as error:
        assert "to protect" in str(error)  # noqa: PT017 - which tables fail is not known before
        return
    assert found.suppressed[small(values)].all()
    assert not found.suppressed[values == 0].any()
    assert is_safe(some_table, values, found.suppressed, (3, 3))


def test_the_exact_pattern_costs_no_more_than_the_sequential_one() -> None:
    rng = np.random.default_rng(1)
    compared = 0
    for _ in range(5):
        values, links = with_totals(rng.integers(5, 60, (4, 4)))
        cost = np.log1p(values)
        pair = [complement(values, links, primary=small(values), most_exact=m) for m in (10**6, 0)]
        if pair[0].method == "exact":
            assert pair[1].method == "sequential"
            assert cost[pair[0].suppressed].sum() <= cost[pair[1].suppressed].sum() + 1e-2
            compared += 1
    assert compared >= 3
