"""Opening adapters and calling them: every result is checked before it is used.

A backend is named as one of those that ship, as `path/to/file.py` or `path/to/file.py:Name`, as `module:Name`, or by an
entry point of the group `normspec.backends`. What an adapter may offer is written down in `backends/contract.py`.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normspec.backends import SHIPPED
from normspec.conformance.cases.arithmetic import DTYPES, numpy_dtype
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials import surroundings
from normspec.conformance.trials.deviations import BadDeclaration, Deviation, dtypes_of, in_code, in_file

AnyArray = NDArray[Any]

REQUIRED = ("train", "evaluate")


class BadAdapter(Exception):
    """The adapter cannot be opened; the message is one sentence for its author."""


class Unavailable(Exception):
    """The backend cannot run on this machine; the message is the reason."""


class NotOffered(Exception):
    """The backend has no such operation, rank or dtype."""


class Crashed(Exception):
    """The backend raised an exception, or returned what cannot be used, or its process died."""

    def __init__(self, message: str, *, refusal: bool) -> None:
        super().__init__(message)
        self.refusal = refusal
        """Whether it may count as a refusal: an exception does, an unusable result does not."""


class Hung(Crashed):
    """The backend gave no answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, refusal=False)


@contextmanager
def refusable() -> Iterator[None]:
    """For what a backend may leave out, or refuse with an exception; a process that dies or hangs refuses nothing."""
    try:
        yield
    except NotOffered:
        pass
    except Crashed as error:
        if not error.refusal:
            raise


class Source(NamedTuple):
    """An adapter as stand-alone scripts hold it."""

    text: str
    """The source of its module."""
    made: str
    """The expression that gives the adapter, where that source has run."""
    file: str
    """Where it was read."""


@dataclass(frozen=True)
class Backend:
    """An opened adapter and what it says of itself."""

    name: str
    spec: str
    """How the user named it."""
    version: str
    dtypes: tuple[str, ...]
    adapter: Any = field(repr=False)
    deviations: tuple[Deviation, ...] = ()
    source: Source | None = field(default=None, repr=False)
    """None where Python has no source of it."""
    compiles: bool = False
    """Whether every operation is compiled anew for each shape: then few shapes must do."""

    @property
    def title(self) -> str:
        """Name and version, as far as it is known."""
        return self.name if self.version == "unknown" else f"{self.name} {self.version}"

    def declared(self, claim: str, dtype: str) -> Deviation | None:
        """The deviation declared for this claim and dtype in the version at hand, if any."""
        for deviation in self.deviations:
            if deviation.claim == claim and dtype in deviation.dtypes and deviation.applies(self.version):
                return deviation
        return None

    def implied(self, claim: str, dtype: str, rival: str) -> Deviation | None:
        """What declared deviations imply: a claim that follows from theirs deviates by the same rivals, no other."""
        causes = [d for cause in CLAIMS[claim].follows if (d := self.declared(cause, dtype)) and d.rival in rival]
        if not causes or " and ".join(d.rival for d in causes) != rival:
            return None
        reason = " and ".join(f"it follows from {d.claim}: {d.reason}" for d in causes)
        return replace(causes[0], claim=claim, rival=rival, reason=reason)


def open_backend(spec: str) -> Backend:
    """The backend that `spec` names. Raises BadAdapter or Unavailable, each with a sentence."""
    adapter, name = _find(spec)
    if isinstance(adapter, type):
        if reason := getattr(adapter, "unavailable", ""):
            raise Unavailable(str(reason))
        try:
            adapter = adapter()
        except (Exception, SystemExit) as error:
            raise BadAdapter(
                f"{spec}: {name}() raised {told(error)}; an adapter class is called without arguments."
            ) from None
    if reason := getattr(adapter, "unavailable", ""):
        raise Unavailable(str(reason))
    missing = [m for m in REQUIRED if not callable(getattr(adapter, m, None))]
    if missing:
        what = "module" if isinstance(adapter, ModuleType) else "adapter"
        raise BadAdapter(
            f"{spec}: the {what} has no {' and no '.join(missing)}; an adapter needs the functions train and evaluate "
            "(see backends/contract.py)."
        )
    dtypes = _dtypes(f"{spec}: dtypes", getattr(adapter, "dtypes", DTYPES[:2]))
    return Backend(
        name=str(getattr(adapter, "name", name)),
        spec=spec,
        version=str(getattr(adapter, "version", "unknown")),
        dtypes=dtypes,
        adapter=adapter,
        deviations=_declared(spec, adapter),
        source=_source(adapter),
        compiles=bool(getattr(adapter, "compiles", False)),
    )


def _declared(spec: str, adapter: Any) -> tuple[Deviation, ...]:
    """What is declared in the adapter's code, and in the file beside it."""
    try:
        return (*(in_code(spec, each) for each in getattr(adapter, "deviations", ())), *in_file(adapter))
    except BadDeclaration as problem:
        raise BadAdapter(str(problem)) from None


def available() -> list[str]:
    """Names of everything that can be asked for by name: what ships, and installed entry points."""
    return [*SHIPPED, *(e.name for e in entry_points(group="normspec.backends") if e.name not in SHIPPED)]


def usual() -> list[str]:
    """Names of what is checked if nothing is named: all that there is, but for what runs on request alone."""
    return [name for name in available() if name not in SHIPPED or not SHIPPED[name].on_request]


def missing(name: str) -> str:
    """What a shipped adapter lacks, in words; "" if its framework can be imported. Nothing is imported to find out."""
    lacking = [m for m in SHIPPED[name].needs if importlib.util.find_spec(m) is None] if name in SHIPPED else []
    return f"{' and '.join(lacking)} {'are' if lacking[1:] else 'is'} not installed" if lacking else ""


def _find(spec: str) -> tuple[Any, str]:
    """The adapter object or class, and a name for it."""
    if spec in SHIPPED:
        if reason := missing(spec):
            raise Unavailable(reason)
        module_name, _, attribute = SHIPPED[spec].place.partition(":")
        return getattr(_imported(spec, module_name), attribute), spec
    for entry in entry_points(group="normspec.backends"):
        if entry.name == spec:
            module = _imported(spec, entry.module)
            return getattr(module, entry.attr) if entry.attr else module, spec
    place, attribute = _split(spec)
    if place.endswith(".py"):
        module, name = _from_file(Path(place)), Path(place).stem
    elif attribute:
        module, name = _imported(spec, place), attribute
    else:
        close = difflib.get_close_matches(spec, available(), 1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise BadAdapter(
            f"There is no backend called {spec!r}.{meant} There are {', '.join(available())}; "
            "your own is named as path/to/file.py, path/to/file.py:Name or module:Name."
        )
    if attribute:
        if not hasattr(module, attribute):
            offered = ", ".join(_adapters_in(module)) or "nothing with train and evaluate"
            raise BadAdapter(f"{spec}: {place} has no {attribute}; it has {offered}.")
        return getattr(module, attribute), attribute
    if all(hasattr(module, m) for m in REQUIRED):
        return module, name
    candidates = _adapters_in(module)
    if len(candidates) == 1:
        return getattr(module, candidates[0]), candidates[0]
    if candidates:
        raise BadAdapter(f"{spec} holds several adapters: name one, as {place}:{candidates[0]}.")
    return module, name


def _split(spec: str) -> tuple[str, str]:
    """Place and attribute of `place:attribute`; the colon of a Windows drive separates nothing."""
    place, _, attribute = spec.rpartition(":")
    return (place, attribute) if len(place) > 1 else (spec, "")


def _imported(spec: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise BadAdapter(f"{spec}: cannot import {module}: {told(error)}.") from None


def _from_file(given: Path) -> ModuleType:
    path = given.expanduser().resolve()
    if not path.is_file():
        beside = [f.name for f in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, 1)
        meant = f" Did you mean {given.with_name(close[0])}?" if close else ""
        raise BadAdapter(f"There is no file {given}.{meant}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # so that the adapter finds the modules beside it
    spec = importlib.util.spec_from_file_location(f"normspec_adapter_{path.stem}_{zlib.crc32(bytes(path)):x}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadAdapter(f"{given} cannot be imported: {told(error)}.") from None
    return module


def _source(adapter: Any) -> Source | None:
    module = adapter if isinstance(adapter, ModuleType) else inspect.getmodule(type(adapter))
    made = "sys.modules[__name__]" if isinstance(adapter, ModuleType) else f"{type(adapter).__name__}()"
    try:
        return Source(inspect.getsource(module), made, str(getattr(module, "__file__", "")))  # type: ignore[arg-type]
    except (OSError, TypeError):
        return None


def _adapters_in(module: ModuleType) -> list[str]:
    """Names of the classes defined in `module` that look like adapters; a layer, which has a state, does not."""
    own = {n: v for n, v in vars(module).items() if inspect.isclass(v) and v.__module__ == module.__name__}
    return [n for n, v in own.items() if all(hasattr(v, m) for m in REQUIRED) and not hasattr(v, "state")]


def _dtypes(what: str, given: Any) -> tuple[str, ...]:
    if not (dtypes := dtypes_of(given)):
        raise BadAdapter(f"{what} is {given!r}; expected some of {', '.join(DTYPES)}.")
    return dtypes


# -- calls ------------------------------------------------------------------------------------------------------------


def call(
    function: Callable[..., Any],
    names: Sequence[str],
    shapes: Sequence[tuple[int, ...] | None],
    *args: Any,
    **options: Any,
) -> list[AnyArray]:
    """What `function` returns, as one array for each of `names`, of the `shapes` expected; None stands for any.

    Raises NotOffered where the backend says so, Crashed where it raises or returns something else.
    """
    where = getattr(function, "__name__", "the function")
    try:
        returned = called(function, *args, **options)
    except NotImplementedError as error:
        raise NotOffered(text(error) or f"{where} is not implemented") from None
    except (NotOffered, Crashed):
        raise  # by a backend in a process of its own
    except (Exception, SystemExit, GeneratorExit) as error:
        raise Crashed(f"{where} raised {told(error)}", refusal=isinstance(error, Exception)) from error
    results = [returned] if len(names) == 1 and isinstance(returned, np.ndarray) else returned
    if not isinstance(results, tuple | list) or len(results) != len(names):
        raise Crashed(f"{where} returned {described(returned)}; expected {_expected(names)}", refusal=False)
    for name, shape, result in zip(names, shapes, results, strict=True):
        if not isinstance(result, np.ndarray):
            array = "a NumPy array" if shape is None else f"a NumPy array of shape {shape}"
            raise Crashed(f"{where} returned {described(result)} for {name}; expected {array}", refusal=False)
        if shape is not None and result.shape != shape:
            raise Crashed(f"{where} returned {name} of shape {result.shape}; expected {shape}", refusal=False)
        if result.dtype not in [numpy_dtype(d) for d in DTYPES]:
            raise Crashed(f"{where} returned {name} of dtype {result.dtype}; expected a float dtype", refusal=False)
    return list(results)


def called(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What `function` returns or raises; what it warns of is its users' business."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with surroundings.watched():
            return function(*args, **options)


def _expected(names: Sequence[str]) -> str:
    one = f"{names[0]} as a NumPy array"
    return one if len(names) == 1 else f"a tuple of {len(names)} ({', '.join(names)}) of NumPy arrays"


@dataclass(frozen=True)
class Unusable:
    """Stands for what a backend in another process returned, and what is no array."""

    description: str


def described(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, Unusable):
        return value.description
    if isinstance(value, np.ndarray):
        return f"one array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def told(error: BaseException) -> str:
    """An exception in one line."""
    words = " ".join(text(error).split())
    words = words if len(words) <= 300 else words[:297] + "..."
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def text(error: BaseException) -> str:
    """The message of an exception; "" if not even that can be had."""
    try:
        return str(error)
    except Exception:
        return ""
