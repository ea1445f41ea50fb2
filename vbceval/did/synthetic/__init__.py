"""Synthetic controls, synthetic difference-in-differences and interactive fixed effects."""

from vbceval.did.synthetic.interactive import InteractiveFE
from vbceval.did.synthetic.synthetic_control import SyntheticControl
from vbceval.did.synthetic.synthetic_did import SyntheticDiD

__all__ = ["InteractiveFE", "SyntheticControl", "SyntheticDiD"]
