"""The reference of the relatives: against PyTorch, against each other, and by what their formulas promise."""

from dataclasses import replace

import numpy as np
import pytest

from normspec import reference
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.given import given_to
from normspec.conformance.cases.operations import OPERATIONS
from normspec.conformance.cases.pools import MEASURES
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.calls import alone, part_of
from normspec.reference import normalize, relatives, split, statistics, train, train_gradients
from normspec.reference.rules import Rules

EPS = 1e-3
SHAPES = [(3, 4), (2, 6, 5), (2, 4, 3, 2), (1, 6, 2, 1, 3)]
FLOAT64 = GRADES["float64"][0]
LAYER, RMS, INSTANCE, GROUP, WEIGHT, L1, GENERALIZED = (
    OPERATIONS[f"{name} norm"]
    for name in ("layer", "rms", "instance", "group", "weight", "l1 batch", "generalized batch")
)


def case(shape, **fields):
    return Case(dtype="float64", shape=shape, data="bell", eps=EPS, location=0.5, **fields)


def told(operation, of, values=None, *, gradients=False):
    """What the suite expects of a call, or of that of the gradients."""
    values = given_to(operation, of) if values is None else values
    return alone(part_of(operation, operation.methods[gradients], of, values), operation.rules, FLOAT64)


def agree(operation, of, ours, theirs):
    """Our forward and gradients and theirs, within the bound that the suite would judge theirs by."""
    both = (told(operation, of, gradients=gradients) for gradients in (False, True))
    bounds = [expected.bound for results in both for expected in results.values()]
    for mine, other, bound in zip(ours, theirs, bounds, strict=True):
        assert mine.shape == other.shape == bound.shape
        assert (abs(mine - other) <= bound).all()


def same(ours, theirs, operation, of):
    """Two results of one operation, each within its bound."""
    assert ours.shape == theirs.shape
    assert (abs(ours - theirs) <= 2 * told(operation, of)["y"].bound).all()


def equal(ours, theirs):
    """The same numbers, to the last bit."""
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def by_torch(function, values, dy):
    """y and the gradients of a function of tensors."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=True) for a in values]
    y = function(*leaves)
    return [y.detach().numpy(), *(g.numpy() for g in torch.autograd.grad(y, leaves, torch.tensor(dy)))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("trailing", [1, 2])
def test_layer_and_rms_norm_are_pytorchs(shape, trailing):
    torch = pytest.importorskip("torch")
    if trailing >= len(shape):
        pytest.skip("a sample has no more axes")
    of, f = case(shape, trailing=trailing), torch.nn.functional
    x, weight, bias, _, _, dy = given_to(LAYER, of)
    theirs = by_torch(lambda x, w, b: f.layer_norm(x, weight.shape, w, b, EPS), (x, weight, bias), dy)
    gradients = relatives.layer_norm_gradients(x, weight, bias, dy, eps=EPS)
    agree(LAYER, of, [relatives.layer_norm(x, weight, bias, eps=EPS), *gradients], theirs)
    theirs = by_torch(lambda x, w: f.rms_norm(x, weight.shape, w, EPS), (x, weight), dy)
    gradients = relatives.rms_norm_gradients(x, weight, dy, eps=EPS)
    agree(RMS, of, [relatives.rms_norm(x, weight, eps=EPS), *gradients], theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_group_and_instance_norm_are_pytorchs(shape):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    for groups in (n for n in range(1, shape[1] + 1) if not shape[1] % n and shape[1] // n * np.prod(shape[2:]) > 1):
        of = case(shape, groups=groups)
        x, weight, bias, _, _, dy = given_to(GROUP, of)
        theirs = by_torch(lambda x, w, b, n=groups: f.group_norm(x, n, w, b, EPS), (x, weight, bias), dy)
        gradients = relatives.group_norm_gradients(x, weight, bias, dy, num_groups=groups, eps=EPS)
        y = relatives.group_norm(x, weight, bias, num_groups=groups, eps=EPS)
        agree(GROUP, of, [y, *gradients], theirs)
    if len(shape) > 2:
        of = case(shape)
        x, weight, bias, _, _, dy = given_to(INSTANCE, of)
        theirs = by_torch(lambda x, w, b: f.instance_norm(x, None, None, w, b, True, 0.0, EPS), (x, weight, bias), dy)
        gradients = relatives.instance_norm_gradients(x, weight, bias, dy, eps=EPS)
        agree(INSTANCE, of, [relatives.instance_norm(x, weight, bias, eps=EPS), *gradients], theirs)


@pytest.mark.parametrize("shape", [(4, 3), (5, 2, 3), (1, 2, 2, 2)])
def test_weight_norm_is_pytorchs(shape):
    torch = pytest.importorskip("torch")
    from torch.nn.utils.parametrizations import weight_norm

    of = case(shape)
    v, g, _, _, _, dw = given_to(WEIGHT, of)
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.tensor(v))
    parts = weight_norm(module, "weight", 0).parametrizations.weight
    parts.original0.data = torch.tensor(g).reshape(-1, *[1] * (len(shape) - 1))
    dg, dv = torch.autograd.grad(module.weight, [parts.original0, parts.original1], torch.tensor(dw))
    ours = relatives.weight_norm(v, g), *relatives.weight_norm_gradients(v, g, dw)
    agree(WEIGHT, of, ours, (module.weight.detach().numpy(), dv.numpy(), dg.numpy().ravel()))
    of_dx = told(WEIGHT, of, gradients=True)
    reach = (of_dx["dx"].bound * abs(v)).reshape(len(v), -1).sum(1)
    assert (abs((ours[1] * v).reshape(len(v), -1).sum(1)) <= reach).all()  # at right angles to v


def measured(torch, center, deviation, eps):
    """Generalized batch norm out of PyTorch's statistics, for its autograd; L1 batch norm where eps is outside."""

    def function(x, weight, bias, *, outside=False):
        rows = x.movedim(1, 0).flatten(1)
        ordered, size = rows.sort(1).values, rows.shape[1]
        middle = {
            "mean": rows.mean(1),
            "median": (ordered[:, (size - 1) // 2] + ordered[:, size // 2]) / 2,
            "midrange": (ordered[:, 0] + ordered[:, -1]) / 2,
        }[center][:, None]
        squared = {
            "standard": (rows - middle).square().mean(1),
            "mean absolute": (rows - middle).abs().mean(1).square(),
            "half range": ((ordered[:, -1] - ordered[:, 0]) / 2).square(),
        }[deviation][:, None]
        below = squared.sqrt() + eps if outside else (squared + eps).sqrt()
        y = (rows - middle) / below * weight[:, None] + bias[:, None]
        return y.unflatten(1, (x.shape[0], *x.shape[2:])).movedim(0, 1)

    return function


@pytest.mark.parametrize("shape", [(4, 3), (2, 6, 4), (2, 4, 3, 2), (2, 6, 2, 1, 3)])
@pytest.mark.parametrize(("center", "deviation"), [*MEASURES, ("median", "standard"), ("mean", "half range")])
def test_generalized_batch_norm_is_what_autograd_makes_of_it(shape, center, deviation):
    torch = pytest.importorskip("torch")
    of = case(shape, center=center, deviation=deviation)
    x, weight, bias, _, _, dy = given_to(GENERALIZED, of)
    asked = {"center": center, "deviation": deviation, "eps": EPS}
    theirs = by_torch(measured(torch, **asked), (x, weight, bias), dy)
    gradients = relatives.generalized_batch_norm_gradients(x, weight, bias, dy, **asked)
    agree(GENERALIZED, of, [relatives.generalized_batch_norm(x, weight, bias, **asked), *gradients], theirs)
    if (center, deviation) == ("mean", "standard"):
        y, *_ = reference.train(x, weight, bias, bias, abs(weight), momentum=0.1, eps=EPS)
        assert np.array_equal(relatives.generalized_batch_norm(x, weight, bias, **asked), y)
    if (center, deviation) == ("mean", "mean absolute"):
        l1 = measured(torch, center, deviation, EPS)
        theirs = by_torch(lambda *given: l1(*given, outside=True), (x, weight, bias), dy)
        gradients = relatives.l1_batch_norm_gradients(x, weight, bias, dy, eps=EPS)
        agree(L1, of, [relatives.l1_batch_norm(x, weight, bias, eps=EPS), *gradients], theirs)


@pytest.mark.parametrize("deviation", ["standard", "mean absolute", "mean absolute, as sigma", "half range"])
@pytest.mark.parametrize("center", ["mean", "zero", "median", "midrange"])
def test_the_derivatives_of_center_and_deviation(center, deviation):
    """By central differences, whose error is the third derivative's: none for what is piecewise linear."""
    rules, x = Rules(center=center, deviation=deviation), case((6, 2))
    x = given_to(GENERALIZED, x).x
    groups = reference.statistics(x, rules)
    share = np.broadcast_to(reference.center_share(x, rules), x.shape)
    pull = reference.variance_share(x, groups, rules)
    step = 2.0**-20
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        above, below = reference.statistics(up, rules), reference.statistics(down, rules)
        slope = (above.mean - below.mean)[0, place[1]] / (2 * step)
        of_var = (above.var - below.var)[0, place[1]] / (2 * step)
        rounding = 16 * 2.0**-53 * (1 + abs(x).max()) ** 2 / step
        assert abs(slope * 6 - share[place]) <= 6 * rounding
        assert abs(of_var * 3 - pull[place]) <= 3 * rounding


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_identities(shape):
    of = case(shape)
    x, weight, bias, *_ = given_to(INSTANCE, of)
    one, zero = np.ones(shape[1:]), np.zeros(shape[1:])
    unit, none = np.ones(shape[1]), np.zeros(shape[1])
    layer = relatives.layer_norm(x, one, zero, eps=EPS)
    same(relatives.group_norm(x, unit, none, num_groups=1, eps=EPS), layer, GROUP, replace(of, groups=1))
    instance = relatives.instance_norm(x, weight, bias, eps=EPS)
    group = relatives.group_norm(x, weight, bias, num_groups=shape[1], eps=EPS)
    same(group, instance, INSTANCE, of)
    alone = [reference.train(x[i : i + 1], weight, bias, none, unit, momentum=0.1, eps=EPS)[0] for i in range(len(x))]
    same(np.concatenate(alone), instance, INSTANCE, of)


def test_rms_norm_is_layer_norm_of_what_is_centered():
    of = case((5, 7), trailing=1)
    x, weight, *_ = given_to(LAYER, of)
    centered = x - x.mean(1, keepdims=True)
    layer = relatives.layer_norm(x, weight, np.zeros(7), eps=EPS)
    same(relatives.rms_norm(centered, weight, eps=EPS), layer, LAYER, of)


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


@pytest.mark.parametrize("values", [[1, 3, 3, 5, 7, 9], [1, 3, 5, 5, 7, 9], [1, 3, 3, 3, 7, 9]])
def test_the_gradient_of_a_tied_median_is_left_open(values):
    """Of values that tie for a place in the middle, any may be the one that is taken."""
    given = given_to(GENERALIZED, case((6, 1)))._replace(x=np.array(values, dtype=float)[:, None])
    of = case((6, 1), center="median", deviation="mean absolute")
    assert not np.isfinite(told(GENERALIZED, of, given, gradients=True)["dx"].bound).any()


@pytest.mark.parametrize("devices", [2, 4])
def test_a_split_batch_is_the_whole_batch(devices):
    """Whatever the number of devices; rivals are what their names say."""
    of = case((8, 3, 2))
    values = given_to(GENERALIZED, of)._replace(running_mean=np.zeros(3), running_var=np.ones(3))
    x, weight, bias, mean, var, dy = values
    options = {"devices": devices, "momentum": 0.1, "eps": EPS}
    whole = train(x, weight, bias, mean, var, momentum=0.1, eps=EPS)
    equal(split.train_split(x, weight, bias, mean, var, **options), whole)
    gradients = split.train_split_gradients(x, weight, bias, dy, devices=devices, eps=EPS)
    equal(gradients, train_gradients(x, weight, bias, dy, eps=EPS))
    parts = [train(part, weight, bias, mean, var, momentum=0.1, eps=EPS) for part in np.split(x, devices)]
    alone = split.train_split(x, weight, bias, mean, var, rules=Rules(split="states averaged"), **options)
    averaged = [np.mean(a, axis=0) for a in list(zip(*parts, strict=True))[1:]]
    equal(alone, [np.concatenate([y for y, *_ in parts]), *averaged])
    lost = split.train_split(x, weight, bias, mean, var, rules=Rules(split="variances averaged"), **options)
    assert (lost[2] < whole[2]).all()  # the spread between the parts
    through_one = Rules(split="gradient through one")
    one = split.train_split_gradients(x, weight, bias, dy, devices=devices, eps=EPS, rules=through_one)
    root = normalize(statistics(x), EPS)[1] * weight.reshape(1, -1, 1)
    for part, (dx, g) in enumerate(zip(np.split(one[0], devices), np.split(dy, devices), strict=True)):
        alone = np.zeros_like(dy)  # means over a part are those over the whole batch where dy is 0 elsewhere, times d
        np.split(alone, devices)[part][...] = g
        of_whole = np.split(train_gradients(x, weight, bias, alone, eps=EPS)[0], devices)[part]
        told = prediction.train_gradients(values._replace(dy=alone), Rules(), FLOAT64, eps=EPS)["dx"]
        bound = 2 * devices * np.split(told.bound, devices)[part]
        assert (abs(dx - (devices * of_whole - (devices - 1) * root * g)) <= bound).all()
