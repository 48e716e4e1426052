"""The documentation inside the package SciPy as labelled texts: which area is a function of?

The opening of each docstring of a public function or class, up to its list of parameters. SciPy's
sources are read, nothing of it is imported. SciPy is under the BSD licence (3 clauses).
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from fedcore.data.dataset import Dataset, Split
from fedcore.data.same_text import same_texts
from fedcore.data.splits import Limit, TestFraction, ValFraction, hold_out, limited
from fedcore.data.text_bytes import MostBytes, pack
from fedcore.settings import Settings
from fedcore.task import Task, TaskKind

AREAS = {
    "ndimage": "image processing",
    "linalg": "linear algebra",
    "optimize": "optimisation",
    "signal": "signal processing",
    "special": "special functions",
    "stats": "statistics",
}
_SHORTEST = 20  # characters; what is shorter says nothing
_PARAMETERS = re.compile(r"\n(Parameters|Returns|Attributes|Notes|Methods)\n-+\n")
_MODULE = re.compile(r"\bscipy\.\w+")  # would name the area


class ScipyDocs(Settings, title="SciPy documentation"):
    """What about 1300 functions of SciPy do, of six areas; the texts are inside that package."""

    kind: Literal["scipy_docs"] = "scipy_docs"
    test_fraction: TestFraction = 0.2
    val_fraction: ValFraction = 0.1
    most_bytes: MostBytes = 1024
    limit: Limit = None

    def load(self, folder: Path | None = None) -> Dataset:
        """The data set; ``folder`` is not looked at. Another release of SciPy has other texts.

        Texts are in the order of areas, files and lines; of equal ones the first is taken.
        """
        found = {area: list(docstrings(_sources() / area)) for area in AREAS}
        texts = [text for area in AREAS for text in found[area]]
        targets = np.repeat(np.arange(len(AREAS)), [len(found[area]) for area in AREAS])
        first = np.sort(np.unique(same_texts(texts), return_index=True)[1])
        everything = Split(pack([texts[at] for at in first], self.most_bytes), targets[first])
        task = Task(TaskKind.MULTICLASS, tuple(AREAS.values()))
        splits = hold_out(
            {"train": everything},
            task,
            name=self.kind,
            val_fraction=self.val_fraction,
            test_fraction=self.test_fraction,
        )
        return Dataset(
            name="scipy-docs",
            task=task,
            splits=limited(splits, self.limit),
            features={"kind": "text", "most_bytes": self.most_bytes},
            provenance={
                "source": "https://github.com/scipy/scipy",
                "licence": "BSD-3-Clause",
                "files": [],
                "package": f"scipy {metadata.version('scipy')}",
            },
        )


def docstrings(folder: Path) -> Iterator[str]:
    """The openings of the docstrings in a package's sources, its tests left out."""
    for path in sorted(folder.rglob("*.py")):
        if "tests" not in path.parts:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                text = _PARAMETERS.split(_documentation(node) or "")[0]
                text = _MODULE.sub("scipy", " ".join(text.split()))
                if len(text) >= _SHORTEST:
                    yield text


def _documentation(node: ast.stmt) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
        return ast.get_docstring(node)
    # Of compiled functions: add_newdoc("name", "text").
    match node:
        case ast.Expr(ast.Call(ast.Name("add_newdoc"), [_, ast.Constant(str(text))])):
            return inspect.cleandoc(text)
    return None


def _sources() -> Path:
    spec = importlib.util.find_spec("scipy")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("data kind='scipy_docs' reads the package scipy, which is not installed.")
    return Path(spec.submodule_search_locations[0])
