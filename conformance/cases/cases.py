"""Cases: a few numbers that print as one line, and from which the arrays follow, the same on every machine."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import numpy_dtype, parameter_dtype
from normspec.reference import statistics

Array = NDArray[np.float64]
AnyArray = NDArray[Any]

LAYOUTS = ("contiguous", "channels last", "strided")


@dataclass(frozen=True, kw_only=True, repr=False)
class Case:
    """One problem to put to a backend.

    shape: (N, C, *spatial). data: how the values are spread, see `_patterns` and `_EXACT`. seed: for all that is
    random. location, scale: mean and standard deviation of x, up to a factor of a few by channel. eps, momentum: as
    handed over. layout: of x in memory, and of dy unless dy_layout gives another. parameters: "any" weight and bias,
    "unit" (1 and 0), or the pair that undoes the normalization. steps: batches in a row, where a layer is trained or a
    batch repeated. groups: of channels, in group norm. trailing: how many of the last axes layer norm runs over; 0 for
    all but the first. center, deviation: what generalized batch norm is asked for. devices: that share a split batch.
    """

    dtype: str
    shape: tuple[int, ...]
    data: str
    seed: int = 0
    location: float = 0.0
    scale: float = 1.0
    eps: float = 1e-5
    momentum: float = 0.25
    layout: str = "contiguous"
    dy_layout: str = ""
    parameters: str = "any"
    steps: int = 1
    groups: int = 1
    trailing: int = 0
    center: str = "mean"
    deviation: str = "standard"
    devices: int = 1

    def __repr__(self) -> str:
        """One line that rebuilds the case; what has its default is left out."""
        told = (f for f in fields(self) if f.default is MISSING or getattr(self, f.name) != f.default)
        return f"Case({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in told)})"

    @property
    def size(self) -> int:
        """m, the number of values behind one channel's statistics."""
        return math.prod(self.shape) // self.shape[1]

    @property
    def elements(self) -> int:
        """Number of values in x."""
        return math.prod(self.shape)


class Inputs(NamedTuple):
    """The arrays of a case as float64, each value already rounded to the dtype in which it is handed over."""

    x: Array
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array
    dy: Array


def inputs(case: Case) -> Inputs:
    """The arrays that follow from a case: x and dy of its shape, the others (C,). They may be written to."""
    x, weight, bias, mean, var, dy = _made(case)
    if case.parameters == "unit":
        weight, bias = np.ones_like(weight), np.zeros_like(bias)
    if case.parameters == "undo":
        groups = statistics(rounded(x, case.dtype))
        weight, bias = np.sqrt(groups.var + case.eps).ravel(), groups.mean.ravel()
    if case.data == "overlapping":
        x = np.broadcast_to(x[:1], x.shape)
    small = parameter_dtype(case.dtype)
    weight, bias, mean, var = (rounded(a, small) for a in (weight, bias, mean, var))
    return Inputs(rounded(x, case.dtype), weight, bias, mean, var, rounded(dy, case.dtype))


def rounded(values: Array, dtype: str) -> Array:
    """float64 values, rounded to `dtype`, as a new array."""
    return values.copy() if dtype == "float64" else _rounded(values, dtype)


@np.errstate(over="ignore")
def _rounded(values: Array, dtype: str) -> Array:
    return values.astype(numpy_dtype(dtype)).astype(np.float64)


_SMALL = 2**12
"""Elements of the largest case whose arrays are kept before rounding: all dtypes share them, and several pools."""


def _made(case: Case) -> tuple[Array, ...]:
    """The arrays before they are rounded, not to be written to."""
    key = case.shape, case.data, case.seed, case.location, case.scale
    return _kept(*key) if case.elements <= _SMALL else _drawn(*key)


@lru_cache(maxsize=8192)
def _kept(shape: tuple[int, ...], data: str, seed: int, location: float, scale: float) -> tuple[Array, ...]:
    return _drawn(shape, data, seed, location, scale)


def _drawn(shape: tuple[int, ...], data: str, seed: int, location: float, scale: float) -> tuple[Array, ...]:
    case = Case(dtype="float64", shape=shape, data=data, seed=seed, location=location, scale=scale)
    _RANDOM.seed(seed)  # making a new one takes longer than all that is drawn from it
    if data.startswith("every batch"):
        return _every_batch(case, _RANDOM)
    return _exact(case, _RANDOM) if data.startswith("exact") else _general(case, _RANDOM)


_RANDOM = np.random.RandomState(0)
"""The stream of a RandomState is frozen for good, unlike that of newer generators; seeded anew for each case."""


def _one_of(values: Sequence[float], random: np.random.RandomState, shape: int | tuple[int, ...]) -> Array:
    """Some of the values, each as likely as any other."""
    picked: Array = np.array(values)[(random.random_sample(shape) * len(values)).astype(np.intp)]
    return picked


# -- exact data: small integers times a power of two ------------------------------------------------------------------


def exact_spreads(size: int) -> tuple[int, ...]:
    """The m-variances that integers of sum 0 can be given in groups of `size` (see `_block`)."""
    return tuple(
        v for v in (3, 2, 1) if (v == 1 and size % 2 == 0) or (v == 2 and size > 2) or (v == 3 and not size % 4)
    )


def _block(spread: int, size: int) -> list[int]:
    """Integers of sum 0 and mean square `spread`."""
    if spread == 1:
        return [-1, 1] * (size // 2)
    if spread == 3:
        return [-3, 1, 1, 1] * (size // 4)
    blocks = {0: [], 1: [0, 0, -2, 2], 2: [-2, -1, 0, 1, 2]}
    return blocks[size % 3] + [-2, 1, 1] * ((size - len(blocks[size % 3])) // 3)


def _exact(case: Case, random: np.random.RandomState) -> tuple[Array, ...]:
    """x = scale * (offset + pattern): mean and m-variance are exact, and where eps fits so is the root."""
    channels, scale = case.shape[1], case.scale
    pattern = np.array(_block(int(case.data.split()[1]), case.size), np.float64)
    rows = pattern[random.random_sample((channels, case.size)).argsort(axis=1, kind="stable")]
    factors = np.array([1.0, -1.0, 2.0])[random.random_sample(3).argsort()]
    rows *= np.resize(factors, channels)[:, None]
    rows += _one_of((-4, -3, -2, -1, 1, 2, 3, 4), random, channels)[:, None]
    x = _from_rows(rows * scale, case.shape)
    weight = _one_of((0.5, 2.0, -1.5, 3.0, -0.5), random, channels)
    bias = _one_of((0.75, -1.0, 1.25, -2.0), random, channels)
    if channels > 1:
        weight[int(random.random_sample() * channels)] = 0.0
    mean = scale * _one_of((-6.0, -3.0, 5.0, 7.0), random, channels)
    var = scale**2 * _one_of((0.25, 0.5, 16.0, 32.0), random, channels)
    dy = _one_of((-2.0, -1.0, 0.0, 1.0, 3.0), random, case.shape)
    dy.flat[0] = 2.0 if dy.flat[-1] != 2.0 else 1.0
    return x, weight, bias, mean, var, dy


# -- all batches from a population ------------------------------------------------------------------------------------


def population(case: Case) -> Array:
    """The K different values from which a case "every batch of m from K" draws: integers, times its scale."""
    values = np.random.RandomState(case.seed).permutation(np.arange(-4, 6))[: int(case.data.split()[-1])]
    return case.scale * values.astype(np.float64)


def _every_batch(case: Case, random: np.random.RandomState) -> tuple[Array, ...]:
    """Each of the K^m batches of m values, drawn with replacement, as a channel; nothing tracked before."""
    values, (size, channels) = population(case), case.shape
    x = values[np.indices([len(values)] * size).reshape(size, channels)]
    none = np.zeros(channels)
    return x, none + 1, none, none, none, _one_of((-1.0, 1.0, 3.0), random, case.shape)


# -- general data -----------------------------------------------------------------------------------------------------

GENERAL = (
    "bell", "uniform", "two values", "alternating", "sorted", "heavy tails", "outlier first", "one-hot", "constant",
)  # fmt: skip


SPIKE = 2.0**14  # deviations; a case's scale keeps it inside the dtype


def _bell(random: np.random.RandomState, shape: tuple[int, ...]) -> Array:
    """Sums of four uniform numbers: near enough to a normal one, and free of library functions that differ.

    Many are taken from 65,536 of them, at a fifth of the time.
    """
    if math.prod(shape) > 2**16:
        picked: Array = _bell(random, (2**16,))[random.randint(0, 2**16, shape, dtype=np.uint16)]
        return picked
    total: Array = random.random_sample((4, *shape)).sum(0)
    return (total - 2.0) * math.sqrt(3.0)


def _pattern(data: str, random: np.random.RandomState, rows: tuple[int, int]) -> Array:
    """Values about 0 with a spread near 1, a channel a row."""
    values = _bell(random, rows)
    if data == "uniform":
        return (random.random_sample(rows) - 0.5) * math.sqrt(12.0)
    if data == "two values":
        return _one_of((-1.0, 1.0), random, rows)
    if data == "alternating":
        return np.broadcast_to(np.where(np.arange(rows[1]) % 2, 1.0, -1.0), rows) * (1 + 0.01 * values)
    if data == "sorted":
        return np.sort(values, axis=1)
    if data == "heavy tails":
        return values / np.maximum(random.random_sample(rows), 0.02)
    if data in ("outlier first", "one-hot"):
        rest = 0.0 if data == "one-hot" else 0.01 * values
        spike = np.zeros(rows)
        spike[:, 0] = math.sqrt(rows[1])
        return spike + rest
    if data.startswith("spike at "):
        # One value that outweighs the others, where a faulty reduction may lose it.
        spike = np.zeros(rows)
        spike[:, int(data.split()[2])] = 1.0
        return values + spike * SPIKE
    if data == "constant":
        return np.zeros(rows)
    if data in ("bell", "overlapping"):
        return values
    raise ValueError(f"no data are called {data!r}; there are exact 1, exact 2, exact 3, {', '.join(GENERAL)}")


def _general(case: Case, random: np.random.RandomState) -> tuple[Array, ...]:
    channels = case.shape[1]
    factor = _one_of((1.0, 0.5, 2.0), random, channels)
    sign = _one_of((-1.0, 1.0), random, channels)
    rows = _pattern(case.data, random, (channels, case.size))
    x = _from_rows((case.location * sign + case.scale * rows.T).T * factor[:, None], case.shape)
    weight, bias = _bell(random, (channels,)), _bell(random, (channels,))
    # Old state a few deviations and factors away from the batch's, so that both show in what is mixed.
    spread = max(case.scale, 1e-30)
    mean = (case.location + spread * (1 + random.random_sample(channels))) * factor
    var = (spread * factor) ** 2 * _one_of((0.2, 0.5, 3.0, 8.0), random, channels)
    dy = _bell(random, case.shape) + 0.5
    return x, weight, bias, mean, var, dy


def _from_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """A channel a row as (N, C, *spatial)."""
    return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


# -- memory -----------------------------------------------------------------------------------------------------------


def laid_out(values: Array, dtype: str, layout: str) -> AnyArray:
    """`values` as a fresh array of `dtype` whose memory is laid out as asked."""
    typed = values.astype(numpy_dtype(dtype))
    if layout == "channels last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(typed, 1, -1)), -1, 1)
    if layout == "transposed":
        return np.asfortranarray(typed)
    if layout == "strided":  # every other column of an array twice as wide, the gaps filled with other numbers
        double = np.full((*typed.shape[:-1], 2 * typed.shape[-1]), 77, typed.dtype)
        double[..., ::2] = typed
        return double[..., ::2]
    if layout == "offset":  # channels last, inside an array of twice as many channels
        double = np.full((typed.shape[0], *typed.shape[2:], 2 * typed.shape[1]), 77, typed.dtype)
        double[..., typed.shape[1] :] = np.moveaxis(typed, 1, -1)
        return np.moveaxis(double[..., typed.shape[1] :], -1, 1)
    if layout == "reversed":  # backwards in memory, along the last axis
        return np.ascontiguousarray(typed[..., ::-1])[..., ::-1]
    if layout == "zero stride":  # one sample seen N times; only for batches of equal samples
        return np.lib.stride_tricks.as_strided(
            np.ascontiguousarray(typed[0]), typed.shape, (0, *np.ascontiguousarray(typed[0]).strides)
        )
    return np.ascontiguousarray(typed)
