"""20 newsgroups: small files of the official format; parts are removed as scikit-learn does."""

import io
import shutil
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


def write_archive(folder, monkeypatch, files, others=()):
    """As the official one: folders first, then their posts; and members of other kinds."""
    path = folder / "text" / "newsgroups" / newsgroups.ARCHIVE
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted({"/".join(parts[:depth]) for parts in files for depth in (1, 2)}):
            member = tarfile.TarInfo(f"{name}/")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for parts, data in files.items():
            member = tarfile.TarInfo("/".join(parts))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in others:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
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


ODD = {
    "latin": b'From: Jos\xe9\nOrganization: "Universit\xe4t"\n\nna\xefve \xa320 \xff\x80\x9f end\n',
    "quoted header": b'Subject: =?iso-8859-1?Q?Caf=E9?=\nReply-To: "a > b"@x\n\nbody =E9 stays\n',
    "bytes of utf-8": "Subject: x\n\nd\u00e9j\u00e0 \u2013 vu\n".encode(),
    "no body": b"From: a@b\nSubject: empty\n\n",
    "headers alone": b"From: a@b\nSubject: never ends",
    "nothing": b"",
    "white": b"From: a\n\n \t \n\n\n",
    "quotes alone": b"From: a\n\n> all\n| of\nbob wrote:\n",
    "crlf": b"From: a\r\nSubject: b\r\n\r\nbody\r\n",
    "escapes": b"From: a\n\n\x1b[1mbold\x07\x0c\n--\nsigned\n",
    "folded": b"References: <1@a>\n\t<2@b>\n\n\nlate body\n",
}


@pytest.mark.parametrize("remove", [(), ("headers", "footers", "quotes")])
def test_odd_posts_are_read_as_scikit_learn_reads_them(tmp_path, monkeypatch, remove):
    files = posts() | {
        (FOLDERS[split], "sci.med", f"6000{number}"): post
        for split in FOLDERS
        for number, post in enumerate(ODD.values())
    }
    path = write_archive(tmp_path, monkeypatch, files)
    dataset = Newsgroups(download=False, val_fraction=0, remove=remove).load(tmp_path)
    unpacked = shutil.copy(path, tmp_path / "copy.tar.gz")  # scikit-learn removes it
    monkeypatch.setattr(theirs, "_fetch_remote", lambda *args, **kwargs: unpacked)
    for split, part in dataset.splits.items():
        expected = theirs.fetch_20newsgroups(
            data_home=tmp_path / "theirs", subset=split, shuffle=False, remove=remove
        )
        # In another order: scikit-learn shuffles what it keeps.
        ours = zip(part.targets.tolist(), unpack(part.inputs), strict=True)
        assert sorted(ours) == sorted(zip(expected.target.tolist(), expected.data, strict=True))
        assert list(expected.target_names) == list(GROUPS)
    if remove:
        texts = unpack(dataset.splits["test"].inputs)[GROUPS.index("sci.med") * EACH["test"] :]
        assert "na\xefve \xa320 \xff\x80\x9f end" in texts[EACH["test"]]


def test_a_nul_in_a_post_is_a_space(tmp_path, monkeypatch):
    first = FOLDERS["train"], GROUPS[0], "1"
    write_archive(tmp_path, monkeypatch, posts() | {first: b"From: a\n\none\0two"})
    train = Newsgroups(download=False, val_fraction=0).load(tmp_path).splits["train"]
    assert unpack(train.inputs)[0] == "one two"


def member(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "other",
    [
        member("../outside"),
        member("20news-bydate-train/sci.med/../../../outside"),
        member("20news-bydate-train/../outside"),
        member("/tmp/outside"),
        member("20news-bydate-train/sci.med/1", tarfile.SYMTYPE, "/etc/passwd"),
        member("20news-bydate-train/sci.med/1", tarfile.LNKTYPE, "../outside"),
        member("20news-bydate-train/sci.med/1", tarfile.FIFOTYPE),
    ],
    ids=lambda other: f"{other.name} {other.type.decode()}",
)
def test_members_that_lead_out_of_the_archive_are_refused(tmp_path, monkeypatch, other):
    write_archive(tmp_path, monkeypatch, posts(), [other])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"20news-bydate.tar.gz holds .*outside|no plain file"):
        Newsgroups(download=False).load(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_archive_is_refused_before_it_is_opened(archive, monkeypatch):
    path = archive / "text" / "newsgroups" / newsgroups.ARCHIVE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(newsgroups.tarfile, "open", None)
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
