"""Clipped sums by layers against per-example gradients made by torch.func and by Opacus."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from fedcore.models.cnn import cnn_gn, cnn_mcmahan
from fedcore.models.mobilenet import mobilenet
from fedcore.models.resnet import BasicBlock
from fedcore.task import Task, TaskKind
from fedcore.training.private import trial
from fedcore.training.private.by_layers import NotByLayers, sum_by_layers, sum_of_head
from fedcore.training.private.clipped_sum import MARGIN, Loss, sum_by_vmap, sum_one_by_one
from fedcore.training.private.trial import choose_way


class Tokens(nn.Module):
    """A transformer's shapes: tokens (n, 5, 6), a norm, a wide layer, a mean over the tokens."""

    def __init__(self, bias=True):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 40, bias=bias), nn.LayerNorm(40)
        self.last = nn.Linear(40, 3)

    def forward(self, inputs):
        return self.last(torch.tanh(self.norm(self.first(inputs)))).mean(1)


def _few_positions():
    """(4, 4) positions and 64 x 576 weights: the norm follows from the Gram matrices."""
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(1024, 3)
    )


def _partly_frozen():
    network = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    network[0].requires_grad_(False)
    network[2].weight.requires_grad_(False)
    network[4].bias.requires_grad_(False)
    return network


BY_LAYERS = {
    "linear": (lambda: nn.Linear(7, 3), (7,)),
    "head": (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(8, 3)), (2, 4)),
    "perceptron": (lambda: nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3)), (7,)),
    "partly frozen": (_partly_frozen, (7,)),
    "cnn_gn": (lambda: cnn_gn((1, 8, 8), 3, width=4), (1, 8, 8)),
    "cnn_mcmahan": (lambda: cnn_mcmahan((1, 8, 8), 3), (1, 8, 8)),
    "residual": (
        lambda: nn.Sequential(BasicBlock(2, 8, 2), nn.Flatten(), nn.Linear(128, 3)),
        (2, 8, 8),
    ),
    "depthwise": (lambda: mobilenet((1, 8, 8), 3, width=0.25), (1, 8, 8)),
    "strides, dilation, groups": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            nn.Flatten(),
            nn.Linear(96, 3),
        ),
        (2, 8, 8),
    ),
    "many positions": (
        lambda: nn.Sequential(
            nn.Conv2d(8, 128, 3, padding=(0, 1), groups=2),
            nn.AvgPool2d(7),
            nn.Flatten(),
            nn.Linear(512, 3),
        ),
        (8, 18, 18),
    ),
    "few positions": (_few_positions, (64, 4, 4)),
    "tokens": (Tokens, (5, 6)),
    "tokens without bias": (lambda: Tokens(bias=False), (5, 6)),
}


HEADS = ("linear", "head")


def _total(network, inputs, targets):
    return functional.cross_entropy(network(inputs), targets, reduction="sum")


_loss = Loss(_total, Task(TaskKind.MULTICLASS, ("a", "b", "c")).logit_gradients)


def _data(shape, count=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    scale = torch.logspace(-1, 1, count).reshape(-1, *[1] * len(shape))  # small and large gradients
    inputs = scale * torch.randn(count, *shape, generator=generator)
    return inputs.to(dtype), torch.randint(0, 3, (count,), generator=generator)


def _made(factory):
    torch.manual_seed(0)
    return factory()


def _per_example(network, inputs, targets):
    """(b, d) float64 gradients over all trainable parameters, by vmap."""
    trained = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}

    def loss(parameters, one, target):
        return functional.cross_entropy(
            functional_call(network, parameters, (one[None],)), target[None]
        )

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(trained, inputs, targets)
    return torch.cat([gradients[name].flatten(1) for name in trained], 1).double()


def _each_alone(network, inputs, targets):
    """As :func:`_per_example`, by ordinary autograd."""
    trained = [p for p in network.parameters() if p.requires_grad]
    alone = [
        torch.autograd.grad(_loss(network, inputs[one], targets[one]), trained)
        for one in torch.arange(len(inputs)).split(1)
    ]
    return torch.stack([torch.cat([g.flatten() for g in each]) for each in alone]).double()


def _clipped(gradients, clip_norm):
    norms = gradients.norm(dim=1, keepdim=True)
    return gradients * (clip_norm / norms).clamp(max=1)


def _flat(network, sums):
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sums.keys() == set(trained)
    return torch.cat([sums[p].detach().flatten() for p in trained]).double()


def _bounds(clip_norm, count=6):
    return torch.full((count,), clip_norm, dtype=torch.float64)


def _near(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *product(BY_LAYERS, (sum_by_layers, sum_by_vmap, sum_one_by_one)),
        *product(HEADS, (sum_of_head,)),
    ],
)
def test_clipping_is_that_of_explicit_gradients(name, way) -> None:
    """In float64, where nothing is left but the margin kept below the bound."""
    factory, shape = BY_LAYERS[name]
    network, (inputs, targets) = _made(factory).double(), _data(shape, dtype=torch.float64)
    gradients = _per_example(network, inputs, targets)
    norms = gradients.norm(dim=1)
    assert norms.max() > 1.2 * norms.min()
    for clip_norm in (norms.median().item(), 0.1 * norms.min().item(), 1e6):
        found = _flat(network, way(network, _loss)(inputs, targets, _bounds(clip_norm)))
        assert _near(found, _clipped(gradients, clip_norm / (1 + MARGIN)).sum(0)) < 1e-9
        assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("name", BY_LAYERS)
def test_one_example_more_changes_the_sum_by_the_clip_norm_at_most(name) -> None:
    factory, shape = BY_LAYERS[name]
    network, (inputs, targets) = _made(factory), _data(shape)
    clip_norm = _per_example(network, inputs, targets).norm(dim=1).median().item()
    clipped_sum = sum_by_layers(network, _loss)
    whole = _flat(network, clipped_sum(inputs, targets, _bounds(clip_norm)))
    for left_out in range(len(inputs)):
        rest = [index for index in range(len(inputs)) if index != left_out]
        fewer = _flat(network, clipped_sum(inputs[rest], targets[rest], _bounds(clip_norm, 5)))
        assert (whole - fewer).norm() <= clip_norm * (1 + 1e-5)


@pytest.mark.parametrize("name", BY_LAYERS)
def test_the_trial_lets_them_pass_and_leaves_them_as_they_were(name) -> None:
    factory, shape = BY_LAYERS[name]
    network, targets = _made(factory), torch.zeros(2, dtype=torch.long)
    network.train()
    before = [p.detach().clone() for p in network.parameters()]
    torch.manual_seed(5)
    expected = sum_of_head if name in HEADS else sum_by_layers
    assert choose_way(network, _loss, torch.zeros(1, *shape), targets) is expected
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1)), "global generators are restored"
    assert all(map(torch.equal, before, network.parameters()))
    assert all(module.training for module in network.modules())


class Called(nn.Module):
    """``forward(parts, inputs)`` over one linear layer and a head; what layers cannot tell."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs):
        return self.call(self, inputs)


NOT_BY_LAYERS = {
    "a layer used twice": lambda: Called(lambda m, x: m.head(m.inner(torch.tanh(m.inner(x))))),
    "a weight used elsewhere": lambda: Called(
        lambda m, x: m.head(torch.tanh(m.inner(x)) @ m.inner.weight)
    ),
    "a parameter of its own": lambda: Called(
        lambda m, x: m.head(m.inner(x) + m.shift), shift=nn.Parameter(torch.ones(6))
    ),
    "a change in place": lambda: Called(lambda m, x: m.head(m.inner(x).tanh_())),
    "a mean over the batch": lambda: Called(lambda m, x: m.head(m.inner(x - x.mean(0)))),
    "a mean in training alone": lambda: Called(
        lambda m, x: m.head(m.inner(x - x.mean(0) if m.training else x))
    ),
    "a branch that depends on values": lambda: Called(
        lambda m, x: m.head(
            m.inner(m.inner(x)) if x.sum() > 1e9 else torch.tanh(m.inner(m.inner(x)))
        )
    ),
    "examples in another place": lambda: Called(
        lambda m, x: m.head(m.inner(x.reshape(-1, 2, 6).transpose(0, 1)).transpose(0, 1).mean(1))
    ),
}


@pytest.mark.parametrize("name", NOT_BY_LAYERS)
def test_what_layers_cannot_tell_is_found_and_done_otherwise(name) -> None:
    network = _made(NOT_BY_LAYERS[name])
    shape = (2, 6) if name.startswith("examples") else (6,)
    inputs, targets = _data(shape)
    way = choose_way(network, _loss, torch.zeros(1, *shape), targets)
    assert way is (sum_one_by_one if "values" in name else sum_by_vmap)
    gradients = _each_alone(network, inputs, targets)
    clip_norm = gradients.norm(dim=1).median().item()
    found = _flat(network, way(network, _loss)(inputs, targets, _bounds(clip_norm)))
    assert _near(found, _clipped(gradients, clip_norm).sum(0)) < 3e-5


def test_tied_and_unknown_layers_are_not_told_by_layers() -> None:
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(NotByLayers, match="shares a parameter"):
        sum_by_layers(tied, _loss)
    mixed = Called(lambda m, x: m.head(x + m.shift), shift=nn.Parameter(torch.ones(6)))
    with pytest.raises(NotByLayers, match="Called has no rule"):
        sum_by_layers(mixed, _loss)
    with pytest.raises(NotByLayers, match="Sequential is no linear layer after fixed ones"):
        sum_of_head(_made(BY_LAYERS["perceptron"][0]), _loss)


class Scale(nn.Module):
    """A layer of somebody else's, as the layer scale of DINOv2."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(6))

    def forward(self, inputs):
        return inputs * self.factor


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.InstanceNorm1d(2, affine=True),
        Scale,
        lambda: nn.Conv1d(2, 2, 3, padding=1),
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 2)),
            nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        ),
    ],
    ids=["of Opacus", "of somebody else", "of another dimension", "with another margin"],
)
def test_other_layers_are_told_by_opacus_and_by_torch(layer) -> None:
    network = _made(lambda: nn.Sequential(layer(), nn.Flatten(), nn.Linear(12, 3)))
    inputs, targets = _data((2, 6))
    assert choose_way(network, _loss, torch.zeros(1, 2, 6), targets) is sum_by_layers
    gradients = _per_example(network, inputs, targets)
    clip_norm = gradients.norm(dim=1).median().item()
    found = _flat(network, sum_by_layers(network, _loss)(inputs, targets, _bounds(clip_norm)))
    assert _near(found, _clipped(gradients, clip_norm).sum(0)) < 3e-5


@pytest.mark.parametrize("name", ["perceptron", "cnn_gn", "depthwise", "tokens"])
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_opacus_clips_to_the_same_sums(name) -> None:
    from opacus.grad_sample import GradSampleModule

    factory, shape = BY_LAYERS[name]
    network, (inputs, targets) = _made(factory), _data(shape)
    sampled = GradSampleModule(_made(factory), loss_reduction="sum")
    _loss(sampled, inputs, targets).backward()
    gradients = torch.cat([p.grad_sample.flatten(1) for p in sampled.parameters()], 1).double()
    clip_norm = gradients.norm(dim=1).median().item()
    found = _flat(network, sum_by_layers(network, _loss)(inputs, targets, _bounds(clip_norm)))
    assert _near(found, _clipped(gradients, clip_norm).sum(0)) < 3e-5


def test_a_norm_that_cancels_is_the_true_one() -> None:
    """Two positions with nearly opposite gradients: in float32 the Gram matrices lose the rest."""
    network = nn.Sequential(nn.Conv2d(64, 64, 1, bias=False), nn.Flatten())
    inputs = torch.full((1, 64, 2, 1), 1e3)
    inputs[0, :, 1] += 0.01
    sign = torch.tensor([1.0, -1.0]).repeat(64)

    def loss(module, batch, _):
        return (module(batch) * sign * 10).sum()

    (gradient,) = sum_by_layers(network, loss)(inputs, torch.zeros(1), _bounds(1e-3, 1)).values()
    assert gradient.double().norm() == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_an_example_that_is_not_finite_counts_as_zero(bad) -> None:
    network, (inputs, targets) = _made(BY_LAYERS["perceptron"][0]), _data((7,))
    broken = inputs.clone()
    broken[2] = bad
    rest = [0, 1, 3, 4, 5]
    for way in (sum_by_layers, sum_by_vmap, sum_one_by_one):
        clipped_sum = way(network, _loss)
        found = _flat(network, clipped_sum(broken, targets, _bounds(0.5)))
        expected = _flat(network, clipped_sum(inputs[rest], targets[rest], _bounds(0.5, 5)))
        if bad == 1e30:  # tanh saturates: a gradient of the last layer, within its bound
            assert (found - expected).norm() <= 0.5 * (1 + 1e-5)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
        if bad != 1e30:
            alone = clipped_sum(broken[2:3], targets[2:3], _bounds(0.5, 1))
            assert all(not value.any() for value in alone.values())


# The mean of language weighs texts by their tokens; tests of causal models have its gradient.
@pytest.mark.parametrize("kind", [one for one in TaskKind if one is not TaskKind.LANGUAGE])
def test_a_losss_gradient_by_the_logits_is_autograds(kind) -> None:
    labels = {TaskKind.REGRESSION: ("y",), TaskKind.BINARY: ("n", "p")}.get(kind, ("a", "b", "c"))
    task, generator = Task(kind, labels), torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(5, task.num_outputs, generator=generator, dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 0, 1])
    if kind is TaskKind.REGRESSION:
        targets = targets + 0.3
    if kind is TaskKind.MULTILABEL:
        targets = torch.stack([targets, 1 - targets, targets], 1)
    logits.requires_grad_()
    (expected,) = torch.autograd.grad(5 * task.loss(logits, targets), logits)
    found = task.logit_gradients(logits.detach(), targets)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, check_dtype=False, rtol=1e-6, atol=1e-7)


def test_a_loss_without_its_gradient_by_the_logits_goes_by_layers() -> None:
    network, labels = nn.Linear(7, 3), torch.zeros(1, dtype=torch.long)
    assert choose_way(network, Loss(_total), torch.zeros(1, 7), labels) is sum_by_layers


def test_the_trial_is_made_once(monkeypatch) -> None:
    network = nn.Linear(7, 3)
    labels = torch.zeros(1, dtype=torch.long)
    assert choose_way(network, _loss, torch.zeros(1, 7), labels) is sum_of_head
    monkeypatch.setattr(trial, "sum_of_head", sum_by_vmap)
    assert choose_way(network, _loss, torch.zeros(1, 7), labels) is sum_of_head
    network.bias.requires_grad_(False)  # another network, in what is trained
    assert choose_way(network, _loss, torch.zeros(1, 7), labels) is sum_by_vmap
