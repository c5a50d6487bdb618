"""tract: the node BatchNormalization of an ONNX model and its relatives, parameters and statistics as constants.

It has evaluation alone, and takes no parameters of another dtype than that of x. A model is made for each call, through
a file, as tract reads no bytes.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tract
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT}
NAMES = "weight", "bias", "mean", "var"


class Tract:
    """Models are optimized, as they are by default."""

    name = "tract"
    version = tract.version()
    dtypes = ("float64", "float32")

    def train(self, *arrays: Array, momentum: float, eps: float) -> Any:
        raise NotImplementedError("tract is for evaluation only")

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return self._normalized("BatchNormalization", x, (weight, bias, running_mean, running_var), epsilon=float(eps))

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._normalized("LayerNormalization", x, (weight, bias), axis=-weight.ndim, epsilon=float(eps))

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("InstanceNormalization wants spatial axes")
        return self._normalized("InstanceNormalization", x, (weight, bias), epsilon=float(eps))

    def _normalized(self, operator: str, x: Array, held: tuple[Array, ...], **attributes: Any) -> Array:
        constants = [numpy_helper.from_array(np.ascontiguousarray(a), n) for a, n in zip(held, NAMES, strict=False)]
        node = helper.make_node(operator, ["x", *NAMES[: len(held)]], ["y"], **attributes)
        given, made = ([helper.make_tensor_value_info(name, TYPES[x.dtype.name], x.shape)] for name in "xy")
        graph = helper.make_graph([node], "graph", given, made, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            runnable = tract.onnx().load(path).into_model().into_runnable()
        return np.array(runnable.run([np.ascontiguousarray(x)])[0].to_numpy())
