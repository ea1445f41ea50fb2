"""How strong a confounder that nobody measured must be to change a conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates
from vbceval.sensitivity.given import require_estimates

_COEFFICIENT = "coefficient"


@dataclass(frozen=True, eq=False, kw_only=True)
class OmittedVariable:
    """
    What a confounder of given strength would do to effects of a regression.

    Parameters
    ----------
    effects : Estimates, k rows
        Effects of the regression with independent errors, and their degrees of freedom.
    benchmarks : DataFrame
        Bounds for a confounder `k` times as strong as an observed covariate.
    q : float
        Share of the effect that is to be explained.
    level : float
        Content of intervals.
    """

    effects: Estimates
    benchmarks: pd.DataFrame
    q: float
    level: float

    def tidy(self) -> pd.DataFrame:
        """
        Return robustness values.

        Returns
        -------
        DataFrame, k rows
            Keys, ``estimate, std_error, df``; ``partial_r2`` of treatment with outcome: what a
            confounder that explains all of the rest of the outcome must explain of the rest of
            treatment; ``robustness_value``: share of the rest of both that a confounder must
            explain to take away the share `q` of the effect; ``robustness_value_level``: to move an
            end of the interval there.
        """
        frame = self.effects.frame
        t, df = self._t, frame["df"].to_numpy(dtype=float)
        return frame[list(_KEYS)].assign(
            estimate=self.effects.estimate, std_error=self.effects.std_error, df=df,
            partial_r2=t**2 / (t**2 + df),
            robustness_value=robustness_value(t, df, q=self.q),
            robustness_value_level=robustness_value(t, df, q=self.q, level=self.level),
            q=self.q, level=self.level,
        )  # fmt: skip

    def adjusted(self, *, r2_treatment: float, r2_outcome: float) -> pd.DataFrame:
        """
        Return effects as they would be with the confounder in the regression.

        Parameters
        ----------
        r2_treatment : float
            Share of the rest of treatment that the confounder explains, from 0 to below 1.
        r2_outcome : float
            Share of the rest of the outcome that it explains, treatment given, from 0 to 1.

        Returns
        -------
        DataFrame, k rows
            Keys, ``bias`` (size), ``estimate``, ``std_error``, ``df``, ``t``, ``conf_low``,
            ``conf_high``: for a confounder that makes the effect look larger than it is.

        Raises
        ------
        DesignError
            If a share is not in its range.
        """
        if not (0 <= r2_treatment < 1 and 0 <= r2_outcome <= 1):
            raise DesignError(
                f"`r2_treatment` is {r2_treatment} and `r2_outcome` {r2_outcome}; they are shares, "
                "the first below 1."
            )
        df = self.effects.frame["df"].to_numpy(dtype=float)
        found = _adjusted(
            self.effects.estimate, self.effects.std_error, df, r2_treatment, r2_outcome, self.level
        )
        return self.effects.frame[list(_KEYS)].assign(**found)

    @property
    def _t(self) -> FloatArray:
        return np.abs(self.effects.estimate / self.effects.std_error)


_KEYS = ("estimand", "outcome", "unit_of_measure", "cohort", "period", "event_time", "stratum")


def robustness_value(
    t: FloatArray, df: FloatArray, *, q: float = 1.0, level: float | None = None
) -> FloatArray:
    """
    Return the share of the rest of treatment and outcome that a confounder must explain.

    Parameters
    ----------
    t : array, shape (k,)
        t statistics, with errors that are independent and of one variance.
    df : array, shape (k,)
        Residual degrees of freedom.
    q : float, default 1
        Share of the effect that the confounder takes away.
    level : float, optional
        Take away so much that the interval of this content reaches the rest of the effect. Default:
        the estimate itself.

    Returns
    -------
    array, shape (k,)
        Zero where the interval reaches the rest of the effect without a confounder.

    Raises
    ------
    DesignError
        If `q` or degrees of freedom are too small, or `level` is no probability.

    References
    ----------
    .. [1] Cinelli, C. and Hazlett, C. (2020). Making sense of sensitivity: extending omitted
       variable bias. *Journal of the Royal Statistical Society B* 82(1), 39-67. Section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> t, df = np.array([0.09731582 / 0.02325654]), np.array([783.0])
    >>> robustness_value(t, df).round(3).tolist(), robustness_value(t, df, level=0.95).round(3).tolist()
    ([0.139], [0.076])
    """
    if not (q > 0 and (level is None or 0 < level < 1)):
        raise DesignError(f"`q` is {q} and `level` {level}: a number above zero, a probability.")
    if not (np.asarray(df) > (0 if level is None else 1)).all():
        raise DesignError("`df` holds degrees of freedom below 1, or of 1 with a `level`.")
    f = q * np.abs(t) / np.sqrt(df)
    critical = np.zeros(len(f))
    if level is not None:
        critical = special.stdtrit(df - 1, (1 + level) / 2) / np.sqrt(df - 1)
    gap = np.maximum(f - critical, 0.0)
    value = (np.sqrt(gap**4 + 4 * gap**2) - gap**2) / 2
    # a stronger confounder also makes the error smaller: then one as strong in treatment is enough
    inside = (gap > 0) & (f * critical > 1)
    return np.where(inside, (f**2 - critical**2) / (1 + f**2), value)


def omitted_variable(
    est: Estimates,
    *,
    benchmarks: Sequence[str] = (),
    k: Sequence[float] = (1.0, 2.0, 3.0),
    q: float = 1.0,
    level: float = 0.95,
) -> OmittedVariable:
    """
    Bound what an unobserved confounder could do to an effect of a regression.

    Parameters
    ----------
    est : Estimates
        One regression fitted with ``vcov="iid"``: partial R2 are facts about sums of squares, and
        only these errors and their residual degrees of freedom give them. Numbers of a published
        regression serve as well: ``Estimates(frame, covariance=...)`` with ``df``.
    benchmarks : sequence of str
        Covariates of the regression (rows with ``covariate_rows=True``): a confounder is taken to
        be `k` times as strong as one of them.
    k : sequence of float, default (1, 2, 3)
        How many times as strong, in treatment and outcome.
    q : float, default 1
        Share of the effect that is to be explained.
    level : float, default 0.95
        Content of intervals.

    Returns
    -------
    OmittedVariable
        ``tidy()`` robustness values, ``benchmarks`` (bounds), ``adjusted(...)`` any confounder.

    Raises
    ------
    DesignError
        If errors are others, degrees of freedom are not finite, a benchmark is not among the rows,
        or there are several effects with benchmarks.

    Notes
    -----
    The results are algebra of least squares: exact for the confounder's part in one regression, and
    they say nothing of errors by cluster. A confounder of a two-way regression must change over time
    in another way for participants; what is fixed in a unit or common to a period is no confounder.
    The partial R2 of a covariate with treatment is the squared correlation of both coefficients. A
    benchmark stands for each column of a covariate by itself.

    References
    ----------
    .. [1] Cinelli, C. and Hazlett, C. (2020). Making sense of sensitivity: extending omitted
       variable bias. *Journal of the Royal Statistical Society B* 82(1), 39-67.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> est = vbc.Estimates(frame=pd.DataFrame({"estimand": ["harm"], "outcome": ["peace"],
    ...     "estimate": [0.09731582], "df": [783.0]}), covariance=np.array([[0.02325654**2]]))
    >>> found = vbc.sensitivity.omitted_variable(est).tidy()
    >>> found[["partial_r2", "robustness_value", "robustness_value_level"]].round(3).values.tolist()
    [[0.022, 0.139, 0.076]]
    """
    require_estimates(est)
    if not (0 < level < 1 and q > 0 and len(k) and min(k) > 0):
        raise DesignError(
            f"`level` is {level}, `q` {q} and `k` {tuple(k)}: a probability, and numbers above zero."
        )
    if est.meta.get("vcov", "iid") != "iid":
        raise DesignError(
            f"errors are '{est.meta['vcov']}', but partial R2 follow from errors that are "
            "independent and of one variance only. Fit again with vcov='iid'; the robustness value "
            "of an estimate does not depend on how its error is estimated."
        )
    is_effect = (est.frame["estimand"] != _COEFFICIENT).to_numpy()
    effects = est.where(is_effect & np.isfinite(est.std_error))
    df = effects.frame["df"].to_numpy(dtype=float)
    if not (np.isfinite(df) & (df > 1)).all():
        raise DesignError(
            "residual degrees of freedom are missing, infinite or below 2, so partial R2 are not "
            "known. Give column `df`: rows less parameters."
        )
    if benchmarks and len(effects) > 1:
        raise DesignError(
            f"benchmarks are of one effect, and there are {len(effects)}. Use a regression with one "
            "treatment, such as TWFE."
        )
    table = pd.DataFrame(columns=list(_BOUNDS))
    if benchmarks:
        rows = [row for name in benchmarks for row in _bounds(est, effects, name, k, level)]
        table = pd.DataFrame(rows)
    return OmittedVariable(effects=effects, benchmarks=table, q=q, level=level)


_BOUNDS = (
    "benchmark", "k", "r2_treatment", "r2_outcome", "bias", "estimate", "std_error", "df", "t",
    "conf_low", "conf_high",
)  # fmt: skip


def _bounds(
    est: Estimates, effects: Estimates, name: str, k: Sequence[float], level: float
) -> list[dict[str, object]]:
    """Return bounds for confounders as strong as a covariate, or a multiple of it."""
    terms = est.frame["term"] if "term" in est.frame else pd.Series(index=est.frame.index)
    found = np.flatnonzero((est.frame["estimand"] == _COEFFICIENT) & (terms == name))
    if len(found) != 1:
        known = terms.dropna().tolist()
        raise DesignError(
            f"`{name}` is no covariate among the rows ({listed(known) or 'there are none'}). Fit "
            "with covariate_rows=True."
        )
    j, i = int(found[0]), int(np.flatnonzero(est.frame["estimand"] != _COEFFICIENT)[0])
    vcov, df = est.vcov(), float(effects.frame["df"].iloc[0])
    # coefficients of two columns are correlated as the columns are, given the others, sign reversed
    with_treatment = float(vcov[i, j] ** 2 / (vcov[i, i] * vcov[j, j]))
    t2 = float(est.estimate[j] ** 2 / vcov[j, j])
    rest = t2 / df  # partial R2 over one less it
    rows: list[dict[str, object]] = []
    for times in k:
        treatment = times * with_treatment / (1 - with_treatment)
        if treatment >= 1:
            raise DesignError(
                f"a confounder {times:g} times as strong as `{name}` would explain all of treatment. "
                "Use smaller `k`."
            )
        shared = times * with_treatment**2 / ((1 - times * with_treatment) * (1 - with_treatment))
        outcome = (np.sqrt(times) + np.sqrt(shared)) ** 2 / (1 - shared) * rest
        # no confounder explains more than all
        outcome = min(float(outcome), 1.0)
        one = _adjusted(
            effects.estimate, effects.std_error, np.array([df]), treatment, outcome, level
        )
        rows.append({
            "benchmark": name, "k": float(times), "r2_treatment": treatment, "r2_outcome": outcome,
            **{key: float(np.ravel(value)[0]) for key, value in one.items()},
        })  # fmt: skip
    return rows


def _adjusted(
    estimate: FloatArray,
    std_error: FloatArray,
    df: FloatArray,
    r2_treatment: float,
    r2_outcome: float,
    level: float,
) -> dict[str, FloatArray]:
    """Return effects with the confounder in the regression, shape (k,) each."""
    bias = std_error * np.sqrt(df * r2_outcome * r2_treatment / (1 - r2_treatment))
    moved = estimate - np.sign(estimate) * bias
    error = std_error * np.sqrt((1 - r2_outcome) / (1 - r2_treatment) * df / (df - 1))
    half = special.stdtrit(df - 1, (1 + level) / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = moved / error
    return {
        "bias": bias, "estimate": moved, "std_error": error, "df": df - 1, "t": t,
        "conf_low": moved - half, "conf_high": moved + half,
    }  # fmt: skip
