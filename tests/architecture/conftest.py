"""The package's sources, for the tests that read them instead of running them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sources(repo_root: Path) -> dict[str, str]:
    """Source text of every module of the package, by dotted name (`vbceval.core` for its file)."""
    found = {}
    for path in sorted((repo_root / "vbceval").rglob("*.py")):
        parts = path.relative_to(repo_root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    assert "vbceval.core.errors" in found
    return found
