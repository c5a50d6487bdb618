"""What is said of a backend that differs in several conventions at once, and of one that follows none."""

from dataclasses import replace

import numpy as np
import pytest
from checks import check_functions, laboratory, run_check
from faulty import RulesBackend, backend

from normspec.backends.numpy import NumPy
from normspec.conformance.cases.cases import Case
from normspec.conformance.verdicts.blame import blamed, refuses
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.verdicts import Kind
from normspec.reference import ARTICLE

KERAS = {"update": "flipped", "tracked_variance": "m", "eps_rule": "outside"}
SIX = {**KERAS, "affine": "1 + weight", "ddof": 1, "evaluation_statistics": "batch mean"}
NAMED = {
    "update": ("running.update", "momentum weighs the old value"),
    "tracked_variance": ("running.sample-variance", "population variance, divisor m"),
    "eps_rule": ("normalize.eps-inside-root", "sqrt(var) + eps"),
    "affine": ("affine.scale-then-shift", "1 + weight"),
    "ddof": ("normalize.population-variance", "sample variance, divisor m - 1"),
    "evaluation_statistics": ("evaluate.running-statistics", "batch mean, tracked variance"),
}
INNOCENT = (
    "statistics.per-channel", "normalize.uses-batch-statistics", "normalize.centered", "normalize.batch-coupling",
    "evaluate.frozen", "gradient.weight", "gradient.bias", "gradient.input", "gradient.evaluation",
    "running.of-the-input", "layer.follows-operation", "precision.within-bound", "precision.extent",
    "hygiene.every-shape", "hygiene.layouts",
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", [KERAS, SIX], ids=["three", "six"])
def test_each_of_several_conventions_is_named_and_nothing_else_is_blamed(change, dtype):
    lab, several = laboratory(), backend(RulesBackend(replace(ARTICLE, **change)))
    for field in change:
        claim, rival = NAMED[field]
        verdict = run_check(claim, several, dtype, lab)
        assert (verdict.kind, verdict.rival) == (Kind.DEVIATES, rival), claim
    for claim in INNOCENT:
        assert run_check(claim, several, dtype, lab).kind == Kind.CONFORMS, claim


class WrongBeyond64(NumPy):
    """From the 65th channel on, training gives results that follow no formula."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        y[:, 64:] *= 1.5
        return y, mean, var


def test_results_that_follow_no_formula_are_blamed_once_and_described():
    lab, faulty = laboratory(), backend(WrongBeyond64())
    verdicts = {claim: run_check(claim, faulty, "float32", lab) for claim in check_functions()}
    assert blamed({c: v for c, v in verdicts.items() if refuses(c, "float32", v)}) == "hygiene.every-shape"
    told = verdicts["hygiene.every-shape"].words
    assert told.startswith("wrong in some shapes: channels from 65 on (right up to ")
    assert verdicts["precision.within-bound"].kind == Kind.FAILS
    # Whether eps is under the root cannot be told of them.
    assert verdicts["normalize.eps-inside-root"].kind == Kind.INCONCLUSIVE
    assert "see precision.within-bound" in verdicts["normalize.eps-inside-root"].words
    assert verdicts["evaluate.running-statistics"].kind == Kind.CONFORMS


class EverySecondStep(NumPy):
    """Its layer updates the state in every second step."""

    def layer(self, num_features, *, ndim, dtype, **options):
        made = super().layer(num_features, ndim=ndim, dtype=dtype, **options)
        step, made.calls = made.train, 0

        def train(x):
            made.calls += 1
            before = made.running_mean, made.running_var
            y = step(x)
            if made.calls % 2 == 0:
                made.running_mean, made.running_var = before
            return y

        made.train = train
        return made


def test_a_layer_that_follows_no_formula_is_blamed_where_layers_are():
    lab, faulty = laboratory(), backend(EverySecondStep())
    assert run_check("layer.follows-operation", faulty, "float32", lab).kind == Kind.FAILS
    assert run_check("running.update", faulty, "float32", lab).kind == Kind.INCONCLUSIVE
    assert run_check("precision.within-bound", faulty, "float32", lab).kind == Kind.CONFORMS


PLAIN = Case(dtype="float32", shape=(4, 3), data="bell")


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ([{"shape": (2, 65)}, {"shape": (2, 99)}], [{"shape": (2, 64)}], "channels from 65 on (right up to 64)"),
        ([{"shape": (1, 3, 4)}, {"shape": (1, 5, 2)}], [{"shape": (2, 3)}], "1 of samples"),
        ([{"shape": (4, 3, 5)}, {"shape": (4, 3, 7)}], [{"shape": (4, 3, 4)}, {"shape": (4, 3, 8)}], "positions"),
        ([{"layout": "strided"}], [{}], "x strided in memory"),
        ([{"shape": (4, 3, 2, 2)}], [{"shape": (4, 3, 4)}], "4 axes"),
        ([{"shape": (4, 4)}, {"shape": (7, 7)}], [{"shape": (7, 4)}, {"shape": (4, 7)}], "as many samples as channels"),
        ([{"eps": 1e-7}], [{"eps": 1e-5}, {"eps": 1e-3}], "eps up to 1e-07 (right from 1e-05 on)"),
        ([{"seed": 1}], [{"seed": 2}], ""),
        ([{}], [], ""),
    ],
)
def test_what_wrong_cases_have_in_common(wrong, right, told):
    found = in_common(*([replace(PLAIN, **change) for change in cases] for cases in (wrong, right)))
    assert found == told or (told and found.startswith(told))


def test_a_default_is_read_by_the_rules_that_are_followed():
    """A layer with sqrt(var) + eps and the article's default of eps has just that default."""
    outside = backend(RulesBackend(replace(ARTICLE, eps_rule="outside", affine="1 + weight")))
    for dtype in ("float64", "float32"):
        assert run_check("normalize.eps-default", outside, dtype).found == "1e-05"
    garbage = NumPy()
    garbage.layer = lambda *a, **k: Noisy(NumPy().layer(*a, **k))
    assert run_check("normalize.eps-default", backend(garbage), "float32").kind == Kind.INCONCLUSIVE


class Noisy:
    """A layer whose results follow no formula."""

    def __init__(self, inner):
        self.inner, self.evaluate, self.state = inner, inner.evaluate, inner.state

    def train(self, x):
        return self.inner.train(x) * (1 + np.arange(x.size, dtype=x.dtype).reshape(x.shape) / 10)
