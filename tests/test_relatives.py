"""The reference of the relatives: against PyTorch, against each other, and by what their formulas promise."""

import numpy as np
import pytest

from normspec.reference import normalize, relatives, split, statistics, train, train_gradients
from normspec.reference.rules import Rules

EPS = 1e-3
SHAPES = [(3, 4), (2, 6, 5), (2, 4, 3, 2), (1, 6, 2, 1, 3)]


def given(shape, parameters, seed=0):
    """x, weight, bias and dy that nothing may write to."""
    random = np.random.RandomState(seed)
    arrays = [random.standard_normal(s) for s in (shape, parameters, parameters, shape)]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(1, abs(b).max()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("trailing", [1, 2])
def test_layer_and_rms_norm_are_pytorchs(shape, trailing):
    torch = pytest.importorskip("torch")
    if trailing >= len(shape):
        pytest.skip("a sample has no more axes")
    x, weight, bias, dy = given(shape, shape[-trailing:])
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    y = torch.nn.functional.layer_norm(leaves[0], weight.shape, leaves[1], leaves[2], EPS)
    theirs = [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy)))]
    ours = relatives.layer_norm_gradients(x, weight, bias, dy, eps=EPS)
    same([relatives.layer_norm(x, weight, bias, eps=EPS), *ours], theirs)
    y = torch.nn.functional.rms_norm(leaves[0], weight.shape, leaves[1], EPS)
    theirs = [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, leaves[:2], torch.tensor(dy)))]
    same([relatives.rms_norm(x, weight, eps=EPS), *relatives.rms_norm_gradients(x, weight, dy, eps=EPS)], theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_group_and_instance_norm_are_pytorchs(shape):
    torch = pytest.importorskip("torch")
    x, weight, bias, dy = given(shape, shape[1])
    for groups in (n for n in range(1, shape[1] + 1) if not shape[1] % n and shape[1] // n * np.prod(shape[2:]) > 1):
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
        y = torch.nn.functional.group_norm(leaves[0], groups, leaves[1], leaves[2], EPS)
        theirs = [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy)))]
        ours = relatives.group_norm_gradients(x, weight, bias, dy, num_groups=groups, eps=EPS)
        same([relatives.group_norm(x, weight, bias, num_groups=groups, eps=EPS), *ours], theirs)
    if len(shape) > 2:
        leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
        y = torch.nn.functional.instance_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, EPS)
        theirs = [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy)))]
        ours = relatives.instance_norm_gradients(x, weight, bias, dy, eps=EPS)
        same([relatives.instance_norm(x, weight, bias, eps=EPS), *ours], theirs)


@pytest.mark.parametrize("shape", [(4, 3), (5, 2, 3), (1, 2, 2, 2)])
def test_weight_norm_is_pytorchs(shape):
    torch = pytest.importorskip("torch")
    from torch.nn.utils.parametrizations import weight_norm

    v, g, _, dw = given(shape, shape[0])
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.tensor(v))
    parts = weight_norm(module, "weight", 0).parametrizations.weight
    parts.original0.data = torch.tensor(g).reshape(-1, *[1] * (len(shape) - 1))
    dg, dv = torch.autograd.grad(module.weight, [parts.original0, parts.original1], torch.tensor(dw))
    ours = relatives.weight_norm(v, g), *relatives.weight_norm_gradients(v, g, dw)
    same(ours, (module.weight.detach().numpy(), dv.numpy(), dg.numpy().ravel()))
    assert abs((ours[1] * v).reshape(len(v), -1).sum(1)).max() < 1e-13  # at right angles to v


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_identities(shape):
    x, weight, bias, _ = given(shape, shape[1])
    one, zero = np.ones(shape[1:]), np.zeros(shape[1:])
    unit, none = np.ones(shape[1]), np.zeros(shape[1])
    layer = relatives.layer_norm(x, one, zero, eps=EPS)
    same([relatives.group_norm(x, unit, none, num_groups=1, eps=EPS)], [layer])
    instance = relatives.instance_norm(x, weight, bias, eps=EPS)
    same([relatives.group_norm(x, weight, bias, num_groups=shape[1], eps=EPS)], [instance])
    alone = [train(x[i : i + 1], weight, bias, none, unit, momentum=0.1, eps=EPS)[0] for i in range(len(x))]
    same([np.concatenate(alone)], [instance])


def test_rms_norm_is_layer_norm_of_what_is_centered():
    x, weight, _, _ = given((5, 7), (7,))
    centered = x - x.mean(1, keepdims=True)
    same([relatives.rms_norm(centered, weight, eps=EPS)], [relatives.layer_norm(x, weight, np.zeros(7), eps=EPS)])


@pytest.mark.parametrize("grouping", ["contiguous", "interleaved", "of that size"])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (1, 12, 2, 3)])
def test_groups_come_apart_and_together(shape, grouping):
    rules, x = Rules(axes="sample and channel", grouping=grouping), np.arange(np.prod(shape)).reshape(shape)
    split = relatives.grouped(x, 2, rules)
    assert split.shape[1] == (shape[1] // 2 if grouping == "of that size" else 2)
    assert np.array_equal(relatives.ungrouped(split, rules), x)
    labels = relatives.grouped(np.arange(shape[1]), 2, rules)
    assert labels.shape == split.shape[1:3]
    assert np.array_equal(relatives.ungrouped(labels[None], rules)[0], np.arange(shape[1]))


def test_a_group_has_c_over_g_channels():
    """The article's erratum: its G x H x W would be groups of G channels."""
    x = np.concatenate([np.zeros((1, 2, 3)), np.ones((1, 4, 3))], axis=1)
    y = relatives.group_norm(x, np.ones(6), np.zeros(6), num_groups=3, eps=EPS)
    assert not y.any()  # three groups of two channels are constant each; two groups of three would not be


@pytest.mark.parametrize("devices", [2, 4])
def test_a_split_batch_is_the_whole_batch(devices):
    """Whatever the number of devices; rivals are what their names say."""
    x, weight, bias, dy = given((8, 3, 2), 3)
    mean, var = np.zeros(3), np.ones(3)
    options = {"devices": devices, "momentum": 0.1, "eps": EPS}
    whole = train(x, weight, bias, mean, var, momentum=0.1, eps=EPS)
    same(split.train_split(x, weight, bias, mean, var, **options), whole)
    gradients = split.train_split_gradients(x, weight, bias, dy, devices=devices, eps=EPS)
    same(gradients, train_gradients(x, weight, bias, dy, eps=EPS))
    parts = [train(part, weight, bias, mean, var, momentum=0.1, eps=EPS) for part in np.split(x, devices)]
    alone = split.train_split(x, weight, bias, mean, var, rules=Rules(split="states averaged"), **options)
    same(
        alone,
        [np.concatenate([y for y, *_ in parts]), *(np.mean(a, axis=0) for a in list(zip(*parts, strict=True))[1:])],
    )
    lost = split.train_split(x, weight, bias, mean, var, rules=Rules(split="variances averaged"), **options)
    assert (lost[2] < whole[2]).all()  # the spread between the parts
    through_one = Rules(split="gradient through one")
    one = split.train_split_gradients(x, weight, bias, dy, devices=devices, eps=EPS, rules=through_one)
    root = normalize(statistics(x), EPS)[1] * weight.reshape(1, -1, 1)
    for part, (dx, g) in enumerate(zip(np.split(one[0], devices), np.split(dy, devices), strict=True)):
        alone = np.zeros_like(dy)  # means over a part are those over the whole batch where dy is 0 elsewhere, times d
        np.split(alone, devices)[part][...] = g
        of_whole = np.split(train_gradients(x, weight, bias, alone, eps=EPS)[0], devices)[part]
        same([dx], [devices * of_whole - (devices - 1) * root * g])
