"""Groups of persons in private training: each takes part and counts as its share says."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn
from torch.nn import functional

from fedcore.digests import digest_arrays
from fedcore.models.build import initialise
from fedcore.models.preprocess import TablePreprocess
from fedcore.models.state import trainable_state
from fedcore.task import Task, TaskKind
from fedcore.training.private.by_layers import sum_by_layers, sum_of_head
from fedcore.training.private.clipped_sum import MARGIN, Loss, sum_by_vmap, sum_one_by_one
from fedcore.training.private.example_noise import ExampleNoise, GroupShare
from fedcore.training.private.noisy_gradients import private_steps
from fedcore.training.settings import LoopSettings
from fedcore.training.train import train

THREE = Task(TaskKind.MULTICLASS, ("a", "b", "c"))
COUNT = 12
KEY = bytes(range(32))
GROUPS = np.where(np.arange(COUNT) % 3 == 0, "strict", "lax")
BOUNDS = {"strict": 0.02, "lax": 0.3}
ALIKE = ExampleNoise(clip_norm=0.5, noise_multiplier=1.1, sampling_rate=0.4, steps=4, micro_batch=5)


def _with_shares(private, **shares):
    values = {name: getattr(private, name) for name in vars(private) if name != "groups"}
    return ExampleNoise(**values, groups=shares)


def _rows(count=COUNT):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, count)


def _change(private, inputs, targets, groups=None, hidden=()):
    """Of all parameters, (d,) float64, by one training."""

    def network():
        if not hidden:
            return nn.Linear(4, 3)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    model = initialise(network, THREE, (4,), seed=0)
    before = trainable_state(model)
    settings = LoopSettings(weight_decay=0.0, max_grad_norm=None)
    train(
        model,
        inputs,
        targets,
        task=THREE,
        preprocess=TablePreprocess(),
        settings=settings,
        learning_rate=1.0,
        seed=3,
        private=private,
        key=KEY,
        groups=groups,
    )
    after = trainable_state(model)
    moved = {name: after[name].astype(np.float64) - before[name] for name in before}
    return np.concatenate([moved[name].ravel() for name in sorted(moved)]), after


def test_each_group_takes_part_as_often_as_its_rate_and_another_rate_is_seen():
    often, seldom, steps = 0.3, 0.04, 400
    private = ExampleNoise(1.0, 1.0, 0.2, steps)
    private = _with_shares(
        private, often=GroupShare(often, 1.0), seldom=GroupShare(seldom, 1.0), no=GroupShare(0, 1)
    )
    groups = np.array(["often", "seldom", "no"])[np.arange(90) % 3]
    taken = np.zeros((steps, 90), bool)
    for step, batch in enumerate(private_steps(private, KEY, 90, groups).batches):
        taken[step, batch.numpy()] = True

    def is_rate(group, rate):
        coins = taken[:, groups == group]
        return 1e-3 < binom.cdf(coins.sum(), coins.size, rate) < 1 - 1e-3

    assert is_rate("often", often) and is_rate("seldom", seldom)
    assert not is_rate("often", often * 1.1) and not is_rate("often", often / 1.1)
    assert not is_rate("seldom", seldom * 1.2) and not is_rate("seldom", seldom / 1.2)
    assert not is_rate("seldom", often) and not taken[:, groups == "no"].any()


def test_equal_groups_train_to_the_same_bytes_as_none():
    equal = GroupShare(ALIKE.sampling_rate, ALIKE.clip_norm)
    private = _with_shares(ALIKE, strict=equal, lax=equal)
    for hidden in ((), (6,)):
        plain = _change(ALIKE, *_rows(), hidden=hidden)[1]
        grouped = _change(private, *_rows(), GROUPS, hidden=hidden)[1]
        assert digest_arrays(plain) == digest_arrays(grouped)
    other = _with_shares(ALIKE, strict=GroupShare(0.4, 0.49), lax=equal)
    assert digest_arrays(plain) != digest_arrays(_change(other, *_rows(), GROUPS, hidden=hidden)[1])


@pytest.mark.parametrize("hidden", [(), (6,)], ids=["head", "layers"])
def test_a_record_counts_for_its_groups_clip_norm_at_most(hidden):
    """Each record trained on alone moves the model by its bound; together they move it by the
    sum."""
    inputs, targets = _rows()
    shares = {name: GroupShare(1.0, bound) for name, bound in BOUNDS.items()}
    private = _with_shares(ExampleNoise(1.0, 0.0, 1.0, 1, micro_batch=5), **shares)
    alone = np.stack(
        [_change(private, inputs[[i]], targets[[i]], GROUPS[[i]], hidden)[0] for i in range(COUNT)]
    )
    norms, bounds = np.linalg.norm(alone, axis=1), np.array([BOUNDS[name] for name in GROUPS])
    assert (norms <= bounds * (1 + 1e-6)).all()
    np.testing.assert_allclose(norms[GROUPS == "strict"], BOUNDS["strict"], rtol=1e-3)
    assert norms[GROUPS == "lax"].min() > 2 * BOUNDS["strict"]
    together = _change(private, inputs, targets, GROUPS, hidden)[0] * COUNT
    np.testing.assert_allclose(together, alone.sum(0), atol=1e-5)


@pytest.mark.parametrize("way", [sum_of_head, sum_by_layers, sum_by_vmap, sum_one_by_one])
def test_every_way_clips_each_example_at_its_own_norm(way):
    torch.manual_seed(0)
    network = nn.Linear(4, 3).double()
    inputs, targets = (torch.from_numpy(each) for each in _rows())
    inputs = inputs.double() * torch.logspace(-1, 1, COUNT)[:, None]

    def total(network, inputs, targets):
        return functional.cross_entropy(network(inputs), targets, reduction="sum")

    loss = Loss(total, Task(TaskKind.MULTICLASS, ("a", "b", "c")).logit_gradients)

    each = []
    for one in torch.arange(COUNT).split(1):
        found = torch.autograd.grad(
            loss(network, inputs[one], targets[one]), tuple(network.parameters())
        )
        each.append(torch.cat([gradient.flatten() for gradient in found]))
    gradients = torch.stack(each)
    clip_norms = torch.logspace(0, -2, COUNT, dtype=torch.float64)
    factors = (clip_norms / (1 + MARGIN) / gradients.norm(dim=1)).clamp(max=1)
    assert (factors == 1).any() and (factors < 1).any()
    found = way(network, loss)(inputs, targets, clip_norms)
    flat = torch.cat([found[p].detach().flatten() for p in network.parameters()])
    torch.testing.assert_close(flat, factors @ gradients, rtol=1e-9, atol=1e-12)


def test_an_example_that_is_not_finite_leaves_the_others_their_bounds():
    torch.manual_seed(0)
    network, (inputs, targets) = nn.Linear(4, 3), map(torch.from_numpy, _rows())
    broken, clip_norms = inputs.clone(), torch.linspace(0.01, 0.5, COUNT, dtype=torch.float64)
    broken[4] = torch.nan
    rest = [i for i in range(COUNT) if i != 4]

    def total(network, inputs, targets):
        return functional.cross_entropy(network(inputs), targets, reduction="sum")

    loss = Loss(total, Task(TaskKind.MULTICLASS, ("a", "b", "c")).logit_gradients)

    for way in (sum_by_layers, sum_by_vmap, sum_one_by_one):
        found = way(network, loss)(broken, targets, clip_norms)
        expected = way(network, loss)(inputs[rest], targets[rest], clip_norms[rest])
        for parameter in network.parameters():
            torch.testing.assert_close(found[parameter], expected[parameter])


def test_the_noise_and_the_divisor_are_the_same_for_all():
    """On nobody the change is noise alone, whatever the groups' shares."""
    private = ExampleNoise(0.5, 2.0, 0.25, 1)
    nobody = {name: GroupShare(0.0, bound) for name, bound in BOUNDS.items()}
    plain = ExampleNoise(0.5, 2.0, 1e-12, 1)
    ours = _change(_with_shares(private, **nobody), *_rows(), GROUPS)[0] * 0.25
    theirs = _change(plain, *_rows())[0] * 1e-12
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, r"12 examples have 0 groups, \[\]; each needs one of \['strict'\]"),
        (GROUPS, r"12 groups, \['lax', 'strict'\]; each needs one of"),
        (GROUPS[:3], "12 examples have 3 groups"),
    ],
)
def test_records_without_a_share_are_refused(groups, message):
    private = _with_shares(ALIKE, strict=GroupShare(0.1, 0.1))
    with pytest.raises(ValueError, match=message):
        _change(private, *_rows(), groups)


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"sampling_rate=1\.5 must be from 0 to 1"):
        GroupShare(1.5, 1.0)
    with pytest.raises(ValueError, match=r"clip_norm=0\.0 must be positive"):
        GroupShare(0.5, 0.0)
