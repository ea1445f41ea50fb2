"""What a result depends on; reads `Estimates`, and other estimators only through callables."""

from vbceval.sensitivity.adjusted import multiplicity
from vbceval.sensitivity.cell_weights import TreatmentWeights, twfe_weights
from vbceval.sensitivity.compare import differences
from vbceval.sensitivity.curve import SpecificationCurve, specification_curve
from vbceval.sensitivity.entry import regression_to_mean
from vbceval.sensitivity.equivalence import Equivalence, equivalence
from vbceval.sensitivity.event_path import EventPath, from_numbers
from vbceval.sensitivity.honest import Honest, honest
from vbceval.sensitivity.ladders import Ladder, coding_intensity, ladder
from vbceval.sensitivity.leave_out import LeaveOneOut, leave_one_out
from vbceval.sensitivity.market import (
    Contamination,
    contaminated_comparison,
    implied_on_attributed,
)
from vbceval.sensitivity.omitted import OmittedVariable, omitted_variable, robustness_value
from vbceval.sensitivity.placebo_space import placebo_in_space
from vbceval.sensitivity.placebos import placebo
from vbceval.sensitivity.power import minimum_detectable_effect, simulated_power
from vbceval.sensitivity.precheck import precheck
from vbceval.sensitivity.pretrend_power import PretrendPower, pretrend_power
from vbceval.sensitivity.pretrends import pretrends
from vbceval.sensitivity.spillovers import attributed_share, spillover
from vbceval.sensitivity.two_by_two import Decomposition, bacon

__all__ = [
    "Contamination",
    "Decomposition",
    "Equivalence",
    "EventPath",
    "Honest",
    "Ladder",
    "LeaveOneOut",
    "OmittedVariable",
    "PretrendPower",
    "SpecificationCurve",
    "TreatmentWeights",
    "attributed_share",
    "bacon",
    "coding_intensity",
    "contaminated_comparison",
    "differences",
    "equivalence",
    "from_numbers",
    "honest",
    "implied_on_attributed",
    "ladder",
    "leave_one_out",
    "minimum_detectable_effect",
    "multiplicity",
    "omitted_variable",
    "placebo",
    "placebo_in_space",
    "precheck",
    "pretrend_power",
    "pretrends",
    "regression_to_mean",
    "robustness_value",
    "simulated_power",
    "specification_curve",
    "spillover",
    "twfe_weights",
]
