"""Faults in the relatives of batch norm."""

import numpy as np

from faults.registry import fault
from normspec.backends.numpy import NumPy


@fault("relatives.layer-norm")
class LayerNormOfTheFirst16(NumPy):
    """Layer norm takes its statistics from the first 16 values of a sample."""

    def layer_norm(self, x, weight, bias, *, eps):
        rows = x.reshape(-1, weight.size)
        mean, var = rows[:, :16].mean(1, keepdims=True), rows[:, :16].var(1, keepdims=True)
        y = (rows - mean) / np.sqrt(var + eps) * weight.ravel() + bias.ravel()
        return y.reshape(x.shape).astype(x.dtype)


@fault("relatives.layer-norm")
class LayerNormTransposesItsParameters(NumPy):
    """Weight of several axes is read in the order of its last axis."""

    def layer_norm(self, x, weight, bias, *, eps):
        return super().layer_norm(x, np.ascontiguousarray(weight.T).reshape(weight.shape), bias, eps=eps)


@fault("relatives.layer-norm-gradients")
class LayerNormGradientOfTheLastSample(NumPy):
    """dweight is that of the last sample: the others are overwritten."""

    def layer_norm_gradients(self, x, weight, bias, dy, *, eps):
        dx, _, dbias = super().layer_norm_gradients(x, weight, bias, dy, eps=eps)
        last = -weight.size
        rows = [a.reshape(-1)[last:].reshape(weight.shape) for a in (x, dy)]
        return dx, super().layer_norm_gradients(rows[0], weight, bias, rows[1], eps=eps)[1], dbias


@fault("relatives.half-statistics", dtype="float16")
class LayerNormSquaresInHalf(NumPy):
    """The squares are added up in float16, where they overflow or lose what is small."""

    def layer_norm(self, x, weight, bias, *, eps):
        axes = tuple(range(x.ndim - weight.ndim, x.ndim))
        centered = x - x.mean(axes, keepdims=True)
        var = np.square(centered).sum(axes, keepdims=True, dtype=np.float16) / np.float16(weight.size)
        return (centered / np.sqrt(var + np.float16(eps)) * weight + bias).astype(x.dtype)


@fault("relatives.instance-norm")
class InstanceNormOfTheFirstSample(NumPy):
    """Every sample is normalized with the statistics of the first."""

    def instance_norm(self, x, weight, bias, *, eps):
        axes, shape = tuple(range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
        mean, var = x[:1].mean(axes, keepdims=True), x[:1].var(axes, keepdims=True)
        y = (x - mean) / np.sqrt(var + eps) * weight.reshape(shape) + bias.reshape(shape)
        return y.astype(x.dtype)


@fault("relatives.instance-norm-gradients")
class InstanceNormGradientsOfBatchNorm(NumPy):
    """The backward pass is batch norm's, over the batch as well."""

    def instance_norm_gradients(self, x, weight, bias, dy, *, eps):
        return self.train_gradients(x, weight, bias, dy, eps=eps)


@fault("relatives.group-norm")
class GroupNormWeighsGroups(NumPy):
    """A group takes the weight of its first channel."""

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        first = np.repeat(weight[:: weight.size // num_groups], weight.size // num_groups)
        return super().group_norm(x, first, bias, num_groups=num_groups, eps=eps)


@fault("relatives.group-norm")
class GroupNormCountsChannels(NumPy):
    """The sums over a group are divided by the number of its channels and rows, without columns."""

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        rows, shape = x.reshape(len(x), num_groups, -1), (1, -1, *[1] * (x.ndim - 2))
        count = rows.shape[2] // (x.shape[-1] if x.ndim > 2 else 1)
        centered = rows - rows.mean(2, keepdims=True)
        var = np.square(centered).sum(2, keepdims=True) / count
        y = (centered / np.sqrt(var + eps)).reshape(x.shape)
        return (y * weight.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


@fault("relatives.group-norm-gradients")
class GroupNormGradientsPerGroup(NumPy):
    """dbias is summed over each group and handed to all its channels."""

    def group_norm_gradients(self, x, weight, bias, dy, *, num_groups, eps):
        dx, dweight, dbias = super().group_norm_gradients(x, weight, bias, dy, num_groups=num_groups, eps=eps)
        sums = dbias.reshape(num_groups, -1).sum(1)
        return dx, dweight, np.repeat(sums, dbias.size // num_groups)


@fault("relatives.rms-norm")
class RmsNormOverTheNorm(NumPy):
    """x is divided by its norm: the mean is a sum."""

    def rms_norm(self, x, weight, *, eps):
        axes = tuple(range(x.ndim - weight.ndim, x.ndim))
        return (x / np.sqrt(np.square(x).sum(axes, keepdims=True) + eps) * weight).astype(x.dtype)


@fault("relatives.rms-norm-gradients")
class RmsNormGradientsOfLayerNorm(NumPy):
    """The backward pass is layer norm's, centered."""

    def rms_norm_gradients(self, x, weight, dy, *, eps):
        return self.layer_norm_gradients(x, weight, np.zeros_like(weight), dy, eps=eps)[:2]


@fault("relatives.weight-norm")
class WeightNormOfTheLastAxis(NumPy):
    """The norm runs over the last axis of a kernel alone."""

    def weight_norm(self, v, g):
        w = v / np.sqrt(np.square(v).sum(-1, keepdims=True)) * g.reshape(-1, *[1] * (v.ndim - 1))
        return w.astype(v.dtype)


@fault("relatives.weight-norm-gradients")
class WeightNormGradientOfTheLength(NumPy):
    """dg forgets the norm: it is the sum of dw * v."""

    def weight_norm_gradients(self, v, g, dw):
        dv, _ = super().weight_norm_gradients(v, g, dw)
        return dv, (dw * v).reshape(len(v), -1).sum(1)


@fault("relatives.l1-batch-norm")
class L1OfTheFirstSample(NumPy):
    """L1 batch norm takes the magnitudes of the first sample alone."""

    def l1_batch_norm(self, x, weight, bias, *, eps):
        shape = (1, -1, *[1] * (x.ndim - 2))
        centered = x - x.mean((0, *range(2, x.ndim)), keepdims=True)
        spread = abs(centered[:1]).mean((0, *range(2, x.ndim)), keepdims=True)
        return (centered / (spread + eps) * weight.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


@fault("relatives.l1-batch-norm-gradients")
class L1GradientForgetsTheMeanSign(NumPy):
    """The sign of x - mean stands for the derivative of the deviation, without its mean taken off."""

    def l1_batch_norm_gradients(self, x, weight, bias, dy, *, eps):
        axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
        centered = x - x.mean(axes, keepdims=True)
        root = 1 / (abs(centered).mean(axes, keepdims=True) + eps)
        g, x_hat = dy * weight.reshape(shape), centered * root
        q = (g * x_hat).mean(axes, keepdims=True)
        dx = root * (g - g.mean(axes, keepdims=True) - np.sign(centered) * q)
        return dx.astype(x.dtype), (dy * x_hat).sum(axes), dy.sum(axes)


@fault("relatives.generalized-batch-norm")
class LowerMedian(NumPy):
    """Of an even count the lower of the two values in the middle is taken for the median."""

    def generalized_batch_norm(self, x, weight, bias, *, center, deviation, eps):
        if center != "median":
            return super().generalized_batch_norm(x, weight, bias, center=center, deviation=deviation, eps=eps)
        axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
        centered = x - np.percentile(x, 50, axes, method="lower", keepdims=True)
        spread = abs(centered).mean(axes, keepdims=True)
        return (centered / np.sqrt(spread**2 + eps) * weight.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


@fault("relatives.generalized-batch-norm-gradients")
class GeneralizedGradientsOfBatchNorm(NumPy):
    """The backward pass is that of mean and standard deviation, whatever was asked for."""

    def generalized_batch_norm_gradients(self, x, weight, bias, dy, *, center, deviation, eps):
        return self.train_gradients(x, weight, bias, dy, eps=eps)


@fault("relatives.instance-norm-tracked")
class TracksTheLastSample(NumPy):
    """The running statistics move by the last sample alone: the others are overwritten."""

    def instance_norm_train(self, x, *rest, **options):
        y, _, _ = super().instance_norm_train(x, *rest, **options)
        return y, *super().instance_norm_train(x[-1:], *rest, **options)[1:]


@fault("relatives.instance-norm-tracked")
class TracksTheSpreadOfMeans(NumPy):
    """The variance that is tracked is that of the samples' means."""

    def instance_norm_train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        y, mean, _ = super().instance_norm_train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        means = x.astype(running_var.dtype).mean(tuple(range(2, x.ndim)))
        return y, mean, ((1 - momentum) * running_var + momentum * means.var(0)).astype(running_var.dtype)


@fault("relatives.identities")
class OneGroupOfAVolumeIsTakenByChannel(NumPy):
    """Group norm of one group takes the channels of a volume, x with five axes, each by itself."""

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        alone = num_groups == 1 and x.ndim == 5
        return super().group_norm(x, weight, bias, num_groups=x.shape[1] if alone else num_groups, eps=eps)
