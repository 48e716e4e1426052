"""A run over sites: sessions with folders of their own, met at a mailbox."""

import shutil

import pytest

from fedcore.config import make_config
from fedcore.data.heart import HOSPITALS, HeartDisease
from fedcore.engines.in_process import InProcessEngine
from fedcore.run import run_federated
from fedcore.sites.session import Session
from fedcore.store import Store

SECTIONS = {
    "data": {"kind": "heart_disease", "download": False},
    "partition": {"kind": "by_owner"},
    "audit": {"remedy": "drop-from-train"},
    "model": {"kind": "logistic"},
    "training": {
        "kind": "loop",
        "batch_size": 8,
        "steps": 3,
        "learning_rate": 0.05,
        "class_weights": "federation",
    },
    "strategy": {"kind": "fedadam", "server_learning_rate": 0.05},
    "rounds": {"count": 3, "min_clients": 4},
    "evaluation": {"splits": ["test"]},
}


@pytest.fixture
def hospitals(fedloom_data, tmp_path):
    """Site -> its data settings and the folder with its own file alone."""
    data = {}
    for hospital in HOSPITALS:
        folder = tmp_path / "files" / hospital.owner
        (folder / "heart").mkdir(parents=True)
        shutil.copy(fedloom_data / "heart" / hospital.file, folder / "heart")
        data[hospital.owner] = (
            HeartDisease(download=False, hospitals=(hospital.owner,)),
            folder,
        )
    return data


def test_four_hospitals_give_the_model_of_one_process(
    fedloom_data, hospitals, tmp_path, make_world, attended
):
    here = Store(tmp_path / "here")
    engine = InProcessEngine(here, tmp_path / "cache")
    config = make_config(SECTIONS)
    _, alone = run_federated(
        config, store=here, engine=engine, run_id="run", data_folder=fedloom_data
    )
    world = make_world(hospitals)
    sessions = [Session(site, "run") for site in world.sites.values()]
    with attended(*sessions):
        _, result = world.run(world.config(**{**SECTIONS}))
    assert [r.model for r in result.records] == [r.model for r in alone.records]
    assert result.final_digest == alone.final_digest
    assert all(one.closed for one in sessions)
