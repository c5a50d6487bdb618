"""MLX on the CPU: the layers of `mlx.nn`, channels last, with MLX's own gradients."""

from importlib.metadata import version
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = tuple[Array, ...]


def _tensor(array: Array) -> Any:
    return mx.array(np.ascontiguousarray(array), dtype=getattr(mx, array.dtype.name))


def _array(tensor: Any) -> Array:
    """A copy; bfloat16 has no way to NumPy but over float32."""
    if tensor.dtype == mx.bfloat16:
        import ml_dtypes

        return np.array(tensor.astype(mx.float32)).astype(ml_dtypes.bfloat16)
    return np.array(tensor)


def _last(x: Array) -> Array:
    """Channels moved from axis 1 to the end."""
    return np.moveaxis(x, 1, -1)


def _first(tensor: Any) -> Array:
    """And back."""
    return np.ascontiguousarray(np.moveaxis(_array(tensor), -1, 1))


def _not_empty(x: Array) -> None:
    if not x.size:
        raise NotImplementedError("MLX sometimes never returns from statistics of an empty batch: see FINDINGS.md")


def _with(made: Any, weight: Array, bias: Array | None = None) -> Any:
    """A layer with these parameters."""
    made.weight = _tensor(weight)
    if bias is not None:
        made.bias = _tensor(bias)
    return made


def _batch_norm(
    x: Array, weight: Array, bias: Array, mean: Array, var: Array, *, training: bool, **options: float
) -> Any:
    if x.ndim > 4:
        raise NotImplementedError("MLX's BatchNorm takes x with 2 to 4 axes")
    if training:
        _not_empty(x)
    made = _with(nn.BatchNorm(weight.size, **options), weight, bias)
    made.running_mean, made.running_var = _tensor(mean), _tensor(var)
    return made.train(training)


def _gradients(made: Any, x: Array, dy: Array) -> list[Any]:
    """Of sum(dy * y): dx, and those of the layer's parameters."""
    _not_empty(x)
    names = [name for name in ("weight", "bias") if name in made]

    def function(x: Any, *parameters: Any) -> list[Any]:
        for name, value in zip(names, parameters, strict=True):
            setattr(made, name, value)
        return [made(x)]

    given = [_tensor(x), *(made[name] for name in names)]
    (y,) = function(*given)
    gradients: list[Any] = mx.vjp(function, given, [_tensor(dy).astype(y.dtype)])[1]
    return gradients


class Mlx:
    """Eager, on the CPU."""

    name = "mlx"
    version = version("mlx")
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def __init__(self) -> None:
        mx.set_default_device(mx.cpu)

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
        made = _batch_norm(x, weight, bias, running_mean, running_var, training=True, momentum=momentum, eps=eps)
        y = made(_tensor(_last(x)))
        return _first(y), _array(made.running_mean), _array(made.running_var)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        made = _batch_norm(x, weight, bias, running_mean, running_var, training=False, eps=eps)
        return _first(made(_tensor(_last(x))))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = _batch_norm(x, weight, bias, np.zeros_like(weight), np.ones_like(weight), training=True, eps=eps)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy))
        return _first(dx), _array(dweight), _array(dbias)

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
        made = _batch_norm(x, weight, bias, running_mean, running_var, training=False, eps=eps)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy))
        return _first(dx), _array(dweight), _array(dbias)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(_with(_over_last(nn.LayerNorm, weight, eps), weight, bias)(_tensor(x)))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = _with(_over_last(nn.LayerNorm, weight, eps), weight, bias)
        return tuple(map(_array, _gradients(made, x, dy)))

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        return _array(_with(_over_last(nn.RMSNorm, weight, eps), weight)(_tensor(x)))

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Arrays:
        return tuple(map(_array, _gradients(_with(_over_last(nn.RMSNorm, weight, eps), weight), x, dy)))

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        made = _with(nn.InstanceNorm(weight.size, eps=eps, affine=True), weight, bias)
        return _first(made(_tensor(_last(x))))

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = _with(nn.InstanceNorm(weight.size, eps=eps, affine=True), weight, bias)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy))
        return _first(dx), _array(dweight), _array(dbias)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        made = _with(nn.GroupNorm(num_groups, weight.size, eps=eps), weight, bias)
        return _first(made(_tensor(_last(x))))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Arrays:
        made = _with(nn.GroupNorm(num_groups, weight.size, eps=eps), weight, bias)
        dx, dweight, dbias = _gradients(made, _last(x), _last(dy))
        return _first(dx), _array(dweight), _array(dbias)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "MlxLayer":
        return MlxLayer(num_features, ndim, dtype, **options)


def _over_last(kind: Any, weight: Array, eps: float) -> Any:
    if weight.ndim > 1:
        raise NotImplementedError("MLX normalizes over the last axis alone")
    return kind(weight.size, eps=eps)


class MlxLayer:
    """A layer as MLX's users build it; parameters of half-precision input stay float32."""

    def __init__(self, channels: int, ndim: int, dtype: str, **options: float | None) -> None:
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum is a number in MLX")
        if ndim > 4:
            raise NotImplementedError("MLX's BatchNorm takes x with 2 to 4 axes")
        self._layer = nn.BatchNorm(channels, **options)
        if dtype == "float64":
            self._layer.set_dtype(mx.float64)

    def train(self, x: Array) -> Array:
        _not_empty(x)
        return _first(self._layer.train()(_tensor(_last(x))))

    def evaluate(self, x: Array) -> Array:
        return _first(self._layer.eval()(_tensor(_last(x))))

    def state(self) -> dict[str, Array]:
        return {n: _array(self._layer[n]) for n in ("weight", "bias", "running_mean", "running_var")}
