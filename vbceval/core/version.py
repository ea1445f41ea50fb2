"""Versions of the package and of what its numbers depend on."""

from __future__ import annotations

from functools import cache
from importlib import metadata

__version__ = "0.1.0"


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of `vbceval` and of each named package."""
    return {"vbceval": __version__, **{name: _installed(name) for name in packages}}


@cache
def _installed(package: str) -> str:
    # metadata is parsed from a file at each call, which costs more than a small fit
    return metadata.version(package)
