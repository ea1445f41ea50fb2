"""P values as notes print them; the notes are of the kinds found in the literature."""

from __future__ import annotations

import pytest

from vbceval.evidence.significance import printed_p


@pytest.mark.parametrize(
    ("note", "relation", "value", "half"),
    [
        ("P=0.02; DiD with HRR adjustment", "equal", 0.02, 0.005),
        ("P=.005; MSA-level 2SLS", "equal", 0.005, 0.0005),
        ("P .045; cross-sectional", "equal", 0.045, 0.0005),
        ("P=.40", "equal", 0.40, 0.005),
        ("P=0.010", "equal", 0.010, 0.0005),
        ("DiD, clustered; P<.001 (primary; only primary has P)", "below", 0.001, 0.0),
        ("P=<0.001; cluster-randomised", "below", 0.001, 0.0),
        ("P <.001", "below", 0.001, 0.0),
        ("p ≤ 0.05", "below", 0.05, 0.0),
        ("p > .05", "above", 0.05, 0.0),
        ("significant; 483310 beneficiaries", "below", 0.10, 0.0),
        ("not significant", "above", 0.05, 0.0),
        ("DiD; ns", "above", 0.05, 0.0),
        ("P=0.96; A vs B interaction P=0.005", "equal", 0.96, 0.005),
        ("A vs B interaction P=0.005; P=0.96", "equal", 0.96, 0.005),
        ("P=.005 for interaction; P=0.96", "equal", 0.96, 0.005),
    ],
)
def test_reads_the_p_value_of_the_estimate(
    note: str, relation: str, value: float, half: float
) -> None:
    found = printed_p(note)
    assert found is not None
    assert (found.relation, found.value) == (relation, value)
    assert found.half == pytest.approx(half)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "significance threshold p<=0.10; mean rose to 35467",
        "no significant impact for low-risk cancers",
        "no significant differences by subgroup (management company)",
        "interaction P=0.05",
        "P = .02 for interaction",
        "P=.02 (interaction)",
        "P < .05 as the threshold",
        "top 0.10 of hospitals",
        "MSSP .05",
    ],
)
def test_reads_nothing_about_something_else(note: str) -> None:
    assert printed_p(note) is None


def test_the_span_of_a_p_value() -> None:
    exact, below, above = (printed_p(n) for n in ("P=0.02", "p<.05", "p>.05"))
    assert exact is not None
    assert below is not None
    assert above is not None
    assert (exact.span.low, exact.span.high) == pytest.approx((0.015, 0.025))
    assert (below.span.low, below.span.high) == (0.0, 0.05)
    assert (above.span.low, above.span.high) == (0.05, 1.0)
