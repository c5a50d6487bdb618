"""Every faulty backend is refused by the claim that it names; `fault_report.py` asks all claims."""

import re

import pytest
from checks import run_check
from faults import FAULTS
from faults.pieces import Pieces
from faults.wild import WILD
from faulty import backend
from test_sound import LABORATORY, unexpected

from normspec.conformance.arithmetic import DTYPES
from normspec.conformance.blame import blamed, refuses
from normspec.conformance.claims import CLAIMS
from normspec.conformance.verdicts import Kind, Verdict

SURVIVORS = {
    "LayerTakesZeroMomentumForNone": "a layer built with momentum 0",
    "WholeMomentumIsAPeriod": "a layer built with momentum 1, as an int",
    "MomentumIsCapped": "momentum above 0.8",
    "SharesOfUnequalWorkers": "an odd number of values above 9, with exact gradients",
    "ChannelsLastByGuess": "a last axis as long as there are channels, in evaluation",
    "EmptySpaceMakesTheStateNaN": "x of shape (2, 3, 0)",
    "EmptyEvaluationMovesTheState": "evaluation of an empty batch",
    "EmptyGradientsAreNaN": "gradients of an empty batch",
    "LayerKeepsNaNOfOneValue": "a layer that trains on one value a channel",
    "NoInputGradientOfConstantChannels": "gradients where a channel is constant",
    "SecondEvaluationTracks": "the state after a second evaluation",
    "StaysInEvaluation": "a training step after an evaluation",
    "WeighsBatchesByTheirSize": "momentum None and batches of several sizes",
    "EvaluationRestartsTheCount": "momentum None and an evaluation between the steps",
    "WeightGradientOfChannelsLast": "dweight in several layouts; only dx is compared",
    "EvaluationGradientIgnoresStrides": "gradients of evaluation in several layouts",
    "ReadsTheGradientInTheInputsOrder": "x with channels last and a contiguous dy",
    "ForgetsTheOffset": "x with channels last that starts inside another array",
    "ReadsBackwardsForwards": "x with a negative stride",
    "MisreadsStridedParameters": "weight that is strided",
    "MisreadsStridedState": "running statistics that are strided",
    "HandsBackAnUnmovedState": "momentum 0",
    "HandsBackItsInput": "evaluation with mean 0, variance 1, weight 1, bias 0 and eps 0",
    "UpdatesBeforeItReads": "one array as weight and as running_var",
    "LayerReusesItsOutput": "what a layer returned, after its next step",
    "KeepsTheWeightItMet": "another weight of the same length between two equal calls",
    "LargeEvaluationUsesTheBatch": "evaluation of more than 100 values a channel",
    "SkipsNegativeInfinity": "minus infinity in x",
    "KeepsTheVarianceFromNaN": "running_var beside running_mean, with NaN in x",
    "HidesNaNInTheGradient": "NaN in dy",
    "SpreadsNaNOfTheGradient": "NaN in one channel of dy",
    "SkipsOverflowInGradients": "infinity in dy",
    "HidesNaNInTheState": "NaN in running_var",
    "HidesNaNInTheWeight": "NaN in weight",
    "NaNFillsTheSample": "NaN at one position of a sample, in evaluation",
    "InfinityIsLargeInEvaluation": "infinity in x, in evaluation",
    "NegativeVarianceIsZero": "NaN in running_mean",
    "EpsInFloat32": "eps that float32 cannot hold, such as 1e-5",
    "MomentumInFloat32": "momentum that float32 cannot hold, such as 0.1",
    "MomentumInHalf": "momentum that float16 cannot hold, such as 0.1",
    "EpsInHalf": "eps that float16 cannot hold, such as 1e-5",
    "OnePassInTheBackwardPass": "gradients where the mean dwarfs the spread",
    "ClipsLargeInput": "large values in evaluation, or a large mean",
    "ParametersInHalf": "evaluation of half precision with parameters that half cannot hold",
    "EpsLostInHalf": "eps below the resolution of float16",
    "TruncatesToBfloat16": "y of bfloat16 against rounding to nearest",
    "EvaluatesInBfloat16": "evaluation of bfloat16 against a bound for steps in float32",
    "PopulationVarianceOfLongOnes": "exact running_var of 64 values a channel",
    "LosesTheFirstOfEachBlock": "a spike at a multiple of 4096",
    "CountsInHalf": "m that float16 cannot hold, in exact data, such as 2049",
    "EvaluationGradientSumsStopAfter2048": "gradients of evaluation over more than 2048 values",
}
"""Faults that their claim does not refuse yet, with the input that would show them."""


def _case(name):
    marks = [pytest.mark.xfail(reason=SURVIVORS[name], strict=True)] if name in SURVIVORS else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [_case(name) for name in FAULTS])
def test_its_claim_refuses_it(name):
    fault = FAULTS[name]
    verdict = run_check(fault.claim, backend(fault.make(), name), fault.dtype)
    assert refuses(fault.claim, fault.dtype, verdict), verdict.words


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_pieces_are_sound(dtype):
    assert unexpected("pieces", Pieces(), dtype, LABORATORY) == []


def test_there_are_many():
    assert len(FAULTS) >= 120


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_described(name):
    fault = FAULTS[name]
    assert re.fullmatch(r"\S.*\.", fault.wrong), "a docstring of one sentence or two, on one line"
    assert fault.claim in CLAIMS
    assert fault.dtype in DTYPES
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread) for thread in fault.threads)


@pytest.mark.parametrize("kind", WILD)
def test_every_wild_kind_has_a_fault(kind):
    assert any(set(WILD[kind]) & set(fault.threads) for fault in FAULTS.values())


def test_survivors_are_faults():
    assert set(SURVIVORS) <= set(FAULTS)


def verdicts(**kinds):
    """Verdicts by claim; one that deviates follows the first rival of its claim."""
    ids = {name: name.replace("_", ".", 1).replace("_", "-") for name in kinds}
    return {
        ids[name]: Verdict(kind=kind, rival=CLAIMS[ids[name]].rivals[0].name if kind == Kind.DEVIATES else "")
        for name, kind in kinds.items()
    }


@pytest.mark.parametrize(
    ("refusing", "first"),
    [
        (verdicts(running_update=Kind.FAILS, hygiene_layouts=Kind.DEVIATES), "hygiene.layouts"),
        (verdicts(running_update=Kind.CRASHED, hygiene_layouts=Kind.FAILS), "running.update"),
        (verdicts(running_update=Kind.FAILS, precision_extent=Kind.FAILS), "running.update"),
        (verdicts(hygiene_layouts=Kind.FAILS, precision_extent=Kind.FAILS), "precision.extent"),
        (verdicts(example_article=Kind.FAILS, hygiene_layouts=Kind.FAILS), "hygiene.layouts"),
        (verdicts(running_update=Kind.DEVIATES, hygiene_deterministic=Kind.DEVIATES), "hygiene.deterministic"),
        (verdicts(running_update=Kind.INCONCLUSIVE, evaluate_folded=Kind.FAILS), "evaluate.folded"),
        (verdicts(running_update=Kind.DEVIATES, evaluate_folded=Kind.DEVIATES), "evaluate.folded"),
        ({}, ""),
    ],
)
def test_blame(refusing, first):
    assert blamed(refusing) == first
