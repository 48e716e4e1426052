"""Prefect reads where its server is when it is first imported: commands set that before."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys

from deployments.cli import {module}


def require_up():
    print("prefect" in sys.modules)
    sys.exit()


{module}.require_up = require_up
{module}.{call}
"""


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("controls", "pause('1c0076ac')"),
        ("controls", "cancel('1c0076ac')"),
        ("approve", "approve('1c0076ac', 'known')"),
    ],
)
def test_prefect_is_imported_once_the_stack_is_known(module, call):
    program = PROGRAM.format(module=module, call=call)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
