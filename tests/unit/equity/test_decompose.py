"""Parts of a gap within and between organizations: by loops, by weights, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError, DesignError
from vbceval.equity import decompose
from vbceval.inference import SSC


def draw(seed: int = 3, *, missing: bool = True) -> pd.DataFrame:
    """Nine organizations over two years; two lack a stratum."""
    rng = np.random.default_rng(seed)
    keys = pd.MultiIndex.from_product([range(9), [2019, 2020], ["no", "yes", "partly"]])
    frame = keys.to_frame(index=False).set_axis(["aco", "year", "dual"], axis=1)
    frame["entry"] = np.nan
    frame["people"] = rng.uniform(20, 400, len(frame)).round()
    frame["spend"] = 9_000 + 900 * (frame["dual"] == "yes") + rng.normal(0, 500, len(frame))
    if missing:
        lacks = ((frame["aco"] == 0) & (frame["dual"] == "yes")) | (
            (frame["aco"] == 1) & (frame["dual"] == "no")
        )
        frame = frame[~lacks]
    return frame


def panel(frame: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame,
        unit="aco",
        period="year",
        cohort="entry",
        strata=["dual"],
        weight="people",
        **options,
    )


def table_of(frame: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    return frame.assign(v=values).pivot_table(
        index="aco", columns="dual", values="v", aggfunc="sum"
    )


def by_hand(frame: pd.DataFrame) -> dict[str, float]:
    """The parts of yes less no, organization by organization."""
    w = table_of(frame, frame["people"])
    total = table_of(frame, frame["people"] * frame["spend"])
    m = total / w
    mean = total.sum() / w.sum()
    out = {"gap": float(mean["yes"] - mean["no"])}
    both = w[["yes", "no"]].dropna().index
    p, q = (w.loc[both, x] / w.loc[both, x].sum() for x in ("yes", "no"))
    d, r = m.loc[both, "yes"], m.loc[both, "no"]
    out["gap_covered"] = sum(p[c] * d[c] - q[c] * r[c] for c in both)
    out["gap_within level"] = sum(p[c] * (d[c] - r[c]) for c in both)
    out["gap_between level"] = sum((p[c] - q[c]) * r[c] for c in both)
    out["gap_within reference"] = sum(q[c] * (d[c] - r[c]) for c in both)
    out["gap_between reference"] = sum((p[c] - q[c]) * d[c] for c in both)
    return out


def named(est: vbc.Estimates) -> dict[str, float]:
    rows = est.frame[est.frame["stratum"] == "dual=yes - no"]
    names = (rows["estimand"] + " " + rows["order"].fillna("")).str.strip()
    return dict(zip(names, rows["estimate"], strict=True))


def test_parts_by_hand() -> None:
    frame = draw()
    found, expected = (
        named(decompose(panel(frame), "spend", by="dual", reference="no")),
        by_hand(frame),
    )
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    for order in ("average", "level", "reference"):
        total = found[f"gap_within {order}"] + found[f"gap_between {order}"]
        assert total == pytest.approx(found["gap_covered"], rel=1e-12)
    table = decompose(panel(frame), "spend", by="dual", reference="no").frame
    w = table_of(frame, frame["people"])
    row = table[table["stratum"] == "dual=yes - no"].iloc[0]
    assert row["share_covered"] == pytest.approx(1 - w.loc[1, "yes"] / w["yes"].sum())
    assert row["share_covered_reference"] == pytest.approx(1 - w.loc[0, "no"] / w["no"].sum())


def test_influence_is_the_derivative_by_the_weight_of_an_organization() -> None:
    frame, step = draw(), 1e-5

    def at(aco: int, factor: float) -> np.ndarray:
        people = frame["people"] * np.where(frame["aco"] == aco, factor, 1.0)
        data = panel(frame.assign(people=people))
        return decompose(data, "spend", by="dual", reference="no").estimate

    est = decompose(panel(frame), "spend", by="dual", reference="no")
    for c in range(9):
        slope = (at(c, 1 + step) - at(c, 1 - step)) / (2 * step)
        np.testing.assert_allclose(est.influence().loc[c], slope, atol=1e-5)
    np.testing.assert_allclose(est.std_error**2, (est.psi**2).sum(axis=0) * 9 / 8)
    none = decompose(panel(frame), "spend", by="dual", reference="no", ssc=SSC.none())
    np.testing.assert_allclose(none.std_error**2, (est.psi**2).sum(axis=0))


def test_moments_periods_and_order_of_rows() -> None:
    frame = draw()
    whole = decompose(panel(frame), "spend", by="dual", reference="no")
    mixed = decompose(
        panel(frame.sample(frac=1, random_state=2)), "spend", by="dual", reference="no"
    )
    np.testing.assert_allclose(mixed.estimate, whole.estimate, rtol=1e-13)
    with vbc.connect("duckdb", threads=1) as engine:
        moments = vbc.Moments.from_table(
            frame, engine=engine, cluster="aco", period="year", cohort="entry", strata=["dual"],
            outcomes=["spend"], weight="people",
        )  # fmt: skip
    same = decompose(moments, "spend", by="dual", reference="no")
    np.testing.assert_allclose(same.estimate, whole.estimate, rtol=1e-9)
    np.testing.assert_allclose(same.psi, whole.psi, atol=1e-7)
    one = decompose(panel(frame), "spend", by="dual", reference="no", periods=[2020])
    assert named(one)["gap"] == pytest.approx(by_hand(frame[frame["year"] == 2020])["gap"])


def test_refusals() -> None:
    frame = draw(missing=False)
    with pytest.raises(DataError, match="no stratum of these data"):
        decompose(panel(frame), "spend", by="race", reference="no")
    with pytest.raises(DataError, match="`reference` is 'other', but `dual` has"):
        decompose(panel(frame), "spend", by="dual", reference="other")
    with pytest.raises(DataError, match=r"no row is of period .2031"):
        decompose(panel(frame), "spend", by="dual", reference="no", periods=[2031])
    with pytest.raises(DataError, match="only the reference level"):
        decompose(panel(frame[frame["dual"] == "no"]), "spend", by="dual", reference="no")
    apart = frame[(frame["aco"] % 2 == 0) == (frame["dual"] == "yes")]
    with pytest.raises(DesignError, match=r"no organization .* has both"):
        decompose(panel(apart), "spend", by="dual", reference="no")
    people = frame.assign(person=np.arange(len(frame)))
    few = people[(people["dual"] != "yes") | (people["aco"] < 3)]
    with pytest.raises(DataError, match="fewer than 11 people"):
        decompose(
            vbc.Panel.from_frame(
                few, unit="person", period="year", cohort="entry", cluster="aco", strata=["dual"],
            ), "spend", by="dual", reference="no",
        )  # fmt: skip
