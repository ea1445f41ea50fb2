"""The panel ACO x file x enrollment type x calendar year of Shared Savings Program results.

A results file gives, for each ACO, spending in its three benchmark years and in the performance
year. CMS restates benchmark years when an ACO's participant list changes, so that the same ACO and
year differ between files by more than the effects of interest; years of one file share one list.
A unit is therefore an ACO *as described by one file*, and differences are taken within units. The
cluster is the ACO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.data import MSSPResults
from vbceval.data.mssp_frames import KEYS
from vbceval.data.mssp_layout import ENROLLMENT_TYPES
from vbceval.panel.panel import Panel

BaseFile = Literal["same_file", "first_file", "last_file"]
_WEIGHT = "by3_person_years"


@dataclass(frozen=True, kw_only=True)
class EntryPanel:
    """
    Options of the panel of entry into the Shared Savings Program.

    Results of half a year (2019) are left out; the benchmark years of their files are kept.

    Parameters
    ----------
    base_file : {"same_file", "first_file", "last_file"}
        Which file gives the years before entry. "same_file": a performance year is compared with
        the last benchmark year of its own file, and comparison ACOs come from their first file.
        "first_file" and "last_file": benchmark years of every ACO come from its first or last
        file of the first agreement, whatever the file of the performance year.
    last_event_time : int, default 1
        Last year after entry that is kept.
    last_performance_year : int, default 2018
        Later performance years give benchmark years of not-yet-entered ACOs only.
    first_cohort : int, default 2013
        Earlier entrants are left out: no comparison ACO has benchmark years that reach back far
        enough.
    hcc_limit : float, optional
        ACOs whose risk score in the last year before entry exceeds it are left out: where no
        comparison ACO is like them, nothing can be said.

    References
    ----------
    .. [1] 42 CFR 425.602-425.604: benchmark years and assignment by agreement period.
    """

    base_file: BaseFile = "same_file"
    last_event_time: int = 1
    last_performance_year: int = 2018
    first_cohort: int = 2013
    hcc_limit: float | None = None

    def __post_init__(self) -> None:
        problems = Problems("the options of EntryPanel", DesignError)
        if self.base_file not in ("same_file", "first_file", "last_file"):
            problems.add(
                f"`base_file` is '{self.base_file}'; use 'same_file', 'first_file' or 'last_file'."
            )
        if self.last_event_time < 0:
            problems.add(f"`last_event_time` is {self.last_event_time}; it is 0 or more.")
        problems.raise_if_any()

    def build(self, results: MSSPResults) -> Panel:
        """
        Build the panel.

        Parameters
        ----------
        results : MSSPResults
            Files of several performance years.

        Returns
        -------
        Panel
            Unit ``aco_file``, cluster ``aco_id``, stratum ``enrollment_type``, period
            ``calendar_year``, cohort ``cohort`` (calendar year of entry). Columns: ``spend``
            (nominal USD per person-year), ``by3_person_years`` (weight: person-years of the last
            benchmark year, in every year), ``hcc`` (risk score of the ACO in that calendar year,
            weighted by `by3_person_years`), ``share_esrd``, ``share_disabled``,
            ``share_aged_dual`` (enrollment mix of the last benchmark year). The attrition table
            counts ACOs at every step.

        Raises
        ------
        DesignError
            If nothing is left.
        """
        cells, steps = self._cells(results)
        if cells.empty:
            raise DesignError(
                "no ACO of a first agreement period is left after the restrictions of EntryPanel. "
                f"The files hold performance years {results.years}."
            )
        cells = _with_covariates(cells)
        panel = Panel.from_frame(
            cells, unit="aco_file", period="calendar_year", cohort="cohort", cluster="aco_id",
            strata=["enrollment_type"], weight=_WEIGHT, people=False,
        )  # fmt: skip
        return panel.preceded_by(pd.DataFrame(steps))

    def _cells(self, results: MSSPResults) -> tuple[pd.DataFrame, list[dict[str, object]]]:
        about = results.aco_year[[*KEYS, "cohort", "first_agreement"]]
        cells = results.spending.merge(about, on=KEYS, how="left")
        steps = [_step("all results in the files", cells)]

        def keep(mask: pd.Series, step: str) -> None:
            nonlocal cells
            cells = cells[mask.fillna(False).astype(bool)]
            steps.append(_step(step, cells))

        keep(cells["first_agreement"], "first agreement period, not re-entering")
        keep(cells["cohort"] >= self.first_cohort, f"entered in {self.first_cohort} or later")
        event_time = cells["performance_year"] - cells["cohort"]
        is_result = cells["reference"] == "PY"
        late = is_result & (
            (event_time > self.last_event_time)
            | (cells["performance_year"] > self.last_performance_year)
        )
        keep(~late, f"performance years to event time {self.last_event_time} and to "
                    f"{self.last_performance_year}")  # fmt: skip
        half = (cells["reference"] == "PY") & (cells["part"] != "full_year")
        if half.any():
            # its amounts are of the calendar year and its dollars of six months
            keep(~half, "results of whole years")
        if self.hcc_limit is not None:
            outside = _risk_before_entry(cells) > self.hcc_limit
            keep(~cells["aco_id"].isin(outside.index[outside]),
                 f"risk score before entry at most {self.hcc_limit:g}")  # fmt: skip
        weight = cells[cells["reference"] == "BY3"].set_index(_FILE_KEYS)["person_years"]
        cells = cells.assign(**{_WEIGHT: _look_up(cells, weight)})
        keep(cells["per_capita"].notna() & cells[_WEIGHT].notna(),
             "spending and person-years printed (11 people or more)")  # fmt: skip
        cells = self._choose_files(cells)
        steps.append(_step(_RULES[self.base_file], cells))
        return cells, steps

    def _choose_files(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Name the unit of each cell, and keep each unit-year once."""
        file = cells["performance_year"]
        by_aco = cells.groupby("aco_id")["performance_year"]
        is_result = cells["reference"] == "PY"
        if self.base_file == "same_file":
            # later files give only the pair (last benchmark year, performance year): as a
            # comparison an ACO is described by its first file alone
            kept = (file == by_aco.transform("min")) | is_result | (cells["reference"] == "BY3")
            unit = cells["aco_id"] + ":" + file.astype(str)
            cells = cells.assign(aco_file=unit)[kept]
            has_result = cells.loc[cells["reference"] == "PY", "aco_file"].unique()
            first = cells["performance_year"] == cells.groupby("aco_id")[
                "performance_year"
            ].transform("min")
            return cells[first | cells["aco_file"].isin(has_result)]
        chosen = by_aco.transform("min" if self.base_file == "first_file" else "max")
        cells = cells.assign(aco_file=cells["aco_id"])
        weight = cells[(cells["reference"] == "BY3") & (file == chosen)].set_index(
            ["aco_id", "enrollment_type"]
        )[_WEIGHT]
        index = pd.MultiIndex.from_frame(cells[["aco_id", "enrollment_type"]])
        cells = cells.assign(**{_WEIGHT: weight.reindex(index).to_numpy()})
        return cells[(is_result | (file == chosen)) & cells[_WEIGHT].notna()]


_RULES = {
    "same_file": "years before entry from the first file; later years within their own file",
    "first_file": "years before entry from the first file",
    "last_file": "years before entry from the last file",
}
_FILE_KEYS = ["aco_id", "performance_year", "enrollment_type"]


def _look_up(cells: pd.DataFrame, values: pd.Series) -> np.ndarray:
    index = pd.MultiIndex.from_frame(cells[_FILE_KEYS])
    return values.reindex(index).to_numpy(dtype=float, na_value=np.nan)


def _step(step: str, cells: pd.DataFrame) -> dict[str, object]:
    return {
        "step": step,
        "rows": len(cells),
        "units": int(cells.groupby(["aco_id", "performance_year"]).ngroups),
        "clusters": int(cells["aco_id"].nunique()),
    }


def _risk_before_entry(cells: pd.DataFrame) -> pd.Series:
    """Risk score of each ACO in its last benchmark year, from its first file."""
    rows = cells[(cells["reference"] == "BY3") & cells["hcc_score"].notna()]
    rows = rows[rows["person_years"].notna()]
    first = rows["performance_year"] == rows.groupby("aco_id")["performance_year"].transform("min")
    return _weighted_mean(rows[first], ["aco_id"], "hcc_score", "person_years")


def _weighted_mean(frame: pd.DataFrame, keys: list[str], value: str, weight: str) -> pd.Series:
    sums = (
        frame.assign(_top=frame[value] * frame[weight], _bottom=frame[weight])
        .groupby(keys)[["_top", "_bottom"]]
        .sum()
    )
    return sums["_top"] / sums["_bottom"]


def _with_covariates(cells: pd.DataFrame) -> pd.DataFrame:
    """Add the ACO's risk score of the year and its enrollment mix, the same for all its types."""
    cells = cells.rename(columns={"per_capita": "spend"})
    scored = cells[cells["hcc_score"].notna()]
    score = _weighted_mean(scored, ["aco_file", "calendar_year"], "hcc_score", _WEIGHT)
    index = pd.MultiIndex.from_frame(cells[["aco_file", "calendar_year"]])
    mix = (
        cells.drop_duplicates(["aco_file", "enrollment_type"])
        .pivot_table(index="aco_file", columns="enrollment_type", values=_WEIGHT)
        .reindex(columns=list(ENROLLMENT_TYPES))
        .fillna(0.0)
    )
    mix = mix.div(mix.sum(axis=1), axis=0).drop(columns="aged_non_dual").add_prefix("share_")
    keep = [
        "aco_id", "aco_file", "performance_year", "enrollment_type", "reference", "calendar_year",
        "cohort", "spend", _WEIGHT, "person_years",
    ]  # fmt: skip
    out = cells[keep].assign(hcc=score.reindex(index).to_numpy())
    out = out.astype({"calendar_year": int, "cohort": int})
    return out.join(mix, on="aco_file").reset_index(drop=True)


def covered_person_years(panel: Panel, results: MSSPResults) -> pd.DataFrame:
    """
    Return performance-year person-years, payments and benchmarks of treated ACO-years in a panel.

    Parameters
    ----------
    panel : Panel
        Result of `EntryPanel.build`.
    results : MSSPResults
        The files it was built from.

    Returns
    -------
    DataFrame
        One row a treated ACO-year: ``aco_id``, ``cohort``, ``period``, ``person_years``,
        ``benchmark``, ``expenditure``, ``earned`` (nominal USD; positive = paid to the ACO).
    """
    rows = panel.frame[panel.frame["reference"] == "PY"]
    rows = rows[["aco_id", "performance_year", "cohort"]].drop_duplicates()
    columns = ["aco_id", "performance_year", "person_years", "benchmark", "expenditure",
               "earn_save_loss"]  # fmt: skip
    out = rows.merge(results.aco_year[columns], on=["aco_id", "performance_year"], how="left")
    return out.rename(columns={"performance_year": "period", "earn_save_loss": "earned"}).astype(
        {"period": float, "cohort": float}
    )
