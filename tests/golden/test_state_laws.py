"""
State laws as Stata and R print them: castle doctrine laws, and the expansion of Medicaid.

Castle doctrine: reghdfe, csdid and eventstudyinteract on log homicide, as printed in
Mixtape-Sessions/Causal-Inference-2, Lab/Cheng_Hoekstra/Solutions/Solutions-Stata.md at 78a3d131a0.
Medicaid: R bacondecomp and did, Stata csdid, in Mixtape-Sessions/Advanced-DID,
Exercises/Exercise-1/Solutions, medicaid-analysis-solutions-R.md at 102d2d44d9 and -stata.md at
22549a1ad7. Their data hold more digits of the Medicaid outcome (floats) than the table here (seven),
so that a few last digits differ.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

HOMICIDE = vbc.Design(outcome="l_homicide")
# event times -9 to 5 without the reference, as the logs list them
LEADS_AND_LAGS = [*range(-9, -1), *range(6)]
REGHDFE = [
    (-0.2484057, 0.0570123), (-0.0766955, 0.158832), (-0.2262526, 0.1263759),
    (0.0383738, 0.063393), (0.0240412, 0.0598185), (-0.0015389, 0.059078), (0.0541307, 0.0452908),
    (0.0585765, 0.050259), (0.0918614, 0.0431759), (0.105671, 0.0519573), (0.1146227, 0.0658122),
    (0.1095202, 0.0663352), (0.0835843, 0.0589927), (0.1272444, 0.0500376),
]  # fmt: skip
EVENTSTUDYINTERACT = [
    (-0.4039674, 0.0611656), (-0.1238113, 0.1212362), (-0.233131, 0.1311019),
    (0.0453398, 0.0737414), (0.0316259, 0.0651257), (-0.0076853, 0.0546014),
    (0.0568136, 0.0494877), (0.057916, 0.046046), (0.0972154, 0.042176), (0.1115491, 0.0520222),
    (0.1115662, 0.0630838), (0.1368254, 0.0612578), (0.0925866, 0.0574662), (0.1119418, 0.0544307),
]  # fmt: skip
CSDID = [
    (0.5276058, 0.0414008), (-0.2750778, 0.2076307), (0.2581694, 0.0908255), (-0.0149105, 0.050696),
    (-0.0393112, 0.0541868), (0.0644989, 0.0444428), (0.0011024, 0.0453654), (-0.057916, 0.0437708),
    (0.0972154, 0.0396431), (0.1115491, 0.0493212), (0.1115662, 0.0593121), (0.1368254, 0.0572429),
    (0.0925866, 0.0537054), (0.1119418, 0.050854),
]  # fmt: skip


@pytest.fixture(scope="module")
def castle(shared_dir: Path) -> vbc.Panel:
    rows = pd.read_csv(shared_dir / "golden/data/castle_bacon.csv")
    return vbc.Panel.from_frame(rows, unit="sid", period="year", cohort="effyear")


@pytest.fixture(scope="module")
def expansion(shared_dir: Path) -> pd.DataFrame:
    return pd.read_csv(shared_dir / "golden/data/ehec_data.csv")


def medicaid(rows: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(rows, unit="stfips", period="year", cohort="yexp2")


def by_event_time(est: vbc.Estimates, event_times: list[int]) -> np.ndarray:
    table = est.tidy()
    table = table[table["estimand"] == "att_event_time"].set_index("event_time")
    return table.loc[event_times, ["estimate", "std_error"]].to_numpy()


def test_castle_event_study(castle: vbc.Panel) -> None:
    found = by_event_time(vbc.did.EventStudy().fit(castle, HOMICIDE), LEADS_AND_LAGS)
    np.testing.assert_allclose(found, REGHDFE, atol=6e-8)


def test_castle_interaction_weighted(castle: vbc.Panel) -> None:
    """Stata counts the sampling of cohort shares; R fixest does not."""
    est = vbc.did.SunAbraham(weights_random=True).fit(castle, HOMICIDE).aggregate("event_time")
    np.testing.assert_allclose(by_event_time(est, LEADS_AND_LAGS), EVENTSTUDYINTERACT, atol=6e-8)


def test_castle_group_time(castle: vbc.Panel) -> None:
    design = vbc.Design(outcome="l_homicide", comparison="never_treated")
    est = vbc.did.GroupTime().fit(castle, design, ssc=SSC.none()).aggregate("event_time")
    np.testing.assert_allclose(by_event_time(est, list(range(-8, 6))), CSDID, atol=6e-8)


def test_medicaid_decomposition(expansion: pd.DataFrame) -> None:
    found = vbc.sensitivity.bacon(medicaid(expansion), vbc.Design(outcome="dins"))
    table = found.summary().set_index("comparison")
    printed = {
        "earlier_vs_later": (0.14911, 0.06983), "later_vs_earlier": (0.05827, 0.04486),
        "treated_vs_never": (0.79262, 0.07228),
    }  # fmt: skip
    for name, numbers in printed.items():
        assert table.loc[name, ["weight", "estimate"]].tolist() == pytest.approx(numbers, abs=6e-6)
    single = found.comparisons.set_index(["cohort", "comparison_cohort"])
    for pair, estimate, weight in (
        ((2014, 2019), 0.088170864, 0.0647439670), ((2019, 2014), 0.025483405, 0.0107906612),
        ((2015, 2014), 0.030656579, 0.0161859918), ((2016, 2017), 0.014518637, 0.0007847754),
    ):  # fmt: skip
        assert single.loc[pair, "estimate"] == pytest.approx(estimate, abs=2e-7)
        assert single.loc[pair, "weight"] == pytest.approx(weight, abs=6e-10)


def test_medicaid_group_time(expansion: pd.DataFrame) -> None:
    """Stata's leads are compared with the never treated alone, so only effects are alike."""
    est = vbc.did.GroupTime().fit(medicaid(expansion), vbc.Design(outcome="dins"), ssc=SSC.none())
    table = est.tidy().set_index(["cohort", "period"])
    for cell, numbers in {
        (2014, 2009): (-0.0065141, 0.0048645), (2014, 2014): (0.0467024, 0.0083971),
        (2014, 2019): (0.0803199, 0.0102929), (2015, 2015): (0.0490817, 0.0204309),
        (2016, 2018): (0.0645061, 0.0123882), (2017, 2019): (0.0650109, 0.0037558),
        (2019, 2019): (0.0365442, 0.0051795),
    }.items():  # fmt: skip
        row = table.loc[cell, ["estimate", "std_error"]].tolist()
        assert row == pytest.approx(numbers, abs=2e-7), cell
    # R's leads, to four digits
    for cell, printed in {(2015, 2009): 0.0071, (2016, 2010): 0.0511, (2019, 2012): 0.0024}.items():
        assert table.loc[cell, "estimate"] == pytest.approx(printed, abs=6e-5)


def test_medicaid_without_never_treated(expansion: pd.DataFrame) -> None:
    """R `did` ends the data where the last cohort enters; here the error says to do so."""
    rows = expansion[expansion["yexp2"].notna()]
    design = vbc.Design(outcome="dins")
    with pytest.raises(vbc.DesignError, match="leave out periods from 2019 on"):
        vbc.did.GroupTime().fit(medicaid(rows), design)
    est = vbc.did.GroupTime().fit(medicaid(rows[rows["year"] < 2019]), design)
    assert est.aggregate("simple").estimate.item() == pytest.approx(0.0728, abs=6e-5)
