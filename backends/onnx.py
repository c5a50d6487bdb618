"""ONNX's reference evaluator, in NumPy: the node BatchNormalization and its relatives, a model for each."""

import importlib.metadata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]


TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
}
OPSETS = {"GroupNormalization": 21, "RMSNormalization": 23}
"""Where an operator is younger than opset 17; group norm of opset 18 has a weight a group, not a channel."""


Kind = tuple[str, int]
"""dtype and number of axes."""


@lru_cache(maxsize=512)
def _operator(operator: str, kinds: tuple[Kind, ...], returned: tuple[int, ...], attributes: Any) -> Any:
    """An evaluator of a single node; `returned` says which input each output has dtype and number of axes of."""
    opset, latest = OPSETS.get(operator, 17), defs.onnx_opset_version()
    if opset > latest:
        raise NotImplementedError(f"{operator} is of opset {opset}, and this ONNX knows up to {latest}")
    inputs, outputs = (
        [helper.make_tensor_value_info(f"{end}{i}", TYPES[dtype], [None] * ndim) for i, (dtype, ndim) in enumerate(of)]
        for end, of in (("in", kinds), ("out", [kinds[i] for i in returned]))
    )
    given, made = ([value.name for value in end] for end in (inputs, outputs))
    graph = helper.make_graph([helper.make_node(operator, given, made, **dict(attributes))], "graph", inputs, outputs)
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def _run(operator: str, arrays: Sequence[Array], returned: tuple[int, ...] = (0,), **attributes: Any) -> Any:
    kinds = tuple((a.dtype.name, a.ndim) for a in arrays)
    evaluator = _operator(operator, kinds, returned, tuple(attributes.items()))
    return evaluator.run(None, {f"in{i}": a for i, a in enumerate(arrays)})


def _alike(x: Array, *parameters: Array) -> tuple[Array, ...]:
    """The inputs of an operator whose inputs all have one dtype."""
    if any(a.dtype != x.dtype for a in parameters):
        raise NotImplementedError("scale and bias have the dtype of x")
    return x, *parameters


class OnnxReference:
    """It is what other runtimes of ONNX are compared with."""

    name = "onnx-reference"
    version = importlib.metadata.version("onnx")
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def train(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        momentum: float,
        eps: float,
    ) -> Any:
        arrays = x, weight, bias, running_mean, running_var
        attributes = {"epsilon": float(eps), "momentum": float(momentum), "training_mode": 1}
        return _run("BatchNormalization", arrays, (0, 3, 4), **attributes)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return _run("BatchNormalization", (x, weight, bias, running_mean, running_var), epsilon=float(eps))[0]

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return _run("LayerNormalization", _alike(x, weight, bias), axis=-weight.ndim, epsilon=float(eps))[0]

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("InstanceNormalization wants spatial axes")
        return _run("InstanceNormalization", _alike(x, weight, bias), epsilon=float(eps))[0]

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        return _run("GroupNormalization", _alike(x, weight, bias), num_groups=num_groups, epsilon=float(eps))[0]

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return _run("RMSNormalization", _alike(x, weight), axis=-weight.ndim, epsilon=float(eps))[0]
