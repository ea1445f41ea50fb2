"""Rows of a forest plot: headings and labels from keys, and joint tests within a heading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.errors import DataError, DesignError, EstimationError
from vbceval.core.typing import IntArray
from vbceval.estimates import columns
from vbceval.figures.sources import Source
from vbceval.figures.wording import Labels, display

KINDS = ("estimate", "overall", "gap", "pooled", "predictive")

_DIMENSIONS = {
    "stratum": "Stratum",
    "cohort": "Entry cohort",
    "period": "Calendar period",
    "event_time": "Periods since entry",
    "outcome": "Outcome",
    "run": "",
}
_QUANTITY = ("estimand", "outcome", "run")
_ALL_TOGETHER = (columns.OVERALL, columns.SIMPLE)


def labelled(source: Source, labels: Labels | None) -> pd.DataFrame:
    """
    Return the rows with ``heading``, ``label``, ``kind`` and ``p_joint``.

    A table that has ``label`` keeps its own; otherwise they come from the keys: the stratum
    ``"variable=level"`` gives heading and label, then the entry cohort, the period, the event
    time, the outcome, the run.

    Raises
    ------
    DataError
        If ``kind`` is not understood.
    """
    frame = source.frame.copy()
    if "label" not in frame:
        frame = _from_keys(frame, labels)
    frame["heading"] = "" if "heading" not in frame else frame["heading"].fillna("").astype(str)
    frame["kind"] = "estimate" if "kind" not in frame else frame["kind"].fillna("estimate")
    unknown = sorted(set(frame["kind"].astype(str)) - set(KINDS))
    if unknown:
        raise DataError(
            f"the forest table has `kind` {', '.join(unknown)}; use {', '.join(KINDS)}."
        )
    if "p_joint" not in frame:
        frame["p_joint"] = _joint_tests(source, frame)
    if source.estimates is not None and source.interval == "credible":
        frame["probability"] = source.estimates.probability(below=0.0).to_numpy()
    return frame


def _from_keys(frame: pd.DataFrame, labels: Labels | None) -> pd.DataFrame:
    used = [k for k in _DIMENSIONS if k in frame and _distinguishes(frame, k)]
    together = frame["estimand"].isin(_ALL_TOGETHER) if "estimand" in frame else None
    out = frame.copy()
    if not used:
        names = frame["estimand"] if "estimand" in frame else pd.Series("estimate", frame.index)
        return out.assign(heading="", label=[display(v, labels) for v in names])
    first, others = used[0], used[1:]
    heading, label, kind = [], [], []
    for i, value in enumerate(frame[first]):
        whole = _missing(value) or (
            first in ("cohort", "period", "event_time") and together is not None and together[i]
        )
        extra = [
            display(frame[k].iloc[i], labels) for k in others if not _missing(frame[k].iloc[i])
        ]
        own, name = _named(first, value, labels)
        heading.append("" if whole else own)
        text = ", ".join(["Overall" if whole else name, *extra])
        label.append(text[:1].upper() + text[1:])
        kind.append("overall" if whole else "estimate")
    if set(kind) == {"overall"}:
        kind = ["estimate"] * len(kind)
    if "estimand" in frame and len(set(zip(heading, label, strict=True))) < len(label):
        label = [
            f"{text}, {display(v, labels)}"
            for text, v in zip(label, frame["estimand"], strict=True)
        ]
    return out.assign(heading=heading, label=label, kind=kind)


def _distinguishes(frame: pd.DataFrame, key: str) -> bool:
    values = frame[key]
    return bool(values.notna().any()) and (key == "stratum" or len(values.unique()) > 1)


def _missing(value: Any) -> bool:
    return value is None or value != value


def _named(key: str, value: Any, labels: Labels | None) -> tuple[str, str]:
    if key == "stratum":
        text = str(value)
        variable, equals, level = text.partition("=")
        if equals:
            # a label given for the whole stratum wins over one for its level
            name = display(text, labels) if labels and text in labels else display(level, labels)
            return display(variable, labels).capitalize(), name
        return "", display(text, labels)
    name = f"{value:g}" if isinstance(value, (int, float, np.number)) else display(value, labels)
    return _DIMENSIONS[key], name.replace("-", "\u2212") if key == "event_time" else name


def _joint_tests(source: Source, frame: pd.DataFrame) -> list[float]:
    """P of equality of the rows under each heading, on each of its rows; missing where unknown."""
    out = np.full(len(frame), np.nan)
    if source.estimates is None or source.interval == "credible":
        return [float(p) for p in out]
    for heading in frame["heading"].unique():
        rows = np.flatnonzero((frame["heading"] == heading) & (frame["kind"] == "estimate"))
        live = rows[frame["std_error"].notna().to_numpy()[rows]]
        # equality has a meaning for one quantity in several strata, not for several quantities
        one = all(len(frame[k].iloc[live].unique()) == 1 for k in _QUANTITY if k in frame)
        if heading and len(live) > 1 and one:
            out[rows] = _equality(source, live)
    return [float(p) for p in out]


def _equality(source: Source, rows: IntArray) -> float:
    """P of the joint test that the rows are equal, from their joint covariance."""
    if source.estimates is None:
        raise EstimationError("a joint test needs estimates with a covariance.")
    matrix = np.zeros((len(rows) - 1, len(source.frame)))
    matrix[:, rows[0]] = -1.0
    matrix[np.arange(len(rows) - 1), rows[1:]] = 1.0
    test = source.estimates.contrast(matrix).wald(allow_rank_deficient=True)
    return test.p_value


def with_gaps(rows: pd.DataFrame, gap: Source, labels: Labels | None) -> pd.DataFrame:
    """
    Put the rows of gaps under the headings they belong to, with their joint P.

    A gap belongs to the heading that its ``heading`` or ``stratum`` names; where there is one
    heading only, to that.

    Raises
    ------
    DesignError
        If a gap belongs to no heading of the plot.
    """
    headings = [h for h in rows["heading"].unique() if h]
    gaps = gap.frame.copy()
    gaps["heading"] = [_heading_of(row, headings, labels) for _, row in gaps.iterrows()]
    if "label" not in gaps:
        gaps["label"] = [_gap_label(row, labels) for _, row in gaps.iterrows()]
    gaps["kind"] = "gap"
    if gap.estimates is not None and gap.interval == "credible":
        gaps["probability"] = gap.estimates.probability(below=0.0).to_numpy()
    pieces: list[pd.DataFrame] = []
    for heading in rows["heading"].unique():
        block = rows[rows["heading"] == heading].copy()
        own = gaps[gaps["heading"] == heading].copy()
        if len(own) and gap.estimates is not None and gap.interval != "credible":
            places = np.flatnonzero((gaps["heading"] == heading).to_numpy())
            joint = gap.estimates.wald(places, allow_rank_deficient=True).p_value
            own["p_joint"] = joint
            # the strata's own test is of all of them; the gaps given may be only some
            block["p_joint"] = block["p_joint"].fillna(joint)
        pieces += [block, own] if len(own) else [block]
    return pd.concat(pieces, ignore_index=True)


def _heading_of(row: pd.Series, headings: Sequence[str], labels: Labels | None) -> str:
    named = [row.get("heading"), row.get("by")]
    stratum = row.get("stratum")
    if not _missing(stratum):
        named.append(_named("stratum", stratum, labels)[0] or str(stratum))
    for name in named:
        if not _missing(name):
            words = [str(name), display(name, labels).capitalize()]
            found = [h for h in headings if h in words]
            if found:
                return found[0]
    if len(headings) == 1:
        return headings[0]
    raise DesignError(
        f"the gap '{row.get('label', row.get('estimand', ''))}' belongs to none of the headings "
        f"{', '.join(headings) or '(there are none)'}. Name it in a column `heading` of the gaps."
    )


def _gap_label(row: pd.Series, labels: Labels | None) -> str:
    """Name a gap by its strata "variable=level - reference", else by its estimand."""
    _, equals, pair = ("", "", "") if _missing(row.get("stratum")) else _split(row["stratum"])
    level, minus, reference = pair.partition(" - ")
    if equals and minus:
        text = f"{display(level, labels)} less {display(reference, labels)}"
    else:
        text = display(row.get("estimand", "difference"), labels)
    return text[:1].upper() + text[1:]


def _split(stratum: object) -> tuple[str, str, str]:
    return str(stratum).partition("=")
