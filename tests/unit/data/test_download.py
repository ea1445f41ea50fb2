"""Downloads from a server on the loopback address, and files the user already has."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vbceval.core.errors import DataError
from vbceval.data import get, read_mssp
from vbceval.data.transfer import fetch

pytestmark = pytest.mark.network

QUICK = {"wait": 0.0}


@dataclass
class Site:
    """What the test server holds and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    fail_first: dict[str, int] = field(default_factory=dict)
    cut_at: dict[str, list[int]] = field(default_factory=dict)
    validators: bool = True
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        wanted = self.headers.get("Range")
        self.site.requests.append((name, wanted))
        self.close_connection = True
        if self.site.fail_first.get(name, 0) > 0:
            self.site.fail_first[name] -= 1
            self.answer(503, b"busy")
        elif name not in self.site.files:
            self.answer(404, b"no such file")
        else:
            self.send_file(name, wanted)

    def send_file(self, name: str, wanted: str | None) -> None:
        content = self.site.files[name]
        tag = f'"{hashlib.sha256(content).hexdigest()[:12]}"'
        same = self.headers.get("If-Range") == tag
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and same and self.site.ranges else 0
        if start > len(content):
            self.answer(416, b"")
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        if self.site.validators:
            self.send_header("ETag", tag)
        self.end_headers()
        cuts = self.site.cut_at.get(name, [])
        end = cuts.pop(0) if cuts else len(content)
        self.wfile.write(content[start:end])

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    held = Site()
    handler = type("TestHandler", (Handler,), {"site": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    held.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def mirror(site, writer, make_acos) -> Site:
    """A mirror that holds 2016 and 2018 as the publisher's interface gives them."""
    acos = {year: make_acos(year, 30, start="2014-01-01") for year in (2016, 2018)}
    for year, rows in acos.items():
        records = writer.rows(str(year), rows)
        site.files[f"mssp_py{year}.json"] = json.dumps(records).encode()
    site.files["aco_id_crosswalk.xlsx"] = writer.crosswalk(acos[2016]).read_bytes()
    return site


def download(mirror: Site, cache: Path, **options: object):
    years = options.pop("years", [2016, 2018])
    return get("mssp", years=years, cache=cache, base_url=mirror.url, **{**QUICK, **options})


def test_files_are_fetched_once_and_can_be_read(mirror, tmp_path) -> None:
    seen = []
    files = download(mirror, tmp_path, progress=lambda *step: seen.append(step))
    assert sorted(files.files) == ["2016", "2018", "crosswalk"]
    assert files.missing == {}
    assert read_mssp(files.paths).years == [2016, 2018]
    size = len(mirror.files["mssp_py2016.json"])
    assert ("mssp_py2016.json", size, size) in seen
    asked = len(mirror.requests)
    again = download(mirror, tmp_path)
    assert again == files
    assert len(mirror.requests) == asked
    manifest = json.loads((tmp_path / "mssp" / "manifest.json").read_text())
    known = manifest["downloaded"]["mssp_py2016.json"]["sha256"]
    assert known == hashlib.sha256(mirror.files["mssp_py2016.json"]).hexdigest()


def test_the_address_can_come_from_the_environment(mirror, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VBCEVAL_DATA_URL", f"{mirror.url}/")
    files = get("mssp", years=[2016], cache=tmp_path, wait=0.0)
    assert sorted(files.files) == ["2016", "crosswalk"]


def test_a_server_that_fails_twice_is_asked_again(mirror, tmp_path) -> None:
    mirror.fail_first["mssp_py2016.json"] = 2
    files = download(mirror, tmp_path, years=[2016])
    assert files.files["2016"].read_bytes() == mirror.files["mssp_py2016.json"]
    assert sum(name == "mssp_py2016.json" for name, _ in mirror.requests) == 3


def test_waits_grow(mirror, tmp_path, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("vbceval.data.transfer.time.sleep", waits.append)
    mirror.fail_first["mssp_py2016.json"] = 3
    download(mirror, tmp_path, years=[2016], wait=0.5)
    assert waits == [0.5, 1.0, 2.0]


def test_a_server_that_stays_busy(mirror, tmp_path) -> None:
    mirror.fail_first["mssp_py2016.json"] = 99
    with pytest.raises(
        DataError, match=r"`mssp_py2016.json`: .* answered 503 \(attempts: 3\)"
    ) as caught:
        download(mirror, tmp_path, retries=2)
    assert "--from DIR" in str(caught.value)
    # the other files were finished and stay
    assert (tmp_path / "mssp" / "mssp_py2018.json").exists()
    assert not (tmp_path / "mssp" / "mssp_py2016.json").exists()


def test_a_cut_transfer_goes_on_where_it_stopped(mirror, tmp_path) -> None:
    name = "mssp_py2016.json"
    mirror.cut_at[name] = [5_000, 20_000]
    files = download(mirror, tmp_path, years=[2016])
    assert files.files["2016"].read_bytes() == mirror.files[name]
    asked = [wanted for got, wanted in mirror.requests if got == name]
    assert asked == [None, "bytes=5000-", "bytes=20000-"]


def test_a_killed_download_goes_on_in_the_next_call(mirror, tmp_path) -> None:
    name = "mssp_py2016.json"
    mirror.cut_at[name] = [7_000]
    with pytest.raises(DataError, match=r"sent 7,000 of [\d,]+ bytes and stopped"):
        download(mirror, tmp_path, years=[2016], retries=0)
    assert not (tmp_path / "mssp" / name).exists()
    files = download(mirror, tmp_path, years=[2016], retries=0)
    assert files.files["2016"].read_bytes() == mirror.files[name]
    assert [w for got, w in mirror.requests if got == name] == [None, "bytes=7000-"]
    assert list((tmp_path / "mssp" / ".partial").iterdir()) == []


def test_a_partial_file_of_an_older_release_is_not_continued(mirror, tmp_path) -> None:
    name = "mssp_py2016.json"
    mirror.cut_at[name] = [7_000]
    with pytest.raises(DataError):
        download(mirror, tmp_path, years=[2016], retries=0)
    mirror.files[name] = mirror.files[name].replace(b"Example", b"Another")
    files = download(mirror, tmp_path, years=[2016], retries=0)
    assert files.files["2016"].read_bytes() == mirror.files[name]


@pytest.mark.parametrize("lacking", ["validators", "ranges"])
def test_a_server_that_cannot_resume_starts_again(lacking, mirror, tmp_path) -> None:
    setattr(mirror, lacking, False)
    mirror.cut_at["mssp_py2016.json"] = [7_000]
    files = download(mirror, tmp_path, years=[2016])
    assert files.files["2016"].read_bytes() == mirror.files["mssp_py2016.json"]


def test_a_transfer_that_never_ends_whole(mirror, tmp_path) -> None:
    mirror.validators = False
    mirror.cut_at["mssp_py2016.json"] = [9_000] * 9
    with pytest.raises(DataError, match=r"sent 9,000 of [\d,]+ bytes and stopped \(attempts: 3\)"):
        download(mirror, tmp_path, years=[2016], retries=2)
    assert not (tmp_path / "mssp" / "mssp_py2016.json").exists()


def test_a_missing_file(mirror, tmp_path) -> None:
    del mirror.files["mssp_py2018.json"]
    with pytest.raises(DataError, match=r"answered 404 \(there is no such file") as caught:
        download(mirror, tmp_path)
    assert "mssp_py2018.json" in str(caught.value)
    # a file that is not there is not asked for again
    assert sum(name == "mssp_py2018.json" for name, _ in mirror.requests) == 1


def test_a_wrong_checksum(mirror, tmp_path) -> None:
    with pytest.raises(DataError, match="does not have the expected checksum"):
        fetch(f"{mirror.url}/mssp_py2016.json", tmp_path, "x.json", known_hash="md5:" + "0" * 32)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []


def test_a_published_checksum_is_held_to(mirror, tmp_path) -> None:
    mirror.files["mssp_py2022.csv"] = b"ACO_ID,ACO_Name\nA1,x\n"
    with pytest.raises(DataError, match=r"`mssp_py2022.csv` .* expected checksum \(md5:"):
        download(mirror, tmp_path, years=[2022])
    assert not (tmp_path / "mssp" / "mssp_py2022.csv").exists()


def test_a_file_that_changes_after_its_first_download(mirror, tmp_path) -> None:
    first = download(mirror, tmp_path, years=[2016]).files["2016"]
    mirror.files["mssp_py2016.json"] = mirror.files["mssp_py2016.json"].replace(
        b"Example", b"Other"
    )
    first.write_text("[]")  # damaged in the cache: it must be fetched again, and differs
    with pytest.raises(DataError, match="expected checksum"):
        download(mirror, tmp_path, years=[2016])
    files = download(mirror, tmp_path, years=[2016], force=True)
    assert b"Other" in files.files["2016"].read_bytes()


def test_a_fetch_by_force_that_fails_leaves_the_file(mirror, tmp_path) -> None:
    path = download(mirror, tmp_path, years=[2016]).files["2016"]
    before = path.read_bytes()
    mirror.files["mssp_py2016.json"] = b"<!DOCTYPE html><html>Maintenance</html>"
    with pytest.raises(DataError, match="is a web page"):
        download(mirror, tmp_path, years=[2016], force=True)
    mirror.fail_first["mssp_py2016.json"] = 9
    with pytest.raises(DataError, match="answered 503"):
        download(mirror, tmp_path, years=[2016], force=True, retries=0)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir() if p.is_file()) == [
        "aco_id_crosswalk.xlsx", "manifest.json", "mssp_py2016.json",
    ]  # fmt: skip


def test_a_damaged_cache_file_is_fetched_again(mirror, tmp_path) -> None:
    path = download(mirror, tmp_path, years=[2016]).files["2016"]
    path.write_text("[]")
    assert (
        download(mirror, tmp_path, years=[2016]).files["2016"].read_bytes()
        == (mirror.files["mssp_py2016.json"])
    )


def test_a_page_in_place_of_a_table(mirror, tmp_path) -> None:
    mirror.files["mssp_py2016.json"] = b"<!DOCTYPE html><html>Maintenance</html>"
    mirror.files["mssp_py2018.json"] = b'[{"a": "1"}, {"a": "2"}]'
    with pytest.raises(DataError) as caught:
        download(mirror, tmp_path)
    assert "is a web page" in str(caught.value)
    assert "not those of a results file" in str(caught.value)
    assert not (tmp_path / "mssp" / "mssp_py2016.json").exists()


def test_no_network_is_said_once(tmp_path) -> None:
    with pytest.raises(DataError, match="cannot be reached") as caught:
        get("mssp", cache=tmp_path, base_url="http://127.0.0.1:9", retries=1, wait=0.0)
    assert str(caught.value).count("cannot be reached") == 1
    assert "--from DIR" in str(caught.value)


def test_files_without_an_address_are_listed_not_guessed(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("VBCEVAL_DATA_URL", raising=False)
    files = get("mssp_county", cache=tmp_path)
    assert list(files.missing) == ["county_2018"]
    assert "no known address" in files.missing["county_2018"]


def test_an_unreadable_list_of_the_cache(tmp_path) -> None:
    (tmp_path / "mssp").mkdir()
    (tmp_path / "mssp" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"cache's list .* cannot be read"):
        get("mssp", cache=tmp_path, base_url="http://127.0.0.1:9")


# ---- files the user already has ------------------------------------------------------------------


@pytest.fixture
def own(writer, make_acos):
    acos = make_acos(2016, start="2014-01-01")
    writer.write("2016", acos, "my download (1).csv.gz".replace("(1)", "2016"))
    writer.write("2018", make_acos(2018, start="2014-01-01"), "puf_py2018.csv")
    writer.crosswalk(acos)
    writer.put("a,b\n1,2\n", "notes.csv")
    return writer


def test_own_files_are_recognised_checked_and_left_where_they_are(own, tmp_path) -> None:
    cache = tmp_path / "cache"
    files = get("mssp", source=own.folder, cache=cache)
    assert sorted(files.files) == ["2016", "2018", "crosswalk"]
    assert all(path.parent == own.folder for path in files.paths)
    assert "2019A" in files.missing
    assert [p.name for p in (cache / "mssp").iterdir()] == ["manifest.json"]
    # remembered: no server is needed afterwards
    again = get("mssp", years=[2016, 2018], cache=cache, base_url="http://127.0.0.1:9")
    assert again.paths == files.paths
    assert read_mssp(again.paths).years == [2016, 2018]


def test_an_own_file_that_changed_is_not_used(own, tmp_path) -> None:
    get("mssp", source=own.folder, cache=tmp_path)
    path = own.folder / "puf_py2018.csv"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="changed since it was registered as `2018`"):
        get("mssp", years=[2018], cache=tmp_path, base_url="http://127.0.0.1:9")


def test_own_files_that_are_wrong_are_all_reported(own, tmp_path) -> None:
    path = own.folder / "puf_py2018.csv"
    path.write_text(path.read_text() + "A9,short\n")
    own.put(path.read_text(), "copy_py2016.csv")
    with pytest.raises(DataError) as caught:
        get("mssp", source=own.folder, cache=tmp_path / "cache")
    assert "fewer fields" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_an_own_crosswalk_that_is_wrong(own, tmp_path) -> None:
    own.put("ACO_ID,ACO_NUM\nA1001,A60001\nA1001,A60002\n", "aco_id_crosswalk.csv")
    with pytest.raises(DataError, match="more than one `aconum`"):
        get("mssp", source=own.folder, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_two_own_files_for_one_year(own, tmp_path) -> None:
    own.put((own.folder / "puf_py2018.csv").read_text(), "again_py2018.csv")
    with pytest.raises(DataError, match=r"2 files are `2018`"):
        get("mssp", source=own.folder, cache=tmp_path)


def test_a_year_the_folder_lacks(own, tmp_path) -> None:
    with pytest.raises(DataError, match="`2017` is not there"):
        get("mssp", source=own.folder, years=[2017, 2018], cache=tmp_path)


def test_both_halves_of_2019_are_told_apart(writer, make_acos, tmp_path) -> None:
    writer.write("2019", make_acos(2019, half=1, start="2016-01-01"), "aco 2019 one.csv")
    writer.write("2019A", make_acos(2019, half=2, start="2019-07-01"), "aco 2019 two.csv")
    files = get("mssp", source=writer.folder, cache=tmp_path).files
    assert files["2019"].name == "aco 2019 one.csv"
    assert files["2019A"].name == "aco 2019 two.csv"


def test_a_source_that_holds_nothing(tmp_path) -> None:
    with pytest.raises(DataError, match="holds no file of data set `mssp`"):
        get("mssp", source=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="is not a folder"):
        get("mssp", source=tmp_path / "nowhere", cache=tmp_path / "cache")
    with pytest.raises(DataError, match="Pass either `source` or those"):
        get("mssp", source=tmp_path, base_url="http://127.0.0.1:9")
