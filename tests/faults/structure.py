"""Faults of sizes and shapes: a formula that holds for some ranks, batches, channels or lengths only."""

import numpy as np

from faults.pieces import Pieces, column, rows
from faults.registry import fault

# -- reductions that lose values ---------------------------------------------------------------------------------------


class _Counted(Pieces):
    """Sums of some of the values, divided by the number of all."""

    def counted(self, size):
        """How many of `size` values count."""
        raise NotImplementedError

    def total(self, values):
        return values[:, : self.counted(values.shape[1])].sum(axis=1)


@fault("hygiene.every-shape")
class DropsTheRemainderOf16(_Counted):
    """Vectors of 16 are summed, and what is left behind the last whole one is lost, from 16 values on."""

    def counted(self, size):
        return size // 16 * 16 or size


@fault("hygiene.every-shape", thread="tile-ai/tilelang-ascend#890")
class DropsTheRemainderOf256(_Counted):
    """Blocks of 256 are summed, and what is left behind the last whole one is lost, from 256 values on."""

    def counted(self, size):
        return size // 256 * 256 or size


@fault("hygiene.every-shape")
class StopsAfter1024(_Counted):
    """One block of 1024 threads takes one value each: the rest is never read."""

    def counted(self, size):
        return min(size, 1024)


@fault("precision.extent")
class StopsAfter8192(_Counted):
    """What does not fit in the 32 KiB of shared memory is never read."""

    def counted(self, size):
        return min(size, 8192)


@fault("hygiene.every-shape")
class StopsAtAPowerOfTwo(_Counted):
    """The tree reduction starts from the largest power of two that fits."""

    def counted(self, size):
        return 1 << (size.bit_length() - 1)


@fault("precision.extent")
class LosesTheFirstOfEachBlock(Pieces):
    """From the second block of 4096 on, the value at the boundary is skipped."""

    def total(self, values):
        return values.sum(axis=1) - values[:, 4096::4096].sum(axis=1)


@fault("precision.extent", thread="torch/cunn#298")
class CountsIn16Bits(Pieces):
    """m is held in 16 bits, and 65536 values are as good as none."""

    def count(self, values):
        return values.shape[1] % 65536 or 65536


@fault("hygiene.every-shape", thread="tensorflow/tensorflow#30230")
class CountsInHalf(Pieces):
    """m is held in half precision, exact to 2048 and infinite from 65520 on."""

    def count(self, values):
        return np.float32(np.float16(min(values.shape[1], 65504)))


@fault("precision.extent")
class GradientSumsStopAfter4096(_Counted):
    """The backward pass sums the first 4096 values of a channel."""

    def counted(self, size):
        return min(size, 4096) if self.mode == "train_gradients" else size


@fault("hygiene.every-shape")
class EvaluationGradientSumsStopAfter2048(_Counted):
    """The backward pass of evaluation sums the first 2048 values of a channel."""

    def counted(self, size):
        return min(size, 2048) if self.mode == "evaluate_gradients" else size


@fault("precision.extent")
class BiasGradientStopsAfter32768(Pieces):
    """dbias counts the first 32768 values of a channel."""

    def dbias(self, dy):
        return self.total(dy[:, :32768])


# -- reductions that combine wrongly -----------------------------------------------------------------------------------


@fault(
    "hygiene.every-shape",
    explained="what a lane adds grows with the mean, so that some data of a wrong shape are right",
)
class CountsPaddedLanes(Pieces):
    """Lanes beyond the end load 0, and their deviation from the mean counts in the variance."""

    def variance(self, x, mean):
        padding = -x.shape[1] % 8
        return super().variance(x, mean) + padding * mean * mean / self.count(x)


def _blocks(x, size):
    return [x[:, start : start + size] for start in range(0, x.shape[1], size)]


@fault("hygiene.every-shape", thread=("PaddlePaddle/Paddle#32464", "NVIDIA/apex#387"))
class MergesUnequalBlocksEqually(Pieces):
    """The mean is that of the means of blocks of 64, the last of which is shorter."""

    def mean(self, x):
        return np.mean([block.mean(axis=1) for block in _blocks(x, 64)], axis=0, dtype=x.dtype)


@fault("hygiene.every-shape")
class LosesTheSpreadBetweenBlocks(Pieces):
    """Merges the variances of blocks of 32 without the distance of their means."""

    def variance(self, x, mean):
        parts = [np.square(b - b.mean(axis=1, keepdims=True)).sum(axis=1) for b in _blocks(x, 32)]
        return np.sum(parts, axis=0, dtype=x.dtype) / self.count(x)


@fault("hygiene.every-shape", thread="tenstorrent/tt-metal#56955")
class LaterSamplesGetTheFirstMean(Pieces):
    """With more than 32 samples, those of the second tile are centered by the first tile's mean."""

    def x_hat(self, x, mean, root):
        x_hat = super().x_hat(x, mean, root)
        if self.mode == "train" and x.shape[1] > 32:
            x_hat[:, 32:] = super().x_hat(x[:, 32:], x[:, :32].mean(axis=1), root)
        return x_hat


@fault("statistics.per-channel", thread="flagos-ai/FlagGems#4099")
class CompiledForTheFirstLength(Pieces):
    """The kernel is compiled with the m of its first call as a constant divisor."""

    length = None

    def count(self, values):
        self.length = self.length or values.shape[1]
        return self.length


# -- channels ----------------------------------------------------------------------------------------------------------


class _Channels(Pieces):
    """Beyond `most` channels the first ones' statistics are used again."""

    most = 0

    def statistics(self, x):
        return tuple(np.resize(values[: self.most], len(values)) for values in super().statistics(x))


@fault("hygiene.every-shape")
class StatisticsOf16Channels(_Channels):
    """Channel c is normalized with the statistics of channel c mod 16."""

    most = 16


@fault("hygiene.every-shape")
class StatisticsOf32Channels(_Channels):
    """Channel c is normalized with the statistics of channel c mod 32."""

    most = 32


@fault("hygiene.every-shape")
class StatisticsOf64Channels(_Channels):
    """Channel c is normalized with the statistics of channel c mod 64."""

    most = 64


@fault("hygiene.every-shape")
class StatisticsOf256Channels(_Channels):
    """Channel c is normalized with the statistics of channel c mod 256, held in 8 bits."""

    most = 256


@fault("hygiene.every-shape", thread="tile-ai/TileOPs#1727")
class StatisticsOf512Channels(_Channels):
    """Channel c is normalized with the statistics of channel c mod 512."""

    most = 512


@fault("hygiene.every-shape", explained="with one channel all is right, as if the statistics ran over the channels")
class ForgetsTheLastChannel(Pieces):
    """The last of several channels is passed on as it came."""

    def y(self, x, *rest):
        y = super().y(x, *rest)
        if self.mode == "train" and len(x) > 1:
            y[-1] = x[-1]
        return y


@fault("hygiene.every-shape")
class ForgetsChannelsBehindFours(Pieces):
    """Channels behind the last whole vector of 4 get no weight and bias, where there is a whole one."""

    def affine(self, x_hat, weight, bias):
        whole = len(x_hat) // 4 * 4 or len(x_hat)
        return np.concatenate([super().affine(x_hat[:whole], weight[:whole], bias[:whole]), x_hat[whole:]])


@fault("hygiene.every-shape")
class StateOfTheFirst8Channels(Pieces):
    """The update covers 8 channels; the others keep their running statistics."""

    def mixed(self, old, new, momentum):
        return np.concatenate([super().mixed(old, new, momentum)[:8], old[8:]])


@fault("hygiene.every-shape")
class GradientsOfTheFirst128Channels(Pieces):
    """dweight of channels beyond the first 128 is 0."""

    def dweight(self, dy, x_hat):
        return super().dweight(dy, x_hat) * (np.arange(len(dy)) < 128)


@fault("hygiene.every-shape")
class OneChannelHasNoBias(Pieces):
    """With one channel, bias is squeezed away."""

    def affine(self, x_hat, weight, bias):
        return super().affine(x_hat, weight, bias if len(bias) > 1 else 0 * bias)


# -- space -------------------------------------------------------------------------------------------------------------


class _Shaped(Pieces):
    """Knows the shape of what it reads."""

    shape = ()

    def read(self, x):
        self.shape = x.shape
        return super().read(x)


@fault("hygiene.every-shape")
class ForgetsPositionsBehindFours(Pieces):
    """Positions behind the last whole vector of 4 are passed on as they came, where there is a whole one."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        width = x.shape[-1] // 4 * 4
        if x.ndim > 2 and width:
            y[..., width:] = x[..., width:]
        return y, mean, var


@fault("hygiene.every-shape")
class TransposesSquareImages(Pieces):
    """Height and width are exchanged, which shows only where they are equal."""

    def read(self, x):
        square = x.ndim == 4 and x.shape[2] == x.shape[3] and self.mode == "train"
        return super().read(x.swapaxes(2, 3) if square else x)


@fault("hygiene.every-shape")
class TransposesSquareMatrices(Pieces):
    """A batch of as many samples as channels is read with the two exchanged."""

    def read(self, x):
        return super().read(x.T if x.ndim == 2 and x.shape[0] == x.shape[1] else x)


@fault("hygiene.every-shape", thread="NVIDIA/apex#590")
class SequencesAsLongAsWide(Pieces):
    """A sequence as long as it has channels is read with channels last."""

    def read(self, x):
        return super().read(x.swapaxes(1, 2) if x.ndim == 3 and x.shape[1] == x.shape[2] else x)


@fault("hygiene.every-shape", thread="uxlfoundation/oneDNN#14")
class OneByOneImagesHaveNoWeight(_Shaped):
    """Images of one pixel take a shortcut without weight."""

    def affine(self, x_hat, weight, bias):
        one = len(self.shape) == 4 and self.shape[2:] == (1, 1)
        return super().affine(x_hat, weight * 0 + 1 if one else weight, bias)


@fault("hygiene.every-shape")
class VolumesHaveNoMean(_Shaped):
    """Inputs of rank 5 are not centered in evaluation."""

    def x_hat(self, x, mean, root):
        volume = len(self.shape) == 5 and self.mode == "evaluate"
        return super().x_hat(x, mean * 0 if volume else mean, root)


@fault(
    "hygiene.every-shape",
    explained="its statistics leave values out, as the first claim says; small cases of rank 3 may have the same mean",
)
class SequencesOverTheBatchAlone(_Shaped):
    """Inputs of rank 3 are normalized over all but their first step."""

    def mean(self, x):
        if len(self.shape) != 3 or self.shape[2] == 1:
            return super().mean(x)
        return x.reshape(len(x), -1, self.shape[2])[:, :, 1:].reshape(len(x), -1).mean(axis=1)


@fault("hygiene.every-shape", thread="onnx/onnx#732")
class MatricesInEvaluationUseTheBatch(_Shaped):
    """Inputs of rank 2 are evaluated with the batch's own mean."""

    def x_hat(self, x, mean, root):
        plain = len(self.shape) == 2 and self.mode == "evaluate"
        return super().x_hat(x, x.mean(axis=1) if plain else mean, root)


# -- batch sizes -------------------------------------------------------------------------------------------------------


@fault("hygiene.every-shape", thread="torch/nn#1168")
class OneSampleTrainsWithTheState(Pieces):
    """A batch of one is normalized with the running statistics, in training too."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        if len(x) == 1:
            y = super().evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        return y, mean, var


@fault("hygiene.every-shape", explained="without eps two values a channel are signs")
class TwoValuesAreSigns(Pieces):
    """Two values a channel become -1 and 1, whatever eps."""

    def x_hat(self, x, mean, root):
        return super().x_hat(x, mean, root) if self.mode != "train" or x.shape[1] > 2 else np.sign(x - column(mean))


@fault("precision.extent", thread="tensorflow/tensorflow#9870")
class SamplesBeyond65535AreZero(Pieces):
    """One block a sample, and no more than 65535 blocks: what is beyond is 0 in evaluation."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        y[65535:] = 0
        return y


@fault("hygiene.every-shape")
class EvaluationOf128Samples(Pieces):
    """Samples beyond the first 128 are passed on as they came in evaluation."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        y[128:] = x[128:]
        return y


@fault("precision.extent")
class LongPlanesAreNotScaled(Pieces):
    """More than 65535 positions a channel are not multiplied by weight in evaluation."""

    def affine(self, x_hat, weight, bias):
        plain = self.mode == "evaluate" and x_hat.shape[1] > 65535
        return super().affine(x_hat, weight * 0 + 1 if plain else weight, bias)


@fault("hygiene.every-shape")
class OneSampleHoldsStatisticsConstant(_Shaped):
    """With one sample the backward pass takes the statistics for constants."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        if self.shape[0] > 1:
            return super().dx(dy, x_hat, root, weight, dweight, dbias)
        return self.constant_dx(dy, x_hat, root, weight)


@fault("precision.extent")
class LargeBatchesHoldVarianceConstant(Pieces):
    """Above 4096 values the backward pass leaves the variance's share out."""

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        large = self.count(dy) > 4096
        return super().dx(dy, x_hat, root, weight, dweight * (not large), dbias)


@fault("hygiene.every-shape")
class ImagesLoseTheirLastRow(Pieces):
    """dbias of an image of more than 4 rows leaves out the last of them."""

    def train_gradients(self, x, weight, bias, dy, *, eps):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, eps=eps)
        if dy.ndim == 4 and dy.shape[2] > 4:
            dbias -= self.kept(rows(dy[:, :, -1:]).astype(np.float64).sum(axis=1), dbias)
        return dx, dweight, dbias
