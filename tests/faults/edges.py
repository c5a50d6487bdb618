"""Faults at the edges: nothing to normalize, one value, no variance."""

import numpy as np

from faults.pieces import Layer, Pieces
from faults.registry import fault


class _Empty(Pieces):
    """Training of an empty batch: `new_state` gives what comes of the state."""

    def new_state(self, running_mean, running_var, momentum):
        return running_mean.copy(), running_var.copy()

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        if x.size:
            return super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        return x.copy(), *self.new_state(running_mean, running_var, momentum)


@fault("hygiene.empty-batch", thread=("google-deepmind/sonnet#125", "pytorch/pytorch#12013"))
class EmptyBatchMakesTheStateNaN(_Empty):
    """The mean of nothing is NaN, and goes into the state."""

    def new_state(self, running_mean, running_var, momentum):
        return running_mean * np.nan, running_var * (1 - momentum)


@fault("hygiene.empty-batch")
class EmptyBatchFadesTheVariance(_Empty):
    """An empty batch counts as one without variance."""

    def new_state(self, running_mean, running_var, momentum):
        return running_mean.copy(), running_var * running_var.dtype.type(1 - momentum)


@fault("hygiene.empty-batch")
class EmptySpaceMakesTheStateNaN(Pieces):
    """Samples without positions are not told from others, and the mean of nothing goes into the state."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        if x.size or not len(x):
            return super().train(x, weight, bias, running_mean, running_var, **options)
        return x.copy(), running_mean * np.nan, running_var.copy()


@fault("hygiene.empty-batch")
class EmptyEvaluationMovesTheState(Pieces):
    """Evaluation of an empty batch clears the running mean."""

    def evaluate(self, x, weight, bias, running_mean, running_var, **options):
        y = super().evaluate(x, weight, bias, running_mean, running_var, **options)
        if not x.size:
            running_mean[:] = 0
        return y


@fault("hygiene.empty-batch")
class EmptyGradientsAreNaN(Pieces):
    """The gradients of nothing are NaN, not 0."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        return dx, dweight + (0 if x.size else np.nan), dbias + (0 if x.size else np.nan)


@fault("hygiene.every-shape", explained="x without channels may be refused, and an exception is a refusal")
class NoChannelsCrash(Pieces):
    """Evaluation divides the size of x by its channels, and there may be none."""

    def evaluate(self, x, *rest, **options):
        assert x.size // x.shape[1] >= 0
        return super().evaluate(x, *rest, **options)


@fault("normalize.constant-channel")
class ConstantChannelsPassThrough(Pieces):
    """A channel without variance is not centered."""

    def x_hat(self, x, mean, root):
        x_hat = super().x_hat(x, mean, root)
        return np.where((x == x[:, :1]).all(axis=1, keepdims=True), x, x_hat) if self.mode == "train" else x_hat


@fault("normalize.constant-channel", thread="onnx/onnx#3947")
class ConstantChannelsAreNaN(Pieces):
    """A channel without variance gives 0 / 0: eps is added to other channels only."""

    def root(self, var, eps):
        return np.where(var == 0, np.nan, super().root(var, eps)).astype(var.dtype)


@fault("normalize.constant-channel")
class ConstantChannelsLoseTheBias(Pieces):
    """A channel without variance gives 0, not bias."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        flat = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
        y[:, (flat == flat[:, :1]).all(axis=1)] = 0
        return y, mean, var


@fault("running.single-value", thread="torch/nn#1271")
class OneValueMakesNaN(Pieces):
    """One value a channel has the variance 0 / 0."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        if x.size != x.shape[1]:
            return super().train(x, weight, bias, running_mean, running_var, **options)
        return x.copy(), running_mean.copy(), running_var * np.nan


@fault("running.single-value", thread=("PaddlePaddle/Paddle#11445", "pytorch/pytorch#4534"))
class LayerKeepsNaNOfOneValue(Layer):
    """A layer lets one value a channel pass, and its running variance becomes NaN."""

    def train(self, x):
        if x.size != x.shape[1]:
            return super().train(x)
        self.running_var = self.running_var * np.nan
        return x * 0
