"""`study.toml` is checked whole; studies are found by name in stated places."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vbceval.core.errors import StudyError
from vbceval.study import find_study, list_studies, new_study, read_study, run_study, study_roots

Edit = Callable[[Path, str, str], None]


def test_the_study_says_what_its_file_says(study_folder: Path) -> None:
    study = read_study(study_folder)
    assert (study.id, study.seed) == ("made-up", 20240101)
    assert study.tables == ("att_overall", "sample_flow")
    assert study.inputs[0].files == ("cells.csv",)
    assert study.size(fast=True) == {"draws": 40}
    assert study.limits["smallest_cell"].text == "at least 11"


def test_three_errors_are_reported_together(study_folder: Path, edit: Edit) -> None:
    path = study_folder / "study.toml"
    edit(path, "seed = 20240101", 'seed = "soon"')
    edit(path, 'files = ["cells.csv"]', 'file = "cells.csv"')
    edit(path, "draws = 40\n", "samples = 40\n")
    with pytest.raises(StudyError) as raised:
        read_study(study_folder)
    message = str(raised.value)
    assert message.startswith("study.toml of 'made-up' cannot be used, 4 problems:")
    assert "`seed` is 'soon'. Give a whole number" in message
    assert "`[inputs.cells]` has unknown keys `file`" in message
    assert "`[inputs.cells]` says neither `files` nor `dataset`" in message
    assert "differ in the keys `draws`, `samples`" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "made-up"', 'id = "other"', "must be the name of the folder, 'made-up'"),
        ('title = "A made-up program"', "", "`title` is missing"),
        ("seed = 20240101", "seed = -1", "`seed` is -1"),
        ("seed = 20240101", "seed = true", "`seed` is True"),
        ("[settings]", "[setting]", "unknown keys `setting`"),
        ('tables = ["att_overall", "sample_flow"]', "tables = []", "declares no table"),
        ('"sample_flow"]', '"att_overall"]', "names `att_overall` more than once"),
        ('"sample_flow"]', '"Sample Flow"]', "`outputs.tables` has `Sample Flow`"),
        ('"sample_flow"]', '"default"]', "`default`, which tolerances.toml needs"),
        ('["cells.csv"]', '["../cells.csv"]', r"leaves its folder: `\.\./cells\.csv`"),
        ('["cells.csv"]', '["cells.csv"]\nfolder = "here"', "`folder` is 'here'"),
        ('["cells.csv"]', '["cells.csv"]\nrequired = 1', "`required` is 1"),
        ('["cells.csv"]', '["cells.csv"]\ndataset = "mspp"', "`dataset` is 'mspp'.*`mssp`"),
        ("[sizes.full]\ndraws = 400\n", "", r"has no `\[sizes.full\]`"),
        ("min = 11", "min = 11\nmax = 3", "`min` 11 above `max` 3"),
        ("min = 11", "", "needs a number as `min`, `max` or both"),
        ("min = 11", 'min = 11\naction = "shout"', "`action` is 'shout'"),
        ("seed = 20240101", "seed = ", "is not valid TOML"),
    ],
)
def test_each_rule(study_folder: Path, edit: Edit, old: str, new: str, message: str) -> None:
    edit(study_folder / "study.toml", old, new)
    with pytest.raises(StudyError, match=message):
        read_study(study_folder)


@pytest.mark.parametrize("name", ["protocol.md", "run.py"])
def test_every_study_has_its_files(study_folder: Path, name: str) -> None:
    (study_folder / name).unlink()
    with pytest.raises(StudyError, match=f"{name} is missing"):
        read_study(study_folder)


def test_a_study_is_found_by_name_by_path_and_through_the_environment(
    study_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_study("made-up").folder == study_folder
    assert find_study(study_folder).folder == study_folder
    away = tmp_path / "away"
    away.mkdir()
    monkeypatch.chdir(away)
    with pytest.raises(StudyError, match="there is no study 'made-up'"):
        find_study("made-up")
    other = tmp_path / "mine"
    shutil.copytree(study_folder, other / "made-up")
    places = [str(other), str(study_folder.parent)]
    monkeypatch.setenv("VBCEVAL_STUDIES", os.pathsep.join(places))
    assert find_study("made-up").folder == other / "made-up", "the first place wins"
    assert [root for root in study_roots() if str(root) in places] == [other, study_folder.parent]


def test_a_broken_study_is_listed_with_its_problem(study_folder: Path, edit: Edit) -> None:
    edit(study_folder / "study.toml", "seed = 20240101", "")
    (entry,) = [found for found in list_studies() if found.id == "made-up"]
    assert entry.study is None
    assert "`seed` is missing" in entry.problem


def test_a_new_study_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = new_study("first-try")
    assert folder == tmp_path / "studies" / "first-try"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {
        "README.md",
        "expected/tolerances.toml",
        "protocol.md",
        "run.py",
        "study.toml",
    }
    assert run_study("first-try", fast=True).manifest["size"] == "fast"
    with pytest.raises(StudyError, match="exists"):
        new_study("first-try")
    with pytest.raises(StudyError, match="cannot be the name of a study"):
        new_study("First Try")
