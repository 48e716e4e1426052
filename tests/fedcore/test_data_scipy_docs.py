import numpy as np

from fedcore.data.scipy_docs import AREAS, ScipyDocs, docstrings
from fedcore.data.text_bytes import unpack

SOURCE = '''
def fit(x):
    """Fit a line to points,
    as scipy.stats.linregress does.

    Parameters
    ----------
    x : array
    """


def short():
    """Too short."""


def _private():
    """Nobody is told what this function is good for."""


add_newdoc("gamma", """
    The gamma function of real and complex arguments.

    Returns
    -------
    scalar
    """)
'''


def test_openings_of_public_docstrings_without_the_area_in_them(tmp_path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(SOURCE)
    (tmp_path / "one.py").write_text(SOURCE)
    assert list(docstrings(tmp_path)) == [
        "Fit a line to points, as scipy.linregress does.",
        "The gamma function of real and complex arguments.",
    ]


def test_the_installed_release_has_every_area_in_every_split_and_no_text_twice() -> None:
    found = ScipyDocs().load()
    assert found.task.labels == tuple(AREAS.values()) and found.name == "scipy-docs"
    texts = [text for split in found.splits.values() for text in unpack(split.inputs)]
    assert len(texts) == len(set(texts)) > 1000
    for split in found.splits.values():
        assert set(np.unique(split.targets)) == set(range(len(AREAS)))
    sizes = {name: len(split) for name, split in found.splits.items()}
    assert sizes["test"] == round(0.2 * len(texts)) and sizes["val"] < sizes["test"]
    assert found.provenance["package"].startswith("scipy 1.")
