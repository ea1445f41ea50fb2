"""The same moments, bit for bit, from both engines; and names that break pasted SQL."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vbceval import Moments
from vbceval.core.errors import DataError

from .conftest import NASTY

OPTIONS = {
    "cluster": "provider", "period": "quarter", "cohort": "entry", "strata": ["dual"],
    "outcomes": ["spend", "visits"], "covariates": ["hcc"], "weight": "months", "unit": "person",
}  # fmt: skip


def rows(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    provider = rng.integers(0, 6, n)
    return pd.DataFrame(
        {
            "person": rng.integers(0, n // 2, n),
            "provider": np.array(list("ABCDEF"))[provider],
            "quarter": rng.integers(1, 5, n),
            "entry": np.where(provider < 3, 3.0, np.nan),
            "dual": np.where(rng.random(n) < 0.3, "yes", "no"),
            "spend": np.round(np.exp(rng.normal(7, 1.5, n)), 2),
            "visits": np.where(rng.random(n) < 0.2, np.nan, rng.poisson(3, n)),
            "hcc": np.round(rng.gamma(2, 0.5, n), 4),
            "months": rng.integers(1, 4, n),
        }
    )


def test_spark_gives_the_bits_of_duckdb(duck, spark) -> None:
    frame = rows()
    one = Moments.from_table(frame, engine=duck, **OPTIONS)
    two = Moments.from_table(frame, engine=spark, **OPTIONS)
    assert one.sums.schema == two.sums.schema
    assert one.sums.table.equals(two.sums.table)
    pd.testing.assert_frame_equal(one.units, two.units)


@pytest.mark.parametrize("name", NASTY)
def test_any_name_can_be_summed(name, duck) -> None:
    frame = rows(60)
    plain = Moments.from_table(frame, engine=duck, **OPTIONS)
    new = {old: f"{name}{i}" for i, old in enumerate(("spend", "dual", "provider", "months"))}
    changed = {
        k: [new.get(x, x) for x in v] if isinstance(v, list) else new.get(v, v)
        for k, v in OPTIONS.items()
    }
    found = Moments.from_table(frame.rename(columns=new), engine=duck, **changed)
    assert np.array_equal(found.of(new["spend"]).yy, plain.of("spend").yy)


def test_a_column_has_one_role(duck) -> None:
    for change in ({"covariates": ["spend"]}, {"strata": ["provider"]}, {"outcomes": ["hcc"]}):
        with pytest.raises(DataError, match="stands twice"):
            Moments.from_table(rows(60), engine=duck, **{**OPTIONS, **change})
    frame = rows(60).rename(columns={"dual": "people"})
    with pytest.raises(DataError, match="is what a column of sums is called"):
        Moments.from_table(frame, engine=duck, **{**OPTIONS, "strata": ["people"]})
