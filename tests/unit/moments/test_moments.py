"""Moments: cells from rows, factors, missing values, and what they refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

RC = "repeated_cross_section"


@pytest.fixture
def people() -> pd.DataFrame:
    """Forty people in four hospitals, two years, weights and a factor."""
    rng = np.random.default_rng(1)
    n = 40
    return pd.DataFrame({
        "person": range(n), "hospital": np.array(list("ABCD"))[np.arange(n) % 4],
        "year": 2014 + (np.arange(n) // 4) % 2,
        "entry": np.where(np.arange(n) % 4 < 2, 2015.0, np.nan),
        "spend": rng.normal(10, 3, n), "risk": rng.normal(1, 0.2, n), "months": rng.integers(1, 13, n),
        "dual": np.where(np.arange(n) % 3 == 0, "yes", "no"),
        "plan": np.array(["A", "B", "AB"])[np.arange(n) % 3],
    })  # fmt: skip


def panel(data: pd.DataFrame, **options: object) -> vbc.Panel:
    keys = {"unit": "person", "period": "year", "cohort": "entry", "cluster": "hospital"}
    return vbc.Panel.from_frame(data, **{**keys, "weight": "months", "kind": RC, **options})


def test_cells_are_weighted_moments_within_cluster_and_period(people) -> None:
    m = vbc.Moments.from_panel(panel(people), outcomes=["spend"], covariates=["risk"], by="cluster")
    assert len(m) == 8
    assert m.covariates == ("risk",)
    for i, cell in m.cells.iterrows():
        rows = people[(people["hospital"] == cell["unit"]) & (people["year"] == cell["period"])]
        w = rows["months"].to_numpy(dtype=float)
        x, y = rows["risk"].to_numpy(), rows["spend"].to_numpy()
        mx, my = np.average(x, weights=w), np.average(y, weights=w)
        assert m.n[i] == len(rows)
        assert m.w[i] == w.sum()
        assert m.w2[i] == (w**2).sum()
        assert m.x_mean[i, 0] == pytest.approx(mx, rel=1e-14)
        assert m.y_mean[i, 0] == pytest.approx(my, rel=1e-14)
        assert m.xx[i, 0, 0] == pytest.approx(w @ (x - mx) ** 2, rel=1e-12)
        assert m.xy[i, 0, 0] == pytest.approx(w @ ((x - mx) * (y - my)), rel=1e-11)
        assert m.yy[i, 0] == pytest.approx(w @ (y - my) ** 2, rel=1e-12)


def test_centred_moments_survive_a_large_offset(people) -> None:
    """Raw sums of squares would lose every digit of the variance at this offset."""
    plain = vbc.Moments.from_panel(panel(people), outcomes=["spend"], by="cluster")
    far = people.assign(spend=people["spend"] + 1e9)
    moved = vbc.Moments.from_panel(panel(far), outcomes=["spend"], by="cluster")
    np.testing.assert_allclose(moved.yy, plain.yy, rtol=1e-6)


def test_a_frame_is_the_trivial_case(people) -> None:
    m = vbc.Moments.from_panel(panel(people), outcomes=["spend"], covariates=["risk"])
    assert len(m) == len(people)
    assert m.xx is None
    assert m.xy is None
    np.testing.assert_array_equal(np.sort(m.y_mean[:, 0]), np.sort(people["spend"]))


def test_factors_become_columns_for_every_level_but_the_first(people) -> None:
    m = vbc.Moments.from_panel(panel(people), outcomes=["spend"], covariates=["plan", "risk"])
    assert m.covariates == ("plan[AB]", "plan[B]", "risk")
    assert m.covariate_positions(["risk", "plan"]).tolist() == [2, 0, 1]
    plan = m.units.index.map(people.set_index("person")["plan"])
    np.testing.assert_array_equal(m.x_mean[:, 0], (plan == "AB").astype(float))


def test_missing_outcomes_leave_the_shared_matrix(people) -> None:
    """A row without the outcome leaves every moment: xx of other rows would be wrong for it."""
    gap = people.copy()
    gap.loc[5, "spend"] = np.nan
    m = vbc.Moments.from_panel(panel(gap), outcomes=["spend"], covariates=["risk"], by="cluster")
    kept = vbc.Moments.from_panel(
        panel(people.drop(index=5)), outcomes=["spend"], covariates=["risk"], by="cluster"
    )
    np.testing.assert_array_equal(m.xx, kept.xx)
    np.testing.assert_array_equal(m.n, kept.n)


def test_outcomes_missing_on_different_rows_are_refused(people) -> None:
    gap = people.assign(visits=1.0)
    gap.loc[5, "spend"] = np.nan
    with pytest.raises(vbc.DataError, match="one at a time"):
        vbc.Moments.from_panel(panel(gap), outcomes=["spend", "visits"], by="cluster")


def test_text_infinite_and_empty_outcomes_come_together(people) -> None:
    bad = people.assign(a="x", b=np.inf, c=np.nan)
    with pytest.raises(vbc.DataError) as caught:
        vbc.Moments.from_panel(panel(bad), outcomes=["a", "b", "c"])
    message = str(caught.value)
    assert "3 problems" in message
    assert "`a` holds text in 40 rows" in message
    assert "`b` is infinite in 40 rows" in message
    assert "`c` is missing in every row" in message


@pytest.mark.parametrize(
    ("options", "name"),
    [({"outcomes": ["cost"]}, "`cost`"), ({"covariates": ["hcc"]}, "`hcc`"),
     ({"strata": ["rural"]}, "`rural`")],
)  # fmt: skip
def test_absent_columns_are_named(people, options, name) -> None:
    with pytest.raises(vbc.DataError, match=name):
        vbc.Moments.from_panel(panel(people), **{"outcomes": ["spend"], **options})


def test_asking_for_what_was_not_taken(people) -> None:
    m = vbc.Moments.from_panel(panel(people), outcomes=["spend"], covariates=["risk"])
    with pytest.raises(vbc.DataError, match=r"no outcome `cost` \(they hold `spend`\)"):
        m.column("cost")
    with pytest.raises(vbc.DataError, match=r"no column `hcc` \(they hold `risk`\)"):
        m.covariate_positions(["hcc"])


def test_cells_may_not_mix_cohorts(people) -> None:
    mixed = people.assign(entry=np.where(people["person"] < 20, 2015.0, np.nan))
    with pytest.raises(vbc.DataError, match="`entry` changes within 4 clusters of `hospital`"):
        vbc.Moments.from_panel(panel(mixed), outcomes=["spend"], by="cluster")


def test_strata_split_cells_and_merge_back(people) -> None:
    whole = vbc.Moments.from_panel(panel(people), outcomes=["spend"], by="cluster")
    split = vbc.Moments.from_panel(panel(people, strata=["dual"]), outcomes=["spend"], by="cluster")
    assert split.strata == ("dual",)
    total = pd.Series(split.w * split.y_mean[:, 0]).groupby(
        [split.cells["unit"], split.cells["period"]]
    ).sum()  # fmt: skip
    np.testing.assert_allclose(total, whole.w * whole.y_mean[:, 0], rtol=1e-12)


def test_taking_cells(people) -> None:
    m = vbc.Moments.from_panel(panel(people), outcomes=["spend"], covariates=["risk"], by="cluster")
    part = m.take(m.cells["period"].to_numpy() == 2015)
    assert len(part) == 4
    assert part.xx.shape == (4, 1, 1)
    assert part.attribute("cluster").tolist() == list("ABCD")
    assert np.isnan(part.attribute("cohort").to_numpy()[2:]).all()


def test_a_unit_in_two_clusters_is_refused(people) -> None:
    """Rows of one label in two hospitals would all be given to the first."""
    moved = people.assign(person=people["person"] // 2)
    with pytest.raises(vbc.DataError, match=r"`hospital` changes within 20 units") as caught:
        vbc.Moments.from_panel(panel(moved), outcomes=["spend"])
    assert "row number" in str(caught.value)
