"""The pytest options, one test for each claim, backend and dtype, and what is printed at the end."""

import fnmatch
import json
import os
import shlex
import textwrap
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.reports import script
from normspec.conformance.reports.cells import Cell
from normspec.conformance.reports.matrix import LEGEND, Matrix
from normspec.conformance.trials.isolation import Limits
from normspec.conformance.verdicts.checking import Check
from normspec.conformance.verdicts.suite import Suite, UsageProblem
from normspec.conformance.verdicts.verdicts import Kind, Verdict

SUITE = pytest.StashKey[Suite]()
CELL = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("normspec", "conformance of batch normalization")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME|FILE.py[:NAME]|MODULE:NAME",
        help="check this backend; repeat for more (default: all that are installed)",
    )
    group.addoption("--claim", action="append", metavar="GLOB", help="only these claims, as 'running.*'; repeatable")
    group.addoption(
        "--dtype", action="append", help="only these dtypes: float64, float32, bfloat16, float16; repeatable"
    )
    group.addoption("--profile", default="default", help="how many cases: quick, default or thorough")
    group.addoption("--seed", type=int, help="draw other cases than the fixed ones of every run")
    group.addoption("--hang-after", type=float, default=60.0, metavar="SECONDS", help="how long one call may take")
    group.addoption(
        "--memory", type=float, default=8.0, metavar="GIB", help="how much a backend may allocate (on Linux)"
    )
    group.addoption("--in-process", action="store_true", help="run backends in pytest's own process, for a debugger")
    group.addoption("--results", metavar="FILE", help="write results.json here")
    group.addoption("--matrix", metavar="FILE", help="write the matrix as Markdown here")
    group.addoption("--power", action="store_true", help="show which rivals were refuted, and how clearly")
    group.addoption(
        "--scripts", metavar="DIR", help="leave the stand-alone scripts here, of failures and of declared deviations"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claim(id): the claim of the specification that the check decides")
    option = config.option
    if option.help:
        return
    in_process = option.in_process or option.usepdb or option.trace
    try:
        suite = Suite.from_options(
            backends=option.backend,
            claims=option.claim,
            dtypes=option.dtype,
            profile=option.profile,
            seed=option.seed,
            limits=None if in_process else Limits(option.hang_after, option.memory),
            opened=getattr(config, "workerinput", {}).get("normspec"),
        )
    except UsageProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    config.stash[SUITE] = suite
    config.add_cleanup(suite.close)
    if not in_process and (workers := workers_for(config, suite)):  # xdist looks at its options after this
        option.numprocesses, option.dist, option.tx = workers, "load", ["popen"] * workers
    if getattr(option, "dist", "no") != "no":
        suite.close()  # the workers have processes of their own
    if getattr(option, "maxworkerrestart", "") is None:
        option.maxworkerrestart = "1000"  # each worker that dies costs one check, and no run should end for it
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(config, suite), "normspec-reporter")


WORTH_IT = 60
"""Checks from which on a run is shared among processes: each takes a second or two to start."""


def workers_for(config: pytest.Config, suite: Suite) -> int:
    """How many processes share a run of which the command line does not say it; 0 where one alone is as good."""
    option = config.option
    unsaid = getattr(option, "numprocesses", 0) is None and option.dist == "no" and not option.tx
    if not unsaid or hasattr(config, "workerinput") or option.collectonly or option.capture == "no":
        return 0
    whole = not option.keyword and all(Path(place).is_dir() for place in config.args)
    if not whole or len(suite.targets) < 2 or len(suite.targets) * len(suite.claims) < WORTH_IT:
        return 0
    workers = min(len(suite.targets), int(config.hook.pytest_xdist_auto_num_workers(config=config)))
    return workers if workers > 1 else 0


def pytest_report_header(config: pytest.Config) -> list[str]:
    return config.stash[SUITE].header()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "check" in metafunc.fixturenames:
        targets = metafunc.config.stash[SUITE].targets
        metafunc.parametrize("check", targets, indirect=True, ids=[f"{spec.name}-{dtype}" for spec, dtype in targets])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop the claims that were not asked for; bring the checks of each backend and dtype together."""
    targets = config.stash[SUITE].targets
    if hasattr(config, "workerinput"):  # ours, which is the quickest, comes last: so the workers end at the same time
        targets = targets[::-1]
    order = {f"{spec.name}-{dtype}]": place for place, (spec, dtype) in enumerate(targets)}
    items.sort(key=lambda item: order.get(item.name.partition("[")[2], -1))  # stable: claims stay in their order
    wanted = config.getoption("--claim")
    if not wanted:
        return
    kept = [item for item in items if any(fnmatch.fnmatch(claim_of(item), glob) for glob in wanted)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def claim_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("claim")
    return str(marker.args[0]) if marker else ""


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    backend, dtype = request.param
    claim, laboratory = CLAIMS[claim_of(request.node)], request.config.stash[SUITE].laboratory
    laboratory.turn_to(backend, dtype)
    return Check(claim, backend, dtype, laboratory)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Nothing is run where the claim cannot be decided in this dtype."""
    done = pyfuncitem.funcargs.get("check")
    return True if isinstance(done, Check) and done.verdict is not None else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """After a check its verdict becomes an outcome."""
    yield
    done = getattr(item, "funcargs", {}).get("check")
    if isinstance(done, Check):
        cell = cell_of(done, item.config)
        item.stash[CELL] = cell.serializable()
        cell.settle()


def cell_of(check: Check, config: pytest.Config) -> Cell:
    """The verdict of a check beside what is declared, with a script and a command line if it is not as declared."""
    assert check.verdict is not None, f"the check of {check.claim.id} reached no verdict"
    claim, backend, dtype = check.claim.id, check.backend, check.dtype
    cell = Cell.of(
        claim=claim,
        backend=backend.name,
        dtype=dtype,
        verdict=check.verdict,
        deviation=backend.declared(claim, dtype) or backend.implied(claim, dtype, check.verdict.rival),
    )
    declared = bool(cell.declared and config.option.scripts)  # asked for by name: of what is as declared, too
    if cell.expected and not declared:
        return cell
    suite = config.stash[SUITE]
    by_command = config.inipath is not None and config.inipath.name == "normspec.ini"
    folder = os.path.relpath(Path(__file__).parent, config.invocation_params.dir)
    again = suite.again("normspec" if by_command else f"pytest {shlex.quote(folder)}", backend, dtype, claim)
    scripts = Path(config.option.scripts or config.invocation_params.dir / "normspec-scripts")
    path = script.write(scripts, check, again)
    return replace(cell, again=again, script=str(path or ""))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report carries its cell, also from an xdist worker to the controller."""
    report = yield
    if report.when == "call" and (cell := item.stash.get(CELL, None)) is not None:
        vars(report)["normspec"] = json.dumps(cell)  # as text it passes between processes
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker what the backends say of themselves, so that it starts only those that it is given."""
    suite = node.config.stash[SUITE]
    node.workerinput["normspec"] = suite.opened() if suite.limits else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """All claims of one backend and dtype go to one worker, where they share what they observed."""
    from xdist.scheduler import LoadScopeScheduling

    class ByTarget(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.rpartition("[")[2]

        def remove_node(self, node: Any) -> str | None:
            """The check at which a worker crashed is not given to the next one: it would crash that, too."""
            work = self.assigned_work[node]
            for scope in [scope for scope, checks in work.items() if all(checks.values())]:
                del work[scope]  # nothing is left of it to be given on
            crashed = next((check for checks in work.values() for check, done in checks.items() if not done), None)
            if crashed is not None:
                next(checks for checks in work.values() if crashed in checks)[crashed] = True
            super().remove_node(node)
            return crashed

        def schedule(self) -> None:
            """A worker begins its last check when it has another one, or knows of none: a new worker is told twice."""
            late = self.collection is not None
            super().schedule()
            for node in self.nodes if late else ():
                self._reschedule(node)

    return ByTarget(config, log)


class Reporter:
    """Gathers the cells of all workers; at the end prints the matrix and writes the files asked for."""

    def __init__(self, config: pytest.Config, suite: Suite) -> None:
        self.config, self.suite = config, suite
        self.cells: list[Cell] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if (plain := getattr(report, "normspec", None)) is not None:
            self.cells.append(Cell.from_serializable(json.loads(plain)))
        elif str(report.when) == "???" and (lost := self.lost(report)):  # xdist's word for a worker that crashed
            self.cells.append(lost)

    def lost(self, report: pytest.TestReport) -> Cell | None:
        """The cell of a check at which a worker process died, if it is one of ours."""
        check, _, target = report.nodeid.removesuffix("]").rpartition("[")
        module, _, function = check.rpartition("/")[2].partition("::")
        for claim in CLAIMS:
            topic, _, statement = claim.partition(".")
            if (module, function) == (f"test_{topic}.py", f"test_{statement.replace('-', '_')}"):
                for backend, dtype in self.suite.targets:
                    if target == f"{backend.name}-{dtype}":
                        verdict = Verdict(kind=Kind.CRASHED, words="the process died in which it was checked")
                        return Cell.of(
                            claim=claim,
                            backend=backend.name,
                            dtype=dtype,
                            verdict=verdict,
                            deviation=backend.declared(claim, dtype),
                        )
        return None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.suite.broken and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # an adapter that cannot be opened is red

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        matrix = Matrix(self.suite, self.cells)
        written = matrix.write(results=self.config.option.results, markdown=self.config.option.matrix)
        if self.cells:
            terminalreporter.section("conformance")
            terminalreporter.write(matrix.terminal(terminalreporter._tw.fullwidth, color=terminalreporter.hasmarkup))
            terminalreporter.write_line("")
            if terminalreporter.verbosity > 0:
                terminalreporter.write_line(matrix.margins(terminalreporter._tw.fullwidth))
            if self.config.option.power:
                terminalreporter.write_line(matrix.power(terminalreporter._tw.fullwidth))
            terminalreporter.write_line(f"{matrix.tally()}.")
            terminalreporter.write_line(textwrap.fill(LEGEND, terminalreporter._tw.fullwidth))
            for line in matrix.blame():
                terminalreporter.write_line(line, red=True)
        for name, reason in self.suite.not_run.items():
            terminalreporter.write_line(f"{name} was not run: {reason}")
        for problem in self.suite.broken.values():
            terminalreporter.write_line(problem, red=True)
        for path in written:
            terminalreporter.write_line(f"wrote {path}")
