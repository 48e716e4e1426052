"""20 newsgroups: small files of the official format; parts are removed as scikit-learn does."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import _twenty_newsgroups as theirs

from fedcore.data import newsgroups
from fedcore.data.checksum import ChecksumMismatch, checksum_of
from fedcore.data.download import DataNotFound
from fedcore.data.newsgroups import FOLDERS, GROUPS, Newsgroups, stripped
from fedcore.data.text_bytes import unpack

EACH = {"train": 5, "test": 2}
POST = """From: {group}@example.com
Subject: {number}

bob@example.com writes:
> is it {number}?
It is {number}, na\xefve.

--
Ann of {group}
"""


def posts():
    """(folder, group, file name) -> bytes of a post."""
    return {
        (FOLDERS[split], group, str(50000 + number)): POST.format(
            group=group, number=f"{split} {at} {number}"
        ).encode("latin-1")
        for split, count in EACH.items()
        for at, group in enumerate(GROUPS)
        for number in range(count)
    }


def write_archive(folder, monkeypatch, files):
    path = folder / "text" / "newsgroups" / newsgroups.ARCHIVE
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for parts, data in files.items():
            member = tarfile.TarInfo("/".join(parts))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(newsgroups, "SHA256", checksum_of(path, "sha256"))
    return path


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setattr(newsgroups, "SIZES", {split: 20 * count for split, count in EACH.items()})
    write_archive(tmp_path, monkeypatch, posts())
    return tmp_path


def test_archive_and_folders_are_the_same_data(archive, tmp_path):
    packed = Newsgroups(download=False).load(archive)
    inside = tmp_path / "b" / "text" / "newsgroups"
    for parts, data in posts().items():
        (inside / parts[0] / parts[1]).mkdir(parents=True, exist_ok=True)
        inside.joinpath(*parts).write_bytes(data)
    unpacked = Newsgroups(download=False).load(tmp_path / "b")
    assert packed.fingerprint == unpacked.fingerprint
    assert {split: len(part) for split, part in packed.splits.items()} == {
        "train": 90,
        "val": 10,
        "test": 40,
    }
    assert packed.provenance["declared"] == {"test": 40}
    assert packed.provenance["files"][0]["sha256"] == newsgroups.SHA256
    assert [file["published"] for file in unpacked.provenance["files"]] == [False, False]
    assert sorted(path.name for path in (archive / "text" / "newsgroups").iterdir()) == [
        newsgroups.ARCHIVE
    ]


def test_posts_and_their_groups(archive):
    dataset = Newsgroups(download=False, val_fraction=0).load(archive)
    assert dataset.provenance["declared"] == {"train": 100, "test": 40}
    assert dataset.task.labels == GROUPS
    for split, part in dataset.splits.items():
        texts = unpack(part.inputs)
        assert texts[EACH[split] * 3 + 1].strip() == f"It is {split} 3 1, naïve."
        assert np.array_equal(part.targets, np.repeat(np.arange(20), EACH[split]))
    whole = Newsgroups(download=False, remove=(), limit=3).load(archive)
    [first, *_] = unpack(whole.splits["test"].inputs)
    assert first.encode("latin-1") == posts()[FOLDERS["test"], GROUPS[0], "50000"]
    assert {len(part) for part in whole.splits.values()} == {3}


def test_another_archive_is_refused(archive):
    path = archive / "text" / "newsgroups" / newsgroups.ARCHIVE
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ChecksumMismatch, match=r"20news-bydate.tar.gz has sha256"):
        Newsgroups(download=False).load(archive)


def test_other_groups_are_refused(tmp_path, monkeypatch):
    files = {key: post for key, post in posts().items() if key[1] != "sci.med"}
    files["20news-bydate-test", "sci.magic", "1"] = b"x"
    write_archive(tmp_path, monkeypatch, files)
    with pytest.raises(ValueError, match=r"other groups than the twenty: \['sci.med'\]"):
        Newsgroups(download=False).load(tmp_path)


def test_missing_archive_says_where_it_is_published(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataNotFound) as caught:
        Newsgroups(download=False).load(tmp_path)
    for part in (newsgroups.URL, f"sha256 {newsgroups.SHA256}", "or the folders 20news-bydate-tr"):
        assert part in str(caught.value)


LINE = st.sampled_from(
    ["", " ", "--", "- -", "> a", "|b", "x > y", "In article <1>", "Ann wrote:", "He says: no", "c"]
)


@example(["--", "signed at once"], {"footers"})
@example(["From: a", "", "text", " -- ", "signed", ""], {"headers", "footers"})
@settings(max_examples=50, deadline=None)
@given(st.lists(LINE, max_size=9), st.sets(st.sampled_from(["headers", "footers", "quotes"])))
def test_parts_are_removed_as_scikit_learn_does(lines, remove):
    post = expected = "\n".join(lines)
    if "headers" in remove:
        expected = theirs.strip_newsgroup_header(expected)
    if "footers" in remove:
        expected = theirs.strip_newsgroup_footer(expected)
    if "quotes" in remove:
        expected = theirs.strip_newsgroup_quoting(expected)
    assert stripped(post, tuple(remove)) == expected


def test_the_published_checksum_is_the_one_that_scikit_learn_knows():
    official = (theirs.ARCHIVE.filename, theirs.ARCHIVE.url, theirs.ARCHIVE.checksum)
    assert official == (newsgroups.ARCHIVE, newsgroups.URL, newsgroups.SHA256)
