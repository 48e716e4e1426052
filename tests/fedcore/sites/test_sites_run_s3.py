"""A run over sites that meet in a bucket."""

import numpy as np
import pytest

from fedcore.data.arrays import Arrays
from fedcore.sites.session import Session

SECTIONS = {
    "model": {"kind": "logistic"},
    "training": {"kind": "loop", "batch_size": 8, "learning_rate": 0.05},
}


@pytest.fixture
def wards(tmp_path):
    """Two sites with 40 rows each."""
    rng, data = np.random.default_rng(0), {}
    settings = Arrays(
        path="own.npz", task="binary", inputs="x", targets="y", split="split", owner="owner"
    )
    for name in ("east", "west"):
        x = rng.normal(size=(40, 3)).astype(np.float32)
        y = (x[:, 0] + 0.3 * rng.normal(size=40) > 0).astype(np.int64)
        split = np.array((["train"] * 6 + ["val", "val", "test", "test"]) * 4)
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "own.npz", x=x, y=y, split=split, owner=np.full(40, name))
        data[name] = (settings, tmp_path / name)
    return data


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_a_bucket_gives_the_model_of_a_folder(wards, make_world, attended, tmp_path, s3):
    digests, left = [], []
    for place, url in (("folder", None), ("bucket", f"{s3}/a-run")):
        world = make_world(wards, at=tmp_path / place, mailbox=url)
        sessions = [Session(site, "run") for site in world.sites.values()]
        with attended(*sessions):
            _, result = world.run(world.config(**SECTIONS))
        assert all(one.closed for one in sessions)
        digests.append(result.final_digest)
        left.append({name.split("/")[0] for name in world.mailbox.place.names("")})
    assert digests[0] == digests[1]
    assert left == [{"to"}, {"to"}]  # what was said to the sites; the rest is cleared
