"""Do imprecise studies find other effects than precise ones? A regression, errors by report."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from vbceval.bayes.random_effects import reml
from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray, IntArray

CAUTION = 10
"""Fewer reports than this say little of the slope."""


def small_study_check(
    data: pd.DataFrame,
    *,
    estimate: str = "estimate",
    std_error: str = "std_error",
    report: str = "report",
    level: float = 0.95,
) -> pd.DataFrame:
    """
    Regress effects on their standard errors, as Egger's test does, with errors robust by report.

    If small studies are printed only when they find savings, imprecise effects lie lower and the
    slope is negative. A slope may have other causes: small programs may differ from large ones.
    Weights are inverse variances, those between studies included (restricted maximum likelihood,
    rows as if independent); covariance CR2 and degrees of freedom (Satterthwaite) hold whatever
    dependence rows of a report have.

    Parameters
    ----------
    data : DataFrame
        One row an effect. Rows without a standard error are left out.
    estimate, std_error, report : str
        Columns: effects and standard errors in one unit, and the report that prints them.
    level : float, default 0.95
        Level of intervals.

    Returns
    -------
    DataFrame
        Rows ``effect at standard error 0`` and ``slope`` (change of the effect for a standard error
        larger by 1): ``term``, ``estimate``, ``std_error``, ``df``, ``conf_low``, ``conf_high``,
        ``p_value``, ``n_effects``, ``n_reports``, ``n_left_out`` and ``caution``, true with fewer
        than ten reports or four degrees of freedom, when the test finds little.

    Raises
    ------
    DataError
        If a column is missing, or a row with a standard error lacks another value.
    DesignError
        If fewer than four reports with a standard error are there, or all errors are equal, or all
        but those of one report.

    References
    ----------
    .. [1] Egger, M., Davey Smith, G., Schneider, M. and Minder, C. (1997). Bias in meta-analysis
       detected by a simple, graphical test. *BMJ* 315, 629-634.
    .. [2] Rodgers, M. A. and Pustejovsky, J. E. (2021). Evaluating meta-analytic methods to detect
       selective reporting in the presence of dependent effect sizes. *Psychological Methods* 26(2),
       141-160.
    """
    problems = Problems("the table of effects")
    absent = missing_columns(data, [estimate, std_error, report])
    if absent:
        problems.add(f"it has no column {listed(absent)}. It has {listed(data.columns)}.")
    problems.raise_if_any()
    known = data[std_error].notna().to_numpy()
    y, se = (data.loc[known, c].to_numpy(dtype=float) for c in (estimate, std_error))
    for name, wrong, what in (
        (estimate, ~np.isfinite(y), "missing"), (std_error, ~(np.isfinite(se) & (se > 0)), "not positive"),
        (report, data.loc[known, report].isna().to_numpy(), "missing"),
    ):  # fmt: skip
        if wrong.any():
            problems.add(
                f"`{name}` is {what} in {int(wrong.sum())} rows that have a standard error. Correct "
                "them, or leave them out."
            )
    problems.raise_if_any()
    codes = pd.factorize(data.loc[known, report])[0]
    reports = len(np.unique(codes))
    if reports < 4 or np.ptp(se) == 0:
        raise DesignError(
            f"{reports} reports print a standard error, of {len(np.unique(se))} sizes; a slope on "
            "standard errors needs four reports and two sizes. Leave the check out and say so."
        )
    if any(np.ptp(se[codes != c]) == 0 for c in range(reports)):
        # it would be fitted exactly, and its error be taken for none
        raise DesignError(
            "all reports but one have the same standard error, so the slope is that one report's "
            "distance from the others, and nothing tells its error. Leave the check out and say so."
        )
    x = np.column_stack([np.ones(len(y)), se])
    beta, cov, df = clustered_least_squares(y, x, se**2 + reml(y, se).tau2, codes)
    error = np.sqrt(np.diag(cov))
    half = special.stdtrit(df, (1 + level) / 2) * error
    return pd.DataFrame(
        {
            "term": ["effect at standard error 0", "slope"], "estimate": beta, "std_error": error,
            "df": df, "conf_low": beta - half, "conf_high": beta + half,
            "p_value": 2 * special.stdtr(df, -np.abs(beta / error)), "n_effects": len(y),
            "n_reports": reports, "n_left_out": int((~known).sum()),
            "caution": (df < 4) | (reports < CAUTION),
        }
    )  # fmt: skip


def clustered_least_squares(
    y: FloatArray, x: FloatArray, variance: FloatArray, codes: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """
    Return weighted least squares with CR2 covariance and Satterthwaite degrees of freedom.

    Dense, for tables of some hundred rows; independence with `variance` is the working model.

    Parameters
    ----------
    y, variance : array, shape (n,)
        Outcomes and their variances, whose inverses are the weights.
    x : array, shape (n, p)
        Regressors.
    codes : array of int, shape (n,)
        Clusters.

    Returns
    -------
    beta : array, shape (p,)
    covariance : array, shape (p, p)
    df : array, shape (p,)

    References
    ----------
    .. [1] Pustejovsky, J. E. and Tipton, E. (2018). Small-sample methods for cluster-robust
       variance estimation and hypothesis testing in fixed effects models. *Journal of Business &
       Economic Statistics* 36(4), 672-683. Equations 7 and 14.
    """
    w, root = 1.0 / variance, np.sqrt(variance)
    bread = np.linalg.inv((x * w[:, None]).T @ x)
    beta = bread @ (x * w[:, None]).T @ y
    residual = y - x @ beta
    hat = x @ bread @ (x * w[:, None]).T
    scores, pulls = [], []
    for c in np.unique(codes):
        i = codes == c
        inside = np.diag(variance[i]) - x[i] @ bread @ x[i].T
        values, vectors = np.linalg.eigh(root[i, None] * inside * root[i])
        # directions that the regressors fit exactly have no residual, and get no weight
        free = values > 1e-10 * values.max()
        half = (vectors[:, free] / np.sqrt(values[free])) @ vectors[:, free].T
        pull = bread @ (x[i] * w[i, None]).T @ (root[i, None] * half * root[i])
        scores.append(pull @ residual[i])
        pulls.append(pull @ (np.eye(len(y)) - hat)[i])
    covariance = np.array(scores).T @ np.array(scores)
    df = []
    for k in range(x.shape[1]):
        rows = np.array([p[k] for p in pulls])
        gram = (rows * variance) @ rows.T
        df.append(np.trace(gram) ** 2 / np.square(gram).sum())
    return beta, covariance, np.array(df)
