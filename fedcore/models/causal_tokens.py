"""From texts as bytes to what a causal language model learns: token ids, and which are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedcore.data.prompted import part
from fedcore.models.checkpoint import find_checkpoint
from fedcore.models.tokens import (
    TokenPreprocess,
    check_length,
    load_tokenizer,
    planned_tokenizer,
    tokenizer_digest,
)

# Below every ~id, and no token of the vocabulary: GPT-2 has none for padding, and its end of text,
# which others take for it, is a token to be learned.
PADDING = int(np.iinfo(np.int32).min)


@dataclass(frozen=True)
class CausalPreprocess(TokenPreprocess):
    """Token ids of a checkpoint's tokenizer: ``id`` where the token is scored, ``~id`` (negative)
    where it is only read, then ``PADDING`` up to ``max_tokens``.

    A text is the tokenizer's beginning where it puts one, the prompt, the response (all of a text
    without a prompt) and the end of text, so that a model learns to stop. Beginning and prompt are
    only read. Of what is too long the prompt loses its first tokens; where the response alone is
    too long it loses its last ones, and no end follows.

    Attributes:
      begin: token ids that the tokenizer puts before a text.
      end: token id of the end of text.
    """

    begin: tuple[int, ...]
    end: int
    kind: Literal["causal"] = "causal"

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids to go on from, of each text the last ones: ``max_tokens`` at most, and at least
        one.

        Raises:
          ValueError: the checkpoint has another tokenizer now.
        """
        left = self.max_tokens - len(self.begin)
        # Where nothing begins a text, the end of another one does.
        return [[*self.begin, *ids[-left:]] or [self.end] for ids in self._ids(texts)]

    def words(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self._tokenizer().decode(ids, skip_special_tokens=True)
        return text

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"begin": list(self.begin)}

    def _tokenise(self, texts: Sequence[str]) -> np.ndarray:
        """(n, max_tokens) int32."""
        out = np.full((len(texts), self.max_tokens), PADDING, dtype=np.int32)
        parts = [part(text) for text in texts]
        prompts = self._ids([prompt for prompt, _ in parts])
        responses = self._ids([response for _, response in parts])
        for row, prompt, response in zip(out, prompts, responses, strict=True):
            ids = self._joined(prompt, response)
            row[: len(ids)] = ids
        return out

    def _joined(self, prompt: Sequence[int], response: Sequence[int]) -> np.ndarray:
        room = self.max_tokens - len(self.begin)
        scored = np.array([*response, self.end][:room], dtype=np.int32)
        kept = prompt[max(0, len(prompt) + len(scored) - room) :]
        return np.concatenate([~np.array([*self.begin, *kept], dtype=np.int32), scored])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = self._tokenizer()(
            list(texts), add_special_tokens=False, return_attention_mask=False
        )["input_ids"]
        return found

    def _tokenizer(self) -> Any:
        return planned_tokenizer(self.name, self.revision, self.tokenizer)


def causal_tokens(name: str, revision: str, max_tokens: int) -> CausalPreprocess:
    """How the checkpoint reads and writes texts.

    Raises:
      CheckpointNotFound: there is none here.
      ValueError: it has no tokenizer or no end of text, or reads fewer tokens than ``max_tokens``.
    """
    folder = find_checkpoint(name, revision)
    digest = tokenizer_digest(folder)
    tokenizer = load_tokenizer(folder, digest)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"model name={name!r}: its tokenizer has no end of text (eos_token), so that nothing "
            "could learn to stop. Name one in its tokenizer_config.json, or take another model."
        )
    check_length(name, tokenizer, max_tokens)
    begin = _begin(tokenizer)
    if max_tokens < len(begin) + 2:
        raise ValueError(
            f"max_tokens={max_tokens} leaves no room for a token and the end of text; raise "
            "model.max_tokens."
        )
    return CausalPreprocess(name, revision, digest, max_tokens, begin, tokenizer.eos_token_id)


def _begin(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer puts before a text by itself: its bos_token, or nothing."""
    first = tokenizer("a")["input_ids"][:1]
    return tuple(first) if first == [tokenizer.bos_token_id] else ()
