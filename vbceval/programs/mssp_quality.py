"""Quality scores and standards of the Shared Savings Program from measures, 42 CFR 425.502, 425.512."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns
from vbceval.core.errors import DesignError
from vbceval.core.typing import BoolArray, FloatArray
from vbceval.programs.episode_steps import step
from vbceval.programs.program import Program
from vbceval.programs.registry import get
from vbceval.programs.terms import Terms, Used

THIRDS = ("bottom", "middle", "top")
OF_MEASURE: dict[str, float | bool] = {"weight": 1.0, "reporting_only": False, "improvement": 0.0}
OF_ACO: dict[str, float | bool] = {
    "reported": True, "electronic": False, "first_year": False, "underserved": 0.0
}  # fmt: skip
"""Optional columns of measures and of ACOs, and what holds without them; blank numbers are that too,
blank flags are refused."""

_ROUNDING = 1e-12  # sums of points are not exact


@dataclass(frozen=True)
class MSSPQuality:
    """
    Scores and standards of one performance year.

    Attributes
    ----------
    acos : DataFrame
        One row an ACO: ``aco_id qual_score met_qps met_alternative`` as a settlement reads them,
        and ``bonus``, the adjustment for underserved patients that the score holds.
    used : tuple of Used
        Values of the rules, with status and source.
    """

    acos: pd.DataFrame
    used: tuple[Used, ...]


def mssp_quality(
    measures: pd.DataFrame,
    acos: pd.DataFrame,
    *,
    performance_year: int,
    threshold: float | None = None,
    program: Program | None = None,
) -> MSSPQuality:
    """
    Score ACOs from their measures and tell who meets the quality standard.

    Up to 2020 a measure earns points by the percentile of its benchmark, the points of a domain are
    added up with those for improvement, and the score is the mean of the domains; the standard
    is complete reporting and points in every domain. From 2021 a measure has 0 to 10 points as in
    MIPS, the score is their sum over those available, with an adjustment for underserved patients
    from 2023 to 2025 where electronic measures are reported; the standard is a score at the threshold, enough outcomes where electronic
    measures are reported, or complete reporting in a first year.

    Parameters
    ----------
    measures : DataFrame
        One row an ACO and measure: ``aco_id measure percentile`` (0 to 100, of the benchmark;
        missing where the measure is not scored). To 2020 also ``domain``, and optionally ``weight``
        (1), ``reporting_only`` (False; full points) and ``improvement`` (points, 0). From 2021
        also ``points`` (0 to 10, missing where not scored) and ``outcome`` (bool), and optionally
        ``third`` (``top``, ``middle``, ``bottom`` among ACOs).
    acos : DataFrame
        One row an ACO: ``aco_id``, and optionally ``reported`` (True: complete), ``electronic``
        (False: all electronic or registry measures reported and complete), ``first_year`` (False: of
        a first agreement), ``underserved`` (0: share of patients with dual status or low-income subsidy,
        or in deprived areas, whichever is larger).
    performance_year : int
        The year.
    threshold : float, optional
        Score that meets the standard from 2021, a fraction; default that of the rules.
    program : Program, optional
        Rules other than those of ``mssp``.

    Returns
    -------
    MSSPQuality

    Raises
    ------
    DataError
        Listing missing columns, ACOs without measures, values out of bounds.
    DesignError
        If the year is not one of the program's, or its threshold is not held and not given, or one
        is given for a year that has none.

    Examples
    --------
    >>> rows = pd.DataFrame({"aco_id": "A", "measure": ["479", "236"], "percentile": [45.0, 60.0],
    ...                      "points": [5.0, 8.0], "outcome": True})
    >>> one = pd.DataFrame({"aco_id": ["A"]})
    >>> mssp_quality(rows, one, performance_year=2026).acos.to_dict("records")
    [{'aco_id': 'A', 'qual_score': 0.65, 'met_qps': False, 'met_alternative': True, 'bonus': 0.0}]
    """
    program = program or get("mssp")
    terms = program.terms(performance_year, program.open_in(performance_year)[:1])
    by_domain = terms.text("quality_rule")[0, 0] == "scaled"
    measures, acos = _checked(measures, acos, by_domain=by_domain)
    if by_domain and threshold is not None:
        raise DesignError(
            f"`threshold` has no meaning in {performance_year}: the standard was points in every "
            "domain. Leave it out."
        )
    if by_domain:
        scored = _by_domain(terms, measures, acos)
    else:
        scored = _by_points(terms, measures, acos, threshold)
    return MSSPQuality(scored, terms.used())


def _by_domain(terms: Terms, measures: pd.DataFrame, acos: pd.DataFrame) -> pd.DataFrame:
    most = terms.one("points_of_a_measure")
    earned = step(measures["percentile"].to_numpy(dtype=float), terms.table("quality_points"))
    earned = np.where(measures["reporting_only"], most, earned)
    weight = np.where(np.isnan(earned), 0.0, measures["weight"])
    table = pd.DataFrame(
        {
            "aco_id": measures["aco_id"], "domain": measures["domain"],
            "earned": np.nan_to_num(earned) * weight, "possible": most * weight,
            "improvement": measures["improvement"],
        }
    )  # fmt: skip
    domains = table.groupby(["aco_id", "domain"]).sum()
    domains = domains[domains["possible"] > 0]
    bonus = domains["improvement"].clip(upper=terms.one("improvement_points"))
    score = ((domains["earned"] + bonus) / domains["possible"]).clip(upper=1.0)
    held = score.groupby("aco_id").mean().reindex(acos["aco_id"])
    # an ACO below the minimum on every measure of a domain shares no savings
    attained = (domains["earned"] > 0).groupby("aco_id").all().reindex(acos["aco_id"])
    met = acos["reported"].to_numpy(dtype=bool) & attained.eq(True).to_numpy()
    return pd.DataFrame(
        {
            "aco_id": acos["aco_id"].to_numpy(), "qual_score": held.to_numpy(dtype=float),
            "met_qps": met, "met_alternative": False, "bonus": 0.0,
        }
    )  # fmt: skip


def _by_points(
    terms: Terms, measures: pd.DataFrame, acos: pd.DataFrame, threshold: float | None
) -> pd.DataFrame:
    most = terms.one("points_of_a_measure")
    ids = pd.Index(acos["aco_id"])
    scored = measures.dropna(subset="points")
    sums = scored.groupby("aco_id")["points"].agg(["sum", "count"]).reindex(ids)
    electronic = acos["electronic"].to_numpy(dtype=bool)
    reported = acos["reported"].to_numpy(dtype=bool)
    bonus = np.where(electronic & reported, _bonus(terms, scored, acos, ids), 0.0)
    score = np.minimum((sums["sum"] / (most * sums["count"])).to_numpy(dtype=float) + bonus, 1.0)
    outcome = measures["outcome"].to_numpy(dtype=bool)
    low = terms.one("outcome_percentile")
    one_outcome = _any_from(measures[outcome], low, ids)
    other = _others_from(measures, outcome, low=low, high=terms.one("standard_percentile"), ids=ids)
    bar = _threshold(terms, threshold)
    first = (
        acos["first_year"].to_numpy(dtype=bool)
        & terms.flag("first_year_complete", absent=False).item()
    )
    incentive = terms.flag("electronic_incentive", absent=False).item()
    at_bar = score >= bar - _ROUNDING
    met = reported & (at_bar | first | (incentive & electronic & one_outcome & other))
    scaled = terms.text("quality_rule")[0, 0] == "standard_or_scaled"
    return pd.DataFrame(
        {
            "aco_id": ids.to_numpy(), "qual_score": score, "met_qps": met,
            "met_alternative": scaled & reported & one_outcome & ~met, "bonus": bonus,
        }
    )  # fmt: skip


def _bonus(terms: Terms, scored: pd.DataFrame, acos: pd.DataFrame, ids: pd.Index) -> FloatArray:
    """Return the adjustment for underserved patients, a fraction of the score; 0 in other years."""
    tables = terms.tables("equity_points", may_be_absent=True)
    if not tables or "third" not in scored:
        return np.zeros(len(ids))
    points = {str(name): float(value) for name, value in tables[0][1]}
    scaler = scored["third"].map(points).groupby(scored["aco_id"]).sum().reindex(ids).fillna(0.0)
    share = acos["underserved"].to_numpy(dtype=float)
    share = np.where(share >= terms.one("equity_share_from"), share, 0.0)
    return np.asarray(np.minimum(scaler.to_numpy() * share, terms.one("equity_most")) / 100)


def _any_from(measures: pd.DataFrame, percentile: float, ids: pd.Index) -> BoolArray:
    found = measures.loc[measures["percentile"] >= percentile, "aco_id"]
    return np.asarray(ids.isin(found))


def _others_from(
    measures: pd.DataFrame, outcome: BoolArray, *, low: float, high: float, ids: pd.Index
) -> BoolArray:
    """Return who has another measure at `high` beside an outcome measure at `low`."""
    reached = measures["percentile"] >= high
    counts = measures.loc[reached].groupby("aco_id").size().reindex(ids).fillna(0).to_numpy()
    outcomes = measures.loc[outcome & (measures["percentile"] >= low)]
    several = outcomes.groupby("aco_id").size().reindex(ids).fillna(0).to_numpy() > 1
    process = ids.isin(measures.loc[reached & ~outcome, "aco_id"])
    # an outcome measure counts once: as the other one only beside a second outcome measure
    return np.asarray(process | ((counts > 0) & several))


def _threshold(terms: Terms, given: float | None) -> float:
    if given is not None:
        if not 0 <= given <= 1:
            raise DesignError(
                f"`threshold` is {given:g}, and scores are fractions between 0 and 1. Divide by 100."
            )
        return given
    held = terms.one("quality_threshold", absent=np.nan)
    if np.isnan(held):
        raise DesignError(
            f"the rules hold no score that meets the standard of {terms.performance_year}. Give "
            "`threshold`, a fraction, from the public notice of that year."
        )
    return held


def _checked(
    measures: pd.DataFrame, acos: pd.DataFrame, *, by_domain: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = Problems("the tables of measures and ACOs")
    needed = [
        "aco_id",
        "measure",
        "percentile",
        *(["domain"] if by_domain else ["points", "outcome"]),
    ]
    absent = missing_columns(measures, needed)
    if absent:
        found.add(f"columns of measures are missing: {listed(absent)}.")
    if "aco_id" not in acos:
        found.add("the table of ACOs has no `aco_id`.")
    found.raise_if_any()
    measures, acos = _filled(measures, OF_MEASURE), _filled(acos, OF_ACO)
    if measures.duplicated(["aco_id", "measure"]).any() or acos["aco_id"].duplicated().any():
        found.add("an ACO is twice in the table of ACOs, or has a measure twice. Keep one row.")
    without = sorted(set(acos["aco_id"]) - set(measures["aco_id"]))
    if without:
        found.add(f"{len(without)} ACOs have no measures: {listed(without)}. Add or drop them.")
    unknown = sorted(set(measures["aco_id"]) - set(acos["aco_id"]))
    if unknown:
        found.add(
            f"measures name {len(unknown)} ACOs that the table of ACOs lacks: {listed(unknown)}. Add "
            "them, or drop their measures."
        )
    bounds = [("percentile", 100.0, measures), ("weight", np.inf, measures),
              ("improvement", np.inf, measures), ("underserved", 1.0, acos)]  # fmt: skip
    for name, high, table in [*bounds, *([] if by_domain else [("points", 10.0, measures)])]:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)
        wrong = int(
            ((values < 0) | (values > high)).sum() + (np.isnan(values) & table[name].notna()).sum()
        )
        if wrong:
            found.add(f"{wrong} values of `{name}` are not numbers between 0 and {high:g}.")
        table[name] = values
    flags = [(measures, "reporting_only"), *((acos, n) for n in OF_ACO if n != "underserved")]
    if not by_domain:
        flags.append((measures, "outcome"))
    for table, name in flags:
        if not table[name].isin([True, False]).all():
            found.add(f"`{name}` holds other values than true and false, or none. Fill it in.")
        table[name] = table[name].astype(bool)
    if by_domain and measures["domain"].isna().any():
        found.add(f"{int(measures['domain'].isna().sum())} rows of measures have no `domain`.")
    if "third" in measures and not measures["third"].dropna().isin(THIRDS).all():
        found.add(f"`third` holds another text than {listed(THIRDS)}.")
    found.raise_if_any()
    return measures, acos


def _filled(table: pd.DataFrame, absent: dict[str, float | bool]) -> pd.DataFrame:
    table = table.copy()
    for name, value in absent.items():
        held = table[name] if name in table else pd.Series(value, index=table.index)
        # an unknown flag is refused later: it can decide whether anything is paid
        table[name] = (
            held if isinstance(value, bool) else held.astype(object).where(held.notna(), value)
        )
    return table
