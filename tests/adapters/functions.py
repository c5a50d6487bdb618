"""An adapter of two functions, which tracks the population variance. Its names may be a script's too."""

from __future__ import annotations

import numpy as xp

dtypes = ("float32", "bfloat16")
CORRECTION = 0  # right is 1


def array(values, x):
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def train(x, weight, bias, running_mean, running_var, *, momentum, eps):
    axes, size = (0, *range(2, x.ndim)), x.size // x.shape[1]
    wide = x.astype(xp.float32)
    mean, var = wide.mean(axes), wide.var(axes)
    y = (wide - array(mean, x)) / xp.sqrt(array(var, x) + eps) * array(weight, x) + array(bias, x)
    batch = var * (size / (size - CORRECTION))
    return (
        y.astype(x.dtype),
        running_mean + momentum * (mean - running_mean),
        running_var + momentum * (batch - running_var),
    )


def evaluate(x, weight, bias, running_mean, running_var, *, eps):
    slope = weight / xp.sqrt(running_var + eps)
    return ((x - array(running_mean, x)) * array(slope, x) + array(bias, x)).astype(x.dtype)
