"""How long a client's work takes here, from one timed batch on the run's own model and data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fedcore.models.build import build_model
from fedcore.models.frozen import on_frozen_backbone
from fedcore.models.preprocess import preprocess_from_json
from fedcore.plan import RunPlan
from fedcore.store import Store
from fedcore.training.train import predict, train

# A call of the Hugging Face Trainer costs this before its first step (measured, two busy cores).
TRAINER_SECONDS = 0.3
PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Timing:
    """Seconds on one thread of this machine.

    Attributes:
      call: fixed cost of a client's training.
      step: one training batch.
      predict: one sample in evaluation.
      features: one sample through a frozen backbone, the first time only.
    """

    call: float
    step: float
    predict: float
    features: float

    def to_json(self) -> dict[str, float]:
        """A JSON value."""
        return asdict(self)


NOTHING = Timing(call=0.0, step=0.0, predict=0.0, features=0.0)


def time_batch(plan: RunPlan, store: Store) -> Timing:
    """Train and evaluate one batch of the largest client; nothing of it is kept.

    The first call warms up what is measured then, where that takes little time as the fastest of
    some: a busy machine only ever makes it slower. No public randomness is drawn from
    the run's streams in a way that the run would see: streams are derived by name.
    """
    config = plan.config
    client = max(plan.federation.ids, key=lambda name: plan.federation.clients[name].sizes["train"])
    data = plan.federation.load(store, client, "train")
    size = min(config.training.batch_size, len(data.targets))
    inputs, targets = data.inputs[:size], data.targets[:size]
    model = build_model(config.model, plan.task, plan.input_shape, config.seed)
    preprocess = preprocess_from_json(plan.preprocess)
    # Of class weights only the kind matters here; those of the federation need all counts.
    settings = config.training.model_copy(
        update={"steps": 1, "epochs": None, "class_weights": "none"}
    )
    device = str(plan.identity["numerics"]["device"])
    with tempfile.TemporaryDirectory() as folder:

        def learn() -> None:
            train(
                model,
                inputs,
                targets,
                task=plan.task,
                preprocess=preprocess,
                settings=settings,
                learning_rate=1e-8,
                seed=config.seed,
                names=("preflight",),
                cache=Path(folder),
                device=device,
            )

        def measure() -> None:
            predict(
                model,
                inputs,
                preprocess=preprocess,
                batch_size=size,
                cache=Path(folder),
                device=device,
            )

        first, step = _seconds(learn), _fastest(learn)
        measure()
        once = _fastest(measure)
    has_features = (
        on_frozen_backbone(model) is not None and config.training.augmentation.kind == "none"
    )
    call = min(TRAINER_SECONDS, 0.9 * step) if config.training.kind == "trainer" else 0.0
    features = max(0.0, first - step) / size if has_features else 0.0
    return Timing(call=call, step=step - call, predict=once / size, features=features)


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fastest(work: Callable[[], None]) -> float:
    taken = [_seconds(work)]
    while len(taken) < 5 and sum(taken) < PATIENCE_SECONDS:
        taken.append(_seconds(work))
    return min(taken)
