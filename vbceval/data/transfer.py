"""One file over HTTP into the cache: retried, resumed, checked, put in place whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbceval.core.errors import DataError

if TYPE_CHECKING:
    from requests import Response

Progress = Callable[[str, int, int | None], None]
"""Called with the file name, the bytes received so far, and the bytes in all if known."""

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that a later attempt may turn into the file."""

CHUNK = 1 << 16
BY_HAND = "download the file by hand and name its folder with `--from DIR` (`source` in Python)"


class Unreachable(DataError):
    """Raise when the publisher's server cannot be reached, so other files will fail as well."""


class _TryAgain(Exception):
    """One attempt failed in a way that another may not; holds the error to raise if none does."""

    def __init__(self, error: DataError) -> None:
        super().__init__(str(error))
        self.error = error


def default_cache() -> Path:
    """Return the folder where this user's programs keep files that can be fetched again."""
    import pooch

    return Path(pooch.os_cache("vbceval"))


def fetch(
    url: str,
    folder: Path,
    name: str,
    *,
    known_hash: str | None,
    progress: Progress | None = None,
    retries: int = 4,
    wait: float = 1.0,
) -> Path:
    """
    Return the path of `name` in `folder`, downloading it unless it is there with the right hash.

    The bytes are collected in a partial file, which a later call resumes if the server allows it;
    the file takes its name only when it is complete and its hash is right.

    Parameters
    ----------
    url : str
        Address.
    folder : Path
        Folder of the cache.
    name : str
        Name in the cache.
    known_hash : str or None
        ``sha256:...`` or ``md5:...``; None accepts what the server sends.
    progress : callable, optional
        Called as bytes arrive.
    retries : int, default 4
        Further attempts after a failure that may pass.
    wait : float, default 1.0
        Seconds before the second attempt; each later one waits twice as long.

    Raises
    ------
    DataError
        If the server cannot be reached, has no such file or refuses it, if the file stays
        incomplete, or if its hash is not the known one.
    """
    import pooch

    manager = pooch.create(
        path=folder, base_url="", registry={name: known_hash}, urls={name: url}, allow_updates=True
    )
    transfer = _Transfer(name, progress, retries, wait)
    try:
        with _quiet(pooch):
            return Path(manager.fetch(name, downloader=transfer))
    except DataError:
        raise
    except ValueError as error:
        # pooch says by ValueError that the hash differs; the file is not kept
        raise DataError(
            f"`{name}` from {url} does not have the expected checksum ({known_hash}), so it is "
            "not the file that was checked: damaged on the way, or replaced by the publisher. Try "
            "again with `force`; if it fails again, compare the publisher's release notes and "
            f"{BY_HAND}."
        ) from error
    except OSError as error:
        raise DataError(
            f"`{name}` cannot be written to `{folder}` ({error.strerror or error}). Free space, "
            "correct the permissions, or choose another folder with `cache`."
        ) from error


@contextlib.contextmanager
def _quiet(pooch: Any) -> Iterator[None]:
    # progress is shown by whoever calls; pooch's own log lines would break its display
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class _Transfer:
    """A downloader in pooch's sense: writes the content of an address to a file."""

    name: str
    progress: Progress | None
    retries: int
    wait: float

    def __call__(self, url: str, output_file: str | Path, manager: object) -> None:
        output = Path(output_file)
        partial = output.parent / ".partial" / hashlib.sha256(url.encode()).hexdigest()[:24]
        partial.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(self.retries + 1):
            try:
                self._attempt(url, partial)
                break
            except _TryAgain as failure:
                if attempt == self.retries:
                    raise failure.error from failure
                time.sleep(self.wait * 2**attempt)
        partial.replace(output)
        _note(partial).unlink(missing_ok=True)

    def _attempt(self, url: str, partial: Path) -> None:
        import requests

        have, validator = _resumable(url, partial)
        headers = {"User-Agent": "vbceval", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
                self._check_status(response, url, partial)
                self._receive(response, url, partial, have)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ReadTimeout) as error:
            raise _TryAgain(self._incomplete(url, partial, None)) from error
        except requests.exceptions.RequestException as error:
            raise _TryAgain(
                Unreachable(
                    f"`{self.name}` cannot be fetched: {_host(url)} cannot be reached "
                    f"({type(error).__name__}). Connect to the network or set its proxy and try "
                    f"again, or {BY_HAND}."
                )
            ) from error

    def _check_status(self, response: Response, url: str, partial: Path) -> None:
        status = int(response.status_code)
        if status in (200, 206):
            return
        if status == 416:
            # the partial file is not the beginning of what is there now
            partial.unlink(missing_ok=True)
            raise _TryAgain(self._incomplete(url, partial, None))
        if status in TRANSIENT:
            raise _TryAgain(
                DataError(
                    f"`{self.name}`: {_host(url)} answered {status} (attempts: {self.retries + 1}), "
                    f"so it is busy or down. Try again later, or {BY_HAND}."
                )
            )
        meaning = {404: "there is no such file: it was moved or renamed", 410: "it was removed"}
        raise DataError(
            f"`{self.name}`: {url} answered {status} "
            f"({meaning.get(status, 'the server refuses it')}). Look for the file on the "
            f"publisher's page (`vbceval data list` names it) and {BY_HAND}."
        )

    def _receive(self, response: Response, url: str, partial: Path, have: int) -> None:
        start, total = _extent(response)
        if response.status_code == 206 and start != have:
            partial.unlink(missing_ok=True)
            raise _TryAgain(self._incomplete(url, partial, total))
        done = have if response.status_code == 206 else 0
        _note(partial).write_text(
            json.dumps({"url": url, "validator": _validator(response)}), encoding="utf-8"
        )
        # by default a short transfer raises before its last block is handed over, and is lost
        response.raw.enforce_content_length = False
        # unbuffered, so that what arrived before a kill is on disk for the next attempt
        with partial.open("ab" if done else "wb", buffering=0) as stream:
            for block in response.iter_content(CHUNK):
                stream.write(block)
                done += len(block)
                if self.progress is not None:
                    self.progress(self.name, done, total)
        if total is not None and done != total:
            if done > total:
                partial.unlink(missing_ok=True)
            raise _TryAgain(self._incomplete(url, partial, total))

    def _incomplete(self, url: str, partial: Path, total: int | None) -> DataError:
        have = partial.stat().st_size if partial.exists() else 0
        whole = f" of {total:,}" if total is not None else ""
        return DataError(
            f"`{self.name}`: {_host(url)} sent {have:,}{whole} bytes and stopped (attempts: "
            f"{self.retries + 1}), so the file is incomplete and was not kept. Try again: the "
            f"download goes on where it stopped if the server allows it; or {BY_HAND}."
        )


def _note(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _resumable(url: str, partial: Path) -> tuple[int, str]:
    # Bytes of a partial file may only be continued if the server can tell, by its validator, that
    # the file is still the same; otherwise two releases would be spliced.
    try:
        note = json.loads(_note(partial).read_text(encoding="utf-8"))
        validator = str(note["validator"] or "") if note["url"] == url else ""
    except (OSError, ValueError, KeyError):
        validator = ""
    if not validator or not partial.exists():
        return 0, ""
    return partial.stat().st_size, validator


def _validator(response: Response) -> str:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return ""
    tag = str(response.headers.get("ETag", ""))
    # a weak tag does not promise equal bytes
    return (
        tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))
    )


def _extent(response: Response) -> tuple[int, int | None]:
    if response.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None:
            return -1, None
        return int(span.group(1)), None if span.group(2) == "*" else int(span.group(2))
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return 0, None
    length = response.headers.get("Content-Length")
    return 0, int(length) if length is not None else None


def _host(url: str) -> str:
    return re.sub(r"^(https?://[^/]+).*", r"\1", url)
