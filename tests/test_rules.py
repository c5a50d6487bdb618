"""Every choice in `Rules`, through every function of the reference."""

import typing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from normspec import reference
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import Case, Inputs, inputs
from normspec.conformance.predictions import prediction
from normspec.reference import ARTICLE, Rules
from normspec.reference.batch_norm import Running

HINTS = typing.get_type_hints(Rules)
VALUES = {field: (False, True) if hint is bool else typing.get_args(hint) for field, hint in HINTS.items()}
# "as asked" is filled in by what is asked of generalized batch norm, and is no formula of its own.
CHOICES = [(field, value) for field, values in VALUES.items() for value in values if value != "as asked"]
RIVALS = [(field, value) for field, value in CHOICES if value != getattr(ARTICLE, field)]
SHAPES = ((4, 3), (3, 2, 9), (2, 3, 3, 2), (2, 2, 3, 1, 2))


def given(shape: tuple[int, ...], eps: float = 1e-6) -> Inputs:
    """Arrays that nothing may write to, one weight of them 0 and one negative."""
    values = inputs(Case(dtype="float64", shape=shape, data="bell", seed=1, location=0.5, eps=eps))
    values.weight[:2] = 0.0, -0.75
    for array in values:
        array.flags.writeable = False
    return values


class Results(NamedTuple):
    """Arrays by what their shape must be."""

    like_x: list[np.ndarray]
    by_channel: list[np.ndarray]
    by_group: list[np.ndarray]

    def __add__(self, other: "Results") -> "Results":
        return Results(*(mine + others for mine, others in zip(self, other, strict=True)))


def results(values: Inputs, rules: Rules, eps: float) -> Results:
    """All that the reference computes in one step and in evaluation."""
    x, weight, bias, mean, var, dy = values
    groups = reference.statistics(x, rules)
    x_hat, root = reference.normalize(groups, eps, rules)
    slope, intercept = reference.fold(weight, bias, mean, var, eps=eps, rules=rules)
    evaluated = [reference.evaluate(part, weight, bias, mean, var, eps=eps, rules=rules) for part in (x, x[:1])]
    dx, *parameters = reference.train_gradients(x, weight, bias, dy, eps=eps, rules=rules)
    dx_evaluated, *parameters_evaluated = reference.evaluate_gradients(*values, eps=eps, rules=rules)
    assert evaluated[1].shape == x[:1].shape
    return Results(
        like_x=[groups.centered, x_hat, evaluated[0], np.broadcast_to(evaluated[1], x.shape), dx, dx_evaluated],
        by_channel=[slope, intercept, *parameters, *parameters_evaluated, reference.inverse_root(var, eps, rules)],
        by_group=[groups.mean, groups.var, root],
    )


def steps(values: Inputs, rules: Rules, eps: float) -> Results:
    """Training with all kinds of momentum, in the first step and in the third, after another batch."""
    x, weight, bias, mean, var, dy = values
    found = Results([], [], [])
    for momentum in (0.25, 0.0, 1.0, None):
        for step, previous in ((1, None), (3, dy)):
            options: dict[str, Any] = {"momentum": momentum, "rules": rules, "step": step}
            y, *state = reference.train(x, weight, bias, mean, var, eps=eps, previous=previous, **options)
            batch, before = Running(bias, abs(weight)), Running(weight, abs(bias))
            mixed = reference.update(Running(mean, var), batch, previous=before, **options)
            found += Results([y], [*state, *mixed], [])
    return found


def test_every_choice_is_listed() -> None:
    """The fields without a list are numbers: the defaults of a layer."""
    assert {field for field, values in VALUES.items() if not values} == {"default_eps", "default_momentum"}
    assert all(getattr(ARTICLE, field) in values for field, values in VALUES.items() if values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("field", "value"), CHOICES)
def test_results_have_their_shapes(field: str, value: Any, shape: tuple[int, ...]) -> None:
    values, rules = given(shape), replace(ARTICLE, **{field: value})
    found = results(values, rules, 1e-6) + steps(values, rules, 1e-6)
    assert {array.shape for array in found.like_x} == {shape}
    assert {array.shape for array in found.by_channel} == {(shape[1],)}
    assert {np.broadcast_shapes(array.shape, shape) for array in found.by_group} == {shape}
    assert {array.ndim for array in found.by_group} == {len(shape)}
    assert {array.dtype for part in found for array in part} == {np.dtype(np.float64)}
    assert not any(np.shares_memory(array, kept) for part in found for array in part for kept in values)


ELSEWHERE = ("initial_var", "evaluation_state", "grouping", "split", "earlier_bias", "of the batch")
"""A state's start, what evaluation does to it, groups, devices, layers before: what batch norm's functions do not know.

And a tracked variance of the batch, which is what batch norm tracks anyway.
"""
LONG = "the first 65536"


@pytest.mark.parametrize(("field", "value"), RIVALS)
def test_another_choice_shows(field: str, value: Any) -> None:
    """More than 16 channels, an odd axis longer than 8, and where one rule needs it more than 65,536 samples."""
    values = given((65537, 2) if value == LONG else (3, 17, 9, 2))
    rules = replace(ARTICLE, **{field: value})
    shows = False
    for eps in (1e-6, 0.0):
        ours, theirs = (results(values, r, eps) + steps(values, r, eps) for r in (ARTICLE, rules))
        pairs = [pair for part in zip(ours, theirs, strict=True) for pair in zip(*part, strict=True)]
        shows = shows or not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    assert shows == (field not in ELSEWHERE and value not in ELSEWHERE)


# |weight| has no complex derivative, and a weight of 0 that means 1 none at all.
DERIVED = [
    choice
    for choice in CHOICES
    if choice[0] in ("axes", "ddof", "eps_rule", "centered", "scaled", "affine")
    and choice[1] not in ("absolute weight", "weight 0 means 1")
]
"""Choices about y that the gradients follow."""
DERIVED_IN_EVALUATION = [choice for choice in DERIVED if choice[0] not in ("axes", "ddof")] + [
    ("folded", value) for value in ("sign lost", "weight lost", "eps lost")
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("field", "value"), DERIVED_IN_EVALUATION)
def test_evaluation_gradients_are_derivatives_of_y(field: str, value: Any, shape: tuple[int, ...]) -> None:
    """As in training, below."""
    eps, h = 0.5, 1e-100
    values, rules = given(shape, eps), replace(ARTICLE, **{field: value})
    predicted = prediction.evaluate_gradients(values, rules, GRADES["float64"][0], eps=eps)
    for position, name in enumerate(("dx", "dweight", "dbias")):
        derivative = np.empty_like(values[position])
        for index in np.ndindex(derivative.shape):
            moved = [array.astype(complex) if i == position else array for i, array in enumerate(values[:5])]
            moved[position][index] += 1j * h
            derivative[index] = (values.dy * reference.evaluate(*moved, eps=eps, rules=rules)).sum().imag / h
        found, bound = predicted[name]
        assert np.isfinite(bound).all()
        assert (abs(found - derivative) <= bound).all(), name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("field", "value"), DERIVED)
def test_training_gradients_are_derivatives_of_y(field: str, value: Any, shape: tuple[int, ...]) -> None:
    """Under a rival's rules too. The derivative is Im / h of the reference's own y at v + ih: nothing is subtracted.

    Both sides are in float64, so that the suite's bound, which is for two implementations, applies as it is.
    """
    eps, h = 0.5, 1e-100
    values, rules = given(shape, eps), replace(ARTICLE, **{field: value})
    predicted = prediction.train_gradients(values, rules, GRADES["float64"][0], eps=eps)
    for position, name in enumerate(("dx", "dweight", "dbias")):
        derivative = np.empty_like(values[position])
        for index in np.ndindex(derivative.shape):
            moved = [array.astype(complex) if i == position else array for i, array in enumerate(values[:5])]
            moved[position][index] += 1j * h
            y, *_ = reference.train(*moved, momentum=0.25, eps=eps, rules=rules)
            derivative[index] = (values.dy * y).sum().imag / h
        found, bound = predicted[name]
        assert np.isfinite(bound).all()
        assert (abs(found - derivative) <= bound).all(), name
