"""What the report on Medical Abstracts says of made-up scores."""

import json

from benchmarks.harness import Measured, config_of
from benchmarks.medical_abstracts import Once, report
from benchmarks.medical_cases import (
    CASES,
    CENTRAL,
    CONFIG,
    FEDERATED,
    PRIVATE_CASES,
    PROBE,
    of_fold,
)

FROZEN = "federated, frozen A"


def measured(accuracy: float, **more) -> Measured:
    metrics = {"test": {"overall": {"accuracy": accuracy}, "clients": {}}}
    return Measured("m", 0, "c", "f", 1, metrics, {}, None, None, 1.0, **more)


def line(text: str, name: str, number: int = 0) -> str:
    return [row for row in text.splitlines() if row.startswith(f"| {name} |")][number]


def test_each_case_is_told_what_was_asked_of_it(tmp_path):
    runs = {
        PROBE: [measured(0.60), measured(0.62)],
        CENTRAL: [measured(0.60), measured(0.60)],
        FEDERATED: [
            measured(0.59, bytes_up=156_988, adapter_errors={16: 0.25, 17: 0.5}),
            measured(0.58, bytes_up=156_980, adapter_errors={16: 0.35, 17: 0.5}),
        ],
        FROZEN: [measured(one, adapter_errors={16: 1e-16}) for one in (0.60, 0.62)],
        "federated, epsilon 8": [measured(0.52)],
    }
    report(tmp_path, runs, Once(peaks={"plain": 100.0, "round": 131.0, "clients": 140.0}))
    text = (tmp_path / "medical-abstracts.md").read_text()
    assert "**2 of 5 folds are in.**" in text
    assert "97.5% of it | at least 97% | reached" in line(text, FEDERATED)
    assert "0.070 lost | less than 0.05 | missed" in line(text, "federated, epsilon 8")
    assert line(text, FEDERATED, 1).endswith("| -0.0250 | [-0.2156, +0.1656] | missed |")
    assert "+0.0000" in line(text, FROZEN, 1) and "reached" in line(text, FROZEN, 1)
    assert "156,988" in line(text, FEDERATED, 2) and "0.300, 0.500" in line(text, FEDERATED, 2)
    assert "under 1e-06" in line(text, FROZEN, 2)
    assert "1.31 of it; asked: at most 1.3, missed" in text
    data = json.loads((tmp_path / "medical-abstracts.json").read_text())
    assert [one["fold"] for one in data["cases"][FEDERATED]["runs"]] == [0, 1]


def test_cases_are_shipped_settings_with_changes_and_each_fold_has_its_seed():
    for case in (CASES | PRIVATE_CASES).values():
        config = config_of(CONFIG, of_fold(case, 3))
        assert (config.seed, config.data.fold) == (3, 3)
        assert config.evaluation.every == config.rounds.count >= config.training.head_rounds
