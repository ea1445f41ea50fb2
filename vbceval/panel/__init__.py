"""The unit-by-period table that every design starts from."""

from vbceval.panel.panel import Panel

__all__ = ["Panel"]
