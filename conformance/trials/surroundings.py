"""What a call must not change although it is not given it: NumPy's settings, random state, environment.

Looked at only where a check asks, inside `observed`: then around every call, and all but the random state is put back,
so that what is changed again shows again. The random state is stirred before each call instead: a generator that is
seeded anew every time would else look untouched, and one that is put back would make random results repeat.
"""

import operator
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

_NAMESPACES = {
    space: [name for name, value in vars(space).items() if callable(value)] for space in (np, np.linalg, np.random)
}
_get_state, _random, _seterr, _geterr = np.random.get_state, np.random.random, np.seterr, np.geterr


class _Surroundings(NamedTuple):
    errors: dict[str, Any]
    filters: list[Any]
    random_state: tuple[Any, ...]
    environment: dict[str, str]
    folder: str
    functions: dict[Any, list[Any]]


_observers: list[list[str]] = []


@contextmanager
def observed() -> Iterator[list[str]]:
    """A list that fills with what the calls made meanwhile change around them, as the claim's rivals name it."""
    seen: list[str] = []
    _observers.append(seen)
    try:
        yield seen
    finally:
        _observers.remove(seen)


def wanted() -> bool:
    """Whether anyone observes."""
    return bool(_observers)


def report(changes: Sequence[str]) -> None:
    """Tell all observers."""
    for seen in _observers:
        seen.extend(changes)


@contextmanager
def watched() -> Iterator[None]:
    """Around one call: reports what it changed and puts it back."""
    if not _observers:
        yield
        return
    random.random()
    _random()
    _seterr(all="warn")  # else turning it off would change nothing; the caller has its own state to go back to
    before = _look()
    try:
        yield
    finally:
        report(_put_back(before, _look()))


def _look() -> _Surroundings:
    kind, keys, *rest = _get_state()
    return _Surroundings(
        _geterr(),  # type: ignore[arg-type]
        list(warnings.filters),
        (random.getstate(), kind, np.asarray(keys).tobytes(), *rest),
        dict(os.environ),
        _folder(),
        {space: [vars(space).get(name) for name in names] for space, names in _NAMESPACES.items()},
    )


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # someone has removed it
        return ""


def _put_back(before: _Surroundings, after: _Surroundings) -> list[str]:
    changes = []
    if after.errors != before.errors:
        changes.append("changes NumPy's error state")
        _seterr(**before.errors)
    if after.filters != before.filters:
        changes.append("changes the warning filters")
        warnings.filters[:] = before.filters  # type: ignore[index]
    if after.random_state != before.random_state:
        changes.append("changes the random state")
    if after.environment != before.environment:
        changes.append("changes the environment")
        os.environ.clear()
        os.environ.update(before.environment)
    if after.folder != before.folder:
        changes.append("changes the working directory")
        os.chdir(before.folder)
    replaced = False
    for space, functions in before.functions.items():
        if any(map(operator.is_not, functions, after.functions[space])):
            replaced = True
            for name, function in zip(_NAMESPACES[space], functions, strict=True):
                setattr(space, name, function)
    return [*changes, "replaces functions of NumPy"] if replaced else changes
