"""Batch normalization under any `Rules`: the functions of `article`, each replaced as the rules say, put together.

Arrays: x and dy are (N, C, *spatial) with at least two axes; weight, bias, running_mean and running_var are (C,).
m = N * prod(spatial) is the number of values behind one channel's statistics. momentum weighs the new value.
Arguments are anything array-like and become float64; complex arrays stay complex, as a complex step differentiates.
Nothing is validated and nothing is written to.

What is undefined is NaN or infinite, without a warning: the statistics of no values, the sample variance of one value
(with momentum 0 the running statistics stay all the same), 1 / sqrt(var + eps) where var + eps is not positive. Beyond
1e154 the squares of x - mean overflow: var is infinite, and a normalized value is 0. `article` refuses all of these.

With `places` a function takes many cases at once: x, dy and y are flat, parameters and results of them lie one case
after another, eps and momentum are one for each parameter (see `places.Stack`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normspec.reference import article
from normspec.reference.article import Array
from normspec.reference.places import Count, Groups, Places, Whole
from normspec.reference.rivals import (
    AFFINE,
    AFFINE_GRADIENTS,
    CENTER,
    GAUSSIAN,
    INPUT_GRADIENT,
    INVERSE_ROOT,
    MIXED,
    SQUARED_DEVIATION,
    TRACKED_CORRECTION,
    correction,
)
from normspec.reference.rules import ARTICLE, Rules

_silent = np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")  # inf and NaN are answers here


def floats(*arrays: ArrayLike) -> list[Array]:
    """As float64, complex arrays as complex128. What is so already is handed on, and not copied."""
    return [a if isinstance(a, np.ndarray) and a.dtype.char in "dD" else _converted(a) for a in arrays]


def _converted(values: ArrayLike) -> Array:
    array = np.asarray(values)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


class Statistics(NamedTuple):
    """Statistics of the groups that a batch is normalized in. They broadcast against x."""

    mean: Array
    """What is subtracted: the mean, in the article."""
    var: Array
    """The square of the deviation: the mean squared one, divisor m, in the article."""
    centered: Array
    """x - mean, of x's shape, free of the rounding of `mean`."""
    size: Count
    """m, the number of values in a group."""


class Running(NamedTuple):
    """Running mean and variance, each (C,)."""

    mean: Array
    var: Array


# -- section 2: statistics of a batch ---------------------------------------------------------------------------------


def groups_of(x: Array, rules: Rules, places: Places | None = None) -> Groups:
    """The groups of values that share their statistics."""
    return (places or Whole(x.shape, x.shape[1:2])).groups(rules.axes, rules.grouping)


@_silent
def statistics(x: ArrayLike, rules: Rules = ARTICLE, places: Places | None = None) -> Statistics:
    """Mean and m-variance of every group (section 2; [1] algorithm 1, lines 1 and 2)."""
    (x,) = floats(x)
    places = places or Whole(x.shape, x.shape[1:2])
    groups = groups_of(x, rules, places)
    if rules.counted != "all":  # both sums leave values out, while the divisor stays m
        kept = places.counted(rules.axes, rules.counted, rules.grouping)
        mean = groups.mean(x * kept)
        return Statistics(mean, groups.mean((x - mean) ** 2 * kept), x - mean, groups.size)
    if rules.center == "mean" and rules.deviation == "standard":
        return Statistics(*article.statistics(x, groups.mean), groups.size)
    center = CENTER[rules.center](x, groups)
    centered = x - center
    if rules.center == "mean":
        rest = groups.mean(centered)
        center, centered = center + rest, centered - rest
    return Statistics(center, SQUARED_DEVIATION[rules.deviation](centered, groups), centered, groups.size)


@_silent
def inverse_root(var: ArrayLike, eps: Count, rules: Rules = ARTICLE) -> Array:
    """What centered values are multiplied by: 1 / sqrt(var + eps) in the article ([1] algorithm 1, line 3)."""
    (var,) = floats(var)
    return INVERSE_ROOT[rules.eps_rule](var, eps)


def normalize(stats: Statistics, eps: Count, rules: Rules = ARTICLE) -> tuple[Array, Array]:
    """The normalized value x_hat, of x's shape, and the inverse root of each group (section 2)."""
    root = inverse_root(stats.var if rules.ddof == 0 else stats.var * correction(stats.size, rules.ddof), eps, rules)
    shown = stats.centered if rules.centered else stats.centered + stats.mean
    return (shown * root if rules.scaled else shown), root


def along_channels(values: Array, ndim: int) -> Array:
    """(C,) as (1, C, 1, ...), ready to meet an array of `ndim` axes; more axes than one lie on axis 1 and behind."""
    return values.reshape(1, *values.shape, *[1] * (ndim - 1 - values.ndim))


@_silent
def scale_and_shift(weight: Array, bias: Array, places: Places, rules: Rules = ARTICLE) -> tuple[Array, Array]:
    """The pair (s, b) of y = s * x_hat + b: (weight, bias) in the article (section 2; [1] algorithm 1, line 4)."""
    scale, shift = AFFINE[rules.affine](weight, bias, places)
    return places.spread(scale, _index(rules)), places.spread(shift)


def _index(rules: Rules) -> str:
    return "by position" if rules.affine == "weight by position" else ""


@_silent
def normalized(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    *,
    eps: Count,
    rules: Rules = ARTICLE,
    places: Places | None = None,
) -> Array:
    """y = weight * x_hat + bias, of x's shape; weight and bias lie on axis 1 of x and those behind."""
    x, weight, bias = floats(x, weight, bias)
    places = places or Whole(x.shape, weight.shape)
    scale, shift = scale_and_shift(weight, bias, places, rules)
    return article.affine(normalize(statistics(x, rules, places), spread(eps, places), rules)[0], scale, shift)


def spread(values: Count, places: Places) -> Count:
    """A number for each parameter as one for each value; one for all stays what it is."""
    return places.spread(values) if isinstance(values, np.ndarray) else values


# -- section 3: running statistics ------------------------------------------------------------------------------------


@_silent
def tracked(x: Array, stats: Statistics, eps: Count, rules: Rules = ARTICLE, places: Places | None = None) -> Running:
    """The mean and variance of a batch as they enter the running ones: divisor m - 1 (section 3; [1] algorithm 2).

    `stats` are the statistics of x.
    """
    places = places or Whole(x.shape, x.shape[1:2])
    if rules.tracked_variance == "of the batch":
        whole = statistics(x, places=places)
        var = places.average(whole.var * correction(whole.size, 1))
    elif rules.tracked_variance == "mean of samples":
        var = places.average(statistics(x, Rules(axes="sample and channel"), places).var)
    else:
        var = places.average(stats.var) * tracked_correction(stats, rules, places)
    if rules.tracked_variance == "plus eps":
        var = var + eps
    return Running(places.average(stats.mean), var)


def tracked_correction(stats: Statistics, rules: Rules, places: Places) -> Count:
    """What the m-variance is multiplied by before it is tracked, for each parameter: m / (m - 1) in the article."""
    size = places.average(stats.size) if isinstance(stats.size, np.ndarray) else stats.size
    return TRACKED_CORRECTION[rules.tracked_variance](size, places.samples)


@_silent
def update(
    old: Running,
    batch: Running,
    momentum: Count | None,
    rules: Rules = ARTICLE,
    *,
    step: Count = 1,
    previous: Running | None = None,
) -> Running:
    """The running statistics after one more batch: (1 - momentum) * old + momentum * batch (section 3).

    `step` counts the batches since the layer was made, from 1, and `previous` is the batch before this one: only
    rivals and momentum None (the plain average of all batches, PyTorch's extension) ask for them.
    """
    old, batch = Running(*floats(*old)), Running(*floats(*batch))
    if momentum is None:
        momentum = 1 / step if rules.no_momentum == "average of all" else 0.1
    elif rules.extremes != "as given":
        momentum = np.where(np.equal(momentum, float(rules.extremes[0])), 0.1, momentum)
    if not isinstance(momentum, np.ndarray):
        momentum = float(momentum)
    if rules.update == "one step late":
        batch = previous or old
    of_mean, of_var = MIXED[rules.update](momentum, step)
    mean = _mixed(old.mean, batch.mean, of_mean)
    if rules.update == "deviations":
        return Running(mean, _mixed(np.sqrt(old.var), np.sqrt(batch.var), of_var) ** 2)
    return Running(mean, _mixed(old.var, batch.var, of_var))


def _mixed(old: Array, batch: Array, weight: Count) -> Array:
    """`article.update`, where a batch that weighs nothing may have no variance."""
    mixed = article.update(old, batch, weight)
    if isinstance(weight, float) and weight != 0:
        return mixed
    return np.where(np.equal(weight, 0), old, mixed)


# -- the layer in training and in evaluation --------------------------------------------------------------------------


@_silent
def train(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    *,
    momentum: Count | None,
    eps: Count,
    rules: Rules = ARTICLE,
    step: Count = 1,
    previous: ArrayLike | None = None,
    places: Places | None = None,
    places_before: Places | None = None,
) -> tuple[Array, Array, Array]:
    """One training step: y of x's shape, and the new running mean and variance, (C,) each (sections 2 and 3).

    `previous` is the batch of the step before, for rules that look back; in a stack, where it has values at all.
    """
    x, weight, bias, *state = floats(x, weight, bias, running_mean, running_var)
    places = places or Whole(x.shape, weight.shape)
    old, stats, eps_of_x = Running(*state), statistics(x, rules, places), spread(eps, places)
    batch = tracked(x, stats, eps, rules, places)
    before = None
    if previous is not None and rules.update == "one step late":
        (earlier,) = floats(previous)
        before = tracked(earlier, statistics(earlier, rules, places_before), eps, rules, places_before)
    new = update(old, batch, momentum, rules, step=step, previous=before)
    if rules.training_statistics == "batch":
        y = article.affine(normalize(stats, eps_of_x, rules)[0], *scale_and_shift(weight, bias, places, rules))
    else:
        used = old if rules.training_statistics == "running before" else new
        y = _with_constants(x, weight, bias, used, eps, rules, places)
    if rules.tracked_of == "output":
        of_output = tracked(y, statistics(y, rules, places), eps, rules, places)
        new = update(old, of_output, momentum, rules, step=step, previous=before)
    return y, *new


@_silent
def evaluate(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    *,
    eps: Count,
    rules: Rules = ARTICLE,
    places: Places | None = None,
) -> Array:
    """y of x's shape, from the running statistics alone (section 2; [1] algorithm 2, line 11)."""
    x, weight, bias, *given = floats(x, weight, bias, running_mean, running_var)
    places = places or Whole(x.shape, weight.shape)
    state, choice = Running(*given), rules.evaluation_statistics
    if choice != "running":
        stats = statistics(x, rules, places)
        batch = Running(places.average(stats.mean), places.average(stats.var))
        if choice == "batch" and rules.folded == "exactly":
            scale, shift = scale_and_shift(weight, bias, places, rules)
            return article.affine(normalize(stats, spread(eps, places), rules)[0], scale, shift)
        state = {
            "batch": batch,
            "batch mean": Running(batch.mean, state.var),
            "batch variance": Running(state.mean, batch.var),
            "batch when alone": Running(
                np.where(np.equal(places.samples, 1), batch.mean, state.mean),
                np.where(np.equal(places.samples, 1), batch.var, state.var),
            ),
        }[choice]
    if rules.folded == "exactly":
        return _with_constants(x, weight, bias, state, eps, rules, places)
    slope, intercept = fold(weight, bias, *state, eps=eps, rules=rules)
    return article.affine(x, places.spread(slope), places.spread(intercept))


@_silent
def fold(
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    *,
    eps: Count,
    rules: Rules = ARTICLE,
) -> tuple[Array, Array]:
    """Slope and intercept, (C,) each, of evaluation written as one affine map of x (section 2, the last formula)."""
    weight, bias, running_mean, running_var = floats(weight, bias, running_mean, running_var)
    root = inverse_root(running_var, kept_eps(eps, rules), rules)
    slope, intercept = article.folded(weight, bias, running_mean, root)
    if rules.folded == "sign lost":
        intercept = bias + weight * running_mean * root
    if rules.folded == "weight lost":
        intercept = bias - running_mean * root
    return slope, intercept


def kept_eps(eps: Count, rules: Rules) -> Count:
    """eps as evaluation uses it."""
    return 0 * eps if rules.folded == "eps lost" else eps


# -- gradients --------------------------------------------------------------------------------------------------------


@_silent
def train_gradients(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    dy: ArrayLike,
    *,
    eps: Count,
    rules: Rules = ARTICLE,
    places: Places | None = None,
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,), through the batch's own statistics ([1] section 3).

    With g = weight * dy:  dx = (g - mean(g) - x_hat * mean(g * x_hat)) / sqrt(var + eps).
    """
    x, weight, bias, dy = floats(x, weight, bias, dy)
    places = places or Whole(x.shape, weight.shape)
    stats, groups = statistics(x, rules, places), groups_of(x, rules, places)
    eps = spread(eps, places)
    x_hat, root = normalize(stats, eps, rules)
    parameters = _parameter_gradients(x, x_hat, weight, bias, dy, rules, places)
    scale, _ = scale_and_shift(weight, bias, places, rules)
    g = dy if rules.input_gradient == "weight lost" else scale * dy
    if _is_articles(rules):
        return article.input_gradient(g, x_hat, root, groups.mean), *parameters
    mean_term = center_share(x, rules, places) * groups.mean(g)
    # The variance's share: the derivative of the root, for the article's own place of eps just x_hat * mean(g * x_hat).
    standard = variance_share(x, stats, rules, places) * root
    factor = correction(stats.size, rules.ddof)
    var = stats.var * factor
    variance_term = standard * groups.mean(g * x_hat) * factor * root_sensitivity(var, eps, root, rules)
    of_mean, of_variance = INPUT_GRADIENT[rules.input_gradient](stats.size, places.positions, 1 / (root**2 * var))
    if rules.training_statistics != "batch":
        of_mean = of_variance = 0
    mean_share = of_mean * mean_term if rules.centered else 0
    if not rules.scaled:
        return g - mean_share, *parameters
    return root * (g - mean_share - of_variance * variance_term), *parameters


def _is_articles(rules: Rules) -> bool:
    """Whether dx is the article's formula, over whatever groups and with whatever weight."""
    return (
        rules.input_gradient in ("full", "weight lost")
        and (rules.training_statistics, rules.center, rules.deviation, rules.ddof) == ("batch", "mean", "standard", 0)
        and rules.centered
        and rules.scaled
        and rules.eps_rule == "inside"
        and rules.counted == "all"
    )


@_silent
def evaluate_gradients(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    dy: ArrayLike,
    *,
    eps: Count,
    rules: Rules = ARTICLE,
    places: Places | None = None,
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias where the statistics are constants: dx = weight * dy / sqrt(running_var + eps)."""
    x, weight, bias, running_mean, running_var, dy = floats(x, weight, bias, running_mean, running_var, dy)
    if rules.evaluation_gradient == "training formula":
        return train_gradients(x, weight, bias, dy, eps=eps, rules=rules, places=places)
    places = places or Whole(x.shape, weight.shape)
    root = inverse_root(running_var, kept_eps(eps, rules), rules)
    root = places.spread(root if rules.scaled else np.ones_like(root))
    taken_off = 0 if not rules.centered else {"sign lost": -1, "weight lost": 0}.get(rules.folded, 1)
    x_hat = (x - taken_off * places.spread(running_mean)) * root
    slope = np.ones_like(root) if rules.evaluation_gradient == "root lost" else root
    if rules.evaluation_gradient != "weight lost":
        slope = slope * scale_and_shift(weight, bias, places, rules)[0]
    return slope * dy, *_parameter_gradients(x, x_hat, weight, bias, dy, rules, places)


def center_share(x: ArrayLike, rules: Rules = ARTICLE, places: Places | None = None) -> Array | float:
    """m times the derivative of the center by x: 1 for the mean. Values that tie for a place have all of it each."""
    (x,) = floats(x)
    if rules.center in ("mean", "zero"):
        return 1.0 if rules.center == "mean" else 0.0
    groups = groups_of(x, rules, places)
    low, high = groups.middle(x) if rules.center == "median" else (groups.smallest(x), groups.largest(x))
    share: Array = ((x == low) * 0.5 + (x == high) * 0.5) * groups.size
    return share


def variance_share(x: Array, stats: Statistics, rules: Rules = ARTICLE, places: Places | None = None) -> Array:
    """m / 2 times the derivative of the squared deviation by x: x - mean for the variance."""
    centered = stats.centered
    if rules.deviation == "standard" and rules.center in ("mean", "zero"):
        return centered
    groups, of_centered = groups_of(x, rules, places), centered
    if rules.deviation.startswith("mean absolute"):
        factor = GAUSSIAN if rules.deviation.endswith("as sigma") else 1.0
        of_centered = factor * np.sqrt(stats.var) * np.sign(centered)
    if rules.deviation == "half range":
        top, bottom = groups.largest(centered), groups.smallest(centered)
        of_centered = np.sqrt(stats.var) * stats.size / 2 * ((centered == top) * 1.0 - (centered == bottom))
    return of_centered - center_share(x, rules, places) * groups.mean(of_centered)


@_silent
def root_sensitivity(var: Array, eps: Count, root: Array, rules: Rules) -> Array | float:
    """-2 / root^3 * d root / d var: 1 wherever something is added to the variance under the root."""
    if rules.eps_rule in ("outside", "both roots"):
        return 1 / (root * np.sqrt(var))
    if rules.eps_rule == "larger of both":
        return (var >= eps).astype(np.float64)
    return 1.0


def affine_gradients(
    of_x_hat: Array, of_one: Array, weight: Array, bias: Array, places: Places, rules: Rules = ARTICLE
) -> tuple[Array, Array]:
    """dweight and dbias from the sums of dy * x_hat and of dy: these themselves in the article (section 2)."""
    return AFFINE_GRADIENTS[rules.affine](of_x_hat, of_one, weight, bias, places)


def _with_constants(
    x: Array, weight: Array, bias: Array, state: Running, eps: Count, rules: Rules, places: Places
) -> Array:
    """y where the statistics are given rather than taken from x."""
    shown = x - places.spread(state.mean) if rules.centered else x
    root = places.spread(inverse_root(state.var, eps, rules)) if rules.scaled else 1.0
    return article.affine(shown * root, *scale_and_shift(weight, bias, places, rules))


def _parameter_gradients(
    x: Array, x_hat: Array, weight: Array, bias: Array, dy: Array, rules: Rules, places: Places
) -> tuple[Array, Array]:
    """dweight = sum of dy * x_hat, dbias = sum of dy, over everything but the channels ([1] section 3)."""
    factors: dict[str, Count] = {
        "averaged": 1 / places.shared,
        "times weight": weight,
        "over the batch only": places.samples / places.shared,
    }
    of_weight, of_bias = (factors.get(choice, 1.0) for choice in (rules.weight_gradient, rules.bias_gradient))
    shown = x if rules.weight_gradient == "of raw x" else x_hat
    of_x_hat = article.weight_gradient(dy, shown, lambda a: places.total(a, _index(rules)))
    of_one = article.bias_gradient(dy, places.total)
    return affine_gradients(of_x_hat * of_weight, of_one * of_bias, weight, bias, places, rules)
