"""What people do instead of the article: each entry of a table replaces one function or one number of `article`.

The keys are the values of the fields of `Rules`. The entry of the article's own value is the article's function.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from normspec.reference import article
from normspec.reference.article import Array
from normspec.reference.places import Count, Groups, Places

GAUSSIAN: float = math.sqrt(math.pi / 2)  # sigma over the mean absolute deviation, of a normal distribution

# -- what is subtracted, and the square of the deviation from it ------------------------------------------------------

CENTER: Mapping[str, Callable[[Array, Groups], Array]] = {
    "mean": lambda x, groups: groups.mean(x),
    "zero": lambda x, groups: np.zeros_like(groups.mean(x)),
    "median": lambda x, groups: np.add(*groups.middle(x)) / 2,
    "midrange": lambda x, groups: (groups.largest(x) + groups.smallest(x)) / 2,
}
SQUARED_DEVIATION: Mapping[str, Callable[[Array, Groups], Array]] = {
    "standard": lambda c, groups: groups.mean(c * c),
    "mean absolute": lambda c, groups: groups.mean(abs(c)) ** 2,
    "mean absolute, as sigma": lambda c, groups: (GAUSSIAN * groups.mean(abs(c))) ** 2,
    "half range": lambda c, groups: ((groups.largest(c) - groups.smallest(c)) / 2) ** 2,
}

# -- where eps goes ---------------------------------------------------------------------------------------------------

INVERSE_ROOT: Mapping[str, Callable[[Array, Count], Array]] = {
    "inside": article.inverse_root,
    "outside": lambda var, eps: 1 / (np.sqrt(var) + eps),
    "absent": lambda var, _: 1 / np.sqrt(var),
    "larger of both": lambda var, eps: 1 / np.sqrt(np.maximum(var, eps)),
    "both roots": lambda var, eps: 1 / (np.sqrt(var) + np.sqrt(eps)),
    "squared": lambda var, eps: 1 / np.sqrt(var + eps**2),
    "doubled": lambda var, eps: 1 / np.sqrt(var + 2 * eps),
    "always 1e-5": lambda var, _: 1 / np.sqrt(var + 1e-5),
    "at least 1e-5": lambda var, eps: 1 / np.sqrt(var + np.maximum(eps, 1e-5)),
    "0 means 1e-5": lambda var, eps: 1 / np.sqrt(var + np.where(eps == 0, 1e-5, eps)),
}

# -- weight and bias --------------------------------------------------------------------------------------------------

AFFINE: Mapping[str, Callable[[Array, Array, Places], tuple[Array, Array]]] = {
    "scale, then shift": lambda weight, bias, _: (weight, bias),
    "no weight": lambda weight, bias, _: (np.ones_like(weight), bias),
    "no bias": lambda weight, bias, _: (weight, np.zeros_like(bias)),
    "shift, then scale": lambda weight, bias, _: (weight, weight * bias),
    "swapped": lambda weight, bias, _: (bias, weight),
    "absolute weight": lambda weight, bias, _: (abs(weight), bias),
    "1 + weight": lambda weight, bias, _: (1 + weight, bias),
    "weight 0 means 1": lambda weight, bias, _: (np.where(weight == 0, 1, weight), bias),
    "weight by position": lambda weight, bias, _: (weight, bias),  # the places know which
    "16 channels": lambda weight, bias, places: (places.elsewhere(weight, 16), bias),
}
"""The pair (s, b) of y = s * x_hat + b."""
AFFINE_GRADIENTS: Mapping[str, Callable[[Array, Array, Array, Array, Places], tuple[Array, Array]]] = {
    "scale, then shift": lambda a, b, weight, bias, _: (a, b),
    "no weight": lambda a, b, weight, bias, _: (0 * a, b),
    "no bias": lambda a, b, weight, bias, _: (a, 0 * b),
    "shift, then scale": lambda a, b, weight, bias, _: (a + bias * b, weight * b),
    "swapped": lambda a, b, weight, bias, _: (b, a),
    "absolute weight": lambda a, b, weight, bias, _: (np.sign(weight) * a, b),
    "1 + weight": lambda a, b, weight, bias, _: (a, b),
    "weight 0 means 1": lambda a, b, weight, bias, _: (np.where(weight == 0, 0, a), b),
    "weight by position": lambda a, b, weight, bias, _: (a, b),
    "16 channels": lambda a, b, weight, bias, places: (places.gathered(a, 16), b),
}
"""dweight and dbias, from the sums of dy * x_hat and of dy."""

# -- running statistics -----------------------------------------------------------------------------------------------

TRACKED_CORRECTION: Mapping[str, Callable[[Count, Count], Count]] = {
    "m - 1": lambda m, _: correction(m, 1),
    "m": lambda m, _: 1.0,
    "N - 1": lambda m, n: m * correction(n, 1) / n,
    "N / (N - 1)": lambda m, n: correction(n, 1),
    "plus eps": lambda m, _: correction(m, 1),
    "mean of samples": lambda m, _: 1.0,
    "of the batch": lambda m, _: correction(m, 1),
}
"""What the m-variance is multiplied by before it is tracked, from m and the number N of samples."""


def correction(size: Count, ddof: int) -> Count:
    """m / (m - ddof), which makes the m-variance a sample variance; infinite for a single value."""
    with np.errstate(divide="ignore"):
        factor: Count = np.divide(size, np.maximum(np.subtract(size, ddof), 0))
    return factor


MIXED: Mapping[str, Callable[[Count, Count], tuple[Count, Count]]] = {
    "article": lambda momentum, _: (momentum, momentum),
    "flipped": lambda momentum, _: (1 - momentum, 1 - momentum),
    "mean flipped": lambda momentum, _: (1 - momentum, momentum),
    "variance flipped": lambda momentum, _: (momentum, 1 - momentum),
    "always 0.1": lambda momentum, _: (0.1, 0.1),
    "cumulative": lambda _, step: (1 / step, 1 / step),
    "zero-debiased": lambda momentum, step: (_debiased(momentum, step),) * 2,
    "first batch replaces": lambda momentum, step: (np.where(np.equal(step, 1), 1.0, momentum),) * 2,
    "mean only": lambda momentum, _: (momentum, 0.0),
    "variance only": lambda momentum, _: (0.0, momentum),
    "twice": lambda momentum, _: (1 - (1 - momentum) ** 2,) * 2,
    "one step late": lambda momentum, _: (momentum, momentum),
    "deviations": lambda momentum, _: (momentum, momentum),
}
"""The weights of the batch's mean and variance in the running ones, from momentum and the number of the step."""


def _debiased(momentum: Count, step: Count) -> Count:
    with np.errstate(invalid="ignore", divide="ignore"):
        weight: Count = np.where(np.equal(momentum, 0), 0.0, np.divide(momentum, 1 - (1 - momentum) ** step))
    return weight


# -- gradients --------------------------------------------------------------------------------------------------------

INPUT_GRADIENT: Mapping[str, Callable[[Count, Count, Array | float], tuple[Count, Array | float]]] = {
    "full": lambda m, positions, _: (1.0, 1.0),
    "weight lost": lambda m, positions, _: (1.0, 1.0),
    "statistics constant": lambda m, positions, _: (0.0, 0.0),
    "no mean term": lambda m, positions, _: (0.0, 1.0),
    "no variance term": lambda m, positions, _: (1.0, 0.0),
    "mean term added": lambda m, positions, _: (-1.0, 1.0),
    "variance term added": lambda m, positions, _: (1.0, -1.0),
    "m - 1": lambda m, positions, _: (1.0, correction(m, 1)),
    "eps ignored": lambda m, positions, without_eps: (1.0, without_eps),
    "N": lambda m, positions, _: (positions, positions),
}
"""The factors of mean(g) and of x_hat * mean(g * x_hat) in dx."""
