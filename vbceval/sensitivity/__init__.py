"""What a result depends on; reads `Estimates`, and other estimators only through callables."""

from vbceval.sensitivity.adjusted import multiplicity
from vbceval.sensitivity.cell_weights import TreatmentWeights, twfe_weights
from vbceval.sensitivity.compare import differences
from vbceval.sensitivity.curve import SpecificationCurve, specification_curve
from vbceval.sensitivity.entry import regression_to_mean
from vbceval.sensitivity.equivalence import Equivalence, equivalence
from vbceval.sensitivity.event_path import EventPath, from_numbers
from vbceval.sensitivity.honest import Honest, honest
from vbceval.sensitivity.leave_out import LeaveOneOut, leave_one_out
from vbceval.sensitivity.placebos import placebo
from vbceval.sensitivity.power import minimum_detectable_effect, simulated_power
from vbceval.sensitivity.precheck import precheck
from vbceval.sensitivity.pretrend_power import PretrendPower, pretrend_power
from vbceval.sensitivity.pretrends import pretrends
from vbceval.sensitivity.two_by_two import Decomposition, bacon

__all__ = [
    "Decomposition",
    "Equivalence",
    "EventPath",
    "Honest",
    "LeaveOneOut",
    "PretrendPower",
    "SpecificationCurve",
    "TreatmentWeights",
    "bacon",
    "differences",
    "equivalence",
    "from_numbers",
    "honest",
    "leave_one_out",
    "minimum_detectable_effect",
    "multiplicity",
    "placebo",
    "precheck",
    "pretrend_power",
    "pretrends",
    "regression_to_mean",
    "simulated_power",
    "specification_curve",
    "twfe_weights",
]
