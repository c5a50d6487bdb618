"""TensorFlow: the fused kernel behind its layers, with tape gradients."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

Array = NDArray[Any]
Arrays = tuple[Array, ...]


def _last(x: Array) -> Array:
    """Channels moved from axis 1 to the end, as the kernels want them."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def _first(y: Any) -> Array:
    """And back."""
    return np.ascontiguousarray(np.moveaxis(y.numpy(), -1, 1))


def _gradients(function: Callable[..., Any], arrays: list[Array], dy: Array) -> Arrays:
    """Of sum(dy * y) by the first three arrays, x with channels last."""
    leaves = [tf.constant(a) for a in arrays]
    with tf.GradientTape() as tape:
        for leaf in leaves[:3]:
            tape.watch(leaf)
        y = function(*leaves)
    dx, dweight, dbias = tape.gradient(y, leaves[:3], output_gradients=tf.constant(_last(dy)))
    return _first(dx), dweight.numpy().copy(), dbias.numpy().copy()


class Fused:
    """`tf.compat.v1.nn.fused_batch_norm`: channels last, four axes; statistics are float32."""

    name = "tensorflow-fused"
    version = tf.__version__
    dtypes = ("float32", "bfloat16", "float16")

    def _call(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *, eps: float, **options: Any) -> Any:
        if x.ndim != 4:
            raise NotImplementedError("the kernel takes x with 4 axes")
        return tf.compat.v1.nn.fused_batch_norm(x, weight, bias, mean=mean, variance=var, epsilon=eps, **options)

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
        given = [tf.constant(a) for a in (_last(x), weight, bias, running_mean, running_var)]
        y, mean, var = self._call(*given, eps=eps, exponential_avg_factor=momentum, is_training=True)
        return _first(y), mean.numpy().copy(), var.numpy().copy()

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        given = [tf.constant(a) for a in (_last(x), weight, bias, running_mean, running_var)]
        return _first(self._call(*given, eps=eps, is_training=False)[0])

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        def function(x: Any, weight: Any, bias: Any) -> Any:
            return self._call(x, weight, bias, None, None, eps=eps, is_training=True)[0]

        return _gradients(function, [_last(x), weight, bias], dy)

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
        def function(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
            return self._call(x, weight, bias, mean, var, eps=eps, is_training=False)[0]

        return _gradients(function, [_last(x), weight, bias, running_mean, running_var], dy)
