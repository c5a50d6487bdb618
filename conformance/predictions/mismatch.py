"""How far results are from what was predicted: error over bound, element by element."""

import numpy as np

from normspec.conformance.cases.cases import AnyArray, Array
from normspec.conformance.predictions.prediction import Expected


def ratios(got: Array, expected: Expected) -> Array:
    """Error over bound for every element: at most 1 agrees, NaN is undecided.

    A prediction that is itself not finite (a formula that divides by 0) asks for just that: 0 if met, else infinite.
    """
    value, bound = expected
    with np.errstate(all="ignore"):
        error = abs(got.astype(np.float64) - value)
        if np.isfinite(plain := error / bound).all() and np.isfinite(bound).all():  # nearly always
            return plain
        ratio = np.where(bound == 0, np.where(error == 0, 0.0, np.inf), error / bound)
        ratio = np.where(np.isfinite(got.astype(np.float64)), ratio, np.inf)
        ratio = np.where(np.isfinite(bound), ratio, np.nan)
        same = (np.isnan(value) & np.isnan(got)) | (value == got)
        return np.where(np.isfinite(value), ratio, np.where(same, 0.0, np.inf))


def parted(one: AnyArray, other: AnyArray, bound: Array) -> tuple[int, ...] | None:
    """The first place where two results are further apart than `bound`, or one alone is NaN or infinite; or None."""
    with np.errstate(invalid="ignore"):
        apart = abs(one.astype(np.float64) - other.astype(np.float64))
        apart[(one == other) | (np.isnan(one) & np.isnan(other))] = 0  # or infinite alike
        outside = (apart > bound) | (np.isnan(apart) & np.isfinite(bound))
    return tuple(int(i) for i in np.argwhere(outside)[0]) if outside.any() else None
