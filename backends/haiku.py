"""Haiku: `BatchNorm`, in half precision under a policy as its examples have it, and relatives, with JAX's gradients."""

from collections.abc import Mapping
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import haiku
import jax
import jmp  # type: ignore[import-not-found]
import numpy as np
from jax import numpy as jnp
from numpy.typing import NDArray

Array = NDArray[Any]

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # without it JAX computes float64 in float32

_LONG_AGO = 2**31 - 3
"""So many steps have gone, for a state that is given: nothing is left to correct for its start."""


def _last(x: Any) -> Any:
    """Channels last, where Haiku's modules look for them unless told otherwise."""
    return jnp.moveaxis(x, 1, -1)


def _second(y: Any) -> Any:
    return jnp.moveaxis(y, -1, 1)


def _applied(module: Any, kind: Any, dtype: Any, params: Any, state: Any, x: Any, *more: Any) -> Any:
    """What a module makes of x, and its state after it; in half precision it computes in float32 and rounds y."""

    def forward(x: Any) -> Any:
        return module()(x, *more)

    run = haiku.transform_with_state(forward)
    if jnp.dtype(dtype).itemsize > 2:
        return run.apply(params, state, None, x)
    policy = jmp.Policy(param_dtype=jnp.float32, compute_dtype=jnp.float32, output_dtype=dtype)
    with haiku.mixed_precision.push_policy(kind, policy):
        return run.apply(params, state, None, x)


def _norm(momentum: Any, eps: Mapping[str, Any]) -> Any:
    return partial(haiku.BatchNorm, True, True, momentum, **eps, name="norm")


def _wide(values: Any, ndim: int) -> Any:
    """Parameters and statistics have axes of length 1 beside the channels."""
    return values.reshape(*[1] * (ndim - 1), -1)


def _variables(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    weight, bias, mean, var = (_wide(a, x.ndim) for a in (weight, bias, mean, var))
    counter = jnp.asarray(_LONG_AGO, jnp.int32)
    state = {
        f"norm/~/{name}_ema": {"counter": counter, "hidden": value, "average": value}
        for name, value in (("mean", mean), ("var", var))
    }
    return {"norm": {"scale": weight, "offset": bias}}, state


def _average(state: Any, name: str) -> Any:
    return state[f"norm/~/{name}_ema"]["average"].reshape(-1)


def _batch_norm(x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: Any, eps: Any) -> Any:
    variables = _variables(x, weight, bias, mean, var)
    y, state = _applied(_norm(momentum, {"eps": eps}), haiku.BatchNorm, x.dtype, *variables, _last(x), True)
    return _second(y), _average(state, "mean"), _average(state, "var")


def _evaluation(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: Any) -> Any:
    variables = _variables(x, weight, bias, mean, var)
    return _second(_applied(_norm(0.9, {"eps": eps}), haiku.BatchNorm, x.dtype, *variables, _last(x), False)[0])


def _layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    axes = tuple(range(-weight.ndim, 0))
    module = partial(haiku.LayerNorm, axes, True, True, eps=eps, param_axis=axes, name="norm")
    given = (a if a.ndim == 1 else a.reshape(*[1] * (x.ndim - a.ndim), *a.shape) for a in (weight, bias))
    params = {"norm": dict(zip(("scale", "offset"), given, strict=True))}
    return _applied(module, haiku.LayerNorm, x.dtype, params, {}, x)[0]


def _rms_norm(x: Any, weight: Any, eps: Any) -> Any:
    axes = tuple(range(-weight.ndim, 0))
    module = partial(haiku.RMSNorm, axes, eps=eps, param_axis=axes, name="norm")
    given = weight if weight.ndim == 1 else weight.reshape(*[1] * (x.ndim - weight.ndim), *weight.shape)
    return _applied(module, haiku.RMSNorm, x.dtype, {"norm": {"scale": given}}, {}, x)[0]


def _instance_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    module = partial(haiku.InstanceNorm, True, True, eps=eps, name="norm")
    params = {"norm": {"scale": weight, "offset": bias}}
    return _second(_applied(module, haiku.InstanceNorm, x.dtype, params, {}, _last(x))[0])


def _group_norm(x: Any, weight: Any, bias: Any, eps: Any, num_groups: int) -> Any:
    module = partial(haiku.GroupNorm, num_groups, eps=eps, name="norm")
    params = {"norm": {"scale": weight, "offset": bias}}
    return _second(_applied(module, haiku.GroupNorm, x.dtype, params, {}, _last(x))[0])


_FUNCTIONS: dict[str, Any] = {
    "batch_norm": _batch_norm,
    "evaluation": _evaluation,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
}


@cache
def _compiled(name: str, leaves: int, static: tuple[tuple[str, Any], ...]) -> Any:
    """A function, or, of so many `leaves`, its gradients, compiled."""
    function = partial(_FUNCTIONS[name], **dict(static))
    if not leaves:
        return jax.jit(function)

    def pulled_back(dy: Any, *given: Any) -> Any:
        def y(*wanted: Any) -> Any:
            results = function(*wanted, *given[leaves:])
            return results[0] if name == "batch_norm" else results

        return jax.vjp(y, *given[:leaves])[1](dy)

    return jax.jit(pulled_back)


def _arrays(results: Any) -> Any:
    return jax.tree_util.tree_map(np.array, results)


class Haiku:
    """The modules under `transform_with_state`."""

    name = "haiku"
    version = version("dm-haiku")
    dtypes = ("float64", "float32", "bfloat16", "float16")
    compiles = True  # every new shape takes longer to compile than many to run

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
        return self._run("batch_norm", x, weight, bias, running_mean, running_var, momentum, eps)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return self._run("evaluation", x, weight, bias, running_mean, running_var, eps)

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        state = np.zeros_like(weight), np.ones_like(weight)
        return self._run("batch_norm", dy, x, weight, bias, *state, 0.9, eps, leaves=3)

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
        return self._run("evaluation", dy, x, weight, bias, running_mean, running_var, eps, leaves=3)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._run("layer_norm", x, weight, bias, eps)

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._run("layer_norm", dy, x, weight, bias, eps, leaves=3)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._run("instance_norm", x, weight, bias, eps)

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._run("instance_norm", dy, x, weight, bias, eps, leaves=3)

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

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: Any) -> Any:
        if options.get("momentum") is None:
            raise NotImplementedError("decay_rate has no default, and no value that averages all batches equally")
        return Layer(num_features, ndim, dtype, **options)


@cache
def _layer_functions(dtype: str, momentum: float, eps: tuple[tuple[str, Any], ...]) -> Any:
    """A layer's first variables, and its step, compiled."""
    module = _norm(momentum, dict(eps))

    def first(x: Any) -> Any:
        run = haiku.transform_with_state(lambda x: module()(x, True))
        kept = jnp.promote_types(dtype, jnp.float32)
        return run.init(jax.random.PRNGKey(0), x.astype(kept))

    def step(params: Any, state: Any, x: Any, training: bool) -> Any:
        y, state = _applied(module, haiku.BatchNorm, dtype, params, state, _last(x), training)
        return _second(y), state

    return jax.jit(first), jax.jit(step, static_argnums=3)


class Layer:
    """A transformed module and its variables."""

    def __init__(self, num_features: int, ndim: int, dtype: str, momentum: float, **eps: Any) -> None:
        first, self.step = _layer_functions(dtype, momentum, tuple(eps.items()))
        # what init is shown stays in the averages until the first step: zeros leave them at 0
        self.params, self.kept = first(jnp.zeros((2, *[1] * (ndim - 2), num_features), dtype))

    def train(self, x: Array) -> Any:
        y, self.kept = self.step(self.params, self.kept, jnp.asarray(x), True)
        return np.array(y)

    def evaluate(self, x: Array) -> Any:
        return np.array(self.step(self.params, self.kept, jnp.asarray(x), False)[0])

    def state(self) -> dict[str, Array]:
        """The parameters, and the averages that evaluation takes."""
        params = self.params["norm"]
        found = {"weight": params["scale"].reshape(-1), "bias": params["offset"].reshape(-1)}
        found |= {"running_" + name: _average(self.kept, name) for name in ("mean", "var")}
        return {name: np.array(value) for name, value in found.items()}
