"""A parameter schema that the server has found right once is not checked again.

For every run that is asked for, Prefect 3.8.8 checks the deployment's schema itself, before the
parameters by it (``prefect/utilities/schema_tools/validation.py``): a third of a second for ours,
in which the server does nothing else, within a transaction that has read. On SQLite that
transaction is then refused ('Service Unavailable') if anything else was written meanwhile. The
check of the parameters takes 8 ms.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from prefect.utilities.schema_tools import validation

MOST = 256


def remember_checked_schemas(validator: Any = validation._VALIDATOR) -> None:
    """Make a validator class of jsonschema remember the schemas that it has found right."""
    check = validator.check_schema
    found_right: set[bytes] = set()

    def check_once(schema: Any, *args: Any, **options: Any) -> None:
        text = json.dumps(schema, sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).digest()
        if key in found_right:
            return
        check(schema, *args, **options)
        if len(found_right) >= MOST:
            found_right.clear()
        found_right.add(key)

    validator.check_schema = check_once
