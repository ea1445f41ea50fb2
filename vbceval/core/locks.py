"""The system's lock on an open file, which goes with the process that holds it."""

from __future__ import annotations

import errno
import sys

if sys.platform == "win32":

    def take_lock(handle: int) -> bool:
        """Take no lock: Windows has them of another kind, which keep others from reading."""
        return False

else:
    import fcntl

    def take_lock(handle: int) -> bool:
        """
        Take the lock of an open file without waiting, and say whether it is held.

        Parameters
        ----------
        handle : int
            The open file. Closing it gives the lock back.

        Returns
        -------
        bool
            False where the disk has no locks.

        Raises
        ------
        BlockingIOError
            If another process holds it.
        """
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BlockingIOError(error.errno, error.strerror) from None
            return False
        return True
