"""Faults that show where batch norm stands among other layers."""

import numpy as np

from faults.pieces import Layer, Pieces
from faults.registry import fault
from normspec.backends.numpy import NumPy


@fault("usage.bias-cancels")
class FusedBiasInHalf(NumPy):
    """A fused linear layer and normalization adds half of the bias after normalizing."""

    def linear_norm(self, u, w, b, weight, bias, *, eps):
        half = b.reshape(1, -1, *[1] * (u.ndim - 2)) / 2
        return (super().linear_norm(u, w, b, weight, bias, eps=eps) + half).astype(u.dtype)


@fault("usage.bias-cancels")
class BiasHasTheGradientOfTheFirstSample(NumPy):
    """The gradient of the linear layer's bias is summed over one sample, so that it is not 0."""

    def linear_norm_gradients(self, u, w, b, weight, bias, dy, *, eps):
        du, dw, _, dweight, dbias = super().linear_norm_gradients(u, w, b, weight, bias, dy, eps=eps)
        return du, dw, dy[:1].sum((0, *range(2, u.ndim))), dweight, dbias


@fault("why.scale-invariant")
class ClipsWeights(NumPy):
    """A fused linear layer takes weights beyond 4 for 4."""

    def linear_norm(self, u, w, b, weight, bias, *, eps):
        return super().linear_norm(u, np.clip(w, -4, 4), b, weight, bias, eps=eps)


@fault("why.scale-invariant")
class DecaysWeights(NumPy):
    """A thousandth of the weights is added to their gradient, as if decay were part of the derivative."""

    def linear_norm_gradients(self, u, w, b, weight, bias, dy, *, eps):
        du, dw, *rest = super().linear_norm_gradients(u, w, b, weight, bias, dy, eps=eps)
        return du, np.where(abs(w) > 4, dw + w / 1000, dw).astype(w.dtype), *rest


@fault("why.gradient-projection")
class NoGradientThroughTheVarianceAtEpsZero(Pieces):
    """Where eps is 0 a special path takes the variance for a constant in the backward pass."""

    def train_gradients(self, *arrays, eps):
        self.eps = eps
        return super().train_gradients(*arrays, eps=eps)

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat, root, weight, dweight if self.eps else 0 * dweight, dbias)


@fault("why.depth")
class LayersOfAWidthShareTheirState(Layer):
    """The running statistics lie in one place for all layers of a width: the last one trained has the word."""

    places: dict = {}

    def keep(self, mean, var):
        super().keep(mean, var)
        self.places[mean.size] = {"running_mean": mean, "running_var": var}

    def state(self):
        return {**super().state(), **(self.places[self.weight.size] if self.steps else {})}
