"""PaddlePaddle: `batch_norm` and its relatives, of `paddle.nn.functional`; layers `BatchNorm1D` to `3D`."""

from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from paddle.nn import functional

Array = NDArray[Any]
Arrays = tuple[Array, ...]


def _tensor(array: Array) -> Any:
    return paddle.to_tensor(np.array(array))


def _array(tensor: Any) -> Array:
    array: Array = np.array(tensor.numpy())
    return array


def _leaves(*arrays: Array) -> list[Any]:
    """Tensors whose gradients are asked for."""
    tensors = list(map(_tensor, arrays))
    for tensor in tensors:
        tensor.stop_gradient = False
    return tensors


def _gradients(y: Any, leaves: list[Any], dy: Array) -> Arrays:
    return tuple(map(_array, paddle.grad([y], leaves, [_tensor(dy)])))


class Paddle:
    """Eager, on the CPU, whose kernels take float64 and float32."""

    name = "paddle"
    version = paddle.__version__
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
    ) -> Arrays:
        x_, weight_, bias_, mean, var = map(_tensor, (x, weight, bias, running_mean, running_var))
        y = functional.batch_norm(x_, mean, var, weight_, bias_, training=True, momentum=momentum, epsilon=eps)
        return _array(y), _array(mean), _array(var)  # updated in place

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        x_, weight_, bias_, mean, var = map(_tensor, (x, weight, bias, running_mean, running_var))
        return _array(functional.batch_norm(x_, mean, var, weight_, bias_, training=False, epsilon=eps))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        leaves = _leaves(x, weight, bias)
        mean, var = _tensor(np.zeros_like(weight)), _tensor(np.ones_like(weight))
        y = functional.batch_norm(leaves[0], mean, var, *leaves[1:], training=True, epsilon=eps)
        return _gradients(y, leaves, dy)

    def evaluate_gradients(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        dy: Array,
        *,
        eps: float,
    ) -> Arrays:
        leaves = _leaves(x, weight, bias)
        mean, var = _tensor(running_mean), _tensor(running_var)
        y = functional.batch_norm(leaves[0], mean, var, *leaves[1:], training=False, epsilon=eps)
        return _gradients(y, leaves, dy)

    def _layer_norm(self, shape: tuple[int, ...], eps: float, x: Any, weight: Any, bias: Any) -> Any:
        """Its weight and bias are flat, whatever axes they are for."""
        if eps > 1e-3:
            raise NotImplementedError("Paddle's layer norm refuses an epsilon above 0.001")
        return functional.layer_norm(x, list(shape), weight, bias, eps)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(self._layer_norm(weight.shape, eps, *map(_tensor, (x, weight.ravel(), bias.ravel()))))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        leaves = _leaves(x, weight.ravel(), bias.ravel())
        dx, dweight, dbias = _gradients(self._layer_norm(weight.shape, eps, *leaves), leaves, dy)
        return dx, dweight.reshape(weight.shape), dbias.reshape(weight.shape)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(functional.instance_norm(_tensor(x), weight=_tensor(weight), bias=_tensor(bias), eps=eps))

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        leaves = _leaves(x, weight, bias)
        return _gradients(functional.instance_norm(leaves[0], weight=leaves[1], bias=leaves[2], eps=eps), leaves, dy)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        return _array(functional.group_norm(_tensor(x), num_groups, eps, _tensor(weight), _tensor(bias)))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Arrays:
        leaves = _leaves(x, weight, bias)
        return _gradients(functional.group_norm(leaves[0], num_groups, eps, *leaves[1:]), leaves, dy)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "PaddleLayer":
        return PaddleLayer(num_features, ndim, dtype, **options)


class PaddleLayer:
    """`BatchNorm1D`, `2D` or `3D`, as the rank of x asks for."""

    def __init__(self, channels: int, ndim: int, dtype: str, **options: float | None) -> None:
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum is a number in Paddle")
        kinds = {2: nn.BatchNorm1D, 3: nn.BatchNorm1D, 4: nn.BatchNorm2D, 5: nn.BatchNorm3D}
        if ndim not in kinds:
            raise NotImplementedError("Paddle's layers take x with 2 to 5 axes")
        given = {{"eps": "epsilon"}.get(name, name): value for name, value in options.items()}
        before = paddle.get_default_dtype()
        paddle.set_default_dtype(dtype)  # what the layer's parameters are made of
        try:
            self._layer = kinds[ndim](channels, **given)
        finally:
            paddle.set_default_dtype(before)

    def train(self, x: Array) -> Array:
        self._layer.train()
        return _array(self._layer(_tensor(x)))

    def evaluate(self, x: Array) -> Array:
        self._layer.eval()
        return _array(self._layer(_tensor(x)))

    def state(self) -> dict[str, Array]:
        layer = self._layer
        theirs = layer.weight, layer.bias, layer._mean, layer._variance
        names = "weight", "bias", "running_mean", "running_var"
        return {name: _array(tensor) for name, tensor in zip(names, theirs, strict=True)}
