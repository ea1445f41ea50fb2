"""Effects by the amount of treatment."""

from vbceval.did.dose.dose import Dose

__all__ = ["Dose"]
