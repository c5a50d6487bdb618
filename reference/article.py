"""Batch normalization as the article states it, in float64: the formulas, and nothing else.

x and dy have the shape (N, C, *spatial), all other arrays have the shape (C,). A channel has m = N * prod(spatial)
values. momentum is the weight of the new value. Arguments are anything array-like of real numbers, and stay as they
are; complex numbers raise TypeError.

What is undefined raises ValueError: statistics of no values, a sample variance of one value unless momentum is 0, a
var + eps that is not positive. So do squares that float64 cannot hold. NaN and infinity are passed on.

Sources: sections 2 and 3 of the article; [1] is Ioffe & Szegedy 2015 (arXiv 1502.03167).
"""

from collections.abc import Callable
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Reduce = Callable[[Array], Array]
"""The mean, or the sum, over the values of each channel. A mean has a shape that broadcasts against x."""
_quiet = np.errstate(all="ignore")  # infinity and NaN in x are passed on

# -- section 2: a training batch --------------------------------------------------------------------------------------


def statistics(x: Array, mean: Reduce) -> tuple[Array, Array, Array]:
    """Mean, variance with divisor m, and x - mean (section 2; [1] algorithm 1, lines 1 and 2).

    The first mean is off by a rounding, which would spoil the variance of data far from zero. The mean of x - mean is
    that rounding: it is added to the mean and taken off x - mean.
    """
    first = mean(x)
    rest = mean(x - first)
    centered = x - first - rest
    return first + rest, mean(centered * centered), centered


def inverse_root(var: Array, eps: Array | float) -> Array:
    """1 / sqrt(var + eps). Times x - mean it gives x_hat, the normalized x (section 2; [1] algorithm 1, line 3)."""
    return 1 / np.sqrt(var + eps)


def affine(x_hat: Array, weight: Array, bias: Array) -> Array:
    """The output y; weight is gamma, bias is beta (section 2; [1] algorithm 1, line 4)."""
    return x_hat * weight + bias


def folded(weight: Array, bias: Array, running_mean: Array, inverse: Array) -> tuple[Array, Array]:
    """Slope and intercept of evaluation as y = slope * x + intercept (section 2, last formula; [1] algorithm 2, 11)."""
    return weight * inverse, bias - weight * running_mean * inverse


# -- section 3: running statistics ------------------------------------------------------------------------------------


def sample_variance(var: Array, m: Array | float) -> Array:
    """The variance that is tracked, with divisor m - 1 (section 3; [1] algorithm 2, line 10)."""
    return var * (m / (m - 1))


def update(running: Array, batch: Array, momentum: Array | float) -> Array:
    """The running mean or variance after one more batch (section 3, first formula)."""
    return (1 - momentum) * running + momentum * batch


# -- [1] section 3: gradients of a loss, from dy, its gradient by y ---------------------------------------------------


def input_gradient(g: Array, x_hat: Array, inverse: Array, mean: Reduce) -> Array:
    """dx in training, with g = weight * dy: the equations of [1] put together. In evaluation dx is g * inverse."""
    return inverse * (g - mean(g) - x_hat * mean(g * x_hat))


def weight_gradient(dy: Array, x_hat: Array, total: Reduce) -> Array:
    """dweight."""
    return total(dy * x_hat)


def bias_gradient(dy: Array, total: Reduce) -> Array:
    """dbias."""
    return total(dy)


# -- the layer --------------------------------------------------------------------------------------------------------


@_quiet
def train(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    *,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """y, new running_mean and new running_var of a training step. With momentum 0 the running statistics stay."""
    x = _data("x", x)
    weight, bias = _parameters(x, weight=weight, bias=bias)
    old_mean, old_var = _parameters(x, running_mean=running_mean, running_var=running_var)
    mean, _, m = _reductions(x)
    batch_mean, batch_var, centered = _checked(x, *statistics(x, mean))
    y = affine(centered * _checked_root(batch_var, eps), weight, bias)
    if momentum == 0:
        return y, old_mean.ravel(), old_var.ravel()
    if m == 1:
        raise ValueError(f"x has the shape {x.shape}: one value a channel has no sample variance, unless momentum is 0")
    new_mean = update(old_mean, batch_mean, float(momentum))
    new_var = update(old_var, sample_variance(batch_var, m), float(momentum))
    return y, new_mean.ravel(), new_var.ravel()


@_quiet
def evaluate(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, running_mean: ArrayLike, running_var: ArrayLike, *, eps: float
) -> Array:
    """y from the running statistics. N may be 0."""
    x = _data("x", x)
    weight, bias = _parameters(x, weight=weight, bias=bias)
    mean, var = _parameters(x, running_mean=running_mean, running_var=running_var)
    return affine((x - mean) * _checked_root(var, eps), weight, bias)


@_quiet
def train_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, eps: float
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias of a training step: x also moves the batch's own mean and variance."""
    x = _data("x", x)
    (weight, _), dy = _parameters(x, weight=weight, bias=bias), _data("dy", dy, like=x)
    mean, total, _ = _reductions(x)
    _, var, centered = _checked(x, *statistics(x, mean))
    inverse = _checked_root(var, eps)
    x_hat = centered * inverse
    dx = input_gradient(weight * dy, x_hat, inverse, mean)
    return dx, weight_gradient(dy, x_hat, total), bias_gradient(dy, total)


@_quiet
def evaluate_gradients(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    dy: ArrayLike,
    *,
    eps: float,
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias of an evaluation: the running statistics are constants. N may be 0."""
    x = _data("x", x)
    (weight, _), dy = _parameters(x, weight=weight, bias=bias), _data("dy", dy, like=x)
    mean, var = _parameters(x, running_mean=running_mean, running_var=running_var)
    inverse, (_, total, _) = _checked_root(var, eps), _reductions(x)
    return weight * dy * inverse, weight_gradient(dy, (x - mean) * inverse, total), bias_gradient(dy, total)


# -- arguments, and what is undefined ---------------------------------------------------------------------------------


def _real(name: str, values: ArrayLike) -> Array:
    """A float64 copy. Raises TypeError for complex numbers and text."""
    array = np.asarray(values)
    if array.dtype.kind in "cSU":
        raise TypeError(f"{name} is of dtype {array.dtype}; expected real numbers")
    return array.astype(np.float64)


def _data(name: str, values: ArrayLike, like: Array | None = None) -> Array:
    """x; or dy, of x's shape."""
    array = _real(name, values)
    if like is not None and array.shape != like.shape:
        raise ValueError(f"{name} has the shape {array.shape}; expected that of x, {like.shape}")
    if array.ndim < 2:
        raise ValueError(f"{name} has the shape {array.shape}; expected (N, C) or (N, C, *spatial)")
    return array


def _parameters(x: Array, **given: ArrayLike) -> list[Array]:
    """Arrays of shape (C,), in a shape that broadcasts against x."""
    arrays = [_real(name, values) for name, values in given.items()]
    for name, array in zip(given, arrays, strict=True):
        if array.shape != x.shape[1:2]:
            raise ValueError(f"{name} has the shape {array.shape}; expected {x.shape[1:2]}: a value a channel of x")
    return [array.reshape(-1, *[1] * (x.ndim - 2)) for array in arrays]


def _reductions(x: Array) -> tuple[Reduce, Reduce, int]:
    """Mean and sum over the values of each channel, and m. A channel becomes a row, which NumPy adds pairwise."""
    channels, m = x.shape[1], prod(x.shape[:1] + x.shape[2:])

    def total(a: Array) -> Array:
        sums: Array = np.ascontiguousarray(np.moveaxis(a, 1, 0)).reshape(channels, m).sum(axis=1)
        return sums

    def mean(a: Array) -> Array:
        if m == 0:
            raise ValueError(f"x has the shape {x.shape}: a batch without values has no mean")
        return (total(a) / m).reshape(-1, *[1] * (x.ndim - 2))

    return mean, total, m


def _checked(x: Array, mean: Array, var: Array, centered: Array) -> tuple[Array, Array, Array]:
    """The statistics. Raises ValueError where float64 cannot hold those of finite x."""
    finite = np.isfinite(x).all(axis=(0, *range(2, x.ndim)))
    if (finite & ~np.isfinite(var.ravel())).any():
        raise ValueError("the squares of x - mean, or a sum over x, are too large for float64; expected x below 1e150")
    return mean, var, centered


def _checked_root(var: Array, eps: float) -> Array:
    """`inverse_root`. Raises ValueError where it is undefined, or the squares in var are too small for float64."""
    if (var + float(eps) < np.finfo(np.float64).tiny).any():
        raise ValueError(f"var + eps is 0, negative or below 1e-307, with eps {eps}; expected more")
    return inverse_root(var, float(eps))
