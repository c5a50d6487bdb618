"""Adapters that cannot be opened, and adapters that misbehave: a sentence each, and no harm to anything else."""

import re

import pytest
from conftest import ADAPTERS, several

ONE = ("--claim", "normalize.centered", "--dtype", "float32")
BOTH = "def train(*arrays, **options): ...\ndef evaluate(*arrays, **options): ...\n"
DEVIATION = {"claim": "running.update", "rival": "updated twice", "versions": "", "reason": "so it is", "link": "none"}


def declaring(**changes):
    declared = {key: value for key, value in {**DEVIATION, **changes}.items() if value is not None}
    return f"{BOTH}deviations = [{declared!r}]"


# -- what cannot be run -----------------------------------------------------------------------------------------------

BAD_ADAPTERS = {
    # what is named, what the file my.py holds, and what the sentence must say
    "unknown name": (
        "numpie",
        "",
        r"no backend called 'numpie'.* [Dd]id you mean numpy\?.* numpy, torch.*path/to/file\.py",
    ),
    "missing file": ("gone.py", "", r"no file .*gone\.py"),
    "no functions": ("my.py", "x = 1", r"my\.py.* no train and no evaluate"),
    "method missing": ("my.py:A", "class A:\n    def train(self): ...", r"my\.py:A.* no evaluate"),
    "attribute missing": (
        "my.py:B",
        "class A:\n    def train(self): ...\n    def evaluate(self): ...",
        r"no B; it has A",
    ),
    "several in a file": (
        "my.py",
        "class A:\n    def train(self): ...\n    def evaluate(self): ...\nclass B(A): ...",
        r"several adapters.* my\.py:A",
    ),
    "module missing": ("nowhere.at_all:A", "", r"cannot import nowhere\.at_all"),
    "module that raises": ("my:A", "raise OSError('no driver')", r"cannot import my: .*no driver"),
    "file that raises": ("my.py", "raise OSError('no driver')", r"my\.py cannot be imported: OSError: no driver"),
    "file that is no Python": ("my.py", "def", r"my\.py cannot be imported: SyntaxError"),
    "class that takes arguments": (
        "my.py:A",
        "class A:\n    def __init__(self, device): ...\n    def train(self): ...\n    def evaluate(self): ...",
        r"A\(\) raised TypeError.* without arguments",
    ),
    "function for an adapter": ("my.py:train", BOTH, r"my\.py:train.* no train and no evaluate"),
    "unknown dtype": ("my.py", f"{BOTH}dtypes = ('float32', 'float8')", r"dtypes is .*'float8'.*float64, float32"),
    "one dtype as text": ("my.py", f"{BOTH}dtypes = 'float32'", r"dtypes is 'float32'; expected some of float64"),
    "no dtypes": ("my.py", f"{BOTH}dtypes = ()", r"dtypes is \(\); expected some of float64"),
    "dtypes of no kind": ("my.py", f"{BOTH}dtypes = 32", r"dtypes is 32; expected some of float64"),
    "deviation without a key": (
        "my.py",
        declaring(link=None),
        r"lacks link; all of claim, rival, versions, reason, link",
    ),
    "deviation with an odd key": (
        "my.py",
        declaring(dtype=["float32"]),
        r"has dtype; known are claim, rival, versions, reason, link and dtypes",
    ),
    "deviation of no claim": (
        "my.py",
        declaring(claim="running.updates"),
        r"'running\.updates'.*mean running\.update\?",
    ),
    "deviation of odd versions": ("my.py", declaring(versions="2.x"), r"versions .*'2\.x'; expected specifiers"),
    "deviation of versions unsaid": (
        "my.py",
        f"{BOTH}deviations = [{DEVIATION | {'versions': None}!r}]",
        r"versions .*None",
    ),
    "deviation in no dtype": ("my.py", declaring(dtypes=["float8"]), r"deviation.*'float8'.*float64, float32"),
    "deviation in a dtype as text": ("my.py", declaring(dtypes="float32"), r"deviation.*'float32'.*"),
    "deviation that is text": ("my.py", f"{BOTH}deviations = ['running.update']", r"deviation.*'running\.update'"),
    "unavailable": (
        "my.py",
        f"{BOTH}unavailable = 'the card is out'",
        r"None of the backends can run.*the card is out",
    ),
}

IN_A_PROCESS_OF_ITS_OWN = {"no functions", "module missing", "file that raises", "unavailable"}
"""Whose sentence comes from there: the others are said in the same words, and are opened here."""

BAD_OPTIONS = {
    "dtype": (["--dtype", "float8"], r"no dtype 'float8'; there are float64, float32, bfloat16, float16"),
    "dtype not offered": (["--dtype", "bfloat16"], r"No backend offers bfloat16\. Offered are numpy: float64"),
    "profile": (["--profile", "brisk"], r"no profile 'brisk'; there are quick, default, thorough"),
    "claim": (
        ["--claim", "running.udpate"],
        r"No claim matches running\.udpate\. Did you mean running\.update\? There are statistics\.per-channel, ",
    ),
    "limits": (["--hang-after", "0"], r"--hang-after is 0 and --memory 8; expected positive numbers"),
    "seed": (["--seed", "many"], r"argument --seed: invalid int value: 'many'"),
}


def assert_one_sentence(result, pattern):
    """A usage error whose only line matches, and no traceback."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.outlines
    said = [
        line
        for line in result.errlines
        if line and not line.startswith(("usage:", "ERROR: usage:", "  inifile:", "  rootdir:"))
    ]
    assert len(said) == 1, said
    assert re.search(pattern, said[0]), said
    assert "Traceback" not in str(result.stderr) + str(result.stdout)


@pytest.mark.parametrize("problem", BAD_ADAPTERS)
def test_bad_adapter_alone_is_a_usage_error(suite, pytester, problem):
    spec, source, pattern = BAD_ADAPTERS[problem]
    pytester.makepyfile(my=source)
    pytester.syspathinsert()
    where = () if problem in IN_A_PROCESS_OF_ITS_OWN else ("--in-process",)
    assert_one_sentence(suite("--backend", spec, *ONE, *where), pattern)


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_bad_option_is_a_usage_error(suite, option):
    arguments, pattern = BAD_OPTIONS[option]
    assert_one_sentence(suite("--backend", "numpy", *arguments), pattern)


def test_two_backends_of_one_name_are_a_usage_error(suite, pytester):
    for folder in ("one", "other"):
        pytester.mkdir(folder).joinpath("my.py").write_text(BOTH)
    result = suite("--backend", "one/my.py", "--backend", "other/my.py", *ONE)
    assert_one_sentence(result, "Two backends have the same name.*`name`")


def test_bad_adapters_beside_a_good_one_cost_only_themselves(suite, pytester):
    pytester.makepyfile(my="x = 1")
    result = suite("--backend", "my.py", "--backend", "numpy", "--backend", "numpie", *ONE)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["normalize.centered *conforms*", "my.py: the module has no train*", "There is no backend*"]
    )


def test_unavailable_backend_beside_a_good_one_is_told_and_green(suite, pytester):
    pytester.makepyfile(my=f"{BOTH}unavailable = 'the card is out'")
    result = suite("--backend", "my.py", "--backend", "numpy", *ONE)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["my.py was not run: the card is out"])


# -- what misbehaves when it is called --------------------------------------------------------------------------------

CLAIMS = (
    "normalize.centered", "evaluate.folded", "gradient.input", "affine.defaults", "running.cumulative",
    "running.initial", "precision.within-bound", "hygiene.dtype-shape", "hygiene.inputs-unwritten",
)  # fmt: skip
OF_TRAINING = {
    "normalize.centered",
    "running.cumulative",
    "precision.within-bound",
    "hygiene.dtype-shape",
    "hygiene.inputs-unwritten",
}
OF_EVALUATION = OF_TRAINING - {"normalize.centered"} | {"evaluate.folded"}  # a layer is evaluated after its training
OF_LAYERS = {"affine.defaults", "running.cumulative", "running.initial"}

MISBEHAVIOUR = {
    # the cells that it costs, their verdict, and what is said in them
    "Raises": (OF_TRAINING, "crashed", r"train raised ValueError: the kernel is missing"),
    "ReturnsNone": (
        OF_TRAINING,
        "crashed",
        r"train returned None; expected a tuple of 3 \(y, running_mean, running_var\)",
    ),
    "ReturnsLists": (OF_TRAINING, "crashed", r"train returned a list of \d+ for y; expected a NumPy array of shape"),
    "EvaluatesToLists": (OF_EVALUATION, "crashed", r"evaluate returned a list of \d+; expected y as (a )?NumPy array"),
    "ReturnsTwo": (OF_TRAINING, "crashed", r"train returned a tuple of 2; expected a tuple of 3"),
    "TakesTwo": (OF_TRAINING, "crashed", r"train raised TypeError: .*takes 3 positional arguments but 6"),
    "WrongShape": (OF_TRAINING, "crashed", r"train returned running_mean of shape \(1, (\d)\); expected \(\1,\)"),
    "Integers": (OF_EVALUATION, "crashed", r"evaluate returned y of dtype int32; expected a float dtype"),
    "WrongDtype": ({"hygiene.dtype-shape"}, "deviates", r"y of train is float64, expected float32"),
    "AllNaN": ({"precision.within-bound"}, "fails", r"outside the bound of every grade"),
    "OnlyImages": (set(), "", ""),
    "NoGradients": ({"gradient.input"}, "not offered", r"no autograd"),
    "NoLayer": (OF_LAYERS, "not offered", r"the adapter has no layer"),
    "LayerRaises": (OF_LAYERS, "crashed", r"layer raised ValueError: out of layers"),
    "LayerIsNone": (OF_LAYERS, "crashed", r"layer returned None; expected .*train.*evaluate.*state"),
    "LayerWithoutState": (OF_LAYERS - {"affine.defaults"}, "crashed", r"state .*running_var"),
    "OffersNothing": (set(CLAIMS), "not offered", r"not implemented|no layer|no \w+_gradients|offered"),
}


@pytest.fixture(scope="module")
def misbehaving(run):
    claims = [word for claim in CLAIMS for word in ("--claim", claim)]
    return run("--backend", "numpy", *several("faults", *MISBEHAVIOUR), "--dtype", "float32", *claims, "-rs")


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_misbehaviour_costs_its_own_cells_and_is_told(misbehaving, name):
    costs, kind, pattern = MISBEHAVIOUR[name]
    # AllNaN has no layer; and whether its results are centered cannot be told.
    absent = OF_LAYERS | {"normalize.centered"} if name == "AllNaN" else set()
    for claim in CLAIMS:
        assert (claim, name, "float32") in misbehaving.cells, f"no verdict on {claim}"
        verdict = misbehaving.cells[claim, name, "float32"]["verdict"]
        if claim in costs:
            assert (claim, verdict["kind"]) == (claim, kind), verdict["words"]
            if claim not in OF_LAYERS or costs <= OF_LAYERS:  # a layer around a faulty operation fails in its own words
                assert re.search(pattern, verdict["words"]), verdict["words"]
        elif claim not in absent:
            assert (claim, verdict["kind"]) == (claim, "conforms"), verdict["words"]


def test_misbehaviour_leaves_others_alone(misbehaving):
    assert misbehaving.status == 1
    assert {misbehaving.cells[claim, "numpy", "float32"]["verdict"]["kind"] for claim in CLAIMS} == {"conforms"}


def test_what_is_not_offered_is_skipped_with_its_reason(misbehaving):
    assert "not offered: no autograd" in misbehaving.out
    assert not misbehaving.message("gradient.input", "NoGradients")


def test_a_rank_that_is_not_offered_leaves_fewer_cases(misbehaving):
    some, every = (
        misbehaving.cells["normalize.centered", name, "float32"]["verdict"]["cases"] for name in ("OnlyImages", "numpy")
    )
    assert 0 < some < every


def test_a_failure_shows_no_traceback_of_the_suite(misbehaving):
    assert "Traceback" not in misbehaving.out
    assert "def test_" not in misbehaving.out


def test_values_that_are_not_numbers_are_shown(misbehaving):
    assert re.search(r"worst .* is nan, expected ", misbehaving.message("precision.within-bound", "AllNaN"))


def test_an_adapter_beside_its_own_layer_needs_no_name(suite):
    suite("--backend", ADAPTERS / "plain.py", *ONE).assert_outcomes(passed=1)
