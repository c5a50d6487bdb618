"""Which rules explain the results of a backend: each quantity once, on exact data, the fewest choices first."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import Arithmetic, formula_grades
from normspec.conformance.cases.operations import STATE
from normspec.conformance.claims.claims import CLAIMS, Rival
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.experiments import (
    COUPLING,
    CUMULATIVE,
    EVALUATE,
    EVALUATE_GRADIENTS,
    EVERY_BATCH,
    FRESH,
    LAYER,
    MOMENTS,
    REGROUPED,
    REPEATED,
    TRAIN,
    TRAIN_GRADIENTS,
    Experiment,
)
from normspec.conformance.verdicts.evidence import Evidence, agreement, missed
from normspec.conformance.verdicts.laboratory import Laboratory, on
from normspec.conformance.verdicts.observed import Compared, Observation

Choices = tuple[Rival, ...]
"""Choices that differ from the article's, about different fields of `Rules`; none is the article itself."""
Shown = tuple[Experiment, str]
"""An experiment, and a quantity that it shows."""

GRADIENTS = ("dx", "dweight", "dbias")
OWNER = {
    **{(TRAIN.name, name): "precision.within-bound" for name in ("y", *STATE)},
    (EVALUATE.name, "y"): "precision.within-bound",
    **{(e.name, name): "precision.within-bound" for e in (TRAIN_GRADIENTS, EVALUATE_GRADIENTS) for name in GRADIENTS},
    **{(LAYER.name, name): "layer.follows-operation" for name in ("y", *STATE, "evaluation")},
}
"""The claim that fails where nothing explains a quantity. The other claims then say that they cannot be told."""

_OF_Y = frozenset({"axes", "training_statistics", "ddof", "eps_rule", "centered", "scaled", "affine"})
_OF_STATE = frozenset({"update", "extremes", "tracked_variance", "tracked_of"})
_JUDGED: Sequence[tuple[Experiment, str, frozenset[str]]] = (
    (TRAIN, "y", _OF_Y),
    (TRAIN, "running_mean", _OF_STATE),
    (TRAIN, "running_var", _OF_STATE),
    (EVALUATE, "y", frozenset({"evaluation_statistics", "folded"})),
    (LAYER, "running_mean", frozenset({"update"})),
    (LAYER, "running_var", frozenset({"update", "tracked_variance"})),
)
"""The quantities on which the claims about these fields of `Rules` are judged."""

_FIRST = {
    **{(TRAIN_GRADIENTS.name, name): (TRAIN, "y") for name in GRADIENTS},
    **{(EVALUATE_GRADIENTS.name, name): (EVALUATE, "y") for name in GRADIENTS},
    **{(LAYER.name, name): (TRAIN, name) for name in ("y", *STATE)},
    (LAYER.name, "evaluation"): (EVALUATE, "y"),
}
"""The quantity whose explanation is tried first for another."""

_OF_TRAINING, _OF_UPDATE = ((TRAIN, "y"),), tuple((TRAIN, name) for name in STATE)
_MADE_OF = {
    MOMENTS.name: _OF_TRAINING,
    COUPLING.name: _OF_TRAINING,
    REGROUPED.name: ((EVALUATE, "y"),),
    REPEATED.name: _OF_UPDATE,
    EVERY_BATCH.name: (*_OF_TRAINING, *_OF_UPDATE),
    CUMULATIVE.name: tuple((LAYER, name) for name in STATE),
    FRESH.name: ((LAYER, "evaluation"),),
}
"""The quantities that the results of an experiment of several calls follow from."""


def follows_from(evidence: Sequence[Evidence]) -> list[Shown]:
    """The quantities that all of it follows from."""
    found: list[Shown] = []
    for part in evidence:
        found += _MADE_OF.get(part.experiment.name, tuple((part.experiment, quantity) for quantity in part.quantities))
    return found


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a backend in a dtype: the choices that explain each quantity."""

    laboratory: Laboratory
    backend: Backend
    dtype: str

    @cached_property
    def _explained(self) -> dict[tuple[str, str, frozenset[str]], Choices | None]:
        return {}

    def explanation(
        self, experiment: Experiment, quantity: str, apart_from: frozenset[str] = frozenset()
    ) -> Choices | None:
        """The fewest choices that explain a quantity, the fields in `apart_from` left aside; None if none do."""
        key = experiment.name, quantity, apart_from
        if key not in self._explained:
            self._explained[key] = self._explain(experiment, quantity, apart_from)
        return self._explained[key]

    def _explain(self, experiment: Experiment, quantity: str, apart_from: frozenset[str]) -> Choices | None:
        evidence = self._exact(experiment, quantity)
        if not evidence.observations or follows_article(formula_grades(self.dtype), evidence):
            return ()
        first = _FIRST.get((experiment.name, quantity))
        likely = self.explanation(*first, apart_from) if first else ()
        if experiment.layer and likely is None:  # nor is there a formula for a layer around that operation
            return None
        return explain(self.dtype, evidence, apart_from, likely or ())

    def _exact(self, experiment: Experiment, quantity: str) -> Evidence:
        """What the backend shows of a quantity on exact data."""
        pool = pools.layers if experiment.layer else pools.EXACT[experiment.operation]
        outcomes = self.laboratory.traces(self.backend, self.dtype, on(pool, experiment, quantity))
        return Evidence(experiment, (quantity,), tuple(o for o in outcomes if isinstance(o, Observation)))

    def choices(self, experiment: Experiment, quantity: str, apart_from: frozenset[str] = frozenset()) -> Choices:
        """The same, where what nothing explains is taken for the article's."""
        return self.explanation(experiment, quantity, apart_from) or ()

    def refused(self, *, layer: bool) -> list[Rival]:
        """The choices for which some claim refuses the backend: they excuse what follows from them."""
        return [
            rival
            for experiment, quantity, fields in _JUDGED
            if layer or not experiment.layer
            for rival in self.choices(experiment, quantity)
            if rival.fields <= fields
        ]

    def behind(self, evidence: Sequence[Evidence]) -> list[Choices]:
        """The choices that explain what the evidence follows from: of each quantity, and of all together."""
        found = [self.choices(*shown) for shown in follows_from(evidence)]
        together = {rival.change: rival for choices in found for rival in choices}
        return list(dict.fromkeys(choices for choices in (*found, tuple(together.values())) if choices))

    def owner(self, evidence: Sequence[Evidence], claim: str, arithmetic: Arithmetic | None = None) -> str:
        """The claim other than `claim` that fails for what nothing explains behind the evidence; "" if all is.

        With `arithmetic`, what the article's formula explains in that arithmetic is explained.
        """
        shown = follows_from(evidence)
        of_operation = [_FIRST[e.name, q] for e, q in shown if e.layer and (e.name, q) in _FIRST]
        for experiment, quantity in (*of_operation, *shown):
            owner = OWNER.get((experiment.name, quantity), "")
            if owner in ("", claim) or self.explanation(experiment, quantity) is not None:
                continue
            if arithmetic is None or not agreement([self._exact(experiment, quantity)], (), arithmetic).holds:
                return owner
        return ""


def known(laboratory: Laboratory, backend: Backend, dtype: str) -> Known:
    """What is known of a backend in a dtype, found out once for all claims."""
    return laboratory.once(("known", backend.spec, dtype), lambda: Known(laboratory, backend, dtype))


# -- the search -------------------------------------------------------------------------------------------------------


def follows_article(grades: Sequence[Arithmetic], evidence: Evidence) -> bool:
    """Whether the article's formula alone agrees with all of it, in one of the grades."""
    seen = (agreement([evidence], (), arithmetic) for arithmetic in grades)
    return any(one.holds and one.decided for one in seen)


def explain(
    dtype: str, evidence: Evidence, apart_from: frozenset[str] = frozenset(), likely: Choices = ()
) -> Choices | None:
    """The fewest choices that explain one experiment: none if the article does, else up to three; None if none do.

    The fields of `Rules` in `apart_from` are left as the article has them. `likely` is tried before the others.
    """
    grades = formula_grades(dtype)
    if any(agreement([evidence], (), arithmetic).holds for arithmetic in grades):
        return ()
    few = distinguishing([evidence], grades[0])
    for arithmetic in grades if likely else ():
        if fits([evidence], few, likely, arithmetic):
            return likely
    others = other_choices(apart_from, [evidence], grades[0])
    for choices, arithmetic in combined(others, grades, 2 if likely or len(others) > 30 else 3):
        if fits([evidence], few, choices, arithmetic):
            return choices
    return None


def combined(others: Sequence[Rival], grades: Sequence[Arithmetic], most: int) -> Iterator[tuple[Choices, Arithmetic]]:
    """Up to `most` choices of `others` about different fields: one in every grade, then more, in two of them.

    More in a fine grade go before fewer in a coarse one, whose bounds may hide a choice.
    """
    plan = [(1, a) for a in grades]
    plan += [(count, a) for a in dict.fromkeys((grades[0], grades[-1])) for count in range(2, most + 1)]
    for count, arithmetic in plan:
        for chosen in combinations(others, count):
            if len(frozenset().union(*(r.fields for r in chosen))) == count:
                yield chosen, arithmetic


def distinguishing(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> list[Evidence]:
    """A few observations that the article's formula misses, of different shapes: most wrong formulas miss them, too."""
    found = []
    for part in evidence:
        outside = missed(part, arithmetic)
        by_shape = {o.case.shape: o for o in part.observations if o in outside}
        if by_shape:
            found.append(replace(part, observations=tuple(by_shape.values())[:4]))
    return found


def fits(evidence: Sequence[Evidence], few: Sequence[Evidence], choices: Choices, arithmetic: Arithmetic) -> bool:
    """Whether the choices explain all of it; `few` are looked at first."""
    if not agreement(few, choices, arithmetic, hasty=True).holds:
        return False
    seen = agreement(evidence, choices, arithmetic, hasty=True)
    return seen.holds and seen.decided > 0


def other_choices(apart_from: Collection[str], evidence: Sequence[Evidence], arithmetic: Arithmetic) -> list[Rival]:
    """The rivals of all claims that show in the quantities at hand, about other fields than those given."""
    others: dict[tuple[tuple[str, object], ...], Rival] = {}
    operations = {part.experiment.operation for part in evidence}
    if "train split" in operations:  # a split batch is still batch norm's, and follows its choices
        operations.add("batch norm")
    for other in CLAIMS.values():
        for rival in other.rivals if other.operation in operations else ():
            if rival.change and not rival.fields & {*apart_from, "counted"}:  # how long sums end is told by long sums
                others.setdefault(rival.change, rival)  # a formula goes by the name that its first claim gives it
    return [rival for rival in others.values() if _shows(rival, evidence, arithmetic)]


def _shows(rival: Rival, evidence: Sequence[Evidence], arithmetic: Arithmetic) -> bool:
    """Whether a rival predicts anything else than the article on a dozen of the cases, or on four of a layer."""
    for part in evidence:
        seen = part.observations[: 4 if part.experiment.layer else 12]
        # What a rival changes hardly depends on the backend, not even in a layer: it is found out once.
        key = (rival.change, part.experiment, part.quantities, part.beside, tuple(o.case for o in seen), arithmetic)
        if key not in _SHOWS:
            few = replace(part, observations=seen)
            _SHOWS[key] = any(_changes(rival, few, stack, arithmetic) for stack in few.compared)
        if _SHOWS[key]:
            return True
    return False


_SHOWS: dict[tuple[object, ...], bool] = {}


def _changes(rival: Rival, part: Evidence, stack: Compared, arithmetic: Arithmetic) -> bool:
    usual, other = (stack.values(part.quantities, part.rules(rivals), arithmetic) for rivals in ((), (rival,)))
    return any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(usual, other, strict=True))
