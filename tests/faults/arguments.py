"""Faults of arguments: eps, momentum, weight and bias ignored, defaulted, or put in the wrong place."""

import numpy as np

from faults.pieces import Layer, Pieces, column
from faults.registry import fault

# -- eps ---------------------------------------------------------------------------------------------------------------


@fault("normalize.eps-inside-root", thread="xlite-dev/LeetCUDA#309")
class EpsInTheCount(Pieces):
    """eps is added to m, not to the variance."""

    def train(self, x, *rest, eps, **options):
        self.eps = eps
        return super().train(x, *rest, eps=eps, **options)

    def root(self, var, eps):
        return 1 / np.sqrt(var / (1 + eps)) if self.mode == "train" else super().root(var, eps)


@fault("normalize.eps-inside-root")
class EpsAddedToTheSum(Pieces):
    """eps is added to the sum of squares before it is divided by m."""

    size = 1

    def variance(self, x, mean):
        self.size = self.count(x)
        return super().variance(x, mean)

    def root(self, var, eps):
        return super().root(var, eps if "evaluate" in self.mode else eps / self.size)


@fault("normalize.eps-inside-root")
class EpsSubtracted(Pieces):
    """eps is taken off the variance in training."""

    def root(self, var, eps):
        return super().root(var, -eps if self.mode == "train" else eps)


@fault("normalize.eps-default", thread=("tensorflow/tensorflow#8090", "tensorflow/tensorflow#37768"))
class EpsRaised(Pieces):
    """eps is raised to at least 1.001e-5, which a library once required."""

    def root(self, var, eps):
        return super().root(var, max(eps, 1.001e-5))


@fault("normalize.eps-inside-root")
class ZeroEpsIsAThousandth(Pieces):
    """eps = 0 is taken for no eps given, and 1e-3 is used."""

    def root(self, var, eps):
        return super().root(var, eps or 1e-3)


@fault("normalize.eps-inside-root")
class EpsBelowAMillionth(Pieces):
    """eps is printed with 6 digits behind the point on its way to the kernel."""

    def root(self, var, eps):
        return super().root(var, float(f"{eps:.6f}"))


@fault("evaluate.folded", thread=("pytorch/pytorch#25282", "microsoft/onnxscript#2312"))
class EpsFixedInEvaluation(Pieces):
    """Evaluation uses 1e-5, whatever eps."""

    def root(self, var, eps):
        return super().root(var, 1e-5 if self.mode == "evaluate" else eps)


@fault("evaluate.folded", thread=("chainer/chainer#2214", "pytorch/vision#1947", "VeriSilicon/TIM-VX#589"))
class EpsMissingInEvaluation(Pieces):
    """Evaluation leaves eps out, while its backward pass has it."""

    def root(self, var, eps):
        return super().root(var, 0 if self.mode == "evaluate" else eps)


@fault("evaluate.folded", thread="chainer/chainer#4505")
class EpsTwiceInEvaluation(Pieces):
    """Evaluation adds eps to a variance that already holds it."""

    def root(self, var, eps):
        return super().root(var, 2 * eps if self.mode == "evaluate" else eps)


@fault("evaluate.folded", thread=("Tencent/ncnn#311", "keras-team/keras#10427"))
class EpsOutsideInEvaluation(Pieces):
    """Evaluation adds eps to the root of the variance."""

    def root(self, var, eps):
        return 1 / (np.sqrt(var) + eps) if self.mode == "evaluate" else super().root(var, eps)


@fault("gradient.weight")
class EpsFixedInGradients(Pieces):
    """The backward pass uses 1e-5, whatever eps."""

    def root(self, var, eps):
        return super().root(var, 1e-5 if self.mode == "train_gradients" else eps)


@fault("gradient.evaluation")
class EpsMissingInEvaluationGradients(Pieces):
    """The backward pass of evaluation leaves eps out."""

    def root(self, var, eps):
        return super().root(var, 0 if self.mode == "evaluate_gradients" else eps)


@fault("normalize.eps-default", thread=("ml-explore/mlx-examples#1434", "NervanaSystems/ngraph-onnx#142"))
class DefaultEpsIsAThousandth(Layer):
    """A layer built without eps uses 1e-3."""

    def __init__(self, *arguments, eps=1e-3, **options):
        super().__init__(*arguments, eps=eps, **options)


@fault("normalize.eps-default", dtype="float64")
class DefaultEpsInFloat32(Layer):
    """A layer of float64 has its default eps from float32."""

    def __init__(self, *arguments, eps=None, **options):
        super().__init__(*arguments, eps=float(np.float32(1e-5)) if eps is None else eps, **options)


@fault("layer.follows-operation", thread=("tensorflow/tensorflow#58863", "qualcomm/aimet#1957"))
class LayerIgnoresEps(Layer):
    """A layer uses 1e-5, whatever eps it was built with."""

    def __init__(self, *arguments, eps=1e-5, **options):
        super().__init__(*arguments, eps=1e-5, **options)


@fault("layer.follows-operation")
class LayerTakesZeroEpsForNone(Layer):
    """A layer built with eps = 0 uses its default."""

    def __init__(self, *arguments, eps=1e-5, **options):
        super().__init__(*arguments, eps=eps or 1e-5, **options)


@fault("layer.follows-operation")
class LayerEvaluatesWithTheDefaultEps(Layer):
    """A layer trains with the eps it was built with, and evaluates with 1e-5."""

    def evaluate(self, x):
        arrays = (x, self.weight, self.bias, self.running_mean, self.running_var)
        return self.operation.evaluate(*arrays, eps=1e-5)


# -- momentum ----------------------------------------------------------------------------------------------------------


@fault("running.momentum-default", thread="eriklindernoren/PyTorch-YOLOv3#230")
class DefaultMomentumIsOneHundredth(Layer):
    """A layer built without momentum gives the new value a weight of 0.01."""

    def __init__(self, *arguments, momentum=0.01, **options):
        super().__init__(*arguments, momentum=momentum, **options)


@fault("layer.follows-operation", thread="pytorch/pytorch#18525")
class LayerIgnoresMomentum(Layer):
    """A layer averages with 0.1, whatever momentum it was built with."""

    def factor(self):
        return 0.1


@fault("layer.follows-operation", thread=("pytorch/pytorch#15298", "Cadene/pretrained-models.pytorch#5"))
class LayerTakesZeroMomentumForNone(Layer):
    """A layer built with momentum 0 uses 0.1."""

    def __init__(self, *arguments, momentum=0.1, **options):
        super().__init__(*arguments, momentum=0.1 if momentum == 0 else momentum, **options)


@fault("layer.follows-operation")
class WholeMomentumIsAPeriod(Layer):
    """A momentum that is an int is taken for a number of batches to average over."""

    def factor(self):
        return 0.5 if type(self.momentum) is int else super().factor()


@fault("running.momentum-extremes")
class MomentumOneKeepsTheMean(Pieces):
    """At momentum 1 the running mean is left as it was."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        new_mean, new_var = super().updated(running_mean, running_var, mean, var, momentum)
        return running_mean if momentum == 1 else new_mean, new_var


@fault("running.update")
class MomentumOfTheVarianceIsFixed(Pieces):
    """The running variance moves by 0.1, whatever momentum."""

    def updated(self, running_mean, running_var, mean, var, momentum):
        return self.mixed(running_mean, mean, momentum), self.mixed(running_var, var, 0.1)


@fault("running.update")
class MomentumIsSquared(Pieces):
    """momentum is applied twice to the new value."""

    def mixed(self, old, new, momentum):
        return (1 - momentum) * old + momentum * (momentum * new)


@fault("running.update")
class MomentumIsCapped(Pieces):
    """momentum above 0.8 counts as 0.8."""

    def mixed(self, old, new, momentum):
        return super().mixed(old, new, min(momentum, 0.8))


@fault("layer.follows-operation", thread=("PaddlePaddle/Paddle#51120", "d2l-ai/d2l-en#2213"))
class MomentumIsFlippedInTheLayer(Layer):
    """A layer hands 1 - momentum to its operation."""

    def factor(self):
        return 1 - super().factor()


# -- weight and bias ---------------------------------------------------------------------------------------------------


@fault("affine.scale-then-shift", thread="LeelaChessZero/lc0#779")
class NegativeWeightsAreCut(Pieces):
    """Negative weights count as 0 in training."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, np.maximum(weight, 0) if self.mode == "train" else weight, bias)


@fault("affine.scale-then-shift")
class NoBiasWhereWeightIsZero(Pieces):
    """A channel of weight 0 is skipped, and its bias with it, in training."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, weight, bias * (weight != 0) if self.mode == "train" else bias)


@fault("evaluate.folded", thread=("apache/mxnet#9624", "apache/mxnet#3037"))
class WeightIsOneInEvaluation(Pieces):
    """Evaluation holds weight to be 1."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, weight * 0 + 1 if self.mode == "evaluate" else weight, bias)


@fault("evaluate.folded", thread="web-platform-tests/wpt#43891")
class BiasIsMissingInEvaluation(Pieces):
    """Evaluation leaves bias out."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, weight, bias * 0 if self.mode == "evaluate" else bias)


@fault(
    "affine.scale-then-shift",
    explained="y of training alone is wrong, as with other statistics than the batch's; no known formula has a cut",
)
class CutsOffBelowZero(Pieces):
    """The activation that may be fused behind is always on in training."""

    def y(self, *arguments):
        y = super().y(*arguments)
        return np.maximum(y, 0) if self.mode == "train" else y


@fault("affine.scale-then-shift")
class BiasOfTheNextChannel(Pieces):
    """bias is read one channel ahead."""

    def affine(self, x_hat, weight, bias):
        return x_hat * column(weight) + column(np.roll(bias, -1))


@fault("affine.can-undo")
class WeightSaturates(Pieces):
    """weight is kept in fixed point, with room for what is learned as a rule: beyond 4 it stays 4."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, np.clip(weight, -4, 4), bias)


@fault("example.article")
class DefaultsTakeAShortcut(Pieces):
    """With the default eps and momentum a kernel made for them runs, which tracks the variance with divisor m."""

    usual = False

    def train(self, *arrays, momentum, eps):
        self.usual = (momentum, eps) == (0.1, 1e-5)
        return super().train(*arrays, momentum=momentum, eps=eps)

    def sample_variance(self, var, x):
        return var if self.usual else super().sample_variance(var, x)
