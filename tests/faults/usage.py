"""Faults of a layer in use: of its switch between training and evaluation, and of what it holds."""

import numpy as np

from faults.pieces import Layer, Pieces
from faults.registry import fault
from normspec.backends.numpy import NumPy


@fault("usage.mode-switch")
class FoldsInPlace(Layer):
    """Evaluation folds the statistics into weight and bias in place: what is trained afterwards are others."""

    def evaluate(self, x):
        y = super().evaluate(x)
        self.weight /= np.sqrt(self.running_var + self.eps).astype(self.weight.dtype)
        self.bias -= self.weight * self.running_mean
        return y


@fault("usage.mode-switch")
class FoldsAndUnfolds(Layer):
    """Evaluation folds weight and bias in place, and the next training step takes them apart, up to rounding."""

    root = None

    def evaluate(self, x):
        self.unfold()
        y = super().evaluate(x)
        self.root = 1 / np.sqrt(self.running_var + np.asarray(self.eps, self.weight.dtype))
        self.weight, self.bias = self.weight * self.root, self.bias - self.running_mean * self.weight * self.root
        return y

    def train(self, x):
        self.unfold()
        return super().train(x)

    def unfold(self):
        if self.root is not None:
            self.weight, self.bias = self.weight / self.root, self.bias + self.running_mean * self.weight
            self.root = None


@fault("usage.mode-switch")
class TakesTurnsWithItself(Layer):
    """The mode is a flag that every evaluation turns over: the second one in a row gives training's result."""

    training = True

    def train(self, x):
        self.training = True
        return super().train(x)

    def evaluate(self, x):
        self.training = not self.training
        if not self.training:
            return super().evaluate(x)
        arrays = (x, self.weight, self.bias, self.running_mean, self.running_var)
        return self.operation.train(*arrays, momentum=0.0, eps=self.eps)[0]


@fault("usage.mode-switch")
class EvaluationRoundsWhatIsBehindTheState(Layer):
    """The running mean is tracked with more digits than it shows, and an evaluation cuts them off."""

    wide = None

    def keep(self, mean, var):
        super().keep(mean, var)
        self.wide = mean.astype(np.float64) if self.wide is None else self.wide

    def train(self, x):
        before = self.running_mean if self.wide is None else self.wide
        y = super().train(x)
        of_batch = x.astype(np.float64).mean((0, *range(2, x.ndim)))
        self.wide = before + self.factor() * (of_batch - before)
        self.running_mean = self.wide.astype(self.weight.dtype)
        return y

    def evaluate(self, x):
        self.wide = self.running_mean.astype(np.float64)
        return super().evaluate(x)


@fault("usage.one-per-channel")
class OneMomentForAllOfALoneChannel(Layer):
    """With a single channel the running statistics are scalars: what is squeezed loses the channel's axis."""

    def keep(self, mean, var):
        super().keep(mean.squeeze(), var.squeeze())


@fault("usage.one-per-channel")
class ParametersOfTheRankOfVolumes(Pieces):
    """For x with five axes, weight and bias are made with an axis each of them."""

    def layer(self, num_features, *, ndim, dtype, **options):
        made = super().layer(num_features, ndim=ndim, dtype=dtype, **options)
        if ndim == 5:
            made.weight, made.bias = made.weight.reshape(1, -1, 1, 1, 1), made.bias.reshape(1, -1, 1, 1, 1)
        return made


@fault("usage.larger-batch")
class ThreeRowsAreAPopulation(Pieces):
    """Matrices of three rows have an unrolled path, in which the tracked variance has divisor 3."""

    def sample_variance(self, var, x):
        return var if x.shape[0] == 3 and len(x.shape) == 2 else super().sample_variance(var, x)


@fault(
    "usage.larger-batch",
    explained="constant channels among hostile data show it first, to the claim on bounds",
)
class ConstantBatchesAreNotTracked(Pieces):
    """A channel without variance leaves its running statistics as they were: small batches then track too much."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        moved = super().updated(running_mean, running_var, mean, var, momentum)
        olds = running_mean, running_var
        return tuple(np.where(var == 0, old, new) for new, old in zip(moved, olds, strict=True))


@fault("relatives.synchronized")
class ReducesOverPairs(NumPy):
    """Of four devices, each is synchronized with its neighbour alone, in y; the state is the whole batch's."""

    def train_split(self, x, *rest, devices, **options):
        y, *state = super().train_split(x, *rest, devices=devices, **options)
        if devices == 4:
            y = np.concatenate([self.train(half, *rest, **options)[0] for half in np.split(x, 2)])
        return y, *state


@fault("relatives.synchronized-gradients")
class ReducesBiasTwice(NumPy):
    """dbias, already a sum over the devices, is summed over them again."""

    def train_split_gradients(self, x, weight, bias, dy, *, devices, eps):
        dx, dweight, dbias = super().train_split_gradients(x, weight, bias, dy, devices=devices, eps=eps)
        return dx, dweight, dbias * devices


@fault("relatives.synchronized-gradients")
class LastDeviceIsLate(NumPy):
    """The sums behind dx are taken before the last device has added its own."""

    def train_split_gradients(self, x, weight, bias, dy, *, devices, eps):
        results = super().train_split_gradients(x, weight, bias, dy, devices=devices, eps=eps)
        late = dy.copy()
        late[-len(x) // devices :] = 0
        early = super().train_split_gradients(x, weight, bias, late, devices=devices, eps=eps)[0]
        return np.concatenate([early[: -len(x) // devices], results[0][-len(x) // devices :]]), *results[1:]
