"""The files and the table that a run leaves, and the `normspec` command."""

import json
import os
import re
import shutil
import sys

import pytest
from conftest import ADAPTERS, SUITE, several

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.command import main
from normspec.conformance.reports.matrix import claims_digest

SCHEMA = json.loads((SUITE / "reports/results.schema.json").read_text(encoding="utf-8"))
OF_NETWORKS = ("why.trains-faster", "why.matches-dataset")
"""Claims on networks, which NumPy does not train."""
ONE = ("--claim", "normalize.centered", "--dtype", "float32")


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """All claims on a sound backend."""
    folder = tmp_path_factory.mktemp("whole")
    return run("--backend", "numpy", "--dtype", "float32", "--matrix", "deep/matrix.md", folder=folder), folder


@pytest.fixture(scope="module")
def mixed(run, tmp_path_factory):
    """A few claims on backends of every kind: sound, faulty, declared, broken, unavailable."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "broken.py").write_text("x = 1")
    (folder / "away.py").write_text("def train(): ...\ndef evaluate(): ...\nunavailable = 'the card is out'")
    arguments = (
        *("--backend", "numpy", "--backend", "broken.py", "--backend", "away.py", "--backend", "lost.py"),
        *several("faults", "Raises", "AllNaN", "NoLayer", "Biased"),
        *several("declared", "AsDeclared"),
        *(
            "--claim",
            "precision.within-bound",
            "--claim",
            "running.sample-variance",
            "--claim",
            "precision.half-statistics",
        ),
        *("--claim", "affine.defaults", "--dtype", "float32", "--matrix", "matrix.md"),
        *("-k", "not (AllNaN and sample_variance)"),
    )
    return run(*arguments, folder=folder), folder


# -- results.json -----------------------------------------------------------------------------------------------------


def validated(results):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(results)
    return [f"{error.json_path}: {error.message}" for error in errors]


def test_results_are_as_the_schema_says(whole, mixed):
    assert validated(whole[0].results) == []
    assert validated(mixed[0].results) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema",), 2),
        (("seed",), "5"),
        (("more",), 1),
        (("cells", 0, "expected"), 1),
        (("cells", 0, "dtype"), "float8"),
        (("cells", 0, "verdict", "kind"), "passes"),
        (("cells", 0, "verdict", "rival"), "named, but it conforms"),
        (("cells", 0, "verdict", "worst"), {"y": "large"}),
        (("cells", 0, "script"), "/home/me/script.py"),
    ],
)
def test_schema_refuses_what_is_wrong(mixed, where, value):
    results = json.loads(mixed[0].text)
    *path, last = where
    part = results
    for step in path:
        part = part[step]
    part[last] = value
    assert len(validated(results)) == 1


def fields_of(schema, place=""):
    for name, field in schema.get("properties", {}).items():
        yield f"{place}.{name}", field
        yield from fields_of(field, f"{place}.{name}")
    yield from fields_of(schema["items"], f"{place}[]") if "items" in schema else ()


def test_schema_describes_every_field():
    parts = {"": SCHEMA, **SCHEMA["$defs"]}
    fields = [field for name, part in parts.items() for field in fields_of(part, name)]
    assert len(fields) > 30
    assert [place for place, field in fields if not field.get("description", "").endswith((".", ";"))] == []


def test_every_cell_is_there_once_and_in_order(whole, mixed):
    assert [cell["claim"] for cell in whole[0].results["cells"]] == list(CLAIMS)
    names = [backend["name"] for backend in mixed[0].results["backends"]]
    assert names == ["numpy", "Raises", "AllNaN", "NoLayer", "Biased", "AsDeclared"]
    found = [(cell["claim"], cell["backend"]) for cell in mixed[0].results["cells"]]
    claims = [claim for claim in CLAIMS if any(claim == c for c, _ in found)]
    everything = [(claim, name) for claim in claims for name in names]
    assert found == [pair for pair in everything if pair != ("running.sample-variance", "AllNaN")]


def test_results_tell_every_kind_of_verdict(mixed):
    results = mixed[0].results
    kinds = {cell["verdict"]["kind"] for cell in results["cells"]}
    assert kinds == {"conforms", "deviates", "fails", "crashed", "inconclusive", "not offered"}
    assert list(results["not_run"]) == ["away.py"]
    assert results["not_run"]["away.py"] == "the card is out"
    assert list(results["broken"]) == ["broken.py", "lost.py"]
    assert results["claims"] == claims_digest()
    assert mixed[0].cells["precision.within-bound", "AllNaN", "float32"]["verdict"]["counterexample"]["got"] == "nan"


def test_green_is_every_cell_expected_and_nothing_broken(whole, mixed):
    for done, _ in (whole, mixed):
        green = all(cell["expected"] for cell in done.results["cells"]) and not done.results["broken"]
        assert green == (done.status == 0)


def test_results_hold_nothing_of_this_machine_but_its_platform(whole, mixed):
    for done, folder in (whole, mixed):
        text = json.dumps({key: value for key, value in done.results.items() if key != "platform"})
        for place in (folder, ADAPTERS, SUITE.parent, sys.prefix, os.path.expanduser("~/")):
            assert str(place) not in text
        assert not re.search(r"0x[0-9a-f]{6}", text)


# -- the matrix -------------------------------------------------------------------------------------------------------


def table(markdown):
    """The cells of the Markdown table, by claim."""
    rows = [row.strip("| ").split(" | ") for row in markdown.splitlines() if row.startswith("| ")]
    return rows[0][1:], {row[0]: row[1:] for row in rows[1:]}


def test_markdown_matrix_of_a_sound_backend(whole):
    _, folder = whole
    header, rows = table((folder / "deep/matrix.md").read_text(encoding="utf-8"))
    assert len(header) == 1
    assert header[0].startswith("numpy ")
    assert list(rows) == list(CLAIMS)
    for claim, (text,) in rows.items():
        undecidable = "float32" in (CLAIMS[claim].undecidable or {})
        expected = "-" if claim in OF_NETWORKS else "?" if undecidable else "conforms"
        assert text.startswith(expected), claim
    assert rows["normalize.eps-default"] == ["conforms (1e-05)"]
    assert rows["running.momentum-default"] == ["conforms (0.1)"]


def test_markdown_matrix_of_many_kinds(mixed):
    markdown = (mixed[1] / "matrix.md").read_text(encoding="utf-8")
    header, rows = table(markdown)
    assert [name.split()[0] for name in header] == ["numpy", "Raises", "AllNaN", "NoLayer", "Biased", "AsDeclared"]
    population = "deviates: population variance, divisor m"
    assert rows["running.sample-variance"] == [
        "conforms",
        "crashed",
        "not run",
        "conforms",
        population,
        f"{population} *",
    ]
    assert rows["precision.half-statistics"] == ["?"] * 6
    assert rows["affine.defaults"][2:4] == ["-", "-"]
    assert rows["precision.within-bound"][:3] == ["conforms (stable)", "crashed", "fails"]
    for told in (
        "the kernel keeps one variance (https://example.org/variance)",
        "away.py was not run: the card is out.",
    ):
        assert f"{told}\n" in markdown
    assert re.search(r"^- .*broken\.py: the module has no train and no evaluate", markdown, re.MULTILINE)


def test_terminal_lists_every_claim_and_the_tally(whole):
    lines = whole[0].out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["claim"])
    assert [line.split()[0] for line in lines[start + 1 : start + 1 + len(CLAIMS)]] == list(CLAIMS)
    kinds = [cell["verdict"]["kind"] for cell in whole[0].results["cells"]]
    told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("inconclusive", "conforms", "not offered"))
    assert f"{told}." in lines


def test_terminal_tells_what_was_not_run(mixed):
    assert "away.py was not run: the card is out" in mixed[0].out
    assert "broken.py: the module has no train and no evaluate" in mixed[0].out
    assert re.search(r"There is no file .*lost\.py\.", mixed[0].out)


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_terminal_matrix_is_readable_in_any_width(suite, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    names = ("Raises", "NoGradients", "NoLayer", "WrongDtype", "Integers", "ReturnsTwo", "TakesTwo")
    result = suite(*several("faults", *names), *ONE)
    words = " ".join(
        result.outlines[result.outlines.index(next(o for o in result.outlines if "= conformance =" in o)) :]
    )
    for name in names:
        assert name in words
    assert words.count("conforms ") >= 4


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path):
    """A user's folder: an adapter, and a pytest configuration that is none of the suite's business."""
    shutil.copy(ADAPTERS / "plain.py", tmp_path / "mine.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise ImportError('not to be read')")
    (tmp_path / "test_mine.py").write_text("raise ImportError('not to be read')")
    return tmp_path


def test_command_works_anywhere_and_takes_options_of_pytest(run, elsewhere):
    arguments = (
        "--backend",
        "mine.py:Plain",
        *ONE,
        "-v",
        "-n",
        "2",
        "--junitxml",
        "junit.xml",
        "--matrix",
        "matrix.md",
    )
    done = run(*arguments, program=("normspec",), folder=elsewhere)
    assert done.status == 0, done.out
    assert "1 passed" in done.out
    assert list(done.cells) == [("normalize.centered", "Plain", "float32")]
    assert (elsewhere / "junit.xml").exists()
    assert (elsewhere / "matrix.md").exists()
    assert not (elsewhere / ".pytest_cache").exists()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (ONE, pytest.ExitCode.OK),
        (("test_normalize.py::test_centered",), pytest.ExitCode.OK),
        (("test_normalize.py", "-k", "centered", "--dtype", "float32"), pytest.ExitCode.OK),
        ((*ONE, "--collect-only", "-q"), pytest.ExitCode.OK),
        ((*ONE, "-k", "nothing"), pytest.ExitCode.NO_TESTS_COLLECTED),
        (("--claim", "nothing"), pytest.ExitCode.USAGE_ERROR),
    ],
)
def test_command_gives_the_status_of_pytest(elsewhere, monkeypatch, arguments, status):
    monkeypatch.chdir(elsewhere)
    before = dict(sys.modules)
    try:
        assert main(["--backend", "numpy", "--profile", "quick", *arguments]) == status
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
