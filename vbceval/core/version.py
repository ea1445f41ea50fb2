"""Versions of the package and of what its numbers depend on."""

from __future__ import annotations

from importlib import metadata

__version__ = "0.1.0"


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of `vbceval` and of each named package."""
    return {"vbceval": __version__, **{name: metadata.version(name) for name in packages}}
