"""The served model: raw images, tables or texts in, probabilities by label out, or how a text goes
on. MLflow runs it.

Everything it needs lies in the model's own folder: ``serving.json``, tensors as safetensors, and a
copy of ``fedcore``. Nothing is unpickled, nothing is fetched, and altered tensors are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel

BATCH_SIZE = 64


class FederatedModel(PythonModel):
    """A model that was trained by Fedloom.

    ``predict`` takes images (n, h, w, c) uint8 or a DataFrame of raw columns (texts: of one column
    ``text``, or ``prompt``) and returns a DataFrame: ``prediction`` and one ``probability LABEL``
    per label; for regression the quantity alone, for language the continuation alone.
    """

    def load_context(self, context: Any) -> None:
        """Reads the model's folder."""
        folder = Path(context.artifacts["model"])
        self.value = json.loads((folder / "serving.json").read_text())
        self.preprocess = load_preprocess(folder, self.value)
        self.module = load_module(folder, self.value)

    # MLflow reads this hint: an array (or a DataFrame) leaves the signature to the given one.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> pd.DataFrame:
        """Probabilities by label; ``params={"client": ...}`` scales a table as that client does,
        ``{"max_new_tokens": ...}`` bounds a continuation."""
        from fedcore.task import Task

        if self.value["task"]["kind"] == "language":
            return self._continued(model_input, **(params or {}))
        inputs = model_inputs(self.value, model_input, (params or {}).get("client", ""))
        return labelled(Task.from_json(self.value["task"]), self._scores(inputs))

    def _continued(self, raw: pd.DataFrame, max_new_tokens: int | None = None) -> pd.DataFrame:
        """How each text goes on: the most probable tokens, up to so many of them."""
        import torch

        from fedcore.data.prompted import check_separator, text_column

        usual = self.value["model"]["max_new_tokens"]
        most = usual if max_new_tokens is None else max_new_tokens
        texts = [str(text) for text in raw[text_column(self.value["features"])]]
        check_separator("text", texts)
        if most < 1:
            raise ValueError(f"max_new_tokens={most}: a continuation has at least 1.")
        how, backbone = self.preprocess, self.module.backbone
        with torch.inference_mode():
            found = [backbone.generate(ids, most, how.end) for ids in how.prompts(texts)]
        return pd.DataFrame({"prediction": pd.Series(map(how.words, found), dtype=object)})

    def _scores(self, inputs: np.ndarray) -> np.ndarray:
        import torch

        from fedcore.task import Task

        with torch.inference_mode():
            logits = [
                self.module(self.preprocess.apply(inputs[start : start + BATCH_SIZE])).numpy()
                for start in range(0, len(inputs), BATCH_SIZE)
            ]
        task = Task.from_json(self.value["task"])
        return task.scores(np.concatenate(logits or [np.zeros((0, task.num_outputs))]))


def load_preprocess(folder: Path, value: Mapping[str, Any]) -> Any:
    """From raw inputs to what the module reads; a tokenizer lies in the model's folder."""
    from fedcore.models.preprocess import preprocess_from_json

    how = dict(value["preprocess"])
    if "tokenizer" in how:
        how["name"] = str(folder / how["name"])
    return preprocess_from_json(how)


def load_module(folder: Path, value: Mapping[str, Any]) -> Any:
    """The torch module with exactly the tensors that were registered.

    Raises:
      ValueError: tensors are not those whose digest was registered, or do not fit the module.
    """
    from pydantic import TypeAdapter
    from safetensors.numpy import load_file

    from fedcore.digests import digest_arrays
    from fedcore.models.settings import ModelSettings
    from fedcore.models.state import Fitted, load_state
    from fedcore.task import Task

    state: dict[str, np.ndarray] = {}
    for name in ("params", "frozen"):
        arrays = load_file(folder / f"{name}.safetensors")
        if digest_arrays(arrays) != value["digests"][name]:
            raise ValueError(
                f"{name}.safetensors holds other tensors than were registered (digest "
                f"{digest_arrays(arrays)[:12]}, registered {value['digests'][name][:12]}); it is "
                "not used."
            )
        state |= arrays
    settings: Any = TypeAdapter(ModelSettings).validate_python(value["model"])
    task = Task.from_json(value["task"])
    if value["backbone"] is None:
        module = settings.build(task, tuple(value["input_shape"]))
    else:
        module = settings.empty(value["backbone"], task, load_preprocess(folder, value))
    if isinstance(module, Fitted):
        module.fit(state)
    load_state(module, state)
    return module.eval()


def model_inputs(value: Mapping[str, Any], raw: Any, client: str = "") -> np.ndarray:
    """Raw inputs as the training data were stored.

    Images as they are, tables encoded and scaled, texts as bytes, cut where training's were.

    Args:
      value: content of ``serving.json``.
      raw: images (n, h, w, c) uint8, or a DataFrame.
      client: whose scaling a table gets; empty: that of the whole federation.

    Raises:
      ValueError: an unknown client, or inputs that the encoding or preprocessing refuses.
    """
    from fedcore.data.encoding import TableEncoding
    from fedcore.data.text_bytes import pack
    from fedcore.models.preprocess import preprocess_from_json

    features, scaling = value["features"], value["scaling"]
    if features["kind"] == "image":
        return np.asarray(raw)
    if features["kind"] == "text":
        return pack([str(text) for text in raw["text"]], features["most_bytes"])
    if "encoding" in features:
        inputs = TableEncoding.from_json(features["encoding"]).encode(raw)
    else:
        inputs = raw[list(features["names"])].to_numpy(dtype=np.float32)
    if client and client not in scaling:
        known = sorted(name for name in scaling if name != "_central")
        raise ValueError(f"client={client!r} is unknown; known are {known}, or leave it empty.")
    how = scaling.get(client or "_central")
    return inputs if how is None else preprocess_from_json(how).apply(inputs).numpy()


def labelled(task: Any, scores: np.ndarray) -> pd.DataFrame:
    """Scores (n, outputs) as a table with the labels' names."""
    kind, labels = task.kind.value, task.labels
    if kind == "regression":
        return pd.DataFrame({"prediction": scores[:, 0]})
    predicted = task.predict(scores)
    if kind == "binary":
        scores = np.concatenate([1.0 - scores, scores], axis=1)
    if kind == "multilabel":
        names = ["; ".join(np.array(labels)[row == 1]) for row in predicted]
    else:
        names = [labels[index] for index in predicted]
    columns = {f"probability {label}": scores[:, index] for index, label in enumerate(labels)}
    return pd.DataFrame({"prediction": pd.Series(names, dtype=object), **columns})


mlflow.models.set_model(FederatedModel())
