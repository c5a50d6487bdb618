"""Sections 1 and 6: why batch norm works."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.operations import STATE
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.experiments import LAYER, TRAIN
from normspec.conformance.trials.networks import PROJECTION, RESCALED, through_layers
from normspec.conformance.verdicts import training
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("why.scale-invariant")
def test_scale_invariant(check: Check) -> None:
    """[1] section 3.3: the scale of the weights before does not matter, and their gradient falls with it."""
    check.formula(on(pools.rescaled, RESCALED, "y", "du", "dw"))


@pytest.mark.claim("why.gradient-projection")
def test_gradient_projection(check: Check) -> None:
    """[3]: dx has no part along 1 and, but for eps, none along x-hat; it is that much shorter than dy."""
    components = ("along 1", "along x-hat", "square")
    check.formula(
        on(pools.few, PROJECTION, *components), on(pools.few_zero_eps, PROJECTION, *components, refusable=True)
    )


@pytest.mark.claim("why.depth")
def test_depth(check: Check) -> None:
    """[2]: through tens of layers the spread stays at 1 with batch norm, and explodes or dies without."""
    seen: list[str] = []

    experiment = LAYER if callable(getattr(check.backend.adapter, "layer", None)) else TRAIN
    rules = {name: check.rules(experiment, name) for name in ("y", *STATE)}  # other claims are about these

    def refutation(backend: Backend, case: Case) -> str:
        depth = through_layers(backend, case, rules)
        if not depth.mistake:
            seen.append(f"{depth.spreads[-1]:.3g} after {case.steps} layers, {depth.plain[-1]:.0e} without")
        return depth.mistake

    check.holds(pools.deep, refutation, about=[(experiment, name) for name in STATE])
    if seen:
        check.note(seen[0])


@pytest.mark.claim("why.trains-faster")
def test_trains_faster(check: Check) -> None:
    """Sections 1 and 6: at a learning rate at which the plain network stalls, the normalized one trains."""
    check.outcome(training.trains_faster)


@pytest.mark.claim("why.matches-dataset")
def test_matches_dataset(check: Check) -> None:
    """Section 2: after training the tracked statistics are the whole training set's, and evaluation as accurate."""
    check.outcome(training.matches_dataset)
