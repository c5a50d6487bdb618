"""Sections 2 and 3: the layer that a framework builds around its operation."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.trials.experiments import EVALUATE, LAYER, TRAIN
from normspec.conformance.verdicts.checking import Check, on

OPERATION = {
    "y": (TRAIN, "y"),
    "running_mean": (TRAIN, "running_mean"),
    "running_var": (TRAIN, "running_var"),
    "evaluation": (EVALUATE, "y"),
}
"""For what a layer gives: the experiment and quantity that show it without a layer."""


@pytest.mark.claim("layer.follows-operation")
def test_follows_operation(check: Check) -> None:
    """Section 3 (code): a layer does what its operation does, with the eps and momentum it was built with."""
    check.formula(
        *(
            on(pool, LAYER, quantity, refusable=pool is not pools.layers).beside(*operation)
            for pool in (pools.layers, pools.zero_eps_layers, pools.whole_layers, pools.uneven_layers)
            for quantity, operation in OPERATION.items()
        )
    )
