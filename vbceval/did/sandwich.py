"""From fitted regressions to the joint law of everything they report."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.checks import listed
from vbceval.core.errors import EstimationError
from vbceval.core.typing import Array, BoolArray, FloatArray, IntArray
from vbceval.did.covariances import (
    ClusterProducts,
    Law,
    check_keys,
    codes_of,
    hc_cell_covariance,
    iid_covariance,
)
from vbceval.did.equal_variances import EqualVariances
from vbceval.did.equation import Equation
from vbceval.did.least_squares import Fit, Groups
from vbceval.did.like_rows import along
from vbceval.did.untreated_noise import untreated_draws
from vbceval.inference.bias_reduced import Adjusted, BiasReduced, Correction, bias_reduced
from vbceval.inference.satterthwaite import Origin, Satterthwaite, Source
from vbceval.inference.wild import Wild, WildResult, wild_tests


class Piece(NamedTuple):
    """
    One outcome of one regression.

    Parameters
    ----------
    equation : Equation
        What was asked.
    fit : Fit
        The regression, which other outcomes may share.
    outcome : int
        Position among its outcomes.
    contrast : array, shape (p, r)
        Combinations of coefficients that are reported.
    """

    equation: Equation
    fit: Fit
    outcome: int
    contrast: FloatArray

    @property
    def estimate(self) -> FloatArray:
        """Reported values, shape (r,)."""
        return np.asarray(self.contrast.T @ self.fit.beta[:, self.outcome])

    def influence(self, groups: Groups) -> FloatArray:
        """Return influence of groups of cells, shape (n, r)."""
        return self.fit.influence(self.outcome, self.fit.inverse @ self.contrast, groups)

    def estimated(self, n_clusters: int) -> FloatArray:
        """Return influence through estimated means or weights, shape (G, r)."""
        if self.equation.estimated is None:
            return np.zeros((n_clusters, self.contrast.shape[1]))
        return self.equation.estimated.influence(self.fit, self.outcome, self.contrast)

    def clusters(self, n_clusters: int) -> BoolArray:
        """Return which clusters are used, shape (G,)."""
        found = np.bincount(self.fit.cells.block.cluster, minlength=n_clusters)
        return np.asarray(found > 0, dtype=bool)

    def factor(self, law: Law, n_clusters: int) -> float:
        """Return the small-sample factor for a number of clusters."""
        count = self.fit.n_parameters(law.ssc.K)
        if law.kind == "two_way" and law.ssc.K != "full":
            count = self._two_way_parameters(law)
        return law.ssc.factor(n_clusters=n_clusters, n_rows=self.fit.n_rows, n_params=count)

    def _two_way_parameters(self, law: Law) -> int:
        """Parameters without effects that are nested in either key; one constant stays."""
        fit = self.fit
        out = int((fit.kept & (fit.z.roles != "effect")).sum()) + 1
        keys = [self.equation.sample.keys[k] for k in law.keys]
        for columns in _effect_terms(fit):
            level = _level_codes(fit, columns)
            if level is None or not any(_is_nested(level, key) for key in keys):
                counted = fit.kept | fit.z.level if law.ssc.K == "levels" else fit.kept
                out += int(counted[columns].sum())
        absorbed = fit.cells.absorbed
        if absorbed is not None and not any(_is_nested(absorbed, key) for key in keys):
            out += len(fit.level) - 1
        return out


def _effect_terms(fit: Fit) -> list[IntArray]:
    """Columns of each effect that has dummies, the constant left out."""
    marks = fit.z.term[fit.z.roles == "effect"]
    found = [
        np.flatnonzero((fit.z.roles == "effect") & (fit.z.term == t)) for t in np.unique(marks)
    ]
    return [c for c in found if fit.z.names[c[0]] != "constant"]


def _level_codes(fit: Fit, columns: IntArray) -> IntArray | None:
    """Return levels of an effect from its dummies; None for slopes, which are no levels."""
    if not fit.z.level[columns].all():
        return None
    part = fit.z.mean[:, columns]
    return np.asarray(part @ np.arange(1, len(columns) + 1)).astype(np.int64)


def _is_nested(level: IntArray, key: IntArray) -> bool:
    """Whether every level lies in one group of the key."""
    pairs = codes_of([level, key]).max() + 1
    return int(pairs) == len(np.unique(level))


class Errors(NamedTuple):
    """
    The joint law of all rows.

    Parameters
    ----------
    psi, psi_vcov : array, shape (G, R), or None
        Influence of clusters, and with the adjustment of the covariance.
    covariance : array, shape (R, R), or None
        Where it is not built from clusters.
    df : array, shape (R,)
        Degrees of freedom.
    columns : dict of str to array
        Further columns of the frame.
    warnings : list of str
        What the reader should know.
    meta : dict
        How a bootstrap was drawn; the working model.
    degrees : Satterthwaite or None
        The regressions, where degrees of freedom of combinations follow them.
    draws : array, shape (S, R), or None
        Errors drawn, where that is their law.
    """

    psi: FloatArray | None
    psi_vcov: FloatArray | None
    covariance: FloatArray | None
    df: FloatArray
    columns: dict[str, FloatArray]
    warnings: list[str]
    meta: Mapping[str, Any] = {}
    degrees: Satterthwaite | None = None
    draws: FloatArray | None = None


def joint_errors(pieces: Sequence[Piece], law: Law, n_clusters: int) -> Errors:
    """
    Return the joint law of the rows of all pieces, in their order.

    Raises
    ------
    EstimationError
        If the covariance is not defined for these pieces.
    """
    if not law.by_cluster:
        if any(p.equation.estimated is not None for p in pieces):
            raise EstimationError(
                f"vcov='{law.name}' cannot carry the error of means and shares that are estimated; use "
                "a covariance by cluster, or, where they can be taken as fixed, weights_random=False."
            )
        if law.few is not None:
            draws, said = untreated_draws(pieces, law.few, n_clusters)
            df = _spread(pieces, [np.inf] * len(pieces))
            return Errors(None, None, None, df, {}, [], said, draws=np.concatenate(draws, axis=1))
        return _by_rows(pieces, law)
    psi = np.zeros((n_clusters, sum(p.contrast.shape[1] for p in pieces)))
    scored = _scored(pieces, psi)
    if law.kind in ("CR2", "CR3"):
        return _adjusted(pieces, law, psi, scored)
    drawn = None if law.wild is None else _wild_columns(pieces, law.wild, scored)
    # what is not drawn is only written
    deque(scored, maxlen=0)
    sizes = [int(p.clusters(n_clusters).sum()) for p in pieces]
    roots = _spread(pieces, [p.factor(law, g) ** 0.5 for p, g in zip(pieces, sizes, strict=True)])
    df = _spread(pieces, [law.ssc.df(g) for g in sizes])
    if law.wild is None or drawn is None:
        return Errors(psi, psi * roots, None, df, {}, [])
    said = {"wild": {**asdict(law.wild), "drawn": drawn[1]}}
    return Errors(psi, psi * roots, None, df, drawn[0], [], said)


class _Scored(NamedTuple):
    """Outcomes of one regression, clusters of its cells, and their scores in its columns."""

    pieces: list[Piece]
    groups: Groups
    scores: list[sparse.csr_array]


def _scored(pieces: Sequence[Piece], psi: FloatArray) -> Iterator[_Scored]:
    """
    Yield regressions with their scores, found once for all that is made of them.

    Influence of clusters, that through estimated means included, is written to `psi`, (G, R).
    """
    at = _places(pieces)
    for same in _by_fit(pieces):
        fit = same[0].fit
        groups = Groups(fit.cells.block.cluster, len(psi))
        scores = fit.scores(groups)
        # outcomes of one regression have the same combinations
        for alike in _by_contrast(same):
            direction = fit.inverse @ alike[0].contrast
            made = along([scores[p.outcome] for p in alike], direction)
            for p, own in zip(alike, made, strict=True):
                psi[:, at[id(p)]] = (
                    own if p.equation.estimated is None else own + p.estimated(len(psi))
                )
        yield _Scored(same, groups, scores)


def _places(pieces: Sequence[Piece]) -> dict[int, slice]:
    """Columns of each piece among the rows of all."""
    ends = np.cumsum([0, *[p.contrast.shape[1] for p in pieces]]).tolist()
    return {id(p): slice(a, b) for p, a, b in zip(pieces, ends, ends[1:], strict=False)}


def _spread(pieces: Sequence[Piece], values: Sequence[float]) -> FloatArray:
    return np.repeat(values, [p.contrast.shape[1] for p in pieces])


def _adjusted(
    pieces: Sequence[Piece], law: Law, psi: FloatArray, scored: Iterator[_Scored]
) -> Errors:
    at, psi_vcov = _places(pieces), np.empty_like(psi)
    df: dict[int, FloatArray] = {}
    sources: dict[int, Source] = {}
    for regression in scored:
        sources[id(regression.pieces[0].fit)], made = _reduced(regression, law)
        for piece, influence in zip(regression.pieces, made.influence, strict=True):
            psi_vcov[:, at[id(piece)]] = influence + piece.estimated(len(psi))
            df[id(piece)] = made.df
    degrees = np.concatenate([df[id(p)] for p in pieces])
    few = int((degrees < 4).sum())
    warnings = []
    if few:
        warnings.append(
            f"{few} rows have fewer than 4 Satterthwaite degrees of freedom: few clusters decide "
            "them, and t intervals are unreliable. Compare with vcov='wild', pool cohorts, or where "
            "few clusters are treated of many use vcov='ferman-pinto'."
        )
    origins = [Origin(sources[id(p.fit)], p.contrast) for p in pieces]
    return Errors(
        psi, psi_vcov, None, degrees, {}, warnings, {"working": law.working},
        Satterthwaite.of(origins),
    )  # fmt: skip


def _reduced(regression: _Scored, law: Law) -> tuple[Source, BiasReduced]:
    """Adjust the outcomes of one regression, which differ in their scores only."""
    pieces, groups, scores = regression
    piece = pieces[0]
    if law.working == "identity" and not _unweighted(piece):
        equal = _equal_variances(piece, groups)
        return equal, equal.adjusted(piece.contrast, [p.outcome for p in pieces])
    correction: Correction = "CR3" if law.kind == "CR3" else "CR2"
    made = bias_reduced(
        ClusterProducts(piece.fit, groups.n), piece.fit.inverse, piece.contrast, correction,
        [scores[p.outcome] for p in pieces],
    )  # fmt: skip
    live = np.flatnonzero((piece.contrast != 0).any(axis=0))
    lost = live[made.own[live] > 0]
    if len(lost) and law.kind == "CR3":
        # rows of covariates, which come last, are one column each
        rows = piece.equation.rows
        names = [
            describe(rows[i]) if i < len(rows)
            else piece.fit.z.names[int(np.flatnonzero(piece.contrast[:, i])[0])]
            for i in lost
        ]  # fmt: skip
        raise EstimationError(
            f"vcov='CR3' leaves out one cluster at a time, and {listed(names)} cannot be estimated "
            "without one of them: it alone determines the effect. Merge cohorts or periods, or "
            "cluster on finer units that still contain what enters together; with many untreated "
            "clusters use vcov='ferman-pinto'."
        )
    # results keep the regression, and not the products that were made of it here
    return Adjusted(ClusterProducts(piece.fit, groups.n), piece.fit.inverse, correction), made


def _unweighted(piece: Piece) -> bool:
    """Whether all rows weigh the same, so that both working models are one."""
    cells = piece.fit.cells
    each = cells.block.w / cells.n
    return bool(np.allclose(each, each[0], rtol=1e-12, atol=0.0))


def _equal_variances(piece: Piece, groups: Groups) -> EqualVariances:
    if piece.equation.sample.sums:
        raise EstimationError(
            "vcov='CR2' with working='identity' needs weighted rows one by one, but these cells "
            "are sums of rows with different weights. Fit the rows as a Panel, or use "
            "working='inverse_weight', which is exact from moments."
        )
    return EqualVariances(piece.fit, groups.codes, groups.n)


def describe(row: dict[str, Any]) -> str:
    """Name a reported row in a message."""
    words = [
        f"{word} {row[key]:g}"
        for key, word in (("cohort", "cohort"), ("period", "period"), ("event_time", "event time"))
        if row.get(key) is not None and np.isfinite(row[key])
    ]
    return ", ".join(words) or str(row.get("term") or row["estimand"])


def _by_rows(pieces: Sequence[Piece], law: Law) -> Errors:
    """Covariances that are not built from clusters: iid, HC1 and two-way."""
    sums = any(p.equation.sample.sums for p in pieces)
    if law.kind == "two_way":
        return _two_way(pieces, law)
    if (law.kind == "iid" or sums) and len(pieces) > 1:
        raise EstimationError(
            f"vcov='{law.kind}' is for one outcome without strata here: errors of several "
            "regressions on the same rows are related in a way that it leaves open. Use a "
            "cluster-robust covariance, which is joint, or fit them one at a time."
        )
    n, k = pieces[0].fit.n_rows, pieces[0].fit.n_full
    df = _spread(pieces, [float(p.fit.n_rows - p.fit.n_full) for p in pieces])
    if law.kind == "iid":
        return Errors(None, None, iid_covariance(pieces[0].fit, pieces[0].contrast), df, {}, [])
    if sums:
        value = hc_cell_covariance(pieces[0].fit, pieces[0].contrast)
        value *= law.ssc.factor(n_clusters=n, n_rows=n, n_params=k)
        return Errors(None, None, value, df, {}, [])
    psi = _grouped(pieces, ("row",))
    roots = _spread(pieces, [p.factor(law, p.fit.n_rows) ** 0.5 for p in pieces])
    return Errors(None, None, (psi * roots).T @ (psi * roots), df, {}, [])


def _grouped(pieces: Sequence[Piece], names: tuple[str, ...]) -> FloatArray:
    """Influence by groups of keys that are the same in every piece, shape (groups, R)."""
    per_piece = [[p.equation.sample.keys[k] for k in names] for p in pieces]
    ends = np.cumsum([0, *[len(k[0]) for k in per_piece]])
    together = [np.concatenate([k[i] for k in per_piece]) for i in range(len(per_piece[0]))]
    codes = codes_of(together)
    size = int(codes.max()) + 1
    return np.concatenate(
        [
            p.influence(Groups(codes[a:b], size))
            for p, a, b in zip(pieces, ends, ends[1:], strict=False)
        ],
        axis=1,
    )


def _two_way(pieces: Sequence[Piece], law: Law) -> Errors:
    check_keys(law.keys, [k for k in pieces[0].equation.sample.keys if k != "row"])
    a, b = law.keys
    sizes = [min(len(np.unique(p.equation.sample.keys[k])) for k in law.keys) for p in pieces]
    roots = _spread(pieces, [p.factor(law, g) ** 0.5 for p, g in zip(pieces, sizes, strict=True)])
    total = np.zeros((len(roots), len(roots)))
    for names, sign in (((a,), 1.0), ((b,), 1.0), ((a, b), -1.0)):
        psi = _grouped(pieces, names)
        total += sign * (psi * roots).T @ (psi * roots)
    values, vectors = np.linalg.eigh(total)
    warnings = []
    if values.min() < -1e-10 * max(values.max(), 0.0):
        total = (vectors * np.clip(values, 0.0, None)) @ vectors.T
        warnings.append("the two-way covariance was not positive: negative eigenvalues are zero.")
    if min(sizes) < 10:
        warnings.append(
            f"two-way clustering with {min(sizes)} clusters in one direction is unreliable."
        )
    df = _spread(pieces, [law.ssc.df(g) for g in sizes])
    return Errors(None, None, total, df, {}, warnings)


def _wild_columns(
    pieces: Sequence[Piece], wild: Wild, scored: Iterator[_Scored]
) -> tuple[dict[str, FloatArray], list[str]]:
    if any(p.equation.estimated is not None for p in pieces):
        raise EstimationError(
            "the wild bootstrap takes means and shares as fixed; use weights_random=False with it."
        )
    at = _places(pieces)
    size = sum(p.contrast.shape[1] for p in pieces)
    names = ("wild_p_value", "wild_low", "wild_high", "wild_distinct")
    out = {name: np.full(size, np.nan) for name in names}
    laws: set[str] = set()
    drawn: dict[int, tuple[Array, str]] = {}
    for regression in scored:
        used = regression.pieces[0].clusters(regression.groups.n)
        n_used = int(used.sum())
        if n_used not in drawn:
            drawn[n_used] = wild.multipliers(n_used)
        v, law = drawn[n_used]
        laws.add(f"{law}, {len(v):,} draws")
        live, found = _wild_fit(regression, used, v, wild.level)
        for r, results in zip(live, found, strict=True):
            for piece, result in zip(regression.pieces, results, strict=True):
                row = at[id(piece)].start + r
                out["wild_p_value"][row] = result.p_value
                out["wild_low"][row], out["wild_high"][row] = result.low, result.high
                out["wild_distinct"][row] = result.distinct
    out["wild_level"] = np.where(np.isnan(out["wild_p_value"]), np.nan, wild.level)
    return out, sorted(laws)


def _wild_fit(
    regression: _Scored, used: BoolArray, multipliers: Array, level: float
) -> tuple[IntArray, list[list[WildResult]]]:
    """Test the rows of one regression that are not zero by construction, for all outcomes."""
    pieces, groups, scores = regression
    fit, contrast = pieces[0].fit, pieces[0].contrast
    live = np.flatnonzero((contrast != 0).any(axis=0))
    return live, wild_tests(
        [scores[p.outcome].toarray()[used] for p in pieces],
        (x.toarray()[used] for x in fit.products(fit.inverse @ contrast[:, live], groups)),
        fit.inverse, contrast[:, live], np.stack([p.estimate[live] for p in pieces]),
        multipliers, level=level,
    )  # fmt: skip


def _by_contrast(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Return outcomes with the same combinations together."""
    together: dict[int, list[Piece]] = {}
    for piece in pieces:
        together.setdefault(id(piece.contrast), []).append(piece)
    return list(together.values())


def _by_fit(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Return outcomes of one regression together."""
    together: dict[int, list[Piece]] = {}
    for piece in pieces:
        together.setdefault(id(piece.fit), []).append(piece)
    return list(together.values())
