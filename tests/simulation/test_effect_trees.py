"""
Calibration of effects by regression trees: what is drawn from the prior lies evenly in its posterior.

Regime: 30 organizations with correlated errors, two covariates, ten trees; 100 replications in full.
"""

from __future__ import annotations

import pytest

from vbceval.bayes.calibration import uniformity
from vbceval.bayes.trees.calibration import places_of_truth

pytestmark = pytest.mark.slow


def test_ranks_are_uniform(sim_size) -> None:
    pytest.importorskip(
        "stochtree", reason="stochtree is not installed: pip install 'vbceval[trees]'"
    )
    size = sim_size(100, 1)
    if size == 1:
        pytest.skip("100 replications take minutes; set VBCEVAL_SIM=full")
    table = uniformity([places_of_truth(seed) for seed in range(size)]).set_index("quantity")
    # six quantities; 1e-3 each leaves a false alarm below one in a hundred
    assert table["p_value"].min() > 1e-3, table["p_value"].to_string()
    assert table["z"].abs().max() < 4, table["z"].to_string()
