"""The folder of a run: one run at a time, finished steps kept, nothing half written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vbceval.core.checks import listed
from vbceval.core.errors import DataError
from vbceval.core.files import atomic_path, remove, say_full, write_text
from vbceval.core.locks import take_lock
from vbceval.core.typing import Array

_FORMAT = 1
_LOCK, _RUN = "lock", "run.json"


class WorkFolder:
    """
    What a pass has finished, on disk. Made by `open_folder`.

    Attributes
    ----------
    path : Path
        The folder.
    kept : bool
        Whether it outlives the run.
    """

    def __init__(self, path: Path, *, kept: bool) -> None:
        self.path = path
        self.kept = kept

    def load(self, step: str) -> dict[str, Array] | None:
        """
        Return the arrays of a finished step; None for one that is to be done.

        Raises
        ------
        DataError
            If its file is damaged.
        """
        path = self.path / f"{step}.npz"
        if not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (zipfile.BadZipFile, ValueError, EOFError, OSError):
            raise DataError(
                f"`{path}` is damaged. Remove this file and run again: what it held is computed anew."
            ) from None

    def last(self, steps: Sequence[str]) -> tuple[int, dict[str, Array]]:
        """Return how many of these steps are done, by the last that is kept, and its arrays."""
        for done in range(len(steps), 0, -1):
            found = self.load(steps[done - 1])
            if found is not None:
                return done, found
        return 0, {}

    def forget(self, steps: Sequence[str]) -> None:
        """Remove steps that a later one holds."""
        for step in steps:
            (self.path / f"{step}.npz").unlink(missing_ok=True)

    def save(self, step: str, arrays: Mapping[str, Array]) -> None:
        """
        Keep the arrays of a finished step: all of them or nothing.

        Raises
        ------
        EstimationError
            If the disk is full.
        """
        with (
            say_full(self.path, self.say_kept),
            atomic_path(self.path / f"{step}.npz") as temporary,
        ):
            np.savez(temporary, allow_pickle=False, **arrays)

    def note(self, name: str, given: int | None, decide: Callable[[], int]) -> int:
        """
        Return a number decided when the run began, or decide and keep it now.

        Raises
        ------
        DataError
            If another number is given than the run began with.
        """
        run = json.loads((self.path / _RUN).read_text(encoding="utf-8"))
        if name not in run["notes"]:
            run["notes"][name] = decide()
            with say_full(self.path, self.say_kept):
                write_text(self.path / _RUN, json.dumps(run, indent=1))
        kept = int(run["notes"][name])
        if given is not None and given != kept:
            raise DataError(
                f"the run in `{self.path}` began with {kept:,} {name}, and `{name}` is {given:,} "
                "now. Leave it out to go on, or use a new folder."
            )
        return kept

    def discard(self, path: Path) -> None:
        """Remove a part that a killed run wrote and did not finish."""
        remove(path)

    def require(self, path: Path) -> None:
        """Raise DataError when a part of a finished step is not there."""
        if not path.exists():
            raise DataError(
                f"`{path}` is missing, though its bucket was finished: it was removed, or Spark "
                "wrote on a disk that this process does not see. Use a new folder, on a disk that "
                "both see."
            )

    def say_kept(self) -> str:
        """Say in a message what a stopped run leaves."""
        if not self.kept:
            return "Nothing is kept. Give a folder in `work` to be able to resume."
        # steps are numbered from 0, and a later one may hold those before it
        numbers = (int(path.stem.rpartition("-")[2]) for path in self.path.glob("*-*.npz"))
        done = max(numbers, default=-1) + 1
        return f"{done:,} finished steps are kept in `{self.path}`: the same call goes on there."


@contextlib.contextmanager
def open_folder(
    path: str | Path | None, identity: Mapping[str, Any], *, beside: Path | None = None
) -> Iterator[WorkFolder]:
    """
    Hold the folder of a run while the block lasts.

    Parameters
    ----------
    path : str, Path or None
        The folder, new or of the same run before. None: a temporary one, removed at the end.
    identity : mapping
        Pass, version, source, columns and parameters; a folder is of one identity.
    beside : Path, optional
        Where a temporary folder is made. Default: that of the system.

    Raises
    ------
    DataError
        If another run holds the folder, it belongs to another run or another state of the source,
        or it holds other files.
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix=".vbceval-pass-", dir=beside) as name:
            folder = WorkFolder(Path(name), kept=False)
            _begin(folder.path, identity)
            yield folder
        return
    folder = WorkFolder(Path(path), kept=True)
    begun = partial(say_full, folder.path, folder.say_kept)
    if folder.path.exists() and not folder.path.is_dir():
        raise DataError(f"`{path}` is a file; the folder of a run is needed.")
    _check_ours(folder.path)
    with begun():
        folder.path.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with begun():
            stack.enter_context(_held(folder.path))
            _begin(folder.path, identity)
        yield folder


def _check_ours(path: Path) -> None:
    inside = [p.name for p in path.iterdir()] if path.exists() else []
    if inside and _RUN not in inside and set(inside) != {_LOCK}:
        raise DataError(
            f"`{path}` holds files and is not the folder of a run ({listed(sorted(inside), most=3)}). "
            "Nothing of yours is ever mixed with ours: name a new folder."
        )


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock: it is the system's, so a process that is killed lets it go."""
    with (path / _LOCK).open("a+", encoding="utf-8") as stream:
        try:
            held = take_lock(stream.fileno())
        except BlockingIOError:
            raise DataError(_busy(path, _owner(stream.name))) from None
        before, here = _owner(stream.name), socket.gethostname()
        # a lock of this machine that could be taken is of a process that was killed; between
        # machines a shared disk may not pass locks on, so what is written decides, and so it does
        # where there are none
        if before is not None and (not held or before.get("host") != here):
            raise DataError(_busy(path, before))
        _write(stream, {"pid": os.getpid(), "host": here, "since": _now()})
        try:
            yield
        finally:
            stream.seek(0)
            stream.truncate()


def _write(stream: Any, owner: Mapping[str, Any]) -> None:
    stream.seek(0)
    stream.truncate()
    stream.write(json.dumps(owner))
    stream.flush()


def _owner(name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(Path(name).read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _busy(path: Path, owner: Mapping[str, Any] | None) -> str:
    who = "another run"
    if owner is not None:
        who = f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"
    return (
        f"`{path}` is in use by {who}, and two runs in one folder would count rows twice. Wait for "
        f"it, or use another folder. If that process is dead, remove `{path / _LOCK}`."
    )


def _begin(path: Path, identity: Mapping[str, Any]) -> None:
    file = path / _RUN
    given = json.loads(json.dumps(dict(identity), sort_keys=True, default=str))
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    if file.exists():
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            same = stored["fingerprint"] == digest and stored["format"] == _FORMAT
            before = stored["identity"]
        except (ValueError, KeyError):
            raise DataError(f"`{file}` is damaged. Use a new folder.") from None
        if not same:
            raise DataError(_differs(path, before, given))
    else:
        run = {"format": _FORMAT, "fingerprint": digest, "identity": given, "notes": {}}
        write_text(file, json.dumps(run, indent=1))
    # what a killed run was writing
    for left in path.glob(".*"):
        remove(left)


def _differs(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    remedy = "Use a new folder, or remove this one to start again."
    files = [x.get("source", {}).get("files", {}) for x in (before, now)]
    if before.get("pass") == now.get("pass") and files[0] != files[1]:
        names = [p for p in {**files[0], **files[1]} if files[0].get(p) != files[1].get(p)]
        shown = listed(sorted({Path(p).name for p in names}), most=3)
        return (
            f"the source changed since the run in `{path}` began: {len(names):,} files are other, "
            f"new or gone ({shown}). Buckets of two states must not be added. {remedy}"
        )
    differ = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    parts = []
    for key in differ:
        one, two = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            parts += [f"{key}: {k}" for k in {**one, **two} if one.get(k) != two.get(k)]
        else:
            parts.append(key)
    return f"the run in `{path}` is another: it differs in {listed(sorted(parts))}. {remedy}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
