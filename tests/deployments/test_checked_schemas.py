import pytest
from jsonschema import SchemaError
from prefect.utilities.schema_tools import validation

from deployments.stack.checked_schemas import remember_checked_schemas


@pytest.fixture
def validator():
    """A class like Prefect's, so that this process's own stays as it is."""
    return validation._build_validator()


def test_a_right_schema_is_checked_once(validator, monkeypatch):
    looked = []
    check = validator.check_schema

    def counted(schema):
        looked.append(schema)
        check(schema)

    monkeypatch.setattr(validator, "check_schema", counted)
    remember_checked_schemas(validator)
    for _ in range(3):
        validator.check_schema({"type": "object"})
    assert looked == [{"type": "object"}]
    validator.check_schema({"type": "array"})
    assert len(looked) == 2


def test_a_wrong_schema_is_refused_every_time(validator):
    remember_checked_schemas(validator)
    for _ in range(2):
        with pytest.raises(SchemaError, match="'nonsense' is not valid"):
            validator.check_schema({"type": "nonsense"})


def test_prefect_checks_schemas_by_this_class(monkeypatch):
    monkeypatch.setattr(validation._VALIDATOR, "check_schema", lambda schema: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        validation.validate({}, {"type": "object"}, raise_on_error=True)
