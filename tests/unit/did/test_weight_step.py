"""Effects with estimated balance weights: influence is the derivative by everything."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did.weight_step import with_weight_step
from vbceval.estimates import Estimates

WEIGHTS: dict[str, Callable[[vbc.Panel], Any]] = {
    "entropy": lambda p: vbc.balance.entropy(p, ["a", "b"]),
    "entropy, second moments": lambda p: vbc.balance.entropy(p, ["a"], moments=2),
    "one cohort": lambda p: vbc.balance.entropy(p, ["a", "b"], cohorts=[2013]),
    "logit": lambda p: vbc.balance.propensity(p, ["a", "b"]),
    "logit, all": lambda p: vbc.balance.propensity(p, ["a", "b"], estimand="ate"),
    "cohorts": lambda p: vbc.balance.propensity(p, ["a", "b"], by="cohort"),
    "firth": lambda p: vbc.balance.propensity(p, ["a", "b"], penalty="firth"),
    "overlap": lambda p: vbc.balance.overlap(p, ["a", "b"]),
    "bounded": lambda p: vbc.balance.calibrate(
        p, ["a", "b"], distance="bounded", bounds=(0.01, 9)
    ),
    "outside": lambda p: vbc.balance.calibrate(p, ["a"], totals={"a": 0.1}),
}  # fmt: skip
DERIVATIVES = {
    "GroupTime": vbc.did.GroupTime(), "GroupTime rc": vbc.did.GroupTime(unbalanced="rc"),
    "TWFE": vbc.did.TWFE(), "EventStudy": vbc.did.EventStudy(), "ETWFE": vbc.did.ETWFE(),
    "SunAbraham": vbc.did.SunAbraham(), "Stacked": vbc.did.Stacked(),
    "Switching": vbc.did.Switching(effects=2), "Dose": vbc.did.Dose(dose="dose", knots=0, degree=1, grid=(1.5,)),
    "TripleDifference": vbc.did.TripleDifference(by="dual"), "TwoStage": vbc.did.TwoStage(),
}  # fmt: skip


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 40
    u, t = np.repeat(np.arange(n), 5), np.tile(np.arange(2011, 2016), n)
    a, b = rng.standard_normal(n), rng.standard_normal(n)
    enters = rng.random(n) < 1 / (1 + np.exp(0.3 - 0.5 * a + 0.5 * b))
    entry = np.where(enters, np.where(rng.random(n) < 0.5, 2013.0, 2014.0), np.nan)
    one = pd.DataFrame({
        "aco": u, "year": t, "entry": entry[u], "a": a[u] + 0.1 * rng.standard_normal(len(u)),
        "b": b[u], "w": rng.uniform(1, 3, n)[u], "state": u // 2, "dual": "no",
        "dose": (t >= entry[u]) * (1 + np.abs(a[u])),
        "y": rng.standard_normal(len(u)) + 0.3 * a[u] * (t - 2011),
    })  # fmt: skip
    return pd.concat([one, one.assign(dual="yes", y=one["y"] + rng.standard_normal(len(one)))])


def estimate(
    estimator: Any, frame: pd.DataFrame, make: Callable[[vbc.Panel], Any], **options: Any
) -> Estimates:
    """Fit with weights made from the same rows."""
    crossed = isinstance(estimator, vbc.did.TripleDifference)
    panel = vbc.Panel.from_frame(
        frame if crossed else frame[frame["dual"] == "no"], unit="aco", period="year",
        cohort="entry", weight="w", cluster=options.pop("cluster", None),
        strata=["dual"] if crossed else [],
    )  # fmt: skip
    design = vbc.Design(
        outcome="y", balance_weights=make(panel),
        window=(-2, 1) if isinstance(estimator, vbc.did.Stacked) else None,
    )  # fmt: skip
    fit = type(estimator).fit
    if not hasattr(fit, "__wrapped__"):
        fit = with_weight_step(fit)
    return fit(estimator, panel, design, **options)


def worst_gap(
    estimator: Any, frame: pd.DataFrame, make: Callable[[vbc.Panel], Any], key: str, **options: Any
) -> float:
    """
    Largest gap between influence and the derivative of everything by a cluster's weight.

    Brute force: weights are made and effects are fitted again with the rows of one cluster weighing
    a little more, then a little less.
    """
    psi = estimate(estimator, frame, make, **options).influence()
    h, gaps = 1e-4, []
    for label in list(psi.index)[::14]:
        moved = [
            estimate(
                estimator, frame.assign(w=frame["w"] * np.where(frame[key] == label, 1 + s, 1)),
                make, **options,
            ).estimate
            for s in (h, -h)
        ]  # fmt: skip
        derivative = (moved[0] - moved[1]) / (2 * h)
        gaps.append(np.nanmax(np.abs(derivative - psi.loc[label].to_numpy())))
    return max(gaps) / float(np.abs(psi.to_numpy()).max())


@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_weight(weights, frame) -> None:
    assert worst_gap(vbc.did.GroupTime(), frame, WEIGHTS[weights], "aco") < 1e-8


@pytest.mark.parametrize("estimator", DERIVATIVES)
def test_every_estimator(estimator, frame) -> None:
    """Overlap weights: those of treated organizations are estimated too."""
    assert worst_gap(DERIVATIVES[estimator], frame, WEIGHTS["overlap"], "aco") < 1e-8


def test_units_in_coarser_clusters(frame) -> None:
    """Weights by unit, errors by state: effects are fitted again in each direction."""

    def by_unit(panel: vbc.Panel) -> vbc.balance.BalanceWeights:
        return vbc.balance.entropy(panel, ["a", "b"], level="unit")

    assert worst_gap(vbc.did.TWFE(), frame, by_unit, "state", cluster="state") < 1e-8


def test_averages_carry_the_shares(frame) -> None:
    """Overlap weights move the shares of cohorts; an average inherits that."""

    def simple(data: pd.DataFrame) -> Estimates:
        return estimate(vbc.did.GroupTime(), data, WEIGHTS["overlap"]).aggregate("simple")

    psi = simple(frame).influence()
    h = 1e-4
    for label in (0, 14):
        up, down = (
            simple(frame.assign(w=frame["w"] * np.where(frame["aco"] == label, 1 + s, 1)))
            for s in (h, -h)
        )
        derivative = (up.estimate - down.estimate) / (2 * h)
        np.testing.assert_allclose(psi.loc[label], derivative, atol=1e-8)


def test_imputation_adds_the_step_of_its_twin(frame) -> None:
    """Its own influence is no derivative, but its estimates are those of TwoStage."""
    made = {}
    for name, estimator in (("imputation", vbc.did.Imputation()),
                            ("two stage", vbc.did.TwoStage(leads=False))):  # fmt: skip
        random = estimate(estimator, frame, WEIGHTS["overlap"])
        fixed = estimate(estimator, frame, lambda p: WEIGHTS["overlap"](p).fixed())
        np.testing.assert_array_equal(random.estimate, fixed.estimate)
        made[name] = (random.influence() - fixed.influence().reindex(random.clusters)).to_numpy()
    np.testing.assert_allclose(made["imputation"], made["two stage"], atol=1e-8)
    assert np.abs(made["imputation"]).max() > 1e-3


def test_logit_weights_are_the_inverse_probability_estimator(frame) -> None:
    """Two separate paths to one estimator and one influence; so for tilting."""
    two = frame[frame["year"].isin([2012, 2013]) & (frame["dual"] == "no")]
    two = two[two["entry"] != 2014.0]
    panel = vbc.Panel.from_frame(two, unit="aco", period="year", cohort="entry", weight="w")
    design = vbc.Design(outcome="y", covariates=["a", "b"], comparison="never_treated")
    for weights, method in (
        (vbc.balance.propensity(panel, ["a", "b"]), "ipw"),
        (vbc.balance.propensity(panel, ["a", "b"], method="ipt"), "dr_imp"),
    ):
        direct = vbc.did.GroupTime(method=method).fit(panel, design)
        by_weights = vbc.did.GroupTime().fit(
            panel, vbc.Design(outcome="y", balance_weights=weights)
        )
        np.testing.assert_allclose(by_weights.estimate, direct.estimate, rtol=1e-10)
        np.testing.assert_allclose(
            by_weights.influence().loc[direct.clusters], direct.influence(), atol=1e-11
        )
        np.testing.assert_allclose(by_weights.vcov(), direct.vcov(), rtol=1e-9)


def test_entropy_formula_of_the_treated_mean(frame) -> None:
    """Influence of a balanced difference: residuals of a weighted regression on each side."""
    two = frame[frame["year"].isin([2012, 2013]) & (frame["dual"] == "no")]
    panel = vbc.Panel.from_frame(
        two[two["entry"] != 2014.0], unit="aco", period="year", cohort="entry", weight="w"
    )
    weights = vbc.balance.entropy(panel, ["a", "b"])
    found = weights.features
    est = vbc.did.GroupTime().fit(panel, vbc.Design(outcome="y", balance_weights=weights))
    dy = two.pivot_table(index="aco", columns="year", values="y").loc[found.labels]
    dy = (dy[2013] - dy[2012]).to_numpy()
    d, c, q = found.treated, found.comparison, found.base
    omega = q * weights.weight * c
    x = np.column_stack([np.ones(len(dy)), found.z])
    beta = np.linalg.solve((x * omega[:, None]).T @ x, (x * omega[:, None]).T @ dy)
    mean = q[d] @ found.z[d] / q[d].sum()
    centred = (found.z - mean) @ beta[1:]
    share1, share0 = q * d / q[d].sum(), omega / omega.sum()
    mu1, mu0 = share1 @ dy, share0 @ dy
    by_hand = share1 * ((dy - mu1) - centred) - share0 * ((dy - mu0) - centred)
    psi = est.influence().loc[found.labels].to_numpy()[:, 0]
    np.testing.assert_allclose(psi, by_hand, atol=1e-12)


@pytest.mark.parametrize("vcov", ["CR0", "CR1", "CR2"])
def test_covariances(vcov, frame) -> None:
    estimator = vbc.did.TWFE()
    random = estimate(estimator, frame, WEIGHTS["entropy"], vcov=vcov)
    fixed = estimate(estimator, frame, lambda p: WEIGHTS["entropy"](p).fixed(), vcov=vcov)
    assert list(random.clusters) == list(fixed.clusters)
    through = random.psi - fixed.psi
    scale = 1.0 if vcov == "CR2" else (fixed.psi_vcov / fixed.psi)[np.abs(fixed.psi) > 1e-8].mean()
    np.testing.assert_allclose(random.psi_vcov, fixed.psi_vcov + scale * through, rtol=1e-10)
    assert random.std_error[0] != fixed.std_error[0]
    told = random.meta["design"]["balance_weights"]
    assert told["weights_random"]
    assert not fixed.meta["design"]["balance_weights"]["weights_random"]
    assert told["warnings"]
    assert set(told["warnings"]) <= set(random.meta["warnings"])


@pytest.mark.parametrize("vcov", ["iid", "HC1", "wild"])
def test_covariances_that_cannot_carry_it(vcov, frame) -> None:
    with pytest.raises(vbc.EstimationError, match=r"weights\.fixed"):
        estimate(vbc.did.TWFE(), frame, WEIGHTS["entropy"], vcov=vcov)
    estimate(vbc.did.TWFE(), frame, lambda p: WEIGHTS["entropy"](p).fixed(), vcov=vcov)


def test_an_estimator_that_does_not_carry_it_refuses(frame) -> None:
    panel = vbc.Panel.from_frame(
        frame[frame["dual"] == "no"], unit="aco", period="year", cohort="entry"
    )
    design = vbc.Design(outcome="y", balance_weights=WEIGHTS["entropy"](panel))
    bare = inspect.unwrap(vbc.did.GroupTime.fit)
    with pytest.raises(vbc.EstimationError, match="cannot carry the error"):
        bare(vbc.did.GroupTime(), panel, design)


def test_weights_of_other_clusters_are_refused(frame) -> None:
    """Made where units were clusters, used where they are not: the influence has no place."""
    rows = frame[frame["dual"] == "no"]
    keys = {"unit": "aco", "period": "year", "cohort": "entry"}
    weights = vbc.balance.entropy(vbc.Panel.from_frame(rows, **keys), ["a"], level="unit")
    design = vbc.Design(outcome="y", balance_weights=weights)
    other = vbc.Panel.from_frame(rows.assign(state="s" + rows["state"].astype(str)), **keys,
                                 cluster="state")  # fmt: skip
    with pytest.raises(vbc.EstimationError, match="are not those that the balance weights"):
        vbc.did.GroupTime().fit(other, design)


def test_clusters_outside_the_effect_still_count(frame) -> None:
    """Organizations without the outcome move the weights, so they move the effect."""
    gone = frame.assign(y=frame["y"].where(frame["aco"] != 1))
    est = estimate(vbc.did.GroupTime(), gone, WEIGHTS["logit"])
    assert 1 in est.clusters
    assert np.abs(est.influence().loc[1]).max() > 0
    assert worst_gap(vbc.did.GroupTime(), gone, WEIGHTS["logit"], "aco") < 1e-8


def test_plain_numbers_are_as_before(frame) -> None:
    """The same weights as a mapping give the same estimates, taken as fixed."""
    made = estimate(vbc.did.GroupTime(), frame, lambda p: WEIGHTS["entropy"](p).fixed())
    plain = estimate(vbc.did.GroupTime(), frame, lambda p: dict(WEIGHTS["entropy"](p)))
    np.testing.assert_array_equal(made.estimate, plain.estimate)
    np.testing.assert_array_equal(made.vcov(), plain.vcov())
    assert plain.meta["design"]["balance_weights"] == "given"


def test_error_is_near_the_jackknife(frame) -> None:
    """Leaving organizations out one at a time, weights made again: the same error, roughly."""
    two = frame[frame["year"].isin([2012, 2013]) & (frame["entry"] != 2014.0)]
    est = estimate(vbc.did.GroupTime(), two, WEIGHTS["overlap"])
    labels = list(est.clusters)
    left = np.array([
        estimate(vbc.did.GroupTime(), two[two["aco"] != g], WEIGHTS["overlap"]).estimate[0]
        for g in labels
    ])  # fmt: skip
    jackknife = np.sqrt((len(labels) - 1) / len(labels) * ((left - left.mean()) ** 2).sum())
    assert est.std_error[0] == pytest.approx(jackknife, rel=0.2)


def test_moments_are_enough(frame) -> None:
    """Weights and effects from sums by organization are those from the rows of people."""
    rng = np.random.default_rng(2)
    people = frame.loc[frame["dual"] == "no"].sample(frac=5, replace=True, random_state=1)
    people = people.reset_index(drop=True).assign(id=np.arange(len(people)))
    people["a"] += rng.standard_normal(len(people))
    rows = vbc.Panel.from_frame(
        people, unit="id", period="year", cohort="entry", cluster="aco", weight="w",
        kind="repeated_cross_section",
    )  # fmt: skip
    cells = vbc.Moments.from_panel(rows, outcomes=["y"], covariates=["a", "b"], by="cluster")
    found = []
    for data in (rows, cells):
        weights = vbc.balance.overlap(data, ["a", "b"])
        design = vbc.Design(outcome="y", balance_weights=weights)
        found.append(vbc.did.GroupTime(method="reg").fit(data, design))
    np.testing.assert_allclose(found[0].estimate, found[1].estimate, atol=1e-10)
    np.testing.assert_allclose(
        found[0].influence(), found[1].influence().loc[found[0].clusters], atol=1e-10
    )
