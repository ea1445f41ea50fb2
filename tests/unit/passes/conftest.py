"""A panel of people with gaps, in clusters that enter at two dates or never."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.engine.duckdb import DuckDBEngine
from vbceval.passes import Term


def is_treated(cells: pd.DataFrame) -> pd.Series:
    return cells["q"] >= cells["entry"]


TERMS = [
    Term(name="treated", value=is_treated),
    Term(name="hcc", column="hcc"),
    Term(name="treated x hcc", value=is_treated, column="hcc"),
]


def panel(people: int = 400, seed: int = 0) -> pd.DataFrame:
    """Rows of people in periods 1-6; a quarter of them are missing."""
    rng = np.random.default_rng(seed)
    periods, clusters = 6, 12
    i = np.repeat(np.arange(people), periods)
    q = np.tile(np.arange(1, periods + 1), people)
    c = rng.integers(0, clusters, people)[i]
    entry = np.where(c % 3 == 0, 3.0, np.where(c % 3 == 1, 5.0, np.nan))
    frame = pd.DataFrame(
        {"person": 1000 + 7 * i, "provider": [f"C{x:02d}" for x in c], "q": q, "entry": entry}
    )
    n = len(frame)
    frame["hcc"] = np.round(rng.gamma(2, 0.5, n) + 0.1 * q, 4)
    frame["months"] = rng.integers(1, 4, n)
    d = (q >= entry) * 1.0
    mean = 2e4 + 300 * rng.normal(size=people)[i] + 10 * q + 40 * frame["hcc"]
    frame["spend"] = np.round(mean - 25 * d * (1 + 0.3 * frame["hcc"]) + 50 * rng.normal(size=n), 2)
    frame["visits"] = rng.poisson(np.exp(0.2 + 0.3 * frame["hcc"] + 0.1 * q - 0.2 * d))
    odds = np.exp(-1 + 0.5 * frame["hcc"] - 0.3 * d)
    frame["any"] = (rng.random(n) < odds / (1 + odds)) * 1
    frame["cost"] = rng.gamma(2, np.exp(6 + 0.3 * frame["hcc"] - 0.1 * d) / 2)
    return frame[rng.random(n) < 0.75].reset_index(drop=True)


def regressors(frame: pd.DataFrame, *, periods: bool) -> pd.DataFrame:
    """What `TERMS` mean, row by row; with a constant and period effects if asked."""
    d = (frame["q"] >= frame["entry"]) * 1.0
    x = pd.DataFrame({"treated": d, "hcc": frame["hcc"], "treated x hcc": d * frame["hcc"]})
    if periods:
        x["constant"] = 1.0
        for p in range(2, 7):
            x[f"q={p}"] = (frame["q"] == p) * 1.0
    return x


@pytest.fixture(scope="module")
def duck() -> Iterator[DuckDBEngine]:
    with vbc.connect("duckdb", memory_limit="1GB", threads=1) as engine:
        yield engine
