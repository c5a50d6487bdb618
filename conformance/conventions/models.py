"""A model of a backend that is not on this machine: the formulas that it was found to follow, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normspec import reference
from normspec.conformance.conventions.conventions import Conduct
from normspec.conformance.trials.adapters import Backend

Array = NDArray[Any]


class Model:
    """An adapter that follows, for each dtype and number of axes of x, the rules it was made with."""

    def __init__(self, conduct: Mapping[tuple[str, int], Conduct]) -> None:
        self._conduct = conduct

    def _of(self, x: Array) -> Conduct:
        return self._conduct.get((x.dtype.name, x.ndim), Conduct())

    def train(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        momentum: float,
        eps: float,
    ) -> tuple[Array, ...]:
        """y by the rules that normalize, the state by those that track."""
        conduct = self._of(x)
        if conduct.training is None or conduct.tracking is None:
            raise NotImplementedError("no rules are known for training")
        arrays = _wide(x, weight, bias, running_mean, running_var)
        y, *_ = reference.train(*arrays, momentum=momentum, eps=eps, rules=conduct.training)
        _, mean, var = reference.train(*arrays, momentum=momentum, eps=eps, rules=conduct.tracking)
        return _rounded((y, mean, var), (x, running_mean, running_var))

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        """y by the rules of evaluation."""
        rules = self._of(x).evaluation
        if rules is None:
            raise NotImplementedError("no rules are known for evaluation")
        y = reference.evaluate(*_wide(x, weight, bias, running_mean, running_var), eps=eps, rules=rules)
        return _rounded((y,), (x,))[0]


def model(name: str, version: str, conduct: Mapping[tuple[str, int], Conduct]) -> Backend:
    """A backend that does as `conduct` says."""
    dtypes = tuple(dict.fromkeys(dtype for dtype, _ in conduct))
    return Backend(name=name, spec=name, version=version, dtypes=dtypes, adapter=Model(conduct))


def _wide(*arrays: Array) -> list[Array]:
    return [array.astype(np.float64) for array in arrays]


def _rounded(results: tuple[Array, ...], like: tuple[Array, ...]) -> tuple[Array, ...]:
    with np.errstate(over="ignore"):
        return tuple(np.array(r.astype(a.dtype)) for r, a in zip(results, like, strict=True))
