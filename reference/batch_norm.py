"""The formulas of batch normalization, in float64, under any `Rules`.

Arrays: x and dy are (N, C, *spatial) with at least two axes; weight, bias, running_mean and running_var are (C,).
m = N * prod(spatial) is the number of values behind one channel's statistics. momentum weighs the new value.
Everything is computed in float64; nothing is validated and nothing is written to.

Sources: the article's sections 2 and 3; [1] is Ioffe & Szegedy 2015 (arXiv 1502.03167).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec.reference.rules import ARTICLE, Rules

Array = NDArray[np.float64]
_silent = np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")  # inf and NaN are answers here


class Groups(NamedTuple):
    """Statistics of the groups that a batch is normalized in. The shapes keep every axis of x, reduced ones as 1."""

    mean: Array
    """What is subtracted: the mean, in the article."""
    var: Array
    """The square of the deviation: the mean squared one, divisor m, in the article."""
    centered: Array
    """x - mean, of x's shape, free of the rounding of `mean`."""
    size: int
    """m, the number of values in a group."""


class Running(NamedTuple):
    """Running mean and variance, each (C,)."""

    mean: Array
    var: Array


# -- section 2: statistics of a batch ---------------------------------------------------------------------------------


def reduced_axes(ndim: int, axes: str) -> tuple[int, ...]:
    """Which axes of (N, C, *spatial) a group runs over; the article's groups are whole channels."""
    every = range(ndim)
    kept = {
        "channel": {1},
        "tensor": set(),
        "sample and channel": {0, 1},
        "position": set(every) - {0},
        "last axis": {ndim - 1},
        "sample": {0},
        "over the last axis": set(every) - {ndim - 1},
    }[axes]
    return tuple(a for a in every if a not in kept)


def mean_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Mean over `axes`, kept as 1. Each group becomes one contiguous row, so that NumPy adds it pairwise."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = np.ascontiguousarray(x.transpose(kept + axes)).reshape([x.shape[a] for a in kept] + [-1])
    mean: Array = rows.mean(axis=-1)
    return mean.reshape([1 if a in axes else n for a, n in enumerate(x.shape)])


@_silent
def statistics(x: Array, rules: Rules = ARTICLE) -> Groups:
    """Mean and m-variance of every group (section 2; [1] algorithm 1, lines 1 and 2).

    Two passes; what rounding left in the mean is found by a second look and taken out again. Without that step the
    rounding of the mean alone, u|mean|, would spoil the variance of data far from zero.
    """
    axes = reduced_axes(x.ndim, rules.axes)
    size = int(np.prod([x.shape[a] for a in axes]))
    if rules.counted != "all":
        return _partial_statistics(x, axes, size, rules.counted)
    mean = CENTER[rules.center](x, axes)
    centered = x - mean
    if rules.center == "mean":
        left = mean_over(centered, axes)
        mean, centered = mean + left, centered - left
    return Groups(mean, SQUARED_DEVIATION[rules.deviation](centered, axes), centered, size)


GAUSSIAN: float = math.sqrt(math.pi / 2)  # sigma over the mean absolute deviation, of a normal distribution
CENTER: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "mean": lambda x, axes: mean_over(x, axes),
    "zero": lambda x, axes: np.zeros_like(mean_over(x, axes)),
    "median": lambda x, axes: np.median(x, axes, keepdims=True),
    "midrange": lambda x, axes: (x.max(axes, keepdims=True) + x.min(axes, keepdims=True)) / 2,
}
SQUARED_DEVIATION: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "standard": lambda c, axes: mean_over(c * c, axes),
    "mean absolute": lambda c, axes: mean_over(abs(c), axes) ** 2,
    "mean absolute, as sigma": lambda c, axes: (GAUSSIAN * mean_over(abs(c), axes)) ** 2,
    "half range": lambda c, axes: (np.ptp(c, axes, keepdims=True) / 2) ** 2,
}


@_silent
def inverse_root(var: Array, eps: float, rules: Rules = ARTICLE) -> Array:
    """What centered values are multiplied by: 1 / sqrt(var + eps) in the article ([1] algorithm 1, line 3)."""
    return INVERSE_ROOT[rules.eps_rule](var, eps)


INVERSE_ROOT: dict[str, Callable[[Array, float], Array]] = {
    "inside": lambda var, eps: 1 / np.sqrt(var + eps),
    "outside": lambda var, eps: 1 / (np.sqrt(var) + eps),
    "absent": lambda var, eps: 1 / np.sqrt(var),
    "larger of both": lambda var, eps: 1 / np.sqrt(np.maximum(var, eps)),
    "both roots": lambda var, eps: 1 / (np.sqrt(var) + np.sqrt(eps)),
    "squared": lambda var, eps: 1 / np.sqrt(var + eps**2),
    "doubled": lambda var, eps: 1 / np.sqrt(var + 2 * eps),
    "always 1e-5": lambda var, eps: 1 / np.sqrt(var + 1e-5),
    "at least 1e-5": lambda var, eps: 1 / np.sqrt(var + max(eps, 1e-5)),
    "0 means 1e-5": lambda var, eps: 1 / np.sqrt(var + (eps or 1e-5)),
}


def normalize(groups: Groups, eps: float, rules: Rules = ARTICLE) -> tuple[Array, Array]:
    """The normalized value x-hat, of x's shape, and the inverse root of each group (section 2)."""
    root = inverse_root(groups.var * _correction(groups.size, rules.ddof), eps, rules)
    shown = groups.centered if rules.centered else groups.centered + groups.mean
    return (shown * root if rules.scaled else shown), root


def along_channels(values: Array, ndim: int) -> Array:
    """(C,) as (1, C, 1, ...), ready to meet an array of `ndim` axes; more axes than one lie on axis 1 and behind."""
    return values.reshape(1, *values.shape, *[1] * (ndim - 1 - values.ndim))


def parameter_axes(ndim: int, weight: Array) -> tuple[int, ...]:
    """The axes of x along which a parameter is the same: all but channels, in batch norm."""
    return tuple(a for a in range(ndim) if not 1 <= a <= weight.ndim)


def scale_and_shift(weight: Array, bias: Array, shape: tuple[int, ...], rules: Rules = ARTICLE) -> tuple[Array, Array]:
    """The pair (s, b) of y = s * x-hat + b: (weight, bias) in the article (section 2; [1] algorithm 1, line 4)."""
    scale, shift = AFFINE[rules.affine](weight, bias)
    if rules.affine == "weight by position":
        return scale[np.arange(shape[-1]) % scale.size], along_channels(shift, len(shape))
    return along_channels(scale, len(shape)), along_channels(shift, len(shape))


AFFINE: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "scale, then shift": lambda weight, bias: (weight, bias),
    "no weight": lambda weight, bias: (np.ones_like(weight), bias),
    "no bias": lambda weight, bias: (weight, np.zeros_like(bias)),
    "shift, then scale": lambda weight, bias: (weight, weight * bias),
    "swapped": lambda weight, bias: (bias, weight),
    "absolute weight": lambda weight, bias: (abs(weight), bias),
    "1 + weight": lambda weight, bias: (1 + weight, bias),
    "weight 0 means 1": lambda weight, bias: (np.where(weight == 0, 1, weight), bias),
    "weight by position": lambda weight, bias: (weight, bias),
    "16 channels": lambda weight, bias: (weight[np.arange(weight.size) % 16], bias),
}


# -- section 3: running statistics ------------------------------------------------------------------------------------


@_silent
def tracked(x: Array, groups: Groups, eps: float, rules: Rules = ARTICLE) -> Running:
    """The mean and variance of a batch as they enter the running ones: divisor m - 1 (section 3; [1] algorithm 2).

    `groups` are the statistics of x.
    """
    var = groups.var * tracked_correction(len(x), groups.size, rules)
    if rules.tracked_variance == "plus eps":
        var = var + eps
    if rules.tracked_variance == "of the batch":
        whole = statistics(x)
        var = whole.var * _correction(whole.size, 1)
    if rules.tracked_variance == "mean of samples":
        var = statistics(x, Rules(axes="sample and channel")).var
    return Running(_by_channel(groups.mean, x.shape[1]), _by_channel(var, x.shape[1]))


def tracked_correction(samples: int, size: int, rules: Rules = ARTICLE) -> float:
    """What the m-variance is multiplied by before it is tracked: m / (m - 1) in the article (section 3)."""
    return {
        "m - 1": lambda: _correction(size, 1),
        "m": lambda: 1.0,
        "N - 1": lambda: size * _correction(samples, 1) / samples,
        "N / (N - 1)": lambda: _correction(samples, 1),
        "plus eps": lambda: _correction(size, 1),
        "mean of samples": lambda: 1.0,
        "of the batch": lambda: _correction(size, 1),
    }[rules.tracked_variance]()


def update(
    old: Running,
    batch: Running,
    momentum: float | None,
    rules: Rules = ARTICLE,
    *,
    step: int = 1,
    previous: Running | None = None,
) -> Running:
    """The running statistics after one more batch: (1 - momentum) * old + momentum * batch (section 3).

    `step` counts the batches since the layer was made, from 1, and `previous` is the batch before this one: only
    rivals and momentum None (the plain average of all batches, PyTorch's extension) ask for them.
    """
    if momentum is None:
        momentum = 1 / step if rules.no_momentum == "average of all" else 0.1
    if (rules.extremes, momentum) in (("0 means 0.1", 0), ("1 means 0.1", 1)):
        momentum = 0.1
    if rules.update == "one step late":
        batch = previous or old
    weight_of_mean, weight_of_var = {
        "flipped": (1 - momentum, 1 - momentum),
        "mean flipped": (1 - momentum, momentum),
        "variance flipped": (momentum, 1 - momentum),
        "always 0.1": (0.1, 0.1),
        "cumulative": (1 / step, 1 / step),
        "zero-debiased": (momentum / (1 - (1 - momentum) ** step) if momentum else 0,) * 2,
        "first batch replaces": (1, 1) if step == 1 else (momentum, momentum),
        "mean only": (momentum, 0),
        "variance only": (0, momentum),
        "twice": (1 - (1 - momentum) ** 2,) * 2,
    }.get(rules.update, (momentum, momentum))
    mean = _mix(old.mean, batch.mean, weight_of_mean)
    if rules.update == "deviations":
        return Running(mean, _mix(np.sqrt(old.var), np.sqrt(batch.var), weight_of_var) ** 2)
    return Running(mean, _mix(old.var, batch.var, weight_of_var))


# -- the layer in training and in evaluation --------------------------------------------------------------------------


@_silent
def train(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    *,
    momentum: float | None,
    eps: float,
    rules: Rules = ARTICLE,
    step: int = 1,
    previous: Array | None = None,
) -> tuple[Array, Array, Array]:
    """One training step: y of x's shape, and the new running mean and variance, (C,) each (sections 2 and 3).

    `previous` is the batch of the step before, for rules that look back.
    """
    old, groups = Running(running_mean, running_var), statistics(x, rules)
    batch = tracked(x, groups, eps, rules)
    before = None if previous is None else tracked(previous, statistics(previous, rules), eps, rules)
    new = update(old, batch, momentum, rules, step=step, previous=before)
    if rules.training_statistics == "batch":
        scale, shift = scale_and_shift(weight, bias, x.shape, rules)
        y = normalize(groups, eps, rules)[0] * scale + shift
    else:
        y = _with_constants(x, weight, bias, old if rules.training_statistics == "running before" else new, eps, rules)
    if rules.tracked_of == "output":
        new = update(old, tracked(y, statistics(y, rules), eps, rules), momentum, rules, step=step, previous=before)
    return y, *new


@_silent
def evaluate(
    x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float, rules: Rules = ARTICLE
) -> Array:
    """y of x's shape, from the running statistics alone (section 2; [1] algorithm 2, lines 11 and 12)."""
    running, batch = Running(running_mean, running_var), _biased(x, rules)
    choice = rules.evaluation_statistics
    if choice == "batch when alone":
        choice = "batch" if len(x) == 1 else "running"
    state = {
        "running": running,
        "batch": batch,
        "batch mean": Running(batch.mean, running.var),
        "batch variance": Running(running.mean, batch.var),
    }[choice]
    if choice == "batch" and rules.folded == "exactly":
        scale, shift = scale_and_shift(weight, bias, x.shape, rules)
        return normalize(statistics(x, rules), eps, rules)[0] * scale + shift
    if rules.folded == "exactly":
        return _with_constants(x, weight, bias, state, eps, rules)
    slope, intercept = fold(weight, bias, *state, eps=eps, rules=rules)
    return x * along_channels(slope, x.ndim) + along_channels(intercept, x.ndim)


@_silent
def fold(
    weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float, rules: Rules = ARTICLE
) -> tuple[Array, Array]:
    """Slope and intercept, (C,) each, of evaluation written as one affine map of x (section 2, the last formula)."""
    root = inverse_root(running_var, 0 if rules.folded == "eps lost" else eps, rules)
    moved = {"sign lost": -weight, "weight lost": np.ones_like(weight)}.get(rules.folded, weight)
    return weight * root, bias - moved * running_mean * root


# -- gradients --------------------------------------------------------------------------------------------------------


@_silent
def train_gradients(
    x: Array, weight: Array, bias: Array, dy: Array, *, eps: float, rules: Rules = ARTICLE
) -> tuple[Array, Array, Array]:
    """dx of x's shape, dweight and dbias (C,), through the batch's own statistics ([1] section 3).

    With g = weight * dy:  dx = (g - mean(g) - x-hat * mean(g * x-hat)) / sqrt(var + eps).
    """
    groups = statistics(x, rules)
    x_hat, root = normalize(groups, eps, rules)
    parameters = _parameter_gradients(x, x_hat, weight, bias, dy, rules)
    axes = reduced_axes(x.ndim, rules.axes)
    scale, _ = scale_and_shift(weight, bias, x.shape, rules)
    g = dy if rules.input_gradient == "weight lost" else scale * dy
    mean_term = center_share(x, rules) * mean_over(g, axes)
    # The variance's share: the derivative of the root, for the article's own place of eps just x-hat * mean(g * x-hat).
    standard = variance_share(x, groups, rules) * root
    correction = _correction(groups.size, rules.ddof)
    var = groups.var * correction
    variance_term = standard * mean_over(g * x_hat, axes) * correction * root_sensitivity(var, eps, root, rules)
    shares: dict[str, tuple[float, Array | float]] = {
        "full": (1, 1),
        "weight lost": (1, 1),
        "statistics constant": (0, 0),
        "no mean term": (0, 1),
        "no variance term": (1, 0),
        "mean term added": (-1, 1),
        "variance term added": (1, -1),
        "m - 1": (1, _correction(groups.size, 1)),
        "eps ignored": (1, 1 / (root**2 * var)),
        "N": (math.prod(x.shape[2:]), math.prod(x.shape[2:])),
    }
    of_mean, of_variance = shares[rules.input_gradient]
    if rules.training_statistics != "batch":
        of_mean = of_variance = 0
    mean_share = of_mean * mean_term if rules.centered else 0
    if not rules.scaled:
        return g - mean_share, *parameters
    return root * (g - mean_share - of_variance * variance_term), *parameters


@_silent
def evaluate_gradients(
    x: Array,
    weight: Array,
    bias: Array,
    running_mean: Array,
    running_var: Array,
    dy: Array,
    *,
    eps: float,
    rules: Rules = ARTICLE,
) -> tuple[Array, Array, Array]:
    """dx, dweight and dbias where the statistics are constants: dx = weight * dy / sqrt(running_var + eps)."""
    if rules.evaluation_gradient == "training formula":
        return train_gradients(x, weight, bias, dy, eps=eps, rules=rules)
    root = inverse_root(running_var, 0 if rules.folded == "eps lost" else eps, rules)
    root = along_channels(root if rules.scaled else np.ones_like(root), x.ndim)
    taken_off = 0 if not rules.centered else {"sign lost": -1, "weight lost": 0}.get(rules.folded, 1)
    x_hat = (x - taken_off * along_channels(running_mean, x.ndim)) * root
    slope = np.ones_like(root) if rules.evaluation_gradient == "root lost" else root
    if rules.evaluation_gradient != "weight lost":
        slope = slope * scale_and_shift(weight, bias, x.shape, rules)[0]
    return slope * dy, *_parameter_gradients(x, x_hat, weight, bias, dy, rules)


def center_share(x: Array, rules: Rules = ARTICLE) -> Array | float:
    """m times the derivative of the center by x: 1 for the mean. Values that tie for a place have all of it each."""
    axes = reduced_axes(x.ndim, rules.axes)
    size = math.prod(x.shape[a] for a in axes)
    if rules.center == "median":
        ordered = np.sort(np.moveaxis(x, axes, range(len(axes))).reshape(size, -1), axis=0)
        low, high = (np.reshape(ordered[i], mean_over(x, axes).shape) for i in ((size - 1) // 2, size // 2))
        middle: Array = ((x == low) * 0.5 + (x == high) * 0.5) * size
        return middle
    if rules.center == "midrange":
        ends: Array = ((x == x.max(axes, keepdims=True)) * 0.5 + (x == x.min(axes, keepdims=True)) * 0.5) * size
        return ends
    return 1.0 if rules.center == "mean" else 0.0


def variance_share(x: Array, groups: Groups, rules: Rules = ARTICLE) -> Array:
    """m / 2 times the derivative of the squared deviation by x: x - mean for the variance."""
    centered, axes = groups.centered, reduced_axes(x.ndim, rules.axes)
    if rules.deviation == "standard" and rules.center in ("mean", "zero"):
        return centered
    of_centered = centered
    if rules.deviation.startswith("mean absolute"):
        factor = GAUSSIAN if rules.deviation.endswith("as sigma") else 1.0
        of_centered = factor * np.sqrt(groups.var) * np.sign(centered)
    if rules.deviation == "half range":
        top, bottom = centered.max(axes, keepdims=True), centered.min(axes, keepdims=True)
        of_centered = np.sqrt(groups.var) * groups.size / 2 * ((centered == top) * 1.0 - (centered == bottom))
    return of_centered - center_share(x, rules) * mean_over(of_centered, axes)


def affine_gradients(
    of_x_hat: Array, of_one: Array, weight: Array, bias: Array, rules: Rules = ARTICLE
) -> tuple[Array, Array]:
    """dweight and dbias from the sums of dy * x-hat and of dy: these themselves in the article (section 2)."""
    return AFFINE_GRADIENTS[rules.affine](of_x_hat, of_one, weight, bias)


AFFINE_GRADIENTS: dict[str, Callable[[Array, Array, Array, Array], tuple[Array, Array]]] = {
    "scale, then shift": lambda a, b, weight, bias: (a, b),
    "no weight": lambda a, b, weight, bias: (0 * a, b),
    "no bias": lambda a, b, weight, bias: (a, 0 * b),
    "shift, then scale": lambda a, b, weight, bias: (a + bias * b, weight * b),
    "swapped": lambda a, b, weight, bias: (b, a),
    "absolute weight": lambda a, b, weight, bias: (np.sign(weight) * a, b),
    "1 + weight": lambda a, b, weight, bias: (a, b),
    "weight 0 means 1": lambda a, b, weight, bias: (np.where(weight == 0, 0, a), b),
    "weight by position": lambda a, b, weight, bias: (a, b),
    "16 channels": lambda a, b, weight, bias: (_gathered(a, 16, a.size), b),
}


# -- helpers ----------------------------------------------------------------------------------------------------------


def _partial_statistics(x: Array, axes: tuple[int, ...], size: int, counted: str) -> Groups:
    """The statistics where both sums lose an end of the longest axis they run over, while the divisor stays m."""
    axis = max(axes, key=lambda a: x.shape[a], default=0)
    length, places = x.shape[axis], np.arange(x.shape[axis])
    match counted.split():
        case ["whole", "blocks", "of", block]:
            kept = places < length // int(block) * int(block)
        case ["the", "first", count]:
            kept = places < int(count)
        case [*_, "first"]:
            kept = places > 0
        case _:
            kept = places < length - 1
    seen = kept.reshape([length if a == axis else 1 for a in range(x.ndim)])
    mean = mean_over(x * seen, axes)
    return Groups(mean, mean_over((x - mean) ** 2 * seen, axes), x - mean, size)


def _correction(size: int, ddof: int) -> float:
    """m / (m - ddof), what turns the m-variance into the sample variance; infinite for a single value."""
    return size / (size - ddof) if size > ddof else math.inf


def _mix(old: Array, new: Array, weight: float) -> Array:
    return (1 - weight) * old + weight * new


def _by_channel(stat: Array, channels: int) -> Array:
    """A statistic of any groups as one value a channel: the mean over the groups that a channel meets."""
    if stat.size == stat.shape[1] == channels:
        return stat.ravel()
    return np.broadcast_to(mean_over(stat, reduced_axes(stat.ndim, "channel")).ravel(), channels).copy()


def _biased(x: Array, rules: Rules) -> Running:
    groups = statistics(x, rules)
    return Running(_by_channel(groups.mean, x.shape[1]), _by_channel(groups.var, x.shape[1]))


def _with_constants(x: Array, weight: Array, bias: Array, state: Running, eps: float, rules: Rules) -> Array:
    """y where the statistics are given rather than taken from x."""
    shown = x - along_channels(state.mean, x.ndim) if rules.centered else x
    root = inverse_root(along_channels(state.var, x.ndim), eps, rules) if rules.scaled else 1.0
    scale, shift = scale_and_shift(weight, bias, x.shape, rules)
    return shown * root * scale + shift


def root_sensitivity(var: Array, eps: float, root: Array, rules: Rules) -> Array | float:
    """-2 / root^3 * d root / d var: 1 wherever something is added to the variance under the root."""
    if rules.eps_rule in ("outside", "both roots"):
        return 1 / (root * np.sqrt(var))
    if rules.eps_rule == "larger of both":
        return (var >= eps).astype(np.float64)
    return 1.0


def _parameter_gradients(
    x: Array, x_hat: Array, weight: Array, bias: Array, dy: Array, rules: Rules
) -> tuple[Array, Array]:
    """dweight = sum of dy * x-hat, dbias = sum of dy, over everything but the channels ([1] section 3)."""
    channels, axes = weight.size, parameter_axes(x.ndim, weight)
    size = max(x.size // channels, 1)
    factors: dict[str, Array | float] = {
        "averaged": 1 / size,
        "times weight": weight,
        "over the batch only": x.shape[0] / size,
    }
    of_weight, of_bias = (factors.get(choice, 1.0) for choice in (rules.weight_gradient, rules.bias_gradient))
    terms = dy * (x if rules.weight_gradient == "of raw x" else x_hat)
    of_x_hat = mean_over(terms, axes).reshape(weight.shape) * size
    if rules.affine == "weight by position":
        of_place = mean_over(terms, tuple(range(x.ndim - 1))).ravel() * (x.size // x.shape[-1])
        of_x_hat = _gathered(of_place, channels, channels)
    of_one = mean_over(dy, axes).reshape(weight.shape) * size
    return affine_gradients(of_x_hat * of_weight, of_one * of_bias, weight, bias, rules)


def _gathered(values: Array, period: int, size: int) -> Array:
    """The sum of every `period`-th value, as the first of `size` entries."""
    total = np.zeros(size)
    np.add.at(total, np.arange(values.size) % period, values)
    return total
