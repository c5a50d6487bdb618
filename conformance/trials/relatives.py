"""Experiments on the relatives of batch norm (section 4): within a sample, over weights, or in other measures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from normspec import reference
from normspec.conformance.cases.arithmetic import Arithmetic, parameter_dtype
from normspec.conformance.cases.cases import Array, Case, Inputs, laid_out
from normspec.conformance.cases.memory import kept_by_size
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.predictions.stacks import Part, by_channel, by_group, by_row, by_unit
from normspec.conformance.trials.adapters import Backend, call
from normspec.conformance.trials.experiments import STATE, Experiment, Trace, given, offered, run_evaluate, run_train
from normspec.reference import Rules
from normspec.reference.places import Placement
from normspec.reference.relatives import as_asked, grouped, rows, ungrouped, units


@dataclass(frozen=True)
class Relative:
    """A way of normalizing. Every `size` values of x in memory order share their statistics, or all of a channel do."""

    name: str
    """The adapter's function; that for the gradients ends on `_gradients`."""
    parameters: Callable[[Case], tuple[int, ...]]
    """The shape of weight and bias."""
    size: Callable[[Case], int]
    """How many values share their statistics."""
    lie: Literal["rows", "channels", "groups", "units", "batch"]
    """How parameters lie: over the last axes, one a channel (of a sample, in groups, or of the batch), one a unit."""
    bias: bool = True
    """Whether there is one."""
    asked: bool = False
    """Whether it is asked for a center and a deviation."""

    @property
    def operation(self) -> str:
        """As claims name it."""
        return self.name.replace("_", " ")

    def method(self, *, gradients: bool) -> str:
        """The adapter's function."""
        return f"{self.name}_gradients" if gradients else self.name

    def results(self, *, gradients: bool) -> tuple[str, ...]:
        """What it returns."""
        return ("dx", "dweight", "dbias")[: 2 + self.bias] if gradients else ("y",)

    def given(self, case: Case) -> Inputs:
        """The arrays of a case: x and dy of its shape, weight and bias as they lie over it; no running statistics."""
        return _given(case, self)

    def placement(self, case: Case) -> Placement:
        """How the arrays lie in a stack of cases."""
        if self.lie == "rows":
            return by_row(case.shape, self.parameters(case))
        if self.lie == "groups":
            return by_group(case.shape, case.groups)
        return by_unit(case.shape) if self.lie == "units" else by_channel(case.shape)

    def arranged(self, values: Inputs, case: Case, rules: Rules) -> tuple[Inputs, Callable[[Array], Array]]:
        """The same as a prediction wants it, parameters on axis 1 and behind, and what brings x's shape back."""
        x, weight, bias, dy = values.x, values.weight, values.bias, values.dy
        if self.lie == "groups":
            x, weight, bias, dy = (grouped(a, case.groups, rules) for a in (x, weight, bias, dy))
            return values._replace(x=x, weight=weight, bias=bias, dy=dy), lambda a: ungrouped(a, rules)
        if self.lie == "units":
            x, weight, _ = units(x, weight, rules)
            return values._replace(x=x, weight=weight, dy=dy.reshape(x.shape)), lambda a: a.reshape(values.x.shape)
        if self.lie == "rows":
            x, dy = rows(x, weight), rows(dy, weight)
        return values._replace(x=x, dy=dy), lambda a: a.reshape(values.x.shape)


@kept_by_size(4096)
def _given(case: Case, relative: Relative) -> Inputs:
    if relative.lie == "batch":
        return given(case)
    size = relative.size(case)
    turned = given(replace(case, shape=(size, math.prod(case.shape) // size)))
    shape = relative.parameters(case)
    plain = replace(case, shape=(4, math.prod(shape)), seed=case.seed + 1)
    of_parameters = given(replace(plain, data="exact 3") if case.data.startswith("exact") else plain)
    weight, bias = of_parameters.weight.reshape(shape), of_parameters.bias.reshape(shape)
    x, dy = (np.ascontiguousarray(a.T).reshape(case.shape) for a in (turned.x, turned.dy))
    return Inputs(x, weight, bias if relative.bias else np.zeros(shape), np.zeros(1), np.ones(1), dy)


def run(relative: Relative, backend: Backend, case: Case, values: Inputs, *, gradients: bool = False) -> Trace:
    """What the backend gives for these values. Raises NotOffered or Crashed."""
    name = relative.method(gradients=gradients)
    function = offered(backend, name)
    x, dy = (laid_out(a, case.dtype, case.layout) for a in (values.x, values.dy))
    small = parameter_dtype(case.dtype)
    parameters = [laid_out(a, small, "contiguous") for a in (values.weight, values.bias)[: 1 + relative.bias]]
    options: dict[str, Any] = {} if relative.lie == "units" else {"eps": case.eps}
    if relative.lie == "groups":
        options["num_groups"] = case.groups
    if relative.asked:
        options |= {"center": case.center, "deviation": case.deviation}
    names = relative.results(gradients=gradients)
    shapes = [x.shape, *(p.shape for p in parameters)][: len(names)]
    results = call(function, names, shapes, x, *parameters, *([dy] if gradients else []), **options)
    return dict(zip(names, results, strict=True))


def told(
    relative: Relative, case: Case, values: Inputs, rules: Rules, arithmetic: Arithmetic, *, gradients: bool = False
) -> Mapping[str, Expected]:
    """What it must give for them under `rules`."""
    rules = as_asked(rules, case.center, case.deviation)
    arranged, restored = relative.arranged(values, case, rules)
    if relative.lie == "units":
        return _of_units(arranged, restored, values, rules, arithmetic, gradients=gradients)
    if not gradients:
        y = prediction.normalized(arranged, rules, arithmetic, eps=case.eps)["y"]
        return {"y": Expected(*map(restored, y))}
    results = prediction.train_gradients(arranged, rules, arithmetic, eps=case.eps)
    whole = {"dx": Expected(*map(restored, results["dx"]))}
    for name in relative.results(gradients=True)[1:]:
        whole[name] = Expected(*(_of_parameters(relative, a, rules) for a in results[name]))
    return whole


def _of_units(
    arranged: Inputs,
    restored: Callable[[Array], Array],
    values: Inputs,
    rules: Rules,
    arithmetic: Arithmetic,
    *,
    gradients: bool,
) -> Mapping[str, Expected]:
    """The same for weight norm, where the weight of a unit is g / sqrt(n), itself off by a few roundoffs."""
    *_, plain = units(values.x, values.weight, rules)
    few = 4 * bounds.steps(arithmetic)
    if not gradients:
        y, bound = prediction.normalized(arranged, plain, arithmetic, eps=0.0)["y"]
        return {"y": Expected(restored(y), restored(bound + few * abs(y)))}
    results = prediction.train_gradients(arranged, plain, arithmetic, eps=0.0)
    (dx, of_dx), (dweight, of_dweight) = results["dx"], results["dweight"]
    root = np.sqrt(reference.statistics(arranged.x, plain).size)
    dg = Expected(dweight / root, of_dweight / root + few * abs(dweight / root))
    return {"dx": Expected(restored(dx), restored(of_dx + few * abs(dx))), "dweight": dg}


def _of_parameters(relative: Relative, values: Array, rules: Rules) -> Array:
    return ungrouped(values[None], rules)[0] if relative.lie == "groups" else values


def _experiments(relative: Relative) -> tuple[Experiment, Experiment]:
    """The operation, and its gradients."""

    def observe(gradients: bool, backend: Backend, case: Case) -> Trace:
        return run(relative, backend, case, relative.given(case), gradients=gradients)

    def predict(gradients: bool, case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
        return told(relative, case, relative.given(case), rules, arithmetic, gradients=gradients)

    def parts(gradients: bool, case: Case, _: Trace) -> Sequence[Part]:
        kind = "weight norm" if relative.lie == "units" else "train" if gradients else "normalized"
        names = {name: name for name in relative.results(gradients=gradients)}
        asked = (case.center, case.deviation) if relative.asked else ("mean", "standard")
        return [
            Part(
                f"{kind} gradients" if gradients else kind,
                names,
                names,
                relative.given(case),
                relative.placement(case),
                case.eps,
                asked=asked,
            )
        ]

    forward, backward = (
        Experiment(
            relative.method(gradients=gradients),
            partial(observe, gradients),
            partial(predict, gradients),
            operation=relative.operation,
            parts=partial(parts, gradients),
        )
        for gradients in (False, True)
    )
    return forward, backward


def _last_axes(case: Case) -> tuple[int, ...]:
    return case.shape[-case.trailing :] if case.trailing else case.shape[1:]


def _channels(case: Case) -> tuple[int, ...]:
    return (case.shape[1],)


LAYER = Relative("layer_norm", _last_axes, lambda case: math.prod(_last_axes(case)), "rows")
RMS = Relative("rms_norm", _last_axes, lambda case: math.prod(_last_axes(case)), "rows", bias=False)
INSTANCE = Relative("instance_norm", _channels, lambda case: math.prod(case.shape[2:]), "channels")
GROUP = Relative("group_norm", _channels, lambda case: math.prod(case.shape[1:]) // case.groups, "groups")
WEIGHT = Relative(
    "weight_norm", lambda case: case.shape[:1], lambda case: math.prod(case.shape[1:]), "units", bias=False
)
L1 = Relative("l1_batch_norm", _channels, lambda case: case.size, "batch")
GENERALIZED = Relative("generalized_batch_norm", _channels, lambda case: case.size, "batch", asked=True)
RELATIVES = (LAYER, RMS, INSTANCE, GROUP, WEIGHT, L1, GENERALIZED)

LAYER_NORM, LAYER_NORM_GRADIENTS = _experiments(LAYER)
RMS_NORM, RMS_NORM_GRADIENTS = _experiments(RMS)
INSTANCE_NORM, INSTANCE_NORM_GRADIENTS = _experiments(INSTANCE)
GROUP_NORM, GROUP_NORM_GRADIENTS = _experiments(GROUP)
WEIGHT_NORM, WEIGHT_NORM_GRADIENTS = _experiments(WEIGHT)
L1_BATCH_NORM, L1_BATCH_NORM_GRADIENTS = _experiments(L1)
GENERALIZED_BATCH_NORM, GENERALIZED_BATCH_NORM_GRADIENTS = _experiments(GENERALIZED)


# -- instance norm with running statistics, as batch norm has them ----------------------------------------------------


def _with_state(case: Case) -> Inputs:
    state = given(case)
    return INSTANCE.given(case)._replace(running_mean=state.running_mean, running_var=state.running_var)


def _tracked(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    return prediction.train(_with_state(case), rules, arithmetic, eps=case.eps, momentum=case.momentum)


def _evaluated(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    return prediction.evaluate(_with_state(case), rules, arithmetic, eps=case.eps)


def _state_parts(kind: str, case: Case, _: Trace) -> Sequence[Part]:
    names = {name: name for name in (("y", *STATE) if kind == "train" else ("y",))}
    return [Part(kind, names, names, _with_state(case), by_channel(case.shape), case.eps, case.momentum)]


INSTANCE_NORM_TRAIN = Experiment(
    "instance_norm_train",
    lambda backend, case: run_train(backend, case, _with_state(case), "instance_norm_train"),
    _tracked,
    operation=INSTANCE.operation,
    parts=partial(_state_parts, "train"),
)
INSTANCE_NORM_EVALUATE = Experiment(
    "instance_norm_evaluate",
    lambda backend, case: run_evaluate(backend, case, _with_state(case), "instance_norm_evaluate"),
    _evaluated,
    operation=INSTANCE.operation,
    parts=partial(_state_parts, "evaluate"),
)
