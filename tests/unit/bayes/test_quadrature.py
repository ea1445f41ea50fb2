"""Nodes of variance parameters where the posterior is wide on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from scipy import special

from vbceval.bayes.quadrature import Start, integrate
from vbceval.core.typing import BoolArray, FloatArray

TILT = 4.0


class At(NamedTuple):
    """What is known at a point."""

    log_density: float


class Skewed:
    """
    Independent coordinates u = root^-1 z with density 2 normal(u) Phi(-TILT u).

    Of the shape of the log of a small standard deviation: as wide as the prior towards zero, with an
    edge on the other side.
    """

    def __init__(self, root: FloatArray) -> None:
        self.root = root
        self.names: Sequence[str] = [f"z{k}" for k in range(len(root))]
        self.costly: BoolArray = np.arange(len(root)) < 2

    def __call__(self, points: FloatArray) -> Sequence[At]:
        u = np.linalg.solve(self.root, points.T).T
        value = (-0.5 * u**2 + special.log_ndtr(-TILT * u)).sum(axis=1)
        return [At(float(x)) for x in value]


def cdf(u: float) -> float:
    """Distribution function of one coordinate, by Owen's T."""
    return float(special.ndtr(u) + 2 * special.owens_t(u, TILT))


@pytest.mark.parametrize("each", [1, 4])
def test_the_wide_side_of_a_skewed_posterior_has_its_mass(each: int) -> None:
    root = np.array([[1.0, 0.0, 0.0], [0.4, 0.9, 0.0], [-0.3, 0.2, 0.8]])
    law = Skewed(root)
    start = Start(np.full(3, -0.3), np.eye(3))
    errors, worth = [], []
    for seed in range(8):
        nodes, seen = integrate(law, start, families=256, each=each, seed=seed)
        assert seen.passes == 1
        worth.append(seen.node_ess)
        u = np.linalg.solve(root, nodes.points.T).T
        errors.append([nodes.weights @ (u < at) - cdf(at) for at in (-2.5, -2.0, -1.0, 0.0, 0.3)])
    # the mass of the far side, .012, is there; a law of one width misses it or overstates it by .03
    # and more, and its nodes are worth a third less
    off = np.array(errors)
    assert np.abs(off[:, 0]).max() < 0.02
    assert np.abs(off.mean(axis=0)).max() < 0.01
    assert np.mean(worth) > 140


class Arms:
    """
    Two standard deviations exp(z) of which the data know the sum of squares, sharply, and a third.

    Of the shape of shocks and an uncertain spread of persons in cells of one size: as wide as the
    prior along both arms of a bend.
    """

    names: Sequence[str] = ("one", "other", "third")
    costly: BoolArray = np.array([True, True, True])

    def __call__(self, points: FloatArray) -> Sequence[At]:
        apart = np.logaddexp(2 * points[:, 0], 2 * points[:, 1]) / SHARP
        value = -0.5 * (np.square(points).sum(axis=1) + apart**2)
        return [At(float(x)) for x in value]


SHARP = 0.4


def test_a_posterior_with_two_arms_is_reached_by_laws_about_groups_of_nodes() -> None:
    # by a fine grid: share of mass far along an arm, and mean of the smaller coordinate
    grid = np.linspace(-6, 1, 1201)
    one, other = np.meshgrid(grid, grid, indexing="ij")
    log = -0.5 * (one**2 + other**2 + (np.logaddexp(2 * one, 2 * other) / SHARP) ** 2)
    mass = np.exp(log - log.max())
    mass /= mass.sum()
    least = np.minimum(one, other)
    truth = np.array([(mass * (least < -2)).sum(), (mass * least).sum(), (mass * one).sum()])
    errors, passes = [], []
    for seed in range(12):
        nodes, seen = integrate(
            Arms(), Start(np.zeros(3), np.eye(3)), families=256, each=1, seed=seed, k_hat=0.5
        )
        passes.append(seen.passes)
        lower = nodes.points[:, :2].min(axis=1)
        found = [
            nodes.weights @ (lower < -2),
            nodes.weights @ lower,
            nodes.weights @ nodes.points[:, 0],
        ]
        errors.append(np.array(found) - truth)
    # with laws about one centre alone two of the first eight seeds have no result
    assert max(passes) >= 3
    off = np.array(errors)
    assert (np.abs(off.mean(axis=0)) < 3 * off.std(axis=0, ddof=1) / 12**0.5 + 0.005).all()
    assert (off.std(axis=0) < (0.02, 0.05, 0.05)).all(), off.std(axis=0)
