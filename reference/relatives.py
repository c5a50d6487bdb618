"""The relatives of batch norm, in float64, under any `Rules` (section 4): the same formulas over other values.

Most normalize within a sample, whatever else is in the batch, and have no running statistics: training and evaluation
are the same. Layer norm: Ba et al. 2016 (arXiv 1607.06450). Instance norm: Ulyanov et al. 2016 (1607.08022). Group
norm: Wu & He 2018 (1803.08494). RMS norm: Zhang & Sennrich 2019 (1910.07467). Weight norm does so with weights:
Salimans & Kingma 2016 (1602.07868). Two stay with the batch and measure its deviation in another way: L1 batch norm,
Wu et al. 2018 (1802.09769), and generalized batch norm, Yuan et al. 2018 (1812.03271).

Arguments are anything array-like and become float64; what is undefined is NaN, as in `batch_norm`: the statistics of no
values, and the direction of a v that is 0 in weight norm.

Erratum: the article counts the values of a group as G x H x W. Wu & He make G groups, each of (C / G) x H x W values.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normspec.reference.article import Array
from normspec.reference.batch_norm import floats, normalized, statistics, train_gradients
from normspec.reference.places import Whole
from normspec.reference.rivals import AFFINE
from normspec.reference.rules import Rules

LAYER = Rules(axes="sample")
INSTANCE = Rules(axes="sample and channel")
GROUP = INSTANCE  # the groups take the channels' place
RMS = Rules(axes="sample", center="zero")
WEIGHT = Rules(axes="sample and channel", center="zero", eps_rule="absent")
L1 = Rules(deviation="mean absolute", eps_rule="outside")
GENERALIZED = Rules(center="as asked", deviation="as asked")


def rows(x: Array, weight: Array) -> Array:
    """x as samples in the shape of `weight`, which layer norm has for its last axes."""
    return x.reshape(math.prod(x.shape[: x.ndim - weight.ndim]), *weight.shape)


def grouped(x: Array, num_groups: int, rules: Rules = GROUP) -> Array:
    """x of (N, C, *spatial) as (N, G, C / G, *spatial), or parameters of (C,) as (G, C / G)."""
    per_channel = x.ndim == 1
    x = x[None] if per_channel else x
    samples, channels, *spatial = x.shape
    count = channels // num_groups if rules.grouping == "of that size" else num_groups
    if rules.grouping == "interleaved":
        split = x.reshape(samples, channels // count, count, *spatial).swapaxes(1, 2)
    else:
        split = x.reshape(samples, count, channels // count, *spatial)
    return split[0] if per_channel else split


def ungrouped(split: Array, rules: Rules = GROUP) -> Array:
    """The inverse of `grouped`."""
    split = split.swapaxes(1, 2) if rules.grouping == "interleaved" else split
    return split.reshape(split.shape[0], split.shape[1] * split.shape[2], *split.shape[3:])


def layer_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, *, eps: float, rules: Rules = LAYER) -> Array:
    """y of x's shape: over the last axes, those that weight and bias have, one sample at a time."""
    x, weight, bias = floats(x, weight, bias)
    return normalized(rows(x, weight), weight, bias, eps=eps, rules=rules).reshape(x.shape)


def rms_norm(x: ArrayLike, weight: ArrayLike, *, eps: float, rules: Rules = RMS) -> Array:
    """y = weight * x / sqrt(mean(x^2) + eps): layer norm without center and bias."""
    x, weight = floats(x, weight)
    return layer_norm(x, weight, np.zeros_like(weight), eps=eps, rules=rules)


def instance_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, *, eps: float, rules: Rules = INSTANCE) -> Array:
    """y of x's shape (N, C, *spatial): over space, one sample and channel at a time; weight and bias (C,)."""
    return normalized(x, weight, bias, eps=eps, rules=rules)


def group_norm(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, *, num_groups: int, eps: float, rules: Rules = GROUP
) -> Array:
    """y of x's shape (N, C, *spatial): over C / G neighbouring channels and space, one sample at a time."""
    x, weight, bias = floats(x, weight, bias)
    split = (grouped(a, num_groups, rules) for a in (x, weight, bias))
    return ungrouped(normalized(*split, eps=eps, rules=rules), rules)


def layer_norm_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, eps: float, rules: Rules = LAYER
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias of weight's: batch norm's formulas, over the sample's own values."""
    x, weight, bias, dy = floats(x, weight, bias, dy)
    dx, dweight, dbias = train_gradients(rows(x, weight), weight, bias, rows(dy, weight), eps=eps, rules=rules)
    return dx.reshape(x.shape), dweight, dbias


def rms_norm_gradients(
    x: ArrayLike, weight: ArrayLike, dy: ArrayLike, *, eps: float, rules: Rules = RMS
) -> tuple[Array, Array]:
    """dx and dweight."""
    x, weight, dy = floats(x, weight, dy)
    return layer_norm_gradients(x, weight, np.zeros_like(weight), dy, eps=eps, rules=rules)[:2]


def instance_norm_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, eps: float, rules: Rules = INSTANCE
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,)."""
    return train_gradients(x, weight, bias, dy, eps=eps, rules=rules)


def group_norm_gradients(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    dy: ArrayLike,
    *,
    num_groups: int,
    eps: float,
    rules: Rules = GROUP,
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,)."""
    x, weight, bias, dy = floats(x, weight, bias, dy)
    split = (grouped(a, num_groups, rules) for a in (x, weight, bias, dy))
    dx, *parameters = train_gradients(*split, eps=eps, rules=rules)
    dweight, dbias = (ungrouped(p[None], rules)[0] for p in parameters)
    return ungrouped(dx, rules), dweight, dbias


def units(v: Array, g: Array, rules: Rules = WEIGHT) -> tuple[Array, Array, Rules]:
    """Weight norm as RMS norm: v as one sample, a unit a channel, the weight of each, and the rules without it.

    g v / |v| is g / sqrt(n) times v over its root mean square, n being the number of values in the norm.
    """
    rows = v.reshape(1, len(v), math.prod(v.shape[1:]))
    gain, _ = AFFINE[rules.affine](g, np.zeros_like(g), Whole(rows.shape, g.shape))
    return rows, gain / _root_of_size(rows, rules), replace(rules, affine="scale, then shift")


def _root_of_size(rows: Array, rules: Rules) -> Array:
    """sqrt(n); of a norm of no values 1, as there is nothing to scale."""
    root: Array = np.sqrt(np.maximum(statistics(rows, rules).size, 1))
    return root


def weight_norm(v: ArrayLike, g: ArrayLike, *, rules: Rules = WEIGHT) -> Array:
    """w = g v / |v| of v's shape (units, ...), with one g and one norm a unit (Salimans & Kingma 2016, equation 2)."""
    v, g = floats(v, g)
    rows, weight, plain = units(v, g, rules)
    return normalized(rows, weight, np.zeros_like(g), eps=0.0, rules=plain).reshape(v.shape)


def weight_norm_gradients(v: ArrayLike, g: ArrayLike, dw: ArrayLike, *, rules: Rules = WEIGHT) -> tuple[Array, Array]:
    """dv of v's shape and dg (units,): dg = dw . v / |v|, dv = g / |v| (dw - dg v / |v|) (there, equation 3)."""
    v, g, dw = floats(v, g, dw)
    rows, weight, plain = units(v, g, rules)
    dv, dweight, _ = train_gradients(rows, weight, np.zeros_like(g), dw.reshape(rows.shape), eps=0.0, rules=plain)
    return dv.reshape(v.shape), dweight / _root_of_size(rows, rules)


def l1_batch_norm(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, *, eps: float, rules: Rules = L1) -> Array:
    """y = weight * (x - mean) / (mean|x - mean| + eps) + bias, of batch norm's shapes (Wu et al. 2018, section 3)."""
    return normalized(x, weight, bias, eps=eps, rules=rules)


def l1_batch_norm_gradients(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike, dy: ArrayLike, *, eps: float, rules: Rules = L1
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias, through mean and mean absolute deviation."""
    return train_gradients(x, weight, bias, dy, eps=eps, rules=rules)


def as_asked(rules: Rules, center: str, deviation: str) -> Rules:
    """The rules with a center and a deviation filled in, where they leave them to be asked for."""
    asked: dict[str, Any] = {"center": center, "deviation": deviation}
    return replace(rules, **{name: value for name, value in asked.items() if getattr(rules, name) == "as asked"})


def generalized_batch_norm(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    *,
    center: str,
    deviation: str,
    eps: float,
    rules: Rules = GENERALIZED,
) -> Array:
    """y = weight * (x - S) / sqrt(D^2 + eps) + bias with S a statistic of each channel and D its deviation from it.

    With S the mean and D the standard deviation this is batch norm (Yuan et al. 2018). `rules` names what there is.
    """
    return normalized(x, weight, bias, eps=eps, rules=as_asked(rules, center, deviation))


def generalized_batch_norm_gradients(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    dy: ArrayLike,
    *,
    center: str,
    deviation: str,
    eps: float,
    rules: Rules = GENERALIZED,
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias, through S and D."""
    return train_gradients(x, weight, bias, dy, eps=eps, rules=as_asked(rules, center, deviation))
