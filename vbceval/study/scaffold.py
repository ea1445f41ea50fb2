"""Make the folder of a new study, which runs as it stands."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from vbceval.core.errors import StudyError
from vbceval.core.rng import generator
from vbceval.study.config import NAME
from vbceval.study.staging import staged
from vbceval.study.tolerances import TEMPLATE

FILES = ("protocol.md", "study.toml", "run.py", "README.md")


def new_study(name: str, *, within: str | Path = "studies") -> Path:
    """
    Write the folder of a new study: protocol, configuration, ``run.py`` and ``expected/``.

    Parameters
    ----------
    name : str
        Lower-case letters, digits and hyphens, for example ``"mssp-2024-entry"``.
    within : path, default "studies"
        Folder that holds studies.

    Returns
    -------
    Path
        The new folder.

    Raises
    ------
    StudyError
        If the name cannot be one, or the folder exists.
    """
    if not NAME.fullmatch(name):
        raise StudyError(
            f"'{name}' cannot be the name of a study. Use lower-case letters, digits and hyphens, "
            "for example mssp-2024-entry."
        )
    folder = Path(within).resolve() / name
    if folder.exists():
        raise StudyError(f"{folder} exists. Give another name, or move it away.")
    # a seed of its own, the same whenever the study is made again
    seed = int(generator(0, name).integers(1, 2**31))
    templates = resources.files("vbceval.study").joinpath("templates", "new")
    with staged(folder) as work:
        for file in FILES:
            text = templates.joinpath(f"{file}.template").read_text(encoding="utf-8")
            text = text.replace("@NAME@", name).replace("@SEED@", str(seed))
            (work / file).write_text(text, encoding="utf-8", newline="\n")
        (work / "expected").mkdir()
        (work / "expected" / "tolerances.toml").write_text(TEMPLATE, encoding="utf-8")
    return folder
