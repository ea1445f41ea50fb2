"""Results by stratum and the gaps between strata, always from one joint law."""

from vbceval.equity.decompose import decompose
from vbceval.equity.gaps import equality, gaps, narrowing
from vbceval.equity.rewards import rewards
from vbceval.equity.suppress import Suppressed, suppress

__all__ = ["Suppressed", "decompose", "equality", "gaps", "narrowing", "rewards", "suppress"]
