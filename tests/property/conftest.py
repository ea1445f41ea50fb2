"""Random small panels, and the derivative of estimates by a cluster's weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

Fit = Callable[[pd.DataFrame], vbc.Estimates]


@pytest.fixture
def make_frame() -> Callable[..., pd.DataFrame]:
    """Draw a panel: columns unit, cluster, period, cohort, y, x, z, w, site."""

    def draw(
        seed: int,
        *,
        units: int = 36,
        periods: int = 5,
        cohorts: Sequence[float] = (2.0, 3.0, np.nan),
        per_cluster: int = 1,
        missing: float = 0.0,
        time_varying: bool = False,
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        u, t = np.repeat(np.arange(units), periods), np.tile(np.arange(periods), units)
        cluster = np.arange(units) // per_cluster
        cohort = np.array(cohorts)[cluster % len(cohorts)]
        x, z = (
            rng.standard_normal(units),
            rng.standard_normal(units) + 0.4 * (cluster % len(cohorts) == 0),
        )
        effect = np.where(t >= cohort[u], -0.5 - 0.2 * (t - np.nan_to_num(cohort[u])), 0.0)
        y = (
            rng.standard_normal(units)[u] + 0.3 * t + 0.2 * t * x[u] + effect
            + rng.standard_normal(cluster.max() + 1)[cluster[u]] * 0.1 * t
            + 0.5 * rng.standard_normal(len(u))
        )  # fmt: skip
        drift = 0.3 * rng.standard_normal((2, len(u))) * time_varying
        frame = pd.DataFrame({
            "unit": [f"u{i:03d}" for i in u], "cluster": [f"c{i:02d}" for i in cluster[u]],
            "period": t, "cohort": cohort[u], "y": y, "x": x[u] + drift[0], "z": z[u] + drift[1],
            "w": np.exp(0.4 * rng.standard_normal(units))[u] * (1 + 0.1 * time_varying * t),
            "site": np.array(["north", "south"])[rng.permutation(units) % 2][u],
        })  # fmt: skip
        # every unit keeps its first period, so that it has one before entry
        keep = (rng.random(len(frame)) >= missing) | (t == 0)
        return frame[keep].reset_index(drop=True)

    return draw


@pytest.fixture
def weight_derivative() -> Callable[..., np.ndarray]:
    """Centred difference of estimates when one cluster's weights are multiplied by 1 +/- h."""

    def derive(
        fit: Fit, frame: pd.DataFrame, label: str, *, cluster: str = "cluster", h: float = 1e-5
    ) -> np.ndarray:
        inside = frame[cluster] == label

        def at(step: float) -> np.ndarray:
            return fit(frame.assign(w=frame["w"] * np.where(inside, 1 + step, 1.0))).estimate

        return (at(h) - at(-h)) / (2 * h)

    return derive
