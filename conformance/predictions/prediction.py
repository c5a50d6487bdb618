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
    center_share,
    groups_of,
    kept_eps,
    scale_and_shift,
    spread,
    tracked,
    tracked_correction,
)
from normspec.reference.places import Count, Groups, Places, Whole
from normspec.reference.rivals import correction

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
    eps: Count,
    momentum: Count | None,
    step: Count = 1,
    previous: Array | None = None,
    carried: tuple[Count, Count] = (0.0, 0.0),
    places: Places | None = None,
    places_before: Places | None = None,
) -> dict[str, Expected]:
    """y, running_mean and running_var after one training step; `carried` bounds the error of the given state."""
    x, weight, bias, old_mean, old_var, _ = given
    places, state = places or Whole(x.shape, weight.shape), (old_mean, old_var)
    y, new_mean, new_var = reference.train(
        x,
        weight,
        bias,
        old_mean,
        old_var,
        momentum=momentum,
        eps=eps,
        rules=rules,
        step=step,
        previous=previous,
        places=places,
        places_before=places_before,
    )
    stats, groups = reference.statistics(x, rules, places), groups_of(x, rules, places)
    error = bounds.of_statistics(x, stats, groups, rules, arithmetic)
    if rules.training_statistics == "batch":
        y_bound = _output_bound(given, stats, error, y, rules, arithmetic, eps, places)
    else:
        used = state if rules.training_statistics == "running before" else (new_mean, new_var)
        y_bound = _constant_bound(given, *used, y, rules, arithmetic, eps, places)
    mean_error, var_error = places.most(error.mean), places.most(error.var)
    average: Count = 0.0
    if rules.axes != "channel":  # a channel's are averages over its groups, the old state's too
        count = places.groups_met(rules.axes, rules.grouping)
        average = np.where(np.greater(count, 1), bounds.growth(count, arithmetic), 0.0)
        mean_error = mean_error + average * places.most(abs(stats.mean) + error.mean)
        var_error = var_error + average * places.most(stats.var + error.var)
    if rules.tracked_of == "output":
        mean_error = mean_error + places.average(y_bound)
        var_error = var_error + places.average(y_bound * (2 * abs(y) + y_bound))
    batch = tracked(x, stats, eps, rules, places)
    if rules.tracked_of == "output":
        batch = tracked(y, reference.statistics(y, rules, places), eps, rules, places)
    var_error = (var_error + 2 * bounds.steps(arithmetic) * batch.var) * tracked_correction(stats, rules, places)
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
def normalized(
    given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: Count, places: Places | None = None
) -> dict[str, Expected]:
    """y of what keeps no running statistics; weight and bias lie on axis 1 of x and those behind."""
    x, weight, bias, *_ = given
    places = places or Whole(x.shape, weight.shape)
    y = reference.normalized(x, weight, bias, eps=eps, rules=rules, places=places)
    stats = reference.statistics(x, rules, places)
    error = bounds.of_statistics(x, stats, groups_of(x, rules, places), rules, arithmetic)
    return {"y": Expected(y, _output_bound(given, stats, error, y, rules, arithmetic, eps, places))}


@np.errstate(all="ignore")
def evaluate(
    given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: Count, places: Places | None = None
) -> dict[str, Expected]:
    """y of an evaluation."""
    x, weight, bias, mean, var, _ = given
    places = places or Whole(x.shape, weight.shape)
    y = reference.evaluate(x, weight, bias, mean, var, eps=eps, rules=rules, places=places)
    bound = _constant_bound(given, mean, var, y, rules, arithmetic, eps, places)
    if rules.evaluation_statistics != "running":
        stats = reference.statistics(x, rules, places)
        error = bounds.of_statistics(x, stats, groups_of(x, rules, places), rules, arithmetic)
        bound = np.maximum(_output_bound(given, stats, error, y, rules, arithmetic, eps, places), bound)
    return {"y": Expected(y, bound)}


@np.errstate(all="ignore")
def train_gradients(
    given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: Count, places: Places | None = None
) -> dict[str, Expected]:
    """dx, dweight and dbias through the batch's own statistics."""
    x, weight, bias, _, _, dy = given
    places = places or Whole(x.shape, weight.shape)
    dx, dweight, dbias = reference.train_gradients(x, weight, bias, dy, eps=eps, rules=rules, places=places)
    groups, stats = groups_of(x, rules, places), reference.statistics(x, rules, places)
    error = bounds.of_statistics(x, stats, groups, rules, arithmetic)
    var, var_error = _normalizing(stats, error, rules, arithmetic)
    eps_of_x = spread(eps, places)
    root_error, largest = _root(var, var_error, eps_of_x, arithmetic, rules)
    exact_root = reference.inverse_root(var, eps_of_x, rules) if rules.scaled else np.ones_like(var)
    shown = stats.centered if rules.centered else x
    x_hat = shown * exact_root
    x_hat_error = bounds.of_normalized(x, stats.mean, shown, error.mean, (root_error, largest), arithmetic)
    u, sums = bounds.steps(arithmetic), error.growth + 4 * bounds.steps(arithmetic)

    d, reach = abs(shown), abs(x) + abs(stats.mean)
    scale, _ = scale_and_shift(weight, bias, places, rules)
    g = dy if rules.input_gradient == "weight lost" else scale * dy
    share = center_share(x, rules, places)
    a, plain_mean, q = abs(g), groups.mean(g), groups.mean(g * x_hat)
    g_mean = share * plain_mean
    g_mean_error = share * sums * groups.mean(a)
    q_error = (
        largest * (error.mean * abs(plain_mean) + sums * groups.mean(a * (d + error.mean + reach)))
        + abs(q) * root_error / exact_root
    )
    if rules.deviation == "standard":
        slope, slope_error = x_hat, x_hat_error + largest * (error.mean + error.growth * groups.mean(d))
    else:
        slope, slope_error = _slope(x, stats, error, (exact_root, root_error), eps_of_x, rules, arithmetic, places)
    inner = largest * (
        g_mean_error
        + (abs(slope) + slope_error) * q_error
        + abs(q) * slope_error
        + 4 * u * (a + abs(g_mean) + abs(slope * q))
    )
    inner = inner + abs(g - g_mean - slope * q) * root_error
    # What underflows on the way, in the format of the steps, may meet x, not only x-hat, and the root's cube.
    tiny = arithmetic.inner.tiny
    inner = inner + 4 * tiny * (1 + largest) ** 3 * (1 + abs(x_hat) + reach / stats.size)
    if arithmetic.one_pass:  # a variance clipped at 0 passes no gradient
        inner = inner + np.where(error.var >= var, largest * abs(slope * q), 0.0)
    if arithmetic.parts:
        parts = a + abs(g_mean) + (abs(slope) + slope_error) * (abs(q) + q_error)
        inner = inner + 4 * arithmetic.result.roundoff * largest * parts
    room = _room_for_gradients(x, a, exact_root, stats.size, groups, arithmetic)

    total, weighed = abs(dy), abs(dy) * (d + error.mean + reach)
    if rules.axes == "channel" and rules.grouping == "contiguous" and places.one_axis:
        of_weight = places.most(largest * error.mean) * abs(places.total(dy))
        of_sums = places.most(np.asarray(sums)) if isinstance(sums, np.ndarray) and sums.ndim else sums
        of_weight = of_weight + places.most(largest) * of_sums * places.total(weighed)
        of_weight = of_weight + abs(dweight) * places.most(root_error / exact_root)
    else:
        of_weight = places.total(total * x_hat_error + sums * total * (abs(x_hat) + x_hat_error))
    if rules.weight_gradient == "of raw x":
        of_weight = of_weight + places.total(sums * total * abs(x))
    parameter_room = places.most(room)
    of_bias = places.total(sums * total)
    of_parameters = _of_parameters(given, (dweight, dbias), (of_weight, of_bias), rules, arithmetic, places)
    undefined = np.isnan(dx) & (stats.var == 0)  # the root itself has no slope at 0: any dx will do
    of_dx = bounds.stored(dx, inner, arithmetic.result) * room
    return {
        "dx": Expected(np.where(undefined, 0.0, dx), np.where(undefined, np.inf, of_dx)),
        "dweight": Expected(dweight, of_parameters[0] * parameter_room),
        "dbias": Expected(dbias, of_parameters[1]),
    }


@np.errstate(all="ignore")
def evaluate_gradients(
    given: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: Count, places: Places | None = None
) -> dict[str, Expected]:
    """dx, dweight and dbias where the statistics are constants."""
    if rules.evaluation_gradient == "training formula":
        return train_gradients(given, rules, arithmetic, eps=eps, places=places)
    x, weight, bias, mean, var, dy = given
    places = places or Whole(x.shape, weight.shape)
    dx, dweight, dbias = reference.evaluate_gradients(
        x, weight, bias, mean, var, dy, eps=eps, rules=rules, places=places
    )
    u, sums = bounds.steps(arithmetic), bounds.growth(places.shared, arithmetic) + 4 * bounds.steps(arithmetic)
    largest = _root(var, np.zeros_like(var), kept_eps(eps, rules), arithmetic, rules)[1]
    mean_of_x = places.spread(mean)
    reach = abs(x - mean_of_x) + abs(x) + abs(mean_of_x)
    raw = places.total(abs(dy) * abs(x)) if rules.weight_gradient == "of raw x" else 0.0
    of_weight = sums * (largest * places.total(abs(dy) * reach) + raw) + 6 * u * abs(dweight)
    underflow = 4 * arithmetic.inner.tiny * (1 + abs(dy)) * (1 + places.spread(largest))
    of_bias = sums * places.total(abs(dy))
    of_parameters = _of_parameters(given, (dweight, dbias), (of_weight, of_bias), rules, arithmetic, places)
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
    places: Places,
) -> tuple[Array, Array]:
    """For dweight and dbias, from the errors of the sums of dy * x-hat and of dy: by the same map, in magnitudes."""
    weight, bias = abs(given.weight), abs(given.bias)
    of_x_hat, of_one = errors
    if rules.affine == "weight by position":  # its sums cut across the channels
        of_x_hat = places.of_case(of_x_hat)
    if rules.weight_gradient == "times weight":
        of_x_hat = of_x_hat * weight
    if rules.bias_gradient == "times weight":
        of_one = of_one * weight
    mapped = reference.affine_gradients(of_x_hat, of_one, weight, bias, places, rules)
    # The article's own map is the identity and costs nothing; a rival's takes a product and a sum.
    steps = 0.0 if rules.affine == ARTICLE.affine else 3 * bounds.steps(arithmetic)
    dweight, dbias = (
        bounds.stored(value, error + steps * (abs(value) + error), arithmetic.kept)
        for value, error in zip(values, mapped, strict=True)
    )
    return dweight, dbias


def _slope(
    x: Array,
    stats: reference.Statistics,
    error: bounds.StatisticsError,
    roots: tuple[Array, Array],
    eps: Count,
    rules: Rules,
    arithmetic: Arithmetic,
    places: Places,
) -> tuple[Array, Array]:
    """What mean(g x-hat) meets in dx where the deviation is not the standard one, and its error.

    It is made of signs and of places. Where rounding may turn a sign nothing is promised of that element, and its share
    of the group's mean sign is open; where values tie for a place, of the group.
    """
    root, root_error = roots
    groups = groups_of(x, rules, places)
    sensitivity = reference.root_sensitivity(stats.var, eps, root, rules)
    slope = reference.variance_share(x, stats, rules, places) * root * sensitivity
    relative = 2 * root_error / root + error.var / stats.var + 8 * bounds.steps(arithmetic)
    shares: Array = np.ones(x.shape) * reference.center_share(x, rules, places)
    tied = groups.mean(shares) > 1.25  # 1 without ties, 1.5 where one of two middle values is doubled
    if rules.deviation == "half range":
        c = stats.centered
        ends = np.add(c == groups.largest(c), c == groups.smallest(c), dtype=np.float64)
        return slope, np.where(tied | (groups.mean(ends) * stats.size > 2.5), np.inf, abs(slope) * relative)
    height = np.sqrt(stats.var) * root * sensitivity  # of a sign
    open_signs = (abs(stats.centered) <= 2 * error.mean + 4 * bounds.steps(arithmetic) * abs(x)).astype(np.float64)
    of_mean = 2 * groups.mean(open_signs) + error.growth + 4 * bounds.steps(arithmetic)
    of_signs = height * (2 * open_signs + shares * of_mean)
    return slope, np.where(tied, np.inf, abs(slope) * relative + 2 * of_signs)


def _root(var: Array, error: Array, eps: Count, arithmetic: Arithmetic, rules: Rules) -> tuple[Array, Array]:
    """Error and largest value of what centered values are multiplied by."""
    if not rules.scaled:
        return np.zeros_like(var), np.ones_like(var)
    return bounds.of_root(var, error, eps, arithmetic, rules)


def _normalizing(
    stats: reference.Statistics, error: bounds.StatisticsError, rules: Rules, arithmetic: Arithmetic
) -> tuple[Array, Array]:
    """The variance that normalizes, and the bound on its error."""
    if rules.ddof == 0:
        return stats.var, error.var
    factor = correction(stats.size, rules.ddof)
    return stats.var * factor, (error.var + 2 * bounds.steps(arithmetic) * stats.var) * factor


def _output_bound(
    given: Inputs,
    stats: reference.Statistics,
    error: bounds.StatisticsError,
    y: Array,
    rules: Rules,
    arithmetic: Arithmetic,
    eps: Count,
    places: Places,
) -> Array:
    """For y where the statistics are taken from the batch."""
    x, eps = given.x, spread(eps, places)
    root = _root(*_normalizing(stats, error, rules, arithmetic), eps, arithmetic, rules)
    centered = stats.centered if rules.centered else x
    x_hat = reference.normalize(stats, eps, rules)[0]
    of_x_hat = bounds.of_normalized(x, stats.mean, centered, error.mean, root, arithmetic)
    scale, shift = scale_and_shift(given.weight, given.bias, places, rules)
    return bounds.of_output(x_hat, of_x_hat, scale, shift, y, arithmetic)


def _constant_bound(
    given: Inputs, mean: Array, var: Array, y: Array, rules: Rules, arithmetic: Arithmetic, eps: Count, places: Places
) -> Array:
    """For y where the statistics are given."""
    x, mean_of_x = given.x, places.spread(mean)
    error, largest = map(places.spread, _root(var, np.zeros_like(var), eps, arithmetic, rules))
    shown = x - mean_of_x if rules.centered else x
    x_hat = shown * (places.spread(reference.inverse_root(var, eps, rules)) if rules.scaled else 1.0)
    of_x_hat = bounds.of_normalized(x, mean_of_x, shown, 0.0, (error, largest), arithmetic)
    scale, shift = scale_and_shift(given.weight, given.bias, places, rules)
    return bounds.of_output(x_hat, of_x_hat, scale, shift, y, arithmetic)


def _room_for_gradients(x: Array, a: Array, root: Array, size: Count, groups: Groups, arithmetic: Arithmetic) -> Array:
    """1 where the products of a gradient stay inside the inner format, infinite elsewhere; a value a group."""
    low, high = GRADIENT_ROOTS[arithmetic.inner.roundoff]
    peak, steepest = groups.largest(abs(x)), groups.largest(a)
    product = (1 + peak * root) ** 2 * (1 + root) * steepest * root * (1 + np.sqrt(size)) * size
    inside = (root >= low) & (root <= high) & (product < arithmetic.inner.largest / 8)
    return np.where(inside, 1.0, np.inf)
