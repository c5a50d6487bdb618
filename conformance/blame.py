"""Which of several claims that refuse a backend to read first."""

from collections.abc import Mapping

from normspec.conformance.claims import CLAIMS
from normspec.conformance.verdicts import Kind, Verdict

_RIVALS = {rival.name for claim in CLAIMS.values() for rival in claim.rivals}


def refuses(claim: str, dtype: str, verdict: Verdict) -> bool:
    """Whether a verdict is none that a sound backend may get."""
    if verdict.kind == Kind.INCONCLUSIVE:
        return dtype not in (CLAIMS[claim].undecidable or {})
    return verdict.kind not in (Kind.CONFORMS, Kind.NOT_OFFERED)


def blamed(verdicts: Mapping[str, Verdict]) -> str:
    """The claim to read first, of those that refuse; "" if there are none.

    Noise explains everything else. Then come rivals that were named, a claim's own before those of others; then
    crashes; then what agrees with nothing, claims about sizes, memory and side effects before claims about formulas.
    The article's experiment, which is about everything, comes last but for what is inconclusive.
    """
    bound = verdicts.get("precision.within-bound")
    inexact = bound is not None and bound.kind == Kind.FAILS

    def rank(claim: str) -> int:
        kind, rival = verdicts[claim].kind, verdicts[claim].rival
        if claim == "hygiene.deterministic":
            return 0
        if claim == "example.article":
            return 6
        # A value found, as of a default, is no rival; and a grade of precision says nothing of what fails in all.
        if kind == Kind.DEVIATES and not (claim.startswith("precision.") and inexact):
            if rival in {own.name for own in CLAIMS[claim].rivals}:
                return 1
            if rival in _RIVALS:
                return 2
        if kind in (Kind.CRASHED, Kind.HUNG):
            return 3
        if kind == Kind.FAILS and (claim.startswith("hygiene.") or claim == "precision.extent"):
            return 4
        return 5 if kind in (Kind.FAILS, Kind.DEVIATES) else 7

    return min(verdicts, key=lambda claim: (rank(claim), list(CLAIMS).index(claim)), default="")
