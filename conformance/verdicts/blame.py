"""Which claim to read first, of several that refuse a backend."""

from collections.abc import Mapping
from enum import IntEnum, auto

from normspec.conformance.cases.arithmetic import GRADE_NAMES
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials.experiments import LAYER
from normspec.conformance.verdicts.verdicts import Kind, Verdict


class Reason(IntEnum):
    """Why a claim refuses a backend, from what explains most to what explains least."""

    UNRELIABLE = auto()
    """Noise, or memory that is written to: all else may follow from it."""
    NAMED = auto()
    """Its own choice is another one, which has a name."""
    WRONG = auto()
    """Its own choice is wrong in a way without a name, or is what a rival of another claim does."""
    START = auto()
    """A new layer holds other values."""
    SWITCHED = auto()
    """The modes of a layer differ in more than their statistics, or it holds arrays of other shapes."""
    SHAPED = auto()
    """Shape, dtype or layout in memory make a difference."""
    LAYER = auto()
    """The layer does what its operation does not."""
    LATER = auto()
    """Its own choice is another one, as that of a claim from which it follows."""
    INEXACT = auto()
    """The arithmetic is coarser than it may be."""
    VALUE = auto()
    """A default has another value."""
    SPREAD = auto()
    """NaN and inf go where they should not, as they do for many reasons."""
    CRASHED = auto()
    """There is no result at all."""
    DISTURBED = auto()
    """Something else about a call is not as it should be."""
    OUTSIDE = auto()
    """Results are outside every bound, and that is all that can be told."""
    CONSEQUENCE = auto()
    """It cannot hold where what it follows from does not."""
    EVERYTHING = auto()
    """It is about all claims together."""
    UNDECIDED = auto()


_UNRELIABLE = (
    "hygiene.deterministic", "evaluate.frozen", "hygiene.inputs-unwritten", "hygiene.no-alias", "hygiene.layouts",
)  # fmt: skip
"""Claims whose refusal makes all else unreliable, in the order in which they are read."""
_SHAPED = ("hygiene.dtype-shape", "hygiene.layouts", "hygiene.every-shape")
"""Claims that make few demands on what a result is, in the order in which they are read."""
_STARTS = ("affine.defaults", "running.initial")
_USED = ("usage.mode-switch", "usage.one-per-channel")
"""Claims on a layer in use, without formulas of their own."""
_DEFAULTS = ("normalize.eps-default", "running.momentum-default")
_RIVALS = {rival.name for claim in CLAIMS.values() for rival in claim.rivals}


def refuses(claim: str, dtype: str, verdict: Verdict) -> bool:
    """Whether a verdict is none that a sound backend may get."""
    if verdict.kind == Kind.INCONCLUSIVE:
        return dtype not in (CLAIMS[claim].undecidable or {})
    return verdict.kind not in (Kind.CONFORMS, Kind.NOT_OFFERED)


def blamed(verdicts: Mapping[str, Verdict]) -> str:
    """The claim to read first, of those that refuse; "" if there are none."""

    def place(claim: str) -> tuple[Reason, int, bool, int]:
        reason = _reason(claim, verdicts)
        order = {Reason.UNRELIABLE: _UNRELIABLE, Reason.SHAPED: _SHAPED, Reason.CRASHED: _SHAPED}.get(reason, ())
        first = order.index(claim) if claim in order else len(order)
        return reason, first, any(c in verdicts for c in CLAIMS[claim].follows), list(CLAIMS).index(claim)

    return min(verdicts, key=place, default="")


def _reason(claim: str, verdicts: Mapping[str, Verdict]) -> Reason:
    kind, rival = verdicts[claim].kind, verdicts[claim].rival
    own = {r.name: r for r in CLAIMS[claim].rivals}
    formula = any(r.change for r in own.values()) and not claim.startswith("precision.")
    if claim in _UNRELIABLE and rival in own:
        return Reason.UNRELIABLE
    if kind == Kind.INCONCLUSIVE:
        return Reason.UNDECIDED
    if claim == "example.article":
        return Reason.EVERYTHING
    if kind in (Kind.CRASHED, Kind.HUNG):
        return Reason.CRASHED
    if kind == Kind.FAILS:
        return _of_failure(claim, verdicts, formula=formula)
    if claim in _DEFAULTS:
        return Reason.VALUE
    if claim in _STARTS:
        return Reason.START
    if claim in _USED and rival in own:
        told = any(_of_operation(c, verdicts) for c in CLAIMS[claim].follows)
        return Reason.CONSEQUENCE if told else Reason.SWITCHED
    if claim.startswith(("usage.", "why.")) and any(c in verdicts for c in CLAIMS[claim].follows):
        return Reason.CONSEQUENCE
    if rival in own and own[rival].change:
        return Reason.LATER if _follows(claim, verdicts) else Reason.NAMED
    if rival in GRADE_NAMES:  # says nothing of what fails altogether
        return Reason.OUTSIDE if _fails("precision.within-bound", verdicts) else Reason.INEXACT
    if claim in _SHAPED and rival in own:
        return Reason.SHAPED
    if rival in own:
        return Reason.SPREAD if claim == "hygiene.nan-contained" else Reason.INEXACT
    if formula and any(name in rival for name in _RIVALS):
        return Reason.LATER if _follows(claim, verdicts) else Reason.WRONG
    return Reason.CONSEQUENCE


def _of_failure(claim: str, verdicts: Mapping[str, Verdict], *, formula: bool) -> Reason:
    if claim == "layer.follows-operation":
        return Reason.CONSEQUENCE if "precision.within-bound" in verdicts else Reason.LAYER
    if verdicts[claim].right:
        return Reason.WRONG
    if any(c in verdicts for c in CLAIMS[claim].follows):
        return Reason.CONSEQUENCE
    if formula:
        return Reason.LATER if _follows(claim, verdicts) else Reason.WRONG
    if claim.startswith("hygiene.") and claim != "hygiene.every-shape":
        return Reason.DISTURBED
    return Reason.OUTSIDE


def _fails(claim: str, verdicts: Mapping[str, Verdict]) -> bool:
    return claim in verdicts and verdicts[claim].kind == Kind.FAILS


def _of_operation(claim: str, verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a claim is refused for what the operation does, without a layer."""
    if claim not in verdicts:
        return False
    if verdicts[claim].kind not in (Kind.DEVIATES, Kind.FAILS):  # a crash does not tell where; these ask the operation
        return claim.startswith("hygiene.")
    seen = verdicts[claim].counterexample
    return seen is None or seen.experiment != LAYER.name


def _follows(claim: str, verdicts: Mapping[str, Verdict]) -> bool:
    """Whether a claim follows from another that is refused, or is refused for what the layer does."""
    if any(c in verdicts for c in CLAIMS[claim].follows):
        return True
    layer, seen = verdicts.get("layer.follows-operation"), verdicts[claim].counterexample
    blamed_there = layer is not None and layer.kind in (Kind.DEVIATES, Kind.FAILS)
    return blamed_there and claim != "layer.follows-operation" and seen is not None and seen.experiment == LAYER.name
