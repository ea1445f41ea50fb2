"""
Switching against the authors' published numbers on banking deregulation (Favara and Imbs 2015).

1,048 counties, 1994-2005, treatment 0 to 4. Numbers as printed in the documentation of the authors'
packages (`did_multiplegt_dyn`, README of its Python port, version 0.1): seven digits, from the same
data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc

NORMALISED = {
    1: (0.0240393, 0.0184241), 2: (0.0116702, 0.0106714), 3: (0.0143443, 0.00828821),
    4: (0.0115211, 0.00819515), 5: (0.0161627, 0.00684205), 6: (0.0133861, 0.00625129),
    7: (0.00981002, 0.00495722), 8: (0.0100838, 0.00430933),
    -1: (0.0303785, 0.0264052), -2: (-0.0217763, 0.0253522), -3: (-0.0137113, 0.0263437),
}  # fmt: skip
TOTAL = (0.055063, 0.0268082)
SWITCHERS = {-1: 764, -2: 497, -3: 358}


@pytest.fixture(scope="module")
def panel(shared_dir: Path) -> vbc.Panel:
    frame = pd.read_csv(shared_dir / "golden/data/favara_imbs.csv").assign(entry=np.nan)
    return vbc.Panel.from_frame(
        frame, unit="county", period="year", cohort="entry", cluster="state_n", people=False
    )


def test_normalised_effects_of_the_same_switchers(panel) -> None:
    found = vbc.did.Switching(
        dose="inter_bra", effects=8, placebos=3, normalised=True, same_switchers=True
    ).fit(panel, vbc.Design(outcome="Dl_vloans_b"))
    table = found.tidy().set_index("horizon")
    for horizon, (estimate, std_error) in NORMALISED.items():
        row = table.loc[horizon]
        assert row["estimate"] == pytest.approx(estimate, rel=6e-6), horizon
        assert row["std_error"] == pytest.approx(std_error, rel=6e-6), horizon
        assert row["n_treated"] == SWITCHERS.get(horizon, 773)
    total = found.overall()
    assert total.estimate.item() == pytest.approx(TOTAL[0], rel=1e-5)
    assert total.std_error.item() == pytest.approx(TOTAL[1], rel=6e-6)
    # "Test of joint nullity of the placebos", as the authors' package prints it
    assert found.wald("horizon < 0").p_value == pytest.approx(0.533651, abs=1e-6)


def test_plain_effects(panel) -> None:
    """Estimates that two packages print to four digits, and the joint tests."""
    found = vbc.did.Switching(dose="inter_bra", effects=8, placebos=3).fit(
        panel, vbc.Design(outcome="Dl_vloans_b")
    )
    table = found.frame.set_index("horizon")["estimate"].round(4)
    assert table.loc[[1, 2, 3, 4, 5]].tolist() == [0.0435, 0.0387, 0.0813, 0.0706, 0.1476]
    assert table.loc[[-1, -2, -3]].tolist() == [0.0548, -0.0718, -0.1095]
    assert found.wald("horizon < 0").p_value == pytest.approx(0.406831, abs=1e-6)
    assert found.wald("horizon > 0").p_value == pytest.approx(0.063546, abs=1e-6)
