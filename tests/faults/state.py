"""Faults of the running statistics, as the operation updates them."""

import math

import numpy as np

from faults.pieces import Pieces, column
from faults.registry import fault


class _Sample(Pieces):
    """The sample variance, with another factor."""

    def factor(self, shape, size):
        raise NotImplementedError

    def sample_variance(self, var, x):
        return var * self.factor(x.shape, math.prod(x.shape) // x.shape[1])


@fault("running.sample-variance")
class CorrectsTwice(_Sample):
    """m / (m - 1) is applied twice."""

    def factor(self, shape, size):
        return (size / (size - 1)) ** 2


@fault("running.sample-variance")
class CorrectsTheWrongWay(_Sample):
    """The variance is multiplied by (m - 1) / m."""

    def factor(self, shape, size):
        return (size - 1) / size


@fault("running.sample-variance", thread="tinygrad/tinygrad#807")
class CorrectsByTheWholeTensor(_Sample):
    """The correction is that of all values, channels and all."""

    def factor(self, shape, size):
        return math.prod(shape) / (math.prod(shape) - 1)


@fault("running.sample-variance", thread="mlpack/mlpack#2474")
class CorrectsWithAThousandth(_Sample):
    """1e-3 in the denominator keeps m - 1 from 0."""

    def factor(self, shape, size):
        return size / (size - 1 + 1e-3)


@fault("running.sample-variance", thread="pytorch/pytorch#22192")
class CorrectsByItsShare(_Sample):
    """The correction is that of one worker's share, half of the batch."""

    def factor(self, shape, size):
        return (size / 2) / (size / 2 - 1) if size > 2 else 2.0


@fault(
    "hygiene.every-shape",
    thread=("tensorflow/tensorflow#55545", "ml-explore/mlx#3817"),
    explained="its shapes are wrong in running_var alone, and by less than other bounds",
)
class PopulationVarianceOfLongOnes(_Sample):
    """From 64 values on the tracked variance has divisor m."""

    def factor(self, shape, size):
        return size / (size - 1) if size < 64 else 1


@fault("hygiene.every-shape", thread=("NervanaSystems/ngraph#893", "uxlfoundation/oneDNN#517"))
class PopulationVarianceOfImages(_Sample):
    """Two kernels, two estimators: at rank 4 the tracked variance has divisor m."""

    def factor(self, shape, size):
        return 1 if len(shape) == 4 else size / (size - 1)


@fault("hygiene.every-shape")
class PopulationVarianceOfOneSample(_Sample):
    """In a batch of one the tracked variance has divisor m."""

    def factor(self, shape, size):
        return 1 if shape[0] == 1 else size / (size - 1)


@fault("running.sample-variance", thread="keras-team/keras-contrib#287")
class TracksTheVarianceWithEps(Pieces):
    """What is tracked is m / (m - 1) times var + eps."""

    eps = 0.0

    def root(self, var, eps):
        self.eps = eps
        return super().root(var, eps)

    def sample_variance(self, var, x):
        return super().sample_variance(var + self.eps, x)


@fault("running.sample-variance", thread="microsoft/onnxscript#655")
class TracksTheReciprocalRoot(Pieces):
    """What is tracked is 1 / sqrt(var)."""

    def sample_variance(self, var, x):
        return 1 / np.sqrt(super().sample_variance(var, x))


@fault("running.sample-variance")
class TracksTheSpreadAboutTheRunningMean(Pieces):
    """The tracked variance is taken about the running mean, as before the step."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        self.about = running_mean
        return super().train(x, weight, bias, running_mean, running_var, **options)

    def sample_variance(self, var, x):
        wide = self.read(x)
        return super().sample_variance(super().variance(wide, self.about), x)


@fault("running.update")
class SwapsTheState(Pieces):
    """The new mean is returned as the variance, and the variance as the mean."""

    def updated(self, *arguments):
        return super().updated(*arguments)[::-1]


@fault("running.update")
class ReversesTheChannelsOfTheState(Pieces):
    """The running mean's channels come out in reverse."""

    def updated(self, *arguments):
        mean, var = super().updated(*arguments)
        return mean[::-1], var


@fault("layer.follows-operation", thread="apache/mxnet#18673")
class NoUpdateWithoutParameters(Pieces):
    """Where weight is 1 and bias 0 the state is left as it was."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, **options)
        plain = (weight == 1).all() and (bias == 0).all()
        return (y, running_mean.copy(), running_var.copy()) if plain else (y, mean, var)


@fault("running.update")
class SumsTheMean(Pieces):
    """The running mean takes in the sum of a channel."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        return super().updated(running_mean, running_var, mean * self.size, var, momentum)

    def statistics(self, x):
        self.size = self.count(x)
        return super().statistics(x)


@fault("running.update")
class AddsWithoutForgetting(Pieces):
    """The old state keeps its full weight."""

    def mixed(self, old, new, momentum):
        return old + momentum * new


@fault("running.update", thread="microsoft/onnxruntime#19742")
class StartsFromNothing(Pieces):
    """The given state is not read: the new one is momentum times the batch's."""

    def mixed(self, old, new, momentum):
        return momentum * new


@fault("running.update")
class LargeStepsAreHalved(Pieces):
    """A running mean that would move by more than 4 deviations moves half as far."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        far = np.abs(mean - running_mean) > 4 * np.sqrt(running_var)
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return np.where(far, (running_mean + new_mean) / 2, new_mean), new_var


@fault("running.of-the-input")
class TracksTheScaledInput(Pieces):
    """The running mean is that of weight * x."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        y, _, var = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        mean = self.mean(self.read(x)) * weight
        return y, self.kept(self.mixed(running_mean, mean, momentum), running_mean), var


@fault("running.update")
class TracksTheCenteredInput(Pieces):
    """The running mean is that of x - mean, nearly 0."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        return super().updated(running_mean, running_var, mean * 0, var, momentum)


@fault("hygiene.inputs-unwritten")
class EvaluationMovesTheState(Pieces):
    """Evaluation moves the running mean by 0.1 towards the batch's, in the caller's array."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        y = super().evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        running_mean[:] = self.mixed(running_mean, self.mean(self.read(x)), 0.1)
        return y


@fault("running.single-value", thread=("pytorch/pytorch#1381", "tensorflow/tensorflow#34062", "FluxML/Flux.jl#2716"))
class OneValueHasAnInfiniteVariance(Pieces):
    """One value a channel is divided by m - 1 = 0."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        if x.size != x.shape[1]:
            return super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        y = self.stored(self.read(x) * 0 + column(bias), x)
        return y, self.kept(running_mean, running_mean) * 1, self.kept(running_var / 0.0, running_var)


@fault(
    "running.converges",
    explained="a layer's third step meets it, too, and the claim on layers comes before what follows from it",
)
class StallsNearTheBatch(Pieces):
    """A running mean within a tenth of the batch's deviation is left where it is."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        near = np.abs(mean - running_mean) < 0.1 * np.sqrt(var)
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return np.where(near, running_mean, new_mean), new_var


@fault("hygiene.every-shape")
class ArticleShapeIsSpecial(Pieces):
    """A 2 x 2 x 2 x 2 batch, as in every tutorial, tracks its population variance."""

    def sample_variance(self, var, x):
        return var if x.shape == (2, 2, 2, 2) else super().sample_variance(var, x)


@fault("running.converges")
class SettlesTooEarly(Pieces):
    """A running mean within a fiftieth of the batch's deviation is left where it is."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        near = np.abs(mean - running_mean) < 0.02 * np.sqrt(var)
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return np.where(near, running_mean, new_mean), new_var
