"""Conversions between backends: those that exist verify, wrong ones do not, and what cannot be converted says why."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from checks import laboratory
from conftest import ADAPTERS
from faulty import RulesBackend, backend

from normspec.conformance.cases.operations import STATE
from normspec.conformance.conventions.comparison import conversion_text
from normspec.conformance.conventions.conventions import Conduct, find
from normspec.conformance.conventions.conversion import Step, conversions, derive, verify
from normspec.conformance.trials.adapters import open_backend
from normspec.reference import ARTICLE, Rules

LAB = laboratory()

CONVERTIBLE = {
    "ddof": Rules(ddof=1),
    "eps squared": Rules(eps_rule="squared"),
    "eps doubled": Rules(eps_rule="doubled"),
    "eps at least": Rules(eps_rule="at least 1e-5"),
    "shift, then scale": Rules(affine="shift, then scale"),
    "swapped": Rules(affine="swapped"),
    "zero-centred weight": Rules(affine="1 + weight"),
    "weight 0": Rules(affine="weight 0 means 1"),
    "absolute": Rules(affine="absolute weight"),
    "flipped": Rules(update="flipped"),
    "twice": Rules(update="twice"),
    "biased": Rules(tracked_variance="m"),
    "N - 1": Rules(tracked_variance="N - 1"),
    "N / (N - 1)": Rules(tracked_variance="N / (N - 1)"),
    "plus eps": Rules(tracked_variance="plus eps"),
    "starts at 0": Rules(initial_var=0),
    "sign lost": Rules(folded="sign lost"),
    "eps lost": Rules(folded="eps lost"),
}
ONE_WAY = {
    "no weight": Rules(affine="no weight"),
    "no bias": Rules(affine="no bias"),
    "16 channels": Rules(affine="16 channels"),
    "no eps": Rules(eps_rule="absent"),
    "eps fixed": Rules(eps_rule="always 1e-5"),
    "momentum fixed": Rules(update="always 0.1"),
}
"""The article can do what these do, and not the other way round."""
TOGETHER = {
    "Keras": Rules(update="flipped", tracked_variance="m", default_eps=1e-3, default_momentum=0.99),
    "ddof and eps": Rules(ddof=1, eps_rule="doubled"),
    "ddof and weight": Rules(ddof=1, affine="1 + weight"),
}
NOT = {
    "eps outside": (Rules(eps_rule="outside"), "training", "no eps makes them equal"),
    "eps as a floor": (Rules(eps_rule="larger of both"), "training", "no eps makes them equal"),
    "groups": (Rules(axes="sample"), "training", "what the statistics are taken over"),
    "running in training": (Rules(training_statistics="running before"), "training", "what training normalizes with"),
    "not centred": (Rules(centered=False), "evaluation", "whether the mean is subtracted: yes in article, no in"),
    "deviations": (Rules(update="deviations"), "training", "what momentum weighs"),
    "mean only": (Rules(update="mean only"), "training", "what momentum weighs"),
    "means of samples": (Rules(tracked_variance="mean of samples"), "training", "the variance that is tracked"),
    "of the output": (Rules(tracked_of="output"), "training", "what is tracked"),
    "batch": (Rules(evaluation_statistics="batch"), "evaluation", "what evaluation normalizes with"),
}


@cache
def conventions(name, rules, layer_rules=None, dtypes=("float32",)):
    return find(backend(RulesBackend(rules, layer_rules=layer_rules), name), dtypes, LAB)


def article():
    return conventions("article", ARTICLE)


def only(a, b):
    """The one conversion from a to b."""
    (conversion,) = conversions(a, b, LAB)
    return conversion


@pytest.mark.parametrize("name", CONVERTIBLE | TOGETHER)
@pytest.mark.parametrize("back", [False, True], ids=["to it", "from it"])
def test_what_can_be_converted_verifies(name, back):
    other = conventions(name, (CONVERTIBLE | TOGETHER)[name])
    conversion = only(other, article()) if back else only(article(), other)
    assert not conversion.obstacles
    assert conversion.snippet
    assert conversion.verification.holds, conversion.verification.words


@pytest.mark.parametrize("name", ONE_WAY)
def test_what_goes_one_way(name):
    other = conventions(name, ONE_WAY[name])
    there, back = only(article(), other), only(other, article())
    assert there.training is None
    assert there.obstacles[0].startswith("training: ")
    assert back.verification.holds, back.verification.words
    assert not back.obstacles


@pytest.mark.parametrize("name", NOT)
def test_what_cannot_be_converted_says_why(name):
    rules, what, why = NOT[name]
    conversion = only(article(), conventions(name, rules))
    assert any(obstacle.startswith(f"{what}: ") and why in obstacle for obstacle in conversion.obstacles)
    assert getattr(conversion, what) is None
    assert why.split(":")[0] in " ".join(conversion_text(conversion, 80, python=True).split())


def test_evaluation_takes_up_an_eps_outside_the_root():
    outside = conventions("eps outside", Rules(eps_rule="outside"))
    for pair in ((article(), outside), (outside, article())):
        conversion = only(*pair)
        assert conversion.training is None
        assert conversion.verification.holds, conversion.verification.words
        assert "weight = weight * " in conversion.snippet


def test_pairs_of_rivals_convert():
    names = ["ddof", "zero-centred weight", "flipped", "N - 1", "eps doubled", "eps squared", "biased", "plus eps"]
    for one, other in zip(names, [*names[1:], names[0]], strict=True):
        conversion = only(conventions(one, CONVERTIBLE[one]), conventions(other, CONVERTIBLE[other]))
        assert conversion.verification.holds, (one, other, conversion.verification.words)
        assert not conversion.obstacles


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(update="cumulative"), "the average of all batches"),
        (Rules(update="zero-debiased"), "zero-debiased"),
        (Rules(update="first batch replaces"), "the first batch replaces the start"),
    ],
)
def test_layers_with_a_memory_of_their_own_are_not_converted(rules, words):
    conversion = only(article(), conventions(words, ARTICLE, rules))
    (obstacle,) = conversion.obstacles
    assert obstacle.startswith("layers over several steps: ")
    assert words in obstacle
    assert not conversion.defaults


def test_the_same_backend_needs_nothing():
    conversion = only(article(), conventions("again", ARTICLE))
    assert conversion.verification.holds
    assert not conversion.snippet
    assert "Nothing to convert" in conversion_text(conversion, 80, python=True)


# -- verification can fail --------------------------------------------------------------------------------------------

WRONG = {
    "momentum not turned": ("flipped", "momentum = 1 - momentum", "momentum = momentum"),
    "momentum a little off": ("flipped", "momentum = 1 - momentum", "momentum = 1.0001 - momentum"),
    "factor upside down": ("biased", "* (m - 1) / m", "* m / (m - 1)"),
    "factor left out": ("biased", "running_var * (m - 1) / m", "running_var"),
    "eps not halved": ("eps doubled", "eps = eps / 2", "eps = eps"),
    "weight not moved": ("zero-centred weight", "weight = weight - 1", "weight = weight"),
    "eps of another m": ("ddof", "eps * (m / (m - 1))", "eps * ((m + 1) / m)"),
    "start not taken out": ("starts at 0", "running_var - left", "running_var"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_does_not_verify(name):
    other, right, wrong = WRONG[name]
    a, b = article(), conventions(other, CONVERTIBLE[other])
    conversion = only(a, b)
    assert right in conversion.snippet

    def spoiled(function):
        return function and replace(
            function, steps=tuple(Step(s.line.replace(right, wrong), s.why) for s in function.steps)
        )

    parts = {p: spoiled(getattr(conversion, p)) for p in ("training", "evaluation", "trained")}
    broken = replace(conversion, **parts)
    where = [("float32", ndim) for ndim in (2, 3, 4, 5)]
    verification = verify(broken, a, b, where, LAB)
    assert not verification.holds
    assert "bounds on Case(" in verification.counterexample
    told = conversion_text(replace(broken, verification=verification), 80, python=True)
    assert "It is not printed" in told
    assert "def " not in told


def test_rules_that_are_not_the_backends_do_not_verify():
    """What is derived from rules is held against the backends themselves."""
    a, biased = article(), conventions("biased", CONVERTIBLE["biased"])
    pretended = derive(a, biased, (Conduct(ARTICLE, ARTICLE, ARTICLE), Conduct(ARTICLE, ARTICLE, ARTICLE)))
    assert not verify(pretended, a, biased, [("float32", 2)], LAB).holds


class RefusesZeroEps(RulesBackend):
    """Trains with no eps of 0, as PyTorch."""

    def train(self, *arrays, momentum, eps):
        if eps == 0:
            raise ValueError("eps must be positive")
        return super().train(*arrays, momentum=momentum, eps=eps)


def test_what_was_never_compared_is_not_verified():
    without = conventions("no eps", ONE_WAY["no eps"])
    conversion = only(without, find(backend(RefusesZeroEps(), "refuses"), ["float32"], LAB))
    assert "eps = 0.0" in conversion.snippet
    assert not conversion.verification.holds
    assert "y was never compared" in conversion.verification.counterexample


# -- the example of the README ----------------------------------------------------------------------------------------


def test_what_is_pasted_is_what_was_verified():
    """The printed functions need nothing but themselves, and give what the executed ones gave."""
    a, b = (find(open_backend(spec), ["float64"], LAB) for spec in ("numpy", str(ADAPTERS / "keras_like.py")))
    conversion = only(a, b)
    assert conversion.verification.holds
    names = {}
    exec(conversion.snippet, names)
    arrays = dict(zip(("weight", "bias", *STATE), np.random.default_rng(0).random((4, 3)), strict=True))
    numbers = {"eps": 1e-5, "momentum": 0.1, "m": 8, "n": 4, "steps": 3}
    assert len(conversion.functions) == 3
    for function in conversion.functions:
        options = {name: numbers[name] for name in function.options}
        pasted = names[function.name](*(arrays[name] for name in function.takes), **options)
        executed = function({**arrays, **numbers})
        for name, value in zip(function.gives, pasted, strict=True):
            np.testing.assert_array_equal(value, executed[name])


def test_roots_beside_eps_convert_among_themselves():
    """sqrt(var) + eps and sqrt(var) + sqrt(eps), over the variance of either divisor."""
    one = conventions("eps outside", Rules(eps_rule="outside"))
    other = conventions("roots, ddof", Rules(eps_rule="both roots", ddof=1))
    for pair in ((one, other), (other, one)):
        conversion = only(*pair)
        assert conversion.verification.holds, conversion.verification.words
        assert not conversion.obstacles


def test_conversion_in_half_precision():
    a = find(open_backend("numpy"), ["float16"], LAB)
    b = find(backend(RulesBackend(TOGETHER["Keras"]), "Keras"), ["float16"], LAB)
    assert only(a, b).verification.holds
