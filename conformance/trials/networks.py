"""Experiments on batch norm among other layers: after a linear one (sections 5 and 6), and in a deep network.

What goes into the linear layer are small integers, so that z = W u + b is exact in every dtype, and all error is batch
norm's, or of the sums behind it. A case's shape is z's; `scale` is what W is multiplied by.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import Arithmetic, own_grades, parameter_dtype
from normspec.conformance.cases.cases import Array, Case, Inputs, laid_out, rounded
from normspec.conformance.cases.memory import kept_by_size
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, NotOffered, call
from normspec.conformance.trials.experiments import (
    STATE,
    TRAIN_GRADIENTS,
    Experiment,
    Trace,
    given,
    new_layer,
    offered,
    run_layer,
    run_train,
    state_of,
)
from normspec.reference import ARTICLE, Rules, normalize, statistics
from normspec.reference.linear import linear, linear_gradients, linear_norm, linear_norm_gradients

GRADIENTS = ("du", "dw", "db", "dweight", "dbias")
FEATURES, KERNEL = 3, 2
"""Channels of u, and the size of the kernel along every spatial axis."""


class Before(NamedTuple):
    """A linear layer and what goes into it."""

    u: Array
    w: Array
    b: Array


@kept_by_size(4096)
def before(case: Case) -> Before:
    """u, W and b of a case, whose z has the case's shape."""
    random = np.random.RandomState(case.seed)
    samples, channels, *spatial = case.shape
    u = random.randint(-2, 3, (samples, FEATURES, *(n + KERNEL - 1 for n in spatial))).astype(np.float64)
    w = random.randint(-2, 3, (channels, FEATURES, *[KERNEL] * len(spatial))).astype(np.float64)
    u[0], w[:, 0] = abs(u[0]) + 1, 1.0  # no channel of z is constant
    b = random.choice([-8.0, -3.0, 5.0, 7.0], channels)
    return Before(u, w * case.scale, b * case.scale)


def _values(case: Case) -> Inputs:
    """Batch norm's own arrays, with z for x."""
    return given(replace(case, data="bell", scale=1.0))._replace(x=linear(*before(case)))


def _handed_over(case: Case) -> list[NDArray[Any]]:
    values, small = _values(case), parameter_dtype(case.dtype)
    first = [laid_out(a, case.dtype, "contiguous") for a in before(case)]
    return [
        *first,
        *(laid_out(a, small, "contiguous") for a in values[1:3]),
        laid_out(values.dy, case.dtype, "contiguous"),
    ]


def run(backend: Backend, case: Case, *, gradients: bool) -> Trace:
    """What the backend makes of a case. Raises NotOffered or Crashed."""
    u, w, b, weight, bias, dy = _handed_over(case)
    if not gradients:
        (y,) = call(offered(backend, "linear_norm"), ("y",), (case.shape,), u, w, b, weight, bias, eps=case.eps)
        return {"y": y}
    shapes = [a.shape for a in (u, w, b, weight, bias)]
    function = offered(backend, "linear_norm_gradients")
    results = call(function, GRADIENTS, shapes, u, w, b, weight, bias, dy, eps=case.eps)
    return dict(zip(GRADIENTS, results, strict=True))


def told(case: Case, rules: Rules, arithmetic: Arithmetic, *, gradients: bool) -> Mapping[str, Expected]:
    """What must come of it under `rules`."""
    return handed_on(before(case), _values(case), rules, arithmetic, eps=case.eps, gradients=gradients)


@np.errstate(all="ignore")
def handed_on(
    layer: Before, values: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float, gradients: bool
) -> Mapping[str, Expected]:
    """Batch norm's results on values whose x is the layer's z, and its dx handed on through W."""
    if rules.earlier_bias == "added after":
        values = values._replace(x=linear(layer.u, layer.w, np.zeros_like(layer.b)))
    if not gradients:
        y = linear_norm(*layer, values.weight, values.bias, eps=eps, rules=rules)
        bound = prediction.normalized(values, rules, arithmetic, eps=eps)["y"].bound
        if rules.earlier_bias == "added after":
            bound = bounds.stored(y, bound + bounds.steps(arithmetic) * abs(y), arithmetic.result)
        return {"y": Expected(y, bound)}
    results = prediction.train_gradients(values, rules, arithmetic, eps=eps)
    expected = linear_norm_gradients(*layer, values.weight, values.bias, values.dy, eps=eps, rules=rules)
    dz, of_dz = abs(results["dx"].value), results["dx"].bound
    u, w = abs(layer.u), abs(layer.w)
    carried, size = linear_gradients(u, w, of_dz), linear_gradients(u, w, dz + of_dz)
    places = values.dy.size // values.dy.shape[1]
    terms = (layer.w.size // FEATURES, places, places)
    told = {}
    for name, value, error, magnitude, count in zip(GRADIENTS, expected, carried, size, terms, strict=False):
        reach = error + bounds.growth(count, arithmetic) * magnitude
        if name == "db" and rules.earlier_bias != "cancels":  # a plain sum, of dy or of what it is multiplied by
            reach = reach + bounds.growth(count, arithmetic) * abs(expected[2])
        told[name] = Expected(value, bounds.stored(value, reach, arithmetic.result))
    return {**told, "dweight": results["dweight"], "dbias": results["dbias"]}


LINEAR_NORM, LINEAR_NORM_GRADIENTS = (
    Experiment(
        name,
        lambda backend, case, g=gradients: run(backend, case, gradients=g),  # type: ignore[misc]
        lambda case, rules, arithmetic, _, g=gradients: told(case, rules, arithmetic, gradients=g),  # type: ignore[misc]
        operation="linear norm",
    )
    for name, gradients in (("linear_norm", False), ("linear_norm_gradients", True))
)


# -- weights of another scale -----------------------------------------------------------------------------------------


def _rescaled(case: Case) -> tuple[Case, Case, float]:
    """The case with W itself and with a W, eps growing with a^2, and a."""
    return replace(case, scale=1.0), replace(case, eps=case.eps * case.scale**2), case.scale


def _differences(plain: Mapping[str, Any], other: Mapping[str, Any], a: float) -> dict[str, Any]:
    """How y, du and a dw differ; the factor is a power of two and exact."""
    return {name: (other[name], plain[name], a if name == "dw" else 1.0) for name in ("y", "du", "dw")}


def _observe_rescaled(backend: Backend, case: Case) -> Trace:
    *cases, a = _rescaled(case)
    plain, other = ({**run(backend, c, gradients=False), **run(backend, c, gradients=True)} for c in cases)
    pairs = _differences(plain, other, a)
    return {n: factor * two.astype(np.float64) - one for n, (two, one, factor) in pairs.items()}


def _predict_rescaled(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    *cases, a = _rescaled(case)
    plain, other = (
        {**told(c, rules, arithmetic, gradients=False), **told(c, rules, arithmetic, gradients=True)} for c in cases
    )
    return {
        n: Expected(factor * two.value - one.value, factor * two.bound + one.bound)
        for n, (two, one, factor) in _differences(plain, other, a).items()
    }


RESCALED = Experiment("weights rescaled", _observe_rescaled, _predict_rescaled, operation="linear norm")


# -- the gradient as a projection -------------------------------------------------------------------------------------


def _components(case: Case, dx: Array) -> dict[str, Array]:
    """Of every channel: dx along 1 and along x-hat, and its squared length."""
    x = given(case).x
    x_hat, axes = normalize(statistics(x), case.eps)[0], (0, *range(2, x.ndim))
    return {"along 1": dx.sum(axes), "along x-hat": (dx * x_hat).sum(axes), "square": (dx * dx).sum(axes)}


def _observe_projection(backend: Backend, case: Case) -> Trace:
    return _components(case, TRAIN_GRADIENTS.observe(backend, case)["dx"].astype(np.float64))


@np.errstate(all="ignore")
def _predict_projection(case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace) -> Mapping[str, Expected]:
    dx, bound = TRAIN_GRADIENTS.predict(case, rules, arithmetic, trace)["dx"]
    x = given(case).x
    x_hat, axes = normalize(statistics(x), case.eps)[0], (0, *range(2, x.ndim))
    # Sums of ours, in float64, over what the backend returned.
    own = bounds.growth(case.size, own_grades("float64")[0])
    reach = {
        "along 1": (bound + own * (abs(dx) + bound)).sum(axes),
        "along x-hat": ((bound + 2 * own * (abs(dx) + bound)) * abs(x_hat)).sum(axes),
        "square": ((2 * abs(dx) + bound) * bound + own * (abs(dx) + bound) ** 2).sum(axes),
    }
    return {name: Expected(value, reach[name]) for name, value in _components(case, dx).items()}


PROJECTION = Experiment("components of dx", _observe_projection, _predict_projection)


# -- depth ------------------------------------------------------------------------------------------------------------


class Depth(NamedTuple):
    """What became of the spread: after every layer, with and without batch norm; and the first thing that is wrong."""

    spreads: list[float]
    plain: list[float]
    mistake: str


def through_layers(backend: Backend, case: Case, rules: Mapping[str, Rules] | None = None) -> Depth:
    """`steps` layers of z = W relu(y), y batch norm of z, W of gain `scale`; each has its own state, momentum being 1.

    Every y is held against the formula on its own z, so that no error is carried from layer to layer, and so is the
    state of every layer, once all have been trained. `rules` are those by which the backend arrives at y and at the
    running statistics, by name; the article's where none are given.
    """
    random = np.random.RandomState(case.seed)
    channels = case.shape[1]
    unit = given(replace(case, parameters="unit"))
    h, plain = unit.x, unit.x
    inputs: list[Array] = []
    results: list[Trace] = []
    spreads: list[float] = []
    plainly: list[float] = []
    layers = _layers(backend, case)
    for step in range(case.steps):
        w = random.choice([-1.0, 1.0], (channels, channels)) * case.scale / np.sqrt(channels)
        z = rounded(np.maximum(h, 0) @ w, case.dtype)
        plain = np.maximum(plain, 0) @ w
        values = unit._replace(x=z, running_mean=np.zeros(channels), running_var=np.ones(channels))
        if layers:
            result = {"y": run_layer(layers[step].train, case, z)}
        else:
            result = run_train(backend, replace(case, momentum=1.0), values)
        inputs.append(z)
        results.append(result)
        h = result["y"].astype(np.float64)
        with np.errstate(all="ignore"):
            spreads.append(float(np.sqrt(h.var(0).mean())))
            plainly.append(float(np.sqrt(plain.var(0).mean())))
    if layers:
        results = [{**result, **state_of(layer, channels)} for result, layer in zip(results, layers, strict=True)]
    return Depth(spreads, plainly, _wrong(case, unit, inputs, results, rules or {}))


def _layers(backend: Backend, case: Case) -> list[Any]:
    try:
        return [new_layer(backend, case, eps=case.eps, momentum=1.0) for _ in range(case.steps)]
    except NotOffered:
        return []


def _wrong(case: Case, unit: Inputs, inputs: list[Array], results: list[Trace], rules: Mapping[str, Rules]) -> str:
    """What is wrong; "" if one arithmetic explains every layer, with a finite bound somewhere."""
    told = "the spread drifts: no bound on it is finite"
    channels = case.shape[1]
    fresh = unit._replace(running_mean=np.zeros(channels), running_var=np.ones(channels))
    for arithmetic in own_grades(case.dtype):
        wrong, decided = "", False
        for number, (z, result) in enumerate(zip(inputs, results, strict=True), 1):
            given_here = fresh._replace(x=z)
            for name in ("y", *STATE):
                own = rules.get(name, ARTICLE)
                right = prediction.train(given_here, own, arithmetic, eps=case.eps, momentum=1.0)[name]
                ratio = ratios(result[name], right)
                decided = decided or not np.isnan(ratio).all()
                if not wrong and (ratio > 1).any():
                    words = "the spread drifts" if name == "y" else "layers share their state"
                    wrong = f"{words}: {name} of layer {number} of {len(inputs)} is not that of its input"
        if decided and not wrong:
            return ""
        told = wrong or told
    return told
