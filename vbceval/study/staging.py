"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vbceval.core.checks import listed
from vbceval.core.errors import StudyError
from vbceval.study.study import Study

MANIFEST = "manifest.json"
MAKER = "vbceval"


def check_output(study: Study, out: Path, *, force: bool, data: Path | None = None) -> None:
    """
    Refuse an output folder that holds something a run would destroy or hide.

    Parameters
    ----------
    study : Study
        The study that will run.
    out : Path
        Where its output goes.
    force : bool
        Allow replacing an earlier run of the same study, and nothing else.
    data : Path, optional
        Data folder of the run, which the output may not replace.

    Raises
    ------
    StudyError
        If `out` is a file, holds or is the current, study or data folder, or is not empty.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise StudyError(f"the output {out} is a file. Give the name of a folder with `--out`.")
    protected = {"current folder": Path.cwd(), "study folder": study.folder, "data folder": data}
    for what, folder in protected.items():
        if folder is not None and folder.resolve().is_relative_to(out):
            raise StudyError(
                f"the output folder {out} is or holds the {what}, which a run would replace. "
                "Give another folder with `--out`."
            )
    held = sorted(path.name for path in out.iterdir())
    if not held:
        return
    if not force:
        raise StudyError(
            f"the output folder {out} is not empty ({len(held):,} entries), and mixing two runs "
            "would make its manifest untrue. Give an empty or new folder with `--out`, or replace "
            "an earlier run with `--force`."
        )
    reason = _not_replaceable(study, out)
    if reason:
        raise StudyError(
            f"`--force` does not replace {out}: {reason}. It replaces only an earlier run of the "
            "same study. Move the folder away, or give another one with `--out`."
        )


def _not_replaceable(study: Study, out: Path) -> str:
    manifest = read_manifest(out / MANIFEST)
    if manifest is None:
        return f"it holds no {MANIFEST} of {MAKER}"
    made = manifest["study"]["id"]
    if made != study.id:
        return f"it holds a run of study '{made}'"
    known = {MANIFEST, *manifest["outputs"]}
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir()}
    strange = sorted(files - known)
    if strange:
        return f"it holds files that the run did not write: {listed(strange)}"
    return ""


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return the manifest at `path`, or None where there is none that a run wrote."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("made_by") != MAKER:
        return None
    return manifest


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """
    Yield a new hidden folder beside `out` that becomes `out` only if the block succeeds.

    What killed runs left behind is removed first, and an earlier output that such a run had moved
    aside is put back. Folders of runs still going are left alone: each holds a lock that the
    system releases when its process ends.

    Parameters
    ----------
    out : Path
        Final folder: absent, empty, or (checked by `check_output`) an earlier run to replace.

    Raises
    ------
    StudyError
        If nothing can be written beside `out`.
    """
    prefix = f".{out.name}.running-"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for stale in out.parent.glob(f"{prefix}*"):
            _remove_if_dead(stale, out)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=prefix))
    except OSError as error:
        raise StudyError(
            f"the output {out} cannot be written: {error.strerror}. Give another folder with "
            "`--out`."
        ) from error
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            new = work / "new"
            new.mkdir()
            yield new
            _swap(new, out, aside=work / "previous")
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _remove_if_dead(work: Path, out: Path) -> None:
    try:
        lock = (work / "lock").open("r+")
    except OSError:
        # no lock yet: another run is making this folder now, or was killed while it did;
        # an empty folder goes, anything else stays
        with contextlib.suppress(OSError):
            work.rmdir()
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        previous = work / "previous"
        if previous.is_dir() and not out.exists():
            previous.rename(out)
        shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, out: Path, *, aside: Path) -> None:
    """Put `new` in the place of `out`; `out` comes back if that fails or is interrupted."""
    if not out.exists():
        new.rename(out)
        return
    try:
        out.rename(aside)
        new.rename(out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise
