"""Panels of organizations with known effects, and what estimators make of them."""

from vbceval.simulate.catalogue import process
from vbceval.simulate.diagnose import Diagnosis, diagnose
from vbceval.simulate.panels import OrganizationPanel, Stratum
from vbceval.simulate.truth import Truth

__all__ = ["Diagnosis", "OrganizationPanel", "Stratum", "Truth", "diagnose", "process"]
