"""Many cases predicted at once give what each of them gives alone, under every choice in `Rules`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_rules import CHOICES

from normspec.conformance.cases.arithmetic import GRADES, Arithmetic
from normspec.conformance.cases.cases import Case, Inputs, inputs
from normspec.conformance.cases.given import given_to
from normspec.conformance.cases.operations import OPERATIONS, Arrangement, Operation
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.predictions import bounds, calls, prediction
from normspec.conformance.predictions.calls import Part, part_of
from normspec.conformance.predictions.prediction import Expected, Prediction
from normspec.conformance.predictions.stacks import Problem, problems
from normspec.reference import ARTICLE, Rules

WIDE, NARROW = GRADES["float64"][0], GRADES["float32"][0]
ALIKE = 2 * bounds.steps(WIDE) / bounds.steps(NARROW)
"""How far two bounds may be apart, relatively: they are made of roundoffs of float32, and computed in float64."""


def case(shape: tuple[int, ...], data: str = "bell", seed: int = 0, **fields: Any) -> Case:
    return Case(dtype="float32", shape=shape, data=data, seed=seed, **fields)


CASES = (
    case((4, 3), "exact 3", 1, eps=3.0, momentum=0.25),
    case((5, 3), seed=2, eps=1e-5, momentum=0.1, location=2.0),
    case((3, 2, 9), seed=3, eps=1e-3, momentum=0.0),
    case((2, 3, 3, 2), "exact 2", 4, eps=1.0, momentum=1.0),
    case((2, 2, 3, 1, 2), seed=5, eps=1e-6, momentum=0.5, scale=1e3),
    case((3, 17, 2), seed=6, eps=0.1, momentum=0.75),
    case((2, 1), "exact 1", 7, eps=0.25, momentum=0.1),
    case((1, 2, 4), seed=8, eps=1e-5, momentum=0.9),
    case((1, 3), seed=9, eps=1e-3, momentum=0.25),  # one value a channel
    case((17, 1), seed=10, eps=0.0, momentum=0.25, location=-5.0),
    case((2, 19), seed=11, eps=1e-5, momentum=0.125),
    case((2, 2, 5), "constant", 12, eps=1e-2, momentum=0.1),
    case((6, 2, 1, 3), "one-hot", 13, eps=1e-5, momentum=1.0),
)


def given(one: Case) -> Inputs:
    """The arrays of a case, one weight of them 0 and one negative."""
    values = inputs(one)
    values.weight[:2] = (0.0, -0.75)[: values.weight.size]
    return values


# -- the comparison ---------------------------------------------------------------------------------------------------


def assert_the_same(parts: Sequence[Part], rules: Rules, alone: Sequence[Prediction]) -> None:
    """A stack's values and bounds, part by part, against those of each case alone, predicted in float32.

    Values may differ by the bound for float64: two sums in two orders are two implementations. It is infinite where
    only rounding decides. Bounds are compared in float32, where their own roundings in float64 do not show.
    """
    problem = Problem(parts)
    predicted, reaches = (problem.predict(rules, arithmetic) for arithmetic in (NARROW, WIDE))
    assert set(predicted) >= set(alone[0])
    for name in alone[0]:
        known = [np.concatenate([one[name][i].ravel() for one in alone]) for i in (0, 1)]
        (value, bound), reach = predicted[name], reaches[name].bound
        assert [np.isnan(a).tolist() for a in (value, bound)] == [np.isnan(a).tolist() for a in known], name
        assert np.array_equal(np.isinf(bound), np.isinf(known[1])), name
        with np.errstate(invalid="ignore"):
            error = np.where(value == known[0], 0.0, abs(value - known[0]))
        apart = np.isfinite(reach) & (np.isfinite(value) | np.isfinite(known[0])) & ~(error <= reach)
        assert not apart.any(), f"{name}: {value[apart]} in the stack, {known[0][apart]} alone"
        np.testing.assert_allclose(bound, known[1], rtol=ALIKE, err_msg=name)


# -- batch norm -------------------------------------------------------------------------------------------------------

STATE = ("running_mean", "running_var")
RESULTS = {
    "train": ("y", *STATE),
    "evaluate": ("y", *STATE),
    "normalized": ("y",),
    "train gradients": ("dx", "dweight", "dbias"),
    "evaluate gradients": ("dx", "dweight", "dbias"),
}
STEPS = (1, 2, 3, 7)


def part(kind: str, one: Case, momentum: float | None, step: int = 1, previous: Part | None = None) -> Part:
    names = {name: name for name in RESULTS[kind]}
    return Part(kind, names, names, given(one), Arrangement("channels", one.shape), one.eps, momentum, step, previous)


def alone(one: Part, rules: Rules, arithmetic: Arithmetic) -> Prediction:
    """What a part gives by itself, from arrays of its own shape."""
    values, options = one.given, {"eps": one.eps}
    previous = one.previous.given.x if one.previous else None
    if one.kind == "normalized":
        return prediction.normalized(values, rules, arithmetic, **options)
    if one.kind == "train gradients":
        return prediction.train_gradients(values, rules, arithmetic, **options)
    if one.kind == "evaluate gradients":
        return prediction.evaluate_gradients(values, rules, arithmetic, **options)
    told = prediction.train(
        values, rules, arithmetic, eps=one.eps, momentum=one.momentum, step=one.step, previous=previous
    )
    if one.kind == "train":
        return told
    if rules.evaluation_state == "frozen":
        none = np.zeros_like(values.running_mean)
        told = {name: Expected(getattr(values, name), none) for name in STATE}
    return {**told, **prediction.evaluate(values, rules, arithmetic, **options)}


def check(parts: Sequence[Part], rules: Rules) -> None:
    assert_the_same(parts, rules, [alone(one, rules, NARROW) for one in parts])


@pytest.mark.parametrize(("field", "value"), CHOICES)
def test_a_stack_of_batch_norms(field: str, value: Any) -> None:
    """All functions, with cases of all ranks, a momentum and an eps each."""
    rules = replace(ARTICLE, **{field: value})
    for kind in RESULTS:
        check([part(kind, one, one.momentum) for one in CASES], rules)


OF_LAYERS = [
    (field, value)
    for field, value in CHOICES
    if field in ("update", "extremes", "no_momentum", "tracked_variance", "tracked_of", "evaluation_state", "axes")
]


@pytest.mark.parametrize("momentum", ["given", None])
@pytest.mark.parametrize(("field", "value"), OF_LAYERS)
def test_a_stack_of_layer_steps(field: str, value: Any, momentum: str | None) -> None:
    """Later steps, after batches of as many channels and of more or fewer samples; evaluations between them."""
    rules = replace(ARTICLE, **{field: value})
    for kind in ("train", "evaluate"):
        parts = []
        for i, one in enumerate(CASES):
            before = replace(one, shape=(one.shape[0] + i % 2, *one.shape[1:]), data="bell", seed=one.seed + 50)
            parts.append(part(kind, one, momentum and one.momentum, STEPS[i % 4], part("train", before, one.momentum)))
        check(parts, rules)


@pytest.mark.parametrize("arithmetic", [a for grades in GRADES.values() for a in grades], ids=lambda a: a.grade)
def test_the_bounds_of_every_arithmetic(arithmetic: Arithmetic) -> None:
    for kind in RESULTS:
        parts = [part(kind, one, one.momentum) for one in CASES]
        problem = Problem(parts)
        for name, (value, bound) in problem.predict(ARTICLE, arithmetic).items():
            pieces = (np.split(a, problem.starts(name)[1:]) for a in (value, bound))
            for one, *found in zip(parts, *pieces, strict=True):
                expected = alone(one, ARTICLE, arithmetic)[name]
                if arithmetic.result.roundoff > 2.0**-53:
                    np.testing.assert_allclose(found[1], expected.bound.ravel(), rtol=ALIKE)


def test_parts_are_sorted_into_problems() -> None:
    """Each part once, whatever its kind, with momentum and without."""
    parts = [part(kind, one, momentum) for one in CASES for kind in RESULTS for momentum in (one.momentum, None)]
    found = problems(parts)
    assert sorted(place for _, places in found for place in places) == list(range(len(parts)))
    for problem, places in found:
        assert {parts[i].key for i in places} == {parts[places[0]].key}
        assert np.array_equal(problem.given.x, np.concatenate([parts[i].given.x.ravel() for i in places]))


# -- the relatives ----------------------------------------------------------------------------------------------------

SHAPES = ((2, 6), (3, 12, 2), (2, 6, 2, 3), (1, 12, 2, 1, 2), (4, 6, 1), (2, 24))
MEASURES = tuple((c, d) for c in ("mean", "median", "midrange") for d in ("standard", "mean absolute", "half range"))


RELATIVES = [o for o in OPERATIONS.values() if o.methods[0].kind in ("normalized", "weight norm")]


def of_relative(relative: Operation, rules: Rules) -> Iterator[list[Case]]:
    """Stacks of cases: of ranks, group counts, trailing axes and data of many kinds, and of one measure each."""
    measures = MEASURES if rules == relative.rules else MEASURES[::4]
    for center, deviation in measures if "center" in relative.methods[0].options else MEASURES[:1]:
        yield [
            case(shape, data, 3 * i, eps=eps, groups=groups, trailing=trailing, center=center, deviation=deviation)
            for i, (shape, groups, trailing) in enumerate(
                (shape, groups, min(trailing, len(shape) - 1))
                for shape in SHAPES
                for groups, trailing in ((2, 1), (3, 2), (1, 0))
                if relative.lie in ("groups", "rows") or groups == 2
            )
            for data, eps in (("exact 2" if i % 2 else "bell", 1e-3 if i % 3 else 1.0),)
        ]


def rivals_of(relative: Operation) -> list[Rules]:
    """The operation's own rules and every replacement that some claim names for it."""
    changes = {
        rival.change: None for claim in CLAIMS.values() if claim.operation == relative.name for rival in claim.rivals
    }
    return [replace(relative.rules, **dict(change)) for change in ((), *changes)]


@pytest.mark.parametrize("relative", RELATIVES, ids=lambda relative: relative.name)
def test_a_stack_of_a_relative(relative: Operation) -> None:
    for rules in rivals_of(relative):
        for cases in of_relative(relative, rules):
            check_relative(relative, cases, rules, [given_to(relative, one) for one in cases])


def check_relative(relative: Operation, cases: Sequence[Case], rules: Rules, arrays: Sequence[Any]) -> None:
    for method in relative.methods[:2]:
        parts = [part_of(relative, method, one, values) for one, values in zip(cases, arrays, strict=True)]
        assert_the_same(parts, rules, [calls.alone(one, rules, NARROW) for one in parts])


@pytest.mark.parametrize("data", [[1, 3, 3, 5, 7, 9], [1, 3, 5, 5, 7, 9], [1, 1, 1, 5, 9, 9], [2, 2, 2, 2, 2, 2]])
def test_ties(data: list[float]) -> None:
    """Of several values that are the median or an end, in one channel of a stack."""
    relative = OPERATIONS["generalized batch norm"]
    for center, deviation in MEASURES:
        cases = [case(s, center=center, deviation=deviation, eps=1e-3) for s in ((6, 1), (3, 2, 2), (5, 2))]
        arrays = [Inputs(*(a.copy() for a in given_to(relative, one))) for one in cases]
        arrays[0] = arrays[0]._replace(x=np.array(data, float)[:, None])
        arrays[1].x[:, 0] = np.reshape(data, (3, 2))
        check_relative(relative, cases, relative.rules, arrays)


@pytest.mark.parametrize("grouping", ["contiguous", "interleaved", "of that size"])
def test_every_grouping(grouping: Any) -> None:
    relative = OPERATIONS["group norm"]
    rules = replace(relative.rules, grouping=grouping)
    cases = [case(s, groups=g, eps=1e-3, seed=g) for s in SHAPES for g in (1, 2, 3, 6)]
    check_relative(relative, cases, rules, [given_to(relative, one) for one in cases])


@pytest.mark.parametrize("rules", rivals_of(OPERATIONS["instance norm"]), ids=str)
def test_instance_norm_with_running_statistics(rules: Rules) -> None:
    cases = [one for one in CASES if len(one.shape) > 2]
    for kind in ("train", "evaluate"):
        check([part(kind, one, one.momentum) for one in cases], rules)
