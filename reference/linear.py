"""A linear layer or convolution before batch norm, in float64: z = W u + b (section 5; [1] section 3.2).

u is (N, I, *spatial), w (C, I, *kernel) with a kernel size for every spatial axis, b (C,). A kernel meets every place
where it fits: stride 1, no padding. Without spatial axes this is a matrix product. Arguments are anything array-like
and become float64. A kernel larger than u raises ValueError. What batch norm leaves undefined is NaN: see `batch_norm`.
"""

import numpy as np
from numpy.typing import ArrayLike

from normspec.reference.article import Array
from normspec.reference.batch_norm import along_channels, floats, normalize, normalized, statistics, train_gradients
from normspec.reference.rules import ARTICLE, Rules


def linear(u: ArrayLike, w: ArrayLike, b: ArrayLike) -> Array:
    """z of shape (N, C, *(spatial - kernel + 1))."""
    u, w, b = floats(u, w, b)
    windows, kernel = _windows(u, w.shape[2:])
    z = np.tensordot(windows, w, axes=((1, *kernel), range(1, w.ndim)))
    return np.ascontiguousarray(np.moveaxis(z, -1, 1)) + along_channels(b, u.ndim)


def linear_gradients(u: ArrayLike, w: ArrayLike, dz: ArrayLike) -> tuple[Array, Array, Array]:
    """du of u's shape, dw of w's and db (C,), from dz of z's shape."""
    u, w, dz = floats(u, w, dz)
    windows, _ = _windows(u, w.shape[2:])
    places = (0, *range(2, u.ndim))
    dw = np.tensordot(dz, windows, axes=(places, places))
    padded = np.pad(dz, [(0, 0), (0, 0), *((k - 1, k - 1) for k in w.shape[2:])])
    turned = np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)
    return linear(padded, turned, np.zeros(u.shape[1])), dw, dz.sum(places)


def linear_norm(
    u: ArrayLike, w: ArrayLike, b: ArrayLike, weight: ArrayLike, bias: ArrayLike, *, eps: float, rules: Rules = ARTICLE
) -> Array:
    """y = batch norm of W u + b in training, where b cancels."""
    u, w, b, weight, bias = floats(u, w, b, weight, bias)
    before = np.zeros_like(b) if rules.earlier_bias == "added after" else b
    y = normalized(linear(u, w, before), weight, bias, eps=eps, rules=rules)
    return y + along_channels(b, y.ndim) if rules.earlier_bias == "added after" else y


def linear_norm_gradients(
    u: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    dy: ArrayLike,
    *,
    eps: float,
    rules: Rules = ARTICLE,
) -> tuple[Array, Array, Array, Array, Array]:
    """du, dw, db, dweight and dbias: dx of batch norm, handed on; db is 0."""
    u, w, b, weight, bias, dy = floats(u, w, b, weight, bias, dy)
    z = linear(u, w, np.zeros_like(b) if rules.earlier_bias == "added after" else b)
    dz, dweight, dbias = train_gradients(z, weight, bias, dy, eps=eps, rules=rules)
    du, dw, db = linear_gradients(u, w, dz)
    places = (0, *range(2, z.ndim))
    if rules.earlier_bias == "added after":
        db = dy.sum(places)
    if rules.earlier_bias == "mean held constant":
        _, root = normalize(statistics(z, rules), eps, rules)
        db = (along_channels(weight, z.ndim) * root * dy).sum(places)
    return du, dw, db, dweight, dbias


def _windows(u: Array, kernel: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """The places (N, I, *places, *kernel) that a kernel meets, and the axes of the kernel."""
    windows = np.lib.stride_tricks.sliding_window_view(u, kernel, tuple(range(2, u.ndim))) if kernel else u
    return windows, tuple(range(u.ndim, u.ndim + len(kernel)))
