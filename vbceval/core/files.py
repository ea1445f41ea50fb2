"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vbceval.core.errors import DataError, EstimationError
from vbceval.core.locks import take_lock


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """
    Yield a temporary path beside `path`; it replaces `path` only if the block succeeds.

    Raises
    ------
    DataError
        If `path` is a folder.
    """
    if path.is_dir():
        raise DataError(f"`{path}` is a folder, and a file is to be written. Name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; the result gets the permissions a plain open would give
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """
    Let nobody else write `path` through this function while the block lasts.

    The lock is the system's, on a hidden file beside `path`, so a process that is killed lets it go;
    what such a process left half written is removed. Where a disk or a system (Windows) has no such
    locks nothing is held or removed.

    Raises
    ------
    DataError
        If another process writes `path`, or its folder may not be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with say_full(path):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            held = take_lock(handle)
        except BlockingIOError:
            os.close(handle)
            raise DataError(
                f"`{path}` is being written by another process, and one of the two results would be "
                "lost without a word. Wait for it, or name another file."
            ) from None
        # who had it may have removed the file in between: then another may hold a new one
        if not held or (lock.exists() and os.fstat(handle).st_ino == lock.stat().st_ino):
            break
        os.close(handle)
    try:
        left = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}({re.escape(path.suffix)})?")
        for other in path.parent.iterdir() if held else ():
            if left.fullmatch(other.name):
                remove(other)
        yield
    finally:
        if held:
            # before the lock is let go: who takes it next must not have this file
            lock.unlink(missing_ok=True)
        os.close(handle)
        if not held:
            lock.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def say_full(path: Path, left: Callable[[], str] | None = None) -> Iterator[None]:
    """
    Say it in words when the disk of `path` has no room for what the block writes, or may not be written.

    Parameters
    ----------
    path : Path
        What is written.
    left : callable, optional
        Gives a sentence on what is left. Default: that nothing is, or what was there before.

    Raises
    ------
    EstimationError
        If the disk is full, or a quota is used up.
    DataError
        If there is no permission, or the disk is read only.
    """
    try:
        yield
    except OSError as error:
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
        if not refused and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
    else:
        return
    if refused:
        raise DataError(
            f"`{path}` may not be written: there is no permission, or its disk is read only. Name "
            "another folder, or ask for permission."
        )
    said = "The file that was there is as it was." if path.is_file() else "Nothing was left."
    if left is not None:
        said = left()
    raise EstimationError(
        f"the disk of `{path}` is full, so it could not be written. Free space. {said}"
    )


def write_text(path: Path, text: str) -> None:
    """Write text to `path` atomically, UTF-8 with Unix line ends."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
