"""Base models at a site: the last few of each run stay, and a run that is over leaves none."""

import numpy as np
import pytest

from fedcore.sites.base_models import KEPT, BaseModels
from fedcore.sites.folder import SiteFolder
from fedcore.store import Store


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    return SiteFolder(tmp_path)


def model(site, value):
    return site.store.put_arrays({"w": np.full(3, value, np.float32)}, "model")


def held(site, *models):
    return [site.store.holds(one) for one in models]


def test_the_last_few_that_were_used_stay(site):
    models = [model(site, value) for value in range(6)]
    for one in models[:5]:
        BaseModels(site, "run").use(one)  # as a session after another one does
    assert held(site, *models[:5]) == [False, False] + KEPT * [True]
    BaseModels(site, "run").use(models[2])  # asked for again: the oldest is now another
    BaseModels(site, "run").use(models[5])
    assert held(site, *models[2:]) == [True, False, True, True]


def test_a_run_that_is_over_leaves_no_model_and_takes_none_of_another_run(site):
    own, shared = (model(site, value) for value in range(2))
    for one in (own, shared):
        BaseModels(site, "run").use(one)
    BaseModels(site, "fork").use(shared)
    BaseModels(site, "run").forget()
    assert held(site, own, shared) == [False, True]
    for value in range(3, 3 + KEPT):
        BaseModels(site, "fork").use(model(site, value))
    assert held(site, shared) == [False]
    BaseModels(site, "never-began").forget()
    assert not (site.path / "runs" / "never-began").exists()


def test_a_note_that_is_damaged_keeps_everything(site):
    one = model(site, 1)
    BaseModels(site, "run").use(one)
    Store(site.run("run")).write("models.json", b"{broken")
    BaseModels(site, "run").use(model(site, 2))
    assert held(site, one) == [True]
