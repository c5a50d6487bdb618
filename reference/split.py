"""A training batch split over devices (section 4): the article's batch norm of the whole batch, and what else is done.

x and dy are (N, C, *spatial), split into `devices` parts of equally many samples; all else as in `batch_norm`, whose
other rules a split batch follows too.
"""

import numpy as np
from numpy.typing import NDArray

from normspec.reference import batch_norm
from normspec.reference.batch_norm import along_channels, statistics
from normspec.reference.rules import ARTICLE, Rules

Array = NDArray[np.float64]


def train_split(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    *,
    devices: int,
    momentum: float,
    eps: float,
    rules: Rules = ARTICLE,
) -> tuple[Array, Array, Array]:
    """y of the whole batch, of x's shape, and the new running mean and variance, (C,) each."""
    given = weight, bias, running_mean, running_var
    y, mean, var = batch_norm.train(x, *given, momentum=momentum, eps=eps, rules=rules)
    parts = np.split(x, devices)
    if rules.split in ("each by itself", "states averaged"):
        ys, means, variances = zip(
            *(batch_norm.train(part, *given, momentum=momentum, eps=eps, rules=rules) for part in parts), strict=True
        )
        first = rules.split == "each by itself"
        state = (all_[0] if first else np.mean(all_, axis=0) for all_ in (means, variances))
        return np.concatenate(ys), *state
    m = x.size // x.shape[1]
    if rules.split == "divisor of one":
        of_one = m // devices
        tracked = (statistics(x).var * (of_one / (of_one - 1))).ravel()
        return y, mean, (1 - momentum) * running_var + momentum * tracked
    if rules.split == "variances averaged":
        within = np.mean([statistics(part).var for part in parts], axis=0).ravel()
        y = batch_norm.evaluate(x, weight, bias, statistics(x).mean.ravel(), within, eps=eps, rules=rules)
        return y, mean, (1 - momentum) * running_var + momentum * within * (m / (m - 1))
    return y, mean, var


def train_split_gradients(
    x: Array, weight: Array, bias: Array, dy: Array, *, devices: int, eps: float, rules: Rules = ARTICLE
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,), of the sum of dy * y over all devices."""
    dx, dweight, dbias = batch_norm.train_gradients(x, weight, bias, dy, eps=eps, rules=rules)
    parts = list(zip(np.split(x, devices), np.split(dy, devices), strict=True))
    if rules.split in ("each by itself", "states averaged"):
        alone = [batch_norm.train_gradients(part, weight, bias, g, eps=eps, rules=rules) for part, g in parts]
        dxs, dweights, dbiases = zip(*alone, strict=True)
        return np.concatenate(dxs), np.sum(dweights, axis=0), np.sum(dbiases, axis=0)
    if rules.split == "gradient through one":
        x_hat, root = batch_norm.normalize(statistics(x), eps, rules)
        g = along_channels(weight, x.ndim) * dy
        axes = (0, *range(2, x.ndim))
        own = [
            g_ - g_.mean(axes, keepdims=True) - h * (g_ * h).mean(axes, keepdims=True)
            for g_, h in zip(np.split(g, devices), np.split(x_hat, devices), strict=True)
        ]
        return root * np.concatenate(own), dweight, dbias
    share = 1 / devices if rules.split == "gradients averaged" else 1.0
    return dx, dweight * share, dbias * share
