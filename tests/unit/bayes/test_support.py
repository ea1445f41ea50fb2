"""Cells that cannot answer a hierarchical model are refused, with names and counts."""

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.bayes import HierarchicalDiD
from vbceval.core.errors import DesignError

DESIGN = vbc.Design(outcome="spend")
MODEL = HierarchicalDiD(person_sd=15_000.0)
COUNTS = HierarchicalDiD(family="binomial")


def cells(n: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = [
        (f"A{i}", t, s, 2018.0 if i % 2 else np.nan, 10_000 + rng.normal(0, 200), 5_000.0)
        for i in range(n) for s in ("dual", "other") for t in range(2015, 2019)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["aco", "year", "type", "entry", "spend", "people"])


def panel(frame: pd.DataFrame, **options) -> vbc.Panel:
    given = {"unit": "aco", "period": "year", "cohort": "entry", "strata": ["type"]}
    return vbc.Panel.from_frame(frame, **{**given, "weight": "people", **options})


def counted(frame: pd.DataFrame) -> vbc.Panel:
    return panel(frame, weight=None, exposure="people")


def test_a_stratum_without_treated_organizations_is_named() -> None:
    frame = cells()
    frame = frame[(frame["type"] == "other") | frame["entry"].isna()]
    with pytest.raises(DesignError, match=r"no treated .*`type=dual \(4 organizations\)`"):
        MODEL.fit(panel(frame), DESIGN)
    with pytest.raises(DesignError, match="no treated organization"):
        COUNTS.fit(counted(frame.assign(spend=40)), DESIGN)


def test_a_stratum_without_untreated_organizations_is_named() -> None:
    frame = cells()
    frame = frame[(frame["type"] == "other") | frame["entry"].notna()]
    with pytest.raises(DesignError, match=r"treated organizations alone: `type=dual \(4"):
        MODEL.fit(panel(frame), DESIGN)


def test_nobody_treated_and_everybody_treated_are_said_apart() -> None:
    frame = cells()
    with pytest.raises(DesignError, match="none of 8 organizations is treated"):
        MODEL.fit(panel(frame.assign(entry=np.nan)), DESIGN)
    with pytest.raises(DesignError, match=r"no untreated one .*period 2018 of type=dual"):
        MODEL.fit(panel(frame[frame["entry"].notna()]), DESIGN)
    with pytest.raises(DesignError, match="1 organization cannot"):
        MODEL.fit(panel(frame[frame["aco"] == "A1"]), DESIGN)


def test_an_outcome_that_never_changes_is_refused() -> None:
    frame = cells()
    with pytest.raises(DesignError, match="carried forward"):
        MODEL.fit(panel(frame.assign(spend=9_000.0)), DESIGN)
    # in one stratum alone; means over periods, equal up to rounding
    still = frame["type"] == "dual"
    means = frame.groupby(["aco", "type"])["spend"].transform("mean") * (1 + 1e-15 * frame["year"])
    with pytest.raises(DesignError, match="each unit in `type=dual`"):
        MODEL.fit(panel(frame.assign(spend=frame["spend"].where(~still, means))), DESIGN)


def test_equal_rates_are_chance_where_events_are_few_and_not_where_they_are_many() -> None:
    frame = cells().assign(people=500)
    with pytest.raises(DesignError, match="same in every period"):
        COUNTS.fit(counted(frame.assign(spend=40)), DESIGN)
    rare = HierarchicalDiD(family="binomial", nodes=64, draws=200, alternatives=())
    few = rare.fit(counted(frame.assign(spend=2)), DESIGN, limits=vbc.bayes.Limits(ess=0.0))
    assert few.meta["n_cells"] == len(frame)


def test_numbers_of_strata_that_data_do_not_have_are_refused() -> None:
    sd = {"dual": 15_000.0, "type=other": 15_000.0}
    with pytest.raises(DesignError, match=r"`person_sd` names `esrd`.*`type=dual`, `type=other`"):
        HierarchicalDiD(person_sd={**sd, "esrd": 1.0}).fit(panel(cells()), DESIGN)
    with pytest.raises(DesignError, match=r"`baseline` names `esrd`"):
        MODEL.fit(panel(cells()), DESIGN, baseline={"dual": 1e4, "other": 1e4, "esrd": 1e4})
    with pytest.raises(DesignError, match="none: name `strata`"):
        HierarchicalDiD(person_sd=sd).fit(panel(cells().query("type == 'dual'"), strata=[]), DESIGN)
