"""A model as an MLflow folder: code, JSON and safetensors; no pickle, nothing to fetch."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

import fedcore
from fedcore import tensors
from fedcore.data.encoding import TableEncoding
from fedcore.data.prompted import text_column
from fedcore.digests import digest_arrays
from fedcore.models.checkpoint import checkpoint_digest
from fedcore.models.settings import ModelSettings
from fedcore.models.tokens import FILES as TOKENIZER_FILES
from fedcore.task import TaskKind
from tasks.registry.exported import TOKENIZER, export_adapter, has_adapters, shown_name
from tasks.registry.finished_run import FinishedRun

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature

SERVING = Path(__file__).with_name("serving.py")

# Kinds of models that the library ``transformers`` runs.
TRANSFORMERS = ("transformer", "text_transformer", "causal_transformer", "deit_tiny_random")

# MLflow hands the served model over through a module-level variable.
_ONE_AT_A_TIME = threading.Lock()


def write_model(folder: Path, run: FinishedRun, mlflow_model: Model | None = None) -> None:
    """Writes ``run``'s model to ``folder``, ready for ``mlflow.pyfunc.load_model``; a model of
    adapters also as ``adapter/``, for PEFT.

    Models-from-code: https://mlflow.org/docs/latest/ml/model/models-from-code/

    Args:
      folder: must not exist.
      run: whose model.
      mlflow_model: MLflow's description to complete (it names run and logged model), or None.
    """
    import mlflow
    from mlflow.models import Model

    mlflow_model = mlflow_model or Model()
    with tempfile.TemporaryDirectory(prefix="fedloom-") as scratch, _ONE_AT_A_TIME:
        code = Path(scratch, "serving.py")
        shutil.copy(SERVING, code)
        parts = Path(scratch, "model")
        write_parts(parts, run)
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(code),
            artifacts={"model": str(parts)},
            code_paths=[str(Path(fedcore.__file__).parent)],
            mlflow_model=mlflow_model,
            signature=signature(run),
            input_example=input_example(run.header["features"]),
            pip_requirements=pip_requirements(run),
            metadata=dict(run.tags),
        )
        # MLflow notes where things lay on this machine, which loading does not use, and the release
        # of a pickler that nothing here went through.
        if has_adapters(json.loads((parts / "serving.json").read_text())):
            export_adapter(folder / "adapter", parts)
        flavor = mlflow_model.flavors["python_function"]
        flavor["model_code_path"] = code.name
        del flavor["artifacts"]["model"]["uri"], flavor["cloudpickle_version"]
        mlflow_model.save(str(folder / "MLmodel"))
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def write_parts(folder: Path, run: FinishedRun) -> None:
    """Writes what the served model reads: ``serving.json``, two files of tensors, a tokenizer."""
    folder.mkdir()
    (folder / "params.safetensors").write_bytes(tensors.encode(run.params))
    (folder / "frozen.safetensors").write_bytes(tensors.encode(run.frozen))
    value = {name: run.header[name] for name in ("task", "features", "preprocess", "input_shape")}
    settings = TypeAdapter(ModelSettings).validate_python(run.config["model"]).served()
    model, checkpoint = settings.model_dump(mode="json"), settings.checkpoint()
    base = None
    if checkpoint is not None:
        # Where the weights once lay is no business of whoever serves them.
        base = {"name": shown_name(model.pop("name")), "revision": model.pop("revision")}
        base["digest"] = checkpoint_digest(checkpoint)
    if "tokenizer" in value["preprocess"] and checkpoint is not None:
        value["preprocess"] = value["preprocess"] | {"name": TOKENIZER, "revision": "main"}
        (folder / TOKENIZER).mkdir()
        for name in TOKENIZER_FILES:
            if (checkpoint / name).is_file():
                shutil.copy(checkpoint / name, folder / TOKENIZER / name)
    value |= {
        "model": model,
        "base": base,
        "backbone": checkpoint and backbone_config(checkpoint),
        "scaling": run.header["scaling"],
        "digests": {"params": run.model_digest, "frozen": digest_arrays(run.frozen)},
    }
    (folder / "serving.json").write_text(json.dumps(value, indent=1))


def backbone_config(checkpoint: Path) -> dict[str, Any]:
    """The JSON that builds a pretrained backbone without its weights."""
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    config.pop("_name_or_path", None)
    return config


def input_example(features: Mapping[str, Any]) -> Any:
    """One invented input of the right form: no real sample goes into a model's folder."""
    import pandas as pd

    if features["kind"] == "image":
        shape = (1, *features["shape"])
        return np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    if features["kind"] == "text":
        column = text_column(features)
        return pd.DataFrame({column: ["An invented text of no patient."]})
    if "encoding" not in features:
        return pd.DataFrame([dict.fromkeys(features["names"], 0.0)])
    encoding = TableEncoding.from_json(features["encoding"])
    row: dict[str, Any] = dict.fromkeys(encoding.numeric, 0.0)
    row |= {name: categories[0] for name, categories in encoding.categorical}
    return pd.DataFrame([row])


def signature(run: FinishedRun) -> ModelSignature:
    """What the model takes and returns.

    Columns of tables are declared ``any``: MLflow would refuse whole numbers where it was told
    ``double``; the encoding checks every value itself and names column and row.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    features = run.header["features"]
    if features["kind"] == "image":
        inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, *features["shape"]))])
    else:
        inputs = Schema([ColSpec(AnyType(), name) for name in input_example(features).columns])
    if run.task.kind is TaskKind.REGRESSION:
        outputs = [ColSpec("double", "prediction")]
    elif run.task.kind is TaskKind.LANGUAGE:
        outputs = [ColSpec("string", "prediction")]
    else:
        outputs = [ColSpec("string", "prediction")]
        outputs += [ColSpec("double", f"probability {label}") for label in run.task.labels]
    by_client = len({json.dumps(how) for how in run.header["scaling"].values()}) > 1
    params = [ParamSpec("client", "string", "")] if by_client else []
    if run.task.kind is TaskKind.LANGUAGE:
        params.append(ParamSpec("max_new_tokens", "long", run.config["model"]["max_new_tokens"]))
    return ModelSignature(inputs, Schema(outputs), ParamSchema(params) if params else None)


def pip_requirements(run: FinishedRun) -> list[str]:
    """The packages that serving imports, at the releases that are installed here.

    Named, not inferred: inference starts a process and takes half a minute. The local part of a
    release (``+cpu``) is left out, because package indexes do not have it.
    """
    names = ["mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch"]
    if run.header["features"]["kind"] == "image":
        names.append("pillow")
    model = run.config["model"]
    kind = model["kind"]
    if kind in TRANSFORMERS:
        names += ["transformers", "peft"] if model["mode"] == "adapters" else ["transformers"]
    if kind == "plugin":
        found = metadata.entry_points(group="fedloom.models", name=run.config["model"]["name"])
        names += [point.dist.name for point in found if point.dist]
    return [f"{name}=={metadata.version(name).split('+')[0]}" for name in names]
