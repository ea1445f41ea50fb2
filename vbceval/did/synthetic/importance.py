"""Importance of predictors chosen by the fit before entry (Abadie, Diamond and Hainmueller 2010)."""

from __future__ import annotations

import numpy as np

from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.synthetic.control import Paths, match_chosen
from vbceval.did.synthetic.simplex import solve_simplex


def nested_importance(paths: Paths, lags: IntArray) -> FloatArray:
    """
    Return the diagonal of V whose weights best fit all outcomes before entry, sum one.

    The fit is not convex in V. A simplex search on log importances starts at equal ones and at
    those of a regression of outcomes on predictors (the starts of R `Synth`); the better end is
    returned.

    Parameters
    ----------
    paths : Paths
        Paths of one cohort.
    lags : int array
        Positions of the outcomes that are predictors.
    """
    from scipy.optimize import minimize

    n = paths.n_pre

    def loss(log_importance: FloatArray) -> float:
        importance = np.exp(log_importance - log_importance.max())
        weights = solve_simplex(match_chosen(paths, lags, importance).hessian()).weights
        return float(np.mean((paths.y1[:n] - weights @ paths.y0[:, :n]) ** 2))

    size = len(lags) + paths.z0.shape[1]
    found = [
        minimize(
            loss, start, method="Nelder-Mead",
            options={"maxfev": 200 * size, "xatol": 1e-3, "fatol": 1e-10 * max(loss(start), 1e-300)},
        )
        for start in (np.zeros(size), _regression(paths, lags))
    ]  # fmt: skip
    best = min(found, key=lambda result: float(result.fun))
    importance = np.exp(best.x - best.x.max())
    return np.asarray(importance / importance.sum())


def _regression(paths: Paths, lags: IntArray) -> FloatArray:
    match = match_chosen(paths, lags, None)
    x = match.x0 - match.x0.mean(axis=0)
    y = paths.y0[:, : paths.n_pre]
    slope = np.linalg.lstsq(x, y - y.mean(axis=0), rcond=None)[0]
    strength = (slope**2).sum(axis=1)
    return np.asarray(np.log(np.maximum(strength / max(strength.sum(), 1e-300), 1e-6)))
