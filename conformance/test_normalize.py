"""Section 2: the normalized value x-hat = (x - mean) / sqrt(var + eps)."""

import math

import numpy as np
import pytest

from normspec.conformance import pools
from normspec.conformance.adapters import Backend
from normspec.conformance.arithmetic import coarsest
from normspec.conformance.bounds import ROOT_STEPS
from normspec.conformance.cases import Case
from normspec.conformance.checking import Check, on
from normspec.conformance.experiments import COUPLING, LAYER, MOMENTS, TRAIN, new_layer, run_layer
from normspec.reference import Rules, inverse_root


@pytest.mark.claim("normalize.uses-batch-statistics")
def test_uses_batch_statistics(check: Check) -> None:
    """Section 2: in training, x is normalized with the statistics of its own batch."""
    check.formula(on(pools.exact, TRAIN, "y"), on(pools.layers, LAYER, "y"))


@pytest.mark.claim("normalize.population-variance")
def test_population_variance(check: Check) -> None:
    """Section 3: the variance that normalizes has divisor m, not m - 1."""
    check.formula(on(pools.exact, TRAIN, "y"), on(pools.layers, LAYER, "y"))


@pytest.mark.claim("normalize.eps-inside-root")
def test_eps_inside_root(check: Check) -> None:
    """Section 2: eps is added to the variance, under the root, as given; 0 is a value like any other."""
    check.formula(on(pools.exact, TRAIN, "y"), on(pools.zero_eps, TRAIN, "y", refusable=True))


def eps_of(root: float, var: float, rules: Rules) -> float:
    """The eps with which a variance has this inverse root, under the rules found."""
    if rules.eps_rule == "inside":
        return root**-2 - var
    low, high = 1e-30, 1e3
    while high / low > 1 + 1e-12:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if inverse_root(np.array(var), middle, rules) > root else (low, middle)
    return low


@pytest.mark.claim("normalize.eps-default")
def test_eps_default(check: Check) -> None:
    """Section 3 (code): a layer built without eps uses 1e-5."""

    def find(backend: Backend) -> tuple[float, float]:
        # var is about eps, so that eps shows in y with the full precision of the dtype.
        case = Case(dtype=check.dtype, shape=(4, 1), data="exact 3", scale=2.0**-9)
        x, var = 2.0**-9 * np.array([[-3.0], [1.0], [1.0], [1.0]]), 3 * 2.0**-18
        y = run_layer(new_layer(backend, case).train, case, x).astype(np.float64)
        eps = eps_of(float(y[0, 0] / x[0, 0]), var, check.rules(LAYER, "y"))
        arithmetic = coarsest(check.dtype)
        # y is off by its own rounding and that of the root: twice that, relative to var + eps, in eps.
        return eps, 2 * (arithmetic.result.roundoff + (ROOT_STEPS + 8) * arithmetic.steps) * (var + abs(eps)) * 1.01

    check.value(1e-5, find, of=(LAYER, "y"))


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
