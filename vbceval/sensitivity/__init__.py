"""What a result depends on; reads `Estimates`, and other estimators only through callables."""

from vbceval.sensitivity.adjusted import multiplicity
from vbceval.sensitivity.cell_weights import TreatmentWeights, twfe_weights
from vbceval.sensitivity.compare import differences
from vbceval.sensitivity.leave_out import LeaveOneOut, leave_one_out
from vbceval.sensitivity.placebos import placebo
from vbceval.sensitivity.pretrends import pretrends
from vbceval.sensitivity.two_by_two import Decomposition, bacon

__all__ = [
    "Decomposition",
    "LeaveOneOut",
    "TreatmentWeights",
    "bacon",
    "differences",
    "leave_one_out",
    "multiplicity",
    "placebo",
    "pretrends",
    "twfe_weights",
]
