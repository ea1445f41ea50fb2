"""Fit the synthetic control of each cohort, and of its replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError, EstimationError
from vbceval.core.typing import FloatArray, IntArray
from vbceval.did.synthetic.cohorts import Cohort
from vbceval.did.synthetic.control import (
    COMMON,
    Control,
    HoldOut,
    Match,
    Paths,
    balanced_on,
    fit_control,
    match_chosen,
    match_outcomes,
    residualised,
)
from vbceval.did.synthetic.importance import nested_importance
from vbceval.did.synthetic.pooled import pooled_weights
from vbceval.did.synthetic.replicates import Draw, Part, whole


class Settings(NamedTuple):
    """Options of `SyntheticControl` that decide the weights; see there."""

    augmented: bool
    demean: bool
    lags: tuple[float, ...] | None
    importance: Literal["equal", "nested"] | tuple[float, ...]
    covariates: Literal["balance", "residualize"]
    penalty: float | None
    one_se: bool
    hold_out: HoldOut
    pooling: float

    @property
    def chosen(self) -> bool:
        """Whether predictors or their importance are chosen, so that they are standardised."""
        return self.lags is not None or self.importance != "equal"


Tested = tuple[Cohort, Paths, Callable[[Paths], FloatArray]]
"""A cohort, its paths, and the gaps of weights fitted on paths with other periods before entry."""


class CohortFit(NamedTuple):
    """
    One cohort fitted.

    Parameters
    ----------
    cohort : Cohort
        Its comparison.
    paths : Paths
        Its paths.
    match : Match
        What was matched on.
    control : Control
        Weights.
    importance : array or None
        Diagonal of V, where predictors were chosen.
    """

    cohort: Cohort
    paths: Paths
    match: Match
    control: Control
    importance: FloatArray | None

    def shown(self) -> FloatArray:
        """Return the effects that are reported."""
        return np.asarray(self.control.effects(self.paths)[self.cohort.shown])


def fit_part(part: Part, settings: Settings) -> list[CohortFit]:
    """
    Return the fit of each cohort of a stratum.

    Raises
    ------
    DesignError
        If a covariate is the same for all donors of a cohort: no weights move it.
    """
    draws = [whole(0, j, part.wide, c.treated, c.donors) for j, c in enumerate(part.cohorts)]
    for draw, cohort in zip(draws, part.cohorts, strict=True):
        z = _before(draw, cohort)[draw.donors]
        alike = np.ptp(z, axis=0) <= COMMON * np.abs(z).max(axis=0)
        if alike.any():
            names = [part.wide.names[j] for j in np.flatnonzero(alike)]
            raise DesignError(
                f"{listed(names)} is the same for all {len(z):,} donors of cohort "
                f"{cohort.entry:g} before entry, so no weights of them can match the treated on "
                "it. Leave the covariate out, or add donors."
            )
    return fit_draws(draws, part.cohorts, settings, None)


def fit_draws(
    draws: Sequence[Draw],
    cohorts: Sequence[Cohort],
    settings: Settings,
    kept: Sequence[CohortFit] | None,
) -> list[CohortFit]:
    """
    Fit the cohorts of one stratum, actual or drawn.

    Parameters
    ----------
    draws : sequence of Draw
        Organizations of each cohort.
    cohorts : sequence of Cohort
        Their periods.
    settings : Settings
        Options.
    kept : sequence of CohortFit, optional
        Fits whose penalty and importance are kept.
    """
    every = [paths_of(d, c, settings) for d, c in zip(draws, cohorts, strict=True)]
    matched = [
        match_of(p, c, d, settings, None if kept is None else kept[j].importance)
        for j, (p, c, d) in enumerate(zip(every, cohorts, draws, strict=True))
    ]
    simplex: Sequence[FloatArray | None] = [None] * len(draws)
    if settings.pooling > 0 and len(draws) > 1:
        n_treated = np.array([d.treated_mass.sum() for d in draws])
        simplex = pooled_weights([m for m, _ in matched], n_treated, settings.pooling)
    out = []
    for j, (paths, (match, importance)) in enumerate(zip(every, matched, strict=True)):
        ridge = None if kept is None else kept[j].control.ridge
        penalty = settings.penalty if ridge is None else ridge.penalty
        control = fit_matched(paths, match, settings, penalty, simplex[j])
        out.append(CohortFit(cohorts[j], paths, match, control, importance))
    return out


def fit_matched(
    paths: Paths,
    match: Match,
    settings: Settings,
    penalty: float | None,
    simplex: FloatArray | None = None,
) -> Control:
    """Return the weights of one cohort."""
    control = fit_control(
        match, augmented=settings.augmented, penalty=penalty, one_se=settings.one_se,
        hold_out=settings.hold_out, simplex=simplex,
    )  # fmt: skip
    if settings.covariates == "residualize" and paths.z0.shape[1]:
        return control._replace(weights=balanced_on(control.weights, paths.z0, paths.z1))
    return control


def tested_paths(part: Part, settings: Settings) -> list[Tested]:
    """
    Return each cohort with its paths before and from entry on, and how weights are fitted again.

    The penalty is that of the estimate, as in R `augsynth`.

    Raises
    ------
    EstimationError
        If not every period before entry is matched on alike.
    """
    if settings.chosen or settings.pooling > 0:
        raise EstimationError(
            "tests over periods fit weights again with other periods before entry, so every period "
            "must be matched on alike. Leave `lags`, `importance` and `pooling` out."
        )
    out: list[Tested] = []
    for one in fit_part(part, settings):
        cohort, ridge = one.cohort, one.control.ridge
        draw = whole(0, 0, part.wide, cohort.treated, cohort.donors)
        kept = np.concatenate([np.arange(cohort.n_pre), np.flatnonzero(cohort.post)])
        paths = paths_of(draw, cohort, settings._replace(demean=False)).take(kept, cohort.n_pre)
        penalty = None if ridge is None else ridge.penalty
        out.append((cohort, paths, partial(_refit_gaps, settings=settings, penalty=penalty)))
    return out


def _refit_gaps(paths: Paths, settings: Settings, penalty: float | None) -> FloatArray:
    if settings.demean:
        paths = paths.centred_on_pre()
    match = _match_every(paths, settings)
    return fit_matched(paths, match, settings, penalty).effects(paths)


def paths_of(draw: Draw, cohort: Cohort, settings: Settings) -> Paths:
    """
    Return the paths of one cohort; covariates are averaged over the periods before entry.

    Raises
    ------
    DesignError
        If an organization has no value of a covariate before entry.
    """
    wide, columns = draw.wide, cohort.columns
    # a donor drawn twice is two donors: the ridge counts both
    donors = np.repeat(draw.donors, draw.donor_mass.astype(np.int64))
    share = wide.weight[draw.treated] * draw.treated_mass
    share = share / share.sum()
    z = _before(draw, cohort)
    paths = Paths(
        y0=wide.y[np.ix_(donors, columns)],
        y1=share @ wide.y[np.ix_(draw.treated, columns)],
        z0=z[donors], z1=share @ z[draw.treated], n_pre=cohort.n_pre,
    )  # fmt: skip
    return paths.centred_on_pre() if settings.demean else paths


def _before(draw: Draw, cohort: Cohort) -> FloatArray:
    """Return means of covariates before entry, shape (N, q)."""
    wide = draw.wide
    x = wide.x[:, cohort.columns[: cohort.n_pre]]
    seen = np.isfinite(x)
    count = seen.sum(axis=1)
    mean = np.divide(
        np.where(seen, x, 0.0).sum(axis=1), count, out=np.full(count.shape, np.nan), where=count > 0
    )
    used = np.concatenate([draw.treated, draw.donors])
    lost = ~np.isfinite(mean[used])
    if lost.any():
        names = [wide.names[j] for j in np.flatnonzero(lost.any(axis=0))]
        raise DesignError(
            f"{int(lost.any(axis=1).sum()):,} organizations have no value of {listed(names)} "
            f"before {cohort.entry:g}, so they cannot be matched on it. Leave the covariate or "
            "these organizations out."
        )
    return np.asarray(mean)


def match_of(
    paths: Paths, cohort: Cohort, draw: Draw, settings: Settings, importance: FloatArray | None
) -> tuple[Match, FloatArray | None]:
    """
    Return what is matched on, and the importance of predictors where they are chosen.

    Raises
    ------
    DesignError
        If a lag is not a period before entry, or importances do not fit the predictors.
    """
    if not settings.chosen:
        return _match_every(paths, settings), None
    lags = _positions(draw.wide.periods[cohort.columns[: cohort.n_pre]], settings.lags, cohort)
    size = len(lags) + paths.z0.shape[1]
    if not size:
        raise DesignError(
            "`lags` is empty and the design has no covariates, so there is nothing to match on. "
            "Name periods before entry, or leave `lags` out for all of them."
        )
    if importance is None and settings.importance == "nested":
        importance = nested_importance(paths, lags)
    elif importance is None:
        equal = settings.importance == "equal"
        importance = np.ones(size) if equal else np.array(settings.importance, dtype=float)
        if len(importance) != size or not importance.sum() > 0:
            raise DesignError(
                f"`importance` has {len(importance)} values, and there are {size} predictors "
                f"({len(lags)} periods, then {paths.z0.shape[1]} covariates). Give one for each, "
                "not all zero."
            )
    return match_chosen(paths, lags, importance), importance


def _match_every(paths: Paths, settings: Settings) -> Match:
    if settings.covariates == "residualize" and paths.z0.shape[1]:
        return residualised(paths)
    return match_outcomes(paths)


def _positions(before: FloatArray, lags: tuple[float, ...] | None, cohort: Cohort) -> IntArray:
    if lags is None:
        return np.arange(len(before))
    absent = sorted(set(lags) - set(before.tolist()))
    if absent:
        raise DesignError(
            f"`lags` has {listed([f'{t:g}' for t in absent])}, not a period before entry of cohort "
            f"{cohort.entry:g} ({before[0]:g} to {before[-1]:g})."
        )
    return np.flatnonzero(np.isin(before, lags))
