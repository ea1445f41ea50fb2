"""What long work shows on the terminal: steps done, time passed, time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[], None]]:
    """
    Show a bar on the standard error stream while the block runs; yield what moves it by one.

    Nothing is shown where the stream is no terminal, or for a single step.

    Parameters
    ----------
    title : str
        What is under way.
    total : int
        Steps.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or total < 2:
        yield lambda: None
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)
