"""The command `vbceval`, outside the package: Ctrl-C may come while the package is being imported."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as in `vbceval.study.terminal`."""


def main() -> None:
    """
    Run the command line and exit; see `vbceval.study.cli.main`.

    The imports take about a second, in which nothing has begun that would have to be undone. So Ctrl-C
    ends the process there and then, with the line and the exit status that it has later on.
    """
    before = signal.getsignal(signal.SIGINT)
    # a command that is to ignore Ctrl-C, as one in the background, goes on doing so
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    from vbceval.study.cli import main as run

    signal.signal(signal.SIGINT, before)
    run()


def _stop(*_: object) -> None:
    os.write(2, b"Interrupted, nothing written.\n")
    # an exception could be caught by a package that tries what it can import
    os._exit(INTERRUPTED)
