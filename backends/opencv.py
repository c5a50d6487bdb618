"""OpenCV's dnn module: the node BatchNormalization of an ONNX model, parameters and statistics as constants.

It has evaluation alone. A model is made for each call, which takes less than a millisecond.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

NAMES = "weight", "bias", "mean", "var"


class OpenCv:
    """It computes in float32."""

    name = "opencv"
    version = cv2.__version__
    dtypes = ("float32",)

    def train(self, *arrays: Array, momentum: float, eps: float) -> Any:
        raise NotImplementedError("OpenCV's dnn is for evaluation only")

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

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        if x.ndim < 3:
            raise NotImplementedError("GroupNormalization wants spatial axes")
        attributes = {"num_groups": num_groups, "epsilon": float(eps)}
        return self._normalized("GroupNormalization", x, (weight, bias), opset=21, **attributes)

    def _normalized(
        self, operator: str, x: Array, held: tuple[Array, ...], *, opset: int = 17, **attributes: Any
    ) -> Array:
        constants = [numpy_helper.from_array(np.ascontiguousarray(a), n) for a, n in zip(held, NAMES, strict=False)]
        node = helper.make_node(operator, ["x", *NAMES[: len(held)]], ["y"], **attributes)
        given, made = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape)] for name in "xy")
        graph = helper.make_graph([node], "graph", given, made, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        net = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
        net.setInput(np.ascontiguousarray(x), "x")
        return np.array(net.forward())
