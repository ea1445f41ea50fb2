"""`manifest.json`: what a run read, wrote and ran on, without a path or name of the machine."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vbceval.core.files import sha256
from vbceval.study.context import StudyContext
from vbceval.study.exhibits import TableExhibit
from vbceval.study.staging import MAKER, MANIFEST
from vbceval.study.study import Study

FORMAT = 1
PACKAGES = ("vbceval", "numpy", "scipy", "pandas", "pymc", "nutpie", "arviz", "matplotlib")

# A folder part of an absolute path; what stays is the file's own name.
FOLDERS = re.compile(r"(?<![\w/.:\\])(?:~|[A-Za-z]:)?[/\\](?:[\w.+@~-]+[/\\])+")


def build_manifest(ctx: StudyContext, *, seconds: float, command: str) -> dict[str, Any]:
    """
    Return the manifest of a run that has written everything but its report.

    Parameters
    ----------
    ctx : StudyContext
        The finished run.
    seconds : float
        Wall time in seconds.
    command : str
        Command that repeats the run; a data folder stands in it by its own name only.

    Returns
    -------
    dict
        Ready for JSON. The hashes of outputs are added by `add_outputs`.
    """
    study = ctx.study
    tables = [e for e in ctx.exhibits if isinstance(e, TableExhibit)]
    manifest = {
        "made_by": MAKER,
        "format": FORMAT,
        "study": {"id": study.id, "title": study.title, "files": study.file_hashes()},
        "size": ctx.size_name,
        "seed": study.seed,
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "stages": [{"stage": text, "seconds": round(t, 2)} for text, t in ctx.stages],
        "platform": {
            "system": f"{platform.system()} {platform.machine()}",
            "processors": os.cpu_count(),
        },
        "versions": versions(),
        "commit": {
            "package": commit(Path(__file__).resolve().parents[1]),
            "study": commit(study.folder),
        },
        "inputs": input_records(study, ctx.input_files, data=ctx.data),
        "tables": {
            e.name: {"title": e.title, "keys": list(e.keys), "rows": len(e.frame)} for e in tables
        },
        "checks": [
            {"check": c.name, "value": c.value, "limit": c.limit, "passed": c.passed}
            for c in ctx.checks
        ],
        "warnings": ctx.warnings,
        "estimates": ctx.metas,
        "outputs": {},
    }
    plain: dict[str, Any] = jsonable(manifest)
    return plain


def add_outputs(manifest: dict[str, Any], folder: Path) -> None:
    """Record the SHA-256 and size in bytes of every file in `folder` but the manifest itself."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    manifest["outputs"] = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in files
    }


def write_manifest(manifest: Mapping[str, Any], path: Path) -> None:
    """Write a manifest as JSON."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


# --------------------------------------------------------------------------------- its parts


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def input_records(
    study: Study, files: Iterable[Path], *, data: Path | None
) -> list[dict[str, Any]]:
    """
    Return name and hashes of each input file.

    ``sha256`` is of the file as stored. A compressed file has ``content_sha256`` too, because the
    same content compresses to different bytes; that is the one that counts for `verify`.
    """
    records = []
    for path in files:
        record = {
            "file": _name(path.resolve(), study=study, data=data),
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
        }
        if path.suffix == ".gz":
            record["content_sha256"] = _content_sha256(path)
        records.append(record)
    return sorted(records, key=lambda record: str(record["file"]))


def content_hash(record: Mapping[str, Any]) -> str:
    """Return the hash that says whether the content of a recorded input is the same."""
    return str(record.get("content_sha256", record["sha256"]))


def _content_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with gzip.open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _name(path: Path, *, study: Study, data: Path | None) -> str:
    """Name a file from the data folder or the study folder; elsewhere only its own name counts."""
    for prefix, folder in (("", data), ("study/", study.folder)):
        if folder is not None and path.is_relative_to(folder.resolve()):
            return prefix + path.relative_to(folder.resolve()).as_posix()
    return path.name


def commit(folder: Path) -> dict[str, Any] | None:
    """
    Return the commit that holds `folder`, and whether `folder` differs from it.

    None where there is no commit, or git is not there to ask.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words],
                capture_output=True,
                text=True,
                env=environment,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # a folder that git ignores lies inside a repository without being part of it
    name = ask("rev-parse", "HEAD")
    if name is None or ask("check-ignore", "--quiet", ".") is not None:
        return None
    return {"hash": name, "dirty": ask("status", "--porcelain", "--", ".") != ""}


def jsonable(value: Any) -> Any:
    """
    Return plain JSON for a value: arrays as lists, missing numbers as null, paths as file names.

    Objects that are none of these are named by their type, never printed: what an object prints
    may hold an address in memory or a path.
    """
    if isinstance(value, bool | int):
        return value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, np.ndarray):
        return [jsonable(v) for v in value.tolist()]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {without_folders(str(k)): jsonable(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((jsonable(v) for v in value), key=str)
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, date):
        return value.isoformat()
    if dataclasses.is_dataclass(value):
        parts = {f.name: jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **parts}
    return type(value).__name__


def without_folders(text: str) -> str:
    """
    Return text with the folders of absolute paths left out.

    Examples
    --------
    >>> without_folders("cannot read /home/ada/mssp/py2014.csv, USD/person/year")
    'cannot read py2014.csv, USD/person/year'
    >>> without_folders("see https://example.org/a/b.csv")
    'see https://example.org/a/b.csv'
    """
    return FOLDERS.sub("", text)
