"""Section 3: the two ways of computing agree up to rounding. How far that goes is derived, not chosen."""

import math
from dataclasses import replace

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import FORMATS, GRADES, own_grades
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import GRADIENTS, STATE
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.experiments import (
    EVALUATE,
    EVALUATE_GRADIENTS,
    LAYER,
    TRAIN,
    TRAIN_GRADIENTS,
    run_evaluate,
    run_train,
)
from normspec.conformance.verdicts.checking import Check, on

FORWARD = ("y", *STATE)


@pytest.mark.claim("precision.within-bound")
def test_within_bound(check: Check) -> None:
    """Section 3: every result, on plain and on hostile data, is within the derived bound of the dtype's arithmetic."""
    every = [arithmetic.grade for arithmetic in own_grades(check.dtype)]
    check.grade(
        *(
            question
            for pool in (pools.exact, pools.accuracy)
            for question in (
                on(pool, TRAIN, *FORWARD),
                on(pool, EVALUATE, "y"),
                on(pool, TRAIN_GRADIENTS, *GRADIENTS),
                on(pool, EVALUATE_GRADIENTS, *GRADIENTS),
            )
        ),
        accepted=every,
    )


@pytest.mark.claim("precision.cancellation")
def test_cancellation(check: Check) -> None:
    """Section 3: the variance keeps its precision where the mean dwarfs the spread."""
    check.grade(
        on(pools.cancellation, TRAIN, *FORWARD),
        on(pools.cancellation, TRAIN_GRADIENTS, "dx", "dweight"),
        accepted=["stable"],
    )
    check.margins(on(pools.accuracy, TRAIN, "running_var"), on(pools.cancellation, TRAIN, "running_var"))


@pytest.mark.claim("precision.half-statistics")
def test_half_statistics(check: Check) -> None:
    """Section 3: statistics of half-precision data are summed and kept in float32 or wider."""
    check.grade(
        on(pools.half, TRAIN, *FORWARD),
        on(pools.half, EVALUATE, "y"),
        on(pools.uneven_layers, LAYER, *STATE),
        accepted=["wide", "wide, one pass", "parts"],
    )


@pytest.mark.claim("precision.half-gradients")
def test_half_gradients(check: Check) -> None:
    """[1] section 3: gradients of half-precision data are summed in float32 or wider."""
    check.grade(
        on(pools.accuracy, TRAIN_GRADIENTS, *GRADIENTS),
        on(pools.half, TRAIN_GRADIENTS, *GRADIENTS),
        accepted=["wide", "wide, one pass", "parts"],
    )


@pytest.mark.claim("precision.extent")
def test_extent(check: Check) -> None:
    """Section 2: every value of a long reduction counts, to the last remainder."""
    every = [arithmetic.grade for arithmetic in own_grades(check.dtype)]
    check.grade(
        on(pools.extent, TRAIN, *FORWARD),
        on(pools.extent, EVALUATE, "y"),
        on(pools.extent, TRAIN_GRADIENTS, *GRADIENTS),
        on(pools.extent, EVALUATE_GRADIENTS, *GRADIENTS),
        accepted=every,
    )


@pytest.mark.claim("precision.large-finite")
def test_large_finite(check: Check) -> None:
    """Section 2: finite data with a representable result give a finite, right result, as far as squares fit."""
    reached: list[int] = []
    widest = FORMATS["float64" if check.dtype == "float64" else "float32"].largest
    coarsest = GRADES[check.dtype][-1]
    boundless = replace(coarsest, inner=replace(coarsest.inner, largest=math.inf))

    def refutation(backend: Backend, case: Case) -> str:
        given_x = given(case).x
        for experiment, run in ((TRAIN, run_train), (EVALUATE, run_evaluate)):
            got = run(backend, case, given(case))["y"]
            expected = experiment.predict(case, check.rules(experiment, "y"), boundless, {})["y"]
            if (ratios(got, expected) > 1).any():
                break
        else:
            reached.append(round(math.log2(case.scale)))
            return ""
        if not case.size * abs(given_x).max() ** 2 < widest / 8:
            return ""  # squares overflow in the widest arithmetic that the claim asks for
        if not reached:
            return f"y of {experiment.name} is not right even at a deviation of {case.scale:g}"
        words = f"y of {experiment.name} is not finite or not right at a deviation of {case.scale:g}"
        return f"squares overflow early: {words}"

    check.holds(pools.large, refutation)
    check.note(f"to 2^{max(reached)}" if reached else "nowhere")
