"""Whether a model goes on under another rule for adapters than the one that made it."""

from __future__ import annotations

from fedcore.adapters.fitted import require_fitted
from fedcore.adapters.server import adapter_round
from fedcore.config import RunConfig
from fedcore.models.build import build_model
from fedcore.models.state import trainable_state
from fedcore.plan import RunPlan
from fedcore.refs import Ref
from fedcore.sites.model_form import model_form
from fedcore.sites.refusal import Refusal
from fedcore.store import Store


def untaken(store: Store, before: RunPlan, config: RunConfig, params: Ref) -> str | None:
    """Why sites would refuse the model that a fork starts from, with the way out; None: they take
    it, or nobody is asked to.

    Args:
      before: the parent's plan.
      config: of the fork.
      params: what it starts from.

    Raises:
      ValueError: the model cannot be what the new rule makes of it, or its products have no
        coordinates (:func:`fedcore.adapters.coordinates.product_coordinates`).
    """
    sections = [(one.aggregation, one.privacy) for one in (config, before.config)]
    if sections[0] == sections[1] or (how := adapter_round(config, 1)) is None:
        return None
    model = build_model(config.model, before.task, before.input_shape, config.seed)
    require_fitted(config, model, trainable_state(model))
    start = store.get_arrays(params)
    how.coordinates(start, start.keys())  # raises where it has none
    if config.engine.kind != "sites":
        return None
    try:
        model_form(store.get_arrays(before.initial.params), how).decoded(store.get(params))
    except Refusal:
        now, then = config.aggregation.adapters.kind, before.config.aggregation.adapters.kind
        return (
            f"aggregation.adapters.kind={now} at sites: the model to start from has corrections or "
            f"ranks of kind={then}, which are not of that plan, and sites would refuse it. Keep "
            "the kind, or start a new run."
        )
    return None
