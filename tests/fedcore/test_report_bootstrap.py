"""Bootstrap intervals: coverage in a known case, pairing, strata, bad input."""

import numpy as np
import pytest

from fedcore import rng
from fedcore.evaluation import measure
from fedcore.report.bootstrap import Interval, bootstrap_interval, paired_bootstrap_difference
from fedcore.report.weighted import mean, weighted_metrics
from fedcore.task import Task, TaskKind

KINDS = [
    Task(TaskKind.BINARY, ("no", "yes")),
    Task(TaskKind.MULTICLASS, ("a", "b", "c")),
    Task(TaskKind.ORDINAL, ("0", "1", "2", "3")),
    Task(TaskKind.MULTILABEL, ("x", "y")),
    Task(TaskKind.REGRESSION, ("age",)),
]


def draw(task, num_examples, seed=3):
    generator = rng.stream(seed, "test", task.kind.value)
    logits = np.round(generator.normal(size=(num_examples, task.num_outputs)), 1)  # with ties
    if task.kind is TaskKind.REGRESSION:
        return logits, generator.normal(size=num_examples).astype(np.float32)
    size = (num_examples, len(task.labels)) if task.kind is TaskKind.MULTILABEL else num_examples
    high = 2 if task.kind is TaskKind.MULTILABEL else len(task.labels)
    return logits, generator.integers(high, size=size)


@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.kind.value)
def test_a_weighted_metric_is_the_metric_of_the_repeated_samples(task):
    logits, targets = draw(task, 60)
    counts = np.bincount(rng.stream(1, "rows").integers(60, size=60), minlength=60)
    slow = measure(task, np.repeat(logits, counts, axis=0), np.repeat(targets, counts, axis=0))
    fast = weighted_metrics(task, task.scores(logits), targets)
    assert {name: statistic(counts) for name, statistic in fast.items()} == pytest.approx(
        {name: slow[name] for name in fast}
    )


def covered(level, num_trials=150, num_examples=60, truth=0.7):
    """Share of trials whose interval holds the true accuracy."""
    generator = rng.stream(5, "coverage")
    hits = 0
    for _ in range(num_trials):
        right = generator.random(num_examples) < truth
        interval = bootstrap_interval(
            mean(right), num_examples, rng=generator, level=level, num_resamples=200
        )
        hits += interval.low <= truth <= interval.high
    return hits / num_trials


def test_coverage_is_the_nominal_one_and_another_level_has_another():
    # 150 trials: a standard error of 0.018 at 0.95 and 0.041 at 0.5.
    assert 0.89 < covered(0.95) <= 1.0
    assert 0.37 < covered(0.5) < 0.63


def test_the_width_is_that_of_the_normal_approximation():
    right = np.arange(2000) < 1400
    interval = bootstrap_interval(mean(right), 2000, rng=np.random.default_rng(0))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 2000)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)


def test_pairing_sees_a_small_difference_that_single_intervals_hide():
    generator = np.random.default_rng(1)
    baseline = generator.random(500) < 0.7
    better = baseline | (generator.random(500) < 0.08)
    paired = paired_bootstrap_difference(
        mean(better), mean(baseline), 500, rng=np.random.default_rng(2)
    )
    one, other = (
        bootstrap_interval(mean(right), 500, rng=np.random.default_rng(2))
        for right in (better, baseline)
    )
    assert paired.excludes_zero
    assert paired.low > 0
    assert one.low < other.high


def test_a_model_against_itself_is_exactly_zero():
    right = np.arange(50) % 3 == 0
    found = paired_bootstrap_difference(mean(right), mean(right), 50, rng=np.random.default_rng(0))
    assert found == Interval(0.0, 0.0, 0.0, 0.95)
    assert not found.excludes_zero


def test_the_same_stream_gives_the_same_interval_and_another_another():
    right = np.arange(90) % 4 > 0
    first, again, other = (
        bootstrap_interval(mean(right), 90, rng=rng.stream(seed, "b")) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_strata_keep_their_sizes():
    strata = np.array(["a"] * 30 + ["b"] * 70)
    share = bootstrap_interval(
        mean(strata == "a"), 100, rng=np.random.default_rng(0), strata=strata
    )
    assert (share.low, share.high) == (0.3, 0.3)
    free = bootstrap_interval(mean(strata == "a"), 100, rng=np.random.default_rng(0))
    assert free.low < 0.25


def test_undefined_resamples_do_not_count_and_are_told():
    task = KINDS[0]
    targets = np.array([1, 1] + [0] * 6)
    statistic = weighted_metrics(task, np.linspace(1, 0, 8)[:, None], targets)["auc"]
    found = bootstrap_interval(statistic, 8, rng=np.random.default_rng(0))
    assert found.undefined > 0
    stratified = bootstrap_interval(statistic, 8, rng=np.random.default_rng(0), strata=targets)
    assert stratified.undefined == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 1.0}, "level=1.0 must lie between 0 and 1"),
        ({"num_resamples": 10}, "num_resamples=10 is too few"),
        ({"num_examples": 0}, "num_examples=0"),
        ({"strata": np.zeros(3)}, "strata has 3 keys for 5 samples"),
        ({"statistic": lambda counts: float("nan")}, "undefined on the data"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    values = {"statistic": mean(np.ones(5)), "num_examples": 5, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**(values | arguments))


def test_scores_and_targets_must_pair_up():
    with pytest.raises(ValueError, match="4 scores for 5 targets"):
        weighted_metrics(KINDS[0], np.zeros((4, 1)), np.zeros(5))
