"""Which of several claims that refuse a backend to read first."""

from collections.abc import Mapping

from normspec.conformance.claims import CLAIMS
from normspec.conformance.experiments import LAYER
from normspec.conformance.verdicts import Kind, Verdict

_RIVALS = {rival.name for claim in CLAIMS.values() for rival in claim.rivals}


def refuses(claim: str, dtype: str, verdict: Verdict) -> bool:
    """Whether a verdict is none that a sound backend may get."""
    if verdict.kind == Kind.INCONCLUSIVE:
        return dtype not in (CLAIMS[claim].undecidable or {})
    return verdict.kind not in (Kind.CONFORMS, Kind.NOT_OFFERED)


def blamed(verdicts: Mapping[str, Verdict]) -> str:
    """The claim to read first, of those that refuse; "" if there are none.

    Noise explains everything else. Then come the claims on one choice: with a rival of their own, or pinned down as the
    one thing that is wrong. Then named mistakes, other claims' rivals, crashes, and what agrees with nothing. A claim
    that follows from others comes after them, and one refused for what its layer does after the claim on layers.
    """
    bound = verdicts.get("precision.within-bound")
    inexact = bound is not None and bound.kind == Kind.FAILS

    def rank(claim: str) -> float:
        kind, rival = verdicts[claim].kind, verdicts[claim].rival
        if claim == "hygiene.deterministic":
            return 0
        if claim == "example.article":  # about everything
            return 8
        if kind in (Kind.CRASHED, Kind.HUNG):
            return 5
        if kind == Kind.INCONCLUSIVE:
            return 9
        later = 0.5 * (any(c in verdicts for c in CLAIMS[claim].follows) or _of_layer(claim, verdicts))
        formula = any(rival.change for rival in CLAIMS[claim].rivals)
        if kind == Kind.FAILS:
            return later + (2 if formula else 6 if claim.startswith("hygiene.") else 7)
        if claim.startswith("precision.") and inexact:
            return 7  # a grade of precision says nothing of what fails in all
        if rival in {own.name for own in CLAIMS[claim].rivals}:
            return later + (1 if formula else 3)
        return later + (4 if rival in _RIVALS else 7)  # a value found, as of a default, is no rival

    return min(verdicts, key=lambda claim: (rank(claim), list(CLAIMS).index(claim)), default="")


def _of_layer(claim: str, verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a claim is refused for what the layer does, which the claim on layers refuses, too."""
    layer, seen = verdicts.get("layer.follows-operation"), verdicts[claim].counterexample
    blamed_there = layer is not None and layer.kind in (Kind.DEVIATES, Kind.FAILS)
    return blamed_there and claim != "layer.follows-operation" and seen is not None and seen.experiment == LAYER.name
