"""Run a study into an output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import shlex
import signal
import threading
import time
import types
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError, StudyError
from vbceval.study.config import find_study
from vbceval.study.context import Display, StudyContext
from vbceval.study.manifest import add_outputs, build_manifest, without_folders, write_manifest
from vbceval.study.report import write_report
from vbceval.study.staging import MANIFEST, check_output, staged
from vbceval.study.study import Study


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: its output folder and its manifest."""

    study: Study
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"


def run_study(
    study: Study | str | Path,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    fast: bool = False,
    force: bool = False,
    display: Display | None = None,
) -> Run:
    """
    Run a study: tables, figures, ``report.html`` and ``manifest.json``, all or nothing.

    Parameters
    ----------
    study : Study, str or Path
        The study, its name, or its folder.
    data : path, optional
        Folder of the inputs that do not come with the study.
    out : path, optional
        Output folder, absent or empty; ``output/<name>`` in the current folder by default.
    fast : bool, default False
        Use the settings of ``[sizes.fast]``.
    force : bool, default False
        Replace an earlier run of the same study in `out`, after the new run has succeeded.
    display : Display, optional
        Where progress is shown; nowhere by default.

    Returns
    -------
    Run

    Raises
    ------
    StudyError
        If the study, its inputs or its output folder cannot be used, a check is outside its
        limit, or the run did not write what it declares. Nothing is written then.
    """
    study = study if isinstance(study, Study) else find_study(study)
    data = None if data is None else Path(data)
    out = Path("output") / study.id if out is None else Path(out)
    out = out.resolve()
    study.size(fast=fast)
    check_output(study, out, force=force, data=data)
    inputs = find_inputs(study, data)
    function = load_run(study)
    start = time.perf_counter()
    with staged(out) as folder:
        ctx = StudyContext(
            study, folder=folder, data=data, inputs=inputs, fast=fast, display=display
        )
        with _recorded_warnings(ctx), _interruptible(ctx):
            function(ctx)
            ctx.require_complete()
            manifest = build_manifest(
                ctx,
                seconds=time.perf_counter() - start,
                command=_command(study, data=data, fast=fast),
            )
            add_outputs(manifest, folder)
            write_report(folder / "report.html", ctx, manifest)
            add_outputs(manifest, folder)
            write_manifest(manifest, folder / MANIFEST)
            # another run may have put its output there meanwhile
            check_output(study, out, force=force, data=data)
    return Run(study=study, folder=out, manifest=manifest)


def find_inputs(study: Study, data: Path | None) -> dict[str, tuple[Path, ...]]:
    """
    Return the files of each declared input, sorted by name.

    Raises
    ------
    StudyError
        If the data folder or required files are missing; all problems together.
    DataError
        If a compressed file is cut off.
    """
    problems = Problems(f"the inputs of study '{study.id}'", StudyError)
    if data is not None and not data.is_dir():
        raise StudyError(f"the data folder {data} does not exist. Check `--data`.")
    if data is not None and all(item.folder == "study" for item in study.inputs):
        raise StudyError(
            f"study '{study.id}' reads nothing from a data folder. Leave `--data` out."
        )
    found: dict[str, tuple[Path, ...]] = {}
    for item in study.inputs:
        get = f" `vbceval data get {item.dataset}` gets them." if item.dataset else ""
        root = study.folder if item.folder == "study" else data
        if root is None:
            if item.required:
                problems.add(
                    f"`{item.name}` ({item.label}) needs a folder. Give `--data DIR`.{get}"
                )
            found[item.name] = ()
            continue
        matches = {pattern: sorted(root.glob(pattern)) for pattern in item.files}
        absent = [pattern for pattern, paths in matches.items() if not paths]
        if absent and item.required:
            problems.add(f"`{item.name}` lacks {listed(absent, most=20)} in {root}.{get}")
        files = {path for paths in matches.values() for path in paths if path.is_file()}
        found[item.name] = tuple(sorted(files))
    problems.raise_if_any()
    _require_whole(path for files in found.values() for path in files)
    return found


def _require_whole(paths: Iterable[Path]) -> None:
    """Refuse compressed files that end early: reading them may fail late, or not at all."""
    problems = Problems("the input data", DataError)
    for path in paths:
        if path.suffix != ".gz":
            continue
        try:
            with gzip.open(path, "rb") as stream:
                while stream.read(1 << 20):
                    pass
        except (EOFError, zlib.error, OSError) as error:
            problems.add(f"{path} is cut off or damaged ({error}). Get it again.")
    problems.raise_if_any()


def load_run(study: Study) -> Callable[[StudyContext], None]:
    """
    Return the function ``run`` of the study's ``run.py``.

    Raises
    ------
    StudyError
        If ``run.py`` has no such function.
    """
    path = study.folder / "run.py"
    # compiled here rather than imported: no bytecode lands in the study's folder
    module = types.ModuleType(f"vbceval_study_{study.id.replace('-', '_')}")
    module.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(module))
    function = vars(module).get("run")
    if not callable(function):
        raise StudyError(f"run.py of study '{study.id}' defines no function `run(ctx)`. Add it.")
    found: Callable[[StudyContext], None] = function
    return found


def _command(study: Study, *, data: Path | None, fast: bool) -> str:
    words = ["vbceval", "study", "run", study.id]
    if data is not None:
        words += ["--data", data.resolve().name]
    return shlex.join(words + (["--fast"] if fast else []))


@contextlib.contextmanager
def _recorded_warnings(ctx: StudyContext) -> Iterator[None]:
    """Make the warnings of Python that would be shown warnings of the run."""

    def record(
        message: Warning | str, category: type[Warning], *where: object, **more: object
    ) -> None:
        ctx.warn(without_folders(f"{category.__name__}: {message}"))

    with warnings.catch_warnings():
        warnings.showwarning = record
        yield


@contextlib.contextmanager
def _interruptible(ctx: StudyContext) -> Iterator[None]:
    """
    Let Ctrl-C end the run even where a library swallows it.

    Samplers catch KeyboardInterrupt and return the draws they have; a run that went on from
    there would write numbers from a cut-off sample.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: types.FrameType | None) -> None:
        ctx.interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
        ctx.stop_if_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
