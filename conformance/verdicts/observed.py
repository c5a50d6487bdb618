"""The results of an experiment compared with the predictions of a formula: error over bound, case by case.

Small cases are compared in stacks, see `predictions.stacks`; large ones, and experiments of several calls, alone.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Array, Case
from normspec.conformance.cases.memory import kept_by_size
from normspec.conformance.predictions.calls import Part
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.predictions.stacks import LARGEST, Problem, problems
from normspec.conformance.trials.experiments import Experiment, Trace
from normspec.reference import Rules


@dataclass(frozen=True, eq=False)
class Observation:
    """A case and the trace it left; only itself is equal to it."""

    case: Case
    trace: Trace


class Mismatch(NamedTuple):
    """How one quantity compares, observation by observation."""

    worst: Array
    """The largest error over bound; 0 where nothing is decided."""
    decided: int
    """Elements with a finite bound, of all observations together."""
    told: "NDArray[np.bool_]"
    """Whether an observation has any."""


class Compared(Protocol):
    """Some observations of one experiment."""

    @property
    def observations(self) -> Sequence[Observation]:
        """What is compared."""

    def mismatch(self, quantity: str, rules: Rules, arithmetic: Arithmetic) -> Mismatch | None:
        """Error over bound of a quantity; None where these observations have no such quantity."""

    def values(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[Array]:
        """What is predicted of these quantities."""

    def elements(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[tuple[Array, Array]]:
        """For each of their results what was seen, and error over bound; NaN is undecided."""


@kept_by_size(20_000)
def predicted(case: Case, experiment: Experiment, rules: Rules, arithmetic: Arithmetic) -> Mapping[str, Expected]:
    """A prediction of one case that does not depend on a trace, shared by all claims and backends."""
    return experiment.predict(case, rules, arithmetic, {})


def expected_of(
    experiment: Experiment, observation: Observation, rules: Rules, arithmetic: Arithmetic
) -> Mapping[str, Expected]:
    """A prediction of one observation; that of a layer goes on from the states observed."""
    if experiment.layer:
        return _of_layer(experiment, observation, rules, arithmetic)
    return predicted(observation.case, experiment, rules, arithmetic)


@lru_cache(maxsize=2_000)
def _of_layer(
    experiment: Experiment, observation: Observation, rules: Rules, arithmetic: Arithmetic
) -> Mapping[str, Expected]:
    return experiment.predict(observation.case, rules, arithmetic, observation.trace)


class Alone:
    """One observation."""

    def __init__(self, experiment: Experiment, observation: Observation) -> None:
        self.experiment, self.observations = experiment, (observation,)
        self._known: dict[Hashable, Mapping[str, Mismatch]] = {}

    def mismatch(self, quantity: str, rules: Rules, arithmetic: Arithmetic) -> Mismatch | None:
        """As `Compared` says."""
        if (rules, arithmetic) not in self._known:
            self._known[rules, arithmetic] = self._compared(rules, arithmetic)
        return self._known[rules, arithmetic].get(quantity)

    def _compared(self, rules: Rules, arithmetic: Arithmetic) -> Mapping[str, Mismatch]:
        """All quantities at once: a large case is neither predicted nor run again for each of them."""
        (observation,) = self.observations
        told = expected_of(self.experiment, observation, rules, arithmetic)
        found: dict[str, Mismatch] = {}
        for name, expected in told.items():
            ratio = ratios(observation.trace[name], expected)
            known = ratio[~np.isnan(ratio)]
            quantity = name.partition("@")[0]
            before = found.get(quantity, Mismatch(np.zeros(1), 0, np.zeros(1, np.bool_)))
            worst = np.maximum(before.worst, known.max(initial=0.0))
            found[quantity] = Mismatch(worst, before.decided + known.size, before.told | (known.size > 0))
        return found

    def _told(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[tuple[str, Expected]]:
        told = expected_of(self.experiment, self.observations[0], rules, arithmetic)
        return [(name, told[name]) for name in told if name.partition("@")[0] in quantities]

    def values(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[Array]:
        """As `Compared` says."""
        return [expected.value for _, expected in self._told(quantities, rules, arithmetic)]

    def elements(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[tuple[Array, Array]]:
        """As `Compared` says."""
        told = self._told(quantities, rules, arithmetic)
        seen = [(self.observations[0].trace[name].astype(np.float64), expected) for name, expected in told]
        return [(got, ratios(got, expected)) for got, expected in seen]


class Together:
    """The parts of many observations that are predicted as one problem."""

    def __init__(self, problem: Problem, parts: Sequence[Part], owners: Sequence[Observation]) -> None:
        self.problem, self.parts = problem, parts
        self.observations = tuple(dict.fromkeys(owners))
        place = {observation: i for i, observation in enumerate(self.observations)}
        self._owner = np.array([place[owner] for owner in owners])
        self._owners = owners
        self._got: dict[str, NDArray[np.float64]] = {}
        self._known: dict[Hashable, Mismatch | None] = {}

    def got(self, result: str) -> Array:
        """A result of all parts, flat."""
        if result not in self._got:
            seen = (o.trace[p.results[result]].ravel() for o, p in zip(self._owners, self.parts, strict=True))
            self._got[result] = np.concatenate([a.astype(np.float64) for a in seen])
        return self._got[result]

    def mismatch(self, quantity: str, rules: Rules, arithmetic: Arithmetic) -> Mismatch | None:
        """As `Compared` says."""
        result = next((r for r, q in self.problem.quantities.items() if q == quantity), None)
        if result is None:
            return None
        return _once(self._known, (quantity, rules, arithmetic), lambda: self._compared(result, rules, arithmetic))

    def ratio(self, result: str, rules: Rules, arithmetic: Arithmetic) -> Array:
        """Error over bound of every element; NaN is undecided."""
        return ratios(self.got(result), self.problem.predict(rules, arithmetic)[result])

    def _results(self, quantities: Sequence[str]) -> list[str]:
        return [result for result, quantity in self.problem.quantities.items() if quantity in quantities]

    def values(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[Array]:
        """As `Compared` says."""
        told = self.problem.predict(rules, arithmetic)
        return [told[result].value for result in self._results(quantities)]

    def elements(self, quantities: Sequence[str], rules: Rules, arithmetic: Arithmetic) -> list[tuple[Array, Array]]:
        """As `Compared` says."""
        return [(self.got(name), self.ratio(name, rules, arithmetic)) for name in self._results(quantities)]

    def _compared(self, result: str, rules: Rules, arithmetic: Arithmetic) -> Mismatch:
        ratio = self.ratio(result, rules, arithmetic)
        open_ = np.isnan(ratio)
        undecided, starts = int(open_.sum()), self.problem.starts(result)
        told = np.ones(len(self.observations), np.bool_)
        if undecided:
            ratio = np.where(open_, 0.0, ratio)
            told[:] = False
            np.logical_or.at(told, self._owner, ~np.logical_and.reduceat(open_, starts))
        worst = np.zeros(len(self.observations))
        np.maximum.at(worst, self._owner, np.maximum.reduceat(ratio, starts))
        return Mismatch(worst, ratio.size - undecided, told)


def _once(
    known: dict[Hashable, Mismatch | None], key: Hashable, make: Callable[[], Mismatch | None]
) -> Mismatch | None:
    if key not in known:
        known[key] = make()
    return known[key]


@lru_cache(maxsize=256)
def compared(experiment: Experiment, observations: tuple[Observation, ...]) -> tuple[Compared, ...]:
    """The observations in stacks, as far as they can be stacked."""
    alone: list[Compared] = []
    parts: list[Part] = []
    owners: list[Observation] = []
    for observation in observations:
        if experiment.parts is None or not 0 < observation.case.elements <= LARGEST:
            alone.append(Alone(experiment, observation))
            continue
        made = _parts(experiment, observation)
        parts += made
        owners += [observation] * len(made)
    stacked = [
        Together(problem, [parts[i] for i in chosen], [owners[i] for i in chosen])
        for problem, chosen in _problems(tuple(parts))
    ]
    return (*stacked, *alone)


def _parts(experiment: Experiment, observation: Observation) -> Sequence[Part]:
    assert experiment.parts is not None
    if experiment.layer:
        return experiment.parts(observation.case, observation.trace)
    return _of_case(experiment, observation.case)


@lru_cache(maxsize=10_000)
def _of_case(experiment: Experiment, case: Case) -> Sequence[Part]:
    """The same parts for every backend, so that they share the predictions."""
    assert experiment.parts is not None
    return tuple(experiment.parts(case, {}))


@lru_cache(maxsize=256)
def _problems(parts: tuple[Part, ...]) -> list[tuple[Problem, list[int]]]:
    return problems(parts)


def forget() -> None:
    """Let go of all that was kept."""
    for kept in (compared, _problems, _of_case, _of_layer):
        kept.cache_clear()
