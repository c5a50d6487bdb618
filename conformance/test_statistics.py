"""Section 2: over what the statistics of a training batch are taken."""

import pytest

from normspec.conformance import pools
from normspec.conformance.checking import Check, on
from normspec.conformance.experiments import TRAIN


@pytest.mark.claim("statistics.per-channel")
def test_per_channel(check: Check) -> None:
    """Section 2: mean and variance are vectors, one entry a channel, over the batch and all spatial positions."""
    alone = on(pools.one_channel, TRAIN, "y")
    check.formula(
        on(pools.exact, TRAIN, "y"), right_where=lambda: "where there is one channel" if check.agrees(alone) else ""
    )
