"""Faults of the backward pass: one term, one mode."""

import numpy as np

from faults.pieces import Pieces, column
from faults.registry import fault

# -- dx in training ----------------------------------------------------------------------------------------------------


@fault("gradient.input")
class WeightTwiceInTheInputGradient(Pieces):
    """dx is multiplied by weight twice."""

    def dx(self, dy, x_hat, root, weight, *rest):
        return super().dx(dy, x_hat, root, weight * weight, *rest)


@fault("gradient.input")
class WeightTwiceInTheVarianceTerm(Pieces):
    """The variance's share of dx is multiplied by weight once more."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat, root, weight, dweight * weight, dbias)


@fault("gradient.input")
class RootMissingInTheVarianceTerm(Pieces):
    """The variance's share of dx has raw deviations in the place of x-hat."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat / column(root), root, weight, dweight, dbias)


@fault("gradient.input")
class VarianceTermHalved(Pieces):
    """The derivative of the square loses its 2."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat, root, weight, dweight / 2, dbias)


@fault("gradient.input")
class SharesOfTheSampleCount(Pieces):
    """The mean's share of dx is divided by m - 1."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        size = self.count(dy)
        return super().dx(dy, x_hat, root, weight, dweight, dbias * (size / (size - 1)))


@fault("gradient.input", thread="pytorch/pytorch#36382")
class SharesOfTheWrongWorker(Pieces):
    """The sums' shares of dx are divided by twice the count, as if another worker had as many."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat, root, weight, dweight / 2, dbias / 2)


@fault("gradient.input")
class VarianceTermByTheBatch(Pieces):
    """The sums' shares of dx are divided by the batch size, not by m."""

    def train_gradients(self, x, *rest, **options):
        self.samples = len(x)
        return super().train_gradients(x, *rest, **options)

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        per = self.count(dy) / self.samples
        return super().dx(dy, x_hat, root, weight, dweight * per, dbias * per)


@fault("gradient.input")
class InputGradientOfTheNextChannel(Pieces):
    """The sums are read one channel ahead in dx."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        return super().dx(dy, x_hat, root, weight, np.roll(dweight, 1), dbias)


@fault("gradient.input")
class InputGradientWithoutRoot(Pieces):
    """dx is not divided by the deviation."""

    def dx(self, dy, x_hat, root, *rest):
        return super().dx(dy, x_hat, root * 0 + 1, *rest)


@fault("gradient.input")
class InputGradientNegated(Pieces):
    """dx has the wrong sign."""

    def dx(self, *arguments):
        return -super().dx(*arguments)


@fault("gradient.input", dtype="float16")
class LossScaleStaysIn(Pieces):
    """In float16, dx comes out multiplied by the loss scale of 8."""

    def train_gradients(self, x, *rest, **options):
        self.half = x.dtype == np.float16
        return super().train_gradients(x, *rest, **options)

    def dx(self, *arguments):
        return super().dx(*arguments) * (8 if self.half else 1)


@fault("gradient.input")
class NoInputGradientOfConstantChannels(Pieces):
    """Where a channel is constant, dx is 0."""

    def dx(self, dy, x_hat, *rest):
        return super().dx(dy, x_hat, *rest) * column((x_hat != 0).any(axis=1))


@fault("gradient.input")
class WeightIsReplacedBySmallOnes(Pieces):
    """A weight of 0 counts as 1e-5 in dx."""

    def dx(self, dy, x_hat, root, weight, *rest):
        return super().dx(dy, x_hat, root, np.where(weight == 0, 1e-2, weight).astype(weight.dtype), *rest)


# -- dx in evaluation --------------------------------------------------------------------------------------------------


@fault("gradient.evaluation", thread=("pytorch/pytorch#586", "pytorch/xla#913", "apache/mxnet#9580"))
class EvaluationGradientIsCentered(Pieces):
    """In evaluation dx has the mean's share taken off, but not the variance's."""

    def constant_dx(self, dy, *rest):
        return super().constant_dx(dy - dy.mean(axis=1, keepdims=True), *rest)


@fault("gradient.evaluation")
class EvaluationGradientLosesItsVarianceTerm(Pieces):
    """In evaluation dx has the variance's share taken off."""

    def constant_dx(self, dy, x_hat, root, weight):
        share = x_hat * (dy * x_hat).mean(axis=1, keepdims=True)
        return super().constant_dx(dy - share, x_hat, root, weight)


@fault("gradient.evaluation", thread="soumith/cudnn.torch#244")
class NoGradientInEvaluation(Pieces):
    """In evaluation dx is 0."""

    def constant_dx(self, *arguments):
        return super().constant_dx(*arguments) * 0


@fault("gradient.evaluation")
class EvaluationGradientPerVariance(Pieces):
    """In evaluation dx is divided by the variance."""

    def constant_dx(self, dy, x_hat, root, weight):
        return super().constant_dx(dy, x_hat, root * root, weight)


@fault("gradient.evaluation")
class EvaluationGradientOfNegativeWeights(Pieces):
    """In evaluation dx takes the magnitude of weight."""

    def constant_dx(self, dy, x_hat, root, weight):
        return super().constant_dx(dy, x_hat, root, np.abs(weight))


# -- dweight and dbias -------------------------------------------------------------------------------------------------


class _Mode(Pieces):
    """Wrong in `wrong_in` only."""

    wrong_in = "evaluate_gradients"

    @property
    def wrong(self):
        return self.mode == self.wrong_in


@fault("gradient.weight", thread="torch/nn#768")
class EvaluationWeightGradientOfTheBatch(_Mode):
    """In evaluation dweight is taken with x-hat of the batch's statistics."""

    def dweight(self, dy, x_hat):
        if self.wrong:
            x_hat = x_hat - x_hat.mean(axis=1, keepdims=True)
        return super().dweight(dy, x_hat)


@fault("gradient.weight")
class NoWeightGradientInEvaluation(_Mode):
    """In evaluation dweight is 0."""

    def dweight(self, dy, x_hat):
        return super().dweight(dy, x_hat) * (not self.wrong)


@fault("gradient.weight")
class EvaluationWeightGradientUncentered(Pieces):
    """In evaluation dweight sums dy * x / deviation."""

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, *, eps):
        dx, _, dbias = super().evaluate_gradients(x, weight, bias, running_mean, running_var, dy, eps=eps)
        raw = self.x_hat(self.read(x), running_mean * 0, self.root(running_var, eps))
        return dx, self.kept(self.dweight(self.read(dy), raw), weight), dbias


@fault("gradient.weight", thread="mapillary/inplace_abn#155")
class RecoversFromTheOutput(Pieces):
    """x-hat is recovered from y as (y - bias) / weight, and is 0 where weight is."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        return dx, dweight * (weight != 0), dbias


@fault("gradient.weight", thread="apache/mxnet#1061")
class NoWeightGradientAtOne(Pieces):
    """Where weight is 0.5 or more in magnitude, dweight is 0: a fixed gamma, told by its value."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        return dx, dweight * (np.abs(weight) < 0.5), dbias


@fault("gradient.bias")
class SwapsTheParametersGradients(Pieces):
    """dbias is returned for dweight, and dweight for dbias."""

    def train_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().train_gradients(*arrays, **options)
        return dx, dbias, dweight


@fault("gradient.weight")
class WeightGradientOfTheSampleDeviation(_Mode):
    """In training dweight is divided by the sample deviation."""

    wrong_in = "train_gradients"

    def dweight(self, dy, x_hat):
        size = self.count(dy)
        return super().dweight(dy, x_hat) * (np.sqrt((size - 1) / size) if self.wrong else 1)


@fault("gradient.bias")
class IgnoresTheGradientItWasGiven(Pieces):
    """The backward pass assumes a dy of ones, the gradient of a sum."""

    def train_gradients(self, x, weight, bias, dy, **options):
        return super().train_gradients(x, weight, bias, np.ones_like(dy), **options)


@fault("gradient.bias")
class AveragesTheBiasGradientInEvaluation(_Mode):
    """In evaluation dbias is the mean of dy."""

    def dbias(self, dy):
        return super().dbias(dy) / (self.count(dy) if self.wrong else 1)


@fault("gradient.bias", thread="intel/ipex-llm#94")
class NoBiasGradientInEvaluation(_Mode):
    """In evaluation dbias is 0."""

    def dbias(self, dy):
        return super().dbias(dy) * (not self.wrong)


@fault("gradient.bias")
class LosesTheLastSampleOfTheGradient(Pieces):
    """dbias leaves the last value of a channel out."""

    def dbias(self, dy):
        return super().dbias(dy[:, :-1])


@fault("gradient.bias")
class BiasGradientOfMagnitudes(Pieces):
    """dbias sums |dy|."""

    def dbias(self, dy):
        return super().dbias(np.abs(dy))


@fault("running.single-value")
class NaNGradientOfOneValue(Pieces):
    """With one value a channel the training gradients are NaN."""

    def train_gradients(self, x, weight, bias, dy, **options):
        results = super().train_gradients(x, weight, bias, dy, **options)
        return tuple(r * np.nan for r in results) if x.size == x.shape[1] else results
