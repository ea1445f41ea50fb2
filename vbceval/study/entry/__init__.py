"""Steps of an evaluation of entry into an ACO program, each writing its exhibits."""

from vbceval.study.entry.effects import EntryEffects, estimate_effects
from vbceval.study.entry.sample import describe_sample

__all__ = ["EntryEffects", "describe_sample", "estimate_effects"]
