"""Keras 2 on TensorFlow: `tf_keras.layers.BatchNormalization`, fused for x with four or five axes.

Channels are last, as by default; half-precision input meets the mixed policies, which keep variables in float32.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
import tf_keras

Array = NDArray[Any]
Arrays = tuple[Array, ...]

POLICIES = {
    "float64": "float64",
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def _last(x: Array) -> Array:
    """Channels moved from axis 1 to the end."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def _first(y: Any) -> Array:
    """And back."""
    return np.ascontiguousarray(np.moveaxis(y.numpy(), -1, 1))


def _batch_norm(x: Array, weight: Array, bias: Array, mean: Array, var: Array, **options: Any) -> Any:
    """A layer with these values."""
    if x.ndim not in (4, 5) and options["fused"] is None:
        raise NotImplementedError("x with 2 or 3 axes does not meet the kernel: see tf-keras-unfused")
    made = tf_keras.layers.BatchNormalization(dtype=POLICIES[x.dtype.name], **options)
    made.build((*[None] * (x.ndim - 1), weight.size))
    made.set_weights([weight, bias, mean, var])
    return made


def _with(made: Any, shape: tuple[int, ...], *weights: Array) -> Any:
    made.build(shape)
    made.set_weights(list(weights))
    return made


def _gradients(made: Any, x: Array, dy: Array, **options: bool) -> list[Any]:
    """Of sum(dy * y), by x and by the layer's trainable variables in their order."""
    leaf = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(leaf)
        y = made(leaf, **options)
    leaves = [leaf, *made.trainable_variables]
    return [tf.convert_to_tensor(g) for g in tape.gradient(y, leaves, output_gradients=tf.constant(dy))]


class TfKeras:
    """Eager layers as they come, on x with four or five axes: these meet the fused kernel, but for float64."""

    name = "tf-keras"
    fused: bool | None = None
    version = tf_keras.__version__
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
    ) -> Arrays:
        made = _batch_norm(x, weight, bias, running_mean, running_var, momentum=momentum, epsilon=eps, fused=self.fused)
        y = made(tf.constant(_last(x)), training=True)
        return _first(y), made.moving_mean.numpy().copy(), made.moving_variance.numpy().copy()

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        made = _batch_norm(x, weight, bias, running_mean, running_var, epsilon=eps, fused=self.fused)
        return _first(made(tf.constant(_last(x)), training=False))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = _batch_norm(x, weight, bias, np.zeros_like(weight), np.ones_like(weight), epsilon=eps, fused=self.fused)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy), training=True)
        return _first(dx), dweight.numpy().copy(), dbias.numpy().copy()

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
        made = _batch_norm(x, weight, bias, running_mean, running_var, epsilon=eps, fused=self.fused)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy), training=False)
        return _first(dx), dweight.numpy().copy(), dbias.numpy().copy()

    def _layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Any:
        axes = list(range(x.ndim - weight.ndim, x.ndim))
        made = tf_keras.layers.LayerNormalization(axis=axes, epsilon=eps, dtype=POLICIES[x.dtype.name])
        return _with(made, x.shape, weight, bias)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        y: Array = self._layer_norm(x, weight, bias, eps)(tf.constant(x)).numpy().copy()
        return y

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return tuple(g.numpy().copy() for g in _gradients(self._layer_norm(x, weight, bias, eps), x, dy))

    def _group_norm(self, x: Array, weight: Array, bias: Array, groups: int, eps: float) -> Any:
        made = tf_keras.layers.GroupNormalization(groups=groups, epsilon=eps, dtype=POLICIES[x.dtype.name])
        return _with(made, _last(x).shape, weight, bias)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        return _first(self._group_norm(x, weight, bias, num_groups, eps)(tf.constant(_last(x))))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Arrays:
        dx, dweight, dbias = _gradients(self._group_norm(x, weight, bias, num_groups, eps), _last(x), _last(dy))
        return _first(dx), dweight.numpy().copy(), dbias.numpy().copy()

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """Group norm with as many groups as channels, as the documentation has it."""
        return self.group_norm(x, weight, bias, num_groups=-1, eps=eps)

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return self.group_norm_gradients(x, weight, bias, dy, num_groups=-1, eps=eps)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "TfKerasLayer":
        return TfKerasLayer(num_features, ndim, dtype, self.fused, **options)


class TfKerasUnfused(TfKeras):
    """The same layers, composed of moments: what x with two or three axes meets, or who says `fused=False`."""

    name = "tf-keras-unfused"
    fused = False


class TfKerasLayer:
    """A layer as its users build it."""

    def __init__(self, channels: int, ndim: int, dtype: str, fused: bool | None, **options: float | None) -> None:
        if ndim not in (4, 5) and fused is None:
            raise NotImplementedError("x with 2 or 3 axes does not meet the kernel: see tf-keras-unfused")
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum is a number in Keras")
        given = {{"eps": "epsilon"}.get(name, name): value for name, value in options.items()}
        self._layer = tf_keras.layers.BatchNormalization(dtype=POLICIES[dtype], fused=fused, **given)
        self._layer.build((*[None] * (ndim - 1), channels))

    def train(self, x: Array) -> Array:
        return _first(self._layer(tf.constant(_last(x)), training=True))

    def evaluate(self, x: Array) -> Array:
        return _first(self._layer(tf.constant(_last(x)), training=False))

    def state(self) -> dict[str, Array]:
        layer = self._layer
        theirs = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
        names = "weight", "bias", "running_mean", "running_var"
        return {name: variable.numpy().copy() for name, variable in zip(names, theirs, strict=True)}
