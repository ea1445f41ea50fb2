"""Imputation of untreated outcomes (Borusyak, Jaravel and Spiess 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems
from vbceval.core.errors import DesignError
from vbceval.core.version import versions
from vbceval.design import Design
from vbceval.did.impute import Imputed, Lead, impute, lead_effects
from vbceval.did.inputs import as_moments, cluster_labels, design_meta, small_sample, strata_of
from vbceval.did.panelled import Panelled, arrange, coverage_problems, untreated_samples
from vbceval.estimates import Estimates, Shares
from vbceval.estimates.columns import GROUP_TIME
from vbceval.inference import SSC
from vbceval.moments import Moments
from vbceval.panel import Panel
