"""Unit and time weights of synthetic difference-in-differences (Arkhangelsky et al. 2021)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.synthetic.simplex import (
    centred,
    frank_wolfe,
    frank_wolfe_step,
    gram,
    solve_simplex,
    sparsify,
)

Method = Literal["sdid", "sc", "did"]
Solver = Literal["exact", "frank_wolfe"]

FIRST_STEPS = 100
MOST_STEPS = 10_000
SMALLEST_DECREASE = 1e-5
"""Frank-Wolfe settings of R `synthdid`; the decrease is in units of the noise level."""

ABSORBED = 1e-9
"""Share of a covariate up to which what is left beside effects is rounding."""

ROUNDING = 1e-13
"""Share of outcomes up to which a noise level is their rounding."""

MOST_ROUNDS = 500
"""Rounds of weights and coefficients in turn before the joint solution is called not found."""


class Problem(NamedTuple):
    """
    One cohort's paths.

    Parameters
    ----------
    y0 : array, shape (N0, T)
        Outcomes of donors.
    y1 : array, shape (T,)
        Mean outcome of the treated.
    x0, x1 : arrays, shapes (N0, T, p), (T, p)
        Covariates.
    mass : array, shape (N0,)
        Positive weight of a donor as an observation: how often it was drawn.
    n_pre : int
        The first periods are before entry.
    post : bool array, shape (T,)
        Periods from entry on.
    """

    y0: FloatArray
    y1: FloatArray
    x0: FloatArray
    x1: FloatArray
    mass: FloatArray
    n_pre: int
    post: BoolArray

    def adjusted(self, beta: FloatArray) -> Problem:
        """Return the paths less what covariates explain."""
        return self._replace(y0=self.y0 - self.x0 @ beta, y1=self.y1 - self.x1 @ beta)


class Penalty(NamedTuple):
    """Ridge penalties, in the unit of the outcome, and the noise level they are made of."""

    unit: float
    time: float
    noise: float


class Weights(NamedTuple):
    """
    Weights of one cohort.

    Parameters
    ----------
    unit : array, shape (N0,)
        Of donors; sum one.
    time : array, shape (n_pre,)
        Of periods before entry; sum one, or all zero for "sc".
    beta : array, shape (p,)
        Coefficients of covariates.
    gap : float
        Largest duality gap relative to its objective; missing with Frank-Wolfe.
    """

    unit: FloatArray
    time: FloatArray
    beta: FloatArray
    gap: float

    def effects(self, problem: Problem) -> FloatArray:
        """Return treated less synthetic, less its weighted mean before entry, shape (T,)."""
        free = problem.adjusted(self.beta)
        path = free.y1 - self.unit @ free.y0
        return np.asarray(path - self.time @ path[: problem.n_pre])


def noise_level(y0: FloatArray) -> float:
    """
    Return the standard deviation of first differences of (N0, n_pre).

    Zero for a single one, and where differences are the rounding of weighted means.
    """
    changes = np.diff(y0, axis=1)
    noise = float(changes.std(ddof=1)) if changes.size > 1 else 0.0
    return noise if noise > ROUNDING * np.abs(y0).max() else 0.0


def absorbed(problem: Problem, method: Method) -> BoolArray:
    """
    Return which covariates are the same for all, or beside the effects that `method` allows, (p,).

    Their coefficients would be a rounding divided by another: effects of organizations and periods
    take them up; of periods only, and before entry, for "sc".
    """
    x = np.concatenate([problem.x0, problem.x1[None]])
    if method == "sc":
        x = x[:, : problem.n_pre]
    left = x - x.mean(axis=0)
    if method != "sc":
        left = left - left.mean(axis=1, keepdims=True)
    size = np.abs(x).max(axis=(0, 1), initial=0.0)
    return np.asarray(np.abs(left).max(axis=(0, 1), initial=0.0) <= ABSORBED * size)


def default_penalty(noise: float, n_treated: int, n_post: int, method: Method) -> Penalty:
    """Return the penalties of the paper: (N1 T1)^(1/4) and 1e-6 times the noise level."""
    unit = 1e-6 if method == "sc" else (n_treated * n_post) ** 0.25
    return Penalty(unit * noise, 1e-6 * noise, noise)


def fit_weights(
    problem: Problem,
    penalty: Penalty,
    method: Method,
    solver: Solver,
    start: Weights | None = None,
) -> Weights:
    """
    Return weights, and coefficients of covariates where `problem` has some.

    With covariates, weights and coefficients minimise the sum of both penalised objectives
    ("optimized" in R `synthdid` and Stata `sdid`): the exact solver takes weights given
    coefficients and least squares given weights in turn until neither moves.

    Parameters
    ----------
    problem : Problem
        Paths of one cohort.
    penalty : Penalty
        Ridge penalties.
    method : {"sdid", "sc", "did"}
        "sc" has no intercept and no time weights; "did" has uniform weights.
    solver : {"exact", "frank_wolfe"}
        The minimum, or where R `synthdid` stops.
    start : Weights, optional
        Weights of a similar problem, from which the exact solver begins.
    """
    p = problem.x0.shape[2]
    if solver == "frank_wolfe" and p and method != "did":
        return _together(problem, penalty, method)
    if not p:
        return _given_coefficients(problem, np.zeros(0), penalty, method, solver, start)
    beta = np.zeros(p) if start is None else start.beta
    found = start
    for _ in range(MOST_ROUNDS):
        found = _given_coefficients(problem, beta, penalty, method, solver, found)
        new = _given_weights(problem, found)
        moved = np.abs(new - beta).max(initial=0.0)
        beta = new
        if moved <= 1e-10 * max(np.abs(beta).max(), 1e-300):
            break
    return found._replace(beta=beta)  # type: ignore[union-attr]  # the loop runs at least once


def unit_hessian(problem: Problem, penalty: Penalty, method: Method) -> FloatArray:
    """Return H of the unit weights: squared distance over periods before entry plus ridge."""
    paths = np.column_stack([problem.y0.T, problem.y1])[: problem.n_pre]
    if method != "sc":
        paths = centred(paths)
    ridge = problem.n_pre * penalty.unit**2 / problem.mass
    return gram(paths[:, :-1], paths[:, -1]) + np.diag(ridge)


def time_hessian(problem: Problem, penalty: Penalty) -> FloatArray:
    """Return H of the time weights: squared distance over donors plus ridge."""
    after = problem.y0[:, problem.post].mean(axis=1)
    rows = centred(np.column_stack([problem.y0[:, : problem.n_pre], after]), problem.mass)
    ridge = problem.mass.sum() * penalty.time**2
    return gram(rows[:, :-1], rows[:, -1], problem.mass) + ridge * np.eye(problem.n_pre)


def _given_coefficients(
    problem: Problem,
    beta: FloatArray,
    penalty: Penalty,
    method: Method,
    solver: Solver,
    start: Weights | None,
) -> Weights:
    free = problem.adjusted(beta) if len(beta) else problem
    uniform = problem.mass / problem.mass.sum()
    even = np.full(problem.n_pre, 1 / problem.n_pre)
    if method == "did":
        return Weights(uniform, even, beta, 0.0)
    h = unit_hessian(free, penalty, method)
    least = (SMALLEST_DECREASE * penalty.noise) ** 2
    if solver == "frank_wolfe":
        unit = _two_stages(h, uniform, least * problem.n_pre)
        if method == "sc":
            return Weights(unit, np.zeros(problem.n_pre), beta, np.nan)
        time = _two_stages(time_hessian(free, penalty), even, least * problem.mass.sum())
        return Weights(unit, time, beta, np.nan)
    units = solve_simplex(h, start=None if start is None else start.unit)
    gap = units.relative_gap(h)
    if method == "sc":
        return Weights(units.weights, np.zeros(problem.n_pre), beta, gap)
    h = time_hessian(free, penalty)
    times = solve_simplex(h, start=None if start is None else start.time)
    gap = max(gap, times.relative_gap(h))
    return Weights(units.weights, times.weights, beta, gap)


def _two_stages(h: FloatArray, start: FloatArray, least: float) -> FloatArray:
    first = frank_wolfe(h, start, min_decrease=least, max_steps=FIRST_STEPS)
    return frank_wolfe(h, sparsify(first), min_decrease=least, max_steps=MOST_STEPS)


def _residuals(
    y0: FloatArray, y1: FloatArray, problem: Problem, found: Weights, *, intercept: bool
) -> tuple[FloatArray, FloatArray]:
    """Return scaled residuals of the unit and of the time objective, a column a covariate."""
    n, post = problem.n_pre, problem.post
    unit = y1[:n] - np.tensordot(found.unit, y0[:, :n], axes=1)
    time = y0[:, post].mean(axis=1) - np.tensordot(y0[:, :n], found.time, axes=([1], [0]))
    share = problem.mass / problem.mass.sum()
    if intercept:
        unit = unit - unit.mean(axis=0)
        time = time - np.tensordot(share, time, axes=1)
    scale = np.sqrt(share).reshape(-1, *[1] * (time.ndim - 1))
    return unit / np.sqrt(n), time * scale


def _given_weights(problem: Problem, found: Weights) -> FloatArray:
    """Return the coefficients that minimise the sum of both objectives given the weights."""
    sc = not found.time.any()  # neither time weights nor an intercept
    y = _residuals(problem.y0, problem.y1, problem, found, intercept=not sc)
    x = _residuals(problem.x0, problem.x1, problem, found, intercept=not sc)
    used = 1 if sc else 2
    left, right = np.concatenate(x[:used]), np.concatenate(y[:used])
    # in a replicate nothing may be left of a covariate but rounding
    size = np.abs(np.concatenate([problem.x0, problem.x1[None]])).max(axis=(0, 1))
    left[:, np.abs(left).max(axis=0) <= ABSORBED * size] = 0.0
    return np.asarray(np.linalg.lstsq(left, right, rcond=None)[0])


def _together(problem: Problem, penalty: Penalty, method: Method) -> Weights:
    """
    Take a step of each weight and of the coefficients in turn, as R `synthdid` with covariates.

    Coefficients move along the gradient with step 1/t, so that they may end far from the minimum
    when covariates are not on the scale of the outcome. As in R, the time objective of "sc", which
    has no time weights, moves them too.
    """
    unit = problem.mass / problem.mass.sum()
    time = np.full(problem.n_pre, 1 / problem.n_pre if method == "sdid" else 0.0)
    beta = np.zeros(problem.x0.shape[2])
    least, old = (SMALLEST_DECREASE * penalty.noise) ** 2, np.inf
    for t in range(1, MOST_STEPS + 2):
        free = problem.adjusted(beta)
        if method == "sdid":
            h = time_hessian(free, penalty)
            time = frank_wolfe_step(h, time, h @ time)[0]
        h = unit_hessian(free, penalty, method)
        unit = frank_wolfe_step(h, unit, h @ unit)[0]
        found = Weights(unit, time, beta, np.nan)
        flat = method == "sdid"
        y = np.concatenate(_residuals(free.y0, free.y1, problem, found, intercept=flat))
        x = np.concatenate(_residuals(problem.x0, problem.x1, problem, found, intercept=flat))
        value = float(y @ y + penalty.unit**2 * unit @ unit + penalty.time**2 * time @ time)
        if t >= 3 and old - value <= least:
            break
        old = value
        beta = beta + y @ x / t
    return found
