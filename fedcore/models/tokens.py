"""From texts as bytes to token ids, by the tokenizer of a checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedcore.data.text_bytes import unpack
from fedcore.digests import digest_json
from fedcore.models.checkpoint import file_digest, find_checkpoint, find_folder
from fedcore.models.quiet import quiet_transformers
from fedcore.models.reader import Reader
from fedcore.models.token_cache import token_reader

if TYPE_CHECKING:
    import torch

# What decides a tokenizer's ids.
FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"),
)


@dataclass(frozen=True)
class TokenPreprocess(ABC):
    """How a checkpoint's tokenizer makes ``max_tokens`` numbers of each text.

    Attributes:
      name, revision: where the tokenizer lies (:func:`fedcore.models.checkpoint.find_folder`).
      tokenizer: SHA-256 of its files; another one under the same name is refused.
      max_tokens: of a text, special ones included.
    """

    name: str
    revision: str
    tokenizer: str
    max_tokens: int

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(max_tokens,), whatever the number of bytes."""
        return (self.max_tokens,)

    def order(self, inputs: np.ndarray) -> np.ndarray:
        """(n,) indices by length: batches of like length need little padding."""
        return np.argsort((inputs != 0).sum(1), kind="stable")

    def apply(self, inputs: np.ndarray) -> torch.Tensor:
        """(n, most_bytes) uint8, as :func:`fedcore.data.text_bytes.pack` makes it, to int32
        (n, max_tokens).

        Raises:
          ValueError: rows that are no text, or the checkpoint has another tokenizer now.
        """
        import torch

        return torch.from_numpy(self._tokenise(unpack(np.asarray(inputs))))

    def reader(self, inputs: np.ndarray, cache: Path | None) -> Reader:
        """:meth:`apply` on chosen rows; see :func:`fedcore.models.token_cache.token_reader`."""
        return token_reader(self.to_json(), self._tokenise, inputs, cache)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that :func:`fedcore.models.preprocess.preprocess_from_json` takes back."""
        return asdict(self)

    @abstractmethod
    def _tokenise(self, texts: Sequence[str]) -> np.ndarray:
        """(n, max_tokens) int32, a function of each text alone."""


@dataclass(frozen=True)
class TextPreprocess(TokenPreprocess):
    """Token ids, cut or padded on the right.

    Attributes:
      pad: token id of padding.
    """

    pad: int
    kind: Literal["text"] = "text"

    def _tokenise(self, texts: Sequence[str]) -> np.ndarray:
        """(n, max_tokens) int32."""
        tokenizer = planned_tokenizer(self.name, self.revision, self.tokenizer)
        if not len(texts):
            return np.zeros((0, self.max_tokens), dtype=np.int32)
        found = tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_tokens,
            padding="max_length",
            return_attention_mask=False,
            return_token_type_ids=False,
            return_tensors="np",
        )
        return np.asarray(found["input_ids"], dtype=np.int32)


def checkpoint_tokens(name: str, revision: str, max_tokens: int) -> TextPreprocess:
    """How the checkpoint reads texts.

    Raises:
      CheckpointNotFound: there is none here.
      ValueError: it has no tokenizer or no padding, or reads fewer tokens than ``max_tokens``.
    """
    folder = find_checkpoint(name, revision)
    digest = tokenizer_digest(folder)
    tokenizer = load_tokenizer(folder, digest)
    if tokenizer.pad_token_id is None:
        raise ValueError(f"model name={name!r}: its tokenizer has no padding token.")
    check_length(name, tokenizer, max_tokens)
    return TextPreprocess(name, revision, digest, max_tokens, tokenizer.pad_token_id)


def planned_tokenizer(name: str, revision: str, digest: str) -> Any:
    """The tokenizer of a checkpoint by name.

    Raises:
      ValueError: it is another one than that of this digest.
    """
    folder = find_folder(name, revision)
    if tokenizer_digest(folder) != digest:
        raise ValueError(
            f"model name={name!r} has another tokenizer than the one that was planned; "
            "its files changed since. Start the run again."
        )
    return load_tokenizer(folder, digest)


def check_length(name: str, tokenizer: Any, max_tokens: int) -> None:
    """Refuses more tokens than the checkpoint reads.

    Raises:
      ValueError: it reads fewer than ``max_tokens``.
    """
    # Where nobody set it, it is 1e30.
    if max_tokens > tokenizer.model_max_length:
        raise ValueError(
            f"max_tokens={max_tokens} is more than the {tokenizer.model_max_length} tokens that "
            f"model name={name!r} reads; lower model.max_tokens."
        )


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of the tokenizer's files, by name.

    Raises:
      ValueError: there are none.
    """
    there = {name: file_digest(folder / name) for name in FILES if (folder / name).is_file()}
    if not there:
        raise ValueError(
            f"{folder} has no tokenizer (searched tokenizer.json, vocab.txt and the like): it "
            "reads no texts. Save it beside the weights: AutoTokenizer.save_pretrained(FOLDER)."
        )
    return digest_json(there)


@lru_cache(maxsize=4)
def load_tokenizer(folder: Path, _digest: str) -> Any:
    """The tokenizer in a folder, kept while its digest stays; it cuts and pads on the right."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer
