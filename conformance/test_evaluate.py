"""Section 2: evaluation, which uses what training has tracked."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.trials.experiments import EVALUATE, FRESH, LAYER, REGROUPED, TRAIN
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("evaluate.running-statistics")
def test_running_statistics(check: Check) -> None:
    """Section 2: evaluation normalizes with the tracked statistics."""

    def right_where() -> str:
        if check.agrees(on(pools.unit, EVALUATE, "y")):
            return ""  # weight and bias are at fault
        if check.agrees(on(pools.one_sample, EVALUATE, "y")):
            return ""  # the rest of the batch is
        if check.agrees(on(pools.exact, EVALUATE, "y"), grades=GRADES[check.dtype]):
            return ""  # rounding is
        return "in training" if check.agrees(on(pools.exact, TRAIN, "y")) else ""

    y = on(pools.exact, EVALUATE, "y"), on(pools.few, REGROUPED, "y"), on(pools.layers, LAYER, "evaluation")
    check.formula(*y, right_where=right_where)


@pytest.mark.claim("evaluate.sample-alone")
def test_sample_alone(check: Check) -> None:
    """Section 2: a sample gives the same alone as in any batch, in any order, and beside its own copy."""

    def right_where() -> str:
        return "where a sample is alone" if check.agrees(on(pools.one_sample, EVALUATE, "y")) else ""

    check.formula(on(pools.few, REGROUPED, "y"), right_where=right_where)


@pytest.mark.claim("evaluate.folded")
def test_folded(check: Check) -> None:
    """Section 2, last formula: evaluation is one affine map of x."""
    plain = on(pools.unit, EVALUATE, "y")
    check.formula(
        on(pools.exact, EVALUATE, "y"),
        right_where=lambda: "where weight is 1 and bias 0" if check.agrees(plain) else "",
    )


@pytest.mark.claim("evaluate.frozen")
def test_frozen(check: Check) -> None:
    """Section 2: evaluation changes no state, however often it runs."""
    check.formula(
        on(pools.exact, EVALUATE, "running_mean", "running_var"),
        on(pools.layers, LAYER, "running_mean after evaluation", "running_var after evaluation"),
    )


@pytest.mark.claim("evaluate.before-training")
def test_before_training(check: Check) -> None:
    """Sections 2 and 3: a new layer in evaluation gives x / sqrt(1 + eps)."""
    check.formula(on(pools.layers, FRESH, "y"))
