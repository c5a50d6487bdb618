"""The operations as records: how an adapter is called, and which values share statistics, a weight and a bias.

How adapters are called, what is predicted, and what hygiene, scripts and the backend's process know of arguments
follows from `OPERATIONS`. The formulas are in `reference`, the cases of each operation in `pools`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from normspec.conformance.cases.arithmetic import parameter_dtype
from normspec.conformance.cases.cases import Array, Case
from normspec.reference import ARTICLE, Rules, relatives
from normspec.reference.places import Placement, reduced_axes
from normspec.reference.relatives import grouped, ungrouped

STATE = ("running_mean", "running_var")
PARAMETERS = ("weight", "bias")
GRADIENTS = ("dx", "dweight", "dbias")
LIKE: Mapping[str, str] = {
    "y": "x",
    **{name: name for name in STATE},
    **{f"d{name}": name for name in ("x", *PARAMETERS, "u", "w", "b")},
}
"""The argument whose shape and dtype a result has."""


def dtype_of(argument: str, dtype: str) -> str:
    """The dtype of an argument where x is of `dtype`."""
    return parameter_dtype(dtype) if argument in (*PARAMETERS, *STATE) else dtype


@dataclass(frozen=True, eq=False)
class Method:
    """A function of the contract."""

    name: str
    kind: str
    """What predicts its results, see `predictions.stacks`."""
    arguments: tuple[str, ...]
    """The arrays it is given, in order."""
    results: tuple[str, ...]
    options: tuple[str, ...] = ("eps",)
    """Its keyword arguments."""

    @property
    def traced(self) -> tuple[str, ...]:
        """What a trace of it holds: its results; of an evaluation, too, what the given state holds after it."""
        return (*self.results, *STATE) if self.kind == "evaluate" else self.results

    def option(self, name: str, case: Case) -> Any:
        """The value of a keyword argument."""
        return getattr(case, FIELDS.get(name, name))


FIELDS: Mapping[str, str] = {"num_groups": "groups"}
"""The field of a case that holds a keyword argument, where it has another name."""


@dataclass(frozen=True)
class Arrangement:
    """How x and its parameters lie. In the view of x the parameters lie on axis 1 and those behind it."""

    lie: Literal["channels", "rows", "groups", "units"]
    """A parameter for each channel, for each place in the last axes, for each channel in groups, or for each unit."""
    shape: tuple[int, ...]
    groups: int = 1
    trailing: int = 0
    """How many last axes a row has; 0: all but the first."""

    @property
    def parameters(self) -> tuple[int, ...]:
        """The shape of weight and bias."""
        if self.lie == "rows":
            return self.shape[-self.trailing :] if self.trailing else self.shape[1:]
        return self.shape[:1] if self.lie == "units" else self.shape[1:2]

    def view(self, x: Any, grouping: Any = "contiguous") -> Any:
        """x, or an array like it, in the shape that the formulas take."""
        if self.lie == "groups":
            return grouped(x.reshape(self.shape), self.groups, Rules(grouping=grouping))
        seen = {"rows": (-1, *self.parameters), "units": (1, self.shape[0], -1), "channels": self.shape}
        return x.reshape(seen[self.lie])

    def view_of_parameters(self, weight: Any, grouping: Any = "contiguous") -> Any:
        """The same for weight and bias."""
        return grouped(weight, self.groups, Rules(grouping=grouping)) if self.lie == "groups" else weight

    def restored(self, result: Array, argument: str, grouping: Any) -> Array:
        """A result of the formulas in the shape of the argument that it is like."""
        if self.lie == "groups":
            of_x = argument == "x"
            result = ungrouped(result if of_x else result[None], Rules(grouping=grouping))
            return result if of_x else result[0]
        return result.reshape(self.shape) if argument == "x" and self.lie != "channels" else result

    @property
    def placement(self) -> Placement:
        """The same for stacks of cases."""
        return _placement(self)


@lru_cache(maxsize=4096)
def _placement(arrangement: Arrangement) -> Placement:
    order = arrangement.view(np.arange(math.prod(arrangement.shape)))
    count = math.prod(arrangement.parameters)
    index = arrangement.view_of_parameters(np.arange(count).reshape(arrangement.parameters))
    spread = index.reshape(*index.shape, *[1] * (order.ndim - 1 - index.ndim))
    of_value = np.empty(order.size, np.intp)
    of_value[order.ravel()] = np.broadcast_to(spread, order.shape).ravel()
    positions = math.prod(order.shape[2:])
    return Placement(order.shape, arrangement.view, of_value, count, len(order), positions, one_axis=index.ndim == 1)


@dataclass(frozen=True, eq=False)
class Operation:
    """A way of normalizing."""

    name: str
    """As claims use it."""
    rules: Rules
    """What it is; rivals replace a choice."""
    methods: tuple[Method, ...]
    lie: Literal["channels", "rows", "groups", "units"] = "channels"
    """How parameters lie, see `Arrangement`."""

    @property
    def over_batch(self) -> bool:
        """Whether values of different samples share statistics."""
        return self.rules.axes == "channel"

    @property
    def bias(self) -> bool:
        """Whether there is one."""
        return "bias" in self.methods[0].arguments

    @property
    def tracks(self) -> bool:
        """Whether it has running statistics."""
        return any(set(STATE) & set(method.arguments) for method in self.methods)

    @property
    def behind_linear(self) -> bool:
        """Whether a linear layer comes before it."""
        return "u" in self.methods[0].arguments

    def arrangement(self, case: Case) -> Arrangement:
        """How the arrays of a case lie."""
        return Arrangement(self.lie, case.shape, case.groups, case.trailing)

    def size(self, case: Case) -> int:
        """How many values share their statistics."""
        shape = self.arrangement(case).view(np.empty(case.shape, np.bool_)).shape
        return math.prod(shape[axis] for axis in reduced_axes(len(shape), self.rules.axes))


def _tracking(prefix: str = "") -> tuple[Method, Method]:
    """A training step and an evaluation, with running statistics."""
    given = ("x", *PARAMETERS, *STATE)
    return (
        Method(f"{prefix}train", "train", given, ("y", *STATE), ("momentum", "eps")),
        Method(f"{prefix}evaluate", "evaluate", given, ("y",)),
    )


def _plain(
    name: str, *parameters: str, options: tuple[str, ...] = ("eps",), kinds: tuple[str, str] = ("normalized", "train")
) -> tuple[Method, Method]:
    """A function without running statistics, and its gradients."""
    forward, backward = kinds
    given = ("x", *(parameters or PARAMETERS))
    gradients = tuple(f"d{argument}" for argument in given)
    return (
        Method(name, forward, given, ("y",), options),
        Method(f"{name}_gradients", f"{backward} gradients", (*given, "dy"), gradients, options),
    )


_LINEAR = ("u", "w", "b", *PARAMETERS)

BATCH_NORM = Operation(
    "batch norm",
    ARTICLE,
    (
        *_tracking(),
        Method("train_gradients", "train gradients", ("x", *PARAMETERS, "dy"), GRADIENTS),
        Method("evaluate_gradients", "evaluate gradients", ("x", *PARAMETERS, *STATE, "dy"), GRADIENTS),
    ),
)
OPERATIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        BATCH_NORM,
        Operation("layer norm", relatives.LAYER, _plain("layer_norm"), "rows"),
        Operation("instance norm", relatives.INSTANCE, (*_plain("instance_norm"), *_tracking("instance_norm_"))),
        Operation("group norm", relatives.GROUP, _plain("group_norm", options=("num_groups", "eps")), "groups"),
        Operation("rms norm", relatives.RMS, _plain("rms_norm", "weight"), "rows"),
        Operation(
            "weight norm",
            relatives.WEIGHT,
            _plain("weight_norm", "weight", options=(), kinds=("weight norm", "weight norm")),
            "units",
        ),
        Operation("l1 batch norm", relatives.L1, _plain("l1_batch_norm")),
        Operation(
            "generalized batch norm",
            relatives.GENERALIZED,
            _plain("generalized_batch_norm", options=("center", "deviation", "eps")),
        ),
        Operation(
            "linear norm",
            ARTICLE,
            (
                Method("linear_norm", "linear", _LINEAR, ("y",)),
                Method(
                    "linear_norm_gradients",
                    "linear gradients",
                    (*_LINEAR, "dy"),
                    tuple(f"d{argument}" for argument in _LINEAR),
                ),
            ),
        ),
        Operation(
            "train split",
            ARTICLE,
            (
                Method(
                    "train_split", "split", ("x", *PARAMETERS, *STATE), ("y", *STATE), ("devices", "momentum", "eps")
                ),
                Method(
                    "train_split_gradients", "split gradients", ("x", *PARAMETERS, "dy"), GRADIENTS, ("devices", "eps")
                ),
            ),
        ),
    )
}
"""Every operation, by name."""
METHODS: Mapping[str, Method] = {method.name: method for o in OPERATIONS.values() for method in o.methods}
"""Every function of the contract that is one call of an operation, by name."""
OF_METHOD: Mapping[str, Operation] = {method.name: o for o in OPERATIONS.values() for method in o.methods}
"""The operation of every method, by the method's name."""
