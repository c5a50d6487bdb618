"""What `normspec conventions` says of backends whose rules are known."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from checks import laboratory
from conftest import ADAPTERS, SUITE
from faulty import FAULTS, RulesBackend, backend

from normspec.backends.numpy import NumPy
from normspec.conformance.cases.arithmetic import shortest
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.command import main
from normspec.conformance.conventions.comparison import Comparison, told
from normspec.conformance.conventions.conventions import CRASHED, FOUND, UNKNOWN, find
from normspec.conformance.conventions.conversion import conversions
from normspec.conformance.trials.adapters import open_backend
from normspec.conformance.trials.defaults import default_eps
from normspec.reference import ARTICLE, Rules

SCHEMA = json.loads((SUITE / "conventions/conventions.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lab():
    return laboratory()


@pytest.fixture(scope="module")
def article(lab):
    return find(backend(RulesBackend(), "article"), ["float32"], lab)


@pytest.fixture(scope="module")
def numpy(lab):
    return find(open_backend("numpy"), ["float64", "float32", "float16"], lab)


def changed(found, article):
    """The topics in which a backend differs from the article's, and what is said of it there."""
    topics = (fact.topic for fact in found.facts)
    return {t: told(found.fact(t)) for t in topics if told(found.fact(t)) != told(article.fact(t))}


# -- rivals -----------------------------------------------------------------------------------------------------------

TOPIC = {
    "axes": "training statistics",
    "training_statistics": "training statistics",
    "counted": "training statistics",
    "ddof": "variance that normalizes",
    "eps_rule": "eps",
    "centered": "x-hat",
    "scaled": "x-hat",
    "affine": "weight and bias",
    "update": "momentum weighs",
    "extremes": "momentum 0 and 1",
    "no_momentum": "momentum None",
    "tracked_variance": "variance that is tracked",
    "tracked_of": "statistics are tracked of",
    "initial_var": "initial state",
    "evaluation_statistics": "evaluation normalizes with",
    "folded": "evaluation normalizes with",
    "evaluation_state": "state after evaluation",
    "weight_gradient": "dweight",
    "bias_gradient": "dbias",
    "input_gradient": "dx in training",
    "evaluation_gradient": "dx in evaluation",
}
RIVALS = {
    rival.change: rival
    for claim in CLAIMS.values()
    for rival in claim.rivals
    if claim.operation == "batch norm" and rival.change and "counted" not in rival.fields  # no exact case is as long
}


@pytest.mark.parametrize("change", RIVALS, ids=lambda change: f"{change[0][0]}={change[0][1]}")
def test_the_fact_says_what_a_rival_does(change, lab, article):
    """Each rival changes what is said on its own topic."""
    rival = RIVALS[change]
    adapter = RulesBackend(layer_rules=rival.rules()) if rival.layer else RulesBackend(rival.rules())
    said = changed(find(backend(adapter, str(change)), ["float32"], lab), article)
    ((field, value),) = change
    topic = {
        ("eps_rule", "0 means 1e-5"): "eps = 0",
        ("folded", "eps lost"): "eps in evaluation",
    }.get((field, value), "layer, several steps" if rival.layer else TOPIC[field])
    assert topic in said
    assert "unknown" not in said[topic]


def test_rivals_of_a_topic_are_told_apart():
    from normspec.conformance.conventions.conventions import WORDS

    for name, words in WORDS.items():
        assert len(set(words.values())) == len(words), name
    for claim in CLAIMS.values():
        for rival in claim.rivals if claim.operation == "batch norm" else ():
            for field, value in rival.change:
                assert field not in WORDS or value in WORDS[field]


MISTAKES = {
    ("hygiene.inputs-unwritten", "writes its input"): ("arrays given", "writes its input: x"),
    ("hygiene.no-alias", "result shares memory with an input"): ("arrays returned", "shares memory with an input"),
    ("hygiene.nan-contained", "spreads to other channels"): ("NaN and inf", "spreads to other channels"),
    ("hygiene.layouts", "a layout is misread"): ("memory layouts", "a layout is misread"),
    ("hygiene.deterministic", "differs from run to run"): ("run to run", "differs from run to run"),
    ("precision.cancellation", "one pass"): ("statistics are computed", "one pass"),
    ("running.single-value", "NaN or inf in the state"): ("m = 1 in training", "running_var NaN or inf"),
    ("affine.defaults", "weight not 1"): ("initial state", "weight 0.5"),
    ("hygiene.empty-batch", "the state moves"): ("empty batch in training", "state"),
}


@pytest.mark.parametrize("fault", MISTAKES, ids=lambda fault: fault[1])
def test_the_fact_names_a_mistake(fault, lab):
    topic, words = MISTAKES[fault]
    found = find(backend(FAULTS[fault](), fault[1]), ["float32"], lab)
    assert words in told(found.fact(topic))


def test_statistics_of_half_precision(lab):
    found = find(backend(FAULTS["precision.half-statistics", "half steps"](), "half"), ["float16"], lab)
    assert "rounded to x's dtype" in told(found.fact("statistics are computed"))


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "rule", ["inside", "outside", "larger of both", "both roots", "squared", "doubled", "at least 1e-5"]
)
@pytest.mark.parametrize("eps", [1e-3, 1e-5])
def test_default_eps_by_the_rule_followed(rule, eps, dtype):
    rules = Rules(eps_rule=rule, default_eps=eps)
    found, reach, agrees = default_eps(backend(RulesBackend(rules)), dtype, rules)
    if agrees:
        assert abs(found - eps) <= reach
    else:  # rounding hides it beside a variance of 1e-5: then no number is told
        assert dtype != "float64"
        assert not found > reach


def test_no_number_where_the_formula_does_not_hold(lab):
    rules = Rules(training_statistics="running after")
    found = find(backend(RulesBackend(rules), "after"), ["float32"], lab)
    assert told(found.fact("default eps")).startswith("unknown")
    assert found.eps is None


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(default_momentum=0.01), "the new value weighs 0.01"),
        (Rules(default_momentum=0.99, update="flipped"), "the new value weighs 0.01 (momentum = 0.99)"),
        (Rules(update="twice"), "the new value weighs 0.19 (momentum = 0.1)"),
    ],
)
def test_default_momentum_is_the_weight_of_the_new_value(rules, words, lab):
    found = find(backend(RulesBackend(rules), words), ["float32"], lab)
    assert told(found.fact("default momentum")) == words


def test_shortest():
    assert shortest(0.0009997, 1e-6) == "0.001"
    assert shortest(9.9999997e-06, 1e-10) == "1e-05"
    assert shortest(0.1 + 2**-56, 0.0) == repr(0.1 + 2**-56)


# -- dtypes and ranks -------------------------------------------------------------------------------------------------


class BiasedImages(NumPy):
    """Tracks divisor m where x has four axes."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        size = x.size // x.shape[1]
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        if x.ndim == 4:
            kept = (1 - momentum) * running_var
            var = (kept + (var - kept) * (size - 1) / size).astype(running_var.dtype)
        return y, mean, var


def test_what_differs_by_rank_is_told_by_rank(lab):
    found = find(backend(BiasedImages(), "images"), ["float64", "float32"], lab)
    assert told(found.fact("variance that is tracked")).splitlines() == [
        "unbiased (divisor m - 1) [2-D 3-D 5-D]",
        "biased (divisor m) [4-D]",
    ]
    assert told(found.fact("variance that normalizes")) == "biased (divisor m)"


def test_ranks_that_are_not_offered_are_told_once(lab):
    found = find(open_backend(f"{ADAPTERS / 'faults.py'}:OnlyImages"), ["float32"], lab)
    assert told(found.fact("x")) == "(N, C, H, W)"
    assert told(found.fact("variance that is tracked")) == "unbiased (divisor m - 1)"


# -- backends that misbehave ------------------------------------------------------------------------------------------


def test_what_follows_no_formula_is_unknown(lab):
    class Odd(NumPy):
        def train(self, x, *rest, **options):
            y, mean, var = super().train(x, *rest, **options)
            return y * np.asarray(1.25, y.dtype), mean, var

    found = find(backend(Odd(), "odd"), ["float32"], lab)
    (finding,) = {f.value: f for f in found.fact("eps").findings}.values()
    assert finding.status == UNKNOWN
    assert {f.status for f in found.fact("momentum weighs").findings} == {FOUND}


@pytest.mark.parametrize("name", ["Raises", "ReturnsNone", "AllNaN", "OffersNothing", "LayerIsNone", "TakesTwo"])
def test_a_misbehaving_adapter_gets_words(name, lab, numpy):
    found = find(open_backend(f"{ADAPTERS / 'faults.py'}:{name}"), ["float32"], lab)
    comparison = Comparison([numpy, found], conversions(numpy, found, lab))
    assert comparison.terminal(80, color=False)
    jsonschema.validate(comparison.plain(lab), SCHEMA)
    if name == "Raises":
        (finding,) = found.fact("x").findings
        assert finding.status == CRASHED
        assert "the kernel is missing" in finding.value
    if name == "AllNaN":
        assert told(found.fact("eps")).startswith("unknown")


def test_no_dtype_in_common(lab, article):
    half = find(open_backend("numpy"), ["float16"], lab)
    comparison = Comparison([article, half], conversions(article, half, lab))
    assert "no dtype in common" in comparison.terminal(80, color=False)
    assert not comparison.differs("momentum weighs")
    jsonschema.validate(comparison.plain(lab), SCHEMA)


# -- frameworks -------------------------------------------------------------------------------------------------------


def test_torch(lab):
    pytest.importorskip("torch")
    found = find(open_backend("torch"), ["float64", "float32"], lab)
    said = {fact.topic: told(fact) for fact in found.facts}
    assert said["x"] == "(N, C), (N, C, L), (N, C, H, W), (N, C, D, H, W)"
    assert (found.eps, found.momentum, found.start) == (1e-5, 0.1, 1.0)
    assert said["variance that normalizes"] == "biased (divisor m)"
    assert said["eps"] == "under the root: sqrt(var + eps)"
    assert said["momentum weighs"].startswith("the new value")
    assert said["variance that is tracked"] == "unbiased (divisor m - 1)"
    assert said["momentum None"] == "all batches weigh the same"
    assert said["m = 1 in training"] == "refused (ValueError)"
    assert said["initial state"] == "weight 1, bias 0, running_mean 0, running_var 1"
    assert {rules for conduct in found.conduct.values() for rules in vars(conduct).values()} == {ARTICLE}


# -- the command ------------------------------------------------------------------------------------------------------


def command(*arguments, columns=80):
    """The command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "normspec", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert "Traceback" not in done.stderr
    return done


KERAS_LIKE = ADAPTERS / "keras_like.py"
TWO = ("conventions", "numpy", str(KERAS_LIKE), "--dtype", "float32")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two backends as the command tells of them, in a process of its own, and the JSON that it writes."""
    path = tmp_path_factory.mktemp("two") / "some" / "conventions.json"
    return command(*TWO, "--json", path), path


@pytest.fixture
def printed(monkeypatch, capsys):
    """What the command prints within this process, where what it finds is found once for all tests."""

    def printed(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("normspec.conformance.conventions.conventions.find", found_once)
        monkeypatch.setattr("normspec.conformance.conventions.conversion.conversions", converted_once)
        assert main([*map(str, arguments)]) == 0
        return capsys.readouterr().out

    return printed


FOUND_BEFORE, CONVERTED_BEFORE = {}, {}


def found_once(backend, dtypes, lab):
    key = (backend.spec, *dtypes)
    if key not in FOUND_BEFORE:
        FOUND_BEFORE[key] = find(backend, dtypes, lab)
    return FOUND_BEFORE[key]


def converted_once(one, other, lab):
    key = (id(one), id(other))  # both are kept above
    if key not in CONVERTED_BEFORE:
        CONVERTED_BEFORE[key] = conversions(one, other, lab)
    return CONVERTED_BEFORE[key]


def test_the_command_says_and_writes_the_same_in_a_process_of_its_own(two, printed):
    done, path = two
    assert done.returncode == 0, done.stderr
    assert f"wrote {path}" in done.stdout
    assert printed(*TWO) in done.stdout
    assert json.loads(printed(*TWO, "--json", "-")) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("columns", [80, 120])
def test_two_backends_as_printed(printed, columns):
    out = printed(*TWO, columns=columns)
    assert "\x1b" not in out
    text = " ".join(out.split())
    assert "* default eps 1e-05 0.001" in text
    assert "Alike: x, initial state, training statistics" in text
    assert "numpy -> keras_like: verified on" in text
    assert "keras_like -> numpy: verified on" in text
    assert "are keras_like's eps=1e-05, momentum=0.9 (its own are eps=0.001, momentum=0.99)" in text
    lines = [line for line in out.splitlines() if not re.match(r"    +(def|\"\"\"|[a-z_]+ = |return)", line)]
    assert max(map(len, lines)) <= columns


def test_json(two):
    plain = json.loads(two[1].read_text(encoding="utf-8"))
    jsonschema.validate(plain, SCHEMA)
    assert "default eps" in plain["differences"]
    assert [c["verified"] for c in plain["conversions"]] == [True, True]
    keras_like = plain["backends"][1]
    assert (keras_like["default_eps"], keras_like["default_momentum"]) == (1e-3, 0.01)


def test_verbose_shows_all_topics_and_how_they_were_found(printed):
    out = printed(*TWO, "-v", columns=120)
    assert "Alike" not in out
    assert re.search(r"^training statistics +of each channel", out, re.MULTILINE)
    assert "exact cases)" in out
    assert "def from_keras_like_to_numpy" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nunpy"], "There is no backend called 'nunpy'. Did you mean numpy?"),
        (["nowhere.py"], "There is no file nowhere.py."),
        (["numpy", "numpy.py"], "There is no file numpy.py."),
        (["numpy", "--dtype", "bfloat16"], "it offers float64, float32, float16, and bfloat16 was asked for"),
        (["numpy", "--dtype", "float12"], "invalid choice: 'float12'"),
        (["numpy", "--profile", "slow"], "invalid choice: 'slow'"),
        ([], "the following arguments are required"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(["conventions", *arguments])
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_what_dies_is_told_of():
    done = command("conventions", f"{ADAPTERS / 'hostile.py'}:Segfaults", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    assert "crashed: train: the process died of signal SIGSEGV" in " ".join(done.stdout.split())


def test_version_and_help():
    from normspec import __version__

    assert command("--version").stdout == f"normspec {__version__}\n"
    helped = command("--help").stdout
    assert "normspec conventions NAME" in helped
    assert "--backend" in helped
    assert "--json" in command("conventions", "--help").stdout


def test_schema_is_shipped():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert Path(SUITE / "conventions/conventions.schema.json").is_file()


def test_the_readme_shows_what_is_printed():
    pytest.importorskip("torch")
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = re.search(
        r"```text\n\$ normspec conventions torch tests/adapters/keras_like.py\n.*?\n(.*?)```", readme, re.DOTALL
    )[1]
    lines = command("conventions", "torch", KERAS_LIKE, columns=90).stdout.splitlines()
    for line in shown.splitlines():
        if line != "[...]" and "difference / bound" not in line:  # the last digits are the framework's
            assert line in lines
