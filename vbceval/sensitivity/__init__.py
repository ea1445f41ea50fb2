"""What a result depends on; reads `Estimates`, and other estimators only through callables."""

from vbceval.sensitivity.adjusted import multiplicity
from vbceval.sensitivity.compare import differences
from vbceval.sensitivity.pretrends import pretrends

__all__ = ["differences", "multiplicity", "pretrends"]
