"""From effects to dollars. The only room that flips a sign: savings are positive.

Impact savings (counterfactual less actual, estimated) and benchmark savings (target less actual,
administrative) are different quantities and have different names everywhere.
"""

from vbceval.savings.benchmark import benchmark_savings
from vbceval.savings.impact import gross, net

__all__ = ["benchmark_savings", "gross", "net"]
