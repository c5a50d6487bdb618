"""Sound implementations of different construction: none may ever be refused.

Each takes its statistics in its own way, in float32 for half-precision data and else in the dtype of the data, and
writes y either centered or folded into one affine map. What is left is NumPy's.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from normspec.backends.numpy import NumPy


def kept(statistics):
    """The same, with the last few results kept: the suite asks for large ones again, and these loops are Python's."""
    results: dict[tuple[bytes, str, tuple[int, ...]], Any] = {}

    @wraps(statistics)
    def function(values):
        key = (values.tobytes(), str(values.dtype), values.shape)
        if key not in results:
            while len(results) >= 32:
                del results[next(iter(results))]
            results[key] = statistics(values)
        return tuple(result.copy() for result in results[key])

    return function


def rows(x):
    """A channel a row."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def sequential_sum(values):
    """One value after another, as a plain loop adds."""
    return np.cumsum(values, axis=1, dtype=values.dtype)[:, -1]


def two_pass(values):
    """Sequential sums, twice over the data."""
    size = values.dtype.type(values.shape[1])
    mean = sequential_sum(values) / size
    centered = values - mean[:, None]
    return mean, sequential_sum(centered * centered) / size


def pairwise(values):
    """NumPy's own sums."""
    mean = values.mean(axis=1)
    return mean, np.square(values - mean[:, None]).mean(axis=1)


def doubled(values):
    """Sums in float64, rounded at the end."""
    mean = values.mean(axis=1, dtype=np.float64)
    return mean.astype(values.dtype), np.square(values - mean[:, None]).mean(axis=1).astype(values.dtype)


@kept
def welford(values):
    """One pass with a running mean."""
    kind = values.dtype.type
    mean, total = np.zeros(len(values), kind), np.zeros(len(values), kind)
    for count, column in enumerate(np.ascontiguousarray(values.T), 1):
        delta = column - mean
        mean = mean + delta / kind(count)
        total = total + delta * (column - mean)
    return mean, total / kind(values.shape[1])


@kept
def merged(values, chunk=16):
    """Two passes in each chunk, the chunks merged after Chan, Golub and LeVeque."""
    kind = values.dtype.type
    mean, total, count = np.zeros(len(values), kind), np.zeros(len(values), kind), 0
    for start in range(0, values.shape[1], chunk):
        part = values[:, start : start + chunk]
        size = part.shape[1]
        of_part = sequential_sum(part) / kind(size)
        delta = of_part - mean
        share = kind(size / (count + size))
        mean = mean + delta * share
        total = total + sequential_sum((part - of_part[:, None]) ** 2) + delta * delta * kind(count) * share
        count += size
    return mean, total / kind(count)


class Sound(NumPy):
    """NumPy's adapter with another way to the statistics, and y centered or folded."""

    def __init__(self, statistics: Callable[[Any], Any], *, folded: bool) -> None:
        self.statistics, self.folded = statistics, folded

    def _affine(self, x, weight, bias, mean, var, eps):
        shape = (1, -1, *[1] * (x.ndim - 2))
        root = 1 / np.sqrt(var + var.dtype.type(eps))
        wide = x.astype(var.dtype)
        if self.folded:
            scale = weight * root
            return (wide * scale.reshape(shape) + (bias - mean * scale).reshape(shape)).astype(x.dtype)
        x_hat = (wide - mean.reshape(shape)) * root.reshape(shape)
        return (x_hat * weight.reshape(shape) + bias.reshape(shape)).astype(x.dtype)

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        size = x.size // x.shape[1]
        if size < 2:
            raise ValueError("one value per channel")
        mean, var = self.statistics(rows(x).astype(weight.dtype))
        kind = var.dtype.type
        keep, take = kind(1 - momentum), kind(momentum)
        y = self._affine(x, weight, bias, mean, var, eps)
        sample_var = var * kind(size / (size - 1))
        return y, keep * running_mean + take * mean, keep * running_var + take * sample_var

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        return self._affine(x, weight, bias, running_mean, running_var, eps)

    def train_gradients(self, x, weight, bias, dy, *, eps):
        shape = (1, -1, *[1] * (x.ndim - 2))
        kind = weight.dtype.type
        mean, var = self.statistics(rows(x).astype(weight.dtype))
        root = 1 / np.sqrt(var + kind(eps))
        wide_dy = dy.astype(weight.dtype)
        x_hat = (x.astype(weight.dtype) - mean.reshape(shape)) * root.reshape(shape)
        dweight, dbias = sequential_sum(rows(wide_dy * x_hat)), sequential_sum(rows(wide_dy))
        size = kind(x.size // x.shape[1])
        inner = wide_dy - (dbias / size).reshape(shape) - x_hat * (dweight / size).reshape(shape)
        return ((weight * root).reshape(shape) * inner).astype(x.dtype), dweight, dbias


SOUND = {
    "two passes, sequential": Sound(two_pass, folded=False),
    "two passes, sequential, folded": Sound(two_pass, folded=True),
    "pairwise": Sound(pairwise, folded=False),
    "pairwise, folded": Sound(pairwise, folded=True),
    "wide sums, folded": Sound(doubled, folded=True),
    "Welford": Sound(welford, folded=False),
    "Welford, folded": Sound(welford, folded=True),
    "merged chunks": Sound(merged, folded=False),
    "merged chunks, folded": Sound(merged, folded=True),
}
