"""Private folders to spill to: gone with the process, also with one that was killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import IO

from vbceval.core.locks import take_lock

PREFIX = "vbceval-spill-"
_LOCK = "lock"


class SpillFolder:
    """
    A new folder in the system's temporary one, removed by `remove` or when it is forgotten.

    What is spilled are rows. A killed process cannot remove them, so each new folder removes those
    whose process is gone: the lock in a folder is the system's, and nobody holds it any more.

    Attributes
    ----------
    name : str
        Its path.
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            _remove_forsaken(left)
        while True:
            self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
            self.name = self._folder.name
            lock = Path(self.name) / _LOCK
            self._held: IO[str] = lock.open("w", encoding="utf-8")
            try:
                held = take_lock(self._held.fileno())
            except BlockingIOError:
                # another process came between, and takes the folder for a forsaken one
                self._held.close()
                continue
            if not held:
                # without the file, nobody takes the folder for forsaken
                self._held.close()
                lock.unlink()
            return

    def remove(self) -> None:
        """Remove the folder; may be called twice."""
        self._folder.cleanup()
        self._held.close()


def _remove_forsaken(folder: Path) -> None:
    """Remove a folder whose process is gone; leave those of others, and what is in use."""
    with contextlib.suppress(OSError), (folder / _LOCK).open("r+", encoding="utf-8") as lock:
        if take_lock(lock.fileno()):
            shutil.rmtree(folder, ignore_errors=True)
