"""Matching against all permutations and a naive loop; sets, calipers, ties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.balance.pairing import greedy, mahalanobis, optimal


def test_optimal_is_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(5)
    for trial in range(20):
        cost = rng.uniform(size=(3, 6))
        cost[rng.random((3, 6)) < 0.5] = np.inf
        best = None
        # each treated takes one comparison, or none ("-1")
        for choice in {p[:3] for p in permutations([*range(6), -1, -1, -1], 3)}:
            taken = [(i, j) for i, j in enumerate(choice) if j >= 0]
            total = sum(cost[i, j] for i, j in taken)
            if np.isfinite(total):
                best = min(best or (0, 0.0), (-len(taken), float(total)))
        pairs = optimal(cost, 1)
        assert best is not None
        assert (-int(pairs.sum()), pytest.approx(float(cost[pairs].sum()))) == best, trial
        assert pairs.sum(axis=0).max(initial=0) <= 1


def test_optimal_gives_everyone_a_first_match_before_anyone_a_second() -> None:
    cost = np.array([[0.0, 0.1], [5.0, np.inf]])
    np.testing.assert_array_equal(optimal(cost, 2), [[False, True], [True, False]])


def test_greedy_is_the_loop() -> None:
    rng = np.random.default_rng(6)
    cost = rng.integers(0, 6, (8, 11)).astype(float)  # many ties
    cost[rng.random(cost.shape) < 0.2] = np.inf
    order = rng.permutation(8)
    for replace in (False, True):
        taken: dict[int, list[int]] = {i: [] for i in range(8)}
        used: set[int] = set()
        for _ in range(2):
            for i in order:
                open_to = [
                    (cost[i, j], j) for j in range(11)
                    if np.isfinite(cost[i, j]) and j not in taken[i]
                    and (replace or j not in used)
                ]  # fmt: skip
                if open_to:
                    j = min(open_to)[1]
                    taken[i].append(j)
                    used.add(j)
        pairs = greedy(cost, order, 2, replace=replace)
        assert {i: sorted(np.flatnonzero(pairs[i]).tolist()) for i in range(8)} == {
            i: sorted(js) for i, js in taken.items()
        }


def test_mahalanobis_by_hand() -> None:
    rng = np.random.default_rng(7)
    z, d = rng.standard_normal((30, 3)), np.arange(30) < 12
    pooled = (11 * np.cov(z[d].T) + 17 * np.cov(z[~d].T)) / 28
    gap = z[3] - z[20]
    expected = np.sqrt(gap @ np.linalg.inv(pooled) @ gap)
    np.testing.assert_allclose(mahalanobis(z, d, ~d)[3, 8], expected)
    repeated = np.column_stack([z, z[:, 0]])
    np.testing.assert_allclose(mahalanobis(repeated, d, ~d), mahalanobis(z, d, ~d), rtol=1e-8)


def test_weights_stand_for_the_treated(frame, panel) -> None:
    data = panel(frame, weight="size")
    for options in (
        {}, {"ratio": 2, "caliper": 0.5}, {"replace": True, "ratio": 3, "caliper": None},
        {"method": "optimal", "ratio": 2, "caliper": None}, {"distance": "mahalanobis"},
    ):  # fmt: skip
        weights = vbc.balance.match(data, ["a", "b"], **options)
        d, q = weights.features.treated, weights.features.base
        assert set(np.unique(weights.weight[d])) <= {0.0, 1.0}
        assert weights.weight[~d] @ q[~d] == pytest.approx(weights.weight[d] @ q[d])
        assert weights.step is None
        if weights.sets is None:
            assert options.get("replace")
            continue
        table = pd.DataFrame({"set": weights.sets, "d": d, "w": weights.weight * q})
        table = table[table["set"] >= 0]
        treated, others = (table[table["d"] == x].groupby("set")["w"].sum() for x in (True, False))
        np.testing.assert_allclose(treated, others)
        assert table.groupby("set")["d"].sum().eq(1).all()
        assert (weights.weight[weights.sets < 0] == 0).all()


def test_caliper_and_exact(frame, panel) -> None:
    weights = vbc.balance.match(panel(frame), ["a", "b", "kind"], exact=["kind"], caliper=0.3)
    p, sets = weights.propensity, weights.sets
    score = np.log(p / (1 - p))
    kind = frame.groupby("aco")["kind"].first().to_numpy()
    for s in np.unique(sets[sets >= 0]):
        inside = np.flatnonzero(sets == s)
        assert len(set(kind[inside])) == 1
        assert np.ptp(score[inside]) <= 0.3 * score.std(ddof=1)
    lost = int((weights.weight[weights.features.treated] == 0).sum())
    assert lost > 0
    assert (
        f"{lost} of {weights.features.treated.sum()} treated have no match" in (weights.warnings[0])
    )
    assert weights.summary()["treated_without_match"] == lost
    by_p = vbc.balance.match(panel(frame), ["a", "b"], link="probability", caliper=0.05)
    for s in np.unique(by_p.sets[by_p.sets >= 0]):
        inside = by_p.sets == s
        assert np.ptp(by_p.propensity[inside]) <= 0.05 * by_p.propensity.std(ddof=1)


def test_order_of_rows_never_matters(frame, panel) -> None:
    tied = frame.assign(a=frame["a"].round(), b=0.0)
    for method in ("nearest", "optimal"):
        one = vbc.balance.match(panel(tied), ["a"], method=method, caliper=None)
        other = vbc.balance.match(
            panel(tied.sample(frac=1, random_state=2)), ["a"], method=method, caliper=None
        )
        np.testing.assert_array_equal(one.weight, other.weight)


def test_who_chooses_first(frame, panel) -> None:
    made = [
        vbc.balance.match(panel(frame), ["a", "b"], order=order)
        for order in ("largest", "smallest", "label")
    ]
    assert len({w.weight.tobytes() for w in made}) == 3


def test_panel_of_matched_sets(frame, panel) -> None:
    """Errors by match set: the same estimate, clusters of a treated and its comparison."""
    data = panel(frame, weight="size")
    weights = vbc.balance.match(data, ["a", "b"], ratio=2, caliper=0.5)
    matched = weights.apply(data, by_set=True)
    assert matched.cluster == "match_set"
    assert matched.frame["match_set"].min() >= 0
    assert "positive balance weight" in matched.attrition["step"].iloc[-1]
    design = vbc.Design(outcome="y")
    by_set = vbc.did.GroupTime().fit(matched, design)
    by_aco = vbc.did.GroupTime().fit(data, vbc.Design(outcome="y", balance_weights=weights))
    np.testing.assert_allclose(by_set.estimate, by_aco.estimate, atol=1e-12)
    assert len(by_set.clusters) == len(np.unique(weights.sets)) - 1
    plain = vbc.did.GroupTime().fit(weights.apply(data), design)
    np.testing.assert_allclose(plain.vcov(), by_aco.vcov(), atol=1e-14)
    with pytest.raises(vbc.DesignError, match="makes no match sets"):
        vbc.balance.match(data, ["a"], replace=True).apply(data, by_set=True)
    with pytest.raises(vbc.DesignError, match="these weights are estimated"):
        vbc.balance.entropy(data, ["a"]).apply(data)
    with pytest.raises(vbc.DataError, match="already has `match_set`"):
        weights.apply(panel(frame.assign(match_set=1), weight="size"), by_set=True)
    with pytest.raises(vbc.DataError, match="without a balance weight"):
        weights.apply(panel(frame.assign(aco=frame["aco"] + 1), weight="size"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "full"}, "`method` is 'full'"),
        ({"distance": "gower"}, "`distance` is 'gower'"),
        ({"link": "probit"}, "`link` is 'probit'"),
        ({"order": "random"}, "`order` is 'random'"),
        ({"ratio": 0}, "`ratio` is 0"),
        ({"caliper": 0.0}, "`caliper` is 0.0"),
        ({"method": "optimal", "replace": True}, "without replacement"),
        ({"exact": ["kind"]}, "`exact` names `kind`"),
        ({"exact": "a"}, "give a list"),
        ({"caliper": 1e-9}, "no treated organization has"),
    ],
)
def test_refusals(frame, panel, options, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        vbc.balance.match(panel(frame), ["a", "b"], **options)
