"""Several outcomes in one hierarchical model, correlated within organizations."""

from vbceval.bayes.joint.estimator import JointDiD

__all__ = ["JointDiD"]
