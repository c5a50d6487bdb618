"""Stand-alone scripts: a failure as a file that needs NumPy and the framework alone, for a bug report.

The failing case is run once more while the calls to the adapter are recorded. The script holds the adapter's own source
(adapters import nothing of normspec), the recorded arguments as exact numbers, and what the article's formula gives.
"""

import inspect
import pprint
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec import __version__
from normspec.conformance import prediction
from normspec.conformance.adapters import Backend, Crashed, NotOffered
from normspec.conformance.arithmetic import GRADES
from normspec.conformance.cases import Inputs
from normspec.conformance.checking import Check
from normspec.conformance.claims import CLAIMS
from normspec.conformance.prediction import Expected
from normspec.reference import ARTICLE

NAMES = {
    "train": ("y", "running_mean", "running_var"),
    "evaluate": ("y",),
    "train_gradients": ("dx", "dweight", "dbias"),
    "evaluate_gradients": ("dx", "dweight", "dbias"),
}
LARGEST = 5_000
"""Elements in all; a case of more gets no script, its one line must do."""


class Call(NamedTuple):
    """One recorded call: on "adapter" or "layer", with copies of its arguments."""

    target: str
    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


class Recorder:
    """Stands before an adapter or layer and notes every call."""

    def __init__(self, inner: Any, calls: list[Call], target: str = "adapter") -> None:
        self._inner, self._calls, self._target = inner, calls, target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def recorded(*arguments: Any, **options: Any) -> Any:
            self._calls.append(Call(self._target, name, tuple(map(_copied, arguments)), options))
            result = value(*arguments, **options)
            return Recorder(result, self._calls, "layer") if name == "layer" else result

        return recorded


def write(folder: Path, check: Check, again: str) -> Path | None:
    """Write the script of a failed check into `folder`; its path, or None where there is no case to show."""
    if check.replay is None or check.verdict is None:
        return None
    calls: list[Call] = []
    with suppress(Crashed, NotOffered):
        check.replay(replace(check.backend, adapter=Recorder(check.backend.adapter, calls)))
    if not calls or sum(a.size for c in calls for a in c.arguments if isinstance(a, np.ndarray)) > LARGEST:
        return None
    name = re.sub(r"\W+", "_", f"{check.claim.id}_{check.backend.name}_{check.dtype}")
    path = folder / f"{name}.py"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(check, calls, again), encoding="utf-8")
    return path


def _copied(argument: Any) -> Any:
    """An array as it was, layout and all, whatever the backend does to it."""
    if not isinstance(argument, np.ndarray):
        return argument
    copy = _as_laid_out(argument.shape, argument.strides, argument.dtype)
    if 0 not in argument.strides:
        copy[...] = argument
    elif argument.size:
        copy[:1] = argument[:1]
    return copy


def _as_laid_out(shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    last = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    memory = np.zeros(last // dtype.itemsize + 1, dtype)
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


def _text(check: Check, calls: list[Call], again: str) -> str:
    verdict, claim = check.verdict, CLAIMS[check.claim.id]
    assert verdict is not None
    seen = verdict.counterexample
    told = [
        f"{claim.id} ({claim.source}): {claim.text}",
        f"{check.backend.name} {check.backend.version} in {check.dtype}: {verdict.label}. {verdict.words}",
        f"Written by normspec {__version__}, which also runs it: {again}",
    ]
    if seen is not None:
        told.append(seen.case)
    about = "\n".join(textwrap.fill(line, 116) for line in told)
    parts = [f'"""{about}\n"""', _HEAD]
    if _has_bfloat16(calls):
        parts.append("import ml_dtypes  # gives NumPy its bfloat16")
    parts += [_adapter(check.backend), _HELPERS]
    for number, made in enumerate(calls, 1):
        parts.append(_call(number, made, check.dtype))
    parts.append("raise SystemExit(1 if worst > 1 else 0)")
    return "\n\n".join(parts) + "\n"


_HEAD = "import sys\n\nimport numpy as np"

_HELPERS = '''
# -- the failing calls ------------------------------------------------------------------------------------------------


def array(dtype, shape, strides, numbers):
    """An array with the memory layout of the case; numbers are exact, in hexadecimal."""
    dtype = np.dtype(dtype)
    last = sum((n - 1) * s for n, s in zip(shape, strides)) if 0 not in shape else 0
    made = np.lib.stride_tricks.as_strided(np.zeros(last // dtype.itemsize + 1, dtype), shape, strides)
    made[...] = np.array([float.fromhex(n) for n in numbers.split()]).reshape(shape)
    return made


worst = 0.0


def compare(name, got, expected, bound):
    """Print the element that is furthest outside its bound."""
    global worst
    got = np.asarray(got).astype(np.float64)
    expected = np.array([float.fromhex(n) for n in expected.split()]).reshape(got.shape)
    bound = np.array([float(b) for b in bound.split()]).reshape(got.shape)
    with np.errstate(all="ignore"):
        ratio = np.where(bound == 0, np.where(got == expected, 0, np.inf), abs(got - expected) / bound)
        ratio = np.where(np.isfinite(got), ratio, np.inf)
        ratio = np.where(np.isfinite(bound), ratio, 0)
    if ratio.size:
        at = np.unravel_index(ratio.argmax(), ratio.shape)
        place = f"{name}{[int(i) for i in at]}"
        print(f"{place}: got {got[at]:.9g}, expected {expected[at]:.9g} within {bound[at]:.2g}")
        worst = max(worst, ratio[at])
'''.strip()


def _adapter(backend: Backend) -> str:
    """Source that ends with `adapter` bound to the backend's adapter."""
    adapter = backend.adapter._inner if isinstance(backend.adapter, Recorder) else backend.adapter
    module = adapter if isinstance(adapter, ModuleType) else inspect.getmodule(type(adapter))
    try:
        source = inspect.getsource(module)  # type: ignore[arg-type]
    except (OSError, TypeError):
        return f"adapter = ...  # no source was found for {backend.spec}: put your adapter here"
    made = "sys.modules[__name__]" if isinstance(adapter, ModuleType) else f"{type(adapter).__name__}()"
    path = ""
    if ".py" in backend.spec and module is not None and module.__file__:
        path = f"sys.path.append({str(Path(module.__file__).parent)!r})\n\n"
    return f"{path}# -- the adapter {'-' * 101}\n\n{source.rstrip()}\n\n\nadapter = {made}"


def _has_bfloat16(calls: list[Call]) -> bool:
    return any(a.dtype.name == "bfloat16" for c in calls for a in c.arguments if isinstance(a, np.ndarray))


def _literal(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    dtype = "ml_dtypes.bfloat16" if value.dtype.name == "bfloat16" else repr(value.dtype.name)
    numbers = " ".join(float(v).hex() for v in value.ravel())
    return f"array({dtype}, {value.shape}, {value.strides}, {_wrapped(numbers)})"


def _wrapped(numbers: str) -> str:
    return pprint.pformat(numbers, width=110) if len(numbers) > 90 else repr(numbers)


def _call(number: int, made: Call, dtype: str) -> str:
    """The source of one call, and of the comparison with what is right."""
    arguments = [textwrap.indent(_literal(a), "    ") + "," for a in made.arguments]
    arguments += [f"    {name}={value!r}," for name, value in made.options.items()]
    joined = "\n".join(arguments)
    if made.method == "layer":
        return f"layer = adapter.layer(\n{joined}\n)"
    lines = [f"print({f'call {number}: {made.target}.{made.method}'!r})"]
    lines.append(
        f"results = {made.target}.{made.method}(\n{joined}\n)" if joined else f"results = {made.target}.{made.method}()"
    )
    if made.target == "layer":
        lines.append("print(results)")
        return "\n".join(lines)
    names = NAMES[made.method]
    if len(names) == 1:
        lines.append("results = [results]")
    expected = _expected(made, dtype)
    for position, name in enumerate(names):
        value, bound = expected[name]
        right = _wrapped(" ".join(float(v).hex() for v in value.ravel()))
        near = _wrapped(" ".join(f"{b:.3g}" for b in np.broadcast_to(bound, value.shape).ravel()))
        lines.append(f"compare(\n    {name!r},\n    results[{position}],\n    {right},\n    {near},\n)")
    return "\n".join(lines)


def _expected(made: Call, dtype: str) -> Mapping[str, Expected]:
    """What the article's formula gives for one call of the operation."""
    arrays = [a.astype(np.float64) for a in made.arguments]
    none = np.zeros_like(arrays[1])
    if made.method == "train_gradients":
        given = Inputs._make([*arrays[:3], none, none, arrays[3]])
    else:
        given = Inputs._make([*arrays[:5], arrays[5] if len(arrays) > 5 else arrays[0]])
    predict: Callable[..., Mapping[str, Expected]] = getattr(prediction, made.method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of the mean of nothing
        return predict(given, ARTICLE, GRADES[dtype][0], **made.options)
