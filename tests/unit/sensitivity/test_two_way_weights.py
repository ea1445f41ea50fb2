"""What two-way fixed effects average: against regressions with all dummies, and identities."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import vbceval as vbc
from vbceval.core.errors import DesignError
from vbceval.sensitivity import bacon, twfe_weights


def frame(seed: int, *, always: bool = True, gaps: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    entry = [2013.0] * (2 * always) + [2015.0] * 4 + [2016.0] * 3 + [2018.0] * 2 + [np.nan] * 5
    rows = pd.DataFrame([
        {"aco": f"a{i}", "year": t, "entry": g, "size": 50.0 + 7 * i}
        for i, g in enumerate(entry) for t in range(2013, 2019)
    ])  # fmt: skip
    rows["hcc"] = rng.normal(size=len(rows)) + 0.2 * (rows["year"] >= rows["entry"])
    rows["spend"] = rng.normal(size=len(rows)) * 3 + 2 * rows["hcc"] + 0.5 * rows["year"] % 7
    if gaps:
        rows = rows.drop(rng.choice(len(rows), 9, replace=False))
    return rows.sample(frac=1, random_state=seed)


def panel(rows: pd.DataFrame, **options: object) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry", **options)  # type: ignore[arg-type]  # column names


def weighted_fit(y: np.ndarray, columns: np.ndarray, w: np.ndarray) -> np.ndarray:
    root = np.sqrt(w)
    return np.asarray(np.linalg.lstsq(root[:, None] * columns, root * y, rcond=None)[0])


def dummies(rows: pd.DataFrame, extra: list[str]) -> np.ndarray:
    d = (rows["year"] >= rows["entry"]).to_numpy(dtype=float)
    effects = pd.get_dummies(rows[["aco", "year"]].astype(str), dtype=float).to_numpy()
    return np.column_stack([d, rows[extra].to_numpy(dtype=float), effects])


@pytest.mark.parametrize("weight", [None, "size"])
def test_each_comparison_is_the_regression_on_its_two_cohorts(weight: str | None) -> None:
    rows = frame(1)
    found = bacon(panel(rows, weight=weight), vbc.Design(outcome="spend"))
    assert len(found.comparisons) == 3 + 3 + 3 + 3
    for row in found.comparisons.itertuples():
        group = rows["entry"].where(rows["entry"] > 2013, -np.inf).where(rows["entry"].notna())
        treated = group == row.cohort
        other = group.isna() if np.isnan(row.comparison_cohort) else group == row.comparison_cohort
        two = rows[treated | other]
        if row.comparison == "earlier_vs_later":
            two = two[two["year"] < row.comparison_cohort]
        elif row.comparison in ("later_vs_earlier", "treated_vs_always"):
            two = two[two["year"] >= row.comparison_cohort]
            # the earlier cohort stays treated and is the comparison
            two = two.assign(entry=two["entry"].where(two["entry"] == row.cohort))
        w = np.ones(len(two)) if weight is None else two[weight].to_numpy(dtype=float)
        beta = weighted_fit(two["spend"].to_numpy(), dummies(two, []), w)[0]
        assert row.estimate == pytest.approx(beta, abs=1e-9)


@pytest.mark.parametrize("weight", [None, "size"])
@pytest.mark.parametrize("covariates", [[], ["hcc"]])
def test_the_parts_add_up_to_the_regression(weight: str | None, covariates: list[str]) -> None:
    rows = frame(2)
    design = vbc.Design(outcome="spend", covariates=covariates)
    found = bacon(panel(rows, weight=weight), design)
    w = np.ones(len(rows)) if weight is None else rows[weight].to_numpy(dtype=float)
    beta = weighted_fit(rows["spend"].to_numpy(), dummies(rows, covariates), w)[0]
    parts = found.comparisons
    assert parts["weight"].sum() == pytest.approx(1, abs=1e-12)
    assert parts["weight"] @ parts["estimate"] == pytest.approx(beta, abs=1e-10)
    assert found.estimate == pytest.approx(beta, abs=1e-10)
    assert found.summary()["weight"].sum() == pytest.approx(1)
    if not covariates:
        fitted = vbc.did.TWFE().fit(panel(rows, weight=weight), design)
        assert found.estimate == pytest.approx(fitted.estimate[0], abs=1e-10)


def test_entry_between_periods_counts_from_the_next_one() -> None:
    rows = frame(3, always=False)
    moved = rows.assign(entry=rows["entry"] - 0.5)
    design = vbc.Design(outcome="spend")
    pd.testing.assert_frame_equal(
        bacon(panel(rows), design).comparisons, bacon(panel(moved), design).comparisons
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.drop(r.index[3]), "15 of 16 units"),
        (lambda r: r.assign(size=r["size"] + (r["year"] == 2014)), "16 of 16 units"),
        (lambda r: r.assign(entry=2015.0), "no unit changes treatment"),
    ],
)
def test_bacon_says_what_is_missing(change: object, message: str) -> None:
    rows = change(frame(4))  # type: ignore[operator]  # a function of the table
    with pytest.raises(DesignError, match=message):
        bacon(panel(rows, weight="size"), vbc.Design(outcome="spend"))


def test_small_cohorts_of_people_are_not_weighed() -> None:
    with pytest.raises(DesignError, match="5 cohorts have fewer than 11 people"):
        bacon(panel(frame(5), people=True), vbc.Design(outcome="spend"))
    with pytest.raises(DesignError, match="5 cohorts have fewer than 11 people"):
        twfe_weights(panel(frame(5), people=True), vbc.Design(outcome="spend"))


def test_a_decomposition_says_of_what() -> None:
    for covariates in ([], ["hcc"]):
        design = vbc.Design(outcome="spend", unit_of_measure="USD", covariates=covariates)
        found = bacon(panel(frame(5)), design)
        assert (found.outcome, found.unit_of_measure) == ("spend", "USD")


@pytest.mark.parametrize("seed", range(4))
def test_treatment_weights_are_those_of_the_regression(seed: int) -> None:
    rows = frame(seed, gaps=True)
    design = vbc.Design(outcome="spend", covariates=["hcc"])
    found = twfe_weights(panel(rows, weight="size"), design)
    w = rows["size"].to_numpy(dtype=float)
    columns = dummies(rows, ["hcc"])
    beta = weighted_fit(rows["spend"].to_numpy(), columns, w)[0]
    assert found.estimate == pytest.approx(beta, abs=1e-10)
    d = columns[:, 0]
    residual = d - columns[:, 1:] @ weighted_fit(d, columns[:, 1:], w)
    expected = (rows.assign(v=w * residual)[d == 1]).groupby(["entry", "year"])["v"].sum()
    np.testing.assert_allclose(found.cells["weight"], expected / expected.sum(), atol=1e-10)
    cell = (w * residual)[d == 1] / expected.sum()
    assert found.n_negative == int((cell < 0).sum())
    assert found.negative == pytest.approx(cell[cell < 0].sum(), abs=1e-10)
    assert found.positive + found.negative == pytest.approx(1)


def test_effects_that_differ_less_than_the_breakdown_cannot_mislead() -> None:
    """The bounds are the smallest standard deviations, found again by a numeric search."""
    found = twfe_weights(panel(frame(1)), vbc.Design(outcome="spend"), level="cohort")
    weight, share = (found.cells[k].to_numpy() for k in ("weight", "share"))
    sign = np.sign(found.estimate)
    assert found.n_negative > 0

    def smallest(*, opposite: bool) -> float:
        limit = {"type": "eq", "fun": lambda e: weight @ e - abs(found.estimate)}
        mean = {"type": "eq", "fun": lambda e: share @ e}
        best = np.inf
        for seed in range(8):
            start = np.random.default_rng(seed).normal(size=len(weight)) * 3
            answer = minimize(
                lambda e: share @ (e - share @ e) ** 2, start, method="SLSQP",
                bounds=[(None, 0.0)] * len(weight) if opposite else None,
                constraints=[limit] if opposite else [limit, mean],
                options={"maxiter": 2000, "ftol": 1e-15},
            )  # fmt: skip
            if answer.success:
                best = min(best, float(np.sqrt(answer.fun)))
        return best

    assert sign != 0
    assert found.zero_effect_sd == pytest.approx(smallest(opposite=False), rel=1e-5)
    assert found.opposite_sign_sd == pytest.approx(smallest(opposite=True), rel=1e-4)


def test_without_staggering_no_weight_is_negative() -> None:
    rows = frame(6, always=False)
    rows = rows[rows["entry"].isna() | (rows["entry"] == 2015)]
    found = twfe_weights(panel(rows), vbc.Design(outcome="spend"))
    assert found.n_negative == 0
    assert np.isinf(found.opposite_sign_sd)
    np.testing.assert_allclose(found.cells["weight"], found.cells["share"])


def test_rows_and_labels_in_another_order_change_nothing() -> None:
    rows = frame(7)
    names = dict(zip(sorted(rows["aco"].unique()), [f"z{i}" for i in range(99)], strict=False))
    other = rows.iloc[::-1].assign(aco=rows["aco"].map(names))
    design = vbc.Design(outcome="spend")
    for one, two in permutations((rows, other)):
        np.testing.assert_allclose(
            bacon(panel(one), design).comparisons["weight"],
            bacon(panel(two), design).comparisons["weight"],
        )
        assert twfe_weights(panel(one), design).negative == pytest.approx(
            twfe_weights(panel(two), design).negative
        )
