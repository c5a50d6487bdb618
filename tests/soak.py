"""A long run of sound implementations, for alarms: `python tests/soak.py --profile thorough --seeds 3`.

Claims whose cases are the same for every seed are judged once. Prints how many cases were judged and the largest error
over bound by dtype and quantity; exit status 1 if any check did not conform.
"""

import argparse
import sys
import time

from checks import check_functions, laboratory, run_check
from faulty import backend
from sound import SOUND

from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.cases.pools import DEFAULT_SEED
from normspec.conformance.reports.cells import Cell
from normspec.conformance.trials.adapters import open_backend
from normspec.conformance.verdicts.verdicts import Kind

SAME_FOR_ALL_SEEDS = (
    "hygiene.empty-batch", "hygiene.every-shape", "normalize.eps-default", "precision.extent",
    "precision.large-finite", "running.momentum-default", "running.single-value",
)  # fmt: skip
"""Claims whose cases are listed rather than drawn: judged with the first seed alone."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from the default one on")
    parser.add_argument("--first-seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--backend", action="append", default=[], help="a backend beside the sound implementations")
    parser.add_argument("--only-backends", action="store_true", help="leave the sound implementations out")
    parser.add_argument("--drawn-only", action="store_true", help="leave out the claims whose cases are listed")
    options = parser.parse_args()
    subjects = [open_backend(name) for name in options.backend]
    if not options.only_backends:
        subjects += [backend(adapter, name) for name, adapter in SOUND.items()]
    cases, alarms, worst, started = 0, 0, {}, time.monotonic()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for dtype in DTYPES:  # one dtype at a time, so that the subjects share what is drawn and predicted
            lab = laboratory(options.profile, seed)
            for subject in (s for s in subjects if dtype in s.dtypes):
                for claim in check_functions():
                    if (options.drawn_only or seed > options.first_seed) and claim in SAME_FOR_ALL_SEEDS:
                        continue
                    verdict = run_check(claim, subject, dtype, lab)
                    cell = Cell.of(
                        claim=claim,
                        backend=subject.name,
                        dtype=dtype,
                        verdict=verdict,
                        deviation=subject.declared(claim, dtype),
                    )
                    cases += verdict.cases
                    if not cell.expected:
                        alarms += 1
                        print(f"seed {seed}: {cell.message()}", flush=True)
                    elif verdict.kind == Kind.CONFORMS:
                        for quantity, ratio in verdict.worst.items():
                            key = (subject.name, dtype, quantity)
                            worst[key] = max(worst.get(key, 0.0), ratio)
                lab.forget()
        print(f"seed {seed}: {cases} cases judged, {alarms} alarms, {time.monotonic() - started:.0f} s", flush=True)
    for (name, dtype, quantity), ratio in sorted(worst.items()):
        print(f"{name:32} {dtype:9} {quantity:28} {ratio:.3f}")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
