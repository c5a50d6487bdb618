"""PyTorch's kernel, but for a variance that it tracks with divisor m."""

import torch
from torch.nn.functional import batch_norm


def train(x, weight, bias, running_mean, running_var, *, momentum, eps):
    x, weight, bias, mean, var = (torch.from_numpy(a) for a in (x, weight, bias, running_mean, running_var))
    y = batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    axes = (0, *range(2, x.ndim))
    mean = mean + momentum * (x.mean(axes) - mean)
    var = var + momentum * (x.var(axes, correction=0) - var)
    return y.numpy(), mean.numpy(), var.numpy()


def evaluate(x, weight, bias, running_mean, running_var, *, eps):
    x, weight, bias, mean, var = (torch.from_numpy(a) for a in (x, weight, bias, running_mean, running_var))
    return batch_norm(x, mean, var, weight, bias, False, 0.0, eps).numpy()
