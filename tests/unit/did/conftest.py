"""A panel typed in: nine organizations, four years, two cohorts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

# spending of each year 2013-2016 (hundreds of dollars), entry, risk score, person-years
TYPED = {
    "A": ([90.0, 92.0, 91.0, 93.0], 2015, 1.00, 10.0),
    "B": ([85.0, 88.0, 85.0, 86.0], 2015, 0.90, 20.0),
    "C": ([101.0, 102.0, 102.0, 101.0], 2015, 1.20, 30.0),
    "D": ([95.0, 97.0, 99.0, 98.0], 2016, 1.10, 10.0),
    "E": ([88.0, 91.0, 92.0, 92.0], 2016, 0.95, 10.0),
    "F": ([80.0, 82.0, 85.0, 86.0], np.nan, 0.85, 20.0),
    "G": ([99.0, 103.0, 104.0, 108.0], np.nan, 1.15, 40.0),
    "H": ([92.0, 93.0, 97.0, 98.0], np.nan, 1.05, 10.0),
    "I": ([87.0, 89.0, 90.0, 93.0], np.nan, 0.92, 30.0),
}


@pytest.fixture
def typed() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"aco": aco, "year": 2013 + i, "entry": entry, "hcc": hcc, "pyears": people,
             "spend": value}
            for aco, (values, entry, hcc, people) in TYPED.items()
            for i, value in enumerate(values)
        ]
    )  # fmt: skip
