import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from deployments.registration import FLOW, deployment_names, deployment_of, flow_of, parameters_for
from deployments.steps import PROJECT, config_parameters
from fedcore.config import ConfigError, load_config, make_config
from fedcore.trade_off.points import points_of
from fedcore.trade_off.settings import GridSettings

CONFIGS = sorted((PROJECT / "configs").rglob("*.yaml"))
DEPLOYMENTS = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
WITH_CONFIG = [each for each in DEPLOYMENTS if "build" in each]


def test_there_are_configurations():
    assert len(CONFIGS) >= 9


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_configuration_loads_and_says_what_it_shows(file):
    config = load_config(file)
    assert config.name == file.stem
    opening = "".join(line for line in file.read_text().splitlines(True) if line.startswith("#"))
    assert file.read_text().startswith("# ")
    assert f"fedloom run {file.relative_to(PROJECT)}" in opening


def flow_of_entry(deployment):
    module, _, function = deployment["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def test_every_deployment_takes_its_own_configuration():
    assert len(WITH_CONFIG) >= 11
    for deployment in WITH_CONFIG:
        (step,) = deployment["build"]
        file = step["deployments.steps.config_parameters"]["file"]
        assert Path(file).stem == deployment["name"]
        taken = inspect.signature(flow_of_entry(deployment).fn).parameters
        sections = [name for name in config_parameters(file) if name in taken]
        given = {name: f"{{{{ config.{name} }}}}" for name in sections}
        own = {"grid": deployment["parameters"]["grid"]} if "grid" in taken else {}
        assert deployment["parameters"] == given | own
        if not own:
            config = load_config(PROJECT / file)
            assert deployment_of(config) == f"{flow_of(deployment)}/{config.name}"
            assert parameters_for(config).keys() == given.keys()
            assert Path(file).parent.name == flow_of(deployment).replace("-", "_")


def test_grids_fit_their_configuration():
    trading = [one for one in WITH_CONFIG if "grid" in one["parameters"]]
    assert len(trading) == 2
    for deployment in trading:
        config = load_config(PROJECT / f"configs/train_federated/{deployment['name']}.yaml")
        grid = GridSettings.model_validate(deployment["parameters"]["grid"])
        reference = points_of(config, grid)[0].config
        assert (reference.privacy.kind, reference.training.learning_rate) == ("none", 0.1)


def test_a_flow_is_named_after_its_function():
    for deployment in DEPLOYMENTS:
        assert flow_of_entry(deployment).name == flow_of(deployment)


def test_what_the_form_of_fine_tuning_cannot_show_goes_to_the_one_for_all():
    config = load_config(PROJECT / "configs" / "finetune_adapters" / "demo-text.yaml")
    assert deployment_of(config.model_copy(update={"name": "mine"})) == "finetune-adapters/custom"
    changes = {"model.mode": "head"}, {"preprocessing.standardise": "none"}
    for change in changes:
        other = make_config(config.model_dump(mode="json"), change)
        assert deployment_of(other) == "train-federated/custom"
        assert "preprocessing" in parameters_for(other)


def test_a_missing_configuration_is_named():
    with pytest.raises(ConfigError, match="nothing"):
        config_parameters("configs/nothing.yaml")


def test_the_schedule_is_shipped_paused():
    schedules = [one for each in DEPLOYMENTS for one in each.get("schedules", [])]
    assert schedules
    assert not any(schedule["active"] for schedule in schedules)


def test_entrypoints_are_module_paths():
    for deployment in DEPLOYMENTS:
        assert "/" not in deployment["entrypoint"]
        assert ":" not in deployment["entrypoint"]


def test_the_flow_has_one_parameter_per_section():
    from flows.train_federated import train_federated

    sections = set(config_parameters("configs/train_federated/demo.yaml"))
    assert set(inspect.signature(train_federated.fn).parameters) == {
        *sections,
        *("overrides", "start", "dry_run"),
    }


def test_names_are_unique():
    assert len(set(deployment_names())) == len(deployment_names())
    assert "trade-off/custom" in deployment_names() and "custom" in deployment_names(FLOW)
    # A configuration's own deployment is one that trains it.
    assert "mnist-private" in deployment_names("trade-off")
    assert "mnist-private" not in deployment_names(FLOW)
