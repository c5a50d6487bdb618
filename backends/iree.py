"""IREE on the CPU: StableHLO's `batch_norm_training` and `batch_norm_inference`, compiled for each shape.

The operation returns the batch's mean and variance: the running statistics are what a user makes of them. IREE does not
compile `batch_norm_grad`.
"""

import importlib.metadata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from iree import compiler, runtime
from numpy.typing import NDArray

Array = NDArray[Any]

TRAINING = """
func.func @main(%x: {x}, %weight: {c}, %bias: {c}) -> ({x}, {c}, {c}) {{
  %y, %mean, %var = "stablehlo.batch_norm_training"(%x, %weight, %bias) {{{attributes}}}
    : ({x}, {c}, {c}) -> ({x}, {c}, {c})
  return %y, %mean, %var : {x}, {c}, {c}
}}"""
INFERENCE = """
func.func @main(%x: {x}, %weight: {c}, %bias: {c}, %mean: {c}, %var: {c}) -> {x} {{
  %y = "stablehlo.batch_norm_inference"(%x, %weight, %bias, %mean, %var) {{{attributes}}}
    : ({x}, {c}, {c}, {c}, {c}) -> {x}
  return %y : {x}
}}"""
OPTIONS = ["--iree-llvmcpu-target-cpu=host", "--iree-input-demote-f64-to-f32=false"]
"""Without the second one float64 is refused when called: the function has been compiled for float32."""

_config = runtime.Config("local-sync")


@lru_cache(maxsize=512)
def _compiled(text: str, dtype: str, shape: tuple[int, ...], eps: float) -> Any:
    element = {"float64": "f64", "float32": "f32"}[dtype]
    attributes = f"epsilon = {eps:.9e} : f32, feature_index = 1 : i64"
    x, c = (f"tensor<{'x'.join(map(str, lengths))}x{element}>" for lengths in (shape, shape[1:2]))
    filled = text.format(x=x, c=c, attributes=attributes)
    binary = compiler.compile_str(filled, target_backends=["llvm-cpu"], input_type="stablehlo", extra_args=OPTIONS)
    context = runtime.SystemContext(config=_config)
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, binary))
    return context.modules.module.main


def _run(text: str, arrays: Sequence[Array], eps: float) -> list[Array]:
    x = arrays[0]
    results = _compiled(text, x.dtype.name, x.shape, float(eps))(*map(np.ascontiguousarray, arrays))
    return [np.array(result.to_host()) for result in (results if isinstance(results, tuple) else [results])]


class Iree:
    """With open shapes neither operation compiles."""

    name = "iree"
    version = importlib.metadata.version("iree-base-compiler")
    dtypes = ("float64", "float32")
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
    ) -> Any:
        y, mean, var = _run(TRAINING, (x, weight, bias), eps)
        return y, (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return _run(INFERENCE, (x, weight, bias, running_mean, running_var), eps)[0]
