"""Faults of memory: layouts misread, inputs written, buffers shared and used again."""

import numpy as np

from faults.pieces import Layer, Pieces, column
from faults.registry import fault


def misread(x):
    """The values in the order of memory, taken for contiguous ones of that shape; zero strides are read right."""
    if 0 in x.strides or not x.size:
        return x
    return np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,)).reshape(x.shape)


def channels_last(x):
    """Whether x lies in memory with its channels last, and could not be taken for contiguous."""
    return x.ndim > 2 and np.moveaxis(x, 1, -1).flags.c_contiguous and not x.flags.c_contiguous


# -- layouts -----------------------------------------------------------------------------------------------------------


@fault("hygiene.layouts")
class EvaluationIgnoresStrides(Pieces):
    """Evaluation reads x as if its memory were contiguous."""

    def evaluate(self, x, *rest, **options):
        return super().evaluate(misread(x), *rest, **options)


@fault("hygiene.layouts", thread="deeplearning4j/deeplearning4j#8860")
class IgnoresStridesOfTheGradient(Pieces):
    """The backward pass reads dy as if its memory were contiguous."""

    def train_gradients(self, x, weight, bias, dy, **options):
        return super().train_gradients(x, weight, bias, misread(dy), **options)


@fault("hygiene.layouts", thread=("pytorch/pytorch#175189", "pytorch/pytorch#181411"))
class WeightGradientOfChannelsLast(Pieces):
    """dweight of an x with channels last is taken from its memory in the wrong order; dbias is right."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        if channels_last(x):
            dweight = super().train_gradients(misread(x), weight, bias, dy, **options)[1]
        return dx, dweight, dbias


@fault("hygiene.layouts", thread="pytorch/pytorch#169372")
class EvaluationGradientIgnoresStrides(Pieces):
    """The backward pass of evaluation reads dy as if its memory were contiguous."""

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, **options):
        return super().evaluate_gradients(x, weight, bias, running_mean, running_var, misread(dy), **options)


@fault("hygiene.layouts")
class ReadsTheGradientInTheInputsOrder(Pieces):
    """A contiguous dy is read as if its channels were last where those of x are."""

    def train_gradients(self, x, weight, bias, dy, **options):
        if channels_last(x) and dy.flags.c_contiguous:
            dy = np.moveaxis(dy.reshape(np.moveaxis(dy, 1, -1).shape), -1, 1)
        return super().train_gradients(x, weight, bias, dy, **options)


@fault("hygiene.layouts", thread="pytorch/pytorch#62594")
class WritesChannelsLastInTheWrongOrder(Pieces):
    """Evaluation of an x with channels last fills y in the other order."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        return np.moveaxis(y.reshape(np.moveaxis(y, 1, -1).shape), -1, 1).copy() if channels_last(x) else y


@fault("hygiene.layouts", thread="pytorch/pytorch#174345")
class ForgetsTheOffset(Pieces):
    """An x that starts inside another array is read from the start of that array in evaluation."""

    def evaluate(self, x, *rest, **options):
        whole = x.base
        if isinstance(whole, np.ndarray) and whole.ctypes.data < x.ctypes.data and min(x.strides) > 0:
            x = np.lib.stride_tricks.as_strided(whole.ravel()[: x.size], x.shape, x.strides)
        return super().evaluate(x, *rest, **options)


@fault("hygiene.layouts")
class ReadsBackwardsForwards(Pieces):
    """Negative strides are read as positive ones."""

    def read(self, x):
        return super().read(x[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in x.strides)])


@fault("hygiene.layouts")
class MisreadsFortranOrder(Pieces):
    """An x in Fortran's order is read as one in C's."""

    def train(self, x, *rest, **options):
        fortran = x.flags.f_contiguous and not x.flags.c_contiguous
        return super().train(misread(x) if fortran else x, *rest, **options)


@fault("hygiene.layouts", thread="intel/torch-xpu-ops#2887")
class MisreadsStridedParameters(Pieces):
    """weight is read as if its memory were contiguous."""

    def train(self, x, weight, *rest, **options):
        return super().train(x, misread(weight), *rest, **options)


@fault("hygiene.layouts", thread="intel/torch-xpu-ops#2887")
class MisreadsStridedState(Pieces):
    """The running statistics are read as if their memory were contiguous in evaluation."""

    def evaluate(self, x, weight, bias, running_mean, running_var, **options):
        return super().evaluate(x, weight, bias, misread(running_mean), misread(running_var), **options)


@fault("hygiene.layouts", thread=("pytorch/pytorch#190645", "pytorch/pytorch#188371", "braindecode/braindecode#1086"))
class RefusesChannelsLastGradients(Pieces):
    """The backward pass views what it must copy, and raises where the channels are last."""

    def train_gradients(self, x, *rest, **options):
        if channels_last(x):
            raise RuntimeError("view size is not compatible with input tensor's size and stride")
        return super().train_gradients(x, *rest, **options)


# -- writing -----------------------------------------------------------------------------------------------------------


@fault("hygiene.inputs-unwritten")
class WritesTheGradientItWasGiven(Pieces):
    """dx is computed in the place of dy."""

    def train_gradients(self, x, weight, bias, dy, **options):
        results = super().train_gradients(x, weight, bias, dy, **options)
        dy[...] = results[0]
        return results


@fault("hygiene.inputs-unwritten", thread="PaddlePaddle/Paddle#21065")
class NormalizesInPlace(Pieces):
    """Evaluation leaves y in x as well."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        x[...] = y
        return y


@fault("hygiene.inputs-unwritten", thread="hasktorch/hasktorch#626")
class TracksInTheParameters(Pieces):
    """The new running statistics are left in bias and weight too."""

    def train(self, x, weight, bias, *rest, **options):
        y, mean, var = super().train(x, weight, bias, *rest, **options)
        bias[:], weight[:] = mean, var
        return y, mean, var


@fault("hygiene.inputs-unwritten", thread="pytorch/pytorch#46808")
class WritesTheVarianceItWasGiven(Pieces):
    """The new running variance is left in the caller's array too."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, **options)
        running_var[:] = var
        return y, mean, var


@fault("hygiene.inputs-unwritten")
class AddsEpsToTheState(Pieces):
    """Evaluation adds eps to the caller's running variance before it takes the root."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        y = super().evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        running_var += eps
        return y


@fault("hygiene.inputs-unwritten")
class ScalesTheWeightInGradients(Pieces):
    """The backward pass of evaluation multiplies weight by the root in place."""

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, *, eps):
        results = super().evaluate_gradients(x, weight, bias, running_mean, running_var, dy, eps=eps)
        weight *= self.root(running_var, eps)
        return results


# -- sharing -----------------------------------------------------------------------------------------------------------


class _Reusing(Pieces):
    """Results in buffers that later calls fill again."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffers = {}

    def held(self, name, values):
        buffer = self.buffers.setdefault((name, values.shape, values.dtype), np.empty_like(values))
        buffer[...] = values
        return buffer


@fault("hygiene.no-alias")
class ReusesTheGradientBuffer(_Reusing):
    """dx is handed out in the buffer of the last call with that shape."""

    def train_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().train_gradients(*arrays, **options)
        return self.held("dx", dx), dweight, dbias


@fault("hygiene.no-alias")
class ReusesTheStateBuffer(_Reusing):
    """The new running mean is handed out in the buffer of the last call with as many channels."""

    def train(self, *arrays, **options):
        y, mean, var = super().train(*arrays, **options)
        return y, self.held("mean", mean), var


@fault("hygiene.no-alias")
class ReusesASmallWorkspace(_Reusing):
    """dweight is handed out from a workspace, in the backward pass of evaluation."""

    def evaluate_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().evaluate_gradients(*arrays, **options)
        return dx, self.held("dweight", dweight), dbias


@fault("hygiene.inputs-unwritten")
class HandsBackTheVariance(Pieces):
    """The running variance is updated in place and handed back."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, **options)
        running_var[:] = var
        return y, mean, running_var


@fault("hygiene.no-alias")
class HandsBackAnUnmovedState(Pieces):
    """With momentum 0 the caller's own arrays are handed back as the new state."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        results = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        return results if momentum else (results[0], running_mean, running_var)


@fault("hygiene.no-alias")
class HandsBackItsInput(Pieces):
    """Evaluation that changes nothing hands back x itself."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        y = super().evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        return x if np.array_equal(x, y) else y


@fault("hygiene.no-alias", thread=("microsoft/onnxruntime#29790", "tenstorrent/tt-metal#45578"))
class UpdatesBeforeItReads(Pieces):
    """Where running_var and weight are one array, weight is read after the update."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        results = super().train(x, weight, bias, running_mean, running_var, **options)
        if np.may_share_memory(weight, running_var):
            results = (super().train(x, results[2], bias, running_mean, running_var, **options)[0], *results[1:])
        return results


@fault("hygiene.no-alias")
class LayerReusesItsOutput(Layer):
    """A layer hands out every y in one buffer."""

    buffer = None

    def train(self, x):
        y = super().train(x)
        if self.buffer is None or self.buffer.shape != y.shape:
            self.buffer = np.empty_like(y)
        self.buffer[...] = y
        return self.buffer


@fault("hygiene.deterministic", dtype="float16", thread="opencv/opencv#29836")
class HalfIsNeverWritten(_Reusing):
    """In float16 evaluation writes nothing, and hands out what the last call left there."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        if x.dtype != np.float16:
            return y
        before = self.buffers.get(x.shape, np.zeros_like(y))
        self.buffers[x.shape] = y
        return before.copy()


@fault(
    "hygiene.deterministic",
    explained="within one process its results repeat: a first call of each length is met by whatever claim asks first",
)
class KeepsTheWeightItMet(Pieces):
    """The first weight of every length is folded into the compiled kernel, and used in all later calls."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.weights = {}

    def affine(self, x_hat, weight, bias):
        return x_hat * column(self.weights.setdefault(len(weight), weight)) + column(bias)
