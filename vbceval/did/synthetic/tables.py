"""Tables of weights and of paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.typing import Array, FloatArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.control import NOTHING, Control, Paths
from vbceval.did.synthetic.wide import Wide

_TIE = 1e-7


def weight_rows(
    wide: Wide, cohort: Cohort, kind: str, names: Array, weight: FloatArray
) -> list[dict[str, Any]]:
    """Return a record for each weight of one kind, largest first."""
    order = np.argsort(-weight, kind="stable")
    return [
        {"stratum": wide.stratum, "cohort": cohort.entry, "kind": kind, "name": names[i],
         "weight": float(weight[i])}
        for i in order
    ]  # fmt: skip


def weights_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the records as a table."""
    return pd.DataFrame(rows, columns=["stratum", "cohort", "kind", "name", "weight"])


def path_rows(wide: Wide, cohort: Cohort, treated: FloatArray, gap: FloatArray) -> pd.DataFrame:
    """
    Return treated and synthetic paths of one cohort.

    Parameters
    ----------
    wide : Wide
        Matrices, for names.
    cohort : Cohort
        Periods.
    treated, gap : arrays, shape (T,)
        Mean outcome of the treated, and its difference to the synthetic one.
    """
    periods = wide.periods[cohort.columns]
    return pd.DataFrame({
        "stratum": pd.Series([wide.stratum] * len(periods), dtype=object),
        "cohort": cohort.entry, "period": periods, "event_time": periods - cohort.entry,
        "treated": treated, "synthetic": treated - gap, "gap": gap,
    })  # fmt: skip


def period_rows(
    wide: Wide,
    cohort: Cohort,
    gaps: FloatArray,
    low: FloatArray,
    high: FloatArray,
    p_value: FloatArray,
) -> pd.DataFrame:
    """
    Return tests of one cohort by period from entry on, then of their mean.

    Parameters
    ----------
    wide : Wide
        Matrices, for names.
    cohort : Cohort
        Periods.
    gaps : array, shape (T1,)
        Effects.
    low, high, p_value : arrays, shape (T1 + 1,)
        Intervals and p-values, the mean last.
    """
    periods = np.append(wide.periods[cohort.columns[cohort.post]], np.nan)
    return pd.DataFrame({
        "stratum": pd.Series([wide.stratum] * len(periods), dtype=object),
        "cohort": cohort.entry, "period": periods, "event_time": periods - cohort.entry,
        "estimate": np.append(gaps, gaps.mean()), "p_value": p_value,
        "conf_low": low, "conf_high": high,
    })  # fmt: skip


def ratio_rows(
    wide: Wide, cohort: Cohort, names: Array, gaps: FloatArray, paths: FloatArray
) -> pd.DataFrame:
    """
    Return fits before and after entry, the treated organization first.

    Parameters
    ----------
    wide : Wide
        Matrices, for the stratum.
    cohort : Cohort
        Periods.
    names : array, shape (J + 1,)
        Organizations.
    gaps, paths : arrays, shape (J + 1, T)
        Their gaps and outcomes.
    """
    before = np.sqrt(np.mean(gaps[:, : cohort.n_pre] ** 2, axis=1))
    after = np.sqrt(np.mean(gaps[:, cohort.post] ** 2, axis=1))
    # a gap of the solver's size is none: by it, who is followed exactly would have an order
    least = NOTHING * float(np.sqrt(np.mean((paths - paths.mean(axis=0)) ** 2)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(after > least, after, 0.0) / np.where(before > least, before, 0.0)
    first = np.arange(len(names)) == 0
    return pd.DataFrame({
        "stratum": pd.Series([wide.stratum] * len(names), dtype=object),
        "cohort": cohort.entry, "name": names, "treated": first, "pre_rmspe": before,
        "post_rmspe": after, "ratio": ratio,
        # a ratio of nothing to nothing is not known to be smaller; nor is one by rounding
        "p_value": np.where(first, np.mean(~(ratio < ratio[0] * (1 - _TIE))), np.nan),
    })  # fmt: skip


def balance_row(wide: Wide, cohort: Cohort, paths: Paths, control: Control) -> dict[str, Any]:
    """Return how well one cohort is matched before entry."""
    n = paths.n_pre
    gaps = control.effects(paths)
    uniform = float(np.linalg.norm(paths.y1[:n] - paths.y0[:, :n].mean(axis=0)))
    before = paths.y1 - control.simplex @ paths.y0
    left = float(np.linalg.norm(gaps[:n]))
    return {
        "stratum": wide.stratum, "cohort": cohort.entry, "l2_imbalance": left,
        "l2_uniform": uniform, "improvement": 1 - left / uniform if uniform > 0 else np.nan,
        "n_donors": int((np.abs(control.weights) > 1e-3).sum()),
        "negative_weight": float(np.minimum(control.weights, 0.0).sum()),
        "penalty": np.nan if control.ridge is None else control.ridge.penalty,
        "bias": float((before - gaps)[cohort.post].mean()),
    }  # fmt: skip
