"""Keras 3: `keras.layers.BatchNormalization` and its relatives on PyTorch, JAX, TensorFlow and NumPy.

Channels are last, as by default; half-precision input meets Keras's mixed policies, which keep variables in float32.
Keras takes its backend from the environment when it is imported: one in a process.
"""

import os
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    return np.moveaxis(x, 1, -1)


def _first(y: Array) -> Array:
    """And back."""
    return np.ascontiguousarray(np.moveaxis(y, -1, 1))


class _Keras:
    """What all backends of Keras have in common; gradients are theirs."""

    framework = ""
    version = version("keras")
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def __init__(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = self.framework
        import keras

        if keras.backend.backend() != self.framework:
            self.unavailable = (
                f"Keras runs on {keras.backend.backend()} in this process already: leave out --in-process"
            )
        self.keras = keras

    # -- arrays and layers --------------------------------------------------------------------------------------------

    def _tensor(self, array: Array) -> Any:
        return self.keras.ops.convert_to_tensor(np.ascontiguousarray(array))

    def _array(self, tensor: Any) -> Array:
        """A copy of its own, in the tensor's dtype: the way of bfloat16 to NumPy leads over float32."""
        dtype = self.keras.backend.standardize_dtype(tensor.dtype)
        array = np.array(self.keras.ops.convert_to_numpy(tensor))
        if dtype == "bfloat16":
            import ml_dtypes

            return array.astype(ml_dtypes.bfloat16)
        return array

    def _batch_norm(self, x: Array, weight: Array, bias: Array, mean: Array, var: Array, **options: float) -> Any:
        """A layer with these values."""
        made = self.keras.layers.BatchNormalization(dtype=POLICIES[x.dtype.name], **options)
        made.build((*[None] * (x.ndim - 1), weight.size))
        values = (made.gamma, weight), (made.beta, bias), (made.moving_mean, mean), (made.moving_variance, var)
        for variable, value in values:
            variable.assign(np.ascontiguousarray(value))
        return made

    def _relative(self, made: Any, x: Array, weight: Array, bias: Array | None) -> Any:
        made.build(x.shape)
        weights = [weight] if bias is None else [weight, bias]
        for variable, value in zip(made.trainable_variables, weights, strict=True):
            variable.assign(np.ascontiguousarray(value))
        return made

    # -- batch norm ---------------------------------------------------------------------------------------------------

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
        made = self._batch_norm(x, weight, bias, running_mean, running_var, momentum=momentum, epsilon=eps)
        y = made(self._tensor(_last(x)), training=True)
        return _first(self._array(y)), self._array(made.moving_mean.value), self._array(made.moving_variance.value)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        made = self._batch_norm(x, weight, bias, running_mean, running_var, epsilon=eps)
        return _first(self._array(made(self._tensor(_last(x)), training=False)))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = self._batch_norm(x, weight, bias, np.zeros_like(weight), np.ones_like(weight), epsilon=eps)
        dx, dweight, dbias = self._gradients(made, _last(x), _last(dy), training=True)
        return _first(dx), dweight, dbias

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
        made = self._batch_norm(x, weight, bias, running_mean, running_var, epsilon=eps)
        dx, dweight, dbias = self._gradients(made, _last(x), _last(dy), training=False)
        return _first(dx), dweight, dbias

    def _gradients(self, made: Any, x: Array, dy: Array, **options: bool) -> Arrays:
        """Of sum(dy * y), by x and by the layer's trainable variables in their order."""
        raise NotImplementedError(f"Keras on {self.framework} has no gradients")

    # -- relatives ----------------------------------------------------------------------------------------------------

    def _layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Any:
        axes = list(range(x.ndim - weight.ndim, x.ndim))
        made = self.keras.layers.LayerNormalization(axis=axes, epsilon=eps, dtype=POLICIES[x.dtype.name])
        return self._relative(made, x, weight, bias)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return self._array(self._layer_norm(x, weight, bias, eps)(self._tensor(x)))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return self._gradients(self._layer_norm(x, weight, bias, eps), x, dy)

    def _group_norm(self, x: Array, weight: Array, bias: Array, groups: int, eps: float) -> Any:
        made = self.keras.layers.GroupNormalization(groups=groups, epsilon=eps, dtype=POLICIES[x.dtype.name])
        return self._relative(made, _last(x), weight, bias)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        return _first(self._array(self._group_norm(x, weight, bias, num_groups, eps)(self._tensor(_last(x)))))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Arrays:
        dx, dweight, dbias = self._gradients(self._group_norm(x, weight, bias, num_groups, eps), _last(x), _last(dy))
        return _first(dx), dweight, dbias

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """Group norm with as many groups as channels, as Keras's documentation has it."""
        return self.group_norm(x, weight, bias, num_groups=-1, eps=eps)

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return self.group_norm_gradients(x, weight, bias, dy, num_groups=-1, eps=eps)

    def _rms_norm(self, x: Array, weight: Array, eps: float) -> Any:
        if not hasattr(self.keras.layers, "RMSNormalization"):
            raise NotImplementedError(f"Keras {self.version} has no RMSNormalization")
        axes = list(range(x.ndim - weight.ndim, x.ndim))
        made = self.keras.layers.RMSNormalization(axis=axes, epsilon=eps, dtype=POLICIES[x.dtype.name])
        return self._relative(made, x, weight, None)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        return self._array(self._rms_norm(x, weight, eps)(self._tensor(x)))

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Arrays:
        return self._gradients(self._rms_norm(x, weight, eps), x, dy)

    # -- the layer ----------------------------------------------------------------------------------------------------

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "KerasLayer":
        return KerasLayer(self, num_features, ndim, dtype, **options)


class KerasLayer:
    """A layer as Keras's users build it."""

    def __init__(self, keras: _Keras, channels: int, ndim: int, dtype: str, **options: float | None) -> None:
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum is a number in Keras")
        given = {{"eps": "epsilon"}.get(name, name): value for name, value in options.items()}
        self._keras = keras
        self._layer = keras.keras.layers.BatchNormalization(dtype=POLICIES[dtype], **given)
        self._layer.build((*[None] * (ndim - 1), channels))

    def train(self, x: Array) -> Array:
        return self._call(x, training=True)

    def evaluate(self, x: Array) -> Array:
        return self._call(x, training=False)

    def _call(self, x: Array, *, training: bool) -> Array:
        keras = self._keras
        return _first(keras._array(self._layer(keras._tensor(_last(x)), training=training)))

    def state(self) -> dict[str, Array]:
        names = (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        )
        return {ours: self._keras._array(getattr(self._layer, theirs).value) for ours, theirs in names}


class KerasTorch(_Keras):
    """On PyTorch."""

    name = "keras-torch"
    framework = "torch"

    def __init__(self) -> None:
        import torch

        super().__init__()
        torch.set_num_threads(1)  # faster at the sizes of a conformance run
        self.torch = torch

    def _tensor(self, array: Array) -> Any:
        array = np.array(array)  # PyTorch warns of arrays that cannot be written to
        if array.dtype.name == "bfloat16":  # NumPy's is not PyTorch's: pass the bits
            return self.torch.from_numpy(array.view(np.int16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(array)

    def _gradients(self, made: Any, x: Array, dy: Array, **options: bool) -> Arrays:
        leaf = self._tensor(x).requires_grad_()
        leaves = [leaf, *(v.value for v in made.trainable_variables)]
        return tuple(map(self._array, self.torch.autograd.grad(made(leaf, **options), leaves, self._tensor(dy))))


class KerasTensorFlow(_Keras):
    """On TensorFlow, eager."""

    name = "keras-tensorflow"
    framework = "tensorflow"

    def _gradients(self, made: Any, x: Array, dy: Array, **options: bool) -> Arrays:
        import tensorflow

        leaf = self._tensor(x)
        leaves = [leaf, *(v.value for v in made.trainable_variables)]
        with tensorflow.GradientTape() as tape:
            tape.watch(leaf)
            y = made(leaf, **options)
        gradients = tape.gradient(y, leaves, output_gradients=self._tensor(dy))
        return tuple(map(self._array, map(tensorflow.convert_to_tensor, gradients)))


class KerasNumPy(_Keras):
    """On NumPy: without gradients."""

    name = "keras-numpy"
    framework = "numpy"


class KerasJax(_Keras):
    """On JAX: `stateless_call`, compiled as `fit` compiles it."""

    name = "keras-jax"
    framework = "jax"

    def __init__(self) -> None:
        os.environ["JAX_ENABLE_X64"] = "1"
        super().__init__()
        import jax

        self.jax = jax
        self._compiled: dict[Any, Any] = {}

    def _applied(self, made: Any, options: Any, trainable: Any, fixed: Any, x: Any, hyper: Any) -> Any:
        """What the layer does, as a function of all its numbers: one compilation does for every eps and momentum."""
        for name, value in hyper.items():
            setattr(made, name, value)
        return made.stateless_call(trainable, fixed, x, **options)

    def _call(self, made: Any, x: Array, dy: Array | None, **options: bool) -> Any:
        config = made.get_config()
        hyper = {name: config[name] for name in ("epsilon", "momentum") if name in config}
        kept = {n: v for n, v in config.items() if n not in (*hyper, "name")}
        shapes = (x.ndim, *(tuple(v.shape) for v in made.variables))
        key = (type(made).__name__, repr(sorted(kept.items(), key=repr)), shapes, dy is None, tuple(options.items()))
        if key not in self._compiled:

            def forward(trainable: Any, fixed: Any, x: Any, hyper: Any) -> Any:
                return self._applied(made, options, trainable, fixed, x, hyper)

            def backward(trainable: Any, fixed: Any, x: Any, hyper: Any, dy: Any) -> Any:
                pull = self.jax.vjp(lambda x, t: forward(t, fixed, x, hyper)[0], x, trainable)[1]
                dx, of_trainable = pull(dy)
                return dx, *of_trainable

            self._compiled[key] = self.jax.jit(forward if dy is None else backward)
        variables = [[v.value for v in of] for of in (made.trainable_variables, made.non_trainable_variables)]
        given = (*variables, self._tensor(x), hyper)
        return self._compiled[key](*given, *(() if dy is None else (self._tensor(dy),)))

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
        made = self._batch_norm(x, weight, bias, running_mean, running_var, momentum=momentum, epsilon=eps)
        y, (mean, var) = self._call(made, _last(x), None, training=True)
        return _first(self._array(y)), self._array(mean), self._array(var)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        made = self._batch_norm(x, weight, bias, running_mean, running_var, epsilon=eps)
        return _first(self._array(self._call(made, _last(x), None, training=False)[0]))

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return self._array(self._call(self._layer_norm(x, weight, bias, eps), x, None)[0])

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        made = self._group_norm(x, weight, bias, num_groups, eps)
        return _first(self._array(self._call(made, _last(x), None)[0]))

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        return self._array(self._call(self._rms_norm(x, weight, eps), x, None)[0])

    def _gradients(self, made: Any, x: Array, dy: Array, **options: bool) -> Arrays:
        return tuple(map(self._array, self._call(made, x, dy, **options)))
