"""Benchmarks of CJR, TEAM and BPCI Advanced from episodes: one row an episode in, a hospital out.

Episodes come after exclusions and cancellations, with standardised spending. Means and percentiles
of a region are those of the episodes given, so they must be all of the region's. The tables that
are returned are what the programs settle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed, missing_columns, text_rows
from vbceval.programs.program import Program
from vbceval.programs.terms import Terms


def cap_spending(
    spending: pd.Series,
    groups: Sequence[pd.Series],
    *,
    upper: float | None = None,
    lower: float | None = None,
    standard_deviations: float | None = None,
) -> pd.Series:
    """
    Return spending of episodes kept within limits of their own group.

    Parameters
    ----------
    spending : Series
        Dollars, one value an episode.
    groups : sequence of Series
        What makes a group, such as region and price cell.
    upper, lower : float, optional
        Percentiles of the group, as fractions.
    standard_deviations : float, optional
        Upper limit at the mean of the group and so many standard deviations; in place of `upper`.

    Examples
    --------
    >>> spending = pd.Series([1.0, 2.0, 3.0, 10.0])
    >>> cap_spending(spending, [pd.Series(list("aaaa"))], upper=0.5).tolist()
    [1.0, 2.0, 2.5, 2.5]
    """
    grouped = spending.groupby(list(groups))
    kept = spending.astype(float)
    if standard_deviations is not None:
        # a group of one episode has no standard deviation, and nothing is cut
        limit = grouped.transform("mean") + standard_deviations * grouped.transform("std").fillna(0)
        kept = kept.clip(upper=limit)
    if upper is not None:
        kept = kept.clip(upper=grouped.transform("quantile", upper))
    if lower is not None:
        kept = kept.clip(lower=grouped.transform("quantile", lower))
    return kept


def cjr_benchmarks(
    program: Program, baseline: pd.DataFrame, performance: pd.DataFrame, *, performance_year: int
) -> pd.DataFrame:
    """
    Return the table that CJR settles, without quality scores, from episodes.

    Parameters
    ----------
    program : Program
        ``get("cjr")``, or the program with other values.
    baseline, performance : DataFrame
        One row an episode: ``hospital region cell spending``; `cell` is the price cell (DRG and
        fracture). From 2022 `performance` may have ``risk_factor``, which multiplies its price.
    performance_year : int
        The year.

    Returns
    -------
    DataFrame
        One row a hospital: ``hospital regional_benchmark hospital_benchmark actual``, dollars
        added up over its episodes.

    Raises
    ------
    DataError
        Listing everything wrong with the tables, such as cells of a region without baseline
        episodes, or risk factors in a year whose prices do not follow them.

    References
    ----------
    .. [1] 42 CFR 510.300 and 510.301.
    """
    _check(baseline, performance, ["hospital", "region", "cell"], factors=["risk_factor"])
    terms = program.terms(performance_year, ["STANDARD"])
    follows = bool(terms.flag("market_trend")[0, 0])
    if "risk_factor" in performance and not follows:
        found = Problems("the performance episodes")
        found.add(
            f"they have a `risk_factor`, and prices of {performance_year} are not adjusted for "
            "risk. Drop the column."
        )
        found.raise_if_any()
    old = baseline.assign(capped=_cjr_capped(terms, baseline))
    new = performance.assign(capped=_cjr_capped(terms, performance))
    regional = old.groupby(["region", "cell"])["capped"].mean().rename("regional")
    if follows:
        regional = new.groupby(["region", "cell"])["capped"].mean().rename("regional")
    own = old.groupby(["hospital", "cell"])["capped"].mean().rename("own")
    enough = baseline.groupby("hospital")["spending"].size() >= terms.number("least_episodes")[0, 0]
    priced = new.merge(regional.reset_index(), on=["region", "cell"], how="left")
    priced = priced.merge(own.reset_index(), on=["hospital", "cell"], how="left")
    alone = priced["own"].notna() & priced["hospital"].map(enough).fillna(False).astype(bool)
    priced["own"] = priced["own"].where(alone, priced["regional"])
    if "risk_factor" in priced:
        priced["regional"] = priced["regional"] * priced["risk_factor"]
    return _added_up(
        priced, "hospital", regional_benchmark="regional", hospital_benchmark="own", actual="capped"
    )


def _cjr_capped(terms: Terms, episodes: pd.DataFrame) -> pd.Series:
    groups = [episodes["region"], episodes["cell"]]
    deviations = terms.number("cap_standard_deviations", absent=np.nan)[0, 0]
    if not np.isnan(deviations):
        return cap_spending(episodes["spending"], groups, standard_deviations=float(deviations))
    return cap_spending(
        episodes["spending"], groups, upper=float(terms.number("cap_percentile")[0, 0])
    )


def team_benchmarks(
    program: Program, baseline: pd.DataFrame, performance: pd.DataFrame, *, performance_year: int
) -> pd.DataFrame:
    """
    Return the table that TEAM settles, without quality scores, from episodes.

    Parameters
    ----------
    program : Program
        ``get("team")``, or the program with other values.
    baseline : DataFrame
        One row an episode: ``region cell year spending``, three years, spending already brought
        to the last of them; `cell` is the MS-DRG or procedure type.
    performance : DataFrame
        One row an episode: ``hospital region cell category spending``; `category` is ``lejr``,
        ``shfft``, ``spinal_fusion``, ``cabg`` or ``major_bowel``. It may have ``risk_factor``,
        the product of the risk factors of the episode.
    performance_year : int
        The year.

    Returns
    -------
    DataFrame
        One row a hospital: ``hospital benchmark_... actual risk_factor``; the factor is weighted
        by price after the discount, so that the target is the sum of those of the episodes.

    Raises
    ------
    DataError
        Listing everything wrong with the tables.

    References
    ----------
    .. [1] 42 CFR 512.540 and 512.545.
    """
    categories = program.parameters["discount"].columns
    _check(
        baseline,
        performance,
        ["region", "cell"],
        old=["year"],
        new=["hospital", "category"],
        factors=["risk_factor"],
    )
    found = Problems("the performance episodes")
    unknown = sorted(set(performance["category"]) - set(categories))
    if unknown:
        found.add(f"{listed(unknown)} are no categories. Use {listed(categories)}.")
    terms = program.terms(performance_year, ["TRACK_3"])
    weights = np.asarray(terms.table("baseline_weights")[0], dtype=float)
    years = sorted(baseline["year"].unique())
    if len(years) != len(weights):
        found.add(
            f"the baseline has {len(years)} years, and the price weighs {len(weights)}. Give these."
        )
    found.raise_if_any()
    upper = float(terms.number("cap_percentile")[0, 0])
    groups = [baseline["region"], baseline["cell"], baseline["year"]]
    old = baseline.assign(capped=cap_spending(baseline["spending"], groups, upper=upper))
    means = old.groupby(["region", "cell", "year"])["capped"].mean().reset_index()
    # a cell without episodes in a year is priced from the other years
    means["weight"] = means["year"].map(dict(zip(years, weights, strict=True)))
    means["part"] = means["weight"] * means["capped"]
    added = means.groupby(["region", "cell"])[["part", "weight"]].sum()
    price = added["part"] / added["weight"]
    groups = [performance["region"], performance["cell"]]
    new = performance.assign(capped=cap_spending(performance["spending"], groups, upper=upper))
    priced = new.merge(price.rename("price").reset_index(), on=["region", "cell"], how="left")
    risk = priced["risk_factor"] if "risk_factor" in priced else pd.Series(1.0, priced.index)
    parts = {
        f"benchmark_{name}": priced["price"].where(priced["category"] == name, 0.0)
        for name in categories
    }
    discounts = dict(zip(categories, terms.table("discount")[0], strict=True))
    discounted = priced["price"] * (1 - priced["category"].map(discounts).astype(float))
    priced = priced.assign(discounted=discounted, adjusted=discounted * risk, **parts)
    out = _added_up(
        priced,
        "hospital",
        **{name: name for name in parts},
        actual="capped",
        adjusted="adjusted",
        discounted="discounted",
    )
    out["risk_factor"] = out.pop("adjusted") / out.pop("discounted")
    return out


def bpci_advanced_benchmarks(
    program: Program, performance: pd.DataFrame, *, performance_year: int
) -> pd.DataFrame:
    """
    Return the table that BPCI Advanced settles, without quality scores, from episodes.

    Parameters
    ----------
    program : Program
        ``get("bpci_advanced")``, or the program with other values.
    performance : DataFrame
        One row an episode: ``episode_initiator category kind spending standard_baseline case_mix
        peer_trend``; `kind` is ``medical`` or ``surgical``. Standardised baseline spending times
        case mix times peer trend is the benchmark price; groups may have ``offset``, their
        efficiency relative to the hospital, 1 where missing.
    performance_year : int
        The year.

    Returns
    -------
    DataFrame
        One row an initiator: ``episode_initiator benchmark_medical benchmark_surgical actual``.

    Raises
    ------
    DataError
        Listing everything wrong with the table.
    """
    factors = ["standard_baseline", "case_mix", "peer_trend"]
    found = Problems("the performance episodes")
    keys = ["episode_initiator", "category", "kind"]
    _report(performance, keys, ["spending"], found, factors=factors, may_have=["offset"])
    if "kind" in performance:
        unknown = sorted(set(performance["kind"].dropna()) - {"medical", "surgical"})
        if unknown:
            found.add(f"{listed(unknown)} are no kinds. Use `medical` or `surgical`.")
    found.raise_if_any()
    terms = program.terms(performance_year, list(program.variants))
    end = float(terms.number("winsorised")[0, 0])
    capped = cap_spending(
        performance["spending"], [performance["category"]], upper=1 - end, lower=end
    )
    price = performance[factors].astype(float).prod(axis=1)
    if "offset" in performance:
        price = price * performance["offset"].fillna(1.0)
    medical = performance["kind"] == "medical"
    priced = performance.assign(
        capped=capped, medical=price.where(medical, 0.0), surgical=price.where(~medical, 0.0)
    )
    return _added_up(
        priced,
        "episode_initiator",
        benchmark_medical="medical",
        benchmark_surgical="surgical",
        actual="capped",
    )


def _added_up(priced: pd.DataFrame, by: str, **columns: str) -> pd.DataFrame:
    added = priced.groupby(by, sort=True)[sorted(set(columns.values()))].sum()
    return pd.DataFrame({new: added[old] for new, old in columns.items()}).reset_index()


def _check(
    baseline: pd.DataFrame,
    performance: pd.DataFrame,
    keys: Sequence[str],
    *,
    old: Sequence[str] = (),
    new: Sequence[str] = (),
    factors: Sequence[str] = (),
) -> None:
    found = Problems("the table of episodes")
    _report(baseline, [*keys, *old], ["spending"], found, what="of the baseline ")
    held_factors = [name for name in factors if name in performance]
    _report(
        performance, [*keys, *new], ["spending"], found, factors=held_factors,
        what="of the performance ",
    )  # fmt: skip
    found.raise_if_any()
    cells = pd.MultiIndex.from_frame(performance[["region", "cell"]].drop_duplicates())
    held = pd.MultiIndex.from_frame(baseline[["region", "cell"]].drop_duplicates())
    without = cells.difference(held)
    if len(without):
        found.add(
            f"{len(without)} price cells of regions ({listed(without.tolist())}) have performance "
            "episodes and no baseline, so they have no price. Leave them out, or price them by hand."
        )
    found.raise_if_any()


def _report(
    frame: pd.DataFrame,
    keys: Sequence[str],
    numbers: Sequence[str],
    found: Problems,
    *,
    factors: Sequence[str] = (),
    may_have: Sequence[str] = (),
    what: str = "",
) -> None:
    absent = missing_columns(frame, [*keys, *numbers, *factors])
    if absent:
        found.add(f"{listed(absent)} {what}are missing. Add them.")
        return
    if len(frame) == 0:
        found.add(f"there are no episodes {what}at all. Give some.")
    blank = [name for name in [*keys, *numbers, *factors] if frame[name].isna().any()]
    if blank:
        found.add(f"{listed(blank)} {what}hold missing values. Fill them in, or leave rows out.")
    wrong = [name for name in numbers if _is_wrong(frame[name], above_zero=False)]
    if wrong:
        found.add(f"{listed(wrong)} {what}hold text, negative or infinite values. Correct them.")
    given = [*factors, *(name for name in may_have if name in frame)]
    wrong = [name for name in given if _is_wrong(frame[name], above_zero=True)]
    if wrong:
        found.add(
            f"{listed(wrong)} {what}hold text, infinite values, or values that are not above 0, so "
            "no price follows. Correct them."
        )


def _is_wrong(column: pd.Series, *, above_zero: bool) -> bool:
    values = pd.to_numeric(column, errors="coerce")
    low = (values <= 0) if above_zero else (values < 0)
    return bool(len(text_rows(column)) or low.any() or np.isinf(values).any())
