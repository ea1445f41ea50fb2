"""Notes and provenance, written from the record of the fit and never typed by the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vbceval.figures.numbers import interval_name, number, star_rule
from vbceval.figures.sources import Source
from vbceval.figures.style import Style
from vbceval.figures.wording import display, listing

_NESTED = ("design", "options")
_COMPARISON = {
    "not_yet_treated": "organizations not yet in the program",
    "never_treated": "organizations never in the program",
}
_CONVERGENCE = {
    "r_hat": "largest R-hat",
    "ess_bulk": "smallest bulk effective sample size",
    "ess_tail": "smallest tail effective sample size",
    "bfmi": "smallest BFMI",
    "divergences": "divergences",
}
_PROVENANCE = (
    "estimator",
    "options",
    "design",
    "vcov",
    "ssc",
    "seed",
    "n_units",
    "n_clusters",
    "panel_id",
    "design_id",
    "exactness",
    "prior",
    "convergence",
    "versions",
    "warnings",
)


def fact(meta: Mapping[str, Any], name: str) -> Any:
    """Return an entry of the record, or of the design or options in it; None where absent."""
    if meta.get(name) is not None:
        return meta[name]
    for key in _NESTED:
        inner = meta.get(key)
        if isinstance(inner, Mapping):
            found = inner.get(name)
        else:
            found = getattr(inner, name, None) if dataclasses.is_dataclass(inner) else None
        if found is not None:
            return found
    return None


def join(sentences: Sequence[str]) -> str:
    """Return the note: the sentences that are not empty, each ending in a full stop."""
    kept = [s.strip() for s in sentences if s.strip()]
    return " ".join(s if s.endswith(".") else f"{s}." for s in kept)


def fit_sentences(source: Source, style: Style) -> list[str]:
    """Say what was fitted: estimator, comparison, adjustment, weights, errors, draws, warnings."""
    meta = source.meta
    out = [_estimator(meta)]
    comparison = fact(meta, "comparison")
    if comparison is not None:
        out.append(f"Comparison: {_COMPARISON.get(str(comparison), display(comparison))}")
    covariates = fact(meta, "covariates")
    if covariates:
        out.append(f"Adjusted for {listing([display(c) for c in covariates])}")
    weight = fact(meta, "weight")
    if weight is not None:
        out.append(f"Weighted by {display(weight)}")
    anticipation = fact(meta, "anticipation")
    if anticipation:
        out.append(f"Anticipation of {anticipation} periods is allowed for")
    out.append(_errors(source, style))
    out.append(_draws(source, style))
    prior = meta.get("prior")
    if isinstance(prior, Mapping):
        prior = "; ".join(f"{display(name)} {law}" for name, law in prior.items())
    if prior is not None:
        out.append(f"Prior: {prior}")
    warnings = [str(w).rstrip(".") for w in meta.get("warnings") or ()]
    if warnings:
        out.append(f"The fit warned: {'; '.join(warnings)}")
    return out


def _estimator(meta: Mapping[str, Any]) -> str:
    name = meta.get("estimator")
    if name is None:
        return ""
    options = meta.get("options")
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        options = dataclasses.asdict(options)
    said = []
    if isinstance(options, Mapping):
        # choices between methods; numbers (seeds, sizes, scales) are in the provenance
        said = [display(k) for k, v in options.items() if v is True]
        said += [f"{display(k)} {display(v)}" for k, v in options.items() if isinstance(v, str)]
    return f"Estimator: {name}{f' ({listing(said)})' if said else ''}"


def _errors(source: Source, style: Style) -> str:
    if source.interval == "credible":
        return ""
    kind, cluster = fact(source.meta, "vcov"), source.meta.get("cluster_name")
    clustered = source.estimates is not None and source.estimates.clusters is not None
    if kind is None and not clustered:
        return ""
    text = f"Standard errors{f': {kind},' if kind is not None else ''}"
    if clustered and source.estimates is not None and source.estimates.clusters is not None:
        count = number(len(source.estimates.clusters), style)
        text += f" clustered by {display(cluster)} ({count} clusters)"
    return text.rstrip(",")


def _draws(source: Source, style: Style) -> str:
    if source.interval != "credible":
        return ""
    parts = []
    if source.estimates is not None and source.estimates.samples is not None:
        parts.append(f"{number(len(source.estimates.samples), style)} posterior draws")
    found = source.meta.get("convergence")
    if isinstance(found, Mapping):
        parts += [
            f"{words} {found[name]:.4g}"
            for name, words in _CONVERGENCE.items()
            if isinstance(found.get(name), (int, float)) and np.isfinite(found[name])
        ]
    return ", ".join(parts)


def interval_sentence(source: Source, *, marks: str = "Bars") -> str:
    """Say what the interval marks are, and at which level."""
    if source.level is None:
        return ""
    return f"{marks}: {interval_name(source.level, source.interval)}, pointwise"


def base_period_sentence(meta: Mapping[str, Any], *, reference: Sequence[float]) -> str:
    """Say what effects before entry are relative to."""
    if len(reference):
        said = listing([f"{e:g}".replace("-", "\u2212") for e in reference])
        return f"Reference period: {said} (zero by construction, hollow mark without interval)"
    if fact(meta, "base_period") == "varying":
        return (
            "No reference period is drawn: each effect before entry compares two adjacent periods "
            "(varying base)"
        )
    return ""


def stars_sentence(style: Style) -> str:
    """State the star rule of the style; empty where it prints P values."""
    return f"Stars: {star_rule(style)}" if style.stars else ""


def sign_sentence(convention: str) -> str:
    """State the sign convention as a sentence."""
    return f"{convention[0].upper()}{convention[1:]}"


def provenance(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of the record that say where the numbers come from, as plain values."""
    return {key: plain(meta[key]) for key in _PROVENANCE if meta.get(key) is not None}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what has no plain form is written out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
