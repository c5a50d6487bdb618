"""Apache TVM on the CPU: Relax's `batch_norm` and its relatives, shapes left open, and Relax's own gradients."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx

Array = NDArray[Any]

DEVICE = tvm.cpu()

Kind = tuple[str, tuple[int | str, ...]]
"""dtype and shape; an axis of any length has a name."""


def _vm(module: Any) -> Any:
    return relax.VirtualMachine(tvm.compile(module, target="llvm"), DEVICE)


def _function(kinds: Sequence[Kind], body: Callable[..., Any]) -> Any:
    """A module whose `main` does what `body` writes."""
    lengths = {name: tirx.Var(name, "int64") for _, shape in kinds for name in shape if isinstance(name, str)}
    given = [
        relax.Var(f"in{i}", relax.TensorType([n if isinstance(n, int) else lengths[n] for n in shape], dtype))
        for i, (dtype, shape) in enumerate(kinds)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", given):
        with builder.dataflow():
            result = builder.emit_output(body(builder, *given))
        builder.emit_func_output(result)
    return builder.get()


def _any_length(arrays: Sequence[Array]) -> tuple[Kind, ...]:
    """Kinds of arrays of which the first is x, and the others have its channels or its last axes."""
    x, *others = arrays
    names = [f"n{i}" for i in range(x.ndim)]
    of_channels = (*names[1:2],)
    kinds = [(x.dtype.name, tuple(names))]
    for other in others:
        kinds.append((other.dtype.name, of_channels if other.shape == x.shape[1:2] else tuple(names[-other.ndim :])))
    return tuple(kinds)


@lru_cache(maxsize=512)
def _compiled(operator: str, kinds: tuple[Kind, ...], training: bool | None, attributes: Any) -> Any:
    """An operator by itself; batch norm, which has modes, is decomposed by the pass that is there for each."""
    function = getattr(relax.op.nn, operator)
    module = _function(kinds, lambda builder, *given: builder.emit(function(*given, **dict(attributes))))
    if training is not None:
        decompose = relax.transform.DecomposeOpsForTraining if training else relax.transform.DecomposeOpsForInference
        module = decompose()(module)
    return _vm(module)


@lru_cache(maxsize=512)
def _compiled_gradients(kinds: tuple[Kind, ...], training: bool, eps: float) -> Any:
    """Batch norm's gradients of sum(dy * y)."""

    def loss(builder: Any, x: Any, weight: Any, bias: Any, mean: Any, var: Any, dy: Any) -> Any:
        result = relax.op.nn.batch_norm(x, weight, bias, mean, var, axis=1, epsilon=eps, training=training)
        y = builder.emit(relax.TupleGetItem(builder.emit(result), 0))
        return builder.emit(relax.op.sum(relax.op.multiply(y, dy)))

    decompose = relax.transform.DecomposeOpsForTraining if training else relax.transform.DecomposeOpsForInference
    module = decompose()(_function(kinds, loss))
    return _vm(relax.transform.Gradient("main", require_grads=module["main"].params[:3])(module))


def _tensors(arrays: Sequence[Array]) -> list[Any]:
    return [tvm.runtime.tensor(np.ascontiguousarray(a), DEVICE) for a in arrays]


def _array(tensor: Any) -> Array:
    return np.array(tensor.numpy())


class Tvm:
    """Training and inference as `LegalizeOps`, the default, writes them out."""

    name = "tvm"
    version = tvm.__version__
    dtypes = ("float64", "float32")
    compiles = True
    decomposed = False

    def _batch_norm(self, arrays: Sequence[Array], training: bool, **attributes: Any) -> list[Array]:
        attributes |= {"axis": 1, "training": training}
        mode = training if self.decomposed else None
        compiled = _compiled("batch_norm", _any_length(arrays), mode, tuple(attributes.items()))
        return [_array(result) for result in compiled["main"](*_tensors(arrays))]

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
    ) -> Any:
        arrays = x, weight, bias, running_mean, running_var
        return self._batch_norm(arrays, True, epsilon=float(eps), momentum=float(momentum))

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Any:
        return self._batch_norm((x, weight, bias, running_mean, running_var), False, epsilon=float(eps))[0]

    def train_gradients(self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float) -> Any:
        return self._gradients((x, weight, bias, np.zeros_like(weight), np.ones_like(weight), dy), True, eps)

    def evaluate_gradients(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        dy: Array,
        *,
        eps: float,
    ) -> Any:
        return self._gradients((x, weight, bias, running_mean, running_var, dy), False, eps)

    def _gradients(self, arrays: Sequence[Array], training: bool, eps: float) -> list[Array]:
        kinds = tuple((a.dtype.name, a.shape) for a in arrays)  # the pass wants numbers for lengths
        _, gradients = _compiled_gradients(kinds, training, float(eps))["main_adjoint"](*_tensors(arrays))
        return [_array(gradient) for gradient in gradients]

    def _relative(self, operator: str, arrays: Sequence[Array], eps: float, **attributes: Any) -> Array:
        if arrays[0].dtype == np.float64 and operator != "rms_norm":
            raise NotImplementedError(f"{operator} takes float32 and float16")
        attributes["epsilon"] = float(eps)
        kinds = tuple((a.dtype.name, a.shape) for a in arrays)
        return _array(_compiled(operator, kinds, None, tuple(attributes.items()))["main"](*_tensors(arrays)))

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        return self._relative("layer_norm", (x, weight, bias), eps, axes=_last(weight))

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
        axes = tuple(range(2, x.ndim))
        return self._relative("instance_norm", (x, weight, bias), eps, channel_axis=1, axes=axes)

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Any:
        attributes = {"num_groups": num_groups, "channel_axis": 1, "axes": tuple(range(2, x.ndim))}
        return self._relative("group_norm", (x, weight, bias), eps, **attributes)

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Any:
        return self._relative("rms_norm", (x, weight), eps, axes=_last(weight))


def _last(weight: Array) -> tuple[int, ...]:
    return tuple(range(-weight.ndim, 0))


class TvmDecomposed(Tvm):
    """The same by `DecomposeOpsForTraining` and `DecomposeOpsForInference`, where gradients come from as well."""

    name = "tvm-decomposed"
    decomposed = True
