"""Changes-in-changes against its formulas on rows, written a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import vbceval as vbc
from vbceval.did import ChangesInChanges

KEYS = {"unit": "id", "period": "year", "cohort": "entry"}
GRID = np.arange(0.1, 0.91, 0.1)
DESIGN = vbc.Design(outcome="y")


@pytest.fixture
def draw() -> Callable[..., pd.DataFrame]:
    """Skewed outcomes of followed people, two groups and two years, twelve to a cluster."""

    def made(seed: int = 1, n: int = 480, *, round_to: float = 0.0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        i = np.repeat(np.arange(n), 2)
        year = np.tile([2015, 2016], n)
        treated = i % 24 < 12
        own = rng.standard_normal(n)[i] + 0.2 * treated
        e = 0.7 * own + 0.6 * rng.standard_normal(2 * n)
        y = np.exp(np.where(year == 2015, 5 + 0.7 * e, 5.3 + 0.8 * e))
        y = y - 20.0 * (treated & (year == 2016))
        if round_to:
            y = np.floor(y / round_to) * round_to
        return pd.DataFrame({
            "id": i, "year": year, "entry": np.where(treated, 2016.0, np.nan), "y": y,
            "x": rng.standard_normal(n)[i] + 0.3 * treated, "w": rng.integers(1, 4, n)[i],
            "aco": i // 12,
        })  # fmt: skip

    return made


def panel(d: pd.DataFrame, **options) -> vbc.Panel:
    return vbc.Panel.from_frame(d, **KEYS, **options)


def groups(d: pd.DataFrame, y: str = "y") -> dict[str, np.ndarray]:
    on = d["entry"].notna()
    return {
        f"{'t' if t else 'c'}{p}": d.loc[(on == t) & (d["year"] == 2015 + p), y].to_numpy()
        for t in (True, False) for p in (0, 1)
    }  # fmt: skip


def ecdf(sample: np.ndarray, at: np.ndarray) -> np.ndarray:
    return (sample[None, :] <= np.atleast_1d(at)[:, None]).mean(axis=1)


def inverse(sample: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Smallest value of the sample whose distribution function reaches u (type 1 of R)."""
    values = np.sort(sample)
    upto = np.arange(1, len(values) + 1) / len(values)
    return np.array([values[np.argmax(upto >= min(v, 1.0) - 1e-12)] for v in np.atleast_1d(u)])


def test_formula_on_rows(draw) -> None:
    d = draw()
    s = groups(d)
    without = inverse(s["c1"], ecdf(s["c0"], s["t0"]))
    est = ChangesInChanges(quantiles=GRID).fit(panel(d), DESIGN)
    assert est.estimate[0] == pytest.approx(s["t1"].mean() - without.mean(), rel=1e-12)
    np.testing.assert_allclose(est.estimate[1:], inverse(s["t1"], GRID) - inverse(without, GRID))
    assert est.frame["quantile"].tolist()[1:] == GRID.tolist()
    assert est.meta["exactness"] == "rows"


def test_quantile_did_on_rows(draw) -> None:
    """The formulas of R qte: interpolated quantiles, ranks of the treated."""
    d = draw()
    s = groups(d)
    est = ChangesInChanges(method="qdid", quantiles=GRID).fit(panel(d), DESIGN)
    q = {k: np.quantile(v, GRID) for k, v in s.items()}
    expected = q["t1"] - q["t0"] - q["c1"] + q["c0"]
    np.testing.assert_allclose(est.estimate[1:], expected, rtol=1e-10)
    rank = ecdf(s["t0"], s["t0"])
    change = np.quantile(s["c1"], rank) - np.quantile(s["c0"], rank)
    assert est.estimate[0] == pytest.approx(
        s["t1"].mean() - s["t0"].mean() - change.mean(), rel=1e-10
    )
    plain = ChangesInChanges(method="qdid", quantiles=GRID, quantile_type="inverse")
    q = {k: inverse(v, GRID) for k, v in s.items()}
    np.testing.assert_allclose(
        plain.fit(panel(d), DESIGN).estimate[1:], q["t1"] - q["t0"] - q["c1"] + q["c0"], rtol=1e-12
    )


@pytest.mark.parametrize("most", [2, 6])
def test_quantile_did_of_values_that_every_row_shares(draw, most) -> None:
    """Counts: no value occurs once, and interpolation is between rows all the same."""
    d = draw()
    d["y"] = (d["y"] / 120).astype(int).clip(0, most - 1)
    s = groups(d)
    assert all(np.unique(v, return_counts=True)[1].min() > 1 for v in s.values())
    est = ChangesInChanges(method="qdid", quantiles=GRID).fit(panel(d), DESIGN)
    q = {k: np.quantile(v, GRID) for k, v in s.items()}
    expected = q["t1"] - q["t0"] - q["c1"] + q["c0"]
    np.testing.assert_allclose(est.estimate[1:], expected, atol=1e-12)
    rank = ecdf(s["t0"], s["t0"])
    change = np.quantile(s["c1"], rank) - np.quantile(s["c0"], rank)
    mean = s["t1"].mean() - s["t0"].mean() - change.mean()
    assert est.estimate[0] == pytest.approx(mean, rel=1e-10)


def test_a_constant_change_is_difference_in_differences(draw) -> None:
    """Each treated person has the outcome of a comparison person, which moves by the same amount."""
    d = draw()
    base = d["y"].groupby(d["id"]).transform("first")
    base = base.where(d["entry"].isna(), base.shift(-24))
    d["y"] = base + 7.0 * (d["year"] == 2016) - 3.0 * (d["year"] >= d["entry"])
    est = ChangesInChanges().fit(panel(d), DESIGN)
    np.testing.assert_allclose(est.estimate, -3.0, rtol=1e-10)


def test_increasing_transformations_do_not_matter(draw) -> None:
    """What would have been without treatment is the same on any scale."""
    d = draw()
    cic = ChangesInChanges(quantiles=GRID)
    shift = d.assign(y=d["y"] + 21)  # positive
    log = shift.assign(y=np.log(shift["y"]))
    without = [
        inverse(groups(f)["t1"], GRID) - cic.fit(panel(f), DESIGN).estimate[1:]
        for f in (shift, log)
    ]
    np.testing.assert_allclose(without[0], np.exp(without[1]), rtol=1e-10)


@pytest.mark.parametrize("step", [50.0, 400.0])
def test_ties_and_bounds(draw, step) -> None:
    """Distribution functions of Theorems 4.1 and 4.2, evaluated value by value."""
    d = draw(round_to=step)
    before = d[d["year"] == 2015].set_index("id")
    known = before["y"].isin(before.loc[before["entry"].isna(), "y"]) | before["entry"].isna()
    d = d[d["id"].map(known)]
    s = groups(d)
    support = np.unique(np.concatenate(list(s.values())))
    f = {k: ecdf(v, support) for k, v in s.items()}

    def law(kind: str) -> np.ndarray:
        """Distribution function of the outcome without treatment at each value of the support."""
        out = []
        for u in f["c1"]:
            reach = np.flatnonzero(f["c0"] >= u - 1e-12)
            first = reach[0] if len(reach) else len(support) - 1
            under = np.flatnonzero(f["c0"] <= u + 1e-12)
            high = f["t0"][first]
            low = f["t0"][under[-1]] if len(under) else 0.0
            if kind == "upper":
                out.append(high)
            elif kind == "lower":
                out.append(low)
            else:
                a = f["c0"][under[-1]] if len(under) else 0.0
                b = f["c0"][first]
                out.append(low + (high - low) * ((u - a) / (b - a) if b > a else 0.0))
        return np.array(out)

    values = np.unique(s["c1"])
    for ties, kind in (("lower", "lower"), ("upper", "upper"), ("independent", "middle")):
        est = ChangesInChanges(ties=ties, quantiles=(), most_outside=1.0).fit(panel(d), DESIGN)
        upto = law(kind)[np.searchsorted(support, values)]
        upto[-1] = 1.0
        mean = values @ np.diff(upto, prepend=0.0)
        assert est.estimate[0] == pytest.approx(s["t1"].mean() - mean, abs=1e-9), ties
        low, high = est.frame[["bound_low", "bound_high"]].iloc[0]
        assert low - 1e-9 <= est.estimate[0] <= high + 1e-9
    same = ChangesInChanges(quantiles=()).fit(panel(d), DESIGN)
    lower = ChangesInChanges(quantiles=(), ties="lower").fit(panel(d), DESIGN)
    np.testing.assert_array_equal(same.estimate, lower.estimate)


@pytest.mark.parametrize("method", ["cic", "qdid"])
def test_influence_agrees_with_the_bootstrap(draw, method) -> None:
    d = draw(seed=4, n=1200)
    options = {"method": method, "quantiles": (0.25, 0.5, 0.75)}
    whole = panel(d, cluster="aco")
    est = ChangesInChanges(**options).fit(whole, DESIGN, vcov="CR0")
    drawn = ChangesInChanges(**options, draws=200).fit(whole, DESIGN)
    assert drawn.interval == "confidence"
    np.testing.assert_allclose(est.std_error, drawn.std_error, rtol=0.35)
    np.testing.assert_array_equal(est.estimate, drawn.estimate)
    np.testing.assert_allclose(est.influence().sum(), 0, atol=1e-9 * np.abs(est.estimate).max())
    # what happens to one row alone leaves its cluster's influence: rows are added up by cluster
    rows = ChangesInChanges(**options).fit(panel(d), DESIGN, vcov="CR0").influence()
    by_cluster = rows.groupby(d.drop_duplicates("id").set_index("id")["aco"]).sum()
    np.testing.assert_allclose(est.influence().loc[by_cluster.index], by_cluster, atol=1e-9)


def test_covariates_are_taken_out_within_groups(draw) -> None:
    d = draw()
    d["y"] = d["y"] + 30 * d["x"]
    cell = d["entry"].notna() * 2 + (d["year"] == 2016)
    z = np.column_stack([pd.get_dummies(cell).to_numpy(float), d["x"]])
    beta = sm.OLS(d["y"], z).fit().params.to_numpy()[-1]
    by_hand = ChangesInChanges().fit(panel(d.assign(y=d["y"] - beta * d["x"])), DESIGN)
    adjusted = ChangesInChanges().fit(panel(d), vbc.Design(outcome="y", covariates=["x"]))
    np.testing.assert_allclose(adjusted.estimate, by_hand.estimate, rtol=1e-9)
    assert not np.allclose(adjusted.std_error, by_hand.std_error, rtol=1e-4)
    drawn = ChangesInChanges(quantiles=[0.5], draws=100).fit(
        panel(d), vbc.Design(outcome="y", covariates=["x"])
    )
    np.testing.assert_allclose(adjusted.std_error[[0, 3]], drawn.std_error, rtol=0.35)
    with pytest.raises(vbc.EstimationError, match="are collinear with others"):
        ChangesInChanges().fit(
            panel(d.assign(twice=2 * d["x"])), vbc.Design(outcome="y", covariates=["x", "twice"])
        )


def test_weights_are_repeated_rows(draw) -> None:
    d = draw()
    for method in ("cic", "qdid"):
        options = ChangesInChanges(
            method=method, quantile_type=None if method == "cic" else "inverse"
        )
        weighted = options.fit(panel(d, weight="w"), DESIGN, vcov="CR0")
        times = d.loc[d.index.repeat(d["w"])].copy()
        times["copy"] = times["id"] * 10 + times.groupby(["id", "year"]).cumcount()
        rows = vbc.Panel.from_frame(times, unit="copy", period="year", cohort="entry", cluster="id")
        repeated = options.fit(rows, DESIGN, vcov="CR0")
        np.testing.assert_allclose(weighted.estimate, repeated.estimate, rtol=1e-10)
        # the step of slopes follows the effective number of rows
        np.testing.assert_allclose(weighted.std_error, repeated.std_error, rtol=0.15)
    with pytest.raises(vbc.EstimationError, match="rows that weigh the same"):
        ChangesInChanges(method="qdid", quantile_type="linear").fit(panel(d, weight="w"), DESIGN)


def test_row_order_names_and_units_of_measure(draw) -> None:
    d = draw()
    est = ChangesInChanges().fit(panel(d), DESIGN)
    names = d.assign(id=[f"p{(i * 37) % 1000:04d}" for i in d["id"]]).sample(frac=1, random_state=2)
    other = ChangesInChanges().fit(panel(names), DESIGN)
    np.testing.assert_array_equal(other.estimate, est.estimate)
    np.testing.assert_allclose(other.std_error, est.std_error, rtol=1e-10)
    scaled = ChangesInChanges().fit(panel(d.assign(y=100 * d["y"])), DESIGN)
    np.testing.assert_allclose(scaled.estimate, 100 * est.estimate, rtol=1e-10)
    np.testing.assert_allclose(scaled.std_error, 100 * est.std_error, rtol=1e-8)


@pytest.mark.parametrize("method", ["cic", "qdid"])
def test_errors_follow_the_unit_where_most_outcomes_are_zero(draw, method) -> None:
    d = draw()
    d["y"] = d["y"].where(d["y"] > d["y"].quantile(0.85), 0.0)
    est = ChangesInChanges(method=method, quantiles=[0.5, 0.9, 0.95])
    one, cents = (est.fit(panel(d.assign(y=k * d["y"])), DESIGN) for k in (1, 1e6))
    np.testing.assert_allclose(cents.estimate, 1e6 * one.estimate, rtol=1e-10)
    np.testing.assert_allclose(cents.std_error, 1e6 * one.std_error, rtol=1e-8)


@pytest.fixture
def staggered() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    i, t = np.repeat(np.arange(300), 4), np.tile(np.arange(2013, 2017), 300)
    entry = np.array([2015.0, 2016.0, np.nan])[i % 3]
    y = np.exp(4 + 0.5 * rng.standard_normal(300)[i] + 0.4 * rng.standard_normal(1200))
    y = y * (1 + 0.05 * (t - 2013)) - 5 * (t >= entry)
    return pd.DataFrame({"id": i, "year": t, "entry": entry, "y": y, "dual": i % 2})


def test_staggered_cohorts_are_pairs(staggered) -> None:
    d = staggered
    for comparison in ("never_treated", "not_yet_treated"):
        design = vbc.Design(outcome="y", comparison=comparison, base_period="universal")
        est = ChangesInChanges(quantiles=[0.5]).fit(panel(d), design, vcov="CR0")
        later = (2016.0,) if comparison == "not_yet_treated" else ()
        own = d[
            d["year"].isin([2014, 2015]) & (d["entry"].isna() | d["entry"].isin([2015.0, *later]))
        ].assign(entry=lambda f: f["entry"].where(f["entry"] == 2015))
        pair = ChangesInChanges(quantiles=[0.5]).fit(
            panel(own), vbc.Design(outcome="y"), vcov="CR0"
        )
        one = est.where(cohort=2015, period=2015)
        np.testing.assert_allclose(one.estimate, pair.estimate, rtol=1e-12)
        np.testing.assert_allclose(one.std_error, pair.std_error, rtol=1e-10)
        base = est.where("period == base")
        assert (base.estimate == 0).all()
    average = est.aggregate("event_time")
    assert set(average.frame["outcome"]) == {"y", "y, quantile 0.5"}
    on = est.where("outcome == 'y' and event_time >= 0")
    assert est.aggregate("simple").estimate[0] == pytest.approx(on.estimate.mean(), rel=1e-10)


def test_strata(staggered) -> None:
    est = ChangesInChanges(quantiles=[0.5]).fit(panel(staggered, strata=["dual"]), DESIGN)
    part = est.where(stratum="dual=1")
    alone = ChangesInChanges(quantiles=[0.5]).fit(panel(staggered[staggered["dual"] == 1]), DESIGN)
    np.testing.assert_allclose(part.estimate, alone.estimate, rtol=1e-12)
    np.testing.assert_allclose(part.std_error, alone.std_error, rtol=1e-10)


@pytest.fixture
def from_table() -> Iterator[Callable[..., vbc.Moments]]:
    with vbc.connect("duckdb", threads=1) as engine:
        yield lambda d, **options: vbc.Moments.from_table(
            d, engine=engine, cluster="aco", period="year", cohort="entry", outcomes=["y"],
            unit="id", **options,
        )  # fmt: skip


def test_histograms_with_a_bin_for_each_value_are_the_rows(draw, from_table) -> None:
    d = draw(round_to=10.0)
    d = d.assign(y=(d["y"] / 10).astype(int).clip(0, 250))
    moments = from_table(d, histograms=["y"])
    rows = vbc.Panel.from_frame(d, **KEYS, cluster="aco", kind="repeated_cross_section")
    for ties in ("continuous", "independent", "upper"):
        a, b = (ChangesInChanges(ties=ties).fit(x, DESIGN) for x in (moments, rows))
        np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-10)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-8)
        np.testing.assert_allclose(a.frame["bound_low"], b.frame["bound_low"], rtol=1e-10)
    assert a.meta["exactness"] == "approximate"


def test_histograms_of_an_outcome_with_gaps(draw, from_table) -> None:
    d = draw(round_to=10.0)
    d = d.assign(y=(d["y"] / 10).astype(int).clip(0, 250))
    gaps = d.assign(y=d["y"].where(d["id"] % 7 > 0))
    whole = from_table(gaps, histograms={"y": np.arange(251)})
    kept = from_table(gaps.dropna(subset="y"), histograms={"y": np.arange(251)})
    a, b = (ChangesInChanges().fit(x, DESIGN) for x in (whole, kept))
    np.testing.assert_allclose(a.estimate, b.estimate, rtol=1e-12)


def test_clusters_with_several_cohorts_are_drawn_once(staggered) -> None:
    """A market may hold hospitals of every cohort; then markets are drawn from all markets."""
    d = staggered.assign(market=staggered["id"] // 6)
    whole = panel(d, cluster="market")
    est = ChangesInChanges(quantiles=()).fit(whole, DESIGN, vcov="CR0")
    drawn = ChangesInChanges(quantiles=(), draws=100).fit(whole, DESIGN)
    np.testing.assert_allclose(est.std_error, drawn.std_error, rtol=0.5)
    assert np.median(est.std_error / drawn.std_error) == pytest.approx(1.0, abs=0.2)


def test_bounds_of_histograms_hold(draw, from_table) -> None:
    d = draw(n=1200).assign(y=lambda f: f["y"].clip(0).round(2))
    moments = from_table(d, histograms=["y"], digits={"y": 2})
    rows = panel(d, cluster="aco")
    exact = ChangesInChanges().fit(rows, DESIGN)
    found = ChangesInChanges().fit(moments, DESIGN)
    assert (found.frame["bound_low"] <= exact.estimate + 1e-9).all()
    assert (found.frame["bound_high"] >= exact.estimate - 1e-9).all()
    # bins are 4 percent wide, but ranks and means within them are respected
    assert (np.abs(found.estimate - exact.estimate) < 0.5 * exact.std_error).all()
    np.testing.assert_allclose(found.std_error, exact.std_error, rtol=0.1)


@pytest.mark.parametrize("seed", [17, 21, 4])
def test_bounds_of_histograms_hold_at_the_lower_end_of_a_bin(from_table, seed) -> None:
    """A treated row may lie below all comparison rows of its bin; ranks within a mass are one."""
    rng = np.random.default_rng(seed)
    i, t = np.repeat(np.arange(400), 3), np.tile(np.arange(2014, 2017), 400)
    spend = np.exp(5 + 0.7 * rng.standard_normal(400)[i] + 0.6 * rng.standard_normal(1200))
    d = pd.DataFrame({
        "id": i, "year": t, "aco": i // 10, "entry": np.array([2015.0, 2016, np.nan, np.nan])[i // 10 % 4],
        "y": np.where(rng.random(1200) < 0.2, 0.0, spend).round(2),
    })  # fmt: skip
    moments = from_table(d, histograms=["y"], digits={"y": 2})
    for method in ("cic", "qdid"):
        q = np.arange(0.3, 0.96, 0.05)
        estimator = ChangesInChanges(
            method=method, quantiles=q, quantile_type="inverse" if method == "qdid" else None,
            most_outside=1.0,
        )  # fmt: skip
        rows = estimator.fit(panel(d, cluster="aco"), DESIGN)
        bins = estimator.fit(moments, DESIGN)
        inside = bins.frame[["bound_low", "bound_high"]].to_numpy()
        for held in (rows.estimate, bins.estimate):
            assert (inside[:, 0] <= held + 1e-9).all()
            assert (inside[:, 1] >= held - 1e-9).all()
        mean = bins.frame["quantile"].isna().to_numpy()
        assert (np.abs(bins.estimate - rows.estimate) < 0.3 * rows.std_error)[mean].all()


def test_mean_of_quantile_did_says_that_a_mass_moves_its_rank(draw) -> None:
    """Its influence is that of the difference-in-differences of means, without ranks of zeros."""
    d = draw()
    zeros = d.assign(y=d["y"].where(d["y"] > d["y"].quantile(0.3), 0.0))
    estimator = ChangesInChanges(method="qdid", quantiles=[0.5])
    found = estimator.fit(panel(zeros), DESIGN)
    assert found.frame["note"].tolist()[0].startswith("many treated outcomes before entry share")
    assert any("use draws=" in w for w in found.meta["warnings"])
    for other in (
        estimator.fit(panel(d), DESIGN),
        estimator.fit(panel(zeros), vbc.Design(outcome="y", covariates=["x"])),
        ChangesInChanges(method="qdid", quantiles=(), draws=100).fit(panel(zeros), DESIGN),
        ChangesInChanges(quantiles=()).fit(panel(zeros), DESIGN),
    ):
        assert not any("use draws=" in w for w in other.meta["warnings"])


def test_refusals(draw, staggered, from_table) -> None:
    d = draw()
    for options, message in (
        ({"method": "median"}, "`method` is 'median'"),
        ({"quantiles": [0.0]}, "strictly between 0 and 1"),
        ({"ties": "upper", "method": "qdid"}, "`ties` is an option"),
        ({"quantile_type": "linear"}, "maps ranks to outcomes that occur"),
        ({"draws": 5}, "at least 100"),
        ({"quantiles": 0.5}, r"give a sequence of probabilities, as \[0.5\]"),
        ({"quantiles": [0.5, 0.5000000001]}, "would have the same name"),
    ):
        with pytest.raises(vbc.DesignError, match=message):
            ChangesInChanges(**options)
    with pytest.raises(vbc.DesignError, match="leave `fixed_effects` out"):
        ChangesInChanges().fit(panel(d), vbc.Design(outcome="y", fixed_effects=("unit",)))
    with pytest.raises(vbc.EstimationError, match="`vcov` and `ssc` would be ignored"):
        ChangesInChanges(draws=100).fit(panel(d), DESIGN, vcov="CR0")
    far = d.assign(y=d["y"] + 1e6 * d["entry"].notna())
    with pytest.raises(vbc.EstimationError, match="100% of treated outcomes before entry"):
        ChangesInChanges().fit(panel(far), DESIGN)
    empty = "cohort 2015 at period 2016: no comparison rows"
    for comparison in ("not_yet_treated", "never_treated"):
        design = vbc.Design(outcome="y", comparison=comparison)
        with pytest.raises(vbc.DesignError, match=empty) as caught:
            ChangesInChanges().fit(panel(staggered[staggered["entry"].notna()]), design)
        wider = "use comparison='not_yet_treated'" in str(caught.value)
        assert wider == (comparison == "never_treated")
    few = d[(d["id"] < 9) | d["entry"].isna()]
    with pytest.raises(vbc.DesignError, match="fewer than 11 people"):
        ChangesInChanges().fit(panel(few, cluster="aco"), DESIGN)
    with pytest.raises(vbc.DesignError, match="fewer than 11 people"):
        ChangesInChanges(most_outside=1).fit(from_table(few, histograms=["y"]), DESIGN)
    ChangesInChanges(quantiles=(), most_outside=1).fit(panel(few), DESIGN)
    with pytest.raises(
        vbc.EstimationError, match=r"take the moments again with histograms=\['y'\]"
    ):
        ChangesInChanges().fit(from_table(d), DESIGN)
    with pytest.raises(vbc.DesignError, match="1 cluster"):
        ChangesInChanges().fit(panel(d.assign(all=1), cluster="all"), DESIGN)
    with pytest.raises(vbc.DesignError):
        ChangesInChanges().fit(panel(d[d["year"] == 2016]), DESIGN)


@pytest.mark.parametrize("method", ["cic", "qdid"])
def test_one_cluster_a_side_shows_no_error(draw, method) -> None:
    """The sum over a group of distances to its mean is rounding, and no standard error."""
    d = draw()
    whole = panel(d.assign(side=d["entry"].notna().astype(int)), cluster="side", people=False)
    table = ChangesInChanges(method=method).fit(whole, DESIGN).tidy()
    assert table["estimate"].notna().all()
    assert table[["std_error", "p_value"]].isna().all().all()
    with pytest.raises(vbc.EstimationError, match="every cohort has one cluster"):
        ChangesInChanges(method=method, draws=100).fit(whole, DESIGN)


def test_bootstrap_samples_that_lack_a_group_are_named(draw) -> None:
    """Visits in clusters of one year: a sample may have none after entry."""
    d = draw(n=60).assign(visit=np.arange(120))
    d["site"] = d["aco"] * 10 + (d["year"] - 2015)
    visits = vbc.Panel.from_frame(
        d, unit="visit", period="year", cohort="entry", cluster="site",
        kind="repeated_cross_section", people=False,
    )  # fmt: skip
    with pytest.raises(vbc.EstimationError, match="bootstrap sample of clusters cannot") as caught:
        ChangesInChanges(draws=100, most_outside=1).fit(visits, DESIGN)
    assert "it has no treated rows" in str(caught.value)
    rare = d.assign(rare=(d["id"] == 3) * 1.0)
    with pytest.raises(vbc.EstimationError, match="cannot be estimated: covariates `rare`"):
        ChangesInChanges(draws=100, most_outside=1, quantiles=()).fit(
            panel(rare), vbc.Design(outcome="y", covariates=["rare"])
        )


def test_covariates_that_explain_the_outcome_whole(draw) -> None:
    """Coefficients without error move nothing; they gave missing influences and a warning."""
    d = draw().assign(x=lambda f: (f["id"] % 7).astype(float))
    found = ChangesInChanges().fit(
        panel(d.assign(y=2 * d["x"])), vbc.Design(outcome="y", covariates=["x"])
    )
    np.testing.assert_allclose(found.estimate, 0.0, atol=1e-12)
    assert np.isfinite(found.influence().to_numpy()).all()
