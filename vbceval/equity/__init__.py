"""Results by stratum and the gaps between strata, always from one joint law."""

from vbceval.equity.gaps import equality, gaps

__all__ = ["equality", "gaps"]
