"""What a check says: a verdict in one word, the rival's name, and the evidence a person wants to see."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The verdicts, from the worst to the mildest."""

    HUNG = "hung"
    CRASHED = "crashed"
    FAILS = "fails"
    DEVIATES = "deviates"
    INCONCLUSIVE = "inconclusive"
    CONFORMS = "conforms"
    NOT_OFFERED = "not offered"


SEVERITY = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, kw_only=True)
class Counterexample:
    """The simplest case found on which the backend leaves the formula, and its worst element."""

    case: str
    """The case as one line that rebuilds it."""
    experiment: str = ""
    quantity: str = ""
    index: tuple[int, ...] = ()
    got: float = 0.0
    expected: float = 0.0
    bound: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one check: a claim, on one backend, in one dtype."""

    kind: Kind
    rival: str = ""
    """The name of the rival that the backend follows, where it deviates."""
    words: str = ""
    right: str = ""
    """Where the results are right, in words, if that pins a failure down to the claim's own choice."""
    found: str = ""
    """The value or grade found, where the claim is about one."""
    cases: int = 0
    worst: Mapping[str, float] = field(default_factory=dict)
    """The largest error over bound, by quantity."""
    refuted: Mapping[str, float] = field(default_factory=dict)
    """For each rival excluded: how many bounds the results are away from it, at the most."""
    left: tuple[str, ...] = ()
    """The rivals that the data could not exclude, where the verdict is inconclusive."""
    counterexample: Counterexample | None = None
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What was measured step by step, by name, where the claim is about that."""
    margins: tuple[tuple[float, float], ...] = ()
    """Pairs of |mean| / deviation, as a power of 2, and the largest error over bound among such data, if measured."""

    @property
    def label(self) -> str:
        """The verdict and the rival, as a declaration or a matrix names them."""
        return f"{self.kind}: {self.rival}" if self.rival else str(self.kind)

    def serializable(self) -> dict[str, Any]:
        """Plain values, as results.json holds them."""
        return asdict(self)

    @classmethod
    def from_serializable(cls, plain: Mapping[str, Any]) -> "Verdict":
        """The verdict that `serializable` wrote."""
        values = dict(plain, kind=Kind(plain["kind"]), left=tuple(plain["left"]))
        values["margins"] = tuple((float(spread), float(ratio)) for spread, ratio in plain["margins"])
        values["curves"] = {name: tuple(curve) for name, curve in plain["curves"].items()}
        if values["counterexample"] is not None:
            values["counterexample"] = Counterexample(
                **{**values["counterexample"], "index": tuple(values["counterexample"]["index"])}
            )
        return cls(**values)


def worst_of(verdicts: list[Verdict]) -> Verdict:
    """The gravest of several; one that is not offered says nothing against another that is."""
    return min(verdicts, key=lambda verdict: SEVERITY[verdict.kind])
