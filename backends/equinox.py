"""Equinox: `BatchNorm` in its two modes, under `vmap` as it demands, and its relatives, with JAX's gradients."""

import inspect
import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

import equinox
import jax
import numpy as np
from equinox import nn
from jax import numpy as jnp
from numpy.typing import NDArray

Array = NDArray[Any]

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # without it JAX computes float64 in float32

_LONG_AGO = 2**31 - 2
"""So many steps have gone, for a state that is given: nothing is left to correct for its start."""
_HAS_MODES = "mode" in inspect.signature(nn.BatchNorm.__init__).parameters


def _made(features: int, dtype: Any, mode: str, options: dict[str, Any]) -> Any:
    """A layer and its state; float32 parameters for half precision. Older Equinox has what is now the mode "ema"."""
    parameters = jnp.float32 if jnp.dtype(dtype).itemsize == 2 else dtype
    more: dict[str, Any] = {"mode": mode} if _HAS_MODES else {}
    if "dtype" in inspect.signature(nn.BatchNorm.__init__).parameters:
        more["dtype"] = parameters
    return nn.make_with_state(nn.BatchNorm)(features, axis_name="batch", **more, **options)


def _indices(layer: Any) -> tuple[Any, Any]:
    """Where a layer keeps whether it has begun, and where its statistics."""
    if not _HAS_MODES:
        return layer.first_time_index, layer.state_index
    if layer.mode == "ema":
        return layer.ema_first_time_index, layer.ema_state_index
    return layer.batch_counter, layer.batch_state_index


def _with_values(layer: Any, weight: Any, bias: Any) -> Any:
    return equinox.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, bias))


def _applied(layer: Any, state: Any, x: Any, inference: bool) -> Any:
    def of_sample(sample: Any, state: Any) -> Any:
        return layer(sample, state, inference=inference)

    return jax.vmap(of_sample, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)


def _batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: Any, eps: Any, mode: str, new: bool = False
) -> Any:
    """A training step of a layer that has been trained for long, or of a `new` one."""
    layer, state = _made(x.shape[1], x.dtype, mode, {"eps": eps, "momentum": momentum})
    begun, statistics = _indices(layer)
    if not new:
        state = state.set(begun, _begun(state.get(begun))).set(statistics, (mean, var))
    y, state = _applied(_with_values(layer, weight, bias), state, x, False)
    return (y, *state.get(statistics))


def _evaluation(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: Any, mode: str) -> Any:
    layer, state = _made(x.shape[1], x.dtype, mode, {"eps": eps})
    begun, statistics = _indices(layer)
    state = state.set(begun, _begun(state.get(begun))).set(statistics, (mean, var))
    return _applied(_with_values(layer, weight, bias), state, x, True)[0]


def _begun(value: Any) -> Any:
    return jnp.array(False) if value.dtype == bool else value + _LONG_AGO


def _layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    return _over_samples(_with_values(nn.LayerNorm(weight.shape, eps=eps), weight, bias), x, weight.ndim)


def _rms_norm(x: Any, weight: Any, eps: Any) -> Any:
    if not hasattr(nn, "RMSNorm"):
        raise NotImplementedError("this Equinox has no RMSNorm")
    layer = nn.RMSNorm(weight.shape, eps=eps, use_bias=False)
    return _over_samples(equinox.tree_at(lambda layer: layer.weight, layer, weight), x, weight.ndim)


def _group_norm(x: Any, weight: Any, bias: Any, eps: Any, num_groups: int) -> Any:
    layer = nn.GroupNorm(num_groups, weight.shape[0], eps=eps)
    return _over_samples(_with_values(layer, weight, bias), x, x.ndim - 1)


def _over_samples(layer: Any, x: Any, axes: int) -> Any:
    for _ in range(x.ndim - axes):
        layer = jax.vmap(layer)
    return layer(x).astype(x.dtype)


def _weight_norm(v: Any, g: Any) -> Any:
    """Seen as what WeightNorm makes of a linear layer, put before every unit vector; the products are exact."""
    if v.dtype != g.dtype:
        raise NotImplementedError("v and g are parameters of one dtype")
    flat = v.reshape(v.shape[0], -1)
    layer = nn.Linear(flat.shape[1], flat.shape[0], use_bias=False, key=jax.random.PRNGKey(0))
    normed = nn.WeightNorm(equinox.tree_at(lambda layer: layer.weight, layer, flat))
    normed = equinox.tree_at(lambda normed: normed.g, normed, g.reshape(normed.g.shape))
    return jax.vmap(normed)(jnp.eye(flat.shape[1], dtype=v.dtype)).T.reshape(v.shape)


_FUNCTIONS: dict[str, Any] = {
    "batch_norm": _batch_norm,
    "evaluation": _evaluation,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "weight_norm": _weight_norm,
}


@cache
def _compiled(name: str, leaves: int, static: tuple[tuple[str, Any], ...]) -> Any:
    """A function, or, of so many `leaves`, its gradients, compiled."""

    def function(*given: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # under jax.jit eps is an array, which Equinox does not expect there
            return _FUNCTIONS[name](*given, **dict(static))

    if not leaves:
        return jax.jit(function)

    def pulled_back(dy: Any, *given: Any) -> Any:
        def y(*wanted: Any) -> Any:
            results = function(*wanted, *given[leaves:])
            return results[0] if name == "batch_norm" else results

        value, pullback = jax.vjp(y, *given[:leaves])
        return pullback(dy.astype(value.dtype))

    return jax.jit(pulled_back)


def _arrays(results: Any) -> Any:
    return jax.tree_util.tree_map(np.array, results)


class EquinoxBatch:
    """Mode "batch"."""

    name = "equinox-batch"
    version = version("equinox")
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")
    compiles = True  # every new shape takes longer to compile than many to run
    unavailable = "" if _HAS_MODES else "this Equinox has no modes"
    mode = "batch"

    def _run(self, name: str, *given: Any, leaves: int = 0, **static: Any) -> Any:
        numbers = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in given]
        return _arrays(_compiled(name, leaves, tuple(static.items()))(*numbers))

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
        return self._run("batch_norm", x, weight, bias, running_mean, running_var, momentum, eps, mode=self.mode)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return self._run("evaluation", x, weight, bias, running_mean, running_var, eps, mode=self.mode)

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        state = np.zeros_like(weight), np.ones_like(weight)
        return self._run("batch_norm", dy, x, weight, bias, *state, 0.99, eps, leaves=3, new=True, mode=self.mode)

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
        return self._run("evaluation", dy, x, weight, bias, running_mean, running_var, eps, leaves=3, mode=self.mode)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._run("layer_norm", x, weight, bias, eps)

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._run("layer_norm", dy, x, weight, bias, eps, leaves=3)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        return self._run("group_norm", x, weight, bias, eps, num_groups=num_groups)

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Any:
        return self._run("group_norm", dy, x, weight, bias, eps, leaves=3, num_groups=num_groups)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return self._run("rms_norm", x, weight, eps)

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Any:
        return self._run("rms_norm", dy, x, weight, eps, leaves=2)

    def weight_norm(self, v: Array, g: Array) -> Any:
        return self._run("weight_norm", v, g)

    def weight_norm_gradients(self, v: Array, g: Array, dw: Array) -> Any:
        return self._run("weight_norm", dw, v, g, leaves=2)

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: Any) -> Any:
        if "momentum" in options and options["momentum"] is None:
            raise NotImplementedError("momentum None: Equinox has no average of all batches")
        return Layer(num_features, dtype, self.mode, options)


_step = equinox.filter_jit(_applied)


class Layer:
    """A layer and its state."""

    def __init__(self, num_features: int, dtype: str, mode: str, options: dict[str, Any]) -> None:
        self.layer, self.kept = _made(num_features, dtype, mode, options)

    def _step(self, x: Array, inference: bool) -> Any:
        y, self.kept = _step(self.layer, self.kept, jnp.asarray(x), inference)
        return np.array(y)

    def train(self, x: Array) -> Any:
        return self._step(x, False)

    def evaluate(self, x: Array) -> Any:
        return self._step(x, True)

    def state(self) -> dict[str, Array]:
        """The statistics as they are kept: what evaluation makes of them is its own matter."""
        mean, var = self.kept.get(_indices(self.layer)[1])
        found = {"weight": self.layer.weight, "bias": self.layer.bias, "running_mean": mean, "running_var": var}
        return {name: np.array(value) for name, value in found.items()}


class EquinoxEma(EquinoxBatch):
    """Mode "ema", once the only one; it takes x of its parameters' dtype alone, and else raises a TypeError."""

    name = "equinox-ema"
    dtypes = ("float64", "float32")
    unavailable = ""
    mode = "ema"
