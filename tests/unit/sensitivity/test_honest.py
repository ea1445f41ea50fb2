"""Robust sets against linear programs, an optimiser, closed forms and their invariances."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

import vbceval as vbc
from vbceval.core.rng import generator
from vbceval.sensitivity import dual, from_numbers, honest
from vbceval.sensitivity.fixed_length import bias_variance_path, folded_quantile, shortest
from vbceval.sensitivity.inequality import Procedure, ThetaTest, normal_points, tail_share
from vbceval.sensitivity.restrictions import Polyhedron, Restriction
from vbceval.sensitivity.robust_set import Problem

BOUNDS = ("relative_magnitudes", "smoothness", "relative_smoothness")
SHAPES = (
    {}, {"bias": "positive"}, {"bias": "negative"}, {"monotone": "increasing"},
    {"monotone": "decreasing"}, {"bias": "negative", "monotone": "decreasing"},
)  # fmt: skip
FREE = (None, None)


def draw(name: str, k: int, scale: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients with trends, and a covariance with strong correlation."""
    rng = generator(11, name)
    root = rng.normal(size=(k, 2 * k)) + 0.8 * rng.normal(size=(k, 1))
    return scale * 2 * rng.normal(size=k), scale**2 * root @ root.T / (2 * k)


def moments_by_hand(
    box: Polyhedron, beta: np.ndarray, v: np.ndarray, n_pre: int, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows that bind the periods after the reference, and the nuisance directions."""
    a, d = box.a, box.d
    if len(target) > 1:
        kept = (a[:, n_pre:] != 0).any(axis=1)
        a, d = a[kept], d[kept]
    null = np.linalg.svd(target[None, :])[2][1:]
    return a @ beta - d, a, a @ v @ a.T, a[:, n_pre:] @ null.T


def rejects_by_programs(
    box: Polyhedron, beta: np.ndarray, v: np.ndarray, n_pre: int, target: np.ndarray,
    theta: float, alpha: float,
) -> tuple[bool, float]:  # fmt: skip
    """The conditional test by primal linear programs and bisection; shares no code."""
    y, a, sigma, nuisance = moments_by_hand(box, beta, v, n_pre, target)
    effect = target / (target @ target) * theta
    y = y - a[:, n_pre:] @ effect
    sd = np.sqrt(np.diag(sigma))

    def largest(x: np.ndarray) -> tuple[float, np.ndarray]:
        cost = np.append(1.0, np.zeros(nuisance.shape[1]))
        solved = optimize.linprog(
            cost, A_ub=-np.column_stack([sd, nuisance]), b_ub=-x, bounds=FREE, method="highs"
        )
        return float(solved.fun), -solved.ineqlin.marginals

    eta, g = largest(y)
    if eta <= 1e-9:
        return False, 1.0
    variance = g @ sigma @ g
    direction = sigma @ g / variance
    rest = y - direction * eta
    ends = []
    for sign in (-1, 1):
        good, bad = eta, eta + sign * 8 * np.sqrt(variance)
        if largest(rest + direction * bad)[0] <= bad + 1e-7:
            ends.append(sign * np.inf)
            continue
        for _ in range(20):
            middle = (good + bad) / 2
            same = largest(rest + direction * middle)[0] <= middle + 1e-9
            good, bad = (middle, bad) if same else (good, middle)
        ends.append(good)
    s = np.sqrt(variance)
    p = float(stats.truncnorm.sf(eta / s, ends[0] / s, ends[1] / s))
    return p < alpha, p


@pytest.mark.parametrize("bound", BOUNDS)
def test_conditional_test_is_that_of_primal_programs(bound: str) -> None:
    n_pre, n_post = 3, 3
    seen = {True: 0, False: 0}
    for number, shape in enumerate((SHAPES[0], SHAPES[2], SHAPES[3])):
        beta, v = draw(f"{bound} {number}", n_pre + n_post)
        target = [np.array([1.0, 0, 0]), np.array([0.2, 0.5, 0.3]), np.array([0, 1.0, -1.0])][
            number % 3
        ]
        restriction = Restriction(bound=bound, **shape)  # type: ignore[arg-type]  # from a table
        m = 0.5 if restriction.relative else 0.05
        box = restriction.polyhedra(m, n_pre, n_post)[number % 2 if restriction.relative else 0]
        test = ThetaTest(box, beta, v, n_pre, target, Procedure("conditional", 0.05, 0.005))
        center = target @ beta[n_pre:]
        for theta in center + np.array([-0.4, -0.1, 0.15, 0.5]):
            rejected, p = rejects_by_programs(box, beta, v, n_pre, target, theta, 0.05)
            if abs(p - 0.05) > 1e-3:
                assert test.accepts(np.array([theta]))[0] == (not rejected), (shape, theta, p)
                seen[rejected] += 1
    assert min(seen.values()) >= 2, seen


@pytest.mark.parametrize("shape", SHAPES)
def test_corners_attain_the_program(shape: dict[str, str]) -> None:
    """The list of corners gives the value of the linear program at random points."""
    rng = generator(3, "corners", *shape.values())
    for bound, n_pre, n_post in itertools.product(BOUNDS, (2, 4), (2, 4)):
        # dollars in millions or in cents: programs have no unit
        scale = 1e6 if n_post == 4 else 1e-3
        _, v = draw(f"{bound}{n_pre}{n_post}", n_pre + n_post, scale)
        target = rng.normal(size=n_post)
        restriction = Restriction(bound=bound, **shape)  # type: ignore[arg-type]  # from a table
        box = restriction.polyhedra(0.7, n_pre, n_post)[-1]
        m = dual.moments(box, v, n_pre, target)
        listed, programs = dual.dual(m, n_pre, target), dual.Programs(m)
        assert listed.listed is not None
        assert np.abs(listed.listed @ m.sd - 1).max() < 1e-9
        assert np.abs(listed.listed @ m.nuisance).max() < 1e-7 * np.abs(listed.listed).max()
        assert listed.listed.min() >= 0
        for _ in range(5):
            q = rng.normal(size=len(m.sd)) * m.sd
            assert listed.maximise(q) @ q == pytest.approx(programs.maximise(q) @ q, abs=1e-8)


def test_polyhedra_and_sizes_share_their_corners() -> None:
    """What is costly is done once: nothing of it depends on the size or the periods before."""
    beta, v = draw("shared", 7)
    problem = Problem(
        path=vbc.sensitivity.event_path.event_path(from_numbers(beta, v, pre=3)),
        target=np.array([0.4, 0.3, 0.2, 0.1]),
        restriction=Restriction(bound="relative_magnitudes", bias="positive"),
        method="C-LF", alpha=0.05, first_share=0.1,
    )  # fmt: skip
    dual._directions.cache_clear()
    tests = [*problem.testers(0.5), *problem.testers(2.0)]
    assert len(tests) == 12
    assert dual._directions.cache_info().misses == 1


@pytest.mark.parametrize(
    ("bound", "shape", "method"),
    [
        ("smoothness", {"bias": "negative"}, "C-F"),
        ("smoothness", {"monotone": "increasing"}, "conditional"),
        ("relative_magnitudes", {"bias": "positive"}, "conditional"),
    ],
)
def test_programs_give_the_same_set(
    bound: str, shape: dict[str, str], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where corners are too many, linear programs decide; both ways agree point by point."""
    beta, v = draw("programs", 6)
    theta = beta[3] + np.linspace(-0.6, 0.6, 7)

    def accepted() -> np.ndarray:
        problem = Problem(
            path=vbc.sensitivity.event_path.event_path(from_numbers(beta, v, pre=3)),
            target=np.eye(3)[0], restriction=Restriction(bound=bound, **shape),  # type: ignore[arg-type]  # from a table
            method=method, alpha=0.05, first_share=0.1,  # type: ignore[arg-type]  # from a table
        )  # fmt: skip
        return np.array([x.accepts(theta) for x in problem.testers(0.3)])

    listed = accepted()
    monkeypatch.setattr(dual, "MOST_SUBSETS", 0)
    np.testing.assert_array_equal(listed, accepted())
    assert listed.any()
    assert not listed.all()


def test_least_favourable_value_without_nuisance() -> None:
    """One effect: the 1 - first quantile of the largest of correlated normals."""
    beta, v = draw("first stage", 4)
    box = Restriction(bound="smoothness").polyhedra(0.1, 3, 1)[0]
    test = ThetaTest(box, beta, v, 3, np.ones(1), Procedure("C-LF", 0.05, 0.005))
    x = generator(5, "draws").multivariate_normal(np.zeros(4), v, 400_000) @ box.a.T
    x /= np.sqrt(np.diag(box.a @ v @ box.a.T))
    above = (x.max(axis=1) > test._first_stage).mean()
    assert above == pytest.approx(0.005, abs=4 * np.sqrt(0.005 / 400_000) + 2e-4)


def worst_bias(weights: np.ndarray, n_pre: int, n_post: int) -> float:
    """Largest bias over changes of slope up to 1, by a linear program."""
    box = Restriction(bound="smoothness").polyhedra(1.0, n_pre, n_post)[0]
    solved = optimize.linprog(-weights, A_ub=box.a, b_ub=box.d, bounds=FREE, method="highs")
    return float(-solved.fun) if solved.status == 0 else np.inf


@pytest.mark.parametrize(
    ("m", "target"),
    [(0.0, (1.0, 0, 0)), (0.02, (-0.5, 0.25, 1.0)), (0.1, (-1.0, 0, 0)), (1.0, (1.0, 0, 0))],
)
def test_fixed_length_interval_is_the_shortest(m: float, target: tuple[float, ...]) -> None:
    """No estimator found by a general optimiser has a shorter interval; bias by a program."""
    n_pre, weights = 3, np.array(target)
    for name in ("a", "b"):
        _, v = draw(f"shortest {name}", 6)
        found = shortest(bias_variance_path(v, n_pre, weights), v, m, 0.05)
        assert found.bias == pytest.approx(m * worst_bias(found.weights, n_pre, 3), abs=1e-9)
        assert found.std_error == pytest.approx(np.sqrt(found.weights @ v @ found.weights))
        ratio = found.bias / found.std_error
        mass = stats.norm.cdf(found.half_length / found.std_error - ratio) - stats.norm.cdf(
            -found.half_length / found.std_error - ratio
        )
        assert mass == pytest.approx(0.95, abs=1e-10)
        # estimators without bias under linear trends: weights before entry up to one equation
        time = np.array([-3.0, -2.0, -1.0])
        start = -(weights @ np.array([1.0, 2.0, 3.0])) * time / (time @ time)
        free = np.linalg.svd(time[None, :])[2][1:]

        def length(z: np.ndarray, v=v, start=start, free=free) -> float:
            a = np.append(start + z @ free, weights)
            se = np.sqrt(a @ v @ a)
            bias = m * worst_bias(a, n_pre, 3)
            return float(se * folded_quantile(np.array([bias / se]), 0.05)[0])

        own = (found.weights[:n_pre] - start) @ free.T
        assert length(own) == pytest.approx(found.half_length, rel=1e-7)
        best = optimize.minimize(length, own + 0.05, method="Nelder-Mead", options={"maxfev": 60})
        assert best.fun >= found.half_length * (1 - 1e-6)
        assert best.fun <= found.half_length * 1.02


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_without_noise_the_set_is_the_identified_set(bound: str, shape: dict[str, str]) -> None:
    """As errors vanish the set is that of a linear program given the trends before entry."""
    n_pre, n_post, m = 3, 3, 0.8
    delta = np.array([-0.3, -0.1, -0.05]) * (-1 if shape.get("monotone") == "decreasing" else 1)
    effect = np.array([1.0, 1.5, 2.0])
    beta = np.append(delta, effect)
    target = np.array([0.0, 1.0, 0.0])
    restriction = Restriction(bound=bound, **shape)  # type: ignore[arg-type]  # from a table
    bounds = []
    for box in restriction.polyhedra(m, n_pre, n_post):
        kept = (box.a[:, n_pre:] != 0).any(axis=1)
        right = box.d[kept] - box.a[kept][:, :n_pre] @ delta
        for sign in (1, -1):
            solved = optimize.linprog(
                sign * target, A_ub=box.a[kept][:, n_pre:], b_ub=right, bounds=FREE
            )
            if solved.status == 0:
                bounds.append(target @ effect - target @ solved.x)
    noise = 1e-4
    v = noise**2 * (np.eye(6) + 0.3)
    out = honest(
        from_numbers(beta, v, pre=n_pre), restriction=bound, m=[m], target=target,  # type: ignore[arg-type]  # from a table
        breakdown=False, grid=(min(bounds) - 0.3, max(bounds) + 0.3, 1001), **shape,  # type: ignore[arg-type]  # from a table
    ).table.iloc[1]  # fmt: skip
    step = (max(bounds) - min(bounds) + 0.6) / 1000
    assert out["conf_low"] == pytest.approx(min(bounds), abs=step + 20 * noise)
    assert out["conf_high"] == pytest.approx(max(bounds), abs=step + 20 * noise)


@pytest.mark.parametrize(
    ("bound", "method"),
    [("relative_magnitudes", None), ("smoothness", None), ("smoothness", "C-LF"),
     ("relative_smoothness", "conditional")],
)  # fmt: skip
def test_units_signs_and_size(bound: str, method: str | None) -> None:
    beta, v = draw("units", 6)
    beta[3:] += 1.0
    sizes = np.array([0.0, 0.4, 1.0]) * (0.1 if bound == "smoothness" else 1.0)

    def sets(b: np.ndarray, cov: np.ndarray, m: np.ndarray, target=(0.5, 0.5, 0.0)):
        out = honest(
            from_numbers(b, cov, pre=3), restriction=bound, m=m, target=target, method=method,  # type: ignore[arg-type]  # from a table
        )  # fmt: skip
        return out.table[["conf_low", "conf_high"]].to_numpy(), out.breakdown

    base, broken = sets(beta, v, sizes)
    sd = np.sqrt(v[3:5, 3:5].sum()) / 2
    # cents instead of dollars
    other = sizes * 100 if bound == "smoothness" else sizes
    cents, broken_cents = sets(100 * beta, 1e4 * v, other)
    np.testing.assert_allclose(cents, 100 * base, atol=100 * 2e-3 * sd)
    scale = 100 if bound == "smoothness" else 1
    assert broken_cents == pytest.approx(scale * broken, rel=5e-3)
    # mirrored outcome
    mirrored, _ = sets(-beta, v, sizes)
    np.testing.assert_allclose(mirrored[:, ::-1], -base, atol=5e-3 * sd)
    # larger sets for larger sizes, and the breakdown is where zero enters
    width = base[1:, 1] - base[1:, 0]
    assert (np.diff(width) > 0).all()
    around, _ = sets(beta, v, np.array([0.99 * broken, 1.01 * broken]))
    assert around[1, 0] > 0 >= around[2, 0]


def test_relative_magnitudes_of_size_zero_are_parallel_trends_after_entry() -> None:
    """One polyhedron without slack: for one effect, about the conventional interval."""
    beta, v = draw("zero", 6)
    out = honest(from_numbers(beta, v, pre=5), m=[0.0], method="conditional", breakdown=False)
    assert out.table["conf_low"].notna().all()
    two = honest(from_numbers(beta, v, pre=3), m=[0.0], target="first", breakdown=False).table
    width = (two["conf_high"] - two["conf_low"]).to_numpy()
    assert 0.5 < width[1] / width[0] < 1.1


def test_changes_of_sign_of_the_target() -> None:
    """A decrease is an increase with the sign reversed, for the shortest interval too."""
    beta, v = draw("sign", 6)
    est = from_numbers(beta, v, pre=3)
    for bound in BOUNDS:
        up = honest(est, restriction=bound, m=[0.1], target=[0, 1.0, 0], breakdown=False).table  # type: ignore[arg-type]  # from a table
        down = honest(est, restriction=bound, m=[0.1], target=[0, -1.0, 0], breakdown=False).table  # type: ignore[arg-type]  # from a table
        sd = np.sqrt(v[4, 4])
        assert down["conf_low"][1] == pytest.approx(-up["conf_high"][1], abs=5e-3 * sd)
        assert down["conf_high"][1] == pytest.approx(-up["conf_low"][1], abs=5e-3 * sd)


def test_few_degrees_of_freedom_widen_the_set() -> None:
    beta, v = draw("df", 5)
    few, many = (from_numbers(beta, v, pre=3, df=df) for df in (8, np.inf))
    wide = honest(few, restriction="smoothness", m=[0.0], breakdown=False)
    exact = honest(few, restriction="smoothness", m=[0.0], breakdown=False, inflate_below=0)
    plain = honest(many, restriction="smoothness", m=[0.0], breakdown=False)
    ratio = stats.t.ppf(0.975, 8) / stats.norm.ppf(0.975)
    width = [float(np.diff(x.table[["conf_low", "conf_high"]].iloc[1])[0]) for x in (wide, plain)]
    assert width[0] == pytest.approx(ratio * width[1], rel=1e-6)
    assert "8 degrees of freedom" in wide.notes[0]
    assert exact.table["conf_low"][1] == plain.table["conf_low"][1]


def test_empty_sets_open_grids_and_holes_are_said() -> None:
    v = 1e-4 * np.eye(5)
    bent = from_numbers([0.0, 1.0, -1.0, 1.0, 0.0], v, pre=4)
    out = honest(bent, restriction="smoothness", method="C-LF", m=[0.1], breakdown=False)
    assert out.table["conf_low"].isna()[1]
    assert out.table["pieces"][1] == 0
    assert "no effect is compatible" in out.table["note"][1]
    beta, v = draw("open", 5)
    cut = honest(from_numbers(beta, v, pre=3), m=[1.0], grid=(beta[3], beta[3] + 0.01, 20),
                 breakdown=False)  # fmt: skip
    assert "end of the grid" in cut.table["note"][1]


def test_breakdown_at_its_ends() -> None:
    est = from_numbers([0.1, -0.1, 0.0, 0.0], 0.04 * np.eye(4), pre=2)
    assert honest(est, m=[1]).breakdown == 0.0
    sure = from_numbers([0.1, -0.1, 5.0, 5.0], 0.04 * np.eye(4), pre=2)
    assert honest(sure, restriction="smoothness", m=[1], bias="negative").breakdown == np.inf
    assert np.isnan(honest(sure, m=[1], breakdown=False).breakdown)
    assert honest(sure, m=[1], null=5.0).breakdown == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"restriction": "linear"}, "`restriction` is 'linear'"),
        ({"method": "FLCI"}, "'FLCI' needs bounds that do not depend"),
        ({"method": "exact"}, "`method` is 'exact'"),
        ({"restriction": "smoothness", "bias": "positive", "method": "FLCI"}, "cannot use a sign"),
        ({"bias": "up"}, "`bias` is 'up'"),
        ({"m": [-1.0]}, "finite and not negative"),
        ({"target": [1.0]}, "`target` has 1 weights, but 2"),
        ({"target": {7: 1.0}}, "weights at event times 7"),
        ({"target": [0.0, 0.0]}, "not all zero"),
        ({"target": "last"}, "`target` is 'last'"),
        ({"level": 1.5}, "`level` is 1.5"),
        ({"null": np.nan}, "`null` is nan"),
        ({"grid": (5.0, 1.0, 10)}, "its lower end, its upper end"),
        ({"grid": (0.0, 1.0, 0)}, "its lower end, its upper end"),
        ({"grid": "default"}, "`grid` is 'default'"),
    ],
)
def test_bad_options(options: dict, said: str) -> None:
    est = from_numbers([0.1, -0.1, 1.0, 2.0], np.eye(4), pre=2)
    with pytest.raises(vbc.DesignError, match=said):
        honest(est, **options)


def test_too_few_leads() -> None:
    one = from_numbers([0.1, 1.0, 2.0], np.eye(3), pre=1)
    with pytest.raises(vbc.DesignError, match="needs 2 coefficients"):
        honest(one, restriction="relative_smoothness")
    assert honest(one, m=[1.0]).table["conf_low"].notna().all()
    assert len(honest(one, restriction="smoothness").table) == 11


def test_truncated_tail_and_points() -> None:
    x = np.array([0.3, 2.0, -1.0])
    low, high = np.array([-1.0, 1.0, -np.inf]), np.array([2.0, np.inf, 0.0])
    np.testing.assert_allclose(tail_share(x, low, high), stats.truncnorm.sf(x, low, high))
    assert tail_share(np.array([5.0]), np.array([6.0]), np.array([7.0])) == 1.0
    assert normal_points(3) is normal_points(3)
    np.testing.assert_allclose(np.cov(normal_points(3).T), np.eye(3), atol=1e-3)
