"""Inference: arrays in, arrays out. Nothing here knows an estimator or a program."""

from vbceval.inference.bands import step_down, sup_t
from vbceval.inference.clusters import sum_by_cluster
from vbceval.inference.few_treated import FewTreated
from vbceval.inference.multiplier import Multiplier
from vbceval.inference.randomization import Randomization
from vbceval.inference.ssc import SSC
from vbceval.inference.wald import WaldTest, wald_test
from vbceval.inference.wild import Wild

__all__ = [
    "SSC",
    "FewTreated",
    "Multiplier",
    "Randomization",
    "WaldTest",
    "Wild",
    "step_down",
    "sum_by_cluster",
    "sup_t",
    "wald_test",
]
