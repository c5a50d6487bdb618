"""The reference against 50-digit arithmetic, on data of any conditioning and scale, and gradients by differentiation.

Every error is held to two bounds. One is the suite's own for float64, which grows where data are badly conditioned. It
is for two implementations, the reference and a backend, so that half of it is the reference's share. The other does not
grow: whatever the ratio of mean and deviation, the reference is off by no more than the roundings of four means.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normspec import reference
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import GENERAL, Case, Inputs, inputs
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.prediction import Expected
from normspec.reference import ARTICLE, article
from normspec.reference.batch_norm import Running, along_channels, groups_of

FLOAT64 = GRADES["float64"][0]
U = 2.0**-53
SHARE = 0.5  # of a bound that is for two

mp = mpmath.mp.clone()
mp.dps = 50
digits = np.vectorize(mp.mpf, otypes=[object])
root = np.vectorize(mp.sqrt, otypes=[object])


# -- cases ------------------------------------------------------------------------------------------------------------

SHAPES = ((2, 3), (7, 2), (5, 3, 4), (3, 17, 2), (2, 2, 3, 5), (4, 1, 6, 6), (2, 3, 2, 1, 3), (3, 2, 2, 3, 2))
CONDITIONS = (0.0, 1.0, 1e3, 1e6, 1e9, 1e12)
SCALES = (1e-100, 1e-30, 1e-3, 1.0, 1e3, 1e30, 1e100)


def make(shape: tuple[int, ...], data: str, condition: float, scale: float, eps: float, seed: int) -> Case:
    """A case by mean/deviation, and by eps in units of the variance; momentum as PyTorch's default."""
    wide = {"location": condition * scale, "scale": scale, "eps": eps * scale**2}
    return Case(dtype="float64", shape=shape, data=data, seed=seed, momentum=0.1, **wide)


LARGE = (
    make((5000, 1), "bell", 1e12, 1e-100, 1e-12, seed=1),
    make((5000, 1), "one-hot", 0.0, 1e-3, 0.1, seed=2),  # added one by one, the squares would lose 614 roundings
    make((20, 1, 250), "outlier first", 1e3, 1e100, 1e-5, seed=3),
    make((8, 1, 25, 25), "heavy tails", 1.0, 1e30, 1e-5, seed=4),
    make((3, 1, 12, 12, 11), "sorted", 1e9, 1.0, 10.0, seed=5),
)


def varies(case: Case) -> bool:
    return bool(np.ptp(rows(inputs(case).x), axis=1).all())


SMALL = st.builds(
    make,
    st.sampled_from(SHAPES),
    st.sampled_from([data for data in GENERAL if data != "constant"]),
    st.sampled_from(CONDITIONS),
    st.sampled_from(SCALES),
    st.sampled_from((1e-12, 1e-5, 0.1, 10.0)),
    st.integers(0, 2**16),
).filter(varies)


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


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, state: Sequence[np.ndarray], eps: float) -> Known:
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
    """How many roundings at most can reach a result one after another.

    NumPy's pairwise sum adds blocks of 128 in 8 strands: a term passes through 15 + 3 + 7 additions, and one more for
    each doubling. At most four means follow each other: mean, variance, and in dx those of g and of g * x-hat. Each has
    ten elementwise steps around it at most.
    """
    return 4 * (25 + math.ceil(math.log2(max(m / 128, 1))) + 10)


def assert_held(predicted: Mapping[str, Expected], known: Mapping[str, Known], m: int) -> None:
    """Largest seen in 5,000 small and 80 large cases: 0.20 of the suite's bound, in the running mean; 9 roundings."""
    assert set(predicted) == set(known)
    for name, (value, bound) in predicted.items():
        error, size = error_of(value, known[name].value), known[name].size.astype(float)
        assert (error <= SHARE * rows(bound)).all(), f"{name}: {np.max(error / rows(bound))} of the bound"
        assert (error <= roundings(m) * U * size).all(), f"{name}: {np.max(error / size) / U} roundings"


def error_of(value: np.ndarray, known: np.ndarray) -> np.ndarray:
    return abs(known - rows(value)).astype(float)


# -- the formulas ------------------------------------------------------------------------------------------------------


def check_statistics(case: Case) -> None:
    x = inputs(case).x
    groups = reference.statistics(x)
    suite = bounds.of_statistics(x, groups, groups_of(x, ARTICLE), ARTICLE, FLOAT64)
    step = 3 * bounds.steps(FLOAT64)  # of x - mean, counted in the suite as part of x-hat
    centered = suite.mean + step * (abs(groups.centered) + suite.mean)
    predicted = {
        "mean": Expected(groups.mean, suite.mean),
        "var": Expected(groups.var, suite.var),
        "centered": Expected(groups.centered, centered),
    }
    assert groups.size == case.size
    assert_held(predicted, statistics(digits(rows(x))), case.size)


def check_train(case: Case) -> None:
    values = inputs(case)
    truth = exactly(values)
    y = forward(truth.x, truth.weight, truth.bias, moments(truth.x), case.eps)
    predicted = prediction.train(values, ARTICLE, FLOAT64, eps=case.eps, momentum=case.momentum)
    assert_held(predicted, {"y": y, **running(truth, case.momentum)}, case.size)


def check_train_gradients(case: Case) -> None:
    values = inputs(case)
    predicted = prediction.train_gradients(values, ARTICLE, FLOAT64, eps=case.eps)
    assert_held(predicted, train_gradients(exactly(values), case.eps), case.size)


def check_evaluate(case: Case) -> None:
    values = inputs(case)
    x, weight, bias, *state, _ = exactly(values)
    predicted = prediction.evaluate(values, ARTICLE, FLOAT64, eps=case.eps)
    assert_held(predicted, {"y": forward(x, weight, bias, state, case.eps)}, case.size)


def check_evaluate_gradients(case: Case) -> None:
    values = inputs(case)
    predicted = prediction.evaluate_gradients(values, ARTICLE, FLOAT64, eps=case.eps)
    assert_held(predicted, evaluate_gradients(exactly(values), case.eps), case.size)


def check_article(case: Case) -> None:
    """The article's own file, in the same bounds; it gives what the formulas under its `Rules` give."""
    values, eps, momentum = inputs(case), case.eps, case.momentum
    x, weight, bias, *state, _ = truth = exactly(values)
    batch, ours = moments(x), values[:3]
    known = {
        "train": {"y": forward(x, weight, bias, batch, eps), **running(truth, momentum)},
        "evaluate": {"y": forward(x, weight, bias, state, eps)},
        "train_gradients": train_gradients(truth, eps),
        "evaluate_gradients": evaluate_gradients(truth, eps),
    }
    found = {
        "train": article.train(*values[:5], momentum=momentum, eps=eps),
        "evaluate": (article.evaluate(*values[:5], eps=eps),),
        "train_gradients": article.train_gradients(*ours, values.dy, eps=eps),
        "evaluate_gradients": article.evaluate_gradients(*values, eps=eps),
    }
    for name, results in found.items():
        options = {"eps": eps, "momentum": momentum} if name == "train" else {"eps": eps}
        told = getattr(prediction, name)(values, ARTICLE, FLOAT64, **options)
        assert_held(
            {q: e._replace(value=v) for (q, e), v in zip(told.items(), results, strict=True)}, known[name], case.size
        )
        for (quantity, expected), value in zip(told.items(), results, strict=True):
            same = name != "evaluate_gradients" and quantity not in ("dweight", "dbias")
            assert (abs(value - expected.value) <= (0 if same else expected.bound)).all()  # or in another order


CHECKS = (check_statistics, check_train, check_train_gradients, check_evaluate, check_evaluate_gradients, check_article)


@pytest.mark.parametrize("check", CHECKS)
@examples(100)
@given(case=SMALL)
def test_formulas(check: Callable[[Case], None], case: Case) -> None:
    check(case)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.data)
def test_formulas_on_thousands_of_values(check: Callable[[Case], None], case: Case) -> None:
    check(case)


@examples(100)
@given(case=SMALL)
def test_fold_is_evaluation_as_one_affine_map(case: Case) -> None:
    values = inputs(case)
    x, weight, bias, center, var, _ = exactly(values)
    folded = reference.fold(*values[1:5], eps=case.eps)
    slope = weight / root(var + case.eps)
    intercept = bias - center * slope
    # The root takes three roundings, with weight and mean five, the products and the sums are four more at most.
    size = (abs(slope * center) + abs(bias)).astype(float)
    assert (error_of(folded[0], slope) <= 4 * U * abs(slope).astype(float)).all()
    assert (error_of(folded[1], intercept) <= 9 * U * size).all()
    y = values.x * along_channels(folded[0], values.x.ndim) + along_channels(folded[1], values.x.ndim)
    known = forward(x, weight, bias, (center, var), case.eps).value
    assert (error_of(y, known) <= 9 * U * (abs(x * slope).astype(float) + size)).all()


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_constant_channels_give_bias(shape: tuple[int, ...], condition: float) -> None:
    """The variance computed is nothing but rounding, u^4 mean^2: only the bound that knows the mean applies."""
    case = make(shape, "constant", condition / 3, 1.0, 1e-5, seed=1)
    values = inputs(case)
    suite = prediction.train(values, ARTICLE, FLOAT64, eps=case.eps, momentum=case.momentum)["y"]
    assert (error_of(suite.value, digits(rows(values.bias))) <= SHARE * rows(suite.bound)).all()


@examples(20)
@given(case=SMALL)
def test_without_momentum_all_batches_weigh_the_same(case: Case) -> None:
    batches = [inputs(replace(case, seed=case.seed + i)) for i in range(5)]
    state = batches[0].running_mean, batches[0].running_var
    for step, (x, weight, bias, *_) in enumerate(batches, 1):
        _, *state = reference.train(x, weight, bias, *state, momentum=None, eps=case.eps, step=step)
    seen = [running(exactly(batch), 1.0) for batch in batches]
    for name, value in zip(("running_mean", "running_var"), state, strict=True):
        known = sum(batch[name].value for batch in seen) / len(seen)
        size = sum(batch[name].size for batch in seen).astype(float)
        # Each step adds five roundings: 1 / step, its complement, two products and their sum.
        assert (error_of(value, known) <= (roundings(case.size) + 5 * len(seen)) * U * size).all()


@examples(20)
@given(case=SMALL)
def test_momenta_0_and_1_are_exact(case: Case) -> None:
    values = inputs(case)
    old, batch = Running(values.running_mean, values.running_var), Running(values.bias, abs(values.weight))
    np.testing.assert_array_equal(reference.update(old, batch, 0.0), old)
    np.testing.assert_array_equal(reference.update(old, batch, 1.0), batch)


# -- gradients without their formula ----------------------------------------------------------------------------------

STEP = mp.mpf(10) ** -1000
"""Im f(v + ih) / h is f' up to h^2 and subtracts nothing. mpmath's exponents have no end, so any tiny step will do."""


def slopes(loss: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Derivatives of a loss with one value a channel; channels do not meet, so one element of each moves at a time."""
    found = np.empty_like(values)
    for i in range(values.shape[1]):
        moved = values.copy()
        moved[:, i] += mp.mpc(0, STEP)
        found[:, i] = [value.imag / STEP for value in loss(moved)]
    return found


def differentiated(
    values: Inputs, state: Callable[[np.ndarray], Sequence[np.ndarray]], eps: float
) -> dict[str, np.ndarray]:
    """The gradients of sum(dy * y), where x yields the statistics by `state`."""

    def loss(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return (values.dy * forward(x, weight, bias, state(x), eps).value).sum(axis=1)

    x, weight, bias = values[:3]
    return {
        "dx": slopes(lambda moved: loss(moved, weight, bias), x),
        "dweight": slopes(lambda moved: loss(x, moved, bias), weight),
        "dbias": slopes(lambda moved: loss(x, weight, moved), bias),
    }


FEW = SMALL.filter(lambda case: case.size <= 20)


@examples(15)
@given(case=FEW)
def test_training_gradients_are_derivatives(case: Case) -> None:
    values = inputs(case)
    truth = exactly(values)
    found, sizes = differentiated(truth, moments, case.eps), train_gradients(truth, case.eps)
    predicted = prediction.train_gradients(values, ARTICLE, FLOAT64, eps=case.eps)
    assert_held(predicted, {name: sizes[name]._replace(value=found[name]) for name in found}, case.size)


@examples(15)
@given(case=FEW)
def test_evaluation_gradients_are_derivatives(case: Case) -> None:
    values = inputs(case)
    truth = exactly(values)
    found = differentiated(truth, lambda _: (truth.running_mean, truth.running_var), case.eps)
    sizes = evaluate_gradients(truth, case.eps)
    predicted = prediction.evaluate_gradients(values, ARTICLE, FLOAT64, eps=case.eps)
    assert_held(predicted, {name: sizes[name]._replace(value=found[name]) for name in found}, case.size)
