"""What one call of a backend must return.

A `Part` is one call: the arrays it was given, how they lie, eps and momentum. Its kind names the function that predicts
it. Most kinds are predicted by themselves or in stacks, see `stacks`: the formulas are the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Array, Case, Inputs
from normspec.conformance.cases.given import BehindLinear, Values
from normspec.conformance.cases.operations import LIKE, Arrangement, Method, Operation
from normspec.conformance.predictions import bounds, linear, prediction, split
from normspec.conformance.predictions.prediction import Expected, Prediction
from normspec.reference import Rules
from normspec.reference.batch_norm import groups_of
from normspec.reference.places import Count, Places, Whole
from normspec.reference.relatives import as_asked
from normspec.reference.rivals import AFFINE


@dataclass(frozen=True, eq=False)
class Part:
    """One call."""

    kind: str
    """The function of `ALONE` that predicts it."""
    quantities: Mapping[str, str]
    """The names of its results as claims know them."""
    results: Mapping[str, str]
    """The names of its results in the trace."""
    given: Values
    arrangement: Arrangement
    eps: float
    momentum: float | None = 0.0
    step: int = 1
    previous: "Part | None" = None
    """The training step before this one, where there was one."""
    asked: tuple[str, str] = ("mean", "standard")
    """The center and the deviation, where they are asked for."""
    devices: int = 1

    @property
    def key(self) -> tuple[object, ...]:
        """What all parts of a problem have in common."""
        return self.kind, tuple(self.quantities.items()), self.momentum is None, self.previous is None, self.asked


def part_of(operation: Operation, method: Method, case: Case, values: Values) -> Part:
    """A call of a method with the options of a case."""
    names = {name: name for name in method.traced}
    # evaluate is given no momentum: an update that should not happen can only use the default.
    momentum = case.momentum if "momentum" in method.options else 0.1
    asked = (case.center, case.deviation) if "center" in method.options else ("mean", "standard")
    place = operation.arrangement(case)
    return Part(
        method.kind, names, names, values, place, case.eps, momentum=momentum, asked=asked, devices=case.devices
    )


class Posed:
    """What is predicted at once: one call, or many one after another."""

    given: Inputs
    eps: Count
    momentum: Count | None
    step: Count
    previous: Array | None
    places: Places
    places_before: Places | None


class Single(Posed):
    """One part by itself, in the shape of its arrays."""

    def __init__(self, part: Part, rules: Rules) -> None:
        values, place = part.given, part.arrangement
        self.part, self.before = part, None
        if isinstance(values, BehindLinear):
            self.before, values = values.before, values.inputs
        x, dy = (place.view(a, rules.grouping) for a in (values.x, values.dy))
        weight, bias = (place.view_of_parameters(a, rules.grouping) for a in (values.weight, values.bias))
        self.given = values._replace(x=x, weight=weight, bias=bias, dy=dy)
        self.eps, self.momentum, self.step = part.eps, part.momentum, part.step
        self.previous = None if part.previous is None else part.previous.given.x
        self.places, self.places_before = Whole(x.shape, weight.shape), None


def alone(part: Part, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """Value and bound of every result of one part, by its name in the trace and in its own shape."""
    rules = as_asked(rules, *part.asked)
    made = ALONE[part.kind](Single(part, rules), rules, arithmetic)
    return {
        name: Expected(*(part.arrangement.restored(a, LIKE[result], rules.grouping) for a in made[result]))
        for result, name in part.results.items()
    }


# -- what is predicted, by kind ---------------------------------------------------------------------------------------


def _train(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.train(
        posed.given,
        rules,
        arithmetic,
        eps=posed.eps,
        momentum=posed.momentum,
        step=posed.step,
        previous=posed.previous,
        places=posed.places,
        places_before=posed.places_before,
    )


def _evaluate(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """y, and the state, which an evaluation leaves alone."""
    y = prediction.evaluate(posed.given, rules, arithmetic, eps=posed.eps, places=posed.places)["y"]
    if rules.evaluation_state == "updated":
        moved = _train(posed, rules, arithmetic)
        return {**moved, "y": y}
    mean, var = posed.given.running_mean, posed.given.running_var
    none = np.zeros_like(mean)
    return {"y": y, "running_mean": Expected(mean, none), "running_var": Expected(var, none)}


def _normalized(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.normalized(posed.given, rules, arithmetic, eps=posed.eps, places=posed.places)


def _train_gradients(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.train_gradients(posed.given, rules, arithmetic, eps=posed.eps, places=posed.places)


def _evaluate_gradients(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.evaluate_gradients(posed.given, rules, arithmetic, eps=posed.eps, places=posed.places)


@np.errstate(all="ignore")
def _units(posed: Posed, rules: Rules) -> tuple[Inputs, Rules, Count]:
    """Weight norm as RMS norm: the arrays with g / sqrt(n) for a weight, the rules without g's, and sqrt(n)."""
    given, size = posed.given, groups_of(posed.given.x, rules, posed.places).size
    root = np.sqrt(posed.places.average(size) if isinstance(size, np.ndarray) else size)
    gain, _ = AFFINE[rules.affine](given.weight, np.zeros_like(given.weight), posed.places)
    return given._replace(weight=gain / root), replace(rules, affine="scale, then shift"), root


@np.errstate(all="ignore")
def _weight_norm(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """w, where the weight of a unit is itself off by a few roundoffs."""
    given, plain, _ = _units(posed, rules)
    y, bound = prediction.normalized(given, plain, arithmetic, eps=0.0, places=posed.places)["y"]
    return {"y": Expected(y, bound + 4 * bounds.steps(arithmetic) * abs(y))}


@np.errstate(all="ignore")
def _weight_norm_gradients(posed: Posed, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    given, plain, root = _units(posed, rules)
    few = 4 * bounds.steps(arithmetic)
    told = prediction.train_gradients(given, plain, arithmetic, eps=0.0, places=posed.places)
    (dx, of_dx), (dweight, of_dweight) = told["dx"], told["dweight"]
    dg = Expected(dweight / root, of_dweight / root + few * abs(dweight / root))
    return {"dx": Expected(dx, of_dx + few * abs(dx)), "dweight": dg}


KINDS: Mapping[str, Callable[[Posed, Rules, Arithmetic], Prediction]] = {
    "train": _train,
    "evaluate": _evaluate,
    "normalized": _normalized,
    "train gradients": _train_gradients,
    "evaluate gradients": _evaluate_gradients,
    "weight norm": _weight_norm,
    "weight norm gradients": _weight_norm_gradients,
}
"""What predicts a stack, or a single call."""


def _split(single: Single, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    part = single.part
    assert part.momentum is not None
    options = {"eps": part.eps, "momentum": part.momentum}
    return split.train_split(single.given, rules, arithmetic, devices=part.devices, **options)


def _split_gradients(single: Single, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    part = single.part
    return split.train_split_gradients(single.given, rules, arithmetic, devices=part.devices, eps=part.eps)


def _linear(single: Single, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    assert single.before is not None
    return linear.linear_norm(single.before, single.given, rules, arithmetic, eps=single.part.eps)


def _linear_gradients(single: Single, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    assert single.before is not None
    return linear.linear_norm_gradients(single.before, single.given, rules, arithmetic, eps=single.part.eps)


ALONE: Mapping[str, Callable[[Single, Rules, Arithmetic], Prediction]] = {
    **KINDS,
    "split": _split,
    "split gradients": _split_gradients,
    "linear": _linear,
    "linear gradients": _linear_gradients,
}
"""The same, and those that are predicted one by one."""
