"""20 newsgroups, sorted by date: 18846 posts of twenty groups with the official split.

Lang, NewsWeeder: Learning to Filter Netnews, ICML 1995; the version "bydate" at
http://qwone.com/~jason/20Newsgroups/
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field

from fedcore.data.checksum import verify_checksum
from fedcore.data.dataset import Dataset, Split
from fedcore.data.files import find_or_download, search_folders
from fedcore.data.own import file_entry
from fedcore.data.same_text import same_texts
from fedcore.data.splits import Limit, ValFraction, hold_out, limited
from fedcore.data.text_bytes import MostBytes, pack, unpack
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

ARCHIVE = "20news-bydate.tar.gz"
# Where scikit-learn fetches it, and the SHA-256 that it publishes (1.9, fetch_20newsgroups).
URL = "https://ndownloader.figshare.com/files/5975967"
SHA256 = "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"
FOLDERS = {"train": "20news-bydate-train", "test": "20news-bydate-test"}
SIZES = {"train": 11314, "test": 7532}
GROUPS = (
    "alt.atheism",
    "comp.graphics",
    "comp.os.ms-windows.misc",
    "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware",
    "comp.windows.x",
    "misc.forsale",
    "rec.autos",
    "rec.motorcycles",
    "rec.sport.baseball",
    "rec.sport.hockey",
    "sci.crypt",
    "sci.electronics",
    "sci.med",
    "sci.space",
    "soc.religion.christian",
    "talk.politics.guns",
    "talk.politics.mideast",
    "talk.politics.misc",
    "talk.religion.misc",
)
_QUOTED = re.compile(r"writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>")

Part = Literal["headers", "footers", "quotes"]


class Newsgroups(Settings, title="20 newsgroups"):
    """18846 posts of twenty newsgroups, older ones for training, later ones for test."""

    kind: Literal["newsgroups"] = "newsgroups"
    remove: tuple[Part, ...] = Field(
        default=("headers", "footers", "quotes"),
        description="What is taken out of each post, as scikit-learn does: headers, signatures and "
        "quoted lines name the group and let a model look better than it is.",
    )
    val_fraction: ValFraction = 0.1
    most_bytes: MostBytes = 4096
    download: bool = Field(
        default=True, description="Fetch the archive (14 MB) where it is not found locally."
    )
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set from ``folder/text/newsgroups`` (folders or archive), or its publisher.

        Posts are in the order of groups and of file names. A validation split goes by text.

        Raises:
          DataNotFound, ChecksumMismatch, ValueError: as all sources of files.
        """
        posts, files = self._posts(search_folders(folder, "text/newsgroups"))
        task = Task(TaskKind.MULTICLASS, GROUPS)
        parts = {split: self._split(posts, split) for split in FOLDERS}
        splits = hold_out(
            parts,
            task,
            name="newsgroups",
            val_fraction=self.val_fraction,
            together=same_texts(unpack(parts["train"].inputs)),
        )
        # A text that is there twice may change what is drawn from train, never what is left.
        drawn = {"train"} if self.val_fraction else set()
        declared = {split: min(size, self.limit or size) for split, size in SIZES.items()}
        return Dataset(
            name="newsgroups",
            task=task,
            splits=limited(splits, self.limit),
            features={"kind": "text", "most_bytes": self.most_bytes},
            provenance={
                "source": URL,
                "licence": "not stated",
                "files": files,
                "declared": {name: size for name, size in declared.items() if name not in drawn},
            },
        )

    def _posts(self, folders: list[Path]) -> tuple[dict[tuple[str, str, str], bytes], Any]:
        """(split, group, file name) -> post; and the files' entries for the provenance."""
        for folder in folders:
            roots = {split: folder / name for split, name in FOLDERS.items()}
            if all(root.is_dir() for root in roots.values()):
                files = [file_entry(root) | {"published": False} for root in roots.values()]
                return {key: post for root in roots.values() for key, post in _below(root)}, files
        path = find_or_download(
            [ARCHIVE],
            folders,
            url=URL,
            checksum=SHA256,
            may_download=self.download,
            instead=f"the folders {' and '.join(FOLDERS.values())}",
        )
        files = [verify_checksum(path, SHA256)]
        with tarfile.open(path, "r:gz") as archive:
            return dict(_inside(archive)), files

    def _split(self, posts: dict[tuple[str, str, str], bytes], split: str) -> Split:
        keys = sorted(key for key in posts if key[0] == split)
        missing = sorted(set(GROUPS) ^ {group for _, group, _ in keys})
        if missing:
            raise ValueError(
                f"{FOLDERS[split]} has other groups than the twenty: {missing}. Get the official "
                f"archive {URL}"
            )
        # Bytes of many encodings, read as scikit-learn reads them; a NUL would end a text here.
        texts = [posts[key].decode("latin-1").replace("\0", " ") for key in keys]
        targets = np.array([GROUPS.index(group) for _, group, _ in keys], dtype=np.int64)
        kept = [stripped(text, self.remove) for text in texts]
        return Split(pack(kept, self.most_bytes), targets)


def stripped(post: str, remove: tuple[Part, ...]) -> str:
    """A post without some of its parts, as ``remove`` of scikit-learn's ``fetch_20newsgroups``.

    Headers end at the first blank line. A signature begins at the last line that is blank or of
    hyphens only. A line is a quote if it begins like one, or says who wrote the next one.

    >>> stripped("From: a@b\\n\\n> why?\\nBecause.\\n--\\nAnn", ("headers", "footers", "quotes"))
    'Because.'
    """
    if "headers" in remove:
        post = post.partition("\n\n")[2]
    if "footers" in remove:
        lines = post.strip().split("\n")
        ends = [at for at, line in enumerate(lines) if not line.strip().strip("-")]
        if ends and ends[-1] > 0:
            post = "\n".join(lines[: ends[-1]])
    if "quotes" in remove:
        post = "\n".join(line for line in post.split("\n") if not _QUOTED.search(line))
    return post


def _below(root: Path) -> Iterator[tuple[tuple[str, str, str], bytes]]:
    split = next(split for split, name in FOLDERS.items() if name == root.name)
    for path in root.glob("*/*"):
        if path.is_file():
            yield (split, path.parent.name, path.name), path.read_bytes()


def _inside(archive: tarfile.TarFile) -> Iterator[tuple[tuple[str, str, str], bytes]]:
    """Read where they lie: nothing of an archive is written to the disk."""
    splits = {name: split for split, name in FOLDERS.items()}
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise ValueError(
                f"{ARCHIVE} holds {member.name!r}, which leads out of its folder or is no plain "
                f"file; nothing of it is read. Get the official archive {URL}"
            )
        content = archive.extractfile(member) if member.isfile() else None
        if content is not None and len(path.parts) == 3 and path.parts[0] in splits:
            folder, group, name = path.parts
            yield (splits[folder], group, name), content.read()
