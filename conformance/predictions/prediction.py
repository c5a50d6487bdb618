"""What a backend that follows given rules must return: for every result its value and how far rounding may move it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec import reference
from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Inputs
from normspec.conformance.predictions import bounds
from normspec.reference import ARTICLE, Rules
from normspec.reference.batch_norm import (
    along_channels,
    center_share,
    mean_over,
    parameter_axes,
    reduced_axes,
    scale_and_shift,
    tracked,
    tracked_correction,
)

Array = NDArray[np.float64]

# Where 1 / sqrt(var + eps) is so large or small that its cube leaves the inner format, gradients promise nothing.
GRADIENT_ROOTS = {2.0**-53: (1e-90, 1e90), 2.0**-24: (1e-10, 1e12), 2.0**-8: (1e-10, 1e12), 2.0**-11: (1e-2, 1e1)}


class Expected(NamedTuple):
    """A predicted array and its element-wise bound; where the bound is not finite the element is undecided."""

    value: Array
    bound: Array


Prediction = Mapping[str, Expected]


@np.errstate(all="ignore")
def train(
    given: Inputs,
    rules: Rules,
    arithmetic: Arithmetic,
    *,
    eps: float,
    momentum: float | None,
    step: int = 1,
    previous: Array | None = None,
    carried: tuple[Array | float, Array | float] = (0.0, 0.0),
) -> dict[str, Expected]:
    """y, running_mean and running_var after one training step; `carried` bounds the error of the given state."""
    x, weight, bias, old_mean, old_var, _ = given
    state = (old_mean, old_var)
    y, new_mean, new_var = reference.train(
        x, weight, bias, *state, momentum=momentum, eps=eps, rules=rules, step=step, previous=previous
    )
    groups = reference.statistics(x, rules)
    error = bounds.of_statistics(x, groups, rules, arithmetic)
    if rules.training_statistics == "batch":
        y_bound = _output_bound(given, groups, error, y, rules, arithmetic, eps)
    else:
        used = state if rules.training_statistics == "running before" else (new_mean, new_var)
        y_bound = _constant_bound(given, *used, y, rules, arithmetic, eps)
    channels, axes = x.shape[1], reduced_axes(x.ndim, "channel")
    mean_error, var_error = (_by_channel(e, channels) for e in (error.mean, error.var))
    average = 0.0
    if (count := groups.mean.size // channels) > 1:  # a channel's are averages over its groups, the old state's too
        average = bounds.growth(count, arithmetic)
        mean_error = mean_error + average * _by_channel(abs(groups.mean) + error.mean, channels)
        var_error = var_error + average * _by_channel(groups.var + error.var, channels)
    if rules.tracked_of == "output":
        mean_error = mean_error + mean_over(y_bound, axes).ravel()
        var_error = var_error + mean_over(y_bound * (2 * abs(y) + y_bound), axes).ravel()
    batch = tracked(x, groups, eps, rules)
    if rules.tracked_of == "output":
        batch = tracked(y, reference.statistics(y, rules), eps, rules)
    var_error = (var_error + 2 * bounds.steps(arithmetic) * batch.var) * tracked_correction(len(x), groups.size, rules)
    # Only the article's own mixture is known to weigh the batch by momentum; a rival may weigh it by up to 1.
    weight_of_batch = momentum if momentum is not None and rules.update == "article" else 1.0
    mean_bound, var_bound = (
        bounds.of_running(o, b, e, n, weight_of_batch, arithmetic, np.asarray(c) + average * abs(o))
        for o, b, e, n, c in zip(state, batch, (mean_error, var_error), (new_mean, new_var), carried, strict=True)
    )
    return {
        "y": Expected(y, y_bound),
        "running_mean": Expected(new_mean, mean_bound),
        "running_var": Expected(new_var, var_bound),
    }


@np.errstate(all="ignore")
def normalized(given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float) -> dict[str, Expected]:
    """y of what keeps no running statistics; weight and bias lie on axis 1 of x and those behind."""
    x, weight, bias, *_ = given
    y = reference.relatives.normalized(x, weight, bias, eps=eps, rules=rules)
    groups = reference.statistics(x, rules)
    error = bounds.of_statistics(x, groups, rules, arithmetic)
    return {"y": Expected(y, _output_bound(given, groups, error, y, rules, arithmetic, eps))}


@np.errstate(all="ignore")
def evaluate(given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float) -> dict[str, Expected]:
    """y of an evaluation."""
    x, weight, bias, mean, var, _ = given
    y = reference.evaluate(x, weight, bias, mean, var, eps=eps, rules=rules)
    if rules.evaluation_statistics == "running":
        bound = _constant_bound(given, mean, var, y, rules, arithmetic, eps)
    else:
        groups = reference.statistics(x, rules)
        error = bounds.of_statistics(x, groups, rules, arithmetic)
        bound = np.maximum(
            _output_bound(given, groups, error, y, rules, arithmetic, eps),
            _constant_bound(given, mean, var, y, rules, arithmetic, eps),
        )
    return {"y": Expected(y, bound)}


@np.errstate(all="ignore")
def train_gradients(given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float) -> dict[str, Expected]:
    """dx, dweight and dbias through the batch's own statistics."""
    x, weight, bias, _, _, dy = given
    dx, dweight, dbias = reference.train_gradients(x, weight, bias, dy, eps=eps, rules=rules)
    axes, every = reduced_axes(x.ndim, rules.axes), parameter_axes(x.ndim, weight)
    groups = reference.statistics(x, rules)
    error = bounds.of_statistics(x, groups, rules, arithmetic)
    var, var_error = _normalizing(groups, error, rules, arithmetic)
    root_error, largest = _root(var, var_error, eps, arithmetic, rules)
    exact_root = reference.inverse_root(var, eps, rules) if rules.scaled else np.ones_like(var)
    shown = groups.centered if rules.centered else x
    x_hat = shown * exact_root
    x_hat_error = bounds.of_normalized(x, groups.mean, shown, error.mean, (root_error, largest), arithmetic)
    u, sums = bounds.steps(arithmetic), error.growth + 4 * bounds.steps(arithmetic)

    d, reach = abs(shown), abs(x) + abs(groups.mean)
    scale, _ = scale_and_shift(weight, bias, x.shape, rules)
    g = scale * dy
    share = center_share(x, rules)
    a, g_mean, q = abs(g), share * mean_over(g, axes), mean_over(g * x_hat, axes)
    g_mean_error = share * sums * mean_over(a, axes)
    q_error = (
        largest * (error.mean * abs(mean_over(g, axes)) + sums * mean_over(a * (d + error.mean + reach), axes))
        + abs(q) * root_error / exact_root
    )
    if rules.deviation == "standard":
        slope, slope_error = x_hat, x_hat_error + largest * (error.mean + error.growth * mean_over(d, axes))
    else:
        slope, slope_error = _slope(x, groups, error, (exact_root, root_error), eps, rules, arithmetic)
    inner = largest * (
        g_mean_error
        + (abs(slope) + slope_error) * q_error
        + abs(q) * slope_error
        + 4 * u * (a + abs(g_mean) + abs(slope * q))
    )
    inner = inner + abs(g - g_mean - slope * q) * root_error
    # What underflows on the way, in the format of the steps, may meet x, not only x-hat, and the root's cube.
    tiny = arithmetic.inner.tiny
    inner = inner + 4 * tiny * (1 + largest) ** 3 * (1 + abs(x_hat) + reach / groups.size)
    if arithmetic.one_pass:  # a variance clipped at 0 passes no gradient
        inner = inner + np.where(error.var >= var, largest * abs(slope * q), 0.0)
    if arithmetic.parts:
        parts = a + abs(g_mean) + (abs(slope) + slope_error) * (abs(q) + q_error)
        inner = inner + 4 * arithmetic.result.roundoff * largest * parts
    room = _room_for_gradients(x, a, exact_root, axes, arithmetic)

    total, weighed = abs(dy), abs(dy) * (d + np.asarray(error.mean) + reach)
    if axes == every:
        of_weight = (largest * error.mean).reshape(dweight.shape) * abs(dy.sum(every))
        of_weight = of_weight + largest.reshape(dweight.shape) * sums * weighed.sum(every)
        of_weight = of_weight + abs(dweight) * (root_error / exact_root).reshape(dweight.shape)
    else:
        of_weight = (total * x_hat_error + sums * total * (abs(x_hat) + x_hat_error)).sum(every)
    if rules.weight_gradient == "of raw x":
        of_weight = of_weight + sums * (total * abs(x)).sum(every)
    parameter_room = np.broadcast_to(room, x.shape).max(every)
    of_parameters = _of_parameters(given, (dweight, dbias), (of_weight, sums * total.sum(every)), rules, arithmetic)
    undefined = np.isnan(dx) & (groups.var == 0)  # the root itself has no slope at 0: any dx will do
    of_dx = bounds.stored(dx, inner, arithmetic.result) * room
    return {
        "dx": Expected(np.where(undefined, 0.0, dx), np.where(undefined, np.inf, of_dx)),
        "dweight": Expected(dweight, of_parameters[0] * parameter_room),
        "dbias": Expected(dbias, of_parameters[1]),
    }


@np.errstate(all="ignore")
def evaluate_gradients(given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float) -> dict[str, Expected]:
    """dx, dweight and dbias where the statistics are constants."""
    if rules.evaluation_gradient == "training formula":
        return train_gradients(given, rules, arithmetic, eps=eps)
    x, weight, bias, mean, var, dy = given
    dx, dweight, dbias = reference.evaluate_gradients(x, weight, bias, mean, var, dy, eps=eps, rules=rules)
    every = reduced_axes(x.ndim, "channel")
    u, sums = bounds.steps(arithmetic), bounds.growth(x.size // x.shape[1], arithmetic) + 4 * bounds.steps(arithmetic)
    kept_eps = 0.0 if rules.folded == "eps lost" else eps
    largest = _root(var, np.zeros_like(var), kept_eps, arithmetic, rules)[1]
    spread = abs(x - along_channels(mean, x.ndim)) + abs(x) + abs(along_channels(mean, x.ndim))
    raw = (abs(dy) * abs(x)).sum(every) if rules.weight_gradient == "of raw x" else 0.0
    of_weight = sums * (largest * (abs(dy) * spread).sum(every) + raw) + 6 * u * abs(dweight)
    underflow = 4 * arithmetic.inner.tiny * (1 + abs(dy)) * (1 + along_channels(largest, x.ndim))
    of_bias = sums * abs(dy).sum(every)
    of_parameters = _of_parameters(given, (dweight, dbias), (of_weight, of_bias), rules, arithmetic)
    return {
        "dx": Expected(dx, bounds.stored(dx, 9 * u * abs(dx) + underflow, arithmetic.result)),
        "dweight": Expected(dweight, of_parameters[0]),
        "dbias": Expected(dbias, of_parameters[1]),
    }


def _of_parameters(
    given: Inputs,
    values: tuple[Array, Array],
    errors: tuple[Array, Array],
    rules: Rules,
    arithmetic: Arithmetic,
) -> tuple[Array, Array]:
    """For dweight and dbias, from the errors of the sums of dy * x-hat and of dy: by the same map, in magnitudes."""
    weight, bias = abs(given.weight), abs(given.bias)
    of_x_hat, of_one = errors
    if rules.affine == "weight by position":  # its sums cut across the channels
        of_x_hat = np.full_like(of_x_hat, of_x_hat.sum())
    if rules.weight_gradient == "times weight":
        of_x_hat = of_x_hat * weight
    if rules.bias_gradient == "times weight":
        of_one = of_one * weight
    mapped = reference.affine_gradients(of_x_hat, of_one, weight, bias, rules)
    # The article's own map is the identity and costs nothing; a rival's takes a product and a sum.
    steps = 0.0 if rules.affine == ARTICLE.affine else 3 * bounds.steps(arithmetic)
    dweight, dbias = (
        bounds.stored(value, error + steps * (abs(value) + error), arithmetic.kept)
        for value, error in zip(values, mapped, strict=True)
    )
    return dweight, dbias


def _slope(
    x: Array,
    groups: reference.Groups,
    error: bounds.StatisticsError,
    roots: tuple[Array, Array],
    eps: float,
    rules: Rules,
    arithmetic: Arithmetic,
) -> tuple[Array, Array]:
    """What mean(g x-hat) meets in dx where the deviation is not the standard one, and its error.

    It is made of signs and of places. Where rounding may turn a sign nothing is promised of that element, and its share
    of the group's mean sign is open; where values tie for a place, of the group.
    """
    root, root_error = roots
    axes = reduced_axes(x.ndim, rules.axes)
    sensitivity = reference.root_sensitivity(groups.var, eps, root, rules)
    slope = reference.variance_share(x, groups, rules) * root * sensitivity
    relative = 2 * root_error / root + error.var / groups.var + 8 * bounds.steps(arithmetic)
    places: Array = np.ones(x.shape) * reference.center_share(x, rules)
    tied = mean_over(places, axes) > 1.25  # 1 without ties, 1.5 where one of two middle values is doubled
    if rules.deviation == "half range":
        c = groups.centered
        ends = np.add(c == c.max(axes, keepdims=True), c == c.min(axes, keepdims=True), dtype=np.float64)
        return slope, np.where(tied | (mean_over(ends, axes) * groups.size > 2.5), np.inf, abs(slope) * relative)
    height = np.sqrt(groups.var) * root * sensitivity  # of a sign
    open_signs = (abs(groups.centered) <= 2 * error.mean + 4 * bounds.steps(arithmetic) * abs(x)).astype(np.float64)
    of_mean = 2 * mean_over(open_signs, axes) + error.growth + 4 * bounds.steps(arithmetic)
    of_signs = height * (2 * open_signs + places * of_mean)
    return slope, np.where(tied, np.inf, abs(slope) * relative + 2 * of_signs)


def _root(var: Array, error: Array, eps: float, arithmetic: Arithmetic, rules: Rules) -> tuple[Array, Array]:
    """Error and largest value of what centered values are multiplied by."""
    if not rules.scaled:
        return np.zeros_like(var), np.ones_like(var)
    return bounds.of_root(var, error, eps, arithmetic, rules)


def _normalizing(
    groups: reference.Groups, error: bounds.StatisticsError, rules: Rules, arithmetic: Arithmetic
) -> tuple[Array, Array]:
    """The variance that normalizes, and the bound on its error."""
    if rules.ddof == 0:
        return groups.var, error.var
    correction = groups.size / (groups.size - 1) if groups.size > 1 else np.inf
    return groups.var * correction, (error.var + 2 * bounds.steps(arithmetic) * groups.var) * correction


def _output_bound(
    given: Inputs,
    groups: reference.Groups,
    error: bounds.StatisticsError,
    y: Array,
    rules: Rules,
    arithmetic: Arithmetic,
    eps: float,
) -> Array:
    """For y where the statistics are taken from the batch."""
    x = given.x
    root = _root(*_normalizing(groups, error, rules, arithmetic), eps, arithmetic, rules)
    centered = groups.centered if rules.centered else x
    x_hat = reference.normalize(groups, eps, rules)[0]
    of_x_hat = bounds.of_normalized(x, groups.mean, centered, error.mean, root, arithmetic)
    return bounds.of_output(x_hat, of_x_hat, *scale_and_shift(given.weight, given.bias, x.shape, rules), y, arithmetic)


def _constant_bound(
    given: Inputs, mean: Array, var: Array, y: Array, rules: Rules, arithmetic: Arithmetic, eps: float
) -> Array:
    """For y where the statistics are given."""
    x = given.x
    mean, var = along_channels(mean, x.ndim), along_channels(var, x.ndim)
    root = _root(var, np.zeros_like(var), eps, arithmetic, rules)
    shown = x - mean if rules.centered else x
    x_hat = shown * (reference.inverse_root(var, eps, rules) if rules.scaled else 1.0)
    of_x_hat = bounds.of_normalized(x, mean, shown, 0.0, root, arithmetic)
    return bounds.of_output(x_hat, of_x_hat, *scale_and_shift(given.weight, given.bias, x.shape, rules), y, arithmetic)


def _room_for_gradients(x: Array, a: Array, root: Array, axes: tuple[int, ...], arithmetic: Arithmetic) -> Array:
    """1 where the products of a gradient stay inside the inner format, infinite elsewhere; a value a group."""
    low, high = GRADIENT_ROOTS[arithmetic.inner.roundoff]
    size = x.size // root.size
    peak, steepest = abs(x).max(axes, keepdims=True), a.max(axes, keepdims=True)
    product = (1 + peak * root) ** 2 * (1 + root) * steepest * root * (1 + size**0.5) * size
    inside = (root >= low) & (root <= high) & (product < arithmetic.inner.largest / 8)
    return np.where(inside, 1.0, np.inf)


def _by_channel(values: Array, channels: int) -> Array:
    """A value of each group as one a channel: the largest that the channel meets."""
    return np.broadcast_to(values.max(reduced_axes(values.ndim, "channel")), channels)
