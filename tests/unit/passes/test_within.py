"""Unit effects from one pass: the digits of least squares on the rows."""

from __future__ import annotations

import importlib

import numpy as np
import pandas as pd
import pytest
from linearmodels import PanelOLS

import vbceval as vbc
from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.inference import SSC
from vbceval.passes import Fit, Recipe, Term, by_unit, within

from .conftest import TERMS, is_treated, panel, regressors

COLUMNS = {
    "unit": "person", "cluster": "provider", "period": "q", "outcomes": ["spend"],
    "covariates": ["hcc"], "attributes": ["entry"],
}  # fmt: skip


def reference(frame: pd.DataFrame, weight: str | None):
    rows = pd.concat([frame, regressors(frame, periods=False).drop(columns="hcc")], axis=1)
    rows = rows.set_index(["person", "q"])
    model = PanelOLS(
        rows["spend"], rows[["treated", "hcc", "treated x hcc"]],
        weights=None if weight is None else rows[[weight]], entity_effects=True, time_effects=True,
    )  # fmt: skip
    plain = {"debiased": False, "group_debias": False, "count_effects": False, "auto_df": False}
    codes = pd.Series(pd.factorize(rows["provider"])[0], index=rows.index)
    return (
        model.fit(cov_type="clustered", clusters=codes, **plain),
        model.fit(cov_type="clustered", cluster_entity=True, **plain),
    )


@pytest.mark.parametrize("weight", [None, "months"])
@pytest.mark.parametrize("buckets", [1, 7])
def test_digits_of_linearmodels(duck, weight, buckets) -> None:
    frame = panel()
    sums = within(frame, duck, **COLUMNS, weight=weight, buckets=buckets)
    fit = sums.fit("spend", TERMS, ssc=SSC.none())
    people = by_unit(fit, frame, duck, ssc=SSC.none(), buckets=buckets)
    by_cluster, by_person = reference(frame, weight)
    np.testing.assert_allclose(fit.coefficients[:3], by_cluster.params, rtol=1e-10)
    np.testing.assert_allclose(fit.covariance[:3, :3], by_cluster.cov, rtol=1e-9)
    np.testing.assert_allclose(fit.std_error[:3], by_cluster.std_errors, rtol=1e-10)
    np.testing.assert_allclose(people.std_error[:3], by_person.std_errors, rtol=1e-10)
    assert people.psi is None


@pytest.mark.parametrize("size", [1, 50, 1000])
def test_blocks_of_people_do_not_change_the_sums(duck, monkeypatch, size) -> None:
    frame = panel()
    fit = within(frame, duck, **COLUMNS).fit("spend", TERMS)
    people = by_unit(fit, frame, duck)
    # the functions stand in for their modules in the package
    for name in ("within", "scores"):
        monkeypatch.setattr(importlib.import_module(f"vbceval.passes.{name}"), "_BLOCK", size)
    again = within(frame, duck, **COLUMNS).fit("spend", TERMS)
    np.testing.assert_allclose(again.covariance, fit.covariance, rtol=1e-9)
    np.testing.assert_allclose(by_unit(fit, frame, duck).covariance, people.covariance, rtol=1e-9)


def test_small_sample_factors_are_those_named(duck) -> None:
    frame = panel()
    sums = within(frame, duck, **COLUMNS)
    plain = sums.fit("spend", TERMS, ssc=SSC.none())
    n, people = len(frame), frame["person"].nunique()
    cr1 = 12 / 11 * (n - 1) / (n - 9)  # 3 terms and 6 periods
    assert sums.fit("spend", TERMS).covariance == pytest.approx(cr1 * plain.covariance)
    full = 12 / 11 * (n - 1) / (n - 8 - people)
    found = sums.fit("spend", TERMS, ssc=SSC.statsmodels()).covariance
    assert found == pytest.approx(full * plain.covariance)
    by_person = by_unit(plain, frame, duck, ssc=SSC.none())
    cr1 = people / (people - 1) * (n - 1) / (n - 9)
    assert by_unit(plain, frame, duck).covariance == pytest.approx(cr1 * by_person.covariance)


def test_influence_is_the_derivative_by_a_clusters_weight(duck) -> None:
    frame = panel(200).assign(w=1.0)
    fit = within(frame, duck, **COLUMNS, weight="w").fit("spend", TERMS, ssc=SSC.none())
    assert np.abs(fit.psi.sum(axis=0)).max() < 1e-9 * np.abs(fit.psi).max()
    for c in ("C00", "C07"):
        up, down = (
            within(
                frame.assign(w=np.where(frame["provider"] == c, 1 + h, 1.0)), duck, **COLUMNS,
                weight="w",
            ).fit("spend", TERMS).coefficients
            for h in (1e-5, -1e-5)
        )  # fmt: skip
        row = fit.psi[list(fit.clusters).index(c)]
        np.testing.assert_allclose((up - down) / 2e-5, row, atol=1e-6 * np.abs(fit.psi).max())


def test_the_level_of_outcome_and_covariate_costs_no_digits(duck) -> None:
    frame = panel()
    high = frame.assign(spend=frame["spend"] + 1e8, hcc=frame["hcc"] + 1e4)
    terms = TERMS[:2]
    fit = within(frame, duck, **COLUMNS).fit("spend", terms)
    moved = within(high, duck, **COLUMNS).fit("spend", terms)
    np.testing.assert_allclose(moved.coefficients, fit.coefficients, rtol=1e-7)
    np.testing.assert_allclose(moved.std_error, fit.std_error, rtol=1e-7)


def test_estimates_have_influence_and_can_be_stacked(duck) -> None:
    frame = panel().assign(other=lambda f: f["spend"] * 2 + f["q"])
    options = {**COLUMNS, "outcomes": ["spend", "other"]}
    sums = within(frame, duck, **options)
    one = sums.fit("spend", TERMS).estimates(["treated"], unit_of_measure="USD")
    two = sums.fit("other", TERMS).estimates(["treated"])
    both = vbc.stack([one, two])
    assert both.vcov()[0, 1] == pytest.approx(2 * both.vcov()[0, 0])
    assert one.tidy()["std_error"].iloc[0] == sums.fit("spend", TERMS).std_error[0]
    people = by_unit(sums.fit("spend", TERMS), frame, duck).estimates(["treated"])
    assert people.tidy()["std_error"].iloc[0] > 0


def test_rows_that_miss_a_column_or_have_no_weight_are_left_out_and_counted(duck) -> None:
    frame = panel()
    frame.loc[:14, "spend"] = np.nan
    frame.loc[20:25, "months"] = 0
    sums = within(frame, duck, **COLUMNS, weight="months")
    assert sums.meta["rows_left_out"] == 21
    assert sums.rows.sum() == len(frame) - 21
    kept = frame[frame["spend"].notna() & (frame["months"] > 0)]
    again = within(kept, duck, **COLUMNS, weight="months")
    assert again.gram == pytest.approx(sums.gram)
    frame.loc[3:, "spend"] = 1.0
    assert within(frame, duck, **COLUMNS).meta["rows_left_out"] is None  # 3 rows: not shown


def test_terms_may_depend_on_strata_that_change_within_a_person(duck) -> None:
    """A triple difference with effects of persons, against least squares on rows."""
    rng = np.random.default_rng(8)
    frame = panel(250)
    frame["dual"] = np.where(rng.random(len(frame)) < 0.4, "yes", "no")
    frame["spend"] += 30.0 * (frame["dual"] == "yes")

    def is_dual(cells: pd.DataFrame) -> pd.Series:
        return cells["dual"] == "yes"

    terms = [
        *TERMS[:2], Term(name="dual", value=is_dual),
        Term(name="treated dual", value=lambda c: is_treated(c) & is_dual(c)),
    ]  # fmt: skip
    sums = within(frame, duck, **COLUMNS, strata=["dual"], weight="months", buckets=3)
    assert list(sums.cells) == ["provider", "q", "dual", "entry"]
    assert sums.gram.shape == (12, 24 * 25 // 2)
    fit = sums.fit("spend", terms)
    by_person = by_unit(fit, frame, duck, buckets=2)
    d = (frame["q"] >= frame["entry"]) * 1.0
    dual = (frame["dual"] == "yes") * 1.0
    rows = pd.DataFrame(
        {"treated": d, "hcc": frame["hcc"], "dual": dual, "treated dual": d * dual}
    ).assign(person=frame["person"], q=frame["q"], spend=frame["spend"], w=frame["months"] * 1.0)
    rows = rows.set_index(["person", "q"])
    model = PanelOLS(
        rows["spend"], rows[list(rows)[:4]], weights=rows[["w"]], entity_effects=True,
        time_effects=True,
    )  # fmt: skip
    provider = pd.DataFrame({"c": pd.factorize(frame["provider"])[0]}, index=rows.index)
    one = model.fit(cov_type="clustered", clusters=provider)
    two = model.fit(cov_type="clustered", cluster_entity=True)
    np.testing.assert_allclose(fit.coefficients[:4], one.params, rtol=1e-9)
    for found, reference_fit in ((fit, one), (by_person, two)):
        ratio = found.std_error[:4] / reference_fit.std_errors.to_numpy()
        # small-sample factors differ, and are the same for every coefficient
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert abs(ratio[0] - 1) < 0.15


def test_sums_of_buckets_without_people_add_nothing(duck) -> None:
    """The first bucket is empty: what the next ones add is not added thrice."""
    frame = panel(30)
    many = within(frame, duck, **COLUMNS, buckets=400)
    one = within(frame, duck, **COLUMNS, buckets=1)
    assert many.rows.sum() == len(frame)
    assert many.units.sum() == frame["person"].nunique()
    for name in ("rows", "units", "alone"):
        assert np.array_equal(getattr(many, name), getattr(one, name))
    np.testing.assert_allclose(many.gram, one.gram, atol=1e-9)


def test_columns_may_have_the_names_that_queries_use(duck) -> None:
    names = {"person": "k0", "provider": "w", "q": "v1", "spend": "k1", "hcc": "unit"}
    frame = panel(80)
    renamed = frame.rename(columns=names)
    options = {"unit": "k0", "cluster": "w", "period": "v1", "covariates": ["unit"]}
    fit = within(renamed, duck, outcomes=["k1"], attributes=["entry"], **options).fit(
        "k1", [Term(name="h", column="unit")]
    )
    plain = within(frame, duck, **COLUMNS).fit("spend", [Term(name="h", column="hcc")])
    np.testing.assert_allclose(fit.coefficients, plain.coefficients, rtol=1e-12)
    by_person = by_unit(fit, renamed, duck).std_error
    np.testing.assert_allclose(by_person, by_unit(plain, frame, duck).std_error, rtol=1e-12)


def test_a_period_that_is_infinite_is_an_error(duck) -> None:
    frame = panel(60).assign(q=lambda f: f["q"].astype(float))
    frame.loc[3, "q"] = np.inf
    with pytest.raises(DataError, match="`q` is infinite in fewer than 11 rows"):
        within(frame, duck, **COLUMNS)


def test_a_cluster_that_changes_within_a_unit_is_an_error(duck) -> None:
    frame = panel()
    frame.loc[frame.index[1], ["provider", "entry"]] = frame.loc[
        frame["provider"] != frame["provider"].iloc[0], ["provider", "entry"]
    ].iloc[0]
    person = frame.loc[frame["person"] == frame["person"].iloc[0]]
    assert person["provider"].nunique() == 2
    with pytest.raises(DataError, match="`provider` changes within fewer than 11 people"):
        within(frame, duck, **COLUMNS)


def test_two_rows_of_a_person_in_a_period_are_an_error(duck) -> None:
    frame = panel()
    with pytest.raises(DataError, match="have two rows of one `q`"):
        within(pd.concat([frame, frame.iloc[:1]]), duck, **COLUMNS)


def test_a_cohort_that_changes_within_a_cluster_is_an_error(duck) -> None:
    frame = panel()
    frame.loc[frame.index[0], "entry"] = 2.0
    with pytest.raises(DataError, match="`entry` changes within 1 of 12 clusters"):
        within(frame, duck, **COLUMNS)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("months", -1, "negative"),
        ("person", None, "`person` is missing"),
        ("spend", np.inf, "infinite"),
        ("provider", None, "`provider` is missing"),
    ],
)
def test_unusable_values_are_named(duck, column, value, said) -> None:
    frame = panel()
    frame[column] = frame[column].astype(object if value is None else float)
    frame.loc[5, column] = value
    if column == "person":
        frame["person"] = frame["person"].astype("Int64")
    with pytest.raises(DataError, match=said):
        within(frame, duck, **COLUMNS, weight="months")


def test_terms_that_cannot_be_told_apart_are_named(duck) -> None:
    sums = within(panel(), duck, **COLUMNS)
    twin = Term(name="twin", value=is_treated)
    with pytest.raises(EstimationError, match="`treated`, `twin` are not identified"):
        sums.fit("spend", [TERMS[0], twin])
    fixed = Term(name="late", value=lambda cells: cells["entry"] == 5)
    with pytest.raises(EstimationError, match="`late` are not identified"):
        sums.fit("spend", [TERMS[0], fixed])


def test_terms_that_do_not_fit_the_pass_are_errors(duck) -> None:
    sums = within(panel(), duck, **COLUMNS)
    with pytest.raises(DesignError, match="multiplies `age`"):
        sums.fit("spend", [Term(name="age", column="age")])
    with pytest.raises(DesignError, match="one finite number"):
        sums.fit("spend", [Term(name="since", value=lambda c: c["q"] - c["entry"])])
    with pytest.raises(DesignError, match="`visits` is no outcome"):
        sums.fit("visits", TERMS)
    with pytest.raises(DesignError, match="stands more than once"):
        sums.fit("spend", [TERMS[0], TERMS[0]])


def test_errors_by_unit_of_a_regression_that_came_from_elsewhere(duck) -> None:
    """Cluster effects absorbed beforehand: partialled regressors and offsets go into a recipe."""
    frame = panel()
    x = regressors(frame, periods=True).drop(columns="constant")
    dummies = pd.get_dummies(frame["provider"]).astype(float)
    full = np.column_stack([x, dummies])
    b = np.linalg.lstsq(full, frame["spend"].to_numpy(), rcond=None)[0]
    p = x.shape[1]
    e = frame["spend"].to_numpy() - full @ b
    z = x - x.groupby(frame["provider"]).transform("mean")
    bread = np.linalg.inv(z.T @ z)
    scores = pd.DataFrame(z.to_numpy() * e[:, None]).groupby(frame["person"].to_numpy()).sum()
    expected = bread @ (scores.T.to_numpy() @ scores.to_numpy()) @ bread

    cells = frame[["provider", "q", "entry"]].drop_duplicates().reset_index(drop=True)
    d = is_treated(cells) * 1.0
    design = np.zeros((len(cells), p, 2))
    design[:, 0, 0], design[:, 1, 1], design[:, 2, 1] = d, 1.0, d
    for j, q in enumerate(range(2, 7)):
        design[:, 3 + j, 0] = cells["q"] == q
    means = x.groupby(frame["provider"]).mean().loc[cells["provider"]].to_numpy()
    effects = pd.Series(b[p:], index=dummies.columns).loc[cells["provider"]].to_numpy()
    partialled = design.copy()
    partialled[:, :, 0] -= means
    recipe = Recipe(
        outcome="spend", covariates=("hcc",), unit="person", cluster="provider", period="q",
        cells=cells[["provider", "q"]], design=partialled, offset=effects + means @ b[:p],
        coefficients=b[:p], bread=bread, absorbed=12,
    )  # fmt: skip
    fit = Fit(
        names=tuple(x.columns), coefficients=b[:p], covariance=bread, psi=None, clusters=None,
        df=11.0, recipe=recipe,
    )  # fmt: skip
    found = by_unit(fit, frame, duck, ssc=SSC.none(), buckets=3)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-8, atol=1e-8 * expected.max())
    other = frame.assign(spend=frame["spend"] * 1.1)
    with pytest.raises(EstimationError, match="these are not the rows"):
        by_unit(fit, other, duck)


def test_a_zero_with_a_sign_is_zero(duck) -> None:
    frame = panel(100).assign(q=lambda f: f["q"] - 2.0, dual=lambda f: f["person"] % 2 * 1.0)
    signed = frame.copy()
    for key in ("q", "dual"):
        signed.loc[(frame[key] == 0) & (frame.index % 3 > 0), key] = -0.0
    options = {**COLUMNS, "strata": ["dual"], "buckets": 2}
    want, found = (within(f, duck, **options) for f in (frame, signed))
    np.testing.assert_allclose(found.gram, want.gram, rtol=1e-12)
    pd.testing.assert_frame_equal(found.cells, want.cells)


@pytest.mark.parametrize("name", ["rows", "low0", "some0"])
def test_clusters_have_any_name(duck, name) -> None:
    """The query of attributes calls its own columns so that no column of a table is taken for one."""
    frame = panel()
    want = within(frame, duck, **COLUMNS).fit("spend", TERMS)
    sums = within(frame.rename(columns={"provider": name}), duck, **{**COLUMNS, "cluster": name})
    found = sums.fit("spend", TERMS)
    np.testing.assert_array_equal(found.coefficients, want.coefficients)
    np.testing.assert_array_equal(found.std_error, want.std_error)


def test_a_key_of_the_cells_may_be_named_as_an_attribute(duck) -> None:
    frame = panel().assign(urban=lambda f: f["provider"] < "C06")
    want = within(frame, duck, **COLUMNS, strata=["urban"]).fit("spend", TERMS)
    columns = {**COLUMNS, "attributes": ["entry", "provider", "urban"]}
    found = within(frame, duck, **columns, strata=["urban"])
    assert list(found.cells) == ["provider", "q", "urban", "entry"]
    np.testing.assert_array_equal(found.fit("spend", TERMS).coefficients, want.coefficients)
    own = frame.rename(columns={"provider": "VBC rows"})
    with pytest.raises(DataError, match="`VBC rows` begins with `vbc `"):
        within(own, duck, **{**COLUMNS, "cluster": "VBC rows"})
