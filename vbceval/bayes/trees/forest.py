"""A sum of regression trees that is sampled by stochtree: the one place that imports it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray


class Shape(NamedTuple):
    """
    Prior of the shape of trees.

    Parameters
    ----------
    trees : int
        Number of trees in the sum.
    split, depth : float
        A node at depth d (the root: 0) is split with probability ``split * (1 + d) ** -depth``.
    smallest_leaf : int
        Fewest organizations in a leaf.
    """

    trees: int
    split: float
    depth: float
    smallest_leaf: int


class Swept(NamedTuple):
    """
    The forest after one sweep over its trees.

    Parameters
    ----------
    fitted : array, shape (n,)
        Sum of trees at the covariates it is sampled with.
    leaves : int
        Leaves of all trees.
    squares : float
        Sum of squares of their values.
    """

    fitted: FloatArray
    leaves: int
    squares: float


class Forest:
    """
    State of the trees of one chain.

    A sweep draws every tree, given the others, from its law under a target with independent normal
    errors of known variance (Chipman, George and McCulloch 2010, Section 3.1); leaf values are
    integrated out when a tree is changed, and drawn afterwards.

    Parameters
    ----------
    x : array, shape (n, q)
        Columns that trees split at a threshold, drawn evenly between the extremes in a node.
    chance : array, shape (q,)
        Prior probability of each column in a split, sum one.
    shape : Shape
        Prior of the shape of trees.
    seed : int
        Seed of the trees.

    Raises
    ------
    EstimationError
        If stochtree is not installed.
    """

    def __init__(self, x: FloatArray, chance: FloatArray, shape: Shape, seed: int) -> None:
        self._tools = tools = library()
        n, q = x.shape
        self._n_columns = q
        self._data = self._dataset(x)
        self._data.add_variance_weights(np.ones(n))
        self._residual = tools.Residual(np.zeros(n))
        self._rng = tools.RNG(seed)
        self._forest = tools.Forest(shape.trees, 1, True, False)
        self._kept = tools.ForestContainer(shape.trees, 1, True, False)
        self._global = tools.GlobalModelConfig(global_error_variance=1.0)
        self._config = tools.ForestModelConfig(
            num_trees=shape.trees, num_features=q, num_observations=n,
            feature_types=np.zeros(q, dtype=int), variable_weights=np.array(chance, dtype=float),
            alpha=shape.split, beta=shape.depth, min_samples_leaf=shape.smallest_leaf,
            max_depth=-1, leaf_model_scale=1.0 / shape.trees,
        )  # fmt: skip
        self._sampler = tools.ForestSampler(self._data, self._global, self._config)
        self._sampler.prepare_for_sampler(
            self._data, self._residual, self._forest, 0, np.array([0.0])
        )
        self.fitted = np.zeros(n)

    def sweep(self, target: FloatArray, variance: FloatArray, leaf_variance: float) -> Swept:
        """
        Draw every tree once.

        Parameters
        ----------
        target : array, shape (n,)
            What the trees are to explain.
        variance : array, shape (n,)
            Variance of its independent errors.
        leaf_variance : float
            Prior variance of the value of a leaf.
        """
        self._residual.update_data(np.ascontiguousarray(target - self.fitted))
        self._data.update_variance_weights(np.ascontiguousarray(variance))
        self._config.update_leaf_model_scale(float(leaf_variance))
        # leaf values can be summed only of a forest that is kept; it is let go at once
        self._sampler.sample_one_iteration(
            self._kept, self._forest, self._data, self._residual, self._rng, self._global,
            self._config, True, False,
        )  # fmt: skip
        leaves, squares = self._kept.num_forest_leaves(0), self._kept.sum_leaves_squared(0)
        self._kept.delete_sample(0)
        self.fitted = self._at(self._data)
        return Swept(self.fitted, int(leaves), float(squares))

    def rescale(self, factor: float) -> None:
        """Multiply the values of all leaves by a positive number."""
        self._forest.multiply_constant(float(factor))
        # the sampler remembers what each tree says of each organization
        self._sampler.reconstitute_from_forest(self._forest, self._data, self._residual, True)
        self.fitted = factor * self.fitted

    def splits(self) -> FloatArray:
        """Return how many splits are at each column, shape (q,)."""
        return np.asarray(self._forest.get_overall_split_counts(self._n_columns), dtype=float)

    def places(self, x: FloatArray) -> Any:
        """Return columns, shape (m, q), in the form that `predict` reads."""
        return self._dataset(x)

    def predict(self, places: Any) -> FloatArray:
        """Return the sum of trees at other places, shape (m,)."""
        return self._at(places)

    def _at(self, data: Any) -> FloatArray:
        return np.asarray(self._forest.predict(data), dtype=float).ravel()

    def _dataset(self, x: FloatArray) -> Any:
        data = self._tools.Dataset()
        data.add_covariates(np.ascontiguousarray(x, dtype=float))
        return data


def library() -> Any:
    """
    Return stochtree.

    Raises
    ------
    EstimationError
        If it is not installed.
    """
    try:
        import stochtree
    except ImportError as error:
        raise EstimationError(
            "effects by regression trees are sampled by stochtree, which is not installed. Run "
            "pip install 'vbceval[trees]'."
        ) from error
    return stochtree
