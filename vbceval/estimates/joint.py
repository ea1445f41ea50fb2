"""Joint tests of rows of estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vbceval.core.errors import EstimationError
from vbceval.inference import WaldTest, wald_test

if TYPE_CHECKING:
    from vbceval.estimates.estimates import Estimates


def joint_test(estimates: Estimates, *, allow_rank_deficient: bool) -> WaldTest:
    """Test that rows with variance are all zero; see `Estimates.wald`."""
    if estimates.interval == "credible":
        raise EstimationError(
            "a posterior has no Wald test: ask for the probability of the hypothesis with "
            "`probability`, or for the draws."
        )
    live = np.flatnonzero(np.isfinite(estimates.std_error))
    part = estimates.where(live) if len(live) else estimates
    if part.degrees is not None and len(live) and not allow_rank_deficient:
        found = part.degrees.test(part.estimate, part.vcov())
        if found is not None:
            return found
    df = float(part.frame["df"].min()) if len(live) else np.inf
    value, vcov = part.estimate[: len(live)], part.vcov()[: len(live), : len(live)]
    found = wald_test(value, vcov, df=df, allow_rank_deficient=allow_rank_deficient)
    if part.samples is None or part.tails == "equal":
        return found
    # draws of errors that need not be normal: their own statistics, as with one row
    error = part.samples[:, : len(live)] - value
    size = np.einsum("si,ij,sj->s", error, np.linalg.pinv(vcov, hermitian=True), error)
    extreme = float((size >= found.statistic * (1 - 1e-12)).sum())
    return replace(found, p_value=(1 + extreme) / (1 + len(size)), df=np.inf, method="draws")
