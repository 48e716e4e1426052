"""Which batch a promise is best kept with, and what runs have told together."""

import math

import pytest

from fedcore.config import make_config
from fedcore.privacy.accounting import spent
from fedcore.privacy.calibration import calibrate
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.suggest_for import overrides_of, sampling_of, suggest_for
from fedcore.privacy.suggestion import ENOUGH, smallest_epsilon, suggest
from fedcore.privacy.together import told_together
from fedcore.report.suggestion import as_options, suggestion_notes, suggestion_table

BATCHES = (20, 80, 320, 1000)


@pytest.fixture(scope="module")
def found():
    return suggest(3.0, 1e-5, 1000, 20, 50, batches=BATCHES, compute=50)


def test_each_batch_has_the_least_noise_that_keeps_the_promise(found):
    assert [one.batch for one in found.candidates] == list(BATCHES)
    for one in found.candidates:
        assert one.noise_multiplier == calibrate(3.0, 1e-5, one.batch / 1000, 50)
        assert one.step_noise == one.noise_multiplier / one.batch
        assert one.batch * one.same_work == pytest.approx(20 * 50, rel=0.1)
    noises = [one.step_noise for one in found.candidates]
    assert noises == sorted(noises, reverse=True)


def test_the_smallest_batch_with_enough_signal_is_taken(found):
    signals = {one.batch: one.signal for one in found.candidates}
    assert signals[80] < ENOUGH <= signals[320] < signals[1000] == 1.0
    assert found.recommended.batch == 320
    assert "smallest with 90% of the signal of all records" in found.reason


def test_work_is_bounded():
    bounded = suggest(3.0, 1e-5, 1000, 20, 50, batches=BATCHES, compute=2)
    assert bounded.recommended.batch == 20
    assert "largest within 2 times the work" in bounded.reason
    kept = suggest(3.0, 1e-5, 1000, 320, 50, batches=BATCHES, compute=2)
    assert kept.recommended.batch == 320 and "already" in kept.reason


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": 1001}, "batch=1001 must be from 1 to population=1000"),
        ({"compute": 0.5}, "compute=0.5 must be at least 1"),
        ({"epsilon": 0.0}, "epsilon=0.0 must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    given = {"epsilon": 3.0, "delta": 1e-5, "population": 1000, "batch": 20, "steps": 5, **values}
    with pytest.raises(ValueError, match=message):
        suggest(**given)


def test_the_smallest_epsilon_is_the_inverse():
    noise = calibrate(2.0, 1e-5, 0.1, 30)
    assert 1.99 <= smallest_epsilon(noise, 1e-5, 1000, 100, 30).value <= 2.0
    assert smallest_epsilon(0.0, 1e-5, 1000, 100, 30).value == math.inf


def test_a_configuration_is_read_as_the_accountant_reads_it():
    example = {"privacy": {"kind": "example", "epsilon": 3.0}, "rounds": {"count": 4}}
    by_epochs = make_config({**example, "training": {"kind": "loop", "batch_size": 30}})
    sampling = sampling_of(by_epochs, [100, 300, 900])  # the client in the middle
    assert vars(sampling) == {"of": "records", "population": 300, "batch": 30, "steps": 40}
    hides_clients = make_config(
        {
            "privacy": {"kind": "client", "epsilon": 3.0},
            "participation": {"kind": "poisson", "sampling_probability": 0.25},
            "evaluation": {"clients": False},
            "aggregation": {"weighting": "uniform"},
            "rounds": {"count": 4},
        }
    )
    sampling = sampling_of(hides_clients, [10] * 80)
    assert vars(sampling) == {"of": "clients", "population": 80, "batch": 20, "steps": 4}
    with pytest.raises(ValueError, match="kind=local has no batch to choose"):
        sampling_of(make_config({"privacy": {"kind": "local"}}), [10])
    with pytest.raises(ValueError, match="sizes has no client"):
        sampling_of(by_epochs, [])


def overridden(sections, sizes, **options):
    config = make_config(sections)
    sampling, found = suggest_for(config, sizes, **options)
    return overrides_of(config, found, found.candidates[-1]), sampling, found


def test_overrides_keep_the_number_of_steps():
    training = {"kind": "loop", "batch_size": 64, "epochs": 1}
    overrides, _, found = overridden(
        {"training": training, "rounds": {"count": 2}}, [128], epsilon=4.0
    )
    assert found.recommended.steps == 4
    assert overrides == {
        "privacy.kind": "example",
        "privacy.epsilon": 4.0,
        "training.batch_size": 128,
        "training.epochs": None,
        "training.steps": 2,
    }
    config = make_config({"training": training, "rounds": {"count": 2}}, overrides)
    assert sampling_of(config, [128]).steps == 4
    assert as_options(overrides).endswith("-o training.epochs=null -o training.steps=2")


def test_the_trainer_accumulates():
    overrides, _, found = overridden(
        {
            "training": {
                "kind": "trainer", "batch_size": 8, "accumulation": 2, "max_grad_norm": None,
                "steps": 3,
            },
            "privacy": {"kind": "example", "noise_multiplier": 1.0},
            "rounds": {"count": 1},
        },
        [70],
    )  # fmt: skip
    assert [one.batch for one in found.candidates] == [8, 16, 32, 64]
    assert found.epsilon == smallest_epsilon(1.0, 1e-5, 70, 16, 3).value
    assert overrides["training.accumulation"] == 8 and "training.steps" not in overrides
    assert overrides["privacy.noise_multiplier"] is None


def test_hidden_clients_are_sampled_otherwise():
    sections = {
        "privacy": {"kind": "client", "epsilon": 8.0},
        "participation": {"kind": "poisson", "sampling_probability": 0.5},
        "evaluation": {"clients": False},
        "aggregation": {"weighting": "uniform"},
        "rounds": {"count": 2},
    }
    overrides, _, _ = overridden(sections, [10] * 8)
    assert overrides == {"participation.kind": "everybody"}
    assert make_config(sections, overrides).participation.kind == "everybody"


def test_the_table_marks_one_row(found):
    table = suggestion_table(found, "records")
    marked = [line for line in table.splitlines() if "recommended" in line]
    assert len(marked) == 1 and marked[0].startswith("| **320** |")
    assert "Take 320 records in a step" in suggestion_notes(found, "records")[0]


STEP = SampledGaussian(0.1, 1.0, 20)


def test_runs_add_up():
    alone = spent([STEP], 1e-5).rdp
    assert told_together([{"a": [STEP]}], 1e-5) == pytest.approx(alone)
    twice = spent([STEP, STEP], 1e-5).rdp
    assert told_together([{"a": [STEP]}, {"b": [STEP]}], 1e-5) == pytest.approx(twice)
    assert alone < twice < 2 * alone
    assert told_together([], 1e-5) == pytest.approx(0, abs=1e-8)


def test_within_a_run_the_worst_client_counts():
    louder = SampledGaussian(0.2, 1.0, 20)
    run = {"quiet": [STEP], "loud": [louder]}
    assert told_together([run], 1e-5) == pytest.approx(spent([louder], 1e-5).rdp)
    assert told_together([{"a": [SampledGaussian(0.1, 0.0, 1)]}], 1e-5) == math.inf
