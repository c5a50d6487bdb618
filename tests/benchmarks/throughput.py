"""Where the time of a run goes: `python tests/benchmarks/throughput.py`.

Everything is measured in one process and given per case and as a ratio to a bare draw of Hypothesis, so that figures
of two machines can be compared. Nothing here passes or fails.
"""

import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

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


def main():
    backend = open_backend("numpy")
    profile = replace(pools.PROFILES["default"], cases=CASES)
    table = Table("step", "µs a case", "cases a second", "ratio to a draw", title="numpy, float32, exact cases")
    started = time.perf_counter()
    cases = pools.draw(pools.exact, "float32", profile, 1)
    draw = (time.perf_counter() - started) / len(cases)
    rows = [("draw by Hypothesis", draw)]
    rows.append(("arrays of a case", timed(inputs, cases)[0]))
    whole = draw
    for experiment, quantities in (
        (TRAIN, ("y", "running_mean", "running_var")),
        (EVALUATE, ("y",)),
        (TRAIN_GRADIENTS, ("dx", "dweight", "dbias")),
    ):
        seconds, seen = timed(lambda case, e=experiment: observe(backend, e, case), cases)
        rows.append((f"{experiment.name}: run", seconds))
        whole += seconds

        def judged(observation, e=experiment, q=quantities):
            return agreement([Evidence(e, q, (observation,))], (), ARITHMETIC)

        seconds, _ = timed(judged, seen)
        rows.append((f"{experiment.name}: predict, bound, compare", seconds))
        whole += seconds
    rows.append(("a case through everything, once", whole))
    for name, seconds in rows:
        table.add_row(name, f"{seconds * 1e6:.0f}", f"{1 / seconds:.0f}", f"{seconds / draw:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
