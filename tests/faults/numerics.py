"""Faults of precision: narrow steps, shortcuts, clamps and clips."""

import ml_dtypes
import numpy as np

from faults.pieces import Pieces, column
from faults.registry import fault


def through(values, dtype):
    """Values rounded to a narrower dtype, and back."""
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype).astype(np.asarray(values).dtype)


# -- float64 that is not ----------------------------------------------------------------------------------------------


@fault("precision.within-bound", dtype="float64")
class RootInFloat32(Pieces):
    """A float64 backend takes the reciprocal root in float32."""

    def root(self, var, eps):
        return through(super().root(var, eps), np.float32)


@fault("precision.within-bound", dtype="float64")
class MeanInFloat32(Pieces):
    """A float64 backend keeps the mean in float32."""

    def mean(self, x):
        return through(super().mean(x), np.float32)


@fault("precision.within-bound", dtype="float64", thread="tinygrad/tinygrad#7025")
class StateInFloat32(Pieces):
    """A float64 backend keeps the running statistics in float32."""

    def kept(self, values, like):
        return super().kept(through(values, np.float32) if self.mode == "train" else values, like)


@fault("precision.within-bound", dtype="float64")
class EvaluatesInFloat32(Pieces):
    """A float64 backend evaluates in float32."""

    def y(self, *arguments):
        y = super().y(*arguments)
        return through(y, np.float32) if self.mode == "evaluate" else y


@fault("precision.within-bound", dtype="float64")
class GradientsInFloat32(Pieces):
    """A float64 backend sums its gradients in float32."""

    def dweight(self, dy, x_hat):
        return through(super().dweight(dy, x_hat), np.float32)


@fault("precision.within-bound", dtype="float64")
class InputGradientInFloat32(Pieces):
    """A float64 backend hands out a dx that was float32."""

    def dx(self, *arguments):
        return through(super().dx(*arguments), np.float32)


@fault("precision.within-bound", dtype="float64")
class EpsInFloat32(Pieces):
    """A float64 backend holds eps in float32."""

    def root(self, var, eps):
        return super().root(var, float(np.float32(eps)))


@fault("precision.within-bound", dtype="float64")
class MomentumInFloat32(Pieces):
    """A float64 backend holds momentum in float32."""

    def mixed(self, old, new, momentum):
        return super().mixed(old, new, float(np.float32(momentum)))


# -- float32 that is not ----------------------------------------------------------------------------------------------


@fault("precision.within-bound", thread="pytorch/pytorch#81090")
class RoundsToTensorFloat(Pieces):
    """x is rounded to 10 bits of mantissa as it enters the tensor cores."""

    def mean(self, x):
        bits = x.view(np.uint32) if x.dtype == np.float32 else None
        return super().mean(x if bits is None else (bits & np.uint32(0xFFFFE000)).view(np.float32))


@fault("precision.within-bound")
class SquaresInBfloat16(Pieces):
    """Squared deviations are rounded to bfloat16 before they are added up."""

    def variance(self, x, mean):
        return self.total(through(np.square(x - column(mean)), ml_dtypes.bfloat16)) / self.count(x)


@fault("precision.within-bound", thread="tile-ai/tilelang-ascend#1225")
class ApproximateRoot(Pieces):
    """The reciprocal root is the processor's, of 12 bits, with no step of Newton's to mend it."""

    def root(self, var, eps):
        root = super().root(var, eps)
        return root * (1 + 0.9 * 2.0**-12 * np.sign(np.sin(1e3 * root))).astype(root.dtype)


@fault("precision.within-bound")
class FastInverseRoot(Pieces):
    """The reciprocal root is guessed from the bits and mended once, good to 2 in 1000."""

    def root(self, var, eps):
        full = (var + eps).astype(np.float32)
        guess = (np.int32(0x5F3759DF) - (full.view(np.int32) >> 1)).view(np.float32)
        return (guess * (np.float32(1.5) - np.float32(0.5) * full * guess * guess)).astype(var.dtype)


@fault("running.momentum-default")
class MomentumInHalf(Pieces):
    """momentum is held in float16, so that 0.1 is 0.09998."""

    def mixed(self, old, new, momentum):
        return super().mixed(old, new, float(np.float16(momentum)))


@fault(
    "normalize.eps-inside-root",
    thread="tensorflow/tensorflow#24979",
    explained="an eps that float16 cannot hold shows first where a constant channel's gradient is asked for",
)
class EpsInHalf(Pieces):
    """eps is held in float16, where 1e-5 is 1.0014e-5 and 1e-8 is 0."""

    def root(self, var, eps):
        return super().root(var, float(np.float16(eps)))


@fault("precision.within-bound")
class RoundsToAGrid(Pieces):
    """y of evaluation goes through 8 bits behind the point, as in a quantized graph."""

    def y(self, *arguments):
        y = super().y(*arguments)
        return np.round(y * 256) / 256 if self.mode == "evaluate" else y


@fault("precision.cancellation", thread=("tracel-ai/burn#5607", "k2-fsa/sherpa-onnx#3857"))
class OnePassWhereItIsLong(Pieces):
    """Above 4 values the variance is E[x^2] - E[x]^2, cut off at 0."""

    def variance(self, x, mean):
        if self.count(x) <= 4:
            return super().variance(x, mean)
        return np.maximum(self.total(x * x) / self.count(x) - mean * mean, 0)


@fault("precision.cancellation")
class OnePassInTheBackwardPass(Pieces):
    """The backward pass takes the variance again, as E[x^2] - E[x]^2."""

    def variance(self, x, mean):
        if self.mode == "train":
            return super().variance(x, mean)
        return np.maximum(self.total(x * x) / self.count(x) - mean * mean, 0)


@fault(
    "precision.cancellation", thread=("tenstorrent/tt-metal#45968", "google/flax#1491", "tensorflow/tensorflow#3290")
)
class OnePassToNaN(Pieces):
    """The variance is E[x^2] - E[x]^2, and a negative one gives NaN, where nothing cancels to 0."""

    def variance(self, x, mean):
        var = self.total(x * x) / self.count(x) - mean * mean
        return np.where(var < 0, np.nan, var).astype(x.dtype)


@fault("precision.cancellation")
class TrackedInOnePass(Pieces):
    """Only the variance that is tracked is E[x^2] - E[x]^2."""

    def sample_variance(self, var, x):
        wide = self.read(x)
        mean = self.mean(wide)
        return super().sample_variance(np.maximum(self.total(wide * wide) / self.count(wide) - mean * mean, 0), x)


# -- clamps and clips --------------------------------------------------------------------------------------------------


@fault("precision.large-finite", thread="pytorch/pytorch#178123")
class ClipsLargeInput(Pieces):
    """x is clipped to what float16 can hold."""

    def read(self, x):
        return np.clip(super().read(x), -65504, 65504)


@fault("precision.large-finite", thread=("microsoft/onnxruntime#29034", "microsoft/onnxruntime#17692"))
class ZeroBeyondLargeVariance(Pieces):
    """Where the variance exceeds 1e12, the reciprocal root is 0."""

    def root(self, var, eps):
        return super().root(var, eps) * (var < 1e12)


@fault(
    "precision.within-bound", explained="it hides inf as well, which is told more surely than values no formula gives"
)
class ClipsNormalized(Pieces):
    """x-hat is clipped to +-6."""

    def x_hat(self, x, mean, root):
        return np.clip(super().x_hat(x, mean, root), -6, 6)


@fault("normalize.eps-inside-root", explained="the default eps is read from data of so small a variance")
class SmallVarianceIsRaised(Pieces):
    """The variance is raised to at least 1e-4 beside eps."""

    def root(self, var, eps):
        return super().root(np.maximum(var, 1e-4), eps)


@fault("precision.within-bound")
class SmallStateIsRaised(Pieces):
    """The running variance never falls below 1e-4."""

    def updated(self, *arguments):
        mean, var = super().updated(*arguments)
        return mean, np.maximum(var, 1e-4)


@fault("gradient.input")
class ClipsGradients(Pieces):
    """dy is clipped to +-1 in the backward pass."""

    def dx(self, dy, *rest):
        return super().dx(np.clip(dy, -1, 1), *rest)


@fault("statistics.per-channel", thread=("pytorch/pytorch#108072", "pytorch/pytorch#5410"))
class ReciprocalOfTheCount(Pieces):
    """The mean is multiplied by a reciprocal of m good to 16 bits, and a constant channel is not 0 behind it."""

    def mean(self, x):
        return self.total(x) * x.dtype.type((1 + 2.0**-17) / self.count(x))


# -- half precision ----------------------------------------------------------------------------------------------------


@fault("precision.half-statistics", dtype="float16", thread="pytorch/pytorch#70901")
class StateInHalf(Pieces):
    """The running statistics go through float16."""

    def updated(self, *arguments):
        return tuple(through(values, np.float16) for values in super().updated(*arguments))


@fault("precision.half-statistics", dtype="bfloat16", thread="apache/mxnet#9916")
class MeanInBfloat16(Pieces):
    """The mean is rounded to bfloat16, the variance taken about it."""

    def mean(self, x):
        return through(super().mean(x), ml_dtypes.bfloat16)


@fault("precision.half-statistics", dtype="float16", thread="pytorch/pytorch#126525")
class SumOfSquaresInHalf(Pieces):
    """The sum of squared deviations is kept in float16, and beyond 65504 it is infinite."""

    def variance(self, x, mean):
        return through(super().variance(x, mean) * self.count(x), np.float16) / self.count(x)


@fault("precision.half-statistics", dtype="float16", thread=("apple/coreai-torch#54", "pytorch/TensorRT#1450"))
class ParametersInHalf(Pieces):
    """Evaluation casts weight, bias and state down to the float16 of x."""

    def evaluate(self, x, *parameters, eps):
        return super().evaluate(x, *(through(p, np.float16) for p in parameters), eps=eps)


@fault(
    "normalize.constant-channel", dtype="float16", thread=("tensorflow/tensorflow#24979", "deepspeedai/DeepSpeed#581")
)
class EpsLostInHalf(Pieces):
    """eps is held in the float16 of x, where 1e-8 is 0."""

    def root(self, var, eps):
        return super().root(var, float(np.float16(eps)))


@fault("precision.half-gradients", dtype="float16", thread="pytorch/pytorch#195701")
class ProductsInHalf(Pieces):
    """dy * x-hat is rounded to float16 before it is added up in float32."""

    def dweight(self, dy, x_hat):
        return self.total(through(dy * x_hat, np.float16))


@fault("precision.half-gradients", dtype="bfloat16")
class BiasGradientInBfloat16(Pieces):
    """dbias is rounded to bfloat16."""

    def dbias(self, dy):
        return through(super().dbias(dy), ml_dtypes.bfloat16)


@fault("precision.half-gradients", dtype="float16")
class SavedRootInHalf(Pieces):
    """The reciprocal root is saved for the backward pass in float16."""

    def root(self, var, eps):
        root = super().root(var, eps)
        return through(root, np.float16) if self.mode == "train_gradients" else root


@fault("precision.half-statistics", dtype="bfloat16")
class TruncatesToBfloat16(Pieces):
    """y is cut off to bfloat16, not rounded."""

    def stored(self, values, like):
        cut = (values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return super().stored(cut if self.mode == "train" else values, like)


@fault("precision.half-statistics", dtype="bfloat16")
class EvaluatesInBfloat16(Pieces):
    """Evaluation rounds x - mean to bfloat16 before it scales."""

    def x_hat(self, x, mean, root):
        if self.mode != "evaluate":
            return super().x_hat(x, mean, root)
        return through(x - column(mean), ml_dtypes.bfloat16) * column(root)
