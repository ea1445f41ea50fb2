"""`Study`: what an evaluation declares before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vbceval.core.errors import StudyError
from vbceval.core.files import sha256

SizeName = Literal["full", "fast"]


@dataclass(frozen=True, kw_only=True)
class Input:
    """
    One named input of a study.

    Attributes
    ----------
    name : str
        Name in ``[inputs.<name>]``.
    files : tuple of str
        File names or patterns (``*``, ``?``), relative to the folder.
    folder : {"data", "study"}
        Look below the folder given with ``--data``, or below the study's own folder.
    dataset : str or None
        Data set of ``vbceval data list`` that holds the files.
    required : bool
        Whether the run stops when nothing matches.
    """

    name: str
    files: tuple[str, ...] = ()
    folder: Literal["data", "study"] = "data"
    dataset: str | None = None
    required: bool = True

    @property
    def label(self) -> str:
        """The input in a few words: the data set, or the file patterns."""
        text = f"data set {self.dataset}" if self.dataset else ", ".join(self.files)
        return text if self.required else f"{text} (optional)"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """
    The range in which a check of the study must fall.

    Attributes
    ----------
    name : str
        Name in ``[limits.<name>]``.
    low, high : float or None
        Smallest and largest value that passes, both included.
    action : {"stop", "warn"}
        What a value outside does: end the run with nothing written, or add a warning.
    why : str
        Reason of the limit, shown in the report.
    """

    name: str
    low: float | None = None
    high: float | None = None
    action: Literal["stop", "warn"] = "stop"
    why: str = ""

    def passes(self, value: float) -> bool:
        """Return whether `value` is inside; a missing value is not."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return value == value and above and below

    @property
    def text(self) -> str:
        """The range in words.

        Examples
        --------
        >>> Limit(name="rhat", high=1.01).text
        'at most 1.01'
        """
        if self.low is None:
            return f"at most {self.high:g}"
        if self.high is None:
            return f"at least {self.low:g}"
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """
    An evaluation: its question, inputs, seed, sizes, limits and declared outputs.

    Built from ``study.toml`` by `vbceval.study.read_study`, which checks everything and reports
    all problems together.

    Attributes
    ----------
    id : str
        Name of the folder, for example ``"mssp-entry"``.
    title, question : str
        One line each; the question may be empty.
    folder : Path
        Where ``study.toml``, ``protocol.md``, ``run.py`` and ``expected/`` are.
    seed : int
        Seed of every random number of the study.
    inputs : tuple of Input
        What is read.
    tables, figures : tuple of str
        Names that a run must write, no more and no fewer.
    sizes : mapping of str to mapping
        Settings of the ``"full"`` and the ``"fast"`` size (numbers of draws, replications).
        Without a fast size, ``--fast`` is refused.
    limits : mapping of str to Limit
        Ranges that the checks of a run must fall in.
    settings : mapping
        Anything else that ``run.py`` reads: program, designs, estimators, thresholds.
    """

    id: str
    title: str
    folder: Path
    seed: int
    question: str = ""
    inputs: tuple[Input, ...] = ()
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that runs the study, up to its output folder and size."""
        reads = any(item.folder == "data" for item in self.inputs)
        return f"vbceval study run {self.id}{' --data DIR' if reads else ''}"

    def size(self, *, fast: bool) -> Mapping[str, Any]:
        """
        Return the settings of the full or the fast size.

        Raises
        ------
        StudyError
            If the fast size is asked for and the study declares none.
        """
        if fast and "fast" not in self.sizes:
            raise StudyError(
                f"study '{self.id}' has no fast size. Run it without `--fast`, or add "
                "`[sizes.full]` and `[sizes.fast]` to its study.toml."
            )
        return self.sizes.get(size_name(fast=fast), {})

    def expected(self, *, fast: bool = False) -> Path:
        """Return the folder of the tables of record; it may not exist yet."""
        return self.folder / "expected" / "fast" if fast else self.folder / "expected"

    def record(self, *, fast: bool = False) -> Path:
        """Return the manifest of the run that made the tables of record; it may not exist yet."""
        return (self.expected(fast=True) if fast else self.folder) / "manifest.json"

    def file_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files that define the study."""
        names = ("study.toml", "run.py", "protocol.md")
        return {name: sha256(self.folder / name) for name in names}


def size_name(*, fast: bool) -> SizeName:
    """Return the name of a size."""
    return "fast" if fast else "full"
