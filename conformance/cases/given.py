"""The arrays of a case, as each operation takes them."""

from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from normspec.conformance.cases.cases import Array, Case, Inputs, inputs
from normspec.conformance.cases.memory import kept_by_size
from normspec.conformance.cases.operations import Operation
from normspec.reference.linear import linear

FEATURES, KERNEL = 3, 2
"""Channels of u, and the size of the kernel along every spatial axis."""


class Before(NamedTuple):
    """A linear layer and what goes into it."""

    u: Array
    w: Array
    b: Array


class BehindLinear(NamedTuple):
    """The arrays of batch norm, where x is z = W u + b, and those of the linear layer."""

    x: Array
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array
    dy: Array
    u: Array
    w: Array
    b: Array

    @property
    def inputs(self) -> Inputs:
        """Those of batch norm."""
        return Inputs(*self[:6])

    @property
    def before(self) -> Before:
        """Those of the linear layer."""
        return Before(*self[6:])


Values = Inputs | BehindLinear


@kept_by_size(4096)
def given(case: Case) -> Inputs:
    """The arrays of a case, made once and not to be written to."""
    made = inputs(case)
    for array in made:
        array.flags.writeable = False
    return made


def given_to(operation: Operation, case: Case) -> Values:
    """The arrays of a case as an operation takes them: x and dy of its shape, weight and bias as they lie."""
    if operation.behind_linear:
        layer = before(case)
        values = given(replace(case, data="bell", scale=1.0))._replace(x=linear(*layer))
        return BehindLinear(*values, *layer)
    return given(case) if operation.over_batch else _within_samples(case, operation)


@kept_by_size(4096)
def _within_samples(case: Case, operation: Operation) -> Inputs:
    """The same, where the values that share statistics are neighbours in memory."""
    size, shape = operation.size(case), operation.arrangement(case).parameters
    turned = given(replace(case, shape=(size, prod(case.shape) // size)))
    x, dy = (np.ascontiguousarray(a.T).reshape(case.shape) for a in (turned.x, turned.dy))
    plain = replace(case, shape=(4, prod(shape)), seed=case.seed + 1)
    of_parameters = given(replace(plain, data="exact 3") if case.data.startswith("exact") else plain)
    weight, bias = of_parameters.weight.reshape(shape), of_parameters.bias.reshape(shape)
    bias = bias if operation.bias else np.zeros(shape)
    made = Inputs(x, weight, bias, np.zeros(shape), np.ones(shape), dy)
    state = given(case) if operation.tracks else made
    return made._replace(running_mean=state.running_mean, running_var=state.running_var)


@kept_by_size(4096)
def before(case: Case) -> Before:
    """u, W and b of a case, whose z has the case's shape: small integers, so that z is exact in every dtype."""
    random = np.random.RandomState(case.seed)
    samples, channels, *spatial = case.shape
    u = random.randint(-2, 3, (samples, FEATURES, *(n + KERNEL - 1 for n in spatial))).astype(np.float64)
    w = random.randint(-2, 3, (channels, FEATURES, *[KERNEL] * len(spatial))).astype(np.float64)
    u[0], w[:, 0] = abs(u[0]) + 1, 1.0  # no channel of z is constant
    b = random.choice([-8.0, -3.0, 5.0, 7.0], channels)
    return Before(u, w * case.scale, b * case.scale)
