"""From effects to dollars. The only room that flips a sign: savings are positive.

Impact savings (counterfactual less actual, estimated) and benchmark savings (target less actual,
administrative) are different quantities and have different names everywhere.
"""

from vbceval.savings.benchmark import benchmark_savings, benchmark_statement
from vbceval.savings.dollars import RealDollars
from vbceval.savings.impact import cumulative, gross, per_unit
from vbceval.savings.ledger import Ledger, Line
from vbceval.savings.net import breakeven, chance_positive, net, return_on_investment, statement
from vbceval.savings.replay import Replay, Scenario, replay

__all__ = [
    "Ledger",
    "Line",
    "RealDollars",
    "Replay",
    "Scenario",
    "benchmark_savings",
    "benchmark_statement",
    "breakeven",
    "chance_positive",
    "cumulative",
    "gross",
    "net",
    "per_unit",
    "replay",
    "return_on_investment",
    "statement",
]
