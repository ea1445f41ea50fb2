"""Effects on distributions: changes-in-changes and quantile difference-in-differences."""

from vbceval.did.distribution.changes_in_changes import ChangesInChanges

__all__ = ["ChangesInChanges"]
