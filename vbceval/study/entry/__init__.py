"""Steps of an evaluation of entry into an ACO program, each writing its exhibits."""

from vbceval.study.entry.effects import EntryEffects, estimate_effects, show_strata
from vbceval.study.entry.headlines import state_results
from vbceval.study.entry.money import Account, account
from vbceval.study.entry.posterior import sample_posterior
from vbceval.study.entry.reliability import profile_acos
from vbceval.study.entry.sample import describe_sample
from vbceval.study.entry.variants import chain_later_years, compare_rules

__all__ = [
    "Account",
    "EntryEffects",
    "account",
    "chain_later_years",
    "compare_rules",
    "describe_sample",
    "estimate_effects",
    "profile_acos",
    "sample_posterior",
    "show_strata",
    "state_results",
]
