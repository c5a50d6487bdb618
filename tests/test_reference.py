"""The reference against 50-digit arithmetic, on data of any conditioning and scale, and gradients by differentiation.

Every error is held to two bounds. One is the suite's own float64 bound, which is for two implementations that differ, the
reference and a backend: a half of it is the reference's share. It grows where data are badly conditioned. The other does
not: the reference promises an error of a few means' roundings, whatever the ratio of mean and deviation.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normspec import reference
from normspec.conformance import bounds, prediction
from normspec.conformance.arithmetic import GRADES, REFERENCE
from normspec.conformance.cases import GENERAL, Case, Inputs, inputs
from normspec.conformance.prediction import Expected
from normspec.reference import ARTICLE

FLOAT64 = GRADES["float64"][0]
SHARE = 0.5  # of a bound that is for two

mp = mpmath.mp.clone()
mp.dps = 50
digits = np.vectorize(mp.mpf, otypes=[object])
root = np.vectorize(mp.sqrt, otypes=[object])


# -- cases ------------------------------------------------------------------------------------------------------------

SMALL = ((2, 3), (7, 2), (2, 2, 1), (5, 3, 4), (3, 17, 2), (2, 2, 3, 5), (4, 1, 6, 6), (2, 3, 2, 1, 3), (3, 2, 2, 3, 4))
LARGE = ((5000, 1), (20, 1, 250), (8, 1, 25, 25), (3, 1, 12, 12, 11))
CONDITIONS = (0.0, 1.0, 1e3, 1e6, 1e9, 1e12)
SCALES = (1e-100, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e100)


def make(shape: tuple[int, ...], data: str, condition: float, scale: float, eps: float, seed: int) -> Case:
    """A case by mean/deviation, and by eps in units of the variance; momentum as PyTorch's default."""
    location, momentum = condition * scale, 0.1
    return Case(
        dtype="float64", shape=shape, data=data, seed=seed, location=location, scale=scale, eps=eps * scale**2,
        momentum=momentum,
    )  # fmt: skip


def varies(case: Case) -> bool:
    return bool(np.ptp(rows(inputs(case).x), axis=1).all())


def cases(*shapes: tuple[int, ...]) -> st.SearchStrategy[Case]:
    """Of any data but those that are constant in a channel."""
    drawn = st.builds(
        make,
        st.sampled_from(shapes),
        st.sampled_from([data for data in GENERAL if data != "constant"]),
        st.sampled_from(CONDITIONS),
        st.sampled_from(SCALES),
        st.sampled_from((1e-12, 1e-5, 0.1, 10.0)),
        st.integers(0, 2**16),
    )
    return drawn.filter(varies)


def examples(count: int) -> settings:
    """The same cases in every run."""
    return settings(max_examples=count, derandomize=True, database=None, deadline=None)


# -- the same quantities at 50 digits ---------------------------------------------------------------------------------


class Known(NamedTuple):
    """An array at 50 digits, a channel a row, and the sum of the magnitudes that it is made of."""

    value: np.ndarray
    size: np.ndarray


def rows(values: np.ndarray) -> np.ndarray:
    """(N, C, *spatial) as a channel a row, and (C,) as a column."""
    return values[:, None] if values.ndim == 1 else np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def exactly(values: Inputs) -> Inputs:
    return Inputs(*(digits(rows(array)) for array in values))


def mean(values: np.ndarray) -> np.ndarray:
    return values.sum(axis=1, keepdims=True) / values.shape[1]


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    center = mean(x)
    return center, mean((x - center) ** 2)


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, state: tuple[np.ndarray, np.ndarray], eps: float) -> Known:
    """y, in training where `state` is the batch's and in evaluation where it is the running one."""
    center, var = state
    x_hat = (x - center) / root(var + eps)
    return Known(weight * x_hat + bias, abs(weight) * (1 + abs(x_hat)) + abs(bias))


def statistics(x: np.ndarray) -> dict[str, Known]:
    center, var = moments(x)
    spread = mean(abs(x - center))
    return {
        "mean": Known(center, abs(center) + spread),
        "var": Known(var, var),
        "centered": Known(x - center, abs(x - center) + spread),
    }


def running(values: Inputs, momentum: float) -> dict[str, Known]:
    m = values.x.shape[1]
    batch = statistics(values.x)
    new_mean = values.running_mean + momentum * (batch["mean"].value - values.running_mean)
    new_var = values.running_var + momentum * (batch["var"].value * m / (m - 1) - values.running_var)
    return {
        "running_mean": Known(new_mean, abs(values.running_mean) + batch["mean"].size),
        "running_var": Known(new_var, values.running_var + batch["var"].size * m / (m - 1)),
    }


def train_gradients(values: Inputs, eps: float) -> dict[str, Known]:
    """Through the batch's statistics: paper [1], section 3, the six equations as they stand there."""
    x, weight, _, _, _, dy = values
    m = x.shape[1]
    center, var = moments(x)
    deviation = root(var + eps)
    x_hat = (x - center) / deviation
    of_x_hat = dy * weight
    of_var = -(of_x_hat * (x - center)).sum(axis=1, keepdims=True) / (2 * deviation**3)
    of_mean = -of_x_hat.sum(axis=1, keepdims=True) / deviation - 2 * of_var * mean(x - center)
    dx = of_x_hat / deviation + of_var * 2 * (x - center) / m + of_mean / m
    g = abs(of_x_hat)
    size = (g + mean(g) + (1 + abs(x_hat)) * mean(g * (1 + abs(x_hat)))) / deviation
    return {"dx": Known(dx, size), **parameter_gradients(x_hat, dy)}


def evaluate_gradients(values: Inputs, eps: float) -> dict[str, Known]:
    x, weight, _, center, var, dy = values
    deviation = root(var + eps)
    dx = weight * dy / deviation
    return {"dx": Known(dx, abs(dx)), **parameter_gradients((x - center) / deviation, dy)}


def parameter_gradients(x_hat: np.ndarray, dy: np.ndarray) -> dict[str, Known]:
    def total(terms: np.ndarray) -> np.ndarray:
        return terms.sum(axis=1, keepdims=True)

    return {
        "dweight": Known(total(dy * x_hat), total(abs(dy) * (1 + abs(x_hat)))),
        "dbias": Known(total(dy), total(abs(dy))),
    }


# -- the two bounds ---------------------------------------------------------------------------------------------------


def roundings(m: int) -> int:
    """How many roundings can reach a result one after another.

    NumPy's pairwise sum adds blocks of 128 in 8 strands, so that a term passes through 15 + 3 + 7 additions at most, and
    through one more for each doubling. At most four means follow each other (mean, variance, and in dx those of g and of
    g * x-hat), and with each go no more than ten elementwise steps.
    """
    return 4 * (25 + math.ceil(math.log2(max(m / 128, 1))) + 10)


def assert_held(predicted: dict[str, Expected], known: dict[str, Known], m: int) -> None:
    assert set(predicted) == set(known)
    for name, (value, bound) in predicted.items():
        error = abs(known[name].value - rows(value)).astype(float)
        assert (error <= SHARE * rows(bound)).all(), f"{name}: {np.max(error / rows(bound))} of the bound"
        size = known[name].size.astype(float)
        assert (error <= roundings(m) * REFERENCE * size).all(), f"{name}: {np.max(error / size) / REFERENCE} roundings"
