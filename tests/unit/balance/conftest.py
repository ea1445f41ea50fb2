"""Organizations with features before entry, some of which enter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc


@pytest.fixture
def frame() -> pd.DataFrame:
    """60 organizations over 2010-2015, two entry cohorts; entry depends on features."""
    rng = np.random.default_rng(3)
    n = 60
    u, t = np.repeat(np.arange(n), 6), np.tile(np.arange(2010, 2016), n)
    a, b = rng.standard_normal(n), rng.standard_normal(n)
    enters = rng.random(n) < 1 / (1 + np.exp(0.4 - 0.6 * a + 0.5 * b))
    entry = np.where(enters, np.where(rng.random(n) < 0.5, 2013.0, 2014.0), np.nan)
    return pd.DataFrame({
        "aco": u, "year": t, "entry": entry[u], "a": a[u] + 0.1 * rng.standard_normal(len(u)),
        "b": b[u], "kind": np.array(list("xyz"))[rng.integers(0, 3, n)][u],
        "size": rng.uniform(1, 3, n)[u], "state": u // 2,
        "y": rng.standard_normal(len(u)) + 0.3 * a[u] * (t - 2010),
    })  # fmt: skip


@pytest.fixture
def panel() -> Callable[..., vbc.Panel]:
    """Make a panel of such a frame."""

    def make(frame: pd.DataFrame, **options: object) -> vbc.Panel:
        return vbc.Panel.from_frame(
            frame, **{"unit": "aco", "period": "year", "cohort": "entry", **options}
        )

    return make
