"""Faults in the training of a network whose batch norm, by itself, is right."""

import numpy as np
from networks import Network

from faults.registry import fault


@fault("why.trains-faster")
class NormsAreLeftOut(Network):
    """The option for batch norm is not handed on to the hidden layers: both networks are plain."""

    def asked_for(self, normalized):
        return False


@fault("why.trains-faster")
class StepsUphill(Network):
    """The optimizer of normalized networks adds the gradient."""

    def step(self, x, labels, rate):
        return super().step(x, labels, -rate if "weight" in self.layers[0] else rate)


@fault("why.matches-dataset")
class TracksOnlyWhileItLearns(Network):
    """The state is held as soon as the parameters are, even in training mode."""

    learning = False

    def step(self, x, labels, rate):
        self.learning = True
        loss = super().step(x, labels, rate)
        self.learning = False
        return loss

    def tracked(self, before, after, h):
        return after if self.learning else before


@fault("why.matches-dataset")
class TracksThePopulationVarianceInNetworks(Network):
    """Within a network the tracked variance has divisor m, though not in the operation called alone."""

    def tracked(self, before, after, h):
        share = np.float32(1 - 1 / len(h))
        kept = np.float32(1 - self.momentum)
        return after[0], kept * before[1] + share * (after[1] - kept * before[1])


@fault("why.matches-dataset")
class EvaluatesWithTheStart(Network):
    """Evaluation reads the state that the layers were made with: a copy that is never refreshed."""

    def used(self, layer):
        return np.zeros_like(layer["shift"]), np.ones_like(layer["shift"])
