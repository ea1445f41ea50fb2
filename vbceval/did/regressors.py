"""Regressors as functions of a cell's key times (1, covariates)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from vbceval.core.typing import BoolArray, FloatArray, IntArray
from vbceval.did.blocks import Block

Role = Literal["effect", "covariate", "treatment"]
_COUNTED = 8
"""Possible combinations for each cell up to which they are counted in a table."""
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


class Regressors(NamedTuple):
    """
    The design matrix of cells, sparse.

    Parameters
    ----------
    rows : sparse array, shape (K (1 + q), p)
        Value of each column at the mean of the cell; then, for each of q covariates that vary
        inside cells, by how much the column moves with it there.
    inner : tuple of int, length q
        Positions of these covariates; empty when cells are single rows.
    names : tuple of str, length p
        Columns, effects first, then covariates, then treatments.
    roles : array of str, shape (p,)
        Role of each column.
    nested : bool array, shape (p,)
        Effects whose levels are nested in clusters.
    term : int array, shape (p,)
        Which term each column belongs to.
    own : array, shape (p,)
        Weighted sum of squares of each column, covariates about their overall mean.
    kind : int array, shape (K,)
        Code without gaps of cells in which the same columns move with covariates.
    """

    rows: sparse.csr_array
    inner: tuple[int, ...]
    names: tuple[str, ...]
    roles: np.ndarray
    nested: BoolArray
    term: IntArray
    own: FloatArray
    kind: IntArray

    @property
    def mean(self) -> sparse.csr_array:
        """Value of each column at the mean of each cell, shape (K, p)."""
        return self.rows[: self.rows.shape[0] // (1 + len(self.inner))]

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
    p = sum(len(t.names) for t in terms)
    grand = np.average(block.x, axis=0, weights=block.w) if size else np.zeros(block.x.shape[1])
    rows, columns, values = [], [], []
    inner: dict[int, list[tuple[IntArray, IntArray]]] = {}
    own, offset = np.zeros(p), 0
    for term in terms:
        inside = np.flatnonzero(term.codes >= 0)
        column = term.codes[inside] + offset
        value, square = np.ones(len(inside)), block.w[inside]
        if term.variable != CONSTANT:
            x = block.x[inside, term.variable]
            value = x if term.centre is None else x - term.centre[inside]
            square = square * (x - grand[term.variable]) ** 2
            if block.xx is not None:
                square = square + block.xx[inside, term.variable, term.variable]
                inner.setdefault(term.variable, []).append((inside, column))
        rows.append(inside)
        columns.append(column)
        values.append(value)
        own += np.bincount(column, weights=square, minlength=p)
        offset += len(term.names)
    for i, (_, parts) in enumerate(sorted(inner.items()), 1):
        rows += [inside + i * size for inside, _ in parts]
        columns += [column for _, column in parts]
        values += [np.ones(len(inside)) for inside, _ in parts]
    shape = (size * (1 + len(inner)), p)
    found = [np.concatenate(x) if x else np.zeros(0) for x in (values, rows, columns)]
    matrix = sparse.csr_array((found[0], (found[1].astype(int), found[2].astype(int))), shape=shape)
    return Regressors(
        matrix, tuple(sorted(inner)),
        tuple(name for t in terms for name in t.names),
        np.array([t.role for t in terms for _ in t.names], dtype=object),
        np.array([t.nested for t in terms for _ in t.names], dtype=bool),
        np.repeat(np.arange(len(terms)), [len(t.names) for t in terms]), own,
        _kinds([t.codes for t in terms if inner and t.variable != CONSTANT], size),
    )  # fmt: skip


def _kinds(codes: Sequence[IntArray], size: int) -> IntArray:
    """Codes of cells by the columns of terms they are in; one kind when there is no term."""
    distinct = {id(c): c + 1 for c in codes}
    return joint_codes([*distinct.values()])[0] if distinct else np.zeros(size, dtype=np.int64)


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
    if size > _COUNTED * (len(joint) + 1):
        _, first, codes = np.unique(joint, return_index=True, return_inverse=True)
        return codes.astype(np.int64), first
    # so few combinations that a table of them is quicker than sorting
    table = np.full(size, -1, dtype=np.int64)
    table[joint[::-1]] = np.arange(len(joint))[::-1]
    present = table >= 0
    return (np.cumsum(present) - 1)[joint], table[present]
