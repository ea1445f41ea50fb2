"""Exact sums: what is held, what is refused, against Python's integers and decimals."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vbceval import DataError
from vbceval.engine import Column, sql


def fixed(engine, array: pa.Array, scale: int, **options: float) -> list[dict]:
    """Return, for each value, what the three builders say of it."""
    relation = engine.register(pa.table({"i": list(range(len(array))), "x": array}))
    kind = relation.columns["x"]
    query = sql.select(
        sql.column("i"),
        sql.named(sql.to_fixed("x", kind, scale=scale), "fixed"),
        sql.named(sql.loses_digits("x", kind, scale=scale, **options), "loses"),
        sql.named(sql.overflows("x", kind, scale=scale), "over"),
        of=relation.name,
    )
    found = engine.run(query.order_by("i"))
    assert found.schema.field("fixed").type == pa.int64()
    return found.drop_columns("i").to_pylist()


def test_cents_of_doubles(duck) -> None:
    values = [
        0.1,
        1234567.89,
        -0.01,
        2.5,
        1e10 + 0.01,
        None,
        0.005,
        5e14,
        float("inf"),
        float("nan"),
    ]
    found = fixed(duck, pa.array(values, from_pandas=False), 2)
    assert [r["fixed"] for r in found[:6]] == [10, 123456789, -1, 250, 1000000000001, None]
    assert [bool(r["loses"]) for r in found] == [False] * 6 + [True] + [False] * 3
    # NaN is missing
    assert [r["over"] for r in found] == [False] * 7 + [True] * 2 + [False]
    assert [r["fixed"] for r in found[7:]] == [None] * 3


def test_single_precision_does_not_hold_cents(duck) -> None:
    (found,) = fixed(duck, pa.array([1234.56], pa.float32()), 2)
    assert found["loses"]
    (found,) = fixed(duck, pa.array([1234.56], pa.float32()), 2, tolerance=0.01)
    assert found == {"fixed": 123456, "loses": False, "over": False}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cents=st.lists(st.integers(-(2**49), 2**49), min_size=1, max_size=20),
    scale=st.sampled_from([0, 1, 2, 6]),
)
def test_every_number_of_cents_survives_as_a_double(duck, cents: list[int], scale: int) -> None:
    doubles = [float(Fraction(c, 10**scale)) for c in cents]
    found = fixed(duck, pa.array(doubles), scale)
    for c, row in zip(cents, found, strict=True):
        if abs(c) < 2**49 - 1:
            assert row == {"fixed": c, "loses": False, "over": False}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), precision=st.integers(1, 38), scale=st.sampled_from([0, 2, 6, 12]))
def test_decimals_of_every_width(duck, data, precision: int, scale: int) -> None:
    digits = data.draw(st.integers(0, precision))
    bound = 10**precision - 1
    units = data.draw(st.lists(st.integers(-bound, bound), min_size=1, max_size=10))
    exact_decimals = [Decimal(f"{u}E-{digits}") for u in units]
    array = pa.array(exact_decimals, pa.decimal128(precision, digits))
    whole = 10 ** (18 - scale)
    for unit, row in zip(units, fixed(duck, array, scale), strict=True):
        exact = Fraction(unit, 10**digits) * 10**scale
        inside = abs(Fraction(unit, 10**digits)) <= whole - 1
        certain = precision - digits + scale <= 18
        assert row["over"] == (not inside and not certain)
        if not row["over"]:
            assert bool(row["loses"]) == (exact.denominator != 1)
            assert abs(row["fixed"] - exact) <= Fraction(1, 2)


def test_a_product_of_narrow_decimals_has_more_than_18_digits(duck) -> None:
    array = pa.array([Decimal("100000.0"), Decimal("-99999.9")], pa.decimal128(7, 1))
    found = fixed(duck, array, 12)
    assert [row["fixed"] for row in found] == [100_000 * 10**12, -999_999 * 10**11]


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.bool_()],
    ids=str,
)
@pytest.mark.parametrize("scale", [0, 2, 12])
def test_integers_and_flags(duck, kind: pa.DataType, scale: int) -> None:
    if kind == pa.bool_():
        values: list = [True, False, None]
    else:
        limits = np.iinfo(kind.to_pandas_dtype())
        values = [int(limits.min), int(limits.max), 1, None]
    for value, row in zip(values, fixed(duck, pa.array(values, kind), scale), strict=True):
        over = value is not None and abs(int(value)) > 10 ** (18 - scale) - 1
        assert row["over"] == over
        assert not row["loses"]
        assert row["fixed"] == (None if value is None or over else int(value) * 10**scale)


def test_sums_and_products_are_exact_beyond_64_bits(duck) -> None:
    values = [10**17 + 3, -(10**17) + 1, 10**17 - 7] * 50
    relation = duck.register(pa.table({"x": values}))
    x = sql.column("x")
    query = sql.select(
        sql.named(sql.sum_exact(x), "s"),
        sql.named(sql.sum_exact(sql.product(x, x)), "ss"),
        of=relation.name,
    )
    found = duck.run(query)
    assert set(found.schema.types) == {pa.decimal128(38, 0)}
    assert found.to_pylist() == [{"s": sum(values), "ss": sum(v * v for v in values)}]
    none = duck.run(sql.select(sql.named(sql.sum_exact(x), "s"), of=relation.name).where("FALSE"))
    assert none.to_pylist() == [{"s": None}]


def test_a_sum_beyond_38_digits_is_an_error(duck) -> None:
    relation = duck.register(pa.table({"x": [10**18] * 101}))
    x = sql.column("x")
    with pytest.raises(DataError, match="too large"):
        duck.run(sql.select(sql.named(sql.sum_exact(sql.product(x, x)), "s"), of=relation.name))


def test_sums_do_not_depend_on_threads_or_order() -> None:
    from vbceval.engine import connect

    rng = np.random.default_rng(1)
    spend = np.round(rng.lognormal(6, 2, 300_000), 2)
    group = rng.integers(0, 50, spend.size)
    seen = []
    for threads, order in ((1, np.arange(spend.size)), (2, rng.permutation(spend.size))):
        with connect("duckdb", threads=threads) as engine:
            relation = engine.register(pa.table({"g": group[order], "x": spend[order]}))
            cents = sql.to_fixed("x", relation.columns["x"], scale=2)
            query = sql.select(
                sql.column("g"),
                sql.named(sql.sum_exact(cents), "s"),
                sql.named(sql.sum_exact(sql.product(cents, cents)), "ss"),
                of=relation.name,
            )
            seen.append(engine.run(query.group_by(sql.column("g")).order_by(sql.column("g"))))
    assert seen[0].equals(seen[1])
    units = np.rint(spend * 100).astype(int)
    assert seen[0]["s"].to_pylist() == [int(units[group == g].sum()) for g in range(50)]


def test_counts(duck) -> None:
    relation = duck.register(
        pa.table({"x": pa.array([1.0, np.nan, np.inf, None, 1.0], from_pandas=False)})
    )
    query = sql.select(
        sql.named(sql.count_if(sql.is_finite("x")), "finite"),
        sql.named(sql.count_distinct("x"), "different"),
        of=relation.name,
    )
    assert duck.run(query).to_pylist() == [{"finite": 2, "different": 3}]


def test_what_has_no_exact_sum_is_refused() -> None:
    text = Column.read("x", "VARCHAR")
    with pytest.raises(DataError, match="`x` holds VARCHAR, which is not a number"):
        sql.to_fixed("x", text, scale=2)
    for scale in (-1, 13):
        with pytest.raises(DataError, match="0 to 12"):
            sql.overflows("x", Column.read("x", "DOUBLE"), scale=scale)
    with pytest.raises(DataError, match="tolerance"):
        sql.loses_digits("x", Column.read("x", "DOUBLE"), scale=2, tolerance=0.3)


def test_rendering_leaves_the_expression_as_it_was() -> None:
    query = sql.select(sql.named(sql.sum_exact(sql.column("x")), "s"), of="t")
    before = repr(query)
    assert sql.render(query, "duckdb") == 'SELECT CAST(SUM("x") AS DECIMAL(38, 0)) AS "s" FROM "t"'
    assert sql.render(query, "spark") == (
        "SELECT CAST(SUM(CAST(`x` AS DECIMAL(38, 0))) AS DECIMAL(38, 0)) AS `s` FROM `t`"
    )
    assert repr(query) == before
