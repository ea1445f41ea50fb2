"""The fixtures of `tests/conftest.py`, run in a small test suite of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = "pytester"

SIMULATION = """
def test_coverage(sim_size):
    assert sim_size(2000, 50) == {size}
"""


@pytest.fixture
def suite(
    pytester: pytest.Pytester, repo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """An empty suite below the conftest of this one, with none of its settings."""
    monkeypatch.delenv("VBCEVAL_SIM", raising=False)
    monkeypatch.delenv("VBCEVAL_SHARED", raising=False)
    tests = pytester.mkdir("tests")
    (tests / "conftest.py").write_text((repo_root / "tests" / "conftest.py").read_text())
    return pytester


def run(suite: pytest.Pytester, test: str) -> pytest.RunResult:
    (suite.path / "tests" / "test_it.py").write_text(test)
    return suite.runpytest_subprocess("-ra", "-p", "no:cacheprovider")


@pytest.mark.parametrize(("mode", "size"), [(None, 50), ("reduced", 50), ("full", 2000)])
def test_sizes_follow_the_environment_and_are_listed(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, mode: str | None, size: int
) -> None:
    if mode:
        monkeypatch.setenv("VBCEVAL_SIM", mode)
    result = run(suite, SIMULATION.format(size=size))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*test_coverage: ran {size:,} of 2,000 ({mode or 'reduced'})"])


def test_an_unknown_size_stops_the_run(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VBCEVAL_SIM", "fast")
    result = run(suite, SIMULATION.format(size=50))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*VBCEVAL_SIM is 'fast'*"])


def test_reference_data_are_found_or_the_test_is_skipped_saying_why(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = "def test_it(shared_dir):\n    assert (shared_dir / 'here').exists()\n"
    folder = suite.mkdir("reference")
    (folder / "here").touch()
    monkeypatch.setenv("VBCEVAL_SHARED", str(folder))
    run(suite, test).assert_outcomes(passed=1)
    monkeypatch.setenv("VBCEVAL_SHARED", str(folder / "absent"))
    result = run(suite, test)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no reference data: VBCEVAL_SHARED names no folder at*"])
