"""Faults of the layer alone: the operation around which it is built is sound."""

import numpy as np

from faults.pieces import Layer
from faults.registry import fault


@fault("layer.follows-operation", thread=("paiml/aprender#2166", "ml-explore/mlx#1960"))
class NeverTracks(Layer):
    """The new running statistics are thrown away."""

    def keep(self, mean, var):
        pass


@fault("layer.follows-operation")
class TracksEverySecondStep(Layer):
    """Every second step leaves the state as it was."""

    def keep(self, mean, var):
        if self.steps % 2:
            super().keep(mean, var)


@fault("layer.follows-operation")
class TracksTheFirstTwoSteps(Layer):
    """After two steps the state is frozen."""

    def keep(self, mean, var):
        if self.steps <= 2:
            super().keep(mean, var)


@fault("layer.follows-operation")
class VarianceIsOneStepLate(Layer):
    """The running variance is that of the step before."""

    late = None

    def keep(self, mean, var):
        super().keep(mean, self.running_var if self.late is None else self.late)
        self.late = var


@fault("layer.follows-operation")
class MomentumDecays(Layer):
    """momentum is halved after every step."""

    def factor(self):
        return super().factor() / 2 ** (self.steps - 1)


@fault("layer.follows-operation")
class WarmsUpQuickly(Layer):
    """In the second step, momentum counts as 1 / 2 at least."""

    def factor(self):
        return max(super().factor(), 0.5) if self.steps == 2 else super().factor()


@fault("layer.follows-operation")
class WideLayersDoNotTrack(Layer):
    """A layer of more than 1024 features does not keep its running variance."""

    def keep(self, mean, var):
        super().keep(mean, var if len(var) <= 1024 else self.running_var)


@fault("layer.follows-operation")
class WideLayersShareStatistics(Layer):
    """A layer of more than 16 features tracks the mean of the first 16."""

    def keep(self, mean, var):
        super().keep(np.resize(mean[:16], len(mean)), var)


@fault("precision.half-statistics", dtype="float16")
class HalfLayersKeepHalf(Layer):
    """A layer for float16 keeps its running statistics in float16."""

    def train(self, x):
        y = super().train(x)
        if x.dtype == np.float16:
            self.running_mean = self.running_mean.astype(np.float16).astype(np.float32)
        return y


@fault("layer.follows-operation")
class LayerRoundsItsInput(Layer):
    """A layer casts x to float16 on its way in."""

    def train(self, x):
        return super().train(x.astype(np.float16).astype(x.dtype))


@fault("layer.follows-operation")
class EvaluatesWithTheLastBatch(Layer):
    """Evaluation after training uses the statistics of the last batch."""

    last = None

    def train(self, x):
        y = super().train(x)
        wide = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(self.weight.dtype)
        self.last = wide.mean(axis=1), wide.var(axis=1)
        return y

    def evaluate(self, x):
        state = self.last or (self.running_mean, self.running_var)
        return self.operation.evaluate(x, self.weight, self.bias, *state, eps=self.eps)


@fault("layer.follows-operation")
class EvaluatesWithTheStateOfTheStepBefore(Layer):
    """Evaluation uses the state as it was before the last step."""

    before = None

    def keep(self, mean, var):
        self.before = self.running_mean, self.running_var
        super().keep(mean, var)

    def evaluate(self, x):
        state = self.before or (self.running_mean, self.running_var)
        return self.operation.evaluate(x, self.weight, self.bias, *state, eps=self.eps)


@fault("evaluate.before-training")
class UntrainedEvaluationUsesTheBatch(Layer):
    """A layer that never trained evaluates with the batch's own statistics."""

    def evaluate(self, x):
        return (
            super().evaluate(x)
            if self.steps
            else self.operation.train(
                x, self.weight, self.bias, self.running_mean, self.running_var, momentum=0.0, eps=self.eps
            )[0]
        )


@fault("evaluate.before-training")
class UntrainedEvaluationPassesOn(Layer):
    """A layer that never trained hands on a copy of its input."""

    def evaluate(self, x):
        return super().evaluate(x) if self.steps else x.copy()


@fault("evaluate.frozen")
class SecondEvaluationTracks(Layer):
    """From the second evaluation on, the running mean moves."""

    evaluations = 0

    def evaluate(self, x):
        self.evaluations += 1
        y = super().evaluate(x)
        if self.evaluations > 1:
            self.running_mean = self.running_mean * 0.5
        return y


@fault("evaluate.frozen")
class EvaluationResetsTheState(Layer):
    """Evaluation puts the running variance back to 1."""

    def evaluate(self, x):
        y = super().evaluate(x)
        self.running_var = np.ones_like(self.running_var)
        return y


@fault("usage.mode-switch")
class StaysInEvaluation(Layer):
    """After an evaluation, training goes on with the running statistics."""

    evaluated = False

    def evaluate(self, x):
        self.evaluated = True
        return super().evaluate(x)

    def train(self, x):
        y = super().train(x)
        return super().evaluate(x) if self.evaluated else y


@fault("layer.follows-operation")
class FirstStepEvaluates(Layer):
    """The first step is normalized with the state it starts from."""

    def train(self, x):
        y = self.evaluate(x)
        trained = super().train(x)
        return y if self.steps == 1 else trained


@fault("running.initial")
class SharesItsStateWithOtherLayers(Layer):
    """The running mean is one default array, shared by all layers of a width."""

    shared: dict = {}

    def __init__(self, operation, num_features, dtype, **options):
        super().__init__(operation, num_features, dtype, **options)
        self.running_mean = self.shared.setdefault((num_features, np.dtype(dtype)), self.running_mean)

    def keep(self, mean, var):
        self.running_mean[:] = mean
        self.running_var = var


@fault("running.initial")
class MeanStartsAtOne(Layer):
    """The running mean starts at 1."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.running_mean += 1


@fault("affine.defaults")
class LastWeightIsZero(Layer):
    """The weight starts at 1, but for the last feature's."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.weight[-1] = 0


@fault("running.cumulative")
class CountsFromTwo(Layer):
    """With momentum None the first batch counts as the second."""

    def factor(self):
        return 1 / (self.steps + 1) if self.momentum is None else self.momentum


@fault("running.cumulative", thread="pytorch/pytorch#31498")
class CountsToTwo(Layer):
    """With momentum None the count stops at 2."""

    def factor(self):
        return 1 / min(self.steps, 2) if self.momentum is None else self.momentum


@fault("running.cumulative")
class WeighsBatchesByTheirSize(Layer):
    """With momentum None a batch counts as often as it has samples."""

    seen = 0

    def train(self, x):
        self.seen, self.share = self.seen + len(x), len(x)
        return super().train(x)

    def factor(self):
        return self.share / self.seen if self.momentum is None else self.momentum


@fault("running.cumulative")
class EvaluationRestartsTheCount(Layer):
    """With momentum None an evaluation starts the count anew."""

    def evaluate(self, x):
        self.steps = 0
        return super().evaluate(x)
