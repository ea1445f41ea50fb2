"""One small panel, and for every estimator what it is tried on and with which other options."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import vbceval as vbc
from vbceval.did import (
    ETWFE,
    IV,
    TWFE,
    ChangesInChanges,
    Dose,
    Efficient,
    EventStudy,
    GLMDiD,
    GroupTime,
    Imputation,
    InteractiveFE,
    Stacked,
    SunAbraham,
    Switching,
    SyntheticControl,
    SyntheticDiD,
    TripleDifference,
    TwoPart,
    TwoStage,
)

N, YEARS = 36, 7


@functools.cache
def shared_frame() -> pd.DataFrame:
    """36 organizations over 2010-2016, a sixth enters in 2013, a sixth in 2014."""
    rng = np.random.default_rng(8)
    u, t = np.repeat(np.arange(N), YEARS), np.tile(np.arange(2010, 2010 + YEARS), N)
    cohort = np.array([2013.0, 2014.0, *[np.nan] * 4])[u % 6]
    on, x = t >= cohort, rng.standard_normal(N)[u]
    z = rng.standard_normal(len(u))
    y = 20 + rng.standard_normal(len(u)) + 2 * rng.standard_normal(N)[u] + 0.8 * x * (t - 2010)
    none = (u // 6 + t) % 3 == 0  # in every cohort, period and stratum some have nothing
    dose = np.where(np.isnan(cohort), 0.0, 0.5 + u * 7 % N / 24)
    return pd.DataFrame({
        "unit": u, "period": t, "cohort": cohort, "x": x, "z": z, "dose": dose,
        "y": y + 0.5 * (t - 2010) + 0.4 * z - 1.5 * on,
        "spend": np.where(none, 0.0, y + 0.3 * (t - 2010)), "any": 1.0 - none,
        "w": rng.uniform(0.5, 2.0, N)[u], "w_t": rng.uniform(0.5, 2.0, len(u)),
        "other_dose": np.where(dose > 0, 2.4 - dose, 0.0), "other": on * rng.uniform(size=len(u)),
        "taken": on * rng.uniform(size=len(u)), "program": on * np.round(2 * dose),
        "dual": np.where(u // 6 % 2 == 0, "yes", "no"),
        "site": np.where(u // 12 % 2 == 0, "north", "south"), "round": np.round(y),
    })  # fmt: skip


class Case(NamedTuple):
    """An estimator, its outcome, and options of panel, design and fit."""

    estimator: Any
    outcome: str = "y"
    panel: Mapping[str, Any] = {"weight": "w"}
    design: Mapping[str, Any] = {}

    def data(self, frame: pd.DataFrame, **panel: Any) -> vbc.Panel:
        keys = {"unit": "unit", "period": "period", "cohort": "cohort", "people": False}
        return vbc.Panel.from_frame(frame, **{**keys, **self.panel, **panel})

    def asks(self, **design: Any) -> vbc.Design:
        return vbc.Design(**{"outcome": self.outcome, **self.design, **design})

    def fit(self, frame: pd.DataFrame, **options: Any) -> vbc.Estimates:
        return self.estimator.fit(self.data(frame), self.asks(), **options)


NEVER = {"comparison": "never_treated"}
CASES = {
    "TWFE": Case(TWFE()),
    "EventStudy": Case(EventStudy()),
    "ETWFE": Case(ETWFE()),
    "SunAbraham": Case(SunAbraham()),
    "Stacked": Case(Stacked(), design={"window": (-2, 2)}),
    "TripleDifference": Case(
        TripleDifference(by="dual"), panel={"weight": "w", "strata": ["dual", "site"]}
    ),
    "GroupTime": Case(GroupTime()),
    "Imputation": Case(Imputation()),
    "TwoStage": Case(TwoStage()),
    "Switching": Case(Switching(effects=2, placebos=1)),
    "Efficient": Case(Efficient(), panel={}),
    "Dose": Case(Dose(dose="dose", degree=1, grid=(0.8, 1.2)), design=NEVER),
    "SyntheticDiD": Case(SyntheticDiD(replications=10), panel={}),
    "SyntheticControl": Case(SyntheticControl(replications=10)),
    "InteractiveFE": Case(InteractiveFE(n_factors=1, replications=10)),
    "ChangesInChanges": Case(ChangesInChanges(quantiles=(0.5,), most_outside=0.9)),
    "GLMDiD": Case(GLMDiD(), "spend"),
    "TwoPart": Case(TwoPart(), "spend"),
    "IV": Case(IV(dose="taken")),
}


class Change(NamedTuple):
    """
    Another value of an option, and where it must matter.

    Parameters
    ----------
    value : object
        Other than in `CASES`.
    given : mapping
        Other options of both estimators.
    design, panel, fit : mapping
        Options of design, panel and fit.
    rows : str
        Which rows of the shared frame: "all"; "ragged" (one organization seen once, another twice);
        "early" (one treated from the start); "treated" (no never treated); "one" (a cohort of one).
    """

    value: Any
    given: Mapping[str, Any] = {}
    design: Mapping[str, Any] = {}
    panel: Mapping[str, Any] = {}
    fit: Mapping[str, Any] = {}
    rows: str = "all"


def rows_of(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows that a change is tried on."""
    unit, period = frame["unit"], frame["period"]
    if kind == "ragged":
        return frame[~((unit == 3) & (period != 2012)) & ~((unit == 4) & (period > 2013))]
    if kind == "treated ragged":
        return frame[~((unit == 0) & (period == 2012))]
    if kind == "early":
        return frame.assign(cohort=frame["cohort"].where(unit != 0, 2010.0))
    if kind == "treated":
        return frame[frame["cohort"].notna()]
    if kind == "one":
        return frame.assign(cohort=frame["cohort"].where(unit != 0, 2015.0))
    return frame


Z, X = {"covariates": ["z"]}, {"covariates": ["x"]}
LEAST_SQUARES = {
    "covariate_rows": Change(True, design=Z),
    "singletons": Change("drop", rows="ragged"),
}
UNTREATED = {
    "covariate_effect": Change("trend", design=Z),
    "drop_unimputable": Change(True, rows="early"),
}
PLACEBO, WITHOUT = {"vcov": "placebo"}, {"vcov": "none"}
COMPLETION = {"n_factors": None, "method": "matrix_completion"}
CHANGES: dict[str, dict[str, Change]] = {
    "TWFE": {**LEAST_SQUARES, "dose": Change("taken")},
    "EventStudy": {
        **LEAST_SQUARES,
        "reference": Change(-2),
        "endpoints": Change("bin", design={"window": (-2, 2)}),
    },
    "ETWFE": {**LEAST_SQUARES, "weights_random": Change(True, design=Z)},
    "SunAbraham": {**LEAST_SQUARES, "weights_random": Change(True, design=Z)},
    "Stacked": {
        "covariate_rows": Change(True, design=Z),
        "singletons": Change(
            "drop", design={"fixed_effects": ("unit:stack", "event_time")}, rows="ragged"
        ),
        "share": Change("weight"),
        "weights_random": Change(True),
    },
    "TripleDifference": {
        "covariate_rows": Change(True, design={**Z, **NEVER}),
        "singletons": Change("drop", rows="ragged"),
        "by": Change("site"),
        "level": Change("no"),
        "effect": Change("static"),
    },
    "GroupTime": {
        "method": Change("reg", design=X),
        "unbalanced": Change("rc", rows="ragged"),
        "fix_weights": Change("varying", panel={"weight": "w_t"}),
        "covariate_period": Change("base", design={**Z, "base_period": "universal"}),
        "cell_share": Change("pair", rows="treated ragged"),
        "trim": Change(0.2, design=X),
        "drdid_compat": Change(True, given={"unbalanced": "rc"}, design=X),
        "on_failure": Change("skip", rows="treated"),
    },
    "Imputation": {**UNTREATED, "leave_one_out": Change(True)},
    "TwoStage": {**UNTREATED, "leads": Change(False)},
    "Switching": {
        "dose": Change("program"),
        "effects": Change(1),
        "placebos": Change(2),
        "normalised": Change(True),
        "same_switchers": Change(True, given={"effects": 4}),
        "same_placebo_switchers": Change(
            True, given={"effects": 3, "placebos": 3, "same_switchers": True}
        ),
        "switchers": Change("out"),
        "linear_trends": Change(True),
        "trends": Change("site"),
        "cohorts": Change("path", given={"dose": "program"}),
    },
    "Efficient": {
        "estimand": Change("simple"),
        "beta": Change(0.5),
        "before": Change("all"),
        "without_base": Change("drop", rows="early"),
        "singletons": Change("drop", rows="one"),
        "permutations": Change(9, given={"estimand": "simple"}),
        "seed": Change(1, given={"permutations": 19, "estimand": "simple"}),
    },
    "Dose": {
        "dose": Change("other_dose"),
        "estimand": Change("slope"),
        "aggregation": Change("group_time"),
        "average": Change("simple"),
        "basis": Change("bins", given={"grid": None}),
        "degree": Change(2),
        "knots": Change(1),
        "bins": Change(2, given={"basis": "bins", "grid": None}),
        "grid": Change((0.7,)),
        "weights_random": Change(False),
    },
    "SyntheticDiD": {
        "method": Change("did", fit=WITHOUT),
        "solver": Change("frank_wolfe", fit=WITHOUT),
        "covariates": Change("projected", design=Z, fit=WITHOUT),
        "zeta_unit": Change(3.0, fit=WITHOUT),
        "zeta_time": Change(3.0, fit=WITHOUT),
        "replications": Change(12),
        "seed": Change(1),
    },
    "SyntheticControl": {
        "augmented": Change(False),
        "demean": Change(True),
        "lags": Change((2011.0, 2012.0)),
        "importance": Change((1.0, 4.0), given={"augmented": False, "lags": (2011.0, 2012.0)}),
        "covariates": Change("residualize", design=X),
        "penalty": Change(5.0),
        "one_se": Change(False),
        "hold_out": Change("outcomes", given={"one_se": False}, design=X),
        "pooling": Change(0.9, given={"augmented": False}),
        "replications": Change(12, fit=PLACEBO),
        "seed": Change(1, fit=PLACEBO),
    },
    "InteractiveFE": {
        "method": Change("matrix_completion", given={"n_factors": None, "folds": 3}),
        "effects": Change("unit"),
        "n_factors": Change(0),
        "most_factors": Change(0, given={"n_factors": None, "effects": "none"}),
        "shrink": Change(9.0, given={**COMPLETION, "folds": 3}),
        "folds": Change(3, given=COMPLETION),
        "replications": Change(12),
        "seed": Change(1),
    },
    "ChangesInChanges": {
        "method": Change("qdid"),
        "quantiles": Change((0.3,)),
        "ties": Change("independent", design={"outcome": "round"}),
        "quantile_type": Change("inverse", given={"method": "qdid"}, panel={"weight": None}),
        "most_outside": Change(0.01),
        "draws": Change(100, design={"window": (0, 0)}),
        "seed": Change(1, given={"draws": 100}, design={"window": (0, 0)}),
    },
    "GLMDiD": {
        "covariate_rows": Change(True, given={"effect": "common"}, design=X),
        "family": Change("gamma", design={"outcome": "y", **X}),
        "power": Change(1.2, given={"family": "tweedie", "power": 1.5}, design=X),
        "scale": Change("link"),
        "effect": Change("common"),
        "offset": Change(True, panel={"exposure": "w_t", "weight": None}),
        "weights_random": Change(True, design=X),
    },
    "TwoPart": {
        "participation": Change("probit"),
        "intensity": Change("lognormal"),
        "any": Change("any"),
        "weights_random": Change(True),
    },
    "IV": {
        "dose": Change("other"),
        "method": Change("liml", given={"instruments": "by_event_time"}),
        "form": Change("cross_section"),
        "blocks": Change(("site",)),
        "effect": Change("event_time"),
        "instruments": Change("by_event_time"),
        "level": Change(0.8),
    },
}
