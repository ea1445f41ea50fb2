"""`StudyContext`: what the `run` function of a study is given."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd

from vbceval.core.checks import Problems, listed
from vbceval.core.disclosure import SMALLEST_SHOWN, is_small
from vbceval.core.errors import StudyError
from vbceval.core.rng import generator
from vbceval.study.exhibits import (
    Exhibit,
    FigureExhibit,
    Section,
    TableExhibit,
    TextExhibit,
    check_table,
    with_named_index,
    write_table,
)
from vbceval.study.study import Study, size_name

if TYPE_CHECKING:
    from vbceval.figures.canvas import Figure


class Display(Protocol):
    """Where a run says what it is doing."""

    def stage(self, text: str) -> contextlib.AbstractContextManager[None]:
        """Show that a stage is under way, and afterwards how long it took."""

    def say(self, text: str) -> None:
        """Show one line."""


class Quiet:
    """The display of a run that says nothing."""

    def stage(self, text: str) -> contextlib.AbstractContextManager[None]:
        """Show nothing while `text` is under way."""
        return contextlib.nullcontext()

    def say(self, text: str) -> None:
        """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The value of one check of a run beside its limit; NaN where it may not be shown."""

    name: str
    value: float
    limit: str
    passed: bool
    why: str


class StudyContext:
    """
    Inputs, settings and outputs of one run of a study.

    A study's ``run(ctx)`` reads through it and writes through it; exhibits appear in the report
    in the order of the calls.

    Attributes
    ----------
    study : Study
        What the study declares.
    data : Path or None
        Folder given with ``--data``.
    inputs : mapping of str to tuple of Path
        Files of each declared input, sorted by name; registered with their hashes already.
    fast : bool
        Whether this is the fast size.
    size : mapping
        Settings of ``[sizes.full]`` or ``[sizes.fast]``.
    settings : mapping
        The table ``[settings]`` of ``study.toml``.
    seed : int
        Seed of the study.
    """

    def __init__(
        self,
        study: Study,
        *,
        folder: Path,
        data: Path | None = None,
        inputs: Mapping[str, tuple[Path, ...]] | None = None,
        fast: bool = False,
        display: Display | None = None,
    ) -> None:
        self.study = study
        self.data = data
        self.inputs: Mapping[str, tuple[Path, ...]] = dict(inputs or {})
        self.fast = fast
        self.size = study.size(fast=fast)
        self.settings = study.settings
        self.seed = study.seed
        self._folder = folder
        self._display: Display = display or Quiet()
        self.exhibits: list[Exhibit] = []
        self.headlines: list[str] = []
        self.input_files: list[Path] = []
        self.warnings: list[str] = []
        self.stages: list[tuple[str, float]] = []
        self.checks: list[CheckResult] = []
        self.metas: list[Mapping[str, Any]] = []
        self.interrupted = False
        for files in self.inputs.values():
            for file in files:
                self.input(file)

    # ------------------------------------------------------------------ reading

    def rng(self, name: str | int, *more: str | int) -> np.random.Generator:
        """Return the generator of one named purpose, independent of every other name."""
        return generator(self.seed, name, *more)

    def input(self, path: str | Path) -> Path:
        """
        Register a file that the study reads, so that its hash is recorded; return its path.

        Raises
        ------
        StudyError
            If there is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise StudyError(f"the study reads {path}, which is not a file. Check `--data`.")
        if path.resolve() not in [p.resolve() for p in self.input_files]:
            self.input_files.append(path)
        return path

    # ------------------------------------------------------------------ saying

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show what is under way and how long it took; the time goes into the manifest."""
        start = time.perf_counter()
        with self._display.stage(text):
            yield
            self.stop_if_interrupted()
        self.stages.append((text, time.perf_counter() - start))

    def stop_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if it was raised before and something caught it."""
        if self.interrupted:
            raise KeyboardInterrupt

    def warn(self, message: str) -> None:
        """Record a warning: it is shown, and goes into the manifest and the report."""
        if message not in self.warnings:
            self.warnings.append(message)
            self._display.say(f"warning: {message}")

    def check(self, name: str, value: float, *, people: bool = False) -> bool:
        """
        Compare a value with its declared limit, record both, and return whether it passes.

        Parameters
        ----------
        name : str
            A limit of ``[limits]``.
        value : float
            The value, in the unit of the limit.
        people : bool, default False
            Whether the value counts people, episodes or claims: 1-10 is then compared and not shown.

        Raises
        ------
        StudyError
            If ``[limits]`` does not declare `name`, or the value is outside a limit whose action
            is ``stop``: then nothing is written.
        """
        limit = self.study.limits.get(name)
        if limit is None:
            raise StudyError(
                f"study '{self.study.id}' checks `{name}`, which `[limits]` in study.toml does not "
                f"declare (it has {listed(self.study.limits) or 'none'})."
            )
        value = float(value)
        passed = limit.passes(value)
        hidden = people and bool(is_small(np.array([value]))[0])
        said = f"fewer than {SMALLEST_SHOWN}" if hidden else f"{value:.6g}"
        value = float("nan") if hidden else value
        self.checks.append(
            CheckResult(name=name, value=value, limit=limit.text, passed=passed, why=limit.why)
        )
        if not passed:
            reason = f" {limit.why}" if limit.why else ""
            message = f"check `{name}` is {said}, and the limit is {limit.text}.{reason}"
            if limit.action == "stop":
                raise StudyError(
                    f"study '{self.study.id}' stops, and nothing is written: {message} The limit "
                    "belongs to the protocol: mend the cause, or amend protocol.md and study.toml."
                )
            self.warn(message)
        return passed

    def meta(self, estimates: Any) -> None:
        """
        Put the record of an estimate (estimator, options, counts, warnings) into the manifest.

        Parameters
        ----------
        estimates : Estimates or mapping
            Anything with a mapping ``meta``, or the mapping itself. Its ``warnings`` become
            warnings of the run.
        """
        meta = estimates if isinstance(estimates, Mapping) else estimates.meta
        self.metas.append(meta)
        for message in meta.get("warnings", ()):
            self.warn(str(message))

    # ------------------------------------------------------------------ writing

    def headline(self, sentence: str) -> None:
        """Add a sentence (Markdown) to the key results at the top of the report."""
        self.headlines.append(sentence)

    def section(self, title: str) -> None:
        """Begin a section of the report."""
        self.exhibits.append(Section(title=title))

    def text(
        self, name: str, text: str, *, format: Literal["markdown", "html"] = "markdown"
    ) -> None:
        """Add prose to the report. HTML is taken as it is: nothing external may be in it."""
        self._new(name, TextExhibit)
        self.exhibits.append(TextExhibit(name=name, text=text, format=format))

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        title: str,
        note: str = "",
        keys: Sequence[str] = (),
        counts: Sequence[str] = (),
        formats: Mapping[str, str] | None = None,
    ) -> Path:
        """
        Check a table, write it to ``tables/<name>.csv`` with full precision, and report it.

        Parameters
        ----------
        name : str
            A name declared in ``[outputs]``.
        frame : DataFrame
            The table; a named index becomes columns.
        title, note : str
            Caption and note in the report. The note is Markdown.
        keys : sequence of str
            Columns that together name each row. Without them `verify` compares rows by position.
        counts : sequence of str
            Columns that count people, episodes or claims: 1-10 is refused.
        formats : mapping of str to str, optional
            Format of columns in the report, for example ``{"estimate": ",.1f"}``. The file always
            has full precision.

        Returns
        -------
        Path
            The file, still in the temporary folder of the run.

        Raises
        ------
        StudyError
            If the name is not declared, or was used already.
        DataError
            If the table breaks a rule of `vbceval.study.exhibits.check_table`.
        """
        self._new(name, TableExhibit, self.study.tables)
        frame = with_named_index(frame)
        check_table(name, frame, keys=keys, counts=counts)
        path = self._folder / "tables" / f"{name}.csv"
        write_table(path, frame)
        self.exhibits.append(
            TableExhibit(
                name=name,
                title=title,
                frame=frame,
                note=note,
                keys=tuple(keys),
                formats=dict(formats or {}),
            )
        )
        return path

    def figure(
        self,
        name: str,
        figure: Figure,
        *,
        title: str,
        note: str | None = None,
        data: pd.DataFrame | None = None,
        alt: str | None = None,
        people: Sequence[str] = (),
    ) -> Path:
        """
        Save a figure with its plotted values to ``figures/<name>.*``, and report it.

        Parameters
        ----------
        name : str
            A name declared in ``[outputs]``.
        figure : matplotlib Figure
            Drawn by `vbceval.figures`, which attaches values, note and alternative text.
        title : str
            Caption in the report.
        note : str, optional
            Note under the caption; the default is the note that the figure carries.
        data : DataFrame, optional
            Plotted values of a figure that was drawn elsewhere.
        alt : str, optional
            Alternative text of a figure that was drawn elsewhere.
        people : sequence of str
            Columns of the plotted values that count people and are not known by name.

        Returns
        -------
        Path
            The picture, still in the temporary folder of the run.

        Raises
        ------
        StudyError
            If the name is not declared, or was used already.
        DataError
            If the figure was drawn elsewhere, and `data` or `alt` is not given.
        """
        from vbceval.figures.files import save

        self._new(name, FigureExhibit, self.study.figures)
        folder = self._folder / "figures"
        folder.mkdir(exist_ok=True)
        files = save(
            figure,
            folder / name,
            data=data,
            note=note,
            alt=alt,
            people=people,
            formats=("svg", "png"),
        )
        self.exhibits.append(
            FigureExhibit(
                name=name,
                title=title,
                image=files["svg"],
                alt=files["alt"].read_text(encoding="utf-8").strip(),
                note=str(json.loads(files["json"].read_text(encoding="utf-8"))["note"]),
            )
        )
        return files["svg"]

    def _new(self, name: str, kind: type, declared: Sequence[str] | None = None) -> None:
        """Refuse a name that is not declared or was used already."""
        if declared is not None and name not in declared:
            what = "tables" if kind is TableExhibit else "figures"
            raise StudyError(
                f"study '{self.study.id}' writes `{name}`, which `outputs.{what}` in study.toml "
                f"does not declare (it has {listed(declared, most=20) or 'none'})."
            )
        if name in self._names(kind):
            raise StudyError(f"study '{self.study.id}' writes `{name}` twice. Give each a name.")

    def _names(self, kind: type) -> list[str]:
        return [e.name for e in self.exhibits if isinstance(e, kind) and not isinstance(e, Section)]

    # ------------------------------------------------------------------ the end

    def require_complete(self) -> None:
        """
        Check that everything declared was done.

        Raises
        ------
        StudyError
            If a declared table or figure was not written, or a declared limit was not checked.
        """
        problems = Problems(f"the run of study '{self.study.id}'", StudyError)
        done: Iterable[tuple[str, Sequence[str], Sequence[str]]] = (
            ("wrote no table", self.study.tables, self._names(TableExhibit)),
            ("wrote no figure", self.study.figures, self._names(FigureExhibit)),
            ("never checked the limit", list(self.study.limits), [c.name for c in self.checks]),
        )
        for what, declared, found in done:
            absent = [name for name in declared if name not in found]
            if absent:
                problems.add(f"it {what} {listed(absent, most=20)}, as study.toml declares.")
        problems.raise_if_any()

    @property
    def size_name(self) -> str:
        """Name of the size, ``"full"`` or ``"fast"``."""
        return size_name(fast=self.fast)
