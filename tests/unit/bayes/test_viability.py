"""Contract sizes at which rewards are not luck."""

import numpy as np
import pytest
from scipy import stats

import vbceval as vbc
from vbceval.bayes import SavingsNoise, viability, viable_size

NOISE = SavingsNoise(person_cv=2.0)


def table(n: np.ndarray) -> np.ndarray:
    """A minimum savings rate in steps."""
    return np.select([n < 5_000, n < 20_000], [0.04, 0.03], 0.02)


def test_size_of_a_fixed_threshold_is_the_closed_form() -> None:
    for limit in (0.01, 0.05, 0.2):
        exact = (2.0 * stats.norm.isf(limit) / 0.02) ** 2
        assert viable_size(noise=NOISE, msr=0.02, false_reward=limit) == np.ceil(exact)


def test_size_looks_beyond_every_step_of_a_table() -> None:
    # 0.05 holds just below 20,000 people and again only from 27,056 on
    assert viability([19_999], noise=NOISE, msr=table)["false_reward"].item() < 0.05
    size = viable_size(noise=NOISE, msr=table, false_reward=0.05)
    every = np.arange(1, 60_000)
    chance = viability(every, noise=NOISE, msr=table)["false_reward"].to_numpy()
    assert size == every[chance > 0.05].max() + 1 == 27_056


def test_both_sides_are_kept() -> None:
    size = viable_size(noise=NOISE, msr=0.02, mlr=0.01, false_reward=0.05, false_penalty=0.1)
    alone = viable_size(noise=NOISE, msr=0.02, mlr=0.01, false_penalty=0.1)
    assert size == alone == np.ceil((2.0 * stats.norm.isf(0.1) / 0.01) ** 2)


def test_curve_against_draws() -> None:
    row = viability([8_000], noise=NOISE, msr=0.02, mlr=0.03, true_saving=0.04).iloc[0]
    rng = np.random.default_rng(1)
    none = NOISE.draws([8_000], 200_000, rng)[:, 0]
    some = NOISE.draws([8_000], 200_000, rng, true_saving=0.04)[:, 0]
    seen = [
        (none >= 0.02).mean(),
        (none <= -0.03).mean(),
        (some < 0.02).mean(),
        (some <= -0.03).mean(),
    ]
    asked = row[["false_reward", "false_penalty", "missed_reward", "wrong_penalty"]]
    assert asked.to_numpy(dtype=float) == pytest.approx(seen, abs=4 * 0.5 / np.sqrt(200_000))


def test_requests_that_no_size_meets() -> None:
    with pytest.raises(vbc.DesignError, match="does not fall with size"):
        viable_size(noise=SavingsNoise(person_cv=2.0, icc=0.01), msr=0.02, false_reward=0.05)
    with pytest.raises(vbc.DesignError, match="state the largest accepted chance"):
        viable_size(noise=NOISE, msr=0.02)
    with pytest.raises(vbc.DataError, match=r"chances between 0 and \.5"):
        viable_size(noise=NOISE, msr=0.02, false_reward=0.6)
    with pytest.raises(vbc.DataError, match="without `mlr` nothing is owed"):
        viable_size(noise=NOISE, msr=0.02, false_penalty=0.1)


def test_a_fall_of_the_rate_that_few_sizes_feel_is_not_passed_over() -> None:
    limit = 0.05
    just = 2.0 * stats.norm.isf(limit) / np.sqrt(40_010)  # 40,000 to 40,009 people fail

    def narrow(n: np.ndarray) -> np.ndarray:
        return np.where(n < 40_000, 0.03, just)

    every = np.arange(1, 60_000)
    chance = viability(every, noise=NOISE, msr=narrow)["false_reward"].to_numpy()
    exact = every[chance > limit].max() + 1
    assert 40_009 <= exact <= 40_011
    assert viable_size(noise=NOISE, msr=narrow, false_reward=limit) == exact


def test_large_sizes_and_small_limits() -> None:
    exact = np.ceil((2.0 * stats.norm.isf(0.01) / 0.005) ** 2)  # beyond 200,000
    assert viable_size(noise=NOISE, msr=0.005, false_reward=0.01) == exact > 200_000
    with pytest.raises(vbc.DesignError, match="no size up to 1,000 "):
        viable_size(noise=NOISE, msr=0.02, false_reward=0.05, largest=1_000)
    with pytest.raises(vbc.DataError, match="`largest` is 0"):
        viable_size(noise=NOISE, msr=0.02, false_reward=0.05, largest=0)
    for saving in (3.0, 0.0, -0.02, np.nan):
        with pytest.raises(vbc.DataError, match="fraction of the benchmark between 0 and 1"):
            viability([5_000], noise=NOISE, msr=0.02, true_saving=saving)
