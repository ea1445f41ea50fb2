"""Draws of a two-part model with names, and the groups of its tree that ArviZ reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.draws import DIMS
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates

_CELLS = ("posterior_predictive", "prior_predictive", "observed_data", "constant_data")
_OUTCOMES = ("events", "y")


def drawn(posterior: Estimates, name: str, cells: Cells, group: str) -> FloatArray:
    """
    Return draws of a variable by effect, (N, J), in the order of the effects of spending.

    Parameters
    ----------
    posterior : Estimates
        Of a part, which has every effect that spending has.
    name, group : str
        Variable, and the group of the tree that holds it.
    cells : Cells
        Of spending.
    """
    found = posterior.to_arviz()[group]
    have = {str(x): k for k, x in enumerate(found["effect_cell"].values)}
    values = np.asarray(found[name].values, dtype=float)
    values = values.reshape(-1, values.shape[-1])
    return np.asarray(values[:, [have[x] for x in cells.coords["effect_cell"]]])


def named_draws(
    changes: Mapping[str, FloatArray], averages: FloatArray, cells: Cells, shape: tuple[int, int]
) -> Any:
    """
    Return draws of changes and of their averages as a data set.

    Parameters
    ----------
    changes : mapping of part to array, shape (N, J)
        Percent of baseline.
    averages : array, shape (N, k)
        Rows of the result.
    cells : Cells
        Of spending.
    shape : tuple of int
        Chains and draws of each.
    """
    import xarray

    by_effect = {
        name: ((*DIMS, "effect_cell"), x.reshape(*shape, -1)) for name, x in changes.items()
    }
    average = ((*DIMS, "row"), averages.reshape(*shape, -1))
    coords = {"effect_cell": cells.coords["effect_cell"]}
    return xarray.Dataset({**by_effect, "average": average}, coords=coords)


def joint_tree(groups: Mapping[str, Any], **parts: Any) -> Any:
    """
    Return the tree of both parts.

    Given the parameters parts are independent, so that the likelihood of an organization is the
    product of theirs.

    Parameters
    ----------
    groups : mapping of str to Dataset
        Groups that are there.
    **parts : DataTree
        Trees of the parts, which have as many chains and draws.
    """
    import xarray

    both = [tree["log_likelihood"]["cells"] for tree in parts.values()]
    aligned = xarray.align(*both, join="outer", fill_value=0.0)
    found = {
        **groups,
        "log_likelihood": xarray.Dataset({"cells": sum(aligned)}),
        "log_prior": xarray.Dataset(
            {part: tree["log_prior"]["effect"] for part, tree in parts.items()}
        ),
    }
    for group in _CELLS:
        renamed = [_renamed(tree[group].to_dataset(), part) for part, tree in parts.items()]
        found[group] = xarray.merge(renamed)
    return xarray.DataTree.from_dict(found)


def _renamed(dataset: Any, part: str) -> Any:
    """Return a data set with the outcome under the name of the part, all else with it in front."""
    names = [str(x) for x in (*dataset.data_vars, *dataset.dims) if x not in DIMS]
    own = {x: part if x in _OUTCOMES else f"{part}_{x}" for x in names}
    if "size" in own:
        # rates of counts are given beside the counts, which are the outcome
        own["y"] = f"{part}_rate"
    return dataset.rename(own)
