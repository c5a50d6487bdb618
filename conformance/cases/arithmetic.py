"""The arithmetic a backend is judged by: unit roundoffs, and the grades of precision.

A grade fixes how roughly a sound implementation may compute. Grades of one dtype are ordered from fine to coarse; each
admits all that the ones before it admit. The first in which all results agree with a formula is the backend's grade.
"""

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = ("float64", "float32", "bfloat16", "float16")
SHORT = {"float64": "f64", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
REFERENCE = 2.0**-53  # roundoff of the float64 reference, whose own error is part of every bound


@dataclass(frozen=True)
class Format:
    """A floating-point format: unit roundoff, what one underflow loses at most, and the largest number."""

    roundoff: float
    tiny: float
    largest: float


# bfloat16 and float32 may be flushed to zero below the smallest normal number; float16 underflows gradually.
FORMATS = {
    "float64": Format(2.0**-53, 2.0**-1022, float(np.finfo(np.float64).max)),
    "float32": Format(2.0**-24, 2.0**-126, float(np.finfo(np.float32).max)),
    "bfloat16": Format(2.0**-8, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float16": Format(2.0**-11, 2.0**-24, 65504.0),
}


@dataclass(frozen=True)
class Arithmetic:
    """Unit roundoffs of the sums, of elementwise steps, and of what is returned; whether the variance is one-pass."""

    grade: str
    sums: float
    steps: float
    result: Format
    """Of y and dx."""
    kept: Format
    """Of the running statistics, dweight and dbias."""
    inner: Format
    one_pass: bool = False
    parts: bool = False
    """Whether dx is added up from parts already rounded to the result's format."""


def parameter_dtype(dtype: str) -> str:
    """The dtype of weight, bias and running statistics beside an x of `dtype`."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype of that name; bfloat16 is the one of ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def _grades(dtype: str) -> tuple[Arithmetic, ...]:
    own, wide, kept = FORMATS[dtype], FORMATS["float32"], FORMATS[parameter_dtype(dtype)]
    if dtype in ("float64", "float32"):
        narrower = FORMATS["float32" if dtype == "float64" else "bfloat16"].roundoff
        stable = Arithmetic("stable", own.roundoff, own.roundoff, own, own, own)
        one_pass = replace(stable, grade="one pass", one_pass=True)
        return stable, one_pass, replace(one_pass, grade="narrow sums", sums=narrower, steps=narrower)
    stable = Arithmetic("wide", wide.roundoff, wide.roundoff, own, kept, wide)
    one_pass = replace(stable, grade="wide, one pass", one_pass=True)
    parts = replace(one_pass, grade="parts", parts=True)
    steps = replace(parts, grade="half steps", steps=own.roundoff, inner=own)
    return stable, one_pass, parts, steps, replace(steps, grade="narrow", sums=own.roundoff)


GRADES = {dtype: _grades(dtype) for dtype in DTYPES}


GRADE_NAMES = frozenset(arithmetic.grade for grades in GRADES.values() for arithmetic in grades)


def own_grades(dtype: str) -> list[Arithmetic]:
    """The grades that compute in `dtype` itself or wider."""
    return [a for a in GRADES[dtype] if a.grade != "narrow sums"]


def formula_grades(dtype: str) -> list[Arithmetic]:
    """The grades in which formulas are compared.

    A float32 backend that computes in half precision is left to the claims on precision: its bound would hide much.
    """
    return list(GRADES[dtype]) if dtype == "float64" else own_grades(dtype)


def coarsest(dtype: str) -> Arithmetic:
    """The coarsest grade that computes in `dtype` itself."""
    return own_grades(dtype)[-1]


def shortest(value: float, reach: float) -> str:
    """The decimal with the fewest digits that is within `reach` of a value."""
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if abs(float(text) - value) <= reach:
            return f"{float(text):g}" if digits <= 6 else text
    return repr(value)
