"""Section 3: the running statistics."""

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.cases import AnyArray, Case
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import METHODS, STATE
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered, refusable
from normspec.conformance.trials.defaults import default_momentum
from normspec.conformance.trials.experiments import (
    CUMULATIVE,
    LAYER,
    REPEATED,
    TRAIN,
    new_layer,
    run,
    run_layer,
    run_train,
    state_of,
)
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("running.update")
def test_update(check: Check) -> None:
    """Section 3: running = (1 - momentum) * running + momentum * batch, for mean and variance alike."""

    def right_where() -> str:
        if check.agrees(on(pools.exact, TRAIN, "running_mean")) or check.agrees(on(pools.unit, TRAIN, *STATE)):
            return ""  # the way of mixing is right
        return "in y" if check.agrees(on(pools.exact, TRAIN, "y")) else ""  # and so are the statistics

    check.formula(on(pools.exact, TRAIN, *STATE), on(pools.layers, LAYER, *STATE), right_where=right_where)


@pytest.mark.claim("running.momentum-default")
def test_momentum_default(check: Check) -> None:
    """Section 3: a layer built without momentum gives the new value a weight of 0.1."""

    def find(backend: Backend) -> tuple[float, float]:
        # The second batch's, so that no special first one is taken for the rule.
        _, second, reach = default_momentum(backend, check.dtype)
        return second, 2 * reach

    check.value(0.1, find, of=(LAYER, "running_mean"))


@pytest.mark.claim("running.momentum-extremes")
def test_momentum_extremes(check: Check) -> None:
    """Section 3: momentum 0 keeps the state and momentum 1 takes the batch; neither means the default."""

    def right_where() -> str:
        return "with any other momentum" if check.agrees(on(pools.exact, TRAIN, *STATE)) else ""

    check.formula(on(pools.keeps, TRAIN, *STATE), on(pools.takes, TRAIN, *STATE), right_where=right_where)


@pytest.mark.claim("running.sample-variance")
def test_sample_variance(check: Check) -> None:
    """Section 3: the tracked variance has divisor m - 1."""

    def right_where() -> str:
        return "in the mean, and in y" if check.agrees(on(pools.exact, TRAIN, "running_mean", "y")) else ""

    var = on(pools.exact, TRAIN, "running_var"), on(pools.layers, LAYER, "running_var")
    check.formula(*var, right_where=right_where)


@pytest.mark.claim("running.initial")
def test_initial(check: Check) -> None:
    """Section 3: the running statistics start at mean 0 and variance 1."""

    def refutation(backend: Backend, case: Case) -> str:
        layer = new_layer(backend, case)
        if mistake := wrong(state_of(layer, case.shape[1])):
            return mistake
        with suppress(NotOffered, Crashed):  # a layer that crashes is another claim's business
            run_layer(layer.train, case, given(case).x)
        mistake = wrong(state_of(new_layer(backend, case), case.shape[1]))
        return mistake and f"{mistake}, after another layer was trained"

    def wrong(state: Mapping[str, AnyArray]) -> str:
        mean, var = (state[name].tolist() for name in STATE)
        if any(mean):
            return f"mean not 0: it starts at {mean}"
        if not any(var):
            return f"variance starts at 0: it starts at {var}"
        return "" if set(var) == {1.0} else f"variance not 1: it starts at {var}"

    check.holds(pools.layers, refutation)


@pytest.mark.claim("running.of-the-input")
def test_of_the_input(check: Check) -> None:
    """Section 3: the tracked statistics are those of x, whatever weight and bias."""

    def right_where() -> str:
        return "where weight is 1 and bias 0" if check.agrees(on(pools.unit, TRAIN, *STATE)) else ""

    check.formula(on(pools.exact, TRAIN, *STATE), right_where=right_where)


@pytest.mark.claim("running.converges")
def test_converges(check: Check) -> None:
    """Section 3: one batch seen k times leaves a weight of (1 - momentum)^k on the start."""
    check.formula(on(pools.repeated, REPEATED, *STATE))


@pytest.mark.claim("running.single-value")
def test_single_value(check: Check) -> None:
    """Section 3: one value a channel is refused, or leaves the state finite."""

    def refutation(backend: Backend, case: Case) -> str:
        with refusable():  # the layer, too, may be
            layer = new_layer(backend, case)
            with refusable():
                run_layer(layer.train, case, given(case).x)
            if mistake := broken(state_of(layer, case.shape[1])):
                return f"{mistake} in the layer"
        with refusable():
            got = run(METHODS["train_gradients"], backend, case, given(case))
            for name in got:
                if not np.isfinite(got[name].astype(np.float64)).all():
                    return f"NaN or inf in the gradients: {name} is {got[name].ravel().tolist()}"
        return broken(run_train(backend, case, given(case)))

    def broken(state: Mapping[str, AnyArray]) -> str:
        for name in STATE:
            if not np.isfinite(state[name].astype(np.float64)).all():
                return f"NaN or inf in the state: {name} is {state[name].tolist()}"
        return ""

    check.holds(pools.single, refutation, refusable=True)


@pytest.mark.claim("running.cumulative")
def test_cumulative(check: Check) -> None:
    """PyTorch's extension of section 3: with momentum None all batches weigh the same."""
    works = check.answers(on(pools.layers, LAYER, *STATE))  # then what it raises is about None, and refuses that
    check.formula(on(pools.cumulative, CUMULATIVE, *STATE, refusable=works))
