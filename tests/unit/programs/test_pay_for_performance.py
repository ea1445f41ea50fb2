"""MIPS, Advanced APMs and the three hospital programs: worked examples and files of CMS."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, DesignError
from vbceval.programs import get
from vbceval.programs.procedures.hacrp import (
    domain_total_scores,
    quantile_of_known,
    tenth_points,
    winsorised_z,
    z_score,
)
from vbceval.programs.procedures.hrrp import peer_groups, peer_medians
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


def test_mips_gains_of_2024_as_a_vendor_printed_them() -> None:
    # largest gain 1.05%: a score of 90 gains 0.63%, of 80 0.21%; the losses printed beside them are
    # not on the line of the law from the threshold to 0 and are left out
    frame = practices([100.0, 90.0, 80.0, 75.0], scaling_factor=0.0105 / 0.09)
    factors = get("mips").settle(frame, performance_year=2024)["payment_factor"]
    assert (100 * factors).round(2).tolist() == [1.05, 0.63, 0.21, 0.0]


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
    with pytest.raises(DataError, match="1 of 1 values of `quality` are not between 0 and 100"):
        final_score(
            program, performance_year=2024, quality=800, cost=1, improvement_activities=1,
            interoperability=1,
        )  # fmt: skip
    with pytest.raises(DataError, match="missing for 1 of 1 practices"):
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
    # a hospital above the benchmark before, and worse since, has not improved
    assert improvement_points([0.90, 0.97], baseline=0.95, benchmark=0.92).tolist() == [0, 0]
    fewer = improvement_points(
        [0.10, 0.14], baseline=[0.12, 0.12], benchmark=0.08, lower_is_better=True
    )
    assert fewer.tolist() == [5, 0]
    assert np.isnan(achievement_points(np.nan, threshold=0.80, benchmark=0.92))
    assert np.isnan(improvement_points([np.nan, 0.8], baseline=[0.7, np.nan], benchmark=0.9)).all()
    # where all of the best are alike, the benchmark is the threshold
    assert achievement_points([0.99, 1.0], threshold=1.0, benchmark=1.0).tolist() == [0, 10]


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


# Total Performance Score and payment adjustment factor of hospitals in Table 16B of the final rule
# for fiscal year 2026, in the order of the table
TABLE_16B_2026 = [
    (32.166666666667, 1.0021821642), (20.916666666667, 0.9944241534), (25.833333333333, 0.9978146915),
    (30.583333333333, 1.001090296), (22.666666666667, 0.9956309551), (33.333333333333, 1.0029866987),
    (29.083333333333, 1.0000558946), (30.916666666667, 1.001320163), (27.416666666667, 0.9989065596),
    (28.75, 0.9998260276), (22.916666666667, 0.9958033553), (31.375, 1.0016362301),
    (18.25, 0.9925852175), (24.666666666667, 0.997010157), (34.333333333333, 1.0036762996),
    (27.75, 0.9991364266), (39.75, 1.0074116382), (32.583333333333, 1.0024694979),
    (38.5, 1.006549637), (25.583333333333, 0.9976422912), (20.083333333333, 0.9938494859),
    (32.875, 1.0026706316), (37.416666666667, 1.0058025692), (27.25, 0.9987916262),
    (31, 1.0013776298), (19.5, 0.9934472187), (17.25, 0.9918956166),
    (30.083333333333, 1.0007454955), (32.5, 1.0024120312), (19.75, 0.993619619),
    (21.083333333333, 0.9945390869), (30.333333333333, 1.0009178958), (33.5, 1.0031016322),
    (19.916666666667, 0.9937345524), (18, 0.9924128173), (30, 1.0006880288),
    (13.333333333333, 0.9891946795), (29.888888888889, 1.0006114065), (42, 1.0089632403),
    (40.5, 1.0079288389), (24.416666666667, 0.9968377568), (16.166666666667, 0.9911485488),
    (22.416666666667, 0.9954585548), (40.111111111111, 1.0076606607), (31.333333333333, 1.0016074967),
]  # fmt: skip


def test_hvbp_factors_of_cms_for_2026() -> None:
    scores, factors = np.array(TABLE_16B_2026).T
    highest = int(np.argmax(scores))
    # the slope that one hospital implies gives the factors of all the others
    slope = (factors[highest] - 1 + 0.02) / (0.02 * scores[highest] / 110)
    frame = pd.DataFrame({"hospital": range(len(scores)), "total_performance_score": scores})
    settled = get("hvbp").settle(
        frame.assign(base_payments=1.0, slope=slope), performance_year=2026
    )
    assert np.abs(settled["adjustment_factor"] - factors).max() < 2e-10


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
    with pytest.raises(DataError, match=r"`err_ami` .* not between 0\.1 and 10"):
        program.settle(table.assign(err_ami=108.0), performance_year=2020)
    lacking = table.drop(columns=["median_ami", "payment_share_pn", "neutrality_modifier"])
    with pytest.raises(DataError, match="3 problems"):
        program.settle(lacking, performance_year=2020)


def test_hrrp_peer_groups_and_their_medians() -> None:
    share = np.linspace(0.0, 0.9, 25)
    groups = peer_groups(share[::-1])
    assert groups[::-1].tolist() == np.repeat([1, 2, 3, 4, 5], 5).tolist()
    ratios = np.where(np.arange(25) == 24, np.nan, np.arange(25.0))
    medians = peer_medians(ratios, np.repeat([1, 2, 3, 4, 5], 5))
    assert medians[:5].tolist() == [2.0] * 5
    assert medians[20:].tolist() == [21.5] * 5
    assert np.isnan(peer_medians([np.nan, 1.0], [1, 2])[0])
    with pytest.raises(DataError, match="share of stays"):
        peer_groups([0.1, np.nan])


def test_hrrp_ratios_in_the_files_of_cms(shared_dir: Path) -> None:
    path = shared_dir / "data/hospital/hrrp_fy2016_2017_2019_2020.csv.gz"
    if not path.is_file():
        pytest.skip("the files of CMS are not at hand")
    rows = pd.read_csv(path, dtype=str)
    rates = {"predicted": "Predicted Readmission Rate", "expected": "Expected Readmission Rate"}
    for name, column in rates.items():
        rows[name] = pd.to_numeric(rows[column], errors="coerce")
        digits = rows[column].str.partition(".")[2].str.len()
        rows[f"half_{name}"] = 0.5 * 10.0**-digits
    rows["err"] = pd.to_numeric(rows["Excess Readmission Ratio"], errors="coerce")
    rows = rows[rows["err"].notna()]
    assert len(rows) == 56_253
    ratio = rows["predicted"] / rows["expected"]
    room = (rows["half_predicted"] + rows["half_expected"] * ratio) / rows["expected"] + 0.5e-4
    assert ((ratio - rows["err"]).abs() <= room + 1e-9).all()
    # which hospitals lose anything follows from ratios alone; how much needs payment shares
    year = rows[(rows["program_fy"] == "2016") & (rows["State"] != "MD")]
    condition = year["Measure Name"].str.extract(r"READM-30-(.*)-HRRP")[0].str.lower()
    year = year.assign(condition=condition.str.replace("-", "_"))
    wide = year.pivot_table(index="Facility ID", columns="condition", values="err")
    frame = wide.add_prefix("err_").assign(base_payments=1.0)
    frame = frame.assign(**{f"payment_share_{name}": 1.0 for name in wide})
    settled = get("hrrp").settle(frame.rename_axis("hospital").reset_index(), performance_year=2016)
    assert set(wide) == {"ami", "hf", "pn", "copd", "hip_knee"}
    losing = int((settled["penalty"] > 0).sum())
    # a consultant counted 2,620 hospitals with a factor below 1.0000
    assert losing == int((wide > 1).any(axis=1).sum())
    assert abs(losing - 2_620) < 20


# what counts (25 discharges or more) and the factor of the first hospitals in the supplemental
# file of CMS for fiscal year 2026: condition, excess ratio, median of the peer group, payment share
SUPPLEMENT_2026 = {
    "010001": ("hf 1.0233 .9922 .0384, hip_knee .9875 .9918 .0019, cabg .9531 1.0008 .0312", 0.9988),
    "010005": ("hf 1.0087 .9922 .0308, pn .8727 .9892 .0555, copd .9308 .9965 .0238", 0.9995),
    "010006": ("hip_knee 1.0527 .9939 .0064, cabg 1.0027 .9964 .0248, copd 1.052 .9965 .0122", 0.9988),
    "010007": ("pn 1.0345 .9932 .0677, hf 1.062 .9949 .0315, copd 1.0232 .9935 .0220", 0.9946),
    "010008": ("pn 1.0017 .9957 .0668", 0.9996),
    "010011": (
        "cabg 1.1213 1.0008 .0295, hf 1.0373 .9922 .0364, copd .9988 .9965 .0072, "
        "pn 1.0102 .9892 .0427, ami .9697 .9964 .0267",
        0.9941,
    ),
    "010012": ("hf 1.084 .9922 .0442, ami 1.0565 .9964 .0262, pn 1.0206 .9892 .0801", 0.9922),
    "010016": (
        "pn 1.0292 .9908 .0415, cabg 1.0875 .9964 .0178, copd .9888 .9965 .0056, "
        "hip_knee 1.1004 .9939 .0095, ami 1.027 .9961 .0194, hf 1.0053 .9929 .0353",
        0.9949,
    ),
    "010019": (
        "hip_knee 1.2168 .9939 .0096, hf .9057 .9929 .0476, copd 1.0327 .9965 .03, "
        "pn 1.0061 .9908 .0485",
        0.9962,
    ),
    "010021": ("pn 1.002 .9932 .0813", 0.9993),
    "010022": ("pn .9738 .9932 .0643", 1.0),
    "010023": (
        "hip_knee .9546 .9918 .0074, hf 1.0589 .9922 .0259, pn 1.049 .9892 .0166, "
        "copd 1.0436 .9965 .0052, cabg 1.0851 1.0008 .0218, ami 1.0084 .9964 .0283",
        0.9950,
    ),
    "010024": (
        "pn 1.0066 .9892 .0293, copd .9583 .9965 .0084, ami 1.0203 .9964 .0285, "
        "hf 1.0207 .9922 .0363, cabg .9386 1.0008 .0288",
        0.9979,
    ),
}  # fmt: skip


def test_hrrp_factors_of_cms_for_2026() -> None:
    rows = []
    for hospital, (conditions, _) in SUPPLEMENT_2026.items():
        row: dict[str, object] = {"hospital": hospital}
        for condition in conditions.split(", "):
            name, *numbers = condition.split()
            columns = (f"err_{name}", f"median_{name}", f"payment_share_{name}")
            row |= dict(zip(columns, map(float, numbers), strict=True))
        rows.append(row)
    frame = pd.DataFrame(rows).assign(base_payments=1e6, neutrality_modifier=0.9627)
    factors = get("hrrp").settle(frame, performance_year=2026)["adjustment_factor"]
    published = np.array([factor for _, factor in SUPPLEMENT_2026.values()])
    same = np.isclose(factors, published, atol=1e-9)
    assert (~same).tolist() == [True, *([False] * 12)]
    # ratios, medians and shares are published to four decimals; at the upper end of their
    # rounding the first hospital has the published factor too
    first = frame.iloc[[0]].assign(err_hf=1.02335, median_hf=0.99215, payment_share_hf=0.03845)
    assert get("hrrp").settle(first, performance_year=2026)["adjustment_factor"][0] == published[0]


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
    above = settled["total_score"] > settled["threshold"]
    assert above[:4].any()
    # hospitals outside the percentile, such as Maryland's, are outside the program
    assert (settled.payment == np.where(above & frame["in_percentile"], -1.0, 0.0)).all()
    with pytest.raises(DataError, match="no score that counts in 2018"):
        get("hacrp").settle(frame, performance_year=2018)


def test_hacrp_domains_before_2020() -> None:
    rng = np.random.default_rng(3)
    safety, ratios = rng.gamma(3.0, size=100), rng.gamma(2.0, size=(100, 2))
    safety[0], ratios[1], ratios[2, 0] = np.nan, np.nan, np.nan
    given = {"patient_safety": safety, "infections": ratios}
    program = get("hacrp")
    points = np.column_stack([tenth_points(column) for column in (safety, *ratios.T)])
    assert set(np.bincount(points[3:, 0].astype(int))[1:]) <= {8, 9, 10, 11}
    for year, weight in ((2015, 0.35), (2016, 0.25), (2017, 0.15)):
        score, used = domain_total_scores(program, performance_year=year, **given)
        assert score[0] == pytest.approx(points[0, 1:].mean())
        assert score[1] == pytest.approx(points[1, 0])
        assert score[2] == pytest.approx(weight * points[2, 0] + (1 - weight) * points[2, 2])
        assert "domain_weights" in {u.parameter for u in used if u.status == "unconfirmed"}
    score, _ = domain_total_scores(program, performance_year=2018, **given)
    z = [winsorised_z(c[:, None], share=0.05)[5, 0] for c in (safety, *ratios.T)]
    assert score[5] == pytest.approx(0.15 * z[0] + 0.85 * (z[1] + z[2]) / 2)
    frame = pd.DataFrame({"hospital": range(100), "payments": 100.0, "total_score": score})
    assert program.settle(frame, performance_year=2018)["reduced"].sum() == 25
    with pytest.raises(DesignError, match="no `domain_weights`"):
        domain_total_scores(program, performance_year=2021, **given)
    with pytest.raises(DataError, match="in the same order"):
        domain_total_scores(
            program, performance_year=2016, patient_safety=safety[1:], infections=ratios
        )


def test_quantiles_leave_missing_values_out() -> None:
    values = np.random.default_rng(2).normal(size=(37, 5))
    values[[3, 9], [0, 0]] = np.nan
    values[:, 4] = np.nan
    for share in (0.05, 0.5, 0.75, 1.0):
        want = np.nanquantile(values[:, :4], share, axis=0)
        assert quantile_of_known(values, share)[0, :4] == pytest.approx(want)
        assert np.isnan(quantile_of_known(values, share)[0, 4])
