"""Estimates side by side, with the covariance between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import EstimationError
from vbceval.core.typing import IntArray
from vbceval.estimates import algebra
from vbceval.estimates.estimates import Estimates
from vbceval.estimates.shares import Shares
from vbceval.inference.satterthwaite import Satterthwaite


def stack(parts: Sequence[Estimates], *, labels: Sequence[str] | None = None) -> Estimates:
    """
    Put estimates side by side with their joint covariance, through the clusters they share.

    Parameters
    ----------
    parts : sequence of Estimates
        Each carries an influence matrix on the same cluster variable. A cluster that one part
        does not have contributes zero there.
    labels : sequence of str, optional
        Value of a new column ``run`` for each part.

    Raises
    ------
    EstimationError
        If a part has no influence matrix, or cluster variables differ: then the covariance
        between parts is unknown.
    """
    if not parts:
        raise EstimationError("`stack` was given no estimates.")
    other = sorted({type(p).__name__ for p in parts if not isinstance(p, Estimates)})
    if other:
        raise EstimationError(
            f"`stack` was given {', '.join(other)} beside or in place of Estimates. Give results of "
            "`fit`."
        )
    names = {p.cluster_name for p in parts}
    if any(p.psi is None for p in parts) or len(names) > 1:
        raise EstimationError(
            "these estimates cannot be stacked: each needs an influence matrix on the same "
            f"cluster variable (found {sorted(names)}; "
            f"{sum(p.psi is None for p in parts)} without influence), otherwise the covariance "
            "between them is unknown."
        )
    if labels is not None and len(labels) != len(parts):
        raise EstimationError(f"{len(labels)} labels were given for {len(parts)} estimates.")
    frames = [p.frame for p in parts]
    if labels is not None:
        frames = [f.assign(run=label) for f, label in zip(frames, labels, strict=True)]
    if len({p.multiplier for p in parts}) > 1:
        raise EstimationError(
            "these estimates cannot be stacked: some take errors from a bootstrap and others do "
            "not, or from different ones. Fit all with the same `vcov`."
        )
    union, places = algebra.union_of_labels([p.clusters for p in parts])
    return Estimates(
        frame=pd.concat([f.astype(object) for f in frames], ignore_index=True).infer_objects(),
        psi=algebra.spread([p.psi for p in parts], places, len(union)),
        psi_vcov=algebra.spread([p.psi_vcov for p in parts], places, len(union)),
        clusters=union,
        cluster_name=parts[0].cluster_name,
        multiplier=parts[0].multiplier,
        degrees=_stack_degrees(parts),
        shares=_stack_shares([p.shares for p in parts], places, len(union)),
        meta=_stack_meta([p.meta for p in parts]),
    )


def _stack_degrees(parts: Sequence[Estimates]) -> Satterthwaite | None:
    """Put regressions side by side; rows of parts that have none come from none."""
    if all(p.degrees is None for p in parts):
        return None
    found = [Satterthwaite.none(len(p)) if p.degrees is None else p.degrees for p in parts]
    return reduce(Satterthwaite.beside, found)


def _stack_shares(
    shares: Sequence[Shares | None], places: Sequence[IntArray], n_clusters: int
) -> Shares | None:
    known = [s for s in shares if s is not None]
    if len(known) < len(shares):
        return None
    psi = None
    by_row = [s.by_row() for s in known]
    if any(rows is not None for rows in by_row):
        # shares taken as fixed do not move with any cluster
        parts = [
            np.zeros((len(place), len(s.value))) if rows is None else rows
            for s, rows, place in zip(known, by_row, places, strict=True)
        ]
        psi = algebra.spread(parts, places, n_clusters)
    value = np.concatenate([s.value for s in known])
    scale = np.concatenate(
        [np.ones(len(s.value)) if s.vcov_scale is None else s.vcov_scale for s in known]
    )
    return Shares(value=value, psi=psi, vcov_scale=scale)


def _stack_meta(metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Keep what all parts agree on and all warnings at the top, each part's own record below."""
    shared = {
        key: value
        for key, value in metas[0].items()
        if all(key in m and repr(m[key]) == repr(value) for m in metas)
    }
    out = {**shared, "stacked": [dict(m) for m in metas]}
    # a warning of one part stands for the whole
    for key in ("warnings", "few_treated_said"):
        said = [m[key] for m in metas if key in m]
        if said and key not in shared:
            out[key] = sorted({str(w) for part in said for w in part})
    return out
