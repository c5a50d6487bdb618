"""What a failure says, whether it can be repeated from what it says, and what a declaration makes of it."""

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import ADAPTERS, several

from normspec.conformance.cases.cases import Case
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.verdicts.suite import Suite

VARIANCE = "running.sample-variance"
POPULATION = "population variance, divisor m"
ONLY_VARIANCE = ("--claim", VARIANCE, "--dtype", "float32")

# -- declared deviations ----------------------------------------------------------------------------------------------

DECLARED = {
    # whether it is green, and what is said of it
    "Undeclared": (False, f"verdict  follows another rule: {POPULATION}"),
    "AsDeclared": (True, "the kernel keeps one variance (https://example.org/variance)"),
    "ForThisVersion": (True, "the kernel keeps one variance"),
    "ForThisDtype": (True, "the kernel keeps one variance"),
    "WithoutVersion": (True, "the kernel keeps one variance"),
    "ForOtherVersion": (False, f"verdict  follows another rule: {POPULATION}"),
    "ForOtherDtype": (False, f"verdict  follows another rule: {POPULATION}"),
    "AnotherRival": (False, f"follows another rule: {POPULATION}; the adapter declares 'eps mixed in'"),
    "Sound": (False, f"conforms, but the adapter declares '{POPULATION}': remove the declaration"),
}


@pytest.fixture(scope="module")
def declared(run):
    return run(*several("declared", *DECLARED), *ONLY_VARIANCE, "-rx")


@pytest.mark.parametrize("name", DECLARED)
def test_declaration_is_held_against_the_verdict(declared, name):
    green, said = DECLARED[name]
    cell = declared.cells[VARIANCE, name, "float32"]
    assert cell["expected"] == green
    if green:
        assert cell["verdict"]["rival"] == cell["declared"] == POPULATION
        assert said in cell["reason"]
        assert (
            f"XFAIL {test_id(declared.out, name)} - deviates: {POPULATION}, as declared: {cell['reason']}"
            in declared.out
        )
    else:
        assert said in declared.message(VARIANCE, name)


def test_id(out, name):
    return re.search(rf"XFAIL (\S+test_sample_variance\[{name}-float32\])", out)[1]


test_id.__test__ = False


def test_a_run_in_which_all_is_as_declared_is_green(suite):
    result = suite(*several("declared", "AsDeclared", "ForThisVersion"), *ONLY_VARIANCE)
    result.assert_outcomes(xfailed=2)
    assert result.ret == 0


# -- the text of a failure --------------------------------------------------------------------------------------------

FAILURES = {
    # backend, claim, dtype, and the label of the verdict
    "operation": ("Biased", VARIANCE, "float32", f"deviates: {POPULATION}"),
    "functions": ("functions", VARIANCE, "float32", f"deviates: {POPULATION}"),
    "bfloat16": ("functions", VARIANCE, "bfloat16", f"deviates: {POPULATION}"),
    "layer": ("BiasedLayer", VARIANCE, "float32", f"deviates: {POPULATION}"),
    "crash": ("Raises", "normalize.centered", "float32", "crashed"),
    "crash in a layer": ("LayerRaises", VARIANCE, "float32", "crashed"),
    "no result": ("ReturnsNone", "normalize.centered", "float32", "crashed"),
    "layout": ("MisreadsStrides", "hygiene.layouts", "float32", "deviates: a layout is misread"),
    "input": ("WritesItsInput", "hygiene.inputs-unwritten", "float32", "deviates: writes its input"),
    "dtype": ("WrongDtype", "hygiene.dtype-shape", "float32", "deviates: y of another dtype"),
    "NaN": ("AllNaN", "precision.within-bound", "float32", "fails"),
    "mode": ("FoldsItsParameters", "usage.mode-switch", "float32", "deviates: evaluation changes a parameter"),
    "relative": ("OneWeightAGroup", "relatives.group-norm", "float32", "fails"),
    "weights": ("OneNormForAll", "relatives.weight-norm", "float32", "deviates: one norm for all units"),
    "measure": (
        "AlwaysStandard",
        "relatives.generalized-batch-norm",
        "float32",
        "deviates: the standard deviation, whatever is asked",
    ),
    "after a linear layer": (
        "AddsTheBiasAfterwards",
        "usage.bias-cancels",
        "float32",
        "deviates: added after the normalization",
    ),
    "tracked": ("TracksOneSample", "relatives.instance-norm-tracked", "float32", "fails"),
}
WITHOUT_ELEMENT = {"crash", "crash in a layer", "no result", "layout", "input", "dtype", "mode"}


@pytest.fixture(scope="module")
def failing(run, tmp_path_factory):
    """One run of them all."""
    asked = [(backend, claim, dtype) for backend, claim, dtype, _ in FAILURES.values()]
    checks = [
        f"({backend} and {claim.partition('.')[2].replace('-', '_')} and {dtype})" for backend, claim, dtype in asked
    ]
    backends = several("faults", *sorted({backend for backend, *_ in asked} - {"functions"}))
    folder = tmp_path_factory.mktemp("failing")
    arguments = ("--backend", ADAPTERS / "functions.py", *backends, "-k", " or ".join(checks), "--scripts", "scripts")
    return run(*arguments, folder=folder), folder


@pytest.fixture
def failure(request, failing):
    """The message of one failure by field, its cell, and the folder of its run."""
    backend, claim, dtype, _ = FAILURES[request.param]
    done, folder = failing
    assert (claim, backend, dtype) in done.cells, f"no verdict of {backend}"
    message = done.message(claim, backend, dtype)
    fields = dict(re.findall(r"^  (claim|verdict|case|worst|look at|again|script) +(.*)$", message, re.MULTILINE))
    return message, fields, done.cells[claim, backend, dtype], folder


every_failure = pytest.mark.parametrize("failure", FAILURES, indirect=True)
some_failures = pytest.mark.parametrize("failure", ["operation", "layer", "crash"], indirect=True)


@pytest.mark.parametrize(("name", "failure"), [(name, name) for name in FAILURES], indirect=["failure"])
def test_failure_says_what_and_where(name, failure):
    message, fields, cell, _ = failure
    backend, claim, dtype, label = FAILURES[name]
    assert message.splitlines()[0] == f"{claim} ({CLAIMS[claim].source}), {backend} in {dtype}: {label}"
    assert fields["claim"] == CLAIMS[claim].text
    assert fields.get("look at") == (None if label == "crashed" else CLAIMS[claim].hint)
    assert fields["verdict"].startswith(cell["verdict"]["words"])
    assert ("worst" in fields) == (name not in WITHOUT_ELEMENT)


@every_failure
def test_failure_shows_a_case_that_can_be_rebuilt(failure):
    _, fields, cell, _ = failure
    case = eval(fields["case"], {"Case": Case})
    assert repr(case) == fields["case"] == cell["verdict"]["counterexample"]["case"]
    assert case.dtype == cell["dtype"]


@pytest.mark.parametrize("failure", [name for name in FAILURES if name not in WITHOUT_ELEMENT], indirect=True)
def test_failure_shows_the_worst_element(failure):
    _, fields, cell, _ = failure
    seen = cell["verdict"]["counterexample"]
    got, expected, bound = (float(seen[key]) for key in ("got", "expected", "bound"))
    place = f"{seen['quantity']}{seen['index']}"
    assert fields["worst"].startswith(f"{place} is {got:.9g}, expected {expected:.9g} within {bound:.2g} (")
    assert not abs(got - expected) <= bound


@some_failures
def test_failure_can_be_run_again_alone(failure):
    message, fields, _, folder = failure
    command = [sys.executable, "-m", *shlex.split(fields["again"]), "--scripts", "scripts", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stdout
    assert re.search(r"^=+ 1 failed, (\d+ deselected )?", done.stdout, re.MULTILINE), done.stdout
    assert " passed" not in done.stdout


def opened(spec, **options):
    wanted = {"backends": [str(spec)], "claims": None, "dtypes": None, "profile": "default", "seed": None, **options}
    return Suite.from_options(**wanted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"profile": "quick"}, ["--profile", "quick"]),
        ({"seed": 7}, ["--seed", "7"]),
        ({"dtypes": ["float32"]}, []),
    ],
)
def test_command_repeats_the_options_of_the_run(options, words):
    suite = opened("numpy", **options)
    again = suite.again("normspec", suite.backends[0], "float32", "running.update")
    expected = ["normspec", "--backend", "numpy", "--claim", "running.update", "--dtype", "float32", *words]
    assert shlex.split(again) == expected


def test_command_survives_a_folder_with_a_blank(tmp_path):
    folder = tmp_path / "my adapters"
    folder.mkdir()
    path = folder / "alone.py"
    path.write_text("def train(): ...\ndef evaluate(): ...\n")
    suite = opened(path)
    assert str(path) in shlex.split(suite.again("normspec", suite.backends[0], "float32", "running.update"))


# -- scripts ----------------------------------------------------------------------------------------------------------

BLOCKED = "import sys, runpy; sys.modules['normspec'] = None; runpy.run_path({!r}, run_name='__main__')"


def run_script(path):
    """Run a script without PYTHONPATH, and without normspec even where it is installed."""
    command = [sys.executable, "-I", "-c", BLOCKED.format(str(path))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "failure"), [(name, name) for name in FAILURES], indirect=["failure"])
def test_script_shows_the_failure_without_normspec(name, failure):
    _, fields, cell, folder = failure
    done = run_script(folder / fields["script"])
    assert done.returncode == 1, done.stdout + done.stderr
    if "crash" in name:
        assert cell["verdict"]["words"].partition(" raised ")[2] in done.stderr
    elif name not in WITHOUT_ELEMENT and cell["claim"] == VARIANCE:
        quantity, index, got = re.match(r"(\w+)\S*?(\[.*?\]) is (\S+),", fields["worst"]).groups()
        element = rf"{re.escape(index)}: got {re.escape(got)}" if name != "layer" else ""  # over steps bounds add up
        assert re.search(rf"{quantity}.*{element}.*, expected ", done.stdout), done.stdout
        assert "Traceback" not in done.stderr


FIXES = {
    "functions": ("CORRECTION = 0", "CORRECTION = 1"),
    "operation": ("    ddof = 0", "    ddof = 1"),
    "layer": ("Layer(Biased()", "Layer(Plain()"),
    "layout": ("if 0 not in x.strides", "if False"),
    "input": ("x *= 2", "pass"),
    "dtype": ("y.astype(np.float64)", "y"),
    "crash": ('raise ValueError("the kernel is missing")', "return super().train(*arrays, **options)"),
    "NaN": ("np.full_like(result, np.nan)", "result"),
    "mode": ('        self.values["weight"] = folded', "        folded = folded"),
    "relative": ("channel // size * size", "channel"),
    "weights": ("axes = None", "axes = tuple(range(1, v.ndim))"),
    "measure": ("power = 2", "power = 1"),
    "after a linear layer": ("after = b", "after = 0 * b"),
    "tracked": ("seen = x[:1]", "seen = x"),
}


@pytest.mark.parametrize(("name", "failure"), [(name, name) for name in FIXES], indirect=["failure"])
def test_script_is_content_once_the_adapter_is_fixed(name, failure, tmp_path):
    _, fields, _, folder = failure
    source = (folder / fields["script"]).read_text(encoding="utf-8")
    assert FIXES[name][0] in source
    fixed = tmp_path / "fixed.py"
    fixed.write_text(source.replace(*FIXES[name]), encoding="utf-8")
    done = run_script(fixed)
    assert done.returncode == 0, done.stdout + done.stderr


@every_failure
def test_script_tells_what_it_is_about(failure):
    _, fields, cell, folder = failure
    script = (folder / fields["script"]).read_text(encoding="utf-8")
    about = " ".join(line.strip('#" ') for line in script.partition("\nimport ")[0].splitlines())
    for told in (cell["claim"], CLAIMS[cell["claim"]].text, cell["verdict"]["words"], fields["case"], fields["again"]):
        assert " ".join(told.split()) in " ".join(about.split())


def test_script_of_torch(run, tmp_path):
    if find_spec("torch") is None:  # not imported: a second import, after a run within this process, crashes it
        pytest.skip("torch is not installed")
    run("--backend", ADAPTERS / "torch_biased.py", *ONLY_VARIANCE, "--scripts", "scripts", folder=tmp_path)
    done = run_script(tmp_path / "scripts" / "running_sample_variance_torch_biased_float32.py")
    assert done.returncode == 1, done.stderr
    assert "running_var[0]: got 1.375, expected 2.375 within " in done.stdout


def test_scripts_of_two_files_of_one_name_hold_their_own_adapters(suite, pytester):
    source = (ADAPTERS / "functions.py").read_text(encoding="utf-8")
    for name in ("one", "other"):
        pytester.mkdir(name).joinpath("my.py").write_text(f"{source}\n\nname = {name!r}\n", encoding="utf-8")
    suite("--backend", "one/my.py", "--backend", "other/my.py", *ONLY_VARIANCE, "--scripts", "scripts").assert_outcomes(
        failed=2
    )
    for name in ("one", "other"):
        script = pytester.path / "scripts" / f"running_sample_variance_{name}_float32.py"
        assert f"name = {name!r}" in script.read_text(encoding="utf-8")


CLASSES = """
from plain import Plain

class {name}(Plain):
    ddof = 0
"""


def test_scripts_of_two_classes_in_files_of_one_name(suite, pytester):
    pytester.syspathinsert(ADAPTERS)
    for name in ("First", "Second"):
        pytester.mkdir(name).joinpath("my.py").write_text(CLASSES.format(name=name), encoding="utf-8")
    specs = ("--backend", "First/my.py:First", "--backend", "Second/my.py:Second")
    suite(*specs, *ONLY_VARIANCE, "--scripts", "scripts").assert_outcomes(failed=2)
    for name in ("First", "Second"):
        script = pytester.path / "scripts" / f"running_sample_variance_{name}_float32.py"
        assert f"class {name}(Plain)" in script.read_text(encoding="utf-8")


ALONE = (ADAPTERS / "plain.py").read_text(encoding="utf-8")
MAIN = """
if __name__ == "__main__":
    raise SystemExit("this is not what was to be run")
"""
ODD = r"""

class Odd(Plain):
    def train(self, *arrays, **options):
        raise ValueError('no "quotes" in C:\\Users\\new, nor \"\"\"')
"""


def test_script_does_not_run_what_the_adapter_runs_as_a_program(suite, pytester):
    pytester.makepyfile(my=ALONE.replace("ddof = 1", "ddof = 0") + MAIN)
    suite("--backend", "my.py:Plain", *ONLY_VARIANCE, "--scripts", "scripts").assert_outcomes(failed=1)
    done = run_script(pytester.path / "scripts" / "running_sample_variance_Plain_float32.py")
    assert done.returncode == 1
    assert "running_var[0]: got " in done.stdout


def test_script_quotes_whatever_an_adapter_says(suite, pytester):
    pytester.makepyfile(my=ALONE + ODD)
    suite("--backend", "my.py:Odd", *ONLY_VARIANCE, "--scripts", "scripts").assert_outcomes(failed=1)
    done = run_script(pytester.path / "scripts" / "running_sample_variance_Odd_float32.py")
    assert "ValueError: no" in done.stderr, done.stderr
