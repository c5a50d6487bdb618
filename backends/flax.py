"""Flax: BatchNorm and its relatives, of `flax.linen` and of `flax.nnx`, with JAX's gradients, compiled as a whole."""

from collections.abc import Mapping
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from flax import linen
from jax import numpy as jnp
from numpy.typing import NDArray

nnx: Any = import_module("flax.nnx") if find_spec("flax.nnx") else None  # an older Flax has none

Array = NDArray[Any]

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # without it JAX computes float64 in float32


def _last(x: Any) -> Any:
    """Channels last, where Flax's layers look for them unless told otherwise."""
    return jnp.moveaxis(x, 1, -1)


def _second(y: Any) -> Any:
    return jnp.moveaxis(y, -1, 1)


def _dtypes(dtype: Any) -> dict[str, Any]:
    """What users give for mixed precision: `dtype`, and float32 parameters; without `dtype` y would be float32."""
    if jnp.dtype(dtype).itemsize == 2:
        return {"dtype": dtype, "param_dtype": jnp.float32}
    return {"param_dtype": dtype}


class _Linen:
    """Layers of `flax.linen`, applied to variables."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def _apply(self, layer: Any, x: Any, weight: Any, bias: Any, **more: Any) -> Any:
        params = {"scale": weight} if bias is None else {"scale": weight, "bias": bias}
        return layer(**_dtypes(x.dtype), **self.options, **more).apply({"params": params}, x)

    def batch_norm(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: Any, eps: Any) -> Any:
        layer = linen.BatchNorm(momentum=momentum, epsilon=eps, **_dtypes(x.dtype), **self.options)
        variables = {"params": {"scale": weight, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
        y, new = layer.apply(variables, _last(x), use_running_average=False, mutable=["batch_stats"])
        return _second(y), new["batch_stats"]["mean"], new["batch_stats"]["var"]

    def evaluation(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: Any) -> Any:
        layer = linen.BatchNorm(epsilon=eps, **_dtypes(x.dtype), **self.options)
        variables = {"params": {"scale": weight, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
        return _second(layer.apply(variables, _last(x), use_running_average=True))

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        axes = tuple(range(-weight.ndim, 0))
        return self._apply(linen.LayerNorm, x, weight, bias, epsilon=eps, reduction_axes=axes, feature_axes=axes)

    def rms_norm(self, x: Any, weight: Any, eps: Any) -> Any:
        axes = tuple(range(-weight.ndim, 0))
        return self._apply(linen.RMSNorm, x, weight, None, epsilon=eps, reduction_axes=axes, feature_axes=axes)

    def group_norm(self, x: Any, weight: Any, bias: Any, eps: Any, num_groups: int) -> Any:
        return _second(self._apply(linen.GroupNorm, _last(x), weight, bias, epsilon=eps, num_groups=num_groups))

    def instance_norm(self, x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        if not hasattr(linen, "InstanceNorm"):
            raise NotImplementedError("this Flax has no InstanceNorm")
        return _second(self._apply(linen.InstanceNorm, _last(x), weight, bias, epsilon=eps))


class _Nnx:
    """Layers of `flax.nnx`, which hold their variables."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def _made(self, layer: str, x: Any, weight: Any, bias: Any, **more: Any) -> Any:
        if not hasattr(nnx, layer):
            raise NotImplementedError(f"this Flax has no nnx.{layer}")
        made = getattr(nnx, layer)(weight.size, rngs=nnx.Rngs(0), **_dtypes(x.dtype), **self.options, **more)
        made.scale = nnx.Param(weight.reshape(-1))  # it holds one axis for all features
        if bias is not None:
            made.bias = nnx.Param(bias.reshape(-1))
        return made

    def _batch_norm(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, **more: Any) -> Any:
        made = self._made("BatchNorm", x, weight, bias, **more)
        made.mean, made.var = nnx.BatchStat(mean), nnx.BatchStat(var)
        return made

    def batch_norm(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: Any, eps: Any) -> Any:
        made = self._batch_norm(x, weight, bias, mean, var, momentum=momentum, epsilon=eps)
        y = made(_last(x), use_running_average=False)
        return _second(y), made.mean[...], made.var[...]

    def evaluation(self, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: Any) -> Any:
        made = self._batch_norm(x, weight, bias, mean, var, epsilon=eps)
        return _second(made(_last(x), use_running_average=True))

    def layer_norm(self, x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        axes = tuple(range(-weight.ndim, 0))
        more = {"reduction_axes": axes, "feature_axes": axes}
        return self._made("LayerNorm", x, weight, bias, epsilon=eps, **more)(x)

    def rms_norm(self, x: Any, weight: Any, eps: Any) -> Any:
        axes = tuple(range(-weight.ndim, 0))
        return self._made("RMSNorm", x, weight, None, epsilon=eps, reduction_axes=axes, feature_axes=axes)(x)

    def group_norm(self, x: Any, weight: Any, bias: Any, eps: Any, num_groups: int) -> Any:
        return _second(self._made("GroupNorm", x, weight, bias, epsilon=eps, num_groups=num_groups)(_last(x)))

    def instance_norm(self, x: Any, weight: Any, bias: Any, eps: Any) -> Any:
        return _second(self._made("InstanceNorm", x, weight, bias, epsilon=eps)(_last(x)))


@cache
def _compiled(layers: Any, name: str, gradients: bool, num_groups: int = 0) -> Any:
    """A function of `layers`, or its gradients for the first three arguments (two, of RMSNorm), compiled."""
    function = getattr(layers, name)
    if num_groups:
        function = partial(function, num_groups=num_groups)
    if not gradients:
        return jax.jit(function)
    wanted = 2 if name == "rms_norm" else 3

    def pulled_back(dy: Any, *given: Any) -> Any:
        def y(*leaves: Any) -> Any:
            results = function(*leaves, *given[wanted:])
            return results[0] if name == "batch_norm" else results

        return jax.vjp(y, *given[:wanted])[1](dy)

    return jax.jit(pulled_back)


def _arrays(results: Any) -> Any:
    return jax.tree.map(np.array, results)


class FlaxLinen:
    """`flax.linen`, with its defaults: the variance in one pass."""

    name = "flax-linen"
    version = version("flax")
    dtypes = ("float64", "float32", "bfloat16", "float16")
    compiles = True  # every new shape takes longer to compile than many to run
    unavailable = ""
    layers: Any = _Linen()

    def _run(self, name: str, *given: Any, dy: Any = None, num_groups: int = 0) -> Any:
        of_gradients = () if dy is None else (jnp.asarray(dy),)
        numbers = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in given]
        return _arrays(_compiled(self.layers, name, dy is not None, num_groups)(*of_gradients, *numbers))

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
        return self._run("batch_norm", x, weight, bias, running_mean, running_var, momentum, eps)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return self._run("evaluation", x, weight, bias, running_mean, running_var, eps)

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        state = np.zeros_like(weight), np.ones_like(weight)
        return self._run("batch_norm", x, weight, bias, *state, 0.0, eps, dy=dy)

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
    ) -> Any:
        return self._run("evaluation", x, weight, bias, running_mean, running_var, eps, dy=dy)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._run("layer_norm", x, weight, bias, eps)

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._run("layer_norm", x, weight, bias, eps, dy=dy)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._run("instance_norm", x, weight, bias, eps)

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._run("instance_norm", x, weight, bias, eps, dy=dy)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        return self._run("group_norm", x, weight, bias, eps, num_groups=num_groups)

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Any:
        return self._run("group_norm", x, weight, bias, eps, dy=dy, num_groups=num_groups)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return self._run("rms_norm", x, weight, eps)

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Any:
        return self._run("rms_norm", x, weight, eps, dy=dy)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: Any) -> Any:
        return LinenLayer(num_features, ndim, dtype, _named(options))


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """The layer's options under Flax's names."""
    if "momentum" in options and options["momentum"] is None:
        raise NotImplementedError("momentum None: Flax has no average of all batches")
    return {{"eps": "epsilon"}.get(name, name): value for name, value in options.items()}


@partial(jax.jit, static_argnums=(0, 3))
def _linen_step(module: Any, variables: Any, x: Any, training: bool) -> Any:
    """y and the variables after it."""
    if not training:
        return _second(module.apply(variables, _last(x), use_running_average=True)), variables
    y, new = module.apply(variables, _last(x), use_running_average=False, mutable=["batch_stats"])
    return _second(y), {**variables, **new}


class LinenLayer:
    """A module and its variables."""

    def __init__(self, num_features: int, ndim: int, dtype: str, options: dict[str, Any]) -> None:
        self.module = linen.BatchNorm(**_dtypes(jnp.dtype(dtype)), **options)
        sample = jnp.zeros((2, *[1] * (ndim - 2), num_features), dtype)
        self.variables = self.module.init(jax.random.PRNGKey(0), sample, use_running_average=False)

    def _step(self, x: Array, training: bool) -> Any:
        y, self.variables = _linen_step(self.module, self.variables, jnp.asarray(x), training)
        return np.array(y)

    def train(self, x: Array) -> Any:
        return self._step(x, True)

    def evaluate(self, x: Array) -> Any:
        return self._step(x, False)

    def state(self) -> dict[str, Array]:
        params, stats = self.variables["params"], self.variables["batch_stats"]
        found = {"weight": params["scale"], "bias": params["bias"]}
        found |= {"running_mean": stats["mean"], "running_var": stats["var"]}
        return {name: np.array(value) for name, value in found.items()}


class FlaxNnx(FlaxLinen):
    """`flax.nnx`, with its defaults."""

    name = "flax-nnx"
    unavailable = "" if nnx is not None else "this Flax has no nnx"
    layers = _Nnx()

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: Any) -> Any:
        return NnxLayer(num_features, dtype, _named(options))


class NnxLayer:
    """A module of nnx, as it is, in training through nnx.jit."""

    def __init__(self, num_features: int, dtype: str, options: dict[str, Any]) -> None:
        self.module = nnx.BatchNorm(num_features, rngs=nnx.Rngs(0), **_dtypes(jnp.dtype(dtype)), **options)
        self.trained = nnx.jit(lambda module, x: _second(module(_last(x), use_running_average=False)))
        self.evaluated = nnx.jit(lambda module, x: _second(module(_last(x), use_running_average=True)))

    def train(self, x: Array) -> Any:
        return np.array(self.trained(self.module, jnp.asarray(x)))

    def evaluate(self, x: Array) -> Any:
        return np.array(self.evaluated(self.module, jnp.asarray(x)))

    def state(self) -> dict[str, Array]:
        names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
        return {name: np.array(getattr(self.module, of)[...]) for name, of in names.items()}


class FlaxLinenTwoPasses(FlaxLinen):
    """`flax.linen` with `use_fast_variance=False`."""

    name = "flax-linen-two-passes"
    layers = _Linen(use_fast_variance=False)
