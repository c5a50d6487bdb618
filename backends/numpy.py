"""Batch norm and its relatives as one would write them in NumPy: vectorized, half precision summed in float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _per_channel(values: Array, ndim: int) -> Array:
    return values.reshape(1, -1, *[1] * (ndim - 2))


def _wide(x: Array) -> Array:
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


def _moments(x: Array) -> tuple[Array, Array, Array]:
    """Centered x, mean and biased variance over everything but the channels, in float32 or wider."""
    axes = (0, *range(2, x.ndim))
    wide = _wide(x)
    mean = wide.mean(axes, keepdims=True)
    centered = wide - mean
    return centered, mean.ravel(), np.square(centered).mean(axes)


def _merged(parts: list[Array]) -> tuple[Array, Array, int]:
    """Mean and biased variance of a batch in parts, from those of each, and its count (Chan, Golub & LeVeque 1983)."""
    sizes = [part.size // part.shape[1] for part in parts]
    means, variances = zip(*(_moments(part)[1:] for part in parts), strict=True)
    total = sum(sizes)
    shares = [size / total for size in sizes]
    mean = sum(share * m for share, m in zip(shares, means, strict=True))
    between = (var + np.square(m - mean) for var, m in zip(variances, means, strict=True))
    return mean, sum(share * v for share, v in zip(shares, between, strict=True)), total


def _last(x: Array, weight: Array) -> tuple[int, ...]:
    """The axes of x that weight has."""
    return tuple(range(x.ndim - weight.ndim, x.ndim))


def _groups(x: Array, num_groups: int) -> Array:
    """A sample's groups of neighbouring channels, each with all its values in a row."""
    return x.reshape(len(x), num_groups, -1)


def _standardized(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """x-hat and the inverse root, from x's own mean and variance over `axes`."""
    centered = x - x.mean(axes, keepdims=True)
    root = 1 / np.sqrt(np.square(centered).mean(axes, keepdims=True) + eps)
    return centered * root, root


def _input_gradient(x_hat: Array, root: Array, g: Array, axes: tuple[int, ...]) -> Array:
    """dx, from g = weight * dy."""
    of_variance = x_hat * (g * x_hat).mean(axes, keepdims=True)
    dx: Array = root * (g - g.mean(axes, keepdims=True) - of_variance)
    return dx


def _directions(v: Array, g: Array) -> tuple[Array, Array, Array]:
    """A unit a row: v over its norm, the norm, and g."""
    rows = _wide(v).reshape(len(v), -1)
    norm = np.sqrt(np.square(rows).sum(1, keepdims=True))
    return rows / norm, norm, g[:, None]


def _windows(u: Array, kernel: tuple[int, ...]) -> Array:
    """(N, I, *places, *kernel): what a kernel meets, wherever it fits."""
    return np.lib.stride_tricks.sliding_window_view(u, kernel, tuple(range(2, u.ndim))) if kernel else u


def _linear(u: Array, w: Array, b: Array) -> Array:
    """W u + b, or the convolution with stride 1 and without padding, in u's dtype."""
    axes = (1, *range(u.ndim, 2 * u.ndim - 2))
    z = np.tensordot(_windows(_wide(u), w.shape[2:]), _wide(w), (axes, range(1, w.ndim)))
    return (np.moveaxis(z, -1, 1) + _per_channel(b, u.ndim)).astype(u.dtype)


def _measured(x: Array, center: str, deviation: str) -> tuple[Array, Array, Array, Array]:
    """x - S and D^2 of each channel; m dS/dx, and m / 2 dD^2/d(x - S)."""
    axes = (0, *range(2, x.ndim))
    size = x.dtype.type(x.size // x.shape[1])
    if center == "mean":
        middle, share = x.mean(axes, keepdims=True), np.ones_like(x)
    elif center == "median":
        lower = np.percentile(x, 50, axes, method="lower", keepdims=True)
        upper = np.percentile(x, 50, axes, method="higher", keepdims=True)
        middle, share = (lower + upper) / 2, ((x == lower).astype(x.dtype) + (x == upper)) * (size / 2)
    elif center == "midrange":
        top, bottom = x.max(axes, keepdims=True), x.min(axes, keepdims=True)
        middle, share = (top + bottom) / 2, ((x == top).astype(x.dtype) + (x == bottom)) * (size / 2)
    else:
        raise NotImplementedError(f"no center is called {center}")
    centered = x - middle
    if deviation == "standard":
        return centered, np.square(centered).mean(axes, keepdims=True), share, centered
    if deviation == "mean absolute":
        spread = abs(centered).mean(axes, keepdims=True)
        return centered, spread**2, share, spread * np.sign(centered)
    if deviation == "half range":
        top, bottom = centered.max(axes, keepdims=True), centered.min(axes, keepdims=True)
        half = (top - bottom) / 2
        ends = (centered == top).astype(x.dtype) - (centered == bottom)
        return centered, half**2, share, ends * half * (size / 2)
    raise NotImplementedError(f"no deviation is called {deviation}")


class NumPy:
    """The operation, its gradients and a small layer."""

    name = "numpy"
    version = np.__version__
    dtypes = ("float64", "float32", "float16")

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
        size = x.size // x.shape[1]
        if size < 2:
            raise ValueError(f"training needs more than one value per channel, got x of shape {x.shape}")
        centered, mean, var = _moments(x)
        scale = weight / np.sqrt(var + eps)
        y = centered * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)
        sample_var = var * (size / (size - 1))
        return (
            y.astype(x.dtype, copy=False),
            running_mean + momentum * (mean - running_mean),
            running_var + momentum * (sample_var - running_var),
        )

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        scale = weight / np.sqrt(running_var + eps)
        y = (x - _per_channel(running_mean, x.ndim)) * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)
        return y.astype(x.dtype, copy=False)

    def train_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array]:
        axes = (0, *range(2, x.ndim))
        centered, _, var = _moments(x)
        root = 1 / np.sqrt(var + eps)
        x_hat, wide_dy = centered * _per_channel(root, x.ndim), _wide(dy)
        dweight, dbias = (wide_dy * x_hat).sum(axes), wide_dy.sum(axes)
        size = x.size // x.shape[1]
        share = _per_channel(dbias / size, x.ndim) + x_hat * _per_channel(dweight / size, x.ndim)
        dx = _per_channel(weight * root, x.ndim) * (wide_dy - share)
        return dx.astype(x.dtype, copy=False), dweight, dbias

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
    ) -> tuple[Array, Array, Array]:
        axes = (0, *range(2, x.ndim))
        root, wide_dy = 1 / np.sqrt(running_var + eps), _wide(dy)
        x_hat = (x - _per_channel(running_mean, x.ndim)) * _per_channel(root, x.ndim)
        dx = wide_dy * _per_channel(weight * root, x.ndim)
        return dx.astype(x.dtype, copy=False), (wide_dy * x_hat).sum(axes), wide_dy.sum(axes)

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
    ) -> tuple[Array, Array, Array]:
        parts = np.split(_wide(x), devices)
        mean, var, size = _merged(parts)
        shown = [self.evaluate(part, weight, bias, mean, var, eps=eps) for part in parts]
        sample_var = var * (size / (size - 1))
        return (
            np.concatenate(shown).astype(x.dtype, copy=False),
            running_mean + momentum * (mean - running_mean),
            running_var + momentum * (sample_var - running_var),
        )

    def train_split_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, devices: int, eps: float
    ) -> tuple[Array, Array, Array]:
        parts, dys = np.split(_wide(x), devices), np.split(_wide(dy), devices)
        mean, var, size = _merged(parts)
        root, axes = 1 / np.sqrt(var + eps), (0, *range(2, x.ndim))
        x_hats = [(part - _per_channel(mean, x.ndim)) * _per_channel(root, x.ndim) for part in parts]
        dweight = sum((g * x_hat).sum(axes) for g, x_hat in zip(dys, x_hats, strict=True))
        dbias = sum(g.sum(axes) for g in dys)
        of_mean, of_var = (_per_channel(total / size, x.ndim) for total in (dbias, dweight))
        scale = _per_channel(weight * root, x.ndim)
        dx = [scale * (g - of_mean - x_hat * of_var) for g, x_hat in zip(dys, x_hats, strict=True)]
        return np.concatenate(dx).astype(x.dtype, copy=False), dweight, dbias

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        x_hat, _ = _standardized(_wide(x), _last(x, weight), eps)
        return (x_hat * weight + bias).astype(x.dtype, copy=False)

    def layer_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array]:
        axes, dy_ = _last(x, weight), _wide(dy)
        x_hat, root = _standardized(_wide(x), axes, eps)
        dx, others = _input_gradient(x_hat, root, dy_ * weight, axes), tuple(range(x.ndim - weight.ndim))
        return dx.astype(x.dtype, copy=False), (dy_ * x_hat).sum(others), dy_.sum(others)

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        x_hat, _ = _standardized(_wide(x), tuple(range(2, x.ndim)), eps)
        return (x_hat * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)).astype(x.dtype, copy=False)

    def instance_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array]:
        return self.group_norm_gradients(x, weight, bias, dy, num_groups=x.shape[1], eps=eps)

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
        axes, wide = tuple(range(2, x.ndim)), _wide(x)
        if x[0, 0].size < 2:
            raise ValueError(f"training needs more than one value per sample and channel, got x of shape {x.shape}")
        mean, var = wide.mean(axes).mean(0), wide.var(axes, ddof=1).mean(0)
        return (
            self.instance_norm(x, weight, bias, eps=eps),
            running_mean + momentum * (mean - running_mean),
            running_var + momentum * (var - running_var),
        )

    def instance_norm_evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        return self.evaluate(x, weight, bias, running_mean, running_var, eps=eps)

    def l1_batch_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        centered, _, _ = _moments(x)
        scale = weight / (abs(centered).mean((0, *range(2, x.ndim))) + eps)
        y = centered * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)
        return y.astype(x.dtype, copy=False)

    def l1_batch_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array]:
        axes, dy_ = (0, *range(2, x.ndim)), _wide(dy)
        centered, _, _ = _moments(x)
        root = 1 / (abs(centered).mean(axes, keepdims=True) + eps)
        sign, x_hat, g = np.sign(centered), centered * root, dy_ * _per_channel(weight, x.ndim)
        slope = sign - sign.mean(axes, keepdims=True)
        dx = root * (g - g.mean(axes, keepdims=True) - slope * (g * x_hat).mean(axes, keepdims=True))
        return dx.astype(x.dtype, copy=False), (dy_ * x_hat).sum(axes), dy_.sum(axes)

    def generalized_batch_norm(
        self, x: Array, weight: Array, bias: Array, *, center: str, deviation: str, eps: float
    ) -> Array:
        centered, squared, _, _ = _measured(_wide(x), center, deviation)
        y = centered / np.sqrt(squared + eps) * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)
        return y.astype(x.dtype, copy=False)

    def generalized_batch_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, center: str, deviation: str, eps: float
    ) -> tuple[Array, Array, Array]:
        axes, dy_ = (0, *range(2, x.ndim)), _wide(dy)
        centered, squared, share, slope = _measured(_wide(x), center, deviation)
        root = 1 / np.sqrt(squared + eps)
        x_hat, g = centered * root, dy_ * _per_channel(weight, x.ndim)
        slope = (slope - share * slope.mean(axes, keepdims=True)) * root
        dx = root * (g - share * g.mean(axes, keepdims=True) - slope * (g * x_hat).mean(axes, keepdims=True))
        return dx.astype(x.dtype, copy=False), (dy_ * x_hat).sum(axes), dy_.sum(axes)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        x_hat = _standardized(_groups(_wide(x), num_groups), (2,), eps)[0].reshape(x.shape)
        return (x_hat * _per_channel(weight, x.ndim) + _per_channel(bias, x.ndim)).astype(x.dtype, copy=False)

    def group_norm_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, num_groups: int, eps: float
    ) -> tuple[Array, Array, Array]:
        x_hat, root = _standardized(_groups(_wide(x), num_groups), (2,), eps)
        dy_, others = _wide(dy), (0, *range(2, x.ndim))
        dx = _input_gradient(x_hat, root, _groups(dy_ * _per_channel(weight, x.ndim), num_groups), (2,))
        dweight = (dy_ * x_hat.reshape(x.shape)).sum(others)
        return dx.reshape(x.shape).astype(x.dtype, copy=False), dweight, dy_.sum(others)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        wide = _wide(x)
        root = 1 / np.sqrt(np.square(wide).mean(_last(x, weight), keepdims=True) + eps)
        y: Array = wide * root * weight
        return y.astype(x.dtype, copy=False)

    def rms_norm_gradients(self, x: Array, weight: Array, dy: Array, *, eps: float) -> tuple[Array, Array]:
        axes, wide, dy_ = _last(x, weight), _wide(x), _wide(dy)
        root = 1 / np.sqrt(np.square(wide).mean(axes, keepdims=True) + eps)
        x_hat, g = wide * root, dy_ * weight
        dx = root * (g - x_hat * (g * x_hat).mean(axes, keepdims=True))
        return dx.astype(x.dtype, copy=False), (dy_ * x_hat).sum(tuple(range(x.ndim - weight.ndim)))

    def linear_norm(self, u: Array, w: Array, b: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        return self._after_linear(_linear(u, w, b), weight, bias, eps)

    def linear_norm_gradients(
        self, u: Array, w: Array, b: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, ...]:
        dz, dweight, dbias = self.train_gradients(_linear(u, w, b), weight, bias, dy, eps=eps)
        places, dz_ = (0, *range(2, u.ndim)), _wide(dz)
        dw = np.tensordot(dz_, _windows(_wide(u), w.shape[2:]), (places, places))
        around = [(0, 0), (0, 0), *((k - 1, k - 1) for k in w.shape[2:])]
        turned = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)
        du = _linear(np.pad(dz_, around), turned, np.zeros(u.shape[1], dz_.dtype))
        results = (du.astype(u.dtype), dw.astype(w.dtype), dz_.sum(places).astype(b.dtype))
        return *results, dweight, dbias

    def _after_linear(self, z: Array, weight: Array, bias: Array, eps: float) -> Array:
        state = np.zeros_like(weight), np.ones_like(weight)
        return self.train(z, weight, bias, *state, momentum=0.0, eps=eps)[0]

    def weight_norm(self, v: Array, g: Array) -> Array:
        direction, _, gain = _directions(v, g)
        return (direction * gain).reshape(v.shape).astype(v.dtype, copy=False)

    def weight_norm_gradients(self, v: Array, g: Array, dw: Array) -> tuple[Array, Array]:
        direction, norm, gain = _directions(v, g)
        dw_ = _wide(dw).reshape(direction.shape)
        dg = (dw_ * direction).sum(1)
        dv = gain / norm * (dw_ - dg[:, None] * direction)
        return dv.reshape(v.shape).astype(v.dtype, copy=False), dg

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> "Layer":
        return Layer(num_features, np.promote_types(dtype, np.float32), **options)


class Layer:
    """weight, bias and running statistics around the operation; momentum None averages all batches equally."""

    def __init__(
        self, num_features: int, dtype: np.dtype[Any], eps: float | None = 1e-5, momentum: float | None = 0.1
    ) -> None:
        self.weight, self.bias = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.running_mean, self.running_var = np.zeros(num_features, dtype), np.ones(num_features, dtype)
        self.eps, self.momentum, self.steps = eps or 0.0, momentum, 0

    def train(self, x: Array) -> Array:
        momentum = 1 / (self.steps + 1) if self.momentum is None else self.momentum
        y, self.running_mean, self.running_var = NumPy().train(
            x, self.weight, self.bias, self.running_mean, self.running_var, momentum=momentum, eps=self.eps
        )
        self.steps += 1
        return y

    def evaluate(self, x: Array) -> Array:
        return NumPy().evaluate(x, self.weight, self.bias, self.running_mean, self.running_var, eps=self.eps)

    def state(self) -> dict[str, Array]:
        return {name: getattr(self, name) for name in ("weight", "bias", "running_mean", "running_var")}
