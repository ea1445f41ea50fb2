"""Public files into the cache, or files the user already has into its list."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbceval.core.checks import Problems, listed
from vbceval.core.errors import DataError
from vbceval.core.files import sha256, write_text
from vbceval.data.mssp import SPLIT_YEAR, read_file
from vbceval.data.mssp_find import Found, find_files, recognise
from vbceval.data.mssp_link import read_crosswalk
from vbceval.data.registry import DataSet, RemoteFile, dataset
from vbceval.data.text_table import read_table
from vbceval.data.transfer import BY_HAND, Progress, Unreachable, default_cache, fetch

ADDRESS = "VBCEVAL_DATA_URL"
"""Environment variable with the address of a mirror that holds the files by their cache names."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DataFiles:
    """
    Where the files of a data set are.

    Attributes
    ----------
    name : str
        Name of the data set.
    files : mapping of str to Path
        Path of each file that is at hand, by its key in the registry.
    missing : mapping of str to str
        Files that are not at hand, by key, each with what to do about it.
    """

    name: str
    files: Mapping[str, Path]
    missing: Mapping[str, str]

    @property
    def paths(self) -> list[Path]:
        """The files at hand, each once; `read_mssp` takes the list."""
        return list(dict.fromkeys(self.files.values()))


def get(
    name: str,
    *,
    years: Sequence[int] | None = None,
    cache: str | Path | None = None,
    base_url: str | None = None,
    source: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    retries: int = 4,
    wait: float = 1.0,
) -> DataFiles:
    """
    Make the files of a data set available and return where they are.

    A file that is in the cache with the right hash is not fetched again; a download that was cut
    off goes on where it stopped if the server allows it. A file without a published checksum is
    held to the hash of its first download.

    Parameters
    ----------
    name : str
        Name of the data set, for example ``"mssp"``; see `datasets`.
    years : sequence of int, optional
        Performance years; default all.
    cache : str or Path, optional
        Folder of the cache; default that of the operating system for this user.
    base_url : str, optional
        Address of a mirror that holds the files by their cache names; default the environment
        variable ``VBCEVAL_DATA_URL``, else the publisher.
    source : str or Path, optional
        Folder with files the user already has. They are recognised by their columns, checked and
        remembered in the cache's list with their hash; they stay where they are and nothing is
        fetched.
    force : bool, default False
        Fetch again, and accept a file that differs from the first download.
    progress : callable, optional
        Called with the file name, bytes received, and bytes in all or None.
    retries : int, default 4
        Further attempts after a failure that may pass.
    wait : float, default 1.0
        Seconds before the second attempt, doubled for each later one.

    Returns
    -------
    DataFiles
        The paths by key. Files whose address the publisher has not given are in `missing`.

    Raises
    ------
    DataError
        Listing every file that failed and why: no network, no such file, a wrong checksum, an
        incomplete transfer, a page in place of a table, a year that `source` does not hold. Files
        that were finished stay in the cache.
    """
    data = dataset(name)
    folder = (Path(cache) if cache is not None else default_cache()) / name
    if source is not None:
        if base_url is not None or force:
            raise DataError(
                "`source` reads files that are already here, so `base_url` and `force` would have "
                "no effect. Pass either `source` or those."
            )
        return _register(data, folder, Path(source), years)
    mirror = base_url if base_url is not None else os.environ.get(ADDRESS) or None
    manifest = _read_manifest(folder)
    files: dict[str, Path] = {}
    missing: dict[str, str] = {}
    found = Problems(f"data set `{name}`")
    for entry in data.select(years):
        try:
            path = None if force else _registered(manifest, entry)
            url = _address(data, entry, mirror)
            if path is None and not url and not (folder / entry.file).exists():
                missing[entry.key] = _no_address(data, entry)
                continue
            if path is None:
                path = _download(entry, url, folder, manifest, force, progress, retries, wait)
            files[entry.key] = path
        except Unreachable as error:
            # the other files are on the same server: waiting for each in turn helps nobody
            found.add(str(error))
            break
        except DataError as error:
            found.add(str(error))
    asked = {key for key in missing if years is not None and key[:4].isdigit()}
    for key in sorted(asked):
        found.add(missing[key])
    found.raise_if_any()
    return DataFiles(name, files, missing)


def _address(data: DataSet, entry: RemoteFile, mirror: str | None) -> str:
    if mirror is not None:
        return f"{mirror.rstrip('/')}/{entry.file}"
    if not entry.path or "://" in entry.path:
        return entry.path
    return f"{data.base}/{entry.path}"


def _no_address(data: DataSet, entry: RemoteFile) -> str:
    return (
        f"`{entry.key}` ({entry.file}) has no known address at the publisher. Look for it on "
        f"{data.page}, {BY_HAND}."
    )


def _download(
    entry: RemoteFile,
    url: str,
    folder: Path,
    manifest: dict[str, Any],
    force: bool,
    progress: Progress | None,
    retries: int,
    wait: float,
) -> Path:
    recorded = manifest["downloaded"].get(entry.file, {}).get("sha256")
    if force:
        recorded = None
    known = entry.checksum or (f"sha256:{recorded}" if recorded else None)
    with _set_aside(folder / entry.file) if force else contextlib.nullcontext():
        path = fetch(
            url,
            folder,
            entry.file,
            known_hash=known,
            progress=progress,
            retries=retries,
            wait=wait,
        )
        digest = sha256(path)
        if digest != recorded:
            try:
                _check_content(path, entry)
            except DataError:
                path.unlink(missing_ok=True)
                raise
    if digest != recorded:
        manifest["downloaded"][entry.file] = {
            "sha256": digest,
            "url": url,
            "bytes": path.stat().st_size,
        }
        _write_manifest(folder, manifest)
    return path


@contextlib.contextmanager
def _set_aside(target: Path) -> Iterator[None]:
    # the file that works is given up only once a new one has taken its place
    kept = target.with_name(f".{target.name}.kept")
    if target.exists():
        target.replace(kept)
    try:
        yield
        kept.unlink(missing_ok=True)
    finally:
        if kept.exists():
            kept.replace(target)


def _check_content(path: Path, entry: RemoteFile) -> None:
    seen = recognise(read_table(path))
    if seen is None or seen.kind != entry.kind:
        raise DataError(
            f"`{entry.file}` was fetched but its columns are not those of a {entry.kind} file, so "
            f"the address leads elsewhere. Compare the publisher's page and {BY_HAND}."
        )


def _registered(manifest: dict[str, Any], entry: RemoteFile) -> Path | None:
    known = manifest["registered"].get(entry.key)
    if known is None or not Path(known["path"]).exists():
        return None
    path = Path(known["path"])
    if sha256(path) != known["sha256"]:
        raise DataError(
            f"`{path}` changed since it was registered as `{entry.key}`, so results would not be "
            "the same. Register it again with `--from DIR`, or fetch the publisher's file with "
            "`force`."
        )
    return path


def _register(data: DataSet, folder: Path, source: Path, years: Sequence[int] | None) -> DataFiles:
    if not source.is_dir():
        raise DataError(
            f"`{source}` is not a folder, so there are no files to take from it. Name the folder "
            "that holds them."
        )
    entries = data.select(years)
    kinds = {entry.kind for entry in entries}
    found = Problems(f"folder `{source}`")
    held: dict[str, list[Path]] = {}
    for seen in find_files(source):
        if seen.kind in kinds:
            _take(seen, held, {entry.key for entry in entries}, found)
    for key, paths in sorted(held.items()):
        if len(paths) > 1:
            found.add(
                f"{len(paths)} files are `{key}` ({listed(p.name for p in paths)}). Leave one."
            )
    if not held:
        found.add(f"it holds no file of data set `{data.name}`. Name the folder that does.")
    absent = [entry for entry in entries if entry.key not in held]
    if years is not None:
        for entry in absent:
            if entry.year is not None:
                found.add(f"`{entry.key}` is not there. Add the file, or leave the year out.")
    found.raise_if_any()
    manifest = _read_manifest(folder)
    files = {e.key: held[e.key][0].resolve() for e in entries if e.key in held}
    for key, path in files.items():
        manifest["registered"][key] = {"path": str(path), "sha256": sha256(path)}
    _write_manifest(folder, manifest)
    missing = {entry.key: f"`{entry.key}` is not in `{source}`." for entry in absent}
    return DataFiles(data.name, files, missing)


def _take(seen: Found, held: dict[str, list[Path]], keys: set[str], found: Problems) -> None:
    dated = seen.kind == "results" and seen.year is not None
    if dated and not any(key.startswith(str(seen.year)) for key in keys):
        return
    try:
        names = _keys_of(seen)
    except DataError as error:
        found.add(str(error))
        return
    for key in names & keys:
        held.setdefault(key, []).append(seen.path)


def _keys_of(seen: Found) -> set[str]:
    # reading it is the check: every failure of the file is listed
    if seen.kind == "county":
        return {f"county_{seen.year}"}
    if seen.kind == "crosswalk":
        read_crosswalk(seen.path)
        return {"crosswalk"}
    results = read_file(seen.path, seen.year)
    year = results.years[0]
    if year != SPLIT_YEAR:
        return {str(year)}
    late = results.aco_year["part"] == "july_december"
    return ({f"{year}A"} if late.any() else set()) | ({str(year)} if not late.all() else set())


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        return {"downloaded": {}, "registered": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {
            "downloaded": dict(manifest["downloaded"]),
            "registered": dict(manifest["registered"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the cache's list `{path}` cannot be read, so its files cannot be trusted. Delete it; "
            "the files are checked again."
        ) from error


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_text(folder / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
