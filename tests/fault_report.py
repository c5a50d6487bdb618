"""Whether every faulty backend is refused, and the right claim blamed: `python tests/fault_report.py`.

Exit status 1 if a fault survives or is blamed on another claim without an explanation, if one is explained that needs
none, or if the right claim comes first for too few.
"""

import argparse
import fnmatch
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from checks import known, laboratory, run_check
from faults import FAULTS, Fault
from faulty import backend
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from normspec.conformance.cases.pools import PROFILES
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.verdicts.blame import blamed, refuses
from normspec.conformance.verdicts.verdicts import Verdict

ENOUGH = 0.95
"""The share of all faults for which the right claim must come first."""


@dataclass(frozen=True)
class Result:
    """What became of a fault."""

    fault: str
    blamed: str
    """The first claim blamed; "" if the fault survives."""
    verdict: str
    """Its verdict, with the rival named."""
    cases: int
    """Cases judged by all claims up to the one that is blamed."""
    seconds: float
    """Seconds until then."""
    total: float
    """Seconds for all claims."""
    refusing: tuple[str, ...]
    """All claims that refuse it."""

    @property
    def right(self) -> bool:
        """Whether the claim blamed is the one that the fault names."""
        return self.blamed == FAULTS[self.fault].claim


def judged(name: str, profile: str) -> Result:
    """A fault before all claims."""
    fault, lab, faulty = FAULTS[name], laboratory(profile), known(backend(FAULTS[name].make(), name))
    verdicts: dict[str, Verdict] = {}
    until: dict[str, tuple[int, float]] = {}
    cases, start = 0, time.perf_counter()
    for claim in CLAIMS:
        verdict = run_check(claim, faulty, fault.dtype, lab)
        cases += verdict.cases
        until[claim] = cases, time.perf_counter() - start
        if refuses(claim, fault.dtype, verdict):
            verdicts[claim] = verdict
    first = blamed(verdicts)
    lab.forget_traces()  # the next fault shares none of them, and two hundred faults would fill the memory
    return Result(
        fault=name,
        blamed=first,
        verdict=verdicts[first].label if first else "",
        cases=until[first][0] if first else cases,
        seconds=until[first][1] if first else time.perf_counter() - start,
        total=time.perf_counter() - start,
        refusing=tuple(verdicts),
    )


def results(names: list[str], profile: str, jobs: int) -> Iterator[Result]:
    """Every fault's result, as they come."""
    if jobs == 1:
        yield from (judged(name, profile) for name in names)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(judged, name, profile) for name in names]):
            yield done.result()


def summary(found: list[Result]) -> str:
    """One line on all faults."""
    refused, right = [r for r in found if r.blamed], [r for r in found if r.right]
    share = 100 * len(right) // max(len(found), 1)
    return (
        f"{len(found)} faults: {len(refused)} refused, {len(right)} ({share} %) with the right claim first, "
        f"{statistics.median([r.seconds for r in found] or [0]):.1f} s median until it is blamed, "
        f"{statistics.median([r.total for r in found] or [0]):.1f} s for all claims"
    )


def rows(found: list[Result]) -> Iterator[tuple[str, ...]]:
    """The table's rows, in the order of the files."""
    order = list(FAULTS)
    for r in sorted(found, key=lambda r: order.index(r.fault)):
        fault = FAULTS[r.fault]
        right = "yes" if r.right else "survives" if not r.blamed else "no"
        blamed = f"{r.blamed} ({r.verdict})" if r.blamed else "-"
        yield r.fault, fault.dtype, fault.claim, right, blamed, str(r.cases), f"{r.seconds:.1f}"


HEADINGS = ("fault", "dtype", "claim to blame", "right", "claim blamed first", "cases", "seconds")


def markdown(found: list[Result]) -> str:
    """The report as Markdown, with what each fault does wrong and the threads on its kind."""
    lines = [f"# Faulty backends\n\n{summary(found)}.\n"]
    lines += ["| " + " | ".join((*HEADINGS, "what is wrong", "threads")) + " |", "|---" * 9 + "|"]
    for row in rows(found):
        fault = FAULTS[row[0]]
        told = fault.wrong + (f" ({fault.explained})" if fault.explained and row[3] == "no" else "")
        lines.append("| " + " | ".join((*row, told, ", ".join(fault.threads))) + " |")
    return "\n".join(lines) + "\n"


def shown(console: Console, found: list[Result]) -> None:
    """The table, the summary, and the two lists of what went wrong."""
    table = Table(*HEADINGS, title="faulty backends")
    colours = {"yes": "green", "no": "yellow", "survives": "red"}
    for row in rows(found):
        table.add_row(*row, style=colours[row[3]])
    console.print(table)
    console.print(summary(found))
    for title, chosen in (
        ("Survivors", [r for r in found if not r.blamed]),
        ("Another claim blamed", [r for r in found if r.blamed and not r.right]),
        ("Explained without need", [r for r in found if r.right and FAULTS[r.fault].explained]),
    ):
        if chosen:
            console.print(f"\n{title}:")
        for r in chosen:
            fault: Fault = FAULTS[r.fault]
            because = f"; {fault.explained}" if fault.explained else " (not explained)"
            blamed = f" -> {r.blamed} ({r.verdict})" if r.blamed else ""
            console.print(
                f"  {fault.name} [{fault.dtype}] {fault.claim}{blamed}: {fault.wrong.rstrip('.')}{because}",
                markup=False,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how many cases (default: quick)")
    parser.add_argument("--only", metavar="GLOB", default="*", help="only faults, families or claims of such a name")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth of them (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the report here too")
    options = parser.parse_args()
    names = [
        f.name for f in FAULTS.values() if any(fnmatch.fnmatch(n, options.only) for n in (f.name, f.family, f.claim))
    ][:: options.every]
    if not names:
        parser.error(f"no fault, family or claim is called {options.only}; the families are the files in tests/faults")
    console, found = Console(), []
    if not console.is_terminal:  # a log is read without its width
        console = Console(width=180)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("faults", total=len(names))
        for result in results(names, options.profile, options.jobs):
            found.append(result)
            progress.advance(task)
    shown(console, found)
    if options.markdown:
        options.markdown.write_text(markdown(found), encoding="utf-8")
        console.print(f"wrote {options.markdown}")
    told = all(r.right != bool(FAULTS[r.fault].explained) for r in found)
    few = len(names) == len(FAULTS) and sum(r.right for r in found) < ENOUGH * len(found)
    return int(few or not told)


if __name__ == "__main__":
    sys.exit(main())
