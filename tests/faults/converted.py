"""Faults of converters, compilers and workers: the operation is another one, or done by halves."""

import math

import numpy as np

from faults.pieces import Layer, Pieces, column, rows
from faults.registry import fault


@fault("normalize.uses-batch-statistics")
class HalvesOfTheBatch(Pieces):
    """Each of two workers normalizes its half of the values with statistics of its own."""

    def x_hat(self, x, mean, root):
        half = x.shape[1] // 2
        if self.mode != "train" or x.shape[1] < 4:
            return super().x_hat(x, mean, root)
        means = [x[:, :half].mean(axis=1), x[:, half:].mean(axis=1)]
        return np.concatenate(
            [super().x_hat(x[:, :half], means[0], root), super().x_hat(x[:, half:], means[1], root)], axis=1
        )


@fault("statistics.per-channel")
class StatisticsOfTheFirstHalf(Pieces):
    """The statistics are those of the first half of the batch."""

    def statistics(self, x):
        return super().statistics(x[:, : max(x.shape[1] // 2, 2)])


@fault("statistics.per-channel", thread="tenstorrent/tt-metal#57223")
class PairsOfChannels(Pieces):
    """Two channels share their mean, as in group norm."""

    def mean(self, x):
        mean = super().mean(x)
        even = len(mean) // 2 * 2
        mean[:even] = mean[:even].reshape(-1, 2).mean(axis=1).repeat(2)
        return mean


@fault("statistics.per-channel")
class ReversesTheStatistics(Pieces):
    """The mean is read from the last channel to the first."""

    def y(self, x, mean, *rest):
        return super().y(x, mean[::-1] if self.mode == "train" else mean, *rest)


@fault("statistics.per-channel")
class MeanOfTheMedians(Pieces):
    """x is centered by its median."""

    def mean(self, x):
        return np.median(x, axis=1)


@fault("normalize.uses-batch-statistics", thread="pytorch/pytorch#18525")
class ExportedInEvaluationMode(Pieces):
    """The training step was exported in evaluation mode: running statistics in, the same out."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        y = self.evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        return y, running_mean.copy(), running_var.copy()


@fault("hygiene.every-shape", thread="pytorch/pytorch#36688")
class SharesOfUnequalWorkers(Pieces):
    """Of an odd number of values, the sums' shares of dx are divided by twice the larger half."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        share = self.count(dy) / (2 * math.ceil(self.count(dy) / 2))
        return super().dx(dy, x_hat, root, weight, dweight * share, dbias * share)


@fault("running.sample-variance", thread="NVIDIA/apex#387")
class MeanOfTheWorkersVariances(Pieces):
    """The tracked variance is the mean of the two halves' variances, without the distance of their means."""

    def sample_variance(self, var, x):
        wide = rows(x).astype(np.promote_types(x.dtype, np.float32))
        half = wide.shape[1] // 2
        return super().sample_variance((wide[:, :half].var(axis=1) + wide[:, half:].var(axis=1)) / 2, x)


@fault("hygiene.every-shape", thread="plaidml/plaidml#1940")
class ChannelsLastByGuess(Pieces):
    """An input whose last axis is as long as its channels is taken to have its channels last in evaluation."""

    def evaluate(self, x, weight, *rest, **options):
        if x.ndim > 2 and x.shape[-1] == len(weight):
            return super().evaluate(x.swapaxes(1, -1), weight, *rest, **options).swapaxes(1, -1).copy()
        return super().evaluate(x, weight, *rest, **options)


@fault(
    "precision.within-bound",
    explained="a deviation that float16 cannot hold gives infinity, and the claim on large numbers names that",
)
class FoldsInHalf(Pieces):
    """Slope and intercept of evaluation are stored in float16."""

    def y(self, x, mean, var, weight, bias, eps):
        if self.mode != "evaluate":
            return super().y(x, mean, var, weight, bias, eps)
        slope = weight * self.root(var, eps)
        slope, intercept = (v.astype(np.float16).astype(v.dtype) for v in (slope, bias - mean * slope))
        return x * column(slope) + column(intercept)


@fault("precision.within-bound")
class FoldsWithCancellation(Pieces):
    """Evaluation adds bias to x before it subtracts the mean, and takes it off again."""

    def x_hat(self, x, mean, root):
        if self.mode != "evaluate":
            return super().x_hat(x, mean, root)
        shift = x.dtype.type(1e4) * np.maximum(np.abs(mean), 1)
        return ((x + column(shift)) - column(mean + shift)) * column(root)


@fault("layer.follows-operation", thread="keras-team/keras#6839")
class LayerConvertsMomentumTwice(Layer):
    """A layer takes momentum for the weight of the old state, but starts from 1 - 0.1 by default."""

    def __init__(self, *arguments, momentum=None, **options):
        super().__init__(*arguments, momentum=0.1 if momentum is None else 1 - momentum, **options)


@fault("layer.follows-operation", thread="LaurentMazare/tch-rs#628")
class LayerLosesItsStateInEvaluation(Layer):
    """A layer evaluates with mean 0 and variance 1, whatever it has tracked."""

    def evaluate(self, x):
        return self.operation.evaluate(
            x, self.weight, self.bias, self.running_mean * 0, self.running_var * 0 + 1, eps=self.eps
        )


@fault("layer.follows-operation")
class LayerTracksTheNormalizedVariance(Layer):
    """A layer evaluates with running_var + eps as the variance."""

    def evaluate(self, x):
        return self.operation.evaluate(
            x, self.weight, self.bias, self.running_mean, self.running_var + self.eps, eps=self.eps
        )


@fault("layer.follows-operation", thread="microsoft/onnxscript#2312")
class ImagesUseTheDefaultEps(Layer):
    """A layer for images trains with 1e-5, whatever eps."""

    def train(self, x):
        eps, self.eps = self.eps, 1e-5 if x.ndim == 4 else self.eps
        y = super().train(x)
        self.eps = eps
        return y
