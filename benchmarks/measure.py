"""Run one step in a process of its own: processor seconds, wall seconds, peak memory."""

from __future__ import annotations

import compileall
import functools
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """
    What a step took: medians over its runs.

    Parameters
    ----------
    cpu, wall : float
        Seconds; `cpu` is of the process and all it started.
    peak : float
        Largest memory of the process and all it started, together, in MB.
    said : dict
        What the step printed.
    """

    cpu: float
    wall: float
    peak: float
    said: dict[str, Any]


def measure(
    script: Path, *words: str, python: str = sys.executable, runs: int = 1,
    limit: float | None = None,
) -> Cost:  # fmt: skip
    """
    Run a step of a script `runs` times and return its median cost; its output is JSON.

    A run that takes more than `limit` seconds is stopped.
    """
    return _median([_once([python, str(script), *words], limit) for _ in range(runs)])


def measure_in_turn(
    script: Path, steps: Sequence[Sequence[str]], *, runs: int
) -> tuple[list[Cost], list[float]]:
    """
    Run steps in turn, `runs` times: their median costs, and median ratios of processor time.

    A ratio is to the first step of the same round, so that a machine whose speed drifts moves both.
    """
    rounds = [
        [_once([sys.executable, str(script), *words]) for words in steps] for _ in range(runs)
    ]
    costs = [_median(list(found)) for found in zip(*rounds, strict=True)]
    ratios = [
        statistics.median(found[i].cpu / found[0].cpu for found in rounds)
        for i in range(len(steps))
    ]
    return costs, ratios


def measure_command(*words: str, runs: int = 1) -> Cost:
    """Run a command of `vbceval` `runs` times and return its median cost."""
    program = "from vbceval.study.cli import main; main()"
    return _median([_once([sys.executable, "-c", program, *words]) for _ in range(runs)])


def _median(found: list[Cost]) -> Cost:
    return Cost(
        cpu=statistics.median(x.cpu for x in found),
        wall=statistics.median(x.wall for x in found),
        peak=statistics.median(x.peak for x in found),
        said=found[-1].said,
    )


@functools.cache
def _compile_package() -> None:
    """
    Write the bytecode of vbceval, as installing it does.

    A source tree on a machine where Python keeps no bytecode would be compiled again in each step.
    """
    found = importlib.util.find_spec("vbceval")
    assert found is not None
    assert found.origin is not None
    compileall.compile_dir(Path(found.origin).parent, quiet=1)


def _once(command: list[str], limit: float | None = None) -> Cost:
    _compile_package()
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    peak, cpu = [0.0], [0.0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            memory, used = _family(process.pid)
            peak[0], cpu[0] = max(peak[0], memory), max(cpu[0], used)

    watcher = threading.Thread(target=watch)
    watcher.start()
    timer = threading.Timer(
        limit or threading.TIMEOUT_MAX, os.killpg, (process.pid, signal.SIGKILL)
    )
    timer.start()
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    ended.set()
    watcher.join()
    wall = time.perf_counter() - start
    lines = text.strip().splitlines()
    said: dict[str, Any] = {"failed": process.returncode}
    if limit is not None and wall > limit:
        said = {"stopped after": limit}
    if process.returncode == 0:
        # a command prints lines for people, a step JSON
        is_json = bool(lines) and lines[-1].startswith("{")
        said = json.loads(lines[-1]) if is_json else {"lines": lines}
    # what a process left running at its end (Spark's) is not in its own account
    return Cost(
        cpu=max(usage.ru_utime + usage.ru_stime, cpu[0]), wall=wall, peak=peak[0], said=said
    )


def _family(pid: int) -> tuple[float, float]:
    """Return resident memory (MB) and processor seconds of a process and its descendants."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    memory, used = 0.0, 0.0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != pid:  # session: the step began one
                continue
            resident = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        memory += resident * page / 1e6
        used += (int(fields[11]) + int(fields[12])) / ticks
    return memory, used
