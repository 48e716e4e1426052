"""What privacy audits find with and without differential privacy, on Fashion-MNIST (else MNIST).

    python -m benchmarks.privacy_audits

One client of a planned federated run is attacked four times: trained without privacy, with clipped
gradients alone, privately, and privately with a tenth of the noise it claims. Each seed takes about
two minutes on one core; what is measured is kept in ``--store``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import arguments
from benchmarks.report import spread, write_report
from fedcore.attacks.audits import Inversion, inversion_audit, membership_audit, one_run_audit
from fedcore.attacks.client import AttackedClient, attacked_client
from fedcore.attacks.picture import reconstruction_picture
from fedcore.config import RunConfig, make_config
from fedcore.data.dataset import Dataset
from fedcore.data.download import DataNotFound
from fedcore.digests import digest_bytes
from fedcore.numerics import code_digest
from fedcore.partition.make import make_partition
from fedcore.plan import prepare
from fedcore.privacy.accounting import epsilon
from fedcore.report.tables import markdown_table
from fedcore.store import Store
from fedcore.training.private.example_noise import ExampleNoise
from tasks.home import data_folder

SEEDS = (0, 1, 2)
DELTA = 1e-5
CANARIES = 1000
NOISE = ExampleNoise(clip_norm=1.0, noise_multiplier=4.0, sampling_rate=0.25, steps=20)
PRIVATE_LEARNING_RATE = 0.5
BASE: dict[str, Any] = {
    "partition": {"kind": "iid", "clients": 5},
    "model": {"kind": "logistic"},
    "training": {"kind": "loop", "batch_size": 16, "epochs": 5, "learning_rate": 0.01},
    "rounds": {"count": 5},
}
CNN = {"kind": "cnn_tanh"}
SOURCES = ("fashion_mnist", "mnist")
ARMS: Mapping[str, Callable[[AttackedClient], AttackedClient]] = {
    "no DP": lambda client: client,
    "clipping alone": lambda client: private(client).with_noise(0),
    "DP": lambda client: private(client),
    "DP, a tenth of the noise": lambda client: private(client).with_noise(0.1),
}


def private(client: AttackedClient) -> AttackedClient:
    """The client with DP-SGD in every round."""
    return replace(
        client,
        rounds=tuple(
            replace(each, private=NOISE, learning_rate=PRIVATE_LEARNING_RATE)
            for each in client.rounds
        ),
    )


def claimed() -> float:
    """Epsilon at ``DELTA`` that the DP arm claims, and the arm with a tenth of its noise too."""
    steps = NOISE.steps * BASE["rounds"]["count"]
    return epsilon(NOISE.sampling_rate, NOISE.noise_multiplier, steps, DELTA).value


def load(seed: int) -> tuple[RunConfig, Dataset]:
    """The run's configuration and the first of the data sets that is on this machine."""
    for kind in SOURCES:
        data = {"kind": kind, "limit": 5600, "download": False}
        config = make_config({**BASE, "data": data, "seed": seed})
        try:
            return config, config.data.load(data_folder())
        except DataNotFound as missing:
            print(f"left out: {missing}")
    raise SystemExit("neither Fashion-MNIST nor MNIST is on this machine; set FEDLOOM_DATA.")


def clients(config: RunConfig, dataset: Dataset, store: Store) -> dict[str, AttackedClient]:
    """The run's first client with the linear model, and with the CNN."""
    partition = make_partition(dataset, config.partition, config.seed, {})
    found = {}
    for name, overrides in (("linear", {}), ("CNN", {"model": CNN})):
        values = {**config.model_dump(mode="json"), **overrides}
        plan = prepare(make_config(values), dataset, partition, store)
        first = plan.federation.ids[0]
        rows = plan.federation.load(store, first, "train")
        found[name] = attacked_client(plan, rows, first)
    return found


def secret_of(seed: int) -> bytes:
    """The auditor's and the client's secret: fixed, as this is a simulation and not private."""
    return bytes.fromhex(digest_bytes(f"benchmark {seed}".encode()))


def inversions(attacked: Mapping[str, AttackedClient], arm: str, seed: int) -> dict[str, Inversion]:
    """What one update shows of a row under an arm, for each model."""
    return {
        name: inversion_audit(ARMS[arm](client), secret=secret_of(seed), seed=seed, record=seed)
        for name, client in attacked.items()
    }


def measure(attacked: Mapping[str, AttackedClient], arm: str, seed: int) -> dict[str, Any]:
    """All audits of an arm with one seed."""
    client, secret = ARMS[arm](attacked["linear"]), secret_of(seed)
    how: dict[str, Any] = {"delta": DELTA, "canaries": CANARIES, "secret": secret, "seed": seed}
    return {
        "one_run": {
            "updates": asdict(one_run_audit(client, sees="updates", **how)),
            "model": asdict(one_run_audit(client, sees="model", **how)),
        },
        "lira": membership_audit(client, secret=secret, seed=seed).to_json(),
        "inversion": {
            name: asdict(found.likeness) for name, found in inversions(attacked, arm, seed).items()
        },
    }


def kept(seed: int, folder: Path) -> tuple[dict[str, Any], dict[str, AttackedClient]]:
    """The numbers of a seed, each arm measured once by the same sources; and who was attacked."""
    config, dataset = load(seed)
    attacked = clients(config, dataset, Store(folder / "store"))
    arms = {}
    for number, arm in enumerate(ARMS):
        path = folder / f"privacy-audits-{seed}-{number}-{code_digest()[:12]}.json"
        if not path.exists():
            path.write_text(json.dumps(measure(attacked, arm, seed)), encoding="utf-8")
        arms[arm] = json.loads(path.read_text(encoding="utf-8"))
        print(f"seed {seed}, {arm}: done", flush=True)
    about = {"seed": seed, "data": dataset.name, "rows": len(attacked["linear"].rows)}
    return {**about, "config": config.digest, "arms": arms}, attacked


def picture(found: Mapping[str, Mapping[str, Inversion]]) -> bytes:
    """The record, and what each arm's update shows of it: linear model above, CNN below."""
    models = ("linear", "CNN")
    originals = [found["no DP"][name].original for name in models]
    return reconstruction_picture(
        originals,
        {arm: [each[name].reconstruction for name in models] for arm, each in found.items()},
        low=float(min(image.min() for image in originals)),
        high=float(max(image.max() for image in originals)),
        captions={
            arm: [f"{name}: cosine {each[name].likeness.cosine:.2f}" for name in models]
            for arm, each in found.items()
        },
    )


def checks(seeds: list[dict[str, Any]], claim: float) -> list[list[Any]]:
    """What was asked of the audits, what the worst seed gave, and whether that is it."""

    def values(arm, *path):
        found = []
        for seed in seeds:
            value = seed["arms"][arm]
            for key in path:
                value = value[key]
            found.append(value)
        return found

    def bound(arm):
        return values(arm, "one_run", "updates", "epsilon")

    def auc(arm):
        return values(arm, "lira", "auc", "estimate")

    def cosine(arm):
        return values(arm, "inversion", "linear", "cosine")

    asked = [
        ("no DP: one-run bound at least 3", min(bound("no DP")), math.inf, 3),
        ("no DP: LiRA AUC at least 0.6", min(auc("no DP")), math.inf, 0.6),
        ("no DP: linear inversion cosine at least 0.99", min(cosine("no DP")), math.inf, 0.99),
        (f"DP: bound at most the claim, {claim:.2f}", max(bound("DP")), claim, 0),
        ("DP: LiRA AUC under 0.56", max(auc("DP")), 0.56, 0),
        (
            "a tenth of the noise: bound above the claim",
            min(bound("DP, a tenth of the noise")),
            math.inf,
            claim,
        ),
        ("clipping alone: bound above the claim", min(bound("clipping alone")), math.inf, claim),
        (
            "clipping alone: linear inversion cosine at least 0.99",
            min(cosine("clipping alone")),
            math.inf,
            0.99,
        ),
    ]
    return [[what, found, "yes" if low <= found <= high else "**no**"]
            for what, found, high, low in asked]  # fmt: skip


def arm_row(arm: str, seeds: list[dict[str, Any]]) -> list[Any]:
    """One line of the table of numbers: means and standard deviations over seeds."""
    found = [seed["arms"][arm] for seed in seeds]

    def over(*path):
        each = []
        for value in found:
            for key in path:
                value = value[key]
            each.append(value)
        return spread([float(value) for value in each])

    return [
        arm,
        over("one_run", "updates", "epsilon"),
        over("one_run", "model", "epsilon"),
        over("lira", "auc", "estimate"),
        over("lira", "tpr", "0.001", "estimate"),
        over("lira", "tpr", "0.01", "estimate"),
        over("inversion", "linear", "cosine"),
        over("inversion", "CNN", "cosine"),
        over("inversion", "CNN", "ssim"),
        spread([float(np.clip(v["inversion"]["CNN"]["psnr"], 0, 99)) for v in found]),
    ]


def main() -> None:
    """Measures every seed and writes ``reports/privacy-audits``."""
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS, help="which to measure")
    options = parser.parse_args()
    options.store.mkdir(parents=True, exist_ok=True)
    measured = [kept(seed, options.store) for seed in options.seeds]
    seeds, (first, attacked) = [value for value, _ in measured], measured[0]
    claim = claimed()
    options.reports.mkdir(parents=True, exist_ok=True)
    shown = {arm: inversions(attacked, arm, first["seed"]) for arm in ARMS}
    (options.reports / "privacy-audits.png").write_bytes(picture(shown))
    header = [
        "training",
        "bound, from updates",
        "bound, from the model",
        "LiRA AUC",
        "TPR at 0.1 %",
        "TPR at 1 %",
        "inversion, linear: cosine",
        "CNN: cosine",
        "SSIM",
        "PSNR (dB)",
    ]
    body = [
        f"One client with {first['rows']} rows of {first['data']}, a linear model, 5 rounds. DP: "
        f"clip {NOISE.clip_norm:g}, noise multiplier {NOISE.noise_multiplier:g}, sampling rate "
        f"{NOISE.sampling_rate:g}, {NOISE.steps} steps a round: epsilon {claim:.2f} at delta "
        f"{DELTA:g}. One run with {CANARIES} canaries, bounds at 95 %; LiRA with 24 models on 1000 "
        f"of the rows; inversion of one update on one record. Seeds "
        f"{', '.join(str(seed['seed']) for seed in seeds)}: mean ± standard deviation.",
        markdown_table(header, [arm_row(arm, seeds) for arm in ARMS]),
        "## What was asked, and the worst seed",
        markdown_table(["asked", "worst", "reached"], checks(seeds, claim)),
        "![A record and what one update shows of it](privacy-audits.png)",
    ]
    data = {"claimed": claim, "delta": DELTA, "canaries": CANARIES, "seeds": seeds}
    write_report(options.reports, "privacy-audits", "Privacy audits", body, data)


if __name__ == "__main__":
    main()
