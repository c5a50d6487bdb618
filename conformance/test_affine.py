"""Section 2: what weight and bias do to the normalized value."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.cases import Case
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.experiments import TRAIN, new_layer, state_of
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("affine.scale-then-shift")
def test_scale_then_shift(check: Check) -> None:
    """Section 2: y = weight * x-hat + bias, one weight and one bias a channel."""
    plain = on(pools.unit, TRAIN, "y")
    check.formula(
        on(pools.exact, TRAIN, "y"),
        right_where=lambda: "where weight is 1 and bias 0" if check.agrees(plain) else "",
    )


@pytest.mark.claim("affine.defaults")
def test_defaults(check: Check) -> None:
    """Section 2: a new layer has weight 1 and bias 0."""

    def refutation(backend: Backend, case: Case) -> str:
        state = state_of(new_layer(backend, case), case.shape[1], ("weight", "bias"))
        if (state["weight"] != 1).any():
            return f"weight not 1: it starts at {state['weight'].tolist()}"
        if (state["bias"] != 0).any():
            return f"bias not 0: it starts at {state['bias'].tolist()}"
        return ""

    check.holds(pools.layers, refutation)


@pytest.mark.claim("affine.can-undo")
def test_can_undo(check: Check) -> None:
    """[1] section 3: with weight = sqrt(var + eps) and bias = mean the layer returns its input."""
    check.formula(on(pools.undo, TRAIN, "y"))
