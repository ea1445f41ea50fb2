"""Files written whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vbceval.core.errors import EstimationError


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` only if the block succeeds."""
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
def say_full(path: Path, left: Callable[[], str] | None = None) -> Iterator[None]:
    """
    Say it in words when the disk of `path` has no room for what the block writes.

    Parameters
    ----------
    path : Path
        What is written.
    left : callable, optional
        Gives a sentence on what is left. Default: that nothing is.

    Raises
    ------
    EstimationError
        If the disk is full, or a quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
    else:
        return
    said = "Nothing was left under its name." if left is None else left()
    raise EstimationError(
        f"the disk of `{path}` is full, so it could not be written. Free space. {said}"
    )


def write_text(path: Path, text: str) -> None:
    """Write text to `path` atomically, UTF-8 with Unix line ends."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
