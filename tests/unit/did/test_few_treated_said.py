"""Results say where few clusters are treated and their errors do not allow for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import Randomization

DID = vbc.did
Y = vbc.Design(outcome="y")
FEW = "3 clusters treated (`aco`)"


def rows_of(entry: list[float], *, people: int = 1) -> pd.DataFrame:
    """A cluster for each date of entry, with some people, over five years."""
    frame = pd.DataFrame(
        [
            (f"A{i:02d}", j, t, g)
            for i, g in enumerate(entry)
            for j in range(people)
            for t in range(5)
        ],
        columns=["aco", "person", "year", "entry"],
    )
    frame["person"] = frame["aco"] + "-" + frame["person"].astype(str)
    return frame.assign(y=np.random.default_rng(0).normal(size=len(frame)))


def panel(entry: list[float], *, people: int = 1, **options: Any) -> vbc.Panel:
    frame = rows_of(entry, people=people)
    names = {"unit": "aco"} if people == 1 else {"unit": "person", "cluster": "aco"}
    given: dict[str, Any] = {**names, **options}
    return vbc.Panel.from_frame(frame, period="year", cohort="entry", **given)


def said(est: vbc.Estimates) -> list[str]:
    return [w for w in est.meta["warnings"] if "placebo_in_space" in w]


NONE = [np.nan] * 20


@pytest.mark.parametrize("estimator", [DID.TWFE(), DID.GroupTime(), DID.Imputation()])
@pytest.mark.parametrize("people", [1, 3])
def test_few_in_all_are_counted_once(estimator, people) -> None:
    data = panel([2.0, 2.0, 3.0, *NONE], people=people)
    found = said(estimator.fit(data, Y, vcov="CR0"))
    assert len(found) == 1
    assert found[0].startswith(FEW)
    for option in ("'CR2'", "'ferman-pinto'", "'randomization'"):
        assert option in found[0]


@pytest.mark.parametrize(
    ("estimator", "vcov", "times"),
    [
        (DID.Switching(effects=1), "recentred", 1),
        (DID.Efficient(), "adjusted", 1),
        (DID.Dose(dose="dose", knots=0, degree=1), "CR1", 1),
        (DID.SyntheticDiD(replications=9), "bootstrap", 1),
        (DID.SyntheticDiD(replications=9), "placebo", 0),
        (DID.SyntheticControl(replications=9, augmented=False), "bootstrap", 1),
        (DID.Stacked(), "CR1", 1),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_every_estimator_says_it_once(estimator, vcov, times) -> None:
    rows = rows_of([2.0, 2.0, 3.0, 3.0, *NONE])
    on = rows["year"] >= rows["entry"]
    rows["dose"] = on * (1.0 + rows["aco"].rank(method="dense"))
    data = vbc.Panel.from_frame(rows, unit="aco", period="year", cohort="entry")
    found = said(estimator.fit(data, Y, vcov=vcov))
    assert len(found) == times
    assert all(text.startswith("4 clusters treated (`aco`)") for text in found)


def test_small_cohorts_are_one_sentence_and_stay_when_stacked() -> None:
    data = panel([*[2.0] * 2, *[3.0] * 4, *NONE])
    fitted = DID.GroupTime().fit(data, Y)
    assert len(said(fitted)) == 1
    first = "cohort 2 has 2 clusters treated, cohort 3 has 4 clusters treated (`aco`)"
    assert said(fitted)[0].startswith(first)
    few = DID.GroupTime().fit(panel([2.0, 2.0, *NONE]), Y)
    other = DID.GroupTime().fit(panel([2.0] * 8 + NONE), Y)
    assert said(vbc.stack([other, few])) == said(few)
    assert said(vbc.stack([few, few])) == said(few)


def test_a_cohort_is_named_where_others_are_large() -> None:
    data = panel([*[2.0] * 8, *[3.0] * 2, *[4.0] * 6, *NONE])
    found = said(DID.GroupTime().fit(data, Y))
    assert len(found) == 1
    assert found[0].startswith("cohort 3 has 2 clusters treated")
    # an effect of all cohorts together rests on 16
    assert said(DID.TWFE().fit(data, Y)) == []
    assert said(DID.ETWFE().fit(data, Y)) == found
    aggregate = DID.GroupTime().fit(data, Y).aggregate("simple")
    assert said(aggregate) == found


def test_nothing_is_said_where_errors_allow_for_it() -> None:
    data = panel([2.0, 2.0, 3.0, *NONE])
    for vcov in ("CR2", "wild", "ferman-pinto", "conley-taber", "iid"):
        assert said(DID.TWFE().fit(data, Y, vcov=vcov)) == []
    for vcov in ("CR1", "HC1", "bootstrap", Randomization(draws=19)):
        assert len(said(DID.TWFE().fit(data, Y, vcov=vcov))) == 1
    assert said(DID.TWFE().fit(panel([2.0] * 6 + NONE), Y)) == []


def test_clusters_that_cannot_be_treated_in_the_data_do_not_count() -> None:
    data = panel([*[2.0] * 3, *[-1.0] * 6, *[9.0] * 6, *NONE])
    assert said(DID.TWFE().fit(data, Y))[0].startswith(FEW)


def test_moments_say_the_same_as_rows() -> None:
    data = panel([2.0, 2.0, 3.0, *NONE], people=3)
    moments = vbc.Moments.from_panel(data, outcomes=["y"], by="cluster")
    assert said(DID.TWFE().fit(moments, Y)) == said(DID.TWFE().fit(data, Y))


def test_people_are_not_counted() -> None:
    frame = rows_of([2.0] * 7 + NONE)
    data = vbc.Panel.from_frame(frame, unit="aco", period="year", cohort="entry", people=True)
    assert said(DID.TWFE().fit(data, Y))[0].startswith("fewer than 11 clusters treated")
