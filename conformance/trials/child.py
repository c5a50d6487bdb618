"""The process in which a backend lives: opens the adapter, then answers calls until its standard input ends.

Whatever comes back is reduced here to plain values and memory, so that nothing of the backend's own kind, nothing lazy
and nothing enormous reaches the judge.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np

from normspec.conformance.cases.operations import METHODS, PARAMETERS, STATE
from normspec.conformance.trials import adapters, surroundings, wire
from normspec.conformance.trials.adapters import BadAdapter, Unavailable

FUNCTIONS = (*METHODS, "layer", "train_network")
OF_LAYER = ("train", "evaluate", "state")
_KEPT_RESULTS, _KEPT_BYTES = 16, 2**24
"""How much of earlier results is kept, to see whether later calls change them."""
_ROOM = 2**20
"""Elements that a result may have beyond those of all arguments before its values are of no interest."""

_may_share_memory, _ndarray = np.may_share_memory, np.ndarray


def main(spec: str, gibibytes: float) -> None:
    """Serve the adapter that `spec` names over standard input and output, which the backend itself does not get."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what the backend prints goes where its errors go
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    wire.send(replies, "started")
    adapter, about = _opened(spec)
    _limit_memory(gibibytes)
    wire.send(replies, about)
    if adapter is not None:
        with suppress(EOFError):
            _Server(adapter, requests, replies).run()
    os._exit(0)  # no exit handler, no thread of the backend may keep the process


def _end_with(parent: int) -> None:
    """End as soon as the judge's process is gone."""
    while os.name == "posix" and os.getppid() == parent:
        time.sleep(1)
    if os.name == "posix":
        os.kill(os.getpid(), signal.SIGKILL)


def _limit_memory(gibibytes: float) -> None:
    """Allow so much beyond what is in use now. Linux alone counts what is allocated, and not what is merely reserved,
    as frameworks do for a GPU; elsewhere there is no limit.
    """
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + int(gibibytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _opened(spec: str) -> tuple[Any, tuple[str, Any]]:
    """The adapter, and what it says of itself in plain values; or why there is none."""
    try:
        backend = adapters.open_backend(spec)
        plain = {
            "name": backend.name,
            "version": backend.version,
            "dtypes": tuple(map(str, backend.dtypes)),
            "deviations": [dict(vars(d)) for d in backend.deviations],
            "compiles": backend.compiles,
            "source": None if backend.source is None else tuple(backend.source),
            "offers": [m for m in FUNCTIONS if callable(getattr(backend.adapter, m, None))],
        }
        return backend.adapter, ("opened", plain)
    except BadAdapter as problem:
        return None, ("bad", str(problem))
    except Unavailable as reason:
        return None, ("unavailable", str(reason))
    except BaseException as error:
        return None, ("bad", f"{spec} cannot be opened: {adapters.told(error)}.")


class _Server:
    """Answers calls on the adapter and on the layers that it makes."""

    def __init__(self, adapter: Any, requests: IO[bytes], replies: IO[bytes]) -> None:
        self.requests, self.replies = requests, replies
        self.targets = {0: adapter}
        self.made = 0
        self.results: deque[tuple[int, Any, bytes]] = deque()
        self.held = 0

    def run(self) -> None:
        """Until there are no more requests."""
        while True:
            target, method, packed, options, freed, watched = wire.receive(self.requests)
            for layer in freed:
                self.targets.pop(layer, None)
            arrays = {id(a): wire.unpack(a) for a in packed if isinstance(a, tuple)}  # one given twice stays one
            arguments = [arrays.get(id(a), a) for a in packed]
            outcome, changes = self.outcome(self.targets[target], method, arguments, options, watched)
            written = [
                (i, wire.memory(a))
                for i, (a, was) in enumerate(zip(arguments, packed, strict=True))
                if isinstance(was, tuple) and wire.memory(a) != was[4]
            ]
            wire.send(self.replies, (outcome, changes, written, self.stale()))

    def outcome(
        self, target: Any, method: str, arguments: Sequence[Any], options: Mapping[str, Any], watched: bool
    ) -> tuple[tuple[str, Any], list[str]]:
        """What came of a call, in plain values, and what it changed around it."""
        changes: list[str] = []
        try:
            function = getattr(target, method)
            if watched:
                with surroundings.observed() as changes:
                    returned = adapters.called(function, *arguments, **options)
            else:
                returned = adapters.called(function, *arguments, **options)
            return self.plain(method, returned, arguments), changes
        except NotImplementedError as error:
            return ("absent", adapters.text(error)), changes
        except BaseException as error:
            error.__traceback__ = None  # lets go of what the call held: memory may be what is lacking
            told = adapters.told(error), isinstance(error, Exception), isinstance(error, MemoryError)
            return ("raised", told), changes

    def plain(self, method: str, returned: Any, arguments: Sequence[Any]) -> tuple[str, Any]:
        """A result as it travels: its kind, and its arrays or a description."""
        if method == "layer":
            if not all(callable(getattr(returned, name, None)) for name in OF_LAYER):
                return "other", adapters.described(returned)
            self.made += 1
            self.targets[self.made] = returned
            return "layer", self.made
        given = [(i, a) for i, a in enumerate(arguments) if isinstance(a, _ndarray)]
        room = _ROOM + sum(a.size for _, a in given)
        if method == "state" and isinstance(returned, Mapping):
            held = [name for name in (*PARAMETERS, *STATE) if name in returned]
            return "state", {name: self.element(returned[name], given, room) for name in held}
        if isinstance(returned, tuple | list) and len(returned) <= 8:
            kind = "tuple" if isinstance(returned, tuple) else "list"
            return kind, [self.element(value, given, room) for value in returned]
        return "one", self.element(returned, given, room)

    def element(self, value: Any, given: Sequence[tuple[int, Any]], room: int) -> tuple[str, Any]:
        """One of the values returned; only an array of a float dtype and a sensible size travels as such."""
        if not issubclass(type(value), _ndarray):
            return "other", adapters.described(value)
        array = value if type(value) is _ndarray else value.view(_ndarray)
        if array.dtype not in wire.NAMES or array.size > room:
            return "hollow", wire.hollow(array)
        self.made += 1
        for position, argument in given:
            if _may_share_memory(array, argument):
                _, shape, strides, _, memory = packed = wire.pack(array)
                start = array.__array_interface__["data"][0] - wire.span(argument)[0]
                self.keep(array, memory)
                return "view", (self.made, position, (packed[0], shape, strides, start, None))
        if not array.flags.c_contiguous and wire.span(array)[1] > 2 * array.nbytes:
            array = array.copy()  # mostly gaps, which are of no interest in a result
        packed = wire.pack(array)
        self.keep(array, packed[4])
        return "array", (self.made, packed)

    def keep(self, array: Any, memory: bytes) -> None:
        """Remember a result as it is now, and forget the oldest beyond what is kept."""
        self.results.append((self.made, array, memory))
        self.held += len(memory)
        while len(self.results) > _KEPT_RESULTS or self.held > _KEPT_BYTES:
            self.held -= len(self.results.popleft()[2])

    def stale(self) -> list[tuple[int, bytes]]:
        """The earlier results that hold other values than they did, as they are now."""
        found = []
        for position, (number, array, was) in enumerate(self.results):
            now = wire.memory(array)
            if now != was:
                self.results[position] = (number, array, now)
                found.append((number, now))
        return found
