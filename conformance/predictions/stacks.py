"""Many small cases predicted at once: one call of NumPy for all of them, whatever their shapes.

A `Problem` is many parts of one kind, laid one after another. What it predicts is flat: `y` and `dx` hold all values of
the first part, then those of the second; `running_mean`, `dweight` and the like hold all parameters of the first part,
then those of the second.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Inputs
from normspec.conformance.cases.operations import LIKE
from normspec.conformance.predictions.calls import KINDS, Part, Posed
from normspec.conformance.predictions.prediction import Prediction
from normspec.reference import Rules
from normspec.reference.places import Stack
from normspec.reference.relatives import as_asked

LARGEST = 4096
"""Elements of the largest case that is stacked: a larger one costs more in a flat array than alone."""
ENOUGH = 2**15
"""Elements of a problem: a larger one does not fit into the processor's cache."""


class Problem(Posed):
    """Parts of one kind, one after another."""

    def __init__(self, parts: Sequence[Part]) -> None:
        first = parts[0]
        self.kind, self.quantities, self.asked = first.kind, first.quantities, first.asked
        self.stack = self.places = Stack([part.arrangement.placement for part in parts])
        given = zip(*(part.given for part in parts), strict=True)
        self.given = Inputs(*(np.concatenate([a.ravel() for a in arrays]) for arrays in given))
        self.eps = self.stack.per_parameter([part.eps for part in parts])
        self.has_eps_0 = any(part.eps == 0 for part in parts)
        self.momenta = {part.momentum for part in parts}
        self.momentum = None if first.momentum is None else self.stack.per_parameter([p.momentum or 0 for p in parts])
        self.step = self.stack.per_parameter([part.step for part in parts])
        before = [part.previous for part in parts if part.previous is not None]
        self.previous = np.concatenate([part.given.x.ravel() for part in before]) if before else None
        self.places_before = Stack([part.arrangement.placement for part in before]) if before else None

    def starts(self, result: str) -> "np.ndarray[Any, np.dtype[np.intp]]":
        """Where each part begins in a flat result."""
        return self.stack.starts if LIKE[result] == "x" else self.stack.firsts

    def predict(self, rules: Rules, arithmetic: Arithmetic) -> Prediction:
        """Value and bound of every result; kept for the backends that are given the same cases."""
        rules = self._shown(as_asked(rules, *self.asked))
        key = self, rules, arithmetic
        if (found := _CACHE.get(key)) is None:
            found = KINDS[self.kind](self, rules, arithmetic)
            _CACHE.put(key, found)
        return found

    def _shown(self, rules: Rules) -> Rules:
        """The rules without choices about an eps or a momentum that no part has, so that predictions are shared."""
        if rules.eps_rule == "0 means 1e-5" and not self.has_eps_0:
            rules = replace(rules, eps_rule="inside")
        if rules.extremes != "as given" and float(rules.extremes[0]) not in self.momenta:
            rules = replace(rules, extremes="as given")
        return rules


class _Cache:
    """The predictions used last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._kept: OrderedDict[tuple[Problem, Rules, Arithmetic], tuple[Prediction, int]] = OrderedDict()

    def get(self, key: tuple[Problem, Rules, Arithmetic]) -> Prediction | None:
        """What was kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: tuple[Problem, Rules, Arithmetic], made: Prediction) -> None:
        """Keep it, and let go of what was used longest ago."""
        size = sum(expected.value.nbytes + expected.bound.nbytes for expected in made.values())
        self._kept[key] = made, size
        self.size += size
        while self.size > self.most:
            _, (_, old) = self._kept.popitem(last=False)
            self.size -= old

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self.size = 0


_CACHE = _Cache(96 * 2**20)


def forget() -> None:
    """Let go of all predictions that were kept."""
    _CACHE.clear()


def problems(parts: Sequence[Part]) -> list[tuple[Problem, list[int]]]:
    """The parts sorted into problems, each with the places of its parts in the sequence."""
    by_key: dict[tuple[object, ...], list[list[int]]] = {}
    sizes: dict[tuple[object, ...], int] = {}
    for place, part in enumerate(parts):
        size, key = part.given.x.size, part.key
        if key not in by_key or sizes[key] + size > ENOUGH:
            by_key.setdefault(key, []).append([])
            sizes[key] = 0
        by_key[key][-1].append(place)
        sizes[key] += size
    return [(Problem([parts[i] for i in chosen]), chosen) for chunks in by_key.values() for chosen in chunks]
