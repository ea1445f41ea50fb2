"""`constraints.txt` pins everything that set-up installs, exactly and without addresses."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


def read_pins(text: str) -> dict[str, Requirement]:
    """Return the pins by package; raise ValueError on a line that is not an exact pin."""
    pins: dict[str, Requirement] = {}
    for line in text.splitlines():
        entry = line.split("#", 1)[0].strip()
        if not entry:
            continue
        requirement = Requirement(entry)
        name = canonicalize_name(requirement.name)
        if requirement.url or not re.fullmatch(r"==[^*]+", str(requirement.specifier)):
            raise ValueError(f"{entry!r} is not an exact pin")
        if name in pins:
            raise ValueError(f"{name} is pinned twice")
        pins[name] = requirement
    return pins


def version_of(pin: Requirement) -> str:
    """Return the pinned version."""
    return str(pin.specifier).removeprefix("==")


@pytest.fixture(scope="module")
def pins(repo_root: Path) -> dict[str, Requirement]:
    return read_pins((repo_root / "constraints.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict:
    return tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))


def test_no_addresses_and_no_hashes(repo_root: Path) -> None:
    text = (repo_root / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"\S*(?:://|--|sha256)\S*", text) == []


def test_every_declared_dependency_is_pinned_in_its_range(
    pins: dict[str, Requirement], project: dict
) -> None:
    extras = project["project"]["optional-dependencies"]
    declared = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(entry for extra in extras.values() for entry in extra),
        *project["dependency-groups"]["setup"],
    ]
    own = canonicalize_name(project["project"]["name"])
    wrong = [
        entry
        for entry in declared
        # an extra may name the package itself, with another of its extras
        if canonicalize_name(Requirement(entry).name) != own
        if (pin := pins.get(canonicalize_name(Requirement(entry).name))) is None
        or not Requirement(entry).specifier.contains(version_of(pin))
    ]
    assert wrong == []


def test_every_transitive_dependency_is_pinned(pins: dict[str, Requirement]) -> None:
    here = default_environment()
    missing = set()
    for name in pins:
        try:
            needed = [Requirement(entry) for entry in requires(name) or ()]
        except PackageNotFoundError:  # for another platform, or only used while building
            continue
        missing |= {
            f"{requirement.name} (needed by {name})"
            for requirement in needed
            if (not requirement.marker or requirement.marker.evaluate({**here, "extra": ""}))
            and canonicalize_name(requirement.name) not in pins
        }
    assert missing == set()


def test_pins_hold_on_every_supported_python(pins: dict[str, Requirement], project: dict) -> None:
    assert SpecifierSet(project["project"]["requires-python"]).contains("3.12")
    for python in ("3.12", "3.13"):
        for system, platform in (("Linux", "linux"), ("Darwin", "darwin")):
            environment = {
                **default_environment(),
                "python_version": python,
                "python_full_version": f"{python}.0",
                "platform_system": system,
                "sys_platform": platform,
            }
            held = {
                name
                for name, pin in pins.items()
                if pin.marker is None or pin.marker.evaluate(environment)
            }
            declared = {
                canonicalize_name(Requirement(entry).name)
                for entry in project["project"]["dependencies"]
            }
            assert declared <= held, f"not pinned on {system} with Python {python}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy>=2", "not an exact pin"),
        ("numpy==2.*", "not an exact pin"),
        ("numpy", "not an exact pin"),
        ("numpy @ file:///tmp/numpy.whl", "not an exact pin"),
        ("numpy==2.1\nNumPy==2.2", "pinned twice"),
    ],
)
def test_a_planted_loose_pin_is_found(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pins(line)


def undeclared_imports(sources: dict[str, str], declared: set[str]) -> list[str]:
    """Return `module: package` for each import of a package that the project does not declare."""
    known = declared | set(sys.stdlib_module_names) | {"vbceval"}
    found = set()
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            packages = {name.partition(".")[0] for name in names}
            found |= {f"{module}: {package}" for package in packages - known}
    return sorted(found)


def test_every_package_that_is_imported_is_declared(sources: dict[str, str], project: dict) -> None:
    # what only another dependency brings would be gone when that one changes its own
    entries = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["spark"],
        *project["project"]["optional-dependencies"]["trees"],
    ]
    names = {canonicalize_name(Requirement(entry).name) for entry in entries}
    declared = {
        module
        for module, distributions in packages_distributions().items()
        if {canonicalize_name(name) for name in distributions} & names
    }
    assert undeclared_imports(sources, declared) == []


def test_a_planted_undeclared_import_is_found() -> None:
    source = "import os\nfrom pandas import NA\n\n\ndef f():\n    from numba.core import types\n"
    assert undeclared_imports({"m": source}, {"pandas"}) == ["m: numba"]
