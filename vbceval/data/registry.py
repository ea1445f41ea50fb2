"""Which public files there are, where their publisher keeps them, and how sure that is."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal, get_args

from vbceval.core.checks import listed
from vbceval.core.errors import DataError

Status = Literal["confirmed", "secondary", "unconfirmed"]


@dataclass(frozen=True)
class RemoteFile:
    """
    One file of a data set.

    Attributes
    ----------
    key : str
        What it is within the set: a performance year, ``2019A``, ``crosswalk``, ``county_2018``.
    kind : str
        ``results``, ``crosswalk`` or ``county``.
    path : str
        Address below the set's base, or a whole address; empty where it is unknown.
    file : str
        Name in the cache and on a mirror.
    checksum : str
        ``sha256:...`` or ``md5:...``; empty where it is unknown.
    status : str
        ``confirmed``, ``secondary`` or ``unconfirmed``.
    """

    key: str
    kind: str
    path: str
    file: str
    checksum: str
    status: Status

    @property
    def year(self) -> int | None:
        """Performance year of the file; None for a file that belongs to no year."""
        digits = re.fullmatch(r"(\d{4})[A-Z]?", self.key)
        return int(digits.group(1)) if digits else None


@dataclass(frozen=True)
class DataSet:
    """A published data set: what it is, its page, and its files."""

    name: str
    title: str
    publisher: str
    license: str
    page: str
    base: str
    files: tuple[RemoteFile, ...]

    @property
    def years(self) -> list[int]:
        """Performance years that the set covers."""
        return sorted({file.year for file in self.files if file.year is not None})

    def select(self, years: Sequence[int] | None) -> list[RemoteFile]:
        """
        Return the files of some years, with those that belong to no year.

        Raises
        ------
        DataError
            If a year is asked for that the set does not cover.
        """
        if years is None:
            return list(self.files)
        unknown = sorted(set(years) - set(self.years))
        if unknown:
            raise DataError(
                f"data set `{self.name}` has no performance years {listed(unknown)}; it covers "
                f"{self.years[0]}-{self.years[-1]}. Ask for those."
            )
        return [file for file in self.files if file.year is None or file.year in set(years)]


@functools.lru_cache(maxsize=1)
def datasets() -> Mapping[str, DataSet]:
    """
    Return the data sets that the package knows, by name.

    Examples
    --------
    >>> datasets()["mssp"].years[:3]
    [2013, 2014, 2015]
    """
    text = resources.files("vbceval.data").joinpath("registry.toml").read_text("utf-8")
    sets = {}
    for name, entry in tomllib.loads(text).items():
        files = tuple(RemoteFile(**file) for file in entry.pop("files"))
        _check(name, files)
        sets[name] = DataSet(name=name, files=files, **entry)
    return MappingProxyType(sets)


def dataset(name: str) -> DataSet:
    """Return one data set, or raise a DataError that lists the names."""
    if name not in datasets():
        raise DataError(
            f"there is no data set `{name}`; known are {listed(datasets())}. Choose one of them."
        )
    return datasets()[name]


def _check(name: str, files: Sequence[RemoteFile]) -> None:
    keys = [file.key for file in files]
    names = [file.file for file in files]
    wrong = [file.key for file in files if file.status not in get_args(Status)]
    bare = [file.key for file in files if file.checksum and ":" not in file.checksum]
    if len(set(keys)) < len(keys) or len(set(names)) < len(names) or wrong or bare:
        raise DataError(
            f"registry of `{name}`: keys and file names must be unique, a status one of "
            f"{listed(get_args(Status))} and a checksum prefixed by its algorithm "
            f"({listed([*wrong, *bare])}). Correct registry.toml."
        )
