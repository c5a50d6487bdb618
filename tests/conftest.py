"""Runs of the suite as a user starts it, for the tests of what a user sees."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from normspec import conformance
from normspec.conformance.verdicts import suite as _loaded  # noqa: F401  before runs in this process, which forget imports

pytest_plugins = ["pytester"]
sys.dont_write_bytecode = False  # runs in this process import the checks many times: let pytest keep what it rewrites

SUITE = Path(conformance.__path__[0])
ADAPTERS = Path(__file__).parent / "adapters"
QUICK = ("--profile", "quick", "-n", "0")


FIRST = ("conventions", "sound", "hostile", "adapters", "failures", "training", "matrix_page", "reports", "conversion")
"""Files that take longest, first: what comes last should be short, so that no process waits for another."""
LAST = ("rivals", "faults")
"""Files in which each test stands for itself."""


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that only deepen what others test")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes its time and only deepens what others test; run with --long")


def pytest_collection_modifyitems(config, items):
    if not config.option.long:
        left = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: place_of(item.path.stem.removeprefix("test_")))  # stable


def place_of(topic):
    """Where the tests of a file come among those of all files."""
    return FIRST.index(topic) if topic in FIRST else len(FIRST) + (topic in LAST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, tests that share a fixture go to one process, unless `--dist` says otherwise."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFixture(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.partition("::")
            topic = Path(file).stem.removeprefix("test_")
            if topic in LAST:
                return nodeid
            return f"{file} {test.rpartition('-')[2]}" if topic == "sound" else file  # sound: a dtype

    if config.option.dist != "load":
        return None
    config.option.loadscopereorder = False
    return ByFixture(config, log)


class Run(NamedTuple):
    """A finished run: exit status, what it printed, and its cells by claim, backend and dtype."""

    status: int
    out: str
    text: str
    results: dict

    @property
    def cells(self):
        return {(c["claim"], c["backend"], c["dtype"]): c for c in self.results["cells"]}

    def message(self, claim, backend, dtype="float32"):
        """What pytest shows of one failed check."""
        found = re.search(rf"^{re.escape(claim)} \(.*\), {backend} in {dtype}: .*(\n  .*)*", self.out, re.MULTILINE)
        return found[0] if found else ""


@pytest.fixture(scope="session", autouse=True)
def _importable():
    """A process started elsewhere finds the adapters; normspec is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ADAPTERS))
        patch.setenv("COLUMNS", "160")
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # or each of many processes compiles everything again
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        yield


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Runs `pytest conformance` in a process and a folder of its own."""

    def run(*arguments, program=("pytest", SUITE, "-p", "no:cacheprovider"), folder=None):
        folder = folder or tmp_path_factory.mktemp("run")
        command = [sys.executable, "-m", *program, *QUICK, "--results", "results.json", *arguments]
        done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
        path = folder / "results.json"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return Run(done.returncode, done.stdout + done.stderr, text, json.loads(text or "{}"))

    return run


@pytest.fixture
def suite(pytester):
    """Runs `pytest conformance` within this process: faster, where nothing is shared that matters."""

    def suite(*arguments):
        return pytester.runpytest_inprocess(SUITE, "-p", "no:cacheprovider", *QUICK, *arguments)

    return suite


def several(module, *names):
    """Options for several adapters of one file."""
    return [word for name in names for word in ("--backend", f"{ADAPTERS / module}.py:{name}")]
