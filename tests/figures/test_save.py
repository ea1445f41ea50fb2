"""Saving: equal input gives equal bytes, and either all files are written or none."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vbceval import figures
from vbceval.core.errors import DataError
from vbceval.core.files import sha256
from vbceval.figures import canvas

ALL = ("png", "svg", "pdf")


def hashes(paths: dict[str, Path]) -> dict[str, str]:
    return {kind: sha256(path) for kind, path in paths.items()}


def test_two_drawings_have_identical_bytes(strata, gap, tmp_path: Path) -> None:
    saved = []
    for folder, size in (("a", 10.0), ("b", 31.0)):
        # the user's own settings may not reach the file
        with matplotlib.rc_context({"font.size": size, "axes.facecolor": "red"}):
            fig = figures.forest(strata, gap=gap)
            saved.append(hashes(figures.save(fig, tmp_path / folder / "forest", formats=ALL)))
    assert set(saved[0]) == {"png", "svg", "pdf", "csv", "alt", "json"}
    assert saved[0] == saved[1]


def test_saving_twice_changes_nothing(by_event_time, tmp_path: Path) -> None:
    fig = figures.event_study(by_event_time())
    first = hashes(figures.save(fig, tmp_path / "x.png", formats=ALL))
    assert hashes(figures.save(fig, tmp_path / "x.png", formats=ALL)) == first


def test_files_carry_no_clock_version_or_path(by_event_time, tmp_path: Path) -> None:
    fig = figures.event_study(by_event_time())
    paths = figures.save(fig, tmp_path / "figure", formats=ALL)
    for kind in ALL:
        content = paths[kind].read_bytes()
        for word in (
            b"CreationDate",
            b"<dc:date>",
            b"matplotlib.org",
            b"Software",
            bytes(tmp_path),
        ):
            assert word not in content, (kind, word)


def test_the_data_beside_the_picture_are_the_plotted_values(strata, tmp_path: Path) -> None:
    fig = figures.forest(strata)
    paths = figures.save(fig, tmp_path / "forest")
    table = pd.read_csv(paths["csv"])
    assert table["estimate"].tolist() == pytest.approx(strata.estimate.tolist(), rel=1e-11)
    assert list(table.columns) == list(fig.vbceval_data.columns)
    assert paths["alt"].read_text(encoding="utf-8").strip() == fig.vbceval_alt


def test_provenance_names_the_fit_and_the_hashes(strata, tmp_path: Path) -> None:
    paths = figures.save(figures.forest(strata, style="cms_report"), tmp_path / "forest.png")
    found = json.loads(paths["json"].read_text(encoding="utf-8"))
    assert found["kind"] == "forest"
    assert found["style"] == "cms_report"
    assert found["level"] == 0.9
    assert found["made_from"]["estimator"] == "GroupTime"
    assert found["made_from"]["design"]["comparison"] == "not_yet_treated"
    assert found["made_from"]["seed"] == 7
    assert found["sha256"]["forest.png"] == sha256(paths["png"])
    assert found["sha256"]["forest.csv"] == sha256(paths["csv"])
    assert found["note"] == figures.record(figures.forest(strata, style="cms_report")).note


def test_a_dot_in_the_name_is_kept(strata, tmp_path: Path) -> None:
    paths = figures.save(figures.forest(strata), tmp_path / "figure.1")
    assert paths["png"].name == "figure.1.png"


def test_nothing_is_left_half_written(strata, tmp_path: Path, monkeypatch) -> None:
    fig = figures.forest(strata)
    old = figures.save(fig, tmp_path / "forest", formats=ALL)
    before = hashes(old)
    real = canvas.write_image

    def fails_late(fig, path, kind, *, dpi):
        real(fig, path, kind, dpi=dpi)
        if kind == "pdf":
            raise OSError("disk full")

    monkeypatch.setattr(canvas, "write_image", fails_late)
    with pytest.raises(OSError, match="disk full"):
        figures.save(figures.forest(strata, style="cms_report"), tmp_path / "forest", formats=ALL)
    assert hashes(old) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in old.values())


def test_saved_data_are_checked_for_small_counts(strata, tmp_path: Path) -> None:
    fig = figures.forest(strata)
    data = pd.DataFrame({"label": ["a", "b"], "n_people": [7, 90]})
    paths = figures.save(fig, tmp_path / "forest", data=data)
    assert pd.read_csv(paths["csv"])["n_people"].fillna(-1).tolist() == [-1, 90]


def test_a_figure_of_something_else_needs_data_and_words(tmp_path: Path) -> None:
    fig = Figure(figsize=(2, 2))
    fig.subplots().plot([0, 1], [0, 1])
    with pytest.raises(DataError, match="not drawn by"):
        figures.save(fig, tmp_path / "other")
    data = pd.DataFrame({"x": [0, 1]})
    with pytest.raises(DataError, match="alternative text"):
        figures.save(fig, tmp_path / "other", data=data)
    assert list(tmp_path.iterdir()) == []
    paths = figures.save(fig, tmp_path / "other", data=data, alt="A rising line.")
    assert paths["png"].stat().st_size > 0


def test_unknown_formats_are_refused(strata, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tiff"):
        figures.save(figures.forest(strata), tmp_path / "forest", formats=("png", "tiff"))
    with pytest.raises(DataError, match="at least one"):
        figures.save(figures.forest(strata), tmp_path / "forest", formats=())
    assert list(tmp_path.iterdir()) == []
