"""Fixtures and settings of every test: reference data, sizes of simulations, quiet plotting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# Set before any test imports matplotlib: tests draw without a display.
os.environ["MPLBACKEND"] = "Agg"

# Property tests draw the same examples on every machine; a loaded machine is not a failure.
hypothesis.settings.register_profile("vbceval", derandomize=True, deadline=None)
hypothesis.settings.load_profile("vbceval")

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("reduced", "full")


def simulation_mode() -> str:
    """Return `reduced` or `full`, from the environment."""
    mode = os.environ.get("VBCEVAL_SIM", "reduced")
    if mode not in SIZES:
        raise pytest.UsageError(f"VBCEVAL_SIM is {mode!r}; it can be 'reduced' (default) or 'full'")
    return mode


def pytest_configure(config: pytest.Config) -> None:
    simulation_mode()


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of reference data and golden results; skip the test where it is absent."""
    named = os.environ.get("VBCEVAL_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    if not folder.is_dir():
        where = "VBCEVAL_SHARED names" if named else "VBCEVAL_SHARED is not set, and there is"
        pytest.skip(f"no reference data: {where} no folder at {folder}")
    return folder.resolve()


@pytest.fixture
def sim_size(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose the number of replications, and list the choice at the end of the run."""

    def choose(full: int, reduced: int) -> int:
        if not 0 < reduced <= full:
            raise ValueError(f"reduced ({reduced}) must be positive and at most full ({full})")
        mode = simulation_mode()
        size = full if mode == "full" else reduced
        request.node.user_properties.append(("simulation", f"ran {size:,} of {full:,} ({mode})"))
        return size

    return choose


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # user_properties reach here from every worker of pytest-xdist
    sizes = sorted(
        f"{report.nodeid}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "simulation"
    )
    if sizes:
        terminalreporter.section("sizes of simulations")
        for line in sizes:
            terminalreporter.write_line(line)
