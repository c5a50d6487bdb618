"""Section 2 and [1] section 3: the gradients."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.trials.experiments import EVALUATE, EVALUATE_GRADIENTS, TRAIN, TRAIN_GRADIENTS, Experiment
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("gradient.weight")
def test_weight(check: Check) -> None:
    """Section 2: dweight is the sum of dy * x-hat over all but the channels, in training and in evaluation."""
    check.formula(
        on(pools.exact, TRAIN_GRADIENTS, "dweight").beside(TRAIN, "y"),
        on(pools.exact, EVALUATE_GRADIENTS, "dweight").beside(EVALUATE, "y"),
        right_where=lambda: elsewhere(check, TRAIN, EVALUATE),
    )


@pytest.mark.claim("gradient.bias")
def test_bias(check: Check) -> None:
    """Section 2: dbias is the sum of dy over all but the channels, in training and in evaluation."""
    check.formula(
        on(pools.exact, TRAIN_GRADIENTS, "dbias").beside(TRAIN, "y"),
        on(pools.exact, EVALUATE_GRADIENTS, "dbias").beside(EVALUATE, "y"),
        right_where=lambda: elsewhere(check, TRAIN, EVALUATE),
    )


def elsewhere(check: Check, *experiments: Experiment) -> str:
    """In words, that the forward pass is right; "" if it is not."""
    right = check.agrees(*(on(pools.exact, experiment, "y") for experiment in experiments))
    return "in the forward pass" if right else ""


@pytest.mark.claim("gradient.input")
def test_input(check: Check) -> None:
    """[1] section 3: dx is the full derivative, through mean and variance."""
    check.formula(
        on(pools.exact, TRAIN_GRADIENTS, "dx").beside(TRAIN, "y"),
        on(pools.constant, TRAIN_GRADIENTS, "dx").beside(TRAIN, "y"),
        right_where=lambda: elsewhere(check, TRAIN),
    )


@pytest.mark.claim("gradient.evaluation")
def test_evaluation(check: Check) -> None:
    """Section 2: in evaluation the statistics are constants, dx = weight * dy / sqrt(running_var + eps)."""
    dx = on(pools.exact, EVALUATE_GRADIENTS, "dx").beside(EVALUATE, "y")
    check.formula(dx, right_where=lambda: elsewhere(check, EVALUATE))
