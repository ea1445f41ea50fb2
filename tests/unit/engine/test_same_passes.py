"""Passes by unit: the same buckets, limits and numbers from both engines."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbceval.core.errors import DataError
from vbceval.engine import sql
from vbceval.passes import Term, baseline, by_unit, glm, quantiles, winsorise, within
from vbceval.passes.buckets import in_bucket

from .conftest import NASTY

COLUMNS = {"cluster": "provider", "period": "q", "attributes": ["entry"], "covariates": ["hcc"]}
TERMS = [Term(name="treated", value=lambda c: c["q"] >= c["entry"]), Term(name="h", column="hcc")]
DUAL = Term(name="dual", value=lambda c: c["dual"])


def rows(people: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    i, q = np.repeat(np.arange(people), 4), np.tile(np.arange(1, 5), people)
    provider = rng.integers(0, 6, people)[i]
    frame = pd.DataFrame(
        {
            "person": [f"id-{x}" for x in i],
            "number": i * 31 - 7,
            "provider": np.array(list("ABCDEF"))[provider],
            "q": q,
            "entry": np.where(provider < 3, 3.0, np.nan),
            "hcc": np.round(rng.gamma(2, 0.5, len(i)), 4),
            "months": rng.integers(1, 4, len(i)),
            "visits": rng.poisson(3, len(i)),
            "dual": rng.random(len(i)) < 0.3,
        }
    )
    frame["spend"] = np.round(np.exp(rng.normal(7, 1.5, len(i))), 2)
    frame.loc[frame.index[::17], "spend"] = np.nan
    return frame[rng.random(len(i)) < 0.8].reset_index(drop=True)


def read(path) -> pd.DataFrame:
    found = pq.read_table(path).to_pandas()
    return found.sort_values(["person", "q"], ignore_index=True)


def test_a_unit_has_one_bucket_everywhere(duck, spark) -> None:
    big = [-(2**62), -1, 0, 7, 2**31 - 1, 2**31, 2**62]
    table = pa.table({"n": pa.array(big), "t": ["", "a", "ünï ☃", "\\", "'", "id-1", "id-2"]})
    for name in ("n", "t"):
        found = []
        for engine in (duck, spark):
            relation = engine.register(table)
            inside = [
                sql.named(in_bucket(relation.column(name), b, 5), f"b{b}") for b in range(5)
            ]  # fmt: skip
            query = sql.select(sql.column("n"), *inside, of=relation.name).order_by(sql.column("n"))
            found.append(engine.run(query).to_pylist())
        assert found[0] == found[1]
        assert all(sum(row[f"b{b}"] for b in range(5)) == 1 for row in found[0])


def test_quantiles_are_equal(duck, spark) -> None:
    frame = rows()
    options = {"column": "spend", "q": 0.9, "by": ["q", "provider"], "weight": "months"}
    one, two = (quantiles(frame, e, **options) for e in (duck, spark))
    pd.testing.assert_frame_equal(one, two, check_dtype=False)


def test_capped_and_based_tables_are_equal(duck, spark, tmp_path) -> None:
    frame = rows()
    found = []
    for engine in (duck, spark):
        capped = winsorise(
            frame, engine, columns=["spend"], by=["q"], upper=0.9,
            to=tmp_path / f"{engine.name}.capped",
        )  # fmt: skip
        based = baseline(
            [str(capped.path)], engine, unit="person", period="q", covariates=["spend"],
            at="before_cohort", cohort="entry", never_before=3, without="missing",
            to=tmp_path / f"{engine.name}.based", buckets=2,
        )  # fmt: skip
        found.append((read(capped.path), read(based.path), based.meta["units"]))
    pd.testing.assert_frame_equal(found[0][0], found[1][0], check_dtype=False)
    pd.testing.assert_frame_equal(found[0][1], found[1][1], check_dtype=False)
    assert found[0][2] == found[1][2] == frame["person"].nunique()


def test_a_relation_is_registered_again_and_a_capped_one_is_not_copied(duck, spark) -> None:
    frame = rows()
    limits = []
    for engine in (duck, spark):
        table = engine.register(frame)
        assert engine.register(table) is table
        part = engine.register(table, columns=["spend", "q"])
        assert list(part.columns) == ["spend", "q"]
        assert part.source == table.source
        capped = winsorise(part, engine, columns=["spend"], by=["q"], upper=0.9)
        top = quantiles(capped.relation, engine, column="spend", q=1, by=["q"])
        assert top["value"].tolist() == capped.limits["upper"].tolist()
        limits.append(capped.limits["upper"].tolist())
        with pytest.raises(DataError, match="there is no column `person`"):
            engine.register(part, columns=["person"])
        with pytest.raises(DataError, match="not a temporary name"):
            engine.define("panel", sql.select(sql.column("q"), of=part.name), part.source)
    assert limits[0] == limits[1]
    with pytest.raises(DataError, match="was made by another engine"):
        duck.register(part)


def test_nan_in_parquet_is_missing(duck, tmp_path) -> None:
    """Bounds that are written beside a column leave NaN out, and must not be taken for its values."""
    frame = rows()
    frame["share"] = np.random.default_rng(4).random(len(frame))
    frame.loc[::13, "share"] = np.nan
    found = []
    for keep in (False, True):
        path = tmp_path / f"{keep}.parquet"
        columns = {c: pa.array(frame[c].to_numpy(), from_pandas=keep) for c in frame}
        pq.write_table(pa.table(columns), path)
        assert (pq.read_table(path)["share"].null_count > 0) == keep
        capped = winsorise(path, duck, columns=["spend"], by=["q"], upper=0.9)
        median = quantiles(path, duck, column="spend", q=0.5, by=["q"])
        sums = within(
            path, duck, unit="number", outcomes=["spend", "share"], strata=["dual"], **COLUMNS
        )
        fits = [sums.fit(y, [*TERMS, DUAL]) for y in ("spend", "share")]
        found.append((capped.limits, median, fits))
    (limits, median, fits), (other, same, again) = found
    pd.testing.assert_frame_equal(limits, other)
    pd.testing.assert_frame_equal(median, same)
    for one, two in zip(fits, again, strict=True):
        assert np.isfinite(one.coefficients).all()
        np.testing.assert_array_equal(one.coefficients, two.coefficients)
        np.testing.assert_array_equal(one.std_error, two.std_error)


def test_regressions_are_equal(duck, spark) -> None:
    frame = rows()
    fits = []
    for engine in (duck, spark):
        sums = within(
            frame, engine, unit="number", outcomes=["spend"], strata=["dual"], **COLUMNS, buckets=2
        )  # fmt: skip
        linear = sums.fit("spend", [*TERMS, DUAL])
        people = by_unit(linear, frame, engine, buckets=2)
        count = glm(
            frame, engine, outcome="visits", family="poisson", terms=[*TERMS, DUAL], weight="months",
            strata=["dual"], **COLUMNS,
        )  # fmt: skip
        fits.append((linear, people, count))
    for one, two in zip(*fits, strict=True):
        np.testing.assert_allclose(one.coefficients, two.coefficients, rtol=1e-9)
        np.testing.assert_allclose(one.std_error, two.std_error, rtol=1e-9)


@pytest.mark.parametrize("name", NASTY[:6] + NASTY[8:12])
def test_any_name_can_be_used(name, duck, tmp_path) -> None:
    frame = rows(40)
    new = {old: f"{name}{i}" for i, old in enumerate(("person", "provider", "q", "spend", "hcc"))}
    renamed = frame.rename(columns=new)
    plain = quantiles(frame, duck, column="spend", q=0.5, by=["provider"])
    found = quantiles(renamed, duck, column=new["spend"], q=0.5, by=[new["provider"]])
    assert found["value"].tolist() == plain["value"].tolist()
    done = baseline(
        renamed, duck, unit=new["person"], period=new["q"], covariates=[new["hcc"]],
        to=tmp_path / "b", buckets=2,
    )  # fmt: skip
    assert pq.read_table(done.path).num_rows == len(frame)
    sums = within(
        renamed, duck, unit=new["person"], cluster=new["provider"], period=new["q"],
        outcomes=[new["spend"]], covariates=[new["hcc"]],
    )  # fmt: skip
    term = Term(name="h", column=new["hcc"])
    assert np.isfinite(sums.fit(new["spend"], [term]).std_error).all()
