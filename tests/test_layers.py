"""Imports go down only, fedcore knows no orchestrator, and nothing is ever unpickled."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each package and what of ours it may import.
MAY_IMPORT = {
    "fedcore": set(),
    "expectations": {"fedcore"},
    "tasks": {"fedcore", "expectations"},
    "flows": {"fedcore", "expectations", "tasks"},
    "deployments": {"fedcore", "expectations", "tasks", "flows"},
}
ORCHESTRATORS = {"prefect", "mlflow", "great_expectations", "typer", "rich"}
UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve"}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute names of the modules a tree imports, wherever it does so, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node.lineno


def forbidden_imports(text: str, forbidden: set[str]) -> list[str]:
    return [
        f"line {line}: {name}"
        for name, line in imported(ast.parse(text))
        if name.split(".")[0] in forbidden
    ]


def unpickling_calls(text: str) -> list[str]:
    """Calls that read a pickle under another name: torch.load, numpy's allow_pickle."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and (
            ast.unparse(node.func) in {"torch.load", "torch.save", "pd.read_pickle"}
            or any(
                word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
                for word in node.keywords
            )
        )
    ]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_down_only(package):
    files = sources(package)
    assert files, f"no sources in {package}"
    forbidden = MAY_IMPORT.keys() - MAY_IMPORT[package] - {package}
    if package == "fedcore":
        forbidden |= ORCHESTRATORS
    found = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := forbidden_imports(path.read_text(), forbidden))
    }
    assert found == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_nothing_is_pickled(package):
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sources(package)
        if (
            lines := forbidden_imports(path.read_text(), UNPICKLERS)
            + unpickling_calls(path.read_text())
        )
    }
    assert found == {}


def test_no_flow_or_task_file_is_named_after_a_library():
    # Prefect puts a flow file's folder first on sys.path when it is loaded by path.
    libraries = set(packages_distributions()) | set(sys.stdlib_module_names)
    named = [path for package in ("flows", "tasks") for path in sources(package)]
    assert [path.name for path in named if path.stem in libraries - {"__init__"}] == []


def test_every_folder_of_sources_is_a_regular_package():
    # A regular package is found before any namespace folder of the same name elsewhere.
    folders = {path.parent for package in MAY_IMPORT for path in sources(package)}
    assert [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").exists()] == []


def test_tests_are_not_a_package():
    # An __init__.py in tests/flows would make `import flows` find the tests.
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize(
    "text",
    ["import prefect", "def f():\n    from prefect.flows import Flow", "from tasks import x"],
)
def test_the_check_sees_imports_in_any_place(text):
    assert forbidden_imports(text, {"prefect", "tasks"})


@pytest.mark.parametrize("text", ["torch.load(p)", "np.load(p, allow_pickle=True)"])
def test_the_check_sees_hidden_unpickling(text):
    assert unpickling_calls(text)
    assert not unpickling_calls("np.load(p, allow_pickle=False)")
