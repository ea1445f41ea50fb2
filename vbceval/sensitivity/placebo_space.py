"""Effects where there are none: entry given to organizations that never entered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.disclosure import say_people
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.progress import counting
from vbceval.core.rng import generator
from vbceval.core.typing import Array, FloatArray, IntArray
from vbceval.design import Design
from vbceval.estimates import Estimates
from vbceval.estimates.algebra import without_tests
from vbceval.inference import Randomization
from vbceval.inference.assignments import (
    all_orders,
    block_codes,
    drawn_orders,
    number_of_orders,
)
from vbceval.panel import Panel
from vbceval.sensitivity.compare import KEYS
from vbceval.sensitivity.given import require_estimates, require_fit
from vbceval.sensitivity.leave_out import FitCall


def placebo_in_space(
    fit: FitCall,
    panel: Panel,
    design: Design,
    *,
    entering: Literal["number", "share"] = "number",
    law: Randomization | None = None,
) -> Estimates:
    """
    Compare effects with those of entry given to clusters that never entered.

    Treated clusters are left out. As many never treated ones as entered, with the same dates and
    within the same blocks, are taken as if they had; the whole analysis runs for each such
    assignment. What it finds is noise: the distribution that the effect is read against. Unlike
    `vbceval.did.randomization_test`, which moves entry among all clusters, true effects are in none
    of the runs, so that treated clusters may respond in different ways.

    Parameters
    ----------
    fit : callable
        ``fit(panel, design)`` with the same rows for each assignment: aggregate inside, for example
        ``lambda p, d: GroupTime().fit(p, d).aggregate("simple")``.
    panel : Panel
        As observed, with units of a cluster that enter together.
    design : Design
        Passed on; balance weights stay with their clusters.
    entering : {"number", "share"}
        How many never treated clusters of a block are given entry: as many as entered there; or as
        large a share of them as of all its clusters, where there are too few for the number. The
        second needs t statistics, since fewer clusters are noisier.
    law : Randomization, optional
        Blocks, draws, seed, level; ``statistic="t"`` (default) compares t statistics, which allows for
        clusters of different size, "estimate" the estimates, as synthetic control does.

    Returns
    -------
    Estimates
        Rows of `fit` with draws in place of its errors: the interval is the estimate less placebo
        effects (for "t" less placebo t times its own error), ``p_value`` is (1 + placebos at least
        as large) / (1 + placebos). Columns ``fit_std_error``, ``placebo_mean``, ``placebo_sd`` (of
        placebo estimates), ``placebo_p_value`` and ``monte_carlo_error`` of that p-value, zero where
        all assignments were listed. ``meta["placebo_in_space"]`` counts assignments, those used and
        those that could not be estimated.

    Raises
    ------
    DesignError
        If no cluster is treated, units of a cluster enter at different times, a block has too few
        never treated clusters, or there are too few assignments for a p-value below 1 - level.
    EstimationError
        If placebos have other rows, or more than a tenth cannot be estimated.

    Notes
    -----
    The p-value holds where shocks of treated and never treated clusters have one law, and never
    treated clusters are many: what they show is a sample of that law. ``monte_carlo_error`` is that
    of the draw of assignments, and not of this. Cost: a fit an assignment.

    References
    ----------
    .. [1] Abadie, A., Diamond, A. and Hainmueller, J. (2010). Synthetic control methods for
       comparative case studies. *JASA* 105(490), 493-505. Section 3.
    .. [2] Bertrand, M., Duflo, E. and Mullainathan, S. (2004). How much should we trust
       differences-in-differences estimates? *Quarterly Journal of Economics* 119(1), 249-275.
    .. [3] MacKinnon, J. G. and Webb, M. D. (2020). Randomization inference for
       difference-in-differences with few treated clusters. *Journal of Econometrics* 218(2),
       435-450.

    Examples
    --------
    >>> import numpy as np, pandas as pd, vbceval as vbc
    >>> aco, year = np.repeat(np.arange(24), 2), np.tile([2015, 2016], 24)
    >>> frame = pd.DataFrame({"aco": aco, "year": year, "entry": np.where(aco < 2, 2016.0, np.nan)})
    >>> frame["spend"] = aco + np.cos(7.0 * aco) * (year == 2016) - 3.0 * (year >= frame["entry"])
    >>> panel = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry")
    >>> tested = vbc.sensitivity.placebo_in_space(
    ...     vbc.did.TWFE().fit, panel, vbc.Design(outcome="spend"))
    >>> tested.tidy()[["estimate", "p_value", "monte_carlo_error"]].round(3).values.tolist()
    [[-2.007, 0.004, 0.0]]
    >>> tested.meta["placebo_in_space"]["assignments"]
    231
    """
    require_fit(fit)
    law = law or Randomization()
    if entering not in ("number", "share") or (entering == "share" and law.statistic != "t"):
        raise DesignError(
            f"`entering` is {entering!r} and the statistic '{law.statistic}'; use 'number', or "
            "'share' with statistic='t', which allows for other numbers of clusters."
        )
    observed = fit(panel, design)
    require_estimates(observed, "fit(panel, design)")
    if law.statistic == "t" and not np.isfinite(observed.std_error).any():
        raise EstimationError(
            "the estimates have no standard error to divide by; use "
            "law=vbc.inference.Randomization(statistic='estimate')."
        )
    space = _space(panel, law, entering)
    total = number_of_orders(space.codes, space.block)
    if law.too_few(1 + total):
        raise DesignError(
            f"there are only {total:,} ways to give entry to never treated clusters, so the smallest "
            f"possible p-value is {1 / (1 + total):.2g} and an interval of level {law.level:g} does "
            "not exist. Merge blocks, or use a lower level."
        )
    listed_all = total <= law.draws
    orders = (
        all_orders(space.codes, space.block)
        if listed_all
        else drawn_orders(space.block, law.draws, generator(law.seed, "placebo in space"))
    )
    runs = _runs(fit, space, design, orders, observed, total if listed_all else law.draws)
    said = {"assignments": total, "listed": listed_all, "entering": entering}
    return _read(observed, runs, law, said)


class _Space(NamedTuple):
    """
    Never treated clusters, and what they are given.

    Parameters
    ----------
    panel : Panel
        Their rows.
    rows : int array, shape (N,)
        Cluster of each row.
    codes : int array, shape (G,)
        Which entry each is given before they change places.
    block : int array, shape (G,)
        Blocks.
    entry, exit : array, shape (codes,)
        Entry and exit of each code, missing for none.
    """

    panel: Panel
    rows: IntArray
    codes: IntArray
    block: IntArray
    entry: FloatArray
    exit: FloatArray

    def assigned(self, order: IntArray) -> Panel:
        """Return the panel in which clusters have entry and exit in some order."""
        given = self.codes[order][self.rows]
        columns = {self.panel.cohort: self.entry[given]}
        if self.panel.exit is not None:
            columns[self.panel.exit] = self.exit[given]
        return replace(self.panel, frame=self.panel.frame.assign(**columns))


def _space(panel: Panel, law: Randomization, entering: str) -> _Space:
    """Return never treated clusters, and which of them are given entry before they move."""
    frame = panel.frame
    names = [panel.cohort, *([] if panel.exit is None else [panel.exit])]
    people = panel.people and panel.unit == panel.cluster

    def said(count: int, noun: str) -> str:
        return say_people(count, noun) if people else f"{count:,} {noun}"

    table = frame[[panel.cluster, *names]].drop_duplicates()
    several = int(table[panel.cluster].duplicated().sum())
    if several:
        raise DesignError(
            f"{said(several, 'clusters')} hold units that enter at different times, so entry was not given "
            "to clusters. Cluster on what enters together."
        )
    table = table.sort_values(panel.cluster, kind="stable")
    labels = pd.Index(table[panel.cluster])
    block = block_codes(law.blocks, labels, frame, panel.cluster)
    given = table[names].fillna(np.inf).to_numpy(dtype=float)
    treated = np.isfinite(given[:, 0])
    if not treated.any() or treated.all():
        raise DesignError(
            f"{said(int(treated.sum()), 'clusters')} of {said(len(labels), 'clusters')} are treated; a "
            "placebo in space needs some that are and others that never are."
        )
    # the first code is that of no entry
    never = np.full((1, len(names)), np.inf)
    kinds = np.concatenate([never, np.unique(given[treated], axis=0)])
    codes = np.zeros(int((~treated).sum()), dtype=np.int64)
    short = []
    for b in np.unique(block[treated]):
        wanted = given[treated & (block == b)]
        places = np.flatnonzero(block[~treated] == b)
        found = (wanted[:, None, :] == kinds[None, :, :]).all(axis=2).argmax(axis=1)
        size = len(found)
        if entering == "share":
            # dates in the proportions in which they were given
            size = max(1, round(len(found) * len(places) / (len(found) + len(places))))
            found = np.sort(found)[((np.arange(size) + 0.5) * len(found) / size).astype(int)]
        if len(places) <= size:
            short.append(f"{said(len(places), 'never treated')}, {said(len(wanted), 'treated')}")
            continue
        codes[places[:size]] = found
    if short:
        raise DesignError(
            f"entry cannot be given to others in {len(short)} of {len(np.unique(block))} blocks, which "
            f"do not have more never treated clusters than treated ones ({listed(short)}). Merge "
            "blocks, use entering='share', or `vbceval.did.randomization_test`, which moves entry "
            "among all clusters."
        )
    kept = labels[~treated]
    inside = frame[panel.cluster].isin(kept)
    untreated = panel.keep(inside, step="never treated, entry given as a placebo")
    values = np.where(np.isinf(kinds), np.nan, kinds)
    return _Space(
        untreated, kept.get_indexer(pd.Index(untreated.frame[panel.cluster])), codes,
        block[~treated], values[:, 0], values[:, -1],
    )  # fmt: skip


@dataclass(frozen=True)
class _Runs:
    """Placebo estimates and errors, shape (B, k), and why others failed."""

    estimate: FloatArray
    std_error: FloatArray
    failed: tuple[str, ...]


def _runs(
    fit: FitCall,
    space: _Space,
    design: Design,
    orders: Iterator[IntArray],
    observed: Estimates,
    size: int,
) -> _Runs:
    """Run the analysis for each assignment."""
    keys = observed.frame[KEYS].astype(object)
    # a reference period has no error; elsewhere a run without one cannot be compared
    live, known = np.isfinite(observed.std_error), np.isfinite(observed.estimate)
    estimates: list[Array] = []
    errors: list[Array] = []
    failed: list[str] = []
    with counting("placebos in space", size) as done:
        for order in orders:
            try:
                run = fit(space.assigned(order), design)
            except (DesignError, EstimationError) as error:
                failed.append(str(error))
            else:
                if not run.frame[KEYS].astype(object).equals(keys):
                    raise EstimationError(
                        f"with entry given to others the estimates have {len(run)} rows instead of "
                        f"{len(observed)}, or others, so there is no law of each. Let `fit` return "
                        "an aggregate that every assignment has."
                    )
                if not np.isfinite(run.estimate[known]).all():
                    failed.append("a placebo has no estimate")
                elif not np.isfinite(run.std_error[live]).all():
                    failed.append("a placebo has no standard error")
                else:
                    estimates.append(run.estimate)
                    errors.append(run.std_error)
            done()
    if len(failed) > size / 10:
        raise EstimationError(
            f"{len(failed):,} of {size:,} placebos could not be estimated, so the others are no fair "
            f"sample of them; the first reason: {failed[0]}"
        )
    return _Runs(np.array(estimates), np.array(errors), tuple(failed))


def _read(
    observed: Estimates, runs: _Runs, law: Randomization, said: Mapping[str, object]
) -> Estimates:
    """Return the estimates with their errors drawn from placebos."""
    noise = runs.estimate
    if law.statistic == "t":
        noise = runs.estimate / runs.std_error * observed.std_error
    size = len(noise)
    frame = without_tests(observed.frame).assign(
        fit_std_error=observed.std_error, placebo_mean=runs.estimate.mean(axis=0),
        placebo_sd=runs.estimate.std(axis=0, ddof=1), df=np.inf,
    )  # fmt: skip
    record = {
        **said, "used": size, "failed": len(runs.failed), "first_reason": next(iter(runs.failed), ""),
        "statistic": law.statistic, "seed": law.seed, "blocks": law.blocks is not None,
    }  # fmt: skip
    # these errors allow for few treated clusters
    few = observed.meta.get("few_treated_said", ())
    warnings = [w for w in observed.meta.get("warnings", ()) if w not in few]
    out = Estimates(
        frame=frame, samples=observed.estimate - noise, tails="symmetric",
        cluster_name=observed.cluster_name,
        meta={**observed.meta, "placebo_in_space": record, "few_treated_said": [],
              "vcov": f"placebo in space ({law.statistic})", "warnings": warnings},
    )  # fmt: skip
    p = out.tidy(law.level)["p_value"].to_numpy(dtype=float)
    error = np.zeros(len(p)) if said["listed"] else np.sqrt(p * (1 - p) / size)
    return out.with_frame(out.frame.assign(placebo_p_value=p, monte_carlo_error=error))
