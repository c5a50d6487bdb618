"""The `check` that every test is given: it gathers evidence on a claim, backend and dtype, and settles the verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial, reduce
from typing import Any, NamedTuple

import numpy as np

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import GRADES, Arithmetic, formula_grades, shortest
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.given import given
from normspec.conformance.cases.memory import LARGE
from normspec.conformance.cases.pools import Pool
from normspec.conformance.claims.claims import Claim
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.trials.adapters import Backend, Crashed, Hung, NotOffered
from normspec.conformance.trials.experiments import Experiment, undisturbed
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.evidence import Evidence, agreement, counterexample
from normspec.conformance.verdicts.explaining import OWNER, Choices, Known, Shown, follows_article, known
from normspec.conformance.verdicts.formula import FormulaJudge, cannot_be_told
from normspec.conformance.verdicts.grade import judge_grade
from normspec.conformance.verdicts.laboratory import Failed, Laboratory, Question, observe, on
from normspec.conformance.verdicts.observed import Observation
from normspec.conformance.verdicts.verdicts import Counterexample, Kind, Verdict, worst_of
from normspec.reference import ARTICLE, Rules

__all__ = ["Check", "Laboratory", "Question", "Replay", "on"]


class Replay(NamedTuple):
    """What failed, to be run once more on a backend of one's choice."""

    run: Callable[[Backend, Case], Any]
    case: Case
    experiment: Experiment | None = None
    """The experiment, where the claim is about a formula."""


Refutation = Callable[[Backend, Case], str]
"""A property of one case: "" if it holds, else the mistake, by name or in words. May raise NotOffered or Crashed."""


class Check:
    """One claim on one backend in one dtype. Each of its methods settles `verdict`."""

    def __init__(self, claim: Claim, backend: Backend, dtype: str, laboratory: Laboratory) -> None:
        self.claim, self.backend, self.dtype, self.laboratory = claim, backend, dtype, laboratory
        reason = (claim.undecidable or {}).get(dtype)
        self.verdict = Verdict(kind=Kind.INCONCLUSIVE, words=reason) if reason else None
        self.replay: Replay | None = None

    @cached_property
    def known(self) -> Known:
        """What explains each quantity of the backend."""
        return known(self.laboratory, self.backend, self.dtype)

    def formula(self, *questions: Question, alone: bool = False, right_where: Callable[[], str] = str) -> None:
        """Decide between the claim's formula and its rivals. Operation and layer are judged apart; the worse counts.

        With `alone`, other claims' rivals excuse nothing: the claim is about the article's formula as a whole.
        `right_where` is asked where nothing explains an operation's results; what it tells pins the fault down to this
        claim.
        """

        def judge(evidence: Sequence[Evidence]) -> Verdict:
            layer = any(part.experiment.layer for part in evidence)
            right = str if layer else right_where  # a layer's results are another claim's where nothing explains them
            return FormulaJudge(self.claim, evidence, self.known, alone, right).verdict()

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
            by_quantity, lambda evidence: judge_grade(self.claim, evidence, self.known, accepted), beside_choices=True
        )

    def rules(self, experiment: Experiment, quantity: str) -> Rules:
        """The rules by which the backend arrives at a quantity; the article's where nothing explains it."""
        return reduce(lambda rules, rival: rival.rules(rules), self._choices(experiment, quantity), ARTICLE)

    def _choices(self, experiment: Experiment, quantity: str) -> Choices:
        return self.known.choices(experiment, quantity, self.claim.fields)

    def holds(
        self, pool: Pool, refutation: Refutation, *, refusable: bool = False, about: Sequence[Shown] = ()
    ) -> None:
        """Decide whether a property holds on every case of a pool.

        `about` are the quantities whose explanation the property goes by: where nothing explains one of them, the
        property cannot be told.
        """
        names = [rival.name for rival in self.claim.rivals]
        tried, why = 0, ""
        crashed: list[Failed] = []
        right: list[Case] = []
        unexplained = next((shown for shown in about if self.known.explanation(*shown) is None), None)
        if unexplained is not None:
            words = cannot_be_told(OWNER[unexplained[0].name, unexplained[1]])
            self.verdict = Verdict(kind=Kind.INCONCLUSIVE, words=words)
            return
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
                crashed.append(Failed(case, error))
                if isinstance(error, Hung) or len(crashed) == MOST_CRASHES:
                    break
                continue
            tried += 1
            right.append(case)
            if mistake:
                self.replay = Replay(refutation, case)
                name, _, words = mistake.partition(": ")
                kind = Kind.DEVIATES if name in names else Kind.FAILS
                self.verdict = Verdict(
                    kind=kind,
                    rival=name if kind == Kind.DEVIATES else "",
                    words=words or name,
                    cases=tried,
                    counterexample=Counterexample(case=repr(case)),
                )
                break
        else:
            found = "refuses" if why.startswith("refuses") else ""
            kind = Kind.CONFORMS if tried else Kind.NOT_OFFERED
            self.verdict = Verdict(kind=kind, words=why or "holds on all cases", found=found, cases=tried)
        if crashed:
            gravest = _gravest(crashed)
            self.replay = Replay(refutation, gravest.case)
            self.verdict = _crashed(crashed, right, self.verdict if tried else None)

    def value(
        self, expected: float, find: Callable[[Backend], tuple[float, float]], of: tuple[Experiment, str]
    ) -> None:
        """Decide whether a default is `expected`; `find` gives the value found and how far rounding may move it.

        It is read out of a quantity, `of`, and NaN if no value gives that. Nothing can be read where that quantity
        follows no known formula.
        """
        try:
            found, reach = find(self.backend)
            if self.known.explanation(*of) is None:
                words = f"cannot be read out of results that follow no known formula: see {OWNER[of[0].name, of[1]]}"
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
        beside_choices: bool = False,
    ) -> Verdict:
        """Gather the evidence and judge it, apart from what crashed; show the simplest case that fails."""
        evidence, refusals, absent = [], "", ""
        crashed: list[tuple[Question, Failed]] = []
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
                    crashed.append((question, outcome))
            beside = self._choices(question.experiment, question.quantities[0]) if beside_choices else ()
            found = Evidence(question.experiment, question.quantities, tuple(seen), beside, question.follows)
            evidence.append(found)
        if crashed and not any(part.observations for part in evidence):
            return self._of_crashes(crashed, evidence, None)
        try:
            verdict = judge(evidence)
        except Crashed as error:  # a large case is run again where it is looked at, and this time it failed
            return Verdict(kind=Kind.CRASHED, words=str(error))
        if crashed:
            return self._of_crashes(crashed, evidence, verdict)
        if verdict.kind == Kind.NOT_OFFERED:
            return replace(verdict, words=refusals or absent or verdict.words)
        refused = self._refused(questions, evidence) if refusals and verdict.left else set()
        if verdict.left and refused.issuperset(verdict.left):  # what a backend refuses it cannot compute wrongly
            return replace(verdict, kind=Kind.CONFORMS, words=f"agrees on all cases; {refusals}", left=())
        if verdict.kind in (Kind.DEVIATES, Kind.FAILS):
            return replace(verdict, counterexample=self._simplest(questions, evidence))
        return verdict

    def _of_crashes(
        self, crashed: Sequence[tuple[Question, Failed]], evidence: Sequence[Evidence], others: Verdict | None
    ) -> Verdict:
        """The verdict where some calls crashed: `others` is the one on all other cases."""
        gravest = _gravest([failed for _, failed in crashed])
        experiment = next(question.experiment for question, failed in crashed if failed is gravest)
        self.replay = Replay(experiment.observe, gravest.case, experiment)
        seen = [observation.case for part in evidence for observation in part.observations]
        return _crashed([failed for _, failed in crashed], seen, others)

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


MOST_CRASHES = 8
"""After so many crashes a property is given up: each may cost the start of a process."""


def _gravest(crashed: Sequence[Failed]) -> Failed:
    """One that hung, if any did; then the smallest."""
    return min(crashed, key=lambda failed: (not isinstance(failed.error, Hung), failed.case.elements))


def _crashed(crashed: Sequence[Failed], seen: Sequence[Case], others: Verdict | None) -> Verdict:
    """The smallest case that crashed, what those that did have in common, and what all others show."""
    gravest = _gravest(crashed)
    wrong = list(dict.fromkeys(failed.case for failed in crashed))
    told = in_common(wrong, [case for case in dict.fromkeys(seen) if case not in set(wrong)])
    words = str(gravest.error) + (f"; so does just what has {told}" if told else "")
    if others is not None:
        words += f"; the other cases: {others.words}"
    return Verdict(
        kind=_kind(gravest.error),
        words=words,
        cases=len(crashed) + len(seen),
        worst=others.worst if others else {},
        counterexample=Counterexample(case=repr(gravest.case)),
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
