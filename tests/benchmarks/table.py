"""What the suite costs, as one table: `python tests/benchmarks/table.py [ROW ...]`, a row by its name or a pattern.

Times are CPU times of the whole tree of processes, in units that can be compared between machines: a unit is what
120,000 rounds of NumPy's work on a small array take, measured before and after. Exit status 1 if a row is worse than
what is wanted of it.
"""

import argparse
import contextlib
import fnmatch
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from steps import steps

from normspec import conformance

SUITE = conformance.__path__[0]
INSIDE = str(Path(__file__).with_name("inside.py"))
ROUNDS = 120_000


@dataclass(frozen=True)
class Measured:
    """A figure, what it is of, and what is wanted of it: at most that much, or at least."""

    value: float
    of: str
    wanted: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is as good as wanted."""
        if self.wanted is None:
            return True
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


def unit() -> float:
    """CPU seconds of 120,000 rounds on an array of shape (4, 3)."""
    x = np.random.default_rng(0).random((4, 3))
    began = time.process_time()
    for _ in range(ROUNDS):
        centered = x - x.mean(0, keepdims=True)
        (centered * centered).sum()
    return time.process_time() - began


def cpu() -> float:
    """CPU seconds of all processes that were started from here, and ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*arguments: str) -> tuple[float, str]:
    """CPU seconds of a Python process with all that it starts, and what it printed."""
    before = cpu()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stdout[-2000:]}")
    return cpu() - before, done.stdout


def suite(backend: str, profile: str, *more: str) -> tuple[float, str]:
    """The suite on one backend, from one process."""
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "--backend", backend, "--profile", profile)
    return run("-m", "pytest", SUITE, *options, *more)


def units(backend: str, profile: str, wanted: float) -> Measured:
    """CPU time of a run in units."""
    before = unit()
    used, _ = suite(backend, profile)
    one = (before + unit()) / 2
    return Measured(used / one, f"units of {one:.2f} s CPU", wanted)


def cases() -> Measured:
    """How many cases are judged in a second by a core."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        used, _ = suite("numpy", "default", "--dtype", "float32", "--results", str(results))
        judged = sum(cell["verdict"]["cases"] for cell in json.loads(results.read_text(encoding="utf-8"))["cells"])
    return Measured(judged / used, f"cases a second and core, of {judged}", 5000, at_least=True)


def ratio(backend: str) -> Measured:
    """The suite's own time over the time inside the backend."""
    _, printed = run(INSIDE, backend, "default")
    whole, inside = map(float, printed.split()[-2:])
    return Measured((whole - inside) / inside, f"times the {inside:.1f} s inside the backend", 2)


def memory() -> Measured:
    """The most memory that a process of a run holds, alone or with those that it has started."""
    program = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "--backend", "numpy", "--profile", "default")
    _, printed = run("-c", program, sys.executable, "-m", "pytest", SUITE, *options)
    kilo = 1 if sys.platform == "darwin" else 1024
    return Measured(int(printed.split()[-1]) * kilo / 1e6, "MB", 600)


ROWS = {
    "time numpy quick": lambda: units("numpy", "quick", 3.5),
    "time numpy default": lambda: units("numpy", "default", 6),
    "time torch quick": lambda: units("torch", "quick", 6),
    "time torch default": lambda: units("torch", "default", 12),
    "time jax-jit quick": lambda: units("jax-jit", "quick", 25),
    "time jax-jit default": lambda: units("jax-jit", "default", 60),
    "cases numpy float32": cases,
    "own time over backend's, numpy": lambda: ratio("numpy"),
    "own time over backend's, torch": lambda: ratio("torch"),
    "memory numpy default": memory,
}
STEPS = "steps numpy float32"


def measured(names: list[str]) -> Iterator[tuple[str, Measured]]:
    """The rows asked for, each as it is measured."""
    for name in names:
        if name != STEPS:
            yield name, ROWS[name]()
            continue
        for step, seconds in steps():
            yield f"step: {step}", Measured(seconds * 1e6, "µs a case")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    every = [*ROWS, STEPS]
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"which rows, as '*quick' (default: all): {'; '.join(every)}"
    )
    options = parser.parse_args()
    for row in options.rows:
        if not fnmatch.filter(every, row):
            parser.error(f"no row is called {row}; there are {'; '.join(every)}")
    chosen = [name for name in every if not options.rows or any(fnmatch.fnmatch(name, row) for row in options.rows)]
    console, good = Console(), True
    table = Table("row", "measured", "of what", "wanted", title="what the suite costs")
    with console.status("measuring") if console.is_terminal else contextlib.nullcontext() as shown:
        for name, one in measured(chosen):
            good = good and one.holds
            wanted = "" if one.wanted is None else f"{'at least' if one.at_least else 'at most'} {one.wanted:g}"
            table.add_row(name, f"{one.value:.3g}", one.of, wanted, style=None if one.holds else "red")
            if shown:
                shown.update(f"measured {name}")
    console.print(table)
    return 0 if good else 1


if __name__ == "__main__":
    os.environ.pop("PYTEST_ADDOPTS", None)
    sys.exit(main())
