"""Section 2: which values the statistics of a training batch run over."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.trials.experiments import EVALUATE, TRAIN
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("statistics.per-channel")
def test_per_channel(check: Check) -> None:
    """Section 2: mean and variance are vectors, one entry a channel, over the batch and all spatial positions."""

    def right_where() -> str:
        if check.agrees(on(pools.unit, TRAIN, "y")):
            return ""  # weight and bias are at fault
        if check.agrees(on(pools.one_channel, TRAIN, "y")):
            return "where there is one channel"
        given = check.agrees(on(pools.exact, EVALUATE, "y"))
        return (
            "where statistics are given" if given and not check.agrees(on(pools.exact, TRAIN, "running_mean")) else ""
        )

    check.formula(on(pools.exact, TRAIN, "y"), right_where=right_where)
