"""Faulty formulas under honest autograd: the forward claims are blamed, and the gradients, which are right, are not."""

import numpy as np
import pytest
from checks import run_check
from faulty import backend

from normspec.conformance.verdicts.verdicts import Kind

torch = pytest.importorskip("torch")

FORMULAS = {
    "normalize.centered": lambda x, mean, var, w, b, eps: x / (var + eps).sqrt() * w + b,
    "normalize.unit-spread": lambda x, mean, var, w, b, eps: (x - mean) * w + b,
    "normalize.eps-inside-root": lambda x, mean, var, w, b, eps: (x - mean) / (var.sqrt() + eps) * w + b,
    "affine.scale-then-shift": lambda x, mean, var, w, b, eps: ((x - mean) / (var + eps).sqrt() + b) * w,
}
OTHERS = {
    "1 + weight": lambda x, mean, var, w, b, eps: (x - mean) / (var + eps).sqrt() * (1 + w) + b,
    "|weight|": lambda x, mean, var, w, b, eps: (x - mean) / (var + eps).sqrt() * w.abs() + b,
    "weight and bias swapped": lambda x, mean, var, w, b, eps: (x - mean) / (var + eps).sqrt() * b + w,
}
GRADIENTS = ("gradient.weight", "gradient.bias", "gradient.input", "gradient.evaluation")
ALL = [*FORMULAS.items(), *(("affine.scale-then-shift", formula) for formula in OTHERS.values())]


class Honest:
    """A formula in PyTorch, differentiated by autograd."""

    def __init__(self, formula):
        self.formula = formula

    def _y(self, x, mean, var, weight, bias, eps):
        shape = (1, -1, *[1] * (x.ndim - 2))
        return self.formula(x, *(a.reshape(shape) for a in (mean, var, weight, bias)), eps)

    def _moments(self, x):
        axes = [0, *range(2, x.ndim)]
        return x.mean(axes), x.var(axes, correction=0)

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        x, weight, bias = (torch.from_numpy(a) for a in (x, weight, bias))
        mean, var = self._moments(x)
        y, size = self._y(x, mean, var, weight, bias, eps), x.numel() // x.shape[1]
        mean, var = mean.numpy(), var.numpy() * np.float32(size / (size - 1))
        state = (1 - momentum) * running_mean + momentum * mean, (1 - momentum) * running_var + momentum * var
        return y.numpy(), *state

    def evaluate(self, *arrays, eps):
        x, weight, bias, mean, var = (torch.from_numpy(a) for a in arrays)
        return self._y(x, mean, var, weight, bias, eps).numpy()

    def train_gradients(self, x, weight, bias, dy, *, eps):
        leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
        return self._gradients(self._y(leaves[0], *self._moments(leaves[0]), *leaves[1:], eps), leaves, dy)

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, *, eps):
        leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
        state = torch.from_numpy(running_mean), torch.from_numpy(running_var)
        return self._gradients(self._y(leaves[0], *state, *leaves[1:], eps), leaves, dy)

    def _gradients(self, y, leaves, dy):
        return tuple(g.numpy() for g in torch.autograd.grad(y, leaves, torch.from_numpy(dy)))


@pytest.mark.parametrize(("claim", "formula"), ALL)
def test_the_forward_claim_is_blamed_and_the_gradients_are_not(claim, formula):
    honest = backend(Honest(formula))
    assert run_check(claim, honest, "float32").kind == Kind.DEVIATES
    # Where nothing is divided by the deviation, or no weight is there, some rivals of a gradient cannot show.
    for gradient in GRADIENTS:
        assert run_check(gradient, honest, "float32").kind in (Kind.CONFORMS, Kind.INCONCLUSIVE), gradient
    assert run_check("precision.within-bound", honest, "float32").kind == Kind.CONFORMS


class FiniteAtZero(Honest):
    """Of a constant channel the root of the variance has no derivative; this one takes 0, where autograd gives NaN."""

    def train_gradients(self, x, weight, bias, dy, *, eps):
        dx, *others = super().train_gradients(x, weight, bias, dy, eps=eps)
        return np.nan_to_num(dx, nan=0.0), *others


@pytest.mark.parametrize("kind", [Honest, FiniteAtZero])
@pytest.mark.parametrize("claim", ["gradient.input", "precision.within-bound", "why.gradient-projection"])
def test_a_derivative_that_does_not_exist_is_not_asked_for(kind, claim):
    adapter = kind(FORMULAS["normalize.eps-inside-root"])
    assert run_check(claim, backend(adapter), "float32").kind == Kind.CONFORMS
