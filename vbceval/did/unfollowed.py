"""Effects from two cross-sections whose rows are not followed: arrays in, arrays out.

Rows may be cells: then `w` is the sum of weights, `y` and the regressors are means, and outcome
regression needs the second moments within cells, which `Regressors.xx` and `xy` carry.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vbceval.core.typing import BoolArray, FloatArray
from vbceval.did.followed import hajek, trimmed_odds
from vbceval.did.odds import fit_logit, fit_tilting
from vbceval.did.solve import (
    ComparisonFailure,
    LinearFit,
    Regressors,
    fit_linear,
    linear_influence,
)


class CrossSections(NamedTuple):
    """
    Rows of one comparison.

    Parameters
    ----------
    y : array, shape (n, k)
        Outcomes.
    d, post : bool array, shape (n,)
        Treated rows; rows of the later period.
    w : array, shape (n,)
        Weights.
    z : Regressors
        Covariates with a constant.
    xy : array, shape (n, q - 1, k), or None
        Centred cross moments of the covariates in `z` within cells, in their own units.
    """

    y: FloatArray
    d: BoolArray
    post: BoolArray
    w: FloatArray
    z: Regressors
    xy: FloatArray | None = None

    def part(self, treated: bool, post: bool) -> FloatArray:
        """Return the weights of one of the four groups, zero elsewhere."""
        return np.where((self.d == treated) & (self.post == post), self.w, 0.0)


def _fit(rows: CrossSections, w: FloatArray, treated: bool, post: bool) -> LinearFit:
    side = "treated" if treated else "comparison"
    where = f"the {side} rows of the {'later' if post else 'earlier'} period"
    return fit_linear(rows.z, rows.y, w, where, rows.xy)


def _influence(rows: CrossSections, fit: LinearFit, direction: FloatArray) -> FloatArray:
    return linear_influence(fit, rows.z, rows.y, direction, rows.xy)


def inverse_probability(rows: CrossSections, trim: float | None) -> tuple[FloatArray, FloatArray]:
    """Compare four normalised means, comparison rows weighted by the odds of treatment."""
    z = rows.z
    fit = fit_logit(z, rows.d, rows.w)
    odds = _odds_of(rows, fit.odds, trim)
    eta11, psi11 = hajek(rows.y, rows.part(True, True))
    eta10, psi10 = hajek(rows.y, rows.part(True, False))
    w01, w00 = rows.part(False, True) * odds, rows.part(False, False) * odds
    eta01, psi01 = hajek(rows.y, w01)
    eta00, psi00 = hajek(rows.y, w00)
    m2 = _odds_moment(z.x, rows.y - eta01, w01) - _odds_moment(z.x, rows.y - eta00, w00)
    psi_odds = fit.score[:, None] * (z.x @ (fit.inverse @ m2))
    att = (eta11 - eta10) - (eta01 - eta00)
    return att, (psi11 - psi10) - (psi01 - psi00) - psi_odds


def _odds_of(rows: CrossSections, odds: FloatArray, trim: float | None) -> FloatArray:
    """Return odds after trimming; comparison rows of both periods must have some."""
    odds = trimmed_odds(odds, rows.d, trim)
    for post, period in ((True, "later"), (False, "earlier")):
        if not (rows.part(False, post) * odds > 0).any():
            raise ComparisonFailure(
                f"treated and comparison units do not overlap: no comparison row of the {period} "
                "period has covariates as treated rows have them"
                + ("" if trim is None else f" and a propensity below {trim:g} (`trim`)")
            )
    return odds


def _odds_moment(x: FloatArray, v: FloatArray, w: FloatArray) -> FloatArray:
    return np.asarray((w[:, None] * x).T @ v / w.sum())


def doubly_robust(
    rows: CrossSections, trim: float | None, *, compatible: bool = False
) -> tuple[FloatArray, FloatArray]:
    """
    Combine outcome regression and odds weights, locally efficient.

    Parameters
    ----------
    rows : CrossSections
        n rows.
    trim : float or None
        Propensity at which comparison rows get zero weight.
    compatible : bool, default False
        Enter the influence of the two earlier-period regressions with the opposite sign, as
        DRDID's `drdid_rc` does. The difference vanishes in large samples; the default is the
        derivative of the estimator.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Equation 3.4.
    """
    z = rows.z
    model = fit_logit(z, rows.d, rows.w)
    odds = _odds_of(rows, model.odds, trim)
    groups = {(t, p): rows.part(t, p) for t in (True, False) for p in (True, False)}
    fits = {key: _fit(rows, w, *key) for key, w in groups.items()}
    means = {key: w * (1 if key[0] else odds) for key, w in groups.items()}
    att, psi, residual_means = _efficient(rows, fits, means)
    m = {key: hajek(z.x, w)[0] for key, w in means.items()}
    m_all, _ = hajek(z.x, rows.w * rows.d)
    m2 = np.zeros((z.x.shape[1], rows.y.shape[1]))
    for post, sign in ((True, 1.0), (False, -1.0)):
        residual = rows.y - z.x @ fits[False, post].beta - residual_means[post]
        m2 = m2 + sign * _odds_moment(z.x, residual, means[False, post])
        direct = _influence(rows, fits[False, post], m[True, post] - m[False, post])
        sign_direct = -sign if not (compatible and not post) else sign
        psi = psi + sign_direct * direct
        shift = m_all - m[True, post]
        psi = psi + sign * _influence(rows, fits[True, post], shift)
        psi = psi - sign * _influence(rows, fits[False, post], shift)
    return att, psi - model.score[:, None] * (z.x @ (model.inverse @ m2))


def doubly_robust_improved(
    rows: CrossSections, trim: float | None
) -> tuple[FloatArray, FloatArray]:
    """
    Doubly robust with tilting odds and odds-weighted regressions, locally efficient.

    The influence omits the estimation of the regressions, as in the paper: their effect is zero
    when covariates have the same distribution in both periods.

    References
    ----------
    .. [1] Sant'Anna, P. H. C. and Zhao, J. (2020). Doubly robust difference-in-differences
       estimators. *Journal of Econometrics* 219(1), 101-122. Section 3.2.
    """
    z = rows.z
    tilted, columns = fit_tilting(z, rows.d, rows.w)
    rows = rows._replace(z=z.only(columns))
    odds = _odds_of(rows, tilted, trim)
    groups = {(t, p): rows.part(t, p) for t in (True, False) for p in (True, False)}
    means = {key: w * (1 if key[0] else odds) for key, w in groups.items()}
    fits = {key: _fit(rows, w, *key) for key, w in means.items()}
    att, psi, _ = _efficient(rows, fits, means)
    return att, psi


def _efficient(
    rows: CrossSections,
    fits: dict[tuple[bool, bool], LinearFit],
    means: dict[tuple[bool, bool], FloatArray],
) -> tuple[FloatArray, FloatArray, dict[bool, FloatArray]]:
    """Effect and influence with nuisances held fixed, and the comparison residual means."""
    x, d = rows.z.x, rows.w * rows.d
    att, psi = np.zeros(rows.y.shape[1]), np.zeros(rows.y.shape)
    comparison: dict[bool, FloatArray] = {}
    for post, sign in ((True, 1.0), (False, -1.0)):
        residual = rows.y - x @ fits[False, post].beta
        gap = x @ (fits[True, post].beta - fits[False, post].beta)
        terms = (
            (1.0, hajek(residual, means[True, post])),
            (-1.0, hajek(residual, means[False, post])),
            (1.0, hajek(gap, d)),
            (-1.0, hajek(gap, means[True, post])),
        )
        comparison[post] = terms[1][1][0]
        for inner, (eta, influence) in terms:
            att = att + sign * inner * eta
            psi = psi + sign * inner * influence
    return att, psi, comparison
