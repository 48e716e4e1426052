"""A grid of runs: its points, what each reaches, means and intervals over seeds."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from fedcore.audit.audit import audit
from fedcore.config import ConfigError, make_config
from fedcore.engines.in_process import InProcessEngine
from fedcore.events import EventType
from fedcore.privacy.owner import Owner
from fedcore.report.student import student_interval
from fedcore.report.trade_off import plot_trade_off, trade_off_notes, trade_off_table
from fedcore.store import Store
from fedcore.trade_off.measured import Measured, measure_point
from fedcore.trade_off.points import make_grid, points_of
from fedcore.trade_off.settings import GridSettings
from fedcore.trade_off.summary import summarise_grid

CONFIG = make_config(
    {
        "data": {"kind": "breast_cancer"},
        "partition": {"kind": "iid", "clients": 2},
        "model": {"kind": "logistic"},
        "training": {"kind": "loop", "batch_size": 64, "steps": 2, "learning_rate": 0.5},
        "privacy": {"kind": "example", "noise_multiplier": 1.0},
        "rounds": {"count": 2},
    }
)


def measured(epsilon, seed, accuracy, *, rate=None, val=None):
    scores = {"test": {"accuracy": accuracy, "loss": 1 - accuracy}}
    if val is not None:
        scores["val"] = {"accuracy": val, "loss": 1 - val}
    event = {"sampling_rate": 0.1, "noise_multiplier": 1.0, "steps": 5, "sampler": "poisson"}
    is_private = epsilon is not None
    events = {"a": [event]} if is_private else {}
    told = epsilon and 0.99 * epsilon
    return Measured("", epsilon, rate, seed, scores, told, told, is_private, events, "", "")


RUNS = [
    *(measured(None, seed, accuracy) for seed, accuracy in enumerate((0.95, 0.96, 0.97))),
    *(measured(1.0, seed, accuracy) for seed, accuracy in enumerate((0.90, 0.92, 0.91))),
    *(measured(8.0, seed, accuracy) for seed, accuracy in enumerate((0.94, 0.95, 0.96))),
]
GRID = GridSettings(epsilons=(8.0, 1.0))


def test_a_grid_is_all_epsilons_with_all_seeds():
    points = points_of(CONFIG, make_grid({"epsilons": [3, 1], "seeds": [5, 6]}))
    names = [point.name for point in points]
    assert names == [
        *("reference/seed-5", "epsilon-1/seed-5", "epsilon-3/seed-5"),
        *("reference/seed-6", "epsilon-1/seed-6", "epsilon-3/seed-6"),
    ]
    first, second = points[0].config, points[1].config
    assert first.privacy.kind == "none" and first.seed == 5
    assert (second.privacy.epsilon, second.privacy.noise_multiplier) == (1.0, None)
    assert second.evaluation.every == 2 and not second.evaluation.clients
    trained = {"exclude": {"privacy", "seed", "evaluation"}}
    assert second.model_dump(**trained) == CONFIG.model_dump(**trained)


def test_rates_and_the_reference_have_their_own_settings():
    grid = make_grid(
        {
            "epsilons": [2],
            "seeds": [0],
            "learning_rates": [1.0, 4.0],
            "reference.kind": "no_noise",
            "reference.learning_rates": [0.25],
            "reference.changes": {"training.steps": 7},
        }
    )
    reference, *private = points_of(CONFIG, grid)
    assert reference.name == "reference/rate-0.25/seed-0"
    assert reference.config.training.steps == 7
    assert reference.config.training.learning_rate == 0.25
    assert reference.config.privacy.noise_multiplier == 0
    assert reference.config.privacy.secret == "fixed"  # charges no ledger with infinity
    assert [point.config.training.learning_rate for point in private] == [1.0, 4.0]
    assert private[1].name == "epsilon-2/rate-4/seed-0"
    assert len(points_of(CONFIG, make_grid({"reference.kind": "none"}))) == 12


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ({"privacy": {"kind": "none"}}, {}, "privacy.kind=none has no epsilon to try"),
        ({}, {"epsilons": []}, "epsilons: Tuple should have at least 1 item"),
        ({}, {"seeds": [1, 1]}, r"seeds: \[1, 1\] names something twice"),
        ({}, {"epsilon": [1]}, "did you mean epsilons"),
        (
            {},
            {"reference.changes": {"training.epochs": 3}},
            "reference, seed 0, is not a valid.*epochs=3 and steps=2 are both set",
        ),
    ],
)
def test_what_cannot_be_is_refused(config, overrides, message):
    changed = make_config({**CONFIG.model_dump(mode="json"), **config})
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        points_of(changed, make_grid(overrides))


def test_student_agrees_with_scipy():
    values = [0.9, 0.93, 0.88, 0.91]
    found = student_interval(values, level=0.9)
    sem = np.std(values, ddof=1) / 2
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=sem)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert math.isnan(student_interval([0.5]).low)
    with pytest.raises(ValueError, match="values has nothing in it"):
        student_interval([])


def test_an_interval_of_a_few_seeds_covers_as_often_as_it_says():
    draw = np.random.Generator(np.random.PCG64(0))
    samples = draw.normal(size=(4000, 3))
    found = [student_interval(list(each)) for each in samples]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    normal = np.mean(np.abs(samples.mean(1)) <= 1.96 * samples.std(1, ddof=1) / np.sqrt(3))
    assert abs(covered - 0.95) < 0.012 < 0.95 - normal  # the normal quantile is too short


def test_what_is_lost_is_paired_by_seed():
    found = summarise_grid(RUNS, GRID, 1e-5)
    one, eight = found.lines
    assert (one.epsilon, eight.epsilon) == (1.0, 8.0)
    assert one.score.estimate == pytest.approx(0.91)
    assert one.lost.estimate == pytest.approx(0.05)
    # Every seed loses the same at epsilon 8: no chance is left, however much the seeds differ.
    assert (eight.lost.low, eight.lost.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert eight.score.high - eight.score.low > 0.04
    worse = summarise_grid(RUNS, GRID.model_copy(update={"metric": "loss"}), 1e-5)
    assert worse.lines[0].lost.estimate == pytest.approx(0.05)
    assert found.private_runs == 6 and found.told > one.rdp


def test_the_best_rate_is_chosen_on_validation_data_where_there_are_any():
    tried = [
        *(measured(1.0, seed, 0.90, rate=0.1, val=0.80) for seed in (0, 1)),
        *(measured(1.0, seed, 0.70, rate=0.5, val=0.99) for seed in (0, 1)),
    ]
    found = summarise_grid(tried, GRID, 1e-5)
    assert (found.lines[0].learning_rate, found.chosen_on) == (0.5, "val")
    untested = [replace(one, scores={"test": one.scores["test"]}) for one in tried]
    found = summarise_grid(untested, GRID, 1e-5)
    assert (found.lines[0].learning_rate, found.chosen_on) == (0.1, "test")
    assert any("too good by that choice" in note for note in trade_off_notes(found))
    # A seed that has only begun does not decide.
    found = summarise_grid([*untested, measured(1.0, 2, 0.1, rate=0.1)], GRID, 1e-5)
    assert found.lines[0].learning_rate == 0.1


def test_a_run_that_failed_is_named_and_the_others_count():
    failed = replace(measured(None, 0, 0.0, rate=9.0), name="reference/rate-9", scores={})
    found = summarise_grid([replace(failed, failure="it diverged."), *RUNS], GRID, 1e-5)
    assert found.reference.score.estimate == pytest.approx(0.96)
    assert found.failures == {"reference/rate-9": "it diverged."}
    assert any("reference/rate-9 has no score: it diver" in one for one in trade_off_notes(found))


def test_a_metric_that_was_not_measured_is_named():
    with pytest.raises(ValueError, match=r"grid.metric='auc' was not measured on test.*accuracy"):
        summarise_grid(RUNS, GRID.model_copy(update={"metric": "auc"}), 1e-5)


def test_the_table_says_what_was_asked_told_and_lost():
    found = summarise_grid(RUNS, GRID, 1e-5)
    header, _, reference, one, eight = trade_off_table(found).splitlines()
    assert "told (RDP)" in header and "95% interval" in header
    assert reference.startswith("| reference | - | - | - | 3 | 0.960 |")
    assert one.startswith("| 1 | 0.990 | 0.990 | 1 | 3 | 0.910 | 0.885 to 0.935 | 0.050 |")
    assert eight.endswith("| 0.010 | 0.010 to 0.010 |")
    notes = " ".join(trade_off_notes(found))
    assert "not covered by" in notes and "3 seeds (0, 1, 2)" in notes
    assert "The 6 runs with privacy together" in notes and "reference hides nothing" in notes
    assert "One seed has no interval" in " ".join(
        trade_off_notes(summarise_grid(RUNS[::3], GRID, 1e-5))
    )


@pytest.mark.parametrize("runs", [RUNS, RUNS[3:], RUNS[::3], RUNS[:1]])
def test_the_picture_shows_epsilons_and_reference(runs):
    png = plot_trade_off(summarise_grid(runs, GRID, 1e-5), title="digits")
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    near = lambda colour: (np.abs(pixels - colour).sum(axis=2) < 40).sum()  # noqa: E731
    assert (near((0, 114, 178)) > 20) == any(one.epsilon for one in runs)
    assert (near((213, 94, 0)) > 20) == any(one.epsilon is None for one in runs)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("trade-off")


def test_a_point_is_trained_once_whatever_grid_it_is_in(home):
    store, owner = Store(home / "store"), Owner(home / "privacy")
    dataset = CONFIG.data.load(None)
    report = audit(dataset, CONFIG.audit)
    facts = []

    def reach(point, engine=None):
        engine = engine or InProcessEngine(store, home / "cache", owner)
        options = {"store": store, "engine": engine, "emit": facts.append, "owner": owner}
        return measure_point(point, dataset, report, **options)

    grid = make_grid({"epsilons": [2], "seeds": [0]})
    reference, private = (reach(point) for point in points_of(CONFIG, grid))
    assert reference.rdp is None and not reference.is_private and not reference.events
    assert private.is_private and 1.9 < private.prv <= 2.0 and private.prv <= private.rdp * 1.01
    # Two rounds of two steps, as one.
    assert [one["steps"] for each in private.events.values() for one in each] == [4, 4]
    assert private.score("test", "loss") != reference.score("test", "loss")
    assert Measured.from_json(private.to_json()) == private
    rounds = [fact for fact in facts if fact.type is EventType.ROUND_COMPLETED]
    assert len(rounds) == 4

    wild = make_grid({"seeds": [0], "reference.learning_rates": [1e38]})
    diverged = reach(points_of(CONFIG, wild)[0])
    assert diverged.failure and not diverged.scores

    class Idle:
        def run(self, jobs):
            raise AssertionError("it was trained again")

    facts.clear()
    spent = len(owner.ledger.charges())
    larger = make_grid({"epsilons": [2, 9], "seeds": [0]})
    assert reach(points_of(CONFIG, larger)[1]).final_digest == private.final_digest
    assert not [fact for fact in facts if fact.type is EventType.ROUND_COMPLETED]
    assert len(owner.ledger.charges()) == spent == 4
