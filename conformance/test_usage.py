"""Section 5: using it."""

import pytest

from normspec.conformance import pools
from normspec.conformance.checking import Check, on
from normspec.conformance.networks import GRADIENTS, LINEAR_NORM, LINEAR_NORM_GRADIENTS


@pytest.mark.claim("usage.bias-cancels")
def test_bias_cancels(check: Check) -> None:
    """Section 5: a bias before batch norm changes neither y nor any gradient, and its own gradient is 0."""
    check.formula(on(pools.linear, LINEAR_NORM, "y"), on(pools.linear, LINEAR_NORM_GRADIENTS, *GRADIENTS))
