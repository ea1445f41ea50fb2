"""Cells of a regression with the keys that effects and clusters are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.typing import Array, BoolArray, FloatArray, IntArray
from vbceval.design import Design
from vbceval.did.blocks import by_pattern, make_block, products_of
from vbceval.did.inputs import merged_levels, sources_of
from vbceval.did.least_squares import Cells
from vbceval.did.regressors import Term, joint_codes
from vbceval.moments import Moments
from vbceval.panel import Panel

_MOST_DUMMIES = 4_000
_CODE = " (code)"
_NEVER = "never treated"


class Sample(NamedTuple):
    """
    Cells that have the outcomes of one regression.

    Parameters
    ----------
    cells : Cells
        K cells; cohorts that enter after the last of their periods are never treated in them.
    outcomes : tuple of str
        Names of the m outcomes.
    keys : mapping of str to int array, shape (K,)
        Codes of ``unit``, ``cluster``, ``cohort``, ``period``, ``row`` and each stratum, by their
        names here and in the source.
    levels : mapping of str to tuple of str
        Names of the codes of keys that can be dummies.
    units : int array, shape (K,)
        Distinct units in each cell.
    sums : bool
        Whether cells are sums of rows.
    owner : tuple of str
        Key of what has an effect of its own: the unit of a panel, else the cluster, each within
        its stratum.
    inside : frozenset of str
        Keys whose levels are nested in clusters.
    stratum : str or None
        Name of the stratum; None is all together.
    ahead : int
        Periods of anticipation.
    weight : array, shape (K,)
        Analysis weight, without balance weights.
    made : frozenset of str
        Levels of strata that a shared copy made by merging, by their names in `levels`.
    """

    cells: Cells
    outcomes: tuple[str, ...]
    keys: Mapping[str, IntArray]
    levels: Mapping[str, tuple[str, ...]]
    units: IntArray
    sums: bool
    owner: tuple[str, ...]
    inside: frozenset[str]
    stratum: str | None
    ahead: int
    weight: FloatArray
    made: frozenset[str]

    @property
    def cohort(self) -> FloatArray:
        """First treated period of each cell, NaN = never treated in these data."""
        return self.cells.block.cohort

    @property
    def period(self) -> FloatArray:
        """Period of each cell."""
        return self.cells.block.period

    @property
    def periods(self) -> FloatArray:
        """Distinct periods."""
        return np.unique(self.period)

    @property
    def event_time(self) -> FloatArray:
        """Periods since entry, NaN = never treated."""
        return self.period - self.cohort

    def take(self, rows: BoolArray | IntArray) -> Sample:
        """Return some cells, in any order and number."""
        if rows.dtype == bool and rows.all():
            return self._replace(cells=self.cells._replace(absorbed=None))
        # positions are found once for all arrays
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        c, block = self.cells, self.cells.block.take(rows)
        # clusters and weights are in the block as well, and a key has up to four names
        taken: dict[int, Any] = {id(old): new for old, new in zip(c.block, block, strict=True)}

        def of(values: Array) -> Array:
            if id(values) not in taken:
                taken[id(values)] = values[rows]
            return np.asarray(taken[id(values)])

        cells = Cells(
            block, of(c.y), None if c.xy is None else of(c.xy),
            None if c.yy is None else of(c.yy), of(c.n), None,
        )  # fmt: skip
        keys = {name: of(codes) for name, codes in self.keys.items()}
        return self._replace(cells=cells, keys=keys, units=of(self.units), weight=of(self.weight))

    def within_data(self) -> Sample:
        """Return the cells with cohorts as never treated that enter after the last period of them."""
        block = self.cells.block
        late = block.cohort > block.period.max(initial=-np.inf) + self.ahead
        if not late.any():
            return self
        levels = self.levels["cohort"]
        if _NEVER not in levels:
            levels = (*levels, _NEVER)
        codes = np.where(late, levels.index(_NEVER), self.keys["cohort"])
        cohort = np.where(late, np.nan, block.cohort)
        return self._replace(
            cells=self.cells._replace(block=block._replace(cohort=cohort)),
            keys={**self.keys, "cohort": codes}, levels={**self.levels, "cohort": levels},
        )  # fmt: skip

    def reweighted(self, factor: FloatArray) -> Sample:
        """Return the cells with weights multiplied by `factor`, shape (K,)."""
        c = self.cells
        b = c.block
        block = b._replace(
            w=b.w * factor,
            xx=None if b.xx is None else b.xx * factor[:, None, None],
            xy=None if b.xy is None else b.xy * factor[:, None, None],
        )
        cells = c._replace(
            block=block,
            xy=None if c.xy is None else c.xy * factor[:, None, None],
            yy=None if c.yy is None else c.yy * factor[:, None],
        )
        return self._replace(cells=cells)

    def with_key(self, name: str, values: FloatArray, label: str) -> Sample:
        """Return the cells with one more key, by which effects can be asked for."""
        found, codes = np.unique(values, return_inverse=True)
        return self._replace(
            keys={**self.keys, name: codes.astype(np.int64)},
            levels={**self.levels, name: tuple(f"{label} {v:g}" for v in found)},
        )

    def count_units(self, codes: IntArray, n_codes: int) -> IntArray:
        """Return distinct units in groups of cells, shape (n_codes,); code -1 is no group."""
        live = codes >= 0
        if self.sums:
            # a unit is counted in each period and stratum it is seen in
            found = np.bincount(codes[live], weights=self.units[live], minlength=n_codes)
            return found.astype(np.int64)
        _, first = joint_codes([codes[live], self.keys["unit"][live]])
        return np.bincount(codes[live][first], minlength=n_codes)

    def mean(self, values: FloatArray, codes: IntArray) -> FloatArray:
        """Return the weighted mean of each cell's group, shape (K,)."""
        w = self.cells.block.w
        return (np.bincount(codes, weights=w * values) / np.bincount(codes, weights=w))[codes]


def gather(
    data: Panel | Moments, design: Design, outcomes: Sequence[str], keys: Sequence[str] = ()
) -> tuple[list[tuple[Sample, Moments]], pd.Index]:
    """
    Return samples of outcomes that are seen in the same cells, and all cluster labels.

    Parameters
    ----------
    data : Panel or Moments
        Of a panel, columns that `keys` names are keys of the sample, besides its own.
    design : Design
        Outcome and covariates.
    outcomes : sequence of str
        Outcomes of the regression.
    keys : sequence of str
        Names in fixed effects or clusters; those that are no column are left to their readers.

    Raises
    ------
    DesignError
        If there is one cluster, no cell is complete, or a column is missing in rows.
    """
    further: dict[str, pd.Categorical] = {}
    if isinstance(data, Panel):
        further = _further_keys(data, keys)
        if further:
            data = _with_codes(data, design, outcomes, further)
    sources, labels = sources_of(data, design, outcomes)
    arranged = [_arrange(m, design, names, labels) for m, names in sources]
    arranged = [
        _with_further(sample, moments, further)
        for sample, (moments, _) in zip(arranged, sources, strict=True)
    ]
    if len(arranged) > 1:
        arranged = _align(arranged)
    found = [
        (sample, moments)
        for whole, (moments, _) in zip(arranged, sources, strict=True)
        for sample in _by_pattern(whole)
    ]
    return found, labels


def _further_keys(panel: Panel, names: Sequence[str]) -> dict[str, pd.Categorical]:
    """Return columns of a panel that are named as keys and are none of its own, as categories."""
    own = {"unit", "cluster", "cohort", "period", "owner", "row", panel.unit, panel.cluster}
    own |= {panel.period, *panel.strata}
    found = {}
    for name in dict.fromkeys(names):
        if name in own or name not in panel.frame:
            continue
        found[name] = pd.Categorical(panel.frame[name])
        missing = int((found[name].codes < 0).sum())
        if missing:
            raise DesignError(
                f"`{name}` groups rows in fixed effects or clusters, and is missing in {missing:,} "
                "rows. Give these rows a group, or leave them out."
            )
    return found


def _with_codes(
    panel: Panel, design: Design, outcomes: Sequence[str], further: Mapping[str, pd.Categorical]
) -> Moments:
    """Return the moments of rows with the codes of further keys beside the covariates."""
    codes = {name + _CODE: column.codes.astype(float) for name, column in further.items()}
    beside = replace(panel, frame=panel.frame.assign(**codes))
    return Moments.from_panel(beside, outcomes=outcomes, covariates=[*design.covariates, *codes])


def _with_further(
    sample: Sample, moments: Moments, further: Mapping[str, pd.Categorical]
) -> Sample:
    """Return the sample with further keys, and which of them clusters nest."""
    cluster = sample.cells.block.cluster
    for name, column in further.items():
        codes = np.rint(moments.x_mean[:, moments.covariates.index(name + _CODE)]).astype(np.int64)
        levels = tuple(f"{name} {v}" for v in column.categories)
        pairs, _ = joint_codes([codes, cluster])
        nested = len(np.unique(pairs)) == len(np.unique(codes))
        sample = sample._replace(
            keys={**sample.keys, name: codes}, levels={**sample.levels, name: levels},
            inside=sample.inside | ({name} if nested else frozenset()),
        )  # fmt: skip
    return sample


def _align(samples: list[Sample]) -> list[Sample]:
    """Give keys the same codes in samples that come from moments of their own."""
    out = []
    union = {
        name: tuple(dict.fromkeys(x for s in samples for x in s.levels[name]))
        for name in samples[0].levels
    }
    for sample in samples:
        keys = dict(sample.keys)
        for name, levels in union.items():
            place = np.array([levels.index(x) for x in sample.levels[name]], dtype=np.int64)
            keys[name] = place[keys[name]]
        out.append(sample._replace(keys=keys, levels=union))
    return out


def _arrange(moments: Moments, design: Design, outcomes: Sequence[str], labels: pd.Index) -> Sample:
    js = [moments.column(name) for name in outcomes]
    block = make_block(moments, design, labels, outcomes=())
    columns = moments.covariate_positions(design.covariates)
    xy = None if moments.xy is None else products_of(moments.xy, columns, js)
    yy = None if moments.yy is None else moments.yy[:, js]
    if design.balance_weights is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(moments.w > 0, block.w / moments.w, 0.0)
        xy = None if xy is None else xy * factor[:, None, None]
        yy = None if yy is None else yy * factor[:, None]
    cells = Cells(block, moments.y_mean[:, js], xy, yy, moments.n, None)
    keys, levels = _keys(moments, block.cohort, block.period)
    # clusters have one code in all moments; units are followed within one source only
    unit = block.cluster if moments.unit_name == moments.cluster_name else block.unit
    keys |= {"unit": unit, "cluster": block.cluster}
    keys |= {moments.unit_name: unit, moments.cluster_name: block.cluster}
    own = "unit" if moments.kind == "panel" else "cluster"
    return Sample(
        cells, tuple(outcomes), keys, levels, moments.n_units, moments.xx is not None,
        (own, *moments.strata),
        frozenset(("unit", "cluster", moments.unit_name, moments.cluster_name)), None,
        design.anticipation,
        moments.w,
        frozenset(f"{name} {x}" for name, found in merged_levels(moments).items() for x in found),
    )  # fmt: skip


def _keys(
    moments: Moments, cohort: FloatArray, period: FloatArray
) -> tuple[dict[str, IntArray], dict[str, tuple[str, ...]]]:
    found: dict[str, tuple[IntArray, tuple[str, ...]]] = {}
    values, codes = np.unique(period, return_inverse=True)
    names = tuple(f"{moments.period_name} {v:g}" for v in values)
    found["period"] = found[moments.period_name] = (codes.astype(np.int64), names)
    values, codes = np.unique(np.nan_to_num(cohort, nan=np.inf), return_inverse=True)
    names = tuple(_NEVER if np.isinf(v) else f"cohort {v:g}" for v in values)
    found["cohort"] = (codes.astype(np.int64), names)
    for name in moments.strata:
        column = pd.Categorical(moments.cells[name])
        levels = tuple(f"{name} {v}" for v in column.categories)
        found[name] = (column.codes.astype(np.int64), levels)
    keys = {name: codes for name, (codes, _) in found.items()}
    keys["row"] = np.arange(len(moments), dtype=np.int64)
    return keys, {name: levels for name, (_, levels) in found.items()}


def _by_pattern(sample: Sample) -> list[Sample]:
    """Split outcomes by the cells in which they are seen; each keeps its complete cells."""
    y = sample.cells.y
    out = []
    for js, rows in by_pattern(sample.cells.block._replace(y=y)):
        if not rows.any():
            raise DesignError(
                f"no row has the outcome {listed([sample.outcomes[j] for j in js])}, every "
                "covariate and a positive weight."
            )
        c = sample.cells
        own = c
        if len(js) < y.shape[1]:
            own = c._replace(
                y=y[:, js], xy=None if c.xy is None else np.ascontiguousarray(c.xy[:, :, js]),
                yy=None if c.yy is None else c.yy[:, js],
            )  # fmt: skip
        part = sample._replace(cells=own, outcomes=tuple(sample.outcomes[j] for j in js))
        out.append((part if rows.all() else part.take(rows)).within_data())
    return out


def with_effects(sample: Sample, effects: Sequence[str]) -> tuple[Sample, list[Term]]:
    """
    Return the sample with its largest nested effect absorbed, and dummies of the others.

    Parameters
    ----------
    sample : Sample
        Cells.
    effects : sequence of str
        Each a key or a product of keys ``"period:stratum"``; ``"owner"`` is the unit of a panel,
        or the cluster, within its stratum.

    Returns
    -------
    Sample, list of Term
        Dummies leave their first level out. Without an absorbed effect the first term is the
        constant.

    Raises
    ------
    DesignError
        If a key is not known, or an effect that is not absorbed has more than 4,000 levels.
    """
    found = [(name, *_effect(sample, name)) for name in effects]
    nested = [i for i, (_, codes, _, inside) in enumerate(found) if inside and len(codes)]
    absorbed = max(nested, key=lambda i: int(found[i][1].max()), default=None)
    terms = []
    for i, (name, codes, names, inside) in enumerate(found):
        if i == absorbed:
            continue
        if codes.max() >= _MOST_DUMMIES:
            raise DesignError(
                f"effect `{name}` has {codes.max() + 1:,} levels and is not nested in clusters "
                f"beside a larger one; at most {_MOST_DUMMIES:,} such levels can be estimated. "
                "Use coarser levels."
            )
        terms.append(Term(codes - 1, names[1:], "effect", nested=inside))
    if absorbed is None:
        size = len(sample.units)
        terms.insert(0, Term(np.zeros(size, dtype=np.int64), ("constant",), "effect"))
        return sample, terms
    cells = sample.cells._replace(absorbed=found[absorbed][1])
    return sample._replace(cells=cells), terms


def without_singletons(sample: Sample, effects: Sequence[str]) -> IntArray:
    """
    Return cells whose levels of every effect have a second row, again until none is alone.

    Returns
    -------
    int array
        Positions of the cells that are left.
    """
    codes = [_effect(sample, name)[0] for name in effects]
    n = sample.cells.n
    left = np.arange(len(n))
    while True:
        alone = np.zeros(len(left), dtype=bool)
        for code in codes:
            alone |= np.bincount(code[left], weights=n[left])[code[left]] == 1
        if not alone.any():
            return left
        left = left[~alone]


def _effect(sample: Sample, name: str) -> tuple[IntArray, tuple[str, ...], bool]:
    """Codes without gaps of an effect, their names, and whether clusters nest them."""
    parts = list(sample.owner) if name == "owner" else name.split(":")
    unknown = [p for p in parts if p not in sample.keys or p == "row"]
    if unknown:
        known = [k for k in sample.keys if k != "row"]
        raise DesignError(
            f"`fixed_effects` names {listed(unknown)}, which is no key of these data. Effects are "
            f"keys or products of keys such as 'period:cohort', of {listed(known)}."
        )
    inside = bool(sample.inside & set(parts))
    if inside:
        # a unit has an effect in each of its strata
        parts += [s for s in sample.owner[1:] if s not in parts]
    codes, first = joint_codes([sample.keys[p] for p in parts])
    if inside:
        return codes, ("",) * len(first), True
    names = tuple(" ".join(sample.levels[p][sample.keys[p][k]] for p in parts) for k in first)
    return codes, names, False
