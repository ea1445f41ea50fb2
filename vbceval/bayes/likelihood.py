"""The likelihood of cells as one operation with its derivative, for PyTensor and Numba."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from vbceval.bayes.cells import Cells
from vbceval.bayes.marginal import compiled
from vbceval.core.typing import FloatArray, IntArray


def _subtract_mean(
    period: FloatArray, slope: FloatArray, effect: FloatArray, y: FloatArray, x: FloatArray,
    stratum: IntArray, time: IntArray, effect_of_cell: IntArray,
) -> FloatArray:  # fmt: skip
    """Return y minus period effect, slopes times covariates and treatment effect, (K,)."""
    residual = np.empty_like(y)
    for i in range(len(y)):
        value = y[i] - period[stratum[i], time[i]]
        if effect_of_cell[i] >= 0:
            value -= effect[effect_of_cell[i]]
        for j in range(x.shape[1]):
            value -= slope[j, time[i]] * x[i, j]
        residual[i] = value
    return residual


def _collect(
    score: FloatArray, period: FloatArray, slope: FloatArray, effect: FloatArray, x: FloatArray,
    stratum: IntArray, time: IntArray, effect_of_cell: IntArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Return derivatives by period effects, slopes and treatment effects from those by eta."""
    d_period, d_slope = np.zeros_like(period), np.zeros_like(slope)
    d_effect = np.zeros_like(effect)
    for i in range(len(score)):
        d_period[stratum[i], time[i]] += score[i]
        if effect_of_cell[i] >= 0:
            d_effect[effect_of_cell[i]] += score[i]
        for j in range(x.shape[1]):
            d_slope[j, time[i]] += score[i] * x[i, j]
    return d_period, d_slope, d_effect


def residuals(
    cells: Cells, period: FloatArray, slope: FloatArray, effect: FloatArray
) -> FloatArray:
    """
    Return the cells minus their mean, up to the intercept of their block, (K,).

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    period : array, shape (S, T)
        Period effects, percent of baseline.
    slope : array, shape (p, T)
        Slopes on covariates.
    effect : array, shape (J,)
        Treatment effects.
    """
    mean = period[cells.stratum, cells.period] + np.append(effect, 0.0)[cells.effect_of_cell]
    return np.asarray(cells.y - mean - np.einsum("kp,pk->k", cells.x, slope[:, cells.period]))


def log_likelihood(
    cells: Cells, period: Any, slope: Any, effect: Any, phi: Any, shared: Any, scales: Any
) -> Any:
    """
    Return the log likelihood of cells as a PyTensor scalar.

    Parameters
    ----------
    cells : Cells
        Sorted cells.
    period, slope, effect : tensor, shapes (S, T), (p, T), (J,)
        As in `residuals`.
    phi, shared, scales : tensor, shapes (S,), (S,), (4,)
        As in `vbceval.bayes.marginal.compiled`.
    """
    inputs = (period, slope, effect, phi, shared, scales)
    return _operation()(cells)(*inputs)[0]


@functools.cache
def _operation() -> Any:
    """Return the class of the operation, which needs PyTensor to be defined."""
    import warnings

    import pytensor.tensor as pt
    from numba import njit
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op
    from pytensor.link.numba.dispatch import basic as numba_dispatch

    evaluate = compiled()
    fast: Any = njit(nogil=True, cache=True)
    subtract_mean, collect = fast(_subtract_mean), fast(_collect)

    class CellLikelihood(Op):
        """Log likelihood, then its derivatives by the parameters.

        The data stay here, out of the graph: compiled into it, they would cost minutes.
        """

        def __init__(self, cells: Cells) -> None:
            self.layout = cells.layout
            self.y, self.x = cells.y, cells.x
            self.codes = (cells.stratum, cells.period, cells.effect_of_cell)

        def make_node(self, *inputs: Any) -> Any:
            inputs = tuple(pt.as_tensor_variable(x) for x in inputs)
            slopes = [x.type() for x in inputs]
            return Apply(self, list(inputs), [pt.scalar(dtype="float64"), *slopes])

        def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:
            period, slope, effect, phi, shared, scales = inputs
            residual = subtract_mean(period, slope, effect, self.y, self.x, *self.codes)
            found = evaluate(residual, phi, shared, scales, self.layout)
            slopes = collect(found[1], period, slope, effect, self.x, *self.codes)
            results = (np.asarray(found[0].sum()), *slopes, *found[2:5])
            for place, value in zip(output_storage, results, strict=True):
                place[0] = value

        def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
            return [cotangents[0] * x for x in outputs[1:]]

        def connection_pattern(self, node: Any) -> list[list[bool]]:
            # only the first output is ever differentiated
            return [[j == 0 for j in range(len(node.outputs))] for _ in node.inputs]

    fallback: Any = numba_dispatch.generate_fallback_impl

    @numba_dispatch.numba_funcify.register(CellLikelihood)
    def _(op: Any, node: Any, **_: Any) -> Any:
        # called through the interpreter, at a cost far below that of the work: compiled into the
        # model instead, the whole likelihood would be optimised anew for every model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return fallback(op, node)

    return CellLikelihood
