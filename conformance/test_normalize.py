"""Section 2: the normalized value x-hat = (x - mean) / sqrt(var + eps)."""

import math

import numpy as np
import pytest

from normspec.conformance import pools
from normspec.conformance.adapters import Backend, NotOffered
from normspec.conformance.arithmetic import coarsest
from normspec.conformance.bounds import ROOT_STEPS
from normspec.conformance.cases import Array, Case
from normspec.conformance.checking import Check, on
from normspec.conformance.experiments import COUPLING, EVALUATE, LAYER, MOMENTS, STATE, TRAIN, new_layer, run_layer
from normspec.reference import Rules, train


@pytest.mark.claim("normalize.uses-batch-statistics")
def test_uses_batch_statistics(check: Check) -> None:
    """Section 2: in training, x is normalized with the statistics of its own batch."""

    def right_where() -> str:
        if check.agrees(on(pools.unit, TRAIN, "y")) or check.agrees(on(pools.zero_eps, TRAIN, "y")):
            return ""  # parameters or eps are at fault
        elsewhere = on(pools.exact, EVALUATE, "y"), on(pools.exact, TRAIN, *STATE)
        return "in evaluation and in the running statistics" if check.agrees(*elsewhere) else ""

    check.formula(on(pools.exact, TRAIN, "y"), on(pools.layers, LAYER, "y"), right_where=right_where)


@pytest.mark.claim("normalize.population-variance")
def test_population_variance(check: Check) -> None:
    """Section 3: the variance that normalizes has divisor m, not m - 1."""
    check.formula(on(pools.exact, TRAIN, "y"), on(pools.layers, LAYER, "y"))


@pytest.mark.claim("normalize.eps-inside-root")
def test_eps_inside_root(check: Check) -> None:
    """Section 2: eps is added to the variance, under the root, as given; 0 is a value like any other."""
    without_eps = on(pools.zero_eps, TRAIN, "y", refusable=True)
    check.formula(
        on(pools.exact, TRAIN, "y"),
        without_eps,
        right_where=lambda: "where eps is 0" if check.agrees(without_eps) else "",
    )


@pytest.mark.claim("normalize.eps-default")
def test_eps_default(check: Check) -> None:
    """Section 3 (code): a layer built without eps uses 1e-5."""

    def find(backend: Backend) -> tuple[float, float]:
        # var is about eps, so that eps shows in y with the full precision of the dtype.
        case = Case(dtype=check.dtype, shape=(4, 1), data="exact 3", scale=2.0**-9)
        x = 2.0**-9 * np.array([[-3.0], [1.0], [1.0], [1.0]])
        y = float(run_layer(new_layer(backend, case).train, case, x)[0, 0])
        rules, arithmetic = check.rules(LAYER, "y"), coarsest(check.dtype)
        # How far rounding may move y, on both of its sides.
        reach = (arithmetic.result.roundoff + (ROOT_STEPS + 8) * arithmetic.steps) * abs(y)
        eps, low, high = (eps_behind(y + error, x, rules) for error in (0.0, -reach, reach))
        return eps, 1.01 * max(abs(low - eps), abs(high - eps))

    check.value(1e-5, find, of=(LAYER, "y"))


def eps_behind(first: float, x: Array, rules: Rules) -> float:
    """The eps with which a new layer gives `first` as the first of its results, under the rules found."""
    one, zero = np.ones(1), np.zeros(1)

    def size(eps: float) -> float:
        return abs(float(train(x, one, zero, zero, one, momentum=0.1, eps=eps, rules=rules)[0][0, 0]))

    low, high = 1e-30, 1e3
    if size(low) == size(high):
        raise NotOffered("eps does not show in y")
    for _ in range(64):  # halves the 33 decades between them down to the last bit
        middle = math.sqrt(low * high)
        low, high = (middle, high) if size(middle) > abs(first) else (low, middle)
    return low


@pytest.mark.claim("normalize.centered")
def test_centered(check: Check) -> None:
    """Section 2: in every channel the mean of x-hat over the batch is 0."""
    check.formula(on(pools.unit, MOMENTS, "mean"))


@pytest.mark.claim("normalize.unit-spread")
def test_unit_spread(check: Check) -> None:
    """Section 2: in every channel the m-variance of x-hat is var / (var + eps)."""
    check.formula(on(pools.unit, MOMENTS, "variance"))


@pytest.mark.claim("normalize.constant-channel")
def test_constant_channel(check: Check) -> None:
    """Section 2: a channel without variance gives bias, finite."""
    check.formula(on(pools.constant, TRAIN, "y"))


@pytest.mark.claim("normalize.batch-coupling")
def test_batch_coupling(check: Check) -> None:
    """Section 2: in training, what a sample becomes depends on the rest of its batch."""
    check.formula(on(pools.exact, COUPLING, "change"))
