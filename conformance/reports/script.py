"""Stand-alone scripts: a failure as a file that needs NumPy and the framework alone, for a bug report.

The failing case is run once more while the calls to the adapter are recorded. The script holds the adapter's own source
(adapters import nothing of normspec), the recorded arguments as exact numbers, and what the article's formula gives.
"""

import ast
import pprint
import re
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec import __version__
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import Case, Inputs
from normspec.conformance.cases.given import BehindLinear, Values
from normspec.conformance.cases.operations import FIELDS, LIKE, METHODS, OF_METHOD, STATE, dtype_of
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.predictions.calls import alone, part_of
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered
from normspec.conformance.verdicts.checking import Check, Replay
from normspec.reference import ARTICLE
from normspec.reference.linear import linear

LARGEST = 5_000
"""Elements in all; a case of more gets no script, its one line must do."""


class Call(NamedTuple):
    """One recorded call: on "adapter" or on a layer by its name, with copies of its arguments."""

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
            return Recorder(result, self._calls, _layer_name(self._calls)) if name == "layer" else result

        return recorded


def _layer_name(calls: Sequence[Call]) -> str:
    """What the layer is called that the last of these calls has made."""
    made = sum(call.method == "layer" for call in calls)
    return "spec_layer" if made == 1 else f"spec_layer_{made}"  # an adapter's own function may be called layer


def write(folder: Path, check: Check, again: str) -> Path | None:
    """Write the script of a failed check into `folder`; its path, or None where there is no case to show."""
    if check.replay is None or check.verdict is None:
        return None
    calls: list[Call] = []
    trace: Mapping[str, Any] = {}
    with suppress(Crashed, NotOffered):
        trace = check.replay.run(
            replace(check.backend, adapter=Recorder(check.backend.adapter, calls)), check.replay.case
        )
    if not calls or sum(a.size for c in calls for a in c.arguments if isinstance(a, np.ndarray)) > LARGEST:
        return None
    path = folder / filename(check.claim.id, check.backend.name, check.dtype)
    folder.mkdir(parents=True, exist_ok=True)
    right = _expected_of_layer(check.replay, trace, check.dtype)
    path.write_text(_text(check, calls, right, again), encoding="utf-8")
    return path


def filename(claim: str, backend: str, dtype: str) -> str:
    """What the script of a claim, backend and dtype is called."""
    return re.sub(r"\W+", "_", f"{claim}_{backend}_{dtype}") + ".py"


def blocks(text: str) -> list[str]:
    """A script in parts that are it, put together; the scripts of one backend share all but the first and the last."""
    marks = [f"# -- the adapter {'-' * 101}", _HELPERS]
    places = sorted(at for mark in marks for at in (text.find(mark), text.find(mark) + len(mark)) if mark in text)
    return [text[a:b] for a, b in pairwise([0, *places, len(text)]) if a < b]


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


def _text(check: Check, calls: list[Call], of_layer: Mapping[str, Expected], again: str) -> str:
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
    # Comments, not a docstring: what an adapter says may hold any quotes and backslashes.
    about = [
        textwrap.wrap(" ".join(line.split()), 116, break_long_words=False, break_on_hyphens=False) for line in told
    ]
    adapter, future = _adapter(check.backend)
    parts = ["\n".join(f"# {line}" for lines in about for line in lines), *future, _HEAD]
    if _has_bfloat16(calls):
        parts.append("import ml_dtypes as spec_ml_dtypes  # gives NumPy its bfloat16")
    parts += [adapter, _HELPERS]
    names = _names_in_layer(calls, of_layer)
    for number, made in enumerate(calls, 1):
        of_nothing = made.method.endswith("gradients") and not made.arguments[0].size  # no formula has anything to say
        if made.target == "adapter" and made.method in METHODS and not of_nothing:
            parts.append(_call(number, made, check.dtype))
        else:
            told_of = {name: of_layer[name] for name in names[number - 1] if name in of_layer}
            parts.append(_layer_call(made, told_of, calls[:number]))
    parts.append("raise SystemExit(1 if spec_worst > 1 else 0)")
    return "\n\n".join(parts) + "\n"


_HEAD = "import sys\n\nimport numpy as spec_np"

_HELPERS = '''
# -- the failing calls ------------------------------------------------------------------------------------------------


def spec_array(dtype, shape, strides, numbers):
    """An array with the memory layout of the case; numbers are exact, in hexadecimal."""
    dtype = spec_np.dtype(dtype)
    last = sum((n - 1) * s for n, s in zip(shape, strides)) if 0 not in shape else 0
    made = spec_np.lib.stride_tricks.as_strided(spec_np.zeros(last // dtype.itemsize + 1, dtype), shape, strides)
    made[...] = spec_np.array([float.fromhex(n) for n in numbers.split()]).reshape(shape)
    return made


spec_worst = 0.0


def spec_wrong(words):
    """Print what is wrong beside the numbers."""
    global spec_worst
    print(words)
    spec_worst = spec_np.inf


def spec_call(function, *arrays, **options):
    """Call, and look whether what was given is written to or handed back."""
    before = [array.tobytes() for array in arrays]
    results = function(*arrays, **options)
    for number, (array, was) in enumerate(zip(arrays, before)):
        if array.tobytes() != was:
            spec_wrong(f"argument {number} was written to")
        for result in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(result, spec_np.ndarray) and spec_np.may_share_memory(result, array):
                spec_wrong(f"a result shares memory with argument {number}")
    return results


spec_states = {}


def spec_held(layer, state, channels, after):
    """Print what a layer holds; look at its shapes, and whether only training has moved the running statistics."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        held = spec_np.array(state[name], dtype=float)
        print(f"{name}: {held.tolist()}")
        if held.shape != (channels,):
            spec_wrong(f"{name} has shape {held.shape}, expected {(channels,)}")
        before = spec_states.get((layer, name), held)
        if (name in ("weight", "bias") or after == "evaluate") and held.tobytes() != before.tobytes():
            spec_wrong(f"{after} changes {name}")
        spec_states[layer, name] = held


def spec_compare(name, got, expected, bound, dtype):
    """Print the element that is furthest outside its bound."""
    global spec_worst
    if got.dtype.name != dtype:
        spec_wrong(f"{name} is {got.dtype.name}, expected {dtype}")
    got = got.astype(float)
    expected = spec_np.array([float.fromhex(n) for n in expected.split()]).reshape(got.shape)
    bound = spec_np.array([float(b) for b in bound.split()]).reshape(got.shape)
    with spec_np.errstate(all="ignore"):
        ratio = spec_np.where(bound == 0, spec_np.where(got == expected, 0, spec_np.inf), abs(got - expected) / bound)
        ratio = spec_np.where(spec_np.isfinite(got), ratio, spec_np.inf)
        ratio = spec_np.where(spec_np.isfinite(bound), ratio, 0)
    if ratio.size:
        at = spec_np.unravel_index(ratio.argmax(), ratio.shape)
        place = f"{name}{[int(i) for i in at]}"
        print(f"{place}: got {got[at]:.9g}, expected {expected[at]:.9g} within {bound[at]:.2g}")
        spec_worst = max(spec_worst, ratio[at])
'''.strip()


def _adapter(backend: Backend) -> tuple[str, list[str]]:
    """Source that ends with `adapter` bound to the backend's adapter, and what must stand before everything else."""
    if backend.source is None:
        return f"adapter = ...  # no source was found for {backend.spec}: put your adapter here", []
    text, made, file = backend.source
    source, future = _bare(text)
    beside = ""
    if ".py" in backend.spec and _imports_from(Path(file).parent, text):
        where = "# The adapter imports modules from beside its file: where that was on the machine that wrote this."
        beside = f"{where}\nsys.path.append({str(Path(file).parent)!r})\n\n"
    return f"{beside}# -- the adapter {'-' * 101}\n\n{source.rstrip()}\n\n\nadapter = {made}", future


def _imports_from(folder: Path, source: str) -> bool:
    """Whether source imports modules that lie in a folder."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names} - {""}
    return any((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file() for top in tops)


def _bare(source: str) -> tuple[str, list[str]]:
    """Source without what it runs as a program, and without its imports from __future__, which are given apart."""
    lines, future = source.splitlines(), []
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            future.append(ast.unparse(node))
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"):
            continue
        del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines), future


def _has_bfloat16(calls: list[Call]) -> bool:
    return any(a.dtype.name == "bfloat16" for c in calls for a in c.arguments if isinstance(a, np.ndarray))


def _literal(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    dtype = "spec_ml_dtypes.bfloat16" if value.dtype.name == "bfloat16" else repr(value.dtype.name)
    numbers = " ".join(float(v).hex() for v in value.ravel())
    return f"spec_array({dtype}, {value.shape}, {value.strides}, {_wrapped(numbers)})"


def _wrapped(numbers: str) -> str:
    return pprint.pformat(numbers, width=110) if len(numbers) > 90 else repr(numbers)


def _call(number: int, made: Call, dtype: str) -> str:
    """The source of one call of the operation, and of the comparison with what is right."""
    names, expected = METHODS[made.method].results, _expected(made, dtype)
    lines = [f"print({f'call {number}: adapter.{made.method}'!r})", "results = spec_call("]
    lines += [f"    adapter.{made.method},", _arguments(made), ")"]
    if len(names) == 1:
        lines.append("results = [results]")
    for position, name in enumerate(names):
        kept = dtype_of(LIKE[name], made.arguments[0].dtype.name)
        lines.append(_compare(name, f"results[{position}]", expected[name], kept))
    return "\n".join(lines)


def _layer_call(made: Call, expected: Mapping[str, Expected], so_far: Sequence[Call]) -> str:
    """The source of one call of a layer, or of that which makes one, and of the comparison with what is right.

    `so_far` are all calls up to this one.
    """
    if made.method == "layer":
        return f"{_layer_name(so_far)} = adapter.layer(\n{_arguments(made)}\n)"
    lines = [
        f"print({f'call {len(so_far)}: {made.target}.{made.method}'!r})",
        f"results = {made.target}.{made.method}({_arguments(made).strip()})",
    ]
    for name, right in expected.items():
        got = f"results[{name.split('@')[0].split()[0]!r}]" if made.method == "state" else "results"
        lines.append(_compare(name, got, right, f"{got}.dtype.name", literal=False))
    if not expected and made.method == "state":
        channels = [call.arguments[0] for call in so_far if call.method == "layer"]
        own = 0 if made.target == "spec_layer" else int(made.target.rpartition("_")[2]) - 1
        done = [call.method for call in so_far if call.target == made.target and call.method != "state"]
        lines.append(f"spec_held({made.target!r}, results, {channels[own]!r}, {(done or ['layer'])[-1]!r})")
    elif not expected:
        lines.append("print(results)")
    return "\n".join(lines)


def _arguments(made: Call) -> str:
    arguments = [textwrap.indent(_literal(a), "    ") + "," for a in made.arguments]
    return "\n".join(arguments + [f"    {name}={value!r}," for name, value in made.options.items()])


def _compare(name: str, got: str, expected: Expected, dtype: str, *, literal: bool = True) -> str:
    value, bound = expected
    right = _wrapped(" ".join(float(v).hex() for v in value.ravel()))
    near = _wrapped(" ".join(f"{b:.3g}" for b in np.broadcast_to(bound, value.shape).ravel()))
    told = repr(dtype) if literal else dtype
    return f"spec_compare(\n    {name!r},\n    {got},\n    {right},\n    {near},\n    {told},\n)"


def _names_in_layer(calls: list[Call], expected: Mapping[str, Expected]) -> list[tuple[str, ...]]:
    """For every call, what an experiment on a layer calls its results."""
    names: list[tuple[str, ...]] = []
    steps = evaluations = 0
    for made in calls:
        steps += made.method == "train"
        evaluations = 0 if made.method == "train" else evaluations + (made.method == "evaluate")
        after = f" after evaluation@{'batch' if evaluations == 1 else 'alone'}" if evaluations else f"@{steps}"
        names.append(
            {
                "train": (f"y@{steps}",),
                "evaluate": (
                    "y" if "y" in expected else "evaluation@batch" if evaluations == 1 else "evaluation@alone",
                ),
                "state": (f"running_mean{after}", f"running_var{after}"),
            }.get(made.method, ())
        )
    return names


def _expected_of_layer(replayed: Replay, trace: Mapping[str, Any], dtype: str) -> Mapping[str, Expected]:
    """What the article's formula gives in a layer, from the first step to the last; rounding adds up on the way."""
    experiment, case = replayed.experiment, replayed.case
    if experiment is None or not experiment.layer or not trace:
        return {}
    told: Mapping[str, Expected] = {}
    for _ in range(case.steps + 4):  # each time one step more is predicted from what is right, not from what was seen
        told = experiment.predict(case, ARTICLE, GRADES[dtype][0], trace)
        trace = {**trace, **{name: expected.value for name, expected in told.items()}}
    reach: dict[str, float] = {}
    for name, (_value, bound) in told.items():
        quantity = name.split("@")[0].split()[0]
        reach[quantity] = max(reach.get(quantity, 0.0), float(np.max(bound)))
    return {
        name: Expected(value, np.full(value.shape, (case.steps + 2) * reach[name.split("@")[0].split()[0]]))
        for name, (value, _bound) in told.items()
    }


def _expected(made: Call, dtype: str) -> Mapping[str, Expected]:
    """What the article's formula gives for one call of an operation."""
    operation, method = OF_METHOD[made.method], METHODS[made.method]
    arrays = dict(zip(method.arguments, (a.astype(np.float64) for a in made.arguments), strict=True))
    x = linear(arrays["u"], arrays["w"], arrays["b"]) if operation.behind_linear else arrays["x"]
    none = np.zeros_like(arrays["weight"])
    named = {"x": x, "dy": np.zeros_like(x), **dict.fromkeys(("bias", *STATE), none), **arrays}
    values: Values = (BehindLinear if operation.behind_linear else Inputs)(**named)
    fields = {FIELDS.get(name, name): value for name, value in made.options.items()}
    case = Case(dtype=dtype, shape=x.shape, data="as handed over", trailing=none.ndim, **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of the mean of nothing
        return alone(part_of(operation, method, case, values), operation.rules, GRADES[dtype][0])
