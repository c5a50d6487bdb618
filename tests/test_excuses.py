"""Another claim's rival excuses what follows from it only where that claim refuses the backend.

Each adapter here is wrong in one path alone, in a way that another claim, which looks at another path, would explain.
"""

import numpy as np
import pytest
from checks import laboratory, run_check
from faulty import backend

from normspec.backends.numpy import NumPy
from normspec.conformance.verdicts.verdicts import Kind


def shaped(values, x):
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


class EpsOutsideInEvaluation(NumPy):
    """sqrt(var) + eps, in evaluation alone."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        scale = weight / (np.sqrt(running_var) + eps)
        return ((x - shaped(running_mean, x)) * shaped(scale, x) + shaped(bias, x)).astype(x.dtype)


class NoBiasInEvaluation(NumPy):
    """The bias is ignored, in evaluation alone."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        return super().evaluate(x, weight, 0 * bias, running_mean, running_var, eps=eps)


class NotCenteredInEvaluation(NumPy):
    """The mean is not subtracted, in evaluation alone."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        return super().evaluate(x, weight, bias, 0 * running_mean, running_var, eps=eps)


class SampleVarianceInGradients(NumPy):
    """The gradients are those of a layer that normalizes with divisor m - 1; this one does not."""

    def train_gradients(self, x, weight, bias, dy, *, eps):
        axes, size = (0, *range(2, x.ndim)), x.size // x.shape[1]
        root = 1 / np.sqrt(x.var(axes, ddof=1) + eps)
        x_hat = (x - x.mean(axes, keepdims=True)) * shaped(root, x)
        dweight, dbias = (dy * x_hat).sum(axes), dy.sum(axes)
        share = shaped(dbias / size, x) + x_hat * shaped(dweight / (size - 1), x)
        return (shaped(weight * root, x) * (dy - share)).astype(x.dtype), dweight.astype(x.dtype), dbias


class LayerWithItsOwnEps(NumPy):
    """The layer ignores the eps it is built with."""

    def layer(self, num_features, *, ndim, dtype, **options):
        options.pop("eps", None)
        return super().layer(num_features, ndim=ndim, dtype=dtype, **options)


class LongGradients(NumPy):
    """dweight is wrong for long reductions."""

    def train_gradients(self, x, *rest, **options):
        dx, dweight, dbias = super().train_gradients(x, *rest, **options)
        return dx, dweight * (0.9 if x.size > 60_000 * x.shape[1] else 1), dbias


@pytest.mark.parametrize(
    ("adapter", "claim", "rival"),
    [
        (EpsOutsideInEvaluation, "evaluate.running-statistics", "sqrt(var) + eps"),
        (NoBiasInEvaluation, "evaluate.folded", "bias ignored"),
        (NotCenteredInEvaluation, "evaluate.running-statistics", "mean not subtracted"),
        (SampleVarianceInGradients, "gradient.input", "sample variance, divisor m - 1"),
        (LayerWithItsOwnEps, "evaluate.before-training", "eps ignored, 1e-5 used"),
        (LongGradients, "precision.extent", ""),
    ],
)
def test_a_fault_of_one_path_is_refused_there(adapter, claim, rival):
    verdict = run_check(claim, backend(adapter()), "float32", laboratory())
    assert (verdict.kind, verdict.rival) == (Kind.DEVIATES if rival else Kind.FAILS, rival), verdict.words
