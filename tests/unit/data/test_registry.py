"""The registry of public files."""

from __future__ import annotations

import pytest

from vbceval.core.errors import DataError
from vbceval.data import datasets
from vbceval.data.registry import dataset


def test_mssp_has_a_file_for_every_year_and_both_halves_of_2019() -> None:
    mssp = datasets()["mssp"]
    assert mssp.years == list(range(2013, 2025))
    assert [file.key for file in mssp.select([2019])] == ["2019", "2019A", "crosswalk"]
    assert [file.key for file in mssp.select([2016])] == ["2016", "crosswalk"]


def test_no_address_is_called_confirmed_without_a_checksum() -> None:
    for data in datasets().values():
        for file in data.files:
            assert file.status != "confirmed" or file.checksum
            assert file.path or file.status == "unconfirmed"
            assert file.path.startswith("https://") or "://" not in file.path
        assert data.base.startswith("https://")


def test_an_unknown_name_or_year_lists_what_there_is() -> None:
    with pytest.raises(DataError, match=r"no data set `msp`; known are `mssp`"):
        dataset("msp")
    with pytest.raises(DataError, match=r"no performance years `2011`; it covers 2013-2024"):
        dataset("mssp").select([2011, 2014])
