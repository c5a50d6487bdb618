"""Faults of repetition: noise, memory from call to call, traces left in the process."""

import os

import numpy as np

from faults.pieces import Pieces
from faults.registry import fault


@fault("hygiene.deterministic")
class AddsInAnyOrder(Pieces):
    """dweight is added up by atomics, in another order each time."""

    def dweight(self, dy, x_hat):
        order = np.random.default_rng().permutation(dy.shape[1])
        return np.cumsum((dy * x_hat)[:, order], axis=1)[:, -1] if dy.size else super().dweight(dy, x_hat)


@fault("hygiene.deterministic", thread="tile-ai/TileOPs#1727")
class RacesForTheState(Pieces):
    """Every third update of the running mean reads what another thread has just written."""

    calls = 0

    def updated(self, running_mean, running_var, mean, var, momentum):
        self.calls += 1
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return self.mixed(new_mean, mean, momentum) if self.calls % 3 == 0 else new_mean, new_var


@fault("hygiene.deterministic")
class FlipsABitInTheVariance(Pieces):
    """Every second running variance is a last bit higher."""

    calls = 0

    def updated(self, *arguments):
        self.calls += 1
        mean, var = super().updated(*arguments)
        return mean, np.nextafter(var, var * 2) if self.calls % 2 else var


@fault("hygiene.deterministic")
class GradientsAccumulate(Pieces):
    """dbias is added to that of the last call with as many channels."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held = {}

    def dbias(self, dy):
        self.held[len(dy)] = self.held.get(len(dy), 0) + super().dbias(dy)
        return self.held[len(dy)]


@fault("hygiene.deterministic", explained="by the time its claim is asked, the first call is long past")
class FirstCallIsUnfinished(Pieces):
    """The first call returns before y is written, and y is 0."""

    warm = False

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        warm, self.warm = self.warm, True
        return y if warm else y * 0


@fault("hygiene.deterministic")
class RandomInput(Pieces):
    """x is dithered by a thousandth of a bit's worth of noise."""

    def read(self, x):
        wide = super().read(x)
        noise = np.random.default_rng().uniform(-1, 1, wide.shape)
        return (wide * (1 + noise * np.finfo(wide.dtype).eps)).astype(wide.dtype)


@fault("hygiene.global-state")
class SeedsTheRandomState(Pieces):
    """Training seeds NumPy's random numbers, to be reproducible."""

    def train(self, *arrays, **options):
        np.random.seed(0)
        return super().train(*arrays, **options)


@fault("hygiene.global-state")
class DrawsRandomNumbers(Pieces):
    """Evaluation draws a number from NumPy's global generator."""

    def evaluate(self, *arrays, **options):
        np.random.random()
        return super().evaluate(*arrays, **options)


@fault("hygiene.global-state")
class SilencesErrors(Pieces):
    """Training turns NumPy's floating-point warnings off and leaves them off."""

    def train(self, *arrays, **options):
        np.seterr(all="ignore")
        return super().train(*arrays, **options)


@fault(
    "hygiene.global-state",
    explained="what is set once stays set, and other claims have called it before; asked alone, its claim refuses it",
)
class SetsAnEnvironmentVariable(Pieces):
    """The backward pass asks for determinism through the environment."""

    def train_gradients(self, *arrays, **options):
        os.environ["FAULTY_DETERMINISTIC"] = "1"
        return super().train_gradients(*arrays, **options)


@fault("normalize.batch-coupling")
class KnowsABatchByItsFirstSample(Pieces):
    """Training keeps its statistics for another batch of the same shape and first sample, whatever else is in it."""

    def __init__(self):
        super().__init__()
        self.known = {}

    def read(self, x):
        self.key = x.shape, x[:1].tobytes()
        return super().read(x)

    def statistics(self, x):
        found = super().statistics(x)
        return self.known.setdefault(self.key, found) if self.mode == "train" else found
