"""Meta-analysis of several outcomes jointly."""

from vbceval.bayes.meta_outcomes.estimator import JointMetaAnalysis, within_sensitivity

__all__ = ["JointMetaAnalysis", "within_sensitivity"]
