"""PyTorch: `batch_norm` and its relatives, of `torch.nn.functional`, with autograd; modules `BatchNorm1d` to `3d`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import (
    batch_norm,
    conv1d,
    conv2d,
    conv3d,
    cross_entropy,
    group_norm,
    instance_norm,
    layer_norm,
    linear,
    rms_norm,
)
from torch.nn.utils.parametrizations import weight_norm

Array = NDArray[Any]
Gradients = tuple[Array, ...]


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy's bfloat16 is not PyTorch's: pass the bits
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Torch:
    """The CPU kernels. Parameters and statistics of half-precision input are float32, as in mixed precision."""

    name = "torch"
    version = torch.__version__
    dtypes = ("float64", "float32", "bfloat16", "float16")
    device = "cpu"

    def __init__(self) -> None:
        torch.set_num_threads(1)  # faster at the sizes of a conformance run

    def _tensor(self, array: Array) -> Tensor:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(self.device)
        return torch.from_numpy(array).to(self.device)

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
    ) -> tuple[Array, Array, Array]:
        mean, var = self._tensor(running_mean).clone(), self._tensor(running_var).clone()  # updated in place
        y = batch_norm(self._tensor(x), mean, var, self._tensor(weight), self._tensor(bias), True, momentum, eps)
        return _array(y), _array(mean), _array(var)

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        x_, weight_, bias_, mean, var = map(self._tensor, (x, weight, bias, running_mean, running_var))
        return _array(batch_norm(x_, mean, var, weight_, bias_, False, 0.0, eps))

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight, bias)]
        y = batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, eps)
        return self._gradients(y, leaves, dy)

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
    ) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight, bias)]
        mean, var = self._tensor(running_mean), self._tensor(running_var)
        y = batch_norm(leaves[0], mean, var, leaves[1], leaves[2], False, 0.0, eps)
        return self._gradients(y, leaves, dy)

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return _array(layer_norm(self._tensor(x), weight.shape, self._tensor(weight), self._tensor(bias), eps))

    def layer_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight, bias)]
        return self._gradients(layer_norm(leaves[0], weight.shape, leaves[1], leaves[2], eps), leaves, dy)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        x_, weight_, bias_ = map(self._tensor, (x, weight, bias))
        return _array(instance_norm(x_, None, None, weight_, bias_, True, 0.0, eps))

    def instance_norm_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight, bias)]
        y = instance_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.0, eps)
        return self._gradients(y, leaves, dy)

    def instance_norm_train(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        momentum: float,
        eps: float,
    ) -> tuple[Array, Array, Array]:
        mean, var = self._tensor(running_mean).clone(), self._tensor(running_var).clone()  # updated in place
        y = instance_norm(self._tensor(x), mean, var, self._tensor(weight), self._tensor(bias), True, momentum, eps)
        return _array(y), _array(mean), _array(var)

    def instance_norm_evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        x_, weight_, bias_, mean, var = map(self._tensor, (x, weight, bias, running_mean, running_var))
        return _array(instance_norm(x_, mean, var, weight_, bias_, False, 0.0, eps))

    def train_split(self, *arrays: Array, devices: int, momentum: float, eps: float) -> Gradients:
        raise NotImplementedError(f"not run: nn.SyncBatchNorm wants {devices} GPUs, with a process each")

    def train_split_gradients(self, *arrays: Array, devices: int, eps: float) -> Gradients:
        raise NotImplementedError(f"not run: nn.SyncBatchNorm wants {devices} GPUs, with a process each")

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        return _array(group_norm(self._tensor(x), num_groups, self._tensor(weight), self._tensor(bias), eps))

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight, bias)]
        return self._gradients(group_norm(leaves[0], num_groups, leaves[1], leaves[2], eps), leaves, dy)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        return _array(rms_norm(self._tensor(x), weight.shape, self._tensor(weight), eps))

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (x, weight)]
        return self._gradients(rms_norm(leaves[0], weight.shape, leaves[1], eps), leaves, dy)

    def weight_norm(self, v: Array, g: Array) -> Array:
        return _array(self._unit_norm(v, g).weight)

    def weight_norm_gradients(self, v: Array, g: Array, dw: Array) -> Gradients:
        module = self._unit_norm(v, g)
        parts = module.parametrizations["weight"]
        dg, dv = self._gradients(module.weight, [parts.original0, parts.original1], dw)
        return dv, dg.reshape(g.shape)

    def _unit_norm(self, v: Array, g: Array) -> Any:
        """A module whose weight is parametrized by v and g."""
        if v.dtype != g.dtype:
            raise NotImplementedError("v and g are parameters of one dtype")
        module: Any = nn.Module()
        module.weight = nn.Parameter(self._tensor(v).clone())
        weight_norm(module, "weight", 0)
        with torch.no_grad():
            module.parametrizations["weight"].original0.copy_(self._tensor(g).reshape(-1, *[1] * (v.ndim - 1)))
        return module

    def linear_norm(self, u: Array, w: Array, b: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        u_, w_, b_, weight_, bias_ = map(self._tensor, (u, w, b, weight, bias))
        return _array(self._after_linear(u_, w_, b_, weight_, bias_, eps))

    def linear_norm_gradients(
        self, u: Array, w: Array, b: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> Gradients:
        leaves = [self._tensor(a).requires_grad_() for a in (u, w, b, weight, bias)]
        u_, w_, b_, weight_, bias_ = leaves
        return self._gradients(self._after_linear(u_, w_, b_, weight_, bias_, eps), leaves, dy)

    def _after_linear(self, u: Tensor, w: Tensor, b: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        z = (linear, conv1d, conv2d, conv3d)[u.ndim - 2](u, w, b)
        return batch_norm(z, None, None, weight, bias, True, 0.0, eps)

    def _gradients(self, y: Tensor, leaves: list[Tensor], dy: Array) -> Gradients:
        return tuple(map(_array, torch.autograd.grad(y, leaves, self._tensor(dy))))

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: Any) -> "Layer":
        module = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[ndim]
        parameters = torch.float64 if dtype == "float64" else torch.float32
        return Layer(self, module(num_features, dtype=parameters, device=self.device, **options))

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
    ) -> tuple[Array, ...]:
        net = self._network(x.shape[1], depth, width, int(labels.max()) + 1, seed)
        if normalized:
            net = _with_norms(net, momentum, eps)
        net.to(self.device)
        batches = [
            (self._tensor(x[i : i + batch]), self._tensor(labels[i : i + batch])) for i in range(0, len(x), batch)
        ]
        optimizer = torch.optim.SGD(net.parameters(), learning_rate)
        losses = []
        for of_x, of_labels in batches * epochs:
            loss = cross_entropy(net(of_x), of_labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(_array(loss))
        before = _state(net, width)
        with torch.no_grad():
            for _ in range(settling):
                outcomes = [_observed(net, of_x) for of_x, _ in batches]
            logits = torch.cat([y for y, _ in outcomes])
            given = [torch.cat(of_layer) for of_layer in zip(*(given for _, given in outcomes), strict=True)]
            evaluated = net.eval()(self._tensor(x))
        mean, var = (np.stack(pair) for pair in zip(before, _state(net, width), strict=True))
        return np.array(losses), _array(logits), _stacked(given, len(x), width), mean, var, _array(evaluated)

    def _network(self, features: int, depth: int, width: int, classes: int, seed: int) -> nn.Sequential:
        """Linear maps and ReLU, as PyTorch initializes them."""
        with torch.random.fork_rng([]):  # the random state is everyone's
            torch.default_generator.manual_seed(seed)
            hidden = [(nn.Linear(inputs, width), nn.ReLU()) for inputs in (features, *[width] * (depth - 1))]
            return nn.Sequential(*(part for parts in hidden for part in parts), nn.Linear(width, classes))


def _with_norms(net: nn.Sequential, momentum: float, eps: float) -> nn.Sequential:
    """The same with batch norm behind each linear map but the last."""
    parts: list[nn.Module] = []
    for part in net:
        if isinstance(part, nn.ReLU):
            parts.append(nn.BatchNorm1d(parts[-1].out_features, eps=eps, momentum=momentum))  # type: ignore[arg-type]
        parts.append(part)
    return nn.Sequential(*parts)


def _observed(net: nn.Sequential, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a network gives, and what its batch norm layers were given."""
    given = []
    for part in net:
        if isinstance(part, nn.BatchNorm1d):
            given.append(x)
        x = part(x)
    return x, given


def _state(net: nn.Sequential, width: int) -> tuple[Array, Array]:
    """Running means and variances, (layers, width) each."""
    norms = [part for part in net if isinstance(part, nn.BatchNorm1d)]
    mean, var = ([getattr(norm, name) for norm in norms] for name in ("running_mean", "running_var"))
    return _stacked(mean, width), _stacked(var, width)


def _stacked(tensors: Sequence[Tensor], *shape: int) -> Array:
    """Copies of tensors of a shape, of which there may be none."""
    return np.array([_array(tensor) for tensor in tensors], np.float32).reshape(len(tensors), *shape)


class Layer:
    """A module, fed with NumPy arrays."""

    def __init__(self, backend: Torch, module: nn.Module) -> None:
        self.backend, self.module = backend, module

    def train(self, x: Array) -> Array:
        return _array(self.module.train()(self.backend._tensor(x)))

    def evaluate(self, x: Array) -> Array:
        return _array(self.module.eval()(self.backend._tensor(x)))

    def state(self) -> dict[str, Array]:
        tensors = self.module.state_dict()
        return {name: _array(tensors[name]).copy() for name in ("weight", "bias", "running_mean", "running_var")}


class TorchCuda(Torch):
    """The same on the first GPU."""

    name = "torch-cuda"
    device = "cuda"
    unavailable = "" if torch.cuda.is_available() else "PyTorch sees no CUDA device"
