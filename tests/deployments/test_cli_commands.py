import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli.main import app
from deployments.cli.template import commented_yaml
from fedcore.config import RunConfig, load_config

COMMANDS = [
    [],
    *[
        [c]
        for c in ("demo", "run", "approve", "follow", "events", "deploy", "init-config", "validate")
    ],
    *[[c] for c in ("report", "lineage", "promote", "stack", "store")],
    *[[c] for c in ("preflight", "backup", "restore")],
    *[["stack", c] for c in ("up", "down", "status", "env", "proxy")],
    *[["store", c] for c in ("du", "gc")],
]


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLOOM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words):
    done = call(*words, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run"], "YAML file of a run."),
        (["validate"], "YAML file of a run."),
        (["init-config"], "YAML file to write"),
        (["follow"], "Id of the run, its beginning, or a name."),
        (["report"], "Id of a run"),
        (["promote"], "@challenger"),
    ],
)
def test_arguments_are_explained(words, told):
    arguments = call(*words, "--help").output.partition("Arguments")[2]
    assert told in arguments.partition("Options")[0]


@pytest.mark.parametrize("command", ["demo", "run", "follow", "init-config", "validate", "report"])
def test_help_has_examples(command):
    assert f" fedloom {command}" in call(command, "--help").output.partition("Example")[2]


def test_a_written_configuration_is_the_default_one(tmp_path):
    file = tmp_path / "my.yaml"
    assert call("init-config", file).exit_code == 0
    assert load_config(file) == RunConfig(name="my-run")


def test_choices_are_written_with_their_own_fields(tmp_path):
    file = tmp_path / "my.yaml"
    done = call("init-config", file, "-o", "strategy.kind=fedprox", "-o", "strategy.mu=0.5")
    assert done.exit_code == 0
    assert load_config(file).strategy.mu == 0.5


def test_a_configuration_of_a_language_model_is_written_without_a_label(tmp_path):
    file, choices = tmp_path / "my.yaml", ["-o", "data.kind=text", "-o", "data.task=language"]
    done = call("init-config", file, *choices, "-o", "model.kind=causal_transformer")
    assert done.exit_code == 0, done.output
    assert load_config(file).data.label == ""


def test_every_description_becomes_a_comment():
    text = commented_yaml(RunConfig())
    assert "# kind: fedavg, fedprox" in text
    assert "# Number of federated rounds." in text
    assert yaml.safe_load(text) == RunConfig().model_dump(mode="json")


def test_comments_list_the_values_to_choose_from():
    lines = [line.strip() for line in commented_yaml(RunConfig()).splitlines()]
    for listed in (
        "# one of: stop, drop-from-train, accept",
        "# any of: val, test",
        "# value one of: error, warning, off",
    ):
        assert listed in lines
    assert "# one of: 1" not in lines


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.kind=table"],
        ["data.kind=table", "data.task=multilabel", "data.categorical=[ward]"],
        ["data.kind=arrays"],
        ["data.kind=image_folder"],
    ],
)
def test_what_only_the_owner_of_the_data_knows_is_to_be_changed(tmp_path, overrides):
    file = tmp_path / "my.yaml"
    words = [word for each in overrides for word in ("-o", each)]
    done = call("init-config", file, *words)
    assert done.exit_code == 0, done.output
    assert "CHANGE-ME" in done.stdout
    assert load_config(file).data.path.startswith("CHANGE-ME")
    done = call("init-config", file, "--force", *words, "-o", "data.path=mine")
    assert load_config(file).data.path == "mine"


def test_other_fields_without_default_are_asked_for():
    done = call("init-config", "-o", "participation.kind=poisson")
    assert done.exit_code == 1
    assert "-o participation.sampling_probability=VALUE" in done.stderr


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("mine")
    done = call("init-config", file)
    assert done.exit_code == 1
    assert "--force" in done.stderr
    assert file.read_text() == "mine"
    assert call("init-config", file, "--force").exit_code == 0


def test_validate_shows_the_digest_of_the_resolved_configuration(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("seed: 3\n")
    done = call("validate", file, "-o", "rounds.count=7")
    assert done.exit_code == 0
    expected = RunConfig(seed=3, rounds={"count": 7})
    assert f"config digest {expected.digest}" in done.stdout


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("rounds: {cont: 3}", [], "rounds.cont"),
        ("strategy: {kind: fedsgd}", [], "fedavg"),
        ("seed: 1", ["rounds.count"], "dotted.key=value"),
        ("seed: 1", ["rounds.count=many"], "rounds.count"),
    ],
)
def test_a_bad_configuration_ends_with_its_reason(tmp_path, text, overrides, told):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = call("validate", file, *(word for each in overrides for word in ("-o", each)))
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_commands_that_need_a_stack_say_how_to_start_it():
    for words in (["stack", "status"], ["stack", "env"], ["follow", "some-run"]):
        done = call(*words)
        assert done.exit_code == 1
        assert "fedloom stack up" in done.stderr


def test_reports_of_runs_that_were_never_logged_say_so_and_create_nothing(tmp_path):
    done = call("report", "local-1c0076ac-c10d-4f4f-bf8f-ef1f6d8e8124")
    assert done.exit_code == 1
    assert "ran in process" in done.stderr
    assert "not logged in MLflow" in done.stderr
    for words in (["report", "1c0076ac"], ["lineage", "fedloom-digits/1"]):
        done = call(*words)
        assert done.exit_code == 1
        assert "no run was ever logged there" in done.stderr
        assert "fedloom stack up" in done.stderr
    assert not (tmp_path / "home").exists()


def test_down_without_a_stack_is_fine():
    done = call("stack", "down")
    assert done.exit_code == 0
    assert "No stack runs" in done.stdout


def test_an_empty_store_is_measured_and_collected():
    assert "0 blobs" in call("store", "du").stdout
    assert "Removed 0 blobs" in call("store", "gc").stdout
