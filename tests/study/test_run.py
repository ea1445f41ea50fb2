"""A run writes everything it declares, with a manifest that is true, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vbceval.core.errors import DataError, StudyError
from vbceval.study import run_study

Edit = Callable[[Path, str, str], None]


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_run_writes_what_it_declares(study_folder: Path, data: Path) -> None:
    run = run_study("made-up", data=data)
    assert run.folder == study_folder.parents[1] / "output" / "made-up"
    assert files_below(run.folder) == {
        "manifest.json",
        "report.html",
        "tables/att_overall.csv",
        "tables/sample_flow.csv",
        *(f"figures/means.{kind}" for kind in ("svg", "png", "csv", "json", "alt.txt")),
    }
    assert files_below(study_folder) == {"study.toml", "run.py", "protocol.md"}, "nothing beside"
    assert [p.name for p in run.folder.parent.iterdir()] == ["made-up"], "no temporary folder left"


def test_the_manifest_is_true(study_folder: Path, data: Path) -> None:
    run = run_study("made-up", data=data, fast=True)
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest == run.manifest
    for name, facts in manifest["outputs"].items():
        content = (run.folder / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert set(manifest["outputs"]) == files_below(run.folder) - {"manifest.json"}
    (entry,) = manifest["inputs"]
    assert entry["file"] == "cells.csv"
    assert entry["sha256"] == hashlib.sha256((data / "cells.csv").read_bytes()).hexdigest()
    assert (manifest["size"], manifest["seed"]) == ("fast", 20240101)
    assert manifest["versions"]["numpy"] == np.__version__
    assert manifest["versions"]["pandas"] == pd.__version__
    assert [s["stage"] for s in manifest["stages"]] == ["read"]
    assert 0 < manifest["stages"][0]["seconds"] + 0.01 <= manifest["seconds"] + 0.02
    assert manifest["warnings"] == ["few cells"]
    assert manifest["command"] == "vbceval study run made-up --data 'some data' --fast"
    assert manifest["tables"]["att_overall"]["keys"] == ["outcome"]
    assert manifest["checks"][0]["passed"] is True


def test_the_manifest_names_no_folder_of_the_machine(study_folder: Path, data: Path) -> None:
    run = run_study("made-up", data=data)
    assert run.manifest["estimates"][0]["options"]["path"] == "some data"
    for name in ("manifest.json", "report.html"):
        text = (run.folder / name).read_text()
        assert str(study_folder.parents[1]) not in text
        assert str(Path.home()) + "/" not in text


def test_numbers_read_back_bit_for_bit(study_folder: Path, data: Path, edit: Edit) -> None:
    edit(study_folder / "run.py", '"unit_of_measure": "USD",', '"unit_of_measure": 0.1 + 0.2,')
    run = run_study("made-up", data=data)
    table = pd.read_csv(run.folder / "tables" / "att_overall.csv")
    assert (table["unit_of_measure"] == 0.1 + 0.2).all()
    noise = np.std(_noise(run.study.seed))
    assert (table["std_error"] == noise / np.sqrt(400)).all()


def _noise(seed: int) -> np.ndarray:
    from vbceval.core.rng import generator

    return generator(seed, "bootstrap").normal(size=400)


def test_sizes_and_seed_reach_the_run(study_folder: Path, data: Path, tmp_path: Path) -> None:
    full = run_study("made-up", data=data, out=tmp_path / "a")
    again = run_study("made-up", data=data, out=tmp_path / "b")
    fast = run_study("made-up", data=data, out=tmp_path / "c", fast=True)
    tables = [(r.folder / "tables" / "att_overall.csv").read_text() for r in (full, again, fast)]
    assert tables[0] == tables[1] != tables[2]


def test_a_folder_that_is_not_empty_is_refused(study_folder: Path, data: Path) -> None:
    run = run_study("made-up", data=data)
    before = (run.folder / "manifest.json").read_text()
    with pytest.raises(StudyError, match=r"is not empty \(4 entries\).*`--force`"):
        run_study("made-up", data=data)
    assert (run.folder / "manifest.json").read_text() == before


def test_force_replaces_an_earlier_run_of_the_study(study_folder: Path, data: Path) -> None:
    run_study("made-up", data=data)
    run = run_study("made-up", data=data, fast=True, force=True)
    assert json.loads((run.folder / "manifest.json").read_text())["size"] == "fast"
    assert [p.name for p in run.folder.parent.iterdir()] == ["made-up"]


def test_force_replaces_nothing_else(study_folder: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(StudyError, match=r"holds no manifest\.json of vbceval"):
        run_study("made-up", data=data, out=other, force=True)
    run = run_study("made-up", data=data)
    (run.folder / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match=r"did not write: `notes\.txt`"):
        run_study("made-up", data=data, force=True)
    assert (other / "chapter.txt").read_text() == "years of work"
    assert (run.folder / "notes.txt").read_text() == "mine"


def test_force_keeps_the_earlier_run_when_the_new_one_fails(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    run = run_study("made-up", data=data)
    before = {name: (run.folder / name).read_bytes() for name in files_below(run.folder)}
    edit(study_folder / "run.py", 'ctx.section("Effect")', 'raise ValueError("in the middle")')
    with pytest.raises(ValueError, match="in the middle"):
        run_study("made-up", data=data, force=True)
    assert {name: (run.folder / name).read_bytes() for name in files_below(run.folder)} == before
    assert [p.name for p in run.folder.parent.iterdir()] == ["made-up"]


def test_the_current_the_study_and_the_data_folder_are_refused(
    study_folder: Path, data: Path, tmp_path: Path
) -> None:
    for out, what in ((tmp_path, "current"), (study_folder, "study"), (data, "data")):
        with pytest.raises(StudyError, match=f"is or holds the {what} folder"):
            run_study("made-up", data=data, out=out, force=True)
    with pytest.raises(StudyError, match="is a file"):
        run_study("made-up", data=data, out=data / "cells.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '    ctx.table(\n        "sample_flow"',
            '    len or ctx.table(\n        "sample_flow"',
            "wrote no table",
        ),
        ('"sample_flow", cells', '"other", cells', "`other`, which `outputs.tables`"),
        ('keys=["outcome", "year"]', 'keys=["outcome"]', "2 rows repeat the keys `outcome`"),
        (
            'ctx.check("smallest_cell"',
            '(lambda *given, **more: None)("smallest_cell"',
            "never checked the limit",
        ),
        ('ctx.check("smallest_cell"', 'ctx.check("largest"', "`largest`, which `.limits.`"),
        (
            'cells["people"].min()',
            "-3.5",
            "check `smallest_cell` is -3.5, and the limit is at least",
        ),
        ('data=cells[["year", "spending"]],', "", "carries no plotted values"),
    ],
)
def test_a_run_that_breaks_its_declaration_writes_nothing(
    study_folder: Path, data: Path, edit: Edit, old: str, new: str, message: str
) -> None:
    edit(study_folder / "run.py", old, new)
    with pytest.raises((StudyError, DataError), match=message):
        run_study("made-up", data=data)
    assert list((study_folder.parents[1] / "output").iterdir()) == []


@pytest.mark.parametrize("column", ["people", "n_beneficiaries", "stayed"])
def test_a_count_of_1_to_10_people_is_refused(
    study_folder: Path, data: Path, edit: Edit, column: str
) -> None:
    edit(
        study_folder / "run.py",
        'cells[["outcome", "year", "people"]], title="Sample",',
        f'cells[["outcome", "year"]].assign({column}=[1200, 7, 0, 11]), title="Sample",'
        f' counts=["{column}"],',
    )
    with pytest.raises(DataError, match=f"column `{column}` has 1 cells of 1-10 people") as raised:
        run_study("made-up", data=data)
    assert "7" not in str(raised.value)
    assert list((study_folder.parents[1] / "output").iterdir()) == []


def test_usual_names_of_counts_need_no_declaration(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "study.toml", "min = 11", "min = 1")
    edit(data / "cells.csv", "inpatient,2014,1200", "inpatient,2014,4")
    with pytest.raises(DataError, match="column `people` has 1 cells"):
        run_study("made-up", data=data)


def test_a_small_count_that_is_checked_is_not_said(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(data / "cells.csv", "inpatient,2014,1200", "inpatient,2014,4")
    with pytest.raises(
        StudyError, match="check `smallest_cell` is fewer than 11, and the limit is at"
    ):
        run_study("made-up", data=data)
    edit(study_folder / "study.toml", "min = 11", 'min = 11\naction = "warn"')
    edit(
        study_folder / "run.py",
        '["outcome", "year", "people"]], title',
        '["outcome", "year"]], title',
    )
    run = run_study("made-up", data=data)
    assert run.manifest["checks"][0]["value"] is None
    assert '<td class="n">not shown</td>' in run.report.read_text(encoding="utf-8")


def test_a_limit_that_only_warns_lets_the_run_go_on(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "study.toml", "min = 11", 'min = 5000\naction = "warn"')
    run = run_study("made-up", data=data)
    assert any("check `smallest_cell` is 1200" in text for text in run.manifest["warnings"])
    assert run.manifest["checks"][0]["passed"] is False
    assert "outside the limit" in run.report.read_text()


def test_warnings_of_python_become_warnings_of_the_run(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    call = "import warnings; warnings.warn(f'odd file {ctx.data.resolve()}/cells.csv')"
    edit(study_folder / "run.py", '    ctx.section("Effect")', f"    {call}")
    run = run_study("made-up", data=data)
    # the folder's name has a space, where a path in running text may end
    assert [w for w in run.manifest["warnings"] if w.startswith("UserWarning: odd file")]
    assert str(data.parent) not in json.dumps(run.manifest)


def test_missing_inputs_are_named_with_the_remedy(study_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"`cells` \(cells\.csv\) needs a folder\. Give `--data DIR`"
    ):
        run_study("made-up")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(StudyError, match=r"`cells` lacks `cells\.csv` in .*empty"):
        run_study("made-up", data=empty)
    with pytest.raises(StudyError, match="does not exist"):
        run_study("made-up", data=tmp_path / "absent")
    assert not (tmp_path / "output").exists()


def test_an_optional_input_may_be_absent(study_folder: Path, data: Path, edit: Edit) -> None:
    more = '[inputs.more]\nfiles = ["more.csv"]\nrequired = false\n\n[outputs]'
    edit(study_folder / "study.toml", "[outputs]", more)
    edit(
        study_folder / "run.py",
        "    with ctx.stage",
        "    assert ctx.inputs['more'] == ()\n    with ctx.stage",
    )
    assert len(run_study("made-up", data=data).manifest["inputs"]) == 1


def test_a_compressed_input_that_is_cut_off_is_named(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "study.toml", '"cells.csv"', '"cells.csv.gz"')
    whole = gzip.compress((data / "cells.csv").read_bytes())
    (data / "cells.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(DataError, match=r"cells\.csv\.gz is cut off or damaged"):
        run_study("made-up", data=data)


def test_data_for_a_study_that_reads_none_is_refused(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "study.toml", '[inputs.cells]\nfiles = ["cells.csv"]', "")
    with pytest.raises(StudyError, match="reads nothing from a data folder"):
        run_study("made-up", data=data)


def test_fast_is_refused_where_there_is_no_fast_size(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    edit(study_folder / "study.toml", "[sizes.fast]\ndraws = 40\n", "")
    with pytest.raises(StudyError, match="has no fast size"):
        run_study("made-up", data=data, fast=True)


def test_run_py_must_define_run(study_folder: Path, data: Path, edit: Edit) -> None:
    edit(study_folder / "run.py", "def run(ctx):", "def main(ctx):")
    with pytest.raises(StudyError, match=r"defines no function `run\(ctx\)`"):
        run_study("made-up", data=data)


def test_an_interrupt_that_a_library_swallows_still_ends_the_run(
    study_folder: Path, data: Path, edit: Edit
) -> None:
    # samplers catch KeyboardInterrupt and return the draws they have
    swallow = """
    import os, signal
    try:
        os.kill(os.getpid(), signal.SIGINT)
        ctx.rng("x").normal(size=10**6)
    except KeyboardInterrupt:
        pass
    ctx.section("Effect")"""
    edit(study_folder / "run.py", '    ctx.section("Effect")', swallow)
    with pytest.raises(KeyboardInterrupt):
        run_study("made-up", data=data)
    assert list((study_folder.parents[1] / "output").iterdir()) == []
