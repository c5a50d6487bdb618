"""StableHLO's three batch norm operations, as XLA compiles them: bound to JAX as primitives, with nothing beside."""

from functools import cache
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
from numpy.typing import NDArray

Array = NDArray[Any]

jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # without it JAX computes float64 in float32


def _attributes(eps: float) -> tuple[Any, Any]:
    """epsilon, and the axis of the channels."""
    return ir.FloatAttr.get(ir.F32Type.get(), eps), ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)


def _lower_training(_context: Any, x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    return stablehlo.BatchNormTrainingOp(x, weight, bias, *_attributes(eps)).results


def _lower_inference(_context: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *, eps: float) -> Any:
    return stablehlo.BatchNormInferenceOp(x, weight, bias, mean, var, *_attributes(eps)).results


def _lower_gradients(_context: Any, x: Any, weight: Any, mean: Any, var: Any, dy: Any, *, eps: float) -> Any:
    return stablehlo.BatchNormGradOp(x, weight, mean, var, dy, *_attributes(eps)).results


def _primitive(name: str, lower: Any, results: int) -> Any:
    made = Primitive(f"normspec_batch_norm_{name}")
    made.multiple_results = True

    def shapes(x: Any, weight: Any, *_more: Any, **_options: float) -> Any:
        like_weight = ShapedArray(weight.shape, weight.dtype)
        return [ShapedArray(x.shape, x.dtype), like_weight, like_weight][:results]

    made.def_abstract_eval(shapes)  # type: ignore[no-untyped-call]
    mlir.register_lowering(made, lower)
    return made


_TRAINING = _primitive("training", _lower_training, 3)
_INFERENCE = _primitive("inference", _lower_inference, 1)
_GRADIENTS = _primitive("grad", _lower_gradients, 3)


@cache
def _training(eps: float) -> Any:
    def train(x: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, momentum: Any) -> Any:
        y, mean, var = _TRAINING.bind(x, weight, bias, eps=eps)
        return y, (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var

    return jax.jit(train)


@cache
def _inference(eps: float) -> Any:
    return jax.jit(lambda *given: _INFERENCE.bind(*given, eps=eps)[0])


@cache
def _gradients(eps: float) -> Any:
    def gradients(x: Any, weight: Any, bias: Any, dy: Any) -> Any:
        _, mean, var = _TRAINING.bind(x, weight, bias, eps=eps)
        return tuple(_GRADIENTS.bind(x, weight, mean, var, dy, eps=eps))

    return jax.jit(gradients)


def _arrays(results: Any) -> Any:
    return jax.tree_util.tree_map(np.array, results)


class StableHlo:
    """What the operations give; the running statistics are moved with that, as they have none of their own.

    Each operation wants all its arguments of one dtype, so that there is no half precision beside float32.
    """

    name = "stablehlo"
    version = jax.__version__
    compiles = True  # eps is written into the program: each asks for another one
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
    ) -> Any:
        given = map(jnp.asarray, (x, weight, bias, running_mean, running_var))
        return _arrays(_training(float(eps))(*given, momentum))

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        given = map(jnp.asarray, (x, weight, bias, running_mean, running_var))
        return _arrays(_inference(float(eps))(*given))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return _arrays(_gradients(float(eps))(*map(jnp.asarray, (x, weight, bias, dy))))
