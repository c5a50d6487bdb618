"""Batch norm in NumPy, cut into pieces: sound as it stands, and faulty with one piece replaced.

Half precision is computed in float32. Inside, a channel is a row: x becomes (C, m), and what is kept for a channel
(C, 1). A fault replaces the piece that it is about and leaves the rest alone.
"""

import math

import numpy as np


def rows(x):
    """A channel a row: (C, m)."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], math.prod(x.shape) // max(x.shape[1], 1))


def restored(values, shape):
    """Rows as an array of a case's shape, in memory of its own."""
    return np.ascontiguousarray(np.moveaxis(values.reshape(shape[1], shape[0], *shape[2:]), 0, 1))


def column(values):
    """(C,) as (C, 1)."""
    return values[:, None]


class Layer:
    """weight, bias and running statistics around an operation; momentum None averages all batches."""

    def __init__(self, operation, num_features, dtype, *, eps=1e-5, momentum=0.1):
        self.operation, self.eps, self.momentum, self.steps = operation, eps, momentum, 0
        self.weight, self.bias = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.running_mean, self.running_var = np.zeros(num_features, dtype), np.ones(num_features, dtype)

    def factor(self):
        """The weight of the batch in this step's update, the first step being 1."""
        return 1 / self.steps if self.momentum is None else self.momentum

    def keep(self, mean, var):
        """Take over the new running statistics."""
        self.running_mean, self.running_var = mean, var

    def train(self, x):
        self.steps += 1
        arrays = (x, self.weight, self.bias, self.running_mean, self.running_var)
        y, mean, var = self.operation.train(*arrays, momentum=self.factor(), eps=self.eps)
        self.keep(mean, var)
        return y

    def evaluate(self, x):
        return self.operation.evaluate(x, self.weight, self.bias, self.running_mean, self.running_var, eps=self.eps)

    def state(self):
        return {name: getattr(self, name) for name in ("weight", "bias", "running_mean", "running_var")}


class Pieces:
    """The operation, its gradients and a layer. `mode` is the method that is running."""

    mode = ""

    def __init__(self, layer_type=Layer):
        self.layer_type = layer_type

    # -- reading and writing -------------------------------------------------------------------------------------------

    def read(self, x):
        """x or dy as rows, in float32 or wider."""
        return rows(x).astype(np.promote_types(x.dtype, np.float32))

    def stored(self, values, like):
        """Rows as an array of the shape and dtype of `like`."""
        return restored(values, like.shape).astype(like.dtype)

    def kept(self, values, like):
        """One value a channel, in the dtype of `like`."""
        return values.astype(like.dtype)

    # -- statistics ----------------------------------------------------------------------------------------------------

    def total(self, values):
        """Sums of rows."""
        return values.sum(axis=1)

    def count(self, values):
        """m, the number of values a channel."""
        return values.shape[1]

    def mean(self, x):
        return self.total(x) / self.count(x)

    def variance(self, x, mean):
        return self.total(np.square(x - column(mean))) / self.count(x)

    def statistics(self, x):
        """Mean and m-variance of rows."""
        mean = self.mean(x)
        return mean, self.variance(x, mean)

    # -- y -------------------------------------------------------------------------------------------------------------

    def root(self, var, eps):
        """What centered values are multiplied by."""
        return 1 / np.sqrt(var + eps)

    def x_hat(self, x, mean, root):
        return (x - column(mean)) * column(root)

    def affine(self, x_hat, weight, bias):
        return x_hat * column(weight) + column(bias)

    def y(self, x, mean, var, weight, bias, eps):
        return self.affine(self.x_hat(x, mean, self.root(var, eps)), weight, bias)

    # -- state ---------------------------------------------------------------------------------------------------------

    def sample_variance(self, var, x):
        """The variance that is tracked, from the one that normalizes; x as it was given."""
        size = math.prod(x.shape) // x.shape[1]
        return var * (size / (size - 1))

    def mixed(self, old, new, momentum):
        return (1 - momentum) * old + momentum * new

    def updated(self, running_mean, running_var, mean, var, momentum):
        """The new running mean and variance; var is the sample variance."""
        return self.mixed(running_mean, mean, momentum), self.mixed(running_var, var, momentum)

    # -- gradients -----------------------------------------------------------------------------------------------------

    def dbias(self, dy):
        return self.total(dy)

    def dweight(self, dy, x_hat):
        return self.total(dy * x_hat)

    def dx(self, dy, x_hat, root, weight, dweight, dbias):
        """Through the statistics of the batch."""
        size = self.count(dy)
        return column(weight * root) * (dy - column(dbias / size) - x_hat * column(dweight / size))

    def constant_dx(self, dy, x_hat, root, weight):
        """With the statistics held constant, as in evaluation."""
        return dy * column(weight * root)

    # -- the operation -------------------------------------------------------------------------------------------------

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        self.mode = "train"
        if math.prod(x.shape) < 2 * x.shape[1] or not x.size:
            raise ValueError(f"training needs more than one value per channel, got x of shape {x.shape}")
        wide = self.read(x)
        mean, var = self.statistics(wide)
        y = self.y(wide, mean, var, weight, bias, eps)
        state = self.updated(running_mean, running_var, mean, self.sample_variance(var, x), momentum)
        return self.stored(y, x), self.kept(state[0], running_mean), self.kept(state[1], running_var)

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        self.mode = "evaluate"
        return self.stored(self.y(self.read(x), running_mean, running_var, weight, bias, eps), x)

    def train_gradients(self, x, weight, bias, dy, *, eps):
        self.mode = "train_gradients"
        wide, wide_dy = self.read(x), self.read(dy)
        mean, var = self.statistics(wide)
        root = self.root(var, eps)
        x_hat = self.x_hat(wide, mean, root)
        dweight, dbias = self.dweight(wide_dy, x_hat), self.dbias(wide_dy)
        dx = self.dx(wide_dy, x_hat, root, weight, dweight, dbias)
        return self.stored(dx, x), self.kept(dweight, weight), self.kept(dbias, bias)

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, *, eps):
        self.mode = "evaluate_gradients"
        wide, wide_dy = self.read(x), self.read(dy)
        root = self.root(running_var, eps)
        x_hat = self.x_hat(wide, running_mean, root)
        dweight, dbias = self.dweight(wide_dy, x_hat), self.dbias(wide_dy)
        dx = self.constant_dx(wide_dy, x_hat, root, weight)
        return self.stored(dx, x), self.kept(dweight, weight), self.kept(dbias, bias)

    def layer(self, num_features, *, ndim, dtype, **options):
        kept = np.float64 if dtype == "float64" else np.float32
        return self.layer_type(self, num_features, kept, **options)
