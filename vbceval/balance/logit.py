"""Logit of entry on organizations, weighted: arrays in, arrays out."""

from __future__ import annotations

from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray, IntArray

Penalty = Literal["none", "ridge", "firth"]

RIDGE = 1e-4
"""Penalty on squared slopes of standardised columns, as a share of the base weight."""
_STEPS = 200
_EXTREME = 1e-6


class LogitFit(NamedTuple):
    """
    A multinomial logit of entry cohort; two classes are the ordinary logit.

    Parameters
    ----------
    beta : array, shape (K, m)
        Coefficients of cohort k against the comparison.
    probability : array, shape (n, K + 1)
        Of the comparison, then of each cohort.
    psi : array, shape (n, K * m)
        Derivative of ``beta.ravel()`` with respect to the weight of each row.
    """

    beta: FloatArray
    probability: FloatArray
    psi: FloatArray


def fit_logit(x: FloatArray, code: IntArray, q: FloatArray, penalty: Penalty = "none") -> LogitFit:
    """
    Fit by Newton's method with step halving.

    Parameters
    ----------
    x : array, shape (n, m)
        A constant, then standardised columns.
    code : int array, shape (n,)
        0 for the comparison, k for cohort k = 1..K.
    q : array, shape (n,)
        Positive base weights.
    penalty : {"none", "ridge", "firth"}
        `RIDGE` on slopes, or Firth's (two classes only).

    Raises
    ------
    EstimationError
        If it does not converge; without penalty that is a sign of separation.

    References
    ----------
    .. [1] Firth, D. (1993). Bias reduction of maximum likelihood estimates. *Biometrika* 80(1),
       27-38. Section 3.
    """
    k = int(code.max())
    hits = (code[:, None] == np.arange(1, k + 1)).astype(float)
    ridge = np.zeros(x.shape[1])
    if penalty == "ridge":
        ridge[1:] = RIDGE * q.sum()
    beta = np.zeros((k, x.shape[1]))
    beta[:, 0] = np.log(q @ hits / (q @ (code == 0)))

    def objective(b: FloatArray) -> float:
        eta = np.column_stack([np.zeros(len(x)), x @ b.T])
        top = eta.max(axis=1)
        loglik = eta[np.arange(len(x)), code] - top - np.log(np.exp(eta - top[:, None]).sum(axis=1))
        out = float(q @ loglik) - float((ridge * b**2).sum()) / 2
        if penalty == "firth":
            sign, size = np.linalg.slogdet(_information(x, _probability(x, b), q))
            out += 0.5 * float(size) if sign > 0 else -np.inf
        return out

    best = objective(beta)
    for _ in range(_STEPS):
        p = _probability(x, beta)
        hessian = _information(x, p, q) + np.diag(np.tile(ridge, k))
        gradient = _score(x, hits, p, q, penalty) - (ridge * beta).ravel()
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError:
            break
        # the decrement does not depend on the units of columns
        if gradient @ step < 1e-24 * q.sum():
            return LogitFit(beta, p, _influence(x, hits, beta, q, penalty, ridge))
        size = 1.0
        move = step.reshape(beta.shape)
        while objective(beta + size * move) < best - 1e-13 * abs(best) and size > 1e-8:
            size /= 2
        beta = beta + size * move
        best = objective(beta)
        if penalty == "none" and np.abs(beta).max() > 100:
            break
    raise EstimationError(f"the logit of entry did not converge in {_STEPS} steps")


def is_extreme(fit: LogitFit) -> bool:
    """Return whether a probability is so near 0 or 1 that separation should be looked for."""
    return bool(fit.probability.max() > 1 - _EXTREME or fit.probability.min() < _EXTREME)


def separating(x: FloatArray, code: IntArray) -> FloatArray | None:
    """
    Return a direction in which columns separate two classes, or None.

    A linear program looks for b with ``x'b >= 0`` on one class and ``<= 0`` on the other, not all
    equal: then the likelihood has no maximum.

    Parameters
    ----------
    x : array, shape (n, m)
        A constant, then columns.
    code : int array, shape (n,)
        As in `fit_logit`.

    References
    ----------
    .. [1] Albert, A. and Anderson, J. A. (1984). On the existence of maximum likelihood estimates
       in logistic regression models. *Biometrika* 71(1), 1-10.
    """
    from scipy.optimize import linprog

    for one, other in combinations(range(int(code.max()) + 1), 2):
        rows = (code == one) | (code == other)
        signed = x[rows] * np.where(code[rows] == other, 1.0, -1.0)[:, None]
        found = linprog(
            -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1.0, 1.0)
        )
        if found.status == 0 and (signed @ found.x).sum() > 1e-7 * len(signed):
            return np.asarray(found.x)
    return None


def _probability(x: FloatArray, beta: FloatArray) -> FloatArray:
    """Probability of each class, shape (n, K + 1); also for complex `beta`."""
    eta = np.concatenate([np.zeros((len(x), 1)), x @ beta.T], axis=1)
    e = np.exp(eta - eta.real.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _information(x: FloatArray, p: FloatArray, q: FloatArray) -> FloatArray:
    k, m = p.shape[1] - 1, x.shape[1]
    out = np.zeros((k * m, k * m), dtype=p.dtype)
    for a in range(k):
        for b in range(a + 1):
            weight = q * p[:, a + 1] * (float(a == b) - p[:, b + 1])
            part = (x * weight[:, None]).T @ x
            out[a * m : (a + 1) * m, b * m : (b + 1) * m] = part
            out[b * m : (b + 1) * m, a * m : (a + 1) * m] = part
    return out


def _score(
    x: FloatArray, hits: FloatArray, p: FloatArray, q: FloatArray, penalty: Penalty
) -> FloatArray:
    residual = hits - p[:, 1:]
    total = np.asarray(((q[:, None] * residual).T @ x).ravel())
    if penalty == "firth":
        leverage, _ = _leverage(x, p[:, 1], q)
        total = total + x.T @ (leverage * (0.5 - p[:, 1]))
    return total


def _leverage(x: FloatArray, p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Diagonal of the hat matrix of the weighted fit, and the inverse information."""
    a = q * p * (1 - p)
    inverse = np.linalg.inv((x * a[:, None]).T @ x)
    return np.asarray(a * ((x @ inverse) * x).sum(axis=1)), inverse


def _influence(
    x: FloatArray,
    hits: FloatArray,
    beta: FloatArray,
    q: FloatArray,
    penalty: Penalty,
    ridge: FloatArray,
) -> FloatArray:
    """Derivative of the solution with respect to weights, shape (n, K m)."""
    k, m = beta.shape
    p = _probability(x, beta)
    own = (q[:, None] * (hits - p[:, 1:]))[:, :, None] * x[:, None, :]
    own = own.reshape(len(x), k * m)
    hessian = _information(x, p, q) + np.diag(np.tile(ridge, k))
    if penalty == "firth":
        p1 = p[:, 1]
        leverage, inverse = _leverage(x, p1, q)
        own = own + (leverage * (0.5 - p1))[:, None] * x
        # a weight moves every leverage: d h_c = 1{c = k} h_c - a_c (x_c' H^-1 x_k)^2 a_k
        a = q * p1 * (1 - p1)
        third = np.einsum("n,ni,nj,nl->ijl", a * (0.5 - p1), x, x, x, optimize=True)
        v = x @ inverse
        own = own - a[:, None] * np.einsum("ijl,ni,nj->nl", third, v, v, optimize=True)
        hessian = _firth_derivative(x, hits, beta, q)
    return np.asarray(np.linalg.solve(hessian, own.T).T)


def _firth_derivative(
    x: FloatArray, hits: FloatArray, beta: FloatArray, q: FloatArray
) -> FloatArray:
    """Minus the derivative of the modified score, by complex steps: exact to rounding."""
    step = 1e-30
    columns = []
    for j in range(beta.shape[1]):
        moved = beta.astype(complex)
        moved[0, j] += 1j * step
        score = _score(x, hits, _probability(x, moved), q, "firth")
        columns.append(-score.imag / step)
    return np.column_stack(columns)
