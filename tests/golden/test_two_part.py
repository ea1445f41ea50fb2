"""
Two-part effects in dollars against R glm with stacked clustered errors, and against statsmodels.

R 4.2.2: `glm` of any spending and of positive spending (`lm` of logs) with the same columns, their
influence from `sandwich` 3.0.2 (`estfun`, `bread`) side by side, summed by cluster, and the delta
method for averages over treated rows. This is Stata `twopm, vce(cluster)` followed by `margins`,
whose own printed examples use data that are not public here. Data: earnings of the LaLonde
experiment (with zeros), and spending rebuilt from R's random numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import vbceval as vbc

from .r_random import RRandom

PARTS = ("total", "extensive", "intensive", "any", "if_any")


def spending(seed: int = 2023, n: int = 480) -> pd.DataFrame:
    """480 people in 120 groups over four years; cohorts 2015, 2016 and, for half, never."""
    draw = RRandom(seed)
    person, year = np.repeat(np.arange(n), 4), np.tile(np.arange(2013, 2017), n)
    cohort = np.array([2015.0, 2016.0, np.nan, np.nan])[person % 4]
    on, group = year >= cohort, person // 16 * 4 + person % 4
    shock = 0.3 * draw.rnorm(group.max() + 1)[group]
    x, w = draw.rnorm(n)[person], 0.5 + draw.runif(n)[person]
    index = 0.5 + 0.4 * x + shock - 0.4 * on + 0.1 * (year - 2013)
    some = draw.runif(4 * n) < 1 / (1 + np.exp(-index))
    level = np.exp(5 + 0.2 * x + shock + 0.05 * (year - 2013) - 0.15 * on)
    amount = -level * (np.log(draw.runif(4 * n)) + np.log(draw.runif(4 * n))) / 2
    return pd.DataFrame({
        "id": person, "year": year, "cohort": cohort, "group": group, "x": x, "w": w,
        "spend": np.where(some, amount, 0.0),
    })  # fmt: skip


def fit(frame: pd.DataFrame, vcov: str = "CR0", **options) -> vbc.Estimates:
    panel = vbc.Panel.from_frame(
        frame, unit="id", period="year", cohort="cohort", cluster=options.pop("cluster", "group"),
        weight=options.pop("weight", None),
    )  # fmt: skip
    design = vbc.Design(outcome="spend", covariates=options.pop("covariates", []))
    return vbc.did.TwoPart(**options).fit(panel, design, vcov=vcov)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return spending()


# rows (2015, 2015), (2015, 2016), (2016, 2016): the five parts, then their errors
R = {
    "logit and gamma, clusters above people": (
        {},
        [[-35.6175500035707557, -17.7866144138802156, -17.8309355896905402, -0.1093236891984481,
          -29.0882150979209655],
         [-39.02221131734607695, -12.05633842327772065, -26.96587289406835453,
          -0.06715942550181486, -40.94549584807444376],
         [-73.3445060516143883, -23.7437518993207526, -49.6007541522936251, -0.1208333333333337,
          -76.0650542910572369]],
        [[14.05273752842930435, 9.46688690929642895, 12.32846482237419039, 0.05731591483911471,
          19.54474206846574447],
         [18.48425509364618335, 11.91182675960940784, 13.83342046484362164, 0.06599112404462085,
          20.81241910676800444],
         [19.56784157337748198, 10.78105417239133068, 17.78309099184192377, 0.05462006701067282,
          26.67205760364818801]],
    ),
    "weights": (
        {"weight": "w", "cluster": "id"},
        [[-44.5120336027308241, -21.9649217540974036, -22.5471118486334205, -0.1320148155385581,
          -35.9290477829364647],
         [-44.55429752733065881038, -12.46884632165094153, -32.08545098500788129,
          -0.06854676968394202, -48.68761470470681729],
         [-72.6916878669564142, -23.0209607315463920, -49.6707271354100257, -0.1174666369421523,
          -79.0194735565276289]],
        [[17.21912052519422076, 10.10504929692912413, 13.60394558969895762, 0.06034120778179444,
          21.47415667517854487],
         [20.46374744870995599, 11.99353734494633450, 16.85952136226655895, 0.06578744441834686,
          25.42255645452670265],
         [19.91763772642625341, 12.15535960183341224, 16.01306165032812245, 0.06134959497000592,
          25.13504429889465186]],
    ),
    "a covariate with slopes": (
        {"weight": "w", "covariates": ["x"]},
        [[-41.4765029515283814, -17.5191062502307595, -23.9573967012976219, -0.1318124783979325,
          -38.6139704270994244],
         [-45.10751469011078285, -9.42288735255370469, -35.68462733755708172,
          -0.06985695078249725, -51.32045748436047461],
         [-72.6540045237937449, -20.2833182174991045, -52.3706863062946439, -0.1096568346028442,
          -83.8009574794321281]],
        [[16.32961914534558545, 9.50212016077826860, 14.00260474535979860, 0.05535505924855082,
          20.32401178333439873],
         [20.2500675973472433, 12.7055032968934629, 15.0378704095886011, 0.0705704373680924,
          21.8578534913543230],
         [19.36316226090404413, 11.24500482918266009, 17.10474662474556951, 0.05767000393161151,
          26.29529156132036150]],
    ),
    "probit and Poisson": (
        {"participation": "probit", "intensity": "poisson"},
        [[-34.8086311888678637, -17.7082751687470683, -17.1003560201208025, -0.1092416777362399,
          -27.8982618858830449],
         [-38.14520923702889377, -11.94770500857003981, -26.19750422845884330,
          -0.06676906291523588, -39.79058282317075168],
         [-73.4613098019940622, -23.6893225740656845, -49.7719872279283635, -0.1204693119060192,
          -76.3489588085492414]],
        [[13.98229510631586159, 9.45331810965111430, 12.22794647837587156, 0.05741097937257029,
          19.40921309633352720],
         [18.32596382543983182, 11.90039599542302007, 13.66541186798442808, 0.06614993979320069,
          20.56902685530407382],
         [19.58609817869611192, 10.83746546344537975, 17.75440245311116172, 0.05484458972591755,
          26.62868234424318459]],
    ),
    "logs and smearing": (
        {"intensity": "lognormal", "weight": "w"},
        [[-48.0053554088756584, -23.0084128764368394, -24.9969425324388368, -0.1320148155385581,
          -39.8328774303635100],
         [-51.12975013424778581, -12.71330874329861160, -38.41644139094916000,
          -0.06854676968394202, -58.29448673301934036],
         [-68.9569932134000823, -22.9923654096975874, -45.9646278037025127, -0.1174666369421523,
          -73.1235659459673570]],
        [[16.64830123482540358, 10.13610836540003213, 14.79871153035131215, 0.05627234701311885,
          22.65490299380201833],
         [22.17335332281108506, 12.81992330349259568, 16.64518260633186841, 0.06886633624727458,
          25.09126532527268338],
         [20.9291430031885142, 11.3981460572540225, 18.2747899508838074, 0.0575185746971545,
          28.7375799135220156]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", R)
def test_staggered_entry_in_r(frame, name) -> None:
    """R stops when the deviance no longer moves, which leaves 1e-8 of the effect."""
    options, values, errors = R[name]
    est = fit(frame, **options)
    for j, part in enumerate(PARTS):
        rows = est.where(part=part)
        np.testing.assert_allclose(rows.estimate, np.array(values)[:, j], rtol=1e-7)
        np.testing.assert_allclose(rows.std_error, np.array(errors)[:, j], rtol=1e-7)


@pytest.mark.parametrize(
    ("intensity", "values", "errors"),
    [
        ("gamma",
         [1473.137061896559, 236.3652173837901, 1236.771844512769, 0.03128368543215699,
          1668.799023041765],
         [1078.770944550132, 418.3918536305716, 1037.217445100074, 0.05517314609197584,
          1397.451984854671]),
        ("lognormal",
         [340.42780794023565, 266.83098159151637, 73.596826348717912, 0.03128368543215699,
          99.305552964055110],
         [1413.646068416107, 473.4136784352045, 1372.782485685943, 0.05517314609197584,
          1852.268781507967]),
    ],
)  # fmt: skip
def test_earnings_of_the_lalonde_experiment_in_r(shared_dir: Path, intensity, values, errors):
    """1975 and 1978, many with zeros; means of four groups, so closed forms."""
    table = pd.read_csv(shared_dir / "golden" / "data" / "lalonde_exp_panel.csv")
    table = table[table["year"].isin([1975, 1978])].rename(columns={"re": "spend"})
    table["cohort"] = np.where(table["treat"] == 1, 1978.0, np.nan)
    est = fit(table, cluster="id", intensity=intensity)
    np.testing.assert_allclose(est.estimate, values, rtol=1e-11)
    np.testing.assert_allclose(est.std_error, errors, rtol=1e-11)
    if intensity == "gamma":
        # saturated means: parts multiply to cell means, each trend in its own index
        some = table.assign(any=table["spend"] > 0).groupby(["treat", "year"])
        p, mean = some["any"].mean(), some["spend"].mean()
        odds = p / (1 - p)
        without = odds[1, 1975] * odds[0, 1978] / odds[0, 1975]
        level = mean / p
        expected = without / (1 + without) * level[1, 1975] * level[0, 1978] / level[0, 1975]
        assert est.estimate[0] == pytest.approx(mean[1, 1978] - expected, rel=1e-11)


@pytest.mark.filterwarnings("ignore:cov_type not fully supported with var_weights")
@pytest.mark.parametrize("part", ["any", "if_any"])
def test_covariance_of_statsmodels(frame, part) -> None:
    """
    Each regression alone: delta method with the clustered covariance of statsmodels.

    Its sandwich has the observed information in the middle, ours and R's the expected one. They are
    one for the logit; for gamma with a log link statsmodels is reproduced with its own derivatives.
    """
    rows = np.ones(len(frame), dtype=bool) if part == "any" else (frame["spend"] > 0).to_numpy()
    family = sm.families.Binomial() if part == "any" else sm.families.Gamma(sm.families.links.Log())
    g, t = frame["cohort"].fillna(0), frame["year"]
    cells = [
        ((g == a) & (t == b)).to_numpy() for a, b in ((2015, 2015), (2015, 2016), (2016, 2016))
    ]
    base = [np.ones(len(frame)), g == 2015, g == 2016, t == 2014, t == 2015, t == 2016]
    x = np.column_stack([*base, *cells]).astype(float)
    off = x * ([1] * 6 + [0] * 3)
    y = (frame["spend"] > 0).astype(float) if part == "any" else frame["spend"]
    made = sm.GLM(y[rows], x[rows], family, var_weights=frame["w"][rows]).fit(
        tol=1e-14, tol_criterion="params", maxiter=300, cov_type="cluster",
        cov_kwds={"groups": frame["group"][rows].to_numpy(), "use_correction": False},
    )  # fmt: skip
    beta = np.asarray(made.params)
    scores = pd.DataFrame(made.model.score_obs(beta)).groupby(frame["group"][rows].to_numpy()).sum()

    def sandwich(*, observed: bool) -> np.ndarray:
        bread = np.linalg.inv(made.model.hessian(beta, observed=observed))
        return bread @ (scores.T @ scores).to_numpy() @ bread

    np.testing.assert_allclose(sandwich(observed=True), made.cov_params(), rtol=1e-7)
    covariance = sandwich(observed=False)
    if part == "any":
        np.testing.assert_allclose(covariance, made.cov_params(), rtol=1e-7)
    est = fit(frame, weight="w").where(part=part)
    for j, cell in enumerate(cells):
        share = frame["w"][cell] / frame["w"][cell].sum()
        means = [family.fitted(z[cell] @ beta) for z in (x, off)]
        slopes = [share / family.link.deriv(m) for m in means]
        gradient = slopes[0] @ x[cell] - slopes[1] @ off[cell]
        assert est.estimate[j] == pytest.approx(share @ (means[0] - means[1]), rel=1e-9)
        expected = np.sqrt(gradient @ covariance @ gradient)
        assert est.std_error[j] == pytest.approx(expected, rel=1e-9)


def test_factor_of_the_default(frame) -> None:
    """G / (G - 1) for 120 groups, on every part."""
    one, zero = fit(frame, "CR1"), fit(frame)
    np.testing.assert_allclose(one.std_error, zero.std_error * np.sqrt(120 / 119), rtol=1e-12)
