"""Joint tests of linear restrictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from vbceval.core.errors import EstimationError
from vbceval.core.typing import FloatArray


@dataclass(frozen=True, kw_only=True)
class WaldTest:
    """
    A joint test that q estimates are all zero.

    Parameters
    ----------
    statistic : float
        ``b' V^-1 b``, chi-square scale (not divided by q).
    restrictions : int
        Rank q of the tested covariance.
    df : float
        Denominator degrees of freedom; infinity means the chi-square law was used, otherwise
        ``statistic / q`` is compared with F(q, df).
    p_value : float
        Probability of a statistic at least as large when all are zero.
    method : {"Wald", "HTZ", "draws"}
        "HTZ": ``(eta - q + 1) / (eta q)`` times the statistic, eta = df + q - 1, is compared with
        F(q, df), the approximate Hotelling law of bias-reduced covariances. "draws": the statistic
        is compared with that of each draw of the errors.
    """

    statistic: float
    restrictions: int
    df: float
    p_value: float
    method: Literal["Wald", "HTZ", "draws"] = "Wald"


def wald_test(
    estimate: FloatArray,
    vcov: FloatArray,
    *,
    df: float = np.inf,
    allow_rank_deficient: bool = False,
) -> WaldTest:
    """
    Test that all estimates are zero.

    Parameters
    ----------
    estimate : array, shape (q,)
        Estimates tested together.
    vcov : array, shape (q, q)
        Their joint covariance.
    df : float, default infinity
        Denominator degrees of freedom.
    allow_rank_deficient : bool, default False
        Use the pseudo-inverse, and its rank, when `vcov` is singular.

    Raises
    ------
    EstimationError
        If nothing is tested, or `vcov` is singular and that was not allowed.
    """
    q = len(estimate)
    if q == 0:
        raise EstimationError("a joint test was asked for no estimates: select at least one row.")
    sd = np.sqrt(np.diag(vcov))
    if not np.all(sd > 0):
        raise EstimationError(
            f"{int(np.sum(~(sd > 0)))} of {q} tested estimates have no variance (a reference "
            "period, or a cohort without variation): leave them out of the joint test."
        )
    values, vectors = np.linalg.eigh(vcov / np.outer(sd, sd))
    keep = values > 1e-10 * values[-1]
    rank = int(keep.sum())
    if rank < q and not allow_rank_deficient:
        raise EstimationError(
            f"the covariance of the {q} tested estimates has rank {rank}, so their joint test is "
            "not defined. Test fewer rows, or pass allow_rank_deficient=True for a test of what is "
            "identified."
        )
    projected = vectors[:, keep].T @ (estimate / sd)
    statistic = float(np.sum(projected**2 / values[keep]))
    if np.isfinite(df):
        p_value = float(special.fdtrc(rank, df, statistic / rank))
    else:
        p_value = float(special.chdtrc(rank, statistic))
    return WaldTest(statistic=statistic, restrictions=rank, df=float(df), p_value=p_value)
