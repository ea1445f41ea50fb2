"""Arrows point one way: a room imports only from rooms on earlier steps of the data flow."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import pytest

STEPS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("disclosure", "programs", "inference", "evidence"),
    ("estimates",),
    ("engine", "data"),
    ("panel",),
    ("moments",),
    ("passes", "balance"),
    ("design",),
    ("did", "bayes", "simulate"),
    ("sensitivity",),
    ("savings", "equity"),
    ("figures",),
    ("study",),
)
STEP_OF = {room: step for step, rooms in enumerate(STEPS) for room in rooms}

# These read `Estimates`, so that a new estimator is one new file.
READERS = ("sensitivity", "savings", "equity", "figures")
ESTIMATORS = ("did", "bayes")

# The door of the package: it offers names of every room, and no room imports it.
DOOR = ("vbceval", "vbceval.__main__")


class Import(NamedTuple):
    """One imported name: where, on which line, what, and whether importing the module runs it."""

    module: str
    line: int
    target: str
    at_import: bool


def imports_of(module: str, source: str, *, is_package: bool) -> Iterator[Import]:
    """Yield every import of a module, also those inside functions and for type checkers only."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                drop = node.level - 1 if is_package else node.level
                base = ".".join([*parents[: len(parents) - drop], *filter(None, [node.module])])
            for alias in node.names:
                yield Import(module, node.lineno, f"{base}.{alias.name}", at_import)
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            for value in node.args[:1]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield Import(module, node.lineno, value.value, at_import)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        body_is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            only_typing = body_is_typing and child in node.body
            yield from visit(child, at_import and not lazy and not only_typing)

    yield from visit(ast.parse(source), True)


def called_name(call: ast.Call) -> str:
    """Return the last part of the name that a call calls."""
    return ast.unparse(call.func).rsplit(".", 1)[-1]


def room_of(name: str) -> str | None:
    """Return the room of a dotted name of the package; None for a name outside, or the door."""
    parts = name.split(".")
    if parts[0] != "vbceval" or len(parts) == 1:
        return None
    return parts[1]


def all_imports(sources: Mapping[str, str]) -> list[Import]:
    """Return the imports of every module."""
    packages = {name.rpartition(".")[0] for name in sources} | {"vbceval"}
    packages |= {f"vbceval.{room}" for room in STEP_OF}
    return [
        found
        for name, text in sources.items()
        for found in imports_of(name, text, is_package=name in packages)
    ]


def order_violations(sources: Mapping[str, str]) -> list[str]:
    """Return one sentence for each unknown room and each import against the order."""
    wrong = [
        f"{name}: `{room_of(name)}` is not a known room; add it to STEPS where it belongs"
        for name in sources
        if name not in DOOR and room_of(name) not in STEP_OF
    ]
    for module, line, target, _ in all_imports(sources):
        here, there = room_of(module), room_of(target)
        if module in DOOR or here not in STEP_OF or target.split(".")[0] != "vbceval":
            continue
        where = f"{module} line {line} imports {target}"
        if there not in STEP_OF:
            wrong.append(f"{where}: rooms import from rooms, not from the door of the package")
        elif there != here and STEP_OF[there] == STEP_OF[here]:
            wrong.append(f"{where}: `{here}` and `{there}` are on one step")
        elif STEP_OF[there] > STEP_OF[here]:
            wrong.append(f"{where}: `{there}` comes after `{here}`")
        elif here in READERS and there in ESTIMATORS:
            wrong.append(f"{where}: `{here}` reads Estimates and imports no estimator")
    return wrong


def import_cycle(sources: Mapping[str, str]) -> list[str]:
    """Return modules that import each other in a circle while they are imported, or nothing."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for module, _, target, at_import in all_imports(sources):
        # `from package.module import name`: the module is the longest known beginning
        known = target if target in sources else target.rpartition(".")[0]
        if at_import and known in sources and known != module:
            graph[module].add(known)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_rooms_import_only_from_earlier_rooms(sources: dict[str, str]) -> None:
    assert order_violations(sources) == []


def test_no_modules_import_each_other_in_a_circle(sources: dict[str, str]) -> None:
    assert import_cycle(sources) == []


def test_the_package_is_read(sources: dict[str, str]) -> None:
    inner = [i for i in all_imports(sources) if room_of(i.target) and room_of(i.module)]
    assert len(inner) > 10, "no imports between rooms were found; is the checker reading them?"


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("vbceval.core.errors", "from vbceval.did import TWFE", "`did` comes after `core`"),
        ("vbceval.core.errors", "import vbceval.did.twfe as t", "`did` comes after `core`"),
        ("vbceval.core.errors", "from vbceval import did", "`did` comes after `core`"),
        ("vbceval.core.errors", "from ..did import twfe", "`did` comes after `core`"),
        ("vbceval.core.errors", "from .. import did", "`did` comes after `core`"),
        ("vbceval.core", "from ..did import twfe", "`did` comes after `core`"),
        ("vbceval.core.errors", "def f():\n    import vbceval.panel.panel", "line 2 imports"),
        (
            "vbceval.panel.panel",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vbceval.design import D",
            "`design` comes after `panel`",
        ),
        (
            "vbceval.panel.panel",
            "import importlib\nm = importlib.import_module('vbceval.study.run')",
            "`study` comes after `panel`",
        ),
        ("vbceval.did.twfe", "from vbceval.bayes import sample", "are on one step"),
        ("vbceval.savings.net", "from vbceval.equity import gaps", "are on one step"),
        ("vbceval.figures.forest", "from vbceval.did import TWFE", "imports no estimator"),
        ("vbceval.panel.panel", "import vbceval as vbc", "not from the door"),
        ("vbceval.panel.panel", "from vbceval import Panel", "not from the door"),
        ("vbceval.utils.misc", "x = 1", "`utils` is not a known room"),
        ("vbceval.loose", "x = 1", "`loose` is not a known room"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, said: str) -> None:
    wrong = order_violations({module: source})
    assert len(wrong) == 1
    assert said in wrong[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vbceval.did.twfe", "from vbceval.core.errors import DesignError\nimport numpy as np"),
        ("vbceval.did.twfe", "from . import aggregate\nfrom vbceval.moments import Moments"),
        ("vbceval.study.run", "from vbceval.did import TWFE\nfrom vbceval.figures import forest"),
        ("vbceval", "from vbceval.study import run"),
    ],
)
def test_an_allowed_import_is_not_reported(module: str, source: str) -> None:
    assert order_violations({module: source}) == []


def test_a_planted_cycle_is_found() -> None:
    circle = {
        "vbceval.did.a": "from vbceval.did.b import f",
        "vbceval.did.b": "from .c import f",
        "vbceval.did.c": "from vbceval.did import a",
    }
    assert set(import_cycle(circle)) == set(circle)


def test_an_import_inside_a_function_makes_no_cycle() -> None:
    lazy = {
        "vbceval.did.a": "from vbceval.did.b import f",
        "vbceval.did.b": "def f():\n    from vbceval.did.a import g",
    }
    assert import_cycle(lazy) == []
