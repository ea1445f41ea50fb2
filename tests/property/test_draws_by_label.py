"""What is drawn belongs to a cluster by its label: neither the order of rows nor that of units matters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.groups import in_order
from vbceval.inference import FewTreated, Multiplier, Randomization
from vbceval.inference.wild import Wild

DESIGN = vbc.Design(outcome="y", covariates=["x"])
LAWS = {
    "wild": Wild(draws=199),
    "wild, Webb": Wild(draws=199, weights="webb"),
    "multiplier": Multiplier(draws=199),
    "randomization": Randomization(draws=99),
    "few treated": FewTreated(),
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Units 0 to 89 in 30 clusters, of which three enter; names of clusters in no order of units."""
    rng = np.random.default_rng(11)
    unit, period = np.divmod(np.arange(90 * 6), 6)
    cluster = unit % 30
    cohort = np.where(cluster < 3, 3.0, np.nan)
    y = rng.normal(size=len(unit)) + rng.normal(size=30)[cluster] * (period >= 3)
    return pd.DataFrame(
        {
            "unit": unit, "period": period, "cluster": rng.permutation(30)[cluster] + 100,
            "cohort": cohort, "y": y, "x": rng.normal(size=len(unit)),
        }
    )  # fmt: skip


def _panel(frame: pd.DataFrame) -> vbc.Panel:
    return vbc.Panel.from_frame(
        frame, unit="unit", cluster="cluster", period="period", cohort="cohort", people=False
    )


def _renumbered(frame: pd.DataFrame) -> pd.DataFrame:
    names = np.random.default_rng(2).permutation(90)
    return frame.assign(unit=names[frame["unit"]]).sample(frac=1.0, random_state=3)


def _numbers(table: pd.DataFrame) -> np.ndarray:
    return table.select_dtypes("number").to_numpy(dtype=float)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_order_of_units(law, frame) -> None:
    first, second = (
        vbc.did.TWFE().fit(_panel(x), DESIGN, vcov=law) for x in (frame, _renumbered(frame))
    )
    for table in (first.tidy(), first.bands()):
        assert np.isfinite(_numbers(table)).any()
    np.testing.assert_allclose(_numbers(second.tidy()), _numbers(first.tidy()), rtol=1e-9)
    np.testing.assert_allclose(_numbers(second.bands()), _numbers(first.bands()), rtol=1e-9)


@pytest.mark.parametrize("estimator", [vbc.did.GroupTime(), vbc.did.Imputation()])
def test_bands_of_other_estimators(estimator, frame) -> None:
    first, second = (estimator.fit(_panel(x), DESIGN).bands() for x in (frame, _renumbered(frame)))
    np.testing.assert_allclose(_numbers(second), _numbers(first), rtol=1e-8, atol=1e-12)


def test_rows_and_moments_draw_alike(frame) -> None:
    """Rows of clusters and their sums give the same p-value and interval, not only the same law."""
    rows = vbc.Panel.from_frame(
        frame, unit="cluster", period="period", cohort="cohort", people=False,
        kind="repeated_cross_section",
    )  # fmt: skip
    with vbc.connect("duckdb") as engine:
        sums = vbc.Moments.from_table(
            frame, engine=engine, cluster="cluster", period="period", cohort="cohort",
            outcomes=["y"], covariates=["x"],
        )  # fmt: skip
    wild = ["wild_p_value", "wild_low", "wild_high"]
    first, second = (
        vbc.did.TWFE().fit(data, DESIGN, vcov=Wild(draws=199)).frame[wild].to_numpy(float)
        for data in (rows, sums)
    )
    np.testing.assert_allclose(second, first, rtol=1e-9)


def test_sums_of_estimates_do_not_depend_on_their_order(frame) -> None:
    """Clusters of two fits are joined in the order of labels, whichever is named first."""
    low, high = frame[frame["cluster"] < 118], frame[frame["cluster"] >= 106]
    fits = [
        vbc.did.EventStudy().fit(_panel(x), vbc.Design(outcome="y"), vcov=Multiplier(draws=199))
        for x in (high, low)
    ]
    assert vbc.stack(fits).clusters.tolist() == sorted(frame["cluster"].unique().tolist())


def test_labels_without_common_order_have_one() -> None:
    labels = pd.Index(["b", 2, "a", 10, 1.5], dtype=object)
    assert in_order(labels).tolist() == [1.5, 2, 10, "a", "b"]
    assert in_order(labels[::-1]).tolist() == in_order(labels).tolist()
