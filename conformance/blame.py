"""Which of several claims that refuse a backend to read first."""

from collections.abc import Mapping

from normspec.conformance.arithmetic import GRADE_NAMES
from normspec.conformance.claims import CLAIMS
from normspec.conformance.experiments import LAYER
from normspec.conformance.verdicts import Kind, Verdict

_UNRELIABLE = {
    "hygiene.deterministic": 0.0, "evaluate.frozen": 0.1, "hygiene.no-alias": 0.2, "hygiene.inputs-unwritten": 0.3,
}  # fmt: skip
"""Claims whose refusal makes all else unreliable, in their order."""
_RIVALS = {rival.name for claim in CLAIMS.values() for rival in claim.rivals}


def refuses(claim: str, dtype: str, verdict: Verdict) -> bool:
    """Whether a verdict is none that a sound backend may get."""
    if verdict.kind == Kind.INCONCLUSIVE:
        return dtype not in (CLAIMS[claim].undecidable or {})
    return verdict.kind not in (Kind.CONFORMS, Kind.NOT_OFFERED)


def blamed(verdicts: Mapping[str, Verdict]) -> str:
    """The claim to read first, of those that refuse; "" if there are none.

    Noise, and memory that is written to, explain everything else. Then come the claims on one choice: with a rival of
    their own, pinned down as the one thing that is wrong, or with another claim's rival. Then named mistakes, crashes,
    and what agrees with nothing. A claim that follows from others comes after them, and one refused for what its layer
    does after the claim on layers.
    """
    bound = verdicts.get("precision.within-bound")
    inexact = bound is not None and bound.kind == Kind.FAILS

    def rank(claim: str) -> float:
        kind, rival = verdicts[claim].kind, verdicts[claim].rival
        own = {r.name: r for r in CLAIMS[claim].rivals}
        if claim in _UNRELIABLE and rival in own:
            return _UNRELIABLE[claim]
        if kind == Kind.INCONCLUSIVE:
            return 9
        if claim == "example.article":  # about everything
            return 8
        if kind in (Kind.CRASHED, Kind.HUNG):
            return 5
        formula = any(r.change for r in own.values()) and not claim.startswith("precision.")
        later = any(c in verdicts for c in CLAIMS[claim].follows) or _of_layer(claim, verdicts)
        if kind == Kind.FAILS:
            if claim == "layer.follows-operation":
                return 7.5 if inexact else 4.2
            if CLAIMS[claim].follows:
                return 7.2
            return (3.5 if later else 2) if formula else 6 if claim.startswith("hygiene.") else 7
        if rival in own and own[rival].change:
            return 3.5 if later else 1
        if rival in GRADE_NAMES and inexact:
            return 7  # a grade of precision says nothing of what fails in all
        if rival in own:
            return 4.5 if claim == "hygiene.nan-contained" else 4  # where a NaN goes follows from much else
        if any(name in rival for name in _RIVALS) and formula:
            return 3.5 if later else 2
        return 7.6  # a value found, as of a default, is no rival

    return min(verdicts, key=lambda claim: (rank(claim), list(CLAIMS).index(claim)), default="")


def _of_layer(claim: str, verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a claim is refused for what the layer does, which the claim on layers refuses, too."""
    layer, seen = verdicts.get("layer.follows-operation"), verdicts[claim].counterexample
    blamed_there = layer is not None and layer.kind in (Kind.DEVIATES, Kind.FAILS)
    return blamed_there and claim != "layer.follows-operation" and seen is not None and seen.experiment == LAYER.name
