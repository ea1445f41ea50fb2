"""The robust meta-analysis in PyMC, and what it integrates out before sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from vbceval.bayes.meta_data import Studies
from vbceval.bayes.meta_posterior import Posterior, _membership
from vbceval.bayes.sample import Progress, sample
from vbceval.core.typing import FloatArray
