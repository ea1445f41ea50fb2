"""Read `study.toml` and find studies; every problem of a file is reported together."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import StudyError
from vbceval.data.registry import datasets
from vbceval.study.study import Input, Limit, Study
from vbceval.study.tolerances import DEFAULT

ENVIRONMENT = "VBCEVAL_STUDIES"
CONFIG = "study.toml"
TOP_KEYS = ("id", "title", "question", "seed", "inputs", "outputs", "sizes", "limits", "settings")
NAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")

Table = Mapping[str, Any]


def read_study(folder: Path) -> Study:
    """
    Read and check the study in `folder`.

    Parameters
    ----------
    folder : Path
        Folder that holds ``study.toml``, ``protocol.md`` and ``run.py``.

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        If a file is missing or ``study.toml`` breaks a rule; all problems are listed together.
    """
    folder = Path(folder).resolve()
    path = folder / CONFIG
    if not path.is_file():
        raise StudyError(
            f"{folder} holds no {CONFIG}, so it is not a study. `vbceval study new NAME` makes one."
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{folder.name}/{CONFIG} is not valid TOML: {error}.") from error
    problems = Problems(f"study.toml of '{folder.name}'", StudyError)
    for name in ("protocol.md", "run.py"):
        if not (folder / name).is_file():
            problems.add(f"{name} is missing beside it. Every study has one.")
    _unknown(raw, TOP_KEYS, "the file", problems)
    outputs = _table(raw, "outputs", problems)
    _unknown(outputs, ("tables", "figures"), "`[outputs]`", problems)
    study = Study(
        id=_id(raw, folder, problems),
        title=_text(raw, "title", problems, required=True),
        question=_text(raw, "question", problems),
        folder=folder,
        seed=_seed(raw, problems),
        inputs=_inputs(_table(raw, "inputs", problems), problems),
        tables=_names(outputs, "tables", problems),
        figures=_names(outputs, "figures", problems),
        sizes=_sizes(_table(raw, "sizes", problems), problems),
        limits=_limits(_table(raw, "limits", problems), problems),
        settings=_table(raw, "settings", problems),
    )
    if not study.tables and isinstance(outputs.get("tables", []), list):
        problems.add(
            "`outputs.tables` declares no table, so nothing could be verified. Name at least one."
        )
    problems.raise_if_any()
    return study


def _unknown(table: Table, known: tuple[str, ...] | list[str], where: str, p: Problems) -> None:
    strange = [key for key in table if key not in known]
    if strange:
        p.add(f"{where} has unknown keys {listed(strange)}. Known are {listed(known, most=20)}.")


def _table(raw: Table, key: str, problems: Problems) -> Table:
    value = raw.get(key, {})
    if isinstance(value, dict):
        return value
    problems.add(f"`{key}` is {value!r}. Make it a table, `[{key}]`.")
    return {}


def _text(raw: Table, key: str, problems: Problems, *, required: bool = False) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str) or (required and not value.strip()):
        said = repr(value) if key in raw else "missing"
        problems.add(f"`{key}` is {said}. Give one line of text.")
        return ""
    return value.strip()


def _id(raw: Table, folder: Path, problems: Problems) -> str:
    value = raw.get("id")
    if value != folder.name:
        said = "missing" if value is None else repr(value)
        problems.add(f"`id` is {said}. It must be the name of the folder, '{folder.name}'.")
    if not NAME.fullmatch(folder.name):
        problems.add(
            f"the folder name '{folder.name}' cannot be an id. Use lower-case letters, digits "
            "and hyphens."
        )
    return folder.name


def _seed(raw: Table, problems: Problems) -> int:
    value = raw.get("seed")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        said = "missing" if value is None else repr(value)
        problems.add(f"`seed` is {said}. Give a whole number, 0 or more.")
        return 0
    return value


def _names(outputs: Table, key: str, problems: Problems) -> tuple[str, ...]:
    value = outputs.get(key, [])
    if not isinstance(value, list):
        problems.add(f"`outputs.{key}` is {value!r}. Give a list of names.")
        return ()
    wrong = [v for v in value if not (isinstance(v, str) and NAME.fullmatch(v))]
    if wrong:
        problems.add(
            f"`outputs.{key}` has {listed(wrong)}. A name has lower-case letters, digits, _ and -."
        )
    twice = sorted({str(v) for v in value if value.count(v) > 1})
    if twice:
        problems.add(f"`outputs.{key}` names {listed(twice)} more than once. Name each once.")
    if DEFAULT in value:
        problems.add(f"`outputs.{key}` names `{DEFAULT}`, which tolerances.toml needs for itself.")
    return tuple(v for v in value if isinstance(v, str))


def _inputs(inputs: Table, problems: Problems) -> tuple[Input, ...]:
    found = []
    for name, entry in inputs.items():
        where = f"`[inputs.{name}]`"
        if not isinstance(entry, dict):
            problems.add(f"{where} is {entry!r}. Make it a table with `files` or `dataset`.")
            continue
        _unknown(entry, ("files", "folder", "dataset", "required"), where, problems)
        files = entry.get("files", [])
        if not (isinstance(files, list) and all(isinstance(f, str) and f for f in files)):
            problems.add(f"{where} `files` is {files!r}. Give a list of names or patterns.")
            files = []
        outside = [f for f in files if Path(f).is_absolute() or ".." in Path(f).parts]
        if outside:
            problems.add(f"{where} `files` leaves its folder: {listed(outside)}. Use names below.")
        dataset = entry.get("dataset")
        if dataset is not None and dataset not in datasets():
            known = listed(datasets())
            problems.add(f"{where} `dataset` is {dataset!r}. `vbceval data list` has {known}.")
        if "files" not in entry and "dataset" not in entry:
            problems.add(f"{where} says neither `files` nor `dataset`. Give at least one.")
        folder, required = entry.get("folder", "data"), entry.get("required", True)
        if folder not in ("data", "study"):
            problems.add(f"{where} `folder` is {folder!r}. It can be 'data' or 'study'.")
        if not isinstance(required, bool):
            problems.add(f"{where} `required` is {required!r}. It can be true or false.")
        found.append(
            Input(
                name=name,
                files=tuple(files),
                folder=folder,
                dataset=dataset,
                required=bool(required),
            )
        )
    return tuple(found)


def _sizes(sizes: Table, problems: Problems) -> dict[str, Table]:
    _unknown(sizes, ("full", "fast"), "`[sizes]`", problems)
    found = {name: _table(sizes, name, problems) for name in ("full", "fast") if name in sizes}
    if "fast" in found and "full" not in found:
        problems.add("`[sizes.fast]` has no `[sizes.full]` beside it. Give both.")
    elif set(found.get("full", {})) != set(found.get("fast", found.get("full", {}))):
        only = sorted(set(found["full"]) ^ set(found["fast"]))
        problems.add(f"`[sizes.full]` and `[sizes.fast]` differ in the keys {listed(only)}.")
    return found


def _limits(limits: Table, problems: Problems) -> dict[str, Limit]:
    found = {}
    for name, entry in limits.items():
        where = f"`[limits.{name}]`"
        if not isinstance(entry, dict):
            problems.add(f"{where} is {entry!r}. Make it a table with `min`, `max` or both.")
            continue
        _unknown(entry, ("min", "max", "action", "why"), where, problems)
        low, high = entry.get("min"), entry.get("max")
        numbers = [v for v in (low, high) if v is not None]
        if not numbers or any(
            isinstance(v, bool) or not isinstance(v, int | float) for v in numbers
        ):
            problems.add(f"{where} needs a number as `min`, `max` or both.")
        elif numbers[0] > numbers[-1]:
            problems.add(f"{where} has `min` {low} above `max` {high}.")
        action = entry.get("action", "stop")
        if action not in ("stop", "warn"):
            problems.add(f"{where} `action` is {action!r}. It can be 'stop' or 'warn'.")
        why = entry.get("why", "")
        if not isinstance(why, str):
            problems.add(f"{where} `why` is {why!r}. Give text.")
        found[name] = Limit(name=name, low=low, high=high, action=action, why=str(why))
    return found


# ---------------------------------------------------------------------------------- discovery


@dataclass(frozen=True, kw_only=True)
class Found:
    """One study folder: its id, and the study or the reason why it cannot be used."""

    id: str
    folder: Path
    study: Study | None
    problem: str = ""


def study_roots() -> list[Path]:
    """
    Return the folders that are searched for studies, in order.

    The folders of the environment variable ``VBCEVAL_STUDIES`` (separated as in ``PATH``),
    ``studies`` in the current folder, and ``studies`` beside the package where it runs from its
    source checkout.
    """
    named = [Path(part) for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part]
    checkout = Path(__file__).resolve().parents[2]
    beside = [checkout / "studies"] if (checkout / "pyproject.toml").is_file() else []
    roots = [root.resolve() for root in (*named, Path("studies"), *beside) if root.is_dir()]
    return list(dict.fromkeys(roots))


def find_study(name: str | Path) -> Study:
    """
    Return the study called `name`, or the study in the folder `name`.

    Raises
    ------
    StudyError
        If there is none of that name, or it cannot be used.
    """
    if (Path(name) / CONFIG).is_file():
        return read_study(Path(name))
    if len(Path(name).parts) == 1:
        for root in study_roots():
            if (root / name / CONFIG).is_file():
                return read_study(root / name)
    known = listed(sorted(found.id for found in list_studies())) or "none"
    raise StudyError(
        f"there is no study '{name}'. Studies found: {known}. Give the path of a study folder, or "
        f"set {ENVIRONMENT} to the folder that holds your studies."
    )


def list_studies() -> list[Found]:
    """Return every study of `study_roots`, by id; the first of a name wins, as in `find_study`."""
    found: dict[str, Found] = {}
    for root in study_roots():
        for path in sorted(root.glob(f"*/{CONFIG}")):
            folder = path.parent
            if folder.name in found:
                continue
            try:
                entry = Found(id=folder.name, folder=folder, study=read_study(folder))
            except StudyError as error:
                entry = Found(id=folder.name, folder=folder, study=None, problem=str(error))
            found[folder.name] = entry
    return sorted(found.values(), key=lambda entry: entry.id)
