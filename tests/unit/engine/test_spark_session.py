"""A session that the engine starts leaves nothing behind; one that it finds is left running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vbceval.engine.spark_session import java_found

pytest.importorskip("pyspark", reason="pyspark is not installed: pip install 'vbceval[spark]'")

CODE = """
import os, sys, threading
import pandas as pd
import vbceval as vbc

os.chdir(sys.argv[1])
rows = pd.DataFrame({"a": [1, 2, 3]})
with vbc.connect("spark") as engine:
    engine.register(rows)
    [made] = [name for name in os.listdir(os.environ["TMPDIR"]) if name.startswith("vbceval-spark-")]

from pyspark.sql import SparkSession

warehouse = os.path.join(os.environ["TMPDIR"], "mine")
settings = {"spark.ui.enabled": "false", "spark.sql.warehouse.dir": warehouse}
session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()


def work():
    # in another thread the session is not the active one
    with vbc.connect("spark") as engine:
        engine.register(rows)


thread = threading.Thread(target=work)
thread.start()
thread.join()
assert session.range(3).count() == 3
session.stop()
print("all good")
"""


@pytest.mark.skipif(not java_found(), reason="no Java was found: Spark needs Java 17 or later")
def test_sessions_are_cleaned_up_or_left_alone(tmp_path: Path) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    # in its own process: this one may hold a session of other tests
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(here)], capture_output=True, text=True, check=False,
        timeout=400, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.stdout.endswith("all good\n"), done.stderr[-3000:]
    assert list(here.iterdir()) == []
    assert list(temporary.glob("vbceval-spark-*")) == []
