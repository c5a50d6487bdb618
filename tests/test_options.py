"""The suite's own options, and pytest's, as their users know them."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from conftest import ADAPTERS, QUICK, SUITE

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.conftest import workers_for

ONE = ("--claim", "normalize.centered", "--dtype", "float32")
SOME = (
    "--claim", "normalize.centered", "--claim", "hygiene.no-alias", "--claim", "running.momentum-*",
    "--dtype", "float64", "--dtype", "float32",
)  # fmt: skip


def collected(result):
    """The node ids that `--collect-only -q` prints."""
    return [line for line in result.outlines if "::" in line]


# -- which checks -----------------------------------------------------------------------------------------------------


def test_every_way_to_name_a_backend(run):
    specs = (
        "numpy",
        ADAPTERS / "plain.py",
        ADAPTERS / "functions.py",
        f"{ADAPTERS}/declared.py:Sound",
        "declared:AsDeclared",
    )
    done = run(*ONE, *(word for spec in specs for word in ("--backend", spec)))
    assert done.status == 0, done.out
    assert {backend for _, backend, _ in done.cells} == {"numpy", "Plain", "functions", "Sound", "AsDeclared"}
    assert {cell["verdict"]["kind"] for cell in done.cells.values()} == {"conforms"}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ([], 3 * len(CLAIMS)),
        (["--dtype", "float32"], len(CLAIMS)),
        (["--dtype", "float32", "--dtype", "float16"], 2 * len(CLAIMS)),
        (["--claim", "running.*"], 3 * sum(c.startswith("running.") for c in CLAIMS)),
        (["--claim", "running.*", "--claim", "normalize.centered", "--dtype", "float64"], 10),
        (["--claim", "normalize.centered", "--backend", ADAPTERS / "plain.py"], 7),
        (["--claim", "normalize.centered", "--backend", "numpy"], 3),
        (["-k", "centered"], 3),
        (["-k", "test_evaluate and float32"], 5),
        (["-m", "claim"], 3 * len(CLAIMS)),
        (["-m", "not claim"], 0),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_selection(suite, arguments, count):
    assert len(collected(suite("--collect-only", "-q", "--backend", "numpy", *arguments))) == count


def test_a_single_file_or_check_can_be_named(pytester):
    named = f"{SUITE}/test_normalize.py::test_centered"
    result = pytester.runpytest_inprocess(named, "-p", "no:cacheprovider", "--collect-only", "-q", "--backend", "numpy")
    assert len(collected(result)) == 3


def test_help_explains_the_options(suite):
    result = suite("--backend", "numpy", "--help")
    for option in ("--backend", "--claim", "--dtype", "--profile", "--seed", "--results", "--matrix", "--scripts"):
        result.stdout.fnmatch_lines([f"*{option}*"])


# -- which cases ------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(suite, pytester):
    """The results.json of a run within this process."""

    def written(*arguments):
        result = suite(*arguments, "--results", "out.json")
        assert result.ret == 0
        return (pytester.path / "out.json").read_text(encoding="utf-8")

    return written


def test_runs_are_repeatable_and_however_distributed(run, written):
    assert run("--backend", "numpy", *SOME, "-n", "2").text == written("--backend", "numpy", *SOME)


def test_a_seed_draws_other_cases_and_always_the_same(run, written):
    usual, other = (json.loads(written("--backend", "numpy", *SOME, *seed)) for seed in ((), ("--seed", "5")))
    assert other == run("--backend", "numpy", *SOME, "--seed", "5").results
    assert other["seed"] == 5
    assert other["cells"] != usual["cells"]
    assert [cell["verdict"]["kind"] for cell in other["cells"]] == [cell["verdict"]["kind"] for cell in usual["cells"]]


@pytest.mark.parametrize(("profile", "cases"), [("quick", 20), ("default", 100)])
def test_profile_says_how_many_cases(written, profile, cases):
    only = ("--claim", "statistics.per-channel", "--dtype", "float32", "--profile", profile)
    results = json.loads(written("--backend", "numpy", *only))
    assert results["profile"] == profile
    assert cases / 2 <= results["cells"][0]["verdict"]["cases"] <= 2 * cases


# -- pytest's own options ---------------------------------------------------------------------------------------------

BIASED = ("--backend", ADAPTERS / "functions.py", "--dtype", "float32")
TWO_OF_THREE = ("--claim", "example.article", "--claim", "normalize.centered", "--claim", "running.sample-variance")


def test_last_failed_and_verbose_and_junitxml(suite, pytester):
    shared = (*BIASED, *TWO_OF_THREE, "-p", "cacheprovider", "-o", f"cache_dir={pytester.path / 'cache'}")
    result = suite(*shared, "-v", "--junitxml", "junit.xml")
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*test_centered?functions-float32? PASSED*", "*test_sample_variance?*? FAILED*"])
    tests = ElementTree.parse(pytester.path / "junit.xml").findall("testsuite/testcase")
    assert len(tests) == 3
    failures = [test.find("failure").text for test in tests if test.find("failure") is not None]
    assert len(failures) == 2
    assert any("running.sample-variance" in text and "  again " in text for text in failures)

    again = suite(*shared, "--lf")
    again.assert_outcomes(failed=2)


@pytest.mark.parametrize(("verbosity", "shown"), [((), False), (("-v",), True)])
def test_verbose_shows_how_much_of_the_bounds_is_used(suite, verbosity, shown):
    result = suite("--backend", "numpy", "--claim", "statistics.per-channel", "--dtype", "float32", *verbosity)
    assert ("largest error / bound" in str(result.stdout)) == shown
    if shown:
        assert re.search(r"^numpy f32 +0\.\d+ ", str(result.stdout), re.MULTILINE)


def test_stop_at_the_first_failure(suite):
    suite(*BIASED, *TWO_OF_THREE, "-x").assert_outcomes(failed=1)


# -- who shares the work ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "targets", "workers"),
    [
        ({}, 5, 4),
        ({}, 3, 3),  # no more processes than there is work for
        ({}, 1, 0),
        ({"claims": 3}, 5, 0),  # over before they would have started
        ({"numprocesses": 0}, 5, 0),
        ({"numprocesses": 2}, 5, 0),  # as the command line says
        ({"dist": "each"}, 5, 0),
        ({"collectonly": True}, 5, 0),
        ({"capture": "no"}, 5, 0),
        ({"keyword": "centered"}, 5, 0),
        ({"args": [str(SUITE / "test_running.py")]}, 5, 0),
        ({"cores": 1}, 5, 0),
    ],
)
def test_a_whole_run_of_several_targets_is_shared(told, targets, workers):
    said = {"args": [str(SUITE)], "cores": 4, "claims": len(CLAIMS), **UNSAID, **told}
    config = SimpleNamespace(
        option=SimpleNamespace(**said),
        args=said["args"],
        hook=SimpleNamespace(pytest_xdist_auto_num_workers=lambda config: said["cores"]),
    )
    suite = SimpleNamespace(targets=range(targets), claims=range(said["claims"]))
    assert workers_for(config, suite) == workers


UNSAID = {"numprocesses": None, "dist": "no", "tx": [], "collectonly": False, "capture": "fd", "keyword": ""}


@pytest.mark.parametrize(("options", "shared"), [((), True), (("--in-process",), False), (("--pdb",), False)])
def test_it_is_shared_unless_a_debugger_is_to_see_it(pytester, monkeypatch, options, shared):
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    nothing = ("-p", "no:cacheprovider", "-m", "not claim")  # the processes are started, and have nothing to do
    result = pytester.runpytest_inprocess(SUITE, "--backend", "numpy", *nothing, *options)
    assert ("created: 2/2 workers" in str(result.stdout)) == shared


# -- what is imported -------------------------------------------------------------------------------------------------


def test_numpy_alone_imports_no_framework(tmp_path):
    program = (
        "import sys, pytest\n"
        f"status = pytest.main({[str(SUITE), '-p', 'no:cacheprovider', *QUICK, '--backend', 'numpy', *ONE]!r})\n"
        "print('frameworks:', sorted({'torch', 'jax', 'tensorflow'} & set(sys.modules)))\n"
        "raise SystemExit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "frameworks: []" in done.stdout
