"""Configurations: what is wrong is named with its place, value, rule; overrides; round trip."""

import pytest
import yaml

from fedcore.config import (
    ConfigError,
    RunConfig,
    load_config,
    make_config,
    parse_overrides,
)


def test_defaults_are_a_valid_run_and_survive_yaml(tmp_path):
    config = RunConfig()
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config and load_config(path).digest == config.digest


def test_the_digest_depends_on_everything_but_speed():
    config = make_config({})
    assert make_config({"speed": {"workers": 7}}).digest == config.digest
    for values in ({"seed": 1}, {"rounds": {"count": 6}}, {"model": {"kind": "logistic"}}):
        assert make_config(values).digest != config.digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, r"modle: unknown key; did you mean model\?"),
        (
            {"rounds": {"cuont": 3}},
            r"rounds\.cuont: unknown key; did you mean count\? known: count, .* \(got 3\)",
        ),
        ({"rounds": {"count": "many"}}, r"rounds\.count: .*valid integer.*got 'many'"),
        ({"rounds": {"count": 0}}, r"rounds\.count: .*greater than or equal to 1 \(got 0\)"),
        (
            {"model": {"kind": "gpt"}},
            r"model: kind 'gpt' does not exist; one of logistic, mlp, cnn_mcmahan",
        ),
        (
            {"data": {"kind": "imagenet"}},
            r"data: kind 'imagenet' .*one of digits, breast_cancer, medmnist",
        ),
        ({"partition": {"kind": "x"}}, r"partition: kind 'x' .*one of iid, dirichlet"),
        (
            {"strategy": {"kind": "fedavg", "mu": 1}},
            r"strategy\.fedavg\.mu: unknown key; known: kind, server_learning_rate",
        ),
        ({"data": {"name": "x"}}, "data: kind is missing; one of arrays, breast_cancer"),
        ({"data": {"kind": "table", "path": "x", "labels": [False]}}, "quote it"),
        (
            {"training": {"kind": "loop", "augmentation": {}}},
            r"training\.loop\.augmentation: kind is missing; one of light, none",
        ),
        ({"rounds": {"min_clients": 9}}, "min_clients=9 is more than the 5 clients"),
        (
            {"participation": {"kind": "fixed", "cohort_size": 6}},
            r"cohort_size=6 is more than partition\.clients=5",
        ),
        ({"name": "Not Good"}, r"name: String should match pattern"),
    ],
)
def test_a_wrong_value_is_named_with_place_and_rule(values, message):
    with pytest.raises(ConfigError, match=message):
        make_config(values)


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError) as caught:
        make_config({"rounds": {"count": 0}, "seed": -1, "extra": 1})
    assert len(str(caught.value).splitlines()) == 4


def test_overrides_by_dotted_key():
    config = make_config(
        {"training": {"kind": "loop"}},
        parse_overrides(["training.learning_rate=0.5", "rounds.count=7", "model.kind=logistic"]),
    )
    assert config.training.learning_rate == 0.5 and config.rounds.count == 7
    assert config.model.kind == "logistic"


def test_another_kind_drops_the_fields_of_the_old_one():
    values = {"model": {"kind": "mlp", "hidden": [8]}}
    assert make_config(values, {"model.kind": "logistic"}).model.kind == "logistic"
    assert make_config(values, {"model.kind": "mlp"}).model.hidden == (8,)


@pytest.mark.parametrize("pair", ["rounds.count", "=3", ""])
def test_an_override_without_a_value_is_refused(pair):
    with pytest.raises(ConfigError, match=r"must read dotted\.key=value"):
        parse_overrides([pair])


@pytest.mark.parametrize("pair", ["rounds.count=[1", "data.targets={split}_label"])
def test_an_override_that_is_not_yaml_says_to_quote_it(pair):
    with pytest.raises(ConfigError, match="the value is not YAML; quote it"):
        parse_overrides([pair])


def test_overrides_do_not_depend_on_their_order_and_start_from_defaults():
    changes = {"strategy.mu": 0.5, "strategy.kind": "fedprox", "training.learning_rate": 0.3}
    for order in (changes, dict(reversed(changes.items()))):
        config = make_config({}, order)
        assert config.strategy.mu == 0.5 and config.training.learning_rate == 0.3


def test_an_override_below_a_plain_value_is_refused():
    with pytest.raises(ConfigError, match="'seed' has no keys below it"):
        make_config({"seed": 1}, {"seed.x": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2\n", "key 'seed' stands more than once"),
        ("seed: [", "is not valid YAML"),
        ("- a\n", "must hold sections"),
        ("seed: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "bad.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_every_choice_has_a_description_for_the_form():
    schema, seen, missing = RunConfig.model_json_schema(), 0, []

    def walk(place, node):
        nonlocal seen
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
        for part in node.get("anyOf", []) + node.get("allOf", []):
            walk(place, part)
        for name, value in node.get("properties", {}).items():
            seen += 1
            if name not in {"kind", "version"} and not {
                "description",
                "$ref",
                "anyOf",
                "allOf",
            } & set(value):
                missing.append(f"{place}.{name}")
            walk(f"{place}.{name}", value)

    walk("config", schema)
    assert seen > 150 and missing == []


def test_the_yaml_needs_no_python_types():
    assert yaml.safe_load(RunConfig().to_yaml())["data"]["kind"] == "digits"
