"""Section 2: the normalized value x-hat = (x - mean) / sqrt(var + eps)."""

import math

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.operations import STATE
from normspec.conformance.trials.adapters import Backend, NotOffered
from normspec.conformance.trials.defaults import default_eps, shows_eps
from normspec.conformance.trials.experiments import COUPLING, EVALUATE, LAYER, MOMENTS, TRAIN
from normspec.conformance.verdicts.checking import Check, on


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
        rules = check.rules(LAYER, "y")
        if not shows_eps(rules):
            raise NotOffered("eps does not show in y")
        eps, reach, agrees = default_eps(backend, check.dtype, rules)
        return eps if agrees else math.nan, reach

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
