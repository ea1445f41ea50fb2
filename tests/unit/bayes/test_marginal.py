"""The likelihood with everything integrated out is the dense one, and so are its derivatives."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import vbceval as vbc
from vbceval.bayes import elimination, marginal
from vbceval.bayes.cells import Cells, from_moments
from vbceval.bayes.coefficients import Reference, place, pull_back, reference, split, structure
from vbceval.bayes.counts import curvature
from vbceval.bayes.draws import prior_effects
from vbceval.bayes.layout import arrange
from vbceval.bayes.likelihood import Scales, density, joint
from vbceval.bayes.marginal import compiled
from vbceval.bayes.model import active_scales, build
from vbceval.bayes.priors import Priors
from vbceval.core.errors import DesignError


def random_cells(seed: int) -> pd.DataFrame:
    """Clusters of unequal length, some with restated units, blocks with holes, odd sizes."""
    rng = np.random.default_rng(seed)
    rows = []
    for cluster in range(21):
        length = 2 + cluster % 4
        for unit in range(1 + cluster % 2):
            for stratum in range(3):
                if rng.random() < 0.15:
                    continue
                for t in range(length):
                    if rng.random() < 0.1:
                        continue
                    period = t + 2 * (unit == 1 and t == length - 1)
                    treated = cluster < 12 and t == length - 1
                    rows.append(
                        (cluster, stratum, 2 * cluster + unit, period, rng.uniform(0.2, 3), treated)
                    )
    names = ["cluster", "stratum", "unit", "period", "precision", "treated"]
    frame = pd.DataFrame(rows, columns=names).astype({"period": float, "treated": float})
    return frame.assign(cluster=pd.factorize(frame["cluster"])[0])


def dense(
    frame: pd.DataFrame, r: np.ndarray, phi, shared, scales, stretch=None
) -> tuple[float, np.ndarray]:
    """Log density of contrasts free of block intercepts, and V^-1 r projected, by dense algebra."""
    specific, common, lasting, rho = scales
    c, s, u, t, w, d = (frame[k].to_numpy() for k in frame)
    same_c, same_s, same_t = (x[:, None] == x for x in (c, s, t))
    corr = rho ** np.abs(t[:, None] - t)
    stretch = np.ones((c.max() + 1, s.max() + 2)) if stretch is None else stretch
    v = np.diag(1 / (phi[s] * w)) + same_c * lasting * np.outer(d, d)
    v += same_c * common * corr * stretch[c, :1]
    v += same_c * same_s * specific * corr * stretch[c, s + 1][:, None]
    spread = (1 / frame["precision"]).groupby([c, s, t]).transform("mean").to_numpy()
    v += same_c * same_s * same_t * (shared[s] * spread)[:, None]
    blocks = pd.factorize(pd.Series(list(zip(c, s, u, strict=True))))[0]
    z = np.eye(blocks.max() + 1)[blocks]
    inverse = np.linalg.inv(v)
    inner = z.T @ inverse @ z
    p = inverse - inverse @ z @ np.linalg.solve(inner, z.T @ inverse)
    dof = len(r) - z.shape[1]
    logs = np.linalg.slogdet(v)[1] + np.linalg.slogdet(inner)[1]
    return -0.5 * (dof * np.log(2 * np.pi) + logs + r @ p @ r), p @ r


def ones(frame: pd.DataFrame) -> np.ndarray:
    """Shocks of no cluster and no stratum are stretched."""
    return np.ones((frame["cluster"].nunique(), 4))


POINTS = [
    (np.array([1.0, 2.0, 0.4]), np.array([0.3, 0.1, 0.8]), np.array([0.5, 0.8, 0.4, 0.6])),
    (np.array([0.7, 1.1, 2.0]), np.array([0.1, 0.6, 0.2]), np.array([1.5, 0.2, 1.4, -0.3])),
    (np.array([1.3, 0.9, 1.0]), np.zeros(3), np.array([0.0, 0.0, 0.0, 0.0])),
]


@pytest.mark.parametrize("point", range(len(POINTS)))
def test_likelihood_is_the_dense_multivariate_normal(point: int) -> None:
    frame = random_cells(point)
    layout, order = arrange(**{k: frame[k].to_numpy() for k in frame})
    residual = np.random.default_rng(9).normal(size=len(frame)) * 2
    found = compiled()(residual[order], *POINTS[point], ones(frame), layout)
    value, score = dense(frame, residual, *POINTS[point])
    assert found[0].sum() == pytest.approx(value, abs=1e-8)
    # by eta: the residual has the other sign
    assert found[1] == pytest.approx(score[order], abs=1e-8)


def test_likelihood_of_a_cluster_does_not_depend_on_the_others() -> None:
    frame = random_cells(1)
    residual = np.random.default_rng(2).normal(size=len(frame))
    layout, order = arrange(**{k: frame[k].to_numpy() for k in frame})
    together = compiled()(residual[order], *POINTS[0], ones(frame), layout)[0]
    for cluster in (0, 7, 19):
        own = (frame["cluster"] == cluster).to_numpy()
        assert together[cluster] == pytest.approx(
            dense(frame[own].reset_index(drop=True), residual[own], *POINTS[0])[0], abs=1e-8
        )


def test_derivatives_by_variances_are_those_of_the_dense_likelihood() -> None:
    frame = random_cells(3)
    layout, order = arrange(**{k: frame[k].to_numpy() for k in frame})
    residual = np.random.default_rng(4).normal(size=len(frame))
    point = POINTS[0]
    found = compiled()(residual[order], *point, ones(frame), layout)
    for which, slopes in enumerate(found[2:5]):
        for i in range(len(point[which])):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [x.copy() for x in point]
                moved[which][i] += step
                ends.append(dense(frame, residual, *moved)[0])
            assert slopes[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_shocks_may_vary_by_cluster_and_stratum() -> None:
    frame = random_cells(4)
    layout, order = arrange(**{k: frame[k].to_numpy() for k in frame})
    rng = np.random.default_rng(12)
    residual, stretch = rng.normal(size=len(frame)), rng.uniform(0.2, 6, ones(frame).shape)
    phi, shared, scales = POINTS[1]
    found = compiled()(residual[order], phi, shared, scales, stretch, layout)
    value, score = dense(frame, residual, phi, shared, scales, stretch)
    assert found[0].sum() == pytest.approx(value, abs=1e-8)
    assert found[1] == pytest.approx(score[order], abs=1e-8)
    for at in ((0, 0), (0, 3), (7, 2), (19, 1)):
        step = np.zeros(stretch.shape)
        step[at] = 1e-5
        ends = [dense(frame, residual, phi, shared, scales, stretch + k * step)[0] for k in (1, -1)]
        assert found[6][at] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)
    for k in range(4):
        step = 1e-5 * np.eye(4)[k]
        ends = [dense(frame, residual, phi, shared, scales + x * step, stretch)[0] for x in (1, -1)]
        assert found[4][k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-6)


def test_own_effect_of_a_cluster_is_its_conditional_normal_law() -> None:
    frame = random_cells(5)
    layout, order = arrange(**{k: frame[k].to_numpy() for k in frame})
    residual = np.random.default_rng(6).normal(size=len(frame))
    phi, shared, scales = POINTS[0]
    own = compiled()(residual[order], phi, shared, scales, ones(frame), layout)[5]
    d = frame["treated"].to_numpy() * (frame["cluster"] == 3).to_numpy()
    columns = [dense(frame, x, phi, shared, scales)[1] for x in (residual, d)]
    # theta ~ N(0, t2), cov(theta, y) = t2 d: mean = t2 d'V^-1 r, variance = t2 - t2^2 d'V^-1 d
    lasting = scales[2]
    assert own[3, 0] == pytest.approx(lasting * d @ columns[0], abs=1e-10)
    assert own[3, 1] ** 2 == pytest.approx(lasting - lasting**2 * d @ columns[1], abs=1e-10)


def two_strata(*, within: bool = False) -> tuple[Cells, pd.DataFrame]:
    """Cells of 12 organizations in two strata, with restated years, or of people within them."""
    rng = np.random.default_rng(11)
    rows = []
    for i in range(12):
        entry = 2016.0 + i % 2 if i < 8 else np.nan
        for unit in range(1 if within else 2):
            for s in ("a", "b"):
                for t in range(2013, 2018):
                    for _ in range(int(rng.integers(2, 5)) if within else 1):
                        spend = rng.normal(9000 if s == "a" else 15000, 900)
                        size = 1.0 if within else rng.uniform(500, 5000)
                        rows.append((i, f"{i}-{unit}", s, t, entry, spend, size, 0.1 * i))
    names = ["aco", "unit", "s", "year", "entry", "spend", "size", "x"]
    frame = pd.DataFrame(rows, columns=names)
    if within:
        frame["unit"] = np.arange(len(frame))
    panel = vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="entry", cluster="aco", strata=["s"],
        weight="size", kind="repeated_cross_section" if within else "panel",
    )  # fmt: skip
    moments = vbc.Moments.from_panel(
        panel, outcomes=["spend"], covariates=["x"], by="cluster" if within else "row"
    )
    design = vbc.Design(outcome="spend", covariates=["x"])
    person = None if within else {"a": 18000.0, "b": 30000.0}
    return from_moments(moments, design, person_sd=person), frame


def frame_of(cells: Cells) -> pd.DataFrame:
    """Cells as `dense` takes them."""
    return pd.DataFrame(
        {"cluster": cells.cluster, "stratum": cells.stratum, "unit": cells.unit,
         "period": np.asarray(cells.periods)[cells.period], "precision": cells.layout.precision,
         "treated": cells.layout.treated}
    )  # fmt: skip


SCALES = Scales(
    parts=np.array([0.4, 0.6, 0.3, 0.2]), specific=np.array(0.8),
    common=np.array(1.7), lasting=np.array(0.9), rho=np.array(0.4), overlap=np.array(0.6),
    person=np.ones(2),
)  # fmt: skip


@pytest.fixture(scope="module")
def case() -> SimpleNamespace:
    cells, _ = two_strata()
    parts, priors = structure(cells), Priors()
    active = active_scales(cells, shocks="ar1", organizations=True)
    around = reference(cells, parts, priors, active)
    z = np.random.default_rng(8).normal(size=len(around.target))
    return SimpleNamespace(
        cells=cells, parts=parts, priors=priors, active=active, around=around, z=z
    )  # fmt: skip


def heavy_scales(case) -> Scales:
    """Variances of shocks by stratum and by organization, a scale of each coefficient."""
    rng = np.random.default_rng(13)
    return SCALES._replace(
        specific=np.array([0.8, 2.5]), stretch=rng.uniform(0.3, 4, len(case.cells.clusters)),
        local=rng.uniform(0.3, 2, len(case.parts.part)),
    )  # fmt: skip


def test_best_coefficients_are_those_of_dense_generalised_least_squares(case) -> None:
    """At fixed standard deviations the posterior of the coefficients is a known normal law."""
    cells, parts, priors = case.cells, case.parts, case.priors
    n = len(case.z)
    sds = np.concatenate([[priors.effect], SCALES.parts])[parts.part]
    frame = frame_of(cells)
    scales = (0.8, 1.7, 0.9, 0.4)
    phi, shared = np.full(2, 1 / 0.4), np.full(2, 0.6)
    columns = []
    for j in range(n):
        mean = split(parts, np.eye(n)[j], sds, 2, 1)
        columns.append(
            mean.period[cells.stratum, cells.period]
            + cells.x[:, 0] * mean.slope[0, cells.period]
            + np.append(mean.effect, 0.0)[cells.effect_of_cell]
        )
    x = np.array(columns).T
    width = len(cells.periods) - 1
    prior = np.concatenate([np.full(2 * width, 1e-4), np.full(width, 1 / 400), np.ones(len(sds))])
    weighted = np.array([dense(frame, c, phi, shared, scales)[1] for c in x.T]).T
    precision = x.T @ weighted + np.diag(prior)
    best = np.linalg.solve(precision, weighted.T @ cells.y)
    value, slope, _ = joint(cells, parts, priors, best, SCALES)
    assert slope == pytest.approx(np.zeros(n), abs=1e-7)
    step = np.random.default_rng(1).normal(size=n)
    lower = joint(cells, parts, priors, best + step, SCALES)[0]
    assert value - lower == pytest.approx(0.5 * step @ precision @ step, rel=1e-9)


@pytest.mark.parametrize("heavy", [False, True], ids=["plain", "heavy"])
def test_derivatives_of_the_sampled_density(case, heavy: bool) -> None:
    args = (case.cells, case.parts, case.priors, case.around)
    scales = heavy_scales(case) if heavy else SCALES
    _, by_z, by_scale = density(*args, case.z, scales)
    for i in (0, 9, 13, len(case.z) - 1):
        step = 1e-4 * np.eye(len(case.z))[i]
        ends = [density(*args, case.z + sign * step, scales)[0] for sign in (1, -1)]
        assert by_z[i] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5, abs=1e-5)
    for name in Scales._fields:
        value = getattr(scales, name)
        step = 1e-5 * (np.ones(()) if value.ndim == 0 else np.eye(len(value))[0])
        ends = [
            density(*args, case.z, scales._replace(**{name: value + sign * step}))[0]
            for sign in (1, -1)
        ]
        slope = getattr(by_scale, name)
        slope = slope if value.ndim == 0 else slope[0]
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-5), name


def test_coordinates_do_not_change_the_posterior(case) -> None:
    """The volume of the coordinates is accounted for, so another reference gives the same law."""
    other = Reference(2.0 * case.around.gram, case.around.target + 3.0)
    n = len(case.z)
    scale = np.ones(n)
    prior = np.full(n, 0.5)
    for around in (case.around, other):
        at = place(around, case.z, scale, prior)
        steps = [
            place(around, case.z + 1e-5 * e, scale, prior).v
            - place(around, case.z - 1e-5 * e, scale, prior).v
            for e in np.eye(n)
        ]
        volume = np.linalg.slogdet(np.array(steps) / 2e-5)[1]
        assert at.log_jacobian == pytest.approx(volume, abs=1e-6)
        f = np.random.default_rng(0).normal(size=n)
        by_scale = pull_back(around, at, f)[1]
        moved = [
            f @ (p := place(around, case.z, scale + h * np.eye(n)[2], prior)).v + p.log_jacobian
            for h in (1e-5, -1e-5)
        ]
        assert by_scale[2] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5)


def test_variation_within_cells_makes_the_likelihood_that_of_the_rows() -> None:
    """Cell means with sums of squares lose nothing: differences equal those of dense rows."""
    cells, frame = two_strata(within=True)
    parts, priors = structure(cells), Priors()
    code = frame["s"].map({"a": 0, "b": 1}).to_numpy()
    y = 100 * frame["spend"].to_numpy() / cells.baseline[code]
    rows = pd.DataFrame(
        {"cluster": frame["aco"], "stratum": code, "unit": frame["aco"],
         "period": frame["year"].astype(float), "precision": 1.0,
         "treated": (frame["year"] >= frame["entry"]).astype(float)}
    )  # fmt: skip
    assert len(cells.y) < len(rows)
    n = 2 * 4 + 4 + len(parts.part)
    v = np.zeros(n)
    ours, theirs = [], []
    for person in (np.array([8.0, 7.0]), np.array([11.0, 5.0])):
        point = SCALES._replace(person=person, overlap=np.zeros(()))
        ours.append(joint(cells, parts, priors, v, point)[0])
        scales = (0.8, 1.7, 0.9, 0.4)
        theirs.append(dense(rows, y, 1 / person**2, np.zeros(2), scales)[0])
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], rel=1e-9)


def test_prior_draws_have_the_stated_scale(case) -> None:
    draws = prior_effects(
        case.parts, Priors(effect=3.0, spread=1e-6), np.random.default_rng(3), 20_000
    )
    # four Monte Carlo standard errors of a standard deviation
    assert draws.std(axis=0) == pytest.approx(3.0, rel=4 / np.sqrt(2 * 20_000))
    assert np.ptp(draws, axis=1).max() < 1e-3


def test_sampled_model_is_the_density_times_the_stated_priors(case) -> None:
    """Every prior of the method card, by scipy; the priors of shocks are those of their sd."""
    model = build(case.cells, case.parts, case.priors, case.active, case.around, person_log_sd=0.5)
    person, rho = np.array([1.1, 0.8]), float(SCALES.rho)
    shocks = np.sqrt([float(SCALES.common), float(SCALES.specific)])
    change, own = shocks * np.sqrt(1 - rho), np.sqrt(float(SCALES.lasting))
    logp = model.compile_logp(jacobian=False, mode="FAST_COMPILE")(
        {
            "coordinates": case.z, "part_sd_log__": np.log(SCALES.parts),
            "rho_share_logodds__": special.logit((1 + rho) / 2),
            "common_shock_change_log__": np.log(change[0]),
            "stratum_shock_change_log__": np.log(change[1]),
            "organization_sd_log__": np.log(own),
            "overlap_logodds__": special.logit(float(SCALES.overlap)),
            "person_factor_log__": np.log(person),
        }
    )  # fmt: skip
    expected = density(
        case.cells, case.parts, case.priors, case.around, case.z, SCALES._replace(person=person)
    )[0]
    expected += stats.halfnorm(scale=1.0).logpdf(SCALES.parts).sum()
    expected += stats.beta(2, 2).logpdf((1 + rho) / 2)
    # sd = change / sqrt(1 - rho)
    expected += (stats.halfnorm(scale=5.0).logpdf(shocks) - 0.5 * np.log(1 - rho)).sum()
    expected += stats.halfnorm(scale=2.0).logpdf(own)
    expected += stats.lognorm(s=0.5).logpdf(person).sum()
    assert float(logp) == pytest.approx(expected, rel=1e-10)


def test_heavy_model_is_the_density_times_the_stated_priors(case) -> None:
    """Variances by stratum, Student t shocks, horseshoe: each prior by scipy, page beside."""
    active = active_scales(
        case.cells, shocks="ar1", organizations=True, by_stratum=True, student=True, horseshoe=True
    )
    model = build(case.cells, case.parts, case.priors, active, case.around)
    rng, n = np.random.default_rng(14), len(case.cells.clusters)
    own = np.flatnonzero(case.parts.part > 0)
    own = own[[case.parts.names[k] != "event_time" for k in case.parts.part[own]]]
    local, degrees, rho = np.abs(rng.standard_cauchy(len(own))), 4.5, float(SCALES.rho)
    log_w = rng.normal(0, 0.5, n)
    spread = np.sqrt(2 / (degrees - 1))
    sds = np.array([1.4, 0.6])
    logp = model.compile_logp(jacobian=False, mode="FAST_COMPILE")(
        {
            "coordinates": case.z, "part_sd_log__": np.log(SCALES.parts),
            "rho_share_logodds__": special.logit((1 + rho) / 2),
            "common_shock_change_log__": np.log(2.0),
            "stratum_shock_change_log__": np.log(sds * np.sqrt(1 - rho)),
            "organization_sd_log__": np.log(0.9), "overlap_logodds__": special.logit(0.6),
            "degrees_excess_log__": np.log(degrees - 2), "local_log__": np.log(local),
            "shock_coordinate": (log_w + 1 / degrees) / spread,
        }
    )  # fmt: skip
    factor = np.ones(len(case.parts.part))
    tau = SCALES.parts[case.parts.part[own] - 1]
    factor[own] = local * 3.0 / np.sqrt(9.0 + (tau * local) ** 2)
    common = 2.0 / np.sqrt(1 - rho)
    scales = Scales(
        SCALES.parts, sds**2, common**2, 0.81, rho, 0.6, np.ones(2), np.exp(-log_w), factor
    )
    expected = density(case.cells, case.parts, case.priors, case.around, case.z, scales)[0]
    expected += stats.halfnorm(scale=1.0).logpdf(SCALES.parts).sum()
    expected += stats.beta(2, 2).logpdf((1 + rho) / 2)
    shocks = np.append(sds, common)
    expected += (stats.halfnorm(scale=5.0).logpdf(shocks) - 0.5 * np.log(1 - rho)).sum()
    expected += stats.halfnorm(scale=2.0).logpdf(0.9)
    expected += stats.gamma(2, scale=10).logpdf(degrees - 2) + stats.halfcauchy.logpdf(local).sum()
    # density of log w, by the coordinates
    w = stats.gamma(degrees / 2, scale=2 / degrees).logpdf(np.exp(log_w)) + log_w
    expected += w.sum() + n * np.log(spread)
    assert float(logp) == pytest.approx(expected, rel=1e-10)


def test_persons_are_counted_in_the_unit_of_the_variation_within_cells() -> None:
    """Rows of 12 member months each: their variation is that of rows, not of months."""
    frame = two_strata(within=True)[1].assign(months=12.0)
    design = vbc.Design(outcome="spend")

    def cells(exposure: str | None, person_sd: float | None) -> Cells:
        panel = vbc.Panel.from_frame(
            frame, unit="unit", period="year", cohort="entry", cluster="aco", strata=["s"],
            exposure=exposure, kind="repeated_cross_section",
        )  # fmt: skip
        moments = vbc.Moments.from_panel(panel, outcomes=["spend"], by="cluster")
        return from_moments(moments, design, person_sd=person_sd)

    plain, counted = cells(None, None), cells("months", None)
    assert counted.layout.precision == pytest.approx(plain.layout.precision)
    assert counted.exposure == pytest.approx(12 * plain.exposure)
    # a stated spread is that of one unit of exposure
    stated = cells("months", 900.0).layout.precision / cells(None, 900.0).layout.precision
    assert stated == pytest.approx(np.full(len(plain.y), 12.0))


def test_effects_before_entry_alone_are_refused() -> None:
    frame = two_strata()[1]
    panel = vbc.Panel.from_frame(
        frame, unit="unit", period="year", cohort="entry", cluster="aco", strata=["s"],
        weight="size",
    )  # fmt: skip
    moments = vbc.Moments.from_panel(panel, outcomes=["spend"])
    design = vbc.Design(outcome="spend", anticipation=1, window=(-1, -1))
    with pytest.raises(DesignError, match="no cell at or after entry"):
        from_moments(moments, design, person_sd=900.0)


def test_machine_code_on_disk_is_of_every_file_it_is_made_of(tmp_path, monkeypatch) -> None:
    """numba looks at the file of the function alone; the others are in the key of its cache."""

    def key() -> object:
        machine = SimpleNamespace(magic_tuple=lambda: ("machine",))
        return compiled.__wrapped__()._cache._index_key("signature", machine)

    files = [Path(shutil.copy(name, tmp_path)) for name in marginal._ELSEWHERE]
    assert [x.name for x in files] == ["lanes.py", "layout.py", "elimination.py"]
    before = key()
    monkeypatch.setattr(marginal, "_ELSEWHERE", files)
    assert key() == before
    files[0].write_text(files[0].read_text().replace("1e-14", "1e-13"))
    assert key() != before


@pytest.mark.parametrize("module", [elimination, curvature])
def test_machine_code_on_disk_without_a_key_is_of_its_own_file_alone(module) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    found = [x.module or "" for x in ast.walk(tree) if isinstance(x, ast.ImportFrom)]
    found += [name.name for x in ast.walk(tree) if isinstance(x, ast.Import) for name in x.names]
    assert {x for x in found if x.startswith("vbceval")} == {"vbceval.core.typing"}
