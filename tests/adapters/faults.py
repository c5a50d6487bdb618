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


class FoldsItsParameters(Plain):
    def layer(self, num_features, *, ndim, dtype, **options):
        return FoldingLayer(Plain(), num_features, "float64" if dtype == "float64" else "float32", **options)


class FoldingLayer(Layer):
    def evaluate(self, x):
        y = super().evaluate(x)
        folded = self.values["weight"] / np.sqrt(self.values["running_var"] + np.float32(self.eps))
        self.values["weight"] = folded.astype(self.values["weight"].dtype)
        return y
