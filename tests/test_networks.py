"""What the experiments among other layers rest on: the linear layer of the reference, and what its formulas promise."""

from dataclasses import replace

import numpy as np
import pytest

from normspec.conformance.cases.arithmetic import DTYPES, GRADES
from normspec.conformance.cases.cases import Case, rounded
from normspec.conformance.cases.given import before, given, given_to
from normspec.conformance.cases.operations import METHODS, OPERATIONS
from normspec.conformance.cases.pools import PROFILES, deep, draw, linear, rescaled, zero_eps
from normspec.conformance.predictions import bounds
from normspec.conformance.trials import networks
from normspec.conformance.trials.experiments import LINEAR_NORM, LINEAR_NORM_GRADIENTS
from normspec.reference import ARTICLE, normalize, statistics
from normspec.reference import linear as reference

SHAPES = [(4, 3), (2, 3, 4), (2, 2, 3, 2), (2, 2, 2, 2, 2)]
FLOAT64 = GRADES["float64"][0]


def case(shape, **fields):
    return Case(dtype="float64", shape=shape, data="integers", eps=0.25, seed=3, **fields)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_linear_layer_is_pytorchs(shape):
    """Integers in, integers out: exactly."""
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    layer = before(case(shape))
    dz = np.random.RandomState(0).randint(-3, 4, shape).astype(np.float64)
    leaves = [torch.tensor(a, requires_grad=True) for a in layer]
    z = (f.linear, f.conv1d, f.conv2d, f.conv3d)[len(shape) - 2](*leaves)
    assert np.array_equal(reference.linear(*layer), z.detach().numpy())
    theirs = torch.autograd.grad(z, leaves, torch.tensor(dz))
    for ours, other in zip(reference.linear_gradients(layer.u, layer.w, dz), theirs, strict=True):
        assert np.array_equal(ours, other.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pool", [linear, rescaled])
def test_what_goes_into_batch_norm_is_exact(pool, dtype):
    for drawn in draw(pool, dtype, PROFILES["default"], 0):
        z = reference.linear(*before(drawn))
        assert np.array_equal(rounded(z, dtype), z)
        assert (statistics(z).var > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bias_before_cancels(shape):
    """In the reference: y and all gradients are those without it, and its own is 0, within the bound."""
    of = case(shape)
    forward, backward = (e.predict(of, ARTICLE, FLOAT64, {}) for e in (LINEAR_NORM, LINEAR_NORM_GRADIENTS))
    values, layer = given_to(OPERATIONS["linear norm"], of), before(of)
    given = layer.u, layer.w, 0 * layer.b, values.weight, values.bias
    assert (abs(reference.linear_norm(*given, eps=of.eps) - forward["y"].value) <= 2 * forward["y"].bound).all()
    without = reference.linear_norm_gradients(*given, values.dy, eps=of.eps)
    for name, other in zip(METHODS["linear_norm_gradients"].results, without, strict=True):
        assert (abs(other - backward[name].value) <= 2 * backward[name].bound).all()
    assert (abs(backward["db"].value) <= backward["db"].bound).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("a", [8.0, 0.125])
def test_the_scale_of_the_weights_does_not_matter(shape, a):
    """In the reference, by a power of two: to the last bit."""
    for expected in networks.RESCALED.predict(case(shape, scale=a), ARTICLE, FLOAT64, {}).values():
        assert not expected.value.any()


@pytest.mark.parametrize("drawn", draw(zero_eps, "float64", PROFILES["quick"], 0), ids=str)
def test_the_gradient_is_a_projection(drawn):
    """[3], theorem 4.1, with equality: the squared length of dx, and nothing of it along 1 and x-hat."""
    values = given(drawn)
    axes = (0, *range(2, len(drawn.shape)))
    x_hat, root = normalize(statistics(values.x), 0.0)
    dy = values.dy
    along = [(dy * unit).sum(axes, keepdims=True) for unit in (np.ones_like(dy), x_hat)]
    whole = (dy * dy).sum(axes, keepdims=True)
    factor = (values.weight.reshape(root.shape) * root) ** 2
    square = factor * (whole - (along[0] ** 2 + along[1] ** 2) / drawn.size)
    rounding = 4 * bounds.growth(drawn.size, FLOAT64) * (factor * whole).ravel()  # of the difference just taken
    known = {"along 1": 0.0, "along x-hat": 0.0, "square": square.ravel()}
    for name, expected in networks.PROJECTION.predict(drawn, ARTICLE, FLOAT64, {}).items():
        assert (abs(expected.value - known[name]) <= expected.bound + rounding).all()


def test_without_batch_norm_the_spread_explodes_or_dies():
    from faulty import RulesBackend, backend

    sound = backend(RulesBackend())
    for drawn in draw(deep, "float64", PROFILES["default"], 0):
        depth = networks.through_layers(sound, drawn)
        assert not depth.mistake
        assert max(abs(np.log10(depth.spreads))) < 1
        assert abs(np.log10(depth.plain[-1])) > 6
        assert (depth.plain[-1] > 1) == (drawn.scale > 1)
    assert networks.through_layers(sound, replace(drawn, scale=4.0, eps=100.0)).spreads[-1] < 1
