"""`verify` passes when numbers stay, and names table, row, found and expected when one moves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vbceval.core.errors import StudyError
from vbceval.study import accept, run_study, verify
from vbceval.study.reproduce import MOST_SHOWN

Edit = Callable[[Path, str, str], None]


@pytest.fixture
def accepted(study_folder: Path, data: Path) -> Path:
    """Folder of the made-up study after its numbers of record were accepted."""
    accept("made-up", run_study("made-up", data=data).folder)
    return study_folder


def failure(data: Path, *, fast: bool = False) -> str:
    with pytest.raises(StudyError) as raised:
        verify("made-up", data, fast=fast)
    return str(raised.value)


def test_accept_writes_the_record(accepted: Path, data: Path) -> None:
    names = sorted(p.name for p in (accepted / "expected").iterdir())
    assert names == ["att_overall.csv", "sample_flow.csv", "tolerances.toml"]
    assert json.loads((accepted / "manifest.json").read_text())["size"] == "full"


def test_a_study_that_stays_the_same_reproduces(accepted: Path, data: Path) -> None:
    done = verify("made-up", data)
    assert (done.n_tables, done.n_inputs, done.size) == (2, 1, "full")


def test_one_changed_input_cell_fails(accepted: Path, data: Path, edit: Edit) -> None:
    edit(data / "cells.csv", "9100.5,-9.4\n", "9100.5,-9.98\n")
    lines = failure(data).splitlines()
    assert lines[0] == (
        "study 'made-up' does not reproduce: 1 input differs from the record, and 1 of 2 tables "
        "differ."
    )
    assert lines[1] == "Input cells.csv changed."
    assert lines[2] == (
        "att_overall.csv, row outcome=total_spend: estimate -9.71, expected -9.42 +/- 9.43e-10 USD."
    )
    assert "amendments in protocol.md" in lines[-1]


def test_an_input_cell_that_moves_no_table_fails_too(
    accepted: Path, data: Path, edit: Edit
) -> None:
    edit(data / "cells.csv", "4100,0.5", "4101,0.5")
    text = failure(data)
    assert "1 input differs from the record, and 0 of 2 tables differ" in text


def test_an_input_compressed_or_renamed_is_the_same_input(
    accepted: Path, data: Path, edit: Edit
) -> None:
    edit(accepted / "study.toml", '"cells.csv"', '"renamed.csv.gz"')
    content = (data / "cells.csv").read_bytes()
    (data / "renamed.csv.gz").write_bytes(gzip.compress(content))
    assert verify("made-up", data).n_inputs == 1


def test_a_changed_seed_is_found_and_said(accepted: Path, data: Path, edit: Edit) -> None:
    edit(accepted / "study.toml", "seed = 20240101", "seed = 20240102")
    text = failure(data)
    assert "row outcome=inpatient: std_error" in text
    assert "row outcome=total_spend: std_error" in text
    assert "Changed since the numbers of record: study.toml of the study." in text


def test_rows_columns_and_tables_that_come_or_go_are_named(
    accepted: Path, data: Path, edit: Edit
) -> None:
    expected = accepted / "expected"
    edit(expected / "att_overall.csv", "inpatient", "outpatient")
    flow = expected / "sample_flow.csv"
    flow.write_text(flow.read_text().replace("people", "acos"))
    (expected / "gone.csv").write_text("a\n1\n")
    lines = failure(data).splitlines()
    assert "3 of 3 tables differ" in lines[0]
    assert "att_overall.csv, row outcome=outpatient: missing." in lines
    assert "att_overall.csv, row outcome=inpatient: not in the table of record." in lines
    assert "sample_flow.csv, columns missing: `acos`." in lines
    assert "sample_flow.csv, columns not in the table of record: `people`." in lines
    assert "gone.csv, the run did not write this table." in lines
    (expected / "gone.csv").unlink()
    (expected / "att_overall.csv").unlink()
    assert "att_overall.csv, the run wrote this table, and there is none of record." in failure(
        data
    )


def test_a_long_list_is_cut_with_its_count_and_names_every_table(
    accepted: Path, data: Path, edit: Edit
) -> None:
    many = "".join(f"outcome{i},2014,{20 + i},1,1\n" for i in range(30))
    (data / "cells.csv").write_text((data / "cells.csv").read_text() + many)
    lines = failure(data).splitlines()
    shown = [line for line in lines if "not in the table of record" in line]
    assert len(shown) == MOST_SHOWN
    assert [line.split(",")[0] for line in shown[:2]] == ["att_overall.csv", "sample_flow.csv"]
    assert f"And {60 - MOST_SHOWN} more differences." in lines


def test_a_tolerance_admits_a_small_move(accepted: Path, data: Path, edit: Edit) -> None:
    edit(accepted / "expected" / "att_overall.csv", "-9.42", "-9.4")
    assert "1 of 2 tables differ" in failure(data)
    (accepted / "expected" / "tolerances.toml").write_text(
        "[att_overall.columns]\nestimate = { abs = 0.05 }\n"
    )
    assert verify("made-up", data).n_tables == 2
    edit(accepted / "expected" / "att_overall.csv", "-9.4", "-9.36")
    assert "estimate -9.42, expected -9.36 +/- 0.05 USD." in failure(data)


def test_fast_compares_with_fast_numbers_only(accepted: Path, data: Path, tmp_path: Path) -> None:
    text = failure(data, fast=True)
    assert "has no numbers of record at fast size" in text
    assert "leave `--fast` out" in text
    assert verify("made-up", data).size == "full"
    run = run_study("made-up", data=data, out=tmp_path / "fast", fast=True)
    accept("made-up", run.folder)
    assert (accepted / "expected" / "fast" / "manifest.json").is_file()
    assert verify("made-up", data, fast=True).size == "fast"
    for path in (accepted / "expected").glob("*.csv"):
        path.unlink()
    assert "It has some at fast size: add `--fast`" in failure(data)


def test_without_numbers_of_record_it_says_how_to_make_them(study_folder: Path, data: Path) -> None:
    text = failure(data)
    assert "has no numbers of record at full size" in text
    assert "`vbceval study run made-up --data DIR --out DIR`" in text
    assert "`vbceval study accept made-up --from DIR`" in text


def test_accept_refuses_what_is_not_a_run_of_the_study_as_it_is(
    study_folder: Path, data: Path, tmp_path: Path, edit: Edit
) -> None:
    with pytest.raises(StudyError, match="holds no finished run"):
        accept("made-up", tmp_path)
    run = run_study("made-up", data=data)
    edit(study_folder / "run.py", '["effect"].mean()', '["effect"].median()')
    with pytest.raises(StudyError, match=r"`run\.py` of study 'made-up' changed after the run"):
        accept("made-up", run.folder)
    edit(study_folder / "run.py", '["effect"].median()', '["effect"].mean()')
    edit(run.folder / "tables" / "att_overall.csv", "-9.42", "-19.42")
    with pytest.raises(StudyError, match=r"`tables/att_overall\.csv` .* changed after the run"):
        accept("made-up", run.folder)
    assert not (study_folder / "expected").exists()


def test_accept_drops_tables_that_the_study_no_longer_writes(
    accepted: Path, data: Path, tmp_path: Path, edit: Edit
) -> None:
    (accepted / "expected" / "old.csv").write_text("a\n1\n")
    accept("made-up", run_study("made-up", data=data, out=tmp_path / "again").folder)
    assert not (accepted / "expected" / "old.csv").exists()
    assert verify("made-up", data).n_tables == 2
