"""Each dollar of incentive is assigned once where programs overlap."""

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.programs.overlap import assign_once, exposure_cells, overlap_rules

BUNDLE_AND_ACO = pd.DataFrame(
    {
        "unit": ["patient group", "patient group"],
        "program": ["mssp", "bpci"],
        "benchmark": 24_000.0,
        "claims": 21_500.0,
        "share": [0.5, 1.0],
    }
)


def test_one_reduction_of_claims_is_not_counted_twice() -> None:
    ledger = assign_once(BUNDLE_AND_ACO, precedence=["bpci", "mssp"])
    assert ledger["savings_alone"].sum() == 5_000.0
    assert ledger["savings"].sum() == 2_500.0
    assert ledger["payment"].tolist() == [0.0, 2_500.0]
    assert ledger.loc[0, "expenditure"] == 24_000.0


def test_precedence_changes_who_is_paid_and_order_of_rows_does_not() -> None:
    other = assign_once(BUNDLE_AND_ACO, precedence=["mssp", "bpci"])
    assert other["payment"].tolist() == [1_250.0, 1_250.0]
    rng = np.random.default_rng(1)
    rows = pd.concat(
        [BUNDLE_AND_ACO.assign(unit=f"u{i}", claims=20_000.0 + 100 * i) for i in range(20)],
        ignore_index=True,
    )
    shuffled = rows.sample(frac=1.0, random_state=rng.integers(99))
    want = assign_once(rows, precedence=["bpci", "mssp"])
    got = assign_once(shuffled, precedence=["bpci", "mssp"])
    pd.testing.assert_frame_equal(got.sort_index(), want)
    # the payer's total is the claims and every payment, each once
    paid = want.groupby("unit")["payment"].sum()
    alone = want[want["program"] == "bpci"].set_index("unit")["savings_alone"]
    pd.testing.assert_series_equal(paid, alone.sort_index(), check_names=False)


def test_everything_wrong_is_said() -> None:
    bad = BUNDLE_AND_ACO.assign(claims=[np.nan, 1.0], share=-1.0, program=["mssp", "x"])
    with pytest.raises(DataError, match="4 problems"):
        assign_once(bad, precedence=["mssp", "mssp"])
    with pytest.raises(DataError, match="divide percents by 100"):
        assign_once(BUNDLE_AND_ACO.assign(share=50.0), precedence=["bpci", "mssp"])
    with pytest.raises(DataError, match="`claims` holds negative or infinite"):
        assign_once(BUNDLE_AND_ACO.assign(claims=np.inf), precedence=["bpci", "mssp"])
    with pytest.raises(DataError, match="`share` are missing"):
        assign_once(BUNDLE_AND_ACO.drop(columns="share"), precedence=["bpci", "mssp"])


def test_cells_of_exposure_exclude_each_other() -> None:
    rows = pd.DataFrame(
        {
            "unit": ["a", "a", "a", "b", "c"],
            "period": [1, 1, 2, 1, 1],
            "program": ["mssp", "bpci", "mssp", "", "bpci"],
        }
    )
    cells = exposure_cells(pd.concat([rows, rows, rows.iloc[[3]].assign(program=None)]))
    assert cells["cell"].tolist() == ["bpci + mssp", "mssp", "none", "bpci"]
    assert cells["n_programs"].tolist() == [2, 1, 0, 1]
    with pytest.raises(DataError, match="`unit` hold missing values"):
        exposure_cells(rows.assign(unit=None))
    with pytest.raises(DataError, match="`period`"):
        exposure_cells(rows.drop(columns="period"))


def test_rules_carry_a_status_and_a_source() -> None:
    rules = overlap_rules()
    assert set(rules["status"]) <= {"confirmed", "secondary", "unconfirmed"}
    assert rules["source"].str.len().min() > 5
    assert not rules.duplicated(["first", "second"]).any()
