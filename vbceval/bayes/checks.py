"""Gates: posterior draws that cannot be trusted never become estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What posterior draws must satisfy.

    Parameters
    ----------
    r_hat : float, default 1.01
        Largest rank-normalised split R-hat allowed (Vehtari et al. 2021).
    ess : float, default 400
        Smallest bulk and tail effective sample size allowed.
    divergences : float, default 0.001
        Largest share of divergent transitions allowed; any at all is noted in the result.
    bfmi : float, default 0.3
        Smallest energy Bayesian fraction of missing information allowed, chain by chain.
    """

    r_hat: float = 1.01
    ess: float = 400.0
    divergences: float = 0.001
    bfmi: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """
    What was seen, when it was good enough.

    Parameters
    ----------
    r_hat, ess_bulk, ess_tail : float
        Worst value over the quantities checked.
    divergences, n_draws : int
        Divergent transitions among all draws.
    bfmi : float
        Smallest over chains; NaN where the sampler reports no energy.
    n_quantities : int
        Scalars checked.
    notes : tuple of str
        What a reader should know although the gates are open.
    """

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    n_draws: int
    bfmi: float
    n_quantities: int
    notes: tuple[str, ...] = ()


def convergence_table(tree: Any, names: Sequence[str] | None = None) -> pd.DataFrame:
    """
    Return R-hat and effective sample sizes, one row a scalar quantity.

    Parameters
    ----------
    tree : xarray.DataTree
        With group ``posterior`` and dimensions chain, draw.
    names : sequence of str, optional
        Variables to check; default all.

    Returns
    -------
    DataFrame
        Columns ``quantity`` (with its coordinates, as in ``delta[2016]``), ``r_hat``,
        ``ess_bulk``, ``ess_tail``. A quantity that never moves has missing values.
    """
    import arviz

    posterior = tree["posterior"].to_dataset()
    names = list(posterior.data_vars) if names is None else list(names)
    unknown = [n for n in names if n not in posterior]
    if unknown:
        raise EstimationError(
            f"the posterior has no variable {listed(unknown)}; it has {listed(posterior.data_vars)}."
        )
    columns = ["quantity", "r_hat", "ess_bulk", "ess_tail"]
    parts = [pd.DataFrame(columns=columns).astype(dict.fromkeys(columns[1:], float))]
    for name in names:
        values = posterior[[name]]
        parts.append(
            pd.DataFrame(
                {
                    "quantity": _labels(posterior[name]),
                    "r_hat": _flat(arviz.rhat(values, method="rank"), name),
                    "ess_bulk": _flat(arviz.ess(values, method="bulk"), name),
                    "ess_tail": _flat(arviz.ess(values, method="tail"), name),
                }
            )
        )
    filled = [p for p in parts if len(p)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _flat(dataset: Any, name: str) -> Any:
    return np.atleast_1d(np.asarray(dataset[name].values, dtype=float)).ravel()


def _labels(variable: Any) -> list[str]:
    dims = [d for d in variable.dims if d not in ("chain", "draw")]
    if not dims:
        return [str(variable.name)]
    axes = [[str(x) for x in np.asarray(variable[d].values)] for d in dims]
    grid = pd.MultiIndex.from_product(axes)
    return [f"{variable.name}[{', '.join(map(str, key))}]" for key in grid]


def require_converged(
    tree: Any, names: Sequence[str] | None = None, limits: Limits | None = None
) -> Convergence:
    """
    Refuse draws that have not converged.

    Every scalar of the named variables must have R-hat, bulk and tail effective sample size
    within the limits; divergent transitions and the energy statistic are judged over all draws.
    A quantity that never moves in any chain fails, because a stuck sampler looks the same as a
    constant: do not name constants.

    Parameters
    ----------
    tree : xarray.DataTree
        Groups ``posterior`` and, where the sampler has them, ``sample_stats`` with ``diverging``
        and ``energy``.
    names : sequence of str, optional
        Variables that are reported, and so judged. Default: all of ``posterior``.
    limits : Limits, optional
        Default `Limits()`.

    Returns
    -------
    Convergence
        Worst values seen, for the result's ``meta``.

    Raises
    ------
    EstimationError
        If any limit is broken, naming the quantity, the value, the limit and what to do.

    References
    ----------
    .. [1] Vehtari, A., Gelman, A., Simpson, D., Carpenter, B. and Buerkner, P.-C. (2021).
       Rank-normalization, folding, and localization: an improved R-hat. *Bayesian Analysis*
       16(2), 667-718.
    .. [2] Betancourt, M. (2016). Diagnosing suboptimal cotangent disintegrations in Hamiltonian
       Monte Carlo. arXiv:1604.00695.
    """
    limits = Limits() if limits is None else limits
    table = convergence_table(tree, names)
    divergences, n_draws, bfmi = _sampler(tree)
    wrong, remedies = _quantities(table, limits)
    if divergences > limits.divergences * n_draws:
        wrong.append(f"{divergences:,} divergences in {n_draws:,} draws")
        remedies.append("raise `target_accept` or use the non-centred form")
    if bfmi < limits.bfmi:
        wrong.append(f"smallest E-BFMI {bfmi:.2f} (limit {limits.bfmi:g})")
        remedies.append("tighten the priors on the scales")
    if wrong:
        raise EstimationError(
            f"the posterior draws cannot be trusted: {'; '.join(wrong)}. Remedy: "
            f"{', '.join(dict.fromkeys(remedies))}."
        )
    notes: tuple[str, ...] = ()
    if divergences:
        notes = (f"{divergences:,} of {n_draws:,} draws diverged, below the limit.",)
    return Convergence(
        r_hat=float(table["r_hat"].max()),
        ess_bulk=float(table["ess_bulk"].min()),
        ess_tail=float(table["ess_tail"].min()),
        divergences=divergences,
        n_draws=n_draws,
        bfmi=bfmi,
        n_quantities=len(table),
        notes=notes,
    )


def _quantities(table: pd.DataFrame, limits: Limits) -> tuple[list[str], list[str]]:
    """Return what is wrong with single quantities, worst first, and the remedies."""
    wrong, remedies = [], []
    stuck = table[~np.isfinite(table[["r_hat", "ess_bulk", "ess_tail"]]).all(axis=1)]
    if len(stuck):
        wrong.append(f"{len(stuck)} quantities never move or are not finite ({_some(stuck)})")
        remedies.append("check the model for constants and overflow")
    high = table[table["r_hat"] > limits.r_hat].sort_values("r_hat", ascending=False)
    if len(high):
        wrong.append(
            f"R-hat up to {high['r_hat'].iloc[0]:.3f} ({_some(high)}; limit {limits.r_hat:g}, "
            f"{len(high)} of {len(table)} quantities)"
        )
        remedies.append("raise `tune` and `draws`")
    for column, word in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        low = table[table[column] < limits.ess].sort_values(column)
        if len(low):
            wrong.append(
                f"{word} effective sample size down to {low[column].iloc[0]:.0f} ({_some(low)}; "
                f"limit {limits.ess:g}, {len(low)} of {len(table)} quantities)"
            )
            remedies.append("raise `draws`")
    return wrong, remedies


def _some(table: pd.DataFrame) -> str:
    return listed(table["quantity"], most=3)


def _sampler(tree: Any) -> tuple[int, int, float]:
    """Return divergences, draws over all chains, and the smallest E-BFMI."""
    sizes = tree["posterior"].to_dataset().sizes
    n_draws = int(sizes["chain"] * sizes["draw"])
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else {}
    divergences = int(np.asarray(stats["diverging"]).sum()) if "diverging" in stats else 0
    if "energy" not in stats:
        return divergences, n_draws, np.nan
    energy = np.asarray(stats["energy"], dtype=float)
    spread = energy.var(axis=1)
    step = np.square(np.diff(energy, axis=1)).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return divergences, n_draws, float(np.min(step / spread))
