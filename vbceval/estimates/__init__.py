"""The one result type: estimates with the cluster influence matrix or draws behind them."""

from vbceval.estimates.estimates import Estimates
from vbceval.estimates.shares import Shares
from vbceval.estimates.stack import stack

__all__ = ["Estimates", "Shares", "stack"]
