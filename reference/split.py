"""A training batch split over devices (section 4): the article's batch norm of the whole batch, and what else is done.

x and dy are (N, C, *spatial), split into `devices` parts of equally many samples, else ValueError; all else as in
`batch_norm`, whose other rules a split batch follows too.
"""

import numpy as np
from numpy.typing import ArrayLike

from normspec.reference import batch_norm
from normspec.reference.article import Array
from normspec.reference.batch_norm import Running, along_channels, floats, statistics
from normspec.reference.places import mean_over
from normspec.reference.rivals import correction
from normspec.reference.rules import ARTICLE, Rules

_silent = np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")  # as in batch_norm


@_silent
def train_split(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    *,
    devices: int,
    momentum: float,
    eps: float,
    rules: Rules = ARTICLE,
) -> tuple[Array, Array, Array]:
    """y of the whole batch, of x's shape, and the new running mean and variance, (C,) each."""
    x, weight, bias, running_mean, running_var = floats(x, weight, bias, running_mean, running_var)
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
    old, m = Running(running_mean, running_var), statistics(x).size
    if rules.split == "divisor of one":
        tracked = (statistics(x).var * correction(m // devices, 1)).ravel()
        return y, mean, batch_norm.update(old, old._replace(var=tracked), momentum).var
    if rules.split == "variances averaged":
        within = np.mean([statistics(part).var for part in parts], axis=0).ravel()
        y = batch_norm.evaluate(x, weight, bias, statistics(x).mean.ravel(), within, eps=eps, rules=rules)
        return y, mean, batch_norm.update(old, old._replace(var=within * correction(m, 1)), momentum).var
    return y, mean, var


@_silent
def train_split_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, devices: int, eps: float, rules: Rules = ARTICLE
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,), of the sum of dy * y over all devices."""
    x, weight, bias, dy = floats(x, weight, bias, dy)
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
            g_ - mean_over(g_, axes) - h * mean_over(g_ * h, axes)
            for g_, h in zip(np.split(g, devices), np.split(x_hat, devices), strict=True)
        ]
        return root * np.concatenate(own), dweight, dbias
    share = 1 / devices if rules.split == "gradients averaged" else 1.0
    return dx, dweight * share, dbias * share
