"""What commands share: numbers with their noun, and one line where Ctrl-C ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended: 128 plus the number of the signal."""


@contextlib.contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Say one line instead of a traceback when Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo(message, err=True)
        raise typer.Exit(INTERRUPTED) from error


def counted(n: int, noun: str) -> str:
    """
    Write a number with its noun.

    Examples
    --------
    >>> counted(1, "table"), counted(1200, "table")
    ('1 table', '1,200 tables')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
