"""OpenVINO on the CPU: models of ONNX, the node BatchNormalization and its relatives, compiled with dynamic shapes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT}
OPSETS = {"GroupNormalization": 21, "RMSNormalization": 23}
"""Where an operator is younger than opset 17; group norm of opset 18 has a weight a group, not a channel."""
IR_VERSIONS = {17: 8, 21: 10, 23: 11}

Kind = tuple[str, tuple[int | None, ...]]
"""dtype and shape."""

_core = openvino.Core()


def _compiled(nodes: Sequence[Any], inputs: Any, outputs: Any, constants: Any = ()) -> Any:
    """A model of nodes; inputs and outputs are triples of name, dtype and shape."""
    opset = max(OPSETS.get(node.op_type, 17) for node in nodes)
    given, made = (
        [helper.make_tensor_value_info(n, TYPES[d], shape) for n, d, shape in end] for end in (inputs, outputs)
    )
    held = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "graph", given, made, held)
    operators = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSIONS[opset])
    # Without the hint OpenVINO computes in bfloat16 where the processor can.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return _core.compile_model(_core.read_model(model.SerializeToString()), "CPU", options)


def _results(model: Any, arrays: Sequence[Array]) -> list[Array]:
    results = model([np.ascontiguousarray(a) for a in arrays])
    return [results[i].copy() for i in range(len(model.outputs))]


@lru_cache(maxsize=16)  # each model has two threads of its own for as long as it lives
def _operator(operator: str, kinds: tuple[Kind, ...], returned: tuple[int, ...], attributes: Any) -> Any:
    """A model of a single node; `returned` says which input each output has dtype and shape of."""
    inputs = [(f"in{i}", *kind) for i, kind in enumerate(kinds)]
    outputs = [(f"out{i}", *kinds[of]) for i, of in enumerate(returned)]
    given, made = ([name for name, *_ in end] for end in (inputs, outputs))
    return _compiled([helper.make_node(operator, given, made, **dict(attributes))], inputs, outputs)


def _run(operator: str, arrays: Sequence[Array], returned: tuple[int, ...] = (0,), **attributes: Any) -> Any:
    kinds = tuple((a.dtype.name, (None,) * a.ndim) for a in arrays)
    return _results(_operator(operator, kinds, returned, tuple(attributes.items())), arrays)


class OpenVino:
    """Everything is an input of the model."""

    name = "openvino"
    version = openvino.__version__.partition("-")[0]
    dtypes = ("float64", "float32")

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
        attributes: Any = {"epsilon": float(eps), "momentum": float(momentum), "training_mode": 1}
        return _run("BatchNormalization", arrays, (0, 3, 4), **attributes)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return _run("BatchNormalization", (x, weight, bias, running_mean, running_var), epsilon=float(eps))[0]

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return _run("LayerNormalization", (x, weight, bias), axis=-weight.ndim, epsilon=float(eps))[0]

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("InstanceNormalization wants spatial axes")
        return _run("InstanceNormalization", (x, weight, bias), epsilon=float(eps))[0]

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("GroupNormalization wants spatial axes")
        return _run("GroupNormalization", (x, weight, bias), num_groups=num_groups, epsilon=float(eps))[0]

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return _run("RMSNormalization", (x, weight), axis=-weight.ndim, epsilon=float(eps))[0]


class OpenVinoFolded(OpenVino):
    """Shapes are fixed, parameters and statistics are constants, as in a deployed network.

    In evaluation there is a convolution in front that changes nothing, into which batch norm is folded.
    """

    name = "openvino-folded"
    compiles = True

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
        attributes: Any = {"epsilon": float(eps), "momentum": float(momentum), "training_mode": 1}
        return self._normalized(x, (weight, bias, running_mean, running_var), None, **attributes)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        kernel = np.ones((x.shape[1], 1, *[1] * (x.ndim - 2)), x.dtype) if 2 < x.ndim < 6 else None
        return self._normalized(x, (weight, bias, running_mean, running_var), kernel, epsilon=float(eps))[0]

    def _normalized(self, x: Array, held: Sequence[Array], kernel: Array | None, **attributes: Any) -> Any:
        """What batch norm with constants gives of x, behind a convolution of each channel by itself if there is one."""
        constants, nodes, given = [*zip("abcd", held, strict=True)], [], "x"
        if kernel is not None:
            constants.append(("kernel", kernel))
            nodes.append(helper.make_node("Conv", ["x", "kernel"], ["z"], group=x.shape[1]))
            given = "z"
        outputs = ["y", "mean", "var"] if attributes.get("training_mode") else ["y"]
        nodes.append(helper.make_node("BatchNormalization", [given, *"abcd"], outputs, **attributes))
        kinds = [(x.dtype.name, shape) for shape in (x.shape, x.shape[1:2], x.shape[1:2])]
        ends = [(name, *kind) for name, kind in zip(outputs, kinds, strict=False)]
        return _results(_compiled(nodes, [("x", *kinds[0])], ends, constants), [x])
