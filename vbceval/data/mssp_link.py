"""One identifier for an ACO across the change of 2018, and across the names of 2013."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.data.mssp_layout import normalise
from vbceval.data.text_table import TextTable, read_table

LAST_NUMBERED_YEAR = 2017
"""Last performance year that identifies ACOs by the encrypted `ACO_Num`; `ACO_ID` follows."""

LINKS = ["aco_num", "aco_id", "linked_by"]
"""Columns of `MSSPResults.links`."""

ATTRITION = {
    "source_file": "str",
    "performance_year": "Int64",
    "step": "str",
    "unit": "str",
    "n": "int64",
}
"""Columns of `MSSPResults.attrition` and their types."""

_LEGAL = re.compile(r"\b(llc|inc|lc|pc|pllc|corp|corporation|co|company|the)\b")


@dataclass(frozen=True)
class Linked:
    """Identifier of every old number and name, and how many were found."""

    mapping: dict[str, str]
    links: pd.DataFrame
    attrition: pd.DataFrame


def is_crosswalk(header: Iterable[str]) -> bool:
    """Return True for the header of the ACO identifier crosswalk."""
    codes = {normalise(label) for label in header}
    return {"acoid", "aconum"} <= codes and len(codes) <= 6


def read_crosswalk(path: Path) -> dict[str, str]:
    """
    Read the crosswalk from `ACO_NUM` (2014-2017) to `ACO_ID` (2018 on).

    Parameters
    ----------
    path : Path
        CSV or .xlsx file with columns `ACO_NUM` and `ACO_ID`.

    Returns
    -------
    dict of str to str
        `ACO_ID` by `ACO_NUM`.

    Raises
    ------
    DataError
        If a column is missing, a cell is blank, or the table is not one-to-one.
    """
    table = read_table(path)
    found = Problems(f"crosswalk `{path.name}`")
    for problem in table.problems:
        found.add(problem)
    if not is_crosswalk(table.header):
        found.add(
            f"it needs columns `ACO_NUM` and `ACO_ID` and has {listed(table.header)}. Pass the ACO "
            "identifier crosswalk of CMS."
        )
        found.raise_if_any()
    pairs = _pairs(table)
    blank = (pairs == "").any(axis=1)
    if blank.any():
        found.add(f"{int(blank.sum())} rows lack one of the two identifiers. Fill them in.")
    for column, other in (("aconum", "acoid"), ("acoid", "aconum")):
        several = pairs.drop_duplicates().groupby(column)[other].nunique()
        several = several[several > 1]
        if len(several):
            found.add(
                f"{len(several)} values of `{column}` have more than one `{other}` "
                f"({listed(several.index)}), so two ACOs would be taken for one. Keep one pair."
            )
    found.raise_if_any()
    return dict(zip(pairs["aconum"], pairs["acoid"], strict=True))


def _pairs(table: TextTable) -> pd.DataFrame:
    text = table.rows.set_axis(pd.Index([normalise(label) for label in table.header]), axis=1)
    return pd.DataFrame({code: text[code].str.strip() for code in ("aconum", "acoid")})


def link(frames: list[pd.DataFrame], crosswalk: dict[str, str] | None) -> Linked:
    """
    Find the identifier of 2018 on for the ACOs of earlier files.

    Parameters
    ----------
    frames : list of DataFrame
        The `aco_year` frame of each file.
    crosswalk : dict of str to str or None
        `ACO_ID` by `ACO_NUM`.

    Returns
    -------
    Linked
        ACOs that the crosswalk lacks keep their number; ACOs of 2013 without a number are linked
        by name and start date where exactly one ACO of a later file has both, else keep a
        stand-in made of the name. Both are counted.

    Raises
    ------
    DataError
        If files from both sides of the change are given without a crosswalk.
    """
    every = pd.concat(frames, ignore_index=True)
    years = every["performance_year"]
    numbered = every[(years <= LAST_NUMBERED_YEAR) & ~every["aco_id"].str.startswith("name:")]
    numbers = sorted(set(numbered["aco_id"]))
    if crosswalk is None and numbers and (years > LAST_NUMBERED_YEAR).any():
        raise DataError(
            f"{len(numbers)} ACOs of {LAST_NUMBERED_YEAR} and before are numbered otherwise than "
            "those after, so one ACO would be taken for two and enter twice. Put the ACO "
            "identifier crosswalk of CMS beside the files, pass it as `crosswalk`, or read the two "
            "groups of years apart."
        )
    known = crosswalk or {}
    mapping = {number: known[number] for number in numbers if number in known}
    rows = [(n, mapping.get(n, n), "crosswalk" if n in mapping else "none") for n in numbers]
    named = _by_name(every, mapping)
    rows += [(stand_in, named.get(stand_in, stand_in), "name" if stand_in in named else "none")
             for stand_in in sorted(set(every["aco_id"])) if stand_in.startswith("name:")]  # fmt: skip
    mapping |= named
    links = pd.DataFrame(rows, columns=LINKS).astype("str")
    return Linked(mapping, links, _counts(links, _renamed(every, mapping)))


def _renamed(every: pd.DataFrame, mapping: dict[str, str]) -> int:
    # A wrong link would join two names; so would a new name, so it is counted, not refused.
    linked = every.assign(aco_id=every["aco_id"].replace(mapping), plain=_plain_names(every))
    linked = linked[linked["aco_id"].isin(set(mapping.values()))]
    early = linked["performance_year"] <= LAST_NUMBERED_YEAR
    before = linked[early].groupby("aco_id")["plain"].agg(set)
    after = linked[~early].groupby("aco_id")["plain"].agg(set)
    return sum(not (before[aco] & after[aco]) for aco in before.index.intersection(after.index))


def _by_name(every: pd.DataFrame, mapping: dict[str, str]) -> dict[str, str]:
    stand_in = every["aco_id"].str.startswith("name:")
    if not stand_in.any():
        return {}
    later = every[~stand_in].assign(aco_id=lambda d: d["aco_id"].replace(mapping))
    keys = later.assign(key=_keys(later))[["key", "aco_id"]].drop_duplicates()
    # a name and date that two ACOs share says nothing
    target = keys[~keys["key"].duplicated(keep=False)].set_index("key")["aco_id"].to_dict()
    mine = every[stand_in].assign(key=_keys(every[stand_in]))
    mine = mine[~mine["key"].duplicated(keep=False)]
    pairs = zip(mine["aco_id"], mine["key"], strict=True)
    return {name: target[key] for name, key in pairs if key in target}


def _keys(frame: pd.DataFrame) -> pd.Series:
    dates = frame["start_date"].dt.strftime("@%Y-%m-%d").fillna("@")
    return pd.Series(_plain_names(frame) + dates, index=frame.index, dtype="str")


def _plain_names(frame: pd.DataFrame) -> pd.Series:
    words = frame["name"].str.lower().str.replace(r"[^a-z0-9 ]", " ", regex=True)
    return pd.Series(words.str.replace(_LEGAL, " ", regex=True).str.replace(" ", ""), dtype="str")


def _counts(links: pd.DataFrame, renamed: int) -> pd.DataFrame:
    steps = [
        ("ACOs linked by the crosswalk", int((links["linked_by"] == "crosswalk").sum())),
        ("ACOs linked by name and start date", int((links["linked_by"] == "name").sum())),
        ("ACOs that keep their old number or name", int((links["linked_by"] == "none").sum())),
        ("linked ACOs whose name differs before and after 2018", renamed),
    ]
    return overall_steps([(step, "acos", n) for step, n in steps])


def overall_steps(steps: list[tuple[str, str, int]]) -> pd.DataFrame:
    """Return attrition rows (step, unit, n) that belong to no single file."""
    frame = pd.DataFrame(steps, columns=["step", "unit", "n"])
    frame.insert(0, "source_file", None)
    frame.insert(1, "performance_year", None)
    return frame.astype(ATTRITION)
