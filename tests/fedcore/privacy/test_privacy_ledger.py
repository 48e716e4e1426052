"""Budgets and the ledger: charged before released, once per job, never more than allowed."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedcore.digests import digest_bytes
from fedcore.privacy import calibrate
from fedcore.privacy.accounting import NOTHING, epsilon, spent
from fedcore.privacy.budget import Budget, BudgetExceeded, affordable_events, standing
from fedcore.privacy.events import SampledGaussian
from fedcore.privacy.ledger import AlreadyReleased, Charge, Ledger, group_fingerprint
from fedcore.privacy.secret_stream import SecretStream, derived_key
from fedcore.sites.audit_entry import LogBroken
from fedcore.sites.audit_log import AuditLog

STEP = SampledGaussian(1.0, 10.0, 10)
BUDGET = Budget(epsilon=3.0, delta=1e-5)
"""Allows 4 of STEP: they spend 1.5, 2.15, 2.7 ... of it."""


def charge(key, data="records", event=STEP, run="run", content=None):
    return Charge(key, data, event, digest_bytes((content or key).encode()), run)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger.jsonl")


def test_charges_add_up_over_runs_and_survive(ledger):
    assert ledger.charge(charge("a"), BUDGET)
    assert ledger.charge(charge("b", run="other"), BUDGET)
    again = Ledger(ledger.path)
    assert again.spent("records", 1e-5) == epsilon(1.0, 10.0, 20, 1e-5)
    assert again.spent("records", 1e-5, run="other") == epsilon(1.0, 10.0, 10, 1e-5)
    assert again.spent("others", 1e-5) == NOTHING
    assert [one.key for one in again.charges()] == ["a", "b"]
    assert again.charged("a", "records") == charge("a") and again.charged("c", "records") is None


def test_the_same_bytes_again_are_free_and_other_bytes_refused(ledger):
    assert ledger.charge(charge("a"), BUDGET)
    before = ledger.path.read_bytes()
    assert not ledger.charge(charge("a"), BUDGET)
    with pytest.raises(AlreadyReleased, match="job a: the ledger has other bytes for this job"):
        ledger.charge(charge("a", content="drawn anew"), BUDGET)
    with pytest.raises(AlreadyReleased, match=r"other event for this job.*never drawn twice"):
        ledger.charge(charge("a", event=SampledGaussian(1.0, 10.0, 9)), BUDGET)
    assert ledger.path.read_bytes() == before
    assert ledger.charge(charge("a", data="another owner's"), BUDGET)


def test_what_exceeds_the_budget_is_refused_and_not_charged(ledger):
    allowed = affordable_events((), STEP, BUDGET)
    for index in range(allowed):
        ledger.charge(charge(str(index)), BUDGET)
    before = ledger.path.read_bytes()
    refused = r"data records: epsilon would be 3.*RDP.*PRV.*delta=1e-05.*the budget is 3, of which"
    with pytest.raises(BudgetExceeded, match=refused):
        ledger.charge(charge("more"), BUDGET)
    with pytest.raises(BudgetExceeded, match="Nothing is released"):
        ledger.require("records", STEP, BUDGET)
    assert ledger.path.read_bytes() == before
    assert not ledger.charge(charge("0"), BUDGET)  # what was paid for may be sent again
    ledger.require("others", STEP, BUDGET)
    assert ledger.charge(charge("more"), Budget(3.5, 1e-5))  # the owner raised it


def test_a_plan_that_was_calibrated_fits_its_budget_to_the_last_round(ledger):
    noise = calibrate(2.0, 1e-5, 1.0, 30)
    event = SampledGaussian(1.0, noise, 10)
    for index in range(3):
        ledger.charge(charge(str(index), event=event), Budget(2.0, 1e-5))
    with pytest.raises(BudgetExceeded):
        ledger.charge(charge("3", event=event), Budget(2.0, 1e-5))


def test_a_run_has_a_budget_of_its_own(ledger):
    of_run = Budget(1.6, 1e-5, scope="run")
    ledger.charge(charge("a", run="one"), BUDGET, of_run)
    with pytest.raises(BudgetExceeded, match="data records in run one: epsilon would be 1"):
        ledger.charge(charge("b", run="one"), BUDGET, of_run)
    ledger.charge(charge("b", run="two"), BUDGET, of_run)
    assert ledger.standing("records", of_run, STEP, run="two").state == "exhausted"
    assert ledger.standing("records", of_run, STEP, run="three").state == "warning"


def test_groups_pay_together_or_not_at_all(ledger):
    strict, lax = (group_fingerprint("records", group) for group in ("strict", "lax"))
    less = SampledGaussian(0.1, 10.0, 10)
    bill = [
        (charge("a", strict, less), [Budget(0.5, 1e-5)]),
        (charge("a", lax), [Budget(1.0, 1e-5)]),
    ]
    with pytest.raises(BudgetExceeded, match="data records/lax"):
        ledger.charge_together(bill)
    assert ledger.charges() == ()
    assert ledger.charge_together([bill[0], (bill[1][0], [BUDGET])])
    assert ledger.spent(strict, 1e-5).value < 0.5 < ledger.spent(lax, 1e-5).value


def test_what_is_charged_to_all_of_the_data_counts_for_each_group(ledger):
    strict, lax = (group_fingerprint("records", group) for group in ("strict", "lax"))
    less = SampledGaussian(0.1, 10.0, 10)
    ledger.charge(charge("whole", "records", less))
    ledger.charge(charge("a", strict, less))
    ledger.charge(charge("a", lax))
    assert ledger.events(strict) == (less, less) and set(ledger.events(lax)) == {less, STEP}
    most = BUDGET.of([less, STEP])
    assert ledger.spent("records", 1e-5) == most == ledger.spent(lax, 1e-5)
    assert ledger.standing("records", BUDGET, STEP).spent == most
    assert ledger.standing(strict, BUDGET).spent == BUDGET.of([less, less])
    # another data set whose name begins alike has told nothing
    assert not ledger.events("record") and not ledger.events("records2/lax")
    tight = Budget(most.value * 1.0001, 1e-5)
    with pytest.raises(BudgetExceeded, match="data records/lax: epsilon would be"):
        ledger.charge(charge("whole again", "records", less), tight)
    ledger.charge(charge("b", strict, less), tight)


def test_a_state_warns_before_the_last_affordable_step():
    allowed = affordable_events((), STEP, BUDGET)
    assert allowed >= 3
    states = [standing([STEP] * count, BUDGET, STEP).state for count in range(allowed + 1)]
    assert states[0] == "ok"
    assert states[-2:] == ["warning", "exhausted"]
    half = Budget(BUDGET.of([STEP] * 2).value / 0.8, 1e-5)
    assert standing([STEP], half).state == "ok" and standing([STEP] * 2, half).state == "warning"
    assert standing([STEP] * 9, half).state == "exhausted" and standing([STEP] * 9, half).left == 0
    assert standing([STEP], BUDGET).left == pytest.approx(3 - BUDGET.of([STEP]).value)


@pytest.mark.parametrize("most", [1, 3, 100])
def test_affordable_events_are_counted(most):
    found = affordable_events([STEP], STEP, BUDGET, most=most)
    fits = [n for n in range(1, 20) if BUDGET.of([STEP] * (1 + n)).value <= BUDGET.epsilon]
    assert found == min(most, len(fits))
    assert affordable_events([STEP], SampledGaussian(1.0, 0.0), BUDGET) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0 must be above 0 and finite"),
        ({"epsilon": float("inf")}, "without a promise there is no budget"),
        ({"delta": 1.0}, "delta=1.0 must be above 0 and below 1"),
        ({"warn_at": 1.5}, "warn_at=1.5 must be above 0 and at most 1"),
        ({"neighbours": "zero"}, "neighbours='zero' must be one of"),
        ({"scope": "site"}, "scope='site' must be one of data, run"),
    ],
)
def test_budgets_out_of_bounds_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Budget(**({"epsilon": 1.0, "delta": 1e-5} | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"key": ""}, "key is empty"),
        ({"data": "d" * 201}, "data is longer than 200 characters"),
        ({"released": "0" * 63}, "released must be the SHA-256"),
    ],
)
def test_charges_out_of_bounds_are_refused(values, message):
    good = {"key": "k", "data": "d", "event": STEP, "released": "0" * 64}
    with pytest.raises(ValueError, match=message):
        Charge(**(good | values))


def test_a_torn_last_line_is_put_aside_and_its_release_charged_again(ledger):
    ledger.charge(charge("a"), BUDGET)
    ledger.charge(charge("b"), BUDGET)
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[:-40])
    again = Ledger(ledger.path)
    assert [one.key for one in again.charges()] == ["a"]
    assert again.charge(charge("b"), BUDGET)  # not durable, so nothing had left
    assert [one.key for one in Ledger(ledger.path).charges()] == ["a", "b"]
    assert again.verify().count == 3  # and a line that says so


def test_an_altered_line_is_found(ledger):
    for key in "abc":
        ledger.charge(charge(key), BUDGET)
    head, whole = ledger.verify().head, ledger.path.read_bytes()
    for broken in (
        whole.replace(b'"noise_multiplier":10.0', b'"noise_multiplier":99.0', 1),
        b"".join(whole.splitlines(keepends=True)[1:]),
    ):
        ledger.path.write_bytes(broken)
        with pytest.raises(LogBroken, match="line 1: "):
            Ledger(ledger.path).charge(charge("d"), BUDGET)
        assert ledger.path.read_bytes() == broken
    ledger.path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(LogBroken, match="none of its 2 entries has the noted digest"):
        Ledger(ledger.path).verify(head)


def test_a_log_of_something_else_is_no_ledger(ledger):
    AuditLog(ledger.path).append("released", subject="train")
    with pytest.raises(LogBroken, match="line 1: not a charge as a ledger writes it"):
        ledger.charges()


def test_processes_take_turns(ledger):
    """Two ledgers on one file, from threads that each hold the lock alone: the budget holds."""
    others = [Ledger(ledger.path) for _ in range(2)]

    def try_charge(index):
        try:
            return others[index % 2].charge(charge(str(index)), BUDGET)
        except BudgetExceeded:
            return False

    with ThreadPoolExecutor(8) as pool:
        done = sum(pool.map(try_charge, range(16)))
    assert done == affordable_events((), STEP, BUDGET) == len(ledger.charges())


def test_a_thousand_equal_rounds_are_one_event(ledger):
    event = SampledGaussian(1.0, 20.0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        ledger.charge_together((charge(str(index), event=event), []) for index in range(1000))
    assert ledger.spent("records", 1e-5) == epsilon(1.0, 20.0, 1000, 1e-5)


def test_the_export_is_json_with_what_was_spent(ledger):
    ledger.charge(charge("a"), BUDGET)
    exported = json.loads(json.dumps(ledger.to_json(1e-5)))
    assert exported["head"] == ledger.verify().head
    assert exported["spent"]["records"]["prv"] == spent([STEP], 1e-5).prv
    assert SampledGaussian.from_json(exported["charges"][0]["event"]) == STEP


# What a site does for one job, in the smallest process that can be killed.


def train_and_release(folder, job):
    """Trains, stores, charges, releases; a stored blob is never computed again."""
    blob = folder / "blobs" / job
    if not blob.exists():
        noise = SecretStream(derived_key(b"s" * 32, job)).normal(2000)
        put(blob, np.cumsum(noise).tobytes())
    content = blob.read_bytes()
    one = Charge(job, "records", STEP, digest_bytes(content), "run")
    Ledger(folder / "ledger.jsonl").charge(one, Budget(100.0, 1e-5))
    put(folder / "sent" / job, content)


def put(path, content):
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    os.rename(temporary, path)


def in_a_process(folder, jobs):
    """Id of a process that does them and ends without pytest noticing."""
    child = os.fork()
    if child == 0:
        try:
            for job in jobs:
                train_and_release(folder, job)
        finally:
            os._exit(0)
    return child


@pytest.mark.slow
def test_killed_a_hundred_times_nothing_is_released_uncharged(tmp_path):
    for name in ("blobs", "sent"):
        (tmp_path / name).mkdir()
    train_and_release(tmp_path, "job0")
    start = time.monotonic()
    os.waitpid(in_a_process(tmp_path, ["job1", "job2"]), 0)
    undisturbed = time.monotonic() - start
    rng, ledger = np.random.default_rng(0), Ledger(tmp_path / "ledger.jsonl")
    sent, stages = {}, set()
    for index in range(3, 103):
        jobs = [f"job{index - 1}", f"job{index}"]  # the one that was killed, and the next
        child = in_a_process(tmp_path, jobs)
        time.sleep(float(rng.uniform(0, undisturbed)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        charged = {one.key: one.released for one in ledger.charges()}
        for job in jobs:
            path = tmp_path / "sent" / job
            stages.add((path.exists(), job in charged, (tmp_path / "blobs" / job).exists()))
            if path.exists():
                sent[job] = digest_bytes(path.read_bytes())
                assert charged[job] == sent[job]
    # Killed before everything, after the release, and at least once between the two.
    assert {(False, False, False), (True, True, True)} < stages
    again = [f"job{index}" for index in range(103)]
    os.waitpid(in_a_process(tmp_path, again), 0)
    charged = {one.key: one.released for one in ledger.charges()}
    assert set(charged) == set(again)
    for job, digest in charged.items():
        assert digest_bytes((tmp_path / "sent" / job).read_bytes()) == digest
        assert sent.get(job, digest) == digest


@pytest.mark.parametrize("stage", ["store", "charge", "release"])
def test_killed_in_each_stage_a_job_is_charged_once_and_releases_the_same_bytes(
    tmp_path, monkeypatch, stage
):
    for name in ("blobs", "sent"):
        (tmp_path / name).mkdir()
    train_and_release(tmp_path, "twin")
    real = {"store": put, "release": put, "charge": Ledger.charge}

    def dies(target, *values):
        if stage == "charge" or target.parent.name == {"store": "blobs"}.get(stage, "sent"):
            os.kill(os.getpid(), signal.SIGKILL)
        real[stage](target, *values)

    with monkeypatch.context() as patch:
        if stage == "charge":
            patch.setattr(Ledger, "charge", dies)
        else:
            patch.setitem(globals(), "put", dies)
        _, status = os.waitpid(in_a_process(tmp_path, ["job"]), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert not (tmp_path / "sent" / "job").exists()
    assert (ledger.charged("job", "records") is not None) == (stage == "release")
    os.waitpid(in_a_process(tmp_path, ["job", "job"]), 0)
    assert [one.key for one in ledger.charges()] == ["twin", "job"]
    content = (tmp_path / "sent" / "job").read_bytes()
    assert ledger.charged("job", "records").released == digest_bytes(content)
