"""What a result depends on; reads `Estimates`, and other estimators only through callables."""

from vbceval.sensitivity.adjusted import multiplicity
from vbceval.sensitivity.cell_weights import TreatmentWeights, twfe_weights
from vbceval.sensitivity.compare import differences
from vbceval.sensitivity.pretrends import pretrends
from vbceval.sensitivity.two_by_two import Decomposition, bacon

__all__ = [
    "Decomposition",
    "TreatmentWeights",
    "bacon",
    "differences",
    "multiplicity",
    "pretrends",
    "twfe_weights",
]
