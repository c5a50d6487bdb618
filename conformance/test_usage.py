"""Section 5: using it: the switch, what a layer holds, the size of batches, and a bias before."""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import formula_grades
from normspec.conformance.cases.cases import AnyArray, Array, Case
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import METHODS, PARAMETERS, STATE
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered
from normspec.conformance.trials.experiments import (
    EVERY_BATCH,
    LAYER,
    LINEAR_NORM,
    LINEAR_NORM_GRADIENTS,
    batches,
    new_layer,
    run_layer,
    state_of,
)
from normspec.conformance.verdicts.checking import Check, on
from normspec.reference import ARTICLE, Rules

HELD = (*PARAMETERS, *STATE)
ORDERS = ("TTEETET", "ETEET")
"""Training steps and evaluations, in the order in which a layer does them."""
WORDS = {"T": "training", "E": "evaluation"}
State = Mapping[str, AnyArray]


@pytest.mark.claim("usage.mode-switch")
def test_mode_switch(check: Check) -> None:
    """Section 5: the switch between training and evaluation changes which statistics are used, and nothing else."""

    def refutation(backend: Backend, case: Case) -> str:
        return next((mistake for order in ORDERS if (mistake := walked(backend, case, order))), "")

    def walked(backend: Backend, case: Case, order: str) -> str:
        """What is wrong with a layer that takes these steps, beside one that takes the training steps alone."""
        layer, undisturbed, twin = (new_layer(backend, case, eps=case.eps, momentum=case.momentum) for _ in range(3))
        before = state_of(layer, case.shape[1], HELD)
        for number, batch in enumerate(batches(replace(case, steps=len(order)))):
            mode, at = order[number], f"in step {number + 1} of {order}"
            y = run_layer(layer.train if mode == "T" else layer.evaluate, case, batch.x)
            after = state_of(layer, case.shape[1], HELD)
            moved = [name for name in HELD if not _same(before[name], after[name])]
            for name in moved:
                if name in PARAMETERS or mode == "E":
                    return f"{WORDS[mode]} changes {'a parameter' if name in PARAMETERS else 'the state'}: {name} {at}"
            if mode == "T":
                without, again = (
                    {"y": run_layer(other.train, case, batch.x), **state_of(other, case.shape[1])}
                    for other in (undisturbed, twin)
                )
                other = [name for name in without if not _same(without[name], {"y": y, **after}[name])]
                if other and all(_same(without[name], again[name]) for name in without):  # else it is not evaluation
                    stays = not moved or any(agrees("E", case, batch.x, y, state) for state in (before, after))
                    mistake = "stays in evaluation" if stays else "evaluation shows in later training"
                    return f"{mistake}: {other[0]} {at} is not what it is without evaluations"
                if not moved:
                    return f"the running statistics do not move {at}"
            if not agrees(mode, case, batch.x, y, before):
                given_away = mode == "E" and agrees("T", case, batch.x, y, before)
                mistake = "evaluation gives training's result: " if given_away else ""
                return f"{mistake}y of {WORDS[mode]} {at} does not follow from its statistics"
            before = after
        return ""

    def agrees(mode: str, case: Case, x: Array, y: AnyArray, state: State) -> bool:
        """Whether y is that of a mode from a state, by the article's rules or by what else the layer does."""
        values = given(replace(case, shape=x.shape))._replace(
            x=x, **{name: array.astype(np.float64) for name, array in state.items()}
        )
        grade = formula_grades(case.dtype)[-1]
        for rules in either("y" if mode == "T" else "evaluation"):
            if mode == "T":
                expected = prediction.train(values, rules, grade, eps=case.eps, momentum=case.momentum)["y"]
            else:
                expected = prediction.evaluate(values, rules, grade, eps=case.eps)["y"]
            if not (ratios(y, expected) > 1).any():
                return True
        return False

    def either(quantity: str) -> Iterator[Rules]:
        yield ARTICLE
        own = check.rules(LAYER, quantity)  # looked for only where the article's do not agree
        yield replace(own, training_statistics="batch", evaluation_statistics="running")

    check.holds(pools.uneven_layers, refutation)  # not exact: what is rounded on the way shows


def _same(one: AnyArray, other: AnyArray) -> bool:
    """Whether two arrays hold the same numbers, to the last bit; their dtypes are another claim's business."""
    return one.astype(np.float64).tobytes() == other.astype(np.float64).tobytes()


@pytest.mark.claim("usage.one-per-channel")
def test_one_per_channel(check: Check) -> None:
    """Section 5: one weight, bias, running mean and running variance a channel, whatever the rank of x."""

    def refutation(backend: Backend, case: Case) -> str:
        layer = new_layer(backend, case)
        if mistake := misshapen(state_of(layer, None, HELD), case):
            return f"{mistake} in a new layer"
        with suppress(NotOffered, Crashed):  # a layer that crashes is another claim's business
            run_layer(layer.train, case, given(case).x)
        mistake = misshapen(state_of(layer, None, HELD), case)
        return mistake and f"{mistake} after a training step"

    def misshapen(state: State, case: Case) -> str:
        channels, positions = case.shape[1], math.prod(case.shape[2:])
        for name, array in state.items():
            if array.shape == (channels,):
                continue
            mistake = {
                positions: "one a position: ",
                channels * positions: "one a position: ",
                1: "one for all channels: ",
                channels: "with axes beside the channels: ",
            }.get(array.size, "")
            return f"{mistake}{name} has shape {array.shape} for x of shape {case.shape}"
        return ""

    check.holds(pools.ranks, refutation)


@pytest.mark.claim("usage.larger-batch")
def test_larger_batch(check: Check) -> None:
    """Section 5: means of batches scatter by the population's variance over m; on average nothing is lost."""
    check.formula(
        on(
            pools.every_batch,
            EVERY_BATCH,
            "mean of means",
            "variance of means",
            "mean of variances",
            "mean of m-variances",
        )
    )


@pytest.mark.claim("usage.bias-cancels")
def test_bias_cancels(check: Check) -> None:
    """Section 5: a bias before batch norm changes neither y nor any gradient, and its own gradient is 0."""
    gradients = METHODS["linear_norm_gradients"].results
    check.formula(on(pools.linear, LINEAR_NORM, "y"), on(pools.linear, LINEAR_NORM_GRADIENTS, *gradients))
