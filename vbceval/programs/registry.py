"""The programs that come with the package, and programs declared by users in files."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from vbceval.core.checks import listed
from vbceval.core.errors import DesignError
from vbceval.programs.declaration import read_program
from vbceval.programs.program import Program

_RULES = resources.files("vbceval.programs") / "rules"


def names() -> list[str]:
    """Return the names of the programs that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in _RULES.iterdir()
        if entry.name.endswith(".toml")
    )


def get(name: str | Path) -> Program:
    """
    Return a program by name, or read one from a file.

    Parameters
    ----------
    name : str or Path
        A name of `names`, or the path of a TOML file; the file may say ``extends = "mssp"`` and
        then holds only what differs.

    Raises
    ------
    DesignError
        If there is no such program or file, or listing everything wrong with the file.

    Examples
    --------
    >>> get("mssp").value("gain_cap", "ENHANCED", 2022).value
    0.2
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise DesignError(f"there is no file of rules `{path}`. Check the path.")
        return read_program(path.read_text("utf-8"), name=path.stem, label=path.name, base=get)
    return _packaged(str(name))


@functools.cache
def _packaged(name: str) -> Program:
    if name not in names():
        raise DesignError(
            f"there is no program `{name}`. There are {listed(names(), most=40)}; a file of your "
            "own is named with its `.toml`."
        )
    text = (_RULES / f"{name}.toml").read_text("utf-8")
    return read_program(text, name=name, label=f"{name}.toml", base=get)
