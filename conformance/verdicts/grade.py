"""The verdict on a claim about precision: the finest grade in which everything agrees, and whether it will do."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from normspec.conformance.cases.arithmetic import GRADES, Arithmetic
from normspec.conformance.claims.claims import Claim
from normspec.conformance.verdicts.commonality import in_common
from normspec.conformance.verdicts.evidence import Evidence, agreement, in_common_of, split
from normspec.conformance.verdicts.explaining import Known
from normspec.conformance.verdicts.formula import cannot_be_told
from normspec.conformance.verdicts.verdicts import Kind, Verdict

_COARSER = {"narrow sums": "its errors are those of sums, or of an approximate root, in a narrower dtype"}
_NEGATIVE = "NaN from a negative variance"
_SOME_SHAPES = "wrong in some shapes"


def judge_grade(claim: Claim, evidence: Sequence[Evidence], known: Known, accepted: Iterable[str]) -> Verdict:
    """The verdict; `accepted` are the names of the grades that conform.

    Where nothing explains what the evidence follows from, on exact data, no grade is named: errors of another kind may
    look like those of coarse arithmetic.
    """
    dtype = known.dtype
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
        if owner := known.owner(evidence, claim.id, arithmetic):
            return Verdict(kind=Kind.INCONCLUSIVE, words=cannot_be_told(owner), cases=cases, worst=seen.worst)
        words = _COARSER.get(grade, f"computes in a coarser grade: {grade}")
        return Verdict(kind=Kind.DEVIATES, rival=grade, words=words, cases=cases, worst=seen.worst)
    if any(r.name == _NEGATIVE for r in claim.rivals) and _nan_only(evidence, dtype):
        return Verdict(kind=Kind.DEVIATES, rival=_NEGATIVE, words=_NEGATIVE, cases=cases)
    if by_shape := _by_shape(claim, evidence, admitted):
        return Verdict(kind=Kind.DEVIATES, rival=_SOME_SHAPES, words=by_shape, cases=cases, worst=seen.worst)
    if owner := known.owner(evidence, claim.id, GRADES[dtype][-1]):
        return Verdict(kind=Kind.INCONCLUSIVE, words=cannot_be_told(owner), cases=cases, worst=seen.worst)
    words = f"outside the bound of every grade{in_common_of(evidence, admitted)}"
    return Verdict(kind=Kind.FAILS, words=words, cases=cases, worst=seen.worst)


def _decides(evidence: Sequence[Evidence], finest: Arithmetic, arithmetic: Arithmetic) -> bool:
    """Whether a grade has a finite bound for every element that the finest one refuses: else it admits by silence.

    Steps in half precision overflow on much that is sound in float32; there silence is all that can be had.
    """
    if arithmetic is finest or finest.inner is not finest.result:
        return True
    for part in evidence:
        for stack in part.compared:
            fine, coarse = (stack.elements(part.quantities, part.rules(), a) for a in (finest, arithmetic))
            if any(((one > 1) & np.isnan(other)).any() for (_, one), (_, other) in zip(fine, coarse, strict=True)):
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


def _nan_only(evidence: Sequence[Evidence], dtype: str) -> bool:
    """Whether everything that is not NaN agrees with a one-pass variance."""
    one_pass = next(a for a in GRADES[dtype] if a.one_pass)
    for part in evidence:
        for stack in part.compared:
            elements = stack.elements(part.quantities, part.rules(), one_pass)
            if any((ratio[~np.isnan(got)] > 1).any() for got, ratio in elements):
                return False
    return True
