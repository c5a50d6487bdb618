"""Experiments on batch norm among other layers: after a linear one (sections 5 and 6), and in a deep network.

What goes into the linear layer are small integers, so that z = W u + b is exact in every dtype, and all error is batch
norm's, or of the sums behind it. A case's shape is z's; `scale` is what W is multiplied by.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic, own_grades
from normspec.conformance.cases.cases import Array, Case, Inputs, rounded
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import STATE
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, NotOffered
from normspec.conformance.trials.experiments import (
    LINEAR_NORM,
    LINEAR_NORM_GRADIENTS,
    TRAIN_GRADIENTS,
    Experiment,
    Trace,
    new_layer,
    run_layer,
    run_train,
    state_of,
)
from normspec.reference import ARTICLE, Rules, normalize, statistics

# -- weights of another scale -----------------------------------------------------------------------------------------


def _rescaled(case: Case) -> tuple[Case, Case, float]:
    """The case with W itself and with a W, eps growing with a^2, and a."""
    return replace(case, scale=1.0), replace(case, eps=case.eps * case.scale**2), case.scale


def _differences(plain: Mapping[str, Any], other: Mapping[str, Any], a: float) -> dict[str, Any]:
    """How y, du and a dw differ; the factor is a power of two and exact."""
    return {name: (other[name], plain[name], a if name == "dw" else 1.0) for name in ("y", "du", "dw")}


def _observe_rescaled(backend: Backend, case: Case) -> Trace:
    *cases, a = _rescaled(case)
    plain, other = ({**LINEAR_NORM.observe(backend, c), **LINEAR_NORM_GRADIENTS.observe(backend, c)} for c in cases)
    pairs = _differences(plain, other, a)
    return {n: factor * two.astype(np.float64) - one for n, (two, one, factor) in pairs.items()}


def _predict_rescaled(case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace) -> Mapping[str, Expected]:
    *cases, a = _rescaled(case)
    plain, other = (
        {
            **LINEAR_NORM.predict(c, rules, arithmetic, trace),
            **LINEAR_NORM_GRADIENTS.predict(c, rules, arithmetic, trace),
        }
        for c in cases
    )
    return {
        n: Expected(factor * two.value - one.value, factor * two.bound + one.bound)
        for n, (two, one, factor) in _differences(plain, other, a).items()
    }


RESCALED = Experiment("weights rescaled", _observe_rescaled, _predict_rescaled, operation=LINEAR_NORM.operation)


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
