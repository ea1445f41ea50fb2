"""The one result type: estimates with the cluster influence matrix or draws behind them."""

from vbceval.estimates.estimates import Estimates, Shares, stack

__all__ = ["Estimates", "Shares", "stack"]
