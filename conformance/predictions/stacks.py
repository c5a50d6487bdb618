"""Many small cases predicted at once: one call of NumPy for all of them, whatever their shapes.

A `Part` is one call of a backend: the arrays it was given, how they lie, eps and momentum. A `Problem` is many parts of
one kind, laid one after another. What it predicts is flat: `y` and `dx` hold all values of the first part, then those
of the second; `running_mean`, `dweight` and the like hold all parameters of the first part, then those of the second.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Array, Inputs
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.prediction import Expected, Prediction
from normspec.reference import Rules
from normspec.reference.places import Count, Placement, Stack
from normspec.reference.relatives import as_asked, grouped
from normspec.reference.rivals import AFFINE

LARGEST = 4096
"""Elements of the largest case that is stacked: a larger one costs more in a flat array than alone."""
ENOUGH = 2**15
"""Elements of a problem: a larger one does not fit into the processor's cache."""
OF_PARAMETERS = frozenset({"running_mean", "running_var", "dweight", "dbias"})
"""Results that hold one value a parameter."""


@dataclass(frozen=True, eq=False)
class Part:
    """One call."""

    kind: str
    """The function of `KINDS` that predicts it."""
    quantities: Mapping[str, str]
    """The names of its results as claims know them."""
    results: Mapping[str, str]
    """The names of its results in the trace."""
    given: Inputs
    placement: Placement
    eps: float
    momentum: float | None = 0.0
    step: int = 1
    previous: "Part | None" = None
    """The training step before this one, where there was one."""
    asked: tuple[str, str] = ("mean", "standard")
    """The center and the deviation, where they are asked for."""

    @property
    def key(self) -> tuple[object, ...]:
        """What all parts of a problem have in common."""
        return self.kind, tuple(self.quantities.items()), self.momentum is None, self.previous is None, self.asked


class Problem:
    """Parts of one kind, one after another."""

    def __init__(self, parts: Sequence[Part]) -> None:
        first = parts[0]
        self.kind, self.quantities, self.asked = first.kind, first.quantities, first.asked
        self.places = Stack([part.placement for part in parts])
        given = zip(*(part.given for part in parts), strict=True)
        self.given = Inputs(*(np.concatenate([a.ravel() for a in arrays]) for arrays in given))
        self.eps = self.places.per_parameter([part.eps for part in parts])
        self.has_eps_0 = any(part.eps == 0 for part in parts)
        self.momenta = {part.momentum for part in parts}
        self.momentum = None if first.momentum is None else self.places.per_parameter([p.momentum or 0 for p in parts])
        self.step = self.places.per_parameter([part.step for part in parts])
        before = [part.previous for part in parts if part.previous is not None]
        self.previous = np.concatenate([part.given.x.ravel() for part in before]) if before else None
        self.places_before = Stack([part.placement for part in before]) if before else None

    def starts(self, result: str) -> "np.ndarray[Any, np.dtype[np.intp]]":
        """Where each part begins in a flat result."""
        return self.places.firsts if result in OF_PARAMETERS else self.places.starts

    def predict(self, rules: Rules, arithmetic: Arithmetic) -> Prediction:
        """Value and bound of every result; kept for the backends that are given the same cases."""
        rules = self._shown(as_asked(rules, *self.asked))
        key = self, rules, arithmetic
        if (found := _CACHE.get(key)) is None:
            found = KINDS[self.kind](self, rules, arithmetic)
            _CACHE.put(key, found)
        return found

    def _shown(self, rules: Rules) -> Rules:
        """The rules without choices about an eps or a momentum that no part has, so that predictions are shared."""
        if rules.eps_rule == "0 means 1e-5" and not self.has_eps_0:
            rules = replace(rules, eps_rule="inside")
        if rules.extremes != "as given" and float(rules.extremes[0]) not in self.momenta:
            rules = replace(rules, extremes="as given")
        return rules


class _Cache:
    """The predictions used last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._kept: OrderedDict[tuple[Problem, Rules, Arithmetic], tuple[Prediction, int]] = OrderedDict()

    def get(self, key: tuple[Problem, Rules, Arithmetic]) -> Prediction | None:
        """What was kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: tuple[Problem, Rules, Arithmetic], made: Prediction) -> None:
        """Keep it, and let go of what was used longest ago."""
        size = sum(expected.value.nbytes + expected.bound.nbytes for expected in made.values())
        self._kept[key] = made, size
        self.size += size
        while self.size > self.most:
            _, (_, old) = self._kept.popitem(last=False)
            self.size -= old

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self.size = 0


_CACHE = _Cache(96 * 2**20)


def forget() -> None:
    """Let go of all predictions that were kept."""
    _CACHE.clear()


# -- what is predicted, by kind ---------------------------------------------------------------------------------------


def _train(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.train(
        problem.given,
        rules,
        arithmetic,
        eps=problem.eps,
        momentum=problem.momentum,
        step=problem.step,
        previous=problem.previous,
        places=problem.places,
        places_before=problem.places_before,
    )


def _evaluate(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """y, and the state, which an evaluation leaves alone."""
    y = prediction.evaluate(problem.given, rules, arithmetic, eps=problem.eps, places=problem.places)["y"]
    if rules.evaluation_state == "updated":
        moved = _train(problem, rules, arithmetic)
        return {**moved, "y": y}
    none = np.zeros_like(problem.eps)
    mean, var = problem.given.running_mean, problem.given.running_var
    return {"y": y, "running_mean": Expected(mean, none), "running_var": Expected(var, none)}


def _normalized(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.normalized(problem.given, rules, arithmetic, eps=problem.eps, places=problem.places)


def _train_gradients(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.train_gradients(problem.given, rules, arithmetic, eps=problem.eps, places=problem.places)


def _evaluate_gradients(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    return prediction.evaluate_gradients(problem.given, rules, arithmetic, eps=problem.eps, places=problem.places)


@np.errstate(all="ignore")
def _units(problem: Problem, rules: Rules) -> tuple[Inputs, Rules, Array]:
    """Weight norm as RMS norm: the arrays with g / sqrt(n) for a weight, the rules without g's, and sqrt(n)."""
    given, groups = problem.given, problem.places.groups(rules.axes, rules.grouping)
    root = np.sqrt(problem.places.average(groups.size))
    gain, _ = AFFINE[rules.affine](given.weight, np.zeros_like(given.weight), problem.places)
    return given._replace(weight=gain / root), replace(rules, affine="scale, then shift"), root


@np.errstate(all="ignore")
def _weight_norm(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """w, where the weight of a unit is itself off by a few roundoffs."""
    given, plain, _ = _units(problem, rules)
    y, bound = prediction.normalized(given, plain, arithmetic, eps=0.0, places=problem.places)["y"]
    return {"y": Expected(y, bound + 4 * bounds.steps(arithmetic) * abs(y))}


@np.errstate(all="ignore")
def _weight_norm_gradients(problem: Problem, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    given, plain, root = _units(problem, rules)
    few = 4 * bounds.steps(arithmetic)
    told = prediction.train_gradients(given, plain, arithmetic, eps=0.0, places=problem.places)
    (dx, of_dx), (dweight, of_dweight) = told["dx"], told["dweight"]
    dg = Expected(dweight / root, of_dweight / root + few * abs(dweight / root))
    return {"dx": Expected(dx, of_dx + few * abs(dx)), "dweight": dg}


KINDS: Mapping[str, Callable[[Problem, Rules, Arithmetic], Prediction]] = {
    "train": _train,
    "evaluate": _evaluate,
    "normalized": _normalized,
    "train gradients": _train_gradients,
    "evaluate gradients": _evaluate_gradients,
    "weight norm": _weight_norm,
    "weight norm gradients": _weight_norm_gradients,
}


# -- how the arrays of a case lie -------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def by_channel(shape: tuple[int, ...]) -> Placement:
    """x is (N, C, *spatial), with one weight a channel."""
    return _placement(shape, lambda a, _: a.reshape(shape), _channel(shape), shape[1], one_axis=True)


@lru_cache(maxsize=4096)
def by_row(shape: tuple[int, ...], parameters: tuple[int, ...]) -> Placement:
    """The last axes of x have a weight for each place."""
    view, count = (-1, *parameters), math.prod(parameters)
    index = np.arange(math.prod(shape)) % count
    return _placement(shape, lambda a, _: a.reshape(view), index, count, one_axis=len(parameters) == 1)


@lru_cache(maxsize=4096)
def by_group(shape: tuple[int, ...], num_groups: int) -> Placement:
    """x is (N, C, *spatial), its channels in groups, with one weight a channel."""

    def view(a: Any, grouping: Any) -> Any:
        return grouped(a.reshape(shape), num_groups, Rules(grouping=grouping))

    return _placement(shape, view, _channel(shape), shape[1], one_axis=False)


@lru_cache(maxsize=4096)
def by_unit(shape: tuple[int, ...]) -> Placement:
    """The first axis of x has a weight for each place."""
    index = np.repeat(np.arange(shape[0]), math.prod(shape[1:]))
    return _placement(shape, lambda a, _: a.reshape(1, shape[0], -1), index, shape[0], one_axis=True)


def _channel(shape: tuple[int, ...]) -> "np.ndarray[Any, np.dtype[np.intp]]":
    return np.arange(math.prod(shape)) // math.prod(shape[2:]) % shape[1]


def _placement(
    shape: tuple[int, ...],
    view: Callable[[Any, str], Any],
    index: "np.ndarray[Any, np.dtype[np.intp]]",
    parameters: int,
    *,
    one_axis: bool,
) -> Placement:
    seen = view(np.empty(math.prod(shape), np.bool_), "contiguous").shape
    return Placement(seen, view, index, parameters, seen[0], math.prod(seen[2:]), one_axis)


def problems(parts: Sequence[Part]) -> list[tuple[Problem, list[int]]]:
    """The parts sorted into problems, each with the places of its parts in the sequence."""
    by_key: dict[tuple[object, ...], list[list[int]]] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for place, part in enumerate(parts):
        size, key = part.given.x.size, part.key
        if key not in by_key or sizes[key] + size > ENOUGH:
            by_key.setdefault(key, []).append([])
            sizes[key] = 0
        by_key[key][-1].append(place)
        sizes[key] += size
    return [(Problem([parts[i] for i in chosen]), chosen) for chunks in by_key.values() for chosen in chunks]


__all__ = ["ENOUGH", "LARGEST", "Count", "Part", "Problem", "by_channel", "by_group", "by_row", "by_unit", "problems"]
