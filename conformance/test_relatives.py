"""Section 4: the relatives, which normalize within a sample, or weights."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import own_grades
from normspec.conformance.cases.cases import AnyArray, Array, Case, Inputs
from normspec.conformance.cases.given import given_to
from normspec.conformance.cases.operations import METHODS, OPERATIONS
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.calls import alone, part_of
from normspec.conformance.predictions.mismatch import parted, ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, NotOffered
from normspec.conformance.trials.experiments import (
    GENERALIZED_BATCH_NORM,
    GENERALIZED_BATCH_NORM_GRADIENTS,
    GROUP_NORM,
    GROUP_NORM_GRADIENTS,
    INSTANCE_NORM,
    INSTANCE_NORM_EVALUATE,
    INSTANCE_NORM_GRADIENTS,
    INSTANCE_NORM_TRAIN,
    L1_BATCH_NORM,
    L1_BATCH_NORM_GRADIENTS,
    LAYER_NORM,
    LAYER_NORM_GRADIENTS,
    RMS_NORM,
    RMS_NORM_GRADIENTS,
    SPLIT,
    SPLIT_GRADIENTS,
    WEIGHT_NORM,
    WEIGHT_NORM_GRADIENTS,
    Experiment,
    run,
    run_train,
)
from normspec.conformance.verdicts.checking import Check, on
from normspec.conformance.verdicts.laboratory import Question
from normspec.reference import ARTICLE


def everywhere(experiment: Experiment) -> tuple[Question, ...]:
    """All results of one call, on exact and on hostile cases."""
    name, results = experiment.operation, METHODS[experiment.name].results
    return tuple(on(pools_[name], experiment, *results) for pools_ in (pools.EXACT, pools.HOSTILE) if name in pools_)


@pytest.mark.claim("relatives.layer-norm")
def test_layer_norm(check: Check) -> None:
    """Section 4: layer norm takes mean and variance of each sample, over the axes that weight and bias have."""
    check.formula(*everywhere(LAYER_NORM))


@pytest.mark.claim("relatives.layer-norm-gradients")
def test_layer_norm_gradients(check: Check) -> None:
    """Section 4: the gradients of layer norm, through the sample's own statistics."""
    check.formula(*everywhere(LAYER_NORM_GRADIENTS))


@pytest.mark.claim("relatives.instance-norm")
def test_instance_norm(check: Check) -> None:
    """Section 4: instance norm takes them of each sample and channel, over space."""
    check.formula(*everywhere(INSTANCE_NORM))


@pytest.mark.claim("relatives.instance-norm-gradients")
def test_instance_norm_gradients(check: Check) -> None:
    """Section 4: the gradients of instance norm; weight and bias are shared by all samples."""
    check.formula(*everywhere(INSTANCE_NORM_GRADIENTS))


@pytest.mark.claim("relatives.group-norm")
def test_group_norm(check: Check) -> None:
    """Section 4: group norm takes them of each sample and group of neighbouring channels."""
    check.formula(*everywhere(GROUP_NORM))


@pytest.mark.claim("relatives.group-norm-gradients")
def test_group_norm_gradients(check: Check) -> None:
    """Section 4: the gradients of group norm; weight and bias are one a channel, not one a group."""
    check.formula(*everywhere(GROUP_NORM_GRADIENTS))


@pytest.mark.claim("relatives.rms-norm")
def test_rms_norm(check: Check) -> None:
    """Layer norm's nearest rival: x over its root mean square, neither centered nor shifted."""
    check.formula(*everywhere(RMS_NORM))


@pytest.mark.claim("relatives.rms-norm-gradients")
def test_rms_norm_gradients(check: Check) -> None:
    """The gradients of RMS norm, through the mean square."""
    check.formula(*everywhere(RMS_NORM_GRADIENTS))


@pytest.mark.claim("relatives.weight-norm")
def test_weight_norm(check: Check) -> None:
    """Section 4: weight norm is about the weights: g times v over its norm, one of each a unit."""
    check.formula(*everywhere(WEIGHT_NORM))


@pytest.mark.claim("relatives.weight-norm-gradients")
def test_weight_norm_gradients(check: Check) -> None:
    """Section 4: both gradients of weight norm, dv (as dx) and dg (as dweight)."""
    check.formula(*everywhere(WEIGHT_NORM_GRADIENTS))


@pytest.mark.claim("relatives.l1-batch-norm")
def test_l1_batch_norm(check: Check) -> None:
    """Section 4: L1 batch norm measures deviation by its mean magnitude."""
    check.formula(*everywhere(L1_BATCH_NORM))


@pytest.mark.claim("relatives.l1-batch-norm-gradients")
def test_l1_batch_norm_gradients(check: Check) -> None:
    """Section 4: the gradients of L1 batch norm."""
    check.formula(*everywhere(L1_BATCH_NORM_GRADIENTS))


@pytest.mark.claim("relatives.generalized-batch-norm")
def test_generalized_batch_norm(check: Check) -> None:
    """Section 4: generalized batch norm centers and scales by what it is asked for."""
    check.formula(*everywhere(GENERALIZED_BATCH_NORM))


@pytest.mark.claim("relatives.generalized-batch-norm-gradients")
def test_generalized_batch_norm_gradients(check: Check) -> None:
    """Section 4: the gradients of generalized batch norm."""
    check.formula(*everywhere(GENERALIZED_BATCH_NORM_GRADIENTS))


@pytest.mark.claim("relatives.instance-norm-tracked")
def test_instance_norm_tracked(check: Check) -> None:
    """Section 4: instance norm with running statistics, in training and in evaluation."""
    check.formula(*everywhere(INSTANCE_NORM_TRAIN), *everywhere(INSTANCE_NORM_EVALUATE))


@pytest.mark.claim("relatives.half-statistics")
def test_half_statistics(check: Check) -> None:
    """Section 4: of half-precision data, the statistics of all of them are summed and kept in float32 or wider."""
    check.grade(
        on(pools.HALF["layer norm"], LAYER_NORM, "y"),
        on(pools.HALF["instance norm"], INSTANCE_NORM, "y"),
        on(pools.HALF["group norm"], GROUP_NORM, "y"),
        on(pools.HALF["rms norm"], RMS_NORM, "y"),
        accepted=["wide", "wide, one pass", "parts"],
    )


@pytest.mark.claim("relatives.identities")
def test_identities(check: Check) -> None:
    """Section 4: where two of them normalize over the same values, they give the same."""

    def refutation(backend: Backend, case: Case) -> str:
        one = partial(_normalized, backend, GROUP_NORM, replace(case, groups=1), case)
        each = partial(_normalized, backend, GROUP_NORM, replace(case, groups=case.shape[1]), case)
        layer = partial(_normalized, backend, LAYER_NORM, case, case)
        instance = partial(_normalized, backend, INSTANCE_NORM, case, case)
        offered = False
        for words, first, second in (
            ("one group is not layer norm", one, layer),
            ("a group a channel is not instance norm", each, instance),
            ("a sample alone is not instance norm", partial(_batch_norm_alone, backend, case), instance),
        ):
            with suppress(NotOffered):
                (y, expected), (other, also) = first(), second()
                offered = True
                bound = _grade_of(y, expected) + _grade_of(other, also)
                if (index := parted(y, other, bound)) is not None:
                    return f"{words}: y{list(index)} is {float(y[index]):g} and {float(other[index]):g}"
        if not offered:
            raise NotOffered("no two of them are offered")
        return ""

    check.holds(pools.instances, refutation)


def _grade_of(y: AnyArray, graded: Sequence[Expected]) -> Array:
    """The bound of the finest grade in which a result is right; where it is in none, of the finest."""
    return next((e.bound for e in graded if not (ratios(y, e) > 1).any()), graded[0].bound)


def _normalized(backend: Backend, experiment: Experiment, case: Case, data: Case) -> tuple[AnyArray, list[Expected]]:
    """y of an operation on the values of `data`, with weight 1 and bias 0, and its prediction in every grade."""
    operation, method = OPERATIONS[experiment.operation], METHODS[experiment.name]
    shape = operation.arrangement(case).parameters
    values = _of_instances(data)._replace(weight=np.ones(shape), bias=np.zeros(shape))
    part = part_of(operation, method, case, values)
    graded = [alone(part, operation.rules, arithmetic)["y"] for arithmetic in own_grades(case.dtype)]
    return run(method, backend, case, values)["y"], graded


def _of_instances(case: Case) -> Inputs:
    values = given_to(OPERATIONS["instance norm"], case)
    assert isinstance(values, Inputs)
    return values


def _batch_norm_alone(backend: Backend, case: Case) -> tuple[AnyArray, list[Expected]]:
    """y of every sample as a batch of one."""
    values, one_sample = _of_instances(case), replace(case, shape=(1, *case.shape[1:]))
    channels = case.shape[1]
    unit = {"weight": np.ones(channels), "bias": np.zeros(channels)}
    state = {"running_mean": np.zeros(channels), "running_var": np.ones(channels)}
    ones = [
        values._replace(x=values.x[i : i + 1], dy=values.dy[i : i + 1], **unit, **state) for i in range(len(values.x))
    ]
    seen = [run_train(backend, one_sample, one)["y"] for one in ones]
    graded = []
    for arithmetic in own_grades(case.dtype):
        parts = [prediction.train(one, ARTICLE, arithmetic, eps=case.eps, momentum=case.momentum)["y"] for one in ones]
        graded.append(Expected(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    return np.concatenate(seen), graded


@pytest.mark.claim("relatives.synchronized")
def test_synchronized(check: Check) -> None:
    """Section 4: a batch split over devices is normalized, and tracked, as the whole batch that it is."""
    check.formula(*everywhere(SPLIT))


@pytest.mark.claim("relatives.synchronized-gradients")
def test_synchronized_gradients(check: Check) -> None:
    """Section 4: its gradients, through the statistics of all devices and summed over them."""
    check.formula(*everywhere(SPLIT_GRADIENTS))
