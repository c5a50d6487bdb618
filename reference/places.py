"""Where values lie: which of them share their statistics, and which share a weight and a bias.

A formula asks for means over groups of values. `Whole` answers for the array of one case, along its axes. `Stack`
answers for many small cases of any shapes at once, laid one after another in one flat array: a call of NumPy costs more
than the arithmetic on a small case.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Count = Array | float
"""A number for each value or each parameter, or one for all."""


class Groups(Protocol):
    """The groups of values that share their statistics. Results broadcast against x."""

    @property
    def size(self) -> Count:
        """m, the number of values in a group."""

    def mean(self, a: Array) -> Array:
        """The mean over each group."""

    def largest(self, a: Array) -> Array:
        """The largest value of each group."""

    def smallest(self, a: Array) -> Array:
        """The smallest value of each group."""

    def middle(self, a: Array) -> tuple[Array, Array]:
        """The two values in the middle of each group; the same value twice where the number of values is odd."""


class Places(Protocol):
    """The groups and the parameters of x. A parameter is a weight with its bias and running statistics."""

    @property
    def samples(self) -> Count:
        """N, for each parameter."""

    @property
    def positions(self) -> Count:
        """Number of positions of a sample's channel: the product of the spatial axes, for each value."""

    @property
    def shared(self) -> Count:
        """Number of values that share a parameter, for each parameter."""

    @property
    def one_axis(self) -> bool:
        """Whether all parameters lie along axis 1 of x alone, as those of batch norm do."""

    def groups(self, axes: str, grouping: str = "contiguous") -> Groups:
        """The groups of values that share their statistics, see `Rules.axes` and `Rules.grouping`."""

    def groups_met(self, axes: str, grouping: str = "contiguous") -> Count:
        """The number of groups over the number of parameters, rounded down, for each parameter."""

    def counted(self, axes: str, counted: str, grouping: str = "contiguous") -> Array:
        """1 for the values that are counted, 0 for the others, see `Rules.counted`."""

    def spread(self, parameters: Array, index: str = "") -> Array:
        """The parameter of each value, in a shape that broadcasts against x; `index` is a rival's way of indexing."""

    def total(self, a: Array, index: str = "") -> Array:
        """The sum over the values that share a parameter, for each parameter."""

    def most(self, a: Array) -> Array:
        """The largest of the values that share a parameter, for each parameter."""

    def average(self, a: Array) -> Array:
        """The mean over the values that share a parameter, for each parameter; `a` may hold a value a group."""

    def elsewhere(self, parameters: Array, period: int) -> Array:
        """The parameter at index (channel modulo `period`) of the same case, for each parameter."""

    def gathered(self, parameters: Array, period: int) -> Array:
        """The adjoint of `elsewhere`: the sums of the parameters that are mapped to one."""

    def of_case(self, parameters: Array) -> Array:
        """The sum over all parameters of the same case, for each parameter."""


def reduced_axes(ndim: int, axes: str) -> tuple[int, ...]:
    """The axes of (N, C, *spatial) that a group runs over; see `Rules.axes`."""
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
    """Mean over `axes`, kept as 1: NaN of no values. Each group becomes a contiguous row, which NumPy adds pairwise."""
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = np.ascontiguousarray(x.transpose(kept + axes)).reshape(
        [*(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)]
    )
    mean: Array = rows.mean(axis=-1) if rows.shape[-1] else np.full(rows.shape[:-1], np.nan)
    return mean.reshape([1 if a in axes else n for a, n in enumerate(x.shape)])


def counted_places(length: int, counted: str) -> NDArray[np.bool_]:
    """Which places of an axis are counted, see `Rules.counted`."""
    places = np.arange(length)
    match counted.split():
        case ["whole", "blocks", "of", block]:
            return places < length // int(block) * int(block)
        case ["the", "first", count]:
            return places < int(count)
        case [*_, "first"]:
            return places > 0
        case _:
            return places < length - 1


# -- one case ---------------------------------------------------------------------------------------------------------


class AxisGroups:
    """Groups along axes of an array of one shape."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        self.shape, self.axes = shape, axes
        self.size = math.prod([shape[a] for a in axes])

    def mean(self, a: Array) -> Array:
        return mean_over(np.broadcast_to(a, self.shape), self.axes)

    @property
    def _kept(self) -> list[int]:
        return [1 if axis in self.axes else n for axis, n in enumerate(self.shape)]

    def largest(self, a: Array) -> Array:
        most: Array = a.max(self.axes, keepdims=True) if self.size else np.full(self._kept, np.nan)
        return most

    def smallest(self, a: Array) -> Array:
        least: Array = a.min(self.axes, keepdims=True) if self.size else np.full(self._kept, np.nan)
        return least

    def middle(self, a: Array) -> tuple[Array, Array]:
        kept = self._kept
        if not self.size:
            return np.full(kept, np.nan), np.full(kept, np.nan)
        ordered = np.sort(np.moveaxis(a, self.axes, range(len(self.axes))).reshape(self.size, math.prod(kept)), axis=0)
        low, high = (ordered[i].reshape(kept) for i in ((self.size - 1) // 2, self.size // 2))
        return low, high


class Whole:
    """The array of one case. Parameters lie on axis 1 of x and those behind it."""

    def __init__(self, shape: tuple[int, ...], parameters: tuple[int, ...]) -> None:
        self.shape, self.parameters = shape, parameters
        self.samples: Count = shape[0]
        self.positions: Count = math.prod(shape[2:])
        self.axes = tuple(a for a in range(len(shape)) if not 1 <= a <= len(parameters))
        self.shared: Count = max(math.prod(shape) // max(math.prod(parameters), 1), 1)
        self.one_axis = len(parameters) == 1

    def groups(self, axes: str, grouping: str = "contiguous") -> AxisGroups:  # noqa: ARG002  x is grouped already
        return AxisGroups(self.shape, reduced_axes(len(self.shape), axes))

    def groups_met(self, axes: str, grouping: str = "contiguous") -> Count:
        count = math.prod(self.shape) // max(self.groups(axes, grouping).size, 1)
        return count // max(math.prod(self.parameters), 1)

    def counted(self, axes: str, counted: str, grouping: str = "contiguous") -> Array:  # noqa: ARG002
        reduced = reduced_axes(len(self.shape), axes)
        axis = max(reduced, key=lambda a: self.shape[a], default=0)
        kept = counted_places(self.shape[axis], counted).astype(np.float64)
        return kept.reshape([len(kept) if a == axis else 1 for a in range(len(self.shape))])

    def spread(self, parameters: Array, index: str = "") -> Array:
        if index == "by position":
            return parameters[np.arange(self.shape[-1]) % parameters.size]
        return parameters.reshape(1, *parameters.shape, *[1] * (len(self.shape) - 1 - parameters.ndim))

    def total(self, a: Array, index: str = "") -> Array:
        a = np.broadcast_to(a, self.shape)
        if not a.size:
            return np.zeros(self.parameters)
        if index == "by position":
            of_place = mean_over(a, tuple(range(a.ndim - 1))).ravel() * (a.size // a.shape[-1])
            return _gathered(of_place, math.prod(self.parameters), math.prod(self.parameters))
        return mean_over(a, self.axes).reshape(self.parameters) * (a.size // max(math.prod(self.parameters), 1))

    def most(self, a: Array) -> Array:
        most = a.max(self.axes) if a.size else np.array(np.nan)
        return np.broadcast_to(most, self.parameters)

    def average(self, a: Array) -> Array:
        count = math.prod(self.parameters)
        if a.size == a.shape[1] == count:
            return a.reshape(self.parameters)
        return np.broadcast_to(mean_over(a, self.axes).ravel(), count).reshape(self.parameters).copy()

    def elsewhere(self, parameters: Array, period: int) -> Array:
        moved: Array = parameters[np.arange(parameters.size) % period]
        return moved

    def gathered(self, parameters: Array, period: int) -> Array:
        return _gathered(parameters, period, parameters.size)

    def of_case(self, parameters: Array) -> Array:
        return np.full_like(parameters, parameters.sum())


def _gathered(values: Array, period: int, size: int) -> Array:
    """The sum of every `period`-th value, as the first of `size` entries."""
    total = np.zeros(size, values.dtype)
    np.add.at(total, np.arange(values.size) % period, values)
    return total


# -- many cases -------------------------------------------------------------------------------------------------------


def _summed(labels: Index, values: Array, count: int) -> Array:
    """The sum of the values of each label from 0 to count - 1."""
    total: Array = np.bincount(labels, values, count).astype(np.float64, copy=False)
    return total


class LabelledGroups:
    """Groups of the values of a flat array that have one label, labels counting from 0."""

    def __init__(self, labels: Index, count: int) -> None:
        self.labels, self.count = labels, count
        self.sizes = np.bincount(labels, minlength=count)
        self.size: Array = self.sizes[labels].astype(np.float64)

    def sums(self, a: Array) -> Array:
        """The sum over each group, a value a group."""
        return _summed(self.labels, np.broadcast_to(a, self.labels.shape), self.count)

    def mean(self, a: Array) -> Array:
        mean: Array = (self.sums(a) / self.sizes)[self.labels]
        return mean

    @cached_property
    def _order(self) -> tuple[Index, Index]:
        order = np.argsort(self.labels, kind="stable")
        return order, np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def largest_of(self, a: Array) -> Array:
        """The largest value of each group, a value a group."""
        order, starts = self._order
        most: Array = np.maximum.reduceat(np.broadcast_to(a, self.labels.shape)[order], starts)
        return most

    def largest(self, a: Array) -> Array:
        return self.largest_of(a)[self.labels]

    def smallest(self, a: Array) -> Array:
        return -self.largest(-a)

    def middle(self, a: Array) -> tuple[Array, Array]:
        ordered, starts = a[np.lexsort((a, self.labels))], self._order[1]
        low, high = (ordered[starts + i][self.labels] for i in ((self.sizes - 1) // 2, self.sizes // 2))
        return low, high


@dataclass(frozen=True, eq=False)
class Placement:
    """How the values of one case lie, in the order of x in memory."""

    shape: tuple[int, ...]
    """Of x as its operation sees it, (N, C, *spatial); of group norm (N, G, C / G, *spatial)."""
    view: Callable[[Any, str], Any]
    """x in that shape, by the grouping."""
    parameter: Index
    """The index of each value's weight."""
    parameters: int
    samples: int
    positions: int
    one_axis: bool
    """Whether the parameters lie along axis 1 of the view alone."""

    @cached_property
    def _cache(self) -> dict[tuple[str, ...], Any]:
        return {}

    def labels(self, axes: str, grouping: str) -> tuple[Index, int]:
        """The group of each value, and their number."""
        key = axes, grouping
        if key not in self._cache:
            order = self.view(np.arange(self.parameter.size), grouping)
            reduced = reduced_axes(order.ndim, axes)
            kept = [1 if a in reduced else n for a, n in enumerate(order.shape)]
            count = math.prod(kept)
            labels = np.empty(order.size, np.intp)
            labels[order.ravel()] = np.broadcast_to(np.arange(count).reshape(kept), order.shape).ravel()
            self._cache[key] = labels, count
        found: tuple[Index, int] = self._cache[key]
        return found

    def counted(self, axes: str, counted: str, grouping: str) -> Array:
        """1 for the values that are counted."""
        key = axes, counted, grouping
        if key not in self._cache:
            order = self.view(np.arange(self.parameter.size), grouping)
            seen = Whole(order.shape, (1,)).counted(axes, counted)
            flat = np.empty(order.size)
            flat[order.ravel()] = np.broadcast_to(seen, order.shape).ravel()
            self._cache[key] = flat
        found: Array = self._cache[key]
        return found

    def by_position(self) -> Index:
        """The index of the weight that a rival takes: that of the place along the last axis."""
        last = self.shape[-1]
        return np.arange(self.parameter.size) % last % self.parameters


class Stack:
    """Many cases, one after another in one flat array, each with its own parameters. No case is empty."""

    def __init__(self, placements: Sequence[Placement]) -> None:
        self.placements = tuple(placements)
        self.sizes = np.array([p.parameter.size for p in placements], np.intp)
        self.counts = np.array([p.parameters for p in placements], np.intp)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.intp)
        self.firsts = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.intp)
        self._parameters = LabelledGroups(
            self._joined([p.parameter for p in placements], self.counts), self.counts.sum()
        )
        self.samples: Count = self.per_parameter([p.samples for p in placements])
        self.positions: Count = np.repeat([float(p.positions) for p in placements], self.sizes)
        self.shared: Count = self._parameters.sizes.astype(np.float64)
        self.one_axis = all(p.one_axis for p in placements)
        self._groups: dict[tuple[str, str], LabelledGroups] = {}

    @staticmethod
    def _joined(labels: Sequence[Index], counts: Sequence[int] | Index) -> Index:
        """Labels of all cases, each case's after those of the ones before."""
        offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return np.concatenate([one + offset for one, offset in zip(labels, offsets, strict=True)])

    def per_parameter(self, values: Sequence[float]) -> Array:
        """One number a case as one for each of its parameters."""
        return np.repeat(np.asarray(values, np.float64), self.counts)

    @cached_property
    def _by_position(self) -> LabelledGroups:
        return LabelledGroups(self._joined([p.by_position() for p in self.placements], self.counts), self.counts.sum())

    @cached_property
    def _case_of_parameter(self) -> Index:
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def groups(self, axes: str, grouping: str = "contiguous") -> LabelledGroups:
        key = axes, grouping
        if key not in self._groups:
            labels, counts = zip(*(p.labels(axes, grouping) for p in self.placements), strict=True)
            self._groups[key] = LabelledGroups(self._joined(labels, counts), sum(counts))
        return self._groups[key]

    def groups_met(self, axes: str, grouping: str = "contiguous") -> Count:
        return self.per_parameter([p.labels(axes, grouping)[1] // p.parameters for p in self.placements])

    def counted(self, axes: str, counted: str, grouping: str = "contiguous") -> Array:
        return np.concatenate([p.counted(axes, counted, grouping) for p in self.placements])

    def spread(self, parameters: Array, index: str = "") -> Array:
        groups = self._by_position if index == "by position" else self._parameters
        spread: Array = np.broadcast_to(parameters, (self._parameters.count,))[groups.labels]
        return spread

    def total(self, a: Array, index: str = "") -> Array:
        return (self._by_position if index == "by position" else self._parameters).sums(a)

    def most(self, a: Array) -> Array:
        return self._parameters.largest_of(a)

    def average(self, a: Array) -> Array:
        return self._parameters.sums(a) / self._parameters.sizes

    def elsewhere(self, parameters: Array, period: int) -> Array:
        moved: Array = parameters[self._moved(period)]
        return moved

    def gathered(self, parameters: Array, period: int) -> Array:
        return _summed(self._moved(period), parameters, len(parameters))

    def _moved(self, period: int) -> Index:
        first = np.repeat(self.firsts, self.counts)
        moved: Index = first + (np.arange(len(first)) - first) % period
        return moved

    def of_case(self, parameters: Array) -> Array:
        return _summed(self._case_of_parameter, parameters, len(self.counts))[self._case_of_parameter]
