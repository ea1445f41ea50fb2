"""The regression family: rows, options, refusals, and what is said beside the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.did.blocks import Block
from vbceval.did.least_squares import Cells, least_squares
from vbceval.did.regressors import Term, regressors
from vbceval.estimates import columns
from vbceval.inference import SSC
from vbceval.inference.wild import Wild

DID = vbc.did
Y = vbc.Design(outcome="y")
ESTIMATORS = {
    "TWFE": DID.TWFE(),
    "EventStudy": DID.EventStudy(),
    "ETWFE": DID.ETWFE(),
    "SunAbraham": DID.SunAbraham(),
    "Stacked": DID.Stacked(),
    "TripleDifference": DID.TripleDifference(by="dual"),
}
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def make(cohorts, *, units: int = 40, periods: int = 6, seed: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    u, t = np.repeat(np.arange(units), periods), np.tile(np.arange(2011, 2011 + periods), units)
    cohort = np.array(cohorts)[np.arange(units) % len(cohorts)][u]
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": cohort, "x": rng.standard_normal(len(u)),
        "z": rng.standard_normal(units)[u], "w": rng.uniform(0.5, 2, units)[u],
        "y": rng.standard_normal(len(u)) + u - 1.0 * (t >= cohort),
        "dual": np.where(u % 3 == 0, "yes", "no"),
    })  # fmt: skip


@pytest.fixture
def frame() -> pd.DataFrame:
    return make([2013.0, 2014.0, np.nan, np.nan])


def panel_of(data: pd.DataFrame, **options) -> vbc.Panel:
    given = {"weight": "w", "strata": ["dual"], **options}
    return vbc.Panel.from_frame(data, unit="unit", period="period", cohort="cohort", **given)


def errors(est: vbc.Estimates) -> np.ndarray:
    return np.sqrt(np.diag(est.vcov()))


@every
@pytest.mark.parametrize("vcov", ["CR1", "CR2"])
def test_result(estimator, vcov, frame) -> None:
    design = vbc.Design(
        outcome="y", covariates=["x"], unit_of_measure="USD", comparison="never_treated"
        if isinstance(estimator, DID.TripleDifference) else "not_yet_treated",
    )  # fmt: skip
    est = estimator.fit(panel_of(frame), design, vcov=vcov)
    table = est.tidy()
    assert tuple(table.columns[: len(columns.KEYS + columns.VALUES)]) == (
        columns.KEYS + columns.VALUES
    )
    assert set(table["unit_of_measure"]) == {"USD"}
    live = table["estimate"] != 0
    assert table.loc[live, ["std_error", "df", "p_value", "conf_low"]].notna().all().all()
    assert table[["n_units", "n_treated", "n_comparison", "n_clusters"]].notna().all().all()
    vcov_matrix = est.vcov()
    np.testing.assert_array_equal(vcov_matrix, vcov_matrix.T)
    assert np.linalg.eigvalsh(vcov_matrix).min() > -1e-12 * np.trace(vcov_matrix)
    assert sorted(est.clusters) == list(range(40))
    for key in ("estimator", "options", "design", "vcov", "ssc", "exactness", "n_clusters",
                "versions", "warnings", "language", "dropped"):  # fmt: skip
        assert key in est.meta
    assert est.meta["vcov"] == vcov
    if not isinstance(estimator, DID.TripleDifference):
        assert set(table["stratum"].dropna()) == {"dual=yes", "dual=no"}


@every
@pytest.mark.parametrize("vcov", ["CR0", "CR1", "CR2", "CR3", "wild", "bootstrap"])
def test_every_clustered_covariance(estimator, vcov, frame) -> None:
    given = Wild(draws=99) if vcov == "wild" else vcov
    est = estimator.fit(panel_of(frame), Y, vcov=given)
    plain = estimator.fit(panel_of(frame), Y, vcov="CR0")
    np.testing.assert_array_equal(est.estimate, plain.estimate)
    np.testing.assert_array_equal(est.influence(), plain.influence())
    live = np.isfinite(plain.std_error)
    # leaving clusters out moves errors most in the stratum with 14 of them
    limit = 0.6 if vcov == "CR3" else 0.35
    assert (np.abs(est.std_error[live] / plain.std_error[live] - 1) < limit).all()
    assert (est.frame["df"][live] > 0).all()
    if vcov in ("CR2", "CR3"):
        assert (est.frame["df"][live] < 39).all()


def test_aggregates_of_saturated_regressions(frame) -> None:
    est = DID.ETWFE().fit(panel_of(frame, strata=[]), Y)
    rows = est.frame
    simple = est.aggregate("simple")
    w = [
        frame.loc[(frame["cohort"] == g) & (frame["period"] == t), "w"].sum()
        for g, t in zip(rows["cohort"], rows["period"], strict=True)
    ]
    assert simple.estimate.item() == pytest.approx(np.average(est.estimate, weights=w), rel=1e-12)
    assert est.shares.psi is None
    random = DID.ETWFE(weights_random=True).fit(panel_of(frame, strata=[]), Y)
    assert random.shares.psi is not None
    assert random.aggregate("simple").estimate.item() == simple.estimate.item()


def test_event_study_rows_and_reference(frame) -> None:
    est = DID.EventStudy().fit(panel_of(frame, strata=[]), Y)
    assert est.frame["event_time"].tolist()[:-1] == [-3, -2, -1, 0, 1, 2, 3]
    assert est.frame["estimand"].tolist()[-1] == "att_overall"
    reference = est.where(event_time=-1)
    assert reference.estimate.item() == 0
    assert np.isnan(reference.std_error).all()
    after = est.where("event_time >= 0").estimate
    assert est.where(estimand="att_overall").estimate.item() == pytest.approx(after.mean())
    assert est.meta["reference"] == (-1,)
    wide = DID.EventStudy(reference=(-3, -1)).fit(panel_of(frame, strata=[]), Y)
    np.testing.assert_array_equal(wide.where(event_time=[-3, -1]).estimate, [0, 0])


def test_anticipation_moves_the_reference(frame) -> None:
    design = vbc.Design(outcome="y", anticipation=1)
    panel = panel_of(frame, strata=[])
    assert DID.EventStudy().fit(panel, design).where(event_time=-2).estimate.item() == 0
    base = DID.SunAbraham().fit(panel, design).frame
    assert set(base["cohort"] - base["base"]) == {2.0}
    assert DID.ETWFE().fit(panel, design).frame["event_time"].min() == -1
    # cells in the period before entry are left out of TWFE
    early = frame["period"] == frame["cohort"] - 1
    one = DID.TWFE().fit(panel, design)
    two = DID.TWFE().fit(panel_of(frame[~early], strata=[]), Y)
    np.testing.assert_allclose(one.estimate, two.estimate, rtol=1e-12)


def test_binned_ends(frame) -> None:
    panel = panel_of(frame, strata=[])
    design = vbc.Design(outcome="y", window=(-2, 2))
    binned = DID.EventStudy(endpoints="bin").fit(panel, design)
    clipped = (frame["period"] - frame["cohort"]).clip(-2, 2)
    d = np.column_stack([(clipped == e).to_numpy(float) for e in (-2, 0, 1, 2)])
    dummies = pd.get_dummies(frame[["unit", "period"]].astype(str), dtype=float).to_numpy()
    root = np.sqrt(frame["w"].to_numpy())
    x = np.column_stack([d, dummies]) * root[:, None]
    beta = np.linalg.lstsq(x, frame["y"].to_numpy() * root, rcond=None)[0]
    shown = binned.where(estimand="att_event_time").estimate
    np.testing.assert_allclose(shown[[0, 2, 3, 4]], beta[:4], atol=1e-10)
    kept = DID.EventStudy().fit(panel, design)
    assert kept.frame["event_time"].tolist()[:-1] == [-2, -1, 0, 1, 2]
    assert not np.allclose(kept.estimate, binned.estimate)
    with pytest.raises(vbc.DesignError, match="window"):
        DID.EventStudy(endpoints="bin").fit(panel, Y)


def test_no_never_treated() -> None:
    panel = panel_of(make([2013.0, 2014.0, 2015.0]), strata=[])
    with pytest.raises(vbc.DesignError, match="linear trend"):
        DID.EventStudy().fit(panel, Y)
    DID.EventStudy(reference=(-3, -1)).fit(panel, Y)
    with pytest.raises(vbc.DesignError, match="cohort 2015 at period 2015"):
        DID.ETWFE().fit(panel, Y)
    last = DID.SunAbraham().fit(panel, Y)
    assert last.meta["reference_cohort"] == 2015
    assert last.frame["period"].max() == 2014


def test_effects_outside_the_window_may_be_lost() -> None:
    """In the last period all are treated; its effects cannot be had, and are not asked for."""
    data = make([2013.0, 2016.0])
    design = vbc.Design(outcome="y", window=(0, 2))
    early = DID.ETWFE().fit(panel_of(data[data["period"] < 2016], strata=[]), design)
    with pytest.raises(vbc.DesignError, match="cohort 2016 at period 2016"):
        DID.ETWFE().fit(panel_of(data, strata=[]), design)
    design = vbc.Design(outcome="y", window=(1, 2))
    late = DID.ETWFE().fit(panel_of(data, strata=[]), design)
    assert set(late.frame["cohort"]) == {2013.0}
    np.testing.assert_allclose(late.estimate, early.where(event_time=[1, 2]).estimate, atol=1e-10)


def test_dropped_covariates_are_named(frame) -> None:
    data = frame.assign(double=2 * frame["x"] + 1)
    design = vbc.Design(outcome="y", covariates=["z", "x", "double"])
    est = DID.TWFE(covariate_rows=True).fit(panel_of(data, strata=[]), design)
    assert est.meta["dropped"] == {"z": [], "double": ["x"]}
    assert len(est.meta["warnings"]) == 2
    table = est.frame.set_index("term")["estimate"]
    assert np.isnan(table[["z", "double"]]).all()
    alone = DID.TWFE(covariate_rows=True).fit(
        panel_of(data, strata=[]), vbc.Design(outcome="y", covariates=["x"])
    )
    assert table["x"] == pytest.approx(alone.frame.set_index("term").loc["x", "estimate"])


def test_nearly_collinear_covariates_keep_their_digits(frame) -> None:
    rng = np.random.default_rng(0)
    names = [f"v{i}" for i in range(12)]
    base = rng.standard_normal(len(frame))
    data = frame.assign(**{
        name: base + 4e-5 * rng.standard_normal(len(frame)) for name in names
    })  # fmt: skip
    est = DID.TWFE().fit(panel_of(data, strata=[]), vbc.Design(outcome="y", covariates=names))
    treated = (data["period"] >= data["cohort"]).astype(float)
    dummies = pd.get_dummies(data[["unit", "period"]].astype(str), dtype=float)
    x = np.column_stack([treated, data[names], dummies]) * np.sqrt(data[["w"]].to_numpy())
    y = data["y"] * np.sqrt(data["w"])
    assert est.estimate.item() == pytest.approx(np.linalg.lstsq(x, y, rcond=None)[0][0], rel=1e-6)


def test_columns_that_leave_no_digits_are_refused() -> None:
    """Kahan's matrix: no column is spanned by those before it, and all nearly are together."""
    n, sine = 22, 0.65
    upper = np.eye(n) - np.triu(np.full((n, n), np.sqrt(1 - sine**2)), 1)
    x = sine ** np.arange(n)[:, None] * upper
    zero = np.zeros(n, dtype=np.int64)
    names = tuple(f"v{i}" for i in range(n))
    block = Block(
        unit=zero, cluster=zero, entity=zero, cohort=np.full(n, np.nan), period=np.zeros(n),
        y=np.zeros(n), x=x, w=np.ones(n), xx=None, xy=None, names=names, factors=(-1,) * n,
    )  # fmt: skip
    terms = [Term(zero, (name,), "covariate", i) for i, name in enumerate(names)]
    cells = Cells(block, np.ones((n, 1)), None, None, zero + 1, None)
    with pytest.raises(vbc.EstimationError, match=r"nearly collinear.*`v19`"):
        least_squares(cells, regressors(block, terms))


@pytest.mark.parametrize(
    ("effects", "dummies"),
    [
        ((), []),
        (("period",), ["period"]),
        (("cohort", "period"), ["cohort", "period"]),
        (("unit", "period:dual"), ["unit", "both"]),
    ],
)
def test_fixed_effects_of_the_design(frame, effects, dummies) -> None:
    data = frame.assign(
        both=frame["period"].astype(str) + frame["dual"], cohort_name=frame["cohort"].astype(str)
    )
    names = ["cohort_name" if d == "cohort" else d for d in dummies]
    design = vbc.Design(outcome="y", fixed_effects=effects)
    est = DID.TWFE().fit(panel_of(data), design).where(stratum=None)
    columns_of = [np.ones((len(data), 1))]
    columns_of += [pd.get_dummies(data[[n]].astype(str), dtype=float).to_numpy() for n in names]
    treated = (data["period"] >= data["cohort"]).to_numpy(dtype=float)
    root = np.sqrt(data["w"].to_numpy())
    x = np.column_stack([treated, *columns_of]) * root[:, None]
    expected = np.linalg.lstsq(x, data["y"].to_numpy() * root, rcond=None)[0][0]
    assert est.estimate.item() == pytest.approx(expected, rel=1e-10)


def test_small_sample_factors_count_parameters(frame) -> None:
    panel = panel_of(frame, strata=[])
    n, g, slopes, units, periods = len(frame), 40, 2, 40, 6
    design = vbc.Design(outcome="y", covariates=["x"])
    plain = errors(DID.TWFE().fit(panel, design, vcov="CR0")).item()
    counts = {
        SSC.fixest(): slopes + periods,
        SSC.statsmodels(): slopes + units + periods - 1,
    }
    for ssc, k in counts.items():
        est = DID.TWFE().fit(panel, design, ssc=ssc)
        factor = g / (g - 1) * (n - 1) / (n - k)
        assert errors(est).item() == pytest.approx(plain * factor**0.5, rel=1e-12)
        assert est.frame["df"].item() == g - 1


def test_negative_weights_are_reported() -> None:
    data = make([2012.0, 2015.0], periods=6)
    est = DID.TWFE().fit(panel_of(data.assign(w=1.0), strata=[]), Y)
    found = est.meta["weights"]["all"]
    assert found["cohort_periods"] == 7
    assert found["negative"] > 0
    treated = (data["period"] >= data["cohort"]).to_numpy(dtype=float)
    mean = data.assign(d=treated)
    left = (
        mean["d"] - mean.groupby("unit")["d"].transform("mean")
        - mean.groupby("period")["d"].transform("mean") + mean["d"].mean()
    )  # fmt: skip
    share = (left * treated).groupby([data["cohort"], data["period"]]).sum()
    share = share / share.sum()
    assert found["negative_weight"] == pytest.approx(-share[share < 0].sum(), rel=1e-9)


def test_one_treated_cluster_is_noted(frame) -> None:
    data = frame.assign(cohort=frame["cohort"].where(frame["unit"] != 3, 2015.0))
    est = DID.ETWFE().fit(panel_of(data, strata=[]), Y)
    noted = est.frame["note"] != ""
    assert set(est.frame.loc[noted, "cohort"]) == {2015.0}
    assert any("one treated cluster" in w for w in est.meta["warnings"])
    with pytest.raises(vbc.EstimationError, match="cohort 2015, period 2015"):
        DID.ETWFE().fit(panel_of(data, strata=[]), Y, vcov="CR3")


def test_few_degrees_of_freedom_are_said(frame) -> None:
    data = frame.assign(cohort=frame["cohort"].where(frame["unit"] < 8))
    est = DID.TWFE().fit(panel_of(data, strata=[]), Y, vcov="CR2")
    assert est.frame["df"].item() < 4
    assert any("Satterthwaite" in w for w in est.meta["warnings"])


def test_errors_that_are_not_clustered_have_no_influence(frame) -> None:
    for vcov in ("iid", "HC1", ("two_way", "unit", "period")):
        est = DID.TWFE().fit(panel_of(frame, strata=[]), Y, vcov=vcov)
        with pytest.raises(vbc.EstimationError, match="no influence"):
            est.influence()
    assert any("unreliable" in w for w in est.meta["warnings"])
    with pytest.raises(vbc.EstimationError, match="one outcome without strata"):
        DID.TWFE().fit(panel_of(frame), Y, vcov="iid")
    joint = DID.TWFE().fit(panel_of(frame), Y, vcov="HC1").vcov()
    assert joint.shape == (3, 3)
    assert joint[0, 1] != 0
    assert joint[1, 2] == pytest.approx(0, abs=1e-15)  # strata share no row


def test_wild_columns(frame) -> None:
    est = DID.EventStudy().fit(panel_of(frame, strata=[]), Y, vcov=Wild(draws=499))
    rows = est.frame[est.frame["event_time"] != -1]
    assert (rows["wild_low"] < rows["estimate"]).all()
    assert (rows["wild_high"] > rows["estimate"]).all()
    inside = (rows["wild_low"] < 0) & (rows["wild_high"] > 0)
    np.testing.assert_array_equal(inside, rows["wild_p_value"] > 0.05)
    assert est.frame.loc[est.frame["event_time"] == -1, "wild_p_value"].isna().all()
    assert est.meta["wild"]["drawn"] == ["rademacher, 499 draws"]
    tested = (est.frame["event_time"] != -1).to_numpy()
    table = est.tidy()
    np.testing.assert_array_equal(table["p_value"][tested], rows["wild_p_value"])
    np.testing.assert_array_equal(table["conf_low"][tested], rows["wild_low"])
    assert est.tidy(level=0.9)["conf_high"][tested].isna().all()
    turned = est.scale(-2.0, unit_of_measure="halves").tidy()
    np.testing.assert_array_equal(turned["conf_low"][tested], -2 * rows["wild_high"])
    # the sum of two rows has no wild test; it has that of the influence
    both = est.contrast({"sum": {0: 1.0, 1: 1.0}}).tidy()
    assert both["p_value"].notna().all()
    with pytest.raises(vbc.EstimationError, match="weights_random=False"):
        DID.ETWFE(weights_random=True).fit(
            panel_of(frame, strata=[]), vbc.Design(outcome="y", covariates=["x"]), vcov="wild"
        )


def test_options_of_the_wild_bootstrap() -> None:
    draws, law = Wild(draws=999).multipliers(10)
    assert law == "all sign patterns"
    assert draws.shape == (512, 10)
    assert len(np.unique(draws, axis=0)) == 512
    np.testing.assert_array_equal(draws[0], 1)
    assert Wild(draws=99).multipliers(10)[1] == "webb"
    assert Wild(draws=99).multipliers(40)[1] == "rademacher"
    webb = Wild(draws=9999, weights="webb").multipliers(10)[0]
    assert webb.mean() == pytest.approx(0, abs=0.02)
    assert webb.var() == pytest.approx(1, abs=0.02)
    for wrong in ({"draws": 10}, {"weights": "mammen"}, {"level": 1.0}):
        with pytest.raises(vbc.DesignError):
            Wild(**wrong)


def test_stacked_leaves_out_cohorts_and_says_why(frame) -> None:
    est = DID.Stacked().fit(panel_of(frame, strata=[]), vbc.Design(outcome="y", window=(-3, 1)))
    assert est.meta["dropped_cohorts"] == {2013.0: "its window is not inside the data"}
    assert set(est.meta["control_weights"]) == {2014.0}
    widest = DID.Stacked().fit(panel_of(frame, strata=[]), Y)
    assert widest.meta["window"] == (-2, 2)
    never = vbc.Design(outcome="y", window=(-1, 0), comparison="never_treated")
    rows = DID.Stacked().fit(panel_of(frame, strata=[]), never).meta["rows_in_stack"]
    assert rows == 2 * (10 + 20) * 2


def test_triple_difference_options(frame) -> None:
    rows = [frame.assign(site=s) for s in ("a", "b")]
    data = pd.concat(rows).assign(y=lambda f: f["y"] + (f["site"] == "b") * f["x"])
    panel = panel_of(data, strata=["site"])
    b = DID.TripleDifference(by="site").fit(panel, Y)
    a = DID.TripleDifference(by="site", level="a").fit(panel, Y)
    np.testing.assert_allclose(a.estimate, -b.estimate, atol=1e-10)
    assert b.meta["level"] == "b"
    assert b.aggregate("simple").estimate.shape == (1,)
    static = DID.TripleDifference(by="site", effect="static").fit(panel, Y)
    assert len(static) == 1
    with pytest.raises(vbc.DesignError, match="no stratum"):
        DID.TripleDifference(by="dual").fit(panel, Y)
    with pytest.raises(vbc.DesignError, match="`level` is 'c'"):
        DID.TripleDifference(by="site", level="c").fit(panel, Y)
    with pytest.raises(vbc.DesignError, match="never_treated"):
        DID.TripleDifference(by="site").fit(panel, vbc.Design(outcome="y", covariates=["x"]))
    three = pd.concat([data, frame.assign(site="c")])
    with pytest.raises(vbc.DesignError, match="3 levels"):
        DID.TripleDifference(by="site").fit(panel_of(three, strata=["site"]), Y)


def test_small_counts_of_people_are_missing(frame) -> None:
    data = frame.assign(market=frame["unit"] // 4)
    data["cohort"] = np.where(data["market"] == 0, 2014.0, np.nan)
    panel = panel_of(data, cluster="market", strata=[])
    est = DID.EventStudy().fit(panel, Y)
    assert panel.people
    assert est.frame["n_treated"].isna().all()
    assert est.frame["n_units"].isna().all()


def test_balance_weights_are_weights(frame) -> None:
    given = dict(enumerate(np.random.default_rng(0).uniform(0.5, 2, 40)))
    one = DID.EventStudy().fit(
        panel_of(frame, strata=[]), vbc.Design(outcome="y", balance_weights=given), vcov="CR2"
    )
    scaled = frame.assign(w=frame["w"] * frame["unit"].map(given))
    two = DID.EventStudy().fit(panel_of(scaled, strata=[]), Y, vcov="CR2")
    np.testing.assert_allclose(one.estimate, two.estimate, atol=1e-12)
    np.testing.assert_allclose(one.vcov(), two.vcov(), atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "design", "said"),
    [
        (DID.TWFE(), {"comparison": "never_treated"}, "never_treated"),
        (DID.TWFE(), {"base_period": "universal"}, "no base period"),
        (DID.ETWFE(), {"base_period": "universal"}, "no base period"),
        (DID.EventStudy(), {"comparison": "never_treated"}, "never_treated"),
        (DID.EventStudy(reference=-9), {}, "time `-9` is not observed"),
        (DID.EventStudy(reference=(-9, -8)), {}, "times `-9`, `-8` are not observed"),
        (DID.TWFE(), {"fixed_effects": ("year",)}, "no key"),
        (DID.EventStudy(), {"window": (-3, -1)}, "after entry"),
        (DID.SunAbraham(), {"window": (-3, -1)}, "after entry"),
        (DID.Stacked(), {"window": (0, 2)}, "must reach"),
        (DID.Stacked(), {"window": (-9, 9)}, "no sub-experiment"),
    ],
)
def test_refusals(frame, estimator, design, said) -> None:
    with pytest.raises(vbc.DesignError, match=said):
        estimator.fit(panel_of(frame, strata=[]), vbc.Design(outcome="y", **design))


@pytest.mark.parametrize(
    ("vcov", "ssc", "said"),
    [
        ("HC3", None, "regressions know"),
        ("CR2", SSC.fixest(), "leave `ssc` out"),
        (("two_way", "unit", "site"), None, "no key"),
    ],
)
def test_refused_covariances(frame, vcov, ssc, said) -> None:
    with pytest.raises((vbc.EstimationError, vbc.DesignError), match=said):
        DID.TWFE().fit(panel_of(frame, strata=[]), Y, vcov=vcov, ssc=ssc)


@every
def test_data_that_cannot_be_used(estimator, frame) -> None:
    with pytest.raises(vbc.DesignError, match="1 cluster"):
        estimator.fit(panel_of(frame.assign(k=1), cluster="k"), Y)
    with pytest.raises(vbc.DesignError):
        estimator.fit(panel_of(frame[frame["period"] == 2014]), Y)
    with pytest.raises(vbc.DesignError):
        estimator.fit(panel_of(frame.assign(cohort=np.nan)), Y)
    before = frame.copy()
    estimator.fit(panel_of(frame), Y)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DID.EventStudy(reference=0),
        lambda: DID.EventStudy(reference=()),
        lambda: DID.EventStudy(endpoints="drop"),
        lambda: DID.Stacked(share="units"),
        lambda: DID.TripleDifference(by="dual", effect="dynamic"),
    ],
)
def test_wrong_options(wrong) -> None:
    with pytest.raises(vbc.DesignError):
        wrong()
