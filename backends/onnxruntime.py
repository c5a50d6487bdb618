"""ONNX Runtime on the CPU: the node BatchNormalization and its relatives, a model for each, all tensors as inputs."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

Array = NDArray[Any]


TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
OPSETS = {"GroupNormalization": 21, "RMSNormalization": 23}
"""Where an operator is younger than opset 17; group norm of opset 18 has a weight a group, not a channel."""
IR_VERSIONS = {17: 8, 21: 10, 23: 11}

Kind = tuple[str, int]
"""dtype and number of axes."""


def _model(nodes: Sequence[Any], inputs: Any, outputs: Any, constants: Any = ()) -> bytes:
    """A model of nodes with dynamic dimensions; inputs and outputs are triples of name, dtype and number of axes."""
    opset = max(OPSETS.get(node.op_type, 17) for node in nodes)
    given, made = (
        [helper.make_tensor_value_info(name, TYPES[dtype], [None] * ndim) for name, dtype, ndim in end]
        for end in (inputs, outputs)
    )
    held = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "graph", given, made, held)
    operators = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSIONS[opset])
    return bytes(model.SerializeToString())


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # faster at the sizes of a conformance run
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    except NoKernel as error:  # no kernel for these dtypes
        raise NotImplementedError(str(error)) from None


@lru_cache(maxsize=512)
def _operator(operator: str, kinds: tuple[Kind, ...], returned: tuple[int, ...], asked: int, attributes: Any) -> Any:
    """A session of a single node; `returned` says which input each output has dtype and number of axes of.

    The first `asked` of them are outputs of the graph.
    """
    opset = OPSETS.get(operator, 17)
    if opset > LATEST:
        raise NotImplementedError(f"{operator} is of opset {opset}, and this ONNX Runtime knows up to {LATEST}")
    inputs = [(f"in{i}", *kind) for i, kind in enumerate(kinds)]
    outputs = [(f"out{i}", *kinds[of]) for i, of in enumerate(returned)]
    given, made = ([name for name, *_ in end] for end in (inputs, outputs))
    return _session(_model([helper.make_node(operator, given, made, **dict(attributes))], inputs, outputs[:asked]))


def _run(
    operator: str, arrays: Sequence[Array], returned: tuple[int, ...] = (0,), asked: int = 3, **attributes: Any
) -> Any:
    kinds = tuple((a.dtype.name, a.ndim) for a in arrays)
    session = _operator(operator, kinds, returned, asked, tuple(attributes.items()))
    return session.run(None, {f"in{i}": a for i, a in enumerate(arrays)})


def _alike(x: Array, *parameters: Array) -> tuple[Array, ...]:
    """The inputs of an operator whose inputs all have one dtype."""
    if any(a.dtype != x.dtype for a in parameters):
        raise NotImplementedError("scale and bias have the dtype of x")
    return x, *parameters


def _latest() -> int:
    """The newest of the opsets asked for here that this ONNX Runtime takes."""
    for opset in sorted(IR_VERSIONS, reverse=True):
        x, y = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy")
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", x, y)
        operators = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=operators, ir_version=IR_VERSIONS[opset])
        try:
            _session(model.SerializeToString())
        except Exception:  # its own kinds of exception derive from this one alone
            continue
        return opset
    return 0


LATEST = _latest()


class OnnxRuntime:
    """Everything is an input of the graph, so that no pass of the optimizer knows the statistics."""

    name = "onnxruntime"
    version = onnxruntime.__version__
    dtypes: tuple[str, ...] = ("float64", "float32", "float16")

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
        return _run("LayerNormalization", _alike(x, weight, bias), axis=-weight.ndim, epsilon=float(eps))[0]

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("InstanceNormalization wants spatial axes")
        return _run("InstanceNormalization", _alike(x, weight, bias), epsilon=float(eps))[0]

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        return _run("GroupNormalization", _alike(x, weight, bias), num_groups=num_groups, epsilon=float(eps))[0]

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return _run("RMSNormalization", _alike(x, weight), axis=-weight.ndim, epsilon=float(eps))[0]


class OnnxRuntimeYAlone(OnnxRuntime):
    """In training y alone is an output of the graph, as in a network, where nobody asks for the running statistics.

    Those come from a second model, which returns them.
    """

    name = "onnxruntime-y-alone"

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
        _, mean, var = super().train(*arrays, momentum=momentum, eps=eps)
        attributes: Any = {"epsilon": float(eps), "momentum": float(momentum), "training_mode": 1}
        [y] = _run("BatchNormalization", arrays, (0, 3, 4), asked=1, **attributes)
        return y, mean, var


class OnnxRuntimeFolded(OnnxRuntime):
    """Parameters and statistics are constants, as in a deployed network, so that the optimizer may compute with them.

    In evaluation there is a convolution in front that changes nothing, into which batch norm is folded.
    """

    name = "onnxruntime-folded"
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
        made = ("y", x.ndim), ("mean", 1), ("var", 1)
        attributes: Any = {"epsilon": float(eps), "momentum": float(momentum), "training_mode": 1}
        return self._normalized([], "x", x, (weight, bias, running_mean, running_var), made, **attributes)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        held, before, made = (weight, bias, running_mean, running_var), [], "x"
        if 2 < x.ndim < 6 and x.dtype == np.float32:  # there is no convolution for others
            kernel = np.ones((x.shape[1], 1, *[1] * (x.ndim - 2)), x.dtype)
            before, made = [("Conv", {"group": x.shape[1]}, [("kernel", kernel)])], "z"
        return self._normalized(before, made, x, held, (("y", x.ndim),), epsilon=float(eps))[0]

    def linear_norm(self, u: Array, w: Array, b: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if u.ndim > 2 and u.dtype == np.float64:
            raise NotImplementedError("there is no convolution in float64")
        before = ("Conv", {}, [("w", w), ("b", b)]) if u.ndim > 2 else ("Gemm", {"transB": 1}, [("w", w), ("b", b)])
        held = weight, bias, np.zeros_like(weight), np.ones_like(weight)
        return self._normalized([before], "z", u, held, (("y", u.ndim),), epsilon=float(eps), training_mode=1)[0]

    def _normalized(
        self, before: Any, given: str, x: Array, held: Sequence[Array], made: Any, **attributes: Any
    ) -> Any:
        """What batch norm with constants gives of x, behind a layer of constants if there is one."""
        dtype = x.dtype.name
        constants = [*zip(("weight", "bias", "running_mean", "running_var"), held, strict=True)]
        nodes = []
        for operator, of_operator, own in before:
            nodes.append(helper.make_node(operator, ["x", *(name for name, _ in own)], [given], **of_operator))
            constants += own
        names = [given, "weight", "bias", "running_mean", "running_var"]
        outputs = ["y", "mean", "var"] if attributes.get("training_mode") else ["y"]
        nodes.append(helper.make_node("BatchNormalization", names, outputs, **attributes))
        ends = [(name, dtype, ndim) for name, ndim in made]
        return _session(_model(nodes, [("x", dtype, x.ndim)], ends, constants)).run(None, {"x": x})
