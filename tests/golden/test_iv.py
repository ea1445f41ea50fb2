"""
Effects of assignment and dose against R ivreg, Stata means in print, and pyfixest.

Data: Card (1995), proximity to a college, and Holzer and others (1993), training grants, as shipped
with linearmodels; and a randomised mandate rebuilt from R's random numbers (`mandate`). Run once and
typed in: R 4.2.2 with `AER::ivreg` 1.2-10 (a dummy for every effect), `sandwich` 3.0.2 (`vcovCL`),
`clubSandwich` 0.5.8 (`coef_test`, CR2) and `estimatr` 1.0.0 (`iv_robust`); `pyfixest` 0.60.0 (`feols`
with `IV_Diag`), the Python port of R fixest.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from linearmodels.datasets import card, jobtraining
from scipy import stats

import vbceval as vbc
from vbceval.inference import SSC

from .r_random import RRandom

OTHERS = ("exper", "expersq", "black", "smsa", "south", "smsa66")


def mandate(seed: int = 77, markets: int = 48) -> pd.DataFrame:
    """48 markets in blocks of four, two of each assigned in 2016; three hospitals, five years."""
    draw, n = RRandom(seed), markets * 3
    lots = draw.runif(markets).reshape(-1, 4)
    lot = lots.argsort(axis=1).argsort(axis=1).ravel()
    shock, taste, size = draw.rnorm(markets), draw.rnorm(n), 1 + 4 * draw.runif(n)
    hospital, year = np.repeat(np.arange(n), 5), np.tile(np.arange(2014, 2019), n)
    market = hospital // 3
    entry = np.where(lot < 2, 2016.0, np.nan)[market]
    on = year >= entry
    dose = 0.3 + 0.15 * taste[hospital] + 0.35 * on * (1 + 0.1 * (year - 2016))
    share = np.where(year < 2016, 0.0, np.clip(dose + 0.1 * draw.rnorm(n * 5), 0, 1))
    beds = 0.2 * taste[hospital] + draw.rnorm(n * 5)
    spend = 20 + 2 * taste[hospital] + 0.3 * (year - 2014) - 3 * share
    spend += 0.5 * shock[market] * (year - 2014) + 0.4 * beds + draw.rnorm(n * 5)
    return pd.DataFrame({
        "hospital": hospital, "market": market, "block": market // 4, "year": year, "entry": entry,
        "share": share, "spend": spend, "beds": beds, "w": size[hospital],
    })  # fmt: skip


def fit(frame: pd.DataFrame, vcov: str = "CR1", ssc: SSC | None = None, **options):
    panel = vbc.Panel.from_frame(
        frame, unit="hospital", period="year", cohort="entry", cluster="market", people=False,
        weight=options.pop("weight", None),
    )  # fmt: skip
    design = vbc.Design(outcome="spend", covariates=options.pop("covariates", ["beds"]))
    return vbc.did.IV(dose="share", **options).fit(panel, design, vcov=vcov, ssc=ssc)


def late(est: vbc.Estimates) -> tuple[float, float]:
    row = est.where(estimand="late")
    return row.estimate.item(), row.std_error.item()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return mandate()


@pytest.fixture(scope="module")
def college() -> pd.DataFrame:
    """One row a man in 1976; assigned where there was a four-year college; clusters of age and region."""
    d = card.load()
    region = d[[f"reg66{k}" for k in range(1, 10)]].to_numpy().argmax(axis=1)
    return d.assign(
        id=np.arange(len(d)), year=1976, assigned=np.where(d["nearc4"] == 1, 1976.0, np.nan),
        region=region.astype(str), place=d["age"] * 10 + region,
    )  # fmt: skip


def schooling(d, covariates=OTHERS, blocks=("region",), vcov="CR1", ssc=None, **options):
    panel = vbc.Panel.from_frame(d, unit="id", period="year", cohort="assigned", **options)
    estimator = vbc.did.IV(dose="educ", form="cross_section", blocks=blocks)
    return estimator.fit(
        panel, vbc.Design(outcome="lwage", covariates=list(covariates)), vcov=vcov, ssc=ssc
    )


def test_wald_estimate_printed_by_stata(college) -> None:
    """
    Means by proximity, as printed (`sum` by nearc4) at bjdatatechsolution.blogspot.com, June 2020.

    The page divides 6.311401 - 6.155494 by 13.52703 - 12.69801, .18806181 with its rounding.
    """
    est = schooling(college, covariates=(), blocks=())
    itt, first, effect = est.estimate
    assert itt == pytest.approx(6.311401 - 6.155494, abs=1e-6)
    assert first == pytest.approx(13.52703 - 12.69801, abs=1e-5)
    assert effect == pytest.approx(0.18806, abs=5e-6)
    counts = est.where(estimand="late").frame[["n_treated", "n_comparison"]]
    assert counts.to_numpy().tolist() == [[2053, 957]]


def test_return_to_schooling_of_card(college) -> None:
    """Card (1995): 13.2 percent a year; regions of 1966 as blocks, which are his dummies."""
    assert late(schooling(college))[0] == pytest.approx(0.132, abs=5e-4)


@pytest.mark.parametrize(
    ("options", "ssc", "effect", "error"),
    [
        ({"covariates": (), "blocks": ()}, SSC.none(), 0.1880626087853176, 0.02613387744383252),
        ({"covariates": (), "blocks": ()}, SSC.statsmodels(), 0.1880626087853176, 0.02614256412428866),
        ({}, SSC.none(), 0.1315037754608809, 0.05399952143245131),
        ({}, SSC.statsmodels(), 0.1315037754608809, 0.05414361647562663),
        ({"cluster": "place"}, SSC.none(), 0.1315037754608809, 0.04867747350256565),
        ({"cluster": "place"}, SSC.statsmodels(), 0.1315037754608809, 0.04904760260267836),
        ({"cluster": "place", "weight": "weight"}, SSC.statsmodels(),
         0.1501558496581018, 0.05378981025313186),
    ],
)  # fmt: skip
def test_schooling_in_r(college, options, ssc, effect, error) -> None:
    """`ivreg` and `vcovCL(type="HC0", cadjust=FALSE)` or `vcovCL(type="HC1")`."""
    est = late(schooling(college, ssc=ssc, **options))
    assert est == pytest.approx((effect, error), rel=1e-9)


def test_schooling_by_clubsandwich(college) -> None:
    """CR2 of reduced form, first stage and effect: the residual of the effect is theirs combined."""
    est = schooling(college, vcov="CR2", cluster="place")
    np.testing.assert_allclose(
        est.estimate, [0.04206791838788493, 0.3198989400914782, 0.1315037754608809], rtol=1e-9
    )
    np.testing.assert_allclose(
        est.std_error, [0.01740468271854141, 0.08144024760860827, 0.04925438113638791], rtol=1e-9
    )
    np.testing.assert_allclose(est.frame["df"], 55.14721454864430, rtol=1e-9)


@pytest.mark.parametrize(
    ("ssc", "error"), [(SSC.none(), 0.008249493684611742), (SSC.statsmodels(), 0.01200239702407391)]
)
def test_training_grants_in_r(ssc, error) -> None:
    """Grants of 1988 for hours of training, effects of 45 firms and two years: scrap rates fall."""
    d = jobtraining.load()
    d = d[d["year"] < 1989][["fcode", "year", "lscrap", "hrsemp", "grant"]].dropna()
    d = d[d.groupby("fcode")["year"].transform("size") == 2]
    granted = d.groupby("fcode")["grant"].transform("max")
    panel = vbc.Panel.from_frame(
        d.assign(entry=np.where(granted == 1, 1988.0, np.nan)), unit="fcode", period="year",
        cohort="entry",
    )  # fmt: skip
    assert d["fcode"].nunique() == 45
    est = vbc.did.IV(dose="hrsemp").fit(panel, vbc.Design(outcome="lscrap"), ssc=ssc)
    assert late(est) == pytest.approx((-0.01415316446472273, error), rel=1e-10)


CROSS = {"form": "cross_section", "covariates": []}
SEVERAL = {"instruments": "by_event_time", "covariates": []}


@pytest.mark.parametrize(
    ("options", "ssc", "effect", "error"),
    [
        ({}, SSC.none(), -1.732136044144315, 0.9683001909764983),
        ({}, SSC.statsmodels(), -1.732136044144315, 1.144071798545494),
        ({"weight": "w"}, SSC.none(), -1.856214060708742, 1.033943373012956),
        ({"weight": "w"}, SSC.statsmodels(), -1.856214060708742, 1.221630921258217),
        (CROSS, SSC.none(), -1.481169949687123, 1.416078468768279),
        (CROSS, SSC.statsmodels(), -1.481169949687123, 1.494855096509186),
        (SEVERAL, SSC.none(), -1.677749366749303, 0.9716806899966483),
        (SEVERAL, SSC.statsmodels(), -1.677749366749303, 1.146976182006921),
    ],
)  # fmt: skip
def test_mandate_with_blocks_in_r(frame, options, ssc, effect, error) -> None:
    """Dummies of hospitals and of block by year; an instrument for each year in the last two."""
    est = late(fit(frame, ssc=ssc, blocks=["block"], **options))
    assert est == pytest.approx((effect, error), rel=1e-11)


@pytest.mark.parametrize(
    ("options", "error", "df"),
    [({}, 1.135076255855235, 34.998554262644980), (CROSS, 1.658341297166178, 34.999999999999787)],
)
def test_mandate_by_clubsandwich(frame, options, error, df) -> None:
    """CR2 of `ivreg`; `estimatr::iv_robust(se_type = "CR2")` prints the second line as well."""
    row = fit(frame, "CR2", blocks=["block"], **options).where(estimand="late")
    assert row.std_error.item() == pytest.approx(error, rel=1e-11)
    assert row.frame["df"].item() == pytest.approx(df, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "effect", "error", "strength"),
    [
        ({}, -1.7310147315606574, 1.073183957810335, 170.3160386876393),
        ({"weight": "w", "covariates": []}, -1.9274063635594216, 1.1459271960816133,
         156.53152749340083),
        (SEVERAL, -1.677749366749261, 1.0811340969634764, 104.88602679578852),
    ],
)  # fmt: skip
def test_default_errors_and_effective_f_of_pyfixest(
    frame, options, effect, error, strength
) -> None:
    """`feols("spend ~ beds | hospital + year | share ~ z", vcov={"CRV1": "market"})`."""
    est = fit(frame, **options)
    assert late(est) == pytest.approx((effect, error), rel=1e-11)
    found = est.where(estimand="late").frame["first_stage_f"].item()
    assert found == pytest.approx(strength, rel=1e-11)


def test_factor_where_blocks_are_spanned_by_hospitals(frame) -> None:
    """
    Pyfixest counts all 60 levels of block by year beside those of hospitals, as `SSC.fixest` does.

    Years of a block add up to its hospitals, so 48 are left; with one for all hospitals, beds and
    the dose K is 51 by `SSC.stata`, and 62 by the default.
    """
    error = 1.0229000636038508
    n = len(frame)
    ours, rank = (late(fit(frame, ssc=ssc, blocks=["block"]))[1] for ssc in (None, SSC.stata()))
    plain = late(fit(frame, ssc=SSC.none(), blocks=["block"]))[1]
    groups = 48 / 47
    assert error == pytest.approx(plain * np.sqrt(groups * (n - 1) / (n - 62)), rel=1e-11)
    assert ours == pytest.approx(error, rel=1e-11)
    assert rank == pytest.approx(plain * np.sqrt(groups * (n - 1) / (n - 51)), rel=1e-11)


def test_ends_of_the_anderson_rubin_set_by_statsmodels(frame) -> None:
    """At each end assignment is just significant for what the effect leaves of the outcome."""
    row = fit(frame, ssc=SSC.statsmodels()).where(estimand="late").frame.iloc[0]
    z = (frame["year"] >= frame["entry"]).to_numpy(float)
    dummies = [pd.get_dummies(frame[c], drop_first=c == "year") for c in ("hospital", "year")]
    x = np.column_stack([*(d.to_numpy(float) for d in dummies), frame["beds"], z])
    for end in (row["ar_low"], row["ar_high"]):
        made = sm.OLS(frame["spend"] - end * frame["share"], x).fit(
            cov_type="cluster", cov_kwds={"groups": frame["market"].to_numpy()}
        )
        t = made.params.iloc[-1] / made.bse.iloc[-1]
        assert 2 * stats.t.sf(abs(t), 47) == pytest.approx(0.05, rel=1e-9)
