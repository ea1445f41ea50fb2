"""What published evaluations of other programs say about a new one, as a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.meta_checks import belonging
from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_posterior import HEAVY_LEVELS, Posterior
from vbceval.bayes.priors import Priors
from vbceval.bayes.weighted import WeightedMeta
from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.core.rng import generator
from vbceval.core.typing import FloatArray
from vbceval.evidence import independent_of

_FEWEST = 3
_SIZE = 8000


class Effects(NamedTuple):
    """
    Prior law of the effects of one program: a mixture of S normal laws.

    Effects of several rows are ``centre + shared deviation + own deviation``.

    Parameters
    ----------
    centre : array, shape (S,)
        Means, percent of baseline.
    shared, own : array, shape (S,)
        Variances of what the rows of a program have in common, and of what is a row's own.
    own_scale : float, default 0
        Where nothing is known of the latter: scale of the half-normal prior of its standard
        deviation, for an estimate of several rows. That of a single row is in `shared`.
    """

    centre: FloatArray
    shared: FloatArray
    own: FloatArray
    own_scale: float = 0.0

    def of_rows(self, k: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return means, shape (S,), and covariances, shape (S, k, k), of the effects of k rows."""
        own = self.own
        if k > 1 and self.own_scale:
            own = own + np.square(self.own_scale * rng.standard_normal(len(own)))
        return self.centre, self.shared[:, None, None] + own[:, None, None] * np.eye(k)


@dataclass(frozen=True, kw_only=True, eq=False)
class EvidencePrior:
    """
    Law of the true effect of one program, given published effects of others.

    Made by `evidence_prior`. It is the predictive law of a meta-analysis: centred at the mean of
    programs of the type, and as wide as programs, reports and rows differ.

    Parameters
    ----------
    effects : Effects
        S draws of its parts. The shared part holds what differs between programs and reports, the
        own part what differs between rows of a report (cohorts, years).
    used, left_out : DataFrame
        Published effects that went in; and those that did not, with the reason, ``why``.
    program : tuple of str
        Names of the program whose results were left out.
    program_type : str
        Type of the program, or "new" for one that no result has.
    meta : mapping
        Of the meta-analysis.
    """

    effects: Effects
    used: pd.DataFrame
    left_out: pd.DataFrame
    program: tuple[str, ...]
    program_type: str
    meta: dict[str, Any]

    @property
    def mean(self) -> float:
        """Mean of the effect of one row, percent of baseline."""
        return float(self.effects.centre.mean())

    @property
    def sd(self) -> float:
        """Its standard deviation, percent of baseline."""
        law = self.effects
        return float(np.sqrt(law.centre.var() + (law.shared + law.own).mean()))

    def priors(self, **scales: float) -> Priors:
        """
        Return the normal law of the same mean and sd, for ``HierarchicalDiD(prior=...)``.

        The tails of the mixture are heavier than this normal law's. It is the prior of the effect
        at entry; parts by cohort, event time and stratum add to it.

        Parameters
        ----------
        **scales : float
            Other fields of `Priors`.
        """
        return Priors(effect_mean=self.mean, effect=self.sd, **scales)

    def describe(self) -> str:
        """Return in words what the prior is, what it rests on and what was left out."""
        labels = "label" if "label" in self.left_out else "program"
        why = [f"{row[labels]} ({row['why']})" for row in self.left_out.to_dict("records")]
        nothing = f"nothing, as no such result of {listed(self.program)} is in the table"
        return (
            f"effect of {listed(self.program)}, of type '{self.program_type}', given "
            f"{len(self.used)} published effects from {self.used['report'].nunique()} reports: mean "
            f"{self.mean:.2f}, standard deviation {self.sd:.2f} percent of baseline. Left out: "
            f"{'; '.join(why) or nothing}."
        )


def evidence_prior(
    effects: pd.DataFrame,
    *,
    program: str | Sequence[str],
    program_type: str,
    years: tuple[int, int] | None = None,
    model: MetaAnalysis | None = None,
) -> EvidencePrior:
    """
    Return what published effects of other programs say about the effect of a program.

    Results of the same program are left out and named (`vbceval.evidence.independent_of`), and the
    rest are pooled by `MetaAnalysis`.

    Parameters
    ----------
    effects : DataFrame
        From `vbceval.evidence.spending_effects`: columns ``percent_effect``, ``se_percent``, its
        bounds ``se_percent_low`` and ``se_percent_high`` where it is not printed, ``report``,
        ``program``, ``program_type``, and ``period`` where `years` are given. Percent of baseline
        spending, treated minus untreated.
    program : str or sequence of str
        The program, and other names of it.
    program_type : str
        Its type, as in the table. Of a type that no other program in the table has, the law is
        wider by what types differ.
    years : (int, int), optional
        Years of the data behind the new estimate. Results of the same program in other years then
        count as evidence.
    model : MetaAnalysis, optional
        Default `vbceval.bayes.weighted.WeightedMeta`, with its default priors.

    Returns
    -------
    EvidencePrior

    Raises
    ------
    DataError
        If the table cannot be used.
    DesignError
        If fewer than three published effects are left.
    EstimationError
        If the meta-analysis cannot be trusted.
    """
    decisions = independent_of(effects, program, years=years)
    kept = decisions["kept"].to_numpy(bool)
    left_out = effects.assign(why=decisions["why"])[~kept].reset_index(drop=True)
    used = effects[kept].reset_index(drop=True)
    if len(used) < _FEWEST:
        raise DesignError(
            f"{len(used)} published effects are left when those of the same program are taken away, "
            f"fewer than {_FEWEST}: the prior would be that of the meta-analysis alone. Use a named "
            "prior, or a table with more programs."
        )
    model = WeightedMeta() if model is None else model
    fitted = model.fit(
        used, estimate="percent_effect", std_error="se_percent", std_error_low="se_percent_low",
        std_error_high="se_percent_high",
    )  # fmt: skip
    studies, posterior = belonging(model, used, fitted)
    rng = generator(model.seed, "evidence prior")
    found = _new_program(model, studies, posterior, program_type, rng)
    seen = program_type in studies.labels["type"]
    return EvidencePrior(
        effects=found, used=used, left_out=left_out,
        program=(program,) if isinstance(program, str) else tuple(program),
        program_type=program_type if seen else "new", meta=dict(fitted.meta),
    )  # fmt: skip


def _new_program(
    model: MetaAnalysis,
    studies: Studies,
    posterior: Posterior,
    program_type: str,
    rng: np.random.Generator,
) -> Effects:
    """Return the parts of the law of a new program's effects, one for each posterior draw."""
    size = len(posterior.mean)
    types = list(studies.labels["type"])
    if program_type in types:
        centre = posterior.type_mean[:, types.index(program_type)]
    else:
        # with one type in the table nothing says how types differ: the prior of that spread does
        unseen = model.sd_scale * np.abs(rng.standard_normal(size))
        between = posterior.sd.get("type", unseen)
        centre = posterior.mean + between * rng.standard_normal(size)
    nu = model.deviation_df
    mixing = np.ones(size) if nu is None else (nu - 2) / rng.chisquare(nu, size)
    variance = {
        level: posterior.sd[level] ** 2 * (mixing if level in HEAVY_LEVELS else 1.0)
        for level in studies.random_levels
    }
    own = variance.pop("effect", None)
    shared = np.asarray(sum(variance.values()))
    if own is None:
        # no report has several rows: what differs between rows is part of what differs by report
        return Effects(np.asarray(centre), shared, np.zeros(size), model.sd_scale)
    return Effects(np.asarray(centre), shared, np.asarray(own))


def of_priors(priors: Priors) -> Effects:
    """
    Return the prior of effects that a set of priors stands for, of one estimate or several.

    One effect has the normal law of the effect at entry; several share it, and differ by deviations
    whose standard deviation has the half-normal prior of the parts of the effect.
    """
    ones = np.ones(_SIZE)
    return Effects(priors.effect_mean * ones, priors.effect**2 * ones, 0.0 * ones, priors.spread)
