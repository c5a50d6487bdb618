"""Runs experiments, each once: traces are kept, and shared by all claims that need them."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

from numpy.typing import NDArray

from normspec.conformance.cases import pools
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.memory import KEPT
from normspec.conformance.cases.pools import Pool, Profile
from normspec.conformance.predictions import stacks
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered
from normspec.conformance.trials.experiments import Experiment, Trace
from normspec.conformance.verdicts import observed
from normspec.conformance.verdicts.observed import Observation

_Made = TypeVar("_Made")


class Question(NamedTuple):
    """An experiment on a pool of cases, and the quantities of its trace that bear on a claim."""

    pool: Pool
    experiment: Experiment
    quantities: tuple[str, ...]
    refusable: bool = False
    """Whether a backend may refuse such input: an exception then leaves the question open instead of being a crash."""
    follows: "tuple[Experiment, str] | None" = None
    """The experiment and quantity by whose rules, as found, the answer is judged first."""

    def beside(self, experiment: Experiment, quantity: str) -> "Question":
        """The same question, judged beside the choices that the backend follows in another experiment."""
        return self._replace(follows=(experiment, quantity))


def on(pool: Pool, experiment: Experiment, *quantities: str, refusable: bool = False) -> Question:
    """A question, written as it is read: on this pool, that experiment, these quantities."""
    return Question(pool, experiment, quantities, refusable)


@dataclass(frozen=True)
class Failed:
    """A call that crashed, in place of its trace."""

    case: Case
    error: Crashed


class Laboratory:
    """Runs experiments, each once: traces are kept and shared by the claims that ask for them."""

    def __init__(self, profile: Profile, seed: int) -> None:
        self.profile, self.seed = profile, seed
        self._traces: dict[tuple[str, str, str, str], list[Observation | Failed | NotOffered]] = {}
        self._made: dict[Hashable, Any] = {}
        self._target = ("", "")

    def traces(self, backend: Backend, dtype: str, question: Question) -> list[Observation | Failed | NotOffered]:
        """What a backend showed on every case of a pool, in the pool's order."""
        key = (backend.spec, dtype, question.pool.name, question.experiment.name)
        if key not in self._traces:
            cases = pools.draw(question.pool, dtype, self.profile, self.seed)
            if backend.compiles and question.pool.few:
                cases = cases[: question.pool.few]
            self._traces[key] = [_kept(backend, question.experiment, case) for case in cases]
        return self._traces[key]

    def once(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """What `make` gives, made once for all claims that ask by this key; raises again what it raised."""
        if key not in self._made:
            try:
                self._made[key] = make()
            except (NotOffered, Crashed) as error:
                self._made[key] = error
        made = self._made[key]
        if isinstance(made, NotOffered | Crashed):
            raise made
        return cast(_Made, made)

    def turn_to(self, backend: Backend, dtype: str) -> None:
        """Let go of the traces of other backends and dtypes: the checks of a run come one target after another."""
        if (target := (backend.spec, dtype)) != self._target:
            self.forget_traces()
            self._target = target

    def forget_traces(self) -> None:
        """Let go of all traces."""
        self._traces.clear()
        observed.forget()

    def forget(self) -> None:
        """Let go of all traces and predictions, when memory matters more than time."""
        self._made.clear()
        self.forget_traces()
        stacks.forget()


class Rerun(Mapping[str, NDArray[Any]]):
    """The trace of a large case, made anew where it is looked at: many do not fit into memory."""

    def __init__(self, backend: Backend, experiment: Experiment, case: Case) -> None:
        self._observe = partial(experiment.observe, backend, case)

    def _trace(self) -> Trace:
        if Rerun._last is None or Rerun._last[0] is not self:
            Rerun._last = None  # make room first
            Rerun._last = (self, self._observe())
        return Rerun._last[1]

    _last: "ClassVar[tuple[Rerun, Trace] | None]" = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._trace()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trace())

    def __len__(self) -> int:
        return len(self._trace())


def _kept(backend: Backend, experiment: Experiment, case: Case) -> Observation | Failed | NotOffered:
    """One experiment on one case, with a trace that may be kept."""
    outcome = observe(backend, experiment, case)
    if isinstance(outcome, Observation) and case.elements > KEPT:
        return Observation(case, Rerun(backend, experiment, case))
    return outcome


def observe(backend: Backend, experiment: Experiment, case: Case) -> Observation | Failed | NotOffered:
    """One experiment on one case."""
    try:
        return Observation(case, experiment.observe(backend, case))
    except NotOffered as error:
        return error
    except Crashed as error:
        return Failed(case, error)
