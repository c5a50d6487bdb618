"""Faults of one mode: training as if evaluating, evaluation as if training, one of them only."""

import numpy as np

from faults.pieces import Pieces, column
from faults.registry import fault


class _Evaluation(Pieces):
    """Evaluation with other statistics: `used` gives them."""

    def used(self, x, mean, var):
        raise NotImplementedError

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        used = self.used(self.read(x), running_mean, running_var)
        return super().evaluate(x, weight, bias, *used, eps=eps)


@fault("evaluate.running-statistics", thread=("jax-ml/jax#442", "131250208/TPlinker-joint-extraction#37"))
class EvaluationDividesByTheVariance(Pieces):
    """Evaluation divides by the variance, not by its root."""

    def root(self, var, eps):
        return 1 / (var + eps) if self.mode == "evaluate" else super().root(var, eps)


@fault("evaluate.running-statistics")
class EvaluationTakesTheVarianceForADeviation(Pieces):
    """Evaluation takes running_var for a deviation already: sqrt(var^2 + eps)."""

    def root(self, var, eps):
        return super().root(var * var if self.mode == "evaluate" else var, eps)


@fault("evaluate.running-statistics")
class EvaluationTakesTheVarianceForARoot(Pieces):
    """Evaluation takes running_var for the reciprocal root, as the backward pass saves it."""

    def root(self, var, eps):
        return var if self.mode == "evaluate" else super().root(var, eps)


@fault("hygiene.every-shape", thread="pytorch/pytorch#16793")
class LargeEvaluationUsesTheBatch(_Evaluation):
    """Above 100 values a channel, evaluation uses the batch's statistics."""

    def used(self, x, mean, var):
        return self.statistics(x) if x.shape[1] > 100 else (mean, var)


@fault("evaluate.running-statistics", dtype="float16")
class HalfEvaluationUsesTheBatch(_Evaluation):
    """In float16, evaluation uses the batch's mean."""

    def evaluate(self, x, *rest, **options):
        self.half = x.dtype == np.float16
        return super().evaluate(x, *rest, **options)

    def used(self, x, mean, var):
        return (self.mean(x), var) if self.half else (mean, var)


@fault("evaluate.running-statistics")
class EvaluationUndoesTheCorrection(_Evaluation):
    """Evaluation multiplies running_var by (m - 1) / m, m being that of its own input."""

    def used(self, x, mean, var):
        return mean, var * ((x.shape[1] - 1) / x.shape[1] or 1)


@fault("evaluate.running-statistics")
class EvaluationBlendsTheBatch(_Evaluation):
    """Evaluation moves a tenth of the way to the batch's mean."""

    def used(self, x, mean, var):
        return 0.9 * mean + 0.1 * self.mean(x), var


@fault("evaluate.running-statistics", thread="LaurentMazare/tch-rs#628")
class EvaluationStartsAfresh(_Evaluation):
    """Evaluation uses mean 0 and variance 1, whatever was tracked."""

    def used(self, x, mean, var):
        return 0 * mean, 0 * var + 1


@fault("evaluate.folded")
class EvaluationForgetsTheMean(_Evaluation):
    """Evaluation does not center."""

    def used(self, x, mean, var):
        return 0 * mean, var


@fault("evaluate.sample-alone")
class EvaluationOfTheFirstSampleOnly(Pieces):
    """From the second sample on, evaluation uses the batch's mean."""

    def x_hat(self, x, mean, root):
        x_hat = super().x_hat(x, mean, root)
        if self.mode == "evaluate" and self.samples > 1:
            rest = x.shape[1] // self.samples
            x_hat[:, rest:] = ((x - x.mean(axis=1, keepdims=True)) * column(root))[:, rest:]
        return x_hat

    def evaluate(self, x, *rest, **options):
        self.samples = len(x)
        return super().evaluate(x, *rest, **options)


@fault("evaluate.sample-alone")
class EvaluationDependsOnTheOrder(Pieces):
    """A batch in evaluation is sorted by its first value and not put back."""

    def evaluate(self, x, *rest, **options):
        order = np.argsort(x.reshape(len(x), -1)[:, 0].astype(np.float64), kind="stable") if x.size else slice(None)
        return super().evaluate(x, *rest, **options)[order]


@fault("evaluate.running-statistics")
class FoldsTheMeanTwice(Pieces):
    """Evaluation centers x and subtracts the mean in the intercept too."""

    def y(self, x, mean, var, weight, bias, eps):
        y = super().y(x, mean, var, weight, bias, eps)
        return y - column(weight * mean * self.root(var, eps)) if self.mode == "evaluate" else y


@fault("evaluate.folded", thread="alibaba/heterogeneity-aware-lowering-and-optimization#470")
class FoldsBiasIntoTheScale(Pieces):
    """Evaluation multiplies bias by the root: the intercept is scaled once too often."""

    def y(self, x, mean, var, weight, bias, eps):
        bias = bias * self.root(var, eps) if self.mode == "evaluate" else bias
        return super().y(x, mean, var, weight, bias, eps)


@fault("evaluate.running-statistics", thread="microsoft/onnxscript#3027")
class FoldsOnce(Pieces):
    """The slope of evaluation is worked out in the first call for a number of channels, and used ever after."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.slopes = {}

    def root(self, var, eps):
        root = super().root(var, eps)
        return self.slopes.setdefault(len(var), root) if self.mode == "evaluate" else root


@fault("evaluate.folded")
class SwapsWeightAndBiasInEvaluation(Pieces):
    """Evaluation takes weight and bias in the other order."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, *((bias, weight) if self.mode == "evaluate" else (weight, bias)))


@fault("evaluate.running-statistics")
class SwapsMeanAndVarianceInEvaluation(_Evaluation):
    """Evaluation takes running mean and variance in the other order."""

    def used(self, x, mean, var):
        return var, np.abs(mean)


class _Training(Pieces):
    """Training that normalizes with something else: `used` gives the statistics."""

    def used(self, batch, running, momentum):
        raise NotImplementedError

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        _, mean, var = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        wide = self.read(x)
        used = self.used(self.statistics(wide), (running_mean, running_var), momentum)
        return self.stored(self.y(wide, *used, weight, bias, eps), x), mean, var


@fault("normalize.uses-batch-statistics")
class TrainsWithTheRunningVariance(_Training):
    """Training centers by the batch's mean and divides by the running deviation."""

    def used(self, batch, running, momentum):
        return batch[0], running[1]


@fault("normalize.uses-batch-statistics")
class TrainsWithTheRunningMean(_Training):
    """Training centers by the running mean and divides by the batch's deviation."""

    def used(self, batch, running, momentum):
        return running[0], batch[1]


@fault("normalize.uses-batch-statistics")
class TrainsWithABlend(_Training):
    """Training normalizes with the mixture of old and new, of population variances."""

    def used(self, batch, running, momentum):
        return tuple(self.mixed(old, new, momentum) for old, new in zip(running, batch, strict=True))


@fault("normalize.uses-batch-statistics")
class MeanAbsoluteDeviation(Pieces):
    """The deviation is the mean of |x - mean|, which saves the squares."""

    def root(self, var, eps):
        return super().root(var if self.absolute is None else self.absolute**2, eps)

    absolute = None

    def variance(self, x, mean):
        self.absolute = np.abs(x - column(mean)).mean(axis=1)
        return super().variance(x, mean)

    def evaluate(self, *arrays, **options):
        self.absolute = None
        return super().evaluate(*arrays, **options)

    def evaluate_gradients(self, *arrays, **options):
        self.absolute = None
        return super().evaluate_gradients(*arrays, **options)


@fault("precision.within-bound")
class SpreadAboutZero(Pieces):
    """x is centered, but divided by the root of E[x^2]."""

    def variance(self, x, mean):
        return super().variance(x, mean * 0)


@fault("normalize.population-variance")
class NormalizesWithTheTrackedVariance(Pieces):
    """The variance that will be tracked, with divisor m - 1, also normalizes y in training."""

    def y(self, x, mean, var, *rest):
        size = self.count(x)
        return super().y(x, mean, var * (size / (size - 1)) if self.mode == "train" else var, *rest)


@fault("normalize.centered")
class TrainingLeavesTheMean(Pieces):
    """Training divides x by the deviation and leaves its mean where it is; evaluation does not."""

    def x_hat(self, x, mean, root):
        return super().x_hat(x, mean * 0 if self.mode == "train" else mean, root)


@fault("normalize.unit-spread")
class TrainingCentersOnly(Pieces):
    """Training subtracts the mean and leaves the spread as it is; evaluation does not."""

    def x_hat(self, x, mean, root):
        return super().x_hat(x, mean, root / root if self.mode == "train" else root)
