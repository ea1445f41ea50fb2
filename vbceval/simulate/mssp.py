"""Shared Savings Program results files with a known effect of entry, in the published layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.files import write_text
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray

FILE_YEARS = (2014, 2015, 2016, 2017, 2018, 2020)
COHORTS = (2013, 2014, 2015, 2016, 2017, 2018, 2019, 2020)
_CROSSWALK_YEAR = 2018
_TYPES = ("ESRD", "DIS", "AGDU", "AGND")
_LABELS = ("ESRD", "DIS", "AGED_Dual", "AGED_NonDual")
# rounded means of the public files, nominal USD per person-year, and typical shares of people
_MEANS = np.array([80_000.0, 11_500.0, 16_000.0, 9_500.0])
_SHARES = np.array([0.01, 0.14, 0.08, 0.77])


@dataclass(frozen=True, kw_only=True)
class MSSPFiles:
    """
    Write results files of an invented program whose effect of entry is known.

    Entrants of 2013-2020; files of performance years 2014-2018 and 2020, as the public ones. Every
    ACO has a lasting level, an autoregressive shock a year, sampling error by its size, and its
    history is restated in every file.

    Parameters
    ----------
    effect : float, default 0
        Effect of entry on spending as a fraction, the same in every treated year (-0.02 lowers
        spending by 2%).
    n_acos : int, default 40
        ACOs in each cohort.
    shock_sd : float, default 0.01
        Standard deviation of an ACO-year's common shock, as a fraction.
    shock_rho : float, default 0.5
        Its correlation from one year to the next.
    person_cv : float, default 1.5
        Standard deviation of a person's spending as a multiple of the mean; smaller than in
        untruncated claims, as the program truncates spending.
    restatement_sd : float, default 0.03
        Spread of the factor by which each file restates an ACO's history.
    seed : int, default 20210101
        Seed.
    """

    effect: float = 0.0
    n_acos: int = 40
    shock_sd: float = 0.01
    shock_rho: float = 0.5
    person_cv: float = 1.5
    restatement_sd: float = 0.03
    seed: int = 20210101

    def __post_init__(self) -> None:
        problems = Problems("the options of MSSPFiles", DesignError)
        if self.n_acos < 2:
            problems.add(f"`n_acos` is {self.n_acos}; at least 2 are needed.")
        if not -1 < self.effect < 1:
            problems.add(f"`effect` is {self.effect}; it lies between -1 and 1.")
        if not 0 <= self.shock_rho < 1:
            problems.add(f"`shock_rho` is {self.shock_rho}; it is from 0 to below 1.")
        if min(self.shock_sd, self.person_cv, self.restatement_sd) < 0:
            problems.add("`shock_sd`, `person_cv` and `restatement_sd` must not be negative.")
        problems.raise_if_any()

    def write(self, folder: str | Path) -> Path:
        """
        Write ``mssp_py<year>.csv`` for every file year and ``aco_id_crosswalk.csv``.

        Returns
        -------
        Path
            The folder.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rng = generator(self.seed, "mssp files")
        acos = self._acos(rng)
        truth = self._truth(rng, acos)
        for year in FILE_YEARS:
            table = self._file(rng, acos, truth, year)
            write_text(folder / f"mssp_py{year}.csv", table.to_csv(index=False))
        crosswalk = pd.DataFrame({"ACO_ID": acos["ACO_ID"], "ACO_NUM": acos["ACO_Num"]})
        write_text(folder / "aco_id_crosswalk.csv", crosswalk.to_csv(index=False))
        return folder

    def _acos(self, rng: np.random.Generator) -> pd.DataFrame:
        n = len(COHORTS) * self.n_acos
        number = np.arange(1, n + 1)
        size = np.maximum(np.exp(rng.normal(np.log(14_000), 0.6, n)), 5_000)
        return pd.DataFrame(
            {
                "ACO_ID": [f"A{9000 + i}" for i in number],
                "ACO_Num": [f"A{50_000 + i}" for i in number],
                "cohort": np.repeat(COHORTS, self.n_acos),
                "size": size,
                "level": np.exp(rng.normal(0, 0.08, n)),
                "risk": np.clip(rng.normal(1.03, 0.07, n), 0.85, 1.3),
            }
        )

    def _truth(self, rng: np.random.Generator, acos: pd.DataFrame) -> dict[int, FloatArray]:
        """Mean untreated spending factor of each ACO in each calendar year, 2010-2020."""
        trend = np.cumsum(rng.normal(0.015, 0.01, 11))
        shock = rng.normal(0, self.shock_sd, len(acos))
        out = {}
        for i, year in enumerate(range(2010, 2021)):
            out[year] = acos["level"].to_numpy() * np.exp(trend[i] + shock)
            noise = rng.normal(0, self.shock_sd, len(acos))
            shock = self.shock_rho * shock + np.sqrt(1 - self.shock_rho**2) * noise
        return out

    def _file(
        self,
        rng: np.random.Generator,
        acos: pd.DataFrame,
        truth: dict[int, FloatArray],
        year: int,
    ) -> pd.DataFrame:
        # a first agreement lasts three years, and later ones have other benchmark years
        inside = (acos["cohort"] <= year) & (acos["cohort"] + 2 >= year)
        rows = acos[inside].reset_index(drop=True)
        at = np.flatnonzero(inside)
        restated = np.exp(rng.normal(0, self.restatement_sd, (len(rows), 1)))
        mix = rng.dirichlet(400 * _SHARES, len(rows))
        people = np.maximum(np.round(rows["size"].to_numpy()[:, None] * mix), 30)
        out: dict[str, Any] = {
            "ACO_ID" if year >= _CROSSWALK_YEAR else "ACO_Num": rows[
                "ACO_ID" if year >= _CROSSWALK_YEAR else "ACO_Num"
            ],
            "ACO_Name": "Invented ACO " + rows["ACO_ID"],
            "ACO_State": "NY", "Agree_Type": "Initial", "Agreement_Period_Num": 1,
            "Initial_Start_Date": "01/01/" + rows["cohort"].astype(str),
            "Current_Start_Date": "01/01/" + rows["cohort"].astype(str),
            "Current_Track_1": 1, "Current_Track_2": 0, "Current_Track_3": 0,
        }  # fmt: skip
        per_capita = np.zeros((len(rows), 4))
        for ref in ("BY1", "BY2", "BY3", "PY"):
            lag = {"BY1": 3, "BY2": 2, "BY3": 1}.get(ref)
            when = np.full(len(rows), year) if lag is None else rows["cohort"].to_numpy() - lag
            factor = np.array([truth[int(t)][i] for t, i in zip(when, at, strict=True)])
            treated = 1 + self.effect * (when >= rows["cohort"].to_numpy())
            mean = _MEANS * (factor * treated)[:, None] * restated
            error = rng.normal(0, self.person_cv / np.sqrt(people))
            per_capita = np.round(mean * (1 + error))
            for s, (short, label) in enumerate(zip(_TYPES, _LABELS, strict=True)):
                out[f"Per_Capita_Exp_ALL_{short}_{ref}"] = per_capita[:, s]
                risk = rows["risk"].to_numpy() + rng.normal(0, 0.01, len(rows))
                out[f"CMS_HCC_RiskScore_{short}_{ref}"] = np.round(risk, 3)
                if ref in ("BY3", "PY"):
                    out[f"N_AB_Year_{label}_{ref}"] = people[:, s]
        return pd.DataFrame({**out, **_accounts(rng, rows, people, per_capita)})


def _accounts(
    rng: np.random.Generator, rows: pd.DataFrame, people: FloatArray, per_capita: FloatArray
) -> dict[str, Any]:
    """Benchmark, payment and people of the performance year."""
    total = people.sum(axis=1)
    spent = np.round((people * per_capita).sum(axis=1))
    benchmark = np.round(spent * np.exp(rng.normal(0.01, 0.04, len(rows))))
    rate = (benchmark - spent) / benchmark
    reach = np.round(np.clip(0.039 - 0.019 * (total - 5_000) / 55_000, 0.02, 0.039), 4)
    female = np.round(0.57 * total)
    ages = np.round(total[:, None] * np.array([0.15, 0.45, 0.27, 0.13]))
    races = np.round(total[:, None] * np.array([0.8, 0.09, 0.03, 0.05, 0.01]))
    names = ("White", "Black", "Asian", "Hisp", "Native")
    return {
        "N_AB": total, "N_AB_Year_PY": total,
        "Per_Capita_Exp_TOTAL_PY": np.round(spent / total),
        "ABtotBnchmk": benchmark, "ABtotExp": spent, "BnchmkMinExp": benchmark - spent,
        "Sav_rate": np.round(rate, 6), "MinSavPerc": reach,
        "GenSaveLoss": np.where(rate >= reach, benchmark - spent, 0),
        "EarnSaveLoss": np.where(rate >= reach, np.round(0.45 * (benchmark - spent)), 0),
        "QualScore": 0.9, "Met_QPS": 1, "QualPerfShare": 0.5, "FinalShareRate": 0.45,
        "UpdatedBnchmk": np.round(benchmark / total), "HistBnchmk": np.round(benchmark / total),
        "N_Ben_Female": female, "N_Ben_Male": total - female,
        **{f"N_Ben_Age_{a}": ages[:, i]
           for i, a in enumerate(("0_64", "65_74", "75_84", "85plus"))},
        **{f"N_Ben_Race_{r}": races[:, i] for i, r in enumerate(names)},
        "N_Ben_Race_Other": np.maximum(total - races.sum(axis=1), 0),
    }  # fmt: skip
