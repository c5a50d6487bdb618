"""What wrong cases have in common: the one property that all of them have and no right case has."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normspec.conformance.cases.cases import Case

_SIZES: Mapping[str, Callable[[Case], int]] = {
    "channels": lambda case: case.shape[1],
    "samples": lambda case: case.shape[0],
    "positions": lambda case: math.prod(case.shape[2:]),
    "values a channel": lambda case: case.size,
    "elements": lambda case: case.elements,
}
_NUMBERS: Mapping[str, Callable[[Case], float]] = {
    "eps": lambda case: case.eps,
    "a deviation": lambda case: case.scale,
    "a mean, in deviations,": lambda case: abs(case.location) / case.scale,
    "momentum": lambda case: case.momentum,
}
_DATA = "data {}"
_CHANCE = 0.01
"""How likely wrong cases may share by chance what some right ones have, too, if it is to be told of them."""
_WORDS: Mapping[str, Callable[[Case], Any]] = {
    "{} axes": lambda case: len(case.shape),
    "{} devices": lambda case: case.devices,
    "x {} in memory": lambda case: case.layout,
    "dy {} in memory": lambda case: case.dy_layout or case.layout,
    _DATA: lambda case: case.data.split(" at ")[0].split()[0] if case.data.startswith("exact") else case.data,
}


def in_common(wrong: Sequence[Case], right: Sequence[Case], *, numbers: bool = True) -> str:
    """In words, what tells the wrong cases from the right ones; "" if nothing simple does.

    Without `numbers` only shape and memory are looked at, not the values, eps and momentum.
    """
    if not wrong or not right:
        return ""
    for name, size in _SIZES.items():
        if told := _by_size(name, [size(c) for c in wrong], [size(c) for c in right]):
            return told
    for words, value in _WORDS.items():
        if words == _DATA and not numbers:
            continue
        values = {value(c) for c in wrong}
        if len(values) == 1 and values.isdisjoint(value(c) for c in right):
            return words.format(values.pop())
    if not _contiguous(wrong) and (1 - _contiguous(right) / len(right)) ** len(wrong) < _CHANCE:
        return "arrays that are not contiguous in memory, though not all of that"
    for words, square in (("square images", _square_image), ("as many samples as channels", _square_batch)):
        if all(map(square, wrong)) and not any(map(square, right)):
            return words
    for name, number in _NUMBERS.items() if numbers else ():
        if name == "momentum" and not any(map(number, right)):
            continue  # with momentum 0 no mistake about the batch shows
        if told := _beyond(name, [number(c) for c in wrong], [number(c) for c in right]):
            return told
    return ""


def _by_size(name: str, wrong: Sequence[int], right: Sequence[int]) -> str:
    if len(set(wrong)) == 1 and wrong[0] not in right:
        return f"{wrong[0]} {name}" if wrong[0] != 1 else f"1 of {name}"
    if told := _beyond(name, wrong, right):
        return told
    for block in (2, 4, 8, 16, 32, 64):
        if all(n % block for n in wrong) and not any(n % block for n in right):
            return f"{name} that are no multiple of {block}"
    return ""


def _beyond(name: str, wrong: Sequence[float], right: Sequence[float]) -> str:
    """A threshold with all wrong ones on one side; both of its neighbours are named, since it lies between them."""
    if min(wrong) > max(right):
        return f"{name} from {min(wrong):g} on (right up to {max(right):g})"
    if max(wrong) < min(right):
        return f"{name} up to {max(wrong):g} (right from {min(right):g} on)"
    return ""


def _square_image(case: Case) -> bool:
    return len(case.shape) > 3 and case.shape[-1] == case.shape[-2]


def _square_batch(case: Case) -> bool:
    return case.shape[0] == case.shape[1]


def _contiguous(cases: Sequence[Case]) -> int:
    """How many of the cases hand over contiguous arrays."""
    return sum(case.layout == "contiguous" and case.dy_layout in ("", "contiguous") for case in cases)
