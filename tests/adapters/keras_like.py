"""A batch norm with Keras's conventions, in plain NumPy.

momentum weighs the old value (0.99 by default), eps is 0.001, and the variance that is tracked has divisor m.
"""

import numpy as np

dtypes = ("float64", "float32")


def along_channels(values, x):
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def train(x, weight, bias, running_mean, running_var, *, momentum, eps):
    axes = (0, *range(2, x.ndim))
    mean, var = x.mean(axes), x.var(axes)
    y = evaluate(x, weight, bias, mean, var, eps=eps)
    return y, momentum * running_mean + (1 - momentum) * mean, momentum * running_var + (1 - momentum) * var


def evaluate(x, weight, bias, running_mean, running_var, *, eps):
    slope = weight / np.sqrt(running_var + eps)
    return (x - along_channels(running_mean, x)) * along_channels(slope, x) + along_channels(bias, x)


class layer:  # noqa: N801  the contract's name for it
    def __init__(self, num_features, *, ndim, dtype, eps=1e-3, momentum=0.99):
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.running_mean, self.running_var = np.zeros(num_features, dtype), np.ones(num_features, dtype)

    def train(self, x):
        y, self.running_mean, self.running_var = train(x, *self.state().values(), momentum=self.momentum, eps=self.eps)
        return y

    def evaluate(self, x):
        return evaluate(x, *self.state().values(), eps=self.eps)

    def state(self):
        return {name: getattr(self, name) for name in ("weight", "bias", "running_mean", "running_var")}
