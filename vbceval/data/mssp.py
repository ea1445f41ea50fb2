"""Reader of the CMS Medicare Shared Savings Program results, performance years 2013-2024."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.data.mssp_find import Found, find_files
from vbceval.data.mssp_frames import KEYS, FileFrames, tidy
from vbceval.data.mssp_link import Linked, link, overall_steps, read_crosswalk
from vbceval.data.mssp_parse import parse_table
from vbceval.data.text_table import read_table

SPLIT_YEAR = 2019
"""Performance year that CMS published as two files, January-June and July-December agreements."""


@dataclass(frozen=True)
class MSSPResults:
    """
    ACO-level results of the Medicare Shared Savings Program, tidy and without small cells.

    Money is in nominal US dollars, percents are fractions, people and person-years are numbers
    of Medicare beneficiaries. See `docs/reference/mssp-files.md` for every column.

    Attributes
    ----------
    aco_year : DataFrame
        One row an ACO, performance year and part of the year (`part` is ``full_year`` except in
        2019): identifiers, dates, track, people, benchmark, expenditure, payments, quality.
    spending : DataFrame
        Sixteen rows for each row of `aco_year`: enrollment type by reference year, with
        `per_capita` (nominal US dollars a person-year of `calendar_year`), `hcc_score` and
        `person_years` (BY3 and PY only).
    demographics : DataFrame
        Numbers of assigned people by age, sex, race, measured in the performance year.
    extra : DataFrame
        Every other published column, in lower case with underscores.
    links : DataFrame
        `aco_num`, `aco_id` and `linked_by` (``crosswalk``, ``name`` or ``none``) of each ACO of
        2013-2017.
    flags : DataFrame
        One row for each cell made missing: keys, `column` and `kind` (``published``, ``small``,
        ``dependent``, ``complementary``).
    attrition : DataFrame
        Rows, cells and ACOs by file and step.
    sources : DataFrame
        One row a file: name, performance year, hash, encoding, scales of the percents.
    """

    aco_year: pd.DataFrame
    spending: pd.DataFrame
    demographics: pd.DataFrame
    extra: pd.DataFrame
    links: pd.DataFrame
    flags: pd.DataFrame
    attrition: pd.DataFrame
    sources: pd.DataFrame

    @property
    def years(self) -> list[int]:
        """Performance years, in order."""
        return sorted(int(year) for year in self.aco_year["performance_year"].unique())


def read_file(path: str | Path, year: int | None = None) -> MSSPResults:
    """
    Read one results file; identifiers stay as printed.

    Parameters
    ----------
    path : str or Path
        CSV, JSON or .xlsx file, plain or gzipped.
    year : int, optional
        Performance year of a file without a column for it; default reads it from the name.

    Raises
    ------
    DataError
        With every failure of the file listed; see `read_mssp`.
    """
    return _assemble([tidy(parse_table(read_table(Path(path)), year))], None)


def read_mssp(
    path: str | Path | Iterable[str | Path],
    *,
    years: Sequence[int] | None = None,
    crosswalk: str | Path | None = None,
) -> MSSPResults:
    """
    Read the published results of several performance years as one table.

    The files are recognised by their columns, whatever their names; other files in the folder are
    left alone. Each file is checked against itself: the savings rate must be (benchmark -
    expenditure) / benchmark in every row, which also decides the scale of the rate.

    Parameters
    ----------
    path : str, Path, or iterable of them
        A folder, a file, or several files.
    years : sequence of int, optional
        Performance years to read; default all that are there.
    crosswalk : str or Path, optional
        Table of `ACO_NUM` and `ACO_ID`; default is the one found in the folder.

    Returns
    -------
    MSSPResults
        ACOs identified by the `ACO_ID` of 2018 on where the crosswalk has it.

    Raises
    ------
    DataError
        Listing, for each file, rows cut short, missing or doubled columns, text in numeric
        columns, duplicated ACOs, and arithmetic that fails; or listing years that are missing,
        years with two files, a 2019 of which one of the two files is missing, or files from both
        sides of the change of identifiers without a crosswalk.
    """
    found = find_files(path)
    chosen = _choose(found, years)
    frames, problems = [], []
    for entry in chosen:
        try:
            frames.append(tidy(parse_table(entry.table or read_table(entry.path), entry.year)))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    _check_split_year(frames)
    table = None
    where = Path(crosswalk) if crosswalk is not None else _only_crosswalk(found)
    if where is not None:
        table = read_crosswalk(where)
    return _assemble(frames, link([f.aco_year for f in frames], table))


def _choose(found: list[Found], years: Sequence[int] | None) -> list[Found]:
    results = [entry for entry in found if entry.kind == "results"]
    wanted = set(years) if years is not None else {e.year for e in results if e.year is not None}
    held = sorted({entry.year for entry in results if entry.year is not None})
    problems = Problems("these MSSP results")
    unknown = [entry.path.name for entry in results if entry.year is None]
    if unknown and years is None:
        problems.add(
            f"the performance year of {listed(unknown)} cannot be told from a column or the file "
            "name. Put it in the name (`py2016.csv`)."
        )
    absent = sorted(wanted - set(held))
    if absent:
        problems.add(
            f"no file holds performance years {listed(absent)}; there are files for "
            f"{listed(held) or 'none'}. Add the files (`vbceval data get mssp`), or leave those "
            "years out of `years`."
        )
    if not results:
        problems.add("no results file was found among the files given.")
    if years is not None and not wanted:
        problems.add("`years` is empty. Name the performance years, or leave it out to read all.")
    chosen = [entry for entry in results if entry.year in wanted]
    for year in sorted(wanted & set(held)):
        same = [entry.path.name for entry in chosen if entry.year == year]
        if len(same) > (2 if year == SPLIT_YEAR else 1):
            problems.add(
                f"{len(same)} files hold performance year {year} ({listed(sorted(same))}), so its "
                "ACOs would be counted twice. Leave one in the folder, or name the files to read."
            )
    problems.raise_if_any()
    return sorted(chosen, key=lambda entry: (entry.year or 0, entry.path.name))


def _only_crosswalk(found: list[Found]) -> Path | None:
    tables = [entry.path for entry in found if entry.kind == "crosswalk"]
    if len(tables) > 1:
        raise DataError(
            f"{len(tables)} files look like the ACO identifier crosswalk "
            f"({listed(p.name for p in tables)}). Pass the one to use as `crosswalk`."
        )
    return tables[0] if tables else None


def _check_split_year(frames: list[FileFrames]) -> None:
    halves = [f for f in frames if f.source["performance_year"] == SPLIT_YEAR]
    if not halves:
        return
    parts = {part for f in halves for part in f.aco_year["part"]}
    names = listed(f.source["source_file"] for f in halves)
    first = parts & {"full_year", "january_june"}
    if not first or "july_december" not in parts:
        absent = "July-December (`2019A`)" if first else "January-June and full-year"
        raise DataError(
            f"performance year {SPLIT_YEAR} does not reconcile: CMS published it as two files, and "
            f"{names} lacks the {absent} results, so ACOs, people and dollars of half a year would "
            f"be missing. Add the other file, or leave {SPLIT_YEAR} out of `years`."
        )
    keys = pd.concat([f.aco_year[KEYS] for f in halves])
    twice = keys[keys.duplicated()]["aco_id"].unique()
    if len(twice):
        raise DataError(
            f"{len(twice)} ACOs are in the same part of {SPLIT_YEAR} in both files {names} "
            f"({listed(sorted(twice))}), so they would be counted twice. Remove the copy."
        )


def _assemble(files: list[FileFrames], linked: Linked | None) -> MSSPResults:
    mapping = linked.mapping if linked is not None else {}
    attrition = [f.attrition for f in files]
    links = pd.DataFrame(columns=["aco_num", "aco_id", "linked_by"], dtype="str")
    if linked is not None:
        links = linked.links
        attrition.append(linked.attrition)
    aco_year = _stack([f.aco_year for f in files], mapping)
    duplicated = aco_year[aco_year.duplicated(KEYS, keep=False)]
    if len(duplicated):
        raise DataError(
            f"{duplicated['aco_id'].nunique()} ACOs appear twice in a performance year once their "
            f"numbers are linked ({listed(sorted(duplicated['aco_id'].unique()))}), so the "
            "crosswalk takes two ACOs for one. Correct the crosswalk."
        )
    aco_year, several = _fill_starts(aco_year)
    attrition.append(
        overall_steps(
            [
                ("ACOs in all", "acos", aco_year["aco_id"].nunique()),
                ("ACOs without a known start date", "acos", _undated(aco_year)),
                ("ACOs printed with two start dates: the earlier used", "acos", several),
            ]
        )
    )
    return MSSPResults(
        aco_year=aco_year,
        spending=_stack([f.spending for f in files], mapping),
        demographics=_stack([f.demographics for f in files], mapping),
        extra=_stack([f.extra for f in files], mapping),
        links=links,
        flags=_stack([f.flags for f in files], mapping),
        attrition=pd.concat(attrition, ignore_index=True),
        sources=pd.DataFrame([f.source for f in files]),
    )


def _stack(frames: list[pd.DataFrame], mapping: dict[str, str]) -> pd.DataFrame:
    stacked = pd.concat(frames, ignore_index=True)
    stacked["aco_id"] = stacked["aco_id"].map(lambda aco: mapping.get(aco, aco)).astype("str")
    # stable, so the order of enrollment types and reference years inside an ACO-year is kept
    return stacked.sort_values(KEYS, kind="stable", ignore_index=True)


def _fill_starts(aco_year: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    # From 2022 the files print the start of the current agreement only; the first start of an
    # ACO is known from any earlier file that holds it.
    starts = aco_year.groupby("aco_id")["start_date"].agg(["min", "max"])
    filled = aco_year.assign(start_date=aco_year["aco_id"].map(starts["min"]))
    filled["cohort"] = filled["start_date"].dt.year.astype("Int64")
    return filled, int((starts["min"] < starts["max"]).sum())


def _undated(aco_year: pd.DataFrame) -> int:
    return int(aco_year.loc[aco_year["start_date"].isna(), "aco_id"].nunique())
