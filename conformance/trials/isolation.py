"""A backend in a process of its own, behind a proxy that looks like an adapter.

Whatever the backend does to its process, the judge's own process goes on: a backend that dies is *crashed*, one that
gives no answer in time is *hung*, and the next call finds a new process. What a call does to its arguments, whether a
result lies in their memory, and whether it changes an earlier result, is done again to the caller's own arrays.
`child.py` is the other side.
"""

import atexit
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from normspec.conformance.trials import surroundings, wire
from normspec.conformance.trials.adapters import (
    AnyArray,
    Backend,
    BadAdapter,
    Crashed,
    Hung,
    Source,
    Unavailable,
    Unusable,
)
from normspec.conformance.trials.deviations import Deviation

TRUSTED = "numpy"
"""The backend that is ours, and runs in the judge's own process."""
_STRIKES = 3
"""How often calls of one kind may lose the process or use up its memory before there are no more of them."""
_LONG = 10_000
"""Values a channel from which on input counts as a kind of its own."""
_MIRRORS = 64
"""Results that can still be told to have changed; the other process keeps fewer."""
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from normspec.conformance.trials.child import main; main(sys.argv[1], float(sys.argv[2]))"
)


@dataclass(frozen=True)
class Limits:
    """What one call may take: seconds without an answer, and GiB of memory beyond what the opened backend holds."""

    hang_after: float = 60.0
    memory: float = 8.0


class _Lost(Exception):
    """The process is gone; the message says how."""


class _Stopped(_Lost):
    """It gave no answer in time."""


class Isolated:
    """The adapter that `spec` names, in another process. Once opened it has the methods that the adapter has."""

    def __init__(self, spec: str, limits: Limits) -> None:
        self._spec, self._limits = spec, limits
        self._process: _Process | None = None
        self._opened = False
        self.about: Mapping[str, Any] | None = None
        """What it says of itself in plain values, once it was opened."""
        self._slowest = 0.0
        self._answered: set[tuple[Any, ...]] = set()
        self._strikes: defaultdict[tuple[Any, ...], list[Crashed]] = defaultdict(list)
        self._hung = False

    def start(self) -> None:
        """Start the process; nothing is waited for."""
        self._process = _Process(self._spec, self._limits)
        self._opened = False

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
        self._process = None

    def open(self) -> Backend:
        """What the adapter says of itself. Raises BadAdapter or Unavailable, each with a sentence."""
        if self._process is None:
            self.start()
        assert self._process is not None
        try:
            outcome, about = self._process.opened(self._limits.hang_after)
        except _Lost as lost:
            words = self._process.last_words()
            self.close()
            raise BadAdapter(f"{self._spec} cannot be opened: the process {lost}{words and f' ({words})'}.") from None
        if outcome != "opened":
            self.close()
            raise (Unavailable if outcome == "unavailable" else BadAdapter)(about)
        self._opened = True
        self.about = about
        return self.known(about)

    def known(self, about: Mapping[str, Any]) -> Backend:
        """The backend of which another process already knows what it says of itself; opened when it is first called."""
        for name in about["offers"]:
            setattr(self, name, self._method(name))
        return Backend(
            name=about["name"],
            spec=self._spec,
            version=about["version"],
            dtypes=about["dtypes"],
            adapter=self,
            deviations=tuple(Deviation(**deviation) for deviation in about["deviations"]),
            source=about["source"] and Source(*about["source"]),
            compiles=about["compiles"],
        )

    def _method(self, name: str) -> Callable[..., Any]:
        def method(*arguments: Any, **options: Any) -> Any:
            return self.ask(None, name, arguments, options)

        method.__name__ = name
        return method

    def ask(
        self,
        layer: "_Layer | None",
        name: str,
        arguments: Sequence[Any],
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """Call a method of the adapter or of a layer. Raises as the backend does, or Crashed or Hung."""
        dtype = layer.dtype if layer else options.get("dtype") or wire.NAMES[arguments[0].dtype]
        kind = self._kind(("layer's " if layer else "") + name, dtype, arguments, options)
        if len(self._strikes[kind]) >= _STRIKES:
            raise self._given_up(kind)
        if layer and layer.process is not self._process:
            raise Crashed(f"{name}: the layer was lost with the process that held it", refusal=False)
        process = self._running(name)
        limit = self._limit()
        began = time.monotonic()
        try:
            outcome, value = process.call(layer.number if layer else 0, name, arguments, options, limit)
        except _Lost as lost:
            self.close()
            self._hung = self._hung or isinstance(lost, _Stopped)
            raise self._struck(kind, _failure(name, lost)) from None
        self._slowest = max(self._slowest, time.monotonic() - began)
        if outcome == "absent":
            raise NotImplementedError(value)
        if outcome == "raised":
            words, refusal, exhausting = value
            crashed = Crashed(f"{name} raised {words}", refusal=refusal)
            raise self._struck(kind, crashed) if exhausting else crashed
        self._answered.add(kind[:3])
        return _Layer(self, process, value, dtype) if outcome == "layer" else value

    def _limit(self) -> float:
        """Seconds that a call may take: fewer where one has hung before, yet far more than for any answer so far."""
        whole = self._limits.hang_after
        tenths = max(1, math.ceil(500 * self._slowest / whole))
        return whole * min(tenths, 10) / 10 if self._hung else whole

    def _struck(self, kind: tuple[Any, ...], failure: Crashed) -> Crashed:
        """Count a failure that takes its time; what to raise."""
        self._strikes[kind].append(failure)
        return failure if len(self._strikes[kind]) < _STRIKES else self._given_up(kind)

    def _given_up(self, kind: tuple[Any, ...]) -> Crashed:
        strikes = self._strikes[kind]
        words = f"{strikes[-1]} ({len(strikes)} cases; not called any more)"
        return Hung(words) if isinstance(strikes[-1], Hung) else Crashed(words, refusal=strikes[-1].refusal)

    def _running(self, name: str) -> "_Process":
        if self._process is None or not self._opened:
            try:
                self.open()
            except (BadAdapter, Unavailable) as problem:
                raise Crashed(f"{name}: {problem}", refusal=False) from None
        assert self._process is not None
        return self._process

    def _kind(self, method: str, dtype: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a call has in common with others that will end as it does. Ranks are told apart where one has worked."""
        x = arguments[0] if arguments and isinstance(arguments[0], np.ndarray) else None
        values = 2 if x is None else x.size // (x.shape[1] or 1)
        size = "long" if values > _LONG else ("empty", "single", "ordinary")[min(values, 2)]
        kind = (method, dtype, size)
        return (*kind, options.get("ndim") if x is None else x.ndim) if kind in self._answered else kind


def _failure(name: str, lost: _Lost) -> Crashed:
    """How a call failed whose process was lost."""
    return (
        Hung(f"{name} {lost}") if isinstance(lost, _Stopped) else Crashed(f"{name}: the process {lost}", refusal=False)
    )


class _Layer:
    """A layer that lives in the other process, as long as this stands for it."""

    def __init__(self, adapter: Isolated, process: "_Process", number: int, dtype: str) -> None:
        self.process, self.number, self.dtype = process, number, dtype
        self._adapter = adapter
        weakref.finalize(self, process.freed.append, number)

    def train(self, x: AnyArray) -> Any:
        return self._adapter.ask(self, "train", [x])

    def evaluate(self, x: AnyArray) -> Any:
        return self._adapter.ask(self, "evaluate", [x])

    def state(self) -> Any:
        return self._adapter.ask(self, "state", [])


def kept_programs() -> dict[str, str]:
    """The environment in which JAX and PyTorch keep compiled programs on disk, for all runs; empty if they should not.

    They are kept below NORMSPEC_CACHE, by default `~/.cache/normspec`. An empty NORMSPEC_CACHE keeps nothing. What the
    user has set goes first.
    """
    try:
        place = os.environ.get("NORMSPEC_CACHE", str(Path.home() / ".cache" / "normspec"))
    except RuntimeError:  # there is no home
        return {}
    if not place:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(Path(place, "jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(place, "torch")),
    }


class _Process:
    """The other process: started, asked, watched and ended."""

    def __init__(self, spec: str, limits: Limits) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, spec, str(limits.memory), *filter(None, map(str, sys.path))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**kept_programs(), **os.environ},
            start_new_session=True,  # Ctrl-C is for the judge alone
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests, self._replies = self._popen.stdin, self._popen.stdout
        self.freed: list[int] = []
        """Layers that are no longer needed."""
        self._mirrors: dict[int, weakref.ref[Any]] = {}
        self._deadline, self._too_late, self._ended = math.inf, False, threading.Event()
        self._tail = b""
        self._drain = threading.Thread(target=self._keep_tail, daemon=True)
        self._drain.start()
        threading.Thread(target=self._watch, daemon=True).start()
        atexit.register(self.stop)

    def opened(self, limit: float) -> tuple[str, Any]:
        """What came of opening the adapter. Raises _Lost."""
        self._exchange(None, limit + 60)  # Python and NumPy start; not the backend's fault
        outcome, about = self._exchange(None, limit)
        return outcome, about

    def call(
        self, target: int, method: str, arguments: Sequence[Any], options: Mapping[str, Any], limit: float
    ) -> tuple[str, Any]:
        """What came of a call, once all that it did to arrays is done again here. Raises _Lost."""
        arrays = {id(a): wire.pack(a) for a in arguments if isinstance(a, np.ndarray)}  # one given twice stays one
        packed = [arrays.get(id(a), a) for a in arguments]
        freed, self.freed[:] = list(self.freed), []
        request = (target, method, packed, dict(options), freed, surroundings.wanted())
        reply = self._exchange(request, limit)
        try:
            (outcome, value), changes, written, stale = reply
            for position, held in written:
                wire.overwrite(arguments[position], held)
            for number, held in stale:
                if number in self._mirrors and (mirror := self._mirrors[number]()) is not None:
                    wire.overwrite(mirror, held)
            surroundings.report(changes)
            return outcome, self._value(outcome, value, arguments)
        except (wire.Garbled, ValueError, TypeError, LookupError) as error:
            raise _Lost("sent what cannot be read") from error

    def _value(self, outcome: str, value: Any, arguments: Sequence[Any]) -> Any:
        if outcome in ("tuple", "list"):
            elements = [self._element(element, arguments) for element in value]
            return tuple(elements) if outcome == "tuple" else elements
        if outcome == "state":
            return {name: self._element(element, arguments) for name, element in value.items()}
        if outcome == "one":
            return self._element(value, arguments)
        return Unusable(value) if outcome == "other" else value

    def _element(self, element: tuple[str, Any], arguments: Sequence[Any]) -> Any:
        kind, value = element
        if kind == "other":
            return Unusable(value)
        if kind == "hollow":
            return wire.unpack(value)
        if kind == "view":
            number, position, packed = value
            array = wire.view(arguments[position], packed)
        else:
            number, packed = value
            array = wire.unpack(packed)
        self._mirrors[number] = weakref.ref(array)
        while len(self._mirrors) > _MIRRORS:
            del self._mirrors[next(iter(self._mirrors))]
        return array

    def _exchange(self, request: Any, limit: float) -> Any:
        """Send a request, if there is one, and wait for a message."""
        self._deadline = time.monotonic() + limit
        try:
            if request is not None:
                wire.send(self._requests, request)
            return wire.receive(self._replies)
        except (OSError, EOFError, wire.Garbled, ValueError):
            self._deadline = math.inf
            raise self._ending(limit) from None
        except BaseException:  # Ctrl-C: what comes next would be the answer to this
            self.stop()
            raise
        finally:
            self._deadline = math.inf

    def _ending(self, limit: float) -> _Lost:
        try:
            status = self._popen.wait(1)
        except subprocess.TimeoutExpired:
            return _Lost("closed the connection to the suite")
        if self._too_late:
            return _Stopped(f"did not return within {limit:g} s")
        if status >= 0:
            return _Lost(f"exited with status {status}")
        return _Lost(f"died of signal {signal.Signals(-status).name}")

    def _watch(self) -> None:
        """Kill the process when its time is over. A thread, because any read or write here may be what waits."""
        while not self._ended.wait(0.1):
            if time.monotonic() > self._deadline:
                self._too_late = True
                self._kill()
                return

    def _keep_tail(self) -> None:
        """Read what the backend prints, and keep its end."""
        assert self._popen.stderr is not None
        with suppress(OSError, ValueError):
            while printed := os.read(self._popen.stderr.fileno(), 2**16):
                self._tail = (self._tail + printed)[-2000:]

    def last_words(self) -> str:
        """The last lines that the process has printed."""
        self._drain.join(1)
        lines = self._tail.decode(errors="replace").split("\n")
        return " | ".join(" ".join(line.split()) for line in lines if line.strip())[-300:]

    def _kill(self) -> None:
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(self._popen.pid, signal.SIGKILL)  # with whatever it has started
            self._popen.kill()

    def stop(self) -> None:
        """End the process and wait for its end."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._kill()
        self._popen.wait()
        for stream in (self._requests, self._replies):
            with suppress(OSError):
                stream.close()
        atexit.unregister(self.stop)
