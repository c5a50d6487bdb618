"""What the steps of judging a case take: the rows of `table.py` that are called "step: ..."."""

import time
from dataclasses import replace

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import inputs
from normspec.conformance.trials.adapters import open_backend
from normspec.conformance.trials.experiments import EVALUATE, TRAIN, TRAIN_GRADIENTS
from normspec.conformance.verdicts.evidence import Evidence, agreement
from normspec.conformance.verdicts.laboratory import observe

CASES = 1000
ARITHMETIC = GRADES["float32"][0]


def timed(function, items):
    """Seconds per item of `function` over `items`, and what it gave."""
    started = time.perf_counter()
    results = [function(item) for item in items]
    return (time.perf_counter() - started) / len(items), results


def steps():
    """Seconds a case of every step, by its name; one is a bare draw, to which the others can be compared."""
    backend = open_backend("numpy")
    profile = replace(pools.PROFILES["default"], cases=CASES)
    started = time.perf_counter()
    cases = pools.draw(pools.exact, "float32", profile, 1)
    whole = (time.perf_counter() - started) / len(cases)
    yield "draw by Hypothesis", whole
    yield "arrays of a case", timed(inputs, cases)[0]
    for experiment, quantities in (
        (TRAIN, ("y", "running_mean", "running_var")),
        (EVALUATE, ("y",)),
        (TRAIN_GRADIENTS, ("dx", "dweight", "dbias")),
    ):
        seconds, seen = timed(lambda case, e=experiment: observe(backend, e, case), cases)
        yield f"{experiment.name}, run", seconds
        whole += seconds

        def judged(observation, e=experiment, q=quantities):
            return agreement([Evidence(e, q, (observation,))], (), ARITHMETIC)

        seconds, _ = timed(judged, seen)
        yield f"{experiment.name}, predict, bound, compare", seconds
        whole += seconds
    yield "a case through everything, once", whole
