"""Settings of causal language models: pretrained, fine-tuned on texts that they learn to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fedcore.models.built import Dropout
from fedcore.models.preprocess import Preprocess
from fedcore.models.transformer_settings import Pretrained, texts_only
from fedcore.models.weights import Base

if TYPE_CHECKING:
    from torch import nn

    from fedcore.task import Task

WrittenPart = Annotated[
    Literal["adapters", "full"],
    Field(
        description="What is trained and travels: small matrices beside the blocks' weights "
        "(LoRA), the rest being frozen, its output layer too; or everything."
    ),
]


class CausalTransformerSettings(Pretrained, title="Causal transformer"):
    """A pretrained causal language model of the transformers library, for language tasks."""

    kind: Literal["causal_transformer"] = "causal_transformer"
    name: str = Field(
        "HuggingFaceTB/SmolLM2-135M",
        min_length=1,
        description="Checkpoint folder (as it is, or below FEDLOOM_DATA) or Hugging Face hub name.",
    )
    mode: WrittenPart = "adapters"
    base: Base = "float32"
    max_tokens: int = Field(
        256,
        ge=3,
        le=8192,
        description="Of a prompt and its response together; longer prompts lose their beginning, "
        "longer responses their end. Memory grows with it, times the batch, times the vocabulary.",
    )
    dropout: Dropout = 0.0
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=8192,
        description="Of a continuation, where the published version is asked for no other number. "
        "Nothing of training.",
    )

    def identity(self) -> dict[str, Any]:
        """As any checkpoint's, without what training does not read."""
        return {k: v for k, v in super().identity().items() if k != "max_new_tokens"}

    def preprocess(self, features: Mapping[str, Any]) -> Preprocess:
        """What the checkpoint's tokenizer does."""
        from fedcore.models.causal_tokens import causal_tokens

        texts_only(self.kind, features)
        return causal_tokens(self.name, self.revision, self.max_tokens)

    def build(self, task: Task, input_shape: tuple[int, ...]) -> nn.Module:
        """(n, max_tokens) marked token ids to (n, 3), as language tasks have it.

        Raises:
          CheckpointNotFound: there are no such weights here.
        """
        from torch import nn

        from fedcore.models.causal import load_causal
        from fedcore.models.transformer import TransformerClassifier
        from fedcore.models.weights import loading

        backbone = load_causal(self.checkpoint(), self.dropout, loading(self.base))
        # Never in two: the states of lower blocks do not say which tokens follow.
        return TransformerClassifier(backbone, nn.Identity(), self.mode, self.adapter)

    def empty(self, config: Mapping[str, Any], task: Task, preprocess: Preprocess) -> nn.Module:
        """As :meth:`build` from the checkpoint's ``config`` alone: weights are yet to be loaded."""
        from torch import nn

        from fedcore.models.causal import empty_causal
        from fedcore.models.transformer import TransformerClassifier
        from fedcore.models.weights import loading

        backbone = empty_causal(config, loading(self.base)["dtype"])
        return TransformerClassifier(backbone, nn.Identity(), self.mode, self.adapter)
