"""Faults of dtypes and shapes of what is returned."""

import numpy as np

from faults.pieces import Pieces
from faults.registry import fault


@fault("hygiene.dtype-shape", dtype="bfloat16")
class BfloatComesBackWide(Pieces):
    """y of bfloat16 comes back in float32."""

    def stored(self, values, like):
        return super().stored(values, like).astype(np.float32)


@fault("hygiene.dtype-shape", dtype="float16")
class HalfInputGradientIsWide(Pieces):
    """dx of float16 comes back in float32."""

    def train_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().train_gradients(*arrays, **options)
        return dx.astype(np.float32), dweight, dbias


@fault("hygiene.dtype-shape", dtype="float16")
class HalfParametersGradients(Pieces):
    """dweight comes back in the float16 of x."""

    def evaluate_gradients(self, x, *rest, **options):
        dx, dweight, dbias = super().evaluate_gradients(x, *rest, **options)
        return dx, dweight.astype(x.dtype), dbias


@fault("hygiene.dtype-shape", dtype="float16", thread="Oneflow-Inc/oneflow#9388")
class HalfState(Pieces):
    """The running variance comes back in the float16 of x."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        return y, mean, var.astype(x.dtype)


@fault("hygiene.dtype-shape", dtype="float64")
class DoubleComesBackSingle(Pieces):
    """dbias of float64 comes back in float32."""

    def train_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().train_gradients(*arrays, **options)
        return dx, dweight, dbias.astype(np.float32)


@fault("hygiene.dtype-shape")
class KeepsReducedAxes(Pieces):
    """The running statistics come back with the reduced axes kept, as (1, C, 1, 1)."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        return y, mean.reshape(1, -1, *[1] * (x.ndim - 2)), var.reshape(1, -1, *[1] * (x.ndim - 2))


@fault("hygiene.every-shape")
class SqueezesOneChannel(Pieces):
    """With one channel the running statistics come back without axes."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        return y, mean.squeeze(), var.squeeze()


@fault("hygiene.dtype-shape", dtype="float64", thread="tinygrad/tinygrad#7025")
class DoubleCannotBeAssigned(Pieces):
    """Training in float64 raises: the state was made in float32."""

    def train(self, x, *rest, **options):
        if x.dtype == np.float64:
            raise TypeError("assign dtype mismatch: float32 and float64")
        return super().train(x, *rest, **options)
