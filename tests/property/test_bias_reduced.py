"""Bias-reduced covariances from cross-products of clusters, against their definition by rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

from vbceval.inference import bias_reduced as module
from vbceval.inference import frames as framing
from vbceval.inference.bias_reduced import bias_reduced
from vbceval.inference.frames import Pattern

RARE = [[0, 1, 2, 9, 10], [3, 4, 5, 9, 10], [6, 7, 8, 9, 10], [9, 10], [4, 5, 9, 10]]
"""Columns of cohorts beside two that all use, and of clusters that miss one of them."""
EQUAL = [[*range(6)], [*range(6), 6, 7, 8, 9], [*range(6), 7, 8, 9, 10], [0, 1, 2, 4, 5, 6, 7, 9]]
"""Periods, and event times of two cohorts, which equal periods 1 to 4; one cluster misses a period."""
MIXED = [[0, 5, 9], [1, 5, 7], [2, 6, 10], [3, 6, 8], [4, 7, 9], [0, 8, 10], [1, 2, 3], [4, 6, 9]]


class Rows(NamedTuple):
    """Rows of each cluster, and the columns that they use."""

    x: list[np.ndarray]
    used: list[list[int]]

    def patterns(self) -> list[Pattern]:
        found: dict[tuple[int, ...], list[int]] = {}
        for c, columns in enumerate(self.used):
            found.setdefault(tuple(columns), []).append(c)
        return [Pattern(np.array(k), np.array(v)) for k, v in found.items()]

    def alike(self, pattern: Pattern) -> np.ndarray:
        whole = np.concatenate([self.x[c] for c in pattern.clusters])[:, pattern.columns]
        return (whole[:, :, None] == whole[:, None, :]).all(axis=0).argmax(axis=0)

    def cross(self, clusters: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.stack([self.x[c][:, columns].T @ self.x[c][:, columns] for c in clusters])


def rows_of(kinds: list[list[int]], *, n_clusters: int = 40, large: float = 1.0) -> Rows:
    rng = np.random.default_rng(11)
    used = [kinds[c % len(kinds)] for c in range(n_clusters)]
    x = []
    for c, columns in enumerate(used):
        part = np.zeros((9, 11))
        part[:, columns] = rng.standard_normal((9, len(columns))) * (large if c == 0 else 1.0)
        if kinds is EQUAL and max(columns) > 5:
            entry = 2 if 10 in columns else 1
            events = [j for j in columns if j > 5]
            part[:, events] = part[:, [j - 4 - entry for j in events]]
        x.append(part)
    return Rows(x, used)


def power_of(matrix: np.ndarray, power: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**power) @ vectors.T


@pytest.mark.parametrize("correction", ["CR0", "CR2", "CR3"])
@pytest.mark.parametrize("large", [1.0, 8.0])
@pytest.mark.parametrize("kinds", [RARE, MIXED, EQUAL])
@pytest.mark.parametrize("ordered", [True, False])
def test_definition_by_rows(correction, large, kinds, ordered, monkeypatch) -> None:
    rows = rows_of(kinds, large=large)
    frames = (
        framing._ordered(rows.patterns(), 11) if ordered
        else framing._joined(rows.patterns(), rows, 3)[0]
    )  # fmt: skip
    if kinds is EQUAL and not ordered:
        # equal columns count once, and the cluster that misses a period is with its cohort
        assert [len(np.unique(rows.alike(f))) for f in frames] == [6, 6, 6]
        assert sorted(len(f.clusters) for f in frames) == [10, 10, 20]
    monkeypatch.setattr(module, "frames_of", lambda *_: (frames, ordered))
    rng = np.random.default_rng(12)
    contrast = rng.standard_normal((11, 3))
    errors = [rng.standard_normal(9) for _ in rows.x]
    whole = np.concatenate(rows.x)
    inverse = np.linalg.inv(whole.T @ whole)
    scores = np.stack([x.T @ e for x, e in zip(rows.x, errors, strict=True)])
    made = bias_reduced(
        rows, inverse, contrast, correction,
        [sparse.csr_array(scores), sparse.csr_array(2 * scores)],
    )  # fmt: skip

    power = {"CR0": 0.0, "CR2": -0.5, "CR3": -1.0}[correction]
    applied = [power_of(np.eye(9) - x @ inverse @ x.T, power) for x in rows.x]
    weights = [a @ x @ inverse @ contrast for a, x in zip(applied, rows.x, strict=True)]
    expected = np.stack([e @ w for e, w in zip(errors, weights, strict=True)])
    np.testing.assert_allclose(made.influence[0], expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(made.influence[1], 2 * expected, rtol=1e-11, atol=1e-13)
    left = np.eye(len(whole)) - whole @ inverse @ whole.T
    for j in range(3):
        g = np.stack([left[9 * c : 9 * c + 9].T @ w[:, j] for c, w in enumerate(weights)])
        gram = g @ g.T
        assert made.df[j] == pytest.approx(np.trace(gram) ** 2 / np.sum(gram**2), rel=1e-10)
    assert (made.own == 0).all()
