"""A generator of MSSP results files in the published layouts, from one consistent truth."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

STRATA = {"ESRD": "ESRD", "DIS": "DIS", "AGDU": "AGED_Dual", "AGND": "AGED_NonDual"}
LEVEL = {"ESRD": 80_000, "DIS": 10_000, "AGDU": 16_000, "AGND": 9_500}
REFERENCES = ("BY1", "BY2", "BY3", "PY")


@dataclass(frozen=True)
class Aco:
    """One ACO in one performance year: whole numbers that add up as CMS's do."""

    number: int
    year: int
    start: str = "2014-01-01"
    current: str | None = None
    agree: str = "Initial"
    period: int = 1
    track: str = "Track_1"
    half: int = 0
    savings: float = 0.03
    quality: str = "0.9132"
    esrd: int = 150
    native: int = 40
    size: int = 1

    @property
    def aco_id(self) -> str:
        return f"A{1000 + self.number}"

    @property
    def aco_num(self) -> str:
        return f"A{60000 + self.number}"

    @property
    def name(self) -> str:
        return f"Example {self.number} Care Organization, LLC"

    def person_years(self, reference: str) -> dict[str, int]:
        grown = 1.0 if reference == "BY3" else 1.05
        base = {"ESRD": self.esrd, "DIS": 900, "AGDU": 1_100, "AGND": 7_000}
        return {s: n if s == "ESRD" else round(n * grown) * self.size for s, n in base.items()}

    def per_capita(self, stratum: str, reference: str) -> int:
        step = REFERENCES.index(reference)
        return round(LEVEL[stratum] * (1 + 0.02 * step + 0.001 * self.number))

    def hcc(self, stratum: str, reference: str) -> float:
        return 1 + 0.01 * REFERENCES.index(reference) + 0.001 * self.number

    @property
    def total_years(self) -> int:
        return sum(self.person_years("PY").values())

    @property
    def expenditure(self) -> int:
        full = sum(n * self.per_capita(s, "PY") for s, n in self.person_years("PY").items())
        return round(full / 2) if self.half else full

    @property
    def benchmark(self) -> int:
        return round(self.expenditure / (1 - self.savings))

    @property
    def n_ab(self) -> int:
        return self.total_years + 400

    def people(self) -> dict[str, int]:
        n = self.n_ab
        age = {"Age_0_64": 1_000, "Age_65_74": 3_000, "Age_85plus": 1_500}
        race = {"Race_Black": 500, "Race_Asian": 60, "Race_Hisp": 80, "Race_Native": self.native}
        race["Race_Other"] = 70
        sexes = {"Female": n // 2, "Male": n - n // 2}
        age["Age_75_84"] = n - sum(age.values())
        race["Race_White"] = n - sum(race.values())
        return {f"N_Ben_{k}": v for k, v in (age | sexes | race).items()}

    def earned(self) -> int:
        gross = self.benchmark - self.expenditure
        return round(gross / 2) if self.savings >= 0.02 else 0


def full_row(aco: Aco) -> dict[str, str]:
    """Every column in the spelling of 2016-2018, fractions and ISO dates."""
    gross = aco.benchmark - aco.expenditure
    row = {
        "ACO_ID": aco.aco_id, "ACO_Num": aco.aco_num, "ACO_Name": aco.name,
        "ACO_State": "New York,  New Jersey" if aco.year < 2018 else "NY, NJ",
        "Agree_Type": aco.agree, "Agreement_Period_Num": str(aco.period),
        "Participation_Six_Months": str(int(bool(aco.half))),
        "Initial_Start_Date": aco.start, "Current_Start_Date": aco.current or aco.start,
        "N_AB": str(aco.n_ab), "Sav_rate": f"{gross / aco.benchmark:.4f}", "MinSavPerc": "0.0235",
        "BnchmkMinExp": str(gross), "GenSaveLoss": str(gross if aco.savings >= 0.02 else 0),
        "DisAdj": "", "EarnSaveLoss": str(aco.earned()), "Met_QPS": "1", "QualScore": aco.quality,
        "UpdatedBnchmk": str(round(aco.benchmark / aco.total_years)), "HistBnchmk": "9900",
        "ABtotBnchmk": str(aco.benchmark), "ABtotExp": str(aco.expenditure),
        "QualPerfShare": "0.5", "FinalShareRate": "0.4566", "Rev_Exp_Cat": "Low Revenue",
        "ADM_L_Trm": "3", "ACO40": "N/A" if aco.number % 2 else "12.5",
    }  # fmt: skip
    share = 2 if aco.half else 1
    row["Per_Capita_Exp_TOTAL_PY"] = str(round(share * aco.expenditure / aco.total_years))
    for reference in REFERENCES:
        for stratum in STRATA:
            cell = f"{stratum}_{reference}"
            row[f"Per_Capita_Exp_ALL_{cell}"] = str(aco.per_capita(stratum, reference))
            row[f"CMS_HCC_RiskScore_{cell}"] = f"{aco.hcc(stratum, reference):.3f}"
    for reference in ("BY3", "PY"):
        for stratum, label in STRATA.items():
            row[f"N_AB_Year_{label}_{reference}"] = str(aco.person_years(reference)[stratum])
    row["N_AB_Year_PY"] = str(aco.total_years)
    row |= {f"Current_{t}": str(int(t == aco.track)) for t in ("Track_1", "Track_2", "Track_3")}
    return row | {k: str(v) for k, v in aco.people().items()}


def drop(row: dict[str, str], *labels: str) -> dict[str, str]:
    return {k: v for k, v in row.items() if k not in labels}


def rename(row: dict[str, str], **labels: str) -> dict[str, str]:
    return {labels.get(k, k): v for k, v in row.items()}


def percent(text: str, digits: int, sign: str = "") -> str:
    try:
        return f"{float(text) * 100:.{digits}f}{sign}"
    except ValueError:
        return text


def thousands(row: dict[str, str], *, from_label: str) -> dict[str, str]:
    past = False
    out = {}
    for label, text in row.items():
        past = past or label == from_label
        plain = text.lstrip("-").isdigit()
        out[label] = f"{int(text):,}" if past and plain and abs(int(text)) > 999 else text
    return out


def us_date(text: str, style: str) -> str:
    year, month, day = (int(part) for part in text.split("-"))
    return {
        "short": f"{month}/{day}/{year % 100:02d}",
        "minutes": f"{month}/{day}/{year % 100:02d} 00:00",
        "seconds": f"{month:02d}/{day:02d}/{year} 12:00:00 AM",
        "long": f"{month}/{day}/{year}",
        "padded": f"{month:02d}/{day:02d}/{year}",
    }[style]


def dated(row: dict[str, str], style: str) -> dict[str, str]:
    return {k: us_date(v, style) if k.endswith("Start_Date") else v for k, v in row.items()}


AGREEMENT = ("Agree_Type", "Agreement_Period_Num", "Participation_Six_Months")
CURRENT = ("Current_Track_1", "Current_Track_2", "Current_Track_3")


def as_2014(aco: Aco) -> dict[str, str]:
    row = dated(drop(full_row(aco), "ACO_ID", *AGREEMENT, *CURRENT[2:]), "short")
    row = drop(row, "Current_Start_Date", "Met_QPS", "DisAdj", "Rev_Exp_Cat")
    row = rename(
        row, ACO_Name="ACO_NAME", Initial_Start_Date="Start_Date", N_AB_Year_PY="N_AB_Year"
    )
    row = rename(row, Current_Track_1="Track1", Current_Track_2="Track2")
    row = {k.removesuffix("_PY") if k.startswith("N_AB_Year_") else k: v for k, v in row.items()}
    return row | {"N_Ben_Race_Native": "*", "N_Ben_Race_Asian": "*"}


def as_2015(aco: Aco) -> dict[str, str]:
    row = drop(full_row(aco), "ACO_ID", *AGREEMENT, *CURRENT[2:], "Current_Start_Date", "DisAdj")
    row = rename(dated(row, "short"), Initial_Start_Date="Start_Date", Current_Track_1="Track1")
    for label in ("QualScore", "QualPerfShare", "FinalShareRate"):
        row[label] = percent(row[label], 2)
    return rename(row, Current_Track_2="Track2")


def as_2016(aco: Aco) -> dict[str, str]:
    return dated(drop(full_row(aco), "ACO_ID", "Participation_Six_Months"), "minutes")


def as_2018(aco: Aco) -> dict[str, str]:
    return dated(drop(full_row(aco), "ACO_Num", "Participation_Six_Months"), "seconds")


def as_2019(aco: Aco) -> dict[str, str]:
    row = dated(drop(full_row(aco), "ACO_Num"), "padded")
    return row | {"QualScore": percent(row["QualScore"], 2)}


def as_2019a(aco: Aco) -> dict[str, str]:
    row = as_2019(aco) | {"Sav_rate": percent(full_row(aco)["Sav_rate"], 2, "%")}
    for label in ("MinSavPerc", "QualPerfShare", "FinalShareRate"):
        row[label] = percent(row[label], 2, "%")
    return thousands(row, from_label="N_AB")


def as_2020(aco: Aco) -> dict[str, str]:
    row = dated(drop(full_row(aco), "ACO_Num", "Participation_Six_Months"), "long")
    return {k.lower(): v for k, v in row.items()} | {"performance_year": "2020"}


def as_2022(aco: Aco) -> dict[str, str]:
    gone = ("ACO_Num", "ACO_State", "Participation_Six_Months", "Initial_Start_Date", *CURRENT)
    row = rename(dated(drop(full_row(aco), *gone), "padded"), Sav_rate="Sav_Rate")
    row |= {"Current_Track": "EN", "Risk_Model": "Two-Sided", "Perc_Dual": "15.20%"}
    for label in ("Sav_Rate", "MinSavPerc", "QualScore", "FinalShareRate"):
        row[label] = percent(row[label], 2, "%")
    return drop(row, "QualPerfShare")


def as_2024(aco: Aco) -> dict[str, str]:
    row = rename(as_2022(aco), Sav_Rate="Sav_rate") | {"DisAdj": "-", "FinalLossRate": "42.21%"}
    row["Current_Start_Date"] = us_date(aco.current or aco.start, "long")
    signed = ("Sav_rate", "MinSavPerc", "QualScore", "FinalShareRate", "FinalLossRate", "Perc_Dual")
    return row | {k: row[k].rstrip("%") for k in signed}


LONG = {
    "ACO_Num": "ACO Identifier", "ACO_Name": "ACO Name", "Initial_Start_Date": "Start Date",
    "Current_Track_2": "Track 2 ACO", "QualScore": "Quality Score",
    "MinSavPerc": "Minimum Savings Rate (%)", "ABtotBnchmk": "Total benchmark expenditures ($)",
    "ABtotExp": "Total performance year expenditures ($)",
    "BnchmkMinExp": "Total savings/losses ($)", "EarnSaveLoss": "Shared Savings ($)",
    "Owed": "Shared Losses ($)", "N_AB": "Total number of assigned beneficiaries",
    "N_AB_Year_PY": "Total assigned beneficiary person years",
    "N_AB_Year_ESRD_PY": "Total number of ESRD assigned beneficiary person years",
    "N_AB_Year_DIS_PY": "Total number of DISABLED  assigned beneficiary person years",
    "N_AB_Year_AGED_Dual_PY": "Total number of AGED/DUAL assigned beneficiary person years",
    "N_AB_Year_AGED_NonDual_PY": "Total number of AGED/NON-DUAL assigned beneficiary person years",
    "N_Ben_Race_Other": "Total number of assigned beneficiaries, Other",
    "Per_Capita_Exp_TOTAL_PY": "Total performance year spending per assigned beneficiary",
    "Per_Capita_Exp_ALL_ESRD_PY": "Total expenditures per assigned ESRD beneficiary",
    "Per_Capita_Exp_ALL_DIS_PY": "Total expenditures per assigned DISABLED beneficiary",
    "Per_Capita_Exp_ALL_AGDU_PY": "Total expenditures per assigned AGED/DUAL beneficiary",
    "Per_Capita_Exp_ALL_AGND_PY": "Total expenditures per assigned AGED/NON-DUAL beneficiary",
    "CMS_HCC_RiskScore_ESRD_BY3": "CMS_HCC_RiskScore_ESRD_BY3",
}  # fmt: skip


def as_2013(aco: Aco) -> dict[str, str]:
    """Long labels, all right."""
    row = full_row(replace(aco, quality="1")) | {"Owed": ""}
    row["MinSavPerc"] = "0.023373146%"
    row["ABtotBnchmk"] = f"${aco.benchmark:.2f}"
    return {LONG[k]: v for k in LONG for v in [dated(row, "padded")[k]]}


def as_2013_shifted(aco: Aco) -> dict[str, str]:
    """Long labels as distributed: one left out, the following ones a column early."""
    row = as_2013(aco)
    labels = list(row)
    first = labels.index("Total performance year expenditures ($)")
    last = labels.index("Total performance year spending per assigned beneficiary")
    values = list(row.values())
    del labels[first], values[last]
    return dict(zip(labels, values, strict=True))


def as_2013_named(aco: Aco) -> dict[str, str]:
    """Names and no identifiers or payments."""
    gone = ("ACO Identifier", "Shared Savings ($)", "Shared Losses ($)")
    return drop(as_2013(aco), *gone)


LAYOUTS: dict[str, Callable[[Aco], dict[str, str]]] = {
    "2013": as_2013, "2013 shifted": as_2013_shifted, "2013 named": as_2013_named,
    "2014": as_2014, "2015": as_2015, "2016": as_2016, "2018": as_2018, "2019": as_2019,
    "2019A": as_2019a, "2020": as_2020, "2022": as_2022, "2024": as_2024,
}  # fmt: skip


def to_csv(rows: list[dict[str, str]], *, newline: str = "\n") -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator=newline)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@dataclass(frozen=True)
class Writer:
    """Writes files in published layouts into one folder."""

    folder: Path

    def rows(self, layout: str, acos: list[Aco]) -> list[dict[str, str]]:
        return [LAYOUTS[layout](aco) for aco in acos]

    def write(self, layout: str, acos: list[Aco], name: str | None = None) -> Path:
        return self.put(to_csv(self.rows(layout, acos)), name or f"mssp_py{layout.split()[0]}.csv")

    def put(self, text: str, name: str) -> Path:
        path = self.folder / name
        content = text.encode("utf-8")
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    def put_json(self, rows: list[dict[str, str]], name: str) -> Path:
        return self.put(json.dumps(rows), name)

    def crosswalk(self, acos: list[Aco]) -> Path:
        rows = [{"ACO_ID": aco.aco_id, "Start": "1/1/14", "ACO_NUM": aco.aco_num} for aco in acos]
        return self.put(to_csv(rows), "aco_id_crosswalk.csv")


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    folder = tmp_path / "files"
    folder.mkdir()
    return Writer(folder)


@pytest.fixture
def make_acos() -> Callable[..., list[Aco]]:
    """Make n ACOs of one year; keyword arguments override fields of all of them."""

    def make(year: int, n: int = 4, **fields: object) -> list[Aco]:
        rng = np.random.default_rng(year)
        rates = np.round(rng.uniform(-0.06, 0.11, n), 4)
        return [
            Aco(number=i + 1, year=year, savings=float(rates[i]), **fields)  # type: ignore[arg-type]  # a test chooses fields by name
            for i in range(n)
        ]

    return make


@pytest.fixture
def csv_text() -> Callable[..., str]:
    return to_csv
