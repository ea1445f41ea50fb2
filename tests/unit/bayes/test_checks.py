"""Gates refuse draws that cannot be trusted, and say why."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

from vbceval.bayes.checks import Limits, convergence_table, require_converged
from vbceval.core.errors import EstimationError


def tree(
    *, shift: float = 0.0, sticky: float = 0.0, divergences: int = 0, energy_step: float = 1.0,
    constant: bool = False,
) -> xr.DataTree:  # fmt: skip
    """Four chains of 1,000 draws of `effect` and a vector `part`, spoiled as asked."""
    rng = np.random.default_rng(5)
    effect = rng.normal(size=(4, 1000))
    for i in range(1, 1000):
        effect[:, i] = sticky * effect[:, i - 1] + np.sqrt(1 - sticky**2) * effect[:, i]
    effect[0] += shift
    part = np.ones((4, 1000, 2)) if constant else rng.normal(size=(4, 1000, 2))
    energy = (
        np.cumsum(rng.normal(size=(4, 1000)), axis=1)
        if energy_step < 1
        else rng.normal(size=(4, 1000))
    )
    diverging = np.zeros((4, 1000), dtype=bool)
    diverging.flat[:divergences] = True
    posterior = xr.Dataset(
        {"effect": (("chain", "draw"), effect), "part": (("chain", "draw", "cohort"), part)},
        coords={"cohort": [2014, 2015]},
    )
    stats = xr.Dataset(
        {"diverging": (("chain", "draw"), diverging), "energy": (("chain", "draw"), energy)}
    )
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def test_good_draws_pass_and_the_worst_values_are_returned() -> None:
    seen = require_converged(tree())
    assert seen.n_quantities == 3
    assert seen.r_hat < 1.01
    assert seen.ess_bulk > 2000
    assert seen.notes == ()


def test_energy_statistic_is_that_of_arviz() -> None:
    import arviz

    data = tree()
    seen = require_converged(data)
    assert seen.bfmi == pytest.approx(float(arviz.bfmi(data)["energy"].min()), rel=5e-3)


@pytest.mark.parametrize(
    ("spoiled", "names", "says"),
    [
        ({"shift": 1.0}, None, r"R-hat up to 1\.\d+ \(`effect`; limit 1\.01, 1 of 3"),
        ({"sticky": 0.995}, ["effect"], r"bulk effective sample size down to \d+ \(`effect`"),
        ({"divergences": 37}, ["part"], r"37 divergences in 4,000 draws"),
        ({"energy_step": 0.0}, ["part"], r"smallest E-BFMI 0\.\d+ \(limit 0\.3\)"),
        ({"constant": True}, None, r"2 quantities never move .*`part\[2014\]`, `part\[2015\]`"),
    ],
)
def test_each_gate_fails_loudly(spoiled, names, says) -> None:
    with pytest.raises(EstimationError, match=says) as caught:
        require_converged(tree(**spoiled), names)
    assert "Remedy: " in str(caught.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(EstimationError) as caught:
        require_converged(tree(shift=3.0, divergences=100, energy_step=0.0))
    for word in ("R-hat", "divergences", "E-BFMI", "target_accept"):
        assert re.search(word, str(caught.value)), word


def test_few_divergences_are_noted() -> None:
    assert "3 of 4,000 draws diverged" in require_converged(tree(divergences=3)).notes[0]


def test_only_named_quantities_are_judged() -> None:
    require_converged(tree(shift=3.0), ["part"])
    require_converged(tree(shift=3.0), None, Limits(r_hat=3.0, ess=1.0))


def test_unknown_name_and_no_names() -> None:
    with pytest.raises(EstimationError, match=r"no variable `tau`; it has `effect`, `part`"):
        convergence_table(tree(), ["tau"])
    assert len(convergence_table(tree(), [])) == 0
