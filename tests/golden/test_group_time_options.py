"""
GroupTime against R `did`, other options on the reference data.

Numbers that the Python port csdid keeps as output of R `did` (2.5.1), analytic errors: repository
d2cml-ai/csdid, folder csdid/test_csdid/r_ref, files ref_fixweights.csv and ref_attgt.csv (commit
86963b0d6a), ref_aggte.csv (1c28556feb), sim/ref_gaps.csv and sim/ref_sim.csv (cb635be2e7),
sim/ref_factor.csv (5f1f200753). Calls are those of the R scripts beside these files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.inference import SSC

Number = tuple[float, float]
COUNTIES = {"unit": "countyreal", "period": "year", "cohort": "first.treat"}
CELLS = [(g, t) for g in (2004, 2006, 2007) for t in (2004, 2005, 2006, 2007)]

# never treated, regression, weights that change over time
FIX_WEIGHTS: dict[str, list[Number]] = {
    "base_period": [
        (-0.0115747703826037, 0.0239133611182754), (-0.0674838488492638, 0.0317164620150155),
        (-0.136538653432106, 0.0367791473737739), (-0.0976118296743989, 0.0347992440725042),
        (0.00781371364217764, 0.0232976004174132), (-0.0023644912783432, 0.0192838604027504),
        (-0.00547766847834194, 0.0176208545592438), (-0.0407519853221189, 0.0201220485250851),
        (0.0307105594994738, 0.0149698076574526), (-0.0017631002552818, 0.0165042253234021),
        (-0.0318926088910878, 0.0175942635016454), (-0.0266498127840453, 0.0165734180676477),
    ],
    "first_period": [
        (-0.0115747703826037, 0.0239133611182754), (-0.0674838488492638, 0.0317164620150155),
        (-0.136538653432106, 0.0367791473737739), (-0.0976118296743989, 0.0347992440725042),
        (0.00803588922083881, 0.0232993703754109), (-0.0022956013821512, 0.0192417766620651),
        (-0.00563222482693037, 0.0176051585828966), (-0.0406734151654547, 0.020110315340103),
        (0.0307639185121515, 0.0149650519873348), (-0.00151129382781312, 0.0165440669394271),
        (-0.0321031497067988, 0.0175315437810488), (-0.0268058470155199, 0.0165625348500058),
    ],
    "varying": [
        (-0.0114326488657053, 0.0237436445068251), (-0.0678116434686418, 0.0320579033476055),
        (-0.136537928518643, 0.0371535699316003), (-0.0982470159725013, 0.0367061094200289),
        (0.00741298753857844, 0.0232770781084446), (-0.00289589809565172, 0.0193163362129975),
        (-0.00590233093363768, 0.017662306881069), (-0.041720389971303, 0.0202835704852866),
        (0.0293112056417462, 0.014918321981218), (-0.00292842065505905, 0.0164902777598475),
        (-0.033029765835745, 0.0175790998224609), (-0.0275492452943364, 0.0165102331165502),
    ],
}  # fmt: skip

# never treated, regression, no covariates
UNIVERSAL: dict[tuple[int, int], Number] = {
    (2004, 2003): (0.0, np.nan), (2004, 2004): (-0.0105032462209624, 0.0232510363681663),
    (2004, 2007): (-0.100811363085404, 0.0343592258346732),
    (2006, 2003): (-0.0037692936737142, 0.0313420276018159),
    (2006, 2004): (0.00275081875051881, 0.0195585610358817), (2006, 2005): (0.0, np.nan),
    (2006, 2006): (-0.00459460695286304, 0.0177551966592763),
    (2007, 2003): (0.00330635669251235, 0.0244518729439318),
    (2007, 2004): (0.0338130122758051, 0.0211291749243127),
    (2007, 2005): (0.0310871193896889, 0.0178775113133435), (2007, 2006): (0.0, np.nan),
    (2007, 2007): (-0.0260544107191966, 0.0166554353492522),
}  # fmt: skip
ANTICIPATION: dict[tuple[int, int], Number] = {
    (2006, 2004): (0.006520112424233, 0.0233268051418047),
    (2006, 2005): (-0.00275081875051881, 0.0195585610358817),
    (2006, 2006): (-0.00734542570338184, 0.022942862267559),
    (2006, 2007): (-0.0439752902967363, 0.0265787670169677),
    (2007, 2004): (0.0305066555832928, 0.01503356028013),
    (2007, 2005): (-0.00272589288611625, 0.0163958328955344),
    (2007, 2006): (-0.0310871193896889, 0.0178775113133435),
    (2007, 2007): (-0.0571415301088855, 0.020210163218686),
}
# a covariate with categories, never treated, regression
FACTOR: dict[tuple[int, int], Number] = {
    (2, 2): (0.926394973393906, 0.0952157138048165),
    (2, 3): (1.85947774860366, 0.0962551618850342),
    (2, 4): (2.99192965378694, 0.0908738967951998),
    (3, 2): (-0.157836784396906, 0.095232362768611),
    (3, 3): (0.91092600314982, 0.088641485694647),
    (3, 4): (2.16523120779375, 0.0923733536532631),
    (4, 2): (-0.0619121281144124, 0.0944729227350413),
    (4, 3): (0.00562441069232397, 0.0878479848289536),
    (4, 4): (1.10279246298279, 0.0909420560264418),
}
# not yet treated, doubly robust, no covariates
NOT_YET: dict[tuple[int, int], Number] = {
    (2004, 2004): (-0.0193723636759221, 0.0223101128836806),
    (2004, 2005): (-0.0783190990620607, 0.0303902285433973),
    (2004, 2006): (-0.136274346328678, 0.03540338496891),
    (2006, 2004): (-0.00256255094261098, 0.0225302351453388),
    (2006, 2005): (-0.00193924609578875, 0.019042158605819),
    (2006, 2006): (0.00466087631997615, 0.0163355842468236),
    (2007, 2004): (0.0297593647610311, 0.0145335416386514),
    (2007, 2005): (-0.0024106128000969, 0.0160312963755178),
}
NOT_YET_AVERAGES: dict[str, dict[int | None, Number]] = {
    "simple": {None: (-0.0397636256230437, 0.0120524247873419)},
    "cohort": {
        2004: (-0.0836942930380162, 0.0257015997680069),
        2006: (-0.0182817976131207, 0.0159222358245001),
        2007: (-0.0260544107191966, 0.0166554353492522),
        None: (-0.030462228112565, 0.0125751201316818),
    },
    "event_time": {
        -3: (0.0297593647610311, 0.0145335416386514),
        -2: (-0.00244615388606511, 0.0131203504342708),
        -1: (-0.0242689034145076, 0.0144636816758019),
        0: (-0.0189221990834249, 0.0120445686892691),
        1: (-0.0535893473848319, 0.016946385539125),
        2: (-0.136274346328678, 0.03540338496891),
        3: (-0.100811363085404, 0.0343592258346733),
        None: (-0.0773993139705847, 0.0195601769463944),
    },
    "period": {
        2004: (-0.0193723636759221, 0.0223101128836806),
        2005: (-0.0783190990620607, 0.0303902285433972),
        2006: (-0.0423175312295752, 0.0190562576431668),
        2007: (-0.0370593399359766, 0.0137470791411185),
        None: (-0.0442670834758837, 0.0155709044211449),
    },
}
# eight periods, seven cohorts, a covariate, not yet treated
EIGHT_PERIODS: dict[str, dict[tuple[int, int], Number]] = {
    "dr": {
        (2, 2): (1.16431422947936, 0.0929095626207345),
        (2, 7): (6.07995330005314, 0.111650116081929),
        (3, 8): (6.06722316676359, 0.128454441791162),
        (5, 2): (-0.103163384916451, 0.0934521495786667),
        (7, 6): (-0.0422648424440109, 0.110768417212819),
        (8, 3): (-0.0106978210813134, 0.0944752753329258),
        (8, 8): (0.949208953717995, 0.120037793583794),
    },
    "reg": {
        (2, 2): (1.16427156710925, 0.0929073054833745),
        (2, 7): (6.0799766497354, 0.111643328593134),
        (3, 8): (6.06722374909087, 0.128452932186497),
        (5, 2): (-0.103179979117224, 0.0934478040932437),
        (7, 6): (-0.0419578550688234, 0.110795367172618),
        (8, 3): (-0.0106565070300556, 0.0944806823589223),
        (8, 8): (0.949095244912247, 0.120032261778215),
    },
}


def fit(
    frame: pd.DataFrame,
    outcome: str,
    columns: dict[str, str],
    design: dict[str, object] | None = None,
    **options: object,
) -> vbc.Estimates:
    panel = vbc.Panel.from_frame(frame, never=0, **columns)
    plan = vbc.Design(outcome=outcome, **{"comparison": "never_treated", **(design or {})})
    return vbc.did.GroupTime(**{"method": "reg", **options}).fit(panel, plan, ssc=SSC.none())


def agree(
    est: vbc.Estimates, expected: dict[tuple[int, int], Number], limit: float = 1e-12
) -> None:
    table = est.tidy().set_index(["cohort", "period"])
    for cell, (estimate, error) in expected.items():
        assert table.loc[cell, "estimate"] == pytest.approx(estimate, abs=limit), cell
        assert table.loc[cell, "std_error"] == pytest.approx(error, abs=limit, nan_ok=True), cell


@pytest.mark.parametrize("fixed", sorted(FIX_WEIGHTS))
def test_weights_that_change(shared_dir: Path, fixed: str) -> None:
    frame = pd.read_csv(shared_dir / "golden/data/mpdta_tvw.csv")
    est = fit(frame, "lemp", {**COUNTIES, "weight": "wt"}, fix_weights=fixed)
    agree(est, dict(zip(CELLS, FIX_WEIGHTS[fixed], strict=True)))


@pytest.mark.parametrize("name", ["universal", "anticipation"])
def test_base_period_and_anticipation(shared_dir: Path, name: str) -> None:
    frame = pd.read_csv(shared_dir / "golden/data/csdid_mpdta_extra.csv")
    design: dict[str, object] = (
        {"base_period": "universal"} if name == "universal" else {"anticipation": 1}
    )
    est = fit(frame, "lemp", COUNTIES, design)
    agree(est, UNIVERSAL if name == "universal" else ANTICIPATION)
    if name == "anticipation":
        # a cohort without a period before its anticipation is left out, as in R
        assert set(est.frame["cohort"]) == {2006, 2007}


def test_covariate_with_categories(shared_dir: Path) -> None:
    frame = pd.read_csv(shared_dir / "golden/data/csdid_factor_cov.csv")
    columns = {"unit": "id", "period": "period", "cohort": "G"}
    agree(fit(frame, "Y", columns, {"covariates": ["cat"]}), FACTOR)


@pytest.mark.parametrize("method", sorted(EIGHT_PERIODS))
def test_not_yet_treated_with_a_covariate(shared_dir: Path, method: str) -> None:
    frame = pd.read_csv(shared_dir / "golden/data/csdid_tp8_dyn.csv")
    columns = {"unit": "id", "period": "period", "cohort": "G"}
    design: dict[str, object] = {"comparison": "not_yet_treated", "covariates": ["X"]}
    # R's logit stops at 1e-8 of the deviance
    agree(fit(frame, "Y", columns, design, method=method), EIGHT_PERIODS[method], 1e-8)


def test_not_yet_treated_and_averages(shared_dir: Path) -> None:
    frame = pd.read_csv(shared_dir / "golden/data/mpdta.csv")
    est = fit(frame, "lemp", COUNTIES, {"comparison": "not_yet_treated"}, method="dr")
    agree(est, NOT_YET)
    for kind, expected in NOT_YET_AVERAGES.items():
        table = est.aggregate(kind).tidy()
        overall = table["estimand"].isin(["att_overall", "att_simple"])
        for key, (estimate, error) in expected.items():
            rows = table[overall] if key is None else table[~overall & (table[kind] == key)]
            assert rows["estimate"].item() == pytest.approx(estimate, abs=1e-12), (kind, key)
            assert rows["std_error"].item() == pytest.approx(error, abs=1e-12), (kind, key)
