"""Linear algebra on labelled rows: arrays and frames in, arrays and frames out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.groups import in_order
from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.estimates import columns

_HELD = 1 << 22
"""Numbers of influence that are copied at a time."""
TESTS = ("wild", "randomization")
"""Resampling tests: a row has columns ``<test>_p_value``, ``_low``, ``_high`` and ``_level``."""


def _no_plotter(_: Any, **__: Any) -> Any:
    raise EstimationError("figures are not loaded: import vbceval before plotting.")


plotter: Callable[..., Any] = _no_plotter
"""Draws an `Estimates`; the package sets it, because this room may not know about figures."""


def t_quantile(probability: float, df: FloatArray) -> FloatArray:
    """Return t quantiles, normal where `df` is infinite."""
    finite = np.isfinite(df)
    out = np.full(df.shape, special.ndtri(probability))
    out[finite] = special.stdtrit(df[finite], probability)
    return out


def t_p_value(t: FloatArray, df: FloatArray) -> FloatArray:
    """Return two-sided p-values of t statistics, normal where `df` is infinite."""
    size = np.abs(t)
    finite = np.isfinite(df)
    out = 2 * special.ndtr(-size)
    out[finite] = 2 * special.stdtr(df[finite], -size[finite])
    return np.asarray(out)


def normal_draws(
    mean: FloatArray, vcov: FloatArray, size: int, rng: np.random.Generator
) -> FloatArray:
    """Return draws of a normal vector, shape (size, k); `vcov` may have less than full rank."""
    values, vectors = np.linalg.eigh(vcov)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    return np.asarray(mean + rng.standard_normal((size, len(mean))) @ root.T)


def contrast_matrix(
    frame: pd.DataFrame, weights: FloatArray | Mapping[str, Mapping[Any, float]]
) -> tuple[list[str], FloatArray]:
    """Return names and an (m, k) coefficient matrix from an array or a dict of named rows."""
    k = len(frame)
    if not isinstance(weights, Mapping):
        matrix = np.atleast_2d(np.asarray(weights, dtype=float))
        if matrix.shape[1] != k:
            raise DesignError(
                f"the contrast has {matrix.shape[1]} coefficients, but there are {k} estimates."
            )
        return [f"contrast_{i + 1}" for i in range(len(matrix))], matrix
    if not weights:
        raise DesignError("no contrast was given: name one row of coefficients or more.")
    matrix = np.zeros((len(weights), k))
    for i, (name, parts) in enumerate(weights.items()):
        if not isinstance(parts, Mapping) or not parts:
            raise DesignError(
                f"contrast `{name}` is {parts!r}; give {{row: coefficient}}, a row being a "
                "position or a query."
            )
        for row, coefficient in parts.items():
            matrix[i, _one_row(frame, row, name)] += coefficient
    return list(weights), matrix


def _one_row(frame: pd.DataFrame, row: Any, name: str) -> int:
    if isinstance(row, str):
        found = queried(frame, row)
        if len(found) != 1:
            raise DesignError(
                f"contrast `{name}`: `{row}` selects {len(found)} estimates, but it must select "
                "exactly one."
            )
        return int(found[0])
    whole = isinstance(row, (int, np.integer)) or (isinstance(row, float) and row.is_integer())
    if not whole or not 0 <= int(row) < len(frame):
        raise DesignError(
            f"contrast `{name}` uses row {row}, but there are {len(frame)} estimates (0 to "
            f"{len(frame) - 1})."
        )
    return int(row)


def queried(frame: pd.DataFrame, query: str) -> pd.Index:
    """Return the index of rows that match a query; a bad query is a DesignError."""
    try:
        return frame.query(query).index
    except Exception as error:  # pandas raises many kinds for a bad query
        raise DesignError(
            f"`{query}` cannot be read as a query on the columns {list(frame.columns)}: {error}."
        ) from error


def contrast_frame(
    frame: pd.DataFrame, matrix: FloatArray, names: Sequence[str], estimate: FloatArray
) -> pd.DataFrame:
    """Return the frame of new rows: keys that the used rows share, smallest df, counts."""
    shared = [c for c in columns.KEYS if c != "estimand"]
    records = []
    for name, coefficients in zip(names, matrix, strict=True):
        used = frame[coefficients != 0]
        record: dict[str, Any] = {"estimand": name}
        for key in shared:
            values = used[key].unique()
            record[key] = values[0] if len(values) == 1 else None
        record["df"] = used["df"].min() if len(used) else np.inf
        for key in columns.COUNTS:
            record[key] = used[key].max()
        records.append(record)
    out = pd.DataFrame(records)
    # a row that is not used may be missing, and 0 times missing is missing
    out["estimate"] = matrix @ np.where((matrix != 0).any(axis=0), estimate, 0.0)
    return out


def require_present(frame: pd.DataFrame, rows: IntArray) -> None:
    """
    Check that rows which are combined have an estimate.

    Raises
    ------
    EstimationError
        Naming the first rows that are missing, and why.
    """
    used = frame.iloc[rows]
    lost = used[~np.isfinite(used["estimate"].to_numpy(dtype=float))]
    if len(lost):
        keys = lost[["estimand", "stratum", "cohort", "period"]].iloc[:3].to_dict("records")
        why = f" ({lost['note'].iloc[0]})" if "note" in lost else ""
        raise EstimationError(
            f"{len(lost)} of the estimates that are combined are missing{why}: {keys}. Leave them "
            "out with `where`, or change the design so that they exist."
        )


def is_covariance(matrix: FloatArray) -> bool:
    """
    Return whether a matrix is symmetric without negative eigenvalues, up to printed digits.

    Rows that are missing throughout, as those of estimates that do not exist, are left out.

    Parameters
    ----------
    matrix : array, shape (k, k)
    """
    known = np.isfinite(np.diag(matrix))
    part = matrix[np.ix_(known, known)]
    if not np.isfinite(part).all():
        return False
    size = float(np.abs(part).max(initial=0.0))
    if not np.allclose(part, part.T, rtol=0.0, atol=1e-8 * size):
        return False
    return not len(part) or float(np.linalg.eigvalsh(part)[0]) >= -1e-6 * size


def sums_of_squares(psi: FloatArray) -> FloatArray:
    """
    Return the sum of squares of each column of (G, k), shape (k,).

    Each column is added up on its own, so that an estimate has the same bits alone, in a table and
    in a stack: numpy adds in an order that depends on how an array lies in memory.
    """
    out = np.empty(psi.shape[1])
    step = max(1, _HELD // max(1, len(psi)))
    for start in range(0, len(out), step):
        rows = np.array(psi[:, start : start + step].T, order="C")
        out[start : start + step] = np.square(rows, out=rows).sum(axis=1)
    return out


def rounding_only(matrix: FloatArray, std_error: FloatArray, psi: FloatArray) -> BoolArray:
    """
    Return which contrasts have no variation but rounding: the rows they subtract are the same.

    Parameters
    ----------
    matrix : array, shape (m, k)
        Coefficients.
    std_error : array, shape (k,)
        Of the rows combined; missing where a row has no variation.
    psi : array, shape (G, m)
        Influence of the contrasts.
    """
    size = np.abs(matrix) @ np.nan_to_num(std_error)
    return np.asarray(np.linalg.norm(psi, axis=0) <= 1e-10 * size, dtype=bool)


def union_of_labels(labels: Sequence[pd.Index | None]) -> tuple[pd.Index, list[IntArray]]:
    """Return all cluster labels, once each and in order, and the place of each part's among them."""
    parts = [pd.Index(np.asarray(x, dtype=object)) for x in labels]
    for other in parts[1:]:
        if not other.isin(parts[0]).any() and len({type(x[0]) for x in (parts[0], other)}) > 1:
            raise EstimationError(
                "these estimates share no cluster, and their labels are of different types "
                f"({type(parts[0][0]).__name__} and {type(other[0]).__name__}): the same clusters "
                "would count as different ones. Convert the cluster column to one type."
            )
    union = in_order(pd.Index(pd.unique(np.concatenate([np.asarray(x) for x in parts]))))
    return union, [union.get_indexer(x) for x in parts]


def spread(
    matrices: Sequence[FloatArray | None], places: Sequence[IntArray], n_clusters: int
) -> FloatArray:
    """Put influence matrices side by side; a cluster that a part does not have gets zeros."""
    out = []
    for place, matrix in zip(places, matrices, strict=True):
        if matrix is None:
            raise EstimationError("an influence matrix is missing.")
        full = np.zeros((n_clusters, matrix.shape[1]))
        full[place] = matrix
        out.append(full)
    return np.concatenate(out, axis=1)


def factors_of(factor: float | FloatArray, k: int) -> FloatArray:
    """
    Return one factor a row, shape (k,).

    Raises
    ------
    DesignError
        If there are neither one nor k factors.
    """
    given = np.asarray(factor, dtype=float)
    if given.shape not in ((), (1,), (k,)):
        raise DesignError(
            f"`factor` has shape {given.shape}, but there are {k} rows. Give one factor for all rows, "
            "or one for each."
        )
    return np.broadcast_to(given, (k,))


def scaled_frame(frame: pd.DataFrame, factors: FloatArray) -> pd.DataFrame:
    """Return the rows times constants, with the ends of intervals that invert a test."""
    out = frame.assign(estimate=frame["estimate"].to_numpy(dtype=float) * factors)
    for test in TESTS:
        names = [f"{test}_low", f"{test}_high"]
        if names[0] in out:
            out[names] = np.sort(out[names].to_numpy(dtype=float) * factors[:, None])
    return out


def without_tests(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows without resampling tests of zero: they are no tests of another value."""
    prefixes = tuple(f"{test}_" for test in TESTS)
    return frame.drop(columns=[c for c in frame if str(c).startswith(prefixes)])


def centre(amounts: FloatArray, samples: FloatArray | None) -> FloatArray:
    """
    Return the mean of amounts, shape (k,), which are known (k,) or joint draws (S, k) of samples.

    Raises
    ------
    EstimationError
        If draws of amounts do not match the draws of the estimates.
    """
    if amounts.ndim == 1:
        return amounts
    if samples is None or amounts.shape != samples.shape:
        raise EstimationError(
            f"the amounts are {len(amounts)} joint draws and the estimates carry "
            f"{'none' if samples is None else len(samples)}: which amount belongs to which draw of "
            "the effect is not known. Compute the amounts from the draws of these estimates, or "
            "give one known amount a row."
        )
    return np.asarray(amounts.mean(axis=0))
