"""Adapters that misbehave, each in one thing, when they are called."""

import numpy as np
from plain import Layer, Plain


class Raises(Plain):
    def train(self, *arrays, **options):
        raise ValueError("the kernel is missing")


class ReturnsNone(Plain):
    def train(self, *arrays, **options):
        super().train(*arrays, **options)


class ReturnsLists(Plain):
    def train(self, *arrays, **options):
        y, mean, var = super().train(*arrays, **options)
        return y.tolist(), mean, var


class EvaluatesToLists(Plain):
    def evaluate(self, *arrays, **options):
        return super().evaluate(*arrays, **options).tolist()


class ReturnsTwo(Plain):
    def train(self, *arrays, **options):
        return super().train(*arrays, **options)[:2]


class TakesTwo(Plain):
    def train(self, x, weight, *, momentum, eps):
        return x


class WrongShape(Plain):
    def train(self, *arrays, **options):
        y, mean, var = super().train(*arrays, **options)
        return y, mean[None], var


class Integers(Plain):
    def evaluate(self, *arrays, **options):
        return super().evaluate(*arrays, **options).astype(np.int32)


class WrongDtype(Plain):
    def train(self, *arrays, **options):
        y, mean, var = super().train(*arrays, **options)
        return y.astype(np.float64), mean, var


class AllNaN(Plain):
    layer = None

    def train(self, *arrays, **options):
        return tuple(np.full_like(result, np.nan) for result in super().train(*arrays, **options))


class OnlyImages(Plain):
    def train(self, x, *rest, **options):
        if x.ndim != 4:
            raise NotImplementedError("(N, C, H, W) only")
        return super().train(x, *rest, **options)


class NoGradients(Plain):
    def train_gradients(self, *arrays, **options):
        raise NotImplementedError("no autograd")


class NoLayer(Plain):
    layer = None


class LayerRaises(Plain):
    def layer(self, *arguments, **options):
        raise ValueError("out of layers")


class LayerIsNone(Plain):
    def layer(self, *arguments, **options):
        return None


class LayerWithoutState(Plain):
    def layer(self, *arguments, **options):
        layer = super().layer(*arguments, **options)
        del layer.values["running_var"]
        return layer


class OffersNothing:
    def train(self, *arrays, **options):
        raise NotImplementedError

    def evaluate(self, *arrays, **options):
        raise NotImplementedError


class BiasedLayer(Plain):
    def layer(self, num_features, *, ndim, dtype, **options):
        return Layer(Biased(), num_features, "float64" if dtype == "float64" else "float32", **options)


class Biased(Plain):
    ddof = 0


class MisreadsStrides(Plain):
    def train(self, x, *rest, **options):
        if 0 not in x.strides:
            x = np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape, x.dtype).strides)
        return super().train(x, *rest, **options)


class WritesItsInput(Plain):
    def train(self, x, *rest, **options):
        results = super().train(x, *rest, **options)
        x *= 2
        return results


class OneWeightAGroup(Plain):
    def group_norm(self, x, weight, bias, *, num_groups, eps):
        rows, size, channel = x.reshape(len(x), num_groups, -1), weight.size // num_groups, np.arange(weight.size)
        x_hat = (rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)
        weight, bias = (a.reshape(1, -1, *[1] * (x.ndim - 2)) for a in (weight[channel // size * size], bias))
        return (x_hat.reshape(x.shape) * weight + bias).astype(x.dtype)


class OneNormForAll(Plain):
    def weight_norm(self, v, g):
        axes = None  # of a unit: tuple(range(1, v.ndim))
        norm = np.sqrt(np.square(v).sum(axes, keepdims=True))
        return (v / norm * g.reshape(-1, *[1] * (v.ndim - 1))).astype(v.dtype)


class AlwaysStandard(Plain):
    def generalized_batch_norm(self, x, weight, bias, *, center, deviation, eps):
        if (center, deviation) != ("mean", "mean absolute"):
            raise NotImplementedError("only the mean absolute deviation from the mean")
        shape, axes = (1, -1, *[1] * (x.ndim - 2)), (0, *range(2, x.ndim))
        centered = x - x.mean(axes, keepdims=True)
        power = 2  # mean absolute: 1
        spread = (abs(centered) ** power).mean(axes, keepdims=True) ** (1 / power)
        return (centered / np.sqrt(spread**2 + eps) * weight.reshape(shape) + bias.reshape(shape)).astype(x.dtype)


class AddsTheBiasAfterwards(Plain):
    def linear_norm(self, u, w, b, weight, bias, *, eps):
        if u.ndim > 2:
            raise NotImplementedError("matrices only")
        after = b  # nothing: 0 * b
        z = u @ w.T
        return ((z - z.mean(0)) / np.sqrt(z.var(0) + eps) * weight + bias + after).astype(u.dtype)


class TracksOneSample(Plain):
    def instance_norm_train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        shape, axes = (1, -1, *[1] * (x.ndim - 2)), tuple(range(2, x.ndim))
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        y = (x - mean) / np.sqrt(var + eps) * weight.reshape(shape) + bias.reshape(shape)
        seen = x[:1]  # all of them: x
        new = seen.mean(axes).mean(0), seen.var(axes, ddof=1).mean(0)
        state = [(1 - momentum) * a + momentum * b for a, b in zip((running_mean, running_var), new, strict=True)]
        return y.astype(x.dtype), *(a.astype(running_mean.dtype) for a in state)


class FoldsItsParameters(Plain):
    def layer(self, num_features, *, ndim, dtype, **options):
        return FoldingLayer(Plain(), num_features, "float64" if dtype == "float64" else "float32", **options)


class FoldingLayer(Layer):
    def evaluate(self, x):
        y = super().evaluate(x)
        folded = self.values["weight"] / np.sqrt(self.values["running_var"] + np.float32(self.eps))
        self.values["weight"] = folded.astype(self.values["weight"].dtype)
        return y
