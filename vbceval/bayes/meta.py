"""Random-effects meta-analysis of percent spending effects by program type."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from vbceval.bayes.checks import require_converged
from vbceval.bayes.groups import Once
from vbceval.bayes.meta_data import Columns, Studies, read_studies
from vbceval.bayes.meta_nuts import Priors, nuts_posterior
from vbceval.bayes.meta_posterior import Posterior, exact_posterior, new_program
from vbceval.bayes.meta_priors import meta_lines
from vbceval.bayes.meta_tree import complete
from vbceval.bayes.sample import Progress
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.estimates import Estimates

UNIT = "percent"
_MEAN_SD, _SD_SCALE = 3.0, 1.0
"""Default prior scales, percent points."""
_WIDEST = 100.0
"""Prior scales beyond which a unit was mistaken: spending itself is 100."""

SD_ROWS = {
    "type": "between_type_sd",
    "program": "between_program_sd",
    "report": "between_report_sd",
    "effect": "within_report_sd",
}
"""Estimand of each level's standard deviation."""


@dataclass(frozen=True, kw_only=True)
class MetaAnalysis:
    """
    Pool published effects on spending, in percent of baseline spending.

    Effect j is ``type mean + program + report + own deviation + sampling error``. Type means are
    partly pooled towards their common mean. Effects of a report share its deviation, effects of a
    program that several teams evaluated share the program's: ten rows of one report are not ten
    studies. The deviations of a report and of its effects are jointly t-distributed, with the
    variance of normal ones, so that one outlying report moves the means little.

    Parameters
    ----------
    outcome : str, default "spending"
        Name of the outcome in the result.
    robust : bool, default True
        Deviations of a report and its effects are t with `nu` degrees of freedom; False: normal.
    nu : float, default 4
        Degrees of freedom, above 2.
    mean_sd : float, default 3
        Standard deviation, in percent points, of the normal prior of the mean over types, around
        zero: published effects on total spending lie mostly between -4 and +1 percent.
    sd_scale : float, default 1
        Scale, in percent points, of the half-normal prior of every standard deviation.
    program_effects : bool, default True
        Give programs a deviation of their own where one of them has several reports.
    rho : float, default 0
        Correlation of the sampling errors of rows that name the same `sample` in `fit`.
    engine : {"nuts", "grid"}, default "nuts"
        "grid" integrates the standard deviations numerically and everything else exactly; for
        ``robust=False`` and printed standard errors. It is an independent check of the sampler.
    draws, tune, chains : int
        Kept and warm-up iterations of each chain; "grid" gives ``draws * chains`` independent
        draws.
    seed : int, default 20210101
        Seed of all draws.
    target_accept : float, default 0.95
        Mean acceptance that the sampler aims at.

    Notes
    -----
    A standard error that is known only within bounds, because only "P < .001" is printed, is drawn
    with the rest: its logarithm has the normal law of the printed ones, cut off at the bounds.

    References
    ----------
    .. [1] Higgins, J. P. T., Thompson, S. G. and Spiegelhalter, D. J. (2009). A re-evaluation of
       random-effects meta-analysis. *Journal of the Royal Statistical Society A* 172(1), 137-159.
    .. [2] Lee, K. J. and Thompson, S. G. (2008). Flexible parametric models for random-effects
       distributions. *Statistics in Medicine* 27(3), 418-434.

    Examples
    --------
    >>> effects = pd.DataFrame({
    ...     "estimate": [-1.4, -0.9, -2.0, -1.7], "std_error": [0.6, 0.5, 1.0, 0.6],
    ...     "report": ["a", "b", "c", "d"], "program": ["A", "B", "C", "D"],
    ...     "program_type": ["aco", "aco", "bundle", "bundle"]})
    >>> est = MetaAnalysis(robust=False, engine="grid").fit(effects)
    >>> est.where(estimand="type_mean").frame[["stratum", "estimate"]].round(1).values.tolist()
    [['program_type=aco', -1.2], ['program_type=bundle', -1.5]]
    """

    outcome: str = "spending"
    robust: bool = True
    nu: float = 4.0
    mean_sd: float = _MEAN_SD
    sd_scale: float = _SD_SCALE
    program_effects: bool = True
    rho: float = 0.0
    engine: str = "nuts"
    draws: int = 2000
    tune: int = 500
    chains: int = 4
    seed: int = 20210101
    target_accept: float = 0.95

    def __post_init__(self) -> None:
        wrong = []
        if self.engine not in ("nuts", "grid"):
            wrong.append(f"`engine` is '{self.engine}'; it can be 'nuts' or 'grid'")
        if not self.nu > 2:
            wrong.append(f"`nu` is {self.nu}; a variance exists only above 2")
        if not (0 < self.mean_sd <= _WIDEST and 0 < self.sd_scale <= _WIDEST):
            wrong.append(
                f"`mean_sd` is {self.mean_sd} and `sd_scale` {self.sd_scale}; both are percent "
                f"points, not dollars, above 0 and at most {_WIDEST:g}"
            )
        if self.draws < 4 or self.chains < 2:
            wrong.append(
                f"`draws` is {self.draws} and `chains` {self.chains}; at least 4 and 2, so that "
                "ArviZ can compare chains"
            )
        idle = [] if self.robust else ["nu"]
        idle += ["tune", "target_accept"] if self.engine == "grid" else []
        default = {x.name: x.default for x in fields(MetaAnalysis)}
        stray = [f"`{x}`" for x in idle if getattr(self, x) != default[x]]
        if stray:
            wrong.append(
                f"{', '.join(stray)} would change nothing with engine='{self.engine}' and "
                f"robust={self.robust}. Leave out"
            )
        if not 0 <= self.rho < 1:
            wrong.append(f"`rho` is {self.rho}; it lies in [0, 1)")
        if self.engine == "grid" and self.robust:
            wrong.append(
                "engine='grid' needs robust=False: with t-distributed deviations too much "
                "has to be integrated numerically"
            )
        if wrong:
            raise DesignError("the meta-analysis cannot be set up: " + "; ".join(wrong) + ".")

    def fit(
        self,
        data: pd.DataFrame,
        *,
        estimate: str = "estimate",
        std_error: str = "std_error",
        report: str = "report",
        program: str = "program",
        program_type: str = "program_type",
        std_error_low: str | None = None,
        std_error_high: str | None = None,
        sample: str | None = None,
        keep: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Estimates:
        """
        Return the posterior of means, spreads, predictions and shrunken effects.

        Parameters
        ----------
        data : DataFrame, n rows
            One row an effect.
        estimate, std_error : str
            Columns of effects and standard errors, percent of baseline spending, treated minus
            untreated (negative = lower spending). A standard error may be missing where it has a
            bound.
        report, program, program_type : str
            Columns of the report that prints the effect, the program and its type.
        std_error_low, std_error_high : str, optional
            Columns of bounds, read where the standard error is missing; a missing upper bound is
            infinite.
        sample : str, optional
            Column naming the sample of people behind a row, used with `rho`; missing: nobody
            else's.
        keep : sequence of str
            Further columns of `data` to carry along on the rows of `study_effect`, under names that
            the result does not use.
        progress : callable, optional
            As in `vbceval.bayes.sample.sample`.

        Returns
        -------
        Estimates
            With draws, unit percent. Rows, by ``estimand``: ``mean_effect`` (mean over types, each
            counting once); ``mean_of_reports`` (mean of the type means, by number of reports);
            ``type_mean`` and ``predictive`` (true effect of a new program, in a new report) for
            each stratum ``program_type=...``; ``between_type_sd``, ``between_program_sd``,
            ``between_report_sd``, ``within_report_sd`` where the level is in the model; and
            ``study_effect``, the shrunken effect of each row of `data`, with columns ``observed``,
            ``observed_se`` (posterior mean where not printed), ``report``, ``program``,
            ``program_type`` and `keep`. The DataTree has ``posterior``, ``log_likelihood`` by
            program, ``log_prior``, ``prior``, ``observed_data``, and ``posterior_predictive`` and
            ``prior_predictive`` of the same rows, of new programs. ``meta["prior_sensitivity"]`` has
            means and predictions under a skeptical and a flat prior of the mean as well (see
            `vbceval.bayes.meta_priors.meta_lines`); `vbceval.bayes.headline` says them.

        Raises
        ------
        DataError
            If the table cannot be used; all failures together.
        DesignError
            If there are fewer than two rows, or an option does not fit the table.
        EstimationError
            If the draws cannot be trusted.
        """
        if progress is not None and self.engine == "grid":
            raise DesignError("engine='grid' reports no progress. Leave out `progress`.")
        columns = Columns(
            estimate,
            std_error,
            report,
            program,
            program_type,
            std_error_low,
            std_error_high,
            sample,
        )
        studies = read_studies(data, columns, keep, program_effects=self.program_effects)
        self._check(studies, columns)
        posterior = self.posterior(studies, progress)
        tree = posterior.tree(studies)
        convergence = None
        if self.engine == "nuts":
            convergence = asdict(require_converged(tree, posterior.reported))
        frame, draws = _rows(self, studies, posterior, columns)
        return Estimates(
            frame=frame,
            samples=draws,
            cluster_name=report,
            interval="credible",
            meta={
                **self._meta(studies, columns, convergence),
                "prior_sensitivity": self._lines(frame, draws, posterior, studies, columns),
            },
            tree=Once(functools.partial(complete, posterior, tree, studies, **self._scales())),
        )

    def _lines(
        self, frame: pd.DataFrame, draws: FloatArray, posterior: Posterior, studies: Studies,
        columns: Columns,
    ) -> list[dict[str, Any]]:  # fmt: skip
        def again(mean_sd: float) -> FloatArray:
            other = replace(self, mean_sd=mean_sd)
            return _rows(other, studies, other.posterior(studies), columns)[1]

        usual = (self.mean_sd, self.sd_scale) == (_MEAN_SD, _SD_SCALE)
        return meta_lines(
            frame, draws, posterior.mean, mean_sd=self.mean_sd, usual=usual,
            again=again if self.engine == "grid" else None,
        )  # fmt: skip

    def _scales(self) -> dict[str, Any]:
        """Return what the groups of the tree depend on beside the draws."""
        scales = {x: getattr(self, x) for x in ("mean_sd", "sd_scale", "rho", "seed")}
        return {**scales, "nu": self.deviation_df}

    def posterior(self, studies: Studies, progress: Progress | None = None) -> Posterior:
        """Draw from the posterior of checked studies; `fit` puts the draws into a table."""
        if self.engine == "grid":
            found = exact_posterior(
                studies,
                sd_scale=self.sd_scale,
                mean_sd=self.mean_sd,
                rho=self.rho,
                draws=self.draws * self.chains,
                rng=generator(self.seed, "meta", "grid"),
            )
            return replace(found, chains=self.chains)
        options = {
            x: getattr(self, x) for x in ("draws", "tune", "chains", "seed", "target_accept")
        }
        return nuts_posterior(
            studies,
            Priors(self.mean_sd, self.sd_scale, self.nu if self.robust else None, self.rho),
            options=options,
            rng=generator(self.seed, "meta", "nuts"),
            progress=progress,
        )

    def _check(self, studies: Studies, columns: Columns) -> None:
        if (self.rho > 0) != (columns.sample is not None):
            raise DesignError(
                f"`rho` is {self.rho:g} and `sample` is {columns.sample!r}: the correlation and the "
                "column that says which rows share a sample are needed together."
            )
        if self.engine == "grid" and studies.error_law is not None:
            raise DesignError(
                f"{len(studies.error_law.rows)} standard errors are known only within bounds, which "
                "engine='grid' cannot integrate over. Use engine='nuts', or leave those rows out."
            )

    def _meta(
        self, studies: Studies, columns: Columns, convergence: dict[str, Any] | None
    ) -> dict[str, Any]:
        law = studies.error_law
        shape = f"t with {self.nu:g} degrees of freedom" if self.robust else "normal"
        return {
            "estimator": "MetaAnalysis",
            "options": asdict(self),
            "columns": columns._asdict(),
            "exactness": "exact given standard deviations" if self.engine == "grid" else "sampled",
            "prior": (
                f"mean N(0, {self.mean_sd:g}^2), standard deviations half-normal({self.sd_scale:g}),"
                f" percent points; deviations of reports and effects {shape}"
            ),
            "levels": list(studies.levels),
            "n_effects": len(studies),
            "n_reports": len(studies.labels["report"]),
            "n_programs": len(studies.labels["program"]),
            "n_bounded_errors": 0 if law is None else len(law.rows),
            "bounded_error_law": None
            if law is None
            else {"log_mean": law.log_mean, "log_sd": law.log_sd},
            "convergence": convergence,
            "seed": self.seed,
        }

    @property
    def deviation_df(self) -> float | None:
        """Degrees of freedom of the deviations; None where they are normal."""
        return self.nu if self.robust else None


def _rows(
    model: MetaAnalysis, studies: Studies, posterior: Posterior, columns: Columns
) -> tuple[pd.DataFrame, FloatArray]:
    types: list[str | None] = [f"program_type={x}" for x in studies.labels["type"]]
    one: list[str | None] = [None]
    pairs = np.unique(np.stack([studies.index["report"], studies.index["type"]]), axis=1)
    share = np.bincount(pairs[1], minlength=len(types)) / pairs.shape[1]
    new = new_program(studies, posterior, model.deviation_df, generator(model.seed, "meta", "new"))
    parts: list[tuple[str, list[str | None], FloatArray]] = [
        ("mean_effect", one, posterior.mean[:, None]),
        ("mean_of_reports", one, posterior.type_mean @ share[:, None]),
        ("type_mean", types, posterior.type_mean),
        ("predictive", types, posterior.type_mean + new[:, None]),
        *[(SD_ROWS[x], one, posterior.sd[x][:, None]) for x in studies.levels],
        ("study_effect", one * len(studies), posterior.true_effect(studies)),
    ]
    frame = pd.DataFrame(
        [(name, stratum) for name, strata, _ in parts for stratum in strata],
        columns=["estimand", "stratum"],
    )
    draws = np.concatenate([values for _, _, values in parts], axis=1)
    frame["estimate"] = draws.mean(axis=0)
    frame = frame.assign(outcome=model.outcome, unit_of_measure=UNIT)
    frame["n_units"], frame["n_clusters"] = _counts(frame, studies, columns)
    described = studies.frame.rename(
        columns={
            columns.report: "report",
            columns.program: "program",
            columns.program_type: "program_type",
        }
    )
    described["observed"] = studies.estimate
    described["observed_se"] = posterior.std_error.mean(axis=0)
    described.index = frame.index[-len(studies) :]
    return frame.join(described), draws


def _counts(
    frame: pd.DataFrame, studies: Studies, columns: Columns
) -> tuple[FloatArray, FloatArray]:
    """Return numbers of effects and of reports behind each row."""
    effects = np.full(len(frame), float(len(studies)))
    reports = np.full(len(frame), float(len(studies.labels["report"])))
    for kind, part in studies.frame.groupby(columns.program_type, sort=False):
        rows = (frame["stratum"] == f"program_type={kind}").to_numpy(dtype=bool)
        effects[rows], reports[rows] = len(part), part[columns.report].nunique()
    own = (frame["estimand"] == "study_effect").to_numpy(dtype=bool)
    effects[own], reports[own] = 1, 1
    return effects, reports
