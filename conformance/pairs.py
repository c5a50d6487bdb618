"""Conversions between any two columns of a merged matrix, wherever they ran.

Backends that differ in dependencies never meet in one process. Each is stood for by the formulas that it was found to
follow, and the conversions are executed and verified on these. Columns that do the same share theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from normspec.conformance.checking import Laboratory
from normspec.conformance.conventions import Conventions
from normspec.conformance.conversion import Conversion, conversions
from normspec.conformance.merged import Column
from normspec.conformance.pools import DEFAULT_SEED, PROFILES

A, B = "normspec_a", "normspec_b"
"""What the two backends are called in a conversion: whoever shows it puts their names there."""


@dataclass(frozen=True)
class Pair:
    """How all columns of one group are converted to do what those of another do."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    """None within a group: there the same numbers do the same."""


def pairs(columns: Sequence[Column]) -> list[Pair]:
    """For every two groups of columns that do not follow the same rules with the same defaults, both ways."""
    groups: dict[object, list[tuple[str, Conventions]]] = {}
    for column in columns:
        if column.conventions is not None:
            one = _in_one_dtype(column.conventions)
            groups.setdefault(_key(one), []).append((column.id, one))
    laboratory = Laboratory(PROFILES["quick"], DEFAULT_SEED)
    found = []
    for sources, targets in permutations(groups.values(), 2):
        a, b = _called(sources[0][1], A), _called(targets[0][1], B)
        made = tuple(conversions(a, b, laboratory))
        found.append(Pair(tuple(name for name, _ in sources), tuple(name for name, _ in targets), made))
    return found


def _in_one_dtype(one: Conventions) -> Conventions:
    """A convention of arithmetic does not go by the dtype; where one does, the facts of the columns say so."""
    dtype = "float32" if "float32" in one.dtypes else one.dtypes[0]
    return replace(one, dtypes=(dtype,), conduct={place: c for place, c in one.conduct.items() if place[0] == dtype})


def _key(one: Conventions) -> object:
    """What a conversion depends on."""
    steps = tuple(value for value, _ in one.fact("layer, several steps").values())
    return frozenset(one.conduct.items()), one.eps, one.momentum, one.start, steps


def _called(one: Conventions, name: str) -> Conventions:
    return replace(one, backend=replace(one.backend, name=name, spec=name))
