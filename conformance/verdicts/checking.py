"""The `check` that every test is given: it gathers evidence on a claim, backend and dtype, and settles the verdict."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import GRADES, Arithmetic, formula_grades, shortest
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.memory import KEPT, LARGE
from normspec.conformance.cases.pools import Pool, Profile
from normspec.conformance.claims.claims import Claim, Rival
from normspec.conformance.predictions import stacks
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.trials.adapters import Backend, Crashed, Hung, NotOffered
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
    STATE,
    TRAIN,
    TRAIN_GRADIENTS,
    Experiment,
    Trace,
    given,
    undisturbed,
)
from normspec.conformance.verdicts import observed
from normspec.conformance.verdicts.judging import (
    Evidence,
    agreement,
    counterexample,
    explanation,
    follows_article,
    judge_formula,
    judge_grade,
)
from normspec.conformance.verdicts.observed import Observation
from normspec.conformance.verdicts.verdicts import Counterexample, Kind, Verdict, worst_of
from normspec.reference import ARTICLE, Rules

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
        self._explained: dict[tuple[str, str, str, str, frozenset[str]], tuple[Rival, ...] | None] = {}
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

    def explanation(
        self,
        backend: Backend,
        dtype: str,
        experiment: Experiment,
        quantity: str,
        apart_from: frozenset[str] = frozenset(),
    ) -> tuple[Rival, ...] | None:
        """The rivals that a backend follows to arrive at a quantity, as exact data tell; None if none explain it."""
        key = (backend.spec, dtype, experiment.name, quantity, apart_from)
        if key not in self._explained:
            pool = pools.layers if experiment.layer else pools.EXACT[experiment.operation]
            outcomes = self.traces(backend, dtype, on(pool, experiment, quantity))
            seen = tuple(o for o in outcomes if isinstance(o, Observation))
            evidence = Evidence(experiment, (quantity,), seen)
            if follows_article(formula_grades(dtype), evidence) or not seen:
                self._explained[key] = ()
            else:
                before = _BEFORE.get((experiment.name, quantity))
                likely = self.explanation(backend, dtype, *before, apart_from) if before else ()
                # A layer around an operation that follows no formula is not searched for one.
                hopeless = experiment.layer and likely is None
                self._explained[key] = None if hopeless else explanation(dtype, evidence, apart_from, likely or ())
        return self._explained[key]

    def choices(
        self,
        backend: Backend,
        dtype: str,
        experiment: Experiment,
        quantity: str,
        apart_from: frozenset[str] = frozenset(),
    ) -> tuple[Rival, ...]:
        """The same, where what cannot be explained is taken for the article's."""
        return self.explanation(backend, dtype, experiment, quantity, apart_from) or ()

    def established(self, backend: Backend, dtype: str, *, layer: bool) -> list[Rival]:
        """The rivals for which some claim refuses a backend, found where that claim looks for them."""
        return [
            rival
            for experiment, quantity, fields in _JUDGED
            if layer or not experiment.layer
            for rival in self.choices(backend, dtype, experiment, quantity)
            if rival.fields <= fields
        ]

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
        self._explained.clear()
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


class Replay(NamedTuple):
    """What failed, to be run once more on a backend of one's choice."""

    run: Callable[[Backend, Case], Any]
    case: Case
    experiment: Experiment | None = None
    """The experiment, where the claim is about a formula."""


_OF_Y = frozenset({"axes", "training_statistics", "ddof", "eps_rule", "centered", "scaled", "affine"})
_OF_STATE = frozenset({"update", "extremes", "tracked_variance", "tracked_of"})
_JUDGED = (
    (TRAIN, "y", _OF_Y),
    (TRAIN, "running_mean", _OF_STATE),
    (TRAIN, "running_var", _OF_STATE),
    (EVALUATE, "y", frozenset({"evaluation_statistics", "folded"})),
    (LAYER, "running_mean", frozenset({"update"})),
    (LAYER, "running_var", frozenset({"update", "tracked_variance"})),
)
"""The quantities on which the claims about these fields of Rules are judged."""

_BEFORE = {
    **{(TRAIN_GRADIENTS.name, name): (TRAIN, "y") for name in ("dx", "dweight", "dbias")},
    **{(EVALUATE_GRADIENTS.name, name): (EVALUATE, "y") for name in ("dx", "dweight", "dbias")},
    **{(LAYER.name, name): (TRAIN, name) for name in ("y", *STATE)},
    (LAYER.name, "evaluation"): (EVALUATE, "y"),
}
"""The experiment and quantity whose explanation is likely to explain another."""

_TRAINING, _STATE_OF = ((TRAIN, "y"),), tuple((TRAIN, name) for name in STATE)
_ROOTS = {
    MOMENTS.name: _TRAINING,
    COUPLING.name: _TRAINING,
    REGROUPED.name: ((EVALUATE, "y"),),
    REPEATED.name: _STATE_OF,
    EVERY_BATCH.name: (*_TRAINING, *_STATE_OF),
    CUMULATIVE.name: tuple((LAYER, name) for name in STATE),
    FRESH.name: ((LAYER, "evaluation"),),
}
"""For an experiment made of several calls: what its results follow from."""

_HOMES = {
    **{(TRAIN.name, name): "precision.within-bound" for name in ("y", *STATE)},
    (EVALUATE.name, "y"): "precision.within-bound",
    **{
        (experiment.name, name): "precision.within-bound"
        for experiment in (TRAIN_GRADIENTS, EVALUATE_GRADIENTS)
        for name in ("dx", "dweight", "dbias")
    },
    **{(LAYER.name, name): "layer.follows-operation" for name in ("y", *STATE, "evaluation")},
}
"""The claim that fails where a quantity follows no known formula; the claims on single choices leave it to that one."""

Refutation = Callable[[Backend, Case], str]
"""A property of one case: "" if it holds, else the mistake, by name or in words. May raise NotOffered or Crashed."""


class Check:
    """One claim on one backend in one dtype. Each of its methods settles `verdict`."""

    def __init__(self, claim: Claim, backend: Backend, dtype: str, laboratory: Laboratory) -> None:
        self.claim, self.backend, self.dtype, self.laboratory = claim, backend, dtype, laboratory
        reason = (claim.undecidable or {}).get(dtype)
        self.verdict = Verdict(kind=Kind.INCONCLUSIVE, words=reason) if reason else None
        self.replay: Replay | None = None

    def formula(self, *questions: Question, alone: bool = False, right_where: Callable[[], str] = str) -> None:
        """Decide between the claim's formula and its rivals. Operation and layer are judged apart; the worse counts.

        With `alone`, other claims' rivals excuse nothing: the claim is about the article's formula as a whole.
        `right_where` is asked where nothing explains an operation's results; what it tells pins the fault down to this
        claim.
        """

        def judge(evidence: Sequence[Evidence]) -> Verdict:
            layer = any(part.experiment.layer for part in evidence)
            roots = [root for part in evidence for root in _roots(part)]
            return judge_formula(
                self.claim,
                self.dtype,
                evidence,
                self._in_context(evidence),
                tuple if alone else partial(self.laboratory.established, self.backend, self.dtype, layer=layer),
                partial(self._found, roots),
                partial(self._home, roots),
                str if layer else right_where,  # a layer's results are another claim's where nothing explains them
            )

        parts: list[Verdict] = []
        replays: list[Replay | None] = []
        for layer in (False, True):
            if group := [q for q in questions if q.experiment.layer == layer]:
                self.replay = None
                parts.append(self._judged(group, judge))
                replays.append(self.replay)
        self.verdict, self.replay = _joined(parts), replays[parts.index(worst_of(parts))]

    def agrees(self, *questions: Question, grades: Sequence[Arithmetic] | None = None) -> bool:
        """Whether all this is offered, and the article's; as exactly as formulas are told apart, or in `grades`."""
        grades = formula_grades(self.dtype) if grades is None else grades
        for question in questions:
            outcomes = self.laboratory.traces(self.backend, self.dtype, question)
            seen = tuple(o for o in outcomes if isinstance(o, Observation))
            if not follows_article(grades, Evidence(question.experiment, question.quantities, seen)):
                return False
        return True

    def answers(self, question: Question) -> bool:
        """Whether none of its calls crashes."""
        outcomes = self.laboratory.traces(self.backend, self.dtype, question)
        return not any(isinstance(outcome, Failed) for outcome in outcomes)

    def grade(self, *questions: Question, accepted: Sequence[str]) -> None:
        """Find the finest grade of precision in which everything agrees; `accepted` are the grades that conform.

        Each quantity is held against the rules that the backend follows for it: another claim is about those.
        """
        by_quantity = [q._replace(quantities=(quantity,)) for q in questions for quantity in q.quantities]
        self.verdict = self._judged(
            by_quantity, lambda evidence: judge_grade(self.claim, self.dtype, evidence, accepted), by_its_rules=True
        )

    def _found(self, roots: Sequence[tuple[Experiment, str]]) -> list[tuple[Rival, ...]]:
        """The combinations of rivals that explain what the evidence follows from, each alone and all together."""
        found = [self.laboratory.choices(self.backend, self.dtype, *root) for root in roots]
        together = {rival.change: rival for rivals in found for rival in rivals}
        return list(dict.fromkeys(rivals for rivals in (*found, tuple(together.values())) if rivals))

    def _home(self, roots: Sequence[tuple[Experiment, str]]) -> str:
        """The claim that fails for what the evidence follows from, if no formula explains it."""
        operation = [_BEFORE[e.name, q] for e, q in roots if e.layer and (e.name, q) in _BEFORE]
        for experiment, quantity in (*operation, *roots):
            there = _HOMES.get((experiment.name, quantity), "")
            if there in ("", self.claim.id):
                continue
            if self.laboratory.explanation(self.backend, self.dtype, experiment, quantity) is None:
                return there
        return ""

    def _in_context(self, evidence: Sequence[Evidence]) -> list[Evidence]:
        """The evidence beside the choices found where its questions point to; nothing where they are the article's."""
        if not all(part.follows for part in evidence):
            return []
        beside = [self.laboratory.choices(self.backend, self.dtype, *part.follows) for part in evidence if part.follows]
        if not any(beside):
            return []
        # A layer may do whatever its operation does: the claims on that say what they think of it.
        excuses = self.laboratory.established(self.backend, self.dtype, layer=False)
        of_layer = all(part.experiment.layer for part in evidence)
        if not of_layer and not all(rival in excuses for choices in beside for rival in choices):
            return []
        return [replace(part, beside=choices) for part, choices in zip(evidence, beside, strict=True)]

    def rules(self, experiment: Experiment, quantity: str) -> Rules:
        """The rules by which the backend arrives at a quantity; the article's where nothing explains it."""
        return reduce(lambda rules, rival: rival.rules(rules), self._choices(experiment, quantity), ARTICLE)

    def _choices(self, experiment: Experiment, quantity: str) -> tuple[Rival, ...]:
        return self.laboratory.choices(self.backend, self.dtype, experiment, quantity, self.claim.fields)

    def holds(self, pool: Pool, refutation: Refutation, *, refusable: bool = False) -> None:
        """Decide whether a property holds on every case of a pool."""
        known = [rival.name for rival in self.claim.rivals]
        tried, why = 0, ""
        for case in pools.draw(pool, self.dtype, self.laboratory.profile, self.laboratory.seed):
            try:
                mistake = refutation(self.backend, case)
            except NotOffered as error:
                why = str(error)
                continue
            except Crashed as error:
                if refusable and error.refusal:
                    why = f"refuses: {error}"
                    tried += 1
                    continue
                self.verdict = _crashed(Failed(case, error), tried)
                self.replay = Replay(refutation, case)
                return
            tried += 1
            if mistake:
                self.replay = Replay(refutation, case)
                name, _, words = mistake.partition(": ")
                kind = Kind.DEVIATES if name in known else Kind.FAILS
                self.verdict = Verdict(
                    kind=kind,
                    rival=name if kind == Kind.DEVIATES else "",
                    words=words or name,
                    cases=tried,
                    counterexample=Counterexample(case=repr(case)),
                )
                return
        found = "refuses" if why.startswith("refuses") else ""
        kind = Kind.CONFORMS if tried else Kind.NOT_OFFERED
        self.verdict = Verdict(kind=kind, words=why or "holds on all cases", found=found, cases=tried)

    def value(
        self, expected: float, find: Callable[[Backend], tuple[float, float]], of: tuple[Experiment, str]
    ) -> None:
        """Decide whether a default is `expected`; `find` gives the value found and how far rounding may move it.

        It is read out of a quantity, `of`, and NaN if no value gives that. Nothing can be read where that quantity
        follows no known formula.
        """
        try:
            found, reach = find(self.backend)
            if self.laboratory.explanation(self.backend, self.dtype, *of) is None:
                there = _HOMES[of[0].name, of[1]]
                words = f"cannot be read out of results that follow no known formula: see {there}"
                self.verdict = Verdict(kind=Kind.INCONCLUSIVE, words=words)
                return
        except NotOffered as error:
            self.verdict = Verdict(kind=Kind.NOT_OFFERED, words=str(error))
            return
        except Crashed as error:
            self.verdict = Verdict(kind=_kind(error), words=str(error))
            return
        if abs(found - expected) <= reach:
            self.verdict = Verdict(kind=Kind.CONFORMS, words=f"found {expected:g}", found=f"{expected:g}", cases=1)
            return
        if math.isnan(found):
            self.verdict = Verdict(kind=Kind.FAILS, words="a new layer's results follow no value of it", cases=1)
            return
        shown = shortest(found, max(reach, 1e-6 * abs(found)))  # a name: people choose defaults of a few digits
        shown = shortest(found, reach) if shown == f"{expected:g}" else shown
        self.verdict = Verdict(kind=Kind.DEVIATES, rival=shown, words=f"found {shown}", found=shown, cases=1)

    def outcome(self, judge: Callable[[Backend, Laboratory], Verdict]) -> None:
        """Take the verdict of an experiment that has no cases; it may raise NotOffered or Crashed."""
        try:
            self.verdict = judge(self.backend, self.laboratory)
        except NotOffered as error:
            self.verdict = Verdict(kind=Kind.NOT_OFFERED, words=str(error))
        except Crashed as error:
            self.verdict = Verdict(kind=_kind(error), words=str(error), cases=1)

    def note(self, found: str) -> None:
        """Add to the verdict what was found beside it, for the matrix."""
        if self.verdict is not None and self.verdict.kind == Kind.CONFORMS:
            self.verdict = replace(self.verdict, found=found)

    def margins(self, *questions: Question) -> None:
        """Measure how the error over the finest bound goes with the mean over the deviation, channel by channel."""
        if self.verdict is None or self.verdict.kind in (Kind.NOT_OFFERED, Kind.CRASHED, Kind.HUNG):
            return
        found: dict[float, float] = {}
        for question in questions:
            (quantity,) = question.quantities
            beside = self._choices(question.experiment, quantity)
            outcomes = self.laboratory.traces(self.backend, self.dtype, question)
            seen = [o for o in outcomes if isinstance(o, Observation) and o.case.elements <= LARGE]
            evidence = Evidence(question.experiment, (quantity,), tuple(seen), beside)
            for observation in seen:
                x = given(observation.case).x
                axes = (0, *range(2, x.ndim))
                with np.errstate(all="ignore"):
                    spread = abs(x.mean(axes)) / x.std(axes)
                for name, expected in evidence.expected(observation, (), GRADES[self.dtype][0]):
                    ratio = ratios(observation.trace[name], expected)
                    for of_channel, its_ratio in zip(spread, ratio, strict=True):
                        if 0 < of_channel < math.inf and not math.isnan(its_ratio):
                            octave = 2.0 ** max(math.floor(math.log2(of_channel)), -4)
                            found[octave] = max(found.get(octave, 0.0), float(its_ratio))
        self.verdict = replace(self.verdict, margins=tuple(sorted(found.items())))

    def _judged(
        self,
        questions: Sequence[Question],
        judge: Callable[[Sequence[Evidence]], Verdict],
        *,
        by_its_rules: bool = False,
    ) -> Verdict:
        """Gather the evidence; stop at a crash; judge what remains; show the simplest case that fails."""
        evidence, refusals, absent = [], "", ""
        for question in questions:
            seen: list[Observation] = []
            for outcome in self.laboratory.traces(self.backend, self.dtype, question):
                if isinstance(outcome, Observation):
                    seen.append(outcome)
                elif isinstance(outcome, NotOffered):
                    absent = str(outcome)
                elif question.refusable and outcome.error.refusal:
                    refusals = str(outcome.error)
                else:
                    self.replay = Replay(question.experiment.observe, outcome.case, question.experiment)
                    return _crashed(outcome, len(seen))
            beside = self._choices(question.experiment, question.quantities[0]) if by_its_rules else ()
            found = Evidence(question.experiment, question.quantities, tuple(seen), beside, question.follows)
            evidence.append(found)
        try:
            verdict = judge(evidence)
        except Crashed as error:  # a large case is run again where it is looked at, and this time it failed
            return Verdict(kind=Kind.CRASHED, words=str(error))
        if verdict.kind == Kind.NOT_OFFERED:
            return replace(verdict, words=refusals or absent or verdict.words)
        refused = self._refused(questions, evidence) if refusals and verdict.left else set()
        if verdict.left and refused.issuperset(verdict.left):  # what a backend refuses it cannot compute wrongly
            return replace(verdict, kind=Kind.CONFORMS, words=f"agrees on all cases; {refusals}", left=())
        if verdict.kind in (Kind.DEVIATES, Kind.FAILS):
            return replace(verdict, counterexample=self._simplest(questions, evidence))
        return verdict

    def _refused(self, questions: Sequence[Question], evidence: Sequence[Evidence]) -> set[str]:
        """Rivals that only input which the backend refused could have told apart."""
        finest, names = GRADES[self.dtype][0], set()
        for question, part in zip(questions, evidence, strict=True):
            if question.refusable and not part.observations:
                right = self.laboratory.once(
                    ("right", question.pool.name, question.experiment.name, self.dtype),
                    partial(self._without_rounding, question),
                )
                told = [replace(part, observations=right)]
                names |= {r.name for r in self.claim.rivals if not agreement(told, (r,), finest, hasty=True).holds}
        return names

    def _without_rounding(self, question: Question) -> tuple[Observation, ...]:
        """What a backend would show that computes the article's formula exactly."""
        cases = pools.draw(question.pool, self.dtype, self.laboratory.profile, self.laboratory.seed)
        experiment, seen = question.experiment, []
        for case in cases:
            trace = undisturbed(case) if experiment.layer else {}
            told = experiment.predict(case, experiment.base, GRADES[self.dtype][0], trace)
            results = {name: expected.value for name, expected in told.items()}
            seen.append(Observation(case, {**results, **trace}))
        return tuple(seen)

    def _simplest(self, questions: Sequence[Question], evidence: Sequence[Evidence]) -> Counterexample | None:
        """The simplest case on which the article's formula fails, with its worst element."""
        # Show the first grade's bound; a deviation that only a coarser grade can tell is shown in that grade.
        for arithmetic in GRADES[self.dtype]:
            for question, part in zip(questions, evidence, strict=True):
                for observation in part.observations:
                    if not counterexample(part, observation, arithmetic):
                        continue

                    def fails(case: Case, part: Evidence = part, experiment: Experiment = question.experiment) -> bool:
                        seen = observe(self.backend, experiment, case)
                        one = replace(part, observations=())
                        return isinstance(seen, Observation) and bool(
                            counterexample(one, seen, arithmetic)  # noqa: B023
                        )

                    simplest = observation.case
                    if not self.backend.declared(self.claim.id, self.dtype):  # known: no time spent on it
                        seed = self.laboratory.seed
                        simplest = pools.shrink(question.pool, self.dtype, observation.case, fails, seed)
                    self.replay = Replay(question.experiment.observe, simplest, question.experiment)
                    seen = observe(self.backend, question.experiment, simplest)
                    shown = seen if isinstance(seen, Observation) else observation
                    return counterexample(part, shown, arithmetic)
        return None


def _roots(part: Evidence) -> tuple[tuple[Experiment, str], ...]:
    """The experiments and quantities from which the results of this evidence follow."""
    return _ROOTS.get(part.experiment.name, tuple((part.experiment, quantity) for quantity in part.quantities))


def _crashed(failed: Failed, before: int) -> Verdict:
    return Verdict(
        kind=_kind(failed.error),
        words=str(failed.error),
        cases=before + 1,
        counterexample=Counterexample(case=repr(failed.case)),
    )


def _kind(error: Crashed) -> Kind:
    return Kind.HUNG if isinstance(error, Hung) else Kind.CRASHED


def _joined(parts: Sequence[Verdict]) -> Verdict:
    """One verdict for operation and layer together: the graver, with the figures of both."""
    gravest = worst_of(list(parts))
    worst: dict[str, float] = {}
    for part in parts:
        for quantity, ratio in part.worst.items():
            worst[quantity] = max(worst.get(quantity, 0.0), ratio)
    refuted: dict[str, Any] = {}
    for part in parts:
        refuted.update(part.refuted)
    return replace(gravest, cases=sum(p.cases for p in parts), worst=worst, refuted=refuted)
