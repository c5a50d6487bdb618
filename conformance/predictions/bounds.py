"""Error bounds: how far rounding alone may move each element of a result, derived from the data and never chosen.

A sum of n terms is off by at most f(n) u Σ|term| in whatever order it is added, f(n) = n + 2 ln n + 4 (Higham,
*Accuracy and Stability of Numerical Algorithms*, chapters 3 and 4; the logarithm is for running means). A two-pass
variance suffers the error of its mean squared, Welford's and merged ones also m u |mean| sqrt(var), a one-pass one
m u mean^2 (Chan, Golub & LeVeque 1983). An elementwise step costs u. The rest of this module carries these through
the formulas.

Bounds are taken from the magnitudes of the case's own data and grow where the data are badly conditioned. The float64
reference is itself a sound implementation: its roundoff is added to the backend's in every term. Where a bound is
infinite or NaN the element is undecided.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import REFERENCE, Arithmetic, Format
from normspec.reference import Rules, Statistics, inverse_root
from normspec.reference.places import Count, Groups

Array = NDArray[np.float64]

ROOT_STEPS = 6  # eps rounded 1/2, the sum 1/2, root and division 2 or an approximate reciprocal root 4, one to spare


class StatisticsError(NamedTuple):
    """Bounds on the computed mean and m-variance of each group, and the growth factor of sums over it."""

    mean: Array
    var: Array
    growth: Count


def growth(terms: Count, arithmetic: Arithmetic) -> Count:
    """Γ: the relative error of a sum of `terms` numbers, measured by the sum of their magnitudes."""
    roundoff = (terms + 2 * np.log(np.maximum(terms, 1)) + 4) * (arithmetic.sums + REFERENCE)
    factor: Count = np.where(roundoff < 1, roundoff / (1 - roundoff), np.inf)
    return factor


def steps(arithmetic: Arithmetic) -> float:
    """Roundoff of one elementwise step."""
    return arithmetic.steps + REFERENCE


def of_statistics(x: Array, stats: Statistics, groups: Groups, rules: Rules, arithmetic: Arithmetic) -> StatisticsError:
    """For statistics taken from data, over the groups given."""
    g, u, tiny = growth(stats.size, arithmetic), steps(arithmetic), arithmetic.inner.tiny
    of_mean, var = _of_center(x, stats, groups, g, rules, arithmetic), stats.var
    if rules.deviation == "standard":
        mean = 0.0 if rules.center == "zero" else abs(stats.mean)
        two_pass = (g + 4 * u) * var + (1 + g + 4 * u) * of_mean**2 + 4 * tiny
        of_var = two_pass + g * (mean * np.sqrt(var) + 1.5 * var)
        if arithmetic.one_pass:
            of_var = np.maximum(of_var, (3 * g + 4 * u) * (var + mean**2) + of_mean**2 + 4 * tiny)
    else:
        # A mean of magnitudes, or half a range: each x - center is off by the center's error and a step of its own.
        relative = g if rules.deviation.startswith("mean absolute") else 0.0
        of_deviation = (relative + 4 * u) * (np.sqrt(var) + of_mean) + 2 * of_mean + tiny
        if rules.deviation == "half range":
            of_deviation = of_deviation + 2 * u * groups.largest(abs(stats.centered))
        of_var = 2 * np.sqrt(var) * of_deviation + of_deviation**2 + tiny
    # Squares must stay finite in the arithmetic used; beyond that nothing is promised.
    reach = groups.mean(x * x) * stats.size
    room = np.where(reach < arithmetic.inner.largest / 8, 1.0, np.inf)
    return StatisticsError(of_mean * room, of_var * room, g)


def _of_center(x: Array, stats: Statistics, groups: Groups, g: Count, rules: Rules, arithmetic: Arithmetic) -> Array:
    """For what is subtracted: a mean is a sum, a median or midrange a value of x or half the sum of two."""
    u, tiny = steps(arithmetic), arithmetic.inner.tiny
    if rules.center == "zero":
        return np.zeros_like(stats.mean)
    if rules.center == "mean":
        return g * groups.mean(abs(x)) + u * abs(stats.mean) + tiny
    return 4 * u * groups.largest(abs(x)) + tiny


def of_root(var: Array, error: Array, eps: Count, arithmetic: Arithmetic, rules: Rules) -> tuple[Array, Array]:
    """Bound on the computed inverse root, and the largest value it can take."""
    root = inverse_root(var, eps, rules)
    low, high = inverse_root(np.maximum(var - error, 0), eps, rules), inverse_root(var + error, eps, rules)
    u = steps(arithmetic)
    # The differences below are themselves rounded, by at most 8 roundoffs of the reference.
    reach = np.maximum(low - root, root - high) + (ROOT_STEPS * u + 8 * REFERENCE) * low
    return reach, low * (1 + ROOT_STEPS * u)


def of_normalized(
    x: Array, mean: Array, centered: Array, mean_error: Array | float, root: tuple[Array, Array], arithmetic: Arithmetic
) -> Array:
    """For x-hat; `root` is what `of_root` gives. Covers the folded form x * s + b too, which the article writes."""
    u = steps(arithmetic)
    error, largest = root
    magnitude = abs(centered)
    shift = mean_error + 3 * u * (magnitude + mean_error) + 2 * u * (abs(x) + abs(mean) + mean_error)
    return largest * (shift + arithmetic.inner.tiny) + magnitude * error


def of_output(x_hat: Array, error: Array, scale: Array, shift: Array, y: Array, arithmetic: Arithmetic) -> Array:
    """For y = scale * x-hat + shift, stored in the result's format."""
    inner = abs(scale) * error + 2 * steps(arithmetic) * (abs(scale * x_hat) + abs(shift))
    return stored(y, inner, arithmetic.result)


def of_running(
    old: Array, batch: Array, batch_error: Array, new: Array, momentum: Count, arithmetic: Arithmetic, carried: Array
) -> Array:
    """For (1 - momentum) * old + momentum * batch, where `old` is itself off by `carried`."""
    inner = np.abs(1 - momentum) * carried + np.abs(momentum) * batch_error
    # |batch| is not weighed by momentum: an implementation may hold 1 - momentum rounded.
    inner = inner + 3 * steps(arithmetic) * (abs(old) + abs(batch) + batch_error) + arithmetic.inner.tiny
    return stored(new, inner, arithmetic.kept)


def stored(value: Array, error: Array, kept: Format) -> Array:
    """The error after rounding to the format of the returned array; undecided where that may overflow."""
    total = error + (kept.roundoff + REFERENCE) * (abs(value) + error) + kept.tiny
    return np.where(4 * (abs(value) + error) < kept.largest, total, np.inf)
