"""Training settings, schedules and device policy."""

import pytest
from pydantic import TypeAdapter, ValidationError

from fedcore.training.device import available_devices, choose_device
from fedcore.training.settings import (
    CosineSchedule,
    LoopSettings,
    TrainerSettings,
    TrainingSettings,
)

ADAPTER: TypeAdapter = TypeAdapter(TrainingSettings)


def test_a_round_is_one_epoch_unless_told_otherwise() -> None:
    assert (LoopSettings().epochs, LoopSettings().steps) == (1, None)
    assert (LoopSettings(steps=9).epochs, LoopSettings(steps=9).steps) == (None, 9)
    assert LoopSettings(epochs=3).epochs == 3
    values = LoopSettings(steps=9).model_dump(mode="json")
    assert ADAPTER.validate_python(values) == LoopSettings(steps=9)


def test_trainer_defaults_are_safe_on_a_cpu() -> None:
    trainer = TrainerSettings()
    assert (trainer.batch_size, trainer.eval_batch_size, trainer.accumulation) == (8, 8, 2)
    assert (trainer.epochs, trainer.weight_decay, trainer.warmup) == (1, 0.01, 0.05)
    assert (trainer.max_grad_norm, trainer.dtype, trainer.device) == (1.0, "float32", "cpu")
    assert trainer.learning_rate_at(1, 1, "head") == 5e-4
    assert trainer.learning_rate_at(1, 1, "last-block") == 1e-4
    assert trainer.learning_rate_at(1, 1) == 1e-4
    assert TrainerSettings(learning_rate=0.1).learning_rate_at(1, 1, "head") == 0.1


def test_the_cosine_starts_at_one_ends_at_its_factor_and_falls() -> None:
    settings = LoopSettings(learning_rate=2.0, schedule=CosineSchedule(final_factor=0.1))
    rates = [settings.learning_rate_at(number, 10) for number in range(1, 11)]
    assert rates[0] == 2.0
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)
    assert settings.learning_rate_at(1, 1) == 2.0


def test_a_horizon_of_its_own_leaves_earlier_rounds_alone_when_a_run_is_extended() -> None:
    schedule = CosineSchedule(rounds=10)
    assert [schedule.factor(r, 5) for r in range(1, 6)] == [
        schedule.factor(r, 10) for r in range(1, 6)
    ]
    assert schedule.factor(12, 12) == schedule.final_factor
    assert CosineSchedule().factor(5, 5) != CosineSchedule().factor(5, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "loop", "epochs": 1, "steps": 2}, "epochs=1 and steps=2 are both set"),
        ({"kind": "loop", "optimizer": "adamw", "momentum": 0.9}, "momentum=0.9 has no effect"),
        ({"kind": "loop", "learning_rate": 0}, "greater than 0"),
        ({"kind": "loop", "accumulation": 2}, "Extra inputs"),
        ({"kind": "lightning"}, "expected tags: 'loop', 'trainer'"),
        ({"kind": "loop", "augmentation": {"kind": "strong"}}, "'none', 'light'"),
        ({"kind": "loop", "schedule": {"kind": "steps"}}, "'constant', 'cosine'"),
        ({"kind": "trainer", "epochs": 0}, "greater than or equal to 1"),
    ],
)
def test_bad_settings_are_refused(values, message) -> None:
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(values)


@pytest.mark.parametrize(
    ("policy", "available", "device"),
    [
        ("cpu", {"cuda", "cpu"}, "cpu"),
        ("cuda", {"cuda", "cpu"}, "cuda"),
        ("mps", {"mps"}, "mps"),
        ("auto", {"cpu"}, "cpu"),
        ("auto", {"mps", "cpu"}, "mps"),
        ("auto", {"mps", "cuda", "cpu"}, "cuda"),
    ],
)
def test_devices_that_are_there_are_taken_without_a_word(policy, available, device) -> None:
    assert choose_device(policy, available) == (device, None)


def test_a_device_that_is_missing_means_the_cpu_and_a_warning() -> None:
    device, warning = choose_device("cuda", {"cpu", "mps"})
    assert device == "cpu"
    assert warning is not None
    assert "device='cuda' is not available here (found: cpu, mps)" in warning
    assert "cpu" in available_devices()


def test_the_schedule_begins_after_the_rounds_of_the_head() -> None:
    with pytest.raises(ValidationError, match=r"head_learning_rate=0\.1 has no effect"):
        LoopSettings(head_learning_rate=0.1)
    settings = LoopSettings(
        learning_rate=1.0,
        head_rounds=2,
        head_learning_rate=0.5,
        schedule=CosineSchedule(final_factor=0.0),
    )
    rates = [settings.learning_rate_at(number, 5) for number in range(1, 6)]
    assert rates == pytest.approx([0.5, 0.5, 1.0, 0.5, 0.0])
    rates = [LoopSettings(learning_rate=1.0, head_rounds=1).learning_rate_at(n, 2) for n in (1, 2)]
    assert rates == [1.0, 1.0]
