"""Batch normalization as the article states it, in float64: the formulas, and nothing else.

x and dy have the shape (N, C, *spatial), all others have the shape (C,). m = N * prod(spatial) is the number of values
that a channel has. momentum is the weight of the new value. All functions take anything array-like of real numbers.

What is undefined raises ValueError: statistics of no values, a sample variance of one value (unless momentum is 0), and
squares that overflow float64. NaN and infinity in x are passed on.

Sources: the article, sections 2 and 3; [1] is Ioffe & Szegedy 2015 (arXiv 1502.03167).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mean = Callable[[Array], Array]
"""The mean over the values of each channel, in a shape that broadcasts against x."""
_quiet = np.errstate(divide="ignore", invalid="ignore", over="ignore")  # infinity and NaN are results here


# -- section 2: training ----------------------------------------------------------------------------------------------


def statistics(x: Array, mean: Mean) -> tuple[Array, Array, Array]:
    """Mean, variance with divisor m, and x - mean (section 2; [1] algorithm 1, lines 1 and 2).

    The mean as computed is off by a rounding, u |mean|, which would spoil the variance of data far from zero. The mean
    of x - mean is that rounding. It is added to the mean, and subtracted from x - mean.
    """
    first = mean(x)
    rest = mean(x - first)
    centered = x - first - rest
    return first + rest, mean(centered * centered), centered


def inverse_root(var: Array, eps: Array | float) -> Array:
    """1 / sqrt(var + eps) (section 2; [1] algorithm 1, line 3)."""
    return 1 / np.sqrt(var + eps)


def affine(x_hat: Array, weight: Array, bias: Array) -> Array:
    """The output y = weight * x_hat + bias (section 2; [1] algorithm 1, line 4)."""
    return x_hat * weight + bias


# -- section 3: running statistics ------------------------------------------------------------------------------------


def sample_variance(var: Array, m: Array | float) -> Array:
    """The variance that is tracked: divisor m - 1 instead of m (section 3; [1] algorithm 2, line 10)."""
    return var * (m / (m - 1))


def update(running: Array, batch: Array, momentum: Array | float) -> Array:
    """The running statistic after one more batch (section 3)."""
    return (1 - momentum) * running + momentum * batch


# -- section 2: evaluation as one affine map --------------------------------------------------------------------------


def folded(weight: Array, bias: Array, running_mean: Array, inverse: Array) -> tuple[Array, Array]:
    """Slope and intercept of y = slope * x + intercept (section 2, last formula; [1] algorithm 2, line 11)."""
    return weight * inverse, bias - weight * running_mean * inverse


# -- [1] section 3: gradients -----------------------------------------------------------------------------------------


def input_gradient(g: Array, x_hat: Array, inverse: Array, mean: Mean) -> Array:
    """dx, with g = weight * dy, through the batch's own mean and variance."""
    return inverse * (g - mean(g) - x_hat * mean(g * x_hat))


def weight_gradient(dy: Array, x_hat: Array, total: Mean) -> Array:
    """dweight: the sum of dy * x_hat over the values of a channel."""
    return total(dy * x_hat)


def bias_gradient(dy: Array, total: Mean) -> Array:
    """dbias: the sum of dy over the values of a channel."""
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
    """y, and the new running mean and variance, from one training step (sections 2 and 3)."""
    x, mean, m = _batch(x)
    weight, bias, running_mean, running_var = (_channels(a, x) for a in (weight, bias, running_mean, running_var))
    batch_mean, batch_var, centered = _checked(x, *statistics(x, mean))
    y = affine(centered * inverse_root(batch_var, eps), weight, bias)
    if momentum == 0:  # the state stays, also where the batch has no sample variance
        return y, running_mean.ravel(), running_var.ravel()
    if m == 1:
        raise ValueError("each channel has one value; expected two or more, or momentum 0: there is no sample variance")
    new_mean = update(running_mean, batch_mean, momentum)
    new_var = update(running_var, sample_variance(batch_var, m), momentum)
    return y, new_mean.ravel(), new_var.ravel()


@_quiet
def evaluate(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, running_mean: ArrayLike, running_var: ArrayLike, *, eps: float
) -> Array:
    """y, from the running statistics (section 2; [1] algorithm 2, line 11). Any number of samples and channels."""
    x = _real(x)
    weight, bias, running_mean, running_var = (_channels(a, x) for a in (weight, bias, running_mean, running_var))
    return affine((x - running_mean) * inverse_root(running_var, eps), weight, bias)


@_quiet
def train_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, eps: float
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias of a training step ([1] section 3)."""
    x, mean, m = _batch(x)
    weight, dy = _channels(weight, x), _real(dy)
    _, var, centered = _checked(x, *statistics(x, mean))
    inverse = inverse_root(var, eps)
    x_hat = centered * inverse
    dx = input_gradient(weight * dy, x_hat, inverse, mean)
    dweight, dbias = weight_gradient(dy, x_hat, lambda a: mean(a) * m), bias_gradient(dy, lambda a: mean(a) * m)
    return dx, dweight.ravel(), dbias.ravel()


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
    """dx, dweight and dbias of an evaluation, where the statistics are constants."""
    x, dy = _real(x), _real(dy)
    weight, running_mean, running_var = (_channels(a, x) for a in (weight, running_mean, running_var))
    inverse = inverse_root(running_var, eps)
    axes = (0, *range(2, x.ndim))
    dweight = weight_gradient(dy, (x - running_mean) * inverse, lambda a: a.sum(axes))
    return weight * dy * inverse, dweight, bias_gradient(dy, lambda a: a.sum(axes))


# -- arrays -----------------------------------------------------------------------------------------------------------


def _real(values: ArrayLike) -> Array:
    """As float64. Raises TypeError for complex numbers and for what is no number."""
    array = np.asarray(values)
    if np.iscomplexobj(array):
        raise TypeError(f"x or another argument is {array.dtype}; expected real numbers")
    return array.astype(np.float64)


def _batch(x: ArrayLike) -> tuple[Array, Mean, int]:
    """x in float64, the mean over the values of a channel, and their number m. Raises ValueError without values."""
    values = _real(x)
    if values.ndim < 2:
        raise ValueError(f"x has the shape {values.shape}; expected (N, C) or (N, C, *spatial)")
    m = values.size // max(values.shape[1], 1)
    if values.shape[1] and not m:
        raise ValueError(f"x has the shape {values.shape}: no values, and so no statistics; expected one value or more")

    def mean(a: Array) -> Array:
        rows = np.moveaxis(np.broadcast_to(a, values.shape), 1, 0).reshape(values.shape[1], m)
        return np.ascontiguousarray(rows).mean(axis=1).reshape(-1, *[1] * (values.ndim - 2))

    return values, mean, m


def _channels(values: ArrayLike, x: Array) -> Array:
    """(C,) in a shape that broadcasts against x."""
    return _real(values).reshape(-1, *[1] * (x.ndim - 2))


def _checked(x: Array, mean: Array, var: Array, centered: Array) -> tuple[Array, Array, Array]:
    """The statistics. Raises ValueError where finite x has no finite variance in float64."""
    if not np.isfinite(var).all() and np.isfinite(x).all():
        raise ValueError("x - mean is beyond 1e154 somewhere: its square overflows float64; scale x down")
    return mean, var, centered
