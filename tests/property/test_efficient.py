"""Efficient averages against their definition, written out by unit, and against GroupTime."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

KEYS = {"unit": "unit", "period": "period", "cohort": "cohort"}
COHORTS = (2.0, 3.0, 4.0, np.nan)


def draw(make_frame, seed: int, **options) -> pd.DataFrame:
    return make_frame(seed, **{"units": 60, "periods": 6, "cohorts": COHORTS, **options})


def fit(frame: pd.DataFrame, design: dict | None = None, vcov: str = "adjusted", **options):
    panel = vbc.Panel.from_frame(frame, **KEYS)
    design = {"outcome": "y", **(design or {})}
    return vbc.did.Efficient(**options).fit(panel, vbc.Design(**design), vcov=vcov)


def written_out(frame: pd.DataFrame, pairs: dict, *, last_only: bool, beta: float | None) -> dict:
    """
    One average by loops: difference at t and at the base of every pair, unit by unit.

    ``pairs`` maps (g, t) to its weight.
    """
    wide = frame.pivot_table(index="unit", columns="period", values="y")
    cohort = frame.groupby("unit")["cohort"].first().fillna(np.inf)
    after, before = pd.Series(0.0, wide.index), pd.Series(0.0, wide.index)
    later, earlier = pd.Series(0.0, wide.index), pd.Series(0.0, wide.index)
    effect = np.zeros((len(wide), wide.shape[1]))
    for (g, t), weight in pairs.items():
        own, rest = cohort == g, cohort > max(g, t)
        if last_only:
            rest &= cohort == cohort.max()
        for mask, sign in ((own, 1.0), (rest, -1.0)):
            share = sign * weight * mask / mask.sum()
            later += share * wide[t]
            after += share
            if g - 1 in wide.columns:
                earlier += share * wide[g - 1]
                before += share
            effect[:, list(wide.columns).index(t)] += share

    def centred(values: pd.Series) -> np.ndarray:
        # a unit's contribution around its cohort, with root n / (n - 1)
        groups = values.groupby(cohort)
        size = groups.transform("size")
        return ((values - groups.transform("mean")) * np.sqrt(size / (size - 1))).to_numpy()

    theta, x = centred(later), centred(earlier)
    if beta is None:
        beta = (theta @ x) / (x @ x)
    neyman = np.sum((theta - beta * x) ** 2)
    first = min(g for g, _ in pairs)
    columns = [t for t in wide.columns if t < first]
    explained = 0.0
    if columns:
        slopes, covariances = np.zeros(len(columns)), []
        for g in sorted(cohort.unique()):
            if g < first:
                continue
            rows = (cohort == g).to_numpy()
            s = np.cov(wide[rows].to_numpy().T)
            k = len(columns)
            weights = effect[rows].sum(axis=0)
            slopes += np.linalg.solve(s[:k, :k], s[:k] @ weights)
            covariances.append(s[:k, :k])
        explained = slopes @ np.mean(covariances, axis=0) @ slopes / len(wide)
    return {
        "estimate": later.sum() - beta * earlier.sum(),
        "neyman": np.sqrt(neyman),
        "adjusted": np.sqrt(neyman - explained),
        "beta": beta,
    }


def pairs_of(frame: pd.DataFrame, kind: str) -> dict:
    size = frame.groupby("unit")["cohort"].first().value_counts()
    found = {(g, t): float(n) for g, n in size.items() for t in range(6) if t >= g}
    if kind == "event_time":
        found = {key: n for key, n in found.items() if key[1] - key[0] == 1}
    total = sum(found.values())
    return {key: n / total for key, n in found.items()}


@pytest.mark.parametrize("beta", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("kind", ["simple", "event_time"])
def test_written_out(make_frame, beta, last_only, kind) -> None:
    frame = draw(make_frame, 41)
    expected = written_out(frame, pairs_of(frame, kind), last_only=last_only, beta=beta)
    design = {"comparison": "never_treated" if last_only else "not_yet_treated"}
    if kind == "event_time":
        design["window"] = (1, 1)
    found = fit(frame, design, estimand=kind, beta="efficient" if beta is None else beta)
    row = found.frame.iloc[0]
    assert row["estimate"] == pytest.approx(expected["estimate"], abs=1e-11)
    assert row["std_error_neyman"] == pytest.approx(expected["neyman"], rel=1e-10)
    assert found.std_error[0] == pytest.approx(expected["adjusted"], rel=1e-9)
    assert row["beta"] == pytest.approx(expected["beta"], rel=1e-9, abs=1e-12)
    plain = fit(frame, design, vcov="neyman", estimand=kind,
                beta="efficient" if beta is None else beta)  # fmt: skip
    assert plain.std_error[0] == pytest.approx(expected["neyman"], rel=1e-10)


@pytest.mark.parametrize("comparison", ["not_yet_treated", "never_treated"])
def test_beta_one_is_group_time(make_frame, comparison) -> None:
    frame = draw(make_frame, 42)
    panel = vbc.Panel.from_frame(frame, **KEYS)
    direct = vbc.did.GroupTime(method="reg").fit(
        panel, vbc.Design(outcome="y", comparison=comparison), vcov="CR0"
    )
    kinds = ("simple", "cohort", "period", "event_time")
    found = fit(frame, {"comparison": comparison}, vcov="CR0", beta=1.0, estimand=kinds)
    for kind in kinds:
        average = direct.aggregate(kind, weights_random=False)
        keep = average.frame["event_time"].fillna(0) >= 0
        part = found.where(average=kind)
        np.testing.assert_allclose(part.estimate, average.estimate[keep], atol=1e-11)
        # several comparison cohorts: here each is centred at its own mean, there at their common one
        same = 1e-10 if comparison == "never_treated" else 5e-3
        np.testing.assert_allclose(part.std_error, average.std_error[keep], rtol=same)


def test_group_time_rows_and_placebos(make_frame) -> None:
    frame = draw(make_frame, 43)
    panel = vbc.Panel.from_frame(frame, **KEYS)
    design = vbc.Design(outcome="y", base_period="universal")
    direct = vbc.did.GroupTime(method="reg").fit(panel, design, vcov="CR0")
    found = fit(frame, {"window": (-9, 9)}, vcov="CR0", beta=1, estimand="group_time")
    pairs = direct.frame.merge(found.frame, on=["cohort", "period"], suffixes=("", "_found"))
    # before entry the comparison here is with those who enter after the cohort, as after it
    after = pairs["event_time"] >= 0
    assert after.sum() == 9
    np.testing.assert_allclose(
        pairs.loc[after, "estimate_found"], pairs.loc[after, "estimate"], atol=1e-12
    )
    base = found.where(event_time=-1)
    np.testing.assert_allclose(base.estimate, 0.0, atol=1e-12)


def test_clusters_above_the_unit(make_frame) -> None:
    """Units in a cluster move together: doubling each unit changes nothing."""
    frame = draw(make_frame, 44)
    twice = pd.concat([frame, frame.assign(unit=frame["unit"] + "'")], ignore_index=True)
    panel = vbc.Panel.from_frame(twice, **{**KEYS, "cluster": "cluster"})
    for vcov in ("neyman", "CR0", "adjusted"):
        one = fit(frame, vcov=vcov)
        two = vbc.did.Efficient().fit(panel, vbc.Design(outcome="y"), vcov=vcov)
        np.testing.assert_allclose(two.estimate, one.estimate, atol=1e-11)
        np.testing.assert_allclose(two.std_error, one.std_error, rtol=1e-8)


def test_levels_and_units_of_measure(make_frame) -> None:
    frame = draw(make_frame, 45)
    one = fit(frame)
    moved = fit(frame.assign(y=-3.0 * frame["y"] + np.array([0, 5, -2, 9, 1, 4])[frame["period"]]))
    np.testing.assert_allclose(moved.estimate, -3.0 * one.estimate, atol=1e-9)
    np.testing.assert_allclose(moved.std_error, 3.0 * one.std_error, rtol=1e-8)
    shuffled = fit(frame.sample(frac=1.0, random_state=3))
    np.testing.assert_allclose(shuffled.estimate, one.estimate, atol=1e-12)
    np.testing.assert_allclose(shuffled.std_error, one.std_error, rtol=1e-10)


def test_strata_are_fitted_alone_and_jointly(make_frame) -> None:
    frame = draw(make_frame, 46, units=160)
    panel = vbc.Panel.from_frame(frame, **KEYS, strata=["site"])
    found = vbc.did.Efficient(estimand="simple").fit(panel, vbc.Design(outcome="y"))
    alone = fit(frame[frame["site"] == "north"], estimand="simple")
    part = found.where(stratum="site=north")
    assert part.estimate.item() == pytest.approx(alone.estimate.item(), abs=1e-12)
    assert part.std_error.item() == pytest.approx(alone.std_error.item(), rel=1e-10)
    gap = found.contrast({"gap": {"stratum == 'site=north'": 1, "stratum == 'site=south'": -1}})
    assert gap.std_error.item() == pytest.approx(np.hypot(*found.by("site").std_error), rel=1e-10)


def test_many_contrasts_before_entry_lower_the_variance_by_projection(make_frame) -> None:
    """With before='all' the adjustment is a regression on every cohort's earlier differences."""
    frame = draw(make_frame, 47, units=400)
    one = fit(frame, vcov="neyman", estimand="simple")
    many = fit(frame, vcov="neyman", estimand="simple", before="all")
    none = fit(frame, vcov="neyman", estimand="simple", beta=0.0)
    assert many.std_error.item() < one.std_error.item() < none.std_error.item()
    assert np.isnan(many.frame["beta"].item())


def test_permutations_are_exact_where_nothing_happens() -> None:
    """The randomization p-value counts the data at hand, and follows the seed."""
    rng = np.random.default_rng(7)
    u, t = np.repeat(np.arange(24), 4), np.tile(np.arange(4), 24)
    frame = pd.DataFrame({
        "unit": u, "period": t, "cohort": np.array([2.0, 3.0, np.nan])[u % 3],
        "y": rng.standard_normal(24)[u] + rng.standard_normal(96),
    })  # fmt: skip
    found = fit(frame, estimand="simple", permutations=99, seed=3)
    again = fit(frame, estimand="simple", permutations=99, seed=3)
    p = found.frame["fisher_p_value"].item()
    assert p == again.frame["fisher_p_value"].item()
    assert (p * 100) == pytest.approx(round(p * 100))
    strong = frame.assign(y=frame["y"] + 50.0 * (frame["period"] >= frame["cohort"]))
    assert fit(strong, estimand="simple", permutations=99).frame[
        "fisher_p_value"
    ].item() == pytest.approx(0.01)


def test_small_sample_factors(make_frame) -> None:
    frame = draw(make_frame, 48)
    panel, design = vbc.Panel.from_frame(frame, **KEYS), vbc.Design(outcome="y")
    none = vbc.did.Efficient().fit(panel, design, vcov="CR0")
    one = vbc.did.Efficient().fit(panel, design, vcov="CR1")
    np.testing.assert_allclose(one.vcov(), none.vcov() * 60 / 59, rtol=1e-10)
    assert set(one.frame["df"]) == {59.0}
    with pytest.raises(vbc.EstimationError, match="takes no other factor"):
        vbc.did.Efficient().fit(panel, design, ssc=SSC.cluster())
