"""A plan without a row: the same model, round by round, as with all rows in one process."""

import secrets
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedcore.audit.audit import audit
from fedcore.chain import Chain
from fedcore.config import make_config
from fedcore.data.dataset import Dataset, Split
from fedcore.data.heart import HOSPITALS, HeartDisease
from fedcore.engines.in_process import InProcessEngine
from fedcore.execute import execute
from fedcore.federation import CENTRAL
from fedcore.outcomes import ClientUpdate, Done
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.rounds import run_rounds
from fedcore.run import conclude
from fedcore.sites.description import Description, describe, read_description
from fedcore.sites.holding import Shelf, prepare_data
from fedcore.sites.inquiry import read_inquiry, read_preparation
from fedcore.sites.planning import SitesDiffer, inquiries, plan_of_sites, preparations
from fedcore.sites.shared import audit_sites
from fedcore.store import Store
from fedcore.task import Task, TaskKind

SALT = "5a" * 32
SECTIONS = {
    "data": {"kind": "heart_disease"},
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
    "rounds": {"count": 2},
    "evaluation": {"every": 2, "splits": ["test"]},
}


@dataclass(frozen=True)
class Site:
    """A site in a folder of its own."""

    name: str
    dataset: Dataset
    shelf: Shelf
    secret: bytes


class SitesEngine:
    """Each job at the site that it names; only its update comes back."""

    def __init__(self, sites, store, cache):
        self.sites, self.store, self.cache = {site.name: site for site in sites}, store, cache

    def run(self, jobs):
        for job in jobs:
            shelf = self.sites[job.client].shelf
            shelf.store.put(self.store.get(job.base), job.base.kind)
            local = replace(job, data=shelf.resolve(job.data.digest))
            outcome = execute(local, shelf.store, self.cache / job.client)
            assert isinstance(outcome, Done), outcome
            if isinstance(outcome.result, ClientUpdate):
                self.store.put(shelf.store.get(outcome.result.delta), "delta")
            yield job, replace(outcome, key=job.key)


def table(seed=0, sizes=(40, 9, 25, 14), shared=True):
    """Rows of four owners in mixed order; some stand at two owners or in two splits."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, share in (("train", 1.0), ("val", 0.5), ("test", 0.5)):
        owners = np.concatenate([np.full(int(n * share), f"site-{k}") for k, n in enumerate(sizes)])
        owners = rng.permutation(owners)
        at = np.array([int(owner[-1]) for owner in owners])
        inputs = rng.normal(at[:, None], 1 + at[:, None], size=(len(at), 3)).astype(np.float32)
        targets = (inputs.sum(axis=1) + rng.normal(size=len(at)) > 3).astype(np.int64)
        splits[name] = Split(inputs, targets, owners)
    if shared:
        train, val, test = splits["train"], splits["val"], splits["test"]
        of = {
            s: [np.flatnonzero(p.owners == f"site-{k}") for k in range(4)]
            for s, p in splits.items()
        }
        copy = [
            (train, of["train"][3][0], train, of["train"][0][0]),  # at two owners
            (train, of["train"][2][1], train, of["train"][0][1]),
            (train, of["train"][2][2], train, of["train"][0][1]),  # at one of them twice
            (train, of["train"][0][2], test, of["test"][2][0]),  # in another's test rows
            (train, of["train"][1][0], test, of["test"][1][0]),  # in its own test rows
            (train, of["train"][2][5], val, of["val"][0][1]),
            (val, of["val"][3][0], test, of["test"][0][1]),
            (val, of["val"][2][0], test, of["test"][2][1]),
            (
                train,
                of["train"][3][1],
                val,
                of["val"][2][0],
            ),  # val gives way to test, train to both
        ]
        for target, to, source, frm in copy:
            target.inputs[to] = source.inputs[frm]
    task = Task(TaskKind.BINARY, ("no", "yes"))
    return Dataset("tiny", task, splits, {"kind": "table", "names": ["x", "y", "z"]})


def own(joint, owner):
    """What one owner has, and no more."""
    parts = {
        name: part.take(np.flatnonzero(part.owners == owner)) for name, part in joint.splits.items()
    }
    return replace(joint, splits={name: part for name, part in parts.items() if len(part)})


def sites_of(folder, datasets):
    return [
        Site(name, dataset, Shelf(Store(folder / name)), secrets.token_bytes(32))
        for name, dataset in datasets.items()
    ]


def describe_all(config, sites, drop=None):
    """Asked and answered as JSON."""
    asked = inquiries(config, [site.name for site in sites], SALT, drop or {})
    found = []
    for site in sites:
        inquiry = read_inquiry(asked[site.name].to_json())
        said = describe(site.dataset, site.name, inquiry, secret=site.secret)
        found.append(read_description(said.to_json(), site.name))
    return found


def plan_and_prepare(config, sites, store):
    report, drop = audit_sites(describe_all(config, sites), config.audit)
    assert report.passed
    final = describe_all(config, sites, drop)
    for name, preparation in preparations(config, final, SALT, drop).items():
        site = next(site for site in sites if site.name == name)
        asked = read_preparation(preparation.to_json())
        prepare_data(site.dataset, name, asked, secret=site.secret, shelf=site.shelf)
    return plan_of_sites(config, final, store), report


def finish(plan, store, engine):
    chain = Chain(store, "run")
    chain.begin(plan.header())
    for _ in run_rounds(plan, chain, engine, lambda event: None):
        pass
    return conclude(plan, chain, engine)


def run_both(tmp_path, joint, datasets, **changes):
    config = make_config(SECTIONS, changes)
    here = Store(tmp_path / "joint")
    partition = make_partition(
        joint, config.partition, config.seed, audit(joint, config.audit).exclusions
    )
    plan = prepare(config, joint, partition, here)
    expected = finish(plan, here, InProcessEngine(here, tmp_path / "cache"))
    sites, store = sites_of(tmp_path, datasets), Store(tmp_path / "coordinator")
    sited, report = plan_and_prepare(config, sites, store)
    result = finish(sited, store, SitesEngine(sites, store, tmp_path / "site-cache"))
    assert [r.model for r in result.records] == [r.model for r in expected.records]
    assert result.final_digest == expected.final_digest and result.scores is None
    for site in sites:
        blobs = plan.federation.clients[site.name].blobs
        named = sited.federation.clients[site.name].blobs
        assert {s: site.shelf.resolve(ref.digest) for s, ref in named.items()} == blobs
        assert not {ref.digest for ref in named.values()} & {ref.digest for ref in blobs.values()}
    measured = result.records[-1].metrics["test"]["clients"]
    assert measured == expected.records[-1].metrics["test"]["clients"]
    return plan, sited, report


@pytest.mark.parametrize(("scope", "rounds"), [("federation", 2), ("client", 1), ("none", 1)])
def test_the_same_model_as_with_all_rows_in_one_place(tmp_path, scope, rounds):
    joint = table()
    datasets = {f"site-{k}": own(joint, f"site-{k}") for k in range(4)}
    plan, sited, report = run_both(
        tmp_path,
        joint,
        datasets,
        **{"preprocessing.standardise": scope, "seed": 7, "rounds.count": rounds},
    )
    expected = audit(joint, plan.config.audit)
    assert (
        {s: len(at) for s, at in report.dropped.items()}
        == {s: len(at) for s, at in expected.dropped.items()}
        == {"train": 7, "val": 2}
    )
    assert sited.initial == plan.initial and sited.class_weights == plan.class_weights
    assert sited.scaling == ({} if scope == "client" else plan.scaling)
    assert sited.from_header(sited.header()).header() == sited.header()


@pytest.mark.slow
def test_heart_disease_at_four_hospitals(fedloom_data, tmp_path):
    """Each hospital has its own file and no other; one row is in train and test."""
    datasets = {}
    for hospital in HOSPITALS:
        folder = tmp_path / "files" / hospital.owner
        (folder / "heart").mkdir(parents=True)
        shutil.copy(fedloom_data / "heart" / hospital.file, folder / "heart")
        own_rows = HeartDisease(download=False, hospitals=(hospital.owner,))
        datasets[hospital.owner] = own_rows.load(folder)
    joint = HeartDisease(download=False).load(fedloom_data)
    _, sited, report = run_both(tmp_path, joint, datasets)
    assert report.dropped == {"train": (0,)}
    assert CENTRAL in sited.scaling and sited.federation.central == {}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("world")
    config = make_config(SECTIONS, {"audit.remedy": "accept"})
    joint = table(shared=False)
    sites = sites_of(tmp_path, {f"site-{k}": own(joint, f"site-{k}") for k in range(4)})
    return config, sites, describe_all(config, sites), Store(tmp_path / "coordinator")


@pytest.fixture
def described(world):
    config, sites, said, store = world
    return config, sites, [*said], store


def test_no_name_or_row_of_the_plan_is_a_plain_digest(described):
    config, sites, said, store = described
    text = str(plan_of_sites(config, said, store).header()) + str([one.to_json() for one in said])
    for site in sites:
        assert site.secret.hex() not in text and site.dataset.fingerprint not in text
        for digest in audit_digests(site.dataset):
            assert digest not in text and digest[:32] not in text


def audit_digests(dataset):
    from fedcore.audit.table import sample_table

    return sample_table(dataset)["digest"]


def test_names_depend_on_the_secret_the_rows_and_the_scaling(described):
    config, sites, said, store = described
    names = [plan_of_sites(config, said, store).federation.clients["site-0"].blobs["test"].digest]
    for changes in ({"preprocessing.standardise": "none"}, {"preprocessing.standardise": "client"}):
        other = make_config(SECTIONS, {"audit.remedy": "accept", **changes})
        again = plan_of_sites(other, describe_all(other, sites), store)
        names.append(again.federation.clients["site-0"].blobs["test"].digest)
    strangers = [replace(sites[0], secret=secrets.token_bytes(32)), *sites[1:]]
    again = plan_of_sites(config, describe_all(config, strangers), store)
    names.append(again.federation.clients["site-0"].blobs["test"].digest)
    assert len(set(names)) == 4
    # Another training row changes what the site's own rows scale by, so the test rows' name too.
    fewer = own(table(shared=False, sizes=(39, 9, 25, 14)), "site-0")
    changed = replace(
        sites[0],
        dataset=replace(fewer, splits={**sites[0].dataset.splits, "train": fewer.splits["train"]}),
    )
    assert describe_all(config, [changed])[0].names["test"] != said[0].names["test"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"task": Task(TaskKind.BINARY, ("well", "ill"))}, "task"),
        ({"features": {"kind": "table", "names": ["x", "y", "w"]}}, "description of inputs"),
        ({"input_shape": (4,)}, "input shape"),
        ({"dataset": "other"}, "data set"),
    ],
)
def test_a_site_that_differs_is_refused_by_name(described, change, what):
    config, _, said, store = described
    said[2] = replace(said[2], **change)
    with pytest.raises(SitesDiffer, match=f"^site-2 has another {what} than most sites; all need"):
        plan_of_sites(config, said, store)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": {"kind": "iid"}}, "partition.kind='iid' divides rows, but sites hold their"),
        (
            {"evaluation": {"clients": False, "choose": "accuracy"}},
            "evaluation.clients=false measures nothing where there are no central data",
        ),
        ({"rounds": {"exclude_clients": ["nobody"]}}, r"names \['nobody'\]; the clients are"),
        ({"rounds": {"min_clients": 5}}, "min_clients=5 is more than the 4 clients"),
    ],
)
def test_settings_that_cannot_work_over_sites(described, changes, message):
    _, _, said, store = described
    with pytest.raises(ValueError, match=message):
        plan_of_sites(make_config({**SECTIONS, **changes}), said, store)


def test_moments_that_a_policy_withholds_are_missed_by_name(described):
    config, _, said, store = described
    said[1] = replace(said[1], moments=None)
    with pytest.raises(ValueError, match="site 'site-1' gave no moments of its rows"):
        plan_of_sites(config, said, store)


def test_a_site_that_did_not_drop_is_noticed(tmp_path):
    config, joint = make_config(SECTIONS), table()
    sites = sites_of(tmp_path, {f"site-{k}": own(joint, f"site-{k}") for k in range(4)})
    with pytest.raises(ValueError, match="site 'site-0' still has samples that another site holds"):
        plan_of_sites(config, describe_all(config, sites), Store(tmp_path / "coordinator"))


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "no site has described"), (("a", "a"), "site 'a' describes its data twice")],
)
def test_each_site_once(described, names, message):
    config, _, said, store = described
    with pytest.raises(ValueError, match=message):
        plan_of_sites(config, [replace(said[0], client=name) for name in names], store)


def test_a_description_is_a_value(described):
    said = described[2][0]
    assert isinstance(said, Description) and said.kind == "table"
    assert said.sizes == {"train": 40, "val": 20, "test": 20} and said.dropped == {}
