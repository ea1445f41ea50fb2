"""Progress of a run on the terminal: what is under way, for how long, and how long it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Self


class TerminalDisplay:
    """
    Show stages on the standard error stream.

    On a terminal a stage has a spinner and its elapsed time while it lasts; elsewhere (a file, a
    log) it has one line when it begins and one when it ends.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._depth = 0

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show that a stage is under way, and afterwards how long it took."""
        start = time.perf_counter()
        self._depth += 1
        try:
            with self._under_way(text):
                yield
        finally:
            self._depth -= 1
        self.say(f"{text}: {seconds(time.perf_counter() - start)}")

    def say(self, text: str) -> None:
        """Show one line."""
        self._console.print(text)

    def _under_way(self, text: str) -> contextlib.AbstractContextManager[object]:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # the terminal library draws one live line at a time: an inner stage has plain lines
        if not self._console.is_terminal or self._depth > 1:
            self.say(f"{text} ...")
            return contextlib.nullcontext()
        live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        live.add_task(text, total=None)
        return live


class TerminalDownloads:
    """
    Show files as they arrive, on the standard error stream.

    Called with a file name, the bytes received and the bytes in all or None, as
    `vbceval.data.get` does. On a terminal each file has a bar; elsewhere one line.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def __call__(self, name: str, received: int, total: int | None) -> None:
        """Show how much of one file has arrived."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
            if not self._console.is_terminal:
                self._console.print(f"{name} ...")
        self._bars.update(self._tasks[name], completed=received, total=total)


def seconds(value: float) -> str:
    """
    Write a duration as it is said.

    Examples
    --------
    >>> seconds(0.04), seconds(12.34), seconds(75)
    ('0.04 seconds', '12.3 seconds', '1 minute 15 seconds')
    """
    if value < 60:
        return f"{value:.2g} seconds" if value < 1 else f"{value:.1f} seconds"
    minutes, rest = divmod(round(value), 60)
    unit = "minute" if minutes == 1 else "minutes"
    return f"{minutes} {unit} {rest} seconds" if rest else f"{minutes} {unit}"
