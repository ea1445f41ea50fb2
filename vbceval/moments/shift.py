"""How far sharing moves the estimates: the same estimator on all cells and on the shared ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from scipy import special

from vbceval.core.errors import DataError
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates, columns
from vbceval.moments.moments import Moments


def export_shift(
    full: Moments,
    shared: Moments,
    estimators: Mapping[str, Callable[[Moments], Estimates]],
    *,
    level: float = 0.95,
    digits: int | None = 3,
) -> pd.DataFrame:
    """
    Estimate on all cells and on the shared ones, and report the differences.

    The numbers of record are those of the shared file; this says how far they are from the others.
    Merging strata moves no pooled effect. Merging organizations moves standard errors, and effects
    that weight organizations equally. Leaving organizations out moves both.

    Parameters
    ----------
    full : Moments
        What was shared, before.
    shared : Moments
        What `shareable` returned, or its file loaded.
    estimators : mapping of str to callable
        Headline estimates by name: moments to `Estimates`.
    level : float
        Probability of the interval of the difference.
    digits : int or None
        Significant digits of a standard error to which numbers from all cells, and differences, are
        rounded. With all their digits, and beside the shared file, they are equations for what was
        merged or left out. None keeps all, for use inside the enclave.

    Returns
    -------
    DataFrame
        One row an estimate, in its unit: ``name``, the keys of the estimates, ``estimate_full``,
        ``std_error_full``, ``estimate_shared``, ``std_error_shared``, ``difference`` (shared minus
        full), ``std_error_difference``, ``conf_low`` and ``conf_high`` of the difference, and
        ``difference_in_std_errors`` (of the full estimate). An estimate that only one of them has,
        as for a merged stratum, has missing values for the other. The error of a difference is
        joint, through organizations; it is missing where estimates carry draws.

    Raises
    ------
    DataError
        If `shared` is no shared copy, or `digits` is below 1.
    """
    if digits is not None and digits < 1:
        raise DataError(f"`digits` is {digits}; it is a number of digits, 1 or more, or None.")
    if "share" not in shared.meta:
        raise DataError("`shared` is no shared copy of moments; pass what `shareable` returned.")
    merged = shared.meta["share"]["clusters"]
    stands_for = {member: label for label, members in merged.items() for member in members}
    parts = []
    for name, estimate in estimators.items():
        parts.append(_compared(estimate(full), estimate(shared), stands_for, level, name))
    out = pd.concat(parts, ignore_index=True)
    return out if digits is None else _rounded(out, digits)


def _rounded(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Round what comes from all cells to digits of its standard error."""
    error = table["std_error_full"].to_numpy(dtype=float)
    size = np.where(error > 0, error, np.abs(table["estimate_full"].to_numpy(dtype=float)))
    with np.errstate(divide="ignore", invalid="ignore"):
        step = 10.0 ** (np.floor(np.log10(size)) - digits + 1)
    out = table.copy()
    for name in ("estimate_full", "std_error_full", "difference", "std_error_difference",
                 "conf_low", "conf_high"):  # fmt: skip
        values = table[name].to_numpy(dtype=float)
        with np.errstate(invalid="ignore"):
            out[name] = np.where(step > 0, np.rint(values / step) * step, values)
    out["difference_in_std_errors"] = table["difference_in_std_errors"].round(digits)
    return out


def _compared(
    one: Estimates, two: Estimates, stands_for: Mapping[str, str], level: float, name: str
) -> pd.DataFrame:
    keys = [k for k in columns.KEYS if k in one.frame and k in two.frame]
    tables = []
    for side, est in (("full", one), ("shared", two)):
        tidy = est.tidy(level=level)
        table = tidy[keys].astype(object).where(tidy[keys].notna(), None)
        table[f"estimate_{side}"] = tidy["estimate"].to_numpy(dtype=float)
        table[f"std_error_{side}"] = tidy["std_error"].to_numpy(dtype=float)
        table[f"row_{side}"] = np.arange(len(tidy))
        tables.append(table)
    out = tables[0].merge(tables[1], on=keys, how="outer", sort=False)
    out["difference"] = out["estimate_shared"] - out["estimate_full"]
    out["std_error_difference"] = np.nan
    both = out["row_full"].notna() & out["row_shared"].notna()
    if one.psi_vcov is not None and two.psi_vcov is not None:
        psi = _joint(one, two, stands_for)
        rows = out.loc[both, ["row_full", "row_shared"]].to_numpy(dtype=int)
        change = psi[1][:, rows[:, 1]] - psi[0][:, rows[:, 0]]
        out.loc[both, "std_error_difference"] = np.sqrt((change**2).sum(axis=0))
    reach = special.ndtri(0.5 + level / 2) * out["std_error_difference"]
    out["conf_low"], out["conf_high"] = out["difference"] - reach, out["difference"] + reach
    out["difference_in_std_errors"] = out["difference"] / out["std_error_full"]
    out.insert(0, "name", name)
    return out.drop(columns=["row_full", "row_shared"])


def _joint(
    one: Estimates, two: Estimates, stands_for: Mapping[str, str]
) -> tuple[FloatArray, FloatArray]:
    """Influence of both on the organizations of the shared file, and on those left out."""
    labels = [
        pd.Index([stands_for.get(str(x), str(x)) for x in np.asarray(one.clusters)]),
        pd.Index(np.asarray(two.clusters).astype(str)),
    ]
    every = pd.Index(np.unique(np.concatenate([np.asarray(x, dtype=object) for x in labels])))
    found = []
    for names, est in zip(labels, (one, two), strict=True):
        psi = np.asarray(est.psi_vcov, dtype=float)
        total = np.zeros((len(every), psi.shape[1]))
        np.add.at(total, every.get_indexer(names), psi)
        found.append(total)
    return found[0], found[1]
