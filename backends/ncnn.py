"""ncnn: its layers BatchNorm, LayerNorm, InstanceNorm and GroupNorm, in float32.

It has evaluation alone, of one sample at a time, with up to three spatial axes. A net is made for each call: its text
as ncnn writes it, its numbers through a file.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Ncnn:
    """One thread, and no lower precision anywhere."""

    name = "ncnn"
    version = ncnn.__version__
    dtypes = ("float32",)

    def train(self, *arrays: Array, momentum: float, eps: float) -> Any:
        raise NotImplementedError("ncnn is for evaluation only")

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return _run(f"BatchNorm bn 1 1 x y 0={len(weight)} 1={eps:.9e}", x, (weight, running_mean, running_var, bias))

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if (x.ndim, weight.ndim) not in ((2, 1), (3, 1), (4, 1), (4, 2)):
            raise NotImplementedError("ncnn's LayerNorm wants one axis, or the last two of three")
        return _run(f"LayerNorm ln 1 1 x y 0={weight.size} 1={eps:.9e} 2=1", x, (weight.ravel(), bias.ravel()))

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        if x.ndim != 4:
            raise NotImplementedError("ncnn's InstanceNorm wants two spatial axes")
        return _run(f"InstanceNorm in 1 1 x y 0={len(weight)} 1={eps:.9e} 2=1", x, (weight, bias))

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        text = f"GroupNorm gn 1 1 x y 0={num_groups} 1={len(weight)} 2={eps:.9e} 3=1"
        return _run(text, x, (weight, bias))


def _run(layer: str, x: Array, held: Sequence[Array]) -> Array:
    """What a net of one layer gives for each sample."""
    if x.ndim > 5:
        raise NotImplementedError("ncnn's arrays have up to four axes, and the batch is none of them")
    net = ncnn.Net()
    options = net.opt
    options.num_threads = 1
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = False
    net.load_param_mem(f"7767517\n2 2\nInput in 0 1 x\n{layer}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.bin"
        path.write_bytes(b"".join(np.ascontiguousarray(a, np.float32).tobytes() for a in held))
        net.load_model(str(path))
    result = np.empty(x.shape, np.float32)
    packed = np.ascontiguousarray(x)
    for i in range(len(x)):
        extractor = net.create_extractor()
        extractor.input("x", ncnn.Mat(packed[i]).clone())  # a Mat does not keep NumPy's memory alive
        status, y = extractor.extract("y")
        if status:
            raise RuntimeError(f"ncnn's extractor returned {status}")
        result[i] = np.array(y).reshape(x.shape[1:])
    return result
