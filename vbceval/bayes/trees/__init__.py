"""Effects that depend on organizations' covariates, by Bayesian additive regression trees."""

from vbceval.bayes.trees.estimator import EffectTrees
from vbceval.bayes.trees.first_stage import organization_estimates

__all__ = ["EffectTrees", "organization_estimates"]
