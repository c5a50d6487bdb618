"""The results that decide a claim, and whether a formula agrees with them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Case
from normspec.conformance.claims.claims import Rival
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.experiments import Experiment
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.observed import Compared, Observation, compared, expected_of
from normspec.conformance.verdicts.verdicts import Counterexample
from normspec.reference import Rules


@dataclass(frozen=True)
class Evidence:
    """What one experiment showed on many cases, and the quantities that bear on the claim."""

    experiment: Experiment
    quantities: tuple[str, ...]
    observations: tuple[Observation, ...]
    beside: tuple[Rival, ...] = ()
    """Choices that the backend is known to follow otherwise."""
    follows: tuple[Experiment, str] | None = None
    """The experiment and quantity beside whose choices it may be judged."""

    def rules(self, rivals: Sequence[Rival] = ()) -> Rules:
        """The base with the choices of `rivals`."""
        return reduce(lambda rules, rival: rival.rules(rules), (*self.beside, *rivals), self.experiment.base)

    @property
    def compared(self) -> tuple[Compared, ...]:
        """The observations in stacks."""
        return compared(self.experiment, self.observations)

    def expected(
        self, observation: Observation, rivals: Sequence[Rival], arithmetic: Arithmetic
    ) -> Iterator[tuple[str, Expected]]:
        """Every predicted array of one observation that bears on the claim, by name."""
        told = expected_of(self.experiment, observation, self.rules(rivals), arithmetic)
        for name in told:
            if name.partition("@")[0] in self.quantities:
                yield name, told[name]


class Agreement(NamedTuple):
    """How a formula fares on all evidence."""

    holds: bool
    worst: Mapping[str, float]
    """Largest error over bound by quantity; where it does not hold, of the first case that refutes it."""
    decided: int
    """Elements with a finite bound."""


def agreement(
    evidence: Sequence[Evidence], rivals: Sequence[Rival], arithmetic: Arithmetic, *, hasty: bool = False
) -> Agreement:
    """Whether everything seen agrees in `arithmetic` with the choices of `rivals`, without any with the article.

    Stops at the first stack of cases that does not; if `hasty`, at the first quantity in it.
    """
    worst: dict[str, float] = {}
    decided = 0
    for part in evidence:
        rules = part.rules(rivals)
        for stack in part.compared:
            holds = True
            for quantity in part.quantities:
                seen = stack.mismatch(quantity, rules, arithmetic)
                if seen is None:
                    continue
                decided += seen.decided
                largest = float(seen.worst.max(initial=0.0))
                worst[quantity] = max(worst.get(quantity, 0.0), largest)
                holds = holds and largest <= 1
                if hasty and not holds:
                    break
            if not holds:
                return Agreement(False, worst, decided)
    return Agreement(True, worst, decided)


def missed(part: Evidence, arithmetic: Arithmetic) -> set[Observation]:
    """The observations that the article's formula misses."""
    return {o for o, wrong, _ in _each(part, arithmetic) if wrong}


def _each(part: Evidence, arithmetic: Arithmetic) -> Iterator[tuple[Observation, bool, bool]]:
    """Each observation, once a quantity: whether the article's formula misses it, and whether any bound is finite."""
    rules = part.rules()
    for stack in part.compared:
        for quantity in part.quantities:
            if (seen := stack.mismatch(quantity, rules, arithmetic)) is not None:
                yield from zip(stack.observations, seen.worst > 1, seen.told, strict=True)


def counterexample(evidence: Evidence, observation: Observation, arithmetic: Arithmetic) -> Counterexample | None:
    """The element of an observation that is furthest outside its bound, or None if all are inside."""
    found, largest = None, 1.0
    for name, expected in evidence.expected(observation, (), arithmetic):
        got = observation.trace[name]
        ratio = np.nan_to_num(ratios(got, expected), nan=0.0, posinf=np.inf)
        if ratio.size and ratio.max() > largest:
            index = np.unravel_index(int(ratio.argmax()), ratio.shape)
            largest = float(ratio.max())
            found = Counterexample(
                case=repr(observation.case),
                experiment=evidence.experiment.name,
                quantity=name,
                index=tuple(int(i) for i in index),
                got=float(got[index]),
                expected=float(expected.value[index]),
                bound=float(expected.bound[index]),
            )
    return found


def split(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> tuple[list[Case], list[Case]]:
    """The cases that leave the formula somewhere, and those that agree; what has no finite bound is neither."""
    wrong: dict[Case, None] = {}
    seen: dict[Case, None] = {}
    for part in evidence:
        each = list(_each(part, arithmetic))
        outside = {o for o, is_wrong, _ in each if is_wrong}
        decided = {o for o, _, is_decided in each if is_decided}
        seen.update(dict.fromkeys(o.case for o in part.observations if o in decided))
        wrong.update(dict.fromkeys(o.case for o in part.observations if o in outside))
    return list(wrong), [case for case in seen if case not in wrong]


def in_common_of(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> str:
    """What the cases that the article's formula misses have in common, as the end of a sentence."""
    wrong, right = split(evidence, arithmetic)
    told = in_common(wrong, right)
    return f"; wrong is just what has {told}" if told else ""
