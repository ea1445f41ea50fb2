"""MIPS, Advanced APMs and the three hospital programs: worked examples and files of CMS."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError
from vbceval.programs import get
from vbceval.programs.procedures.hacrp import winsorised_z, z_score
from vbceval.programs.procedures.hvbp import achievement_points, improvement_points
from vbceval.programs.procedures.mips import final_score, neutral_scaling

SCORES = [0.0, 18.75, 18.76, 30.0, 60.0, 75.0, 82.5, 100.0]


def practices(scores: list[float], **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "practice": [f"p{i}" for i in range(len(scores))],
            "pathway": "TRADITIONAL",
            "final_score": scores,
            "allowed": 100.0,
        }
    )
    return frame.assign(**columns)


def test_mips_gains_equal_losses_unless_the_highest_factor_binds() -> None:
    settled = get("mips").settle(practices(SCORES), performance_year=2024)
    assert settled.payment.sum() == pytest.approx(0.0, abs=1e-9)
    few_gain = get("mips").settle(practices([*([0.0] * 9), 76.0]), performance_year=2024)
    assert few_gain["scaling_factor"] == pytest.approx(3.0)
    assert neutral_scaling(np.array([[0.01]]), np.array([[5.0]])).tolist() == [[0.0]]


def test_mips_exceptional_money_only_to_2022_and_only_from_the_threshold() -> None:
    table = practices([88.0, 90.0], scaling_factor=0.0, exceptional_adjustment=0.01)
    assert get("mips").settle(table, performance_year=2022).payment == pytest.approx([0.0, 1.0])
    with pytest.raises(DataError, match="2023 pays none"):
        get("mips").settle(table, performance_year=2023)
    with pytest.raises(DataError, match=r"`scaling_factor` above 3"):
        get("mips").settle(practices([90.0], scaling_factor=3.5), performance_year=2024)


def test_mips_final_score() -> None:
    program = get("mips")
    score = final_score(
        program, performance_year=2024, quality=80, cost=60, improvement_activities=100,
        interoperability=100,
    )  # fmt: skip
    assert float(score) == pytest.approx(0.3 * 80 + 0.3 * 60 + 40)
    parts = final_score(
        program, performance_year=2025, pathway="APP", quality=[80, np.nan, 80],
        improvement_activities=100, interoperability=[90, 90, np.nan],
    )  # fmt: skip
    assert parts.tolist() == pytest.approx([87.0, 92.5, 85.0])
    with pytest.raises(DataError, match="1 practices lack a category"):
        final_score(
            program, performance_year=2024, quality=80, improvement_activities=1, interoperability=1
        )


def test_advanced_apm_bonus_and_conversion_factors_of_the_proposed_rule_for_2027() -> None:
    frame = pd.DataFrame(
        {
            "practice": ["by payments", "by patients", "in part", "not"],
            "payment_share": [0.6, 0.1, 0.45, 0.1],
            "patient_share": [0.1, 0.4, 0.1, 0.1],
            "allowed": 1_000.0,
        }
    )
    settled = get("advanced_apm").settle(frame, performance_year=2022)
    assert settled.payment.tolist() == [50.0, 50.0, 0.0, 0.0]
    assert settled["qualifies_in_part"].tolist() == [False, False, True, False]
    later = get("advanced_apm").settle(frame.assign(payment_share=0.8), performance_year=2025)
    gain = later["conversion_factor_gain"][0]
    assert round(32.8409 * (1 + gain), 4) == 33.1693
    assert later.payment == pytest.approx(1_000.0 * gain)
    with pytest.raises(DataError, match="neither `payment_share` nor `patient_share`"):
        get("advanced_apm").settle(
            frame.drop(columns=["payment_share", "patient_share"]), performance_year=2022
        )


def test_hvbp_points() -> None:
    assert achievement_points(0.86, threshold=0.80, benchmark=0.92) == 5
    assert improvement_points(0.86, baseline=0.78, benchmark=0.92) == 5
    # lower is better: mortality of 10% between a threshold of 12% and a benchmark of 8%
    assert achievement_points(0.10, threshold=0.12, benchmark=0.08) == 5
    assert achievement_points([0.13, 0.08], threshold=0.12, benchmark=0.08).tolist() == [0, 10]
    assert improvement_points([0.5, 0.9], baseline=0.9, benchmark=0.9).tolist() == [0, 0]


def test_hvbp_slope_and_factors() -> None:
    frame = pd.DataFrame(
        {
            "hospital": ["A", "B", "C"],
            "base_payments": [40e6, 60e6, 100e6],
            "total_performance_score": [30.0, 45.0, 25.0],
        }
    )
    # with a published slope the table need not hold every hospital; from 2026 scores are per 110
    later = get("hvbp").settle(frame.assign(slope=2.2), performance_year=2026)
    assert later["adjustment_factor"][0] == pytest.approx(1 + 0.02 * 30 / 110 * 2.2 - 0.02)
    with pytest.raises(DataError, match="nor enough domain scores"):
        get("hvbp").settle(
            frame.drop(columns="total_performance_score").assign(safety=50.0, efficiency=10.0),
            performance_year=2020,
        )


def test_hvbp_scores_of_every_hospital_in_2021(shared_dir: Path) -> None:
    path = shared_dir / "data/hospital/hvbp_total_performance_fy2021.csv.gz"
    if not path.is_file():
        pytest.skip("the file of CMS is not at hand")
    published = pd.read_csv(path, dtype={"Facility ID": str}, na_values="Not Available")
    columns = {
        "Facility ID": "hospital",
        "Unweighted Normalized Clinical Outcomes Domain Score": "clinical_outcomes",
        "Unweighted Person and Community Engagement Domain Score": "engagement",
        "Unweighted Normalized Safety Domain Score": "safety",
        "Unweighted Normalized Efficiency and Cost Reduction Domain Score": "efficiency",
    }
    frame = published[list(columns)].rename(columns=columns).assign(base_payments=1.0)
    settled = get("hvbp").settle(frame, performance_year=2021)
    assert len(settled) == 2_676
    difference = settled["total_performance_score"] - published["Total Performance Score"]
    assert np.abs(difference).max() < 1e-9


def hospital(**columns: float) -> pd.DataFrame:
    return pd.DataFrame({"hospital": ["A"], "base_payments": 1e6, **columns})


THREE = {
    "err_ami": 1.08, "err_hf": 0.97, "err_pn": 1.03,
    "median_ami": 1.01, "median_hf": 0.99, "median_pn": 1.00,
    "payment_share_ami": 0.03, "payment_share_hf": 0.05, "payment_share_pn": 0.04,
}  # fmt: skip


def test_hrrp_conditions_medians_and_cap_change_over_the_years() -> None:
    program, table = get("hrrp"), hospital(neutrality_modifier=1.0, **THREE)
    assert program.settle(table, performance_year=2023)["penalty"][0] == pytest.approx(0.0021)
    before = program.settle(table, performance_year=2018)["penalty"][0]
    assert before == pytest.approx(0.03 * 0.08 + 0.04 * 0.03)
    big = hospital(err_ami=3.0, payment_share_ami=0.5)
    caps = [program.settle(big, performance_year=y)["penalty"][0] for y in (2013, 2014, 2015)]
    assert caps == [0.01, 0.02, 0.03]
    few = program.settle(big.assign(discharges_ami=24), performance_year=2015)
    assert few.payment[0] == 0
    lacking = table.drop(columns=["median_ami", "payment_share_pn", "neutrality_modifier"])
    with pytest.raises(DataError, match="3 problems"):
        program.settle(lacking, performance_year=2020)


def test_hrrp_ratios_in_the_files_of_cms(shared_dir: Path) -> None:
    path = shared_dir / "data/hospital/hrrp_fy2016_2017_2019_2020.csv.gz"
    if not path.is_file():
        pytest.skip("the file of CMS is not at hand")
    rows = pd.read_csv(path, dtype={"Facility ID": str}, low_memory=False)
    rows["condition"] = rows["Measure Name"].str.extract(r"READM-30-(.*)-HRRP")[0]
    rows["condition"] = rows["condition"].str.lower().str.replace("-", "_")
    rows["err"] = pd.to_numeric(rows["Excess Readmission Ratio"], errors="coerce")
    year = rows[(rows["program_fy"] == 2016)]
    wide = year.set_index(["Facility ID", "condition"])["err"].unstack()  # noqa: PD010  # one row each
    wide = wide.dropna(how="all")
    frame = wide.add_prefix("err_").drop(columns="err_cabg", errors="ignore")
    names = [name.removeprefix("err_") for name in frame]
    frame = frame.assign(base_payments=1.0, **{f"payment_share_{n}": 1.0 for n in names})
    settled = get("hrrp").settle(frame.rename_axis("hospital").reset_index(), performance_year=2016)
    # who has any excess follows from ratios alone; how much needs payment shares
    penalised = settled["penalty"] > 0
    assert penalised.sum() == (wide[names] > 1).any(axis=1).sum()
    assert 2_600 < penalised.sum() < 2_700


def test_hacrp_z_score_keeps_to_the_percentiles() -> None:
    z = z_score(1.40, low=0.20, high=2.10, mean=0.92, std_dev=0.45)
    assert round(float(z), 4) == 1.0667
    assert z_score(5.0, low=0.20, high=2.10, mean=0.92, std_dev=0.45) == (2.10 - 0.92) / 0.45


# z-scores, Total HAC Score and reduction of hospitals in the file of CMS for fiscal year 2026:
# PSI 90, CLABSI, CAUTI, SSI, CDI, MRSA
PUBLISHED_2026 = [
    ("010001", [-0.2580, -0.2187, -1.0125, 0.0338, 0.2222, -0.7969], -0.3384, "No"),
    ("010005", [-0.0973, 0.5189, 1.3787, -1.1738, 0.7875, 2.2251], 0.6065, "Yes"),
    ("010006", [1.0283, -1.4065, -1.3186, -1.4565, -1.2608, -1.0455], -0.9099, "No"),
    ("010007", [0.4921, None, 0.2747, None, 1.8794, None], 0.8821, "Yes"),
    ("010011", [0.3613, 1.0502, -0.5786, -1.4565, 0.3500, -0.0111], -0.0474, "No"),
    ("010012", [0.2147, None, 1.1642, 0.5357, 0.2764, None], 0.5478, "Yes"),
    ("010016", [2.5111, 1.4353, 0.2603, -0.8723, 0.1525, 0.4675], 0.6591, "Yes"),
    ("010018", [0.0109, None, None, None, None, None], 0.0109, "No"),
    ("010019", [-0.4199, 2.2402, -0.7401, 0.1520, 2.1931, -1.4573], 0.3280, "No"),
]


def test_hacrp_total_scores_of_cms_for_2026() -> None:
    names = ["z_psi_90", "z_clabsi", "z_cauti", "z_ssi", "z_cdi", "z_mrsa"]
    frame = pd.DataFrame([row[1] for row in PUBLISHED_2026], columns=names, dtype=float)
    frame = frame.assign(hospital=[row[0] for row in PUBLISHED_2026], payments=100.0)
    # the published scores place the threshold between 0.3280 and 0.5478
    settled = get("hacrp").settle(frame.assign(threshold=0.4), performance_year=2026)
    published = np.array([row[2] for row in PUBLISHED_2026])
    assert np.abs(settled["total_score"] - published).max() < 1e-4
    assert settled["reduced"].tolist() == [row[3] == "Yes" for row in PUBLISHED_2026]


def test_hacrp_scores_of_a_table() -> None:
    rng = np.random.default_rng(4)
    values = rng.gamma(2.0, size=(200, 1))
    z = winsorised_z(values, share=0.05)
    assert float(np.mean(z)) == pytest.approx(0.0, abs=1e-12)
    assert float(np.std(z, ddof=1)) == pytest.approx(1.0)
    assert (z == z.max()).sum() == 10
    frame = pd.DataFrame({"hospital": range(200), "payments": 100.0, "cdi": values[:, 0]})
    frame["in_percentile"] = np.arange(200) > 3
    settled = get("hacrp").settle(frame, performance_year=2022)
    counted = np.sort(settled["total_score"][4:])
    assert settled["threshold"][0] == pytest.approx(np.quantile(counted, 0.75))
    assert (settled.payment == -1.0).sum() == (settled["total_score"] > settled["threshold"]).sum()
    with pytest.raises(DataError, match="no score that counts in 2018"):
        get("hacrp").settle(frame, performance_year=2018)
