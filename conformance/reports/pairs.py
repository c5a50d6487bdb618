"""Conversions between any two columns of a merged matrix, wherever they ran.

Backends that differ in dependencies never meet in one process. Each is stood for by the formulas that it was found to
follow, and the conversions are executed and verified on these. Columns that do the same share theirs; one that was seen
to do what no known formula does is like no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from normspec.conformance.cases.pools import DEFAULT_SEED, PROFILES
from normspec.conformance.conventions.conventions import FOUND, NOT_OFFERED, Conventions
from normspec.conformance.conventions.conversion import Conversion, conversions
from normspec.conformance.reports.merged import Column
from normspec.conformance.verdicts.laboratory import Laboratory

A, B = "normspec_a", "normspec_b"
"""What the two backends are called in a conversion: whoever shows it puts their names there."""


@dataclass(frozen=True)
class Pair:
    """How all columns of one group are converted to do what those of another do."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    """None within a group: there, on the formulas found, the same numbers do the same."""


def pairs(columns: Sequence[Column]) -> list[Pair]:
    """For every two groups of columns that do not follow the same rules with the same defaults, both ways."""
    groups: dict[object, list[tuple[str, Conventions]]] = {}
    for column in columns:
        if column.conventions is not None:
            one = _in_one_dtype(column.conventions)
            key = _key(one) if _is_known(one) else column.id
            groups.setdefault(key, []).append((column.id, one))
    laboratory = Laboratory(PROFILES["quick"], DEFAULT_SEED)
    found = []
    for sources, targets in permutations(groups.values(), 2):
        a, b = _called(sources[0][1], A), _called(targets[0][1], B)
        made = tuple(conversions(a, b, laboratory))
        found.append(Pair(tuple(name for name, _ in sources), tuple(name for name, _ in targets), made))
    return found


def dtype_of(one: Conventions) -> str:
    """The dtype whose formulas stand for a column: a convention of arithmetic does not go by the dtype.

    Where one does, the facts of the columns say so.
    """
    return "float32" if "float32" in one.dtypes else one.dtypes[0]


def _in_one_dtype(one: Conventions) -> Conventions:
    dtype = dtype_of(one)
    return replace(one, dtypes=(dtype,), conduct={place: c for place, c in one.conduct.items() if place[0] == dtype})


_PATHS = ("training statistics", "variance that is tracked", "evaluation normalizes with")
"""A topic that tells, for each of training, tracking and evaluation, whether its formula was found."""


def _is_known(one: Conventions) -> bool:
    """Whether there is a formula for all that it offers, and anything at all."""
    findings = [f for topic in _PATHS for f in one.fact(topic).findings if f.dtype in one.dtypes]
    found = any(rules is not None for conduct in one.conduct.values() for rules in vars(conduct).values())
    return found and all(f.status in (FOUND, NOT_OFFERED) for f in findings)


def _key(one: Conventions) -> object:
    """What a conversion depends on."""
    steps = tuple(value for value, _ in one.fact("layer, several steps").values(one.dtypes))
    return frozenset(one.conduct.items()), one.eps, one.momentum, one.start, steps


def _called(one: Conventions, name: str) -> Conventions:
    return replace(one, backend=replace(one.backend, name=name, spec=name))
