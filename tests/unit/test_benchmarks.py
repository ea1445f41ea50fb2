"""Benchmarks run: at a small size, and with steps that exist."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_benchmark_of_scale_runs(tmp_path: Path) -> None:
    skipped = ["limit", "commands", "estimates", "posterior", "peer", "spark"]
    command = [sys.executable, FOLDER / "scale.py", "--rows", "20000", "--folder", tmp_path]
    found = subprocess.run(
        [*command, "--skip", *skipped], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "failed" not in found.stdout
    for line in ("the same sums, no limit", "people counted", "effects and errors by person"):
        assert line in found.stdout


def test_steps_asked_of_the_benchmark_of_scale_exist() -> None:
    def named(name: str) -> ast.Module:
        return ast.parse((FOLDER / name).read_text())

    steps = next(
        node.value for node in named("scale.py").body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "STEPS"
    )  # fmt: skip
    assert isinstance(steps, ast.Dict)
    known = {ast.literal_eval(key) for key in steps.keys if key is not None}
    asked = {
        ast.literal_eval(node.args[2])
        for node in ast.walk(named("did.py"))
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.args[0]) == "SCALE"
    }
    assert asked
    assert asked <= known
