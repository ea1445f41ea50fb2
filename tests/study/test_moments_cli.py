"""`vbceval moments`: build, inspect and share on a small panel; what a config that is wrong gets."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vbceval as vbc
from vbceval.core.errors import DataError
from vbceval.core.files import only_writer
from vbceval.engine.duckdb import DuckDBEngine
from vbceval.study.cli import main
from vbceval.study.moments_config import read_build

CONFIG = """
source = "panel.parquet"
output = "out.parquet"

[engine]
name = "duckdb"
threads = 1

[columns]
unit = "person"
cluster = "provider"
period = "quarter"
cohort = "entry"
strata = ["dual"]
outcomes = ["spend", "visits"]
weight = "months"

[digits]
spend = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    people, quarters = 1200, 4
    person = np.repeat(np.arange(people), quarters)
    provider = (person % 8).astype(int)
    frame = pd.DataFrame({
        "person": person, "provider": provider, "quarter": np.tile(np.arange(1, 5), people),
        "entry": np.where(provider < 4, 3.0, np.nan),
        "dual": np.where(rng.random(people) < 0.08, "yes", "no")[person],
        "spend": np.round(rng.gamma(1, 900, len(person)), 2),
        "visits": np.where(rng.random(len(person)) < 0.3, np.nan, 2.0), "months": 1,
    })  # fmt: skip
    frame.to_parquet(tmp_path / "panel.parquet")
    (tmp_path / "moments.toml").write_text(CONFIG)
    return tmp_path


def run(*words: object) -> int:
    try:
        main([str(w) for w in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_build_inspect_share(folder, capsys) -> None:
    assert run("moments", "build", folder / "moments.toml") == 0
    made = vbc.Moments.load(folder / "out.parquet")
    said = capsys.readouterr().out
    assert f"{len(made)} cells of 8 clusters" in said
    assert run("moments", "inspect", folder / "out.parquet") == 0
    said = capsys.readouterr().out
    assert "outcome spend: exact, 2 digits" in said
    assert "mean" not in said  # of a 0/1 column it would be a count
    assert "missing in some rows" in said
    assert "may leave: no" in said
    assert "histograms: none; largest amounts: none" in said
    assert "8 clusters, 4 treated in 1 cohort" in said
    assert run("moments", "share", folder / "out.parquet") == 0
    said = capsys.readouterr().out
    shared = vbc.Moments.load(folder / "out.shared.parquet")
    assert shared.n_units.min() >= 11
    assert len(shared) < len(made)
    assert f"cells: {len(shared)} in the copy" in said
    # with the number of cells of the source, readers know which cells are empty
    assert str(len(made)) not in said.replace(str(folder), "")
    assert run("moments", "inspect", folder / "out.shared.parquet") == 0
    assert "may leave: yes" in capsys.readouterr().out


def test_totals_that_readers_know_are_named(folder, capsys) -> None:
    assert run("moments", "build", folder / "moments.toml") == 0
    share = ("moments", "share", folder / "out.parquet", "--force")
    assert run(*share, "--margin", "none", "--without-squares", "spend") == 0
    assert "`margins` names none" in capsys.readouterr().out
    shared = vbc.Moments.load(folder / "out.shared.parquet")
    assert shared.meta["share"]["known_from_elsewhere"] == []
    assert shared.sums.schema.without_squares == ("spend",)
    assert run(*share, "--margin", "quarter", "--margin", "quarter, dual") == 0
    known = vbc.Moments.load(folder / "out.shared.parquet").meta["share"]["known_from_elsewhere"]
    assert known == [["quarter"], ["quarter", "dual"]]
    capsys.readouterr()
    assert run(*share, "--margin", "none", "--margin", "quarter") == 1
    assert "stands with other totals" in capsys.readouterr().err
    assert run(*share, "--margin", "county") == 1
    assert "`county`" in capsys.readouterr().err


def test_files_are_not_replaced_unless_asked(folder, capsys) -> None:
    assert run("moments", "build", folder / "moments.toml") == 0
    before = (folder / "out.parquet").read_bytes()
    assert run("moments", "build", folder / "moments.toml") == 1
    assert "--force" in capsys.readouterr().err
    assert (folder / "out.parquet").read_bytes() == before
    assert run("moments", "build", folder / "moments.toml", "--force") == 0
    assert run("moments", "build", folder / "moments.toml", "--out", folder / "x" / "y") == 1
    assert "no folder" in capsys.readouterr().err


def test_paths_of_the_file_begin_at_its_folder(folder) -> None:
    plan = read_build(folder / "moments.toml")
    assert plan.source == str(folder / "panel.parquet")
    assert plan.output == folder / "out.parquet"
    assert plan.options["digits"] == {"spend": 2}
    (folder / "moments.toml").write_text(CONFIG.replace('"panel.parquet"', '"panel_table"'))
    assert read_build(folder / "moments.toml").source == "panel_table"


def test_paths_of_the_engine_begin_at_the_folder_of_the_file(folder) -> None:
    changed = CONFIG.replace("threads = 1", 'path = "in.duckdb"\ntemp_directory = "spill"')
    (folder / "moments.toml").write_text(changed)
    options = read_build(folder / "moments.toml").engine_options
    assert options == {"path": str(folder / "in.duckdb"), "temp_directory": str(folder / "spill")}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("threads = 1", "path = 3", "`path` is 3"),
        ("threads = 1", "memory_limit = 4", "`memory_limit` is 4"),
        ('weight = "months"', "never = nan", "`never` is nan"),
        ("spend = 2", "spend = 2\n[pivots]\nvisits = inf", "`visits` is inf"),
    ],
)
def test_values_of_another_kind_are_named(folder, old, new, said) -> None:
    (folder / "moments.toml").write_text(CONFIG.replace(old, new))
    with pytest.raises(DataError, match=said):
        read_build(folder / "moments.toml")


def test_ctrl_c_ends_with_one_line_and_no_file(folder, capsys, monkeypatch) -> None:
    run_query = DuckDBEngine.run

    def interrupted(self, query):
        os.kill(os.getpid(), signal.SIGINT)
        return run_query(self, query)

    monkeypatch.setattr(DuckDBEngine, "run", interrupted)
    assert run("moments", "build", folder / "moments.toml") == 130
    assert "Interrupted, nothing written." in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["moments.toml", "panel.parquet"]


def test_a_full_disk_is_said_and_leaves_no_file(folder, capsys) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        assert run("moments", "build", folder / "moments.toml") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "out.parquet` is full" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["moments.toml", "panel.parquet"]
    (folder / "out.parquet").write_text("of yesterday")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        assert run("moments", "build", folder / "moments.toml", "--force") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "The file that was there is as it was" in capsys.readouterr().err
    assert (folder / "out.parquet").read_text() == "of yesterday"


def test_two_commands_do_not_make_one_file(folder, capsys) -> None:
    with only_writer(folder / "out.parquet"):
        assert run("moments", "build", folder / "moments.toml", "--force") == 1
    assert "is being written by another process" in capsys.readouterr().err
    (folder / "place").mkdir()
    assert run("moments", "build", folder / "moments.toml", "--out", folder / "place") == 1
    assert "is a folder" in capsys.readouterr().err
    names = ["moments.toml", "panel.parquet", "place"]
    assert sorted(p.name for p in folder.iterdir()) == names


def test_everything_wrong_with_a_file_comes_together(folder) -> None:
    bad = (
        CONFIG.replace('output = "out.parquet"', "output = 3\nsuorce = 1")
        .replace("threads = 1", 'threads = 1\nremote = "x"')
        .replace('cohort = "entry"', "")
        .replace('strata = ["dual"]', 'strata = "dual"')
        .replace("spend = 2", 'spend = "two"\nvisits = "double"')
        .replace('weight = "months"', 'weight = "months"\ndominance = 1')
    )
    (folder / "moments.toml").write_text(bad + "\n[pivots]\nvisits = true\n")
    with pytest.raises(DataError) as error:
        read_build(folder / "moments.toml")
    for part in (
        "suorce",
        "`output` is 3",
        "remote",
        "cohort",
        "'dual'",
        "'two'",
        "True",
        "`dominance` is 1",
    ):
        assert part in str(error.value)


def test_a_config_that_cannot_be_read(folder) -> None:
    with pytest.raises(DataError, match="no file"):
        read_build(folder / "other.toml")
    (folder / "moments.toml").write_text("source = ")
    with pytest.raises(DataError, match="not valid TOML"):
        read_build(folder / "moments.toml")
    (folder / "moments.toml").write_text(CONFIG.replace("duckdb", "sqlite"))
    with pytest.raises(DataError, match="sqlite"):
        read_build(folder / "moments.toml")


def test_moments_without_people_cannot_be_shared(folder, capsys) -> None:
    (folder / "moments.toml").write_text(CONFIG.replace('unit = "person"', ""))
    assert run("moments", "build", folder / "moments.toml") == 0
    assert run("moments", "share", folder / "out.parquet") == 1
    assert "unit" in capsys.readouterr().err
    assert not (folder / "out.shared.parquet").exists()
