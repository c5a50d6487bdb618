"""JAX has no batch norm, but its normalization: `jax.nn.standardize` with its defaults, around it what a user adds."""

import os
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
from jax import Array as JaxArray
from jax import numpy as jnp
from jax.example_libraries import optimizers
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

Array = NDArray[Any]

with suppress(AttributeError, RuntimeError):  # a JAX without the option, or one that has started: then with what it has
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", 4)  # type: ignore[no-untyped-call]  # a batch can be split over them
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # without it JAX computes float64 in float32


def _per_channel(values: JaxArray, ndim: int) -> JaxArray:
    return values.reshape(1, -1, *[1] * (ndim - 2))


def _train(x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, momentum: Any, eps: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    if x.size < 2 * x.shape[1]:
        raise ValueError(f"training needs more than one value per channel, got x of shape {x.shape}")
    y = jax.nn.standardize(x, axes, epsilon=eps) * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)
    wide = x.astype(running_mean.dtype)
    mean, var = wide.mean(axes), wide.var(axes, ddof=1)
    return (
        y.astype(x.dtype),
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * var,
    )


def _evaluate(x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, eps: Any) -> Any:
    mean, var = _per_channel(running_mean, x.ndim), _per_channel(running_var, x.ndim)
    axes = (0, *range(2, x.ndim))
    y = jax.nn.standardize(x, axes, mean, var, eps) * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)
    return y.astype(x.dtype)


def _train_gradients(x: Any, weight: Any, bias: Any, dy: Any, eps: Any) -> Any:
    state = jnp.zeros_like(weight), jnp.ones_like(weight)
    _, pullback = jax.vjp(lambda x, weight, bias: _train(x, weight, bias, *state, 0.0, eps)[0], x, weight, bias)
    return pullback(dy)


def _evaluate_gradients(x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, dy: Any, eps: Any) -> Any:
    _, pullback = jax.vjp(
        lambda x, weight, bias: _evaluate(x, weight, bias, running_mean, running_var, eps), x, weight, bias
    )
    return pullback(dy)


def _layer_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    y = jax.nn.standardize(x, tuple(range(x.ndim - weight.ndim, x.ndim)), epsilon=eps) * weight + bias
    return y.astype(x.dtype)


def _layer_norm_gradients(x: Any, weight: Any, bias: Any, dy: Any, eps: Any) -> Any:
    return jax.vjp(lambda x, weight, bias: _layer_norm(x, weight, bias, eps), x, weight, bias)[1](dy)


def _instance_norm(x: Any, weight: Any, bias: Any, eps: Any) -> Any:
    x_hat = jax.nn.standardize(x, tuple(range(2, x.ndim)), epsilon=eps)
    return (x_hat * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)).astype(x.dtype)


def _instance_norm_gradients(x: Any, weight: Any, bias: Any, dy: Any, eps: Any) -> Any:
    return jax.vjp(lambda x, weight, bias: _instance_norm(x, weight, bias, eps), x, weight, bias)[1](dy)


def _linear_norm(u: Any, w: Any, b: Any, weight: Any, bias: Any, eps: Any) -> Any:
    z = jax.lax.conv_general_dilated(u, w, (1,) * (u.ndim - 2), "VALID") if u.ndim > 2 else u @ w.T
    z = z + _per_channel(b, u.ndim)
    state = jnp.zeros_like(weight), jnp.ones_like(weight)
    return _train(z, weight, bias, *state, 0.0, eps)[0]


def _linear_norm_gradients(u: Any, w: Any, b: Any, weight: Any, bias: Any, dy: Any, eps: Any) -> Any:
    return jax.vjp(lambda u, w, b, weight, bias: _linear_norm(u, w, b, weight, bias, eps), u, w, b, weight, bias)[1](dy)


def _placed(arrays: tuple[Array, ...], of_batch: tuple[int, ...], devices: int) -> list[JaxArray]:
    """Arrays on a mesh of so many devices: those of the batch, by position, split along it, the others on every one."""
    found = jax.devices()
    if len(found) < devices:
        raise NotImplementedError(f"a batch split over {devices} devices needs as many, and JAX has {len(found)}")
    mesh = Mesh(np.array(found[:devices]), ("batch",))
    split, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["batch"], []))  # type: ignore[no-untyped-call]
    return [jax.device_put(a, split if i in of_batch else everywhere) for i, a in enumerate(arrays)]


def _network(parameters: Any, state: Any, x: Any, mode: str, momentum: Any, eps: Any) -> Any:
    """Logits, what the batch norm layers were given, and their new state; mode is "plain", "train" or "evaluate"."""

    def hidden(x: Any, layer: Any) -> Any:
        (kernel, bias, weight, shift), (mean, var) = layer
        given = x @ kernel + bias
        y = given
        if mode == "train":
            y, mean, var = _train(given, weight, shift, mean, var, momentum, eps)
        elif mode == "evaluate":
            y = _evaluate(given, weight, shift, mean, var, eps)
        return jax.nn.relu(y), (given, (mean, var))

    first, further, (kernel, bias) = parameters
    x, outer = hidden(x, (first, jax.tree.map(lambda a: a[0], state)))
    x, inner = jax.lax.scan(hidden, x, (further, jax.tree.map(lambda a: a[1:], state)))  # compiled once for all layers
    given, state = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), outer, inner)
    return x @ kernel + bias, given, state


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _new_network(key: Any, features: int, depth: int, width: int, classes: int) -> Any:
    """Parameters and state: the first layer, those behind it stacked, and the last linear map."""
    uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", batch_axis=0)
    keys, shapes = jax.random.split(key, 3), [(1, features, width), (depth - 1, width, width), (1, width, classes)]
    kernels = [uniform(k, shape, jnp.float32) for k, shape in zip(keys, shapes, strict=True)]
    zeros, ones = jnp.zeros((depth, width), jnp.float32), jnp.ones((depth, width), jnp.float32)
    first, further = (kernels[0][0], zeros[0], ones[0], zeros[0]), (kernels[1], zeros[1:], ones[1:], zeros[1:])
    return (first, further, (kernels[2][0], jnp.zeros(classes, jnp.float32))), (zeros, ones)


@partial(jax.jit, static_argnames=("mode", "epochs", "settling"))
def _trained(
    parameters: Any,
    state: Any,
    x: Any,
    labels: Any,
    rate: Any,
    momentum: Any,
    eps: Any,
    *,
    mode: str,
    epochs: int,
    settling: int,
) -> Any:
    """All that `train_network` returns; x is (batches, batch, features)."""
    start, update, parameters_of = optimizers.sgd(rate)

    def loss(parameters: Any, state: Any, x: Any, labels: Any) -> Any:
        logits, _, state = _network(parameters, state, x, mode, momentum, eps)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean(), state

    def step(carried: Any, number: Any) -> Any:
        (optimizer, state), part = carried, number % len(x)
        value_and_gradients = jax.value_and_grad(loss, has_aux=True)
        (value, state), gradients = value_and_gradients(parameters_of(optimizer), state, x[part], labels[part])
        return (update(number, gradients, optimizer), state), value

    def settle(state: Any, number: Any) -> Any:
        logits, given, state = _network(parameters, state, x[number % len(x)], mode, momentum, eps)
        return state, (logits, given)

    (optimizer, before), losses = jax.lax.scan(step, (start(parameters), state), jnp.arange(epochs * len(x)))
    parameters = parameters_of(optimizer)
    after, outcomes = jax.lax.scan(settle, before, jnp.arange(settling * len(x)))
    logits, given = (a[-len(x) :] for a in outcomes)
    of_evaluation = "evaluate" if mode == "train" else mode
    evaluated, *_ = _network(parameters, after, x.reshape(-1, x.shape[-1]), of_evaluation, momentum, eps)
    mean, var = jax.tree.map(lambda *pair: jnp.stack(pair), before, after)
    given = jnp.moveaxis(given, 0, 1).reshape(given.shape[1], -1, given.shape[-1])
    return losses, logits.reshape(-1, logits.shape[-1]), given, mean, var, evaluated


def _arrays(results: Any) -> Any:
    return jax.tree.map(lambda result: np.array(result), results)


class Jax:
    """Eager: each primitive is dispatched by itself."""

    name = "jax"
    compiles = True
    version = jax.__version__
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def _function(self, function: Any) -> Any:
        return function

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
        given = map(jnp.asarray, (x, weight, bias, running_mean, running_var))
        return _arrays(self._function(_train)(*given, momentum, eps))

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        given = map(jnp.asarray, (x, weight, bias, running_mean, running_var))
        return _arrays(self._function(_evaluate)(*given, eps))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return _arrays(self._function(_train_gradients)(*map(jnp.asarray, (x, weight, bias, dy)), eps))

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
        given = map(jnp.asarray, (x, weight, bias, running_mean, running_var, dy))
        return _arrays(self._function(_evaluate_gradients)(*given, eps))

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return _arrays(self._function(_layer_norm)(*map(jnp.asarray, (x, weight, bias)), eps))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return _arrays(self._function(_layer_norm_gradients)(*map(jnp.asarray, (x, weight, bias, dy)), eps))

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return _arrays(self._function(_instance_norm)(*map(jnp.asarray, (x, weight, bias)), eps))

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return _arrays(self._function(_instance_norm_gradients)(*map(jnp.asarray, (x, weight, bias, dy)), eps))

    def linear_norm(self, u: Array, w: Array, b: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return _arrays(self._function(_linear_norm)(*map(jnp.asarray, (u, w, b, weight, bias)), eps))

    def linear_norm_gradients(
        self, u: Array, w: Array, b: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> Any:
        given = map(jnp.asarray, (u, w, b, weight, bias, dy))
        return _arrays(self._function(_linear_norm_gradients)(*given, eps))


class JaxJit(Jax):
    """The same functions compiled as a whole, once for each shape and dtype."""

    name = "jax-jit"
    compiles = False  # one function a shape is little beside every operation in it
    _compiled: ClassVar = {
        f: jax.jit(f)
        for f in (
            _train, _evaluate, _train_gradients, _evaluate_gradients,
            _layer_norm, _layer_norm_gradients, _instance_norm, _instance_norm_gradients,
            _linear_norm, _linear_norm_gradients,
        )
    }  # fmt: skip

    def _function(self, function: Any) -> Any:
        return self._compiled[function]

    def train_split(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        devices: int,
        momentum: float,
        eps: float,
    ) -> Any:
        """The same compiled function, x sharded along the batch: XLA splits it and adds up over the devices.

        This is what JAX's users do, who write no collectives where `jax.jit` meets sharded arrays.
        """
        given = _placed((x, weight, bias, running_mean, running_var), (0,), devices)
        return _arrays(self._function(_train)(*given, momentum, eps))

    def train_split_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, devices: int, eps: float
    ) -> Any:
        given = _placed((x, weight, bias, dy), (0, 3), devices)
        return _arrays(self._function(_train_gradients)(*given, eps))

    def train_network(
        self,
        x: Array,
        labels: Array,
        *,
        depth: int,
        width: int,
        normalized: bool,
        learning_rate: float,
        momentum: float,
        eps: float,
        batch: int,
        epochs: int,
        settling: int,
        seed: int,
    ) -> Any:
        key = jax.random.key(seed, impl="rbg")  # the default generator takes longer to compile than to train
        made = _new_network(key, x.shape[1], depth, width, int(labels.max()) + 1)
        batches = x.reshape(-1, batch, x.shape[1]), labels.reshape(-1, batch)
        mode = "train" if normalized else "plain"
        rates = learning_rate, momentum, eps
        results = _arrays(_trained(*made, *batches, *rates, mode=mode, epochs=epochs, settling=settling))
        kept = depth if normalized else 0
        losses, logits, given, mean, var, evaluated = results
        return losses, logits, given[:kept].copy(), mean[:, :kept].copy(), var[:, :kept].copy(), evaluated
