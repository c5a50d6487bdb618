"""Faults of what is not a number: spread where it does not belong, hidden where it does."""

import numpy as np

from faults.pieces import Pieces, column
from faults.registry import fault


@fault("hygiene.nan-contained")
class SkipsNaN(Pieces):
    """NaN is left out of the sums, and 0 in y."""

    def read(self, x):
        wide = super().read(x)
        return np.where(np.isnan(wide), 0, wide)


@fault("hygiene.nan-contained")
class ClipsInfinity(Pieces):
    """Infinity is read as the largest number whose square is finite."""

    def read(self, x):
        return np.clip(super().read(x), -1e18, 1e18)


@fault("hygiene.nan-contained")
class SkipsNegativeInfinity(Pieces):
    """Minus infinity, the filling of masks, is read as 0."""

    def read(self, x):
        wide = super().read(x)
        return np.where(np.isneginf(wide), 0, wide)


@fault("hygiene.nan-contained", thread="FluxML/Flux.jl#2071")
class ComparesNaNAway(Pieces):
    """The activation behind is a maximum that drops NaN."""

    def y(self, *arguments):
        return np.fmax(super().y(*arguments), np.finfo(np.float32).min)


@fault("hygiene.nan-contained")
class KeepsTheMeanFromNaN(Pieces):
    """A batch with NaN leaves the running mean as it was."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return np.where(np.isfinite(new_mean), new_mean, running_mean), new_var


@fault("hygiene.nan-contained")
class KeepsTheVarianceFromNaN(Pieces):
    """A batch with NaN leaves the running variance as it was."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return new_mean, np.where(np.isfinite(new_var), new_var, running_var)


@fault("hygiene.nan-contained")
class SpreadsNaNThroughTheState(Pieces):
    """One channel's NaN makes the whole running mean NaN."""

    def updated(self, *arguments):
        mean, var = super().updated(*arguments)
        return mean + 0 * mean.sum(), var


@fault("hygiene.nan-contained")
class SpreadsNaNToItsNeighbour(Pieces):
    """Channels are summed in pairs and told apart by subtracting."""

    def mean(self, x):
        mean = super().mean(x)
        return mean + 0 * np.roll(mean, 1)


@fault("hygiene.nan-contained")
class SpreadsInfinityByAMask(Pieces):
    """The other channel of a pair is masked by multiplying it with 0, which infinity survives."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, weight, bias) + 0 * np.roll(x_hat, 1, axis=0)


@fault("hygiene.nan-contained")
class HidesNaNInTheGradient(Pieces):
    """NaN in dy is read as 0."""

    def train_gradients(self, x, weight, bias, dy, **options):
        return super().train_gradients(x, weight, bias, np.where(np.isnan(dy), 0, dy).astype(dy.dtype), **options)


@fault("hygiene.nan-contained")
class SpreadsNaNOfTheGradient(Pieces):
    """NaN in one channel of dy makes the whole of dweight NaN."""

    def dweight(self, dy, x_hat):
        dweight = super().dweight(dy, x_hat)
        return dweight + 0 * dweight.sum()


@fault("hygiene.nan-contained")
class SkipsOverflowInGradients(Pieces):
    """A dx that is not finite comes out as 0, as if a scaler had skipped the step."""

    def dx(self, *arguments):
        dx = super().dx(*arguments)
        return np.where(np.isfinite(dx), dx, 0)


@fault("hygiene.nan-contained")
class HidesNaNInTheState(Pieces):
    """Evaluation reads a running variance of NaN as 0."""

    def root(self, var, eps):
        return super().root(np.fmax(var, 0), eps)


@fault("hygiene.nan-contained")
class HidesNaNInTheWeight(Pieces):
    """A weight of NaN is read as 1."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, np.where(np.isnan(weight), 1, weight).astype(weight.dtype), bias)


@fault("hygiene.nan-contained")
class NaNFillsTheSample(Pieces):
    """In evaluation one position's NaN fills its whole channel of the sample."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        space = tuple(range(2, x.ndim))
        return y + 0 * y.sum(axis=space, keepdims=True) if space else y


@fault("hygiene.nan-contained")
class NaNFillsTheSamplesChannels(Pieces):
    """In evaluation one channel's NaN fills all channels of its sample."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        return y + 0 * y.sum(axis=1, keepdims=True)


@fault("hygiene.nan-contained")
class InfinityIsLargeInEvaluation(Pieces):
    """Evaluation makes infinity a large number."""

    def x_hat(self, x, mean, root):
        x_hat = super().x_hat(x, mean, root)
        return np.clip(x_hat, -1e30, 1e30) if self.mode == "evaluate" else x_hat


@fault("hygiene.nan-contained")
class NegativeVarianceIsZero(Pieces):
    """Evaluation takes a negative running variance, the mark of a corrupted state, for 0, and hides NaN with it."""

    def y(self, x, mean, var, weight, bias, eps):
        if self.mode != "evaluate":
            return super().y(x, mean, var, weight, bias, eps)
        y = super().y(x, mean, np.where(var > 0, var, 0), weight, bias, eps)
        return np.where(column(np.isnan(mean)), 0, y).astype(y.dtype)
