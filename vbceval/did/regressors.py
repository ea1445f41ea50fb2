"""Regressors as functions of a cell's key times (1, covariates)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.blocks import Block

Role = Literal["effect", "covariate", "treatment"]
_COUNTED = 8
"""Possible combinations for each cell up to which they are counted in a table."""
_ROUNDING = 1e-3
"""Share of its square, as it is written, that counts where a column is constant: noise is left."""
CONSTANT = -1
"""Variable of a term that is a dummy: the constant of the moments."""


class Term(NamedTuple):
    """
    Columns that are one variable within groups of cells, and zero elsewhere.

    Column j is ``1{codes == j} (v - centre)``, where v is the constant or a covariate.

    Parameters
    ----------
    codes : int array, shape (K,)
        Column that a cell belongs to; -1 is none.
    names : tuple of str
        Name of each column.
    role : {"effect", "covariate", "treatment"}
        Effects give way first when columns are collinear, then covariates; a treatment never.
    variable : int, default CONSTANT
        Position of the covariate, or the constant.
    centre : array, shape (K,), or None
        Subtracted from a covariate; constant within a column unless the difference is absorbed.
    nested : bool, default False
        For effects: whether their levels are nested in clusters, so that factors leave them out.
    """

    codes: IntArray
    names: tuple[str, ...]
    role: Role
    variable: int = CONSTANT
    centre: FloatArray | None = None
    nested: bool = False


@dataclass(frozen=True, eq=False)
class Regressors:
    """
    The design matrix of cells, sparse.

    Parameters
    ----------
    rows : sparse array, shape (K + kinds q, p)
        Value of each column at the mean of each cell; then, kind of cells by kind, by how much it
        moves inside them with each of q covariates.
    inner : tuple of int, length q
        Positions of the covariates that vary inside cells; empty when cells are single rows.
    names : tuple of str, length p
        Columns, effects first, then covariates, then treatments.
    roles : array of str, shape (p,)
        Role of each column.
    nested : bool array, shape (p,)
        Effects whose levels are nested in clusters.
    level : bool array, shape (p,)
        Levels of effects, not slopes by them.
    term : int array, shape (p,)
        Which term each column belongs to.
    own : array, shape (p,)
        Weighted sum of squares of each column, covariates about their overall mean, that what is
        left of it is measured against.
    kind : int array, shape (K,)
        Code without gaps of cells in which the same columns move with covariates.
    pattern : int array, shape (K,)
        Code of cells that have values in the same columns.
    """

    rows: sparse.csr_array
    inner: tuple[int, ...]
    names: tuple[str, ...]
    roles: np.ndarray
    nested: BoolArray
    level: BoolArray
    term: IntArray
    own: FloatArray
    kind: IntArray
    pattern: IntArray

    @cached_property
    def mean(self) -> sparse.csr_array:
        """Value of each column at the mean of each cell, shape (K, p)."""
        return self._part(0, len(self.kind))

    @cached_property
    def slopes(self) -> sparse.csr_array:
        """By how much columns move with covariates inside cells of a kind, shape (kinds q, p)."""
        return self._part(len(self.kind), self.rows.shape[0])

    def _part(self, start: int, end: int) -> sparse.csr_array:
        """Return some rows one after the other, without a copy."""
        bounds = self.rows.indptr[start : end + 1]
        inside = slice(bounds[0], bounds[-1])
        found = self.rows.data[inside], self.rows.indices[inside], bounds - bounds[0]
        return sparse.csr_array(found, shape=(end - start, self.rows.shape[1]))

    def where(self, role: Role) -> IntArray:
        """Return positions of the columns with a role."""
        return np.flatnonzero(self.roles == role)


def regressors(block: Block, terms: Sequence[Term]) -> Regressors:
    """
    Build the design matrix of terms, in order of their role.

    Parameters
    ----------
    block : Block
        K cells.
    terms : sequence of Term
        In the order in which columns are written.

    Returns
    -------
    Regressors
        Cost O(K terms), in time and memory.
    """
    order: tuple[Role, ...] = ("effect", "covariate", "treatment")
    terms = [t for role in order for t in terms if t.role == role]
    size = len(block.w)
    ends = np.cumsum([0, *[len(t.names) for t in terms]])
    p = int(ends[-1])
    squares = _Squares(block)
    own = np.zeros(p)
    # a row a cell, a column a term: what is there is in the order of a sparse matrix
    columns, values = np.empty((size, len(terms)), dtype=np.int32), np.ones((size, len(terms)))
    for i, term in enumerate(terms):
        live = term.codes >= 0
        columns[:, i] = np.where(live, term.codes + ends[i], -1)
        if term.variable != CONSTANT:
            x = block.x[:, term.variable]
            values[:, i] = x if term.centre is None else x - term.centre
        own[ends[i] : ends[i + 1]] = _own(term, squares.of(term.variable), block.w, values[:, i])
    moving = [i for i, t in enumerate(terms) if t.variable != CONSTANT and block.xx is not None]
    inner = tuple(sorted({terms[i].variable for i in moving}))
    kind, first = _kinds([terms[i].codes for i in moving], size)
    # a row a kind and covariate: what moves is its own column
    slopes = np.full((len(first), len(inner), len(terms)), -1, dtype=np.int32)
    for i in moving:
        slopes[:, inner.index(terms[i].variable), i] = columns[first, i]
    there, move = columns >= 0, slopes >= 0
    counts = np.concatenate([[0], there.sum(axis=1), move.sum(axis=2).ravel()])
    found = (
        np.concatenate([values[there], np.ones(int(move.sum()))]),
        np.concatenate([columns[there], slopes[move]]), np.cumsum(counts),
    )  # fmt: skip
    return Regressors(
        sparse.csr_array(found, shape=(size + len(first) * len(inner), p)), inner,
        tuple(name for t in terms for name in t.names),
        np.array([t.role for t in terms for _ in t.names], dtype=object),
        np.array([t.nested for t in terms for _ in t.names], dtype=bool),
        np.array(
            [t.role == "effect" and t.variable == CONSTANT for t in terms for _ in t.names],
            dtype=bool,
        ),
        np.repeat(np.arange(len(terms)), [len(t.names) for t in terms]), own, kind,
        _kinds([t.codes for t in terms], size)[0],
    )  # fmt: skip


def _own(term: Term, squares: FloatArray, w: FloatArray, values: FloatArray) -> FloatArray:
    """Return what is measured against for each column, from squares of its variable in each cell."""
    live, size = term.codes >= 0, len(term.names)
    own = np.bincount(term.codes[live], squares[live], minlength=size)
    if term.centre is None:
        return own
    # centred about something else, a constant one is absorbed but for rounding
    written = np.bincount(term.codes[live], (w * values**2)[live], minlength=size)
    return np.maximum(own, _ROUNDING * written)


class _Squares:
    """Weighted squares of variables about their overall mean in each cell, made once for each."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._found: dict[int, FloatArray] = {CONSTANT: block.w}

    def of(self, variable: int) -> FloatArray:
        """Return squares of a covariate or of the constant, shape (K,)."""
        if variable not in self._found:
            w, x, xx = self._block.w, self._block.x[:, variable], self._block.xx
            grand = np.average(x, weights=w) if len(w) else 0.0
            square = w * (x - grand) ** 2
            self._found[variable] = square if xx is None else square + xx[:, variable, variable]
        return self._found[variable]


def _kinds(codes: Sequence[IntArray], size: int) -> tuple[IntArray, IntArray]:
    """Codes of cells by the columns of terms they are in, and a cell of each kind."""
    distinct = {id(c): c + 1 for c in codes}
    if not distinct:
        return np.zeros(size, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return joint_codes([*distinct.values()])


def joint_codes(keys: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """Return codes without gaps of combinations of keys, and where each is found first."""
    joint, size = np.zeros(len(keys[0]), dtype=np.int64), 1
    for key in keys:
        levels = int(key.max(initial=0)) + 1
        if size > _COUNTED * (len(joint) + 1):
            # numbered again, so that products of many keys stay small
            joint = np.unique(joint, return_inverse=True)[1].astype(np.int64)
            size = int(joint.max(initial=0)) + 1
        joint, size = joint * levels + key, size * levels
    codes, distinct = numbered(joint, size)
    first = np.empty(len(distinct), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(joint))[::-1]
    return codes, first


def numbered(keys: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Return codes without gaps of keys from 0 to size - 1, and the keys found, in order."""
    if size > _COUNTED * (len(keys) + 1):
        distinct, codes = np.unique(keys, return_inverse=True)
        return codes.astype(np.int64), distinct
    # so few possible keys that a table of them is quicker than sorting
    present = np.zeros(size, dtype=bool)
    present[keys] = True
    distinct = np.flatnonzero(present)
    place = np.empty(size, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return place[keys], distinct
