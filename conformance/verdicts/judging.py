"""From observations to a verdict: which formula, under which grade of precision, agrees with everything seen?

A claim is judged on its own: where its own choice cannot explain what is seen, the choices of other claims are varied
beside it, one or two at a time. A backend that puts eps in the wrong place thus deviates in that claim, and still
conforms in the claim on gradients if its gradients are those of its own forward formula.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np

from normspec.conformance.cases.arithmetic import GRADES, Arithmetic, formula_grades
from normspec.conformance.cases.cases import Case
from normspec.conformance.claims.claims import CLAIMS, Claim, Rival
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.experiments import Experiment
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.observed import Compared, Observation, compared, expected_of
from normspec.conformance.verdicts.verdicts import Counterexample, Kind, Verdict
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
    rules, found = part.rules(), set()
    for stack in part.compared:
        for quantity in part.quantities:
            if (seen := stack.mismatch(quantity, rules, arithmetic)) is not None:
                found.update(o for o, wrong in zip(stack.observations, seen.worst > 1, strict=True) if wrong)
    return found


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


# -- claims that a formula decides ------------------------------------------------------------------------------------


def judge_formula(
    claim: Claim,
    dtype: str,
    evidence: Sequence[Evidence],
    context: Sequence[Evidence] = (),
    established: Callable[[], Collection[Rival]] = tuple,
    explanations: Callable[[], Collection[tuple[Rival, ...]]] = tuple,
    home: Callable[[], str] = str,
    right_where: Callable[[], str] = str,
) -> Verdict:
    """The verdict on a claim whose rivals are formulas, all evidence taken together.

    `context` is the same evidence beside the choices that the backend follows elsewhere, where they are not the
    article's. `established` gives the rivals for which another claim refuses this backend: they excuse what follows
    from them. Any other rival explains a deviation, and names it, but excuses nothing. `explanations` are combinations
    found on parts of the evidence. `home` is the claim that fails where nothing explains the same results, "" if none
    does: a claim on one choice cannot be decided on results that follow no formula. Unless `right_where` tells in words
    where they are right, which pins the fault down to this choice.
    """
    rivals = [r for r in claim.rivals if r.change and (not r.layer or any(e.experiment.layer for e in evidence))]
    cases = sum(len(e.observations) for e in evidence)
    if not cases:
        return Verdict(kind=Kind.NOT_OFFERED, words="none of the cases is offered")
    grades = formula_grades(dtype)
    undecided, finer = None, grades
    elsewhere = {rival.change for part in context for rival in part.beside}
    other_rivals = [r for r in rivals if r.change not in elsewhere]  # what is done elsewhere is no rival here
    for arithmetic in grades if context else ():
        if (verdict := _explained(context, other_rivals, (), arithmetic, cases)) is not None:
            if verdict.kind == Kind.CONFORMS:
                return replace(verdict, words="agrees on all cases, given what the backend does elsewhere")
            undecided = verdict if verdict.kind == Kind.INCONCLUSIVE else None
            break
    for position, arithmetic in enumerate(grades):
        if (verdict := _explained(evidence, rivals, (), arithmetic, cases)) is not None:
            if verdict.kind != Kind.INCONCLUSIVE or position == 0:
                return undecided or verdict
            # Agreement in a coarse grade that decides nothing may hide a clear answer in a finer one.
            undecided, finer = verdict, grades[:position]
            break
    others = _bystanders(claim.fields, evidence, grades[0])
    telling = _telling(evidence, grades[0])
    excuses, found = established(), explanations()
    excused = [r for r in others if r in excuses]
    likely = dict.fromkeys(tuple(r for r in together if r in excused) for together in found)
    companies = ((company, arithmetic) for company in likely if company for arithmetic in finer)
    for bystanders, arithmetic in chain(companies, _in_company(excused, finer, 2)):
        verdict = _explained(evidence, rivals, bystanders, arithmetic, cases, telling)
        if verdict is not None and verdict.kind != Kind.INCONCLUSIVE:
            return verdict
        undecided = undecided or verdict
    for bystanders, arithmetic in () if undecided else _in_company(others, finer, 1):
        if (verdict := _explained(evidence, rivals, bystanders, arithmetic, cases, telling)) is not None:
            return _deviating(verdict, [*(b.name for b in bystanders), verdict.rival])
    for together in () if undecided else found:
        for arithmetic in finer:
            seen = agreement(evidence, together, arithmetic)
            if seen.holds and seen.decided:
                named = [r.name for r in together if r.fields <= claim.fields or r not in excuses]
                verdict = Verdict(kind=Kind.DEVIATES, cases=cases, worst=seen.worst)
                return _deviating(verdict, named or [r.name for r in together])
    if undecided is None:  # another claim's rival about the same choice contradicts this claim, and names the deviation
        of_operation = [r for c in CLAIMS.values() if c.operation == claim.operation for r in c.rivals]
        kin = [r for r in of_operation if r.change and r.fields <= claim.fields]
        unique = {r.change: r for r in kin if r.change not in {own.change for own in rivals}}
        undecided = _explained(evidence, list(unique.values()), (), grades[0], cases)
    if undecided is not None:
        return undecided
    if named := _part_by_part(evidence, rivals, finer):
        return _deviating(Verdict(kind=Kind.DEVIATES, cases=cases), named)
    worst = agreement(evidence, (), grades[0]).worst
    words = f"agrees with no known formula{_common(evidence, finer[-1])}"
    if right := _pinned(claim, evidence, finer[-1], right_where):
        return Verdict(kind=Kind.FAILS, words=f"{words}; right {right}", right=right, cases=cases, worst=worst)
    if there := home():
        words = f"cannot be told of results that follow no known formula: see {there}"
        return Verdict(kind=Kind.INCONCLUSIVE, words=words, cases=cases, worst=worst)
    return Verdict(kind=Kind.FAILS, words=words, cases=cases, worst=worst)


def _part_by_part(evidence: Sequence[Evidence], rivals: Sequence[Rival], grades: Sequence[Arithmetic]) -> list[str]:
    """The claim's rivals that explain the evidence if each part, and each quantity, may follow one of its own."""
    named: dict[str, None] = {}
    for part in evidence:
        for quantity in part.quantities:
            one = [replace(part, quantities=(quantity,))]
            if any(agreement(one, (), arithmetic).holds for arithmetic in grades):
                continue
            seen = ((r.name, agreement(one, (r,), grades[0])) for r in rivals)
            name = next((name for name, told in seen if told.holds and told.decided), "")
            if not name:
                return []
            named[name] = None
    return list(named)


def _deviating(verdict: Verdict, names: Sequence[str]) -> Verdict:
    name = " and ".join(name for name in names if name)
    return replace(verdict, kind=Kind.DEVIATES, rival=name, words=f"follows another rule: {name}", left=())


def _common(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> str:
    """What the cases that the article's formula misses have in common, as the end of a sentence."""
    wrong, right = split(evidence, arithmetic)
    told = in_common(wrong, right)
    return f"; wrong is just what has {told}" if told else ""


def _pinned(claim: Claim, evidence: Sequence[Evidence], arithmetic: Arithmetic, right_where: Callable[[], str]) -> str:
    """Where results are right, in words, if that pins a fault down to this claim's choice.

    It does not where shape or memory tell a good part of right cases from the wrong ones. Where eps or momentum does,
    it is the claim on that which is at fault.
    """
    wrong, right = split(evidence, arithmetic)
    if len(right) > 1 and 3 * len(right) >= len(wrong) and in_common(wrong, right, numbers=False):
        return ""
    subject = {"eps": {"eps_rule"}, "momentum": {"update", "extremes"}}.get(in_common(wrong, right).partition(" ")[0])
    if subject is None:
        return right_where()
    return "in all others" if subject & claim.fields else ""


def split(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> tuple[list[Case], list[Case]]:
    """The cases that leave the formula somewhere, and the others."""
    wrong: dict[Case, None] = {}
    seen: dict[Case, None] = {}
    for part in evidence:
        outside = missed(part, arithmetic)
        seen.update(dict.fromkeys(o.case for o in part.observations))
        wrong.update(dict.fromkeys(o.case for o in part.observations if o in outside))
    return list(wrong), [case for case in seen if case not in wrong]


def explanation(
    dtype: str, evidence: Evidence, apart_from: frozenset[str] = frozenset(), likely: tuple[Rival, ...] = ()
) -> tuple[Rival, ...] | None:
    """The fewest choices that explain one experiment: none if the article does, else up to three; None if none do.

    The fields of Rules in `apart_from` are left as the article has them. `likely` is tried before the others.
    """
    grades = formula_grades(dtype)
    if any(agreement([evidence], (), arithmetic).holds for arithmetic in grades):
        return ()
    others = _bystanders(apart_from, [evidence], grades[0])
    telling = _telling([evidence], grades[0])
    guesses = ((likely, arithmetic) for arithmetic in grades if likely)
    for rivals, arithmetic in chain(guesses, _in_company(others, grades, 2 if likely or len(others) > 30 else 3)):
        if _fits([evidence], telling, rivals, arithmetic):
            return rivals
    return None


def follows_article(grades: Sequence[Arithmetic], evidence: Evidence) -> bool:
    """Whether the article's formula alone agrees with all of it, in one of the grades."""
    seen = (agreement([evidence], (), arithmetic) for arithmetic in grades)
    return any(one.holds and one.decided for one in seen)


def _in_company(
    others: Sequence[Rival], grades: Sequence[Arithmetic], most: int
) -> Iterator[tuple[tuple[Rival, ...], Arithmetic]]:
    """Up to `most` choices of `others` about different fields: one in every grade, then more, in two of them.

    More in a fine grade go before fewer in a coarse one, whose bounds may hide a choice.
    """
    plan = [(1, a) for a in grades]
    plan += [(count, a) for a in dict.fromkeys((grades[0], grades[-1])) for count in range(2, most + 1)]
    for count, arithmetic in plan:
        for chosen in combinations(others, count):
            if len(frozenset().union(*(r.fields for r in chosen))) == count:
                yield chosen, arithmetic


def _telling(evidence: Sequence[Evidence], arithmetic: Arithmetic) -> list[Evidence]:
    """A few observations that the article's formula misses, of different shapes: most wrong formulas miss them, too."""
    found = []
    for part in evidence:
        outside = missed(part, arithmetic)
        by_shape = {o.case.shape: o for o in part.observations if o in outside}
        if by_shape:
            found.append(replace(part, observations=tuple(by_shape.values())[:4]))
    return found


def _fits(
    evidence: Sequence[Evidence], telling: Sequence[Evidence], rivals: Sequence[Rival], arithmetic: Arithmetic
) -> bool:
    """Whether the choices of `rivals` explain all of it."""
    if not agreement(telling, rivals, arithmetic, hasty=True).holds:
        return False
    seen = agreement(evidence, rivals, arithmetic, hasty=True)
    return seen.holds and seen.decided > 0


def _bystanders(apart_from: frozenset[str], evidence: Sequence[Evidence], arithmetic: Arithmetic) -> list[Rival]:
    """Choices that show in the quantities at hand, about other fields than those given."""
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


def _explained(
    evidence: Sequence[Evidence],
    rivals: Sequence[Rival],
    bystanders: Sequence[Rival],
    arithmetic: Arithmetic,
    cases: int,
    telling: Sequence[Evidence] = (),
) -> Verdict | None:
    """The verdict if the claim's formula or one of its rivals agrees, given the bystanders' choices."""
    formulas = (bystanders, *((*bystanders, rival) for rival in rivals))
    if not any(
        agreement(telling, chosen, arithmetic, hasty=True).holds
        and agreement(evidence, chosen, arithmetic, hasty=True).holds
        for chosen in formulas
    ):
        return None
    own = agreement(evidence, bystanders, arithmetic)
    others = {r.name: agreement(evidence, (*bystanders, r), arithmetic) for r in rivals}
    survivors = [name for name, seen in others.items() if seen.holds]
    refuted = {name: max(seen.worst.values(), default=0.0) for name, seen in others.items() if not seen.holds}
    beside = f" (beside: {', '.join(b.name for b in bystanders)})" if bystanders else ""
    verdict = Verdict(
        kind=Kind.CONFORMS, words=f"agrees on all cases{beside}", cases=cases, worst=own.worst, refuted=refuted
    )
    if own.holds and not own.decided:
        return replace(verdict, kind=Kind.INCONCLUSIVE, words="no element has a finite bound", left=tuple(survivors))
    if own.holds and survivors:
        words = f"the data cannot exclude: {', '.join(survivors)}{beside}"
        return replace(verdict, kind=Kind.INCONCLUSIVE, words=words, left=tuple(survivors))
    if own.holds:
        return verdict
    name = " or ".join(survivors)
    worst = others[survivors[0]].worst
    return replace(verdict, kind=Kind.DEVIATES, rival=name, words=f"follows another rule: {name}{beside}", worst=worst)


# -- claims that a grade of precision decides -------------------------------------------------------------------------


def judge_grade(claim: Claim, dtype: str, evidence: Sequence[Evidence], accepted: Iterable[str]) -> Verdict:
    """The verdict on a claim about precision: the finest grade in which everything agrees, and whether it will do."""
    cases = sum(len(e.observations) for e in evidence)
    if not cases:
        return Verdict(kind=Kind.NOT_OFFERED, words="none of the cases is offered")
    accepted = tuple(accepted)
    admitted = [a for a in GRADES[dtype] if a.grade in accepted][-1]
    finest, *coarser = GRADES[dtype]
    seen = agreement(evidence, (), finest)
    refuted: dict[str, float] = {}
    for rival in claim.rivals:
        if not rival.change:
            continue
        told = agreement(evidence, (rival,), finest)
        if told.holds and told.decided and not seen.holds:
            words = f"follows another rule: {rival.name}"
            return Verdict(kind=Kind.DEVIATES, rival=rival.name, words=words, cases=cases, worst=told.worst)
        if not told.holds:
            refuted[rival.name] = max(told.worst.values(), default=0.0)
    for arithmetic in (finest, *coarser):
        seen = seen if arithmetic is finest else agreement(evidence, (), arithmetic)
        if not seen.holds or not _decides(evidence, finest, arithmetic):
            continue
        if not seen.decided:
            if arithmetic is finest:
                return Verdict(kind=Kind.INCONCLUSIVE, words="no element has a finite bound", cases=cases)
            continue  # a grade too coarse to say anything of these data admits nothing
        grade = arithmetic.grade
        if grade in accepted:
            return Verdict(
                kind=Kind.CONFORMS,
                words=f"grade: {grade}",
                found=grade,
                cases=cases,
                worst=seen.worst,
                refuted=refuted,
            )
        if by_shape := _by_shape(claim, evidence, admitted):
            return Verdict(kind=Kind.DEVIATES, rival=_SOME_SHAPES, words=by_shape, cases=cases, worst=seen.worst)
        words = _COARSER.get(grade, f"computes in a coarser grade: {grade}")
        return Verdict(kind=Kind.DEVIATES, rival=grade, words=words, cases=cases, worst=seen.worst)
    if any(r.name == _NEGATIVE for r in claim.rivals) and _nan_only(evidence, dtype):
        return Verdict(kind=Kind.DEVIATES, rival=_NEGATIVE, words=_NEGATIVE, cases=cases)
    if by_shape := _by_shape(claim, evidence, admitted):
        return Verdict(kind=Kind.DEVIATES, rival=_SOME_SHAPES, words=by_shape, cases=cases, worst=seen.worst)
    words = f"outside the bound of every grade{_common(evidence, admitted)}"
    return Verdict(kind=Kind.FAILS, words=words, cases=cases, worst=seen.worst)


def _decides(evidence: Sequence[Evidence], finest: Arithmetic, arithmetic: Arithmetic) -> bool:
    """Whether a grade has a finite bound for every element that the finest one refuses: else it admits by silence.

    Steps in half precision overflow on much that is sound in float32; there silence is all that can be had.
    """
    if arithmetic is finest or finest.inner is not finest.result:
        return True
    for part in evidence:
        for stack in part.compared:
            fine, coarse = (stack.ratios(part.quantities, part.rules(), a) for a in (finest, arithmetic))
            if any(((one > 1) & np.isnan(other)).any() for one, other in zip(fine, coarse, strict=True)):
                return False
    return True


def _by_shape(claim: Claim, evidence: Sequence[Evidence], admitted: Arithmetic) -> str:
    """What tells the shapes that are wrong from those that are right, for a claim about that; "" if nothing does."""
    if all(r.name != _SOME_SHAPES for r in claim.rivals):
        return ""
    wrong, right = split(evidence, admitted)
    told = in_common(wrong, right, numbers=False)
    shapes = {case.shape for case in wrong}
    if not told and shapes.isdisjoint(case.shape for case in right) and 3 * len(right) >= len(wrong) > 0:
        told = ", ".join(map(str, sorted(shapes, key=lambda shape: (math.prod(shape), shape))[:8]))
    return f"{_SOME_SHAPES}: {told}" if told else ""


_COARSER = {"narrow sums": "its errors are those of sums, or of an approximate root, in a narrower dtype"}
_NEGATIVE = "NaN from a negative variance"
_SOME_SHAPES = "wrong in some shapes"


def _nan_only(evidence: Sequence[Evidence], dtype: str) -> bool:
    """Whether everything that is not NaN agrees with a one-pass variance."""
    one_pass = next(a for a in GRADES[dtype] if a.one_pass)
    for part in evidence:
        for stack in part.compared:
            asked = part.quantities, part.rules(), one_pass
            pairs = zip(stack.ratios(*asked), stack.seen(*asked), strict=True)
            if any((ratio[~np.isnan(got)] > 1).any() for ratio, got in pairs):
                return False
    return True
