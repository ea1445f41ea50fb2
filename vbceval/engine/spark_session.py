"""Find or start the Spark session to use, and say what is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vbceval.core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def open_session(session: SparkSession | None, remote: str | None) -> tuple[SparkSession, bool]:
    """Return the session to use and whether it is ours to stop."""
    if session is not None and remote is not None:
        raise DataError("`session` and `remote` are both given. Give one.")
    try:
        from pyspark.sql import SparkSession as Builder
    except ImportError:
        raise DataError(
            "the engine `spark` needs pyspark, which is not installed. Install it with "
            "pip install 'vbceval[spark]'."
        ) from None
    if session is not None:
        return session, False
    if remote is not None:
        return _remote(Builder, remote), True
    active = Builder.getActiveSession()
    if active is not None:
        return active, False
    if not java_found():
        raise DataError(
            "the engine `spark` needs Java 17 or later, and no `java` was found. Install it and set "
            "JAVA_HOME, or give `remote='sc://host:port'` to use a server."
        )
    # a session is active in the thread that made it, and in others it is only the default one
    with contextlib.suppress(RuntimeError):
        return Builder.active(), False
    return _local(Builder), True


def _local(kind: type[SparkSession]) -> SparkSession:
    # Spark keeps its catalog in the current folder unless told otherwise
    folder = tempfile.mkdtemp(prefix="vbceval-spark-")
    settings: dict[str, bool | float | int | str | None] = {
        "spark.driver.memory": _memory(),
        # Spark goes on without the thread that had no memory left, and a query waits for ever
        "spark.driver.defaultJavaOptions": "-XX:+ExitOnOutOfMemoryError",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": folder,
    }
    made = kind.builder.master("local[*]").appName("vbceval").config(map=settings).getOrCreate()
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    # Spark's log of errors quotes values of rows
    made.sparkContext.setLogLevel("OFF")
    return made


def _memory() -> str:
    """Return a quarter of this machine's memory, as Java takes by itself, where Spark takes 1 GB."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(whole // 4 >> 20, 1024)}m"


def _remote(kind: type[SparkSession], remote: str) -> SparkSession:
    parts = urlsplit(remote)
    try:
        host, port = parts.hostname, parts.port or 15002
    except ValueError:
        host = None
    if parts.scheme != "sc" or not host:
        raise DataError("`remote` is not the address of a server. Give 'sc://host:port'.")
    # the driver tries for minutes where nothing listens
    with contextlib.suppress(OSError):
        try:
            socket.create_connection((host, port), timeout=5).close()
        except ConnectionRefusedError:
            raise _no_server(host, port, "connection refused") from None
    try:
        session = kind.builder.remote(remote).create()
        session.conf.get("spark.sql.session.timeZone")
    except Exception as error:
        reason = type(error).__name__
    else:
        return session
    raise _no_server(host, port, reason)


def _no_server(host: str, port: int, reason: str) -> DataError:
    # never the whole address: it may hold a token
    return DataError(
        f"no Spark Connect server answers at {host}, port {port} ({reason}). Check the address, "
        "the token, and that the server runs."
    )


def runs_here(session: SparkSession) -> bool:
    """Return whether a classic session computes on this machine, so that its paths are ours."""
    return (session.sparkContext.master or "").startswith("local")


def java_found() -> bool:
    """Return whether a Java program can be found where Spark looks for it."""
    home = os.environ.get("JAVA_HOME")
    return (Path(home) / "bin" / "java").exists() if home else shutil.which("java") is not None
