"""Array and choice types used across rooms, each choice in one place."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Array = NDArray[Any]

Comparison = Literal["never_treated", "not_yet_treated"]
BasePeriod = Literal["varying", "universal"]
PanelKind = Literal["panel", "repeated_cross_section"]
