"""What Prefect's console draws of the flows' parameters; no server."""

import json

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import is_valid_schema, validate

from deployments.registration import declared, flow_of, parameters_for, parameters_of
from deployments.steps import PROJECT
from fedcore.config import load_config
from fedcore.form import choose

FLOWS = ("train_federated", "finetune_adapters")
CONFIGS = sorted((PROJECT / "configs").glob("*/*.yaml"))


@pytest.fixture(scope="module")
def schemas():
    from flows.finetune_adapters import finetune_adapters
    from flows.train_federated import train_federated

    flows = zip(FLOWS, (train_federated, finetune_adapters), strict=True)
    return {name: parameter_schema(flow).model_dump_for_openapi() for name, flow in flows}


@pytest.fixture(params=FLOWS)
def schema(schemas, request):
    return schemas[request.param]


def of_file(schemas, file):
    """The schema of a configuration's flow, and its values."""
    return schemas[file.parent.name], parameters_for(load_config(file))


@pytest.fixture(scope="module")
def trade_off_schema():
    from flows.trade_off import trade_off

    return parameter_schema(trade_off).model_dump_for_openapi()


def alternatives(schema, field):
    """Those that are objects; a reference is followed, as the form does."""
    found = [
        schema["definitions"][one["$ref"].removeprefix("#/definitions/")] if "$ref" in one else one
        for one in field.get("anyOf", ())
    ]
    return found if any("properties" in one for one in found) else []


def shown(schema, field, value, path):
    """(place, kind of the value, kinds that the form can show there), of every choice."""
    if members := alternatives(schema, field):
        field = members[choose(value, members)]
        yield path, value["kind"], field["properties"]["kind"]["enum"]
    if "$ref" in field:
        field = schema["definitions"][field["$ref"].removeprefix("#/definitions/")]
    for name, inner in field.get("properties", {}).items():
        if isinstance(value, dict) and isinstance(value.get(name), dict):
            yield from shown(schema, inner, value[name], f"{path}.{name}")


def leaves(schema):
    """(place, field) of all that can be filled in."""
    todo = [(name, field) for name, field in schema["properties"].items()]
    todo += [
        (f"{title}.{name}", field)
        for title, definition in schema["definitions"].items()
        for name, field in definition.get("properties", {}).items()
    ]
    for place, field in todo:
        for member in alternatives(schema, field):
            todo += [(f"{place}.{n}", inner) for n, inner in member.get("properties", {}).items()]
        yield place, field


def test_no_choice_is_raw_json(schema):
    text = json.dumps(schema)
    assert '"oneOf"' not in text
    assert '"discriminator"' not in text
    is_valid_schema(schema)


def test_every_field_says_what_it_is(schema):
    silent = [
        place
        for place, field in leaves(schema)
        if not (field.get("title") and field.get("description")) and "$ref" not in field
    ]
    assert silent == []


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_form_shows_the_chosen_kinds_of_every_configuration(schemas, file):
    schema, values = of_file(schemas, file)
    choices = list(shown(schema, {"properties": schema["properties"]}, values, ""))
    assert len(choices) >= 8
    assert [(place, kind) for place, kind, kinds in choices if kind not in kinds] == []


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_server_accepts_every_configuration(schemas, file):
    schema, values = of_file(schemas, file)
    assert validate(values, schema) == []


def test_the_form_of_fine_tuning_takes_adapters_on_texts_and_images_only(schemas):
    schema, values = of_file(schemas, PROJECT / "configs" / "finetune_adapters" / "demo-text.yaml")
    assert validate({**values, "model": {**values["model"], "mode": "full"}}, schema)
    assert validate({**values, "data": {"kind": "digits"}}, schema)
    assert validate({}, schema) == []
    only_tables = {"preprocessing"}
    both = [set(schemas[name]["properties"]) for name in FLOWS]
    assert both[0] - both[1] == only_tables and both[1] < both[0]


def test_a_kind_that_is_clicked_stays_chosen(schema):
    for place, field in leaves(schema):
        members = alternatives(schema, field)
        for at, member in enumerate(members):
            fields = member["properties"]
            # Lists and texts start as their default too; free mappings as an empty editor.
            filled = {name: one["default"] for name, one in fields.items() if "default" in one}
            free = {name for name, one in fields.items() if one.get("type") == "object"}
            value = {**filled, **dict.fromkeys(free)}
            assert choose(value, members) == at, (place, member["title"])


def test_a_value_out_of_bounds_is_refused_at_its_field(schemas):
    schema, values = of_file(schemas, CONFIGS[0])
    values["strategy"] = {"kind": "fedprox", "server_learning_rate": 1.0, "mu": -1}
    (error,) = validate(values, schema)
    assert list(error.path) == ["strategy", "mu"]
    assert error.message == "-1 is less than the minimum of 0"


def test_the_form_of_statistics_says_what_each_field_is():
    from flows.federated_statistics import federated_statistics

    schema = parameter_schema(federated_statistics).model_dump_for_openapi()
    is_valid_schema(schema)
    silent = [
        place
        for place, field in leaves(schema)
        if not (field.get("title") and field.get("description")) and "$ref" not in field
    ]
    assert silent == [] and validate({}, schema) == []
    (error,) = validate({"statistics": {"bins": 64}}, schema)
    assert list(error.path) == ["statistics", "bins"]


def test_the_form_of_a_trade_off_says_what_each_field_is(trade_off_schema):
    is_valid_schema(trade_off_schema)
    assert '"oneOf"' not in json.dumps(trade_off_schema)
    silent = [
        place
        for place, field in leaves(trade_off_schema)
        if not (field.get("title") and field.get("description")) and "$ref" not in field
    ]
    assert silent == []
    (error,) = validate({"grid": {"epsilons": [1, -2]}}, trade_off_schema)
    assert list(error.path) == ["grid", "epsilons", 1]
    assert validate({"grid": {"reference": {"kind": "none"}}}, trade_off_schema) == []


def test_the_server_accepts_the_shipped_trade_offs(trade_off_schema):
    shipped = [one for one in declared() if flow_of(one) == "trade-off" and "build" in one]
    assert len(shipped) == 2
    for entry in shipped:
        values = parameters_of(entry)
        assert values["grid"]["reference"]["changes"] == {"training.steps": 20}
        assert validate(values, trade_off_schema) == []


def test_a_reference_that_is_clicked_stays_chosen(trade_off_schema):
    test_a_kind_that_is_clicked_stays_chosen(trade_off_schema)


def test_a_privacy_audit_takes_every_section_that_the_attacked_training_reads():
    from fedcore.config import RunConfig
    from flows.audit_privacy import audit_privacy

    schema = parameter_schema(audit_privacy).model_dump_for_openapi()
    is_valid_schema(schema)
    assert [
        place
        for place, field in leaves(schema)
        if not (field.get("title") and field.get("description")) and "$ref" not in field
    ] == []
    assert {*RunConfig.model_fields} - {*schema["properties"]} == {
        *("version", "name", "participation", "aggregation", "evaluation", "registry"),
        *("approvals", "engine", "speed"),
    }
