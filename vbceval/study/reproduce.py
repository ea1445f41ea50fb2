"""Regenerate a study and compare it with its numbers of record; accept new ones."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vbceval.core.checks import listed
from vbceval.core.errors import StudyError
from vbceval.core.files import atomic_path, sha256, write_text
from vbceval.study.compare import Difference, compare_tables
from vbceval.study.config import find_study
from vbceval.study.context import Display
from vbceval.study.exhibits import read_cells
from vbceval.study.manifest import content_hash, write_manifest
from vbceval.study.run import run_study
from vbceval.study.staging import MANIFEST, read_manifest
from vbceval.study.study import Study, size_name
from vbceval.study.tolerances import TEMPLATE, read_tolerances

MOST_SHOWN = 25
TOLERANCES = "tolerances.toml"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A study that reproduced: how many tables agree, at which size, in how many seconds."""

    study: Study
    size: str
    n_tables: int
    n_inputs: int
    seconds: float


def verify(
    study: Study | str | Path,
    data: str | Path | None = None,
    *,
    fast: bool = False,
    display: Display | None = None,
) -> Verification:
    """
    Run a study again in a temporary folder and compare it with its numbers of record.

    Parameters
    ----------
    study : Study, str or Path
        The study, its name, or its folder.
    data : path, optional
        Folder of the inputs that do not come with the study.
    fast : bool, default False
        Compare the fast size with ``expected/fast/``, which must exist.
    display : Display, optional
        Where progress is shown.

    Returns
    -------
    Verification

    Raises
    ------
    StudyError
        If there are no numbers of record, or if an input or a table differs: inputs are named
        first, then table, row, found and expected number of the differences (25 of them, with
        every table that differs among these).
    """
    study = study if isinstance(study, Study) else find_study(study)
    start = time.perf_counter()
    record, expected = numbers_of_record(study, fast=fast)
    tolerances = read_tolerances(_tolerances_path(study, fast=fast), expected)
    with tempfile.TemporaryDirectory(prefix="vbceval-verify-") as scratch:
        run = run_study(study, data=data, out=Path(scratch) / "run", fast=fast, display=display)
        found = {name: read_cells(run.folder / "tables" / f"{name}.csv") for name in study.tables}
    keys = {name: facts["keys"] for name, facts in run.manifest["tables"].items()}
    inputs = changed_inputs(run.manifest["inputs"], record["inputs"])
    differences = compare_tables(found, expected, tolerances=tolerances, keys=keys)
    if inputs or differences:
        tables = len({d.table for d in differences})
        raise StudyError(
            _failure(
                study,
                inputs=inputs,
                differences=[str(d) for d in _tables_first(differences)],
                tables=f"{tables} of {len({*expected, *found})} tables differ",
                changed=_changed_since(run.manifest, record),
            )
        )
    return Verification(
        study=study,
        size=size_name(fast=fast),
        n_tables=len(expected),
        n_inputs=len(record["inputs"]),
        seconds=time.perf_counter() - start,
    )


def numbers_of_record(
    study: Study, *, fast: bool = False
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """
    Return the manifest and the tables of record of a study.

    Raises
    ------
    StudyError
        If there are none of that size.
    """
    folder = study.expected(fast=fast)
    record = read_manifest(study.record(fast=fast))
    paths = sorted(folder.glob("*.csv"))
    if record is None or not paths:
        size = "--fast " if fast else ""
        other = ""
        if list(study.expected(fast=not fast).glob("*.csv")):
            use = "leave `--fast` out" if fast else "add `--fast`"
            other = f" It has some at {size_name(fast=not fast)} size: {use} to compare with those."
        raise StudyError(
            f"study '{study.id}' has no numbers of record at {size_name(fast=fast)} size, so there "
            f"is nothing to compare with.{other} To make them: `{study.command} "
            f"{size}--out DIR`, look at every exhibit, then `vbceval study accept {study.id} "
            "--from DIR`."
        )
    return record, {path.stem: read_cells(path) for path in paths}


def changed_inputs(
    found: Iterable[Mapping[str, Any]], recorded: Iterable[Mapping[str, Any]]
) -> list[str]:
    """
    Return what is different between two lists of input records, in words.

    Content counts, not the name or the compression: a file that was renamed or compressed again
    is the same input.
    """
    found, recorded = list(found), list(recorded)
    ours, theirs = (Counter(content_hash(r) for r in part) for part in (found, recorded))
    new = {_stem(r): r for r in found if content_hash(r) not in theirs}
    old = {_stem(r): r for r in recorded if content_hash(r) not in ours}
    changed = sorted(set(new) & set(old))
    return [
        *(f"input {new[n]['file']} changed" for n in changed),
        *(f"input {old[n]['file']} was not read" for n in sorted(set(old) - set(new))),
        *(f"input {new[n]['file']} is new" for n in sorted(set(new) - set(old))),
    ]


def _stem(record: Mapping[str, Any]) -> str:
    return str(record["file"]).removesuffix(".gz")


def _changed_since(found: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Return what else changed since the numbers of record were made: where to look first."""
    ours, theirs = found["versions"], record["versions"]
    said = [
        f"{name} {ours.get(name, 'absent')} (record: {theirs.get(name, 'absent')})"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    files, recorded = found["study"]["files"], record["study"]["files"]
    return [*said, *(f"{name} of the study" for name in files if files[name] != recorded.get(name))]


def _tables_first(differences: Sequence[Difference]) -> list[Difference]:
    """Put one difference of each table first, so that a long list hides no table; then the rest."""
    seen: set[str] = set()
    first: list[Difference] = []
    rest: list[Difference] = []
    for difference in differences:
        (rest if difference.table in seen else first).append(difference)
        seen.add(difference.table)
    return [*first, *rest]


def _failure(
    study: Study, *, inputs: list[str], differences: list[str], tables: str, changed: list[str]
) -> str:
    parts = []
    if inputs:
        n = len(inputs)
        parts.append(f"{n} {'input differs' if n == 1 else 'inputs differ'} from the record")
    parts.append(tables)
    lines = [f"study '{study.id}' does not reproduce: {', and '.join(parts)}."]
    lines += [f"{text[0].upper()}{text[1:]}." for text in inputs[:MOST_SHOWN]]
    if len(inputs) > MOST_SHOWN:
        lines.append(f"And {len(inputs) - MOST_SHOWN:,} more inputs.")
    lines += differences[:MOST_SHOWN]
    if len(differences) > MOST_SHOWN:
        lines.append(f"And {len(differences) - MOST_SHOWN:,} more differences.")
    if changed:
        lines.append(f"Changed since the numbers of record: {', '.join(changed)}.")
    lines.append(
        "If the change is meant, add it to the amendments in protocol.md, then accept the new "
        f"tables: `vbceval study accept {study.id} --from DIR`."
    )
    return "\n".join(lines)


# ------------------------------------------------------------------------------------- accept


def accept(study: Study | str | Path, folder: str | Path) -> list[str]:
    """
    Make the tables of a finished run the numbers of record of its study.

    Writes ``expected/*.csv`` and the run's manifest (``expected/fast/`` for a fast run), and
    ``expected/tolerances.toml`` with the defaults where there is none.

    Parameters
    ----------
    study : Study, str or Path
        The study, its name, or its folder.
    folder : path
        Output folder of a run of this study.

    Returns
    -------
    list of str
        Names of the accepted tables.

    Raises
    ------
    StudyError
        If the folder is not a run of this study as it is now, or a file in it was changed.
    """
    study = study if isinstance(study, Study) else find_study(study)
    folder = Path(folder)
    manifest = _acceptable(study, folder)
    fast = manifest["size"] == "fast"
    expected = study.expected(fast=fast)
    for name in study.tables:
        with atomic_path(expected / f"{name}.csv") as temporary:
            shutil.copyfile(folder / "tables" / f"{name}.csv", temporary)
    for path in expected.glob("*.csv"):
        if path.stem not in study.tables:
            path.unlink()
    if not _tolerances_path(study, fast=fast).is_file():
        write_text(study.expected() / TOLERANCES, TEMPLATE)
    with atomic_path(study.record(fast=fast)) as temporary:
        write_manifest(manifest, temporary)
    return list(study.tables)


def _acceptable(study: Study, folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder / MANIFEST)
    run = f"`{study.command} --out {folder}`"
    if manifest is None:
        raise StudyError(f"{folder} holds no finished run. Make one: {run}.")
    made = manifest["study"]["id"]
    if made != study.id:
        raise StudyError(f"{folder} holds a run of study '{made}', not of '{study.id}'.")
    changed = [
        name
        for name, facts in manifest["outputs"].items()
        if not (folder / name).is_file() or sha256(folder / name) != facts["sha256"]
    ]
    if changed:
        raise StudyError(
            f"{listed(changed)} in {folder} changed after the run, so its manifest is untrue. "
            "Run the study again into a new folder."
        )
    # the protocol may have been amended after the run; what makes the numbers may not
    ran, now = manifest["study"]["files"], study.file_hashes()
    stale = [name for name in ("study.toml", "run.py") if ran[name] != now[name]]
    if stale:
        raise StudyError(
            f"{listed(stale)} of study '{study.id}' changed after the run in {folder}, so its "
            "tables would not be those of the study. Run it again."
        )
    return manifest


def _tolerances_path(study: Study, *, fast: bool) -> Path:
    own = study.expected(fast=fast) / TOLERANCES
    return own if own.is_file() else study.expected() / TOLERANCES
