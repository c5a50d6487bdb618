"""The reference as a reader uses it: what it takes, what it refuses, and what is undefined."""

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from normspec import reference
from normspec.reference import Rules, article, linear, relatives, split

X = np.array([[1, -2, 4], [3, 2, 0], [5, 6, 2], [-1, 2, -6]])
DY = np.array([[1, 0, 2], [-1, 2, 1], [3, 1, 0], [1, -1, 4]])
WEIGHT, BIAS, MEAN, VAR = (np.array(a) for a in ([2, -1, 3], [1, 0, -2], [0, 1, -1], [1, 2, 4]))
KINDS = ("float64", "float32", "float16", "bfloat16", "int32", "int64", "uint8", "list", "fortran", "read-only")


@pytest.fixture(autouse=True)
def _no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def as_kind(values: np.ndarray, kind: str) -> Any:
    """The same numbers, which all of these hold."""
    if kind == "list":
        return values.tolist()
    if kind in ("fortran", "read-only"):
        made = np.array(values, np.float64, order="F")
        made.flags.writeable = kind == "fortran"
        return made
    return values.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)


def everything(kind: str, *arrays: np.ndarray) -> list[np.ndarray]:
    """All that the reference computes, from arrays of that kind."""
    x, dy, weight, bias, mean, var = (as_kind(a, kind) for a in arrays)
    rows, units, w = (as_kind(a, kind) for a in (arrays[0][0], arrays[0][:, 0], np.eye(3)))
    eps, momentum = 0.25, 0.5
    given = (x, weight, bias, mean, var)
    asked = {"center": "median", "deviation": "half range", "eps": eps}
    found: list[Any] = [
        *(module.train(*given, momentum=momentum, eps=eps) for module in (article, reference)),
        *([module.evaluate(*given, eps=eps)] for module in (article, reference)),
        *(module.train_gradients(x, weight, bias, dy, eps=eps) for module in (article, reference)),
        *(module.evaluate_gradients(*given, dy, eps=eps) for module in (article, reference)),
        reference.fold(weight, bias, mean, var, eps=eps),
        [reference.inverse_root(var, eps), reference.normalized(x, weight, bias, eps=eps)],
        reference.statistics(x)[:3],
        reference.train(*given, momentum=momentum, eps=eps, step=2, previous=dy, rules=Rules(update="one step late")),
        [relatives.layer_norm(x, rows, weight, eps=eps), relatives.rms_norm(x, rows, eps=eps)],
        [relatives.instance_norm(x, weight, bias, eps=eps)],
        [relatives.group_norm(x, weight, bias, num_groups=3, eps=eps), relatives.weight_norm(x, units)],
        [relatives.l1_batch_norm(x, weight, bias, eps=eps), relatives.generalized_batch_norm(x, weight, bias, **asked)],
        relatives.layer_norm_gradients(x, rows, weight, dy, eps=eps),
        relatives.rms_norm_gradients(x, rows, dy, eps=eps),
        relatives.instance_norm_gradients(x, weight, bias, dy, eps=eps),
        relatives.group_norm_gradients(x, weight, bias, dy, num_groups=3, eps=eps),
        relatives.weight_norm_gradients(x, units, dy),
        relatives.l1_batch_norm_gradients(x, weight, bias, dy, eps=eps),
        relatives.generalized_batch_norm_gradients(x, weight, bias, dy, **asked),
        split.train_split(*given, devices=2, momentum=momentum, eps=eps),
        split.train_split_gradients(x, weight, bias, dy, devices=2, eps=eps),
        [linear.linear(x, w, bias), linear.linear_norm(x, w, bias, weight, bias, eps=eps)],
        linear.linear_gradients(x, w, dy),
        linear.linear_norm_gradients(x, w, bias, weight, bias, dy, eps=eps),
    ]
    return [array for part in found for array in part]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_holds_the_numbers(kind: str) -> None:
    """The results are those of float64, in float64, and nothing is written to or handed back."""
    arrays = [abs(a) if kind == "uint8" else a for a in (X, DY, WEIGHT, BIAS, MEAN, VAR)]
    found, expected = everything(kind, *arrays), everything("float64", *arrays)
    assert {array.dtype for array in found} == {np.dtype(np.float64)}
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_results_are_new_arrays() -> None:
    given = [np.array(a, np.float64) for a in (X, WEIGHT, BIAS, MEAN, VAR)]
    for module in (article, reference):
        for momentum in (0, 0.0, 0.5):
            for result in module.train(*given, momentum=momentum, eps=0.5):
                assert not any(np.shares_memory(result, array) for array in given)


def test_complex_numbers() -> None:
    """A complex step differentiates the formulas under `Rules`; the article's file is for real numbers alone."""
    step = np.array(X, complex)
    step[0, 0] += 1e-100j
    given = (WEIGHT, BIAS, MEAN, VAR)
    y, *_ = reference.train(step, *given, momentum=0.5, eps=0.25)
    dx, *_ = reference.train_gradients(X, WEIGHT, BIAS, DY, eps=0.25)
    assert (DY * y).sum().imag / 1e-100 == pytest.approx(dx[0, 0], rel=1e-12)
    for place, name in enumerate(("x", "weight", "bias", "running_mean", "running_var")):
        arrays = [np.array(a, complex if i == place else float) for i, a in enumerate((X, *given))]
        with pytest.raises(TypeError, match=f"^{name} is of dtype complex128; expected real numbers$"):
            article.train(*arrays, momentum=0.5, eps=0.25)
    with pytest.raises(TypeError, match="real numbers"):
        article.evaluate(np.full((2, 3), "1"), *given, eps=0.25)


# -- what is undefined ------------------------------------------------------------------------------------------------

ZERO, ONE = np.zeros(3), np.ones(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones(3)}, "x has the shape (3,); expected (N, C) or (N, C, *spatial)"),
        ({"x": 1.0}, "x has the shape (); expected (N, C) or (N, C, *spatial)"),
        ({"weight": [1.0]}, "weight has the shape (1,); expected (3,): a value a channel of x"),
        ({"bias": 0.0}, "bias has the shape (); expected (3,): a value a channel of x"),
        ({"running_var": np.ones((3, 1))}, "running_var has the shape (3, 1); expected (3,): a value a channel of x"),
        ({"x": np.ones((0, 3))}, "x has the shape (0, 3): a batch without values has no mean"),
        ({"x": np.ones((2, 3, 0))}, "x has the shape (2, 3, 0): a batch without values has no mean"),
        ({"x": np.ones((1, 3))}, "x has the shape (1, 3): one value a channel has no sample variance, unless"),
        ({"x": 1e155 * X}, "the squares of x - mean, or a sum over x, are too large for float64"),
        ({"x": np.full((4, 3), 1e308)}, "the squares of x - mean, or a sum over x, are too large for float64"),
        ({"x": [[1e200, np.nan, 1], [0, 1, 1]]}, "the squares of x - mean, or a sum over x, are too large for float64"),
        ({"x": np.ones((2, 3)), "eps": 0}, "var + eps is 0, negative or below 1e-307, with eps 0"),
        ({"x": 1e-160 * X, "eps": 0}, "var + eps is 0, negative or below 1e-307, with eps 0"),
        ({"eps": -100.0}, "var + eps is 0, negative or below 1e-307, with eps -100.0"),
    ],
)
def test_refusals_of_training(change: dict[str, Any], message: str) -> None:
    given = {"x": X, "weight": ONE, "bias": ZERO, "running_mean": ZERO, "running_var": ONE, "eps": 0.5, "momentum": 0.1}
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the message is compared below
        article.train(**{**given, **change})
    assert str(refused.value).startswith(message)


def test_refusals_elsewhere() -> None:
    with pytest.raises(ValueError, match=r"dy has the shape \(3,\); expected that of x, \(4, 3\)"):
        article.train_gradients(X, ONE, ZERO, ONE, eps=0.5)
    with pytest.raises(ValueError, match=r"dy has the shape \(4, 1\); expected that of x"):
        article.evaluate_gradients(X, ONE, ZERO, ZERO, ONE, X[:, :1], eps=0.5)
    with pytest.raises(ValueError, match="var \\+ eps"):
        article.evaluate(X, ONE, ZERO, ZERO, [1, 1, -2], eps=0.5)
    with pytest.raises(ValueError, match="a batch without values"):
        article.train_gradients(np.ones((0, 3)), ONE, ZERO, np.ones((0, 3)), eps=0.5)


@pytest.mark.parametrize("module", [article, reference])
def test_one_value_a_channel_and_momentum_0(module: Any) -> None:
    """The state stays, in steps of the article and under every rival that has no sample variance there."""
    y, mean, var = module.train([[5.0, -7.0]], [2, 3], [1, -1], [0.5, 4.0], [0.25, 9.0], momentum=0, eps=0.5)
    assert (y.tolist(), mean.tolist(), var.tolist()) == ([[1.0, -1.0]], [0.5, 4.0], [0.25, 9.0])
    if module is reference:
        *_, var = module.train([[5.0]], [1], [0], [0], [1], momentum=0.5, eps=0.5)
        assert np.isnan(var).all()


@pytest.mark.parametrize("module", [article, reference])
def test_what_is_not_finite_is_passed_on(module: Any) -> None:
    """In its own channel alone."""
    x = np.array(X, np.float64)
    x[0, 0], x[1, 2] = np.nan, -np.inf
    y, mean, var = module.train(x, WEIGHT, BIAS, MEAN, VAR, momentum=0.5, eps=0.25)
    plain = module.train(X, WEIGHT, BIAS, MEAN, VAR, momentum=0.5, eps=0.25)
    for found, whole in zip((y, mean, var), plain, strict=True):
        assert not np.isfinite(found[..., [0, 2]]).any()
        np.testing.assert_array_equal(found[..., 1], whole[..., 1])
    y = module.evaluate(x, WEIGHT, BIAS, MEAN, [1, np.inf, np.nan], eps=0.25)
    assert np.array_equal(np.isfinite(y), [[False, True, False], *[[True, True, False]] * 3])
    np.testing.assert_array_equal(y[:, 1], BIAS[1])


@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3), (0, 3), (0, 3, 2), (2, 3, 0)])
def test_nothing(shape: tuple[int, ...]) -> None:
    """Without channels there is nothing to compute; without values there are no statistics, but sums, which are 0."""
    x, some, channels = np.ones(shape), np.zeros(shape[1]), shape[1]
    alone = some, some, some, some + 1
    results = [
        *([article.evaluate(x, *alone, eps=0.5)], article.evaluate_gradients(x, *alone, x, eps=0.5)),
        *([reference.evaluate(x, *alone, eps=0.5)], reference.evaluate_gradients(x, *alone, x, eps=0.5)),
        reference.train_gradients(x, some, some, x, eps=0.5),
        relatives.instance_norm_gradients(x, some, some, x, eps=0.5),
        relatives.group_norm_gradients(x, some, some, x, num_groups=max(channels, 1), eps=0.5),
        relatives.l1_batch_norm_gradients(x, some, some, x, eps=0.5),
        *(
            relatives.generalized_batch_norm_gradients(x, some, some, x, center=center, deviation=deviation, eps=0.5)
            for center in ("mean", "median", "midrange")
            for deviation in ("standard", "mean absolute", "half range")
        ),
        split.train_split_gradients(x, some, some, x, devices=1, eps=0.5),
    ]
    for of_x, *parameters in results:
        assert of_x.shape == shape
        assert all(a.shape == some.shape and not a.any() for a in parameters)
    weight = np.zeros(shape[1:])
    dx, dweight, dbias = relatives.layer_norm_gradients(x, weight, weight, x, eps=0.5)
    assert (dx.shape, dweight.any(), dbias.any()) == (shape, False, False)
    assert dweight.shape == dbias.shape == weight.shape
    dv, dg = relatives.weight_norm_gradients(x, np.ones(shape[0]), x)
    assert (relatives.weight_norm(x, np.ones(shape[0])).shape, dv.shape, dg.shape) == (shape, shape, shape[:1])
    for momentum in (0.0, 0.5):
        for y, *state in (
            reference.train(x, *alone, momentum=momentum, eps=0.5),
            split.train_split(x, *alone, devices=1, momentum=momentum, eps=0.5),
        ):
            assert y.shape == shape
            assert all(
                np.isnan(a).all() if momentum else np.array_equal(a, b) for a, b in zip(state, alone[2:], strict=True)
            )


@pytest.mark.parametrize("choice", ["divisor of one", "variances averaged", "states averaged", "each by itself"])
def test_one_value_a_device(choice: Any) -> None:
    y, _, var = split.train_split(
        X[:2], ONE, ZERO, ZERO, ONE, devices=2, momentum=0.1, eps=0.5, rules=Rules(split=choice)
    )
    assert np.isfinite(y).all()
    assert (~np.isfinite(var)).all() == (choice != "variances averaged")
