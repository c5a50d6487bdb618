"""PyTorch by other ways than eager `batch_norm` on contiguous memory: compiled, channels last, exported, fused.

What each does to the same numbers may differ: other kernels, or other formulas.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.utils.fusion import fuse_conv_bn_eval

Array = NDArray[Any]
Arrays = tuple[Array, ...]


def _tensor(array: Array) -> Tensor:
    array = np.array(array, order="C")
    if array.dtype.name == "bfloat16":  # NumPy's is not PyTorch's: pass the bits
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().copy().view(ml_dtypes.bfloat16)
    return tensor.numpy().copy()


def _train(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, momentum: float, eps: float) -> Tensor:
    return batch_norm(x, mean, var, weight, bias, True, momentum, eps)


def _evaluate(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


class _Path:
    """A way to the same operation: `_call` takes one of the two functions above to where it is run."""

    version = torch.__version__
    dtypes: tuple[str, ...] = ("float64", "float32", "bfloat16", "float16")

    def __init__(self) -> None:
        torch.set_num_threads(1)  # faster at the sizes of a conformance run

    def _given(self, x: Array) -> Tensor:
        return _tensor(x)

    def _call(self, function: Callable[..., Tensor], *given: Any) -> Tensor:
        return function(*given)

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
        mean, var = _tensor(running_mean), _tensor(running_var)  # updated in place
        y = self._call(_train, self._given(x), mean, var, _tensor(weight), _tensor(bias), momentum, eps)
        return _array(y), _array(mean), _array(var)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        mean, var = _tensor(running_mean), _tensor(running_var)
        return _array(self._call(_evaluate, self._given(x), mean, var, _tensor(weight), _tensor(bias), eps))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Arrays:
        leaves = [t.requires_grad_() for t in (self._given(x), _tensor(weight), _tensor(bias))]
        mean, var = torch.zeros_like(leaves[1]), torch.ones_like(leaves[1])
        y = self._call(_train, leaves[0], mean.detach(), var.detach(), *leaves[1:], 0.0, eps)
        return tuple(map(_array, torch.autograd.grad(y, leaves, self._given(dy))))

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
        leaves = [t.requires_grad_() for t in (self._given(x), _tensor(weight), _tensor(bias))]
        y = self._call(_evaluate, leaves[0], _tensor(running_mean), _tensor(running_var), *leaves[1:], eps)
        return tuple(map(_array, torch.autograd.grad(y, leaves, self._given(dy))))


class ChannelsLast(_Path):
    """Memory with channels last, as vision models are trained: it has kernels of its own."""

    name = "torch-channels-last"

    def _given(self, x: Array) -> Tensor:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if x.ndim not in formats:
            raise NotImplementedError("the format is there for x with 4 and 5 axes")
        return _tensor(x).contiguous(memory_format=formats[x.ndim])


class Compiled(_Path):
    """`torch.compile` with Inductor, one program for all shapes of a rank; the updates of the state are in it."""

    name = "torch-compile"
    compiles = True

    def __init__(self) -> None:
        super().__init__()
        torch._dynamo.config.recompile_limit = 10_000  # beyond it PyTorch would go on eagerly, without a word
        self._programs = {f: torch.compile(f, dynamic=True) for f in (_train, _evaluate)}

    def _call(self, function: Callable[..., Tensor], *given: Any) -> Tensor:
        return self._programs[function](*given)


class Fused(_Path):
    """Evaluation through a convolution that has taken it in, as `fuse_conv_bn_eval` and deployments do."""

    name = "torch-fused"
    dtypes = ("float64", "float32")

    def train(self, *arrays: Array, momentum: float, eps: float) -> Arrays:
        raise NotImplementedError("what is fused is evaluated alone")

    def train_gradients(self, *arrays: Array, eps: float) -> Arrays:
        raise NotImplementedError("what is fused is evaluated alone")

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        """A depthwise convolution of width 1 that does nothing, before batch norm."""
        channels, kinds = weight.size, {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
        if x.ndim not in kinds:
            raise NotImplementedError("convolutions take x with 3 to 5 axes")
        given = _tensor(x)
        convolution = kinds[x.ndim](channels, channels, 1, groups=channels, bias=False, dtype=given.dtype)
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[x.ndim - 3](channels, eps=eps, dtype=given.dtype)
        with torch.no_grad():
            nn.init.ones_(convolution.weight)
            values = (norm.weight, weight), (norm.bias, bias), (norm.running_mean, running_mean)
            for parameter, value in (*values, (norm.running_var, running_var)):
                assert parameter is not None
                parameter.copy_(_tensor(value))
            return _array(fuse_conv_bn_eval(convolution.eval(), norm.eval())(given))

    def evaluate_gradients(self, *arrays: Array, eps: float) -> Arrays:
        raise NotImplementedError("what is fused has no weight and bias of its own any more")


class Exported(_Path):
    """`torch.export` with the core decompositions: the formulas that compilers downstream are given."""

    name = "torch-export"
    compiles = True
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def _call(self, function: Callable[..., Tensor], *given: Any) -> Tensor:
        class Module(nn.Module):
            def forward(self, *tensors: Tensor) -> Any:
                changed = tensors[1].clone(), tensors[2].clone()
                return function(tensors[0], *changed, *tensors[3:], *numbers), *changed

        tensors = tuple(t.detach() for t in given if isinstance(t, Tensor))
        numbers = [number for number in given if not isinstance(number, Tensor)]
        if any(t.requires_grad for t in given if isinstance(t, Tensor)):
            raise NotImplementedError("what is exported has no gradients")
        program = torch.export.export(Module(), tensors).run_decompositions()
        with torch.no_grad():
            y, mean, var = program.module()(*tensors)
            given[1].copy_(mean)
            given[2].copy_(var)
        return y  # type: ignore[no-any-return]
