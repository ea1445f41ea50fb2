"""A panel of organizations for benchmarks of the hierarchical model."""

from __future__ import annotations

import numpy as np
import pandas as pd

import vbceval as vbc

OUTCOME = "spend"
OTHERS = {"visits": 250.0, "admissions": 40_000.0}
"""Further outcomes, and what the first is divided by to have them: calibrations replace all."""
PERSON_SD = 15_000.0
"""Standard deviation of a person-year, USD."""


def hierarchical_panel(
    organizations: int, strata: int, periods: int, *, seed: int = 0, people: int = 0
) -> vbc.Panel:
    """
    Return a panel with an effect of -2 percent, shocks to organizations and organizations' effects.

    Half of the organizations enter, in up to three cohorts. Sizes differ in every cell, so that no
    two organizations share a pattern. With `people`, rows are so many persons a cell in the place of
    a mean.
    """
    rng = np.random.default_rng([2026, seed])
    shape = (organizations, strata, periods)
    i, s, t = (x.ravel() for x in np.indices(shape))
    first = np.arange(organizations)
    entry = np.where(first % 2 == 1, periods // 2 + first // 2 % 3 * max(periods // 8, 1), np.nan)
    shocks = _autocorrelated(rng, (organizations, 1 + strata, periods), rho=0.6)
    own = -2.0 + rng.normal(0, 0.7, organizations)
    size = np.exp(rng.normal(8, 0.6, organizations))[i] / strata
    size = size * np.exp(rng.normal(0, 0.1, len(i)))
    percent = 0.5 * t + 1.2 * shocks[i, 0, t] + 0.8 * shocks[i, 1 + s, t]
    percent = percent + own[i] * (t >= np.nan_to_num(entry, nan=np.inf)[i])
    percent = percent + rng.normal(0, 5, shape[:2])[i, s]
    mean = 10_000 * (1 + 0.3 * s) * (1 + percent / 100)
    frame = pd.DataFrame({"organization": i, "stratum": s, "period": t, "entry": entry[i]})
    keys = {"period": "period", "cohort": "entry", "strata": ["stratum"]}
    if people:
        frame = frame.assign(mean=mean).loc[np.repeat(frame.index, people)].reset_index(drop=True)
        frame[OUTCOME] = frame.pop("mean") + 1_500 * rng.standard_normal(len(frame))
        frame = frame.assign(**{name: frame[OUTCOME] / ratio for name, ratio in OTHERS.items()})
        frame["person"] = np.arange(len(frame))
        return vbc.Panel.from_frame(
            frame, unit="person", cluster="organization", kind="repeated_cross_section", **keys
        )
    frame[OUTCOME] = mean + PERSON_SD / np.sqrt(size) * rng.standard_normal(len(frame))
    frame = frame.assign(**{name: frame[OUTCOME] / ratio for name, ratio in OTHERS.items()})
    frame["people"] = size
    return vbc.Panel.from_frame(frame, unit="organization", weight="people", **keys)


def _autocorrelated(rng: np.random.Generator, shape: tuple[int, ...], *, rho: float) -> np.ndarray:
    """Return standard normal draws, autocorrelated along the last axis."""
    out = rng.standard_normal(shape)
    for t in range(1, shape[-1]):
        out[..., t] = rho * out[..., t - 1] + np.sqrt(1 - rho**2) * out[..., t]
    return out


def count_panel(
    organizations: int, strata: int, periods: int, *, seed: int = 0, trials: float = 60.0
) -> vbc.Panel:
    """
    Return a panel of counts with trials: about one event in five, a tenth fewer after entry.

    Half of the organizations enter, in two cohorts. Sizes differ between organizations by a factor
    of about three, `trials` a cell on average.
    """
    rng = np.random.default_rng([2027, seed])
    shape = (organizations, strata, periods)
    i, s, t = (x.ravel() for x in np.indices(shape))
    first = np.arange(organizations)
    entry = np.where(first % 2 == 1, periods // 2 + first // 2 % 2, np.nan)
    size = np.maximum(1, trials * np.exp(rng.normal(0, 0.5, organizations)))[i].astype(int)
    shocks = 0.1 * _autocorrelated(rng, (organizations, periods), rho=0.6)
    eta = -1.5 + rng.normal(0, 0.3, organizations)[i] + shocks[i, t] + 0.2 * s
    eta = eta - 0.1 * (t >= np.nan_to_num(entry, nan=np.inf)[i])
    frame = pd.DataFrame({"organization": i, "stratum": s, "period": t, "entry": entry[i]})
    frame["trials"], frame["events"] = size, rng.binomial(size, 1 / (1 + np.exp(-eta)))
    return vbc.Panel.from_frame(
        frame, unit="organization", period="period", cohort="entry", strata=["stratum"],
        exposure="trials",
    )  # fmt: skip
