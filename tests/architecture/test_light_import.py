"""`import vbceval` is cheap: heavy packages are imported inside the functions that need them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

HEAVY = frozenset(
    (
        "arviz",
        "arviz_base",
        "arviz_plots",
        "arviz_stats",
        "duckdb",
        "jinja2",
        "linearmodels",
        "markdown_it",
        "matplotlib",
        "numba",
        "nutpie",
        "pooch",
        "pyarrow",
        "pymc",
        "pyspark",
        "pytensor",
        "requests",
        "rich",
        "seaborn",
        "sqlglot",
        "statsmodels",
        "stochtree",
        "typer",
        "xarray",
    )
)

# Module whose job is the terminal, and what it may import at the top.
ENTRY_MODULES = {
    f"vbceval.study.{name}": frozenset({"typer", "rich"})
    for name in ("cli", "moments_cli", "program_cli", "terminal")
}


def run_python(code: str, cwd: Path) -> str:
    """Run code in a new interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def heavy_imports(sources: Mapping[str, str]) -> list[str]:
    """Return one line for each heavy package that importing a module imports by its own text."""
    found = []
    for name, text in sources.items():
        allowed = ENTRY_MODULES.get(name, frozenset())
        for line, package in imported_at_top(text):
            if package in HEAVY - allowed:
                found.append(f"{name} line {line}: {package} is imported outside a function")
    return found


def imported_at_top(source: str) -> list[tuple[int, str]]:
    """Return (line, top-level package) of the imports that run when the module is imported."""
    found = []
    nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.lineno, (node.module or "").split(".")[0]))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)
    return found


def test_importing_the_package_imports_nothing_heavy(repo_root: Path) -> None:
    def loaded(module: str) -> set[str]:
        code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
        return {name.split(".")[0] for name in json.loads(run_python(code, repo_root))}

    package = loaded("vbceval")
    assert {"vbceval", "pandas"} <= package
    # pandas itself loads pyarrow, for its text columns
    assert package & HEAVY <= loaded("pandas")


def test_every_public_name_can_be_reached(repo_root: Path) -> None:
    code = (
        "import vbceval; print([n for n in vbceval.__all__ if getattr(vbceval, n, None) is None])"
    )
    assert run_python(code, repo_root).strip() == "[]"


def test_heavy_packages_are_imported_inside_functions(sources: dict[str, str]) -> None:
    assert heavy_imports(sources) == []


def test_importing_the_package_costs_little_more_than_pandas_and_scipy(repo_root: Path) -> None:
    def seconds(modules: str) -> float:
        code = f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"
        return min(float(run_python(code, repo_root)) for _ in range(2))

    package, base = seconds("vbceval"), seconds("pandas, scipy.stats")
    assert package < 3 * base, (
        f"import vbceval takes {package / base:.1f} times pandas and scipy.stats"
    )


@pytest.mark.parametrize(
    "source",
    [
        "import pymc",
        "import matplotlib.pyplot as plt",
        "from duckdb import connect",
        "try:\n    import nutpie\nexcept ImportError:\n    nutpie = None",
        "class A:\n    import rich",
        "from typing import TYPE_CHECKING\nif not_typing:\n    import xarray",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import xarray",
    ],
)
def test_a_planted_heavy_import_is_found(source: str) -> None:
    assert len(heavy_imports({"vbceval.did.twfe": source})) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vbceval.bayes.sample", "def f():\n    import pymc"),
        ("vbceval.bayes.sample", "if TYPE_CHECKING:\n    import pymc"),
        ("vbceval.bayes.sample", "import numpy\nfrom . import rich\nimport richly"),
        ("vbceval.study.cli", "import typer"),
    ],
)
def test_an_allowed_import_is_not_reported(module: str, source: str) -> None:
    assert heavy_imports({module: source}) == []
