"""Bayesian hierarchical models. Samplers and their libraries are loaded when a model is fitted."""

from vbceval.bayes.checks import Limits
from vbceval.bayes.counts.priors import RatePriors
from vbceval.bayes.elicitation import elicit
from vbceval.bayes.evidence_prior import EvidencePrior, evidence_prior
from vbceval.bayes.given_evidence import given_evidence
from vbceval.bayes.groups import predictive_table
from vbceval.bayes.hierarchical import HierarchicalDiD
from vbceval.bayes.joint import JointDiD
from vbceval.bayes.luck import Luck, SavingsNoise, paid_by_luck, share_rewarded_by_chance
from vbceval.bayes.meta import MetaAnalysis
from vbceval.bayes.meta_outcomes import JointMetaAnalysis, within_sensitivity
from vbceval.bayes.meta_small_studies import small_study_check
from vbceval.bayes.prior_checks import headline, power_scaling, prior_sensitivity
from vbceval.bayes.priors import Priors
from vbceval.bayes.reliability import Reliability
from vbceval.bayes.trees import EffectTrees, organization_estimates
from vbceval.bayes.two_part import TwoPartDiD, two_part_columns
from vbceval.bayes.viability import viability, viable_size

__all__ = [
    "EffectTrees",
    "EvidencePrior",
    "HierarchicalDiD",
    "JointDiD",
    "JointMetaAnalysis",
    "Limits",
    "Luck",
    "MetaAnalysis",
    "Priors",
    "RatePriors",
    "Reliability",
    "SavingsNoise",
    "TwoPartDiD",
    "elicit",
    "evidence_prior",
    "given_evidence",
    "headline",
    "organization_estimates",
    "paid_by_luck",
    "power_scaling",
    "predictive_table",
    "prior_sensitivity",
    "share_rewarded_by_chance",
    "small_study_check",
    "two_part_columns",
    "viability",
    "viable_size",
    "within_sensitivity",
]
