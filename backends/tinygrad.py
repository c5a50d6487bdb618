"""tinygrad on the CPU: the layers of `tinygrad.nn`, with its own gradients. clang compiles it, kernel by kernel."""

import os
from importlib.metadata import version
from subprocess import CalledProcessError
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("DEV", "CPU")

from tinygrad import Context, Tensor, dtypes, nn

Array = NDArray[Any]
Arrays = tuple[Array, ...]


def _tensor(array: Array) -> Any:
    if array.dtype.name == "bfloat16":  # NumPy's is not tinygrad's: pass the bits
        bits = np.ascontiguousarray(array).view(np.uint16)
        return Tensor(bits.copy()).bitcast(dtypes.bfloat16).realize()
    return Tensor(np.array(array, order="C")).realize()


def _array(tensor: Any) -> Array:
    if tensor.dtype == dtypes.bfloat16:
        import ml_dtypes

        bits: Array = tensor.bitcast(dtypes.uint16).numpy()
        return bits.copy().view(ml_dtypes.bfloat16)
    array: Array = np.array(tensor.numpy())
    return array


def _with(made: Any, weight: Array, bias: Array | None = None) -> Any:
    """A layer with these parameters."""
    made.weight = _tensor(weight)
    if bias is not None:
        made.bias = _tensor(bias)
    return made


def _batch_norm(weight: Array, bias: Array, mean: Array, var: Array, **options: float) -> Any:
    made = _with(nn.BatchNorm(weight.size, **options), weight, bias)
    made.running_mean, made.running_var = _tensor(mean), _tensor(var)
    return made


def _gradients(made: Any, x: Array, dy: Array, *, training: bool = False) -> Arrays:
    """Of sum(dy * y), by x and by the layer's parameters."""
    given = _tensor(x)
    leaves = [given, made.weight, *([made.bias] if getattr(made, "bias", None) is not None else [])]
    with Context(TRAINING=int(training)):
        return tuple(map(_array, made(given).gradient(*leaves, gradient=_tensor(dy))))


def _offered() -> tuple[str, ...]:
    """The dtypes that the compiler knows: clang has bfloat16 on x86 from version 15 on."""
    try:
        Tensor([1.0]).cast(dtypes.bfloat16).contiguous().realize()
    except CalledProcessError:
        return "float64", "float32", "float16"
    return "float64", "float32", "bfloat16", "float16"


class Tinygrad:
    """Eager; every kernel is compiled anew for each shape. `CC` names another compiler than `clang`."""

    name = "tinygrad"
    version = version("tinygrad")
    dtypes = _offered()
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
    ) -> Arrays:
        made = _batch_norm(weight, bias, running_mean, running_var, eps=eps, momentum=momentum)
        with Context(TRAINING=1):
            y = _array(made(_tensor(x)))
        return y, _array(made.running_mean), _array(made.running_var)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        made = _batch_norm(weight, bias, running_mean, running_var, eps=eps)
        with Context(TRAINING=0):
            return _array(made(_tensor(x)))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        made = _batch_norm(weight, bias, np.zeros_like(weight), np.ones_like(weight), eps=eps)
        return _gradients(made, x, dy, training=True)

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
        return _gradients(_batch_norm(weight, bias, running_mean, running_var, eps=eps), x, dy)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(_with(nn.LayerNorm(weight.shape, eps=eps), weight, bias)(_tensor(x)))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return _gradients(_with(nn.LayerNorm(weight.shape, eps=eps), weight, bias), x, dy)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(_with(nn.InstanceNorm(weight.size, eps=eps), weight, bias)(_tensor(x)))

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        return _gradients(_with(nn.InstanceNorm(weight.size, eps=eps), weight, bias), x, dy)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        return _array(_with(nn.GroupNorm(num_groups, weight.size, eps=eps), weight, bias)(_tensor(x)))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Arrays:
        return _gradients(_with(nn.GroupNorm(num_groups, weight.size, eps=eps), weight, bias), x, dy)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        return _array(self._rms_norm(weight, eps)(_tensor(x)))

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Arrays:
        return _gradients(self._rms_norm(weight, eps), x, dy)

    def _rms_norm(self, weight: Array, eps: float) -> Any:
        if weight.ndim > 1:
            raise NotImplementedError("tinygrad's RMSNorm takes the last axis alone")
        return _with(nn.RMSNorm(weight.size, eps=eps), weight)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "TinygradLayer":
        return TinygradLayer(num_features, dtype, **options)


class TinygradLayer:
    """A layer as its users build it; float64 input meets parameters made float64."""

    def __init__(self, channels: int, dtype: str, **options: float | None) -> None:
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum is a number in tinygrad")
        self._layer = nn.BatchNorm(channels, **options)
        if dtype == "float64":
            for name in ("weight", "bias", "running_mean", "running_var"):
                setattr(self._layer, name, getattr(self._layer, name).cast(dtypes.float64).contiguous().realize())

    def train(self, x: Array) -> Array:
        with Context(TRAINING=1):
            return _array(self._layer(_tensor(x)))

    def evaluate(self, x: Array) -> Array:
        with Context(TRAINING=0):
            return _array(self._layer(_tensor(x)))

    def state(self) -> dict[str, Array]:
        return {n: _array(getattr(self._layer, n)) for n in ("weight", "bias", "running_mean", "running_var")}
