"""Log density of published effects, everything normal integrated out, with its derivatives."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from vbceval.bayes.meta_data import ErrorLaw, Studies
from vbceval.core.typing import BoolArray, FloatArray, IntArray

LEVELS = ("type", "program", "report", "effect")


class Design(NamedTuple):
    """
    What the density needs of a table, computed once; n effects.

    Parameters
    ----------
    estimate, std_error : array, shape (n,)
        Effects; the standard error is missing in the rows of `rows`.
    report : array of int, shape (n,)
        Report of each row.
    column : array of int, shape (n, 3)
        Place of each row's type, program and sample among the columns of U; -1 for none.
    n_columns : int
        Columns of U: the mean, then those.
    active : array of bool, shape (4,)
        Which of `LEVELS` have a standard deviation.
    mean_sd, rho : float
        Prior standard deviation of the mean; correlation of errors within a sample.
    rows, low, width : array, shape (m,)
        Rows with an unprinted standard error; the normal probability below its lower bound, and
        between its bounds.
    log_mean, log_sd : float
        Law of the logarithm of unprinted standard errors.
    """

    estimate: FloatArray
    std_error: FloatArray
    report: IntArray
    column: IntArray
    n_columns: int
    active: BoolArray
    mean_sd: float
    rho: float
    rows: IntArray
    low: FloatArray
    width: FloatArray
    log_mean: float
    log_sd: float


def design(studies: Studies, *, mean_sd: float, rho: float) -> Design:
    """Return the design of a table."""
    column = np.full((len(studies), 3), -1, dtype=np.int64)
    count = 1
    for place, level in enumerate(("type", "program", "sample")):
        wanted = rho > 0 if level == "sample" else level in studies.levels
        if wanted:
            groups, code = np.unique(studies.index[level], return_inverse=True)
            if level == "sample":
                # a sample of one row shares its error with nobody
                several = np.bincount(code) > 1
                groups, code = groups[several], np.where(several, np.cumsum(several) - 1, -1)[code]
            column[:, place] = np.where(code >= 0, count + code, -1)
            count += len(groups)
    law = studies.error_law or ErrorLaw(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        low = special.ndtr((np.log(law.low) - law.log_mean) / law.log_sd)
        high = special.ndtr((np.log(law.high) - law.log_mean) / law.log_sd)
    return Design(
        estimate=studies.estimate,
        std_error=studies.std_error,
        report=studies.index["report"],
        column=column,
        n_columns=count,
        active=np.array([x in studies.levels for x in LEVELS]),
        mean_sd=float(mean_sd),
        rho=float(rho),
        rows=law.rows,
        low=low,
        width=high - low,
        log_mean=law.log_mean,
        log_sd=law.log_sd,
    )


def drawn_error(at: Design, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """
    Return standard errors, and the derivative of the unprinted ones by `share`.

    Parameters
    ----------
    at : Design
        n effects, m of them with an unprinted standard error.
    share : array, shape (..., m)
        Probability, within the bounds of its law, of a smaller standard error.

    Returns
    -------
    error : array, shape (..., n)
    slope : array, shape (..., m)
    """
    error = np.empty((*share.shape[:-1], len(at.estimate)))
    error[...] = at.std_error
    normal = special.ndtri(at.low + share * at.width)
    drawn = np.exp(at.log_mean + at.log_sd * normal)
    error[..., at.rows] = drawn
    density = np.exp(-0.5 * normal**2) / np.sqrt(2 * np.pi)
    return error, drawn * at.log_sd * at.width / density


def log_density(
    at: Design, spread: FloatArray, mixing: FloatArray, share: FloatArray
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """
    Return the log density of the estimates, and its derivatives by each argument.

    The covariance of the estimates is V + UU'. V is diagonal plus one constant a report, so that
    its inverse is explicit; U has a column for the mean, each type, each program and each sample.

    Parameters
    ----------
    at : Design
        The table.
    spread : array, shape (L,)
        Standard deviations of the active levels, in the order of `LEVELS`.
    mixing : array, shape (R,)
        Mixing variable of each report's t distribution.
    share : array, shape (m,)
        Where each unprinted standard error lies in its law, between 0 and 1.
    """
    error, by_share = at.std_error, share
    if len(at.rows):
        error, by_share = drawn_error(at, share)
    sd = np.zeros(len(LEVELS))
    sd[at.active] = spread
    value, by_sd, by_mixing, by_error, _ = compiled()(
        at.estimate, at.report, at.column, at.n_columns, error, sd, mixing, at.mean_sd, at.rho
    )
    return value, by_sd[at.active], by_mixing, by_error[at.rows] * by_share


def pulls(
    at: Design, sd: FloatArray, mixing: FloatArray, error: FloatArray, residual: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    Return the inverse covariance times residuals, and log densities, one for each of S sets.

    Parameters
    ----------
    at : Design
        The table.
    sd : array, shape (S, 4)
        Standard deviations of `LEVELS`, 0 where a level is not active.
    mixing : array, shape (S, R)
        Mixing variables.
    error, residual : array, shape (S, n)
        Standard errors; values in the place of the estimates.

    Returns
    -------
    pull : array, shape (S, n)
    log_density : array, shape (S,)
    """
    evaluate = compiled()
    pull, value = np.empty(residual.shape), np.empty(len(residual))
    for s in range(len(residual)):
        value[s], _, _, _, pull[s] = evaluate(
            residual[s], at.report, at.column, at.n_columns, error[s], sd[s], mixing[s],
            at.mean_sd, at.rho,
        )  # fmt: skip
    return pull, value


@functools.cache
def compiled() -> Any:
    """Return `_in_scales`, compiled: it is called at every step of the sampler."""
    from numba import njit
    from numba.extending import register_jitable

    register_jitable(_in_covariance)
    return njit(_in_scales, nogil=True, cache=True)


def _in_scales(
    y: FloatArray,
    report: IntArray,
    column: IntArray,
    n_columns: int,
    error: FloatArray,
    sd: FloatArray,
    mixing: FloatArray,
    mean_sd: float,
    rho: float,
) -> tuple[float, FloatArray, FloatArray, FloatArray, FloatArray]:
    """
    Return the log density, its derivatives by sd (4,), mixing (R,) and error (n,), and the pull.

    The pull (n,) is the inverse covariance times `y`, minus the derivative by `y`.
    """
    n = len(y)
    border, own, alone = np.zeros((n, n_columns)), np.empty(n), np.ones(n)
    for j in range(n):
        border[j, 0] = mean_sd
        for level in range(2):
            if column[j, level] > 0:
                border[j, column[j, level]] = sd[level]
        if column[j, 2] > 0:
            border[j, column[j, 2]] = np.sqrt(rho) * error[j]
            alone[j] = 1 - rho
        own[j] = error[j] ** 2 * alone[j] + sd[3] ** 2 * mixing[report[j]]
    value, by_own, by_report_var, by_border, pull = _in_covariance(
        y, report, own, sd[2] ** 2 * mixing, border
    )
    by_sd, by_error = np.zeros(4), 2 * by_own * error * alone
    by_mixing = sd[2] ** 2 * by_report_var
    by_sd[2] = 2 * sd[2] * np.sum(by_report_var * mixing)
    for j in range(n):
        for level in range(2):
            if column[j, level] > 0:
                by_sd[level] += by_border[j, column[j, level]]
        if column[j, 2] > 0:
            by_error[j] += np.sqrt(rho) * by_border[j, column[j, 2]]
        by_sd[3] += 2 * sd[3] * by_own[j] * mixing[report[j]]
        by_mixing[report[j]] += sd[3] ** 2 * by_own[j]
    return value, by_sd, by_mixing, by_error, pull


def _in_covariance(
    y: FloatArray, report: IntArray, own: FloatArray, report_var: FloatArray, border: FloatArray
) -> tuple[float, FloatArray, FloatArray, FloatArray, FloatArray]:
    """
    Return log N(y; 0, V + border border'), its derivatives by own, report_var and border, the pull.

    V is diag(own), plus report_var for two rows of one report, so that its inverse is explicit.
    With q columns of `border` the cost is O(n q^2).
    """
    n, q = border.shape
    size = len(report_var)
    weight, sums, score = np.zeros(size), np.zeros((size, q + 1)), np.zeros(q)
    columns = np.empty((n, q + 1))
    columns[:, :q], columns[:, q] = border, y
    for j in range(n):
        weight[report[j]] += 1 / own[j]
        sums[report[j]] += columns[j] / own[j]
    inflation = 1 + report_var * weight
    damped = report_var / inflation
    root = np.eye(q)
    for j in range(n):
        i = report[j]
        # columns become the inverse of V times (border, y)
        columns[j] = (columns[j] - damped[i] * sums[i]) / own[j]
        for a in range(q):
            score[a] += border[j, a] * columns[j, q]
            for b in range(a + 1):
                root[a, b] += border[j, a] * columns[j, b]
    for a in range(q):
        for b in range(a + 1):
            for c in range(b):
                root[a, b] -= root[a, c] * root[b, c]
            root[a, b] = np.sqrt(root[a, a]) if a == b else root[a, b] / root[b, b]
    log_det = np.log(own).sum() + np.log(inflation).sum()
    for a in range(q):
        for b in range(a):
            score[a] -= root[a, b] * score[b]
        score[a] /= root[a, a]
        log_det += 2 * np.log(root[a, a])
    value = -0.5 * (log_det + n * np.log(2 * np.pi))
    pull, by_own = np.empty(n), np.empty(n)
    drawn, along, low_sums = np.zeros(size), np.zeros(q), np.zeros((size, q))
    for j in range(n):
        i = report[j]
        pull[j] = columns[j, q]
        by_own[j] = -(1 / own[j] - damped[i] / own[j] ** 2)
        for a in range(q):
            for b in range(a):
                columns[j, a] -= root[a, b] * columns[j, b]
            columns[j, a] /= root[a, a]
            pull[j] -= columns[j, a] * score[a]
            by_own[j] += columns[j, a] ** 2
            low_sums[i, a] += columns[j, a]
        by_own[j] = 0.5 * (by_own[j] + pull[j] ** 2)
        value -= 0.5 * y[j] * pull[j]
        drawn[i] += pull[j]
        along += pull[j] * border[j]
    by_report_var = 0.5 * (drawn**2 - weight + damped * weight**2 + (low_sums**2).sum(axis=1))
    by_border = np.empty((n, q))
    for j in range(n):
        for a in range(q - 1, -1, -1):
            for b in range(a + 1, q):
                columns[j, a] -= root[b, a] * columns[j, b]
            columns[j, a] /= root[a, a]
            by_border[j, a] = pull[j] * along[a] - columns[j, a]
    return value, by_own, by_report_var, by_border, pull
