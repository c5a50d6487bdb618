"""The verdict on a claim that a formula decides.

A claim is judged for its own choice alone. The steps, until one decides:

1. The article's formula or one of the claim's rivals agrees with all evidence: by itself, or beside the choices that
   the backend follows in the operation that the evidence is about.
2. It agrees beside choices for which other claims refuse the backend: those excuse what follows from them.
3. It agrees beside a choice that no claim refuses the backend for, or only with all choices found elsewhere, or with a
   rival of another claim about the same field: the claim is refused, and these are named.
4. Each quantity follows a rival of its own.
5. Nothing explains the evidence: the claim that owns the quantities fails, the others cannot be told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from normspec.conformance.cases.arithmetic import Arithmetic, formula_grades
from normspec.conformance.claims.claims import CLAIMS, Claim, Rival
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.evidence import Evidence, agreement, in_common_of, split
from normspec.conformance.verdicts.explaining import Choices, Known, combined, distinguishing, other_choices
from normspec.conformance.verdicts.verdicts import Kind, Verdict


@dataclass(frozen=True, eq=False)
class FormulaJudge:
    """One claim, the evidence that bears on it, and what is known of the backend."""

    claim: Claim
    evidence: Sequence[Evidence]
    known: Known
    alone: bool = False
    """Whether other claims' rivals excuse nothing: the claim is about the article's formula as a whole."""
    right_where: Callable[[], str] = str
    """Where results are right although nothing explains them, in words: this pins the fault down to this claim."""

    @cached_property
    def _layer(self) -> bool:
        return any(part.experiment.layer for part in self.evidence)

    @cached_property
    def _rivals(self) -> list[Rival]:
        return [r for r in self.claim.rivals if r.change and (not r.layer or self._layer)]

    @cached_property
    def _cases(self) -> int:
        return sum(len(part.observations) for part in self.evidence)

    @cached_property
    def _grades(self) -> Sequence[Arithmetic]:
        return formula_grades(self.known.dtype)

    def verdict(self) -> Verdict:
        """The verdict, with the first step that decides."""
        if not self._cases:
            return Verdict(kind=Kind.NOT_OFFERED, words="none of the cases is offered")
        undecided = self._beside_operation()
        if undecided is not None and undecided.kind != Kind.INCONCLUSIVE:
            return undecided
        own, grades = self._own()
        if own is not None and (own.kind != Kind.INCONCLUSIVE or grades is self._grades):
            return undecided or own  # what the finest grade cannot tell, no coarser one can
        undecided = own or undecided
        others = other_choices(self.claim.fields, self.evidence, self._grades[0])
        few = distinguishing(self.evidence, self._grades[0])
        refused = [] if self.alone else self.known.refused(layer=self._layer)
        excused = [r for r in others if r in refused]
        for choices, arithmetic in self._excuses(excused, grades):
            found = self._agreeing(self.evidence, self._rivals, choices, arithmetic, few)
            if found is not None and found.kind != Kind.INCONCLUSIVE:
                return found
            undecided = undecided or found
        return (
            undecided
            or self._named_elsewhere(others, refused, grades, few)
            or self._by_parts(grades)
            or self._fails(grades[-1])
        )

    # -- step 1 -------------------------------------------------------------------------------------------------------

    def _beside_operation(self) -> Verdict | None:
        """Beside the choices of the operation that each question names, where it follows others than the article's."""
        if not all(part.follows for part in self.evidence):
            return None
        beside = [self.known.choices(*part.follows) for part in self.evidence if part.follows]
        # A layer may do whatever its operation does: the claims on that say what they think of it.
        excuses = self.known.refused(layer=False)
        of_layer = all(part.experiment.layer for part in self.evidence)
        if not any(beside) or not (of_layer or all(rival in excuses for choices in beside for rival in choices)):
            return None
        context = [replace(part, beside=choices) for part, choices in zip(self.evidence, beside, strict=True)]
        followed = {rival.change for choices in beside for rival in choices}
        rivals = [r for r in self._rivals if r.change not in followed]  # what the operation does is no rival here
        for arithmetic in self._grades:
            if (found := self._agreeing(context, rivals, (), arithmetic)) is not None:
                words = "agrees on all cases, given what the backend does elsewhere"
                if found.kind == Kind.CONFORMS:
                    return replace(found, words=words)
                return found if found.kind == Kind.INCONCLUSIVE else None
        return None

    def _own(self) -> tuple[Verdict | None, Sequence[Arithmetic]]:
        """The article's formula or a rival by itself, and the grades that are finer than the one that it agrees in."""
        for position, arithmetic in enumerate(self._grades):
            if (found := self._agreeing(self.evidence, self._rivals, (), arithmetic)) is not None:
                # Agreement in a coarse grade that decides nothing may hide a clear answer in a finer one.
                finer = self._grades if not position else self._grades[:position]
                return found, finer
        return None, list(self._grades)

    # -- steps 2 and 3 ------------------------------------------------------------------------------------------------

    def _excuses(self, excused: Sequence[Rival], grades: Sequence[Arithmetic]) -> Iterator[tuple[Choices, Arithmetic]]:
        """Combinations of the choices that excuse: first those found in the quantities behind the evidence."""
        behind = self.known.behind(self.evidence)
        for choices in dict.fromkeys(tuple(r for r in found if r in excused) for found in behind):
            yield from ((choices, arithmetic) for arithmetic in grades if choices)
        yield from combined(excused, grades, 2)

    def _named_elsewhere(
        self, others: Sequence[Rival], refused: Sequence[Rival], grades: Sequence[Arithmetic], few: Sequence[Evidence]
    ) -> Verdict | None:
        for choices, arithmetic in combined(others, grades, 1):
            if (found := self._agreeing(self.evidence, self._rivals, choices, arithmetic, few)) is not None:
                return _deviating(found, [*(r.name for r in choices), found.rival])
        for choices in self.known.behind(self.evidence):
            for arithmetic in grades:
                seen = agreement(self.evidence, choices, arithmetic)
                if seen.holds and seen.decided:
                    named = [r.name for r in choices if r.fields <= self.claim.fields or r not in refused]
                    verdict = Verdict(kind=Kind.DEVIATES, cases=self._cases, worst=seen.worst)
                    return _deviating(verdict, named or [r.name for r in choices])
        same = [r for c in CLAIMS.values() if c.operation == self.claim.operation for r in c.rivals]
        same = [r for r in same if r.change and r.fields <= self.claim.fields]
        unique = {r.change: r for r in same if r.change not in {own.change for own in self._rivals}}
        return self._agreeing(self.evidence, list(unique.values()), (), self._grades[0])

    # -- steps 4 and 5 ------------------------------------------------------------------------------------------------

    def _by_parts(self, grades: Sequence[Arithmetic]) -> Verdict | None:
        """The claim's rivals that explain the evidence if each quantity of each part may follow one of its own."""
        named: dict[str, None] = {}
        for part in self.evidence:
            for quantity in part.quantities:
                one = [replace(part, quantities=(quantity,))]
                if any(agreement(one, (), arithmetic).holds for arithmetic in grades):
                    continue
                seen = ((r.name, agreement(one, (r,), grades[0])) for r in self._rivals)
                name = next((name for name, told in seen if told.holds and told.decided), "")
                if not name:
                    return None
                named[name] = None
        return _deviating(Verdict(kind=Kind.DEVIATES, cases=self._cases), list(named)) if named else None

    def _fails(self, arithmetic: Arithmetic) -> Verdict:
        worst = agreement(self.evidence, (), self._grades[0]).worst
        words = f"agrees with no known formula{in_common_of(self.evidence, arithmetic)}"
        verdict = Verdict(kind=Kind.FAILS, words=words, cases=self._cases, worst=worst)
        if right := self._pinned(arithmetic):
            return replace(verdict, words=f"{words}; right {right}", right=right)
        if owner := self.known.owner(self.evidence, self.claim.id):
            return replace(verdict, kind=Kind.INCONCLUSIVE, words=cannot_be_told(owner))
        return verdict

    def _pinned(self, arithmetic: Arithmetic) -> str:
        """Where results are right, in words, if that pins a fault down to this claim's choice.

        It does not where shape or memory tell a good part of right cases from the wrong ones. Where eps or momentum
        does, it is the claim on that which is at fault.
        """
        wrong, right = split(self.evidence, arithmetic)
        if len(right) > 1 and 3 * len(right) >= len(wrong) and in_common(wrong, right, numbers=False):
            return ""
        about = in_common(wrong, right).partition(" ")[0]
        subject = {"eps": {"eps_rule"}, "momentum": {"update", "extremes"}}.get(about)
        if subject is None:
            return self.right_where()
        return "in all others" if subject & self.claim.fields else ""

    # -- agreement ----------------------------------------------------------------------------------------------------

    def _agreeing(
        self,
        evidence: Sequence[Evidence],
        rivals: Sequence[Rival],
        choices: Choices,
        arithmetic: Arithmetic,
        few: Sequence[Evidence] = (),
    ) -> Verdict | None:
        """The verdict if the article's formula or one of the rivals agrees, given the choices; else None."""
        formulas = (choices, *((*choices, rival) for rival in rivals))
        if not any(
            agreement(few, formula, arithmetic, hasty=True).holds
            and agreement(evidence, formula, arithmetic, hasty=True).holds
            for formula in formulas
        ):
            return None
        own = agreement(evidence, choices, arithmetic)
        others = {r.name: agreement(evidence, (*choices, r), arithmetic) for r in rivals}
        left = tuple(name for name, seen in others.items() if seen.holds)
        refuted = {name: max(seen.worst.values(), default=0.0) for name, seen in others.items() if not seen.holds}
        beside = f" (beside: {', '.join(choice.name for choice in choices)})" if choices else ""
        agrees = Verdict(
            kind=Kind.CONFORMS,
            words=f"agrees on all cases{beside}",
            cases=self._cases,
            worst=own.worst,
            refuted=refuted,
        )
        if own.holds and not own.decided:
            return replace(agrees, kind=Kind.INCONCLUSIVE, words="no element has a finite bound", left=left)
        if own.holds and left:
            words = f"the data cannot exclude: {', '.join(left)}{beside}"
            return replace(agrees, kind=Kind.INCONCLUSIVE, words=words, left=left)
        if own.holds:
            return agrees
        name, worst = " or ".join(left), others[left[0]].worst
        words = f"follows another rule: {name}{beside}"
        return replace(agrees, kind=Kind.DEVIATES, rival=name, words=words, worst=worst)


def cannot_be_told(owner: str) -> str:
    """What a claim says where nothing explains the results that it is about."""
    return f"cannot be told of results that follow no known formula: see {owner}"


def _deviating(verdict: Verdict, names: Sequence[str]) -> Verdict:
    name = " and ".join(name for name in names if name)
    return replace(verdict, kind=Kind.DEVIATES, rival=name, words=f"follows another rule: {name}", left=())
