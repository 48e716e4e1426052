"""Checksums, downloads and the search for published files."""

import http.server
import threading
from pathlib import Path

import numpy as np
import pytest

from fedcore.data.checksum import ChecksumMismatch, md5_of, md5_of_bytes, verify_checksum
from fedcore.data.download import DataNotFound, download
from fedcore.data.files import find_or_download, search_folders, user_path
from fedcore.data.owners import owner_ids

CONTENT = b"twelve bytes"
MD5 = md5_of_bytes(CONTENT)


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """Address of a server on loopback that publishes ``/set.npz``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path_factory.mktemp("published")
    (folder / "set.npz").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_md5_of_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert md5_of(path) == md5_of_bytes(b"abc") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321


def test_mismatch_names_file_both_sums_and_way_out(tmp_path):
    path = tmp_path / "set.npz"
    path.write_bytes(b"abc")
    with pytest.raises(ChecksumMismatch, match=r"set.npz has md5 9001.* publishes 0000.*Delete it"):
        verify_checksum(path, "0" * 32)
    assert verify_checksum(path, md5_of(path).upper()) == {"name": "set.npz", "md5": md5_of(path)}


def test_download_keeps_only_the_published_file(server, tmp_path):
    target = download(f"{server}/set.npz", tmp_path / "new" / "set.npz", MD5)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["set.npz"]


def test_download_of_another_file_keeps_nothing(server, tmp_path):
    with pytest.raises(ChecksumMismatch, match=f"md5 {MD5}.*publishes 1111.*nothing was kept"):
        download(f"{server}/set.npz", tmp_path / "set.npz", "1" * 32)
    assert list(tmp_path.iterdir()) == []


def test_download_refused_by_server_keeps_nothing(server, tmp_path):
    with pytest.raises(DataNotFound, match=r"other.npz could not be fetched .*404"):
        download(f"{server}/other.npz", tmp_path / "other.npz", MD5)
    assert list(tmp_path.iterdir()) == []


def test_failed_download_leaves_no_folder_that_it_made(server, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataNotFound):
        download(f"{server}/other.npz", tmp_path / "data" / "mnist" / "raw" / "x", MD5)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_failed_download_leaves_the_older_file(server, tmp_path):
    (tmp_path / "set.npz").write_bytes(b"older")
    with pytest.raises(ChecksumMismatch):
        download(f"{server}/set.npz", tmp_path / "set.npz", "1" * 32)
    assert (tmp_path / "set.npz").read_bytes() == b"older"


def test_only_http_addresses_are_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"url='file:///etc/hostname'.*only http"):
        download("file:///etc/hostname", tmp_path / "x", MD5)


def test_search_is_in_order_and_does_not_fetch_what_is_there(tmp_path):
    folders = search_folders(tmp_path, "set", cache=str(tmp_path / "cache"), others=["/opt/set"])
    assert folders == [tmp_path / "set", tmp_path / "cache", Path("/opt/set")]
    for folder in folders[:2]:
        folder.mkdir()
    (folders[1] / "set.npz").write_bytes(b"second")
    nowhere = {"url": "http://127.0.0.1:1/set.npz", "checksum": MD5, "may_download": True}
    assert find_or_download(["set.npz"], folders, **nowhere) == folders[1] / "set.npz"
    (folders[0] / "set.npz").write_bytes(b"first")
    assert find_or_download(["set.npz"], folders, **nowhere) == folders[0] / "set.npz"


def test_missing_file_is_fetched_into_the_first_folder(server, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    path = find_or_download(
        ["set.npz"], folders, url=f"{server}/set.npz", checksum=MD5, may_download=True
    )
    assert path == tmp_path / "a" / "set.npz"


@pytest.mark.parametrize("may_download", [True, False])
def test_no_file_and_no_network_says_where_and_how(tmp_path, monkeypatch, may_download):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folders = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(DataNotFound) as caught:
        find_or_download(
            ["set.npz", "set.zip"],
            folders,
            url="http://127.0.0.1:1/set.npz",
            checksum=MD5,
            may_download=may_download,
            instead="whole.npz",
        )
    message = str(caught.value)
    for part in (
        f"set.npz or set.zip was not found in {folders[0]}, {folders[1]}",
        f"(md5 {MD5}), or whole.npz, and put it into one of these folders",
        "FEDLOOM_DATA",
    ):
        assert part in message
    for once in ("http://127.0.0.1:1/set.npz", " put it ", "Get "):
        assert message.count(once) == 1
    assert list(tmp_path.iterdir()) == []
    assert ("download=False" in message) is not may_download


def test_unwritable_folders_say_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataNotFound, match="none of them can be written"):
        find_or_download(
            ["x"],
            [tmp_path / "file" / "a"],
            url="http://127.0.0.1:1",
            checksum=MD5,
            may_download=True,
        )
    with pytest.raises(DataNotFound, match="cannot be written"):
        download("http://127.0.0.1:1/x", tmp_path / "file" / "a" / "x", MD5)


def test_user_paths(tmp_path):
    (tmp_path / "mine.csv").write_text("")
    assert user_path("mine.csv", tmp_path) == tmp_path / "mine.csv"
    assert user_path(str(tmp_path / "mine.csv"), None) == tmp_path / "mine.csv"
    with pytest.raises(DataNotFound, match=r"path='mine.csv' is relative.*FEDLOOM_DATA is not set"):
        user_path("mine.csv", None)
    with pytest.raises(DataNotFound, match=r"path='yours.csv': there is nothing at"):
        user_path("yours.csv", tmp_path)


def test_owners_become_ids():
    assert owner_ids(np.array(["St  Mary ", "b.1"])).tolist() == ["St-Mary", "b.1"]
    assert owner_ids(np.array([3, 1])).tolist() == ["3", "1"]


@pytest.mark.parametrize("owner", ["", "../etc", "a/b", "-a", "é", "a" * 65, "a\0b"[:2] + "?"])
def test_unfit_owner_is_refused(owner):
    with pytest.raises(ValueError, match=r"cannot be the id of a client.*Rename it"):
        owner_ids(np.array(["north", owner]))


def test_owners_that_become_one_are_refused():
    with pytest.raises(ValueError, match=r"\['St Mary', 'St-Mary'\] become the same id 'St-Mary'"):
        owner_ids(np.array(["St Mary", "St-Mary"]))
